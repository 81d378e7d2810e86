//! `cais registry`: the commands beside a running server and without one, kills in the middle of uploads, and many clients at
//! once.

use std::fs;
use std::io::Write as _;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use cais_testkit::http::{Answer, Http};
use cais_testkit::wait_until;
use rustix::process::Signal;
use serde_json::json;
use tempfile::TempDir;

use crate::CAIS;
use crate::served::{Served, folder};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

fn command(root: &TempDir, args: &[&str]) -> Output {
    let (verb, rest) = args.split_first().unwrap();
    Command::new(CAIS)
        .args(["registry", verb, "--root"])
        .arg(folder(root.path()))
        .args(rest)
        .output()
        .unwrap()
}

fn said(root: &TempDir, args: &[&str]) -> String {
    let output = command(root, args);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{args:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

fn digest(bytes: &[u8]) -> String {
    let hash = ring::digest::digest(&ring::digest::SHA256, bytes);
    format!("sha256:{}", hex::encode(hash.as_ref()))
}

fn upload(http: &Http, name: &str) -> String {
    let path = format!("/v2/{name}/blobs/uploads/");
    let answer = http.send("POST", &path, &[], &[]).unwrap();
    assert_eq!(answer.status, 202, "{}", answer.text());
    answer.header("location").unwrap().to_owned()
}

fn push_blob(http: &Http, name: &str, bytes: &[u8]) -> Answer {
    let path = format!("{}?digest={}", upload(http, name), digest(bytes));
    http.send("PUT", &path, &[], bytes).unwrap()
}

fn manifest(config: &[u8], layers: &[&[u8]]) -> Vec<u8> {
    let describe = |bytes: &&[u8]| json!({"mediaType": "application/octet-stream", "digest": digest(bytes), "size": bytes.len()});
    let layers: Vec<_> = layers.iter().map(describe).collect();
    json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": describe(&config), "layers": layers})
        .to_string()
        .into_bytes()
}

fn put_manifest(http: &Http, name: &str, tag: &str, bytes: &[u8]) -> Answer {
    let path = format!("/v2/{name}/manifests/{tag}");
    http.send("PUT", &path, &[("Content-Type", MANIFEST)], bytes)
        .unwrap()
}

fn push_image(http: &Http, name: &str, tag: &str) -> String {
    for bytes in [b"{}".as_slice(), b"layer"] {
        assert_eq!(push_blob(http, name, bytes).status, 201);
    }
    let bytes = manifest(b"{}", &[b"layer"]);
    assert_eq!(put_manifest(http, name, tag, &bytes).status, 201);
    digest(&bytes)
}

/// The commands, whoever answers them.
fn commands(root: &TempDir, image: &str) {
    let listed = said(root, &["ls"]);
    assert!(listed.starts_with("REPOSITORY"), "{listed}");
    assert_eq!(said(root, &["ls", "-q"]), "other\nteam/app\n");
    assert_eq!(said(root, &["ls", "-q", "team/app"]), "v1\nv2\n");
    let listed = said(root, &["ls", "team/app"]);
    assert!(listed.contains(image), "{listed}");
    for (args, want) in [
        (["ls", "none"], "no such repository: none"),
        (["rm", "team/app:none"], "no such manifest: none"),
        (["rm", "Team"], "invalid repository name"),
    ] {
        let output = command(root, &args);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1));
        assert!(error.contains(want), "{error}");
    }
    assert_eq!(said(root, &["rm", "team/app:v2"]), "team/app:v2\n");
    assert_eq!(said(root, &["ls", "-q", "team/app"]), "v1\n");
    said(root, &["rm", &format!("team/app@{image}"), "other"]);
    let would = said(root, &["gc", "--gc-grace", "0", "--dry-run"]);
    assert!(
        would.starts_with("would remove: 0 manifests, 2 blobs"),
        "{would}"
    );
    let removed = said(root, &["gc", "--gc-grace", "0"]);
    assert!(removed.contains("Total reclaimed space: 7B"), "{removed}");
    assert_eq!(said(root, &["ls", "-q"]), "");
}

#[test]
fn commands_beside_a_server_and_without_one() {
    let root = tempfile::tempdir().unwrap();
    for running in [true, false] {
        let served = Served::start(root.path(), &[]);
        let image = push_image(&served.http, "team/app", "v1");
        push_image(&served.http, "team/app", "v2");
        push_image(&served.http, "other", "v1");
        if running {
            commands(&root, &image);
            assert_eq!(
                served.http.get("/v2/team/app/tags/list").unwrap().status,
                404
            );
            let second = command(&root, &["serve", "--listen", "127.0.0.1:0"]);
            let error = String::from_utf8_lossy(&second.stderr).into_owned();
            assert!(error.contains("served by another process"), "{error}");
            served.end();
        } else {
            served.end();
            commands(&root, &image);
        }
    }
    let none = tempfile::tempdir().unwrap();
    let output = command(&none, &["ls"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("no registry in"));
}

#[test]
fn settings_come_from_file_and_environment() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("registry.toml");
    fs::write(&file, "read-only = true\ndelete = false\n").unwrap();
    let served = Served::start(root.path(), &["--config", file.to_str().unwrap()]);
    let open = |http: &Http| {
        http.send("POST", "/v2/a/blobs/uploads/", &[], &[])
            .unwrap()
            .status
    };
    assert_eq!(open(&served.http), 405);
    drop(served);
    let served = Served::start(
        root.path(),
        &["--config", file.to_str().unwrap(), "--read-only=false"],
    );
    assert_eq!(open(&served.http), 202);
}

#[test]
fn an_upload_survives_kill_9() {
    let root = tempfile::tempdir().unwrap();
    let whole: Vec<u8> = (0..2_000_000u32).flat_map(u32::to_le_bytes).collect();
    let mut served = Served::start(root.path(), &[]);
    let image = push_image(&served.http, "kept", "v1");
    let location = upload(&served.http, "a");
    let mut offset = 0;
    for _ in 0..3 {
        let mut stream = served.http.connect().unwrap();
        let length = (whole.len() - offset).to_string();
        let headers = [("Content-Length", &*length)];
        served
            .http
            .head(&mut stream, "PATCH", &location, &headers)
            .unwrap();
        stream.write_all(b"\r\n").unwrap();
        stream
            .write_all(&whole[offset..offset + 1_500_000])
            .unwrap();
        let file = folder(root.path())
            .join("uploads")
            .join(location.rsplit('/').next().unwrap());
        wait_until("bytes are on the disk", || {
            fs::metadata(&file).unwrap().len() > offset as u64 + 1_000_000
        });
        served.signal(Signal::KILL);
        drop(served);
        served = Served::start(root.path(), &[]);
        let answer = served.http.get(&location).unwrap();
        assert_eq!(answer.status, 204);
        let range = answer.header("range").unwrap().to_owned();
        let last: usize = range.strip_prefix("0-").unwrap().parse().unwrap();
        assert!(last > offset + 1_000_000, "{range}");
        offset = last + 1;
    }
    let path = format!("{location}?digest={}", digest(&whole));
    let answer = served
        .http
        .send("PUT", &path, &[], &whole[offset..])
        .unwrap();
    assert_eq!(answer.status, 201, "{}", answer.text());
    let answer = served
        .http
        .get(&format!("/v2/a/blobs/{}", digest(&whole)))
        .unwrap();
    assert!(answer.body == whole);
    let answer = served
        .http
        .get(&format!("/v2/kept/manifests/{image}"))
        .unwrap();
    assert_eq!(answer.status, 200);
}

#[test]
fn a_new_certificate_is_read_on_sighup() {
    let root = tempfile::tempdir().unwrap();
    let (certificate, key) = (root.path().join("cert.pem"), root.path().join("key.pem"));
    let make = |name: &str| {
        let args = [
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
            "-subj",
        ];
        let mut openssl = Command::new("openssl");
        openssl
            .args(args)
            .arg(format!("/CN={name}"))
            .arg("-keyout")
            .arg(&key)
            .arg("-out")
            .arg(&certificate);
        assert!(openssl.output().unwrap().status.success());
    };
    make("first");
    let paths = [certificate.to_str().unwrap(), key.to_str().unwrap()];
    let served = Served::start(
        root.path(),
        &["--tls-cert", paths[0], "--tls-key", paths[1]],
    );
    let shown = || {
        let connect = Command::new("openssl")
            .args(["s_client", "-connect", &served.http.address])
            .stdin(Stdio::null())
            .output();
        String::from_utf8_lossy(&connect.unwrap().stdout).into_owned()
    };
    assert!(shown().contains("CN = first"));
    make("second");
    served.signal(Signal::HUP);
    wait_until("the new certificate is shown", || {
        shown().contains("CN = second")
    });
    fs::write(&key, "no key").unwrap();
    served.signal(Signal::HUP);
    let log = root.path().join("log");
    wait_until("the log tells", || {
        fs::read_to_string(&log).unwrap().contains("ERROR")
    });
    assert!(shown().contains("CN = second"), "the old one stays");
    served.end();
}

/// How long a blob stays that nothing refers to, in the test of load.
const GRACE: Duration = Duration::from_secs(4);

/// A manifest and its layers.
type Image = (Vec<u8>, Vec<Vec<u8>>);

/// One client of the test of load: pushes images of own and of shared layers, pulls them back, deletes.
struct Client {
    http: Http,
    name: String,
    chance: u64,
    /// The image of each of its tags: manifest and layers.
    kept: Vec<Option<Image>>,
    rounds: u64,
}

impl Client {
    fn random(&mut self, below: u64) -> u64 {
        self.chance = self
            .chance
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.chance >> 33) % below
    }

    fn round(&mut self) {
        let own = format!("own {} {}", self.name, self.chance)
            .repeat(1 + usize::try_from(self.random(4000)).unwrap());
        let shared = format!("shared {}", self.random(20)).repeat(5000);
        let layers = vec![own.into_bytes(), shared.into_bytes()];
        let tag = usize::try_from(self.random(self.kept.len() as u64)).unwrap();
        let started = Instant::now();
        for bytes in layers.iter().map(Vec::as_slice).chain([b"{}".as_slice()]) {
            let path = format!("/v2/{}/blobs/{}", self.name, digest(bytes));
            if self.http.send("HEAD", &path, &[], &[]).unwrap().status != 200 {
                assert_eq!(push_blob(&self.http, &self.name, bytes).status, 201);
            }
        }
        let bytes = manifest(b"{}", &[&layers[0], &layers[1]]);
        let answer = put_manifest(&self.http, &self.name, &format!("t{tag}"), &bytes);
        if answer.status != 201 {
            assert!(
                started.elapsed() >= GRACE,
                "lost during a push: {}",
                answer.text()
            );
            return;
        }
        if let Some((old, _)) = self.kept[tag].take() {
            let path = format!("/v2/{}/manifests/{}", self.name, digest(&old));
            self.http.send("DELETE", &path, &[], &[]).unwrap();
        }
        self.kept[tag] = Some((bytes, layers));
        self.rounds += 1;
        if self.random(3) == 0 {
            self.check(tag);
        }
    }

    /// Pulls a tag, every byte of it.
    fn check(&self, tag: usize) {
        let Some((manifest, layers)) = &self.kept[tag] else {
            return;
        };
        let path = format!("/v2/{}/manifests/t{tag}", self.name);
        let answer = self.http.get(&path).unwrap();
        assert!(
            answer.status == 200 && answer.body == *manifest,
            "{path}: {}",
            answer.text()
        );
        for layer in layers {
            let path = format!("/v2/{}/blobs/{}", self.name, digest(layer));
            let answer = self.http.get(&path).unwrap();
            assert!(
                answer.status == 200 && answer.body == *layer,
                "{path}: {}",
                answer.status
            );
        }
    }
}

/// 200 clients while garbage is collected all the time: nothing is lost, memory stays flat. `CAIS_REGISTRY_LOAD_SECONDS` makes it
/// longer.
#[test]
fn many_clients_and_collection_lose_nothing() {
    let seconds = std::env::var("CAIS_REGISTRY_LOAD_SECONDS").ok();
    let seconds = seconds.map_or(12, |text| text.parse().unwrap());
    let end = Instant::now() + Duration::from_secs(seconds);
    let root = tempfile::tempdir().unwrap();
    let grace = format!("{}s", GRACE.as_secs());
    let served = Served::start(
        root.path(),
        &[
            "--gc-interval",
            "250ms",
            "--gc-grace",
            &grace,
            "--untagged",
            &grace,
        ],
    );
    let threads: Vec<_> = (0..200)
        .map(|number| {
            let http = served.http.clone();
            std::thread::spawn(move || {
                let mut client = Client {
                    http,
                    name: format!("team{}/client{number}", number % 7),
                    chance: number,
                    kept: vec![None, None, None],
                    rounds: 0,
                };
                while Instant::now() < end {
                    client.round();
                }
                client
            })
        })
        .collect();
    std::thread::sleep(Duration::from_secs(seconds) * 2 / 5);
    let early = served.memory();
    let clients: Vec<Client> = threads
        .into_iter()
        .map(|thread| thread.join().unwrap())
        .collect();
    let late = served.memory();
    for client in &clients {
        (0..client.kept.len()).for_each(|tag| client.check(tag));
    }
    let rounds: u64 = clients.iter().map(|client| client.rounds).sum();
    let metrics = served.http.get("/metrics").unwrap().text();
    let collected = metrics
        .lines()
        .find(|line| line.starts_with("cais_registry_gc_files_total"));
    let collected: u64 = collected
        .unwrap()
        .rsplit(' ')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    println!("{rounds} images, {collected} files collected, {early} KiB then {late} KiB");
    assert!(
        rounds > 200 && collected > 0,
        "{rounds} images, {collected} files collected"
    );
    assert!(
        late <= early + early / 4 + 16 * 1024,
        "memory grows: {early} KiB, then {late} KiB"
    );
    served.end();
}
