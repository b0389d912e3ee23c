//! `pg_conversion`: conversions between encodings.

use crate::relation::{Relation, Rows};

pub const RELATION: Relation = Relation {
    schema: "pg_catalog",
    name: "pg_conversion",
    oid: 2607,
    columns: "oid oid, conname name, connamespace oid, conowner oid, conforencoding int4, \
              contoencoding int4, conproc regproc, condefault bool",
    rows: Rows::None,
};
