//! From the flags of `run` and `create` to the body of `POST /containers/create`. Pure but for env files, label files and
//! seccomp profiles, which are read here as Docker's command line reads them.

pub mod config;
pub mod csv;
pub mod device;
pub mod env;
pub mod flags;
pub mod host;
pub mod limit;
pub mod mount;
pub mod network;
pub mod port;

use cais_types::api::ContainerCreateRequest;

use cais_client::config::Proxies;
use cais_console::flags::Parsed;

/// A text for the user.
pub type Result<T> = std::result::Result<T, String>;

/// What `run` and `create` ask for.
#[derive(Clone, Debug, Default)]
pub struct Spec {
    /// The body of the request.
    pub request: ContainerCreateRequest,
    /// Name of the container, empty for a made-up one.
    pub name: String,
    /// `os/arch`, empty for the daemon's.
    pub platform: String,
    /// `always`, `missing` or `never`.
    pub pull: String,
    /// Where the id is written, empty for nowhere.
    pub cidfile: String,
}

/// Reads flags and arguments: image, then command. The proxies are those configured for the daemon's containers.
///
/// # Errors
/// The text Docker prints behind `docker: `.
pub fn parse(args: &Parsed, proxies: Option<&Proxies>) -> Result<Spec> {
    let pull = args.value("pull").unwrap_or("missing").to_owned();
    if !matches!(pull.as_str(), "always" | "missing" | "never") {
        return Err(format!(
            "invalid pull option: '{pull}': must be one of \"always\", \"missing\" or \"never\""
        ));
    }
    if args.switch("use-api-socket") {
        return Err("--use-api-socket is not supported yet; mount the socket with --volume".into());
    }
    let mut config = config::parse(args)?;
    if let Some(proxies) = proxies {
        proxy_env(proxies, &mut config.env);
    }
    let mut host_config = host::parse(args)?;
    let ports = port::parse(&args.list("publish"), &args.list("expose"))?;
    config.exposed_ports = ports.exposed;
    host_config.port_bindings = Some(ports.bindings);
    let networks = network::parse(args)?;
    host_config.network_mode = networks.mode;
    let (height, width) = cais_console::terminal::size(&std::io::stdout()).unwrap_or_default();
    host_config.console_size = [height.into(), width.into()];
    Ok(Spec {
        request: ContainerCreateRequest {
            config,
            host_config,
            networking_config: Some(networks.config),
        },
        name: args.string("name"),
        platform: args
            .value("platform")
            .map(str::to_owned)
            .or_else(default_platform)
            .unwrap_or_default(),
        pull,
        cidfile: args.string("cidfile"),
    })
}

fn default_platform() -> Option<String> {
    let platform = std::env::var("DOCKER_DEFAULT_PLATFORM").ok();
    platform.filter(|value| !value.is_empty())
}

/// Adds proxies to variables that the user has not set.
fn proxy_env(proxies: &Proxies, env: &mut Vec<String>) {
    let pairs = [
        ("HTTP_PROXY", &proxies.http),
        ("HTTPS_PROXY", &proxies.https),
        ("FTP_PROXY", &proxies.ftp),
        ("NO_PROXY", &proxies.no),
        ("ALL_PROXY", &proxies.all),
    ];
    for (name, value) in pairs.into_iter().filter(|(_, value)| !value.is_empty()) {
        for name in [name.to_owned(), name.to_ascii_lowercase()] {
            let prefix = format!("{name}=");
            if !env
                .iter()
                .any(|entry| entry.starts_with(&prefix) || *entry == name)
            {
                env.push(prefix + value);
            }
        }
    }
}
