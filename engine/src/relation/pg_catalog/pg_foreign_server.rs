//! `pg_foreign_server`: foreign servers.

use crate::relation::{Relation, Rows};

pub const RELATION: Relation = Relation {
    schema: "pg_catalog",
    name: "pg_foreign_server",
    oid: 1417,
    columns: "oid oid, srvname name, srvowner oid, srvfdw oid, srvtype text, srvversion text, \
              srvacl text[], srvoptions text[]",
    rows: Rows::None,
};
