//! `pg_database`: the one database.

use boathouse_catalog::definitions::ObjectRef;

use super::access_list;
use crate::error::SqlError;
use crate::function::system::DATABASE_OID;
use crate::function::value::Value;
use crate::query::QueryContext;
use crate::relation::{Relation, Row, Rows};
use crate::row;

pub const RELATION: Relation = Relation {
    schema: "pg_catalog",
    name: "pg_database",
    oid: 1262,
    columns: "oid oid, datname name, datdba oid, encoding int4, datlocprovider char(1), \
              datistemplate bool, datallowconn bool, datconnlimit int4, datfrozenxid xid, \
              datminmxid xid, dattablespace oid, datcollate text, datctype text, \
              daticulocale text, datcollversion text, datacl text[]",
    rows: Rows::Now(rows),
};

fn rows(context: &QueryContext) -> Result<Vec<Row>, SqlError> {
    Ok(vec![row![
        DATABASE_OID,
        context.session.database.clone(),
        10i64,
        6i64,
        "c",
        false,
        true,
        -1i64,
        726i64,
        1i64,
        1663i64,
        "C.UTF-8",
        "C.UTF-8",
        Value::Null,
        Value::Null,
        access_list(context, ObjectRef::DATABASE),
    ]])
}
