//! `pg_tablespace`: tablespaces.

use crate::error::SqlError;
use crate::function::value::Value;
use crate::query::QueryContext;
use crate::relation::{Relation, Row, Rows};
use crate::row;

pub const RELATION: Relation = Relation {
    schema: "pg_catalog",
    name: "pg_tablespace",
    oid: 1213,
    columns: "oid oid, spcname name, spcowner oid, spcacl text[], spcoptions text[]",
    rows: Rows::Now(rows),
};

fn rows(context: &QueryContext) -> Result<Vec<Row>, SqlError> {
    let _ = context;
    Ok(vec![
        row![1663i64, "pg_default", 10i64, Value::Null, Value::Null],
        row![1664i64, "pg_global", 10i64, Value::Null, Value::Null],
    ])
}
