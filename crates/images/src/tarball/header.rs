//! The 512-byte header block and the records of extended headers (POSIX.1-2017 pax, "ustar Interchange Format"; GNU tar
//! manual, "Basic Tar Format").

use rustix::fs::Timespec;

use super::{Entry, Kind};
use crate::error::TarError;

/// Size of a block.
pub const BLOCK: usize = 512;

/// Extended attributes in a pax header.
pub const XATTR_PREFIX: &[u8] = b"SCHILY.xattr.";

/// Keys and values as they stand in an archive.
pub type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

/// What extension entries said about the entry after them.
#[derive(Default)]
pub struct Extensions {
    pub gnu_path: Option<Vec<u8>>,
    pub gnu_link: Option<Vec<u8>>,
    pub pax: Pairs,
}

/// A checked header block.
pub struct Header<'a>(&'a [u8; BLOCK]);

impl<'a> Header<'a> {
    /// Checks the sum of a block that is not all zero.
    pub fn new(block: &'a [u8; BLOCK]) -> Result<Self, TarError> {
        let want = number(&block[148..156])?;
        let mut unsigned = 8 * i64::from(b' ');
        let mut signed = unsigned;
        for (place, byte) in block.iter().enumerate() {
            if !(148..156).contains(&place) {
                unsigned += i64::from(*byte);
                signed += i64::from(*byte as i8);
            }
        }
        if want != unsigned && want != signed {
            return Err(TarError::Header("checksum"));
        }
        Ok(Self(block))
    }

    /// The type flag.
    pub fn flag(&self) -> u8 {
        self.0[156]
    }

    /// Size of the payload as the block itself says.
    pub fn size(&self) -> Result<u64, TarError> {
        u64::try_from(number(&self.0[124..136])?).map_err(|_| TarError::Header("negative size"))
    }

    fn is_ustar(&self) -> bool {
        &self.0[257..263] == b"ustar\0"
    }

    fn path(&self) -> Vec<u8> {
        let name = text(&self.0[..100]);
        let prefix = if self.is_ustar() {
            text(&self.0[345..500])
        } else {
            &[]
        };
        if prefix.is_empty() {
            return name.to_vec();
        }
        [prefix, b"/", name].concat()
    }

    /// The entry this block describes, extensions applied.
    pub fn entry(&self, extensions: Extensions) -> Result<Entry, TarError> {
        let block = self.0;
        let mut entry = Entry {
            path: self.path(),
            link: text(&block[157..257]).to_vec(),
            kind: self.kind(),
            mode: (number(&block[100..108])? & 0o7777) as u32,
            uid: id(number(&block[108..116])?)?,
            gid: id(number(&block[116..124])?)?,
            size: self.size()?,
            mtime: Timespec {
                tv_sec: number(&block[136..148])?,
                tv_nsec: 0,
            },
            device: (0, 0),
            xattrs: Vec::new(),
        };
        if matches!(entry.kind, Kind::CharDevice | Kind::BlockDevice) {
            entry.device = (
                id(number(&block[329..337])?)?,
                id(number(&block[337..345])?)?,
            );
        }
        apply(&mut entry, extensions)?;
        if entry.kind == Kind::File && entry.path.ends_with(b"/") {
            entry.kind = Kind::Directory;
        }
        if !matches!(entry.kind, Kind::File | Kind::Other(_)) {
            entry.size = 0;
        }
        Ok(entry)
    }

    fn kind(&self) -> Kind {
        match self.flag() {
            0 | b'0' | b'7' => Kind::File,
            b'1' => Kind::HardLink,
            b'2' => Kind::Symlink,
            b'3' => Kind::CharDevice,
            b'4' => Kind::BlockDevice,
            b'5' => Kind::Directory,
            b'6' => Kind::Fifo,
            other => Kind::Other(other),
        }
    }
}

fn apply(entry: &mut Entry, extensions: Extensions) -> Result<(), TarError> {
    for (key, value) in extensions.pax {
        match &*key {
            b"path" if !value.is_empty() => entry.path = value,
            b"linkpath" if !value.is_empty() => entry.link = value,
            b"size" => entry.size = decimal(&value)?,
            b"uid" => entry.uid = id(decimal(&value)? as i64)?,
            b"gid" => entry.gid = id(decimal(&value)? as i64)?,
            b"mtime" => entry.mtime = timestamp(&value)?,
            key if key.starts_with(b"GNU.sparse.") => {
                return Err(TarError::Kind('S', entry.shown()));
            }
            key => {
                if let Some(name) = key.strip_prefix(XATTR_PREFIX) {
                    entry.xattrs.push((name.to_vec(), value));
                }
            }
        }
    }
    if let Some(path) = extensions.gnu_path {
        entry.path = path;
    }
    if let Some(link) = extensions.gnu_link {
        entry.link = link;
    }
    Ok(())
}

/// The records of a pax header: `LENGTH KEY=VALUE\n`, LENGTH counting itself. Anything else is an error, never skipped.
pub fn pax_records(mut bytes: &[u8]) -> Result<Pairs, TarError> {
    const BAD: TarError = TarError::Header("pax record");
    let mut records = Vec::new();
    while !bytes.is_empty() {
        let space = bytes.iter().position(|b| *b == b' ').ok_or(BAD)?;
        let length = usize::try_from(decimal(&bytes[..space])?).map_err(|_| BAD)?;
        if length > bytes.len() || length < space + 3 {
            return Err(BAD);
        }
        let record = bytes[space + 1..length].strip_suffix(b"\n").ok_or(BAD)?;
        let equals = record.iter().position(|b| *b == b'=').ok_or(BAD)?;
        let (key, value) = (&record[..equals], &record[equals + 1..]);
        let has_nul = |bytes: &[u8]| bytes.contains(&0);
        let is_name = matches!(key, b"path" | b"linkpath" | b"uname" | b"gname");
        if key.is_empty() || has_nul(key) || (is_name && has_nul(value)) {
            return Err(BAD);
        }
        // A later record of the same key replaces an earlier one.
        records.retain(|(other, _)| other != key);
        records.push((key.to_vec(), value.to_vec()));
        bytes = &bytes[length..];
    }
    Ok(records)
}

/// The bytes before the first NUL.
pub fn text(field: &[u8]) -> &[u8] {
    let end = field.iter().position(|b| *b == 0).unwrap_or(field.len());
    &field[..end]
}

fn decimal(digits: &[u8]) -> Result<u64, TarError> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(TarError::Header("decimal number"));
    }
    std::str::from_utf8(digits)
        .ok()
        .and_then(|digits| digits.parse().ok())
        .filter(|value| i64::try_from(*value).is_ok())
        .ok_or(TarError::Header("decimal number"))
}

fn id(value: i64) -> Result<u32, TarError> {
    // -1 means "leave as it is" to chown and must never come out of an archive.
    u32::try_from(value)
        .ok()
        .filter(|value| *value != u32::MAX)
        .ok_or(TarError::Header("user, group or device number"))
}

/// `[-]SECONDS[.FRACTION]`
fn timestamp(value: &[u8]) -> Result<Timespec, TarError> {
    const BAD: TarError = TarError::Header("time");
    let value = std::str::from_utf8(value).map_err(|_| BAD)?;
    let (negative, value) = match value.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, value),
    };
    let (seconds, fraction) = value.split_once('.').unwrap_or((value, ""));
    let seconds = decimal(seconds.as_bytes())? as i64;
    if !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return Err(BAD);
    }
    let digits: String = fraction
        .chars()
        .chain("000000000".chars())
        .take(9)
        .collect();
    let nanoseconds: i64 = digits.parse().map_err(|_| BAD)?;
    Ok(match (negative, nanoseconds) {
        (false, _) => Timespec {
            tv_sec: seconds,
            tv_nsec: nanoseconds,
        },
        (true, 0) => Timespec {
            tv_sec: -seconds,
            tv_nsec: 0,
        },
        (true, _) => Timespec {
            tv_sec: -seconds - 1,
            tv_nsec: 1_000_000_000 - nanoseconds,
        },
    })
}

/// A numeric field: octal digits, or base-256 when the top bit is set (GNU tar).
fn number(field: &[u8]) -> Result<i64, TarError> {
    const BAD: TarError = TarError::Header("number");
    if field[0] & 0x80 != 0 {
        let negative = field[0] & 0x40 != 0;
        let mut value: i64 = if negative { -1 } else { 0 };
        for (place, byte) in field.iter().enumerate() {
            let byte = match (place, negative) {
                (0, false) => byte & 0x7f,
                _ => *byte,
            };
            let high = value >> 55;
            if high != 0 && high != -1 {
                return Err(BAD);
            }
            value = (value << 8) | i64::from(byte);
        }
        return Ok(value);
    }
    let digits = field
        .iter()
        .copied()
        .skip_while(|b| matches!(b, b' ' | 0))
        .take_while(|b| !matches!(b, b' ' | 0));
    let mut value: i64 = 0;
    for digit in digits {
        if !(b'0'..=b'7').contains(&digit) {
            return Err(BAD);
        }
        value = value
            .checked_mul(8)
            .and_then(|value| value.checked_add(i64::from(digit - b'0')))
            .ok_or(BAD)?;
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_octal_and_base_256() {
        assert_eq!(number(b"0000644\0").unwrap(), 0o644);
        assert_eq!(number(b" 644 \0\0\0").unwrap(), 0o644);
        assert_eq!(number(&[0x80, 0, 0, 0, 0, 0, 1, 0]).unwrap(), 256);
        assert_eq!(number(&[0xff; 12]).unwrap(), -1);
        assert!(number(b"00008").is_err());
        assert!(number(&[0x80, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]).is_err());
    }

    #[test]
    fn malformed_pax_records_are_errors() {
        assert_eq!(
            pax_records(b"9 path=a\n11 size=12\n").unwrap(),
            vec![
                (b"path".to_vec(), b"a".to_vec()),
                (b"size".to_vec(), b"12".to_vec())
            ]
        );
        for bad in [
            &b"9 path=a"[..],
            b"99 path=a\n",
            b"x path=a\n",
            b"9 pathxa\n",
            b"11 path=a\0b\n",
            b"0 path=a\n",
            b"-9 path=a\n",
        ] {
            assert!(pax_records(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn times_have_nanoseconds_and_may_be_before_1970() {
        let time = timestamp(b"12.5").unwrap();
        assert_eq!((time.tv_sec, time.tv_nsec), (12, 500_000_000));
        let time = timestamp(b"-1.25").unwrap();
        assert_eq!((time.tv_sec, time.tv_nsec), (-2, 750_000_000));
        assert!(timestamp(b"1e3").is_err());
    }
}
