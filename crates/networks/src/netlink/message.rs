//! Builds and reads netlink messages and their attributes (netlink(7), `linux/netlink.h`).

/// Bytes of a `struct nlmsghdr`.
const HEADER: usize = 16;
/// `NLA_F_NESTED`.
const NESTED: u16 = 0x8000;
/// What `NLA_F_NESTED | NLA_F_NET_BYTEORDER` leave of an attribute's type.
const TYPE_MASK: u16 = 0x3fff;

/// One or more requests, sent to the kernel in one call.
#[derive(Debug, Default)]
pub struct Messages {
    bytes: Vec<u8>,
    starts: Vec<usize>,
}

impl Messages {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins a request; `header` is the fixed part of its family (`ifinfomsg`, `nfgenmsg`, ...).
    pub fn begin(&mut self, kind: u16, flags: u16, header: &[u8]) -> &mut Self {
        self.seal();
        self.starts.push(self.bytes.len());
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes
            .extend_from_slice(&(flags | super::REQUEST).to_ne_bytes());
        self.bytes.extend_from_slice(&[0; 8]);
        self.bytes.extend_from_slice(header);
        self.pad();
        self
    }

    /// Adds an attribute of raw bytes to the open request.
    pub fn put(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        let length = (value.len() + 4) as u16;
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        self.pad();
        self
    }

    /// Adds a number in host byte order, as rtnetlink wants it.
    pub fn put_u32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.put(kind, &value.to_ne_bytes())
    }

    /// Adds a number in network byte order, as nf_tables wants it.
    pub fn put_be32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.put(kind, &value.to_be_bytes())
    }

    /// Adds a text with its final zero.
    pub fn put_str(&mut self, kind: u16, value: &str) -> &mut Self {
        let mut bytes = Vec::with_capacity(value.len() + 1);
        bytes.extend_from_slice(value.as_bytes());
        bytes.push(0);
        self.put(kind, &bytes)
    }

    /// Adds bytes that are no attribute (the header of a nested peer).
    pub fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(bytes);
        self.pad();
        self
    }

    /// Adds an attribute that holds what `fill` adds.
    pub fn nested(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) -> &mut Self {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 2]);
        self.bytes.extend_from_slice(&(kind | NESTED).to_ne_bytes());
        fill(self);
        let length = (self.bytes.len() - start) as u16;
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self
    }

    /// How many requests there are.
    pub fn len(&self) -> usize {
        self.starts.len()
    }

    /// Whether there is no request.
    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    /// Bytes of the open request so far, to split long lists.
    pub fn open_len(&self) -> usize {
        self.starts
            .last()
            .map_or(0, |start| self.bytes.len() - start)
    }

    /// The finished batch: requests are numbered from `sequence`, and the one at `acknowledged` asks for an answer.
    pub(super) fn finish(&mut self, sequence: u32, acknowledged: usize) -> &[u8] {
        self.seal();
        for (index, start) in self.starts.iter().enumerate() {
            let number = sequence.wrapping_add(index as u32);
            self.bytes[start + 8..start + 12].copy_from_slice(&number.to_ne_bytes());
            if index == acknowledged {
                self.bytes[start + 6] |= super::ACK as u8;
            }
        }
        &self.bytes
    }

    fn seal(&mut self) {
        if let Some(&start) = self.starts.last() {
            let length = (self.bytes.len() - start) as u32;
            self.bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes());
        }
    }

    fn pad(&mut self) {
        while !self.bytes.len().is_multiple_of(4) {
            self.bytes.push(0);
        }
    }
}

/// One message from the kernel.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// `nlmsg_type`.
    pub kind: u16,
    /// `nlmsg_flags`.
    pub flags: u16,
    /// `nlmsg_seq`.
    pub sequence: u32,
    /// Everything behind the header.
    pub body: &'a [u8],
}

/// Reads the messages of one datagram.
pub fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let length = u32_at(bytes, 0)? as usize;
        if length < HEADER || length > bytes.len() {
            return None;
        }
        let message = Message {
            kind: u16_at(bytes, 4)?,
            flags: u16_at(bytes, 6)?,
            sequence: u32_at(bytes, 8)?,
            body: &bytes[HEADER..length],
        };
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        Some(message)
    })
}

/// The attributes behind a fixed header, or inside a nested attribute.
#[derive(Clone, Copy, Debug)]
pub struct Attributes<'a>(&'a [u8]);

impl<'a> Attributes<'a> {
    /// Reads attributes that begin after `header` bytes.
    pub fn new(body: &'a [u8], header: usize) -> Self {
        Self(body.get(header.next_multiple_of(4)..).unwrap_or(&[]))
    }

    /// All attributes with their types.
    pub fn iter(self) -> impl Iterator<Item = (u16, &'a [u8])> {
        let mut bytes = self.0;
        std::iter::from_fn(move || {
            let length = usize::from(u16_at(bytes, 0)?);
            if length < 4 || length > bytes.len() {
                return None;
            }
            let kind = u16_at(bytes, 2)? & TYPE_MASK;
            let value = &bytes[4..length];
            bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or(&[]);
            Some((kind, value))
        })
    }

    /// The first attribute of a type.
    pub fn get(self, kind: u16) -> Option<&'a [u8]> {
        self.iter()
            .find(|(found, _)| *found == kind)
            .map(|(_, value)| value)
    }

    /// A nested attribute.
    pub fn nested(self, kind: u16) -> Option<Self> {
        self.get(kind).map(Self)
    }

    /// A number in host byte order.
    pub fn u32(self, kind: u16) -> Option<u32> {
        u32_at(self.get(kind)?, 0)
    }

    /// A number in network byte order.
    pub fn be32(self, kind: u16) -> Option<u32> {
        self.u32(kind).map(u32::from_be)
    }

    /// A text without its final zero.
    pub fn text(self, kind: u16) -> Option<&'a str> {
        let value = self.get(kind)?;
        std::str::from_utf8(value.strip_suffix(&[0]).unwrap_or(value)).ok()
    }
}

/// A number in host byte order at a position.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_built_reads_back() {
        let mut batch = Messages::new();
        batch
            .begin(16, 0, &[1, 2, 3, 4])
            .put_str(3, "eth0")
            .nested(18, |inner| {
                inner.put_u32(1, 7).put(2, &[9]);
            });
        batch.begin(17, super::super::DUMP, &[]);
        let bytes = batch.finish(40, 1).to_vec();
        let read: Vec<_> = messages(&bytes).collect();
        assert_eq!(read.len(), 2);
        assert_eq!((read[0].kind, read[0].sequence, read[0].flags), (16, 40, 1));
        assert_eq!(
            (read[1].kind, read[1].sequence, read[1].flags),
            (17, 41, 0x305)
        );
        let attributes = Attributes::new(read[0].body, 4);
        assert_eq!(attributes.text(3), Some("eth0"));
        let inner = attributes.nested(18).unwrap();
        assert_eq!(inner.u32(1), Some(7));
        assert_eq!(inner.get(2), Some(&[9][..]));
    }

    #[test]
    fn cut_messages_end_the_list() {
        assert_eq!(messages(&[200, 0, 0, 0, 1, 0, 0, 0]).count(), 0);
        assert_eq!(Attributes::new(&[3, 0, 1, 0], 0).iter().count(), 0);
        assert_eq!(Attributes::new(&[9, 0, 1, 0], 0).iter().count(), 0);
    }
}
