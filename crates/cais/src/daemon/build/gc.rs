//! The ceiling of the build cache: `builder.gc` of the configuration file as rules, and the task that applies them from time to
//! time. What a rule removes, `records` knows.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cais_types::api::query::{BuildPruneQuery, Filters};
use cais_types::size::ram_in_bytes;
use cais_types::{Error, Result};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::Notify;

use super::records::Records;

/// How long to look away at least; and so many times as long as the last look took.
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_FACTOR: u32 = 20;
/// When to look though nothing was built: records grow old by themselves.
const IDLE: Duration = Duration::from_secs(3600);
/// What caches that are easily filled again may have before they go after two days.
const EASY_BYTES: i64 = 512 * 1_000_000;

/// `builder` of the configuration file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BuilderConfig {
    gc: GcConfig,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
struct GcConfig {
    enabled: Option<bool>,
    default_keep_storage: Bytes,
    default_reserved_space: Bytes,
    default_max_used_space: Bytes,
    default_min_free_space: Bytes,
    policy: Vec<RuleConfig>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
struct RuleConfig {
    all: bool,
    keep_storage: Bytes,
    reserved_space: Bytes,
    max_used_space: Bytes,
    min_free_space: Bytes,
    keep_duration: String,
    #[serde(alias = "filters")]
    filter: FilterConfig,
}

/// `10GB`; an empty text is 0.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(try_from = "String")]
struct Bytes(i64);

impl TryFrom<String> for Bytes {
    type Error = String;

    fn try_from(text: String) -> std::result::Result<Self, String> {
        if text.is_empty() {
            return Ok(Self(0));
        }
        ram_in_bytes(&text)
            .map(Self)
            .map_err(|error| error.to_string())
    }
}

/// A list of `name=value`, or values by name as in requests.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum FilterConfig {
    List(Vec<String>),
    Map(BTreeMap<String, Value>),
}

impl Default for FilterConfig {
    fn default() -> Self {
        Self::List(Vec::new())
    }
}

impl BuilderConfig {
    /// What to remove, rule by rule; nothing when collecting is off.
    ///
    /// # Errors
    /// Invalid: a filter that there is not.
    pub fn rules(&self, directory: &Path) -> Result<Vec<BuildPruneQuery>> {
        let gc = &self.gc;
        if gc.enabled == Some(false) {
            return Ok(Vec::new());
        }
        if gc.policy.is_empty() {
            return Ok(gc.default_rules(disk(directory)));
        }
        let rules = gc.policy.iter().map(|rule| rule.query(gc));
        rules.collect()
    }
}

impl GcConfig {
    fn reserved(&self) -> i64 {
        self.default_reserved_space
            .0
            .max(self.default_keep_storage.0)
    }

    /// What is easily made again goes first, then what is old, then whatever is above the ceiling.
    fn default_rules(&self, disk: i64) -> Vec<BuildPruneQuery> {
        let mut ceiling = BuildPruneQuery {
            reserved_space: self.reserved(),
            max_used_space: self.default_max_used_space.0,
            min_free_space: self.default_min_free_space.0,
            ..BuildPruneQuery::default()
        };
        if ceiling == BuildPruneQuery::default() {
            ceiling.reserved_space = disk / 10;
        }
        let unused = |filters: &mut Filters, age: &str| filters.add("unused-for", age);
        let mut easy = BuildPruneQuery {
            reserved_space: EASY_BYTES.min(ceiling.reserved_space),
            ..BuildPruneQuery::default()
        };
        easy.filters.add("type", "exec.cachemount");
        unused(&mut easy.filters, "48h");
        let mut old = ceiling.clone();
        unused(&mut old.filters, "1440h");
        let all = BuildPruneQuery {
            all: true,
            ..ceiling.clone()
        };
        vec![easy, old, ceiling, all]
    }
}

impl RuleConfig {
    fn query(&self, gc: &GcConfig) -> Result<BuildPruneQuery> {
        let or = |own: i64, default: i64| if own == 0 { default } else { own };
        let mut filters = match &self.filter {
            FilterConfig::List(list) => filters_of(list)?,
            FilterConfig::Map(map) => {
                let text = serde_json::to_string(map);
                Filters::from_json(&text.map_err(|error| Error::invalid(error.to_string()))?)?
            }
        };
        if !self.keep_duration.is_empty() {
            filters.add("unused-for", self.keep_duration.clone());
        }
        super::records::check(&filters)?;
        let reserved = self.reserved_space.0.max(self.keep_storage.0);
        Ok(BuildPruneQuery {
            all: self.all,
            filters,
            reserved_space: or(reserved, gc.reserved()),
            max_used_space: or(self.max_used_space.0, gc.default_max_used_space.0),
            min_free_space: or(self.min_free_space.0, gc.default_min_free_space.0),
        })
    }
}

/// Items of one word are joined by commas, and `==` is `=`, as `BuildKit` has them.
fn filters_of(list: &[String]) -> Result<Filters> {
    let mut filters = Filters::default();
    for item in list.iter().flat_map(|words| words.split(',')) {
        let Some((name, value)) = item.split_once('=') else {
            return Err(Error::invalid(format!("invalid filter {item:?}")));
        };
        filters.add(name.trim(), value.trim_start_matches('=').trim());
    }
    Ok(filters)
}

/// The size of the disk, or 20 GB where it is unknown.
fn disk(directory: &Path) -> i64 {
    let stat = rustix::fs::statvfs(directory);
    let bytes = stat.map_or(20_000_000_000, |stat| stat.f_blocks * stat.f_frsize);
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// Applies the rules when a build has ended, and now and then; never ends.
pub async fn keep_below(records: Records, rules: Vec<BuildPruneQuery>, built: Arc<Notify>) {
    loop {
        let (records, rules) = (records.clone(), rules.clone());
        let begun = Instant::now();
        let collected = tokio::task::spawn_blocking(move || collect(&records, &rules)).await;
        if let Err(error) = collected {
            tracing::error!(%error, "build cache");
        }
        tokio::time::sleep(PAUSE.max(begun.elapsed() * PAUSE_FACTOR)).await;
        let _ = tokio::time::timeout(IDLE, built.notified()).await;
    }
}

fn collect(records: &Records, rules: &[BuildPruneQuery]) {
    for rule in rules {
        match records.prune(rule) {
            Ok(pruned) => {
                if let Some(gone) = pruned.caches_deleted {
                    tracing::info!(
                        records = gone.len(),
                        bytes = pruned.space_reclaimed,
                        "build cache"
                    );
                }
            }
            Err(error) => tracing::warn!(%error, "build cache"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(text: &str) -> Result<Vec<BuildPruneQuery>> {
        let config: BuilderConfig =
            serde_json::from_str(text).map_err(|error| Error::invalid(error.to_string()))?;
        config.rules(Path::new("/"))
    }

    #[test]
    fn without_a_policy_a_tenth_of_the_disk_is_the_ceiling() {
        let all = rules("{}").unwrap();
        assert_eq!(all.len(), 4);
        assert_eq!(all[3].reserved_space, disk(Path::new("/")) / 10);
        assert!(all[3].all && !all[2].all);
        assert_eq!(all[0].filters.get("type"), ["exec.cachemount"]);
        assert_eq!(all[1].filters.get("unused-for"), ["1440h"]);
        let kept = rules(r#"{"gc": {"enabled": true, "defaultKeepStorage": "1GB"}}"#).unwrap();
        assert_eq!(kept[2].reserved_space, 1 << 30);
        assert!(rules(r#"{"gc": {"enabled": false}}"#).unwrap().is_empty());
    }

    #[test]
    fn a_policy_is_taken_rule_by_rule() {
        let rules = rules(
            r#"{"gc": {"defaultReservedSpace": "2k", "policy": [
                {"filter": ["unused-for=48h", "type==source.local,type==exec.cachemount"], "maxUsedSpace": "5MB"},
                {"keepDuration": "24h", "keepStorage": "1k", "filters": {"inuse": ["false"]}},
                {"all": true, "minFreeSpace": "1m"}]}}"#,
        )
        .unwrap();
        let filters = &rules[0].filters;
        assert!(filters.matches("type", "source.local"));
        assert!(filters.matches("type", "exec.cachemount"));
        assert_eq!(filters.get("unused-for"), ["48h"]);
        assert_eq!(
            (rules[0].reserved_space, rules[0].max_used_space),
            (2048, 5 << 20)
        );
        assert_eq!(rules[1].reserved_space, 1024);
        assert_eq!(rules[1].filters.get("unused-for"), ["24h"]);
        assert_eq!(rules[1].filters.get("inuse"), ["false"]);
        assert!(rules[2].all && rules[2].min_free_space == 1 << 20);
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for bad in [
            r#"{"gc": {"policy": [{"filter": ["color=red"]}]}}"#,
            r#"{"gc": {"policy": [{"keepDuration": "soon"}]}}"#,
            r#"{"gc": {"defaultKeepStorage": "much"}}"#,
            r#"{"gc": {"ceiling": "1GB"}}"#,
        ] {
            assert!(rules(bad).is_err(), "{bad}");
        }
    }
}
