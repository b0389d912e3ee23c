//! Carries out statements: one file for each kind of object or verb.
//!
//! ```text
//! text -> parse -> prepare (plan, describe) -> execute -> Outcome
//!                                                 |
//!                                  Work: overlay over the catalog, files not yet committed
//! ```
//!
//! Preparing reads and never writes. Executing changes nothing others can see until the transaction
//! it belongs to commits; a statement outside BEGIN commits itself. A plan is checked against the
//! catalog's version before it runs and made anew when the catalog has moved on.

mod alter_column;
mod alter_table;
mod changes;
mod comment;
mod conflict;
mod connection;
mod copy;
pub mod copy_decode;
mod copy_to_topic;
mod csv_sink;
mod cursor;
mod delete;
mod explain;
mod fill;
mod grant;
mod insert;
pub(crate) mod keys;
mod maintain;
mod merge;
mod narrow;
mod open;
mod pipeline;
mod planning;
mod prepared;
mod properties;
mod resolve;
mod role;
mod rows;
mod schema;
mod secret;
mod set;
mod settings;
mod show_create;
mod state;
mod table;
#[cfg(test)]
mod tests;
mod transaction;
mod truncate;
mod update;
pub mod upkeep;
mod view;
mod work;
mod write;

use std::sync::Arc;
use std::time::Duration;

use boathouse_catalog::types::ColumnType;
use boathouse_sql::{ParsedStatement, Statement};
use datafusion::common::ScalarValue;

pub(crate) use open::open_engine;
pub use settings::{SERVER_VERSION, canonical_setting, known as known_settings};
pub use state::SessionState;

use crate::error::{SqlError, SqlState};
use crate::outcome::{Description, Outcome, RowsTag};
use crate::query::{self, PlannedQuery};
use crate::session::{Prepared, Session};
use planning::KeptPlan;
use state::Block;
use work::Work;

/// The columns of a cursor of the session, if there is one of that name.
pub(crate) fn cursor_fields(session: &Session, name: &str) -> Option<arrow::datatypes::SchemaRef> {
    cursor::fields(session, name).ok()
}

/// How often a statement that changes rows is run while other writers are faster.
const CHANGE_ATTEMPTS_MAX: u32 = 20;

/// How long it waits before the second attempt; longer each time.
const CHANGE_PAUSE: Duration = Duration::from_millis(10);

/// What preparing a statement has worked out.
#[derive(Clone)]
pub(crate) enum PreparedPlan {
    /// Planned when it runs.
    None,
    Query(KeptPlan),
    Insert(Arc<insert::PlannedInsert>),
}

/// Splits and parses a query string.
pub(crate) fn parse(sql: &str) -> Result<Vec<ParsedStatement>, SqlError> {
    boathouse_sql::parse(sql).map_err(SqlError::from)
}

/// An empty query string, prepared.
impl Prepared {
    pub fn empty() -> Self {
        Self {
            statement: None,
            description: Description {
                parameters: Vec::new(),
                fields: None,
            },
            plan: PreparedPlan::None,
        }
    }
}

/// See [`Session::is_reusable`].
pub(crate) async fn is_reusable(session: &Session, prepared: &Prepared) -> Result<bool, SqlError> {
    let PreparedPlan::Query(kept) = &prepared.plan else {
        return Ok(false);
    };
    if !kept.is_reusable()
        || session.transaction_status() == crate::session::TransactionStatus::Failed
    {
        return Ok(false);
    }
    kept.is_current(&session.state.query_context(&session.engine))
        .await
}

/// Plans and describes one statement.
pub(crate) async fn prepare(
    session: &mut Session,
    statement: Arc<ParsedStatement>,
    parameter_types: &[Option<ColumnType>],
) -> Result<Prepared, SqlError> {
    check_not_failed(session, &statement.statement)?;
    let context = session.state.query_context(&session.engine);
    let untyped = || {
        parameter_types
            .iter()
            .map(|parameter| parameter.clone().unwrap_or(ColumnType::Text))
            .collect::<Vec<_>>()
    };
    let (description, plan) = match &statement.statement {
        Statement::Query(query) => {
            let planned = query::plan_query(&context, query, parameter_types).await?;
            (
                Description {
                    parameters: planned.parameters.clone(),
                    fields: Some(Arc::clone(&planned.fields)),
                },
                PreparedPlan::Query(KeptPlan::new(&context, planned)?),
            )
        }
        Statement::Insert(insert) => {
            let planned = insert::plan(session, &context, insert, parameter_types).await?;
            (
                planned.description(),
                PreparedPlan::Insert(Arc::new(planned)),
            )
        }
        Statement::Update(update) => (
            update::describe(session, &context, update, parameter_types).await?,
            PreparedPlan::None,
        ),
        Statement::Delete(delete) => (
            delete::describe(session, &context, delete, parameter_types).await?,
            PreparedPlan::None,
        ),
        Statement::Merge(merge) => (
            merge::describe(session, &context, merge, parameter_types).await?,
            PreparedPlan::None,
        ),
        Statement::Explain(explain) => (
            Description {
                parameters: untyped(),
                fields: Some(explain::fields(explain)),
            },
            PreparedPlan::None,
        ),
        Statement::Show(show) => (
            Description {
                parameters: Vec::new(),
                fields: Some(set::show_fields(show)),
            },
            PreparedPlan::None,
        ),
        Statement::ShowCreate(show) => (
            Description {
                parameters: Vec::new(),
                fields: Some(show_create::fields(show)),
            },
            PreparedPlan::None,
        ),
        Statement::CheckConnection(_) => (
            Description {
                parameters: Vec::new(),
                fields: Some(connection::check_fields()),
            },
            PreparedPlan::None,
        ),
        Statement::RunPipeline(_) => (
            Description {
                parameters: Vec::new(),
                fields: Some(pipeline::run_fields()),
            },
            PreparedPlan::None,
        ),
        Statement::VerifyPipeline(_) => (
            Description {
                parameters: Vec::new(),
                fields: Some(pipeline::verify_fields()),
            },
            PreparedPlan::None,
        ),
        Statement::ReplayQuarantine(_) => (
            Description {
                parameters: Vec::new(),
                fields: Some(pipeline::run_fields()),
            },
            PreparedPlan::None,
        ),
        Statement::Optimize(_) => (
            Description {
                parameters: Vec::new(),
                fields: Some(maintain::optimize_fields()),
            },
            PreparedPlan::None,
        ),
        Statement::Vacuum(vacuum) => (
            Description {
                parameters: Vec::new(),
                fields: maintain::vacuum_fields(vacuum),
            },
            PreparedPlan::None,
        ),
        Statement::TestPipeline(test) => (
            Description {
                parameters: Vec::new(),
                fields: Some(pipeline::test_fields(session, test).await?),
            },
            PreparedPlan::None,
        ),
        Statement::Execute(execute) => {
            let prepared = prepared::lookup(session, &execute.name)?;
            (
                Description {
                    parameters: Vec::new(),
                    fields: prepared.description.fields.clone(),
                },
                PreparedPlan::None,
            )
        }
        Statement::Fetch(fetch) => (
            Description {
                parameters: Vec::new(),
                fields: Some(cursor::fields(session, &fetch.cursor)?),
            },
            PreparedPlan::None,
        ),
        _ => (
            Description {
                parameters: untyped(),
                fields: None,
            },
            PreparedPlan::None,
        ),
    };
    Ok(Prepared {
        statement: Some(statement),
        description,
        plan,
    })
}

/// Runs a prepared statement.
pub(crate) async fn execute(
    session: &mut Session,
    prepared: &Prepared,
    parameters: &[ScalarValue],
) -> Result<Outcome, SqlError> {
    let Some(statement) = &prepared.statement else {
        return Ok(Outcome::Empty);
    };
    check_not_failed(session, &statement.statement)?;
    if parameters.len() != prepared.description.parameters.len() {
        return Err(SqlError::new(
            SqlState::PROTOCOL_VIOLATION,
            format!(
                "bind message supplies {} parameters, but prepared statement requires {}",
                parameters.len(),
                prepared.description.parameters.len()
            ),
        ));
    }
    // A statement outside a transaction block has one of its own.
    let changes_rows = match &statement.statement {
        Statement::Update(_) | Statement::Delete(_) | Statement::Merge(_) => true,
        Statement::Insert(insert) => insert.on_conflict.is_some(),
        _ => false,
    };
    if changes_rows && matches!(session.state.block, Block::None) {
        return change_rows(session, statement, prepared, parameters).await;
    }
    let own = matches!(session.state.block, Block::None) && needs_work(&statement.statement);
    if own {
        session.state.begin_implicit();
    }
    let outcome = dispatch_checked(session, statement, prepared, parameters).await;
    let outcome = match outcome {
        // Its transaction stays open until the client has sent everything: `finish_copy` ends it.
        Ok(Outcome::CopyIn(copy)) => {
            return Ok(Outcome::CopyIn(crate::outcome::CopyIn {
                alone: own,
                ..copy
            }));
        }
        other => other,
    };
    if own {
        let committed = end_implicit(session, outcome.is_ok()).await;
        return outcome.and_then(|outcome| committed.map(|()| outcome));
    }
    if outcome.is_err() {
        session.state.fail_transaction();
    }
    outcome
}

/// Runs a statement, and checks the keys of what it wrote.
async fn dispatch_checked(
    session: &mut Session,
    statement: &ParsedStatement,
    prepared: &Prepared,
    parameters: &[ScalarValue],
) -> Result<Outcome, SqlError> {
    let outcome = dispatch(session, statement, prepared, parameters).await?;
    keys::check_written(session).await?;
    Ok(outcome)
}

/// Runs a statement that changes rows in a transaction of its own. When another writer changed them
/// or rewrote their file meanwhile, it runs again on what is there now.
async fn change_rows(
    session: &mut Session,
    statement: &ParsedStatement,
    prepared: &Prepared,
    parameters: &[ScalarValue],
) -> Result<Outcome, SqlError> {
    let mut attempt = 1;
    loop {
        session.state.begin_implicit();
        let outcome = dispatch_checked(session, statement, prepared, parameters).await;
        let committed = end_implicit(session, outcome.is_ok()).await;
        let error = match (outcome, committed) {
            (Ok(outcome), Ok(())) => return Ok(outcome),
            (Err(error), _) => return Err(error),
            (Ok(_), Err(error)) => error,
        };
        if error.state != SqlState::SERIALIZATION_FAILURE || attempt >= CHANGE_ATTEMPTS_MAX {
            return Err(error);
        }
        tracing::info!(attempt, %error, "rows were changed by another writer, running the statement again");
        // Whoever comes second gives the others time, each another.
        let pause = CHANGE_PAUSE * attempt
            + Duration::from_millis(u64::from(session.state.process_id().unsigned_abs() % 17));
        tokio::time::sleep(pause).await;
        attempt += 1;
    }
}

/// Whether the statement may write, so that outside a block it needs a transaction of its own.
fn needs_work(statement: &Statement) -> bool {
    !matches!(
        statement,
        Statement::Query(_)
            | Statement::Begin(_)
            | Statement::Commit(_)
            | Statement::Rollback(_)
            | Statement::Savepoint(_)
            | Statement::ReleaseSavepoint(_)
            | Statement::RollbackToSavepoint(_)
            | Statement::Set(_)
            | Statement::Show(_)
            | Statement::RunPipeline(_)
            | Statement::VerifyPipeline(_)
            | Statement::Optimize(_)
            | Statement::Vacuum(_)
            | Statement::ReplayQuarantine(_)
            | Statement::Execute(_)
            | Statement::DeclareCursor(_)
    )
}

async fn dispatch(
    session: &mut Session,
    parsed: &ParsedStatement,
    prepared: &Prepared,
    parameters: &[ScalarValue],
) -> Result<Outcome, SqlError> {
    use Statement as S;
    match &parsed.statement {
        S::Query(query) => {
            let planned = current_plan(session, prepared, query).await?;
            let context = session.state.query_context(&session.engine);
            let stream = query::execute_query(&context, &planned, parameters).await?;
            Ok(Outcome::Rows {
                fields: Arc::clone(&planned.fields),
                stream,
                tag: RowsTag::Select,
            })
        }
        S::Explain(explain) => explain::execute(session, explain).await,
        S::Insert(insert) => insert::execute(session, insert, prepared, parameters).await,
        S::Update(statement) => update::execute(session, statement, prepared, parameters).await,
        S::Delete(statement) => delete::execute(session, statement, prepared, parameters).await,
        S::Merge(statement) => merge::execute(session, statement, prepared, parameters).await,
        S::Truncate(truncate) => truncate::execute(session, truncate),
        S::CreateSchema(create) => schema::create(session, create),
        S::AlterSchema(alter) => schema::alter(session, alter),
        S::DropSchema(drop) => schema::drop(session, drop),
        S::CreateTable(create) => table::create(session, create).await,
        S::AlterTable(alter) => alter_table::execute(session, alter).await,
        S::DropTable(drop) => table::drop(session, drop),
        S::CreateView(create) => view::create(session, create).await,
        S::AlterView(alter) => view::alter(session, alter),
        S::DropView(drop) => view::drop(session, drop),
        S::Comment(comment) => comment::execute(session, comment),
        S::CreateRole(create) => role::create(session, create),
        S::AlterRole(alter) => role::alter(session, alter),
        S::DropRole(drop) => role::drop(session, drop),
        S::Grant(grant) => grant::grant(session, grant),
        S::Revoke(revoke) => grant::revoke(session, revoke),
        S::SetRole(set) => role::set_role(session, set),
        S::SetSessionAuthorization(set) => role::set_session_authorization(session, set),
        S::CreateSecret(create) => secret::create(session, create),
        S::AlterSecret(alter) => secret::alter(session, alter),
        S::DropSecret(drop) => secret::drop(session, drop),
        S::CreateConnection(create) => connection::create(session, create),
        S::AlterConnection(alter) => connection::alter(session, alter),
        S::DropConnection(drop) => connection::drop(session, drop),
        S::CheckConnection(check) => connection::check(session, check).await,
        S::CreatePipeline(create) => pipeline::create(session, create).await,
        S::AlterPipeline(alter) => pipeline::alter(session, alter),
        S::DropPipeline(drop) => pipeline::drop(session, drop),
        S::RunPipeline(run) => pipeline::run(session, run).await,
        S::VerifyPipeline(verify) => pipeline::verify(session, verify).await,
        S::TestPipeline(test) => pipeline::test(session, test).await,
        S::ShowCreate(show) => show_create::execute(session, show),
        S::ReplayQuarantine(replay) => pipeline::replay(session, replay).await,
        S::Copy(copy) => copy::execute(session, copy).await,
        S::Prepare(prepare) => prepared::prepare(session, prepare).await,
        S::Execute(execute) => Box::pin(prepared::execute(session, execute)).await,
        S::Deallocate(deallocate) => prepared::deallocate(session, deallocate),
        S::DeclareCursor(declare) => cursor::declare(session, declare).await,
        S::Fetch(fetch) => cursor::fetch(session, fetch),
        S::Move(moved) => cursor::move_position(session, moved).await,
        S::CloseCursor(close) => cursor::close(session, close),
        S::Begin(begin) => transaction::begin(session, begin),
        S::Commit(commit) => transaction::commit(session, commit).await,
        S::Rollback(rollback) => transaction::rollback(session, rollback).await,
        S::Savepoint(savepoint) => transaction::savepoint(session, savepoint),
        S::ReleaseSavepoint(release) => transaction::release(session, release),
        S::RollbackToSavepoint(rollback) => transaction::rollback_to(session, rollback),
        S::SetTransaction(set) => transaction::set_transaction(session, set),
        S::Set(set) => set::set(session, set),
        S::Reset(reset) => set::reset(session, reset),
        S::Show(show) => set::show(session, show),
        S::Discard(discard) => set::discard(session, *discard),
        S::Listen(_) => Err(SqlError::unsupported("LISTEN")),
        S::Unlisten(_) => Ok(Outcome::Command("UNLISTEN".to_owned())),
        S::Notify(_) => Err(SqlError::unsupported("NOTIFY")),
        S::Lock(_) => Err(SqlError::unsupported("LOCK TABLE")
            .hint("writes to a table are ordered by its commits; no lock is needed")),
        S::Analyze(_) => Ok(Outcome::Command("ANALYZE".to_owned())),
        S::Vacuum(vacuum) => maintain::vacuum(session, vacuum).await,
        S::Optimize(optimize) => maintain::optimize(session, optimize).await,
    }
}

/// The plan made when the statement was prepared, or a new one if the catalog has moved on.
async fn current_plan(
    session: &mut Session,
    prepared: &Prepared,
    query: &boathouse_sql::ast::Query,
) -> Result<Arc<PlannedQuery>, SqlError> {
    let context = session.state.query_context(&session.engine);
    if let PreparedPlan::Query(kept) = &prepared.plan
        && kept.is_current(&context).await?
    {
        return Ok(Arc::clone(&kept.planned));
    }
    let types: Vec<_> = prepared
        .description
        .parameters
        .iter()
        .cloned()
        .map(Some)
        .collect();
    let planned = query::plan_query(&context, query, &types).await?;
    if prepared
        .description
        .fields
        .as_ref()
        .is_some_and(|fields| **fields != *planned.fields)
    {
        return Err(SqlError::new(
            SqlState::FEATURE_NOT_SUPPORTED,
            "cached plan must not change result type",
        ));
    }
    Ok(Arc::new(planned))
}

/// Commits or rolls back the implicit transaction, if there is one.
pub(crate) async fn end_implicit(session: &mut Session, succeeded: bool) -> Result<(), SqlError> {
    if !succeeded {
        session.state.forget_requested_settings();
    }
    match std::mem::replace(&mut session.state.block, Block::None) {
        Block::Implicit(work) => finish(session, *work, succeeded).await,
        other => {
            session.state.block = other;
            Ok(())
        }
    }
}

/// See [`Session::close`].
pub(crate) async fn abandon(session: &mut Session) {
    match std::mem::replace(&mut session.state.block, Block::None) {
        Block::None => {}
        Block::Implicit(work) | Block::Explicit(work) | Block::Failed(work) => {
            work.roll_back(&session.engine).await;
        }
    }
}

/// Ends a transaction's work, undoing what it did to the settings where it has to.
async fn finish(session: &mut Session, work: Work, commit: bool) -> Result<(), SqlError> {
    for (name, value) in work.local_settings.iter().rev() {
        session.state.settings.put_back(name, value);
    }
    if commit {
        return work.commit(&session.engine).await;
    }
    session.state.settings.restore(&work.settings_before);
    work.roll_back(&session.engine).await;
    Ok(())
}

/// In a failed transaction only its end is heard.
fn check_not_failed(session: &Session, statement: &Statement) -> Result<(), SqlError> {
    let ends = matches!(
        statement,
        Statement::Commit(_) | Statement::Rollback(_) | Statement::RollbackToSavepoint(_)
    );
    if matches!(session.state.block, Block::Failed(_)) && !ends {
        return Err(SqlError::new(
            SqlState::IN_FAILED_SQL_TRANSACTION,
            "current transaction is aborted, commands ignored until end of transaction block",
        ));
    }
    Ok(())
}

impl Session {
    /// The work of the current transaction. [`execute`] begins one before a statement that writes.
    fn work(&mut self) -> Result<&mut Work, SqlError> {
        self.state
            .work()
            .ok_or_else(|| SqlError::internal("a statement that writes has no transaction"))
    }

    /// The overlay for catalog changes; refuses in a read-only transaction.
    fn catalog(&mut self, command: &str) -> Result<&mut boathouse_catalog::Transaction, SqlError> {
        self.check_writable(command)?;
        let engine = Arc::clone(&self.engine);
        self.work()?.catalog(&engine)
    }

    fn check_writable(&mut self, command: &str) -> Result<(), SqlError> {
        if self.state.work().is_some_and(|work| work.read_only) {
            return Err(SqlError::new(
                SqlState::READ_ONLY_SQL_TRANSACTION,
                format!("cannot execute {command} in a read-only transaction"),
            ));
        }
        Ok(())
    }

    fn snapshot(&self) -> Arc<boathouse_catalog::Snapshot> {
        self.state.snapshot(&self.engine)
    }
}

/// A finished command.
fn done(tag: impl Into<String>) -> Result<Outcome, SqlError> {
    Ok(Outcome::Command(tag.into()))
}
