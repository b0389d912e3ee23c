//! A table as of one version: its columns, its files, its row count, who committed what last.
//!
//! A snapshot never changes. The files of the next version are mostly those of the one before, so
//! their parsed statistics are shared between snapshots.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use boathouse_catalog::definitions::TableDefinition;
use boathouse_catalog::types::ColumnType;
use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, ScalarValue, Statistics};
use delta_kernel::expressions::{Scalar, StructData};
use deltalake_core::kernel::{
    Add, DeletionVectorDescriptor, EagerSnapshot, LogicalFileView, Remove, StorageType,
};
use deltalake_core::logstore::LogStoreRef;
use object_store::path::Path;
use roaring::RoaringTreemap;

use super::deletion::WrittenVectors;
use super::structured::{is_structured, scanned_type};
use super::{FileNames, LakeError, WrittenFile, features, metadata, partition, statistics};

/// One live data file.
#[derive(Debug)]
pub struct DataFile {
    /// Below the table's folder, as the store spells it.
    pub path: String,
    pub size: u64,
    pub modified_milliseconds: i64,
    /// Rows stored in the file, deleted ones included.
    pub rows_stored: Option<u64>,
    pub rows_deleted: u64,
    /// Values of the partition columns, in their order.
    pub(super) partition: Vec<ScalarValue>,
    pub(super) partition_text: HashMap<String, Option<String>>,
    pub(super) deletion_vector: Option<DeletionVectorDescriptor>,
    /// Rows that an open transaction has deleted; never so in a committed snapshot.
    pub(super) deleted_here: Option<Arc<RoaringTreemap>>,
    tags: HashMap<String, Option<String>>,
    /// Of the file columns, then the partition columns.
    pub(super) statistics: Arc<Statistics>,
}

impl DataFile {
    /// Live rows, when the log says.
    pub fn rows(&self) -> Option<u64> {
        self.rows_stored
            .map(|rows| rows.saturating_sub(self.rows_deleted))
    }

    /// A mark its writer put on the file.
    pub fn tag(&self, name: &str) -> Option<&str> {
        self.tags.get(name)?.as_deref()
    }

    /// All marks on the file.
    pub fn tags(&self) -> BTreeMap<String, String> {
        let tags = self.tags.iter();
        tags.filter_map(|(name, value)| Some((name.clone(), value.clone()?)))
            .collect()
    }

    /// The file with more of its rows deleted.
    fn without(&self, rows: &Arc<RoaringTreemap>) -> Self {
        let rows_deleted = self.rows_deleted.saturating_add(rows.len());
        let mut statistics = Statistics::clone(&self.statistics).to_inexact();
        let before = self.rows().and_then(|rows| usize::try_from(rows).ok());
        let left = self
            .rows_stored
            .and_then(|stored| usize::try_from(stored.saturating_sub(rows_deleted)).ok());
        statistics.num_rows = left.map_or(Precision::Absent, Precision::Exact);
        for column in &mut statistics.column_statistics {
            let nulls = column.null_count.get_value().copied();
            column.null_count = nulls_left(nulls, before, left);
        }
        Self {
            rows_deleted,
            deleted_here: Some(Arc::clone(rows)),
            ..self.with_statistics(Arc::new(statistics))
        }
    }

    fn with_statistics(&self, statistics: Arc<Statistics>) -> Self {
        Self {
            path: self.path.clone(),
            size: self.size,
            modified_milliseconds: self.modified_milliseconds,
            rows_stored: self.rows_stored,
            rows_deleted: self.rows_deleted,
            partition: self.partition.clone(),
            partition_text: self.partition_text.clone(),
            deletion_vector: self.deletion_vector.clone(),
            deleted_here: self.deleted_here.clone(),
            tags: self.tags.clone(),
            statistics,
        }
    }

    /// Whether the file has rows that are gone.
    pub(super) fn has_deleted(&self) -> bool {
        self.deletion_vector.is_some() || self.deleted_here.is_some()
    }

    /// The action that brings the file back with another deletion vector. Its statistics stay: their
    /// bounds hold for fewer rows too.
    pub(super) fn add_again(&self, stats: Option<String>, vector: DeletionVectorDescriptor) -> Add {
        Add {
            path: self.path.clone(),
            partition_values: self.partition_text.clone(),
            size: i64::try_from(self.size).unwrap_or(i64::MAX),
            modification_time: self.modified_milliseconds,
            data_change: true,
            stats,
            tags: (!self.tags.is_empty()).then(|| self.tags.clone()),
            deletion_vector: Some(vector),
            ..Default::default()
        }
    }

    /// The action that takes the file out of the table.
    pub(super) fn remove(&self, data_change: bool) -> Remove {
        Remove {
            path: self.path.clone(),
            data_change,
            deletion_timestamp: Some(chrono::Utc::now().timestamp_millis()),
            extended_file_metadata: Some(true),
            partition_values: Some(self.partition_text.clone()),
            size: i64::try_from(self.size).ok(),
            deletion_vector: self.deletion_vector.clone(),
            ..Default::default()
        }
    }
}

/// What an open transaction has done to the rows of one table.
#[derive(Debug, Clone, Default)]
pub struct Uncommitted {
    /// New files, in the order they were written.
    pub files: Arc<Vec<WrittenFile>>,
    /// Rows deleted by their position, of committed and of new files.
    pub deleted: BTreeMap<String, Arc<RoaringTreemap>>,
    /// Every committed file is gone.
    pub removes_all: bool,
    /// The committed version that was first searched for the keys of new rows.
    pub keys_read: Option<Arc<TableSnapshot>>,
}

impl Uncommitted {
    pub fn is_empty(&self) -> bool {
        self.files.is_empty() && self.deleted.is_empty() && !self.removes_all
    }
}

/// Where the columns of a table are found.
struct Layout {
    schema: SchemaRef,
    file_schema: SchemaRef,
    partition_fields: Vec<FieldRef>,
}

impl Layout {
    /// Fails with the name of a partition column that is none of `columns`.
    fn new(
        columns: Vec<FieldRef>,
        partition_by: &[String],
        (names, structured): (&FileNames, &BTreeMap<String, DataType>),
    ) -> Result<Self, String> {
        let in_files = |field: &FieldRef| {
            let name = names.of_column(field.name());
            match structured.get(name) {
                Some(data_type) => Arc::new(Field::new(name, data_type.clone(), true)),
                None if name == field.name() => Arc::clone(field),
                None => Arc::new(Field::clone(field).with_name(name)),
            }
        };
        let in_file = |field: &&FieldRef| !partition_by.contains(field.name());
        let file_fields: Vec<FieldRef> = columns.iter().filter(in_file).map(in_files).collect();
        let partition_fields = partition_by
            .iter()
            .map(|name| {
                let mut columns = columns.iter();
                let column = columns.find(|field| field.name() == name);
                column.map(in_files).ok_or_else(|| name.clone())
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            schema: Arc::new(Schema::new(columns)),
            file_schema: Arc::new(Schema::new(file_fields)),
            partition_fields,
        })
    }

    fn scanned(file_schema: &Schema, partition_fields: &[FieldRef]) -> Schema {
        let fields = file_schema.fields().iter().chain(partition_fields);
        Schema::new(fields.cloned().collect::<Vec<_>>())
    }
}

/// A table as of one version.
pub struct TableSnapshot {
    version: i64,
    /// Table column order, in-memory types; every column nullable, for other writers share files.
    schema: SchemaRef,
    partition_by: Vec<String>,
    /// What files hold, then what partition values say: the order a scan works in. Columns are called as
    /// in the files.
    pub(super) file_schema: SchemaRef,
    pub(super) partition_fields: Vec<FieldRef>,
    names: FileNames,
    /// The types in files of what is read as JSON, by what files call it.
    structured: Arc<BTreeMap<String, DataType>>,
    files: Vec<Arc<DataFile>>,
    pub(super) delta: EagerSnapshot,
    pub(super) log_store: LogStoreRef,
    /// Whether it is what the log says, with all files and nothing of a transaction.
    pub(super) is_committed: bool,
    /// Alive as long as somebody may still read this version.
    pub(super) in_use: Arc<InUse>,
}

/// A version that somebody may still read.
#[derive(Debug)]
pub(super) struct InUse(pub i64);

impl std::fmt::Debug for TableSnapshot {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("TableSnapshot")
            .field("version", &self.version)
            .field("files", &self.files.len())
            .finish_non_exhaustive()
    }
}

impl TableSnapshot {
    pub(super) fn new(
        delta: EagerSnapshot,
        log_store: LogStoreRef,
        before: Option<&TableSnapshot>,
    ) -> Result<Self, LakeError> {
        let location = log_store.root_url().to_string();
        features::check_readable(delta.protocol(), &location)?;
        let columns: Vec<FieldRef> = delta
            .arrow_schema()
            .fields()
            .iter()
            .map(|field| Arc::new(logical_field(field)))
            .collect();
        let partition_by: Vec<String> = delta
            .metadata()
            .partition_columns()
            .iter()
            .map(ToString::to_string)
            .collect();
        let names = FileNames::of_log(&delta, &location)?;
        let arrow_schema = delta.arrow_schema();
        let structured = arrow_schema.fields().iter();
        let structured = structured.filter(|field| is_structured(field.data_type()));
        let structured = structured.map(|field| {
            let name = names.of_column(field.name()).to_owned();
            (name, scanned_type(field.data_type()))
        });
        let structured = structured.collect();
        let layout =
            Layout::new(columns, &partition_by, (&names, &structured)).map_err(|name| {
                LakeError::Damaged {
                    location: location.clone(),
                    reason: format!("partition column \"{name}\" is not in its schema"),
                }
            })?;
        let version = i64::try_from(delta.version()).unwrap_or(i64::MAX);
        let mut snapshot = Self {
            version,
            schema: layout.schema,
            partition_by,
            file_schema: layout.file_schema,
            partition_fields: layout.partition_fields,
            names,
            structured: Arc::new(structured),
            files: Vec::new(),
            delta,
            log_store,
            is_committed: true,
            in_use: Arc::new(InUse(version)),
        };
        snapshot.files = snapshot.read_files(before, &location)?;
        Ok(snapshot)
    }

    fn read_files(
        &self,
        before: Option<&TableSnapshot>,
        location: &str,
    ) -> Result<Vec<Arc<DataFile>>, LakeError> {
        let known: HashMap<&str, &Arc<DataFile>> = before
            .filter(|before| before.schema == self.schema && before.names == self.names)
            .map(|before| {
                before
                    .files
                    .iter()
                    .map(|file| (file.path.as_str(), file))
                    .collect()
            })
            .unwrap_or_default();
        let log = self
            .delta
            .try_log_data()
            .map_err(|error| LakeError::storage("read the log", location, error))?;
        log.iter()
            .map(|view| {
                let path = view.path();
                if let Some(file) = known.get(path.as_ref())
                    && file.deletion_vector == view.deletion_vector_descriptor()
                {
                    return Ok(Arc::clone(file));
                }
                self.read_file(&view, location).map(Arc::new)
            })
            .collect()
    }

    /// The table as a transaction sees it that has changed rows and not committed them.
    pub fn with_uncommitted(&self, uncommitted: &Uncommitted) -> Result<Self, LakeError> {
        let mut files = if uncommitted.removes_all {
            Vec::new()
        } else {
            self.files.clone()
        };
        for file in uncommitted.files.iter() {
            let partition = self
                .partition_fields
                .iter()
                .map(|field| {
                    let text = file.add.partition_values.get(field.name());
                    let text = text.and_then(Option::as_deref);
                    partition::parse(text, field.data_type()).ok_or_else(|| LakeError::Encode {
                        reason: format!("a value of partition column \"{}\"", field.name()),
                    })
                })
                .collect::<Result<Vec<_>, _>>()?;
            files.push(Arc::new(DataFile {
                path: file.add.path.clone(),
                size: file.bytes,
                modified_milliseconds: file.add.modification_time,
                rows_stored: Some(file.rows),
                rows_deleted: 0,
                partition,
                partition_text: file.add.partition_values.clone(),
                deletion_vector: None,
                deleted_here: None,
                tags: file.add.tags.clone().unwrap_or_default(),
                statistics: Arc::new(Statistics::new_unknown(&self.schema)),
            }));
        }
        for file in &mut files {
            if let Some(rows) = uncommitted.deleted.get(&file.path) {
                *file = Arc::new(file.without(rows));
            }
        }
        Ok(self.with_files(files))
    }

    /// The table with some of its files only.
    pub(super) fn with_files(&self, files: Vec<Arc<DataFile>>) -> Self {
        Self {
            version: self.version,
            schema: Arc::clone(&self.schema),
            partition_by: self.partition_by.clone(),
            file_schema: Arc::clone(&self.file_schema),
            partition_fields: self.partition_fields.clone(),
            names: self.names.clone(),
            structured: Arc::clone(&self.structured),
            files,
            delta: self.delta.clone(),
            log_store: Arc::clone(&self.log_store),
            is_committed: false,
            in_use: Arc::clone(&self.in_use),
        }
    }

    /// The table with some of its files only, by their paths.
    pub fn with_paths(&self, paths: &HashSet<String>) -> Self {
        let files = self.files.iter().filter(|file| paths.contains(&file.path));
        self.with_files(files.cloned().collect())
    }

    /// Whether a row may have a value of an integer column between two bounds, by what the log says of the files.
    pub fn may_hold(&self, column: &str, least: i64, greatest: i64) -> bool {
        let in_files = self.names.of_column(column);
        let Ok(index) = self.file_schema.index_of(in_files) else {
            return true;
        };
        let bound = |value: &Precision<ScalarValue>| match value.get_value()? {
            ScalarValue::Int16(value) => value.map(i64::from),
            ScalarValue::Int32(value) => value.map(i64::from),
            ScalarValue::Int64(value) => *value,
            _ => None,
        };
        self.files.iter().any(|file| {
            let statistics = file.statistics.column_statistics.get(index);
            let bounds = statistics
                .and_then(|column| Some((bound(&column.min_value)?, bound(&column.max_value)?)));
            // Deleted rows leave the bounds as they were: they still hold what is there.
            bounds.is_none_or(|(from, to)| from <= greatest && least <= to)
        })
    }

    /// The table with the columns that a definition gives it which the log has not followed yet: its own
    /// transaction's. `None` when they are what the log says. A column that only the log has stays.
    pub fn as_defined(&self, definition: &TableDefinition) -> Option<Self> {
        let mut names = BTreeMap::new();
        let mut columns = Vec::with_capacity(definition.columns.len());
        let mut add = |field: Field, in_files: &str| {
            names.insert(field.name().clone(), in_files.to_owned());
            columns.push(Arc::new(field));
        };
        for field in self.schema.fields() {
            let in_files = self.names.of_column(field.name());
            let mut defined = definition.columns.iter();
            match defined.find(|column| column.name_in_files() == in_files) {
                Some(column) if ColumnType::from_field(field) == column.column_type => {
                    add(Field::clone(field).with_name(&column.name), in_files);
                }
                Some(column) => add(column.column_type.to_field(&column.name, true), in_files),
                None if definition
                    .dropped_columns
                    .iter()
                    .any(|name| name == in_files) => {}
                None => add(Field::clone(field), in_files),
            }
        }
        let fields = self.schema.fields().iter();
        let known: HashSet<&str> = fields
            .map(|field| self.names.of_column(field.name()))
            .collect();
        for column in &definition.columns {
            if !known.contains(column.name_in_files()) {
                let field = column.column_type.to_field(&column.name, true);
                add(field, column.name_in_files());
            }
        }
        if self.schema.fields().iter().eq(&columns) {
            return None;
        }
        let names = FileNames::from(names);
        let now = |name: &String| {
            let in_files = self.names.of_column(name);
            let mut columns = columns.iter().map(|column| column.name());
            columns.find(|name| names.of_column(name) == in_files)
        };
        let partition_by: Vec<String> = self.partition_by.iter().filter_map(now).cloned().collect();
        let layout = Layout::new(columns, &partition_by, (&names, &self.structured)).ok()?;
        let scanned = Layout::scanned(&layout.file_schema, &layout.partition_fields);
        let files = self.files.iter().map(|file| {
            let statistics = Arc::new(Statistics::new_unknown(&scanned));
            Arc::new(file.with_statistics(statistics))
        });
        Some(Self {
            version: self.version,
            schema: layout.schema,
            partition_by,
            file_schema: layout.file_schema,
            partition_fields: layout.partition_fields,
            names,
            structured: Arc::clone(&self.structured),
            files: files.collect(),
            delta: self.delta.clone(),
            log_store: Arc::clone(&self.log_store),
            is_committed: false,
            in_use: Arc::clone(&self.in_use),
        })
    }

    fn read_file(&self, view: &LogicalFileView, location: &str) -> Result<DataFile, LakeError> {
        let path = view.path().into_owned();
        let deletion_vector = view.deletion_vector_descriptor();
        let is_elsewhere = deletion_vector
            .as_ref()
            .is_some_and(|vector| vector.storage_type == StorageType::AbsolutePath);
        if is_elsewhere || is_absolute(&path) {
            return Err(LakeError::Unsupported {
                location: location.to_owned(),
                feature: "files outside of the table's folder, as a shallow clone has".to_owned(),
            });
        }
        let partition_text = view.partition_values_map();
        let partition = self
            .partition_fields
            .iter()
            .map(|field| {
                let text = partition_text.get(field.name()).and_then(Option::as_deref);
                partition::parse(text, field.data_type()).ok_or_else(|| LakeError::Damaged {
                    location: location.to_owned(),
                    reason: format!(
                        "file \"{path}\" has value \"{}\" for partition column \"{}\"",
                        text.unwrap_or_default(),
                        field.name()
                    ),
                })
            })
            .collect::<Result<Vec<_>, _>>()?;
        let rows_deleted = deletion_vector.as_ref().map_or(0, |vector| {
            u64::try_from(vector.cardinality).unwrap_or_default()
        });
        let rows_stored = view.num_records().map(|rows| rows as u64);
        let size = u64::try_from(view.size()).unwrap_or_default();
        let statistics = self.statistics_of(view, rows_stored, rows_deleted, &partition);
        Ok(DataFile {
            path,
            size,
            modified_milliseconds: view.modification_time(),
            rows_stored,
            rows_deleted,
            partition,
            partition_text,
            deletion_vector,
            deleted_here: None,
            tags: tags_of(view),
            statistics: Arc::new(statistics),
        })
    }

    /// The statistics, as the log has them, of the files that get a deletion vector. They hold for the
    /// rows that stay.
    pub(super) fn stats_of(
        &self,
        vectors: Option<&WrittenVectors>,
    ) -> Result<HashMap<String, Option<String>>, LakeError> {
        let Some(vectors) = vectors else {
            return Ok(HashMap::new());
        };
        let log = self.delta.try_log_data().map_err(|error| {
            LakeError::storage("read the log", self.log_store.root_url().as_str(), error)
        })?;
        Ok(log
            .iter()
            .filter(|view| vectors.by_file.contains_key(view.path().as_ref()))
            .map(|view| {
                let stats = view.stats().as_deref().map(statistics::loosened);
                (view.path().into_owned(), stats)
            })
            .collect())
    }

    fn statistics_of(
        &self,
        view: &LogicalFileView,
        rows_stored: Option<u64>,
        rows_deleted: u64,
        partition: &[ScalarValue],
    ) -> Statistics {
        let rows =
            rows_stored.and_then(|rows| usize::try_from(rows.saturating_sub(rows_deleted)).ok());
        let stored = rows_stored.and_then(|rows| usize::try_from(rows).ok());
        let struct_of = |scalar: Option<Scalar>| match scalar {
            Some(Scalar::Struct(data)) => Some(data),
            _ => None,
        };
        let minima = struct_of(view.min_values());
        let maxima = struct_of(view.max_values());
        let nulls = struct_of(view.null_counts());
        let mut columns: Vec<ColumnStatistics> = self
            .file_schema
            .fields()
            .iter()
            .map(|field| {
                let mut column = ColumnStatistics::new_unknown();
                let count = member(nulls.as_ref(), field.name()).and_then(count_of);
                column.null_count = match rows_deleted {
                    0 => count.map_or(Precision::Absent, Precision::Exact),
                    _ => nulls_left(count, stored, rows),
                };
                // Only whole numbers and dates are kept to the last digit by every writer.
                let exact = rows_deleted == 0
                    && (field.data_type().is_integer() || field.data_type() == &DataType::Date32);
                let bound = |data: Option<&StructData>| {
                    let value =
                        member(data, field.name()).and_then(|value| scalar(value, field))?;
                    Some(if exact {
                        Precision::Exact(value)
                    } else {
                        Precision::Inexact(value)
                    })
                };
                column.min_value = bound(minima.as_ref()).unwrap_or(Precision::Absent);
                column.max_value = bound(maxima.as_ref()).unwrap_or(Precision::Absent);
                column
            })
            .collect();
        for value in partition {
            let mut column = ColumnStatistics::new_unknown();
            let count = rows.filter(|_| value.is_null()).unwrap_or(0);
            column.null_count = if rows.is_some() || !value.is_null() {
                Precision::Exact(count)
            } else {
                Precision::Absent
            };
            if !value.is_null() {
                column.min_value = Precision::Exact(value.clone());
                column.max_value = Precision::Exact(value.clone());
            }
            columns.push(column);
        }
        Statistics {
            num_rows: rows.map_or(Precision::Absent, Precision::Exact),
            // The size of a file says nothing of the size of the columns a query reads. Without it the
            // optimizer reckons with rows.
            total_byte_size: Precision::Absent,
            column_statistics: columns,
        }
    }

    pub fn version(&self) -> i64 {
        self.version
    }

    /// Bytes that it holds, about: measured with 100,000 files, each takes a kilobyte, and 700 bytes more for
    /// the statistics of each column.
    pub fn bytes(&self) -> usize {
        const FILE_BYTES: usize = 1_000;
        const COLUMN_BYTES: usize = 700;
        let of_file = FILE_BYTES + COLUMN_BYTES * self.schema.fields().len();
        self.files.len() * of_file
    }

    /// What the files call the columns.
    pub fn names(&self) -> &FileNames {
        &self.names
    }

    /// The columns in the table's order; fields carry their [`ColumnType`].
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    pub fn partition_by(&self) -> &[String] {
        &self.partition_by
    }

    pub fn files(&self) -> &[Arc<DataFile>] {
        &self.files
    }

    /// Live rows, when every file's log entry says.
    pub fn row_count(&self) -> Option<u64> {
        self.files.iter().map(|file| file.rows()).sum()
    }

    /// Bytes of the live files.
    pub fn size(&self) -> u64 {
        self.files.iter().map(|file| file.size).sum()
    }

    /// The version an application last committed under its name.
    pub async fn transaction(&self, application: &str) -> Result<Option<i64>, LakeError> {
        self.delta
            .transaction_version(self.log_store.as_ref(), application)
            .await
            .map_err(|error| {
                LakeError::storage("read the log", self.log_store.root_url().as_str(), error)
            })
    }

    /// The definition the table carries, with the name of its schema, when it is one of ours.
    pub fn definition(&self) -> Option<(String, TableDefinition)> {
        metadata::definition_of(self.delta.metadata()).map(|stored| (stored.schema, stored.table))
    }

    /// Whether the log says of the table what the catalog says. Ids and the owner are the catalog's own.
    pub fn describes(&self, schema_name: &str, definition: &TableDefinition) -> bool {
        let Some((stored_schema, mut stored)) = self.definition() else {
            return false;
        };
        stored.id = definition.id;
        stored.schema = definition.schema;
        stored.owner = definition.owner;
        stored.location.clone_from(&definition.location);
        let mut columns = definition.columns.iter();
        stored == *definition
            && stored_schema == schema_name
            && columns.all(|column| self.schema.field_with_name(&column.name).is_ok())
    }

    /// Delta's properties of the table.
    pub fn properties(&self) -> HashMap<String, String> {
        self.delta
            .metadata()
            .configuration()
            .iter()
            .filter(|(name, _)| name.as_str() != metadata::DEFINITION)
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    }

    pub(super) fn object_path(&self, root: &Path, file: &DataFile) -> Path {
        path_below(root, &file.path)
    }
}

/// Where the store has a file of a table's folder.
pub(super) fn path_below(root: &Path, path: &str) -> Path {
    // `parse` keeps percent signs; a path it refuses is one no writer of ours made.
    Path::parse(format!("{root}/{path}")).unwrap_or_else(|_| Path::from(format!("{root}/{path}")))
}

/// Whether the log's path of a file says where in the world it is, not where in the table's folder.
fn is_absolute(path: &str) -> bool {
    let is_scheme = |text: &str| {
        text.starts_with(|first: char| first.is_ascii_alphabetic())
            && text
                .chars()
                .all(|one| one.is_ascii_alphanumeric() || "+-.".contains(one))
    };
    let scheme = path.split_once(':').map(|(scheme, _)| scheme);
    path.starts_with('/') || scheme.is_some_and(is_scheme)
}

/// The tags of a file. deltalake gives them as part of the whole action only.
#[allow(deprecated)]
fn tags_of(view: &LogicalFileView) -> HashMap<String, Option<String>> {
    view.add_action().tags.unwrap_or_default()
}

/// A column of the log as SQL sees it.
fn logical_field(field: &Field) -> Field {
    let column_type = ColumnType::from_field(field);
    let mut logical = column_type.to_field(field.name(), true);
    if let Some(comment) = field.metadata().get("comment") {
        let mut metadata = logical.metadata().clone();
        metadata.insert("comment".into(), comment.clone());
        logical = logical.with_metadata(metadata);
    }
    logical
}

fn member<'a>(data: Option<&'a StructData>, name: &str) -> Option<&'a Scalar> {
    let data = data?;
    let index = data
        .fields()
        .iter()
        .position(|field| field.name() == name)?;
    data.values().get(index)
}

/// The NULLs of a column once only `left` of its rows are. Whether the deleted rows held some is known only
/// where all of them did or none; any other number, compared with that of the rows, would tell lies.
fn nulls_left(nulls: Option<usize>, rows: Option<usize>, left: Option<usize>) -> Precision<usize> {
    match (nulls, left) {
        (Some(0), _) => Precision::Exact(0),
        (Some(_), Some(left)) if nulls == rows => Precision::Exact(left),
        _ => Precision::Absent,
    }
}

fn count_of(scalar: &Scalar) -> Option<usize> {
    match scalar {
        Scalar::Long(count) => usize::try_from(*count).ok(),
        Scalar::Integer(count) => usize::try_from(*count).ok(),
        _ => None,
    }
}

/// A statistic as a value of the column's in-memory type.
fn scalar(value: &Scalar, field: &Field) -> Option<ScalarValue> {
    let value = match value {
        Scalar::Byte(value) => ScalarValue::Int8(Some(*value)),
        Scalar::Short(value) => ScalarValue::Int16(Some(*value)),
        Scalar::Integer(value) => ScalarValue::Int32(Some(*value)),
        Scalar::Long(value) => ScalarValue::Int64(Some(*value)),
        Scalar::Float(value) => ScalarValue::Float32(Some(*value)),
        Scalar::Double(value) => ScalarValue::Float64(Some(*value)),
        Scalar::String(value) => ScalarValue::Utf8(Some(value.clone())),
        Scalar::Date(days) => ScalarValue::Date32(Some(*days)),
        Scalar::Timestamp(micros) => {
            ScalarValue::TimestampMicrosecond(Some(*micros), Some("UTC".into()))
        }
        Scalar::TimestampNtz(micros) => ScalarValue::TimestampMicrosecond(Some(*micros), None),
        Scalar::Decimal(value) => ScalarValue::Decimal128(
            Some(value.bits()),
            value.precision(),
            i8::try_from(value.scale()).ok()?,
        ),
        _ => return None,
    };
    if value.data_type() == *field.data_type() {
        return Some(value);
    }
    // A column stored as text but computed with as something else (time) has no usable bounds;
    // numbers may have been widened since the file was written.
    match (&value, field.data_type()) {
        (ScalarValue::Utf8(_), _) => None,
        (_, target) => value.cast_to(target).ok(),
    }
}
