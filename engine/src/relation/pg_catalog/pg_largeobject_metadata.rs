//! `pg_largeobject_metadata`: large objects.

use crate::relation::{Relation, Rows};

pub const RELATION: Relation = Relation {
    schema: "pg_catalog",
    name: "pg_largeobject_metadata",
    oid: 2995,
    columns: "oid oid, lomowner oid, lomacl text[]",
    rows: Rows::None,
};
