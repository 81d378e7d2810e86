//! What `inspect` verbs print: a JSON array of raw answers, or a template run on each.

use std::sync::Arc;

use gotmpl::Value;
use serde_json::Value as Json;
use serde_json::value::RawValue;

use super::json::{KeyOrder, ordered_value};
use super::template::{Purpose, Template};

/// The array of raw answers, indented by four blanks, in the daemon's own order.
///
/// # Errors
/// An answer that is no JSON.
pub fn array(answers: &[bytes::Bytes]) -> Result<String, String> {
    let bad = |error: serde_json::Error| error.to_string();
    let items: Vec<&RawValue> = answers
        .iter()
        .map(|raw| serde_json::from_slice(raw))
        .collect::<Result<_, _>>()
        .map_err(bad)?;
    if items.is_empty() {
        return Ok("[]\n".into());
    }
    let values: Vec<Json> = items
        .iter()
        .map(|raw| serde_json::from_str(raw.get()))
        .collect::<Result<_, _>>()
        .map_err(bad)?;
    let mut text = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut text, formatter);
    serde::Serialize::serialize(&values, &mut serializer).map_err(bad)?;
    text.push(b'\n');
    let text = String::from_utf8(text).map_err(|error| error.to_string())?;
    // Texts keep the escapes they came with, as in Docker.
    let escaped = |code: &str| answers.iter().any(|raw| contains(raw, code));
    let mut shown = text;
    for (letter, code) in [('<', "\\u003c"), ('>', "\\u003e"), ('&', "\\u0026")] {
        if escaped(code) {
            shown = shown.replace(letter, code);
        }
    }
    Ok(shown)
}

fn contains(raw: &[u8], text: &str) -> bool {
    raw.windows(text.len())
        .any(|window| window == text.as_bytes())
}

/// The array of raw answers on one line.
///
/// # Errors
/// An answer that is no JSON.
pub fn compact(answers: &[bytes::Bytes]) -> Result<String, String> {
    let items: Vec<Json> = answers
        .iter()
        .map(|raw| serde_json::from_slice(raw))
        .collect::<Result<_, _>>()
        .map_err(|error: serde_json::Error| error.to_string())?;
    Ok(Json::Array(items).to_string() + "\n")
}

/// One line per answer by a template; `json` is `{{json .}}`.
///
/// # Errors
/// Docker's text for a bad template or a missing key.
pub fn templated(answers: &[bytes::Bytes], format: &str) -> Result<String, String> {
    let source = if format == "json" {
        "{{json .}}"
    } else {
        format
    };
    // Tells a syntax error before anything is asked of the daemon's answers.
    let bad = |error: String| format!("template parsing error: {error}");
    Template::parse(source, Purpose::Values, KeyOrder::default(), false).map_err(bad)?;
    let mut text = String::new();
    for raw in answers {
        let json: Json = serde_json::from_slice(raw).map_err(|error| error.to_string())?;
        let (mut value, order) = ordered_value(&json);
        let template = Template::parse(source, Purpose::Values, order, false).map_err(bad)?;
        let line = template
            .run(&value, |key| format!("map has no entry for key {key:?}"))
            .or_else(|error| run_with_go_names(&template, &mut value).unwrap_or(Err(error)))
            .map_err(|error| format!("template parsing error: {error}"))?;
        text.push_str(&line);
        text.push('\n');
    }
    Ok(text)
}

/// Fields that Docker's templates may also name as its Go structs do, and their names in JSON.
const GO_NAMES: &[(&str, &str)] = &[
    ("ID", "Id"),
    ("CPUPeriod", "CpuPeriod"),
    ("CPUQuota", "CpuQuota"),
    ("CPURealtimePeriod", "CpuRealtimePeriod"),
    ("CPURealtimeRuntime", "CpuRealtimeRuntime"),
    ("CPUShares", "CpuShares"),
    ("DNS", "Dns"),
    ("DNSOptions", "DnsOptions"),
    ("DNSSearch", "DnsSearch"),
    ("NanoCPUs", "NanoCpus"),
];

/// Runs a template on an answer that has Go's names as well; `None` when there are none.
fn run_with_go_names(template: &Template, value: &mut Value) -> Option<Result<String, String>> {
    add_go_names(value)
        .then(|| template.run(value, |key| format!("map has no entry for key {key:?}")))
}

fn add_go_names(value: &mut Value) -> bool {
    match value {
        Value::Map(fields) => {
            let Some(fields) = Arc::get_mut(fields) else {
                return false;
            };
            let mut added = false;
            for field in fields.values_mut() {
                added |= add_go_names(field);
            }
            for (go_name, name) in GO_NAMES {
                if let Some(field) = fields.get(*name).cloned() {
                    fields.insert((*go_name).into(), field);
                    added = true;
                }
            }
            added
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer() -> Vec<bytes::Bytes> {
        vec![bytes::Bytes::from_static(
            br#"{"Id":"a","State":{"Status":"running","Pid":7,"Error":"a<b"},"Args":[]}"#,
        )]
    }

    #[test]
    fn json_keeps_the_order_of_the_answer() {
        assert_eq!(
            templated(&answer(), "{{json .State}}").unwrap(),
            "{\"Status\":\"running\",\"Pid\":7,\"Error\":\"a<b\"}\n"
        );
        assert_eq!(
            templated(&answer(), "{{.State.Pid}} {{.Id | upper}}").unwrap(),
            "7 A\n"
        );
        assert_eq!(templated(&answer(), "{{.ID}}").unwrap(), "a\n");
        assert_eq!(
            compact(&answer()).unwrap(),
            "[{\"Id\":\"a\",\"State\":{\"Status\":\"running\",\"Pid\":7,\"Error\":\"a<b\"},\"Args\":[]}]\n"
        );
        let text = array(&answer()).unwrap();
        assert!(
            text.starts_with("[\n    {\n        \"Id\": \"a\",\n        \"State\": {\n"),
            "{text}"
        );
        let escaped = array(&[bytes::Bytes::from_static(b"{\"a\":\"\\u003cb\"}")]).unwrap();
        assert!(escaped.contains("\"a\": \"\\u003cb\""), "{escaped}");
        assert!(text.ends_with("        \"Args\": []\n    }\n]\n"), "{text}");
    }

    #[test]
    fn a_missing_key_is_named_with_its_place() {
        assert_eq!(
            templated(&answer(), "{{.State.Foo}}").unwrap_err(),
            "template parsing error: template: :1:8: executing \"\" at <.State.Foo>: map has no entry for key \"Foo\""
        );
    }
}
