//! A column as the binlog describes it, and how long its values are in a row image.

use super::charset::BINARY_COLLATION;
use super::decimal::DecimalLayout;
use super::temporal::{TemporalFormat, TemporalKind};
use super::{Charset, SourceType, ValueError};
use crate::error::{ConnectorError, sqlstate};

/// The numbers types have in the protocol.
pub(super) mod code {
    pub const TINY: u8 = 1;
    pub const SHORT: u8 = 2;
    pub const LONG: u8 = 3;
    pub const FLOAT: u8 = 4;
    pub const DOUBLE: u8 = 5;
    pub const TIMESTAMP: u8 = 7;
    pub const LONGLONG: u8 = 8;
    pub const INT24: u8 = 9;
    pub const DATE: u8 = 10;
    pub const TIME: u8 = 11;
    pub const DATETIME: u8 = 12;
    pub const YEAR: u8 = 13;
    pub const NEWDATE: u8 = 14;
    pub const VARCHAR: u8 = 15;
    pub const BIT: u8 = 16;
    pub const TIMESTAMP2: u8 = 17;
    pub const DATETIME2: u8 = 18;
    pub const TIME2: u8 = 19;
    /// MariaDB's.
    pub const BLOB_COMPRESSED: u8 = 140;
    pub const VARCHAR_COMPRESSED: u8 = 141;
    pub const VECTOR: u8 = 242;
    pub const JSON: u8 = 245;
    pub const NEWDECIMAL: u8 = 246;
    pub const ENUM: u8 = 247;
    pub const SET: u8 = 248;
    pub const TINY_BLOB: u8 = 249;
    pub const MEDIUM_BLOB: u8 = 250;
    pub const LONG_BLOB: u8 = 251;
    pub const BLOB: u8 = 252;
    pub const VAR_STRING: u8 = 253;
    pub const STRING: u8 = 254;
    pub const GEOMETRY: u8 = 255;
}

/// A column as a `TABLE_MAP` event with full metadata describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WireColumn {
    /// The real type: ENUM (247) and SET (248) are already told from STRING.
    pub type_code: u8,
    /// As in the event, first byte first; metadata of one byte is in the first.
    ///
    /// The types TIMESTAMP (7), TIME (11) and DATETIME (12) have none. Their first byte is the digits of
    /// the fraction, which [`WireColumn::with_known`] puts there.
    pub metadata: [u8; 2],
    pub unsigned: bool,
    pub collation: Option<u16>,
    /// Names of an ENUM or SET, in the character set of the collation.
    pub values: Vec<Vec<u8>>,
}

/// How long a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Frame {
    Fixed(usize),
    /// So many bytes of length stand before it.
    Prefixed(u8),
}

impl WireColumn {
    /// Adds what the event leaves out and only `information_schema` tells: how long the fraction of a
    /// time is in a MariaDB table that was made with `mysql56_temporal_format = OFF`. Without it neither
    /// such a value nor what comes after it in its row can be found.
    pub fn with_known(mut self, known: &SourceType) -> Self {
        let fraction = match (self.type_code, known) {
            (code::TIMESTAMP, SourceType::Timestamp { fraction })
            | (code::DATETIME, SourceType::DateTime { fraction })
            | (code::TIME, SourceType::Time { fraction }) => *fraction,
            _ => return self,
        };
        self.metadata[0] = fraction;
        self
    }

    /// The column's type. `known` is what `information_schema` said of the column. It is used where the
    /// event cannot tell (MariaDB's UUID and INET are binary strings there, its JSON is a text), as long
    /// as it agrees with the event.
    pub fn source_type(&self, known: Option<&SourceType>) -> Result<SourceType, ConnectorError> {
        let unsigned = self.unsigned;
        let [first, second] = self.metadata;
        Ok(match self.type_code {
            code::TINY => SourceType::TinyInt { unsigned },
            code::SHORT => SourceType::SmallInt { unsigned },
            code::INT24 => SourceType::MediumInt { unsigned },
            code::LONG => SourceType::Int { unsigned },
            code::LONGLONG => SourceType::BigInt { unsigned },
            code::FLOAT => SourceType::Float,
            code::DOUBLE => SourceType::Double,
            code::NEWDECIMAL => SourceType::Decimal {
                precision: first,
                scale: second,
            },
            code::BIT => SourceType::Bit {
                bits: second.saturating_mul(8).saturating_add(first),
            },
            code::YEAR => SourceType::Year,
            code::DATE | code::NEWDATE => SourceType::Date,
            code::DATETIME2 => SourceType::DateTime { fraction: first },
            code::TIMESTAMP2 => SourceType::Timestamp { fraction: first },
            code::TIME2 => SourceType::Time { fraction: first },
            code::DATETIME => match known {
                Some(SourceType::DateTime { fraction }) if first == 0 => SourceType::DateTime {
                    fraction: *fraction,
                },
                _ => SourceType::DateTime { fraction: first },
            },
            code::TIMESTAMP => match known {
                Some(SourceType::Timestamp { fraction }) if first == 0 => SourceType::Timestamp {
                    fraction: *fraction,
                },
                _ => SourceType::Timestamp { fraction: first },
            },
            code::TIME => match known {
                Some(SourceType::Time { fraction }) if first == 0 => SourceType::Time {
                    fraction: *fraction,
                },
                _ => SourceType::Time { fraction: first },
            },
            code::STRING => self.string(Some(self.string_length()), known)?,
            code::VARCHAR
            | code::VAR_STRING
            | code::VARCHAR_COMPRESSED
            | code::TINY_BLOB
            | code::MEDIUM_BLOB
            | code::LONG_BLOB
            | code::BLOB
            | code::BLOB_COMPRESSED => self.string(None, known)?,
            code::ENUM => {
                let (charset, values) = self.names(known)?;
                SourceType::Enum { charset, values }
            }
            code::SET => {
                let (charset, values) = self.names(known)?;
                SourceType::Set { charset, values }
            }
            code::JSON => SourceType::Json,
            code::GEOMETRY => SourceType::Geometry,
            code::VECTOR => SourceType::Vector,
            other => {
                return Err(ConnectorError::new(
                    sqlstate::FEATURE_NOT_SUPPORTED,
                    format!("column type {other} of the binlog is not supported"),
                ));
            }
        })
    }

    /// The type of what is stored as a string; `fixed` is the declared length of CHAR and BINARY.
    fn string(
        &self,
        fixed: Option<u32>,
        known: Option<&SourceType>,
    ) -> Result<SourceType, ConnectorError> {
        match (self.collation, known) {
            (Some(BINARY_COLLATION), known) => Ok(match (known, fixed) {
                (Some(SourceType::Uuid), Some(16)) => SourceType::Uuid,
                (Some(SourceType::Inet6), Some(16)) => SourceType::Inet6,
                (Some(SourceType::Inet4), Some(4)) => SourceType::Inet4,
                (Some(SourceType::Vector), None) => SourceType::Vector,
                _ => SourceType::Bytes { fixed },
            }),
            (Some(collation), known) => {
                let charset = self.charset(collation, known)?;
                Ok(match (known, charset) {
                    (Some(SourceType::Json), Charset::Utf8mb4 | Charset::Utf8mb3) => {
                        SourceType::Json
                    }
                    _ => SourceType::Text { charset },
                })
            }
            // Metadata that is not full, where all there is to go by is what is known.
            (
                None,
                Some(
                    known @ (SourceType::Text { .. }
                    | SourceType::Bytes { .. }
                    | SourceType::Json
                    | SourceType::Uuid
                    | SourceType::Inet4
                    | SourceType::Inet6
                    | SourceType::Vector),
                ),
            ) => Ok(known.clone()),
            (None, _) => Err(undescribed()),
        }
    }

    /// Character set and names of an ENUM or SET.
    fn names(&self, known: Option<&SourceType>) -> Result<(Charset, Vec<String>), ConnectorError> {
        if let (
            true,
            Some(SourceType::Enum { charset, values } | SourceType::Set { charset, values }),
        ) = (self.values.is_empty(), known)
        {
            return Ok((*charset, values.clone()));
        }
        let collation = self.collation.ok_or_else(undescribed)?;
        let charset = self.charset(collation, known)?;
        let decoder = charset.decoder();
        let values = self.values.iter().map(|value| {
            let mut name = String::new();
            decoder.decode(value, &mut name);
            name
        });
        Ok((charset, values.collect()))
    }

    fn charset(
        &self,
        collation: u16,
        known: Option<&SourceType>,
    ) -> Result<Charset, ConnectorError> {
        match (Charset::of_collation(collation), known) {
            (Some(charset), _) => Ok(charset),
            // A collation newer than this program, of a character set it has nevertheless.
            (
                None,
                Some(
                    SourceType::Text { charset }
                    | SourceType::Enum { charset, .. }
                    | SourceType::Set { charset, .. },
                ),
            ) => Ok(*charset),
            (None, _) => Err(ConnectorError::new(
                sqlstate::FEATURE_NOT_SUPPORTED,
                format!(
                    "the character set of collation {collation}, of a column of type {}, is not known",
                    self.type_code
                ),
            )),
        }
    }

    /// The declared length in bytes of a STRING: where it takes more than eight bits, the upper ones
    /// are, inverted, in the middle of the type.
    fn string_length(&self) -> u32 {
        let [first, second] = self.metadata;
        let upper = match first {
            0 => 0,
            first => u32::from(first & 0x30 ^ 0x30) << 4,
        };
        upper | u32::from(second)
    }

    /// How long its values are; nothing for a type that is not known.
    pub(crate) fn frame(&self) -> Option<Frame> {
        let [first, second] = self.metadata;
        let prefix = |length: u32| match length {
            0..=255 => Frame::Prefixed(1),
            256.. => Frame::Prefixed(2),
        };
        Some(match self.type_code {
            code::TINY | code::YEAR => Frame::Fixed(1),
            code::SHORT => Frame::Fixed(2),
            code::INT24 | code::DATE | code::NEWDATE => Frame::Fixed(3),
            code::LONG | code::FLOAT => Frame::Fixed(4),
            code::LONGLONG | code::DOUBLE => Frame::Fixed(8),
            code::NEWDECIMAL => Frame::Fixed(DecimalLayout::new(first, second)?.length()),
            code::BIT => Frame::Fixed(usize::from(second) + usize::from(first > 0)),
            code::ENUM | code::SET => Frame::Fixed(usize::from(second)),
            code::VARCHAR | code::VAR_STRING | code::VARCHAR_COMPRESSED => {
                prefix(u32::from(u16::from_le_bytes(self.metadata)))
            }
            code::STRING => prefix(self.string_length()),
            code::TINY_BLOB
            | code::MEDIUM_BLOB
            | code::LONG_BLOB
            | code::BLOB
            | code::BLOB_COMPRESSED
            | code::JSON
            | code::GEOMETRY
            | code::VECTOR => Frame::Prefixed(first),
            _ => {
                let (kind, format) = self.temporal(first)?;
                Frame::Fixed(format.length(kind))
            }
        })
    }

    /// How its dates and times are stored, with so many digits of the fraction.
    pub(super) fn temporal(&self, fraction: u8) -> Option<(TemporalKind, TemporalFormat)> {
        Some(match self.type_code {
            code::DATETIME2 => (TemporalKind::DateTime, TemporalFormat::packed(fraction)?),
            code::TIMESTAMP2 => (TemporalKind::Timestamp, TemporalFormat::packed(fraction)?),
            code::TIME2 => (TemporalKind::Time, TemporalFormat::packed(fraction)?),
            code::DATETIME => (TemporalKind::DateTime, TemporalFormat::older(fraction)?),
            code::TIMESTAMP => (TemporalKind::Timestamp, TemporalFormat::older(fraction)?),
            code::TIME => (TemporalKind::Time, TemporalFormat::older(fraction)?),
            _ => return None,
        })
    }

    /// Whether values are documents of MySQL's binary JSON.
    pub(super) fn is_binary_json(&self) -> bool {
        self.type_code == code::JSON
    }

    /// Whether values are compressed one by one.
    pub(super) fn is_compressed(&self) -> bool {
        matches!(
            self.type_code,
            code::BLOB_COMPRESSED | code::VARCHAR_COMPRESSED
        )
    }
}

fn undescribed() -> ConnectorError {
    ConnectorError::new(
        sqlstate::FEATURE_NOT_SUPPORTED,
        "the binlog does not tell the character set of a column",
    )
    .hint("set binlog_row_metadata = FULL on the server")
}

/// Advances over one value without reading it.
pub fn skip_binlog(wire: &WireColumn, image: &mut &[u8]) -> Result<(), ValueError> {
    let frame = wire.frame().ok_or(ValueError::NotDescribed)?;
    frame.take(image).map(|_| ())
}

impl Frame {
    /// Takes a value off the front, without the length that stands before it.
    #[inline]
    pub fn take<'a>(self, image: &mut &'a [u8]) -> Result<&'a [u8], ValueError> {
        match self {
            Self::Fixed(length) => take(image, length),
            Self::Prefixed(prefix) => take_prefixed(image, prefix),
        }
    }
}

/// Takes so many bytes off the front.
#[inline]
fn take<'a>(image: &mut &'a [u8], length: usize) -> Result<&'a [u8], ValueError> {
    let (value, rest) = image
        .split_at_checked(length)
        .ok_or(ValueError::Truncated)?;
    *image = rest;
    Ok(value)
}

/// Takes the bytes of a number off the front.
#[inline]
fn take_array<const N: usize>(image: &mut &[u8]) -> Result<[u8; N], ValueError> {
    let (value, rest) = image.split_first_chunk().ok_or(ValueError::Truncated)?;
    *image = rest;
    Ok(*value)
}

/// Takes a value off the front that has its length in so many bytes before it.
#[inline]
fn take_prefixed<'a>(image: &mut &'a [u8], prefix: u8) -> Result<&'a [u8], ValueError> {
    let mut rest = *image;
    let length = match prefix {
        1 => usize::from(u8::from_le_bytes(take_array(&mut rest)?)),
        2 => usize::from(u16::from_le_bytes(take_array(&mut rest)?)),
        3 => {
            let [a, b, c] = take_array(&mut rest)?;
            u32::from_le_bytes([a, b, c, 0]) as usize
        }
        4 => u32::from_le_bytes(take_array(&mut rest)?) as usize,
        _ => return Err(ValueError::NotDescribed),
    };
    let value = take(&mut rest, length)?;
    *image = rest;
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(type_code: u8, metadata: [u8; 2], collation: Option<u16>) -> WireColumn {
        WireColumn {
            type_code,
            metadata,
            unsigned: false,
            collation,
            values: Vec::new(),
        }
    }

    #[test]
    fn a_long_char_has_two_bytes_of_length() {
        // CHAR(255) of four bytes each: 1020 is 0x3FC, whose upper bits are inverted in the type.
        let long = wire(code::STRING, [0xFE ^ 0x30, 0xFC], Some(255));
        assert_eq!(long.string_length(), 1020);
        assert_eq!(long.frame(), Some(Frame::Prefixed(2)));
        let short = wire(code::STRING, [0xFE, 40], Some(255));
        assert_eq!(short.string_length(), 40);
        assert_eq!(short.frame(), Some(Frame::Prefixed(1)));
    }

    #[test]
    fn what_is_known_counts_where_it_agrees() {
        let sixteen = wire(code::STRING, [0xFE, 16], Some(63));
        let binary = SourceType::Bytes { fixed: Some(16) };
        for known in [SourceType::Uuid, SourceType::Inet6] {
            assert_eq!(sixteen.source_type(Some(&known)).unwrap(), known);
        }
        assert_eq!(sixteen.source_type(None).unwrap(), binary);
        assert_eq!(
            sixteen.source_type(Some(&SourceType::Inet4)).unwrap(),
            binary
        );
        let text = wire(code::BLOB, [4, 0], Some(46));
        let told = text.source_type(Some(&SourceType::Json)).unwrap();
        assert_eq!(told, SourceType::Json);
    }

    #[test]
    fn names_are_in_the_character_set_of_the_column() {
        let mut latin = wire(code::ENUM, [247, 1], Some(8));
        latin.values = vec![b"caf\xE9".to_vec()];
        let told = latin.source_type(None).unwrap();
        let values = vec!["café".to_owned()];
        let charset = Charset::Latin1;
        assert_eq!(told, SourceType::Enum { charset, values });
    }

    #[test]
    fn a_column_without_a_character_set_is_an_error() {
        let told = wire(code::VARCHAR, [40, 0], None).source_type(None);
        assert_eq!(
            told.unwrap_err().message,
            "the binlog does not tell the character set of a column"
        );
        let told = wire(code::VARCHAR, [40, 0], Some(9999)).source_type(None);
        assert_eq!(
            told.unwrap_err().message,
            "the character set of collation 9999, of a column of type 15, is not known"
        );
    }

    #[test]
    fn a_value_can_be_skipped() {
        let image = [3, b'a', b'b', b'c', 0x80, 7, 9, 9];
        let mut rest = &image[..];
        skip_binlog(&wire(code::VARCHAR, [40, 0], Some(8)), &mut rest).unwrap();
        skip_binlog(&wire(code::NEWDECIMAL, [4, 2], None), &mut rest).unwrap();
        assert_eq!(rest, [9, 9]);
        let failed = skip_binlog(&wire(code::LONG, [0, 0], None), &mut rest);
        assert_eq!(failed, Err(ValueError::Truncated));
        let failed = skip_binlog(&wire(99, [0, 0], None), &mut rest);
        assert_eq!(failed, Err(ValueError::NotDescribed));
    }

    #[test]
    fn the_fraction_of_an_older_time_has_to_be_known() {
        let time = wire(code::TIME, [0, 0], None);
        assert_eq!(time.frame(), Some(Frame::Fixed(3)));
        let time = time.with_known(&SourceType::Time { fraction: 6 });
        assert_eq!(time.frame(), Some(Frame::Fixed(6)));
    }
}
