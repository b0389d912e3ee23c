//! `pg_shdescription`: comments on roles and the database.

use crate::error::SqlError;
use crate::query::QueryContext;
use crate::relation::{Relation, Row, Rows};
use crate::row;

pub const RELATION: Relation = Relation {
    schema: "pg_catalog",
    name: "pg_shdescription",
    oid: 2396,
    columns: "objoid oid, classoid oid, description text",
    rows: Rows::Now(rows),
};

fn rows(context: &QueryContext) -> Result<Vec<Row>, SqlError> {
    let mut rows = Vec::new();
    for role in context.snapshot.roles() {
        if let Some(comment) = &role.comment {
            rows.push(row![role.id.0, 1260i64, comment.clone()]);
        }
    }
    if let Some(comment) = context.snapshot.database_comment() {
        rows.push(row![
            crate::function::system::DATABASE_OID,
            1262i64,
            comment.to_owned()
        ]);
    }
    Ok(rows)
}
