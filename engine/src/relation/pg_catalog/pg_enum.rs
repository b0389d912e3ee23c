//! `pg_enum`: labels of enum types.

use crate::relation::{Relation, Rows};

pub const RELATION: Relation = Relation {
    schema: "pg_catalog",
    name: "pg_enum",
    oid: 3501,
    columns: "oid oid, enumtypid oid, enumsortorder float4, enumlabel name",
    rows: Rows::None,
};
