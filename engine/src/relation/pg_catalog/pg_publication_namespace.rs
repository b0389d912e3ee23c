//! `pg_publication_namespace`: schemas of publications.

use crate::relation::{Relation, Rows};

pub const RELATION: Relation = Relation {
    schema: "pg_catalog",
    name: "pg_publication_namespace",
    oid: 6237,
    columns: "oid oid, pnpubid oid, pnnspid oid",
    rows: Rows::None,
};
