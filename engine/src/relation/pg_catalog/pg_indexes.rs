//! `pg_indexes`: keys as indexes, for people.

use super::schema_name;
use crate::error::SqlError;
use crate::function::value::Value;
use crate::query::QueryContext;
use crate::relation::constraint;
use crate::relation::{Relation, Row, Rows};
use crate::row;

pub const RELATION: Relation = Relation {
    schema: "pg_catalog",
    name: "pg_indexes",
    oid: 12106,
    columns: "schemaname name, tablename name, indexname name, tablespace name, indexdef text",
    rows: Rows::Now(rows),
};

fn rows(context: &QueryContext) -> Result<Vec<Row>, SqlError> {
    Ok(constraint::all(&context.snapshot)
        .into_iter()
        .filter(constraint::Constraint::is_key)
        .map(|key| {
            row![
                schema_name(context, key.schema),
                context
                    .snapshot
                    .table_by_id(key.table)
                    .map(|table| table.name.clone()),
                key.name.clone(),
                Value::Null,
                key.index_definition(&context.snapshot),
            ]
        })
        .collect())
}
