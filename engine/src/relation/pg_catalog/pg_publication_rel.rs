//! `pg_publication_rel`: tables of publications.

use crate::relation::{Relation, Rows};

pub const RELATION: Relation = Relation {
    schema: "pg_catalog",
    name: "pg_publication_rel",
    oid: 6106,
    columns: "oid oid, prpubid oid, prrelid oid, prqual text, prattrs int2[]",
    rows: Rows::None,
};
