//! `pg_opfamily`: families of operators.

use crate::relation::{Relation, Rows};

pub const RELATION: Relation = Relation {
    schema: "pg_catalog",
    name: "pg_opfamily",
    oid: 2753,
    columns: "oid oid, opfmethod oid, opfname name, opfnamespace oid, opfowner oid",
    rows: Rows::None,
};
