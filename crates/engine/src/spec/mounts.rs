//! `mounts`: the default file systems, the engine's own files, then what the user asked for.

use std::path::Path;

use cais_runtime::spec::Mount;
use cais_types::Result;

use super::Input;
use super::process::INIT_PATH;
use super::security::Security;
use crate::files::EtcFiles;
use crate::mounts::{MountKind, MountRecord, clean};

pub fn all(input: &Input<'_>, files: &EtcFiles) -> Result<Vec<Mount>> {
    let mut mounts = defaults(input)?;
    let own = own_files(input, files);
    let mut wanted: Vec<Mount> = input.record.mounts.iter().map(user_mount).collect();
    for (target, options) in &input.record.host_config.tmpfs {
        wanted.push(tmpfs(
            &clean(target),
            options.split(',').filter(|o| !o.is_empty()),
        ));
    }
    // Who brings an own /dev brings what is in it.
    let taken = |mount: &Mount| {
        wanted.iter().any(|want| {
            want.destination == mount.destination
                || want.destination == Path::new("/dev") && mount.destination.starts_with("/dev")
        })
    };
    mounts.retain(|mount| !taken(mount));
    mounts.extend(own.into_iter().filter(|mount| !taken(mount)));
    // A file system that a user mount covers wholly would hide what is bound below it if it came later.
    wanted.sort_by_key(|mount| mount.destination.components().count());
    mounts.extend(wanted);
    Ok(mounts)
}

fn mount(destination: &str, kind: &str, source: &str, options: &[&str]) -> Mount {
    Mount {
        destination: destination.into(),
        kind: Some(kind.to_owned()),
        source: Some(source.to_owned()),
        options: options.iter().map(|&option| option.to_owned()).collect(),
        ..Mount::default()
    }
}

fn bind(destination: &str, source: &Path, options: &[&str]) -> Mount {
    mount(destination, "bind", &source.to_string_lossy(), options)
}

fn defaults(input: &Input<'_>) -> Result<Vec<Mount>> {
    let host = &input.record.host_config;
    let security = Security::parse(host.security_opt.as_deref().unwrap_or_default())?;
    let write_sys = host.privileged;
    let access = |writable: bool| if writable { "rw" } else { "ro" };
    let cgroup_access = access(host.privileged || security.writable_cgroups);
    let mut mounts = vec![
        mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount(
            "/dev",
            "tmpfs",
            "tmpfs",
            &["nosuid", "strictatime", "mode=755", "size=65536k"],
        ),
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            &[
                "nosuid",
                "noexec",
                "newinstance",
                "ptmxmode=0666",
                "mode=0620",
                "gid=5",
            ],
        ),
        mount(
            "/sys",
            "sysfs",
            "sysfs",
            &["nosuid", "noexec", "nodev", access(write_sys)],
        ),
        mount(
            "/sys/fs/cgroup",
            "cgroup",
            "cgroup",
            &[cgroup_access, "nosuid", "noexec", "nodev"],
        ),
    ];
    mounts.extend(ipc_mounts(input));
    Ok(mounts)
}

/// `/dev/mqueue` and `/dev/shm`, which go with the IPC namespace.
fn ipc_mounts(input: &Input<'_>) -> Vec<Mount> {
    let host = &input.record.host_config;
    let queue = mount(
        "/dev/mqueue",
        "mqueue",
        "mqueue",
        &["nosuid", "noexec", "nodev"],
    );
    if host.ipc_mode == "host" {
        let memory = bind(
            "/dev/shm",
            Path::new("/dev/shm"),
            &["rbind", "nosuid", "noexec", "nodev"],
        );
        return vec![queue, memory];
    }
    if host.ipc_mode == "none" {
        return vec![queue];
    }
    let memory = match &input.joined.shm {
        Some(path) => bind(
            "/dev/shm",
            path,
            &["rbind", "nosuid", "noexec", "nodev", "rprivate"],
        ),
        None => {
            let size = format!("size={}", shm_size(input));
            mount(
                "/dev/shm",
                "tmpfs",
                "shm",
                &["nosuid", "noexec", "nodev", "mode=1777", &size],
            )
        }
    };
    vec![queue, memory]
}

fn shm_size(input: &Input<'_>) -> i64 {
    match input.record.host_config.shm_size {
        0 => input.config.default_shm_size,
        size => size,
    }
}

fn own_files(input: &Input<'_>, files: &EtcFiles) -> Vec<Mount> {
    let host = &input.record.host_config;
    let access = if host.readonly_rootfs { "ro" } else { "rw" };
    let options = ["bind", "rprivate", access];
    let mut mounts = vec![
        bind("/etc/resolv.conf", &files.resolv_conf(), &options),
        bind("/etc/hostname", &files.hostname(), &options),
        bind("/etc/hosts", &files.hosts(), &options),
    ];
    if host.init.unwrap_or(input.config.init_by_default) {
        mounts.push(bind(INIT_PATH, &input.config.init_binary, &["bind", "ro"]));
    }
    mounts
}

fn user_mount(record: &MountRecord) -> Mount {
    if record.kind == MountKind::Tmpfs {
        let access = (!record.writable).then_some("ro");
        let options = record.tmpfs_options.iter().map(String::as_str);
        return tmpfs(&record.destination, options.chain(access));
    }
    let recursive = record.kind == MountKind::Bind && !record.non_recursive;
    let mut options = vec![if recursive { "rbind" } else { "bind" }];
    if !record.writable {
        // `rro` also covers what is mounted below the source, as in Docker since 25.
        let deep = recursive && !record.read_only_non_recursive;
        options.push(if deep { "rro" } else { "ro" });
    }
    let propagation = record.propagation.as_str();
    options.push(if propagation.is_empty() {
        "rprivate"
    } else {
        propagation
    });
    let source = match record.subpath.as_str() {
        "" => record.source.clone(),
        subpath => format!("{}/{subpath}", record.source),
    };
    bind(&record.destination, Path::new(&source), &options)
}

/// A tmpfs with Docker's cautious defaults, which single options undo.
fn tmpfs<'a>(destination: &str, options: impl Iterator<Item = &'a str>) -> Mount {
    let mut merged: Vec<&str> = vec!["noexec", "nosuid", "nodev"];
    for option in options {
        let opposite = match option {
            "exec" => "noexec",
            "suid" => "nosuid",
            "dev" => "nodev",
            "rw" => "ro",
            "ro" => "rw",
            _ => "",
        };
        merged.retain(|have| *have != opposite && *have != option);
        merged.push(option);
    }
    mount(destination, "tmpfs", "tmpfs", &merged)
}
