//! `information_schema.enabled_roles`: roles whose rights apply.

use crate::error::SqlError;
use crate::query::QueryContext;
use crate::relation::{Relation, Row, Rows};
use crate::row;

pub const RELATION: Relation = Relation {
    schema: "information_schema",
    name: "enabled_roles",
    oid: 13018,
    columns: "role_name name",
    rows: Rows::Now(rows),
};

fn rows(context: &QueryContext) -> Result<Vec<Row>, SqlError> {
    Ok(context
        .snapshot
        .roles()
        .filter(|role| {
            context
                .snapshot
                .inherits_from(context.session.role, role.id)
        })
        .map(|role| row![role.name.clone()])
        .collect())
}
