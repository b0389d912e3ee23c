//! `pg_policies`: row policies for people.

use crate::relation::{Relation, Rows};

pub const RELATION: Relation = Relation {
    schema: "pg_catalog",
    name: "pg_policies",
    oid: 12001,
    columns: "schemaname name, tablename name, policyname name, permissive text, roles name[], \
              cmd text, qual text, with_check text",
    rows: Rows::None,
};
