//! `--device` and `--gpus`.

use std::collections::BTreeMap;

use cais_types::api::{DeviceMapping, DeviceRequest};

use super::{Result, csv};

/// Devices of the host, and devices asked of a driver.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Devices {
    /// Device nodes.
    pub mappings: Vec<DeviceMapping>,
    /// Requests to drivers.
    pub requests: Vec<DeviceRequest>,
}

/// Reads `--device` values: `host[:container[:rwm]]` or a CDI name.
///
/// # Errors
/// Docker's text for a malformed one.
pub fn devices(entries: &[String]) -> Result<Devices> {
    let mut devices = Devices::default();
    let mut names = Vec::new();
    for entry in entries {
        if is_cdi_name(entry) {
            names.push(entry.clone());
        } else {
            devices.mappings.push(mapping(entry)?);
        }
    }
    if !names.is_empty() {
        devices.requests.push(DeviceRequest {
            driver: "cdi".into(),
            device_ids: Some(names),
            ..DeviceRequest::default()
        });
    }
    Ok(devices)
}

fn mapping(text: &str) -> Result<DeviceMapping> {
    let parts: Vec<&str> = text.split(':').collect();
    let mode = |text: &str| {
        !text.is_empty()
            && text.len() <= 3
            && text.bytes().all(|byte| matches!(byte, b'r' | b'w' | b'm'))
    };
    let (source, target, permissions) = match parts.as_slice() {
        [source] => (*source, *source, "rwm"),
        [source, permissions] if mode(permissions) => (*source, *source, *permissions),
        [source, target] => (*source, *target, "rwm"),
        [source, target, permissions] if mode(permissions) => (*source, *target, *permissions),
        [_, _, permissions] => return Err(format!("bad mode specified: {permissions}")),
        _ => return Err(format!("invalid device specification: {text}")),
    };
    if source.is_empty() || !target.starts_with('/') {
        return Err(format!("invalid device specification: {text}"));
    }
    Ok(DeviceMapping {
        path_on_host: source.to_owned(),
        path_in_container: target.to_owned(),
        cgroup_permissions: permissions.to_owned(),
    })
}

/// `vendor.com/class=name`.
fn is_cdi_name(text: &str) -> bool {
    let Some((kind, name)) = text.split_once('=') else {
        return false;
    };
    !text.starts_with('/') && kind.contains('/') && !name.is_empty() && !text.contains(':')
}

/// Checks one `--gpus`.
///
/// # Errors
/// As [`gpus`].
pub fn check_gpus(text: &str) -> Result<()> {
    gpus(text).map(drop)
}

/// Reads `--gpus`: `all`, a number, or `device=...,capabilities=...,driver=...,options=...,count=...`.
///
/// # Errors
/// Docker's text for a bad number or key.
pub fn gpus(text: &str) -> Result<DeviceRequest> {
    let mut request = DeviceRequest {
        options: Some(BTreeMap::new()),
        ..DeviceRequest::default()
    };
    let mut seen_count = false;
    for field in csv::fields(text)? {
        let Some((key, value)) = field.split_once('=') else {
            request.count = count(&field)?;
            seen_count = true;
            continue;
        };
        match key {
            "driver" => value.clone_into(&mut request.driver),
            "count" => {
                request.count = count(value)?;
                seen_count = true;
            }
            "device" => request.device_ids = Some(value.split(',').map(str::to_owned).collect()),
            "capabilities" => {
                let mut list: Vec<String> = value.split(',').map(str::to_owned).collect();
                if !list.iter().any(|capability| capability == "gpu") {
                    list.push("gpu".into());
                }
                request.capabilities = Some(vec![list]);
            }
            "options" => {
                let entries: Vec<String> = csv::fields(value)?;
                request.options = Some(super::env::pairs(&entries));
            }
            _ => return Err(format!("unexpected key '{key}' in '{field}'")),
        }
    }
    if !seen_count && request.device_ids.is_none() {
        request.count = 1;
    }
    request
        .capabilities
        .get_or_insert_with(|| vec![vec!["gpu".into()]]);
    Ok(request)
}

fn count(text: &str) -> Result<i64> {
    if text == "all" {
        return Ok(-1);
    }
    text.parse().map_err(|_| {
        format!(
            "invalid count ({text}): value must be either \"all\" or an integer: invalid syntax"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_forms() {
        let read = |text: &str| devices(&[text.to_owned()]);
        let first = |text: &str| {
            let mapping = read(text).unwrap().mappings.remove(0);
            (
                mapping.path_on_host,
                mapping.path_in_container,
                mapping.cgroup_permissions,
            )
        };
        assert_eq!(
            first("/dev/a"),
            ("/dev/a".into(), "/dev/a".into(), "rwm".into())
        );
        assert_eq!(
            first("/dev/a:r"),
            ("/dev/a".into(), "/dev/a".into(), "r".into())
        );
        assert_eq!(
            first("/dev/a:/dev/b:rw"),
            ("/dev/a".into(), "/dev/b".into(), "rw".into())
        );
        assert!(read("/dev/a:/dev/b:q").is_err());
        assert_eq!(read("v.com/gpu=0").unwrap().requests[0].driver, "cdi");
    }

    #[test]
    fn gpu_forms() {
        assert_eq!(gpus("all").unwrap().count, -1);
        assert_eq!(gpus("2").unwrap().count, 2);
        let two = gpus("\"device=0,1\"").unwrap();
        assert_eq!((two.count, two.device_ids.unwrap().len()), (0, 2));
        assert_eq!(
            gpus("x").unwrap_err(),
            "invalid count (x): value must be either \"all\" or an integer: invalid syntax"
        );
    }
}
