//! `pg_default_acl`: rights given to objects yet to be made.

use crate::relation::{Relation, Rows};

pub const RELATION: Relation = Relation {
    schema: "pg_catalog",
    name: "pg_default_acl",
    oid: 826,
    columns: "oid oid, defaclrole oid, defaclnamespace oid, defaclobjtype char(1), \
              defaclacl text[]",
    rows: Rows::None,
};
