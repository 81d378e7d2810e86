//! Ignore files are read and asked without a panic.

#![no_main]

use cais_build::dockerfile::ignore::Ignore;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&str, &str)| {
    let (text, path) = input;
    if let Ok(ignore) = Ignore::parse(text) {
        let _ = ignore.ignores(path);
        let _ = ignore.may_except_below(path);
    }
});
