//! `information_schema.schemata`: schemas.

use super::{may_see_schema, role_name};
use crate::error::SqlError;
use crate::function::value::Value;
use crate::query::QueryContext;
use crate::relation::{Relation, Row, Rows};
use crate::row;

pub const RELATION: Relation = Relation {
    schema: "information_schema",
    name: "schemata",
    oid: 13001,
    columns: "catalog_name name, schema_name name, schema_owner name, \
              default_character_set_catalog name, default_character_set_schema name, \
              default_character_set_name name, sql_path text",
    rows: Rows::Now(rows),
};

fn rows(context: &QueryContext) -> Result<Vec<Row>, SqlError> {
    Ok(context
        .snapshot
        .schemas()
        .filter(|schema| may_see_schema(context, schema.id))
        .map(|schema| {
            row![
                context.session.database.clone(),
                schema.name.clone(),
                role_name(context, schema.owner),
                Value::Null,
                Value::Null,
                Value::Null,
                Value::Null,
            ]
        })
        .collect())
}
