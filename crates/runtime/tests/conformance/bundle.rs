//! A bundle with busybox as its root file system, and the runtime to drive it with.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

const APPLETS: &str = "sh ls cat echo sleep id ps mount true false hostname ip stty tty kill stat touch mkdir grep umask env pwd head readlink wc dd chmod find uname nice ionice";
static NEXT: AtomicU32 = AtomicU32::new(0);

fn under_test() -> Option<PathBuf> {
    std::env::var_os("CAIS_RUNTIME_UNDER_TEST").map(PathBuf::from)
}

/// Whether it is our runtime that is tested.
pub fn is_ours() -> bool {
    under_test().is_none()
}

fn program() -> PathBuf {
    under_test().unwrap_or_else(|| {
        let own = std::env::current_exe().unwrap();
        let built = own.parent().unwrap().parent().unwrap();
        built.join("examples/runtime")
    })
}

pub struct Bundle {
    directory: tempfile::TempDir,
    pub id: String,
    pub config: Value,
}

impl Bundle {
    /// A container that runs a shell script.
    pub fn new(script: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let id = format!(
            "cais-test-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let bin = directory.path().join("rootfs/bin");
        fs::create_dir_all(&bin).unwrap();
        fs::create_dir(directory.path().join("rootfs/tmp")).unwrap();
        fs::copy("/bin/busybox", bin.join("busybox")).unwrap();
        for applet in APPLETS.split(' ') {
            symlink("busybox", bin.join(applet)).unwrap();
        }
        let config = config(&id, script);
        Self {
            directory,
            id,
            config,
        }
    }

    /// A container that does nothing for long.
    pub fn idle() -> Self {
        let mut bundle = Self::new("");
        bundle.config["process"]["args"] = json!(["sleep", "300"]);
        bundle
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    pub fn rootfs(&self) -> PathBuf {
        self.path().join("rootfs")
    }

    pub fn linux(&mut self) -> &mut Value {
        &mut self.config["linux"]
    }

    pub fn process(&mut self) -> &mut Value {
        &mut self.config["process"]
    }

    pub fn mount(&mut self, mount: Value) {
        self.config["mounts"].as_array_mut().unwrap().push(mount);
    }

    /// The cgroup's directory of a v1 controller, or the v2 one.
    pub fn cgroup(&self, controller: &str) -> PathBuf {
        let root = Path::new("/sys/fs/cgroup");
        let hierarchy = match root.join("cgroup.controllers").exists() {
            true => root.to_owned(),
            false => root.join(controller),
        };
        hierarchy.join(&self.id)
    }

    pub fn command(&self, words: &[&str]) -> Command {
        fs::write(
            self.path().join("config.json"),
            serde_json::to_vec(&self.config).unwrap(),
        )
        .unwrap();
        let mut command = Command::new(program());
        command
            .arg("--root")
            .arg(self.path().join("state"))
            .args(words)
            .current_dir(self.path())
            .stdin(Stdio::null());
        command
    }

    /// Runs the runtime, whatever it answers.
    pub fn runtime(&self, words: &[&str]) -> Output {
        // A detached container would keep a pipe open.
        let (out, err) = (self.path().join("out"), self.path().join("err"));
        let status = self
            .command(words)
            .stdout(fs::File::create(&out).unwrap())
            .stderr(fs::File::create(&err).unwrap())
            .status()
            .unwrap();
        Output {
            status,
            stdout: fs::read(out).unwrap(),
            stderr: fs::read(err).unwrap(),
        }
    }

    /// As [`Bundle::runtime`], and it must do it; answers what it printed.
    #[track_caller]
    pub fn must(&self, words: &[&str]) -> String {
        let output = self.runtime(words);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{words:?}: {error}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// As [`Bundle::runtime`], and it must refuse; answers what it said.
    #[track_caller]
    pub fn must_not(&self, words: &[&str]) -> String {
        let output = self.runtime(words);
        assert!(!output.status.success(), "{words:?} was done");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// Runs the container in the foreground; answers what it printed.
    #[track_caller]
    pub fn run(&self) -> String {
        self.must(&["run", &self.id])
    }

    /// Creates and starts the container; answers the number of its init.
    #[track_caller]
    pub fn start(&self) -> i32 {
        self.must(&["create", &self.id]);
        self.must(&["start", &self.id]);
        self.pid()
    }

    pub fn spawn(&self, words: &[&str]) -> Child {
        self.command(words)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    }

    #[track_caller]
    pub fn state(&self) -> Value {
        serde_json::from_str(&self.must(&["state", &self.id])).unwrap()
    }

    #[track_caller]
    pub fn status(&self) -> String {
        self.state()["status"].as_str().unwrap().to_owned()
    }

    #[track_caller]
    pub fn pid(&self) -> i32 {
        i32::try_from(self.state()["pid"].as_i64().unwrap()).unwrap()
    }

    #[track_caller]
    pub fn wait_stopped(&self) {
        wait_for(|| self.status() == "stopped");
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        self.runtime(&["delete", "--force", &self.id]);
    }
}

/// Waits until something is so.
#[track_caller]
pub fn wait_for(mut so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !so() {
        assert!(began.elapsed() < Duration::from_secs(20), "it never came");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A field of `/proc/<pid>/status`.
#[track_caller]
pub fn status_field(pid: i32, name: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap().trim().to_owned()
}

/// The namespace of a process.
#[track_caller]
pub fn namespace(pid: &str, kind: &str) -> PathBuf {
    fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap()
}

fn config(id: &str, script: &str) -> Value {
    let capabilities = [
        "CAP_CHOWN",
        "CAP_DAC_OVERRIDE",
        "CAP_KILL",
        "CAP_NET_BIND_SERVICE",
        "CAP_SETGID",
        "CAP_SETUID",
    ];
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": ["sh", "-c", script],
            "env": ["PATH=/bin"],
            "cwd": "/",
            "capabilities": {
                "bounding": capabilities,
                "effective": capabilities,
                "permitted": capabilities,
            },
        },
        "root": {"path": "rootfs"},
        "hostname": "quay",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {
                "destination": "/dev",
                "type": "tmpfs",
                "source": "tmpfs",
                "options": ["nosuid", "strictatime", "mode=755", "size=65536k"],
            },
            {
                "destination": "/dev/pts",
                "type": "devpts",
                "source": "devpts",
                "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"],
            },
        ],
        "linux": {
            "cgroupsPath": format!("/{id}"),
            "resources": {"devices": [{"allow": false, "access": "rwm"}]},
            "namespaces": [
                {"type": "pid"},
                {"type": "network"},
                {"type": "ipc"},
                {"type": "uts"},
                {"type": "mount"},
            ],
        },
    })
}
