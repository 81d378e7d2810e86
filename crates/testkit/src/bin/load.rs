//! The load generator of the network benchmarks: one process is a server or a client, in whatever network namespace it is
//! started. Prints figures, one line a run, separated by spaces.

#![expect(clippy::print_stdout, reason = "its figures are its output")]

use std::{
    collections::HashMap,
    fs::File,
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

const USAGE: &str = "usage: load serve PORT | throughput ADDRESS SECONDS | connections ADDRESS SECONDS | names NAME WINDOW SECONDS";
const BLOCK: usize = 1 << 20;
const RESOLVER: &str = "127.0.0.11:53";

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
/// milliseconds.
fn names(name: &str, window: u16, time: Duration) -> Result<()> {
    let mut question = Vec::new();
    for label in name.split('.') {
        question.push(u8::try_from(label.len())?);
        question.extend_from_slice(label.as_bytes());
    }
    question.extend_from_slice(&[0, 0, 1, 0, 1]);
    let client = UdpSocket::bind("0.0.0.0:0")?;
    client.connect(RESOLVER)?;
    client.set_read_timeout(Some(Duration::from_secs(2)))?;
    let mut asked: HashMap<u16, Instant> = HashMap::new();
    let mut number = 0u16;
    let mut ask = |asked: &mut HashMap<u16, Instant>| -> Result<()> {
        number = number.wrapping_add(1);
        let mut message = number.to_be_bytes().to_vec();
        message.extend_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
        message.extend_from_slice(&question);
        asked.insert(number, Instant::now());
        client.send(&message)?;
        Ok(())
    };
    for _ in 0..window {
        ask(&mut asked)?;
    }
    let (start, mut times, mut answer) = (Instant::now(), Vec::new(), [0; 512]);
    while start.elapsed() < time {
        let length = client.recv(&mut answer).context("no answer in time")?;
        ensure!(
            length > 12 && answer[6..8] != [0, 0],
            "no address in the answer"
        );
        let sent = asked
            .remove(&u16::from_be_bytes([answer[0], answer[1]]))
            .context("an answer to no question")?;
        times.push(sent.elapsed());
        ask(&mut asked)?;
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
