//! Which noun a path means. Repository names contain slashes, so the end of the path decides.

use cais_types::Digest;
use percent_encoding::percent_decode_str;

use super::error::{ErrorCode, RegistryError};
use super::name::{ManifestName, RepositoryName, parse_digest};

/// The nouns of distribution-spec, and two of ours.
#[derive(Debug, PartialEq, Eq)]
pub enum Route {
    Base,
    Catalog,
    Tags(RepositoryName),
    Manifest(RepositoryName, ManifestName),
    Referrers(RepositoryName, Digest),
    Blob(RepositoryName, Digest),
    Uploads(RepositoryName),
    Upload(RepositoryName, String),
    Health,
    Metrics,
}

impl Route {
    /// Reads a path.
    ///
    /// # Errors
    /// A path that is none of ours is 404; a name, tag or digest that breaks its grammar.
    pub fn parse(path: &str) -> Result<Self, RegistryError> {
        let path = percent_decode_str(path)
            .decode_utf8()
            .map_err(|_| not_found())?;
        match &*path {
            "/healthz" => return Ok(Self::Health),
            "/metrics" => return Ok(Self::Metrics),
            "/v2" | "/v2/" => return Ok(Self::Base),
            "/v2/_catalog" => return Ok(Self::Catalog),
            _ => {}
        }
        let rest = path.strip_prefix("/v2/").ok_or_else(not_found)?;
        let name = RepositoryName::parse;
        if let Some(repository) = rest.strip_suffix("/tags/list") {
            return Ok(Self::Tags(name(repository)?));
        }
        if let Some(repository) = rest.strip_suffix("/blobs/uploads") {
            return Ok(Self::Uploads(name(repository)?));
        }
        let (front, last) = rest.rsplit_once('/').ok_or_else(not_found)?;
        if let Some(repository) = front.strip_suffix("/blobs/uploads") {
            let repository = name(repository)?;
            return Ok(if last.is_empty() {
                Self::Uploads(repository)
            } else {
                Self::Upload(repository, last.to_owned())
            });
        }
        let (repository, noun) = front.rsplit_once('/').ok_or_else(not_found)?;
        match noun {
            "manifests" => Ok(Self::Manifest(
                name(repository)?,
                ManifestName::parse(last)?,
            )),
            "blobs" => Ok(Self::Blob(name(repository)?, parse_digest(last)?)),
            "referrers" => Ok(Self::Referrers(name(repository)?, parse_digest(last)?)),
            _ => Err(not_found()),
        }
    }

    /// What metrics call it.
    pub const fn noun(&self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::Catalog => "catalog",
            Self::Tags(_) => "tags",
            Self::Manifest(..) => "manifest",
            Self::Referrers(..) => "referrers",
            Self::Blob(..) => "blob",
            Self::Uploads(_) | Self::Upload(..) => "upload",
            Self::Health | Self::Metrics => "own",
        }
    }
}

fn not_found() -> RegistryError {
    RegistryError::new(ErrorCode::Unsupported, "page not found")
        .with_status(http::StatusCode::NOT_FOUND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_decides() {
        let digest = format!("sha256:{}", "ab".repeat(32));
        let noun = |path: &str| Route::parse(path).map(|route| route.noun());
        for (path, want) in [
            ("/v2/", "base"),
            ("/v2/_catalog", "catalog"),
            ("/v2/a/b/tags/list", "tags"),
            ("/v2/tags/list/tags/list", "tags"),
            ("/v2/manifests/manifests/manifests", "manifest"),
            ("/v2/a/blobs/uploads/manifests/x", "manifest"),
            ("/v2/a/blobs/uploads/", "upload"),
            ("/v2/a/blobs/uploads", "upload"),
            ("/v2/a/blobs/uploads/123", "upload"),
            (&format!("/v2/a/blobs/{digest}"), "blob"),
            (
                &format!("/v2/a/blobs/{}", digest.replace(':', "%3A")),
                "blob",
            ),
            (&format!("/v2/a/referrers/{digest}"), "referrers"),
        ] {
            assert_eq!(noun(path).unwrap(), want, "{path}");
        }
        for (path, want) in [
            ("/v1/", ErrorCode::Unsupported),
            ("/v2/a", ErrorCode::Unsupported),
            ("/v2/A/tags/list", ErrorCode::NameInvalid),
            ("/v2/../../etc/tags/list", ErrorCode::NameInvalid),
            ("/v2/%2e%2e/a/tags/list", ErrorCode::NameInvalid),
            ("/v2/a/blobs/sha256:12", ErrorCode::DigestInvalid),
            ("/v2/a/manifests/.x", ErrorCode::ManifestInvalid),
        ] {
            assert_eq!(Route::parse(path).unwrap_err().code, want, "{path}");
        }
    }
}
