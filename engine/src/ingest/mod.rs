//! Runs pipelines: files become rows of tables, each file exactly once.
//!
//! ```text
//! discover -> decode -> transform -> check -> write -> prepare -> Delta commit -> resolve -> move
//!   listing    a thread   AS SELECT   EXPECT    files    catalog     with txn     catalog
//! ```
//!
//! The Delta commit that carries a batch's rows is the only thing that makes them true. Before it the
//! catalog records, under a new sequence, which files the batch holds and where their rejected rows
//! are; the commit carries that sequence as the `txn` version of the pipeline's application id; after
//! it the record is resolved. Every run begins by reading the table's `txn` and resolving what an
//! earlier one left, so a crash at any point repeats a batch or has committed it, never both.
//!
//! A bad row goes to quarantine, a bad file fails alone, a passing fault is tried again. One pipeline
//! runs in one place at a time: a lease in the catalog sees to that, and preparing fails without it.
//! How files are fetched and decoded is `boathouse_connectors`' affair, how rows are stored
//! [`crate::lake`]'s, what an expression means [`crate::query`]'s.

mod capture;
mod check;
mod context;
mod decode;
mod discover;
pub(crate) mod failpoint;
mod kafka;
mod lease;
mod load;
mod lookup;
mod plan;
mod preview;
pub(crate) mod publish;
mod quarantine;
mod replay;
mod row_plan;
mod rows;
mod run;
pub mod scheduler;
mod schema;
mod target;
#[cfg(test)]
mod tests;
mod transform;
mod whole;

use boathouse_catalog::state::{RunCounters, RunId, RunState};

pub use capture::{
    CaptureBoard, CaptureStatus, PartitionStatus, TableStatus, Verdict, recorded_status,
    verify_pipeline,
};
pub use kafka::recorded_partitions;
pub use plan::{PlannedPipeline, check_options, plan_pipeline};
pub use preview::{test_fields, test_pipeline};
pub use quarantine::{QuarantinedRow, RejectedMessage, quarantined_rows};
pub use replay::replay_quarantine;
pub use run::{refresh_tables, run_pipeline};

/// What started a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trigger {
    /// `RUN PIPELINE`: files that failed before are tried again.
    Manual,
    /// `RUN PIPELINE ... FULL REFRESH`: the pipeline's rows are replaced by everything there is now.
    FullRefresh,
    /// A pipeline that goes on by itself, from the start of its server on.
    Continuous,
    /// `SCHEDULE EVERY` or `SCHEDULE CRON`.
    Schedule,
    /// `SCHEDULE AFTER`.
    After,
    /// `REPLAY QUARANTINE`.
    Replay,
    /// `VERIFY PIPELINE`.
    Verify,
}

impl Trigger {
    /// The word in `system.pipeline_runs`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Manual => "manual",
            Self::FullRefresh => "full_refresh",
            Self::Continuous => "continuous",
            Self::Schedule => "schedule",
            Self::After => "after",
            Self::Replay => "replay",
            Self::Verify => "verify",
        }
    }
}

/// What a run came to.
#[derive(Debug, Clone)]
pub struct RunSummary {
    pub run: RunId,
    pub state: RunState,
    pub counters: RunCounters,
    /// Messages in `system.pipeline_errors`.
    pub error_count: i64,
}
