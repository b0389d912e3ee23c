//! Rows as messages: one JSON object a row, keyed by some of its columns.
//!
//! Values have the forms that `to_json` gives them: numbers as they are, with every digit; json and jsonb nested; times
//! as ISO 8601, those with a time zone in UTC; bytea as `\x...`; what JSON has no number for (`NaN`, `Infinity`) as text;
//! everything else as its text form.

use arrow::array::{Array, RecordBatch};
use arrow::datatypes::SchemaRef;
use boathouse_catalog::types::ColumnType;
use serde::de::IgnoredAny;

use crate::error::{SqlError, SqlState};
use crate::function::text_io::display;
use crate::function::value::{Reader, Value};

/// How rows of some columns are written.
pub struct RowFormat {
    columns: Vec<Column>,
    /// Which columns are the key.
    key: Vec<usize>,
}

struct Column {
    /// As it stands in an object, with its quotes and colon.
    label: String,
    name: String,
    column_type: ColumnType,
}

/// The rows of a batch, ready to be written.
pub struct RowMessages<'f> {
    format: &'f RowFormat,
    readers: Vec<Reader>,
    rows: usize,
}

impl RowFormat {
    /// `fields` are the columns of the rows, `key` names some of them.
    ///
    /// # Errors
    ///
    /// The key names a column that the rows do not have, or two columns have one name.
    pub fn new(fields: &SchemaRef, key: &[String]) -> Result<Self, SqlError> {
        let mut columns: Vec<Column> = Vec::with_capacity(fields.fields().len());
        for field in fields.fields() {
            let name = field.name();
            if columns.iter().any(|column| column.name == *name) {
                return Err(SqlError::new(
                    SqlState::DUPLICATE_COLUMN,
                    format!("column \"{name}\" is there more than once"),
                )
                .hint("a message has each column once: name them apart with AS"));
            }
            columns.push(Column {
                label: format!("{}:", json_text(name)),
                name: name.clone(),
                column_type: ColumnType::from_field(field),
            });
        }
        let place = |name: &String| {
            let found = columns.iter().position(|column| column.name == *name);
            found.ok_or_else(|| {
                SqlError::new(
                    SqlState::UNDEFINED_COLUMN,
                    format!("column \"{name}\" of KEY is not among those of the messages"),
                )
            })
        };
        let key = key.iter().map(place).collect::<Result<_, _>>()?;
        Ok(Self { columns, key })
    }

    pub fn has_key(&self) -> bool {
        !self.key.is_empty()
    }

    /// `batch` has the columns of the format, and may have more behind them.
    pub fn messages(&self, batch: &RecordBatch) -> Result<RowMessages<'_>, SqlError> {
        let columns = batch.columns().iter().take(self.columns.len());
        Ok(RowMessages {
            format: self,
            readers: columns.map(Reader::new).collect::<Result<_, _>>()?,
            rows: batch.num_rows(),
        })
    }
}

impl RowMessages<'_> {
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Appends the object of a row, after `first`, which is empty or holds members of its own and ends with a comma.
    pub fn payload(&self, row: usize, first: &str, into: &mut Vec<u8>) {
        into.push(b'{');
        into.extend_from_slice(first.as_bytes());
        for (index, (column, reader)) in self.format.columns.iter().zip(&self.readers).enumerate() {
            if index > 0 {
                into.push(b',');
            }
            into.extend_from_slice(column.label.as_bytes());
            append(&reader.value(row), &column.column_type, into);
        }
        into.push(b'}');
    }

    /// Appends the key of a row: the value of a single column without quotes, an object of several. Gives the name of
    /// the first of its columns that is NULL.
    pub fn key(&self, row: usize, into: &mut Vec<u8>) -> Option<&str> {
        let parts = self.format.key.iter().filter_map(|index| {
            Some((self.format.columns.get(*index)?, self.readers.get(*index)?))
        });
        let mut null = None;
        let alone = self.format.key.len() == 1;
        if !alone {
            into.push(b'{');
        }
        for (number, (column, reader)) in parts.enumerate() {
            let value = reader.value(row);
            if value.is_null() {
                null.get_or_insert(column.name.as_str());
            }
            if alone {
                append_plain(&value, &column.column_type, into);
                continue;
            }
            if number > 0 {
                into.push(b',');
            }
            into.extend_from_slice(column.label.as_bytes());
            append(&value, &column.column_type, into);
        }
        if !alone {
            into.push(b'}');
        }
        null
    }
}

/// Appends a value as JSON.
fn append(value: &Value<'_>, column_type: &ColumnType, into: &mut Vec<u8>) {
    match (value, column_type) {
        (Value::Null, _) => into.extend_from_slice(b"null"),
        (Value::List(list), ColumnType::Array(element)) => match Reader::new(list) {
            Ok(reader) => {
                into.push(b'[');
                for row in 0..list.len() {
                    if row > 0 {
                        into.push(b',');
                    }
                    append(&reader.value(row), element, into);
                }
                into.push(b']');
            }
            Err(_) => into.extend_from_slice(b"null"),
        },
        (Value::Float(number), _) if !number.is_finite() => quoted(value, column_type, into),
        (Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::Numeric { .. }, _) => {
            append_plain(value, column_type, into);
        }
        // Tables that others write may hold anything.
        (Value::Text(text), ColumnType::Json | ColumnType::Jsonb)
            if serde_json::from_str::<IgnoredAny>(text).is_ok() =>
        {
            into.extend_from_slice(text.as_bytes());
        }
        _ => quoted(value, column_type, into),
    }
}

fn quoted(value: &Value<'_>, column_type: &ColumnType, into: &mut Vec<u8>) {
    let text = match value {
        Value::Text(text) => json_text(text),
        _ => json_text(&text_of(value, column_type)),
    };
    into.extend_from_slice(text.as_bytes());
}

/// Appends a value as it stands in JSON, without quotes.
fn append_plain(value: &Value<'_>, column_type: &ColumnType, into: &mut Vec<u8>) {
    match value {
        Value::Text(text) => into.extend_from_slice(text.as_bytes()),
        Value::List(_) => append(value, column_type, into),
        _ => into.extend_from_slice(text_of(value, column_type).as_bytes()),
    }
}

fn text_of(value: &Value<'_>, column_type: &ColumnType) -> String {
    let text = display(value, column_type, chrono_tz::UTC);
    match (value, column_type) {
        (Value::Timestamp(_), ColumnType::TimestampTz) => {
            let text = text.replacen(' ', "T", 1);
            // ISO 8601 wants minutes in the offset.
            match text.strip_suffix("+00") {
                Some(local) => format!("{local}+00:00"),
                None => text,
            }
        }
        (Value::Timestamp(_), _) => text.replacen(' ', "T", 1),
        _ => text,
    }
}

fn json_text(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
