//! `pg_event_trigger`: event triggers.

use crate::relation::{Relation, Rows};

pub const RELATION: Relation = Relation {
    schema: "pg_catalog",
    name: "pg_event_trigger",
    oid: 3466,
    columns: "oid oid, evtname name, evtevent name, evtowner oid, evtfoid oid, \
              evtenabled char(1), evttags text[]",
    rows: Rows::None,
};
