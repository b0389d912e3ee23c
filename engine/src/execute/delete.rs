//! `DELETE FROM table [USING ...] [WHERE ...] [RETURNING ...]`.

use arrow::array::RecordBatch;
use boathouse_catalog::definitions::Privilege;
use boathouse_catalog::types::ColumnType;
use boathouse_sql::statement::Delete;
use datafusion::common::ScalarValue;
use futures::StreamExt;

use super::changes::{self, FoundRows, Subject};
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
    delete: &Delete,
    types: &[Option<ColumnType>],
) -> Result<Planned, SqlError> {
    let reads = delete.filter.is_some() || !delete.using.is_empty() || delete.returning.is_some();
    let alias = delete.alias.as_ref();
    let subject = Subject::open(
        session,
        context,
        &delete.table,
        alias,
        Privilege::Delete,
        reads,
    )
    .await?;
    let items = match delete.returning {
        Some(_) => subject.assigned(&[])?,
        None => Vec::new(),
    };
    subject.check_distinct(&delete.using)?;
    if let Some(items) = &delete.returning {
        changes::check_returning(items, !delete.using.is_empty())?;
    }
    let mut query = subject.query(items)?;
    query.with.clone_from(&delete.with);
    let select = changes::select_of(&mut query)?;
    select.from.extend(delete.using.iter().cloned());
    select.selection.clone_from(&delete.filter);
    subject.unqualify(&mut query);
    let context = subject.context(context);
    let rows = query::plan_query(&context, &query, types).await?;
    Ok(Planned {
        subject,
        context,
        rows,
    })
}

pub(super) async fn describe(
    session: &Session,
    context: &QueryContext,
    delete: &Delete,
    types: &[Option<ColumnType>],
) -> Result<Description, SqlError> {
    let planned = plan(session, context, delete, types).await?;
    let items = delete.returning.as_deref();
    changes::describe(context, &planned.subject, &planned.rows, items, types).await
}

pub(super) async fn execute(
    session: &mut Session,
    delete: &Delete,
    prepared: &Prepared,
    parameters: &[ScalarValue],
) -> Result<Outcome, SqlError> {
    session.check_writable("DELETE")?;
    let context = session.state.query_context(&session.engine);
    let types = changes::described(prepared);
    let planned = plan(session, &context, delete, &types).await?;
    let own = changes::own(parameters, &planned.rows);
    let mut stream = query::execute_query(&planned.context, &planned.rows, own).await?;
    let mut found = FoundRows::default();
    let mut gone: Vec<RecordBatch> = Vec::new();
    while let Some(batch) = stream.next().await {
        let batch = found.take(&batch.map_err(from_datafusion)?)?;
        if delete.returning.is_some() && batch.num_rows() > 0 {
            gone.push(changes::without_address(&batch, &planned.subject)?);
        }
    }
    let count = found.count;
    found.delete(session, &planned.subject, "DELETE")?;
    let Some(items) = &delete.returning else {
        return done(format!("DELETE {count}"));
    };
    let (definition, alias) = (&planned.subject.definition, &planned.subject.alias);
    let (context, returning) =
        changes::plan_returning(&context, definition, alias, items, gone, &types).await?;
    changes::returned(&context, &returning, parameters, RowsTag::Delete).await
}
