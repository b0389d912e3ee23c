//! `pg_inherits`: which table inherits from which.

use crate::relation::{Relation, Rows};

pub const RELATION: Relation = Relation {
    schema: "pg_catalog",
    name: "pg_inherits",
    oid: 2611,
    columns: "inhrelid oid, inhparent oid, inhseqno int4, inhdetachpending bool",
    rows: Rows::None,
};
