//! `BEGIN`, `COMMIT`, `ROLLBACK` and savepoints, with PostgreSQL's warnings.

use boathouse_sql::statement::{
    Begin, Commit, IsolationLevel, ReleaseSavepoint, Rollback, RollbackToSavepoint, Savepoint,
    SetTransaction, TransactionModes,
};

use super::settings::canonical_setting;
use super::state::Block;
use super::work::Work;
use super::{done, finish};
use crate::error::{SqlError, SqlState};
use crate::outcome::Outcome;
use crate::session::Session;

pub(super) fn begin(session: &mut Session, begin: &Begin) -> Result<Outcome, SqlError> {
    let tag = if begin.start {
        "START TRANSACTION"
    } else {
        "BEGIN"
    };
    // A transaction that cannot be what it is asked to be does not begin.
    if let Some(isolation) = begin.modes.isolation {
        canonical_setting("transaction_isolation", &isolation_name(isolation))?;
    }
    match std::mem::replace(&mut session.state.block, Block::None) {
        Block::None => {
            session.state.block = Block::Explicit(Box::new(Work::begin(&session.state.settings)));
        }
        // What went before in the same query string joins the transaction, as in PostgreSQL.
        Block::Implicit(work) => session.state.block = Block::Explicit(work),
        other => {
            session.state.block = other;
            session.state.notice(
                "WARNING",
                SqlState::ACTIVE_SQL_TRANSACTION,
                "there is already a transaction in progress",
            );
        }
    }
    apply_modes(session, &begin.modes, false)?;
    done(tag)
}

pub(super) async fn commit(session: &mut Session, commit: &Commit) -> Result<Outcome, SqlError> {
    end(session, true, commit.chain).await
}

pub(super) async fn rollback(
    session: &mut Session,
    rollback: &Rollback,
) -> Result<Outcome, SqlError> {
    end(session, false, rollback.chain).await
}

async fn end(session: &mut Session, commit: bool, chain: bool) -> Result<Outcome, SqlError> {
    let block = std::mem::replace(&mut session.state.block, Block::None);
    session
        .state
        .cursors
        .retain(|_, cursor| cursor.hold && commit);
    let tag = match block {
        Block::Explicit(work) => {
            finish(session, *work, commit).await?;
            if commit { "COMMIT" } else { "ROLLBACK" }
        }
        // COMMIT of a failed transaction is a rollback, and says so.
        Block::Failed(work) => {
            finish(session, *work, false).await?;
            "ROLLBACK"
        }
        Block::Implicit(work) => {
            session.state.notice(
                "WARNING",
                SqlState::NO_ACTIVE_SQL_TRANSACTION,
                "there is no transaction in progress",
            );
            finish(session, *work, commit).await?;
            if commit { "COMMIT" } else { "ROLLBACK" }
        }
        Block::None => {
            session.state.notice(
                "WARNING",
                SqlState::NO_ACTIVE_SQL_TRANSACTION,
                "there is no transaction in progress",
            );
            return done(if commit { "COMMIT" } else { "ROLLBACK" });
        }
    };
    if chain {
        session.state.block = Block::Explicit(Box::new(Work::begin(&session.state.settings)));
    }
    done(tag)
}

pub(super) fn savepoint(session: &mut Session, savepoint: &Savepoint) -> Result<Outcome, SqlError> {
    match &mut session.state.block {
        Block::Explicit(work) => {
            work.save(&savepoint.name, &session.state.settings);
            done("SAVEPOINT")
        }
        _ => Err(only_in_a_block("SAVEPOINT")),
    }
}

pub(super) fn release(
    session: &mut Session,
    release: &ReleaseSavepoint,
) -> Result<Outcome, SqlError> {
    match &mut session.state.block {
        Block::Explicit(work) => {
            work.release(&release.name)?;
            done("RELEASE")
        }
        _ => Err(only_in_a_block("RELEASE SAVEPOINT")),
    }
}

pub(super) fn rollback_to(
    session: &mut Session,
    rollback: &RollbackToSavepoint,
) -> Result<Outcome, SqlError> {
    let mut work = match std::mem::replace(&mut session.state.block, Block::None) {
        Block::Explicit(work) | Block::Failed(work) => work,
        other => {
            session.state.block = other;
            return Err(only_in_a_block("ROLLBACK TO SAVEPOINT"));
        }
    };
    let restored = work.restore(&rollback.name, &mut session.state.settings);
    session.state.block = match restored {
        Ok(()) => Block::Explicit(work),
        Err(_) => Block::Failed(work),
    };
    restored?;
    done("ROLLBACK")
}

pub(super) fn set_transaction(
    session: &mut Session,
    set: &SetTransaction,
) -> Result<Outcome, SqlError> {
    if !set.session && !matches!(session.state.block, Block::Explicit(_)) {
        session.state.notice(
            "WARNING",
            SqlState::NO_ACTIVE_SQL_TRANSACTION,
            "SET TRANSACTION can only be used in transaction blocks",
        );
    }
    apply_modes(session, &set.modes, set.session)?;
    done("SET")
}

/// `of_session`: for the transactions to come, too.
fn apply_modes(
    session: &mut Session,
    modes: &TransactionModes,
    of_session: bool,
) -> Result<(), SqlError> {
    let settings = &mut session.state.settings;
    if of_session {
        if let Some(isolation) = modes.isolation {
            settings.set(
                "default_transaction_isolation",
                &[isolation_name(isolation)],
            )?;
        }
        if let Some(read_only) = modes.read_only {
            settings.set("default_transaction_read_only", &[on_off(read_only)])?;
        }
        return Ok(());
    }
    if let Some(isolation) = modes.isolation {
        remember_local(session, "transaction_isolation");
        session
            .state
            .settings
            .set("transaction_isolation", &[isolation_name(isolation)])?;
    }
    if let Some(read_only) = modes.read_only {
        remember_local(session, "transaction_read_only");
        session
            .state
            .settings
            .set("transaction_read_only", &[on_off(read_only)])?;
        if let Some(work) = session.state.work() {
            work.read_only = read_only;
        }
    }
    Ok(())
}

/// Notes a setting's value so that the end of the transaction puts it back.
pub(super) fn remember_local(session: &mut Session, name: &str) {
    let Ok(value) = session.state.settings.get(name).map(str::to_owned) else {
        return;
    };
    if let Some(work) = session.state.work() {
        work.local_settings.push((name.to_owned(), value));
    }
}

fn isolation_name(isolation: IsolationLevel) -> String {
    match isolation {
        IsolationLevel::ReadUncommitted => "read uncommitted",
        IsolationLevel::ReadCommitted => "read committed",
        IsolationLevel::RepeatableRead => "repeatable read",
        IsolationLevel::Serializable => "serializable",
    }
    .to_owned()
}

fn on_off(value: bool) -> String {
    if value { "on" } else { "off" }.to_owned()
}

fn only_in_a_block(statement: &str) -> SqlError {
    SqlError::new(
        SqlState::NO_ACTIVE_SQL_TRANSACTION,
        format!("{statement} can only be used in transaction blocks"),
    )
}
