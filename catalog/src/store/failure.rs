//! The driver's errors in the catalog's words.

use sqlx::migrate::MigrateError;

use crate::error::CatalogError;

/// PostgreSQL's codes and SQLite's (primary in the low byte of an extended code).
const POSTGRES_DISK_FULL: &str = "53100";
const POSTGRES_GIVE_WAY: [&str; 3] = ["40001", "40P01", "55P03"];
const POSTGRES_GONE: [&str; 2] = ["08", "57"];
const SQLITE_BUSY: i32 = 5;
const SQLITE_LOCKED: i32 = 6;
const SQLITE_FULL: i32 = 13;
const SQLITE_PRIMARY_MASK: i32 = 0xff;

impl From<sqlx::Error> for CatalogError {
    fn from(error: sqlx::Error) -> Self {
        let code = match &error {
            sqlx::Error::Database(database) => database.code().map(|code| code.into_owned()),
            // A connection that ends while it is being made gives an answer that is none, and one that ends at BEGIN
            // no transaction.
            sqlx::Error::Io(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::BeginFailed
            | sqlx::Error::Tls(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed => return Self::Unreachable(Box::new(error)),
            sqlx::Error::ColumnDecode { .. }
            | sqlx::Error::Decode(_)
            | sqlx::Error::ColumnNotFound(_) => {
                return Self::Corrupt {
                    what: "a row".to_owned(),
                    source: Some(Box::new(error)),
                };
            }
            _ => None,
        };
        let code = code.unwrap_or_default();
        // SQLite's codes are short decimal numbers, PostgreSQL's have five characters.
        let sqlite = (code.len() < 5)
            .then(|| {
                code.parse::<i32>()
                    .ok()
                    .map(|code| code & SQLITE_PRIMARY_MASK)
            })
            .flatten();
        if sqlite == Some(SQLITE_FULL) || code == POSTGRES_DISK_FULL {
            Self::DiskFull(Box::new(error))
        } else if matches!(sqlite, Some(SQLITE_BUSY | SQLITE_LOCKED))
            || POSTGRES_GIVE_WAY.contains(&code.as_str())
        {
            Self::Busy(Box::new(error))
        } else if POSTGRES_GONE
            .iter()
            .any(|class| code.len() == 5 && code.starts_with(class))
        {
            Self::Unreachable(Box::new(error))
        } else {
            Self::Database(Box::new(error))
        }
    }
}

impl From<MigrateError> for CatalogError {
    fn from(error: MigrateError) -> Self {
        match error {
            MigrateError::Execute(error) => error.into(),
            other => Self::Migration(Box::new(other)),
        }
    }
}

/// Whether a statement failed because what it refers to is not there.
pub(crate) fn is_missing_reference(error: &sqlx::Error) -> bool {
    error
        .as_database_error()
        .is_some_and(|error| error.is_foreign_key_violation())
}
