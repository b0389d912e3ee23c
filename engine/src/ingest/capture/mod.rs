//! Pipelines from databases: the changes of tables, and the tables as they were when it began.
//!
//! ```text
//! changes  ── transaction by transaction, by table ──▶ batch ── prepare ──▶ one Delta commit per table
//! tables   ── chunks in the order of the key ────────▶ chunk ── prepare ──▶ one Delta commit
//! ```
//!
//! A batch ends between two transactions of the source, so that no table shows half of one. Before its commits
//! the catalog records, under a new sequence, the position it reaches; every commit carries that sequence as the
//! `txn` version of the pipeline; after the last of them the record is settled. A start after a crash reads the
//! batch that was left again, up to the same position, for the tables that do not have its sequence yet.
//!
//! A table is first read in chunks while its changes are already applied. Every change carries the whole row, so
//! a row whose key was met among the changes is left out of the chunk, and whatever order the two come in, the
//! newest state of each row stands (see `boathouse_connectors::mysql::Chunk` for the watermarks).
//!
//! What a schema change does to a table is in [`schema`]; how far a table has come in [`state`].

mod apply;
mod board;
mod chunks;
mod lag;
mod plan;
mod pump;
mod range;
mod reading;
mod run;
mod schema;
mod shape;
mod sql;
mod state;
mod target;
mod verify;

pub(super) use board::Running;
pub use board::{CaptureBoard, CaptureStatus, PartitionStatus, TableStatus};
pub use lag::recorded_status;
pub(super) use plan::{check, parse_options};
pub(super) use range::refresh_range;
pub(super) use run::{begin as begin_run, is_current, join as join_run, run_capture};
pub use verify::{Verdict, verify_pipeline};
