//! Registries for tests: Debian's docker-registry, one that serves whatever it is given, and a wire between that breaks.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use cais_testkit::{TestDaemon, wait_until};

/// The real one, with its storage in a directory of the test.
pub struct Registry {
    child: Child,
    directory: tempfile::TempDir,
    pub port: u16,
}

impl Registry {
    pub fn start() -> Self {
        Self::with("")
    }

    /// With `name:password` when there is one.
    pub fn with(login: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut more = String::new();
        if let Some((name, password)) = login.split_once(':') {
            let made = Command::new("htpasswd")
                .args(["-nbB", name, password])
                .output()
                .unwrap();
            let path = directory.path().join("htpasswd");
            std::fs::write(&path, made.stdout).unwrap();
            let path = path.display();
            more = format!("auth: {{htpasswd: {{realm: test, path: {path}}}}}\n");
        }
        Self::at(directory, "127.0.0.1", "", &more)
    }

    /// At an address, with more settings of `http` and of the whole.
    pub fn at(directory: tempfile::TempDir, address: &str, http: &str, more: &str) -> Self {
        let root = directory.path();
        let config = format!(
            "version: 0.1\nlog: {{level: info}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: \"{address}:PORT\"{http}}}\n{more}",
            root.join("storage").display()
        );
        std::fs::write(root.join("config"), config).unwrap();
        let (child, port) = Self::spawn(root, 0);
        Self {
            child,
            directory,
            port,
        }
    }

    fn spawn(root: &Path, port: u16) -> (Child, u16) {
        let config = std::fs::read_to_string(root.join("config")).unwrap();
        let own = root.join("config.yml");
        std::fs::write(&own, config.replace("PORT", &port.to_string())).unwrap();
        let log = root.join("log");
        let out = File::create(&log).unwrap();
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(&own)
            .stdin(Stdio::null())
            .stdout(out.try_clone().unwrap())
            .stderr(out)
            .spawn()
            .unwrap();
        let mut port = 0;
        wait_until("the registry to listen", || {
            let text = std::fs::read_to_string(&log).unwrap();
            let after = text.split("listening on ").nth(1);
            let after = after.and_then(|text| text.split_once(':'));
            let digits = after.map(|(_, rest)| rest.chars().take_while(char::is_ascii_digit));
            port = digits
                .and_then(|digits| digits.collect::<String>().parse().ok())
                .unwrap_or(0);
            port != 0
        });
        (child, port)
    }

    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again at the same port.
    pub fn restart(&mut self) {
        self.child = Self::spawn(self.directory.path(), self.port).0;
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap()
    }

    /// `localhost:PORT/NAME`.
    pub fn name(&self, name: &str) -> String {
        format!("localhost:{}/{name}", self.port)
    }

    /// Where it keeps what it has.
    pub fn storage(&self) -> PathBuf {
        self.directory.path().join("storage")
    }

    /// The file of the largest blob.
    pub fn largest_blob(&self) -> PathBuf {
        let blobs = self.storage().join("docker/registry/v2/blobs/sha256");
        let below = |path: PathBuf| {
            std::fs::read_dir(path)
                .unwrap()
                .map(|entry| entry.unwrap().path())
        };
        let files = below(blobs)
            .flat_map(below)
            .map(|directory| directory.join("data"));
        files
            .max_by_key(|file| std::fs::metadata(file).unwrap().len())
            .unwrap()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a wire does with the bytes of the registry.
#[derive(Clone, Copy)]
pub enum Fault {
    /// Cuts every connection after so many bytes.
    Cut(u64),
    /// Passes so many bytes in all, then none; the connections stay.
    Hold(u64),
    None,
}

/// A wire to a registry.
pub struct Wire {
    pub port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    fault: Mutex<Fault>,
    /// Bytes that came through to the client.
    passed: AtomicU64,
    /// Connections whose client has not gone.
    open: AtomicU64,
}

impl Wire {
    pub fn to(target: u16, fault: Fault) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            fault: Mutex::new(fault),
            passed: AtomicU64::new(0),
            open: AtomicU64::new(0),
        });
        let own = shared.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(("127.0.0.1", target)) else {
                    continue;
                };
                own.clone().connect(client, server);
            }
        });
        Self { port, shared }
    }

    pub fn set(&self, fault: Fault) {
        *self.shared.fault.lock().unwrap() = fault;
    }

    pub fn passed(&self) -> u64 {
        self.shared.passed.load(Ordering::SeqCst)
    }

    pub fn open(&self) -> u64 {
        self.shared.open.load(Ordering::SeqCst)
    }

    pub fn name(&self, name: &str) -> String {
        format!("localhost:{}/{name}", self.port)
    }
}

impl Shared {
    fn connect(self: Arc<Self>, client: TcpStream, server: TcpStream) {
        self.open.fetch_add(1, Ordering::SeqCst);
        let (mut from_client, mut to_server) =
            (client.try_clone().unwrap(), server.try_clone().unwrap());
        let own = self.clone();
        std::thread::spawn(move || {
            let _ = std::io::copy(&mut from_client, &mut to_server);
            let _ = to_server.shutdown(Shutdown::Both);
            own.open.fetch_sub(1, Ordering::SeqCst);
        });
        std::thread::spawn(move || {
            self.forward(&server, &client);
            let _ = client.shutdown(Shutdown::Both);
            let _ = server.shutdown(Shutdown::Both);
        });
    }

    fn forward(&self, mut server: &TcpStream, mut client: &TcpStream) {
        let mut own = 0;
        let mut buffer = [0; 8192];
        loop {
            let fault = *self.fault.lock().unwrap();
            match fault {
                Fault::Cut(after) if own >= after => return,
                Fault::Hold(after) if self.passed.load(Ordering::SeqCst) >= after => {
                    std::thread::sleep(std::time::Duration::from_millis(5));
                    if self.open.load(Ordering::SeqCst) == 0 {
                        return;
                    }
                    continue;
                }
                _ => {}
            }
            let count = match server.read(&mut buffer) {
                Ok(0) | Err(_) => return,
                Ok(count) => count,
            };
            if client.write_all(&buffer[..count]).is_err() {
                return;
            }
            own += count as u64;
            self.passed.fetch_add(count as u64, Ordering::SeqCst);
        }
    }
}

/// A registry that serves what it is given, by path, and nothing else.
pub struct Fake {
    pub port: u16,
}

impl Fake {
    pub fn serve(files: HashMap<String, (&'static str, Vec<u8>)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let files = Arc::new(files);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let files = files.clone();
                std::thread::spawn(move || answer(&files, &client));
            }
        });
        Self { port }
    }

    pub fn name(&self, name: &str) -> String {
        format!("localhost:{}/{name}", self.port)
    }
}

/// One request and one answer; anything that goes wrong is the client's business.
fn answer(files: &HashMap<String, (&'static str, Vec<u8>)>, mut client: &TcpStream) {
    let mut lines = BufReader::new(client).lines();
    let Some(Ok(first)) = lines.next() else {
        return;
    };
    for line in lines {
        if line.is_err() || line.is_ok_and(|line| line.is_empty()) {
            break;
        }
    }
    let mut words = first.split(' ');
    let (method, path) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
    let found = files.get(path);
    let (status, kind, body) = match found {
        Some((kind, body)) => ("200 OK", *kind, &body[..]),
        None if path == "/v2/" => ("200 OK", "application/json", &b"{}"[..]),
        None => ("404 Not Found", "application/json", &b"{}"[..]),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let _ = client.write_all(head.as_bytes());
    if method == "GET" {
        let _ = client.write_all(body);
    }
}

/// Bytes that do not compress, the same for the same seed.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed << 1 | 1;
    let words = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.flatten().take(length).collect()
}

/// An image of one layer with one file of `size` bytes of noise, imported by the daemon as `name`.
pub fn noisy(daemon: &TestDaemon, name: &str, seed: u64, size: usize) {
    let directory = daemon.scratch().join(format!("noise-{seed}"));
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(directory.join("noise"), noise(seed, size)).unwrap();
    let archive = daemon.scratch().join(format!("noise-{seed}.tar"));
    let made = Command::new("tar")
        .arg("-cf")
        .arg(&archive)
        .arg("-C")
        .arg(&directory)
        .arg("noise")
        .status()
        .unwrap();
    assert!(made.success());
    daemon
        .docker(&["import", &archive.to_string_lossy(), name])
        .unwrap();
}

/// The image's id.
pub fn id(daemon: &TestDaemon, name: &str) -> String {
    let text = daemon
        .docker(&["image", "inspect", "-f", "{{.Id}}", name])
        .unwrap();
    text.trim().to_owned()
}

/// The digests that registries have the image by.
pub fn digests(daemon: &TestDaemon, name: &str) -> Vec<String> {
    let format = "{{range .RepoDigests}}{{println .}}{{end}}";
    let text = daemon
        .docker(&["image", "inspect", "-f", format, name])
        .unwrap();
    text.split_whitespace()
        .map(|one| one.split_once('@').unwrap().1.to_owned())
        .collect()
}

/// The error of a docker command that must fail.
pub fn docker_refused(daemon: &TestDaemon, args: &[&str]) -> String {
    let output = daemon.client("docker", args).output().unwrap();
    assert!(!output.status.success(), "{args:?} was not refused");
    String::from_utf8(output.stderr).unwrap()
}

/// Every image that is listed can be written whole, and nothing half is left.
pub fn check_whole(daemon: &TestDaemon) {
    for image in daemon
        .docker(&["images", "-aq"])
        .unwrap()
        .split_whitespace()
    {
        let saved = daemon.scratch().join("whole.tar");
        daemon
            .docker(&["save", "-o", &saved.to_string_lossy(), image])
            .unwrap();
    }
    // Other layers of a pull that was given up may be on their way out.
    let layers = daemon.data_root().join("layers");
    wait_until("no half layer", || {
        let names = std::fs::read_dir(&layers).unwrap();
        let mut names = names.map(|entry| entry.unwrap().file_name());
        !names.any(|name| name.to_string_lossy().starts_with("tmp-"))
    });
}
