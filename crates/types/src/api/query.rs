//! What a request asks in its URL, already parsed.

use std::collections::BTreeMap;

use serde_json::Value;

use super::registry::AuthConfig;
use crate::oci::Platform;
use crate::{Error, Reference, Result};

/// A filter set: `{"label":{"a=b":true},"status":{"running":true}}`. Values of one name are alternatives or all needed,
/// as the name has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filters {
    values: BTreeMap<String, Vec<String>>,
}

impl Filters {
    /// Parses the `filters` parameter, in today's form and in the one of API 1.21 and before (`{"label":["a=b"]}`).
    ///
    /// # Errors
    /// [`crate::ErrorClass::Invalid`]: it is neither.
    pub fn from_json(text: &str) -> Result<Self> {
        let mut filters = Self::default();
        if text.is_empty() {
            return Ok(filters);
        }
        let bad = || Error::invalid("invalid filter");
        let map: BTreeMap<String, Value> =
            serde_json::from_str(text).map_err(|error| bad().with_source(error))?;
        for (name, values) in map {
            let list = filters.values.entry(name).or_default();
            match values {
                Value::Null => {}
                Value::Object(set) => {
                    for (value, wanted) in set {
                        wanted.as_bool().ok_or_else(bad)?;
                        list.push(value);
                    }
                }
                Value::Array(items) => {
                    for item in items {
                        list.push(item.as_str().ok_or_else(bad)?.to_owned());
                    }
                }
                _ => return Err(bad()),
            }
            list.sort();
            list.dedup();
        }
        Ok(filters)
    }

    /// The `filters` parameter; empty for an empty set.
    pub fn to_json(&self) -> String {
        if self.values.is_empty() {
            return String::new();
        }
        let as_set = |values: &Vec<String>| {
            let set = values
                .iter()
                .map(|value| (value.clone(), Value::Bool(true)));
            Value::Object(set.collect())
        };
        let map = self
            .values
            .iter()
            .map(|(name, values)| (name.clone(), as_set(values)));
        Value::Object(map.collect()).to_string()
    }

    /// Adds a value.
    pub fn add(&mut self, name: impl Into<String>, value: impl Into<String>) {
        let list = self.values.entry(name.into()).or_default();
        let value = value.into();
        if let Err(place) = list.binary_search(&value) {
            list.insert(place, value);
        }
    }

    /// The values of a name, sorted; none when it is not given.
    pub fn get(&self, name: &str) -> &[String] {
        self.values.get(name).map_or(&[], Vec::as_slice)
    }

    /// Whether a name is given.
    pub fn contains(&self, name: &str) -> bool {
        !self.get(name).is_empty()
    }

    /// Whether nothing is given.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Every name with its values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[String])> {
        self.values
            .iter()
            .map(|(name, values)| (name.as_str(), values.as_slice()))
    }

    /// Refuses names that are not in the list.
    ///
    /// # Errors
    /// [`crate::ErrorClass::Invalid`] `invalid filter 'NAME'`.
    pub fn validate(&self, accepted: &[&str]) -> Result<()> {
        let odd = self
            .values
            .keys()
            .find(|name| !accepted.contains(&name.as_str()));
        match odd {
            Some(name) => Err(Error::invalid(format!("invalid filter '{name}'"))),
            None => Ok(()),
        }
    }

    /// Whether the name is not given, or has exactly this value among its own.
    pub fn matches(&self, name: &str, value: &str) -> bool {
        let wanted = self.get(name);
        wanted.is_empty() || wanted.iter().any(|want| want == value)
    }

    /// Whether the name is not given, or one of its values is a start of `value`.
    pub fn matches_prefix(&self, name: &str, value: &str) -> bool {
        let wanted = self.get(name);
        wanted.is_empty() || wanted.iter().any(|want| value.starts_with(want.as_str()))
    }

    /// Whether every value `key` or `key=value` of the name is in the map (`label`, `annotation`).
    pub fn matches_map(&self, name: &str, map: &BTreeMap<String, String>) -> bool {
        self.get(name).iter().all(|want| has_entry(map, want))
    }

    /// Whether the labels hold all of `label` and none of `label!`.
    pub fn matches_labels(&self, labels: &BTreeMap<String, String>) -> bool {
        let unwanted = self.get("label!");
        let none_unwanted = !unwanted.iter().any(|want| has_entry(labels, want));
        self.matches_map("label", labels) && none_unwanted
    }

    /// The truth value of a name that takes one.
    ///
    /// # Errors
    /// [`crate::ErrorClass::Invalid`] `invalid filter 'NAME=VALUES'`: it is not one of 1, true, 0, false.
    pub fn bool_or(&self, name: &str, default: bool) -> Result<bool> {
        let values = self.get(name);
        let (mut yes, mut no) = (false, false);
        for value in values {
            match value.as_str() {
                "1" | "true" => yes = true,
                "0" | "false" => no = true,
                _ => {}
            }
        }
        match (values.is_empty(), yes, no) {
            (true, _, _) => Ok(default),
            (false, true, false) => Ok(true),
            (false, false, true) => Ok(false),
            _ => Err(Error::invalid(format!(
                "invalid filter '{name}=[{}]'",
                values.join(" ")
            ))),
        }
    }
}

fn has_entry(map: &BTreeMap<String, String>, want: &str) -> bool {
    match want.split_once('=') {
        Some((key, value)) => map.get(key).is_some_and(|have| have == value),
        None => map.contains_key(want),
    }
}

/// `GET /containers/json`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerListQuery {
    pub all: bool,
    /// How many of the newest to show, running or not; 0 or less for no limit.
    pub limit: i64,
    pub size: bool,
    /// `since` and `before` of old clients are in here as well.
    pub filters: Filters,
}

/// `GET /containers/{id}/logs`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogsQuery {
    pub follow: bool,
    pub stdout: bool,
    pub stderr: bool,
    /// Unix nanoseconds.
    pub since: Option<i64>,
    /// Unix nanoseconds.
    pub until: Option<i64>,
    pub timestamps: bool,
    pub details: bool,
    /// How many lines from the end; `None` for all.
    pub tail: Option<u64>,
}

/// `GET /containers/{id}/stats`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatsQuery {
    pub stream: bool,
    /// Do not wait for a second sample; only without `stream`.
    pub one_shot: bool,
}

impl Default for StatsQuery {
    fn default() -> Self {
        Self {
            stream: true,
            one_shot: false,
        }
    }
}

/// `POST /containers/{id}/attach`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AttachQuery {
    /// `None` takes the daemon's.
    pub detach_keys: Option<String>,
    /// Send what is in the log already.
    pub logs: bool,
    /// Go on with what comes.
    pub stream: bool,
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    /// Send output without frames in any case: a websocket has its own.
    pub raw: bool,
}

/// `POST /containers/{id}/stop` and `/restart`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StopQuery {
    pub signal: Option<String>,
    /// In seconds; -1 waits without end; `None` takes the container's own.
    pub timeout: Option<i64>,
}

/// `DELETE /containers/{id}`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RemoveQuery {
    pub force: bool,
    /// Anonymous volumes go as well.
    pub volumes: bool,
    /// Remove only the link of this name.
    pub link: bool,
}

/// `GET /events`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventsQuery {
    /// Unix nanoseconds.
    pub since: Option<i64>,
    /// Unix nanoseconds; the stream ends then.
    pub until: Option<i64>,
    pub filters: Filters,
}

/// `GET /images/json`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageListQuery {
    pub all: bool,
    pub filters: Filters,
    pub shared_size: bool,
    pub digests: bool,
    pub manifests: bool,
}

/// `DELETE /images/{name}`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageRemoveQuery {
    pub force: bool,
    /// Keep parents that have no name.
    pub no_prune: bool,
    /// Only these, when any are given.
    pub platforms: Vec<Platform>,
    /// Take the name only; the image stays without it.
    pub untag: bool,
}

/// `POST /images/create?fromSrc=`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImportQuery {
    /// `-` for the request body, else a URL.
    pub source: String,
    pub repo: String,
    pub tag: String,
    pub message: String,
    /// Dockerfile instructions to apply.
    pub changes: Vec<String>,
    pub platform: String,
}

/// `POST /commit`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommitQuery {
    /// Name or id.
    pub container: String,
    pub repo: String,
    pub tag: String,
    pub comment: String,
    pub author: String,
    /// Pause the container while it is read.
    pub pause: bool,
    /// Dockerfile instructions to apply.
    pub changes: Vec<String>,
}

/// `POST /images/create?fromImage=`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PullQuery {
    /// Without tag and digest all tags of the repository.
    pub reference: Reference,
    /// None is this machine's.
    pub platform: Option<Platform>,
    pub auth: Option<AuthConfig>,
    /// The image gets no name: this holder of the store, by its number, keeps it.
    pub holder: Option<u64>,
    /// All images of an index that is the cache of a build, under its name.
    pub whole: bool,
}

/// `POST /images/{name}/push`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushQuery {
    /// Without a tag all tags of the repository.
    pub reference: Reference,
    /// Refuses an image of another one.
    pub platform: Option<Platform>,
    pub auth: Option<AuthConfig>,
}

/// `GET /images/search`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SearchQuery {
    pub term: String,
    /// Most results; none is Docker's 25.
    pub limit: Option<u32>,
    pub filters: Filters,
    pub auth: Option<AuthConfig>,
}

/// `POST /build`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BuildQuery {
    /// Path of the Dockerfile within the context.
    pub dockerfile: String,
    /// Names for the result.
    pub tags: Vec<String>,
    /// A context behind a URL, instead of the body.
    pub remote: String,
    /// Contexts by name, beside those that are sent: `docker-image://REFERENCE`, repositories, archives behind URLs.
    pub contexts: BTreeMap<String, String>,
    /// The body begins with a list of what may be here from a build before.
    pub listed: bool,
    /// Lines of `/etc/hosts`, `name:address`.
    pub extra_hosts: Vec<String>,
    pub quiet: bool,
    pub no_cache: bool,
    /// Times of change in new layers are at most the build argument `SOURCE_DATE_EPOCH`.
    pub rewrite_timestamp: bool,
    /// Stages whose steps are run anew.
    pub no_cache_filter: Vec<String>,
    pub cache_from: Vec<String>,
    /// Names that get the images of all stages.
    pub cache_to: Vec<String>,
    /// `[manifest|index|...:]KEY=VALUE`.
    pub annotations: Vec<String>,
    /// By which it can be canceled.
    pub build_id: String,
    /// What is attested of the result, `type=provenance,mode=max`.
    pub attest: Vec<String>,
    pub pull: bool,
    /// Remove the containers of steps that went well.
    pub remove: bool,
    /// Remove those of steps that failed as well.
    pub force_remove: bool,
    pub squash: bool,
    /// Arguments; none is one without a value.
    pub build_args: BTreeMap<String, Option<String>>,
    pub labels: BTreeMap<String, String>,
    pub target: String,
    pub network: String,
    /// `os/architecture[/variant]`, several with commas between them.
    pub platform: String,
    pub outputs: String,
    /// `1` the classic builder, `2` BuildKit.
    pub version: String,
    pub memory: i64,
    pub memory_swap: i64,
    pub cpu_shares: i64,
    pub cpu_period: i64,
    pub cpu_quota: i64,
    pub cpuset_cpus: String,
    pub cpuset_mems: String,
    pub cgroup_parent: String,
    pub shm_size: i64,
    pub security_opt: Vec<String>,
    pub ulimits: Vec<super::Ulimit>,
    /// The session of the client that lends secrets and agents; empty without one.
    pub session: String,
    /// Credentials by registry, of the header `X-Registry-Config`.
    pub auths: BTreeMap<String, AuthConfig>,
}

/// `POST /build/prune`. Sizes in bytes; 0 is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BuildPruneQuery {
    /// Also records whose files an image or a container has.
    pub all: bool,
    pub filters: Filters,
    /// What stays in any case, from the most recently used on.
    pub reserved_space: i64,
    /// Above this much records go.
    pub max_used_space: i64,
    /// Records go until this much of the disk is free.
    pub min_free_space: i64,
}

/// The size of a terminal, in characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TtySize {
    pub height: u16,
    pub width: u16,
}

/// What `wait` waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WaitCondition {
    /// It does not run; true at once for a stopped container.
    #[default]
    NotRunning,
    /// It ends once from now on.
    NextExit,
    /// It is removed.
    Removed,
}

#[cfg(test)]
mod tests;
