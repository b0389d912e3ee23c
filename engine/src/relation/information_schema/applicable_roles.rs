//! `information_schema.applicable_roles`: roles the role is a member of.

use super::role_name;
use crate::error::SqlError;
use crate::query::QueryContext;
use crate::relation::{Relation, Row, Rows};
use crate::row;

pub const RELATION: Relation = Relation {
    schema: "information_schema",
    name: "applicable_roles",
    oid: 13019,
    columns: "grantee name, role_name name, is_grantable text",
    rows: Rows::Now(rows),
};

fn rows(context: &QueryContext) -> Result<Vec<Row>, SqlError> {
    let mut rows = Vec::new();
    for role in context.snapshot.roles() {
        for of in &role.member_of {
            rows.push(row![role.name.clone(), role_name(context, *of), "NO"]);
        }
    }
    Ok(rows)
}
