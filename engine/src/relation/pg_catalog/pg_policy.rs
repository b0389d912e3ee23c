//! `pg_policy`: row policies.

use crate::relation::{Relation, Rows};

pub const RELATION: Relation = Relation {
    schema: "pg_catalog",
    name: "pg_policy",
    oid: 3256,
    columns: "oid oid, polname name, polrelid oid, polcmd char(1), polpermissive bool, \
              polroles oid[], polqual text, polwithcheck text",
    rows: Rows::None,
};
