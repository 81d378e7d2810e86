//! User namespaces by which mounts are mapped.

use std::os::fd::{AsFd as _, OwnedFd};

use rustix::fs::{Mode, OFlags};

use super::options::Options;
use crate::container::report::{Result, RuntimeError, during};
use crate::spec::{LinuxIdMapping, Spec};

/// Makes the user namespaces that mounts are mapped by, before anything else: a process whose root is covered cannot.
pub fn id_maps(spec: &Spec) -> Result<Vec<(usize, OwnedFd)>> {
    let linux = spec.linux.as_ref();
    let mut made = Vec::new();
    for (index, wanted) in spec.mounts.iter().enumerate() {
        let asked = Options::parse(&wanted.options).id_map.is_some();
        let (uids, gids) = match (wanted.uid_mappings.is_empty(), linux) {
            (false, _) => (&wanted.uid_mappings, &wanted.gid_mappings),
            (true, Some(linux)) if asked => (&linux.uid_mappings, &linux.gid_mappings),
            (true, _) => continue,
        };
        if uids.is_empty() || gids.is_empty() {
            return Err(RuntimeError::invalid(format!(
                "mount {}: idmap needs uidMappings and gidMappings",
                wanted.destination.display()
            )));
        }
        made.push((index, user_namespace(uids, gids)?));
    }
    Ok(made)
}

/// A user namespace with mappings, made by a child that does nothing else.
fn user_namespace(uids: &[LinuxIdMapping], gids: &[LinuxIdMapping]) -> Result<OwnedFd> {
    use cais_sys::process::{copy, namespace};
    let (release, hold) =
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(during("pipe"))?;
    let mut hold = Some(hold);
    let child = copy(namespace::USER, None, || {
        drop(hold.take());
        let _ = rustix::io::read(&release, &mut [0u8; 1]);
        0
    })
    .map_err(during("clone for idmap"))?;
    let lines = |mappings: &[LinuxIdMapping]| -> String {
        mappings
            .iter()
            .map(|one| format!("{} {} {}\n", one.container_id, one.host_id, one.size))
            .collect()
    };
    let path = |file: &str| format!("/proc/{}/{file}", child.pid);
    let opened = std::fs::write(path("uid_map"), lines(uids))
        .and_then(|()| std::fs::write(path("gid_map"), lines(gids)))
        .and_then(|()| {
            Ok(rustix::fs::open(
                path("ns/user"),
                OFlags::RDONLY | OFlags::CLOEXEC,
                Mode::empty(),
            )?)
        });
    drop(hold);
    let _ = cais_sys::pidfd::wait(child.pidfd.as_fd());
    opened.map_err(during("map ids of a mount"))
}
