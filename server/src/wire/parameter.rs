//! A parameter's bytes, text or binary, as a value of the type the statement gave it.

use boathouse_catalog::types::ColumnType;
use boathouse_engine::SqlError;
use boathouse_engine::execute::copy_decode::ColumnBuilder;
use datafusion::common::ScalarValue;

use super::message::frontend::is_binary;

/// Decodes the parameters of a Bind. `time_zone` is the session's.
pub fn decode_all(
    types: &[ColumnType],
    formats: &[i16],
    values: &[Option<bytes::Bytes>],
    time_zone: &str,
) -> Result<Vec<ScalarValue>, SqlError> {
    types
        .iter()
        .zip(values)
        .enumerate()
        .map(|(index, (column_type, value))| {
            decode(
                column_type,
                value.as_deref(),
                is_binary(formats, index),
                time_zone,
            )
            .map_err(|error| in_parameter(error, index))
        })
        .collect()
}

fn decode(
    column_type: &ColumnType,
    value: Option<&[u8]>,
    binary: bool,
    time_zone: &str,
) -> Result<ScalarValue, SqlError> {
    let mut builder = ColumnBuilder::new(column_type, time_zone, 1);
    match value {
        None => builder.append_null(),
        Some(bytes) if binary => builder.append_binary(bytes)?,
        Some(bytes) => {
            let text = std::str::from_utf8(bytes).map_err(|error| {
                let byte = bytes[error.valid_up_to()];
                SqlError::new(
                    boathouse_engine::SqlState("22021"),
                    format!("invalid byte sequence for encoding \"UTF8\": 0x{byte:02x}"),
                )
            })?;
            builder.append_text(text)?;
        }
    }
    let array = builder.finish()?;
    ScalarValue::try_from_array(&array, 0).map_err(|error| {
        SqlError::internal("a parameter could not be made a value").caused_by(error)
    })
}

/// PostgreSQL says which parameter in the CONTEXT of the error.
fn in_parameter(error: SqlError, index: usize) -> SqlError {
    if error.detail.is_some() {
        return error;
    }
    error.detail(format!("in parameter ${}", index + 1))
}
