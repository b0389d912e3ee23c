//! Runs of pipelines: when, how long, how many rows, and why they failed.
//!
//! A run keeps its pipeline's name, so it stays readable after the pipeline is dropped.

use chrono::{DateTime, Utc};
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row};

use super::{readable, row_limit};
use crate::definitions::ObjectId;
use crate::error::CatalogError;
use crate::store::database::Database;
use crate::store::load::time;
use crate::store::write::reserve;

/// Messages a run keeps; a run that rejects a million rows must not fill the catalog.
const MESSAGES_PER_RUN_MAX: i64 = 1000;

/// Identifies a run; later runs have larger ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId(pub i64);

/// A run about to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRun {
    pub pipeline: ObjectId,
    /// The pipeline's name.
    pub name: String,
    /// What started it: `manual`, `schedule`, `after`, `replay`.
    pub trigger: String,
    /// The server that carries it out, by a name it keeps across restarts.
    pub server: String,
}

/// How far a run has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RunCounters {
    pub files_total: i64,
    pub files_done: i64,
    pub rows_in: i64,
    pub rows_out: i64,
    pub rows_dropped: i64,
    pub rows_quarantined: i64,
    pub rows_warned: i64,
    pub bytes_in: i64,
}

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RunState {
    Running,
    Succeeded,
    Failed,
    Cancelled,
}

impl RunState {
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        let all = [
            Self::Running,
            Self::Succeeded,
            Self::Failed,
            Self::Cancelled,
        ];
        all.into_iter().find(|one| one.name() == name)
    }
}

/// Why a run ended as it did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RunError {
    pub sqlstate: String,
    pub message: String,
    pub detail: Option<String>,
    pub hint: Option<String>,
}

/// A run as it is on record.
#[derive(Debug, Clone, PartialEq)]
pub struct RunRecord {
    pub id: RunId,
    pub pipeline: ObjectId,
    pub name: String,
    pub trigger: String,
    pub server: String,
    pub state: RunState,
    pub started_at: DateTime<Utc>,
    pub finished_at: Option<DateTime<Utc>>,
    pub counters: RunCounters,
    pub error: Option<RunError>,
    /// How many messages were added, of which the first are kept.
    pub error_count: i64,
}

/// Which runs to list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RunFilter {
    pub pipeline: Option<ObjectId>,
    pub state: Option<RunState>,
    /// The newest this many; all of them without it.
    pub limit: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Severity {
    Warning,
    Error,
}

impl Severity {
    pub fn name(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// One thing that went wrong in a run, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunMessage {
    pub severity: Severity,
    pub sqlstate: String,
    pub message: String,
    pub file: Option<String>,
    pub sheet: Option<String>,
    pub row: Option<i64>,
    pub column: Option<String>,
    pub hint: Option<String>,
}

/// A message as it is on record.
#[derive(Debug, Clone, PartialEq)]
pub struct RunErrorRecord {
    pub run: RunId,
    pub pipeline: ObjectId,
    pub name: String,
    pub at: DateTime<Utc>,
    pub message: RunMessage,
}

/// The runs of all pipelines.
#[derive(Clone)]
pub struct Runs {
    database: Database,
}

impl Runs {
    pub(crate) fn new(database: Database) -> Self {
        Self { database }
    }

    pub async fn start(&self, run: NewRun) -> Result<RunId, CatalogError> {
        let mut writing = self.database.write().await?;
        let id = RunId(reserve(&mut writing, "run", 1).await?);
        begin(&mut writing, id, run).await?;
        writing.commit().await?;
        Ok(id)
    }

    /// An id for a run that is to be started.
    pub async fn reserve(&self) -> Result<RunId, CatalogError> {
        let mut writing = self.database.write().await?;
        let id = reserve(&mut writing, "run", 1).await?;
        writing.commit().await?;
        Ok(RunId(id))
    }

    /// Starts a run whose id was reserved.
    pub async fn start_as(&self, id: RunId, run: NewRun) -> Result<(), CatalogError> {
        let mut writing = self.database.write().await?;
        begin(&mut writing, id, run).await?;
        writing.commit().await
    }

    /// Records how far a running run has come. Callers do so about once a second, not per row.
    pub async fn progress(&self, run: RunId, counters: RunCounters) -> Result<(), CatalogError> {
        let query = sqlx::query(
            "UPDATE runs SET files_total = $2, files_done = $3, rows_in = $4, rows_out = $5, \
             rows_dropped = $6, rows_quarantined = $7, rows_warned = $8, bytes_in = $9 \
             WHERE id = $1 AND state = 'running'",
        );
        let mut writing = self.database.write().await?;
        bind_counters(query.bind(run.0), counters)
            .execute(&mut *writing)
            .await?;
        writing.commit().await
    }

    /// Ends a run. The first end stands; a second changes nothing.
    pub async fn finish(
        &self,
        run: RunId,
        state: RunState,
        counters: RunCounters,
        error: Option<RunError>,
    ) -> Result<(), CatalogError> {
        let error = error.unwrap_or_default();
        let failed = !error.sqlstate.is_empty();
        let query = sqlx::query(
            "UPDATE runs SET files_total = $2, files_done = $3, rows_in = $4, rows_out = $5, \
             rows_dropped = $6, rows_quarantined = $7, rows_warned = $8, bytes_in = $9, \
             state = $10, finished_at = $11, sqlstate = $12, message = $13, detail = $14, \
             hint = $15 WHERE id = $1 AND state = 'running'",
        );
        let query = bind_counters(query.bind(run.0), counters)
            .bind(state.name())
            .bind(Utc::now().timestamp_micros())
            .bind(failed.then_some(error.sqlstate))
            .bind(failed.then(|| readable(error.message)))
            .bind(error.detail.map(readable))
            .bind(error.hint.map(readable));
        let mut writing = self.database.write().await?;
        query.execute(&mut *writing).await?;
        writing.commit().await
    }

    pub async fn get(&self, run: RunId) -> Result<Option<RunRecord>, CatalogError> {
        let query = sqlx::query(
            "SELECT id, pipeline_id, name, triggered_by, server, state, started_at, finished_at, \
             files_total, files_done, rows_in, rows_out, rows_dropped, rows_quarantined, \
             rows_warned, bytes_in, error_count, sqlstate, message, detail, hint \
             FROM runs WHERE id = $1",
        );
        let row = query
            .bind(run.0)
            .fetch_optional(self.database.pool())
            .await?;
        row.as_ref().map(record).transpose()
    }

    /// Newest first.
    pub async fn list(&self, filter: RunFilter) -> Result<Vec<RunRecord>, CatalogError> {
        let query = sqlx::query(
            "SELECT id, pipeline_id, name, triggered_by, server, state, started_at, finished_at, \
             files_total, files_done, rows_in, rows_out, rows_dropped, rows_quarantined, \
             rows_warned, bytes_in, error_count, sqlstate, message, detail, hint FROM runs \
             WHERE ($1 IS NULL OR pipeline_id = $1) AND ($2 IS NULL OR state = $2) \
             ORDER BY id DESC LIMIT $3",
        );
        let query = query
            .bind(filter.pipeline.map(|id| id.0))
            .bind(filter.state.map(RunState::name))
            .bind(row_limit(filter.limit));
        let rows = query.fetch_all(self.database.pool()).await?;
        rows.iter().map(record).collect()
    }

    /// Adds messages to a run. A run keeps its first thousand and counts the rest.
    pub async fn add_errors(
        &self,
        run: RunId,
        messages: &[RunMessage],
    ) -> Result<(), CatalogError> {
        let Ok(count) = i64::try_from(messages.len()) else {
            return Ok(());
        };
        let mut writing = self.database.write().await?;
        // Counting first keeps the row locked, so that numbers are not given twice.
        let query = sqlx::query_scalar(
            "UPDATE runs SET error_count = error_count + $2 WHERE id = $1 \
             RETURNING error_count - $2",
        );
        let query = query.bind(run.0).bind(count);
        let Some(before): Option<i64> = query.fetch_optional(&mut *writing).await? else {
            return Ok(());
        };
        let now = Utc::now().timestamp_micros();
        let numbers = (before + 1..=MESSAGES_PER_RUN_MAX).zip(messages);
        for (number, message) in numbers {
            let query = sqlx::query(
                "INSERT INTO run_errors (run_id, number, recorded_at, severity, sqlstate, \
                 message, file_path, sheet, row_number, column_name, hint) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
            );
            let query = query
                .bind(run.0)
                .bind(number)
                .bind(now)
                .bind(message.severity.name())
                .bind(message.sqlstate.clone())
                .bind(readable(message.message.clone()))
                .bind(message.file.clone().map(readable))
                .bind(message.sheet.clone().map(readable))
                .bind(message.row)
                .bind(message.column.clone().map(readable))
                .bind(message.hint.clone().map(readable));
            query.execute(&mut *writing).await?;
        }
        writing.commit().await
    }

    pub async fn add_error(&self, run: RunId, message: RunMessage) -> Result<(), CatalogError> {
        self.add_errors(run, &[message]).await
    }

    /// The messages of the runs the filter selects (its `limit` counts messages), newest run first,
    /// in each in the order they were added.
    pub async fn errors(&self, filter: RunFilter) -> Result<Vec<RunErrorRecord>, CatalogError> {
        let query = sqlx::query(
            "SELECT runs.id, runs.pipeline_id, runs.name, run_errors.recorded_at, \
             run_errors.severity, run_errors.sqlstate, run_errors.message, run_errors.file_path, \
             run_errors.sheet, run_errors.row_number, run_errors.column_name, run_errors.hint \
             FROM run_errors JOIN runs ON runs.id = run_errors.run_id \
             WHERE ($1 IS NULL OR runs.pipeline_id = $1) AND ($2 IS NULL OR runs.state = $2) \
             ORDER BY runs.id DESC, run_errors.number LIMIT $3",
        );
        let query = query
            .bind(filter.pipeline.map(|id| id.0))
            .bind(filter.state.map(RunState::name))
            .bind(row_limit(filter.limit));
        let rows = query.fetch_all(self.database.pool()).await?;
        rows.iter().map(error_record).collect()
    }

    /// Fails the runs a server left running when it died, and says how many. Called by that server
    /// when it starts.
    pub async fn abandon_stale(&self, server: &str) -> Result<u64, CatalogError> {
        let query = sqlx::query(
            "UPDATE runs SET state = 'failed', finished_at = $2, sqlstate = '57P01', \
             message = 'the server stopped before the run ended', \
             hint = 'nothing is lost: the next run goes on where the last commit ended' \
             WHERE server = $1 AND state = 'running'",
        );
        let query = query
            .bind(server.to_owned())
            .bind(Utc::now().timestamp_micros());
        let mut writing = self.database.write().await?;
        let abandoned = query.execute(&mut *writing).await?.rows_affected();
        writing.commit().await?;
        Ok(abandoned)
    }
}

type Query = sqlx::query::Query<'static, sqlx::Any, sqlx::any::AnyArguments>;

async fn begin(connection: &mut AnyConnection, id: RunId, run: NewRun) -> Result<(), CatalogError> {
    let query = sqlx::query(
        "INSERT INTO runs (id, pipeline_id, name, triggered_by, server, state, started_at) \
         VALUES ($1, $2, $3, $4, $5, 'running', $6)",
    );
    let query = query
        .bind(id.0)
        .bind(run.pipeline.0)
        .bind(run.name)
        .bind(run.trigger)
        .bind(run.server)
        .bind(Utc::now().timestamp_micros());
    query.execute(connection).await?;
    Ok(())
}

fn bind_counters(query: Query, counters: RunCounters) -> Query {
    query
        .bind(counters.files_total)
        .bind(counters.files_done)
        .bind(counters.rows_in)
        .bind(counters.rows_out)
        .bind(counters.rows_dropped)
        .bind(counters.rows_quarantined)
        .bind(counters.rows_warned)
        .bind(counters.bytes_in)
}

fn record(row: &AnyRow) -> Result<RunRecord, CatalogError> {
    let state: &str = row.try_get(5)?;
    let state = RunState::from_name(state).ok_or_else(|| CatalogError::Corrupt {
        what: format!("run state {state}"),
        source: None,
    })?;
    let sqlstate: Option<String> = row.try_get(17)?;
    let error = match sqlstate {
        None => None,
        Some(sqlstate) => Some(RunError {
            sqlstate,
            message: row.try_get::<Option<String>, _>(18)?.unwrap_or_default(),
            detail: row.try_get(19)?,
            hint: row.try_get(20)?,
        }),
    };
    Ok(RunRecord {
        id: RunId(row.try_get(0)?),
        pipeline: ObjectId(row.try_get(1)?),
        name: row.try_get(2)?,
        trigger: row.try_get(3)?,
        server: row.try_get(4)?,
        state,
        started_at: time(row.try_get(6)?).unwrap_or_default(),
        finished_at: time(row.try_get(7)?),
        counters: RunCounters {
            files_total: row.try_get(8)?,
            files_done: row.try_get(9)?,
            rows_in: row.try_get(10)?,
            rows_out: row.try_get(11)?,
            rows_dropped: row.try_get(12)?,
            rows_quarantined: row.try_get(13)?,
            rows_warned: row.try_get(14)?,
            bytes_in: row.try_get(15)?,
        },
        error_count: row.try_get(16)?,
        error,
    })
}

fn error_record(row: &AnyRow) -> Result<RunErrorRecord, CatalogError> {
    let warning = row.try_get::<&str, _>(4)? == Severity::Warning.name();
    Ok(RunErrorRecord {
        run: RunId(row.try_get(0)?),
        pipeline: ObjectId(row.try_get(1)?),
        name: row.try_get(2)?,
        at: time(row.try_get(3)?).unwrap_or_default(),
        message: RunMessage {
            severity: if warning {
                Severity::Warning
            } else {
                Severity::Error
            },
            sqlstate: row.try_get(5)?,
            message: row.try_get(6)?,
            file: row.try_get(7)?,
            sheet: row.try_get(8)?,
            row: row.try_get(9)?,
            column: row.try_get(10)?,
            hint: row.try_get(11)?,
        },
    })
}
