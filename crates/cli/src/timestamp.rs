//! Times as `--since` and `--until` take them: seconds since the epoch, RFC 3339, a date, or how long ago.

use cais_types::human::parse_go_duration;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

/// Seconds since the epoch with nanoseconds, as the API takes them. What is no time is passed on as it is: the daemon says
/// what is wrong with it.
pub fn parse(text: &str, now: Timestamp) -> String {
    if text.is_empty() {
        return String::new();
    }
    if text != "0"
        && let Some(nanoseconds) = parse_go_duration(text)
    {
        let then = now
            .checked_sub(SignedDuration::from_nanos(nanoseconds))
            .unwrap_or(now);
        return then.as_second().to_string();
    }
    if let Ok(time) = text.parse::<Timestamp>() {
        return seconds(time);
    }
    let civil = text
        .parse::<DateTime>()
        .ok()
        .or_else(|| text.parse::<jiff::civil::Date>().ok().map(Into::into));
    match civil.and_then(|civil: DateTime| civil.to_zoned(TimeZone::system()).ok()) {
        Some(time) => seconds(time.timestamp()),
        None => text.to_owned(),
    }
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
        assert_eq!(parse("", now), "");
        assert_eq!(parse("0", now), "0");
        assert_eq!(parse("1700000000", now), "1700000000");
        assert_eq!(parse("1m", now), "1704164585");
        assert_eq!(parse("2024-01-02T03:04:05Z", now), "1704164645.000000000");
        assert_eq!(
            parse("2024-01-02T03:04:05.25+01:00", now),
            "1704161045.250000000"
        );
        assert_eq!(parse("nonsense", now), "nonsense");
    }
}
