//! `REPLAY QUARANTINE pipeline [SET column = expression, ...] [WHERE predicate]`.

use std::fmt;

use sqlparser::tokenizer::Token;

use crate::ast;
use crate::display::{clause, separated, text};
use crate::error::ParseError;
use crate::input::Input;
use crate::name::quote_identifier;

/// Sends quarantined rows through their pipeline again, corrected.
#[derive(Debug, Clone, PartialEq)]
pub struct ReplayQuarantine {
    pub pipeline: String,
    /// Corrections of source columns.
    pub assignments: Vec<(String, ast::Expr)>,
    pub filter: Option<ast::Expr>,
}

impl ReplayQuarantine {
    /// Stands after `REPLAY QUARANTINE`.
    pub(crate) fn parse(input: &mut Input) -> Result<Self, ParseError> {
        let pipeline = input.identifier()?;
        let mut assignments = Vec::new();
        if input.keyword("SET") {
            assignments = input.list(|input| {
                let column = input.identifier()?;
                input.expect_symbol(&Token::Eq)?;
                Ok((column, input.expression()?))
            })?;
        }
        let filter = if input.keyword("WHERE") {
            Some(input.expression()?)
        } else {
            None
        };
        Ok(Self {
            pipeline,
            assignments,
            filter,
        })
    }
}

impl fmt::Display for ReplayQuarantine {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "REPLAY QUARANTINE {}",
            quote_identifier(&self.pipeline)
        )?;
        if !self.assignments.is_empty() {
            let assignments = separated(&self.assignments, |(column, value)| {
                format!("{} = {}", quote_identifier(column), text(value))
            });
            write!(formatter, " SET {assignments}")?;
        }
        formatter.write_str(&clause("WHERE", self.filter.as_ref()))
    }
}
