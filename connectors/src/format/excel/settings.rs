//! What the options say about workbooks.

use regex::Regex;

use crate::error::{ConnectorError, FormatError};
use crate::format::NameStyle;
use crate::format::csv::{compile_pattern, take_columns_max, take_footer, take_name_style};
use crate::options::{OptionValue, Options};
use crate::value::ValueFormat;

use super::cells::{Region, SheetEntry};

#[derive(Debug, Clone)]
pub struct Settings {
    pub sheet: SheetChoice,
    pub hidden: bool,
    /// Cells outside are not looked at.
    pub range: Option<Region>,
    /// First row of the header, from 1; found when not given.
    pub header_row: Option<u32>,
    /// Rows of the header, joined by `_`; 0 when the table has none.
    pub header_rows: u32,
    pub fill_merged: bool,
    pub footer: Option<Regex>,
    pub column_names: NameStyle,
    pub columns_max: u32,
    pub memory_mib: u64,
    pub values: ValueFormat,
}

#[derive(Debug, Clone)]
pub enum SheetChoice {
    /// The first that is not hidden.
    First,
    Matching(Regex, String),
}

impl Settings {
    /// Options `sheet`, `hidden`, `range`, `header`, `header_row`, `header_rows`, `merged`,
    /// `footer`, `column_names`, `max_columns`, `memory_limit_mb`, and those of
    /// [`ValueFormat::take`].
    pub fn take(options: &mut Options) -> Result<Self, ConnectorError> {
        let sheet = match options.take_text("sheet")? {
            None => SheetChoice::First,
            Some(text) => {
                let literal = |literal: &str| match literal {
                    "*" => ".*".to_owned(),
                    literal => format!("(?i)^{}$", regex::escape(literal.trim())),
                };
                let pattern = compile_pattern(&text, literal).map_err(|error| {
                    let value = OptionValue::Text(text.clone());
                    options
                        .invalid(
                            "sheet",
                            &value,
                            "a name, '*', or an expression such as '/^Stock/'",
                        )
                        .caused_by(error)
                })?;
                SheetChoice::Matching(pattern, text)
            }
        };
        let range = match options.take_text("range")? {
            None => None,
            Some(text) => Some(parse_range(&text).ok_or_else(|| {
                let value = OptionValue::Text(text.clone());
                options.invalid(
                    "range",
                    &value,
                    "a range such as 'A3:F', 'B:D' or 'A1:F100'",
                )
            })?),
        };
        let header = options.take_bool("header")?.unwrap_or(true);
        let header_rows = options.take_number("header_rows")?.unwrap_or(1);
        Ok(Self {
            sheet,
            hidden: options.take_bool("hidden")?.unwrap_or(false),
            range,
            header_row: options.take_number("header_row")?,
            header_rows: if header { header_rows } else { 0 },
            fill_merged: options.take_choice("merged", &["fill", "value"])? != Some("value"),
            footer: take_footer(options)?,
            column_names: take_name_style(options)?,
            columns_max: u32::try_from(take_columns_max(options)?).unwrap_or(u32::MAX),
            memory_mib: options.take_number("memory_limit_mb")?.unwrap_or(768),
            values: ValueFormat::take(options)?,
        })
    }

    /// The sheets to read, in the order of the workbook.
    pub fn choose(&self, sheets: &[SheetEntry]) -> Result<Vec<String>, FormatError> {
        let shown = sheets.iter().filter(|sheet| self.hidden || !sheet.hidden);
        let mut names = shown.map(|sheet| sheet.name.clone());
        let chosen: Vec<String> = match &self.sheet {
            SheetChoice::First => names.next().into_iter().collect(),
            SheetChoice::Matching(pattern, _) => names.filter(|n| pattern.is_match(n)).collect(),
        };
        if !chosen.is_empty() {
            return Ok(chosen);
        }
        let message = match &self.sheet {
            SheetChoice::First => "the workbook has no visible sheet".to_owned(),
            SheetChoice::Matching(_, text) => format!("no visible sheet matches \"{text}\""),
        };
        let list: Vec<String> = sheets
            .iter()
            .map(|s| {
                if s.hidden {
                    format!("{} (hidden)", s.name)
                } else {
                    s.name.clone()
                }
            })
            .collect();
        Err(FormatError::malformed(message)
            .hint(format!("the workbook has the sheets: {}", list.join(", "))))
    }
}

/// `A3:F`, `B:D`, `A1:F100`.
fn parse_range(text: &str) -> Option<Region> {
    let (first, last) = text.trim().split_once(':')?;
    let (first_column, first_row) = parse_corner(first)?;
    let (last_column, last_row) = parse_corner(last)?;
    let region = Region {
        first_row: first_row.unwrap_or(0),
        first_column,
        last_row: last_row.unwrap_or(u32::MAX),
        last_column,
    };
    (region.first_row <= region.last_row && first_column <= last_column).then_some(region)
}

/// Column and row, both from 0.
fn parse_corner(text: &str) -> Option<(u32, Option<u32>)> {
    let text = text.trim().replace('$', "");
    let digits_at = text
        .find(|c: char| c.is_ascii_digit())
        .unwrap_or(text.len());
    let (letters, digits) = text.split_at(digits_at);
    if letters.is_empty() || letters.len() > 3 || !letters.bytes().all(|b| b.is_ascii_alphabetic())
    {
        return None;
    }
    let column = letters.bytes().fold(0, |column, letter| {
        column * 26 + u32::from(letter.to_ascii_uppercase() - b'A') + 1
    });
    let row = match digits {
        "" => None,
        digits => Some(digits.parse::<u32>().ok()?.checked_sub(1)?),
    };
    Some((column - 1, row))
}

/// `A`, ..., `Z`, `AA`, ...: how a person finds a column, from 0.
pub fn column_letters(mut column: u32) -> String {
    let mut letters = Vec::new();
    loop {
        // A remainder of 26 is a letter.
        letters.push(char::from(b'A' + (column % 26) as u8));
        if column < 26 {
            break;
        }
        column = column / 26 - 1;
    }
    letters.iter().rev().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        let region = |a, b, c, d| {
            Some(Region {
                first_row: a,
                first_column: b,
                last_row: c,
                last_column: d,
            })
        };
        assert_eq!(parse_range("A3:F"), region(2, 0, u32::MAX, 5));
        assert_eq!(parse_range("$B$2:AA10"), region(1, 1, 9, 26));
        assert_eq!(parse_range("B:D"), region(0, 1, u32::MAX, 3));
        for text in ["A1", "5:6", "A0:B2", "C1:A2", "AAAA1:B2"] {
            assert_eq!(parse_range(text), None, "{text}");
        }
        assert_eq!(column_letters(16_383), "XFD");
        assert_eq!(
            (column_letters(25), column_letters(26)),
            ("Z".into(), "AA".into())
        );
    }
}
