//! `start`: the program of a created container begins.

use std::io;

use super::arguments::{Arguments, Order};
use super::store::{Container, starter};
use super::{Context, FaceError, Result, said};
use crate::container::{hooks, start_through};
use crate::spec::{Spec, Status};

pub fn main(context: &Context, words: &[String]) -> Result<i32> {
    let arguments = Arguments::parse(&[], Order::Any, words)?;
    let container = context.store.load(arguments.id()?)?;
    if container.init().is_none() {
        return said("cannot start a container that has stopped");
    }
    let socket = starter(&container.directory);
    let running = || FaceError::Said("cannot start an already running container".to_owned());
    let connection = match cais_sys::socket::connect_packets(&socket) {
        Ok(connection) => connection,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(running()),
        Err(error) => return Err(super::io("start container")(error)),
    };
    // Only one of two starts at the same time finds the socket's name to take away.
    std::fs::remove_file(&socket).map_err(|_| running())?;
    start_through(connection)
        .map_err(|error| FaceError::Said(format!("unable to start container process: {error}")))?;
    after(&container, &container.spec()?)?;
    Ok(0)
}

/// Runs the poststart hooks; the container does not outlive one that fails.
pub fn after(container: &Container, spec: &Spec) -> Result<()> {
    let Some(hooks) = spec
        .hooks
        .as_ref()
        .filter(|hooks| !hooks.poststart.is_empty())
    else {
        return Ok(());
    };
    let record = &container.record;
    let state = hooks::state(
        &record.id,
        Status::Running,
        record.pid,
        &record.bundle,
        spec,
    );
    hooks::run("poststart", &hooks.poststart, &state).map_err(|error| {
        super::kill::all(container);
        error.into()
    })
}
