//! `pg_matviews`: materialized views.

use crate::relation::{Relation, Rows};

pub const RELATION: Relation = Relation {
    schema: "pg_catalog",
    name: "pg_matviews",
    oid: 12007,
    columns: "schemaname name, matviewname name, matviewowner name, tablespace name, \
              hasindexes bool, ispopulated bool, definition text",
    rows: Rows::None,
};
