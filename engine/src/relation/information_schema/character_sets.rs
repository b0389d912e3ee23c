//! `information_schema.character_sets`: the one character set.

use crate::error::SqlError;
use crate::function::value::Value;
use crate::query::QueryContext;
use crate::relation::{Relation, Row, Rows};
use crate::row;

pub const RELATION: Relation = Relation {
    schema: "information_schema",
    name: "character_sets",
    oid: 13016,
    columns: "character_set_catalog name, character_set_schema name, character_set_name name, \
              character_repertoire name, form_of_use name, default_collate_catalog name, \
              default_collate_schema name, default_collate_name name",
    rows: Rows::Now(rows),
};

fn rows(context: &QueryContext) -> Result<Vec<Row>, SqlError> {
    let database = context.session.database.clone();
    Ok(vec![row![
        Value::Null,
        Value::Null,
        "UTF8",
        "UCS",
        "UTF8",
        database,
        "pg_catalog",
        "default",
    ]])
}
