//! Instructions that only change the image's configuration, or what follows: ARG, EXPOSE, ONBUILD, SHELL, VOLUME.

use super::{MaybeJson, Request, at_least_one, split};
use crate::dockerfile::instruction::ArgPair;

pub(super) fn arg(request: &Request<'_>) -> Result<Vec<ArgPair>, String> {
    let escape = request.directives.escape;
    let words = split::quoted_words(request.rest, escape);
    if words.is_empty() {
        return Err(at_least_one("ARG"));
    }
    request.no_flags()?;
    let pair = |word: String| {
        let (name, default) = match word.split_once('=') {
            Some(("", _)) => return Err("ARG names can not be blank".to_owned()),
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (word, None),
        };
        Ok(ArgPair {
            description: request.description(&name),
            name,
            default,
        })
    };
    words.into_iter().map(pair).collect()
}

pub(super) fn expose(request: &Request<'_>) -> Result<Vec<String>, String> {
    let mut ports = split::blank_separated(request.rest);
    if ports.is_empty() {
        return Err(at_least_one("EXPOSE"));
    }
    request.no_flags()?;
    ports.sort();
    Ok(ports)
}

pub(super) fn shell(request: &Request<'_>) -> Result<Vec<String>, String> {
    request.no_flags()?;
    match split::maybe_json(request.rest)? {
        MaybeJson::List(words) if !words.is_empty() => Ok(words),
        MaybeJson::Text if !request.rest.is_empty() => {
            Err("SHELL requires the arguments to be in JSON form".to_owned())
        }
        _ => Err(at_least_one("SHELL")),
    }
}

pub(super) fn volume(request: &Request<'_>) -> Result<Vec<String>, String> {
    let list = request.list()?;
    if list.is_empty() {
        return Err(at_least_one("VOLUME"));
    }
    request.no_flags()?;
    let path = |path: String| match path.trim() {
        "" => Err("VOLUME specified can not be an empty string".to_owned()),
        path => Ok(path.to_owned()),
    };
    list.into_iter().map(path).collect()
}

pub(super) fn onbuild(request: &Request<'_>) -> Result<String, String> {
    let inner = split::parts(request.rest);
    if inner.keyword.is_empty() {
        return Err(at_least_one("ONBUILD"));
    }
    request.no_flags()?;
    match inner.keyword.to_ascii_uppercase().as_str() {
        "ONBUILD" => {
            return Err("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed".to_owned());
        }
        keyword @ ("FROM" | "MAINTAINER") => {
            return Err(format!("{keyword} isn't allowed as an ONBUILD trigger"));
        }
        _ => {}
    }
    let documents = request
        .heredocs
        .iter()
        .map(|document| format!("\n{}{}", document.content, document.name));
    Ok(format!("{}{}", request.rest, documents.collect::<String>()))
}
