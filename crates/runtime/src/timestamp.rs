//! UTC times as Docker writes and reads them in logs: RFC 3339 with nanoseconds, without a time zone data base.

use rustix::time::{ClockId, clock_gettime};

const SECONDS_PER_DAY: i64 = 86_400;

/// A moment: seconds since 1970-01-01 UTC and nanoseconds within that second. Ordered by time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp {
    pub seconds: i64,
    pub nanoseconds: u32,
}

impl Timestamp {
    /// Reads the wall clock.
    pub fn now() -> Self {
        let time = clock_gettime(ClockId::Realtime);
        Self {
            seconds: time.tv_sec,
            nanoseconds: u32::try_from(time.tv_nsec).unwrap_or(0),
        }
    }

    /// `2006-01-02T15:04:05.000000000Z`: always nine digits, 30 bytes for the years 0 to 9999.
    pub fn fixed(self) -> [u8; 30] {
        let days = self.seconds.div_euclid(SECONDS_PER_DAY);
        let second = self.seconds.rem_euclid(SECONDS_PER_DAY);
        let (year, month, day) = civil_from_days(days);
        let mut text = *b"0000-00-00T00:00:00.000000000Z";
        digits(&mut text[0..4], year.clamp(0, 9999).unsigned_abs());
        digits(&mut text[5..7], month);
        digits(&mut text[8..10], day);
        digits(&mut text[11..13], (second / 3600).unsigned_abs());
        digits(&mut text[14..16], (second / 60 % 60).unsigned_abs());
        digits(&mut text[17..19], (second % 60).unsigned_abs());
        digits(&mut text[20..29], u64::from(self.nanoseconds));
        text
    }

    /// Go's `time.RFC3339Nano`: as [`Timestamp::fixed`], without trailing zeros of the fraction.
    pub fn push_rfc3339_nano(self, out: &mut Vec<u8>) {
        let text = self.fixed();
        let mut end = 29;
        while text[end - 1] == b'0' {
            end -= 1;
        }
        if text[end - 1] == b'.' {
            end -= 1;
        }
        out.extend_from_slice(&text[..end]);
        out.push(b'Z');
    }

    /// Reads RFC 3339 with any fraction and `Z` or a numeric zone; `None` for anything else.
    pub fn parse(text: &[u8]) -> Option<Self> {
        if text.len() < 20
            || text[4] != b'-'
            || text[7] != b'-'
            || !matches!(text[10], b'T' | b't' | b' ')
            || text[13] != b':'
            || text[16] != b':'
        {
            return None;
        }
        let days = days_from_civil(
            number(&text[0..4])?,
            number(&text[5..7])?,
            number(&text[8..10])?,
        );
        let seconds = days * SECONDS_PER_DAY
            + number(&text[11..13])? * 3600
            + number(&text[14..16])? * 60
            + number(&text[17..19])?;
        let (nanoseconds, zone) = fraction(&text[19..])?;
        Some(Self {
            seconds: seconds - zone_offset(zone)?,
            nanoseconds,
        })
    }
}

fn fraction(text: &[u8]) -> Option<(u32, &[u8])> {
    let Some(rest) = text.strip_prefix(b".") else {
        return Some((0, text));
    };
    let length = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if length == 0 {
        return None;
    }
    let digits = rest[..length].iter().chain(std::iter::repeat(&b'0'));
    let nanoseconds = digits
        .take(9)
        .fold(0, |value, digit| value * 10 + u32::from(digit - b'0'));
    Some((nanoseconds, &rest[length..]))
}

/// Seconds east of UTC.
fn zone_offset(zone: &[u8]) -> Option<i64> {
    match zone {
        b"Z" | b"z" => Some(0),
        [sign @ (b'+' | b'-'), hour @ .., b':', m1, m2] if hour.len() == 2 => {
            let offset = number(hour)? * 3600 + number(&[*m1, *m2])? * 60;
            Some(if *sign == b'-' { -offset } else { offset })
        }
        _ => None,
    }
}

fn number(text: &[u8]) -> Option<i64> {
    text.iter().try_fold(0, |value, byte| {
        byte.is_ascii_digit()
            .then(|| value * 10 + i64::from(byte - b'0'))
    })
}

fn digits(out: &mut [u8], mut value: u64) {
    for byte in out.iter_mut().rev() {
        *byte = b'0' + u8::try_from(value % 10).unwrap_or(0);
        value /= 10;
    }
}

/// Year, month (1 to 12) and day of a day number in the proleptic Gregorian calendar, day 0 being 1970-01-01.
fn civil_from_days(days: i64) -> (i64, u64, u64) {
    // Years start in March here, so that the leap day is the last day of a year; 146,097 days are 400 years.
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 {
        march_month + 3
    } else {
        march_month - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month.unsigned_abs(), day.unsigned_abs())
}

fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let march_month = (month + 9) % 12;
    let day_of_year = (153 * march_month + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nano(seconds: i64, nanoseconds: u32) -> String {
        let mut out = Vec::new();
        Timestamp {
            seconds,
            nanoseconds,
        }
        .push_rfc3339_nano(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn times_print_as_go_prints_them() {
        assert_eq!(nano(0, 0), "1970-01-01T00:00:00Z");
        assert_eq!(nano(951_782_400, 120_000_000), "2000-02-29T00:00:00.12Z");
        assert_eq!(
            nano(1_767_323_045, 123_456_789),
            "2026-01-02T03:04:05.123456789Z"
        );
        let fixed = Timestamp {
            seconds: 1_709_251_199,
            nanoseconds: 5,
        }
        .fixed();
        assert_eq!(&fixed, b"2024-02-29T23:59:59.000000005Z");
    }

    #[test]
    fn parsing_undoes_printing_and_knows_zones() {
        for days in (-100_000..100_000).step_by(37) {
            let time = Timestamp {
                seconds: days * SECONDS_PER_DAY + 4242,
                nanoseconds: 7_000,
            };
            assert_eq!(Timestamp::parse(&time.fixed()), Some(time));
        }
        let zoned = Timestamp::parse(b"2026-01-02T05:04:05.5+02:00").unwrap();
        assert_eq!(
            zoned,
            Timestamp::parse(b"2026-01-02T03:04:05.500000000Z").unwrap()
        );
        for bad in [
            "",
            "2026-01-02T03:04:05",
            "2026-01-02T03:04:05.Z",
            "2026-0x-02T03:04:05Z",
        ] {
            assert_eq!(Timestamp::parse(bad.as_bytes()), None, "{bad}");
        }
    }
}
