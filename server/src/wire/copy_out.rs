//! The rows of `COPY ... TO STDOUT` as text, csv or binary, one `CopyData` message a row.

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use arrow::error::ArrowError;
use boathouse_catalog::types::ColumnType;
use boathouse_sql::statement::{CopyColumns, CopyFormat, CopyHeader, CopyOptions};

use super::message::Report;
use super::value::{Column, Style, begin_length};

const BINARY_SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

/// How the rows of one COPY are written.
pub struct CopyEncoder {
    format: CopyFormat,
    delimiter: u8,
    null: Vec<u8>,
    header: bool,
    quote: u8,
    escape: u8,
    columns: Vec<CopyColumn>,
    style: Style,
    /// Delimiter and null text that no number or date can be mistaken for.
    ordinary: bool,
    signature_pending: bool,
}

struct CopyColumn {
    name: String,
    column_type: ColumnType,
    force_quote: bool,
}

/// A batch on its way out.
pub struct CopyRows {
    columns: Vec<Column>,
    /// Whether a column's text can be written as it is.
    bare: Vec<bool>,
    next: usize,
    count: usize,
}

impl CopyRows {
    pub fn remaining(&self) -> usize {
        self.count - self.next
    }
}

impl CopyEncoder {
    pub fn new(options: &CopyOptions, fields: &Schema, style: Style) -> Result<Self, Report> {
        if !matches!(
            options.format,
            CopyFormat::Text | CopyFormat::Csv | CopyFormat::Binary
        ) {
            return Err(
                Report::error("0A000", "COPY TO STDOUT knows only text, csv and binary")
                    .hint("name a file instead of STDOUT, or use another format"),
            );
        }
        let columns = fields
            .fields()
            .iter()
            .map(|field| CopyColumn {
                name: field.name().clone(),
                column_type: ColumnType::from_field(field),
                force_quote: match &options.force_quote {
                    CopyColumns::None => false,
                    CopyColumns::All => true,
                    CopyColumns::Some(names) => names.contains(field.name()),
                },
            })
            .collect();
        Ok(Self {
            format: options.format,
            delimiter: options.delimiter,
            null: options.null.clone().into_bytes(),
            header: options.header != CopyHeader::No,
            quote: options.quote,
            escape: options.escape,
            columns,
            style,
            ordinary: matches!(options.delimiter, b'\t' | b',' | b';' | b'|')
                && matches!(options.null.as_str(), "" | "\\N" | "NULL"),
            signature_pending: false,
        })
    }

    pub fn is_binary(&self) -> bool {
        self.format == CopyFormat::Binary
    }

    /// What comes before the first row. The binary signature travels in the first row's message, as
    /// PostgreSQL sends it and clients expect it.
    pub fn append_header(&mut self, out: &mut Vec<u8>) {
        if self.is_binary() {
            self.signature_pending = true;
        } else if self.header {
            let start = begin_message(out);
            for (index, column) in self.columns.iter().enumerate() {
                if index > 0 {
                    out.push(self.delimiter);
                }
                let from = out.len();
                out.extend_from_slice(column.name.as_bytes());
                self.protect(out, from, false);
            }
            out.push(b'\n');
            end_message(out, start);
        }
    }

    /// What comes after the last row.
    pub fn append_trailer(&mut self, out: &mut Vec<u8>) {
        if self.is_binary() {
            let start = begin_message(out);
            self.append_signature(out);
            out.extend_from_slice(&(-1i16).to_be_bytes());
            end_message(out, start);
        }
    }

    pub fn start(&self, batch: &RecordBatch) -> Result<CopyRows, ArrowError> {
        let columns = self
            .columns
            .iter()
            .zip(batch.columns())
            .map(|(column, array)| Column::new(array, &column.column_type))
            .collect::<Result<Vec<_>, _>>()?;
        let bare = columns
            .iter()
            .zip(&self.columns)
            .map(|(values, column)| self.ordinary && values.is_bare() && !column.force_quote)
            .collect();
        Ok(CopyRows {
            columns,
            bare,
            next: 0,
            count: batch.num_rows(),
        })
    }

    /// Appends rows until `out` holds `bytes_max`. Gives how many.
    pub fn append(&mut self, rows: &mut CopyRows, bytes_max: usize, out: &mut Vec<u8>) -> usize {
        let first = rows.next;
        while rows.next < rows.count && out.len() < bytes_max {
            let start = begin_message(out);
            if self.is_binary() {
                self.append_signature(out);
                out.extend_from_slice(&(rows.columns.len() as i16).to_be_bytes());
                for column in &rows.columns {
                    column.append_binary_field(rows.next, out);
                }
            } else {
                self.append_line(rows, out);
            }
            end_message(out, start);
            rows.next += 1;
        }
        rows.next - first
    }

    fn append_signature(&mut self, out: &mut Vec<u8>) {
        if std::mem::take(&mut self.signature_pending) {
            out.extend_from_slice(BINARY_SIGNATURE);
        }
    }

    fn append_line(&self, rows: &CopyRows, out: &mut Vec<u8>) {
        for (index, column) in rows.columns.iter().enumerate() {
            if index > 0 {
                out.push(self.delimiter);
            }
            if column.is_null(rows.next) {
                out.extend_from_slice(&self.null);
                continue;
            }
            let from = out.len();
            column.append_text(rows.next, &self.style, out);
            if !rows.bare[index] {
                self.protect(out, from, self.columns[index].force_quote);
            }
        }
        out.push(b'\n');
    }

    /// Escapes or quotes the field that begins at `from`, where its content asks for it.
    fn protect(&self, out: &mut Vec<u8>, from: usize, force_quote: bool) {
        if self.format == CopyFormat::Csv {
            let field = &out[from..];
            let quoted = force_quote
                || field == self.null
                || (self.columns.len() == 1 && field == b"\\.")
                || field.iter().any(|&byte| {
                    byte == self.delimiter || byte == self.quote || matches!(byte, b'\r' | b'\n')
                });
            if quoted {
                let field = out.split_off(from);
                out.push(self.quote);
                for byte in field {
                    if byte == self.quote || byte == self.escape {
                        out.push(self.escape);
                    }
                    out.push(byte);
                }
                out.push(self.quote);
            }
            return;
        }
        if out[from..]
            .iter()
            .any(|&byte| self.text_escape(byte).is_some())
        {
            let field = out.split_off(from);
            for byte in field {
                match self.text_escape(byte) {
                    Some(letter) => out.extend_from_slice(&[b'\\', letter]),
                    None => out.push(byte),
                }
            }
        }
    }

    /// The letter that stands behind a backslash for this byte.
    #[inline]
    fn text_escape(&self, byte: u8) -> Option<u8> {
        match byte {
            0x08 => Some(b'b'),
            0x0c => Some(b'f'),
            b'\n' => Some(b'n'),
            b'\r' => Some(b'r'),
            b'\t' => Some(b't'),
            0x0b => Some(b'v'),
            b'\\' => Some(b'\\'),
            other if other == self.delimiter => Some(other),
            _ => None,
        }
    }
}

fn begin_message(out: &mut Vec<u8>) -> usize {
    out.push(b'd');
    begin_length(out)
}

/// Unlike a value's, a message's length counts itself.
fn end_message(out: &mut [u8], start: usize) {
    let length = (out.len() - start + 4) as u32;
    out[start - 4..start].copy_from_slice(&length.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Int32Array, StringArray};
    use arrow::datatypes::{DataType, Field};
    use expect_test::{Expect, expect};

    use super::*;

    fn check(options: CopyOptions, expected: Expect) {
        let fields = Schema::new(vec![
            Field::new("id", DataType::Int32, true),
            Field::new("a,name", DataType::Utf8, true),
        ]);
        let batch = RecordBatch::try_new(
            Arc::new(fields.clone()),
            vec![
                Arc::new(Int32Array::from(vec![Some(1), None, Some(3)])),
                Arc::new(StringArray::from(vec![
                    Some("tab\there \\ \"q\", é"),
                    Some(""),
                    None,
                ])),
            ],
        )
        .unwrap();
        let mut encoder = CopyEncoder::new(&options, &fields, Style::default()).unwrap();
        let mut out = Vec::new();
        encoder.append_header(&mut out);
        let mut rows = encoder.start(&batch).unwrap();
        while rows.remaining() > 0 {
            encoder.append(&mut rows, out.len() + 1, &mut out);
        }
        encoder.append_trailer(&mut out);
        let mut shown = String::new();
        let mut rest = out.as_slice();
        while let [b'd', a, b, c, d, tail @ ..] = rest {
            let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize - 4;
            let (message, tail) = tail.split_at(length);
            shown += &if options.format == CopyFormat::Binary {
                format!("{}\n", message.escape_ascii())
            } else {
                String::from_utf8(message.to_vec()).unwrap()
            };
            rest = tail;
        }
        assert!(rest.is_empty());
        expected.assert_eq(&shown);
    }

    #[test]
    fn text_escapes_what_would_end_a_field() {
        check(
            CopyOptions::new(CopyFormat::Text),
            expect![[r#"
                1	tab\there \\ "q", é
                \N	
                3	\N
            "#]],
        );
    }

    #[test]
    fn csv_quotes_what_would_end_a_field_and_what_looks_like_null() {
        let mut options = CopyOptions::new(CopyFormat::Csv);
        options.header = CopyHeader::Yes;
        check(
            options,
            expect![[r#"
                id,"a,name"
                1,"tab	here \ ""q"", é"
                ,""
                3,
            "#]],
        );
    }

    #[test]
    fn csv_quotes_where_told_to() {
        let mut options = CopyOptions::new(CopyFormat::Csv);
        options.force_quote = CopyColumns::All;
        options.null = "NULL".to_owned();
        options.delimiter = b';';
        check(
            options,
            expect![[r#"
                "1";"tab	here \ ""q"", é"
                NULL;""
                "3";NULL
            "#]],
        );
    }

    #[test]
    fn binary_has_a_signature_and_a_trailer() {
        check(
            CopyOptions::new(CopyFormat::Binary),
            expect![[r#"
                PGCOPY\n\xff\r\n\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x00\x00\x04\x00\x00\x00\x01\x00\x00\x00\x12tab\there \\ \"q\", \xc3\xa9
                \x00\x02\xff\xff\xff\xff\x00\x00\x00\x00
                \x00\x02\x00\x00\x00\x04\x00\x00\x00\x03\xff\xff\xff\xff
                \xff\xff
            "#]],
        );
    }
}
