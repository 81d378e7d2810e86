//! Checks of the house that the compiler does not make: `cargo xtask layers | sizes | tests | docs | all`.

mod docs;
mod layers;
mod sizes;
mod source;
mod tests;

use std::process::ExitCode;

use anyhow::{Result, bail};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match run(&words) {
        Ok(problems) if problems.is_empty() => ExitCode::SUCCESS,
        Ok(problems) => {
            for problem in &problems {
                report(problem);
            }
            report(&format!("{} problem(s)", problems.len()));
            ExitCode::FAILURE
        }
        Err(error) => {
            report(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stderr, reason = "a check tool speaks to the terminal")]
fn report(text: &str) {
    eprintln!("xtask: {text}");
}

fn run(words: &[String]) -> Result<Vec<String>> {
    let root = source::workspace_root()?;
    let mut problems = Vec::new();
    let all = words.first().is_some_and(|word| word == "all");
    let mut known = all;
    for (name, check) in CHECKS {
        if all || words.iter().any(|word| word == name) {
            known = true;
            problems.extend(check(&root)?);
        }
    }
    if !known {
        bail!("usage: cargo xtask all | layers | sizes | tests | docs");
    }
    Ok(problems)
}

type Check = fn(&std::path::Path) -> Result<Vec<String>>;

const CHECKS: &[(&str, Check)] = &[
    ("layers", layers::check),
    ("sizes", sizes::check),
    ("tests", tests::check),
    ("docs", docs::check),
];
