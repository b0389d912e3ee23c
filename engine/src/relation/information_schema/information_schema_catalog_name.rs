//! `information_schema.information_schema_catalog_name`: the name of the database.

use crate::error::SqlError;
use crate::query::QueryContext;
use crate::relation::{Relation, Row, Rows};
use crate::row;

pub const RELATION: Relation = Relation {
    schema: "information_schema",
    name: "information_schema_catalog_name",
    oid: 13017,
    columns: "catalog_name name",
    rows: Rows::Now(rows),
};

fn rows(context: &QueryContext) -> Result<Vec<Row>, SqlError> {
    Ok(vec![row![context.session.database.clone()]])
}
