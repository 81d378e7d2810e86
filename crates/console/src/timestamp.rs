//! Times as `--since` and `--until` take them: seconds since the epoch, RFC 3339, a date, or how long ago.

use cais_types::human::parse_go_duration;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

/// Seconds since the epoch with nanoseconds, as the API takes them.
///
/// # Errors
/// It is neither a time nor a duration.
pub fn parse(text: &str, now: Timestamp) -> Result<String, String> {
    if text.is_empty() || is_epoch_seconds(text) {
        return Ok(text.to_owned());
    }
    if let Some(nanoseconds) = parse_go_duration(text) {
        let then = now
            .checked_sub(SignedDuration::from_nanos(nanoseconds))
            .unwrap_or(now);
        return Ok(then.as_second().to_string());
    }
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(seconds(time));
    }
    let civil = text
        .parse::<DateTime>()
        .ok()
        .or_else(|| text.parse::<jiff::civil::Date>().ok().map(Into::into));
    match civil.and_then(|civil: DateTime| civil.to_zoned(TimeZone::system()).ok()) {
        Some(time) => Ok(seconds(time.timestamp())),
        None => Err(format!(
            "failed to parse value as time or duration: {text:?}"
        )),
    }
}

fn is_epoch_seconds(text: &str) -> bool {
    let (seconds, nanoseconds) = text.split_once('.').unwrap_or((text, "0"));
    seconds.parse::<i64>().is_ok() && nanoseconds.parse::<u64>().is_ok()
}

fn seconds(time: Timestamp) -> String {
    format!("{}.{:09}", time.as_second(), time.subsec_nanosecond())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let now: Timestamp = "2024-01-02T03:04:05.5Z".parse().unwrap();
        let parsed = |text: &str| parse(text, now).unwrap();
        assert_eq!(parsed(""), "");
        assert_eq!(parsed("0"), "0");
        assert_eq!(parsed("1700000000"), "1700000000");
        assert_eq!(parsed("1m"), "1704164585");
        assert_eq!(parsed("2024-01-02T03:04:05Z"), "1704164645.000000000");
        assert_eq!(
            parsed("2024-01-02T03:04:05.25+01:00"),
            "1704161045.250000000"
        );
        assert_eq!(parsed("1700000000.5"), "1700000000.5");
        assert_eq!(
            parse("nonsense", now).unwrap_err(),
            "failed to parse value as time or duration: \"nonsense\""
        );
    }
}
