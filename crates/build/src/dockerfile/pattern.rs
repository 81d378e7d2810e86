//! The patterns of `${name#pat}`, `${name%pat}` and `${name/pat/new}`: `*`, `?` and their escapes, no classes.

use regex_lite::Regex;

/// Why a pattern can't be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum PatternError {
    #[error("invalid escape '\\{0}'")]
    Escape(String),
    #[error("pattern is too long")]
    Size,
}

/// Drops the prefix that the pattern matches: the shortest, or the longest when `greedy`.
pub(super) fn trim_prefix(
    pattern: &str,
    value: &str,
    greedy: bool,
) -> Result<String, PatternError> {
    let regex = compile(&format!("^(?:{})", translate(pattern, greedy)?))?;
    let end = regex.find(value).map_or(0, |found| found.end());
    Ok(value[end..].to_owned())
}

/// Drops the suffix that the pattern matches: the shortest, or the longest when `greedy`.
pub(super) fn trim_suffix(
    pattern: &str,
    value: &str,
    greedy: bool,
) -> Result<String, PatternError> {
    let kept = if greedy { ".*?" } else { ".*" };
    let regex = compile(&format!("^(?s:({kept}))(?:{})$", translate(pattern, true)?))?;
    let end = regex
        .captures(value)
        .and_then(|captures| captures.get(1))
        .map_or(value.len(), |kept| kept.end());
    Ok(value[..end].to_owned())
}

/// Puts `new` in place of the first match, or of every match.
pub(super) fn replace(
    pattern: &str,
    value: &str,
    new: &str,
    every: bool,
) -> Result<String, PatternError> {
    let regex = compile(&translate(pattern, true)?)?;
    let new = regex_lite::NoExpand(new);
    let replaced = if every {
        regex.replace_all(value, new)
    } else {
        regex.replace(value, new)
    };
    Ok(replaced.into_owned())
}

fn compile(regex: &str) -> Result<Regex, PatternError> {
    Regex::new(regex).map_err(|_| PatternError::Size)
}

fn translate(pattern: &str, greedy: bool) -> Result<String, PatternError> {
    let mut regex = String::with_capacity(pattern.len() + 8);
    let mut letters = pattern.chars().peekable();
    while let Some(letter) = letters.next() {
        let literal = match letter {
            '*' => {
                regex.push_str(if greedy { ".*" } else { ".*?" });
                continue;
            }
            '?' => {
                regex.push('.');
                continue;
            }
            '\\' => match letters.next() {
                Some(next @ ('}' | '/' | '*' | '?' | '\\')) => next,
                Some(next) => return Err(PatternError::Escape(next.to_string())),
                None => return Err(PatternError::Escape(String::new())),
            },
            other => other,
        };
        regex.push_str(&regex_lite::escape(literal.encode_utf8(&mut [0; 4])));
    }
    Ok(regex)
}
