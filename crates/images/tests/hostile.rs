//! Archives that lie, climb, explode or end early. After each the store is as before and works.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use cais_images::{ImportRequest, Limits, digest};

use crate::kit::{Root, Tar, TestImage, gzip, load, load_layer};

/// Loads a layer that must be refused, with this in the error, and nothing left of it.
fn refused(layer: Vec<u8>, want: &str) {
    let root = Root::new();
    let store = root.open();
    let error = load_layer(&root, &store, layer).unwrap_err();
    assert!(error.contains(want), "{error}");
    assert_eq!(root.names("layers"), Vec::<String>::new());
    assert_eq!(root.names("blobs/sha256"), Vec::<String>::new());
    assert!(store.list(true).is_empty());
    load_layer(&root, &store, Tar::default().file("fine", b"").end()).unwrap();
}

/// A file outside of any store that must stay as it is.
struct Victim(tempfile::TempDir);

impl Victim {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let private = std::fs::Permissions::from_mode(0o700);
        std::fs::set_permissions(directory.path(), private).unwrap();
        std::fs::write(directory.path().join("victim"), b"untouched").unwrap();
        Self(directory)
    }

    fn path(&self) -> &str {
        self.0.path().to_str().unwrap()
    }

    fn check(&self) {
        let file = self.0.path().join("victim");
        assert_eq!(std::fs::read(&file).unwrap(), b"untouched");
        assert_eq!(std::fs::metadata(&file).unwrap().mode() & 0o7777, 0o644);
        assert_eq!(
            std::fs::metadata(self.path()).unwrap().mode() & 0o7777,
            0o700
        );
        assert_eq!(std::fs::read_dir(self.path()).unwrap().count(), 1);
    }
}

#[test]
fn cve_2014_9356_paths_that_climb_out_are_refused() {
    refused(Tar::default().file("../evil", b"").end(), "outside of");
    refused(Tar::default().file("a/../../evil", b"").end(), "outside of");
    refused(
        Tar::default().hard_link("x", "../../etc/passwd").end(),
        "outside of",
    );
    refused(Tar::default().file("..", b"").end(), "outside of");
    refused(Tar::default().file(".wh...", b"").end(), "outside of");
}

#[test]
fn absolute_paths_stay_inside() {
    let root = Root::new();
    let store = root.open();
    let diff = load_layer(&root, &store, Tar::default().file("/abs/file", b"x").end()).unwrap();
    assert!(diff.join("abs/file").is_file());
}

#[test]
fn cve_2014_6407_links_to_the_host_lead_nowhere_outside() {
    let victim = Victim::new();
    let root = Root::new();
    let store = root.open();
    // Absolute, and relative with more climbing than there is depth.
    let deep = format!("../../../../../../../../../../../..{}", victim.path());
    for target in [victim.path(), &deep] {
        let layer = Tar::default()
            .symlink("link", target)
            .file("link/victim", b"overwritten")
            .file("link/new", b"created")
            .end();
        // In the layer's own root the target does not exist.
        let error = load_layer(&root, &store, layer).unwrap_err();
        assert!(error.contains("file exists"), "{error}");
        let layer = Tar::default()
            .dir(victim.path())
            .symlink("link", target)
            .file("link/victim", b"inside")
            .end();
        let diff = load_layer(&root, &store, layer).unwrap();
        let inside = diff.join(&victim.path()[1..]).join("victim");
        assert_eq!(std::fs::read(inside).unwrap(), b"inside");
    }
    victim.check();
}

#[test]
fn cve_2021_32760_rustsec_2026_0067_chmod_and_chown_never_go_through_a_link() {
    let victim = Victim::new();
    let root = Root::new();
    let store = root.open();
    let file = format!("{}/victim", victim.path());
    // A link, then a directory, file or hard link of the same name.
    let layer = Tar::default()
        .symlink("a", victim.path())
        .entry("a", b'5', "", 0o777, b"")
        .symlink("b", &file)
        .entry("b", b'0', "", 0o777, b"data")
        .symlink("c", &file)
        .hard_link("c2", "c")
        .entry("c2", b'0', "", 0o777, b"data")
        .end();
    let diff = load_layer(&root, &store, layer).unwrap();
    assert!(diff.join("a").symlink_metadata().unwrap().is_dir());
    assert_eq!(std::fs::read(diff.join("b")).unwrap(), b"data");
    assert!(diff.join("c").symlink_metadata().unwrap().is_symlink());
    victim.check();
}

#[test]
fn cve_2021_29136_the_root_itself_cannot_become_a_link() {
    for path in [".", "./", "/", "a/.."] {
        refused(Tar::default().symlink(path, "/etc").end(), "outside of");
    }
    let root = Root::new();
    let store = root.open();
    let layer = Tar::default().entry("./", b'5', "", 0o000, b"").end();
    let diff = load_layer(&root, &store, layer).unwrap();
    assert_eq!(std::fs::metadata(diff).unwrap().mode() & 0o7777, 0o755);
}

#[test]
fn cve_2025_62518_pax_sizes_win_over_the_header_and_hide_nothing() {
    // The header says 0 bytes, pax says the payload is a whole archive.
    let hidden = Tar::default().file("hidden", b"evil").end();
    let mut size = Tar::default().pax(&[("size", hidden.len().to_string().as_bytes())]);
    size = size.entry("outer", b'0', "", 0o644, b"").raw(&hidden);
    let layer = size.file("after", b"ok").end();
    let root = Root::new();
    let store = root.open();
    let diff = load_layer(&root, &store, layer).unwrap();
    assert_eq!(std::fs::read(diff.join("outer")).unwrap(), hidden);
    assert!(diff.join("after").is_file());
    assert!(!diff.join("hidden").exists());
}

#[test]
fn rustsec_2026_0112_0145_extension_headers_in_any_order_speak_of_the_entry_after_them() {
    // Pax values must not be applied to the long-name entry that follows.
    let name = "n".repeat(150);
    let mut long = name.clone().into_bytes();
    long.push(0);
    let layer = Tar::default()
        .pax(&[("size", b"3")])
        .entry("././@LongLink", b'L', "", 0o644, &long)
        .entry("short", b'0', "", 0o644, b"")
        .raw(b"abc")
        .file("after", b"ok")
        .end();
    let root = Root::new();
    let store = root.open();
    let diff = load_layer(&root, &store, layer).unwrap();
    assert_eq!(std::fs::read(diff.join(name)).unwrap(), b"abc");
    assert!(diff.join("after").is_file());
}

#[test]
fn rustsec_2026_0066_malformed_extension_headers_are_errors() {
    let bad = |body: &[u8]| {
        let tar = Tar::default().entry("x", b'x', "", 0o644, body);
        refused(tar.file("f", b"").end(), "pax record");
    };
    bad(b"99 path=a\n");
    bad(b"garbage");
    bad(b"9 path=a ");
    let minus = Tar::default().pax(&[("uid", b"4294967295")]);
    refused(minus.file("f", b"").end(), "number");
}

#[test]
fn unknown_and_sparse_kinds_are_refused_by_name() {
    let layer = |kind| Tar::default().entry("x", kind, "", 0o644, b"").end();
    refused(layer(b'S'), "unhandled tar header type S");
    refused(layer(b'Z'), "unhandled tar header type Z");
}

#[test]
fn streams_that_end_early_leave_nothing() {
    let whole = Tar::default().file("a", &vec![1; 100_000]).end();
    refused(whole[..40_000].to_vec(), "unexpected EOF");
    let packed = gzip(&whole);
    let root = Root::new();
    let store = root.open();
    let request = ImportRequest::default();
    let error = store
        .import(&packed[..packed.len() / 2], &request)
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "Error processing tar file: unexpected EOF"
    );
    let archive = TestImage::new(&["x"], vec![whole]).docker_archive();
    let error = load(&store, &archive[..50_000]).unwrap_err();
    assert_eq!(error, "Error processing tar file: unexpected EOF");
    assert!(load(&store, b"this is no archive").is_err());
    assert_eq!(
        load(&store, &Tar::default().end()).unwrap_err(),
        "invalid archive: does not contain a manifest.json"
    );
    assert_eq!(root.names("layers"), Vec::<String>::new());
}

#[test]
fn a_layer_that_is_not_what_the_config_says_is_refused() {
    let mut image = TestImage::new(&["x"], vec![Tar::default().file("a", b"1").end()]);
    image.layers[0] = Tar::default().file("a", b"2").end();
    let root = Root::new();
    let store = root.open();
    let error = load(&store, &image.docker_archive()).unwrap_err();
    assert!(error.starts_with("layer verification failed"), "{error}");
    assert_eq!(root.names("layers"), Vec::<String>::new());
}

#[test]
fn cve_2021_41190_ghsa_5j5w_g665_5m35_a_manifest_that_is_an_index_to_others_is_refused() {
    let root = Root::new();
    let store = root.open();
    let both = br#"{"schemaVersion":2,"manifests":[],"layers":[],"config":null}"#;
    let index = format!(
        r#"{{"manifests":[{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{}","size":{}}}]}}"#,
        digest(both),
        both.len()
    );
    let archive = Tar::default()
        .file(&crate::kit::blob(&digest(both)), both)
        .file("index.json", index.as_bytes());
    let error = load(&store, &archive.end()).unwrap_err();
    assert!(error.contains("ambiguous media type"), "{error}");
}

#[test]
fn cve_2017_14992_bombs_are_stopped() {
    let root = Root::new();
    let store = root.open().with_limits(Limits {
        free_bytes: 1 << 20,
        ratio: 100,
    });
    let zeros = Tar::default().file("zeros", &vec![0; 64 << 20]).end();
    let error = store
        .import(&*gzip(&zeros), &ImportRequest::default())
        .unwrap_err();
    assert!(error.to_string().contains("more than 100 times"), "{error}");
    assert_eq!(root.names("layers"), Vec::<String>::new());
}

#[test]
fn cve_2023_25153_a_huge_document_is_not_read_into_memory() {
    let root = Root::new();
    let store = root.open();
    let mut huge = b"[".to_vec();
    huge.resize(20 << 20, b' ');
    let error = load(&store, &Tar::default().file("manifest.json", &huge).end()).unwrap_err();
    assert!(error.contains("is larger than"), "{error}");
}

#[test]
fn a_full_disk_says_so_and_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let mount = SmallDisk::new(directory.path());
    let db = cais_state::Db::open(&directory.path().join("cais.db")).unwrap();
    let store = cais_images::Store::open(&directory.path().join("data"), db.into()).unwrap();
    let layer = Tar::default().file("big", &vec![9; 16 << 20]).end();
    let error = store
        .import(&*layer, &ImportRequest::default())
        .unwrap_err();
    let text = "Error processing tar file: write /big: no space left on device";
    assert_eq!(error.to_string(), text);
    let layers = directory.path().join("data/layers");
    assert_eq!(std::fs::read_dir(layers).unwrap().count(), 0);
    let small = Tar::default().file("small", b"x").end();
    store.import(&*small, &ImportRequest::default()).unwrap();
    drop((store, mount));
}

#[test]
fn images_can_be_removed_with_no_byte_free() {
    let directory = tempfile::tempdir().unwrap();
    let mount = SmallDisk::new(directory.path());
    let db = cais_state::Db::open(&directory.path().join("cais.db")).unwrap();
    let store = cais_images::Store::open(&directory.path().join("data"), db.into()).unwrap();
    let layer = Tar::default().file("big", &vec![9; 1 << 20]).end();
    let request = ImportRequest {
        reference: Some("full".parse().unwrap()),
        ..ImportRequest::default()
    };
    store.import(&*layer, &request).unwrap();
    let mut filler = std::fs::File::create(directory.path().join("filler")).unwrap();
    let block = vec![1; 4096];
    while std::io::Write::write_all(&mut filler, &block).is_ok() {}
    assert_eq!(rustix::fs::statfs(directory.path()).unwrap().f_bfree, 0);
    let options = cais_images::RemoveOptions {
        force: false,
        prune_parents: true,
    };
    let removed = store.remove_image("full", options, &[]).unwrap();
    assert_eq!(removed.len(), 3);
    assert!(rustix::fs::statfs(directory.path()).unwrap().f_bfree > 0);
    drop((store, mount));
}

/// A tmpfs of 8 MiB for as long as it lives.
pub struct SmallDisk<'a>(&'a Path);

impl<'a> SmallDisk<'a> {
    pub fn new(path: &'a Path) -> Self {
        let flags = rustix::mount::MountFlags::empty();
        rustix::mount::mount("tmpfs", path, "tmpfs", flags, Some(c"size=8m")).unwrap();
        Self(path)
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(self.0, rustix::mount::UnmountFlags::DETACH);
    }
}

#[test]
fn this_reader_and_the_tar_crate_see_the_same_entries() {
    let long = "d/".repeat(60) + "name";
    let archive = Tar::default()
        .dir("d/")
        .pax(&[("path", long.as_bytes()), ("mtime", b"5.5")])
        .file("x", b"1")
        .file("y", &vec![3; 1000])
        .symlink("l", "y")
        .end();
    let root = Root::new();
    let store = root.open();
    let diff = load_layer(&root, &store, archive.clone()).unwrap();
    for entry in tar::Archive::new(&*archive).entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = diff.join(entry.path().unwrap());
        if entry.header().entry_type().is_file() {
            let mut want = Vec::new();
            std::io::Read::read_to_end(&mut entry, &mut want).unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), want);
        }
        assert!(path.symlink_metadata().is_ok(), "{path:?}");
    }
}
