//! The states of a container and the steps between them. Pure: who may do what is decided here, what it takes is not.

use serde::{Deserialize, Serialize};

/// Go's zero time, which stands for "never".
pub const NEVER: &str = "0001-01-01T00:00:00Z";

/// What a container is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    #[default]
    Created,
    Running,
    Paused,
    /// Ended, and waiting to be started again by its restart policy.
    Restarting,
    /// Being removed.
    Removing,
    Exited,
    /// Could not be removed completely.
    Dead,
}

impl Status {
    /// As the Engine API writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Restarting => "restarting",
            Self::Removing => "removing",
            Self::Exited => "exited",
            Self::Dead => "dead",
        }
    }

    /// Docker's `State.Running`: a restarting or paused container counts.
    pub fn is_running(self) -> bool {
        matches!(self, Self::Running | Self::Paused | Self::Restarting)
    }

    /// Whether there is a process.
    pub fn has_process(self) -> bool {
        matches!(self, Self::Running | Self::Paused)
    }
}

/// What is known about a container's latest run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    pub status: Status,
    /// 0 when there is no process.
    #[serde(default)]
    pub pid: i32,
    /// Clock ticks, see proc_pid_stat(5), field 22.
    #[serde(default)]
    pub start_time: u64,
    #[serde(default)]
    pub exit_code: i32,
    /// Why the latest start failed.
    #[serde(default)]
    pub error: String,
    #[serde(default)]
    pub oom_killed: bool,
    /// RFC 3339 with nanoseconds, or [`NEVER`].
    pub started_at: String,
    pub finished_at: String,
    /// A user stopped or killed it; decides `unless-stopped`.
    #[serde(default)]
    pub stopped_by_user: bool,
}

impl Default for State {
    fn default() -> Self {
        Self {
            status: Status::Created,
            pid: 0,
            start_time: 0,
            exit_code: 0,
            error: String::new(),
            oom_killed: false,
            started_at: NEVER.to_owned(),
            finished_at: NEVER.to_owned(),
            stopped_by_user: false,
        }
    }
}

impl State {
    /// Init runs.
    pub fn started(&mut self, pid: i32, start_time: u64, now: String) {
        *self = Self {
            status: Status::Running,
            pid,
            start_time,
            started_at: now,
            finished_at: std::mem::take(&mut self.finished_at),
            ..Self::default()
        };
    }

    /// Init could not be started.
    pub fn start_failed(&mut self, code: i32, error: String, now: String) {
        // A container that never ran stays "created", as in Docker.
        if self.started_at != NEVER {
            self.status = Status::Exited;
            self.finished_at = now;
        } else {
            self.status = Status::Created;
        }
        (self.pid, self.start_time) = (0, 0);
        self.exit_code = code;
        self.error = error;
    }

    /// Init ended; with `restarting` it will be started again.
    pub fn ended(&mut self, code: i32, oom_killed: bool, finished_at: String, restarting: bool) {
        self.status = if restarting {
            Status::Restarting
        } else {
            Status::Exited
        };
        (self.pid, self.start_time) = (0, 0);
        self.exit_code = code;
        self.oom_killed = oom_killed;
        self.finished_at = finished_at;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_goes_through_its_states() {
        let mut state = State::default();
        state.start_failed(127, "no".into(), "t0".into());
        assert_eq!((state.status, state.exit_code), (Status::Created, 127));
        assert_eq!(state.finished_at, NEVER);
        state.started(7, 99, "t1".into());
        assert_eq!(
            (state.status, state.exit_code, state.pid),
            (Status::Running, 0, 7)
        );
        assert!(state.error.is_empty());
        state.ended(3, true, "t2".into(), false);
        assert_eq!(
            (state.status, state.exit_code, state.pid),
            (Status::Exited, 3, 0)
        );
        state.started(8, 100, "t3".into());
        assert_eq!(
            (state.oom_killed, state.finished_at.as_str()),
            (false, "t2")
        );
        state.ended(1, false, "t4".into(), true);
        assert!(state.status.is_running() && !state.status.has_process());
    }
}
