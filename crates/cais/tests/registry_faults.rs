//! Pulls and pushes that something happens to: cut wires, dead registries, daemons killed at every phase, hostile images.
//! Afterwards the store is whole and a repeat finishes.

use std::collections::HashMap;
use std::io::Write;
use std::process::Stdio;

use cais_testkit::{TestDaemon, wait_until};

use crate::registry_kit::{
    Fake, Fault, Registry, Wire, check_whole, digests, docker_refused, noisy,
};
use crate::{CAIS, daemon};

const SIZE: usize = 3 << 20;

/// A registry with one image, `noise:1`, whose layer has [`SIZE`] bytes that do not compress.
fn registry() -> (TestDaemon, Registry) {
    let (daemon, registry) = (TestDaemon::start(CAIS).unwrap(), Registry::start());
    let name = registry.name("noise:1");
    noisy(&daemon, &name, 7, SIZE);
    daemon.docker(&["push", &name]).unwrap();
    (daemon, registry)
}

#[test]
fn a_wire_that_is_cut_again_and_again_costs_what_was_cut() {
    let (_first, registry) = registry();
    let daemon = TestDaemon::start(CAIS).unwrap();
    let wire = Wire::to(registry.port, Fault::Cut(700_000));
    let name = wire.name("noise:1");
    daemon.docker(&["pull", &name]).unwrap();
    check_whole(&daemon);
    let passed = wire.passed();
    assert!(passed < SIZE as u64 * 3 / 2, "{passed} bytes for {SIZE}");
}

/// Bytes of unfinished downloads on the disk.
fn kept(daemon: &TestDaemon) -> u64 {
    let Ok(files) = std::fs::read_dir(daemon.data_root().join("downloads")) else {
        return 0;
    };
    files
        .flatten()
        .filter_map(|file| file.metadata().ok())
        .map(|metadata| metadata.len())
        .sum()
}

#[test]
fn a_pull_goes_on_where_a_killed_daemon_or_client_left_it() {
    let (_first, registry) = registry();
    let mut daemon = TestDaemon::start(CAIS).unwrap();
    let wire = Wire::to(registry.port, Fault::Hold(1 << 20));
    let name = wire.name("noise:1");
    let start = |daemon: &TestDaemon| {
        let mut command = daemon.client("docker", &["pull", &name]);
        command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    };
    // What the wire passed may still be in a socket's buffer: the files tell what arrived.
    const REST: u64 = 64 << 10;
    let mut client = start(&daemon);
    wait_until("a part to be kept", || kept(&daemon) >= (1 << 20) - REST);
    daemon.kill().unwrap();
    assert!(!client.wait().unwrap().success());
    daemon.restart().unwrap();
    check_whole(&daemon);
    // A client that leaves ends the transfer.
    wire.set(Fault::Hold(2 << 20));
    let mut client = start(&daemon);
    wait_until("another part to be kept", || {
        kept(&daemon) >= (2 << 20) - 2 * REST
    });
    client.kill().unwrap();
    client.wait().unwrap();
    wait_until("the daemon to hang up", || wire.open() == 0);
    check_whole(&daemon);
    wire.set(Fault::None);
    daemon.docker(&["pull", &name]).unwrap();
    let passed = wire.passed();
    assert!(passed < SIZE as u64 * 3 / 2, "{passed} bytes for {SIZE}");
    check_whole(&daemon);
}

#[test]
fn a_registry_that_dies_and_comes_back_is_waited_for() {
    let (_first, mut registry) = registry();
    let daemon = TestDaemon::start(CAIS).unwrap();
    let wire = Wire::to(registry.port, Fault::Hold(1 << 20));
    let name = wire.name("noise:1");
    std::thread::scope(|scope| {
        let pull = scope.spawn(|| daemon.docker(&["pull", &name]));
        wait_until("a part to arrive", || wire.passed() >= 1 << 20);
        registry.kill();
        wire.set(Fault::None);
        registry.restart();
        pull.join().unwrap().unwrap();
    });
    check_whole(&daemon);
}

/// Lets the daemon die at a point of what `command` does, and answers it started again without that.
fn die_at(point: &str, command: impl Fn(&TestDaemon) -> bool, daemon: &mut TestDaemon) {
    daemon
        .restart_with(&[&format!("--failpoint={point}")])
        .unwrap();
    assert!(!command(daemon), "{point} was survived");
    wait_until("the daemon to die", || daemon.has_ended());
    daemon.restart_with(&[]).unwrap();
    check_whole(daemon);
    assert!(command(daemon), "after {point} it did not finish");
    check_whole(daemon);
}

const COMMIT: [&str; 6] = [
    "unpack-begin",
    "unpack-entry",
    "commit-unsynced",
    "commit-placed",
    "commit-before-record",
    "commit-recorded",
];

#[test]
fn a_daemon_that_dies_at_any_phase_of_a_pull_leaves_a_whole_store() {
    let (_first, registry) = registry();
    let name = registry.name("noise:1");
    let mut daemon = TestDaemon::start(CAIS).unwrap();
    for point in ["pull-manifest", "pull-config"].into_iter().chain(COMMIT) {
        die_at(
            point,
            |daemon| daemon.docker(&["pull", &name]).is_ok(),
            &mut daemon,
        );
        daemon.docker(&["rmi", &name]).unwrap();
    }
}

#[test]
fn a_daemon_that_dies_at_any_phase_of_a_load_leaves_a_whole_store() {
    let mut daemon = TestDaemon::start(CAIS).unwrap();
    let archive = cais_testkit::base_image(cais_testkit::BaseImage::Busybox).unwrap();
    let archive = archive.to_string_lossy().into_owned();
    for point in COMMIT {
        die_at(
            point,
            |daemon| daemon.docker(&["load", "-i", &archive]).is_ok(),
            &mut daemon,
        );
        daemon.docker(&["rmi", "busybox"]).unwrap();
    }
}

#[test]
fn what_a_daemon_has_kept_when_it_dies_is_not_fetched_again() {
    // Parts are at most 400 KiB, and eight of them wait: when the twelfth comes some are on the disk.
    const SIZE: usize = 12 << 20;
    let (first, registry) = (TestDaemon::start(CAIS).unwrap(), Registry::start());
    noisy(&first, &registry.name("noise:1"), 8, SIZE);
    first.docker(&["push", &registry.name("noise:1")]).unwrap();
    let wire = Wire::to(registry.port, Fault::None);
    let name = wire.name("noise:1");
    let mut daemon = TestDaemon::start_with(CAIS, &["--failpoint=pull-part:12"]).unwrap();
    assert!(daemon.docker(&["pull", &name]).is_err());
    wait_until("the daemon to die", || daemon.has_ended());
    wait_until("the wire to see it", || wire.open() == 0);
    let (kept, passed) = (kept(&daemon), wire.passed());
    assert!(kept > 0);
    daemon.restart_with(&[]).unwrap();
    daemon.docker(&["pull", &name]).unwrap();
    let (again, rest) = (wire.passed() - passed, SIZE as u64 - kept);
    // Heads, manifest and configuration come again.
    assert!(again < rest + (64 << 10), "{again} bytes for {rest}");
    check_whole(&daemon);
}

#[test]
fn a_daemon_that_dies_while_it_saves_leaves_no_archive() {
    let mut daemon = daemon();
    let path = daemon.scratch().join("saved.tar");
    let save = ["save", "-o", &path.to_string_lossy(), "busybox"];
    for point in ["save-layer", "save-layers"] {
        die_at(
            point,
            |daemon| {
                let saved = daemon.cais(&save).is_ok();
                assert_eq!(path.exists(), saved, "{point}");
                saved
            },
            &mut daemon,
        );
        std::fs::remove_file(&path).unwrap();
    }
}

#[test]
fn a_daemon_that_dies_while_it_pushes_can_push_again() {
    let (mut daemon, registry) = (daemon(), Registry::start());
    let points = [
        "push-upload",
        "push-layer",
        "push-finish",
        "push-manifest",
        "push-name",
    ];
    for (number, point) in points.into_iter().enumerate() {
        let name = registry.name(&format!("box{number}:1"));
        // Another layer each time: what the registry has is not sent again.
        noisy(&daemon, &name, number as u64 + 20, 10_000);
        die_at(
            point,
            |daemon| daemon.docker(&["push", &name]).is_ok(),
            &mut daemon,
        );
        assert_eq!(digests(&daemon, &name).len(), 1);
    }
}

#[test]
fn cve_2021_20291_a_bad_layer_is_refused_and_the_next_pull_works() {
    let (_first, registry) = registry();
    let name = registry.name("noise:1");
    let daemon = TestDaemon::start(CAIS).unwrap();
    let path = registry.largest_blob();
    let good = std::fs::read(&path).unwrap();
    let mut bad = good.clone();
    let middle = bad.len() / 2;
    bad[middle] ^= 0x10;
    std::fs::write(&path, bad).unwrap();
    for _ in 0..2 {
        docker_refused(&daemon, &["pull", &name]);
        check_whole(&daemon);
        assert_eq!(daemon.docker(&["images", "-aq"]).unwrap(), "");
    }
    std::fs::write(&path, good).unwrap();
    daemon.docker(&["pull", &name]).unwrap();
    check_whole(&daemon);
}

/// A registry with one image made of these layers, plain tar streams; `evil:1`.
fn fake(layers: &[Vec<u8>]) -> Fake {
    let diffs: Vec<_> = layers.iter().map(|plain| sha256(plain)).collect();
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": diffs},
    });
    let config = config.to_string().into_bytes();
    let mut files = HashMap::new();
    let mut add = |bytes: Vec<u8>, kind: &str| {
        let (digest, size) = (sha256(&bytes), bytes.len());
        let kind = format!("application/vnd.docker.{kind}");
        files.insert(
            format!("/v2/evil/blobs/{digest}"),
            ("application/octet-stream", bytes),
        );
        serde_json::json!({"mediaType": kind, "digest": digest, "size": size})
    };
    let config = add(config, "container.image.v1+json");
    let layers: Vec<_> = layers
        .iter()
        .map(|plain| add(gzip(plain), "image.rootfs.diff.tar.gzip"))
        .collect();
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers,
    });
    let manifest = manifest.to_string().into_bytes();
    let digest = sha256(&manifest);
    for tag in ["1", &digest] {
        files.insert(
            format!("/v2/evil/manifests/{tag}"),
            (MANIFEST, manifest.clone()),
        );
    }
    Fake::serve(files)
}

const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

fn sha256(bytes: &[u8]) -> String {
    cais_images::digest(bytes).to_string()
}

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut child = std::process::Command::new("gzip")
        .arg("-c")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || input.write_all(plain).unwrap());
        child.wait_with_output().unwrap().stdout
    })
}

/// A tar stream of these files; a symbolic link is written `name -> target`.
fn tar(entries: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut out = tar::Builder::new(Vec::new());
    for (name, content) in entries {
        let mut header = tar::Header::new_ustar();
        header.set_mode(0o644);
        if let Some((name, target)) = name.split_once(" -> ") {
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_size(0);
            out.append_link(&mut header, name, target).unwrap();
        } else {
            header.set_size(content.len() as u64);
            out.append_data(&mut header, name, &content[..]).unwrap();
        }
    }
    out.into_inner().unwrap()
}

#[test]
fn cve_2021_21285_malformed_manifests_are_errors_and_nothing_more() {
    let daemon = TestDaemon::start(CAIS).unwrap();
    let bodies = [
        &b"{}"[..],
        b"null",
        b"[]",
        br#"{"schemaVersion":2}"#,
        br#"{"schemaVersion":2,"config":null,"layers":[null]}"#,
        br#"{"schemaVersion":2,"config":{"digest":"sha256:zz","size":-1},"layers":[]}"#,
        br#"{"schemaVersion":1,"fsLayers":[{}],"history":[{"v1Compatibility":"{"}]}"#,
        b"\xff\xfe",
        b"",
    ];
    let mut files = HashMap::new();
    for (number, body) in bodies.iter().enumerate() {
        let path = format!("/v2/evil/manifests/{number}");
        files.insert(path, (MANIFEST, body.to_vec()));
    }
    let server = Fake::serve(files);
    for number in 0..bodies.len() {
        docker_refused(&daemon, &["pull", &server.name(&format!("evil:{number}"))]);
    }
    assert_eq!(daemon.docker(&["images", "-aq"]).unwrap(), "");
}

#[test]
fn cve_2017_14992_a_bomb_does_not_fill_the_memory() {
    let daemon = TestDaemon::start(CAIS).unwrap();
    let server = fake(&[tar(&[("zeros", vec![0; 200 << 20])])]);
    daemon
        .docker(&["pull", "-q", &server.name("evil:1")])
        .unwrap();
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap();
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(peak < 120 << 10, "{peak} KiB for a layer of 200 MiB");
}

#[test]
fn cve_2025_47290_a_pull_reaches_nothing_of_the_host() {
    let daemon = TestDaemon::start(CAIS).unwrap();
    let target = daemon.scratch().join("host");
    std::fs::create_dir_all(&target).unwrap();
    let link = format!("door -> {}", target.display());
    let climbing = format!("up -> ../../../../../../../..{}", target.display());
    let lower = tar(&[(&link, vec![]), (&climbing, vec![])]);
    let upper = tar(&[
        (&link, vec![]),
        ("door/evil", b"x".to_vec()),
        (&climbing, vec![]),
        ("up/evil", b"x".to_vec()),
    ]);
    let server = fake(&[lower, upper]);
    let _ = daemon.docker(&["pull", &server.name("evil:1")]);
    let inside = std::fs::read_dir(&target).unwrap().count();
    assert_eq!(inside, 0, "the layer wrote to {}", target.display());
    check_whole(&daemon);
}
