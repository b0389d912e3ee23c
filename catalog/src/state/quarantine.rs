//! Which files of the lake hold rejected rows, and which of those rows were replayed since.
//!
//! The rows themselves are in Parquet files under `<lake>/_boathouse/quarantine/`. A reference is
//! prepared with the sequence of the commit that left the rows out, a replay mark with the sequence of
//! the commit that carries the corrected row; each is true once its sequence is committed.

use chrono::{DateTime, Utc};
use sqlx::{AnyConnection, Row};

use crate::definitions::ObjectId;
use crate::error::CatalogError;
use crate::store::database::Database;
use crate::store::load::time;

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

/// A row that waits no more, as it is on record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplayRecord {
    pub pipeline: ObjectId,
    pub mark: ReplayMark,
    /// Its file was loaded anew, so the row was judged again there; else a correction was loaded.
    pub superseded: bool,
    pub at: DateTime<Utc>,
}

/// The quarantine of all pipelines.
#[derive(Clone)]
pub struct QuarantineLedger {
    database: Database,
}

impl QuarantineLedger {
    pub(crate) fn new(database: Database) -> Self {
        Self { database }
    }

    /// The files of rejected rows, oldest first.
    pub async fn files(
        &self,
        pipeline: Option<ObjectId>,
    ) -> Result<Vec<QuarantineRecord>, CatalogError> {
        let query = sqlx::query(
            "SELECT positions.pipeline_id, positions.sequence, positions.prepared_at, \
             quarantine_files.path, quarantine_files.row_count \
             FROM quarantine_files JOIN positions \
             ON positions.pipeline_id = quarantine_files.pipeline_id \
             AND positions.sequence = quarantine_files.sequence \
             WHERE positions.state IN ('committed', 'noted') \
             AND ($1 IS NULL OR positions.pipeline_id = $1) \
             ORDER BY positions.pipeline_id, positions.sequence, quarantine_files.path",
        );
        let rows = query
            .bind(pipeline.map(|id| id.0))
            .fetch_all(self.database.pool())
            .await?;
        rows.iter()
            .map(|row| {
                Ok(QuarantineRecord {
                    pipeline: ObjectId(row.try_get(0)?),
                    sequence: row.try_get(1)?,
                    recorded_at: time(row.try_get(2)?).unwrap_or_default(),
                    file: QuarantineFile {
                        path: row.try_get(3)?,
                        rows: row.try_get(4)?,
                    },
                })
            })
            .collect()
    }

    /// The files of rejected rows of one sequence, whether or not it is settled.
    pub async fn files_of(
        &self,
        pipeline: ObjectId,
        sequence: i64,
    ) -> Result<Vec<QuarantineFile>, CatalogError> {
        let query = sqlx::query(
            "SELECT path, row_count FROM quarantine_files \
             WHERE pipeline_id = $1 AND sequence = $2 ORDER BY path",
        );
        let query = query.bind(pipeline.0).bind(sequence);
        let rows = query.fetch_all(self.database.pool()).await?;
        rows.iter()
            .map(|row| {
                Ok(QuarantineFile {
                    path: row.try_get(0)?,
                    rows: row.try_get(1)?,
                })
            })
            .collect()
    }

    /// The rows replayed or superseded so far.
    pub async fn replays(
        &self,
        pipeline: Option<ObjectId>,
    ) -> Result<Vec<ReplayRecord>, CatalogError> {
        let query = sqlx::query(
            "SELECT positions.pipeline_id, quarantine_replays.sequence, \
             quarantine_replays.row_id, positions.prepared_at, quarantine_replays.superseded \
             FROM quarantine_replays JOIN positions \
             ON positions.pipeline_id = quarantine_replays.pipeline_id \
             AND positions.sequence = quarantine_replays.replayed_by \
             WHERE positions.state IN ('committed', 'noted') \
             AND ($1 IS NULL OR positions.pipeline_id = $1) \
             ORDER BY positions.pipeline_id, quarantine_replays.sequence, \
             quarantine_replays.row_id",
        );
        let rows = query
            .bind(pipeline.map(|id| id.0))
            .fetch_all(self.database.pool())
            .await?;
        rows.iter()
            .map(|row| {
                Ok(ReplayRecord {
                    pipeline: ObjectId(row.try_get(0)?),
                    mark: ReplayMark {
                        sequence: row.try_get(1)?,
                        row_id: row.try_get(2)?,
                    },
                    superseded: row.try_get::<i64, _>(4)? != 0,
                    at: time(row.try_get(3)?).unwrap_or_default(),
                })
            })
            .collect()
    }
}

/// Adds to the record of a sequence, in the transaction that prepares it.
pub(super) async fn add(
    connection: &mut AnyConnection,
    pipeline: ObjectId,
    sequence: i64,
    files: &[QuarantineFile],
    replays: &[ReplayMark],
    superseded: &[ReplayMark],
) -> Result<(), CatalogError> {
    for file in files {
        let query = sqlx::query(
            "INSERT INTO quarantine_files (pipeline_id, sequence, path, row_count) \
             VALUES ($1, $2, $3, $4)",
        );
        let query = query
            .bind(pipeline.0)
            .bind(sequence)
            .bind(file.path.clone())
            .bind(file.rows);
        query.execute(&mut *connection).await?;
    }
    let replays = replays.iter().map(|mark| (mark, 0_i64));
    for (mark, superseded) in replays.chain(superseded.iter().map(|mark| (mark, 1))) {
        let query = sqlx::query(
            "INSERT INTO quarantine_replays (pipeline_id, sequence, row_id, replayed_by, \
             superseded) VALUES ($1, $2, $3, $4, $5)",
        );
        let query = query
            .bind(pipeline.0)
            .bind(mark.sequence)
            .bind(mark.row_id)
            .bind(sequence)
            .bind(superseded);
        query.execute(&mut *connection).await?;
    }
    Ok(())
}
