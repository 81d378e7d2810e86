//! A daemon that answers by a script: it reads HTTP/1.1 by hand, so that hijacked streams are plain bytes.

use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};

use base64::Engine as _;

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Request {
    /// `POST /v1.51/containers/create?name=x`.
    pub line: String,
    /// The header lines.
    pub head: String,
    pub body: String,
    /// Number of the connection it came over, from 0.
    pub connection: usize,
}

/// Answers one request by writing to the connection.
pub type Handler = dyn Fn(&Request, &mut UnixStream) + Send + Sync;

/// A running fake daemon; its socket goes with it.
pub struct Fake {
    directory: tempfile::TempDir,
    requests: Arc<Mutex<Vec<Request>>>,
}

/// What the command line did.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Fake {
    pub fn start(handler: impl Fn(&Request, &mut UnixStream) + Send + Sync + 'static) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(directory.path().join("d.sock")).unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (seen, handler): (_, Arc<Handler>) = (requests.clone(), Arc::new(handler));
        std::thread::spawn(move || {
            for (number, stream) in listener.incoming().enumerate() {
                let (seen, handler, stream) = (seen.clone(), handler.clone(), stream.unwrap());
                std::thread::spawn(move || serve(number, stream, &seen, &*handler));
            }
        });
        Self {
            directory,
            requests,
        }
    }

    pub fn host(&self) -> String {
        format!("unix://{}/d.sock", self.directory.path().display())
    }

    /// The requests so far.
    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    /// Runs the command line against this daemon.
    pub fn run(&self, args: &[&str]) -> Outcome {
        self.run_with(args, b"")
    }

    /// The directory of the user's configuration.
    pub fn config_dir(&self) -> &Path {
        self.directory.path()
    }

    /// The command line as a process that is going to speak to this daemon.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = cli(args);
        command
            .env("DOCKER_HOST", self.host())
            .env("DOCKER_CONFIG", self.directory.path());
        command
    }

    /// Runs it with standard input.
    pub fn run_with(&self, args: &[&str], input: &[u8]) -> Outcome {
        feed(self.command(args), input)
    }
}

/// Runs a process with standard input.
pub fn feed(mut command: Command, input: &[u8]) -> Outcome {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let feeder = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let outcome = child.wait_with_output().unwrap().into();
    feeder.join().unwrap();
    outcome
}

impl Request {
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim())
    }

    /// The credentials sent along.
    pub fn registry_auth(&self) -> String {
        let header = self.header("X-Registry-Auth").unwrap();
        let text = base64::prelude::BASE64_URL_SAFE.decode(header).unwrap();
        String::from_utf8(text).unwrap()
    }
}

impl From<Output> for Outcome {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// The command line as a process, called `docker`.
pub fn cli(args: &[&str]) -> Command {
    use std::os::unix::process::CommandExt as _;
    let test = std::env::current_exe().unwrap();
    let program: PathBuf = test
        .parent()
        .unwrap()
        .parent()
        .unwrap()
        .join("examples/cais");
    let mut command = Command::new(program);
    command
        .arg0("docker")
        .args(args)
        .env_remove("DOCKER_HOST")
        .env_remove("DOCKER_AUTH_CONFIG")
        .env_remove("DOCKER_CONTENT_TRUST")
        .env_remove("DOCKER_CONTEXT");
    command
}

fn serve(connection: usize, mut stream: UnixStream, seen: &Mutex<Vec<Request>>, handler: &Handler) {
    let mut buffer = Vec::new();
    while let Some(head) = read_head(&mut stream, &mut buffer) {
        let length = head
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
            .map_or(0, |(_, value)| value.trim().parse().unwrap());
        while buffer.len() < length {
            let mut piece = [0; 4096];
            let read = stream.read(&mut piece).unwrap();
            buffer.extend_from_slice(&piece[..read]);
        }
        let body = String::from_utf8(buffer.drain(..length).collect()).unwrap();
        let line = head
            .lines()
            .next()
            .unwrap()
            .trim_end_matches(" HTTP/1.1")
            .to_owned();
        let request = Request {
            line,
            head,
            body,
            connection,
        };
        seen.lock().unwrap().push(request.clone());
        handler(&request, &mut stream);
    }
}

fn read_head(stream: &mut UnixStream, buffer: &mut Vec<u8>) -> Option<String> {
    loop {
        if let Some(at) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8(buffer.drain(..at + 4).collect()).unwrap();
            return Some(head);
        }
        let mut piece = [0; 4096];
        match stream.read(&mut piece) {
            Ok(0) | Err(_) => return None,
            Ok(read) => buffer.extend_from_slice(&piece[..read]),
        }
    }
}

/// Writes an answer with a length.
pub fn answer(stream: &mut UnixStream, status: &str, body: &str) {
    let text = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    // The client may have left already.
    drop(stream.write_all(text.as_bytes()));
}

/// Writes an error answer.
pub fn refuse(stream: &mut UnixStream, status: &str, message: &str) {
    answer(stream, status, &format!("{{\"message\":{message:?}}}"));
}

/// Answers a hijack; the stream is the caller's afterwards.
pub fn upgrade(stream: &mut UnixStream, content_type: &str) {
    let text = format!(
        "HTTP/1.1 101 UPGRADED\r\nContent-Type: {content_type}\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
    );
    stream.write_all(text.as_bytes()).unwrap();
}

/// One frame of a multiplexed stream.
pub fn frame(kind: u8, text: &str) -> Vec<u8> {
    let mut frame = vec![kind, 0, 0, 0];
    frame.extend(u32::try_from(text.len()).unwrap().to_be_bytes());
    frame.extend(text.as_bytes());
    frame
}
