//! What stands in the cells of tables: ids, times, sizes and labels as Docker's command line shows them.

use std::collections::BTreeMap;
use std::sync::Arc;

use cais_types::human::{human_duration, human_size, human_size_with_precision};
use gotmpl::Value;
use jiff::Timestamp;
use jiff::tz::TimeZone;

/// A text as a template value.
pub fn text(text: impl Into<Arc<str>>) -> Value {
    Value::String(text.into())
}

/// The first twelve characters of an id, without its algorithm.
pub fn short_id(id: &str) -> String {
    let id = id.split_once(':').map_or(id, |(_, hex)| hex);
    id.chars().take(12).collect()
}

/// An id, shortened or not.
pub fn id(id: &str, shorten: bool) -> Value {
    if shorten {
        text(short_id(id))
    } else {
        text(id)
    }
}

/// At most `count` characters, the last one an ellipsis if something is missing.
pub fn ellipsis(text: &str, count: usize) -> String {
    if text.chars().count() <= count {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(count.saturating_sub(1)).collect();
    short.push('…');
    short
}

/// `3 years ago` of a time in Unix seconds.
pub fn ago(seconds: i64, now: Timestamp) -> String {
    format!("{} ago", human_duration(now.as_second() - seconds))
}

/// `2024-01-02 03:04:05 +0000 UTC`, in the local zone, of a time in Unix seconds, as Go prints times.
pub fn local_time(seconds: i64) -> String {
    let time = Timestamp::from_second(seconds)
        .unwrap_or(Timestamp::UNIX_EPOCH)
        .to_zoned(TimeZone::system());
    time.strftime("%Y-%m-%d %H:%M:%S %z %Z").to_string()
}

/// An RFC 3339 time as Go prints it: with as many digits of the second as it has, and its own zone.
pub fn go_time(rfc3339: &str) -> String {
    let Ok(time) = rfc3339.parse::<Timestamp>() else {
        return rfc3339.to_owned();
    };
    let offset = rfc3339
        .char_indices()
        .rev()
        .find(|(at, letter)| *at > 10 && matches!(letter, '+' | '-'))
        .map(|(at, _)| rfc3339[at..].replace(':', ""));
    let civil = rfc3339.get(..19).unwrap_or(rfc3339).replace('T', " ");
    let mut digits = format!("{:09}", time.subsec_nanosecond());
    digits.truncate(digits.trim_end_matches('0').len());
    let fraction = if digits.is_empty() {
        digits
    } else {
        format!(".{digits}")
    };
    match offset {
        Some(offset) => format!("{civil}{fraction} {offset} {offset}"),
        None => format!("{civil}{fraction} +0000 UTC"),
    }
}

/// A size with three digits: `1.98MB`.
pub fn size3(bytes: i64) -> String {
    human_size_with_precision(float(bytes), 3)
}

/// A size with four digits: `1.982MB`.
pub fn size4(bytes: i64) -> String {
    human_size(float(bytes))
}

#[expect(clippy::cast_precision_loss, reason = "four digits are shown")]
fn float(bytes: i64) -> f64 {
    bytes as f64
}

/// `a=b,c=d`.
pub fn labels(labels: &BTreeMap<String, String>) -> String {
    let pairs: Vec<String> = labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    pairs.join(",")
}

/// Orders names as people do: numbers inside them count as numbers.
pub fn natural_order(a: &str, b: &str) -> std::cmp::Ordering {
    let (mut a, mut b) = (a, b);
    loop {
        let (Some(x), Some(y)) = (a.chars().next(), b.chars().next()) else {
            return a.len().cmp(&b.len());
        };
        if x.is_ascii_digit() && y.is_ascii_digit() {
            let (left, a_rest) = digits(a);
            let (right, b_rest) = digits(b);
            let (l, r) = (left.trim_start_matches('0'), right.trim_start_matches('0'));
            let order = (l.len(), l, left.len()).cmp(&(r.len(), r, right.len()));
            if order.is_ne() {
                return order;
            }
            (a, b) = (a_rest, b_rest);
        } else if x == y {
            (a, b) = (&a[x.len_utf8()..], &b[y.len_utf8()..]);
        } else {
            return x.cmp(&y);
        }
    }
}

fn digits(text: &str) -> (&str, &str) {
    text.split_at(
        text.find(|c: char| !c.is_ascii_digit())
            .unwrap_or(text.len()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_as_docker_shows_them() {
        assert_eq!(short_id("sha256:db9768ec64901bb0"), "db9768ec6490");
        assert_eq!(short_id("<missing>"), "<missing>");
        assert_eq!(ellipsis("abcdef", 4), "abc…");
        assert_eq!(
            go_time("2026-11-21T04:56:17.4016591Z"),
            "2026-11-21 04:56:17.4016591 +0000 UTC"
        );
        assert_eq!(
            go_time("2026-11-21T04:56:17+02:00"),
            "2026-11-21 04:56:17 +0200 +0200"
        );
        assert_eq!(
            (size3(1_982_498), size4(1_982_498)),
            ("1.98MB".into(), "1.982MB".into())
        );
    }

    #[test]
    fn numbers_in_names_count() {
        let mut names = ["v10", "v2", "a", "v2b", "V1", "v02"];
        names.sort_by(|a, b| natural_order(a, b));
        assert_eq!(names, ["V1", "a", "v2", "v2b", "v02", "v10"]);
    }
}
