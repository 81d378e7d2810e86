//! Binds, mounts, volumes, the read/write layer.

use std::fs;

use crate::daemon;

#[test]
fn binds_make_missing_folders_and_keep_flags() {
    let daemon = daemon();
    let source = daemon.scratch().join("made/for/you");
    let bind = format!("{}:/data", source.display());
    daemon
        .cais(&[
            "run",
            "--rm",
            "-v",
            &bind,
            "busybox",
            "sh",
            "-c",
            "echo x > /data/file",
        ])
        .unwrap();
    assert_eq!(fs::read_to_string(source.join("file")).unwrap(), "x\n");
    let output = daemon
        .cais_output(&[
            "run",
            "--rm",
            "-v",
            &format!("{bind}:ro"),
            "busybox",
            "touch",
            "/data/file",
        ])
        .unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("Read-only file system"));
    let file = format!("{}:/etc/one-file", source.join("file").display());
    assert_eq!(
        daemon
            .cais(&[
                "run",
                "--rm",
                "-v",
                &file,
                "busybox",
                "cat",
                "/etc/one-file"
            ])
            .unwrap(),
        "x\n"
    );
}

#[test]
fn a_new_volume_gets_the_image_files() {
    let daemon = daemon();
    let count = daemon
        .cais(&[
            "run",
            "--rm",
            "-v",
            "copied:/bin",
            "busybox",
            "sh",
            "-c",
            "ls /bin | wc -l",
        ])
        .unwrap();
    assert!(count.trim().parse::<u32>().unwrap() > 100);
    let path = daemon
        .cais(&["volume", "inspect", "-f", "{{.Mountpoint}}", "copied"])
        .unwrap();
    assert!(fs::metadata(format!("{}/busybox", path.trim())).is_ok());
    let empty = daemon
        .cais(&[
            "run",
            "--rm",
            "--mount",
            "type=volume,src=bare,dst=/bin2,volume-nocopy",
            "busybox",
            "ls",
            "/bin2",
        ])
        .unwrap();
    assert_eq!(empty, "");
    daemon
        .cais(&[
            "run",
            "-d",
            "--name",
            "user",
            "-v",
            "copied:/x",
            "busybox",
            "sleep",
            "1000",
        ])
        .unwrap();
    let error = daemon
        .cais(&["volume", "rm", "copied"])
        .unwrap_err()
        .to_string();
    assert!(error.contains("volume is in use"), "{error}");
    daemon.cais(&["rm", "-f", "user"]).unwrap();
    daemon.cais(&["volume", "rm", "copied"]).unwrap();
    assert_eq!(daemon.cais(&["volume", "ls", "-q"]).unwrap(), "bare\n");
}

#[test]
fn anonymous_volumes_go_with_rm() {
    let daemon = daemon();
    daemon
        .cais(&["run", "--rm", "-v", "/data", "busybox", "touch", "/data/x"])
        .unwrap();
    assert_eq!(daemon.cais(&["volume", "ls", "-q"]).unwrap(), "");
    daemon
        .cais(&["run", "--name", "kept", "-v", "/data", "busybox", "true"])
        .unwrap();
    daemon.cais(&["rm", "kept"]).unwrap();
    assert_eq!(
        daemon
            .cais(&["volume", "ls", "-q"])
            .unwrap()
            .lines()
            .count(),
        1
    );
}

#[test]
fn the_layer_shows_changes_and_dies_with_the_container() {
    let daemon = daemon();
    daemon
        .cais(&[
            "run",
            "--name",
            "changer",
            "busybox",
            "sh",
            "-c",
            "echo x > /new; rm /etc/group; echo y >> /etc/passwd",
        ])
        .unwrap();
    assert_eq!(
        daemon.docker(&["diff", "changer"]).unwrap(),
        "C /etc\nD /etc/group\nC /etc/passwd\nA /new\n"
    );
    assert_eq!(
        daemon
            .cais(&["run", "--rm", "busybox", "ls", "/"])
            .unwrap()
            .lines()
            .filter(|name| *name == "new")
            .count(),
        0
    );
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(
        !mounts.contains(&*daemon.data_root().to_string_lossy()),
        "nothing is mounted on the host"
    );
    daemon.cais(&["rm", "changer"]).unwrap();
    let left: Vec<_> = fs::read_dir(daemon.data_root().join("containers"))
        .unwrap()
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn images_are_shared_saved_and_removed() {
    let daemon = daemon();
    let path = daemon.scratch().join("saved.tar");
    let path = path.to_string_lossy();
    daemon.cais(&["tag", "busybox", "example/copy:1"]).unwrap();
    daemon
        .docker(&["save", "-o", &path, "busybox", "example/copy:1"])
        .unwrap();
    let id = daemon
        .cais(&["images", "-q", "--no-trunc", "busybox"])
        .unwrap();
    daemon.cais(&["rmi", "example/copy:1"]).unwrap();
    daemon.cais(&["rmi", "busybox"]).unwrap();
    assert_eq!(daemon.cais(&["images", "-q"]).unwrap(), "");
    let layers: Vec<_> = fs::read_dir(daemon.data_root().join("layers"))
        .unwrap()
        .collect();
    assert!(layers.is_empty(), "{layers:?}");
    daemon.docker(&["load", "-i", &path]).unwrap();
    assert_eq!(
        daemon
            .cais(&["images", "-q", "--no-trunc", "busybox"])
            .unwrap(),
        id
    );
    assert_eq!(
        daemon
            .cais(&["run", "--rm", "example/copy:1", "echo", "again"])
            .unwrap(),
        "again\n"
    );
}
