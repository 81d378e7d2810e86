//! The operations of the distribution-spec on one repository of one server.

use bytes::Bytes;
use cais_types::oci::{Descriptor, media_type};
use cais_types::{Digest, Error};
use http::header::{ACCEPT, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, LINK, LOCATION, RANGE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use reqwest::{Response, Url};
use serde::Deserialize;

use super::body;
use super::error::RegistryError;
use super::request::RawManifest;
use super::session::{Call, Session, Target};

/// distribution-spec: registries need not take larger manifests.
pub const MANIFEST_MAX: u64 = 4 << 20;
const TAGS_MAX: u64 = 4 << 20;
const TAG_PAGES_MAX: usize = 10_000;

pub const ACCEPTED: &str = "application/vnd.docker.distribution.manifest.v2+json, application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.v1+prettyjws, application/json";

/// A repository on a server.
#[derive(Clone)]
pub struct Repository {
    pub session: Session,
    /// `library/busybox`.
    pub path: String,
}

/// An upload that a registry has open for us. Dropped before [`Opened::done`], whatever ended it, it is given up: its bytes would
/// lie at the registry until that finds them too old.
pub struct Opened {
    repository: Repository,
    /// Where its next part goes; none when it is done.
    at: Option<Url>,
}

impl Opened {
    /// An upload that the registry has just told of.
    pub fn new(repository: Repository, at: Url) -> Self {
        Self {
            repository,
            at: Some(at),
        }
    }

    /// Where its next part goes.
    pub fn at(&self) -> Option<&Url> {
        self.at.as_ref()
    }

    /// Notes where the part after that goes.
    pub fn moved(&mut self, to: Url) {
        self.at = Some(to);
    }

    /// Says that its blob is there.
    pub fn done(mut self) {
        self.at = None;
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        if let Some(at) = self.at.take()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let repository = self.repository.clone();
            runtime.spawn(async move { repository.cancel(at).await });
        }
    }
}

/// A blob that is coming; `offset` is where its first byte belongs.
pub struct Incoming {
    pub response: Response,
    pub offset: u64,
}

#[derive(Deserialize)]
struct TagList {
    /// Registries without tags answer null.
    tags: Option<Vec<String>>,
}

impl Repository {
    fn pull_scope(&self) -> Vec<String> {
        vec![format!("repository:{}:pull", self.path)]
    }

    /// The scope of a push; what is mounted from another repository is read there.
    fn push_scope(&self, from: Option<&str>) -> Vec<String> {
        let own = format!("repository:{}:pull,push", self.path);
        let other = from.map(|path| format!("repository:{path}:pull"));
        [own].into_iter().chain(other).collect()
    }

    fn call(&self, method: Method, rest: &str, scopes: Vec<String>) -> Call {
        Call::new(method, format!("{}/{rest}", self.path), scopes)
    }

    /// Fetches a manifest or an index by tag or digest. What came by digest has that digest.
    pub async fn manifest(&self, reference: &str) -> Result<RawManifest, RegistryError> {
        let mut call = self.call(
            Method::GET,
            &format!("manifests/{reference}"),
            self.pull_scope(),
        );
        call.unknown = "MANIFEST_UNKNOWN";
        call.headers
            .insert(ACCEPT, HeaderValue::from_static(ACCEPTED));
        let is_tag = reference.parse::<Digest>().is_err();
        let sent = self.session.send(&call).await;
        let response = sent.map_err(|error| match error {
            // Docker asks for the head first, and its users know the sentence.
            RegistryError::NoCredentials { url, .. } if is_tag => {
                RegistryError::NoCredentials { verb: "Head", url }
            }
            other => other,
        })?;
        let header = |name: &str| {
            let value = response.headers().get(name)?;
            value.to_str().ok().map(str::to_owned)
        };
        let media_type = header("content-type").unwrap_or_default();
        let announced = header("docker-content-digest").and_then(|text| text.parse().ok());
        let timeout = self.session.read_timeout();
        let bytes = body::whole(response, MANIFEST_MAX, "the manifest", timeout).await?;
        let digest = digest_of(&bytes);
        let wanted = reference.parse::<Digest>().ok().or(announced);
        if let Some(wanted) = wanted.filter(|wanted| *wanted != digest) {
            return Err(RegistryError::Digest {
                what: "manifest",
                digest: wanted,
            });
        }
        Ok(RawManifest {
            bytes,
            media_type,
            digest,
        })
    }

    /// Fetches a manifest that a descriptor leads to, of its size and digest.
    pub async fn described(&self, descriptor: &Descriptor) -> Result<RawManifest, RegistryError> {
        let manifest = self.manifest(&descriptor.digest.to_string()).await?;
        check_size("manifest", descriptor, manifest.bytes.len() as u64)?;
        Ok(manifest)
    }

    /// Puts a manifest under a tag or its digest; answers the subject that the registry says to have noted.
    pub async fn put_manifest(
        &self,
        reference: &str,
        manifest: &RawManifest,
    ) -> Result<Option<Digest>, RegistryError> {
        let mut call = self.call(
            Method::PUT,
            &format!("manifests/{reference}"),
            self.push_scope(None),
        );
        let kind = manifest.media_type.parse().map_err(|_| {
            RegistryError::Settings(format!("invalid media type {:?}", manifest.media_type))
        })?;
        call.headers.insert(CONTENT_TYPE, kind);
        call.body = Some(manifest.bytes.clone());
        let response = self.session.send(&call).await?;
        let told = |name: &str| {
            let value = response.headers().get(name)?;
            value.to_str().ok()?.parse::<Digest>().ok()
        };
        match told("docker-content-digest") {
            Some(other) if other != manifest.digest => Err(RegistryError::Digest {
                what: "manifest",
                digest: manifest.digest,
            }),
            _ => Ok(told("oci-subject")),
        }
    }

    /// Asks for the list of what is about a manifest.
    pub async fn referrers(&self, subject: &Digest) -> Result<(), RegistryError> {
        let path = format!("referrers/{subject}");
        let call = self.call(Method::GET, &path, self.push_scope(None));
        self.session.send(&call).await.map(drop)
    }

    /// All tags, page by page.
    pub async fn tags(&self) -> Result<Vec<String>, RegistryError> {
        let mut all = Vec::new();
        let mut call = self.call(Method::GET, "tags/list", self.pull_scope());
        for _ in 0..TAG_PAGES_MAX {
            let response = self.session.send(&call).await?;
            let next = next_page(response.headers(), response.url());
            let timeout = self.session.read_timeout();
            let bytes = body::whole(response, TAGS_MAX, "the list of tags", timeout).await?;
            let page: TagList = serde_json::from_slice(&bytes)
                .map_err(|error| RegistryError::Unusable(format!("list of tags: {error}")))?;
            let tags = page.tags.unwrap_or_default();
            let is_last = tags.is_empty();
            all.extend(tags);
            match next {
                Some(url) if !is_last && self.session.endpoint.is_at(&url) => {
                    call.target = Target::Url(url);
                }
                _ => break,
            }
        }
        Ok(all)
    }

    /// Whether a blob is there; its size.
    pub async fn has_blob(&self, digest: &Digest) -> Result<Option<u64>, RegistryError> {
        let call = self.call(
            Method::HEAD,
            &format!("blobs/{digest}"),
            self.push_scope(None),
        );
        match self.session.send(&call).await {
            Ok(response) => {
                let size = response.headers().get(CONTENT_LENGTH);
                let size = size.and_then(|value| value.to_str().ok()?.parse().ok());
                Ok(Some(size.unwrap_or(0)))
            }
            Err(error) if error.status() == Some(StatusCode::NOT_FOUND) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Starts to fetch a blob, from `offset` on where the registry can; it may begin earlier. One attempt.
    pub async fn blob(&self, blob: &Descriptor, offset: u64) -> Result<Incoming, RegistryError> {
        let mut call = self.call(
            Method::GET,
            &format!("blobs/{}", blob.digest),
            self.pull_scope(),
        );
        call.unknown = "BLOB_UNKNOWN";
        if offset > 0 {
            let range = HeaderValue::from_str(&format!("bytes={offset}-"));
            call.headers.extend(range.ok().map(|value| (RANGE, value)));
        }
        let mut asked = self.session.once(&call).await;
        let unsatisfied = |error: &RegistryError| {
            offset > 0 && error.status() == Some(StatusCode::RANGE_NOT_SATISFIABLE)
        };
        if asked.as_ref().is_err_and(unsatisfied) {
            call.headers.remove(RANGE);
            asked = self.session.once(&call).await;
        }
        let response = asked?;
        let is_part = response.status() == StatusCode::PARTIAL_CONTENT;
        let begins = match is_part {
            true => range_start(response.headers()).unwrap_or(offset),
            false => 0,
        };
        if begins > offset {
            return Err(RegistryError::Unusable(format!(
                "blob {}: asked for bytes from {offset}, got them from {begins}",
                blob.digest
            )));
        }
        if let Some(length) = response.content_length()
            && (begins + length > blob.size || (!is_part && length != blob.size))
        {
            return Err(RegistryError::Size {
                what: "blob",
                digest: blob.digest,
                want: blob.size,
                got: begins + length,
            });
        }
        Ok(Incoming {
            response,
            offset: begins,
        })
    }

    /// Fetches a small blob whole, checked.
    pub async fn small_blob(&self, blob: &Descriptor) -> Result<Bytes, RegistryError> {
        if blob.size > MANIFEST_MAX {
            return Err(RegistryError::TooLarge {
                what: "the image configuration",
                limit: MANIFEST_MAX,
            });
        }
        let timeout = self.session.read_timeout();
        let mut patience = self.session.patience();
        loop {
            let attempt = async {
                let incoming = self.blob(blob, 0).await?;
                body::whole(incoming.response, blob.size, "the blob", timeout).await
            };
            let bytes = match attempt.await {
                Ok(bytes) => bytes,
                Err(error) => match patience.after(&error) {
                    None => return Err(error),
                    Some(wait) => {
                        tokio::time::sleep(wait).await;
                        continue;
                    }
                },
            };
            check_size("blob", blob, bytes.len() as u64)?;
            if digest_of(&bytes) != blob.digest {
                return Err(RegistryError::Digest {
                    what: "blob",
                    digest: blob.digest,
                });
            }
            return Ok(bytes);
        }
    }

    /// Takes a blob over from another repository of the server. None when that is done, else where to upload it.
    pub async fn mount(
        &self,
        digest: &Digest,
        from: &str,
    ) -> Result<Option<Opened>, RegistryError> {
        let path = format!("blobs/uploads/?mount={digest}&from={from}");
        let call = self.call(Method::POST, &path, self.push_scope(Some(from)));
        self.open(call).await
    }

    /// Starts an upload.
    pub async fn start_upload(&self) -> Result<Opened, RegistryError> {
        let call = self.call(Method::POST, "blobs/uploads/", self.push_scope(None));
        let opened = self.open(call).await?;
        opened.ok_or_else(|| RegistryError::Unusable("the registry did not open an upload".into()))
    }

    /// Asks for an upload; none when the blob is there at once. It runs on when nobody waits any more, so that what the registry
    /// opens then is given up as well.
    async fn open(&self, call: Call) -> Result<Option<Opened>, RegistryError> {
        let repository = self.clone();
        let opening = tokio::spawn(async move {
            let response = repository.session.send(&call).await?;
            if response.status() == StatusCode::CREATED {
                return Ok(None);
            }
            let at = repository.upload_location(&response)?;
            Ok(Some(Opened::new(repository, at)))
        });
        opening
            .await
            .map_err(|error| RegistryError::Store(Error::internal(error.to_string())))?
    }

    /// Sends a part of an upload as it comes into being.
    pub async fn patch(
        &self,
        upload: &mut Opened,
        body: reqwest::Body,
    ) -> Result<(), RegistryError> {
        let call = self.upload_call(Method::PATCH, place(upload)?);
        let response = self.session.stream(&call, body).await?;
        upload.moved(self.upload_location(&response)?);
        Ok(())
    }

    /// Sends a whole blob of this digest and size as it comes into being.
    pub async fn put_stream(
        &self,
        upload: Opened,
        blob: (&Digest, u64),
        body: reqwest::Body,
    ) -> Result<(), RegistryError> {
        let at = with_digest(place(&upload)?, blob.0);
        let mut call = self.upload_call(Method::PUT, at);
        call.headers.insert(CONTENT_LENGTH, blob.1.into());
        self.session.stream(&call, body).await?;
        upload.done();
        Ok(())
    }

    /// Ends an upload; `body` is what is left to send.
    pub async fn finish(
        &self,
        upload: Opened,
        digest: &Digest,
        body: Bytes,
    ) -> Result<(), RegistryError> {
        let at = with_digest(place(&upload)?, digest);
        let mut call = self.upload_call(Method::PUT, at);
        call.body = Some(body);
        self.session.once(&call).await?;
        upload.done();
        Ok(())
    }

    /// Gives an upload up; the registry forgets it by itself when this fails.
    pub async fn cancel(&self, at: Url) {
        let call = self.upload_call(Method::DELETE, at);
        if let Err(error) = self.session.once(&call).await {
            tracing::debug!("cancelling an upload: {error}");
        }
    }

    fn upload_call(&self, method: Method, at: Url) -> Call {
        let mut call = self.call(method, "", self.push_scope(None));
        call.target = Target::Url(at);
        call.unknown = "BLOB_UPLOAD_UNKNOWN";
        let kind = HeaderValue::from_static("application/octet-stream");
        call.headers.insert(CONTENT_TYPE, kind);
        call
    }

    fn upload_location(&self, response: &Response) -> Result<Url, RegistryError> {
        let location = response.headers().get(LOCATION);
        let location = location.and_then(|value| value.to_str().ok());
        let location = location.ok_or_else(|| {
            RegistryError::Unusable("the registry did not say where to upload to".into())
        })?;
        self.session.endpoint.located(response.url(), location)
    }
}

fn place(upload: &Opened) -> Result<Url, RegistryError> {
    let over = || RegistryError::Unusable("the upload is over".into());
    upload.at().cloned().ok_or_else(over)
}

fn with_digest(mut at: Url, digest: &Digest) -> Url {
    at.query_pairs_mut()
        .append_pair("digest", &digest.to_string());
    at
}

/// `bytes 100-199/200`.
fn range_start(headers: &HeaderMap) -> Option<u64> {
    let text = headers.get(CONTENT_RANGE)?.to_str().ok()?;
    text.strip_prefix("bytes ")?.split('-').next()?.parse().ok()
}

/// `</v2/a/tags/list?last=x&n=100>; rel="next"`.
fn next_page(headers: &HeaderMap, from: &Url) -> Option<Url> {
    let text = headers.get(LINK)?.to_str().ok()?;
    let (target, parameters) = text.strip_prefix('<')?.split_once('>')?;
    parameters
        .contains("next")
        .then(|| from.join(target).ok())
        .flatten()
}

fn check_size(what: &'static str, wanted: &Descriptor, got: u64) -> Result<(), RegistryError> {
    if wanted.size == got {
        return Ok(());
    }
    Err(RegistryError::Size {
        what,
        digest: wanted.digest,
        want: wanted.size,
        got,
    })
}

/// The digest of bytes in memory.
pub fn digest_of(bytes: &[u8]) -> Digest {
    let hash = ring::digest::digest(&ring::digest::SHA256, bytes);
    let mut raw = [0; 32];
    raw.copy_from_slice(hash.as_ref());
    Digest::from_bytes(raw)
}

/// Media types of the configurations of images; an artifact has another.
pub fn is_image_config(kind: &str) -> bool {
    matches!(
        kind,
        media_type::CONFIG | media_type::DOCKER_CONFIG | "application/octet-stream" | ""
    )
}
