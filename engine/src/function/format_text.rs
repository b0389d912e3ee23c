//! `format('%s ...', ...)`.

use super::registry::Builder;
use super::text::{plain, quote_identifier, quote_literal};
use super::value::Value;
use crate::error::{SqlError, SqlState};

pub fn register(functions: &mut Builder) {
    functions.rows_with_null("format(text, variadic any) text", |context, cells| {
        let Some((pattern, arguments)) = cells.split_first() else {
            return Ok(Value::Null);
        };
        if pattern.is_null() {
            return Ok(Value::Null);
        }
        format(pattern.as_text(), arguments, context.zone).map(Value::text)
    });
}

fn format(pattern: &str, arguments: &[Value<'_>], zone: chrono_tz::Tz) -> Result<String, SqlError> {
    let invalid = |message: String| SqlError::new(SqlState::INVALID_PARAMETER_VALUE, message);
    let mut text = String::new();
    let mut chars = pattern.chars().peekable();
    let mut next_argument = 0usize;
    while let Some(c) = chars.next() {
        if c != '%' {
            text.push(c);
            continue;
        }
        let mut number = String::new();
        let mut left = false;
        let mut width = 0usize;
        let kind = loop {
            match chars.next() {
                None => return Err(invalid("unterminated format() type specifier".to_owned())),
                Some('$') => {
                    let position: usize = number.parse().unwrap_or(0);
                    if position == 0 {
                        return Err(invalid(
                            "format specifies argument 0, but arguments are numbered from 1"
                                .to_owned(),
                        ));
                    }
                    next_argument = position - 1;
                    number.clear();
                }
                Some('-') => left = true,
                Some(digit) if digit.is_ascii_digit() => number.push(digit),
                Some(kind) => {
                    if !number.is_empty() {
                        width = number.parse().unwrap_or(0);
                    }
                    break kind;
                }
            }
        };
        if kind == '%' {
            text.push('%');
            continue;
        }
        let argument = arguments
            .get(next_argument)
            .ok_or_else(|| invalid("too few arguments for format()".to_owned()))?;
        next_argument += 1;
        let piece = match (kind, argument) {
            ('s', argument) => plain(argument, zone),
            ('I', Value::Null) => {
                return Err(invalid(
                    "null values cannot be formatted as an SQL identifier".to_owned(),
                ));
            }
            ('I', argument) => quote_identifier(&plain(argument, zone)),
            ('L', Value::Null) => "NULL".to_owned(),
            ('L', argument) => quote_literal(&plain(argument, zone)),
            (other, _) => {
                return Err(invalid(format!(
                    "unrecognized format() type specifier \"{other}\""
                )));
            }
        };
        let padding = width.min(10_000).saturating_sub(piece.chars().count());
        if !left {
            text.extend(std::iter::repeat_n(' ', padding));
        }
        text.push_str(&piece);
        if left {
            text.extend(std::iter::repeat_n(' ', padding));
        }
    }
    Ok(text)
}
