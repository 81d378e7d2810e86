//! Read/write layers of containers: `containers/<id>/{upper, work}` on top of an image, and `lower`, a link that says
//! which layers they stand on so that these outlive the image's own record.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::PoisonError;

use cais_sys::overlay::Upper;
use cais_types::{ContainerId, Digest};
use rustix::fs::{AtFlags, Mode};
use rustix::io::Errno;

use crate::error::ImageError;
use crate::layers::changes::{Change, changes};
use crate::layers::{DIFF, TEMPORARY, delete, init, mount, open_directory};
use crate::model::Image;
use crate::store::{Store, delete_layers, make_directory};

/// Stands for the chain id of an image without layers.
pub(crate) const NO_LAYERS: &str = "none";
const INIT: &str = "init";
const UPPER: &str = "upper";
const WORK: &str = "work";
const LOWER: &str = "lower";

/// The directories of a container's overlay mount; `lower` from the topmost layer down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OverlayDirs {
    pub lower: Vec<PathBuf>,
    pub upper: PathBuf,
    pub work: PathBuf,
}

/// The chain a container stands on; `None` when it has no read/write layer.
pub(crate) fn read_lower(
    containers: BorrowedFd<'_>,
    container: &ContainerId,
) -> Option<Option<Digest>> {
    let path = format!("{container}/{LOWER}");
    let target = rustix::fs::readlinkat(containers, &*path, Vec::new()).ok()?;
    let target = target.to_str().ok()?;
    if target == NO_LAYERS {
        return Some(None);
    }
    format!("sha256:{target}").parse().ok().map(Some)
}

fn layer_name(chain: Option<&Digest>) -> String {
    chain.map_or_else(|| NO_LAYERS.to_owned(), Digest::hex)
}

/// Layers that are being read, see [`Store::pin`].
pub struct Pin<S: Deref<Target = Store>> {
    store: S,
    number: u64,
}

impl<S: Deref<Target = Store>> Drop for Pin<S> {
    fn drop(&mut self) {
        let top = self.store.write().pins.remove(&self.number);
        if let Err(error) = self.store.collect(top) {
            tracing::warn!(%error, "layers that nothing stands on could not be deleted");
        }
    }
}

impl<S: Deref<Target = Store>> Pin<S> {
    /// Ends the pin of this number of `Model::add_pin` when it is dropped.
    pub(crate) fn new(store: S, number: u64) -> Self {
        Self { store, number }
    }
}

impl Store {
    /// Makes the read/write layer of a container: a few directories, nothing is written to disk at once.
    pub fn create(&self, container: &ContainerId, image: &Digest) -> Result<(), ImageError> {
        self.create_on(container, Some(image)).map(drop)
    }

    /// Makes a writable tree on an image, or an empty one, as a mount that is attached nowhere. It goes by
    /// [`Store::remove`].
    pub fn create_tree(
        &self,
        id: &ContainerId,
        image: Option<&Digest>,
    ) -> Result<OwnedFd, ImageError> {
        let chain = self.create_on(id, image)?;
        let base = self.container_path(id);
        let lower = self.lower(chain, true);
        let upper = Upper {
            files: &base.join(UPPER),
            work: &base.join(WORK),
            durable: false,
        };
        let mounted = mount::overlay(&lower, Some(upper));
        if mounted.is_err() {
            let _ = self.remove(id);
        }
        mounted
    }

    /// Makes a read/write layer and answers the chain it stands on.
    fn create_on(
        &self,
        container: &ContainerId,
        image: Option<&Digest>,
    ) -> Result<Option<Digest>, ImageError> {
        // Registered first, so that the layers cannot go while the directories are made.
        let chain = {
            let mut model = self.write();
            let chain = match image {
                None => None,
                Some(image) => {
                    let found = model.images.get(image);
                    let found = found.ok_or_else(|| ImageError::NoSuchImage(image.to_string()))?;
                    let damaged = found.chain.iter().find(|layer| !model.is_whole(layer));
                    if let Some(layer) = damaged {
                        let why = "pull or load the image again";
                        return Err(ImageError::Damaged(layer.hex(), why.to_owned()));
                    }
                    found.top()
                }
            };
            if model.containers.contains_key(container) {
                let text = format!("container {container} has a read/write layer already");
                return Err(ImageError::Conflict(text));
            }
            model.containers.insert(*container, chain);
            chain
        };
        let made = self
            .prepare(chain)
            .and_then(|()| self.make_snapshot(container, chain));
        match (&made, image) {
            (Ok(()), Some(image)) => self.mark_used(image),
            (Ok(()), None) => {}
            (Err(_), _) => drop(self.remove(container)),
        }
        made.map(|()| chain)
    }

    fn make_snapshot(
        &self,
        container: &ContainerId,
        chain: Option<Digest>,
    ) -> Result<(), ImageError> {
        let base = container.to_string();
        let fail = |errno| ImageError::io("mkdir", self.container_path(container), errno);
        let directory = self.containers.as_fd();
        match rustix::fs::mkdirat(directory, &*base, Mode::from_raw_mode(0o710)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(fail(errno)),
        }
        let upper = format!("{base}/{UPPER}");
        let work = format!("{base}/{WORK}");
        let root_mode = Mode::from_raw_mode(0o755);
        rustix::fs::symlinkat(
            layer_name(chain.as_ref()),
            directory,
            format!("{base}/{LOWER}"),
        )
        .and_then(|()| rustix::fs::mkdirat(directory, &*upper, root_mode))
        .and_then(|()| rustix::fs::chmodat(directory, &*upper, root_mode, AtFlags::empty()))
        .and_then(|()| rustix::fs::mkdirat(directory, &*work, Mode::from_raw_mode(0o700)))
        .map_err(fail)
    }

    /// The directories to mount for a container made by [`Store::create`].
    pub fn dirs(&self, container: &ContainerId, image: &Digest) -> Result<OverlayDirs, ImageError> {
        let chain = self.chain_of(container, image)?;
        self.prepare(chain)?;
        let base = self.container_path(container);
        Ok(OverlayDirs {
            lower: self.lower(chain, true),
            upper: base.join(UPPER),
            work: base.join(WORK),
        })
    }

    /// Removes the read/write layer; a missing one is no error. Layers that only it stood on go as well.
    pub fn remove(&self, container: &ContainerId) -> Result<(), ImageError> {
        let base = container.to_string();
        let fail = |error| ImageError::io("remove", self.container_path(container), error);
        let flags = rustix::fs::OFlags::RDONLY
            | rustix::fs::OFlags::DIRECTORY
            | rustix::fs::OFlags::NOFOLLOW
            | rustix::fs::OFlags::CLOEXEC;
        match rustix::fs::openat(&self.containers, &*base, flags, Mode::empty()) {
            Ok(directory) => {
                for name in [UPPER, WORK, LOWER] {
                    delete(directory.as_fd(), name).map_err(fail)?;
                }
                // Others may keep files of the container here.
                let removed = rustix::fs::unlinkat(&self.containers, &*base, AtFlags::REMOVEDIR);
                match removed {
                    Ok(()) | Err(Errno::NOENT | Errno::NOTEMPTY) => {}
                    Err(errno) => return Err(fail(errno.into())),
                }
            }
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(fail(errno.into())),
        }
        let chain = self.write().containers.remove(container);
        self.collect(chain.flatten())
    }

    /// Bytes in the read/write layer and bytes of all layers together.
    pub fn usage(&self, container: &ContainerId, image: &Digest) -> Result<(u64, u64), ImageError> {
        let upper = self.container_path(container).join(UPPER);
        let open = open_directory(&upper)?;
        let own = cais_sys::tree::usage(open.as_fd())
            .map_err(|error| ImageError::io("readdir", &upper, error))?;
        let chain = self.chain_of(container, image)?;
        let model = self.read();
        let layers = model.chain_down(chain);
        let below: u64 = layers
            .iter()
            .filter_map(|layer| Some(model.layers.get(layer)?.size))
            .sum();
        Ok((own, own + below))
    }

    /// What the read/write layer changed against the image, in path order.
    pub fn changes(
        &self,
        container: &ContainerId,
        image: &Digest,
    ) -> Result<Vec<Change>, ImageError> {
        let dirs = self.dirs(container, image)?;
        let lower: Result<Vec<_>, _> = dirs.lower.iter().map(|path| open_directory(path)).collect();
        changes(open_directory(&dirs.upper)?, lower?)
            .map_err(|error| ImageError::io("diff", &dirs.upper, error))
    }

    /// Removes everything in `containers/` that is not of a known container; called once at start.
    pub fn retain(&self, known: &[ContainerId]) -> Result<(), ImageError> {
        let names = crate::tarball::export::sorted_names(self.containers.as_fd());
        let names = names.map_err(|error| ImageError::io("readdir", "containers", error))?;
        for name in names {
            let id: Option<ContainerId> = name.to_str().ok().and_then(|name| name.parse().ok());
            if id.is_some_and(|id| known.contains(&id)) {
                continue;
            }
            if let Some(id) = id {
                self.remove(&id)?;
            }
            cais_sys::tree::remove(self.containers.as_fd(), &name)
                .map_err(|error| ImageError::io("remove", "containers", error))?;
        }
        Ok(())
    }

    /// The root of a stopped container as a writable mount that is attached nowhere.
    pub fn open_root(
        &self,
        container: &ContainerId,
        image: &Digest,
    ) -> Result<OwnedFd, ImageError> {
        let dirs = self.dirs(container, image)?;
        let upper = Upper {
            files: &dirs.upper,
            work: &dirs.work,
            durable: false,
        };
        mount::overlay(&dirs.lower, Some(upper))
    }

    /// The root of an image, read-only, attached nowhere.
    pub fn open_image_root(&self, image: &Digest) -> Result<OwnedFd, ImageError> {
        let found = self.read().images.get(image).cloned();
        let found = found.ok_or_else(|| ImageError::NoSuchImage(image.to_string()))?;
        let lower = match found.top() {
            None => {
                self.prepare(None)?;
                self.lower(None, true)
            }
            top => self.lower(top, false),
        };
        mount::overlay(&lower, None)
    }

    /// Where the layers of an image are, under the names that Docker's overlay driver gives them.
    pub fn image_dirs(&self, image: &Image) -> BTreeMap<String, String> {
        let path = |layer: &Digest, name: &str| {
            let path = self.layers.path(&layer.hex()).join(name);
            path.to_string_lossy().into_owned()
        };
        let Some((top, below)) = image.chain.split_last() else {
            return BTreeMap::new();
        };
        let mut dirs = BTreeMap::from([
            ("UpperDir".to_owned(), path(top, DIFF)),
            ("MergedDir".to_owned(), path(top, "merged")),
            ("WorkDir".to_owned(), path(top, WORK)),
        ]);
        let below: Vec<_> = below.iter().rev().map(|layer| path(layer, DIFF)).collect();
        if !below.is_empty() {
            dirs.insert("LowerDir".to_owned(), below.join(":"));
        }
        dirs
    }

    /// Keeps the layers from `top` down until the pin is dropped.
    pub(crate) fn pin(&self, top: Digest) -> Pin<&Self> {
        Pin::new(self, self.write().add_pin(top))
    }

    fn container_path(&self, container: &ContainerId) -> PathBuf {
        self.root.join("containers").join(container.to_string())
    }

    fn chain_of(
        &self,
        container: &ContainerId,
        image: &Digest,
    ) -> Result<Option<Digest>, ImageError> {
        let model = self.read();
        if let Some(chain) = model.containers.get(container) {
            return Ok(*chain);
        }
        let found = model.images.get(image);
        let found = found.ok_or_else(|| ImageError::NoSuchImage(image.to_string()))?;
        Ok(found.top())
    }

    fn lower(&self, chain: Option<Digest>, with_init: bool) -> Vec<PathBuf> {
        let own = self.layers.path(&layer_name(chain.as_ref()));
        let mut lower = Vec::new();
        if with_init {
            lower.push(own.join(INIT));
        }
        let chain = self.read().chain_down(chain);
        let layers = chain
            .iter()
            .map(|id| self.layers.path(&id.hex()).join(DIFF));
        lower.extend(layers);
        lower
    }

    /// Makes the init layer of an image, once.
    fn prepare(&self, chain: Option<Digest>) -> Result<(), ImageError> {
        let mut prepared = self.prepared.lock().unwrap_or_else(PoisonError::into_inner);
        if prepared.contains(&chain) {
            return Ok(());
        }
        let base = self.layers.path(&layer_name(chain.as_ref()));
        let finished = base.join(INIT);
        if !finished.is_dir() {
            if chain.is_none() {
                make_directory(&base, 0o700)?;
            }
            self.make_init(chain, &base)?;
        }
        prepared.insert(chain);
        Ok(())
    }

    fn make_init(&self, chain: Option<Digest>, base: &std::path::Path) -> Result<(), ImageError> {
        // What a crash left is started again.
        let directory = open_directory(base)?;
        let temporary = format!("{TEMPORARY}init");
        let fail = |error| ImageError::io("create", base.join(INIT), error);
        delete(directory.as_fd(), &temporary).map_err(fail)?;
        let own = base.join(&temporary);
        let (upper, work) = (own.join(UPPER), own.join(WORK));
        make_directory(&own, 0o700)?;
        make_directory(&upper, 0o755)?;
        make_directory(&work, 0o700)?;
        let mut lower = self.lower(chain, false);
        if lower.is_empty() {
            let empty = own.join("empty");
            make_directory(&empty, 0o755)?;
            lower.push(empty);
        }
        let layer = Upper {
            files: &upper,
            work: &work,
            durable: false,
        };
        let root = mount::overlay(&lower, Some(layer))?;
        init::populate(root.as_fd())?;
        drop(root);
        let path = format!("{temporary}/{UPPER}");
        rustix::fs::renameat(&directory, &*path, &directory, INIT)
            .map_err(|errno| fail(errno.into()))?;
        delete(directory.as_fd(), &temporary).map_err(fail)
    }

    /// Deletes the layers from `top` down that nothing stands on any more.
    fn collect(&self, top: Option<Digest>) -> Result<(), ImageError> {
        if top.is_none() || self.read().images.values().any(|image| image.top() == top) {
            return Ok(());
        }
        let _changing = self.changing();
        let (orphans, unknown) = {
            let mut model = self.write();
            let orphans = model.orphans(top, None);
            let unknown = model.remove_layers(&orphans);
            (orphans, unknown)
        };
        if orphans.is_empty() {
            return Ok(());
        }
        self.db
            .transaction_with_reserve(cais_state::Durability::Process, |changes| {
                delete_layers(changes, &orphans, &unknown)
            })?;
        self.forget_layers(&orphans)
    }
}
