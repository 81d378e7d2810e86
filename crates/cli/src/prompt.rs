//! Questions for a line of text, shown or hidden while it is typed.

use crate::app::App;
use crate::error::Result;
use crate::signals::{beside, termination};
use crate::stdin::Stdin;
use crate::terminal::HiddenInput;

/// Asks for a line; blanks around it are cut off. The end of standard input is an empty answer.
///
/// # Errors
/// Standard input cannot be read; a silent one when a signal ended it, with the terminal as it was.
pub async fn line(app: &App, question: &str) -> Result<String> {
    let answer = beside(
        async {
            app.printer.out(question);
            read().await
        },
        termination(),
    )
    .await;
    if answer.is_err() {
        app.printer.out("\n");
    }
    answer
}

/// [`line`] that does not show what is typed.
///
/// # Errors
/// As [`line`].
pub async fn secret(app: &App, question: &str) -> Result<String> {
    let hidden = HiddenInput::begin();
    let answer = line(app, question).await;
    drop(hidden);
    if answer.is_ok() {
        app.printer.out("\n");
    }
    answer
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
