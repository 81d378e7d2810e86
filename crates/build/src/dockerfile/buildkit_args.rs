//! Build arguments that steer the build itself.

use std::collections::BTreeMap;

/// What they say; none for those that were not given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BuildkitArgs {
    /// `BUILDKIT_BUILD_NAME`
    pub build_name: Option<String>,
    /// `BUILDKIT_CACHE_MOUNT_NS`: goes before the ids of cache mounts.
    pub cache_mount_namespace: Option<String>,
    /// `BUILDKIT_CONTEXT_KEEP_GIT_DIR`
    pub keep_git_dir: bool,
    /// `BUILDKIT_INLINE_CACHE`
    pub inline_cache: bool,
    /// `BUILDKIT_MULTI_PLATFORM`
    pub multi_platform: bool,
    /// `BUILDKIT_SANDBOX_HOSTNAME`: the host name of RUN.
    pub hostname: Option<String>,
    /// `BUILDKIT_SYNTAX`: the front end; `dockerfile.v0` is the one that is built in.
    pub syntax: Option<String>,
    /// `SOURCE_DATE_EPOCH`: seconds of all timestamps.
    pub source_date_epoch: Option<i64>,
    /// `BUILDKIT_DOCKERFILE_CHECK`: settings of checks.
    pub check: Option<String>,
    /// `BUILDKIT_SBOM_SCAN_CONTEXT`
    pub scan_context: Option<String>,
    /// `BUILDKIT_SBOM_SCAN_STAGE`
    pub scan_stage: Option<String>,
}

impl BuildkitArgs {
    /// Reads them out of `--build-arg`.
    ///
    /// # Errors
    /// A truth value or a number that is none.
    pub fn new(given: &BTreeMap<String, String>) -> Result<Self, String> {
        let text = |name: &str| given.get(name).filter(|value| !value.is_empty()).cloned();
        let on = |name: &str| match given.get(name).map(String::as_str) {
            None | Some("" | "0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
            Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
            Some(value) => Err(format!("failed to parse {name}: invalid value {value:?}")),
        };
        let epoch = text("SOURCE_DATE_EPOCH").map(|value| {
            value
                .parse()
                .map_err(|_| format!("invalid SOURCE_DATE_EPOCH: {value}"))
        });
        Ok(Self {
            build_name: text("BUILDKIT_BUILD_NAME"),
            cache_mount_namespace: text("BUILDKIT_CACHE_MOUNT_NS"),
            keep_git_dir: on("BUILDKIT_CONTEXT_KEEP_GIT_DIR")?,
            inline_cache: on("BUILDKIT_INLINE_CACHE")?,
            multi_platform: on("BUILDKIT_MULTI_PLATFORM")?,
            hostname: text("BUILDKIT_SANDBOX_HOSTNAME"),
            syntax: text("BUILDKIT_SYNTAX"),
            source_date_epoch: epoch.transpose()?,
            check: text("BUILDKIT_DOCKERFILE_CHECK"),
            scan_context: text("BUILDKIT_SBOM_SCAN_CONTEXT"),
            scan_stage: text("BUILDKIT_SBOM_SCAN_STAGE"),
        })
    }
}
