//! `pg_partitioned_table`: tables partitioned as PostgreSQL partitions.

use crate::relation::{Relation, Rows};

pub const RELATION: Relation = Relation {
    schema: "pg_catalog",
    name: "pg_partitioned_table",
    oid: 3350,
    columns: "partrelid oid, partstrat char(1), partnatts int2, partdefid oid, partattrs int2[], \
              partclass oid[], partcollation oid[], partexprs text",
    rows: Rows::None,
};
