//! Keeps a table fast and small: rewrites small files and files with many deleted rows into full ones,
//! and deletes files that no version within the retention needs.
//!
//! Which files are worth it without being asked is decided so that a row is written about five times
//! in all, whatever the table's size.
//!
//! A rewrite changes no data. Rows that others deleted meanwhile are deleted in the new files by the same
//! commit; where the rows were put in another order it is refused, and begins anew. Files are put together only when their partition and marks are the same.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::ParquetFileReaderFactory;
use datafusion::datasource::physical_plan::parquet::DefaultParquetFileReaderFactory;
use datafusion::execution::SessionState;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use deltalake_core::kernel::DeletionVectorDescriptor;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use serde_json::Value;

use super::cluster::CLUSTER_TAG;
use super::moves::{Move, MovedFile};
use super::snapshot::DataFile;
use super::{
    AsOf, CommitRequest, CommitTurn, LakeError, LakeTable, WriterOptions, WrittenFile, deletion,
};
use crate::ingest::failpoint;

/// Files below this share of the target size are put together.
const SMALL_PERCENT: u64 = 75;

/// A file with this share of its rows deleted is rewritten.
const DELETED_PERCENT: u64 = 10;

/// The same in the background: the file is then written once for half as many changed rows.
const DELETED_PERCENT_UNASKED: u64 = 33;

/// Files of about one size that are put together in the background. Sizes within a factor of as much
/// are about the same, so a row is rewritten about twice on its way to a full file.
const FILES_UNASKED: usize = 16;

/// Bytes of unsorted files that are sorted in the background.
const UNSORTED_BYTES_UNASKED: u64 = 32 << 20;

/// Bytes rewritten in one commit, so that a conflict costs little.
pub const ROUND_BYTES: u64 = 1 << 30;

/// How often a round begins anew while other writers delete rows of its files.
pub const ROUND_ATTEMPTS_MAX: u32 = 5;

/// Versions read at once.
const LOG_READS_MAX: usize = 8;

/// How a table is to be kept.
#[derive(Debug, Clone, Default)]
pub struct Upkeep {
    /// The columns its files are sorted by.
    pub cluster_by: Vec<String>,
    /// Nobody asked: only what is worth it.
    pub unasked: bool,
}

/// Files, and those that hold their living rows now.
#[derive(Debug)]
pub struct Rewritten {
    pub files: Vec<Arc<DataFile>>,
    pub written: Vec<WrittenFile>,
    /// Whether the rows are in the order they had.
    pub in_order: bool,
}

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
    pub async fn optimize(
        self: &Arc<Self>,
        state: &SessionState,
        upkeep: &Upkeep,
    ) -> Result<Compaction, LakeError> {
        let _alone = self.rewriting().await;
        let mut total = Compaction::default();
        let mut done: HashSet<String> = HashSet::new();
        let mut attempt = 1;
        loop {
            let snapshot = self.snapshot(None).await?;
            let target = WriterOptions::default().file_bytes;
            let bins = upkeep.bins(snapshot.files(), target, &done);
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
            match self.rewrite(state, upkeep, &snapshot, &round).await {
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
        upkeep: &Upkeep,
        snapshot: &Arc<super::TableSnapshot>,
        round: &[Vec<Arc<DataFile>>],
    ) -> Result<(Compaction, Vec<String>), LakeError> {
        let mut made = Compaction::default();
        let mut rewritten = Vec::new();
        for bin in round {
            let written = match upkeep.cluster_by.as_slice() {
                [] => self.copy_rows(snapshot, bin.clone(), state).await?,
                columns => {
                    let mut tags = bin.first().map(|file| file.tags()).unwrap_or_default();
                    tags.insert(CLUSTER_TAG.into(), upkeep.cluster_mark());
                    let files = bin.clone();
                    let sorted = self.sorted(snapshot, files, columns, state).await?;
                    self.write_rows(snapshot, sorted, &tags).await?
                }
            };
            for file in &written {
                made.files_added += 1;
                made.bytes_added += file.bytes;
            }
            for file in bin {
                made.files_removed += 1;
                made.bytes_removed += file.size;
            }
            rewritten.push(Rewritten {
                files: bin.clone(),
                written,
                in_order: upkeep.cluster_by.is_empty(),
            });
        }
        failpoint::hit("after_rewrite");
        let turn = self.turn().await;
        let written = self.commit_rewritten("OPTIMIZE", rewritten, &turn).await?;
        Ok((made, written))
    }

    /// Waits until nobody else of this process rewrites the table's files, and keeps it so. Not to be waited
    /// for in a turn to commit.
    pub async fn rewriting(&self) -> tokio::sync::OwnedMutexGuard<()> {
        Arc::clone(&self.rewriting).lock_owned().await
    }

    /// Puts files in the place of those whose living rows they hold, in one commit that changes no data.
    /// Gives the new files' paths. A conflict deletes them: the old ones are gone, or are not as they were.
    pub async fn commit_rewritten(
        &self,
        operation: &str,
        rewritten: Vec<Rewritten>,
        turn: &CommitTurn,
    ) -> Result<Vec<String>, LakeError> {
        let mut adds = Vec::new();
        let mut rewrites = BTreeMap::new();
        let mut moves = Vec::new();
        for one in rewritten {
            if one.in_order {
                moves.push(self.move_of(&one.files, &one.written).await?);
            }
            for mut file in one.written {
                file.add.data_change = false;
                adds.push(file);
            }
            for file in &one.files {
                rewrites.insert(file.path.clone(), file.deletion_vector.clone());
            }
        }
        let written: Vec<String> = adds.iter().map(|file| file.path().to_owned()).collect();
        let request = CommitRequest {
            operation: operation.to_owned(),
            adds: adds.clone(),
            rewrites,
            ..CommitRequest::default()
        };
        // Before the commit, since the next one may follow at once and need it. Where the rows are still in
        // their old files nobody asks.
        {
            let mut known = self.moves.lock().unwrap_or_else(PoisonError::into_inner);
            moves.into_iter().for_each(|moved| known.note(moved));
        }
        match self.commit_in(turn, request).await {
            Ok(_) => Ok(written),
            Err(error) => {
                if matches!(error, LakeError::Conflict { .. }) {
                    {
                        let known = self.moves.lock();
                        known
                            .unwrap_or_else(PoisonError::into_inner)
                            .forget(&written);
                    }
                    self.discard(adds).await;
                }
                Err(error)
            }
        }
    }

    /// Whether a data file was written without a column, which it would call `name`.
    pub async fn file_lacks(&self, file: &DataFile, name: &str) -> Result<bool, LakeError> {
        let failed = |reason: String| LakeError::Damaged {
            location: self.location(),
            reason: format!("the footer of file \"{}\": {reason}", file.path),
        };
        let readers = DefaultParquetFileReaderFactory::new(self.place.prefixed());
        let opened = PartitionedFile::new(file.path.clone(), file.size);
        let mut reader = readers
            .create_reader(0, opened, None, &ExecutionPlanMetricsSet::new())
            .map_err(|error| failed(error.to_string()))?;
        let footer = reader.get_metadata(None).await;
        let footer = footer.map_err(|error| failed(error.to_string()))?;
        let columns = footer.file_metadata().schema_descr().root_schema();
        Ok(!columns
            .get_fields()
            .iter()
            .any(|field| field.name() == name))
    }

    /// Where the living rows of files are, which were written in their order.
    async fn move_of(
        &self,
        files: &[Arc<DataFile>],
        written: &[WrittenFile],
    ) -> Result<Move, LakeError> {
        let mut moved = Move::default();
        let mut living = 0;
        for file in files {
            let gone = self.deleted_rows(file).await?;
            let from = MovedFile {
                before: living,
                gone,
                file: Some(Arc::clone(file)),
            };
            moved.from.insert(file.path.clone(), from);
            living += file.rows().unwrap_or(0);
        }
        let written = written.iter();
        moved.to = written
            .map(|file| (file.path().to_owned(), file.rows))
            .collect();
        Ok(moved)
    }

    /// Deletes the files that neither the newest version, nor one that was the newest within
    /// `retention`, nor one that a query of this process is reading needs, and that are older than it. Gives
    /// their paths; `dry_run` deletes nothing.
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

    /// The files of the newest version and of those in use, and those removed since a time.
    async fn needed_since(&self, cutoff: i64) -> Result<HashSet<String>, LakeError> {
        let mut snapshots = vec![self.snapshot(None).await?];
        for version in self.versions_in_use() {
            if version != snapshots[0].version() {
                snapshots.push(self.snapshot(Some(AsOf::Version(version))).await?);
            }
        }
        let mut needed = HashSet::new();
        for file in snapshots.iter().flat_map(|snapshot| snapshot.files()) {
            needed.insert(file.path.clone());
            if let Some(vector) = &file.deletion_vector {
                needed.extend(self.path_of_vector(vector)?);
            }
        }
        let versions = self.log_versions().await?;
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

impl Upkeep {
    fn cluster_mark(&self) -> String {
        self.cluster_by.join(",")
    }

    /// Whether a file is to be sorted, and is not.
    fn is_unsorted(&self, file: &DataFile) -> bool {
        !self.cluster_by.is_empty() && file.tag(CLUSTER_TAG) != Some(&self.cluster_mark())
    }

    fn is_sparse(&self, file: &DataFile) -> bool {
        let percent = match self.unasked {
            true => DELETED_PERCENT_UNASKED,
            false => DELETED_PERCENT,
        };
        let stored = file.rows_stored.unwrap_or(u64::MAX);
        let share = stored.saturating_mul(percent);
        file.rows_deleted > 0 && file.rows_deleted.saturating_mul(100) >= share
    }

    /// Groups of files to be put together, or to be rewritten each by itself.
    fn bins(
        &self,
        files: &[Arc<DataFile>],
        target: u64,
        done: &HashSet<String>,
    ) -> Vec<Vec<Arc<DataFile>>> {
        let mut groups: BTreeMap<_, Vec<Arc<DataFile>>> = BTreeMap::new();
        for file in files {
            let small = file.size * 100 < target * SMALL_PERCENT;
            let worth = small || self.is_sparse(file) || self.is_unsorted(file);
            if done.contains(&file.path) || !worth {
                continue;
            }
            let partition: BTreeMap<_, _> = file.partition_text.iter().collect();
            let mut tags = file.tags();
            tags.remove(CLUSTER_TAG);
            // In the background a small file is not written again and again with ever larger ones.
            let tier = match self.unasked {
                true => file.size.max(1).ilog2() / FILES_UNASKED.ilog2(),
                false => 0,
            };
            let group = groups.entry((partition, tags, tier)).or_default();
            group.push(Arc::clone(file));
        }
        let bin_bytes = match self.cluster_by.is_empty() {
            true => target,
            false => ROUND_BYTES,
        };
        let mut bins = Vec::new();
        for group in groups.into_values() {
            let mut bin: Vec<Arc<DataFile>> = Vec::new();
            let mut bytes = 0;
            for file in group {
                if !bin.is_empty() && bytes + file.size > bin_bytes {
                    bins.push(std::mem::take(&mut bin));
                    bytes = 0;
                }
                bytes += file.size;
                bin.push(file);
            }
            bins.push(bin);
        }
        bins.retain_mut(|bin| self.is_worth(bin));
        bins
    }

    /// Whether to write a group of files anew, or, after the others have been left out, some of it.
    fn is_worth(&self, bin: &mut Vec<Arc<DataFile>>) -> bool {
        let unsorted = bin.iter().filter(|file| self.is_unsorted(file));
        let unsorted: u64 = unsorted.map(|file| file.size).sum();
        if !self.unasked {
            return bin.len() > 1 || unsorted > 0 || bin.iter().any(|file| self.is_sparse(file));
        }
        if bin.len() >= FILES_UNASKED || unsorted >= UNSORTED_BYTES_UNASKED {
            return true;
        }
        bin.retain(|file| self.is_sparse(file));
        !bin.is_empty()
    }
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
