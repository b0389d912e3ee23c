//! `pg_tables`: tables for people.

use super::{role_name, schema_name};
use crate::error::SqlError;
use crate::function::value::Value;
use crate::query::QueryContext;
use crate::relation::{Relation, Row, Rows};
use crate::row;

pub const RELATION: Relation = Relation {
    schema: "pg_catalog",
    name: "pg_tables",
    oid: 12104,
    columns: "schemaname name, tablename name, tableowner name, tablespace name, hasindexes bool, \
              hasrules bool, hastriggers bool, rowsecurity bool",
    rows: Rows::Now(rows),
};

fn rows(context: &QueryContext) -> Result<Vec<Row>, SqlError> {
    Ok(context
        .snapshot
        .tables()
        .map(|table| {
            row![
                schema_name(context, table.schema),
                table.name.clone(),
                role_name(context, table.owner),
                Value::Null,
                table.primary_key.is_some() || !table.unique_keys.is_empty(),
                false,
                false,
                false,
            ]
        })
        .collect())
}
