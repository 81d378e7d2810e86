//! WORKDIR: the configuration, and the directory itself when it is missing.

use std::os::fd::AsFd;
use std::path::Path;

use cais_sys::path_in_root;
use cais_types::{Error, Result};
use rustix::fs::{Mode, OFlags};

use crate::dockerfile::ignore::clean;
use crate::stage::{Repeat, StageRun, nop};
use crate::transfer::place::Placer;

/// Runs the instruction.
pub fn run(stage: &mut StageRun<'_>, path: &str) -> Result<()> {
    let path = stage.expand(path)?;
    let path = below(&stage.config.working_dir, &path);
    stage.config.working_dir.clone_from(&path);
    let created_by = format!("{}WORKDIR {path}", nop(&stage.shell()));
    let key = stage.key(&created_by).finish();
    let repeat = Repeat {
        line: &created_by,
        files: !is_there(stage, &path),
        whole: true,
    };
    if stage.cached(&key, repeat)? {
        return Ok(());
    }
    let (snapshot, root) = stage.ports.images.snapshot(stage.image.as_ref())?;
    let placer = Placer {
        root,
        owner: Some((0, 0)),
        mode: None,
    };
    let made = placer
        .directory(Path::new(&path))
        .map_err(|error| Error::invalid(format!("WORKDIR {path}: {error}")));
    drop(placer);
    let result = made.and_then(|_| stage.commit(Some(snapshot), created_by, &key));
    let discarded = stage.ports.images.discard(&snapshot);
    result.and(discarded)
}

/// Whether the image has the directory. Only asked where another image may have made it.
fn is_there(stage: &StageRun<'_>, path: &str) -> bool {
    let Some(image) = stage.image.as_ref() else {
        return false;
    };
    if stage.request.cache_from.is_empty() {
        return false;
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    let root = stage.ports.images.root(image);
    root.is_ok_and(|root| {
        path_in_root::open(root.as_fd(), Path::new(path), flags, Mode::empty()).is_ok()
    })
}

/// A path as seen from a working directory.
pub fn below(directory: &str, path: &str) -> String {
    if path.starts_with('/') {
        return clean(path);
    }
    clean(&format!("/{directory}/{path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_relative_to_the_directory_before() {
        assert_eq!(below("", "a"), "/a");
        assert_eq!(below("/a", "b/../c"), "/a/c");
        assert_eq!(below("/a", "/b"), "/b");
        assert_eq!(below("/a", "../../x"), "/x");
    }
}
