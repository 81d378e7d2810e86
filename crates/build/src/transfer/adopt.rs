//! Files of the context that become files of the layer: the layer gets a second name of the file, and the first one goes
//! with the context. Nothing is copied, no file is made and none is deleted, which is what costs most in a build of many
//! files. (On ext4 a file that is made just after others were deleted is dear by itself: their numbers are not used again
//! for minutes, and each search for a free one goes past all of them.)

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use cais_types::Digest;
use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, Timespec, Timestamps, openat2};

use super::collect::Item;
use super::place::Placer;
use crate::ports::FileMemory;

/// Files that wait until nothing is mounted on the tree.
#[derive(Debug, Default)]
pub struct Adopted<'a> {
    files: HashSet<(u64, u64)>,
    places: BTreeMap<PathBuf, Item>,
    memory: Option<&'a dyn FileMemory>,
    /// The layers below.
    layers: Vec<Digest>,
}

impl<'a> Adopted<'a> {
    /// Files for a layer on top of others, which may have some of them already.
    pub fn new(memory: Option<&'a dyn FileMemory>, layers: Vec<Digest>) -> Self {
        Self {
            memory,
            layers,
            ..Self::default()
        }
    }

    /// Takes a file for a place, as a path from the root without links; false when it must be copied. A file that has
    /// another name already, in a layer below perhaps, would look like a hard link of that.
    pub fn add(&mut self, place: &Path, item: &Item) -> bool {
        let file = (item.stat.st_dev, item.stat.st_ino);
        if !self.is_free(item) || !self.files.insert(file) {
            return false;
        }
        self.places.insert(place.to_owned(), item.clone());
        true
    }

    /// Whether all other names of a file are in layers that are not below.
    fn is_free(&self, item: &Item) -> bool {
        let others = usize::try_from(item.stat.st_nlink).unwrap_or(usize::MAX) - 1;
        if others == 0 {
            return true;
        }
        let layers = self.memory.map(|memory| memory.layers(item.stat.st_ino));
        let layers = layers.unwrap_or_default();
        others <= layers.len() && !layers.iter().any(|layer| self.layers.contains(layer))
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Something else has come to a place.
    pub fn forget(&mut self, place: &Path) {
        self.places.remove(place);
    }

    /// Gives every file its name below the root of `placer`, which is no mount any more; what cannot have one is copied.
    ///
    /// Answers the inodes of those that have one.
    ///
    /// # Errors
    /// Those of the file system, with the path.
    pub fn finish(self, placer: &Placer) -> io::Result<Vec<u64>> {
        let mut given = Vec::new();
        let mut last: Option<Parent> = None;
        for (place, item) in &self.places {
            let above = place.parent().unwrap_or(Path::new(""));
            let fail = |error: io::Error| {
                io::Error::new(error.kind(), format!("/{}: {error}", place.display()))
            };
            let parent = match last.take() {
                Some(parent) if parent.path == above => parent,
                before => {
                    before
                        .map_or(Ok(()), |parent| parent.restore())
                        .map_err(fail)?;
                    Parent::open(&placer.root, above).map_err(fail)?
                }
            };
            let name = Path::new(place.file_name().unwrap_or_default());
            if link(item, &parent.directory, name).map_err(fail)? {
                given.push(item.stat.st_ino);
            } else {
                placer
                    .copied(item, parent.directory.as_fd(), name)
                    .map_err(fail)?;
            }
            last = Some(parent);
        }
        last.map_or(Ok(()), |parent| parent.restore())?;
        Ok(given)
    }
}

/// A directory that files come to, which keeps the times it had before.
struct Parent<'a> {
    path: &'a Path,
    directory: OwnedFd,
    times: Timestamps,
}

impl<'a> Parent<'a> {
    fn open(root: &OwnedFd, path: &'a Path) -> io::Result<Self> {
        let directory = open_below(root, path)?;
        let stat = rustix::fs::fstat(&directory)?;
        let time = |tv_sec, nanoseconds| Timespec {
            tv_sec,
            tv_nsec: i64::try_from(nanoseconds).unwrap_or(0),
        };
        let times = Timestamps {
            last_access: time(stat.st_atime, stat.st_atime_nsec),
            last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
        };
        Ok(Self {
            path,
            directory,
            times,
        })
    }

    fn restore(&self) -> io::Result<()> {
        Ok(rustix::fs::futimens(&self.directory, &self.times)?)
    }
}

fn open_below(root: &OwnedFd, path: &Path) -> io::Result<OwnedFd> {
    let path = if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    Ok(openat2(root, path, flags, Mode::empty(), resolve)?)
}

/// False when the file system does not give a second name, or the file has attributes that are not all to be kept.
fn link(item: &Item, parent: &OwnedFd, name: &Path) -> io::Result<bool> {
    let file = item.open()?;
    let plain = rustix::fs::flistxattr(&file, &mut [0_u8; 0][..]).is_ok_and(|length| length == 0);
    Ok(plain && rustix::fs::linkat(&file, "", parent, name, AtFlags::EMPTY_PATH).is_ok())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::MetadataExt;

    use super::*;
    use crate::transfer::collect::{Collected, Wanted, collect};

    fn open(path: &Path) -> OwnedFd {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::open(path, flags, Mode::empty()).unwrap()
    }

    fn everything(context: &Path) -> Collected {
        let wanted = Wanted {
            sources: vec![".".to_owned()],
            ..Wanted::default()
        };
        collect(open(context), &wanted).unwrap()
    }

    fn placer(root: &Path, owner: (u32, u32)) -> Placer {
        Placer {
            root: open(root),
            owner: Some(owner),
            mode: None,
        }
    }

    /// Copies a context into a tree; what becomes of its files is up to the owner they shall have.
    fn copy(context: &Path, tree: &Path, owner: (u32, u32)) {
        let mut adopted = Adopted::default();
        let to = Path::new("/there");
        placer(tree, owner)
            .copy(&everything(context), to, true, Some(&mut adopted))
            .unwrap();
        adopted.finish(&placer(tree, owner)).unwrap();
    }

    #[test]
    fn a_file_is_adopted_once_and_copied_from_then_on() {
        let scratch = tempfile::tempdir().unwrap();
        let [context, first, second, other] = ["context", "first", "second", "other"].map(|name| {
            let path = scratch.path().join(name);
            fs::create_dir(&path).unwrap();
            path
        });
        fs::create_dir(context.join("sub")).unwrap();
        fs::write(context.join("sub/file"), "contents").unwrap();
        std::os::unix::fs::symlink("file", context.join("sub/link")).unwrap();
        let of = |path: &Path| fs::symlink_metadata(path).unwrap();
        let source = of(&context.join("sub/file"));
        let own = (source.uid(), source.gid());
        copy(&context, &other, (own.0 + 1, own.1));
        copy(&context, &first, own);
        copy(&context, &second, own);
        let inode = |tree: &Path| of(&tree.join("there/sub/file")).ino();
        assert_eq!(inode(&first), source.ino(), "the file itself");
        assert_ne!(inode(&second), source.ino(), "it has a name in a layer");
        assert_ne!(inode(&other), source.ino(), "it has another owner");
        for tree in [&first, &second, &other] {
            let place = tree.join("there/sub/file");
            assert_eq!(fs::read_to_string(&place).unwrap(), "contents");
            assert_eq!(of(&place).mtime_nsec(), source.mtime_nsec());
            let [above, there] =
                [&context.join("sub"), &tree.join("there/sub")].map(|path| of(path));
            assert_eq!(there.mtime_nsec(), above.mtime_nsec());
            assert_eq!(
                fs::read_link(place.with_file_name("link")).unwrap(),
                Path::new("file")
            );
        }
        assert_eq!(of(&other.join("there/sub/file")).uid(), own.0 + 1);
    }
}
