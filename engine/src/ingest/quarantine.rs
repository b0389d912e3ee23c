//! Rows set aside: written beside the lake's tables as Parquet, listed, read back for a replay.
//!
//! A file of rejected rows lies under `_boathouse/quarantine/<pipeline id>/`. Like a data file it means
//! nothing by itself: the catalog names it in the record of the sequence whose commit it belongs to.
//! Each row keeps its raw content (a JSON object of the source's cells, or the raw line of a record that
//! could not be split), the reason, and where it was.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, Int32Array, Int64Array, Int64Builder, RecordBatch,
    StringArray, StringBuilder, TimestampMicrosecondArray,
};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Field, Float32Type, Float64Type, Int32Type, Int64Type, Schema, SchemaRef, TimeUnit,
    TimestampMicrosecondType, UInt32Type,
};
use boathouse_catalog::definitions::ObjectId;
use boathouse_catalog::state::{QuarantineFile, ReplayMark, ReplayRecord, RunId};
use boathouse_connectors::RejectedRow;
use boathouse_connectors::format::{FILE, METADATA_COLUMNS, RESCUED, ROW, SHEET};
use boathouse_connectors::message::MessageBlock;
use chrono::{DateTime, Utc};
use object_store::buffered::BufWriter;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::AsyncArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::engine::Engine;
use crate::error::{SqlError, SqlState};
use crate::lake::{Lake, LakeError, PRIVATE_FOLDER};

/// Rows encoded at once, and bytes of raw content at which fewer are.
const BATCH_ROWS: usize = 4096;
const BATCH_BYTES: usize = 8 << 20;

/// Numbers the rows quarantined with one sequence; shared by all writers of a batch.
#[derive(Debug, Clone, Default)]
pub(super) struct RowIds(Arc<AtomicI64>);

impl RowIds {
    /// Takes this many numbers; gives the first.
    fn take(&self, count: usize) -> i64 {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        self.0.fetch_add(count, Ordering::Relaxed)
    }
}

/// A column behind those of the source when it says which rows go.
pub(super) const GOES: &str = "goes";

/// The last column of a batch when it says which message each row is of.
pub(super) const MESSAGE_NUMBER: &str = "message number";

/// The message a row is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RejectedMessage {
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
    /// Microseconds since 1970.
    pub timestamp: Option<i64>,
    pub key: Option<Vec<u8>>,
    pub payload: Option<Vec<u8>>,
    /// A JSON object.
    pub headers: Option<String>,
}

/// The messages that rows are of, by their numbers.
#[derive(Clone)]
pub(super) struct Messages {
    pub block: Arc<MessageBlock>,
    /// Topic and number of each of the block's partitions.
    pub partitions: Arc<Vec<(Arc<str>, i32)>>,
}

impl Messages {
    pub fn get(&self, number: usize) -> Option<RejectedMessage> {
        let message = self.block.get(number)?;
        let (topic, partition) = self.partitions.get(message.partition as usize)?;
        Some(RejectedMessage {
            topic: topic.to_string(),
            partition: *partition,
            offset: message.offset,
            timestamp: (message.timestamp >= 0).then(|| message.timestamp.saturating_mul(1000)),
            key: message.key.map(<[u8]>::to_vec),
            payload: message.payload.map(<[u8]>::to_vec),
            headers: message.headers.map(str::to_owned),
        })
    }
}

/// A row about to be set aside.
#[derive(Debug, Clone, Default)]
pub(super) struct Rejected {
    pub file: Option<String>,
    pub sheet: Option<String>,
    pub row: Option<i64>,
    pub column: Option<String>,
    pub rule: Option<String>,
    pub sqlstate: String,
    pub reason: String,
    pub raw: String,
    /// The number of the message it is of.
    pub message_number: Option<usize>,
    pub message: Option<RejectedMessage>,
}

/// A row that was set aside, as `system.quarantine` shows it.
#[derive(Debug, Clone)]
pub struct QuarantinedRow {
    pub pipeline: ObjectId,
    pub sequence: i64,
    /// With `sequence` the row's identity.
    pub row_id: i64,
    pub run: i64,
    pub quarantined_at: DateTime<Utc>,
    pub file: Option<String>,
    pub sheet: Option<String>,
    pub row: Option<i64>,
    pub column: Option<String>,
    /// The expectation it broke.
    pub rule: Option<String>,
    pub sqlstate: String,
    pub reason: String,
    pub raw: String,
    /// Where it is not from a file.
    pub message: Option<RejectedMessage>,
    /// When a correction of it was loaded.
    pub replayed_at: Option<DateTime<Utc>>,
    /// When its file was loaded anew, and this row judged again with it.
    pub superseded_at: Option<DateTime<Utc>>,
}

impl QuarantinedRow {
    /// Whether it can still be replayed.
    pub fn is_waiting(&self) -> bool {
        self.replayed_at.is_none() && self.superseded_at.is_none()
    }
}

impl Rejected {
    pub fn of_record(file: &str, rejected: RejectedRow) -> Self {
        Self {
            file: Some(file.to_owned()),
            sheet: rejected.sheet,
            row: Some(rejected.row),
            column: rejected.column,
            rule: None,
            sqlstate: rejected.sqlstate.into_owned(),
            reason: rejected.reason,
            raw: rejected.raw,
            ..Self::default()
        }
    }

    /// A message that could not be decoded.
    pub fn of_message(number: u32, sqlstate: &str, reason: String) -> Self {
        Self {
            sqlstate: sqlstate.to_owned(),
            reason,
            message_number: usize::try_from(number).ok(),
            ..Self::default()
        }
    }

    /// The file it is in, or the partition.
    pub fn place(&self) -> Option<String> {
        let partition =
            |message: &RejectedMessage| format!("{}/{}", message.topic, message.partition);
        self.file
            .clone()
            .or_else(|| self.message.as_ref().map(partition))
    }

    /// Its row, or its offset.
    pub fn number(&self) -> Option<i64> {
        self.row
            .or(self.message.as_ref().map(|message| message.offset))
    }

    /// A decoded row with the place it came from.
    pub fn of_row(source: &RecordBatch, row: usize, sqlstate: SqlState, reason: String) -> Self {
        if let Some(number) = message_number(source, row) {
            return Self::of_message(number, sqlstate.0, reason);
        }
        let text = |name: &str| {
            let column = source.column_by_name(name)?.as_string_opt::<i32>()?;
            column.is_valid(row).then(|| column.value(row).to_owned())
        };
        let number = source
            .column_by_name(ROW)
            .and_then(|column| column.as_primitive_opt::<Int64Type>())
            .filter(|column| column.is_valid(row))
            .map(|column| column.value(row));
        Self {
            file: text(FILE),
            sheet: text(SHEET),
            row: number,
            column: None,
            rule: None,
            sqlstate: sqlstate.0.to_owned(),
            reason,
            raw: raw_of(source, row),
            ..Self::default()
        }
    }
}

fn message_number(source: &RecordBatch, row: usize) -> Option<u32> {
    let last = source.num_columns().checked_sub(1)?;
    if source.schema().field(last).name() != MESSAGE_NUMBER {
        return None;
    }
    let numbers = source.column(last).as_primitive_opt::<UInt32Type>()?;
    Some(numbers.value(row))
}

/// The source's cells of a row as a JSON object. A cell that did not fit its column is in it as it
/// was written.
fn raw_of(source: &RecordBatch, row: usize) -> String {
    let slice = exact(&source.slice(row, 1));
    let mut encoded = Vec::new();
    let mut writer = arrow_json::LineDelimitedWriter::new(&mut encoded);
    let written = writer.write(&slice).and_then(|()| writer.finish());
    drop(writer);
    let mut object: Map<String, Value> = match written {
        Ok(()) => serde_json::from_slice(&encoded).unwrap_or_default(),
        Err(_) => Map::new(),
    };
    let rescued = object.remove(RESCUED);
    for name in METADATA_COLUMNS {
        object.remove(name);
    }
    let rescued: RawCells = match &rescued {
        Some(Value::String(rescued)) => serde_json::from_str(rescued).unwrap_or_default(),
        _ => RawCells::new(),
    };
    object.retain(|name, _| !rescued.contains_key(name));
    let whole = |name: &str, value: &str| format!("{}:{value}", Value::from(name));
    let cells: Vec<String> = object
        .iter()
        .map(|(name, value)| whole(name, &value.to_string()))
        .chain(rescued.iter().map(|(name, value)| whole(name, value.get())))
        .collect();
    format!("{{{}}}", cells.join(","))
}

/// Cells with their values as they were written.
pub(super) type RawCells = BTreeMap<String, Box<RawValue>>;

/// The cells that JSON has no exact value for, as the text that is read back as the same value.
fn exact(cells: &RecordBatch) -> RecordBatch {
    let text = |column: &ArrayRef| -> Option<ArrayRef> {
        let text = match column.data_type() {
            DataType::Decimal128(..) | DataType::Decimal256(..) => {
                return cast(column, &DataType::Utf8).ok();
            }
            DataType::Binary => column
                .as_binary::<i32>()
                .iter()
                .next()
                .flatten()
                .map(hexadecimal),
            DataType::Float64 => {
                let value = column.as_primitive::<Float64Type>().iter().next().flatten();
                Some(value.filter(|value| !value.is_finite())?.to_string())
            }
            DataType::Float32 => {
                let value = column.as_primitive::<Float32Type>().iter().next().flatten();
                Some(value.filter(|value| !value.is_finite())?.to_string())
            }
            _ => return None,
        };
        Some(Arc::new(StringArray::from(vec![text])))
    };
    let mut fields = Vec::with_capacity(cells.num_columns());
    let mut columns = Vec::with_capacity(cells.num_columns());
    for (field, column) in cells.schema().fields().iter().zip(cells.columns()) {
        let column = text(column).unwrap_or_else(|| Arc::clone(column));
        fields.push(Field::new(field.name(), column.data_type().clone(), true));
        columns.push(column);
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap_or_else(|_| cells.clone())
}

fn file_schema() -> SchemaRef {
    let text = |name: &str, nullable| Field::new(name, DataType::Utf8, nullable);
    Arc::new(Schema::new(vec![
        Field::new("row_id", DataType::Int64, false),
        Field::new("run", DataType::Int64, false),
        Field::new(
            "quarantined_at",
            DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            false,
        ),
        text("file", true),
        text("sheet", true),
        Field::new("row", DataType::Int64, true),
        text("column", true),
        text("rule", true),
        text("sqlstate", false),
        text("reason", false),
        text("raw", false),
        text("topic", true),
        Field::new("partition", DataType::Int32, true),
        Field::new("offset", DataType::Int64, true),
        Field::new(
            "timestamp",
            DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            true,
        ),
        Field::new("key", DataType::Binary, true),
        Field::new("payload", DataType::Binary, true),
        text("headers", true),
    ]))
}

/// Writes the rejected rows of one source file.
pub(super) struct QuarantineWriter {
    store: Arc<dyn ObjectStore>,
    path: Path,
    writer: Option<AsyncArrowWriter<BufWriter>>,
    waiting: Vec<Rejected>,
    waiting_bytes: usize,
    row_ids: RowIds,
    rows: i64,
    run: RunId,
    messages: Option<Messages>,
    only_tells: bool,
}

impl QuarantineWriter {
    /// `row_ids` numbers the rows of the coming sequence.
    pub fn new(lake: &Lake, pipeline: ObjectId, run: RunId, row_ids: RowIds) -> Self {
        let path = Path::from(format!(
            "{PRIVATE_FOLDER}/quarantine/{pipeline}/{}.parquet",
            uuid::Uuid::now_v7()
        ));
        Self {
            store: lake.store(),
            path,
            writer: None,
            waiting: Vec::new(),
            waiting_bytes: 0,
            row_ids,
            rows: 0,
            run,
            messages: None,
            only_tells: false,
        }
    }

    /// Tells what would be set aside, and writes none of it.
    pub fn only_telling(mut self) -> Self {
        self.only_tells = true;
        self
    }

    /// The rows set aside since it was asked last, which are not written then.
    pub fn take_waiting(&mut self) -> Vec<Rejected> {
        self.waiting_bytes = 0;
        std::mem::take(&mut self.waiting)
    }

    /// The rows that come now are of these messages.
    pub fn take_from(&mut self, messages: Messages) {
        self.messages = Some(messages);
    }

    /// The row that was set aside last, of those that are not written yet.
    pub fn newest(&self) -> Option<&Rejected> {
        self.waiting.last()
    }

    /// Completes what is known of a row by the message it is of.
    pub fn locate(&self, row: &mut Rejected) {
        let (Some(messages), Some(number)) = (&self.messages, row.message_number) else {
            return;
        };
        if let Some(message) = messages.get(number) {
            row.raw = match message.payload.as_deref().map(std::str::from_utf8) {
                None => "null".to_owned(),
                Some(Ok(text)) => text.to_owned(),
                Some(Err(_)) => hexadecimal(message.payload.as_deref().unwrap_or_default()),
            };
            row.message = Some(message);
        }
    }

    pub fn rows(&self) -> i64 {
        self.rows + i64::try_from(self.waiting.len()).unwrap_or(i64::MAX)
    }

    pub async fn write(&mut self, mut row: Rejected) -> Result<(), SqlError> {
        self.locate(&mut row);
        let message = row.message.as_ref();
        let payload = message.and_then(|message| message.payload.as_ref());
        self.waiting_bytes += payload.map_or(0, Vec::len);
        self.waiting_bytes += row.raw.len() + row.reason.len();
        self.waiting.push(row);
        let is_full = self.waiting.len() >= BATCH_ROWS || self.waiting_bytes >= BATCH_BYTES;
        if is_full && !self.only_tells {
            self.flush().await
        } else {
            Ok(())
        }
    }

    async fn flush(&mut self) -> Result<(), SqlError> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let rows = std::mem::take(&mut self.waiting);
        self.waiting_bytes = 0;
        let batch = encode(&rows, self.row_ids.take(rows.len()), self.run)?;
        let writer = match &mut self.writer {
            Some(writer) => writer,
            none => {
                let sink = BufWriter::new(Arc::clone(&self.store), self.path.clone());
                let made = AsyncArrowWriter::try_new(sink, file_schema(), None)
                    .map_err(|error| failed("write", &self.path, error))?;
                none.insert(made)
            }
        };
        writer
            .write(&batch)
            .await
            .map_err(|error| failed("write", &self.path, error))?;
        self.rows += i64::try_from(rows.len()).unwrap_or(i64::MAX);
        Ok(())
    }

    /// Completes the file; `None` when no row was rejected.
    pub async fn finish(mut self) -> Result<Option<QuarantineFile>, SqlError> {
        self.flush().await?;
        let Some(writer) = self.writer.take() else {
            return Ok(None);
        };
        writer
            .close()
            .await
            .map_err(|error| failed("write", &self.path, error))?;
        Ok(Some(QuarantineFile {
            path: self.path.to_string(),
            rows: self.rows,
        }))
    }
}

fn encode(rows: &[Rejected], first_row_id: i64, run: RunId) -> Result<RecordBatch, SqlError> {
    let count = rows.len();
    let now = Utc::now().timestamp_micros();
    let optional = |value: fn(&Rejected) -> Option<&str>| -> ArrayRef {
        let mut builder = StringBuilder::new();
        rows.iter()
            .for_each(|row| builder.append_option(value(row)));
        Arc::new(builder.finish())
    };
    let text = |value: fn(&Rejected) -> &str| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(rows.iter().map(value)))
    };
    let mut numbers = Int64Builder::new();
    rows.iter().for_each(|row| numbers.append_option(row.row));
    let ids = (first_row_id..).take(count);
    let messages = || rows.iter().map(|row| row.message.as_ref());
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(ids)),
        Arc::new(Int64Array::from(vec![run.0; count])),
        Arc::new(TimestampMicrosecondArray::from(vec![now; count]).with_timezone("UTC")),
        optional(|row| row.file.as_deref()),
        optional(|row| row.sheet.as_deref()),
        Arc::new(numbers.finish()),
        optional(|row| row.column.as_deref()),
        optional(|row| row.rule.as_deref()),
        text(|row| &row.sqlstate),
        text(|row| &row.reason),
        text(|row| &row.raw),
        optional(|row| Some(row.message.as_ref()?.topic.as_str())),
        Arc::new(
            messages()
                .map(|message| Some(message?.partition))
                .collect::<Int32Array>(),
        ),
        Arc::new(
            messages()
                .map(|message| Some(message?.offset))
                .collect::<Int64Array>(),
        ),
        Arc::new(
            messages()
                .map(|message| message?.timestamp)
                .collect::<TimestampMicrosecondArray>()
                .with_timezone("UTC"),
        ),
        Arc::new(
            messages()
                .map(|message| message?.key.as_deref())
                .collect::<BinaryArray>(),
        ),
        Arc::new(
            messages()
                .map(|message| message?.payload.as_deref())
                .collect::<BinaryArray>(),
        ),
        optional(|row| row.message.as_ref()?.headers.as_deref()),
    ];
    RecordBatch::try_new(file_schema(), columns)
        .map_err(|error| SqlError::internal("could not form quarantined rows").caused_by(error))
}

/// The rows set aside by one pipeline or all, oldest first, replayed and superseded ones included.
pub async fn quarantined_rows(
    engine: &Engine,
    pipeline: Option<ObjectId>,
) -> Result<Vec<QuarantinedRow>, SqlError> {
    let ledger = engine.catalog.quarantine();
    let settled: HashMap<(ObjectId, ReplayMark), ReplayRecord> = ledger
        .replays(pipeline)
        .await?
        .into_iter()
        .map(|record| ((record.pipeline, record.mark), record))
        .collect();
    let mut rows = Vec::new();
    for record in ledger.files(pipeline).await? {
        let path = Path::from(record.file.path.as_str());
        for batch in read_file(&engine.lake, &path).await? {
            append_rows(
                &batch,
                record.pipeline,
                record.sequence,
                &settled,
                &mut rows,
            )
            .ok_or_else(|| failed("read", &path, "it is not a file of rejected rows"))?;
        }
    }
    Ok(rows)
}

/// The rows of a file that was just written, some at a time; each part is made out when it is come to.
pub(super) async fn rejected_in(
    lake: &Lake,
    file: &QuarantineFile,
) -> Result<impl Iterator<Item = Result<Vec<QuarantinedRow>, SqlError>> + Send + use<>, SqlError> {
    let path = Path::from(file.path.as_str());
    let batches = read_file(lake, &path).await?;
    Ok(batches.into_iter().map(move |batch| {
        let mut rows = Vec::with_capacity(batch.num_rows());
        // Nothing is known of them yet but what the file says.
        append_rows(&batch, ObjectId::default(), 0, &HashMap::new(), &mut rows)
            .ok_or_else(|| failed("read", &path, "it is not a file of rejected rows"))?;
        Ok(rows)
    }))
}

async fn read_file(lake: &Lake, path: &Path) -> Result<Vec<RecordBatch>, SqlError> {
    let bytes = match lake.store().get(path).await {
        Ok(found) => found.bytes().await,
        Err(error) => Err(error),
    }
    .map_err(|error| failed("read", path, error))?;
    tokio::task::spawn_blocking(move || {
        ParquetRecordBatchReaderBuilder::try_new(bytes)?
            .build()?
            .collect::<Result<Vec<_>, _>>()
            .map_err(parquet::errors::ParquetError::from)
    })
    .await
    .map_err(|error| failed("read", path, error))?
    .map_err(|error| failed("read", path, error))
}

fn append_rows(
    batch: &RecordBatch,
    pipeline: ObjectId,
    sequence: i64,
    settled: &HashMap<(ObjectId, ReplayMark), ReplayRecord>,
    rows: &mut Vec<QuarantinedRow>,
) -> Option<()> {
    let numbers = |name: &str| batch.column_by_name(name)?.as_primitive_opt::<Int64Type>();
    let texts = |name: &str| batch.column_by_name(name)?.as_string_opt::<i32>();
    let (ids, runs, source_rows) = (numbers("row_id")?, numbers("run")?, numbers("row")?);
    let times = batch
        .column_by_name("quarantined_at")?
        .as_primitive_opt::<TimestampMicrosecondType>()?;
    let (files, sheets, columns) = (texts("file")?, texts("sheet")?, texts("column")?);
    let (rules, states) = (texts("rule")?, texts("sqlstate")?);
    let (reasons, raws) = (texts("reason")?, texts("raw")?);
    let optional =
        |texts: &StringArray, row: usize| texts.is_valid(row).then(|| texts.value(row).to_owned());
    for row in 0..batch.num_rows() {
        let mark = ReplayMark {
            sequence,
            row_id: ids.value(row),
        };
        let settled = settled.get(&(pipeline, mark));
        let at = |superseded: bool| {
            let found = settled.filter(|record| record.superseded == superseded)?;
            Some(found.at)
        };
        rows.push(QuarantinedRow {
            pipeline,
            sequence,
            row_id: mark.row_id,
            run: runs.value(row),
            quarantined_at: DateTime::from_timestamp_micros(times.value(row))?,
            file: optional(files, row),
            sheet: optional(sheets, row),
            row: source_rows.is_valid(row).then(|| source_rows.value(row)),
            column: optional(columns, row),
            rule: optional(rules, row),
            sqlstate: states.value(row).to_owned(),
            reason: reasons.value(row).to_owned(),
            raw: raws.value(row).to_owned(),
            message: message_of_row(batch, row),
            replayed_at: at(false),
            superseded_at: at(true),
        });
    }
    Some(())
}

/// The message of a row. A file written before there were any has no columns for it.
fn message_of_row(batch: &RecordBatch, row: usize) -> Option<RejectedMessage> {
    let texts = |name: &str| batch.column_by_name(name)?.as_string_opt::<i32>();
    let topics = texts("topic").filter(|topics| topics.is_valid(row))?;
    let headers = texts("headers")?;
    let partitions = batch
        .column_by_name("partition")?
        .as_primitive_opt::<Int32Type>()?;
    let offsets = batch
        .column_by_name("offset")?
        .as_primitive_opt::<Int64Type>()?;
    let times = batch
        .column_by_name("timestamp")?
        .as_primitive_opt::<TimestampMicrosecondType>()?;
    let bytes = |name: &str| -> Option<Option<Vec<u8>>> {
        let column = batch.column_by_name(name)?.as_binary_opt::<i32>()?;
        Some(column.is_valid(row).then(|| column.value(row).to_vec()))
    };
    Some(RejectedMessage {
        topic: topics.value(row).to_owned(),
        partition: partitions.value(row),
        offset: offsets.value(row),
        timestamp: times.is_valid(row).then(|| times.value(row)),
        key: bytes("key")?,
        payload: bytes("payload")?,
        headers: headers.is_valid(row).then(|| headers.value(row).to_owned()),
    })
}

/// Bytes as PostgreSQL prints them.
fn hexadecimal(bytes: &[u8]) -> String {
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("\\x{digits}")
}

fn failed(
    action: &'static str,
    path: &Path,
    cause: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> SqlError {
    let action = match action {
        "read" => "read quarantined rows",
        _ => "write quarantined rows",
    };
    LakeError::storage(action, path.to_string(), cause).into()
}
