//! Writes `system.audit_log`: who changed what, and what was denied.
//!
//! A statement hands its entry over and goes on; one task writes the entries in their order. Its queue
//! is short: when the catalog is slower than the statements, they wait for a place rather than lose an
//! entry. An entry that cannot be written is told in the server's log. A statement of a transaction is
//! recorded when it has run, whatever becomes of the transaction.

use boathouse_catalog::state::{AuditEntry, AuditLog};
use boathouse_sql::{ParsedStatement, Statement, redact_unparsed};
use tokio::sync::{mpsc, oneshot};

use crate::error::{SqlError, SqlState};

/// Entries that may wait to be written.
const QUEUE_LENGTH: usize = 256;
/// A longer statement is cut: it may hold data.
const STATEMENT_CHARACTERS_MAX: usize = 10_000;

enum Message {
    Entry(AuditEntry),
    /// Answered when everything before it has been written.
    Flush(oneshot::Sender<()>),
}

/// The way into the audit log.
pub struct Audit {
    sender: mpsc::Sender<Message>,
}

impl Audit {
    /// Starts the task that writes; it ends with the engine.
    pub fn start(log: AuditLog) -> Self {
        let (sender, receiver) = mpsc::channel(QUEUE_LENGTH);
        tokio::spawn(write(log, receiver));
        Self { sender }
    }

    /// Records a statement that has ended, if it is of a kind that is recorded or was denied.
    pub async fn record(&self, role: &str, parsed: &ParsedStatement, error: Option<&SqlError>) {
        let denied = error.is_some_and(|error| error.state == SqlState::INSUFFICIENT_PRIVILEGE);
        let Some(kind) = changing_kind(&parsed.statement)
            .or_else(|| denied.then(|| reading_kind(&parsed.statement)))
        else {
            return;
        };
        let outcome = error.map_or(SqlState::SUCCESSFUL_COMPLETION, |error| error.state);
        let entry = AuditEntry {
            at: chrono::Utc::now(),
            role: role.to_owned(),
            statement_kind: kind.to_owned(),
            statement: text_of(parsed),
            outcome: outcome.0.to_owned(),
        };
        if self.sender.send(Message::Entry(entry)).await.is_err() {
            tracing::error!(
                role,
                kind,
                "a statement could not be recorded in the audit log"
            );
        }
    }

    /// Waits until everything recorded so far has been written.
    pub async fn flush(&self) {
        let (done, written) = oneshot::channel();
        if self.sender.send(Message::Flush(done)).await.is_ok() {
            // An error means that the task has ended; nothing is left to wait for.
            let _ = written.await;
        }
    }
}

async fn write(log: AuditLog, mut receiver: mpsc::Receiver<Message>) {
    while let Some(message) = receiver.recv().await {
        match message {
            Message::Entry(entry) => {
                let (role, kind) = (entry.role.clone(), entry.statement_kind.clone());
                if let Err(error) = log.append(entry).await {
                    tracing::error!(
                        role, kind, %error,
                        "a statement could not be recorded in the audit log"
                    );
                }
            }
            Message::Flush(done) => {
                // Whoever asked may have gone.
                let _ = done.send(());
            }
        }
    }
}

/// The statement without passwords and secrets, and not without end.
fn text_of(parsed: &ParsedStatement) -> String {
    let mut text = parsed.redacted();
    if text == parsed.text {
        // A kind of statement that has no secrets of its own may still hold options that are.
        text = redact_unparsed(&parsed.text);
    }
    if let Some((end, _)) = text.char_indices().nth(STATEMENT_CHARACTERS_MAX) {
        text.truncate(end);
        text.push_str("...");
    }
    text
}

/// What is recorded however it ends: definitions, rights, roles.
fn changing_kind(statement: &Statement) -> Option<&'static str> {
    use Statement as S;
    Some(match statement {
        S::CreateSchema(_) => "CREATE SCHEMA",
        S::AlterSchema(_) => "ALTER SCHEMA",
        S::DropSchema(_) => "DROP SCHEMA",
        S::CreateTable(_) => "CREATE TABLE",
        S::AlterTable(_) => "ALTER TABLE",
        S::DropTable(_) => "DROP TABLE",
        S::CreateView(_) => "CREATE VIEW",
        S::AlterView(_) => "ALTER VIEW",
        S::DropView(_) => "DROP VIEW",
        S::Comment(_) => "COMMENT",
        S::CreateRole(_) => "CREATE ROLE",
        S::AlterRole(_) => "ALTER ROLE",
        S::DropRole(_) => "DROP ROLE",
        S::Grant(_) => "GRANT",
        S::Revoke(_) => "REVOKE",
        S::CreateSecret(_) => "CREATE SECRET",
        S::AlterSecret(_) => "ALTER SECRET",
        S::DropSecret(_) => "DROP SECRET",
        S::CreateConnection(_) => "CREATE CONNECTION",
        S::AlterConnection(_) => "ALTER CONNECTION",
        S::DropConnection(_) => "DROP CONNECTION",
        S::CreatePipeline(_) => "CREATE PIPELINE",
        S::AlterPipeline(_) => "ALTER PIPELINE",
        S::DropPipeline(_) => "DROP PIPELINE",
        _ => return None,
    })
}

/// What is recorded only where it was denied.
fn reading_kind(statement: &Statement) -> &'static str {
    use Statement as S;
    match statement {
        S::Query(_) => "SELECT",
        S::Explain(_) => "EXPLAIN",
        S::Insert(_) => "INSERT",
        S::Copy(_) => "COPY",
        S::Execute(_) => "EXECUTE",
        S::Prepare(_) => "PREPARE",
        S::DeclareCursor(_) => "DECLARE CURSOR",
        S::SetRole(_) => "SET ROLE",
        S::CheckConnection(_) => "CHECK CONNECTION",
        S::RunPipeline(_) => "RUN PIPELINE",
        S::VerifyPipeline(_) => "VERIFY PIPELINE",
        S::TestPipeline(_) => "TEST PIPELINE",
        S::ReplayQuarantine(_) => "REPLAY QUARANTINE",
        S::ShowCreate(_) => "SHOW CREATE",
        _ => "OTHER",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(sql: &str) -> String {
        let parsed = boathouse_sql::parse(sql).unwrap();
        text_of(&parsed[0])
    }

    #[test]
    fn secrets_are_left_out_of_every_statement() {
        for sql in [
            "CREATE ROLE ann LOGIN PASSWORD 'tiger'",
            "CREATE ROLE ann LOGIN PASSWORD E'tiger'",
            "CREATE SECRET s AS 'tiger'",
            "CREATE CONNECTION c TO S3 WITH (secret_access_key = 'tiger')",
            "CREATE VIEW v AS SELECT * FROM read_csv('s3://b/k', secret_access_key => 'tiger')",
            "SELECT * FROM read_csv('s3://b/k', secret_access_key => 'tiger')",
        ] {
            let shown = text(sql);
            assert!(!shown.contains("tiger"), "{shown}");
        }
    }

    #[test]
    fn a_long_statement_is_cut() {
        let shown = text(&format!("SELECT '{}'", "ü".repeat(20_000)));
        assert_eq!(shown.chars().count(), STATEMENT_CHARACTERS_MAX + 3);
    }
}
