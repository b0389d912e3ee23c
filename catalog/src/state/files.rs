//! The ledger of files: which were loaded by which commit, and which could not be.
//!
//! A loaded file is recorded by [`Positions::prepare`](super::Positions::prepare), with the sequence
//! of the commit that carries its rows, and counts when that sequence is committed. A file that failed
//! has no commit and is recorded by [`FileLedger::record`].

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row};

use super::{RunId, positions, readable, row_limit};
use crate::definitions::ObjectId;
use crate::error::CatalogError;
use crate::store::database::Database;
use crate::store::load::time;

/// What became of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FileState {
    Loaded,
    Failed,
    /// Left alone on purpose, such as a changed file under a policy that ignores changes.
    Skipped,
    /// Gone when a full refresh took its rows out of the table. Counts as never met.
    Removed,
}

impl FileState {
    pub fn name(self) -> &'static str {
        match self {
            Self::Loaded => "loaded",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
            Self::Removed => "removed",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        [Self::Loaded, Self::Failed, Self::Skipped, Self::Removed]
            .into_iter()
            .find(|one| one.name() == name)
    }
}

/// A file as it was when it was read.
#[derive(Debug, Clone, PartialEq)]
pub struct LedgerFile {
    pub path: String,
    pub etag: Option<String>,
    pub modified: Option<DateTime<Utc>>,
    pub size: i64,
    pub sheet_count: Option<i32>,
    pub rows: i64,
    pub rows_quarantined: i64,
    pub run: Option<RunId>,
    pub state: FileState,
    pub error: Option<String>,
}

/// A file as it is on record.
#[derive(Debug, Clone, PartialEq)]
pub struct LedgerRecord {
    pub pipeline: ObjectId,
    pub sequence: i64,
    pub recorded_at: DateTime<Utc>,
    pub file: LedgerFile,
}

/// Which files to list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FileFilter {
    pub pipeline: Option<ObjectId>,
    /// The newest this many; all of them without it.
    pub limit: Option<u32>,
}

/// The files of all pipelines.
#[derive(Clone)]
pub struct FileLedger {
    database: Database,
}

impl FileLedger {
    pub(crate) fn new(database: Database) -> Self {
        Self { database }
    }

    /// Records files that no commit carries, at once.
    pub async fn record(
        &self,
        pipeline: ObjectId,
        files: &[LedgerFile],
    ) -> Result<(), CatalogError> {
        let mut writing = self.database.write().await?;
        let sequence = positions::note(&mut writing, pipeline).await?;
        add(&mut writing, pipeline, sequence, files).await?;
        writing.commit().await
    }

    /// What counts of every file the pipeline has met, by path: its newest record that is true.
    /// Resolve first, or a commit whose reply was lost is missing.
    pub async fn committed(
        &self,
        pipeline: ObjectId,
    ) -> Result<HashMap<String, LedgerFile>, CatalogError> {
        let query = sqlx::query(
            "SELECT files.path, files.etag, files.modified_at, files.size, files.sheet_count, \
             files.row_count, files.rows_quarantined, files.run_id, files.state, files.error \
             FROM files JOIN positions ON positions.pipeline_id = files.pipeline_id \
             AND positions.sequence = files.sequence \
             WHERE files.pipeline_id = $1 AND positions.state IN ('committed', 'noted') \
             ORDER BY files.sequence",
        );
        let rows = query
            .bind(pipeline.0)
            .fetch_all(self.database.pool())
            .await?;
        let files = rows
            .iter()
            .map(|row| file(row).map(|file| (file.path.clone(), file)));
        // Collecting keeps the last of a path, which has the largest sequence.
        files.collect()
    }

    /// The files that have rows in the table or had none to give, by path, as they were loaded last:
    /// whatever failed at them since, but not when their rows were removed.
    pub async fn in_table(
        &self,
        pipeline: ObjectId,
    ) -> Result<HashMap<String, LedgerFile>, CatalogError> {
        let query = sqlx::query(
            "SELECT files.path, files.etag, files.modified_at, files.size, files.sheet_count, \
             files.row_count, files.rows_quarantined, files.run_id, files.state, files.error \
             FROM files JOIN positions ON positions.pipeline_id = files.pipeline_id \
             AND positions.sequence = files.sequence \
             WHERE files.pipeline_id = $1 AND positions.state = 'committed' \
             AND files.state IN ('loaded', 'removed') ORDER BY files.sequence",
        );
        let rows = query
            .bind(pipeline.0)
            .fetch_all(self.database.pool())
            .await?;
        let mut files = HashMap::new();
        for row in &rows {
            let file = file(row)?;
            match file.state {
                FileState::Loaded => files.insert(file.path.clone(), file),
                _ => files.remove(&file.path),
            };
        }
        Ok(files)
    }

    /// Every record that is true, newest first.
    pub async fn list(&self, filter: FileFilter) -> Result<Vec<LedgerRecord>, CatalogError> {
        let query = sqlx::query(
            "SELECT files.path, files.etag, files.modified_at, files.size, files.sheet_count, \
             files.row_count, files.rows_quarantined, files.run_id, files.state, files.error, \
             files.pipeline_id, files.sequence, positions.prepared_at \
             FROM files JOIN positions ON positions.pipeline_id = files.pipeline_id \
             AND positions.sequence = files.sequence \
             WHERE positions.state IN ('committed', 'noted') \
             AND ($1 IS NULL OR files.pipeline_id = $1) \
             ORDER BY positions.prepared_at DESC, files.pipeline_id, files.sequence DESC, \
             files.path LIMIT $2",
        );
        let query = query
            .bind(filter.pipeline.map(|id| id.0))
            .bind(row_limit(filter.limit));
        let rows = query.fetch_all(self.database.pool()).await?;
        rows.iter()
            .map(|row| {
                Ok(LedgerRecord {
                    file: file(row)?,
                    pipeline: ObjectId(row.try_get(10)?),
                    sequence: row.try_get(11)?,
                    recorded_at: time(row.try_get(12)?).unwrap_or_default(),
                })
            })
            .collect()
    }

    /// Forgets what was recorded of the files at these paths, or of all, so that they are loaded
    /// again.
    pub async fn forget(
        &self,
        pipeline: ObjectId,
        paths: Option<&[String]>,
    ) -> Result<(), CatalogError> {
        let mut writing = self.database.write().await?;
        match paths {
            None => {
                let query = sqlx::query("DELETE FROM files WHERE pipeline_id = $1");
                query.bind(pipeline.0).execute(&mut *writing).await?;
            }
            Some(paths) => {
                for path in paths {
                    let query =
                        sqlx::query("DELETE FROM files WHERE pipeline_id = $1 AND path = $2");
                    query
                        .bind(pipeline.0)
                        .bind(path.clone())
                        .execute(&mut *writing)
                        .await?;
                }
            }
        }
        writing.commit().await
    }
}

/// Adds to the record of a sequence, in the transaction that prepares it.
pub(super) async fn add(
    connection: &mut AnyConnection,
    pipeline: ObjectId,
    sequence: i64,
    files: &[LedgerFile],
) -> Result<(), CatalogError> {
    for file in files {
        let query = sqlx::query(
            "INSERT INTO files (pipeline_id, sequence, path, etag, modified_at, size, \
             sheet_count, row_count, rows_quarantined, run_id, state, error) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
        );
        let query = query
            .bind(pipeline.0)
            .bind(sequence)
            .bind(file.path.clone())
            .bind(file.etag.clone())
            .bind(file.modified.map(|time| time.timestamp_micros()))
            .bind(file.size)
            .bind(file.sheet_count.map(i64::from))
            .bind(file.rows)
            .bind(file.rows_quarantined)
            .bind(file.run.map(|run| run.0))
            .bind(file.state.name())
            .bind(file.error.clone().map(readable));
        query.execute(&mut *connection).await?;
    }
    Ok(())
}

fn file(row: &AnyRow) -> Result<LedgerFile, CatalogError> {
    let state: &str = row.try_get(8)?;
    let state = FileState::from_name(state).ok_or_else(|| CatalogError::Corrupt {
        what: format!("file state {state}"),
        source: None,
    })?;
    Ok(LedgerFile {
        path: row.try_get(0)?,
        etag: row.try_get(1)?,
        modified: time(row.try_get(2)?),
        size: row.try_get(3)?,
        sheet_count: row
            .try_get::<Option<i64>, _>(4)?
            .map(|count| i32::try_from(count).unwrap_or(i32::MAX)),
        rows: row.try_get(5)?,
        rows_quarantined: row.try_get(6)?,
        run: row.try_get::<Option<i64>, _>(7)?.map(RunId),
        state,
        error: row.try_get(9)?,
    })
}
