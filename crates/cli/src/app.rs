//! What every verb gets: the program's name, the global flags, the user's configuration, the client and the printer.

use std::cell::OnceCell;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use cais_client::config::Proxies;
use cais_client::credentials::{AuthEntry, Keychain, registry_key};
use cais_client::{Client, ClientOptions, ConfigFile, Endpoint, EndpointChoice, config_file};

use crate::autostart::{Autostart, SpawnCommand};
use crate::error::{CliError, Result};
use crate::flags::Parsed;
use crate::printer::Printer;

/// A `config.json` whose credentials go before all others.
pub const AUTH_VARIABLE: &str = "DOCKER_AUTH_CONFIG";

/// One run of the command line.
pub struct App {
    /// `cais`, or `docker` when called so.
    pub program: String,
    /// Where output goes.
    pub printer: Printer,
    globals: Parsed,
    spawn: Option<SpawnCommand>,
    config: OnceCell<ConfigFile>,
    config_dir: PathBuf,
    search_path: OsString,
    preset: String,
    endpoint: OnceCell<Endpoint>,
    client: OnceCell<Client>,
}

impl App {
    /// A run with these global flags; `spawn` makes the command that starts a daemon.
    pub fn new(program: String, globals: Parsed, spawn: Option<SpawnCommand>) -> Self {
        Self {
            program,
            printer: Printer,
            config_dir: config_dir(&globals),
            search_path: std::env::var_os("PATH").unwrap_or_default(),
            preset: env(AUTH_VARIABLE).unwrap_or_default(),
            globals,
            spawn,
            config: OnceCell::new(),
            endpoint: OnceCell::new(),
            client: OnceCell::new(),
        }
    }

    /// The directory of the user's configuration.
    pub fn config_dir(&self) -> &Path {
        &self.config_dir
    }

    /// The user's `config.json`; an unreadable one is told once and counts as empty, as in Docker.
    pub fn config(&self) -> &ConfigFile {
        self.config.get_or_init(|| {
            let config = ConfigFile::load(&self.config_dir).unwrap_or_else(|error| {
                self.printer.err_line(&format!("WARNING: Error {error}"));
                ConfigFile::default()
            });
            let bad = |(server, entry): (&String, &AuthEntry)| entry.credentials(server).err();
            if let Some(cause) = config.auths.iter().find_map(bad) {
                self.printer.err_line(&format!(
                    "WARNING: Error parsing config file ({}): {cause}",
                    config_file::path(&self.config_dir).display()
                ));
            }
            config
        })
    }

    /// The user's credentials for registries.
    pub fn keychain(&self) -> Keychain<'_> {
        Keychain {
            config: self.config(),
            directory: &self.config_dir,
            search_path: &self.search_path,
            preset: &self.preset,
        }
    }

    /// The `X-Registry-Auth` header for images of a registry, such as `docker.io`.
    pub fn registry_auth(&self, domain: &str) -> String {
        self.keychain().resolve(registry_key(domain)).header()
    }

    /// The daemon that was chosen.
    ///
    /// # Errors
    /// A bad host or an unknown context.
    pub fn endpoint(&self) -> Result<&Endpoint> {
        if let Some(endpoint) = self.endpoint.get() {
            return Ok(endpoint);
        }
        let hosts = self.globals.list("host");
        let choice = EndpointChoice {
            hosts: &hosts,
            context: self.globals.value("context"),
            env_host: env("DOCKER_HOST").as_deref(),
            env_context: env("DOCKER_CONTEXT").as_deref(),
            current_context: &self.config().current_context,
            config_dir: &self.config_dir,
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

    /// The proxies that containers of this daemon shall use, when some are configured.
    pub fn proxies(&self) -> Option<&Proxies> {
        let proxies = &self.config().proxies;
        if proxies.is_empty() {
            return None;
        }
        let host = self.endpoint().map(|endpoint| endpoint.host.to_string());
        let own = host.ok().and_then(|host| proxies.get(&host));
        own.or_else(|| proxies.get("default"))
    }
}

fn config_dir(globals: &Parsed) -> PathBuf {
    if let Some(directory) = globals.value("config") {
        return directory.into();
    }
    if let Some(directory) = env("DOCKER_CONFIG") {
        return directory.into();
    }
    PathBuf::from(env("HOME").unwrap_or_default()).join(".docker")
}

/// A variable of the environment that is set and not empty.
pub fn env(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
