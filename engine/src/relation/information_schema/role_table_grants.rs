//! `information_schema.role_table_grants`: rights granted on tables and views.

use boathouse_catalog::definitions::{ObjectId, ObjectKind, Privilege};

use super::role_name;
use crate::error::SqlError;
use crate::query::QueryContext;
use crate::relation::{Relation, Row, Rows};
use crate::row;

pub const RELATION: Relation = Relation {
    schema: "information_schema",
    name: "role_table_grants",
    oid: 13011,
    columns: "grantor name, grantee name, table_catalog name, table_schema name, table_name name, \
              privilege_type text, is_grantable text, with_hierarchy text",
    rows: Rows::Now(rows),
};

fn rows(context: &QueryContext) -> Result<Vec<Row>, SqlError> {
    let mut rows = Vec::new();
    for grant in context.snapshot.grants() {
        if !matches!(grant.object.kind, ObjectKind::Table | ObjectKind::View) {
            continue;
        }
        let Some(relation) = context.snapshot.relation_by_id(grant.object.id) else {
            continue;
        };
        let schema = context.snapshot.schema_by_id(relation.schema());
        let grantee = if grant.grantee == ObjectId::PUBLIC {
            Some("PUBLIC".to_owned())
        } else {
            role_name(context, grant.grantee)
        };
        let owner = context
            .snapshot
            .owner(grant.object)
            .and_then(|owner| role_name(context, owner));
        rows.push(row![
            owner,
            grantee,
            context.session.database.clone(),
            schema.map(|schema| schema.name.clone()),
            relation.name().to_owned(),
            grant.privilege.keyword(),
            if grant.grantable { "YES" } else { "NO" },
            if grant.privilege == Privilege::Select {
                "YES"
            } else {
                "NO"
            },
        ]);
    }
    Ok(rows)
}
