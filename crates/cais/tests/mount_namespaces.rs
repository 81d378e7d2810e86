//! What a container's mounts and the host's see of each other.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount,
};

use crate::{daemon, inspect};

/// A shared mount of the host's, as long as this lives.
struct Shared<'a>(&'a Path);

impl<'a> Shared<'a> {
    fn new(place: &'a Path) -> Self {
        fs::create_dir(place).unwrap();
        mount("shared", place, "tmpfs", MountFlags::empty(), None).unwrap();
        mount_change(place, MountPropagationFlags::SHARED).unwrap();
        for name in ["host", "container"] {
            fs::create_dir(place.join(name)).unwrap();
        }
        Self(place)
    }
}

impl Drop for Shared<'_> {
    fn drop(&mut self) {
        for name in ["host", "container", ""] {
            let _ = unmount(self.0.join(name), UnmountFlags::DETACH);
        }
    }
}

fn mounts_of(pid: &str) -> String {
    fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap()
}

#[test]
fn mounts_pass_between_host_and_container_as_asked() {
    let daemon = daemon();
    for (propagation, inwards, outwards) in [
        ("private", false, false),
        ("rprivate", false, false),
        ("slave", true, false),
        ("rslave", true, false),
        ("rshared", true, true),
        ("shared", true, true),
    ] {
        let place = daemon.scratch().join(propagation);
        let shared = Shared::new(&place);
        let name = format!("--name={propagation}");
        let bind = format!("{}:/t:{propagation}", place.display());
        let run = ["run", "-d", "--privileged", &name, "-v", &bind];
        let command = ["busybox", "sleep", "1000"];
        daemon.cais(&[&run[..], &command[..]].concat()).unwrap();
        let pid = inspect(&daemon, propagation, "{{.State.Pid}}");
        let empty = MountFlags::empty();
        mount("later", place.join("host"), "tmpfs", empty, None).unwrap();
        let inside = mounts_of(&pid);
        assert!(inside.contains(" /t "), "{inside}");
        assert_eq!(
            inside.contains(" /t/host "),
            inwards,
            "{propagation}: {inside}"
        );
        let mount = ["mount", "-t", "tmpfs", "inner", "/t/container"];
        let exec = ["exec", propagation];
        daemon.cais(&[&exec[..], &mount[..]].concat()).unwrap();
        let outside = mounts_of("self");
        let at = format!(" {}/container ", place.display());
        assert_eq!(outside.contains(&at), outwards, "{propagation}: {outside}");
        daemon.cais(&["rm", "-f", propagation]).unwrap();
        // What is mounted on the host stays there when the container goes.
        let kept = format!(" {}/host ", place.display());
        assert!(mounts_of("self").contains(&kept), "{propagation}");
        drop(shared);
    }
}

#[test]
fn below_the_root_of_a_container_is_nothing() {
    let daemon = daemon();
    let run = ["run", "-d", "--privileged", "--name=box", "busybox"];
    let script = "umount -l / && exec sleep 1000";
    let command = ["sh", "-c", script];
    daemon.cais(&[&run[..], &command[..]].concat()).unwrap();
    let pid = inspect(&daemon, "box", "{{.State.Pid}}");
    cais_testkit::wait_until("the root to be unmounted", || {
        fs::read_to_string(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|line| line.starts_with("sleep"))
    });
    // Whoever joins the mount namespace anew begins at what is left of it.
    let look = "import ctypes, os, sys\n\
        libc, ns = ctypes.CDLL(None, use_errno=True), os.open(sys.argv[1], os.O_RDONLY)\n\
        assert libc.setns(ns, 0x20000) == 0, ctypes.get_errno()\n\
        print(os.listdir('/'))";
    let output = Command::new("python3")
        .args(["-c", look, &format!("/proc/{pid}/ns/mnt")])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "[]\n");
}

#[test]
fn a_container_may_change_roots_and_make_user_namespaces() {
    let daemon = daemon();
    let enter = "mkdir /n && mount -t tmpfs n /n && mkdir /n/old /n/bin && cp /bin/busybox /n/bin && cd /n && \
        pivot_root . old && /bin/busybox ls";
    for before in ["true", "mount --make-rshared / && mount --make-rslave /"] {
        let script = format!("unshare -m sh -c '{before} && {enter}'");
        let run = ["run", "--rm", "--privileged", "busybox", "sh", "-c"];
        let told = daemon.cais(&[&run[..], &[&script]].concat()).unwrap();
        assert_eq!(told, "bin\nold\n", "{before}");
    }
    // Linux lets no process make one whose root is not that of its mounts.
    let run = ["run", "--rm", "--security-opt=seccomp=unconfined"];
    let command = ["-u", "1000", "busybox", "unshare", "-U", "echo", "made"];
    let told = daemon.cais(&[&run[..], &command[..]].concat()).unwrap();
    assert_eq!(told, "made\n");
}
