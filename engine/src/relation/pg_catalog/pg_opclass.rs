//! `pg_opclass`: classes of operators.

use crate::relation::{Relation, Rows};

pub const RELATION: Relation = Relation {
    schema: "pg_catalog",
    name: "pg_opclass",
    oid: 2616,
    columns: "oid oid, opcmethod oid, opcname name, opcnamespace oid, opcowner oid, \
              opcfamily oid, opcintype oid, opcdefault bool, opckeytype oid",
    rows: Rows::None,
};
