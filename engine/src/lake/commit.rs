//! Makes one new version of a table, exactly once.
//!
//! ```text
//! queue -> refresh -> preconditions -> put <version>.json if absent -> adopt the new snapshot
//!             ^                              | someone was faster, or the storage failed
//!             +------ is it ours already? <--+
//! ```
//!
//! A conditional put that the storage carried out but answered with an error looks like a
//! stranger's commit on the next try. So every commit carries a random id in its `commitInfo`, and
//! after any failure the entry at the version tried is read back and compared before anything else
//! happens. A writer's `txn` mark is checked against a fresh snapshot on every turn: it must stand
//! where the writer saw it, or already where the writer wants it, which means that this very batch
//! was committed earlier.
//!
//! One process commits to one table one at a time. Others are met at the conditional put: an append
//! goes on behind them; a removed file that is gone, changed columns or a moved `txn` mark is a
//! [`LakeError::Conflict`]. When the storage stays broken the error says so, and the entry may still
//! appear later: a `txn` mark makes the next attempt notice.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use boathouse_catalog::definitions::TableDefinition;
use bytes::Bytes;
use deltalake_core::kernel::transaction::TransactionError;
use deltalake_core::kernel::{Action, DeletionVectorDescriptor, Transaction};
use deltalake_core::logstore::CommitOrBytes;
use object_store::path::Path;
use roaring::RoaringTreemap;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::deletion::WrittenVectors;
use super::feed::Commit;
use super::snapshot::{DataFile, TableSnapshot};
use super::table::LakeTable;
use super::writer::{self, WrittenFile};
use super::{LakeError, features, metadata, statistics};
use crate::ingest::failpoint;

/// Turns taken before a commit gives up. With the pauses between them about half a minute.
const ATTEMPTS_MAX: usize = 12;

/// The key of a commit's id in its `commitInfo`.
const COMMIT_ID: &str = "boathouseCommit";

/// An application's mark: the version of `application` this commit brings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransactionMark {
    pub application: String,
    /// Where the mark stood when the writer began; the commit is refused when it moved since.
    pub expected: Option<i64>,
    pub version: i64,
}

/// New columns, comments or properties of a table.
#[derive(Debug, Clone)]
pub struct MetadataChange {
    pub schema_name: String,
    pub definition: TableDefinition,
}

/// What one commit does, all of it or nothing.
#[derive(Debug, Clone, Default)]
pub struct CommitRequest {
    /// What `system.table_history` calls it: `WRITE`, `STREAMING UPDATE`, `TRUNCATE`, `ADD COLUMN`.
    pub operation: String,
    /// Files to add.
    pub adds: Vec<WrittenFile>,
    /// Paths of live files to take out. Each must still be live.
    pub removes: Vec<String>,
    /// Take out every live file, whichever they are by then.
    pub removes_all: bool,
    /// Live files whose rows `adds` hold too, each as it was read: with the same deletion vector. The
    /// commit then changes no data.
    pub rewrites: BTreeMap<String, Option<DeletionVectorDescriptor>>,
    /// Live files whose rows `adds` hold too but for the deleted ones, each as it was read.
    pub replaces: BTreeMap<String, Option<DeletionVectorDescriptor>>,
    /// The version that was searched for the keys of the new rows: files added since may hold them too.
    pub keys_read: Option<Arc<TableSnapshot>>,
    /// Rows to delete by their position, of live files and of `adds`. Each must still be live.
    pub deletes: BTreeMap<String, Arc<RoaringTreemap>>,
    pub metadata: Option<MetadataChange>,
    pub transaction: Option<TransactionMark>,
    /// Marks of parts of the source, which move together with `transaction`.
    pub part_marks: Vec<TransactionMark>,
    /// Further facts for `commitInfo`: run, attempt, user.
    pub info: Map<String, Value>,
}

impl CommitRequest {
    /// Whether rows give way to new ones, which have the columns of the table's definition.
    fn rewrites_rows(&self) -> bool {
        let goes = !self.deletes.is_empty() || !self.replaces.is_empty();
        goes && !self.adds.is_empty()
    }

    /// Whether rows go that were there.
    fn takes_rows(&self) -> bool {
        self.removes_all
            || !(self.removes.is_empty() && self.deletes.is_empty() && self.replaces.is_empty())
    }
}

/// One's turn to commit to a table.
#[derive(Debug)]
pub struct CommitTurn(#[expect(dead_code, reason = "held")] tokio::sync::OwnedMutexGuard<()>);

/// A commit that has taken place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed {
    pub version: i64,
    /// The mark was there already: an earlier attempt at the same batch had succeeded. Whether it was
    /// made with the files of this request is not known, so they must not be deleted.
    pub earlier: bool,
}

impl LakeTable {
    /// Waits until nobody else of this process commits to the table, and keeps it so.
    pub async fn turn(&self) -> CommitTurn {
        CommitTurn(Arc::clone(&self.commit_queue).lock_owned().await)
    }

    /// Makes one new version. Waits for its turn in this process.
    pub async fn commit(&self, request: CommitRequest) -> Result<Committed, LakeError> {
        self.commit_in(&self.turn().await, request).await
    }

    /// The same in a turn of this table.
    pub async fn commit_in(
        &self,
        _turn: &CommitTurn,
        request: CommitRequest,
    ) -> Result<Committed, LakeError> {
        let commit_id = Uuid::new_v4();
        let mut pauses = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(50))
            .with_max_delay(Duration::from_secs(5))
            .with_max_times(ATTEMPTS_MAX)
            .with_jitter()
            .build();
        let base = self.refresh().await?;
        if self.is_dropped().await? {
            return Err(LakeError::Dropped {
                location: self.location(),
            });
        }
        let mut tried = None;
        let mut vectors = None;
        loop {
            let outcome = self
                .try_commit(&request, commit_id, &base, &mut tried, &mut vectors)
                .await;
            // Vectors of a commit that certainly did not take place. Those of an unknown one stay.
            if let (Err(Attempt::Refused(_) | Attempt::Overtaken), Some(unused)) =
                (&outcome, vectors.take())
            {
                writer::delete(&self.place.prefixed(), vec![unused]).await;
            }
            let error = match outcome {
                Ok(committed) => {
                    self.after_commit(committed.version).await;
                    return Ok(committed);
                }
                Err(Attempt::Refused(error)) => return Err(error),
                Err(Attempt::Overtaken) => LakeError::Conflict {
                    location: self.location(),
                    reason: "other writers were faster every time".into(),
                },
                Err(Attempt::Failed(error)) => error,
            };
            match pauses.next() {
                Some(pause) if error.is_retryable() => {
                    tracing::warn!(
                        table = %self.location(), %error, cause = ?std::error::Error::source(&error),
                        "commit attempt failed, trying again"
                    );
                    tokio::time::sleep(pause).await;
                }
                _ => return Err(error),
            }
        }
    }

    /// Fails when nothing can be committed to the table at all.
    pub async fn check_writable(&self) -> Result<(), LakeError> {
        let snapshot = self.refresh().await?;
        if self.is_dropped().await? {
            return Err(LakeError::Dropped {
                location: self.location(),
            });
        }
        features::check_writable(&snapshot.delta, &self.location(), false)
    }

    /// Fails when rows of the table cannot be written anew in the columns of its definition.
    pub async fn check_rewritable(&self) -> Result<(), LakeError> {
        self.check_writable().await?;
        self.refuse_foreign_column(&self.newest())
    }

    fn refuse_foreign_column(&self, snapshot: &TableSnapshot) -> Result<(), LakeError> {
        match metadata::foreign_column(&snapshot.delta) {
            None => Ok(()),
            Some(column) => Err(LakeError::Unsupported {
                location: self.location(),
                feature: format!(
                    "changing rows with a value in column \"{column}\", which another program added"
                ),
            }),
        }
    }

    async fn try_commit(
        &self,
        request: &CommitRequest,
        commit_id: Uuid,
        base: &TableSnapshot,
        tried: &mut Option<i64>,
        vectors: &mut Option<Path>,
    ) -> Result<Committed, Attempt> {
        let snapshot = self.refresh().await.map_err(Attempt::Failed)?;
        // A put whose outcome could not be read back may have come through meanwhile.
        if let Some(version) = *tried
            && snapshot.version() >= version
            && self.holds(version, commit_id).await?
        {
            return Ok(Committed {
                version,
                earlier: false,
            });
        }
        if let Some(mark) = &request.transaction {
            let current = snapshot
                .transaction(&mark.application)
                .await
                .map_err(Attempt::Failed)?;
            if current == Some(mark.version) && current != mark.expected {
                let version = snapshot.version();
                return Ok(Committed {
                    version,
                    earlier: true,
                });
            }
            if current != mark.expected {
                return Err(Attempt::Refused(self.moved_on(mark, current)));
            }
        }
        for mark in &request.part_marks {
            let current = snapshot
                .transaction(&mark.application)
                .await
                .map_err(Attempt::Failed)?;
            if current != mark.expected {
                return Err(Attempt::Refused(self.moved_on(mark, current)));
            }
        }
        if snapshot.schema() != base.schema()
            || snapshot.names() != base.names()
            || snapshot.partition_by() != base.partition_by()
        {
            return Err(Attempt::Refused(
                self.conflict("its columns were changed".into()),
            ));
        }
        if lacks_column(request, &snapshot) {
            return Err(Attempt::Refused(
                self.conflict("a column was added to it".into()),
            ));
        }
        features::check_writable(&snapshot.delta, &self.location(), request.takes_rows())
            .map_err(Attempt::Refused)?;
        if request.rewrites_rows() {
            self.refuse_foreign_column(&snapshot)
                .map_err(Attempt::Refused)?;
        }
        if let Some(read) = &request.keys_read
            && self.has_rows_since(&snapshot, read).await?
        {
            return Err(Attempt::Refused(self.conflict("rows were added".into())));
        }
        let deletions = self.deletions(request, &snapshot).await?;
        *vectors = deletions
            .vectors
            .as_ref()
            .map(|written| written.path.clone());
        let bytes = self
            .entry(request, commit_id, &snapshot, &deletions)
            .map_err(Attempt::Refused)?;
        let version = snapshot.version() + 1;
        *tried = Some(version);
        if deletions.vectors.is_some() {
            failpoint::hit("after_vectors");
        }
        failpoint::hit("before_commit");
        self.put(version, bytes, commit_id).await?;
        failpoint::hit("after_commit");
        Ok(Committed {
            version,
            earlier: false,
        })
    }

    /// Writes the log entry, and finds out what happened when the storage says it failed.
    async fn put(&self, version: i64, bytes: Bytes, commit_id: Uuid) -> Result<(), Attempt> {
        let number = u64::try_from(version).unwrap_or_default();
        let written = self
            .log_store
            .write_commit_entry(number, CommitOrBytes::LogBytes(bytes), commit_id)
            .await;
        let failure = match written {
            Ok(()) => return Ok(()),
            Err(failure) => failure,
        };
        let entry = self.log_store.read_commit_entry(number).await;
        match (entry, failure) {
            (Ok(Some(entry)), _) if is_ours(&entry, commit_id) => Ok(()),
            (Ok(Some(_)), _) => Err(Attempt::Overtaken),
            (Ok(None), TransactionError::VersionAlreadyExists(_)) => Err(Attempt::Overtaken),
            (Ok(None), failure) => Err(Attempt::Failed(LakeError::storage(
                "write a log entry",
                self.location(),
                failure,
            ))),
            (Err(_), failure) => Err(Attempt::Failed(LakeError::Unknown {
                location: self.location(),
                source: failure.into(),
            })),
        }
    }

    /// Whether the entry of a version is this commit.
    async fn holds(&self, version: i64, commit_id: Uuid) -> Result<bool, Attempt> {
        let number = u64::try_from(version).unwrap_or_default();
        match self.log_store.read_commit_entry(number).await {
            Ok(entry) => Ok(entry.is_some_and(|entry| is_ours(&entry, commit_id))),
            Err(error) => Err(Attempt::Failed(LakeError::Unknown {
                location: self.location(),
                source: error.into(),
            })),
        }
    }

    /// Whether a version has rows that an earlier one has not. A compaction adds none.
    async fn has_rows_since(
        &self,
        snapshot: &TableSnapshot,
        earlier: &TableSnapshot,
    ) -> Result<bool, Attempt> {
        if !has_files_since(snapshot, earlier) {
            return Ok(false);
        }
        for version in earlier.version() + 1..=snapshot.version() {
            let number = u64::try_from(version).unwrap_or_default();
            let entry = self.log_store.read_commit_entry(number).await;
            let entry = entry.map_err(|error| {
                Attempt::Failed(LakeError::storage("read the log", self.location(), error))
            })?;
            // An entry that is gone may have added anything.
            if entry.is_none_or(|entry| Commit::parse(version, &entry).adds_rows()) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Rows to delete, by the files they are in now: a compaction may have moved them.
    pub(super) fn moved(
        &self,
        deletes: &BTreeMap<String, Arc<RoaringTreemap>>,
        is_there: impl Fn(&str) -> bool,
    ) -> Result<BTreeMap<String, Arc<RoaringTreemap>>, LakeError> {
        let mut settled: BTreeMap<String, Arc<RoaringTreemap>> = BTreeMap::new();
        let mut open: Vec<(String, Arc<RoaringTreemap>)> = deletes
            .iter()
            .map(|(path, rows)| (path.clone(), Arc::clone(rows)))
            .collect();
        let moves = self
            .moves
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        while let Some((path, rows)) = open.pop() {
            if is_there(&path) {
                match settled.get_mut(&path) {
                    Some(known) => *Arc::make_mut(known) |= rows.as_ref(),
                    None => {
                        settled.insert(path, rows);
                    }
                }
                continue;
            }
            let now = moves.of(&path, &rows).ok_or_else(|| {
                self.conflict(format!("file \"{path}\" was removed or rewritten"))
            })?;
            open.extend(now.into_iter().map(|(path, rows)| (path, Arc::new(rows))));
        }
        Ok(settled)
    }

    /// Of the files to be rewritten that others deleted rows of since they were read, by path: where these
    /// rows are in the new files. A rewrite that did not keep the rows' order is left to fail.
    async fn deleted_late(
        &self,
        request: &CommitRequest,
        snapshot: &TableSnapshot,
    ) -> Result<BTreeMap<String, BTreeMap<String, RoaringTreemap>>, Attempt> {
        let mut late = BTreeMap::new();
        if request.rewrites.is_empty() {
            return Ok(late);
        }
        for file in snapshot.files() {
            let read = request.rewrites.get(&file.path);
            if read.is_none_or(|read| *read == file.deletion_vector) {
                continue;
            }
            let deleted = self.deleted_rows(file).await.map_err(Attempt::Failed)?;
            let moves = self
                .moves
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            let added = |path: &String| request.adds.iter().any(|file| file.path() == path);
            if let Some(rows) = moves.of_late(&file.path, &deleted)
                && rows.keys().all(added)
            {
                late.insert(file.path.clone(), rows);
            }
        }
        Ok(late)
    }

    /// Settles what becomes of the files that rows are deleted from. A file that another writer took
    /// out, or a row another writer deleted, is a conflict; other rows of the same file are not.
    async fn deletions(
        &self,
        request: &CommitRequest,
        snapshot: &TableSnapshot,
    ) -> Result<Deletions, Attempt> {
        let mut deletions = Deletions::default();
        let mut late = self.deleted_late(request, snapshot).await?;
        deletions.carried = late.keys().cloned().collect();
        if request.deletes.is_empty() && late.is_empty() {
            return Ok(deletions);
        }
        let live: HashMap<&str, &Arc<DataFile>> = snapshot
            .files()
            .iter()
            .map(|file| (file.path.as_str(), file))
            .collect();
        let mut vectors = BTreeMap::new();
        let added = |path: &str| request.adds.iter().find(|file| file.path() == path);
        let is_there = |path: &str| live.contains_key(path) || added(path).is_some();
        let deletes = self.moved(&request.deletes, is_there);
        let mut deletes = deletes.map_err(Attempt::Refused)?;
        for (path, rows) in std::mem::take(&mut late).into_values().flatten() {
            *Arc::make_mut(deletes.entry(path).or_default()) |= rows;
        }
        for (path, rows) in &deletes {
            let added = added(path);
            let (gone, stored) = match (added, live.get(path.as_str())) {
                (Some(added), _) => (Arc::default(), Some(added.rows)),
                (None, Some(file)) => {
                    let gone = self.deleted_rows(file).await.map_err(Attempt::Failed)?;
                    (gone, file.rows_stored)
                }
                (None, None) => {
                    return Err(Attempt::Refused(
                        self.conflict(format!("file \"{path}\" was removed")),
                    ));
                }
            };
            if !gone.is_disjoint(rows) {
                return Err(Attempt::Refused(
                    self.conflict("rows were changed or deleted".into()),
                ));
            }
            let gone = gone.as_ref() | rows.as_ref();
            if stored == Some(gone.len()) {
                deletions.emptied.insert(path.clone());
            } else {
                vectors.insert(path.clone(), gone);
            }
        }
        if !vectors.is_empty() {
            let written = self.write_vectors(vectors).await;
            deletions.vectors = Some(written.map_err(Attempt::Failed)?);
        }
        Ok(deletions)
    }

    /// The lines of the log entry.
    fn entry(
        &self,
        request: &CommitRequest,
        commit_id: Uuid,
        snapshot: &TableSnapshot,
        deletions: &Deletions,
    ) -> Result<Bytes, LakeError> {
        let failed = |error: serde_json::Error| LakeError::Encode {
            reason: error.to_string(),
        };
        let mut lines = vec![commit_info(
            &request.operation,
            Some(snapshot.version()),
            commit_id,
            metrics(request),
            &request.info,
        )];
        if let Some(change) = &request.metadata {
            let protocol = metadata::protocol_action(&change.definition, Some(&snapshot.delta))?;
            lines.extend(protocol);
            lines.push(metadata::action(
                &change.definition,
                &change.schema_name,
                Some(&snapshot.delta),
            )?);
        }
        if deletions.vectors.is_some() {
            metadata::allow_deletion_vectors(&snapshot.delta, &mut lines)?;
        }
        for mark in request.transaction.iter().chain(&request.part_marks) {
            let action = Action::Txn(Transaction::new(&mark.application, mark.version));
            lines.push(serde_json::to_value(action).map_err(failed)?);
        }
        let rewrites = request
            .rewrites
            .iter()
            .map(|(path, read)| (path, (read, false)));
        let replaces = request
            .replaces
            .iter()
            .map(|(path, read)| (path, (read, true)));
        let mut rewrites: BTreeMap<&String, _> = rewrites.chain(replaces).collect();
        let stats = snapshot.stats_of(deletions.vectors.as_ref())?;
        let mut missing = request
            .removes
            .iter()
            .collect::<std::collections::HashSet<_>>();
        for file in snapshot.files() {
            let vector = deletions.vector_of(&file.path);
            if let Some((read, changes_data)) = rewrites.remove(&file.path) {
                if *read != file.deletion_vector && !deletions.carried.contains(&file.path) {
                    return Err(
                        self.conflict(format!("rows of file \"{}\" were deleted", file.path))
                    );
                }
                let remove = Action::Remove(file.remove(changes_data));
                lines.push(serde_json::to_value(remove).map_err(failed)?);
                continue;
            }
            if missing.remove(&file.path) || request.removes_all {
                lines
                    .push(serde_json::to_value(Action::Remove(file.remove(true))).map_err(failed)?);
            } else if vector.is_some() || deletions.emptied.contains(&file.path) {
                lines
                    .push(serde_json::to_value(Action::Remove(file.remove(true))).map_err(failed)?);
                if let Some(vector) = vector {
                    let stats = stats.get(&file.path).cloned().flatten();
                    let again = file.add_again(stats, vector.clone());
                    lines.push(serde_json::to_value(Action::Add(again)).map_err(failed)?);
                }
            }
        }
        let mut gone = missing.into_iter().chain(rewrites.into_keys());
        if let Some(path) = gone.next() {
            return Err(self.conflict(format!("file \"{path}\" was removed")));
        }
        let mut text = Vec::new();
        for line in lines {
            serde_json::to_writer(&mut text, &line).map_err(failed)?;
            text.push(b'\n');
        }
        for file in &request.adds {
            if deletions.emptied.contains(file.path()) {
                continue;
            }
            let mut add = file.add.clone();
            if let Some(vector) = deletions.vector_of(file.path()) {
                add.deletion_vector = Some(vector.clone());
                add.stats = add.stats.as_deref().map(statistics::loosened);
            }
            serde_json::to_writer(&mut text, &Action::Add(add)).map_err(failed)?;
            text.push(b'\n');
        }
        Ok(text.into())
    }

    fn moved_on(&self, mark: &TransactionMark, current: Option<i64>) -> LakeError {
        self.conflict(format!(
            "\"{}\" stands at {}, expected {}",
            mark.application,
            shown(current),
            shown(mark.expected)
        ))
    }

    pub(super) fn conflict(&self, reason: String) -> LakeError {
        LakeError::Conflict {
            location: self.location(),
            reason,
        }
    }
}

/// What deleting rows makes of their files.
#[derive(Default)]
struct Deletions {
    vectors: Option<WrittenVectors>,
    /// Files that have no row left.
    emptied: HashSet<String>,
    /// Rewritten files whose rows that were deleted since they were read are deleted in the new ones too.
    carried: HashSet<String>,
}

impl Deletions {
    fn vector_of(&self, path: &str) -> Option<&DeletionVectorDescriptor> {
        self.vectors.as_ref()?.by_file.get(path)
    }
}

/// How one turn ended without a commit.
enum Attempt {
    /// Another turn cannot help.
    Refused(LakeError),
    /// Another writer took the version.
    Overtaken,
    /// The storage failed.
    Failed(LakeError),
}

/// Whether a version has files that an earlier one has not.
fn has_files_since(snapshot: &TableSnapshot, earlier: &TableSnapshot) -> bool {
    if snapshot.version() == earlier.version() {
        return false;
    }
    let known: HashSet<&str> = earlier
        .files()
        .iter()
        .map(|file| file.path.as_str())
        .collect();
    let mut files = snapshot.files().iter();
    files.any(|file| !known.contains(file.path.as_str()))
}

/// Whether a file of the request lacks a column that every file has values of. Such a one has a name of
/// its own in files, which whoever had heard of it writes.
fn lacks_column(request: &CommitRequest, snapshot: &TableSnapshot) -> bool {
    if request.adds.is_empty() || request.metadata.is_some() || !snapshot.names().differ() {
        return false;
    }
    let own = snapshot.schema().fields().iter().filter_map(|field| {
        let in_files = snapshot.names().of_column(field.name());
        let partitions = snapshot.partition_by().contains(field.name());
        (in_files != field.name() && !partitions).then_some(in_files)
    });
    let own: Vec<&str> = own.collect();
    let lacks = |file: &WrittenFile| {
        let mut own = own.iter();
        own.any(|name| file.columns.index_of(name).is_err())
    };
    request.adds.iter().any(lacks)
}

/// The `commitInfo` action.
pub(super) fn commit_info(
    operation: &str,
    read_version: Option<i64>,
    commit_id: Uuid,
    metrics: Value,
    info: &Map<String, Value>,
) -> Value {
    let mut body = json!({
        "timestamp": chrono::Utc::now().timestamp_millis(),
        "operation": operation,
        "operationParameters": {},
        "operationMetrics": metrics,
        "engineInfo": concat!("boathouse/", env!("CARGO_PKG_VERSION")),
        COMMIT_ID: commit_id.to_string(),
    });
    if let Value::Object(body) = &mut body {
        if let Some(version) = read_version {
            body.insert("readVersion".into(), json!(version));
        }
        for (name, value) in info {
            body.insert(name.clone(), value.clone());
        }
    }
    json!({ "commitInfo": body })
}

fn metrics(request: &CommitRequest) -> Value {
    let rows: u64 = request.adds.iter().map(|file| file.rows).sum();
    let bytes: u64 = request.adds.iter().map(|file| file.bytes).sum();
    // Delta keeps metrics as text.
    json!({
        "numFiles": request.adds.len().to_string(),
        "numOutputRows": rows.to_string(),
        "numOutputBytes": bytes.to_string(),
        "numRemovedFiles": request.removes.len().to_string(),
        "numDeletedRows": request.deletes.values().map(|rows| rows.len()).sum::<u64>().to_string(),
    })
}

fn is_ours(entry: &[u8], commit_id: Uuid) -> bool {
    let id = commit_id.to_string();
    entry.split(|byte| *byte == b'\n').any(|line| {
        serde_json::from_slice::<Value>(line)
            .is_ok_and(|action| action["commitInfo"][COMMIT_ID] == id.as_str())
    })
}

fn shown(version: Option<i64>) -> String {
    version.map_or_else(|| "nothing".to_owned(), |version| version.to_string())
}
