//! `information_schema.triggers`: triggers; there are none.

use crate::relation::{Relation, Rows};

pub const RELATION: Relation = Relation {
    schema: "information_schema",
    name: "triggers",
    oid: 13015,
    columns: "trigger_catalog name, trigger_schema name, trigger_name name, \
              event_manipulation text, event_object_catalog name, event_object_schema name, \
              event_object_table name, action_order int4, action_condition text, \
              action_statement text, action_orientation text, action_timing text",
    rows: Rows::None,
};
