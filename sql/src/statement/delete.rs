//! `DELETE FROM table [USING ...] [WHERE ...]`.

use std::fmt;

use sqlparser::parser::Parser;

use super::insert::{parse_returning, parse_where};
use super::update::parse_alias;
use crate::ast;
use crate::display::{clause, returning, tables, with_clause};
use crate::error::ParseError;
use crate::input::Input;
use crate::name::{QualifiedName, quote_identifier};

/// Removes rows of a table.
#[derive(Debug, Clone, PartialEq)]
pub struct Delete {
    pub with: Option<ast::With>,
    pub table: QualifiedName,
    pub alias: Option<String>,
    pub using: Vec<ast::TableWithJoins>,
    pub filter: Option<ast::Expr>,
    pub returning: Option<Vec<ast::SelectItem>>,
}

impl Delete {
    /// Stands after `DELETE`.
    pub(crate) fn parse(input: &mut Input, with: Option<ast::With>) -> Result<Self, ParseError> {
        input.expect_keyword("FROM")?;
        input.keyword("ONLY");
        let table = input.qualified_name()?;
        let alias = parse_alias(input, "USING")?;
        let using = if input.keyword("USING") {
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
            using,
            filter,
            returning,
        })
    }
}

impl fmt::Display for Delete {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{}DELETE FROM {}",
            with_clause(self.with.as_ref()),
            self.table
        )?;
        if let Some(alias) = &self.alias {
            write!(formatter, " AS {}", quote_identifier(alias))?;
        }
        write!(
            formatter,
            "{}{}{}",
            tables("USING", &self.using),
            clause("WHERE", self.filter.as_ref()),
            returning(self.returning.as_ref())
        )
    }
}
