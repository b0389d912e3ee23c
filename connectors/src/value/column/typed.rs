//! Values of formats that say the type of each: Avro, Protobuf.
//!
//! A value goes into a column of its own kind as it is. Into any other column it goes by its text, by the same rules as a
//! text would: what fits is taken, the rest is the caller's to rescue.

use std::fmt::Write;

use chrono::{DateTime, Days, NaiveDate};

use super::{ColumnBuilder, MICROS_PER_DAY, Mismatch, TextRule, Values, offset};
use crate::value::ValueFormat;

/// One value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Typed<'a> {
    Null,
    Boolean(bool),
    Integer(i64),
    Unsigned(u64),
    Real(f32),
    Double(f64),
    /// The digits without the point, and how many of them are behind it.
    Decimal(i128, u32),
    Text(&'a str),
    Bytes(&'a [u8]),
    /// Days since 1970.
    Date(i32),
    /// Microseconds since midnight.
    Time(i64),
    /// Microseconds since 1970 on the wall clock.
    Timestamp(i64),
    /// Microseconds since 1970 in UTC.
    Instant(i64),
    /// An array or an object, as valid JSON.
    Json(&'a str),
}

impl ColumnBuilder {
    /// Appends a value, or null and an error when it cannot be one of this column.
    pub fn append_typed(&mut self, value: Typed<'_>, format: &ValueFormat) -> Result<(), Mismatch> {
        let fits = match (&mut self.values, value) {
            (_, Typed::Null) => {
                self.append_null();
                return Ok(());
            }
            (Values::Boolean(values), Typed::Boolean(value)) => {
                values.append(value);
                true
            }
            (Values::Int64(values), Typed::Integer(value)) => {
                values.push(value);
                true
            }
            (Values::Int64(values), Typed::Unsigned(value)) => {
                super::push(values, i64::try_from(value))
            }
            (Values::Int32(values), Typed::Integer(value)) => {
                super::push(values, i32::try_from(value))
            }
            (Values::Int16(values), Typed::Integer(value)) => {
                super::push(values, i16::try_from(value))
            }
            (Values::Float64(values), Typed::Double(value)) => {
                values.push(value);
                true
            }
            (Values::Float64(values), Typed::Real(value)) => {
                values.push(f64::from(value));
                true
            }
            (Values::Float32(values), Typed::Real(value)) => {
                values.push(value);
                true
            }
            (Values::Decimal(values, precision, scale), Typed::Unsigned(value)) => super::push(
                values,
                rescaled(i128::from(value), 0, *precision, *scale).ok_or(()),
            ),
            (Values::Decimal(values, precision, scale), Typed::Decimal(value, digits)) => {
                super::push(
                    values,
                    rescaled(value, digits, *precision, *scale).ok_or(()),
                )
            }
            (Values::Date(values), Typed::Date(days)) => {
                values.push(days);
                true
            }
            (Values::Time(values), Typed::Time(micros))
                if (0..MICROS_PER_DAY).contains(&micros) =>
            {
                values.push(micros);
                true
            }
            (Values::Timestamp(values), Typed::Timestamp(micros))
            | (Values::Instant(values, _), Typed::Instant(micros)) => {
                values.push(micros);
                true
            }
            (Values::Binary(offsets, bytes), Typed::Bytes(value)) => {
                bytes.extend_from_slice(value);
                offsets.push(offset(bytes));
                true
            }
            (Values::Text(offsets, bytes, TextRule::Any), Typed::Text(text))
            | (Values::Text(offsets, bytes, TextRule::Any | TextRule::Json), Typed::Json(text)) => {
                bytes.extend_from_slice(text.as_bytes());
                offsets.push(offset(bytes));
                true
            }
            (_, Typed::Text(text)) => return self.append_text(text, format),
            (Values::Text(..) | Values::Binary(..), Typed::Json(text)) => {
                return self.append_text(text, format);
            }
            (_, Typed::Json(_)) => false,
            (_, value) => return self.append_text(&value.text(), &ValueFormat::default()),
        };
        if !fits {
            self.append_null();
            return Err(Mismatch);
        }
        self.nulls.append_non_null();
        Ok(())
    }
}

impl Typed<'_> {
    /// What stands for it where everything is text.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to memory does not fail.
        let _ = match self {
            Self::Null => Ok(()),
            Self::Boolean(value) => write!(text, "{value}"),
            Self::Integer(value) => write!(text, "{value}"),
            Self::Unsigned(value) => write!(text, "{value}"),
            Self::Real(value) => write!(text, "{value}"),
            Self::Double(value) => write!(text, "{value}"),
            Self::Decimal(unscaled, scale) => {
                decimal(&mut text, *unscaled, *scale);
                Ok(())
            }
            Self::Text(value) | Self::Json(value) => text.write_str(value),
            Self::Bytes(bytes) => {
                hexadecimal(&mut text, bytes);
                Ok(())
            }
            Self::Date(days) => match date(*days) {
                Some(date) => write!(text, "{}", date.format("%Y-%m-%d")),
                None => write!(text, "{days}"),
            },
            Self::Time(micros) => moment(&mut text, *micros, "%H:%M:%S%.6f", ""),
            Self::Timestamp(micros) => moment(&mut text, *micros, "%Y-%m-%dT%H:%M:%S%.6f", ""),
            Self::Instant(micros) => moment(&mut text, *micros, "%Y-%m-%dT%H:%M:%S%.6f", "Z"),
        };
        text
    }

    /// Its JSON: numbers and truth values are those of JSON, as far as it has them, all else is text.
    pub fn write_json(&self, json: &mut String) {
        let _ = match self {
            Self::Null => json.write_str("null"),
            Self::Boolean(value) => write!(json, "{value}"),
            Self::Integer(value) => json.write_str(itoa::Buffer::new().format(*value)),
            Self::Unsigned(value) => json.write_str(itoa::Buffer::new().format(*value)),
            Self::Real(value) if value.is_finite() => write!(json, "{value}"),
            Self::Double(value) if value.is_finite() => write!(json, "{value}"),
            Self::Json(value) => json.write_str(value),
            Self::Text(text) => {
                write_json_text(json, text);
                Ok(())
            }
            other => write!(json, "\"{}\"", other.text().replace('\\', "\\\\")),
        };
    }
}

/// A text in quotes.
pub fn write_json_text(json: &mut String, text: &str) {
    let is_plain = |byte: u8| byte >= b' ' && byte != b'"' && byte != b'\\';
    json.push('"');
    if text.bytes().all(is_plain) {
        json.push_str(text);
    } else {
        for character in text.chars() {
            let _ = match character {
                '"' => json.write_str("\\\""),
                '\\' => json.write_str("\\\\"),
                '\n' => json.write_str("\\n"),
                '\r' => json.write_str("\\r"),
                '\t' => json.write_str("\\t"),
                control if control < ' ' => write!(json, "\\u{:04x}", u32::from(control)),
                other => json.write_char(other),
            };
        }
    }
    json.push('"');
}

/// Bytes as PostgreSQL prints them.
pub fn hexadecimal(text: &mut String, bytes: &[u8]) {
    text.reserve(2 + 2 * bytes.len());
    text.push_str("\\x");
    for byte in bytes {
        for digit in [byte >> 4, byte & 15] {
            text.push(char::from_digit(u32::from(digit), 16).unwrap_or('0'));
        }
    }
}

fn decimal(text: &mut String, unscaled: i128, scale: u32) {
    let scale = scale as usize;
    let digits = format!("{:0>width$}", unscaled.unsigned_abs(), width = scale + 1);
    let (before, after) = digits.split_at(digits.len() - scale);
    if unscaled < 0 {
        text.push('-');
    }
    text.push_str(before);
    if scale > 0 {
        text.push('.');
        text.push_str(after);
    }
}

fn date(days: i32) -> Option<NaiveDate> {
    let epoch = NaiveDate::from_ymd_opt(1970, 1, 1)?;
    let distance = Days::new(u64::from(days.unsigned_abs()));
    match days < 0 {
        true => epoch.checked_sub_days(distance),
        false => epoch.checked_add_days(distance),
    }
}

fn moment(text: &mut String, micros: i64, form: &str, zone: &str) -> std::fmt::Result {
    match DateTime::from_timestamp_micros(micros) {
        Some(at) => write!(text, "{}{zone}", at.format(form)),
        None => write!(text, "{micros}"),
    }
}

/// A decimal with as many digits behind the point as the column has, when no other digit than a zero is lost.
fn rescaled(value: i128, digits: u32, precision: u8, scale: i8) -> Option<i128> {
    let scale = u32::try_from(scale).ok()?;
    let value = match scale.checked_sub(digits) {
        Some(more) => value.checked_mul(10_i128.checked_pow(more)?)?,
        None => {
            let divisor = 10_i128.checked_pow(digits - scale)?;
            (value % divisor == 0).then_some(value / divisor)?
        }
    };
    let bound = 10_u128.checked_pow(u32::from(precision))?;
    (value.unsigned_abs() < bound).then_some(value)
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{DataType, Field};
    use arrow::util::display::array_value_to_string;

    use super::*;

    fn appended(data_type: DataType, value: Typed<'_>) -> Option<String> {
        let field = Field::new("a", data_type, true);
        let mut builder = ColumnBuilder::new(&field, 1, false).unwrap();
        let taken = builder.append_typed(value, &ValueFormat::default());
        let array = builder.finish().unwrap();
        assert_eq!(array.len(), 1);
        taken
            .ok()
            .map(|()| array_value_to_string(&array, 0).unwrap())
    }

    #[test]
    fn a_value_goes_where_nothing_of_it_is_lost() {
        let of = |data_type: DataType, value| appended(data_type, value);
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(of(DataType::Int64, Typed::Unsigned(7)), some("7"));
        assert_eq!(of(DataType::Int64, Typed::Unsigned(u64::MAX)), None);
        assert_eq!(
            of(DataType::Decimal128(20, 0), Typed::Unsigned(u64::MAX)),
            some("18446744073709551615")
        );
        assert_eq!(
            of(DataType::Decimal128(5, 1), Typed::Decimal(-50, 2)),
            some("-0.5")
        );
        assert_eq!(of(DataType::Decimal128(5, 1), Typed::Decimal(55, 2)), None);
        assert_eq!(of(DataType::Decimal128(2, 0), Typed::Decimal(100, 0)), None);
        assert_eq!(of(DataType::Int32, Typed::Integer(1 << 40)), None);
        assert_eq!(of(DataType::Utf8, Typed::Bytes(&[1, 255])), some("\\x01ff"));
        assert_eq!(of(DataType::Utf8, Typed::Real(1.1)), some("1.1"));
        assert_eq!(of(DataType::Int64, Typed::Json("[1]")), None);
        assert_eq!(of(DataType::Utf8, Typed::Json("[1]")), some("[1]"));
        assert_eq!(
            of(DataType::Date32, Typed::Text("2024-05-17")),
            some("2024-05-17")
        );
        assert_eq!(of(DataType::Utf8, Typed::Date(-1)), some("1969-12-31"));
    }

    #[test]
    fn json_is_valid_whatever_the_value_is() {
        let values = [
            Typed::Text("a\"\\\n\u{1}é"),
            Typed::Double(f64::NAN),
            Typed::Double(1e300),
            Typed::Bytes(&[0]),
            Typed::Decimal(-5, 2),
            Typed::Instant(1_500_000),
            Typed::Timestamp(i64::MAX),
            Typed::Time(1),
        ];
        let mut json = String::from("[");
        for value in values {
            value.write_json(&mut json);
            json.push(',');
        }
        json.push_str("null]");
        let read: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(read[0], "a\"\\\n\u{1}é");
        assert_eq!(read[1], "NaN");
        assert_eq!(read[3], "\\x00");
        assert_eq!(read[4], "-0.05");
        assert_eq!(read[5], "1970-01-01T00:00:01.500000Z");
        assert_eq!(read[7], "00:00:00.000001");
    }

    #[test]
    fn null_is_null_in_any_column() {
        let field = Field::new("a", DataType::Int64, true);
        let mut builder = ColumnBuilder::new(&field, 2, true).unwrap();
        let format = ValueFormat::default();
        assert!(builder.append_typed(Typed::Null, &format).is_ok());
        assert!(builder.append_typed(Typed::Text("x"), &format).is_err());
        let array = builder.finish().unwrap();
        assert_eq!(array.null_count(), 2);
        let field = Field::new("a", DataType::Decimal128(38, 0), true);
        let mut builder = ColumnBuilder::new(&field, 1, true).unwrap();
        assert!(
            builder
                .append_typed(Typed::Decimal(i128::MAX, 0), &format)
                .is_err()
        );
        let array = builder.finish().unwrap();
        assert_eq!(array.null_count(), 1);
    }
}
