//! `INSERT INTO table [(columns)] {VALUES | SELECT | DEFAULT VALUES}`.

use std::fmt;

use sqlparser::parser::Parser;
use sqlparser::tokenizer::Token;

use crate::ast;
use crate::display::{
    clause, identifiers, optional_identifiers, returning, separated, text, with_clause,
};
use crate::error::ParseError;
use crate::input::Input;
use crate::name::{QualifiedName, quote_identifier};
use crate::source::is_word;

/// Adds rows to a table.
#[derive(Debug, Clone, PartialEq)]
pub struct Insert {
    pub with: Option<ast::With>,
    pub table: QualifiedName,
    pub alias: Option<String>,
    /// Empty when the statement names no columns: all of them, in order.
    pub columns: Vec<String>,
    pub source: InsertSource,
    pub on_conflict: Option<OnConflict>,
    pub returning: Option<Vec<ast::SelectItem>>,
}

/// Where the rows of an `INSERT` come from.
#[derive(Debug, Clone, PartialEq)]
pub enum InsertSource {
    DefaultValues,
    /// A `VALUES` list too; the word `DEFAULT` in it is the identifier `default`, unquoted.
    Query(Box<ast::Query>),
}

/// What happens to a row whose key exists.
#[derive(Debug, Clone, PartialEq)]
pub struct OnConflict {
    pub target: Option<ConflictTarget>,
    pub action: ConflictAction,
}

#[derive(Debug, Clone, PartialEq)]
pub enum ConflictTarget {
    Columns(Vec<String>),
    Constraint(String),
}

#[derive(Debug, Clone, PartialEq)]
#[allow(
    clippy::large_enum_variant,
    reason = "a statement is parsed once and seldom moved"
)]
pub enum ConflictAction {
    DoNothing,
    DoUpdate {
        assignments: Vec<ast::Assignment>,
        filter: Option<ast::Expr>,
    },
}

impl Insert {
    /// Stands after `INSERT`.
    pub(crate) fn parse(input: &mut Input, with: Option<ast::With>) -> Result<Self, ParseError> {
        input.expect_keyword("INTO")?;
        let table = input.qualified_name()?;
        let alias = if input.keyword("AS") {
            Some(input.identifier()?)
        } else {
            None
        };
        let columns = if starts_query(input) {
            Vec::new()
        } else {
            input.optional_identifiers()?
        };
        if input.peek_keyword("OVERRIDING") {
            return Err(ParseError::unsupported("OVERRIDING").at(input.position()));
        }
        let source = if input.keywords(&["DEFAULT", "VALUES"]) {
            InsertSource::DefaultValues
        } else {
            InsertSource::Query(input.query()?)
        };
        let on_conflict = if input.keyword("ON") {
            Some(OnConflict::parse(input)?)
        } else {
            None
        };
        Ok(Self {
            with,
            table,
            alias,
            columns,
            source,
            on_conflict,
            returning: parse_returning(input)?,
        })
    }
}

impl OnConflict {
    fn parse(input: &mut Input) -> Result<Self, ParseError> {
        input.expect_keyword("CONFLICT")?;
        let target = if input.keywords(&["ON", "CONSTRAINT"]) {
            Some(ConflictTarget::Constraint(input.identifier()?))
        } else if input.peek_symbol(&Token::LParen) {
            Some(ConflictTarget::Columns(input.parenthesized_identifiers()?))
        } else {
            None
        };
        input.expect_keyword("DO")?;
        let action = if input.keyword("NOTHING") {
            ConflictAction::DoNothing
        } else {
            input.expect_keywords(&["UPDATE", "SET"])?;
            ConflictAction::DoUpdate {
                assignments: parse_assignments(input)?,
                filter: parse_where(input)?,
            }
        };
        Ok(Self { target, action })
    }
}

/// Whether `(SELECT`, `((` or the like stands next, rather than a list of columns.
fn starts_query(input: &Input) -> bool {
    let next = input.peek_nth(1);
    input.peek_symbol(&Token::LParen)
        && (next.token == Token::LParen
            || ["SELECT", "VALUES", "WITH", "TABLE"]
                .iter()
                .any(|word| is_word(next, word)))
}

/// `RETURNING items` if it comes next.
pub(crate) fn parse_returning(
    input: &mut Input,
) -> Result<Option<Vec<ast::SelectItem>>, ParseError> {
    if !input.keyword("RETURNING") {
        return Ok(None);
    }
    input
        .list(|input| input.with_parser(Parser::parse_select_item))
        .map(Some)
}

/// `column = value, ...`.
pub(crate) fn parse_assignments(input: &mut Input) -> Result<Vec<ast::Assignment>, ParseError> {
    input.list(|input| input.with_parser(Parser::parse_assignment))
}

/// `WHERE condition` if it comes next.
pub(crate) fn parse_where(input: &mut Input) -> Result<Option<ast::Expr>, ParseError> {
    if !input.keyword("WHERE") {
        return Ok(None);
    }
    if input.peek_keywords(&["CURRENT", "OF"]) {
        return Err(ParseError::unsupported("WHERE CURRENT OF").at(input.position()));
    }
    input.expression().map(Some)
}

impl fmt::Display for Insert {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{}INSERT INTO {}",
            with_clause(self.with.as_ref()),
            self.table
        )?;
        if let Some(alias) = &self.alias {
            write!(formatter, " AS {}", quote_identifier(alias))?;
        }
        formatter.write_str(&optional_identifiers(&self.columns))?;
        match &self.source {
            InsertSource::DefaultValues => formatter.write_str(" DEFAULT VALUES")?,
            InsertSource::Query(query) => write!(formatter, " {}", text(query.as_ref()))?,
        }
        if let Some(on_conflict) = &self.on_conflict {
            write!(formatter, " {on_conflict}")?;
        }
        formatter.write_str(&returning(self.returning.as_ref()))
    }
}

impl fmt::Display for OnConflict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("ON CONFLICT")?;
        match &self.target {
            Some(ConflictTarget::Columns(columns)) => {
                write!(formatter, " ({})", identifiers(columns))?;
            }
            Some(ConflictTarget::Constraint(name)) => {
                write!(formatter, " ON CONSTRAINT {}", quote_identifier(name))?;
            }
            None => {}
        }
        match &self.action {
            ConflictAction::DoNothing => formatter.write_str(" DO NOTHING"),
            ConflictAction::DoUpdate {
                assignments,
                filter,
            } => write!(
                formatter,
                " DO UPDATE SET {}{}",
                separated(assignments, text),
                clause("WHERE", filter.as_ref())
            ),
        }
    }
}
