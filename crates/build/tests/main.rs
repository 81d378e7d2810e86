//! The Dockerfile language against the rows of its reference, and against random input.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod arguments;
mod contexts;
mod fuzz;
mod heredocs;
mod ignore;
mod include;
mod instructions;
mod lint;
mod mounts;
mod parser;
mod rows;
mod stages;
mod variables;

use cais_build::dockerfile::{Dockerfile, Instruction, Kind, ParseError, Source};

/// A file by the name of `Dockerfile`.
fn parse(text: &str) -> Result<Dockerfile, ParseError> {
    Dockerfile::parse(source(text))
}

fn source(text: &str) -> Source {
    Source {
        name: "Dockerfile".to_owned(),
        text: text.to_owned(),
    }
}

/// The instructions behind a `FROM scratch`.
fn body(text: &str) -> Vec<Instruction> {
    let file = parse(&format!("FROM scratch\n{text}\n"));
    file.unwrap_or_else(|error| panic!("{text}: {error}"))
        .stages
        .remove(0)
        .instructions
}

/// The one instruction behind a `FROM scratch`.
fn one(text: &str) -> Kind {
    let mut found = body(text);
    assert_eq!(found.len(), 1, "{text}");
    found.remove(0).kind
}

/// Why an instruction behind a `FROM scratch` is refused.
fn refused(text: &str) -> String {
    match parse(&format!("FROM scratch\n{text}\n")) {
        Err(error) => error.message,
        Ok(file) => panic!("{text} was read as {:?}", file.stages[0].instructions),
    }
}
