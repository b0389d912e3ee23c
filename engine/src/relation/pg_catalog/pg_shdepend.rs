//! `pg_shdepend`: what depends on what the database does not hold.

use crate::relation::{Relation, Rows};

pub const RELATION: Relation = Relation {
    schema: "pg_catalog",
    name: "pg_shdepend",
    oid: 1214,
    columns: "dbid oid, classid oid, objid oid, objsubid int4, refclassid oid, refobjid oid, \
              deptype char(1)",
    rows: Rows::None,
};
