//! Which daemon to talk to: `--host`, `--context`, `DOCKER_HOST`, `DOCKER_CONTEXT`, the current context, or the default
//! socket, in this order.

use std::path::Path;

use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use crate::error::{ClientError, Result};
use crate::host::{DEFAULT_HOST, Host};

/// What the user said about the daemon. Empty texts count as not said.
#[derive(Clone, Copy, Debug)]
pub struct EndpointChoice<'a> {
    /// Values of `--host`.
    pub hosts: &'a [String],
    /// Value of `--context`.
    pub context: Option<&'a str>,
    /// `DOCKER_HOST`.
    pub env_host: Option<&'a str>,
    /// `DOCKER_CONTEXT`.
    pub env_context: Option<&'a str>,
    /// `currentContext` of the configuration.
    pub current_context: &'a str,
    /// The configuration directory, usually `~/.docker`.
    pub config_dir: &'a Path,
}

/// The daemon that was chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Its address.
    pub host: Host,
    /// Name of the context it came from, `default` for none.
    pub context: String,
    /// True when nobody said anything, so that a daemon may be started here.
    pub is_default: bool,
}

#[derive(Deserialize)]
struct ContextMeta {
    #[serde(rename = "Endpoints", default)]
    endpoints: ContextEndpoints,
}

#[derive(Default, Deserialize)]
struct ContextEndpoints {
    docker: Option<DockerEndpoint>,
}

#[derive(Deserialize)]
struct DockerEndpoint {
    #[serde(rename = "Host", default)]
    host: String,
}

impl EndpointChoice<'_> {
    /// Finds the daemon.
    ///
    /// # Errors
    /// [`ClientError::Configuration`] for a bad host, an unknown context, or both `--host` and `--context`.
    pub fn resolve(&self) -> Result<Endpoint> {
        let said = |text: Option<&str>| text.filter(|text| !text.is_empty()).map(str::to_owned);
        if self.hosts.len() > 1 {
            return Err(ClientError::Configuration(
                "unable to resolve docker endpoint: Specify only one -H".into(),
            ));
        }
        if let Some(host) = self.hosts.first() {
            if self.context.is_some() {
                return Err(ClientError::Configuration(
                    "conflicting options: cannot specify both --host and --context".into(),
                ));
            }
            return default_context(host, false);
        }
        if let Some(name) = said(self.context) {
            return self.named(&name);
        }
        if let Some(host) = said(self.env_host) {
            return default_context(&host, false);
        }
        match said(self.env_context).or_else(|| said(Some(self.current_context))) {
            Some(name) => self.named(&name),
            None => default_context(DEFAULT_HOST, true),
        }
    }

    fn named(&self, name: &str) -> Result<Endpoint> {
        if name == "default" {
            return match self.env_host.filter(|host| !host.is_empty()) {
                Some(host) => default_context(host, false),
                None => default_context(DEFAULT_HOST, true),
            };
        }
        let path = self
            .config_dir
            .join("contexts/meta")
            .join(context_id(name))
            .join("meta.json");
        let unresolved = |cause: String| {
            ClientError::Configuration(format!(
                "unable to resolve docker endpoint: context \"{name}\": {cause}"
            ))
        };
        let text = std::fs::read(&path).map_err(|error| {
            let cause = match error.kind() {
                std::io::ErrorKind::NotFound => "no such file or directory".to_owned(),
                _ => error.to_string(),
            };
            unresolved(format!(
                "context not found: open {}: {cause}",
                path.display()
            ))
        })?;
        let meta: ContextMeta =
            serde_json::from_slice(&text).map_err(|error| unresolved(error.to_string()))?;
        let docker = meta
            .endpoints
            .docker
            .ok_or_else(|| unresolved("no docker endpoint".into()))?;
        Ok(Endpoint {
            host: parse(&docker.host)?,
            context: name.to_owned(),
            is_default: false,
        })
    }
}

/// The directory name of a context: the SHA-256 of its name in hex.
pub fn context_id(name: &str) -> String {
    hex::encode(Sha256::digest(name))
}

fn default_context(host: &str, is_default: bool) -> Result<Endpoint> {
    let host = host.trim();
    let full = if host.contains("://") {
        host.to_owned()
    } else if host.starts_with('/') {
        format!("unix://{host}")
    } else {
        format!("tcp://{host}")
    };
    Ok(Endpoint {
        host: parse(&full)?,
        context: "default".into(),
        is_default,
    })
}

fn parse(host: &str) -> Result<Host> {
    host.parse().map_err(|error| {
        ClientError::Configuration(format!("unable to resolve docker endpoint: {error}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choice<'a>(hosts: &'a [String], directory: &'a Path) -> EndpointChoice<'a> {
        EndpointChoice {
            hosts,
            context: None,
            env_host: None,
            env_context: None,
            current_context: "",
            config_dir: directory,
        }
    }

    #[test]
    fn nothing_said_means_the_default_socket() {
        let endpoint = choice(&[], Path::new("/nonexistent")).resolve().unwrap();
        assert_eq!(endpoint.host.to_string(), DEFAULT_HOST);
        assert!(endpoint.is_default);
    }

    #[test]
    fn host_beats_environment_and_context_is_found_by_the_digest_of_its_name() {
        let directory = tempfile::tempdir().unwrap();
        let meta = directory
            .path()
            .join("contexts/meta")
            .join(hex::encode(Sha256::digest("far")));
        std::fs::create_dir_all(&meta).unwrap();
        std::fs::write(
            meta.join("meta.json"),
            r#"{"Name":"far","Metadata":{},"Endpoints":{"docker":{"Host":"tcp://far:1"}}}"#,
        )
        .unwrap();
        let hosts = ["unix:///a".to_owned()];
        let mut by_host = choice(&hosts, directory.path());
        by_host.env_host = Some("unix:///b");
        by_host.current_context = "far";
        assert_eq!(by_host.resolve().unwrap().host.to_string(), "unix:///a");
        let mut by_env = choice(&[], directory.path());
        by_env.env_host = Some("unix:///b");
        by_env.current_context = "far";
        assert_eq!(by_env.resolve().unwrap().host.to_string(), "unix:///b");
        let mut by_context = choice(&[], directory.path());
        by_context.current_context = "far";
        let endpoint = by_context.resolve().unwrap();
        assert_eq!(
            (
                endpoint.host.to_string().as_str(),
                endpoint.context.as_str()
            ),
            ("tcp://far:1", "far")
        );
    }

    #[test]
    fn an_unknown_context_is_named_with_its_path() {
        let mut unknown = choice(&[], Path::new("/root/.docker"));
        unknown.context = Some("nope");
        assert_eq!(
            unknown.resolve().unwrap_err().to_string(),
            "unable to resolve docker endpoint: context \"nope\": context not found: open \
             /root/.docker/contexts/meta/ca3704aa0b06f5954c79ee837faa152d84d6b2d42838f0637a15eda8337dbdce/\
             meta.json: no such file or directory"
        );
    }
}
