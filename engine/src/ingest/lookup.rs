//! A pipeline's query that joins each row of the source to tables of the lake.
//!
//! What a row of the source becomes must not depend on the others: the source is read once, and nothing above it but
//! projections, filters and joins that do not make up rows of their own. The number of each row goes along as a column that
//! the query does not see, so that every row that comes out is known by the one it came from.
//!
//! The tables are read as they are when rows come, at most [`STALE_AFTER`] before: rows that were joined stay as they are when a
//! table changes. What is read of them is kept in memory, up to [`TABLES_BYTES_MAX`], until they have another version.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, AsArray, RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, sort_to_indices, take, take_record_batch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, UInt32Type};
use boathouse_catalog::Snapshot;
use boathouse_catalog::definitions::ObjectId;
use boathouse_sql::ast::{self, Expr as SqlExpr, Ident, SelectItem, SetExpr};
use datafusion::common::tree_node::{Transformed, TreeNodeRecursion};
use datafusion::datasource::empty::EmptyTable;
use datafusion::datasource::{MemTable, provider_as_source};
use datafusion::logical_expr::{JoinType, LogicalPlan, TableScan};
use datafusion::physical_plan::execute_stream;
use futures::TryStreamExt;

use super::transform::{
    Applied, FailedRow, batch_of, columns_read, conform_all, internal, plain, with_source,
};
use crate::error::SqlError;
use crate::query::{self, QueryContext};

/// How old the newest version may be that a table is read at.
const STALE_AFTER: Duration = Duration::from_secs(1);

/// What is kept of the joined tables in memory at most. Larger ones are scanned for each batch of rows.
const TABLES_BYTES_MAX: usize = 64 << 20;

/// The number of a row of the source. No column of a source can have a name like it.
const PLACE: &str = "place of the row";

/// A query of joins, planned against the columns of its source.
pub(super) struct Lookup {
    context: QueryContext,
    query: ast::Query,
    /// The source's columns and the number of each row.
    source: SchemaRef,
    fields: SchemaRef,
    prepared: Mutex<Option<Arc<Prepared>>>,
}

/// A plan whose tables are in memory, or are read where they are.
struct Prepared {
    at: Instant,
    /// What was planned, before rows took the place of tables.
    planned: LogicalPlan,
    plan: LogicalPlan,
    /// Which of its columns is the number of the row.
    place: usize,
    versions: Vec<(ObjectId, i64)>,
}

impl Lookup {
    /// `None` when a row of the source does not stand for itself in the query. Gives also the source's columns that it reads.
    pub async fn plan(
        context: &QueryContext,
        query: &ast::Query,
        source: &SchemaRef,
    ) -> Result<Option<(Self, Vec<String>)>, SqlError> {
        let place = Arc::new(Field::new(PLACE, DataType::UInt32, false));
        let fields = source.fields().iter().cloned().chain([place]);
        let source = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        // A query of all columns has it already.
        for query in with_place(query).into_iter().chain([query.clone()]) {
            let mut lookup = Self {
                context: context.clone(),
                query,
                source: Arc::clone(&source),
                fields: Arc::new(Schema::empty()),
                prepared: Mutex::default(),
            };
            let (plan, fields) = match lookup.plan_on(Arc::clone(&context.snapshot)).await {
                Ok(Some((plan, fields, _))) => (plan, fields),
                Ok(None) => continue,
                // Rows that are grouped have no number. Whatever else is wrong has been told before.
                Err(error) if error.state.0.starts_with("42") => continue,
                Err(error) => return Err(error),
            };
            let fields = fields.fields().iter();
            let fields = fields.filter(|field| field.name() != PLACE).cloned();
            lookup.fields = plain(&Schema::new(fields.collect::<Vec<_>>()));
            let mut read = columns_read(&plan, &source);
            read.retain(|name| name != PLACE);
            return Ok(Some((lookup, read)));
        }
        Ok(None)
    }

    /// The columns it gives.
    pub fn fields(&self) -> &SchemaRef {
        &self.fields
    }

    /// The optimized plan on the newest versions of the tables that a catalog has, its columns and the tables' versions; `None` when it is not of this kind.
    async fn plan_on(
        &self,
        catalog: Arc<Snapshot>,
    ) -> Result<Option<(LogicalPlan, SchemaRef, Vec<(ObjectId, i64)>)>, SqlError> {
        let mut context = self.context.clone();
        context.pins = query::Pins::default();
        context.snapshot = catalog;
        let context = with_source(
            &context,
            Arc::new(EmptyTable::new(Arc::clone(&self.source))),
        );
        let planned = query::plan_query(&context, &self.query, &[]).await?;
        let places = planned.fields.fields().iter();
        if places.filter(|field| field.name() == PLACE).count() != 1 {
            return Ok(None);
        }
        let plan = query::optimize(&context, planned.plan.clone())?;
        if !self.stands_for_itself(&plan)? {
            return Ok(None);
        }
        Ok(Some((plan, planned.fields, planned.versions)))
    }

    /// Whether each row of the source becomes what it becomes whatever the others are.
    fn stands_for_itself(&self, plan: &LogicalPlan) -> Result<bool, SqlError> {
        if self.scans(plan)? != 1 {
            return Ok(false);
        }
        let mut current = plan;
        loop {
            current = match current {
                LogicalPlan::Projection(projection) => projection.input.as_ref(),
                LogicalPlan::Filter(filter) => filter.input.as_ref(),
                LogicalPlan::SubqueryAlias(alias) => alias.input.as_ref(),
                LogicalPlan::TableScan(scan) => {
                    return Ok(self.is_source(scan) && scan.fetch.is_none());
                }
                LogicalPlan::Join(join) => {
                    let is_left = self.scans(&join.left)? == 1;
                    match (join.join_type, is_left) {
                        (JoinType::Inner, _)
                        | (
                            JoinType::Left
                            | JoinType::LeftSemi
                            | JoinType::LeftAnti
                            | JoinType::LeftMark,
                            true,
                        )
                        | (
                            JoinType::Right
                            | JoinType::RightSemi
                            | JoinType::RightAnti
                            | JoinType::RightMark,
                            false,
                        ) => {}
                        _ => return Ok(false),
                    }
                    if is_left {
                        join.left.as_ref()
                    } else {
                        join.right.as_ref()
                    }
                }
                _ => return Ok(false),
            };
        }
    }

    /// How often the source is read.
    fn scans(&self, plan: &LogicalPlan) -> Result<usize, SqlError> {
        let mut found = 0;
        plan.apply_with_subqueries(|node| {
            if let LogicalPlan::TableScan(scan) = node
                && self.is_source(scan)
            {
                found += 1;
            }
            Ok(TreeNodeRecursion::Continue)
        })
        .map_err(query::failure)?;
        Ok(found)
    }

    fn is_source(&self, scan: &TableScan) -> bool {
        scan.source.schema() == self.source
    }

    /// What is planned for the tables' present versions.
    async fn prepared(&self) -> Result<Arc<Prepared>, SqlError> {
        let known = self
            .prepared
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if let Some(known) = &known
            && known.at.elapsed() < STALE_AFTER
        {
            return Ok(Arc::clone(known));
        }
        let at = Instant::now();
        let newest = self.context.engine.catalog.snapshot();
        let Some((plan, fields, versions)) = self.plan_on(newest).await? else {
            return Err(SqlError::internal(
                "the query of a pipeline has become another one",
            ));
        };
        let place = fields.index_of(PLACE).map_err(internal)?;
        let planned = plan.clone();
        let plan = match known {
            // What has no version may have changed.
            Some(known)
                if !versions.is_empty() && known.versions == versions && known.planned == plan =>
            {
                known.plan.clone()
            }
            _ => self.in_memory(plan).await?,
        };
        let prepared = Arc::new(Prepared {
            at,
            planned,
            plan,
            place,
            versions,
        });
        let mut kept = self.prepared.lock().unwrap_or_else(PoisonError::into_inner);
        *kept = Some(Arc::clone(&prepared));
        Ok(prepared)
    }

    /// The plan with the rows of its tables in place of the tables, as far as they are few.
    async fn in_memory(&self, plan: LogicalPlan) -> Result<LogicalPlan, SqlError> {
        let mut scans: Vec<TableScan> = Vec::new();
        plan.apply_with_subqueries(|node| {
            if let LogicalPlan::TableScan(scan) = node
                && !self.is_source(scan)
            {
                scans.push(scan.clone());
            }
            Ok(TreeNodeRecursion::Continue)
        })
        .map_err(query::failure)?;
        let mut left = TABLES_BYTES_MAX;
        let mut held: Vec<(TableScan, TableScan)> = Vec::new();
        for scan in scans {
            if held.iter().any(|(of, _)| *of == scan) {
                continue;
            }
            if let Some((rows, bytes)) = self.rows_of(&scan, left).await? {
                left -= bytes;
                let schema = Arc::new(scan.projected_schema.as_arrow().clone());
                let table = MemTable::try_new(schema, vec![rows]).map_err(query::failure)?;
                let from_memory = TableScan {
                    source: provider_as_source(Arc::new(table)),
                    projection: None,
                    filters: Vec::new(),
                    fetch: None,
                    ..scan.clone()
                };
                held.push((scan, from_memory));
            }
        }
        let replaced = plan.transform_up_with_subqueries(|node| {
            if let LogicalPlan::TableScan(scan) = &node
                && let Some((_, from_memory)) = held.iter().find(|(of, _)| of == scan)
            {
                return Ok(Transformed::yes(LogicalPlan::TableScan(
                    from_memory.clone(),
                )));
            }
            Ok(Transformed::no(node))
        });
        Ok(replaced.map_err(query::failure)?.data)
    }

    /// The rows of a scan and their bytes, unless they are more than `bytes_max`.
    async fn rows_of(
        &self,
        scan: &TableScan,
        bytes_max: usize,
    ) -> Result<Option<(Vec<RecordBatch>, usize)>, SqlError> {
        let schema = Arc::new(scan.projected_schema.as_arrow().clone());
        let mut rows = self.stream(&LogicalPlan::TableScan(scan.clone())).await?;
        let (mut held, mut bytes) = (Vec::new(), 0);
        while let Some(batch) = rows.try_next().await.map_err(query::failure)? {
            bytes += batch.get_array_memory_size();
            if bytes > bytes_max {
                return Ok(None);
            }
            held.push(
                batch_of(&schema, batch.columns().to_vec(), batch.num_rows())
                    .map_err(query::failure)?,
            );
        }
        Ok(Some((held, bytes)))
    }

    async fn stream(
        &self,
        plan: &LogicalPlan,
    ) -> Result<datafusion::execution::SendableRecordBatchStream, SqlError> {
        let state = query::session_state(&self.context);
        let planner = state.query_planner();
        let physical = planner.create_physical_plan(plan, state.as_ref()).await;
        physical
            .and_then(|physical| execute_stream(physical, state.task_ctx()))
            .map_err(query::failure)
    }

    /// What rows of the source become, in their order. Rows that fail are found by halving.
    ///
    /// # Errors
    ///
    /// The tables cannot be read, or are no longer what the query needs.
    pub async fn apply(
        &self,
        source: &RecordBatch,
    ) -> Result<(Vec<Applied>, Vec<FailedRow>), SqlError> {
        let prepared = self.prepared().await?;
        let (mut applied, mut failed) = (Vec::new(), Vec::new());
        let mut parts = vec![(0, source.clone())];
        while let Some((first, part)) = parts.pop() {
            let rows = part.num_rows();
            match self.join(&prepared, &part, first).await {
                Ok(joined) => applied.push(joined),
                Err(error) if !is_of_a_row(&error) => return Err(error),
                Err(error) if rows <= 1 => failed.push(FailedRow { row: first, error }),
                Err(_) => {
                    let half = rows / 2;
                    let second = first + u32::try_from(half).unwrap_or(u32::MAX);
                    parts.push((second, part.slice(half, rows - half)));
                    parts.push((first, part.slice(0, half)));
                }
            }
        }
        Ok((applied, failed))
    }

    async fn join(
        &self,
        prepared: &Prepared,
        source: &RecordBatch,
        first: u32,
    ) -> Result<Applied, SqlError> {
        let count = u32::try_from(source.num_rows()).unwrap_or(u32::MAX);
        let places = UInt32Array::from_iter_values(first..first.saturating_add(count));
        let named = self.source.fields().len() - 1;
        let mut columns: Vec<ArrayRef> = source.columns().iter().take(named).cloned().collect();
        columns.push(Arc::new(places));
        let rows = batch_of(&self.source, columns, source.num_rows()).map_err(query::failure)?;
        let table = MemTable::try_new(Arc::clone(&self.source), vec![vec![rows]]);
        let table = provider_as_source(Arc::new(table.map_err(query::failure)?));
        let plan = prepared.plan.clone().transform_up_with_subqueries(|node| {
            Ok(match node {
                LogicalPlan::TableScan(scan) if self.is_source(&scan) => {
                    let source = Arc::clone(&table);
                    Transformed::yes(LogicalPlan::TableScan(TableScan { source, ..scan }))
                }
                node => Transformed::no(node),
            })
        });
        let stream = self.stream(&plan.map_err(query::failure)?.data).await?;
        let schema = stream.schema();
        let joined: Vec<RecordBatch> = stream.try_collect().await.map_err(query::failure)?;
        let joined = concat_batches(&schema, &joined).map_err(internal)?;
        // Joins give rows in any order.
        let order = sort_to_indices(joined.column(prepared.place), None, None).map_err(internal)?;
        let places = take(joined.column(prepared.place), &order, None).map_err(internal)?;
        let mut output = take_record_batch(&joined, &order).map_err(internal)?;
        output.remove_column(prepared.place);
        Ok(Applied {
            output: conform_all(&output, &self.fields).map_err(query::failure)?,
            rows: places.as_primitive::<UInt32Type>().clone(),
        })
    }
}

/// Whether values are to blame, and not the tables or the storage.
fn is_of_a_row(error: &SqlError) -> bool {
    !error.retryable && matches!(error.state.0.get(..2), Some("21" | "22" | "23"))
}

/// The query with the number of the row as a further item, when it is a SELECT.
fn with_place(query: &ast::Query) -> Option<ast::Query> {
    let mut query = query.clone();
    let SetExpr::Select(select) = query.body.as_mut() else {
        return None;
    };
    let item = SqlExpr::Identifier(Ident::with_quote('"', PLACE));
    select.projection.push(SelectItem::UnnamedExpr(item));
    Some(query)
}
