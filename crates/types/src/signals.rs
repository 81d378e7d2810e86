//! Signal names and numbers, as `docker kill` and `STOPSIGNAL` take them (signal(7), Linux on x86-64 and arm64).

use crate::{Error, Result};

/// Number of SIGKILL.
pub const KILL: i32 = 9;
/// Number of SIGTERM, the stop signal of a container that names none.
pub const TERM: i32 = 15;

const REALTIME_MIN: i32 = 34;
const REALTIME_MAX: i32 = 64;

const NAMES: [(&str, i32); 33] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("IOT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("PWR", 30),
    ("SYS", 31),
];

/// Reads `9`, `KILL`, `SIGKILL`, `sigkill`, `RTMIN+3` or `SIGRTMAX-2`.
///
/// # Errors
/// `invalid signal: x`.
pub fn parse(text: &str) -> Result<i32> {
    number(text).ok_or_else(|| Error::invalid(format!("invalid signal: {text}")))
}

fn number(text: &str) -> Option<i32> {
    if let Ok(number) = text.parse::<i32>() {
        return (1..=REALTIME_MAX).contains(&number).then_some(number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some((_, number)) = NAMES.iter().find(|(known, _)| *known == name) {
        return Some(*number);
    }
    let number = match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
        (Some(""), _) => REALTIME_MIN,
        (_, Some("")) => REALTIME_MAX,
        (Some(up), _) => {
            REALTIME_MIN.checked_add(up.strip_prefix('+')?.parse::<u8>().ok()?.into())?
        }
        (_, Some(down)) => {
            REALTIME_MAX.checked_sub(down.strip_prefix('-')?.parse::<u8>().ok()?.into())?
        }
        _ => return None,
    };
    (REALTIME_MIN..=REALTIME_MAX)
        .contains(&number)
        .then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_read_by_number_and_name() {
        for (text, number) in [
            ("9", 9),
            ("KILL", 9),
            ("SIGTERM", 15),
            ("sigusr1", 10),
            ("RTMIN", 34),
            ("SIGRTMIN+3", 37),
            ("RTMAX-1", 63),
        ] {
            assert_eq!(parse(text).unwrap(), number, "{text}");
        }
        for bad in ["", "0", "65", "-9", "FOO", "RTMIN+31", "RTMAX-99", "SIG"] {
            assert_eq!(
                parse(bad).unwrap_err().to_string(),
                format!("invalid signal: {bad}")
            );
        }
    }
}
