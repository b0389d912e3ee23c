//! Reads files named in a query as relations: `read_parquet('s3://...')` and its kin.
//!
//! Parquet goes to DataFusion's own scan, Delta to the lake's; text and workbooks are decoded by the
//! connectors' formats, one stream a file, with bounded memory. The columns are judged by a sample of
//! the first files. A value that does not fit its column fails the query and names the place: a query
//! has no quarantine to put it in. Whether the role may read files was decided before this is called.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use boathouse_catalog::types::ColumnType;
use boathouse_connectors::format::{METADATA_COLUMNS, RESCUED, ROW};
use boathouse_connectors::local::LocalStore;
use boathouse_connectors::{
    DecodeSchema, FileFormat, FileStore, FormatError, InferenceLimits, LocalFile, OptionValue,
    Options, format, registry,
};
use datafusion::arrow::array::{Array, AsArray, RecordBatch};
use datafusion::arrow::datatypes::{Int64Type, Schema, SchemaRef};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::Result as DataFusionResult;
use datafusion::datasource::TableType;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::listing::{
    ListingOptions, ListingTable, ListingTableConfig, ListingTableUrl,
};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::Expr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchReceiverStream;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use url::Url;

use super::QueryContext;
use super::failure::from_datafusion;
use super::resolve::Argument;
use super::typing::common_type;
use crate::error::{SqlError, SqlState};
use crate::function::scalar::external;

/// Files whose columns are looked at before the rest are taken to be like them.
const FILES_SAMPLED_MAX: usize = 8;
/// Batches decoded ahead of the query.
const BATCHES_AHEAD: usize = 2;

/// The relation of a file function. Reads no rows, but as much of the files as their columns need.
pub async fn open(
    context: &QueryContext,
    function: &str,
    arguments: &[(Option<String>, Argument)],
) -> Result<Arc<dyn TableProvider>, SqlError> {
    let (patterns, options) = split(function, arguments)?;
    match function {
        "read_parquet" => {
            refuse_options(function, &options)?;
            parquet(context, &patterns).await
        }
        "read_delta" => {
            refuse_options(function, &options)?;
            delta(context, &patterns).await
        }
        _ => decoded(context, function, &patterns, options).await,
    }
}

/// The file patterns and the options of a call.
fn split(
    function: &str,
    arguments: &[(Option<String>, Argument)],
) -> Result<(Vec<String>, BTreeMap<String, String>), SqlError> {
    let mut patterns = Vec::new();
    let mut options = BTreeMap::new();
    for (name, value) in arguments {
        match (name, value) {
            (None, Argument::Text(pattern)) => patterns.push(pattern.clone()),
            (None, Argument::List(items)) => {
                for item in items {
                    let Argument::Text(pattern) = item else {
                        return Err(needs_patterns(function));
                    };
                    patterns.push(pattern.clone());
                }
            }
            (None, _) => return Err(needs_patterns(function)),
            (Some(name), value) => {
                options.insert(name.clone(), shown(value));
            }
        }
    }
    if patterns.is_empty() {
        return Err(needs_patterns(function));
    }
    Ok((patterns, options))
}

fn needs_patterns(function: &str) -> SqlError {
    SqlError::new(
        SqlState::INVALID_PARAMETER_VALUE,
        format!("{function} needs the path, glob or URL of its files as text"),
    )
    .hint(format!("SELECT * FROM {function}('/data/*.ext')"))
}

fn shown(value: &Argument) -> String {
    match value {
        Argument::Text(text) | Argument::Number(text) => text.clone(),
        Argument::Boolean(value) => value.to_string(),
        Argument::List(items) => items.iter().map(shown).collect::<Vec<_>>().join(","),
        Argument::Null => String::new(),
    }
}

fn refuse_options(function: &str, options: &BTreeMap<String, String>) -> Result<(), SqlError> {
    match options.keys().next() {
        None => Ok(()),
        Some(name) => Err(SqlError::new(
            SqlState::INVALID_PARAMETER_VALUE,
            format!("{function} has no option \"{name}\""),
        )
        .hint(format!("{function} takes no options"))),
    }
}

fn no_files(pattern: &str) -> SqlError {
    SqlError::new(
        SqlState::UNDEFINED_FILE,
        format!("no file matches \"{pattern}\""),
    )
}

/// A path as it stands from the server's working folder.
fn absolute(pattern: &str) -> PathBuf {
    let path = Path::new(pattern.strip_prefix("file://").unwrap_or(pattern));
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// Lets DataFusion read the bucket of an URL, with the options of the lake's store.
fn register_bucket(context: &QueryContext, url: &Url) -> Result<(), SqlError> {
    if url.scheme() == "file" {
        return Ok(());
    }
    let options = context.engine.config.store_options.iter();
    let (store, _) = object_store::parse_url_opts(url, options).map_err(|error| {
        SqlError::new(
            SqlState::INVALID_PARAMETER_VALUE,
            format!("\"{url}\" is not a place files can be read from"),
        )
        .caused_by(error)
    })?;
    let mut bucket = url.clone();
    bucket.set_path("");
    context
        .engine
        .runtime
        .register_object_store(&bucket, Arc::from(store));
    Ok(())
}

async fn parquet(
    context: &QueryContext,
    patterns: &[String],
) -> Result<Arc<dyn TableProvider>, SqlError> {
    let state = super::session_state(context);
    let mut urls = Vec::with_capacity(patterns.len());
    for pattern in patterns {
        if pattern.contains("://") && !pattern.starts_with("file://") {
            let url = Url::parse(pattern).map_err(|error| {
                SqlError::new(
                    SqlState::INVALID_PARAMETER_VALUE,
                    format!("\"{pattern}\" is no URL"),
                )
                .caused_by(error)
            })?;
            register_bucket(context, &url)?;
            urls.push(ListingTableUrl::parse(pattern).map_err(from_datafusion)?);
        } else {
            let path = absolute(pattern);
            let path = path.to_str().ok_or_else(|| no_files(pattern))?;
            urls.push(ListingTableUrl::parse(path).map_err(from_datafusion)?);
        }
    }
    let mut parquet = ParquetFormat::default();
    parquet = parquet.with_force_view_types(false);
    // A pattern may name files of any ending.
    let listing = ListingOptions::new(Arc::new(parquet)).with_file_extension("");
    let config = ListingTableConfig::new_with_multi_paths(urls)
        .with_listing_options(listing)
        .infer_schema(state.as_ref())
        .await
        .map_err(from_datafusion)?;
    let empty = config
        .file_schema
        .as_ref()
        .is_none_or(|schema| schema.fields().is_empty());
    if empty {
        return Err(no_files(patterns.first().map_or("", String::as_str)));
    }
    Ok(Arc::new(
        ListingTable::try_new(config).map_err(from_datafusion)?,
    ))
}

async fn delta(
    context: &QueryContext,
    patterns: &[String],
) -> Result<Arc<dyn TableProvider>, SqlError> {
    let [location] = patterns else {
        return Err(SqlError::new(
            SqlState::INVALID_PARAMETER_VALUE,
            "read_delta takes the folder or URL of one table",
        ));
    };
    let location = if location.contains("://") {
        location.clone()
    } else {
        absolute(location).to_string_lossy().into_owned()
    };
    let table = context.engine.lake.table_at(&location).await?;
    let snapshot = table.snapshot(None).await?;
    Ok(table.provider(&snapshot))
}

fn from_format(error: FormatError, file: &str) -> SqlError {
    let mut place = format!("file \"{}\"", error.file.as_deref().unwrap_or(file));
    if let Some(sheet) = &error.sheet {
        place.push_str(&format!(", sheet \"{sheet}\""));
    }
    if let Some(row) = error.row {
        place.push_str(&format!(", row {row}"));
    }
    if let Some(column) = &error.column {
        place.push_str(&format!(", column \"{column}\""));
    }
    let mut failure = SqlError::new(SqlState(error.sqlstate), error.message.clone()).detail(place);
    failure.hint = error.hint.clone();
    failure.caused_by(error)
}

/// Finds the files of a pattern and brings them to the local disk.
async fn fetch(context: &QueryContext, pattern: &str) -> Result<Vec<LocalFile>, SqlError> {
    let (store, relative): (Arc<dyn FileStore>, String) =
        if pattern.contains("://") && !pattern.starts_with("file://") {
            let url = Url::parse(pattern).map_err(|error| {
                SqlError::new(
                    SqlState::INVALID_PARAMETER_VALUE,
                    format!("\"{pattern}\" is no URL"),
                )
                .caused_by(error)
            })?;
            let bucket = url.host_str().unwrap_or_default().to_owned();
            let mut values = context.engine.config.store_options.clone();
            values.insert("bucket".to_owned(), bucket.clone());
            let values = values
                .into_iter()
                .map(|(name, value)| (name, OptionValue::from(value)));
            let mut options = Options::new("the file function", values);
            let remote = registry::connector(url.scheme())?.configure(&mut options)?;
            let store = remote.files()?;
            // What follows the bucket, globs as they were written.
            let path = pattern.split_once("://").map_or("", |(_, rest)| rest);
            let path = path.split_once('/').map_or("", |(_, path)| path);
            (store, path.to_owned())
        } else {
            let path = absolute(pattern);
            let text = path.to_string_lossy().into_owned();
            let glob = text.find(['*', '?', '[', '{']).unwrap_or(text.len());
            let root_end = text[..glob].rfind('/').unwrap_or(0);
            let root = if root_end == 0 {
                "/"
            } else {
                &text[..root_end]
            };
            (
                Arc::new(LocalStore::new(root)),
                text[root_end + 1..].to_owned(),
            )
        };
    let entries = store.list(&[relative]).await?;
    if entries.is_empty() {
        return Err(no_files(pattern));
    }
    let mut files = Vec::with_capacity(entries.len());
    for entry in &entries {
        files.push(store.fetch(entry, &context.engine.config.scratch).await?);
    }
    Ok(files)
}

async fn decoded(
    context: &QueryContext,
    function: &str,
    patterns: &[String],
    options: BTreeMap<String, String>,
) -> Result<Arc<dyn TableProvider>, SqlError> {
    let name = function.trim_start_matches("read_");
    let mut options = Options::new(
        function,
        options
            .into_iter()
            .map(|(name, value)| (name, OptionValue::from(value))),
    );
    let format = format::format(name)?.configure(&mut options)?;
    options.finish()?;
    let mut files = Vec::new();
    for pattern in patterns {
        files.extend(fetch(context, pattern).await?);
    }
    let sampled = files
        .iter()
        .take(FILES_SAMPLED_MAX)
        .cloned()
        .collect::<Vec<_>>();
    let sampler = Arc::clone(&format);
    let schemas = tokio::task::spawn_blocking(move || {
        sampled
            .iter()
            .map(|file| {
                sampler
                    .infer(file, &InferenceLimits::default())
                    .map_err(|error| from_format(error, &file.name))
            })
            .collect::<Result<Vec<_>, _>>()
    })
    .await
    .map_err(|error| SqlError::internal("a file's columns could not be read").caused_by(error))??;
    Ok(Arc::new(DecodedFiles {
        schema: merge(&schemas),
        files,
        format,
    }))
}

/// The columns of all, in the order they first come; what disagrees is text.
fn merge(schemas: &[SchemaRef]) -> SchemaRef {
    let mut columns: Vec<(String, ColumnType)> = Vec::new();
    for schema in schemas {
        for field in schema.fields() {
            let given = ColumnType::from_field(field);
            match columns.iter_mut().find(|(name, _)| name == field.name()) {
                Some((_, known)) => {
                    *known = common_type(known, &given).unwrap_or(ColumnType::Text);
                }
                None => columns.push((field.name().clone(), given)),
            }
        }
    }
    let fields = columns
        .iter()
        .map(|(name, column_type)| column_type.to_field(name, true))
        .collect::<Vec<_>>();
    Arc::new(Schema::new(fields))
}

/// Files as a relation, one partition each.
struct DecodedFiles {
    schema: SchemaRef,
    files: Vec<LocalFile>,
    format: Arc<dyn FileFormat>,
}

impl std::fmt::Debug for DecodedFiles {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("DecodedFiles")
            .field("files", &self.files.len())
            .finish()
    }
}

#[async_trait]
impl TableProvider for DecodedFiles {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        limit: Option<usize>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let partitions = self
            .files
            .iter()
            .map(|file| {
                Arc::new(DecodedFile {
                    schema: Arc::clone(&self.schema),
                    file: file.clone(),
                    format: Arc::clone(&self.format),
                }) as Arc<dyn PartitionStream>
            })
            .collect();
        Ok(Arc::new(StreamingTableExec::try_new(
            Arc::clone(&self.schema),
            partitions,
            projection,
            None,
            false,
            limit,
        )?))
    }
}

/// One file as a stream.
struct DecodedFile {
    schema: SchemaRef,
    file: LocalFile,
    format: Arc<dyn FileFormat>,
}

impl std::fmt::Debug for DecodedFile {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "DecodedFile({})", self.file.name)
    }
}

impl PartitionStream for DecodedFile {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let mut builder =
            RecordBatchReceiverStream::builder(Arc::clone(&self.schema), BATCHES_AHEAD);
        let sender = builder.tx();
        let (schema, file, format) = (
            Arc::clone(&self.schema),
            self.file.clone(),
            Arc::clone(&self.format),
        );
        builder.spawn_blocking(move || {
            let mut wanted = DecodeSchema::new(Arc::clone(&schema));
            wanted.keep_unknown = false;
            let mut failure = None;
            let done = format.read(&file.as_it_is(), &wanted, &mut |decoded| {
                match check(&decoded.batch, &decoded.rejected, &file.name, &schema) {
                    Ok(batch) => {
                        // The query has gone when nobody receives any more.
                        if sender.blocking_send(Ok(batch)).is_err() {
                            return ControlFlow::Break(());
                        }
                        ControlFlow::Continue(())
                    }
                    Err(error) => {
                        failure = Some(error);
                        ControlFlow::Break(())
                    }
                }
            });
            if let Some(error) = failure {
                return Err(external(error));
            }
            done.map(|_| ())
                .map_err(|error| external(from_format(error, &file.name)))
        });
        builder.build()
    }
}

/// The columns of a batch, or the first value in it that does not fit.
fn check(
    batch: &RecordBatch,
    rejected: &[boathouse_connectors::RejectedRow],
    file: &str,
    schema: &SchemaRef,
) -> Result<RecordBatch, SqlError> {
    if let Some(row) = rejected.first() {
        return Err(
            SqlError::new(SqlState::BAD_COPY_FILE_FORMAT, row.reason.clone())
                .detail(format!("file \"{file}\", row {}", row.row)),
        );
    }
    let rescued = batch
        .column_by_name(RESCUED)
        .and_then(|column| column.as_string_opt::<i32>());
    if let Some(rescued) = rescued
        && rescued.null_count() < rescued.len()
        && let Some(at) = (0..rescued.len()).find(|row| rescued.is_valid(*row))
    {
        let row = batch
            .column_by_name(ROW)
            .and_then(|column| column.as_primitive_opt::<Int64Type>())
            .map_or(0, |rows| rows.value(at));
        return Err(SqlError::new(
            SqlState::INVALID_TEXT_REPRESENTATION,
            format!("a value does not fit its column: {}", rescued.value(at)),
        )
        .detail(format!("file \"{file}\", row {row}"))
        .hint("load the file with a pipeline to keep such values aside"));
    }
    let count = batch.num_columns().saturating_sub(METADATA_COLUMNS.len());
    let columns = batch
        .columns()
        .iter()
        .take(count)
        .cloned()
        .collect::<Vec<_>>();
    let options =
        datafusion::arrow::array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)
        .map_err(|error| SqlError::internal("a decoded batch has other columns").caused_by(error))
}
