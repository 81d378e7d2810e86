//! The image store and the database behind the builder's ports.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use cais_build::cancel::Cancellation;
use cais_build::ports::{BaseImage, CacheIndex, CacheSource, ImageStore, NewImage};
use cais_images::{CommitRequest, Holder, SquashRequest, Store, Upper};
use cais_services::registry::{Registries, Transfer};
use cais_state::{Db, Durability};
use cais_sys::failpoint;
use cais_types::api::AuthConfig;
use cais_types::api::query::PullQuery;
use cais_types::oci::set::CACHE_KEYS;
use cais_types::oci::{ImageSet, Platform};
use cais_types::{ContainerId, Digest, Error, Reference, Result};
use futures_util::StreamExt as _;
use rustix::fs::{Mode, OFlags};
use serde_json::Value;
use tokio::runtime::Handle;

use super::super::images::runtime_config;
use super::claims;

/// Table of image ids by the key of the step that made them.
pub const STEPS: &str = "build-step";

/// Table of images that were fetched for another platform, by that and their name.
pub const BASES: &str = "build-base";

/// Adapts the image store, and the registries that base images come from.
pub struct BuildImages {
    pub store: Arc<Store>,
    pub db: Arc<Db>,
    /// Keeps what this build stands on and makes until it ends.
    pub holder: Holder<Arc<Store>>,
    pub registries: Arc<Registries>,
    pub handle: Handle,
    /// Credentials of the client by registry.
    pub auths: BTreeMap<String, AuthConfig>,
}

impl BuildImages {
    fn commit_request(&self, image: NewImage) -> Result<CommitRequest> {
        let config = serde_json::to_value(&image.config)
            .map_err(|error| Error::internal(error.to_string()))?;
        let Value::Object(config) = config else {
            return Err(Error::internal("an image configuration is an object"));
        };
        Ok(CommitRequest {
            parent: image.parent,
            platform: Some(image.platform),
            config,
            author: image.author,
            created_by: image.created_by,
            created: image.created.map(moment).transpose()?,
            holder: Some(self.holder.number()),
            ..CommitRequest::default()
        })
    }
}

impl BuildImages {
    /// The image of a name that was fetched for another platform, or one that does not say what it is for.
    fn fetched(&self, name: &str, platform: &Platform) -> Option<Digest> {
        if let Ok(image) = self.store.resolve(name)
            && image.architecture.is_empty()
            && Platform::host().fit(platform).is_some()
        {
            return Some(image.id);
        }
        self.db.get(BASES, &base_key(name, platform)).ok()?
    }

    /// Fetches an image that gets no name, so that a name of this host does not come to lead to another platform.
    fn fetch(
        &self,
        query: PullQuery,
        progress: &mut dyn FnMut(Vec<u8>) -> Result<()>,
    ) -> Result<Digest> {
        let name = query.reference.familiar();
        let Transfer { mut events, result } = self.registries.fetch(query);
        let told = async {
            while let Some(event) = events.next().await {
                progress(event.line())?;
            }
            Ok(())
        };
        let moved = self
            .handle
            .block_on(async { tokio::try_join!(result, told) });
        let (ids, ()) = moved?;
        let id = ids.first().copied();
        id.ok_or_else(|| Error::not_found(format!("No such image: {name}")))
    }
}

fn base_key(name: &str, platform: &Platform) -> String {
    format!("{platform} {name}")
}

/// The registry of names without one, as clients keep its credentials.
const HUB: &str = "https://index.docker.io/v1/";

impl ImageStore for BuildImages {
    fn find(&self, name: &str, platform: Option<&Platform>) -> Option<Digest> {
        let id = match self.store.resolve_for(name, platform) {
            Ok(image) => image.id,
            Err(_) => self.fetched(name, platform?)?,
        };
        self.holder.hold(&id).ok()?;
        Some(id)
    }

    fn cache_source(&self, name: &str) -> CacheSource {
        let name_of = |name: &str| {
            name.parse::<Reference>()
                .ok()
                .map(Reference::with_default_tag)
        };
        let set = name_of(name).and_then(|name| self.store.set(&name).ok()?);
        let Some(set) = set else {
            let images = self.find(name, None).into_iter().collect();
            return CacheSource {
                images,
                ..CacheSource::default()
            };
        };
        let keys = set.annotations.get(CACHE_KEYS);
        let keys = keys.into_iter().flat_map(|keys| keys.split(' '));
        let images = set.members.iter().map(|member| member.image);
        CacheSource {
            keys: keys.map(str::to_owned).collect(),
            images: images.filter(|id| self.holder.hold(id).is_ok()).collect(),
        }
    }

    fn image(&self, id: &Digest) -> Result<BaseImage> {
        self.holder.hold(id)?;
        let image = self.store.resolve(&id.to_string())?;
        self.store.mark_used(id);
        let config = self.store.config(&image.id)?;
        Ok(BaseImage {
            id: image.id,
            config: runtime_config(&config)?,
            author: config.author.clone().unwrap_or_default(),
            platform: image.platform(),
            manifest: image.manifest.as_ref().map(|manifest| manifest.digest),
            layers: image.chain.clone(),
        })
    }

    fn pull(
        &self,
        name: &str,
        platform: Option<&Platform>,
        progress: &mut dyn FnMut(Vec<u8>) -> Result<()>,
    ) -> Result<Digest> {
        let reference: Reference = name
            .parse()
            .map_err(|error| Error::invalid(format!("{error}")))?;
        let domain = reference.domain();
        let auth = self
            .auths
            .get(domain)
            .or_else(|| self.auths.get(HUB).filter(|_| domain == "docker.io"));
        let foreign = platform.filter(|platform| Platform::host().fit(platform).is_none());
        let query = PullQuery {
            auth: auth.cloned(),
            platform: platform.cloned(),
            reference: reference.with_default_tag(),
            holder: foreign.map(|_| self.holder.number()),
            whole: false,
        };
        if let Some(foreign) = foreign {
            let id = self.fetch(query, progress)?;
            let key = base_key(name, foreign);
            let put = self.db.put(Durability::Process, BASES, &key, &id);
            put.map_err(failed)?;
            return Ok(id);
        }
        self.handle.block_on(async {
            let mut lines = self.registries.pull(query).await?;
            while let Some(line) = lines.next().await {
                progress(Vec::from(line?))?;
            }
            Ok::<_, Error>(())
        })?;
        self.find(name, platform)
            .ok_or_else(|| Error::not_found(format!("No such image: {name}")))
    }

    fn snapshot(&self, image: Option<&Digest>) -> Result<(ContainerId, OwnedFd)> {
        let id = ContainerId::from_bytes(cais_engine::create::random()?);
        let root = self.store.create_tree(&id, image)?;
        failpoint::reach("build-tree");
        Ok((id, root))
    }

    fn upper(&self, snapshot: &ContainerId) -> Result<OwnedFd> {
        let path = self.store.upper(snapshot);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::open(&path, flags, Mode::empty())
            .map_err(|errno| Error::internal(format!("{}: {errno}", path.display())))
    }

    fn discard(&self, snapshot: &ContainerId) -> Result<()> {
        Ok(self.store.remove(snapshot)?)
    }

    fn root(&self, image: &Digest) -> Result<OwnedFd> {
        Ok(self.store.open_image_root(image)?)
    }

    fn commit(&self, image: NewImage) -> Result<Digest> {
        let layer = image.layer.map(|id| {
            let upper = self.store.upper(&id);
            if let Some(latest) = image.latest {
                let clamped = cais_sys::tree::clamp_times(self.upper(&id)?.as_fd(), latest);
                clamped.map_err(|error| Error::internal(format!("rewrite-timestamp: {error}")))?;
            }
            let layer = self
                .store
                .read_upper(Upper::Take(&upper), image.parent.as_ref())?;
            Ok::<_, Error>(layer)
        });
        Ok(self
            .store
            .commit_layer(layer.transpose()?, self.commit_request(image)?)?)
    }

    fn repeat(
        &self,
        image: NewImage,
        source: &Digest,
        files: Option<bool>,
    ) -> Result<Option<Digest>> {
        let request = self.commit_request(image)?;
        Ok(self.store.repeat_step(source, files, request)?)
    }

    fn squash(
        &self,
        image: &Digest,
        base: Option<&Digest>,
        created: Option<i64>,
    ) -> Result<Digest> {
        let request = SquashRequest {
            image: *image,
            base: base.copied(),
            created: created.map(moment).transpose()?,
            holder: Some(self.holder.number()),
        };
        let (scratch, root) = self.snapshot(base)?;
        drop(root);
        let squashed = self.store.squash(&scratch, request);
        self.discard(&scratch)?;
        Ok(squashed?)
    }

    fn tag(&self, image: &Digest, name: &str) -> Result<()> {
        let reference: Reference = name
            .parse()
            .map_err(|error| Error::invalid(format!("{error}")))?;
        self.store.tag(&image.to_string(), &reference)?;
        Ok(())
    }

    fn tag_set(&self, set: &ImageSet, name: &str) -> Result<()> {
        let reference: Reference = name
            .parse()
            .map_err(|error| Error::invalid(format!("{error}")))?;
        self.store.tag_set(set, &reference)?;
        Ok(())
    }

    fn is_archive(&self, file: &File) -> Result<bool> {
        Ok(cais_images::is_archive(file))
    }

    fn unpack(&self, file: File, into: OwnedFd) -> Result<()> {
        cais_images::extract_into(into, file)?;
        Ok(())
    }
}

fn moment(seconds: i64) -> Result<String> {
    let time = jiff::Timestamp::from_second(seconds);
    let time = time.map_err(|error| Error::invalid(format!("SOURCE_DATE_EPOCH: {error}")))?;
    Ok(time.to_string())
}

/// Which step made which image.
pub struct Index {
    pub db: Arc<Db>,
}

impl CacheIndex for Index {
    fn get(&self, key: &str) -> Result<Option<Digest>> {
        self.db.get(STEPS, key).map_err(failed)
    }

    fn put(&self, key: &str, image: &Digest) -> Result<()> {
        let put = self.db.put(Durability::Process, STEPS, key, image);
        failpoint::reach("build-remembered");
        put.map_err(failed)
    }

    fn claim(&self, key: &str) -> Option<Box<dyn Send>> {
        claims::try_claim(key).map(|claim| Box::new(claim) as Box<dyn Send>)
    }

    fn wait(&self, key: &str, canceled: &Cancellation) -> Result<()> {
        claims::wait(key, canceled)
    }
}

fn failed(error: cais_state::StateError) -> Error {
    Error::internal(format!("build cache: {error}")).with_source(error)
}
