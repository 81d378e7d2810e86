//! What a build is asked for.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use cais_types::Reference;
use cais_types::oci::Platform;

use crate::attest::{Annotations, Attestations};
use crate::dockerfile::Source;
use crate::ports::{FileMemory, Host};

/// A build.
#[derive(Debug)]
pub struct BuildRequest {
    /// What tells it from other builds.
    pub id: String,
    /// Where the context came from, if the client did not send it.
    pub remote: Option<String>,
    pub attestations: Attestations,
    pub annotations: Annotations,
    pub dockerfile: Source,
    /// The root of the context, and its path on the host.
    pub context: OwnedFd,
    pub context_path: PathBuf,
    /// What is known of its files, if it stays.
    pub memory: Option<Arc<dyn FileMemory>>,
    /// Contexts by name, in lower case.
    pub contexts: BTreeMap<String, NamedContext>,
    /// A directory that goes with the build.
    pub scratch: PathBuf,
    pub build_args: BTreeMap<String, String>,
    pub labels: BTreeMap<String, String>,
    pub target: String,
    /// Names for the result.
    pub tags: Vec<String>,
    pub no_cache: bool,
    /// Make one layer of all above the base of the target.
    pub squash: bool,
    /// Images whose history may stand for steps.
    pub cache_from: Vec<String>,
    /// Names that get the images of all stages, for [`BuildRequest::cache_from`] elsewhere.
    pub cache_to: Vec<String>,
    /// The time of what is made, in seconds since 1970; the present one without it.
    pub created: Option<i64>,
    /// Files of new layers are at most that old.
    pub rewrite_times: bool,
    /// Names of stages whose steps are made anew.
    pub no_cache_filter: Vec<String>,
    /// Ask the registry for base images even when they are here.
    pub pull: bool,
    /// Show nothing but the id of the result.
    pub quiet: bool,
    /// Keep the containers of steps.
    pub keep_containers: bool,
    /// Remove the containers of steps that failed.
    pub force_remove: bool,
    /// `default`, `none`, `host`, a network's name, `container:NAME`.
    pub network: String,
    pub host: Host,
    /// What to build for, one image each; this machine without any.
    pub platforms: Vec<Platform>,
    /// The session of the client that lends secrets and agents; empty without one.
    pub session: String,
}

/// What a name in FROM or `--from` stands for, beside stages and images.
#[derive(Clone, Debug)]
pub enum NamedContext {
    /// Another image.
    Image(String),
    /// A directory of the host.
    Directory {
        path: PathBuf,
        memory: Option<Arc<dyn FileMemory>>,
    },
}

/// What a context is called that is for one platform only, as BuildKit has it.
pub fn platform_context(name: &str, platform: &Platform) -> String {
    format!("{name}::{platform}")
}

impl BuildRequest {
    /// The context of this name, first one for a platform alone (`NAME::PLATFORM`); that of an image may be written in any of its
    /// forms.
    pub fn context_named(&self, name: &str, platform: &Platform) -> Option<&NamedContext> {
        let familiar = |name: &str| {
            let reference: Reference = name.parse().ok()?;
            Some(reference.with_default_tag().familiar())
        };
        let name = name.to_lowercase();
        let own = self.contexts.get(&platform_context(&name, platform));
        own.or_else(|| self.contexts.get(&name)).or_else(|| {
            let wanted = familiar(&name)?;
            let mut contexts = self.contexts.iter();
            contexts.find_map(|(name, context)| {
                familiar(name)
                    .is_some_and(|name| name == wanted)
                    .then_some(context)
            })
        })
    }
}
