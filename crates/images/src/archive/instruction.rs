//! The Dockerfile instructions that `docker import --change` and `docker commit --change` take, applied to the `config` of
//! an image.

use serde_json::{Map, Value, json};

use crate::error::ImageError;

/// Applies instructions in order. An `ENTRYPOINT` takes the `CMD` that was there before away, unless these instructions
/// set one.
pub fn apply_changes(lines: &[String], config: &mut Map<String, Value>) -> Result<(), ImageError> {
    let mut has_command = false;
    for line in lines {
        let name = line.split_whitespace().next().unwrap_or("");
        apply(line, config)?;
        has_command |= name.eq_ignore_ascii_case("CMD");
        if name.eq_ignore_ascii_case("ENTRYPOINT") && !has_command {
            config.remove("Cmd");
        }
    }
    Ok(())
}

/// Applies one instruction.
fn apply(line: &str, config: &mut Map<String, Value>) -> Result<(), ImageError> {
    let line = line.trim();
    let (name, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let (name, rest) = (name.to_ascii_uppercase(), rest.trim());
    if rest.is_empty() {
        let text = match name.as_str() {
            "ENV" | "CMD" | "ENTRYPOINT" | "EXPOSE" | "USER" | "WORKDIR" | "VOLUME" | "LABEL"
            | "STOPSIGNAL" | "HEALTHCHECK" | "ONBUILD" => {
                format!("{name} requires at least one argument")
            }
            _ => format!("unknown instruction: {name}"),
        };
        return Err(ImageError::Invalid(text));
    }
    match name.as_str() {
        "ENV" => env(rest, config),
        "LABEL" => {
            for (key, value) in pairs("LABEL", rest)? {
                object(config, "Labels").insert(key, Value::String(value));
            }
            Ok(())
        }
        "CMD" => set(config, "Cmd", command(rest)),
        "ENTRYPOINT" => set(config, "Entrypoint", command(rest)),
        "USER" => set(config, "User", json!(rest)),
        "STOPSIGNAL" => set(config, "StopSignal", json!(rest)),
        "WORKDIR" => workdir(rest, config),
        "EXPOSE" => expose(rest, config),
        "VOLUME" => {
            for path in json_words(rest).unwrap_or_else(|| words(rest)) {
                object(config, "Volumes").insert(path, json!({}));
            }
            Ok(())
        }
        "HEALTHCHECK" => healthcheck(rest, config),
        "ONBUILD" => onbuild(rest, config),
        "FROM" | "RUN" | "COPY" | "ADD" | "ARG" | "SHELL" | "MAINTAINER" => Err(
            ImageError::Invalid(format!("{name} is not a valid change command")),
        ),
        _ => Err(ImageError::Invalid(format!("unknown instruction: {name}"))),
    }
}

fn set(config: &mut Map<String, Value>, key: &str, value: Value) -> Result<(), ImageError> {
    config.insert(key.to_owned(), value);
    Ok(())
}

fn object<'a>(config: &'a mut Map<String, Value>, key: &str) -> &'a mut Map<String, Value> {
    let value = config.entry(key).or_insert(Value::Null);
    if !value.is_object() {
        *value = json!({});
    }
    value.as_object_mut().expect("was made an object above")
}

fn array<'a>(config: &'a mut Map<String, Value>, key: &str) -> &'a mut Vec<Value> {
    let value = config.entry(key).or_insert(Value::Null);
    if !value.is_array() {
        *value = json!([]);
    }
    value.as_array_mut().expect("was made an array above")
}

fn env(rest: &str, config: &mut Map<String, Value>) -> Result<(), ImageError> {
    for (key, value) in pairs("ENV", rest)? {
        let list = array(config, "Env");
        let prefix = format!("{key}=");
        let item = json!(format!("{prefix}{value}"));
        let old = list
            .iter_mut()
            .find(|item| item.as_str().is_some_and(|item| item.starts_with(&prefix)));
        match old {
            Some(old) => *old = item,
            None => list.push(item),
        }
    }
    Ok(())
}

fn workdir(rest: &str, config: &mut Map<String, Value>) -> Result<(), ImageError> {
    let base = config.get("WorkingDir").and_then(Value::as_str);
    let base = if rest.starts_with('/') {
        ""
    } else {
        base.unwrap_or("")
    };
    let mut parts: Vec<&str> = Vec::new();
    for part in base.split('/').chain(rest.split('/')) {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    let path = format!("/{}", parts.join("/"));
    set(config, "WorkingDir", json!(path))
}

fn expose(rest: &str, config: &mut Map<String, Value>) -> Result<(), ImageError> {
    for word in rest.split_whitespace() {
        let bad = || ImageError::Invalid(format!("invalid containerPort: {word}"));
        let (range, protocol) = word.split_once('/').unwrap_or((word, "tcp"));
        let protocol = protocol.to_ascii_lowercase();
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let port = |text: &str| text.parse::<u16>().map_err(|_| bad());
        let (first, last) = (port(first)?, port(last)?);
        if first > last || !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
            return Err(bad());
        }
        for port in first..=last {
            object(config, "ExposedPorts").insert(format!("{port}/{protocol}"), json!({}));
        }
    }
    Ok(())
}

fn onbuild(rest: &str, config: &mut Map<String, Value>) -> Result<(), ImageError> {
    let name = rest
        .split_whitespace()
        .next()
        .unwrap_or("")
        .to_ascii_uppercase();
    match name.as_str() {
        "ONBUILD" => Err(ImageError::Invalid(
            "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed".to_owned(),
        )),
        "FROM" | "MAINTAINER" => Err(ImageError::Invalid(format!(
            "{name} isn't allowed as an ONBUILD trigger"
        ))),
        _ => {
            array(config, "OnBuild").push(json!(rest));
            Ok(())
        }
    }
}

fn healthcheck(rest: &str, config: &mut Map<String, Value>) -> Result<(), ImageError> {
    let bad = |text: String| Err(ImageError::Invalid(text));
    let mut check = Map::new();
    let mut rest = rest;
    while let Some(flag) = rest.strip_prefix("--") {
        let (flag, after) = flag.split_once(char::is_whitespace).unwrap_or((flag, ""));
        let (name, value) = flag.split_once('=').unwrap_or((flag, ""));
        let key = match name {
            "interval" => "Interval",
            "timeout" => "Timeout",
            "start-period" => "StartPeriod",
            "start-interval" => "StartInterval",
            "retries" => "Retries",
            _ => return bad(format!("unknown flag: {name}")),
        };
        let number = if name == "retries" {
            value.parse().ok().filter(|count: &i64| *count >= 0)
        } else {
            nanoseconds(value)
        };
        let Some(number) = number else {
            return bad(format!("invalid value {value:?} for flag {name}"));
        };
        check.insert(key.to_owned(), json!(number));
        rest = after.trim_start();
    }
    let (kind, argument) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let argument = argument.trim();
    let test = match kind.to_ascii_uppercase().as_str() {
        "NONE" if argument.is_empty() => vec!["NONE".to_owned()],
        "NONE" => return bad("HEALTHCHECK NONE takes no arguments".to_owned()),
        "CMD" if argument.is_empty() => {
            return bad("Missing command after HEALTHCHECK CMD".to_owned());
        }
        "CMD" => match json_words(argument) {
            Some(list) => [vec!["CMD".to_owned()], list].concat(),
            None => vec!["CMD-SHELL".to_owned(), argument.to_owned()],
        },
        other => {
            return bad(format!("Unknown type {other:?} in HEALTHCHECK (try CMD)"));
        }
    };
    check.insert("Test".to_owned(), json!(test));
    set(config, "Healthcheck", Value::Object(check))
}

/// A Go duration: `1m30s`, `500ms`.
fn nanoseconds(text: &str) -> Option<i64> {
    let mut total = 0_f64;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !(c.is_ascii_digit() || c == '.'))?;
        let number: f64 = rest[..digits].parse().ok()?;
        let unit = &rest[digits..];
        let length = unit
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(unit.len());
        total += number
            * match &unit[..length] {
                "ns" => 1.0,
                "us" | "µs" => 1e3,
                "ms" => 1e6,
                "s" => 1e9,
                "m" => 60e9,
                "h" => 3600e9,
                _ => return None,
            };
        rest = &unit[length..];
    }
    (!text.is_empty() && total < 9e18).then_some(total as i64)
}

/// Exec form as its list, shell form behind `/bin/sh -c`.
fn command(rest: &str) -> Value {
    match json_words(rest) {
        Some(list) => json!(list),
        None => json!(["/bin/sh", "-c", rest]),
    }
}

fn json_words(text: &str) -> Option<Vec<String>> {
    text.starts_with('[')
        .then(|| serde_json::from_str(text).ok())
        .flatten()
}

/// `KEY=VALUE KEY2="VALUE 2"`, or the old `KEY VALUE` of one pair.
fn pairs(name: &str, rest: &str) -> Result<Vec<(String, String)>, ImageError> {
    let first = rest.split_whitespace().next().unwrap_or("");
    if !first.contains('=') {
        let Some((key, value)) = rest.split_once(char::is_whitespace) else {
            return Err(ImageError::Invalid(format!(
                "{name} must have two arguments"
            )));
        };
        return Ok(vec![(key.to_owned(), value.trim().to_owned())]);
    }
    let pair = |word: String| match word.split_once('=') {
        Some(("", _)) => Err(ImageError::Invalid(format!(
            "{name} names can not be blank"
        ))),
        Some((key, value)) => Ok((key.to_owned(), value.to_owned())),
        None => {
            let text =
                format!("Syntax error - can't find = in {word:?}. Must be of the form: name=value");
            Err(ImageError::Invalid(text))
        }
    };
    words(rest).into_iter().map(pair).collect()
}

/// Words of a line; quotes keep blanks, a backslash keeps the next character.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match (quote, letter) {
            (None, letter) if letter.is_whitespace() => words.extend(word.take()),
            (None, '"' | '\'') => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (Some(open), letter) if letter == open => quote = None,
            (None | Some('"'), '\\') => {
                let next = letters.next();
                word.get_or_insert_default().extend(next);
            }
            (_, letter) => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(lines: &[&str]) -> Value {
        let mut config = Map::new();
        for line in lines {
            apply(line, &mut config).unwrap();
        }
        Value::Object(config)
    }

    #[test]
    fn instructions_fill_the_config_as_docker_does() {
        let made = config(&[
            "ENV A=1 B=\"two words\" C=x\\ y",
            "env A=2",
            "ENV OLD form of it",
            "CMD [\"sh\", \"-l\"]",
            "ENTRYPOINT run it",
            "EXPOSE 80 53/udp 7000-7001",
            "USER 1000:1000",
            "WORKDIR /srv",
            "WORKDIR app/../data",
            "VOLUME /a /b",
            "LABEL k=v",
            "STOPSIGNAL SIGINT",
            "HEALTHCHECK --interval=1m30s --retries=3 CMD curl localhost",
            "ONBUILD RUN make",
        ]);
        assert_eq!(
            made,
            json!({
                "Env": ["A=2", "B=two words", "C=x y", "OLD=form of it"],
                "Cmd": ["sh", "-l"],
                "Entrypoint": ["/bin/sh", "-c", "run it"],
                "ExposedPorts": {"80/tcp": {}, "53/udp": {}, "7000/tcp": {}, "7001/tcp": {}},
                "User": "1000:1000",
                "WorkingDir": "/srv/data",
                "Volumes": {"/a": {}, "/b": {}},
                "Labels": {"k": "v"},
                "StopSignal": "SIGINT",
                "Healthcheck": {
                    "Interval": 90_000_000_000_i64, "Retries": 3,
                    "Test": ["CMD-SHELL", "curl localhost"],
                },
                "OnBuild": ["RUN make"],
            })
        );
    }

    #[test]
    fn other_instructions_and_bad_values_are_refused() {
        for (line, want) in [
            ("RUN make", "RUN is not a valid change command"),
            ("NOPE x", "unknown instruction: NOPE"),
            ("CMD", "CMD requires at least one argument"),
            ("EXPOSE 99999", "invalid containerPort: 99999"),
            ("ENV A", "ENV must have two arguments"),
        ] {
            let error = apply(line, &mut Map::new()).unwrap_err();
            assert_eq!(error.to_string(), want);
        }
    }
}
