//! Disks that are full at any phase of what images do: the error says so, nothing half is left, everybody lives on, and with room
//! a repeat finishes.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use cais_testkit::{BaseImage, TestDaemon, base_image, wait_until};

use crate::CAIS;
use crate::disk::Disk;
use crate::registry_kit::{Fault, Registry, Wire, digests, docker_refused, id, noisy};
use crate::served::{Served, folder};

const PAGE: u64 = 4096;
/// What records of the database may take in addition.
const RECORDS: u64 = 40 * PAGE;
const FULL: &str = "no space left on device";

/// Bytes to leave free of those that something needs: parts of them, and then each page that may be one too few.
fn rooms(need: u64) -> impl Iterator<Item = u64> {
    let parts = (0..6).map(move |part| need / 6 * part);
    let pages = (0..12).map(move |page| need.saturating_sub((11 - page) * PAGE));
    parts.chain(pages)
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten();
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

fn said(output: &Output) -> String {
    let (out, error) = (&output.stdout, &output.stderr);
    String::from_utf8_lossy(&[&out[..], error].concat()).into_owned()
}

/// A daemon whose data is on a small disk.
struct Tight {
    daemon: TestDaemon,
    disk: Disk,
    _home: tempfile::TempDir,
}

impl Tight {
    fn new(size: u64) -> Self {
        let home = tempfile::TempDir::new().unwrap();
        let disk = Disk::new(home.path().join("disk"), size);
        Self::on(disk, home)
    }

    fn ext4(size: u64) -> Self {
        let home = tempfile::TempDir::new().unwrap();
        let disk = Disk::ext4(home.path().join("disk"), size);
        Self::on(disk, home)
    }

    fn on(disk: Disk, home: tempfile::TempDir) -> Self {
        Self {
            daemon: TestDaemon::start_with(CAIS, &[&disk.data_root()]).unwrap(),
            disk,
            _home: home,
        }
    }

    /// Bytes of layers that broke off, which the next pull goes on with.
    fn partial(&self) -> u64 {
        let directory = self.daemon.data_root().join("downloads");
        let size = |name: &String| fs::metadata(directory.join(name)).map_or(0, |meta| meta.len());
        names(&directory).iter().map(size).sum()
    }

    fn images(&self) -> String {
        self.daemon
            .docker(&["images", "-aq", "--no-trunc"])
            .unwrap()
    }

    /// Makes an image with ever more room, until it is there; `also` looks at what else must hold after each failure.
    fn makes(&self, way: &[&str], image: &str, also: &dyn Fn()) {
        let remove = || self.daemon.docker(&["rmi", image]).unwrap();
        let before = self.images();
        self.daemon.docker(way).unwrap();
        remove();
        let free = self.disk.free();
        self.daemon.docker(way).unwrap();
        let need = free - self.disk.free();
        remove();
        let mut failures = 0;
        for room in rooms(need) {
            self.disk.fill(room);
            let free = self.disk.free() + self.partial();
            let output = self.daemon.client("docker", way).output().unwrap();
            if output.status.success() {
                remove();
                continue;
            }
            failures += 1;
            let place = format!("{way:?} with {room} of {need} bytes: {}", said(&output));
            assert!(said(&output).contains(FULL), "{place}");
            wait_until(&format!("the room to come back: {place}"), || {
                self.disk.free() + self.partial() + RECORDS >= free
            });
            self.is_whole(&place);
            assert_eq!(self.images(), before, "{place}");
            also();
        }
        assert!(failures > 5, "{way:?}: {failures} failures below {need}");
        self.disk.clear();
        self.daemon.docker(way).unwrap();
        self.is_whole("with room");
        let saved = self.daemon.scratch().join("made.tar");
        let saved = saved.to_string_lossy();
        self.daemon.docker(&["save", "-o", &saved, image]).unwrap();
        remove();
    }

    /// The daemon answers, and nothing of the store belongs to nobody.
    fn is_whole(&self, place: &str) {
        self.daemon.docker(&["ps"]).unwrap();
        let whole = self.daemon.cais_output(&["system", "check"]).unwrap();
        assert!(
            said(&whole).contains("all whole"),
            "{place}: {}",
            said(&whole)
        );
        for directory in ["layers", "blobs/sha256"] {
            let mut left = names(&self.daemon.data_root().join(directory));
            left.retain(|name| name.contains("tmp-"));
            assert!(left.is_empty(), "{place}: {left:?}");
        }
    }
}

/// Two layers, of 2 MiB and of 1 MiB.
fn two_layers(daemon: &TestDaemon, name: &str) {
    noisy(daemon, "below", 3, 2 << 20);
    daemon
        .docker(&["create", "--name", "above", "below", "/noise"])
        .unwrap();
    noisy(daemon, "other", 4, 1 << 20);
    let file = daemon.scratch().join("noise-4/noise");
    let upper = daemon.docker(&["inspect", "-f", "{{.GraphDriver.Data.UpperDir}}", "above"]);
    fs::copy(file, Path::new(upper.unwrap().trim()).join("more")).unwrap();
    daemon.docker(&["commit", "above", name]).unwrap();
    daemon.docker(&["rm", "above"]).unwrap();
    daemon.docker(&["rmi", "other"]).unwrap();
}

#[test]
fn loads_and_imports() {
    let source = TestDaemon::start(CAIS).unwrap();
    two_layers(&source, "made");
    let path = |name: &str| source.scratch().join(name).to_string_lossy().into_owned();
    let (docker, tree) = (path("made.tar"), path("noise-4.tar"));
    source.docker(&["save", "-o", &docker, "made"]).unwrap();
    for tight in [Tight::new(16 << 20), Tight::ext4(24 << 20)] {
        tight.makes(&["load", "-q", "-i", &docker], "made", &|| ());
        tight.makes(&["import", &tree, "made"], "made", &|| ());
    }
}

#[test]
fn commits_leave_the_container_running() {
    let tight = Tight::new(24 << 20);
    let archive = base_image(BaseImage::Busybox).unwrap();
    let daemon = &tight.daemon;
    daemon
        .docker(&["load", "-q", "-i", &archive.to_string_lossy()])
        .unwrap();
    let write = "head -c 1500000 /dev/urandom >/big; exec sleep 100000";
    daemon
        .docker(&["run", "-d", "--name", "box", "busybox", "sh", "-c", write])
        .unwrap();
    wait_until("the file is written", || {
        daemon
            .docker(&["exec", "box", "pidof", "sleep"])
            .is_ok_and(|pid| !pid.trim().is_empty())
    });
    let running = || {
        let state = daemon.docker(&["inspect", "-f", "{{.State.Status}}", "box"]);
        assert_eq!(state.unwrap(), "running\n");
        daemon.docker(&["exec", "box", "ls", "/big"]).unwrap();
    };
    tight.makes(&["commit", "box", "made"], "made", &running);
}

#[test]
fn pulls_say_so_and_go_on_where_they_were() {
    let (source, registry) = (TestDaemon::start(CAIS).unwrap(), Registry::start());
    let (small, large) = (registry.name("small:1"), registry.name("large:1"));
    // One that is too small for its download to be kept, so that each page counts.
    noisy(&source, &small, 5, 60_000);
    two_layers(&source, &large);
    source.docker(&["push", "-q", &small]).unwrap();
    source.docker(&["push", "-q", &large]).unwrap();
    let tight = Tight::new(16 << 20);
    tight.makes(&["pull", "-q", &small], &small, &|| ());
    tight.makes(&["pull", "-q", &large], &large, &|| ());

    // What came before the disk was full does not come again.
    let wire = Wire::to(registry.port, Fault::None);
    let name = wire.name("large:1");
    tight.disk.fill(3 << 20);
    assert!(docker_refused(&tight.daemon, &["pull", &name]).contains(FULL));
    let kept = tight.partial();
    assert!(kept > 1 << 20, "{kept}");
    tight.disk.clear();
    let passed = wire.passed();
    tight.daemon.docker(&["pull", &name]).unwrap();
    let came = wire.passed() - passed;
    assert!(
        came < (3 << 20) - kept + (64 << 10),
        "{came} with {kept} kept"
    );
    assert_eq!(id(&tight.daemon, &name), id(&source, &large));
    wait_until("nothing is kept of what is there", || tight.partial() == 0);
}

/// Removes a repository from a registry, if it is there.
fn unpush(root: &Path, repository: &str) -> Output {
    Command::new(CAIS)
        .args(["registry", "rm", repository, "--root"])
        .arg(folder(root))
        .output()
        .unwrap()
}

/// What the registry has files of, it answers for; nothing else is there.
fn is_whole(served: &Served, root: &Path, place: &str) {
    assert_eq!(served.http.get("/v2/").unwrap().status, 200, "{place}");
    let known = |digest: &String| {
        let nouns = [
            "kept/blobs",
            "kept/manifests",
            "noise/blobs",
            "noise/manifests",
        ];
        nouns.iter().any(|noun| {
            let path = format!("/v2/{noun}/sha256:{digest}");
            served.http.send("HEAD", &path, &[], &[]).unwrap().status == 200
        })
    };
    wait_until(&format!("no upload is left: {place}"), || {
        names(&folder(root).join("uploads")).is_empty()
    });
    wait_until(&format!("files without a record are gone: {place}"), || {
        files(root).iter().all(known)
    });
}

/// The digests that the registry has files of.
fn files(root: &Path) -> Vec<String> {
    let blobs = folder(root).join("blobs/sha256");
    let shelves = names(&blobs).into_iter();
    shelves.flat_map(|name| names(&blobs.join(name))).collect()
}

#[test]
fn pushes_to_a_full_registry() {
    let daemon = TestDaemon::start(CAIS).unwrap();
    let other = TestDaemon::start(CAIS).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let disk = Disk::new(folder(root), 16 << 20);
    let served = Served::start(root, &[]);
    let (kept, name) = (served.name("kept:1"), served.name("noise:1"));
    noisy(&daemon, &kept, 8, 100_000);
    daemon.docker(&["push", "-q", &kept]).unwrap();
    two_layers(&daemon, &name);
    let before = disk.free();
    daemon.docker(&["push", "-q", &name]).unwrap();
    let need = before - disk.free();
    let mut failures = 0;
    for room in rooms(need) {
        unpush(root, "noise");
        wait_until("the files of a repository to go", || files(root).len() == 3);
        disk.fill(room);
        let output = daemon.client("docker", &["push", &name]).output().unwrap();
        let place = format!("{room} of {need} bytes: {}", said(&output));
        is_whole(&served, root, &place);
        if !output.status.success() {
            failures += 1;
            assert!(said(&output).contains(FULL), "{place}");
        }
    }
    assert!(failures > 5, "{failures}");
    unpush(root, "noise");
    // Without a byte it still serves and gives room back, also after a new start.
    disk.fill(0);
    other.docker(&["pull", "-q", &kept]).unwrap();
    let address = served.http.address.clone();
    served.end();
    let served = Served::at(root, &address, &[]);
    assert_eq!(served.http.get("/v2/kept/manifests/1").unwrap().status, 200);
    let removed = unpush(root, "kept");
    assert!(removed.status.success(), "{}", said(&removed));
    disk.clear();
    daemon.docker(&["push", "-q", &name]).unwrap();
    other.docker(&["pull", "-q", &name]).unwrap();
    assert_eq!(id(&other, &name), id(&daemon, &name));
    assert_eq!(digests(&other, &name), digests(&daemon, &name));
    is_whole(&served, root, "with room");
    served.end();
}

#[test]
fn pushes_to_dockers_registry_when_that_is_full() {
    let (daemon, registry) = (TestDaemon::start(CAIS).unwrap(), Registry::start());
    let disk = Disk::new(registry.storage(), 8 << 20);
    let name = registry.name("noise:1");
    two_layers(&daemon, &name);
    disk.fill(1 << 20);
    docker_refused(&daemon, &["push", &name]);
    daemon.docker(&["ps"]).unwrap();
    disk.clear();
    daemon.docker(&["push", &name]).unwrap();
    let other = TestDaemon::start(CAIS).unwrap();
    other.docker(&["pull", &name]).unwrap();
    assert_eq!(id(&other, &name), id(&daemon, &name));
}

#[test]
fn a_cache_that_is_full_says_so_and_serves_what_it_has() {
    let (source, registry) = (TestDaemon::start(CAIS).unwrap(), Registry::start());
    let original = registry.name("noise:1");
    two_layers(&source, &original);
    source.docker(&["push", "-q", &original]).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let disk = Disk::new(folder(root), 16 << 20);
    let upstream = format!("origin=http://localhost:{}", registry.port);
    let cache = Served::start(root, &["--proxy", &upstream]);
    let name = cache.name("origin/noise:1");
    let daemon = TestDaemon::start(CAIS).unwrap();
    // None of them is enough for the larger layer.
    for room in [100_000, 1 << 20, 3 << 19] {
        disk.fill(room);
        let error = docker_refused(&daemon, &["pull", &name]);
        assert!(error.contains(FULL), "{room}: {error}");
        assert_eq!(cache.http.get("/v2/").unwrap().status, 200);
        wait_until("no upload is left", || {
            names(&folder(root).join("uploads")).is_empty()
        });
    }
    disk.clear();
    daemon.docker(&["pull", "-q", &name]).unwrap();
    assert_eq!(id(&daemon, &name), id(&source, &original));
    // With nothing free it serves what it has, without asking for more.
    disk.fill(0);
    let other = TestDaemon::start(CAIS).unwrap();
    other.docker(&["pull", "-q", &name]).unwrap();
    cache.end();
}

#[test]
fn a_push_needs_no_room_of_its_own() {
    let (tight, registry) = (Tight::new(12 << 20), Registry::start());
    let name = registry.name("noise:1");
    noisy(&tight.daemon, &name, 9, 1 << 20);
    tight.disk.fill(0);
    assert_eq!(tight.disk.free(), 0);
    tight.daemon.docker(&["push", &name]).unwrap();
    assert_eq!(digests(&tight.daemon, &name).len(), 1);
}

#[test]
fn saves_to_a_full_disk_leave_no_file() {
    let daemon = TestDaemon::start(CAIS).unwrap();
    noisy(&daemon, "noise", 10, 1 << 20);
    let disk = Disk::new(daemon.scratch().join("out"), 4 << 20);
    let target = disk.path().join("saved.tar");
    let args = ["save", "-o", &target.to_string_lossy(), "noise"];
    for program in ["docker", CAIS] {
        for room in [0, PAGE, 100_000, 1 << 20] {
            disk.fill(room);
            let output = daemon.client(program, &args).output().unwrap();
            assert!(!output.status.success(), "{program}: {room}");
            assert!(said(&output).contains(FULL), "{program}: {}", said(&output));
            assert_eq!(names(disk.path()), ["ballast"], "{program}: {room}");
            // As a file of the shell's.
            let file = File::create(disk.path().join("redirected")).unwrap();
            let mut save = daemon.client(program, &["save", "noise"]);
            let output = save.stdout(file).stderr(Stdio::piped()).output().unwrap();
            assert!(!output.status.success(), "{program}: {room}");
            assert!(said(&output).contains(FULL), "{program}: {}", said(&output));
            fs::remove_file(disk.path().join("redirected")).unwrap();
        }
        disk.clear();
        let output = daemon.client(program, &args).output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
        let other = TestDaemon::start(CAIS).unwrap();
        other.docker(&["load", "-i", args[2]]).unwrap();
        assert_eq!(id(&other, "noise"), id(&daemon, "noise"));
        fs::remove_file(&target).unwrap();
    }
}
