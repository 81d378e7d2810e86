//! One line of a json-file log, turned into the bytes a client gets.

use std::collections::BTreeMap;

use crate::frame_header;
use crate::json_file::OutputStream;
use cais_runtime::timestamp::Timestamp;
use cais_types::Framing;

use super::Options;

const START: &[u8] = b"{\"log\":\"";
const HEADER: usize = 8;
/// A time and a space.
const TIME: usize = 31;

/// What became of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It was appended, left out by choice, or is damaged.
    Done,
    /// It is later than wanted, and so is everything after it.
    Past,
}

/// What is wanted of each entry.
pub struct Format {
    wanted: [bool; 2],
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    timestamps: bool,
    details: bool,
    framed: bool,
}

/// The parts of a line after its text.
struct Rest<'a> {
    stream: OutputStream,
    time: &'a [u8],
}

#[derive(serde::Deserialize)]
struct AnyLine {
    #[serde(default)]
    log: String,
    #[serde(default)]
    stream: String,
    time: String,
    #[serde(default)]
    attrs: BTreeMap<String, String>,
}

impl Format {
    pub fn new(options: &Options) -> Self {
        Self {
            wanted: [options.stdout, options.stderr],
            since: options.since,
            until: options.until,
            timestamps: options.timestamps,
            details: options.details,
            framed: options.framing == Framing::Multiplexed,
        }
    }

    /// Appends an entry to a chunk, if it is whole and wanted.
    pub fn push(&self, line: &[u8], chunk: &mut Vec<u8>) -> Verdict {
        let before = chunk.len();
        if !self.details
            && let Some(verdict) = self.push_plain(line, chunk)
        {
            return verdict;
        }
        chunk.truncate(before);
        self.push_any(line, chunk)
    }

    /// The way of lines that this project or Docker wrote; `None` for anything unusual.
    fn push_plain(&self, line: &[u8], chunk: &mut Vec<u8>) -> Option<Verdict> {
        let before = chunk.len();
        let text = line.strip_prefix(START)?;
        let prefix = self.prefix_length();
        chunk.resize(before + prefix, 0);
        let used = unescape(text, chunk)?;
        let rest = Rest::parse(&text[used..])?;
        let verdict = self.judge(&rest)?;
        match verdict {
            Some(verdict) => {
                chunk.truncate(before);
                return Some(verdict);
            }
            None => self.write_prefix(&mut chunk[before..], &rest)?,
        }
        Some(Verdict::Done)
    }

    /// Any JSON object with these fields; a line that was joined to the rest of a damaged one counts from its own start.
    fn push_any(&self, line: &[u8], chunk: &mut Vec<u8>) -> Verdict {
        let start = memchr::memmem::rfind(line, START).unwrap_or(0);
        let Ok(any) = serde_json::from_slice::<AnyLine>(&line[start..]) else {
            return Verdict::Done;
        };
        let stream = if any.stream == "stderr" {
            OutputStream::Stderr
        } else {
            OutputStream::Stdout
        };
        let rest = Rest {
            stream,
            time: any.time.as_bytes(),
        };
        match self.judge(&rest) {
            Some(None) => {}
            Some(Some(verdict)) => return verdict,
            None => return Verdict::Done,
        }
        let before = chunk.len();
        chunk.resize(before + self.prefix_length(), 0);
        if self.details {
            push_attributes(chunk, &any.attrs);
        }
        chunk.extend_from_slice(any.log.as_bytes());
        if self.write_prefix(&mut chunk[before..], &rest).is_none() {
            chunk.truncate(before);
        }
        Verdict::Done
    }

    fn prefix_length(&self) -> usize {
        (if self.framed { HEADER } else { 0 }) + (if self.timestamps { TIME } else { 0 })
    }

    /// `Some(None)`: wanted. `None`: the time cannot be read.
    fn judge(&self, rest: &Rest<'_>) -> Option<Option<Verdict>> {
        if self.since.is_some() || self.until.is_some() {
            let time = Timestamp::parse(rest.time)?;
            if self.until.is_some_and(|until| time > until) {
                return Some(Some(Verdict::Past));
            }
            if self.since.is_some_and(|since| time < since) {
                return Some(Some(Verdict::Done));
            }
        }
        let wanted = self.wanted[rest.stream.index()];
        Some((!wanted).then_some(Verdict::Done))
    }

    /// Fills the room left at the start of an entry.
    fn write_prefix(&self, mut entry: &mut [u8], rest: &Rest<'_>) -> Option<()> {
        if self.framed {
            let header = frame_header(rest.stream, entry.len() - HEADER);
            entry[..HEADER].copy_from_slice(&header);
            entry = &mut entry[HEADER..];
        }
        if self.timestamps {
            entry[..TIME - 1].copy_from_slice(&fixed_time(rest.time)?);
            entry[TIME - 1] = b' ';
        }
        Some(())
    }
}

impl<'a> Rest<'a> {
    /// Reads `"stream":"...",["attrs":{...},]"time":"..."}` from behind the comma after the text.
    fn parse(rest: &'a [u8]) -> Option<Self> {
        let rest = rest.strip_prefix(b",\"stream\":\"std")?;
        let (stream, rest) = match rest {
            [b'o', b'u', b't', b'"', b',', rest @ ..] => (OutputStream::Stdout, rest),
            [b'e', b'r', b'r', b'"', b',', rest @ ..] => (OutputStream::Stderr, rest),
            _ => return None,
        };
        let rest = rest.strip_suffix(b"\"}")?;
        let start = memchr::memrchr(b'"', rest)? + 1;
        // Only attributes may be between, and those end with a brace and a comma.
        let between = rest[..start].strip_suffix(b"\"time\":\"")?;
        let usual =
            between.is_empty() || (between.starts_with(b"\"attrs\":{") && between.ends_with(b"},"));
        usual.then_some(Self {
            stream,
            time: &rest[start..],
        })
    }
}

/// RFC 3339 with exactly nine digits of fraction, UTC.
fn fixed_time(text: &[u8]) -> Option<[u8; 30]> {
    let parsed = || Timestamp::parse(text).map(Timestamp::fixed);
    if text.len() < 20 || text.len() > 30 || text[text.len() - 1] != b'Z' {
        return parsed();
    }
    let (seconds, fraction) = text[..text.len() - 1].split_at(19);
    if !fraction.is_empty() && fraction[0] != b'.' {
        return parsed();
    }
    let mut fixed = *b"0000-00-00T00:00:00.000000000Z";
    fixed[..19].copy_from_slice(seconds);
    fixed[19..19 + fraction.len()].copy_from_slice(fraction);
    fixed[19] = b'.';
    Some(fixed)
}

/// Appends the inside of a JSON string to `out`; answers how many bytes it took, the closing quote included.
fn unescape(text: &[u8], out: &mut Vec<u8>) -> Option<usize> {
    let mut at = 0;
    loop {
        let run = memchr::memchr2(b'"', b'\\', &text[at..])?;
        out.extend_from_slice(&text[at..at + run]);
        at += run;
        if text[at] == b'"' {
            return Some(at + 1);
        }
        let plain = match *text.get(at + 1)? {
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'b' => 8,
            b'f' => 12,
            byte @ (b'"' | b'\\' | b'/') => byte,
            b'u' => {
                at += push_unicode(&text[at..], out)?;
                continue;
            }
            _ => return None,
        };
        out.push(plain);
        at += 2;
    }
}

/// Appends `\uXXXX` or a pair of surrogates; answers its length.
fn push_unicode(text: &[u8], out: &mut Vec<u8>) -> Option<usize> {
    let unit = |text: &[u8]| {
        let digits = text.strip_prefix(b"\\u")?.get(..4)?;
        let digits = std::str::from_utf8(digits).ok()?;
        u32::from_str_radix(digits, 16).ok()
    };
    let first = unit(text)?;
    let mut length = 6;
    let mut code = first;
    if (0xd800..0xdc00).contains(&first)
        && let Some(second) = unit(&text[6..])
        && (0xdc00..0xe000).contains(&second)
    {
        code = 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
        length = 12;
    }
    let character = char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
    out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
    Some(length)
}

/// `key=value,key=value ` with keys in order, as Go's `url.QueryEscape` writes them.
fn push_attributes(out: &mut Vec<u8>, attributes: &BTreeMap<String, String>) {
    for (index, (key, value)) in attributes.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        push_query_escaped(out, key);
        out.push(b'=');
        push_query_escaped(out, value);
    }
    out.push(b' ');
}

fn push_query_escaped(out: &mut Vec<u8>, text: &str) {
    for &byte in text.as_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(byte),
            b' ' => out.push(b'+'),
            _ => out.extend_from_slice(format!("%{byte:02X}").as_bytes()),
        }
    }
}
