//! How far each pipeline has read, recorded before the Delta commit that makes it true.
//!
//! ```text
//! prepare -> sequence n  ->  Delta commit with txn (app id, n)  ->  resolve(n)
//! ```
//!
//! The table's `txn` decides: a prepared sequence counts only when the table has it. A crash
//! between the steps leaves a prepared record, which the next [`Positions::resolve`] or
//! [`Positions::prepare`] settles from the `txn` the caller has read: the record of that very sequence
//! was committed, records below it were not. Files, quarantine references and replay marks belong to
//! the sequence they were prepared with and become true with it.
//!
//! A dropped pipeline takes its records along, and nothing can be prepared for it any more.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{Lease, LedgerFile, QuarantineFile, ReplayMark};
use crate::definitions::ObjectId;
use crate::error::CatalogError;

/// A position about to be committed, with everything that becomes true together with it.
#[derive(Debug, Clone)]
pub struct NewPosition<'a> {
    pub pipeline: ObjectId,
    /// Identifies the attempt in the record, for whoever has to find out what happened.
    pub attempt: Uuid,
    pub position: serde_json::Value,
    /// The `txn` version of the target table in the snapshot the commit will be based on; 0 when it
    /// has none. The new sequence is larger, also when the catalog was rebuilt and knows nothing.
    pub committed_sequence: i64,
    pub files: &'a [LedgerFile],
    pub quarantine: &'a [QuarantineFile],
    pub replays: &'a [ReplayMark],
    /// The lease under which the pipeline runs; preparing fails when it was lost.
    pub lease: Option<&'a Lease>,
}

/// A committed position.
#[derive(Debug, Clone, PartialEq)]
pub struct Position {
    pub sequence: i64,
    pub attempt: Uuid,
    pub position: serde_json::Value,
    pub prepared_at: DateTime<Utc>,
}

/// What resolving found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Resolved {
    /// Whether the record of the sequence exists and is committed, now or before. When it is not, the
    /// table was committed to under another catalog.
    pub known: bool,
    /// Sequences that were prepared and can no longer be committed.
    pub abandoned: Vec<i64>,
}

/// The positions of all pipelines.
#[derive(Clone)]
pub struct Positions {}

impl Positions {
    /// Records a position and gives its sequence, which no commit has had. Settles the records up to
    /// `committed_sequence` first, in the same transaction.
    pub async fn prepare(&self, position: NewPosition<'_>) -> Result<i64, CatalogError> {
        let _ = position;
        Err(CatalogError::OutOfIds)
    }

    /// Settles the records up to the `txn` version read from the table.
    pub async fn resolve(
        &self,
        pipeline: ObjectId,
        committed_sequence: i64,
    ) -> Result<Resolved, CatalogError> {
        let _ = (pipeline, committed_sequence);
        Ok(Resolved::default())
    }

    /// The newest committed position.
    pub async fn last_committed(
        &self,
        pipeline: ObjectId,
    ) -> Result<Option<Position>, CatalogError> {
        let _ = pipeline;
        Ok(None)
    }
}
