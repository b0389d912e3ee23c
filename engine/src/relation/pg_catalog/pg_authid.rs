//! `pg_authid`: roles; what only a superuser sees in PostgreSQL, the password, is never shown.

use crate::error::SqlError;
use crate::function::value::Value;
use crate::query::QueryContext;
use crate::relation::{Relation, Row, Rows};
use crate::row;

pub const RELATION: Relation = Relation {
    schema: "pg_catalog",
    name: "pg_authid",
    oid: 1260,
    columns: "oid oid, rolname name, rolsuper bool, rolinherit bool, rolcreaterole bool, \
              rolcreatedb bool, rolcanlogin bool, rolreplication bool, rolbypassrls bool, \
              rolconnlimit int4, rolpassword text, rolvaliduntil timestamptz",
    rows: Rows::Now(rows),
};

fn rows(context: &QueryContext) -> Result<Vec<Row>, SqlError> {
    Ok(context
        .snapshot
        .roles()
        .map(|role| {
            let until = role.valid_until;
            row![
                role.id.0,
                role.name.clone(),
                role.superuser,
                role.inherit,
                role.create_role,
                role.create_database,
                role.login,
                false,
                role.superuser,
                i64::from(role.connection_limit),
                Value::Null,
                until,
            ]
        })
        .collect())
}
