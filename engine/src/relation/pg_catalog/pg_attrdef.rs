//! `pg_attrdef`: defaults of columns.

use crate::error::SqlError;
use crate::query::QueryContext;
use crate::relation::{Relation, Row, Rows};
use crate::row;

pub const RELATION: Relation = Relation {
    schema: "pg_catalog",
    name: "pg_attrdef",
    oid: 2604,
    columns: "oid oid, adrelid oid, adnum int2, adbin pg_node_tree",
    rows: Rows::Now(rows),
};

fn rows(context: &QueryContext) -> Result<Vec<Row>, SqlError> {
    let mut rows = Vec::new();
    for table in context.snapshot.tables() {
        for (index, column) in table.columns.iter().enumerate() {
            if let Some(default) = &column.default {
                let number = index as i64 + 1;
                rows.push(row![
                    3_000_000_000i64 + table.id.0 * 1600 + number,
                    table.id.0,
                    number,
                    default.clone(),
                ]);
            }
        }
    }
    Ok(rows)
}
