//! One line of Docker's json-file log: field order, escaping and time format of Docker's `jsonlog` package.

use std::collections::BTreeMap;

use cais_runtime::timestamp::Timestamp;

const HEX: &[u8; 16] = b"0123456789abcdef";
const BLOCK: usize = 32;

/// Which of a container's output streams a line came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputStream {
    Stdout = 0,
    Stderr = 1,
}

impl OutputStream {
    /// Both, in the order of their numbers.
    pub const ALL: [Self; 2] = [Self::Stdout, Self::Stderr];

    /// 0 for standard output, 1 for standard error.
    pub fn index(self) -> usize {
        self as usize
    }

    /// `stdout` or `stderr`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }

    /// The first byte of a frame header on a multiplexed connection (Engine API, `ContainerAttach`).
    pub fn frame_type(self) -> u8 {
        match self {
            Self::Stdout => 1,
            Self::Stderr => 2,
        }
    }
}

/// What follows the text of a line: `","stream":"stdout",...}` and the line end.
pub fn push_tail(out: &mut Vec<u8>, stream: OutputStream, attributes: &[u8], time: Timestamp) {
    out.extend_from_slice(b"\",\"stream\":\"");
    out.extend_from_slice(stream.name().as_bytes());
    out.push(b'"');
    if !attributes.is_empty() {
        out.extend_from_slice(b",\"attrs\":");
        out.extend_from_slice(attributes);
    }
    out.extend_from_slice(b",\"time\":\"");
    time.push_rfc3339_nano(out);
    out.extend_from_slice(b"\"}\n");
}

/// The JSON object of extra attributes, keys in order; empty when there are none.
pub fn encode_attributes(attributes: &BTreeMap<String, String>) -> Vec<u8> {
    let mut out = Vec::new();
    for (key, value) in attributes {
        out.push(if out.is_empty() { b'{' } else { b',' });
        out.push(b'"');
        push_escaped(&mut out, key.as_bytes());
        out.extend_from_slice(b"\":\"");
        push_escaped(&mut out, value.as_bytes());
        out.push(b'"');
    }
    if !out.is_empty() {
        out.push(b'}');
    }
    out
}

/// Appends bytes as the inside of a JSON string, as Go's encoder does: `<`, `>`, `&`, U+2028 and U+2029 escaped, and
/// `\ufffd` for each byte that is not UTF-8.
pub fn push_escaped(out: &mut Vec<u8>, mut bytes: &[u8]) {
    loop {
        let plain = plain_prefix(bytes);
        out.extend_from_slice(&bytes[..plain]);
        bytes = &bytes[plain..];
        let Some(&first) = bytes.first() else { return };
        let used = if first < 0x80 {
            push_ascii_escape(out, first);
            1
        } else {
            push_multibyte(out, bytes)
        };
        bytes = &bytes[used..];
    }
}

fn is_special(byte: u8) -> bool {
    byte.wrapping_sub(0x20) >= 0x60 || matches!(byte, b'"' | b'\\' | b'<' | b'>' | b'&')
}

/// How many bytes at the start can be copied as they are. Whole blocks are looked at without a branch per byte, which the
/// compiler turns into vector code.
fn plain_prefix(bytes: &[u8]) -> usize {
    let mut length = 0;
    for block in bytes.chunks_exact(BLOCK) {
        let special = block
            .iter()
            .fold(false, |found, &byte| found | is_special(byte));
        if special {
            break;
        }
        length += BLOCK;
    }
    length
        + bytes[length..]
            .iter()
            .take_while(|byte| !is_special(**byte))
            .count()
}

fn push_ascii_escape(out: &mut Vec<u8>, byte: u8) {
    match byte {
        b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
        b'\n' => out.extend_from_slice(b"\\n"),
        b'\r' => out.extend_from_slice(b"\\r"),
        _ => {
            let (high, low) = (HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]);
            out.extend_from_slice(&[b'\\', b'u', b'0', b'0', high, low]);
        }
    }
}

/// Copies the run of characters beyond ASCII at the start, and answers how many bytes that were (at least one).
fn push_multibyte(out: &mut Vec<u8>, bytes: &[u8]) -> usize {
    let run = bytes.iter().take_while(|byte| **byte >= 0x80).count();
    match std::str::from_utf8(&bytes[..run]) {
        Ok(text) => {
            push_text(out, text);
            run
        }
        Err(error) if error.valid_up_to() > 0 => {
            let valid = &bytes[..error.valid_up_to()];
            push_text(out, std::str::from_utf8(valid).unwrap_or_default());
            valid.len()
        }
        Err(_) => {
            out.extend_from_slice(b"\\ufffd");
            1
        }
    }
}

fn push_text(out: &mut Vec<u8>, text: &str) {
    let mut rest = text;
    while let Some(position) = rest.find(['\u{2028}', '\u{2029}']) {
        out.extend_from_slice(&rest.as_bytes()[..position]);
        let last = rest.as_bytes()[position + 2];
        out.extend_from_slice(if last == 0xa8 { b"\\u2028" } else { b"\\u2029" });
        rest = &rest[position + 3..];
    }
    out.extend_from_slice(rest.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn escaped(bytes: &[u8]) -> String {
        let mut out = Vec::new();
        push_escaped(&mut out, bytes);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn escaping_is_that_of_dockers_jsonlog() {
        assert_eq!(escaped(b"plain ~ \x7f text"), "plain ~ \x7f text");
        assert_eq!(escaped(b"a\"b\\c"), r#"a\"b\\c"#);
        assert_eq!(escaped(b"<a & b>"), r"\u003ca \u0026 b\u003e");
        assert_eq!(escaped(b"\n\r\t\x1b[0m\0"), r"\n\r\u0009\u001b[0m\u0000");
        assert_eq!(
            escaped("é\u{2028}x\u{2029}€😀".as_bytes()),
            r"é\u2028x\u2029€😀"
        );
        assert_eq!(escaped(b"\xff\xc3\xa9\xe2\x82"), r"\ufffdé\ufffd\ufffd");
        assert_eq!(escaped(b"\xed\xa0\x80"), r"\ufffd\ufffd\ufffd");
    }

    #[test]
    fn every_byte_in_every_position_of_a_block_reads_back() {
        for byte in 0..=127_u8 {
            for position in [0, 1, BLOCK - 1, BLOCK, 2 * BLOCK - 1, 70] {
                let mut line = vec![b'x'; 71];
                line[position] = byte;
                let json = format!("\"{}\"", escaped(&line));
                let text: String = serde_json::from_str(&json).unwrap();
                assert_eq!(text.as_bytes(), line);
            }
        }
    }

    #[test]
    fn attributes_come_between_stream_and_time() {
        let attributes = BTreeMap::from([
            ("env".to_owned(), "a<b".to_owned()),
            ("com.x".to_owned(), "1".to_owned()),
        ]);
        let mut out = Vec::new();
        let time = Timestamp {
            seconds: 0,
            nanoseconds: 5,
        };
        push_tail(
            &mut out,
            OutputStream::Stderr,
            &encode_attributes(&attributes),
            time,
        );
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "\",\"stream\":\"stderr\",\"attrs\":{\"com.x\":\"1\",\"env\":\"a\\u003cb\"},\
             \"time\":\"1970-01-01T00:00:00.000000005Z\"}\n"
        );
    }
}
