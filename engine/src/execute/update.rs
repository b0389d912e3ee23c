//! `UPDATE table SET column = value, ... [FROM ...] [WHERE ...] [RETURNING ...]`.
//!
//! A changed row is written anew and the old one deleted by its position, in one commit. A row that
//! several rows of FROM join to is changed once, by one of them, as in PostgreSQL.

use boathouse_catalog::definitions::Privilege;
use boathouse_catalog::types::ColumnType;
use boathouse_sql::statement::Update;
use datafusion::common::ScalarValue;
use futures::StreamExt;

use super::changes::{self, ADDRESS_COLUMNS, FoundRows, Subject, Successors};
use super::done;
use crate::error::SqlError;
use crate::outcome::{Description, Outcome, RowsTag};
use crate::query::failure::from_datafusion;
use crate::query::{self, PlannedQuery, QueryContext};
use crate::session::{Prepared, Session};

struct Planned {
    subject: Subject,
    context: QueryContext,
    rows: PlannedQuery,
}

async fn plan(
    session: &Session,
    context: &QueryContext,
    update: &Update,
    types: &[Option<ColumnType>],
) -> Result<Planned, SqlError> {
    let mut values = update.assignments.iter().map(|one| &one.value);
    let reads = update.filter.is_some()
        || !update.from.is_empty()
        || update.returning.is_some()
        || values.any(changes::names_column);
    let subject = Subject::open(
        session,
        context,
        &update.table,
        update.alias.as_ref(),
        Privilege::Update,
        reads,
    )
    .await?;
    subject.check_distinct(&update.from)?;
    changes::check_assignments(&update.assignments)?;
    if let Some(items) = &update.returning {
        changes::check_returning(items, !update.from.is_empty())?;
    }
    let mut query = subject.query(subject.assigned(&update.assignments)?)?;
    query.with.clone_from(&update.with);
    let select = changes::select_of(&mut query)?;
    select.from.extend(update.from.iter().cloned());
    select.selection.clone_from(&update.filter);
    subject.unqualify(&mut query);
    let context = subject.context(context);
    let rows = query::plan_query_into(&context, &query, types, &subject.targets()).await?;
    Ok(Planned {
        subject,
        context,
        rows,
    })
}

pub(super) async fn describe(
    session: &Session,
    context: &QueryContext,
    update: &Update,
    types: &[Option<ColumnType>],
) -> Result<Description, SqlError> {
    let planned = plan(session, context, update, types).await?;
    let items = update.returning.as_deref();
    changes::describe(context, &planned.subject, &planned.rows, items, types).await
}

pub(super) async fn execute(
    session: &mut Session,
    update: &Update,
    prepared: &Prepared,
    parameters: &[ScalarValue],
) -> Result<Outcome, SqlError> {
    session.check_writable("UPDATE")?;
    let context = session.state.query_context(&session.engine);
    let types = changes::described(prepared);
    let Planned {
        subject,
        context: own_context,
        rows,
    } = plan(session, &context, update, &types).await?;
    let own = changes::own(parameters, &rows);
    let mut stream = query::execute_query(&own_context, &rows, own).await?;
    let width = subject.definition.columns.len();
    let values: Vec<usize> = (ADDRESS_COLUMNS..ADDRESS_COLUMNS + width).collect();
    let mut found = FoundRows::default();
    let mut successors = Successors::new(&subject, update.returning.is_some(), "UPDATE");
    while let Some(batch) = stream.next().await {
        let batch = found.take(&batch.map_err(from_datafusion)?)?;
        successors.write(session, &batch, &values).await?;
    }
    let count = found.count;
    let kept = successors.finish(session).await?;
    found.delete(session, &subject, "UPDATE")?;
    let Some(items) = &update.returning else {
        return done(format!("UPDATE {count}"));
    };
    let (definition, alias) = (&subject.definition, &subject.alias);
    let (context, returning) =
        changes::plan_returning(&context, definition, alias, items, kept, &types).await?;
    changes::returned(&context, &returning, parameters, RowsTag::Update).await
}
