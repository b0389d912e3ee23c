//! Between a column as it is computed with and as it is stored.
//!
//! Types that Delta lacks are kept as text: `time` as `HH:MM:SS.ffffff`, `uuid`, `json` and `jsonb`
//! as they print. What a column is to SQL stands in the field's metadata (`boathouse.type`), so any
//! reader sees plain columns and we see ours. Parquet field ids are dropped: other readers take
//! them for a column mapping and read NULLs.

use std::sync::Arc;

use arrow::array::cast::AsArray;
use arrow::array::{Array, ArrayRef, StringBuilder};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Time64MicrosecondType, TimeUnit};
use boathouse_catalog::types::ColumnType;

use super::LakeError;

/// The field a data file holds for a column: stored type, no metadata, nullable, since a file never
/// promises more than the table demands of new rows.
pub(super) fn file_field(field: &Field) -> Result<Field, LakeError> {
    Ok(Field::new(field.name(), stored_type(field)?, true))
}

/// The field the log holds for a column: stored type, and the type it has in SQL as metadata.
pub(super) fn log_field(name: &str, column_type: &ColumnType) -> Result<Field, LakeError> {
    column_type
        .to_stored_field(name, true)
        .ok_or_else(|| LakeError::NotStorable {
            column: name.to_owned(),
            type_name: column_type.sql_name(),
        })
}

fn stored_type(field: &Field) -> Result<DataType, LakeError> {
    let column_type = ColumnType::from_field(field);
    let stored = column_type
        .stored_arrow()
        .ok_or_else(|| LakeError::NotStorable {
            column: field.name().clone(),
            type_name: column_type.sql_name(),
        })?;
    Ok(without_metadata(&stored))
}

/// Strips field metadata inside nested types and makes their items nullable.
fn without_metadata(data_type: &DataType) -> DataType {
    match data_type {
        DataType::List(item) | DataType::LargeList(item) => {
            let item: FieldRef = Arc::new(Field::new(
                "element",
                without_metadata(item.data_type()),
                true,
            ));
            DataType::List(item)
        }
        other => other.clone(),
    }
}

/// Converts a computed column to what files hold.
pub(super) fn to_stored(column: &ArrayRef, field: &Field) -> Result<ArrayRef, LakeError> {
    let stored = stored_type(field)?;
    if column.data_type() == &stored {
        return Ok(Arc::clone(column));
    }
    if let (DataType::Time64(TimeUnit::Microsecond), DataType::Utf8) = (column.data_type(), &stored)
    {
        return Ok(time_to_text(column));
    }
    cast(column, &stored).map_err(|error| LakeError::Encode {
        reason: format!("column \"{}\": {error}", field.name()),
    })
}

/// `HH:MM:SS.ffffff`, so that text order is time order.
fn time_to_text(column: &ArrayRef) -> ArrayRef {
    let times = column.as_primitive::<Time64MicrosecondType>();
    let mut text = StringBuilder::with_capacity(times.len(), times.len() * 15);
    for time in times {
        match time {
            None => text.append_null(),
            Some(micros) => {
                let seconds = micros / 1_000_000;
                text.append_value(format!(
                    "{:02}:{:02}:{:02}.{:06}",
                    seconds / 3600,
                    seconds / 60 % 60,
                    seconds % 60,
                    micros % 1_000_000
                ));
            }
        }
    }
    Arc::new(text.finish())
}
