//! Builds and containers for another machine, whose programs an emulator runs. The emulator is registered in a user namespace
//! of the test's own, so that this host goes on not knowing it; the daemon runs there as well.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use cais_testkit::{BaseImage, TestDaemon, base_image, wait_until};

use crate::build::Context;
use crate::{CAIS, inspect, refused};

/// What binfmt_misc is told of programs for arm64: their first bytes, and which of them count. `F` opens the emulator at
/// once, so that containers need no copy of it; with `P` it learns the name that a program was called by.
const ARM64: &str = concat!(
    r":qemu-aarch64:M::\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00",
    r":\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff:"
);

/// A user namespace with mounts, a network and a binfmt_misc of its own.
struct Apart {
    holder: Child,
    scratch: tempfile::TempDir,
}

impl Apart {
    /// A new one; none where the kernel is older than Linux 6.7, and says why.
    fn new() -> Option<Self> {
        let holder = Command::new("unshare")
            .args(["--user", "--mount", "--net", "sleep", "infinity"])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let apart = Self {
            holder,
            scratch: tempfile::tempdir().unwrap(),
        };
        let own = fs::read_link("/proc/self/ns/net").unwrap();
        let theirs = format!("/proc/{}/ns/net", apart.holder.id());
        wait_until("namespaces of their own", || {
            fs::read_link(&theirs).is_ok_and(|netns| netns != own)
        });
        for map in ["uid_map", "gid_map"] {
            let map = format!("/proc/{}/{map}", apart.holder.id());
            fs::write(map, "0 0 1000000\n").unwrap();
        }
        let mounted =
            "mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc && ip link set lo up";
        let output = apart.enter().args(["sh", "-c", mounted]).output().unwrap();
        if output.status.success() {
            return Some(apart);
        }
        let why = String::from_utf8_lossy(&output.stderr);
        skip(&format!("user namespaces have no binfmt_misc here: {why}"));
        None
    }

    fn enter(&self) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--target={}", self.holder.id()));
        command.args(["--user", "--mount", "--net", "--"]);
        command
    }

    /// Has the kernel run programs for arm64 by the emulator; false where that cannot be fetched, and says so.
    fn know_arm64(&self) -> bool {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/unpacked-package");
        let file = "./usr/bin/qemu-aarch64-static";
        let fetched = Command::new(script)
            .args(["amd64", "qemu-user-static", file])
            .output()
            .unwrap();
        if !fetched.status.success() {
            let why = String::from_utf8_lossy(&fetched.stderr);
            skip(&format!("no emulator: {why}"));
            return false;
        }
        let place = String::from_utf8(fetched.stdout).unwrap();
        let emulator = Path::new(place.trim()).join(file);
        let mut register = self
            .enter()
            .args(["sh", "-c", "cat >/proc/sys/fs/binfmt_misc/register"])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let line = format!("{ARM64}{}:FP", emulator.display());
        let mut input = register.stdin.take().unwrap();
        input.write_all(line.as_bytes()).unwrap();
        drop(input);
        assert!(register.wait().unwrap().success());
        true
    }

    /// A daemon inside that has busybox for both machines; none where that for the other one cannot be fetched.
    fn daemon(&self) -> Option<TestDaemon> {
        let archive = match base_image(BaseImage::BusyboxArm64) {
            Ok(archive) => archive,
            Err(error) => {
                skip(&format!("{error:#}"));
                return None;
            }
        };
        let daemon = TestDaemon::with_images(self.binary(), &[BaseImage::Busybox]).unwrap();
        daemon
            .cais(&["load", "-q", "-i", &archive.to_string_lossy()])
            .unwrap();
        Some(daemon)
    }

    /// Our binary, that enters first.
    fn binary(&self) -> PathBuf {
        let path = self.scratch.path().join("cais");
        let script = format!("#!/bin/sh\nexec {:?} {CAIS} \"$@\"\n", self.enter());
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

#[expect(clippy::print_stderr, reason = "who reads the tests shall know")]
fn skip(why: &str) {
    eprintln!("skipped: {why}");
}

const MACHINE: &str = "FROM busybox-arm64\nRUN uname -m >/machine\nRUN [\"/bin/id\", \"-u\"]\nUSER nobody\n\
    RUN --mount=type=cache,target=/kept,uid=65534 echo $(uname -m) in $(id -un) >/kept/file && cat /kept/file\n";

#[test]
fn commands_of_another_machine_run_where_the_host_knows_an_emulator() {
    let Some(apart) = Apart::new() else { return };
    let Some(daemon) = apart.daemon() else { return };
    let context = Context::new(&[("Dockerfile", MACHINE)]);
    let path = context.path().to_string_lossy().into_owned();
    let flags = ["build", "--progress=plain", "--platform=linux/arm64"];
    let build = |more: &[&str]| {
        let args = [&flags[..], more, &[&path]].concat();
        let output = daemon.cais_output(&args).unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.success(), told)
    };
    // Without an emulator it is docker's error, and what would help.
    let (made, told) = build(&["-t", "arm"]);
    assert!(!made, "{told}");
    assert!(told.contains("exec /bin/sh: exec format error"), "{told}");
    assert!(
        told.contains("The image is for linux/arm64 and this host is linux/amd64"),
        "{told}"
    );
    if !apart.know_arm64() {
        return;
    }
    let (made, told) = build(&["-t", "arm"]);
    assert!(made, "{told}");
    assert!(told.contains("aarch64 in nobody"), "{told}");
    assert_eq!(inspect(&daemon, "arm", "{{.Architecture}}"), "arm64");
    // docker's classic builder as well.
    let output = daemon
        .client(
            "docker",
            &[
                "build",
                "--no-cache",
                "--platform=linux/arm64",
                "-t",
                "classic",
                &path,
            ],
        )
        .env("DOCKER_BUILDKIT", "0")
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(told.contains("aarch64 in nobody"), "{told}");
    // And what was made runs, with docker's warning where nobody said that it is for another machine.
    let platform = "--platform=linux/arm64";
    for (client, flags) in [
        ("docker", &[platform][..]),
        ("docker", &[]),
        (CAIS, &[platform]),
        (CAIS, &[]),
    ] {
        let args = [&["run", "--rm"], flags, &["classic", "cat", "/machine"]].concat();
        let output = daemon.client(client, &args).output().unwrap();
        assert_eq!(output.stdout, b"aarch64\n", "{output:?}");
        let warned = String::from_utf8_lossy(&output.stderr);
        let warning = "WARNING: The requested image's platform (linux/arm64) does not match the detected host platform (linux/amd64";
        assert_eq!(warned.contains(warning), flags.is_empty(), "{warned}");
    }
    // Nobody gets this machine's image for another one.
    let none = refused(
        &daemon,
        &["run", "--rm", "--pull=never", platform, "busybox", "true"],
    );
    assert!(
        none.contains("does not provide the specified platform (linux/arm64)"),
        "{none}"
    );
}

#[test]
fn stages_of_both_machines_are_one_build() {
    let Some(apart) = Apart::new() else { return };
    if !apart.know_arm64() {
        return;
    }
    let Some(daemon) = apart.daemon() else { return };
    let text = "FROM --platform=linux/arm64 busybox-arm64 AS arm64\nFROM --platform=linux/amd64 busybox AS amd64\n\
        FROM $TARGETARCH\nARG TARGETARCH\nRUN echo $TARGETARCH runs on $(uname -m) >/machine\nCOPY --from=arm64 /bin/busybox /other/\n\
        RUN /other/busybox uname -m >>/machine\n";
    let context = Context::new(&[("Dockerfile", text)]);
    let path = context.path().to_string_lossy().into_owned();
    let files = daemon.scratch().join("files");
    let output = format!("type=local,dest={}", files.display());
    let both = "--platform=linux/amd64,linux/arm64";
    daemon
        .cais(&[
            "build",
            "--progress=plain",
            both,
            "-t",
            "both",
            "-o",
            &output,
            &path,
        ])
        .unwrap();
    for (directory, told) in [
        ("linux_amd64", "amd64 runs on x86_64\naarch64\n"),
        ("linux_arm64", "arm64 runs on aarch64\naarch64\n"),
    ] {
        assert_eq!(
            fs::read_to_string(files.join(directory).join("machine")).unwrap(),
            told
        );
    }
    for (architecture, machine) in [("amd64", "x86_64\n"), ("arm64", "aarch64\n")] {
        let platform = format!("--platform=linux/{architecture}");
        let ran = daemon.docker(&["run", "--rm", &platform, "both", "uname", "-m"]);
        assert_eq!(ran.unwrap(), machine);
    }
}
