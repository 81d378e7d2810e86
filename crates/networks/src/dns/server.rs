//! The thread that answers for all containers: one epoll set over their sockets, the connections of their clients, and the
//! sockets to resolvers outside.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cais_sys::datagrams::{Outgoing, Received};
use cais_sys::netns;
use cais_types::ContainerId;
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, EventData, EventFlags};
use slab::Slab;

use super::answer::{self, Asker, Outcome, Transport};
use super::forward::{Decision, Forward, Question, ReplyTo, Way};
use super::outside;
use super::remembered::Remembered;
use super::sockets::Sockets;
use super::stream::Stream;
use super::token::Token;
use super::upstreams::{HostFile, Upstream};
use super::{Command, Settings, Shared};

/// Questions of one container that may be outside at once.
const MOST_FORWARDS: usize = 256;
/// Connections of one container.
const MOST_STREAMS: usize = 64;
/// Questions that may lie in a connection.
const MOST_MESSAGES: usize = 256;
/// How long a client's connection may be silent.
const IDLE: Duration = Duration::from_secs(10);

#[derive(Debug)]
struct Client {
    number: u64,
    container: ContainerId,
    sockets: Sockets,
    settings: Settings,
    remembered: Remembered,
    forwards: usize,
    streams: usize,
}

#[derive(Debug)]
struct Connection {
    number: u64,
    client: (usize, u64),
    stream: Stream,
    last: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    Forward(usize, u64),
    Stream(usize, u64),
}

/// Everything the thread works on.
pub struct Server {
    shared: Arc<Shared>,
    epoll: OwnedFd,
    host: OwnedFd,
    host_file: HostFile,
    clients: Slab<Client>,
    places: HashMap<ContainerId, usize>,
    connections: Slab<Connection>,
    forwards: Slab<(u64, Forward)>,
    timers: BinaryHeap<Reverse<(Instant, Timer)>>,
    next_number: u64,
    received: Received,
    answers: Outgoing,
    answer: Vec<u8>,
    now: Instant,
}

impl Server {
    /// In the network namespace of the calling thread, which is the host's.
    ///
    /// # Errors
    /// Those of epoll(7).
    pub fn new(shared: Arc<Shared>, host_file: HostFile) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let data = EventData::new_u64(Token::Wake.into());
        epoll::add(&epoll, &shared.wake, data, EventFlags::IN)?;
        Ok(Self {
            shared,
            epoll,
            host: netns::current()?,
            host_file,
            clients: Slab::new(),
            places: HashMap::new(),
            connections: Slab::new(),
            forwards: Slab::new(),
            timers: BinaryHeap::new(),
            next_number: 0,
            received: Received::default(),
            answers: Outgoing::default(),
            answer: Vec::new(),
            now: Instant::now(),
        })
    }

    /// Works until it is told to end.
    ///
    /// # Errors
    /// Those of epoll(7), and of coming back from a container's namespace.
    pub fn run(mut self) -> io::Result<()> {
        let mut events = Vec::with_capacity(64);
        loop {
            let timeout = self.timeout();
            events.clear();
            match epoll::wait(&self.epoll, spare_capacity(&mut events), timeout.as_ref()) {
                Err(rustix::io::Errno::INTR) => {}
                other => drop(other?),
            }
            self.now = Instant::now();
            for event in &events {
                match Token::from(event.data.u64()) {
                    Token::Wake => {
                        if !self.obey() {
                            return Ok(());
                        }
                    }
                    Token::Datagrams(key) => self.datagrams(key)?,
                    Token::Listener(key) => self.accept(key),
                    Token::Stream(key) => self.stream(key)?,
                    Token::Outside(key, attempt) => self.outside(key, attempt.into())?,
                }
            }
            self.expire();
        }
    }

    fn timeout(&self) -> Option<rustix::time::Timespec> {
        let Reverse((first, _)) = self.timers.peek()?;
        let wait = first.saturating_duration_since(Instant::now());
        // Rounded up, because the kernel counts in milliseconds and would wake us too early.
        rustix::time::Timespec::try_from(wait + Duration::from_micros(999)).ok()
    }

    fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    fn watch(&self, fd: impl AsFd, token: Token, flags: EventFlags) -> io::Result<()> {
        Ok(epoll::add(
            &self.epoll,
            fd,
            EventData::new_u64(token.into()),
            flags,
        )?)
    }

    /// Answers whether to go on.
    fn obey(&mut self) -> bool {
        let mut counter = [0; 8];
        let _ = rustix::io::read(&self.shared.wake, &mut counter[..]);
        for command in self.shared.take_commands() {
            match command {
                Command::Add(container, sockets, settings) => {
                    self.remove(&container);
                    if let Err(error) = self.add(container, sockets, settings) {
                        tracing::error!(%container, %error, "container has no resolver");
                    }
                }
                Command::Set(container, settings) => {
                    let place = self.places.get(&container);
                    if let Some(client) = place.and_then(|key| self.clients.get_mut(*key)) {
                        client.settings = settings;
                        client.remembered.clear();
                    }
                }
                Command::Remove(container) => self.remove(&container),
                Command::Quit => return false,
            }
        }
        true
    }

    fn add(
        &mut self,
        container: ContainerId,
        sockets: Sockets,
        settings: Settings,
    ) -> io::Result<()> {
        let number = self.number();
        let key = self.clients.vacant_key();
        self.watch(&sockets.udp, Token::Datagrams(key), EventFlags::IN)?;
        self.watch(&sockets.tcp, Token::Listener(key), EventFlags::IN)?;
        self.clients.insert(Client {
            number,
            container,
            sockets,
            settings,
            remembered: Remembered::default(),
            forwards: 0,
            streams: 0,
        });
        self.places.insert(container, key);
        Ok(())
    }

    /// Closing the sockets takes them out of the epoll set, and lets the namespace end.
    fn remove(&mut self, container: &ContainerId) {
        let Some(key) = self.places.remove(container) else {
            return;
        };
        let client = (key, self.clients.remove(key).number);
        self.connections.retain(|_, one| one.client != client);
        self.forwards
            .retain(|_, (_, one)| one.question.client != client);
    }

    /// Answers what has come of one container, as far as one call brings it; then it is another one's turn.
    fn datagrams(&mut self, key: usize) -> io::Result<()> {
        let Some(client) = self.clients.get_mut(key) else {
            return Ok(());
        };
        // Errors are left-overs of answers to clients that are gone.
        if self.received.receive(client.sockets.udp.as_fd()).is_err() {
            return Ok(());
        }
        let version = self.shared.version();
        let mut others = Vec::new();
        for (packet, from) in self.received.iter() {
            if client.remembered.answer(version, packet, &mut self.answer) {
                self.answers.push(&self.answer, from);
            } else {
                others.push((packet.to_vec(), from));
            }
        }
        // A client that is gone, or whose buffer is full, asks again.
        self.answers.send(client.sockets.udp.as_fd());
        let client = (key, client.number);
        for (packet, from) in others {
            self.question(client, ReplyTo::Datagram(from.into()), packet)?;
        }
        Ok(())
    }

    fn question(
        &mut self,
        client: (usize, u64),
        reply_to: ReplyTo,
        packet: Vec<u8>,
    ) -> io::Result<()> {
        let Some(asking) = self.clients.get_mut(client.0) else {
            return Ok(());
        };
        let asker = Asker {
            container: asking.container,
            forwards: asking.settings.forwards,
            keeps_single_labels: asking.settings.keeps_single_labels,
            transport: match reply_to {
                ReplyTo::Datagram(_) => Transport::Datagram,
                ReplyTo::Stream(..) => Transport::Stream,
            },
        };
        let version = self.shared.version();
        let outcome = answer::respond(&self.shared.directory(), &asker, &packet);
        match outcome {
            Outcome::Silence => {}
            Outcome::Answer(answer) => {
                if asker.transport == Transport::Datagram {
                    asking.remembered.keep(version, &packet, &answer);
                }
                self.reply(client, reply_to, &answer);
            }
            Outcome::Forward(_) if asking.forwards >= MOST_FORWARDS => {
                self.reply(client, reply_to, &answer::failure(&packet));
            }
            Outcome::Forward(limit) => self.forward(Question {
                client,
                reply_to,
                packet,
                limit,
            })?,
        }
        Ok(())
    }

    fn reply(&mut self, client: (usize, u64), reply_to: ReplyTo, answer: &[u8]) {
        match reply_to {
            ReplyTo::Datagram(to) => {
                let asked = self.clients.get(client.0);
                if let Some(asked) = asked.filter(|one| one.number == client.1) {
                    // A client that is gone, or a full buffer: it asks again.
                    let _ = asked.sockets.udp.send_to(answer, to);
                }
            }
            ReplyTo::Stream(key, number) => {
                let connection = self.connections.get_mut(key);
                let Some(connection) = connection.filter(|one| one.number == number) else {
                    return;
                };
                connection.stream.push(answer);
                match connection.stream.flush() {
                    Ok(true) => {}
                    Ok(false) => self.listen(key, EventFlags::IN | EventFlags::OUT),
                    Err(_) => self.hang_up(key),
                }
            }
        }
    }

    fn listen(&self, key: usize, flags: EventFlags) {
        if let Some(connection) = self.connections.get(key) {
            let data = EventData::new_u64(Token::Stream(key).into());
            let _ = epoll::modify(&self.epoll, connection.stream.socket(), data, flags);
        }
    }

    fn hang_up(&mut self, key: usize) {
        let Some(connection) = self.connections.try_remove(key) else {
            return;
        };
        let client = self.clients.get_mut(connection.client.0);
        if let Some(client) = client.filter(|one| one.number == connection.client.1) {
            client.streams -= 1;
        }
    }

    fn accept(&mut self, key: usize) {
        let Some(client) = self.clients.get_mut(key) else {
            return;
        };
        let Ok((socket, _)) = client.sockets.tcp.accept() else {
            return;
        };
        if client.streams >= MOST_STREAMS || socket.set_nonblocking(true).is_err() {
            return;
        }
        client.streams += 1;
        let client = (key, client.number);
        let number = self.number();
        let connection = self.connections.insert(Connection {
            number,
            client,
            stream: Stream::new(socket),
            last: self.now,
        });
        let socket = self.connections[connection].stream.socket();
        if self
            .watch(socket, Token::Stream(connection), EventFlags::IN)
            .is_err()
        {
            self.hang_up(connection);
            return;
        }
        let timer = Timer::Stream(connection, number);
        self.timers.push(Reverse((self.now + IDLE, timer)));
    }

    fn stream(&mut self, key: usize) -> io::Result<()> {
        let now = self.now;
        let Some(connection) = self.connections.get_mut(key) else {
            return Ok(());
        };
        connection.last = now;
        let (client, number) = (connection.client, connection.number);
        let flushed = connection.stream.flush();
        let received = connection.stream.receive(MOST_MESSAGES);
        match flushed {
            Ok(true) => self.listen(key, EventFlags::IN),
            Ok(false) => {}
            Err(_) => self.hang_up(key),
        }
        let Ok(messages) = received else {
            self.hang_up(key);
            return Ok(());
        };
        for message in messages {
            self.question(client, ReplyTo::Stream(key, number), message)?;
        }
        Ok(())
    }

    fn forward(&mut self, question: Question) -> io::Result<()> {
        let client = question.client.0;
        let Some(asking) = self.clients.get_mut(client) else {
            return Ok(());
        };
        asking.forwards += 1;
        let upstreams: Vec<Upstream> = if asking.settings.servers.is_empty() {
            self.host_file.upstreams(self.now).to_vec()
        } else {
            asking.settings.servers.clone()
        };
        let by_stream = matches!(question.reply_to, ReplyTo::Stream(..));
        let spaces = (asking.sockets.netns.as_fd(), self.host.as_fd());
        let ways = outside::open(&upstreams, by_stream, spaces)?;
        let mut forward = Forward::new(question, self.now);
        for (upstream, way) in upstreams.into_iter().zip(ways) {
            forward.ask(upstream, way);
        }
        let number = self.number();
        let key = self.forwards.insert((number, forward));
        let (_, forward) = &self.forwards[key];
        for (attempt, way) in (0..).zip(forward.ways()) {
            if let Some(way) = way {
                self.watch_way(way, Token::Outside(key, attempt))?;
            }
        }
        self.decide(key);
        Ok(())
    }

    fn watch_way(&self, way: &Way, token: Token) -> io::Result<()> {
        match way {
            Way::Datagram(socket) => self.watch(socket, token, EventFlags::IN),
            Way::Stream(stream) => {
                let edges = EventFlags::IN | EventFlags::OUT | EventFlags::ET;
                self.watch(stream.socket(), token, edges)
            }
        }
    }

    fn outside(&mut self, key: usize, attempt: usize) -> io::Result<()> {
        let Some((_, forward)) = self.forwards.get_mut(key) else {
            return Ok(());
        };
        if let Some(upstream) = forward.ready(attempt) {
            let client = self.clients.get(forward.question.client.0);
            let Some(client) = client else { return Ok(()) };
            let spaces = (client.sockets.netns.as_fd(), self.host.as_fd());
            let mut ways = outside::open(&[upstream], true, spaces)?;
            if let Some(way) = ways.pop() {
                forward.by_stream(attempt, way);
            }
            let (_, forward) = &self.forwards[key];
            let attempt_number = u8::try_from(attempt).unwrap_or(u8::MAX);
            if let Some(way) = forward.way(attempt) {
                self.watch_way(way, Token::Outside(key, attempt_number))?;
            }
        }
        self.decide(key);
        Ok(())
    }

    /// Answers the client when it is time to.
    fn decide(&mut self, key: usize) {
        let Some((number, forward)) = self.forwards.get(key) else {
            return;
        };
        let answer = match forward.decide(self.now) {
            Decision::Wait(until) => {
                let timer = Timer::Forward(key, *number);
                self.timers.push(Reverse((until, timer)));
                return;
            }
            Decision::Answer(answer) => answer,
            Decision::Fail => answer::failure(&forward.question.packet),
        };
        let (_, forward) = self.forwards.remove(key);
        let client = forward.question.client;
        let asked = self.clients.get_mut(client.0);
        if let Some(asked) = asked.filter(|one| one.number == client.1) {
            asked.forwards -= 1;
        }
        self.reply(client, forward.question.reply_to, &answer);
    }

    fn expire(&mut self) {
        while let Some(Reverse((time, timer))) = self.timers.peek().copied() {
            if time > self.now {
                return;
            }
            self.timers.pop();
            match timer {
                Timer::Forward(key, number) => {
                    if let Some((_, forward)) =
                        self.forwards.get_mut(key).filter(|(one, _)| *one == number)
                    {
                        forward.send_again(self.now);
                        self.decide(key);
                    }
                }
                Timer::Stream(key, number) => self.expire_stream(key, number),
            }
        }
    }

    fn expire_stream(&mut self, key: usize, number: u64) {
        let connection = self.connections.get(key);
        let Some(connection) = connection.filter(|one| one.number == number) else {
            return;
        };
        let until = connection.last + IDLE;
        if until <= self.now {
            self.hang_up(key);
        } else {
            self.timers
                .push(Reverse((until, Timer::Stream(key, number))));
        }
    }
}
