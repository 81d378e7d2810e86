//! Named points at which a test lets the process die as `kill -9` does. In builds without debug assertions they are nothing.

use std::io;

/// Where to die.
#[cfg(debug_assertions)]
struct Armed {
    name: String,
    /// How many more times the point is passed.
    left: std::sync::atomic::AtomicU64,
}

#[cfg(debug_assertions)]
static ARMED: std::sync::OnceLock<Armed> = std::sync::OnceLock::new();

/// Arms one point for the life of the process: `NAME`, or `NAME:TIMES` to die when it is reached so many times.
///
/// # Errors
/// A point is armed already; a build that has none.
#[cfg(debug_assertions)]
pub fn arm(point: &str) -> io::Result<()> {
    let (name, times) = point.split_once(':').unwrap_or((point, "1"));
    let times: u64 = times.parse().map_err(io::Error::other)?;
    let armed = Armed {
        name: name.to_owned(),
        left: times.into(),
    };
    let already = |_| io::Error::other("a point is armed already");
    ARMED.set(armed).map_err(already)
}

/// Arms nothing: this build has no such points.
///
/// # Errors
/// Always.
#[cfg(not(debug_assertions))]
pub fn arm(_point: &str) -> io::Result<()> {
    Err(io::Error::other("this build has no failure points"))
}

/// Dies here when this point is armed.
#[inline]
pub fn reach(_name: &str) {
    #[cfg(debug_assertions)]
    if let Some(armed) = ARMED.get()
        && armed.name == _name
        && armed
            .left
            .fetch_sub(1, std::sync::atomic::Ordering::Relaxed)
            == 1
    {
        let own = rustix::process::getpid();
        let _ = rustix::process::kill_process(own, rustix::process::Signal::KILL);
    }
}
