//! The frames of [`super::protocol`]: a little-endian `u32` length and JSON, with descriptors riding on the length. One
//! incremental decoder serves the monitor's loop, blocking callers and an asynchronous engine.

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::{Serialize, de::DeserializeOwned};

use super::protocol::MESSAGE_LIMIT;

const LENGTH: usize = 4;
/// Descriptors in one message at most.
const DESCRIPTORS: usize = 4;
/// Descriptors a peer may send ahead of the messages they belong to.
const DESCRIPTORS_AHEAD: usize = 64;
const READ: usize = 4 << 10;
const READ_MOST: usize = 64 << 10;

/// Encodes a message as one frame.
pub fn encode<T: Serialize>(message: &T) -> io::Result<Vec<u8>> {
    let mut frame = vec![0; LENGTH];
    serde_json::to_writer(&mut frame, message)?;
    let length = frame.len() - LENGTH;
    if length > MESSAGE_LIMIT {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "message is too long",
        ));
    }
    let prefix = u32::try_from(length)
        .map_err(io::Error::other)?
        .to_le_bytes();
    frame[..LENGTH].copy_from_slice(&prefix);
    Ok(frame)
}

/// Sends a message and its descriptors on a blocking socket.
pub fn send<T: Serialize>(
    socket: impl AsFd,
    message: &T,
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let frame = encode(message)?;
    let mut sent = 0;
    while sent < frame.len() {
        let riding = if sent == 0 { descriptors } else { &[] };
        match send_some(&socket, &frame[sent..], riding, SendFlags::NOSIGNAL) {
            Ok(count) => sent += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Sends the start of a frame, with the descriptors when it is the frame's first byte that goes; answers how many bytes
/// went. For callers that wait for the socket in their own way.
pub fn send_some(
    socket: impl AsFd,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
    flags: SendFlags,
) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "too many descriptors",
        ));
    }
    Ok(sendmsg(
        socket,
        &[IoSlice::new(bytes)],
        &mut control,
        flags,
    )?)
}

/// Receives one message and the descriptors that came with it, on a blocking socket that carries nothing else meanwhile.
pub fn receive<T: DeserializeOwned>(socket: impl AsFd) -> io::Result<(T, Vec<OwnedFd>)> {
    let mut decoder = Decoder::default();
    loop {
        if let Some(message) = decoder.next()? {
            return Ok((message, decoder.descriptors.into()));
        }
        // Never beyond this message: what follows belongs to the next call.
        let wanted = decoder.missing().min(READ_MOST);
        match decoder.fill(&socket, wanted, RecvFlags::empty()) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Makes messages of bytes as they arrive. Descriptors wait in arrival order; whoever handles a message takes as many as
/// that message brings.
#[derive(Default)]
pub struct Decoder {
    buffer: Vec<u8>,
    descriptors: VecDeque<OwnedFd>,
}

impl Decoder {
    /// Reads once from the socket without waiting; 0 is the end of the stream, `WouldBlock` nothing there.
    pub fn read(&mut self, socket: impl AsFd) -> io::Result<usize> {
        self.fill(
            socket,
            self.missing().clamp(READ, READ_MOST),
            RecvFlags::DONTWAIT,
        )
    }

    /// The next whole message, if its last byte is there.
    #[expect(
        clippy::should_implement_trait,
        reason = "generic over the message and fallible"
    )]
    pub fn next<T: DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        let Some(length) = self.length()? else {
            return Ok(None);
        };
        let end = LENGTH + length;
        if self.buffer.len() < end {
            return Ok(None);
        }
        let message = serde_json::from_slice(&self.buffer[LENGTH..end])?;
        if self.buffer.len() == end {
            self.buffer = Vec::new();
        } else {
            self.buffer.drain(..end);
        }
        Ok(Some(message))
    }

    /// The oldest descriptor that no message has claimed.
    pub fn take_descriptor(&mut self) -> Option<OwnedFd> {
        self.descriptors.pop_front()
    }

    fn length(&self) -> io::Result<Option<usize>> {
        let Some(prefix) = self.buffer.first_chunk::<LENGTH>() else {
            return Ok(None);
        };
        let length = usize::try_from(u32::from_le_bytes(*prefix)).map_err(io::Error::other)?;
        if length > MESSAGE_LIMIT {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "message is too long",
            ));
        }
        Ok(Some(length))
    }

    /// Bytes until the current length or message is whole.
    fn missing(&self) -> usize {
        let wanted = match self.length() {
            Ok(Some(length)) => LENGTH + length,
            _ => LENGTH,
        };
        wanted.saturating_sub(self.buffer.len())
    }

    fn fill(&mut self, socket: impl AsFd, room: usize, flags: RecvFlags) -> io::Result<usize> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let filled = self.buffer.len();
        self.buffer.resize(filled + room, 0);
        let mut parts = [IoSliceMut::new(&mut self.buffer[filled..])];
        let result = recvmsg(
            socket,
            &mut parts,
            &mut control,
            flags | RecvFlags::CMSG_CLOEXEC,
        );
        let count = result.as_ref().map_or(0, |received| received.bytes);
        self.buffer.truncate(filled + count);
        result?;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                self.descriptors.extend(descriptors);
            }
        }
        if self.descriptors.len() > DESCRIPTORS_AHEAD {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "too many descriptors",
            ));
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::protocol::{Envelope, Request};

    #[test]
    fn messages_and_descriptors_arrive_in_order() {
        let (left, right) = UnixStream::pair().unwrap();
        let (mut reader, writer) = std::io::pipe().unwrap();
        let start = Envelope {
            sequence: 1,
            request: Request::Create { netns: true },
        };
        let status = Envelope {
            sequence: 2,
            request: Request::Status,
        };
        send(&left, &status, &[]).unwrap();
        send(&left, &start, &[writer.as_fd()]).unwrap();
        drop(writer);
        let (first, none): (Envelope, _) = receive(&right).unwrap();
        assert!(matches!(first.request, Request::Status) && none.is_empty());
        let (second, descriptors): (Envelope, _) = receive(&right).unwrap();
        assert_eq!(second.sequence, 1);
        std::io::PipeWriter::from(descriptors.into_iter().next().unwrap())
            .write_all(b"x")
            .unwrap();
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "x");
    }

    #[test]
    fn the_decoder_takes_any_split_and_several_messages_at_once() {
        let (mut left, right) = UnixStream::pair().unwrap();
        let frames: Vec<u8> = (0..3)
            .flat_map(|sequence| {
                encode(&Envelope {
                    sequence,
                    request: Request::Status,
                })
                .unwrap()
            })
            .collect();
        let mut decoder = Decoder::default();
        let mut seen = Vec::new();
        for piece in frames.chunks(7) {
            left.write_all(piece).unwrap();
            decoder.read(&right).unwrap();
            while let Some(envelope) = decoder.next::<Envelope>().unwrap() {
                seen.push(envelope.sequence);
            }
        }
        assert_eq!(seen, [0, 1, 2]);
        let error = decoder.read(&right).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        left.write_all(&[0xff; 4]).unwrap();
        decoder.read(&right).unwrap();
        assert!(
            decoder.next::<Envelope>().is_err(),
            "a length beyond the limit is refused"
        );
    }
}
