//! One chunk of whole records to one batch.
//!
//! Records are split first, into a dense table of cell positions; then every column is converted
//! in a loop of its own. Cells that need unescaping are written out once, into an arena beside
//! the chunk.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, RecordBatchOptions, StringArray};
use arrow::datatypes::{DataType, SchemaRef};
use regex::Regex;

use crate::error::{FormatError, sqlstate};
use crate::format::{DecodeSchema, DecodedBatch, RejectedRow};
use crate::value::ValueFormat;
use crate::value::column::{ColumnBuilder, append_column};
use crate::value::rescue::Rescued;

use super::cut::Chunk;
use super::detect::Layout;
use super::scan::{Cell, Dialect, scan, unescape};
use super::source::{self, WrittenIn};

/// How the columns of one text fill the columns asked for. Shared by the workers.
pub struct Decoder {
    dialect: Dialect,
    values: ValueFormat,
    names: Vec<Arc<str>>,
    /// For every column asked for, the column of the text.
    sources: Vec<Option<usize>>,
    /// Columns of the text nobody asked for.
    unknown: Vec<usize>,
    keep_unknown: bool,
    reject_ragged: bool,
    footer: Option<Regex>,
    schema: DecodeSchema,
    output: SchemaRef,
    origin: Origin,
}

/// Where a text comes from.
pub struct Origin {
    pub file: String,
    /// Its name in an archive.
    pub member: Option<String>,
    pub written_in: WrittenIn,
}

/// A decoded chunk and what to add to the statistics.
pub struct Decoded {
    pub batch: DecodedBatch,
    pub rescued: u64,
    pub skipped: u64,
}

/// Where the cells of a chunk are.
struct Table<'a> {
    text: &'a str,
    arena: String,
    cells: Vec<Cell>,
    width: usize,
    lines: Vec<i64>,
    /// Cells beyond the last column: row, cells.
    extra: Vec<(usize, Vec<Cell>)>,
}

impl Decoder {
    pub fn new(
        layout: &Layout,
        values: ValueFormat,
        schema: &DecodeSchema,
        reject_ragged: bool,
        footer: Option<Regex>,
        origin: Origin,
    ) -> Self {
        let names: Vec<Arc<str>> = layout
            .names
            .iter()
            .map(|name| name.as_str().into())
            .collect();
        let position = |wanted: &str| names.iter().position(|name| name.as_ref() == wanted);
        let sources: Vec<_> = schema
            .columns
            .fields()
            .iter()
            .map(|field| position(field.name()))
            .collect();
        let unknown = (0..names.len())
            .filter(|index| !sources.contains(&Some(*index)))
            .collect();
        Self {
            dialect: layout.dialect.clone(),
            values,
            names,
            sources,
            unknown,
            keep_unknown: schema.keep_unknown,
            reject_ragged,
            footer,
            schema: schema.clone(),
            output: schema.output(),
            origin,
        }
    }

    pub fn decode(&self, mut chunk: Chunk) -> Result<Decoded, FormatError> {
        let mut rejected = Vec::new();
        if let Some(reason) = chunk.broken {
            rejected.push(self.rejected(
                &chunk.bytes,
                chunk.line,
                reason,
                sqlstate::BAD_FILE_FORMAT,
            ));
            chunk.bytes.clear();
        }
        if std::str::from_utf8(&chunk.bytes).is_err() {
            self.blank_out_invalid(&mut chunk, &mut rejected);
        }
        let text = std::str::from_utf8(&chunk.bytes).map_err(|error| {
            FormatError::new(sqlstate::INTERNAL_ERROR, "text is not valid").caused_by(error)
        })?;
        // In order, as the scanner met them.
        let bad_lines: Vec<i64> = rejected.iter().map(|row| row.row).collect();
        let mut skipped = 0;
        let table = self.split(text, &chunk, &bad_lines, &mut rejected, &mut skipped);
        self.convert(&table, rejected, skipped)
    }

    fn split<'a>(
        &self,
        text: &'a str,
        chunk: &Chunk,
        bad_lines: &[i64],
        rejected: &mut Vec<RejectedRow>,
        skipped: &mut u64,
    ) -> Table<'a> {
        let width = self.names.len().max(1);
        let mut arena = String::new();
        let mut lines = Vec::with_capacity(text.len() / 64);
        let mut extra = Vec::new();
        let mut cells = Vec::with_capacity(text.len() / 6);
        scan(
            text.as_bytes(),
            &self.dialect,
            chunk.last,
            &mut cells,
            |cells, first, span| {
                let line = chunk.line + span.line as i64;
                if !bad_lines.is_empty() && bad_lines.binary_search(&line).is_ok() {
                    return cells.truncate(first);
                }
                for cell in &mut cells[first..] {
                    if cell.is_escaped() {
                        let start = arena.len();
                        let raw = text
                            .get(cell.start as usize..cell.end() as usize)
                            .unwrap_or("");
                        unescape(raw, &self.dialect, cell.is_quoted(), &mut arena);
                        *cell = Cell::in_arena(start, arena.len());
                    }
                }
                let found = cells.len() - first;
                if found != width {
                    if found > width {
                        let beyond = cells.split_off(first + width);
                        if beyond.iter().any(|cell| !cell.is_empty()) {
                            if self.reject_ragged {
                                cells.truncate(first);
                            } else {
                                extra.push((lines.len(), beyond));
                            }
                        }
                    } else if self.reject_ragged {
                        cells.truncate(first);
                    } else {
                        cells.resize(first + width, Cell::MISSING);
                    }
                    if cells.len() == first {
                        let reason = format!("the record has {found} cells, not {width}");
                        let raw = &text.as_bytes()[span.start..span.end];
                        rejected.push(self.rejected(raw, line, reason, sqlstate::BAD_FILE_FORMAT));
                        return;
                    }
                }
                if let Some(footer) = &self.footer {
                    let first_filled = cells[first..]
                        .iter()
                        .map(|cell| cell_text(text, &arena, *cell).trim())
                        .find(|text| !text.is_empty());
                    if first_filled.is_some_and(|cell| footer.is_match(cell)) {
                        *skipped += 1;
                        return cells.truncate(first);
                    }
                }
                lines.push(line);
            },
        );
        Table {
            text,
            arena,
            cells,
            width,
            lines,
            extra,
        }
    }

    fn convert(
        &self,
        table: &Table<'_>,
        rejected: Vec<RejectedRow>,
        skipped: u64,
    ) -> Result<Decoded, FormatError> {
        let rows = table.lines.len();
        let arrow = |error: arrow::error::ArrowError| {
            FormatError::new(sqlstate::FEATURE_NOT_SUPPORTED, error.to_string())
                .file(&self.origin.file)
        };
        let mut rescued = Rescued::default();
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(self.output.fields().len());
        for (field, source) in self.schema.columns.fields().iter().zip(&self.sources) {
            let Some(source) = *source else {
                columns.push(arrow::array::new_null_array(field.data_type(), rows));
                continue;
            };
            let mut builder =
                ColumnBuilder::new(field, rows, self.schema.inferred).map_err(arrow)?;
            let is_text = field.data_type() == &DataType::Utf8;
            append_column(
                &mut builder,
                &self.values,
                (0..rows).map(|row| self.value(table, row, source, is_text)),
                |row| {
                    let raw = self.value(table, row, source, true).unwrap_or("");
                    rescued.add(row, &self.names[source], raw);
                },
            );
            columns.push(builder.finish().map_err(arrow)?);
        }
        if self.keep_unknown {
            self.rescue_unknown(table, &mut rescued);
        }
        let rescued_rows = rescued.rows();
        columns.push(rescued.finish(rows));
        columns.push(repeated(Some(&self.origin.file), rows));
        columns.push(repeated(self.origin.member.as_deref(), rows));
        columns.push(Arc::new(Int64Array::from(table.lines.clone())));
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(self.output.clone(), columns, &options)
            .map_err(arrow)?;
        Ok(Decoded {
            batch: DecodedBatch { batch, rejected },
            rescued: rescued_rows,
            skipped,
        })
    }

    fn rescue_unknown(&self, table: &Table<'_>, rescued: &mut Rescued) {
        for &column in &self.unknown {
            for row in 0..table.lines.len() {
                if let Some(text) = self.value(table, row, column, true)
                    && !text.is_empty()
                {
                    rescued.add(row, &self.names[column], text);
                }
            }
        }
        for (row, cells) in &table.extra {
            for (index, cell) in cells.iter().enumerate() {
                let text = cell_text(table.text, &table.arena, *cell);
                if !text.is_empty() {
                    let name = format!("column_{}", table.width + index + 1);
                    rescued.add(*row, &name.into(), text);
                }
            }
        }
    }

    /// The text of a cell; `None` when it is null. An empty text in quotes is a text, though no
    /// number or date.
    #[inline]
    fn value<'a>(
        &self,
        table: &'a Table<'_>,
        row: usize,
        column: usize,
        is_text: bool,
    ) -> Option<&'a str> {
        let cell = *table.cells.get(row * table.width + column)?;
        cell_value(&self.values, table.text, &table.arena, cell, is_text)
    }

    /// Records with bytes that are not UTF-8 are rejected; in the chunk their bytes are replaced
    /// one by one, so that all others stay where they are.
    fn blank_out_invalid(&self, chunk: &mut Chunk, rejected: &mut Vec<RejectedRow>) {
        let mut invalid = Vec::new();
        scan(
            &chunk.bytes,
            &self.dialect,
            chunk.last,
            &mut Vec::new(),
            |cells, first, span| {
                cells.truncate(first);
                if std::str::from_utf8(&chunk.bytes[span.start..span.end]).is_err() {
                    invalid.push(span);
                }
            },
        );
        for span in &invalid {
            let raw = &chunk.bytes[span.start..span.end];
            let line = chunk.line + span.line as i64;
            rejected.push(self.rejected(
                raw,
                line,
                source::invalid_text(self.origin.written_in.get()),
                sqlstate::CHARACTER_NOT_IN_REPERTOIRE,
            ));
        }
        // Also where it lies between records: in comments.
        source::blank_invalid(&mut chunk.bytes);
    }

    fn rejected(
        &self,
        raw: &[u8],
        row: i64,
        reason: impl Into<String>,
        sqlstate: &'static str,
    ) -> RejectedRow {
        let raw = source::shown(raw, self.origin.written_in.get());
        RejectedRow {
            sheet: self.origin.member.clone(),
            row,
            column: None,
            reason: reason.into(),
            sqlstate: sqlstate.into(),
            raw,
        }
    }
}

/// The text of a cell; `None` when it is null, see [`Decoder::value`].
#[inline]
pub(super) fn cell_value<'a>(
    values: &ValueFormat,
    text: &'a str,
    arena: &'a str,
    cell: Cell,
    is_text: bool,
) -> Option<&'a str> {
    let mut text = cell_text(text, arena, cell);
    if values.trim || !is_text {
        text = trim(text);
    }
    if text.is_empty() && !(is_text && cell.is_quoted()) {
        return None;
    }
    if !values.null_values.is_empty() && values.is_null_text(text) {
        return None;
    }
    Some(text)
}

#[inline]
fn cell_text<'a>(text: &'a str, arena: &'a str, cell: Cell) -> &'a str {
    let from = if cell.is_in_arena() { arena } else { text };
    from.get(cell.start as usize..cell.end() as usize)
        .unwrap_or("")
}

/// Trims only where there is something to trim, which is rare.
#[inline]
fn trim(text: &str) -> &str {
    match text.as_bytes() {
        [first, .., last]
            if *first > b' ' && *last > b' ' && last.is_ascii() && first.is_ascii() =>
        {
            text
        }
        _ => text.trim(),
    }
}

fn repeated(value: Option<&str>, rows: usize) -> ArrayRef {
    match value {
        Some(value) => Arc::new(StringArray::new_repeated(value, rows)),
        None => arrow::array::new_null_array(&DataType::Utf8, rows),
    }
}
