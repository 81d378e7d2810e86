//! The embedded database `cais.db`: tables of JSON documents by key, one transaction per change.
//!
//! Rooms keep what they list in memory and use this for what must outlive the daemon. SQLite in WAL mode: a change that
//! returned survives `kill -9`; a change made with [`Durability::Power`] survives a power cut too. With 0 bytes free the
//! database opens, and removals and records of what has happened still find room: see [`Db::transaction_with_reserve`].

mod reserve;

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use rusqlite::{Connection, OptionalExtension, params};
use serde::{Serialize, de::DeserializeOwned};

use reserve::Reserve;

/// How much a change must survive once it has returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// The death of the daemon; no fsync.
    Process,
    /// A power cut; one fsync.
    Power,
}

/// What can go wrong with the database.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The disk is full.
    #[error("no space left on device")]
    Full(#[source] rusqlite::Error),
    /// SQLite refused.
    #[error("database: {0}")]
    Database(#[source] rusqlite::Error),
    /// A stored document does not decode, or one to be stored does not encode.
    #[error("document {table}/{key}")]
    Document {
        /// The table.
        table: &'static str,
        /// The key.
        key: String,
        /// What serde says.
        #[source]
        source: serde_json::Error,
    },
}

impl From<rusqlite::Error> for StateError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DiskFull) => Self::Full(error),
            _ => Self::Database(error),
        }
    }
}

impl StateError {
    /// Whether more space may help; a full disk has several names in SQLite.
    fn wants_room(&self) -> bool {
        use rusqlite::ErrorCode::{CannotOpen, SystemIoFailure};
        match self {
            Self::Full(_) => true,
            Self::Database(error) => {
                matches!(
                    error.sqlite_error_code(),
                    Some(SystemIoFailure | CannotOpen)
                )
            }
            Self::Document { .. } => false,
        }
    }
}

impl From<StateError> for cais_types::Error {
    fn from(error: StateError) -> Self {
        let text = match &error {
            StateError::Full(_) => format!("state database: {error}"),
            StateError::Database(source) => format!("state database: {source}"),
            StateError::Document { source, .. } => format!("state database: {error}: {source}"),
        };
        Self::internal(text).with_source(error)
    }
}

/// An open database; share it behind an `Arc`.
#[derive(Debug)]
pub struct Db {
    connection: Mutex<Connection>,
    reserve: Reserve,
}

/// The changes of one transaction, see [`Db::transaction`].
#[derive(Debug)]
pub struct Changes<'a> {
    transaction: rusqlite::Transaction<'a>,
}

impl Db {
    /// Opens or creates the database file; a file `reserve` beside it keeps some disk space aside.
    pub fn open(path: &Path) -> Result<Self, StateError> {
        let reserve = Reserve::new(path.with_file_name("reserve"));
        let connection = with_room(&reserve, || connect(path))?;
        Ok(Self {
            connection: Mutex::new(connection),
            reserve,
        })
    }

    /// Reads one document.
    pub fn get<T: DeserializeOwned>(
        &self,
        table: &'static str,
        key: &str,
    ) -> Result<Option<T>, StateError> {
        let connection = self
            .connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let mut query =
            connection.prepare_cached("SELECT body FROM documents WHERE kind = ?1 AND key = ?2")?;
        let body: Option<Vec<u8>> = query
            .query_row(params![table, key], |row| row.get(0))
            .optional()?;
        body.map(|body| decode(table, key, &body)).transpose()
    }

    /// Reads a whole table in key order.
    pub fn all<T: DeserializeOwned>(
        &self,
        table: &'static str,
    ) -> Result<Vec<(String, T)>, StateError> {
        let connection = self
            .connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let mut query = connection
            .prepare_cached("SELECT key, body FROM documents WHERE kind = ?1 ORDER BY key")?;
        let rows = query.query_map(params![table], |row| Ok((row.get(0)?, row.get(1)?)))?;
        rows.map(|row| {
            let (key, body): (String, Vec<u8>) = row?;
            let value = decode(table, &key, &body)?;
            Ok((key, value))
        })
        .collect()
    }

    /// Makes several changes at once: all of them are kept, or none.
    pub fn transaction<T>(
        &self,
        durability: Durability,
        change: impl FnOnce(&Changes<'_>) -> Result<T, StateError>,
    ) -> Result<T, StateError> {
        let mut connection = self
            .connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let synchronous = if durability == Durability::Power {
            "FULL"
        } else {
            "NORMAL"
        };
        connection.pragma_update(None, "synchronous", synchronous)?;
        let changes = Changes {
            transaction: connection.transaction()?,
        };
        let result = change(&changes)?;
        changes.transaction.commit()?;
        Ok(result)
    }

    /// As [`Db::transaction`], for changes that give space back or tell what has happened: on a full disk they may use the
    /// space that is kept aside, and `change` then runs again.
    pub fn transaction_with_reserve<T>(
        &self,
        durability: Durability,
        change: impl Fn(&Changes<'_>) -> Result<T, StateError>,
    ) -> Result<T, StateError> {
        self.reserve.fill();
        with_room(&self.reserve, || self.transaction(durability, &change))
    }

    /// Writes one document.
    pub fn put<T: Serialize>(
        &self,
        durability: Durability,
        table: &'static str,
        key: &str,
        value: &T,
    ) -> Result<(), StateError> {
        self.transaction(durability, |changes| changes.put(table, key, value))
    }

    /// Writes one document that tells what has happened, as [`Db::transaction_with_reserve`] does.
    pub fn put_with_reserve<T: Serialize>(
        &self,
        durability: Durability,
        table: &'static str,
        key: &str,
        value: &T,
    ) -> Result<(), StateError> {
        self.transaction_with_reserve(durability, |changes| changes.put(table, key, value))
    }

    /// Deletes one document, on a full disk too; a missing one is no error.
    pub fn delete(
        &self,
        durability: Durability,
        table: &'static str,
        key: &str,
    ) -> Result<(), StateError> {
        self.transaction_with_reserve(durability, |changes| changes.delete(table, key))
    }
}

fn connect(path: &Path) -> Result<Connection, StateError> {
    let connection = Connection::open(path)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.pragma_update(None, "cache_size", -512)?;
    connection.execute_batch(
        "CREATE TABLE IF NOT EXISTS documents (
             kind TEXT NOT NULL, key TEXT NOT NULL, body BLOB NOT NULL, PRIMARY KEY (kind, key)
         ) WITHOUT ROWID;",
    )?;
    Ok(connection)
}

/// Tries again with more and more of the reserve given back while the disk is full.
fn with_room<T>(
    reserve: &Reserve,
    change: impl Fn() -> Result<T, StateError>,
) -> Result<T, StateError> {
    loop {
        match change() {
            Err(error) if error.wants_room() && reserve.release() => {}
            result => return result,
        }
    }
}

impl Changes<'_> {
    /// Writes one document.
    pub fn put<T: Serialize>(
        &self,
        table: &'static str,
        key: &str,
        value: &T,
    ) -> Result<(), StateError> {
        let body = serde_json::to_vec(value).map_err(|source| StateError::Document {
            table,
            key: key.to_owned(),
            source,
        })?;
        let mut statement = self.transaction.prepare_cached(
            "INSERT OR REPLACE INTO documents (kind, key, body) VALUES (?1, ?2, ?3)",
        )?;
        statement.execute(params![table, key, body])?;
        Ok(())
    }

    /// Deletes one document; a missing one is no error.
    pub fn delete(&self, table: &'static str, key: &str) -> Result<(), StateError> {
        let mut statement = self
            .transaction
            .prepare_cached("DELETE FROM documents WHERE kind = ?1 AND key = ?2")?;
        statement.execute(params![table, key])?;
        Ok(())
    }
}

fn decode<T: DeserializeOwned>(
    table: &'static str,
    key: &str,
    body: &[u8],
) -> Result<T, StateError> {
    serde_json::from_slice(body).map_err(|source| StateError::Document {
        table,
        key: key.to_owned(),
        source,
    })
}
