//! Parser directives, `# key=value` at the top of the file, and the search for the `syntax` one, which also knows `//`
//! comments, a JSON head and a shebang line.

use super::error::ParseError;
use super::source::Lines;

/// What the directives said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directives {
    /// The escape and continuation character.
    pub escape: char,
    pub syntax: Option<String>,
    pub check: Option<(String, Lines)>,
    /// Extensions of the language that the first line asks for with `# extras=include,if-exists`.
    pub extras: Extras,
}

/// Extensions of the language; off unless asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extras {
    /// `INCLUDE path` puts the instructions of another file in its place.
    pub include: bool,
    /// `COPY --if-exists` and `ADD --if-exists` copy nothing when no source is there.
    pub if_exists: bool,
}

impl Default for Directives {
    fn default() -> Self {
        Self {
            escape: '\\',
            syntax: None,
            check: None,
            extras: Extras::default(),
        }
    }
}

/// Reads directives until the first line that is none.
#[derive(Debug, Default)]
pub(super) struct DirectiveReader {
    pub directives: Directives,
    done: bool,
    escape_seen: bool,
}

impl DirectiveReader {
    /// One that takes every line for a comment.
    pub fn with_escape(escape: char) -> Self {
        Self {
            directives: Directives {
                escape,
                ..Directives::default()
            },
            done: true,
            escape_seen: true,
        }
    }

    /// Looks at one line; `number` counts from 1.
    pub fn line(&mut self, line: &str, number: usize) -> Result<(), ParseError> {
        if self.done {
            return Ok(());
        }
        let Some((key, value)) = directive(line, "#") else {
            self.done = true;
            return Ok(());
        };
        let at = Lines::one(number);
        let twice = || {
            let message = format!("only one {key} parser directive can be used");
            Err(ParseError::at(at, message))
        };
        let directives = &mut self.directives;
        match key.as_str() {
            "escape" if self.escape_seen => return twice(),
            "escape" => {
                self.escape_seen = true;
                directives.escape = match value {
                    "\\" => '\\',
                    "`" => '`',
                    other => {
                        let message =
                            format!("invalid escape token '{other}' does not match ` or \\");
                        return Err(ParseError::at(at, message));
                    }
                };
            }
            "syntax" if directives.syntax.is_some() => return twice(),
            "syntax" => directives.syntax = Some(value.to_owned()),
            "check" if directives.check.is_some() => return twice(),
            "check" => directives.check = Some((value.to_owned(), at)),
            "extras" if number == 1 => directives.extras = extras(value, at)?,
            _ => self.done = true,
        }
        Ok(())
    }
}

fn extras(value: &str, at: Lines) -> Result<Extras, ParseError> {
    let mut extras = Extras::default();
    for name in value.split(',').map(str::trim) {
        match name {
            "include" => extras.include = true,
            "if-exists" => extras.if_exists = true,
            other => {
                let message = format!("unknown extra {other:?}: known are include and if-exists");
                return Err(ParseError::at(at, message));
            }
        }
    }
    Ok(extras)
}

/// `<prefix> key = value` as a key in small letters and a value without blanks around it.
fn directive<'a>(line: &'a str, prefix: &str) -> Option<(String, &'a str)> {
    let (key, value) = line.strip_prefix(prefix)?.split_once('=')?;
    let (key, value) = (key.trim(), value.trim());
    let named = key.starts_with(|c: char| c.is_ascii_alphabetic())
        && key.bytes().all(|b| b.is_ascii_alphanumeric());
    (named && !value.is_empty()).then(|| (key.to_ascii_lowercase(), value))
}

/// The front end a file asks for: a `# syntax=` or `// syntax=` line at its top (below a shebang), or `"syntax"` of a JSON head.
pub fn syntax_of(bytes: &[u8]) -> Option<String> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let text = String::from_utf8_lossy(bytes);
    let body = match text.strip_prefix("#!") {
        Some(rest) => rest.split_once('\n').map_or("", |(_, below)| below),
        None => &text,
    };
    let mut reader = DirectiveReader::default();
    for (index, line) in body.lines().enumerate() {
        if reader.line(line.trim_start(), index + 1).is_err() || reader.done {
            break;
        }
    }
    if reader.directives.syntax.is_some() {
        return reader.directives.syntax;
    }
    let slashes = body
        .lines()
        .map_while(|line| directive(line.trim_start(), "//"))
        .find(|(key, _)| key == "syntax");
    if let Some((_, value)) = slashes {
        return Some(value.to_owned());
    }
    let mut json = serde_json::Deserializer::from_str(body).into_iter::<serde_json::Value>();
    let head = json.next()?.ok()?;
    head.get("syntax")?.as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_front_end_is_found_in_every_form() {
        for (text, want) in [
            (
                "# syntax=docker/dockerfile:1\nFROM a",
                Some("docker/dockerfile:1"),
            ),
            ("#SYNTAX = a/b\n", Some("a/b")),
            ("#!/usr/bin/env x\n# syntax=a/b\n", Some("a/b")),
            ("// syntax=a/b\nx", Some("a/b")),
            ("{\"syntax\": \"a/b\"}", Some("a/b")),
            ("\u{feff}# escape=`\n# syntax=a/b\n", Some("a/b")),
            ("# other\n# syntax=a/b\n", None),
            ("FROM a\n# syntax=a/b\n", None),
        ] {
            assert_eq!(syntax_of(text.as_bytes()).as_deref(), want, "{text}");
        }
    }
}
