//! `information_schema.tables`: tables and views the role has some right on.

use crate::error::SqlError;
use crate::function::value::Value;
use crate::query::QueryContext;
use crate::relation::{Relation, Row, Rows};
use crate::row;

pub const RELATION: Relation = Relation {
    schema: "information_schema",
    name: "tables",
    oid: 13002,
    columns: "table_catalog name, table_schema name, table_name name, table_type text, \
              self_referencing_column_name name, reference_generation text, \
              user_defined_type_catalog name, user_defined_type_schema name, \
              user_defined_type_name name, is_insertable_into text, is_typed text, \
              commit_action text",
    rows: Rows::Now(rows),
};

fn rows(context: &QueryContext) -> Result<Vec<Row>, SqlError> {
    let mut rows = Vec::new();
    for one in super::visible(context) {
        rows.push(row![
            context.session.database.clone(),
            one.schema,
            one.name,
            if one.is_view { "VIEW" } else { "BASE TABLE" },
            Value::Null,
            Value::Null,
            Value::Null,
            Value::Null,
            Value::Null,
            if one.is_view { "NO" } else { "YES" },
            "NO",
            Value::Null,
        ]);
    }
    Ok(rows)
}
