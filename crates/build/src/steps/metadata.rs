//! Instructions that change the configuration only: of an image that is built, or one that a commit or an import makes.

use cais_types::api::{Empty, HealthConfig, ImageConfig};
use cais_types::{Error, Result};

use crate::dockerfile::instruction::Pair;
use crate::dockerfile::instruction::{ArgPair, CommandLine, Healthcheck};
use crate::dockerfile::scope::StageScope;
use crate::dockerfile::{Kind, ParseError};
use crate::stage::{self, StageRun};

/// What they change.
pub struct Settings<'a> {
    pub config: &'a mut ImageConfig,
    pub author: &'a mut String,
    pub scope: &'a mut StageScope,
    /// Whether a command was set since the base, which an ENTRYPOINT then keeps.
    pub command_set: &'a mut bool,
}

/// Runs one of them.
pub fn run(stage: &mut StageRun<'_>, kind: &Kind) -> Result<()> {
    let mut settings = Settings {
        config: &mut stage.config,
        author: &mut stage.author,
        scope: &mut stage.scope,
        command_set: &mut stage.command_set,
    };
    let definition = apply(&mut settings, kind)?;
    stage.commit_config(&definition)
}

impl Settings<'_> {
    /// Expands one word.
    ///
    /// # Errors
    /// Invalid: see [`crate::dockerfile::lexer::Lexer::expand`].
    pub fn expand(&self, word: &str) -> Result<String> {
        let expansion = self.scope.expand(word);
        let expansion = expansion.map_err(|error| Error::invalid(error.to_string()))?;
        Ok(expansion.text)
    }

    /// Expands names and values, all of them before any is set.
    fn expand_pairs(&self, pairs: &[Pair]) -> Result<Vec<(String, String)>> {
        let pair = |pair: &Pair| Ok((self.expand(&pair.name)?, self.expand(&pair.value)?));
        pairs.iter().map(pair).collect()
    }
}

/// Changes the configuration; answers how docker's history names it.
///
/// # Errors
/// Invalid: a word that can't be expanded, a port, a signal. Internal: an instruction that changes files.
pub fn apply(stage: &mut Settings<'_>, kind: &Kind) -> Result<String> {
    Ok(match kind {
        Kind::Arg(pairs) => arg(stage, pairs)?,
        Kind::Cmd(command) => {
            let words = words(stage, command);
            let shown = quoted(&words);
            stage.config.cmd = Some(words);
            *stage.command_set = true;
            format!("CMD {shown}")
        }
        Kind::Entrypoint(command) => entrypoint(stage, command),
        Kind::Env(pairs) => {
            let pairs = stage.expand_pairs(pairs)?;
            for (name, value) in &pairs {
                stage.scope.set_env(name, value);
            }
            stage.config.env = Some(stage.scope.env());
            format!("ENV {}", joined(&pairs))
        }
        Kind::Expose(ports) => expose(stage, ports)?,
        Kind::Healthcheck(check) => healthcheck(stage, check),
        Kind::Label(pairs) => {
            let pairs = stage.expand_pairs(pairs)?;
            let shown = joined(&pairs);
            stage.config.labels.get_or_insert_default().extend(pairs);
            format!("LABEL {shown}")
        }
        Kind::Maintainer(name) => {
            stage.author.clone_from(name);
            format!("MAINTAINER {name}")
        }
        Kind::Onbuild(trigger) => {
            let list = stage.config.on_build.get_or_insert_default();
            list.push(trigger.clone());
            format!("ONBUILD {trigger}")
        }
        Kind::Shell(shell) => {
            stage.config.shell = Some(shell.clone());
            format!("SHELL [{}]", shell.join(" "))
        }
        Kind::StopSignal(signal) => {
            let signal = stage.expand(signal)?;
            if !is_signal(&signal) {
                return Err(Error::invalid(format!("invalid signal: {signal}")));
            }
            stage.config.stop_signal.clone_from(&signal);
            format!("STOPSIGNAL {signal}")
        }
        Kind::User(user) => {
            let user = stage.expand(user)?;
            stage.config.user.clone_from(&user);
            format!("USER {user}")
        }
        Kind::Volume(paths) => volume(stage, paths)?,
        Kind::Add(_) | Kind::Copy(_) | Kind::From(_) | Kind::Run(_) | Kind::Workdir(_) => {
            return Err(Error::internal(format!(
                "{} is no metadata",
                kind.keyword()
            )));
        }
    })
}

fn arg(stage: &mut Settings<'_>, pairs: &[ArgPair]) -> Result<String> {
    let mut shown = Vec::new();
    for pair in pairs {
        let expansion = stage.scope.declare(pair);
        let expansion = expansion.map_err(|error| Error::invalid(error.to_string()))?;
        shown.push(match &pair.default {
            Some(_) => format!("{}={}", pair.name, expansion.text),
            None => pair.name.clone(),
        });
    }
    Ok(format!("ARG {}", shown.join(" ")))
}

/// The words of a command, behind the shell when it is in shell form.
fn words(stage: &Settings<'_>, command: &CommandLine) -> Vec<String> {
    if command.shell && !command.words.is_empty() {
        return [stage::shell(stage.config), command.words.clone()].concat();
    }
    command.words.clone()
}

fn entrypoint(stage: &mut Settings<'_>, command: &CommandLine) -> String {
    let words = words(stage, command);
    let shown = quoted(&words);
    stage.config.entrypoint = Some(words).filter(|words| !words.is_empty());
    // The inherited command was meant for the inherited entrypoint.
    if !*stage.command_set {
        stage.config.cmd = None;
    }
    format!("ENTRYPOINT {shown}")
}

/// `["a" "b"]`, as Go prints a list of quoted words.
fn quoted(words: &[String]) -> String {
    let words: Vec<String> = words.iter().map(|word| format!("{word:?}")).collect();
    format!("[{}]", words.join(" "))
}

fn joined(pairs: &[(String, String)]) -> String {
    let pairs: Vec<String> = pairs
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    pairs.join(" ")
}

fn expose(stage: &mut Settings<'_>, ports: &[String]) -> Result<String> {
    let mut shown = Vec::new();
    for word in ports {
        let expansion = stage.scope.expand(word);
        let words = expansion
            .map_err(|error| Error::invalid(error.to_string()))?
            .words;
        for port in words {
            for name in port_names(&port)? {
                stage.config.exposed_ports.insert(name, Empty {});
            }
            shown.push(port);
        }
    }
    shown.sort();
    Ok(format!("EXPOSE {}", shown.join(" ")))
}

/// `8000-8001/tcp` as its ports.
fn port_names(port: &str) -> Result<Vec<String>> {
    let bad = || Error::invalid(format!("Invalid containerPort: {port}"));
    let (range, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
    // An address and a host's port before it have no meaning here.
    let range = range.rsplit(':').next().unwrap_or(range);
    let protocol = protocol.to_ascii_lowercase();
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return Err(Error::invalid(format!("Invalid proto: {protocol}")));
    }
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let (first, last): (u16, u16) = (
        first.parse().map_err(|_| bad())?,
        last.parse().map_err(|_| bad())?,
    );
    if first > last {
        return Err(bad());
    }
    Ok((first..=last)
        .map(|port| format!("{port}/{protocol}"))
        .collect())
}

fn healthcheck(stage: &mut Settings<'_>, check: &Healthcheck) -> String {
    stage.config.healthcheck = Some(HealthConfig {
        test: check.test.clone(),
        interval: check.interval,
        timeout: check.timeout,
        start_period: check.start_period,
        start_interval: check.start_interval,
        retries: check.retries,
    });
    let shown = quoted(&check.test);
    format!(
        "HEALTHCHECK &{{{shown} {:?} {:?} {:?} {}}}",
        go_duration(check.interval),
        go_duration(check.timeout),
        go_duration(check.start_period),
        go_character(check.retries),
    )
}

/// A number as Go's `%q` shows it: the letter that it is the code of.
fn go_character(code: i64) -> String {
    let letter = u32::try_from(code).ok().and_then(char::from_u32);
    match letter.unwrap_or(char::REPLACEMENT_CHARACTER) {
        '\x07' => r"'\a'".to_owned(),
        '\x08' => r"'\b'".to_owned(),
        '\t' => r"'\t'".to_owned(),
        '\n' => r"'\n'".to_owned(),
        '\x0b' => r"'\v'".to_owned(),
        '\x0c' => r"'\f'".to_owned(),
        '\r' => r"'\r'".to_owned(),
        '\'' => r"'\''".to_owned(),
        '\\' => r"'\\'".to_owned(),
        letter if letter.is_ascii_control() => format!("'\\x{:02x}'", u32::from(letter)),
        letter => format!("'{letter}'"),
    }
}

/// Nanoseconds as Go prints a duration: `1m30s`.
fn go_duration(nanoseconds: i64) -> String {
    let (seconds, rest) = (nanoseconds / 1_000_000_000, nanoseconds % 1_000_000_000);
    if seconds == 0 && rest != 0 {
        return format!("{}ms", rest as f64 / 1e6);
    }
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    let last = (seconds % 60) as f64 + rest as f64 / 1e9;
    match (hours, minutes) {
        (0, 0) => format!("{last}s"),
        (0, minutes) => format!("{minutes}m{last}s"),
        (hours, minutes) => format!("{hours}h{minutes}m{last}s"),
    }
}

fn volume(stage: &mut Settings<'_>, paths: &[String]) -> Result<String> {
    let paths: Vec<String> = paths
        .iter()
        .map(|path| stage.expand(path))
        .collect::<Result<_>>()?;
    if paths.iter().any(String::is_empty) {
        return Err(ParseError::whole("VOLUME specified can not be an empty string").into());
    }
    let volumes = stage.config.volumes.get_or_insert_default();
    for path in &paths {
        volumes.insert(path.clone(), Empty {});
    }
    Ok(format!("VOLUME [{}]", paths.join(" ")))
}

/// A number, or a name of signal(7) with or without `SIG`.
fn is_signal(text: &str) -> bool {
    if let Ok(number) = text.parse::<u8>() {
        return (1..=64).contains(&number);
    }
    let name = text.to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    const NAMES: [&str; 34] = [
        "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "IOT", "BUS", "FPE", "KILL", "USR1", "SEGV",
        "USR2", "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CLD", "CONT", "STOP", "TSTP", "TTIN",
        "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "POLL", "PWR", "SYS",
    ];
    let real_time = |prefix: &str| {
        name.strip_prefix(prefix)
            .is_some_and(|rest| rest.is_empty() || rest[1..].parse::<u8>().is_ok_and(|n| n < 16))
    };
    NAMES.contains(&name) || real_time("RTMIN") || real_time("RTMAX")
}
