//! `EXECUTE name [(expression, ...)]`.

use std::fmt;

use sqlparser::tokenizer::Token;

use crate::ast;
use crate::display::{separated, text};
use crate::error::ParseError;
use crate::input::Input;
use crate::name::quote_identifier;

/// Runs a prepared statement.
#[derive(Debug, Clone, PartialEq)]
pub struct Execute {
    pub name: String,
    pub parameters: Vec<ast::Expr>,
}

impl Execute {
    /// Stands after `EXECUTE`.
    pub(crate) fn parse(input: &mut Input) -> Result<Self, ParseError> {
        let name = input.identifier()?;
        let parameters = if input.peek_symbol(&Token::LParen) {
            input.parenthesized(|input| input.list(Input::expression))?
        } else {
            Vec::new()
        };
        Ok(Self { name, parameters })
    }
}

impl fmt::Display for Execute {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "EXECUTE {}", quote_identifier(&self.name))?;
        if self.parameters.is_empty() {
            return Ok(());
        }
        write!(formatter, " ({})", separated(&self.parameters, text))
    }
}
