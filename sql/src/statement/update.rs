//! `UPDATE table SET column = value ... [FROM ...] [WHERE ...]`.

use std::fmt;

use sqlparser::parser::Parser;

use super::insert::{parse_assignments, parse_returning, parse_where};
use crate::ast;
use crate::display::{clause, returning, separated, tables, text, with_clause};
use crate::error::ParseError;
use crate::input::Input;
use crate::name::{QualifiedName, quote_identifier};

/// Changes rows of a table.
#[derive(Debug, Clone, PartialEq)]
pub struct Update {
    pub with: Option<ast::With>,
    pub table: QualifiedName,
    pub alias: Option<String>,
    pub assignments: Vec<ast::Assignment>,
    pub from: Vec<ast::TableWithJoins>,
    pub filter: Option<ast::Expr>,
    pub returning: Option<Vec<ast::SelectItem>>,
}

impl Update {
    /// Stands after `UPDATE`.
    pub(crate) fn parse(input: &mut Input, with: Option<ast::With>) -> Result<Self, ParseError> {
        input.keyword("ONLY");
        let table = input.qualified_name()?;
        let alias = parse_alias(input, "SET")?;
        input.expect_keyword("SET")?;
        let assignments = parse_assignments(input)?;
        let from = if input.keyword("FROM") {
            input.list(|input| input.with_parser(Parser::parse_table_and_joins))?
        } else {
            Vec::new()
        };
        let filter = parse_where(input)?;
        let returning = parse_returning(input)?;
        Ok(Self {
            with,
            table,
            alias,
            assignments,
            from,
            filter,
            returning,
        })
    }
}

/// `[AS] alias`, unless the word `unless` comes next.
pub(crate) fn parse_alias(input: &mut Input, unless: &str) -> Result<Option<String>, ParseError> {
    if input.keyword("AS") {
        return input.identifier().map(Some);
    }
    if input.peek_keyword(unless) {
        return Ok(None);
    }
    Ok(input.identifier().ok())
}

impl fmt::Display for Update {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{}UPDATE {}",
            with_clause(self.with.as_ref()),
            self.table
        )?;
        if let Some(alias) = &self.alias {
            write!(formatter, " AS {}", quote_identifier(alias))?;
        }
        write!(
            formatter,
            " SET {}{}{}{}",
            separated(&self.assignments, text),
            tables("FROM", &self.from),
            clause("WHERE", self.filter.as_ref()),
            returning(self.returning.as_ref())
        )
    }
}
