//! `pg_stat_replication`: replicas.

use crate::relation::{Relation, Rows};

pub const RELATION: Relation = Relation {
    schema: "pg_catalog",
    name: "pg_stat_replication",
    oid: 12014,
    columns: "pid int4, usesysid oid, usename name, application_name text, client_addr text, \
              client_hostname text, client_port int4, backend_start timestamptz, \
              backend_xmin xid, state text, sent_lsn text, write_lsn text, flush_lsn text, \
              replay_lsn text, write_lag interval, flush_lag interval, replay_lag interval, \
              sync_priority int4, sync_state text, reply_time timestamptz",
    rows: Rows::None,
};
