//! The solver: stages that do not wait for each other run side by side, each as soon as those it needs are there.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::{Condvar, Mutex, PoisonError};

use cais_sys::path_in_root;
use cais_types::{Digest, Error, ErrorClass, Result};
use rustix::fs::{Mode, OFlags};
use serde_json::json;

use crate::dockerfile::Dockerfile;
use crate::messages::{Messages, Sequence, StageLog, canceled, failure};
use crate::plan::{Plan, PlannedStage, plan};
use crate::ports::Ports;
use crate::request::BuildRequest;
use crate::stage::{Finished, StageRun};

/// The most bytes of an included file.
const MAX_INCLUDED: u64 = 16 << 20;

/// A build whose file was read and understood.
pub struct Prepared {
    request: BuildRequest,
    plan: Plan,
}

/// Reads the file and plans the build.
///
/// # Errors
/// Invalid: the file, a variable in a FROM, the target.
pub fn prepare(request: BuildRequest) -> Result<Prepared> {
    let mut include = |path: &str| included(&request, path);
    let mut file = Dockerfile::parse_with(request.dockerfile.clone(), &mut include)?;
    file.contexts = request.contexts.keys().cloned().collect();
    let plan = plan(&request, file)?;
    Ok(Prepared { request, plan })
}

/// The text of a file that INCLUDE names, within the context.
fn included(request: &BuildRequest, path: &str) -> Result<String, String> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK;
    let root = request.context.as_fd();
    let file = path_in_root::open(root, Path::new(path), flags, Mode::empty());
    let file = File::from(file.map_err(|error| match error.kind() {
        ErrorKind::NotFound => "no such file in the build context".to_owned(),
        _ => error.to_string(),
    })?);
    let mut text = String::new();
    let read = file.take(MAX_INCLUDED).read_to_string(&mut text);
    read.map_err(|error| error.to_string())?;
    Ok(text)
}

/// What became of stages, as those that wait for them see it.
#[derive(Default)]
pub struct Progress {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    finished: BTreeMap<usize, Finished>,
    failed: bool,
}

impl Progress {
    /// Waits for a stage.
    ///
    /// # Errors
    /// Canceled: some stage has failed.
    pub fn wait(&self, stage: usize) -> Result<Finished> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(finished) = state.finished.get(&stage) {
                return Ok(finished.clone());
            }
            if state.failed {
                return Err(canceled());
            }
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn end(&self, stage: usize, result: Result<Finished>) -> Result<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let result = match result {
            Ok(finished) => {
                state.finished.insert(stage, finished);
                Ok(())
            }
            Err(error) => {
                state.failed = true;
                Err(error)
            }
        };
        self.changed.notify_all();
        result
    }
}

/// Lets nobody wait for a stage whose thread has died.
struct Unfinished<'a>(&'a Progress);

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let error = Error::internal("a stage of the build has panicked");
            let _ = self.0.end(usize::MAX, Err(error));
        }
    }
}

impl Prepared {
    /// Builds, and tells the client how it goes; a failure is the last message.
    pub fn run(self, ports: Ports<'_>, out: &dyn Messages) {
        let quiet = Quiet;
        let shown: &dyn Messages = if self.request.quiet { &quiet } else { out };
        let result = self.build(ports, shown).and_then(|id| {
            self.tell(&id, ports, out)?;
            Ok(id)
        });
        if let Err(error) = result {
            // The client may have gone; then nobody is left to be told.
            let _ = out.send(failure(&error));
        }
    }

    fn build(&self, ports: Ports<'_>, out: &dyn Messages) -> Result<Digest> {
        let progress = Progress::default();
        let sequence = Sequence::new(out);
        let failure: Mutex<Option<Error>> = Mutex::default();
        std::thread::scope(|scope| {
            for stage in &self.plan.stages {
                let log = sequence.stage();
                let (progress, failure, sequence) = (&progress, &failure, &sequence);
                scope.spawn(move || {
                    let unfinished = Unfinished(progress);
                    let result = self.stage(stage, ports, log, progress);
                    let result = progress.end(stage.index, result);
                    drop(unfinished);
                    if let Err(error) = result {
                        sequence.cancel();
                        let mut failure = failure.lock().unwrap_or_else(PoisonError::into_inner);
                        // What failed first is what the others are canceled for; they may be faster to say so.
                        let told = failure.as_ref().map(Error::class);
                        if told.is_none_or(|class| class == ErrorClass::Canceled) {
                            *failure = Some(error);
                        }
                    }
                });
            }
            // A client that has gone is told to the stages by their logs.
            let _ = sequence.drain();
        });
        if let Some(error) = failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
            return Err(error);
        }
        let finished = progress.wait(self.plan.target)?;
        let image = finished
            .image
            .ok_or_else(|| Error::invalid("No image was generated. Is your Dockerfile empty?"))?;
        if self.request.squash {
            let created = self.request.created;
            return ports.images.squash(&image, finished.base.as_ref(), created);
        }
        Ok(image)
    }

    fn stage(
        &self,
        stage: &PlannedStage,
        ports: Ports<'_>,
        log: StageLog,
        progress: &Progress,
    ) -> Result<Finished> {
        let is_target = stage.index == self.plan.target;
        StageRun::begin(&self.request, &self.plan, stage, ports, log, progress)?.run(is_target)
    }

    fn tell(&self, id: &Digest, ports: Ports<'_>, out: &dyn Messages) -> Result<()> {
        let send = |value: serde_json::Value| out.send(value.to_string().into_bytes());
        if self.request.quiet {
            send(json!({ "stream": format!("{id}\n") }))?;
        } else {
            send(json!({ "aux": { "ID": id.to_string() } }))?;
            send(json!({ "stream": format!("Successfully built {}\n", id.short()) }))?;
        }
        for tag in &self.request.tags {
            ports.images.tag(id, tag)?;
            if !self.request.quiet {
                send(json!({ "stream": format!("Successfully tagged {tag}\n") }))?;
            }
        }
        Ok(())
    }
}

/// Shows nothing.
struct Quiet;

impl Messages for Quiet {
    fn send(&self, _: Vec<u8>) -> Result<()> {
        Ok(())
    }
}
