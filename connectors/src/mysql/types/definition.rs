//! A type from the words of `information_schema.columns`.

use super::{Charset, SourceType};
use crate::error::{ConnectorError, sqlstate};

impl SourceType {
    /// As `information_schema.columns` tells it: `DATA_TYPE`, `COLUMN_TYPE`, `CHARACTER_SET_NAME`.
    pub fn of_definition(
        data_type: &str,
        column_type: &str,
        charset: Option<&str>,
    ) -> Result<Self, ConnectorError> {
        let definition = Definition {
            column_type,
            charset,
        };
        let unsigned = definition.is_unsigned();
        Ok(match data_type.to_ascii_lowercase().as_str() {
            "tinyint" => Self::TinyInt { unsigned },
            "smallint" => Self::SmallInt { unsigned },
            "mediumint" => Self::MediumInt { unsigned },
            "int" | "integer" => Self::Int { unsigned },
            "bigint" => Self::BigInt { unsigned },
            "decimal" | "numeric" => {
                let (precision, scale) = definition.precision_and_scale()?;
                Self::Decimal { precision, scale }
            }
            "float" => Self::Float,
            "double" | "real" => Self::Double,
            "bit" => Self::Bit {
                bits: definition.number()?.unwrap_or(1),
            },
            "year" => Self::Year,
            "date" => Self::Date,
            "datetime" => Self::DateTime {
                fraction: definition.number()?.unwrap_or(0),
            },
            "timestamp" => Self::Timestamp {
                fraction: definition.number()?.unwrap_or(0),
            },
            "time" => Self::Time {
                fraction: definition.number()?.unwrap_or(0),
            },
            "char" | "varchar" | "tinytext" | "text" | "mediumtext" | "longtext" => Self::Text {
                charset: definition.charset()?,
            },
            "binary" => Self::Bytes {
                fixed: Some(definition.number()?.unwrap_or(1)),
            },
            "varbinary" | "tinyblob" | "blob" | "mediumblob" | "longblob" => {
                Self::Bytes { fixed: None }
            }
            "enum" => Self::Enum {
                charset: definition.charset()?,
                values: definition.names()?,
            },
            "set" => Self::Set {
                charset: definition.charset()?,
                values: definition.names()?,
            },
            "json" => Self::Json,
            "geometry" | "point" | "linestring" | "polygon" | "multipoint" | "multilinestring"
            | "multipolygon" | "geometrycollection" | "geomcollection" => Self::Geometry,
            "uuid" => Self::Uuid,
            "inet4" => Self::Inet4,
            "inet6" => Self::Inet6,
            "vector" => Self::Vector,
            _ => {
                return Err(ConnectorError::new(
                    sqlstate::FEATURE_NOT_SUPPORTED,
                    format!("column type \"{column_type}\" is not supported"),
                ));
            }
        })
    }
}

struct Definition<'a> {
    column_type: &'a str,
    charset: Option<&'a str>,
}

impl<'a> Definition<'a> {
    fn is_unsigned(&self) -> bool {
        let mut words = self.column_type.split_ascii_whitespace();
        words.any(|word| word.eq_ignore_ascii_case("unsigned"))
    }

    /// What stands between the parentheses. Behind them may be attributes and comments.
    fn arguments(&self) -> Option<&'a str> {
        let (_, arguments) = self.column_type.split_once('(')?;
        Some(arguments.split_once(')')?.0)
    }

    fn number<T: std::str::FromStr>(&self) -> Result<Option<T>, ConnectorError> {
        // `time /* mariadb-5.3 */` has no parentheses of its own.
        let Some(arguments) = self.arguments() else {
            return Ok(None);
        };
        let number = arguments.trim().parse();
        number.map(Some).map_err(|_| self.malformed())
    }

    fn precision_and_scale(&self) -> Result<(u8, u8), ConnectorError> {
        let Some(arguments) = self.arguments() else {
            return Ok((10, 0));
        };
        let (precision, scale) = arguments.split_once(',').unwrap_or((arguments, "0"));
        match (precision.trim().parse(), scale.trim().parse()) {
            (Ok(precision), Ok(scale)) if scale <= precision => Ok((precision, scale)),
            _ => Err(self.malformed()),
        }
    }

    fn charset(&self) -> Result<Charset, ConnectorError> {
        let column_type = self.column_type;
        let name = self.charset.ok_or_else(|| {
            ConnectorError::new(
                sqlstate::FEATURE_NOT_SUPPORTED,
                format!("column type \"{column_type}\" comes without a character set"),
            )
        })?;
        Charset::of_name(name).ok_or_else(|| {
            ConnectorError::new(
                sqlstate::FEATURE_NOT_SUPPORTED,
                format!("character set \"{name}\" of column type \"{column_type}\" is not known"),
            )
        })
    }

    /// The names of an ENUM or SET, which are quoted: a quote in a name is doubled, and what would
    /// break the line has a backslash.
    fn names(&self) -> Result<Vec<String>, ConnectorError> {
        let (_, list) = self
            .column_type
            .split_once('(')
            .ok_or_else(|| self.malformed())?;
        let mut names = Vec::new();
        let mut characters = list.chars().peekable();
        loop {
            if characters.next() != Some('\'') {
                return Err(self.malformed());
            }
            let mut name = String::new();
            loop {
                match characters.next() {
                    Some('\'') if characters.next_if_eq(&'\'').is_some() => name.push('\''),
                    Some('\'') => break,
                    Some('\\') => name.push(match characters.next() {
                        Some('0') => '\0',
                        Some('n') => '\n',
                        Some('r') => '\r',
                        Some(other) => other,
                        None => return Err(self.malformed()),
                    }),
                    Some(other) => name.push(other),
                    None => return Err(self.malformed()),
                }
            }
            names.push(name);
            match characters.next() {
                Some(',') => {}
                Some(')') => return Ok(names),
                _ => return Err(self.malformed()),
            }
        }
    }

    fn malformed(&self) -> ConnectorError {
        ConnectorError::new(
            sqlstate::FEATURE_NOT_SUPPORTED,
            format!("column type \"{}\" cannot be read", self.column_type),
        )
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(column_type: &str, charset: Option<&str>, expected: Expect) {
        let end = column_type.find(['(', ' ']).unwrap_or(column_type.len());
        let told = SourceType::of_definition(&column_type[..end], column_type, charset);
        expected.assert_eq(&match told {
            Ok(told) => format!("{told:?}"),
            Err(error) => error.to_string(),
        });
    }

    #[test]
    fn a_number_may_be_unsigned_and_have_a_width() {
        check("int(10) unsigned", None, expect!["Int { unsigned: true }"]);
        check(
            "bigint unsigned zerofill",
            None,
            expect!["BigInt { unsigned: true }"],
        );
        check("tinyint(1)", None, expect!["TinyInt { unsigned: false }"]);
        check(
            "decimal(40,5)",
            None,
            expect!["Decimal { precision: 40, scale: 5 }"],
        );
        check("bit(8)", None, expect!["Bit { bits: 8 }"]);
        check("float(7,3) unsigned", None, expect!["Float"]);
        check("year(4)", None, expect!["Year"]);
    }

    #[test]
    fn a_time_may_have_a_fraction() {
        check("datetime", None, expect!["DateTime { fraction: 0 }"]);
        check("timestamp(6)", None, expect!["Timestamp { fraction: 6 }"]);
        check(
            "time(3) /* mariadb-5.3 */",
            None,
            expect!["Time { fraction: 3 }"],
        );
        check(
            "time /* mariadb-5.3 */",
            None,
            expect!["Time { fraction: 0 }"],
        );
    }

    #[test]
    fn text_has_a_character_set() {
        check(
            "varchar(100) /*M!100301 COMPRESSED*/",
            Some("latin1"),
            expect!["Text { charset: Latin1 }"],
        );
        check("text", Some("utf8"), expect!["Text { charset: Utf8mb3 }"]);
        check(
            "char(3)",
            Some("klingon"),
            expect![[r#"character set "klingon" of column type "char(3)" is not known"#]],
        );
        check(
            "char(3)",
            None,
            expect![[r#"column type "char(3)" comes without a character set"#]],
        );
        check("binary(16)", None, expect!["Bytes { fixed: Some(16) }"]);
        check("longblob", None, expect!["Bytes { fixed: None }"]);
    }

    #[test]
    fn names_are_quoted() {
        check(
            r"enum('a','b''c','d\\e','x,y','(','','\n')",
            Some("utf8mb4"),
            expect![[
                r#"Enum { charset: Utf8mb4, values: ["a", "b'c", "d\\e", "x,y", "(", "", "\n"] }"#
            ]],
        );
        check(
            "set('é','unsigned )')",
            Some("latin1"),
            expect![[r#"Set { charset: Latin1, values: ["é", "unsigned )"] }"#]],
        );
        check(
            "set('a'",
            Some("latin1"),
            expect![[r#"column type "set('a'" cannot be read"#]],
        );
    }

    #[test]
    fn a_type_that_is_not_known_is_named() {
        check(
            "hologram(3)",
            None,
            expect![[r#"column type "hologram(3)" is not supported"#]],
        );
    }
}
