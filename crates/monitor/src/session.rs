//! The standard streams of one process, init or an exec: its output goes to the log and to the attached clients, their
//! input goes to it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use rustix::io::Errno;

use super::client::{Client, Input, Queue};
use super::json_file::{LogWriter, OutputStream};
use super::runner::{Running, StdioPlan, Streams};
use cais_runtime::timestamp::Timestamp;

/// Reads of one stream before others get their turn.
const READS_PER_TURN: usize = 8;
/// Most that is read of a stream after the container has ended; more than any pipe of ours holds.
const LAST_READS: usize = 64;
const SMALL: usize = 4 << 10;
const LARGE: usize = 128 << 10;
const LARGE_PIPE: usize = 1 << 20;
/// How long clients of an ended exec wait for the end of its output, as in Docker.
const OUTPUT_PATIENCE: Duration = Duration::from_secs(2);

/// The buffer that output is read into: small until a process writes much, large until it pauses.
pub struct ReadBuffer {
    bytes: Vec<u8>,
}

impl ReadBuffer {
    pub fn new() -> Self {
        Self {
            bytes: vec![0; SMALL],
        }
    }

    pub fn is_large(&self) -> bool {
        self.bytes.len() > SMALL
    }

    pub fn release(&mut self) {
        if self.is_large() {
            *self = Self::new();
        }
    }

    fn grow(&mut self) {
        if !self.is_large() {
            self.bytes = vec![0; LARGE];
        }
    }
}

/// One process and everybody who listens to it.
pub struct Session {
    /// Empty for init.
    pub exec_id: Option<String>,
    /// From start to end.
    pub process: Option<Running>,
    /// Once the process has ended.
    pub code: Option<i32>,
    ended: Option<Instant>,
    outputs: [Option<OwnedFd>; 2],
    input: Option<ProcessInput>,
    clients: Vec<Client>,
    log: Option<LogWriter>,
    plan: StdioPlan,
    /// The first end of input of a client closes the process's input.
    close_input: bool,
    /// A size asked for before there was a terminal: rows, columns.
    size: Option<(u16, u16)>,
}

struct ProcessInput {
    descriptor: OwnedFd,
    queue: Queue,
    closing: bool,
}

impl Session {
    /// A session whose process has not started.
    pub fn new(
        exec_id: Option<String>,
        plan: StdioPlan,
        close_input: bool,
        log: Option<LogWriter>,
    ) -> Self {
        Self {
            exec_id,
            process: None,
            code: None,
            ended: None,
            outputs: [None, None],
            input: None,
            clients: Vec::new(),
            log,
            plan,
            close_input,
            size: None,
        }
    }

    /// What the process's streams are connected with.
    pub fn plan(&self) -> StdioPlan {
        self.plan
    }

    /// Takes the near ends of the process's streams.
    pub fn connect(&mut self, streams: Streams) -> io::Result<()> {
        let Streams {
            input,
            stdout,
            stderr,
        } = streams;
        for descriptor in [&input, &stdout, &stderr].into_iter().flatten() {
            cais_sys::socket::set_nonblocking(descriptor.as_fd(), true)?;
        }
        self.outputs = [stdout, stderr];
        self.input = input.map(|descriptor| ProcessInput {
            descriptor,
            queue: Queue::default(),
            closing: false,
        });
        Ok(())
    }

    /// Notes the running process and takes the controlling end of its terminal.
    pub fn started(&mut self, running: Running, console: Option<OwnedFd>) -> io::Result<()> {
        self.process = Some(running);
        let Some(console) = console else {
            return Ok(());
        };
        if let Some((rows, columns)) = self.size {
            cais_sys::pty::set_size(console.as_fd(), rows, columns)?;
        }
        let input = Some(console.try_clone()?);
        self.connect(Streams {
            input,
            stdout: Some(console),
            stderr: None,
        })
    }

    pub fn attach(&mut self, client: Client) {
        self.clients.push(client);
    }

    /// Sets the size of the terminal, now or once there is one; a process without a terminal has none.
    pub fn resize(&mut self, rows: u16, columns: u16) -> io::Result<()> {
        self.size = Some((rows, columns));
        match &self.outputs[0] {
            Some(console) if self.plan.terminal => {
                cais_sys::pty::set_size(console.as_fd(), rows, columns)
            }
            _ => Ok(()),
        }
    }

    /// The output stream, when it is open and no slow client forbids to read it.
    pub fn readable(&self, stream: OutputStream) -> Option<BorrowedFd<'_>> {
        let held_up = self.clients.iter().any(|client| client.holds_up(stream));
        self.outputs[stream.index()]
            .as_ref()
            .filter(|_| !held_up)
            .map(AsFd::as_fd)
    }

    /// The process's input, when bytes wait for it.
    pub fn writable(&self) -> Option<BorrowedFd<'_>> {
        let input = self.input.as_ref()?;
        (!input.queue.is_empty()).then_some(input.descriptor.as_fd())
    }

    /// What to poll of each client.
    pub fn client_interests(&self) -> impl Iterator<Item = (usize, BorrowedFd<'_>, PollFlags)> {
        let wanted = self.wants_input();
        // A client whose input must wait is not polled: its hang-up comes after its input.
        let waits = self.input.is_some() && !wanted;
        self.clients
            .iter()
            .enumerate()
            .filter_map(move |(index, client)| {
                let interest = client.interest(wanted);
                let skip =
                    client.is_gone() || (interest.is_empty() && waits && client.gives_input());
                (!skip).then(|| (index, client.descriptor(), interest))
            })
    }

    /// Moves output from the process to the log and the clients.
    pub fn read_output(&mut self, stream: OutputStream, buffer: &mut ReadBuffer) {
        for _ in 0..READS_PER_TURN {
            if self.readable(stream).is_none() || !self.read_once(stream, buffer) {
                return;
            }
        }
    }

    /// Moves what is left after the container has ended, whatever clients wait for, and ends both streams.
    pub fn drain(&mut self, buffer: &mut ReadBuffer) {
        for stream in OutputStream::ALL {
            buffer.grow();
            let mut reads = 0;
            while reads < LAST_READS && self.read_all(stream, buffer) {
                reads += 1;
            }
            self.end_output(stream);
        }
        self.input = None;
    }

    /// Reads until nothing is there; false when the stream has ended or is empty.
    fn read_all(&mut self, stream: OutputStream, buffer: &mut ReadBuffer) -> bool {
        match self.read_bytes(stream, buffer) {
            Ok(0) | Err(_) => false,
            Ok(count) => {
                self.distribute(stream, &buffer.bytes[..count]);
                true
            }
        }
    }

    /// Reads once; whether more may be there right now.
    fn read_once(&mut self, stream: OutputStream, buffer: &mut ReadBuffer) -> bool {
        match self.read_bytes(stream, buffer) {
            Ok(count) if count > 0 => {
                self.distribute(stream, &buffer.bytes[..count]);
                let full = count == buffer.bytes.len();
                if full && !buffer.is_large() {
                    self.enlarge_pipe(stream);
                    buffer.grow();
                }
                full
            }
            Err(Errno::AGAIN | Errno::INTR) => false,
            // End of file; a terminal that nobody has open any more gives EIO.
            Ok(_) | Err(_) => {
                self.end_output(stream);
                false
            }
        }
    }

    fn read_bytes(&self, stream: OutputStream, buffer: &mut ReadBuffer) -> Result<usize, Errno> {
        let Some(descriptor) = &self.outputs[stream.index()] else {
            return Ok(0);
        };
        rustix::io::read(descriptor, &mut buffer.bytes[..])
    }

    fn distribute(&mut self, stream: OutputStream, data: &[u8]) {
        for client in &mut self.clients {
            client.deliver(stream, data);
        }
        if let Some(log) = &mut self.log {
            log.write(stream, data, Timestamp::now());
        }
    }

    /// A process that writes much gets a longer pipe. The kernel may refuse; nothing is lost then.
    fn enlarge_pipe(&self, stream: OutputStream) {
        if let Some(descriptor) = &self.outputs[stream.index()]
            && !self.plan.terminal
            && rustix::pipe::fcntl_getpipe_size(descriptor).is_ok_and(|size| size < LARGE_PIPE)
        {
            rustix::pipe::fcntl_setpipe_size(descriptor, LARGE_PIPE).ok();
        }
    }

    fn end_output(&mut self, stream: OutputStream) {
        let was_open = self.outputs[stream.index()].take().is_some();
        if let Some(log) = &mut self.log
            && was_open
        {
            log.end_of_stream(stream, Timestamp::now());
        }
    }

    /// Writes queued input to the process.
    pub fn write_input(&mut self) {
        self.give_input(&[]);
    }

    /// Handles what poll told of a client; true when it detached.
    pub fn client_event(&mut self, index: usize, events: PollFlags, buffer: &mut Vec<u8>) -> bool {
        let wanted = self.wants_input();
        let Some(client) = self.clients.get_mut(index) else {
            return false;
        };
        if events.contains(PollFlags::OUT) {
            client.flush();
        }
        let reads = wanted && client.gives_input() && events.intersects(PollFlags::IN);
        if !reads && events.intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL) {
            let gave_input = client.gives_input();
            client.hang_up();
            if gave_input {
                self.client_input_ended();
            }
            return false;
        }
        reads && self.read_client(index, buffer)
    }

    /// Passes on input that came along with attach requests; true when a client detached.
    pub fn feed_unread(&mut self, buffer: &mut Vec<u8>) -> bool {
        let mut detached = false;
        for index in 0..self.clients.len() {
            if self.wants_input() && self.clients[index].has_unread() {
                detached |= self.read_client(index, buffer);
            }
        }
        detached
    }

    fn read_client(&mut self, index: usize, buffer: &mut Vec<u8>) -> bool {
        match self.clients[index].read_input(buffer) {
            None => false,
            Some(Input::Data(bytes)) => {
                self.give_input(&bytes);
                false
            }
            Some(Input::Detached(bytes)) => {
                self.give_input(&bytes);
                self.clients[index].close();
                true
            }
            Some(Input::End(bytes)) => {
                self.give_input(&bytes);
                self.client_input_ended();
                false
            }
        }
    }

    fn client_input_ended(&mut self) {
        if self.close_input
            && !self.plan.terminal
            && let Some(input) = &mut self.input
        {
            input.closing = true;
            self.give_input(&[]);
        }
    }

    fn wants_input(&self) -> bool {
        self.input
            .as_ref()
            .is_some_and(|input| input.queue.is_empty() && !input.closing)
    }

    /// Writes queued bytes and then these; keeps what the process does not take yet.
    fn give_input(&mut self, bytes: &[u8]) {
        let Some(input) = &mut self.input else { return };
        input.queue.push(bytes);
        while !input.queue.is_empty() {
            match rustix::io::write(&input.descriptor, input.queue.waiting()) {
                Ok(count) => input.queue.consume(count),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                // The process has closed its input.
                Err(_) => {
                    self.input = None;
                    return;
                }
            }
        }
        if input.closing {
            self.input = None;
        }
    }

    /// Notes the end of the process; its input has nobody to read it any more.
    pub fn process_ended(&mut self, code: i32) {
        self.ended = Some(Instant::now());
        self.process = None;
        self.code = Some(code);
        self.input = None;
    }

    /// Removes clients that have gone. Once the process has ended and its streams are closed, clients that have got all of it
    /// are closed as well: a client must not see the end before the exit code can be asked for.
    pub fn sweep(&mut self) {
        let closed = self.outputs.iter().all(Option::is_none) || self.is_overdue();
        let complete = self.code.is_some() && closed;
        for client in &mut self.clients {
            if complete && !client.is_gone() && !client.has_queue() {
                client.close();
            }
        }
        self.clients.retain(|client| !client.is_gone());
    }

    /// What is left of the time that clients of an ended exec wait for output of processes it has left behind. These write
    /// on, to nobody.
    pub fn patience(&self) -> Option<Duration> {
        let waits = self.exec_id.is_some() && !self.clients.is_empty();
        let ended = self.ended.filter(|_| waits)?;
        let left = OUTPUT_PATIENCE.saturating_sub(ended.elapsed());
        (!left.is_zero()).then_some(left)
    }

    fn is_overdue(&self) -> bool {
        let ended = self.ended.filter(|_| self.exec_id.is_some());
        ended.is_some_and(|ended| ended.elapsed() >= OUTPUT_PATIENCE)
    }

    /// Whether nothing is left to do for this session.
    pub fn is_over(&self) -> bool {
        self.code.is_some() && self.clients.is_empty() && self.outputs.iter().all(Option::is_none)
    }

    /// Sends what clients have not taken yet.
    pub fn flush_clients(&mut self) {
        for client in &mut self.clients {
            client.flush();
        }
    }

    /// Gives memory back that an idle session does not need.
    pub fn release_memory(&mut self) {
        if let Some(log) = &mut self.log {
            log.release_memory();
        }
    }
}
