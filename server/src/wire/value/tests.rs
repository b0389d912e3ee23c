//! Every type's text and binary form, through the door every caller uses.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date64Array, DictionaryArray, Float32Array, ListBuilder,
    PrimitiveBuilder, StringArray, StringBuilder, StringViewArray, TimestampMillisecondArray,
    UInt64Array,
};
use arrow::datatypes::Int32Type;
use expect_test::{Expect, expect};

use super::*;

/// Shows each value as `text | binary in hex`.
fn check(array: ArrayRef, column_type: ColumnType, expected: Expect) {
    let column = Column::new(&array, &column_type).unwrap();
    let style = Style::default();
    let mut shown = String::new();
    for row in 0..array.len() {
        let (mut text, mut binary) = (Vec::new(), Vec::new());
        if column.is_null(row) {
            column.append_text_field(row, &style, &mut text);
            assert_eq!(text, [0xff; 4]);
            shown += "null\n";
            continue;
        }
        column.append_text(row, &style, &mut text);
        column.append_binary(row, &mut binary);
        let hex: String = binary.iter().map(|byte| format!("{byte:02x}")).collect();
        shown += &format!("{} | {hex}\n", String::from_utf8(text).unwrap());
    }
    expected.assert_eq(&shown);
}

#[test]
fn booleans() {
    check(
        Arc::new(BooleanArray::from(vec![Some(true), Some(false), None])),
        ColumnType::Boolean,
        expect![[r#"
            t | 01
            f | 00
            null
        "#]],
    );
}

#[test]
fn bytea_is_hex() {
    check(
        Arc::new(BinaryArray::from(vec![b"\x00a\xff".as_slice(), b""])),
        ColumnType::Bytea,
        expect![[r#"
            \x0061ff | 0061ff
            \x | 
        "#]],
    );
}

#[test]
fn uuid_is_16_bytes_and_jsonb_has_a_version() {
    check(
        Arc::new(StringArray::from(vec![
            "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
        ])),
        ColumnType::Uuid,
        expect![[r#"
            a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11 | a0eebc999c0b4ef8bb6d6bb9bd380a11
        "#]],
    );
    check(
        Arc::new(StringViewArray::from(vec!["[1]"])),
        ColumnType::Jsonb,
        expect![[r#"
            [1] | 015b315d
        "#]],
    );
}

#[test]
fn arrays_quote_what_they_must() {
    let mut list = ListBuilder::new(StringBuilder::new());
    for text in [
        Some("a"),
        Some("b c"),
        None,
        Some("null"),
        Some(""),
        Some("q\"\\"),
    ] {
        list.values().append_option(text);
    }
    list.append(true);
    list.append(true);
    list.append(false);
    check(
        Arc::new(list.finish()),
        ColumnType::Array(Box::new(ColumnType::Text)),
        expect![[r#"
            {a,"b c",NULL,"null","","q\"\\"} | 0000000100000001000000190000000600000001000000016100000003622063ffffffff000000046e756c6c000000000000000371225c
            {} | 000000000000000000000019
            null
        "#]],
    );
}

#[test]
fn arrays_of_arrays_are_dimensions() {
    let mut list = ListBuilder::new(ListBuilder::new(PrimitiveBuilder::<Int32Type>::new()));
    for row in [[1, 2], [3, 4]] {
        list.values().values().append_slice(&row);
        list.values().append(true);
    }
    list.append(true);
    check(
        Arc::new(list.finish()),
        ColumnType::Array(Box::new(ColumnType::Array(Box::new(ColumnType::Integer)))),
        expect![[r#"
            {{1,2},{3,4}} | 000000020000000000000017000000020000000100000002000000010000000400000001000000040000000200000004000000030000000400000004
        "#]],
    );
}

#[test]
fn arrow_types_without_a_form_of_their_own_are_cast() {
    let dictionary: DictionaryArray<Int32Type> = vec!["x", "y", "x"].into_iter().collect();
    check(
        Arc::new(dictionary),
        ColumnType::Text,
        expect![[r#"
            x | 78
            y | 79
            x | 78
        "#]],
    );
    check(
        Arc::new(UInt64Array::from(vec![u64::MAX])),
        ColumnType::Numeric {
            precision: Some(20),
            scale: 0,
        },
        expect![[r#"
            18446744073709551615 | 000500040000000007341a5802e103bb064f
        "#]],
    );
    check(
        Arc::new(Date64Array::from(vec![86_400_000])),
        ColumnType::Date,
        expect![[r#"
            1970-01-02 | ffffd534
        "#]],
    );
    check(
        Arc::new(TimestampMillisecondArray::from(vec![
            946_684_800_000 + 1_500,
        ])),
        ColumnType::Timestamp,
        expect![[r#"
            2000-01-01 00:00:01.5 | 000000000016e360
        "#]],
    );
}

#[test]
fn floats() {
    check(
        Arc::new(Float32Array::from(vec![1.5])),
        ColumnType::Real,
        expect![[r#"
            1.5 | 3fc00000
        "#]],
    );
}

#[test]
fn an_array_that_is_not_of_its_type_is_refused() {
    let array: ArrayRef = Arc::new(StringArray::from(vec!["x"]));
    assert!(Column::new(&array, &ColumnType::Integer).is_err());
}
