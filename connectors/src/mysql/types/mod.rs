//! Column types of MySQL and MariaDB, and their values as Arrow.
//!
//! ```text
//! information_schema -> SourceType <- WireColumn <- binlog: TABLE_MAP, binlog_row_metadata = FULL
//!                           |
//! binlog: row image -> ColumnBuilder -> Arrow <- rows of the binary protocol
//! ```
//!
//! A row comes from one of two places, the binlog or a `SELECT`, and has to be the same from both. What
//! the formats do not agree on is settled here: the session that selects has `character_set_results =
//! NULL` and `time_zone = '+00:00'`, so that text comes in its column's character set and a TIMESTAMP
//! in UTC from both; what else differs (bytes that are padded, binary JSON, MariaDB's UUID) is made
//! equal to what the server answers to a `SELECT`.
//!
//! How a column is read is decided once, in [`ColumnBuilder::new`]. A value that cannot be read is a
//! [`ValueError`], after which the image is of no more use; the caller says which column it was.
//!
//! - `definition`: a type from `information_schema`.
//! - `wire`: a type from the binlog, and how long its values are.
//! - `column`: values into Arrow.
//! - `charset`, `decimal`, `temporal`, `json`, `address`, `compressed`: formats of values.

mod address;
mod charset;
mod charset_tables;
mod column;
mod compressed;
mod decimal;
mod definition;
mod json;
#[cfg(test)]
mod server_tests;
mod temporal;
mod wire;

use boathouse_catalog::types::{ColumnType, NUMERIC_PRECISION_MAX};
use serde::{Deserialize, Serialize};

pub use charset::Charset;
pub use column::ColumnBuilder;
pub(crate) use column::Room;
pub(crate) use wire::Frame;
pub use wire::{WireColumn, skip_binlog};

/// A column's type as the source has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SourceType {
    TinyInt {
        unsigned: bool,
    },
    SmallInt {
        unsigned: bool,
    },
    MediumInt {
        unsigned: bool,
    },
    Int {
        unsigned: bool,
    },
    BigInt {
        unsigned: bool,
    },
    Decimal {
        precision: u8,
        scale: u8,
    },
    Float,
    Double,
    Bit {
        bits: u8,
    },
    Year,
    Date,
    DateTime {
        fraction: u8,
    },
    Timestamp {
        fraction: u8,
    },
    Time {
        fraction: u8,
    },
    /// CHAR, VARCHAR and TEXT of all sizes.
    Text {
        charset: Charset,
    },
    /// VARBINARY and BLOB of all sizes; `BINARY(n)`, which is padded with zero bytes to `fixed`.
    Bytes {
        fixed: Option<u32>,
    },
    Enum {
        charset: Charset,
        values: Vec<String>,
    },
    Set {
        charset: Charset,
        values: Vec<String>,
    },
    Json,
    Geometry,
    /// MariaDB's, as the next two are.
    Uuid,
    Inet4,
    Inet6,
    Vector,
}

/// Digits that hold every unsigned 64-bit integer.
const UINT64_PRECISION: u8 = 20;

impl SourceType {
    /// The type of its column in the lake.
    pub fn column_type(&self) -> ColumnType {
        const UINT64: ColumnType = ColumnType::Numeric {
            precision: Some(UINT64_PRECISION),
            scale: 0,
        };
        match self {
            Self::TinyInt { .. } | Self::SmallInt { unsigned: false } | Self::Year => {
                ColumnType::SmallInt
            }
            Self::SmallInt { unsigned: true }
            | Self::MediumInt { .. }
            | Self::Int { unsigned: false } => ColumnType::Integer,
            Self::Int { unsigned: true } | Self::BigInt { unsigned: false } => ColumnType::BigInt,
            Self::BigInt { unsigned: true } => UINT64,
            Self::Decimal { precision, scale } if *precision <= NUMERIC_PRECISION_MAX => {
                ColumnType::Numeric {
                    precision: Some(*precision),
                    scale: *scale as i8,
                }
            }
            Self::Float => ColumnType::Real,
            Self::Double => ColumnType::Double,
            Self::Bit { bits: 0 | 1 } => ColumnType::Boolean,
            Self::Bit { bits: 2..=63 } => ColumnType::BigInt,
            Self::Bit { .. } => UINT64,
            Self::Date => ColumnType::Date,
            Self::DateTime { .. } => ColumnType::Timestamp,
            Self::Timestamp { .. } => ColumnType::TimestampTz,
            Self::Decimal { .. }
            | Self::Time { .. }
            | Self::Text { .. }
            | Self::Enum { .. }
            | Self::Set { .. }
            | Self::Inet4
            | Self::Inet6 => ColumnType::Text,
            Self::Bytes { .. } | Self::Geometry | Self::Vector => ColumnType::Bytea,
            Self::Json => ColumnType::Jsonb,
            Self::Uuid => ColumnType::Uuid,
        }
    }
}

/// What becomes of a date that no calendar has: `0000-00-00`, one without a month or day, and one such
/// as `2023-02-31`, which a server keeps when it was told not to look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ZeroDates {
    #[default]
    Null,
    Fail,
    /// 1970-01-01.
    Epoch,
}

/// What becomes of text that its character set does not have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InvalidText {
    /// U+FFFD stands in the place of what is no text.
    #[default]
    Replace,
    Null,
    Fail,
}

/// What becomes of values that the lake cannot hold as they are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ValuePolicies {
    pub zero_dates: ZeroDates,
    pub invalid_text: InvalidText,
}

/// Why a value could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    #[error("the row image ends within the value")]
    Truncated,
    #[error("the {0} is malformed")]
    Malformed(&'static str),
    #[error("\"{0}\" is not a date")]
    NoDate(Box<str>),
    #[error("{bytes} is not text in character set \"{charset}\"")]
    InvalidText {
        charset: &'static str,
        /// The beginning of it in hexadecimal.
        bytes: Box<str>,
    },
    #[error("{index} is not the number of a name, of which there are {count}")]
    UnknownName { index: u64, count: usize },
    #[error("the server sent {found} for {expected}")]
    Unexpected {
        expected: &'static str,
        found: Box<str>,
    },
    #[error("the column is not described by the binlog")]
    NotDescribed,
    #[error("a batch cannot hold more of this column")]
    BatchFull,
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn each_type_has_one_in_the_lake() {
        let text = Charset::Utf8mb4;
        let types = [
            SourceType::TinyInt { unsigned: true },
            SourceType::SmallInt { unsigned: true },
            SourceType::MediumInt { unsigned: true },
            SourceType::Int { unsigned: false },
            SourceType::Int { unsigned: true },
            SourceType::BigInt { unsigned: false },
            SourceType::BigInt { unsigned: true },
            SourceType::Decimal {
                precision: 38,
                scale: 5,
            },
            SourceType::Decimal {
                precision: 39,
                scale: 5,
            },
            SourceType::Bit { bits: 1 },
            SourceType::Bit { bits: 63 },
            SourceType::Bit { bits: 64 },
            SourceType::Year,
            SourceType::DateTime { fraction: 3 },
            SourceType::Timestamp { fraction: 0 },
            SourceType::Time { fraction: 6 },
            SourceType::Text { charset: text },
            SourceType::Bytes { fixed: Some(16) },
            SourceType::Enum {
                charset: text,
                values: vec!["a".to_owned()],
            },
            SourceType::Json,
            SourceType::Uuid,
        ];
        let rows: String = types
            .iter()
            .map(|one| {
                let stored = serde_json::to_string(one).unwrap();
                assert_eq!(&serde_json::from_str::<SourceType>(&stored).unwrap(), one);
                format!("{stored} {}\n", one.column_type())
            })
            .collect();
        expect![[r#"
            {"TinyInt":{"unsigned":true}} smallint
            {"SmallInt":{"unsigned":true}} integer
            {"MediumInt":{"unsigned":true}} integer
            {"Int":{"unsigned":false}} integer
            {"Int":{"unsigned":true}} bigint
            {"BigInt":{"unsigned":false}} bigint
            {"BigInt":{"unsigned":true}} numeric(20,0)
            {"Decimal":{"precision":38,"scale":5}} numeric(38,5)
            {"Decimal":{"precision":39,"scale":5}} text
            {"Bit":{"bits":1}} boolean
            {"Bit":{"bits":63}} bigint
            {"Bit":{"bits":64}} numeric(20,0)
            "Year" smallint
            {"DateTime":{"fraction":3}} timestamp without time zone
            {"Timestamp":{"fraction":0}} timestamp with time zone
            {"Time":{"fraction":6}} text
            {"Text":{"charset":"utf8mb4"}} text
            {"Bytes":{"fixed":16}} bytea
            {"Enum":{"charset":"utf8mb4","values":["a"]}} text
            "Json" jsonb
            "Uuid" uuid
        "#]]
        .assert_eq(&rows);
    }
}
