//! What a build tells its client: the JSON lines of `POST /build` (`stream`, `aux`, `error`), stages in order though they run
//! side by side.

use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};

use cais_types::{Error, ErrorClass, Result};
use serde_json::json;

use crate::cancel::Cancellation;

/// Takes one JSON message; fails when the client has gone.
pub trait Messages: Send + Sync {
    fn send(&self, message: Vec<u8>) -> Result<()>;
}

/// The messages of one stage, until its turn has come.
pub struct StageLog {
    sender: Sender<Vec<u8>>,
    gone: Cancellation,
}

impl StageLog {
    /// Text, shown as it is.
    pub fn text(&self, text: &str) -> Result<()> {
        self.message(json!({ "stream": text }).to_string().into_bytes())
    }

    /// Is set when the build is given up.
    pub fn canceled(&self) -> Cancellation {
        self.gone.clone()
    }

    /// A message as it is.
    pub fn message(&self, message: Vec<u8>) -> Result<()> {
        if self.gone.is_set() || self.sender.send(message).is_err() {
            return Err(canceled());
        }
        Ok(())
    }
}

/// The last message of a build that failed. The exit code of a command goes into `code`, as docker's classic builder has it.
pub fn failure(error: &Error) -> Vec<u8> {
    let message = error.message();
    let code = message
        .rsplit_once("returned a non-zero code: ")
        .and_then(|(_, code)| code.parse::<i64>().ok());
    let detail = match code {
        Some(code) => json!({ "code": code, "message": message }),
        None => json!({ "message": message }),
    };
    let failure = json!({ "errorDetail": detail, "error": message });
    failure.to_string().into_bytes()
}

/// What a build fails with when nobody waits for it.
pub fn canceled() -> Error {
    Error::new(ErrorClass::Canceled, "context canceled")
}

/// Puts the messages of stages in order.
pub struct Sequence<'a> {
    out: &'a dyn Messages,
    gone: Cancellation,
    stages: Mutex<Vec<Receiver<Vec<u8>>>>,
}

impl<'a> Sequence<'a> {
    /// An order without stages.
    pub fn new(out: &'a dyn Messages, gone: Cancellation) -> Self {
        Self {
            out,
            gone,
            stages: Mutex::default(),
        }
    }

    /// The log of the next stage; ends when it is dropped.
    pub fn stage(&self) -> StageLog {
        let (sender, receiver) = channel();
        let mut stages = self
            .stages
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        stages.push(receiver);
        StageLog {
            sender,
            gone: self.gone.clone(),
        }
    }

    /// Sends everything, stage by stage, until the last one has ended or the client has gone.
    pub fn drain(&self) -> Result<()> {
        let stages = {
            let mut stages = self
                .stages
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            std::mem::take(&mut *stages)
        };
        for stage in stages {
            for message in stage {
                if let Err(error) = self.out.send(message) {
                    self.cancel();
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Lets every stage fail with its next message, and end what it waits for.
    pub fn cancel(&self) {
        self.gone.set();
    }
}
