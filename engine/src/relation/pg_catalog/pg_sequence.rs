//! `pg_sequence`: sequences.

use crate::relation::{Relation, Rows};

pub const RELATION: Relation = Relation {
    schema: "pg_catalog",
    name: "pg_sequence",
    oid: 2224,
    columns: "seqrelid oid, seqtypid oid, seqstart int8, seqincrement int8, seqmax int8, \
              seqmin int8, seqcache int8, seqcycle bool",
    rows: Rows::None,
};
