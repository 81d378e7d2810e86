//! FROM.

use super::{Request, Takes, split};
use crate::dockerfile::instruction::From;

pub(super) fn from(request: &Request<'_>) -> Result<From, String> {
    let words = split::blank_separated(request.rest);
    let (base, as_keyword, written) = match &words[..] {
        [base] => (base, None, None),
        [base, keyword, name] if keyword.eq_ignore_ascii_case("AS") => {
            (base, Some(keyword.clone()), Some(name.clone()))
        }
        _ => return Err("FROM requires either one or three arguments".to_owned()),
    };
    let name = written.as_deref().map(stage_name).transpose()?;
    let flags = request.flags(&[("platform", Takes::Value)])?;
    Ok(From {
        base: base.clone(),
        description: name.as_deref().and_then(|name| request.description(name)),
        name,
        written_name: written,
        as_keyword,
        platform: flags.text("platform"),
    })
}

/// The name of a stage: a letter, then letters, digits, `-`, `_` and `.`, kept in small letters.
fn stage_name(written: &str) -> Result<String, String> {
    let name = written.to_lowercase();
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b);
    if name.starts_with(|c: char| c.is_ascii_lowercase()) && name.bytes().all(plain) {
        return Ok(name);
    }
    Err(format!(
        "invalid name for build stage: {written:?}, name can't start with a number or contain symbols"
    ))
}
