//! PostgreSQL's names of types: what `format_type` prints, what `pg_type` holds, and every alias a
//! statement may use.
//!
//! A modifier this program would not honour (the `3` of `timestamp(3)`) is refused, not dropped.

use std::borrow::Cow;

use super::{CHARACTER_LENGTH_MAX, ColumnType, NUMERIC_PRECISION_MAX};

/// Digits after the second that times and timestamps keep.
const TIME_PRECISION: i64 = 6;

/// Why a name is not a type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TypeError {
    #[error("type \"{0}\" does not exist")]
    Unknown(String),
    #[error("type \"{0}\" is not supported")]
    Unsupported(String),
    #[error("invalid type name \"{0}\"")]
    Malformed(String),
    #[error("type modifier is not allowed for type \"{0}\"")]
    ModifierNotAllowed(String),
    #[error("invalid type modifier for type \"{0}\"")]
    InvalidModifier(String),
    #[error("length for type {0} must be between 1 and {CHARACTER_LENGTH_MAX}")]
    LengthOutOfRange(&'static str),
    #[error("NUMERIC precision {0} must be between 1 and {NUMERIC_PRECISION_MAX}")]
    PrecisionOutOfRange(i64),
    #[error("NUMERIC scale {scale} must be between 0 and precision {precision}")]
    ScaleOutOfRange { scale: i64, precision: i64 },
    #[error("precision for type float must be between 1 and 53")]
    FloatPrecisionOutOfRange,
    #[error("type {name} with precision {precision} is not supported")]
    TimePrecision { name: &'static str, precision: i64 },
}

impl TypeError {
    /// The code a client branches on.
    pub fn sqlstate(&self) -> &'static str {
        match self {
            Self::Unknown(_) => "42704",
            Self::Unsupported(_) | Self::TimePrecision { .. } => "0A000",
            Self::Malformed(_) | Self::ModifierNotAllowed(_) => "42601",
            Self::InvalidModifier(_)
            | Self::LengthOutOfRange(_)
            | Self::PrecisionOutOfRange(_)
            | Self::ScaleOutOfRange { .. }
            | Self::FloatPrecisionOutOfRange => "22023",
        }
    }

    /// What to write instead.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unsupported(name) => match name.as_str() {
                "smallserial" | "serial" | "bigserial" | "serial2" | "serial4" | "serial8" => {
                    Some("use an integer type".to_owned())
                }
                "timetz" | "time with time zone" => Some("use timestamptz or time".to_owned()),
                "money" => Some("use numeric(12,2)".to_owned()),
                _ => None,
            },
            Self::TimePrecision { .. } => Some(format!(
                "leave the precision out: values keep {TIME_PRECISION} digits"
            )),
            Self::PrecisionOutOfRange(precision)
                if *precision > i64::from(NUMERIC_PRECISION_MAX) =>
            {
                Some(format!(
                    "a stored decimal has at most {NUMERIC_PRECISION_MAX} digits"
                ))
            }
            _ => None,
        }
    }
}

impl ColumnType {
    /// The name as PostgreSQL's `format_type` prints it, such as `character varying(20)`.
    pub fn sql_name(&self) -> String {
        match self {
            Self::Boolean => "boolean".to_owned(),
            Self::SmallInt => "smallint".to_owned(),
            Self::Integer => "integer".to_owned(),
            Self::BigInt => "bigint".to_owned(),
            Self::Numeric {
                precision: None, ..
            } => "numeric".to_owned(),
            Self::Numeric {
                precision: Some(precision),
                scale,
            } => {
                format!("numeric({precision},{scale})")
            }
            Self::Real => "real".to_owned(),
            Self::Double => "double precision".to_owned(),
            Self::Text => "text".to_owned(),
            Self::Varchar(None) => "character varying".to_owned(),
            Self::Varchar(Some(length)) => format!("character varying({length})"),
            Self::Char(length) => format!("character({length})"),
            Self::Bytea => "bytea".to_owned(),
            Self::Date => "date".to_owned(),
            Self::Time => "time without time zone".to_owned(),
            Self::Timestamp => "timestamp without time zone".to_owned(),
            Self::TimestampTz => "timestamp with time zone".to_owned(),
            Self::Interval => "interval".to_owned(),
            Self::Uuid => "uuid".to_owned(),
            Self::Json => "json".to_owned(),
            Self::Jsonb => "jsonb".to_owned(),
            Self::Array(element) => format!("{}[]", element.sql_name()),
        }
    }

    /// `typname` in `pg_type`, such as `int4` or `_int4`.
    pub fn internal_name(&self) -> &'static str {
        let (name, array_name) = match self.base() {
            Self::Boolean => ("bool", "_bool"),
            Self::SmallInt => ("int2", "_int2"),
            Self::Integer => ("int4", "_int4"),
            Self::BigInt => ("int8", "_int8"),
            Self::Numeric { .. } => ("numeric", "_numeric"),
            Self::Real => ("float4", "_float4"),
            Self::Double => ("float8", "_float8"),
            Self::Varchar(_) => ("varchar", "_varchar"),
            Self::Char(_) => ("bpchar", "_bpchar"),
            Self::Bytea => ("bytea", "_bytea"),
            Self::Date => ("date", "_date"),
            Self::Time => ("time", "_time"),
            Self::Timestamp => ("timestamp", "_timestamp"),
            Self::TimestampTz => ("timestamptz", "_timestamptz"),
            Self::Interval => ("interval", "_interval"),
            Self::Uuid => ("uuid", "_uuid"),
            Self::Json => ("json", "_json"),
            Self::Jsonb => ("jsonb", "_jsonb"),
            Self::Text | Self::Array(_) => ("text", "_text"),
        };
        if matches!(self, Self::Array(_)) {
            array_name
        } else {
            name
        }
    }

    /// The type a name and its modifiers stand for. The name is compared without regard to case and
    /// may be any of PostgreSQL's: `int`, `int4`, `integer`, `pg_catalog.int4`, `_int4`, `int4[]`.
    pub fn from_name(name: &str, modifiers: &[i64]) -> Result<Self, TypeError> {
        let words = normalized(name);
        let words = words.strip_prefix("pg_catalog.").unwrap_or(&words);
        if let Some(element) = words.strip_suffix("[]") {
            return Ok(Self::Array(Box::new(Self::from_name(element, modifiers)?)));
        }
        if let Some(element) = words.strip_prefix('_')
            && let Ok(element) = Self::from_name(element, modifiers)
        {
            return Ok(Self::Array(Box::new(element)));
        }
        let plain = |found: Self| match modifiers {
            [] => Ok(found),
            _ => Err(TypeError::ModifierNotAllowed(words.to_owned())),
        };
        match words {
            "bool" | "boolean" => plain(Self::Boolean),
            "int2" | "smallint" => plain(Self::SmallInt),
            "int" | "int4" | "integer" => plain(Self::Integer),
            "int8" | "bigint" => plain(Self::BigInt),
            "numeric" | "decimal" | "dec" => numeric(modifiers),
            "real" | "float4" => plain(Self::Real),
            "double precision" | "double" | "float8" => plain(Self::Double),
            "float" => float(modifiers),
            "text" | "name" => plain(Self::Text),
            "varchar"
            | "character varying"
            | "char varying"
            | "nchar varying"
            | "national character varying"
            | "national char varying" => Ok(Self::Varchar(character_length("varchar", modifiers)?)),
            "char" | "character" | "nchar" | "national character" | "national char" => Ok(
                Self::Char(character_length("char", modifiers)?.unwrap_or(1)),
            ),
            "bpchar" => Ok(match character_length("char", modifiers)? {
                Some(length) => Self::Char(length),
                None => Self::Text,
            }),
            "bytea" => plain(Self::Bytea),
            "date" => plain(Self::Date),
            "time" | "time without time zone" => microseconds("time", Self::Time, modifiers),
            "timestamp" | "timestamp without time zone" => {
                microseconds("timestamp", Self::Timestamp, modifiers)
            }
            "timestamptz" | "timestamp with time zone" => {
                microseconds("timestamp with time zone", Self::TimestampTz, modifiers)
            }
            "interval" => microseconds("interval", Self::Interval, modifiers),
            "uuid" => plain(Self::Uuid),
            "json" => plain(Self::Json),
            "jsonb" => plain(Self::Jsonb),
            "timetz"
            | "time with time zone"
            | "smallserial"
            | "serial"
            | "bigserial"
            | "serial2"
            | "serial4"
            | "serial8"
            | "money"
            | "bit"
            | "bit varying"
            | "varbit"
            | "xml"
            | "inet"
            | "cidr"
            | "macaddr"
            | "macaddr8"
            | "point"
            | "line"
            | "lseg"
            | "box"
            | "path"
            | "polygon"
            | "circle"
            | "tsvector"
            | "tsquery"
            | "hstore"
            | "int4range"
            | "int8range"
            | "numrange"
            | "tsrange"
            | "tstzrange"
            | "daterange" => Err(TypeError::Unsupported(words.to_owned())),
            _ => Err(TypeError::Unknown(words.to_owned())),
        }
    }

    /// Reads a whole type name with its modifiers in parentheses, such as `numeric(10, 2)[]` or
    /// `timestamp (6) with time zone`.
    pub(super) fn parse(text: &str) -> Result<Self, TypeError> {
        let malformed = || TypeError::Malformed(text.to_owned());
        let Some((head, rest)) = text.split_once('(') else {
            return Self::from_name(text, &[]);
        };
        let (inside, tail) = rest.split_once(')').ok_or_else(malformed)?;
        let modifiers = inside
            .split(',')
            .map(|number| number.trim().parse::<i64>().map_err(|_| malformed()))
            .collect::<Result<Vec<_>, _>>()?;
        let (head, tail) = (head.trim(), tail.trim());
        if tail.is_empty() {
            return Self::from_name(head, &modifiers);
        }
        let separator = if tail.starts_with('[') { "" } else { " " };
        Self::from_name(&format!("{head}{separator}{tail}"), &modifiers)
    }
}

/// A name in lower case with single spaces. A stored one is so already, and opening a catalog reads
/// one for each column there is.
fn normalized(name: &str) -> Cow<'_, str> {
    let double_space = name.split(' ').any(str::is_empty);
    if !double_space
        && name
            .bytes()
            .all(|byte| byte == b' ' || byte.is_ascii_graphic() && !byte.is_ascii_uppercase())
    {
        return Cow::Borrowed(name);
    }
    let words: Vec<_> = name.split_whitespace().collect();
    Cow::Owned(words.join(" ").to_ascii_lowercase())
}

fn numeric(modifiers: &[i64]) -> Result<ColumnType, TypeError> {
    let (precision, scale) = match modifiers {
        [] => return Ok(ColumnType::NUMERIC),
        [precision] => (*precision, 0),
        [precision, scale] => (*precision, *scale),
        _ => return Err(TypeError::InvalidModifier("numeric".to_owned())),
    };
    let digits = u8::try_from(precision)
        .ok()
        .filter(|digits| (1..=NUMERIC_PRECISION_MAX).contains(digits))
        .ok_or(TypeError::PrecisionOutOfRange(precision))?;
    // Arrow can hold a negative scale, Delta and Parquet cannot.
    let scale = i8::try_from(scale)
        .ok()
        .filter(|one| *one >= 0 && i64::from(*one) <= precision)
        .ok_or(TypeError::ScaleOutOfRange { scale, precision })?;
    Ok(ColumnType::Numeric {
        precision: Some(digits),
        scale,
    })
}

fn float(modifiers: &[i64]) -> Result<ColumnType, TypeError> {
    match modifiers {
        [] => Ok(ColumnType::Double),
        [precision] => match precision {
            1..=24 => Ok(ColumnType::Real),
            25..=53 => Ok(ColumnType::Double),
            _ => Err(TypeError::FloatPrecisionOutOfRange),
        },
        _ => Err(TypeError::InvalidModifier("float".to_owned())),
    }
}

fn character_length(name: &'static str, modifiers: &[i64]) -> Result<Option<u32>, TypeError> {
    match modifiers {
        [] => Ok(None),
        [length] => u32::try_from(*length)
            .ok()
            .filter(|length| (1..=CHARACTER_LENGTH_MAX).contains(length))
            .map(Some)
            .ok_or(TypeError::LengthOutOfRange(name)),
        _ => Err(TypeError::InvalidModifier(name.to_owned())),
    }
}

fn microseconds(
    name: &'static str,
    found: ColumnType,
    modifiers: &[i64],
) -> Result<ColumnType, TypeError> {
    match modifiers {
        [] | [TIME_PRECISION] => Ok(found),
        [precision] => Err(TypeError::TimePrecision {
            name,
            precision: *precision,
        }),
        _ => Err(TypeError::InvalidModifier(name.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(types: &[&str], expected: Expect) {
        let lines: String = types
            .iter()
            .map(|text| match text.parse::<ColumnType>() {
                Ok(found) => format!("{text} -> {found}\n"),
                Err(error) => {
                    let hint = error
                        .hint()
                        .map(|hint| format!(" ({hint})"))
                        .unwrap_or_default();
                    format!("{text} -> {} {error}{hint}\n", error.sqlstate())
                }
            })
            .collect();
        expected.assert_eq(&lines);
    }

    #[test]
    fn every_spelling_finds_its_type() {
        check(
            &[
                "bool",
                "int",
                "INT4",
                "int2",
                "bigint",
                "decimal(10, 2)",
                "numeric(5)",
                "dec",
                "float",
                "float(24)",
                "float(25)",
                "float8",
                "double  precision",
                "name",
                "varchar",
                "VARCHAR(20)",
                "character varying(7)",
                "char",
                "character(3)",
                "bpchar(2)",
                "bpchar",
                "timestamptz",
                "timestamp (6) with time zone",
                "time",
                "pg_catalog.int8",
                "_int4",
                "text[]",
                "numeric(4,1)[][]",
                "_numeric",
            ],
            expect![[r#"
                bool -> boolean
                int -> integer
                INT4 -> integer
                int2 -> smallint
                bigint -> bigint
                decimal(10, 2) -> numeric(10,2)
                numeric(5) -> numeric(5,0)
                dec -> numeric
                float -> double precision
                float(24) -> real
                float(25) -> double precision
                float8 -> double precision
                double  precision -> double precision
                name -> text
                varchar -> character varying
                VARCHAR(20) -> character varying(20)
                character varying(7) -> character varying(7)
                char -> character(1)
                character(3) -> character(3)
                bpchar(2) -> character(2)
                bpchar -> text
                timestamptz -> timestamp with time zone
                timestamp (6) with time zone -> timestamp with time zone
                time -> time without time zone
                pg_catalog.int8 -> bigint
                _int4 -> integer[]
                text[] -> text[]
                numeric(4,1)[][] -> numeric(4,1)[][]
                _numeric -> numeric[]
            "#]],
        );
    }

    #[test]
    fn what_is_no_type_says_why() {
        check(
            &[
                "strng",
                "serial",
                "timetz",
                "money",
                "numeric(39)",
                "numeric(0)",
                "numeric(4,5)",
                "numeric(4,-1)",
                "numeric(1,2,3)",
                "varchar(0)",
                "char(99999999)",
                "int(11)",
                "float(54)",
                "timestamp(3)",
                "varchar(x)",
                "varchar(3",
                "_nothing",
                "",
            ],
            expect![[r#"
                strng -> 42704 type "strng" does not exist
                serial -> 0A000 type "serial" is not supported (use an integer type)
                timetz -> 0A000 type "timetz" is not supported (use timestamptz or time)
                money -> 0A000 type "money" is not supported (use numeric(12,2))
                numeric(39) -> 22023 NUMERIC precision 39 must be between 1 and 38 (a stored decimal has at most 38 digits)
                numeric(0) -> 22023 NUMERIC precision 0 must be between 1 and 38
                numeric(4,5) -> 22023 NUMERIC scale 5 must be between 0 and precision 4
                numeric(4,-1) -> 22023 NUMERIC scale -1 must be between 0 and precision 4
                numeric(1,2,3) -> 22023 invalid type modifier for type "numeric"
                varchar(0) -> 22023 length for type varchar must be between 1 and 10485760
                char(99999999) -> 22023 length for type char must be between 1 and 10485760
                int(11) -> 42601 type modifier is not allowed for type "int"
                float(54) -> 22023 precision for type float must be between 1 and 53
                timestamp(3) -> 0A000 type timestamp with precision 3 is not supported (leave the precision out: values keep 6 digits)
                varchar(x) -> 42601 invalid type name "varchar(x)"
                varchar(3 -> 42601 invalid type name "varchar(3"
                _nothing -> 42704 type "_nothing" does not exist
                 -> 42704 type "" does not exist
            "#]],
        );
    }
}
