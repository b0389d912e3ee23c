//! `enforce_keys`: no two rows of a table have one key.
//!
//! After each statement the keys of the rows it wrote are looked for in the table as the transaction sees
//! it, by the index where there is one. The commit is refused when others added rows meanwhile.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::concat_batches;
use boathouse_catalog::definitions::{KeyConstraint, TableDefinition};
use boathouse_sql::name::quote_identifier;
use boathouse_sql::parse_query;
use datafusion::catalog::TableProvider;
use datafusion::common::ScalarValue;
use futures::TryStreamExt;

use super::changes::Subject;
use crate::error::{SqlError, SqlState};
use crate::query::failure::from_datafusion;
use crate::query::{self, QueryContext};
use crate::session::Session;

/// The property.
const ENFORCE: &str = "enforce_keys";

const ALL: &str = "#all";
const NEW: &str = "#new";

/// Rows written by a statement up to which their keys are asked of the index.
const ROWS_INDEXED_MAX: u64 = 200_000;

/// Whether a table's keys are checked on write.
pub(crate) fn enforces(definition: &TableDefinition) -> bool {
    let value = definition.properties.get(ENFORCE);
    value.is_some_and(|value| value.eq_ignore_ascii_case("true"))
}

/// Fails when the property is neither true nor false.
pub(super) fn check_property(definition: &TableDefinition) -> Result<(), SqlError> {
    match definition
        .properties
        .get(ENFORCE)
        .map(|value| value.to_ascii_lowercase())
    {
        None => Ok(()),
        Some(value) if value == "true" || value == "false" => Ok(()),
        Some(value) => Err(SqlError::new(
            SqlState::INVALID_PARAMETER_VALUE,
            format!("invalid value for boolean option \"{ENFORCE}\": {value}"),
        )),
    }
}

/// Checks the keys of the rows that the statement just run has written.
pub(crate) async fn check_written(session: &mut Session) -> Result<(), SqlError> {
    let Some(work) = session.state.work() else {
        return Ok(());
    };
    for (definition, files) in work.take_unchecked() {
        let context = session.state.query_context(&session.engine);
        let subject = Subject::of(&context, &definition).await?;
        for key in definition.primary_key.iter().chain(&definition.unique_keys) {
            check(&context, &subject, key, Some(&files)).await?;
        }
        subject.note_keys_read(session)?;
    }
    Ok(())
}

/// Checks the keys of all rows of a table.
pub(super) async fn check_all(
    session: &Session,
    definition: &Arc<TableDefinition>,
) -> Result<(), SqlError> {
    let context = session.state.query_context(&session.engine);
    let subject = Subject::of(&context, definition).await?;
    for key in definition.primary_key.iter().chain(&definition.unique_keys) {
        check(&context, &subject, key, None).await?;
    }
    Ok(())
}

async fn check(
    context: &QueryContext,
    subject: &Subject,
    key: &KeyConstraint,
    files: Option<&HashSet<String>>,
) -> Result<(), SqlError> {
    let names: Vec<String> = key
        .columns
        .iter()
        .map(|name| quote_identifier(name))
        .collect();
    let list = names.join(", ");
    let mut context = context.clone();
    let mut all: Arc<dyn TableProvider> = subject.provider();
    let mut of_new = String::new();
    if let Some(files) = files {
        let new = subject.provider_of(files);
        let rows = new.snapshot().row_count();
        context.extra_relations.push((NEW.into(), new));
        if rows.is_some_and(|rows| rows <= ROWS_INDEXED_MAX)
            && let Some(keys) = keys_of(&context, &list).await?
            && let Some(located) = subject.located(&context, &key.columns, &keys).await?
        {
            all = located;
        }
        let equal = names
            .iter()
            .map(|name| format!("\"#n\".{name} = \"#a\".{name}"));
        let equal = equal.collect::<Vec<_>>().join(" AND ");
        of_new = format!("WHERE EXISTS (SELECT 1 FROM \"{NEW}\" AS \"#n\" WHERE {equal})");
    } else {
        let present = names.iter().map(|name| format!("{name} IS NOT NULL"));
        of_new.push_str("WHERE ");
        of_new.push_str(&present.collect::<Vec<_>>().join(" AND "));
    }
    context.extra_relations.push((ALL.into(), all));
    let doubled = rows(
        &context,
        &format!(
            "SELECT {list} FROM \"{ALL}\" AS \"#a\" {of_new} GROUP BY {list} HAVING count(*) > 1 LIMIT 1"
        ),
    )
    .await?;
    let Some(doubled) = doubled.iter().find(|batch| batch.num_rows() > 0) else {
        return Ok(());
    };
    let values = doubled.columns().iter().map(|column| {
        let value = ScalarValue::try_from_array(column, 0);
        value.map_or_else(|_| "?".to_owned(), |value| value.to_string())
    });
    Err(SqlError::new(
        SqlState::UNIQUE_VIOLATION,
        format!(
            "duplicate key value violates unique constraint \"{}\"",
            key.name
        ),
    )
    .detail(format!(
        "Key ({})=({}) already exists.",
        key.columns.join(", "),
        values.collect::<Vec<_>>().join(", ")
    )))
}

async fn keys_of(context: &QueryContext, list: &str) -> Result<Option<Vec<ArrayRef>>, SqlError> {
    let batches = rows(context, &format!("SELECT {list} FROM \"{NEW}\"")).await?;
    let Some(first) = batches.first() else {
        return Ok(None);
    };
    let keys = concat_batches(&first.schema(), &batches)
        .map_err(|error| SqlError::internal("could not collect keys").caused_by(error))?;
    Ok(Some(keys.columns().to_vec()))
}

async fn rows(context: &QueryContext, sql: &str) -> Result<Vec<RecordBatch>, SqlError> {
    let query = parse_query(sql)?;
    let planned = query::plan_query(context, &query, &[]).await?;
    let stream = query::execute_query(context, &planned, &[]).await?;
    stream.try_collect().await.map_err(from_datafusion)
}
