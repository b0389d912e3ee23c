//! `AS SELECT ... FROM source`: from what a file holds to what the target gets.
//!
//! Most pipelines select, rename, cast and filter: row by row. Such a query is compiled once into
//! expressions that are evaluated batch by batch, which keeps every output row next to the source row
//! it came from; a row whose evaluation fails is found by halving and set aside, the others go on. So
//! do those of messages that join them to tables ([`Lookup`]). Any other query (aggregates, DISTINCT,
//! ORDER BY, joins of files) runs as one streaming plan over all files of a run; there a failing row
//! fails the run.
//!
//! Cells that did not fit their column are in `_rescued`. A row-wise query that does not mention
//! `_rescued` gets it as its last column, so that such a cell is never lost on the way.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::{cast, filter_record_batch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use boathouse_catalog::types::ColumnType;
use boathouse_connectors::DecodeSchema;
use boathouse_connectors::format::{FILE, RESCUED, ROW, SHEET};
use boathouse_sql::ast::{
    self, Expr as SqlExpr, GroupByExpr, Ident, SelectItem, SetExpr, TableFactor,
};
use boathouse_sql::statement::OnSchemaChange;
use datafusion::catalog::TableProvider;
use datafusion::common::DataFusionError;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::datasource::empty::EmptyTable;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_expr_common::physical_expr::is_volatile;

use super::lookup::Lookup;
use super::quarantine::RawCells;
use super::row_plan::{Metadata, RowPlan};
use super::schema::SourceSchema;
use crate::error::{SqlError, SqlState};
use crate::query::{self, QueryContext};

/// The relation a pipeline's query reads.
pub(super) const SOURCE: &str = "source";

/// A pipeline's query, planned against the columns of its source.
pub(super) struct Transform {
    decode: DecodeSchema,
    /// The decoded columns with their SQL types.
    source: SchemaRef,
    fields: SchemaRef,
    kind: Kind,
    /// Columns whose misfits nobody would see: the query reads them and not `_rescued`.
    unrescued: Vec<String>,
    /// Whatever is rescued would be lost: the target has no `_rescued` and must not get one.
    loses_rescued: bool,
    /// Declared NOT NULL.
    not_null: Vec<String>,
}

/// A source row that cannot be taken, whatever the query makes of it.
pub(super) struct UnfitRow {
    pub row: usize,
    pub column: String,
    pub sqlstate: SqlState,
    pub reason: String,
}

enum Kind {
    /// No query: these columns of the source.
    Columns(Vec<usize>),
    RowWise(RowWise),
    Lookup(Box<Lookup>),
    Whole(Box<ast::Query>),
}

/// What a column is made of, by the places of the source's columns.
pub(super) struct Reads {
    /// It is this one, unchanged.
    pub is: Option<usize>,
    pub all: BTreeSet<usize>,
}

/// A query of projections and filters over `source`, compiled.
pub(super) struct RowWise {
    scanned: Vec<usize>,
    steps: Vec<Step>,
    fields: SchemaRef,
    is_bound: bool,
}

enum Step {
    Filter(Arc<dyn PhysicalExpr>),
    Project(Vec<Arc<dyn PhysicalExpr>>, SchemaRef),
}

/// What became of some rows: output rows in order, and for each the source row it came from.
pub(super) struct Applied {
    pub output: RecordBatch,
    pub rows: UInt32Array,
}

/// A source row that could not be evaluated.
pub(super) struct FailedRow {
    pub row: u32,
    pub error: SqlError,
}

impl Transform {
    /// `left_out` names metadata columns that a pipeline without a query does not give.
    pub async fn plan(
        plan: &RowPlan,
        source: &SourceSchema,
        left_out: &[&str],
    ) -> Result<Self, SqlError> {
        let columns = source.arrow();
        let decode = DecodeSchema {
            columns,
            keep_unknown: true,
            inferred: plan.declared.is_none(),
        };
        let source = match &plan.metadata {
            Metadata::OfFile { .. } => decode.output(),
            Metadata::OfMessage(included) => with_included(&decode.columns, included),
        };
        let source = typed(&source);
        let has_parts = !matches!(plan.metadata, Metadata::OfFile { has_parts: false });
        let Some(query) = &plan.query else {
            let keep: Vec<usize> = (0..source.fields().len())
                .filter(|index| {
                    let name = source.field(*index).name().as_str();
                    !left_out.contains(&name)
                        // Only sheets and members of archives have names.
                        && (name != SHEET || has_parts)
                })
                .collect();
            let fields = Arc::new(source.project(&keep).map_err(internal)?);
            return Ok(Self {
                decode,
                source,
                fields,
                kind: Kind::Columns(keep),
                unrescued: Vec::new(),
                loses_rescued: left_out.contains(&RESCUED),
                not_null: plan.not_null.clone(),
            });
        };
        if let Some(extended) = with_rescued(query)
            && let Ok(planned) = Self::plan_query(plan, &decode, &source, &extended).await
            && planned.is_row_wise()
        {
            return Ok(planned);
        }
        Self::plan_query(plan, &decode, &source, query).await
    }

    async fn plan_query(
        plan: &RowPlan,
        decode: &DecodeSchema,
        source: &SchemaRef,
        query: &ast::Query,
    ) -> Result<Self, SqlError> {
        let context = with_source(&plan.context, Arc::new(EmptyTable::new(Arc::clone(source))));
        let planned = query::plan_query(&context, query, &[]).await?;
        if !planned.parameters.is_empty() {
            return Err(takes_no_parameters());
        }
        let fields = plain(&planned.fields);
        let optimized = query::optimize(&context, planned.plan.clone())?;
        let read = columns_read(&optimized, source);
        let compiled = compile(&context, &optimized, source)?;
        let looks_up = compiled.is_none() && matches!(plan.metadata, Metadata::OfMessage(_));
        let lookup = match looks_up {
            true => Lookup::plan(&plan.context, query, source).await?,
            false => None,
        };
        let (kind, fields, read) = match (compiled, lookup) {
            (Some((scanned, steps)), _) => {
                let query = RowWise {
                    scanned,
                    steps,
                    fields: Arc::clone(&fields),
                    is_bound: planned.is_bound(),
                };
                (Kind::RowWise(query), fields, read)
            }
            (None, Some((lookup, read))) => {
                let fields = Arc::clone(lookup.fields());
                (Kind::Lookup(Box::new(lookup)), fields, read)
            }
            (None, None) => (Kind::Whole(Box::new(query.clone())), fields, read),
        };
        let unrescued = if read.iter().any(|name| name == RESCUED) {
            Vec::new()
        } else {
            read
        };
        Ok(Self {
            decode: decode.clone(),
            source: Arc::clone(source),
            fields,
            kind,
            unrescued,
            loses_rescued: false,
            not_null: plan.not_null.clone(),
        })
    }

    /// Rows of the source that must be set aside before the query: a cell that is not of its column's
    /// type would become a NULL without a trace, or a declared column would be NULL against its word.
    pub fn unfit(&self, source: &RecordBatch) -> Vec<UnfitRow> {
        let mut unfit = Vec::new();
        let rescued = source
            .column_by_name(RESCUED)
            .and_then(|column| column.as_string_opt::<i32>());
        if let Some(rescued) = rescued.filter(|column| column.null_count() < column.len())
            && (self.loses_rescued || !self.unrescued.is_empty())
        {
            for (row, text) in rescued.iter().enumerate() {
                let object = text.and_then(|text| serde_json::from_str::<RawCells>(text).ok());
                let misfit = object
                    .iter()
                    .flatten()
                    .find(|(name, _)| self.loses_rescued || self.unrescued.contains(name));
                if let Some((name, value)) = misfit {
                    unfit.push(UnfitRow {
                        row,
                        column: name.clone(),
                        sqlstate: SqlState::INVALID_TEXT_REPRESENTATION,
                        reason: match source.column_by_name(name) {
                            Some(_) => format!("{value} is not of the type of column \"{name}\""),
                            None => format!("there is no column for \"{name}\", which is {value}"),
                        },
                    });
                }
            }
        }
        for name in &self.not_null {
            let Some(column) = source.column_by_name(name) else {
                continue;
            };
            if column.null_count() == 0 {
                continue;
            }
            for row in (0..column.len()).filter(|row| column.is_null(*row)) {
                if unfit.iter().any(|known| known.row == row) {
                    continue;
                }
                unfit.push(UnfitRow {
                    row,
                    column: name.clone(),
                    sqlstate: SqlState::NOT_NULL_VIOLATION,
                    reason: format!("column \"{name}\" is declared NOT NULL and has no value"),
                });
            }
        }
        unfit
    }

    pub fn decode_schema(&self) -> &DecodeSchema {
        &self.decode
    }

    /// The decoded columns with their SQL types.
    pub fn source(&self) -> &SchemaRef {
        &self.source
    }

    /// The output columns.
    pub fn fields(&self) -> &SchemaRef {
        &self.fields
    }

    pub fn is_row_wise(&self) -> bool {
        !matches!(self.kind, Kind::Whole(_))
    }

    /// The query to run over a whole source, when it is not row by row.
    pub fn whole_query(&self) -> Option<&ast::Query> {
        match &self.kind {
            Kind::Whole(query) => Some(query),
            Kind::Columns(_) | Kind::RowWise(_) | Kind::Lookup(_) => None,
        }
    }

    /// Whether rows are joined to tables.
    pub fn is_lookup(&self) -> bool {
        matches!(self.kind, Kind::Lookup(_))
    }

    /// Applies a row-wise query. Rows that fail are set aside.
    ///
    /// # Errors
    ///
    /// Tables that rows are joined to cannot be read.
    pub async fn apply(
        &self,
        batch: &RecordBatch,
    ) -> Result<(Vec<Applied>, Vec<FailedRow>), SqlError> {
        match &self.kind {
            Kind::Lookup(_) if batch.num_rows() == 0 => Ok((Vec::new(), Vec::new())),
            Kind::Lookup(lookup) => lookup.apply(batch).await,
            Kind::Columns(_) | Kind::RowWise(_) | Kind::Whole(_) => Ok(self.apply_all(batch, true)),
        }
    }

    /// The same as if the query had no WHERE: a row for every row.
    pub fn apply_unfiltered(&self, batch: &RecordBatch) -> (Vec<Applied>, Vec<FailedRow>) {
        self.apply_all(batch, false)
    }

    /// Whether the query leaves rows out.
    pub fn has_filter(&self) -> bool {
        match &self.kind {
            Kind::RowWise(query) => query.has_filters(),
            Kind::Columns(_) | Kind::Lookup(_) | Kind::Whole(_) => false,
        }
    }

    fn apply_all(&self, batch: &RecordBatch, filters: bool) -> (Vec<Applied>, Vec<FailedRow>) {
        let mut applied = Vec::new();
        let mut failed = Vec::new();
        if batch.num_rows() > 0 {
            self.apply_part(batch, 0, filters, &mut applied, &mut failed);
        }
        (applied, failed)
    }

    fn apply_part(
        &self,
        batch: &RecordBatch,
        first: u32,
        filters: bool,
        applied: &mut Vec<Applied>,
        failed: &mut Vec<FailedRow>,
    ) {
        match self.evaluate(batch, first, filters) {
            Ok(part) => applied.push(part),
            Err(error) if batch.num_rows() <= 1 => {
                failed.push(FailedRow {
                    row: first,
                    error: query::failure(error),
                });
            }
            Err(_) => {
                let half = batch.num_rows() / 2;
                let second = first + u32::try_from(half).unwrap_or(u32::MAX);
                self.apply_part(&batch.slice(0, half), first, filters, applied, failed);
                let rest = batch.slice(half, batch.num_rows() - half);
                self.apply_part(&rest, second, filters, applied, failed);
            }
        }
    }

    fn evaluate(
        &self,
        batch: &RecordBatch,
        first: u32,
        filters: bool,
    ) -> Result<Applied, DataFusionError> {
        let count = u32::try_from(batch.num_rows()).unwrap_or(u32::MAX);
        let mut rows = UInt32Array::from_iter_values(first..first.saturating_add(count));
        let output = match &self.kind {
            Kind::Columns(columns) => {
                let columns = batch.project(columns)?;
                conform_all(&columns, &self.fields)?
            }
            Kind::RowWise(query) => {
                let (output, kept) = query.evaluate(batch, filters)?;
                rows = arrow::compute::take(&rows, &kept, None)?
                    .as_primitive()
                    .clone();
                output
            }
            Kind::Lookup(_) | Kind::Whole(_) => {
                return Err(DataFusionError::Internal(
                    "the query is not row by row".into(),
                ));
            }
        };
        Ok(Applied { output, rows })
    }
}

impl RowWise {
    /// `None` when the query is another than of projections and filters. `source` is what it reads.
    pub async fn plan(
        context: &QueryContext,
        query: &ast::Query,
        source: &SchemaRef,
    ) -> Result<Option<Self>, SqlError> {
        let context = with_source(context, Arc::new(EmptyTable::new(Arc::clone(source))));
        let planned = query::plan_query(&context, query, &[]).await?;
        if !planned.parameters.is_empty() {
            return Err(takes_no_parameters());
        }
        let optimized = query::optimize(&context, planned.plan.clone())?;
        let compiled = compile(&context, &optimized, source)?;
        Ok(compiled.map(|(scanned, steps)| Self {
            scanned,
            steps,
            fields: plain(&planned.fields),
            is_bound: planned.is_bound(),
        }))
    }

    /// The columns it gives.
    pub fn fields(&self) -> &SchemaRef {
        &self.fields
    }

    /// Whether it may leave rows out.
    pub fn has_filters(&self) -> bool {
        let mut steps = self.steps.iter();
        steps.any(|step| matches!(step, Step::Filter(_)))
    }

    /// Whether a value may be another when it is asked for again.
    pub fn is_volatile(&self) -> bool {
        let volatile = |one: &Arc<dyn PhysicalExpr>| is_volatile(one);
        let mut steps = self.steps.iter();
        self.is_bound
            || steps.any(|step| match step {
                Step::Filter(predicate) => volatile(predicate),
                Step::Project(items, _) => items.iter().any(volatile),
            })
    }

    /// For each column it gives, what of the source that is made of.
    pub fn inputs(&self) -> Vec<Reads> {
        self.follow_inputs().0
    }

    /// The columns of the source that decide which rows it gives.
    pub fn filters_by(&self) -> BTreeSet<usize> {
        self.follow_inputs().1
    }

    fn follow_inputs(&self) -> (Vec<Reads>, BTreeSet<usize>) {
        let scanned = self.scanned.iter().map(|at| Reads {
            is: Some(*at),
            all: BTreeSet::from([*at]),
        });
        let mut current: Vec<Reads> = scanned.collect();
        let mut filters = BTreeSet::new();
        let all = |current: &[Reads], item: &Arc<dyn PhysicalExpr>| -> BTreeSet<usize> {
            let columns = collect_columns(item).into_iter();
            let columns = columns.filter_map(|column| current.get(column.index()));
            columns.flat_map(|reads| reads.all.clone()).collect()
        };
        for step in &self.steps {
            match step {
                Step::Filter(predicate) => filters.extend(all(&current, predicate)),
                Step::Project(items, _) => {
                    let reads = items.iter().map(|item| {
                        let column = item.downcast_ref::<Column>();
                        let column = column.and_then(|column| current.get(column.index()));
                        Reads {
                            is: column.and_then(|reads| reads.is),
                            all: all(&current, item),
                        }
                    });
                    current = reads.collect();
                }
            }
        }
        (current, filters)
    }

    /// The rows it gives, and which rows of the source they are; without `filters` all of them.
    pub fn evaluate(
        &self,
        source: &RecordBatch,
        filters: bool,
    ) -> Result<(RecordBatch, UInt32Array), DataFusionError> {
        let count = u32::try_from(source.num_rows()).unwrap_or(u32::MAX);
        let mut rows = UInt32Array::from_iter_values(0..count);
        let mut current = source.project(&self.scanned)?;
        for step in &self.steps {
            match step {
                Step::Filter(_) if !filters => {}
                Step::Filter(predicate) => {
                    let kept = predicate
                        .evaluate(&current)?
                        .into_array(current.num_rows())?;
                    let kept = kept.as_boolean();
                    current = filter_record_batch(&current, kept)?;
                    rows = arrow::compute::filter(&rows, kept)?.as_primitive().clone();
                }
                Step::Project(items, schema) => {
                    let columns = items
                        .iter()
                        .map(|item| item.evaluate(&current)?.into_array(current.num_rows()))
                        .collect::<Result<Vec<_>, _>>()?;
                    current = batch_of(schema, columns, current.num_rows())?;
                }
            }
        }
        Ok((conform_all(&current, &self.fields)?, rows))
    }
}

fn takes_no_parameters() -> SqlError {
    SqlError::new(
        SqlState::UNDEFINED_PARAMETER,
        "a pipeline's query takes no parameters",
    )
}

pub(super) fn conform_all(
    batch: &RecordBatch,
    fields: &SchemaRef,
) -> Result<RecordBatch, DataFusionError> {
    let columns = batch
        .columns()
        .iter()
        .zip(fields.fields())
        .map(|(column, field)| conform(column, field))
        .collect::<Result<Vec<_>, _>>()?;
    batch_of(fields, columns, batch.num_rows())
}

fn conform(column: &ArrayRef, field: &Field) -> Result<ArrayRef, DataFusionError> {
    if column.data_type() == field.data_type() {
        return Ok(Arc::clone(column));
    }
    Ok(cast(column, field.data_type())?)
}

pub(super) fn batch_of(
    schema: &SchemaRef,
    columns: Vec<ArrayRef>,
    rows: usize,
) -> Result<RecordBatch, DataFusionError> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(
        Arc::clone(schema),
        columns,
        &options,
    )?)
}

/// The context in which `source` is a relation.
pub(super) fn with_source(context: &QueryContext, source: Arc<dyn TableProvider>) -> QueryContext {
    let mut context = context.clone();
    context.extra_relations.push((SOURCE.into(), source));
    context
}

/// The decoded columns with SQL types: `_rescued` is JSON; nothing promises not to be null.
fn typed(decoded: &Schema) -> SchemaRef {
    let fields: Vec<Field> = decoded
        .fields()
        .iter()
        .map(|field| match field.name().as_str() {
            RESCUED => ColumnType::Json.to_field(RESCUED, true),
            FILE | SHEET | ROW => Field::new(field.name(), field.data_type().clone(), true),
            _ => field.as_ref().clone().with_nullable(true),
        })
        .collect();
    Arc::new(Schema::new(fields))
}

/// The columns of messages, `_rescued`, and what is included.
fn with_included(columns: &SchemaRef, included: &[Field]) -> SchemaRef {
    let mut fields: Vec<Arc<Field>> = columns.fields().iter().cloned().collect();
    fields.push(Arc::new(Field::new(RESCUED, DataType::Utf8, true)));
    fields.extend(included.iter().cloned().map(Arc::new));
    Arc::new(Schema::new(fields))
}

/// Output columns as the target can have them: nullable, in-memory types of their SQL types.
pub(super) fn plain(fields: &Schema) -> SchemaRef {
    let fields: Vec<Field> = fields
        .fields()
        .iter()
        .map(|field| ColumnType::from_field(field).to_field(field.name(), true))
        .collect();
    Arc::new(Schema::new(fields))
}

/// The query with `_rescued` as a further item, when it is a plain SELECT without it.
fn with_rescued(query: &ast::Query) -> Option<ast::Query> {
    let mut query = query.clone();
    let SetExpr::Select(select) = query.body.as_mut() else {
        return None;
    };
    let grouped = match &select.group_by {
        GroupByExpr::Expressions(expressions, _) => !expressions.is_empty(),
        GroupByExpr::All(_) => true,
    };
    if grouped || select.distinct.is_some() {
        return None;
    }
    let mentioned = select.projection.iter().any(|item| match item {
        SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(_, _) => true,
        other => other.to_string().contains(RESCUED),
    });
    if mentioned {
        return None;
    }
    let mut name = vec![Ident::new(RESCUED)];
    // Tables that other pipelines fill have one, too.
    if let Some(source) = source_in(select) {
        name.insert(0, source);
    }
    let item = SelectItem::UnnamedExpr(SqlExpr::CompoundIdentifier(name));
    select.projection.push(item);
    Some(query)
}

/// What a SELECT calls the source.
fn source_in(select: &ast::Select) -> Option<Ident> {
    let factors = select.from.iter().flat_map(|from| {
        let joined = from.joins.iter().map(|join| &join.relation);
        std::iter::once(&from.relation).chain(joined)
    });
    let mut named = factors.filter_map(|factor| match factor {
        TableFactor::Table { name, alias, .. } if name.to_string() == SOURCE => {
            let alias = alias.as_ref().map(|alias| alias.name.clone());
            Some(alias.unwrap_or_else(|| Ident::new(SOURCE)))
        }
        _ => None,
    });
    named.next()
}

/// The source's columns that a plan reads. A scan without a projection reads all.
pub(super) fn columns_read(plan: &LogicalPlan, source: &SchemaRef) -> Vec<String> {
    let mut read = Vec::new();
    let visited = plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node
            && scan.source.schema() == *source
        {
            let all = || (0..source.fields().len()).collect();
            for index in scan.projection.clone().unwrap_or_else(all) {
                read.push(source.field(index).name().clone());
            }
        }
        Ok(TreeNodeRecursion::Continue)
    });
    // The visitor itself never fails.
    let _ = visited;
    read
}

type Compiled = Option<(Vec<usize>, Vec<Step>)>;

/// Turns a plan of projections and filters over the source into steps; `None` for any other plan.
fn compile(
    context: &QueryContext,
    plan: &LogicalPlan,
    source: &SchemaRef,
) -> Result<Compiled, SqlError> {
    let state = query::session_state(context);
    let mut steps = Vec::new();
    let mut current = plan;
    loop {
        match current {
            LogicalPlan::Projection(projection) => {
                let input = projection.input.schema();
                let items = projection
                    .expr
                    .iter()
                    .map(|item| state.create_physical_expr(item.clone(), input))
                    .collect::<Result<Vec<_>, _>>()
                    .map_err(query::failure)?;
                let schema = Arc::new(projection.schema.as_arrow().clone());
                // What an expression gives may be nullable whatever its plan says.
                let fields: Vec<Field> = schema
                    .fields()
                    .iter()
                    .map(|field| field.as_ref().clone().with_nullable(true))
                    .collect();
                steps.push(Step::Project(items, Arc::new(Schema::new(fields))));
                current = projection.input.as_ref();
            }
            LogicalPlan::Filter(filter) => {
                let predicate = state
                    .create_physical_expr(filter.predicate.clone(), filter.input.schema())
                    .map_err(query::failure)?;
                steps.push(Step::Filter(predicate));
                current = filter.input.as_ref();
            }
            LogicalPlan::SubqueryAlias(alias) => current = alias.input.as_ref(),
            LogicalPlan::TableScan(scan) => {
                if scan.fetch.is_some()
                    || !scan.filters.is_empty()
                    // The planner names relations as it likes; no other has a file's columns.
                    || scan.source.schema() != *source
                {
                    return Ok(None);
                }
                let all = (0..source.fields().len()).collect();
                let scanned = scan.projection.clone().unwrap_or(all);
                steps.reverse();
                return Ok(Some((scanned, steps)));
            }
            _ => return Ok(None),
        }
    }
}

/// Whether a new column of a file becomes one of the source.
pub(super) fn adds_columns(policy: OnSchemaChange) -> bool {
    match policy {
        OnSchemaChange::AddColumns => true,
        OnSchemaChange::Rescue | OnSchemaChange::Fail => false,
    }
}

pub(super) fn internal(error: arrow::error::ArrowError) -> SqlError {
    SqlError::internal("could not form the columns of the source").caused_by(error)
}
