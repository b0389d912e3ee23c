//! One column of a batch, built from values of either place.
//!
//! How the column is stored is found out once and is then a variant of [`Cells`]. Values of the binlog come as
//! many at a time as an event has rows, so that this is looked at once for all of them, and go straight into the
//! Arrow builder. A value that fails leaves the builder as it was.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayBuilder, ArrayRef, BinaryArray, BinaryBuilder, BooleanBuilder, Date32Builder,
    Decimal128Builder, Float32Builder, Float64Builder, Int16Builder, Int32Builder, Int64Builder,
    PrimitiveBuilder, StringArray, StringBuilder, TimestampMicrosecondBuilder,
};
use arrow::datatypes::{ArrowPrimitiveType, ByteArrayType};
use boathouse_catalog::types::NUMERIC_PRECISION_MAX;
use mysql_async::Value;

use super::address::{print_inet4, print_inet6, print_uuid};
use super::charset::Decoder;
use super::compressed::inflate;
use super::decimal::{DecimalLayout, parse_decimal};
use super::json;
use super::temporal::{Moment, Span, TemporalFormat, read_datetime, read_time, read_timestamp};
use super::wire::Frame;
use super::{Charset, InvalidText, SourceType, ValueError, ValuePolicies, WireColumn, ZeroDates};
use crate::error::{ConnectorError, sqlstate};

/// Builds one column of a batch.
pub struct ColumnBuilder {
    cells: Cells,
    /// How long values of the binlog are; `None` when it takes none.
    frame: Option<Frame>,
    policies: ValuePolicies,
    scratch: Scratch,
}

/// How much a column is to hold before it needs more room.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Room {
    rows: usize,
    /// Of all its strings.
    bytes: usize,
}

impl Default for Room {
    fn default() -> Self {
        Self {
            rows: 1024,
            bytes: 1024,
        }
    }
}

impl Room {
    /// Enough for either.
    pub fn max(self, other: Self) -> Self {
        Self {
            rows: self.rows.max(other.rows),
            bytes: self.bytes.max(other.bytes),
        }
    }
}

/// Room for a value on its way, kept from one to the next.
#[derive(Default)]
struct Scratch {
    text: String,
    bytes: Vec<u8>,
}

/// A column's values so far, by how they are stored.
enum Cells {
    TinyInt {
        builder: Int16Builder,
    },
    UnsignedTinyInt {
        builder: Int16Builder,
    },
    SmallInt {
        builder: Int16Builder,
    },
    UnsignedSmallInt {
        builder: Int32Builder,
    },
    MediumInt {
        builder: Int32Builder,
    },
    UnsignedMediumInt {
        builder: Int32Builder,
    },
    Int {
        builder: Int32Builder,
    },
    UnsignedInt {
        builder: Int64Builder,
    },
    BigInt {
        builder: Int64Builder,
    },
    UnsignedBigInt {
        builder: Decimal128Builder,
    },
    Year {
        builder: Int16Builder,
    },
    Float {
        builder: Float32Builder,
    },
    Double {
        builder: Float64Builder,
    },
    Decimal {
        builder: Decimal128Builder,
        layout: DecimalLayout,
        scale: u8,
    },
    /// More digits than a decimal of the lake has.
    WideDecimal {
        builder: StringBuilder,
        layout: DecimalLayout,
    },
    Flag {
        builder: BooleanBuilder,
    },
    Bits {
        builder: Int64Builder,
    },
    WideBits {
        builder: Decimal128Builder,
    },
    Date {
        builder: Date32Builder,
    },
    DateTime {
        builder: TimestampMicrosecondBuilder,
        format: TemporalFormat,
    },
    Timestamp {
        builder: TimestampMicrosecondBuilder,
        format: TemporalFormat,
    },
    Time {
        builder: StringBuilder,
        format: TemporalFormat,
        fraction: u8,
    },
    /// Bytes in UTF-8, which are looked at all at once when the column is finished: [`ColumnBuilder::finish`].
    Text {
        builder: BinaryBuilder,
        charset: Charset,
        decoder: Decoder,
        compressed: bool,
    },
    Bytes {
        builder: BinaryBuilder,
        compressed: bool,
        /// What they are padded to.
        length: usize,
    },
    Enum {
        builder: StringBuilder,
        charset: Charset,
        names: Vec<String>,
    },
    Set {
        builder: StringBuilder,
        charset: Charset,
        names: Vec<String>,
    },
    Json {
        builder: StringBuilder,
    },
    Geometry {
        builder: BinaryBuilder,
    },
    Uuid {
        builder: StringBuilder,
    },
    Inet4 {
        builder: StringBuilder,
    },
    Inet6 {
        builder: StringBuilder,
    },
}

/// Does the same to the builder of any variant.
macro_rules! each {
    ($cells:expr, $builder:ident => $body:expr) => {
        match $cells {
            Cells::TinyInt { $builder }
            | Cells::UnsignedTinyInt { $builder }
            | Cells::SmallInt { $builder }
            | Cells::Year { $builder } => $body,
            Cells::UnsignedSmallInt { $builder }
            | Cells::MediumInt { $builder }
            | Cells::UnsignedMediumInt { $builder }
            | Cells::Int { $builder } => $body,
            Cells::UnsignedInt { $builder }
            | Cells::BigInt { $builder }
            | Cells::Bits { $builder } => $body,
            Cells::UnsignedBigInt { $builder }
            | Cells::Decimal { $builder, .. }
            | Cells::WideBits { $builder } => $body,
            Cells::Float { $builder } => $body,
            Cells::Double { $builder } => $body,
            Cells::Flag { $builder } => $body,
            Cells::Date { $builder } => $body,
            Cells::DateTime { $builder, .. } | Cells::Timestamp { $builder, .. } => $body,
            Cells::WideDecimal { $builder, .. }
            | Cells::Time { $builder, .. }
            | Cells::Enum { $builder, .. }
            | Cells::Set { $builder, .. }
            | Cells::Json { $builder }
            | Cells::Uuid { $builder }
            | Cells::Inet4 { $builder }
            | Cells::Inet6 { $builder } => $body,
            Cells::Text { $builder, .. }
            | Cells::Bytes { $builder, .. }
            | Cells::Geometry { $builder } => $body,
        }
    };
}

/// Appends NULL for what is not there, and does the same with every value.
macro_rules! each_value {
    ($builder:ident, $values:expr, |$value:ident| $body:expr) => {
        for value in $values {
            match value {
                Some($value) => $body,
                None => $builder.append_null(),
            }
        }
    };
}

impl ColumnBuilder {
    /// A builder for values of `source`. Without `wire` it takes none from the binlog.
    pub fn new(
        source: &SourceType,
        wire: Option<&WireColumn>,
        policies: ValuePolicies,
    ) -> Result<Self, ConnectorError> {
        Self::with_room(source, wire, policies, Room::default())
    }

    /// The same, with room from the beginning.
    pub(crate) fn with_room(
        source: &SourceType,
        wire: Option<&WireColumn>,
        policies: ValuePolicies,
        room: Room,
    ) -> Result<Self, ConnectorError> {
        let stored = match wire {
            Some(wire) => wire.source_type(Some(source))?,
            None => source.clone(),
        };
        let (here, there) = (source.column_type(), stored.column_type());
        if here != there {
            return Err(ConnectorError::new(
                sqlstate::WRONG_OBJECT_TYPE,
                format!(
                    "the binlog has a column of type \"{there}\" where one of type \"{here}\" is expected"
                ),
            ));
        }
        let frame = match wire {
            Some(wire) => Some(wire.frame().ok_or_else(|| unsupported(&stored))?),
            None => None,
        };
        Ok(Self {
            cells: Cells::new(stored, wire, room)?,
            frame,
            policies,
            scratch: Scratch::default(),
        })
    }

    /// How many values it holds.
    pub fn len(&self) -> usize {
        each!(&self.cells, builder => builder.len())
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The room that its values take.
    pub(crate) fn room(&self) -> Room {
        let bytes = match &self.cells {
            Cells::WideDecimal { builder, .. }
            | Cells::Time { builder, .. }
            | Cells::Enum { builder, .. }
            | Cells::Set { builder, .. }
            | Cells::Json { builder }
            | Cells::Uuid { builder }
            | Cells::Inet4 { builder }
            | Cells::Inet6 { builder } => builder.values_slice().len(),
            Cells::Text { builder, .. }
            | Cells::Bytes { builder, .. }
            | Cells::Geometry { builder } => builder.values_slice().len(),
            _ => 0,
        };
        // The next ones will not take quite the same.
        let ample = |taken: usize| taken + taken / 16;
        Room {
            rows: ample(self.len()),
            bytes: ample(bytes),
        }
    }

    pub fn append_null(&mut self) {
        each!(&mut self.cells, builder => builder.append_null())
    }

    /// The values, of the Arrow type of the source's column type; the builder is empty afterwards. Fails only for
    /// texts of which so many have bytes that are replaced that Arrow cannot hold them.
    pub fn finish(&mut self) -> Result<ArrayRef, ValueError> {
        fn shared(array: impl Array + 'static) -> ArrayRef {
            Arc::new(array)
        }
        if let Cells::Text {
            builder,
            charset,
            decoder,
            ..
        } = &mut self.cells
        {
            let bytes = builder.finish();
            // Nearly always it is valid, and one look at all of it is much quicker than one at each value.
            let texts = match StringArray::try_from_binary(bytes.clone()) {
                Ok(texts) => texts,
                Err(_) => readable(&bytes, (*charset, *decoder), self.policies)?,
            };
            return Ok(shared(texts));
        }
        Ok(each!(&mut self.cells, builder => shared(builder.finish())))
    }

    /// Takes one value off the front of a row image.
    pub fn append_binlog(&mut self, image: &mut &[u8]) -> Result<(), ValueError> {
        let mut rest = *image;
        let value = self
            .frame
            .ok_or(ValueError::NotDescribed)?
            .take(&mut rest)?;
        self.append_stored(std::iter::once(Some(value)))?;
        *image = rest;
        Ok(())
    }

    /// Appends values as row images have them, without the lengths that stand before them. How the column is stored
    /// is looked at once for all of them. When one fails, some of those before it have been taken.
    pub fn append_stored<'a>(
        &mut self,
        values: impl Iterator<Item = Option<&'a [u8]>>,
    ) -> Result<(), ValueError> {
        let Self {
            cells,
            policies,
            scratch,
            ..
        } = self;
        match cells {
            Cells::TinyInt { builder } => append_numbers(builder, values, |value| {
                Ok(Some(i16::from(i8::from_le_bytes(exact(value)?))))
            })?,
            Cells::UnsignedTinyInt { builder } => append_numbers(builder, values, |value| {
                Ok(Some(i16::from(u8::from_le_bytes(exact(value)?))))
            })?,
            Cells::SmallInt { builder } => append_numbers(builder, values, |value| {
                Ok(Some(i16::from_le_bytes(exact(value)?)))
            })?,
            Cells::UnsignedSmallInt { builder } => append_numbers(builder, values, |value| {
                Ok(Some(i32::from(u16::from_le_bytes(exact(value)?))))
            })?,
            Cells::MediumInt { builder } => append_numbers(builder, values, |value| {
                let [a, b, c] = exact(value)?;
                Ok(Some(i32::from_le_bytes([0, a, b, c]) >> 8))
            })?,
            Cells::UnsignedMediumInt { builder } => append_numbers(builder, values, |value| {
                let [a, b, c] = exact(value)?;
                Ok(Some(i32::from_le_bytes([a, b, c, 0])))
            })?,
            Cells::Int { builder } => append_numbers(builder, values, |value| {
                Ok(Some(i32::from_le_bytes(exact(value)?)))
            })?,
            Cells::UnsignedInt { builder } => append_numbers(builder, values, |value| {
                Ok(Some(i64::from(u32::from_le_bytes(exact(value)?))))
            })?,
            Cells::BigInt { builder } => append_numbers(builder, values, |value| {
                Ok(Some(i64::from_le_bytes(exact(value)?)))
            })?,
            Cells::UnsignedBigInt { builder } => append_numbers(builder, values, |value| {
                Ok(Some(i128::from(u64::from_le_bytes(exact(value)?))))
            })?,
            Cells::Year { builder } => append_numbers(builder, values, |value| {
                /// The year whose number is 0, which the number 0 itself does not mean.
                const FIRST: i16 = 1900;
                let [year] = exact(value)?;
                Ok(Some(match year {
                    0 => 0,
                    year => FIRST + i16::from(year),
                }))
            })?,
            Cells::Float { builder } => append_numbers(builder, values, |value| {
                Ok(Some(f32::from_le_bytes(exact(value)?)))
            })?,
            Cells::Double { builder } => append_numbers(builder, values, |value| {
                Ok(Some(f64::from_le_bytes(exact(value)?)))
            })?,
            Cells::Decimal {
                builder, layout, ..
            } => append_numbers(builder, values, |value| Ok(Some(layout.number(value)?)))?,
            Cells::WideDecimal { builder, layout } => each_value!(builder, values, |value| {
                scratch.text.clear();
                layout.print(value, &mut scratch.text)?;
                append_string(builder, &scratch.text)?;
            }),
            Cells::Flag { builder } => each_value!(builder, values, |value| {
                builder.append_value(bits(value)? != 0);
            }),
            Cells::Bits { builder } => {
                append_numbers(builder, values, |value| Ok(Some(bits(value)? as i64)))?
            }
            Cells::WideBits { builder } => {
                append_numbers(builder, values, |value| Ok(Some(i128::from(bits(value)?))))?
            }
            Cells::Date { builder } => append_numbers(builder, values, |value| {
                let [a, b, c] = exact(value)?;
                let moment = Moment::of_date(u32::from_le_bytes([a, b, c, 0]));
                match moment.days() {
                    Some(days) => Ok(Some(days)),
                    None => zero(&moment, policies.zero_dates),
                }
            })?,
            Cells::DateTime { builder, format } => append_numbers(builder, values, |value| {
                let moment = read_datetime(*format, value);
                match moment.micros() {
                    Some(micros) => Ok(Some(micros)),
                    None => zero(&moment, policies.zero_dates),
                }
            })?,
            Cells::Timestamp { builder, format } => append_numbers(builder, values, |value| {
                match read_timestamp(*format, value) {
                    Some(micros) => Ok(Some(micros)),
                    None => zero(&Moment::default(), policies.zero_dates),
                }
            })?,
            Cells::Time {
                builder,
                format,
                fraction,
            } => each_value!(builder, values, |value| {
                append_span(builder, &read_time(*format, value), *fraction, scratch)?;
            }),
            Cells::Text {
                builder,
                decoder,
                compressed: false,
                ..
            } if is_read_later(*decoder, *policies) => each_value!(builder, values, |value| {
                append_bytes(builder, value)?;
            }),
            Cells::Text {
                builder,
                charset,
                decoder,
                compressed,
            } => each_value!(builder, values, |value| {
                let Scratch { text, bytes } = scratch;
                let value = match compressed {
                    true => inflate(value, bytes)?,
                    false => value,
                };
                let text = read_text((*charset, *decoder), *policies, text, value)?;
                append_bytes_or_null(builder, text.map(str::as_bytes))?;
            }),
            Cells::Bytes {
                builder,
                compressed,
                length,
            } => each_value!(builder, values, |value| {
                match compressed {
                    true => append_bytes(builder, inflate(value, &mut scratch.bytes)?)?,
                    false => append_padded(builder, value, *length, &mut scratch.bytes)?,
                }
            }),
            Cells::Enum { builder, names, .. } => each_value!(builder, values, |value| {
                append_string(builder, enum_name(names, number(value))?)?;
            }),
            Cells::Set { builder, names, .. } => each_value!(builder, values, |value| {
                set_names(names, number(value), &mut scratch.text)?;
                append_string(builder, &scratch.text)?;
            }),
            Cells::Json { builder } => each_value!(builder, values, |value| {
                scratch.text.clear();
                json::print(value, &mut scratch.text)?;
                append_string(builder, &scratch.text)?;
            }),
            Cells::Geometry { builder } => each_value!(builder, values, |value| {
                append_bytes(builder, without_srid(value)?)?;
            }),
            Cells::Uuid { builder } => each_value!(builder, values, |value| {
                scratch.text.clear();
                print_uuid(padded(value)?, &mut scratch.text);
                append_string(builder, &scratch.text)?;
            }),
            Cells::Inet4 { builder } => each_value!(builder, values, |value| {
                scratch.text.clear();
                print_inet4(padded(value)?, &mut scratch.text);
                append_string(builder, &scratch.text)?;
            }),
            Cells::Inet6 { builder } => each_value!(builder, values, |value| {
                scratch.text.clear();
                print_inet6(padded(value)?, &mut scratch.text);
                append_string(builder, &scratch.text)?;
            }),
        }
        Ok(())
    }

    /// Appends a value of a row of the binary protocol, NULL included.
    pub fn append_value(&mut self, value: Value) -> Result<(), ValueError> {
        if value == Value::NULL {
            self.append_null();
            return Ok(());
        }
        let Self {
            cells,
            policies,
            scratch,
            ..
        } = self;
        match cells {
            Cells::TinyInt { builder }
            | Cells::UnsignedTinyInt { builder }
            | Cells::SmallInt { builder }
            | Cells::Year { builder } => builder.append_value(integer(&value)?),
            Cells::UnsignedSmallInt { builder }
            | Cells::MediumInt { builder }
            | Cells::UnsignedMediumInt { builder }
            | Cells::Int { builder } => builder.append_value(integer(&value)?),
            Cells::UnsignedInt { builder } | Cells::BigInt { builder } => {
                builder.append_value(integer(&value)?);
            }
            Cells::UnsignedBigInt { builder } => {
                builder.append_value(i128::from(integer::<u64>(&value)?));
            }
            Cells::Float { builder } => match value {
                Value::Float(number) => builder.append_value(number),
                other => return Err(unexpected("a FLOAT", &other)),
            },
            Cells::Double { builder } => match value {
                Value::Double(number) => builder.append_value(number),
                other => return Err(unexpected("a DOUBLE", &other)),
            },
            Cells::Decimal { builder, scale, .. } => {
                let parsed = match &value {
                    Value::Bytes(text) => parse_decimal(text, *scale),
                    _ => None,
                };
                builder.append_value(parsed.ok_or_else(|| unexpected("a DECIMAL", &value))?);
            }
            Cells::WideDecimal { builder, .. } => {
                let text = text_of(&value, "a DECIMAL")?;
                append_string(builder, without_zeros(text, &mut scratch.text))?;
            }
            Cells::Flag { builder } => {
                builder.append_value(bits(bytes_of(&value, "a BIT")?)? != 0);
            }
            Cells::Bits { builder } => {
                builder.append_value(bits(bytes_of(&value, "a BIT")?)? as i64);
            }
            Cells::WideBits { builder } => {
                builder.append_value(i128::from(bits(bytes_of(&value, "a BIT")?)?));
            }
            Cells::Date { builder } => {
                let moment = moment_of(&value, "a DATE")?;
                match moment.days() {
                    Some(days) => builder.append_value(days),
                    None => builder.append_option(zero(&moment, policies.zero_dates)?),
                }
            }
            Cells::DateTime { builder, .. } => {
                let moment = moment_of(&value, "a DATETIME")?;
                match moment.micros() {
                    Some(micros) => builder.append_value(micros),
                    None => builder.append_option(zero(&moment, policies.zero_dates)?),
                }
            }
            Cells::Timestamp { builder, .. } => {
                let moment = moment_of(&value, "a TIMESTAMP")?;
                match moment.micros() {
                    Some(micros) => builder.append_value(micros),
                    None => builder.append_option(zero(&moment, policies.zero_dates)?),
                }
            }
            Cells::Time {
                builder, fraction, ..
            } => {
                let Value::Time(negative, days, hours, minutes, seconds, micros) = value else {
                    return Err(unexpected("a TIME", &value));
                };
                let span = Span {
                    negative,
                    hours: days.saturating_mul(24).saturating_add(u32::from(hours)),
                    minutes: u32::from(minutes),
                    seconds: u32::from(seconds),
                    micros,
                };
                append_span(builder, &span, *fraction, scratch)?;
            }
            Cells::Text {
                builder,
                charset,
                decoder,
                ..
            } => {
                let bytes = bytes_of(&value, "text")?;
                if is_read_later(*decoder, *policies) {
                    return append_bytes(builder, bytes);
                }
                let text = read_text((*charset, *decoder), *policies, &mut scratch.text, bytes)?;
                append_bytes_or_null(builder, text.map(str::as_bytes))?;
            }
            Cells::Bytes {
                builder, length, ..
            } => {
                let bytes = bytes_of(&value, "bytes")?;
                append_padded(builder, bytes, *length, &mut scratch.bytes)?;
            }
            Cells::Enum {
                builder, charset, ..
            }
            | Cells::Set {
                builder, charset, ..
            } => {
                let bytes = bytes_of(&value, "a name")?;
                let how = (*charset, charset.decoder());
                let text = read_text(how, *policies, &mut scratch.text, bytes)?;
                append_string_or_null(builder, text)?;
            }
            Cells::Json { builder } => {
                let bytes = bytes_of(&value, "a JSON")?;
                let how = (Charset::Utf8mb4, Decoder::Utf8);
                let text = read_text(how, *policies, &mut scratch.text, bytes)?;
                append_string_or_null(builder, text)?;
            }
            Cells::Geometry { builder } => {
                append_bytes(builder, without_srid(bytes_of(&value, "a GEOMETRY")?)?)?;
            }
            Cells::Uuid { builder } => append_string(builder, text_of(&value, "a UUID")?)?,
            Cells::Inet4 { builder } | Cells::Inet6 { builder } => {
                append_string(builder, text_of(&value, "an address")?)?;
            }
        }
        Ok(())
    }
}

impl Cells {
    fn new(
        stored: SourceType,
        wire: Option<&WireColumn>,
        Room { rows, bytes }: Room,
    ) -> Result<Self, ConnectorError> {
        let data_type = stored.column_type().arrow();
        let unsupported = || unsupported(&stored);
        let format = |fraction: u8| match wire {
            Some(wire) => wire
                .temporal(fraction)
                .map(|(_, format)| format)
                .ok_or_else(unsupported),
            None => TemporalFormat::packed(fraction).ok_or_else(unsupported),
        };
        let decimals = || Decimal128Builder::with_capacity(rows).with_data_type(data_type.clone());
        let moments =
            || TimestampMicrosecondBuilder::with_capacity(rows).with_data_type(data_type.clone());
        let binaries = || BinaryBuilder::with_capacity(rows, bytes);
        let strings = || StringBuilder::with_capacity(rows, bytes);
        let compressed = wire.is_some_and(WireColumn::is_compressed);
        Ok(match stored {
            SourceType::TinyInt { unsigned: false } => Self::TinyInt {
                builder: Int16Builder::with_capacity(rows),
            },
            SourceType::TinyInt { unsigned: true } => Self::UnsignedTinyInt {
                builder: Int16Builder::with_capacity(rows),
            },
            SourceType::SmallInt { unsigned: false } => Self::SmallInt {
                builder: Int16Builder::with_capacity(rows),
            },
            SourceType::SmallInt { unsigned: true } => Self::UnsignedSmallInt {
                builder: Int32Builder::with_capacity(rows),
            },
            SourceType::MediumInt { unsigned: false } => Self::MediumInt {
                builder: Int32Builder::with_capacity(rows),
            },
            SourceType::MediumInt { unsigned: true } => Self::UnsignedMediumInt {
                builder: Int32Builder::with_capacity(rows),
            },
            SourceType::Int { unsigned: false } => Self::Int {
                builder: Int32Builder::with_capacity(rows),
            },
            SourceType::Int { unsigned: true } => Self::UnsignedInt {
                builder: Int64Builder::with_capacity(rows),
            },
            SourceType::BigInt { unsigned: false } => Self::BigInt {
                builder: Int64Builder::with_capacity(rows),
            },
            SourceType::BigInt { unsigned: true } => Self::UnsignedBigInt {
                builder: decimals(),
            },
            SourceType::Decimal { precision, scale } => {
                let layout = DecimalLayout::new(precision, scale).ok_or_else(unsupported)?;
                match precision <= NUMERIC_PRECISION_MAX {
                    true => Self::Decimal {
                        builder: decimals(),
                        layout,
                        scale,
                    },
                    false => Self::WideDecimal {
                        builder: strings(),
                        layout,
                    },
                }
            }
            SourceType::Float => Self::Float {
                builder: Float32Builder::with_capacity(rows),
            },
            SourceType::Double => Self::Double {
                builder: Float64Builder::with_capacity(rows),
            },
            SourceType::Bit { bits: 0 | 1 } => Self::Flag {
                builder: BooleanBuilder::with_capacity(rows),
            },
            SourceType::Bit { bits: 2..=63 } => Self::Bits {
                builder: Int64Builder::with_capacity(rows),
            },
            SourceType::Bit { .. } => Self::WideBits {
                builder: decimals(),
            },
            SourceType::Year => Self::Year {
                builder: Int16Builder::with_capacity(rows),
            },
            SourceType::Date => Self::Date {
                builder: Date32Builder::with_capacity(rows),
            },
            SourceType::DateTime { fraction } => Self::DateTime {
                builder: moments(),
                format: format(fraction)?,
            },
            SourceType::Timestamp { fraction } => Self::Timestamp {
                builder: moments(),
                format: format(fraction)?,
            },
            SourceType::Time { fraction } => Self::Time {
                builder: strings(),
                format: format(fraction)?,
                fraction,
            },
            SourceType::Text { charset } => Self::Text {
                builder: binaries(),
                charset,
                decoder: charset.decoder(),
                compressed,
            },
            SourceType::Bytes { fixed } => Self::Bytes {
                builder: binaries(),
                compressed,
                length: fixed.map_or(0, |length| length as usize),
            },
            SourceType::Vector => Self::Bytes {
                builder: binaries(),
                compressed,
                length: 0,
            },
            SourceType::Enum { charset, values } => Self::Enum {
                builder: strings(),
                charset,
                names: values,
            },
            SourceType::Set { charset, values } => Self::Set {
                builder: strings(),
                charset,
                names: values,
            },
            // MariaDB's is a text.
            SourceType::Json if wire.is_some_and(|wire| !wire.is_binary_json()) => Self::Text {
                builder: binaries(),
                charset: Charset::Utf8mb4,
                decoder: Decoder::Utf8,
                compressed,
            },
            SourceType::Json => Self::Json { builder: strings() },
            SourceType::Geometry => Self::Geometry {
                builder: binaries(),
            },
            SourceType::Uuid => Self::Uuid { builder: strings() },
            SourceType::Inet4 => Self::Inet4 { builder: strings() },
            SourceType::Inet6 => Self::Inet6 { builder: strings() },
        })
    }
}

fn unsupported(stored: &SourceType) -> ConnectorError {
    ConnectorError::new(
        sqlstate::FEATURE_NOT_SUPPORTED,
        format!("a column {stored:?} cannot be read"),
    )
}

/// Arrow counts the bytes of a column of strings with 32 bits and a sign.
#[inline]
fn has_room<T: ByteArrayType<Offset = i32>>(
    builder: &arrow::array::GenericByteBuilder<T>,
    more: usize,
) -> Result<(), ValueError> {
    match builder.values_slice().len().saturating_add(more) <= i32::MAX as usize {
        true => Ok(()),
        false => Err(ValueError::BatchFull),
    }
}

#[inline]
fn append_string(builder: &mut StringBuilder, text: &str) -> Result<(), ValueError> {
    has_room(builder, text.len())?;
    builder.append_value(text);
    Ok(())
}

#[inline]
fn append_bytes(builder: &mut BinaryBuilder, bytes: &[u8]) -> Result<(), ValueError> {
    has_room(builder, bytes.len())?;
    builder.append_value(bytes);
    Ok(())
}

/// Appends bytes with as many zeros as the length lacks.
fn append_padded(
    builder: &mut BinaryBuilder,
    bytes: &[u8],
    length: usize,
    room: &mut Vec<u8>,
) -> Result<(), ValueError> {
    if bytes.len() >= length {
        return append_bytes(builder, bytes);
    }
    room.clear();
    room.extend_from_slice(bytes);
    room.resize(length, 0);
    append_bytes(builder, room)
}

fn append_string_or_null(
    builder: &mut StringBuilder,
    text: Option<&str>,
) -> Result<(), ValueError> {
    match text {
        Some(text) => append_string(builder, text),
        None => {
            builder.append_null();
            Ok(())
        }
    }
}

fn append_bytes_or_null(
    builder: &mut BinaryBuilder,
    bytes: Option<&[u8]>,
) -> Result<(), ValueError> {
    match bytes {
        Some(bytes) => append_bytes(builder, bytes),
        None => {
            builder.append_null();
            Ok(())
        }
    }
}

/// Whether bytes are looked at when their column is finished. A value that is to be an error is told at once.
fn is_read_later(decoder: Decoder, policies: ValuePolicies) -> bool {
    matches!(decoder, Decoder::Utf8) && policies.invalid_text != InvalidText::Fail
}

/// Bytes as a text, or what the policy makes of those that are none.
#[inline]
fn read_text<'a>(
    (charset, decoder): (Charset, Decoder),
    policies: ValuePolicies,
    room: &'a mut String,
    bytes: &'a [u8],
) -> Result<Option<&'a str>, ValueError> {
    let is_utf_8 = match decoder {
        Decoder::Utf8 => true,
        other => other.extends_ascii() && bytes.is_ascii(),
    };
    if is_utf_8 && let Ok(text) = std::str::from_utf8(bytes) {
        return Ok(Some(text));
    }
    room.clear();
    let valid = decoder.decode(bytes, room);
    match policies.invalid_text {
        _ if valid => Ok(Some(room)),
        InvalidText::Replace => Ok(Some(room)),
        InvalidText::Null => Ok(None),
        InvalidText::Fail => Err(ValueError::InvalidText {
            charset: charset.name(),
            bytes: hexadecimal(bytes).into(),
        }),
    }
}

/// Texts of which some have bytes that are none.
#[cold]
fn readable(
    values: &BinaryArray,
    how: (Charset, Decoder),
    policies: ValuePolicies,
) -> Result<StringArray, ValueError> {
    let mut builder = StringBuilder::with_capacity(values.len(), values.values().len());
    let mut room = String::new();
    for value in values {
        let text = match value {
            Some(value) => read_text(how, policies, &mut room, value)?,
            None => None,
        };
        append_string_or_null(&mut builder, text)?;
    }
    Ok(builder.finish())
}

fn append_span(
    builder: &mut StringBuilder,
    span: &Span,
    fraction: u8,
    scratch: &mut Scratch,
) -> Result<(), ValueError> {
    scratch.text.clear();
    span.print(fraction, &mut scratch.text);
    append_string(builder, &scratch.text)
}

/// What stands for a date that no calendar has. The epoch is 0 in days and in microseconds.
#[cold]
fn zero<T: Default>(moment: &Moment, policy: ZeroDates) -> Result<Option<T>, ValueError> {
    match policy {
        ZeroDates::Null => Ok(None),
        ZeroDates::Epoch => Ok(Some(T::default())),
        ZeroDates::Fail => {
            let mut text = String::new();
            moment.print_date(&mut text);
            Err(ValueError::NoDate(text.into()))
        }
    }
}

/// Appends numbers, as many at a time as come without a NULL between them.
#[inline]
fn append_numbers<'a, T: ArrowPrimitiveType>(
    builder: &mut PrimitiveBuilder<T>,
    values: impl Iterator<Item = Option<&'a [u8]>>,
    read: impl Fn(&'a [u8]) -> Result<Option<T::Native>, ValueError>,
) -> Result<(), ValueError> {
    let mut held = [T::Native::default(); 64];
    let mut count = 0;
    for value in values {
        let number = match value {
            Some(value) => read(value)?,
            None => None,
        };
        let Some(number) = number else {
            builder.append_slice(&held[..count]);
            builder.append_null();
            count = 0;
            continue;
        };
        held[count] = number;
        count += 1;
        if count == held.len() {
            builder.append_slice(&held);
            count = 0;
        }
    }
    builder.append_slice(&held[..count]);
    Ok(())
}

/// The bytes of a number.
#[inline]
fn exact<const N: usize>(value: &[u8]) -> Result<[u8; N], ValueError> {
    value.try_into().map_err(|_| ValueError::Truncated)
}

/// A BIT, whose highest byte is the first.
fn bits(bytes: &[u8]) -> Result<u64, ValueError> {
    if bytes.len() > 8 {
        return Err(ValueError::Malformed("BIT"));
    }
    let bits = bytes.iter();
    Ok(bits.fold(0, |bits, byte| (bits << 8) | u64::from(*byte)))
}

/// The number that stands for a name, whose lowest byte is the first.
fn number(bytes: &[u8]) -> u64 {
    let bytes = bytes.iter().rev();
    bytes.fold(0, |number, byte| (number << 8) | u64::from(*byte))
}

/// The name of a number of an ENUM: they are counted from 1, and 0 is a value that was none of them.
fn enum_name(names: &[String], index: u64) -> Result<&str, ValueError> {
    let Some(place) = index.checked_sub(1) else {
        return Ok("");
    };
    let name = usize::try_from(place).ok().and_then(|at| names.get(at));
    name.map(String::as_str).ok_or(ValueError::UnknownName {
        index,
        count: names.len(),
    })
}

/// Puts down the names of the bits that are set.
fn set_names(names: &[String], members: u64, text: &mut String) -> Result<(), ValueError> {
    text.clear();
    let mut rest = members;
    let mut separator = "";
    while rest != 0 {
        let index = rest.trailing_zeros();
        rest &= rest - 1;
        let name = names.get(index as usize).ok_or(ValueError::UnknownName {
            index: u64::from(index) + 1,
            count: names.len(),
        })?;
        text.push_str(separator);
        text.push_str(name);
        separator = ",";
    }
    Ok(())
}

/// The geometry itself, without the number of its reference system.
fn without_srid(bytes: &[u8]) -> Result<&[u8], ValueError> {
    bytes.get(4..).ok_or(ValueError::Malformed("geometry"))
}

/// Bytes with the zeros at their end that the binlog leaves out.
fn padded<const N: usize>(bytes: &[u8]) -> Result<[u8; N], ValueError> {
    let mut padded = [0; N];
    let start = padded.get_mut(..bytes.len());
    start
        .ok_or(ValueError::Malformed("address or UUID"))?
        .copy_from_slice(bytes);
    Ok(padded)
}

/// A decimal without the zeros that ZEROFILL puts before it.
fn without_zeros<'a>(decimal: &'a str, room: &'a mut String) -> &'a str {
    let (sign, digits) = match decimal.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", decimal),
    };
    let plain = digits.trim_start_matches('0');
    if plain.len() == digits.len() {
        return decimal;
    }
    room.clear();
    room.push_str(sign);
    if !plain.starts_with(|first: char| first.is_ascii_digit()) {
        room.push('0');
    }
    room.push_str(plain);
    room
}

fn integer<T: TryFrom<i64> + TryFrom<u64>>(value: &Value) -> Result<T, ValueError> {
    let number = match value {
        Value::Int(number) => T::try_from(*number).ok(),
        Value::UInt(number) => T::try_from(*number).ok(),
        _ => None,
    };
    number.ok_or_else(|| unexpected("a whole number of the column's type", value))
}

fn bytes_of<'a>(value: &'a Value, expected: &'static str) -> Result<&'a [u8], ValueError> {
    match value {
        Value::Bytes(bytes) => Ok(bytes),
        other => Err(unexpected(expected, other)),
    }
}

fn text_of<'a>(value: &'a Value, expected: &'static str) -> Result<&'a str, ValueError> {
    let text = std::str::from_utf8(bytes_of(value, expected)?);
    text.map_err(|_| unexpected(expected, value))
}

fn moment_of(value: &Value, expected: &'static str) -> Result<Moment, ValueError> {
    match value {
        Value::Date(year, month, day, hour, minute, second, micros) => Ok(Moment {
            year: u32::from(*year),
            month: u32::from(*month),
            day: u32::from(*day),
            hour: u32::from(*hour),
            minute: u32::from(*minute),
            second: u32::from(*second),
            micros: *micros,
        }),
        other => Err(unexpected(expected, other)),
    }
}

#[cold]
fn unexpected(expected: &'static str, value: &Value) -> ValueError {
    let found = match value {
        Value::NULL => "NULL".to_owned(),
        Value::Bytes(bytes) => format!("the bytes {}", hexadecimal(bytes)),
        Value::Int(number) => number.to_string(),
        Value::UInt(number) => number.to_string(),
        Value::Float(_) => "a FLOAT".to_owned(),
        Value::Double(_) => "a DOUBLE".to_owned(),
        Value::Date(..) => "a date".to_owned(),
        Value::Time(..) => "a time".to_owned(),
    };
    ValueError::Unexpected {
        expected,
        found: found.into(),
    }
}

/// The beginning of some bytes, for a message.
fn hexadecimal(bytes: &[u8]) -> String {
    const SHOWN: usize = 16;
    let shown = bytes.iter().take(SHOWN);
    let mut text: String = shown.map(|byte| format!("{byte:02X}")).collect();
    if bytes.len() > SHOWN {
        text.push_str("...");
    }
    text
}

#[cfg(test)]
mod tests {
    use arrow::util::display::array_value_to_string;
    use expect_test::{Expect, expect};

    use super::*;

    fn wire(type_code: u8, metadata: [u8; 2]) -> WireColumn {
        WireColumn {
            type_code,
            metadata,
            unsigned: false,
            collation: Some(255),
            values: Vec::new(),
        }
    }

    fn printed(builder: &mut ColumnBuilder) -> String {
        let array = builder.finish().unwrap();
        let cells = (0..array.len()).map(|row| match array.is_null(row) {
            true => "NULL".to_owned(),
            false => array_value_to_string(&array, row).unwrap(),
        });
        cells.collect::<Vec<_>>().join(" | ")
    }

    /// Values from the binlog and from a row have to print alike.
    fn check(
        wire: &WireColumn,
        known: &SourceType,
        image: &[u8],
        rows: Vec<Value>,
        expected: Expect,
    ) {
        let policies = ValuePolicies::default();
        let mut builder = ColumnBuilder::new(known, Some(wire), policies).unwrap();
        let mut rest = image;
        while !rest.is_empty() {
            builder.append_binlog(&mut rest).unwrap();
        }
        assert_eq!(builder.len(), rows.len());
        let from_binlog = printed(&mut builder);
        let mut builder = ColumnBuilder::new(known, None, policies).unwrap();
        for value in rows {
            builder.append_value(value).unwrap();
        }
        assert_eq!(printed(&mut builder), from_binlog);
        expected.assert_eq(&from_binlog);
    }

    #[test]
    fn numbers() {
        let medium = SourceType::MediumInt { unsigned: false };
        check(
            &wire(9, [0, 0]),
            &medium,
            &[0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F],
            vec![Value::Int(-1), Value::Int(8_388_607)],
            expect!["-1 | 8388607"],
        );
        let mut big = wire(8, [0, 0]);
        big.unsigned = true;
        check(
            &big,
            &SourceType::BigInt { unsigned: true },
            &[0xFF; 8],
            vec![Value::UInt(u64::MAX)],
            expect!["18446744073709551615"],
        );
        check(
            &wire(13, [0, 0]),
            &SourceType::Year,
            &[0, 124],
            vec![Value::UInt(0), Value::UInt(2024)],
            expect!["0 | 2024"],
        );
        check(
            &wire(246, [4, 2]),
            &SourceType::Decimal {
                precision: 4,
                scale: 2,
            },
            &[0x8C, 34, 0x7F, 0xFA],
            vec![
                Value::Bytes(b"12.34".to_vec()),
                Value::Bytes(b"-0.05".to_vec()),
            ],
            expect!["12.34 | -0.05"],
        );
        check(
            &wire(16, [1, 1]),
            &SourceType::Bit { bits: 9 },
            &[1, 2],
            vec![Value::Bytes(vec![1, 2])],
            expect!["258"],
        );
    }

    #[test]
    fn a_decimal_too_wide_for_the_lake_is_text_without_zerofill() {
        let wide = SourceType::Decimal {
            precision: 40,
            scale: 2,
        };
        let mut image = vec![0x80];
        image.extend([0; 16]);
        image.push(7);
        check(
            &wire(246, [40, 2]),
            &wide,
            &image,
            vec![Value::Bytes(
                b"0000000000000000000000000000000000000000.07".to_vec(),
            )],
            expect!["0.07"],
        );
    }

    #[test]
    fn a_date_that_no_calendar_has_goes_by_policy() {
        let date = wire(10, [0, 0]);
        // 2024-02-29, then 2024-00-15.
        let image = [0x5D, 0xD0, 0x0F, 0x0F, 0xD0, 0x0F];
        check(
            &date,
            &SourceType::Date,
            &image,
            vec![
                Value::Date(2024, 2, 29, 0, 0, 0, 0),
                Value::Date(2024, 0, 15, 0, 0, 0, 0),
            ],
            expect!["2024-02-29 | NULL"],
        );
        let policy = |zero_dates| ValuePolicies {
            zero_dates,
            ..ValuePolicies::default()
        };
        let build = |policies| ColumnBuilder::new(&SourceType::Date, Some(&date), policies);
        let mut builder = build(policy(ZeroDates::Epoch)).unwrap();
        builder.append_binlog(&mut &image[3..]).unwrap();
        assert_eq!(printed(&mut builder), "1970-01-01");
        let mut builder = build(policy(ZeroDates::Fail)).unwrap();
        let failed = builder.append_binlog(&mut &image[3..]).unwrap_err();
        assert_eq!(failed.to_string(), "\"2024-00-15\" is not a date");
        assert!(builder.is_empty());
    }

    #[test]
    fn a_time_of_many_hours_is_put_together_from_days() {
        check(
            &wire(19, [3, 0]),
            &SourceType::Time { fraction: 3 },
            &[0x4B, 0x91, 0x04, 0xEC, 0x78],
            vec![Value::Time(true, 34, 22, 59, 59, 500_000)],
            expect!["-838:59:59.500"],
        );
    }

    #[test]
    fn text_that_is_none_goes_by_policy() {
        let text = SourceType::Text {
            charset: Charset::Utf8mb4,
        };
        let varchar = wire(15, [40, 0]);
        check(
            &varchar,
            &text,
            b"\x02\xC3\xA9\x02a\xFF",
            vec![
                Value::Bytes("é".as_bytes().to_vec()),
                Value::Bytes(b"a\xFF".to_vec()),
            ],
            expect!["é | a\u{fffd}"],
        );
        for (invalid_text, outcome) in [
            (InvalidText::Null, "NULL"),
            (
                InvalidText::Fail,
                "61FF is not text in character set \"utf8mb4\"",
            ),
        ] {
            let policies = ValuePolicies {
                invalid_text,
                ..ValuePolicies::default()
            };
            let mut builder = ColumnBuilder::new(&text, Some(&varchar), policies).unwrap();
            let appended = builder.append_binlog(&mut &b"\x02a\xFF"[..]);
            match appended {
                Ok(()) => assert_eq!(printed(&mut builder), outcome),
                Err(error) => assert_eq!(error.to_string(), outcome),
            }
        }
    }

    #[test]
    fn names_of_an_enum_and_a_set() {
        let values: Vec<Vec<u8>> = [&b"a"[..], b"b", b"c"].map(<[u8]>::to_vec).to_vec();
        let mut one = wire(247, [247, 1]);
        one.values.clone_from(&values);
        let known = one.source_type(None).unwrap();
        check(
            &one,
            &known,
            &[0, 2],
            vec![Value::Bytes(Vec::new()), Value::Bytes(b"b".to_vec())],
            expect![" | b"],
        );
        let mut several = wire(248, [248, 1]);
        several.values = values;
        let known = several.source_type(None).unwrap();
        check(
            &several,
            &known,
            &[0, 5],
            vec![Value::Bytes(Vec::new()), Value::Bytes(b"a,c".to_vec())],
            expect![" | a,c"],
        );
        let mut builder =
            ColumnBuilder::new(&known, Some(&several), ValuePolicies::default()).unwrap();
        let failed = builder.append_binlog(&mut &[8][..]).unwrap_err();
        assert_eq!(
            failed.to_string(),
            "4 is not the number of a name, of which there are 3"
        );
    }

    #[test]
    fn bytes_are_padded_to_the_length_of_their_column() {
        let mut binary = wire(254, [254, 4]);
        binary.collation = Some(63);
        check(
            &binary,
            &SourceType::Bytes { fixed: Some(4) },
            &[1, 7, 0],
            vec![
                Value::Bytes(vec![7, 0, 0, 0]),
                Value::Bytes(vec![0, 0, 0, 0]),
            ],
            expect!["07000000 | 00000000"],
        );
    }

    #[test]
    fn an_image_that_ends_early_is_an_error() {
        let text = SourceType::Text {
            charset: Charset::Utf8mb4,
        };
        let policies = ValuePolicies::default();
        let cases = [
            (wire(15, [40, 0]), text, &b"\x05abc"[..]),
            (
                wire(246, [10, 2]),
                SourceType::Decimal {
                    precision: 10,
                    scale: 2,
                },
                &[0x80][..],
            ),
            (
                wire(18, [6, 0]),
                SourceType::DateTime { fraction: 6 },
                &[0; 7],
            ),
            (wire(245, [4, 0]), SourceType::Json, &[9, 0, 0, 0, 4]),
        ];
        for (wire, source, mut image) in cases {
            let mut builder = ColumnBuilder::new(&source, Some(&wire), policies).unwrap();
            let failed = builder.append_binlog(&mut image);
            assert_eq!(failed, Err(ValueError::Truncated));
            assert_eq!(builder.len(), 0);
        }
    }

    #[test]
    fn a_column_of_another_type_is_refused() {
        let source = SourceType::BigInt { unsigned: false };
        let refused = ColumnBuilder::new(&source, Some(&wire(3, [0, 0])), ValuePolicies::default());
        let Err(refused) = refused else {
            panic!("an INT is no BIGINT");
        };
        assert_eq!(
            refused.message,
            "the binlog has a column of type \"integer\" where one of type \"bigint\" is expected"
        );
    }
}
