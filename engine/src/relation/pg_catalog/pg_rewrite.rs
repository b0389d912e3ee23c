//! `pg_rewrite`: rewrite rules.

use crate::relation::{Relation, Rows};

pub const RELATION: Relation = Relation {
    schema: "pg_catalog",
    name: "pg_rewrite",
    oid: 2618,
    columns: "oid oid, rulename name, ev_class oid, ev_type char(1), ev_enabled char(1), \
              is_instead bool, ev_qual text, ev_action text",
    rows: Rows::None,
};
