//! One cell as a function sees it, and the way from Arrow columns to cells and back.
//!
//! Most of PostgreSQL's functions are written over [`Value`]s, one row at a time: they are many,
//! rarely hot, and wrong when hurried. What is hot is taken from DataFusion or written over arrays.
//! A cell never panics on what a column holds: an Arrow type without a reader is an error.

use std::borrow::Cow;
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, BinaryBuilder, BooleanArray, Date32Array, Decimal128Array, Float32Array,
    Float64Array, Int16Array, Int32Array, Int64Array, IntervalMonthDayNanoArray, ListArray,
    StringBuilder, Time64MicrosecondArray, TimestampMicrosecondArray, new_null_array,
};
use datafusion::arrow::array::{AsArray, types as arrow_types};
use datafusion::arrow::buffer::OffsetBuffer;
use datafusion::arrow::compute::{cast, concat};
use datafusion::arrow::datatypes::{DataType, IntervalMonthDayNano, IntervalUnit, TimeUnit};

use crate::error::{SqlError, SqlState};

/// A cell. `Time` and `Timestamp` count microseconds, `Date` days since 1970.
#[derive(Debug, Clone)]
pub enum Value<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    /// A decimal: `unscaled` * 10^-`scale`.
    Numeric {
        unscaled: i128,
        scale: i8,
    },
    Text(Cow<'a, str>),
    Bytes(Cow<'a, [u8]>),
    Date(i32),
    Time(i64),
    Timestamp(i64),
    Interval(IntervalMonthDayNano),
    List(ArrayRef),
}

impl<'a> Value<'a> {
    pub fn text(text: impl Into<Cow<'a, str>>) -> Self {
        Self::Text(text.into())
    }

    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// The text of a text cell; empty for anything else.
    pub fn as_text(&self) -> &str {
        match self {
            Self::Text(text) => text,
            _ => "",
        }
    }

    /// A part of a text cell; not copied where the column holds it.
    pub fn part(&self, cut: impl Fn(&str) -> &str) -> Self {
        match self {
            Self::Text(Cow::Borrowed(text)) => Self::Text(Cow::Borrowed(cut(text))),
            other => Self::text(cut(other.as_text()).to_owned()),
        }
    }

    pub fn as_int(&self) -> i64 {
        match self {
            Self::Int(value) => *value,
            Self::Bool(value) => i64::from(*value),
            Self::Date(value) => i64::from(*value),
            Self::Time(value) | Self::Timestamp(value) => *value,
            Self::Float(value) => *value as i64,
            Self::Numeric { unscaled, scale } => {
                i64::try_from(rescale(*unscaled, *scale, 0).unwrap_or(0)).unwrap_or(0)
            }
            _ => 0,
        }
    }

    pub fn as_float(&self) -> f64 {
        match self {
            Self::Float(value) => *value,
            Self::Int(value) => *value as f64,
            Self::Numeric { unscaled, scale } => *unscaled as f64 / 10f64.powi(i32::from(*scale)),
            _ => 0.0,
        }
    }

    /// As a decimal; whole for an integer.
    pub fn as_numeric(&self) -> (i128, i8) {
        match self {
            Self::Numeric { unscaled, scale } => (*unscaled, *scale),
            Self::Int(value) => (i128::from(*value), 0),
            Self::Float(value) => ((value * 1e10).round() as i128, 10),
            _ => (0, 0),
        }
    }

    pub fn as_bool(&self) -> bool {
        matches!(self, Self::Bool(true))
    }

    pub fn as_interval(&self) -> IntervalMonthDayNano {
        match self {
            Self::Interval(interval) => *interval,
            _ => IntervalMonthDayNano::ZERO,
        }
    }

    pub fn as_list(&self) -> Option<&ArrayRef> {
        match self {
            Self::List(list) => Some(list),
            _ => None,
        }
    }
}

impl From<i64> for Value<'_> {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<bool> for Value<'_> {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<f64> for Value<'_> {
    fn from(value: f64) -> Self {
        Self::Float(value)
    }
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(value: &'a str) -> Self {
        Self::Text(Cow::Borrowed(value))
    }
}

impl From<String> for Value<'_> {
    fn from(value: String) -> Self {
        Self::Text(Cow::Owned(value))
    }
}

impl<'a, T: Into<Value<'a>>> From<Option<T>> for Value<'a> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// An instant.
impl From<chrono::DateTime<chrono::Utc>> for Value<'_> {
    fn from(value: chrono::DateTime<chrono::Utc>) -> Self {
        Self::Timestamp(value.timestamp_micros())
    }
}

/// An array of integers of 8 bytes.
impl From<Vec<i64>> for Value<'_> {
    fn from(values: Vec<i64>) -> Self {
        Self::List(Arc::new(Int64Array::from(values)))
    }
}

/// An array of text.
impl From<Vec<String>> for Value<'_> {
    fn from(values: Vec<String>) -> Self {
        Self::List(Arc::new(datafusion::arrow::array::StringArray::from(
            values,
        )))
    }
}

/// The powers of ten that 128 bits hold.
const POWERS: [i128; 39] = {
    let mut powers = [1; 39];
    let mut exponent = 1;
    while exponent < powers.len() {
        powers[exponent] = powers[exponent - 1] * 10;
        exponent += 1;
    }
    powers
};

/// Brings a decimal to another scale, rounding half away from zero. `None` when it does not fit.
pub fn rescale(unscaled: i128, from: i8, to: i8) -> Option<i128> {
    let factor = POWERS.get(usize::from(from.abs_diff(to)));
    if to >= from {
        return unscaled.checked_mul(*factor?);
    }
    let Some(factor) = factor else {
        return Some(0);
    };
    let quotient = unscaled / factor;
    let remainder = (unscaled - quotient * factor).unsigned_abs();
    Some(if remainder.saturating_mul(2) >= factor.unsigned_abs() {
        quotient + unscaled.signum()
    } else {
        quotient
    })
}

/// Reads the cells of one column.
pub enum Reader {
    Null,
    Bool(BooleanArray),
    Int16(Int16Array),
    Int32(Int32Array),
    Int64(Int64Array),
    Float32(Float32Array),
    Float64(Float64Array),
    Decimal(Decimal128Array, i8),
    Text(datafusion::arrow::array::StringArray),
    Bytes(datafusion::arrow::array::BinaryArray),
    Date(Date32Array),
    Time(Time64MicrosecondArray),
    Timestamp(TimestampMicrosecondArray),
    Interval(IntervalMonthDayNanoArray),
    List(ListArray),
}

fn wrong_type(data_type: &DataType) -> SqlError {
    SqlError::internal(format!(
        "no function reads a column of Arrow type {data_type}"
    ))
}

impl Reader {
    pub fn new(array: &ArrayRef) -> Result<Self, SqlError> {
        let to = |data_type: &DataType| {
            cast(array, data_type).map_err(|error| wrong_type(array.data_type()).caused_by(error))
        };
        Ok(match array.data_type() {
            DataType::Null => Self::Null,
            DataType::Boolean => Self::Bool(array.as_boolean().clone()),
            DataType::Int8 | DataType::UInt8 => Self::Int16(
                to(&DataType::Int16)?
                    .as_primitive::<arrow_types::Int16Type>()
                    .clone(),
            ),
            DataType::Int16 => Self::Int16(array.as_primitive::<arrow_types::Int16Type>().clone()),
            DataType::Int32 => Self::Int32(array.as_primitive::<arrow_types::Int32Type>().clone()),
            DataType::UInt16 | DataType::UInt32 | DataType::UInt64 => Self::Int64(
                to(&DataType::Int64)?
                    .as_primitive::<arrow_types::Int64Type>()
                    .clone(),
            ),
            DataType::Int64 => Self::Int64(array.as_primitive::<arrow_types::Int64Type>().clone()),
            DataType::Float32 => {
                Self::Float32(array.as_primitive::<arrow_types::Float32Type>().clone())
            }
            DataType::Float64 => {
                Self::Float64(array.as_primitive::<arrow_types::Float64Type>().clone())
            }
            DataType::Decimal128(_, scale) => Self::Decimal(
                array.as_primitive::<arrow_types::Decimal128Type>().clone(),
                *scale,
            ),
            DataType::Utf8 => Self::Text(array.as_string::<i32>().clone()),
            DataType::Utf8View | DataType::LargeUtf8 | DataType::Dictionary(_, _) => {
                Self::Text(to(&DataType::Utf8)?.as_string::<i32>().clone())
            }
            DataType::Binary => Self::Bytes(array.as_binary::<i32>().clone()),
            DataType::BinaryView | DataType::LargeBinary | DataType::FixedSizeBinary(_) => {
                Self::Bytes(to(&DataType::Binary)?.as_binary::<i32>().clone())
            }
            DataType::Date32 => Self::Date(array.as_primitive::<arrow_types::Date32Type>().clone()),
            DataType::Time32(_) | DataType::Time64(_) => Self::Time(
                to(&DataType::Time64(TimeUnit::Microsecond))?
                    .as_primitive::<arrow_types::Time64MicrosecondType>()
                    .clone(),
            ),
            DataType::Timestamp(_, zone) => Self::Timestamp(
                to(&DataType::Timestamp(TimeUnit::Microsecond, zone.clone()))?
                    .as_primitive::<arrow_types::TimestampMicrosecondType>()
                    .clone(),
            ),
            DataType::Interval(_) => Self::Interval(
                to(&DataType::Interval(IntervalUnit::MonthDayNano))?
                    .as_primitive::<arrow_types::IntervalMonthDayNanoType>()
                    .clone(),
            ),
            DataType::List(_) => Self::List(array.as_list::<i32>().clone()),
            DataType::LargeList(field) | DataType::FixedSizeList(field, _) => Self::List(
                to(&DataType::List(Arc::clone(field)))?
                    .as_list::<i32>()
                    .clone(),
            ),
            other => return Err(wrong_type(other)),
        })
    }

    pub fn value(&self, row: usize) -> Value<'_> {
        macro_rules! cell {
            ($array:expr, $value:expr) => {
                if $array.is_null(row) {
                    Value::Null
                } else {
                    $value
                }
            };
        }
        match self {
            Self::Null => Value::Null,
            Self::Bool(array) => cell!(array, Value::Bool(array.value(row))),
            Self::Int16(array) => cell!(array, Value::Int(i64::from(array.value(row)))),
            Self::Int32(array) => cell!(array, Value::Int(i64::from(array.value(row)))),
            Self::Int64(array) => cell!(array, Value::Int(array.value(row))),
            Self::Float32(array) => cell!(array, Value::Float(f64::from(array.value(row)))),
            Self::Float64(array) => cell!(array, Value::Float(array.value(row))),
            Self::Decimal(array, scale) => {
                cell!(
                    array,
                    Value::Numeric {
                        unscaled: array.value(row),
                        scale: *scale
                    }
                )
            }
            Self::Text(array) => cell!(array, Value::Text(Cow::Borrowed(array.value(row)))),
            Self::Bytes(array) => cell!(array, Value::Bytes(Cow::Borrowed(array.value(row)))),
            Self::Date(array) => cell!(array, Value::Date(array.value(row))),
            Self::Time(array) => cell!(array, Value::Time(array.value(row))),
            Self::Timestamp(array) => cell!(array, Value::Timestamp(array.value(row))),
            Self::Interval(array) => cell!(array, Value::Interval(array.value(row))),
            Self::List(array) => cell!(array, Value::List(array.value(row))),
        }
    }
}

/// 22003, in PostgreSQL's words.
pub fn out_of_range(data_type: &DataType) -> SqlError {
    let name = match data_type {
        DataType::Int16 => "smallint out of range",
        DataType::Int32 => "integer out of range",
        DataType::Int64 => "bigint out of range",
        _ => "numeric field overflow",
    };
    SqlError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, name)
}

/// Makes a column of `data_type` of cells.
pub fn column(values: &[Value<'_>], data_type: &DataType) -> Result<ArrayRef, SqlError> {
    macro_rules! optional {
        ($array:ty, $get:expr) => {{
            let get: fn(&Value<'_>) -> _ = $get;
            Arc::new(
                values
                    .iter()
                    .map(|value| {
                        if value.is_null() {
                            None
                        } else {
                            Some(get(value))
                        }
                    })
                    .collect::<$array>(),
            ) as ArrayRef
        }};
    }
    macro_rules! integers {
        ($array:ty, $native:ty) => {{
            let cells = values
                .iter()
                .map(|value| match value {
                    Value::Null => Ok(None),
                    other => <$native>::try_from(other.as_int())
                        .map(Some)
                        .map_err(|_| out_of_range(data_type)),
                })
                .collect::<Result<Vec<_>, _>>()?;
            Arc::new(<$array>::from(cells)) as ArrayRef
        }};
    }
    Ok(match data_type {
        DataType::Null => new_null_array(data_type, values.len()),
        DataType::Boolean => optional!(BooleanArray, |value| value.as_bool()),
        DataType::Int16 => integers!(Int16Array, i16),
        DataType::Int32 => integers!(Int32Array, i32),
        DataType::Int64 => integers!(Int64Array, i64),
        DataType::Float32 => optional!(Float32Array, |value| value.as_float() as f32),
        DataType::Float64 => optional!(Float64Array, |value| value.as_float()),
        DataType::Decimal128(precision, scale) => {
            let limit = 10i128
                .checked_pow(u32::from(*precision))
                .unwrap_or(i128::MAX);
            let cells = values
                .iter()
                .map(|value| {
                    if value.is_null() {
                        return Ok(None);
                    }
                    let (unscaled, from) = value.as_numeric();
                    rescale(unscaled, from, *scale)
                        .filter(|unscaled| unscaled.abs() < limit)
                        .map(Some)
                        .ok_or_else(|| out_of_range(data_type))
                })
                .collect::<Result<Vec<_>, _>>()?;
            Arc::new(
                Decimal128Array::from(cells)
                    .with_precision_and_scale(*precision, *scale)
                    .map_err(|error| out_of_range(data_type).caused_by(error))?,
            )
        }
        DataType::Utf8 => {
            let mut builder = StringBuilder::with_capacity(values.len(), values.len() * 8);
            for value in values {
                match value {
                    Value::Null => builder.append_null(),
                    other => builder.append_value(other.as_text()),
                }
            }
            Arc::new(builder.finish())
        }
        DataType::Binary => {
            let mut builder = BinaryBuilder::new();
            for value in values {
                match value {
                    Value::Bytes(bytes) => builder.append_value(bytes),
                    _ => builder.append_null(),
                }
            }
            Arc::new(builder.finish())
        }
        DataType::Date32 => optional!(Date32Array, |value| value.as_int() as i32),
        DataType::Time64(TimeUnit::Microsecond) => {
            optional!(Time64MicrosecondArray, |value| value.as_int())
        }
        DataType::Timestamp(TimeUnit::Microsecond, zone) => {
            let array = values
                .iter()
                .map(|value| {
                    if value.is_null() {
                        None
                    } else {
                        Some(value.as_int())
                    }
                })
                .collect::<TimestampMicrosecondArray>();
            Arc::new(array.with_timezone_opt(zone.clone()))
        }
        DataType::Interval(IntervalUnit::MonthDayNano) => {
            optional!(IntervalMonthDayNanoArray, |value| value.as_interval())
        }
        DataType::List(field) => {
            let mut lengths = Vec::with_capacity(values.len());
            let mut parts: Vec<ArrayRef> = Vec::with_capacity(values.len());
            for value in values {
                match value.as_list() {
                    Some(list) => {
                        lengths.push(list.len());
                        parts.push(if list.data_type() == field.data_type() {
                            Arc::clone(list)
                        } else {
                            cast(list, field.data_type())
                                .map_err(|error| wrong_type(data_type).caused_by(error))?
                        });
                    }
                    None => lengths.push(0),
                }
            }
            let elements = if parts.is_empty() {
                new_null_array(field.data_type(), 0)
            } else {
                let parts: Vec<&dyn Array> = parts.iter().map(AsRef::as_ref).collect();
                concat(&parts).map_err(|error| wrong_type(data_type).caused_by(error))?
            };
            let nulls = values.iter().map(|value| !value.is_null()).collect();
            Arc::new(
                ListArray::try_new(
                    Arc::clone(field),
                    OffsetBuffer::from_lengths(lengths),
                    elements,
                    Some(nulls),
                )
                .map_err(|error| wrong_type(data_type).caused_by(error))?,
            )
        }
        other => return Err(wrong_type(other)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_round_half_away_from_zero() {
        assert_eq!(rescale(125, 2, 1), Some(13));
        assert_eq!(rescale(-125, 2, 1), Some(-13));
        assert_eq!(rescale(124, 2, 1), Some(12));
        assert_eq!(rescale(1, 0, 38), Some(10i128.pow(38)));
        assert_eq!(rescale(1000, 0, 38), None);
        assert_eq!(rescale(10i128.pow(38) - 1, 38, 0), Some(1));
        assert_eq!(rescale(-(10i128.pow(38) / 2), 38, 0), Some(-1));
        assert_eq!(rescale(i128::MAX, 19, -20), Some(0));
    }
}
