//! Login, search, and looking at what a registry has.

use cais_types::oci::{Document, Platform};
use cais_types::{Error, ErrorClass, Reference};
use http::{Method, StatusCode};
use serde::Deserialize;

use super::auth::fetch;
use super::body;
use super::challenge::{self, Challenge};
use super::config::Credentials;
use super::error::RegistryError;
use super::pull::{read_config, wanted_word};
use super::registry::{Shared, find_manifest};
use super::request::{Inspected, LoggedIn, SearchResult};
use super::session::{Call, Session, Target};

const HUB: &str = "docker.io";
const HUB_INDEX: &str = "index.docker.io";
const SEARCH_MAX: u64 = 4 << 20;
const SEARCH_LIMIT: u32 = 25;

/// The registry that a user means: `https://index.docker.io/v1/`, `reg.example:5000`, `https://reg.example/v2/`.
pub fn domain_of(server: &str) -> String {
    let rest = server.split_once("://").map_or(server, |(_, rest)| rest);
    let host = rest.split('/').next().unwrap_or_default();
    match host {
        "" | "docker.io" | "index.docker.io" | "registry-1.docker.io" => HUB.to_owned(),
        other => other.to_owned(),
    }
}

/// Proves credentials.
pub async fn login(
    shared: &Shared,
    server: &str,
    credentials: &Credentials,
) -> Result<LoggedIn, RegistryError> {
    let session = shared.origin(&domain_of(server), Some(credentials)).await?;
    let identity_token = prove(&session)
        .await
        .map_err(|error| match error.status() {
            Some(StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
                let url = session.endpoint.base();
                let text = format!("Get {:?}: {error}", url.as_str());
                RegistryError::Store(Error::new(ErrorClass::Unauthorized, text))
            }
            _ => error,
        })?;
    Ok(LoggedIn {
        status: "Login Succeeded".to_owned(),
        identity_token,
    })
}

/// Asks the registry as nobody first, for what it wants to see; the refresh token of its token server.
async fn prove(session: &Session) -> Result<Option<String>, RegistryError> {
    let call = Call::new(Method::GET, "", Vec::new());
    let anonymous = Session::new(session.endpoint.clone(), None, 1);
    let wanted = match anonymous.ask(&call).await {
        Ok(response) => challenge::of_answer(response.headers()),
        Err(RegistryError::NoCredentials { .. }) => Some(Challenge::Basic),
        Err(error) if error.status().is_none() => return Err(error),
        // A token server that has nothing for nobody; the registry is asked with credentials below.
        Err(_) => session.endpoint.authority.challenge(),
    };
    let mut identity_token = None;
    if let Some(bearer @ Challenge::Bearer { .. }) =
        wanted.or(session.endpoint.authority.challenge())
    {
        let identity = session.identity(&[]);
        let answer = fetch(&session.endpoint, identity, &bearer, true).await;
        let answer = answer.map_err(|error| match error.status() {
            Some(StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
                let url = session.endpoint.base();
                unauthorized(format!("Get {:?}: {error}", url.as_str()))
            }
            _ => error,
        })?;
        identity_token = answer.refresh_token;
    }
    let status = session.ask(&call).await?.status();
    if !status.is_success() {
        let url = session.endpoint.base();
        return Err(unauthorized(format!(
            "login attempt to {url} failed with status: {status}"
        )));
    }
    Ok(identity_token)
}

fn unauthorized(text: String) -> RegistryError {
    RegistryError::Store(Error::new(ErrorClass::Unauthorized, text))
}

#[derive(Deserialize)]
struct SearchAnswer {
    #[serde(default)]
    results: Vec<SearchResult>,
}

/// Searches an index by the old search interface, which docker.io still has.
pub async fn search(
    shared: &Shared,
    term: &str,
    limit: Option<u32>,
    auth: Option<&Credentials>,
) -> Result<Vec<SearchResult>, RegistryError> {
    let limit = limit.filter(|limit| *limit != 0).unwrap_or(SEARCH_LIMIT);
    if !(1..=100).contains(&limit) {
        return Err(RegistryError::Settings(format!(
            "limit {limit} is outside the range of [1, 100]"
        )));
    }
    if term.contains("://") {
        return Err(RegistryError::Settings(format!(
            "invalid repository name: repository name ({term}) should not contain scheme"
        )));
    }
    let (authority, rest) = split_term(term);
    let session = shared.origin(authority, auth).await?;
    let mut call = Call::new(Method::GET, "", Vec::new());
    let base = session.endpoint.base();
    let mut url = base
        .join("/v1/search")
        .map_err(|_| RegistryError::Settings(format!("invalid registry host {authority:?}")))?;
    url.query_pairs_mut()
        .append_pair("q", rest)
        .append_pair("n", &limit.to_string());
    call.target = Target::Url(url);
    let response = session
        .send(&call)
        .await
        .map_err(|error| match error.status() {
            Some(status) => {
                RegistryError::Unusable(format!("Unexpected status code {}", status.as_u16()))
            }
            None => error,
        })?;
    let bytes = body::whole(
        response,
        SEARCH_MAX,
        "the search answer",
        session.read_timeout(),
    )
    .await?;
    let answer: SearchAnswer = serde_json::from_slice(&bytes).map_err(|error| {
        RegistryError::Unusable(format!("error decoding search answer: {error}"))
    })?;
    Ok(answer.results)
}

/// The index and what to look for in it.
fn split_term(term: &str) -> (&str, &str) {
    match term.split_once('/') {
        Some((HUB | HUB_INDEX, rest)) => (HUB_INDEX, rest.strip_prefix("library/").unwrap_or(rest)),
        Some((host, rest)) if host == "localhost" || host.contains(['.', ':']) => (host, rest),
        _ => (HUB_INDEX, term.strip_prefix("library/").unwrap_or(term)),
    }
}

/// The descriptor of what is under a name, and its platforms.
pub async fn inspect(
    shared: &Shared,
    reference: &Reference,
    auth: Option<&Credentials>,
) -> Result<Inspected, RegistryError> {
    let source = shared.pull_source(reference, auth).await?;
    let (mut raw, source) = find_manifest(source, wanted_word(reference)).await?;
    let document = Document::parse(&raw.bytes, Some(&raw.media_type))?;
    let own = match &document {
        Document::Manifest(manifest) => &manifest.media_type,
        Document::Index(index) => &index.media_type,
    };
    if let Some(own) = own.as_ref().filter(|own| !own.is_empty()) {
        raw.media_type.clone_from(own);
    }
    let platforms: Vec<Platform> = match &document {
        Document::Index(index) => {
            let entries = index.manifests.iter();
            entries.filter_map(|entry| entry.platform.clone()).collect()
        }
        Document::Manifest(manifest) => {
            let Some(repository) = source.first() else {
                return Err(RegistryError::Settings("no server to ask".into()));
            };
            let bytes = repository.small_blob(&manifest.config).await?;
            let platform = read_config(&bytes).ok().map(|config| config.platform);
            platform.into_iter().filter(|p| !p.os.is_empty()).collect()
        }
    };
    Ok(Inspected {
        descriptor: raw.descriptor(),
        platforms,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_and_terms_are_read_as_docker_reads_them() {
        for (server, want) in [
            ("", "docker.io"),
            ("https://index.docker.io/v1/", "docker.io"),
            ("registry-1.docker.io", "docker.io"),
            ("localhost:5000", "localhost:5000"),
            ("https://reg.example/v2/", "reg.example"),
        ] {
            assert_eq!(domain_of(server), want);
        }
        for (term, want) in [
            ("busybox", ("index.docker.io", "busybox")),
            ("library/busybox", ("index.docker.io", "busybox")),
            ("user/app", ("index.docker.io", "user/app")),
            ("docker.io/library/a", ("index.docker.io", "a")),
            ("localhost:5000/a", ("localhost:5000", "a")),
        ] {
            assert_eq!(split_term(term), want);
        }
    }
}
