//! The monitor's loop: one thread that waits for engines, clients, output and the end of processes.

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::control::Connection;
use super::exit;
use super::json_file::OutputStream;
use super::protocol::{Exit, Message};
use super::runner::{Runner, Streams};
use super::session::{ReadBuffer, Session};
use cais_runtime::timestamp::Timestamp;

/// How long a busy monitor keeps its large buffers without output.
const PAUSE: Duration = Duration::from_millis(50);
/// How long clients and engines may take to read what is left after the container's end, since they last read some.
const LINGER: Duration = Duration::from_secs(10);
/// Codes of ended execs that are kept; an engine was told each at once.
const ENDED_KEPT: usize = 256;

/// Where things are.
pub struct Places {
    /// `exit.json` is written here.
    pub directory: PathBuf,
    /// The control socket.
    pub socket: PathBuf,
}

/// The state of a monitor. The first session is init's.
pub struct Supervisor<R> {
    pub(super) runner: R,
    places: Places,
    listener: OwnedFd,
    pub(super) connections: Vec<Connection>,
    pub(super) sessions: Vec<Session>,
    pub(super) ended: VecDeque<(String, i32)>,
    /// The near ends of init's streams, from the creation to the start.
    pub(super) streams: Streams,
    pub(super) started: bool,
    /// Set when there is nothing to run any more.
    pub(super) abandoned: bool,
    /// Much memory was used a moment ago, and is free again.
    pub(super) untidy: bool,
    buffer: ReadBuffer,
    input: Vec<u8>,
}

/// What a polled descriptor belongs to.
#[derive(Clone, Copy)]
enum Source {
    Listener,
    Connection(usize),
    Process(usize),
    Output(usize, OutputStream),
    Input(usize),
    Client(usize, usize),
}

impl<R: Runner> Supervisor<R> {
    /// A monitor of a container that is prepared but not started.
    pub fn new(
        runner: R,
        places: Places,
        listener: OwnedFd,
        launcher: Connection,
        init: Session,
    ) -> Self {
        Self {
            runner,
            places,
            listener,
            connections: vec![launcher],
            sessions: vec![init],
            ended: VecDeque::new(),
            streams: Streams::default(),
            started: false,
            abandoned: false,
            untidy: false,
            buffer: ReadBuffer::new(),
            input: Vec::new(),
        }
    }

    /// Serves until the container has ended and everybody knows. Answers the monitor's own exit status: 1 when the
    /// container was never started.
    pub fn run(&mut self) -> i32 {
        loop {
            if self.abandoned || (!self.started && self.connections.is_empty()) {
                self.abandon();
                return 1;
            }
            if std::mem::take(&mut self.untidy) {
                cais_sys::heap::trim();
            }
            let busy = self.buffer.is_large().then_some(PAUSE);
            let patience = self.sessions[1..].iter().filter_map(Session::patience);
            let events = self.wait(patience.chain(busy).min());
            if events.is_empty() {
                self.release_memory();
                self.sweep();
                continue;
            }
            for (source, flags) in events {
                self.handle(source, flags);
            }
            self.feed_unread();
            self.sweep();
            if self.sessions[0].code.is_some() {
                self.finish();
                return 0;
            }
        }
    }

    fn wait(&self, timeout: Option<Duration>) -> Vec<(Source, PollFlags)> {
        let mut sources = Vec::with_capacity(8);
        let mut polled = Vec::with_capacity(8);
        let mut add = |source, descriptor, interest| {
            sources.push(source);
            polled.push(PollFd::from_borrowed_fd(descriptor, interest));
        };
        add(Source::Listener, self.listener.as_fd(), PollFlags::IN);
        for (index, connection) in self.connections.iter().enumerate() {
            add(
                Source::Connection(index),
                connection.descriptor(),
                connection.interest(),
            );
        }
        for (index, session) in self.sessions.iter().enumerate() {
            if let Some(process) = &session.process {
                add(Source::Process(index), process.pidfd.as_fd(), PollFlags::IN);
            }
            for stream in OutputStream::ALL {
                if let Some(descriptor) = session.readable(stream) {
                    add(Source::Output(index, stream), descriptor, PollFlags::IN);
                }
            }
            if let Some(descriptor) = session.writable() {
                add(Source::Input(index), descriptor, PollFlags::OUT);
            }
            for (client, descriptor, interest) in session.client_interests() {
                add(Source::Client(index, client), descriptor, interest);
            }
        }
        poll_sources(&sources, &mut polled, timeout)
    }

    fn handle(&mut self, source: Source, flags: PollFlags) {
        match source {
            Source::Listener => self.accept(),
            Source::Connection(index) => self.serve(index, flags),
            Source::Process(index) => self.reap(index),
            Source::Output(index, stream) => {
                self.sessions[index].read_output(stream, &mut self.buffer);
            }
            Source::Input(index) => self.sessions[index].write_input(),
            Source::Client(index, client) => {
                let session = &mut self.sessions[index];
                if session.client_event(client, flags, &mut self.input) {
                    let exec_id = session.exec_id.clone();
                    self.tell(&Message::Detached { exec_id });
                }
            }
        }
    }

    fn accept(&mut self) {
        let Ok(socket) = cais_sys::socket::accept(self.listener.as_fd()) else {
            return;
        };
        let own = rustix::process::getuid().as_raw();
        let allowed = cais_sys::socket::peer_credentials(socket.as_fd())
            .is_ok_and(|(_, uid, _)| uid == 0 || uid == own);
        if allowed {
            self.connections.push(Connection::new(socket));
        }
    }

    fn serve(&mut self, index: usize, flags: PollFlags) {
        let connection = &mut self.connections[index];
        if flags.contains(PollFlags::OUT) {
            connection.flush();
        }
        if !flags.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
            return;
        }
        connection.read();
        while let Some(envelope) = self.connections[index].next() {
            let result = self.answer(index, envelope.request);
            let reply = Message::Reply {
                sequence: envelope.sequence,
                result,
            };
            self.connections[index].send(&reply);
        }
    }

    fn reap(&mut self, index: usize) {
        let session = &mut self.sessions[index];
        let Some(process) = &session.process else {
            return;
        };
        let code = match cais_sys::pidfd::try_wait(process.pidfd.as_fd()) {
            Ok(None) => return,
            Ok(Some(exit)) => exit.code(),
            // Somebody else reaped it; 255 is what Docker says of a lost exit code.
            Err(_) => 255,
        };
        // What was written before the end is there now and goes out before the end is told.
        for stream in OutputStream::ALL {
            session.read_output(stream, &mut self.buffer);
        }
        session.process_ended(code);
        if let Some(exec_id) = session.exec_id.clone() {
            if self.ended.len() == ENDED_KEPT {
                self.ended.pop_front();
            }
            self.ended.push_back((exec_id.clone(), code));
            self.tell(&Message::ExecExited { exec_id, code });
        }
    }

    fn feed_unread(&mut self) {
        for index in 0..self.sessions.len() {
            let session = &mut self.sessions[index];
            if session.feed_unread(&mut self.input) {
                let exec_id = session.exec_id.clone();
                self.tell(&Message::Detached { exec_id });
            }
        }
    }

    fn sweep(&mut self) {
        self.connections
            .retain(|connection| !connection.is_closed());
        if self.sessions[0].code.is_some() {
            return;
        }
        for session in &mut self.sessions {
            session.sweep();
        }
        let mut index = 0;
        self.sessions.retain(|session| {
            index += 1;
            index == 1 || !session.is_over()
        });
    }

    pub(super) fn tell(&mut self, message: &Message) {
        for connection in &mut self.connections {
            connection.send(message);
        }
    }

    fn release_memory(&mut self) {
        self.buffer.release();
        self.input = Vec::new();
        for session in &mut self.sessions {
            session.release_memory();
        }
        cais_sys::heap::trim();
    }

    /// The engine went away, or the start failed: nothing may be left.
    fn abandon(&mut self) {
        std::fs::remove_file(&self.places.socket).ok();
        self.runner.remove();
        self.sessions[0].process_ended(0);
        self.linger();
    }

    /// Init has ended: everything it said goes out, then the record, then the news.
    fn finish(&mut self) {
        self.runner.kill_rest();
        self.end_execs();
        for session in &mut self.sessions {
            session.drain(&mut self.buffer);
            session.flush_clients();
        }
        let exit = Exit {
            code: self.sessions[0].code.unwrap_or(255),
            oom_killed: self.runner.oom_killed(),
            finished_at: String::from_utf8_lossy(&Timestamp::now().fixed()).into_owned(),
            execs: self.ended.iter().cloned().collect(),
        };
        // A full disk must not keep the news from an engine that listens.
        exit::write(&self.places.directory, &exit).ok();
        std::fs::remove_file(&self.places.socket).ok();
        self.runner.remove();
        self.tell(&Message::Exited(exit));
        self.linger();
    }

    /// Execs were killed along with init; their codes belong into the record.
    fn end_execs(&mut self) {
        let deadline = Instant::now() + LINGER;
        for index in 1..self.sessions.len() {
            let Some(process) = &self.sessions[index].process else {
                continue;
            };
            let left = deadline
                .saturating_duration_since(Instant::now())
                .as_millis();
            let left = i64::try_from(left).unwrap_or(0);
            if cais_sys::pidfd::wait_end(process.pidfd.as_fd(), left).unwrap_or(false) {
                self.reap(index);
            }
            if self.sessions[index].code.is_none() {
                self.sessions[index].process_ended(137);
            }
        }
    }

    /// Waits until clients and engines have read the rest; who reads nothing for long is left.
    fn linger(&mut self) {
        loop {
            for session in &mut self.sessions {
                session.sweep();
            }
            let mut sources = Vec::new();
            let mut polled = Vec::new();
            for (index, connection) in self.connections.iter().enumerate() {
                if connection.has_unsent() {
                    sources.push(Source::Connection(index));
                    polled.push(PollFd::from_borrowed_fd(
                        connection.descriptor(),
                        PollFlags::OUT,
                    ));
                }
            }
            for (index, session) in self.sessions.iter().enumerate() {
                for (client, descriptor, interest) in session.client_interests() {
                    if interest.contains(PollFlags::OUT) {
                        sources.push(Source::Client(index, client));
                        polled.push(PollFd::from_borrowed_fd(descriptor, PollFlags::OUT));
                    }
                }
            }
            if sources.is_empty() {
                return;
            }
            let events = poll_sources(&sources, &mut polled, Some(LINGER));
            if events.is_empty() {
                return;
            }
            for (source, flags) in events {
                match source {
                    Source::Connection(index) => self.connections[index].flush(),
                    _ => self.handle(source, flags),
                }
            }
        }
    }
}

/// The sources that something happened to; none when the time is over.
fn poll_sources(
    sources: &[Source],
    polled: &mut [PollFd<'_>],
    timeout: Option<Duration>,
) -> Vec<(Source, PollFlags)> {
    let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
    while poll(polled, timeout.as_ref()) == Err(rustix::io::Errno::INTR) {}
    let happened = sources.iter().zip(polled.iter());
    happened
        .map(|(source, polled)| (*source, polled.revents()))
        .filter(|(_, flags)| !flags.is_empty())
        .collect()
}
