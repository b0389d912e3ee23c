//! Lists as PostgreSQL arrays.

use arrow::array::ListArray;
use arrow::buffer::OffsetBuffer;
use arrow::error::ArrowError;
use boathouse_catalog::types::ColumnType;

use super::{Column, Style, Values};

pub struct ListColumn {
    offsets: OffsetBuffer<i32>,
    /// The elements of all rows.
    elements: Box<Column>,
    /// The type at the bottom, below all dimensions.
    element_oid: u32,
    /// Whether an element needs a look before it may stand in an array without quotes.
    quotes: bool,
}

impl ListColumn {
    pub fn new(array: &ListArray, column_type: &ColumnType) -> Result<Self, ArrowError> {
        let ColumnType::Array(element) = column_type else {
            return Err(ArrowError::CastError(format!(
                "a list cannot be sent as {}",
                column_type.sql_name()
            )));
        };
        let elements = Column::new(array.values(), element)?;
        let mut bottom: &ColumnType = element;
        while let ColumnType::Array(inner) = bottom {
            bottom = inner;
        }
        let quotes = !matches!(
            elements.values,
            Values::Boolean(_)
                | Values::Int16(_)
                | Values::Int32(_)
                | Values::Int64(_)
                | Values::Float32(_)
                | Values::Float64(_)
                | Values::Decimal { .. }
                | Values::WideDecimal { .. }
                | Values::List(_)
        );
        Ok(Self {
            offsets: array.offsets().clone(),
            elements: Box::new(elements),
            element_oid: bottom.oid(),
            quotes,
        })
    }

    fn range(&self, row: usize) -> std::ops::Range<usize> {
        self.offsets[row] as usize..self.offsets[row + 1] as usize
    }

    pub fn append_text(&self, row: usize, style: &Style, out: &mut Vec<u8>) {
        out.push(b'{');
        for (index, element) in self.range(row).enumerate() {
            if index > 0 {
                out.push(b',');
            }
            if self.elements.is_null(element) {
                out.extend_from_slice(b"NULL");
                continue;
            }
            let start = out.len();
            self.elements.append_text(element, style, out);
            if self.quotes && needs_quotes(&out[start..]) {
                quote(out, start);
            }
        }
        out.push(b'}');
    }

    /// An array of arrays whose lengths differ has no binary form: the missing elements are sent as
    /// nulls.
    pub fn append_binary(&self, row: usize, out: &mut Vec<u8>) {
        let mut dimensions = Vec::new();
        self.measure(self.range(row), 0, &mut dimensions);
        if dimensions.first() == Some(&0) {
            dimensions.clear();
        }
        out.extend_from_slice(&(dimensions.len() as i32).to_be_bytes());
        let has_nulls = out.len();
        out.extend_from_slice(&0i32.to_be_bytes());
        out.extend_from_slice(&self.element_oid.to_be_bytes());
        for length in &dimensions {
            out.extend_from_slice(&(*length as i32).to_be_bytes());
            out.extend_from_slice(&1i32.to_be_bytes());
        }
        if !dimensions.is_empty() && self.append_elements(self.range(row), &dimensions, out) {
            out[has_nulls..has_nulls + 4].copy_from_slice(&1i32.to_be_bytes());
        }
    }

    /// Finds the greatest length of each dimension.
    fn measure(&self, range: std::ops::Range<usize>, depth: usize, dimensions: &mut Vec<usize>) {
        match dimensions.get_mut(depth) {
            Some(length) => *length = (*length).max(range.len()),
            None => dimensions.push(range.len()),
        }
        if let Values::List(inner) = &self.elements.values {
            for element in range {
                if !self.elements.is_null(element) {
                    inner.measure(inner.range(element), depth + 1, dimensions);
                }
            }
        }
    }

    /// Gives whether there were nulls.
    fn append_elements(
        &self,
        range: std::ops::Range<usize>,
        dimensions: &[usize],
        out: &mut Vec<u8>,
    ) -> bool {
        let Some((&length, below)) = dimensions.split_first() else {
            return false;
        };
        let missing = length - range.len();
        let mut nulls = missing > 0;
        for element in range {
            match &self.elements.values {
                Values::List(inner) => {
                    let inner_range = if self.elements.is_null(element) {
                        0..0
                    } else {
                        inner.range(element)
                    };
                    nulls |= inner.append_elements(inner_range, below, out);
                }
                _ => {
                    nulls |= self.elements.is_null(element);
                    self.elements.append_binary_field(element, out);
                }
            }
        }
        let elements_missing = missing * below.iter().product::<usize>();
        out.resize(out.len() + 4 * elements_missing, 0xff);
        nulls
    }
}

fn needs_quotes(text: &[u8]) -> bool {
    text.is_empty()
        || text.eq_ignore_ascii_case(b"null")
        || text
            .iter()
            .any(|byte| matches!(byte, b'"' | b'\\' | b'{' | b'}' | b',' | b' ' | 0x09..=0x0d))
}

/// Puts quotes around everything from `start` on.
fn quote(out: &mut Vec<u8>, start: usize) {
    let bare = out.split_off(start);
    out.push(b'"');
    for byte in bare {
        if matches!(byte, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(byte);
    }
    out.push(b'"');
}
