//! `pg_settings`: run-time settings.

use crate::error::SqlError;
use crate::function::value::Value;
use crate::query::QueryContext;
use crate::relation::{Relation, Row, Rows};
use crate::row;

pub const RELATION: Relation = Relation {
    schema: "pg_catalog",
    name: "pg_settings",
    oid: 12103,
    columns: "name text, setting text, unit text, category text, short_desc text, \
              extra_desc text, context text, vartype text, source text, min_val text, \
              max_val text, enumvals text[], boot_val text, reset_val text, sourcefile text, \
              sourceline int4, pending_restart bool",
    rows: Rows::Now(rows),
};

fn rows(context: &QueryContext) -> Result<Vec<Row>, SqlError> {
    Ok(context
        .session
        .settings
        .iter()
        .map(|(name, value)| {
            row![
                name.clone(),
                value.clone(),
                Value::Null,
                "Customized Options",
                "",
                Value::Null,
                "user",
                "string",
                "session",
                Value::Null,
                Value::Null,
                Value::Null,
                value.clone(),
                value.clone(),
                Value::Null,
                Value::Null,
                false,
            ]
        })
        .collect())
}
