//! `pg_foreign_data_wrapper`: wrappers of foreign data.

use crate::relation::{Relation, Rows};

pub const RELATION: Relation = Relation {
    schema: "pg_catalog",
    name: "pg_foreign_data_wrapper",
    oid: 2328,
    columns: "oid oid, fdwname name, fdwowner oid, fdwhandler oid, fdwvalidator oid, \
              fdwacl text[], fdwoptions text[]",
    rows: Rows::None,
};
