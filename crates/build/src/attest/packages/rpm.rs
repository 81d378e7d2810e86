//! RPM: the headers of packages in `rpmdb.sqlite`, which distributions keep in one of two places. Older kinds of its database
//! are not read.

use std::io::Read;
use std::os::fd::BorrowedFd;

use rusqlite::Connection;

use super::{Distribution, Package, open_database};

const PLACES: [&str; 2] = [
    "usr/lib/sysimage/rpm/rpmdb.sqlite",
    "var/lib/rpm/rpmdb.sqlite",
];
/// The most bytes of a database, which is read as a whole.
const MAX: u64 = 512 << 20;
/// Where the header of a SQLite file says by which journal it is written and read.
const JOURNALS: std::ops::Range<usize> = 18..20;
/// The journal that a file alone can be read without.
const ROLLBACK: u8 = 1;

/// Tags of headers, as rpmtag.h numbers them.
const NAME: u32 = 1000;
const VERSION: u32 = 1001;
const RELEASE: u32 = 1002;
const EPOCH: u32 = 1003;
const LICENSE: u32 = 1014;
const ARCH: u32 = 1022;
/// Types of what tags have.
const INT32: u32 = 4;
const STRING: u32 = 6;
/// Bytes of an entry of a header's index: tag, type, offset, count.
const ENTRY: usize = 16;

/// The packages that are installed.
pub fn packages(root: BorrowedFd<'_>, distribution: &Distribution) -> Vec<Package> {
    let mut places = PLACES.into_iter();
    let found = places.find_map(|path| Some((path, headers(root, path)?)));
    let Some((path, headers)) = found else {
        return Vec::new();
    };
    let packages = headers.iter();
    packages
        .filter_map(|header| package(&Header::parse(header)?, path, distribution))
        .collect()
}

/// Whether the database has the table as rpm makes it. A view, a table of a module or a column that is computed is a program
/// of whoever made the image, which may take as long and as much memory as it likes.
const IS_STORED: &str = "SELECT count(*) FROM sqlite_schema AS made, pragma_table_xinfo('Packages') AS part \
                         WHERE made.name = 'Packages' AND made.type = 'table' AND made.rootpage > 0 \
                         AND part.name = 'blob' AND part.hidden = 0";

/// The headers in a database. It is opened in memory: a path could lead out of the tree.
fn headers(root: BorrowedFd<'_>, path: &str) -> Option<Vec<Vec<u8>>> {
    let mut bytes = Vec::new();
    let file = open_database(root, path)?;
    file.take(MAX).read_to_end(&mut bytes).ok()?;
    bytes.get_mut(JOURNALS)?.fill(ROLLBACK);
    let mut database = Connection::open_in_memory().ok()?;
    let size = bytes.len();
    database
        .deserialize_read_exact("main", &bytes[..], size, true)
        .ok()?;
    drop(bytes);
    database.pragma_update(None, "trusted_schema", false).ok()?;
    let stored: u32 = database.query_row(IS_STORED, [], |row| row.get(0)).ok()?;
    if stored != 1 {
        return None;
    }
    let mut query = database.prepare("SELECT blob FROM Packages").ok()?;
    let mut rows = query.query([]).ok()?;
    let mut headers: Vec<Vec<u8>> = Vec::new();
    // Pages that several rows lead to would make more of the file than it has.
    let mut left = size;
    while let Ok(Some(row)) = rows.next() {
        let Ok(bytes) = row.get_ref(0).and_then(|value| Ok(value.as_blob()?)) else {
            continue;
        };
        left = left.checked_sub(bytes.len() + 1)?;
        headers.push(bytes.to_vec());
    }
    Some(headers)
}

/// A header: the number of its entries and of the bytes they lead to, the entries, the bytes. All numbers are big-endian.
struct Header<'a> {
    entries: &'a [u8],
    data: &'a [u8],
}

impl<'a> Header<'a> {
    fn parse(bytes: &'a [u8]) -> Option<Self> {
        let entries = ENTRY.checked_mul(number(bytes, 0)? as usize)?;
        let length = number(bytes, 4)? as usize;
        let (entries, data) = bytes.get(8..)?.split_at_checked(entries)?;
        let data = data.get(..length)?;
        Some(Self { entries, data })
    }

    /// The bytes from where a tag's value begins.
    fn value(&self, tag: u32, kind: u32) -> Option<&'a [u8]> {
        let mut entries = self.entries.chunks_exact(ENTRY);
        let entry = entries
            .find(|entry| number(entry, 0) == Some(tag) && number(entry, 4) == Some(kind))?;
        self.data.get(number(entry, 8)? as usize..)
    }

    /// A text; empty without one.
    fn text(&self, tag: u32) -> String {
        let value = self.value(tag, STRING).unwrap_or_default();
        let end = value.iter().position(|byte| *byte == 0);
        let text = &value[..end.unwrap_or(value.len())];
        String::from_utf8_lossy(text).into_owned()
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_be_bytes(bytes.try_into().ok()?))
}

fn package(header: &Header<'_>, path: &str, distribution: &Distribution) -> Option<Package> {
    let name = header.text(NAME);
    // Keys of who signs are in the database as well.
    if name.is_empty() || name == "gpg-pubkey" {
        return None;
    }
    let version = format!("{}-{}", header.text(VERSION), header.text(RELEASE));
    let mut url = distribution.url("rpm", "rpm", &name, &version, &header.text(ARCH));
    let epoch = header.value(EPOCH, INT32);
    let epoch = epoch.and_then(|value| number(value, 0));
    let mut full = version;
    if let Some(epoch) = epoch {
        // A qualifier of its own, after the others by the alphabet.
        let separator = if url.contains('?') { '&' } else { '?' };
        url.push_str(&format!("{separator}epoch={epoch}"));
        full = format!("{epoch}:{full}");
    }
    Some(Package {
        name,
        version: full,
        url,
        licence: header.text(LICENSE),
        supplier: String::new(),
        source: format!("/{path}"),
    })
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::fd::AsFd;

    use super::*;

    /// Headers that rpm 4.18 wrote of packages that rpmbuild made, one a line: one with an epoch, and one without.
    const HEADERS: &str = include_str!("rpm-headers.hex");

    fn bytes(line: &str) -> Vec<u8> {
        let digits = (0..line.len()).step_by(2);
        let byte = |at: usize| u8::from_str_radix(&line[at..at + 2], 16).unwrap();
        digits.map(byte).collect()
    }

    #[test]
    fn packages_are_read_from_the_database_that_the_tree_has() {
        let tree = tempfile::tempdir().unwrap();
        let directory = tree.path().join("var/lib/rpm");
        fs::create_dir_all(&directory).unwrap();
        let database = Connection::open(directory.join("rpmdb.sqlite")).unwrap();
        // As rpm has it.
        database.pragma_update(None, "journal_mode", "wal").unwrap();
        database
            .execute(
                "CREATE TABLE Packages (hnum INTEGER PRIMARY KEY, blob BLOB NOT NULL)",
                [],
            )
            .unwrap();
        for line in HEADERS.lines() {
            let values = [bytes(line), b"\0\0".to_vec()];
            for value in values {
                database
                    .execute("INSERT INTO Packages (blob) VALUES (?1)", [value])
                    .unwrap();
            }
        }
        database.close().unwrap();
        let root = File::open(tree.path()).unwrap();
        let distribution = Distribution {
            id: "fedora".to_owned(),
            version: "40".to_owned(),
        };
        let found = packages(root.as_fd(), &distribution);
        let found: Vec<_> = found
            .iter()
            .map(|one| [&one.name, &one.version, &one.url, &one.licence].map(String::as_str))
            .collect();
        assert_eq!(
            found,
            [
                [
                    "made",
                    "2:1.0-3",
                    "pkg:rpm/fedora/made@1.0-3?arch=noarch&distro=fedora-40&epoch=2",
                    "MIT"
                ],
                [
                    "plain",
                    "1.0-3",
                    "pkg:rpm/fedora/plain@1.0-3?arch=noarch&distro=fedora-40",
                    "MIT"
                ],
            ]
        );
        // What is no database has no packages.
        fs::write(directory.join("rpmdb.sqlite"), "text").unwrap();
        assert_eq!(packages(root.as_fd(), &distribution), []);
    }

    #[test]
    fn programs_in_a_database_are_not_run() {
        const ENDLESS: &str = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i, x'00' AS blob FROM n";
        for made in [
            format!("CREATE VIEW Packages AS {ENDLESS}"),
            "CREATE TABLE Packages (hnum INTEGER PRIMARY KEY, blob BLOB AS (zeroblob(900000000)));
             INSERT INTO Packages (hnum) VALUES (1), (2)"
                .to_owned(),
        ] {
            let tree = tempfile::tempdir().unwrap();
            let directory = tree.path().join("var/lib/rpm");
            fs::create_dir_all(&directory).unwrap();
            let database = Connection::open(directory.join("rpmdb.sqlite")).unwrap();
            database.execute_batch(&made).unwrap();
            database.close().unwrap();
            let root = File::open(tree.path()).unwrap();
            assert_eq!(headers(root.as_fd(), PLACES[1]), None, "{made}");
        }
    }

    #[test]
    fn headers_that_lie_about_their_size_have_nothing() {
        for (entries, length) in [(u32::MAX, 4), (1, u32::MAX), (0, 0), (1, 4)] {
            let mut bytes = Vec::new();
            for word in [entries, length, NAME, STRING, 0xffff_fff0, 1, 0] {
                bytes.extend(u32::to_be_bytes(word));
            }
            let name = Header::parse(&bytes).map(|header| header.text(NAME));
            assert!(name.is_none_or(|name| name.is_empty()));
        }
    }
}
