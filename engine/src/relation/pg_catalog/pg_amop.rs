//! `pg_amop`: operators of access methods.

use crate::relation::{Relation, Rows};

pub const RELATION: Relation = Relation {
    schema: "pg_catalog",
    name: "pg_amop",
    oid: 2602,
    columns: "oid oid, amopfamily oid, amoplefttype oid, amoprighttype oid, amopstrategy int2, \
              amoppurpose char(1), amopopr oid, amopmethod oid, amopsortfamily oid",
    rows: Rows::None,
};
