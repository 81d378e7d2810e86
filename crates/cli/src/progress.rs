//! Progress of pulls, loads and imports: JSON messages shown as Docker shows them, in place on a terminal.

use std::collections::BTreeMap;

use cais_client::JsonLines;
use serde::Deserialize;

use crate::cell::size4;
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
    /// The progress bar as text, of old daemons.
    pub progress: String,
    /// How far it got; there, though empty, when the line is going to be replaced.
    #[serde(rename = "progressDetail")]
    pub detail: Option<Detail>,
    /// What it is about, such as a layer.
    pub id: String,
    /// Why it failed.
    pub error: String,
}

/// How far something got.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Detail {
    /// Done so far.
    pub current: i64,
    /// All there is to do, 0 when unknown.
    pub total: i64,
    /// What is counted; bytes when empty.
    pub units: String,
    /// Whether the numbers are left out.
    #[serde(rename = "hidecounts")]
    pub hide_counts: bool,
}

impl Detail {
    /// `[====>   ]  1.2MB/3MB`, the bar only where a line is wider than 110.
    fn bar(&self, width: u16) -> String {
        let (current, total) = (self.current, self.total);
        if current <= 0 && total <= 0 {
            return String::new();
        }
        let bytes = self.units.is_empty();
        if total <= 0 {
            return if bytes {
                format!("{:>8}", size4(current))
            } else {
                format!("{current} {}", self.units)
            };
        }
        let half = usize::try_from(current.saturating_mul(100) / total / 2)
            .unwrap_or(0)
            .min(50);
        let bar = if width > WIDE {
            format!("[{}>{}] ", "=".repeat(half), " ".repeat(50 - half))
        } else {
            String::new()
        };
        let numbers = match (self.hide_counts, bytes) {
            (true, _) => String::new(),
            (_, true) if current > total => format!("{:>8}", size4(current)),
            (_, true) => format!("{:>8}/{}", size4(current), size4(total)),
            (_, false) if current > total => format!("{current} {}", self.units),
            (_, false) => format!("{current}/{total} {}", self.units),
        };
        bar + &numbers
    }
}

/// Bars need lines wider than this.
const WIDE: u16 = 110;

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
    let width = match target {
        Target::Stderr => terminal::size(&std::io::stderr()),
        _ => terminal::size(&std::io::stdout()),
    };
    let width = width.map_or(0, |(_, columns)| columns);
    let mut rows = BTreeMap::new();
    while let Some(message) = messages.next::<Message>().await? {
        if !message.error.is_empty() {
            return Err(CliError::new(message.error));
        }
        let text = if in_place {
            placed(&message, &mut rows, width)
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
    let moves = message
        .detail
        .as_ref()
        .is_some_and(|detail| !detail.bar(0).is_empty());
    if moves {
        return String::new();
    }
    let id = prefix(message);
    if !message.progress.is_empty() {
        format!("{id}{} {}", message.status, message.progress)
    } else if !message.stream.is_empty() {
        format!("{id}{}", message.stream)
    } else {
        format!("{id}{}\n", message.status)
    }
}

fn prefix(message: &Message) -> String {
    if message.id.is_empty() {
        String::new()
    } else {
        format!("{}: ", message.id)
    }
}

/// The line of a message on a terminal: each id that makes progress has a row of its own, until something else is told.
fn placed(message: &Message, rows: &mut BTreeMap<String, usize>, width: u16) -> String {
    let line = match &message.detail {
        Some(detail) if message.stream.is_empty() => format!(
            "\x1b[2K\r{}{} {}\r",
            prefix(message),
            message.status,
            detail.bar(width)
        ),
        _ => plain(message),
    };
    if message.id.is_empty() || (message.detail.is_none() && message.progress.is_empty()) {
        rows.clear();
        return line;
    }
    let count = rows.len();
    let (new, row) = match rows.get(&message.id) {
        Some(&row) => ("", row),
        None => {
            rows.insert(message.id.clone(), count);
            ("\n", count)
        }
    };
    let up = rows.len() - row;
    format!("{new}\x1b[{up}A{line}\x1b[{up}B")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &str) -> Message {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn rows_are_drawn_in_place_as_docker_does() {
        let mut rows = BTreeMap::new();
        let layer = message(
            r#"{"id":"82bb1a46d4f8","status":"Loading layer","progressDetail":{"current":10240,"total":20480}}"#,
        );
        let bar = format!("[{}>{}]  10.24kB/20.48kB", "=".repeat(25), " ".repeat(25));
        assert_eq!(
            placed(&layer, &mut rows, 120),
            format!(
                "\n\x1b[1A\x1b[2K\r82bb1a46d4f8: Loading layer {}\r\x1b[1B",
                bar
            )
        );
        assert_eq!(
            placed(&layer, &mut rows, 80),
            "\x1b[1A\x1b[2K\r82bb1a46d4f8: Loading layer  10.24kB/20.48kB\r\x1b[1B"
        );
        let loaded = message(r#"{"stream":"Loaded image: hello-world:latest\n"}"#);
        assert_eq!(
            placed(&loaded, &mut rows, 80),
            "Loaded image: hello-world:latest\n"
        );
        assert!(rows.is_empty());
    }

    #[test]
    fn bars_are_left_out_where_lines_cannot_change() {
        let plain_of = |text: &str| plain(&message(text));
        assert_eq!(
            plain_of(r#"{"id":"a","status":"Loading","progressDetail":{"current":1,"total":2}}"#),
            ""
        );
        assert_eq!(
            plain_of(r#"{"id":"a","status":"Pull complete","progressDetail":{}}"#),
            "a: Pull complete\n"
        );
        assert_eq!(plain_of(r#"{"status":"sha256:0b"}"#), "sha256:0b\n");
    }
}
