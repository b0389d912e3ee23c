//! `pg_auth_members`: who is a member of which role.

use crate::error::SqlError;
use crate::query::QueryContext;
use crate::relation::{Relation, Row, Rows};
use crate::row;

pub const RELATION: Relation = Relation {
    schema: "pg_catalog",
    name: "pg_auth_members",
    oid: 1261,
    columns: "oid oid, roleid oid, member oid, grantor oid, admin_option bool",
    rows: Rows::Now(rows),
};

fn rows(context: &QueryContext) -> Result<Vec<Row>, SqlError> {
    Ok(context
        .snapshot
        .roles()
        .flat_map(|role| {
            let member = role.id.0;
            role.member_of
                .iter()
                .map(move |of| row![member * 1000 + of.0, of.0, member, 10i64, false])
        })
        .collect())
}
