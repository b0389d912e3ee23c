//! `MERGE INTO table USING source ON condition WHEN ...`: sqlparser's tree as it is.

use std::fmt;

use crate::ast;
use crate::display::{text, with_clause};
use crate::error::ParseError;
use crate::input::Input;

/// Changes a table by the rows of another.
#[derive(Debug, Clone, PartialEq)]
pub struct Merge {
    pub with: Option<ast::With>,
    pub merge: ast::Merge,
}

impl Merge {
    /// Stands at `MERGE`.
    pub(crate) fn parse(input: &mut Input, with: Option<ast::With>) -> Result<Self, ParseError> {
        let position = input.position();
        match input.with_parser(|parser| parser.parse_statement())? {
            ast::Statement::Merge(merge) => Ok(Self { with, merge }),
            _ => Err(ParseError::unsupported("this form of MERGE").at(position)),
        }
    }
}

impl fmt::Display for Merge {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let statement = ast::Statement::Merge(self.merge.clone());
        write!(
            formatter,
            "{}{}",
            with_clause(self.with.as_ref()),
            text(&statement)
        )
    }
}
