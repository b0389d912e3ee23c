//! What statements ask of the planner beyond rows: constants, checks, plans as text, files.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arrow::array::{Array, RecordBatch, RecordBatchOptions, UInt64Array};
use arrow::datatypes::Schema;
use boathouse_catalog::definitions::ObjectId;
use boathouse_sql::option::OptionValue;
use boathouse_sql::statement::{CopyFormat, CopyOptions};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::datasource::file_format::FileFormatFactory;
use datafusion::datasource::file_format::format_as_file_type;
use datafusion::datasource::file_format::json::JsonFormatFactory;
use datafusion::datasource::file_format::parquet::ParquetFormatFactory;
use datafusion::datasource::source_as_provider;
use datafusion::logical_expr::{ColumnarValue, Expr, LogicalPlan, LogicalPlanBuilder};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::display::DisplayableExecutionPlan;
use datafusion::physical_plan::{ExecutionPlan, collect, displayable, execute_stream};
use futures::StreamExt;

use super::csv_sink::PostgresCsv;
use crate::error::{SqlError, SqlState};
use crate::lake::{DeltaProvider, StoreLocation};
use crate::query::failure::from_datafusion;
use crate::query::{self, PlannedQuery, QueryContext};

/// A plan kept between prepare and execute, with what it takes to know that it still holds: every
/// table read is pinned to a version while planning.
#[derive(Clone)]
pub(crate) struct KeptPlan {
    pub planned: Arc<PlannedQuery>,
    catalog: (i64, u64),
    role: ObjectId,
    search_path: Vec<String>,
    settings: Arc<BTreeMap<String, String>>,
    /// Reads rows that the transaction it was planned in has not committed: never good again.
    reads_uncommitted: bool,
    /// Reads files or system relations, which are as they were when it was planned, or holds the
    /// time of planning: good once.
    once: bool,
    used: Arc<AtomicBool>,
}

impl KeptPlan {
    pub fn new(context: &QueryContext, planned: PlannedQuery) -> Result<Self, SqlError> {
        let mut once = planned.holds_time;
        planned
            .plan
            .apply_with_subqueries(|node| {
                if let LogicalPlan::TableScan(scan) = node {
                    let provider = source_as_provider(&scan.source)?;
                    once |= provider.downcast_ref::<DeltaProvider>().is_none();
                }
                Ok(TreeNodeRecursion::Continue)
            })
            .map_err(from_datafusion)?;
        Ok(Self {
            catalog: context.snapshot.edition(),
            role: context.session.role,
            search_path: context.session.search_path.clone(),
            settings: Arc::clone(&context.session.settings),
            reads_uncommitted: reads_written(context, &planned),
            once,
            used: Arc::new(AtomicBool::new(false)),
            planned: Arc::new(planned),
        })
    }

    /// Whether the plan can hold for longer than one execution.
    pub fn is_reusable(&self) -> bool {
        !self.once
    }

    /// Whether planning again would give the same plan.
    pub async fn is_current(&self, context: &QueryContext) -> Result<bool, SqlError> {
        if self.once && self.used.swap(true, Ordering::Relaxed) {
            return Ok(false);
        }
        if self.reads_uncommitted
            || reads_written(context, &self.planned)
            || self.catalog != context.snapshot.edition()
            || self.role != context.session.role
            || self.search_path != context.session.search_path
            || !(Arc::ptr_eq(&self.settings, &context.session.settings)
                || self.settings == context.session.settings)
        {
            return Ok(false);
        }
        for (id, version) in &self.planned.versions {
            let Some(definition) = context.snapshot.table_by_id(*id) else {
                return Ok(false);
            };
            let table = context.engine.lake.table(definition).await?;
            if context.table_snapshot(*id, &table).await?.version() != *version {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Whether a plan reads a table that the open transaction has written to.
fn reads_written(context: &QueryContext, planned: &PlannedQuery) -> bool {
    let mut tables = planned.tables.iter();
    tables.any(|id| context.uncommitted.contains_key(id))
}

/// An expression ready to be evaluated on batches of `schema`.
pub(super) fn physical_expression(
    context: &QueryContext,
    expression: &Expr,
    schema: &DFSchema,
) -> Result<Arc<dyn PhysicalExpr>, SqlError> {
    query::session_state(context)
        .create_physical_expr(expression.clone(), schema)
        .map_err(from_datafusion)
}

/// The value of an expression over no columns.
pub(super) fn evaluate_constant(
    context: &QueryContext,
    expression: &Expr,
) -> Result<ScalarValue, SqlError> {
    let physical = physical_expression(context, expression, &DFSchema::empty())?;
    let one_row = RecordBatch::try_new_with_options(
        Arc::new(Schema::empty()),
        Vec::new(),
        &RecordBatchOptions::new().with_row_count(Some(1)),
    )
    .map_err(|error| SqlError::internal("could not evaluate a constant").caused_by(error))?;
    match physical.evaluate(&one_row).map_err(from_datafusion)? {
        ColumnarValue::Scalar(value) => Ok(value),
        ColumnarValue::Array(array) => {
            ScalarValue::try_from_array(&array, 0).map_err(from_datafusion)
        }
    }
}

async fn physical_plan(
    context: &QueryContext,
    plan: LogicalPlan,
) -> Result<Arc<dyn ExecutionPlan>, SqlError> {
    let state = query::session_state(context);
    let optimized = query::optimize(context, plan)?;
    state
        .query_planner()
        .create_physical_plan(&optimized, state.as_ref())
        .await
        .map_err(from_datafusion)
}

/// The physical plan, one line each; `analyze` runs it first and adds what was measured.
pub(super) async fn explain_query(
    context: &QueryContext,
    planned: &PlannedQuery,
    analyze: bool,
    verbose: bool,
) -> Result<Vec<String>, SqlError> {
    let plan = physical_plan(context, planned.plan.clone()).await?;
    let text = if analyze {
        let tasks = query::session_state(context).task_ctx();
        // The rows are counted by the plan and looked at by nobody.
        let mut rows = execute_stream(Arc::clone(&plan), tasks).map_err(from_datafusion)?;
        while let Some(batch) = rows.next().await {
            batch.map_err(from_datafusion)?;
        }
        DisplayableExecutionPlan::with_metrics(plan.as_ref())
            .indent(verbose)
            .to_string()
    } else {
        displayable(plan.as_ref()).indent(verbose).to_string()
    };
    Ok(text.lines().map(str::to_owned).collect())
}

/// Writes a query's rows as files and gives their number. A path that ends in a slash, or
/// `PARTITION_BY`, makes a folder of files; any other path one file.
pub(super) async fn write_files(
    context: &QueryContext,
    planned: &PlannedQuery,
    path: &str,
    options: &CopyOptions,
) -> Result<u64, SqlError> {
    let mut format_options: HashMap<String, String> = HashMap::new();
    let format: Arc<dyn FileFormatFactory> = match options.format {
        CopyFormat::Parquet => {
            let codec = match options.compression.as_deref() {
                None | Some("zstd") => "zstd(1)".to_owned(),
                Some("none") => "uncompressed".to_owned(),
                Some(other) => other.to_owned(),
            };
            format_options.insert("format.compression".to_owned(), codec);
            Arc::new(ParquetFormatFactory::new())
        }
        CopyFormat::Csv => {
            compression_of_text(options, &mut format_options)?;
            let zone = context.session.time_zone();
            Arc::new(PostgresCsv::new(options, &planned.fields, zone))
        }
        CopyFormat::Json => {
            compression_of_text(options, &mut format_options)?;
            Arc::new(JsonFormatFactory::new())
        }
        CopyFormat::Text | CopyFormat::Binary => {
            return Err(SqlError::unsupported("COPY TO a file in this format")
                .hint("give FORMAT parquet, csv or json"));
        }
    };
    if let Some(option) = options.file_options.first() {
        return Err(SqlError::new(
            SqlState::INVALID_PARAMETER_VALUE,
            format!("COPY has no option \"{}\"", option.name),
        )
        .hint("known options are format, compression, partition_by, header, delimiter, quote, null")
        .detail(match &option.value {
            OptionValue::Secret(_) => String::new(),
            other => format!("it was given {other}"),
        }));
    }
    for column in &options.partition_by {
        if planned.fields.field_with_name(column).is_err() {
            return Err(SqlError::new(
                SqlState::UNDEFINED_COLUMN,
                format!("column \"{column}\" of PARTITION_BY is not in the result"),
            ));
        }
    }
    let target = output_url(context, path)?;
    if !path.contains("://") && options.partition_by.is_empty() && !path.ends_with('/') {
        refuse_folder(path)?;
    }
    let plan = LogicalPlanBuilder::copy_to(
        planned.plan.clone(),
        target,
        format_as_file_type(format),
        format_options,
        options.partition_by.clone(),
    )
    .and_then(LogicalPlanBuilder::build)
    .map_err(from_datafusion)?;
    let plan = physical_plan(context, plan).await?;
    let tasks = query::session_state(context).task_ctx();
    let batches = collect(plan, tasks).await.map_err(from_datafusion)?;
    let rows = batches
        .iter()
        .filter_map(|batch| {
            let counts = batch
                .columns()
                .first()?
                .as_any()
                .downcast_ref::<UInt64Array>()?;
            (!counts.is_empty()).then(|| counts.value(0))
        })
        .sum();
    Ok(rows)
}

fn compression_of_text(
    options: &CopyOptions,
    format_options: &mut HashMap<String, String>,
) -> Result<(), SqlError> {
    match options.compression.as_deref() {
        None | Some("none") => {
            format_options.insert("format.compression".to_owned(), "uncompressed".to_owned());
            Ok(())
        }
        Some(other) => Err(SqlError::unsupported(format!(
            "compression \"{other}\" for this format"
        ))
        .hint("text files are written uncompressed; parquet takes zstd, snappy, lz4, gzip")),
    }
}

/// Where files are to go, with the store behind it made known to the runtime. A path without a
/// scheme is one of the server's own.
fn output_url(context: &QueryContext, path: &str) -> Result<String, SqlError> {
    if !path.contains("://") {
        if !Path::new(path).is_absolute() {
            return Err(SqlError::new(
                SqlState("42602"),
                "relative path not allowed for COPY to file",
            ));
        }
        return Ok(format!("file://{path}"));
    }
    let location = StoreLocation::open(path, &context.engine.config.store_options)?;
    let mut root = location.url.clone();
    root.set_path("/");
    context
        .engine
        .runtime
        .register_object_store(&root, location.root);
    Ok(path.to_owned())
}

fn refuse_folder(path: &str) -> Result<(), SqlError> {
    if Path::new(path).is_dir() {
        return Err(SqlError::new(
            SqlState::WRONG_OBJECT_TYPE,
            format!("\"{path}\" is a folder"),
        )
        .hint("end the path with a slash to write files into it"));
    }
    Ok(())
}
