//! `pg_shseclabel`: security labels of shared objects.

use crate::relation::{Relation, Rows};

pub const RELATION: Relation = Relation {
    schema: "pg_catalog",
    name: "pg_shseclabel",
    oid: 3592,
    columns: "objoid oid, classoid oid, provider text, label text",
    rows: Rows::None,
};
