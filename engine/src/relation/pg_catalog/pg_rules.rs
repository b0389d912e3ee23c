//! `pg_rules`: rewrite rules for people.

use crate::relation::{Relation, Rows};

pub const RELATION: Relation = Relation {
    schema: "pg_catalog",
    name: "pg_rules",
    oid: 12004,
    columns: "schemaname name, tablename name, rulename name, definition text",
    rows: Rows::None,
};
