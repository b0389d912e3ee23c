//! `pg_user_mapping`: users of foreign servers.

use crate::relation::{Relation, Rows};

pub const RELATION: Relation = Relation {
    schema: "pg_catalog",
    name: "pg_user_mapping",
    oid: 1418,
    columns: "oid oid, umuser oid, umserver oid, umoptions text[]",
    rows: Rows::None,
};
