//! Partition values: as text in the log, as folders in the store, as scalars in a plan.
//!
//! The log's text is what counts; folders are a courtesy to people who look. Everything outside
//! letters, digits, `.`, `_` and `-` is percent-escaped in a folder name, because readers disagree
//! about spaces and percent signs in paths.

use arrow::array::{Array, ArrayRef, UInt32Array};
use arrow::compute::{cast, take};
use arrow::datatypes::{DataType, TimeUnit};
use arrow::row::{RowConverter, SortField};
use datafusion::common::ScalarValue;

use super::LakeError;

/// The folder name Hive gives to NULL.
const NULL_FOLDER: &str = "__HIVE_DEFAULT_PARTITION__";

/// The values of the partition columns shared by some rows, as the log holds them.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct PartitionKey(pub Vec<Option<String>>);

impl PartitionKey {
    /// `country=fr/day=2024-01-01/`, or nothing for an unpartitioned table.
    pub fn folder(&self, columns: &[String]) -> String {
        let mut folder = String::new();
        for (column, value) in columns.iter().zip(&self.0) {
            escape(column, &mut folder);
            folder.push('=');
            match value {
                Some(value) => escape(value, &mut folder),
                None => folder.push_str(NULL_FOLDER),
            }
            folder.push('/');
        }
        folder
    }
}

fn escape(text: &str, into: &mut String) {
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'_' | b'-' => {
                into.push(char::from(byte));
            }
            _ => into.push_str(&format!("%{byte:02X}")),
        }
    }
}

/// Groups the rows of a batch by the values of the partition columns. Gives, for each group, its
/// key and the rows in it in their order (`None` = all rows).
pub(super) fn split(
    columns: &[ArrayRef],
    rows: usize,
) -> Result<Vec<(PartitionKey, Option<UInt32Array>)>, LakeError> {
    let failed = |error: arrow::error::ArrowError| LakeError::Encode {
        reason: error.to_string(),
    };
    if columns.is_empty() {
        return Ok(vec![(PartitionKey::default(), None)]);
    }
    let converter = RowConverter::new(
        columns
            .iter()
            .map(|column| SortField::new(column.data_type().clone()))
            .collect(),
    )
    .map_err(failed)?;
    let keys = converter.convert_columns(columns).map_err(failed)?;
    if (1..rows).all(|row| keys.row(row) == keys.row(0)) && rows > 0 {
        return Ok(vec![(key_of(columns, 0)?, None)]);
    }
    let mut groups: std::collections::HashMap<_, Vec<u32>> = std::collections::HashMap::new();
    let mut order = Vec::new();
    for row in 0..rows {
        let group = groups.entry(keys.row(row)).or_insert_with(|| {
            order.push(row);
            Vec::new()
        });
        group.push(u32::try_from(row).map_err(|_| LakeError::Encode {
            reason: "a batch has more than 4294967295 rows".into(),
        })?);
    }
    order
        .into_iter()
        .map(|first| {
            let rows = groups.remove(&keys.row(first)).unwrap_or_default();
            Ok((key_of(columns, first)?, Some(UInt32Array::from(rows))))
        })
        .collect()
}

fn key_of(columns: &[ArrayRef], row: usize) -> Result<PartitionKey, LakeError> {
    columns
        .iter()
        .map(|column| text_of(column, row))
        .collect::<Result<_, _>>()
        .map(PartitionKey)
}

/// A value as the Delta protocol serializes partition values. The empty string cannot be told from
/// NULL there, so it becomes NULL, as in every Delta writer.
fn text_of(column: &ArrayRef, row: usize) -> Result<Option<String>, LakeError> {
    if column.is_null(row) {
        return Ok(None);
    }
    let failed = |error: arrow::error::ArrowError| LakeError::Encode {
        reason: error.to_string(),
    };
    let text = match column.data_type() {
        DataType::Timestamp(TimeUnit::Microsecond, zone) => {
            let micros = arrow::array::cast::AsArray::as_primitive::<
                arrow::datatypes::TimestampMicrosecondType,
            >(column)
            .value(row);
            let time = chrono::DateTime::from_timestamp_micros(micros).ok_or_else(|| {
                LakeError::Encode {
                    reason: "a timestamp is out of range".into(),
                }
            })?;
            if zone.is_some() {
                time.format("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
            } else {
                time.format("%Y-%m-%d %H:%M:%S%.6f").to_string()
            }
        }
        DataType::Binary => {
            return Err(LakeError::Encode {
                reason: "bytea cannot be a partition column".into(),
            });
        }
        _ => {
            let slice = column.slice(row, 1);
            let text = cast(&slice, &DataType::Utf8).map_err(failed)?;
            arrow::array::cast::AsArray::as_string::<i32>(&text)
                .value(0)
                .to_owned()
        }
    };
    Ok((!text.is_empty()).then_some(text))
}

/// The scalar a partition value stands for. `None` when the text does not fit the type.
pub(super) fn parse(text: Option<&str>, data_type: &DataType) -> Option<ScalarValue> {
    let Some(text) = text.filter(|text| !text.is_empty()) else {
        return ScalarValue::try_from(data_type).ok();
    };
    match data_type {
        DataType::Timestamp(TimeUnit::Microsecond, zone) => {
            let micros = parse_timestamp(text)?;
            Some(ScalarValue::TimestampMicrosecond(
                Some(micros),
                zone.clone(),
            ))
        }
        DataType::Utf8 => Some(ScalarValue::Utf8(Some(text.to_owned()))),
        _ => ScalarValue::try_from_string(text.to_owned(), data_type).ok(),
    }
}

/// Both forms other writers use: `2024-01-01 10:00:00[.ffffff]` and RFC 3339.
fn parse_timestamp(text: &str) -> Option<i64> {
    if let Ok(time) = chrono::DateTime::parse_from_rfc3339(text) {
        return Some(time.timestamp_micros());
    }
    let text = text.replacen('T', " ", 1);
    chrono::NaiveDateTime::parse_from_str(&text, "%Y-%m-%d %H:%M:%S%.f")
        .ok()
        .map(|time| time.and_utc().timestamp_micros())
}

/// The rows of one group.
pub(super) fn rows_of(
    columns: &[ArrayRef],
    rows: &UInt32Array,
) -> Result<Vec<ArrayRef>, LakeError> {
    columns
        .iter()
        .map(|column| {
            take(column, rows, None).map_err(|error| LakeError::Encode {
                reason: error.to_string(),
            })
        })
        .collect()
}
