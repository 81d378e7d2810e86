//! Restart policies: whether an ended container starts again, and after how long.

use std::time::Duration;

use cais_types::{Error, Result};

const FIRST_DELAY: Duration = Duration::from_millis(100);
const LONGEST_DELAY: Duration = Duration::from_secs(60);
/// A container that ran this long starts over with the shortest delay.
const STEADY_AFTER: Duration = Duration::from_secs(10);

/// What a user asked for with `--restart`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    No,
    Always,
    UnlessStopped,
    /// On a code other than 0; at most `retries` times, 0 for no end.
    OnFailure {
        retries: u64,
    },
}

impl Policy {
    /// Reads the two fields of the Engine API's `RestartPolicy`.
    ///
    /// # Errors
    /// Docker's texts of `runconfig` and `container.ValidateRestartPolicy`.
    pub fn parse(name: &str, retries: i64) -> Result<Self> {
        let policy = match name {
            "" | "no" => Self::No,
            "always" => Self::Always,
            "unless-stopped" => Self::UnlessStopped,
            "on-failure" => Self::OnFailure {
                retries: retries.max(0).unsigned_abs(),
            },
            _ => {
                return Err(Error::invalid(format!(
                    "invalid restart policy: unknown policy '{name}'; use one of 'no', 'always', \
                     'on-failure', or 'unless-stopped'"
                )));
            }
        };
        if retries == 0 || (matches!(policy, Self::OnFailure { .. }) && retries > 0) {
            return Ok(policy);
        }
        let mut text = String::from("invalid restart policy: maximum retry count ");
        text.push_str(match policy {
            Self::OnFailure { .. } => "cannot be negative",
            _ if retries < 0 => "can only be used with 'on-failure' and cannot be negative",
            _ => "can only be used with 'on-failure'",
        });
        Err(Error::invalid(text))
    }

    /// Whether a container that ended by itself starts again.
    pub fn restarts(self, code: i32, stopped_by_user: bool, restarts: u64) -> bool {
        match self {
            Self::No => false,
            Self::Always => true,
            Self::UnlessStopped => !stopped_by_user,
            Self::OnFailure { retries } => code != 0 && (retries == 0 || restarts < retries),
        }
    }
}

/// The growing delay between restarts: 100 ms, doubled up to a minute.
#[derive(Clone, Copy, Debug, Default)]
pub struct Backoff {
    last: Option<Duration>,
}

impl Backoff {
    /// The delay before the next start of a container that ran for `ran`.
    pub fn next(&mut self, ran: Duration) -> Duration {
        let delay = match self.last {
            Some(last) if ran < STEADY_AFTER => (last * 2).min(LONGEST_DELAY),
            _ => FIRST_DELAY,
        };
        self.last = Some(delay);
        delay
    }

    /// Begins again with the shortest delay; a user started the container.
    pub fn reset(&mut self) {
        self.last = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_to_a_minute_and_reset_after_a_steady_run() {
        let mut backoff = Backoff::default();
        let short = Duration::from_millis(5);
        let delays: Vec<_> = (0..12).map(|_| backoff.next(short).as_millis()).collect();
        assert_eq!(delays[..5], [100, 200, 400, 800, 1600]);
        assert_eq!(delays[11], 60_000);
        assert_eq!(backoff.next(Duration::from_secs(11)), FIRST_DELAY);
        backoff.next(short);
        backoff.reset();
        assert_eq!(backoff.next(short), FIRST_DELAY);
    }

    #[test]
    fn policies_decide_as_docker_does() {
        let retry = Policy::parse("on-failure", 2).unwrap();
        assert!(retry.restarts(1, false, 1));
        assert!(!retry.restarts(1, false, 2));
        assert!(!retry.restarts(0, false, 0));
        assert!(Policy::Always.restarts(0, true, 9));
        assert!(!Policy::UnlessStopped.restarts(0, true, 0));
        assert!(Policy::UnlessStopped.restarts(0, false, 0));
        assert!(!Policy::No.restarts(1, false, 0));
    }

    #[test]
    fn odd_policies_are_refused() {
        for (name, retries, text) in [
            ("sometimes", 0, "unknown policy 'sometimes'"),
            ("always", 3, "can only be used with 'on-failure'"),
            ("on-failure", -1, "cannot be negative"),
        ] {
            let error = Policy::parse(name, retries).unwrap_err().to_string();
            assert!(error.contains(text), "{error}");
        }
    }
}
