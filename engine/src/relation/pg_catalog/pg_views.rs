//! `pg_views`: views for people.

use super::{role_name, schema_name};
use crate::error::SqlError;
use crate::query::QueryContext;
use crate::relation::{Relation, Row, Rows};
use crate::row;

pub const RELATION: Relation = Relation {
    schema: "pg_catalog",
    name: "pg_views",
    oid: 12105,
    columns: "schemaname name, viewname name, viewowner name, definition text",
    rows: Rows::Now(rows),
};

fn rows(context: &QueryContext) -> Result<Vec<Row>, SqlError> {
    Ok(context
        .snapshot
        .views()
        .map(|view| {
            row![
                schema_name(context, view.schema),
                view.name.clone(),
                role_name(context, view.owner),
                format!(" {};", view.query),
            ]
        })
        .collect())
}
