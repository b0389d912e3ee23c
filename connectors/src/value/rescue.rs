//! What did not fit the columns of a batch, kept as text.

use arrow::array::{ArrayRef, StringBuilder};
use std::sync::Arc;

use arrow::datatypes::DataType;

/// Rescued cells of one batch, in any order.
#[derive(Debug, Default)]
pub struct Rescued {
    cells: Vec<Cell>,
}

#[derive(Debug)]
struct Cell {
    row: usize,
    column: Arc<str>,
    raw: Raw,
}

#[derive(Debug)]
enum Raw {
    Text(String),
    /// JSON as it was written: nothing in between that could round a number.
    Json(String),
}

impl Rescued {
    pub fn add(&mut self, row: usize, column: &Arc<str>, text: impl Into<String>) {
        self.push(row, column, Raw::Text(text.into()));
    }

    /// A value of a format that is JSON itself.
    pub fn add_json(&mut self, row: usize, column: &Arc<str>, json: impl Into<String>) {
        self.push(row, column, Raw::Json(json.into()));
    }

    fn push(&mut self, row: usize, column: &Arc<str>, raw: Raw) {
        let column = column.clone();
        self.cells.push(Cell { row, column, raw });
    }

    /// Rows that have something rescued.
    pub fn rows(&mut self) -> u64 {
        self.cells.sort_by_key(|cell| cell.row);
        let mut rows = 0;
        let mut last = None;
        for cell in &self.cells {
            rows += u64::from(last.replace(cell.row) != Some(cell.row));
        }
        rows
    }

    /// The column `_rescued` of a batch of `rows` rows.
    pub fn finish(mut self, rows: usize) -> ArrayRef {
        if self.cells.is_empty() {
            return arrow::array::new_null_array(&DataType::Utf8, rows);
        }
        self.cells.sort_by_key(|cell| cell.row);
        let mut builder = StringBuilder::with_capacity(rows, self.cells.len() * 32);
        let mut cells = self.cells.into_iter().peekable();
        let mut object = String::new();
        for row in 0..rows {
            object.clear();
            while let Some(cell) = cells.next_if(|cell| cell.row == row) {
                object.push(if object.is_empty() { '{' } else { ',' });
                push_json_text(&mut object, &cell.column);
                object.push(':');
                match cell.raw {
                    Raw::Text(text) => push_json_text(&mut object, &text),
                    Raw::Json(json) => object.push_str(&json),
                }
            }
            if object.is_empty() {
                builder.append_null();
            } else {
                object.push('}');
                builder.append_value(&object);
            }
        }
        Arc::new(builder.finish())
    }
}

fn push_json_text(json: &mut String, text: &str) {
    json.push_str(&serde_json::Value::from(text).to_string());
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::AsArray;

    #[test]
    fn a_row_keeps_all_that_was_rescued_of_it() {
        let mut rescued = Rescued::default();
        rescued.add(2, &"b".into(), "say \"x\"");
        rescued.add_json(0, &"a".into(), "12345678901234567890123");
        rescued.add(2, &"a\n".into(), "");
        assert_eq!(rescued.rows(), 2);
        let column = rescued.finish(3);
        assert_eq!(
            column.as_string::<i32>().iter().collect::<Vec<_>>(),
            [
                Some("{\"a\":12345678901234567890123}"),
                None,
                Some("{\"b\":\"say \\\"x\\\"\",\"a\\n\":\"\"}")
            ]
        );
    }
}
