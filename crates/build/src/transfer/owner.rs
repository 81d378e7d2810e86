//! `--chown=user:group`: numbers, or names of the image's own `/etc/passwd` and `/etc/group`.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use cais_types::{Error, Result};
use rustix::fs::{Mode, OFlags};

/// What is said where a name is nobody's, first.
pub const NO_SUCH_OWNER: &str = "unable to convert uid/gid chown string to host mapping";

/// The most bytes read of an accounts file.
const MAX: u64 = 4 << 20;

/// Who gets the files.
pub fn parse(root: &OwnedFd, text: &str) -> Result<(u32, u32)> {
    let (user, group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (text, None),
    };
    let failed = |why: String| Error::invalid(format!("{NO_SUCH_OWNER}: {why}"));
    let uid = number(user)
        .or_else(|| lookup(root, "/etc/passwd", user))
        .ok_or_else(|| {
            failed(format!(
                "can't find uid for user {user}: no such user: {user}"
            ))
        })?;
    let gid = match group {
        None => uid,
        Some(group) => number(group)
            .or_else(|| lookup(root, "/etc/group", group))
            .ok_or_else(|| {
                failed(format!(
                    "can't find gid for group {group}: no such group: {group}"
                ))
            })?,
    };
    Ok((uid, gid))
}

/// An id; the largest number stands for "no change" in the kernel and is none.
fn number(text: &str) -> Option<u32> {
    let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let id: u32 = text.parse().ok().filter(|_| plain)?;
    (id != u32::MAX).then_some(id)
}

/// The third field of the line whose first one is the name.
fn lookup(root: &OwnedFd, path: &str, name: &str) -> Option<u32> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK;
    let file = cais_sys::path_in_root::open(root.as_fd(), Path::new(path), flags, Mode::empty());
    let mut text = Vec::new();
    File::from(file.ok()?)
        .take(MAX)
        .read_to_end(&mut text)
        .ok()?;
    let text = String::from_utf8_lossy(&text);
    let line = text
        .lines()
        .find(|line| line.split(':').next() == Some(name))?;
    number(line.split(':').nth(2)?)
}
