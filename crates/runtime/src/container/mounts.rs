//! The mounts of a specification (config.md, "Mounts"; options as mount(8) and runc know them).

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use cais_sys::mount::{self, Attributes, attribute};
use cais_sys::path_in_root;
use rustix::fs::{FileType, Mode, OFlags};

use super::report::{Result, RuntimeError, during, plain};
use crate::cgroups::Cgroup;
use crate::spec::{LinuxIdMapping, Mount, Spec};

/// Where mounts go and what they depend on.
pub struct Context<'a> {
    pub root: BorrowedFd<'a>,
    pub cgroup: &'a Cgroup,
    pub own_cgroup_namespace: bool,
    pub user_namespace: bool,
}

/// The options of a mount, told apart.
#[derive(Debug, Default, PartialEq, Eq)]
struct Options<'a> {
    own: Attributes,
    recursive: Attributes,
    bind: bool,
    bind_recursive: bool,
    propagation: u64,
    propagation_recursive: bool,
    /// The mount that is at the destination gets other attributes.
    remount: bool,
    /// Contents of the covered directory are copied into a tmpfs.
    copy_up: bool,
    id_map: Option<bool>,
    data: Vec<(&'a str, Option<&'a str>)>,
}

/// Option, attribute, whether it sets or clears.
const FLAGS: &[(&str, u64, bool)] = &[
    ("ro", attribute::READ_ONLY, true),
    ("rw", attribute::READ_ONLY, false),
    ("nosuid", attribute::NO_SUID, true),
    ("suid", attribute::NO_SUID, false),
    ("nodev", attribute::NO_DEV, true),
    ("dev", attribute::NO_DEV, false),
    ("noexec", attribute::NO_EXEC, true),
    ("exec", attribute::NO_EXEC, false),
    ("noatime", attribute::NO_ACCESS_TIME, true),
    ("atime", attribute::NO_ACCESS_TIME, false),
    ("relatime", attribute::RELATIVE_ACCESS_TIME, true),
    ("norelatime", attribute::RELATIVE_ACCESS_TIME, false),
    ("strictatime", attribute::STRICT_ACCESS_TIME, true),
    ("nostrictatime", attribute::STRICT_ACCESS_TIME, false),
    ("nodiratime", attribute::NO_DIRECTORY_ACCESS_TIME, true),
    ("diratime", attribute::NO_DIRECTORY_ACCESS_TIME, false),
    ("nosymfollow", attribute::NO_SYMLINK_FOLLOW, true),
    ("symfollow", attribute::NO_SYMLINK_FOLLOW, false),
];

const PROPAGATION: &[(&str, u64)] = &[
    ("shared", attribute::SHARED),
    ("slave", attribute::SLAVE),
    ("private", attribute::PRIVATE),
    ("unbindable", attribute::UNBINDABLE),
];

/// Options of the mount as a whole that the file system itself must get.
const SUPER_FLAGS: &[&str] = &["sync", "dirsync", "mand", "lazytime"];

/// Options that mean nothing or the usual; `silent` and `iversion` are no flags of fsconfig(2) any more.
const NEUTRAL: &[&str] = &[
    "defaults",
    "async",
    "loud",
    "nomand",
    "nolazytime",
    "noiversion",
    "silent",
    "iversion",
];

/// All options that are known here and not the file system's own, in order.
pub fn known_options() -> Vec<String> {
    let plain = FLAGS.iter().map(|(name, _, _)| *name);
    let pairs = plain.chain(PROPAGATION.iter().map(|(name, _)| *name));
    let single = ["bind", "rbind", "remount", "tmpcopyup", "idmap", "ridmap"];
    let single = single.iter().chain(NEUTRAL).chain(SUPER_FLAGS).copied();
    let mut names: Vec<String> = pairs
        .flat_map(|name| [name.to_owned(), format!("r{name}")])
        .chain(single.map(str::to_owned))
        .collect();
    names.sort_unstable();
    names
}

impl<'a> Options<'a> {
    fn parse(options: &'a [String]) -> Self {
        let mut parsed = Self::default();
        for option in options.iter().flat_map(|option| option.split(',')) {
            parsed.add(option);
        }
        parsed
    }

    fn add(&mut self, option: &'a str) {
        if let Some((_, bits, set)) = FLAGS.iter().find(|(name, _, _)| *name == option) {
            apply(&mut self.own, *bits, *set);
            return;
        }
        let recursive = option.strip_prefix('r').unwrap_or_default();
        if let Some((_, bits, set)) = FLAGS.iter().find(|(name, _, _)| *name == recursive) {
            apply(&mut self.recursive, *bits, *set);
            return;
        }
        for (name, bits) in PROPAGATION {
            if *name == option || *name == recursive {
                self.propagation = *bits;
                self.propagation_recursive = *name == recursive;
                return;
            }
        }
        match option {
            "" => {}
            other if NEUTRAL.contains(&other) => {}
            "bind" => self.bind = true,
            "rbind" => (self.bind, self.bind_recursive) = (true, true),
            "remount" => self.remount = true,
            "tmpcopyup" => self.copy_up = true,
            "idmap" => self.id_map = Some(false),
            "ridmap" => self.id_map = Some(true),
            other if SUPER_FLAGS.contains(&other) => self.data.push((other, None)),
            other => self.data.push(
                other
                    .split_once('=')
                    .map_or((other, None), |(key, value)| (key, Some(value))),
            ),
        }
    }
}

fn apply(attributes: &mut Attributes, bits: u64, set: bool) {
    let time = bits & attribute::ACCESS_TIME != 0 || bits == attribute::RELATIVE_ACCESS_TIME;
    if time {
        // The access time bits are one number, which is cleared as a whole.
        attributes.clear |= attribute::ACCESS_TIME;
        attributes.set &= !attribute::ACCESS_TIME;
    }
    if set {
        attributes.set |= bits;
        attributes.clear &= if time { u64::MAX } else { !bits };
    } else if !time {
        attributes.clear |= bits;
        attributes.set &= !bits;
    }
}

/// Makes one mount.
pub fn mount(context: &Context<'_>, wanted: &Mount, id_map: Option<&OwnedFd>) -> Result<()> {
    let done = match wanted.kind.as_deref() {
        Some("cgroup" | "cgroup2") => cgroup(context, wanted),
        _ => any(context, wanted, id_map),
    };
    done.map_err(|error| RuntimeError {
        message: format!(
            "error mounting {:?} to rootfs at {:?}: {}",
            wanted.source.as_deref().unwrap_or_default(),
            wanted.destination.display().to_string(),
            error.message
        ),
        ..error
    })
}

fn any(context: &Context<'_>, wanted: &Mount, id_map: Option<&OwnedFd>) -> Result<()> {
    let options = Options::parse(&wanted.options);
    if options.remount {
        return remount(context, wanted, &options);
    }
    let bind = options.bind || wanted.kind.as_deref() == Some("bind");
    let (tree, directory) = if bind {
        bound(context, wanted, &options, id_map)?
    } else {
        (file_system(wanted, &options)?, true)
    };
    let place = place(context, wanted, directory)?;
    check_proc(wanted, tree.as_fd(), place.as_fd())?;
    if options.copy_up {
        copy_up(place.as_fd(), tree.as_fd())?;
    }
    mount::attach(tree.as_fd(), place.as_fd()).map_err(during("attach"))?;
    if options.propagation != 0 {
        let propagation = Attributes {
            propagation: options.propagation,
            ..Attributes::default()
        };
        mount::set_attributes(
            tree.as_fd(),
            propagation,
            options.propagation_recursive,
            None,
        )
        .map_err(during("propagation"))?;
    }
    Ok(())
}

fn remount(context: &Context<'_>, wanted: &Mount, options: &Options<'_>) -> Result<()> {
    if let Some((name, _)) = options.data.first() {
        return Err(RuntimeError::invalid(format!(
            "a remount cannot change {name:?}, only flags of the mount"
        )));
    }
    // Resolved anew, so that it is what lies on top.
    let path = &wanted.destination;
    let top = path_in_root::open(context.root, path, OFlags::PATH, Mode::empty())
        .map_err(during(path.display()))?;
    set_bind_attributes(top.as_fd(), options.own, context.user_namespace)?;
    mount::set_attributes(top.as_fd(), options.recursive, true, None)
        .map_err(during("recursive attributes"))
}

/// A copy of the host's mount with the attributes asked for.
fn bound(
    context: &Context<'_>,
    wanted: &Mount,
    options: &Options<'_>,
    id_map: Option<&OwnedFd>,
) -> Result<(OwnedFd, bool)> {
    let path = wanted.source.as_deref().unwrap_or_default();
    let source = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .map_err(during(path))?;
    let kind = rustix::fs::fstat(&source).map_err(during(path))?.st_mode;
    let tree = mount::copy(source.as_fd(), options.bind_recursive).map_err(during("bind"))?;
    if let Some(namespace) = id_map {
        let mapped = Attributes {
            set: attribute::ID_MAPPED,
            ..Attributes::default()
        };
        let recursive = options.id_map == Some(true);
        mount::set_attributes(tree.as_fd(), mapped, recursive, Some(namespace.as_fd()))
            .map_err(during("idmap"))?;
    }
    set_bind_attributes(tree.as_fd(), options.own, context.user_namespace)?;
    mount::set_attributes(tree.as_fd(), options.recursive, true, None)
        .map_err(during("recursive attributes"))?;
    Ok((tree, FileType::from_raw_mode(kind) == FileType::Directory))
}

/// In a user namespace flags that the source is locked with cannot be cleared; that is no reason to fail unless they were to be.
fn set_bind_attributes(
    tree: BorrowedFd<'_>,
    attributes: Attributes,
    user_namespace: bool,
) -> Result<()> {
    match mount::set_attributes(tree, attributes, false, None) {
        Err(error)
            if user_namespace
                && error.kind() == io::ErrorKind::PermissionDenied
                && attributes.set != 0 =>
        {
            let only_set = Attributes {
                set: attributes.set,
                ..Attributes::default()
            };
            mount::set_attributes(tree, only_set, false, None).map_err(during("attributes"))
        }
        result => result.map_err(during("attributes")),
    }
}

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

fn file_system(wanted: &Mount, options: &Options<'_>) -> Result<OwnedFd> {
    let kind = wanted.kind.as_deref().unwrap_or_default();
    let source = wanted.source.as_deref();
    let attributes = options.own.set | options.recursive.set;
    match mount::new(kind, source, &options.data, attributes) {
        // A mqueue or sysfs of a foreign namespace cannot be made: the host's is as good.
        Err(error) if kind == "sysfs" && error.kind() == io::ErrorKind::PermissionDenied => {
            let host = rustix::fs::open("/sys", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
                .map_err(during("/sys"))?;
            let tree = mount::copy(host.as_fd(), true).map_err(during("bind /sys"))?;
            let flags = Attributes {
                set: attributes,
                ..Attributes::default()
            };
            mount::set_attributes(tree.as_fd(), flags, true, None).map_err(during("attributes"))?;
            Ok(tree)
        }
        result => result.map_err(|error| RuntimeError::invalid(plain(&error))),
    }
}

/// Opens the mount point below the root, made when it is missing. A symbolic link in the image must not move `/proc` and `/sys`
/// elsewhere (CVE-2019-19921, CVE-2023-27561).
fn place(context: &Context<'_>, wanted: &Mount, directory: bool) -> Result<OwnedFd> {
    let path = &wanted.destination;
    let step = || format!("mount point {}", path.display());
    let place = if directory {
        path_in_root::directory(context.root, path)
    } else {
        path_in_root::file(context.root, path)
    };
    let place = place.map_err(during(step()))?;
    let kind = wanted.kind.as_deref();
    if matches!(kind, Some("proc" | "sysfs")) {
        let strict = rustix::fs::openat2(
            context.root,
            path.strip_prefix("/").unwrap_or(path),
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
            rustix::fs::ResolveFlags::NO_SYMLINKS | rustix::fs::ResolveFlags::IN_ROOT,
        );
        return strict.map_err(|_| {
            RuntimeError::invalid(format!(
                "{} must be mounted on an ordinary directory",
                path.display()
            ))
        });
    }
    Ok(place)
}

/// Only a procfs may take the place of `/proc` (CVE-2019-16884: an image's volume there would be believed by whatever writes
/// labels and sysctls), and below it only what lxcfs and the like need may be covered.
fn check_proc(wanted: &Mount, tree: BorrowedFd<'_>, place: BorrowedFd<'_>) -> Result<()> {
    const ALLOWED: [&str; 11] = [
        "cpuinfo",
        "diskstats",
        "loadavg",
        "meminfo",
        "net/dev",
        "slabinfo",
        "stat",
        "swaps",
        "sys/crypto/fips_enabled",
        "sys/kernel/ns_last_pid",
        "uptime",
    ];
    const PROC_MAGIC: i64 = 0x9fa0;
    let path = &wanted.destination;
    let is_proc = |file: BorrowedFd<'_>| match rustix::fs::fstatfs(file) {
        Ok(found) => Ok(found.f_type == PROC_MAGIC),
        Err(errno) => Err(during(path.display())(errno)),
    };
    let refused = |why: &str| {
        let path = path.display().to_string();
        let text = format!("{path:?} cannot be mounted because it is {why}");
        Err(RuntimeError::invalid(text))
    };
    if path == Path::new("/proc") {
        return if is_proc(tree)? {
            Ok(())
        } else {
            refused("not of type proc")
        };
    }
    let name = path.strip_prefix("/proc").ok().and_then(Path::to_str);
    if is_proc(place)? && !name.is_some_and(|name| ALLOWED.contains(&name)) {
        return refused("inside /proc");
    }
    Ok(())
}

/// Copies what a tmpfs will cover into it: files, directories and links of the covered directory.
fn copy_up(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<()> {
    let open = |directory: BorrowedFd<'_>| {
        rustix::fs::openat(
            directory,
            ".",
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )
    };
    let (from, to) = (
        open(from).map_err(during("tmpcopyup"))?,
        open(to).map_err(during("tmpcopyup"))?,
    );
    copy_directory(&from, &to).map_err(during("tmpcopyup"))
}

fn copy_directory(from: &OwnedFd, to: &OwnedFd) -> io::Result<()> {
    use rustix::fs::{
        AtFlags, Dir, Gid, Uid, chownat, fchmod, mkdirat, openat, readlinkat, statat, symlinkat,
    };
    for entry in Dir::read_from(from)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let stat = statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
        let read = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                mkdirat(to, name, mode)?;
                let inner = openat(to, name, read | OFlags::DIRECTORY, Mode::empty())?;
                copy_directory(
                    &openat(from, name, read | OFlags::DIRECTORY, Mode::empty())?,
                    &inner,
                )?;
                fchmod(&inner, mode)?;
            }
            FileType::RegularFile => {
                let create = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
                let target = openat(to, name, create, mode)?;
                fchmod(&target, mode)?;
                io::copy(
                    &mut std::fs::File::from(openat(from, name, read, Mode::empty())?),
                    &mut std::fs::File::from(target),
                )?;
            }
            FileType::Symlink => symlinkat(readlinkat(from, name, Vec::new())?, to, name)?,
            _ => continue,
        }
        chownat(
            to,
            name,
            Some(Uid::from_raw(stat.st_uid)),
            Some(Gid::from_raw(stat.st_gid)),
            AtFlags::SYMLINK_NOFOLLOW,
        )?;
    }
    Ok(())
}

/// `/sys/fs/cgroup`: one mount on v2, a tmpfs with one mount per hierarchy on v1.
fn cgroup(context: &Context<'_>, wanted: &Mount) -> Result<()> {
    let options = Options::parse(&wanted.options);
    let points = context.cgroup.mount_points();
    let flags = options.own.set;
    if let [one] = points.as_slice()
        && one.name.is_empty()
    {
        let tree = cgroup_tree(context, one.kind, "", &one.host_directory, flags)?;
        let place = place(context, wanted, true)?;
        return mount::attach(tree.as_fd(), place.as_fd()).map_err(during("attach"));
    }
    let holder = mount::new(
        "tmpfs",
        Some("tmpfs"),
        &[("mode", Some("0755"))],
        flags & !attribute::READ_ONLY,
    )
    .map_err(during("tmpfs"))?;
    let place = place(context, wanted, true)?;
    mount::attach(holder.as_fd(), place.as_fd()).map_err(during("attach"))?;
    for point in &points {
        let tree = cgroup_tree(
            context,
            point.kind,
            &point.options,
            &point.host_directory,
            flags,
        )?;
        let name = Path::new(&point.name);
        rustix::fs::mkdirat(&holder, name, Mode::from_raw_mode(0o755)).map_err(during("mkdir"))?;
        let below = rustix::fs::openat(
            &holder,
            name,
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .map_err(during("open"))?;
        mount::attach(tree.as_fd(), below.as_fd()).map_err(during(&point.name))?;
        for link in &point.links {
            rustix::fs::symlinkat(name, &holder, link.as_str()).map_err(during("symlink"))?;
        }
    }
    if flags & attribute::READ_ONLY != 0 {
        let read_only = Attributes {
            set: attribute::READ_ONLY,
            ..Attributes::default()
        };
        mount::set_attributes(holder.as_fd(), read_only, false, None)
            .map_err(during("read-only"))?;
    }
    Ok(())
}

fn cgroup_tree(
    context: &Context<'_>,
    kind: &str,
    data: &str,
    host: &Path,
    flags: u64,
) -> Result<OwnedFd> {
    if context.own_cgroup_namespace {
        let options: Vec<_> = data
            .split(',')
            .filter(|option| !option.is_empty())
            .map(|option| {
                option
                    .split_once('=')
                    .map_or((option, None), |(key, value)| (key, Some(value)))
            })
            .collect();
        if let Ok(tree) = mount::new(kind, Some("cgroup"), &options, flags) {
            return Ok(tree);
        }
    }
    let directory = rustix::fs::open(
        host,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map_err(during(host.display()))?;
    let tree = mount::copy(directory.as_fd(), false).map_err(during("bind"))?;
    let attributes = Attributes {
        set: flags,
        ..Attributes::default()
    };
    mount::set_attributes(tree.as_fd(), attributes, false, None).map_err(during("attributes"))?;
    Ok(tree)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_told_apart() {
        let words: Vec<String> = [
            "rbind",
            "ro,nosuid",
            "rw",
            "rslave",
            "rnoexec",
            "size=64m",
            "noatime",
            "mode=755",
        ]
        .map(str::to_owned)
        .into();
        let options = Options::parse(&words);
        assert!(options.bind && options.bind_recursive);
        assert_eq!(
            options.own.set,
            attribute::NO_SUID | attribute::NO_ACCESS_TIME
        );
        assert_eq!(
            options.own.clear,
            attribute::READ_ONLY | attribute::ACCESS_TIME
        );
        assert_eq!(options.recursive.set, attribute::NO_EXEC);
        assert_eq!(
            (options.propagation, options.propagation_recursive),
            (attribute::SLAVE, true)
        );
        assert_eq!(options.data, [("size", Some("64m")), ("mode", Some("755"))]);
    }
}
