//! `pg_statistic_ext`: extended statistics.

use crate::relation::{Relation, Rows};

pub const RELATION: Relation = Relation {
    schema: "pg_catalog",
    name: "pg_statistic_ext",
    oid: 3381,
    columns: "oid oid, stxrelid oid, stxname name, stxnamespace oid, stxowner oid, \
              stxstattarget int4, stxkeys int2[], stxkind text[], stxexprs text",
    rows: Rows::None,
};
