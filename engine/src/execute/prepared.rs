//! `PREPARE`, `EXECUTE` and `DEALLOCATE` in SQL. The wire's own prepared statements are the server's.

use std::sync::Arc;

use boathouse_sql::ParsedStatement;
use boathouse_sql::statement::{Deallocate, Execute, Prepare};
use datafusion::common::{DFSchema, ScalarValue};

use super::{done, planning};
use crate::error::{SqlError, SqlState};
use crate::outcome::Outcome;
use crate::query;
use crate::session::{Prepared, Session};

pub(super) async fn prepare(session: &mut Session, prepare: &Prepare) -> Result<Outcome, SqlError> {
    if session.state.prepared.contains_key(&prepare.name) {
        return Err(SqlError::new(
            SqlState::DUPLICATE_PREPARED_STATEMENT,
            format!("prepared statement \"{}\" already exists", prepare.name),
        ));
    }
    let statement = ParsedStatement {
        text: prepare.text.clone(),
        start: 0,
        statement: (*prepare.statement).clone(),
    };
    let prepared = Box::pin(super::prepare(
        session,
        Arc::new(statement),
        &prepare.parameter_types,
    ))
    .await?;
    session
        .state
        .prepared
        .insert(prepare.name.clone(), prepared);
    done("PREPARE")
}

pub(super) fn lookup(session: &Session, name: &str) -> Result<Prepared, SqlError> {
    session
        .state
        .prepared
        .get(name)
        .cloned()
        .ok_or_else(|| unknown(name))
}

fn unknown(name: &str) -> SqlError {
    SqlError::new(
        SqlState::INVALID_SQL_STATEMENT_NAME,
        format!("prepared statement \"{name}\" does not exist"),
    )
}

pub(super) async fn execute(session: &mut Session, execute: &Execute) -> Result<Outcome, SqlError> {
    let prepared = lookup(session, &execute.name)?;
    let wanted = &prepared.description.parameters;
    if wanted.len() != execute.parameters.len() {
        return Err(SqlError::new(
            SqlState::SYNTAX_ERROR,
            format!(
                "wrong number of parameters for prepared statement \"{}\"",
                execute.name
            ),
        )
        .detail(format!(
            "Expected {} parameters but got {}.",
            wanted.len(),
            execute.parameters.len()
        )));
    }
    let context = session.state.query_context(&session.engine);
    let nothing = DFSchema::empty();
    let mut parameters: Vec<ScalarValue> = Vec::with_capacity(wanted.len());
    for (expression, column_type) in execute.parameters.iter().zip(wanted) {
        let planned = query::plan_expression(&context, expression, &nothing, Some(column_type))?;
        parameters.push(planning::evaluate_constant(&context, &planned)?);
    }
    super::execute(session, &prepared, &parameters).await
}

pub(super) fn deallocate(
    session: &mut Session,
    deallocate: &Deallocate,
) -> Result<Outcome, SqlError> {
    match &deallocate.name {
        None => {
            session.state.prepared.clear();
            done("DEALLOCATE ALL")
        }
        Some(name) => {
            session
                .state
                .prepared
                .remove(name)
                .ok_or_else(|| unknown(name))?;
            done("DEALLOCATE")
        }
    }
}
