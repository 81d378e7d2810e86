//! Pull-through cache of many upstream registries. A name says which: `docker.io/library/busybox`, or `library/busybox?ns=docker.io`
//! as containerd asks mirrors. What comes is kept like what is pushed, in a repository that is named after the upstream.

mod fetch;
mod growing;

use std::collections::HashMap;
use std::sync::Arc;

use cais_types::{Digest, Error, Result};
use http::{StatusCode, header};

use cais_distribution::client::upstream::{RegistryError as UpstreamError, Upstream};
use cais_distribution::client::{ClientConfig, Credentials};

use super::blobs;
use super::call::Call;
use super::error::{ErrorCode, RegistryError};
use super::manifests::{self, Received};
use super::name::{ManifestName, RepositoryName, Tag};
use super::registry::Registry;
use super::reply::{self, Body, DOCKER_CONTENT_DIGEST, Reply};
use super::route::Route;
use fetch::Fetches;
pub use growing::GrowingBody;

/// Docker Hub's images without a user are below this.
const OFFICIAL: &str = "library/";

/// An upstream as it is configured.
#[derive(Clone, Debug)]
pub struct UpstreamConfig {
    /// The registry's name as references write it, `docker.io`.
    pub name: String,
    /// Where it is, `https://registry-1.docker.io`.
    pub url: String,
    pub credentials: Option<Credentials>,
}

/// The upstreams.
#[derive(Default)]
pub struct Proxy {
    upstreams: HashMap<String, Known>,
    /// What is asked for names that are neither here nor say where they are from.
    fallback: Option<String>,
    fetches: Fetches,
}

struct Known {
    /// The first component of its repositories' names here.
    prefix: String,
    upstream: Arc<Upstream>,
}

/// A repository of an upstream.
#[derive(Clone)]
struct Source {
    upstream: Arc<Upstream>,
    path: String,
}

impl Proxy {
    /// Prepares the upstreams; reaches nothing yet.
    ///
    /// # Errors
    /// Invalid: names and URLs that cannot be; a fallback that is none of them.
    pub async fn open(upstreams: &[UpstreamConfig], fallback: Option<String>) -> Result<Self> {
        let config = ClientConfig::default();
        let mut known = HashMap::new();
        for one in upstreams {
            let prefix = one.name.replace(':', "_");
            RepositoryName::parse(&prefix).map_err(|_| {
                Error::invalid(format!("{:?} cannot be the name of a registry", one.name))
            })?;
            let upstream = Upstream::new(&one.url, one.credentials.as_ref(), &config)
                .await
                .map_err(UpstreamError::plain)?;
            let upstream = Arc::new(upstream);
            known.insert(one.name.clone(), Known { prefix, upstream });
        }
        if let Some(name) = fallback.as_ref().filter(|name| !known.contains_key(*name)) {
            return Err(Error::invalid(format!("no upstream is called {name}")));
        }
        Ok(Self {
            upstreams: known,
            fallback,
            fetches: Fetches::default(),
        })
    }

    /// The same route with the name that the repository has here.
    ///
    /// # Errors
    /// `NAME_UNKNOWN` when `ns` names a registry that is no upstream: its content must not come from elsewhere.
    pub fn localize(
        &self,
        route: Route,
        namespace: Option<&str>,
        is_here: impl Fn(&RepositoryName) -> bool,
    ) -> Result<Route, RegistryError> {
        if self.upstreams.is_empty() {
            return Ok(route);
        }
        let rename = |name: RepositoryName| match namespace {
            Some(namespace) => self
                .upstreams
                .get(namespace)
                .ok_or_else(|| RegistryError::name_unknown(&format!("{namespace}/{name}")))
                .map(|known| below(known, namespace, &name)),
            None if self.source(&name).is_some() || is_here(&name) => Ok(name),
            None => Ok(match &self.fallback {
                Some(fallback) => below(&self.upstreams[fallback], fallback, &name),
                None => name,
            }),
        };
        Ok(match route {
            Route::Tags(name) => Route::Tags(rename(name)?),
            Route::Manifest(name, wanted) => Route::Manifest(rename(name)?, wanted),
            Route::Referrers(name, digest) => Route::Referrers(rename(name)?, digest),
            Route::Blob(name, digest) => Route::Blob(rename(name)?, digest),
            other => other,
        })
    }

    /// Whether a repository belongs to an upstream, so that nothing is pushed to it.
    pub fn owns(&self, name: &RepositoryName) -> bool {
        self.source(name).is_some()
    }

    fn source(&self, name: &RepositoryName) -> Option<Source> {
        let (prefix, rest) = name.as_str().split_once('/')?;
        let mut all = self.upstreams.iter();
        let (registry, known) = all.find(|(_, known)| known.prefix == prefix)?;
        let official = registry == "docker.io" && !rest.contains('/');
        Some(Source {
            upstream: Arc::clone(&known.upstream),
            path: if official {
                format!("{OFFICIAL}{rest}")
            } else {
                rest.to_owned()
            },
        })
    }

    /// Brings a manifest here unless it is. A tag is asked for every time; when the upstream cannot be reached, what is here
    /// serves.
    ///
    /// # Errors
    /// `MANIFEST_UNKNOWN`; 503: the upstream does not answer and nothing is here.
    pub async fn refresh(
        &self,
        registry: &Arc<Registry>,
        name: &RepositoryName,
        wanted: &ManifestName,
    ) -> Result<(), RegistryError> {
        let Some(source) = self.source(name) else {
            return Ok(());
        };
        let here = manifests::find(registry, name, wanted);
        let asked = match wanted {
            ManifestName::Digest(digest) if here.is_none() => {
                self.fetch(registry, name, &source, &digest.to_string(), None)
                    .await
            }
            ManifestName::Digest(_) => return Ok(()),
            ManifestName::Tag(tag) => {
                let known = here.as_ref().map(|found| found.digest);
                self.follow(registry, name, &source, tag, known).await
            }
        };
        match asked {
            Err(error) if here.is_some() && may_serve_old(error.status) => {
                tracing::warn!(%error, %name, "what was fetched before serves");
                Ok(())
            }
            other => other,
        }
    }

    /// Fetches a tag's manifest when it is not the one that is here.
    async fn follow(
        &self,
        registry: &Arc<Registry>,
        name: &RepositoryName,
        source: &Source,
        tag: &Tag,
        known: Option<Digest>,
    ) -> Result<(), RegistryError> {
        if let Some(known) = known {
            let digest = source.upstream.digest(&source.path, tag.as_str());
            if digest.await.map_err(|error| refused(&error))? == Some(known) {
                return Ok(());
            }
        }
        self.fetch(registry, name, source, tag.as_str(), Some(tag.clone()))
            .await
    }

    async fn fetch(
        &self,
        registry: &Arc<Registry>,
        name: &RepositoryName,
        source: &Source,
        what: &str,
        tag: Option<Tag>,
    ) -> Result<(), RegistryError> {
        let fetched = source.upstream.manifest(&source.path, what).await;
        let manifest = fetched.map_err(|error| match refused(&error) {
            error if error.status == StatusCode::NOT_FOUND => RegistryError::manifest_unknown(what),
            error => error,
        })?;
        let received = Received::parse(manifest.bytes, Some(&manifest.media_type))?;
        let tags = tag.into_iter().collect();
        manifests::keep(registry, name.clone(), received, tags, false).await
    }

    /// Answers with a blob that is not here: it is kept while it goes to the clients, and fetched once for all that ask.
    ///
    /// # Errors
    /// `BLOB_UNKNOWN`; 503.
    pub async fn blob(
        &self,
        registry: &Arc<Registry>,
        call: &Call,
        name: RepositoryName,
        digest: Digest,
    ) -> Result<Reply, RegistryError> {
        let unknown = || RegistryError::blob_unknown(&digest);
        let source = self.source(&name).ok_or_else(unknown)?;
        let refuse = |error: UpstreamError| match refused(&error) {
            error if error.status == StatusCode::NOT_FOUND => unknown(),
            error => error,
        };
        let builder = reply::status(StatusCode::OK)
            .header(header::CONTENT_TYPE, "application/octet-stream")
            .header(header::ETAG, format!("\"{digest}\""))
            .header(header::ACCEPT_RANGES, "bytes")
            .header(header::CACHE_CONTROL, blobs::FOREVER)
            .header(DOCKER_CONTENT_DIGEST, digest.to_string());
        if call.method == http::Method::HEAD {
            let size = source.upstream.blob_size(&source.path, &digest).await;
            let builder = builder.header(header::CONTENT_LENGTH, size.map_err(refuse)?);
            return reply::finish(builder, Body::empty());
        }
        let fetch = self
            .fetches
            .join(registry, name, &source, digest)
            .await
            .map_err(|error| match error {
                fetch::StartError::Upstream(error) => refuse(error),
                fetch::StartError::Own(error) => error,
            })?;
        let size = fetch.size;
        let part = blobs::part(&call.headers, &digest, size)?;
        let (start, end) = part.unwrap_or((0, size));
        let builder = match part {
            Some(_) => builder.status(StatusCode::PARTIAL_CONTENT).header(
                header::CONTENT_RANGE,
                format!("bytes {start}-{}/{size}", end - 1),
            ),
            None => builder,
        };
        let body = GrowingBody::new(&fetch, start, end);
        reply::finish(builder, Body::Growing(Box::new(body)))
    }

    /// The tags of an upstream's repository; none when it is not one, or the upstream does not tell.
    pub async fn tags(&self, name: &RepositoryName) -> Option<Vec<String>> {
        let source = self.source(name)?;
        match source.upstream.tags(&source.path).await {
            Ok(mut tags) => {
                tags.retain(|tag| Tag::parse(tag).is_ok());
                tags.sort();
                Some(tags)
            }
            Err(error) => {
                tracing::warn!(%error, %name, "tags");
                None
            }
        }
    }
}

/// Whether what was fetched before is better than the upstream's answer.
fn may_serve_old(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS
    )
}

/// The name that a repository of an upstream has here.
fn below(known: &Known, registry: &str, name: &RepositoryName) -> RepositoryName {
    let official = registry == "docker.io" && !name.as_str().contains('/');
    let library = if official { OFFICIAL } else { "" };
    RepositoryName::stored(&format!("{}/{library}{name}", known.prefix))
}

/// What an upstream's refusal is to our client. That it wants other credentials than ours is no business of the client's.
fn refused(error: &UpstreamError) -> RegistryError {
    let text = error.to_string();
    let status = match error {
        UpstreamError::NoCredentials { .. } => Some(StatusCode::UNAUTHORIZED),
        other => other.status(),
    };
    match status {
        Some(StatusCode::NOT_FOUND | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
            RegistryError::new(ErrorCode::NameUnknown, "not known to the upstream")
                .with_detail(text)
        }
        Some(StatusCode::TOO_MANY_REQUESTS) => {
            let text = "the upstream has had too many requests";
            let mut refused = RegistryError::new(ErrorCode::TooManyRequests, text);
            if let Some(wait) = error.retry_after() {
                let seconds = wait.as_secs().max(1).to_string();
                refused = refused.with_header(http::header::RETRY_AFTER, seconds);
            }
            refused
        }
        _ => RegistryError::new(ErrorCode::Unavailable, "the upstream does not answer")
            .with_detail(text),
    }
}
