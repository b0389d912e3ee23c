//! `pg_stat_ssl`: TLS of connections.

use crate::relation::{Relation, Rows};

pub const RELATION: Relation = Relation {
    schema: "pg_catalog",
    name: "pg_stat_ssl",
    oid: 12013,
    columns: "pid int4, ssl bool, version text, cipher text, bits int4, client_dn text, \
              client_serial numeric, issuer_dn text",
    rows: Rows::None,
};
