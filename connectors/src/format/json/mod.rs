//! JSON: an array of objects, or one object after another, on lines of their own or not.
//!
//! ```text
//! split: bytes -> records        fields: record -> values        row: values -> columns
//! ```
//!
//! Every record is parsed by itself, so one that is broken is rejected alone. Nested values are
//! kept as JSON text. Strings are text; only dates and times are recognised in them.

pub(crate) mod fields;
pub(crate) mod row;
mod shape;
mod split;

use std::io::Read;
use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use encoding_rs::UTF_8;

use crate::error::{ConnectorError, FormatError, sqlstate};
use crate::file::LocalFile;
use crate::options::Options;
use crate::value::ValueFormat;

use super::csv::source::{self, Text};
use super::csv::{take_columns_max, take_name_style};
use super::{
    DecodeSchema, DecodedBatch, FileFormat, FileStatistics, Format, InferenceLimits, NameStyle,
    RejectedRow,
};
use fields::RecordReader;
use row::{Batch, Columns};
use split::{Record, Splitter};

/// Documents: an array, or values in a row.
pub struct Json;

impl Format for Json {
    fn name(&self) -> &'static str {
        "JSON"
    }

    fn configure(&self, options: &mut Options) -> Result<Arc<dyn FileFormat>, ConnectorError> {
        Ok(Arc::new(JsonFormat::take(options, false)?))
    }
}

/// One object a line.
pub struct Ndjson;

impl Format for Ndjson {
    fn name(&self) -> &'static str {
        "NDJSON"
    }

    fn configure(&self, options: &mut Options) -> Result<Arc<dyn FileFormat>, ConnectorError> {
        Ok(Arc::new(JsonFormat::take(options, true)?))
    }
}

/// Records rejected in one batch at most.
const REJECTED_MAX: usize = 8192;
const BATCH_BYTES: usize = 8 << 20;

#[derive(Debug, Clone)]
struct JsonFormat {
    by_line: bool,
    column_names: NameStyle,
    columns_max: usize,
    values: ValueFormat,
}

impl JsonFormat {
    /// Options `column_names`, `max_columns` and those of [`ValueFormat::take`].
    fn take(options: &mut Options, by_line: bool) -> Result<Self, ConnectorError> {
        Ok(Self {
            by_line,
            column_names: take_name_style(options)?,
            columns_max: take_columns_max(options)?,
            values: ValueFormat::take(options)?,
        })
    }

    /// Calls `on_record` for every record of the file, with the name of its member of an archive.
    fn each_record(
        &self,
        file: &LocalFile,
        on_record: &mut dyn FnMut(Option<&str>, Record) -> Result<ControlFlow<()>, FormatError>,
    ) -> Result<(), FormatError> {
        for member in source::members(file, None)? {
            let mut bytes = source::open(file, &member)?;
            let mut head = Vec::new();
            bytes
                .by_ref()
                .take(1 << 16)
                .read_to_end(&mut head)
                .map_err(source::read_error)?;
            // JSON is UTF-8; a byte order mark may say otherwise.
            let (encoding, mark) = encoding_rs::Encoding::for_bom(&head).unwrap_or((UTF_8, 0));
            let text = Text::new(head, mark, bytes, encoding);
            let mut splitter = Splitter::new(text, encoding, self.by_line);
            while let Some(record) = splitter.next_record()? {
                if on_record(member.name.as_deref(), record)?.is_break() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

impl FileFormat for JsonFormat {
    fn infer(&self, file: &LocalFile, limits: &InferenceLimits) -> Result<SchemaRef, FormatError> {
        let mut columns = Columns::new(self.column_names, self.columns_max);
        let (mut rows, mut bytes) = (0, 0);
        self.each_record(file, &mut |_, record| {
            rows += 1;
            bytes += record.text.len();
            if record.fault.is_none()
                && let Ok(fields) = fields::parse(&record.text)
            {
                columns.sample(&fields, &self.values)?;
            }
            let enough = rows >= limits.rows || bytes >= limits.bytes;
            Ok(if enough {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            })
        })
        .map_err(|error| error.file(&file.name))?;
        columns.schema().ok_or_else(|| {
            FormatError::malformed("the file has no JSON object with a field").file(&file.name)
        })
    }

    fn decode(
        &self,
        file: &LocalFile,
        schema: &DecodeSchema,
        sink: &mut dyn FnMut(DecodedBatch) -> ControlFlow<()>,
    ) -> Result<FileStatistics, FormatError> {
        let mut statistics = FileStatistics {
            bytes: file.size,
            ..FileStatistics::default()
        };
        let mut batch = Batch::new(schema, &file.name, self.column_names)?;
        let mut rejected: Vec<RejectedRow> = Vec::new();
        let mut bytes = 0;
        let mut member_now: Option<String> = None;
        let mut flush = |batch: &mut Batch<'_>,
                         rejected: &mut Vec<RejectedRow>,
                         member: Option<&str>|
         -> Result<ControlFlow<()>, FormatError> {
            if batch.rows() == 0 && rejected.is_empty() {
                return Ok(ControlFlow::Continue(()));
            }
            let (finished, rescued) = batch.finish(member)?;
            statistics.rows += finished.num_rows() as u64;
            statistics.rows_rescued += rescued;
            statistics.rows_rejected += rejected.len() as u64;
            Ok(sink(DecodedBatch {
                batch: finished,
                rejected: std::mem::take(rejected),
            }))
        };
        let mut stopped = false;
        let mut reader = RecordReader::default();
        self.each_record(file, &mut |member, record| {
            if member != member_now.as_deref() {
                let flow = flush(&mut batch, &mut rejected, member_now.as_deref())?;
                member_now = member.map(str::to_owned);
                if flow.is_break() {
                    stopped = true;
                    return Ok(ControlFlow::Break(()));
                }
            }
            bytes += record.text.len();
            let parsed = match record.fault {
                Some(fault) => Err((sqlstate::CHARACTER_NOT_IN_REPERTOIRE, fault)),
                None => reader
                    .parse(&record.text)
                    .map_err(|reason| (sqlstate::INVALID_TEXT, reason)),
            };
            match parsed {
                Ok(fields) => batch.append(fields, record.number, &self.values),
                Err((sqlstate, reason)) => rejected.push(RejectedRow {
                    sheet: member.map(str::to_owned),
                    row: record.number,
                    column: None,
                    reason,
                    sqlstate: sqlstate.into(),
                    raw: record.text,
                }),
            }
            if batch.is_full() || rejected.len() >= REJECTED_MAX || bytes >= BATCH_BYTES {
                bytes = 0;
                let flow = flush(&mut batch, &mut rejected, member)?;
                stopped = flow.is_break();
                return Ok(flow);
            }
            Ok(ControlFlow::Continue(()))
        })
        .map_err(|error| error.file(&file.name))?;
        if !stopped {
            // It is the end in any case.
            let _ = flush(&mut batch, &mut rejected, member_now.as_deref())?;
        }
        Ok(statistics)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::util::pretty::pretty_format_batches;
    use expect_test::{Expect, expect};
    use std::io::Write;

    fn check(format: &dyn Format, text: &str, expected: Expect) {
        check_bytes(format, text.as_bytes(), &[], expected);
    }

    fn check_bytes(format: &dyn Format, bytes: &[u8], options: &[(&str, &str)], expected: Expect) {
        let mut options = Options::new("format \"JSON\"", options.iter().copied());
        let format = format.configure(&mut options).unwrap();
        options.finish().unwrap();
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        let file = LocalFile::in_place(file.path(), "in.json", bytes.len() as u64);
        let shown = match format.infer(&file, &InferenceLimits::default()) {
            Err(error) => error.to_string(),
            Ok(columns) => {
                let types: Vec<String> = columns
                    .fields()
                    .iter()
                    .map(|field| format!("{} {}", field.name(), field.data_type()))
                    .collect();
                let mut shown = types.join(", ") + "\n";
                let read = format.read(&file, &DecodeSchema::new(columns), &mut |decoded| {
                    let batch = decoded.batch;
                    let last = batch.num_columns() - 1;
                    let kept: Vec<usize> = (0..last - 2).chain([last]).collect();
                    let batch = batch.project(&kept).unwrap();
                    shown += &pretty_format_batches(&[batch]).unwrap().to_string();
                    shown.push('\n');
                    for row in decoded.rejected {
                        shown += &format!("rejected {}: {} {:?}\n", row.row, row.reason, row.raw);
                    }
                    ControlFlow::Continue(())
                });
                if let Err(error) = read {
                    shown += &error.to_string();
                }
                shown
            }
        };
        expected.assert_eq(&shown);
    }

    #[test]
    fn lines_of_objects() {
        check(
            &Ndjson,
            "{\"id\":1,\"Name\":\"a\",\"at\":\"2024-01-31T10:00:00Z\",\"tags\":[1,2]}\n\n{\"id\":2.5,\"zip\":\"007\"}\n{broken\n[1]\n{\"id\":\"x\",\"Name\":null,\"tags\":{\"k\":\"v\"}}\n",
            expect![[r#"
                id Utf8, name Utf8, at Timestamp(µs, "UTC"), tags Utf8, zip Utf8
                +-----+------+----------------------+-----------+-----+----------+------+
                | id  | name | at                   | tags      | zip | _rescued | _row |
                +-----+------+----------------------+-----------+-----+----------+------+
                | 1   | a    | 2024-01-31T10:00:00Z | [1,2]     |     |          | 1    |
                | 2.5 |      |                      |           | 007 |          | 3    |
                | x   |      |                      | {"k":"v"} |     |          | 6    |
                +-----+------+----------------------+-----------+-----+----------+------+
                rejected 4: the record is not valid JSON: key must be a string at line 1 column 2 "{broken"
                rejected 5: the record is not a JSON object "[1]"
            "#]],
        );
    }

    #[test]
    fn keys_that_differ_in_case_are_one_column() {
        check_bytes(
            &Ndjson,
            b"{\"Qty\":1}\n{\"qty\":2}\n{\"QTY\":3,\"Qty\":4}\n",
            &[("column_names", "original")],
            expect![[r#"
                Qty Int64, qty_1 Int64, QTY_2 Int64
                +-----+-------+-------+-----------+------+
                | Qty | qty_1 | QTY_2 | _rescued  | _row |
                +-----+-------+-------+-----------+------+
                | 1   |       |       |           | 1    |
                | 2   |       |       |           | 2    |
                | 3   |       |       | {"Qty":4} | 3    |
                +-----+-------+-------+-----------+------+
            "#]],
        );
    }

    #[test]
    fn an_array_and_values_in_a_row() {
        check(
            &Json,
            "[ {\"a\": 1, \"b\": \"x]\\\"\"},\n {\"a\": 2, \"b\": {\"c\": [1]}} , {\"a\": } ]",
            expect![[r#"
                a Int64, b Utf8
                +---+-----------+----------+------+
                | a | b         | _rescued | _row |
                +---+-----------+----------+------+
                | 1 | x]"       |          | 1    |
                | 2 | {"c":[1]} |          | 2    |
                +---+-----------+----------+------+
                rejected 3: the record is not valid JSON: expected value at line 1 column 7 "{\"a\": }"
            "#]],
        );
        check(
            &Json,
            "{\"a\": true}\n{\n\"a\": false}",
            expect![[r#"
            a Boolean
            +-------+----------+------+
            | a     | _rescued | _row |
            +-------+----------+------+
            | true  |          | 1    |
            | false |          | 2    |
            +-------+----------+------+
        "#]],
        );
        check(
            &Json,
            "[{\"a\": 1}, {\"a\": 2",
            expect![[r#"file "in.json", row 2: the document is truncated"#]],
        );
        check(
            &Json,
            "[{\"a\":1},{\"a\":2},",
            expect![[r#"file "in.json", row 3: the document is truncated"#]],
        );
        check(
            &Json,
            "hello",
            expect![[r#"file "in.json": the file has no JSON object with a field"#]],
        );
    }

    #[test]
    fn the_digits_of_numbers_are_kept() {
        check(
            &Ndjson,
            "{\"amount\":12345678901234567.25,\"id\":12345678901234567890123,\"tags\":[1.10, 1e400]}\n{\"amount\":1.5,\"id\":0.125}\n",
            expect![[r#"
                amount Decimal128(38, 10), id Decimal128(38, 10), tags Utf8
                +------------------------------+------------------------------------+--------------+----------+------+
                | amount                       | id                                 | tags         | _rescued | _row |
                +------------------------------+------------------------------------+--------------+----------+------+
                | 12345678901234567.2500000000 | 12345678901234567890123.0000000000 | [1.10,1e400] |          | 1    |
                | 1.5000000000                 | 0.1250000000                       |              |          | 2    |
                +------------------------------+------------------------------------+--------------+----------+------+
            "#]],
        );
    }

    #[test]
    fn a_number_that_does_not_fit_is_rescued_as_it_was_written() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let text = "{\"id\":12345678901234567890123,\"at\":[1.10],\"more\":1.10}\n";
        file.write_all(text.as_bytes()).unwrap();
        let file = LocalFile::in_place(file.path(), "in.json", text.len() as u64);
        let format = Ndjson.configure(&mut Options::none("format")).unwrap();
        let columns = arrow::datatypes::Schema::new(vec![
            arrow::datatypes::Field::new("id", arrow::datatypes::DataType::Int64, true),
            arrow::datatypes::Field::new("at", arrow::datatypes::DataType::Date32, true),
        ]);
        let mut shown = String::new();
        format
            .read(
                &file,
                &DecodeSchema::new(Arc::new(columns)),
                &mut |decoded| {
                    shown += &pretty_format_batches(&[decoded.batch.project(&[0, 1, 2]).unwrap()])
                        .unwrap()
                        .to_string();
                    ControlFlow::Continue(())
                },
            )
            .unwrap();
        expect![[r#"
            +----+----+--------------------------------------------------------+
            | id | at | _rescued                                               |
            +----+----+--------------------------------------------------------+
            |    |    | {"id":12345678901234567890123,"at":[1.10],"more":1.10} |
            +----+----+--------------------------------------------------------+"#]]
        .assert_eq(&shown);
    }

    #[test]
    fn a_record_that_is_not_utf8_is_rejected_alone() {
        check_bytes(
            &Ndjson,
            b"{\"name\":\"a\"}\n{\"name\":\"caf\xe9\"}\n",
            &[],
            expect![[r#"
                name Utf8
                +------+----------+------+
                | name | _rescued | _row |
                +------+----------+------+
                | a    |          | 1    |
                +------+----------+------+
                rejected 2: the record is not valid UTF-8; its raw content is shown as windows-1252 "{\"name\":\"café\"}"
            "#]],
        );
    }

    #[test]
    fn keys_without_end_are_refused() {
        check_bytes(
            &Ndjson,
            b"{\"a\":1}\n{\"b\":1}\n{\"c\":1}\n",
            &[("max_columns", "2")],
            expect![[r#"file "in.json": the records have more than 2 different keys"#]],
        );
    }

    #[test]
    fn a_wide_schema_makes_small_batches() {
        let columns: Vec<_> = (0..1 << 17)
            .map(|number| {
                let name = format!("c{number}");
                arrow::datatypes::Field::new(name, arrow::datatypes::DataType::Null, true)
            })
            .collect();
        let schema = DecodeSchema::new(Arc::new(arrow::datatypes::Schema::new(columns)));
        let mut batch = Batch::new(&schema, "in.json", NameStyle::Snake).unwrap();
        for number in 1..=32 {
            assert!(!batch.is_full());
            batch.append(Vec::new(), number, &ValueFormat::default());
        }
        assert!(batch.is_full());
    }
}
