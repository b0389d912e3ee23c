//! Which files of the lake hold rejected rows, and which of those rows were replayed since.
//!
//! The rows themselves are in Parquet files under `<lake>/_boathouse/quarantine/`. A reference is
//! prepared with the sequence of the commit that left the rows out, a replay mark with the sequence of
//! the commit that carries the corrected row; each is true once its sequence is committed.

use chrono::{DateTime, Utc};

use crate::definitions::ObjectId;
use crate::error::CatalogError;

/// A file of rejected rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuarantineFile {
    /// Its path in the lake.
    pub path: String,
    pub rows: i64,
}

/// A file of rejected rows as it is on record.
#[derive(Debug, Clone, PartialEq)]
pub struct QuarantineRecord {
    pub pipeline: ObjectId,
    pub sequence: i64,
    pub recorded_at: DateTime<Utc>,
    pub file: QuarantineFile,
}

/// A rejected row that a commit loads after all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplayMark {
    /// The sequence it was quarantined with.
    pub sequence: i64,
    /// Its number among the rows quarantined with that sequence.
    pub row_id: i64,
}

/// A replayed row as it is on record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplayRecord {
    pub pipeline: ObjectId,
    pub mark: ReplayMark,
    pub replayed_at: DateTime<Utc>,
}

/// The quarantine of all pipelines.
#[derive(Clone)]
pub struct QuarantineLedger {}

impl QuarantineLedger {
    /// The files of rejected rows, oldest first.
    pub async fn files(
        &self,
        pipeline: Option<ObjectId>,
    ) -> Result<Vec<QuarantineRecord>, CatalogError> {
        let _ = pipeline;
        Ok(Vec::new())
    }

    /// The rows replayed so far.
    pub async fn replays(
        &self,
        pipeline: Option<ObjectId>,
    ) -> Result<Vec<ReplayRecord>, CatalogError> {
        let _ = pipeline;
        Ok(Vec::new())
    }
}
