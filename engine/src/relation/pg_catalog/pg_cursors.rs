//! `pg_cursors`: open cursors.

use crate::relation::{Relation, Rows};

pub const RELATION: Relation = Relation {
    schema: "pg_catalog",
    name: "pg_cursors",
    oid: 12010,
    columns: "name text, statement text, is_holdable bool, is_binary bool, is_scrollable bool, \
              creation_time timestamptz",
    rows: Rows::None,
};
