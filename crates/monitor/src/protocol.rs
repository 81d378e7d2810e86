//! What engine and monitor say to each other.
//!
//! Each message is a little-endian `u32` length and that many bytes of JSON; descriptors ride as `SCM_RIGHTS` on the
//! length. The engine starts a monitor with one end of a socket pair as descriptor 3 and sends [`Launch`]; the monitor
//! prepares everything that needs no network, then waits for [`Request::Create`] and [`Request::Start`] on the same socket.
//! Afterwards the monitor listens on [`Launch::socket`], where a later engine finds it again. Every connection speaks the same
//! [`Request`]s.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use cais_runtime::spec;

/// Longest message body, bytes.
pub const MESSAGE_LIMIT: usize = 16 << 20;

/// The descriptor a monitor finds its launch socket at.
pub const LAUNCH_FD: i32 = 3;

/// How to make a container; the first message a monitor gets. Descriptor: an empty mount namespace to begin from, if there is
/// one.
#[derive(Debug, Serialize, Deserialize)]
pub struct Launch {
    /// 64 hex digits.
    pub id: String,
    /// The container's own directory: `exit.json` is written here.
    pub directory: PathBuf,
    /// Path of the control socket to listen on.
    pub socket: PathBuf,
    /// What to run. A network namespace without a path is joined by the descriptor that [`Request::Create`] brings.
    pub spec: spec::Spec,
    pub rootfs: Rootfs,
    pub log: Log,
    pub stdio: Stdio,
}

/// Where the root file system comes from.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rootfs {
    /// Mounted by the monitor, inside the container's mount namespace only. Topmost lower layer first.
    Overlay {
        lower: Vec<PathBuf>,
        upper: PathBuf,
        work: PathBuf,
        /// Whether fsync(2) inside reaches the disk.
        durable: bool,
    },
    /// A directory.
    Directory(PathBuf),
}

/// Where output goes besides attached clients.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Log {
    /// Docker's json-file: one JSON object per line; rotated to `path.1`, `path.2`, ...
    JsonFile {
        path: PathBuf,
        /// Bytes after which a file is rotated; 0 for never.
        max_size: u64,
        /// Files kept, the current one included; at least 1.
        max_files: u32,
        /// Extra attributes, written into each line as `attrs` when not empty.
        attributes: std::collections::BTreeMap<String, String>,
    },
    /// Nowhere.
    None,
}

/// What init's standard streams are.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Stdio {
    /// One pseudo terminal for all three.
    pub terminal: bool,
    /// Standard input is open; otherwise it reads end of file.
    pub stdin: bool,
    /// Standard input is closed when the first attached client's input ends.
    pub stdin_once: bool,
}

/// A client that wants output and gives input; its socket is the message's descriptor.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Client {
    pub framing: cais_types::Framing,
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    /// The key sequence that detaches, as bytes; empty for none.
    pub detach_keys: Vec<u8>,
    /// Input that was read ahead.
    pub unread: Vec<u8>,
}

/// Engine to monitor.
#[derive(Debug, Serialize, Deserialize)]
pub struct Envelope {
    /// Comes back in the [`Message::Reply`].
    pub sequence: u64,
    pub request: Request,
}

/// What the engine may ask.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Makes the container and all of init but its program. Descriptor: the network namespace, when `netns` is set; nothing
    /// needs to be in it yet.
    Create { netns: bool },
    /// Runs init's program. Reply: [`Answer::Process`].
    Start,
    /// Descriptor: the client's socket. May come before `Start`.
    Attach(Client),
    /// Adds a process. Descriptor: the client's socket, when `client` is there. Reply: [`Answer::Process`].
    Exec {
        exec_id: String,
        process: Box<spec::Process>,
        stdin: bool,
        client: Option<Client>,
    },
    /// Terminal size of init (`exec_id` empty) or of an exec.
    Resize {
        exec_id: Option<String>,
        rows: u16,
        columns: u16,
    },
    /// Signals init.
    Kill { signal: i32 },
    /// Reply: [`Answer::Status`].
    Status,
}

/// Monitor to engine.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Message {
    Reply {
        sequence: u64,
        result: Result<Answer, Failure>,
    },
    /// Init ended; sent to every connection after `exit.json` is on disk and the log is complete. The monitor ends.
    Exited(Exit),
    ExecExited {
        exec_id: String,
        code: i32,
    },
    /// A client typed the detach keys. `exec_id` empty: of the container.
    Detached {
        exec_id: Option<String>,
    },
}

/// Successful answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    Done,
    Process(ProcessIdentity),
    Status(Status),
}

/// A process as the host sees it. `start_time` (field 22 of `/proc/<pid>/stat`, clock ticks) tells it from a later process
/// with the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessIdentity {
    pub pid: i32,
    pub start_time: u64,
}

/// What a monitor tells an engine that found it again.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Status {
    /// Empty before `Start`.
    pub init: Option<ProcessIdentity>,
    /// Execs that run.
    pub running: Vec<(String, ProcessIdentity)>,
    /// Execs that ended, and their codes.
    pub ended: Vec<(String, i32)>,
}

/// The exit record, also the content of `exit.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// 0 to 255; 128 + n for a signal.
    pub code: i32,
    pub oom_killed: bool,
    /// RFC 3339 with nanoseconds, UTC.
    pub finished_at: String,
    /// Execs that ended, and their codes.
    pub execs: Vec<(String, i32)>,
}

/// Why a request failed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Failure {
    pub class: FailureClass,
    /// Docker's wording, e.g. `exec: "x": executable file not found in $PATH`.
    pub message: String,
}

/// What kind of failure it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureClass {
    /// The command is not there: exit code 127.
    CommandNotFound,
    /// The command cannot be executed: exit code 126.
    CommandNotExecutable,
    /// The request or the spec is wrong.
    Invalid,
    /// The container has no such process, or has ended.
    NotRunning,
    Internal,
}
