//! Arrow columns as PostgreSQL values: its exact text, its exact binary form.
//!
//! ```text
//! array -> Column::new (casts what has no form of its own) -> append_text | append_binary, per row
//! ```
//!
//! A [`Column`] is made once per batch; appending a value allocates nothing. Whoever frames the
//! values (a `DataRow`, a COPY line, an array) writes the lengths, quotes and separators.

mod array;
mod interval;
mod json;
mod moment;
mod number;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BinaryViewArray, BooleanArray, Date32Array,
    Decimal128Array, Decimal256Array, Float32Array, Float64Array, Int16Array, Int32Array,
    Int64Array, IntervalMonthDayNanoArray, LargeBinaryArray, LargeStringArray, StringArray,
    StringViewArray, Time64MicrosecondArray, TimestampMicrosecondArray,
};
use arrow::buffer::NullBuffer;
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Decimal256Type, Float32Type, Float64Type, Int16Type,
    Int32Type, Int64Type, IntervalMonthDayNanoType, IntervalUnit, Time64MicrosecondType, TimeUnit,
    TimestampMicrosecondType,
};
use arrow::error::ArrowError;
use boathouse_catalog::types::ColumnType;

pub use moment::Zone;

/// The session's settings that show in a value's text.
#[derive(Debug, Clone)]
pub struct Style {
    pub zone: Zone,
    /// `extra_float_digits`: above 0 is the shortest text that reads back exactly.
    pub extra_float_digits: i32,
    /// `bytea_output = 'escape'`.
    pub bytea_escape: bool,
    /// `intervalstyle = 'iso_8601'`.
    pub interval_iso: bool,
}

impl Default for Style {
    fn default() -> Self {
        Self {
            zone: Zone::Utc,
            extra_float_digits: 1,
            bytea_escape: false,
            interval_iso: false,
        }
    }
}

/// One column of one batch, ready to be written value by value.
pub struct Column {
    nulls: Option<NullBuffer>,
    values: Values,
}

/// What sets text apart in its binary form.
#[derive(Clone, Copy, PartialEq, Eq)]
enum TextKind {
    Plain,
    Uuid,
    Jsonb,
}

enum Values {
    Null,
    Boolean(BooleanArray),
    Int16(Int16Array),
    Int32(Int32Array),
    Int64(Int64Array),
    Float32(Float32Array),
    Float64(Float64Array),
    Decimal {
        array: Decimal128Array,
        scale: i8,
        trimmed: bool,
    },
    WideDecimal {
        array: Decimal256Array,
        trimmed: bool,
    },
    Text(StringArray, TextKind),
    LargeText(LargeStringArray, TextKind),
    ViewText(StringViewArray, TextKind),
    Json(ArrayRef, TextKind),
    Bytes(BinaryArray),
    LargeBytes(LargeBinaryArray),
    ViewBytes(BinaryViewArray),
    Date(Date32Array),
    Time(Time64MicrosecondArray),
    Timestamp(TimestampMicrosecondArray),
    TimestampTz(TimestampMicrosecondArray),
    Interval(IntervalMonthDayNanoArray),
    List(array::ListColumn),
}

impl Column {
    /// Fails when the array cannot be taken for the type the client was told.
    pub fn new(array: &ArrayRef, column_type: &ColumnType) -> Result<Self, ArrowError> {
        let array = normalise(array, column_type)?;
        let values = values(&array, column_type)?;
        Ok(Self {
            nulls: array.logical_nulls(),
            values,
        })
    }

    #[inline]
    pub fn is_null(&self, row: usize) -> bool {
        self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row))
    }

    /// Whether no value's text holds anything but letters, digits, blanks and `+-.:`.
    pub fn is_bare(&self) -> bool {
        matches!(
            self.values,
            Values::Boolean(_)
                | Values::Int16(_)
                | Values::Int32(_)
                | Values::Int64(_)
                | Values::Float32(_)
                | Values::Float64(_)
                | Values::Decimal { .. }
                | Values::WideDecimal { .. }
                | Values::Date(_)
                | Values::Time(_)
                | Values::Timestamp(_)
                | Values::TimestampTz(_)
                | Values::Interval(_)
        )
    }

    /// Appends the text of a value that is not null.
    #[inline]
    pub fn append_text(&self, row: usize, style: &Style, out: &mut Vec<u8>) {
        match &self.values {
            Values::Null => {}
            Values::Boolean(array) => out.push(if array.value(row) { b't' } else { b'f' }),
            Values::Int16(array) => number::append_integer(out, array.value(row)),
            Values::Int32(array) => number::append_integer(out, array.value(row)),
            Values::Int64(array) => number::append_integer(out, array.value(row)),
            Values::Float32(array) => {
                number::append_float4(out, array.value(row), style.extra_float_digits);
            }
            Values::Float64(array) => {
                number::append_float8(out, array.value(row), style.extra_float_digits);
            }
            Values::Decimal {
                array,
                scale,
                trimmed,
            } => {
                number::append_decimal(out, array.value(row), *scale, *trimmed);
            }
            Values::WideDecimal { array, trimmed } => {
                out.extend_from_slice(number::trim(&array.value_as_string(row), *trimmed));
            }
            Values::Text(array, _) => out.extend_from_slice(array.value(row).as_bytes()),
            Values::LargeText(array, _) => out.extend_from_slice(array.value(row).as_bytes()),
            Values::ViewText(array, _) => out.extend_from_slice(array.value(row).as_bytes()),
            Values::Json(array, _) => json::append(out, array, row),
            Values::Bytes(array) => append_bytea(out, array.value(row), style),
            Values::LargeBytes(array) => append_bytea(out, array.value(row), style),
            Values::ViewBytes(array) => append_bytea(out, array.value(row), style),
            Values::Date(array) => moment::append_date(out, array.value(row)),
            Values::Time(array) => moment::append_time(out, array.value(row)),
            Values::Timestamp(array) => moment::append_timestamp(out, array.value(row)),
            Values::TimestampTz(array) => {
                moment::append_timestamptz(out, array.value(row), &style.zone);
            }
            Values::Interval(array) if style.interval_iso => {
                interval::append_iso(out, array.value(row));
            }
            Values::Interval(array) => interval::append_text(out, array.value(row)),
            Values::List(list) => list.append_text(row, style, out),
        }
    }

    /// Appends the binary form of a value that is not null.
    #[inline]
    pub fn append_binary(&self, row: usize, out: &mut Vec<u8>) {
        match &self.values {
            Values::Null => {}
            Values::Boolean(array) => out.push(u8::from(array.value(row))),
            Values::Int16(array) => out.extend_from_slice(&array.value(row).to_be_bytes()),
            Values::Int32(array) => out.extend_from_slice(&array.value(row).to_be_bytes()),
            Values::Int64(array) => out.extend_from_slice(&array.value(row).to_be_bytes()),
            Values::Float32(array) => out.extend_from_slice(&array.value(row).to_be_bytes()),
            Values::Float64(array) => out.extend_from_slice(&array.value(row).to_be_bytes()),
            Values::Decimal {
                array,
                scale,
                trimmed,
            } => {
                number::append_decimal_binary(out, array.value(row), *scale, *trimmed);
            }
            Values::WideDecimal { array, .. } => {
                number::append_decimal_text_as_binary(out, &array.value_as_string(row));
            }
            Values::Text(array, kind) => append_text_as_binary(out, array.value(row), *kind),
            Values::LargeText(array, kind) => append_text_as_binary(out, array.value(row), *kind),
            Values::ViewText(array, kind) => append_text_as_binary(out, array.value(row), *kind),
            Values::Json(array, kind) => {
                if *kind == TextKind::Jsonb {
                    out.push(1);
                }
                json::append(out, array, row);
            }
            Values::Bytes(array) => out.extend_from_slice(array.value(row)),
            Values::LargeBytes(array) => out.extend_from_slice(array.value(row)),
            Values::ViewBytes(array) => out.extend_from_slice(array.value(row)),
            Values::Date(array) => {
                let days = array.value(row).saturating_sub(moment::EPOCH_DAYS);
                out.extend_from_slice(&days.to_be_bytes());
            }
            Values::Time(array) => out.extend_from_slice(&array.value(row).to_be_bytes()),
            Values::Timestamp(array) | Values::TimestampTz(array) => {
                let since_2000 = array.value(row).saturating_sub(moment::EPOCH_MICROSECONDS);
                out.extend_from_slice(&since_2000.to_be_bytes());
            }
            Values::Interval(array) => interval::append_binary(out, array.value(row)),
            Values::List(list) => list.append_binary(row, out),
        }
    }

    /// Appends the binary form behind its length, or -1 for null.
    #[inline]
    pub fn append_binary_field(&self, row: usize, out: &mut Vec<u8>) {
        if self.is_null(row) {
            out.extend_from_slice(&[0xff; 4]);
            return;
        }
        let start = begin_length(out);
        self.append_binary(row, out);
        end_length(out, start);
    }

    /// Appends the text behind its length, or -1 for null.
    #[inline]
    pub fn append_text_field(&self, row: usize, style: &Style, out: &mut Vec<u8>) {
        if self.is_null(row) {
            out.extend_from_slice(&[0xff; 4]);
            return;
        }
        let start = begin_length(out);
        self.append_text(row, style, out);
        end_length(out, start);
    }
}

#[inline]
pub fn begin_length(out: &mut Vec<u8>) -> usize {
    out.extend_from_slice(&[0; 4]);
    out.len()
}

/// Writes the count of bytes since [`begin_length`] in front of them.
#[inline]
pub fn end_length(out: &mut [u8], start: usize) {
    let length = (out.len() - start) as u32;
    out[start - 4..start].copy_from_slice(&length.to_be_bytes());
}

fn append_bytea(out: &mut Vec<u8>, bytes: &[u8], style: &Style) {
    if style.bytea_escape {
        for &byte in bytes {
            match byte {
                b'\\' => out.extend_from_slice(b"\\\\"),
                0x20..=0x7e => out.push(byte),
                _ => out.extend_from_slice(format!("\\{byte:03o}").as_bytes()),
            }
        }
        return;
    }
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.extend_from_slice(b"\\x");
    for &byte in bytes {
        out.push(DIGITS[usize::from(byte >> 4)]);
        out.push(DIGITS[usize::from(byte & 15)]);
    }
}

fn append_text_as_binary(out: &mut Vec<u8>, text: &str, kind: TextKind) {
    match kind {
        TextKind::Plain => out.extend_from_slice(text.as_bytes()),
        TextKind::Jsonb => {
            out.push(1);
            out.extend_from_slice(text.as_bytes());
        }
        TextKind::Uuid => {
            let mut value = 0u128;
            for digit in text.chars().filter_map(|character| character.to_digit(16)) {
                value = (value << 4) | u128::from(digit);
            }
            out.extend_from_slice(&value.to_be_bytes());
        }
    }
}

/// Gives the array the one physical type the column's values are written from.
fn normalise(array: &ArrayRef, column_type: &ColumnType) -> Result<ArrayRef, ArrowError> {
    use DataType as D;
    let fits = match (column_type, array.data_type()) {
        (_, D::Null)
        | (ColumnType::Boolean, D::Boolean)
        | (ColumnType::SmallInt, D::Int16)
        | (ColumnType::Integer, D::Int32)
        | (ColumnType::BigInt, D::Int64)
        | (ColumnType::Real, D::Float32)
        | (ColumnType::Double, D::Float64)
        | (ColumnType::Numeric { .. }, D::Decimal128(..) | D::Decimal256(..))
        | (ColumnType::Bytea, D::Binary | D::LargeBinary | D::BinaryView)
        | (ColumnType::Date, D::Date32)
        | (ColumnType::Time, D::Time64(TimeUnit::Microsecond))
        | (
            ColumnType::Timestamp | ColumnType::TimestampTz,
            D::Timestamp(TimeUnit::Microsecond, _),
        )
        | (ColumnType::Interval, D::Interval(IntervalUnit::MonthDayNano))
        | (ColumnType::Array(_), D::List(_)) => true,
        (
            ColumnType::Text
            | ColumnType::Varchar(_)
            | ColumnType::Char(_)
            | ColumnType::Uuid
            | ColumnType::Json
            | ColumnType::Jsonb,
            found,
        ) => matches!(
            found,
            D::Utf8
                | D::LargeUtf8
                | D::Utf8View
                | D::Struct(_)
                | D::Map(..)
                | D::List(_)
                | D::LargeList(_)
                | D::FixedSizeList(..)
        ),
        _ => false,
    };
    if fits {
        return Ok(array.clone());
    }
    let target = match (column_type, array.data_type()) {
        (ColumnType::Numeric { .. }, D::Decimal32(_, scale) | D::Decimal64(_, scale)) => {
            D::Decimal128(38, *scale)
        }
        (ColumnType::Array(_), D::LargeList(field) | D::FixedSizeList(field, _)) => {
            D::List(field.clone())
        }
        (ColumnType::Array(_), D::ListView(field) | D::LargeListView(field)) => {
            D::List(field.clone())
        }
        _ => column_type.arrow(),
    };
    cast_with_options(
        array,
        &target,
        &CastOptions {
            safe: false,
            ..CastOptions::default()
        },
    )
}

fn values(array: &ArrayRef, column_type: &ColumnType) -> Result<Values, ArrowError> {
    let kind = match column_type {
        ColumnType::Uuid => TextKind::Uuid,
        ColumnType::Jsonb => TextKind::Jsonb,
        _ => TextKind::Plain,
    };
    // A numeric without a scale is stored with one; the zeros behind it are not the value's.
    let trimmed = matches!(
        column_type,
        ColumnType::Numeric {
            precision: None,
            ..
        }
    );
    Ok(match array.data_type() {
        DataType::Null => Values::Null,
        DataType::Boolean => Values::Boolean(array.as_boolean().clone()),
        DataType::Int16 => Values::Int16(array.as_primitive::<Int16Type>().clone()),
        DataType::Int32 => Values::Int32(array.as_primitive::<Int32Type>().clone()),
        DataType::Int64 => Values::Int64(array.as_primitive::<Int64Type>().clone()),
        DataType::Float32 => Values::Float32(array.as_primitive::<Float32Type>().clone()),
        DataType::Float64 => Values::Float64(array.as_primitive::<Float64Type>().clone()),
        DataType::Decimal128(_, scale) => Values::Decimal {
            array: array.as_primitive::<Decimal128Type>().clone(),
            scale: *scale,
            trimmed,
        },
        DataType::Decimal256(..) => Values::WideDecimal {
            array: array.as_primitive::<Decimal256Type>().clone(),
            trimmed,
        },
        DataType::Utf8 => Values::Text(array.as_string::<i32>().clone(), kind),
        DataType::LargeUtf8 => Values::LargeText(array.as_string::<i64>().clone(), kind),
        DataType::Utf8View => Values::ViewText(array.as_string_view().clone(), kind),
        DataType::Binary => Values::Bytes(array.as_binary::<i32>().clone()),
        DataType::LargeBinary => Values::LargeBytes(array.as_binary::<i64>().clone()),
        DataType::BinaryView => Values::ViewBytes(array.as_binary_view().clone()),
        DataType::Date32 => Values::Date(array.as_primitive::<Date32Type>().clone()),
        DataType::Time64(TimeUnit::Microsecond) => {
            Values::Time(array.as_primitive::<Time64MicrosecondType>().clone())
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            let array = array.as_primitive::<TimestampMicrosecondType>().clone();
            match column_type {
                ColumnType::TimestampTz => Values::TimestampTz(array),
                _ => Values::Timestamp(array),
            }
        }
        DataType::Interval(IntervalUnit::MonthDayNano) => {
            Values::Interval(array.as_primitive::<IntervalMonthDayNanoType>().clone())
        }
        DataType::List(_) if matches!(column_type, ColumnType::Array(_)) => {
            Values::List(array::ListColumn::new(array.as_list::<i32>(), column_type)?)
        }
        DataType::Struct(_)
        | DataType::Map(..)
        | DataType::List(_)
        | DataType::LargeList(_)
        | DataType::FixedSizeList(..) => Values::Json(array.clone(), kind),
        other => {
            return Err(ArrowError::NotYetImplemented(format!(
                "values of type {other}"
            )));
        }
    })
}

#[cfg(test)]
mod tests;
