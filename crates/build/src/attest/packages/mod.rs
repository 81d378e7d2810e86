//! The packages in a tree, as the databases and the metadata of package managers tell them. A tree is untrusted: every path is
//! resolved below its root, no link is followed while it is walked, and files are read up to a limit.

mod apk;
mod dpkg;
mod node;
mod python;
mod rpm;
mod url;

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use cais_sys::path_in_root;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};

pub use url::Distribution;

/// The most bytes read of a database.
const DATABASE_MAX: u64 = 64 << 20;
/// The most bytes read of what one package says of itself.
const METADATA_MAX: u64 = 1 << 20;
/// Directories below directories that are looked into.
const DEPTH_MAX: usize = 64;

/// A package.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Package {
    pub name: String,
    pub version: String,
    /// A package URL.
    pub url: String,
    /// What it says of its licence; empty when it says nothing.
    pub licence: String,
    /// Who is behind it; empty when it says nothing.
    pub supplier: String,
    /// The file that told of it, from the root.
    pub source: String,
}

/// All packages of a tree, each once, in order.
pub fn find(root: BorrowedFd<'_>) -> Vec<Package> {
    let distribution = Distribution::of(root);
    let mut packages = dpkg::packages(root, &distribution);
    packages.extend(apk::packages(root, &distribution));
    packages.extend(rpm::packages(root, &distribution));
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    if let Ok(top) = rustix::fs::openat(root, ".", flags, Mode::empty()) {
        let mut visit = |directory: BorrowedFd<'_>, path: &Path, name: &OsStr| {
            let found = python::package(directory, path, name);
            packages.extend(found.or_else(|| node::package(directory, path, name)));
        };
        walk(&top, Path::new("/"), 0, &mut visit);
    }
    packages.sort();
    packages.dedup();
    packages
}

/// Shows all regular files below a directory; what cannot be read is passed over.
fn walk(
    directory: &OwnedFd,
    path: &Path,
    depth: usize,
    visit: &mut dyn FnMut(BorrowedFd<'_>, &Path, &OsStr),
) {
    let Ok(entries) = Dir::read_from(directory) else {
        return;
    };
    for entry in entries.flatten() {
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name == "." || name == ".." {
            continue;
        }
        let kind = match entry.file_type() {
            FileType::Unknown => rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)
                .map_or(FileType::Unknown, |stat| {
                    FileType::from_raw_mode(stat.st_mode)
                }),
            kind => kind,
        };
        if kind == FileType::RegularFile {
            visit(directory.as_fd(), path, name);
        } else if kind == FileType::Directory && depth < DEPTH_MAX {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            if let Ok(below) = rustix::fs::openat(directory, name, flags, Mode::empty()) {
                walk(&below, &path.join(name), depth + 1, visit);
            }
        }
    }
}

/// The beginning of a file of a directory.
fn read(directory: BorrowedFd<'_>, name: &OsStr) -> Option<String> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::openat(directory, name, flags, Mode::empty()).ok()?;
    text(regular(file)?, METADATA_MAX)
}

/// A database below the root.
fn database(root: BorrowedFd<'_>, path: &str) -> Option<String> {
    text(open_database(root, path)?, DATABASE_MAX)
}

/// A regular file below the root, opened.
fn open_database(root: BorrowedFd<'_>, path: &str) -> Option<File> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK;
    let file = path_in_root::open(root, Path::new(path), flags, Mode::empty()).ok()?;
    regular(file)
}

fn regular(file: OwnedFd) -> Option<File> {
    let stat = rustix::fs::fstat(&file).ok()?;
    let kind = FileType::from_raw_mode(stat.st_mode);
    (kind == FileType::RegularFile).then(|| File::from(file))
}

fn text(file: File, most: u64) -> Option<String> {
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// The names in a directory below the root, in order.
fn names(root: BorrowedFd<'_>, path: &str) -> Vec<String> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let Ok(directory) = path_in_root::open(root, Path::new(path), flags, Mode::empty()) else {
        return Vec::new();
    };
    let Ok(entries) = Dir::read_from(&directory) else {
        return Vec::new();
    };
    let entries = entries.flatten();
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.file_name().to_str().ok().map(str::to_owned))
        .filter(|name| !name.starts_with('.'))
        .collect();
    names.sort();
    names
}

fn shown(path: &Path, name: &OsStr) -> String {
    let path: PathBuf = path.join(name);
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn tree(files: &[(&str, &str)]) -> (tempfile::TempDir, OwnedFd) {
        let top = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = top.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let root = File::open(top.path()).unwrap().into();
        (top, root)
    }

    fn urls(root: &OwnedFd) -> Vec<String> {
        let packages = find(root.as_fd()).into_iter();
        packages.map(|package| package.url).collect()
    }

    #[test]
    fn databases_and_metadata_are_found_wherever_they_are() {
        let (_top, root) = tree(&[
            ("etc/os-release", "ID=debian\nVERSION_ID=\"12\"\n"),
            (
                "var/lib/dpkg/status",
                "Package: libc6\nStatus: install ok installed\nArchitecture: amd64\nVersion: 2.36-9+deb12u4\n\
                 Maintainer: GNU Libc <x@y>\nDescription: C\n library\n\nPackage: gone\nStatus: deinstall ok config-files\n\
                 Version: 1\n",
            ),
            (
                "var/lib/dpkg/status.d/tzdata",
                "Package: tzdata\nVersion: 1:2024a-0\nArchitecture: all\n",
            ),
            (
                "var/lib/dpkg/status.d/tzdata.md5sums",
                "0123 usr/share/zoneinfo\n",
            ),
            (
                "usr/lib/python3/dist-packages/My_Pack.Age-1.0.dist-info/METADATA",
                "Metadata-Version: 2.1\nName: My_Pack.Age\nVersion: 1.0\nLicense: MIT\n\nName: not this\n",
            ),
            ("app/old.egg-info", "Name: old\nVersion: 0.1\n"),
            ("app/new.egg-info/PKG-INFO", "Name: new\nVersion: 0.2\n"),
            (
                "app/node_modules/@scope/thing/package.json",
                r#"{"name":"@scope/thing","version":"3.0.0-rc.1","license":"ISC"}"#,
            ),
            (
                "app/node_modules/.bin/package.json",
                r#"{"name":"x","version":"1"}"#,
            ),
            ("app/package.json", r#"{"name":"app","version":"9"}"#),
        ]);
        assert_eq!(
            urls(&root),
            [
                "pkg:npm/%40scope/thing@3.0.0-rc.1",
                "pkg:pypi/my-pack-age@1.0",
                "pkg:deb/debian/libc6@2.36-9%2Bdeb12u4?arch=amd64&distro=debian-12",
                "pkg:pypi/new@0.2",
                "pkg:pypi/old@0.1",
                "pkg:deb/debian/tzdata@1%3A2024a-0?arch=all&distro=debian-12",
            ]
        );
        let packages = find(root.as_fd());
        let libc = packages.iter().find(|one| one.name == "libc6").unwrap();
        assert_eq!(libc.supplier, "GNU Libc <x@y>");
        assert_eq!(libc.source, "/var/lib/dpkg/status");
        assert_eq!(packages[0].licence, "ISC");
    }

    #[test]
    fn alpine_has_its_own_database() {
        let (_top, root) = tree(&[
            ("etc/os-release", "ID=alpine\nVERSION_ID=3.20.1\n"),
            (
                "lib/apk/db/installed",
                "P:musl\nV:1.2.5-r0\nA:x86_64\nL:MIT\nF:lib\nR:libc.musl\n\nP:zlib\nV:1.3.1-r1\nA:x86_64\n",
            ),
        ]);
        assert_eq!(
            urls(&root),
            [
                "pkg:apk/alpine/musl@1.2.5-r0?arch=x86_64&distro=alpine-3.20.1",
                "pkg:apk/alpine/zlib@1.3.1-r1?arch=x86_64&distro=alpine-3.20.1",
            ]
        );
    }

    #[test]
    fn a_tree_cannot_lead_out_of_itself() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("status"), "Package: host\nVersion: 1\n").unwrap();
        let (top, root) = tree(&[("var/lib/dpkg/x", "")]);
        let link = top.path().join("var/lib/dpkg/status");
        std::os::unix::fs::symlink(outside.path().join("status"), link).unwrap();
        let modules = top.path().join("node_modules");
        std::os::unix::fs::symlink(outside.path(), modules).unwrap();
        fs::create_dir(outside.path().join("a")).unwrap();
        fs::write(
            outside.path().join("a/package.json"),
            r#"{"name":"a","version":"1"}"#,
        )
        .unwrap();
        assert!(urls(&root).is_empty());
    }
}
