//! `pg_prepared_statements`: statements prepared in the session.

use crate::relation::{Relation, Rows};

pub const RELATION: Relation = Relation {
    schema: "pg_catalog",
    name: "pg_prepared_statements",
    oid: 12009,
    columns: "name text, statement text, prepare_time timestamptz, parameter_types text[], \
              from_sql bool, generic_plans int8, custom_plans int8",
    rows: Rows::None,
};
