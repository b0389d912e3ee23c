//! Structs, maps and lists of a column that has no PostgreSQL type of its own, as JSON text.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::DataType;
use arrow::util::display::{ArrayFormatter, FormatOptions};

/// Appends the JSON of one value.
pub fn append(out: &mut Vec<u8>, array: &ArrayRef, row: usize) {
    if array.is_null(row) {
        out.extend_from_slice(b"null");
        return;
    }
    match array.data_type() {
        DataType::Struct(fields) => {
            let columns = array.as_struct();
            out.push(b'{');
            for (index, (field, column)) in fields.iter().zip(columns.columns()).enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                append_string(out, field.name());
                out.push(b':');
                append(out, column, row);
            }
            out.push(b'}');
        }
        DataType::Map(..) => {
            let map = array.as_map();
            let entries = map.value(row);
            out.push(b'{');
            for entry in 0..entries.len() {
                if entry > 0 {
                    out.push(b',');
                }
                append_string(out, &plain(entries.column(0), entry));
                out.push(b':');
                append(out, entries.column(1), entry);
            }
            out.push(b'}');
        }
        DataType::List(_) => append_list(out, &array.as_list::<i32>().value(row)),
        DataType::LargeList(_) => append_list(out, &array.as_list::<i64>().value(row)),
        DataType::FixedSizeList(..) => append_list(out, &array.as_fixed_size_list().value(row)),
        DataType::Boolean => {
            out.extend_from_slice(if array.as_boolean().value(row) {
                b"true"
            } else {
                b"false"
            });
        }
        kind if kind.is_numeric() => {
            let text = plain(array, row);
            // JSON has no NaN and no infinity.
            if text.ends_with(|last: char| last.is_ascii_digit()) {
                out.extend_from_slice(text.as_bytes());
            } else {
                append_string(out, &text);
            }
        }
        _ => append_string(out, &plain(array, row)),
    }
}

fn append_list(out: &mut Vec<u8>, elements: &ArrayRef) {
    out.push(b'[');
    for element in 0..elements.len() {
        if element > 0 {
            out.push(b',');
        }
        append(out, elements, element);
    }
    out.push(b']');
}

fn append_string(out: &mut Vec<u8>, text: &str) {
    // Serializing a string cannot fail.
    out.extend_from_slice(serde_json::to_string(text).unwrap_or_default().as_bytes());
}

fn plain(array: &ArrayRef, row: usize) -> String {
    ArrayFormatter::try_new(array.as_ref(), &FormatOptions::default())
        .map(|formatter| formatter.value(row).to_string())
        .unwrap_or_default()
}
