//! `pg_cast`: casts between types.

use crate::relation::{Relation, Rows};

pub const RELATION: Relation = Relation {
    schema: "pg_catalog",
    name: "pg_cast",
    oid: 2605,
    columns: "oid oid, castsource oid, casttarget oid, castfunc oid, castcontext char(1), \
              castmethod char(1)",
    rows: Rows::None,
};
