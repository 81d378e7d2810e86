//! Hooks: programs run at points of a container's life, with its state on standard input (config.md, "POSIX-platform Hooks").

use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::report::{Class, Result, RuntimeError, during};
use crate::spec::{Hook, Spec, State, Status};

/// The state that hooks read.
pub fn state(id: &str, status: Status, pid: i32, bundle: &Path, spec: &Spec) -> State {
    State {
        oci_version: crate::spec::VERSION.to_owned(),
        id: id.to_owned(),
        status,
        pid,
        bundle: bundle.to_owned(),
        annotations: spec.annotations.clone(),
    }
}

/// Runs hooks in order; the first one that fails ends it.
pub fn run(point: &str, hooks: &[Hook], state: &State) -> Result<()> {
    let failed = |index: usize, text: String| {
        RuntimeError::new(
            Class::Internal,
            format!("error running {point} hook #{index}: {text}"),
        )
    };
    for (index, hook) in hooks.iter().enumerate() {
        one(hook, state).map_err(|error| failed(index, error.message))?;
    }
    Ok(())
}

fn one(hook: &Hook, state: &State) -> Result<()> {
    if !hook.path.is_absolute() {
        return Err(RuntimeError::invalid(format!(
            "hook path {} is not absolute",
            hook.path.display()
        )));
    }
    let mut command = Command::new(&hook.path);
    if let Some((name, arguments)) = hook.args.split_first() {
        command.arg0(name).args(arguments);
    }
    let environment = hook.env.iter().filter_map(|line| line.split_once('='));
    command
        .env_clear()
        .envs(environment)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut child = command.spawn().map_err(during(hook.path.display()))?;
    let json = serde_json::to_vec(state)
        .map_err(std::io::Error::from)
        .map_err(during("state"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A hook need not read its input.
        let _ = stdin.write_all(&json);
    }
    wait(&mut child, hook.timeout)
}

fn wait(child: &mut Child, timeout: Option<i64>) -> Result<()> {
    if let Some(seconds) = timeout.and_then(|seconds| u64::try_from(seconds).ok()) {
        let pidfd =
            cais_sys::pidfd::open(child.id().cast_signed()).map_err(during("pidfd_open"))?;
        let limit = i64::try_from(Duration::from_secs(seconds).as_millis()).unwrap_or(i64::MAX);
        let ended = cais_sys::pidfd::wait_end(std::os::fd::AsFd::as_fd(&pidfd), limit)
            .map_err(during("poll"))?;
        if !ended {
            let _ = child.kill();
            let _ = child.wait();
            let text = format!("hook ran past specified timeout of {seconds}.0s");
            return Err(RuntimeError::new(Class::Internal, text));
        }
    }
    let status = child.wait().map_err(during("wait"))?;
    if status.success() {
        return Ok(());
    }
    Err(RuntimeError::new(Class::Internal, status.to_string()))
}
