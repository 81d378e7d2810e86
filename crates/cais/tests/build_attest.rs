//! What is attested of images: how they were built and which packages they have, beside them in registries and archives.

use std::fs;
use std::path::Path;
use std::process::Command;

use cais_testkit::TestDaemon;
use serde_json::Value;

use crate::build::Context;
use crate::images_archives::{podman, run};
use crate::registry_kit::Registry;
use crate::{daemon, inspect, refused};

const STATUS: &str =
    "Package: libc6\nStatus: install ok installed\nArchitecture: amd64\nVersion: 2.36-9+deb12u4\n";

fn build(daemon: &TestDaemon, context: &Context, flags: &[&str]) {
    let path = context.path().to_string_lossy();
    let output = daemon
        .cais_output(&[&["build"], flags, &[&*path]].concat())
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
}

fn context() -> Context {
    Context::new(&[
        (
            "Dockerfile",
            "FROM busybox\nARG GREETING\nRUN --mount=type=secret,id=token echo $GREETING >/greeting\nCOPY status /var/lib/dpkg/status\n",
        ),
        ("status", STATUS),
    ])
}

/// What is behind an address of a registry.
fn get(url: &str) -> Value {
    let kinds =
        "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json";
    let accept = format!("Accept: {kinds}");
    let text = run(Command::new("curl").args(["-fsSL", "-H", &accept, url]));
    serde_json::from_str(&text).unwrap()
}

/// A repository of a registry.
struct Repository(String);

impl Repository {
    fn manifest(&self, reference: &str) -> Value {
        get(&format!("{}/manifests/{reference}", self.0))
    }

    fn blob(&self, descriptor: &Value) -> Value {
        let digest = descriptor["digest"].as_str().unwrap();
        get(&format!("{}/blobs/{digest}", self.0))
    }

    /// The statement of a type that the first attestation of an index has, and the digest of the image it is about.
    fn statement(&self, index: &Value, kind: &str) -> (Value, String) {
        let manifests = index["manifests"].as_array().unwrap();
        let attestation = manifests
            .iter()
            .find(|one| one["annotations"]["vnd.docker.reference.type"] == "attestation-manifest");
        let attestation = attestation.unwrap();
        assert_eq!(attestation["platform"]["os"], "unknown");
        assert_eq!(attestation["platform"]["architecture"], "unknown");
        let about = attestation["annotations"]["vnd.docker.reference.digest"]
            .as_str()
            .unwrap();
        assert_eq!(manifests[0]["digest"], about, "images come first");
        let manifest = self.manifest(attestation["digest"].as_str().unwrap());
        let config = self.blob(&manifest["config"]);
        let layers = manifest["layers"].as_array().unwrap();
        let digests: Vec<&Value> = layers.iter().map(|layer| &layer["digest"]).collect();
        let listed: Vec<&Value> = config["rootfs"]["diff_ids"]
            .as_array()
            .unwrap()
            .iter()
            .collect();
        assert_eq!(digests, listed);
        let layer = layers.iter().find(|layer| {
            layer["mediaType"] == "application/vnd.in-toto+json"
                && layer["annotations"]["in-toto.io/predicate-type"] == kind
        });
        let statement = self.blob(layer.unwrap_or_else(|| panic!("{kind}: {manifest}")));
        assert_eq!(statement["_type"], "https://in-toto.io/Statement/v0.1");
        assert_eq!(statement["predicateType"], kind);
        let subject = &statement["subject"][0]["digest"]["sha256"];
        assert_eq!(format!("sha256:{}", subject.as_str().unwrap()), about);
        (statement["predicate"].clone(), about.to_owned())
    }
}

#[test]
fn packages_and_provenance_stand_beside_the_image_that_everybody_pulls() {
    let (daemon, registry) = (daemon(), Registry::start());
    let context = context();
    let secret = context.write("token", "very secret");
    let lent = format!("id=token,src={}", secret.display());
    let name = registry.name("made:1");
    let flags = [
        "--provenance=mode=max",
        "--sbom=true",
        "--build-arg=GREETING=hi",
        "--secret",
        &lent,
        "-t",
        &name,
        "--push",
    ];
    build(&daemon, &context, &flags);
    let repository = Repository(format!("http://127.0.0.1:{}/v2/made", registry.port));
    let index = repository.manifest("1");
    assert_eq!(index["manifests"].as_array().unwrap().len(), 2);
    let (document, about) = repository.statement(&index, "https://spdx.dev/Document");
    assert_eq!(document["spdxVersion"], "SPDX-2.3");
    let packages = document["packages"].as_array().unwrap().iter();
    let libc: Vec<&Value> = packages.filter(|one| one["name"] == "libc6").collect();
    assert_eq!(libc.len(), 1, "{document}");
    assert_eq!(libc[0]["versionInfo"], "2.36-9+deb12u4");
    let locator = &libc[0]["externalRefs"][0]["referenceLocator"];
    assert_eq!(locator, "pkg:deb/debian/libc6@2.36-9%2Bdeb12u4?arch=amd64");
    let (provenance, other) = repository.statement(&index, "https://slsa.dev/provenance/v0.2");
    assert_eq!(about, other);
    let parameters = &provenance["invocation"]["parameters"];
    assert_eq!(parameters["args"]["build-arg:GREETING"], "hi");
    assert_eq!(parameters["secrets"][0]["id"], "token");
    assert!(!provenance.to_string().contains("very secret"));
    let materials = provenance["materials"].as_array().unwrap();
    assert_eq!(materials.len(), 1);
    assert_eq!(
        materials[0]["uri"],
        "pkg:docker/busybox@latest?platform=linux%2Famd64"
    );
    let base = inspect(&daemon, "busybox", "{{.Id}}");
    assert_eq!(
        materials[0]["digest"]["sha256"],
        base.trim_start_matches("sha256:")
    );
    assert_eq!(
        provenance["buildConfig"]["steps"].as_array().unwrap().len(),
        4
    );
    assert_eq!(
        provenance["invocation"]["configSource"]["entryPoint"],
        "Dockerfile"
    );
    // Clients that know nothing of attestations get the image.
    let scratch = tempfile::tempdir().unwrap();
    podman(scratch.path(), &["pull", "-q", "--tls-verify=false", &name]);
    let theirs = podman(scratch.path(), &["inspect", "-f", "{{.Id}}", &name]);
    let ours = inspect(&daemon, &name, "{{.Id}}");
    assert_eq!(format!("sha256:{theirs}"), ours);
    let second = crate::daemon();
    second.docker(&["pull", "-q", &name]).unwrap();
    assert_eq!(inspect(&second, &name, "{{.Id}}"), ours);
    assert_eq!(
        second
            .docker(&["run", "--rm", &name, "cat", "/greeting"])
            .unwrap(),
        "hi\n"
    );
    // The same steps without attestations are the same image, and the name is plain again.
    build(
        &daemon,
        &context,
        &[
            "--build-arg=GREETING=hi",
            "--secret",
            &lent,
            "-t",
            &name,
            "--push",
        ],
    );
    assert_eq!(inspect(&daemon, &name, "{{.Id}}"), ours);
    assert_eq!(repository.manifest("1")["manifests"], Value::Null);
}

#[test]
fn an_archive_keeps_its_digests_on_its_way_to_a_registry_and_to_dockerd() {
    let daemon = daemon();
    let context = context();
    let secret = context.write("token", "very secret");
    let lent = format!("id=token,src={}", secret.display());
    let scratch = tempfile::tempdir().unwrap();
    let archive = scratch.path().join("made.tar");
    let output = format!("type=oci,dest={}", archive.display());
    let flags = [
        "--provenance=mode=max",
        "--sbom=true",
        "--secret",
        &lent,
        "-t",
        "127.0.0.1:5000/made:1",
        "-o",
        &output,
    ];
    build(&daemon, &context, &flags);
    let registry = Registry::start();
    let from = format!("oci-archive:{}", archive.display());
    let to = format!("docker://{}", registry.name("made:1"));
    run(Command::new("skopeo").args([
        "copy",
        "-q",
        "--all",
        "--dest-tls-verify=false",
        &from,
        &to,
    ]));
    let repository = Repository(format!("http://127.0.0.1:{}/v2/made", registry.port));
    let index = repository.manifest("1");
    repository.statement(&index, "https://spdx.dev/Document");
    let raw = run(Command::new("skopeo").args(["inspect", "--raw", &from]));
    assert_eq!(serde_json::from_str::<Value>(&raw).unwrap(), index);
    // Pushed from here the name is the same index.
    let name = registry.name("pushed:1");
    daemon
        .docker(&["tag", "127.0.0.1:5000/made:1", &name])
        .unwrap();
    daemon.docker(&["push", "-q", &name]).unwrap();
    let pushed = Repository(format!("http://127.0.0.1:{}/v2/pushed", registry.port)).manifest("1");
    assert_eq!(pushed["manifests"][0], index["manifests"][0]);
    // Another daemon that is given the archive knows what was attested.
    let other = crate::daemon();
    other
        .docker(&["load", "-i", &archive.to_string_lossy()])
        .unwrap();
    let again = scratch.path().join("again.tar");
    other
        .docker(&[
            "save",
            "-o",
            &again.to_string_lossy(),
            "127.0.0.1:5000/made:1",
        ])
        .unwrap();
    assert_eq!(fs::read(&archive).unwrap(), fs::read(&again).unwrap());
    // What a real dockerd makes of it; its namespace has a registry at this port.
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/with-dockerd");
    let there = "skopeo copy -q --all --dest-tls-verify=false $1 docker://127.0.0.1:5000/made:1 && docker pull -q 127.0.0.1:5000/made:1 \
        && docker inspect -f '{{.Id}}' 127.0.0.1:5000/made:1 && docker load -q -i $2 && docker run --rm --network none 127.0.0.1:5000/made:1 test -e /greeting";
    let output = Command::new(script)
        .args(["sh", "-c", there, "sh", &from, &archive.to_string_lossy()])
        .output()
        .unwrap();
    if output.status.code() == Some(77) {
        let _ = std::io::Write::write_all(&mut std::io::stderr(), &output.stderr);
        return;
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}{error}");
    assert!(
        text.contains(&inspect(&daemon, "127.0.0.1:5000/made:1", "{{.Id}}")),
        "{text}"
    );
}

#[test]
fn each_platform_has_its_own_and_little_is_told_unless_asked() {
    let (daemon, registry) = (daemon(), Registry::start());
    let text = "FROM scratch\nARG WORD\nCOPY status /var/lib/dpkg/status\n";
    let context = Context::new(&[("Dockerfile", text), ("status", STATUS)]);
    let name = registry.name("made:1");
    let platforms = "--platform=linux/amd64,linux/arm64";
    let attest = "--attest=type=provenance,version=v1,builder-id=https://example.org/7";
    build(
        &daemon,
        &context,
        &[
            platforms,
            attest,
            "--build-arg=WORD=w",
            "-t",
            &name,
            "--push",
        ],
    );
    let repository = Repository(format!("http://127.0.0.1:{}/v2/made", registry.port));
    let index = repository.manifest("1");
    let manifests = index["manifests"].as_array().unwrap();
    assert_eq!(manifests.len(), 4);
    let about: Vec<&Value> = manifests[2..]
        .iter()
        .map(|one| &one["annotations"]["vnd.docker.reference.digest"])
        .collect();
    assert_eq!(about, [&manifests[0]["digest"], &manifests[1]["digest"]]);
    let (provenance, _) = repository.statement(&index, "https://slsa.dev/provenance/v1");
    assert_eq!(
        provenance["runDetails"]["builder"]["id"],
        "https://example.org/7"
    );
    assert_eq!(
        provenance["runDetails"]["metadata"]["buildkit_hermetic"],
        true
    );
    assert!(!provenance.to_string().contains("WORD"), "{provenance}");
    assert_eq!(
        provenance["buildDefinition"]["internalParameters"]["buildConfig"],
        Value::Null
    );
    // An archive has them too.
    let scratch = tempfile::tempdir().unwrap();
    let archive = scratch.path().join("made.tar");
    daemon
        .docker(&["save", "-o", &archive.to_string_lossy(), &name])
        .unwrap();
    run(Command::new("tar")
        .arg("xf")
        .arg(&archive)
        .arg("-C")
        .arg(scratch.path()));
    let blobs = fs::read_dir(scratch.path().join("blobs/sha256")).unwrap();
    let texts = blobs.map(|blob| fs::read(blob.unwrap().path()).unwrap());
    let statements = texts.filter(|text| {
        let value: Option<Value> = serde_json::from_slice(text).ok();
        value.is_some_and(|value| value["predicateType"] == "https://slsa.dev/provenance/v1")
    });
    assert_eq!(statements.count(), 2);
}

#[test]
fn what_cannot_be_attested_is_refused() {
    let daemon = daemon();
    let context = context();
    let path = context.path().to_string_lossy().into_owned();
    for (flags, error) in [
        (&["--sbom=true"][..], "tag is needed for attestations"),
        (
            &["-t", "a", "--attest=type=vsa"],
            "unsupported attestation type \"vsa\"",
        ),
        (
            &["-t", "a", "--sbom=generator="],
            "generator wants the name of an image",
        ),
        (
            &["-t", "a", "--provenance=mode=mid"],
            "unsupported provenance mode \"mid\"",
        ),
    ] {
        let text = refused(&daemon, &[&["build"], flags, &[&*path]].concat());
        assert!(text.contains(error), "{flags:?}: {text}");
    }
    // Said twice, the last counts.
    build(
        &daemon,
        &context,
        &[
            "--attest=type=sbom",
            "--sbom=false",
            "--provenance=false",
            "-q",
        ],
    );
}

/// A scanner that lists the files below `/etc` of what it is shown, and says how it was called.
const SCANNER: &str = "FROM busybox\nENV OWN=kept\nWORKDIR /work\nCOPY --chmod=755 scan /scan\nENTRYPOINT [\"/scan\"]\nCMD [\"word\"]\n";
const SCAN: &str = r#"#!/bin/sh -e
echo "$1 of $OWN in $(pwd)"
touch /tmp/room
if touch "$BUILDKIT_SCAN_SOURCE/mine" 2>/dev/null; then exit 9; fi
mkdir -p "$BUILDKIT_SCAN_DESTINATION"
for kind in ${KINDS:-https://spdx.dev/Document}; do
    printf '{"_type":"https://in-toto.io/Statement/v0.1","predicateType":"%s","predicate":{"name":"%s","files":"%s"}}' \
        "$kind" "$(basename "$BUILDKIT_SCAN_SOURCE")" "$(ls "$BUILDKIT_SCAN_SOURCE/etc" | xargs)" \
        >"$BUILDKIT_SCAN_DESTINATION/$(basename "$BUILDKIT_SCAN_SOURCE").spdx.json"
done
"#;

#[test]
fn an_image_may_scan_what_was_built() {
    let (daemon, registry) = (daemon(), Registry::start());
    let scanner = Context::new(&[("Dockerfile", SCANNER), ("scan", SCAN)]);
    let scanner_name = registry.name("scanner:1");
    build(&daemon, &scanner, &["-t", &scanner_name, "--push"]);
    // It is fetched where it is not there.
    daemon.cais(&["rmi", &scanner_name]).unwrap();
    let context = Context::new(&[
        (
            "Dockerfile",
            "FROM scratch\nCOPY status /etc/one\nCOPY status /etc/two\n",
        ),
        ("status", "x"),
    ]);
    let name = registry.name("made:1");
    let generator = format!("--sbom=generator={scanner_name}");
    let flags = [
        "--provenance=true",
        "--progress=plain",
        &generator,
        "-t",
        &name,
        "--push",
    ];
    let path = context.path().to_string_lossy().into_owned();
    let output = daemon
        .cais_output(&[&["build"], &flags[..], &[&path]].concat())
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    assert!(told.contains("word of kept in /work"), "{told}");
    let repository = Repository(format!("http://127.0.0.1:{}/v2/made", registry.port));
    let index = repository.manifest("1");
    let (document, _) = repository.statement(&index, "https://spdx.dev/Document");
    assert_eq!(
        document,
        serde_json::json!({ "name": "sbom", "files": "one two" })
    );
    let (provenance, _) = repository.statement(&index, "https://slsa.dev/provenance/v0.2");
    let materials = provenance["materials"].to_string();
    assert!(materials.contains("scanner@1"), "{materials}");
    assert_eq!(daemon.cais(&["ps", "-aq"]).unwrap(), "");
    // What it writes must be what it is for, and what it fails with is what the build fails with.
    for (line, error) in [
        (
            "ENV KINDS=https://example.org/other",
            "does not match required predicate type https://spdx.dev/Document",
        ),
        (
            "CMD []\nENTRYPOINT [\"false\"]",
            "returned a non-zero code: 1",
        ),
        (
            "CMD []\nENTRYPOINT []",
            "has no command to generate an sbom",
        ),
    ] {
        let text = format!("FROM {scanner_name}\n{line}\n");
        build(
            &daemon,
            &Context::new(&[("Dockerfile", &text)]),
            &["-t", "other"],
        );
        let said = refused(
            &daemon,
            &[
                "build",
                "--attest=type=sbom,generator=other",
                "-t",
                "a",
                &path,
            ],
        );
        assert!(said.contains(error), "{said}");
        assert_eq!(daemon.cais(&["ps", "-aq"]).unwrap(), "");
    }
}

#[test]
fn annotations_stand_in_the_document_they_are_for() {
    let (daemon, registry) = (daemon(), Registry::start());
    let context = Context::new(&[
        ("Dockerfile", "FROM scratch\nCOPY status /status\n"),
        ("status", "x"),
    ]);
    let name = registry.name("made:1");
    build(
        &daemon,
        &context,
        &["--annotation=org.x=a b", "-t", &name, "--push"],
    );
    let repository = Repository(format!("http://127.0.0.1:{}/v2/made", registry.port));
    let manifest = repository.manifest("1");
    assert_eq!(manifest["annotations"]["org.x"], "a b");
    assert_eq!(
        manifest["manifests"],
        Value::Null,
        "one manifest is no index"
    );
    let flags = [
        "--platform=linux/amd64,linux/arm64",
        "--annotation=index:i=1",
        "--annotation=manifest[linux/arm64]:m=2",
        "--annotation=manifest-descriptor[linux/amd64]:d=3",
        "-t",
        &name,
        "--push",
    ];
    build(&daemon, &context, &flags);
    let index = repository.manifest("1");
    assert_eq!(index["annotations"]["i"], "1");
    assert_eq!(index["manifests"][0]["annotations"]["d"], "3");
    let of = |place: usize| {
        let digest = index["manifests"][place]["digest"].as_str().unwrap();
        repository.manifest(digest)["annotations"].clone()
    };
    assert_eq!((of(0), &of(1)["m"]), (Value::Null, &Value::from("2")));
    let path = context.path().to_string_lossy().into_owned();
    for (flags, error) in [
        (
            &["-t", "a", "--annotation=index:a=b"][..],
            "index annotations not supported for single platform export",
        ),
        (
            &["-t", "a", "--annotation=imge:a=b"],
            "unknown annotation type \"imge\"",
        ),
        (
            &["--annotation=a=b"],
            "tag is needed for attestations and annotations",
        ),
    ] {
        let text = refused(&daemon, &[&["build"], flags, &[&*path]].concat());
        assert!(text.contains(error), "{flags:?}: {text}");
    }
}
