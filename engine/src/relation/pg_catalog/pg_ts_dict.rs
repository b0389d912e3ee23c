//! `pg_ts_dict`: text search dictionaries.

use crate::relation::{Relation, Rows};

pub const RELATION: Relation = Relation {
    schema: "pg_catalog",
    name: "pg_ts_dict",
    oid: 3600,
    columns: "oid oid, dictname name, dictnamespace oid, dictowner oid, dicttemplate oid, \
              dictinitoption text",
    rows: Rows::None,
};
