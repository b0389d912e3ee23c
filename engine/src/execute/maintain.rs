//! `OPTIMIZE table`, `VACUUM [(DRY_RUN, RETAIN_HOURS n)] [table, ...]`.

use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use boathouse_catalog::definitions::TableDefinition;
use boathouse_catalog::types::ColumnType;
use boathouse_sql::name::QualifiedName;
use boathouse_sql::statement::{Optimize, Vacuum};

use super::pipeline::leave_block;
use super::rows::{self, Column};
use super::{done, properties, rows::fields, upkeep};
use crate::error::{SqlError, SqlState};
use crate::lake::Upkeep;
use crate::outcome::{Outcome, RowsTag};
use crate::query;
use crate::session::Session;

/// Younger files may be a running statement's, to be read or yet to be committed.
pub(super) const RETENTION_HOURS_MIN: u64 = 1;

pub(super) fn optimize_fields() -> SchemaRef {
    fields(&[
        ("table_name", ColumnType::Text),
        ("files_removed", ColumnType::BigInt),
        ("files_added", ColumnType::BigInt),
        ("bytes_removed", ColumnType::BigInt),
        ("bytes_added", ColumnType::BigInt),
    ])
}

pub(super) fn vacuum_fields(vacuum: &Vacuum) -> Option<SchemaRef> {
    vacuum
        .dry_run
        .then(|| fields(&[("table_name", ColumnType::Text), ("file", ColumnType::Text)]))
}

pub(super) async fn optimize(
    session: &mut Session,
    optimize: &Optimize,
) -> Result<Outcome, SqlError> {
    leave_block(session, "OPTIMIZE").await?;
    let definition = owned(session, &optimize.table)?;
    let table = session.engine.lake.table(&definition).await?;
    let context = session.state.query_context(&session.engine);
    let upkeep = Upkeep {
        cluster_by: match optimize.zorder_by.as_slice() {
            [] => upkeep::cluster_by(&definition)?,
            columns => upkeep::checked(&definition, columns.to_vec())?,
        },
        unasked: false,
    };
    let made = table
        .optimize(&query::session_state(&context), &upkeep)
        .await?;
    let number = |value: u64| Column::Integer(vec![i64::try_from(value).ok()]);
    rows::outcome(
        optimize_fields(),
        vec![
            Column::Text(vec![Some(definition.name.clone())]),
            number(made.files_removed),
            number(made.files_added),
            number(made.bytes_removed),
            number(made.bytes_added),
        ],
        RowsTag::Verb("OPTIMIZE"),
    )
}

pub(super) async fn vacuum(session: &mut Session, vacuum: &Vacuum) -> Result<Outcome, SqlError> {
    leave_block(session, "VACUUM").await?;
    if vacuum.full {
        return Err(SqlError::unsupported("VACUUM FULL").hint("OPTIMIZE rewrites a table's files"));
    }
    let retained = vacuum.retain_hours;
    if retained.is_some_and(|hours| hours < RETENTION_HOURS_MIN) {
        return Err(SqlError::new(
            SqlState::INVALID_PARAMETER_VALUE,
            "VACUUM must keep the files of the last hour",
        )
        .hint("running statements may need them"));
    }
    let tables = if vacuum.tables.is_empty() {
        let snapshot = session.snapshot();
        let state = &session.state;
        let owned = |table: &&Arc<TableDefinition>| {
            state
                .require_owner(&snapshot, table.owner, "table", &table.name)
                .is_ok()
        };
        snapshot.tables().filter(owned).cloned().collect()
    } else {
        let named = vacuum
            .tables
            .iter()
            .map(|table| owned(session, &table.name));
        named.collect::<Result<Vec<_>, _>>()?
    };
    let mut names = Vec::new();
    let mut files = Vec::new();
    for definition in tables {
        let table = session.engine.lake.table(&definition).await?;
        let said = retained.map(|hours| Duration::from_secs(hours.saturating_mul(3600)));
        let retention = said.unwrap_or_else(|| properties::retention(&definition));
        for file in table.vacuum(retention, vacuum.dry_run).await? {
            names.push(Some(definition.name.clone()));
            files.push(Some(file));
        }
    }
    match vacuum_fields(vacuum) {
        Some(fields) => rows::outcome(
            fields,
            vec![Column::Text(names), Column::Text(files)],
            RowsTag::Verb("VACUUM"),
        ),
        None => done("VACUUM"),
    }
}

fn owned(session: &Session, name: &QualifiedName) -> Result<Arc<TableDefinition>, SqlError> {
    let snapshot = session.snapshot();
    let definition = session.state.table(&snapshot, name)?;
    session
        .state
        .require_owner(&snapshot, definition.owner, "table", &definition.name)?;
    Ok(definition)
}
