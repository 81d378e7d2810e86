//! config.md, "Mounts".

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

use serde_json::json;

use super::{Bundle, only_ours};

/// The options of a mount of a running container, as mountinfo tells them: those of the mount and those of the file system.
fn options(pid: i32, point: &str) -> (String, String) {
    let text = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
    let line = text
        .lines()
        .rfind(|line| line.split(' ').nth(4) == Some(point));
    let line = line.unwrap_or_else(|| panic!("{point} is not mounted: {text}"));
    let fields: Vec<_> = line.split(' ').collect();
    (fields[5..].join(" "), (*fields.last().unwrap()).to_owned())
}

#[test]
fn file_systems_with_options() {
    let mut bundle = Bundle::idle();
    bundle.mount(json!({
        "destination": "/made/tmp", "type": "tmpfs", "source": "tmpfs",
        "options": ["nosuid", "nodev", "noexec", "ro", "noatime", "size=1m", "mode=750"],
    }));
    let pid = bundle.start();
    let (own, fs_options) = options(pid, "/made/tmp");
    for option in ["ro", "nosuid", "nodev", "noexec", "noatime"] {
        assert!(own.contains(option), "{option}: {own}");
    }
    assert!(fs_options.contains("size=1024k"), "{fs_options}");
    let directory = fs::metadata(format!("/proc/{pid}/root/made/tmp")).unwrap();
    assert_eq!(directory.mode() & 0o7777, 0o750);
}

#[test]
fn binds_of_directories_and_files() {
    let mut bundle = Bundle::new("cat /there/file /alone; touch /there/new && echo new");
    let outside = bundle.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("file"), "shown\n").unwrap();
    bundle.mount(
        json!({"destination": "/there", "type": "bind", "source": outside, "options": ["bind"]}),
    );
    bundle.mount(json!({
        "destination": "/alone", "source": outside.join("file"), "options": ["rbind", "ro"],
    }));
    assert_eq!(bundle.run(), "shown\nshown\nnew\n");
    assert!(outside.join("new").exists());
}

#[test]
fn a_read_only_bind_is_read_only() {
    let mut bundle = Bundle::idle();
    let outside = bundle.path().join("outside");
    fs::create_dir(&outside).unwrap();
    bundle.mount(json!({
        "destination": "/there", "type": "bind", "source": outside,
        "options": ["rbind", "rprivate", "ro", "nosuid", "nodev", "noexec"],
    }));
    let pid = bundle.start();
    let (own, _) = options(pid, "/there");
    assert!(own.starts_with("ro,nosuid,nodev,noexec"), "{own}");
    let error = bundle.must_not(&["exec", &bundle.id, "touch", "/there/x"]);
    assert!(error.contains("Read-only"), "{error}");
}

#[test]
fn options_that_go_below() {
    let mut bundle = Bundle::idle();
    bundle.mount(json!({"destination": "/dev/low", "type": "tmpfs", "source": "tmpfs"}));
    bundle.mount(json!({
        "destination": "/sysfs", "type": "bind", "source": "/sys", "options": ["rbind", "rro"],
    }));
    let pid = bundle.start();
    let text = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
    let below = text
        .lines()
        .filter(|line| line.split(' ').nth(4).unwrap().starts_with("/sysfs"));
    let below: Vec<_> = below.collect();
    assert!(below.len() > 1, "{text}");
    for line in below {
        assert!(line.split(' ').nth(5).unwrap().starts_with("ro"), "{line}");
    }
}

#[test]
fn propagation_of_a_mount() {
    let mut bundle = Bundle::idle();
    let outside = bundle.path().join("outside");
    fs::create_dir(&outside).unwrap();
    for (name, option) in [("a", "rshared"), ("b", "rprivate")] {
        bundle.mount(json!({
            "destination": format!("/{name}"), "type": "bind", "source": outside,
            "options": ["rbind", option],
        }));
    }
    let pid = bundle.start();
    assert!(options(pid, "/a").0.contains("shared:"));
    assert!(!options(pid, "/b").0.contains("shared:"));
}

#[test]
fn mounts_are_made_in_order() {
    let mut bundle = Bundle::new("mount | grep -c ' /one'; ls /one");
    bundle.mount(json!({"destination": "/one", "type": "tmpfs", "source": "tmpfs"}));
    bundle.mount(json!({"destination": "/one/two", "type": "tmpfs", "source": "tmpfs"}));
    assert_eq!(bundle.run(), "2\ntwo\n");
}

#[test]
fn links_of_the_image_stay_inside() {
    let mut bundle = Bundle::new("mount | grep -c 'on /inside type tmpfs'");
    let outside = bundle.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::create_dir(bundle.rootfs().join("inside")).unwrap();
    symlink("/inside", bundle.rootfs().join("link")).unwrap();
    symlink("../../../../../inside", bundle.rootfs().join("up")).unwrap();
    bundle.mount(json!({"destination": "/link", "type": "tmpfs", "source": "tmpfs"}));
    bundle.mount(json!({"destination": "/up", "type": "tmpfs", "source": "tmpfs"}));
    assert_eq!(bundle.run(), "2\n");
}

#[test]
fn proc_goes_only_to_a_directory() {
    let mut bundle = Bundle::idle();
    fs::create_dir(bundle.rootfs().join("elsewhere")).unwrap();
    symlink("/elsewhere", bundle.rootfs().join("proc")).unwrap();
    bundle.must_not(&["create", &bundle.id]);
    bundle.config["mounts"][0] = json!({
        "destination": "/proc/self/attr", "type": "tmpfs", "source": "tmpfs",
    });
}

#[test]
fn nothing_is_mounted_inside_proc() {
    let mut bundle = Bundle::idle();
    bundle.mount(json!({"destination": "/proc/self", "type": "tmpfs", "source": "tmpfs"}));
    bundle.must_not(&["create", &bundle.id]);
}

#[test]
fn a_tmpfs_copies_up() {
    let mut bundle = Bundle::new(
        "cat /kept/file; stat -c %a /kept/file; readlink /kept/link; mount | grep -c /kept",
    );
    fs::create_dir(bundle.rootfs().join("kept")).unwrap();
    let file = bundle.rootfs().join("kept/file");
    fs::write(&file, "kept\n").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    symlink("file", bundle.rootfs().join("kept/link")).unwrap();
    bundle.mount(json!({
        "destination": "/kept", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup"],
    }));
    assert_eq!(bundle.run(), "kept\n640\nfile\n1\n");
}

#[test]
fn cgroups_are_shown() {
    let mut bundle = Bundle::new(
        "ls /sys/fs/cgroup | head -c 1 | wc -c; cat /sys/fs/cgroup/memory/memory.limit_in_bytes",
    );
    bundle.linux()["resources"]["memory"] = json!({"limit": 50_003_968});
    bundle.mount(
        json!({"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["ro"]}),
    );
    bundle.mount(json!({
        "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
        "options": ["nosuid", "noexec", "nodev", "relatime", "ro"],
    }));
    assert_eq!(bundle.run(), "1\n50003968\n");
}

#[test]
fn ids_of_a_mount_are_mapped() {
    only_ours!("id-mapped mounts came with specification 1.1");
    let mut bundle = Bundle::new("stat -c %u /there/file");
    let outside = bundle.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("file"), "").unwrap();
    let map = json!([{"containerID": 0, "hostID": 4000, "size": 100}]);
    bundle.mount(json!({
        "destination": "/there", "type": "bind", "source": outside, "options": ["bind", "idmap"],
        "uidMappings": map, "gidMappings": map,
    }));
    let output = bundle.runtime(&["run", &bundle.id]);
    assert_eq!(output.stdout, b"4000\n", "{output:?}");
}

#[test]
fn options_of_mount_8() {
    let mut bundle = Bundle::idle();
    if !super::bundle::is_ours() {
        eprintln!("runc 1.1 passes `defaults` to the file system, which refuses it");
    }
    let defaults = if super::bundle::is_ours() {
        "defaults"
    } else {
        "rw"
    };
    let all = [
        defaults,
        "rw",
        "suid",
        "dev",
        "exec",
        "async",
        "loud",
        "nomand",
        "relatime",
        "atime",
        "diratime",
        "nolazytime",
        "noiversion",
        "strictatime",
        "nodiratime",
        "silent",
        "iversion",
        "lazytime",
        "dirsync",
        "sync",
        "mand",
    ];
    bundle
        .mount(json!({"destination": "/all", "type": "tmpfs", "source": "tmpfs", "options": all}));
    let pid = bundle.start();
    let (own, _) = options(pid, "/all");
    assert!(own.contains("nodiratime"), "{own}");
    assert!(own.contains("sync"), "{own}");
}

#[test]
fn a_remount_changes_flags() {
    let mut bundle = Bundle::idle();
    bundle.mount(json!({"destination": "/again", "type": "tmpfs", "source": "tmpfs"}));
    bundle.mount(json!({
        "destination": "/again", "type": "bind", "source": "/again",
        "options": ["bind", "remount", "ro", "nosuid"],
    }));
    only_ours!("runc binds the host's path first");
    let pid = bundle.start();
    assert!(options(pid, "/again").0.starts_with("ro,nosuid"));
    let text = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
    assert_eq!(
        text.lines()
            .filter(|line| line.contains(" /again "))
            .count(),
        1
    );
}

#[test]
fn a_shared_mount_reaches_the_host_and_nothing_of_the_host_is_unmounted() {
    let mut bundle = Bundle::new("mkdir /shared/in && mount -t tmpfs inner /shared/in; sleep 300");
    let outside = bundle.path().join("outside");
    fs::create_dir(&outside).unwrap();
    bundle.linux()["rootfsPropagation"] = json!("shared");
    let sets = json!(["CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE"]);
    bundle.process()["capabilities"] =
        json!({"bounding": sets, "effective": sets, "permitted": sets});
    bundle.mount(json!({
        "destination": "/shared", "type": "bind", "source": outside, "options": ["rbind", "rshared"],
    }));
    // A host of its own, whose mounts are all shared; `$1` is a mount in it.
    let script = "mount --make-rshared / && mount -t tmpfs own \"$1\" && mount --make-shared \"$1\" || exit 9; shift
        count() { grep -vc /in /proc/self/mountinfo; }
        before=$(count); \"$@\" run --detach x >/dev/null || exit 8
        until grep -q /outside/in /proc/self/mountinfo; do sleep 0.01; done
        [ \"$before\" = \"$(count)\" ] || exit 7
        \"$@\" delete --force x";
    let command = bundle.command(&[]);
    let status = std::process::Command::new("unshare")
        .args(["--mount", "timeout", "20", "bash", "-c", script, "bash"])
        .arg(&outside)
        .arg(command.get_program())
        .args(command.get_args())
        .current_dir(bundle.path())
        .stdin(std::process::Stdio::null())
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(0));
}
