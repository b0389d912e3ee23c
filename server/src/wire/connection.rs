//! One session's conversation: takes a message, does it, answers, until somebody leaves.

use std::collections::HashMap;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use boathouse_engine::session::{Prepared, TransactionStatus};
use boathouse_engine::{Session, SqlError};
use boathouse_sql::{ParsedStatement, Statement};
use futures::FutureExt;

use super::Shared;
use super::channel::{Channel, ChannelError};
use super::extended::{Portal, PreparedStatement};
use super::interrupt::{Interrupt, Reason};
use super::message::frontend::Frontend;
use super::message::{ProtocolError, Report, backend};
use super::recent::RecentQueries;
use super::startup::{going_down, say_goodbye};

/// Why a message was not carried out.
#[derive(Debug)]
pub enum Failure {
    /// The statement failed; the conversation goes on.
    Statement(Report),
    /// The conversation is over, with last words where somebody may hear them.
    Ended(Option<Report>),
}

impl From<SqlError> for Failure {
    fn from(error: SqlError) -> Self {
        if let Some(cause) = std::error::Error::source(&error) {
            tracing::debug!(state = error.state.0, %cause, "statement failed: {error}");
        }
        Self::Statement(super::report(error))
    }
}

impl From<Report> for Failure {
    fn from(report: Report) -> Self {
        Self::Statement(report)
    }
}

impl From<ChannelError> for Failure {
    fn from(error: ChannelError) -> Self {
        match error {
            ChannelError::Gone => Self::Ended(None),
            ChannelError::Protocol(ProtocolError::Lost(message)) => {
                Self::Ended(Some(Report::fatal("08P01", message)))
            }
            ChannelError::Protocol(ProtocolError::Malformed { state, message, .. }) => {
                Self::Statement(Report::error(state, message))
            }
        }
    }
}

/// A session and its client.
pub struct Connection {
    pub(super) shared: Arc<Shared>,
    pub(super) channel: Channel,
    pub(super) session: Session,
    pub(super) interrupt: Arc<Interrupt>,
    pub(super) statements: HashMap<String, PreparedStatement>,
    pub(super) portals: HashMap<String, Portal>,
    recent: RecentQueries,
    /// After an error in the extended protocol, until Sync.
    pub(super) skipping: bool,
    /// Whether messages since the last Sync run in an implicit transaction.
    pub(super) implicit: bool,
}

/// Marks that a statement runs: it can be cancelled, and times out.
pub(super) struct Running {
    interrupt: Arc<Interrupt>,
    timer: Option<tokio::task::JoinHandle<()>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(timer) = &self.timer {
            timer.abort();
        }
        self.interrupt.end_statement();
    }
}

/// Does `work` until it is done, somebody asks to stop, or the client has gone. What is not done is
/// dropped.
pub(super) async fn watched<T>(
    channel: &mut Channel,
    interrupt: &Interrupt,
    work: impl Future<Output = T>,
) -> Result<T, Failure> {
    if let Some(reason) = interrupt.running() {
        return Err(stopped(reason));
    }
    let work = AssertUnwindSafe(work).catch_unwind();
    tokio::select! {
        biased;
        done = work => done.map_err(|_| {
            tracing::error!("a statement panicked");
            Failure::Statement(
                Report::error("XX000", "internal error: the statement was stopped by a defect")
                    .hint("please report it with the server's log"),
            )
        }),
        reason = interrupt.until_running() => Err(stopped(reason)),
        () = channel.until_gone() => {
            tracing::info!("client vanished; its statement is stopped");
            Err(Failure::Ended(None))
        }
    }
}

pub(super) fn stopped(reason: Reason) -> Failure {
    let report = match reason {
        Reason::Cancelled => Report::error("57014", "canceling statement due to user request"),
        Reason::StatementTimeout => {
            Report::error("57014", "canceling statement due to statement timeout")
        }
        Reason::Drain | Reason::Terminate => return Failure::Ended(Some(going_down())),
    };
    Failure::Statement(report)
}

impl Connection {
    pub fn new(
        shared: Arc<Shared>,
        channel: Channel,
        session: Session,
        interrupt: Arc<Interrupt>,
    ) -> Self {
        Self {
            shared,
            channel,
            session,
            interrupt,
            statements: HashMap::new(),
            portals: HashMap::new(),
            recent: RecentQueries::default(),
            skipping: false,
            implicit: false,
        }
    }

    /// Talks until the end.
    pub async fn run(mut self) {
        self.ready_for_query();
        let last_words = loop {
            if let Err(last_words) = self.step().await {
                break last_words;
            }
        };
        if let Some(report) = last_words {
            tracing::info!(state = report.state, "connection ended: {}", report.message);
            say_goodbye(&mut self.channel, &report).await;
        }
        self.session.close().await;
        self.shared
            .metrics
            .bytes_sent
            .add(std::mem::take(&mut self.channel.bytes_sent));
    }

    /// Takes one message and does it. `Err` ends the connection.
    async fn step(&mut self) -> Result<(), Option<Report>> {
        let message = match self.next_message().await {
            Ok(message) => message,
            Err(Failure::Ended(last_words)) => return Err(last_words),
            Err(Failure::Statement(report)) => {
                self.fail(&report);
                self.ready_for_query();
                return Ok(());
            }
        };
        let done = match message {
            Frontend::Query(sql) => self.simple(&sql).await,
            Frontend::Terminate => Err(Failure::Ended(None)),
            // What a client sends of a COPY that has failed already.
            Frontend::CopyData(_) | Frontend::CopyDone | Frontend::CopyFail(_) => Ok(()),
            Frontend::FunctionCall => {
                self.fail(&Report::error(
                    "0A000",
                    "fastpath function calls are not supported",
                ));
                self.ready_for_query();
                Ok(())
            }
            Frontend::Password(_) => Err(Failure::Ended(Some(Report::fatal(
                "08P01",
                "invalid frontend message type 112",
            )))),
            message => self.extended(message).await,
        };
        match done {
            Ok(()) => Ok(()),
            Err(Failure::Ended(last_words)) => Err(last_words),
            Err(Failure::Statement(report)) => {
                self.fail(&report);
                self.skipping = true;
                Ok(())
            }
        }
    }

    /// Waits for a message, but not for ever and not while the server goes down.
    async fn next_message(&mut self) -> Result<Frontend, Failure> {
        let taken = Frontend::take(&mut self.channel.inbound, self.channel.message_bytes_max);
        let taken = match taken {
            Ok(Some(message)) => Ok(message),
            Err(error) => Err(ChannelError::Protocol(error)),
            Ok(None) => {
                let patience = self.patience();
                self.shared
                    .metrics
                    .bytes_sent
                    .add(std::mem::take(&mut self.channel.bytes_sent));
                let silence = async {
                    match patience {
                        Some((patience, report)) => {
                            tokio::time::sleep(patience).await;
                            report
                        }
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    biased;
                    message = self.channel.next() => message,
                    _ = self.interrupt.until_idle() => {
                        return Err(Failure::Ended(Some(going_down())));
                    }
                    report = silence => return Err(Failure::Ended(Some(report))),
                }
            }
        };
        match taken {
            Err(ChannelError::Protocol(ProtocolError::Malformed {
                state,
                message,
                extended: true,
            })) if !self.skipping => {
                self.fail(&Report::error(state, message));
                self.skipping = true;
                Ok(Frontend::Flush)
            }
            other => Ok(other?),
        }
    }

    /// How long the client may stay silent now, and what it is told then.
    fn patience(&self) -> Option<(Duration, Report)> {
        let (setting, state, what) = match self.session.transaction_status() {
            TransactionStatus::Idle => ("idle_session_timeout", "57P05", "idle-session"),
            TransactionStatus::InTransaction | TransactionStatus::Failed => (
                "idle_in_transaction_session_timeout",
                "25P03",
                "idle-in-transaction",
            ),
        };
        let patience = self
            .session
            .setting(setting)
            .as_deref()
            .and_then(parse_duration)?;
        let report = Report::fatal(
            state,
            format!("terminating connection due to {what} timeout"),
        );
        Some((patience, report))
    }

    /// Tells the client of an error and fails its transaction.
    pub(super) fn fail(&mut self, report: &Report) {
        self.shared.metrics.errors.add(1);
        self.send_notices();
        backend::error_response(&mut self.channel.out, report);
        self.session.fail_transaction();
    }

    pub(super) fn begin_statement(&self) -> Running {
        let statement = self.interrupt.begin_statement();
        let timer = self.session.statement_timeout().map(|timeout| {
            let interrupt = self.interrupt.clone();
            self.shared.timers.spawn(async move {
                tokio::time::sleep(timeout).await;
                interrupt.time_out(statement);
            })
        });
        self.shared.metrics.queries.add(1);
        Running {
            interrupt: self.interrupt.clone(),
            timer,
        }
    }

    pub(super) fn ready_for_query(&mut self) {
        for (name, value) in self.session.take_reported_settings() {
            backend::parameter_status(&mut self.channel.out, &name, &value);
        }
        let status = match self.session.transaction_status() {
            TransactionStatus::Idle => b'I',
            TransactionStatus::InTransaction => b'T',
            TransactionStatus::Failed => b'E',
        };
        if status == b'I' {
            self.portals.clear();
        }
        backend::ready_for_query(&mut self.channel.out, status);
    }

    pub(super) fn send_notices(&mut self) {
        for notice in self.session.take_notices() {
            backend::notice_response(&mut self.channel.out, &super::notice(notice));
        }
    }

    /// A query string of the simple protocol: one implicit transaction.
    async fn simple(&mut self, sql: &str) -> Result<(), Failure> {
        self.statements.remove("");
        self.portals.remove("");
        if self.skipping {
            // Sync, not Query, ends an error of the extended protocol.
            return Ok(());
        }
        match self.simple_statements(sql).await {
            Err(Failure::Statement(report)) => {
                self.fail(&report);
                // The error has been told; undoing what went before has nothing to add. A statement
                // that was stopped in its middle has left its own transaction open as well.
                if let Err(error) = self.session.end_implicit(false).await {
                    tracing::warn!("could not roll back: {error}");
                }
            }
            ended => ended?,
        }
        self.ready_for_query();
        Ok(())
    }

    async fn simple_statements(&mut self, sql: &str) -> Result<(), Failure> {
        if let Some(prepared) = self.recent.take(sql)
            && self.session.is_reusable(&prepared).await?
        {
            let _running = self.begin_statement();
            let tag = self.run_prepared(&prepared).await?;
            self.recent.keep(sql, prepared);
            self.end_simple_statement(tag);
            return Ok(());
        }
        let statements = self.session.parse(sql)?;
        if statements.is_empty() {
            backend::empty_query_response(&mut self.channel.out);
            return Ok(());
        }
        let several = statements.len() > 1;
        if several {
            self.session.begin_implicit();
        }
        let last = statements.len() - 1;
        for (index, statement) in statements.into_iter().enumerate() {
            let start = statement.start;
            let text = (last == 0).then_some(sql);
            let ran = self.simple_statement(statement, text).await;
            let tag = ran.map_err(|failure| moved(failure, start))?;
            if several && index == last {
                // A commit that fails takes the place of the last statement's success.
                let committed = watched(
                    &mut self.channel,
                    &self.interrupt,
                    self.session.end_implicit(true),
                );
                committed.await??;
            }
            self.end_simple_statement(tag);
        }
        Ok(())
    }

    fn end_simple_statement(&mut self, tag: Option<String>) {
        self.send_notices();
        match tag {
            Some(tag) => backend::command_complete(&mut self.channel.out, &tag),
            None => backend::empty_query_response(&mut self.channel.out),
        }
    }

    /// Gives the command tag; `None` of an empty statement. `text` is the query string when the
    /// statement is all of it.
    async fn simple_statement(
        &mut self,
        statement: ParsedStatement,
        text: Option<&str>,
    ) -> Result<Option<String>, Failure> {
        let _running = self.begin_statement();
        if let Some(tag) = self.forget_statements(&statement.statement) {
            return Ok(Some(tag));
        }
        let prepared = watched(
            &mut self.channel,
            &self.interrupt,
            self.session.prepare(statement, &[]),
        )
        .await??;
        let tag = self.run_prepared(&prepared).await?;
        if let Some(text) = text
            && self.session.is_reusable(&prepared).await?
        {
            self.recent.keep(text, prepared);
        }
        Ok(tag)
    }

    async fn run_prepared(&mut self, prepared: &Prepared) -> Result<Option<String>, Failure> {
        let outcome = watched(
            &mut self.channel,
            &self.interrupt,
            self.session.execute(prepared, &[]),
        )
        .await??;
        self.answer(outcome).await
    }

    /// `DEALLOCATE` and `DISCARD ALL` mean the statements of the extended protocol too. Gives the
    /// tag when there is nothing left for the session to do.
    pub(super) fn forget_statements(&mut self, statement: &Statement) -> Option<String> {
        match statement {
            Statement::Deallocate(deallocate) => match &deallocate.name {
                Some(name) => self
                    .statements
                    .remove(name)
                    .map(|_| "DEALLOCATE".to_owned()),
                None => {
                    self.statements.clear();
                    None
                }
            },
            Statement::Discard(boathouse_sql::statement::Discard::All) => {
                self.statements.clear();
                None
            }
            _ => None,
        }
    }
}

/// An error's position counts from the beginning of the query string.
fn moved(failure: Failure, start: usize) -> Failure {
    match failure {
        Failure::Statement(mut report) => {
            report.position = report.position.map(|position| position + start);
            Failure::Statement(report)
        }
        ended => ended,
    }
}

/// A duration as `SHOW` prints it: `500ms`, `5s`, `1min`, `2h`, `1d`, or a plain number of
/// milliseconds; 0 is none.
fn parse_duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    let unit_start = text
        .find(|letter: char| !letter.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_start);
    let number: u64 = number.parse().ok().filter(|number| *number > 0)?;
    let milliseconds = match unit.trim() {
        "" | "ms" => 1,
        "s" => 1_000,
        "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    Some(Duration::from_millis(number.saturating_mul(milliseconds)))
}
