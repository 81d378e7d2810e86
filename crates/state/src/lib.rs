//! The embedded database `cais.db`: tables of JSON documents by key, one transaction per change.
//!
//! Rooms keep what they list in memory and use this for what must outlive the daemon. SQLite in WAL mode: a change that
//! returned survives `kill -9`; a change made with [`Durability::Power`] survives a power cut too.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use rusqlite::{Connection, OptionalExtension, params};
use serde::{Serialize, de::DeserializeOwned};

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
    /// SQLite refused.
    #[error("database")]
    Database(#[from] rusqlite::Error),
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

impl From<StateError> for cais_types::Error {
    fn from(error: StateError) -> Self {
        let text = match &error {
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
}

/// The changes of one transaction, see [`Db::transaction`].
#[derive(Debug)]
pub struct Changes<'a> {
    transaction: rusqlite::Transaction<'a>,
}

impl Db {
    /// Opens or creates the database file.
    pub fn open(path: &Path) -> Result<Self, StateError> {
        let connection = Connection::open(path)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        connection.pragma_update(None, "cache_size", -512)?;
        connection.execute_batch(
            "CREATE TABLE IF NOT EXISTS documents (
                 kind TEXT NOT NULL, key TEXT NOT NULL, body BLOB NOT NULL, PRIMARY KEY (kind, key)
             ) WITHOUT ROWID;",
        )?;
        Ok(Self {
            connection: Mutex::new(connection),
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

    /// Deletes one document; a missing one is no error.
    pub fn delete(
        &self,
        durability: Durability,
        table: &'static str,
        key: &str,
    ) -> Result<(), StateError> {
        self.transaction(durability, |changes| changes.delete(table, key))
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
