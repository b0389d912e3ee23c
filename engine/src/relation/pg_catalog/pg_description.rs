//! `pg_description`: comments.

use crate::error::SqlError;
use crate::query::QueryContext;
use crate::relation::{Relation, Row, Rows};
use crate::row;

pub const RELATION: Relation = Relation {
    schema: "pg_catalog",
    name: "pg_description",
    oid: 2609,
    columns: "objoid oid, classoid oid, objsubid int4, description text",
    rows: Rows::Now(rows),
};

fn rows(context: &QueryContext) -> Result<Vec<Row>, SqlError> {
    let mut rows = Vec::new();
    for schema in context.snapshot.schemas() {
        if let Some(comment) = &schema.comment {
            rows.push(row![schema.id.0, 2615i64, 0i64, comment.clone()]);
        }
    }
    for table in context.snapshot.tables() {
        if let Some(comment) = &table.comment {
            rows.push(row![table.id.0, 1259i64, 0i64, comment.clone()]);
        }
        for (index, column) in table.columns.iter().enumerate() {
            if let Some(comment) = &column.comment {
                rows.push(row![table.id.0, 1259i64, index as i64 + 1, comment.clone()]);
            }
        }
    }
    for view in context.snapshot.views() {
        if let Some(comment) = &view.comment {
            rows.push(row![view.id.0, 1259i64, 0i64, comment.clone()]);
        }
        for (index, (name, _)) in view.columns.iter().enumerate() {
            if let Some(comment) = view.column_comments.get(name) {
                rows.push(row![view.id.0, 1259i64, index as i64 + 1, comment.clone()]);
            }
        }
    }
    Ok(rows)
}
