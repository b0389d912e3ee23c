//! `pg_stat_user_indexes`: use of indexes.

use crate::relation::{Relation, Rows};

pub const RELATION: Relation = Relation {
    schema: "pg_catalog",
    name: "pg_stat_user_indexes",
    oid: 12015,
    columns: "relid oid, indexrelid oid, schemaname name, relname name, indexrelname name, \
              idx_scan int8, idx_tup_read int8, idx_tup_fetch int8",
    rows: Rows::None,
};
