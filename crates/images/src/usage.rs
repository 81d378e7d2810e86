//! When images were last used, and removing those that were not for long or that fill the disk.

use std::sync::Arc;

use cais_state::Durability;
use cais_types::Digest;

use crate::deletion::{ImageUser, Pruned};
use crate::error::ImageError;
use crate::model::{Image, Model, USED};
use crate::store::Store;

/// Seconds by which what is stored of an image's last use may lag behind.
const LAG: i64 = 3600;
/// Seconds for which an image that was just used is not removed to make room.
const GRACE: i64 = 60;

/// Which images are removed by themselves; none, when nothing is set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GcPolicy {
    /// Seconds without use after which an image goes.
    pub max_age: Option<i64>,
    /// Per cent of the disk in use from which on images go, the least recently used first, and down to which they do.
    pub watermarks: Option<(u8, u8)>,
}

impl Model {
    /// Seconds since 1970; an image that was never used counts from when it got its last name, or was made.
    fn last_used(&self, image: &Image) -> i64 {
        let tagged = image.tagged.as_ref();
        let tagged = tagged.and_then(|time| time.parse::<jiff::Timestamp>().ok());
        let tagged = tagged.map_or(image.created, jiff::Timestamp::as_second);
        self.used.get(&image.id).copied().unwrap_or(0).max(tagged)
    }
}

impl Store {
    /// Remembers that an image is used now. Written down now and then only: it is asked for days, not seconds.
    pub fn mark_used(&self, image: &Digest) {
        let now = jiff::Timestamp::now().as_second();
        let before = self.write().used.insert(*image, now);
        if before.is_none_or(|before| before + LAG < now) {
            let put = self.db.put(Durability::Process, USED, &image.hex(), &now);
            if let Err(error) = put {
                tracing::debug!(%error, %image, "the last use of an image was not written down");
            }
        }
    }

    /// When an image was last used, in seconds since 1970.
    pub fn last_used(&self, image: &Image) -> i64 {
        self.read().last_used(image)
    }

    /// Removes what the policy wants gone. No image goes that a container uses, that another one was made from, or that
    /// `keep` wants.
    pub fn collect_garbage(
        &self,
        policy: &GcPolicy,
        users: &[ImageUser],
        keep: impl Fn(&[String]) -> bool,
    ) -> Result<Pruned, ImageError> {
        let mut pruned = Pruned::default();
        let now = jiff::Timestamp::now().as_second();
        let full = match policy.watermarks {
            Some((high, _)) => self.disk_used()? >= high,
            None => false,
        };
        if policy.max_age.is_none() && !full {
            return Ok(pruned);
        }
        for (used, image) in self.by_last_use(users, keep) {
            let old = policy.max_age.is_some_and(|age| used + age < now);
            let room = match policy.watermarks {
                Some((_, low)) if full && !old && used + GRACE < now => self.disk_used()? > low,
                _ => false,
            };
            if old || room {
                self.remove_unused(&image, users, |_| true, true, &mut pruned)?;
            }
        }
        Ok(pruned)
    }

    /// The least recently used first.
    fn by_last_use(
        &self,
        users: &[ImageUser],
        keep: impl Fn(&[String]) -> bool,
    ) -> Vec<(i64, Arc<Image>)> {
        let images = self.list(true);
        let model = self.read();
        let mut unused: Vec<_> = images
            .into_iter()
            .filter(|one| users.iter().all(|user| user.image != one.image.id))
            .filter(|one| !keep(&one.tags()))
            .map(|one| (model.last_used(&one.image), one.image))
            .collect();
        unused.sort_by_key(|(used, image)| (*used, image.id));
        unused
    }

    /// Per cent of the disk below the data root that is in use, as `df` tells it.
    fn disk_used(&self) -> Result<u8, ImageError> {
        let disk = rustix::fs::fstatvfs(&self.containers)
            .map_err(|errno| ImageError::io("statfs", &self.root, errno))?;
        let used = disk.f_blocks.saturating_sub(disk.f_bfree);
        let all = (used + disk.f_bavail).max(1);
        Ok(u8::try_from((used * 100).div_ceil(all)).unwrap_or(100))
    }
}
