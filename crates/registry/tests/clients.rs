//! Clients of others, unmodified: skopeo and podman.

use std::path::Path;
use std::process::Command;

use cais_distribution::client::{Client, ClientConfig, RawManifest};
use cais_registry::{AuthConfig, TlsFiles};
use cais_testkit::http::Http;
use cais_testkit::{BaseImage, base_image};

use super::peer::Peer;
use super::{INDEX, MANIFEST, Ours, digest, manifest, push_blob, push_image, status};

fn run(program: &str, args: &[&str], home: &Path) -> Result<String, String> {
    let output = Command::new(program)
        .args(args)
        .env("HOME", home)
        .env("XDG_RUNTIME_DIR", home)
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        Ok(text(&output.stdout))
    } else {
        Err(format!("{program} {args:?}: {}", text(&output.stderr)))
    }
}

/// Puts a document with our own client.
fn put(http: &Http, name: &str, document: &serde_json::Value) -> String {
    let bytes = document.to_string().into_bytes();
    let own = digest(&bytes);
    let raw = RawManifest {
        bytes: bytes.into(),
        media_type: MANIFEST.to_owned(),
        digest: own.parse().unwrap(),
    };
    let reference = format!("{}/{name}@{own}", http.address).parse().unwrap();
    let client = Client::new(ClientConfig::default()).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime
        .block_on(client.put_manifest(&reference, &raw, None))
        .unwrap();
    own
}

#[test]
fn our_client_keeps_the_list_of_referrers_where_the_registry_does_not() {
    let (ours, peer) = (Ours::start(), Peer::start());
    let peer = peer.as_ref().map(|peer| (&peer.http, false));
    for (http, keeps_lists) in [(&ours.http, true)].into_iter().chain(peer) {
        let image = push_image(http, "a", "v1", "x");
        push_blob(http, "a", b"{}");
        let about = |kind: &str| {
            let mut document = manifest(b"{}", &[]);
            document["artifactType"] = kind.into();
            document["annotations"] = serde_json::json!({"of": kind});
            document["subject"] =
                serde_json::json!({"mediaType": MANIFEST, "digest": image, "size": 1});
            put(http, "a", &document)
        };
        // The second one again: it is listed once.
        let put = ["application/one", "application/two", "application/two"].map(about);
        let tag = format!("/v2/a/manifests/{}", image.replace(':', "-"));
        let list = match keeps_lists {
            true => {
                assert_eq!(status(http, &tag), 404, "no tag where there is a list");
                http.get(&format!("/v2/a/referrers/{image}")).unwrap()
            }
            false => http.send("GET", &tag, &[("Accept", INDEX)], &[]).unwrap(),
        };
        let listed = list.json()["manifests"].as_array().cloned();
        let listed = listed.unwrap_or_else(|| panic!("{}", list.text()));
        let mut found: Vec<_> = listed
            .iter()
            .map(|one| {
                let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
                assert_eq!(one["annotations"]["of"], one["artifactType"]);
                (text(&one["artifactType"]), text(&one["digest"]))
            })
            .collect();
        found.sort();
        let kinds = ["application/one", "application/two"].map(str::to_owned);
        let wanted: Vec<_> = kinds.into_iter().zip(put).collect();
        assert_eq!(found, wanted);
    }
}

#[test]
fn skopeo_copies_inspects_lists_and_deletes() {
    let ours = Ours::start();
    let home = ours.root.path();
    let archive = format!(
        "docker-archive:{}",
        base_image(BaseImage::Busybox).unwrap().display()
    );
    let image = format!("docker://{}/library/busybox", ours.http.address);
    let skopeo = |args: &[&str]| run("skopeo", args, home).unwrap();
    for (tag, format) in [("docker", "v2s2"), ("oci", "oci")] {
        let target = format!("{image}:{tag}");
        skopeo(&[
            "copy",
            "--quiet",
            "--dest-tls-verify=false",
            "--format",
            format,
            &archive,
            &target,
        ]);
        let shown = skopeo(&["inspect", "--tls-verify=false", &target]);
        assert!(shown.contains("\"Architecture\": \"amd64\""), "{shown}");
    }
    let tags = skopeo(&["list-tags", "--tls-verify=false", &image]);
    let tags: serde_json::Value = serde_json::from_str(&tags).unwrap();
    assert_eq!(tags["Tags"], serde_json::json!(["docker", "oci"]));
    // Registry to registry, which mounts, and back to a folder.
    let copy = format!("docker://{}/copy:v1", ours.http.address);
    let source = format!("{image}:oci");
    skopeo(&[
        "copy",
        "--quiet",
        "--src-tls-verify=false",
        "--dest-tls-verify=false",
        &source,
        &copy,
    ]);
    let folder = format!("dir:{}", home.join("image").display());
    skopeo(&["copy", "--quiet", "--src-tls-verify=false", &copy, &folder]);
    assert!(home.join("image/manifest.json").exists());
    skopeo(&["delete", "--tls-verify=false", &format!("{image}:docker")]);
    assert_eq!(
        status(&ours.http, "/v2/library/busybox/manifests/docker"),
        404
    );
    assert_eq!(status(&ours.http, "/v2/library/busybox/manifests/oci"), 200);
}

#[test]
fn podman_pushes_and_pulls_with_tls_and_a_password() {
    let root = tempfile::tempdir().unwrap();
    let path = |name: &str| root.path().join(name);
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let certified = rcgen::generate_simple_self_signed(names).unwrap();
    std::fs::create_dir(path("certs")).unwrap();
    std::fs::write(path("certs/ca.crt"), certified.cert.pem()).unwrap();
    std::fs::write(path("key.pem"), certified.signing_key.serialize_pem()).unwrap();
    let hash = bcrypt::hash("secret", 4).unwrap();
    std::fs::write(path("htpasswd"), format!("user:{hash}\n")).unwrap();
    let tls = TlsFiles {
        certificate: path("certs/ca.crt"),
        key: path("key.pem"),
    };
    let file = path("htpasswd");
    let ours = Ours::at(root, |config| {
        config.tls = Some(tls);
        config.auth = AuthConfig::Htpasswd {
            realm: "here".to_owned(),
            file,
        };
    });
    let home = ours.root.path();
    let (storage, state) = (home.join("storage"), home.join("state"));
    let certs = format!("--cert-dir={}", home.join("certs").display());
    let podman = |args: &[&str]| {
        let mut all = vec![
            "--root",
            storage.to_str().unwrap(),
            "--runroot",
            state.to_str().unwrap(),
        ];
        all.extend([
            "--storage-driver",
            "vfs",
            "--cgroup-manager",
            "cgroupfs",
            "--events-backend",
            "none",
        ]);
        all.extend(args);
        run("podman", &all, home)
    };
    let archive = base_image(BaseImage::Busybox).unwrap();
    podman(&["load", "-q", "-i", archive.to_str().unwrap()]).unwrap();
    let id = podman(&["images", "-q", "--no-trunc"]).unwrap();
    let name = format!("{}/team/busybox:v1", ours.http.address);
    podman(&["tag", id.trim(), &name]).unwrap();
    let refused = podman(&["push", "-q", &certs, &name]).unwrap_err();
    assert!(refused.contains("authentication required"), "{refused}");
    podman(&[
        "login",
        &certs,
        "-u",
        "user",
        "-p",
        "secret",
        &ours.http.address,
    ])
    .unwrap();
    podman(&["push", "-q", &certs, &name]).unwrap();
    podman(&["rmi", "-af"]).unwrap();
    podman(&["pull", "-q", &certs, &name]).unwrap();
    assert_eq!(podman(&["images", "-q", "--no-trunc"]).unwrap(), id);
    podman(&["rmi", "-af"]).unwrap();
}
