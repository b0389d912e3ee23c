//! One table of the lake: its newest snapshot, its history, its way in and out.
//!
//! The newest snapshot is cached and brought up to date before use with one request: is there an
//! entry for the next version? Only when there is one is the log read further. A checkpoint is
//! written every [`CHECKPOINT_EVERY`] versions by whoever made that version, who also deletes log entries
//! that are too old; losing one costs time, never rows.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use arrow::datatypes::SchemaRef;
use deltalake_core::DeltaTable;
use deltalake_core::kernel::EagerSnapshot;
use deltalake_core::logstore::{LogStoreRef, commit_uri_from_version};
use deltalake_core::table::config::TablePropertiesExt;
use deltalake_core::table::state::DeltaTableState;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use serde_json::Value;

use super::deletion::{self, VectorCache};
use super::files::FileSettings;
use super::key_index::{IndexBudget, KeyIndex};
use super::moves::Moves;
use super::snapshot::{InUse, TableSnapshot};
use super::store::StoreLocation;
use super::writer::{self, AppendWriter, WriterOptions, WrittenFile};
use super::{CommitRequest, CommitTurn, Committed, FileNames, LakeError, MetadataChange, features};

const CHECKPOINT_EVERY: i64 = 100;
const CHECKPOINT_INTERVAL: &str = "delta.checkpointInterval";

/// Log entries read at once for the history.
const HISTORY_READS_MAX: usize = 8;

/// Which version of a table is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AsOf {
    Version(i64),
    /// The newest version not younger than this many milliseconds since 1970.
    Timestamp(i64),
}

/// One version of a table, as its log tells it.
#[derive(Debug, Clone)]
pub struct HistoryEntry {
    pub version: i64,
    /// Milliseconds since 1970.
    pub timestamp: Option<i64>,
    pub operation: Option<String>,
    pub engine: Option<String>,
    pub rows_added: Option<i64>,
    pub files_added: i64,
    pub files_removed: i64,
    pub bytes_added: i64,
    /// Everything the writer said in `commitInfo`.
    pub info: Value,
}

/// One table of the lake. Shared by everyone who uses the table in this process.
pub struct LakeTable {
    pub(super) place: StoreLocation,
    pub(super) log_store: LogStoreRef,
    newest: Mutex<Arc<TableSnapshot>>,
    /// Whoever refreshes holds it, so that a crowd of queries reads the log once.
    refreshing: tokio::sync::Mutex<()>,
    pub(super) commit_queue: Arc<tokio::sync::Mutex<()>>,
    /// Whoever holds it is the only one of this process to rewrite files whose rows stay. Never waited for
    /// in a turn to commit.
    pub(super) rewriting: Arc<tokio::sync::Mutex<()>>,
    pub(super) vectors: VectorCache,
    pub(super) moves: Mutex<Moves>,
    /// When it was last used, in uses of all tables.
    pub(super) used: AtomicU64,
    /// Versions that queries may be reading.
    in_use: Mutex<Vec<Weak<InUse>>>,
    /// By the columns of the key.
    pub(super) indexes: Mutex<HashMap<Vec<String>, Arc<KeyIndex>>>,
    pub(super) budget: Arc<IndexBudget>,
}

/// What all tables of a lake share.
#[derive(Debug, Clone)]
pub(super) struct Shared {
    pub vectors: VectorCache,
    pub budget: Arc<IndexBudget>,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            vectors: deletion::vector_cache(),
            budget: Arc::default(),
        }
    }
}

impl std::fmt::Debug for LakeTable {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_tuple("LakeTable")
            .field(&self.place.url.as_str())
            .finish()
    }
}

impl LakeTable {
    /// Opens a table by reading its log.
    pub(super) async fn open(place: StoreLocation, shared: Shared) -> Result<Arc<Self>, LakeError> {
        let log_store = place.log_store();
        let newest = load(&log_store, None).await?;
        let in_use = Arc::downgrade(&newest.in_use);
        Ok(Arc::new(Self {
            place,
            log_store,
            newest: Mutex::new(Arc::new(newest)),
            refreshing: tokio::sync::Mutex::default(),
            commit_queue: Arc::default(),
            rewriting: Arc::default(),
            vectors: shared.vectors,
            moves: Mutex::default(),
            used: AtomicU64::default(),
            in_use: Mutex::new(vec![in_use]),
            indexes: Mutex::default(),
            budget: shared.budget,
        }))
    }

    /// The table's folder, for messages.
    pub fn location(&self) -> String {
        self.place.url.to_string()
    }

    pub(super) fn newest(&self) -> Arc<TableSnapshot> {
        Arc::clone(&self.newest.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Bytes, as reckoned, that the newest snapshot holds.
    pub(super) fn bytes(&self) -> usize {
        self.newest().bytes()
    }

    /// The newest snapshot known, without looking whether there is a newer one.
    pub fn cached(&self) -> Arc<TableSnapshot> {
        self.newest()
    }

    /// The newest version, or an older one.
    pub async fn snapshot(&self, at: Option<AsOf>) -> Result<Arc<TableSnapshot>, LakeError> {
        match at {
            None => self.refresh().await,
            Some(AsOf::Version(version)) => self.at_version(version).await,
            Some(AsOf::Timestamp(timestamp)) => {
                let version = self.version_at(timestamp).await?;
                self.at_version(version).await
            }
        }
    }

    async fn at_version(&self, version: i64) -> Result<Arc<TableSnapshot>, LakeError> {
        let newest = self.refresh().await?;
        if newest.version() == version {
            return Ok(newest);
        }
        let missing = || LakeError::NoSuchVersion {
            location: self.location(),
            version,
        };
        let number = u64::try_from(version).map_err(|_| missing())?;
        if version > newest.version() {
            return Err(missing());
        }
        match load(&self.log_store, Some(number)).await {
            Ok(snapshot) if snapshot.version() == version => {
                self.note_use(&snapshot);
                Ok(Arc::new(snapshot))
            }
            Ok(_) | Err(LakeError::NotATable { .. }) => Err(missing()),
            Err(error) => Err(error),
        }
    }

    /// The newest version committed at or before a point in time.
    async fn version_at(&self, timestamp: i64) -> Result<i64, LakeError> {
        let entries = self.history(None).await?;
        entries
            .iter()
            .find(|entry| {
                entry
                    .timestamp
                    .is_some_and(|committed| committed <= timestamp)
            })
            .map(|entry| entry.version)
            .ok_or_else(|| LakeError::NoSuchTimestamp {
                location: self.location(),
                timestamp: chrono::DateTime::from_timestamp_millis(timestamp)
                    .map_or_else(|| timestamp.to_string(), |time| time.to_rfc3339()),
            })
    }

    /// Brings the newest snapshot up to date.
    pub(super) async fn refresh(&self) -> Result<Arc<TableSnapshot>, LakeError> {
        let before = self.newest();
        if !self.has_entry(before.version() + 1).await? {
            return Ok(before);
        }
        let _turn = self.refreshing.lock().await;
        let before = self.newest();
        let mut state = DeltaTableState::new(before.delta.clone());
        let log_store = Arc::clone(&self.log_store);
        state
            .update(log_store.as_ref(), None)
            .await
            .map_err(|error| LakeError::storage("read the log", self.location(), error))?;
        let delta = state.snapshot().clone();
        if delta.version() == before.delta.version() {
            return Ok(before);
        }
        let after = tokio::task::spawn_blocking({
            let before = Arc::clone(&before);
            move || TableSnapshot::new(delta, log_store, Some(&before))
        })
        .await
        .map_err(|error| LakeError::storage("read the log", self.location(), error))??;
        let after = Arc::new(after);
        self.note_use(&after);
        *self.newest.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&after);
        Ok(after)
    }

    fn note_use(&self, snapshot: &TableSnapshot) {
        let mut in_use = self.in_use.lock().unwrap_or_else(PoisonError::into_inner);
        in_use.retain(|version| version.strong_count() > 0);
        in_use.push(Arc::downgrade(&snapshot.in_use));
    }

    /// The versions that queries of this process may be reading.
    pub(super) fn versions_in_use(&self) -> BTreeSet<i64> {
        let in_use = self.in_use.lock().unwrap_or_else(PoisonError::into_inner);
        let versions = in_use.iter().filter_map(Weak::upgrade);
        versions.map(|version| version.0).collect()
    }

    async fn has_entry(&self, version: i64) -> Result<bool, LakeError> {
        self.has_object(&commit_uri_from_version(u64::try_from(version).ok()))
            .await
    }

    /// Whether the table was dropped, perhaps by another process. Its log is then gone, and a commit
    /// would succeed without anybody ever seeing its rows.
    pub(super) async fn is_dropped(&self) -> Result<bool, LakeError> {
        self.has_object(&Path::from(super::DROPPED)).await
    }

    async fn has_object(&self, path: &Path) -> Result<bool, LakeError> {
        match self.log_store.object_store(None).head(path).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(LakeError::storage("read the log", self.location(), error)),
        }
    }

    /// Where DataFusion finds the table's files.
    pub(super) fn store(&self) -> (Arc<dyn ObjectStore>, Path) {
        (Arc::clone(&self.place.root), self.place.path.clone())
    }

    /// A writer of new data files with the columns of `schema` (the table's, or the table's with
    /// the new columns that the same commit will add).
    pub fn writer(
        &self,
        schema: SchemaRef,
        (partition_by, names): (&[String], &FileNames),
        options: WriterOptions,
    ) -> Result<AppendWriter, LakeError> {
        let store = self.place.prefixed();
        let settings = FileSettings::of(&self.newest(), &schema);
        AppendWriter::new(store, schema, (partition_by, names), &settings, options)
    }

    /// Deletes files that were written and never committed. Best effort.
    pub async fn discard(&self, files: Vec<WrittenFile>) {
        let paths = files
            .iter()
            .filter_map(|file| Path::parse(file.path()).ok())
            .collect::<Vec<_>>();
        writer::delete(&self.place.prefixed(), paths).await;
    }

    /// Changes columns, comments or properties.
    pub async fn change_metadata(
        &self,
        operation: &str,
        change: MetadataChange,
        turn: &CommitTurn,
    ) -> Result<Committed, LakeError> {
        let request = CommitRequest {
            operation: operation.to_owned(),
            metadata: Some(change),
            ..CommitRequest::default()
        };
        self.commit_in(turn, request).await
    }

    /// Follows a commit: adopts it, and writes a checkpoint when it is time. Failing costs time only.
    pub(super) async fn after_commit(&self, version: i64) {
        if let Err(error) = self.refresh().await {
            tracing::warn!(table = %self.location(), %error, "could not read back a commit");
        }
        if version % self.checkpoint_interval() == 0
            && version > 0
            && let Err(error) = self.checkpoint(version).await
        {
            tracing::warn!(table = %self.location(), %error, "could not write a checkpoint");
        }
    }

    /// Versions from one checkpoint to the next: Delta's property, or [`CHECKPOINT_EVERY`].
    fn checkpoint_interval(&self) -> i64 {
        let newest = self.newest();
        let property = newest
            .delta
            .metadata()
            .configuration()
            .get(CHECKPOINT_INTERVAL);
        let versions = property.and_then(|value| value.parse().ok());
        versions
            .filter(|versions| *versions > 0)
            .unwrap_or(CHECKPOINT_EVERY)
    }

    /// Writes a checkpoint, and deletes the log entries before the one that the table's retention of its
    /// log (30 days unless its properties say otherwise) still needs.
    async fn checkpoint(&self, version: i64) -> Result<(), LakeError> {
        let failed = |error: deltalake_core::DeltaTableError| {
            LakeError::storage("write a checkpoint", self.location(), error)
        };
        let mut table = DeltaTable::new(Arc::clone(&self.log_store));
        table
            .load_version(u64::try_from(version).unwrap_or_default())
            .await
            .map_err(failed)?;
        deltalake_core::checkpoints::create_checkpoint(&table, None)
            .await
            .map_err(failed)?;
        let state = table.snapshot().map_err(failed)?;
        if state.table_config().enable_expired_log_cleanup() {
            deltalake_core::checkpoints::cleanup_metadata(&table, None)
                .await
                .map_err(failed)?;
        }
        Ok(())
    }

    /// The versions whose log entries still exist, oldest first.
    pub(super) async fn log_versions(&self) -> Result<Vec<i64>, LakeError> {
        let store = self.log_store.object_store(None);
        let mut versions: Vec<i64> = store
            .list(Some(&Path::from("_delta_log")))
            .try_filter_map(async |object| Ok(version_of(&object.location)))
            .try_collect()
            .await
            .map_err(|error| LakeError::storage("list the log", self.location(), error))?;
        versions.sort_unstable();
        Ok(versions)
    }

    /// The first of these versions whose log entry does not exist.
    pub async fn first_missing(&self, first: i64, last: i64) -> Result<Option<i64>, LakeError> {
        let versions: BTreeSet<i64> = self.log_versions().await?.into_iter().collect();
        Ok((first..=last).find(|version| !versions.contains(version)))
    }

    /// The versions of the table whose log entries still exist, newest first.
    pub async fn history(&self, limit: Option<usize>) -> Result<Vec<HistoryEntry>, LakeError> {
        let newest = self.refresh().await?.version();
        let limit = limit.unwrap_or(usize::MAX);
        let mut versions = self.log_versions().await?;
        versions.retain(|version| *version <= newest);
        versions.reverse();
        versions.truncate(limit);
        futures::stream::iter(versions)
            .map(|version| async move {
                let number = u64::try_from(version).unwrap_or_default();
                let entry = self
                    .log_store
                    .read_commit_entry(number)
                    .await
                    .map_err(|error| LakeError::storage("read the log", self.location(), error))?;
                Ok(entry.map(|bytes| history_entry(version, &bytes)))
            })
            .buffered(HISTORY_READS_MAX)
            .try_filter_map(async |entry| Ok(entry))
            .try_collect()
            .await
    }
}

async fn load(log_store: &LogStoreRef, version: Option<u64>) -> Result<TableSnapshot, LakeError> {
    let location = log_store.root_url().to_string();
    let delta = EagerSnapshot::try_new(log_store.as_ref(), version)
        .await
        .map_err(|error| match error {
            deltalake_core::DeltaTableError::NotATable(_)
            | deltalake_core::DeltaTableError::InvalidTableLocation(_) => LakeError::NotATable {
                location: location.clone(),
            },
            deltalake_core::DeltaTableError::ObjectStore {
                source: object_store::Error::NotFound { .. },
            } => LakeError::NotATable {
                location: location.clone(),
            },
            deltalake_core::DeltaTableError::KernelError(error) => {
                match features::of_kernel_error(&error) {
                    Some(feature) => LakeError::Unsupported {
                        location: location.clone(),
                        feature,
                    },
                    None => LakeError::storage("read the log", location.clone(), error),
                }
            }
            other => LakeError::storage("read the log", location.clone(), other),
        })?;
    let log_store = Arc::clone(log_store);
    tokio::task::spawn_blocking(move || TableSnapshot::new(delta, log_store, None))
        .await
        .map_err(|error| LakeError::storage("read the log", location, error))?
}

/// The version whose commit a log file is, if it is one.
pub(super) fn version_of(path: &Path) -> Option<i64> {
    let name = path.filename()?.strip_suffix(".json")?;
    (name.len() == 20).then(|| name.parse().ok()).flatten()
}

fn history_entry(version: i64, bytes: &[u8]) -> HistoryEntry {
    let mut entry = HistoryEntry {
        version,
        timestamp: None,
        operation: None,
        engine: None,
        rows_added: Some(0),
        files_added: 0,
        files_removed: 0,
        bytes_added: 0,
        info: Value::Null,
    };
    let lines = bytes.split(|byte| *byte == b'\n');
    let actions: Vec<Value> = lines
        .filter_map(|line| serde_json::from_slice(line).ok())
        .collect();
    let paths = |kind| {
        let paths = actions
            .iter()
            .filter_map(move |action| action[kind]["path"].as_str());
        paths.collect::<HashSet<&str>>()
    };
    // A file that goes and comes in one commit has lost or got back rows, and is no new file.
    let (adds, removes) = (paths("add"), paths("remove"));
    let stays = |action: &Value| {
        let path = action["path"].as_str();
        path.is_some_and(|path| adds.contains(path) && removes.contains(path))
    };
    for action in &actions {
        if let Some(info) = action.get("commitInfo") {
            entry.timestamp = info["timestamp"].as_i64();
            entry.operation = info["operation"].as_str().map(str::to_owned);
            entry.engine = info["engineInfo"].as_str().map(str::to_owned);
            entry.info = info.clone();
        } else if let Some(add) = action.get("add").filter(|add| !stays(add)) {
            entry.files_added += 1;
            entry.bytes_added += add["size"].as_i64().unwrap_or_default();
            let rows = add["stats"]
                .as_str()
                .and_then(|stats| serde_json::from_str::<Value>(stats).ok())
                .and_then(|stats| stats["numRecords"].as_i64());
            entry.rows_added = entry.rows_added.zip(rows).map(|(sum, rows)| sum + rows);
        } else if action.get("remove").is_some_and(|remove| !stays(remove)) {
            entry.files_removed += 1;
        }
    }
    entry
}
