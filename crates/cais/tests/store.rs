//! The image store on disk: `system check`.

use std::os::unix::fs::FileExt;

use crate::{daemon, refused};

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
