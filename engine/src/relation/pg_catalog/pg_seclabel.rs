//! `pg_seclabel`: security labels.

use crate::relation::{Relation, Rows};

pub const RELATION: Relation = Relation {
    schema: "pg_catalog",
    name: "pg_seclabel",
    oid: 3596,
    columns: "objoid oid, classoid oid, objsubid int4, provider text, label text",
    rows: Rows::None,
};
