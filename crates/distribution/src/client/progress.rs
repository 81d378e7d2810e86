//! What a pull or a push tells while it goes on: typed events in Docker's words, through a queue that never makes a transfer
//! wait for its reader.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use cais_types::Digest;
use tokio::sync::Notify;

/// One thing to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A line; `id` is what Docker prints before the colon (`latest: Pulling from library/busybox`). No progress detail.
    Message { id: Option<String>, status: String },
    /// A step of a layer. `id` is the short digest: of the blob in a pull, of the diff id in a push. `total` is 0 when it is
    /// not known; both are 0 for steps that have no bar.
    Layer {
        id: String,
        step: Step,
        current: u64,
        total: u64,
    },
    /// A manifest arrived at the registry (`aux` of Docker's stream).
    Pushed {
        tag: String,
        digest: Digest,
        size: u64,
    },
}

impl Event {
    /// A line without an id.
    pub fn line(status: impl Into<String>) -> Self {
        Self::Message {
            id: None,
            status: status.into(),
        }
    }
}

/// What is being done to a layer; `Display` is Docker's status text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    PullingFsLayer,
    Waiting,
    Downloading,
    /// Seconds until the next attempt.
    Retrying(u64),
    VerifyingChecksum,
    DownloadComplete,
    Extracting,
    PullComplete,
    AlreadyExists,
    Preparing,
    Pushing,
    Pushed,
    LayerAlreadyExists,
    /// The repository it was mounted from, without the registry.
    MountedFrom(String),
}

impl Step {
    /// Whether the step comes with a bar.
    pub fn has_bar(&self) -> bool {
        matches!(self, Self::Downloading | Self::Extracting | Self::Pushing)
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::PullingFsLayer => "Pulling fs layer",
            Self::Waiting => "Waiting",
            Self::Downloading => "Downloading",
            Self::Retrying(1) => "Retrying in 1 second",
            Self::Retrying(seconds) => return write!(f, "Retrying in {seconds} seconds"),
            Self::VerifyingChecksum => "Verifying Checksum",
            Self::DownloadComplete => "Download complete",
            Self::Extracting => "Extracting",
            Self::PullComplete => "Pull complete",
            Self::AlreadyExists => "Already exists",
            Self::Preparing => "Preparing",
            Self::Pushing => "Pushing",
            Self::Pushed => "Pushed",
            Self::LayerAlreadyExists => "Layer already exists",
            Self::MountedFrom(repository) => return write!(f, "Mounted from {repository}"),
        };
        f.write_str(text)
    }
}

#[derive(Default)]
struct Queue {
    events: VecDeque<Event>,
    sinks: usize,
    reader_gone: bool,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    changed: Notify,
}

impl Shared {
    fn locked(&self) -> std::sync::MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The end that tells; never waits.
pub struct ProgressSink(Arc<Shared>);

/// The end that listens; ends when every sink is gone.
pub struct ProgressStream(Arc<Shared>);

/// A queue of events. What a slow reader has not taken is kept once per layer and step, so the queue stays as long as the
/// image has layers.
pub fn channel() -> (ProgressSink, ProgressStream) {
    let shared = Arc::new(Shared::default());
    shared.locked().sinks = 1;
    (ProgressSink(shared.clone()), ProgressStream(shared))
}

impl ProgressSink {
    /// Tells an event, in place of an untold one of the same layer and step.
    pub fn tell(&self, event: Event) {
        let mut queue = self.0.locked();
        if queue.reader_gone {
            return;
        }
        match newest_alike(&mut queue.events, &event) {
            Some(place) => *place = event,
            None => queue.events.push_back(event),
        }
        drop(queue);
        self.0.changed.notify_one();
    }

    /// Tells a line.
    pub fn line(&self, status: impl Into<String>) {
        self.tell(Event::line(status));
    }

    /// Tells a step of a layer that has no bar.
    pub fn step(&self, id: &str, step: Step) {
        self.tell(Event::Layer {
            id: id.to_owned(),
            step,
            current: 0,
            total: 0,
        });
    }

    /// Whether nobody listens any more.
    pub fn is_closed(&self) -> bool {
        self.0.locked().reader_gone
    }
}

/// The untold event that a newer one takes the place of: the last of this layer, when it is the same step.
fn newest_alike<'a>(events: &'a mut VecDeque<Event>, new: &Event) -> Option<&'a mut Event> {
    let Event::Layer { id, step, .. } = new else {
        return None;
    };
    let last = events
        .iter_mut()
        .rev()
        .find(|old| matches!(old, Event::Layer { id: other, .. } if other == id))?;
    matches!(last, Event::Layer { step: other, .. } if other == step).then_some(last)
}

impl Clone for ProgressSink {
    fn clone(&self) -> Self {
        self.0.locked().sinks += 1;
        Self(self.0.clone())
    }
}

impl Drop for ProgressSink {
    fn drop(&mut self) {
        self.0.locked().sinks -= 1;
        self.0.changed.notify_one();
    }
}

impl ProgressStream {
    /// The next event, in the order they were told; none when every sink is gone. May be dropped and called again.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            {
                let mut queue = self.0.locked();
                if let Some(event) = queue.events.pop_front() {
                    return Some(event);
                }
                if queue.sinks == 0 {
                    return None;
                }
            }
            self.0.changed.notified().await;
        }
    }
}

impl Drop for ProgressStream {
    fn drop(&mut self) {
        let mut queue = self.0.locked();
        queue.reader_gone = true;
        queue.events.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn downloading(id: &str, current: u64) -> Event {
        Event::Layer {
            id: id.to_owned(),
            step: Step::Downloading,
            current,
            total: 10,
        }
    }

    #[tokio::test]
    async fn a_slow_reader_gets_the_newest_of_each_step_and_every_line() {
        let (sink, mut stream) = channel();
        sink.line("one");
        for current in 0..1000 {
            sink.tell(downloading("a", current));
            sink.tell(downloading("b", current));
        }
        sink.step("a", Step::DownloadComplete);
        sink.line("two");
        drop(sink);
        let mut seen = Vec::new();
        while let Some(event) = stream.next().await {
            seen.push(event);
        }
        assert_eq!(seen.len(), 5);
        assert_eq!(seen[1], downloading("a", 999));
        assert_eq!(seen[4], Event::line("two"));
    }

    #[tokio::test]
    async fn a_reader_that_left_keeps_nothing_waiting() {
        let (sink, stream) = channel();
        drop(stream);
        sink.line("lost");
        assert!(sink.is_closed());
        assert!(sink.0.locked().events.is_empty());
    }
}
