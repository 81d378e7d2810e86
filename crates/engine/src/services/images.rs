//! `/images`: the image store joined with containers and events.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use bytes::Bytes;
use cais_types::api::query::{Filters, ImageListQuery, ImageRemoveQuery, ImportQuery};
use cais_types::api::{
    HistoryItem, ImageDeleteItem, ImageInspect, ImagePruneResponse, ImageSummary,
};
use cais_types::{ContainerId, Digest, Error, Result};
use rustix::fs::{Mode, OFlags};

use super::filter::PruneFilter;
use super::pipe::{AnswerWriter, Answers, UploadReader, answer};
use crate::house::{House, blocking};
use crate::record::Record;

/// A container that uses an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageUser {
    pub container: ContainerId,
    pub image: Digest,
    pub running: bool,
}

/// What a removal did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RemovedImage {
    /// A name, and the image it stood for.
    Untagged(String, Digest),
    /// An image.
    Deleted(Digest),
    /// A layer, by its chain id.
    Layer(Digest),
}

/// What loading an archive tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoadEvent {
    /// A layer: 12 digits of its id, bytes done, bytes in all.
    Layer {
        id: String,
        current: u64,
        total: u64,
    },
    /// A line of the result.
    Message(String),
}

/// What the service needs from the image store. Blocking.
pub trait ImageCatalog: Send + Sync {
    /// Newest first, `Containers` -1 and shared sizes computed. Without `all` only images with a name or without a child.
    fn list(&self, all: bool) -> Result<Vec<ImageSummary>>;
    fn inspect(&self, name: &str) -> Result<ImageInspect>;
    fn history(&self, name: &str) -> Result<Vec<HistoryItem>>;
    /// Gives an image a name, `repo:tag`.
    fn tag(&self, name: &str, target: &str) -> Result<Digest>;
    fn remove(
        &self,
        name: &str,
        force: bool,
        prune_parents: bool,
        users: &[ImageUser],
    ) -> Result<Vec<RemovedImage>>;
    /// Removes dangling images (all unused ones with `all`) that `accepts` (RFC 3339 of creation, labels); answers bytes freed.
    fn prune(
        &self,
        all: bool,
        users: &[ImageUser],
        accepts: &dyn Fn(&str, &BTreeMap<String, String>) -> bool,
    ) -> Result<(Vec<RemovedImage>, u64)>;
    /// Ids and names of the images in an archive.
    fn load(
        &self,
        archive: &mut (dyn Read + Send),
        progress: &mut (dyn FnMut(LoadEvent) + Send),
    ) -> Result<Vec<(Digest, Vec<String>)>>;
    fn save(&self, names: &[String], out: &mut dyn Write) -> Result<()>;
    fn import(&self, query: &ImportQuery, archive: &mut (dyn Read + Send)) -> Result<Digest>;
    fn layers_size(&self) -> u64;
    fn count(&self) -> usize;
    /// The root of a container that does not run, as a mount that is attached nowhere.
    fn open_root(&self, container: &ContainerId, image: &Digest) -> Result<OwnedFd>;
    /// Writes a tree as a tar stream.
    fn export(&self, root: BorrowedFd<'_>, out: &mut dyn Write) -> Result<()>;
}

/// The images of the engine.
pub struct Images {
    house: Arc<House>,
    catalog: Arc<dyn ImageCatalog>,
}

impl Images {
    /// Joins the store with the engine's containers and events.
    pub fn new(house: Arc<House>, catalog: Arc<dyn ImageCatalog>) -> Self {
        Self { house, catalog }
    }

    async fn with_catalog<T: Send + 'static>(
        &self,
        work: impl FnOnce(&dyn ImageCatalog) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let catalog = Arc::clone(&self.catalog);
        blocking(move || work(&*catalog)).await
    }

    fn users(&self) -> Vec<ImageUser> {
        let containers = self.house.store.all();
        let user = |record: &Record| ImageUser {
            container: record.id,
            image: record.image,
            running: record.state.status.is_running(),
        };
        containers
            .iter()
            .map(|container| user(&container.record()))
            .collect()
    }

    /// How many images there are.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn count(&self) -> Result<usize> {
        self.with_catalog(|catalog| Ok(catalog.count())).await
    }

    /// Bytes of all layers, each once.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn layers_size(&self) -> Result<u64> {
        self.with_catalog(|catalog| Ok(catalog.layers_size())).await
    }

    /// `GET /images/json`.
    ///
    /// # Errors
    /// Invalid filters.
    pub async fn list(&self, query: ImageListQuery) -> Result<Vec<ImageSummary>> {
        query.filters.validate(&[
            "before",
            "dangling",
            "label",
            "label!",
            "reference",
            "since",
            "until",
        ])?;
        let all = query.all;
        let filter = {
            let filters = query.filters.clone();
            self.with_catalog(move |catalog| ImageFilter::new(catalog, filters))
                .await?
        };
        let mut images = self.with_catalog(move |catalog| catalog.list(all)).await?;
        images.retain_mut(|image| filter.accepts(image));
        let users = self.users();
        for image in &mut images {
            if query.shared_size {
                let count = users
                    .iter()
                    .filter(|user| user.image.to_string() == image.id)
                    .count();
                image.containers = i64::try_from(count).unwrap_or(i64::MAX);
            } else {
                image.shared_size = -1;
            }
            if !query.digests && image.repo_tags.is_empty() && image.repo_digests.is_empty() {
                image.repo_digests.clear();
            }
        }
        Ok(images)
    }

    /// `GET /images/{name}/json`.
    ///
    /// # Errors
    /// Not found.
    pub async fn inspect(&self, name: &str) -> Result<ImageInspect> {
        let name = name.to_owned();
        self.with_catalog(move |catalog| catalog.inspect(&name))
            .await
    }

    /// `GET /images/{name}/history`.
    ///
    /// # Errors
    /// Not found.
    pub async fn history(&self, name: &str) -> Result<Vec<HistoryItem>> {
        let name = name.to_owned();
        self.with_catalog(move |catalog| catalog.history(&name))
            .await
    }

    /// `POST /images/{name}/tag`.
    ///
    /// # Errors
    /// Not found, or an invalid name.
    pub async fn tag(&self, name: &str, repo: &str, tag: &str) -> Result<()> {
        let target = if tag.is_empty() {
            repo.to_owned()
        } else {
            format!("{repo}:{tag}")
        };
        let (name, shown) = (name.to_owned(), target.clone());
        let id = self
            .with_catalog(move |catalog| catalog.tag(&name, &target))
            .await?;
        self.publish("tag", &id.to_string(), &shown);
        Ok(())
    }

    /// `DELETE /images/{name}`.
    ///
    /// # Errors
    /// Not found, or in use.
    pub async fn remove(
        &self,
        name: &str,
        query: ImageRemoveQuery,
    ) -> Result<Vec<ImageDeleteItem>> {
        if !query.platforms.is_empty() {
            return Err(Error::unsupported(
                "removing a single platform of an image is not built yet",
            ));
        }
        let (users, name) = (self.users(), name.to_owned());
        let removed = self
            .with_catalog(move |catalog| {
                catalog.remove(&name, query.force, !query.no_prune, &users)
            })
            .await?;
        Ok(self.told(&removed))
    }

    /// `POST /images/prune`: dangling images, or with `dangling=false` all that no container uses.
    ///
    /// # Errors
    /// Invalid filters.
    pub async fn prune(&self, filters: Filters) -> Result<ImagePruneResponse> {
        filters.validate(&["dangling", "label", "label!", "until"])?;
        let all = !filters.bool_or("dangling", true)?;
        let mut rest = Filters::default();
        for (name, values) in filters.iter().filter(|(name, _)| *name != "dangling") {
            values.iter().for_each(|value| rest.add(name, value));
        }
        let filter = PruneFilter::new(rest)?;
        let users = self.users();
        let (removed, space_reclaimed) = self
            .with_catalog(move |catalog| {
                catalog.prune(all, &users, &|created, labels| {
                    filter.accepts(created, labels)
                })
            })
            .await?;
        let items = self.told(&removed);
        let reclaimed = BTreeMap::from([("reclaimed".to_owned(), space_reclaimed.to_string())]);
        self.house.events.publish("image", "prune", "", reclaimed);
        Ok(ImagePruneResponse {
            images_deleted: (!items.is_empty()).then_some(items),
            space_reclaimed,
        })
    }

    /// Publishes what was removed and says it as the API does.
    fn told(&self, removed: &[RemovedImage]) -> Vec<ImageDeleteItem> {
        let deleted = |id: &Digest| ImageDeleteItem {
            deleted: id.to_string(),
            ..ImageDeleteItem::default()
        };
        removed
            .iter()
            .map(|one| match one {
                RemovedImage::Untagged(name, id) => {
                    self.publish("untag", &id.to_string(), &id.to_string());
                    ImageDeleteItem {
                        untagged: name.clone(),
                        ..ImageDeleteItem::default()
                    }
                }
                RemovedImage::Deleted(id) => {
                    self.publish("delete", &id.to_string(), &id.to_string());
                    deleted(id)
                }
                RemovedImage::Layer(id) => deleted(id),
            })
            .collect()
    }

    fn publish(&self, action: &str, id: &str, name: &str) {
        let attributes = BTreeMap::from([("name".to_owned(), name.to_owned())]);
        self.house.events.publish("image", action, id, attributes);
    }

    /// `POST /images/load`: progress as JSON lines.
    ///
    /// # Errors
    /// None before the stream; a failed load is its last item.
    pub fn load(&self, archive: Answers<Bytes>, quiet: bool) -> Answers<Bytes> {
        let (catalog, house) = (Arc::clone(&self.catalog), Arc::clone(&self.house));
        let mut archive = UploadReader::new(archive);
        answer(move |out| {
            let loaded = catalog.load(&mut archive, &mut |event| {
                // A client that has gone does not stop the load: it will find the image there.
                if let Some(line) = load_line(&event, quiet) {
                    let _ = out.item(line);
                }
            })?;
            for (id, names) in loaded {
                let name = names.first().cloned().unwrap_or_else(|| id.to_string());
                let attributes = BTreeMap::from([("name".to_owned(), name)]);
                house
                    .events
                    .publish("image", "load", &id.to_string(), attributes);
            }
            Ok(())
        })
    }

    /// `GET /images/get`: a tar of images.
    ///
    /// # Errors
    /// Not found.
    pub async fn save(&self, names: Vec<String>) -> Result<Answers<Bytes>> {
        let checked = names.clone();
        let ids = self
            .with_catalog(move |catalog| {
                checked
                    .iter()
                    .map(|name| Ok(catalog.inspect(name)?.id))
                    .collect::<Result<Vec<_>>>()
            })
            .await?;
        for (id, name) in ids.iter().zip(&names) {
            self.publish("save", id, name);
        }
        let catalog = Arc::clone(&self.catalog);
        Ok(answer(move |out: &mut AnswerWriter| {
            catalog.save(&names, out)
        }))
    }

    /// `POST /images/create?fromSrc=-`: progress as JSON lines.
    ///
    /// # Errors
    /// Unsupported: a source other than the request body.
    pub fn import(&self, query: ImportQuery, archive: Answers<Bytes>) -> Result<Answers<Bytes>> {
        if query.source != "-" {
            return Err(Error::unsupported(
                "importing from a URL is not built yet: download it and import the file",
            ));
        }
        let (catalog, house) = (Arc::clone(&self.catalog), Arc::clone(&self.house));
        let mut archive = UploadReader::new(archive);
        Ok(answer(move |out| {
            let id = catalog.import(&query, &mut archive)?.to_string();
            let attributes = BTreeMap::from([("name".to_owned(), id.clone())]);
            house.events.publish("image", "import", &id, attributes);
            let _ = out.item(line(&serde_json::json!({ "status": id })));
            Ok(())
        }))
    }

    /// `GET /containers/{id}/export`: the container's file system as a tar stream.
    ///
    /// # Errors
    /// Not found.
    pub fn export(&self, name: &str) -> Result<Answers<Bytes>> {
        let container = self.house.store.find(name)?;
        let record = container.record();
        let catalog = Arc::clone(&self.catalog);
        self.house.events.container(&record, "export", &[]);
        Ok(answer(move |out: &mut AnswerWriter| {
            let root = open_root(&*catalog, &record)?;
            catalog.export(root.as_fd(), out)
        }))
    }
}

/// A running container is read through its init: mounting its layers a second time is undefined.
fn open_root(catalog: &dyn ImageCatalog, record: &Record) -> Result<OwnedFd> {
    if !record.state.status.has_process() {
        return catalog.open_root(&record.id, &record.image);
    }
    let path = format!("/proc/{}/root", record.state.pid);
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(&path, flags, Mode::empty())
        .map_err(|error| Error::internal(format!("open {path}: {error}")))
}

fn line(value: &serde_json::Value) -> Vec<u8> {
    let mut bytes = value.to_string().into_bytes();
    bytes.push(b'\n');
    bytes
}

fn load_line(event: &LoadEvent, quiet: bool) -> Option<Vec<u8>> {
    match event {
        LoadEvent::Layer { .. } if quiet => None,
        LoadEvent::Layer { id, current, total } => {
            let detail = serde_json::json!({ "current": current, "total": total });
            Some(line(
                &serde_json::json!({ "status": "Loading layer", "progressDetail": detail, "id": id }),
            ))
        }
        LoadEvent::Message(text) => {
            Some(line(&serde_json::json!({ "stream": format!("{text}\n") })))
        }
    }
}

/// Filters of an image list, with every name resolved once.
struct ImageFilter {
    filters: Filters,
    dangling: Option<bool>,
    /// Unix seconds.
    before: Option<i64>,
    since: Option<i64>,
    references: Vec<regex_lite::Regex>,
}

impl ImageFilter {
    fn new(catalog: &dyn ImageCatalog, filters: Filters) -> Result<Self> {
        let seconds = |time: &str| {
            time.parse::<jiff::Timestamp>()
                .ok()
                .map(jiff::Timestamp::as_second)
        };
        let created = |name: &str| match filters.get(name).first() {
            None => Ok(None),
            Some(image) => catalog.inspect(image).map(|image| seconds(&image.created)),
        };
        let mut before = created("before")?;
        if let Some(until) = filters.get("until").first() {
            let until = seconds(&crate::time::parse_moment(until)?);
            before = [before, until].into_iter().flatten().min();
        }
        Ok(Self {
            dangling: filters
                .contains("dangling")
                .then(|| filters.bool_or("dangling", false))
                .transpose()?,
            before,
            since: created("since")?,
            references: filters
                .get("reference")
                .iter()
                .map(|pattern| path_pattern(pattern))
                .collect::<Result<_>>()?,
            filters,
        })
    }

    /// Whether an image passes; names that the reference filter does not match are taken out.
    fn accepts(&self, image: &mut ImageSummary) -> bool {
        let labels = image.labels.clone().unwrap_or_default();
        let passes = self
            .dangling
            .is_none_or(|dangling| dangling == image.repo_tags.is_empty())
            && self.before.is_none_or(|before| image.created < before)
            && self.since.is_none_or(|since| image.created > since)
            && self.filters.matches_labels(&labels);
        if !passes || self.references.is_empty() {
            return passes;
        }
        let named = |name: &String| {
            let bare = name.split_once('@').map_or(name.as_str(), |(bare, _)| bare);
            let repository = match bare.rsplit_once(':') {
                Some((front, tag)) if !tag.contains('/') => front,
                _ => bare,
            };
            self.references
                .iter()
                .any(|pattern| pattern.is_match(name) || pattern.is_match(repository))
        };
        image.repo_tags.retain(named);
        image.repo_digests.retain(named);
        !image.repo_tags.is_empty() || !image.repo_digests.is_empty()
    }
}

/// Go's `path.Match`: `*` and `?` stop at a slash.
fn path_pattern(pattern: &str) -> Result<regex_lite::Regex> {
    let mut text = String::from("^");
    for c in pattern.chars() {
        match c {
            '*' => text.push_str("[^/]*"),
            '?' => text.push_str("[^/]"),
            '[' | ']' | '-' => text.push(c),
            other => text.push_str(&regex_lite::escape(&other.to_string())),
        }
    }
    text.push('$');
    regex_lite::Regex::new(&text)
        .map_err(|_| Error::invalid(format!("invalid filter 'reference={pattern}'")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_stop_at_slashes() {
        for (pattern, name, want) in [
            ("busy*", "busybox", true),
            ("busy*", "a/busybox", false),
            ("*/busybox", "a/busybox", true),
            ("busybox:1.?", "busybox:1.2", true),
            ("busybox:1.?", "busybox:1x2", false),
            ("b[ua]sybox", "basybox", true),
        ] {
            assert_eq!(
                path_pattern(pattern).unwrap().is_match(name),
                want,
                "{pattern} {name}"
            );
        }
    }
}
