//! What `inspect` verbs print: a JSON array of raw answers, or a template run on each.

use std::cell::RefCell;
use std::sync::Arc;

use gotmpl::Value;
use serde_json::Value as Json;
use serde_json::value::RawValue;

use super::json::{KeyOrder, ordered_value};
use super::structs::Structs;
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
        let structs = Structs::mark(&mut value);
        let template = Template::parse(source, Purpose::Values, order, false).map_err(bad)?;
        let line = run(&template, source, &mut value)
            .map_err(|error| format!("template parsing error: {error}"))?;
        text.push_str(&structs.exchange(line));
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

/// Maps whose keys are free: a template may ask for one that is not there.
const FREE_MAPS: &[&str] = &[
    "Annotations",
    "Containers",
    "ExposedPorts",
    "Labels",
    "Networks",
    "Options",
    "Ports",
    "Sysctls",
    "Volumes",
];

/// Runs a template. Where Docker's own structs have more than the JSON does, the answer gets that as well.
fn run(template: &Template, source: &str, value: &mut Value) -> Result<String, String> {
    let mut tried: Vec<String> = Vec::new();
    loop {
        let missing = RefCell::new(String::new());
        let result = template.run(value, |key| {
            key.clone_into(&mut missing.borrow_mut());
            format!("map has no entry for key {key:?}")
        });
        let key = missing.into_inner();
        if result.is_ok() || key.is_empty() || tried.contains(&key) {
            return result;
        }
        if tried.is_empty() {
            add_go_names(value);
        }
        add_free_key(source, value, &key);
        tried.push(key);
    }
}

/// Gives an empty value to a key of a free map, and to a health that is not watched, if the template asks for it.
fn add_free_key(source: &str, value: &mut Value, key: &str) {
    let Value::Map(fields) = value else {
        return;
    };
    let Some(fields) = Arc::get_mut(fields) else {
        return;
    };
    for (name, field) in fields.iter_mut() {
        let free = FREE_MAPS.contains(&&**name) && source.contains(&format!(".{name}.{key}"));
        let health = key == "Health" && &**name == "State" && !source.contains(".Health.");
        if (free || health)
            && let Value::Map(entries) = field
            && let Some(entries) = Arc::get_mut(entries)
        {
            entries.entry(key.into()).or_insert(Value::Nil);
        }
        add_free_key(source, field, key);
    }
}

fn add_go_names(value: &mut Value) {
    let Value::Map(fields) = value else {
        return;
    };
    let Some(fields) = Arc::get_mut(fields) else {
        return;
    };
    for field in fields.values_mut() {
        add_go_names(field);
    }
    for (go_name, name) in GO_NAMES {
        if let Some(field) = fields.get(*name).cloned() {
            fields.insert((*go_name).into(), field);
        }
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
    fn free_keys_and_health_may_be_missing() {
        let answer = [bytes::Bytes::from_static(
            br#"{"State":{"Status":"running"},"Config":{"Labels":{"a":"b"}}}"#,
        )];
        let line = |format: &str| templated(&answer, format);
        assert_eq!(
            line("{{.Config.Labels.a}} {{.Config.Labels.x}}").unwrap(),
            "b <no value>\n"
        );
        assert_eq!(
            line("{{index .Config.Labels \"a\"}}|{{index .Config.Labels \"x\"}}|").unwrap(),
            "b||\n"
        );
        assert_eq!(
            line("{{.Config.Labels.x}}|{{index .Config.Labels \"x\"}}|").unwrap(),
            "<no value>||\n"
        );
        assert_eq!(
            line("{{if .State.Health}}h{{else}}none{{end}}").unwrap(),
            "none\n"
        );
        assert!(line("{{.State.Health.Status}}").is_err());
        assert!(line("{{.Config.Nope}}").is_err());
    }

    #[test]
    fn a_port_that_is_not_published_has_an_empty_list() {
        let answer = [bytes::Bytes::from_static(
            br#"{"NetworkSettings":{"Ports":{"80/tcp":null},"Other":null}}"#,
        )];
        let line = |format: &str| templated(&answer, format).unwrap();
        assert_eq!(line("{{.NetworkSettings.Ports}}"), "map[80/tcp:[]]\n");
        assert_eq!(
            line("{{json .NetworkSettings}}"),
            "{\"Ports\":{\"80/tcp\":null},\"Other\":null}\n"
        );
        assert_eq!(
            line("{{range $p, $b := .NetworkSettings.Ports}}{{$p}}{{range $b}}x{{end}}{{end}}"),
            "80/tcp\n"
        );
    }

    #[test]
    fn structs_print_as_those_of_go_do() {
        let answer = [bytes::Bytes::from_static(
            br#"{"State":{"Status":"running","Running":true,"Pid":7,"ExitCode":0,"Error":"","StartedAt":"a","FinishedAt":"b"},
            "HostConfig":{"RestartPolicy":{"Name":"no","MaximumRetryCount":0},"LogConfig":{"Type":"json-file","Config":{}},
            "PortBindings":{"81/udp":[{"HostIp":"","HostPort":"18098"}]},"Mounts":[{"Type":"bind","Target":"/x"}]},
            "Config":{"ExposedPorts":{"80/tcp":{},"81/udp":{}},"Labels":{},"Volumes":null},
            "Mounts":[{"Type":"volume","Name":"v","Source":"/s","Destination":"/d","Driver":"local","Mode":"z","RW":true,"Propagation":""}],
            "NetworkSettings":{"Ports":{"80/tcp":[{"HostIp":"0.0.0.0","HostPort":"1"},{"HostIp":"::","HostPort":"1"}],"90/tcp":null}},
            "IPAM":{"Driver":"default","Options":{},"Config":[{"Subnet":"10.0.0.0/8","Gateway":"10.0.0.1"}]},
            "Containers":{"abc":{"Name":"x","EndpointID":"e","MacAddress":"m","IPv4Address":"4","IPv6Address":""}}}"#,
        )];
        let line = |format: &str| {
            let line = templated(&answer, format).unwrap();
            line.trim_end_matches('\n').to_owned()
        };
        for (format, expected) in [
            (
                "{{.State}}",
                "{running true false false false false 7 0  a b <nil>}",
            ),
            ("{{.HostConfig.RestartPolicy}}", "{no 0}"),
            ("{{.HostConfig.LogConfig}}", "{json-file map[]}"),
            ("{{.HostConfig.PortBindings}}", "map[81/udp:[{ 18098}]]"),
            ("{{.HostConfig.Mounts}}", "[map[Target:/x Type:bind]]"),
            (
                "{{.Config.ExposedPorts}} {{.Config.Labels}}",
                "map[80/tcp:{} 81/udp:{}] map[]",
            ),
            (
                "{{range .Mounts}}{{.}}{{end}}",
                "{volume v /s /d local z true }",
            ),
            (
                "{{.NetworkSettings.Ports}}",
                "map[80/tcp:[{0.0.0.0 1} {:: 1}] 90/tcp:[]]",
            ),
            (
                "{{(index (index .NetworkSettings.Ports \"80/tcp\") 1).HostIp}}",
                "::",
            ),
            (
                "{{.IPAM}}",
                "{default map[] [{10.0.0.0/8  10.0.0.1 map[]}]}",
            ),
            ("{{.Containers}}", "map[abc:{x e m 4 }]"),
            (
                "{{json .HostConfig.RestartPolicy}}",
                "{\"Name\":\"no\",\"MaximumRetryCount\":0}",
            ),
        ] {
            assert_eq!(line(format), expected, "{format}");
        }
        // What a template adds to a struct takes its mark away.
        assert!(!line("{{.State}}{{.State.Health}}").contains('\u{1}'));
    }

    #[test]
    fn a_missing_key_is_named_with_its_place() {
        assert_eq!(
            templated(&answer(), "{{.State.Foo}}").unwrap_err(),
            "template parsing error: template: :1:8: executing \"\" at <.State.Foo>: map has no entry for key \"Foo\""
        );
    }
}
