//! Which rows are published: the query of the pipeline, over the rows of a table or over those that came and went.
//!
//! ```text
//! rows of a version    ─▶ source ─▶ AS SELECT ─▶ as they come
//! changes of versions  ─▶ source ─▶ AS SELECT ─▶ by version, key, rows that went before rows that came
//! ```
//!
//! The query goes row by row, so what it makes of a row that went is what it made of it when it came. Two columns ride
//! along: what happened to the row, and in which version. Where messages have a key, the rows of a key in a version stand
//! together, so that a row which went and one that came are seen to be one that changed.

use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};
use boathouse_catalog::types::ColumnType;
use boathouse_sql::ast::{self, Ident, SelectItem, SetExpr};
use boathouse_sql::name::quote_identifier;
use datafusion::catalog::TableProvider;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::datasource::empty::EmptyTable;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::logical_expr::LogicalPlan;

use super::super::transform::{SOURCE, with_source};
use super::plan::plain_select;
use super::rows::RowFormat;
use crate::error::SqlError;
use crate::lake::ChangeFeed;
use crate::query::{self, QueryContext};

/// What happened to a row: `snapshot`, `insert`, `delete`.
const KIND: &str = "#kind";
/// The version it happened in.
const VERSION: &str = "#version";
/// The relation that `source` is made of.
const ROWS: &str = "#rows";

/// The query whose rows are published.
pub(super) struct Selection {
    /// With the columns that ride along.
    query: Box<ast::Query>,
    /// The columns of messages.
    columns: Vec<String>,
    fields: SchemaRef,
    /// The columns of the key; empty where there is none.
    pub key: Vec<String>,
}

impl Selection {
    /// `key` is the statement's, and that of the table, which is taken when the statement has none and the messages have
    /// its columns.
    pub async fn plan(
        context: &QueryContext,
        query: &ast::Query,
        table: &SchemaRef,
        (key, primary_key): (&[String], &[String]),
    ) -> Result<Self, SqlError> {
        let not_by_row = || {
            SqlError::unsupported("a query that is not row by row, of a pipeline INTO KAFKA")
                .hint("select, rename, cast and filter the columns of source; do the rest in a pipeline or view before it")
        };
        let select = plain_select(query).ok_or_else(not_by_row)?;
        let mut source = table.fields().to_vec();
        source.extend([
            Arc::new(ColumnType::Text.to_field(KIND, true)),
            Arc::new(ColumnType::BigInt.to_field(VERSION, true)),
        ]);
        let source: SchemaRef = Arc::new(Schema::new(source));
        let with_empty = with_source(context, Arc::new(EmptyTable::new(source)));
        let planned = query::plan_query(&with_empty, query, &[]).await?;
        if !is_row_wise(&planned.plan) {
            return Err(not_by_row());
        }
        // A row that went would be looked for under another key than the one it came with, or pass WHERE no more.
        if planned.holds_time || query::is_of_the_moment(&planned.plan) {
            return Err(SqlError::unsupported(
                "a query that depends on more than the row, of a pipeline INTO KAFKA",
            )
            .hint("leave out now(), random() and the like: what a row becomes must be the same when it comes and when it goes"));
        }
        let takes_all = select.projection.iter().any(|item| {
            matches!(
                item,
                SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(_, _)
            )
        });
        let mut query = Box::new(query.clone());
        if let SetExpr::Select(select) = query.body.as_mut()
            && !takes_all
        {
            for name in [KIND, VERSION] {
                let column = ast::Expr::Identifier(Ident::with_quote('"', name));
                select.projection.push(SelectItem::UnnamedExpr(column));
            }
        }
        let planned = query::plan_query(&with_empty, &query, &[]).await?;
        let fields = planned.fields.fields().iter();
        let fields = fields.filter(|field| ![KIND, VERSION].contains(&field.name().as_str()));
        let fields: Vec<Arc<Field>> = fields.cloned().collect();
        let columns: Vec<String> = fields.iter().map(|field| field.name().clone()).collect();
        let key = match key {
            [] if primary_key.iter().all(|name| columns.contains(name)) => primary_key.to_vec(),
            key => key.to_vec(),
        };
        let fields = Arc::new(Schema::new(fields));
        // Names that the rows do not have, or have twice.
        RowFormat::new(&fields, &key)?;
        Ok(Self {
            query,
            columns,
            fields,
            key,
        })
    }

    /// How its rows are written.
    pub fn format(&self) -> Result<RowFormat, SqlError> {
        RowFormat::new(&self.fields, &self.key)
    }

    /// The rows of a version, in no order.
    pub async fn rows(
        &self,
        context: &QueryContext,
        table: Arc<dyn TableProvider>,
        version: i64,
    ) -> Result<SendableRecordBatchStream, SqlError> {
        let source = format!(
            "SELECT *, 'snapshot' AS \"{KIND}\", {version}::bigint AS \"{VERSION}\" FROM \"{ROWS}\""
        );
        let source = query::relation_of(context, &source, vec![(ROWS.to_owned(), table)]).await?;
        self.run(context, source, &[]).await
    }

    /// The changes, by version.
    pub async fn changes(
        &self,
        context: &QueryContext,
        feed: ChangeFeed,
    ) -> Result<SendableRecordBatchStream, SqlError> {
        let source = query::came_and_went(context, feed, (KIND, VERSION)).await?;
        let mut order = vec![VERSION];
        order.extend(self.key.iter().map(String::as_str));
        order.push(KIND);
        self.run(context, source, &order).await
    }

    /// The columns of messages, then what happened to the row, and when.
    async fn run(
        &self,
        context: &QueryContext,
        source: Arc<dyn TableProvider>,
        order: &[&str],
    ) -> Result<SendableRecordBatchStream, SqlError> {
        let context = with_source(context, source);
        let columns = self.columns.iter().map(String::as_str);
        let columns: Vec<String> = columns
            .chain([KIND, VERSION])
            .map(quote_identifier)
            .collect();
        let mut text = format!(
            "SELECT {} FROM ({}) AS \"{SOURCE}\"",
            columns.join(", "),
            self.query
        );
        if !order.is_empty() {
            let order: Vec<String> = order.iter().map(|name| quote_identifier(name)).collect();
            text.push_str(&format!(" ORDER BY {}", order.join(", ")));
        }
        let query = boathouse_sql::parse_query(&text)?;
        let planned = query::plan_query(&context, &query, &[]).await?;
        query::execute_query(&context, &planned, &[]).await
    }
}

/// Whether a plan makes of each row of its source one row, or none.
fn is_row_wise(plan: &LogicalPlan) -> bool {
    let mut scans = 0;
    let mut plain = true;
    let visited = plan.apply_with_subqueries(|node| {
        match node {
            LogicalPlan::Projection(_) | LogicalPlan::Filter(_) | LogicalPlan::SubqueryAlias(_) => {
            }
            LogicalPlan::TableScan(_) => scans += 1,
            _ => plain = false,
        }
        Ok(TreeNodeRecursion::Continue)
    });
    visited.is_ok() && plain && scans == 1
}
