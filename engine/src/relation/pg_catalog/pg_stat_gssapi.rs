//! `pg_stat_gssapi`: GSSAPI of connections.

use crate::relation::{Relation, Rows};

pub const RELATION: Relation = Relation {
    schema: "pg_catalog",
    name: "pg_stat_gssapi",
    oid: 12012,
    columns: "pid int4, gss_authenticated bool, principal text, encrypted bool",
    rows: Rows::None,
};
