//! `SET`, `RESET`, `SHOW` and `DISCARD`.

use arrow::datatypes::SchemaRef;
use boathouse_sql::statement::{Discard, Reset, Set, SettingValue, Show};

use super::rows::{self, Column};
use super::state::Block;
use super::{done, settings, transaction};
use crate::error::{SqlError, SqlState};
use crate::outcome::{Outcome, RowsTag};
use crate::session::Session;

pub(super) fn set(session: &mut Session, set: &Set) -> Result<Outcome, SqlError> {
    if set.local {
        if !matches!(session.state.block, Block::Explicit(_) | Block::Implicit(_)) {
            session.state.notice(
                "WARNING",
                SqlState::NO_ACTIVE_SQL_TRANSACTION,
                "SET LOCAL can only be used in transaction blocks",
            );
            return done("SET");
        }
        transaction::remember_local(session, &set.name);
    }
    match &set.value {
        SettingValue::Default => session.state.settings.reset(&set.name)?,
        SettingValue::Values(values) => session.state.settings.set(&set.name, values)?,
    }
    if set.name == "transaction_read_only" {
        let read_only = session.state.settings.boolean("transaction_read_only");
        if let Some(work) = session.state.work() {
            work.read_only = read_only;
        }
    }
    done("SET")
}

pub(super) fn reset(session: &mut Session, reset: &Reset) -> Result<Outcome, SqlError> {
    match reset.name.as_deref() {
        None => session.state.settings.reset_all(),
        Some("role") => {
            let user = session.state.session_user.clone();
            let snapshot = session.snapshot();
            session.state.set_role(&snapshot, user);
        }
        // A session is authenticated as one role for good.
        Some("session_authorization") => {
            let user = session.state.session_user.clone();
            let snapshot = session.snapshot();
            session.state.set_role(&snapshot, user);
        }
        Some(name) => session.state.settings.reset(name)?,
    }
    done("RESET")
}

pub(super) fn show_fields(show: &Show) -> SchemaRef {
    match &show.name {
        None => rows::text_fields(&["name", "setting", "description"]),
        Some(name) => rows::text_fields(&[shown_name(name)]),
    }
}

/// PostgreSQL's own spelling of the few names it does not write in lower case.
fn shown_name(name: &str) -> &str {
    match name {
        "timezone" => "TimeZone",
        "datestyle" => "DateStyle",
        "intervalstyle" => "IntervalStyle",
        other => other,
    }
}

pub(super) fn show(session: &mut Session, show: &Show) -> Result<Outcome, SqlError> {
    let fields = show_fields(show);
    let columns = match &show.name {
        Some(name) if name == "role" => {
            let shown = if session.state.role.id == session.state.session_user.id {
                "none".to_owned()
            } else {
                session.state.role.name.clone()
            };
            vec![Column::Text(vec![Some(shown)])]
        }
        Some(name) => {
            vec![Column::Text(vec![Some(
                session.state.settings.get(name)?.to_owned(),
            )])]
        }
        None => {
            let (mut names, mut values, mut descriptions) = (Vec::new(), Vec::new(), Vec::new());
            for (name, _, description) in settings::known() {
                names.push(Some(shown_name(name).to_owned()));
                values.push(session.state.settings.get(name).ok().map(str::to_owned));
                descriptions.push(Some(description.to_owned()));
            }
            vec![
                Column::Text(names),
                Column::Text(values),
                Column::Text(descriptions),
            ]
        }
    };
    rows::outcome(fields, columns, RowsTag::Show)
}

pub(super) fn discard(session: &mut Session, discard: Discard) -> Result<Outcome, SqlError> {
    let tag = match discard {
        Discard::All => {
            if matches!(session.state.block, Block::Explicit(_)) {
                return Err(SqlError::new(
                    SqlState::ACTIVE_SQL_TRANSACTION,
                    "DISCARD ALL cannot run inside a transaction block",
                ));
            }
            session.state.cursors.clear();
            session.state.prepared.clear();
            session.state.settings.reset_all();
            let user = session.state.session_user.clone();
            let snapshot = session.snapshot();
            session.state.set_role(&snapshot, user);
            "DISCARD ALL"
        }
        Discard::Plans => "DISCARD PLANS",
        Discard::Sequences => "DISCARD SEQUENCES",
        Discard::Temporary => "DISCARD TEMP",
    };
    done(tag)
}
