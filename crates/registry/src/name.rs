//! Names as a registry's paths carry them, parsed once: repositories, tags, and what stands after `/manifests/`
//! (distribution-spec, "Pulling manifests").

use std::borrow::Borrow;
use std::fmt;
use std::sync::{Arc, LazyLock};

use cais_types::{Digest, Reference};

use super::error::{ErrorCode, RegistryError};

/// A repository, `library/busybox`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RepositoryName(Arc<str>);

/// A tag, at most 128 characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(Box<str>);

/// A manifest by tag or by digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ManifestName {
    Tag(Tag),
    Digest(Digest),
}

/// Tags are checked by the rules of references, whatever the repository.
static ANY: LazyLock<Option<Reference>> = LazyLock::new(|| "registry.invalid/any".parse().ok());

impl RepositoryName {
    /// Reads a name by the grammar of the specification.
    ///
    /// # Errors
    /// `NAME_INVALID`.
    pub fn parse(text: &str) -> Result<Self, RegistryError> {
        let plain = !text.is_empty() && !text.contains([':', '@']);
        let reference = plain
            .then(|| format!("registry.invalid/{text}").parse::<Reference>().ok())
            .flatten()
            .filter(|reference| reference.path() == text);
        match reference {
            Some(_) => Ok(Self(text.into())),
            None => Err(RegistryError::new(
                ErrorCode::NameInvalid,
                "invalid repository name",
            )),
        }
    }

    /// A name that was checked before it was stored.
    pub(super) fn stored(text: &str) -> Self {
        Self(text.into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Tag {
    /// Reads a tag.
    ///
    /// # Errors
    /// `MANIFEST_INVALID`, as Docker's registry says it.
    pub fn parse(text: &str) -> Result<Self, RegistryError> {
        let fits = ANY
            .as_ref()
            .is_some_and(|reference| reference.with_tag(text).is_ok());
        if fits {
            Ok(Self(text.into()))
        } else {
            Err(RegistryError::new(
                ErrorCode::ManifestInvalid,
                "manifest tag did not match the grammar of tags",
            ))
        }
    }

    /// A tag that was checked before it was stored.
    pub(super) fn stored(text: &str) -> Self {
        Self(text.into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl ManifestName {
    /// What stands after `/manifests/`: with a colon it is a digest.
    ///
    /// # Errors
    /// `DIGEST_INVALID`, or that of [`Tag::parse`].
    pub fn parse(text: &str) -> Result<Self, RegistryError> {
        if text.contains(':') {
            parse_digest(text).map(Self::Digest)
        } else {
            Tag::parse(text).map(Self::Tag)
        }
    }
}

/// Reads a digest; this registry keeps `sha256` content only.
///
/// # Errors
/// `DIGEST_INVALID`.
pub fn parse_digest(text: &str) -> Result<Digest, RegistryError> {
    text.parse::<Digest>().map_err(|error| {
        RegistryError::new(
            ErrorCode::DigestInvalid,
            "provided digest did not match uploaded content",
        )
        .with_detail(error.to_string())
    })
}

impl fmt::Display for RepositoryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RepositoryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Borrow<str> for RepositoryName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Tag {
    fn borrow(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_tags_follow_the_grammar() {
        for good in ["a", "library/busybox", "docker.io/a__b/c--d.e_f", "0/1/2"] {
            assert_eq!(RepositoryName::parse(good).unwrap().as_str(), good);
        }
        let long = "a/".repeat(128);
        for bad in [
            "", "/a", "a/", "a//b", "A", "a..b", "a:b", "a@b", "../a", "a/.b", "a b", "ä", &long,
        ] {
            assert!(RepositoryName::parse(bad).is_err(), "{bad}");
        }
        for bad in ["", ".a", "-a", "a/b", "a b", &"t".repeat(129)] {
            assert!(Tag::parse(bad).is_err(), "{bad}");
        }
        assert!(matches!(
            ManifestName::parse("latest"),
            Ok(ManifestName::Tag(_))
        ));
        assert!(ManifestName::parse("sha256:00").is_err());
        assert!(ManifestName::parse("md5:00").is_err());
    }
}
