//! A file that appears under its name only when it is whole.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// A file being written beside its final place; dropping it without [`NewFile::keep`] removes it.
pub struct NewFile {
    file: File,
    part: PathBuf,
    path: PathBuf,
    kept: bool,
}

impl NewFile {
    /// Begins a file. Devices and pipes are written directly.
    ///
    /// # Errors
    /// The directory does not exist or may not be written.
    pub fn create(path: &Path) -> io::Result<Self> {
        let special = std::fs::metadata(path).is_ok_and(|meta| !meta.is_file());
        let part = if special {
            path.to_owned()
        } else {
            let mut name = path.as_os_str().to_owned();
            name.push(format!(".{}.part", std::process::id()));
            PathBuf::from(name)
        };
        Ok(Self {
            file: OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&part)?,
            part,
            path: path.to_owned(),
            kept: special,
        })
    }

    /// Writes a piece.
    ///
    /// # Errors
    /// The disk is full, or worse.
    pub fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)
    }

    /// Gives the file its name.
    ///
    /// # Errors
    /// It cannot be renamed.
    pub fn keep(mut self) -> io::Result<()> {
        if !self.kept {
            std::fs::rename(&self.part, &self.path)?;
            self.kept = true;
        }
        Ok(())
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.kept {
            // It may be gone already.
            drop(std::fs::remove_file(&self.part));
        }
    }
}
