//! `information_schema.sequences`: sequences; there are none.

use crate::relation::{Relation, Rows};

pub const RELATION: Relation = Relation {
    schema: "information_schema",
    name: "sequences",
    oid: 13014,
    columns: "sequence_catalog name, sequence_schema name, sequence_name name, data_type text, \
              numeric_precision int4, numeric_precision_radix int4, numeric_scale int4, \
              start_value text, minimum_value text, maximum_value text, increment text, \
              cycle_option text",
    rows: Rows::None,
};
