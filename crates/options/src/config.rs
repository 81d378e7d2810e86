//! The portable part of the configuration: process, environment, labels, health check.

use cais_types::api::{ContainerConfig, HealthConfig};

use super::{Result, env, mount};
use cais_console::flags::Parsed;

/// Checks one `--attach`.
///
/// # Errors
/// It names no stream.
pub fn check_attach(text: &str) -> Result<()> {
    match text.to_ascii_lowercase().as_str() {
        "stdin" | "stdout" | "stderr" => Ok(()),
        _ => Err("valid streams are STDIN, STDOUT and STDERR".into()),
    }
}

/// Reads the flags of this part.
///
/// # Errors
/// Docker's text for the first bad one.
pub fn parse(args: &Parsed) -> Result<ContainerConfig> {
    let attach = args.list("attach");
    let attached = |stream: &str| attach.iter().any(|name| name.eq_ignore_ascii_case(stream));
    let interactive = args.switch("interactive");
    let (image, command) = match args.positionals.split_first() {
        Some((image, command)) => (image.clone(), command.to_vec()),
        None => (String::new(), Vec::new()),
    };
    let (_, anonymous) = mount::volumes(&args.list("volume"));
    let attach_stdin = attached("stdin") || interactive;
    Ok(ContainerConfig {
        hostname: args.string("hostname"),
        domainname: args.string("domainname"),
        user: args.string("user"),
        attach_stdin,
        attach_stdout: attach.is_empty() || attached("stdout"),
        attach_stderr: attach.is_empty() || attached("stderr"),
        tty: args.switch("tty"),
        open_stdin: interactive,
        stdin_once: interactive && attach_stdin,
        env: env::environment(&args.list("env-file"), &args.list("env"))?,
        cmd: (!command.is_empty()).then_some(command),
        healthcheck: health(args)?,
        image,
        volumes: Some(anonymous),
        working_dir: args.string("workdir"),
        // An empty entrypoint that was given resets the image's.
        entrypoint: args
            .value("entrypoint")
            .map(|entrypoint| vec![entrypoint.to_owned()]),
        labels: env::labels(&args.list("label-file"), &args.list("label"))?,
        stop_signal: args.string("stop-signal"),
        stop_timeout: args
            .changed("stop-timeout")
            .then(|| args.int("stop-timeout", 0)),
        ..ContainerConfig::default()
    })
}

fn health(args: &Parsed) -> Result<Option<HealthConfig>> {
    const TIMES: [&str; 4] = [
        "health-interval",
        "health-timeout",
        "health-start-period",
        "health-start-interval",
    ];
    let command = args.string("health-cmd");
    let retries = args.int("health-retries", 0);
    let any =
        !command.is_empty() || retries != 0 || TIMES.iter().any(|name| args.duration(name) != 0);
    if args.switch("no-healthcheck") {
        if any {
            return Err("--no-healthcheck conflicts with --health-* options".into());
        }
        return Ok(Some(HealthConfig {
            test: vec!["NONE".into()],
            ..HealthConfig::default()
        }));
    }
    if !any {
        return Ok(None);
    }
    if let Some(name) = TIMES.iter().find(|name| args.duration(name) < 0) {
        return Err(format!("--{name} cannot be negative"));
    }
    if retries < 0 {
        return Err("--health-retries cannot be negative".into());
    }
    Ok(Some(HealthConfig {
        test: if command.is_empty() {
            Vec::new()
        } else {
            vec!["CMD-SHELL".into(), command]
        },
        interval: args.duration("health-interval"),
        timeout: args.duration("health-timeout"),
        start_period: args.duration("health-start-period"),
        start_interval: args.duration("health-start-interval"),
        retries,
    }))
}
