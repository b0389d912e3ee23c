//! The statistics of a data file: written into its Add action, read back to skip files.
//!
//! Bounds come from the Parquet footer, so they cost no pass over the rows. Strings are cut to 32
//! characters, a lower bound by dropping the rest and an upper bound by raising the last character
//! that can be raised. A float column that held a NaN gets no bounds: NaN sorts above every number
//! in a comparison but is ignored by the footer's bounds.

use std::collections::{HashMap, HashSet};

use arrow::array::cast::AsArray;
use arrow::array::{Array, ArrayRef};
use arrow::compute::{max, max_string, min, min_string, sum};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, Schema, TimeUnit, TimestampMicrosecondType,
};
use boathouse_catalog::definitions::TableDefinition;
use parquet::arrow::arrow_reader::statistics::StatisticsConverter;
use parquet::file::metadata::ParquetMetaData;

/// As many columns as other Delta writers keep statistics of.
const COLUMNS_MAX: usize = 32;
const FIRST_COLUMNS: &str = "delta.dataSkippingNumIndexedCols";
const NAMED_COLUMNS: &str = "delta.dataSkippingStatsColumns";

/// The columns of a table that files get statistics of, by their places in `schema`: those that its properties
/// name, or the first; and those it is looked up or sorted by.
pub(super) fn columns_of(
    properties: &HashMap<String, String>,
    definition: Option<&TableDefinition>,
    schema: &Schema,
) -> HashSet<usize> {
    let first = properties.get(FIRST_COLUMNS);
    let first = first.and_then(|first| first.parse::<i64>().ok());
    let first = first.map_or(COLUMNS_MAX, |first| {
        usize::try_from(first).unwrap_or(usize::MAX)
    });
    let place = |name: &str| schema.index_of(name).ok();
    let mut columns: HashSet<usize> = match properties.get(NAMED_COLUMNS) {
        Some(named) => {
            let named = named.split(',').map(|name| name.trim().trim_matches('`'));
            named.filter_map(place).collect()
        }
        None => (0..schema.fields().len()).take(first).collect(),
    };
    if let Some(definition) = definition {
        let key = definition.primary_key.iter().flat_map(|key| &key.columns);
        let sorted = definition.properties.get("cluster_by");
        let sorted = sorted
            .iter()
            .flat_map(|names| names.split(','))
            .map(str::trim);
        columns.extend(key.map(String::as_str).chain(sorted).filter_map(place));
    }
    columns
}
const STRING_CHARACTERS_MAX: usize = 32;

/// The `stats` of an Add action as JSON text, of the columns of a file for which `wanted` is true.
/// `without_bounds` names columns whose footer bounds must not be used.
pub(super) fn of_file(
    schema: &Schema,
    metadata: &ParquetMetaData,
    wanted: &[bool],
    without_bounds: &HashSet<usize>,
) -> String {
    let rows = metadata.file_metadata().num_rows();
    let mut minima = Vec::new();
    let mut maxima = Vec::new();
    let mut nulls = Vec::new();
    for (index, field) in schema.fields().iter().enumerate() {
        if !wanted.get(index).is_some_and(|wanted| *wanted) {
            continue;
        }
        let Ok(converter) = StatisticsConverter::try_new(
            field.name(),
            schema,
            metadata.file_metadata().schema_descr(),
        ) else {
            continue;
        };
        let groups = metadata.row_groups();
        let name = serde_json::Value::from(field.name().as_str()).to_string();
        if let Ok(counts) = converter.row_group_null_counts(groups)
            && counts.null_count() == 0
        {
            nulls.push(format!("{name}:{}", sum(&counts).unwrap_or(0)));
        }
        if without_bounds.contains(&index) {
            continue;
        }
        let (Ok(lows), Ok(highs)) = (
            converter.row_group_mins(groups),
            converter.row_group_maxes(groups),
        ) else {
            continue;
        };
        if let (Some(low), Some(high)) = (lower_bound(&lows), upper_bound(&highs)) {
            minima.push(format!("{name}:{low}"));
            maxima.push(format!("{name}:{high}"));
        }
    }
    format!(
        "{{\"numRecords\":{rows},\"minValues\":{{{}}},\"maxValues\":{{{}}},\"nullCount\":{{{}}}}}",
        minima.join(","),
        maxima.join(","),
        nulls.join(",")
    )
}

/// The least of the row groups' minima as JSON; `None` when there is none or it is not kept. A row
/// group without a minimum is all NULL, which bounds nothing.
fn lower_bound(values: &ArrayRef) -> Option<String> {
    match values.data_type() {
        DataType::Utf8 => {
            let low = min_string(values.as_string::<i32>())?;
            let cut: String = low.chars().take(STRING_CHARACTERS_MAX).collect();
            Some(serde_json::Value::from(cut).to_string())
        }
        _ => number(values, false),
    }
}

fn upper_bound(values: &ArrayRef) -> Option<String> {
    match values.data_type() {
        DataType::Utf8 => {
            let high = max_string(values.as_string::<i32>())?;
            Some(serde_json::Value::from(raise(high)?).to_string())
        }
        _ => number(values, true),
    }
}

/// Cuts a string so that the result is not below it.
fn raise(text: &str) -> Option<String> {
    if text.chars().count() <= STRING_CHARACTERS_MAX {
        return Some(text.to_owned());
    }
    let mut cut: Vec<char> = text.chars().take(STRING_CHARACTERS_MAX).collect();
    while let Some(last) = cut.pop() {
        // The surrogates are no characters, so the one after U+D7FF is U+E000.
        let next = if last == '\u{D7FF}' {
            0xE000
        } else {
            u32::from(last) + 1
        };
        if let Some(raised) = char::from_u32(next) {
            cut.push(raised);
            return Some(cut.into_iter().collect());
        }
    }
    None
}

fn number(values: &ArrayRef, greatest: bool) -> Option<String> {
    macro_rules! bound {
        ($type:ty) => {{
            let values = values.as_primitive::<$type>();
            if greatest { max(values) } else { min(values) }
        }};
    }
    match values.data_type() {
        DataType::Int8 => bound!(Int8Type).map(|value| value.to_string()),
        DataType::Int16 => bound!(Int16Type).map(|value| value.to_string()),
        DataType::Int32 => bound!(Int32Type).map(|value| value.to_string()),
        DataType::Int64 => bound!(Int64Type).map(|value| value.to_string()),
        DataType::Float32 => bound!(Float32Type).and_then(|value| finite(f64::from(value))),
        DataType::Float64 => bound!(Float64Type).and_then(finite),
        DataType::Decimal128(_, scale) => {
            let scale = usize::try_from(*scale).ok()?;
            bound!(Decimal128Type).map(|value| decimal(value, scale))
        }
        DataType::Date32 => {
            let days = bound!(Date32Type)?;
            let date = Date32Type::to_naive_date_opt(days)?;
            in_four_digits(chrono::Datelike::year(&date))?;
            Some(format!("\"{}\"", date.format("%Y-%m-%d")))
        }
        DataType::Timestamp(TimeUnit::Microsecond, zone) => {
            let micros = bound!(TimestampMicrosecondType)?;
            let time = chrono::DateTime::from_timestamp_micros(micros)?;
            in_four_digits(chrono::Datelike::year(&time))?;
            let suffix = if zone.is_some() { "Z" } else { "" };
            Some(format!(
                "\"{}{suffix}\"",
                time.format("%Y-%m-%dT%H:%M:%S%.6f")
            ))
        }
        _ => None,
    }
}

/// Years outside 0..=9999 have no spelling every reader takes, so they bound nothing.
fn in_four_digits(year: i32) -> Option<()> {
    (0..=9999).contains(&year).then_some(())
}

/// JSON has no infinities.
fn finite(value: f64) -> Option<String> {
    value
        .is_finite()
        .then(|| serde_json::Value::from(value).to_string())
}

/// A decimal as an exact JSON number.
fn decimal(value: i128, scale: usize) -> String {
    let digits = value.unsigned_abs().to_string();
    let sign = if value < 0 { "-" } else { "" };
    if scale == 0 {
        return format!("{sign}{digits}");
    }
    let digits = format!("{digits:0>width$}", width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    format!("{sign}{whole}.{fraction}")
}

/// Whether a float column holds a NaN among its valid values.
pub(super) fn holds_nan(values: &ArrayRef) -> bool {
    match values.data_type() {
        DataType::Float32 => values
            .as_primitive::<Float32Type>()
            .iter()
            .flatten()
            .any(f32::is_nan),
        DataType::Float64 => values
            .as_primitive::<Float64Type>()
            .iter()
            .flatten()
            .any(f64::is_nan),
        _ => false,
    }
}

/// The statistics of a file once rows of it are deleted: bounds that hold and need not be met.
pub(super) fn loosened(stats: &str) -> String {
    let Ok(serde_json::Value::Object(mut members)) = serde_json::from_str(stats) else {
        return stats.to_owned();
    };
    members.insert("tightBounds".into(), false.into());
    serde_json::Value::Object(members).to_string()
}

#[cfg(test)]
mod tests {
    use super::{decimal, raise};

    #[test]
    fn an_upper_bound_is_never_below_the_string_it_stands_for() {
        let long = "a".repeat(40);
        assert_eq!(raise("abc").as_deref(), Some("abc"));
        assert_eq!(raise(&long), Some(format!("{}b", "a".repeat(31))));
        assert_eq!(raise(&"\u{10FFFF}".repeat(40)), None);
        assert_eq!(raise(&format!("{}\u{D7FF}xx", "a".repeat(31))), {
            Some(format!("{}\u{E000}", "a".repeat(31)))
        });
    }

    #[test]
    fn decimals_keep_every_digit() {
        assert_eq!(decimal(-5, 2), "-0.05");
        assert_eq!(decimal(123_456, 3), "123.456");
        assert_eq!(decimal(7, 0), "7");
        assert_eq!(
            decimal(12_345_678_901_234_567_890_123_456_789, 10),
            "1234567890123456789.0123456789"
        );
    }
}
