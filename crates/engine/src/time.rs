//! Points in time as the Engine API writes them.

use cais_types::{Error, Result};
use jiff::Timestamp;

/// Now, RFC 3339 with nanoseconds, UTC, as Go's `RFC3339Nano` prints it: no zeros at the end.
pub fn now() -> String {
    Timestamp::now().to_string()
}

/// How long ago a point in time was; zero when it does not parse or lies ahead.
pub fn since(text: &str) -> std::time::Duration {
    let Ok(then) = text.parse::<Timestamp>() else {
        return std::time::Duration::ZERO;
    };
    Timestamp::now()
        .duration_since(then)
        .try_into()
        .unwrap_or_default()
}

/// Seconds from one point in time to another; 0 when either does not parse.
pub fn seconds_between(from: &str, to: &str) -> i64 {
    match (from.parse::<Timestamp>(), to.parse::<Timestamp>()) {
        (Ok(from), Ok(to)) => to.duration_since(from).as_secs().max(0),
        _ => 0,
    }
}

/// Reads a point in time of a filter: RFC 3339, a date, Unix seconds, or a Go duration (`24h`, `1h30m`) before now.
/// Answers RFC 3339.
///
/// # Errors
/// Class Invalid: it is none of these.
pub fn parse_moment(text: &str) -> Result<String> {
    let invalid = || Error::invalid(format!("invalid value for filter: {text:?} is not a time"));
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time.to_string());
    }
    if let Ok(date) = text.parse::<jiff::civil::DateTime>() {
        let zoned = date
            .to_zoned(jiff::tz::TimeZone::UTC)
            .map_err(|_| invalid())?;
        return Ok(zoned.timestamp().to_string());
    }
    if let Ok(seconds) = text.parse::<f64>()
        && let Ok(time) =
            Timestamp::UNIX_EPOCH.checked_add(std::time::Duration::from_secs_f64(seconds.max(0.0)))
    {
        return Ok(time.to_string());
    }
    let ago = text
        .parse::<jiff::SignedDuration>()
        .map_err(|_| invalid())?;
    Ok(Timestamp::now()
        .checked_sub(ago)
        .map_err(|_| invalid())?
        .to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_in_four_ways() {
        assert_eq!(parse_moment("1700000000").unwrap(), "2023-11-14T22:13:20Z");
        assert_eq!(parse_moment("2023-11-14").unwrap(), "2023-11-14T00:00:00Z");
        assert_eq!(
            parse_moment("2023-11-14T22:13:20.5Z").unwrap(),
            "2023-11-14T22:13:20.5Z"
        );
        let ago = since(&parse_moment("1h30m").unwrap()).as_secs();
        assert!((5400..5460).contains(&ago), "{ago}");
        assert!(parse_moment("soon").is_err());
    }
}
