//! What becomes of a finished build besides the image in the daemon's store: `-o`, `--push` and `--metadata-file`.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use cais_client::answer::ByteStream;
use cais_options::csv;
use cais_types::Reference;
use futures_util::StreamExt as _;
use serde_json::json;
use tar::EntryType;
use tokio::sync::mpsc;

use crate::app::App;
use crate::commands::image::push;
use crate::error::{CliError, Result};
use crate::flags::Parsed;
use crate::new_file::NewFile;
use crate::terminal;

/// Bytes of zeros that end an archive.
const ARCHIVE_END: usize = 1024;
/// Pieces of an archive that may wait to be unpacked.
const DEPTH: usize = 4;

/// Where an archive goes.
#[derive(Debug, PartialEq, Eq)]
enum Destination {
    Stdout,
    File(PathBuf),
}

#[derive(Debug, PartialEq, Eq)]
enum Output {
    /// The files of the image, in a directory.
    Files(PathBuf),
    /// The files of the image, as an archive.
    FilesArchive(Destination),
    /// The image as an archive: an OCI layout that docker loads as well.
    ImageArchive(Destination),
    /// Names in the store.
    Names(Vec<String>),
}

/// Everything that is asked for.
#[derive(Debug, Default)]
pub struct Outputs {
    list: Vec<Output>,
    push: bool,
    /// Times of change in new layers are those of the image at most.
    pub rewrite_timestamp: bool,
}

/// A build that has gone well.
pub struct Built<'a> {
    /// The image's id, `sha256:...`.
    pub id: &'a str,
    /// Of several platforms each with its image's id.
    pub images: &'a [(String, String)],
    pub names: &'a [String],
    pub quiet: bool,
}

impl Built<'_> {
    /// Where the files of each image go: of several platforms each has a directory, `linux_amd64`.
    fn directories(&self) -> Vec<(Option<String>, &str)> {
        match self.images {
            [] => vec![(None, self.id)],
            images => images
                .iter()
                .map(|(platform, id)| (Some(platform.replace('/', "_")), id.as_str()))
                .collect(),
        }
    }
}

impl Outputs {
    /// Reads `--output`, `--push` and `--load`.
    ///
    /// # Errors
    /// Unknown types and attributes, destinations that cannot be written.
    pub fn parse(args: &Parsed) -> Result<Self> {
        let mut outputs = Self {
            push: args.switch("push"),
            ..Self::default()
        };
        for text in args.list("output") {
            outputs.add(&text).map_err(CliError::new)?;
        }
        let stdout = outputs.list.iter().filter(|output| output.is_stdout());
        match stdout.count() {
            0 => {}
            1 if !terminal::is_terminal(&io::stdout()) => {}
            1 => {
                return Err(CliError::new(
                    "dest file is required for an exporter. refusing to write to console",
                ));
            }
            _ => {
                return Err(CliError::new(
                    "several outputs cannot all be standard output",
                ));
            }
        }
        Ok(outputs)
    }

    fn add(&mut self, text: &str) -> std::result::Result<(), String> {
        let fields = csv::fields(text)?;
        if let [path] = &fields[..]
            && !path.starts_with("type=")
        {
            self.list.push(match path.as_str() {
                "-" => Output::FilesArchive(Destination::Stdout),
                path => Output::Files(directory(path)?),
            });
            return Ok(());
        }
        let (mut kind, mut destination) = (String::new(), String::new());
        let mut names = Vec::new();
        let mut push = false;
        for field in &fields {
            let (key, value) = field
                .split_once('=')
                .ok_or_else(|| format!("invalid value {field}"))?;
            match key {
                "type" => value.clone_into(&mut kind),
                "dest" => value.clone_into(&mut destination),
                "name" => names.extend(value.split(',').map(str::to_owned)),
                "push" => push = value == "true",
                "rewrite-timestamp" => self.rewrite_timestamp |= value == "true",
                _ => return Err(format!("output attribute {key} is not built yet")),
            }
        }
        let output = match kind.as_str() {
            "" => return Err("type is required for output".into()),
            "local" if destination.is_empty() => {
                return Err("dest is required for local exporter".into());
            }
            "local" => Output::Files(directory(&destination)?),
            "tar" => Output::FilesArchive(archive(&destination)?),
            // Without a file it is the store, where the image is anyway.
            "docker" if destination.is_empty() => Output::Names(names),
            "docker" | "oci" => Output::ImageArchive(archive(&destination)?),
            "image" => {
                self.push |= push;
                Output::Names(names)
            }
            "registry" => {
                self.push = true;
                Output::Names(names)
            }
            "cacheonly" => Output::Names(Vec::new()),
            other => return Err(format!("unsupported output type: {other}")),
        };
        self.list.push(output);
        Ok(())
    }

    /// Names that the outputs ask for.
    pub fn names(&self) -> impl Iterator<Item = &String> {
        self.list.iter().flat_map(|output| match output {
            Output::Names(names) => &names[..],
            _ => &[],
        })
    }

    /// Whether standard output is taken, so that progress goes elsewhere.
    pub fn take_stdout(&self) -> bool {
        self.list.iter().any(Output::is_stdout)
    }

    /// Refuses what cannot be done, before anything is built.
    ///
    /// # Errors
    /// A push without a name; an archive of several platforms without one.
    pub fn check(&self, names: &[String], several: bool) -> Result<()> {
        for output in self.list.iter().filter(|_| several) {
            let text = match output {
                Output::ImageArchive(_) if names.is_empty() => {
                    "an archive of several platforms needs a name (-t)"
                }
                _ => continue,
            };
            return Err(CliError::new(text));
        }
        if self.push && names.is_empty() {
            return Err(CliError::new("tag is needed when pushing to registry"));
        }
        Ok(())
    }

    /// Makes all of them; answers the digest of the manifest that a registry was given.
    ///
    /// # Errors
    /// Those of the daemon, of the registry, and of files here.
    pub async fn make(&self, app: &App, built: &Built<'_>) -> Result<Option<String>> {
        for output in &self.list {
            match output {
                Output::Names(_) => {}
                Output::Files(path) => {
                    for (directory, id) in built.directories() {
                        let directory = path.join(directory.unwrap_or_default());
                        let files = app.client()?.image_tree(id, None).await?;
                        unpack(files, directory).await?;
                    }
                }
                Output::FilesArchive(to) => {
                    write_files(app, built, to).await?;
                }
                Output::ImageArchive(to) => {
                    let by_id = [built.id.to_owned()];
                    let names = match built.names {
                        [] => &by_id[..],
                        names => names,
                    };
                    let image = app.client()?.image_save(names, None).await?;
                    write(app, image, to).await?;
                }
            }
        }
        let mut digest = None;
        for name in built.names.iter().filter(|_| self.push) {
            let name = reference(name)?.with_default_tag();
            digest = push::give(app, &name, None, built.quiet).await?;
        }
        Ok(digest)
    }
}

impl Output {
    fn is_stdout(&self) -> bool {
        matches!(
            self,
            Self::FilesArchive(Destination::Stdout) | Self::ImageArchive(Destination::Stdout)
        )
    }
}

/// What `--metadata-file` is given, in buildx's words.
///
/// # Errors
/// The file cannot be written.
pub fn write_metadata(path: &str, built: &Built<'_>, digest: Option<&str>) -> Result<()> {
    let mut metadata = json!({ "containerimage.config.digest": built.id });
    // As docker's own store has it, where no registry was given a manifest.
    metadata["containerimage.digest"] = json!(digest.unwrap_or(built.id));
    if !built.names.is_empty() {
        let names = built.names.iter();
        let names: Vec<String> = names
            .map(|name| Ok(reference(name)?.with_default_tag().to_string()))
            .collect::<Result<_>>()?;
        metadata["image.name"] = json!(names.join(","));
    }
    let mut file = NewFile::create(Path::new(path))?;
    file.write_all(format!("{metadata:#}\n").as_bytes())?;
    Ok(file.keep()?)
}

fn reference(name: &str) -> Result<Reference> {
    name.parse()
        .map_err(|error| CliError::new(format!("invalid tag {name:?}: {error}")))
}

fn directory(path: &str) -> std::result::Result<PathBuf, String> {
    match fs::metadata(path) {
        _ if path == "-" => Err("dest cannot be stdout for local exporter".into()),
        Ok(metadata) if !metadata.is_dir() => {
            Err(format!("destination directory {path} is a file"))
        }
        _ => Ok(path.into()),
    }
}

fn archive(path: &str) -> std::result::Result<Destination, String> {
    match fs::metadata(path) {
        _ if matches!(path, "" | "-") => Ok(Destination::Stdout),
        Ok(metadata) if metadata.is_dir() => Err(format!("destination file {path} is a directory")),
        _ => Ok(Destination::File(path.into())),
    }
}

/// Writes the files of all images as one archive.
async fn write_files(app: &App, built: &Built<'_>, to: &Destination) -> Result<()> {
    let mut file = match to {
        Destination::Stdout => None,
        Destination::File(path) => Some(NewFile::create(path)?),
    };
    let mut held = Vec::new();
    for (directory, id) in built.directories() {
        // What ends an archive is left out where another one follows.
        held.clear();
        let mut archive = app.client()?.image_tree(id, directory.as_deref()).await?;
        while let Some(piece) = archive.next().await {
            held.extend_from_slice(&piece?);
            let ready = held.len().saturating_sub(ARCHIVE_END);
            match &mut file {
                None => app.printer.out_bytes(&held[..ready])?,
                Some(file) => file.write_all(&held[..ready])?,
            }
            held.drain(..ready);
        }
    }
    match &mut file {
        None => app.printer.out_bytes(&held)?,
        Some(file) => file.write_all(&held)?,
    }
    Ok(file.map_or(Ok(()), NewFile::keep)?)
}

async fn write(app: &App, mut archive: ByteStream, to: &Destination) -> Result<()> {
    let mut file = match to {
        Destination::Stdout => None,
        Destination::File(path) => Some(NewFile::create(path)?),
    };
    while let Some(piece) = archive.next().await {
        match &mut file {
            None => app.printer.out_bytes(&piece?)?,
            Some(file) => file.write_all(&piece?)?,
        }
    }
    Ok(file.map_or(Ok(()), NewFile::keep)?)
}

/// Pieces as they come, to be read by a thread.
struct Pieces {
    receiver: mpsc::Receiver<Bytes>,
    current: Bytes,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.receiver.blocking_recv() {
                Some(piece) => self.current = piece,
                None => return Ok(0),
            }
        }
        let count = buffer.len().min(self.current.len());
        buffer[..count].copy_from_slice(&self.current.split_to(count));
        Ok(count)
    }
}

/// Writes the files of an archive to a directory.
pub(super) async fn unpack(mut files: ByteStream, into: PathBuf) -> Result<()> {
    let (sender, receiver) = mpsc::channel(DEPTH);
    let unpacking = tokio::task::spawn_blocking(move || {
        let pieces = Pieces {
            receiver,
            current: Bytes::new(),
        };
        unpack_files(pieces, &into)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", into.display())))
    });
    while let Some(piece) = files.next().await {
        // A thread that ended early has an error to tell.
        if sender.send(piece?).await.is_err() {
            break;
        }
    }
    drop(sender);
    let unpacked = unpacking.await;
    Ok(unpacked.map_err(io::Error::other)??)
}

/// Files are whose who unpacks them, and devices are left out. Directories get their modes last, so that one that may not
/// be written to is filled before.
fn unpack_files(files: impl Read, into: &Path) -> io::Result<()> {
    fs::create_dir_all(into)?;
    let mut archive = tar::Archive::new(files);
    archive.set_preserve_permissions(true);
    let mut directories = Vec::new();
    for entry in archive.entries()? {
        let mut entry = entry?;
        match entry.header().entry_type() {
            EntryType::Directory => directories.push(entry),
            EntryType::Regular | EntryType::Symlink | EntryType::Link => {
                place(&mut entry, into)?;
            }
            _ => {}
        }
    }
    directories
        .iter_mut()
        .rev()
        .try_for_each(|entry| place(entry, into))
}

fn place<R: Read>(entry: &mut tar::Entry<'_, R>, into: &Path) -> io::Result<()> {
    if entry.unpack_in(into)? {
        return Ok(());
    }
    let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
    Err(io::Error::other(format!(
        "{path} leads out of the directory"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> std::result::Result<Outputs, String> {
        let mut outputs = Outputs::default();
        outputs.add(text)?;
        Ok(outputs)
    }

    #[test]
    fn outputs_are_read_as_buildx_reads_them() {
        let one = |text: &str| parsed(text).unwrap().list.remove(0);
        assert_eq!(one("out"), Output::Files("out".into()));
        assert_eq!(one("-"), Output::FilesArchive(Destination::Stdout));
        assert_eq!(one("type=local,dest=out"), Output::Files("out".into()));
        let file = || Destination::File("f.tar".into());
        assert_eq!(one("type=tar,dest=f.tar"), Output::FilesArchive(file()));
        assert_eq!(one("type=oci,dest=f.tar"), Output::ImageArchive(file()));
        assert_eq!(one("type=docker"), Output::Names(Vec::new()));
        let registry = parsed("type=registry,\"name=a,b\"").unwrap();
        assert!(registry.push);
        assert_eq!(registry.names().collect::<Vec<_>>(), ["a", "b"]);
        assert!(!parsed("type=image,name=a").unwrap().push);
        assert!(parsed("type=image,name=a,push=true").unwrap().push);
        for (text, error) in [
            ("type=local", "dest is required for local exporter"),
            ("dest=x,name=y", "type is required for output"),
            ("type=ship", "unsupported output type: ship"),
            ("type=tar,dest=/", "destination file / is a directory"),
            (
                "type=local,dest=/dev/null",
                "destination directory /dev/null is a file",
            ),
            (
                "type=oci,compression=zstd",
                "output attribute compression is not built yet",
            ),
        ] {
            assert_eq!(parsed(text).unwrap_err(), error, "{text}");
        }
    }

    #[test]
    fn what_leads_out_of_the_directory_is_refused() {
        let scratch = tempfile::tempdir().unwrap();
        let mut builder = tar::Builder::new(Vec::new());
        let mut link = tar::Header::new_gnu();
        link.set_entry_type(EntryType::Symlink);
        link.set_size(0);
        let outside = scratch.path().join("outside");
        fs::create_dir(&outside).unwrap();
        builder.append_link(&mut link, "door", &outside).unwrap();
        let mut header = tar::Header::new_gnu();
        header.set_size(1);
        header.set_mode(0o644);
        builder
            .append_data(&mut header, "door/file", &b"x"[..])
            .unwrap();
        let archive = builder.into_inner().unwrap();
        assert!(unpack_files(&archive[..], &scratch.path().join("in")).is_err());
        assert!(!outside.join("file").exists());
    }
}
