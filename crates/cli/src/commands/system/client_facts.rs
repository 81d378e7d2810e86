//! What the command line tells about itself in `version` and `info`.

use cais_client::MAX_API_MINOR;

/// Version of this program.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Operating system, by Go's name.
pub const OS: &str = std::env::consts::OS;

/// Processor, by Go's name.
pub fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// The newest API version this program speaks.
pub fn api_version() -> String {
    format!("1.{MAX_API_MINOR}")
}
