//! Reading a container's root without running it: layers, whiteouts, and symbolic links through a detached mount.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use cais_engine::ports::OverlayDirs;
use cais_engine::rootview::{mount, open_in_root, read_file};
use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat};

fn layer(root: &Path, name: &str, passwd: Option<&str>) -> PathBuf {
    let path = root.join(name);
    std::fs::create_dir_all(path.join("etc")).unwrap();
    if let Some(text) = passwd {
        std::fs::write(path.join("etc/passwd"), text).unwrap();
    }
    path
}

fn dirs(root: &Path, upper: Option<&str>, middle: Option<&str>) -> OverlayDirs {
    OverlayDirs {
        lower: vec![
            layer(root, "middle", middle),
            layer(root, "bottom", Some("bottom")),
        ],
        upper: layer(root, "upper", upper),
        work: root.join("work"),
    }
}

fn read(dirs: &OverlayDirs) -> Option<String> {
    read_file(dirs, "etc", "passwd").unwrap()
}

#[test]
fn the_topmost_layer_wins_and_a_whiteout_hides() {
    let root = tempfile::tempdir().unwrap();
    let found = dirs(root.path(), None, None);
    assert_eq!(read(&found).as_deref(), Some("bottom"));
    std::fs::write(found.lower[0].join("etc/passwd"), "middle").unwrap();
    assert_eq!(read(&found).as_deref(), Some("middle"));
    let whiteout = found.upper.join("etc/passwd");
    mknodat(CWD, &whiteout, FileType::CharacterDevice, Mode::empty(), 0).unwrap();
    assert_eq!(read(&found), None);
}

#[test]
fn symbolic_links_are_followed_within_the_container_only() {
    let root = tempfile::tempdir().unwrap();
    let found = dirs(root.path(), None, None);
    let link = found.upper.join("etc/passwd");
    std::os::unix::fs::symlink("/etc/accounts", &link).unwrap();
    // The host may have what the link names; the container has not.
    assert_eq!(read(&found), None);
    std::fs::write(found.lower[1].join("etc/accounts"), "through the link").unwrap();
    assert_eq!(read(&found).as_deref(), Some("through the link"));
    std::fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink("/proc/self/environ", &link).unwrap();
    assert_eq!(read(&found), None);
}

#[test]
fn a_mounted_view_shows_all_layers_and_stays_inside() {
    let root = tempfile::tempdir().unwrap();
    let found = dirs(root.path(), None, None);
    std::fs::create_dir(found.lower[0].join("data")).unwrap();
    std::os::unix::fs::symlink("../../../../data", found.lower[1].join("link")).unwrap();
    let view = mount(&found).unwrap();
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    open_in_root(view.as_fd(), "/link", flags).unwrap();
    open_in_root(view.as_fd(), "/etc", flags).unwrap();
    assert!(open_in_root(view.as_fd(), "/absent", flags).is_err());
}
