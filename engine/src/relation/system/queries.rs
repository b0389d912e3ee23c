//! `system.queries`: the query that is running; other sessions are not told of.

use crate::error::SqlError;
use crate::function::value::Value;
use crate::query::QueryContext;
use crate::relation::{Relation, Row, Rows};
use crate::row;

pub const RELATION: Relation = Relation {
    schema: "system",
    name: "queries",
    oid: 14007,
    columns: "process_id integer, role text, database text, application_name text, \
              client_address text, started_at timestamptz, state text",
    rows: Rows::Now(rows),
};

fn rows(context: &QueryContext) -> Result<Vec<Row>, SqlError> {
    let session = &context.session;
    Ok(vec![row![
        i64::from(session.process_id),
        session.role_name.clone(),
        session.database.clone(),
        session.setting("application_name").map(str::to_owned),
        session.client_address.map(|address| address.to_string()),
        Value::Timestamp(session.statement_timestamp),
        "active",
    ]])
}
