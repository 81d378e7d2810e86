//! One question on its way to the resolvers outside: all are asked at once, and the order in which they are configured
//! decides between their answers, so that a private zone of the first is not hidden by a public resolver behind it.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use super::stream::Stream;
use super::upstreams::Upstream;

/// Head start of earlier resolvers over a good answer of a later one.
const HEAD_START: Duration = Duration::from_millis(30);
/// How long a later resolver's "no such name" waits for earlier ones, and when datagrams are sent again.
const PATIENCE: Duration = Duration::from_secs(1);
/// When nobody is waited for any more.
const END: Duration = Duration::from_secs(4);
const HEADER: usize = 12;
const RESPONSE: u8 = 0x80;
const TRUNCATED: u8 = 0x02;

/// Where the answer goes.
#[derive(Clone, Copy, Debug)]
pub enum ReplyTo {
    /// To this address, in a datagram.
    Datagram(SocketAddr),
    /// To a stream, by its place and number.
    Stream(usize, u64),
}

/// What a container asked.
#[derive(Debug)]
pub struct Question {
    /// The client's place and number.
    pub client: (usize, u64),
    /// Where the answer goes.
    pub reply_to: ReplyTo,
    /// The query as it came.
    pub packet: Vec<u8>,
    /// Largest answer in bytes.
    pub limit: usize,
}

/// How a resolver is talked to.
#[derive(Debug)]
pub enum Way {
    /// One datagram each way.
    Datagram(UdpSocket),
    /// A connection.
    Stream(Stream),
}

#[derive(Debug)]
enum Verdict {
    Found(Vec<u8>),
    Nothing(Vec<u8>),
    /// It cannot or will not say; perhaps in words.
    Failed(Option<Vec<u8>>),
}

#[derive(Debug)]
struct Attempt {
    upstream: Upstream,
    query: Vec<u8>,
    way: Option<Way>,
    /// A cut answer, should the whole one not come.
    cut: Option<Vec<u8>>,
    verdict: Option<Verdict>,
}

/// A question and the resolvers that were asked.
#[derive(Debug)]
pub struct Forward {
    /// What was asked.
    pub question: Question,
    attempts: Vec<Attempt>,
    started: Instant,
    sent_again: bool,
}

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub enum Decision {
    /// Nothing before this time, unless something arrives.
    Wait(Instant),
    /// This is the answer.
    Answer(Vec<u8>),
    /// Nobody answered.
    Fail,
}

impl Forward {
    /// A question that nobody was asked yet.
    pub fn new(question: Question, now: Instant) -> Self {
        Self {
            question,
            attempts: Vec::new(),
            started: now,
            sent_again: false,
        }
    }

    /// Asks one more resolver, under an id of its own.
    pub fn ask(&mut self, upstream: Upstream, way: io::Result<Way>) {
        let mut query = self.question.packet.clone();
        let known = random_id().map(|id| query[..2].copy_from_slice(&id));
        let mut attempt = Attempt {
            upstream,
            query,
            way: None,
            cut: None,
            verdict: None,
        };
        match (way, known) {
            (Ok(way), Ok(())) => {
                attempt.way = Some(way);
                attempt.send();
            }
            _ => attempt.verdict = Some(Verdict::Failed(None)),
        }
        self.attempts.push(attempt);
    }

    /// The ways to all resolvers that were asked, in order.
    pub fn ways(&self) -> impl Iterator<Item = Option<&Way>> {
        self.attempts.iter().map(|attempt| attempt.way.as_ref())
    }

    /// How a resolver that was asked is talked to.
    pub fn way(&self, attempt: usize) -> Option<&Way> {
        self.attempts.get(attempt)?.way.as_ref()
    }

    /// Something happened on the way to a resolver. Answers the resolver when it must be asked by TCP.
    pub fn ready(&mut self, attempt: usize) -> Option<Upstream> {
        let attempt = self.attempts.get_mut(attempt)?;
        let received = match attempt.way.as_mut()? {
            Way::Datagram(socket) => receive(socket),
            Way::Stream(stream) => stream
                .flush()
                .and_then(|_| stream.receive(1))
                .map(|mut messages| messages.pop()),
        };
        match received {
            Ok(None) => None,
            Ok(Some(packet)) => attempt.take(packet),
            Err(_) => {
                attempt.fail();
                None
            }
        }
    }

    /// Goes on by TCP with a resolver whose answer did not fit.
    pub fn by_stream(&mut self, attempt: usize, way: io::Result<Way>) {
        let Some(attempt) = self.attempts.get_mut(attempt) else {
            return;
        };
        match way {
            Ok(way) => {
                attempt.way = Some(way);
                attempt.send();
            }
            Err(_) => attempt.fail(),
        }
    }

    /// Datagrams may get lost: those without an answer are sent once more.
    pub fn send_again(&mut self, now: Instant) {
        if self.sent_again || now < self.started + PATIENCE {
            return;
        }
        self.sent_again = true;
        for attempt in &mut self.attempts {
            if attempt.verdict.is_none() && matches!(attempt.way, Some(Way::Datagram(_))) {
                attempt.send();
            }
        }
    }

    /// Judges by what has arrived.
    pub fn decide(&self, now: Instant) -> Decision {
        let elapsed = now.saturating_duration_since(self.started);
        let ended = elapsed >= END;
        let mut open = false;
        let mut nothing = None;
        for attempt in &self.attempts {
            match &attempt.verdict {
                None => open = true,
                Some(Verdict::Found(packet)) if !open || elapsed >= HEAD_START => {
                    return Decision::Answer(self.finish(nothing.unwrap_or(packet)));
                }
                Some(Verdict::Nothing(packet)) if !open || elapsed >= PATIENCE => {
                    nothing.get_or_insert(packet);
                }
                Some(_) => {}
            }
            if let (Some(packet), false) = (nothing, open) {
                return Decision::Answer(self.finish(packet));
            }
        }
        match nothing {
            Some(packet) => Decision::Answer(self.finish(packet)),
            None if open && !ended => Decision::Wait(self.next_time(elapsed)),
            None => self.refusal(),
        }
    }

    /// What a resolver said that will not answer, or nothing.
    fn refusal(&self) -> Decision {
        let said = self
            .attempts
            .iter()
            .find_map(|attempt| match &attempt.verdict {
                Some(Verdict::Failed(said)) => said.as_ref(),
                _ => None,
            });
        said.map_or(Decision::Fail, |said| Decision::Answer(self.finish(said)))
    }

    fn next_time(&self, elapsed: Duration) -> Instant {
        let times = [HEAD_START, PATIENCE, END];
        let next = times.into_iter().find(|time| *time > elapsed);
        self.started + next.unwrap_or(END)
    }

    /// The packet under the client's id, cut to a header and the question when the client cannot take it.
    fn finish(&self, packet: &[u8]) -> Vec<u8> {
        let mut answer = packet.to_vec();
        if answer.len() > self.question.limit {
            let end = question(packet).map_or(HEADER, |one| HEADER + one.len());
            answer.truncate(end);
            answer[2] |= TRUNCATED;
            answer[6..HEADER].fill(0);
        }
        answer[..2].copy_from_slice(&self.question.packet[..2]);
        answer
    }
}

impl Attempt {
    fn send(&mut self) {
        let sent = match &mut self.way {
            Some(Way::Datagram(socket)) => socket.send(&self.query).map(drop),
            Some(Way::Stream(stream)) => {
                stream.push(&self.query);
                // A connection that is not there yet takes it when it is.
                let flushed = stream.flush();
                match flushed {
                    Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
                    other => other.map(drop),
                }
            }
            None => return,
        };
        if sent.is_err() {
            self.fail();
        }
    }

    fn fail(&mut self) {
        self.way = None;
        self.verdict = Some(match self.cut.take() {
            Some(cut) => Verdict::Found(cut),
            None => Verdict::Failed(None),
        });
    }

    /// Takes an answer, if it is one to this question. Answers the resolver when it has more than fits in a datagram.
    fn take(&mut self, packet: Vec<u8>) -> Option<Upstream> {
        let ours = packet.len() >= HEADER
            && packet[2] & RESPONSE != 0
            && packet[..2] == self.query[..2]
            && same_question(&packet, &self.query);
        if !ours {
            return None;
        }
        if packet[2] & TRUNCATED != 0 && matches!(self.way, Some(Way::Datagram(_))) {
            self.cut = Some(packet);
            return Some(self.upstream);
        }
        self.way = None;
        let answers = packet[6..8] != [0, 0];
        self.verdict = Some(match (packet[3] & 0x0f, answers) {
            (0, true) => Verdict::Found(packet),
            (0 | 3, _) => Verdict::Nothing(packet),
            _ => Verdict::Failed(Some(packet)),
        });
        None
    }
}

fn receive(socket: &UdpSocket) -> io::Result<Option<Vec<u8>>> {
    let mut buffer = [0; 4096];
    match socket.recv(&mut buffer) {
        Ok(length) => Ok(Some(buffer[..length].to_vec())),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

fn random_id() -> io::Result<[u8; 2]> {
    let mut id = [0; 2];
    rustix::rand::getrandom(&mut id[..], rustix::rand::GetRandomFlags::empty())?;
    Ok(id)
}

/// The bytes of the first question: labels, type and class.
fn question(packet: &[u8]) -> Option<&[u8]> {
    let mut at = HEADER;
    loop {
        match usize::from(*packet.get(at)?) {
            0 => return packet.get(HEADER..at + 5),
            length @ 1..=63 => at += 1 + length,
            _ => return None,
        }
    }
}

/// Names may come back in other letters; type and class may not change.
fn same_question(answer: &[u8], query: &[u8]) -> bool {
    let (Some(answer), Some(query)) = (question(answer), question(query)) else {
        return false;
    };
    let split = |one: &[u8]| one.len() - 4;
    let (name, kind) = answer.split_at(split(answer));
    let (wanted, wanted_kind) = query.split_at(split(query));
    name.eq_ignore_ascii_case(wanted) && kind == wanted_kind
}

#[cfg(test)]
mod tests;
