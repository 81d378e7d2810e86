//! What every verb gets: the program's name, the global flags, the user's configuration, the client and the printer.

use std::cell::OnceCell;
use std::path::PathBuf;

use cais_client::{Client, ClientOptions, ConfigFile, Endpoint, EndpointChoice};

use crate::autostart::{Autostart, SpawnCommand};
use crate::error::{CliError, Result};
use crate::flags::Parsed;
use crate::printer::Printer;

/// One run of the command line.
pub struct App {
    /// `cais`, or `docker` when called so.
    pub program: String,
    /// Where output goes.
    pub printer: Printer,
    globals: Parsed,
    spawn: Option<SpawnCommand>,
    config: OnceCell<ConfigFile>,
    endpoint: OnceCell<Endpoint>,
    client: OnceCell<Client>,
}

impl App {
    /// A run with these global flags; `spawn` makes the command that starts a daemon.
    pub fn new(program: String, globals: Parsed, spawn: Option<SpawnCommand>) -> Self {
        Self {
            program,
            printer: Printer,
            globals,
            spawn,
            config: OnceCell::new(),
            endpoint: OnceCell::new(),
            client: OnceCell::new(),
        }
    }

    /// The directory of the user's configuration.
    pub fn config_dir(&self) -> PathBuf {
        if let Some(directory) = self.globals.value("config") {
            return directory.into();
        }
        if let Some(directory) = env("DOCKER_CONFIG") {
            return directory.into();
        }
        PathBuf::from(env("HOME").unwrap_or_default()).join(".docker")
    }

    /// The user's `config.json`; an unreadable one is told once and counts as empty, as in Docker.
    pub fn config(&self) -> &ConfigFile {
        self.config.get_or_init(|| {
            ConfigFile::load(&self.config_dir()).unwrap_or_else(|error| {
                self.printer.err_line(&format!("WARNING: Error {error}"));
                ConfigFile::default()
            })
        })
    }

    /// The daemon that was chosen.
    ///
    /// # Errors
    /// A bad host or an unknown context.
    pub fn endpoint(&self) -> Result<&Endpoint> {
        if let Some(endpoint) = self.endpoint.get() {
            return Ok(endpoint);
        }
        let directory = self.config_dir();
        let hosts = self.globals.list("host");
        let choice = EndpointChoice {
            hosts: &hosts,
            context: self.globals.value("context"),
            env_host: env("DOCKER_HOST").as_deref(),
            env_context: env("DOCKER_CONTEXT").as_deref(),
            current_context: &self.config().current_context,
            config_dir: &directory,
        }
        .resolve()
        .map_err(|error| CliError::new(format!("Failed to initialize: {error}")))?;
        Ok(self.endpoint.get_or_init(|| choice))
    }

    /// The client of that daemon; nothing is connected before its first call.
    ///
    /// # Errors
    /// As [`App::endpoint`], and TLS, which is not built yet.
    pub fn client(&self) -> Result<&Client> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let endpoint = self.endpoint()?;
        let tcp = matches!(endpoint.host, cais_client::Host::Tcp { .. });
        let tls = self.globals.switch("tls")
            || self.globals.switch("tlsverify")
            || env("DOCKER_TLS_VERIFY").is_some()
            || env("DOCKER_TLS").is_some();
        if tcp && tls {
            return Err(CliError::new(format!(
                "Failed to initialize: cannot connect to {}: TLS is not supported yet",
                endpoint.host
            )));
        }
        let headers = &self.config().http_headers;
        let options = ClientOptions {
            headers: headers
                .iter()
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect(),
            api_version: env("DOCKER_API_VERSION"),
            starter: match self.spawn {
                Some(spawn) if endpoint.is_default => Autostart::for_this_user(spawn),
                _ => None,
            },
        };
        let client = Client::new(endpoint.host.clone(), options)?;
        Ok(self.client.get_or_init(|| client))
    }

    /// Name of the context in use; a host named by hand is the default one.
    pub fn current_context(&self) -> String {
        let said = |text: Option<&str>| text.filter(|text| !text.is_empty()).map(str::to_owned);
        if self.globals.changed("host") {
            return "default".into();
        }
        if let Some(name) = said(self.globals.value("context")) {
            return name;
        }
        if env("DOCKER_HOST").is_some() {
            return "default".into();
        }
        env("DOCKER_CONTEXT")
            .or_else(|| said(Some(&self.config().current_context)))
            .unwrap_or_else(|| "default".into())
    }

    /// Whether `--debug` was given.
    pub fn debug(&self) -> bool {
        self.globals.switch("debug")
    }

    /// The detach keys: those of a flag, or the configured ones.
    pub fn detach_keys(&self, flag: Option<&str>) -> String {
        match flag {
            Some(keys) => keys.to_owned(),
            None => self.config().detach_keys.clone(),
        }
    }

    /// The key that finds proxy settings of this daemon in the configuration.
    pub fn proxy_key(&self) -> String {
        self.endpoint()
            .map(|endpoint| endpoint.host.to_string())
            .unwrap_or_default()
    }
}

/// A variable of the environment that is set and not empty.
pub fn env(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
