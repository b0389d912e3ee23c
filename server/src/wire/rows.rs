//! Whole record batches as `DataRow` messages in one buffer.
//!
//! ```text
//! batch -> RowEncoder::start (columns looked at once) -> append (rows, until the buffer is full)
//! ```
//!
//! The caller flushes between two calls of [`RowEncoder::append`], so a slow client holds one batch
//! and one buffer, and nobody else.

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use arrow::error::ArrowError;
use boathouse_catalog::types::ColumnType;

use super::message::Report;
use super::message::backend::{self, ColumnDescription};
use super::message::frontend::is_binary;
use super::value::{Column, Style};

/// How the rows of one result are written.
pub struct RowEncoder {
    columns: Vec<(ColumnType, bool)>,
    style: Style,
}

/// A batch on its way out.
pub struct Rows {
    columns: Vec<(Column, bool)>,
    next: usize,
    count: usize,
}

impl Rows {
    pub fn remaining(&self) -> usize {
        self.count - self.next
    }
}

impl RowEncoder {
    /// `formats` are the codes of a Bind message; none at all is text for every column.
    pub fn new(fields: &Schema, formats: &[i16], style: Style) -> Result<Self, Report> {
        check_formats(fields, formats)?;
        let columns = fields
            .fields()
            .iter()
            .enumerate()
            .map(|(index, field)| (ColumnType::from_field(field), is_binary(formats, index)))
            .collect();
        Ok(Self { columns, style })
    }

    pub fn start(&self, batch: &RecordBatch) -> Result<Rows, ArrowError> {
        if batch.num_columns() != self.columns.len() {
            return Err(ArrowError::SchemaError(format!(
                "a batch of {} columns in a result of {}",
                batch.num_columns(),
                self.columns.len()
            )));
        }
        let columns = self
            .columns
            .iter()
            .zip(batch.columns())
            .map(|((column_type, binary), array)| Ok((Column::new(array, column_type)?, *binary)))
            .collect::<Result<_, ArrowError>>()?;
        Ok(Rows {
            columns,
            next: 0,
            count: batch.num_rows(),
        })
    }

    /// Appends at most `rows_max` rows, stopping once `out` holds `bytes_max`. Gives how many.
    pub fn append(
        &self,
        rows: &mut Rows,
        rows_max: usize,
        bytes_max: usize,
        out: &mut Vec<u8>,
    ) -> usize {
        let end = rows.next + rows.remaining().min(rows_max);
        let first = rows.next;
        let count = (rows.columns.len() as i16).to_be_bytes();
        while rows.next < end && out.len() < bytes_max {
            let row = rows.next;
            out.push(b'D');
            let start = out.len();
            out.extend_from_slice(&[0, 0, 0, 0, count[0], count[1]]);
            for (column, binary) in &rows.columns {
                if *binary {
                    column.append_binary_field(row, out);
                } else {
                    column.append_text_field(row, &self.style, out);
                }
            }
            let length = (out.len() - start) as u32;
            out[start..start + 4].copy_from_slice(&length.to_be_bytes());
            rows.next += 1;
        }
        rows.next - first
    }
}

fn check_formats(fields: &Schema, formats: &[i16]) -> Result<(), Report> {
    let count = fields.fields().len();
    if formats.len() > 1 && formats.len() != count {
        return Err(Report::error(
            "08P01",
            format!(
                "bind message has {} result formats but query has {count} columns",
                formats.len()
            ),
        ));
    }
    Ok(())
}

/// Appends the `RowDescription` of a result.
pub fn describe(fields: &Schema, formats: &[i16], out: &mut Vec<u8>) -> Result<(), Report> {
    check_formats(fields, formats)?;
    let columns: Vec<ColumnDescription<'_>> = fields
        .fields()
        .iter()
        .enumerate()
        .map(|(index, field)| {
            let column_type = ColumnType::from_field(field);
            ColumnDescription {
                name: field.name(),
                type_oid: column_type.oid(),
                type_length: column_type.type_length(),
                type_modifier: column_type.type_modifier(),
                binary: is_binary(formats, index),
            }
        })
        .collect();
    backend::row_description(out, &columns);
    Ok(())
}
