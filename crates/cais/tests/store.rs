//! The image store on disk: `system check`, kills at any point, and images that go by themselves.

use std::os::unix::fs::FileExt;

use cais_testkit::{BaseImage, TestDaemon, base_image, wait_until};

use crate::{CAIS, daemon, refused};

#[test]
fn a_damaged_layer_is_found_and_mended_by_a_load() {
    let daemon = daemon();
    let clean = daemon.cais(&["system", "check"]).unwrap();
    assert!(clean.contains("all whole"), "{clean}");
    assert_eq!(daemon.cais(&["system", "check", "-q"]).unwrap(), "");
    let layer = daemon.cais(&[
        "image",
        "inspect",
        "-f",
        "{{index .RootFS.Layers 0}}",
        "busybox",
    ]);
    let layer = layer.unwrap().trim().replace("sha256:", "");
    let directory = daemon.data_root().join("layers").join(&layer);
    let program = directory.join("diff/bin/busybox");
    let file = std::fs::File::options()
        .read(true)
        .write(true)
        .open(&program)
        .unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 100_000).unwrap();
    file.write_all_at(&[byte[0] ^ 1], 100_000).unwrap();
    drop(file);
    std::fs::create_dir(daemon.data_root().join("layers/stranger")).unwrap();
    for (args, orphan) in [
        (
            &["system", "check"][..],
            "orphan layer stranger: belongs to no record\n",
        ),
        (
            &["system", "check", "--repair"],
            "orphan layer stranger: belongs to no record: repaired\n",
        ),
    ] {
        let output = daemon.cais_output(args).unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(
            text.contains(&format!("damaged layer {}", &layer[..12])),
            "{text}"
        );
        assert!(text.contains("(needed by busybox:latest)"), "{text}");
        assert!(text.contains(orphan), "{text}");
    }
    let error = refused(&daemon, &["run", "--rm", "busybox", "true"]);
    assert!(
        error.contains("is damaged: pull or load the image again"),
        "{error}"
    );
    let archive = cais_testkit::base_image(cais_testkit::BaseImage::Busybox).unwrap();
    daemon
        .docker(&["load", "-i", &archive.to_string_lossy()])
        .unwrap();
    daemon.cais(&["run", "--rm", "busybox", "true"]).unwrap();
    let clean = daemon.cais(&["system", "check"]).unwrap();
    assert!(clean.contains("all whole"), "{clean}");
}

const POINTS: [&str; 7] = [
    "unpack-begin",
    "unpack-entry:2",
    "upper-entry:2",
    "commit-unsynced",
    "commit-placed",
    "commit-before-record",
    "commit-recorded",
];

#[test]
fn killed_at_any_point_of_load_import_and_commit_the_store_is_whole() {
    let mut daemon = daemon();
    let path = |name: &str| daemon.scratch().join(name).to_string_lossy().into_owned();
    let (saved, tree) = (path("saved.tar"), path("tree.tar"));
    let make = "mkdir /a; echo 1 > /a/1; echo 2 > /a/2; rm /etc/group";
    daemon
        .cais(&["run", "--name", "seed", "busybox", "sh", "-c", make])
        .unwrap();
    daemon.docker(&["commit", "seed", "made"]).unwrap();
    daemon.docker(&["save", "-o", &saved, "made"]).unwrap();
    daemon.docker(&["export", "-o", &tree, "seed"]).unwrap();
    daemon.docker(&["rmi", "made"]).unwrap();
    let ways = [
        &["load", "-q", "-i", &saved][..],
        &["import", &tree, "made"],
        &["commit", "seed", "made"],
    ];
    for way in ways {
        for point in POINTS {
            let is_unpack = point.starts_with("unpack");
            if (way[0] == "commit") == is_unpack
                || (way[0] != "commit") == point.starts_with("upper")
            {
                continue;
            }
            daemon
                .restart_with(&[&format!("--failpoint={point}")])
                .unwrap();
            let output = daemon.client("docker", way).output().unwrap();
            assert!(!output.status.success(), "{way:?} outlived {point}");
            daemon.restart_with(&[]).unwrap();
            let whole = daemon.cais(&["system", "check"]).unwrap();
            assert!(whole.contains("all whole"), "{way:?} {point}: {whole}");
            daemon.docker(way).unwrap();
            let seen = daemon
                .docker(&["run", "--rm", "made", "cat", "/a/1", "/a/2"])
                .unwrap();
            assert_eq!(seen, "1\n2\n", "{way:?} {point}");
            daemon.docker(&["rmi", "made"]).unwrap();
        }
    }
    let left = daemon.docker(&["images", "-aq"]).unwrap();
    assert_eq!(left.lines().count(), 1, "{left}");
}

#[test]
fn old_images_go_by_themselves_but_not_used_or_kept_ones() {
    let flags = [
        "--image-gc-max-age=1s",
        "--image-gc-interval=100ms",
        "--image-gc-keep=kept",
    ];
    let daemon = TestDaemon::start_with(CAIS, &flags).unwrap();
    let load = |image| {
        let archive = base_image(image).unwrap();
        daemon
            .cais(&["load", "-q", "-i", &archive.to_string_lossy()])
            .unwrap();
    };
    load(BaseImage::Busybox);
    daemon
        .cais(&["create", "--name", "user", "busybox"])
        .unwrap();
    load(BaseImage::HelloWorld);
    daemon.cais(&["tag", "hello-world", "kept:1"]).unwrap();
    let archive = base_image(BaseImage::Busybox).unwrap();
    daemon
        .cais(&["import", &archive.to_string_lossy(), "old:1"])
        .unwrap();
    wait_until("the old image to go", || {
        !daemon
            .cais(&["images", "--format", "{{.Repository}}"])
            .unwrap()
            .contains("old")
    });
    daemon
        .cais(&["image", "inspect", "busybox", "kept:1"])
        .unwrap();
    let error = TestDaemon::start_with(CAIS, &["--image-gc-low-watermark=5"]).unwrap_err();
    assert!(
        error.to_string().contains("--image-gc-high-watermark"),
        "{error:#}"
    );
}
