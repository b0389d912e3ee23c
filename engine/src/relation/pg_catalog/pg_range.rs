//! `pg_range`: range types.

use crate::relation::{Relation, Rows};

pub const RELATION: Relation = Relation {
    schema: "pg_catalog",
    name: "pg_range",
    oid: 3541,
    columns: "rngtypid oid, rngsubtype oid, rngmultitypid oid, rngcollation oid, rngsubopc oid, \
              rngcanonical regproc, rngsubdiff regproc",
    rows: Rows::None,
};
