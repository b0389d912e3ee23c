//! Rows out of cells: one at a time, with merged cells filled.

use crate::value::column::Native;

use super::cells::{CellValue, Region};

/// One cell kept for a while.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Slot {
    Empty,
    Text(usize, usize),
    Error(usize, usize),
    Boolean(bool),
    Integer(i64),
    Float(f64),
    DateTime(i64),
    Duration(i64),
}

/// One row. Column 0 is the first of the range looked at.
#[derive(Debug, Clone, Default)]
pub struct Row {
    /// From 1, as the program that wrote the workbook shows it.
    pub number: i64,
    slots: Vec<Slot>,
    text: String,
}

impl Row {
    pub fn clear(&mut self, number: i64) {
        self.number = number;
        self.slots.clear();
        self.text.clear();
    }

    #[inline]
    pub fn set(&mut self, column: usize, value: CellValue<'_>) {
        if self.slots.len() <= column {
            self.slots.resize(column + 1, Slot::Empty);
        }
        let mut keep = |text: &str| {
            let start = self.text.len();
            self.text.push_str(text);
            (start, self.text.len())
        };
        self.slots[column] = match value {
            CellValue::Error(text) => {
                let (start, end) = keep(text);
                Slot::Error(start, end)
            }
            CellValue::Value(Native::Text(text)) => {
                let (start, end) = keep(text);
                Slot::Text(start, end)
            }
            CellValue::Value(Native::Boolean(value)) => Slot::Boolean(value),
            CellValue::Value(Native::Integer(value)) => Slot::Integer(value),
            CellValue::Value(Native::Float(value)) => Slot::Float(value),
            CellValue::Value(Native::DateTime(value)) => Slot::DateTime(value),
            CellValue::Value(Native::Duration(value)) => Slot::Duration(value),
        };
    }

    #[inline]
    pub fn get(&self, column: usize) -> Option<CellValue<'_>> {
        let text = |start: usize, end: usize| self.text.get(start..end).unwrap_or("");
        Some(match *self.slots.get(column)? {
            Slot::Empty => return None,
            Slot::Text(start, end) => CellValue::Value(Native::Text(text(start, end))),
            Slot::Error(start, end) => CellValue::Error(text(start, end)),
            Slot::Boolean(value) => CellValue::Value(Native::Boolean(value)),
            Slot::Integer(value) => CellValue::Value(Native::Integer(value)),
            Slot::Float(value) => CellValue::Value(Native::Float(value)),
            Slot::DateTime(value) => CellValue::Value(Native::DateTime(value)),
            Slot::Duration(value) => CellValue::Value(Native::Duration(value)),
        })
    }

    /// Past the last cell that is not empty.
    pub fn width(&self) -> usize {
        self.slots
            .iter()
            .rposition(|slot| *slot != Slot::Empty)
            .map_or(0, |last| last + 1)
    }

    pub fn first_column(&self) -> Option<usize> {
        self.slots.iter().position(|slot| *slot != Slot::Empty)
    }

    pub fn filled(&self) -> usize {
        self.slots
            .iter()
            .filter(|slot| **slot != Slot::Empty)
            .count()
    }

    pub fn text_bytes(&self) -> usize {
        self.text.len()
    }
}

/// Merged regions of a sheet, passed row by row in order.
pub struct MergedCells {
    /// By first row, the next one last.
    waiting: Vec<Region>,
    /// Regions that reach the current row, each with the row that holds its value.
    active: Vec<(Region, Row)>,
    first_column: u32,
}

impl MergedCells {
    /// `first_column` is column 0 of the rows.
    pub fn new(mut regions: Vec<Region>, first_column: u32) -> Self {
        regions.sort_by_key(|region| std::cmp::Reverse((region.first_row, region.first_column)));
        Self {
            waiting: regions,
            active: Vec::new(),
            first_column,
        }
    }

    /// Writes the value of every merged region into the cells of `row` that it covers, up to
    /// `columns_max`. Rows must come in order.
    pub fn fill(&mut self, row: &mut Row, columns_max: usize) {
        if self.waiting.is_empty() && self.active.is_empty() {
            return;
        }
        let number = row.number - 1;
        self.active
            .retain(|(region, _)| i64::from(region.last_row) >= number);
        while let Some(region) = self
            .waiting
            .pop_if(|region| i64::from(region.first_row) <= number)
        {
            let column = region.first_column.saturating_sub(self.first_column) as usize;
            if i64::from(region.last_row) < number || region.first_column < self.first_column {
                continue;
            }
            let mut anchor = Row::default();
            if i64::from(region.first_row) == number
                && let Some(value) = row.get(column)
            {
                anchor.set(0, value);
                self.active.push((region, anchor));
            }
        }
        for (region, anchor) in &self.active {
            let Some(value) = anchor.get(0) else { continue };
            let first = region.first_column.saturating_sub(self.first_column) as usize;
            let last = region.last_column.saturating_sub(self.first_column) as usize;
            for column in first..=last.min(columns_max.saturating_sub(1)) {
                if row.get(column).is_none() {
                    row.set(column, value);
                }
            }
        }
    }
}
