//! `pg_locks`: locks; there are none, since readers and writers do not wait for each other.

use crate::relation::{Relation, Rows};

pub const RELATION: Relation = Relation {
    schema: "pg_catalog",
    name: "pg_locks",
    oid: 12011,
    columns: "locktype text, database oid, relation oid, page int4, tuple int2, virtualxid text, \
              transactionid xid, classid oid, objid oid, objsubid int2, virtualtransaction text, \
              pid int4, mode text, granted bool, fastpath bool, waitstart timestamptz",
    rows: Rows::None,
};
