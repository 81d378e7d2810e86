//! Image references: `[domain/]path[:tag][@digest]`, parsed and shown as Docker does (distribution/reference).
//!
//! A [`Reference`] is always normalised: `busybox` is kept as domain `docker.io`, path `library/busybox`. The familiar
//! form (`busybox:latest`) is what users see.

use std::fmt;
use std::str::FromStr;

use crate::error::Error;

const DEFAULT_DOMAIN: &str = "docker.io";
const LEGACY_DOMAIN: &str = "index.docker.io";
const OFFICIAL_PREFIX: &str = "library/";
const DEFAULT_TAG: &str = "latest";
const PATH_MAX: usize = 255;
const TAG_MAX: usize = 128;

/// Why a text is not an image reference; `Display` is Docker's sentence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// Does not follow the grammar.
    #[error("invalid reference format")]
    Format,
    /// The repository path has upper-case letters.
    #[error("invalid reference format: repository name ({0}) must be lowercase")]
    Uppercase(String),
    /// 64 hex digits are an image id, not a name.
    #[error("invalid repository name ({0}), cannot specify 64-byte hexadecimal strings")]
    Identifier(String),
    /// The path is longer than 255 bytes.
    #[error("invalid reference format: repository name must not be more than 255 characters")]
    TooLong,
    /// The digest after `@` has a wrong length for its algorithm.
    #[error("invalid checksum digest length")]
    DigestLength,
    /// The digest after `@` is of an algorithm this store does not verify.
    #[error("unsupported digest algorithm")]
    DigestAlgorithm,
}

impl From<ReferenceError> for Error {
    fn from(error: ReferenceError) -> Self {
        Self::invalid(error.to_string()).with_source(error)
    }
}

/// A normalised image reference.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    domain: String,
    path: String,
    tag: Option<String>,
    digest: Option<String>,
}

/// What a user may write where an image is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AnyReference {
    /// A full image id, with or without `sha256:` in front; the 64 hex digits.
    Id(String),
    /// A name.
    Named(Reference),
}

impl Reference {
    /// The registry, `docker.io` unless named.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The repository path below the registry, `library/busybox`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Domain and path, `docker.io/library/busybox`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.domain, self.path)
    }

    /// The tag, if one is written.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if one is written, `sha256:...`.
    pub fn digest(&self) -> Option<&str> {
        self.digest.as_deref()
    }

    /// Whether neither tag nor digest is written.
    pub fn is_name_only(&self) -> bool {
        self.tag.is_none() && self.digest.is_none()
    }

    /// The same with tag `latest` when neither tag nor digest is written.
    #[must_use]
    pub fn with_default_tag(mut self) -> Self {
        if self.is_name_only() {
            self.tag = Some(DEFAULT_TAG.to_owned());
        }
        self
    }

    /// The same repository under another tag; refused when the tag breaks the grammar.
    pub fn with_tag(&self, tag: &str) -> Result<Self, ReferenceError> {
        if !is_tag(tag) {
            return Err(ReferenceError::Format);
        }
        Ok(Self {
            tag: Some(tag.to_owned()),
            digest: None,
            ..self.clone()
        })
    }

    /// The same repository by digest alone (`name@sha256:...`); refused when the digest is not one.
    pub fn with_digest(&self, digest: &str) -> Result<Self, ReferenceError> {
        check_digest(digest)?;
        Ok(Self {
            tag: None,
            digest: Some(digest.to_owned()),
            ..self.clone()
        })
    }

    /// The short name users see: `busybox`, `user/app`, `localhost:5000/app`.
    pub fn familiar_name(&self) -> String {
        if self.domain != DEFAULT_DOMAIN {
            return self.name();
        }
        match self.path.strip_prefix(OFFICIAL_PREFIX) {
            Some(rest) if !rest.contains('/') => rest.to_owned(),
            _ => self.path.clone(),
        }
    }

    /// The familiar name with tag and digest as they are written.
    pub fn familiar(&self) -> String {
        self.suffixed(self.familiar_name())
    }

    fn suffixed(&self, mut name: String) -> String {
        if let Some(tag) = &self.tag {
            name.push(':');
            name.push_str(tag);
        }
        if let Some(digest) = &self.digest {
            name.push('@');
            name.push_str(digest);
        }
        name
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.suffixed(self.name()))
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        if is_identifier(text) {
            return Err(ReferenceError::Identifier(text.to_owned()));
        }
        let (domain, remainder) = split_domain(text);
        let remote = remainder
            .split_once(':')
            .map_or(&*remainder, |(remote, _)| remote);
        if remote.chars().any(char::is_uppercase) {
            return Err(ReferenceError::Uppercase(remote.to_owned()));
        }
        parse_parts(domain, &remainder)
    }
}

impl FromStr for AnyReference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let digits = text.strip_prefix("sha256:").unwrap_or(text);
        if is_identifier(digits) {
            return Ok(Self::Id(digits.to_owned()));
        }
        text.parse().map(Self::Named)
    }
}

fn is_identifier(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn split_domain(text: &str) -> (&str, String) {
    let Some((first, rest)) = text.split_once('/') else {
        return (DEFAULT_DOMAIN, format!("{OFFICIAL_PREFIX}{text}"));
    };
    let is_domain =
        first == "localhost" || first.contains(['.', ':']) || first.chars().any(char::is_uppercase);
    let (domain, remainder) = match first {
        LEGACY_DOMAIN => (DEFAULT_DOMAIN, rest),
        _ if is_domain => (first, rest),
        _ => (DEFAULT_DOMAIN, text),
    };
    if domain == DEFAULT_DOMAIN && !remainder.contains('/') {
        return (domain, format!("{OFFICIAL_PREFIX}{remainder}"));
    }
    (domain, remainder.to_owned())
}

fn parse_parts(domain: &str, remainder: &str) -> Result<Reference, ReferenceError> {
    let (named, digest) = match remainder.split_once('@') {
        Some((named, digest)) => (named, Some(digest)),
        None => (remainder, None),
    };
    let (path, tag) = match named.split_once(':') {
        Some((path, tag)) => (path, Some(tag)),
        None => (named, None),
    };
    if !is_domain(domain) || !path.split('/').all(is_path_component) {
        return Err(ReferenceError::Format);
    }
    if tag.is_some_and(|tag| !is_tag(tag)) {
        return Err(ReferenceError::Format);
    }
    if path.len() > PATH_MAX {
        return Err(ReferenceError::TooLong);
    }
    digest.map(check_digest).transpose()?;
    Ok(Reference {
        domain: domain.to_owned(),
        path: path.to_owned(),
        tag: tag.map(str::to_owned),
        digest: digest.map(str::to_owned),
    })
}

fn is_domain(domain: &str) -> bool {
    let (host, port) = match domain.strip_prefix('[') {
        Some(rest) => {
            let Some((address, port)) = rest.split_once(']') else {
                return false;
            };
            let hex = |b: u8| b.is_ascii_hexdigit() || b == b':';
            if address.is_empty() || !address.bytes().all(hex) {
                return false;
            }
            return port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
        }
        None => match domain.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (domain, None),
        },
    };
    host.split('.').all(is_domain_component) && port.is_none_or(is_port)
}

fn is_port(port: &str) -> bool {
    !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit())
}

fn is_domain_component(component: &str) -> bool {
    !component.is_empty()
        && !component.starts_with('-')
        && !component.ends_with('-')
        && component
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_path_component(component: &str) -> bool {
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let mut rest = component.as_bytes();
    loop {
        let word = rest.iter().take_while(|b| alphanumeric(**b)).count();
        if word == 0 {
            return false;
        }
        rest = &rest[word..];
        if rest.is_empty() {
            return true;
        }
        let separator = rest.iter().take_while(|b| !alphanumeric(**b)).count();
        let dashes = rest[..separator].iter().all(|b| *b == b'-');
        if !matches!(&rest[..separator], b"." | b"_" | b"__") && !dashes {
            return false;
        }
        rest = &rest[separator..];
    }
}

/// `[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}`
fn is_tag(tag: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    tag.len() <= TAG_MAX
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|b| word(b) || matches!(b, b'.' | b'-'))
}

fn check_digest(digest: &str) -> Result<(), ReferenceError> {
    let (algorithm, digits) = digest.split_once(':').ok_or(ReferenceError::Format)?;
    let letters = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphabetic())
            && part.bytes().all(|b| b.is_ascii_alphanumeric())
    };
    let hex = digits.len() >= 32 && digits.bytes().all(|b| b.is_ascii_hexdigit());
    if !hex || !algorithm.split(['-', '_', '+', '.']).all(letters) {
        return Err(ReferenceError::Format);
    }
    match algorithm {
        "sha256" if is_identifier(digits) => Ok(()),
        "sha256" => Err(ReferenceError::DigestLength),
        _ => Err(ReferenceError::DigestAlgorithm),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Reference, String> {
        text.parse()
            .map_err(|error: ReferenceError| error.to_string())
    }

    #[test]
    fn short_names_become_full_and_back() {
        for (text, full, familiar) in [
            ("busybox", "docker.io/library/busybox", "busybox"),
            (
                "busybox:1.36",
                "docker.io/library/busybox:1.36",
                "busybox:1.36",
            ),
            ("user/app", "docker.io/user/app", "user/app"),
            ("docker.io/busybox", "docker.io/library/busybox", "busybox"),
            ("index.docker.io/a/b:c", "docker.io/a/b:c", "a/b:c"),
            ("localhost/app", "localhost/app", "localhost/app"),
            (
                "localhost:5000/a:b",
                "localhost:5000/a:b",
                "localhost:5000/a:b",
            ),
            ("quay.io/a/b/c", "quay.io/a/b/c", "quay.io/a/b/c"),
            ("[::1]:5000/a", "[::1]:5000/a", "[::1]:5000/a"),
            ("library/busybox", "docker.io/library/busybox", "busybox"),
            ("a__b/c--d.e_f", "docker.io/a__b/c--d.e_f", "a__b/c--d.e_f"),
        ] {
            let reference = parse(text).unwrap();
            assert_eq!(reference.to_string(), full, "{text}");
            assert_eq!(reference.familiar(), familiar, "{text}");
        }
        let reference = parse("busybox").unwrap().with_default_tag();
        assert_eq!(reference.familiar(), "busybox:latest");
    }

    #[test]
    fn digests_are_kept_and_never_get_a_default_tag() {
        let text = format!("busybox@sha256:{}", "0a".repeat(32));
        let reference = parse(&text).unwrap().with_default_tag();
        assert_eq!(reference.familiar(), text);
        assert_eq!(reference.tag(), None);
        let short = format!("busybox@sha256:{}", "0a".repeat(20));
        assert_eq!(parse(&short).unwrap_err(), "invalid checksum digest length");
    }

    #[test]
    fn bad_references_get_dockers_sentences() {
        let long = "a".repeat(300);
        for bad in [
            "", ":", "a:", "a//b", "-a", "a..b", "a___b", "a:b c", "a@b", "x/a:b:c",
        ] {
            assert_eq!(parse(bad).unwrap_err(), "invalid reference format", "{bad}");
        }
        assert_eq!(
            parse("Foo").unwrap_err(),
            "invalid reference format: repository name (library/Foo) must be lowercase"
        );
        assert_eq!(
            parse("a/Foo:Tag").unwrap_err(),
            "invalid reference format: repository name (a/Foo) must be lowercase"
        );
        assert!(parse(&long).unwrap_err().contains("255 characters"));
        let id = "ab".repeat(32);
        assert!(parse(&id).unwrap_err().contains("64-byte hexadecimal"));
        assert_eq!(id.parse(), Ok(AnyReference::Id(id.clone())));
        assert_eq!(format!("sha256:{id}").parse(), Ok(AnyReference::Id(id)));
    }

    #[test]
    fn tags_are_checked() {
        let name = parse("busybox").unwrap();
        assert_eq!(name.with_tag("v1").unwrap().familiar(), "busybox:v1");
        assert!(name.with_tag(".v1").is_err());
        assert!(name.with_tag(&"v".repeat(129)).is_err());
    }
}
