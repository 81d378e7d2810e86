//! The arguments that every file has for its platforms and its target stage.

use std::collections::BTreeMap;

use cais_types::oci::Platform;

/// `TARGETPLATFORM`, `BUILDARCH` and the like, with `TARGETSTAGE`.
pub fn arguments(build: &Platform, target: &Platform, stage: &str) -> BTreeMap<String, String> {
    let mut values = BTreeMap::new();
    for (prefix, platform) in [("BUILD", build), ("TARGET", target)] {
        let variant = platform.variant.clone().unwrap_or_default();
        let mut whole = format!("{}/{}", platform.os, platform.architecture);
        if !variant.is_empty() {
            whole = format!("{whole}/{variant}");
        }
        for (name, value) in [
            ("PLATFORM", whole),
            ("OS", platform.os.clone()),
            ("OSVERSION", platform.os_version.clone().unwrap_or_default()),
            ("ARCH", platform.architecture.clone()),
            ("VARIANT", variant),
        ] {
            values.insert(format!("{prefix}{name}"), value);
        }
    }
    let stage = if stage.is_empty() { "default" } else { stage };
    values.insert("TARGETSTAGE".to_owned(), stage.to_owned());
    values
}
