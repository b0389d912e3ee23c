//! `pg_group`: roles that may not log in.

use crate::error::SqlError;
use crate::query::QueryContext;
use crate::relation::{Relation, Row, Rows};
use crate::row;

pub const RELATION: Relation = Relation {
    schema: "pg_catalog",
    name: "pg_group",
    oid: 12102,
    columns: "groname name, grosysid oid, grolist oid[]",
    rows: Rows::Now(rows),
};

fn rows(context: &QueryContext) -> Result<Vec<Row>, SqlError> {
    Ok(context
        .snapshot
        .roles()
        .filter(|role| !role.login)
        .map(|group| {
            let members = context
                .snapshot
                .roles()
                .filter(|role| role.member_of.contains(&group.id))
                .map(|role| role.id.0)
                .collect::<Vec<_>>();
            row![group.name.clone(), group.id.0, members]
        })
        .collect())
}
