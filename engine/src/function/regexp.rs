//! Functions over regular expressions.
//!
//! The patterns are Rust's, which differ from PostgreSQL's in what they cannot say (back references,
//! look-around); such a pattern is 2201B. Compiled patterns are kept per thread.

use std::cell::RefCell;
use std::collections::HashMap;

use regex::Regex;

use super::registry::Builder;
use super::set_returning::texts;
use super::value::Value;
use crate::error::{SqlError, SqlState};

/// Patterns kept per thread before they are dropped together.
const PATTERNS_MAX: usize = 64;

thread_local! {
    static PATTERNS: RefCell<HashMap<String, Regex>> = RefCell::default();
}

fn compile(pattern: &str, flags: &str) -> Result<Regex, SqlError> {
    let mut inline = String::new();
    for flag in flags.chars() {
        match flag {
            'i' => inline.push('i'),
            'x' => inline.push('x'),
            'n' | 'm' => inline.push('m'),
            's' => inline.push('s'),
            'g' | 'c' => {}
            other => {
                return Err(SqlError::new(
                    SqlState::INVALID_PARAMETER_VALUE,
                    format!("invalid regular expression option: \"{other}\""),
                ));
            }
        }
    }
    let whole = if inline.is_empty() {
        pattern.to_owned()
    } else {
        format!("(?{inline}){pattern}")
    };
    PATTERNS.with(|patterns| {
        let mut patterns = patterns.borrow_mut();
        if let Some(regex) = patterns.get(&whole) {
            return Ok(regex.clone());
        }
        let regex = Regex::new(&whole).map_err(|error| {
            SqlError::new(
                SqlState("2201B"),
                format!("invalid regular expression: \"{pattern}\""),
            )
            .caused_by(error)
        })?;
        if patterns.len() >= PATTERNS_MAX {
            patterns.clear();
        }
        patterns.insert(whole, regex.clone());
        Ok(regex)
    })
}

fn flags<'a>(cells: &'a [Value<'_>], index: usize) -> &'a str {
    cells.get(index).map_or("", Value::as_text)
}

pub fn register(functions: &mut Builder) {
    functions.rows(
        "regexp_replace(text, text, text, [text]) text",
        |_, cells| {
            let flags = flags(cells, 3);
            let regex = compile(cells[1].as_text(), flags)?;
            let replacement = rust_replacement(cells[2].as_text());
            let text = cells[0].as_text();
            let replaced = if flags.contains('g') {
                regex.replace_all(text, replacement.as_str())
            } else {
                regex.replace(text, replacement.as_str())
            };
            Ok(Value::text(replaced.into_owned()))
        },
    );
    functions.rows("regexp_match(text, text, [text]) text[]", |_, cells| {
        let regex = compile(cells[1].as_text(), flags(cells, 2))?;
        match regex.captures(cells[0].as_text()) {
            Some(captures) => groups(&captures),
            None => Ok(Value::Null),
        }
    });
    functions.rows(
        "regexp_count(text, text, [integer], [text]) integer",
        |_, cells| {
            let regex = compile(cells[1].as_text(), flags(cells, 3))?;
            let start = cells.get(2).map_or(1, Value::as_int);
            let skip = usize::try_from(start - 1).unwrap_or(0);
            let text: String = cells[0].as_text().chars().skip(skip).collect();
            Ok(Value::Int(
                i64::try_from(regex.find_iter(&text).count()).unwrap_or(i64::MAX),
            ))
        },
    );
    functions.rows("regexp_like(text, text, [text]) boolean", |_, cells| {
        let regex = compile(cells[1].as_text(), flags(cells, 2))?;
        Ok(Value::Bool(regex.is_match(cells[0].as_text())))
    });
    functions.rows("regexp_substr(text, text) text", |_, cells| {
        let regex = compile(cells[1].as_text(), "")?;
        Ok(match regex.find(cells[0].as_text()) {
            Some(found) => Value::text(found.as_str().to_owned()),
            None => Value::Null,
        })
    });
    functions.rows("substring(text, text) text", |_, cells| {
        let regex = compile(cells[1].as_text(), "")?;
        Ok(match regex.captures(cells[0].as_text()) {
            Some(captures) => {
                let group = if captures.len() > 1 {
                    captures.get(1)
                } else {
                    captures.get(0)
                };
                group.map_or(Value::Null, |group| Value::text(group.as_str().to_owned()))
            }
            None => Value::Null,
        })
    });
    functions.rows(
        "regexp_split_to_array(text, text, [text]) text[]",
        |_, cells| {
            let regex = compile(cells[1].as_text(), flags(cells, 2))?;
            texts(regex.split(cells[0].as_text()).collect::<Vec<_>>())
        },
    );
    functions.rows(
        "regexp_split_to_table(text, text, [text]) text[]",
        |_, cells| {
            let regex = compile(cells[1].as_text(), flags(cells, 2))?;
            texts(regex.split(cells[0].as_text()).collect::<Vec<_>>())
        },
    );
}

/// The groups of a match, or the whole match when there are none.
fn groups(captures: &regex::Captures<'_>) -> Result<Value<'static>, SqlError> {
    let start = usize::from(captures.len() > 1);
    let cells = (start..captures.len())
        .map(|group| {
            captures
                .get(group)
                .map_or(Value::Null, |group| Value::text(group.as_str().to_owned()))
        })
        .collect::<Vec<_>>();
    Ok(Value::List(super::value::column(
        &cells,
        &datafusion::arrow::datatypes::DataType::Utf8,
    )?))
}

/// PostgreSQL writes `\1` and `\&`, the regex crate `${1}` and `${0}`.
fn rust_replacement(replacement: &str) -> String {
    let mut text = String::new();
    let mut chars = replacement.chars();
    while let Some(c) = chars.next() {
        match c {
            '$' => text.push_str("$$"),
            '\\' => match chars.next() {
                Some('&') => text.push_str("${0}"),
                Some(digit) if digit.is_ascii_digit() => {
                    text.push_str(&format!("${{{digit}}}"));
                }
                Some(other) => text.push(other),
                None => text.push('\\'),
            },
            other => text.push(other),
        }
    }
    text
}
