//! Pipelines from Kafka: messages become rows of a table, each exactly once.
//!
//! ```text
//! partitions ─ reader thread ─▶ blocks ─ decode ─▶ transform, check ─▶ data files ─ prepare ─▶ Delta commit ─▶ resolve
//!      ▲ offsets that the table's marks name                                        txn per partition
//!      └──────────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! The commit that carries rows carries, for each partition they came from, a `txn` action whose version is the offset
//! to be read next. That is the only place an offset is taken from: a start reads the marks and goes on there. So a crash
//! at any point repeats a batch or has committed it. What was rejected belongs to the sequence that the same commit
//! carries, as it does with files.
//!
//! Before anything is read the marks are held against what the brokers still have: offsets that are gone, or that do
//! not exist yet, are a gap that stops the pipeline and is named, unless the statement says to go on after it.
//!
//! `FULL REFRESH` reads everything once more and commits it at the end, in the place of the rows there are ([`pump`]).
//!
//! Messages that are set aside are sent to a topic as well where the statement names one ([`dead_letter`]), before the commit
//! that sets them aside.
//!
//! A table with a key takes changes instead of rows ([`keyed`]): the last of each key by offset stands, also of what was set
//! aside and is replayed ([`replay_keyed`]).
//!
//! Several servers share the partitions of a pipeline that appends ([`share`]): each commits for its own.
//! Rows may go to many tables by a column ([`fan`]), each of which then has marks of its own.
//!
//! One loop per run ([`pump`]) reads, decodes ahead, writes and commits; how runs begin and end is in [`run`], where
//! reading begins in [`offsets`].

mod dead_letter;
mod decode;
mod fan;
mod keyed;
mod offsets;
mod plan;
mod preview;
mod pump;
mod rate;
mod replay;
mod replay_keyed;
mod run;
mod share;
mod status;

pub(super) use fan::{filled_schema, is_filled, recorded_table};
pub(super) use plan::{check, is_from_topics, parse_options};
pub(super) use preview::preview_topics;
pub(super) use replay::replay_messages;
pub(super) use run::run_topics;
pub use status::recorded_partitions;
