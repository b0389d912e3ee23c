//! Small results made in memory: `SHOW`, `EXPLAIN`, checks and summaries.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{Schema, SchemaRef};
use boathouse_catalog::types::ColumnType;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;

use crate::error::SqlError;
use crate::outcome::{Outcome, RowsTag};

/// One column of a small result.
pub(super) enum Column {
    Text(Vec<Option<String>>),
    Integer(Vec<Option<i64>>),
}

/// A schema of named columns.
pub(super) fn fields(columns: &[(&str, ColumnType)]) -> SchemaRef {
    Arc::new(Schema::new(
        columns
            .iter()
            .map(|(name, column_type)| column_type.to_field(name, true))
            .collect::<Vec<_>>(),
    ))
}

/// A schema of text columns.
pub(super) fn text_fields(names: &[&str]) -> SchemaRef {
    fields(
        &names
            .iter()
            .map(|name| (*name, ColumnType::Text))
            .collect::<Vec<_>>(),
    )
}

/// The outcome that gives these columns as rows.
pub(super) fn outcome(
    fields: SchemaRef,
    columns: Vec<Column>,
    tag: RowsTag,
) -> Result<Outcome, SqlError> {
    let arrays = columns
        .into_iter()
        .map(|column| -> ArrayRef {
            match column {
                Column::Text(values) => Arc::new(StringArray::from(values)),
                Column::Integer(values) => Arc::new(Int64Array::from(values)),
            }
        })
        .collect();
    let batch = RecordBatch::try_new(Arc::clone(&fields), arrays)
        .map_err(|error| SqlError::internal("could not build a result").caused_by(error))?;
    Ok(of_batches(fields, vec![batch], tag))
}

/// The outcome that gives finished batches.
pub(super) fn of_batches(fields: SchemaRef, batches: Vec<RecordBatch>, tag: RowsTag) -> Outcome {
    let stream = RecordBatchStreamAdapter::new(
        Arc::clone(&fields),
        futures::stream::iter(batches.into_iter().map(Ok)),
    );
    Outcome::Rows {
        fields,
        stream: Box::pin(stream),
        tag,
    }
}
