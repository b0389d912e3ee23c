//! A column of a file as the type asked for.
//!
//! Texts are read as those of any other format. Other values are cast and cast back: one that does
//! not come back as it was is rescued, unless a person declared a type that rounds. What inference
//! itself narrows (nanoseconds, which PostgreSQL does not have) is not compared.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, StringArray};
use arrow::compute::kernels::cmp::distinct;
use arrow::compute::{CastOptions, cast_with_options, nullif};
use arrow::datatypes::{DataType, Field, Float64Type, Schema};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use serde_json::value::RawValue;

use crate::error::FormatError;
use crate::value::ValueFormat;
use crate::value::column::{ColumnBuilder, append_column};
use crate::value::rescue::Rescued;

use super::{column_type, internal};

/// The column as the type of `field`. `inferred` is that of
/// [`DecodeSchema`](crate::format::DecodeSchema).
pub fn fit(
    column: &ArrayRef,
    field: &Field,
    name: &Arc<str>,
    inferred: bool,
    rescued: &mut Rescued,
) -> Result<ArrayRef, FormatError> {
    if column.data_type() == field.data_type() {
        return Ok(column.clone());
    }
    if let DataType::Dictionary(_, values) = column.data_type() {
        let plain = cast(column, values).map_err(internal)?;
        return fit(&plain, field, name, inferred, rescued);
    }
    if is_nested(column.data_type()) {
        if field.data_type() == &DataType::Utf8 {
            return as_json(column);
        }
        if !matches!(field.data_type(), DataType::List(_)) {
            return nothing_fits(column, field, name, rescued);
        }
    }
    if is_text(column.data_type())
        && !matches!(field.data_type(), DataType::Utf8 | DataType::Binary)
        && let Ok(builder) = ColumnBuilder::new(field, column.len(), inferred)
    {
        return parse(column, builder, name, rescued);
    }
    // A count of something is no time, nor the other way round, whatever a cast makes of it.
    if is_time(column.data_type()) != is_time(field.data_type()) && !is_text(field.data_type()) {
        return nothing_fits(column, field, name, rescued);
    }
    // No cast between the two types at all.
    let Ok(mut fitted) = cast(column, field.data_type()) else {
        return nothing_fits(column, field, name, rescued);
    };
    if let Some(lost) = lost(column, &fitted, inferred) {
        fitted = nullif(&fitted, &lost).map_err(internal)?;
    }
    rescue(column, name, rescued, |row| fitted.is_null(row))?;
    Ok(fitted)
}

fn cast(column: &ArrayRef, to: &DataType) -> Result<ArrayRef, arrow::error::ArrowError> {
    let options = CastOptions {
        safe: true,
        ..CastOptions::default()
    };
    cast_with_options(column, to, &options)
}

fn is_time(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Date32 | DataType::Date64 | DataType::Timestamp(..)
    )
}

fn nothing_fits(
    column: &ArrayRef,
    field: &Field,
    name: &Arc<str>,
    rescued: &mut Rescued,
) -> Result<ArrayRef, FormatError> {
    rescue(column, name, rescued, |_| true)?;
    Ok(arrow::array::new_null_array(
        field.data_type(),
        column.len(),
    ))
}

fn parse(
    column: &ArrayRef,
    mut builder: ColumnBuilder,
    name: &Arc<str>,
    rescued: &mut Rescued,
) -> Result<ArrayRef, FormatError> {
    let texts = cast(column, &DataType::Utf8).map_err(internal)?;
    let cells = texts.as_string::<i32>().iter();
    let cells = cells.map(|text| text.map(str::trim));
    let mut misfits = Vec::new();
    append_column(&mut builder, &ValueFormat::default(), cells, |row| {
        misfits.push(row);
    });
    rescue(column, name, rescued, |row| {
        misfits.binary_search(&row).is_ok()
    })?;
    builder.finish().map_err(internal)
}

/// Where `fitted` says less than `column`; `None` when nowhere.
fn lost(column: &ArrayRef, fitted: &ArrayRef, inferred: bool) -> Option<BooleanArray> {
    let (from, to) = (column.data_type(), fitted.data_type());
    if column_type(from) == *to || is_text(to) || is_nested(to) {
        return None;
    }
    let rounds = to.is_floating() || matches!(to, DataType::Decimal128(..));
    if rounds && !inferred && from.is_numeric() {
        return to.is_floating().then(|| overflown(column, fitted))?;
    }
    let back = cast(fitted, from).ok()?;
    distinct(column, &back).ok()
}

/// Where a number became infinite.
fn overflown(column: &ArrayRef, fitted: &ArrayRef) -> Option<BooleanArray> {
    let before = cast(column, &DataType::Float64).ok()?;
    let after = cast(fitted, &DataType::Float64).ok()?;
    let before = before.as_primitive::<Float64Type>().iter();
    let after = after.as_primitive::<Float64Type>().iter();
    let is_finite = |value: Option<f64>| value.is_some_and(f64::is_finite);
    Some(
        before
            .zip(after)
            .map(|(before, after)| Some(is_finite(before) && !is_finite(after)))
            .collect(),
    )
}

/// Keeps the values at the rows for which `lost` holds.
pub fn rescue(
    column: &ArrayRef,
    name: &Arc<str>,
    rescued: &mut Rescued,
    lost: impl Fn(usize) -> bool,
) -> Result<(), FormatError> {
    let options = FormatOptions::default();
    let shown = ArrayFormatter::try_new(column, &options).map_err(internal)?;
    for row in (0..column.len()).filter(|&row| column.is_valid(row) && lost(row)) {
        rescued.add(row, name, shown.value(row).to_string());
    }
    Ok(())
}

/// One value as the writer of JSON lines writes it.
#[derive(serde::Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    value: Option<&'a RawValue>,
}

/// Nested values as JSON text.
fn as_json(column: &ArrayRef) -> Result<ArrayRef, FormatError> {
    let field = Field::new("value", column.data_type().clone(), true);
    let batch = RecordBatch::try_new(Arc::new(Schema::new(vec![field])), vec![column.clone()])
        .map_err(internal)?;
    let mut writer = arrow_json::LineDelimitedWriter::new(Vec::new());
    writer.write(&batch).map_err(internal)?;
    writer.finish().map_err(internal)?;
    let lines = writer.into_inner();
    let texts: StringArray = lines
        .split(|byte| *byte == b'\n')
        .take(column.len())
        .map(|line| {
            let line: Line<'_> = serde_json::from_slice(line).ok()?;
            line.value.map(RawValue::get)
        })
        .collect();
    Ok(Arc::new(texts))
}

fn is_text(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View
    )
}

fn is_nested(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Struct(_)
            | DataType::Map(..)
            | DataType::List(_)
            | DataType::LargeList(_)
            | DataType::FixedSizeList(..)
            | DataType::Union(..)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{
        Float64Array, Int64Array, LargeStringArray, TimestampMicrosecondArray, UInt64Array,
    };
    use arrow::datatypes::TimeUnit;
    use arrow::util::pretty::pretty_format_batches;
    use expect_test::{Expect, expect};

    fn check(column: ArrayRef, to: DataType, inferred: bool, expected: Expect) {
        let field = Field::new("c", to, true);
        let mut rescued = Rescued::default();
        let fitted = fit(&column, &field, &"c".into(), inferred, &mut rescued).unwrap();
        let rescued = rescued.finish(column.len());
        let batch = RecordBatch::try_from_iter([("c", fitted), ("_rescued", rescued)]).unwrap();
        let shown = pretty_format_batches(&[batch]).unwrap();
        expected.assert_eq(&format!("{shown}\n"));
    }

    #[test]
    fn what_does_not_come_back_from_a_cast_is_rescued() {
        let floats = || Arc::new(Float64Array::from(vec![2.0, 2.7])) as ArrayRef;
        check(
            floats(),
            DataType::Int64,
            true,
            expect![[r#"
            +---+-------------+
            | c | _rescued    |
            +---+-------------+
            | 2 |             |
            |   | {"c":"2.7"} |
            +---+-------------+
        "#]],
        );
        check(
            floats(),
            DataType::Int64,
            false,
            expect![[r#"
            +---+-------------+
            | c | _rescued    |
            +---+-------------+
            | 2 |             |
            |   | {"c":"2.7"} |
            +---+-------------+
        "#]],
        );
        let noon = 43_200_000_000;
        check(
            Arc::new(TimestampMicrosecondArray::from(vec![0, noon])),
            DataType::Date32,
            true,
            expect![[r#"
                +------------+-----------------------------+
                | c          | _rescued                    |
                +------------+-----------------------------+
                | 1970-01-01 |                             |
                |            | {"c":"1970-01-01T12:00:00"} |
                +------------+-----------------------------+
            "#]],
        );
        check(
            Arc::new(Int64Array::from(vec![1, 9_007_199_254_740_993])),
            DataType::Float64,
            true,
            expect![[r#"
                +-----+--------------------------+
                | c   | _rescued                 |
                +-----+--------------------------+
                | 1.0 |                          |
                |     | {"c":"9007199254740993"} |
                +-----+--------------------------+
            "#]],
        );
    }

    #[test]
    fn only_a_declared_type_rounds() {
        let floats = || Arc::new(Float64Array::from(vec![0.5, 0.125, 1e300])) as ArrayRef;
        check(
            floats(),
            DataType::Decimal128(10, 2),
            true,
            expect![[r#"
            +------+---------------+
            | c    | _rescued      |
            +------+---------------+
            | 0.50 |               |
            |      | {"c":"0.125"} |
            |      | {"c":"1e300"} |
            +------+---------------+
        "#]],
        );
        check(
            floats(),
            DataType::Decimal128(10, 2),
            false,
            expect![[r#"
            +------+---------------+
            | c    | _rescued      |
            +------+---------------+
            | 0.50 |               |
            | 0.13 |               |
            |      | {"c":"1e300"} |
            +------+---------------+
        "#]],
        );
        check(
            floats(),
            DataType::Float32,
            false,
            expect![[r#"
            +-------+---------------+
            | c     | _rescued      |
            +-------+---------------+
            | 0.5   |               |
            | 0.125 |               |
            |       | {"c":"1e300"} |
            +-------+---------------+
        "#]],
        );
    }

    #[test]
    fn texts_are_read_as_in_other_formats() {
        let texts = || Arc::new(LargeStringArray::from(vec!["7", " 8 ", "007", "x"])) as ArrayRef;
        check(
            texts(),
            DataType::Int64,
            true,
            expect![[r#"
            +---+-------------+
            | c | _rescued    |
            +---+-------------+
            | 7 |             |
            | 8 |             |
            |   | {"c":"007"} |
            |   | {"c":"x"}   |
            +---+-------------+
        "#]],
        );
        check(
            texts(),
            DataType::Int64,
            false,
            expect![[r#"
            +---+-----------+
            | c | _rescued  |
            +---+-----------+
            | 7 |           |
            | 8 |           |
            | 7 |           |
            |   | {"c":"x"} |
            +---+-----------+
        "#]],
        );
    }

    #[test]
    fn what_inference_narrows_is_not_rescued() {
        let nanoseconds = arrow::array::TimestampNanosecondArray::from(vec![1_001]);
        check(
            Arc::new(nanoseconds),
            DataType::Timestamp(TimeUnit::Microsecond, None),
            true,
            expect![[r#"
                +----------------------------+----------+
                | c                          | _rescued |
                +----------------------------+----------+
                | 1970-01-01T00:00:00.000001 |          |
                +----------------------------+----------+
            "#]],
        );
        check(
            Arc::new(UInt64Array::from(vec![u64::MAX])),
            DataType::Int64,
            true,
            expect![[r#"
                +---+------------------------------+
                | c | _rescued                     |
                +---+------------------------------+
                |   | {"c":"18446744073709551615"} |
                +---+------------------------------+
            "#]],
        );
    }
}
