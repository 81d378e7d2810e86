//! Platforms, `os[/architecture[/variant]]`, and which of several an image is wanted for (containerd's rules).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What an image runs on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Platform {
    #[serde(default)]
    pub architecture: String,
    #[serde(default)]
    pub os: String,
    #[serde(
        default,
        rename = "os.version",
        skip_serializing_if = "Option::is_none"
    )]
    pub os_version: Option<String>,
    #[serde(
        default,
        rename = "os.features",
        skip_serializing_if = "Option::is_none"
    )]
    pub os_features: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

/// A text that names no platform.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?}: {reason}: invalid argument")]
pub struct PlatformError {
    text: String,
    reason: &'static str,
}

impl Platform {
    /// The platform of this machine.
    pub fn host() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "x86" => "386",
            "powerpc64" => "ppc64le",
            other => other,
        };
        Self {
            os: "linux".to_owned(),
            architecture: architecture.to_owned(),
            ..Self::default()
        }
        .normalized()
    }

    /// Architectures and variants under their usual names: `x86_64` is `amd64`, `arm64/v8` is `arm64`.
    #[must_use]
    pub fn normalized(mut self) -> Self {
        self.os = match self.os.to_ascii_lowercase().as_str() {
            "macos" => "darwin".to_owned(),
            other => other.to_owned(),
        };
        let variant = self.variant.take().map(|text| text.to_ascii_lowercase());
        let architecture = self.architecture.to_ascii_lowercase();
        let (architecture, variant) = match (architecture.as_str(), variant.as_deref()) {
            ("i386" | "i686" | "x86", _) => ("386", None),
            ("x86_64" | "x86-64" | "amd64", None | Some("" | "v1")) => ("amd64", None),
            ("x86_64" | "x86-64" | "amd64", Some(other)) => ("amd64", Some(other)),
            ("aarch64" | "arm64", None | Some("" | "8" | "v8")) => ("arm64", None),
            ("aarch64" | "arm64", Some(other)) => ("arm64", Some(other)),
            ("armhf", _) | ("arm", None | Some("" | "7")) => ("arm", Some("v7")),
            ("armel", _) => ("arm", Some("v6")),
            ("arm", Some("5")) => ("arm", Some("v5")),
            ("arm", Some("6")) => ("arm", Some("v6")),
            ("arm", Some("8")) => ("arm", Some("v8")),
            (other, variant) => (other, variant.filter(|text| !text.is_empty())),
        };
        let (architecture, variant) = (architecture.to_owned(), variant.map(str::to_owned));
        self.architecture = architecture;
        self.variant = variant;
        self
    }

    /// How well an image for `other` serves where this platform is wanted: smaller is better, none is not at all. An `arm/v7`
    /// machine also runs `arm/v6`, an `amd64/v3` one `amd64`.
    pub fn fit(&self, other: &Self) -> Option<u32> {
        let (want, have) = (self.clone().normalized(), other.clone().normalized());
        if want.os != have.os || want.architecture != have.architecture {
            return None;
        }
        let base = if want.architecture == "arm64" { 8 } else { 1 };
        let level = |variant: &Option<String>| match variant.as_deref() {
            None => Some(base),
            Some(text) => text.strip_prefix('v')?.parse::<u32>().ok(),
        };
        match (level(&want.variant), level(&have.variant)) {
            (Some(want), Some(have)) => want.checked_sub(have),
            _ => (want.variant == have.variant).then_some(0),
        }
    }
}

impl FromStr for Platform {
    type Err = PlatformError;

    /// `linux/arm64/v8`; a lone word is an operating system when it is a known one, else an architecture.
    fn from_str(text: &str) -> Result<Self, PlatformError> {
        let fail = |reason| PlatformError {
            text: text.to_owned(),
            reason,
        };
        let word = |part: &str| {
            !part.is_empty()
                && part
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
        };
        let parts: Vec<&str> = text.split('/').collect();
        if parts.iter().any(|part| !word(part)) {
            return Err(fail("invalid platform component"));
        }
        let host = Self::host();
        let own = |part: &str| Some(part.to_owned());
        let (os, architecture, variant) = match *parts.as_slice() {
            [os] if matches!(os, "linux" | "windows" | "darwin" | "macos" | "freebsd") => {
                (os.to_owned(), host.architecture, host.variant)
            }
            [architecture] => (host.os, architecture.to_owned(), None),
            [os, architecture] => (os.to_owned(), architecture.to_owned(), None),
            [os, architecture, variant] => (os.to_owned(), architecture.to_owned(), own(variant)),
            _ => return Err(fail("cannot parse platform specifier")),
        };
        Ok(Self {
            os,
            architecture,
            variant,
            ..Self::default()
        }
        .normalized())
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms_are_read_and_normalized() {
        for (text, want) in [
            ("linux/amd64", "linux/amd64"),
            ("linux/x86_64", "linux/amd64"),
            ("arm64", "linux/arm64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/arm", "linux/arm/v7"),
            ("linux/arm/v6", "linux/arm/v6"),
        ] {
            assert_eq!(text.parse::<Platform>().unwrap().to_string(), want);
        }
        for bad in ["", "linux/", "a/b/c/d", "linux/am d64"] {
            assert!(bad.parse::<Platform>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_nearest_variant_serves_best() {
        let fit = |want: &str, have: &str| {
            let want: Platform = want.parse().unwrap();
            want.fit(&have.parse().unwrap())
        };
        assert_eq!(fit("linux/amd64", "linux/amd64"), Some(0));
        assert_eq!(fit("linux/amd64", "linux/arm64"), None);
        assert_eq!(fit("linux/arm/v7", "linux/arm/v6"), Some(1));
        assert_eq!(fit("linux/arm/v6", "linux/arm/v7"), None);
        assert_eq!(fit("linux/arm64", "linux/arm64/v8"), Some(0));
    }
}
