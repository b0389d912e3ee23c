//! `EXPLAIN`: the physical plan as DataFusion writes it, one line a row; `ANALYZE` runs it.

use arrow::datatypes::SchemaRef;
use boathouse_catalog::types::ColumnType;
use boathouse_sql::Statement;
use boathouse_sql::statement::{Explain, ExplainFormat};

use super::planning;
use super::rows::{self, Column};
use crate::error::SqlError;
use crate::outcome::{Outcome, RowsTag};
use crate::query;
use crate::session::Session;

pub(super) fn fields(explain: &Explain) -> SchemaRef {
    let column_type = match explain.format {
        ExplainFormat::Json => ColumnType::Json,
        _ => ColumnType::Text,
    };
    rows::fields(&[("QUERY PLAN", column_type)])
}

pub(super) async fn execute(session: &mut Session, explain: &Explain) -> Result<Outcome, SqlError> {
    let query = match &*explain.statement {
        Statement::Query(query) => query,
        _ => {
            return Err(SqlError::unsupported(
                "EXPLAIN of a statement that is not a query",
            ));
        }
    };
    let context = session.state.query_context(&session.engine);
    let planned = query::plan_query(&context, query, &[]).await?;
    let lines =
        planning::explain_query(&context, &planned, explain.analyze, explain.verbose).await?;
    let column = match explain.format {
        ExplainFormat::Text => lines.into_iter().map(Some).collect(),
        ExplainFormat::Json => {
            let plan = serde_json::json!([{ "Plan": { "Node Type": "Plan", "Lines": lines } }]);
            vec![Some(plan.to_string())]
        }
        ExplainFormat::Xml | ExplainFormat::Yaml => {
            return Err(SqlError::unsupported("EXPLAIN in this format")
                .hint("FORMAT TEXT and FORMAT JSON are available"));
        }
    };
    rows::outcome(
        fields(explain),
        vec![Column::Text(column)],
        RowsTag::Explain,
    )
}
