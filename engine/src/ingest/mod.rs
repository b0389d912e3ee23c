//! Runs pipelines: files become rows of tables, each exactly once.

pub(crate) mod failpoint;
