//! DNS over TCP (RFC 1035 4.2.2): messages with their length in front, on a stream that never blocks.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;

/// Bytes taken from a stream at once, and how often until others have their turn: more than the longest message.
const CHUNK: usize = 4096;
const CHUNKS: usize = 32;

/// A stream of messages.
#[derive(Debug)]
pub struct Stream {
    socket: TcpStream,
    input: Vec<u8>,
    output: Vec<u8>,
}

impl Stream {
    /// Over a connection, or one that is being made.
    pub fn new(socket: TcpStream) -> Self {
        Self {
            socket,
            input: Vec::new(),
            output: Vec::new(),
        }
    }

    /// The connection.
    pub fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// Puts a message in line.
    pub fn push(&mut self, message: &[u8]) {
        let Ok(length) = u16::try_from(message.len()) else {
            return;
        };
        self.output.extend(length.to_be_bytes());
        self.output.extend(message);
    }

    /// Sends what the connection takes now; answers whether all is sent.
    ///
    /// # Errors
    /// Those of the connection.
    pub fn flush(&mut self) -> io::Result<bool> {
        while !self.output.is_empty() {
            match self.socket.write(&self.output) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => drop(self.output.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Takes what has arrived, at most `most` whole messages of it.
    ///
    /// # Errors
    /// Those of the connection, and its end.
    pub fn receive(&mut self, most: usize) -> io::Result<Vec<Vec<u8>>> {
        let mut ended = None;
        for _ in 0..CHUNKS {
            match self.take() {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    ended = Some(error);
                    break;
                }
            }
        }
        let mut messages = Vec::new();
        while let Some(message) = self.next() {
            if messages.len() == most {
                return Err(ErrorKind::InvalidData.into());
            }
            messages.push(message);
        }
        match ended {
            // What came before the end is worth an answer.
            Some(error) if messages.is_empty() => Err(error),
            _ => Ok(messages),
        }
    }

    /// Takes one chunk; answers whether there was one.
    fn take(&mut self) -> io::Result<bool> {
        let mut chunk = [0; CHUNK];
        match self.socket.read(&mut chunk) {
            Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                self.input.extend(&chunk[..count]);
                Ok(true)
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(true),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn next(&mut self) -> Option<Vec<u8>> {
        let (length, rest) = self.input.split_first_chunk::<2>()?;
        let length = usize::from(u16::from_be_bytes(*length));
        let message = rest.get(..length)?.to_vec();
        self.input.drain(..length + 2);
        Some(message)
    }
}
