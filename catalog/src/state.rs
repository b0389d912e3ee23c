//! What is recorded while pipelines run, outside the snapshot: one file per kind of record.
//!
//! Times are taken from this process's clock, except those of leases, which are the database's, so
//! that the clocks of several servers need not agree.

mod audit;
mod captures;
mod files;
mod leases;
mod positions;
mod quarantine;
mod runs;

pub use audit::{AuditEntry, AuditLog};
pub use captures::{Capture, CaptureRecord, Captures};
pub use files::{FileFilter, FileLedger, FileState, LedgerFile, LedgerRecord};
pub(crate) use leases::forget as forget_leases;
pub use leases::{Holding, Lease, Leases, pipeline_lease};
pub use positions::{NewPosition, Position, Positions, Resolved};
pub use quarantine::{
    QuarantineFile, QuarantineLedger, QuarantineRecord, ReplayMark, ReplayRecord,
};
pub use runs::{
    NewRun, RunCounters, RunError, RunErrorRecord, RunFilter, RunId, RunMessage, RunRecord,
    RunState, Runs, Severity,
};

/// The LIMIT of a listing; both databases take this for none.
fn row_limit(limit: Option<u32>) -> i64 {
    limit.map_or(i64::MAX, i64::from)
}

/// A text from outside as PostgreSQL can store it, which has no NUL.
fn readable(text: String) -> String {
    if text.contains('\0') {
        text.replace('\0', "\u{fffd}")
    } else {
        text
    }
}

#[cfg(test)]
mod tests;
