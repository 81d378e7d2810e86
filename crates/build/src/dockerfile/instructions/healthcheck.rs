//! HEALTHCHECK.

use cais_types::human::parse_go_duration;

use super::{Request, Takes, at_least_one, command_line, split};
use crate::dockerfile::flags::Flags;
use crate::dockerfile::instruction::Healthcheck;

/// The shortest duration that is not 0, in nanoseconds.
const MINIMUM: i64 = 1_000_000;

pub(super) fn healthcheck(request: &Request<'_>) -> Result<Healthcheck, String> {
    if request.rest.is_empty() {
        return Err(at_least_one("HEALTHCHECK"));
    }
    let (kind, argument) = split::halves(request.rest).unwrap_or((request.rest, ""));
    let argument = argument.trim();
    let kind = kind.to_ascii_uppercase();
    if kind == "NONE" {
        request.no_flags()?;
        if !argument.is_empty() {
            return Err("HEALTHCHECK NONE takes no arguments".to_owned());
        }
        let test = vec![kind];
        return Ok(Healthcheck {
            test,
            ..Healthcheck::default()
        });
    }
    let flags = request.flags(&[
        ("interval", Takes::Value),
        ("timeout", Takes::Value),
        ("start-period", Takes::Value),
        ("start-interval", Takes::Value),
        ("retries", Takes::Value),
    ])?;
    if kind != "CMD" {
        return Err(format!("Unknown type {kind:?} in HEALTHCHECK (try CMD)"));
    }
    let command = command_line(argument, &[])?;
    if command.words.is_empty() {
        return Err("Missing command after HEALTHCHECK CMD".to_owned());
    }
    let form = if command.shell { "CMD-SHELL" } else { "CMD" };
    Ok(Healthcheck {
        test: [vec![form.to_owned()], command.words].concat(),
        interval: duration(&flags, "interval")?,
        timeout: duration(&flags, "timeout")?,
        start_period: duration(&flags, "start-period")?,
        start_interval: duration(&flags, "start-interval")?,
        retries: retries(&flags)?,
    })
}

fn duration(flags: &Flags, name: &str) -> Result<i64, String> {
    let Some(text) = flags.text(name) else {
        return Ok(0);
    };
    let nanoseconds =
        parse_go_duration(&text).ok_or_else(|| format!("time: invalid duration {text:?}"))?;
    if nanoseconds != 0 && nanoseconds < MINIMUM {
        return Err(format!("Interval {name:?} cannot be less than 1ms"));
    }
    Ok(nanoseconds)
}

fn retries(flags: &Flags) -> Result<i64, String> {
    let Some(text) = flags.text("retries") else {
        return Ok(0);
    };
    let number: i32 = text
        .parse()
        .map_err(|_| format!("strconv.ParseInt: parsing {text:?}: invalid syntax"))?;
    if number < 0 {
        return Err(format!("--retries cannot be negative ({number})"));
    }
    Ok(i64::from(number))
}
