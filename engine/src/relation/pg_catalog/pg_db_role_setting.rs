//! `pg_db_role_setting`: settings of roles.

use crate::error::SqlError;
use crate::query::QueryContext;
use crate::relation::{Relation, Row, Rows};
use crate::row;

pub const RELATION: Relation = Relation {
    schema: "pg_catalog",
    name: "pg_db_role_setting",
    oid: 2964,
    columns: "setdatabase oid, setrole oid, setconfig text[]",
    rows: Rows::Now(rows),
};

fn rows(context: &QueryContext) -> Result<Vec<Row>, SqlError> {
    Ok(context
        .snapshot
        .roles()
        .filter(|role| !role.settings.is_empty())
        .map(|role| {
            let settings = role
                .settings
                .iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect::<Vec<_>>();
            row![0i64, role.id.0, settings]
        })
        .collect())
}
