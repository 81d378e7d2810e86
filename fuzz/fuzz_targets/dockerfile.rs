//! Files are read, checked and shown without a panic.

#![no_main]

use cais_build::dockerfile::lint::{self, CheckInput};
use cais_build::dockerfile::{Dockerfile, Source};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let source = Source {
        name: "Dockerfile".to_owned(),
        text: text.to_owned(),
    };
    match Dockerfile::parse(source.clone()) {
        Ok(file) => {
            if let Ok(report) = lint::check(&file, &CheckInput::default()) {
                let _ = report.show(&source);
            }
        }
        Err(error) => drop(error.show(&source)),
    }
});
