//! More of what archives try: sizes that disagree, links, odd documents, depth; and what GNU tar and Python read of the same
//! streams.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use cais_images::{RemoveOptions, digest};
use serde_json::{Value, json};

use crate::kit::{Root, Tar, TestImage, blob, load, load_layer};

#[test]
fn rustsec_2026_0068_the_pax_size_wins_over_a_size_in_the_header() {
    // The header says 3 bytes, pax says 600: a reader of the header would take the rest for entries.
    let payload = vec![b'p'; 600];
    let mut layer = Tar::default().pax(&[("size", b"600")]);
    layer = layer.sized("outer", 3).raw(&payload);
    let (root, layer) = (Root::new(), layer.file("after", b"ok").end());
    let diff = load_layer(&root, &root.open(), layer).unwrap();
    assert_eq!(std::fs::read(diff.join("outer")).unwrap(), payload);
    assert_eq!(std::fs::read(diff.join("after")).unwrap(), b"ok");
}

#[test]
fn rustsec_2018_0002_files_replace_links_and_do_not_write_through_them() {
    let outside = tempfile::tempdir().unwrap();
    let victim = outside.path().join("victim");
    std::fs::write(&victim, b"untouched").unwrap();
    let layer = Tar::default()
        .file("first", b"first")
        .hard_link("second", "first")
        .file("second", b"second")
        .symlink("third", victim.to_str().unwrap())
        .file("third", b"third")
        .end();
    let root = Root::new();
    let diff = load_layer(&root, &root.open(), layer).unwrap();
    assert_eq!(std::fs::read(diff.join("first")).unwrap(), b"first");
    assert_eq!(std::fs::read(diff.join("second")).unwrap(), b"second");
    assert_eq!(std::fs::read(diff.join("third")).unwrap(), b"third");
    assert_eq!(std::fs::read(&victim).unwrap(), b"untouched");
    // A hard link to a symbolic link is one to the link, not to the host's file.
    let layer = Tar::default()
        .symlink("link", victim.to_str().unwrap())
        .hard_link("twin", "link")
        .end();
    let diff = load_layer(&root, &root.open(), layer).unwrap();
    assert!(diff.join("twin").symlink_metadata().unwrap().is_symlink());
    assert_eq!(victim.metadata().unwrap().nlink(), 1);
}

#[test]
fn cve_2021_20291_a_bad_layer_blocks_nothing() {
    let (root, good) = (Root::new(), Tar::default().file("fine", b"fine").end());
    let store = Arc::new(root.open());
    let bad = Tar::default().file("a", &vec![1; 3 << 20]).end();
    let bad = TestImage::new(&["bad:1"], vec![good.clone(), bad, good.clone()]).docker_archive();
    let good = TestImage::new(&["good:1"], vec![good]).docker_archive();
    let threads: Vec<_> = (0..4)
        .map(|number| {
            let (store, bad) = (store.clone(), bad[..bad.len() / 2].to_vec());
            let good = good.clone();
            std::thread::spawn(move || match number % 2 {
                0 => assert!(load(&store, &bad).is_err()),
                _ => drop(load(&store, &good).unwrap()),
            })
        })
        .collect();
    threads
        .into_iter()
        .for_each(|thread| thread.join().unwrap());
    assert!(store.resolve("good:1").is_ok());
    assert_eq!(root.names("layers").len(), 1);
}

#[test]
fn cve_2025_47290_cve_2021_41091_layers_are_out_of_reach_for_others() {
    let root = Root::new();
    let layer = Tar::default().entry("suid", b'0', "", 0o4755, b"x").end();
    let diff = load_layer(&root, &root.open(), layer).unwrap();
    let mode = |path: &Path| path.metadata().unwrap().mode() & 0o7777;
    assert_eq!(mode(&diff.join("suid")), 0o4755);
    assert_eq!(mode(diff.parent().unwrap()) & 0o077, 0);
    assert_eq!(mode(&root.path().join("layers")) & 0o007, 0);
}

/// An archive of one layer with this manifest and configuration.
fn archive(config: &Value, manifest: &Value, layer: &[u8]) -> Vec<u8> {
    let config = config.to_string();
    let mut manifest = manifest.clone();
    if manifest[0]["Config"] == "CONFIG" {
        manifest[0]["Config"] = json!(blob(&digest(config.as_bytes())));
    }
    Tar::default()
        .file(&blob(&digest(config.as_bytes())), config.as_bytes())
        .file(&blob(&digest(layer)), layer)
        .file("manifest.json", manifest.to_string().as_bytes())
        .end()
}

#[test]
fn cve_2021_21285_malformed_documents_are_errors() {
    let root = Root::new();
    let store = root.open();
    let layer = Tar::default().file("f", b"x").end();
    let config = json!({"os": "linux", "rootfs": {"type": "layers", "diff_ids": [digest(&layer)]}});
    let path = blob(&digest(&layer));
    let good = json!([{"Config": "CONFIG", "RepoTags": ["odd:1"], "Layers": [path]}]);
    let with = |change: &dyn Fn(&mut Value, &mut Value)| {
        let (mut config, mut manifest) = (config.clone(), good.clone());
        change(&mut config, &mut manifest);
        load(&store, &archive(&config, &manifest, &layer))
    };
    with(&|_, _| {}).unwrap();
    for bad in [
        json!("sha256:00"),
        json!("sha512:00"),
        json!(7),
        json!(""),
        json!("../../x"),
    ] {
        let diffs = with(&|config, _| config["rootfs"]["diff_ids"][0] = bad.clone());
        assert!(diffs.is_err(), "{bad}");
        let tags = with(&|_, manifest| manifest[0]["RepoTags"][0] = bad.clone());
        // `sha256:00` is a fine name and tag.
        let is_name = bad.as_str().is_some_and(|text| text.starts_with("sha"));
        assert!(is_name || tags.is_err(), "{bad}");
        let layers = with(&|_, manifest| manifest[0]["Layers"][0] = bad.clone());
        assert!(layers.is_err(), "{bad}");
        let configs = with(&|_, manifest| manifest[0]["Config"] = bad.clone());
        assert!(configs.is_err(), "{bad}");
    }
    assert!(with(&|config, _| config["rootfs"] = Value::Null).is_err());
    assert!(with(&|_, manifest| manifest[0]["Layers"] = Value::Null).is_err());
    assert!(with(&|_, manifest| *manifest = json!({})).is_err());
    assert!(with(&|_, manifest| *manifest = json!([null])).is_err());
    assert_eq!(store.list(true).len(), 1);
}

#[test]
fn cve_2014_9358_ids_and_paths_of_an_archive_lead_nowhere_outside() {
    let root = Root::new();
    let store = root.open();
    // Beside the data root, where `..` from any of its directories may lead.
    let outside = root.path().with_file_name("outside");
    std::fs::create_dir(&outside).unwrap();
    let layer = Tar::default().file("f", b"x").end();
    let config = json!({"os": "linux", "rootfs": {"type": "layers", "diff_ids": [digest(&layer)]}});
    std::fs::write(outside.join("config"), config.to_string()).unwrap();
    std::fs::write(outside.join("layer.tar"), &layer).unwrap();
    let before = files(&outside);
    let up = "../../../outside";
    let absolute = outside.to_string_lossy().into_owned();
    for base in [up, "../outside", "a/../../outside", &absolute] {
        let (a, b) = (format!("{base}/config"), format!("{base}/layer.tar"));
        for (config_path, layer_path) in [(&*a, None), ("CONFIG", Some(&*b)), (&*a, Some(&*b))] {
            let own = blob(&digest(&layer));
            let layer_path = layer_path.unwrap_or(&own);
            let manifest = json!([{"Config": config_path, "RepoTags": [], "Layers": [layer_path]}]);
            let error = load(&store, &archive(&config, &manifest, &layer)).unwrap_err();
            let says = error.contains("outside of") || error.contains("no such file");
            assert!(says, "{config_path} {layer_path}: {error}");
        }
        // The ids that Docker's archives had before manifest.json, and links to there.
        let old = Tar::default()
            .file(
                "repositories",
                format!(r#"{{"x":{{"1":"{up}"}}}}"#).as_bytes(),
            )
            .symlink("link", base)
            .file("link/json", b"{}")
            .file("link/layer.tar", &layer);
        load(&store, &old.end()).unwrap_err();
    }
    assert_eq!(files(&outside), before);
    assert!(store.list(true).is_empty());
}

#[test]
fn cve_2022_24778_encrypted_layers_are_not_taken_for_plain_ones_that_are_there() {
    let root = Root::new();
    let store = root.open();
    let layer = Tar::default().file("f", b"x").end();
    let config = json!({"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": [digest(&layer)]}});
    let plain = json!([{"Config": "CONFIG", "RepoTags": [], "Layers": [blob(&digest(&layer))]}]);
    load(&store, &archive(&config, &plain, &layer)).unwrap();
    let config = config.to_string();
    let describe = |kind: &str, bytes: &[u8]| json!({"mediaType": kind, "digest": digest(bytes), "size": bytes.len()});
    let kind = "application/vnd.oci.image.layer.v1.tar+encrypted";
    let manifest = json!({
        "schemaVersion": 2,
        "config": describe("application/vnd.oci.image.config.v1+json", config.as_bytes()),
        "layers": [describe(kind, b"ciphertext")],
    })
    .to_string();
    let manifest = manifest.as_bytes();
    let index =
        json!({"manifests": [describe("application/vnd.oci.image.manifest.v1+json", manifest)]});
    let secret = Tar::default()
        .file(&blob(&digest(config.as_bytes())), config.as_bytes())
        .file(&blob(&digest(manifest)), manifest)
        .file("index.json", index.to_string().as_bytes());
    let error = load(&store, &secret.end()).unwrap_err();
    assert!(
        error.contains("is encrypted, which is not supported"),
        "{error}"
    );
}

#[test]
fn cve_2024_36620_cve_2024_36623_odd_histories_are_told() {
    let root = Root::new();
    let store = root.open();
    let layer = Tar::default().file("f", b"x").end();
    for history in [
        Value::Null,
        json!([]),
        json!([{"empty_layer": true}]),
        json!([{}, {}, {"created": "never"}]),
        json!([{"created_by": null, "comment": null, "created": null}]),
    ] {
        let config = json!({
            "history": history, "created": "not a time",
            "rootfs": {"type": "layers", "diff_ids": [digest(&layer)]},
        });
        let manifest =
            json!([{"Config": "CONFIG", "RepoTags": ["odd:1"], "Layers": [blob(&digest(&layer))]}]);
        load(&store, &archive(&config, &manifest, &layer)).unwrap();
        let lines = store.history("odd:1").unwrap();
        assert_eq!(lines.len(), history.as_array().map_or(0, Vec::len));
        assert_eq!(store.inspect("odd:1").unwrap().image.created, 0);
    }
}

#[test]
fn deep_and_long_paths_are_unpacked_or_refused_and_can_be_removed() {
    let root = Root::new();
    let store = root.open();
    let deep = "d/".repeat(1900) + "file";
    let layer = Tar::default()
        .pax(&[("path", deep.as_bytes())])
        .file("x", b"deep")
        .end();
    load_layer(&root, &store, layer).unwrap();
    let mut saved = Vec::new();
    store
        .save(&["test:layer".to_owned()], None, &mut saved)
        .unwrap();
    let options = RemoveOptions {
        force: true,
        prune_parents: true,
    };
    store.remove_image("test:layer", options, &[]).unwrap();
    assert_eq!(root.names("layers"), Vec::<String>::new());
    for (path, want) in [
        ("n".repeat(256), "name too long"),
        ("p/".repeat(2100), "path of 4200 bytes"),
    ] {
        let layer = Tar::default()
            .pax(&[("path", path.as_bytes())])
            .file("x", b"")
            .end();
        let error = load_layer(&root, &store, layer).unwrap_err();
        assert!(error.contains(want), "{error}");
    }
    let layer = Tar::default()
        .pax(&[("SCHILY.xattr.user.huge", &vec![b'x'; 70_000])])
        .file("x", b"")
        .end();
    let error = load_layer(&root, &store, layer).unwrap_err();
    assert!(error.contains("setxattr"), "{error}");
    assert_eq!(root.names("layers"), Vec::<String>::new());
}

/// Regular files below a directory, and what is in them.
fn files(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![directory.to_owned()];
    while let Some(next) = waiting.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            let kind = path.symlink_metadata().unwrap();
            if kind.is_dir() {
                waiting.push(path);
            } else if kind.is_file() {
                let name = path
                    .strip_prefix(directory)
                    .unwrap()
                    .to_string_lossy()
                    .into_owned();
                found.insert(name, std::fs::read(&path).unwrap());
            }
        }
    }
    found
}

/// What another program unpacks; none when it refuses the stream.
fn unpacked_by(
    program: &str,
    arguments: &[&str],
    stream: &[u8],
) -> Option<BTreeMap<String, Vec<u8>>> {
    let directory = tempfile::tempdir().unwrap();
    let mut child = Command::new(program)
        .args(arguments)
        .current_dir(directory.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // One that refuses the stream does not read it to its end.
    let _ = child.stdin.take().unwrap().write_all(stream);
    child
        .wait()
        .unwrap()
        .success()
        .then(|| files(directory.path()))
}

const PYTHON: &str = "import sys, tarfile\n\
tarfile.open(fileobj=sys.stdin.buffer, mode='r|').extractall('.')\n";

#[test]
fn cve_2025_62518_gnu_tar_and_python_read_the_same_entries() {
    let inner = Tar::default().file("hidden", b"evil").end();
    let size = inner.len().to_string();
    let long = format!("{}name", "deep/".repeat(40));
    let mut gnu_long = long.clone().into_bytes();
    gnu_long.push(0);
    let long_link = |tar: Tar| tar.entry("././@LongLink", b'L', "", 0o644, &gnu_long);
    let after = |tar: Tar| tar.file("after", b"ok").end();
    let corpus = [
        (
            "size in pax, none in the header",
            after(
                Tar::default()
                    .pax(&[("size", size.as_bytes())])
                    .sized("outer", 0)
                    .raw(&inner),
            ),
        ),
        (
            "size in pax, another in the header",
            after(
                Tar::default()
                    .pax(&[("size", size.as_bytes())])
                    .sized("outer", 9)
                    .raw(&inner),
            ),
        ),
        (
            "the same size in both",
            after(Tar::default().pax(&[("size", b"3")]).file("outer", b"abc")),
        ),
        (
            "the last of two sizes",
            after(
                Tar::default()
                    .pax(&[("size", b"1"), ("size", b"3")])
                    .file("outer", b"abc"),
            ),
        ),
        (
            "path in pax",
            after(
                Tar::default()
                    .pax(&[("path", long.as_bytes())])
                    .file("short", b"1"),
            ),
        ),
        (
            "long name of GNU tar",
            after(long_link(Tar::default()).file("short", b"2")),
        ),
        (
            "pax size before a long name",
            after(
                long_link(Tar::default().pax(&[("size", b"3")]))
                    .sized("short", 0)
                    .raw(b"abc"),
            ),
        ),
        (
            "long name before pax size",
            after(
                long_link(Tar::default())
                    .pax(&[("size", b"3")])
                    .sized("short", 0)
                    .raw(b"abc"),
            ),
        ),
        (
            "global header",
            after(
                Tar::default()
                    .entry("g", b'g', "", 0o644, b"13 comment=x\n")
                    .file("one", b"1"),
            ),
        ),
        (
            "an archive as a file",
            after(Tar::default().file("outer", &inner)),
        ),
        (
            "contiguous file",
            after(Tar::default().entry("seven", b'7', "", 0o644, b"777")),
        ),
    ];
    for (what, stream) in corpus {
        let root = Root::new();
        let ours = load_layer(&root, &root.open(), stream.clone()).map(|diff| files(&diff));
        let gnu = unpacked_by("tar", &["-xf", "-", "--no-same-owner"], &stream);
        let python = unpacked_by("python3", &["-c", PYTHON], &stream);
        let ours = ours.unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(
            ours.get("after").map(Vec::as_slice),
            Some(&b"ok"[..]),
            "{what}"
        );
        assert!(!ours.contains_key("hidden"), "{what}");
        assert_eq!(Some(&ours), gnu.as_ref(), "GNU tar: {what}");
        assert_eq!(Some(&ours), python.as_ref(), "Python: {what}");
    }
}
