//! The load generator of the network benchmarks: one process is a server or a client, in whatever network namespace it is
//! started. Prints figures, one line a run, separated by spaces.

#![expect(clippy::print_stdout, reason = "its figures are its output")]

use std::{
    collections::HashMap,
    fs::File,
    io::{Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket},
    os::fd::AsFd,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use cais_sys::datagrams::{Outgoing, Received};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

const USAGE: &str = "usage: load serve PORT | throughput ADDRESS SECONDS | connections ADDRESS SECONDS | names NAME WINDOW SECONDS";
const BLOCK: usize = 1 << 20;
const RESOLVER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, 11), 53);

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve", port] => serve(port.parse()?),
        ["throughput", address, seconds] => throughput(address.parse()?, duration(seconds)?),
        ["connections", address, seconds] => connections(address.parse()?, duration(seconds)?),
        ["names", name, window, seconds] => names(name, window.parse()?, duration(seconds)?),
        _ => bail!(USAGE),
    }
}

fn duration(seconds: &str) -> Result<Duration> {
    Ok(Duration::from_secs_f64(seconds.parse()?))
}

/// Reads everything from every connection, one after the other, and answers one byte at its end. Says `ready` when it listens.
fn serve(port: u16) -> Result<()> {
    let listener = TcpListener::bind(("0.0.0.0", port))?;
    println!("ready");
    let mut buffer = vec![0; BLOCK];
    loop {
        let (mut connection, _) = listener.accept()?;
        while connection.read(&mut buffer).is_ok_and(|count| count > 0) {}
        // A client that reset the connection wants no answer.
        let _ = connection.write_all(b".");
    }
}

/// GB (10^9 bytes) per second into a server, sent from a file in memory so that nothing is copied here.
fn throughput(address: SocketAddr, time: Duration) -> Result<()> {
    let source = File::from(rustix::fs::memfd_create(
        "zeros",
        rustix::fs::MemfdFlags::CLOEXEC,
    )?);
    source.set_len(BLOCK as u64)?;
    let mut connection = TcpStream::connect(address)?;
    let (start, mut sent) = (Instant::now(), 0);
    while start.elapsed() < time {
        sent += rustix::fs::sendfile(&connection, &source, Some(&mut 0), BLOCK)?;
    }
    connection.shutdown(Shutdown::Write)?;
    connection.read_exact(&mut [0])?;
    println!("{}", sent as f64 / start.elapsed().as_secs_f64() / 1e9);
    Ok(())
}

/// New connections per second, one after the other. Each ends with a reset, which leaves no port of the client waiting.
fn connections(address: SocketAddr, time: Duration) -> Result<()> {
    let (start, mut count) = (Instant::now(), 0u32);
    while start.elapsed() < time {
        let mut connection = TcpStream::connect(address)?;
        connection.shutdown(Shutdown::Write)?;
        connection.read_exact(&mut [0])?;
        rustix::net::sockopt::set_socket_linger(&connection, Some(Duration::ZERO))?;
        count += 1;
    }
    println!("{}", f64::from(count) / start.elapsed().as_secs_f64());
    Ok(())
}

/// Answers per second for the address of a name with `window` questions under way, and the 99th percentile of their times in
/// milliseconds. Asks and hears as many as there are at once, so that it costs less than any server.
fn names(name: &str, window: u16, time: Duration) -> Result<()> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    let mut asking = Asking::new(name);
    let (mut received, mut outgoing) = (Received::default(), Outgoing::default());
    for _ in 0..window {
        asking.ask(&mut outgoing);
        outgoing.send(socket.as_fd());
    }
    let patience = Timespec {
        tv_sec: 2,
        tv_nsec: 0,
    };
    let (start, mut times) = (Instant::now(), Vec::new());
    while start.elapsed() < time {
        let mut ready = [PollFd::new(&socket, PollFlags::IN)];
        ensure!(poll(&mut ready, Some(&patience))? > 0, "no answer in time");
        received.receive(socket.as_fd())?;
        for (answer, _) in received.iter() {
            times.push(asking.heard(answer)?);
            asking.ask(&mut outgoing);
        }
        outgoing.send(socket.as_fd());
    }
    let elapsed = start.elapsed().as_secs_f64();
    times.sort_unstable();
    println!(
        "{} {}",
        times.len() as f64 / elapsed,
        times[times.len() * 99 / 100].as_secs_f64() * 1000.0
    );
    Ok(())
}

/// Questions for the address of one name, and those that wait for their answers.
struct Asking {
    question: Vec<u8>,
    number: u16,
    asked: HashMap<u16, Instant>,
}

impl Asking {
    fn new(name: &str) -> Self {
        let mut question = vec![0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.') {
            question.push(u8::try_from(label.len()).unwrap_or(u8::MAX));
            question.extend_from_slice(label.as_bytes());
        }
        question.extend_from_slice(&[0, 0, 1, 0, 1]);
        Self {
            question,
            number: 0,
            asked: HashMap::new(),
        }
    }

    fn ask(&mut self, outgoing: &mut Outgoing) {
        self.number = self.number.wrapping_add(1);
        self.question[..2].copy_from_slice(&self.number.to_be_bytes());
        self.asked.insert(self.number, Instant::now());
        outgoing.push(&self.question, RESOLVER);
    }

    /// How long an answer took.
    fn heard(&mut self, answer: &[u8]) -> Result<Duration> {
        ensure!(
            answer.len() > 12 && answer[6..8] != [0, 0],
            "no address in the answer"
        );
        let sent = self
            .asked
            .remove(&u16::from_be_bytes([answer[0], answer[1]]))
            .context("an answer to no question")?;
        Ok(sent.elapsed())
    }
}
