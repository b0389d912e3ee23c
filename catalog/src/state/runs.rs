//! Runs of pipelines: when, how long, how many rows, and why they failed.
//!
//! A run keeps its pipeline's name, so it stays readable after the pipeline is dropped.

use chrono::{DateTime, Utc};

use crate::definitions::ObjectId;
use crate::error::CatalogError;

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
pub struct Runs {}

impl Runs {
    pub async fn start(&self, run: NewRun) -> Result<RunId, CatalogError> {
        let _ = run;
        Err(CatalogError::OutOfIds)
    }

    /// Records how far a running run has come. Callers do so about once a second, not per row.
    pub async fn progress(&self, run: RunId, counters: RunCounters) -> Result<(), CatalogError> {
        let _ = (run, counters);
        Ok(())
    }

    /// Ends a run. The first end stands; a second changes nothing.
    pub async fn finish(
        &self,
        run: RunId,
        state: RunState,
        counters: RunCounters,
        error: Option<RunError>,
    ) -> Result<(), CatalogError> {
        let _ = (run, state, counters, error);
        Ok(())
    }

    pub async fn get(&self, run: RunId) -> Result<Option<RunRecord>, CatalogError> {
        let _ = run;
        Ok(None)
    }

    /// Newest first.
    pub async fn list(&self, filter: RunFilter) -> Result<Vec<RunRecord>, CatalogError> {
        let _ = filter;
        Ok(Vec::new())
    }

    /// Adds messages to a run. A run keeps its first thousand and counts the rest.
    pub async fn add_errors(
        &self,
        run: RunId,
        messages: &[RunMessage],
    ) -> Result<(), CatalogError> {
        let _ = (run, messages);
        Ok(())
    }

    pub async fn add_error(&self, run: RunId, message: RunMessage) -> Result<(), CatalogError> {
        self.add_errors(run, &[message]).await
    }

    /// The messages of the runs the filter selects (its `limit` counts messages), newest run first,
    /// in each in the order they were added.
    pub async fn errors(&self, filter: RunFilter) -> Result<Vec<RunErrorRecord>, CatalogError> {
        let _ = filter;
        Ok(Vec::new())
    }

    /// Fails the runs a server left running when it died, and says how many. Called by that server
    /// when it starts.
    pub async fn abandon_stale(&self, server: &str) -> Result<u64, CatalogError> {
        let _ = server;
        Ok(0)
    }
}
