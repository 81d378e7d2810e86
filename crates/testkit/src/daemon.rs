//! A daemon for one test.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::{BaseImage, Space, Subnet, base_image, wait_until};

/// The flag of [`TestDaemon::start_with`] that puts the data elsewhere.
const DATA_ROOT: &str = "--data-root=";

/// A running `cais daemon` with its own data root, exec root, socket, bridge, subnet, firewall table and cgroup.
#[derive(Debug)]
pub struct TestDaemon {
    binary: PathBuf,
    child: Option<Child>,
    subnet: Subnet,
    root: tempfile::TempDir,
    flags: Vec<String>,
    /// Where it runs, if not in the test's own network namespace.
    space: Option<String>,
}

impl TestDaemon {
    /// Starts a daemon and waits until it says that it is ready.
    pub fn start(binary: impl Into<PathBuf>) -> Result<Self> {
        Self::start_with(binary, &[])
    }

    /// Starts a daemon with more flags.
    pub fn start_with(binary: impl Into<PathBuf>, flags: &[&str]) -> Result<Self> {
        Self::start_at(binary.into(), None, flags)
    }

    /// Starts a daemon in a network namespace, which must live longer than the daemon. Its API is reached from everywhere.
    pub fn start_in(binary: impl Into<PathBuf>, space: &Space, flags: &[&str]) -> Result<Self> {
        Self::start_at(binary.into(), Some(space.path()), flags)
    }

    fn start_at(binary: PathBuf, space: Option<String>, flags: &[&str]) -> Result<Self> {
        let mut daemon = Self {
            binary,
            child: None,
            space,
            subnet: Subnet::reserve()?,
            root: tempfile::Builder::new().prefix("cais-test-").tempdir()?,
            flags: flags.iter().map(|flag| (*flag).to_owned()).collect(),
        };
        daemon.spawn()?;
        Ok(daemon)
    }

    /// Starts a daemon that has the given base images.
    pub fn with_images(binary: impl Into<PathBuf>, images: &[BaseImage]) -> Result<Self> {
        let daemon = Self::start(binary)?;
        for image in images {
            let archive = base_image(*image)?;
            daemon.cais(&["load", "-q", "-i", &archive.to_string_lossy()])?;
        }
        Ok(daemon)
    }

    fn spawn(&mut self) -> Result<()> {
        let (ready, report) = rustix::pipe::pipe()?;
        rustix::io::fcntl_setfd(&ready, rustix::io::FdFlags::CLOEXEC)?;
        let number = self.subnet.number();
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.root.path().join("daemon.log"))?;
        // Sixteen small subnets for networks, which no other test gets.
        let pool = format!("base=10.214.{number}.0/24,size=28");
        let mut command = Command::new(&self.binary);
        command
            .arg("daemon")
            .arg(format!("--host={}", self.host()))
            .arg(format!("--data-root={}", self.data_root().display()))
            .arg(format!("--exec-root={}", self.exec_root().display()))
            .arg(format!("--config-file={}", self.config_file()?.display()))
            .args(self.unless_given("--bridge=", format!("caist{number}")))
            .arg(format!("--bip={}", self.subnet.gateway()))
            .args(self.unless_given("--default-address-pool=", pool))
            .arg(format!("--firewall-table=caist{number}"))
            .arg(format!("--cgroup-parent=/caist{number}"))
            .arg("--ephemeral")
            .arg(format!("--ready-fd={}", report.as_raw_fd()))
            .args(
                self.flags
                    .iter()
                    .filter(|flag| !flag.starts_with(DATA_ROOT)),
            )
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let child = match &self.space {
            Some(path) => Space::of(File::open(path)?.into()).inside(|| command.spawn()),
            None => command.spawn(),
        };
        let child = child.with_context(|| self.binary.display().to_string())?;
        drop(report);
        self.child = Some(child);
        let mut byte = [0];
        let got = File::from(ready).read(&mut byte)?;
        ensure!(got == 1, "the daemon did not start: {}", self.log());
        Ok(())
    }

    /// A flag, unless the test brings its own.
    fn unless_given(&self, flag: &str, value: String) -> Option<String> {
        let given = self.flags.iter().any(|one| one.starts_with(flag));
        (!given).then(|| flag.to_owned() + &value)
    }

    fn config_file(&self) -> Result<PathBuf> {
        let path = self.root.path().join("daemon.json");
        if !path.exists() {
            File::create(&path)?.write_all(b"{}")?;
        }
        Ok(path)
    }

    /// The value for `DOCKER_HOST`.
    pub fn host(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// The daemon's API socket.
    pub fn socket(&self) -> PathBuf {
        self.root.path().join("s")
    }

    /// The daemon's `--data-root`.
    pub fn data_root(&self) -> PathBuf {
        let given = self
            .flags
            .iter()
            .find_map(|flag| flag.strip_prefix(DATA_ROOT));
        given.map_or_else(|| self.root.path().join("data"), PathBuf::from)
    }

    /// The daemon's `--exec-root`.
    pub fn exec_root(&self) -> PathBuf {
        self.root.path().join("run")
    }

    /// A directory for the test's own files, removed with the daemon.
    pub fn scratch(&self) -> &Path {
        self.root.path()
    }

    /// The subnet, which also names bridge, table and cgroup: `caist<number>`.
    pub fn subnet(&self) -> &Subnet {
        &self.subnet
    }

    /// The name of bridge, firewall table and cgroup parent.
    pub fn name(&self) -> String {
        format!("caist{}", self.subnet.number())
    }

    /// The process id of the daemon.
    ///
    /// # Panics
    /// When the daemon has been killed and not restarted.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("the daemon runs").id()
    }

    /// What the daemon has logged so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.root.path().join("daemon.log")).unwrap_or_default()
    }

    /// A client command on this daemon: `program` is `docker` or a path.
    pub fn client(&self, program: impl AsRef<std::ffi::OsStr>, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .args(args)
            .env("DOCKER_HOST", self.host())
            .env("DOCKER_CONFIG", self.root.path().join("config"))
            .stdin(Stdio::null());
        command
    }

    /// Runs our own command line and answers its standard output; any other exit code than 0 is an error.
    pub fn cais(&self, args: &[&str]) -> Result<String> {
        succeed(self.client(&self.binary, args).output()?, args)
    }

    /// Runs the real docker command line, as [`TestDaemon::cais`] does ours.
    pub fn docker(&self, args: &[&str]) -> Result<String> {
        succeed(self.client("docker", args).output()?, args)
    }

    /// Runs our own command line and answers everything about it.
    pub fn cais_output(&self, args: &[&str]) -> Result<Output> {
        Ok(self.client(&self.binary, args).output()?)
    }

    /// Kills the daemon with SIGKILL and waits for its end.
    pub fn kill(&mut self) -> Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// Starts the daemon again on the same state.
    pub fn restart(&mut self) -> Result<()> {
        self.kill()?;
        self.spawn()
    }

    /// Starts the daemon again on the same state, with other flags than so far.
    pub fn restart_with(&mut self, flags: &[&str]) -> Result<()> {
        let data_root = self.flags.iter().filter(|flag| flag.starts_with(DATA_ROOT));
        let given = flags.iter().map(|flag| (*flag).to_owned());
        self.flags = data_root.cloned().chain(given).collect();
        self.restart()
    }

    /// Whether the daemon has ended by itself; it counts as killed then.
    pub fn has_ended(&mut self) -> bool {
        let ended = |child: &mut Child| child.try_wait().is_ok_and(|status| status.is_some());
        let ended = self.child.as_mut().is_none_or(ended);
        if ended {
            self.child = None;
        }
        ended
    }

    /// Ends the daemon with SIGTERM; it removes what it made.
    pub fn stop(&mut self) {
        let Some(mut child) = self.child.take() else {
            return;
        };
        if let Some(pid) = Pid::from_raw(child.id().cast_signed()) {
            let _ = kill_process(pid, Signal::TERM);
        }
        wait_until("the daemon to end", || {
            child.try_wait().is_ok_and(|status| status.is_some())
        });
    }
}

impl Drop for TestDaemon {
    fn drop(&mut self) {
        if self.child.is_none() && self.data_root().exists() {
            let _ = self.spawn();
        }
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<&str> = log.lines().rev().take(30).collect();
            let _ = writeln!(std::io::stderr(), "daemon log:");
            for line in tail.iter().rev() {
                let _ = writeln!(std::io::stderr(), "  {line}");
            }
        }
        self.stop();
    }
}

fn succeed(output: Output, args: &[&str]) -> Result<String> {
    ensure!(
        output.status.success(),
        "{args:?}: {}: {}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr),
        String::from_utf8_lossy(&output.stdout)
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
