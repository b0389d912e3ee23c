//! Cells that fit, and cells that do not.

use super::*;
use arrow::util::display::{ArrayFormatter, FormatOptions};

fn check(data_type: DataType, cells: &[&str], expected: &[&str]) {
    check_column(data_type, false, cells, expected);
}

fn check_column(data_type: DataType, inferred: bool, cells: &[&str], expected: &[&str]) {
    let field = Field::new("c", data_type, true);
    let mut builder = ColumnBuilder::new(&field, 0, inferred).unwrap();
    let format = ValueFormat::default();
    let mut wrong = Vec::new();
    append_column(
        &mut builder,
        &format,
        cells.iter().map(|c| Some(*c)),
        |index| {
            wrong.push(index);
        },
    );
    let array = builder.finish().unwrap();
    let options = FormatOptions::default().with_null("NULL");
    let shown = ArrayFormatter::try_new(&array, &options).unwrap();
    let shown: Vec<String> = (0..array.len())
        .map(|row| {
            let mark = if wrong.contains(&row) { "!" } else { "" };
            format!("{mark}{}", shown.value(row))
        })
        .collect();
    assert_eq!(shown, expected);
}

#[test]
fn a_cell_that_does_not_fit_is_null_and_reported() {
    check(
        DataType::Int32,
        &["1", "x", "2147483648"],
        &["1", "!NULL", "!NULL"],
    );
    check(
        DataType::Boolean,
        &["yes", "F", "2"],
        &["true", "false", "!NULL"],
    );
    check(
        DataType::Decimal128(5, 2),
        &["1.5", "1000"],
        &["1.50", "!NULL"],
    );
    check(
        DataType::Date32,
        &["2024-02-29", "2023-02-29"],
        &["2024-02-29", "!NULL"],
    );
    check(DataType::Utf8, &["007", ""], &["007", ""]);
    check(DataType::Binary, &["\\x00ff", "\\x0"], &["00ff", "!NULL"]);
}

#[test]
fn what_inference_takes_for_no_number_fits_only_a_declared_column() {
    let cells = ["7", "0", "-0.5", "007", "-07", "+62812"];
    check_column(
        DataType::Int64,
        true,
        &cells,
        &["7", "0", "!NULL", "!NULL", "!NULL", "!NULL"],
    );
    check(
        DataType::Int64,
        &cells,
        &["7", "0", "!NULL", "7", "-7", "62812"],
    );
    check_column(
        DataType::Float64,
        true,
        &cells,
        &["7.0", "0.0", "-0.5", "!NULL", "!NULL", "!NULL"],
    );
    check_column(
        DataType::Decimal128(38, 1),
        true,
        &cells,
        &["7.0", "0.0", "-0.5", "!NULL", "!NULL", "!NULL"],
    );
}

#[test]
fn a_number_that_would_lose_digits_fits_only_a_declared_column() {
    let cells = ["9007199254740993", "0.30000000000000004", "1e400"];
    check_column(
        DataType::Float64,
        true,
        &cells,
        &["!NULL", "0.30000000000000004", "!NULL"],
    );
    check(
        DataType::Float64,
        &cells,
        &["9007199254740992.0", "0.30000000000000004", "inf"],
    );
    let cells = ["0.125", "0.120"];
    check_column(
        DataType::Decimal128(38, 2),
        true,
        &cells,
        &["!NULL", "0.12"],
    );
    check(DataType::Decimal128(38, 2), &cells, &["0.13", "0.12"]);
}

#[test]
fn a_text_that_is_no_uuid_no_json_or_too_long_does_not_fit() {
    let accepted = |column_type: ColumnType, text: &str| {
        let field = column_type.to_field("c", true);
        let mut builder = ColumnBuilder::new(&field, 0, false).unwrap();
        builder.append_text(text, &ValueFormat::default()).is_ok()
    };
    assert!(accepted(
        ColumnType::Uuid,
        "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11"
    ));
    assert!(!accepted(ColumnType::Uuid, "a0eebc99"));
    assert!(accepted(ColumnType::Jsonb, "{\"a\": [1]}"));
    assert!(!accepted(ColumnType::Json, "{a}"));
    assert!(accepted(ColumnType::Varchar(Some(3)), "abc"));
    assert!(!accepted(ColumnType::Varchar(Some(3)), "abcd"));
}

#[test]
fn typed_cells_convert_where_nothing_is_lost() {
    let field = Field::new("c", DataType::Int64, true);
    let mut builder = ColumnBuilder::new(&field, 0, false).unwrap();
    let format = ValueFormat::default();
    assert_eq!(builder.append_native(Native::Float(3.0), &format), Ok(()));
    assert_eq!(
        builder.append_native(Native::Float(3.5), &format),
        Err(Mismatch)
    );
    assert_eq!(builder.append_native(Native::Text("7"), &format), Ok(()));
    let text = Field::new("c", DataType::Utf8, true);
    let mut builder = ColumnBuilder::new(&text, 0, false).unwrap();
    for native in [
        Native::Float(7.0),
        Native::Float(0.1),
        Native::DateTime(MICROS_PER_DAY),
    ] {
        assert_eq!(builder.append_native(native, &format), Ok(()));
    }
    let array = builder.finish().unwrap();
    let texts: &StringArray = array.as_any().downcast_ref().unwrap();
    assert_eq!(
        texts.iter().flatten().collect::<Vec<_>>(),
        ["7", "0.1", "1970-01-02"]
    );
}
