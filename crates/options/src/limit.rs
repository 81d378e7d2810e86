//! Limits: `--ulimit`, `--cpus`, weights and rates of block devices.

use cais_types::api::{ThrottleDevice, Ulimit, WeightDevice};
use cais_types::size::ram_in_bytes;

use super::Result;
use cais_console::flags::parse_int;

/// Names of resource limits (setrlimit(2)).
const ULIMITS: &[&str] = &[
    "as",
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// Checks one `--ulimit`.
///
/// # Errors
/// As [`ulimit`].
pub fn check_ulimit(text: &str) -> Result<()> {
    ulimit(text).map(drop)
}

/// Reads `name=soft[:hard]`.
///
/// # Errors
/// Docker's text for an unknown name or a bad number.
pub fn ulimit(text: &str) -> Result<Ulimit> {
    let Some((name, limits)) = text.split_once('=') else {
        return Err(format!("invalid ulimit argument: {text}"));
    };
    if !ULIMITS.contains(&name) {
        return Err(format!("invalid ulimit type: {name}"));
    }
    let parts: Vec<&str> = limits.split(':').collect();
    let soft = decimal(parts[0])?;
    let hard = match parts.as_slice() {
        [_] => soft,
        [_, hard] => decimal(hard)?,
        _ => {
            return Err(format!(
                "too many limit value arguments - {limits}, can only have up to two, `soft[:hard]`"
            ));
        }
    };
    if hard != -1 && (soft == -1 || soft > hard) {
        return Err(format!(
            "ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}"
        ));
    }
    Ok(Ulimit {
        name: name.to_owned(),
        hard,
        soft,
    })
}

fn decimal(text: &str) -> Result<i64> {
    text.parse()
        .map_err(|_| format!("strconv.ParseInt: parsing {text:?}: invalid syntax"))
}

/// Checks one `--cpus`.
///
/// # Errors
/// As [`nano_cpus`].
pub fn check_cpus(text: &str) -> Result<()> {
    nano_cpus(text).map(drop)
}

/// Billionths of a processor, of a decimal number or a fraction.
///
/// # Errors
/// It is no number, or has more than nine decimals.
pub fn nano_cpus(text: &str) -> Result<i64> {
    let bad = || format!("failed to parse {text} as a rational number");
    let precise = || "value is too precise".to_owned();
    if let Some((numerator, denominator)) = text.split_once('/') {
        let numerator: i64 = numerator.parse().map_err(|_| bad())?;
        let denominator: i64 = denominator.parse().map_err(|_| bad())?;
        let nano = numerator.checked_mul(1_000_000_000).ok_or_else(bad)?;
        return match nano.checked_rem(denominator) {
            None => Err(bad()),
            Some(0) => Ok(nano / denominator),
            Some(_) => Err(precise()),
        };
    }
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if text.is_empty() || text == "." || !digits(whole.trim_start_matches('-')) || !digits(fraction)
    {
        return Err(bad());
    }
    let fraction = fraction.trim_end_matches('0');
    if fraction.len() > 9 {
        return Err(precise());
    }
    format!("{whole}{fraction:0<9}").parse().map_err(|_| bad())
}

/// Checks one `--blkio-weight-device`.
///
/// # Errors
/// As [`weight`].
pub fn check_weight(text: &str) -> Result<()> {
    weight(text).map(drop)
}

/// Reads `path:weight`.
///
/// # Errors
/// Docker's text for a bad path or weight.
pub fn weight(text: &str) -> Result<WeightDevice> {
    let (path, value) = device(text)?;
    let weight: u16 = value
        .parse()
        .map_err(|_| format!("invalid weight for device: {text}"))?;
    if weight > 0 && !(10..=1000).contains(&weight) {
        return Err(format!("invalid weight for device: {text}"));
    }
    Ok(WeightDevice {
        path: path.to_owned(),
        weight,
    })
}

/// Checks one `--device-read-bps` or `--device-write-bps`.
///
/// # Errors
/// As [`byte_rate`].
pub fn check_byte_rate(text: &str) -> Result<()> {
    byte_rate(text).map(drop)
}

/// Reads `path:size`, per second.
///
/// # Errors
/// Docker's text for a bad path or size.
pub fn byte_rate(text: &str) -> Result<ThrottleDevice> {
    let (path, value) = device(text)?;
    match ram_in_bytes(value)
        .ok()
        .and_then(|rate| u64::try_from(rate).ok())
    {
        Some(rate) => Ok(ThrottleDevice {
            path: path.to_owned(),
            rate,
        }),
        None => Err(format!(
            "invalid rate for device: {text}. The correct format is <device-path>:<number>[<unit>]. \
             Number must be a positive integer. Unit is optional and can be kb, mb, or gb"
        )),
    }
}

/// Checks one `--device-read-iops` or `--device-write-iops`.
///
/// # Errors
/// As [`operation_rate`].
pub fn check_operation_rate(text: &str) -> Result<()> {
    operation_rate(text).map(drop)
}

/// Reads `path:number`, per second.
///
/// # Errors
/// Docker's text for a bad path or number.
pub fn operation_rate(text: &str) -> Result<ThrottleDevice> {
    let (path, value) = device(text)?;
    match value.parse() {
        Ok(rate) => Ok(ThrottleDevice {
            path: path.to_owned(),
            rate,
        }),
        Err(_) => Err(format!(
            "invalid rate for device: {text}. The correct format is <device-path>:<number>. \
             Number must be a positive integer"
        )),
    }
}

fn device(text: &str) -> Result<(&str, &str)> {
    match text.split_once(':') {
        Some((path, value)) if !path.is_empty() => {
            if path.starts_with("/dev/") {
                Ok((path, value))
            } else {
                Err(format!("bad format for device path: {text}"))
            }
        }
        _ => Err(format!("bad format: {text}")),
    }
}

/// Checks one `--device-cgroup-rule`: kind, major and minor number, permissions.
///
/// # Errors
/// Docker's text for anything else.
pub fn check_cgroup_rule(text: &str) -> Result<()> {
    let parts: Vec<&str> = text.split(' ').collect();
    let number =
        |text: &str| text == "*" || (!text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()));
    let good = match parts.as_slice() {
        [kind, numbers, access] => {
            matches!(*kind, "a" | "b" | "c")
                && numbers
                    .split_once(':')
                    .is_some_and(|(major, minor)| number(major) && number(minor))
                && (1..=3).contains(&access.len())
                && access.bytes().all(|b| matches!(b, b'r' | b'w' | b'm'))
        }
        _ => false,
    };
    if good {
        Ok(())
    } else {
        Err(format!("invalid device cgroup format '{text}'"))
    }
}

/// Reads `name[:retries]` of `--restart`.
///
/// # Errors
/// Docker's text for a missing name or a bad number.
pub fn restart_policy(text: &str) -> Result<cais_types::api::RestartPolicy> {
    let (name, count) = text.split_once(':').unwrap_or((text, ""));
    if name.is_empty() && !text.is_empty() {
        return Err("invalid restart policy format: no policy provided before colon".into());
    }
    let maximum_retry_count = match count {
        "" => 0,
        count => parse_int(count).map_err(|_| {
            "invalid restart policy format: maximum retry count must be an integer".to_owned()
        })?,
    };
    Ok(cais_types::api::RestartPolicy {
        name: name.to_owned(),
        maximum_retry_count,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ulimits() {
        let limit = ulimit("nofile=1024:2048").unwrap();
        assert_eq!(
            (limit.name.as_str(), limit.soft, limit.hard),
            ("nofile", 1024, 2048)
        );
        assert_eq!(ulimit("core=-1").unwrap().hard, -1);
        // Recorded from docker 28.2.2.
        let cases = [
            ("x", "invalid ulimit argument: x"),
            ("foo=1", "invalid ulimit type: foo"),
            (
                "nofile=x",
                "strconv.ParseInt: parsing \"x\": invalid syntax",
            ),
            (
                "nofile=5:3",
                "ulimit soft limit must be less than or equal to hard limit: 5 > 3",
            ),
            (
                "nofile=1:2:3",
                "too many limit value arguments - 1:2:3, can only have up to two, `soft[:hard]`",
            ),
        ];
        for (text, want) in cases {
            assert_eq!(ulimit(text).unwrap_err(), want);
        }
    }

    #[test]
    fn processors() {
        assert_eq!(nano_cpus("1.5"), Ok(1_500_000_000));
        assert_eq!(nano_cpus(".25"), Ok(250_000_000));
        assert_eq!(nano_cpus("1/2"), Ok(500_000_000));
        assert_eq!(
            nano_cpus("1e").unwrap_err(),
            "failed to parse 1e as a rational number"
        );
        assert_eq!(
            nano_cpus("0.0000000001").unwrap_err(),
            "value is too precise"
        );
    }

    #[test]
    fn rates_and_rules() {
        assert_eq!(byte_rate("/dev/sda:1mb").unwrap().rate, 1 << 20);
        assert_eq!(operation_rate("/dev/sda:100").unwrap().rate, 100);
        assert_eq!(
            weight("/dev/x:5").unwrap_err(),
            "invalid weight for device: /dev/x:5"
        );
        assert_eq!(byte_rate("x").unwrap_err(), "bad format: x");
        assert!(check_cgroup_rule("c 1:* rwm").is_ok());
        assert_eq!(
            check_cgroup_rule("x").unwrap_err(),
            "invalid device cgroup format 'x'"
        );
    }

    #[test]
    fn restart_policies() {
        let policy = restart_policy("on-failure:3").unwrap();
        assert_eq!(
            (policy.name.as_str(), policy.maximum_retry_count),
            ("on-failure", 3)
        );
        assert!(restart_policy(":1").is_err());
        assert!(restart_policy("on-failure:x").is_err());
    }
}
