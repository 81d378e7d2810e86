//! Debian's docker-registry on a folder and a port of its own.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use cais_testkit::http::Http;
use cais_testkit::wait_until;
use tempfile::TempDir;

/// A running docker-registry.
pub struct Peer {
    pub http: Http,
    process: Child,
    _root: TempDir,
}

impl Peer {
    /// Starts one; none where it is not installed, which is told.
    pub fn start() -> Option<Self> {
        let program = ["/usr/bin/docker-registry", "/usr/local/bin/docker-registry"]
            .into_iter()
            .find(|path| fs::exists(path).unwrap_or(false));
        let Some(program) = program else {
            let text = "skipped: docker-registry is not installed (scripts/setup test)\n";
            let _shown = std::io::stderr().write_all(text.as_bytes());
            return None;
        };
        let root = tempfile::tempdir().unwrap();
        // The port is free again when the registry takes it; another test may be faster, so that it is tried again.
        for _ in 0..10 {
            let port = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = port.local_addr().unwrap().to_string();
            drop(port);
            let config = root.path().join("config.yml");
            fs::write(&config, settings(root.path().to_str().unwrap(), &address)).unwrap();
            let mut process = Command::new(program)
                .arg("serve")
                .arg(&config)
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            let log = process.stderr.take().unwrap();
            std::thread::spawn(move || {
                let drained = BufReader::new(log).lines();
                drained.map_while(Result::ok).for_each(drop);
            });
            let http = Http::new(address);
            let mut ended = false;
            wait_until("docker-registry answers or ends", || {
                ended = process.try_wait().unwrap().is_some();
                ended || http.get("/v2/").is_ok()
            });
            if !ended {
                return Some(Self {
                    http,
                    process,
                    _root: root,
                });
            }
        }
        panic!("docker-registry does not start");
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _gone = self.process.kill();
        let _reaped = self.process.wait();
    }
}

fn settings(root: &str, address: &str) -> String {
    format!(
        "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n\
         storage: {{filesystem: {{rootdirectory: {root}/data}}, delete: {{enabled: true}}}}\n\
         http: {{addr: '{address}', secret: tests}}\n"
    )
}
