//! `pg_publication_tables`: tables of publications for people.

use crate::relation::{Relation, Rows};

pub const RELATION: Relation = Relation {
    schema: "pg_catalog",
    name: "pg_publication_tables",
    oid: 12002,
    columns: "pubname name, schemaname name, tablename name, attnames name[], rowfilter text",
    rows: Rows::None,
};
