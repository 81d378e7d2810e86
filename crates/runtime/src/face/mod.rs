//! The runtime's command line, as runc has it: what containerd, Docker and podman call. Knows nothing of the engine; every
//! command is one process that leaves its facts in the state directory.

mod arguments;
mod console;
mod create;
mod delete;
mod events;
mod exec;
mod features;
mod foreground;
mod freeze;
mod kill;
mod list;
mod log;
mod processes;
mod signal;
mod start;
mod state;
mod store;
mod template;
mod update;

use std::ffi::OsString;
use std::io::Write as _;

use crate::container::{RuntimeError, plain};
use arguments::Arguments;
use log::Log;
use store::Store;

/// What all commands get.
struct Context {
    store: Store,
    log: Log,
    /// `slice:prefix:name` paths are read as systemd would.
    systemd_cgroup: bool,
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
enum FaceError {
    /// In runc's words.
    #[error("{0}")]
    Said(String),
    #[error("{step}: {}", plain(source))]
    Io {
        step: String,
        source: std::io::Error,
    },
    #[error("{0}")]
    Runtime(#[from] RuntimeError),
    #[error("{0}")]
    Cgroup(#[from] crate::cgroups::CgroupError),
    /// `exec` ends with 255 when it fails, since lower numbers are the program's.
    #[error("exec failed: {0}")]
    Exec(#[source] Box<FaceError>),
}

type Result<T, E = FaceError> = std::result::Result<T, E>;

fn said<T>(text: impl Into<String>) -> Result<T> {
    Err(FaceError::Said(text.into()))
}

/// Names what was tried.
fn io<E: Into<std::io::Error>>(step: impl std::fmt::Display) -> impl FnOnce(E) -> FaceError {
    move |error| FaceError::Io {
        step: step.to_string(),
        source: error.into(),
    }
}

fn print(text: impl AsRef<[u8]>) -> Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_ref())
        .and_then(|()| out.flush())
        .map_err(io("write to standard output"))
}

/// One line of JSON, or several when `pretty`.
fn print_json(value: &impl serde::Serialize, pretty: bool) -> Result<()> {
    let text = if pretty {
        serde_json::to_vec_pretty(value)
    } else {
        serde_json::to_vec(value)
    };
    let mut text = text
        .map_err(std::io::Error::from)
        .map_err(io("write JSON"))?;
    text.push(b'\n');
    print(text)
}

const VERSION: &str = concat!("cais runtime version ", env!("CARGO_PKG_VERSION"), "\n");

const HELP: &str = "\
NAME:
   runtime - Open Container Initiative runtime

USAGE:
   runtime [global options] command [command options] [arguments...]

COMMANDS:
   create    create a container
   delete    delete any resources held by the container
   events    display container events such as statistics
   exec      execute new process inside the container
   features  show the enabled features
   kill      send the specified signal (default: SIGTERM) to the container's init process
   list      list containers
   pause     suspend all processes inside the container
   ps        display the processes running inside the container
   resume    resume all processes that have been paused
   run       create and run a container
   spec      create a new specification file
   start     execute the user defined process in a created container
   state     output the state of a container
   update    update container resource constraints

GLOBAL OPTIONS:
   --debug             tell more in the log
   --log FILE          write errors to FILE and not to standard error
   --log-format VALUE  text or json (default: text)
   --root DIRECTORY    where the state of containers is kept (default: /run/cais-runtime)
   --systemd-cgroup    read cgroup paths as slice:prefix:name
   --rootless VALUE    accepted for compatibility; the caller's rights decide
   --help, -h          show help
   --version, -v       print the version
";

/// Runs one command; answers the exit code.
pub fn main(args: Vec<OsString>) -> i32 {
    let words: Vec<String> = args
        .into_iter()
        .skip(1)
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let (global, rest) = match Arguments::before_command(&words) {
        Ok(parsed) => parsed,
        Err(error) => return Log::default().fail(&error),
    };
    let log = Log::new(&global);
    match run(&global, rest, log.clone()) {
        Ok(code) => code,
        Err(error) => log.fail(&error),
    }
}

fn run(global: &Arguments, rest: &[String], log: Log) -> Result<i32> {
    if global.is_set("version") {
        let spec = crate::spec::VERSION;
        return print(format!("{VERSION}spec: {spec}\n")).map(|()| 0);
    }
    let Some((command, words)) = rest.split_first().filter(|_| !global.is_set("help")) else {
        return print(HELP).map(|()| 0);
    };
    let store = Store::new(global.value("root"));
    let context = Context {
        store,
        log,
        systemd_cgroup: global.is_set("systemd-cgroup"),
    };
    dispatch(&context, command, words)
}

fn dispatch(context: &Context, command: &str, words: &[String]) -> Result<i32> {
    match command {
        "create" => create::create(context, words),
        "run" => create::run(context, words),
        "start" => start::main(context, words),
        "state" => state::main(context, words),
        "kill" => kill::main(context, words),
        "delete" => delete::main(context, words),
        "exec" => exec::main(context, words),
        "list" => list::main(context, words),
        "ps" => processes::main(context, words),
        "pause" => freeze::pause(context, words),
        "resume" => freeze::resume(context, words),
        "update" => update::main(context, words),
        "events" => events::main(context, words),
        "spec" => template::main(words),
        "features" => features::main(words),
        "help" => print(HELP).map(|()| 0),
        "checkpoint" | "restore" => said(format!(
            "{command} is not supported by this runtime: no CRIU"
        )),
        other => said(format!("unknown command {other:?}; see --help")),
    }
}

/// Nothing in a container may write to the binary that made it.
fn seal() -> Result<()> {
    cais_sys::exe::reexecute_sealed().map_err(io("protect the runtime's binary"))?;
    // Else it would be the number of the descriptor it was executed from.
    rustix::thread::set_name(c"cais-runtime").map_err(io("name this process"))
}
