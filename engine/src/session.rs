//! One connection's state: role, settings, prepared statements, cursors, transaction.
//!
//! A statement is prepared (parsed, planned, described) and then executed. Both are `&mut`: one
//! connection does one thing at a time. Dropping the future of [`Session::execute`], or the stream
//! it gave, stops the work; a commit that has begun is finished in the background and is either
//! wholly visible or not at all. Whoever drops the future calls [`Session::end_implicit`] with
//! `false` afterwards, because the statement's own transaction is still open.
//!
//! Inside a transaction an error makes every further statement fail with 25P02 until ROLLBACK, as
//! in PostgreSQL.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use boathouse_catalog::types::ColumnType;
use boathouse_sql::ParsedStatement;
use datafusion::common::ScalarValue;

use crate::engine::Engine;
use crate::error::SqlError;
use crate::outcome::{CopyIn, Description, Notice, Outcome};

/// The letter of `ReadyForQuery`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransactionStatus {
    Idle,
    InTransaction,
    Failed,
}

/// A statement that has been parsed and planned, ready to run with parameters any number of times.
/// It notices itself when the catalog changed since, and is planned again.
#[derive(Clone)]
pub struct Prepared {
    /// `None` for an empty query string.
    pub statement: Option<Arc<ParsedStatement>>,
    pub description: Description,
    pub(crate) plan: crate::execute::PreparedPlan,
}

/// Who connected, from the startup packet, after authentication.
#[derive(Debug, Clone)]
pub struct SessionOptions {
    pub role: String,
    pub database: String,
    /// Run-time settings of the startup packet (`application_name`, `DateStyle`, `options`...).
    pub settings: Vec<(String, String)>,
    /// Where the client is, for `pg_stat_activity` and the log.
    pub client_address: Option<std::net::SocketAddr>,
}

/// One connection's state.
pub struct Session {
    pub(crate) engine: Arc<Engine>,
    pub(crate) state: crate::execute::SessionState,
}

impl Session {
    /// Starts a session for a role that has proved who it is.
    pub fn open(engine: &Arc<Engine>, options: SessionOptions) -> Result<Self, SqlError> {
        let state = crate::execute::SessionState::open(engine, options)?;
        Ok(Self {
            engine: Arc::clone(engine),
            state,
        })
    }

    pub fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    pub fn transaction_status(&self) -> TransactionStatus {
        self.state.transaction_status()
    }

    /// Identifies the session in `pg_backend_pid()` and cancel requests.
    pub fn process_id(&self) -> i32 {
        self.state.process_id()
    }

    /// The value of a run-time setting as `SHOW` prints it.
    pub fn setting(&self, name: &str) -> Option<String> {
        self.state.setting(name)
    }

    /// `statement_timeout`; the caller enforces it by dropping the future or the stream.
    pub fn statement_timeout(&self) -> Option<std::time::Duration> {
        self.state.statement_timeout()
    }

    /// Splits and parses a query string of the simple protocol.
    pub fn parse(&self, sql: &str) -> Result<Vec<ParsedStatement>, SqlError> {
        crate::execute::parse(sql)
    }

    /// Plans one statement. `parameter_types` are the client's; `None` is left to inference.
    pub async fn prepare(
        &mut self,
        statement: ParsedStatement,
        parameter_types: &[Option<ColumnType>],
    ) -> Result<Prepared, SqlError> {
        self.state.apply_requested_settings();
        let statement = Arc::new(statement);
        let prepared = crate::execute::prepare(self, Arc::clone(&statement), parameter_types).await;
        if let Err(error) = &prepared {
            self.record(&statement, Some(error)).await;
        }
        prepared
    }

    /// Whether `prepared` is a query whose plan can be used again for the same text, which spares
    /// parsing and planning it: nothing it was planned with has changed since.
    pub async fn is_reusable(&self, prepared: &Prepared) -> Result<bool, SqlError> {
        crate::execute::is_reusable(self, prepared).await
    }

    /// Runs a prepared statement once.
    pub async fn execute(
        &mut self,
        prepared: &Prepared,
        parameters: &[ScalarValue],
    ) -> Result<Outcome, SqlError> {
        self.state.apply_requested_settings();
        let outcome = crate::execute::execute(self, prepared, parameters).await;
        if let Some(statement) = &prepared.statement {
            self.record(statement, outcome.as_ref().err()).await;
        }
        outcome
    }

    /// Tells the audit log of a statement that has ended. It names who logged in.
    async fn record(&self, statement: &ParsedStatement, error: Option<&SqlError>) {
        let role = self.state.session_user_name();
        self.engine.audit.record(role, statement, error).await;
    }

    /// The columns of a cursor made by `DECLARE`: clients describe it as if it were a portal.
    pub fn cursor_fields(&self, name: &str) -> Option<SchemaRef> {
        crate::execute::cursor_fields(self, name)
    }

    /// Begins the implicit transaction of a simple query string of several statements. A no-op
    /// inside an explicit transaction.
    pub fn begin_implicit(&mut self) {
        self.state.begin_implicit();
    }

    /// Ends the implicit transaction: commits when all went well, rolls back otherwise. The extended
    /// protocol calls it at `Sync`.
    pub async fn end_implicit(&mut self, succeeded: bool) -> Result<(), SqlError> {
        crate::execute::end_implicit(self, succeeded).await
    }

    /// Undoes what the session has left open. To be called when its client has gone: dropping a
    /// session leaves the files of its transaction in the lake.
    pub async fn close(&mut self) {
        crate::execute::abandon(self).await;
    }

    /// Ends `COPY ... FROM STDIN` after the client's `CopyDone`; gives the number of rows. A COPY that
    /// stands alone is committed here.
    pub async fn finish_copy(&mut self, copy: CopyIn) -> Result<u64, SqlError> {
        let CopyIn {
            receiver, alone, ..
        } = copy;
        let mut received = receiver.finish(self).await;
        if received.is_ok()
            && let Err(error) = crate::execute::keys::check_written(self).await
        {
            received = Err(error);
        }
        if alone {
            self.end_implicit(received.is_ok()).await?;
        } else if received.is_err() {
            self.state.fail_transaction();
        }
        received
    }

    /// Ends `COPY ... FROM STDIN` after `CopyFail`, a broken connection or an error of the receiver.
    pub async fn abort_copy(&mut self, copy: CopyIn) {
        let alone = copy.alone;
        drop(copy);
        if alone {
            if let Err(error) = self.end_implicit(false).await {
                tracing::warn!(%error, "could not roll back a failed COPY");
            }
        } else {
            self.state.fail_transaction();
        }
    }

    /// Marks the transaction as failed after an error met outside [`Session::execute`], such as
    /// while its rows were being sent.
    pub fn fail_transaction(&mut self) {
        self.state.fail_transaction();
    }

    /// Messages that have come up since the last call, oldest first.
    pub fn take_notices(&mut self) -> Vec<Notice> {
        self.state.take_notices()
    }

    /// Reported settings (`ParameterStatus`) that have changed since the last call.
    pub fn take_reported_settings(&mut self) -> Vec<(String, String)> {
        self.state.take_reported_settings()
    }
}
