//! The rows that came and went between two versions, as the log tells it.
//!
//! ```text
//! log entry -> file added           -> its rows came
//!           -> file removed         -> its living rows went
//!           -> deletion vector grew -> the rows it names anew went
//!           -> no data changed      -> nothing
//! ```
//!
//! Each file of each commit becomes one entry of a Parquet scan: its rows by position, and the commit as
//! constant columns.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use arrow::datatypes::{FieldRef, Schema, SchemaRef};
use async_trait::async_trait;
use boathouse_catalog::types::ColumnType;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{ScalarValue, Statistics};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use deltalake_core::kernel::{Action, Add, DeletionVectorDescriptor, Remove};
use futures::StreamExt;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStoreExt};
use roaring::RoaringTreemap;
use serde_json::Value;

use super::provider::{Columns, Rows, parquet_scan, row_access};
use super::snapshot::DataFile;
use super::{AsOf, FileNames, LakeError, LakeTable, TableSnapshot, partition};

/// What a change is: `insert`, `delete`.
pub const CHANGE_TYPE_COLUMN: &str = "_change_type";
/// The column that says in which file a row is, as a path below the table's folder.
pub const ORIGIN_COLUMN: &str = "_file";

/// Log entries read at once.
const LOG_READS_MAX: usize = 8;

/// The version that brought it.
pub const COMMIT_VERSION_COLUMN: &str = "_commit_version";
/// When that was committed.
pub const COMMIT_TIMESTAMP_COLUMN: &str = "_commit_timestamp";

/// The changes of some versions, sorted by what is still to be found out about them.
pub struct ChangeFeed {
    /// Of versions in which rows only came or only went.
    pub plain: Arc<dyn TableProvider>,
    /// Of versions in which rows came and went, so that some may be the same row before and after.
    pub mixed: Arc<dyn TableProvider>,
    /// Of versions that wrote files anew, so that unchanged rows went and came.
    pub copied: Arc<dyn TableProvider>,
    /// The columns of the table at the last version.
    pub schema: SchemaRef,
    /// What the files call them.
    pub names: FileNames,
    /// The data files it reads.
    pub locations: Vec<Path>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Insert,
    Delete,
    /// Nothing happened: the row is in the file of this path.
    Live(String),
}

#[derive(Debug)]
struct FeedFile {
    location: Path,
    size: u64,
    modified_milliseconds: i64,
    partition: Vec<ScalarValue>,
    /// `None` for all of them.
    rows: Option<RoaringTreemap>,
    kind: Kind,
    version: Option<i64>,
    timestamp: Option<i64>,
}

/// A file as the log had it before a commit.
#[derive(Clone)]
struct Known {
    rows_stored: Option<u64>,
    size: u64,
    modified_milliseconds: i64,
    partition_text: HashMap<String, Option<String>>,
    vector: Option<DeletionVectorDescriptor>,
}

impl LakeTable {
    /// The changes that the versions `from` to `to` made, both included.
    pub async fn changes(
        self: &Arc<Self>,
        from: i64,
        to: &Arc<TableSnapshot>,
    ) -> Result<ChangeFeed, LakeError> {
        self.changes_until(from, to.version(), to).await
    }

    /// When a version was committed, in milliseconds since 1970; `None` where its log entry is gone or does not tell.
    pub async fn committed_at(&self, version: i64) -> Result<Option<i64>, LakeError> {
        let number = u64::try_from(version).unwrap_or_default();
        let entry = self.log_store.read_commit_entry(number).await;
        let entry =
            entry.map_err(|error| LakeError::storage("read the log", self.location(), error))?;
        Ok(entry.and_then(|entry| Commit::parse(version, &entry).timestamp))
    }

    /// Whether one of these data files is gone.
    pub async fn lacks_any(&self, locations: &[Path]) -> Result<bool, LakeError> {
        for location in locations {
            match self.place.root.head(location).await {
                Ok(_) => {}
                Err(object_store::Error::NotFound { .. }) => return Ok(true),
                Err(error) => {
                    return Err(LakeError::storage("find a file", self.location(), error));
                }
            }
        }
        Ok(false)
    }

    /// Where the data files of a version are.
    pub fn locations(&self, snapshot: &TableSnapshot) -> Vec<Path> {
        let files = snapshot.files().iter();
        files
            .map(|file| super::snapshot::path_below(&self.place.path, &file.path))
            .collect()
    }

    /// The changes that the versions `from` to `until` made, both included, with the columns of a version that may be
    /// a later one.
    pub async fn changes_until(
        self: &Arc<Self>,
        from: i64,
        until: i64,
        to: &Arc<TableSnapshot>,
    ) -> Result<ChangeFeed, LakeError> {
        let missing = |version| LakeError::NoSuchVersion {
            location: self.location(),
            version,
        };
        if from < 0 || from > to.version() {
            return Err(missing(from));
        }
        let mut known = HashMap::new();
        if from > 0 {
            let before = self.snapshot(Some(AsOf::Version(from - 1))).await?;
            for file in before.files() {
                known.insert(
                    file.path.clone(),
                    Known {
                        rows_stored: file.rows_stored,
                        size: file.size,
                        modified_milliseconds: file.modified_milliseconds,
                        partition_text: file.partition_text.clone(),
                        vector: file.deletion_vector.clone(),
                    },
                );
            }
        }
        let (mut plain, mut mixed, mut copied) = (Vec::new(), Vec::new(), Vec::new());
        for version in from..=until {
            let number = u64::try_from(version).unwrap_or_default();
            let entry = self
                .log_store
                .read_commit_entry(number)
                .await
                .map_err(|error| LakeError::storage("read the log", self.location(), error))?
                .ok_or_else(|| missing(version))?;
            let commit = Commit::parse(version, &entry);
            let copies = commit.copies();
            let files = self.files_of(commit, &mut known, to).await?;
            let has = |kind: &Kind| files.iter().any(|file| file.kind == *kind);
            let both = has(&Kind::Insert) && has(&Kind::Delete);
            match (both, copies) {
                (true, true) => copied.extend(files),
                (true, false) => mixed.extend(files),
                (false, _) => plain.extend(files),
            }
        }
        let files = [&plain, &mixed, &copied].into_iter().flatten();
        let locations: BTreeSet<Path> = files.map(|file| file.location.clone()).collect();
        Ok(ChangeFeed {
            locations: locations.into_iter().collect(),
            plain: self.feed(plain, to),
            mixed: self.feed(mixed, to),
            copied: self.feed(copied, to),
            schema: Arc::clone(to.schema()),
            names: to.names().clone(),
        })
    }

    /// The relation that reads a snapshot and says of every row in which file it is ([`ORIGIN_COLUMN`]), and which
    /// commit brought that file and when; NULL where the log no longer says.
    pub async fn origins(
        self: &Arc<Self>,
        snapshot: &Arc<TableSnapshot>,
    ) -> Result<Arc<dyn TableProvider>, LakeError> {
        let commits = self.commits_of_files().await?;
        let mut files = Vec::with_capacity(snapshot.files().len());
        for file in snapshot.files() {
            let gone = self.deleted_rows(file).await?;
            let (Some(stored), true) = (file.rows_stored, file.has_deleted()) else {
                files.push(self.live(file, None, commits.get(&file.path)));
                continue;
            };
            let mut rows = RoaringTreemap::new();
            rows.insert_range(0..stored);
            rows -= gone.as_ref();
            files.push(self.live(file, Some(rows), commits.get(&file.path)));
        }
        let mut fields = snapshot.schema().fields().to_vec();
        fields.extend(commit_fields(ORIGIN_COLUMN));
        Ok(Arc::new(FeedProvider {
            table: Arc::clone(self),
            snapshot: Arc::clone(snapshot),
            schema: Arc::new(Schema::new(fields)),
            first: ORIGIN_COLUMN,
            files,
        }))
    }

    fn live(
        &self,
        file: &DataFile,
        rows: Option<RoaringTreemap>,
        commit: Option<&(i64, Option<i64>)>,
    ) -> FeedFile {
        FeedFile {
            location: super::snapshot::path_below(&self.place.path, &file.path),
            size: file.size,
            modified_milliseconds: file.modified_milliseconds,
            partition: file.partition.clone(),
            rows,
            kind: Kind::Live(file.path.clone()),
            version: commit.map(|(version, _)| *version),
            timestamp: commit.and_then(|(_, timestamp)| *timestamp),
        }
    }

    /// The commits that the log still has, by the files they brought: version and time.
    async fn commits_of_files(&self) -> Result<HashMap<String, (i64, Option<i64>)>, LakeError> {
        let versions = self.log_versions().await?;
        let mut entries = futures::stream::iter(versions)
            .map(|version| async move {
                let number = u64::try_from(version).unwrap_or_default();
                let entry = self.log_store.read_commit_entry(number).await;
                entry.map(|entry| (version, entry))
            })
            .buffered(LOG_READS_MAX);
        let mut commits = HashMap::new();
        while let Some(entry) = entries.next().await {
            let (version, entry) = entry
                .map_err(|error| LakeError::storage("read the log", self.location(), error))?;
            let commit = Commit::parse(version, &entry.unwrap_or_default());
            for path in commit.adds.into_keys() {
                // One that comes back with another deletion vector was there before.
                if !commit.removes.contains_key(&path) {
                    commits.insert(path, (version, commit.timestamp));
                }
            }
        }
        Ok(commits)
    }

    /// What one commit did to the rows of its files.
    async fn files_of(
        &self,
        mut commit: Commit,
        known: &mut HashMap<String, Known>,
        to: &TableSnapshot,
    ) -> Result<Vec<FeedFile>, LakeError> {
        let mut files = Vec::new();
        let (version, timestamp) = (commit.version, commit.timestamp);
        let make = |path: &str, of: &Known, rows, kind| {
            let partition = to
                .partition_fields
                .iter()
                .map(|field| {
                    let text = of.partition_text.get(field.name());
                    let text = text.and_then(Option::as_deref);
                    partition::parse(text, field.data_type())
                })
                .collect::<Option<Vec<_>>>();
            let (Some(partition), Some(_)) = (partition, of.rows_stored) else {
                return Err(LakeError::Damaged {
                    location: self.location(),
                    reason: format!(
                        "the log of version {version} lacks facts about file \"{path}\""
                    ),
                });
            };
            Ok(FeedFile {
                location: super::snapshot::path_below(&self.place.path, path),
                size: of.size,
                modified_milliseconds: of.modified_milliseconds,
                partition,
                rows,
                kind,
                version: Some(version),
                timestamp,
            })
        };
        for (path, add) in commit.adds {
            let after = Known::of(&add);
            let gone_after = self.gone(after.vector.as_ref()).await?;
            let removed = commit.removes.remove(&path);
            let before = known.insert(path.clone(), after.clone());
            if !add.data_change {
                continue;
            }
            match (removed, before) {
                (Some(_), Some(before)) => {
                    let gone_before = self.gone(before.vector.as_ref()).await?;
                    let went = gone_after.as_ref() - gone_before.as_ref();
                    let came = gone_before.as_ref() - gone_after.as_ref();
                    for (rows, kind) in [(went, Kind::Delete), (came, Kind::Insert)] {
                        if !rows.is_empty() {
                            files.push(make(&path, &before, Some(rows), kind)?);
                        }
                    }
                }
                _ => {
                    let rows = living(&after, &gone_after);
                    files.push(make(&path, &after, rows, Kind::Insert)?);
                }
            }
        }
        for (path, remove) in commit.removes {
            let before = known.remove(&path);
            if !remove.data_change {
                continue;
            }
            let Some(before) = before else {
                continue;
            };
            let gone = self.gone(before.vector.as_ref()).await?;
            let rows = living(&before, &gone);
            files.push(make(&path, &before, rows, Kind::Delete)?);
        }
        Ok(files)
    }

    async fn gone(
        &self,
        vector: Option<&DeletionVectorDescriptor>,
    ) -> Result<Arc<RoaringTreemap>, LakeError> {
        match vector {
            Some(vector) => self.rows_of_vector(vector).await,
            None => Ok(Arc::default()),
        }
    }

    fn feed(
        self: &Arc<Self>,
        files: Vec<FeedFile>,
        to: &Arc<TableSnapshot>,
    ) -> Arc<dyn TableProvider> {
        let mut fields = to.schema().fields().to_vec();
        fields.extend(commit_fields(CHANGE_TYPE_COLUMN));
        Arc::new(FeedProvider {
            table: Arc::clone(self),
            snapshot: Arc::clone(to),
            schema: Arc::new(Schema::new(fields)),
            first: CHANGE_TYPE_COLUMN,
            files,
        })
    }
}

/// The rows of a file that a deletion vector does not name; `None` for all.
fn living(file: &Known, gone: &RoaringTreemap) -> Option<RoaringTreemap> {
    if gone.is_empty() {
        return None;
    }
    let mut rows = RoaringTreemap::new();
    rows.insert_range(0..file.rows_stored.unwrap_or(0));
    Some(rows - gone)
}

/// The columns that say which commit a change is of, or a row.
fn commit_fields(first: &str) -> [FieldRef; 3] {
    [
        (first, ColumnType::Text),
        (COMMIT_VERSION_COLUMN, ColumnType::BigInt),
        (COMMIT_TIMESTAMP_COLUMN, ColumnType::TimestampTz),
    ]
    .map(|(name, column_type)| Arc::new(column_type.to_field(name, true)))
}

impl Known {
    fn of(add: &Add) -> Self {
        let stats = add.stats.as_deref().unwrap_or_default();
        let stats: Value = serde_json::from_str(stats).unwrap_or_default();
        Self {
            rows_stored: stats["numRecords"].as_u64(),
            size: u64::try_from(add.size).unwrap_or_default(),
            modified_milliseconds: add.modification_time,
            partition_text: add.partition_values.clone(),
            vector: add.deletion_vector.clone(),
        }
    }
}

/// The files of a log entry, by their path below the table's folder.
pub(super) struct Commit {
    version: i64,
    timestamp: Option<i64>,
    adds: BTreeMap<String, Add>,
    removes: BTreeMap<String, Remove>,
}

impl Commit {
    pub fn parse(version: i64, entry: &[u8]) -> Self {
        let mut commit = Self {
            version,
            timestamp: None,
            adds: BTreeMap::new(),
            removes: BTreeMap::new(),
        };
        for line in entry.split(|byte| *byte == b'\n') {
            match serde_json::from_slice(line) {
                Ok(Action::Add(add)) => {
                    commit.adds.insert(decoded(&add.path), add);
                }
                Ok(Action::Remove(remove)) => {
                    commit.removes.insert(decoded(&remove.path), remove);
                }
                Ok(Action::CommitInfo(info)) => commit.timestamp = info.timestamp,
                _ => {}
            }
        }
        commit
    }

    /// Whether it has rows that were not there before.
    pub fn adds_rows(&self) -> bool {
        let new =
            |(path, add): (&String, &Add)| add.data_change && !self.removes.contains_key(path);
        self.adds.iter().any(new)
    }

    /// Whether files were written anew: whole ones went, and others came.
    fn copies(&self) -> bool {
        let whole = |(path, remove): (&String, &Remove)| {
            remove.data_change && !self.adds.contains_key(path)
        };
        self.removes.iter().any(whole)
    }
}

fn decoded(path: &str) -> String {
    Path::from_url_path(path).map_or_else(|_| path.to_owned(), |path| path.to_string())
}

#[derive(Debug)]
struct FeedProvider {
    table: Arc<LakeTable>,
    snapshot: Arc<TableSnapshot>,
    schema: SchemaRef,
    /// The first of the columns beside the table's.
    first: &'static str,
    files: Vec<FeedFile>,
}

impl FeedFile {
    async fn partitioned(
        &self,
        table: &LakeTable,
        state: &dyn Session,
    ) -> datafusion::common::Result<PartitionedFile> {
        let meta = ObjectMeta {
            location: self.location.clone(),
            last_modified: chrono::DateTime::from_timestamp_millis(self.modified_milliseconds)
                .unwrap_or_default(),
            size: self.size,
            e_tag: None,
            version: None,
        };
        let mut file = PartitionedFile::new_from_meta(meta.clone());
        let kind = match &self.kind {
            Kind::Insert => "insert",
            Kind::Delete => "delete",
            Kind::Live(path) => path,
        };
        let timestamp = self.timestamp.map(|milliseconds| milliseconds * 1000);
        file.partition_values.clone_from(&self.partition);
        file.partition_values.extend([
            ScalarValue::Utf8(Some(kind.into())),
            ScalarValue::Int64(self.version),
            ScalarValue::TimestampMicrosecond(timestamp, Some("UTC".into())),
        ]);
        if let Some(rows) = &self.rows {
            file = file.with_extension(row_access(table, state, &meta, &Rows::Only(rows)).await?);
        }
        Ok(file)
    }
}

#[async_trait]
impl TableProvider for FeedProvider {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> datafusion::common::Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> datafusion::common::Result<Arc<dyn ExecutionPlan>> {
        let mut partition_fields = self.snapshot.partition_fields.clone();
        partition_fields.extend(commit_fields(self.first));
        let table_schema = TableSchema::builder(Arc::clone(&self.snapshot.file_schema))
            .with_table_partition_cols(partition_fields)
            .build();
        let scan_schema = Arc::clone(table_schema.table_schema());
        let names = self.snapshot.names();
        let columns = Columns::new(names, &self.schema, projection, &scan_schema)?;
        if self.files.is_empty() {
            return Ok(Arc::new(EmptyExec::new(columns.projected)));
        }
        let mut files = Vec::with_capacity(self.files.len());
        for file in &self.files {
            files.push(file.partitioned(&self.table, state).await?);
        }
        let statistics = Statistics::new_unknown(&scan_schema);
        parquet_scan(
            &self.table,
            state,
            table_schema,
            (files, statistics),
            &columns,
            (&columns.in_files(filters)?, limit),
        )
    }
}
