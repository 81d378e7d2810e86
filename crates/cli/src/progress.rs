//! Progress of pulls, loads and imports: JSON messages shown as Docker shows them, in place on a terminal.

use std::collections::BTreeMap;

use cais_client::JsonLines;
use serde::Deserialize;

use crate::error::{CliError, Result};
use crate::printer::Printer;
use crate::terminal;

/// One message.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Message {
    /// Text without an end of line of its own (builds).
    pub stream: String,
    /// What is going on.
    pub status: String,
    /// The progress bar as text.
    pub progress: String,
    /// What it is about, such as a layer.
    pub id: String,
    /// Why it failed.
    pub error: String,
}

/// Where progress goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// Nowhere; only errors count.
    Quiet,
}

/// Shows messages until they end.
///
/// # Errors
/// A message with an error, or a broken stream.
pub async fn show(mut messages: JsonLines, target: Target, printer: Printer) -> Result<()> {
    let in_place = match target {
        Target::Stdout => terminal::is_terminal(&std::io::stdout()),
        Target::Stderr => terminal::is_terminal(&std::io::stderr()),
        Target::Quiet => false,
    };
    let mut rows: BTreeMap<String, usize> = BTreeMap::new();
    while let Some(message) = messages.next::<Message>().await? {
        if !message.error.is_empty() {
            return Err(CliError::new(message.error));
        }
        let text = if in_place {
            placed(&message, &mut rows)
        } else {
            plain(&message)
        };
        match target {
            Target::Stdout => printer.out(&text),
            Target::Stderr => printer.err(&text),
            Target::Quiet => {}
        }
    }
    Ok(())
}

/// The line of a message where lines cannot be changed later: bars are left out.
fn plain(message: &Message) -> String {
    if !message.stream.is_empty() {
        return message.stream.clone();
    }
    if !message.progress.is_empty() {
        return String::new();
    }
    if message.id.is_empty() {
        format!("{}\n", message.status)
    } else {
        format!("{}: {}\n", message.id, message.status)
    }
}

/// The line of a message on a terminal: each id has a row of its own.
fn placed(message: &Message, rows: &mut BTreeMap<String, usize>) -> String {
    if message.id.is_empty() || !message.stream.is_empty() {
        return plain(message);
    }
    let count = rows.len();
    let line = format!(
        "\r\x1b[2K{}: {} {}",
        message.id, message.status, message.progress
    );
    match rows.get(&message.id) {
        Some(&row) => {
            let up = count - row;
            format!("\x1b[{up}A{line}\r\x1b[{up}B")
        }
        None => {
            rows.insert(message.id.clone(), count);
            format!("{line}\n")
        }
    }
}
