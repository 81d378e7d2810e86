//! Progress of pulls, loads and imports: JSON messages shown as Docker shows them, in place on a terminal.

use std::collections::BTreeMap;

use cais_client::JsonLines;
use serde::Deserialize;
use serde_json::Value;

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
    /// Where it comes from.
    pub from: String,
    /// When it was, in Unix seconds; 0 when that is not told.
    pub time: i64,
    /// The same in nanoseconds.
    #[serde(rename = "timeNano")]
    pub time_nano: i64,
    /// Why it failed, as old daemons tell it.
    pub error: String,
    /// Why it failed.
    #[serde(rename = "errorDetail")]
    pub error_detail: Option<Failure>,
    /// What is no text for people.
    pub aux: Option<Value>,
}

/// Why something failed.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Failure {
    /// In the daemon's words.
    pub message: String,
}

impl Message {
    fn failure(&self) -> Option<&str> {
        match &self.error_detail {
            Some(detail) if !detail.message.is_empty() => Some(&detail.message),
            _ => Some(self.error.as_str()).filter(|text| !text.is_empty()),
        }
    }
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
    /// When it began, in Unix seconds; 0 when that is not told.
    pub start: i64,
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
        bar + &numbers + &self.time_left(half, width).unwrap_or_default()
    }

    /// How long it will go on at the speed it had so far.
    fn time_left(&self, half: usize, width: u16) -> Option<String> {
        if self.start <= 0 || self.current <= 0 || half >= 50 || width <= 50 {
            return None;
        }
        let so_far = jiff::Timestamp::now().as_second() - self.start;
        let left = so_far.checked_mul(self.total - self.current)? / self.current;
        let (hours, minutes, seconds) = (left / 3600, left / 60 % 60, left % 60);
        Some(match (hours, minutes) {
            (0, 0) => format!(" {seconds}s"),
            (0, _) => format!(" {minutes}m{seconds}s"),
            _ => format!(" {hours}h{minutes}m{seconds}s"),
        })
    }
}

/// Bars need lines wider than this.
const WIDE: u16 = 110;

/// What Docker takes for the width of what is no terminal.
const UNKNOWN_WIDTH: u16 = 200;

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
pub async fn show(messages: JsonLines, target: Target, printer: Printer) -> Result<()> {
    show_with(messages, target, printer, |_| {}).await
}

/// [`show`] that hands out what is no text for people.
///
/// # Errors
/// As [`show`].
pub async fn show_with(
    mut messages: JsonLines,
    target: Target,
    printer: Printer,
    mut aux: impl FnMut(&Value),
) -> Result<()> {
    let in_place = match target {
        Target::Stdout => terminal::is_terminal(&std::io::stdout()),
        Target::Stderr => terminal::is_terminal(&std::io::stderr()),
        Target::Quiet => false,
    };
    let mut rows = BTreeMap::new();
    while let Some(message) = messages.next::<Message>().await? {
        if let Some(value) = &message.aux {
            aux(value);
            continue;
        }
        if let Some(failure) = message.failure() {
            return Err(CliError::new(failure));
        }
        let text = if in_place {
            placed(&message, &mut rows, width(target))
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

/// Width of the terminal now: it may have changed since the last message.
fn width(target: Target) -> u16 {
    let size = match target {
        Target::Stderr => terminal::size(&std::io::stderr()),
        _ => terminal::size(&std::io::stdout()),
    };
    size.map_or(UNKNOWN_WIDTH, |(_, columns)| columns)
}

/// The line of a message where lines cannot be changed later: bars are left out.
fn plain(message: &Message) -> String {
    let moves = message
        .detail
        .as_ref()
        .is_some_and(|detail| !detail.bar(UNKNOWN_WIDTH).is_empty());
    if moves {
        return String::new();
    }
    prefix(message) + &told(message)
}

/// Time, id and origin of a message, as far as they are told.
fn prefix(message: &Message) -> String {
    let time = match (message.time_nano, message.time) {
        (0, 0) => None,
        (0, seconds) => jiff::Timestamp::from_second(seconds).ok(),
        (nanos, _) => jiff::Timestamp::from_nanosecond(nanos.into()).ok(),
    };
    let mut text = String::new();
    if let Some(time) = time {
        let zoned = time.to_zoned(jiff::tz::TimeZone::system());
        let zone = match zoned.offset().is_zero() {
            true => "Z".to_owned(),
            false => zoned.strftime("%:z").to_string(),
        };
        text.push_str(&format!(
            "{}{zone} ",
            zoned.strftime("%Y-%m-%dT%H:%M:%S.%9f")
        ));
    }
    if !message.id.is_empty() {
        text.push_str(&format!("{}: ", message.id));
    }
    if !message.from.is_empty() {
        text.push_str(&format!("(from {}) ", message.from));
    }
    text
}

fn told(message: &Message) -> String {
    if !message.progress.is_empty() {
        format!("{} {}", message.status, message.progress)
    } else if !message.stream.is_empty() {
        message.stream.clone()
    } else {
        format!("{}\n", message.status)
    }
}

/// The line of a message on a terminal: each id that makes progress has a row of its own, until something else is told.
fn placed(message: &Message, rows: &mut BTreeMap<String, usize>, width: u16) -> String {
    let line = match &message.detail {
        Some(detail) => {
            // A stream is not cleared away.
            let (clear, back) = match message.stream.is_empty() {
                true => ("\x1b[2K\r", "\r"),
                false => ("", ""),
            };
            let bar = detail.bar(width);
            format!("{clear}{}{} {bar}{back}", prefix(message), message.status)
        }
        None => plain(message),
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
