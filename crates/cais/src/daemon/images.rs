//! The image store behind the engine's ports.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cais_build::changes::apply_changes;
use cais_engine::ports::{OverlayDirs, ResolvedImage, RootfsStore};
use cais_images::{
    CommitRequest, Fault, Finding, ImageConfig, NamedImage, RemoveOptions, Removed, SetManifest,
    Store, Upper,
};
use cais_services::images::{
    CommitOrder, GcPolicy, ImageCatalog, ImageUser, LoadEvent, RemovedImage, Seed,
};
use cais_types::api::query::ImportQuery;
use cais_types::api::{
    CheckFinding, CheckSummary, FilesystemChange, GraphDriver, HistoryItem, ImageInspect,
    ImageMetadata, ImagePlatform, ImageSummary, ManifestAttestation, ManifestImage, ManifestSize,
    ManifestSummary, RootFs, UnpackedSize, ZERO_TIME,
};
use cais_types::oci::Platform;
use cais_types::{ContainerId, Digest, Error, Reference, Result};

/// Adapts [`Store`].
pub struct Images(pub Arc<Store>);

impl RootfsStore for Images {
    fn resolve(&self, image: &str, platform: Option<&Platform>) -> Result<ResolvedImage> {
        let found = self.0.resolve_for(image, platform)?;
        let config = self.0.config(&found.id)?;
        Ok(ResolvedImage {
            id: found.id,
            config: runtime_config(&config)?.into(),
            platform: found.platform(),
        })
    }

    fn find(&self, image: &str) -> Option<Digest> {
        self.0.resolve(image).ok().map(|image| image.id)
    }

    fn create(&self, container: &ContainerId, image: &Digest) -> Result<()> {
        Ok(self.0.create(container, image)?)
    }

    fn dirs(&self, container: &ContainerId, image: &Digest) -> Result<OverlayDirs> {
        let dirs = self.0.dirs(container, image)?;
        Ok(OverlayDirs {
            lower: dirs.lower,
            upper: dirs.upper,
            work: dirs.work,
        })
    }

    fn remove(&self, container: &ContainerId) -> Result<()> {
        Ok(self.0.remove(container)?)
    }

    fn usage(&self, container: &ContainerId, image: &Digest) -> Result<(u64, u64)> {
        Ok(self.0.usage(container, image)?)
    }

    fn changes(&self, container: &ContainerId, image: &Digest) -> Result<Vec<FilesystemChange>> {
        let changes = self.0.changes(container, image)?.into_iter();
        Ok(changes
            .map(|change| FilesystemChange {
                kind: change.kind as u8,
                path: change.path,
            })
            .collect())
    }

    fn retain(&self, known: &[ContainerId]) -> Result<()> {
        Ok(self.0.retain(known)?)
    }
}

/// The `config` part of an image.
pub fn runtime_config(config: &ImageConfig) -> Result<cais_types::api::ImageConfig> {
    match &config.config {
        None => Ok(cais_types::api::ImageConfig::default()),
        Some(value) => serde_json::from_value(value.clone()).map_err(|error| {
            Error::internal(format!("image configuration: {error}")).with_source(error)
        }),
    }
}

impl Images {
    fn finding(&self, finding: Finding) -> CheckFinding {
        let kind = match finding.fault {
            Fault::DamagedLayer => "damaged layer",
            Fault::MissingLayer => "missing layer",
            Fault::DamagedBlob => "damaged blob",
            Fault::WrongSize => "wrong size",
            Fault::OrphanLayer => "orphan layer",
            Fault::OrphanBlob => "orphan blob",
        };
        let names = |id: &Digest| match self.0.inspect(&id.to_string()) {
            Ok(named) if !named.tags().is_empty() => named.tags(),
            _ => vec![id.to_string()],
        };
        CheckFinding {
            kind: kind.to_owned(),
            id: finding.name,
            detail: finding.detail,
            images: finding.images.iter().flat_map(names).collect(),
            repaired: finding.repaired,
        }
    }

    fn summary(named: &NamedImage, shared: u64) -> ImageSummary {
        let labels = named.image.labels.clone();
        ImageSummary {
            containers: -1,
            created: named.image.created,
            id: named.image.id.to_string(),
            labels: (!labels.is_empty()).then_some(labels),
            parent_id: named
                .image
                .parent
                .map(|id| id.to_string())
                .unwrap_or_default(),
            repo_digests: named.digests(),
            repo_tags: named.tags(),
            shared_size: shared.cast_signed(),
            size: named.image.size.cast_signed(),
            ..ImageSummary::default()
        }
    }
}

impl ImageCatalog for Images {
    fn list(&self, all: bool) -> Result<Vec<ImageSummary>> {
        let shared: BTreeMap<Digest, u64> = self.0.disk_usage().shared.into_iter().collect();
        let images = self.0.list(all);
        let shared = |named: &NamedImage| shared.get(&named.image.id).copied().unwrap_or(0);
        let summary = |named| Self::summary(named, shared(named));
        Ok(images.iter().map(summary).collect())
    }

    fn inspect(&self, name: &str, platform: Option<&Platform>) -> Result<ImageInspect> {
        let named = self.0.inspect_for(name, platform)?;
        let config = self.0.config(&named.image.id)?;
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        Ok(ImageInspect {
            id: named.image.id.to_string(),
            repo_tags: named.tags(),
            repo_digests: named.digests(),
            parent: named
                .image
                .parent
                .map(|id| id.to_string())
                .unwrap_or_default(),
            comment: text(&config.comment),
            created: text(&config.created),
            docker_version: text(&config.docker_version),
            author: text(&config.author),
            config: runtime_config(&config)?,
            architecture: named.image.architecture.clone(),
            variant: named.image.variant.clone().unwrap_or_default(),
            os: named.image.os.clone(),
            size: named.image.size.cast_signed(),
            graph_driver: GraphDriver {
                data: Some(self.0.image_dirs(&named.image)),
                name: "overlay2".to_owned(),
            },
            root_fs: RootFs {
                r#type: "layers".to_owned(),
                layers: named.image.diffs.iter().map(Digest::to_string).collect(),
            },
            metadata: ImageMetadata {
                last_tag_time: named
                    .image
                    .tagged
                    .clone()
                    .unwrap_or_else(|| ZERO_TIME.to_owned()),
            },
            ..ImageInspect::default()
        })
    }

    fn manifests(&self, names: &[String]) -> Result<Option<Vec<(Digest, ManifestSummary)>>> {
        for name in names {
            let manifests = self.0.set_manifests(&reference(name)?)?;
            if !manifests.is_empty() {
                let summaries = manifests.iter().map(|one| (one.image.id, manifest(one)));
                return Ok(Some(summaries.collect()));
            }
        }
        Ok(None)
    }

    fn history(&self, name: &str) -> Result<Vec<HistoryItem>> {
        let lines = self.0.history(name)?.into_iter();
        Ok(lines
            .map(|line| HistoryItem {
                comment: line.comment,
                created: line.created,
                created_by: line.created_by,
                id: line.id,
                size: line.size.cast_signed(),
                tags: (!line.tags.is_empty()).then_some(line.tags),
            })
            .collect())
    }

    fn tag(&self, name: &str, target: &str) -> Result<Digest> {
        let reference = reference(target)?;
        self.0.tag(name, &reference)?;
        Ok(self.0.resolve(name)?.id)
    }

    fn untag(&self, name: &str) -> Result<Vec<RemovedImage>> {
        let gone = self.0.remove_name_only(name)?;
        Ok(gone.into_iter().map(told).collect())
    }

    fn remove(
        &self,
        name: &str,
        force: bool,
        prune_parents: bool,
        users: &[ImageUser],
    ) -> Result<Vec<RemovedImage>> {
        let options = RemoveOptions {
            force,
            prune_parents,
        };
        Ok(self
            .0
            .remove_image(name, options, &in_store(users))?
            .into_iter()
            .map(told)
            .collect())
    }

    fn remove_platforms(
        &self,
        name: &str,
        platforms: &[Platform],
        users: &[ImageUser],
    ) -> Result<Option<Vec<RemovedImage>>> {
        let mut removed = Vec::new();
        if platforms.is_empty() {
            return Ok(None);
        }
        let users = in_store(users);
        let others = self
            .0
            .remove_platforms(name, platforms, &users, &mut removed)?;
        Ok(others.then(|| removed.into_iter().map(told).collect()))
    }

    fn prune(
        &self,
        all: bool,
        users: &[ImageUser],
        accepts: &dyn Fn(&str, &BTreeMap<String, String>) -> bool,
    ) -> Result<(Vec<RemovedImage>, u64)> {
        let keep = |image: &cais_images::Image| {
            self.0.config(&image.id).is_ok_and(|config| {
                !accepts(
                    config.created.as_deref().unwrap_or(ZERO_TIME),
                    &config.labels(),
                )
            })
        };
        let pruned = self.0.prune_images(all, &in_store(users), keep)?;
        Ok((pruned.removed.into_iter().map(told).collect(), pruned.freed))
    }

    fn collect_garbage(
        &self,
        policy: &GcPolicy,
        users: &[ImageUser],
        keep: &dyn Fn(&[String]) -> bool,
    ) -> Result<(Vec<RemovedImage>, u64)> {
        let seconds =
            |age: std::time::Duration| i64::try_from(age.as_secs()).unwrap_or(i64::MAX / 2);
        let policy = cais_images::GcPolicy {
            max_age: policy.max_age.map(seconds),
            watermarks: policy.watermarks,
        };
        let gone = self.0.collect_garbage(&policy, &in_store(users), keep)?;
        Ok((gone.removed.into_iter().map(told).collect(), gone.freed))
    }

    fn load(
        &self,
        archive: &mut (dyn Read + Send),
        platform: Option<&Platform>,
        progress: &mut (dyn FnMut(LoadEvent) + Send),
    ) -> Result<Vec<Digest>> {
        let mut events = |event| {
            progress(match event {
                cais_images::LoadEvent::Layer { id, current, total } => {
                    LoadEvent::Layer { id, current, total }
                }
                cais_images::LoadEvent::Message(text) => LoadEvent::Message(text),
            });
        };
        let loaded = self.0.load(archive, platform, &mut events)?.into_iter();
        Ok(loaded.map(|one| one.id).collect())
    }

    fn save(
        &self,
        names: &[String],
        platform: Option<&Platform>,
        mut out: &mut (dyn Write + Send),
    ) -> Result<()> {
        Ok(self.0.save(names, platform, &mut out)?)
    }

    fn import(&self, query: &ImportQuery, archive: &mut (dyn Read + Send)) -> Result<Digest> {
        let name = new_name(&query.repo, &query.tag)?;
        let request = cais_images::ImportRequest {
            reference: name,
            message: query.message.clone(),
            config: to_map(&apply_changes(Default::default(), &query.changes)?)?,
            platform: query.platform.clone(),
        };
        Ok(self.0.import(archive, &request)?)
    }

    fn new_name(&self, repo: &str, tag: &str) -> Result<Option<String>> {
        Ok(new_name(repo, tag)?.map(|name| name.familiar()))
    }

    fn apply_changes(
        &self,
        config: cais_types::api::ImageConfig,
        changes: &[String],
    ) -> Result<cais_types::api::ImageConfig> {
        apply_changes(config, changes)
    }

    fn read_container(&self, container: &ContainerId, image: &Digest) -> Result<Seed> {
        let (store, container, image) = (Arc::clone(&self.0), *container, *image);
        let upper = store.upper(&container);
        let layer = store.read_upper(Upper::Copy(&upper), Some(&image))?;
        Ok(Box::new(move |order: CommitOrder| {
            let reference = order.reference.as_deref().map(reference).transpose()?;
            let request = CommitRequest {
                parent: Some(image),
                config: to_map(&order.config)?,
                author: order.author,
                comment: order.comment,
                created_by: order.created_by,
                created: None,
                platform: None,
                container: Some(container),
                references: reference.into_iter().collect(),
                holder: None,
            };
            Ok(store.commit_layer(layer, request)?)
        }))
    }

    fn check(&self, repair: bool, found: &(dyn Fn(CheckFinding) + Sync)) -> Result<CheckSummary> {
        let (findings, left) = (AtomicU64::new(0), AtomicU64::new(0));
        let checked = self.0.verify(repair, &|finding| {
            findings.fetch_add(1, Ordering::Relaxed);
            left.fetch_add(u64::from(!finding.repaired), Ordering::Relaxed);
            found(self.finding(finding));
        })?;
        Ok(CheckSummary {
            blobs: checked.blobs as u64,
            layers: checked.layers as u64,
            bytes: checked.bytes,
            findings: findings.into_inner(),
            left: left.into_inner(),
        })
    }

    fn layers_size(&self) -> u64 {
        self.0.disk_usage().layers
    }

    fn count(&self) -> usize {
        self.0.list(true).len()
    }

    fn open_root(&self, container: &ContainerId, image: &Digest) -> Result<OwnedFd> {
        Ok(self.0.open_root(container, image)?)
    }

    fn open_image_root(&self, image: &Digest) -> Result<OwnedFd> {
        Ok(self.0.open_image_root(image)?)
    }

    fn export(&self, root: BorrowedFd<'_>, directory: &str, mut out: &mut dyn Write) -> Result<()> {
        cais_images::export_below(root, directory, &mut out)
            .map_err(|error| Error::internal(format!("export: {error}")).with_source(error))
    }
}

fn manifest(manifest: &SetManifest) -> ManifestSummary {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let descriptor = &manifest.descriptor;
    let platform = descriptor.platform.clone().unwrap_or_default();
    let platform = ImagePlatform {
        os_version: text(&platform.os_version),
        variant: text(&platform.variant),
        os_features: platform.os_features.unwrap_or_default(),
        architecture: platform.architecture,
        os: platform.os,
    };
    let content = manifest.size.cast_signed();
    let unpacked = match manifest.about {
        Some(_) => 0,
        None => manifest.image.size.cast_signed(),
    };
    ManifestSummary {
        id: descriptor.digest.to_string(),
        descriptor: cais_types::api::Descriptor {
            media_type: descriptor.media_type.clone(),
            digest: descriptor.digest.to_string(),
            size: descriptor.size.cast_signed(),
            annotations: descriptor.annotations.clone().unwrap_or_default(),
            platform: Some(platform.clone()),
            ..cais_types::api::Descriptor::default()
        },
        available: true,
        size: ManifestSize {
            content,
            total: content + unpacked,
        },
        kind: match manifest.about {
            Some(_) => "attestation".to_owned(),
            None => "image".to_owned(),
        },
        image_data: manifest.about.is_none().then(|| ManifestImage {
            platform,
            size: UnpackedSize { unpacked },
            ..ManifestImage::default()
        }),
        attestation_data: manifest.about.map(|about| ManifestAttestation {
            r#for: about.to_string(),
        }),
    }
}

/// The name a new image is to get: a tag that is given wins over one in the repository's name.
fn new_name(repo: &str, tag: &str) -> Result<Option<Reference>> {
    if repo.is_empty() {
        return Ok(None);
    }
    let name = reference(repo)?;
    if name.digest().is_some() {
        return Err(Error::invalid("cannot import digest reference"));
    }
    if tag.is_empty() {
        return Ok(Some(name.with_default_tag()));
    }
    name.with_tag(tag)
        .map(Some)
        .map_err(|error| Error::invalid(error.to_string()).with_source(error))
}

/// A configuration as an image has it: what is not set is not there.
fn to_map(
    config: &cais_types::api::ImageConfig,
) -> Result<serde_json::Map<String, serde_json::Value>> {
    let value = serde_json::to_value(config)
        .map_err(|error| Error::internal(format!("image configuration: {error}")))?;
    let serde_json::Value::Object(mut map) = value else {
        return Err(Error::internal("image configuration: not an object"));
    };
    map.retain(|_, value| !value.is_null() && *value != "");
    Ok(map)
}

fn reference(text: &str) -> Result<Reference> {
    text.parse::<Reference>()
        .map_err(|error| Error::invalid(error.to_string()).with_source(error))
}

fn in_store(users: &[ImageUser]) -> Vec<cais_images::ImageUser> {
    let user = |user: &ImageUser| cais_images::ImageUser {
        container: user.container,
        image: user.image,
        running: user.running,
    };
    users.iter().map(user).collect()
}

fn told(removed: Removed) -> RemovedImage {
    match removed {
        Removed::Untagged(name, id, labels) => RemovedImage::Untagged(name, id, labels),
        Removed::Image(id) => RemovedImage::Deleted(id),
        Removed::Layer(id) => RemovedImage::Layer(id),
    }
}
