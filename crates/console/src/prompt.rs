//! Questions: for a line of text, shown or hidden while it is typed, and whether to go on.

use crate::error::Result;
use crate::printer::Printer;
use crate::signals::{beside, termination};
use crate::stdin::Stdin;
use crate::terminal::HiddenInput;

/// Asks for a line; blanks around it are cut off. The end of standard input is an empty answer.
///
/// # Errors
/// Standard input cannot be read; a silent one when a signal ended it, with the terminal as it was.
pub async fn line(printer: &Printer, question: &str) -> Result<String> {
    let answer = beside(
        async {
            printer.out(question);
            read().await
        },
        termination(),
    )
    .await;
    if answer.is_err() {
        printer.out("\n");
    }
    answer
}

/// [`line`] that does not show what is typed.
///
/// # Errors
/// As [`line`].
pub async fn secret(printer: &Printer, question: &str) -> Result<String> {
    let hidden = HiddenInput::begin();
    let answer = line(printer, question).await;
    drop(hidden);
    if answer.is_ok() {
        printer.out("\n");
    }
    answer
}

/// Asks whether to go on; everything but `y` means no, also the end of standard input.
///
/// # Errors
/// Standard input cannot be read.
pub async fn confirm(printer: &Printer, warning: &str) -> Result<bool> {
    printer.out(&format!(
        "{warning}\nAre you sure you want to continue? [y/N] "
    ));
    Ok(read().await?.eq_ignore_ascii_case("y"))
}

async fn read() -> Result<String> {
    let stdin = Stdin::open();
    let mut answer = Vec::new();
    let mut letter = [0];
    while stdin.read(&mut letter).await? > 0 && letter[0] != b'\n' {
        answer.push(letter[0]);
    }
    Ok(String::from_utf8_lossy(&answer).trim().to_owned())
}
