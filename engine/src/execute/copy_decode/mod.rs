//! The bytes of `COPY ... FROM STDIN` (text, csv, binary) as record batches, and single values of a
//! client's parameters.
//!
//! ```text
//! bytes -> rows of fields (text, csv, binary) -> ColumnBuilder, one per column -> RecordBatch
//! ```
//!
//! Pure: no I/O, no catalog. Every value is read as PostgreSQL reads it, or refused with its message;
//! where it stood (`COPY t, line 3, column qty: "abc"`) is the error's detail. Whether a value may be
//! null, and the checks of a table, are the caller's.

mod binary;
mod column;
mod interval;
mod moment;
mod number;
mod text;

use std::sync::Arc;

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{Schema, SchemaRef};
use boathouse_catalog::types::ColumnType;
use boathouse_sql::statement::{CopyColumns, CopyFormat, CopyOptions};

use crate::error::{SqlError, SqlState};

pub use column::ColumnBuilder;

/// Rows gathered before a caller should take them.
const BATCH_ROWS: usize = 8192;
/// Bytes of rows gathered before a caller should take them, however few rows they are.
const BATCH_BYTES: usize = 8 << 20;
/// A row without an end is not waited for any longer than this: it would be held in memory whole.
const ROW_BYTES_MAX: usize = 256 << 20;

/// Decodes one COPY.
pub struct CopyDecoder {
    format: Format,
    target: Target,
    /// What of the last chunk belongs to a row that is not complete yet.
    pending: Vec<u8>,
    /// How long `pending` has to be before it is looked at again, so that a long row is not read from
    /// its start with every chunk.
    retry_at: usize,
    row_bytes_max: usize,
    /// Of the rows decoded and not taken.
    gathered_bytes: usize,
    ended: bool,
}

enum Format {
    Text(text::TextFormat),
    Binary(binary::BinaryFormat),
}

/// The columns rows are appended to.
struct Target {
    table: String,
    schema: SchemaRef,
    columns: Vec<ColumnBuilder>,
    rows: usize,
    /// Counts from 1; of text and csv.
    line: u64,
    /// `ON_ERROR ignore`: which of the rows are good.
    kept: Option<Vec<bool>>,
    skipped: u64,
}

impl CopyDecoder {
    /// `columns` are those the rows have, in their order; `time_zone` is that of timestamps with
    /// time zone that name none.
    pub fn new(
        table: &str,
        options: &CopyOptions,
        columns: &[(String, ColumnType)],
        time_zone: &str,
    ) -> Result<Self, SqlError> {
        let encoding = options
            .encoding
            .as_deref()
            .unwrap_or("utf8")
            .to_ascii_lowercase();
        if !matches!(
            encoding.replace(['-', '_'], "").as_str(),
            "utf8" | "unicode"
        ) {
            return Err(
                SqlError::unsupported(format!("COPY with encoding \"{encoding}\""))
                    .hint("send the rows in UTF-8"),
            );
        }
        if options.default.is_some() {
            return Err(SqlError::unsupported("COPY option DEFAULT"));
        }
        let format = match options.format {
            CopyFormat::Text | CopyFormat::Csv => {
                Format::Text(text::TextFormat::new(options, columns))
            }
            CopyFormat::Binary => Format::Binary(binary::BinaryFormat::default()),
            CopyFormat::Parquet | CopyFormat::Json => {
                return Err(SqlError::unsupported("this format of COPY FROM STDIN")
                    .hint("send text, csv or binary, or name a file"));
            }
        };
        let fields: Vec<_> = columns
            .iter()
            .map(|(name, column_type)| column_type.to_field(name, true))
            .collect();
        let builders = columns
            .iter()
            .map(|(_, column_type)| ColumnBuilder::new(column_type, time_zone, 0))
            .collect();
        let target = Target {
            table: table.to_owned(),
            schema: Arc::new(Schema::new(fields)),
            columns: builders,
            rows: 0,
            line: 0,
            kept: options.ignore_errors.then(Vec::new),
            skipped: 0,
        };
        Ok(Self {
            format,
            target,
            pending: Vec::new(),
            retry_at: 0,
            row_bytes_max: ROW_BYTES_MAX,
            gathered_bytes: 0,
            ended: false,
        })
    }

    /// The columns of the batches.
    pub fn schema(&self) -> &SchemaRef {
        &self.target.schema
    }

    /// Whether the rows decoded should be taken before more are.
    pub fn is_full(&self) -> bool {
        self.target.rows >= BATCH_ROWS || self.gathered_bytes >= BATCH_BYTES
    }

    /// Rows left out because of `ON_ERROR ignore`.
    pub fn skipped(&self) -> u64 {
        self.target.skipped
    }

    /// Decodes the rows that are complete with this chunk; the rest is kept. What is gathered grows by
    /// as much as the chunk holds, so a caller cuts large ones.
    pub fn push(&mut self, chunk: &[u8]) -> Result<(), SqlError> {
        if self.ended {
            return Ok(());
        }
        if self.pending.is_empty() {
            let used = self.decode(chunk, false)?;
            self.pending.extend_from_slice(&chunk[used..]);
            return self.wait_for_more();
        }
        self.pending.extend_from_slice(chunk);
        if self.pending.len() < self.retry_at {
            return Ok(());
        }
        let mut bytes = std::mem::take(&mut self.pending);
        let used = self.decode(&bytes, false)?;
        bytes.drain(..used);
        self.pending = bytes;
        self.wait_for_more()
    }

    /// Settles when to look at the unfinished row in `pending` again: when it is twice as long.
    fn wait_for_more(&mut self) -> Result<(), SqlError> {
        let length = self.pending.len();
        if length >= self.row_bytes_max {
            self.target.line += 1;
            return Err(SqlError::new(
                SqlState("54000"),
                format!("a row of COPY is longer than {} bytes", self.row_bytes_max),
            )
            .detail(self.target.place())
            .hint("the end of the row or of a quoted field may be missing"));
        }
        self.retry_at = (2 * length).min(self.row_bytes_max);
        Ok(())
    }

    /// Decodes what is left after the last chunk.
    pub fn finish(&mut self) -> Result<(), SqlError> {
        let bytes = std::mem::take(&mut self.pending);
        if !self.ended {
            self.decode(&bytes, true)?;
        }
        Ok(())
    }

    /// The rows decoded since the last call.
    pub fn take_batch(&mut self) -> Result<RecordBatch, SqlError> {
        self.gathered_bytes = 0;
        self.target.take_batch()
    }

    /// Gives how many bytes were used.
    fn decode(&mut self, bytes: &[u8], last: bool) -> Result<usize, SqlError> {
        let Self {
            format,
            target,
            ended,
            gathered_bytes,
            ..
        } = self;
        let used = match format {
            Format::Text(format) => format.decode(bytes, last, target, ended),
            Format::Binary(format) => format.decode(bytes, last, target, ended),
        }?;
        *gathered_bytes += used;
        Ok(used)
    }
}

impl Target {
    fn take_batch(&mut self) -> Result<RecordBatch, SqlError> {
        let arrays = self
            .columns
            .iter_mut()
            .map(ColumnBuilder::finish)
            .collect::<Result<_, _>>()?;
        self.rows = 0;
        let batch = RecordBatch::try_new(self.schema.clone(), arrays)
            .map_err(|error| SqlError::internal("could not build a batch").caused_by(error))?;
        match &mut self.kept {
            Some(kept) => {
                let mask = BooleanArray::from(std::mem::take(kept));
                filter_record_batch(&batch, &mask)
                    .map_err(|error| SqlError::internal("could not filter rows").caused_by(error))
            }
            None => Ok(batch),
        }
    }

    /// Ends a row whose values were appended up to where `result` says it failed.
    fn end_row(&mut self, result: Result<(), SqlError>) -> Result<(), SqlError> {
        self.rows += 1;
        match (&mut self.kept, result) {
            (Some(kept), Ok(())) => kept.push(true),
            (Some(kept), Err(error)) if error.state.0.starts_with("22") => {
                kept.push(false);
                self.skipped += 1;
                for column in &mut self.columns {
                    if column.len() < self.rows {
                        column.append_null();
                    }
                }
            }
            (_, result) => result?,
        }
        Ok(())
    }

    fn column_name(&self, index: usize) -> &str {
        self.schema.field(index).name()
    }

    /// Where the row being read is.
    fn place(&self) -> String {
        format!("COPY {}, line {}", self.table, self.line)
    }
}

fn bad_format(message: impl Into<String>) -> SqlError {
    SqlError::new(SqlState::BAD_COPY_FILE_FORMAT, message)
}

/// Whether an option that names columns names this one.
fn names_column(columns: &CopyColumns, name: &str) -> bool {
    match columns {
        CopyColumns::None => false,
        CopyColumns::All => true,
        CopyColumns::Some(names) => names.iter().any(|one| one == name),
    }
}

#[cfg(test)]
mod tests;
