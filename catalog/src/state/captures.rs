//! What a pipeline knows of each table it captures from a database.
//!
//! A state may change with a commit of the table it lands in: it is then recorded as the next one, together with
//! the commit's sequence, and is true as soon as the table has that sequence.

use sqlx::{AnyConnection, Row};

use super::{Lease, leases};
use crate::definitions::ObjectId;
use crate::error::CatalogError;
use crate::store::database::Database;
use crate::store::is_missing_reference;

/// The state of one captured table.
#[derive(Debug, Clone, PartialEq)]
pub struct Capture {
    /// The table's name at the source.
    pub source: String,
    pub state: serde_json::Value,
    /// What it is once the table has the sequence that [`super::NewPosition`] is prepared with.
    pub next: Option<serde_json::Value>,
}

/// A state as it is on record.
#[derive(Debug, Clone, PartialEq)]
pub struct CaptureRecord {
    pub source: String,
    pub state: serde_json::Value,
    /// What it is from a sequence of the table on.
    pub next: Option<(i64, serde_json::Value)>,
}

/// The captured tables of all pipelines.
#[derive(Clone)]
pub struct Captures {
    database: Database,
}

impl Captures {
    pub(crate) fn new(database: Database) -> Self {
        Self { database }
    }

    /// All of a pipeline, by name.
    pub async fn list(&self, pipeline: ObjectId) -> Result<Vec<CaptureRecord>, CatalogError> {
        let query = sqlx::query(
            "SELECT source, state, next_state, next_sequence FROM captures \
             WHERE pipeline_id = $1 ORDER BY source",
        );
        let rows = query
            .bind(pipeline.0)
            .fetch_all(self.database.pool())
            .await?;
        rows.into_iter()
            .map(|row| {
                let source: String = row.try_get(0)?;
                let json = |text: &str| {
                    serde_json::from_str(text).map_err(|error| CatalogError::Corrupt {
                        what: format!("capture of {source} by pipeline {pipeline}"),
                        source: Some(error.into()),
                    })
                };
                let state = json(row.try_get(1)?)?;
                let next_state: Option<String> = row.try_get(2)?;
                let next_sequence: Option<i64> = row.try_get(3)?;
                let next = match (next_sequence, next_state) {
                    (Some(sequence), Some(text)) => Some((sequence, json(&text)?)),
                    _ => None,
                };
                Ok(CaptureRecord {
                    source: source.clone(),
                    state,
                    next,
                })
            })
            .collect()
    }

    /// Records states that are true now. Fails when the lease was lost.
    pub async fn put(
        &self,
        pipeline: ObjectId,
        lease: &Lease,
        captures: &[Capture],
    ) -> Result<(), CatalogError> {
        let mut writing = self.database.write().await?;
        leases::hold(&mut writing, lease).await?;
        put(&mut writing, pipeline, None, captures).await?;
        writing.commit().await
    }

    /// Forgets a table. Fails when the lease was lost.
    pub async fn remove(
        &self,
        pipeline: ObjectId,
        lease: &Lease,
        source: &str,
    ) -> Result<(), CatalogError> {
        let mut writing = self.database.write().await?;
        leases::hold(&mut writing, lease).await?;
        let query = sqlx::query("DELETE FROM captures WHERE pipeline_id = $1 AND source = $2");
        query
            .bind(pipeline.0)
            .bind(source)
            .execute(&mut *writing)
            .await?;
        writing.commit().await
    }
}

/// Records states; what comes next becomes true with a sequence.
pub(super) async fn put(
    connection: &mut AnyConnection,
    pipeline: ObjectId,
    sequence: Option<i64>,
    captures: &[Capture],
) -> Result<(), CatalogError> {
    for capture in captures {
        let next = capture.next.as_ref().map(ToString::to_string);
        let query = sqlx::query(
            "INSERT INTO captures (pipeline_id, source, state, next_state, next_sequence) \
             VALUES ($1, $2, $3, $4, $5) ON CONFLICT (pipeline_id, source) DO UPDATE SET \
             state = excluded.state, next_state = excluded.next_state, \
             next_sequence = excluded.next_sequence",
        );
        let sequence = next.is_some().then_some(sequence).flatten();
        let query = query
            .bind(pipeline.0)
            .bind(capture.source.clone())
            .bind(capture.state.to_string())
            .bind(next)
            .bind(sequence);
        query.execute(&mut *connection).await.map_err(|error| {
            if is_missing_reference(&error) {
                CatalogError::PipelineDropped(pipeline)
            } else {
                error.into()
            }
        })?;
    }
    Ok(())
}
