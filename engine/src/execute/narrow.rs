//! Joins of a target with a source on the target's key: the source is read first, and of the target only
//! the rows with its keys, which the index knows.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::{CastOptions, cast_with_options, concat_batches};
use boathouse_catalog::definitions::ColumnDefinition;
use boathouse_catalog::types::ColumnType;
use boathouse_sql::ast::{self, BinaryOperator, Expr, Ident, TableFactor};
use boathouse_sql::name::quote_identifier;
use boathouse_sql::parse_query;
use datafusion::common::ScalarValue;
use datafusion::datasource::MemTable;
use futures::StreamExt;

use super::changes::{self, Subject};
use crate::error::SqlError;
use crate::query::failure::from_datafusion;
use crate::query::{self, QueryContext};

/// The relation that the source's rows stand in.
const ROWS: &str = "#rows";

/// Rows of a source beyond which it is left where it is.
const ROWS_MAX: usize = 200_000;

/// A join of the target with a source.
pub(super) struct Join<'a> {
    pub source: TableFactor,
    pub source_name: &'a Ident,
    pub with: Option<&'a ast::With>,
    pub on: &'a Expr,
}

/// The context in which the target can be named, and the source to be joined to it: its rows when
/// the target was narrowed to their keys.
pub(super) async fn join(
    context: &QueryContext,
    subject: &Subject,
    join: Join<'_>,
    types: &[Option<ColumnType>],
    parameters: &[ScalarValue],
) -> Result<(QueryContext, TableFactor), SqlError> {
    let whole = |source| Ok((subject.context(context), source));
    let Some(key) = subject.definition.primary_key.as_ref() else {
        return whole(join.source);
    };
    let partners = key
        .columns
        .iter()
        .map(|column| join.partner(subject, column));
    let Some(partners) = partners.collect::<Option<Vec<&Ident>>>() else {
        return whole(join.source);
    };
    let Some(rows) = join.rows(context, types, parameters).await? else {
        return whole(join.source);
    };
    let mut keys = Vec::with_capacity(partners.len());
    for (name, partner) in key.columns.iter().zip(partners) {
        let column = subject.definition.column(name);
        match column.and_then(|column| values(&rows, partner, column)) {
            Some(values) => keys.push(values),
            None => return whole(join.source),
        }
    }
    let located = subject
        .located_context(context, &key.columns, &keys)
        .await?;
    let Some(mut context) = located else {
        return whole(join.source);
    };
    let rows = MemTable::try_new(rows.schema(), vec![vec![rows]]).map_err(from_datafusion)?;
    context.extra_relations.push((ROWS.into(), Arc::new(rows)));
    let mut query = parse_query(&format!(
        "SELECT 1 FROM {} AS {}",
        quote_identifier(ROWS),
        quote_identifier(&join.source_name.value)
    ))?;
    let from = std::mem::take(&mut changes::select_of(&mut query)?.from);
    let source = from.into_iter().next().map(|from| from.relation);
    let source = source.ok_or_else(|| SqlError::internal("a source has no relation"))?;
    Ok((context, source))
}

impl Join<'_> {
    /// The source's column that the condition demands to be equal to a column of the target.
    fn partner(&self, subject: &Subject, column: &str) -> Option<&Ident> {
        let mut found = None;
        let mut open = vec![self.on];
        while let Some(condition) = open.pop() {
            match condition {
                Expr::Nested(inner) => open.push(inner),
                Expr::BinaryOp {
                    left,
                    op: BinaryOperator::And,
                    right,
                } => open.extend([&**left, &**right]),
                Expr::BinaryOp {
                    left,
                    op: BinaryOperator::Eq,
                    right,
                } => {
                    for (one, other) in [(left, right), (right, left)] {
                        if of(one, &subject.alias).is_some_and(|name| name.value == column) {
                            found = found.or(of(other, &self.source_name.value));
                        }
                    }
                }
                _ => {}
            }
        }
        found
    }

    /// The source's rows; `None` when they are many, or cannot stand for the source.
    async fn rows(
        &self,
        context: &QueryContext,
        types: &[Option<ColumnType>],
        parameters: &[ScalarValue],
    ) -> Result<Option<RecordBatch>, SqlError> {
        let limit = ROWS_MAX + 1;
        let mut query = parse_query(&format!("SELECT * FROM source LIMIT {limit}"))?;
        query.with = self.with.cloned();
        for from in &mut changes::select_of(&mut query)?.from {
            from.relation = self.source.clone();
        }
        let planned = query::plan_query(context, &query, types).await?;
        let mut names: Vec<&String> = planned
            .fields
            .fields()
            .iter()
            .map(|field| field.name())
            .collect();
        names.sort_unstable();
        names.dedup();
        if names.len() < planned.fields.fields().len() {
            return Ok(None);
        }
        let own = changes::own(parameters, &planned);
        let mut stream = query::execute_query(context, &planned, own).await?;
        let (mut batches, mut count) = (Vec::new(), 0);
        while let Some(batch) = stream.next().await {
            let batch = batch.map_err(from_datafusion)?;
            count += batch.num_rows();
            if count > ROWS_MAX {
                return Ok(None);
            }
            batches.push(batch);
        }
        let failed = |error| SqlError::internal("could not collect rows").caused_by(error);
        let batches = batches
            .into_iter()
            .map(|batch| batch.with_schema(Arc::clone(&planned.fields)))
            .collect::<Result<Vec<_>, _>>()
            .map_err(failed)?;
        concat_batches(&planned.fields, &batches)
            .map(Some)
            .map_err(failed)
    }
}

/// The column an expression names of a relation.
fn of<'a>(expression: &'a Expr, relation: &str) -> Option<&'a Ident> {
    match expression {
        Expr::Nested(inner) => of(inner, relation),
        Expr::CompoundIdentifier(parts) => match parts.as_slice() {
            [qualifier, name] if qualifier.value == relation => Some(name),
            _ => None,
        },
        _ => None,
    }
}

/// The values of a source's column as values of the key's column. What has no equal there is NULL; `None`
/// when the types are not compared by such values.
fn values(rows: &RecordBatch, name: &Ident, column: &ColumnDefinition) -> Option<ArrayRef> {
    let (index, field) = rows
        .schema()
        .column_with_name(&name.value)
        .map(|(index, field)| (index, field.clone()))?;
    let found = ColumnType::from_field(&field);
    let whole = |column_type: &ColumnType| {
        matches!(
            column_type,
            ColumnType::SmallInt | ColumnType::Integer | ColumnType::BigInt
        )
    };
    let text =
        |column_type: &ColumnType| matches!(column_type, ColumnType::Text | ColumnType::Varchar(_));
    let wanted = &column.column_type;
    if found != *wanted && !(whole(&found) && whole(wanted)) && !(text(&found) && text(wanted)) {
        return None;
    }
    let data_type = column
        .column_type
        .to_field(&column.name, true)
        .data_type()
        .clone();
    cast_with_options(rows.column(index), &data_type, &CastOptions::default()).ok()
}
