//! File formats: what is in a file on the local disk, as Arrow.
//!
//! A format is configured once and then used for many files. [`FileFormat::infer`] says which
//! columns a file has; [`FileFormat::read`] turns its rows into batches of the columns asked for,
//! matched by name. Both block and are called on a thread where blocking is allowed.
//!
//! Column names come from the header, made unique and, unless `column_names = 'original'`, in
//! PostgreSQL's easy form (`Unit Price (IDR)` is `unit_price_idr`).

pub mod csv;
pub mod excel;
pub mod json;
pub mod parquet;

mod names;
mod registry;

use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use crate::error::{ConnectorError, FormatError, sqlstate};
use crate::file::LocalFile;
use crate::options::Options;

pub use names::{NameStyle, plain_name, unique_names};
pub use registry::format;

/// A kind of file. Listed once, in [`format()`].
pub trait Format: Send + Sync {
    /// The name written after `FORMAT`.
    fn name(&self) -> &'static str;
    /// Takes its options out of `options`; the caller rejects whatever is left over. No I/O.
    fn configure(&self, options: &mut Options) -> Result<Arc<dyn FileFormat>, ConnectorError>;
}

/// A format with its options.
pub trait FileFormat: Send + Sync {
    /// The columns of `file`, judged by a sample: all nullable, names unique and none of
    /// [`METADATA_COLUMNS`].
    fn infer(&self, file: &LocalFile, limits: &InferenceLimits) -> Result<SchemaRef, FormatError>;

    /// Hands every row of `file` to `sink` in the order of the file, in bounded memory whatever
    /// the size of the file. Uses up to three threads besides the calling one. When `sink` breaks,
    /// reading stops and the statistics so far are returned. After an error the batches already
    /// handed over are not to be used. A file that somebody wrote to meanwhile is a retryable
    /// error: what was read may be half of the old and half of the new one.
    fn read(
        &self,
        file: &LocalFile,
        schema: &DecodeSchema,
        sink: &mut dyn FnMut(DecodedBatch) -> ControlFlow<()>,
    ) -> Result<FileStatistics, FormatError> {
        let mut stopped = false;
        let outcome = self.decode(file, schema, &mut |batch| {
            let flow = sink(batch);
            stopped = flow.is_break();
            flow
        });
        if !stopped && file.has_changed() {
            return Err(
                FormatError::new(sqlstate::IO_ERROR, "the file changed while it was read")
                    .file(&file.name)
                    .hint("it is read again by the next run; have it written under another name and renamed when it is complete")
                    .retryable(),
            );
        }
        outcome
    }

    /// What [`FileFormat::read`] does with a file that does not change.
    fn decode(
        &self,
        file: &LocalFile,
        schema: &DecodeSchema,
        sink: &mut dyn FnMut(DecodedBatch) -> ControlFlow<()>,
    ) -> Result<FileStatistics, FormatError>;
}

/// Cells in memory at once for one batch, whatever its shape: each takes eight bytes or more even
/// when it is empty.
const CELLS_MAX: usize = 4 << 20;

/// Rows a batch of `columns` columns may have.
fn rows_max(columns: usize) -> usize {
    (CELLS_MAX / columns.max(1)).max(1)
}

/// Default of the option `max_columns`: a delimiter taken for another, or data where keys belong,
/// makes columns without end.
const COLUMNS_MAX: usize = 2_000;

/// How much of a file [`FileFormat::infer`] may look at.
#[derive(Debug, Clone)]
pub struct InferenceLimits {
    pub rows: usize,
    pub bytes: usize,
}

impl Default for InferenceLimits {
    fn default() -> Self {
        Self {
            rows: 20_000,
            bytes: 4 << 20,
        }
    }
}

/// `_rescued` holds, as a JSON object of name to raw text, what did not fit: cells that are not of
/// their column's type, and cells of columns nobody asked for.
pub const RESCUED: &str = "_rescued";
/// Name of the file.
pub const FILE: &str = "_file";
/// Name of the sheet, or of the member of a zip archive; null where there is neither.
pub const SHEET: &str = "_sheet";
/// Line or row from 1, as a person opening the file would find it.
pub const ROW: &str = "_row";
pub const METADATA_COLUMNS: [&str; 4] = [RESCUED, FILE, SHEET, ROW];

/// The columns to fill. Those the file lacks are null; the file's other columns go to
/// `_rescued` when `keep_unknown`, else they are not read.
#[derive(Debug, Clone)]
pub struct DecodeSchema {
    pub columns: SchemaRef,
    pub keep_unknown: bool,
    /// The types were judged by a sample, not declared by somebody. What the judgement would not
    /// have taken for a number, such as `007`, then does not fit a column of numbers, wherever it
    /// comes: it is an identifier, and its zeros must not be lost.
    pub inferred: bool,
}

impl DecodeSchema {
    /// Columns as they were inferred.
    pub fn new(columns: SchemaRef) -> Self {
        Self {
            columns,
            keep_unknown: true,
            inferred: true,
        }
    }

    /// The schema of every [`DecodedBatch`]: the columns, then [`METADATA_COLUMNS`].
    pub fn output(&self) -> SchemaRef {
        let mut fields: Vec<Arc<Field>> = self.columns.fields().iter().cloned().collect();
        fields.push(Arc::new(Field::new(RESCUED, DataType::Utf8, true)));
        fields.push(Arc::new(Field::new(FILE, DataType::Utf8, false)));
        fields.push(Arc::new(Field::new(SHEET, DataType::Utf8, true)));
        fields.push(Arc::new(Field::new(ROW, DataType::Int64, false)));
        Arc::new(Schema::new(fields))
    }
}

/// Some rows of one file.
#[derive(Debug, Clone)]
pub struct DecodedBatch {
    /// See [`DecodeSchema::output`]. May have no rows.
    pub batch: RecordBatch,
    /// Records of this part of the file that are not in `batch`.
    pub rejected: Vec<RejectedRow>,
}

/// A record that could not be split into cells.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct RejectedRow {
    pub sheet: Option<String>,
    pub row: i64,
    pub column: Option<String>,
    pub reason: String,
    pub sqlstate: std::borrow::Cow<'static, str>,
    /// A JSON object of the raw cells, or the raw line where there are no cells.
    pub raw: String,
}

/// What reading a file came to.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct FileStatistics {
    /// Rows handed over in batches.
    pub rows: u64,
    pub rows_rejected: u64,
    /// Rows handed over with something in `_rescued`.
    pub rows_rescued: u64,
    /// Rows left out by a rule: footers.
    pub rows_skipped: u64,
    /// Bytes of the file read.
    pub bytes: u64,
    /// Sheets read; empty in formats that have none.
    pub sheets: Vec<String>,
}
