//! `INSERT INTO table [(columns)] {VALUES | query | DEFAULT VALUES}`.
//!
//! The source is planned as one query whose output has the target columns' types: the cells of a
//! VALUES list are cast where they stand, so that `$1` takes its column's type; another query's
//! columns are cast around it. Columns not named get their default, or NULL.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use boathouse_catalog::definitions::{
    ColumnDefinition, ObjectKind, ObjectRef, Privilege, TableDefinition,
};
use boathouse_catalog::types::ColumnType;
use boathouse_sql::ast;
use boathouse_sql::statement::{Insert, InsertSource};
use boathouse_sql::{parse_expression, parse_query};
use datafusion::common::ScalarValue;

use super::write::{TableWrite, write_stream};
use super::{PreparedPlan, done};
use crate::error::{SqlError, SqlState};
use crate::outcome::{Description, Outcome};
use crate::query::{self, PlannedQuery, QueryContext};
use crate::session::{Prepared, Session};

/// An INSERT whose target and source are settled.
pub(crate) struct PlannedInsert {
    schema_name: String,
    definition: Arc<TableDefinition>,
    given: Vec<ColumnDefinition>,
    source: PlannedQuery,
    catalog_version: i64,
}

impl PlannedInsert {
    pub fn description(&self) -> Description {
        Description {
            parameters: self.source.parameters.clone(),
            fields: None::<SchemaRef>,
        }
    }
}

pub(super) async fn plan(
    session: &Session,
    context: &QueryContext,
    insert: &Insert,
    parameter_types: &[Option<ColumnType>],
) -> Result<PlannedInsert, SqlError> {
    if insert.on_conflict.is_some() {
        return Err(SqlError::unsupported("INSERT ... ON CONFLICT"));
    }
    if insert.returning.is_some() {
        return Err(SqlError::unsupported("INSERT ... RETURNING"));
    }
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
    let mut source = query::plan_query(context, &query, parameter_types).await?;
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
        if !is_values(&query) {
            check_assignable(&source.fields, &given)?;
            let cast = cast_around(&query, &given)?;
            source = query::plan_query(context, &cast, parameter_types).await?;
        }
    }
    Ok(PlannedInsert {
        schema_name,
        definition,
        given,
        source,
        catalog_version: snapshot.version(),
    })
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

fn is_values(query: &ast::Query) -> bool {
    matches!(*query.body, ast::SetExpr::Values(_))
}

/// Casts each cell of a VALUES list to its column's type and puts defaults in for `DEFAULT`.
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
            let inner = if is_default(cell) {
                let default = definition
                    .column(&column.name)
                    .and_then(|it| it.default.as_ref());
                match default {
                    Some(text) => parse_expression(text)?,
                    None => parse_expression("NULL")?,
                }
            } else {
                cell.clone()
            };
            *cell = cast(inner, &column.column_type)?;
        }
    }
    Ok(query)
}

fn is_default(cell: &ast::Expr) -> bool {
    matches!(cell, ast::Expr::Identifier(word)
        if word.quote_style.is_none() && word.value.eq_ignore_ascii_case("default"))
}

/// `CAST(expression AS type)`. A length is not part of it: a cast would cut the value, an
/// assignment must refuse it.
fn cast(expression: ast::Expr, column_type: &ColumnType) -> Result<ast::Expr, SqlError> {
    let name = match column_type {
        ColumnType::Varchar(_) | ColumnType::Char(_) => "text".to_owned(),
        other => other.sql_name(),
    };
    match parse_expression(&format!("CAST(NULL AS {name})"))? {
        ast::Expr::Cast {
            kind,
            data_type,
            format,
            array,
            ..
        } => Ok(ast::Expr::Cast {
            kind,
            expr: Box::new(expression),
            data_type,
            format,
            array,
        }),
        _ => Err(SqlError::internal("a cast did not parse as one")),
    }
}

/// `SELECT CAST(c1 AS t1), ... FROM (query) AS source(c1, ...)`.
fn cast_around(
    query: &ast::Query,
    given: &[ColumnDefinition],
) -> Result<Box<ast::Query>, SqlError> {
    let names: Vec<String> = (1..=given.len())
        .map(|number| format!("c{number}"))
        .collect();
    let casts = names
        .iter()
        .zip(given)
        .map(|(name, column)| {
            let expression = parse_expression(name)?;
            Ok(cast(expression, &column.column_type)?.to_string())
        })
        .collect::<Result<Vec<_>, SqlError>>()?;
    let text = format!(
        "SELECT {} FROM ({query}) AS source({})",
        casts.join(", "),
        names.join(", ")
    );
    Ok(parse_query(&text)?)
}

/// PostgreSQL assigns between numbers, between dates and timestamps, and anything to text, but not
/// text to anything else.
fn check_assignable(fields: &SchemaRef, given: &[ColumnDefinition]) -> Result<(), SqlError> {
    for (field, column) in fields.fields().iter().zip(given) {
        let from = ColumnType::from_field(field);
        let to = &column.column_type;
        let text_to_other =
            from.category() == 'S' && to.category() != 'S' && !field.data_type().is_null();
        let number_to_other = from.category() == 'N' && !matches!(to.category(), 'N' | 'S');
        let other_to_number = to.category() == 'N' && !matches!(from.category(), 'N' | 'S' | 'X');
        if (text_to_other || number_to_other || other_to_number) && !field.data_type().is_null() {
            return Err(SqlError::new(
                SqlState::DATATYPE_MISMATCH,
                format!(
                    "column \"{}\" is of type {} but expression is of type {}",
                    column.name,
                    plain_name(to),
                    plain_name(&from)
                ),
            )
            .hint("You will need to rewrite or cast the expression."));
        }
    }
    Ok(())
}

/// A type's name without its length, as PostgreSQL's messages have it.
fn plain_name(column_type: &ColumnType) -> String {
    let name = column_type.sql_name();
    match name.find('(') {
        Some(at) => name[..at].to_owned(),
        None => name,
    }
}

pub(super) async fn execute(
    session: &mut Session,
    insert: &Insert,
    prepared: &Prepared,
    parameters: &[ScalarValue],
    text: &str,
) -> Result<Outcome, SqlError> {
    let context = session.state.query_context(&session.engine);
    let planned = match &prepared.plan {
        PreparedPlan::Insert(planned) if planned.catalog_version == context.snapshot.version() => {
            Arc::clone(planned)
        }
        _ => {
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
    let stream = query::execute_query(&context, &planned.source, parameters).await?;
    let table_write = TableWrite::begin(
        session,
        &planned.schema_name,
        Arc::clone(&planned.definition),
        &planned.given,
    )
    .await?;
    let rows = write_stream(session, table_write, stream, "WRITE").await?;
    done(format!("INSERT 0 {rows}"))
}
