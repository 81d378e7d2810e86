//! Debian's docker-registry, for as long as a test wants it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

pub struct Registry {
    pub authority: String,
    child: Child,
    _root: TempDir,
}

/// How it is to be.
#[derive(Default)]
pub struct Options {
    /// `user:password` in htpasswd's form.
    pub htpasswd: Option<String>,
    /// Certificate and key, PEM.
    pub tls: Option<(String, String)>,
}

impl Registry {
    pub fn start(options: &Options) -> Self {
        for _ in 0..5 {
            if let Some(registry) = Self::try_start(options) {
                return registry;
            }
        }
        panic!("docker-registry does not start");
    }

    fn try_start(options: &Options) -> Option<Self> {
        let root = tempfile::tempdir().unwrap();
        let free = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let authority = format!("127.0.0.1:{port}");
        let config = root.path().join("config.yml");
        fs::write(&config, configuration(root.path(), &authority, options)).unwrap();
        let mut child = Command::new("/usr/bin/docker-registry")
            .arg("serve")
            .arg(&config)
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("docker-registry (scripts/setup test)");
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let is_up = lines
            .by_ref()
            .map_while(Result::ok)
            .any(|line| line.contains("listening on"));
        // The pipe must stay open and empty.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        if is_up {
            return Some(Self {
                authority,
                child,
                _root: root,
            });
        }
        let _ = child.wait();
        None
    }

    pub fn name(&self, rest: &str) -> String {
        format!("{}/{rest}", self.authority)
    }
}

fn configuration(root: &Path, authority: &str, options: &Options) -> String {
    let mut text = format!(
        "version: 0.1\nlog:\n  level: info\nstorage:\n  filesystem:\n    rootdirectory: {}\n  delete:\n    enabled: true\nhttp:\n  addr: {authority}\n  secret: test\n",
        root.join("data").display()
    );
    if let Some((certificate, key)) = &options.tls {
        let (crt, pem) = (root.join("server.crt"), root.join("server.key"));
        fs::write(&crt, certificate).unwrap();
        fs::write(&pem, key).unwrap();
        text += &format!(
            "  tls:\n    certificate: {}\n    key: {}\n",
            crt.display(),
            pem.display()
        );
    }
    if let Some(line) = &options.htpasswd {
        let path = root.join("htpasswd");
        fs::write(&path, line).unwrap();
        text += &format!(
            "auth:\n  htpasswd:\n    realm: test\n    path: {}\n",
            path.display()
        );
    }
    text
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
