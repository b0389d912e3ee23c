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
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row};
use uuid::Uuid;

use super::{
    Capture, Lease, LedgerFile, QuarantineFile, ReplayMark, captures, files, leases, quarantine,
};
use crate::definitions::ObjectId;
use crate::error::CatalogError;
use crate::store::database::Database;
use crate::store::is_missing_reference;
use crate::store::load::time;

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
    /// Quarantined rows whose files the commit loads anew.
    pub superseded: &'a [ReplayMark],
    /// Captured tables whose state changes with the commit.
    pub captures: &'a [Capture],
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
pub struct Positions {
    database: Database,
}

impl Positions {
    pub(crate) fn new(database: Database) -> Self {
        Self { database }
    }

    /// Records a position and gives its sequence, which no commit has had. Settles the records up to
    /// `committed_sequence` first, in the same transaction.
    pub async fn prepare(&self, position: NewPosition<'_>) -> Result<i64, CatalogError> {
        let NewPosition {
            pipeline,
            committed_sequence,
            ..
        } = position;
        let mut writing = self.database.write().await?;
        if let Some(lease) = position.lease {
            leases::hold(&mut writing, lease).await?;
        }
        let sequence = next_sequence(&mut writing, pipeline, committed_sequence).await?;
        settle(&mut writing, pipeline, committed_sequence).await?;
        insert(
            &mut writing,
            pipeline,
            sequence,
            "prepared",
            position.attempt,
            &position.position,
        )
        .await?;
        files::add(&mut writing, pipeline, sequence, position.files).await?;
        quarantine::add(
            &mut writing,
            pipeline,
            sequence,
            position.quarantine,
            position.replays,
            position.superseded,
        )
        .await?;
        captures::put(&mut writing, pipeline, Some(sequence), position.captures).await?;
        writing.commit().await?;
        Ok(sequence)
    }

    /// The newest position that was prepared and of which it is not settled whether it was committed.
    pub async fn pending(&self, pipeline: ObjectId) -> Result<Option<Position>, CatalogError> {
        self.newest(pipeline, "prepared").await
    }

    /// Deletes settled records below a sequence, so that a pipeline that commits every second does not fill
    /// the catalog.
    pub async fn forget_below(
        &self,
        pipeline: ObjectId,
        sequence: i64,
    ) -> Result<(), CatalogError> {
        let mut writing = self.database.write().await?;
        let query = sqlx::query(
            "DELETE FROM positions WHERE pipeline_id = $1 AND sequence < $2 \
             AND state IN ('committed', 'abandoned')",
        );
        query
            .bind(pipeline.0)
            .bind(sequence)
            .execute(&mut *writing)
            .await?;
        writing.commit().await
    }

    /// Settles the records up to the `txn` version read from the table.
    pub async fn resolve(
        &self,
        pipeline: ObjectId,
        committed_sequence: i64,
    ) -> Result<Resolved, CatalogError> {
        let mut writing = self.database.write().await?;
        let resolved = settle(&mut writing, pipeline, committed_sequence).await?;
        writing.commit().await?;
        Ok(resolved)
    }

    /// Records something of a pipeline's source that no commit carries, and that stays true. Fails when the lease was lost.
    pub async fn note(
        &self,
        pipeline: ObjectId,
        what: &serde_json::Value,
        lease: &Lease,
    ) -> Result<(), CatalogError> {
        let mut writing = self.database.write().await?;
        leases::hold(&mut writing, lease).await?;
        let sequence = next_sequence(&mut writing, pipeline, 0).await?;
        let attempt = Uuid::new_v4();
        insert(&mut writing, pipeline, sequence, "noted", attempt, what).await?;
        writing.commit().await
    }

    /// What [`Positions::note`] recorded, the oldest first.
    pub async fn notes(&self, pipeline: ObjectId) -> Result<Vec<serde_json::Value>, CatalogError> {
        let query = sqlx::query_scalar(
            "SELECT source_position FROM positions WHERE pipeline_id = $1 \
             AND state = 'noted' AND source_position <> 'null' ORDER BY sequence",
        );
        let found: Vec<String> = query
            .bind(pipeline.0)
            .fetch_all(self.database.pool())
            .await?;
        found
            .iter()
            .map(|text| {
                serde_json::from_str(text).map_err(|error| CatalogError::Corrupt {
                    what: format!("a note of pipeline {pipeline}"),
                    source: Some(error.into()),
                })
            })
            .collect()
    }

    /// What was prepared under a sequence, settled or not.
    pub async fn at(
        &self,
        pipeline: ObjectId,
        sequence: i64,
    ) -> Result<Option<Position>, CatalogError> {
        let query = sqlx::query(
            "SELECT sequence, attempt, source_position, prepared_at FROM positions \
             WHERE pipeline_id = $1 AND sequence = $2",
        );
        let query = query.bind(pipeline.0).bind(sequence);
        let row = query.fetch_optional(self.database.pool()).await?;
        row.map(|row| record(&row, pipeline)).transpose()
    }

    /// The newest committed position.
    pub async fn last_committed(
        &self,
        pipeline: ObjectId,
    ) -> Result<Option<Position>, CatalogError> {
        self.newest(pipeline, "committed").await
    }

    async fn newest(
        &self,
        pipeline: ObjectId,
        state: &'static str,
    ) -> Result<Option<Position>, CatalogError> {
        let query = sqlx::query(
            "SELECT sequence, attempt, source_position, prepared_at FROM positions \
             WHERE pipeline_id = $1 AND state = $2 ORDER BY sequence DESC LIMIT 1",
        );
        let query = query.bind(pipeline.0).bind(state);
        let row = query.fetch_optional(self.database.pool()).await?;
        row.map(|row| record(&row, pipeline)).transpose()
    }
}

fn record(row: &AnyRow, pipeline: ObjectId) -> Result<Position, CatalogError> {
    let sequence: i64 = row.try_get(0)?;
    let corrupt = |source| CatalogError::Corrupt {
        what: format!("position {sequence} of pipeline {pipeline}"),
        source: Some(source),
    };
    Ok(Position {
        sequence,
        attempt: Uuid::parse_str(row.try_get(1)?).map_err(|error| corrupt(error.into()))?,
        position: serde_json::from_str(row.try_get(2)?).map_err(|error| corrupt(error.into()))?,
        prepared_at: time(row.try_get(3)?).unwrap_or_default(),
    })
}

/// Gives a sequence to records that no commit of the table carries.
pub(super) async fn note(
    connection: &mut AnyConnection,
    pipeline: ObjectId,
) -> Result<i64, CatalogError> {
    let sequence = next_sequence(connection, pipeline, 0).await?;
    let nothing = serde_json::Value::Null;
    insert(
        connection,
        pipeline,
        sequence,
        "noted",
        Uuid::new_v4(),
        &nothing,
    )
    .await?;
    Ok(sequence)
}

/// Gives the next sequence of a pipeline, above `floor`, and keeps others from taking one until the
/// transaction ends.
async fn next_sequence(
    connection: &mut AnyConnection,
    pipeline: ObjectId,
    floor: i64,
) -> Result<i64, CatalogError> {
    let query = sqlx::query_scalar(
        "INSERT INTO pipeline_sequences (pipeline_id, last_sequence) VALUES ($1, $2 + 1) \
         ON CONFLICT (pipeline_id) DO UPDATE SET last_sequence = 1 + \
         CASE WHEN pipeline_sequences.last_sequence > $2 \
         THEN pipeline_sequences.last_sequence ELSE $2 END RETURNING last_sequence",
    );
    let query = query.bind(pipeline.0).bind(floor);
    query.fetch_one(connection).await.map_err(|error| {
        if is_missing_reference(&error) {
            CatalogError::PipelineDropped(pipeline)
        } else {
            error.into()
        }
    })
}

async fn insert(
    connection: &mut AnyConnection,
    pipeline: ObjectId,
    sequence: i64,
    state: &'static str,
    attempt: Uuid,
    position: &serde_json::Value,
) -> Result<(), CatalogError> {
    let query = sqlx::query(
        "INSERT INTO positions (pipeline_id, sequence, attempt, state, source_position, \
         prepared_at) VALUES ($1, $2, $3, $4, $5, $6)",
    );
    let query = query
        .bind(pipeline.0)
        .bind(sequence)
        .bind(attempt.to_string())
        .bind(state)
        .bind(position.to_string())
        .bind(Utc::now().timestamp_micros());
    query.execute(connection).await?;
    Ok(())
}

/// Marks the prepared record of `committed_sequence` as committed and those below it as abandoned.
async fn settle(
    connection: &mut AnyConnection,
    pipeline: ObjectId,
    committed_sequence: i64,
) -> Result<Resolved, CatalogError> {
    let now = Utc::now().timestamp_micros();
    let query = sqlx::query(
        "UPDATE positions SET state = 'committed', resolved_at = $3 \
         WHERE pipeline_id = $1 AND sequence = $2 AND state = 'prepared'",
    );
    let query = query.bind(pipeline.0).bind(committed_sequence).bind(now);
    query.execute(&mut *connection).await?;
    let query = sqlx::query_scalar(
        "UPDATE positions SET state = 'abandoned', resolved_at = $3 \
         WHERE pipeline_id = $1 AND sequence < $2 AND state = 'prepared' RETURNING sequence",
    );
    let query = query.bind(pipeline.0).bind(committed_sequence).bind(now);
    let mut abandoned: Vec<i64> = query.fetch_all(&mut *connection).await?;
    abandoned.sort_unstable();
    let query = sqlx::query_scalar(
        "SELECT COUNT(*) FROM positions \
         WHERE pipeline_id = $1 AND sequence = $2 AND state = 'committed'",
    );
    let query = query.bind(pipeline.0).bind(committed_sequence);
    let known: i64 = query.fetch_one(connection).await?;
    Ok(Resolved {
        known: known > 0,
        abandoned,
    })
}
