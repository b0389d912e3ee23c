//! Arrow columns, filled cell by cell from text.
//!
//! A builder per Arrow type, each a plain vector of values and a lazily made null map. Column by
//! column, [`append_column`] chooses the type once and then runs a loop without further choices.

mod typed;

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, BooleanBufferBuilder, Date32Array, Decimal128Array,
    Float32Array, Float64Array, Int16Array, Int32Array, Int64Array, NullArray, NullBufferBuilder,
    StringArray, Time64MicrosecondArray, TimestampMicrosecondArray,
};
use arrow::buffer::{OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, Field, TimeUnit};
use arrow::error::ArrowError;
use boathouse_catalog::types::ColumnType;

use super::{ValueFormat, datetime, number};

pub use typed::{Typed, hexadecimal, write_json_text};

/// Why a cell could not go into its column: null was appended and the raw text is to be rescued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mismatch;

/// What a text column demands beyond being text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TextRule {
    Any,
    Uuid,
    Json,
    AtMost(usize),
}

/// One column under construction.
pub struct ColumnBuilder {
    values: Values,
    nulls: NullBufferBuilder,
    inferred: bool,
}

enum Values {
    Null,
    Boolean(BooleanBufferBuilder),
    Int16(Vec<i16>),
    Int32(Vec<i32>),
    Int64(Vec<i64>),
    Float32(Vec<f32>),
    Float64(Vec<f64>),
    Decimal(Vec<i128>, u8, i8),
    Date(Vec<i32>),
    Time(Vec<i64>),
    Timestamp(Vec<i64>),
    Instant(Vec<i64>, Arc<str>),
    Text(Vec<i32>, Vec<u8>, TextRule),
    Binary(Vec<i32>, Vec<u8>),
}

/// A cell as a format with types of its own (a workbook, JSON) knows it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Native<'a> {
    Text(&'a str),
    Boolean(bool),
    Integer(i64),
    Float(f64),
    /// Microseconds since 1970 on the wall clock.
    DateTime(i64),
    /// Microseconds.
    Duration(i64),
}

impl ColumnBuilder {
    /// Refuses Arrow types no text is read into. `inferred` is that of
    /// [`DecodeSchema`](crate::format::DecodeSchema).
    pub fn new(field: &Field, capacity: usize, inferred: bool) -> Result<Self, ArrowError> {
        let values = match field.data_type() {
            DataType::Null => Values::Null,
            DataType::Boolean => Values::Boolean(BooleanBufferBuilder::new(capacity)),
            DataType::Int16 => Values::Int16(Vec::with_capacity(capacity)),
            DataType::Int32 => Values::Int32(Vec::with_capacity(capacity)),
            DataType::Int64 => Values::Int64(Vec::with_capacity(capacity)),
            DataType::Float32 => Values::Float32(Vec::with_capacity(capacity)),
            DataType::Float64 => Values::Float64(Vec::with_capacity(capacity)),
            DataType::Decimal128(precision, scale) => {
                Values::Decimal(Vec::with_capacity(capacity), *precision, *scale)
            }
            DataType::Date32 => Values::Date(Vec::with_capacity(capacity)),
            DataType::Time64(TimeUnit::Microsecond) => Values::Time(Vec::with_capacity(capacity)),
            DataType::Timestamp(TimeUnit::Microsecond, None) => {
                Values::Timestamp(Vec::with_capacity(capacity))
            }
            DataType::Timestamp(TimeUnit::Microsecond, Some(zone)) => {
                Values::Instant(Vec::with_capacity(capacity), zone.clone())
            }
            DataType::Utf8 => {
                let mut offsets = Vec::with_capacity(capacity + 1);
                offsets.push(0);
                Values::Text(offsets, Vec::with_capacity(capacity * 12), text_rule(field))
            }
            DataType::Binary => {
                let mut offsets = Vec::with_capacity(capacity + 1);
                offsets.push(0);
                Values::Binary(offsets, Vec::new())
            }
            other => {
                return Err(ArrowError::NotYetImplemented(format!(
                    "column \"{}\" of type {other} cannot be read from text",
                    field.name()
                )));
            }
        };
        Ok(Self {
            values,
            nulls: NullBufferBuilder::new(capacity),
            inferred,
        })
    }

    /// Whether blanks around a text are part of the value.
    pub fn is_text(&self) -> bool {
        matches!(self.values, Values::Text(..) | Values::Binary(..))
    }

    /// Makes room for `rows` rows in all, the others as long as those so far; for texts of `bytes_max` bytes at most.
    pub fn reserve(&mut self, rows: usize, bytes_max: usize) {
        let met = self.nulls.len();
        let more = rows.saturating_sub(met);
        match &mut self.values {
            Values::Null | Values::Boolean(_) => {}
            Values::Int16(values) => values.reserve(more),
            Values::Int32(values) | Values::Date(values) => values.reserve(more),
            Values::Int64(values)
            | Values::Time(values)
            | Values::Timestamp(values)
            | Values::Instant(values, _) => values.reserve(more),
            Values::Float32(values) => values.reserve(more),
            Values::Float64(values) => values.reserve(more),
            Values::Decimal(values, ..) => values.reserve(more),
            Values::Text(offsets, bytes, _) | Values::Binary(offsets, bytes) => {
                offsets.reserve(more);
                let expected = (bytes.len() / met.max(1)).saturating_mul(more + more / 8);
                bytes.reserve(expected.min(bytes_max));
            }
        }
    }

    pub fn append_null(&mut self) {
        match &mut self.values {
            Values::Null => {}
            Values::Boolean(values) => values.append(false),
            Values::Int16(values) => values.push(0),
            Values::Int32(values) | Values::Date(values) => values.push(0),
            Values::Int64(values)
            | Values::Time(values)
            | Values::Timestamp(values)
            | Values::Instant(values, _) => values.push(0),
            Values::Float32(values) => values.push(0.0),
            Values::Float64(values) => values.push(0.0),
            Values::Decimal(values, ..) => values.push(0),
            Values::Text(offsets, bytes, _) | Values::Binary(offsets, bytes) => {
                offsets.push(offset(bytes));
            }
        }
        self.nulls.append_null();
    }

    /// Appends the value `text` stands for; null and an error when it stands for none.
    pub fn append_text(&mut self, text: &str, format: &ValueFormat) -> Result<(), Mismatch> {
        append_column(self, format, std::iter::once(Some(text)), |_| {}).map_or(Ok(()), Err)
    }

    /// Appends a value that already has a type, converting where nothing is lost.
    pub fn append_native(
        &mut self,
        native: Native<'_>,
        format: &ValueFormat,
    ) -> Result<(), Mismatch> {
        let done = match (&mut self.values, native) {
            (_, Native::Text(text)) => return self.append_text(text, format),
            (Values::Boolean(values), Native::Boolean(value)) => {
                values.append(value);
                true
            }
            (Values::Int16(values), Native::Integer(value)) => push(values, i16::try_from(value)),
            (Values::Int32(values), Native::Integer(value)) => push(values, i32::try_from(value)),
            (Values::Int64(values), Native::Integer(value)) => {
                values.push(value);
                true
            }
            (Values::Int16(values), Native::Float(value)) => push(
                values,
                whole(value).and_then(|value| i16::try_from(value).map_err(drop)),
            ),
            (Values::Int32(values), Native::Float(value)) => push(
                values,
                whole(value).and_then(|value| i32::try_from(value).map_err(drop)),
            ),
            (Values::Int64(values), Native::Float(value)) => push(values, whole(value)),
            (Values::Float64(values), Native::Float(value)) => {
                values.push(value);
                true
            }
            (Values::Float64(values), Native::Integer(value)) if value.abs() <= 1 << 53 => {
                values.push(value as f64);
                true
            }
            (Values::Float32(values), Native::Float(value)) => {
                values.push(value as f32);
                true
            }
            (Values::Date(values), Native::DateTime(micros)) if micros % MICROS_PER_DAY == 0 => {
                push(values, i32::try_from(micros / MICROS_PER_DAY))
            }
            (Values::Timestamp(values), Native::DateTime(micros)) => {
                values.push(micros);
                true
            }
            (Values::Time(values), Native::Duration(micros))
                if (0..MICROS_PER_DAY).contains(&micros) =>
            {
                values.push(micros);
                true
            }
            // The rest by way of the text a person would see.
            (_, native) => {
                let plain = ValueFormat {
                    time_zone: format.time_zone,
                    ..ValueFormat::default()
                };
                return self.append_text(&native_text(native), &plain);
            }
        };
        if done {
            self.nulls.append_non_null();
            Ok(())
        } else {
            self.append_null();
            Err(Mismatch)
        }
    }

    pub fn finish(self) -> Result<ArrayRef, ArrowError> {
        let mut nulls = self.nulls;
        let length = nulls.len();
        let nulls = nulls.finish();
        Ok(match self.values {
            Values::Null => Arc::new(NullArray::new(length)),
            Values::Boolean(mut values) => Arc::new(BooleanArray::new(values.finish(), nulls)),
            Values::Int16(values) => Arc::new(Int16Array::new(values.into(), nulls)),
            Values::Int32(values) => Arc::new(Int32Array::new(values.into(), nulls)),
            Values::Int64(values) => Arc::new(Int64Array::new(values.into(), nulls)),
            Values::Float32(values) => Arc::new(Float32Array::new(values.into(), nulls)),
            Values::Float64(values) => Arc::new(Float64Array::new(values.into(), nulls)),
            Values::Decimal(values, precision, scale) => Arc::new(
                Decimal128Array::new(values.into(), nulls)
                    .with_precision_and_scale(precision, scale)?,
            ),
            Values::Date(values) => Arc::new(Date32Array::new(values.into(), nulls)),
            Values::Time(values) => Arc::new(Time64MicrosecondArray::new(values.into(), nulls)),
            Values::Timestamp(values) => {
                Arc::new(TimestampMicrosecondArray::new(values.into(), nulls))
            }
            Values::Instant(values, zone) => {
                Arc::new(TimestampMicrosecondArray::new(values.into(), nulls).with_timezone(zone))
            }
            Values::Text(offsets, bytes, _) => Arc::new(StringArray::try_new(
                OffsetBuffer::new(ScalarBuffer::from(offsets)),
                bytes.into(),
                nulls,
            )?),
            Values::Binary(offsets, bytes) => Arc::new(BinaryArray::try_new(
                OffsetBuffer::new(ScalarBuffer::from(offsets)),
                bytes.into(),
                nulls,
            )?),
        })
    }
}

/// Appends a cell for each item: null for `None`, the converted text otherwise. Calls `mismatched`
/// with the position of every cell that did not fit and was appended as null; answers with the
/// last such fault.
pub fn append_column<'a>(
    builder: &mut ColumnBuilder,
    format: &ValueFormat,
    cells: impl Iterator<Item = Option<&'a str>>,
    mismatched: impl FnMut(usize),
) -> Option<Mismatch> {
    let nulls = &mut builder.nulls;
    let inferred = builder.inferred;
    let simple = format.decimal == b'.' && format.thousands.is_none();
    match &mut builder.values {
        Values::Null => fill(nulls, cells, mismatched, |_| Some(()), |_| {}),
        Values::Boolean(values) => fill(
            nulls,
            cells,
            mismatched,
            parse_bool,
            |value: Option<bool>| {
                values.append(value.unwrap_or(false));
            },
        ),
        Values::Int16(values) => fill(
            nulls,
            cells,
            mismatched,
            |text| integer(text, format, inferred).and_then(|value| i16::try_from(value).ok()),
            |value| values.push(value.unwrap_or(0)),
        ),
        Values::Int32(values) => fill(
            nulls,
            cells,
            mismatched,
            |text| integer(text, format, inferred).and_then(|value| i32::try_from(value).ok()),
            |value| values.push(value.unwrap_or(0)),
        ),
        Values::Int64(values) if simple => fill(
            nulls,
            cells,
            mismatched,
            |text| plain_integer(text.as_bytes(), inferred),
            |value| values.push(value.unwrap_or(0)),
        ),
        Values::Int64(values) => fill(
            nulls,
            cells,
            mismatched,
            |text| integer(text, format, inferred),
            |value| values.push(value.unwrap_or(0)),
        ),
        Values::Float32(values) => fill(
            nulls,
            cells,
            mismatched,
            |text| float(text, format, inferred).map(|value| value as f32),
            |value| values.push(value.unwrap_or(0.0)),
        ),
        Values::Float64(values) if simple => fill(
            nulls,
            cells,
            mismatched,
            |text| plain_float(text.as_bytes(), inferred),
            |value| values.push(value.unwrap_or(0.0)),
        ),
        Values::Float64(values) => fill(
            nulls,
            cells,
            mismatched,
            |text| float(text, format, inferred),
            |value| values.push(value.unwrap_or(0.0)),
        ),
        Values::Decimal(values, precision, scale) => fill(
            nulls,
            cells,
            mismatched,
            |text| {
                let mut buffer = [0; 64];
                let plain = number::normalize(text.as_bytes(), format, &mut buffer)?;
                if inferred
                    && (number::is_identifier(plain)
                        || !number::fits_decimal(plain, *precision, *scale))
                {
                    return None;
                }
                number::parse_decimal(plain, *precision, *scale)
            },
            |value| values.push(value.unwrap_or(0)),
        ),
        Values::Date(values) => fill(
            nulls,
            cells,
            mismatched,
            |text| datetime::parse_date(text, format),
            |value| values.push(value.unwrap_or(0)),
        ),
        Values::Time(values) => fill(
            nulls,
            cells,
            mismatched,
            |text| datetime::parse_time(text.as_bytes()),
            |value| values.push(value.unwrap_or(0)),
        ),
        Values::Timestamp(values) => fill(
            nulls,
            cells,
            mismatched,
            |text| datetime::parse_timestamp(text, format),
            |value| values.push(value.unwrap_or(0)),
        ),
        Values::Instant(values, _) => fill(
            nulls,
            cells,
            mismatched,
            |text| datetime::parse_instant(text, format),
            |value| values.push(value.unwrap_or(0)),
        ),
        Values::Text(offsets, bytes, TextRule::Any) => {
            fill(nulls, cells, mismatched, Some, |value: Option<&str>| {
                bytes.extend_from_slice(value.unwrap_or("").as_bytes());
                offsets.push(offset(bytes));
            })
        }
        Values::Text(offsets, bytes, rule) => fill(
            nulls,
            cells,
            mismatched,
            |text| rule.accept(text),
            |value: Option<String>| {
                bytes.extend_from_slice(value.as_deref().unwrap_or("").as_bytes());
                offsets.push(offset(bytes));
            },
        ),
        Values::Binary(offsets, bytes) => fill(
            nulls,
            cells,
            mismatched,
            parse_hex,
            |value: Option<Vec<u8>>| {
                bytes.extend_from_slice(value.as_deref().unwrap_or(&[]));
                offsets.push(offset(bytes));
            },
        ),
    }
}

fn fill<'a, T>(
    nulls: &mut NullBufferBuilder,
    cells: impl Iterator<Item = Option<&'a str>>,
    mut mismatched: impl FnMut(usize),
    parse: impl Fn(&'a str) -> Option<T>,
    mut push: impl FnMut(Option<T>),
) -> Option<Mismatch> {
    let mut fault = None;
    for (index, cell) in cells.enumerate() {
        let value = match cell {
            None => None,
            Some(text) => {
                let value = parse(text);
                if value.is_none() {
                    mismatched(index);
                    fault = Some(Mismatch);
                }
                value
            }
        };
        if value.is_some() {
            nulls.append_non_null();
        } else {
            nulls.append_null();
        }
        push(value);
    }
    fault
}

const MICROS_PER_DAY: i64 = 86_400_000_000;

/// The text a person would see for a typed cell.
pub fn native_text(native: Native<'_>) -> String {
    match native {
        Native::Text(text) => text.to_owned(),
        Native::Boolean(value) => value.to_string(),
        Native::Integer(value) => value.to_string(),
        Native::Float(value) => match whole(value) {
            Ok(whole) => whole.to_string(),
            Err(()) => value.to_string(),
        },
        Native::DateTime(micros) => match chrono::DateTime::from_timestamp_micros(micros) {
            Some(time) if micros % MICROS_PER_DAY == 0 => time.format("%Y-%m-%d").to_string(),
            Some(time) => time.format("%Y-%m-%d %H:%M:%S%.f").to_string(),
            None => micros.to_string(),
        },
        Native::Duration(micros) => {
            let (seconds, fraction) = (micros / 1_000_000, micros % 1_000_000);
            let clock = format!(
                "{:02}:{:02}:{:02}",
                seconds / 3600,
                seconds / 60 % 60,
                seconds % 60
            );
            match fraction {
                0 => clock,
                fraction => format!("{clock}.{fraction:06}")
                    .trim_end_matches('0')
                    .to_owned(),
            }
        }
    }
}

/// Strings of one array stay far below this: a batch is cut by its size in bytes.
fn offset(bytes: &[u8]) -> i32 {
    i32::try_from(bytes.len()).unwrap_or(i32::MAX)
}

fn push<T, E>(values: &mut Vec<T>, value: Result<T, E>) -> bool {
    value.map(|value| values.push(value)).is_ok()
}

/// The integer a float stands for, where a float is exact.
fn whole(value: f64) -> Result<i64, ()> {
    if value.fract() == 0.0 && value.abs() <= 9_007_199_254_740_992.0 {
        Ok(value as i64)
    } else {
        Err(())
    }
}

fn integer(text: &str, format: &ValueFormat, inferred: bool) -> Option<i64> {
    let mut buffer = [0; 64];
    let plain = number::normalize(text.as_bytes(), format, &mut buffer)?;
    plain_integer(plain, inferred)
}

fn float(text: &str, format: &ValueFormat, inferred: bool) -> Option<f64> {
    let mut buffer = [0; 64];
    let plain = number::normalize(text.as_bytes(), format, &mut buffer)?;
    plain_float(plain, inferred)
}

#[inline]
fn plain_integer(text: &[u8], inferred: bool) -> Option<i64> {
    if inferred && number::is_identifier(text) {
        return None;
    }
    number::parse_i64(text)
}

#[inline]
fn plain_float(text: &[u8], inferred: bool) -> Option<f64> {
    let value = number::parse_f64(text)?;
    if inferred && (number::is_identifier(text) || !number::is_exact(text, value)) {
        return None;
    }
    Some(value)
}

fn parse_bool(text: &str) -> Option<bool> {
    const TRUE: [&str; 6] = ["true", "t", "yes", "y", "on", "1"];
    const FALSE: [&str; 6] = ["false", "f", "no", "n", "off", "0"];
    let is_any = |words: &[&str]| words.iter().any(|word| word.eq_ignore_ascii_case(text));
    if is_any(&TRUE) {
        Some(true)
    } else if is_any(&FALSE) {
        Some(false)
    } else {
        None
    }
}

/// PostgreSQL's `\x` form; any other text is its own bytes.
fn parse_hex(text: &str) -> Option<Vec<u8>> {
    let Some(digits) = text.strip_prefix("\\x") else {
        return Some(text.as_bytes().to_vec());
    };
    let digits = digits.as_bytes();
    if digits.len() % 2 != 0 {
        return None;
    }
    let digit = |byte: u8| {
        char::from(byte)
            .to_digit(16)
            .and_then(|digit| u8::try_from(digit).ok())
    };
    digits
        .chunks_exact(2)
        .map(|pair| Some(digit(pair[0])? * 16 + digit(pair[1])?))
        .collect()
}

/// The PostgreSQL type a field stands for, where Arrow alone does not say it.
fn text_rule(field: &Field) -> TextRule {
    match ColumnType::from_field(field) {
        ColumnType::Uuid => TextRule::Uuid,
        ColumnType::Json | ColumnType::Jsonb => TextRule::Json,
        ColumnType::Varchar(Some(length)) | ColumnType::Char(length) => {
            TextRule::AtMost(usize::try_from(length).unwrap_or(usize::MAX))
        }
        _ => TextRule::Any,
    }
}

impl TextRule {
    fn accept(self, text: &str) -> Option<String> {
        match self {
            Self::Any => Some(text.to_owned()),
            Self::Uuid => parse_uuid(text),
            Self::Json => serde_json::from_str::<serde::de::IgnoredAny>(text)
                .is_ok()
                .then(|| text.to_owned()),
            Self::AtMost(length) => (text.chars().count() <= length).then(|| text.to_owned()),
        }
    }
}

/// PostgreSQL's forms of a UUID, in its canonical one.
fn parse_uuid(text: &str) -> Option<String> {
    let inner = text
        .strip_prefix('{')
        .and_then(|t| t.strip_suffix('}'))
        .unwrap_or(text);
    let digits: String = inner
        .chars()
        .filter(|&c| c != '-')
        .map(|c| c.to_ascii_lowercase())
        .collect();
    if digits.len() != 32 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let parts = [
        &digits[..8],
        &digits[8..12],
        &digits[12..16],
        &digits[16..20],
        &digits[20..],
    ];
    Some(parts.join("-"))
}

#[cfg(test)]
mod tests;
