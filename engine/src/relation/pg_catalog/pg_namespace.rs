//! `pg_namespace`: schemas.

use boathouse_catalog::definitions::{ObjectKind, ObjectRef};

use super::access_list;
use crate::error::SqlError;
use crate::query::QueryContext;
use crate::relation::{Relation, Row, Rows};
use crate::row;

pub const RELATION: Relation = Relation {
    schema: "pg_catalog",
    name: "pg_namespace",
    oid: 2615,
    columns: "oid oid, nspname name, nspowner oid, nspacl text[]",
    rows: Rows::Now(rows),
};

fn rows(context: &QueryContext) -> Result<Vec<Row>, SqlError> {
    Ok(context
        .snapshot
        .schemas()
        .map(|schema| {
            let object = ObjectRef::new(ObjectKind::Schema, schema.id);
            row![
                schema.id.0,
                schema.name.clone(),
                schema.owner.0,
                access_list(context, object)
            ]
        })
        .collect())
}
