//! `WITH (name = value, ...)`: options whose meaning belongs to whoever takes them.

use std::fmt;

use sqlparser::tokenizer::Token;

use crate::error::ParseError;
use crate::input::Input;
use crate::name::{quote_identifier, quote_label, quote_literal};
use crate::source::is_word;

/// One option. Names are folded like identifiers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqlOption {
    pub name: String,
    pub value: OptionValue,
}

/// What an option was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OptionValue {
    /// A string literal, or a bare word.
    Text(String),
    /// A number as it was written.
    Number(String),
    /// `true` or `false`, or the option's name alone.
    Boolean(bool),
    /// `SECRET name`.
    Secret(String),
    /// `INTERVAL '...'`, as it was written.
    Interval(String),
    /// `('a', 'b')`.
    List(Vec<OptionValue>),
}

impl OptionValue {
    /// The value as text, however it was written; lists are joined with commas. `None` for a secret.
    pub fn text(&self) -> Option<String> {
        match self {
            Self::Text(text) | Self::Number(text) | Self::Interval(text) => Some(text.clone()),
            Self::Boolean(value) => Some(value.to_string()),
            Self::Secret(_) => None,
            Self::List(values) => {
                let texts: Option<Vec<String>> = values.iter().map(Self::text).collect();
                texts.map(|texts| texts.join(","))
            }
        }
    }
}

impl fmt::Display for SqlOption {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<String> = self.name.split('.').map(quote_label).collect();
        write!(formatter, "{} = {}", parts.join("."), self.value)
    }
}

impl fmt::Display for OptionValue {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => formatter.write_str(&quote_literal(text)),
            Self::Number(number) => formatter.write_str(number),
            Self::Boolean(value) => write!(formatter, "{value}"),
            Self::Secret(name) => write!(formatter, "SECRET {}", quote_identifier(name)),
            Self::Interval(text) => write!(formatter, "INTERVAL {}", quote_literal(text)),
            Self::List(values) => {
                formatter.write_str("(")?;
                for (index, value) in values.iter().enumerate() {
                    let separator = if index == 0 { "" } else { ", " };
                    write!(formatter, "{separator}{value}")?;
                }
                formatter.write_str(")")
            }
        }
    }
}

/// `(name = value, name value, name, ...)`: the equals sign may be missing, as in PostgreSQL's
/// `COPY`, and a name alone means `true`.
pub(crate) fn parse_options(input: &mut Input) -> Result<Vec<SqlOption>, ParseError> {
    input.parenthesized(|input| {
        if input.peek_symbol(&Token::RParen) {
            Ok(Vec::new())
        } else {
            input.list(parse_option)
        }
    })
}

/// `WITH (...)` if it comes next, otherwise nothing.
pub(crate) fn parse_with_options(input: &mut Input) -> Result<Vec<SqlOption>, ParseError> {
    if is_with_options(input, 0) {
        input.advance();
        parse_options(input)
    } else {
        Ok(Vec::new())
    }
}

/// Whether `WITH (` stands at the token.
pub(crate) fn is_with_options(input: &Input, index: usize) -> bool {
    is_word(input.peek_nth(index), "WITH") && input.peek_nth(index + 1).token == Token::LParen
}

fn parse_option(input: &mut Input) -> Result<SqlOption, ParseError> {
    let mut name = input.label()?;
    while input.symbol(&Token::Period) {
        name.push('.');
        name.push_str(&input.label()?);
    }
    let equals = input.symbol(&Token::Eq);
    let ends = input.peek_symbol(&Token::Comma) || input.peek_symbol(&Token::RParen);
    if ends && !equals {
        return Ok(SqlOption {
            name,
            value: OptionValue::Boolean(true),
        });
    }
    Ok(SqlOption {
        name,
        value: parse_value(input)?,
    })
}

fn parse_value(input: &mut Input) -> Result<OptionValue, ParseError> {
    if input.peek_symbol(&Token::LParen) {
        return Ok(OptionValue::List(
            input.parenthesized(|input| input.list(parse_value))?,
        ));
    }
    if input.peek_string() {
        return Ok(OptionValue::Text(input.string()?));
    }
    if input.peek_number() {
        return Ok(OptionValue::Number(input.number()?));
    }
    let followed_by_name = matches!(input.peek_nth(1).token, Token::Word(_));
    if input.peek_keyword("SECRET") && followed_by_name {
        input.advance();
        return Ok(OptionValue::Secret(input.identifier()?));
    }
    if input.peek_keyword("INTERVAL")
        && matches!(input.peek_nth(1).token, Token::SingleQuotedString(_))
    {
        input.advance();
        return Ok(OptionValue::Interval(input.string()?));
    }
    match input.one_of(&["TRUE", "FALSE"]) {
        Some(word) => Ok(OptionValue::Boolean(word == "TRUE")),
        None if input.symbol(&Token::Mul) => Ok(OptionValue::Text("*".to_owned())),
        None => Ok(OptionValue::Text(input.label()?)),
    }
}
