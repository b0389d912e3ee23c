//! `pg_operator`: operators.

use crate::relation::{Relation, Rows};

pub const RELATION: Relation = Relation {
    schema: "pg_catalog",
    name: "pg_operator",
    oid: 2617,
    columns: "oid oid, oprname name, oprnamespace oid, oprowner oid, oprkind char(1), \
              oprcanmerge bool, oprcanhash bool, oprleft oid, oprright oid, oprresult oid, \
              oprcom oid, oprnegate oid, oprcode regproc, oprrest regproc, oprjoin regproc",
    rows: Rows::None,
};
