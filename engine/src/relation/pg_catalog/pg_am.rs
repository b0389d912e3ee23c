//! `pg_am`: access methods.

use crate::error::SqlError;
use crate::query::QueryContext;
use crate::relation::{Relation, Row, Rows};
use crate::row;

pub const RELATION: Relation = Relation {
    schema: "pg_catalog",
    name: "pg_am",
    oid: 2601,
    columns: "oid oid, amname name, amhandler regproc, amtype char(1)",
    rows: Rows::Now(rows),
};

fn rows(context: &QueryContext) -> Result<Vec<Row>, SqlError> {
    let _ = context;
    Ok(vec![
        row![2i64, "heap", 0i64, "t"],
        row![403i64, "btree", 0i64, "i"],
    ])
}
