//! The folder: `blobs/sha256/<2 hex>/<64 hex>`, `uploads/<id>`, and `trash`, where files wait for being unlinked, because that
//! may take long. Blocking.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use cais_types::Digest;

use super::uploads::UploadId;

/// Paths below one root.
#[derive(Clone, Debug)]
pub struct Files {
    blobs: PathBuf,
    uploads: PathBuf,
    trash: PathBuf,
}

impl Files {
    /// Makes the folders that are missing, durably, and empties the trash of an earlier run.
    pub fn open(root: &Path) -> io::Result<Self> {
        let files = Self {
            blobs: root.join("blobs/sha256"),
            uploads: root.join("uploads"),
            trash: root.join("trash"),
        };
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o700);
        for directory in [&files.blobs, &files.uploads, &files.trash] {
            builder.create(directory)?;
        }
        for prefix in 0..=u8::MAX {
            builder.create(files.shelf(prefix))?;
        }
        sync_directory(&files.blobs)?;
        sync_directory(&root.join("blobs"))?;
        sync_directory(root)?;
        for entry in fs::read_dir(&files.trash)? {
            fs::remove_file(entry?.path())?;
        }
        Ok(files)
    }

    fn shelf(&self, prefix: u8) -> PathBuf {
        self.blobs.join(hex::encode([prefix]))
    }

    /// Where a blob or a manifest lies.
    pub fn blob(&self, digest: &Digest) -> PathBuf {
        self.shelf(digest.as_bytes()[0]).join(digest.hex())
    }

    /// Where an upload grows.
    pub fn upload(&self, id: &UploadId) -> PathBuf {
        self.uploads.join(id.as_str())
    }

    /// Starts an upload.
    pub fn create_upload(&self, id: &UploadId) -> io::Result<File> {
        let mut options = File::options();
        options.read(true).write(true).create_new(true).mode(0o600);
        options.open(self.upload(id))
    }

    /// Goes on with an upload.
    pub fn open_upload(&self, id: &UploadId) -> io::Result<File> {
        File::options().read(true).write(true).open(self.upload(id))
    }

    /// Ends an upload without a blob; a missing file is no error.
    pub fn remove_upload(&self, id: &UploadId) -> io::Result<()> {
        match fs::remove_file(self.upload(id)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Names of the upload files that are there.
    pub fn uploads(&self) -> io::Result<Vec<String>> {
        fs::read_dir(&self.uploads)?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect()
    }

    /// Makes a synced upload a blob, in place of what was there under its digest.
    pub fn keep(&self, id: &UploadId, digest: &Digest) -> io::Result<()> {
        fs::rename(self.upload(id), self.blob(digest))
    }

    /// Makes the names of blobs with this first byte durable.
    pub fn sync_shelf(&self, prefix: u8) -> io::Result<()> {
        sync_directory(&self.shelf(prefix))
    }

    /// Takes a blob's name away at once; [`Files::empty`] gives its space back. A missing file is no error.
    pub fn discard(&self, digest: &Digest, number: u64) -> io::Result<Option<PathBuf>> {
        let trash = self.trash.join(format!("{}.{number}", digest.hex()));
        match fs::rename(self.blob(digest), &trash) {
            Ok(()) => Ok(Some(trash)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Unlinks discarded files.
    pub fn empty(discarded: &[PathBuf]) {
        for path in discarded {
            if let Err(error) = fs::remove_file(path) {
                tracing::warn!(%error, path = %path.display(), "remove");
            }
        }
    }

    /// Digests of the files of one shelf that are older than a time; names that are no digest are left alone.
    pub fn old_blobs(&self, prefix: u8, before: SystemTime) -> io::Result<Vec<Digest>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(self.shelf(prefix))? {
            let entry = entry?;
            let name = entry.file_name();
            let digest = name
                .to_str()
                .and_then(|name| format!("sha256:{name}").parse::<Digest>().ok());
            let old = entry.metadata().and_then(|metadata| metadata.modified());
            if let (Some(digest), Ok(modified)) = (digest, old)
                && modified < before
            {
                found.push(digest);
            }
        }
        Ok(found)
    }
}

fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}
