//! Binds, mounts, volumes, the read/write layer.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use cais_testkit::wait_until;

use crate::security::{inside, mount_at};
use crate::{daemon, probe};

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
    // Files go in the background.
    wait_until("the container's files to be gone", || {
        let mut left = fs::read_dir(daemon.data_root().join("containers")).unwrap();
        left.next().is_none()
    });
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

#[test]
fn every_form_of_mount_is_understood() {
    let daemon = daemon();
    let source = daemon.scratch().join("source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("file"), "x\n").unwrap();
    let source = source.to_string_lossy().into_owned();
    let probe = |flags: &[&str]| {
        let script = "cat /proc/self/mountinfo; (touch /t/written && rm /t/written) 2>/dev/null && echo writable";
        let text = inside(&daemon, flags, &format!("{script}; true"));
        let line = mount_at(&text, "/t").unwrap_or_else(|| panic!("{flags:?}: {text}"));
        (line.to_owned(), text.ends_with("writable\n"))
    };
    for (flag, writable) in [
        (format!("type=bind,source={source},target=/t"), true),
        (format!("type=bind,src={source},dst=/t,readonly"), false),
        (
            format!("type=bind,src={source},destination=/t,ro=true"),
            false,
        ),
        (
            format!(
                "type=bind,src={source},dst=/t,bind-propagation=rslave,bind-recursive=disabled"
            ),
            true,
        ),
        ("type=volume,source=named,target=/t".to_owned(), true),
        ("source=named,dst=/t,readonly".to_owned(), false),
        ("type=volume,dst=/t".to_owned(), true),
        ("type=tmpfs,dst=/t".to_owned(), true),
        ("type=tmpfs,dst=/t,readonly".to_owned(), false),
    ] {
        assert_eq!(probe(&["--mount", &flag]).1, writable, "{flag}");
    }
    for (flag, parts) in [
        ("--tmpfs=/t", &["rw,nosuid,nodev,noexec,relatime"][..]),
        (
            "--tmpfs=/t:exec,suid,size=1m,mode=1770,uid=33",
            &["rw,nodev,relatime", "size=1024k", "mode=1770", "uid=33"],
        ),
        ("--tmpfs=/t:ro", &["ro,nosuid,nodev,noexec"]),
        (
            "--mount=type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=700",
            &["size=1024k", "mode=700", "noexec"],
        ),
    ] {
        let (line, _) = probe(&[flag]);
        assert!(
            parts.iter().all(|part| line.contains(part)),
            "{flag}: {line}"
        );
    }
}

#[test]
fn wrong_mounts_are_refused_in_dockers_words() {
    let daemon = daemon();
    daemon
        .cais(&["run", "--rm", "-v=named:/v", "busybox", "mkdir", "/v/sub"])
        .unwrap();
    for (flag, code, why) in [
        (
            "--mount=type=bind,src=/no/such,dst=/t",
            125,
            "bind source path does not exist: /no/such",
        ),
        (
            "--mount=type=odd,src=/tmp,dst=/t",
            125,
            "mount type unknown: \"odd\"",
        ),
        (
            "--mount=type=bind,src=/tmp,dst=t",
            125,
            "mount path must be absolute",
        ),
        (
            "--mount=type=volume,src=named,dst=/t,volume-subpath=none",
            127,
            "no such file or directory",
        ),
        (
            "--mount=type=volume,src=named,dst=/t,volume-subpath=../x",
            125,
            "subpath must be a relative path within the volume",
        ),
        ("-v=/tmp:/t:odd", 125, "invalid mode: odd"),
        ("-v=/tmp:/", 125, "destination can't be '/'"),
        (
            "-v=bad name:/t",
            125,
            "includes invalid characters for a local volume name",
        ),
        ("--volumes-from=nobody", 125, "No such container: nobody"),
    ] {
        let output = daemon
            .cais_output(&["run", "--rm", flag, "busybox", "true"])
            .unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(text.contains(why), "{flag}: {text}");
        assert_eq!(output.status.code(), Some(code), "{flag}: {text}");
    }
    let twice = daemon.cais(&["run", "--rm", "-v=a:/t", "-v=b:/t", "busybox", "true"]);
    assert!(
        twice
            .unwrap_err()
            .to_string()
            .contains("Duplicate mount point: /t")
    );
    let part = inside(
        &daemon,
        &["--mount=type=volume,src=named,dst=/t,volume-subpath=sub"],
        "touch /t/x && ls /t",
    );
    assert_eq!(part, "x\n");
    // A link in the volume does not lead out of it.
    let path = daemon
        .cais(&["volume", "inspect", "-f", "{{.Mountpoint}}", "named"])
        .unwrap();
    symlink("/etc", std::path::Path::new(path.trim()).join("link")).unwrap();
    let away = [
        "run",
        "--rm",
        "--mount=type=volume,src=named,dst=/t,volume-subpath=link",
        "busybox",
        "true",
    ];
    assert!(
        daemon
            .cais(&away)
            .unwrap_err()
            .to_string()
            .contains("cannot access path")
    );
}

#[test]
fn volumes_from_another_container_are_the_same() {
    let daemon = daemon();
    let bind = format!("-v={}:/bound:ro", daemon.scratch().display());
    daemon
        .cais(&[
            "run",
            "-d",
            "--name=owner",
            "-v=named:/named",
            "-v=/anonymous",
            &bind,
            "busybox",
            "sleep",
            "1000",
        ])
        .unwrap();
    let script = "touch /named/x /anonymous/x 2>/dev/null && echo wrote; touch /bound/x 2>/dev/null || echo kept";
    assert_eq!(
        inside(&daemon, &["--volumes-from=owner:ro"], script),
        "kept\n"
    );
    assert_eq!(
        inside(&daemon, &["--volumes-from=owner"], script),
        "wrote\nkept\n"
    );
    let seen = daemon
        .cais(&["exec", "owner", "ls", "/named", "/anonymous"])
        .unwrap();
    assert_eq!(seen.matches('x').count(), 2, "{seen}");
    // The removal of who borrowed them takes none away.
    assert_eq!(
        daemon
            .cais(&["volume", "ls", "-q"])
            .unwrap()
            .lines()
            .count(),
        2
    );
}

#[test]
fn copies_into_volumes_keep_owners_modes_and_links() {
    let daemon = daemon();
    probe::import(&daemon, "owned", &["VOLUME /data"], |root| {
        let data = root.join("data");
        fs::create_dir_all(data.join("private")).unwrap();
        fs::write(data.join("private/tool"), "#!").unwrap();
        fs::set_permissions(
            data.join("private/tool"),
            fs::Permissions::from_mode(0o4711),
        )
        .unwrap();
        fs::set_permissions(data.join("private"), fs::Permissions::from_mode(0o2750)).unwrap();
        symlink("private/tool", data.join("link")).unwrap();
        fs::hard_link(data.join("private/tool"), data.join("hard")).unwrap();
        fs::set_permissions(&data, fs::Permissions::from_mode(0o1777)).unwrap();
        std::os::unix::fs::chown(data.join("private"), Some(33), Some(44)).unwrap();
    });
    daemon
        .cais(&["run", "--rm", "-v=kept:/data", "owned", "true"])
        .unwrap();
    let path = daemon
        .cais(&["volume", "inspect", "-f", "{{.Mountpoint}}", "kept"])
        .unwrap();
    let path = std::path::Path::new(path.trim());
    let about = |name: &str| fs::symlink_metadata(path.join(name)).unwrap();
    assert_eq!(about("").mode() & 0o7777, 0o1777);
    let private = about("private");
    assert_eq!(
        (private.mode() & 0o7777, private.uid(), private.gid()),
        (0o2750, 33, 44)
    );
    assert_eq!(about("private/tool").mode() & 0o7777, 0o4711);
    assert_eq!(
        fs::read_link(path.join("link")).unwrap().to_str(),
        Some("private/tool")
    );
    assert_eq!(about("hard").ino(), about("private/tool").ino());
    // Copied once: what was deleted stays deleted.
    daemon
        .cais(&[
            "run",
            "--rm",
            "-v=kept:/data",
            "owned",
            "sh",
            "-c",
            "busybox rm -r /data/*",
        ])
        .unwrap();
    assert_eq!(
        daemon
            .cais(&["run", "--rm", "-v=kept:/data", "owned", "ls", "/data"])
            .unwrap(),
        ""
    );
}

#[test]
fn a_read_only_root_leaves_only_what_was_asked_for() {
    let daemon = daemon();
    let script = "for f in /x /tmp/x /etc/hosts /etc/resolv.conf /etc/hostname /dev/shm/x /volume/x /scratch/x; do (echo >>$f) 2>/dev/null && echo $f; done; true";
    let written = inside(
        &daemon,
        &["--read-only", "-v=/volume", "--tmpfs=/scratch"],
        script,
    );
    assert_eq!(written, "/dev/shm/x\n/volume/x\n/scratch/x\n");
}

#[test]
fn only_what_outlives_its_process_is_brought_to_the_disk() {
    let daemon = daemon();
    // One option in /proc/mounts says whether fsync(2) means anything, and whether the end of the mount waits for the disk.
    let volatile = |name: &str| {
        let args = ["exec", name, "grep", " / ", "/proc/mounts"];
        daemon.cais(&args).unwrap().contains("volatile")
    };
    let sleep = ["busybox", "sh", "-c", "echo here >>/file; sleep 1000"];
    for (name, flags, passing) in [
        (
            "passing",
            &["run", "-d", "--rm", "--name=passing"][..],
            true,
        ),
        ("lasting", &["run", "-d", "--name=lasting"], false),
    ] {
        daemon.cais(&[flags, &sleep].concat()).unwrap();
        assert_eq!(volatile(name), passing, "{name}");
        daemon.cais(&["restart", "-t=0", name]).unwrap();
        assert_eq!(volatile(name), passing, "{name}");
        let read = daemon.cais(&["exec", name, "cat", "/file"]).unwrap();
        assert!(read.starts_with("here\n"), "{read}");
    }
}
