//! What did not fit the columns of a batch, kept as text.

use arrow::array::{ArrayRef, StringBuilder};
use serde_json::{Map, Value};
use std::sync::Arc;

/// Rescued cells of one batch, in any order.
#[derive(Debug, Default)]
pub struct Rescued {
    cells: Vec<(usize, Arc<str>, Value)>,
}

impl Rescued {
    pub fn add(&mut self, row: usize, column: &Arc<str>, raw: impl Into<Value>) {
        self.cells.push((row, column.clone(), raw.into()));
    }

    /// Rows that have something rescued.
    pub fn rows(&mut self) -> u64 {
        self.cells.sort_by_key(|(row, ..)| *row);
        let mut rows = 0;
        let mut last = None;
        for (row, ..) in &self.cells {
            rows += u64::from(last.replace(*row) != Some(*row));
        }
        rows
    }

    /// The column `_rescued` of a batch of `rows` rows.
    pub fn finish(mut self, rows: usize) -> ArrayRef {
        if self.cells.is_empty() {
            return arrow::array::new_null_array(&arrow::datatypes::DataType::Utf8, rows);
        }
        self.cells.sort_by_key(|(row, ..)| *row);
        let mut builder = StringBuilder::with_capacity(rows, self.cells.len() * 32);
        let mut cells = self.cells.into_iter().peekable();
        for row in 0..rows {
            let mut object = Map::new();
            while let Some((_, column, raw)) = cells.next_if(|(at, ..)| *at == row) {
                object.insert(column.to_string(), raw);
            }
            if object.is_empty() {
                builder.append_null();
            } else {
                builder.append_value(Value::Object(object).to_string());
            }
        }
        Arc::new(builder.finish())
    }
}
