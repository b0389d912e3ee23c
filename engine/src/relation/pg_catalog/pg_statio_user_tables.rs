//! `pg_statio_user_tables`: reading of tables; not counted here.

use super::schema_name;
use crate::error::SqlError;
use crate::function::value::Value;
use crate::query::QueryContext;
use crate::relation::{Relation, Row, Rows};
use crate::row;

pub const RELATION: Relation = Relation {
    schema: "pg_catalog",
    name: "pg_statio_user_tables",
    oid: 12110,
    columns: "relid oid, schemaname name, relname name, heap_blks_read int8, heap_blks_hit int8, \
              idx_blks_read int8, idx_blks_hit int8, toast_blks_read int8, toast_blks_hit int8, \
              tidx_blks_read int8, tidx_blks_hit int8",
    rows: Rows::Now(rows),
};

fn rows(context: &QueryContext) -> Result<Vec<Row>, SqlError> {
    Ok(context
        .snapshot
        .tables()
        .map(|table| {
            let mut row = row![
                table.id.0,
                schema_name(context, table.schema),
                table.name.clone(),
            ];
            row.resize(11, Value::Null);
            row
        })
        .collect())
}
