//! One sheet: where its table is, and its rows as batches.
//!
//! Rows arrive one by one. Until the header is known they are held back; from then on each goes
//! into the columns at once, so that of a long sheet only one batch is in memory.

use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, RecordBatchOptions, StringArray};
use arrow::datatypes::SchemaRef;

use crate::error::{FormatError, sqlstate};
use crate::format::{DecodeSchema, FileStatistics, rows_max, unique_names};
use crate::value::column::{ColumnBuilder, Native, native_text};
use crate::value::infer::TypeSample;
use crate::value::rescue::Rescued;

use super::cells::{CellValue, Region};
use super::rows::{MergedCells, Row};
use super::settings::{Settings, column_letters};

/// Rows by which the place of the header is judged.
const LAYOUT_ROWS: usize = 50;
const BATCH_ROWS: usize = 8192;
const BATCH_TEXT_BYTES: usize = 8 << 20;

/// What becomes of the rows.
pub enum Purpose<'a> {
    /// Their types are sampled, for this many rows.
    Infer { rows: usize },
    /// They are handed over in batches.
    Read {
        schema: &'a DecodeSchema,
        file: &'a str,
        sink: &'a mut BatchSink<'a>,
    },
}

pub type BatchSink<'a> = dyn FnMut(RecordBatch) -> Result<ControlFlow<()>, FormatError> + 'a;

pub struct Sheet<'a> {
    settings: &'a Settings,
    name: &'a str,
    purpose: Purpose<'a>,
    merged: MergedCells,
    row: Row,
    /// Rows seen before the header is known.
    held: Vec<Row>,
    table: Option<Table>,
    rows_seen: usize,
    text_bytes: u64,
    text_bytes_max: u64,
    pub statistics: FileStatistics,
}

/// The columns, once the header is known.
pub struct Table {
    pub names: Vec<Arc<str>>,
    pub types: Vec<TypeSample>,
    first_column: usize,
    builders: Vec<ColumnBuilder>,
    /// For every column of the table, the builder it fills.
    targets: Vec<Option<usize>>,
    rescued: Rescued,
    numbers: Vec<i64>,
    text_bytes: usize,
}

impl<'a> Sheet<'a> {
    pub fn new(
        settings: &'a Settings,
        name: &'a str,
        merged: Vec<Region>,
        purpose: Purpose<'a>,
        text_bytes_max: u64,
    ) -> Self {
        let first_column = settings.range.map_or(0, |range| range.first_column);
        Self {
            settings,
            name,
            purpose,
            merged: MergedCells::new(merged, first_column),
            row: Row::default(),
            held: Vec::new(),
            table: None,
            rows_seen: 0,
            text_bytes: 0,
            text_bytes_max,
            statistics: FileStatistics::default(),
        }
    }

    pub fn cell(
        &mut self,
        row: u32,
        column: u32,
        value: CellValue<'_>,
    ) -> Result<ControlFlow<()>, FormatError> {
        let mut column = column;
        if let Some(range) = &self.settings.range {
            if row > range.last_row {
                return Ok(ControlFlow::Break(()));
            }
            if row < range.first_row || column < range.first_column || column > range.last_column {
                return Ok(ControlFlow::Continue(()));
            }
            column -= range.first_column;
        }
        if column >= self.settings.columns_max {
            return Err(FormatError::new(
                sqlstate::LIMIT_EXCEEDED,
                format!(
                    "the sheet reaches column {}; more than {} columns are refused",
                    column_letters(column),
                    self.settings.columns_max
                ),
            )
            .sheet(self.name)
            .row(i64::from(row) + 1)
            .column(column_letters(column))
            .hint("clear the stray cell, give a range such as 'A1:T', or raise max_columns"));
        }
        let number = i64::from(row) + 1;
        if number != self.row.number {
            if self.end_row()?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
            self.row.clear(number);
        }
        self.row.set(column as usize, value);
        Ok(ControlFlow::Continue(()))
    }

    /// The sheet ended: whatever is held goes out.
    pub fn finish(mut self) -> Result<(Option<Table>, FileStatistics), FormatError> {
        if self.end_row()?.is_continue() && self.find_header()?.is_continue() {
            // It is the end in any case.
            let _ = self.flush()?;
        }
        Ok((self.table, self.statistics))
    }

    fn end_row(&mut self) -> Result<ControlFlow<()>, FormatError> {
        if self.row.filled() == 0 {
            return Ok(ControlFlow::Continue(()));
        }
        self.text_bytes += self.row.text_bytes() as u64;
        if self.text_bytes > self.text_bytes_max {
            return Err(FormatError::new(
                sqlstate::LIMIT_EXCEEDED,
                format!(
                    "the sheet unfolds to more than {} MiB of text",
                    self.text_bytes_max >> 20
                ),
            )
            .sheet(self.name)
            .hint("this is how files made to exhaust memory look; save the workbook anew"));
        }
        if self.table.is_some() {
            let mut row = std::mem::take(&mut self.row);
            let flow = self.data_row(&mut row);
            row.clear(0);
            self.row = row;
            return flow;
        }
        self.held.push(std::mem::take(&mut self.row));
        let enough = match self.settings.header_row {
            Some(first) => self.held.last().is_some_and(|row| {
                row.number >= i64::from(first) + i64::from(self.settings.header_rows)
            }),
            None => self.held.len() >= LAYOUT_ROWS,
        };
        if enough {
            self.find_header()
        } else {
            Ok(ControlFlow::Continue(()))
        }
    }

    fn find_header(&mut self) -> Result<ControlFlow<()>, FormatError> {
        if self.table.is_some() || self.held.is_empty() {
            return Ok(ControlFlow::Continue(()));
        }
        let held = std::mem::take(&mut self.held);
        let header_rows = i64::from(self.settings.header_rows);
        let first = match self.settings.header_row {
            Some(first) => i64::from(first),
            None => header_place(&held, self.settings.header_rows),
        };
        let last = first + header_rows - 1;
        let mut header = Vec::new();
        let mut data = Vec::new();
        for mut row in held {
            if row.number < first {
                continue;
            }
            if row.number <= last {
                if self.settings.fill_merged {
                    self.merged
                        .fill(&mut row, self.settings.columns_max as usize);
                }
                header.push(row);
            } else {
                data.push(row);
            }
        }
        if header.is_empty() && header_rows > 0 {
            return Err(FormatError::malformed(format!("row {first} has no header"))
                .sheet(self.name)
                .row(first)
                .hint("give the right header_row, or header = false"));
        }
        let shape: &[Row] = if header_rows > 0 { &header } else { &data };
        let first_column = shape
            .iter()
            .filter_map(Row::first_column)
            .min()
            .unwrap_or(0);
        let width = shape.iter().map(Row::width).max().unwrap_or(0);
        let cells: Vec<String> = (first_column..width)
            .map(|column| header_cell(&header, column))
            .collect();
        let names = unique_names(&cells, self.settings.column_names);
        self.table = Some(self.make_table(&names, first_column)?);
        for mut row in data {
            if self.data_row(&mut row)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn make_table(&self, names: &[String], first_column: usize) -> Result<Table, FormatError> {
        let mut table = Table {
            names: names.iter().map(|name| name.as_str().into()).collect(),
            types: vec![TypeSample::default(); names.len()],
            first_column,
            builders: Vec::new(),
            targets: vec![None; names.len()],
            rescued: Rescued::default(),
            numbers: Vec::new(),
            text_bytes: 0,
        };
        if let Purpose::Read { schema, .. } = &self.purpose {
            table.builders = builders(schema)?;
            for (column, name) in names.iter().enumerate() {
                table.targets[column] = schema
                    .columns
                    .fields()
                    .iter()
                    .position(|field| field.name() == name);
            }
        }
        Ok(table)
    }

    fn data_row(&mut self, row: &mut Row) -> Result<ControlFlow<()>, FormatError> {
        if let Some(footer) = &self.settings.footer {
            let first = row.first_column().and_then(|column| row.get(column));
            if first.is_some_and(|value| footer.is_match(shown(value).trim())) {
                self.statistics.rows_skipped += 1;
                return Ok(ControlFlow::Continue(()));
            }
        }
        let Some(table) = &mut self.table else {
            return Ok(ControlFlow::Continue(()));
        };
        if self.settings.fill_merged {
            self.merged
                .fill(row, table.first_column + table.names.len());
        }
        self.rows_seen += 1;
        match &self.purpose {
            Purpose::Infer { rows } => {
                table.sample(row, self.settings);
                if self.rows_seen >= *rows {
                    return Ok(ControlFlow::Break(()));
                }
            }
            Purpose::Read { schema, .. } => {
                table.append(row, self.settings, schema.keep_unknown);
                let rows_max = rows_max(schema.columns.fields().len()).min(BATCH_ROWS);
                if table.numbers.len() >= rows_max || table.text_bytes >= BATCH_TEXT_BYTES {
                    return self.flush();
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn flush(&mut self) -> Result<ControlFlow<()>, FormatError> {
        let Purpose::Read { schema, file, sink } = &mut self.purpose else {
            return Ok(ControlFlow::Continue(()));
        };
        let Some(table) = &mut self.table else {
            return Ok(ControlFlow::Continue(()));
        };
        if table.numbers.is_empty() {
            return Ok(ControlFlow::Continue(()));
        }
        let fresh = builders(schema)?;
        let finished = std::mem::replace(&mut table.builders, fresh);
        let numbers = std::mem::take(&mut table.numbers);
        let mut rescued = std::mem::take(&mut table.rescued);
        table.text_bytes = 0;
        let rows = numbers.len();
        self.statistics.rows += rows as u64;
        self.statistics.rows_rescued += rescued.rows();
        let internal = |error: arrow::error::ArrowError| {
            FormatError::new(sqlstate::INTERNAL_ERROR, "could not build a batch").caused_by(error)
        };
        let mut columns: Vec<ArrayRef> = finished
            .into_iter()
            .map(|b| b.finish().map_err(internal))
            .collect::<Result<_, _>>()?;
        columns.push(rescued.finish(rows));
        columns.push(Arc::new(StringArray::new_repeated(file, rows)));
        columns.push(Arc::new(StringArray::new_repeated(self.name, rows)));
        columns.push(Arc::new(Int64Array::from(numbers)));
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let output: SchemaRef = schema.output();
        let batch =
            RecordBatch::try_new_with_options(output, columns, &options).map_err(internal)?;
        sink(batch)
    }
}

impl Table {
    fn sample(&mut self, row: &Row, settings: &Settings) {
        for (index, sample) in self.types.iter_mut().enumerate() {
            if let Some(CellValue::Value(value)) = row.get(self.first_column + index) {
                match value {
                    Native::Text(text) if settings.values.is_null_text(text.trim()) => {}
                    Native::Text(text) => sample.add_text(text.trim(), &settings.values),
                    value => sample.add_native(value, &settings.values),
                }
            }
        }
    }

    fn append(&mut self, row: &Row, settings: &Settings, keep_unknown: bool) {
        let at = self.numbers.len();
        let mut filled = vec![false; self.builders.len()];
        for index in 0..self.names.len() {
            let cell = row.get(self.first_column + index);
            match self.targets[index] {
                Some(target) => {
                    filled[target] = true;
                    let builder = &mut self.builders[target];
                    let Some(cell) = cell else {
                        builder.append_null();
                        continue;
                    };
                    let appended = match cell {
                        CellValue::Error(_) => {
                            builder.append_null();
                            false
                        }
                        CellValue::Value(Native::Text(text)) => {
                            let text = if settings.values.trim {
                                text.trim()
                            } else {
                                text
                            };
                            if settings.values.is_null_text(text) {
                                builder.append_null();
                                true
                            } else {
                                let trimmed = if builder.is_text() { text } else { text.trim() };
                                builder.append_text(trimmed, &settings.values).is_ok()
                            }
                        }
                        CellValue::Value(value) => {
                            builder.append_native(value, &settings.values).is_ok()
                        }
                    };
                    if !appended {
                        self.rescued.add(at, &self.names[index], shown(cell));
                    }
                }
                None => {
                    if let Some(cell) = cell
                        && keep_unknown
                    {
                        self.rescued.add(at, &self.names[index], shown(cell));
                    }
                }
            }
        }
        for (builder, filled) in self.builders.iter_mut().zip(filled) {
            if !filled {
                builder.append_null();
            }
        }
        if keep_unknown {
            let outside =
                (0..self.first_column).chain(self.first_column + self.names.len()..row.width());
            for column in outside {
                if let Some(cell) = row.get(column) {
                    let name = format!("column_{}", column_letters(column as u32)).to_lowercase();
                    self.rescued.add(at, &name.into(), shown(cell));
                }
            }
        }
        self.text_bytes += row.text_bytes();
        self.numbers.push(row.number);
    }
}

fn builders(schema: &DecodeSchema) -> Result<Vec<ColumnBuilder>, FormatError> {
    schema
        .columns
        .fields()
        .iter()
        .map(|field| {
            ColumnBuilder::new(field, 1024, schema.inferred).map_err(|error| {
                FormatError::new(sqlstate::FEATURE_NOT_SUPPORTED, error.to_string())
            })
        })
        .collect()
}

/// The text of a cell as a person sees it.
fn shown(value: CellValue<'_>) -> String {
    match value {
        CellValue::Error(text) => text.to_owned(),
        CellValue::Value(native) => native_text(native),
    }
}

/// The number of the first row that has cells in more than half of the columns in use: titles
/// above a table have fewer. Merged cells count once.
fn header_place(held: &[Row], header_rows: u32) -> i64 {
    let width = held.iter().map(Row::filled).max().unwrap_or(0);
    let place = held
        .iter()
        .position(|row| row.filled() * 2 > width)
        .unwrap_or(0);
    // The upper rows of a header of several are sparse: they are merged.
    let mut first = place;
    for above in 1..header_rows as usize {
        let Some(index) = place.checked_sub(above) else {
            break;
        };
        if held[index].filled() > 1 && held[index].number + above as i64 == held[place].number {
            first = index;
        }
    }
    held.get(first).map_or(1, |row| row.number)
}

/// The cells of a header of several rows, joined. A cell merged over rows counts once.
fn header_cell(header: &[Row], column: usize) -> String {
    let mut parts: Vec<String> = Vec::new();
    for row in header {
        if let Some(cell) = row.get(column) {
            let text = shown(cell).split_whitespace().collect::<Vec<_>>().join(" ");
            if !text.is_empty() && parts.last() != Some(&text) {
                parts.push(text);
            }
        }
    }
    parts.join("_")
}
