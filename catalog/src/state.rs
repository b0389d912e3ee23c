//! What is recorded while pipelines run, outside the snapshot: one file per kind of record.
//!
//! Times are taken from this process's clock, except those of leases, which are the database's, so
//! that the clocks of several servers need not agree.

mod audit;
mod files;
mod leases;
mod positions;
mod quarantine;
mod runs;

pub use audit::{AuditEntry, AuditLog};
pub use files::{FileFilter, FileLedger, FileState, LedgerFile, LedgerRecord};
pub use leases::{Lease, Leases};
pub use positions::{NewPosition, Position, Positions, Resolved};
pub use quarantine::{QuarantineFile, QuarantineLedger, QuarantineRecord, ReplayMark, ReplayRecord};
pub use runs::{
    NewRun, RunCounters, RunError, RunErrorRecord, RunFilter, RunId, RunMessage, RunRecord,
    RunState, Runs, Severity,
};
