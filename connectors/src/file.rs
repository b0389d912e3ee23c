//! Files of an outside system: found by pattern, fetched to the local disk, moved when done.
//!
//! A store knows nothing of what is in a file. It must never hand over half a file: a fetch ends
//! with exactly the bytes of the entry or with an error.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use tempfile::TempPath;

use crate::connector::Check;
use crate::error::ConnectorError;

/// The files below the root of one connection.
#[async_trait]
pub trait FileStore: Send + Sync {
    /// Files matching any of `patterns` (`*`, `?`, `[a-z]`, `{a,b}` within one path part, `**`
    /// across parts), each once, in order of path. A pattern that matches nothing is not an error.
    /// Files whose name or folder begins with a dot are found only when the pattern names the dot.
    async fn list(&self, patterns: &[String]) -> Result<Vec<FileEntry>, ConnectorError>;

    /// Brings the file to the local disk. `into` is a folder for temporary files; a store whose
    /// files are on this disk already answers with the file itself. Trying again after a passing
    /// fault is done here; dropping the future leaves nothing behind. The error is retryable when
    /// the entry has changed since it was listed.
    async fn fetch(&self, entry: &FileEntry, into: &Path) -> Result<LocalFile, ConnectorError>;

    /// Moves the file into the folder `target_dir` (relative to the root, made when missing)
    /// under its own name and answers with its new path. A file of that name already there is
    /// not overwritten: the moved one gets a number before its extension.
    ///
    /// `None`: the file is another one than was listed, by size, time or etag, and stays where it
    /// is, because nobody has read it yet. This is looked at as late as the system allows, but a
    /// system without a conditional move leaves a moment between the look and the move.
    async fn rename(
        &self,
        entry: &FileEntry,
        target_dir: &str,
    ) -> Result<Option<String>, ConnectorError>;

    /// Tries the connection step by step. Never fails as a whole: what failed is in the list.
    async fn check(&self) -> Vec<Check>;
}

/// One file as it was listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileEntry {
    /// Relative to the root of the connection, parts divided by `/`.
    pub path: String,
    pub size: u64,
    pub etag: Option<String>,
    pub modified: Option<DateTime<Utc>>,
}

impl FileEntry {
    /// Whether `now`, listed under the same path, is the same file. What either of them does not
    /// say is not compared.
    pub fn is_same(&self, now: &Self) -> bool {
        fn agree<T: PartialEq>(before: &Option<T>, now: &Option<T>) -> bool {
            before.is_none() || now.is_none() || before == now
        }
        self.size == now.size
            && match (&self.etag, &now.etag) {
                (Some(before), Some(now)) => before == now,
                _ => agree(&self.modified, &now.modified),
            }
    }
}

/// A file on the local disk. A fetched copy is removed when the last clone is dropped.
#[derive(Debug, Clone)]
pub struct LocalFile {
    /// Where the bytes are.
    pub path: PathBuf,
    /// What `_file` says: the path of the entry it was fetched from.
    pub name: String,
    pub size: u64,
    /// When it was last written, where others may write to it.
    modified: Option<DateTime<Utc>>,
    _temporary: Option<Arc<TempPath>>,
}

impl LocalFile {
    /// A file that stays where it is.
    pub fn in_place(path: impl Into<PathBuf>, name: impl Into<String>, size: u64) -> Self {
        Self {
            path: path.into(),
            name: name.into(),
            size,
            modified: None,
            _temporary: None,
        }
    }

    /// The same, of somebody who may write to it meanwhile.
    pub fn last_modified(mut self, modified: Option<DateTime<Utc>>) -> Self {
        self.modified = modified;
        self
    }

    /// The file as it is now, for a reader to whom it does not matter what it was when it was listed.
    pub fn as_it_is(&self) -> Self {
        let mut now = self.clone();
        if self.modified.is_some()
            && let Ok(metadata) = std::fs::metadata(&self.path)
        {
            now.size = metadata.len();
            now.modified = metadata.modified().ok().map(DateTime::<Utc>::from);
        }
        now
    }

    /// Whether it was written to since it was handed over. Never of a copy of our own, and not
    /// when it is gone: what was open to be read is as it was.
    pub fn has_changed(&self) -> bool {
        let Some(modified) = self.modified else {
            return false;
        };
        std::fs::metadata(&self.path).is_ok_and(|now| {
            let now_modified = now.modified().ok().map(DateTime::<Utc>::from);
            now.len() != self.size || now_modified != Some(modified)
        })
    }

    /// A copy that goes away with the last clone of this value.
    pub fn spooled(path: TempPath, name: impl Into<String>, size: u64) -> Self {
        Self {
            path: path.to_path_buf(),
            name: name.into(),
            size,
            modified: None,
            _temporary: Some(Arc::new(path)),
        }
    }
}
