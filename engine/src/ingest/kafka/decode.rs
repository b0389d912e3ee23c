//! Blocks of messages to rows: decoded on threads of their own, some ahead, in order.

use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use boathouse_connectors::kafka::TopicPartition;
use boathouse_connectors::message::{
    IncludedColumn, KeyFormat, MessageBlock, MessageFormat, RejectedMessage,
};
use boathouse_connectors::{DecodeSchema, FormatError};

use super::super::quarantine::{GOES, MESSAGE_NUMBER};
use super::super::schema::SourceSchema;
use super::plan::TopicPlan;
use crate::error::{SqlError, SqlState};

/// How messages are decoded at the moment.
#[derive(Clone)]
pub(super) struct Decoding {
    pub format: Arc<dyn MessageFormat>,
    pub schema: DecodeSchema,
    pub included: Arc<Vec<IncludedColumn>>,
    pub keys: KeyFormat,
    /// Topic and number of each partition of the reader.
    pub partitions: Arc<Vec<(Arc<str>, i32)>>,
    /// Rows say whether they come or go.
    pub is_keyed: bool,
    /// Rises with the schema.
    pub version: u64,
}

/// A block and what it holds.
pub(super) struct Decoded {
    pub block: Arc<MessageBlock>,
    /// The source's columns, `_rescued`, what is included, and the number of each row's message.
    pub rows: RecordBatch,
    pub rejected: Vec<RejectedMessage>,
    pub has_unknown: bool,
    pub version: u64,
}

impl Decoding {
    pub fn new(plan: &TopicPlan, source: &SourceSchema, partitions: &[TopicPartition]) -> Self {
        Self {
            format: Arc::clone(&plan.format),
            schema: DecodeSchema {
                columns: source.arrow(),
                keep_unknown: true,
                inferred: plan.rows.declared.is_none(),
            },
            included: Arc::new(plan.included.clone()),
            keys: plan.options.keys,
            partitions: Arc::new(
                partitions
                    .iter()
                    .map(|one| (one.topic.clone(), one.partition))
                    .collect(),
            ),
            is_keyed: !plan.rows.key.is_empty(),
            version: 0,
        }
    }

    /// Decodes on a thread where that may take its time.
    pub async fn decode(self, block: Arc<MessageBlock>) -> Result<Decoded, SqlError> {
        tokio::task::spawn_blocking(move || self.decode_now(block))
            .await
            .map_err(|ended| {
                SqlError::internal("decoding messages ended abnormally").caused_by(ended)
            })?
    }

    fn decode_now(self, block: Arc<MessageBlock>) -> Result<Decoded, SqlError> {
        let decoded = self.format.decode(&block, &self.schema).map_err(failure)?;
        let mut columns = decoded.columns;
        for one in self.included.iter() {
            columns.push(one.values(&block, &decoded.messages, &self.partitions, self.keys));
        }
        let count = decoded.messages.len();
        if self.is_keyed {
            let goes = decoded.goes.unwrap_or_else(|| vec![false; count]);
            columns.push(Arc::new(BooleanArray::from(goes)));
        }
        columns.push(Arc::new(UInt32Array::from(decoded.messages)));
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        let rows = RecordBatch::try_new_with_options(self.output(&columns), columns, &options)
            .map_err(|error| {
                SqlError::internal("could not form rows of messages").caused_by(error)
            })?;
        Ok(Decoded {
            block,
            rows,
            rejected: decoded.rejected,
            has_unknown: decoded.has_unknown,
            version: self.version,
        })
    }

    fn output(&self, columns: &[arrow::array::ArrayRef]) -> SchemaRef {
        let named = self
            .schema
            .columns
            .fields()
            .iter()
            .map(|field| field.name().as_str());
        let names = named
            .chain([boathouse_connectors::format::RESCUED])
            .chain(self.included.iter().map(IncludedColumn::name))
            .chain(self.is_keyed.then_some(GOES))
            .chain([MESSAGE_NUMBER]);
        let fields: Vec<Field> = names
            .zip(columns)
            .map(|(name, column)| {
                let nullable = name != MESSAGE_NUMBER || *column.data_type() != DataType::UInt32;
                Field::new(name, column.data_type().clone(), nullable)
            })
            .collect();
        Arc::new(Schema::new(fields))
    }

    /// The columns of a block. What has the name of an included column is none: it is kept beside the others.
    pub async fn infer(self, block: Arc<MessageBlock>) -> Result<Option<SchemaRef>, SqlError> {
        let included = Arc::clone(&self.included);
        let found = tokio::task::spawn_blocking(move || self.format.infer(&block).map_err(failure))
            .await
            .map_err(|ended| {
                SqlError::internal("decoding messages ended abnormally").caused_by(ended)
            })??;
        let Some(found) = found else {
            return Ok(None);
        };
        let is_own = |name: &str| included.iter().all(|one| one.name() != name);
        let own: Vec<Arc<Field>> = found
            .fields()
            .iter()
            .filter(|field| is_own(field.name()))
            .cloned()
            .collect();
        Ok((!own.is_empty()).then(|| Arc::new(Schema::new(own))))
    }
}

/// Which of decoded rows go, where rows say so. The column stands by its place: messages may have one of its name.
pub(super) fn goes_of(decoded: &RecordBatch) -> Option<&BooleanArray> {
    let place = decoded.num_columns().checked_sub(2)?;
    let is_it = decoded.schema_ref().field(place).name() == GOES;
    decoded.column(place).as_boolean_opt().filter(|_| is_it)
}

fn failure(error: FormatError) -> SqlError {
    let failed = SqlError::new(SqlState(error.sqlstate), error.message.clone());
    let failed = match &error.hint {
        Some(hint) => failed.hint(hint.clone()),
        None => failed,
    };
    let failed = match error.retryable {
        true => failed.retryable(),
        false => failed,
    };
    failed.caused_by(error)
}
