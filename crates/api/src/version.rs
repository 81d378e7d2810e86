//! The version of the API a client speaks, and the gate that refuses the ones outside ours.

use std::fmt;

use cais_types::api::{API_VERSION, MIN_API_VERSION};
use cais_types::{Error, Result};

/// A version of the Engine API: `1.51`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u32, pub u32);

/// The newest version, taken when a path names none.
pub const NEWEST: Version = Version(1, 51);
const OLDEST: Version = Version(1, 24);

impl Version {
    /// Whether this is older than `1.minor`.
    pub fn before(self, minor: u32) -> bool {
        self < Self(1, minor)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

/// Takes `/v1.44` off a path.
///
/// # Errors
/// Invalid: the version is above or below the ones spoken here.
pub fn split(path: &str) -> Result<(Version, &str)> {
    let Some((text, rest)) = prefix(path) else {
        return Ok((NEWEST, path));
    };
    let mut parts = text
        .split('.')
        .map(|part| part.parse::<u32>().unwrap_or(u32::MAX));
    let version = Version(parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    if version > NEWEST {
        return Err(Error::invalid(format!(
            "client version {text} is too new. Maximum supported API version is {API_VERSION}"
        )));
    }
    if version < OLDEST {
        return Err(Error::invalid(format!(
            "client version {text} is too old. Minimum supported API version is {MIN_API_VERSION}, \
             please upgrade your client to a newer version"
        )));
    }
    Ok((version, rest))
}

/// The digits and dots after `/v`, and the path behind them.
fn prefix(path: &str) -> Option<(&str, &str)> {
    let after = path.strip_prefix("/v")?;
    let end = after.find('/')?;
    let text = &after[..end];
    let numeric = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    numeric.then(|| (text, &after[end..]))
}

#[cfg(test)]
mod tests {
    use super::{NEWEST, Version, split};

    #[test]
    fn versions_are_split_off_and_gated() {
        assert_eq!(split("/v1.24/info").unwrap(), (Version(1, 24), "/info"));
        assert_eq!(split("/info").unwrap(), (NEWEST, "/info"));
        assert_eq!(split("/volumes").unwrap(), (NEWEST, "/volumes"));
        let new = split("/v1.60/info").unwrap_err();
        assert_eq!(
            new.message(),
            "client version 1.60 is too new. Maximum supported API version is 1.51"
        );
        let old = split("/v1.12/info").unwrap_err();
        assert_eq!(
            old.message(),
            "client version 1.12 is too old. Minimum supported API version is 1.24, please upgrade your \
             client to a newer version"
        );
        assert!(split("/v99999999999.1/info").is_err());
    }
}
