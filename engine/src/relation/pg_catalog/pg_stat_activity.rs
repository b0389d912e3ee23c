//! `pg_stat_activity`: sessions: the one that asks, since one session knows of no other here.

use crate::error::SqlError;
use crate::function::system::DATABASE_OID;
use crate::function::value::Value;
use crate::query::QueryContext;
use crate::relation::{Relation, Row, Rows};
use crate::row;

pub const RELATION: Relation = Relation {
    schema: "pg_catalog",
    name: "pg_stat_activity",
    oid: 12107,
    columns: "datid oid, datname name, pid int4, leader_pid int4, usesysid oid, usename name, \
              application_name text, client_addr text, client_hostname text, client_port int4, \
              backend_start timestamptz, xact_start timestamptz, query_start timestamptz, \
              state_change timestamptz, wait_event_type text, wait_event text, state text, \
              backend_xid xid, backend_xmin xid, query_id int8, query text, backend_type text",
    rows: Rows::Now(rows),
};

fn rows(context: &QueryContext) -> Result<Vec<Row>, SqlError> {
    let session = &context.session;
    let address = session.client_address;
    Ok(vec![row![
        DATABASE_OID,
        session.database.clone(),
        i64::from(session.process_id),
        Value::Null,
        session.role.0,
        session.session_user.clone(),
        session.setting("application_name").map(str::to_owned),
        address.map(|address| address.ip().to_string()),
        Value::Null,
        address.map(|address| i64::from(address.port())),
        Value::Null,
        Value::Timestamp(session.transaction_timestamp),
        Value::Timestamp(session.statement_timestamp),
        Value::Timestamp(session.statement_timestamp),
        Value::Null,
        Value::Null,
        "active",
        Value::Null,
        Value::Null,
        Value::Null,
        Value::Null,
        "client backend",
    ]])
}
