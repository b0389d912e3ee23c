//! Types to and from Arrow: in memory, and as a Delta table's Parquet files hold them.

use std::sync::Arc;

use arrow_schema::{DataType, Field, IntervalUnit, TimeUnit};

use super::{ColumnType, NUMERIC_BARE_SCALE, NUMERIC_PRECISION_MAX, TYPE_KEY};

/// The time zone of every `timestamptz` in memory.
const UTC: &str = "UTC";

/// Digits that hold every unsigned 64-bit integer.
const UINT64_PRECISION: u8 = 20;

impl ColumnType {
    /// The type of a column's values in memory.
    pub fn arrow(&self) -> DataType {
        match self {
            Self::Boolean => DataType::Boolean,
            Self::SmallInt => DataType::Int16,
            Self::Integer => DataType::Int32,
            Self::BigInt => DataType::Int64,
            Self::Numeric {
                precision: None, ..
            } => DataType::Decimal128(NUMERIC_PRECISION_MAX, NUMERIC_BARE_SCALE),
            Self::Numeric {
                precision: Some(precision),
                scale,
            } => DataType::Decimal128(*precision, *scale),
            Self::Real => DataType::Float32,
            Self::Double => DataType::Float64,
            Self::Text
            | Self::Varchar(_)
            | Self::Char(_)
            | Self::Uuid
            | Self::Json
            | Self::Jsonb => DataType::Utf8,
            Self::Bytea => DataType::Binary,
            Self::Date => DataType::Date32,
            Self::Time => DataType::Time64(TimeUnit::Microsecond),
            Self::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
            Self::TimestampTz => DataType::Timestamp(TimeUnit::Microsecond, Some(UTC.into())),
            Self::Interval => DataType::Interval(IntervalUnit::MonthDayNano),
            Self::Array(element) => list(element.arrow()),
        }
    }

    /// The type of a column's values in a table's files, or `None` when they cannot be stored.
    /// Delta has no time of day, so `time` is stored as text, `HH:MM:SS.ffffff`, which sorts alike.
    pub fn stored_arrow(&self) -> Option<DataType> {
        match self {
            Self::Time => Some(DataType::Utf8),
            Self::Interval => None,
            Self::Array(element) => element.stored_arrow().map(list),
            other => Some(other.arrow()),
        }
    }

    /// The name of the type in a Delta table's schema, or `None` when it cannot be stored.
    pub fn delta_name(&self) -> Option<String> {
        let name = match self {
            Self::Boolean => "boolean",
            Self::SmallInt => "short",
            Self::Integer => "integer",
            Self::BigInt => "long",
            Self::Numeric {
                precision: None, ..
            } => {
                return Some(format!(
                    "decimal({NUMERIC_PRECISION_MAX},{NUMERIC_BARE_SCALE})"
                ));
            }
            Self::Numeric {
                precision: Some(precision),
                scale,
            } => {
                return Some(format!("decimal({precision},{scale})"));
            }
            Self::Real => "float",
            Self::Double => "double",
            Self::Text
            | Self::Varchar(_)
            | Self::Char(_)
            | Self::Time
            | Self::Uuid
            | Self::Json
            | Self::Jsonb => "string",
            Self::Bytea => "binary",
            Self::Date => "date",
            Self::Timestamp => "timestamp_ntz",
            Self::TimestampTz => "timestamp",
            Self::Interval => return None,
            Self::Array(element) => {
                return element
                    .delta_name()
                    .map(|element| format!("array<{element}>"));
            }
        };
        Some(name.to_owned())
    }

    /// The type of a field: what its metadata names if its Arrow type agrees, else the nearest type
    /// PostgreSQL has. A type it has nothing like is `text`.
    pub fn from_field(field: &Field) -> Self {
        if let Some(named) = field
            .metadata()
            .get(TYPE_KEY)
            .and_then(|name| name.parse().ok())
            && Self::fits(&named, field.data_type())
        {
            return named;
        }
        match field.data_type() {
            DataType::List(element)
            | DataType::LargeList(element)
            | DataType::ListView(element)
            | DataType::LargeListView(element)
            | DataType::FixedSizeList(element, _) => {
                Self::Array(Box::new(Self::from_field(element)))
            }
            other => Self::from_arrow(other),
        }
    }

    /// The nearest type PostgreSQL has to an Arrow type that comes without metadata.
    pub fn from_arrow(data_type: &DataType) -> Self {
        match data_type {
            DataType::Boolean => Self::Boolean,
            DataType::Int8 | DataType::UInt8 | DataType::Int16 => Self::SmallInt,
            DataType::UInt16 | DataType::Int32 => Self::Integer,
            DataType::UInt32 | DataType::Int64 => Self::BigInt,
            DataType::UInt64 => Self::Numeric {
                precision: Some(UINT64_PRECISION),
                scale: 0,
            },
            DataType::Float16 | DataType::Float32 => Self::Real,
            DataType::Float64 => Self::Double,
            DataType::Decimal32(precision, scale)
            | DataType::Decimal64(precision, scale)
            | DataType::Decimal128(precision, scale)
            | DataType::Decimal256(precision, scale) => {
                if *precision <= NUMERIC_PRECISION_MAX && *scale >= 0 {
                    Self::Numeric {
                        precision: Some(*precision),
                        scale: *scale,
                    }
                } else {
                    Self::NUMERIC
                }
            }
            DataType::Binary
            | DataType::LargeBinary
            | DataType::BinaryView
            | DataType::FixedSizeBinary(_) => Self::Bytea,
            DataType::Date32 | DataType::Date64 => Self::Date,
            DataType::Time32(_) | DataType::Time64(_) => Self::Time,
            DataType::Timestamp(_, None) => Self::Timestamp,
            DataType::Timestamp(_, Some(_)) => Self::TimestampTz,
            DataType::Interval(_) | DataType::Duration(_) => Self::Interval,
            DataType::Dictionary(_, values) => Self::from_arrow(values),
            DataType::RunEndEncoded(_, values) => Self::from_field(values),
            DataType::List(element)
            | DataType::LargeList(element)
            | DataType::ListView(element)
            | DataType::LargeListView(element)
            | DataType::FixedSizeList(element, _) => {
                Self::Array(Box::new(Self::from_field(element)))
            }
            // Printed as JSON, which is what a struct becomes on the way out.
            DataType::Struct(_) | DataType::Map(_, _) | DataType::Union(_, _) => Self::Json,
            _ => Self::Text,
        }
    }

    /// A field of this type in memory, with metadata when its Arrow type alone does not say it.
    pub fn to_field(&self, name: &str, nullable: bool) -> Field {
        self.named_field(name, self.arrow(), nullable)
    }

    /// A field of this type in a table's files, or `None` when it cannot be stored.
    pub fn to_stored_field(&self, name: &str, nullable: bool) -> Option<Field> {
        Some(self.named_field(name, self.stored_arrow()?, nullable))
    }

    fn named_field(&self, name: &str, data_type: DataType, nullable: bool) -> Field {
        let says_it = Self::from_arrow(&data_type) == *self;
        let field = Field::new(name, data_type, nullable);
        if says_it {
            field
        } else {
            field.with_metadata([(TYPE_KEY.to_owned(), self.sql_name())].into())
        }
    }

    /// Whether values of this Arrow type can be values of the named type, in memory or stored.
    fn fits(named: &Self, data_type: &DataType) -> bool {
        let plain = Self::from_arrow(data_type);
        match (named, &plain) {
            (Self::Array(named), Self::Array(_)) => match data_type {
                DataType::List(element)
                | DataType::LargeList(element)
                | DataType::ListView(element)
                | DataType::LargeListView(element)
                | DataType::FixedSizeList(element, _) => Self::fits(named, element.data_type()),
                _ => false,
            },
            (
                Self::Varchar(_)
                | Self::Char(_)
                | Self::Uuid
                | Self::Json
                | Self::Jsonb
                | Self::Time,
                Self::Text,
            ) => matches!(
                data_type,
                DataType::Utf8
                    | DataType::LargeUtf8
                    | DataType::Utf8View
                    | DataType::Dictionary(_, _)
            ),
            (
                Self::Numeric {
                    precision: None, ..
                },
                Self::Numeric { .. },
            ) => named.arrow() == *data_type,
            (named, plain) => named == plain,
        }
    }
}

fn list(element: DataType) -> DataType {
    DataType::List(Arc::new(Field::new_list_field(element, true)))
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn examples() -> Vec<ColumnType> {
        let mut types = ColumnType::scalars();
        types.extend([
            ColumnType::Numeric {
                precision: Some(10),
                scale: 2,
            },
            ColumnType::Numeric {
                precision: Some(38),
                scale: 10,
            },
            ColumnType::Varchar(Some(20)),
            ColumnType::Char(3),
        ]);
        let arrays: Vec<_> = types
            .iter()
            .map(|element| ColumnType::Array(Box::new(element.clone())))
            .collect();
        let nested = ColumnType::Array(Box::new(ColumnType::Array(Box::new(ColumnType::Uuid))));
        types.into_iter().chain(arrays).chain([nested]).collect()
    }

    #[test]
    fn a_field_gives_its_type_back_in_memory_and_stored() {
        for column_type in examples() {
            let field = column_type.to_field("c", true);
            assert_eq!(ColumnType::from_field(&field), column_type, "{field:?}");
            if let Some(field) = column_type.to_stored_field("c", true) {
                assert_eq!(ColumnType::from_field(&field), column_type, "{field:?}");
            }
        }
    }

    #[test]
    fn only_what_arrow_cannot_say_is_written_as_metadata() {
        let named: String = examples()
            .iter()
            .map(|one| one.to_field("c", true))
            .filter_map(|field| field.metadata().get(TYPE_KEY).cloned())
            .map(|name| format!("{name}\n"))
            .collect();
        expect![[r#"
            numeric
            character varying
            character(1)
            uuid
            json
            jsonb
            character varying(20)
            character(3)
            numeric[]
            character varying[]
            character(1)[]
            uuid[]
            json[]
            jsonb[]
            character varying(20)[]
            character(3)[]
            uuid[][]
        "#]]
        .assert_eq(&named);
    }

    #[test]
    fn metadata_that_contradicts_the_values_is_ignored() {
        let named = |data_type: DataType, name: &str| {
            let field = Field::new("c", data_type, true)
                .with_metadata([(TYPE_KEY.to_owned(), name.to_owned())].into());
            ColumnType::from_field(&field).sql_name()
        };
        assert_eq!(named(DataType::Int64, "uuid"), "bigint");
        assert_eq!(named(DataType::Utf8View, "uuid"), "uuid");
        assert_eq!(named(DataType::Utf8, "nonsense"), "text");
        assert_eq!(
            named(DataType::Decimal128(10, 2), "numeric"),
            "numeric(10,2)"
        );
        assert_eq!(named(list(DataType::Int32), "uuid[]"), "integer[]");
    }

    #[test]
    fn foreign_arrow_types_find_the_nearest_type() {
        let lines: String = [
            DataType::Int8,
            DataType::UInt32,
            DataType::UInt64,
            DataType::Float16,
            DataType::Utf8View,
            DataType::LargeBinary,
            DataType::Decimal256(76, 10),
            DataType::Timestamp(TimeUnit::Nanosecond, None),
            DataType::Timestamp(TimeUnit::Second, Some("+07:00".into())),
            DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8)),
            DataType::Duration(TimeUnit::Second),
            DataType::Struct(vec![Field::new("a", DataType::Int32, true)].into()),
            DataType::Null,
        ]
        .iter()
        .map(|one| format!("{one} -> {}\n", ColumnType::from_arrow(one)))
        .collect();
        expect![[r#"
            Int8 -> smallint
            UInt32 -> bigint
            UInt64 -> numeric(20,0)
            Float16 -> real
            Utf8View -> text
            LargeBinary -> bytea
            Decimal256(76, 10) -> numeric
            Timestamp(ns) -> timestamp without time zone
            Timestamp(s, "+07:00") -> timestamp with time zone
            Dictionary(Int32, Utf8) -> text
            Duration(s) -> interval
            Struct("a": Int32) -> json
            Null -> text
        "#]]
        .assert_eq(&lines);
    }
}
