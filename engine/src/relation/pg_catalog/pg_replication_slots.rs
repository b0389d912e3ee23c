//! `pg_replication_slots`: replication slots.

use crate::relation::{Relation, Rows};

pub const RELATION: Relation = Relation {
    schema: "pg_catalog",
    name: "pg_replication_slots",
    oid: 12003,
    columns: "slot_name name, plugin name, slot_type text, datoid oid, database name, \
              temporary bool, active bool, active_pid int4, xmin xid, catalog_xmin xid, \
              restart_lsn text, confirmed_flush_lsn text, wal_status text, safe_wal_size int8, \
              two_phase bool",
    rows: Rows::None,
};
