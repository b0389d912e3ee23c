//! `pg_sequences`: sequences for people.

use crate::relation::{Relation, Rows};

pub const RELATION: Relation = Relation {
    schema: "pg_catalog",
    name: "pg_sequences",
    oid: 12005,
    columns: "schemaname name, sequencename name, sequenceowner name, data_type text, \
              start_value int8, min_value int8, max_value int8, increment_by int8, cycle bool, \
              cache_size int8, last_value int8",
    rows: Rows::None,
};
