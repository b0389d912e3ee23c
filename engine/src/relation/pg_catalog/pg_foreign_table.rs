//! `pg_foreign_table`: foreign tables.

use crate::relation::{Relation, Rows};

pub const RELATION: Relation = Relation {
    schema: "pg_catalog",
    name: "pg_foreign_table",
    oid: 3118,
    columns: "ftrelid oid, ftserver oid, ftoptions text[]",
    rows: Rows::None,
};
