//! Newer peers than the installed ones: unpacked by `scripts/from-trixie` and kept below `target/trixie/`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// Where the package is unpacked, fetched if it is missing.
pub fn from_trixie(package: &str) -> Result<PathBuf> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/from-trixie");
    let output = Command::new(&script)
        .arg(package)
        .output()
        .with_context(|| script.display().to_string())?;
    ensure!(
        output.status.success(),
        "package {package}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(PathBuf::from(String::from_utf8(output.stdout)?.trim()))
}
