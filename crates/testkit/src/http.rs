//! A plain HTTP/1.1 client for tests: one blocking connection per request, no redirects, no cleverness, so that a test decides
//! about every byte.

use std::io::{Read, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server at `host:port`.
#[derive(Clone, Debug)]
pub struct Http {
    pub address: String,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    /// The first header of a name, in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// All headers of a name.
    pub fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        let found = self.headers.iter().filter(move |(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The body as JSON; null when it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Http {
    /// A server at `host:port`.
    pub fn new(address: impl Into<String>) -> Self {
        Self {
            address: address.into(),
        }
    }

    /// Opens a connection.
    ///
    /// # Errors
    /// Nobody listens.
    pub fn connect(&self) -> Result<TcpStream> {
        let stream = TcpStream::connect(&self.address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(stream)
    }

    /// Writes a request's head without its final empty line.
    ///
    /// # Errors
    /// The connection.
    pub fn head(
        &self,
        stream: &mut TcpStream,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<()> {
        let mut text = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n",
            self.address
        );
        for (name, value) in headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        stream.write_all(text.as_bytes())?;
        Ok(())
    }

    /// Sends a request with a body of known length; none for methods that have none.
    ///
    /// # Errors
    /// The connection; an answer that is not HTTP.
    pub fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Answer> {
        let mut stream = self.connect()?;
        self.head(&mut stream, method, path, headers)?;
        if !matches!(method, "GET" | "HEAD") {
            write!(stream, "Content-Length: {}\r\n", body.len())?;
        }
        stream.write_all(b"\r\n")?;
        // A server that refuses the body may close before it has it.
        let _refused = stream.write_all(body);
        read_answer(&mut stream, method)
    }

    /// Sends a request whose length is not told, in these chunks.
    ///
    /// # Errors
    /// As [`Http::send`].
    pub fn stream(&self, method: &str, path: &str, chunks: &[&[u8]]) -> Result<Answer> {
        let mut stream = self.connect()?;
        let headers = [("Transfer-Encoding", "chunked")];
        self.head(&mut stream, method, path, &headers)?;
        stream.write_all(b"\r\n")?;
        for chunk in chunks {
            write!(stream, "{:x}\r\n", chunk.len())?;
            stream.write_all(chunk)?;
            stream.write_all(b"\r\n")?;
        }
        stream.write_all(b"0\r\n\r\n")?;
        read_answer(&mut stream, method)
    }

    /// GET.
    ///
    /// # Errors
    /// As [`Http::send`].
    pub fn get(&self, path: &str) -> Result<Answer> {
        self.send("GET", path, &[], &[])
    }
}

/// Reads an answer up to the end of the connection.
///
/// # Errors
/// The connection; an answer that is not HTTP.
pub fn read_answer(stream: &mut impl Read, method: &str) -> Result<Answer> {
    let mut all = Vec::new();
    loop {
        let mut buffer = vec![0; 64 << 10];
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => all.extend_from_slice(&buffer[..count]),
            // What was refused and not read is answered with a reset after the answer.
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => break,
            Err(error) => return Err(error.into()),
        }
    }
    parse(&all, method)
}

fn parse(all: &[u8], method: &str) -> Result<Answer> {
    let end = find(all, b"\r\n\r\n").context("no end of the head")?;
    let head = std::str::from_utf8(&all[..end])?;
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap_or("").split(' ').nth(1);
    let status: u16 = status.context("no status")?.parse()?;
    if status == 100 {
        return parse(&all[end + 4..], method);
    }
    let headers: Vec<_> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()))
        .collect();
    let rest = &all[end + 4..];
    let mut answer = Answer {
        status,
        headers,
        body: Vec::new(),
    };
    if method == "HEAD" || matches!(status, 204 | 304) {
        if !rest.is_empty() {
            bail!("a body where none can be");
        }
    } else if answer.header("transfer-encoding").is_some() {
        answer.body = dechunk(rest)?;
    } else {
        answer.body = rest.to_vec();
        let length = answer
            .header("content-length")
            .map(str::parse)
            .transpose()?;
        if length.is_some_and(|length: usize| length != rest.len()) {
            bail!("{} bytes instead of {length:?}", rest.len());
        }
    }
    Ok(answer)
}

fn dechunk(mut rest: &[u8]) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = find(rest, b"\r\n").context("no length of a chunk")?;
        let length = usize::from_str_radix(std::str::from_utf8(&rest[..end])?.trim(), 16)?;
        if length == 0 {
            return Ok(body);
        }
        let start = end + 2;
        body.extend_from_slice(rest.get(start..start + length).context("a short chunk")?);
        rest = rest.get(start + length + 2..).context("a short chunk")?;
    }
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|window| window == what)
}
