//! Casts between PostgreSQL's types.
//!
//! Three kinds: a relabelling (varchar to text) changes nothing; a native cast is Arrow's, which
//! the optimizer sees through; every other goes cell by cell through [`cast_value`], because
//! PostgreSQL rounds where Arrow cuts, and reads and prints text in its own way.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex};

use boathouse_catalog::types::ColumnType;
use datafusion::logical_expr::Volatility;

use super::registry::{is_integer, is_number, is_text};
use super::scalar::{Body, Overload, Parameter, Returns};
use super::text_io::{self, MICROS_PER_DAY, local_to_utc, utc_to_local};
use super::value::{Value, rescale};
use crate::error::{SqlError, SqlState};

/// Whether a cast only changes the name of the type.
pub fn is_relabel(from: &ColumnType, to: &ColumnType) -> bool {
    from.arrow() == to.arrow()
        && match (from, to) {
            (_, ColumnType::Text | ColumnType::Varchar(None)) => true,
            (ColumnType::Numeric { .. }, ColumnType::Numeric { .. }) => true,
            (ColumnType::Varchar(Some(given)), ColumnType::Varchar(Some(wanted))) => {
                given <= wanted
            }
            (ColumnType::Jsonb, ColumnType::Json) => true,
            (ColumnType::Array(from), ColumnType::Array(to)) => is_relabel(from, to),
            _ => false,
        }
}

/// Whether Arrow's cast does what PostgreSQL's does.
pub fn is_native(from: &ColumnType, to: &ColumnType) -> bool {
    let rank = |column_type: &ColumnType| match column_type {
        ColumnType::SmallInt => 1,
        ColumnType::Integer => 2,
        ColumnType::BigInt => 3,
        _ => 0,
    };
    match (from, to) {
        (from, to) if is_integer(from) && is_integer(to) => rank(from) <= rank(to),
        (from, ColumnType::Numeric { .. }) if is_integer(from) => true,
        (from, ColumnType::Real | ColumnType::Double) if is_number(from) => true,
        (ColumnType::Numeric { .. }, ColumnType::Numeric { .. }) => true,
        (ColumnType::Date, ColumnType::Timestamp) => true,
        (ColumnType::Timestamp, ColumnType::Date) => true,
        (ColumnType::Array(from), ColumnType::Array(to)) => is_native(from, to),
        _ => false,
    }
}

/// Whether there is a cast at all.
pub fn exists(from: &ColumnType, to: &ColumnType) -> bool {
    if from == to || is_text(from) || is_text(to) {
        return true;
    }
    if is_number(from) && is_number(to) {
        return true;
    }
    match (from, to) {
        (ColumnType::Boolean, ColumnType::Integer) | (ColumnType::Integer, ColumnType::Boolean) => {
            true
        }
        (ColumnType::Date, ColumnType::Timestamp | ColumnType::TimestampTz) => true,
        (
            ColumnType::Timestamp | ColumnType::TimestampTz,
            ColumnType::Date | ColumnType::Time | ColumnType::Timestamp | ColumnType::TimestampTz,
        ) => true,
        (ColumnType::Time, ColumnType::Interval) | (ColumnType::Interval, ColumnType::Time) => true,
        (ColumnType::Json, ColumnType::Jsonb) | (ColumnType::Jsonb, ColumnType::Json) => true,
        (ColumnType::Jsonb, to) => is_number(to) || *to == ColumnType::Boolean,
        (ColumnType::Array(from), ColumnType::Array(to)) => exists(from, to),
        _ => false,
    }
}

/// Whether a value of one type may be stored in a column of another without a cast.
pub fn is_assignable(from: &ColumnType, to: &ColumnType) -> bool {
    if from == to || is_text(to) {
        return true;
    }
    if is_text(from) {
        return false;
    }
    match (from, to) {
        (ColumnType::Boolean, ColumnType::Integer) | (ColumnType::Integer, ColumnType::Boolean) => {
            false
        }
        (ColumnType::Jsonb, to) if is_number(to) || *to == ColumnType::Boolean => false,
        _ => exists(from, to),
    }
}

fn out_of_range(to: &ColumnType) -> SqlError {
    SqlError::new(
        SqlState::NUMERIC_VALUE_OUT_OF_RANGE,
        format!("{} out of range", super::registry::type_name(to)),
    )
}

/// Casts one value.
pub fn cast_value(
    value: &Value<'_>,
    from: &ColumnType,
    to: &ColumnType,
    zone: chrono_tz::Tz,
) -> Result<Value<'static>, SqlError> {
    if value.is_null() {
        return Ok(Value::Null);
    }
    if is_text(from) && !is_text(to) {
        return text_io::parse(value.as_text(), to, zone);
    }
    Ok(match to {
        ColumnType::Text | ColumnType::Varchar(None) => {
            Value::text(text_io::display(value, from, zone))
        }
        ColumnType::Varchar(_) | ColumnType::Char(_) => {
            text_io::parse(&text_io::display(value, from, zone), to, zone)?
        }
        ColumnType::SmallInt | ColumnType::Integer | ColumnType::BigInt => {
            let whole: i128 = match value {
                Value::Float(float) => {
                    let rounded = float.round_ties_even();
                    if !rounded.is_finite() || rounded.abs() > 9.3e18 {
                        return Err(out_of_range(to));
                    }
                    rounded as i128
                }
                Value::Numeric { unscaled, scale } => {
                    rescale(*unscaled, *scale, 0).ok_or_else(|| out_of_range(to))?
                }
                Value::Text(text) => return text_io::parse(text, to, zone),
                other => i128::from(other.as_int()),
            };
            let fits = match to {
                ColumnType::SmallInt => i16::try_from(whole).is_ok(),
                ColumnType::Integer => i32::try_from(whole).is_ok(),
                _ => i64::try_from(whole).is_ok(),
            };
            if !fits {
                return Err(out_of_range(to));
            }
            Value::Int(whole as i64)
        }
        ColumnType::Numeric { precision, scale } => match value {
            Value::Float(float) => {
                let digits = text_io::display_float(*float, *from == ColumnType::Real);
                let (unscaled, from_scale) =
                    text_io::parse_numeric(&digits).ok_or_else(|| out_of_range(to))?;
                numeric(unscaled, from_scale, *precision, *scale)?
            }
            Value::Text(text) => return text_io::parse(text, to, zone),
            other => {
                let (unscaled, from_scale) = other.as_numeric();
                numeric(unscaled, from_scale, *precision, *scale)?
            }
        },
        ColumnType::Real | ColumnType::Double => match value {
            Value::Text(text) => return text_io::parse(text, to, zone),
            other => Value::Float(other.as_float()),
        },
        ColumnType::Boolean => match value {
            Value::Int(number) => Value::Bool(*number != 0),
            Value::Text(text) => return text_io::parse(text, to, zone),
            other => Value::Bool(other.as_bool()),
        },
        ColumnType::Date => match (value, from) {
            (Value::Timestamp(micros), ColumnType::TimestampTz) => {
                Value::Date(day_of(utc_to_local(*micros, zone)))
            }
            (Value::Timestamp(micros), _) => Value::Date(day_of(*micros)),
            (other, _) => Value::Date(other.as_int() as i32),
        },
        ColumnType::Time => match (value, from) {
            (Value::Timestamp(micros), ColumnType::TimestampTz) => {
                Value::Time(utc_to_local(*micros, zone).rem_euclid(MICROS_PER_DAY))
            }
            (Value::Timestamp(micros), _) => Value::Time(micros.rem_euclid(MICROS_PER_DAY)),
            (Value::Interval(interval), _) => {
                Value::Time((interval.nanoseconds / 1000).rem_euclid(MICROS_PER_DAY))
            }
            (other, _) => Value::Time(other.as_int()),
        },
        ColumnType::Timestamp => match (value, from) {
            (Value::Date(days), _) => Value::Timestamp(i64::from(*days) * MICROS_PER_DAY),
            (Value::Timestamp(micros), ColumnType::TimestampTz) => {
                Value::Timestamp(utc_to_local(*micros, zone))
            }
            (other, _) => Value::Timestamp(other.as_int()),
        },
        ColumnType::TimestampTz => match (value, from) {
            (Value::Date(days), _) => {
                Value::Timestamp(local_to_utc(i64::from(*days) * MICROS_PER_DAY, zone))
            }
            (Value::Timestamp(micros), ColumnType::Timestamp) => {
                Value::Timestamp(local_to_utc(*micros, zone))
            }
            (other, _) => Value::Timestamp(other.as_int()),
        },
        ColumnType::Interval => match value {
            Value::Time(micros) => Value::Interval(
                datafusion::arrow::datatypes::IntervalMonthDayNano::new(0, 0, micros * 1000),
            ),
            other => Value::Interval(other.as_interval()),
        },
        ColumnType::Array(element) => {
            let from = match from {
                ColumnType::Array(from) => (**from).clone(),
                _ => ColumnType::Text,
            };
            let list = match value.as_list() {
                Some(list) => list,
                None => return Ok(Value::Null),
            };
            let reader = super::value::Reader::new(list)?;
            let cells = (0..list.len())
                .map(|row| cast_value(&reader.value(row), &from, element, zone))
                .collect::<Result<Vec<_>, _>>()?;
            Value::List(super::value::column(&cells, &element.arrow())?)
        }
        ColumnType::Bytea => match value {
            Value::Bytes(bytes) => Value::Bytes(bytes.to_vec().into()),
            other => return text_io::parse(other.as_text(), to, zone),
        },
        ColumnType::Uuid | ColumnType::Json | ColumnType::Jsonb => {
            return text_io::parse(value.as_text(), to, zone);
        }
    })
}

pub fn day_of(micros: i64) -> i32 {
    i32::try_from(micros.div_euclid(MICROS_PER_DAY)).unwrap_or(i32::MAX)
}

fn numeric(
    unscaled: i128,
    from: i8,
    precision: Option<u8>,
    scale: i8,
) -> Result<Value<'static>, SqlError> {
    let overflow = || {
        let error = SqlError::new(
            SqlState::NUMERIC_VALUE_OUT_OF_RANGE,
            "numeric field overflow",
        );
        match precision {
            Some(precision) => error.detail(format!(
                "A field with precision {precision}, scale {scale} must round to an absolute value \
                 less than 10^{}.",
                i16::from(precision) - i16::from(scale)
            )),
            None => error,
        }
    };
    let unscaled = rescale(unscaled, from, scale).ok_or_else(overflow)?;
    let limit = 10i128
        .checked_pow(u32::from(precision.unwrap_or(38)))
        .unwrap_or(i128::MAX);
    if unscaled.abs() >= limit {
        return Err(overflow());
    }
    Ok(Value::Numeric { unscaled, scale })
}

type Pair = (ColumnType, ColumnType, bool);

/// Casts seen so far: two plans with the same cast share it, so that they compare as equal.
static OVERLOADS: LazyLock<Mutex<HashMap<Pair, Arc<Overload>>>> = LazyLock::new(Mutex::default);

/// The cast as a function of one argument.
pub fn overload(from: &ColumnType, to: &ColumnType, lenient: bool) -> Arc<Overload> {
    let pair = (from.clone(), to.clone(), lenient);
    let make = || {
        Arc::new(Overload {
            name: if lenient { "try_cast" } else { "cast" },
            parameters: vec![Parameter::Type(from.clone())],
            required: 1,
            variadic: false,
            returns: Returns::Type(to.clone()),
            strict: true,
            volatility: Volatility::Immutable,
            body: Body::Cast {
                from: from.clone(),
                to: to.clone(),
                lenient,
            },
            shortcut: Some(super::shortcut::cast),
        })
    };
    match OVERLOADS.lock() {
        Ok(mut overloads) => Arc::clone(overloads.entry(pair).or_insert_with(make)),
        Err(_) => make(),
    }
}
