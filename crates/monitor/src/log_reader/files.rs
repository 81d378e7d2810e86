//! The files of one log, oldest first, read as one stream while the writer rotates them.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::json_file::rotated;
use rustix::fs::inotify;

/// How often looking at the files is tried again when they rotate meanwhile, and after which time.
const TRIES: usize = 100;
const TRY_AGAIN: Duration = Duration::from_micros(500);

/// What reading once gave.
pub enum Step {
    /// So many bytes of the current file.
    Bytes(usize),
    /// The current file is complete, reading goes on in the next.
    NextFile,
    /// All that is there has been read.
    End,
}

enum Scan {
    /// The file has this number now.
    At(u32),
    /// There is no such file any more; the oldest is this one.
    Removed { oldest: u32 },
    /// The files are being renamed.
    Moving,
}

/// One open file and the place up to which it has been read.
pub struct LogFile {
    pub file: File,
    inode: u64,
    pub position: u64,
}

impl LogFile {
    fn open(path: &Path) -> io::Result<Option<Self>> {
        match File::open(path) {
            Ok(file) => {
                let inode = file.metadata()?.ino();
                Ok(Some(Self {
                    file,
                    inode,
                    position: 0,
                }))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// All files of a log that are still to be read. They are held open, so that none is lost by rotation.
pub struct LogFiles {
    path: PathBuf,
    /// Oldest first.
    pub open: VecDeque<LogFile>,
    watch: Option<Watch>,
}

struct Watch {
    descriptor: OwnedFd,
    /// The watched file.
    current: Option<(i32, u64)>,
}

impl LogFiles {
    /// Opens what is there; with `follow`, changes are told through [`LogFiles::notification`].
    pub fn open(path: PathBuf, follow: bool) -> io::Result<Self> {
        let watch = match follow {
            true => Some(Watch {
                descriptor: inotify::init(
                    inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK,
                )?,
                current: None,
            }),
            false => None,
        };
        let mut files = Self {
            path,
            open: VecDeque::new(),
            watch,
        };
        for _ in 0..TRIES {
            if files.open_all()? {
                break;
            }
            std::thread::sleep(TRY_AGAIN);
        }
        Ok(files)
    }

    /// Becomes readable when the current file changes.
    pub fn notification(&self) -> Option<BorrowedFd<'_>> {
        self.watch.as_ref().map(|watch| watch.descriptor.as_fd())
    }

    /// Whether the file that grows is known: only then do notifications tell of everything.
    pub fn is_current(&self) -> bool {
        let newest = self.open.back().map(|file| file.inode);
        newest.is_some() && inode_of(&self.path).is_ok_and(|inode| inode == newest)
    }

    /// False when the files were rotated while they were opened.
    fn open_all(&mut self) -> io::Result<bool> {
        self.open.clear();
        // After a crash in the middle of a rotation there are only older files.
        let current = LogFile::open(&self.path)?;
        let inode = current.as_ref().map(|file| file.inode);
        self.open.extend(current);
        let mut whole = true;
        let mut number = 0;
        let mut last = 0;
        while number <= last + 1 {
            number += 1;
            let Some(older) = LogFile::open(&rotated(&self.path, number))? else {
                continue;
            };
            whole &= number == last + 1;
            last = number;
            // A file that moved up meanwhile is met twice.
            if self
                .open
                .front()
                .is_none_or(|newer| newer.inode != older.inode)
            {
                self.open.push_front(older);
            }
        }
        Ok(whole && inode_of(&self.path)? == inode)
    }

    /// Reads on, in this file or the next.
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<Step> {
        self.watch_newest()?;
        let Some(file) = self.open.front_mut() else {
            return self.open_first();
        };
        let count = file.file.read_at(buffer, file.position)?;
        if count > 0 {
            file.position += count as u64;
            return Ok(Step::Bytes(count));
        }
        if self.open.len() > 1 {
            self.open.pop_front();
            return Ok(Step::NextFile);
        }
        self.at_end(buffer)
    }

    /// The end of the newest file that is known: it may have been cut or rotated meanwhile.
    fn at_end(&mut self, buffer: &mut [u8]) -> io::Result<Step> {
        let Some(file) = self.open.front_mut() else {
            return Ok(Step::End);
        };
        if file.file.metadata()?.len() < file.position {
            file.position = 0;
            return Ok(Step::NextFile);
        }
        let inode = file.inode;
        if self.watch.is_none() || inode_of(&self.path)? == Some(inode) {
            return Ok(Step::End);
        }
        // Nothing is written to a file after it got another name, but something may have been before.
        let count = file.file.read_at(buffer, file.position)?;
        if count > 0 {
            file.position += count as u64;
            return Ok(Step::Bytes(count));
        }
        let Some(next) = self.newer_than(inode)? else {
            return Ok(Step::End);
        };
        self.open.push_back(next);
        self.open.pop_front();
        Ok(Step::NextFile)
    }

    fn open_first(&mut self) -> io::Result<Step> {
        if self.watch.is_some()
            && let Some(file) = LogFile::open(&self.path)?
        {
            self.open.push_back(file);
            return Ok(Step::NextFile);
        }
        Ok(Step::End)
    }

    /// The file that was begun when the one with this inode was complete; the oldest one when that has been removed.
    fn newer_than(&self, inode: u64) -> io::Result<Option<LogFile>> {
        for _ in 0..TRIES {
            match self.scan(inode)? {
                Scan::At(number) => {
                    let newer = LogFile::open(&self.numbered(number - 1))?;
                    // Files only move up: if this one stayed, that one is its successor.
                    if newer.is_some() && inode_of(&self.numbered(number))? == Some(inode) {
                        return Ok(newer);
                    }
                }
                Scan::Removed { oldest } => return LogFile::open(&self.numbered(oldest)),
                Scan::Moving => {}
            }
            std::thread::sleep(TRY_AGAIN);
        }
        Ok(None)
    }

    /// Looks for a file among the older ones. The writer renames from the oldest to the newest, which leaves one number free
    /// that moves down; looking goes up, so that no file is missed.
    fn scan(&self, inode: u64) -> io::Result<Scan> {
        let mut number = 0;
        let mut last = 0;
        let mut moving = inode_of(&self.path)?.is_none();
        while number <= last + 1 {
            number += 1;
            match inode_of(&self.numbered(number))? {
                Some(found) if found == inode => return Ok(Scan::At(number)),
                Some(_) => {
                    moving |= number != last + 1;
                    last = number;
                }
                None => {}
            }
        }
        Ok(if moving {
            Scan::Moving
        } else {
            Scan::Removed { oldest: last }
        })
    }

    fn numbered(&self, number: u32) -> PathBuf {
        match number {
            0 => self.path.clone(),
            _ => rotated(&self.path, number),
        }
    }

    /// Watches the newest file, and forgets what was told so far: all of it is read after this.
    fn watch_newest(&mut self) -> io::Result<()> {
        let Some(watch) = &mut self.watch else {
            return Ok(());
        };
        let mut events = [0; 4096];
        while rustix::io::read(&watch.descriptor, &mut events).is_ok_and(|count| count > 0) {}
        let Some(newest) = self.open.back() else {
            return Ok(());
        };
        if watch
            .current
            .is_some_and(|(_, inode)| inode == newest.inode)
        {
            return Ok(());
        }
        if let Some((number, _)) = watch.current.take() {
            // Gone by itself when the file was removed.
            inotify::remove_watch(&watch.descriptor, number).ok();
        }
        let flags = inotify::WatchFlags::MODIFY | inotify::WatchFlags::MOVE_SELF;
        // By descriptor: the name may mean another file by now.
        let path = format!(
            "/proc/self/fd/{}",
            std::os::fd::AsRawFd::as_raw_fd(&newest.file)
        );
        let number = inotify::add_watch(&watch.descriptor, path, flags)?;
        watch.current = Some((number, newest.inode));
        Ok(())
    }
}

fn inode_of(path: &Path) -> io::Result<Option<u64>> {
    match std::fs::metadata(path) {
        Ok(metadata) => Ok(Some(metadata.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
