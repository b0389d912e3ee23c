//! `pg_roles`: roles, without their passwords.

use super::settings;
use crate::error::SqlError;
use crate::query::QueryContext;
use crate::relation::{Relation, Row, Rows};
use crate::row;

pub const RELATION: Relation = Relation {
    schema: "pg_catalog",
    name: "pg_roles",
    oid: 12100,
    columns: "rolname name, rolsuper bool, rolinherit bool, rolcreaterole bool, rolcreatedb bool, \
              rolcanlogin bool, rolreplication bool, rolconnlimit int4, rolpassword text, \
              rolvaliduntil timestamptz, rolbypassrls bool, rolconfig text[], oid oid",
    rows: Rows::Now(rows),
};

fn rows(context: &QueryContext) -> Result<Vec<Row>, SqlError> {
    Ok(context
        .snapshot
        .roles()
        .map(|role| {
            let until = role.valid_until;
            row![
                role.name.clone(),
                role.superuser,
                role.inherit,
                role.create_role,
                role.create_database,
                role.login,
                false,
                i64::from(role.connection_limit),
                "********",
                until,
                role.superuser,
                settings(role),
                role.id.0,
            ]
        })
        .collect())
}
