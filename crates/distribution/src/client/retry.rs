//! How long to wait before the next attempt, and when to give up.

use std::time::Duration;

use http::HeaderMap;
use http::header::RETRY_AFTER;

use super::error::RegistryError;

const FIRST_WAIT: Duration = Duration::from_millis(200);
const WAIT_MAX: Duration = Duration::from_secs(10);
/// A registry that asks for more is told to the user instead.
const ASKED_WAIT_MAX: Duration = Duration::from_secs(60);

/// The attempts that are left; waits grow from one to the next.
#[derive(Clone, Debug)]
pub struct Patience {
    attempts: u32,
    left: u32,
}

impl Patience {
    /// So many attempts in all, at least one.
    pub fn new(attempts: u32) -> Self {
        Self {
            attempts,
            left: attempts.saturating_sub(1),
        }
    }

    /// Starts anew; for transfers that got on.
    pub fn restore(&mut self) {
        *self = Self::new(self.attempts);
    }

    /// The wait before the next attempt; none when there is none.
    pub fn after(&mut self, error: &RegistryError) -> Option<Duration> {
        if !error.is_passing() || self.left == 0 {
            return None;
        }
        let failed = self.attempts.saturating_sub(self.left + 1).min(8);
        self.left -= 1;
        match error.retry_after() {
            Some(asked) if asked > ASKED_WAIT_MAX => None,
            Some(asked) => Some(asked),
            None => Some((FIRST_WAIT * 2_u32.pow(failed)).min(WAIT_MAX)),
        }
    }
}

/// `Retry-After`: seconds, or a date.
pub fn asked_wait(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let then = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
    let wait = then.duration_since(jiff::Timestamp::now());
    Some(wait.try_into().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken(passing: bool) -> RegistryError {
        RegistryError::Transport {
            verb: "Get",
            url: String::new(),
            reason: String::new(),
            passing,
        }
    }

    #[test]
    fn waits_grow_and_end() {
        let mut patience = Patience::new(3);
        let first = patience.after(&broken(true)).unwrap();
        let second = patience.after(&broken(true)).unwrap();
        assert!(second > first);
        assert_eq!(patience.after(&broken(true)), None);
        patience.restore();
        assert_eq!(patience.after(&broken(false)), None);
        assert_eq!(patience.after(&broken(true)), Some(first));
    }

    #[test]
    fn registries_ask_in_seconds_or_by_date() {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, "7".parse().unwrap());
        assert_eq!(asked_wait(&headers), Some(Duration::from_secs(7)));
        headers.insert(
            RETRY_AFTER,
            "Wed, 21 Oct 2015 07:28:00 GMT".parse().unwrap(),
        );
        assert_eq!(asked_wait(&headers), Some(Duration::ZERO));
        headers.insert(RETRY_AFTER, "soon".parse().unwrap());
        assert_eq!(asked_wait(&headers), None);
    }
}
