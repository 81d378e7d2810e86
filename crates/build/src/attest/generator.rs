//! Bills of materials that an image makes: a scanner of BuildKit's protocol. It is run with the tree it is to look at below
//! `/run/src/core/sbom`, read-only, and writes in-toto statements below `/run/out`.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use cais_types::oci::Platform;
use cais_types::oci::set::{Statement, package_url};
use cais_types::{Digest, Error, Reference, Result};
use rustix::fs::{Dir, FileType, Mode, OFlags};
use serde::Deserialize;
use serde_json::Value;

use super::provenance::Sources;
use super::sbom::SPDX;
use crate::messages::StageLog;
use crate::output::Events;
use crate::ports::{BaseImage, Host, Ports, RunStep, StepMount, TreeRoot};

/// Where a scanner finds what it is to look at; the last word is the name of the scan.
const SOURCE: &str = "/run/src/core/sbom";
/// Where it writes.
const DESTINATION: &str = "/run/out";
/// The most bytes of a statement.
const STATEMENT_MAX: u64 = 64 << 20;

/// A scan of an image by another one.
pub struct Scan<'a> {
    /// The name of the scanner.
    pub generator: &'a str,
    /// What is looked at.
    pub image: &'a Digest,
    pub ports: Ports<'a>,
    pub log: &'a StageLog,
    pub sources: &'a Sources,
    /// Ask the registry for a newer scanner.
    pub pull: bool,
    pub network: &'a str,
    pub host: &'a Host,
    /// A directory that goes with the build.
    pub scratch: &'a Path,
}

/// What a scanner writes, as far as it counts: whom it is about is known.
#[derive(Deserialize)]
struct Written {
    #[serde(rename = "predicateType")]
    predicate_type: String,
    predicate: Value,
}

impl Scan<'_> {
    /// Runs the scanner; answers what it wrote, in order of the names of files.
    ///
    /// # Errors
    /// Not found: the scanner. Invalid: it fails, or writes something else than statements with SPDX documents.
    pub fn run(&self) -> Result<Vec<Statement>> {
        self.log
            .text(&format!("generating sbom using {}\n", self.generator))?;
        let scanner = self.scanner()?;
        let out = self.scratch.join(format!("sbom-{}", self.image.short()));
        fs::create_dir_all(&out).map_err(failed)?;
        let step = self.step(&scanner, out.clone())?;
        let command = step.argv.join(" ");
        let executor = self.ports.executor;
        let ran = executor.run(step, &mut Events::new(self.log))?;
        executor.discard(&ran.container)?;
        if ran.code != 0 {
            return Err(Error::invalid(format!(
                "generating sbom using {}: The command '{command}' returned a non-zero code: {}",
                self.generator, ran.code
            )));
        }
        let statements = statements(&out)?;
        if statements.is_empty() {
            let text = format!("{} has written no sbom\n", self.generator);
            self.log.text(&text)?;
        }
        Ok(statements)
    }

    /// The scanner's image, for this machine whatever is scanned.
    fn scanner(&self) -> Result<BaseImage> {
        let images = self.ports.images;
        let host = Platform::host();
        let here = (!self.pull).then(|| images.find(self.generator, Some(&host)));
        let id = match here.flatten() {
            Some(id) => id,
            None => images.pull(self.generator, Some(&host), &mut |message| {
                self.log.message(message)
            })?,
        };
        let image = images.image(&id)?;
        if let Ok(reference) = self.generator.parse::<Reference>() {
            let uri = package_url(&reference.with_default_tag(), Some(&image.platform));
            let digest = image.manifest.unwrap_or(id);
            self.sources.material(uri, Some(digest.hex()));
        }
        Ok(image)
    }

    fn step(&self, scanner: &BaseImage, out: PathBuf) -> Result<RunStep> {
        let config = &scanner.config;
        let words = [&config.entrypoint, &config.cmd];
        let argv: Vec<String> = words.into_iter().flatten().flatten().cloned().collect();
        if argv.is_empty() {
            let text = format!("{} has no command to generate an sbom", self.generator);
            return Err(Error::invalid(text));
        }
        let mut env = config.env.clone().unwrap_or_default();
        env.push(format!("BUILDKIT_SCAN_DESTINATION={DESTINATION}"));
        env.push(format!("BUILDKIT_SCAN_SOURCE={SOURCE}"));
        let mounts = vec![
            StepMount::Tmpfs {
                target: "/tmp".to_owned(),
                size: 0,
            },
            StepMount::Tree {
                root: TreeRoot::Image(*self.image),
                path: "/".to_owned(),
                target: SOURCE.to_owned(),
                read_only: true,
            },
            StepMount::Context {
                source: out,
                target: DESTINATION.to_owned(),
                read_only: false,
            },
        ];
        Ok(RunStep {
            image: Some(scanner.id),
            argv,
            env,
            user: config.user.clone(),
            working_dir: config.working_dir.clone(),
            network: self.network.to_owned(),
            host: self.host.clone(),
            mounts,
            session: String::new(),
            canceled: self.log.canceled(),
        })
    }
}

/// The statements in a directory that a scanner has written to, which may have put anything there.
fn statements(directory: &Path) -> Result<Vec<Statement>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = rustix::fs::open(directory, flags, Mode::empty()).map_err(io::Error::from);
    let directory = directory.map_err(failed)?;
    let entries = Dir::read_from(&directory).map_err(io::Error::from);
    let mut names = Vec::new();
    for entry in entries.map_err(failed)? {
        let entry = entry.map_err(io::Error::from).map_err(failed)?;
        names.push(entry.file_name().to_bytes().to_vec());
    }
    names.retain(|name| !matches!(&name[..], b"." | b".."));
    names.sort();
    let names = names.iter().map(|name| OsStr::from_bytes(name));
    names.map(|name| statement(&directory, name)).collect()
}

fn statement(directory: &OwnedFd, name: &OsStr) -> Result<Statement> {
    let bad = |what: String| Error::invalid(format!("sbom {}: {what}", name.display()));
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::openat(directory, name, flags, Mode::empty());
    let file = file.map_err(|errno| bad(errno.to_string()))?;
    let stat = rustix::fs::fstat(&file).map_err(|errno| bad(errno.to_string()))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(bad("not a regular file".to_owned()));
    }
    let mut bytes = Vec::new();
    let read = File::from(file).take(STATEMENT_MAX).read_to_end(&mut bytes);
    read.map_err(|error| bad(error.to_string()))?;
    let written: Written =
        serde_json::from_slice(&bytes).map_err(|error| bad(format!("no statement: {error}")))?;
    if written.predicate_type != SPDX {
        let text = format!("does not match required predicate type {SPDX}");
        return Err(bad(text));
    }
    Ok(Statement {
        predicate_type: written.predicate_type,
        predicate: written.predicate,
    })
}

fn failed(error: io::Error) -> Error {
    Error::internal(format!("sbom: {error}")).with_source(error)
}
