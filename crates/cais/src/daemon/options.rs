//! The flags of `cais daemon` (dockerd's names) and the configuration file with the same names.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use cais_types::api::Ulimit;
use clap::Parser;

use super::bridge_options::BridgeOptions;
use super::build::BuilderConfig;
use super::gc_options::GcOptions;
use super::network_options::NameOptions;

/// Where the configuration file is looked for when no flag names one.
const DEFAULT_CONFIG_FILE: &str = "/etc/cais/daemon.json";

/// A self-sufficient engine for containers
#[derive(Debug, Parser)]
#[command(name = "cais daemon", version, about, long_about = None, disable_help_subcommand = true)]
pub struct Options {
    /// Daemon socket(s) to listen on: unix://PATH or tcp://HOST:PORT
    #[arg(short = 'H', long = "host", value_name = "list")]
    pub hosts: Vec<String>,
    /// Root directory of persistent state
    #[arg(long, value_name = "string", default_value = "/var/lib/cais")]
    pub data_root: PathBuf,
    /// Root directory for execution state files
    #[arg(long, value_name = "string", default_value = "/run/cais")]
    pub exec_root: PathBuf,
    /// Path to use for daemon PID file
    #[arg(short = 'p', long, value_name = "string")]
    pub pidfile: Option<PathBuf>,
    /// Daemon configuration file
    #[arg(long, value_name = "string")]
    pub config_file: Option<PathBuf>,
    /// Enable debug mode
    #[arg(short = 'D', long)]
    pub debug: bool,
    /// Set the logging level ("debug"|"info"|"warn"|"error"|"fatal")
    #[arg(short = 'l', long, value_name = "string", default_value = "info")]
    pub log_level: String,
    /// Group for the unix socket
    #[arg(short = 'G', long, value_name = "string", default_value = "docker")]
    pub group: String,
    /// Set key=value labels to the daemon
    #[arg(long = "label", value_name = "list")]
    pub labels: Vec<String>,
    /// Name of the default bridge; "none" for no default bridge
    #[arg(short = 'b', long, value_name = "string", default_value = "cais0")]
    pub bridge: String,
    /// IPv4 address (CIDR) for the default bridge
    #[arg(long, value_name = "string")]
    pub bip: Option<String>,
    /// IPv4 subnet for the default bridge network
    #[arg(long, value_name = "string")]
    pub fixed_cidr: Option<String>,
    /// Default address pools for networks: base=CIDR,size=BITS
    #[arg(long = "default-address-pool", value_name = "pool-options")]
    pub default_address_pools: Vec<String>,
    /// Set the MTU for the default bridge network
    #[arg(long, value_name = "int", default_value_t = 1500)]
    pub mtu: u32,
    /// Enable inter-container communication for the default bridge network
    #[arg(long, value_name = "bool", default_value_t = true, num_args = 0..=1, require_equals = true,
          default_missing_value = "true", action = clap::ArgAction::Set)]
    pub icc: bool,
    /// The default bridge, and defaults of networks
    #[command(flatten)]
    pub default_bridge: BridgeOptions,
    /// How names are resolved
    #[command(flatten)]
    pub names: NameOptions,
    /// Name of the daemon's own nftables table
    #[arg(long, value_name = "string", default_value = "cais")]
    pub firewall_table: String,
    /// Set parent cgroup for all containers
    #[arg(long, value_name = "string", default_value = "/cais")]
    pub cgroup_parent: String,
    /// Default ulimits for containers
    #[arg(long = "default-ulimit", value_name = "ulimit")]
    pub default_ulimits: Vec<String>,
    /// Default driver for container logs
    #[arg(long, value_name = "string", default_value = "json-file")]
    pub log_driver: String,
    /// Default log driver options for containers
    #[arg(long = "log-opt", value_name = "map")]
    pub log_opts: Vec<String>,
    /// Set the default shm size for containers
    #[arg(long, value_name = "bytes", default_value = "64MiB")]
    pub default_shm_size: String,
    /// Registry, or range of addresses (CIDR) of registries, that may speak plain HTTP or show any certificate
    #[arg(long = "insecure-registry", value_name = "list")]
    pub insecure_registries: Vec<String>,
    /// Preferred registry mirror of Docker Hub
    #[arg(long = "registry-mirror", value_name = "list")]
    pub registry_mirrors: Vec<String>,
    /// Directory with certificates and hosts.toml per registry, in place of the usual ones
    #[arg(long = "registry-certs-dir", value_name = "string")]
    pub registry_certs_dirs: Vec<PathBuf>,
    /// Set the max concurrent downloads
    #[arg(long, value_name = "int", default_value_t = 8, value_parser = at_least_one())]
    pub max_concurrent_downloads: u32,
    /// Set the max concurrent uploads
    #[arg(long, value_name = "int", default_value_t = 5, value_parser = at_least_one())]
    pub max_concurrent_uploads: u32,
    /// Set the max download attempts for each pull
    #[arg(long, value_name = "int", default_value_t = 5, value_parser = at_least_one())]
    pub max_download_attempts: u32,
    /// HTTP proxy URL to use for outgoing traffic
    #[arg(long, value_name = "string")]
    pub http_proxy: Option<String>,
    /// HTTPS proxy URL to use for outgoing traffic
    #[arg(long, value_name = "string")]
    pub https_proxy: Option<String>,
    /// Comma-separated list of hosts or IP addresses for which the proxy is skipped
    #[arg(long, value_name = "string")]
    pub no_proxy: Option<String>,
    /// Images that go by themselves
    #[command(flatten)]
    pub image_gc: GcOptions,
    /// What `builder` of the configuration file says, as JSON
    #[arg(long, value_name = "json", hide = true, default_value = "{}", value_parser = builder)]
    pub builder: BuilderConfig,
    /// Run an init in the container to forward signals and reap processes
    #[arg(long)]
    pub init: bool,
    /// Containers always outlive the daemon; accepted for dockerd's sake
    #[arg(long)]
    pub live_restore: bool,
    /// On SIGTERM remove the containers and everything else that this daemon made
    #[arg(long)]
    pub ephemeral: bool,
    /// Die where the daemon comes to this point, NAME or NAME:TIMES (debug builds only)
    #[arg(long, value_name = "point", hide = true)]
    pub failpoint: Option<String>,
    /// Write one byte to this inherited descriptor when the daemon is ready
    #[arg(long, value_name = "int", hide = true)]
    pub ready_fd: Option<u16>,
}

/// Names of the configuration file that stand for a flag of another name.
const FILE_NAMES: &[(&str, &str)] = &[
    ("hosts", "host"),
    ("labels", "label"),
    ("default-address-pools", "default-address-pool"),
    ("default-ulimits", "default-ulimit"),
    ("log-opts", "log-opt"),
    ("dns-opts", "dns-opt"),
    ("default-network-opts", "default-network-opt"),
    ("insecure-registries", "insecure-registry"),
    ("registry-mirrors", "registry-mirror"),
];

fn builder(text: &str) -> Result<BuilderConfig, String> {
    let config: BuilderConfig = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let rules = config.rules(Path::new("/"));
    rules.map(|_| config).map_err(|error| error.to_string())
}

fn at_least_one() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..)
}

/// Flags that are on when nobody says anything.
const TRUE_BY_DEFAULT: &[&str] = &["icc", "ip-masq", "ip-forward", "iptables"];

impl Options {
    /// Reads the command line and, below it, the configuration file.
    pub fn read(args: Vec<String>) -> Result<Self> {
        let flags = match Self::try_parse_from(&args) {
            Ok(flags) => flags,
            Err(error) => error.exit(),
        };
        let Some((path, file)) = read_config_file(flags.config_file.as_deref())? else {
            return Ok(flags);
        };
        let merged = args.into_iter().chain(file_flags(&path, &file)?);
        Self::try_parse_from(merged).map_err(|error| {
            if error.kind() == clap::error::ErrorKind::ArgumentConflict {
                anyhow::anyhow!(
                    "unable to configure the daemon with file {}: the following directives are specified both as a flag and in the configuration file: {error}",
                    path.display()
                )
            } else {
                anyhow::anyhow!("unable to configure the daemon with file {}: {error}", path.display())
            }
        })
    }

    /// Where to listen: the given hosts, or the default socket.
    pub fn listen_on(&self) -> Vec<String> {
        if self.hosts.is_empty() {
            vec![format!("unix://{}", cais_client::DEFAULT_SOCKET)]
        } else {
            self.hosts.clone()
        }
    }

    /// Log options as a map.
    pub fn log_options(&self) -> Result<BTreeMap<String, String>> {
        self.log_opts
            .iter()
            .map(|option| {
                let (key, value) = option
                    .split_once('=')
                    .with_context(|| format!("invalid log option {option:?}: want key=value"))?;
                Ok((key.to_owned(), value.to_owned()))
            })
            .collect()
    }
}

/// A ulimit as users write it: `name=soft[:hard]`.
pub fn ulimit(text: &str) -> Result<Ulimit> {
    let (name, limits) = text.split_once('=').context("want name=soft[:hard]")?;
    let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
    Ok(Ulimit {
        name: name.to_owned(),
        soft: soft.parse()?,
        hard: hard.parse()?,
    })
}

fn read_config_file(
    named: Option<&Path>,
) -> Result<Option<(PathBuf, serde_json::Map<String, serde_json::Value>)>> {
    let path = named.unwrap_or(Path::new(DEFAULT_CONFIG_FILE));
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && named.is_none() => {
            return Ok(None);
        }
        Err(error) => {
            return Err(error)
                .with_context(|| format!("read configuration file {}", path.display()));
        }
    };
    let file = serde_json::from_str(&text).with_context(|| {
        format!(
            "unable to configure the daemon with file {}: invalid JSON",
            path.display()
        )
    })?;
    Ok(Some((path.to_owned(), file)))
}

/// The file's entries as command line words.
fn file_flags(
    path: &Path,
    file: &serde_json::Map<String, serde_json::Value>,
) -> Result<Vec<String>> {
    use serde_json::Value;
    let mut words = Vec::new();
    for (name, value) in file {
        let flag = FILE_NAMES
            .iter()
            .find(|(file_name, _)| file_name == name)
            .map_or(name.as_str(), |(_, flag)| *flag);
        match value {
            Value::Bool(false) if !TRUE_BY_DEFAULT.contains(&flag) => {}
            Value::Bool(true) if !TRUE_BY_DEFAULT.contains(&flag) => {
                words.push(format!("--{flag}"));
            }
            Value::Bool(value) => words.push(format!("--{flag}={value}")),
            Value::Number(value) => words.push(format!("--{flag}={value}")),
            Value::String(value) => words.push(format!("--{flag}={value}")),
            Value::Array(values) => {
                for value in values {
                    words.push(format!("--{flag}={}", list_item(path, name, value)?));
                }
            }
            Value::Object(map) if name == "default-ulimits" => {
                words.extend(map.values().map(|limit| {
                    let number = |key: &str| limit[key].as_i64().unwrap_or(0);
                    format!(
                        "--{flag}={}={}:{}",
                        limit["Name"].as_str().unwrap_or(""),
                        number("Soft"),
                        number("Hard")
                    )
                }));
            }
            Value::Object(_) if name == "builder" => words.push(format!("--{flag}={value}")),
            Value::Object(map) if name == "proxies" => {
                for (key, value) in map {
                    words.push(format!("--{key}={}", value.as_str().unwrap_or_default()));
                }
            }
            Value::Object(map) if name == "default-network-opts" => {
                for (driver, options) in map {
                    let options = options.as_object().into_iter().flatten();
                    words.extend(options.map(|(option, value)| {
                        let value = value.as_str().unwrap_or_default();
                        format!("--{flag}={driver}={option}={value}")
                    }));
                }
            }
            Value::Object(map) => {
                for (key, value) in map {
                    words.push(format!(
                        "--{flag}={key}={}",
                        value.as_str().unwrap_or_default()
                    ));
                }
            }
            Value::Null => {}
        }
    }
    Ok(words)
}

fn list_item(path: &Path, name: &str, value: &serde_json::Value) -> Result<String> {
    match value {
        serde_json::Value::String(text) => Ok(text.clone()),
        serde_json::Value::Object(pool) if name == "default-address-pools" => {
            let base = pool
                .get("base")
                .and_then(serde_json::Value::as_str)
                .unwrap_or_default();
            let size = pool
                .get("size")
                .and_then(serde_json::Value::as_u64)
                .unwrap_or_default();
            Ok(format!("base={base},size={size}"))
        }
        other => bail!(
            "unable to configure the daemon with file {}: {name}: unexpected {other}",
            path.display()
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(flags: &[&str], file: &str) -> Result<Options> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("daemon.json");
        std::fs::write(&path, file).unwrap();
        let mut args = vec![
            "cais daemon".to_owned(),
            format!("--config-file={}", path.display()),
        ];
        args.extend(flags.iter().map(|flag| (*flag).to_owned()));
        Options::read(args)
    }

    #[test]
    fn the_file_adds_to_the_flags() {
        let options = read(
            &["-D"],
            r#"{"hosts": ["unix:///a", "tcp://127.0.0.1:1"], "bip": "172.30.0.1/24", "icc": false, "log-opts": {"max-size": "1m"},
                "default-address-pools": [{"base": "10.0.0.0/8", "size": 24}],
                "insecure-registries": ["10.1.0.0/16", "reg:80"], "registry-mirrors": ["http://m"], "max-concurrent-uploads": 2,
                "proxies": {"http-proxy": "http://p:1", "no-proxy": "a,b"},
                "builder": {"gc": {"enabled": true, "policy": [{"keepStorage": "10GB", "filter": ["unused-for=2200h"]}, {"all": true}]}}}"#,
        )
        .unwrap();
        assert!(options.debug);
        assert_eq!(options.hosts, ["unix:///a", "tcp://127.0.0.1:1"]);
        assert_eq!(options.bip.as_deref(), Some("172.30.0.1/24"));
        assert!(!options.icc);
        assert_eq!(options.log_options().unwrap()["max-size"], "1m");
        assert_eq!(options.insecure_registries, ["10.1.0.0/16", "reg:80"]);
        assert_eq!(options.registry_mirrors, ["http://m"]);
        assert_eq!(options.max_concurrent_uploads, 2);
        assert_eq!(options.http_proxy.as_deref(), Some("http://p:1"));
        assert_eq!(options.no_proxy.as_deref(), Some("a,b"));
        let rules = options.builder.rules(Path::new("/")).unwrap();
        assert_eq!((rules.len(), rules[0].reserved_space), (2, 10 << 30));
        assert_eq!(options.default_address_pools, ["base=10.0.0.0/8,size=24"]);
    }

    #[test]
    fn a_directive_given_twice_or_unknown_is_an_error() {
        for (flags, file) in [
            (&["--bip=10.9.0.1/24"][..], r#"{"bip": "10.8.0.1/24"}"#),
            (&[], r#"{"no-such": true}"#),
            (&[], r#"{"max-concurrent-downloads": 0}"#),
            (
                &[],
                r#"{"builder": {"gc": {"policy": [{"filter": ["color=red"]}]}}}"#,
            ),
            (&[], r#"{"proxies": {"ftp": "x"}}"#),
        ] {
            let error = read(flags, file).unwrap_err().to_string();
            assert!(
                error.contains("unable to configure the daemon with file"),
                "{error}"
            );
        }
    }
}
