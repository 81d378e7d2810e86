//! Questions before something is removed.

use crate::app::App;
use crate::error::Result;
use crate::stdin::Stdin;

/// Asks whether to go on; everything but `y` means no, also the end of standard input.
///
/// # Errors
/// Standard input cannot be read.
pub async fn confirm(app: &App, warning: &str) -> Result<bool> {
    app.printer.out(&format!(
        "{warning}\nAre you sure you want to continue? [y/N] "
    ));
    let stdin = Stdin::open();
    let mut answer = Vec::new();
    let mut letter = [0];
    while stdin.read(&mut letter).await? > 0 && letter[0] != b'\n' {
        answer.push(letter[0]);
    }
    Ok(answer.trim_ascii().eq_ignore_ascii_case(b"y"))
}
