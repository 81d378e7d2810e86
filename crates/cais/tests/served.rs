//! `cais registry serve` in a process of its own, for tests.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use cais_testkit::http::Http;
use cais_testkit::wait_until;
use rustix::process::{Pid, Signal, kill_process};

use crate::CAIS;

/// A server that runs.
pub struct Served {
    process: Child,
    pub http: Http,
}

/// Where a server of this directory keeps its registry.
pub fn folder(root: &Path) -> PathBuf {
    root.join("registry")
}

impl Served {
    /// Starts one at a port that the kernel chooses, and waits until it listens.
    pub fn start(root: &Path, args: &[&str]) -> Self {
        Self::at(root, "127.0.0.1:0", args)
    }

    /// Starts one at an address.
    pub fn at(root: &Path, address: &str, args: &[&str]) -> Self {
        let addresses = root.join("address");
        let _stale = fs::remove_file(&addresses);
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(root.join("log"));
        let process = Command::new(CAIS)
            .args(["registry", "serve", "--listen", address])
            .args(["--log-level", "warn", "--root"])
            .arg(folder(root))
            .arg("--address-file")
            .arg(&addresses)
            .args(args)
            .stdin(Stdio::null())
            .stderr(log.unwrap())
            .spawn()
            .unwrap();
        let mut address = String::new();
        wait_until("the server listens", || {
            address = fs::read_to_string(&addresses).unwrap_or_default();
            address.ends_with('\n')
        });
        Self {
            process,
            http: Http::new(address.trim()),
        }
    }

    /// `HOST:PORT/NAME`.
    pub fn name(&self, name: &str) -> String {
        format!("{}/{name}", self.http.address)
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.process);
        kill_process(pid, signal).unwrap();
    }

    /// SIGTERM must end it with 0.
    pub fn end(mut self) {
        self.signal(Signal::TERM);
        assert!(self.process.wait().unwrap().success());
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        self.process.try_wait().unwrap().is_some()
    }

    /// Resident memory in KiB.
    pub fn memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status
            .lines()
            .find(|line| line.starts_with("VmRSS:"))
            .unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _gone = self.process.kill();
        let _reaped = self.process.wait();
    }
}
