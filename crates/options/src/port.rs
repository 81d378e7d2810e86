//! `--publish` and `--expose`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use cais_types::api::{Empty, PortBinding};

use super::{Result, csv};

/// Ports of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ports {
    /// By `80/tcp`.
    pub exposed: BTreeMap<String, Empty>,
    /// Host places by `80/tcp`.
    pub bindings: BTreeMap<String, Option<Vec<PortBinding>>>,
}

/// Reads both lists.
///
/// # Errors
/// Docker's text for a malformed one.
pub fn parse(publish: &[String], expose: &[String]) -> Result<Ports> {
    let mut ports = Ports::default();
    for text in publish {
        if text.contains('=') {
            publish_one(&long_form(text)?, &mut ports)?;
        } else {
            publish_one(text, &mut ports)?;
        }
    }
    for text in expose {
        if text.contains(':') {
            return Err(format!("invalid port format for --expose: {text}"));
        }
        let (range, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let bad =
            |cause: String| format!("invalid range format for --expose: {text}, error: {cause}");
        let (start, end) = range_of(range).map_err(bad)?;
        for port in start..=end {
            ports.exposed.insert(format!("{port}/{protocol}"), Empty {});
        }
    }
    Ok(ports)
}

/// `published=8080,target=80,protocol=tcp` in the short form.
fn long_form(text: &str) -> Result<String> {
    let (mut published, mut target, mut protocol) =
        (String::new(), String::new(), "tcp".to_owned());
    for field in csv::fields(text)? {
        let (key, value) = field.split_once('=').unwrap_or((&field, ""));
        match key.to_ascii_lowercase().as_str() {
            "published" => value.clone_into(&mut published),
            "target" => value.clone_into(&mut target),
            "protocol" => protocol = value.to_ascii_lowercase(),
            "mode" => {}
            _ => return Err(format!("invalid field key {key}")),
        }
    }
    if target.is_empty() {
        return Err(format!("missing mandatory field 'target' in {text}"));
    }
    Ok(format!("{published}:{target}/{protocol}"))
}

fn publish_one(text: &str, ports: &mut Ports) -> Result<()> {
    let (place, protocol) = match text.split_once('/') {
        Some((place, protocol)) => (place, protocol.to_ascii_lowercase()),
        None => (text, "tcp".to_owned()),
    };
    let (address, host, container) = split(place);
    if container.is_empty() {
        return Err(format!("no port specified: {text}<empty>"));
    }
    let address = address_of(address)?;
    let (start, end) =
        range_of(container).map_err(|_| format!("invalid containerPort: {container}"))?;
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return Err(format!("invalid proto: {protocol}"));
    }
    let (host_start, host_end) = match host {
        "" => (0, 0),
        host => range_of(host).map_err(|_| format!("invalid hostPort: {host}"))?,
    };
    let count = u32::from(end - start);
    if !host.is_empty() && u32::from(host_end - host_start) != count && count != 0 {
        return Err(format!(
            "invalid ranges specified for container and host Ports: {container} and {host}"
        ));
    }
    for port in start..=end {
        let host_port = if host.is_empty() {
            String::new()
        } else if count == 0 && host_start != host_end {
            format!("{host_start}-{host_end}")
        } else {
            (host_start + (port - start)).to_string()
        };
        let key = format!("{port}/{protocol}");
        ports.exposed.insert(key.clone(), Empty {});
        ports
            .bindings
            .entry(key)
            .or_default()
            .get_or_insert_default()
            .push(PortBinding {
                host_ip: address.clone(),
                host_port,
            });
    }
    Ok(())
}

/// Address, host port and container port of `[[address:]host:]container`.
fn split(text: &str) -> (&str, &str, &str) {
    let Some((front, container)) = text.rsplit_once(':') else {
        return ("", "", text);
    };
    match front.rsplit_once(':') {
        Some((address, host)) => (address, host, container),
        None => ("", front, container),
    }
}

fn address_of(text: &str) -> Result<String> {
    if text.is_empty() {
        return Ok(String::new());
    }
    let bare = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'))
        .unwrap_or(text);
    bare.parse::<IpAddr>()
        .map_err(|_| format!("invalid IP address: {text}"))?;
    Ok(bare.to_owned())
}

fn range_of(text: &str) -> Result<(u16, u16)> {
    let number = |text: &str| {
        let bad = |what: &str| format!("strconv.ParseUint: parsing {text:?}: {what}");
        match text.parse::<u64>() {
            Ok(value) => u16::try_from(value).map_err(|_| bad("value out of range")),
            Err(_) => Err(bad("invalid syntax")),
        }
    };
    if text.is_empty() {
        return Err("empty string specified for ports".into());
    }
    let (start, end) = match text.split_once('-') {
        Some((start, end)) => (number(start)?, number(end)?),
        None => (number(text)?, number(text)?),
    };
    if end < start {
        return Err(format!("invalid range specified for port: {text}"));
    }
    Ok((start, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Result<Vec<(String, String)>> {
        let ports = parse(&[text.to_owned()], &[])?;
        assert_eq!(ports.exposed.len(), ports.bindings.len());
        let places = ports.bindings.into_iter().map(|(port, places)| {
            let place = &places.unwrap()[0];
            (port, format!("{}|{}", place.host_ip, place.host_port))
        });
        Ok(places.collect())
    }

    #[test]
    fn published_ports() {
        let cases: &[(&str, &[(&str, &str)])] = &[
            ("80", &[("80/tcp", "|")]),
            ("8080:80", &[("80/tcp", "|8080")]),
            ("127.0.0.1:8080:80/udp", &[("80/udp", "127.0.0.1|8080")]),
            ("127.0.0.1::80", &[("80/tcp", "127.0.0.1|")]),
            ("[::1]:1:2", &[("2/tcp", "::1|1")]),
            (
                "8000-8001:80-81",
                &[("80/tcp", "|8000"), ("81/tcp", "|8001")],
            ),
            ("8000-8010:80", &[("80/tcp", "|8000-8010")]),
            ("published=1,target=2,protocol=udp", &[("2/udp", "|1")]),
        ];
        for (text, want) in cases {
            let got = one(text).unwrap();
            let got: Vec<_> = got.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
            assert_eq!(got, *want, "{text}");
        }
    }

    #[test]
    fn errors_are_dockers() {
        // Recorded from docker 28.2.2.
        let cases = [
            ("x", "invalid containerPort: x"),
            ("80:x", "invalid containerPort: x"),
            ("1:2:3:4", "invalid IP address: 1:2"),
            ("80/foo", "invalid proto: foo"),
            ("x:80", "invalid hostPort: x"),
            ("1.2.3:80:80", "invalid IP address: 1.2.3"),
            ("", "no port specified: <empty>"),
        ];
        for (text, want) in cases {
            assert_eq!(one(text).unwrap_err(), want, "{text}");
        }
        let expose = |text: &str| parse(&[], &[text.to_owned()]);
        assert_eq!(
            expose("80:80").unwrap_err(),
            "invalid port format for --expose: 80:80"
        );
        assert_eq!(
            expose("80-70").unwrap_err(),
            "invalid range format for --expose: 80-70, error: invalid range specified for port: 80-70"
        );
        assert_eq!(
            expose("53/udp").unwrap().exposed.keys().collect::<Vec<_>>(),
            ["53/udp"]
        );
    }
}
