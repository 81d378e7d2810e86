//! Which servers have a registry's repositories: the registry itself, its mirrors, `hosts.toml` and certificates of
//! `certs.d/<host>/`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use http::{HeaderMap, HeaderName, HeaderValue};
use reqwest::Url;
use serde::Deserialize;

use super::config::ClientConfig;
use super::error::RegistryError;
use super::tls::TlsFiles;

const DOCKER_HUB: &str = "docker.io";
const DOCKER_HUB_SERVER: &str = "registry-1.docker.io";

/// A server as it is configured.
#[derive(Clone, Debug, PartialEq)]
pub struct Server {
    /// `host[:port]`.
    pub authority: String,
    /// The URL below which the registry's paths are, `https://host/v2/`. Insecure registries may be at `http` too.
    pub base: Url,
    /// Whether the scheme was said, so that the other is not tried.
    pub scheme_fixed: bool,
    /// Whether it is the registry itself: only it gets the user's credentials.
    pub origin: bool,
    pub pull: bool,
    pub push: bool,
    /// Whether any certificate will do, by `skip_verify`.
    pub skip_verify: bool,
    pub headers: HeaderMap,
    pub tls: TlsFiles,
    /// The registry to name in `?ns=` to a mirror of many (containerd's convention).
    pub namespace: Option<String>,
}

/// The servers of a registry in the order they are asked, the registry itself last.
pub fn servers(config: &ClientConfig, domain: &str) -> Result<Vec<Server>, RegistryError> {
    let mut servers = Vec::new();
    if domain == DOCKER_HUB {
        for mirror in &config.mirrors {
            servers.push(mirror_server(config, mirror)?);
        }
    }
    let own = if domain == DOCKER_HUB {
        DOCKER_HUB_SERVER
    } else {
        domain
    };
    let mut origin = server(&format!("https://{own}"), false)?;
    origin.origin = true;
    origin.push = true;
    origin.scheme_fixed = false;
    origin.tls = files_of(config, domain)?;
    if let Some(directory) = directory_of(config, domain, true) {
        let path = directory.join("hosts.toml");
        let text = fs::read_to_string(&path).map_err(|e| broken(&path, e))?;
        let file: HostsFile = toml::from_str(&text).map_err(|e| broken(&path, e))?;
        file.apply(&directory, domain, &mut servers, &mut origin)
            .map_err(|e| broken(&path, e))?;
    }
    servers.push(origin);
    servers.iter_mut().for_each(|server| server.tls.stamp());
    Ok(servers)
}

/// A mirror of daemon.json.
fn mirror_server(config: &ClientConfig, text: &str) -> Result<Server, RegistryError> {
    let invalid = |why: &str| RegistryError::Settings(format!("invalid mirror: {why} in {text}"));
    let url = Url::parse(text).map_err(|_| invalid("not a URL"))?;
    if url.query().is_some() || url.fragment().is_some() || !url.username().is_empty() {
        return Err(invalid("only scheme, host and path are allowed"));
    }
    let mut mirror = server(text, false)?;
    mirror.tls = files_of(config, &mirror.authority)?;
    Ok(mirror)
}

/// Checks the mirrors of a configuration.
pub fn check_mirrors(config: &ClientConfig) -> Result<(), RegistryError> {
    config
        .mirrors
        .iter()
        .try_for_each(|mirror| mirror_server(config, mirror).map(drop))
}

/// A registry that an operator names by its URL, with the certificates that are configured for it.
pub fn upstream(config: &ClientConfig, text: &str) -> Result<Server, RegistryError> {
    let mut origin = server(text, false)?;
    origin.origin = true;
    origin.scheme_fixed = true;
    origin.tls = files_of(config, &origin.authority)?;
    Ok(origin)
}

fn server(text: &str, whole_path: bool) -> Result<Server, RegistryError> {
    let invalid = || RegistryError::Settings(format!("invalid registry host {text:?}"));
    let with_scheme = if text.contains("://") {
        text.to_owned()
    } else {
        format!("https://{text}")
    };
    let mut base = Url::parse(&with_scheme).map_err(|_| invalid())?;
    let host = base.host_str().ok_or_else(invalid)?;
    let authority = match base.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    };
    if !matches!(base.scheme(), "http" | "https") {
        return Err(invalid());
    }
    let path = base.path().trim_end_matches('/').to_owned();
    let ends_with_version = path == "/v2" || path.ends_with("/v2");
    base.set_path(&match (whole_path, ends_with_version) {
        (true, _) | (false, true) => format!("{path}/"),
        (false, false) => format!("{path}/v2/"),
    });
    Ok(Server {
        authority,
        base,
        scheme_fixed: text.contains("://"),
        origin: false,
        pull: true,
        push: false,
        skip_verify: false,
        headers: HeaderMap::new(),
        tls: TlsFiles::default(),
        namespace: None,
    })
}

/// The directory of a registry, with a `hosts.toml` in it or with certificates.
fn directory_of(config: &ClientConfig, authority: &str, with_hosts: bool) -> Option<PathBuf> {
    let host = authority.split(':').next().unwrap_or(authority);
    let underscored = authority
        .split_once(':')
        .map(|(host, port)| format!("{host}_{port}_"));
    let names = [
        Some(authority.to_owned()),
        underscored,
        Some(host.to_owned()),
    ];
    let named = names.into_iter().flatten();
    let all: Vec<String> = match with_hosts {
        true => named.chain(["_default".to_owned()]).collect(),
        false => named.take(2).collect(),
    };
    all.iter()
        .flat_map(|name| config.certs_dirs.iter().map(move |dir| dir.join(name)))
        .find(|dir| match with_hosts {
            true => dir.join("hosts.toml").is_file(),
            false => dir.is_dir(),
        })
}

/// `*.crt`, and `*.cert` with the `*.key` of the same name.
fn files_of(config: &ClientConfig, authority: &str) -> Result<TlsFiles, RegistryError> {
    let mut files = TlsFiles::default();
    let Some(directory) = directory_of(config, authority, false) else {
        return Ok(files);
    };
    let entries = fs::read_dir(&directory).map_err(|e| broken(&directory, e))?;
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        match path.extension().and_then(|text| text.to_str()) {
            Some("crt") => files.roots.push(path),
            Some("cert") => {
                let key = path.with_extension("key");
                if !key.is_file() {
                    return Err(RegistryError::Settings(format!(
                        "missing key {} for client certificate {}. CA certificates must use the extension .crt",
                        key.display(),
                        path.display()
                    )));
                }
                files.clients.push((path, key));
            }
            Some("key") if !path.with_extension("cert").is_file() => {
                return Err(RegistryError::Settings(format!(
                    "missing client certificate {} for key {}",
                    path.with_extension("cert").display(),
                    path.display()
                )));
            }
            _ => {}
        }
    }
    Ok(files)
}

fn broken(path: &Path, error: impl std::fmt::Display) -> RegistryError {
    RegistryError::Settings(format!("{}: {error}", path.display()))
}

/// containerd's `hosts.toml` (containerd docs/hosts.md).
#[derive(Debug, Deserialize)]
struct HostsFile {
    server: Option<String>,
    #[serde(default)]
    host: toml::Table,
    #[serde(flatten)]
    own: HostEntry,
}

#[derive(Debug, Default, Deserialize)]
struct HostEntry {
    capabilities: Option<Vec<String>>,
    ca: Option<OneOrMany>,
    client: Option<Clients>,
    skip_verify: Option<bool>,
    override_path: Option<bool>,
    header: Option<BTreeMap<String, OneOrMany>>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl OneOrMany {
    fn all(&self) -> &[String] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Clients {
    Files(OneOrMany),
    Pairs(Vec<Vec<String>>),
}

impl Clients {
    fn pairs(&self, directory: &Path) -> Result<Vec<(PathBuf, PathBuf)>, String> {
        match self {
            Self::Files(files) => Ok(files
                .all()
                .iter()
                .map(|file| (directory.join(file), directory.join(file)))
                .collect()),
            Self::Pairs(pairs) => pairs
                .iter()
                .map(|pair| match pair.as_slice() {
                    [one] => Ok((directory.join(one), directory.join(one))),
                    [cert, key] => Ok((directory.join(cert), directory.join(key))),
                    _ => Err("client: a certificate and a key are wanted".to_owned()),
                })
                .collect(),
        }
    }
}

impl HostEntry {
    fn apply(&self, directory: &Path, server: &mut Server) -> Result<(), String> {
        if let Some(capabilities) = &self.capabilities {
            for word in capabilities {
                if !matches!(word.as_str(), "pull" | "resolve" | "push" | "dialv2") {
                    return Err(format!("unknown capability {word:?}"));
                }
            }
            let has = |wanted: &str| capabilities.iter().any(|word| word == wanted);
            (server.pull, server.push) = (has("pull"), has("push"));
        }
        if let Some(ca) = &self.ca {
            let paths = ca.all().iter().map(|file| directory.join(file));
            server.tls.roots.extend(paths);
        }
        if let Some(client) = &self.client {
            server.tls.clients = client.pairs(directory)?;
        }
        server.skip_verify |= self.skip_verify.unwrap_or(false);
        for (name, values) in self.header.iter().flatten() {
            let name: HeaderName = name.parse().map_err(|_| format!("header {name:?}"))?;
            for value in values.all() {
                let value: HeaderValue = value.parse().map_err(|_| format!("value of {name}"))?;
                server.headers.append(name.clone(), value);
            }
        }
        Ok(())
    }
}

impl HostsFile {
    /// Adds the mirrors, in the order of the file, and changes the registry's own server.
    fn apply(
        &self,
        directory: &Path,
        domain: &str,
        servers: &mut Vec<Server>,
        origin: &mut Server,
    ) -> Result<(), String> {
        for (text, value) in &self.host {
            let entry: HostEntry = value
                .clone()
                .try_into()
                .map_err(|e| format!("host {text:?}: {e}"))?;
            let whole_path = entry.override_path.unwrap_or(false);
            let mut mirror = server(text, whole_path).map_err(|e| e.to_string())?;
            entry.apply(directory, &mut mirror)?;
            let is_origin = mirror.authority == origin.authority;
            mirror.origin = is_origin;
            mirror.namespace = (!is_origin).then(|| domain.to_owned());
            servers.push(mirror);
        }
        if let Some(text) = &self.server {
            let whole_path = self.own.override_path.unwrap_or(false);
            let named = server(text, whole_path).map_err(|e| e.to_string())?;
            origin.scheme_fixed = named.scheme_fixed;
            origin.origin = named.authority == origin.authority;
            origin.base = named.base;
            origin.authority = named.authority;
        }
        self.own.apply(directory, origin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(dir: &Path) -> ClientConfig {
        ClientConfig {
            certs_dirs: vec![dir.to_owned()],
            ..ClientConfig::default()
        }
    }

    #[test]
    fn docker_hub_is_asked_after_its_mirrors() {
        let config = ClientConfig {
            mirrors: vec![
                "http://mirror.lan:5000".into(),
                "https://m.example/sub/".into(),
            ],
            certs_dirs: Vec::new(),
            ..ClientConfig::default()
        };
        let bases: Vec<String> = servers(&config, "docker.io")
            .unwrap()
            .iter()
            .map(|server| format!("{} {}", server.base, server.origin))
            .collect();
        assert_eq!(
            bases,
            [
                "http://mirror.lan:5000/v2/ false",
                "https://m.example/sub/v2/ false",
                "https://registry-1.docker.io/v2/ true",
            ]
        );
        let others = servers(&config, "ghcr.io").unwrap();
        assert_eq!(others.len(), 1);
        assert_eq!(others[0].base.as_str(), "https://ghcr.io/v2/");
    }

    #[test]
    fn hosts_toml_names_mirrors_of_any_registry_in_its_order() {
        let dir = tempfile::tempdir().unwrap();
        let own = dir.path().join("ghcr.io");
        fs::create_dir(&own).unwrap();
        fs::write(
            own.join("hosts.toml"),
            r#"
server = "https://ghcr.io"
[host."https://z.example"]
  capabilities = ["pull", "resolve"]
  ca = "z.crt"
  [host."https://z.example".header]
    x-key = ["a", "b"]
[host."http://a.example/v2/proxy"]
  capabilities = ["pull", "resolve", "push"]
  override_path = true
  client = [["c.cert", "c.key"]]
  skip_verify = true
"#,
        )
        .unwrap();
        let all = servers(&config(dir.path()), "ghcr.io").unwrap();
        let bases: Vec<&str> = all.iter().map(|server| server.base.as_str()).collect();
        assert_eq!(
            bases,
            [
                "https://z.example/v2/",
                "http://a.example/v2/proxy/",
                "https://ghcr.io/v2/"
            ]
        );
        assert_eq!(all[0].tls.roots, [own.join("z.crt")]);
        assert_eq!(all[0].headers.get_all("x-key").iter().count(), 2);
        assert_eq!(all[0].namespace.as_deref(), Some("ghcr.io"));
        assert!(!all[0].push && all[1].push && all[1].skip_verify);
        assert_eq!(
            all[1].tls.clients,
            [(own.join("c.cert"), own.join("c.key"))]
        );
        assert!(all[2].origin && !all[0].origin && !all[1].origin);
    }

    #[test]
    fn certificates_need_their_keys() {
        let dir = tempfile::tempdir().unwrap();
        let own = dir.path().join("reg:5000");
        fs::create_dir(&own).unwrap();
        fs::write(own.join("ca.crt"), "").unwrap();
        fs::write(own.join("client.cert"), "").unwrap();
        let error = servers(&config(dir.path()), "reg:5000").unwrap_err();
        assert!(error.to_string().starts_with("missing key"), "{error}");
        fs::write(own.join("client.key"), "").unwrap();
        let all = servers(&config(dir.path()), "reg:5000").unwrap();
        assert_eq!(all[0].tls.roots, [own.join("ca.crt")]);
        assert_eq!(all[0].tls.clients.len(), 1);
    }
}
