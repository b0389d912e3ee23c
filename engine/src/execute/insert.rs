//! `INSERT INTO table [(columns)] {VALUES | query | DEFAULT VALUES}`.
//!
//! The source is planned as one query whose output has the target columns' types: the cells of a
//! VALUES list and the constants of a select list take them where they stand, so that `$1` has its
//! column's type; other columns are cast around the query. Only what PostgreSQL assigns without a
//! written cast is. Columns not named get their default, or NULL.

use std::sync::Arc;

use boathouse_catalog::definitions::{
    ColumnDefinition, ObjectKind, ObjectRef, Privilege, TableDefinition,
};
use boathouse_catalog::types::ColumnType;
use boathouse_sql::ast;
use boathouse_sql::statement::{ConflictAction, Insert, InsertSource, OnConflict};
use boathouse_sql::{parse_expression, parse_query};
use datafusion::common::ScalarValue;
use futures::StreamExt;

use super::changes::{self, Subject};
use super::conflict;
use super::planning::KeptPlan;
use super::write::{TableWrite, write_stream};
use super::{PreparedPlan, done};
use crate::error::{SqlError, SqlState};
use crate::outcome::{Description, Outcome, RowsTag};
use crate::query::{self, QueryContext, Target};
use crate::session::{Prepared, Session};

/// An INSERT whose target and source are settled.
pub(crate) struct PlannedInsert {
    schema_name: String,
    definition: Arc<TableDefinition>,
    given: Vec<ColumnDefinition>,
    source: KeptPlan,
    description: Description,
}

impl PlannedInsert {
    pub fn description(&self) -> Description {
        self.description.clone()
    }
}

pub(super) async fn plan(
    session: &Session,
    context: &QueryContext,
    insert: &Insert,
    parameter_types: &[Option<ColumnType>],
) -> Result<PlannedInsert, SqlError> {
    let snapshot = Arc::clone(&context.snapshot);
    let definition = session.state.table(&snapshot, &insert.table)?;
    session.state.require(
        &snapshot,
        ObjectRef::new(ObjectKind::Table, definition.id),
        Privilege::Insert,
        "table",
        &definition.name,
    )?;
    let schema_name = snapshot
        .schema_by_id(definition.schema)
        .map(|schema| schema.name.clone())
        .unwrap_or_default();
    let mut given = target_columns(&definition, &insert.columns)?;
    let query = match &insert.source {
        InsertSource::DefaultValues => {
            given.clear();
            parse_query("SELECT 1")?
        }
        InsertSource::Query(query) => {
            let mut query = query.clone();
            if query.with.is_none() {
                query.with.clone_from(&insert.with);
            }
            adapt(query, &mut given, &definition, insert.columns.is_empty())?
        }
    };
    let targets: Vec<Target> = given.iter().map(target).collect();
    let source = query::plan_query_into(context, &query, parameter_types, &targets).await?;
    if !given.is_empty() {
        let found = source.fields.fields().len();
        match found.cmp(&given.len()) {
            std::cmp::Ordering::Greater => {
                return Err(SqlError::new(
                    SqlState::SYNTAX_ERROR,
                    "INSERT has more expressions than target columns",
                ));
            }
            std::cmp::Ordering::Less if insert.columns.is_empty() => given.truncate(found),
            std::cmp::Ordering::Less => {
                return Err(SqlError::new(
                    SqlState::SYNTAX_ERROR,
                    "INSERT has more target columns than expressions",
                ));
            }
            std::cmp::Ordering::Equal => {}
        }
    }
    let mut description = Description {
        parameters: source.parameters.clone(),
        fields: None,
    };
    let mut add = |planned: &query::PlannedQuery| {
        description.parameters = changes::all_parameters(&description.parameters, Some(planned));
    };
    if let Some(clause) = &insert.on_conflict {
        let subject = conflicting(session, context, insert, clause).await?;
        for key in conflict::arbiters(&definition, clause)? {
            let none = conflict::numbered(&definition, &[])?;
            let types = parameter_types;
            add(&conflict::plan(context, &subject, clause, key, none, types)
                .await?
                .1);
        }
    }
    if let Some(items) = &insert.returning {
        changes::check_returning(items, false)?;
        let object = ObjectRef::new(ObjectKind::Table, definition.id);
        let name = &definition.name;
        session
            .state
            .require(&snapshot, object, Privilege::Select, "table", name)?;
        let alias = insert.alias.as_ref().unwrap_or(name);
        let types = parameter_types;
        let planned =
            changes::plan_returning(context, &definition, alias, items, Vec::new(), types)
                .await?
                .1;
        add(&planned);
        description.fields = Some(planned.fields);
    }
    Ok(PlannedInsert {
        schema_name,
        definition,
        given,
        source: KeptPlan::new(context, source)?,
        description,
    })
}

/// The table of an INSERT whose rows may exist already.
async fn conflicting(
    session: &Session,
    context: &QueryContext,
    insert: &Insert,
    clause: &OnConflict,
) -> Result<Subject, SqlError> {
    let updates = matches!(clause.action, ConflictAction::DoUpdate { .. });
    let privilege = if updates {
        Privilege::Update
    } else {
        Privilege::Insert
    };
    // PostgreSQL asks for SELECT on the columns of a named target, and on those an update reads.
    let reads = updates || clause.target.is_some();
    let alias = insert.alias.as_ref();
    Subject::open(session, context, &insert.table, alias, privilege, reads).await
}

/// The columns a statement names, in its order; all of them when it names none.
pub(super) fn target_columns(
    definition: &TableDefinition,
    names: &[String],
) -> Result<Vec<ColumnDefinition>, SqlError> {
    if names.is_empty() {
        return Ok(definition.columns.clone());
    }
    let mut columns: Vec<ColumnDefinition> = Vec::with_capacity(names.len());
    for name in names {
        let column = definition.column(name).ok_or_else(|| {
            SqlError::new(
                SqlState::UNDEFINED_COLUMN,
                format!(
                    "column \"{name}\" of relation \"{}\" does not exist",
                    definition.name
                ),
            )
        })?;
        if columns.iter().any(|earlier| earlier.name == *name) {
            return Err(SqlError::new(
                SqlState::DUPLICATE_COLUMN,
                format!("column \"{name}\" specified more than once"),
            ));
        }
        columns.push(column.clone());
    }
    Ok(columns)
}

/// Where a column's values go. A length is not part of it: a cast would cut the value, an assignment
/// must refuse it.
pub(super) fn target(column: &ColumnDefinition) -> Target {
    Target {
        column: column.name.clone(),
        column_type: match &column.column_type {
            ColumnType::Varchar(_) | ColumnType::Char(_) => ColumnType::Text,
            other => other.clone(),
        },
    }
}

/// Puts defaults in for `DEFAULT` in a VALUES list.
fn adapt(
    mut query: Box<ast::Query>,
    given: &mut Vec<ColumnDefinition>,
    definition: &TableDefinition,
    all_columns: bool,
) -> Result<Box<ast::Query>, SqlError> {
    let ast::SetExpr::Values(values) = query.body.as_mut() else {
        return Ok(query);
    };
    let width = values.rows.first().map_or(0, |row| row.content.len());
    if width > given.len() {
        return Err(SqlError::new(
            SqlState::SYNTAX_ERROR,
            "INSERT has more expressions than target columns",
        ));
    }
    if width < given.len() {
        if !all_columns {
            return Err(SqlError::new(
                SqlState::SYNTAX_ERROR,
                "INSERT has more target columns than expressions",
            ));
        }
        given.truncate(width);
    }
    for row in &mut values.rows {
        if row.content.len() != width {
            return Err(SqlError::new(
                SqlState::SYNTAX_ERROR,
                "VALUES lists must all be the same length",
            ));
        }
        for (cell, column) in row.content.iter_mut().zip(given.iter()) {
            if is_default(cell) {
                let default = definition
                    .column(&column.name)
                    .and_then(|it| it.default.as_ref());
                *cell = parse_expression(default.map_or("NULL", String::as_str))?;
            }
        }
    }
    Ok(query)
}

pub(super) fn is_default(cell: &ast::Expr) -> bool {
    matches!(cell, ast::Expr::Identifier(word)
        if word.quote_style.is_none() && word.value.eq_ignore_ascii_case("default"))
}

pub(super) async fn execute(
    session: &mut Session,
    insert: &Insert,
    prepared: &Prepared,
    parameters: &[ScalarValue],
) -> Result<Outcome, SqlError> {
    let context = session.state.query_context(&session.engine);
    let kept = match &prepared.plan {
        // The right to insert was checked for the role and the catalog it is current for.
        PreparedPlan::Insert(planned) if planned.source.is_current(&context).await? => {
            Some(Arc::clone(planned))
        }
        _ => None,
    };
    let planned = match kept {
        Some(planned) => planned,
        None => {
            let types: Vec<_> = prepared
                .description
                .parameters
                .iter()
                .cloned()
                .map(Some)
                .collect();
            Arc::new(plan(session, &context, insert, &types).await?)
        }
    };
    let own = changes::own(parameters, &planned.source.planned);
    let mut stream = query::execute_query(&context, &planned.source.planned, own).await?;
    let mut table_write = TableWrite::begin(
        session,
        &planned.schema_name,
        Arc::clone(&planned.definition),
        &planned.given,
    )
    .await?;
    if insert.returning.is_none() && insert.on_conflict.is_none() {
        let rows = write_stream(session, table_write, stream, "WRITE").await?;
        return done(format!("INSERT 0 {rows}"));
    }
    let types = changes::described(prepared);
    let definition = &planned.definition;
    let (rows, kept) = if let Some(clause) = &insert.on_conflict {
        let mut complete = Vec::new();
        while let Some(batch) = stream.next().await {
            complete.push(table_write.checked(&batch.map_err(query::failure)?)?);
        }
        let rows = conflict::numbered(definition, &complete)?;
        drop(complete);
        let subject = conflicting(session, &context, insert, clause).await?;
        let mut successors =
            changes::Successors::new(&subject, insert.returning.is_some(), "WRITE");
        let request = conflict::Request {
            context: &context,
            clause,
            subject: &subject,
            types: &types,
            parameters,
        };
        let count = conflict::write(session, request, rows, &mut successors).await?;
        let kept = successors.finish(session).await?;
        (count, kept)
    } else {
        table_write.keep_rows();
        while let Some(batch) = stream.next().await {
            table_write.write(&batch.map_err(query::failure)?).await?;
        }
        let kept = table_write.take_kept();
        (table_write.finish(session, "WRITE").await?, kept)
    };
    let Some(items) = &insert.returning else {
        return done(format!("INSERT 0 {rows}"));
    };
    let alias = insert.alias.as_ref().unwrap_or(&definition.name);
    let (context, returning) =
        changes::plan_returning(&context, definition, alias, items, kept, &types).await?;
    changes::returned(&context, &returning, parameters, RowsTag::Insert).await
}
