//! What comes into the store and goes from it besides pulls and removals: archives behind URLs, damaged layers, orphans, what broke
//! off, and images that are in the way; and what is told of images as events.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use cais_testkit::{TestDaemon, wait_until};

use crate::disk::Disk;
use crate::registry_kit::{Fake, Fault, Registry, Wire, docker_refused, id, noise, noisy};
use crate::{CAIS, daemon, refused};

/// A tar stream with one file.
fn archive(directory: &Path) -> Vec<u8> {
    fs::create_dir_all(directory.join("tree")).unwrap();
    fs::write(directory.join("tree/file"), noise(1, 3 << 20)).unwrap();
    let packed = Command::new("tar")
        .args(["-cf", "-", "-C"])
        .arg(directory.join("tree"))
        .arg("file")
        .output()
        .unwrap();
    packed.stdout
}

#[test]
fn archives_behind_urls_are_imported() {
    let daemon = TestDaemon::start(CAIS).unwrap();
    let tar = archive(daemon.scratch());
    let files = HashMap::from([("/tree.tar".to_owned(), ("application/x-tar", tar.clone()))]);
    let web = Fake::serve(files);
    let at = |path: &str| format!("http://127.0.0.1:{}/{path}", web.port);
    let url = at("tree.tar");
    let said = daemon
        .docker(&["import", "-c", "LABEL team=quay", &url, "made:1"])
        .unwrap();
    assert!(
        said.contains(&format!("Downloading from {url}\n")),
        "{said}"
    );
    assert!(said.contains(&id(&daemon, "made:1")), "{said}");
    let comment = ["history", "--format", "{{.Comment}}", "made:1"];
    let comment = daemon.docker(&comment).unwrap();
    assert_eq!(comment.trim(), format!("Imported from {url}"));
    daemon
        .cais(&["import", "-m", "mine", &url, "made:2"])
        .unwrap();
    let layers = |name: &str| {
        let format = "{{json .RootFS.Layers}}";
        daemon
            .docker(&["image", "inspect", "-f", format, name])
            .unwrap()
    };
    assert_eq!(layers("made:1"), layers("made:2"));
    // Without a scheme, as the API takes it.
    let bare = url.trim_start_matches("http://");
    let create = format!("http://x/images/create?fromSrc={bare}&repo=made&tag=3");
    let curl = Command::new("curl")
        .args(["-s", "-X", "POST", "--unix-socket"])
        .arg(daemon.socket())
        .arg(create)
        .output()
        .unwrap();
    let lines = String::from_utf8(curl.stdout).unwrap();
    let whole = format!(
        r#""progressDetail":{{"current":{0},"total":{0}}}"#,
        tar.len()
    );
    assert!(lines.contains(&whole), "{lines}");
    assert_eq!(layers("made:1"), layers("made:3"));
    let before = daemon.docker(&["images", "-aq"]).unwrap();
    for (url, why) in [
        (at("none.tar"), "with status 404 Not Found"),
        ("http://127.0.0.1:1/x".to_owned(), "connection refused"),
        (
            "http://169.254.169.254/x".to_owned(),
            "address is not allowed",
        ),
    ] {
        let error = docker_refused(&daemon, &["import", &url, "bad"]);
        assert!(error.contains(why), "{error}");
    }
    // One that breaks off leaves nothing.
    let wire = Wire::to(web.port, Fault::Cut(1 << 20));
    let cut = format!("http://127.0.0.1:{}/tree.tar", wire.port);
    docker_refused(&daemon, &["import", &cut, "bad"]);
    assert_eq!(daemon.docker(&["images", "-aq"]).unwrap(), before);
    let whole = daemon.cais(&["system", "check"]).unwrap();
    assert!(whole.contains("all whole"), "{whole}");
}

#[test]
fn events_of_images_have_their_labels() {
    let (daemon, registry) = (TestDaemon::start(CAIS).unwrap(), Registry::start());
    let name = registry.name("made:1");
    let path = |file: &str| daemon.scratch().join(file).to_string_lossy().into_owned();
    let (tree, saved) = (path("tree.tar"), path("saved.tar"));
    fs::write(&tree, archive(daemon.scratch())).unwrap();
    daemon
        .docker(&["import", "-c", "LABEL team=quay", &tree, "made"])
        .unwrap();
    daemon.docker(&["tag", "made", &name]).unwrap();
    daemon.docker(&["push", "-q", &name]).unwrap();
    daemon.docker(&["save", "-o", &saved, "made"]).unwrap();
    daemon.docker(&["rmi", &name]).unwrap();
    daemon.docker(&["pull", "-q", &name]).unwrap();
    daemon.docker(&["rmi", &name, "made"]).unwrap();
    daemon.docker(&["load", "-q", "-i", &saved]).unwrap();
    let format = "{{.Action}} {{index .Actor.Attributes \"team\"}}";
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
    let until = (now.as_secs() + 1).to_string();
    let args = [
        "events", "--since", "1", "--until", &until, "--format", format,
    ];
    let told = daemon.docker(&args).unwrap();
    // What is gone has none.
    let wanted = "import quay\ntag quay\npush quay\nsave quay\nuntag quay\nuntag quay\npull quay\n\
                  untag quay\nuntag quay\nuntag quay\ndelete \nload quay\n";
    assert_eq!(told, wanted);
}

#[test]
fn what_broke_off_is_counted_and_pruned() {
    let (source, registry) = (TestDaemon::start(CAIS).unwrap(), Registry::start());
    noisy(&source, &registry.name("noise:1"), 1, 4 << 20);
    source
        .docker(&["push", "-q", &registry.name("noise:1")])
        .unwrap();
    let daemon = TestDaemon::start(CAIS).unwrap();
    let wire = Wire::to(registry.port, Fault::Hold(2 << 20));
    let mut pull = daemon
        .client("docker", &["pull", &wire.name("noise:1")])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let kept = || {
        let files = fs::read_dir(daemon.data_root().join("downloads"));
        let files = files.into_iter().flatten();
        files
            .map(|file| file.unwrap().metadata().unwrap().len())
            .sum::<u64>()
    };
    wait_until("a part to be there", || kept() > 1 << 20);
    // One that is being fetched is no garbage.
    let prune = |more: &[&str]| {
        let args = [&["image", "prune", "-f"], more].concat();
        daemon.docker(&args).unwrap()
    };
    prune(&[]);
    assert!(kept() > 1 << 20);
    pull.kill().unwrap();
    pull.wait().unwrap();
    wait_until("the pull to be over", || wire.open() == 0);
    let images = || {
        let format = "{{if eq .Type \"Images\"}}{{.TotalCount}} {{.Size}} {{.Reclaimable}}{{end}}";
        let shown = daemon
            .docker(&["system", "df", "--format", format])
            .unwrap();
        shown.trim().to_owned()
    };
    let shown = images();
    assert!(
        shown.starts_with("0 1.") || shown.starts_with("0 2."),
        "{shown}"
    );
    assert!(shown.contains("MB") && shown.ends_with("(100%)"), "{shown}");
    // Not so old; and with no label.
    prune(&["--filter", "until=24h"]);
    prune(&["--filter", "label=x"]);
    assert!(kept() > 1 << 20);
    let mut freed = String::new();
    wait_until("the part to be pruned", || {
        // Docker's command line counts images only.
        freed = daemon.cais(&["image", "prune", "-f"]).unwrap();
        kept() == 0
    });
    assert!(freed.contains("MB"), "{freed}");
    assert_eq!(images(), "0 0B 0B");
}

#[test]
fn a_disk_above_the_high_watermark_is_below_the_low_one_soon() {
    let home = tempfile::tempdir().unwrap();
    let disk = Disk::new(home.path(), 64 << 20);
    let mut daemon = TestDaemon::start_with(CAIS, &[&disk.data_root()]).unwrap();
    for (number, name) in ["used", "old", "older", "new"].into_iter().enumerate() {
        noisy(&daemon, name, number as u64 + 20, 8 << 20);
    }
    daemon
        .docker(&["create", "--name", "user", "used", "x"])
        .unwrap();
    // What was just used stays, so they have to be older than they are.
    let ids = ["older", "old", "used"].map(|name| id(&daemon, name));
    daemon.kill().unwrap();
    let db = cais_state::Db::open(&daemon.data_root().join("cais.db")).unwrap();
    for (month, image) in ids.iter().enumerate() {
        let (durability, image) = (
            cais_state::Durability::Process,
            image.replace("sha256:", ""),
        );
        let mut record: serde_json::Value = db.get("image", &image).unwrap().unwrap();
        record["tagged"] = format!("2024-0{}-01T00:00:00Z", month + 1).into();
        db.put(durability, "image", &image, &record).unwrap();
        db.delete(durability, "image-used", &image).unwrap();
    }
    drop(db);
    let per_cent = || 100 - disk.free() * 100 / (64 << 20);
    assert!(per_cent() > 50, "{}", per_cent());
    let flags = [
        "--image-gc-high-watermark=50",
        "--image-gc-low-watermark=35",
        "--image-gc-interval=100ms",
    ];
    daemon.restart_with(&flags).unwrap();
    wait_until("the disk to be below the low watermark", || {
        per_cent() <= 35
    });
    let left = || {
        let format = "{{.Repository}}";
        let listed = daemon.docker(&["images", "--format", format]).unwrap();
        let mut names: Vec<_> = listed.lines().map(str::to_owned).collect();
        names.sort();
        names
    };
    // The least recently used went, and no more than had to.
    wait_until("two images to be gone", || left().len() == 2);
    assert_eq!(left(), ["new", "used"]);
    let whole = daemon.cais(&["system", "check"]).unwrap();
    assert!(whole.contains("all whole"), "{whole}");
}

/// Changes a byte of busybox' program in its layer.
fn damage(daemon: &TestDaemon) -> PathBuf {
    let format = "{{index .RootFS.Layers 0}}";
    let layer = daemon.cais(&["image", "inspect", "-f", format, "busybox"]);
    let layer = layer.unwrap().trim().replace("sha256:", "");
    let program = daemon
        .data_root()
        .join(format!("layers/{layer}/diff/bin/busybox"));
    let mut options = fs::File::options();
    let file = options.read(true).write(true).open(&program).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 100_000).unwrap();
    file.write_all_at(&[byte[0] ^ 1], 100_000).unwrap();
    program
}

#[test]
fn a_damaged_layer_is_replaced_by_the_next_pull() {
    let (daemon, registry) = (daemon(), Registry::start());
    let name = registry.name("box:1");
    daemon.docker(&["tag", "busybox", &name]).unwrap();
    daemon.docker(&["push", "-q", &name]).unwrap();
    let program = fs::read(damage(&daemon)).unwrap();
    // Found by a check, or by whoever reads all of it.
    let check = daemon
        .cais_output(&["system", "check", "--repair"])
        .unwrap();
    assert_eq!(check.status.code(), Some(1));
    let error = refused(&daemon, &["run", "--rm", &name, "true"]);
    assert!(
        error.contains("is damaged: pull or load the image again"),
        "{error}"
    );
    let pulled = daemon.docker(&["pull", &name]).unwrap();
    assert!(pulled.contains(": Pull complete"), "{pulled}");
    daemon.docker(&["run", "--rm", &name, "true"]).unwrap();
    let again = damage(&daemon);
    assert!(fs::read(&again).unwrap() == program, "the layer was new");
    let other = registry.name("other:1");
    daemon.docker(&["tag", "busybox", &other]).unwrap();
    daemon
        .docker(&["save", "-o", "/dev/null", "busybox"])
        .unwrap_err();
    let saved = daemon.scratch().join("saved.tar");
    docker_refused(
        &daemon,
        &["save", "-o", &saved.to_string_lossy(), "busybox"],
    );
    daemon
        .cais_output(&["system", "check", "--repair"])
        .unwrap();
    daemon.docker(&["pull", "-q", &name]).unwrap();
    daemon.docker(&["push", "-q", &other]).unwrap();
    let whole = daemon.cais(&["system", "check"]).unwrap();
    assert!(whole.contains("all whole"), "{whole}");
}

#[test]
fn what_no_record_owns_is_found_and_goes() {
    let daemon = daemon();
    let below = |path: &str| daemon.data_root().join(path);
    let digits = "5".repeat(64);
    let orphans = [
        below("layers/stranger"),
        below(&format!("layers/{digits}")),
        below("blobs/sha256/stray"),
        below(&format!("blobs/sha256/{digits}")),
    ];
    for path in &orphans[..2] {
        fs::create_dir_all(path.join("diff/a/b")).unwrap();
        fs::write(path.join("diff/a/b/file"), "x").unwrap();
    }
    for path in &orphans[2..] {
        fs::write(path, "{}").unwrap();
    }
    let check = |args: &[&str]| {
        let output = daemon.cais_output(&[&["system", "check"], args].concat());
        String::from_utf8(output.unwrap().stdout).unwrap()
    };
    assert_eq!(check(&[]).matches("belongs to no record\n").count(), 4);
    assert!(orphans.iter().all(|path| path.exists()));
    let mended = check(&["--repair"]);
    assert_eq!(mended.matches(": repaired\n").count(), 4, "{mended}");
    assert!(orphans.iter().all(|path| !path.exists()));
    assert!(check(&[]).contains("all whole"));
    daemon.docker(&["run", "--rm", "busybox", "true"]).unwrap();
}

#[test]
fn digests_that_are_not_sha256_are_refused_with_their_name() {
    let daemon = daemon();
    let sha512 = format!("sha512:{}", "a".repeat(128));
    let sha256 = |text: &str| cais_images::digest(text.as_bytes()).to_string();
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":["{sha512}"]}}}}"#
    );
    let manifest = |config: (&str, usize), layer: &str| {
        format!(
            r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",
            "config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{}","size":{}}},
            "layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"{layer}","size":2}}]}}"#,
            config.0, config.1
        )
    };
    let own = sha256(&config);
    let kind = "application/vnd.oci.image.manifest.v1+json";
    let bytes = |text: String| (kind, text.into_bytes());
    let files = HashMap::from([
        (
            "/v2/x/manifests/config".to_owned(),
            bytes(manifest((&sha512, 2), &sha256("x"))),
        ),
        (
            "/v2/x/manifests/layer".to_owned(),
            bytes(manifest((&own, config.len()), &sha512)),
        ),
        (
            "/v2/x/manifests/diff".to_owned(),
            bytes(manifest((&own, config.len()), &sha256("x"))),
        ),
        (format!("/v2/x/blobs/{own}"), bytes(config.clone())),
    ]);
    let fake = Fake::serve(files);
    let by_digest = format!("{}@{sha512}", fake.name("x"));
    let names = ["config", "layer", "diff"].map(|tag| fake.name(&format!("x:{tag}")));
    for name in names.iter().chain([&by_digest]) {
        let error = docker_refused(&daemon, &["pull", name]);
        assert!(
            error.contains("unsupported digest algorithm"),
            "{name}: {error}"
        );
    }
    daemon.docker(&["ps"]).unwrap();
}
