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

pub mod cooperate;
pub mod session;

use std::sync::Arc;

use boathouse_catalog::Snapshot;
use boathouse_catalog::definitions::ObjectId;
use boathouse_catalog::types::ColumnType;
use boathouse_sql::ast;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::logical_expr::{Expr, LogicalPlan};

use crate::engine::Engine;
use crate::error::SqlError;
pub use session::SessionInfo;

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
    /// The statement's text, from which the position of an error is counted.
    pub statement_text: Option<Arc<str>>,
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
}

/// Plans a query. `parameter_types` are the client's; `None` is inferred.
pub async fn plan_query(
    context: &QueryContext,
    query: &ast::Query,
    parameter_types: &[Option<ColumnType>],
) -> Result<PlannedQuery, SqlError> {
    let _ = (context, query, parameter_types);
    Err(SqlError::unsupported("SELECT"))
}

/// Runs a planned query; `parameters` have the types of [`PlannedQuery::parameters`].
pub async fn execute_query(
    context: &QueryContext,
    planned: &PlannedQuery,
    parameters: &[ScalarValue],
) -> Result<SendableRecordBatchStream, SqlError> {
    let _ = (context, planned, parameters);
    Err(SqlError::unsupported("SELECT"))
}

/// Plans one expression over the columns of `schema`: a CHECK, a DEFAULT, an EXPECT.
/// No table can be named in it.
pub fn plan_expression(
    context: &QueryContext,
    expression: &ast::Expr,
    schema: &DFSchema,
) -> Result<Expr, SqlError> {
    let _ = (context, expression, schema);
    Err(SqlError::unsupported("an expression"))
}
