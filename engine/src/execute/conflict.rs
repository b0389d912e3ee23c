//! `INSERT ... ON CONFLICT ... DO NOTHING | DO UPDATE`.
//!
//! ```text
//! rows to insert, in memory -> join with the table on the key -> rows to delete and their successors
//!                           -> the rows no key of which exists -> TableWrite
//! ```

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch};
use arrow::compute::{concat_batches, filter_record_batch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use arrow::row::{OwnedRow, RowConverter, SortField};
use boathouse_catalog::definitions::{KeyConstraint, TableDefinition};
use boathouse_catalog::types::ColumnType;
use boathouse_sql::ast::{Expr, SelectItem};
use boathouse_sql::name::quote_identifier;
use boathouse_sql::statement::{ConflictAction, ConflictTarget, OnConflict};
use boathouse_sql::{parse_expression, parse_query};
use datafusion::common::ScalarValue;
use datafusion::datasource::MemTable;
use futures::StreamExt;

use super::changes::{self, FoundRows, Subject, Successors};
use super::write::schema_of;
use crate::error::{SqlError, SqlState};
use crate::query::failure::from_datafusion;
use crate::query::{self, PlannedQuery, QueryContext, Target};
use crate::session::Session;

const EXCLUDED: &str = "#excluded";
const ORDINAL_COLUMN: &str = "_boathouse_ordinal";

/// Columns before the new values: the address, the ordinal, whether WHERE holds.
const LEADING_COLUMNS: usize = changes::ADDRESS_COLUMNS + 2;

/// The keys whose conflicts the clause is about.
pub(super) fn arbiters<'a>(
    definition: &'a TableDefinition,
    clause: &OnConflict,
) -> Result<Vec<&'a KeyConstraint>, SqlError> {
    let keys = || definition.primary_key.iter().chain(&definition.unique_keys);
    match &clause.target {
        None if matches!(clause.action, ConflictAction::DoNothing) => Ok(keys().collect()),
        None => Err(SqlError::new(
            SqlState::SYNTAX_ERROR,
            "ON CONFLICT DO UPDATE requires inference specification or constraint name",
        )),
        Some(ConflictTarget::Constraint(name)) => {
            let key = keys().find(|key| key.name == *name).ok_or_else(|| {
                if definition.checks.iter().any(|check| check.name == *name) {
                    return SqlError::new(
                        SqlState::WRONG_OBJECT_TYPE,
                        "constraint in ON CONFLICT clause has no associated index",
                    );
                }
                SqlError::new(
                    SqlState("42704"),
                    format!(
                        "constraint \"{name}\" for table \"{}\" does not exist",
                        definition.name
                    ),
                )
            })?;
            Ok(vec![key])
        }
        Some(ConflictTarget::Columns(names)) => {
            for name in names {
                if definition.column(name).is_none() {
                    return Err(SqlError::new(
                        SqlState::UNDEFINED_COLUMN,
                        format!("column \"{name}\" does not exist"),
                    ));
                }
            }
            let wanted: HashSet<&String> = names.iter().collect();
            let found: Vec<_> = keys()
                .filter(|key| key.columns.iter().collect::<HashSet<_>>() == wanted)
                .collect();
            if found.is_empty() {
                return Err(SqlError::new(
                    SqlState("42P10"),
                    "there is no unique or exclusion constraint matching the ON CONFLICT \
                     specification",
                ));
            }
            Ok(found)
        }
    }
}

/// Plans the search for the rows of the table that have the key of a row to be inserted.
pub(super) async fn plan(
    context: &QueryContext,
    subject: &Subject,
    clause: &OnConflict,
    key: &KeyConstraint,
    rows: RecordBatch,
    types: &[Option<ColumnType>],
) -> Result<(QueryContext, PlannedQuery), SqlError> {
    let alias = quote_identifier(&subject.alias);
    let equal = key.columns.iter().map(|column| {
        let column = quote_identifier(column);
        format!("{alias}.{column} = excluded.{column}")
    });
    let equal = equal.collect::<Vec<_>>().join(" AND ");
    let mut query = parse_query(&format!(
        "SELECT 1 FROM {} AS {alias}, {} AS excluded WHERE {equal} ORDER BY excluded.{}",
        quote_identifier(changes::TARGET),
        quote_identifier(EXCLUDED),
        quote_identifier(ORDINAL_COLUMN),
    ))?;
    let ordinal = SelectItem::UnnamedExpr(Expr::CompoundIdentifier(vec![
        changes::quoted("excluded"),
        changes::quoted(ORDINAL_COLUMN),
    ]));
    let (assignments, filter) = match &clause.action {
        ConflictAction::DoNothing => (Vec::new(), None),
        ConflictAction::DoUpdate {
            assignments,
            filter,
        } => (assignments.clone(), filter.clone()),
    };
    let holds = SelectItem::ExprWithAlias {
        expr: match filter {
            Some(filter) => filter,
            None => parse_expression("true")?,
        },
        alias: changes::quoted("_boathouse_holds"),
    };
    let items = [ordinal, holds]
        .into_iter()
        .chain(subject.assigned(&assignments)?)
        .collect();
    changes::check_assignments(&assignments)?;
    changes::select_of(&mut query)?.projection = subject.addressed(items);
    subject.unqualify(&mut query);
    let keys = key_columns(&subject.definition, key, &rows);
    let context = subject.context_of_keys(context, &key.columns, &keys);
    let mut context = context.await?;
    let schema = rows.schema();
    let rows = MemTable::try_new(schema, vec![vec![rows]]).map_err(from_datafusion)?;
    context
        .extra_relations
        .push((EXCLUDED.into(), Arc::new(rows)));
    let mut targets = subject.targets();
    let leading = [
        (ORDINAL_COLUMN, ColumnType::BigInt),
        ("WHERE", ColumnType::Boolean),
    ];
    let leading = leading.map(|(column, column_type)| Target {
        column: column.to_owned(),
        column_type,
    });
    targets.splice(changes::ADDRESS_COLUMNS..changes::ADDRESS_COLUMNS, leading);
    let planned = query::plan_query_into(&context, &query, types, &targets).await?;
    Ok((context, planned))
}

/// Rows to be inserted, each with its place among them.
pub(super) fn numbered(
    definition: &TableDefinition,
    batches: &[RecordBatch],
) -> Result<RecordBatch, SqlError> {
    let failed = |error| SqlError::internal("could not collect rows").caused_by(error);
    let schema = schema_of(definition);
    let rows = concat_batches(&schema, batches).map_err(failed)?;
    let mut fields = schema.fields().to_vec();
    fields.push(Arc::new(Field::new(ORDINAL_COLUMN, DataType::Int64, true)));
    let ordinals: Int64Array = (0..).take(rows.num_rows()).collect::<Vec<i64>>().into();
    let mut columns = rows.columns().to_vec();
    columns.push(Arc::new(ordinals));
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(failed)
}

/// What the clause of one statement is carried out with.
pub(super) struct Request<'a> {
    pub context: &'a QueryContext,
    pub clause: &'a OnConflict,
    pub subject: &'a Subject,
    pub types: &'a [Option<ColumnType>],
    pub parameters: &'a [ScalarValue],
}

/// Writes what the clause leaves of the rows, and gives their number.
pub(super) async fn write(
    session: &mut Session,
    request: Request<'_>,
    rows: RecordBatch,
    successors: &mut Successors<'_>,
) -> Result<u64, SqlError> {
    let Request {
        context,
        clause,
        subject,
        types,
        parameters,
    } = request;
    let definition = &subject.definition;
    let updates = matches!(clause.action, ConflictAction::DoUpdate { .. });
    let keys = arbiters(definition, clause)?;
    let width = definition.columns.len();
    let values: Vec<usize> = (LEADING_COLUMNS..LEADING_COLUMNS + width).collect();
    let mut exists = vec![false; rows.num_rows()];
    let mut found = FoundRows::default();
    for key in &keys {
        let (context, planned) = plan(context, subject, clause, key, rows.clone(), types).await?;
        let own = changes::own(parameters, &planned);
        let mut stream = query::execute_query(&context, &planned, own).await?;
        while let Some(batch) = stream.next().await {
            let batch = batch.map_err(from_datafusion)?;
            let ordinals = batch.column(2).as_primitive::<Int64Type>();
            for ordinal in ordinals.iter().flatten() {
                if let Ok(index) = usize::try_from(ordinal) {
                    exists[index] = true;
                }
            }
            if !updates {
                continue;
            }
            // In the order of the rows to be inserted: once one of them has changed a row, no other may
            // come to it, whether its WHERE holds or not.
            let holds = batch.column(3).as_boolean();
            let mut changed = Vec::with_capacity(batch.num_rows());
            for row in 0..batch.num_rows() {
                if found.holds(&batch, row) {
                    return Err(second_time());
                }
                let holds = holds.is_valid(row) && holds.value(row);
                if holds {
                    found.add(&batch, row);
                }
                changed.push(holds);
            }
            let changed = BooleanArray::from(changed);
            let batch = filter_record_batch(&batch, &changed).map_err(picking)?;
            successors.write(session, &batch, &values).await?;
        }
    }
    let accepted = accepted(definition, &keys, &rows, &exists, updates)?;
    let count = found.count + accepted.true_count() as u64;
    let rows = filter_record_batch(&rows, &accepted).map_err(picking)?;
    let columns: Vec<usize> = (0..width).collect();
    let rows = rows.project(&columns).map_err(picking)?;
    let write = successors.writer(session, BTreeMap::new()).await?;
    write.write(&rows).await?;
    found.delete(session, subject, "WRITE")?;
    subject.note_keys_read(session)?;
    Ok(count)
}

/// Which rows are inserted: those whose keys neither the table nor an earlier row has.
fn accepted(
    definition: &TableDefinition,
    keys: &[&KeyConstraint],
    rows: &RecordBatch,
    exists: &[bool],
    updates: bool,
) -> Result<BooleanArray, SqlError> {
    let mut converted = Vec::new();
    for key in keys {
        let columns = key_columns(definition, key, rows);
        let fields = columns
            .iter()
            .map(|column| SortField::new(column.data_type().clone()))
            .collect();
        let values = RowConverter::new(fields)
            .and_then(|converter| converter.convert_columns(&columns))
            .map_err(picking)?;
        converted.push((columns, values));
    }
    let mut seen: HashSet<(usize, OwnedRow)> = HashSet::new();
    let mut accepted = Vec::with_capacity(rows.num_rows());
    for (row, exists) in exists.iter().enumerate() {
        if *exists {
            accepted.push(false);
            continue;
        }
        // A key with a NULL in it is equal to none.
        let of_row: Vec<_> = converted
            .iter()
            .enumerate()
            .filter(|(_, (columns, _))| columns.iter().all(|column| column.is_valid(row)))
            .map(|(key, (_, values))| (key, values.row(row).owned()))
            .collect();
        let again = of_row.iter().any(|key| seen.contains(key));
        if again && updates {
            return Err(second_time());
        }
        if !again {
            seen.extend(of_row);
        }
        accepted.push(!again);
    }
    Ok(accepted.into())
}

/// The columns of a key, of rows in the table's columns.
fn key_columns(
    definition: &TableDefinition,
    key: &KeyConstraint,
    rows: &RecordBatch,
) -> Vec<ArrayRef> {
    let columns = &definition.columns;
    let names = key.columns.iter();
    names
        .filter_map(|name| columns.iter().position(|column| column.name == *name))
        .map(|index| Arc::clone(rows.column(index)))
        .collect()
}

fn picking(error: arrow::error::ArrowError) -> SqlError {
    SqlError::internal("could not pick rows").caused_by(error)
}

fn second_time() -> SqlError {
    SqlError::new(
        SqlState("21000"),
        "ON CONFLICT DO UPDATE command cannot affect row a second time",
    )
    .hint(
        "Ensure that no rows proposed for insertion within the same command have duplicate \
         constrained values.",
    )
}
