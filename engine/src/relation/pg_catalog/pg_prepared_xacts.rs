//! `pg_prepared_xacts`: transactions prepared for a second phase.

use crate::relation::{Relation, Rows};

pub const RELATION: Relation = Relation {
    schema: "pg_catalog",
    name: "pg_prepared_xacts",
    oid: 12008,
    columns: "transaction xid, gid text, prepared timestamptz, owner name, database name",
    rows: Rows::None,
};
