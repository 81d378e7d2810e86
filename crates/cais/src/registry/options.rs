//! The words of `cais registry`. A setting of `serve` may stand on the command line, in the environment
//! (`CAIS_REGISTRY_LISTEN`), and in a TOML file (`listen = ...`); the first of these wins.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use cais_distribution::client::Credentials;
use cais_registry::UpstreamConfig;
use clap::{Args, CommandFactory as _, Parser, Subcommand};

/// What stands before the names of variables.
const PREFIX: &str = "CAIS_REGISTRY_";
/// Where a registry is kept unless said otherwise.
const DEFAULT_ROOT: &str = "/var/lib/cais-registry";

/// Serve and manage a registry
#[derive(Debug, Parser)]
#[command(name = "cais registry", version, about, long_about = None, disable_help_subcommand = true)]
pub struct Registry {
    #[command(subcommand)]
    pub verb: Verb,
}

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Serve a registry (OCI distribution-spec)
    Serve(Box<Serve>),
    /// Remove what nothing refers to, beside a running server too
    Gc(Gc),
    /// List repositories, or the tags and manifests of one
    Ls(Ls),
    /// Remove a repository, a tag or a manifest
    Rm(Rm),
}

/// The folder.
#[derive(Args, Debug)]
pub struct Root {
    /// Folder of the registry
    #[arg(long, value_name = "path", default_value = DEFAULT_ROOT)]
    pub root: PathBuf,
}

/// What goes, for `serve` and for `gc`.
#[derive(Args, Debug)]
pub struct Ages {
    /// How long a blob stays that nothing refers to
    #[arg(long = "gc-grace", alias = "grace", value_name = "duration", default_value = "1h", value_parser = duration)]
    pub grace: Duration,
    /// Remove manifests without a tag that are older than this (default: keep them)
    #[arg(long, value_name = "duration", value_parser = duration)]
    pub untagged: Option<Duration>,
    /// How long an upload stays that nothing comes for
    #[arg(long, value_name = "duration", default_value = "7d", value_parser = duration)]
    pub upload_age: Duration,
}

#[derive(Args, Debug)]
#[command(args_override_self = true)]
pub struct Serve {
    #[command(flatten)]
    pub root: Root,
    /// Read settings from a TOML file
    #[arg(long, value_name = "path")]
    pub config: Option<PathBuf>,
    /// Address to listen on
    #[arg(
        long,
        value_name = "host:port",
        default_value = "127.0.0.1:5000",
        value_delimiter = ','
    )]
    pub listen: Vec<String>,
    /// Refuse everything that writes
    #[arg(long, value_name = "bool", default_value_t = false, num_args = 0..=1, require_equals = true,
          default_missing_value = "true", action = clap::ArgAction::Set)]
    pub read_only: bool,
    /// Let clients delete tags, manifests and blobs
    #[arg(long, value_name = "bool", default_value_t = true, num_args = 0..=1, require_equals = true,
          default_missing_value = "true", action = clap::ArgAction::Set)]
    pub delete: bool,
    /// Largest blob that is taken (default: any)
    #[arg(long, value_name = "bytes", value_parser = bytes)]
    pub max_blob_size: Option<u64>,
    /// Cut off clients that send or take nothing for so long
    #[arg(long, value_name = "duration", default_value = "1m", value_parser = duration)]
    pub idle_timeout: Duration,
    /// Collect garbage so often (default: only when asked to)
    #[arg(long, value_name = "duration", value_parser = duration)]
    pub gc_interval: Option<Duration>,
    #[command(flatten)]
    pub ages: Ages,
    /// TLS certificate chain (PEM)
    #[arg(long, value_name = "path", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// TLS private key (PEM)
    #[arg(long, value_name = "path", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Names and bcrypt hashes of users (htpasswd -B)
    #[arg(long, value_name = "path", conflicts_with = "token_realm")]
    pub htpasswd: Option<PathBuf>,
    /// Realm that is told to clients of --htpasswd
    #[arg(long, value_name = "text", default_value = "cais registry")]
    pub realm: String,
    /// URL where clients get tokens
    #[arg(long, value_name = "url", requires_all = ["token_service", "token_issuer", "token_key"])]
    pub token_realm: Option<String>,
    /// Audience of tokens
    #[arg(long, value_name = "text")]
    pub token_service: Option<String>,
    /// Issuer of tokens
    #[arg(long, value_name = "text")]
    pub token_issuer: Option<String>,
    /// Public keys or certificates that tokens are signed with (PEM)
    #[arg(long, value_name = "path", value_delimiter = ',')]
    pub token_key: Vec<PathBuf>,
    /// Let everybody pull
    #[arg(long, value_name = "bool", default_value_t = false, num_args = 0..=1, require_equals = true,
          default_missing_value = "true", action = clap::ArgAction::Set)]
    pub anonymous_pull: bool,
    /// Be a pull-through cache of a registry, docker.io=https://registry-1.docker.io; a user and password may stand in the URL
    #[arg(long, value_name = "name=url", value_parser = upstream)]
    pub proxy: Vec<UpstreamConfig>,
    /// The cached registry that is asked for names that are not here, as a registry-mirror of dockerd is asked
    #[arg(long, value_name = "name")]
    pub proxy_default: Option<String>,
    /// Set the logging level ("debug"|"info"|"warn"|"error"); every request is logged at "info"
    #[arg(short = 'l', long, value_name = "string", default_value = "info")]
    pub log_level: String,
    /// Write the address to this file once the server listens
    #[arg(long, value_name = "path")]
    pub address_file: Option<PathBuf>,
    /// Die where the server comes to this point, NAME or NAME:TIMES (debug builds only)
    #[arg(long, value_name = "point", hide = true)]
    pub failpoint: Option<String>,
}

#[derive(Args, Debug)]
pub struct Gc {
    #[command(flatten)]
    pub root: Root,
    #[command(flatten)]
    pub ages: Ages,
    /// Only show what would be removed
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Args, Debug)]
pub struct Ls {
    #[command(flatten)]
    pub root: Root,
    /// Only show names
    #[arg(short, long)]
    pub quiet: bool,
    /// Repository whose tags and manifests are shown
    #[arg(value_name = "REPOSITORY")]
    pub repository: Option<String>,
}

#[derive(Args, Debug)]
pub struct Rm {
    #[command(flatten)]
    pub root: Root,
    /// What is removed: a whole repository, a tag, or a manifest with its tags
    #[arg(value_name = "REPOSITORY[:TAG|@DIGEST]", required = true)]
    pub names: Vec<String>,
}

impl Registry {
    /// Reads the command line and, below it, environment and file of `serve`.
    pub fn read(words: Vec<String>) -> Result<Self> {
        let parsed = parse(&words);
        let Verb::Serve(serve) = &parsed.verb else {
            return Ok(parsed);
        };
        let variable = std::env::var(format!("{PREFIX}CONFIG")).ok();
        let file = serve.config.clone().or(variable.map(PathBuf::from));
        let mut below = match file {
            Some(path) => file_words(&path)?,
            None => Vec::new(),
        };
        below.extend(environment_words());
        // What stands later wins, so the command line comes last.
        let at = words
            .iter()
            .position(|word| word == "serve")
            .context("serve")?;
        let mut merged = words[..=at].to_vec();
        merged.extend(below);
        merged.extend_from_slice(&words[at + 1..]);
        Ok(parse(&merged))
    }
}

/// A wrong command line ends the program, as clap does it: code 2, usage on standard error.
fn parse(words: &[String]) -> Registry {
    Registry::try_parse_from(words).unwrap_or_else(|error| error.exit())
}

/// Settings of `serve` by the names of their flags.
fn settings() -> Vec<String> {
    let command = Registry::command();
    let Some(serve) = command.find_subcommand("serve") else {
        return Vec::new();
    };
    let flags = serve.get_arguments().filter_map(|flag| flag.get_long());
    let flags = flags.filter(|flag| !matches!(*flag, "help" | "config" | "failpoint"));
    flags.map(str::to_owned).collect()
}

fn environment_words() -> Vec<String> {
    let value = |flag: &String| {
        let name = flag.to_uppercase().replace('-', "_");
        let value = std::env::var(format!("{PREFIX}{name}")).ok()?;
        Some(format!("--{flag}={value}"))
    };
    settings().iter().filter_map(value).collect()
}

fn file_words(path: &Path) -> Result<Vec<String>> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).with_context(|| format!("read {shown}"))?;
    let file: toml::Table = toml::from_str(&text).with_context(|| format!("read {shown}"))?;
    let known = settings();
    let mut words = Vec::new();
    for (name, value) in file {
        let flag = name.replace('_', "-");
        if !known.contains(&flag) {
            bail!("{shown}: unknown setting {name:?}");
        }
        let values = match value {
            toml::Value::Array(values) => values,
            other => vec![other],
        };
        for value in values {
            let text = match value {
                toml::Value::String(text) => text,
                toml::Value::Integer(number) => number.to_string(),
                toml::Value::Boolean(truth) => truth.to_string(),
                _ => bail!("{shown}: {name} must be a text, a number, a truth or a list of them"),
            };
            words.push(format!("--{flag}={text}"));
        }
    }
    Ok(words)
}

/// `90s`, `15m`, `1h30m`, `7d`, `500ms`; `0`.
fn duration(text: &str) -> Result<Duration, String> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let bad = || format!("{text:?} is no duration: want 90s, 15m, 1h30m, 7d");
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: u64 = rest[..digits].parse().map_err(|_| bad())?;
        let letters = rest[digits..]
            .bytes()
            .take_while(u8::is_ascii_alphabetic)
            .count();
        let milliseconds: u64 = match &rest[digits..digits + letters] {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(bad()),
        };
        let part = number.checked_mul(milliseconds).ok_or_else(bad)?;
        total = total
            .checked_add(Duration::from_millis(part))
            .ok_or_else(bad)?;
        rest = &rest[digits + letters..];
    }
    if text.is_empty() {
        Err(bad())
    } else {
        Ok(total)
    }
}

fn upstream(text: &str) -> Result<UpstreamConfig, String> {
    let bad = || format!("{text:?} is no upstream: want docker.io=https://registry-1.docker.io");
    let (name, url) = text.split_once('=').ok_or_else(bad)?;
    let (scheme, rest) = url.split_once("://").ok_or_else(bad)?;
    let authority = rest.split('/').next().unwrap_or(rest);
    let Some((user, host)) = authority.rsplit_once('@') else {
        return Ok(UpstreamConfig {
            name: name.to_owned(),
            url: url.to_owned(),
            credentials: None,
        });
    };
    let decode = |text: &str| {
        let decoded = percent_encoding::percent_decode_str(text).decode_utf8();
        decoded.map(std::borrow::Cow::into_owned).map_err(|_| bad())
    };
    let (user, password) = user.split_once(':').ok_or_else(bad)?;
    Ok(UpstreamConfig {
        name: name.to_owned(),
        url: format!("{scheme}://{host}{}", &rest[authority.len()..]),
        credentials: Some(Credentials::basic(decode(user)?, decode(password)?)),
    })
}

fn bytes(text: &str) -> Result<u64, String> {
    let bad = || format!("{text:?} is no size: want 500m, 10g");
    let size = cais_types::size::ram_in_bytes(text).map_err(|_| bad())?;
    u64::try_from(size).map_err(|_| bad())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read() {
        assert_eq!(duration("1h30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(duration("7d"), Ok(Duration::from_secs(604_800)));
        assert_eq!(duration("0"), Ok(Duration::ZERO));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        for bad in ["", "5", "h", "1x", "1 h", "-1s", "99999999999999999999d"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn upstreams_are_read() {
        let plain = upstream("docker.io=https://registry-1.docker.io").unwrap();
        assert_eq!(
            (&*plain.name, &*plain.url),
            ("docker.io", "https://registry-1.docker.io")
        );
        assert_eq!(plain.credentials, None);
        let with = upstream("quay.io=https://me:a%40b@quay.io/x").unwrap();
        assert_eq!(with.url, "https://quay.io/x");
        assert_eq!(with.credentials, Some(Credentials::basic("me", "a@b")));
        for bad in ["docker.io", "docker.io=registry", "a=https://user@b"] {
            assert!(upstream(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_command_line_is_sound() {
        Registry::command().debug_assert();
    }

    #[test]
    fn a_file_gives_flags_and_refuses_what_it_does_not_know() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("registry.toml");
        std::fs::write(
            &path,
            "listen = [\"a:1\", \"b:2\"]\ndelete = false\ngc_interval = \"5m\"\n",
        )
        .unwrap();
        let mut words = file_words(&path).unwrap();
        words.sort();
        assert_eq!(
            words,
            [
                "--delete=false",
                "--gc-interval=5m",
                "--listen=a:1",
                "--listen=b:2"
            ]
        );
        std::fs::write(&path, "lisen = 1\n").unwrap();
        assert!(file_words(&path).is_err());
    }
}
