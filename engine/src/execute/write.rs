//! The way of rows into a table, whoever brings them: defaults, casts, constraints, files.
//!
//! ```text
//! columns given -> the table's columns (defaults fill in) -> NOT NULL, CHECK, length -> writer
//! ```
//!
//! Rows go into data files that no commit names yet; [`TableWrite::finish`] hands them to the
//! transaction. Dropping a [`TableWrite`] deletes what it wrote.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray, new_null_array};
use arrow::datatypes::{DataType, Schema, SchemaRef};
use boathouse_catalog::definitions::{ColumnDefinition, TableDefinition};
use boathouse_catalog::types::ColumnType;
use boathouse_sql::parse_expression;
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::PhysicalExpr;
use futures::StreamExt;

use super::planning::physical_expression;
use crate::error::{SqlError, SqlState};
use crate::lake::{AppendWriter, FileNames, WriterOptions};
use crate::query;
use crate::query::failure::from_datafusion;
use crate::session::Session;

/// One CHECK, ready to be evaluated.
pub(crate) struct Check {
    name: String,
    expression: Arc<dyn PhysicalExpr>,
}

/// The in-memory schema of a table's rows.
pub(crate) fn schema_of(definition: &TableDefinition) -> SchemaRef {
    Arc::new(Schema::new(
        definition
            .columns
            .iter()
            .map(|column| column.column_type.to_field(&column.name, true))
            .collect::<Vec<_>>(),
    ))
}

/// Plans a table's CHECK constraints; an error names what is wrong in them.
pub(super) fn plan_constraints(
    session: &Session,
    definition: &TableDefinition,
) -> Result<Vec<Check>, SqlError> {
    let schema = DFSchema::try_from(schema_of(definition))
        .map_err(|error| SqlError::internal("could not read a table's columns").caused_by(error))?;
    let context = session.state.query_context(&session.engine);
    definition
        .checks
        .iter()
        .map(|check| {
            let parsed = parse_expression(&check.expression)?;
            let planned = query::plan_expression(&context, &parsed, &schema, None)?;
            let expression = physical_expression(&context, &planned, &schema)?;
            let found = expression.data_type(schema.as_arrow()).ok();
            if found != Some(DataType::Boolean) {
                return Err(SqlError::new(
                    SqlState::DATATYPE_MISMATCH,
                    "argument of CHECK must be type boolean",
                ));
            }
            Ok(Check {
                name: check.name.clone(),
                expression,
            })
        })
        .collect()
}

/// Plans every default; an error names the column.
pub(super) fn plan_defaults(
    session: &Session,
    definition: &TableDefinition,
) -> Result<(), SqlError> {
    for column in &definition.columns {
        if column.default.is_some() {
            default_of(session, column)?;
        }
    }
    Ok(())
}

/// The default of a column as an expression over no columns, cast to the column's type.
fn default_of(
    session: &Session,
    column: &ColumnDefinition,
) -> Result<Option<Arc<dyn PhysicalExpr>>, SqlError> {
    let Some(text) = &column.default else {
        return Ok(None);
    };
    let empty = DFSchema::empty();
    let context = session.state.query_context(&session.engine);
    let parsed = parse_expression(text)?;
    let planned = query::plan_expression(&context, &parsed, &empty, Some(&column.column_type))?;
    physical_expression(&context, &planned, &empty).map(Some)
}

/// Where one column of the table comes from.
enum Source {
    Given(usize),
    Default(Arc<dyn PhysicalExpr>),
    Null,
}

/// How rows become a table's: all its columns, no constraint broken.
pub(crate) struct Completion {
    pub(super) definition: Arc<TableDefinition>,
    schema: SchemaRef,
    sources: Vec<Source>,
    checks: Vec<Check>,
}

/// A write into one table.
pub(crate) struct TableWrite {
    pub(super) schema_name: String,
    completion: Completion,
    writer: AppendWriter,
    rows: u64,
    /// The rows as they are written, when somebody wants them back.
    kept: Option<Vec<RecordBatch>>,
    /// Marks for the files.
    tags: BTreeMap<String, String>,
}

impl TableWrite {
    /// A write of batches that have `given` columns, in that order.
    pub async fn begin(
        session: &mut Session,
        schema_name: &str,
        definition: Arc<TableDefinition>,
        given: &[ColumnDefinition],
    ) -> Result<Self, SqlError> {
        session.check_writable("INSERT")?;
        let completion = Completion::plan(session, definition, given)?;
        let table = session.engine.lake.table(&completion.definition).await?;
        let definition = &completion.definition;
        let writer = table.writer(
            Arc::clone(&completion.schema),
            (&definition.partition_by, &FileNames::of(definition)),
            WriterOptions::default(),
        )?;
        Ok(Self {
            schema_name: schema_name.to_owned(),
            writer,
            completion,
            rows: 0,
            kept: None,
            tags: BTreeMap::new(),
        })
    }

    /// Takes rows. The first row that breaks a constraint is the error, and nothing is kept.
    pub async fn write(&mut self, batch: &RecordBatch) -> Result<(), SqlError> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let complete = self.checked(batch)?;
        self.rows += complete.num_rows() as u64;
        self.writer.write(&complete).await?;
        if let Some(kept) = &mut self.kept {
            kept.push(complete);
        }
        Ok(())
    }

    /// Has the files carry marks: those of the files the rows come from.
    pub fn set_tags(&mut self, tags: BTreeMap<String, String>) {
        self.tags = tags;
    }

    /// Has the rows kept in memory, for RETURNING.
    pub fn keep_rows(&mut self) {
        self.kept.get_or_insert_default();
    }

    /// The rows written since [`TableWrite::keep_rows`].
    pub fn take_kept(&mut self) -> Vec<RecordBatch> {
        self.kept.take().unwrap_or_default()
    }

    /// See [`Completion::checked`].
    pub fn checked(&self, batch: &RecordBatch) -> Result<RecordBatch, SqlError> {
        self.completion.checked(batch)
    }

    /// Completes the files and hands them to the transaction. Gives the number of rows.
    pub async fn finish(
        self,
        session: &mut Session,
        operation: &'static str,
    ) -> Result<u64, SqlError> {
        let rows = self.rows;
        let mut files = self.writer.finish().await?;
        for file in &mut files {
            for (name, value) in &self.tags {
                file.set_tag(name, value);
            }
        }
        if files.is_empty() {
            return Ok(rows);
        }
        let definition = &self.completion.definition;
        session
            .work()?
            .rows_written(&self.schema_name, definition, files, operation)?;
        Ok(rows)
    }
}

impl Completion {
    /// Of batches that have `given` columns, in that order; the others get their defaults.
    pub fn plan(
        session: &Session,
        definition: Arc<TableDefinition>,
        given: &[ColumnDefinition],
    ) -> Result<Self, SqlError> {
        let mut sources = Vec::with_capacity(definition.columns.len());
        for column in &definition.columns {
            let at = given.iter().position(|one| one.name == column.name);
            sources.push(match (at, default_of(session, column)?) {
                (Some(index), _) => Source::Given(index),
                (None, Some(default)) => Source::Default(default),
                (None, None) => Source::Null,
            });
        }
        Ok(Self {
            schema: schema_of(&definition),
            sources,
            checks: plan_constraints(session, &definition)?,
            definition,
        })
    }

    /// The rows in all columns of the table, when no constraint is broken.
    pub fn checked(&self, batch: &RecordBatch) -> Result<RecordBatch, SqlError> {
        let complete = self.complete(batch)?;
        self.check(&complete)?;
        Ok(complete)
    }

    fn complete(&self, batch: &RecordBatch) -> Result<RecordBatch, SqlError> {
        let rows = batch.num_rows();
        let columns = self
            .sources
            .iter()
            .zip(self.schema.fields())
            .map(|(source, field)| {
                let array = match source {
                    Source::Given(index) => Arc::clone(batch.column(*index)),
                    Source::Null => new_null_array(field.data_type(), rows),
                    Source::Default(expression) => evaluate(expression, batch)?,
                };
                if array.data_type() == field.data_type() {
                    return Ok(array);
                }
                arrow::compute::cast(&array, field.data_type()).map_err(|error| {
                    SqlError::new(
                        SqlState::DATATYPE_MISMATCH,
                        format!("column \"{}\" cannot take this value", field.name()),
                    )
                    .caused_by(error)
                })
            })
            .collect::<Result<Vec<ArrayRef>, SqlError>>()?;
        let columns = self
            .definition
            .columns
            .iter()
            .zip(columns)
            .map(|(column, array)| without_excess_spaces(&column.column_type, array))
            .collect();
        RecordBatch::try_new(Arc::clone(&self.schema), columns)
            .map_err(|error| SqlError::internal("could not complete rows").caused_by(error))
    }

    fn check(&self, batch: &RecordBatch) -> Result<(), SqlError> {
        for (index, column) in self.definition.columns.iter().enumerate() {
            let array = batch.column(index);
            if !column.nullable && array.null_count() > 0 {
                let row = (0..array.len())
                    .find(|row| array.is_null(*row))
                    .unwrap_or(0);
                return Err(SqlError::new(
                    SqlState::NOT_NULL_VIOLATION,
                    format!(
                        "null value in column \"{}\" of relation \"{}\" violates not-null constraint",
                        column.name, self.definition.name
                    ),
                )
                .detail(failing_row(batch, row)));
            }
            check_length(&column.column_type, array)?;
        }
        for check in &self.checks {
            let holds = evaluate(&check.expression, batch)?;
            let holds = holds.as_boolean();
            let broken = (0..holds.len()).find(|row| holds.is_valid(*row) && !holds.value(*row));
            if let Some(row) = broken {
                return Err(SqlError::new(
                    SqlState::CHECK_VIOLATION,
                    format!(
                        "new row for relation \"{}\" violates check constraint \"{}\"",
                        self.definition.name, check.name
                    ),
                )
                .detail(failing_row(batch, row)));
            }
        }
        Ok(())
    }
}

/// Writes a stream to its end and hands the rows to the transaction.
pub(super) async fn write_stream(
    session: &mut Session,
    mut table_write: TableWrite,
    mut stream: SendableRecordBatchStream,
    operation: &'static str,
) -> Result<u64, SqlError> {
    while let Some(batch) = stream.next().await {
        let batch = batch.map_err(from_datafusion)?;
        table_write.write(&batch).await?;
    }
    table_write.finish(session, operation).await
}

fn evaluate(expression: &Arc<dyn PhysicalExpr>, batch: &RecordBatch) -> Result<ArrayRef, SqlError> {
    expression
        .evaluate(batch)
        .and_then(|value| match value {
            ColumnarValue::Array(array) => Ok(array),
            ColumnarValue::Scalar(scalar) => scalar.to_array_of_size(batch.num_rows()),
        })
        .map_err(from_datafusion)
}

/// `varchar(n)` and `char(n)`: spaces beyond the length are cut, as the SQL standard has it.
fn without_excess_spaces(column_type: &ColumnType, array: ArrayRef) -> ArrayRef {
    let limit = match column_type {
        ColumnType::Varchar(Some(limit)) | ColumnType::Char(limit) => *limit as usize,
        _ => return array,
    };
    // Where the length ends, in a text of which nothing but spaces follows.
    let cut = |text: &str| {
        let (end, _) = text.char_indices().nth(limit)?;
        text[end..].bytes().all(|byte| byte == b' ').then_some(end)
    };
    let Some(texts) = array.as_string_opt::<i32>() else {
        return array;
    };
    if !texts.iter().flatten().any(|text| cut(text).is_some()) {
        return array;
    }
    let texts: StringArray = texts
        .iter()
        .map(|text| text.map(|text| cut(text).map_or(text, |end| &text[..end])))
        .collect();
    Arc::new(texts)
}

/// `varchar(n)` and `char(n)`: what is longer is an error. Lengths are in characters.
fn check_length(column_type: &ColumnType, array: &ArrayRef) -> Result<(), SqlError> {
    let (limit, name) = match column_type {
        ColumnType::Varchar(Some(limit)) => (*limit, "character varying"),
        ColumnType::Char(limit) => (*limit, "character"),
        _ => return Ok(()),
    };
    let too_long = array
        .as_string_opt::<i32>()
        .into_iter()
        .flat_map(|texts| texts.iter().flatten())
        .any(|text| text.len() > limit as usize && text.chars().count() > limit as usize);
    if too_long {
        return Err(SqlError::new(
            SqlState("22001"),
            format!("value too long for type {name}({limit})"),
        ));
    }
    Ok(())
}

/// PostgreSQL's `Failing row contains (...)`.
fn failing_row(batch: &RecordBatch, row: usize) -> String {
    let values: Vec<String> = batch
        .columns()
        .iter()
        .map(|column| match ScalarValue::try_from_array(column, row) {
            Ok(value) if value.is_null() => "null".to_owned(),
            Ok(value) => value.to_string(),
            Err(_) => "?".to_owned(),
        })
        .collect();
    format!("Failing row contains ({}).", values.join(", "))
}
