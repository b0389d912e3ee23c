//! `pg_extension`: extensions.

use crate::error::SqlError;
use crate::function::value::Value;
use crate::query::QueryContext;
use crate::relation::{Relation, Row, Rows};
use crate::row;

pub const RELATION: Relation = Relation {
    schema: "pg_catalog",
    name: "pg_extension",
    oid: 3079,
    columns: "oid oid, extname name, extowner oid, extnamespace oid, extrelocatable bool, \
              extversion text, extconfig oid[], extcondition text[]",
    rows: Rows::Now(rows),
};

fn rows(context: &QueryContext) -> Result<Vec<Row>, SqlError> {
    let _ = context;
    Ok(vec![row![
        13i64,
        "plpgsql",
        10i64,
        11i64,
        false,
        "1.0",
        Value::Null,
        Value::Null
    ]])
}
