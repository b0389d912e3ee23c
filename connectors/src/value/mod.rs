//! Text to Arrow values, the same for every format whose cells are text.
//!
//! [`ValueFormat`] holds what the options say about numbers, dates and nulls; [`column`] builds
//! Arrow columns; [`infer`] judges types from samples; [`rescue`] keeps what did not fit. A text
//! that is not of the column's type is the caller's to rescue: nothing here guesses or drops.

pub mod column;
pub mod datetime;
pub mod infer;
pub mod number;
pub mod rescue;

use crate::error::ConnectorError;
use crate::options::{OptionValue, Options};
use datetime::Pattern;

/// How cells are written.
#[derive(Debug, Clone)]
pub struct ValueFormat {
    pub decimal: u8,
    pub thousands: Option<u8>,
    pub date_formats: Vec<Pattern>,
    pub timestamp_formats: Vec<Pattern>,
    /// What a text without an offset means in a `timestamptz` column.
    pub time_zone: chrono_tz::Tz,
    /// Cells that are null, besides empty ones.
    pub null_values: Vec<String>,
    /// Blanks around a cell are no part of it.
    pub trim: bool,
}

impl Default for ValueFormat {
    fn default() -> Self {
        Self {
            decimal: b'.',
            thousands: None,
            date_formats: Vec::new(),
            timestamp_formats: Vec::new(),
            time_zone: chrono_tz::UTC,
            null_values: Vec::new(),
            trim: false,
        }
    }
}

impl ValueFormat {
    /// Options `decimal`, `thousands`, `date_format`, `timestamp_format`, `time_zone`,
    /// `null_values`, `trim`.
    pub fn take(options: &mut Options) -> Result<Self, ConnectorError> {
        let mut format = Self::default();
        if let Some(decimal) = take_character(options, "decimal")? {
            format.decimal = decimal;
        }
        format.thousands = take_character(options, "thousands")?;
        if format.thousands == Some(format.decimal) {
            return Err(ConnectorError::option(
                "options \"decimal\" and \"thousands\" are the same character",
            ));
        }
        format.date_formats = take_patterns(options, "date_format")?;
        format.timestamp_formats = take_patterns(options, "timestamp_format")?;
        if let Some(name) = options.take_text("time_zone")? {
            format.time_zone = name.parse().map_err(|_| {
                options.invalid(
                    "time_zone",
                    &OptionValue::Text(name.clone()),
                    "a zone name such as 'Asia/Jakarta'",
                )
            })?;
        }
        format.null_values = options.take_list("null_values")?.unwrap_or_default();
        format.trim = options.take_bool("trim")?.unwrap_or(false);
        Ok(format)
    }

    pub fn is_null_text(&self, text: &str) -> bool {
        self.null_values.iter().any(|null| null == text)
    }

    /// Numbers are written as a programming language writes them.
    fn plain_numbers(&self) -> bool {
        self.decimal == b'.' && self.thousands.is_none()
    }
}

/// One ASCII character; `\t` may be written out.
pub fn take_character(
    options: &mut Options,
    name: &'static str,
) -> Result<Option<u8>, ConnectorError> {
    let Some(text) = options.take_text(name)? else {
        return Ok(None);
    };
    match text.as_bytes() {
        [character] if character.is_ascii() => Ok(Some(*character)),
        [] => Ok(None),
        b"\\t" => Ok(Some(b'\t')),
        _ => Err(options.invalid(
            name,
            &OptionValue::Text(text.clone()),
            "one ASCII character",
        )),
    }
}

fn take_patterns(
    options: &mut Options,
    name: &'static str,
) -> Result<Vec<Pattern>, ConnectorError> {
    let Some(list) = options.take_list(name)? else {
        return Ok(Vec::new());
    };
    list.iter()
        .map(|text| {
            Pattern::new(text).ok_or_else(|| {
                options.invalid(
                    name,
                    &OptionValue::Text(text.clone()),
                    "a format such as '%d/%m/%Y' or 'DD/MM/YYYY'",
                )
            })
        })
        .collect()
}
