//! Base images: made once by `scripts/base-image` and kept below `target/images/`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// The images that can be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BaseImage {
    /// A busybox root from the package busybox-static.
    Busybox,
    /// A few programs of busybox for arm64, from the package of that architecture.
    BusyboxArm64,
    /// A minimal Debian made by mmdebstrap.
    Debian,
    /// One static program that prints a greeting.
    HelloWorld,
}

impl BaseImage {
    /// The image's name, without a tag.
    pub fn name(self) -> &'static str {
        match self {
            Self::Busybox => "busybox",
            Self::BusyboxArm64 => "busybox-arm64",
            Self::Debian => "debian",
            Self::HelloWorld => "hello-world",
        }
    }
}

/// The path of the image as a docker archive, made if it is missing; where `CAIS_BASE_IMAGES` names a directory of ready
/// archives, the one there.
pub fn base_image(image: BaseImage) -> Result<PathBuf> {
    if let Some(directory) = std::env::var_os("CAIS_BASE_IMAGES") {
        return Ok(Path::new(&directory).join(format!("{}.tar", image.name())));
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/base-image");
    let output = Command::new(&script)
        .arg(image.name())
        .output()
        .with_context(|| script.display().to_string())?;
    ensure!(
        output.status.success(),
        "base image {}: {}",
        image.name(),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(PathBuf::from(String::from_utf8(output.stdout)?.trim()))
}
