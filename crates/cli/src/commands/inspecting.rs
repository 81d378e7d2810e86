//! What all `inspect` verbs do: ask for each name, print what was found, then tell what was not.

use std::future::Future;

use bytes::Bytes;

use crate::app::App;
use crate::error::{CliError, Result};
use crate::format::inspect;

/// Exit code of a template that cannot be read.
const BAD_TEMPLATE: i32 = 64;

/// Inspects each name, as a JSON array or by a template.
///
/// # Errors
/// Exit code 64 for a template that cannot be read; 1 for names that were not found and templates that failed, one a
/// line, after the others were printed.
pub async fn inspect<'a, F: Future<Output = Result<Bytes>>>(
    app: &App,
    format: &str,
    names: &'a [String],
    mut get: impl FnMut(&'a str) -> F,
) -> Result {
    inspect::templated(&[], format).map_err(|error| CliError::with_code(BAD_TEMPLATE, error))?;
    let whole = matches!(format, "" | "json");
    let mut found = Vec::new();
    let mut lines = String::new();
    let mut failures = Vec::new();
    for name in names {
        match get(name).await {
            Ok(raw) if whole => found.push(raw),
            Ok(raw) => match inspect::templated(&[raw], format) {
                Ok(line) => lines.push_str(&line),
                Err(error) => failures.push(error),
            },
            Err(error) => failures.push(error.message),
        }
    }
    if whole {
        let text = if format.is_empty() {
            inspect::array(&found)
        } else {
            inspect::compact(&found)
        };
        app.printer.out(&text.map_err(CliError::new)?);
    } else if lines.is_empty() {
        app.printer.out("\n");
    } else {
        app.printer.out(&lines);
    }
    if failures.is_empty() {
        return Ok(0);
    }
    Err(CliError::new(failures.join("\n")))
}
