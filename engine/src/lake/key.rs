//! Keys as numbers: equal keys, and only they, become equal numbers.
//!
//! A key of one column of at most 64 bits is its value, mixed one to one. Any other is hashed to 128
//! bits with a secret of this process, so that nobody can find two keys with one hash; by accident two
//! of a thousand million keys share one with a probability of 10^-21.

use arrow::array::{Array, ArrayRef, AsArray, Float32Array, Float64Array, StringArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, FieldRef, Float32Type, Float64Type, Int64Type};
use arrow::error::ArrowError;
use arrow::row::{RowConverter, SortField};
use boathouse_catalog::types::ColumnType;
use siphasher::sip128::{Hasher128, SipHasher13};
use std::hash::Hasher;
use std::sync::Arc;
use uuid::Uuid;

/// How the keys of one table become numbers.
pub struct KeyCodec {
    types: Vec<ColumnType>,
    secret: [u8; 16],
    /// `None` when a key is one column of at most 64 bits.
    converter: Option<RowConverter>,
}

/// The numbers of a batch of keys.
pub enum KeyNumbers {
    Exact(Vec<u64>),
    Hashed(Vec<u128>),
}

impl KeyCodec {
    /// `None` for types whose equal values differ in bytes.
    pub fn of(fields: &[FieldRef]) -> Option<Self> {
        let types: Vec<ColumnType> = fields
            .iter()
            .map(|field| ColumnType::from_field(field))
            .collect();
        let comparable = types.iter().all(|column_type| {
            !matches!(
                column_type,
                ColumnType::Interval | ColumnType::Json | ColumnType::Jsonb | ColumnType::Array(_)
            )
        });
        if fields.is_empty() || !comparable {
            return None;
        }
        let converter = match fields {
            [field] if is_short(field.data_type()) => None,
            _ => {
                let fields = fields
                    .iter()
                    .map(|field| SortField::new(field.data_type().clone()))
                    .collect();
                Some(RowConverter::new(fields).ok()?)
            }
        };
        Some(Self {
            types,
            secret: Uuid::new_v4().into_bytes(),
            converter,
        })
    }

    /// Whether a number is the key itself.
    pub fn is_exact(&self) -> bool {
        self.converter.is_none()
    }

    /// The numbers of keys given by column, and which of the keys have no NULL in them.
    pub fn numbers(
        &self,
        columns: &[ArrayRef],
    ) -> Result<(KeyNumbers, Option<NullBuffer>), ArrowError> {
        let nulls = columns
            .iter()
            .fold(None, |nulls: Option<NullBuffer>, column| {
                NullBuffer::union(nulls.as_ref(), column.nulls())
            });
        let Some(converter) = &self.converter else {
            let Some(column) = columns.first() else {
                return Ok((KeyNumbers::Exact(Vec::new()), nulls));
            };
            let values = as_long(column)?;
            let values = values.as_primitive::<Int64Type>();
            let secret = u64::from_le_bytes(self.secret[..8].try_into().unwrap_or_default());
            let numbers = values
                .values()
                .iter()
                .map(|value| mixed(value.cast_unsigned() ^ secret))
                .collect();
            return Ok((KeyNumbers::Exact(numbers), nulls));
        };
        let columns: Vec<ArrayRef> = columns
            .iter()
            .zip(&self.types)
            .map(|(column, column_type)| comparable(column, column_type))
            .collect();
        let rows = converter.convert_columns(&columns)?;
        let hasher = SipHasher13::new_with_key(&self.secret);
        let numbers = rows
            .iter()
            .map(|row| {
                let mut hasher = hasher;
                hasher.write(row.as_ref());
                hasher.finish128().as_u128()
            })
            .collect();
        Ok((KeyNumbers::Hashed(numbers), nulls))
    }
}

/// A mixing of all bits that maps no two values to one (the finalizer of SplitMix64).
fn mixed(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ (value >> 31)
}

fn is_short(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Boolean
            | DataType::Int16
            | DataType::Int32
            | DataType::Int64
            | DataType::Date32
            | DataType::Time64(_)
            | DataType::Timestamp(..)
    )
}

fn as_long(column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    match column.data_type() {
        DataType::Int64 => Ok(Arc::clone(column)),
        DataType::Date32 => {
            let days = arrow::compute::cast(column, &DataType::Int32)?;
            arrow::compute::cast(&days, &DataType::Int64)
        }
        _ => arrow::compute::cast(column, &DataType::Int64),
    }
}

/// The same values such that equal ones are equal in bytes.
fn comparable(column: &ArrayRef, column_type: &ColumnType) -> ArrayRef {
    match column_type {
        ColumnType::Real => {
            let values = column.as_primitive::<Float32Type>();
            let values: Float32Array = values.unary(|value| {
                if value.is_nan() {
                    f32::NAN
                } else {
                    value + 0.0
                }
            });
            Arc::new(values)
        }
        ColumnType::Double => {
            let values = column.as_primitive::<Float64Type>();
            let values: Float64Array = values.unary(|value| {
                if value.is_nan() {
                    f64::NAN
                } else {
                    value + 0.0
                }
            });
            Arc::new(values)
        }
        ColumnType::Char(_) => match column.as_string_opt::<i32>() {
            Some(texts) => {
                let texts: StringArray = texts
                    .iter()
                    .map(|text| text.map(|text| text.trim_end_matches(' ')))
                    .collect();
                Arc::new(texts)
            }
            None => Arc::clone(column),
        },
        _ => Arc::clone(column),
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int32Array, Int64Array};

    use super::*;

    fn hashed(codec: &KeyCodec, columns: &[ArrayRef]) -> Vec<u128> {
        match codec.numbers(columns).unwrap().0 {
            KeyNumbers::Hashed(numbers) => numbers,
            KeyNumbers::Exact(_) => panic!("expected hashes"),
        }
    }

    fn codec(types: &[ColumnType]) -> KeyCodec {
        let fields: Vec<FieldRef> = types
            .iter()
            .map(|column_type| Arc::new(column_type.to_field("k", true)))
            .collect();
        KeyCodec::of(&fields).unwrap()
    }

    #[test]
    fn values_that_sql_holds_equal_are_one_key() {
        let of_doubles = codec(&[ColumnType::Double]);
        let doubles: ArrayRef = Arc::new(Float64Array::from(vec![
            0.0,
            -0.0,
            f64::NAN,
            -f64::NAN,
            1.0,
        ]));
        let numbers = hashed(&of_doubles, &[doubles]);
        assert_eq!(numbers[0], numbers[1]);
        assert_eq!(numbers[2], numbers[3]);
        assert_ne!(numbers[0], numbers[4]);

        let of_padded = codec(&[ColumnType::Char(4)]);
        let texts: ArrayRef = Arc::new(StringArray::from(vec!["a", "a   ", " a", ""]));
        let numbers = hashed(&of_padded, &[texts]);
        assert_eq!(numbers[0], numbers[1]);
        assert_ne!(numbers[0], numbers[2]);
    }

    #[test]
    fn the_parts_of_a_key_do_not_run_together() {
        let codec = codec(&[ColumnType::Text, ColumnType::Text]);
        let left: ArrayRef = Arc::new(StringArray::from(vec!["ab", "a", ""]));
        let right: ArrayRef = Arc::new(StringArray::from(vec!["c", "bc", "abc"]));
        let numbers = hashed(&codec, &[left, right]);
        assert_ne!(numbers[0], numbers[1]);
        assert_ne!(numbers[1], numbers[2]);
    }

    #[test]
    fn a_short_key_is_itself_whatever_its_width() {
        let codec = codec(&[ColumnType::Integer]);
        assert!(codec.is_exact());
        let narrow: ArrayRef = Arc::new(Int32Array::from(vec![Some(-7), None, Some(7)]));
        let wide: ArrayRef = Arc::new(Int64Array::from(vec![-7, 0, 7]));
        let (KeyNumbers::Exact(narrow), Some(nulls)) = codec.numbers(&[narrow]).unwrap() else {
            panic!("expected numbers and a NULL")
        };
        let (KeyNumbers::Exact(wide), None) = codec.numbers(&[wide]).unwrap() else {
            panic!("expected numbers and no NULL")
        };
        assert_eq!((narrow[0], narrow[2]), (wide[0], wide[2]));
        assert!(nulls.is_null(1));
    }

    #[test]
    fn types_whose_equal_values_differ_have_no_numbers() {
        let field: FieldRef = Arc::new(ColumnType::Interval.to_field("k", true));
        assert!(KeyCodec::of(&[field]).is_none());
    }
}
