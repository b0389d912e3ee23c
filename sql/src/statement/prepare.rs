//! `PREPARE name [(type, ...)] AS statement`.

use std::fmt;

use boathouse_catalog::types::ColumnType;
use sqlparser::tokenizer::Token;

use super::Statement;
use crate::error::ParseError;
use crate::input::Input;
use crate::name::quote_identifier;

/// Keeps a statement for `EXECUTE`.
#[derive(Debug, Clone, PartialEq)]
pub struct Prepare {
    pub name: String,
    /// `None` is `unknown`: left to inference.
    pub parameter_types: Vec<Option<ColumnType>>,
    pub statement: Box<Statement>,
    /// The statement's own source text.
    pub text: String,
}

impl Prepare {
    /// Stands after `PREPARE`.
    pub(crate) fn parse(input: &mut Input) -> Result<Self, ParseError> {
        if input.peek_keyword("TRANSACTION") {
            return Err(ParseError::unsupported("PREPARE TRANSACTION").at(input.position()));
        }
        let name = input.identifier()?;
        let parameter_types = if input.peek_symbol(&Token::LParen) {
            input.parenthesized(|input| {
                input.list(|input| {
                    if input.keyword("UNKNOWN") {
                        Ok(None)
                    } else {
                        input.column_type().map(Some)
                    }
                })
            })?
        } else {
            Vec::new()
        };
        input.expect_keyword("AS")?;
        if input.peek_keyword("EXPLAIN") || input.peek_keyword("PREPARE") {
            return Err(input.unexpected());
        }
        let start = input.position();
        let statement = Statement::parse(input)?;
        match statement {
            Statement::Query(_)
            | Statement::Insert(_)
            | Statement::Update(_)
            | Statement::Delete(_)
            | Statement::Merge(_) => {}
            _ => {
                return Err(ParseError::unsupported(format_args!(
                    "PREPARE of {}",
                    statement.command_tag()
                ))
                .at(start));
            }
        }
        let text = input.text_since(start).to_owned();
        Ok(Self {
            name,
            parameter_types,
            statement: Box::new(statement),
            text,
        })
    }
}

impl fmt::Display for Prepare {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "PREPARE {}", quote_identifier(&self.name))?;
        if !self.parameter_types.is_empty() {
            let types: Vec<String> = self
                .parameter_types
                .iter()
                .map(|known| {
                    known
                        .as_ref()
                        .map_or("unknown".to_owned(), ColumnType::sql_name)
                })
                .collect();
            write!(formatter, " ({})", types.join(", "))?;
        }
        write!(formatter, " AS {}", self.text)
    }
}
