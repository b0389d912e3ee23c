//! One record by itself, as a message of a broker has it.
//!
//! There is nothing to find out from: how the record is written is said by the options, or is as RFC 4180 has it. Cells are
//! those that the same text would have in a file.

use super::decode::cell_value;
use super::scan::{Cell, Dialect, scan, unescape};
use super::{take_character, take_quote};
use crate::error::ConnectorError;
use crate::options::Options;
use crate::value::ValueFormat;

/// How records are written.
#[derive(Debug, Clone)]
pub(crate) struct RecordFormat {
    dialect: Dialect,
    pub values: ValueFormat,
    pub reject_ragged: bool,
}

/// The cells of a record.
#[derive(Debug, Default)]
pub(crate) struct Record {
    cells: Vec<Cell>,
    /// Cells that had to be written out.
    arena: String,
}

impl RecordFormat {
    /// Options `delimiter`, `quote`, `escape`, `ragged`, and those of [`ValueFormat::take`].
    pub fn take(options: &mut Options) -> Result<Self, ConnectorError> {
        let standard = Dialect::default();
        let quote = take_quote(options)?.unwrap_or(standard.quote);
        let values = ValueFormat::take(options)?;
        let dialect = Dialect {
            delimiter: take_character(options, "delimiter")?.unwrap_or(standard.delimiter),
            quote,
            escape: take_character(options, "escape")?.filter(|escape| Some(*escape) != quote),
            trim: values.trim,
            ..standard
        };
        if Some(dialect.delimiter) == quote {
            return Err(ConnectorError::option(
                "options \"delimiter\" and \"quote\" are the same character",
            ));
        }
        Ok(Self {
            dialect,
            values,
            reject_ragged: options.take_choice("ragged", &["fill", "reject"])? == Some("reject"),
        })
    }

    /// Splits a text that is one record, or says why it is none. A line end behind it is no part of it.
    pub fn split(&self, text: &str, record: &mut Record) -> Result<(), String> {
        record.cells.clear();
        record.arena.clear();
        let mut records = 0;
        let rest = scan(
            text.as_bytes(),
            &self.dialect,
            true,
            &mut record.cells,
            |_, _, _| records += 1,
        );
        match records {
            _ if rest.open_quote => return Err("a quoted cell is never closed".to_owned()),
            0 => return Err("the message has no record".to_owned()),
            1 => {}
            more => return Err(format!("the message has {more} records, not one")),
        }
        for cell in &mut record.cells {
            if cell.is_escaped() {
                let start = record.arena.len();
                let raw = text.get(cell.start as usize..cell.end() as usize);
                let raw = raw.unwrap_or("");
                unescape(raw, &self.dialect, cell.is_quoted(), &mut record.arena);
                *cell = Cell::in_arena(start, record.arena.len());
            }
        }
        Ok(())
    }

    /// A cell of the record that `text` was split into; `None` when it is null or missing. An empty text in quotes is a text.
    pub fn value<'a>(
        &self,
        text: &'a str,
        record: &'a Record,
        column: usize,
        is_text: bool,
    ) -> Option<&'a str> {
        let cell = *record.cells.get(column)?;
        cell_value(&self.values, text, &record.arena, cell, is_text)
    }
}

impl Record {
    pub fn width(&self) -> usize {
        self.cells.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(options: &[(&'static str, &str)], text: &str) -> Result<Vec<Option<String>>, String> {
        let mut options = Options::new("test", options.iter().copied());
        let format = RecordFormat::take(&mut options).unwrap();
        let mut record = Record::default();
        format.split(text, &mut record)?;
        let cells = 0..record.width();
        Ok(cells
            .map(|cell| format.value(text, &record, cell, true).map(str::to_owned))
            .collect())
    }

    fn some(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn a_message_is_one_record() {
        assert_eq!(
            split(&[], "1,\"a \"\"b\"\"\nc\",,\"\"\r\n"),
            Ok(vec![some("1"), some("a \"b\"\nc"), None, some("")])
        );
        let reason = |text: &str| split(&[], text).unwrap_err();
        assert_eq!(reason("a\nb\n"), "the message has 2 records, not one");
        assert_eq!(reason("\n"), "the message has no record");
        assert_eq!(reason("1,\"a"), "a quoted cell is never closed");
    }

    #[test]
    fn options_say_how_it_is_written() {
        assert_eq!(
            split(&[("delimiter", "|"), ("quote", "")], "\"a|b,c"),
            Ok(vec![some("\"a"), some("b,c")])
        );
        assert_eq!(
            split(&[("escape", "\\")], "\"a\\\"b\",c"),
            Ok(vec![some("a\"b"), some("c")])
        );
        let mut options = Options::new("test", [("quote", ",")]);
        let error = RecordFormat::take(&mut options).unwrap_err();
        assert!(error.message.contains("same character"));
    }
}
