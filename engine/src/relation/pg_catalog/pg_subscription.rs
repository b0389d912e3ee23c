//! `pg_subscription`: subscriptions.

use crate::relation::{Relation, Rows};

pub const RELATION: Relation = Relation {
    schema: "pg_catalog",
    name: "pg_subscription",
    oid: 6100,
    columns: "oid oid, subdbid oid, subname name, subowner oid, subenabled bool, subbinary bool, \
              substream bool, subconninfo text, subslotname name, subsynccommit text, \
              subpublications text[]",
    rows: Rows::None,
};
