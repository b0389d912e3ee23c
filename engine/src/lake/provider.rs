//! Reads a snapshot with DataFusion's own Parquet scan.
//!
//! The snapshot's files are first pruned by their partition values and statistics; what is left
//! becomes a plain file scan that carries every file's statistics, so page-index, bloom-filter,
//! row-group and dynamic-filter pruning, limits and `count(*)` from statistics all work as on bare
//! Parquet. A deletion vector becomes the row selection of its file. Columns stored as another type
//! (`time` as text, numbers since widened) are cast by the scan's schema adapter, columns a file
//! lacks are NULL.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, BooleanBufferBuilder, RecordBatch, RecordBatchOptions, UInt64Array,
};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use async_trait::async_trait;
use boathouse_catalog::types::ColumnType;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::cast::as_boolean_array;
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{Column, DFSchema, DataFusionError, ScalarValue, Statistics};
use datafusion::config::TableParquetOptions;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::datasource::physical_plan::parquet::{
    CachedParquetFileReaderFactory, ParquetAccessPlan, RowGroupAccess, metadata::DFParquetMetadata,
};
use datafusion::datasource::physical_plan::{
    FileGroup, FileScanConfigBuilder, FileSource, ParquetFileReaderFactory, ParquetSource,
};
use datafusion::datasource::source::DataSourceExec;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, Operator, TableProviderFilterPushDown, TableType};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions as physical;
use datafusion::physical_expr::projection::{ProjectionExpr, ProjectionExprs};
use datafusion::physical_optimizer::pruning::PruningPredicateBuilder;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use object_store::ObjectMeta;
use parquet::arrow::RowNumber;
use parquet::arrow::arrow_reader::{RowSelection, RowSelector};
use roaring::RoaringTreemap;

use super::reader::IndexedReaders;
use super::snapshot::{DataFile, TableSnapshot};
use super::structured::{AsJson, is_structured};
use super::{Asked, FileNames, LakeError, LakeTable, Located};

/// One snapshot of a table as a relation of a query plan.
#[derive(Debug, Clone)]
pub struct DeltaProvider {
    table: Arc<LakeTable>,
    snapshot: Arc<TableSnapshot>,
    /// The columns of the table, and where each row is when that was asked for.
    schema: SchemaRef,
    addressed: bool,
    /// The only files to be read, each with the only rows of it; `None` for all rows.
    only: Option<BTreeMap<String, Option<Arc<RoaringTreemap>>>>,
    /// The columns of the primary key; empty when there is none.
    key: Vec<String>,
}

/// The columns that say where a row is: the file's index in the snapshot, the row's position in the
/// file.
pub const FILE_COLUMN: &str = "_boathouse_file";
pub const ROW_COLUMN: &str = "_boathouse_position";

impl LakeTable {
    /// The relation that reads a snapshot.
    pub fn provider(self: &Arc<Self>, snapshot: &Arc<TableSnapshot>) -> Arc<DeltaProvider> {
        Arc::new(DeltaProvider {
            table: Arc::clone(self),
            snapshot: Arc::clone(snapshot),
            schema: Arc::clone(snapshot.schema()),
            addressed: false,
            only: None,
            key: Vec::new(),
        })
    }

    /// The same; a filter that says what the columns of `key` are equal to is answered by the index, where
    /// there is one.
    pub fn keyed_provider(
        self: &Arc<Self>,
        snapshot: &Arc<TableSnapshot>,
        key: &[String],
    ) -> Arc<DeltaProvider> {
        let mut provider = DeltaProvider::clone(&self.provider(snapshot));
        provider.key = key.to_vec();
        Arc::new(provider)
    }

    /// The relation that reads a snapshot and says of every row where it is: [`FILE_COLUMN`] (int4)
    /// and [`ROW_COLUMN`] (int8) follow the table's columns.
    pub fn addressed_provider(
        self: &Arc<Self>,
        snapshot: &Arc<TableSnapshot>,
        key: &[String],
    ) -> Arc<DeltaProvider> {
        let mut fields = snapshot.schema().fields().to_vec();
        fields.extend(address_fields());
        Arc::new(DeltaProvider {
            table: Arc::clone(self),
            snapshot: Arc::clone(snapshot),
            schema: Arc::new(Schema::new(fields)),
            addressed: true,
            only: None,
            key: key.to_vec(),
        })
    }

    /// The relation that reads some rows of some files.
    pub(super) fn provider_of_rows(
        self: &Arc<Self>,
        snapshot: &Arc<TableSnapshot>,
        rows: &BTreeMap<String, Arc<RoaringTreemap>>,
    ) -> Arc<DeltaProvider> {
        let mut provider = DeltaProvider::clone(&self.provider(snapshot));
        let rows = rows.iter();
        let only = rows.map(|(path, rows)| (path.clone(), Some(Arc::clone(rows))));
        provider.only = Some(only.collect());
        Arc::new(provider)
    }

    /// The same of the rows that an index found, and of the files that `new` says are not indexed.
    pub fn located_provider(
        self: &Arc<Self>,
        snapshot: &Arc<TableSnapshot>,
        located: Located,
        new: &HashSet<&str>,
    ) -> Arc<LocatedProvider> {
        let mut provider = DeltaProvider::clone(&self.addressed_provider(snapshot, &[]));
        let mut only: BTreeMap<_, _> = located
            .by_file
            .into_iter()
            .map(|(path, rows)| (path, Some(rows)))
            .collect();
        only.extend(new.iter().map(|path| ((*path).to_owned(), None)));
        provider.only = Some(only);
        Arc::new(LocatedProvider {
            scan: provider,
            rows: new.is_empty().then_some(located.rows),
        })
    }
}

fn file_field() -> Field {
    ColumnType::Integer.to_field(FILE_COLUMN, true)
}

/// The columns that say where a row is.
pub(super) fn address_fields() -> [FieldRef; 2] {
    let row = ColumnType::BigInt.to_field(ROW_COLUMN, true);
    [Arc::new(file_field()), Arc::new(row)]
}

/// Rows whose addresses are known. A query that asks for no more than their keys and addresses reads
/// nothing; another reads these rows only.
#[derive(Debug)]
pub struct LocatedProvider {
    scan: DeltaProvider,
    /// The keys and addresses, when they are of all rows.
    rows: Option<RecordBatch>,
}

impl DeltaProvider {
    pub fn snapshot(&self) -> &Arc<TableSnapshot> {
        &self.snapshot
    }

    /// The files to be read before anything is asked of them.
    fn files(&self) -> Vec<Arc<DataFile>> {
        let files = self.snapshot.files();
        match &self.only {
            None => files.to_vec(),
            Some(only) => {
                let chosen = files.iter().filter(|file| only.contains_key(&file.path));
                chosen.cloned().collect()
            }
        }
    }

    /// Whether a filter has one value for all rows of a file.
    fn is_of_partitions(&self, filter: &Expr) -> bool {
        let asks = filter.exists(|part| {
            Ok(matches!(
                part,
                Expr::ScalarSubquery(_) | Expr::InSubquery(_) | Expr::Exists(_)
            ))
        });
        let columns = filter.column_refs();
        !asks.unwrap_or(true)
            && columns
                .iter()
                .all(|column| self.snapshot.partition_by().contains(&column.name))
    }

    /// The files for whose partition the filter is true.
    fn in_partitions(
        &self,
        state: &dyn Session,
        filter: &Expr,
        files: &[Arc<DataFile>],
    ) -> datafusion::common::Result<Vec<Arc<DataFile>>> {
        if files.is_empty() {
            return Ok(Vec::new());
        }
        let named = filter.column_refs();
        let (mut fields, mut columns) = (Vec::new(), Vec::new());
        for (index, field) in self.snapshot.partition_fields.iter().enumerate() {
            if named.iter().any(|column| column.name == *field.name()) {
                let null = ScalarValue::try_from(field.data_type())?;
                let values = files.iter().map(|file| {
                    let value = file.partition.get(index);
                    value.cloned().unwrap_or_else(|| null.clone())
                });
                columns.push(ScalarValue::iter_to_array(values)?);
                fields.push(Arc::clone(field));
            }
        }
        let schema = Arc::new(Schema::new(fields));
        let rows = RecordBatchOptions::new().with_row_count(Some(files.len()));
        let values = RecordBatch::try_new_with_options(Arc::clone(&schema), columns, &rows)?;
        let filter = state.create_physical_expr(filter.clone(), &DFSchema::try_from(schema)?)?;
        let passes = filter.evaluate(&values)?.into_array(files.len())?;
        let passes = as_boolean_array(&passes)?;
        let passing = files.iter().zip(passes);
        let passing = passing.filter(|(_, passes)| *passes == Some(true));
        Ok(passing.map(|(file, _)| Arc::clone(file)).collect())
    }

    /// The rows that have the keys a filter asks for, when the index knows them.
    async fn located(
        &self,
        state: &dyn Session,
        filters: &[Expr],
    ) -> Result<Option<Located>, DataFusionError> {
        let small = self.snapshot.row_count().unwrap_or(0) < INDEXED_ROWS_MIN;
        if self.key.is_empty() || small || !self.snapshot.is_committed {
            return Ok(None);
        }
        let Some(keys) = keys_of(filters, &self.key, &self.schema) else {
            return Ok(None);
        };
        let asked = Asked {
            key: &self.key,
            keys: &keys,
            // Who only reads does not have the table indexed.
            builds: self.addressed,
        };
        let (table, snapshot) = (&self.table, &self.snapshot);
        let state = crate::query::state_of(state.runtime_env());
        let located = table.locate(asked, snapshot, snapshot, &state);
        located.await.map_err(external)
    }

    /// Rows to be read, when each is named.
    fn rows_named(&self) -> Option<usize> {
        let rows = self.only.as_ref()?.values();
        let rows = rows.map(|rows| rows.as_ref().map(|rows| rows.len()));
        rows.sum::<Option<u64>>().map(to_usize)
    }

    async fn partitioned_file(
        &self,
        state: &dyn Session,
        file: &Arc<DataFile>,
        root: &object_store::path::Path,
    ) -> Result<PartitionedFile, DataFusionError> {
        let location = self.snapshot.object_path(root, file);
        let meta = ObjectMeta {
            location,
            last_modified: chrono::DateTime::from_timestamp_millis(file.modified_milliseconds)
                .unwrap_or_default(),
            size: file.size,
            // Data files are never overwritten, so the path alone identifies the content.
            e_tag: None,
            version: None,
        };
        let only = self.only.as_ref().and_then(|only| only.get(&file.path));
        let access = match only.and_then(Option::as_ref) {
            Some(rows) => Some(row_access(&self.table, state, &meta, &Rows::Only(rows)).await?),
            None if file.has_deleted() => {
                let deleted = self.table.deleted_rows(file).await.map_err(external)?;
                Some(row_access(&self.table, state, &meta, &Rows::Without(&deleted)).await?)
            }
            None => None,
        };
        let mut partitioned = PartitionedFile::new_from_meta(meta);
        partitioned.partition_values = file.partition.clone();
        partitioned.statistics = Some(Arc::clone(&file.statistics));
        partitioned = partitioned.with_extension(Arc::clone(&self.snapshot.in_use));
        if let Some(access) = access {
            partitioned = partitioned.with_extension(access);
        }
        Ok(partitioned)
    }
}

/// Rows of a table below which it is as soon read as its index asked.
const INDEXED_ROWS_MIN: u64 = 10_000;

/// Keys that a filter may name before the table is searched instead.
const FILTER_KEYS_MAX: usize = 10_000;

/// What has to be true together for the filters to hold.
fn terms(filters: &[Expr]) -> Vec<&Expr> {
    let mut terms: Vec<&Expr> = Vec::new();
    let mut open: Vec<&Expr> = filters.iter().collect();
    while let Some(filter) = open.pop() {
        match filter {
            Expr::BinaryExpr(binary) if binary.op == Operator::And => {
                open.extend([binary.left.as_ref(), binary.right.as_ref()]);
            }
            other => terms.push(other),
        }
    }
    terms
}

/// The keys that rows must have for the filters to hold, by column.
fn keys_of(filters: &[Expr], key: &[String], schema: &Schema) -> Option<Vec<ArrayRef>> {
    let terms = terms(filters);
    let mut keys = Vec::with_capacity(key.len());
    for name in key {
        let data_type = schema.field_with_name(name).ok()?.data_type();
        let values = terms
            .iter()
            .find_map(|term| values_of(term, name, data_type))?;
        // Of a key of several columns each must be one value.
        if values.len() > FILTER_KEYS_MAX || (key.len() > 1 && values.len() != 1) {
            return None;
        }
        keys.push(ScalarValue::iter_to_array(values).ok()?);
    }
    Some(keys)
}

/// A filter with the casts of its constants done. They are left where a parameter, bound after the plan was
/// optimized, has another type than its column.
fn with_constants_cast(filter: &Expr) -> Expr {
    let done = filter.clone().transform_up(|expr| {
        let value = match &expr {
            Expr::Cast(cast) => match cast.expr.as_ref() {
                Expr::Literal(value, _) => value.cast_to(cast.field.data_type()).ok(),
                _ => None,
            },
            _ => None,
        };
        Ok(match value {
            Some(value) => Transformed::yes(Expr::Literal(value, None)),
            None => Transformed::no(expr),
        })
    });
    done.map_or_else(|_| filter.clone(), |done| done.data)
}

/// The values one of which a term demands of a column.
fn values_of(term: &Expr, column: &str, data_type: &DataType) -> Option<Vec<ScalarValue>> {
    let names = |expr: &Expr| matches!(expr, Expr::Column(named) if named.name == column);
    let value = |expr: &Expr| match expr {
        Expr::Literal(value, _) if value.data_type() == *data_type && !value.is_null() => {
            Some(value.clone())
        }
        _ => None,
    };
    match term {
        Expr::BinaryExpr(binary) if binary.op == Operator::Eq => {
            let (left, right) = (binary.left.as_ref(), binary.right.as_ref());
            let other = if names(left) { right } else { left };
            (names(left) || names(right))
                .then(|| value(other))
                .flatten()
                .map(|value| vec![value])
        }
        // `x = 1 OR x = 2`, as short lists are written.
        Expr::BinaryExpr(binary) if binary.op == Operator::Or => {
            let mut values = values_of(&binary.left, column, data_type)?;
            values.extend(values_of(&binary.right, column, data_type)?);
            Some(values)
        }
        Expr::InList(list) if !list.negated && names(&list.expr) && !list.list.is_empty() => {
            list.list.iter().map(value).collect()
        }
        _ => None,
    }
}

fn external(error: LakeError) -> DataFusionError {
    DataFusionError::External(error.into())
}

fn to_usize(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

#[async_trait]
impl TableProvider for DeltaProvider {
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
        let support = filters.iter().map(|filter| {
            if self.is_of_partitions(filter) && cannot_fail(filter) {
                TableProviderFilterPushDown::Exact
            } else {
                TableProviderFilterPushDown::Inexact
            }
        });
        Ok(support.collect())
    }

    fn statistics(&self) -> Option<Statistics> {
        let rows = self
            .snapshot
            .row_count()
            .and_then(|rows| usize::try_from(rows).ok());
        let mut statistics = Statistics::new_unknown(&self.schema);
        statistics.num_rows = rows.map_or(Precision::Absent, Precision::Exact);
        Some(statistics)
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> datafusion::common::Result<Arc<dyn ExecutionPlan>> {
        let logical = &self.schema;
        let mut partition_fields = self.snapshot.partition_fields.clone();
        let mut virtual_fields = Vec::new();
        if self.addressed {
            partition_fields.push(Arc::new(file_field()));
            let position = Field::new(ROW_COLUMN, DataType::Int64, true);
            virtual_fields.push(Arc::new(position.with_extension_type(RowNumber)));
        }
        let table_schema = TableSchema::builder(Arc::clone(&self.snapshot.file_schema))
            .with_table_partition_cols(partition_fields)
            .with_virtual_columns(virtual_fields)
            .build();
        let scan_schema = Arc::clone(table_schema.table_schema());
        let columns = Columns::new(self.snapshot.names(), logical, projection, &scan_schema)?;

        let filters: &[Expr] = &filters.iter().map(with_constants_cast).collect::<Vec<_>>();
        if let Some(located) = self.located(state, filters).await? {
            let mut narrowed = self.clone();
            narrowed.key.clear();
            let rows = located.by_file.into_iter();
            narrowed.only = Some(rows.map(|(path, rows)| (path, Some(rows))).collect());
            return narrowed.scan(state, projection, filters, limit).await;
        }
        let mut files = self.files();
        let mut of_rows = Vec::new();
        let mut unasked = false;
        for filter in filters {
            let Some(in_files) = columns.in_files(std::slice::from_ref(filter))?.pop() else {
                unasked = true;
                continue;
            };
            // What the optimizer has made of a filter of partitions is one still, and nobody else
            // evaluates it. Where it may fail it does so on the rows, if there are any.
            if !self.is_of_partitions(filter) {
                of_rows.push(in_files);
                continue;
            }
            match self.in_partitions(state, &in_files, &files) {
                Ok(passing) => files = passing,
                Err(error) if cannot_fail(filter) => return Err(error),
                Err(_) => of_rows.push(in_files),
            }
        }
        if let Some(filter) = conjunction(of_rows.clone()) {
            let schema = DFSchema::try_from(scan_schema.as_ref().clone())?;
            let predicate = state.create_physical_expr(filter, &schema)?;
            files = prune(files, &predicate, &scan_schema);
        } else if let Some(limit) = limit.filter(|_| !unasked) {
            files = enough_for(files, limit);
        }
        if files.is_empty() {
            return Ok(Arc::new(EmptyExec::new(columns.projected)));
        }

        let (_, root) = self.table.store();
        let mut partitioned = Vec::with_capacity(files.len());
        for file in &files {
            partitioned.push(self.partitioned_file(state, file, &root).await?);
        }
        let mut statistics = summed(&files, &scan_schema);
        if self.addressed {
            let index: HashMap<&str, i32> = (0..)
                .zip(self.snapshot.files())
                .map(|(index, file)| (file.path.as_str(), index))
                .collect();
            for (file, partitioned) in files.iter().zip(&mut partitioned) {
                let index = index.get(file.path.as_str()).copied();
                partitioned.partition_values.push(ScalarValue::Int32(index));
            }
        }
        if self.addressed || self.only.is_some() {
            for partitioned in &mut partitioned {
                partitioned.statistics = None;
            }
            statistics = Statistics::new_unknown(&scan_schema);
            if let Some(rows) = self.rows_named() {
                statistics.num_rows = Precision::Inexact(rows);
            }
        }
        parquet_scan(
            &self.table,
            state,
            table_schema,
            (partitioned, statistics),
            &columns,
            (&of_rows, limit),
        )
    }
}

/// The rows of a file that are to be read.
pub(super) enum Rows<'a> {
    Only(&'a RoaringTreemap),
    Without(&'a RoaringTreemap),
}

/// Rows between two deleted ones, on the average, below which a bit for each row is read faster than
/// runs of rows.
const RUN_ROWS_MIN: u64 = 32;

/// What to read of each row group of a file: all, nothing, runs of rows, or a row for each bit.
pub(super) async fn row_access(
    table: &LakeTable,
    state: &dyn Session,
    file: &ObjectMeta,
    rows: &Rows<'_>,
) -> Result<ParquetAccessPlan, DataFusionError> {
    let (store, _) = table.store();
    let cache = state.runtime_env().cache_manager.get_file_metadata_cache();
    let metadata = DFParquetMetadata::new(store.as_ref(), file)
        .with_file_metadata_cache(Some(cache))
        .fetch_metadata()
        .await?;
    let groups = metadata.row_groups().iter();
    let groups = groups.map(|group| u64::try_from(group.num_rows()).unwrap_or(0));
    Ok(ParquetAccessPlan::new(access_of(groups, rows)))
}

fn access_of(groups: impl Iterator<Item = u64>, rows: &Rows<'_>) -> Vec<RowGroupAccess> {
    let (named, selects) = match rows {
        Rows::Only(rows) => (rows, true),
        Rows::Without(rows) => (rows, false),
    };
    let mut named = named.iter().peekable();
    let mut start = 0;
    groups
        .map(|count| {
            let end = start + count;
            let mut here = Vec::new();
            while let Some(row) = named.next_if(|row| *row < end) {
                here.push(to_usize(row - start));
            }
            start = end;
            let (count, rows) = (to_usize(count), here.len());
            match (rows == 0, rows == count) {
                (true, _) if selects => RowGroupAccess::Skip,
                (true, _) => RowGroupAccess::Scan,
                (_, true) if selects => RowGroupAccess::Scan,
                (_, true) => RowGroupAccess::Skip,
                _ if rows as u64 * RUN_ROWS_MIN < count as u64 => {
                    RowGroupAccess::Selection(runs(&here, count, selects))
                }
                _ => {
                    let mut bits = BooleanBufferBuilder::new(count);
                    bits.append_n(count, !selects);
                    for row in here {
                        bits.set_bit(row, selects);
                    }
                    RowGroupAccess::Selection(RowSelection::from_boolean_buffer(bits.finish()))
                }
            }
        })
        .collect()
}

fn runs(named: &[usize], count: usize, selects: bool) -> RowSelection {
    let run = |rows, selects| match selects {
        true => RowSelector::select(rows),
        false => RowSelector::skip(rows),
    };
    let mut selectors = Vec::with_capacity(named.len() * 2 + 1);
    let mut next = 0;
    for row in named {
        if *row > next {
            selectors.push(run(row - next, !selects));
        }
        selectors.push(run(1, selects));
        next = row + 1;
    }
    if next < count {
        selectors.push(run(count - next, !selects));
    }
    RowSelection::from(selectors)
}

/// Columns of a query from which on those outside its filter are read late.
const LATE_COLUMNS_MIN: usize = 24;

/// The same, of whose filter is expected to leave less than one row in as many.
const LATE_ROWS_MIN: f64 = 64.0;

/// The share of rows that filters are expected to leave, by what they demand of whole numbers and dates,
/// as if each value were as frequent as the others between the least and the greatest.
fn share_left(filters: &[Expr], schema: &Schema, statistics: &Statistics) -> f64 {
    let share_of = |filter: &Expr| {
        let mut columns = filter.column_refs().into_iter();
        let column = columns.next()?;
        if columns.next().is_some() {
            return None;
        }
        let (index, field) = schema.column_with_name(&column.name)?;
        let values = values_of(filter, &column.name, field.data_type())?;
        let known = statistics.column_statistics.get(index)?;
        let bound = |bound: &Precision<ScalarValue>| whole_number(bound.get_value()?);
        let distinct = bound(&known.max_value)? - bound(&known.min_value)? + 1.0;
        Some((values.len() as f64 / distinct.max(1.0)).min(1.0))
    };
    terms(filters).into_iter().filter_map(share_of).product()
}

fn whole_number(value: &ScalarValue) -> Option<f64> {
    let whole = value.data_type().is_integer() || value.data_type() == DataType::Date32;
    match value.cast_to(&DataType::Float64) {
        Ok(ScalarValue::Float64(number)) if whole => number,
        _ => None,
    }
}

/// Whether a filter only compares what is stored with constants.
fn cannot_fail(filter: &Expr) -> bool {
    match filter {
        Expr::Column(_) | Expr::Literal(..) | Expr::Placeholder(_) => true,
        Expr::BinaryExpr(binary) => {
            let logic = matches!(binary.op, Operator::And | Operator::Or);
            let compares = binary.op.supports_propagation() || logic;
            compares && cannot_fail(&binary.left) && cannot_fail(&binary.right)
        }
        Expr::Not(inner) | Expr::IsNull(inner) | Expr::IsNotNull(inner) => cannot_fail(inner),
        Expr::Like(like) => cannot_fail(&like.expr) && cannot_fail(&like.pattern),
        Expr::Between(between) => [&between.expr, &between.low, &between.high]
            .into_iter()
            .all(|part| cannot_fail(part)),
        Expr::InList(list) => cannot_fail(&list.expr) && list.list.iter().all(cannot_fail),
        _ => false,
    }
}

/// The columns of a scan: what a plan calls them, where files have them.
pub(super) struct Columns {
    names: FileNames,
    /// Those, as files call them, that files have in another form than a filter compares.
    structured: HashSet<String>,
    /// What comes out.
    pub projected: SchemaRef,
    projection: ProjectionExprs,
}

impl Columns {
    /// The columns `projection` of `logical`, or all, found in `scanned` by what files call them.
    pub fn new(
        names: &FileNames,
        logical: &SchemaRef,
        projection: Option<&Vec<usize>>,
        scanned: &SchemaRef,
    ) -> Result<Self, DataFusionError> {
        let projected = match projection {
            Some(projection) => Arc::new(logical.project(projection)?),
            None => Arc::clone(logical),
        };
        let columns = projected.fields().iter().map(|field| {
            let in_files = names.of_column(field.name());
            let index = scanned.index_of(in_files)?;
            let column: Arc<dyn PhysicalExpr> = Arc::new(physical::Column::new(in_files, index));
            let column = match is_structured(scanned.field(index).data_type()) {
                true => Arc::new(AsJson::new(column, field.data_type().clone())),
                false => column,
            };
            Ok(ProjectionExpr::new(column, field.name()))
        });
        let projection = columns.collect::<Result<Vec<_>, DataFusionError>>()?;
        let structured = scanned.fields().iter();
        let structured = structured.filter(|field| is_structured(field.data_type()));
        Ok(Self {
            names: names.clone(),
            structured: structured.map(|field| field.name().clone()).collect(),
            projected,
            projection: ProjectionExprs::new(projection),
        })
    }

    /// Filters by what files call the columns, without those that cannot be asked of files.
    pub fn in_files(&self, filters: &[Expr]) -> Result<Vec<Expr>, DataFusionError> {
        let asked = |filter: &&Expr| {
            let mut columns = filter.column_refs().into_iter();
            columns.all(|column| !self.structured.contains(self.names.of_column(&column.name)))
        };
        let filters: Vec<Expr> = filters.iter().filter(asked).cloned().collect();
        if !self.names.differ() {
            return Ok(filters);
        }
        let renamed = |expr: Expr| match expr {
            Expr::Column(mut column) => {
                column.name = self.names.of_column(&column.name).to_owned();
                Ok(Transformed::yes(Expr::Column(column)))
            }
            other => Ok(Transformed::no(other)),
        };
        let filters = filters.into_iter();
        filters
            .map(|filter| filter.transform(renamed).data())
            .collect()
    }
}

/// Scans files of a table with DataFusion's own Parquet source.
pub(super) fn parquet_scan(
    table: &LakeTable,
    state: &dyn Session,
    table_schema: TableSchema,
    (files, statistics): (Vec<PartitionedFile>, Statistics),
    columns: &Columns,
    (filters, limit): (&[Expr], Option<usize>),
) -> datafusion::common::Result<Arc<dyn ExecutionPlan>> {
    let (store, _) = table.store();
    let store_url = store_url(&table.place.url)?;
    state
        .runtime_env()
        .register_object_store(store_url.as_ref(), Arc::clone(&store));
    let metadata_cache = state.runtime_env().cache_manager.get_file_metadata_cache();
    let mut options = TableParquetOptions {
        global: state.config_options().execution.parquet.clone(),
        ..TableParquetOptions::default()
    };
    // Decoding the filter's columns first, and of the others only the rows that pass, is worth it where the
    // others are many or the rows few. Of an error met there only the words are left, so a filter that can
    // fail stays above.
    let late = filters.iter().all(cannot_fail)
        && (columns.projected.fields().len() >= LATE_COLUMNS_MIN
            || share_left(filters, table_schema.table_schema(), &statistics) * LATE_ROWS_MIN < 1.0);
    options.global.pushdown_filters = late;
    options.global.reorder_filters = late;
    // Spark writes timestamps as INT96. Read as nanoseconds, those outside of the years 1677 to 2262 overflow.
    options.global.coerce_int96 = Some("us".into());
    let readers = CachedParquetFileReaderFactory::new(store, metadata_cache);
    let readers: Arc<dyn ParquetFileReaderFactory> = if filters.is_empty() {
        Arc::new(readers)
    } else {
        Arc::new(IndexedReaders(readers))
    };
    // The filter comes from the FilterExec above, with the dynamic ones.
    let source = ParquetSource::new(table_schema)
        .with_table_parquet_options(options)
        .with_parquet_file_reader_factory(readers);
    // `split_files` sorts them by their paths; a compaction needs them one after the other as they are.
    let groups = match state.config().target_partitions() {
        0 | 1 => vec![FileGroup::new(files)],
        partitions => FileGroup::new(files).split_files(partitions),
    };
    let projected = source.try_pushdown_projection(&columns.projection)?;
    let source = projected.unwrap_or_else(|| Arc::new(source));
    let config = FileScanConfigBuilder::new(store_url, source)
        .with_file_groups(groups)
        .with_statistics(statistics)
        .with_limit(limit)
        .build();
    Ok(DataSourceExec::from_data_source(config))
}

#[async_trait]
impl TableProvider for LocatedProvider {
    fn schema(&self) -> SchemaRef {
        self.scan.schema()
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

    fn statistics(&self) -> Option<Statistics> {
        let mut statistics = Statistics::new_unknown(&self.scan.schema);
        if let Some(rows) = &self.rows {
            statistics.num_rows = Precision::Exact(rows.num_rows());
        }
        Some(statistics)
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> datafusion::common::Result<Arc<dyn ExecutionPlan>> {
        let schema = &self.scan.schema;
        if let (Some(rows), Some(projection)) = (&self.rows, projection) {
            let found = rows.schema();
            let indices = projection.iter().map(|index| {
                let name = schema.field(*index).name();
                found.index_of(name).ok()
            });
            if let Some(indices) = indices.collect::<Option<Vec<usize>>>() {
                let projected = rows.project(&indices)?;
                let schema = Arc::new(schema.project(projection)?);
                let projected = projected.with_schema(Arc::clone(&schema))?;
                let plan = MemorySourceConfig::try_new_exec(&[vec![projected]], schema, None)?;
                return Ok(plan);
            }
        }
        self.scan.scan(state, projection, filters, limit).await
    }
}

/// The store under a name of our own, so that a connection to the same bucket with other keys does
/// not replace it.
fn store_url(place: &url::Url) -> Result<ObjectStoreUrl, DataFusionError> {
    match place.scheme() {
        "file" => ObjectStoreUrl::parse("file://"),
        scheme => ObjectStoreUrl::parse(format!(
            "lake-{scheme}://{}",
            place.host_str().unwrap_or_default()
        )),
    }
}

/// The files that may hold rows for which the filter is true.
fn prune(
    files: Vec<Arc<DataFile>>,
    predicate: &Arc<dyn PhysicalExpr>,
    schema: &SchemaRef,
) -> Vec<Arc<DataFile>> {
    let keep = PruningPredicateBuilder::new()
        .with_file_schema(Arc::clone(schema))
        .try_build(Arc::clone(predicate))
        .and_then(|pruning| {
            pruning.prune(&FileStatistics {
                schema,
                files: &files,
            })
        });
    match keep {
        Ok(keep) => files
            .into_iter()
            .zip(keep)
            .filter_map(|(file, keep)| keep.then_some(file))
            .collect(),
        // A filter that cannot be turned into a pruning predicate prunes nothing.
        Err(_) => files,
    }
}

/// The first files that together have `limit` rows.
fn enough_for(files: Vec<Arc<DataFile>>, limit: usize) -> Vec<Arc<DataFile>> {
    let mut rows = 0;
    let mut enough = Vec::new();
    for file in files {
        if rows >= limit as u64 {
            break;
        }
        rows += file.rows().unwrap_or(0);
        enough.push(file);
    }
    enough
}

/// The statistics of all files together.
fn summed(files: &[Arc<DataFile>], schema: &SchemaRef) -> Statistics {
    Statistics::try_merge_iter(files.iter().map(|file| file.statistics.as_ref()), schema)
        .unwrap_or_else(|_| Statistics::new_unknown(schema))
}

/// The files' statistics as the pruning predicate asks for them.
struct FileStatistics<'a> {
    schema: &'a SchemaRef,
    files: &'a [Arc<DataFile>],
}

impl FileStatistics<'_> {
    fn bounds(
        &self,
        column: &Column,
        bound: impl Fn(&datafusion::common::ColumnStatistics) -> &Precision<ScalarValue>,
    ) -> Option<ArrayRef> {
        let (index, field) = self.schema.column_with_name(&column.name)?;
        let null = ScalarValue::try_from(field.data_type()).ok()?;
        let values = self.files.iter().map(|file| {
            file.statistics
                .column_statistics
                .get(index)
                .and_then(|column| bound(column).get_value())
                .cloned()
                .unwrap_or_else(|| null.clone())
        });
        ScalarValue::iter_to_array(values).ok()
    }
}

impl PruningStatistics for FileStatistics<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        self.bounds(column, |column| &column.min_value)
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        self.bounds(column, |column| &column.max_value)
    }

    fn num_containers(&self) -> usize {
        self.files.len()
    }

    fn null_counts(&self, column: &Column) -> Option<ArrayRef> {
        let (index, _) = self.schema.column_with_name(&column.name)?;
        let counts: UInt64Array = self
            .files
            .iter()
            .map(|file| {
                file.statistics
                    .column_statistics
                    .get(index)
                    .and_then(|column| column.null_count.get_value())
                    .map(|count| *count as u64)
            })
            .collect();
        Some(Arc::new(counts))
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        let counts: UInt64Array = self.files.iter().map(|file| file.rows()).collect();
        Some(Arc::new(counts))
    }

    fn contained(
        &self,
        _column: &Column,
        _values: &std::collections::HashSet<ScalarValue>,
    ) -> Option<BooleanArray> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::logical_expr::{Cast, col, lit};

    #[test]
    fn constants_are_cast_where_they_can_be() {
        let cast = |value, data_type| {
            Expr::Cast(Cast::new(Box::new(Expr::Literal(value, None)), data_type))
        };
        let short = col("id").eq(cast(ScalarValue::Int16(Some(5)), DataType::Int64));
        assert_eq!(with_constants_cast(&short), col("id").eq(lit(5_i64)));
        let long = col("id").eq(cast(ScalarValue::Int64(Some(1 << 40)), DataType::Int32));
        assert_eq!(with_constants_cast(&long), long);
    }

    #[test]
    fn the_share_left_is_told_by_the_span_of_a_column() {
        let fields = [("shop", DataType::Int32), ("note", DataType::Utf8)];
        let fields = fields.map(|(name, data_type)| Field::new(name, data_type, true));
        let schema = Schema::new(fields.to_vec());
        let mut statistics = Statistics::new_unknown(&schema);
        let shop = &mut statistics.column_statistics[0];
        shop.min_value = Precision::Exact(ScalarValue::Int32(Some(1)));
        shop.max_value = Precision::Inexact(ScalarValue::Int32(Some(100)));
        let share = |filter: Expr| share_left(&[filter], &schema, &statistics);
        assert_eq!(share(col("shop").eq(lit(7_i32))), 0.01);
        assert_eq!(
            share(col("shop").eq(lit(1_i32)).or(col("shop").eq(lit(2_i32)))),
            0.02
        );
        assert_eq!(
            share(col("shop").eq(lit(7_i32)).and(col("note").eq(lit("x")))),
            0.01
        );
        assert_eq!(share(col("note").eq(lit("x"))), 1.0);
        assert_eq!(share(col("shop").gt(lit(7_i32))), 1.0);
    }

    /// The rows that the plan reads, by their position in the file.
    fn read(access: &[RowGroupAccess], groups: &[u64]) -> Vec<u64> {
        let (mut rows, mut start) = (Vec::new(), 0);
        for (access, count) in access.iter().zip(groups) {
            match access {
                RowGroupAccess::Skip => {}
                RowGroupAccess::Scan => rows.extend(start..start + count),
                RowGroupAccess::Selection(selection) => {
                    let mut at = start;
                    for run in selection.iter() {
                        let end = at + run.row_count as u64;
                        if !run.skip {
                            rows.extend(at..end);
                        }
                        at = end;
                    }
                    assert_eq!(at, start + count);
                }
            }
            start += count;
        }
        rows
    }

    #[test]
    fn every_row_group_is_read_without_its_deleted_rows() {
        let groups = [1000, 1, 50, 300];
        let total: u64 = groups.iter().sum();
        for step in [1, 2, 7, 40, 333, 999, 5000] {
            let named: RoaringTreemap = (0..total).filter(|row| row % step == step / 2).collect();
            let without = access_of(groups.into_iter(), &Rows::Without(&named));
            let expected: Vec<u64> = (0..total).filter(|row| !named.contains(*row)).collect();
            assert_eq!(read(&without, &groups), expected, "every {step}th deleted");
            let only = access_of(groups.into_iter(), &Rows::Only(&named));
            let expected: Vec<u64> = named.iter().collect();
            assert_eq!(read(&only, &groups), expected, "every {step}th read");
        }
        let none = RoaringTreemap::new();
        let all = access_of(groups.into_iter(), &Rows::Without(&none));
        assert!(all.iter().all(|access| *access == RowGroupAccess::Scan));
        let nothing = access_of(groups.into_iter(), &Rows::Only(&none));
        assert!(nothing.iter().all(|access| *access == RowGroupAccess::Skip));
    }
}
