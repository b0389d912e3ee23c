//! `pg_stats`: statistics of columns.

use crate::relation::{Relation, Rows};

pub const RELATION: Relation = Relation {
    schema: "pg_catalog",
    name: "pg_stats",
    oid: 12006,
    columns: "schemaname name, tablename name, attname name, inherited bool, null_frac float4, \
              avg_width int4, n_distinct float4, most_common_vals text, \
              most_common_freqs float4[], histogram_bounds text, correlation float4",
    rows: Rows::None,
};
