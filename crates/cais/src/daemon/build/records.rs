//! What builds leave for the next ones: steps with the images they made, and the directories of cache mounts; listed,
//! measured, and pruned from the least recently used on.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;

use cais_engine::Engine;
use cais_images::{ImageUser, Store};
use cais_state::{Db, Durability};
use cais_types::api::query::{BuildPruneQuery, Filters};
use cais_types::api::{BuildCache, BuildPruneResponse};
use cais_types::{Digest, Error, Result};
use jiff::Timestamp;

use super::caches::{self, Caches};
use super::images::{BASES, STEPS};
use super::kept;

const STEP: &str = "regular";
const CACHE_MOUNT: &str = "exec.cachemount";
const CONTEXT: &str = "source.local";
/// What a filter may ask for.
const FILTERS: [&str; 9] = [
    "until",
    "unused-for",
    "id",
    "parent",
    "type",
    "description",
    "inuse",
    "shared",
    "private",
];

/// The cache of all builds.
#[derive(Clone)]
pub struct Records {
    pub db: Arc<Db>,
    pub images: Arc<Store>,
    pub caches: PathBuf,
    /// Contexts that stay.
    pub contexts: PathBuf,
    pub engine: Engine,
}

/// A record, and what a prune needs to know of it.
struct Record {
    shown: BuildCache,
    /// Seconds since 1970.
    used: i64,
    image: Option<Digest>,
}

impl Record {
    /// What its end frees: nothing of what an image or a container has as well.
    fn own_size(&self) -> i64 {
        if self.shown.shared {
            0
        } else {
            self.shown.size
        }
    }
}

impl Records {
    /// All records, as `GET /system/df` shows them.
    ///
    /// # Errors
    /// Those of the database.
    pub fn list(&self) -> Result<Vec<BuildCache>> {
        let records = self.records()?;
        Ok(records.into_iter().map(|record| record.shown).collect())
    }

    /// Removes what the query wants gone. What a build that goes on uses stays.
    ///
    /// # Errors
    /// Invalid: a filter. Those of the database and of the store.
    pub fn prune(&self, query: &BuildPruneQuery) -> Result<BuildPruneResponse> {
        let filter = Filter::new(&query.filters)?;
        let mut records = self.records()?;
        records.sort_by_key(|record| record.used);
        let mut excess = self.excess(query, &records)?;
        let mut gone = Vec::new();
        for record in records {
            if excess.is_some_and(|excess| excess <= 0) {
                break;
            }
            let kept = record.shown.in_use || (record.shown.shared && !query.all);
            if kept || !filter.wants(&record) {
                continue;
            }
            excess = excess.map(|excess| excess - record.own_size());
            gone.push(record);
        }
        let mut reclaimed = 0_u64;
        let mut made = Vec::new();
        for record in &gone {
            let Some(image) = record.image else {
                reclaimed += self.remove_directory(record)?;
                continue;
            };
            let delete = self.db.delete(Durability::Process, STEPS, &record.shown.id);
            delete.map_err(failed)?;
            made.push(image);
        }
        made.extend(self.forget_bases(query.all)?);
        let pruned = self.images.prune_made(&made, &self.users())?;
        reclaimed += pruned.freed;
        let ids: Vec<String> = gone.into_iter().map(|record| record.shown.id).collect();
        Ok(BuildPruneResponse {
            caches_deleted: Some(ids).filter(|ids| !ids.is_empty()),
            space_reclaimed: reclaimed,
        })
    }

    /// Forgets which images were fetched for other platforms and have gone since, or with `all` every one that no build uses,
    /// and answers these.
    fn forget_bases(&self, all: bool) -> Result<Vec<Digest>> {
        let mut forgotten = Vec::new();
        let bases: Vec<(String, Digest)> = self.db.all(BASES).map_err(failed)?;
        for (key, id) in bases {
            let there = self.images.resolve(&id.to_string()).is_ok();
            if there && (!all || self.images.is_held(&id)) {
                continue;
            }
            self.db
                .delete(Durability::Process, BASES, &key)
                .map_err(failed)?;
            forgotten.push(id);
        }
        Ok(forgotten)
    }

    /// Bytes that are to go at least; none when all may go. What images and containers have does not count.
    fn excess(&self, query: &BuildPruneQuery, records: &[Record]) -> Result<Option<i64>> {
        let (reserved, highest, free) = (
            query.reserved_space,
            query.max_used_space,
            query.min_free_space,
        );
        if reserved <= 0 && highest <= 0 && free <= 0 {
            return Ok(None);
        }
        let total: i64 = records.iter().map(Record::own_size).sum();
        let mut kept = (highest > 0).then_some(highest);
        if free > 0 {
            let stat = rustix::fs::statvfs(self.caches.with_file_name(""))
                .map_err(|errno| Error::internal(format!("statvfs: {errno}")))?;
            let available = i64::try_from(stat.f_bavail * stat.f_frsize).unwrap_or(i64::MAX);
            let left = total - (free - available).max(0);
            kept = Some(kept.map_or(left, |kept| kept.min(left)));
        }
        Ok(Some(total - kept.unwrap_or(0).max(reserved)))
    }

    fn users(&self) -> Vec<ImageUser> {
        let containers = self.engine.house().store.all();
        let user = |record: &cais_engine::record::Record| ImageUser {
            container: record.id,
            image: record.image,
            running: record.state.status.is_running(),
        };
        containers
            .iter()
            .map(|container| user(&container.record()))
            .collect()
    }

    fn records(&self) -> Result<Vec<Record>> {
        let mut records = self.steps()?;
        for (name, cache) in self.db.all(caches::TABLE).map_err(failed)? {
            records.extend(self.cache(name, &cache)?);
        }
        for context in kept::list(&self.contexts) {
            records.extend(self.context(context)?);
        }
        Ok(records)
    }

    fn steps(&self) -> Result<Vec<Record>> {
        let steps: Vec<(String, Digest)> = self.db.all(STEPS).map_err(failed)?;
        let used: HashSet<Digest> = self.users().iter().map(|user| user.image).collect();
        let images = self.images.list(true);
        let named: HashSet<Digest> = images
            .iter()
            .filter(|one| !one.references.is_empty() || self.images.is_member(&one.image.id))
            .map(|one| one.image.id)
            .collect();
        let images: HashMap<_, _> = images
            .into_iter()
            .map(|one| (one.image.id, one.image))
            .collect();
        // Whatever an image stands on is shared with it.
        let mut shared = HashSet::new();
        for id in named.iter().chain(&used) {
            let mut next = Some(*id);
            while let Some(id) = next.filter(|id| shared.insert(*id)) {
                next = images.get(&id).and_then(|image| image.parent);
            }
        }
        let keys: HashMap<Digest, &String> = steps.iter().map(|(key, id)| (*id, key)).collect();
        let record = |(key, id): &(String, Digest)| {
            // A row whose image was removed by hand is worth nothing, but to be pruned.
            let image = images.get(id);
            let parent = image.and_then(|image| image.parent);
            let below = parent.and_then(|parent| images.get(&parent));
            let size = image.map_or(0, |image| image.size);
            let size = size.saturating_sub(below.map_or(0, |image| image.size));
            let used = image.map_or(0, |image| self.images.last_used(image));
            let shown = BuildCache {
                id: key.clone(),
                parents: parent
                    .and_then(|parent| keys.get(&parent).map(|key| (*key).clone()))
                    .into_iter()
                    .collect(),
                r#type: STEP.to_owned(),
                description: image.map_or(String::new(), |image| self.made_by(&image.id)),
                in_use: self.images.is_held(id),
                shared: shared.contains(id),
                size: size.cast_signed(),
                created_at: moment(image.map_or(0, |image| image.created)),
                last_used_at: Some(moment(used)),
                usage_count: 1,
            };
            Record {
                shown,
                used,
                image: Some(*id),
            }
        };
        Ok(steps.iter().map(record).collect())
    }

    fn made_by(&self, image: &Digest) -> String {
        let history = self.images.history(&image.to_string()).unwrap_or_default();
        let last = history.into_iter().next();
        last.map_or(String::new(), |line| line.created_by)
    }

    /// None for a directory that has gone. Files that layers have as theirs count here as well.
    fn context(&self, context: kept::Listed) -> Result<Option<Record>> {
        let Ok(directory) = File::open(self.contexts.join(&context.key)) else {
            return Ok(None);
        };
        let size = cais_sys::tree::usage(directory.as_fd())
            .map_err(|error| Error::internal(format!("build context: {error}")))?;
        let shown = BuildCache {
            id: context.key,
            r#type: CONTEXT.to_owned(),
            description: "local source for context".to_owned(),
            in_use: context.in_use,
            size: size.cast_signed(),
            created_at: moment(context.used),
            last_used_at: Some(moment(context.used)),
            usage_count: 1,
            ..BuildCache::default()
        };
        Ok(Some(Record {
            shown,
            used: context.used,
            image: None,
        }))
    }

    /// None for a directory that has gone.
    fn cache(&self, name: String, cache: &caches::Cache) -> Result<Option<Record>> {
        let Ok(directory) = File::open(self.caches.join(&name)) else {
            return Ok(None);
        };
        let size = cais_sys::tree::usage(directory.as_fd())
            .map_err(|error| Error::internal(format!("build cache mount: {error}")))?;
        let shown = BuildCache {
            description: format!(
                "cached mount {} with id {:?}",
                cache.target,
                cache.shown_id()
            ),
            r#type: CACHE_MOUNT.to_owned(),
            in_use: caches::is_used(&cache.id),
            size: size.cast_signed(),
            created_at: moment(cache.created),
            last_used_at: Some(moment(cache.used)),
            usage_count: cache.uses,
            id: name,
            ..BuildCache::default()
        };
        Ok(Some(Record {
            shown,
            used: cache.used,
            image: None,
        }))
    }

    /// Answers the bytes that are free now.
    fn remove_directory(&self, record: &Record) -> Result<u64> {
        let caches = Caches {
            directory: self.caches.clone(),
            db: Arc::clone(&self.db),
        };
        let removed = match record.shown.r#type.as_str() {
            CONTEXT => kept::remove_one(&self.contexts, &record.shown.id)?,
            _ => caches.remove(&record.shown.id)?,
        };
        Ok(if removed {
            record.shown.size.cast_unsigned()
        } else {
            0
        })
    }
}

/// Refuses filters that there are not.
///
/// # Errors
/// Invalid: a filter.
pub fn check(filters: &Filters) -> Result<()> {
    Filter::new(filters).map(|_| ())
}

/// Which records a prune is for.
struct Filter<'a> {
    filters: &'a Filters,
    /// Only what was not used since, in seconds since 1970.
    before: Option<i64>,
}

impl<'a> Filter<'a> {
    fn new(filters: &'a Filters) -> Result<Self> {
        filters.validate(&FILTERS)?;
        let mut before = None;
        for name in ["until", "unused-for"] {
            for text in filters.get(name) {
                let moment = cais_engine::time::parse_moment(text)?;
                let moment: Timestamp = moment
                    .parse()
                    .map_err(|error| Error::internal(format!("{moment}: {error}")))?;
                let seconds = moment.as_second();
                before = Some(before.map_or(seconds, |other: i64| other.min(seconds)));
            }
        }
        Ok(Self { filters, before })
    }

    fn wants(&self, record: &Record) -> bool {
        let shown = &record.shown;
        let flag = |name: &str, holds: bool| {
            let wanted = self.filters.get(name).first();
            wanted.is_none_or(|wanted| (wanted != "false" && wanted != "0") == holds)
        };
        let one_of = |name: &str, holds: &dyn Fn(&str) -> bool| {
            let wanted = self.filters.get(name);
            wanted.is_empty() || wanted.iter().any(|wanted| holds(wanted))
        };
        self.before.is_none_or(|before| record.used <= before)
            && flag("inuse", shown.in_use)
            && flag("shared", shown.shared)
            && flag("private", !shown.shared)
            && one_of("id", &|id| shown.id.starts_with(id))
            && one_of("parent", &|id| {
                shown.parents.iter().any(|one| one.starts_with(id))
            })
            && one_of("type", &|kind| shown.r#type == kind)
            && one_of("description", &|text| shown.description.contains(text))
    }
}

fn moment(seconds: i64) -> String {
    Timestamp::from_second(seconds).map_or(String::new(), |time| time.to_string())
}

fn failed(error: cais_state::StateError) -> Error {
    Error::internal(format!("build cache: {error}")).with_source(error)
}
