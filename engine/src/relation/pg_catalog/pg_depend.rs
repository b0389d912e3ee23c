//! `pg_depend`: what depends on what.

use crate::relation::{Relation, Rows};

pub const RELATION: Relation = Relation {
    schema: "pg_catalog",
    name: "pg_depend",
    oid: 2608,
    columns: "classid oid, objid oid, objsubid int4, refclassid oid, refobjid oid, \
              refobjsubid int4, deptype char(1)",
    rows: Rows::None,
};
