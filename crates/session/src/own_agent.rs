//! An agent for keys that are in files.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

/// How long it may take to begin.
const PATIENCE: Duration = Duration::from_secs(10);

/// An agent that was started for the keys of files. It ends with a command of its own, which ends with its input: ours, so
/// that it outlives nobody.
pub struct OwnAgent {
    command: Child,
    directory: TempDir,
}

impl Drop for OwnAgent {
    fn drop(&mut self) {
        drop(self.command.stdin.take());
        // A process of ours that ended has to be waited for; there is nothing to learn from it.
        let _ = self.command.wait();
    }
}

impl OwnAgent {
    /// Starts OpenSSH's agent with keys that need no passphrase.
    ///
    /// # Errors
    /// OpenSSH is not here, or a key that it does not take.
    pub fn with_keys(keys: &[&str]) -> Result<Self, String> {
        let directory = tempfile::Builder::new()
            .prefix("cais-agent-")
            .tempdir()
            .map_err(|error| error.to_string())?;
        let failed = |what: &str, error: &dyn std::fmt::Display| format!("{what}: {error}");
        let command = Command::new("ssh-agent")
            .arg("-a")
            .arg(directory.path().join("socket"))
            .arg("cat")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .map_err(|error| failed("ssh-agent", &error))?;
        let own = Self { command, directory };
        let begun = std::time::Instant::now();
        while !is_socket(&own.socket()) {
            if begun.elapsed() > PATIENCE {
                return Err(failed("ssh-agent", &"it does not begin"));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        for key in keys {
            let added = Command::new("ssh-add")
                .arg("--")
                .arg(key)
                .env("SSH_AUTH_SOCK", own.socket())
                .env("SSH_ASKPASS_REQUIRE", "never")
                .stdin(Stdio::null())
                .output()
                .map_err(|error| failed("ssh-add", &error))?;
            if !added.status.success() {
                let text = String::from_utf8_lossy(&added.stderr);
                return Err(failed(key, &text.trim()));
            }
        }
        Ok(own)
    }

    /// Where it listens.
    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("socket")
    }
}

/// Whether there is a socket at a path.
pub fn is_socket(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt;
    path.metadata()
        .is_ok_and(|metadata| metadata.file_type().is_socket())
}
