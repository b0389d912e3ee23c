//! `pg_amproc`: support functions of access methods.

use crate::relation::{Relation, Rows};

pub const RELATION: Relation = Relation {
    schema: "pg_catalog",
    name: "pg_amproc",
    oid: 2603,
    columns: "oid oid, amprocfamily oid, amproclefttype oid, amprocrighttype oid, amprocnum int2, \
              amproc regproc",
    rows: Rows::None,
};
