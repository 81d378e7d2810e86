//! Words are expanded without a panic, with either escape character.

#![no_main]

use cais_build::dockerfile::lexer::Lexer;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let value = |name: &str| name.len().is_multiple_of(2).then(|| name.repeat(3));
    for escape in ['\\', '`'] {
        let _ = Lexer::new(escape).expand(text, &value);
    }
});
