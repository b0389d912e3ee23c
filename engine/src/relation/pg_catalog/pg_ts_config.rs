//! `pg_ts_config`: text search configurations.

use crate::relation::{Relation, Rows};

pub const RELATION: Relation = Relation {
    schema: "pg_catalog",
    name: "pg_ts_config",
    oid: 3602,
    columns: "oid oid, cfgname name, cfgnamespace oid, cfgowner oid, cfgparser oid",
    rows: Rows::None,
};
