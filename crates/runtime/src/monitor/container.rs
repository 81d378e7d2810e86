//! The monitor's container.

use std::os::fd::OwnedFd;

use super::protocol::{Failure, FailureClass, Launch};
use super::runner::{ProcessStdio, Runner, Started};
use crate::spec;

/// One container. There is none yet: this build cannot make containers, and says so.
pub enum Container {}

impl Container {
    /// Refuses.
    pub fn prepare(launch: Launch) -> Result<Self, Failure> {
        let message = format!(
            "cannot run container {}: this build has no runtime",
            launch.id
        );
        Err(Failure::new(FailureClass::Internal, message))
    }
}

impl Runner for Container {
    fn start(&mut self, _: ProcessStdio, _: Option<OwnedFd>) -> Result<Started, Failure> {
        match *self {}
    }

    fn exec(&mut self, _: &spec::Process, _: ProcessStdio) -> Result<Started, Failure> {
        match *self {}
    }

    fn kill_rest(&mut self) {
        match *self {}
    }

    fn oom_killed(&self) -> bool {
        match *self {}
    }

    fn remove(&mut self) {
        match *self {}
    }
}
