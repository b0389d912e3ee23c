//! `pg_init_privs`: rights objects were born with.

use crate::relation::{Relation, Rows};

pub const RELATION: Relation = Relation {
    schema: "pg_catalog",
    name: "pg_init_privs",
    oid: 3394,
    columns: "objoid oid, classoid oid, objsubid int4, privtype char(1), initprivs text[]",
    rows: Rows::None,
};
