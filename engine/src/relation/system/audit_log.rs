//! `system.audit_log`: statements that changed something; for superusers and members of pg_monitor.

use crate::error::SqlError;
use crate::error::SqlState;
use crate::query::QueryContext;
use crate::relation::{Relation, Row, Rows};
use crate::row;

pub const RELATION: Relation = Relation {
    schema: "system",
    name: "audit_log",
    oid: 14008,
    columns: "at timestamptz, role text, statement_kind text, statement text, outcome text",
    rows: Rows::Later(|context| Box::pin(rows(context))),
};

async fn rows(context: QueryContext) -> Result<Vec<Row>, SqlError> {
    let snapshot = &context.snapshot;
    let monitor = snapshot.role("pg_monitor");
    let allowed = snapshot.is_superuser(context.session.role)
        || monitor.is_some_and(|role| snapshot.inherits_from(context.session.role, role.id));
    if !allowed {
        return Err(SqlError::new(
            SqlState::INSUFFICIENT_PRIVILEGE,
            "permission denied for view audit_log",
        )
        .hint("GRANT pg_monitor TO <role>"));
    }
    // What this session did just now is there, too.
    context.engine.audit.flush().await;
    let entries = context.engine.catalog.audit_log().list(None).await?;
    Ok(entries
        .into_iter()
        .map(|entry| {
            row![
                entry.at,
                entry.role,
                entry.statement_kind,
                entry.statement,
                entry.outcome
            ]
        })
        .collect())
}
