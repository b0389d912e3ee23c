//! `pg_publication`: publications.

use crate::relation::{Relation, Rows};

pub const RELATION: Relation = Relation {
    schema: "pg_catalog",
    name: "pg_publication",
    oid: 6104,
    columns: "oid oid, pubname name, pubowner oid, puballtables bool, pubinsert bool, \
              pubupdate bool, pubdelete bool, pubtruncate bool, pubviaroot bool",
    rows: Rows::None,
};
