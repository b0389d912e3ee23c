//! `information_schema.routines`: functions of users; there are none.

use crate::relation::{Relation, Rows};

pub const RELATION: Relation = Relation {
    schema: "information_schema",
    name: "routines",
    oid: 13012,
    columns: "specific_catalog name, specific_schema name, specific_name name, \
              routine_catalog name, routine_schema name, routine_name name, routine_type text, \
              data_type text, routine_body text, routine_definition text, external_language text",
    rows: Rows::None,
};
