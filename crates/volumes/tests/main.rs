//! Volumes on real directories and mounts; needs root.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cais_state::{Db, Durability};
use cais_types::ContainerId;
use cais_volumes::{ListFilter, Store, VolumeRequest};

struct Root(tempfile::TempDir);

impl Root {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn db(&self) -> Arc<Db> {
        Arc::new(Db::open(&self.0.path().join("cais.db")).unwrap())
    }

    fn open(&self) -> Store {
        Store::open(self.0.path(), self.db()).unwrap()
    }

    fn below(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }
}

fn container(number: u8) -> ContainerId {
    ContainerId::from_bytes([number; 32])
}

fn named(name: &str) -> VolumeRequest {
    VolumeRequest {
        name: name.to_owned(),
        ..VolumeRequest::default()
    }
}

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    let pair = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    pairs.iter().map(pair).collect()
}

fn open(path: &Path) -> OwnedFd {
    std::fs::File::open(path).unwrap().into()
}

fn mode(path: &Path) -> u32 {
    std::fs::symlink_metadata(path)
        .unwrap()
        .permissions()
        .mode()
        & 0o7777
}

#[test]
fn a_volume_is_made_found_listed_and_removed() {
    let root = Root::new();
    let store = root.open();
    let mut request = named("data");
    request.labels = map(&[("tier", "db")]);
    let made = store.create(&request).unwrap();
    assert_eq!(store.create(&named("data")).unwrap(), made);
    assert_eq!(made.driver, "local");
    assert!(
        made.created.ends_with('Z') && !made.created.contains('.'),
        "{}",
        made.created
    );
    assert_eq!(mode(&root.below("volumes")), 0o701);
    assert_eq!(mode(&root.below("volumes/data/_data")), 0o755);
    let anonymous = store.create(&VolumeRequest::default()).unwrap();
    assert_eq!(anonymous.name.len(), 64);
    let names = |filter: ListFilter| -> Vec<_> {
        store
            .list(&filter)
            .into_iter()
            .map(|volume| volume.name)
            .collect()
    };
    let by_label = |label: &str| ListFilter {
        labels: vec![label.to_owned()],
        ..ListFilter::default()
    };
    assert_eq!(names(ListFilter::default()).len(), 2);
    assert_eq!(names(by_label("tier=db")), ["data"]);
    assert_eq!(names(by_label("tier=web")), [""; 0]);
    store.acquire(Some("data"), "", &container(1)).unwrap();
    let dangling = ListFilter {
        dangling: Some(true),
        ..ListFilter::default()
    };
    assert_eq!(names(dangling).concat(), anonymous.name);
    let error = store.remove("data", false).unwrap_err();
    let want = format!("remove data: volume is in use - [{}]", container(1));
    assert_eq!(error.to_string(), want);
    store.release(&container(1), true).unwrap();
    store.remove("data", false).unwrap();
    assert!(!root.below("volumes/data").exists());
    let error = store.remove("data", false).unwrap_err();
    assert_eq!(error.to_string(), "get data: no such volume");
    store.remove("data", true).unwrap();
    assert!(store.create(&named("x!")).is_err());
    let other = VolumeRequest {
        driver: "nope".to_owned(),
        ..named("other")
    };
    let error = store.create(&other).unwrap_err().to_string();
    assert_eq!(
        error,
        "error looking up volume plugin nope: plugin \"nope\" not found"
    );
}

#[test]
fn use_survives_a_restart_and_ends_with_the_container() {
    let root = Root::new();
    let anonymous = {
        let store = root.open();
        store.acquire(Some("kept"), "local", &container(1)).unwrap();
        store.acquire(None, "", &container(1)).unwrap();
        store.acquire(None, "", &container(2)).unwrap().0
    };
    let store = root.open();
    assert!(store.remove("kept", true).is_err());
    store.retain(&[container(2)]).unwrap();
    let names: Vec<_> = store
        .list(&ListFilter::default())
        .into_iter()
        .map(|one| one.name)
        .collect();
    assert_eq!(names.len(), 2);
    assert!(names.contains(&anonymous) && names.contains(&"kept".to_owned()));
    store.release(&container(2), false).unwrap();
    let pruned = store.prune(false, &ListFilter::default()).unwrap();
    assert_eq!(pruned.names, [anonymous]);
    std::fs::write(root.below("volumes/kept/_data/file"), b"12345").unwrap();
    assert_eq!(store.usage("kept").unwrap().size, 5);
    let pruned = store.prune(true, &ListFilter::default()).unwrap();
    assert_eq!((pruned.names, pruned.freed), (vec!["kept".to_owned()], 5));
}

fn source(path: &Path) {
    std::fs::create_dir_all(path.join("sub")).unwrap();
    std::fs::write(path.join("sub/file"), vec![5; 100_000]).unwrap();
    std::fs::hard_link(path.join("sub/file"), path.join("link")).unwrap();
    symlink("/etc/passwd", path.join("outside")).unwrap();
    let fifo = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, path.join("pipe"), fifo, 0o640.into(), 0).unwrap();
    std::os::unix::fs::chown(path.join("sub/file"), Some(1234), Some(5678)).unwrap();
    std::fs::set_permissions(path.join("sub/file"), PermissionsExt::from_mode(0o4711)).unwrap();
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(path.join("sub/file"), "user.note", b"kept", flags).unwrap();
    std::os::unix::fs::chown(path, Some(7), Some(8)).unwrap();
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o1770)).unwrap();
}

#[test]
fn copying_up_keeps_everything_and_follows_nothing() {
    let root = Root::new();
    let from = root.below("image");
    source(&from);
    let store = root.open();
    let (name, data) = store.acquire(Some("vol"), "", &container(1)).unwrap();
    store.copy_up(&name, open(&from)).unwrap();
    let file = std::fs::metadata(data.join("sub/file")).unwrap();
    assert_eq!((file.uid(), file.gid(), file.len()), (1234, 5678, 100_000));
    assert_eq!(mode(&data.join("sub/file")), 0o4711);
    assert_eq!(
        file.ino(),
        std::fs::metadata(data.join("link")).unwrap().ino()
    );
    let before = std::fs::metadata(from.join("sub/file")).unwrap();
    assert_eq!(
        (file.mtime(), file.mtime_nsec()),
        (before.mtime(), before.mtime_nsec())
    );
    let mut note = [0; 8];
    let count = rustix::fs::getxattr(data.join("sub/file"), "user.note", &mut note).unwrap();
    assert_eq!(&note[..count], b"kept");
    let link = std::fs::read_link(data.join("outside")).unwrap();
    assert_eq!(link, Path::new("/etc/passwd"));
    assert!(
        std::fs::symlink_metadata(data.join("pipe"))
            .unwrap()
            .file_type()
            .is_fifo()
    );
    assert_eq!(mode(&data), 0o1770);
    assert_eq!(std::fs::metadata(&data).unwrap().uid(), 7);
    // Filled once: emptied by its users it stays empty.
    std::fs::remove_dir_all(data.join("sub")).unwrap();
    store.copy_up(&name, open(&from)).unwrap();
    assert!(!data.join("sub").exists());
}

#[test]
fn a_volume_with_contents_is_left_alone_and_half_a_copy_is_made_again() {
    let root = Root::new();
    let from = root.below("image");
    source(&from);
    let store = root.open();
    let (_, data) = store.acquire(Some("full"), "", &container(1)).unwrap();
    std::fs::write(data.join("mine"), b"").unwrap();
    store.copy_up("full", open(&from)).unwrap();
    assert!(!data.join("sub").exists());
    // As a daemon killed while copying leaves it.
    let (_, half) = store.acquire(Some("half"), "", &container(1)).unwrap();
    std::fs::write(half.join("part"), b"").unwrap();
    drop(store);
    let record = map(&[("created", "2024-01-01T00:00:00Z")]);
    #[derive(serde::Serialize)]
    struct Half {
        #[serde(flatten)]
        record: BTreeMap<String, String>,
        filling: bool,
    }
    let half_record = Half {
        record,
        filling: true,
    };
    root.db()
        .put(Durability::Process, "volume", "half", &half_record)
        .unwrap();
    let store = root.open();
    store.copy_up("half", open(&from)).unwrap();
    assert!(half.join("sub/file").exists() && !half.join("part").exists());
}

#[test]
fn options_are_mounted_while_the_volume_is_used() {
    let root = Root::new();
    let store = root.open();
    let mut request = named("ram");
    request.options = map(&[
        ("type", "tmpfs"),
        ("device", "tmpfs"),
        ("o", "size=1m,nosuid"),
    ]);
    store.create(&request).unwrap();
    let statfs = |path: &Path| rustix::fs::statfs(path).unwrap();
    let (_, data) = store.acquire(Some("ram"), "", &container(1)).unwrap();
    store.acquire(Some("ram"), "", &container(2)).unwrap();
    let mounted = statfs(&data);
    assert_eq!(mounted.f_type as u64, 0x0102_1994);
    assert_eq!(mounted.f_blocks * mounted.f_bsize as u64, 1 << 20);
    store.release(&container(1), false).unwrap();
    assert_eq!(statfs(&data).f_type as u64, 0x0102_1994);
    store.release(&container(2), false).unwrap();
    assert_ne!(statfs(&data).f_blocks, mounted.f_blocks);
    request.options = map(&[("type", "tmpfs"), ("device", "tmpfs")]);
    assert!(store.create(&request).is_err());
    let mut bad = named("bad");
    bad.options = map(&[("type", "nosuchfs"), ("device", "/dev/null")]);
    store.create(&bad).unwrap();
    let error = store.acquire(Some("bad"), "", &container(1)).unwrap_err();
    let text = error.to_string();
    assert!(
        text.starts_with("failed to mount local volume: mount /dev/null:"),
        "{text}"
    );
    assert!(store.inspect("bad").unwrap().users.is_empty());
}

#[test]
fn removing_a_volume_never_leaves_its_directory() {
    let root = Root::new();
    let outside = root.below("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("kept"), b"").unwrap();
    let store = root.open();
    let (_, data) = store.acquire(Some("vol"), "", &container(1)).unwrap();
    symlink(&outside, data.join("way")).unwrap();
    store.release(&container(1), false).unwrap();
    store.remove("vol", false).unwrap();
    assert!(outside.join("kept").exists());
    // What a killed daemon left of a volume's files does not come back.
    std::fs::create_dir_all(root.below("volumes/ghost/_data/old")).unwrap();
    store.create(&named("ghost")).unwrap();
    assert!(!root.below("volumes/ghost/_data/old").exists());
}
