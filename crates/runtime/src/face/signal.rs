//! Names of signals (signal(7)).

use super::{Result, said};

const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
    "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
    "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

pub const KILL: i32 = 9;
pub const CHILD: i32 = 17;
pub const WINDOW_CHANGE: i32 = 28;

/// A number, or a name with or without `SIG` in any case; real-time ones as `RTMIN+n` and `RTMAX-n`.
pub fn parse(text: &str) -> Result<i32> {
    const FIRST: i32 = 34;
    const LAST: i32 = 64;
    let plain = text.trim_start_matches('-');
    if let Ok(number) = plain.parse::<i32>() {
        return Ok(number);
    }
    let upper = plain.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(index) = NAMES.iter().position(|known| *known == name) {
        return Ok(i32::try_from(index).unwrap_or(0) + 1);
    }
    let offset = |prefix: &str, sign: char| -> Option<i32> {
        let rest = name.strip_prefix(prefix)?;
        match rest.strip_prefix(sign) {
            None => rest.is_empty().then_some(0),
            Some(number) => number.parse().ok(),
        }
    };
    let number = match name {
        "IOT" => Some(6),
        "POLL" => Some(29),
        _ => offset("RTMIN", '+')
            .map(|number| FIRST + number)
            .or_else(|| offset("RTMAX", '-').map(|number| LAST - number)),
    };
    match number.filter(|number| (1..=LAST).contains(number)) {
        Some(number) => Ok(number),
        None => said(format!("unknown signal {text:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn names_and_numbers_are_understood() {
        for (text, number) in [
            ("9", 9),
            ("KILL", 9),
            ("sigterm", 15),
            ("SIGWINCH", 28),
            ("SYS", 31),
            ("RTMIN", 34),
            ("SIGRTMIN+3", 37),
            ("RTMAX-1", 63),
        ] {
            assert_eq!(parse(text).unwrap(), number, "{text}");
        }
        assert!(parse("NOTHING").is_err());
        assert!(parse("RTMIN+99").is_err());
    }
}
