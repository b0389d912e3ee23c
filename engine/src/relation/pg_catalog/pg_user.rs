//! `pg_user`: roles that may log in.

use super::settings;
use crate::error::SqlError;
use crate::query::QueryContext;
use crate::relation::{Relation, Row, Rows};
use crate::row;

pub const RELATION: Relation = Relation {
    schema: "pg_catalog",
    name: "pg_user",
    oid: 12101,
    columns: "usename name, usesysid oid, usecreatedb bool, usesuper bool, userepl bool, \
              usebypassrls bool, passwd text, valuntil timestamptz, useconfig text[]",
    rows: Rows::Now(rows),
};

fn rows(context: &QueryContext) -> Result<Vec<Row>, SqlError> {
    Ok(context
        .snapshot
        .roles()
        .filter(|role| role.login)
        .map(|role| {
            row![
                role.name.clone(),
                role.id.0,
                role.create_database,
                role.superuser,
                false,
                role.superuser,
                "********",
                role.valid_until,
                settings(role),
            ]
        })
        .collect())
}
