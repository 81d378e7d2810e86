//! An instruction's line taken apart: keyword, flags, and the arguments in the shape that the keyword asks for.

/// The blanks of Dockerfiles: no line feed, no wide spaces.
fn blank(letter: char) -> bool {
    matches!(letter, '\t' | '\x0b' | '\x0c' | '\r' | ' ')
}

/// Keyword, flags and the rest of a line.
pub(super) struct Parts<'a> {
    pub keyword: &'a str,
    pub flags: Vec<String>,
    pub rest: &'a str,
}

/// Takes keyword and flags off a line.
pub(super) fn parts(line: &str) -> Parts<'_> {
    let line = line.trim();
    let (keyword, rest) = halves(line).unwrap_or((line, ""));
    let (flags, rest) = flags(rest);
    Parts {
        keyword,
        flags,
        rest: rest.trim(),
    }
}

/// What stands before and after the first run of blanks.
pub(super) fn halves(text: &str) -> Option<(&str, &str)> {
    let (first, rest) = text.split_once(blank)?;
    Some((first, rest.trim_start_matches(blank)))
}

/// The words at the start that begin with `--`, quotes taken away; `--` alone ends them.
fn flags(line: &str) -> (Vec<String>, &str) {
    let mut flags = Vec::new();
    let mut rest = line.trim_start();
    while rest.starts_with("--") {
        let (word, length) = flag(rest);
        rest = rest[length..].trim_start();
        if word == "--" {
            break;
        }
        flags.push(word);
    }
    (flags, rest)
}

/// The first word, quotes and escapes taken away, and how many bytes it took.
fn flag(text: &str) -> (String, usize) {
    let mut word = String::new();
    let mut quote = None;
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match (quote, letter) {
            (None, letter) if letter.is_whitespace() => return (word, at),
            (None, '\'' | '"') => quote = Some(letter),
            (Some(open), letter) if letter == open => quote = None,
            (_, '\\') => word.extend(letters.next().map(|(_, next)| next)),
            (_, letter) => word.push(letter),
        }
    }
    (word, text.len())
}

/// Words between blanks; an empty text has none.
pub(super) fn blank_separated(rest: &str) -> Vec<String> {
    rest.split(blank)
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect()
}

/// Words between blanks that are neither quoted nor escaped; quotes and escapes stay.
pub(super) fn quoted_words(rest: &str, escape: char) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quote = None;
    let mut letters = rest.chars();
    while let Some(letter) = letters.next() {
        match quote {
            None if letter.is_whitespace() => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                continue;
            }
            None if letter == '\'' || letter == '"' => quote = Some(letter),
            Some(open) if letter == open => quote = None,
            _ => {}
        }
        if letter == escape && quote != Some('\'') {
            // An escape character at the very end means nothing.
            let Some(next) = letters.next() else { break };
            word.push(letter);
            word.push(next);
        } else {
            word.push(letter);
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

/// A name and its value, as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    pub name: String,
    pub value: String,
    /// `NAME value` instead of `NAME=value`.
    pub legacy: bool,
}

/// `name=value ...`, or the old `name value` of one pair.
pub(super) fn pairs(rest: &str, keyword: &str, escape: char) -> Result<Vec<Pair>, String> {
    let words = quoted_words(rest, escape);
    let Some(first) = words.first() else {
        return Ok(Vec::new());
    };
    if !first.contains('=') {
        let (name, value) =
            halves(rest).ok_or_else(|| format!("{keyword} must have two arguments"))?;
        return Ok(vec![Pair {
            name: name.to_owned(),
            value: value.to_owned(),
            legacy: true,
        }]);
    }
    let pair = |word: &String| match word.split_once('=') {
        Some((name, value)) => Ok(Pair {
            name: name.to_owned(),
            value: value.to_owned(),
            legacy: false,
        }),
        None => Err(format!(
            "Syntax error - can't find = in {word:?}. Must be of the form: name=value"
        )),
    };
    words.iter().map(pair).collect()
}

/// What a text that may be a JSON array is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum MaybeJson {
    List(Vec<String>),
    /// No JSON array: shell form.
    Text,
}

/// Reads a JSON array of strings; anything that is no JSON array is a text.
pub(super) fn maybe_json(rest: &str) -> Result<MaybeJson, String> {
    let rest = rest.trim_start();
    if !rest.starts_with('[') {
        return Ok(MaybeJson::Text);
    }
    let Ok(values) = serde_json::from_str::<Vec<serde_json::Value>>(rest) else {
        return Ok(MaybeJson::Text);
    };
    let strings: Option<Vec<String>> = values
        .into_iter()
        .map(|value| match value {
            serde_json::Value::String(text) => Some(text),
            _ => None,
        })
        .collect();
    strings.map(MaybeJson::List).ok_or_else(|| {
        "when using JSON array syntax, arrays must be comprised of strings only".to_owned()
    })
}
