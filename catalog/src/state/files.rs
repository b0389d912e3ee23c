//! The ledger of files: which were loaded by which commit, and which could not be.
//!
//! A loaded file is recorded by [`Positions::prepare`](super::Positions::prepare), with the sequence
//! of the commit that carries its rows, and counts when that sequence is committed. A file that failed
//! has no commit and is recorded by [`FileLedger::record`].

use std::collections::HashMap;

use chrono::{DateTime, Utc};

use super::RunId;
use crate::definitions::ObjectId;
use crate::error::CatalogError;

/// What became of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FileState {
    Loaded,
    Failed,
    /// Left alone on purpose, such as a changed file under a policy that ignores changes.
    Skipped,
}

impl FileState {
    pub fn name(self) -> &'static str {
        match self {
            Self::Loaded => "loaded",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        }
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
pub struct FileLedger {}

impl FileLedger {
    /// Records files that no commit carries, at once.
    pub async fn record(
        &self,
        pipeline: ObjectId,
        files: &[LedgerFile],
    ) -> Result<(), CatalogError> {
        let _ = (pipeline, files);
        Ok(())
    }

    /// What counts of every file the pipeline has met, by path: its newest record that is true.
    /// Resolve first, or a commit whose reply was lost is missing.
    pub async fn committed(
        &self,
        pipeline: ObjectId,
    ) -> Result<HashMap<String, LedgerFile>, CatalogError> {
        let _ = pipeline;
        Ok(HashMap::new())
    }

    /// Every record that is true, newest first.
    pub async fn list(&self, filter: FileFilter) -> Result<Vec<LedgerRecord>, CatalogError> {
        let _ = filter;
        Ok(Vec::new())
    }

    /// Forgets what was recorded of the files at these paths, or of all, so that they are loaded
    /// again.
    pub async fn forget(
        &self,
        pipeline: ObjectId,
        paths: Option<&[String]>,
    ) -> Result<(), CatalogError> {
        let _ = (pipeline, paths);
        Ok(())
    }
}
