//! Starts a daemon when nobody said where one is and the default socket does not answer. The daemon tells by a pipe that
//! it is ready: it writes a byte to the descriptor named by `--ready-fd N`, or closes it when it fails.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use cais_client::DaemonStarter;
use futures_core::future::BoxFuture;
use tokio::io::AsyncReadExt as _;

/// Makes the command that starts a daemon, without streams and without `--ready-fd`. The daemon makes a session of its
/// own (`setsid`) before it reports readiness.
pub type SpawnCommand = fn() -> Command;

/// Output of a daemon that was started this way.
const LOG: &str = "/var/log/cais.log";

/// How much of the log is shown when the daemon fails.
const LOG_TAIL: usize = 2048;

/// Starts the daemon of the default socket.
pub struct Autostart {
    spawn: SpawnCommand,
    log: PathBuf,
}

impl Autostart {
    /// A starter; `None` for users who may not start a daemon.
    pub fn for_this_user(spawn: SpawnCommand) -> Option<Arc<dyn DaemonStarter>> {
        rustix::process::geteuid().is_root().then(|| {
            Arc::new(Self {
                spawn,
                log: LOG.into(),
            }) as Arc<dyn DaemonStarter>
        })
    }

    async fn run(&self) -> Result<(), String> {
        let failed = |error: io::Error| format!("Cannot start the daemon: {error}");
        let (log, from) = open_log(&self.log).map_err(failed)?;
        // Inheritable on purpose: the daemon gets the writing end.
        let (read, write) = rustix::pipe::pipe().map_err(|error| failed(error.into()))?;
        let keep = rustix::io::FdFlags::CLOEXEC;
        rustix::io::fcntl_setfd(&read, keep).map_err(|error| failed(error.into()))?;
        let mut child = (self.spawn)()
            .arg("--ready-fd")
            .arg(write.as_raw_fd().to_string())
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(failed)?)
            .stderr(log)
            .spawn()
            .map_err(failed)?;
        drop(write);
        let mut pipe = tokio::net::unix::pipe::Receiver::from_owned_fd(read).map_err(failed)?;
        let mut byte = [0];
        match pipe.read(&mut byte).await {
            Ok(1) => Ok(()),
            Ok(_) => {
                let status = child.wait().map_err(failed)?;
                Err(format!(
                    "Cannot start the daemon ({status}), see {}:\n{}",
                    self.log.display(),
                    tail(&self.log, from)
                ))
            }
            Err(error) => Err(failed(error)),
        }
    }
}

impl DaemonStarter for Autostart {
    fn start(&self) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(self.run())
    }
}

fn open_log(path: &Path) -> io::Result<(File, u64)> {
    let log = OpenOptions::new().create(true).append(true).open(path)?;
    let length = log.metadata()?.len();
    Ok((log, length))
}

/// The end of what this daemon wrote.
fn tail(path: &Path, from: u64) -> String {
    let text = std::fs::read(path).unwrap_or_default();
    let start = usize::try_from(from).unwrap_or(0).min(text.len());
    let new = &text[start..];
    let cut = new.len().saturating_sub(LOG_TAIL);
    String::from_utf8_lossy(&new[cut..]).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready() -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", "printf x >/proc/self/fd/$2", "sh"]);
        command
    }

    fn broken() -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", "echo boom >&2; exit 3", "sh"]);
        command
    }

    fn start(spawn: SpawnCommand) -> (Result<(), String>, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("log");
        std::fs::write(&log, "old\n").unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let autostart = Autostart {
            spawn,
            log: log.clone(),
        };
        (runtime.block_on(autostart.start()), log)
    }

    #[test]
    fn a_byte_on_the_pipe_means_ready() {
        assert_eq!(start(ready).0, Ok(()));
    }

    #[test]
    fn a_daemon_that_fails_is_told_with_its_own_words() {
        let (result, log) = start(broken);
        let want = format!(
            "Cannot start the daemon (exit status: 3), see {}:\nboom",
            log.display()
        );
        assert_eq!(result, Err(want));
    }
}
