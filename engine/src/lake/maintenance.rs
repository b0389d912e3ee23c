//! Keeps a table fast and small: rewrites small files and files with many deleted rows into full ones,
//! and deletes files that no version within the retention needs.
//!
//! A rewrite changes no data. It is refused when a row of its files was deleted meanwhile, and begins
//! anew. Files are put together only when their partition and marks are the same.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use datafusion::execution::SessionState;
use deltalake_core::kernel::DeletionVectorDescriptor;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use serde_json::Value;

use super::snapshot::DataFile;
use super::table::version_of;
use super::{CommitRequest, LakeError, LakeTable, WriterOptions, deletion};

/// Files below this share of the target size are put together.
const SMALL_PERCENT: u64 = 75;

/// A file with this share of its rows deleted is rewritten.
const DELETED_PERCENT: u64 = 10;

/// Bytes rewritten in one commit, so that a conflict costs little.
const ROUND_BYTES: u64 = 1 << 30;

/// How often a round begins anew while other writers delete rows of its files.
const ROUND_ATTEMPTS_MAX: u32 = 5;

/// Versions read at once.
const LOG_READS_MAX: usize = 8;

/// What a compaction did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Compaction {
    pub files_removed: u64,
    pub files_added: u64,
    pub bytes_removed: u64,
    pub bytes_added: u64,
}

impl LakeTable {
    /// Rewrites what is worth it. `state` runs the reading.
    pub async fn optimize(self: &Arc<Self>, state: &SessionState) -> Result<Compaction, LakeError> {
        let mut total = Compaction::default();
        let mut done: HashSet<String> = HashSet::new();
        let mut attempt = 1;
        loop {
            let snapshot = self.snapshot(None).await?;
            let target = WriterOptions::default().file_bytes;
            let bins = bins(snapshot.files(), target, &done);
            let mut round = Vec::new();
            let mut bytes = 0;
            for bin in bins {
                let size: u64 = bin.iter().map(|file| file.size).sum();
                if !round.is_empty() && bytes + size > ROUND_BYTES {
                    break;
                }
                bytes += size;
                round.push(bin);
            }
            if round.is_empty() {
                return Ok(total);
            }
            match self.rewrite(state, &snapshot, &round).await {
                Ok((made, written)) => {
                    total.files_removed += made.files_removed;
                    total.files_added += made.files_added;
                    total.bytes_removed += made.bytes_removed;
                    total.bytes_added += made.bytes_added;
                    // What was just written is not looked at again, however small it came out.
                    done.extend(written);
                    attempt = 1;
                }
                Err(LakeError::Conflict { .. }) if attempt < ROUND_ATTEMPTS_MAX => attempt += 1,
                Err(error) => return Err(error),
            }
        }
    }

    async fn rewrite(
        self: &Arc<Self>,
        state: &SessionState,
        snapshot: &Arc<super::TableSnapshot>,
        round: &[Vec<Arc<DataFile>>],
    ) -> Result<(Compaction, Vec<String>), LakeError> {
        let mut made = Compaction::default();
        let mut adds = Vec::new();
        let mut rewrites = BTreeMap::new();
        for bin in round {
            for mut file in self.copy_rows(snapshot, bin.clone(), state).await? {
                file.add.data_change = false;
                made.files_added += 1;
                made.bytes_added += file.bytes;
                adds.push(file);
            }
            for file in bin {
                made.files_removed += 1;
                made.bytes_removed += file.size;
                rewrites.insert(file.path.clone(), file.deletion_vector.clone());
            }
        }
        let written = adds.iter().map(|file| file.path().to_owned()).collect();
        let request = CommitRequest {
            operation: "OPTIMIZE".into(),
            adds: adds.clone(),
            rewrites,
            ..CommitRequest::default()
        };
        match self.commit(request).await {
            Ok(_) => Ok((made, written)),
            Err(error) => {
                if matches!(error, LakeError::Conflict { .. }) {
                    self.discard(adds).await;
                }
                Err(error)
            }
        }
    }

    /// Deletes the files that neither the newest version nor one that was the newest within
    /// `retention` needs, and that are older than it. Gives their paths; `dry_run` deletes nothing.
    pub async fn vacuum(
        &self,
        retention: Duration,
        dry_run: bool,
    ) -> Result<Vec<String>, LakeError> {
        let retention = chrono::Duration::from_std(retention).unwrap_or(chrono::Duration::MAX);
        let cutoff = chrono::Utc::now()
            .checked_sub_signed(retention)
            .unwrap_or(chrono::DateTime::UNIX_EPOCH);
        let store = self.place.prefixed();
        let failed = |error| LakeError::storage("list the table's files", self.location(), error);
        // Listed before the log is read: what is committed in between is younger than the cutoff.
        let old: Vec<Path> = store
            .list(None)
            .try_filter(|object| futures::future::ready(object.last_modified < cutoff))
            .map_ok(|object| object.location)
            .try_collect()
            .await
            .map_err(failed)?;
        let needed = self.needed_since(cutoff.timestamp_millis()).await?;
        let unneeded: Vec<Path> = old
            .into_iter()
            .filter(|path| is_data(path) && !needed.contains(path.as_ref()))
            .collect();
        if !dry_run {
            for path in &unneeded {
                match store.delete(path).await {
                    Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                    Err(error) => {
                        return Err(LakeError::storage("delete a file", self.location(), error));
                    }
                }
            }
        }
        Ok(unneeded.into_iter().map(|path| path.to_string()).collect())
    }

    /// The files of the newest version, and those removed since a time.
    async fn needed_since(&self, cutoff: i64) -> Result<HashSet<String>, LakeError> {
        let snapshot = self.snapshot(None).await?;
        let mut needed = HashSet::new();
        for file in snapshot.files() {
            needed.insert(file.path.clone());
            if let Some(vector) = &file.deletion_vector {
                needed.extend(self.path_of_vector(vector)?);
            }
        }
        let failed = |error| LakeError::storage("list the log", self.location(), error);
        let versions: Vec<i64> = self
            .log_store
            .object_store(None)
            .list(Some(&Path::from("_delta_log")))
            .try_filter_map(async |object| Ok(version_of(&object.location)))
            .try_collect()
            .await
            .map_err(failed)?;
        let mut entries = futures::stream::iter(versions)
            .map(|version| async move {
                let number = u64::try_from(version).unwrap_or_default();
                self.log_store.read_commit_entry(number).await
            })
            .buffer_unordered(LOG_READS_MAX);
        while let Some(entry) = entries.next().await {
            let entry = entry
                .map_err(|error| LakeError::storage("read the log", self.location(), error))?;
            for line in entry.unwrap_or_default().split(|byte| *byte == b'\n') {
                let Ok(action) = serde_json::from_slice::<Value>(line) else {
                    continue;
                };
                let Some(remove) = action.get("remove") else {
                    continue;
                };
                // A removal that does not say when it happened is taken for a recent one.
                let at = remove["deletionTimestamp"].as_i64();
                if at.is_some_and(|at| at < cutoff) {
                    continue;
                }
                let path = remove["path"].as_str().unwrap_or_default();
                needed.insert(path.to_owned());
                if let Ok(path) = Path::from_url_path(path) {
                    needed.insert(path.to_string());
                }
                let vector = remove.get("deletionVector").cloned().unwrap_or_default();
                if let Ok(vector) = serde_json::from_value::<DeletionVectorDescriptor>(vector) {
                    needed.extend(self.path_of_vector(&vector)?);
                }
            }
        }
        Ok(needed)
    }

    /// Where a deletion vector is stored below the table's folder; `None` when it is in the log.
    fn path_of_vector(
        &self,
        vector: &DeletionVectorDescriptor,
    ) -> Result<Option<String>, LakeError> {
        let damaged = |reason: String| LakeError::Damaged {
            location: self.location(),
            reason,
        };
        let root = &self.place.url;
        let url = deletion::descriptor(vector)
            .map_err(|error| damaged(error.to_string()))?
            .absolute_path(root)
            .map_err(|error| damaged(error.to_string()))?;
        let Some(url) = url else {
            return Ok(None);
        };
        let below = url.path().strip_prefix(root.path());
        let path = below.and_then(|below| Path::from_url_path(below).ok());
        Ok(path.map(|path| path.to_string()))
    }
}

/// Groups of files to be put together, or to be rewritten each by itself.
fn bins(files: &[Arc<DataFile>], target: u64, done: &HashSet<String>) -> Vec<Vec<Arc<DataFile>>> {
    let mut groups: BTreeMap<_, Vec<Arc<DataFile>>> = BTreeMap::new();
    for file in files {
        if done.contains(&file.path) || !(is_small(file, target) || is_sparse(file)) {
            continue;
        }
        let partition: BTreeMap<_, _> = file.partition_text.iter().collect();
        let group = groups.entry((partition, file.tags())).or_default();
        group.push(Arc::clone(file));
    }
    let mut bins = Vec::new();
    for group in groups.into_values() {
        let mut bin: Vec<Arc<DataFile>> = Vec::new();
        let mut bytes = 0;
        for file in group {
            if !bin.is_empty() && bytes + file.size > target {
                bins.push(std::mem::take(&mut bin));
                bytes = 0;
            }
            bytes += file.size;
            bin.push(file);
        }
        bins.push(bin);
    }
    bins.retain(|bin| bin.len() > 1 || bin.iter().any(|file| is_sparse(file)));
    bins
}

fn is_small(file: &DataFile, target: u64) -> bool {
    file.size * 100 < target * SMALL_PERCENT
}

fn is_sparse(file: &DataFile) -> bool {
    let stored = file.rows_stored.unwrap_or(u64::MAX);
    file.rows_deleted > 0
        && file.rows_deleted.saturating_mul(100) >= stored.saturating_mul(DELETED_PERCENT)
}

/// Whether a file of the table's folder holds rows or deletion vectors. The rest is not ours to judge.
fn is_data(path: &Path) -> bool {
    let name = path.filename().unwrap_or_default();
    let hidden = path.parts().any(|part| {
        let part = part.as_ref();
        part.starts_with('.') || part == "_delta_log" || part == "_change_data"
    });
    let vector = name.starts_with("deletion_vector_") && name.ends_with(".bin");
    !hidden && (name.ends_with(".parquet") || vector)
}
