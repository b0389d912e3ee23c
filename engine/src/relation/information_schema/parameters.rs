//! `information_schema.parameters`: parameters of functions of users; there are none.

use crate::relation::{Relation, Rows};

pub const RELATION: Relation = Relation {
    schema: "information_schema",
    name: "parameters",
    oid: 13013,
    columns: "specific_catalog name, specific_schema name, specific_name name, \
              ordinal_position int4, parameter_mode text, is_result text, parameter_name name, \
              data_type text",
    rows: Rows::None,
};
