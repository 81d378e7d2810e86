//! Flags as Docker's command line reads them (Go's pflag): clusters of short flags, `--flag=value`, `--bool=false`,
//! repeated lists, and its error texts. Tables of flags are constants beside their verb, so that nothing is built at start.

use std::fmt::Write as _;

use cais_types::human::parse_go_duration;
use cais_types::size::ram_in_bytes;

/// Checks a value while flags are read; the error goes behind `invalid argument "x" for "--flag" flag: `.
pub type Check = fn(&str) -> Result<(), String>;

/// One flag of a verb.
#[derive(Clone, Copy)]
pub struct Flag {
    /// Without dashes.
    pub long: &'static str,
    /// Without its dash.
    pub short: Option<char>,
    /// The type as help shows it; empty for a switch. It decides how values are checked.
    pub kind: &'static str,
    /// One line of help.
    pub help: &'static str,
    /// What help shows as default, with its quotes; empty for nothing.
    pub default: &'static str,
    /// Left out of help.
    pub hidden: bool,
    /// The minor API version a daemon needs for it, 0 for any.
    pub since: u16,
    check: Option<Check>,
    stores: Option<&'static str>,
}

/// A switch, for the tables of verbs.
pub const fn switch(long: &'static str, help: &'static str) -> Flag {
    flag(long, "", help)
}

/// A flag with a value, for the tables of verbs.
pub const fn flag(long: &'static str, kind: &'static str, help: &'static str) -> Flag {
    Flag {
        long,
        short: None,
        kind,
        help,
        default: "",
        hidden: false,
        since: 0,
        check: None,
        stores: None,
    }
}

impl Flag {
    /// Gives the flag a letter.
    pub const fn short(mut self, short: char) -> Self {
        self.short = Some(short);
        self
    }

    /// Sets what help shows as default; strings with their quotes.
    pub const fn default(mut self, shown: &'static str) -> Self {
        self.default = shown;
        self
    }

    /// Leaves the flag out of help.
    pub const fn hidden(mut self) -> Self {
        self.hidden = true;
        self
    }

    /// Needs a daemon of this minor API version.
    pub const fn since(mut self, minor: u16) -> Self {
        self.since = minor;
        self
    }

    /// Checks every value by a function.
    pub const fn check(mut self, check: Check) -> Self {
        self.check = Some(check);
        self
    }

    /// Keeps values under another flag's name: for second names.
    pub const fn same_as(mut self, long: &'static str) -> Self {
        self.stores = Some(long);
        self
    }

    fn key(&self) -> &'static str {
        match self.stores {
            Some(long) => long,
            None => self.long,
        }
    }

    fn is_switch(&self) -> bool {
        self.kind.is_empty()
    }

    /// The name as error texts show it: `-m, --memory`.
    fn shown(&self) -> String {
        match self.short {
            Some(short) => format!("-{short}, --{}", self.long),
            None => format!("--{}", self.long),
        }
    }

    fn checked(&self, value: &str) -> Result<(), String> {
        let verdict = match self.kind {
            "" => parse_bool(value).map(drop),
            "int" => parse_int(value).map(drop),
            "uint" => parse_uint(value, 64).map(drop),
            "uint16" => parse_uint(value, 16).map(drop),
            "duration" => match parse_go_duration(value) {
                Some(_) => Ok(()),
                None => Err(format!("time: invalid duration {value:?}")),
            },
            "bytes" if value != "-1" || !self.long.contains("swap") => ram_in_bytes(value)
                .map(drop)
                .map_err(|error| error.to_string()),
            _ => Ok(()),
        };
        verdict
            .and_then(|()| self.check.map_or(Ok(()), |check| check(value)))
            .map_err(|cause| {
                format!(
                    "invalid argument {value:?} for \"{}\" flag: {cause}",
                    self.shown()
                )
            })
    }
}

/// Reads a number as Go's `strconv.ParseInt` with base 0 does.
pub fn parse_int(text: &str) -> Result<i64, String> {
    let error = |what: &str| format!("strconv.ParseInt: parsing {text:?}: {what}");
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    match radix(digits) {
        Some(value) => i64::try_from(value)
            .map(|value| sign * value)
            .map_err(|_| error("value out of range")),
        None => Err(error("invalid syntax")),
    }
}

fn parse_uint(text: &str, bits: u32) -> Result<u64, String> {
    let error = |what: &str| format!("strconv.ParseUint: parsing {text:?}: {what}");
    match radix(text) {
        Some(value) if bits < 64 && value >> bits != 0 => Err(error("value out of range")),
        Some(value) => Ok(value),
        None => Err(error("invalid syntax")),
    }
}

fn radix(digits: &str) -> Option<u64> {
    let lower = digits.to_ascii_lowercase();
    let (base, rest) = match lower.get(..2) {
        Some("0x") => (16, &lower[2..]),
        Some("0b") => (2, &lower[2..]),
        Some("0o") => (8, &lower[2..]),
        _ if lower.len() > 1 && lower.starts_with('0') => (8, &lower[1..]),
        _ => (10, lower.as_str()),
    };
    if rest.starts_with(['+', '-']) {
        return None;
    }
    u64::from_str_radix(rest, base).ok()
}

/// Reads a truth value as Go's `strconv.ParseBool` does.
pub fn parse_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!(
            "strconv.ParseBool: parsing {text:?}: invalid syntax"
        )),
    }
}

/// The flags and arguments of one invocation.
#[derive(Clone, Debug, Default)]
pub struct Parsed {
    values: Vec<(&'static str, String)>,
    /// What is not a flag.
    pub positionals: Vec<String>,
    /// Whether help was asked for.
    pub help: bool,
    /// Whether help was asked for by `-h`, which is deprecated.
    pub short_help: bool,
}

impl Parsed {
    /// Whether a flag was given.
    pub fn changed(&self, long: &str) -> bool {
        self.values.iter().any(|(name, _)| *name == long)
    }

    /// The last value of a flag.
    pub fn value(&self, long: &str) -> Option<&str> {
        let found = self.values.iter().rev().find(|(name, _)| *name == long);
        found.map(|(_, value)| value.as_str())
    }

    /// The last value of a flag, or nothing.
    pub fn string(&self, long: &str) -> String {
        self.value(long).unwrap_or_default().to_owned()
    }

    /// Whether a switch is on.
    pub fn switch(&self, long: &str) -> bool {
        self.switch_or(long, false)
    }

    /// Whether a switch is on, with its default.
    pub fn switch_or(&self, long: &str, default: bool) -> bool {
        self.value(long)
            .map_or(default, |value| parse_bool(value).unwrap_or(default))
    }

    /// A number, with its default.
    pub fn int(&self, long: &str, default: i64) -> i64 {
        self.value(long)
            .map_or(default, |value| parse_int(value).unwrap_or(default))
    }

    /// A size in bytes, 0 when not given; -1 stands for no limit where it is accepted.
    pub fn bytes(&self, long: &str) -> i64 {
        match self.value(long) {
            Some("-1") => -1,
            Some(value) => ram_in_bytes(value).unwrap_or(0),
            None => 0,
        }
    }

    /// A duration in nanoseconds, 0 when not given.
    pub fn duration(&self, long: &str) -> i64 {
        self.value(long).and_then(parse_go_duration).unwrap_or(0)
    }

    /// Every value of a repeated flag.
    pub fn list(&self, long: &str) -> Vec<String> {
        let found = self.values.iter().filter(|(name, _)| *name == long);
        found.map(|(_, value)| value.clone()).collect()
    }
}

/// The given flags that need a newer daemon than API version `1.minor`, and the minor version each needs.
pub fn too_new(tables: FlagTables, parsed: &Parsed, minor: u16) -> Vec<(&'static str, u16)> {
    needing_versions(tables, parsed)
        .filter(|flag| flag.since > minor)
        .map(|flag| (flag.long, flag.since))
        .collect()
}

/// The given flags that not every daemon knows.
pub fn needing_versions<'a>(
    tables: FlagTables,
    parsed: &'a Parsed,
) -> impl Iterator<Item = &'static Flag> + 'a {
    tables
        .iter()
        .flat_map(|table| table.iter())
        .filter(|flag| flag.since > 0 && parsed.changed(flag.long))
}

/// A verb's flags, in groups that verbs share.
pub type FlagTables = &'static [&'static [Flag]];

/// Reads arguments. `interspersed` lets flags follow arguments; without it the first argument ends them.
///
/// # Errors
/// The text pflag prints for an unknown flag, a missing or a bad value.
pub fn parse(tables: FlagTables, args: &[String], interspersed: bool) -> Result<Parsed, String> {
    let mut parsed = Parsed::default();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        if arg == "--" {
            parsed.positionals.extend(args.cloned());
            break;
        }
        if let Some(long) = arg.strip_prefix("--") {
            parse_long(tables, long, arg, &mut args, &mut parsed)?;
        } else if arg.len() > 1 && arg.starts_with('-') {
            parse_short(tables, &arg[1..], &mut args, &mut parsed)?;
        } else {
            parsed.positionals.push(arg.clone());
            if !interspersed {
                parsed.positionals.extend(args.cloned());
                break;
            }
        }
    }
    Ok(parsed)
}

fn parse_long(
    tables: FlagTables,
    text: &str,
    arg: &str,
    args: &mut std::slice::Iter<'_, String>,
    parsed: &mut Parsed,
) -> Result<(), String> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (text, None),
    };
    if name.is_empty() || name.starts_with('-') {
        return Err(format!("bad flag syntax: {arg}"));
    }
    let Some(flag) = tables
        .iter()
        .flat_map(|table| table.iter())
        .find(|flag| flag.long == name)
    else {
        if name == "help" {
            parsed.help = true;
            return Ok(());
        }
        return Err(format!("unknown flag: --{name}"));
    };
    let value = match value {
        Some(value) => value,
        None if flag.is_switch() => "true".to_owned(),
        None => args
            .next()
            .cloned()
            .ok_or_else(|| format!("flag needs an argument: --{name}"))?,
    };
    flag.checked(&value)?;
    parsed.values.push((flag.key(), value));
    Ok(())
}

fn parse_short(
    tables: FlagTables,
    cluster: &str,
    args: &mut std::slice::Iter<'_, String>,
    parsed: &mut Parsed,
) -> Result<(), String> {
    let mut rest = cluster;
    while let Some(letter) = rest.chars().next() {
        let here = rest;
        rest = &rest[letter.len_utf8()..];
        let flags = tables.iter().flat_map(|table| table.iter());
        let Some(flag) = flags.clone().find(|flag| flag.short == Some(letter)) else {
            if letter == 'h' {
                parsed.help = true;
                parsed.short_help = true;
                continue;
            }
            return Err(format!("unknown shorthand flag: {letter:?} in -{here}"));
        };
        let value = if let Some(value) = rest.strip_prefix('=') {
            rest = "";
            value.to_owned()
        } else if flag.is_switch() {
            "true".to_owned()
        } else if !rest.is_empty() {
            std::mem::take(&mut rest).to_owned()
        } else {
            args.next()
                .cloned()
                .ok_or_else(|| format!("flag needs an argument: {letter:?} in -{here}"))?
        };
        flag.checked(&value)?;
        parsed.values.push((flag.key(), value));
    }
    Ok(())
}

/// The flags part of a help text, `width` characters wide.
pub fn usages(tables: FlagTables, width: usize) -> String {
    let all: Vec<Flag> = tables
        .iter()
        .flat_map(|table| table.iter().copied())
        .collect();
    usages_of(&all, width)
}

/// [`usages`] of one list of flags.
pub fn usages_of(flags: &[Flag], width: usize) -> String {
    let mut flags: Vec<&Flag> = flags.iter().filter(|flag| !flag.hidden).collect();
    flags.sort_by_key(|flag| flag.long);
    let lefts: Vec<String> = flags.iter().map(|flag| left_column(flag)).collect();
    let column = lefts.iter().map(String::len).max().unwrap_or(0) + 3;
    let mut text = String::new();
    for (flag, left) in flags.iter().zip(lefts) {
        let mut help = flag.help.to_owned();
        if !flag.default.is_empty() {
            let _ = write!(help, " (default {})", flag.default);
        }
        let _ = writeln!(text, "{left:column$}{}", wrap(&help, column, width));
    }
    text
}

fn left_column(flag: &Flag) -> String {
    let mut left = match flag.short {
        Some(short) => format!("  -{short}, --{}", flag.long),
        None => format!("      --{}", flag.long),
    };
    if !flag.kind.is_empty() {
        left.push(' ');
        left.push_str(flag.kind);
    }
    left
}

/// Breaks a text at blanks so that it fits between `indent` and `width`; a last word may stick out by five.
fn wrap(text: &str, mut indent: usize, width: usize) -> String {
    const SLOP: usize = 5;
    let mut out = String::new();
    let mut room = width.saturating_sub(indent);
    if room < 24 {
        indent = 16;
        room = width.saturating_sub(indent);
        out.push('\n');
        out.extend(std::iter::repeat_n(' ', indent));
    }
    let line_break = format!("\n{}", " ".repeat(indent));
    if room < 24 {
        return text.replace('\n', &line_break);
    }
    let mut rest = text;
    let mut first = true;
    while first || !rest.is_empty() {
        let (line, left) = split_line(rest, room - SLOP, SLOP);
        if !first {
            out.push_str(&line_break);
        }
        out.push_str(&line.replace('\n', &line_break));
        rest = left;
        first = false;
    }
    out
}

fn split_line(text: &str, at: usize, slop: usize) -> (&str, &str) {
    if at + slop > text.len() {
        return (text, "");
    }
    let mut end = at;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let blank = match text[..end].rfind([' ', '\t', '\n']) {
        None | Some(0) => return (text, ""),
        Some(blank) => blank,
    };
    let cut = match text[..end].rfind('\n') {
        Some(newline) if newline > 0 && newline < blank => newline,
        _ => blank,
    };
    (&text[..cut], &text[cut + 1..])
}

#[cfg(test)]
#[path = "flags_tests.rs"]
mod tests;
