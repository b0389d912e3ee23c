//! Every file format, by the name written in SQL.

use crate::error::{ConnectorError, sqlstate};

use super::Format;

static FORMATS: [&dyn Format; 5] = [
    &super::csv::Csv,
    &super::excel::Excel,
    &super::json::Json,
    &super::json::Ndjson,
    &super::parquet::Parquet,
];

/// The format called `name`, without regard to case.
pub fn format(name: &str) -> Result<&'static dyn Format, ConnectorError> {
    FORMATS
        .iter()
        .find(|format| format.name().eq_ignore_ascii_case(name))
        .copied()
        .ok_or_else(|| {
            let known: Vec<_> = FORMATS.iter().map(|format| format.name()).collect();
            ConnectorError::new(
                sqlstate::UNDEFINED_OBJECT,
                format!("format \"{name}\" does not exist"),
            )
            .hint(format!("known formats are {}", known.join(", ")))
        })
}
