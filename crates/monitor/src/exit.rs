//! The exit record: on disk before anybody is told.

use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use super::protocol::Exit;

/// Name of the exit record in the container's directory.
pub const FILE: &str = "exit.json";

/// Writes the record under its name in one step. It is not forced to the disk: after a power cut no process runs either.
pub fn write(directory: &Path, exit: &Exit) -> io::Result<()> {
    let temporary = directory.join("exit.json.tmp");
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)?;
    file.write_all(&serde_json::to_vec(exit)?)?;
    std::fs::rename(&temporary, directory.join(FILE))
}

/// Reads the record; `None` when there is none.
pub fn read(directory: &Path) -> io::Result<Option<Exit>> {
    match std::fs::read(directory.join(FILE)) {
        Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
