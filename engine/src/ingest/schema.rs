//! The columns of a source: inferred from samples, joined over files, remembered between runs.
//!
//! What is remembered travels in the pipeline's committed position. A column once seen keeps its
//! type: a later file whose values do not fit has them in `_rescued`, never silently changed or lost.

use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};
use boathouse_catalog::types::ColumnType;
use serde_json::{Value, json};

/// The columns of a source without the metadata columns.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct SourceSchema {
    pub columns: Vec<(String, ColumnType)>,
}

impl SourceSchema {
    pub fn of(schema: &Schema) -> Self {
        let columns = schema
            .fields()
            .iter()
            .map(|field| (field.name().clone(), ColumnType::from_field(field)))
            .collect();
        Self { columns }
    }

    pub fn is_empty(&self) -> bool {
        self.columns.is_empty()
    }

    pub fn arrow(&self) -> SchemaRef {
        let fields: Vec<Field> = self
            .columns
            .iter()
            .map(|(name, column_type)| column_type.to_field(name, true))
            .collect();
        Arc::new(Schema::new(fields))
    }

    /// A table has one column of all names that differ in case only.
    fn position(&self, name: &str) -> Option<usize> {
        let find = |is_it: &dyn Fn(&str) -> bool| {
            let mut columns = self.columns.iter();
            columns.position(|(column, _)| is_it(column))
        };
        let wanted = name.to_lowercase();
        find(&|column| column == name).or_else(|| find(&|column| column.to_lowercase() == wanted))
    }

    /// Adds the columns only `other` has. Gives their names.
    pub fn add(&mut self, other: &Self) -> Vec<String> {
        let mut added = Vec::new();
        for (name, column_type) in &other.columns {
            if self.position(name).is_none() {
                self.columns.push((name.clone(), column_type.clone()));
                added.push(name.clone());
            }
        }
        added
    }

    /// Whether it has all columns of another, with their types.
    pub fn covers(&self, other: &Self) -> bool {
        other.columns.iter().all(|(name, column_type)| {
            let known = self.position(name);
            known.is_some_and(|known| self.columns[known].1 == *column_type)
        })
    }

    /// Joins another sample of the same source before anything was loaded: types are widened.
    pub fn join(&mut self, other: &Self) {
        for (name, column_type) in &other.columns {
            match self.position(name) {
                Some(index) => {
                    let joined = join_types(&self.columns[index].1, column_type);
                    self.columns[index].1 = joined;
                }
                None => self.columns.push((name.clone(), column_type.clone())),
            }
        }
    }

    pub fn to_json(&self) -> Value {
        self.columns
            .iter()
            .map(|(name, column_type)| json!([name, column_type.sql_name()]))
            .collect()
    }

    pub fn from_json(value: &Value) -> Self {
        let columns = value
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|column| {
                let name = column.get(0)?.as_str()?.to_owned();
                let column_type = column.get(1)?.as_str()?.parse().ok()?;
                Some((name, column_type))
            })
            .collect();
        Self { columns }
    }
}

/// The narrowest type that holds values of both.
fn join_types(left: &ColumnType, right: &ColumnType) -> ColumnType {
    use ColumnType as T;
    if left == right {
        return left.clone();
    }
    let rank = |column_type: &ColumnType| match column_type {
        T::SmallInt => Some(0),
        T::Integer => Some(1),
        T::BigInt => Some(2),
        T::Numeric { .. } => Some(3),
        T::Real | T::Double => Some(4),
        _ => None,
    };
    match (left, right) {
        (
            T::Numeric {
                precision: Some(p),
                scale: s,
            },
            T::Numeric {
                precision: Some(q),
                scale: t,
            },
        ) => {
            let scale = (*s).max(*t);
            let whole = (i16::from(*p) - i16::from(*s)).max(i16::from(*q) - i16::from(*t));
            match u8::try_from(whole + i16::from(scale)) {
                Ok(precision) if precision <= 38 => T::Numeric {
                    precision: Some(precision),
                    scale,
                },
                _ => T::Double,
            }
        }
        (T::Date, T::Timestamp) | (T::Timestamp, T::Date) => T::Timestamp,
        (T::Date | T::Timestamp, T::TimestampTz) | (T::TimestampTz, T::Date | T::Timestamp) => {
            T::TimestampTz
        }
        _ => match (rank(left), rank(right)) {
            (Some(low), Some(high)) if low.max(high) == 4 => T::Double,
            // A whole number may have more digits than the numeric's sample had.
            (Some(low), Some(high)) if low.max(high) == 3 => T::NUMERIC,
            (Some(low), Some(high)) => {
                if low >= high {
                    left.clone()
                } else {
                    right.clone()
                }
            }
            _ => T::Text,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(left: &str, right: &str, expected: &str) {
        let parse = |name: &str| name.parse::<ColumnType>().unwrap();
        assert_eq!(join_types(&parse(left), &parse(right)).sql_name(), expected);
        assert_eq!(join_types(&parse(right), &parse(left)).sql_name(), expected);
    }

    #[test]
    fn samples_of_two_files_join_to_a_type_that_holds_both() {
        check("integer", "bigint", "bigint");
        check("bigint", "double precision", "double precision");
        check("numeric(5,2)", "numeric(4,3)", "numeric(6,3)");
        check(
            "date",
            "timestamp without time zone",
            "timestamp without time zone",
        );
        check("boolean", "integer", "text");
        check("uuid", "text", "text");
    }

    #[test]
    fn names_that_differ_in_case_are_one_column() {
        let schema = |columns: &[(&str, ColumnType)]| SourceSchema {
            columns: columns
                .iter()
                .map(|(name, column_type)| ((*name).to_owned(), column_type.clone()))
                .collect(),
        };
        let mut known = schema(&[("Qty", ColumnType::BigInt)]);
        let alike = schema(&[("qty", ColumnType::BigInt), ("more", ColumnType::Text)]);
        assert!(!known.covers(&alike));
        assert_eq!(known.add(&alike), ["more"]);
        assert!(known.covers(&alike));
    }

    #[test]
    fn a_schema_survives_its_json() {
        let schema = SourceSchema {
            columns: vec![
                ("id".into(), ColumnType::Uuid),
                (
                    "price".into(),
                    ColumnType::Numeric {
                        precision: Some(12),
                        scale: 2,
                    },
                ),
                ("tags".into(), ColumnType::Array(Box::new(ColumnType::Text))),
            ],
        };
        assert_eq!(SourceSchema::from_json(&schema.to_json()), schema);
    }
}
