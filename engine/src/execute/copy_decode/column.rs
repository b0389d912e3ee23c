//! One column being filled with values as PostgreSQL writes them, as text or binary.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryBuilder, BooleanBuilder, Date32Builder, Decimal128Builder, Float32Builder,
    Float64Builder, Int16Builder, Int32Builder, Int64Builder, IntervalMonthDayNanoBuilder,
    ListArray, NullBufferBuilder, StringBuilder, Time64MicrosecondBuilder,
    TimestampMicrosecondBuilder,
};
use arrow::buffer::{OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, FieldRef, IntervalMonthDayNano};
use boathouse_catalog::types::{ColumnType, NUMERIC_PRECISION_MAX};

use super::{interval, moment, number};
use crate::error::{SqlError, SqlState};

/// Gathers the values of one column. A value that is refused is not appended.
pub struct ColumnBuilder {
    values: Values,
    /// Of timestamps that name no zone.
    time_zone: String,
}

enum Values {
    Boolean(BooleanBuilder),
    SmallInt(Int16Builder),
    Integer(Int32Builder),
    BigInt(Int64Builder),
    Real(Float32Builder),
    Double(Float64Builder),
    Numeric {
        builder: Decimal128Builder,
        precision: u8,
        scale: i8,
    },
    Text {
        builder: StringBuilder,
        kind: ColumnType,
    },
    Bytea(BinaryBuilder),
    Date(Date32Builder),
    Time(Time64MicrosecondBuilder),
    Timestamp(TimestampMicrosecondBuilder),
    TimestampTz(TimestampMicrosecondBuilder),
    Interval(IntervalMonthDayNanoBuilder),
    Array(Box<ArrayValues>),
}

struct ArrayValues {
    element: FieldRef,
    element_type: ColumnType,
    elements: ColumnBuilder,
    offsets: Vec<i32>,
    nulls: NullBufferBuilder,
}

impl ColumnBuilder {
    pub fn new(column_type: &ColumnType, time_zone: &str, capacity: usize) -> Self {
        let values = match column_type {
            ColumnType::Boolean => Values::Boolean(BooleanBuilder::with_capacity(capacity)),
            ColumnType::SmallInt => Values::SmallInt(Int16Builder::with_capacity(capacity)),
            ColumnType::Integer => Values::Integer(Int32Builder::with_capacity(capacity)),
            ColumnType::BigInt => Values::BigInt(Int64Builder::with_capacity(capacity)),
            ColumnType::Real => Values::Real(Float32Builder::with_capacity(capacity)),
            ColumnType::Double => Values::Double(Float64Builder::with_capacity(capacity)),
            ColumnType::Numeric { precision, scale } => Values::Numeric {
                builder: Decimal128Builder::with_capacity(capacity)
                    .with_data_type(column_type.arrow()),
                precision: precision.unwrap_or(NUMERIC_PRECISION_MAX),
                scale: *scale,
            },
            ColumnType::Text
            | ColumnType::Varchar(_)
            | ColumnType::Char(_)
            | ColumnType::Uuid
            | ColumnType::Json
            | ColumnType::Jsonb => Values::Text {
                builder: StringBuilder::with_capacity(capacity, 0),
                kind: column_type.clone(),
            },
            ColumnType::Bytea => Values::Bytea(BinaryBuilder::with_capacity(capacity, 0)),
            ColumnType::Date => Values::Date(Date32Builder::with_capacity(capacity)),
            ColumnType::Time => Values::Time(Time64MicrosecondBuilder::with_capacity(capacity)),
            ColumnType::Timestamp => Values::Timestamp(
                TimestampMicrosecondBuilder::with_capacity(capacity)
                    .with_data_type(column_type.arrow()),
            ),
            ColumnType::TimestampTz => Values::TimestampTz(
                TimestampMicrosecondBuilder::with_capacity(capacity)
                    .with_data_type(column_type.arrow()),
            ),
            ColumnType::Interval => {
                Values::Interval(IntervalMonthDayNanoBuilder::with_capacity(capacity))
            }
            ColumnType::Array(element_type) => Values::Array(Box::new(ArrayValues {
                element: element_field(column_type, element_type),
                element_type: (**element_type).clone(),
                elements: Self::new(element_type, time_zone, capacity),
                offsets: vec![0],
                nulls: NullBufferBuilder::new(capacity),
            })),
        };
        Self {
            values,
            time_zone: time_zone.to_owned(),
        }
    }

    pub fn len(&self) -> usize {
        use arrow::array::ArrayBuilder;
        match &self.values {
            Values::Boolean(builder) => builder.len(),
            Values::SmallInt(builder) => builder.len(),
            Values::Integer(builder) => builder.len(),
            Values::BigInt(builder) => builder.len(),
            Values::Real(builder) => builder.len(),
            Values::Double(builder) => builder.len(),
            Values::Numeric { builder, .. } => builder.len(),
            Values::Text { builder, .. } => builder.len(),
            Values::Bytea(builder) => builder.len(),
            Values::Date(builder) => builder.len(),
            Values::Time(builder) => builder.len(),
            Values::Timestamp(builder) | Values::TimestampTz(builder) => builder.len(),
            Values::Interval(builder) => builder.len(),
            Values::Array(array) => array.nulls.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn append_null(&mut self) {
        match &mut self.values {
            Values::Boolean(builder) => builder.append_null(),
            Values::SmallInt(builder) => builder.append_null(),
            Values::Integer(builder) => builder.append_null(),
            Values::BigInt(builder) => builder.append_null(),
            Values::Real(builder) => builder.append_null(),
            Values::Double(builder) => builder.append_null(),
            Values::Numeric { builder, .. } => builder.append_null(),
            Values::Text { builder, .. } => builder.append_null(),
            Values::Bytea(builder) => builder.append_null(),
            Values::Date(builder) => builder.append_null(),
            Values::Time(builder) => builder.append_null(),
            Values::Timestamp(builder) | Values::TimestampTz(builder) => builder.append_null(),
            Values::Interval(builder) => builder.append_null(),
            Values::Array(array) => {
                array.offsets.push(array.elements.len() as i32);
                array.nulls.append_null();
            }
        }
    }

    /// Reads a value's text.
    pub fn append_text(&mut self, text: &str) -> Result<(), SqlError> {
        match &mut self.values {
            Values::Boolean(builder) => builder.append_value(number::boolean(text)?),
            Values::SmallInt(builder) => builder.append_value(number::integer(text, "smallint")?),
            Values::Integer(builder) => builder.append_value(number::integer(text, "integer")?),
            Values::BigInt(builder) => builder.append_value(number::integer(text, "bigint")?),
            Values::Real(builder) => builder.append_value(number::real(text)?),
            Values::Double(builder) => builder.append_value(number::double(text)?),
            Values::Numeric {
                builder,
                precision,
                scale,
            } => {
                builder.append_value(number::decimal(text, *precision, *scale)?);
            }
            Values::Text { builder, kind } => append_text(builder, kind, text)?,
            Values::Bytea(builder) => builder.append_value(bytea(text)?),
            Values::Date(builder) => builder.append_value(moment::date(text)?),
            Values::Time(builder) => builder.append_value(moment::time(text)?),
            Values::Timestamp(builder) => builder.append_value(moment::timestamp(text)?),
            Values::TimestampTz(builder) => {
                builder.append_value(moment::timestamptz(text, &self.time_zone)?);
            }
            Values::Interval(builder) => builder.append_value(interval::interval(text)?),
            Values::Array(array) => array.append_text(text)?,
        }
        Ok(())
    }

    /// Reads a value's binary form.
    pub fn append_binary(&mut self, bytes: &[u8]) -> Result<(), SqlError> {
        match &mut self.values {
            Values::Boolean(builder) => builder.append_value(exact::<1>(bytes)? != [0]),
            Values::SmallInt(builder) => builder.append_value(i16::from_be_bytes(exact(bytes)?)),
            Values::Integer(builder) => builder.append_value(i32::from_be_bytes(exact(bytes)?)),
            Values::BigInt(builder) => builder.append_value(i64::from_be_bytes(exact(bytes)?)),
            Values::Real(builder) => builder.append_value(f32::from_be_bytes(exact(bytes)?)),
            Values::Double(builder) => builder.append_value(f64::from_be_bytes(exact(bytes)?)),
            Values::Numeric {
                builder,
                precision,
                scale,
            } => {
                builder.append_value(number::decimal_from_binary(bytes, *precision, *scale)?);
            }
            Values::Text { builder, kind } => append_text_binary(builder, kind, bytes)?,
            Values::Bytea(builder) => builder.append_value(bytes),
            Values::Date(builder) => {
                let days = i32::from_be_bytes(exact(bytes)?);
                builder.append_value(
                    days.checked_add(moment::EPOCH_DAYS)
                        .ok_or_else(wrong_size)?,
                );
            }
            Values::Time(builder) => builder.append_value(i64::from_be_bytes(exact(bytes)?)),
            Values::Timestamp(builder) | Values::TimestampTz(builder) => {
                let since_2000 = i64::from_be_bytes(exact(bytes)?);
                if matches!(since_2000, i64::MAX | i64::MIN) {
                    return Err(SqlError::unsupported("timestamp \"infinity\"")
                        .hint("use a far date, or null"));
                }
                let epoch = i64::from(moment::EPOCH_DAYS) * moment::DAY;
                builder.append_value(since_2000.checked_add(epoch).ok_or_else(wrong_size)?);
            }
            Values::Interval(builder) => {
                let [a, b, c, d, e, f, g, h, rest @ ..] = exact::<16>(bytes)?;
                let microseconds = i64::from_be_bytes([a, b, c, d, e, f, g, h]);
                let [a, b, c, d, e, f, g, h] = rest;
                builder.append_value(IntervalMonthDayNano {
                    months: i32::from_be_bytes([e, f, g, h]),
                    days: i32::from_be_bytes([a, b, c, d]),
                    nanoseconds: microseconds.checked_mul(1_000).ok_or_else(wrong_size)?,
                });
            }
            Values::Array(array) => array.append_binary(bytes)?,
        }
        Ok(())
    }

    /// The values since the last call, in [`ColumnType::arrow`]'s type.
    pub fn finish(&mut self) -> Result<ArrayRef, SqlError> {
        Ok(match &mut self.values {
            Values::Boolean(builder) => Arc::new(builder.finish()),
            Values::SmallInt(builder) => Arc::new(builder.finish()),
            Values::Integer(builder) => Arc::new(builder.finish()),
            Values::BigInt(builder) => Arc::new(builder.finish()),
            Values::Real(builder) => Arc::new(builder.finish()),
            Values::Double(builder) => Arc::new(builder.finish()),
            Values::Numeric { builder, .. } => Arc::new(builder.finish()),
            Values::Text { builder, .. } => Arc::new(builder.finish()),
            Values::Bytea(builder) => Arc::new(builder.finish()),
            Values::Date(builder) => Arc::new(builder.finish()),
            Values::Time(builder) => Arc::new(builder.finish()),
            Values::Timestamp(builder) | Values::TimestampTz(builder) => Arc::new(builder.finish()),
            Values::Interval(builder) => Arc::new(builder.finish()),
            Values::Array(array) => {
                let offsets = std::mem::replace(&mut array.offsets, vec![0]);
                let list = ListArray::try_new(
                    array.element.clone(),
                    OffsetBuffer::new(ScalarBuffer::from(offsets)),
                    array.elements.finish()?,
                    array.nulls.finish(),
                );
                Arc::new(list.map_err(|error| {
                    SqlError::internal("could not build an array").caused_by(error)
                })?)
            }
        })
    }
}

impl ArrayValues {
    fn append_text(&mut self, text: &str) -> Result<(), SqlError> {
        let malformed = || {
            SqlError::new(
                SqlState::INVALID_TEXT_REPRESENTATION,
                format!("malformed array literal: \"{text}\""),
            )
        };
        let inside = text
            .trim_ascii()
            .strip_prefix('{')
            .and_then(|rest| rest.strip_suffix('}'))
            .ok_or_else(malformed)?;
        let elements = split_elements(inside).ok_or_else(malformed)?;
        // Read apart first, so that a bad element leaves nothing behind.
        let mut apart =
            ColumnBuilder::new(&self.element_type, &self.elements.time_zone, elements.len());
        for element in &elements {
            match element {
                Some(element) => apart.append_text(element)?,
                None => apart.append_null(),
            }
        }
        for element in &elements {
            match element {
                Some(element) => self.elements.append_text(element)?,
                None => self.elements.append_null(),
            }
        }
        self.end();
        Ok(())
    }

    fn append_binary(&mut self, bytes: &[u8]) -> Result<(), SqlError> {
        let bad = || SqlError::new(SqlState("22P03"), "invalid binary data for an array");
        let mut rest = bytes;
        let mut number = || -> Result<i32, SqlError> {
            let (first, after) = rest.split_first_chunk::<4>().ok_or_else(bad)?;
            rest = after;
            Ok(i32::from_be_bytes(*first))
        };
        let (dimensions, _has_nulls, _oid) = (number()?, number()?, number()?);
        let count = match dimensions {
            0 => 0,
            1 => {
                let count = number()?;
                number()?;
                usize::try_from(count).map_err(|_| bad())?
            }
            _ => {
                return Err(SqlError::unsupported(
                    "a binary array of several dimensions",
                ));
            }
        };
        let mut values = Vec::new();
        for _ in 0..count {
            let (length, after) = rest.split_first_chunk::<4>().ok_or_else(bad)?;
            rest = after;
            values.push(match usize::try_from(i32::from_be_bytes(*length)) {
                Ok(length) => {
                    let (value, after) = rest.split_at_checked(length).ok_or_else(bad)?;
                    rest = after;
                    Some(value)
                }
                Err(_) => None,
            });
        }
        let mut apart =
            ColumnBuilder::new(&self.element_type, &self.elements.time_zone, values.len());
        for value in values.iter().flatten() {
            apart.append_binary(value)?;
        }
        for value in values {
            match value {
                Some(value) => self.elements.append_binary(value)?,
                None => self.elements.append_null(),
            }
        }
        self.end();
        Ok(())
    }

    fn end(&mut self) {
        self.offsets.push(self.elements.len() as i32);
        self.nulls.append_non_null();
    }
}

/// The field of the elements as [`ColumnType::arrow`] names it.
fn element_field(array: &ColumnType, element: &ColumnType) -> FieldRef {
    match array.arrow() {
        DataType::List(field) => field,
        _ => Arc::new(element.to_field("item", true)),
    }
}

/// The elements between the outer braces; `None` when they are malformed.
fn split_elements(inside: &str) -> Option<Vec<Option<String>>> {
    let mut elements = Vec::new();
    if inside.trim_ascii().is_empty() {
        return Some(elements);
    }
    let mut element = String::new();
    let mut quoted = false;
    let mut in_quotes = false;
    let mut depth = 0usize;
    let mut characters = inside.chars();
    let mut end = |element: &mut String, quoted: &mut bool| -> Option<()> {
        let text = std::mem::take(element);
        let text = if *quoted {
            text
        } else {
            text.trim_ascii().to_owned()
        };
        if !*quoted && text.is_empty() {
            return None;
        }
        let null = !*quoted && text.eq_ignore_ascii_case("null");
        elements.push((!null).then_some(text));
        *quoted = false;
        Some(())
    };
    while let Some(character) = characters.next() {
        match character {
            '\\' => {
                let escaped = characters.next()?;
                if depth > 0 {
                    element.push('\\');
                }
                element.push(escaped);
            }
            '"' => {
                in_quotes = !in_quotes;
                if depth > 0 {
                    element.push('"');
                } else {
                    quoted = true;
                }
            }
            '{' if !in_quotes => {
                depth += 1;
                element.push('{');
            }
            '}' if !in_quotes => {
                depth = depth.checked_sub(1)?;
                element.push('}');
            }
            ',' if !in_quotes && depth == 0 => end(&mut element, &mut quoted)?,
            other if quoted && !in_quotes && depth == 0 => {
                if !other.is_ascii_whitespace() {
                    return None;
                }
            }
            other if !quoted && element.is_empty() && other.is_ascii_whitespace() => {}
            other => element.push(other),
        }
    }
    if in_quotes || depth > 0 {
        return None;
    }
    end(&mut element, &mut quoted)?;
    Some(elements)
}

fn append_text(builder: &mut StringBuilder, kind: &ColumnType, text: &str) -> Result<(), SqlError> {
    match kind {
        ColumnType::Varchar(Some(length)) | ColumnType::Char(length) => {
            builder.append_value(limited(text, *length, kind)?);
        }
        ColumnType::Uuid => builder.append_value(uuid(text)?),
        ColumnType::Json | ColumnType::Jsonb => {
            if let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(text) {
                return Err(SqlError::new(
                    SqlState::INVALID_TEXT_REPRESENTATION,
                    "invalid input syntax for type json",
                )
                .detail(format!("{error}")));
            }
            builder.append_value(text);
        }
        _ => builder.append_value(text),
    }
    Ok(())
}

fn append_text_binary(
    builder: &mut StringBuilder,
    kind: &ColumnType,
    bytes: &[u8],
) -> Result<(), SqlError> {
    let bytes = match (kind, bytes) {
        (ColumnType::Uuid, _) => {
            let value = uuid::Uuid::from_bytes(exact(bytes)?);
            builder.append_value(value.hyphenated().to_string());
            return Ok(());
        }
        (ColumnType::Jsonb, [1, rest @ ..]) => rest,
        (ColumnType::Jsonb, _) => {
            return Err(SqlError::new(
                SqlState("22P03"),
                "unsupported jsonb version number",
            ));
        }
        _ => bytes,
    };
    let text = std::str::from_utf8(bytes).map_err(|error| {
        SqlError::new(
            SqlState("22021"),
            format!(
                "invalid byte sequence for encoding \"UTF8\": 0x{:02x}",
                bytes[error.valid_up_to()]
            ),
        )
    })?;
    append_text(builder, kind, text)
}

/// Blanks beyond the length are cut, anything else is refused.
fn limited<'a>(text: &'a str, length: u32, kind: &ColumnType) -> Result<&'a str, SqlError> {
    let Some((end, _)) = text.char_indices().nth(length as usize) else {
        return Ok(text);
    };
    if text[end..].bytes().all(|byte| byte == b' ') {
        return Ok(&text[..end]);
    }
    Err(SqlError::new(
        SqlState("22001"),
        format!("value too long for type {}", kind.sql_name()),
    ))
}

fn uuid(text: &str) -> Result<String, SqlError> {
    let bare = text.trim_ascii();
    let bare = bare
        .strip_prefix('{')
        .and_then(|rest| rest.strip_suffix('}'))
        .unwrap_or(bare);
    let digits: String = bare.chars().filter(|character| *character != '-').collect();
    match uuid::Uuid::try_parse(&digits) {
        Ok(value) if digits.len() == 32 => Ok(value.hyphenated().to_string()),
        _ => Err(number::invalid("uuid", text)),
    }
}

/// `\x6162`, or the older `a\142\\`.
fn bytea(text: &str) -> Result<Vec<u8>, SqlError> {
    let Some(hex) = text.strip_prefix("\\x") else {
        return bytea_escaped(text);
    };
    let mut bytes = Vec::with_capacity(hex.len() / 2);
    let mut high = None;
    for character in hex
        .chars()
        .filter(|character| !character.is_ascii_whitespace())
    {
        let Some(digit) = character.to_digit(16) else {
            return Err(SqlError::new(
                SqlState::INVALID_PARAMETER_VALUE,
                format!("invalid hexadecimal digit: \"{character}\""),
            ));
        };
        match high.take() {
            Some(first) => bytes.push((first << 4 | digit) as u8),
            None => high = Some(digit),
        }
    }
    match high {
        None => Ok(bytes),
        Some(_) => Err(SqlError::new(
            SqlState::INVALID_PARAMETER_VALUE,
            "invalid hexadecimal data: odd number of digits",
        )),
    }
}

fn bytea_escaped(text: &str) -> Result<Vec<u8>, SqlError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        match *after {
            [b'\\', ..] => {
                bytes.push(b'\\');
                rest = &after[1..];
            }
            [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..] => {
                bytes.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest = &after[3..];
            }
            _ => return Err(number::invalid("bytea", text)),
        }
    }
    Ok(bytes)
}

fn exact<const N: usize>(bytes: &[u8]) -> Result<[u8; N], SqlError> {
    <[u8; N]>::try_from(bytes).map_err(|_| wrong_size())
}

fn wrong_size() -> SqlError {
    SqlError::new(SqlState("22P03"), "incorrect binary data format")
}
