//! Images whose layers above a base are one: what a build with `squash` ends with.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use cais_types::{ContainerId, Digest};
use rustix::fs::{AtFlags, Mode, OFlags};
use serde_json::{Value, json};

use crate::addition::NewImage;
use crate::commit::push;
use crate::error::ImageError;
use crate::layers::merge::Merger;
use crate::layers::upper::Upper;
use crate::layers::{DIFF, changes, open_directory};
use crate::store::Store;

/// What is to be made.
#[derive(Clone, Debug)]
pub struct SquashRequest {
    pub image: Digest,
    /// Its layers stay; none squashes all.
    pub base: Option<Digest>,
    /// RFC 3339; now without it.
    pub created: Option<String>,
    pub holder: Option<u64>,
}

impl Store {
    /// Makes an image with one layer above the base, in docker's words: the lines of the history stay, without layers, and one
    /// more has the layer. `scratch` is a container's tree on the base, not in use, in which
    /// layers meet; the new one is a copy, so that no file has more names than it shows.
    pub fn squash(
        &self,
        scratch: &ContainerId,
        request: SquashRequest,
    ) -> Result<Digest, ImageError> {
        let chain = |id: &Digest| {
            let image = self.read().images.get(id).cloned();
            image
                .map(|image| image.chain.clone())
                .ok_or_else(|| ImageError::NoSuchImage(id.to_string()))
        };
        let below = request
            .base
            .as_ref()
            .map(chain)
            .transpose()?
            .unwrap_or_default();
        let all = chain(&request.image)?;
        let open = |layer: &Digest| open_directory(&self.layers.path(&layer.hex()).join(DIFF));
        let base = below
            .iter()
            .rev()
            .map(open)
            .collect::<Result<Vec<OwnedFd>, _>>()?;
        let upper = self.upper(scratch);
        let into = open_directory(&upper)?;
        let covers = |path: &[u8]| is_there(&base, path);
        let merger = Merger { covers: &covers };
        for layer in &all[below.len().min(all.len())..] {
            let merged = merger.add(open(layer)?.as_fd(), into.as_fd());
            merged.map_err(|error| ImageError::io("squash", &upper, error))?;
        }
        let layer = self.read_upper(Upper::Copy(&upper), request.base.as_ref())?;
        let layer = Some(layer).filter(|layer| !layer.is_empty());
        let document = self.squashed(&request, layer.as_ref().map(|layer| layer.diff()))?;
        let committed = self.commit(NewImage {
            config: document.to_string().into_bytes(),
            layers: layer
                .map(|layer| (layer.diff(), Arc::new(layer.into_unpacked())))
                .into_iter()
                .collect::<HashMap<_, _>>(),
            parent: request.base,
            holder: request.holder,
            ..NewImage::default()
        })?;
        Ok(committed.image.id)
    }

    fn squashed(
        &self,
        request: &SquashRequest,
        layer: Option<Digest>,
    ) -> Result<Value, ImageError> {
        let mut document: Value = serde_json::from_slice(&self.config_bytes(&request.image)?)
            .map_err(|error| {
                ImageError::Archive(format!("invalid image configuration: {error}"))
            })?;
        let mut ground = self.ground(request.base.as_ref(), None)?;
        let kept = ground["history"].as_array().map_or(0, Vec::len);
        let lines = document["history"].as_array_mut().into_iter().flatten();
        for line in lines.skip(kept) {
            line["empty_layer"] = json!(true);
        }
        let comment = match &request.base {
            Some(base) => format!("merge {} to {base}", request.image),
            None => format!("create new from {}", request.image),
        };
        let now = jiff::Timestamp::now().to_string();
        let created = request.created.clone().unwrap_or(now);
        let mut line = json!({"created": created, "comment": comment});
        match layer {
            Some(layer) => push(&mut ground["rootfs"]["diff_ids"], json!(layer)),
            None => line["empty_layer"] = json!(true),
        }
        push(&mut document["history"], line);
        document["rootfs"] = ground["rootfs"].take();
        document["created"] = json!(created);
        Ok(document)
    }
}

/// Whether layers, the highest first, show something of a path. Directories in between are real ones.
fn is_there(layers: &[OwnedFd], path: &[u8]) -> bool {
    for layer in layers {
        let mut parent = match rustix::fs::openat(
            layer,
            c".",
            OFlags::RDONLY | OFlags::CLOEXEC,
            Mode::empty(),
        ) {
            Ok(top) => top,
            Err(_) => return true,
        };
        let mut names = path.split(|byte| *byte == b'/').peekable();
        let mut hides = false;
        while let Some(name) = names.next() {
            let Ok(stat) = rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW) else {
                break;
            };
            if changes::is_whiteout(&stat) {
                return false;
            }
            if names.peek().is_none() {
                return true;
            }
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            // A file in the place of a directory hides what is below it in lower layers.
            let Ok(next) = rustix::fs::openat(&parent, name, flags, Mode::empty()) else {
                return false;
            };
            hides |= changes::is_opaque(next.as_fd()).unwrap_or(false);
            parent = next;
        }
        if hides {
            return false;
        }
    }
    false
}
