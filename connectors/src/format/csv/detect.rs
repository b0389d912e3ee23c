//! Finds out how a text is written: delimiter, quotes, where the table starts, its header.
//!
//! Every candidate splits the same sample; the one under which the most records have the same
//! number of cells, and more than one, wins. What the options say is never second-guessed.

use std::cmp::Reverse;
use std::collections::HashMap;

use memchr::{memchr, memchr_iter, memmem};

use crate::error::{FormatError, sqlstate};
use crate::format::names::{NameStyle, unique_names};
use crate::value::ValueFormat;
use crate::value::infer::TypeSample;

use super::scan::{Cell, Dialect, scan, unescape};

/// What the options say about the shape of a text.
#[derive(Debug, Clone)]
pub struct Shape {
    pub delimiter: Option<u8>,
    /// `Some(None)`: cells are never quoted.
    pub quote: Option<Option<u8>>,
    pub escape: Option<u8>,
    pub comment: Option<u8>,
    pub header: Option<bool>,
    /// Line of the header, from 1.
    pub header_row: Option<usize>,
    /// Lines before anything else.
    pub skip_rows: usize,
    pub column_names: NameStyle,
    /// More are refused.
    pub columns_max: usize,
}

/// How a text is written.
#[derive(Debug, Clone)]
pub struct Layout {
    pub dialect: Dialect,
    pub names: Vec<String>,
    /// Where the first record behind the header starts.
    pub data_start: usize,
    /// Its line, from 1.
    pub data_line: i64,
}

/// Records enough to tell.
const RECORDS_MAX: usize = 2_000;
const DELIMITERS: [u8; 5] = [b',', b';', b'\t', b'|', b':'];

struct Record {
    cells: Vec<String>,
    quoted: bool,
    next: usize,
    next_line: usize,
}

pub fn detect(
    sample: &str,
    at_end: bool,
    shape: &Shape,
    values: &ValueFormat,
) -> Result<Layout, FormatError> {
    let terminator = terminator(sample.as_bytes());
    let skipped = line_starts(sample, terminator, shape.skip_rows);
    let skip_to = match shape.header_row {
        Some(row) => line_starts(sample, terminator, row.saturating_sub(1)).max(skipped),
        None => skipped,
    };
    let table = &sample[skip_to.0..];
    let base = Dialect {
        terminator,
        comment: shape.comment,
        escape: shape.escape,
        trim: values.trim,
        ..Dialect::default()
    };
    let quotes: Vec<Option<u8>> = match shape.quote {
        Some(quote) => vec![quote],
        None => quote_candidates(table),
    };
    let delimiters = match shape.delimiter {
        Some(delimiter) => vec![delimiter],
        None => DELIMITERS.to_vec(),
    };
    let mut best: Option<(f64, Dialect, Vec<Record>)> = None;
    for &quote in &quotes {
        for &delimiter in &delimiters {
            let escape = base.escape.or_else(|| guess_escape(table, quote));
            let dialect = Dialect {
                delimiter,
                quote,
                escape,
                ..base.clone()
            };
            let records = split(table, &dialect, at_end);
            let score = score(&records);
            if best.as_ref().is_none_or(|(best, ..)| score > *best) {
                best = Some((score, dialect, records));
            }
        }
    }
    let (dialect, records) = best.map_or((base, Vec::new()), |(_, d, records)| (d, records));
    lay_out(dialect, &records, shape, values, skip_to)
}

fn lay_out(
    dialect: Dialect,
    records: &[Record],
    shape: &Shape,
    values: &ValueFormat,
    skip_to: (usize, usize),
) -> Result<Layout, FormatError> {
    let width = usual_width(records, |record| record.cells.len());
    let first = match (shape.header_row, shape.header) {
        // Rows without a header are all data.
        (Some(_), _) | (None, Some(false)) => 0,
        (None, Some(true)) => records
            .iter()
            .position(|record| filled(record) > 0)
            .unwrap_or(0),
        (None, None) => header_place(records, width),
    };
    let Some(record) = records.get(first) else {
        let (data_start, line) = skip_to;
        return Ok(Layout {
            dialect,
            names: Vec::new(),
            data_start,
            data_line: line as i64 + 1,
        });
    };
    let has_header = shape.header.unwrap_or_else(|| {
        shape.header_row.is_some() || looks_like_header(&records[first..], values)
    });
    // What was taken for a title above a header is a row when there is none.
    let (first, record) = match (has_header, records.first()) {
        (false, Some(record)) => (0, record),
        _ => (first, record),
    };
    let (header, offset, line) = if has_header {
        let mut header = record.cells.clone();
        // A delimiter at the end of the header line is no column, unless rows have it filled.
        while header.len() > 1
            && header.last().is_some_and(|name| name.trim().is_empty())
            && !records[first + 1..].iter().any(|row| {
                row.cells
                    .get(header.len() - 1)
                    .is_some_and(|cell| !cell.is_empty())
            })
        {
            header.pop();
        }
        (header, record.next, record.next_line)
    } else {
        let columns = records.iter().map(|row| row.cells.len()).max().unwrap_or(0);
        let unnamed = vec![String::new(); columns.min(width.max(record.cells.len()))];
        (unnamed, 0, 0)
    };
    if header.len() > shape.columns_max {
        return Err(too_many_columns(header.len(), shape.columns_max));
    }
    Ok(Layout {
        dialect,
        names: unique_names(&header, shape.column_names),
        data_start: skip_to.0 + offset,
        data_line: (skip_to.1 + line) as i64 + 1,
    })
}

/// More columns than may be.
pub fn too_many_columns(columns: usize, columns_max: usize) -> FormatError {
    FormatError::new(
        sqlstate::LIMIT_EXCEEDED,
        format!("the file has {columns} columns; more than {columns_max} are refused"),
    )
    .hint("give the right delimiter and header_row, or raise max_columns")
}

/// Old files end lines by `\r` alone.
fn terminator(sample: &[u8]) -> u8 {
    if memchr(b'\n', sample).is_none() && memchr(b'\r', sample).is_some() {
        b'\r'
    } else {
        b'\n'
    }
}

/// Offset and number of the line `lines` lines down.
fn line_starts(sample: &str, terminator: u8, lines: usize) -> (usize, usize) {
    match lines.checked_sub(1) {
        None => (0, 0),
        Some(last) => memchr_iter(terminator, sample.as_bytes())
            .nth(last)
            .map_or((sample.len(), lines), |at| (at + 1, lines)),
    }
}

fn quote_candidates(sample: &str) -> Vec<Option<u8>> {
    let single = sample.starts_with('\'')
        || sample.contains("\n'")
        || DELIMITERS.iter().any(|&delimiter| {
            let opening = [delimiter, b'\''];
            let closing = [b'\'', delimiter];
            memmem::find(sample.as_bytes(), &opening).is_some()
                && memmem::find(sample.as_bytes(), &closing).is_some()
        });
    match single && memchr(b'"', sample.as_bytes()).is_none() {
        true => vec![Some(b'\''), Some(b'"')],
        false => vec![Some(b'"')],
    }
}

/// Backslashes escape where they precede quotes and quotes are not doubled within cells.
fn guess_escape(sample: &str, quote: Option<u8>) -> Option<u8> {
    let quote = char::from(quote?);
    let escaped = sample.contains(&format!("\\{quote}"));
    let ends_cell = DELIMITERS
        .iter()
        .any(|&d| sample.contains(&format!("\\{quote}{}", char::from(d))))
        || sample.contains(&format!("\\{quote}\n"));
    let doubled = sample.contains(&format!("{quote}{quote}"));
    (escaped && !(doubled && ends_cell)).then_some(b'\\')
}

fn split(text: &str, dialect: &Dialect, at_end: bool) -> Vec<Record> {
    let mut records: Vec<Record> = Vec::new();
    // A few thousand lines are enough, however large the sample is.
    let cut = memchr_iter(dialect.terminator, text.as_bytes()).nth(RECORDS_MAX);
    let (text, at_end) = match cut {
        Some(cut) => (&text[..=cut], false),
        None => (text, at_end),
    };
    let mut cells: Vec<Cell> = Vec::new();
    scan(
        text.as_bytes(),
        dialect,
        at_end,
        &mut cells,
        |cells, first, span| {
            let quoted = cells[first..]
                .iter()
                .any(|cell| cell.is_quoted() || cell.is_escaped());
            let record = cells
                .drain(first..)
                .map(|cell| cell_text(text, cell, dialect))
                .collect();
            let inside = &text.as_bytes()[span.start..span.next];
            let mut lines = memchr_iter(dialect.terminator, inside).count();
            if span.next == span.end {
                lines += 1;
            }
            records.push(Record {
                cells: record,
                quoted,
                next: span.next,
                next_line: span.line + lines,
            });
        },
    );
    records
}

fn cell_text(text: &str, cell: Cell, dialect: &Dialect) -> String {
    let raw = text
        .get(cell.start as usize..cell.end() as usize)
        .unwrap_or("");
    if !cell.is_escaped() {
        return raw.to_owned();
    }
    let mut unescaped = String::new();
    unescape(raw, dialect, cell.is_quoted(), &mut unescaped);
    unescaped
}

/// Titles above a table have fewer cells than the table. Rows may end with a delimiter more than
/// the header, so empty cells at the end do not count.
fn header_place(records: &[Record], width: usize) -> usize {
    let width_filled = usual_width(records, filled_width);
    records
        .iter()
        .position(|record| filled(record) * 2 > width && filled_width(record) >= width_filled)
        .unwrap_or(0)
}

fn usual_width(records: &[Record], width: impl Fn(&Record) -> usize) -> usize {
    // How often each width occurs, and where first: of two as frequent the earlier wins.
    let mut counts: HashMap<usize, (usize, Reverse<usize>)> = HashMap::new();
    for (index, record) in records.iter().enumerate() {
        counts.entry(width(record)).or_insert((0, Reverse(index))).0 += 1;
    }
    counts
        .into_iter()
        .max_by_key(|&(_, rank)| rank)
        .map_or(0, |(width, _)| width)
}

fn filled(record: &Record) -> usize {
    record
        .cells
        .iter()
        .filter(|cell| !cell.trim().is_empty())
        .count()
}

/// Without the empty cells at the end.
fn filled_width(record: &Record) -> usize {
    record
        .cells
        .iter()
        .rposition(|cell| !cell.trim().is_empty())
        .map_or(0, |last| last + 1)
}

fn score(records: &[Record]) -> f64 {
    let width = usual_width(records, |record| record.cells.len());
    if records.is_empty() || width < 2 {
        return 0.0;
    }
    let alike = records
        .iter()
        .filter(|record| record.cells.len() == width)
        .count() as f64;
    let quoted = records.iter().any(|record| record.quoted);
    let share = alike / records.len() as f64;
    share * share * (1.0 + (width as f64).ln()) + if quoted { 0.01 } else { 0.0 }
}

/// A header is all text, without repeats, and where the rows below have numbers or dates it has
/// words.
fn looks_like_header(records: &[Record], values: &ValueFormat) -> bool {
    let Some((header, rows)) = records.split_first() else {
        return false;
    };
    let is_text = |cell: &str| {
        let mut sample = TypeSample::default();
        sample.add_text(cell.trim(), values);
        // Identifiers with leading zeros are text by type, but no names.
        sample.is_text()
            && !cell
                .trim()
                .bytes()
                .all(|byte| byte.is_ascii_digit() || byte == b'+')
    };
    if filled(header) == 0
        || !header
            .cells
            .iter()
            .all(|cell| cell.trim().is_empty() || is_text(cell))
    {
        return false;
    }
    if filled(header) * 2 < header.cells.len() {
        return false;
    }
    let mut seen = std::collections::HashSet::new();
    let repeats = header
        .cells
        .iter()
        .filter(|cell| !cell.is_empty())
        .any(|cell| !seen.insert(cell));
    let typed_below = (0..header.cells.len()).any(|column| {
        let mut below = rows
            .iter()
            .filter_map(|row| row.cells.get(column))
            .filter(|c| !c.is_empty());
        let mut any = false;
        below.by_ref().take(100).all(|cell| {
            any = true;
            !is_text(cell)
        }) && any
    });
    let repeated_below = rows.iter().any(|row| row.cells == header.cells);
    typed_below || !(repeats || repeated_below)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape() -> Shape {
        Shape {
            delimiter: None,
            quote: None,
            escape: None,
            comment: None,
            header: None,
            header_row: None,
            skip_rows: 0,
            column_names: NameStyle::Snake,
            columns_max: 4,
        }
    }

    fn check(text: &str, shape: &Shape, expected: &str) {
        let layout = detect(text, true, shape, &ValueFormat::default()).unwrap();
        let shown = format!(
            "{:?} {:?} {:?} {} line {}: {:?}",
            char::from(layout.dialect.delimiter),
            layout.dialect.quote.map(char::from),
            layout.dialect.escape.map(char::from),
            layout.names.join(" "),
            layout.data_line,
            &text[layout.data_start..]
        );
        assert_eq!(shown, expected);
    }

    #[test]
    fn delimiters() {
        check(
            "a;b\n1,5;2\n3,5;4\n",
            &shape(),
            "';' Some('\"') None a b line 2: \"1,5;2\\n3,5;4\\n\"",
        );
        check(
            "a\tb\n1\t2\n",
            &shape(),
            "'\\t' Some('\"') None a b line 2: \"1\\t2\\n\"",
        );
        check(
            "a|b\n1|2",
            &shape(),
            "'|' Some('\"') None a b line 2: \"1|2\"",
        );
        check(
            "name\nx\ny\n",
            &shape(),
            "',' Some('\"') None name line 2: \"x\\ny\\n\"",
        );
        check(
            "a,b\r1,2\r",
            &shape(),
            "',' Some('\"') None a b line 2: \"1,2\\r\"",
        );
    }

    #[test]
    fn quotes_and_escapes() {
        check(
            "a;b\n'x;y';2\n",
            &shape(),
            "';' Some('\\'') None a b line 2: \"'x;y';2\\n\"",
        );
        check(
            "a,b\n\"x\\\"y\",2\n",
            &shape(),
            "',' Some('\"') Some('\\\\') a b line 2: \"\\\"x\\\\\\\"y\\\",2\\n\"",
        );
    }

    #[test]
    fn titles_above_the_header_are_passed_over() {
        check(
            "Stock report\n\nprinted 2024,,\nsku,qty,price\na,1,2\nb,2,3\n",
            &shape(),
            "',' Some('\"') None sku qty price line 5: \"a,1,2\\nb,2,3\\n\"",
        );
        check(
            "x\ny\nsku,qty\na,1\n",
            &Shape {
                header_row: Some(3),
                ..shape()
            },
            "',' Some('\"') None sku qty line 4: \"a,1\\n\"",
        );
    }

    #[test]
    fn a_table_without_header_gets_numbered_columns() {
        check(
            "1,a\n2,b\n",
            &shape(),
            "',' Some('\"') None column_1 column_2 line 1: \"1,a\\n2,b\\n\"",
        );
        check(
            "a,b\n",
            &Shape {
                header: Some(false),
                ..shape()
            },
            "',' Some('\"') None column_1 column_2 line 1: \"a,b\\n\"",
        );
    }

    #[test]
    fn a_delimiter_at_the_end_of_rows_does_not_cost_the_header() {
        let text = "sku,qty,price\na,1,2,\nb,3,4,\nc,5,6,\n";
        let expected = "',' Some('\"') None sku qty price line 2: \"a,1,2,\\nb,3,4,\\nc,5,6,\\n\"";
        check(text, &shape(), expected);
        check(
            text,
            &Shape {
                header: Some(true),
                ..shape()
            },
            expected,
        );
    }

    #[test]
    fn a_header_that_is_given_is_the_first_line_whatever_its_width() {
        check(
            "\nid\n1,2\n3,4\n",
            &Shape {
                header: Some(true),
                ..shape()
            },
            "',' Some('\"') None id line 3: \"1,2\\n3,4\\n\"",
        );
    }

    #[test]
    fn no_row_is_passed_over_when_there_is_no_header() {
        let text = "a,,,\nb,1,2,3\nc,4,5,6\n";
        let expected = "',' Some('\"') None column_1 column_2 column_3 column_4 line 1: \"a,,,\\nb,1,2,3\\nc,4,5,6\\n\"";
        check(text, &shape(), expected);
        check(
            text,
            &Shape {
                header: Some(false),
                ..shape()
            },
            expected,
        );
    }

    #[test]
    fn columns_without_end_are_refused() {
        let error = detect("a,b,c,d,e\n", true, &shape(), &ValueFormat::default()).unwrap_err();
        assert_eq!(
            (error.to_string(), error.sqlstate),
            (
                "the file has 5 columns; more than 4 are refused".to_owned(),
                "54000"
            )
        );
    }
}
