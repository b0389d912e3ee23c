//! `pg_language`: languages of functions.

use crate::error::SqlError;
use crate::function::value::Value;
use crate::query::QueryContext;
use crate::relation::{Relation, Row, Rows};
use crate::row;

pub const RELATION: Relation = Relation {
    schema: "pg_catalog",
    name: "pg_language",
    oid: 2612,
    columns: "oid oid, lanname name, lanowner oid, lanispl bool, lanpltrusted bool, \
              lanplcallfoid oid, laninline oid, lanvalidator oid, lanacl text[]",
    rows: Rows::Now(rows),
};

fn rows(context: &QueryContext) -> Result<Vec<Row>, SqlError> {
    let _ = context;
    Ok(vec![
        row![
            12i64,
            "internal",
            10i64,
            false,
            false,
            0i64,
            0i64,
            0i64,
            Value::Null
        ],
        row![
            14i64,
            "sql",
            10i64,
            false,
            true,
            0i64,
            0i64,
            0i64,
            Value::Null
        ],
    ])
}
