//! Hijacked calls: attach and exec. The request is written by hand on a connection of its own, because the daemon may
//! answer 101 or, as old ones do, 200, and in both cases the connection is a two-way stream from there on.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf as _, Bytes, BytesMut};
use http::StatusCode;
use tokio::io::{
    AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf, ReadHalf, WriteHalf,
};

use crate::call::error_answer;
use crate::error::{ClientError, Result};
use crate::socket::Socket;

/// A head longer than this is not HTTP.
const HEAD_LIMIT: usize = 64 << 10;

/// A connection that is a plain two-way stream now.
pub struct Hijacked {
    /// Output of the container.
    pub reader: HijackReader,
    /// Input of the container; `shutdown` half-closes it.
    pub writer: HijackWriter,
    /// True when the daemon said that the output is framed (API 1.42 and later say so).
    pub multiplexed: Option<bool>,
}

/// The reading half.
pub struct HijackReader {
    unread: Bytes,
    half: ReadHalf<Socket>,
}

/// The writing half.
pub struct HijackWriter(WriteHalf<Socket>);

impl AsyncRead for HijackReader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.unread.is_empty() {
            return Pin::new(&mut self.half).poll_read(cx, buf);
        }
        let take = self.unread.len().min(buf.remaining());
        buf.put_slice(&self.unread[..take]);
        self.unread.advance(take);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for HijackWriter {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

struct Head {
    status: StatusCode,
    content_type: String,
    content_length: Option<usize>,
    chunked: bool,
}

/// Writes the request and reads the head of the answer.
pub(crate) async fn open(
    mut socket: Socket,
    head: String,
    body: Bytes,
    request: String,
) -> Result<Hijacked> {
    let broken = |cause: String| ClientError::Transport {
        request: request.clone(),
        cause,
    };
    let mut message = head.into_bytes();
    message.extend_from_slice(&body);
    socket
        .write_all(&message)
        .await
        .map_err(|error| broken(error.to_string()))?;
    let mut buffer = BytesMut::with_capacity(4096);
    let end = loop {
        if let Some(at) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        let read = socket
            .read_buf(&mut buffer)
            .await
            .map_err(|error| broken(error.to_string()))?;
        if read == 0 || buffer.len() > HEAD_LIMIT {
            return Err(broken("EOF".into()));
        }
    };
    let head = parse_head(&buffer.split_to(end))
        .ok_or_else(|| broken("malformed HTTP response".into()))?;
    if head.status != StatusCode::SWITCHING_PROTOCOLS && head.status != StatusCode::OK {
        let body = read_error(&mut socket, buffer, &head).await?;
        return Err(error_answer(head.status, &body));
    }
    let (reader, writer) = tokio::io::split(socket);
    Ok(Hijacked {
        reader: HijackReader {
            unread: buffer.freeze(),
            half: reader,
        },
        writer: HijackWriter(writer),
        multiplexed: match head.content_type.as_str() {
            "application/vnd.docker.multiplexed-stream" => Some(true),
            _ => None,
        },
    })
}

fn parse_head(bytes: &[u8]) -> Option<Head> {
    let text = std::str::from_utf8(bytes).ok()?;
    let mut lines = text.split("\r\n");
    let status = lines.next()?.strip_prefix("HTTP/1.")?.get(2..5)?;
    let mut head = Head {
        status: StatusCode::from_bytes(status.as_bytes()).ok()?,
        content_type: String::new(),
        content_length: None,
        chunked: false,
    };
    for line in lines {
        let Some((name, value)) = line.split_once(':') else {
            continue;
        };
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "content-type" => value.clone_into(&mut head.content_type),
            "content-length" => head.content_length = value.parse().ok(),
            "transfer-encoding" => head.chunked = value.eq_ignore_ascii_case("chunked"),
            _ => {}
        }
    }
    Some(head)
}

async fn read_error(socket: &mut Socket, mut buffer: BytesMut, head: &Head) -> Result<Vec<u8>> {
    let want = head.content_length.unwrap_or(HEAD_LIMIT).min(HEAD_LIMIT);
    loop {
        let ended = head.chunked && buffer.ends_with(b"0\r\n\r\n");
        if buffer.len() >= want || ended || socket.read_buf(&mut buffer).await? == 0 {
            break;
        }
    }
    Ok(if head.chunked {
        dechunk(&buffer)
    } else {
        buffer.to_vec()
    })
}

fn dechunk(mut input: &[u8]) -> Vec<u8> {
    let mut output = Vec::new();
    while let Some(at) = input.windows(2).position(|two| two == b"\r\n") {
        let size = std::str::from_utf8(&input[..at])
            .ok()
            .and_then(|text| usize::from_str_radix(text.trim(), 16).ok())
            .unwrap_or(0);
        let Some(chunk) = input
            .get(at + 2..at + 2 + size)
            .filter(|chunk| !chunk.is_empty())
        else {
            break;
        };
        output.extend_from_slice(chunk);
        input = input.get(at + 4 + size..).unwrap_or_default();
    }
    output
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunked_error_bodies_are_put_together() {
        assert_eq!(dechunk(b"4\r\nabcd\r\n2\r\nef\r\n0\r\n\r\n"), b"abcdef");
        assert_eq!(dechunk(b""), b"");
    }

    #[test]
    fn heads_are_read_whatever_their_case() {
        let head = parse_head(
            b"HTTP/1.1 101 UPGRADED\r\ncontent-TYPE: application/vnd.docker.multiplexed-stream\r\n\r\n",
        )
        .unwrap();
        assert_eq!(head.status, StatusCode::SWITCHING_PROTOCOLS);
        assert_eq!(
            head.content_type,
            "application/vnd.docker.multiplexed-stream"
        );
        assert!(parse_head(b"SSH-2.0\r\n\r\n").is_none());
    }
}
