//! Turns a query's syntax tree into rows, with PostgreSQL's names and types.
//!
//! ```text
//! ast::Query -> resolve (async: tables, views, files; rights) -> rewrite (names, operators, types)
//!            -> SqlToRel with our binder -> LogicalPlan -> optimize -> physical plan -> stream
//! ```
//!
//! Rights are checked where a relation is resolved, and nowhere else: whatever reaches the planner
//! may be read. PostgreSQL's column names and types are decided by one mechanism: [`rewrite`] turns
//! every operator, literal, cast and call of the syntax tree into a form that reaches [`binder`]
//! with the types of its operands, so that no later step has to repair a type.
//!
//! Planning reads tables' metadata and samples of files, never rows. What fails comes back as a
//! [`SqlError`]; [`failure`] is the one place where a DataFusion error becomes one.

mod binder;
mod changes;
mod context;
pub mod cooperate;
pub mod failure;
mod few_rows;
mod files;
mod guard;
mod interval;
mod late_join;
mod lateral;
pub mod mention;
pub mod naming;
mod origins;
mod plan;
mod resolve;
mod rewrite;
mod run;
mod scalar_subquery;
mod series;
pub mod session;
pub mod typing;
pub mod view;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use boathouse_catalog::Snapshot;
use boathouse_catalog::definitions::{ObjectId, TableDefinition};
use boathouse_catalog::types::ColumnType;
use boathouse_sql::ast;
use boathouse_sql::name::QualifiedName;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, Result as DataFusionResult, ScalarValue, plan_err};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::logical_expr::{Case, Expr, LogicalPlan};

use crate::engine::Engine;
use crate::error::SqlError;
use crate::lake::{LakeError, LakeTable, TableSnapshot, Uncommitted};
pub use changes::{came_and_went, relation_of};
pub use failure::from_datafusion as failure;
pub use plan::{assigned, condition, is_of_the_moment};
pub use rewrite::AGGREGATES;
pub use run::{optimize, session_state, state_of};
pub use session::SessionInfo;

/// A scalar function of DataFusion's.
pub fn built_in(name: &str) -> Option<Arc<datafusion::logical_expr::ScalarUDF>> {
    context::BUILT_IN.scalars.get(name).cloned()
}

/// The table of a name, when the role may read all of it.
pub fn readable_table(
    context: &QueryContext,
    name: &QualifiedName,
) -> Result<Arc<TableDefinition>, SqlError> {
    let parts = [&name.catalog, &name.schema].into_iter().flatten().cloned();
    let parts: Vec<String> = parts.chain([name.name.clone()]).collect();
    resolve::readable_table(context, &resolve::Rights::of_session(context), &parts)
}

/// What a statement is planned against: the shared engine, one catalog snapshot, one session.
#[derive(Clone)]
pub struct QueryContext {
    pub engine: Arc<Engine>,
    /// The catalog as the session's transaction sees it.
    pub snapshot: Arc<Snapshot>,
    pub session: Arc<SessionInfo>,
    /// Relations that exist for this query alone and hide every other of their name: `source` of a
    /// pipeline's query.
    pub extra_relations: Vec<(String, Arc<dyn TableProvider>)>,
    /// What the session's open transaction has done to the rows of tables: it sees that.
    pub uncommitted: Arc<HashMap<ObjectId, Uncommitted>>,
    /// The versions its tables have been read at.
    pub pins: Pins,
}

/// The version of each table that a transaction reads: that which was the newest when it first came to
/// the table.
#[derive(Debug, Clone, Default)]
pub struct Pins(Arc<Mutex<HashMap<ObjectId, Arc<TableSnapshot>>>>);

impl Pins {
    /// Has the next query read a table's newest version.
    pub fn forget(&self, id: ObjectId) {
        let mut pinned = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        pinned.remove(&id);
    }
}

impl QueryContext {
    /// The table as the transaction sees it, without what it has changed itself.
    pub async fn table_snapshot(
        &self,
        id: ObjectId,
        table: &LakeTable,
    ) -> Result<Arc<TableSnapshot>, LakeError> {
        let pinned = || self.pins.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(snapshot) = pinned().get(&id) {
            return Ok(Arc::clone(snapshot));
        }
        let newest = table.snapshot(None).await?;
        Ok(Arc::clone(pinned().entry(id).or_insert(newest)))
    }
}

/// A query whose names, types and rights are settled.
#[derive(Clone)]
pub struct PlannedQuery {
    pub plan: LogicalPlan,
    /// The result's columns: PostgreSQL's names, and types by `ColumnType::from_field`.
    pub fields: SchemaRef,
    /// The type of each parameter `$1`, `$2`, ...
    pub parameters: Vec<ColumnType>,
    /// The catalog tables it reads.
    pub tables: Vec<ObjectId>,
    /// The versions it reads of the tables that are read as they are now.
    pub versions: Vec<(ObjectId, i64)>,
    /// Whether a constant such as `'today'` was read with the time of planning.
    pub holds_time: bool,
    /// Whether it asks for the session or the time, and so has to be optimized at every run.
    session_bound: bool,
    kept: Arc<OnceLock<Arc<run::Kept>>>,
}

impl PlannedQuery {
    /// Whether what it gives depends on when it runs, or for whom.
    pub fn is_bound(&self) -> bool {
        self.session_bound || self.holds_time
    }
}

/// Plans a query. `parameter_types` are the client's; `None` is inferred.
pub async fn plan_query(
    context: &QueryContext,
    query: &ast::Query,
    parameter_types: &[Option<ColumnType>],
) -> Result<PlannedQuery, SqlError> {
    plan_query_into(context, query, parameter_types, &[]).await
}

/// A column that a query's column is stored in.
pub struct Target {
    pub column: String,
    pub column_type: ColumnType,
}

/// Plans the query of an INSERT: its columns have the types of the columns they go to, by the casts
/// PostgreSQL makes for an assignment. Nothing is assigned when the query has more columns than there
/// are targets, which is for the caller to refuse.
pub async fn plan_query_into(
    context: &QueryContext,
    query: &ast::Query,
    parameter_types: &[Option<ColumnType>],
    targets: &[Target],
) -> Result<PlannedQuery, SqlError> {
    let mut query = query.clone();
    plan::assign_to(&mut query, targets);
    let rights = resolve::Rights::of_session(context);
    let bound = plan::bind(context, &rights, &mut query, parameter_types).await?;
    let plan = if bound.plan.schema().fields().len() <= targets.len() {
        plan::assign_columns(context, bound.plan, targets)?
    } else {
        bound.plan
    };
    let fields = plan::result_fields(&plan);
    let session_bound = plan::is_session_bound(&plan);
    Ok(PlannedQuery {
        plan,
        fields,
        parameters: bound.parameters,
        tables: bound.tables,
        versions: bound.versions,
        holds_time: bound.holds_time,
        session_bound,
        kept: Arc::new(OnceLock::new()),
    })
}

/// Runs a planned query; `parameters` have the types of [`PlannedQuery::parameters`]. The batches
/// have the schema [`PlannedQuery::fields`]. Dropping the stream stops the work. An error that the
/// stream gives becomes a [`SqlError`] by [`failure::from_datafusion`].
pub async fn execute_query(
    context: &QueryContext,
    planned: &PlannedQuery,
    parameters: &[ScalarValue],
) -> Result<SendableRecordBatchStream, SqlError> {
    run::execute(context, planned, parameters).await
}

/// Plans one expression over the columns of `schema`: a CHECK, a DEFAULT, an EXPECT. No table can be
/// named in it. With `wanted` the value is cast as it would be on its way into such a column.
pub fn plan_expression(
    context: &QueryContext,
    expression: &ast::Expr,
    schema: &DFSchema,
    wanted: Option<&ColumnType>,
) -> Result<Expr, SqlError> {
    let bound = plan::bind_expression(context, expression, schema, wanted)?;
    let whole = bound.transform_up(as_case).map_err(failure)?;
    Ok(whole.data)
}

/// `coalesce` as the CASE that it is: the library has no other way to evaluate it, and makes one of it in whole queries only.
fn as_case(expression: Expr) -> DataFusionResult<Transformed<Expr>> {
    let Expr::ScalarFunction(call) = expression else {
        return Ok(Transformed::no(expression));
    };
    if call.func.name() != "coalesce" {
        return Ok(Transformed::no(Expr::ScalarFunction(call)));
    }
    let mut values = call.args;
    let Some(last) = values.pop() else {
        return plan_err!("coalesce has no argument");
    };
    if values.is_empty() {
        return Ok(Transformed::yes(last));
    }
    let cases = values.into_iter();
    let cases = cases.map(|value| (Box::new(value.clone().is_not_null()), Box::new(value)));
    Ok(Transformed::yes(Expr::Case(Case {
        expr: None,
        when_then_expr: cases.collect(),
        else_expr: Some(Box::new(last)),
    })))
}
