//! Statements that a pipeline runs with its owner's rights.

use boathouse_sql::name::quote_identifier;
use futures::FutureExt;
use futures::future::BoxFuture;

use super::plan::CapturePlan;
use crate::error::SqlError;
use crate::session::{Session, SessionOptions};

/// A table's name as it is written.
pub(super) fn qualified(schema: &str, table: &str) -> String {
    format!("{}.{}", quote_identifier(schema), quote_identifier(table))
}

/// Runs statements one by one. A statement may itself run a pipeline, so that the future is boxed.
pub(super) fn run<'a>(
    plan: &'a CapturePlan,
    statements: &'a [String],
) -> BoxFuture<'a, Result<(), SqlError>> {
    async move {
        match statements.is_empty() {
            true => Ok(()),
            false => run_all(plan, statements).await,
        }
    }
    .boxed()
}

async fn run_all(plan: &CapturePlan, statements: &[String]) -> Result<(), SqlError> {
    let options = SessionOptions {
        role: plan.context.session.role_name.clone(),
        database: "boathouse".into(),
        settings: vec![("application_name".into(), plan.name.clone())],
        client_address: None,
    };
    let mut session = Session::open(plan.engine(), options)?;
    let outcome = run_in(&mut session, statements).await;
    session.close().await;
    outcome
}

async fn run_in(session: &mut Session, statements: &[String]) -> Result<(), SqlError> {
    for statement in statements {
        session.begin_implicit();
        let outcome = run_one(session, statement).await;
        let ended = session.end_implicit(outcome.is_ok()).await;
        outcome?;
        ended?;
    }
    Ok(())
}

async fn run_one(session: &mut Session, statement: &str) -> Result<(), SqlError> {
    for parsed in session.parse(statement)? {
        let prepared = session.prepare(parsed, &[]).await?;
        session.execute(&prepared, &[]).await?;
    }
    Ok(())
}
