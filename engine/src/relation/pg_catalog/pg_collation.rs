//! `pg_collation`: collations.

use crate::error::SqlError;
use crate::function::value::Value;
use crate::query::QueryContext;
use crate::relation::{Relation, Row, Rows};
use crate::row;

pub const RELATION: Relation = Relation {
    schema: "pg_catalog",
    name: "pg_collation",
    oid: 3456,
    columns: "oid oid, collname name, collnamespace oid, collowner oid, collprovider char(1), \
              collisdeterministic bool, collencoding int4, collcollate text, collctype text, \
              colliculocale text, collversion text",
    rows: Rows::Now(rows),
};

fn rows(context: &QueryContext) -> Result<Vec<Row>, SqlError> {
    let _ = context;
    let row =
        |oid: i64, name: &'static str, provider: &'static str, locale: Option<&'static str>| {
            row![
                oid,
                name,
                11i64,
                10i64,
                provider,
                true,
                -1i64,
                locale,
                locale,
                Value::Null,
                Value::Null
            ]
        };
    Ok(vec![
        row(100, "default", "d", None),
        row(950, "C", "c", Some("C")),
        row(951, "POSIX", "c", Some("POSIX")),
    ])
}
