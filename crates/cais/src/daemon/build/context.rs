//! The context of a build: an archive, or a Dockerfile alone, unpacked into a directory that goes with the build.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs;
use std::io::{Cursor, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cais_build::NamedContext;
use cais_build::dockerfile::Source;
use cais_build::dockerfile::git_ref::GitRef;
use cais_build::dockerfile::ignore::Ignore;
use cais_build::listing::{self, Listing, Ranges, Section};
use cais_build::ports::FileMemory;
use cais_types::api::query::BuildQuery;
use cais_types::{ContainerId, Error, Result};
use rustix::fs::{Mode, OFlags};

use super::kept::{self, Kept};

/// The most bytes of a Dockerfile or an ignore file.
const MAX: u64 = 16 << 20;
/// Bytes that tell an archive from a Dockerfile.
const HEAD: usize = 512;
/// Zeros at the end of an archive, with the padding of its last file: docker leaves both out when it adds a Dockerfile
/// from elsewhere.
const END: u64 = 2048;

/// An unpacked context; its directory goes when this is dropped, but for the files of those that stay.
pub struct Context {
    directory: PathBuf,
    files: PathBuf,
    kept: Option<Arc<Kept>>,
    /// Others, by name.
    pub named: BTreeMap<String, NamedContext>,
    pub dockerfile: Source,
}

/// Tells the client what of its contexts is wanted.
pub type Ask<'a> = &'a mut dyn FnMut(&[Ranges]) -> Result<()>;

impl Context {
    /// An empty one.
    fn new(directory: &Path) -> Result<Self> {
        let id = ContainerId::from_bytes(cais_engine::create::random()?);
        let contexts = directory.join("contexts");
        make(&contexts)?;
        cais_sys::tree::spread(open_directory(&contexts)?);
        let directory = contexts.join(id.to_string());
        make(&directory)?;
        let context = Self {
            files: directory.join("files"),
            kept: None,
            named: BTreeMap::new(),
            directory,
            dockerfile: Source::default(),
        };
        make(&context.files)?;
        Ok(context)
    }

    /// Fetches a repository, and finds the Dockerfile in it.
    pub fn checkout(directory: &Path, repository: &GitRef, query: &BuildQuery) -> Result<Self> {
        let mut context = Self::new(directory)?;
        context.files = super::fetch::checkout(repository, &context.files)?;
        let name = dockerfile_name(query);
        let text = context.read(name)?;
        context.hide_ignored(name)?;
        context.with_dockerfile(name, text)
    }

    /// Unpacks what the client sends, and finds the Dockerfile in it.
    pub fn receive(
        directory: &Path,
        mut body: impl Read + Send,
        query: &BuildQuery,
    ) -> Result<Self> {
        let context = Self::new(directory)?;
        let mut head = Vec::new();
        let broken = |error: std::io::Error| Error::invalid(format!("build context: {error}"));
        body.by_ref()
            .take(HEAD as u64)
            .read_to_end(&mut head)
            .map_err(broken)?;
        let name = dockerfile_name(query);
        let text = if is_archive(&head) {
            let missing = if is_compressed(&head) { 0 } else { END };
            let whole = Cursor::new(head).chain(body);
            let whole = whole.chain(std::io::repeat(0).take(missing));
            cais_images::extract_into(context.open()?, whole)
                .map_err(|error| Error::invalid(format!("build context: {error}")))?;
            let text = context.read(name)?;
            context.hide_ignored(name)?;
            text
        } else {
            let mut bytes = head;
            body.take(MAX).read_to_end(&mut bytes).map_err(broken)?;
            String::from_utf8_lossy(&bytes).into_owned()
        };
        context.with_dockerfile(name, text)
    }

    /// Takes what has changed since a build before: a list of all files comes first, `ask` says which of them are wanted.
    /// `directory` has the contexts that stay.
    pub fn update(
        directory: &Path,
        body: &mut (impl Read + Send),
        query: &BuildQuery,
        ask: Ask<'_>,
    ) -> Result<Self> {
        let broken = |error: std::io::Error| Error::invalid(format!("build context: {error}"));
        let stay = directory.join("kept");
        kept::remove_unused(&stay);
        let listings = listing::read(body).map_err(broken)?;
        let mut context = Self::new(directory)?;
        let mut places = Vec::new();
        for listing in &listings {
            places.push(Place::take(&context, &stay, listing)?);
        }
        let wanted: Vec<Ranges> = listings
            .iter()
            .zip(&places)
            .map(|(listing, place)| place.compare(listing))
            .collect::<Result<_>>()?;
        ask(&wanted)?;
        for ((listing, place), wanted) in listings.iter().zip(places).zip(&wanted) {
            let mut section = Section::new(body);
            cais_images::extract_into(open_directory(&place.files)?, &mut section)
                .map_err(|error| Error::invalid(format!("build context: {error}")))?;
            section.finish().map_err(broken)?;
            if let Some(kept) = &place.kept {
                kept.arrived(listing, wanted)?;
            }
            context.add(listing.name.clone(), place);
        }
        let name = dockerfile_name(query);
        let text = context.read(name)?;
        context.hide_ignored(name)?;
        context.with_dockerfile(name, text)
    }

    fn add(&mut self, name: String, place: Place) {
        if name.is_empty() {
            (self.files, self.kept) = (place.files, place.kept);
            return;
        }
        let context = NamedContext::Directory {
            path: place.files,
            memory: place.kept.map(|kept| kept as Arc<dyn FileMemory>),
        };
        self.named.insert(name, context);
    }

    /// Finds what the client only names: images, and repositories and archives that are fetched.
    ///
    /// # Errors
    /// Invalid: what it names. Those of fetching.
    pub fn find_named(
        &mut self,
        named: &BTreeMap<String, String>,
        fetch: impl Fn(&str, &Path) -> Result<PathBuf>,
    ) -> Result<()> {
        for (number, (name, place)) in named.iter().enumerate() {
            let context = match place.strip_prefix("docker-image://") {
                Some(image) => NamedContext::Image(image.to_owned()),
                None => {
                    let into = self.directory.join(format!("named-{number}"));
                    make(&into)?;
                    NamedContext::Directory {
                        path: fetch(place, &into)?,
                        memory: None,
                    }
                }
            };
            self.named.insert(name.to_lowercase(), context);
        }
        Ok(())
    }

    fn with_dockerfile(mut self, name: &str, text: String) -> Result<Self> {
        if text.is_empty() {
            return Err(Error::invalid(format!(
                "the Dockerfile ({name}) cannot be empty"
            )));
        }
        self.dockerfile = Source {
            name: name.to_owned(),
            text,
        };
        Ok(self)
    }

    /// Where the files are.
    pub fn path(&self) -> PathBuf {
        self.files.clone()
    }

    /// A directory that goes with the context.
    pub fn scratch(&self) -> PathBuf {
        self.directory.clone()
    }

    /// What is known of the files.
    pub fn memory(&self) -> Option<Arc<dyn FileMemory>> {
        let kept = self.kept.clone();
        kept.map(|kept| kept as Arc<dyn FileMemory>)
    }

    /// The root of the files.
    pub fn open(&self) -> Result<OwnedFd> {
        open_directory(&self.path())
    }

    /// A file of the context; links are followed within the context only.
    fn read(&self, name: &str) -> Result<String> {
        let root = self.open()?;
        let flags = OFlags::RDONLY | OFlags::NONBLOCK;
        let file =
            cais_sys::path_in_root::open(root.as_fd(), Path::new(name), flags, Mode::empty());
        let file = fs::File::from(file.map_err(|error| {
            let reason = match error.kind() {
                std::io::ErrorKind::NotFound => "no such file or directory".to_owned(),
                _ => error.to_string(),
            };
            Error::invalid(format!(
                "Cannot locate specified Dockerfile: {name}: {reason}"
            ))
        })?);
        let mut bytes = Vec::new();
        file.take(MAX)
            .read_to_end(&mut bytes)
            .map_err(|error| Error::invalid(format!("{name}: {error}")))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Clients send the Dockerfile and the ignore file even where they are ignored; then no COPY shall see them.
    fn hide_ignored(&self, dockerfile: &str) -> Result<()> {
        let Ok(text) = self.read(".dockerignore") else {
            return Ok(());
        };
        let ignore = Ignore::parse(&text).map_err(|error| Error::invalid(error.to_string()))?;
        let root = self.open()?;
        for name in [dockerfile, ".dockerignore"] {
            let plain = !name.contains('/') && ignore.ignores(name);
            if let Some(kept) = self.kept.as_ref().filter(|_| plain) {
                kept.forget(name);
            }
            let Some(name) = CString::new(name).ok().filter(|_| plain) else {
                continue;
            };
            cais_sys::tree::remove(root.as_fd(), &name)
                .map_err(|error| Error::internal(error.to_string()))?;
        }
        Ok(())
    }
}

/// Where the files of a context go.
struct Place {
    files: PathBuf,
    kept: Option<Arc<Kept>>,
}

impl Place {
    /// The context that stays, or a new directory while another build has that.
    fn take(context: &Context, stay: &Path, listing: &Listing) -> Result<Self> {
        if let Some(kept) = Kept::lease(stay, &listing.key)? {
            let (files, kept) = (kept.files(), Some(Arc::new(kept)));
            return Ok(Self { files, kept });
        }
        let name = format!("files-{}", listing.key);
        let files = match listing.name.as_str() {
            "" => context.files.clone(),
            _ => context.directory.join(name),
        };
        make(&files)?;
        Ok(Self { files, kept: None })
    }

    fn compare(&self, listing: &Listing) -> Result<Ranges> {
        match &self.kept {
            Some(kept) => kept.compare(listing),
            None => Ok(vec![(0, listing.entries.len())]),
        }
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.directory) {
            tracing::warn!(%error, directory = %self.directory.display(), "a build context stays");
        }
    }
}

fn dockerfile_name(query: &BuildQuery) -> &str {
    match query.dockerfile.as_str() {
        "" => "Dockerfile",
        name => name,
    }
}

pub fn open_directory(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty())
        .map_err(|errno| Error::internal(format!("{}: {errno}", path.display())))
}

pub fn make(path: &Path) -> Result<()> {
    let made = fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path);
    made.map_err(|error| Error::internal(format!("{}: {error}", path.display())))
}

/// Removes a directory; a missing one is no error.
pub fn remove(directory: &Path) -> std::io::Result<()> {
    let (Some(parent), Some(name)) = (directory.parent(), directory.file_name()) else {
        return Ok(());
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let parent = match rustix::fs::open(parent, flags, Mode::empty()) {
        Err(rustix::io::Errno::NOENT) => return Ok(()),
        result => result?,
    };
    let name = CString::new(name.as_encoded_bytes())?;
    cais_sys::tree::remove(parent.as_fd(), &name)
}

/// Whether the first bytes are those of a compressed stream.
fn is_compressed(head: &[u8]) -> bool {
    const MAGIC: [&[u8]; 4] = [
        &[0x1f, 0x8b, 8],
        b"BZh",
        &[0xfd, b'7', b'z', b'X', b'Z', 0],
        &[0x28, 0xb5, 0x2f, 0xfd],
    ];
    MAGIC.iter().any(|magic| head.starts_with(magic))
}

/// Whether the first bytes are those of a tar archive or of a compressed stream; text is a Dockerfile.
fn is_archive(head: &[u8]) -> bool {
    // The end of an archive is two blocks of zeros: one without files is an archive too.
    is_compressed(head)
        || head.get(257..262) == Some(b"ustar")
        || (head.len() == HEAD && head.contains(&0))
}
