//! The one table of types: PostgreSQL's name and OID, Arrow in memory, Arrow as stored in Delta.
//!
//! Every other module that needs one side of it from another comes here; `docs/reference/types.md`
//! is rendered from it. What Arrow alone cannot say (a uuid, json and `varchar(20)` are all `Utf8`)
//! travels as the field metadata [`TYPE_KEY`]; metadata that contradicts the Arrow type of its field
//! is ignored, because expressions such as casts may carry their argument's metadata along.
//!
//! - `arrow`: to and from Arrow fields.
//! - `names`: PostgreSQL's names and their aliases.
//! - `reference`: the table as a page of the documentation.

mod arrow;
mod names;
mod reference;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use names::TypeError;
pub use reference::reference_page;

/// Field metadata that names the PostgreSQL type, in [`ColumnType::sql_name`]'s words.
pub const TYPE_KEY: &str = "boathouse.type";

/// The most digits a stored decimal has (Delta's limit).
pub const NUMERIC_PRECISION_MAX: u8 = 38;

/// The scale of a `numeric` that was declared without one.
pub const NUMERIC_BARE_SCALE: i8 = 10;

/// The most characters `varchar(n)` and `char(n)` may declare.
pub const CHARACTER_LENGTH_MAX: u32 = 10_485_760;

/// The type of a column, as PostgreSQL names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ColumnType {
    Boolean,
    SmallInt,
    Integer,
    BigInt,
    /// `numeric(precision, scale)`; without a precision, bare `numeric`.
    Numeric {
        precision: Option<u8>,
        scale: i8,
    },
    Real,
    Double,
    Text,
    /// `varchar(n)`, or `varchar` without a limit.
    Varchar(Option<u32>),
    /// `char(n)`.
    Char(u32),
    Bytea,
    Date,
    Time,
    Timestamp,
    TimestampTz,
    Interval,
    Uuid,
    Json,
    Jsonb,
    /// An array of any number of dimensions is an array of arrays here and `element[]` in PostgreSQL.
    Array(Box<ColumnType>),
}

impl ColumnType {
    /// `numeric` as PostgreSQL prints it without precision and scale.
    pub const NUMERIC: Self = Self::Numeric {
        precision: None,
        scale: NUMERIC_BARE_SCALE,
    };

    /// The OID in `pg_type`.
    pub fn oid(&self) -> u32 {
        match self {
            Self::Array(_) => self.base().oids().1,
            other => other.oids().0,
        }
    }

    /// The OID of the array over this type. An array's is its own, as in PostgreSQL, where the
    /// number of dimensions is no part of the type.
    pub fn array_oid(&self) -> u32 {
        self.base().oids().1
    }

    /// `atttypmod`: what `numeric(10,2)` adds to `numeric`; -1 when there is nothing to add.
    pub fn type_modifier(&self) -> i32 {
        /// PostgreSQL stores lengths with the size of its own header added.
        const HEADER: i32 = 4;
        match self {
            Self::Numeric {
                precision: Some(precision),
                scale,
            } => ((i32::from(*precision) << 16) | (i32::from(*scale) & 0x7ff)) + HEADER,
            Self::Varchar(Some(length)) | Self::Char(length) => {
                i32::try_from(*length).unwrap_or(i32::MAX - HEADER) + HEADER
            }
            Self::Array(_) => self.base().type_modifier(),
            _ => -1,
        }
    }

    /// `typlen`: bytes of a value, or -1 when that varies.
    pub fn type_length(&self) -> i16 {
        match self {
            Self::Boolean => 1,
            Self::SmallInt => 2,
            Self::Integer | Self::Real | Self::Date => 4,
            Self::BigInt | Self::Double | Self::Time | Self::Timestamp | Self::TimestampTz => 8,
            Self::Interval | Self::Uuid => 16,
            Self::Numeric { .. }
            | Self::Text
            | Self::Varchar(_)
            | Self::Char(_)
            | Self::Bytea
            | Self::Json
            | Self::Jsonb
            | Self::Array(_) => -1,
        }
    }

    /// `typcategory`.
    pub fn category(&self) -> char {
        match self {
            Self::Boolean => 'B',
            Self::SmallInt
            | Self::Integer
            | Self::BigInt
            | Self::Numeric { .. }
            | Self::Real
            | Self::Double => 'N',
            Self::Text | Self::Varchar(_) | Self::Char(_) => 'S',
            Self::Date | Self::Time | Self::Timestamp | Self::TimestampTz => 'D',
            Self::Interval => 'T',
            Self::Bytea | Self::Uuid | Self::Json | Self::Jsonb => 'U',
            Self::Array(_) => 'A',
        }
    }

    /// The type with this OID, without length or precision. `char(n)` needs its length, so a bare
    /// `bpchar` comes back as `text`; so do `name` and the `unknown` of an untyped literal.
    pub fn from_oid(oid: u32) -> Option<Self> {
        const NAME: u32 = 19;
        const UNKNOWN: u32 = 705;
        const BPCHAR: u32 = 1042;
        const BPCHAR_ARRAY: u32 = 1014;
        match oid {
            NAME | UNKNOWN | BPCHAR => return Some(Self::Text),
            BPCHAR_ARRAY => return Some(Self::Array(Box::new(Self::Text))),
            _ => {}
        }
        Self::scalars()
            .into_iter()
            .find_map(|scalar| match scalar.oids() {
                (own, _) if own == oid => Some(scalar),
                (_, array) if array == oid => Some(Self::Array(Box::new(scalar))),
                _ => None,
            })
    }

    /// The element type under all array dimensions; the type itself when it is no array.
    pub fn base(&self) -> &Self {
        match self {
            Self::Array(element) => element.base(),
            other => other,
        }
    }

    /// Each type that is no array, once, in the order of the documentation.
    pub fn scalars() -> Vec<Self> {
        vec![
            Self::Boolean,
            Self::SmallInt,
            Self::Integer,
            Self::BigInt,
            Self::NUMERIC,
            Self::Real,
            Self::Double,
            Self::Text,
            Self::Varchar(None),
            Self::Char(1),
            Self::Bytea,
            Self::Date,
            Self::Time,
            Self::Timestamp,
            Self::TimestampTz,
            Self::Interval,
            Self::Uuid,
            Self::Json,
            Self::Jsonb,
        ]
    }

    /// The OIDs of a scalar and of the array over it, fixed in PostgreSQL's `pg_type.dat`.
    fn oids(&self) -> (u32, u32) {
        match self {
            Self::Boolean => (16, 1000),
            Self::Bytea => (17, 1001),
            Self::BigInt => (20, 1016),
            Self::SmallInt => (21, 1005),
            Self::Integer => (23, 1007),
            Self::Text => (25, 1009),
            Self::Json => (114, 199),
            Self::Real => (700, 1021),
            Self::Double => (701, 1022),
            Self::Char(_) => (1042, 1014),
            Self::Varchar(_) => (1043, 1015),
            Self::Date => (1082, 1182),
            Self::Time => (1083, 1183),
            Self::Timestamp => (1114, 1115),
            Self::TimestampTz => (1184, 1185),
            Self::Interval => (1186, 1187),
            Self::Numeric { .. } => (1700, 1231),
            Self::Uuid => (2950, 2951),
            Self::Jsonb => (3802, 3807),
            Self::Array(element) => element.oids(),
        }
    }
}

/// Prints [`ColumnType::sql_name`].
impl fmt::Display for ColumnType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.sql_name())
    }
}

/// Reads what [`fmt::Display`] prints, and every other spelling [`ColumnType::from_name`] knows.
impl FromStr for ColumnType {
    type Err = TypeError;

    fn from_str(text: &str) -> Result<Self, TypeError> {
        Self::parse(text)
    }
}

/// A type is stored as its SQL name, so that a stored definition can be read by a person and does
/// not depend on how this enum is laid out.
impl Serialize for ColumnType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.sql_name())
    }
}

impl<'de> Deserialize<'de> for ColumnType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn the_catalog_numbers_are_postgresqls() {
        let rows: String = ColumnType::scalars()
            .into_iter()
            .chain([
                ColumnType::Numeric {
                    precision: Some(10),
                    scale: 2,
                },
                ColumnType::Varchar(Some(20)),
                ColumnType::Char(3),
                ColumnType::Array(Box::new(ColumnType::Varchar(Some(20)))),
                ColumnType::Array(Box::new(ColumnType::Array(Box::new(ColumnType::Integer)))),
            ])
            .map(|one| {
                format!(
                    "{} | {} | oid {} | array {} | modifier {} | length {} | category {}\n",
                    one.sql_name(),
                    one.internal_name(),
                    one.oid(),
                    one.array_oid(),
                    one.type_modifier(),
                    one.type_length(),
                    one.category()
                )
            })
            .collect();
        expect![[r#"
            boolean | bool | oid 16 | array 1000 | modifier -1 | length 1 | category B
            smallint | int2 | oid 21 | array 1005 | modifier -1 | length 2 | category N
            integer | int4 | oid 23 | array 1007 | modifier -1 | length 4 | category N
            bigint | int8 | oid 20 | array 1016 | modifier -1 | length 8 | category N
            numeric | numeric | oid 1700 | array 1231 | modifier -1 | length -1 | category N
            real | float4 | oid 700 | array 1021 | modifier -1 | length 4 | category N
            double precision | float8 | oid 701 | array 1022 | modifier -1 | length 8 | category N
            text | text | oid 25 | array 1009 | modifier -1 | length -1 | category S
            character varying | varchar | oid 1043 | array 1015 | modifier -1 | length -1 | category S
            character(1) | bpchar | oid 1042 | array 1014 | modifier 5 | length -1 | category S
            bytea | bytea | oid 17 | array 1001 | modifier -1 | length -1 | category U
            date | date | oid 1082 | array 1182 | modifier -1 | length 4 | category D
            time without time zone | time | oid 1083 | array 1183 | modifier -1 | length 8 | category D
            timestamp without time zone | timestamp | oid 1114 | array 1115 | modifier -1 | length 8 | category D
            timestamp with time zone | timestamptz | oid 1184 | array 1185 | modifier -1 | length 8 | category D
            interval | interval | oid 1186 | array 1187 | modifier -1 | length 16 | category T
            uuid | uuid | oid 2950 | array 2951 | modifier -1 | length 16 | category U
            json | json | oid 114 | array 199 | modifier -1 | length -1 | category U
            jsonb | jsonb | oid 3802 | array 3807 | modifier -1 | length -1 | category U
            numeric(10,2) | numeric | oid 1700 | array 1231 | modifier 655366 | length -1 | category N
            character varying(20) | varchar | oid 1043 | array 1015 | modifier 24 | length -1 | category S
            character(3) | bpchar | oid 1042 | array 1014 | modifier 7 | length -1 | category S
            character varying(20)[] | _varchar | oid 1015 | array 1015 | modifier 24 | length -1 | category A
            integer[][] | _int4 | oid 1007 | array 1007 | modifier -1 | length -1 | category A
        "#]].assert_eq(&rows);
    }

    #[test]
    fn an_oid_names_its_type_again() {
        for scalar in ColumnType::scalars() {
            let array = ColumnType::Array(Box::new(scalar.clone()));
            let found = (
                ColumnType::from_oid(scalar.oid()),
                ColumnType::from_oid(array.oid()),
            );
            let text = ColumnType::Text;
            if matches!(scalar, ColumnType::Char(_)) {
                assert_eq!(
                    found,
                    (Some(text.clone()), Some(ColumnType::Array(Box::new(text))))
                );
            } else {
                assert_eq!(found, (Some(scalar), Some(array)));
            }
        }
        assert_eq!(ColumnType::from_oid(19), Some(ColumnType::Text));
        assert_eq!(ColumnType::from_oid(600), None);
    }

    #[test]
    fn a_type_is_stored_as_its_sql_name() {
        let column = ColumnType::Array(Box::new(ColumnType::Numeric {
            precision: Some(10),
            scale: 2,
        }));
        let stored = serde_json::to_string(&column).unwrap();
        assert_eq!(stored, r#""numeric(10,2)[]""#);
        assert_eq!(serde_json::from_str::<ColumnType>(&stored).unwrap(), column);
        for scalar in ColumnType::scalars() {
            assert_eq!(scalar.sql_name().parse::<ColumnType>().unwrap(), scalar);
        }
    }
}
