//! `MERGE INTO table USING source ON condition WHEN ... THEN ...`.

use std::fmt;

use sqlparser::parser::Parser;

use super::insert::{parse_assignments, parse_returning};
use super::update::parse_alias;
use crate::ast;
use crate::display::{clause, optional_identifiers, returning, separated, text, with_clause};
use crate::error::ParseError;
use crate::input::Input;
use crate::name::{QualifiedName, quote_identifier};

/// Changes a table by the rows of another relation.
#[derive(Debug, Clone, PartialEq)]
pub struct Merge {
    pub with: Option<ast::With>,
    pub table: QualifiedName,
    pub alias: Option<String>,
    pub source: ast::TableFactor,
    pub on: ast::Expr,
    /// Never empty. Of each row the first whose kind and condition fit is carried out.
    pub clauses: Vec<MergeClause>,
    pub returning: Option<Vec<ast::SelectItem>>,
}

/// `WHEN kind [AND condition] THEN action`.
#[derive(Debug, Clone, PartialEq)]
pub struct MergeClause {
    pub kind: MergeKind,
    pub condition: Option<ast::Expr>,
    pub action: MergeAction,
}

/// Which rows a clause is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MergeKind {
    Matched,
    /// Rows of the source that no row of the table fits.
    NotMatchedByTarget,
    /// Rows of the table that no row of the source fits.
    NotMatchedBySource,
}

#[derive(Debug, Clone, PartialEq)]
pub enum MergeAction {
    DoNothing,
    Delete,
    Update(Vec<ast::Assignment>),
    Insert {
        /// Empty when the clause names no columns: all of them, in order.
        columns: Vec<String>,
        /// `None` is `DEFAULT VALUES`.
        values: Option<Vec<ast::Expr>>,
    },
}

impl Merge {
    /// Stands after `MERGE`.
    pub(crate) fn parse(input: &mut Input, with: Option<ast::With>) -> Result<Self, ParseError> {
        input.expect_keyword("INTO")?;
        input.keyword("ONLY");
        let table = input.qualified_name()?;
        let alias = parse_alias(input, "USING")?;
        input.expect_keyword("USING")?;
        let position = input.position();
        let source = input.with_parser(Parser::parse_table_and_joins)?;
        if !source.joins.is_empty() {
            return Err(ParseError::unsupported("MERGE from joined tables")
                .hint("write USING (SELECT ... FROM ... JOIN ...) AS name")
                .at(position));
        }
        let source = source.relation;
        if let ast::TableFactor::Derived { subquery, .. } = &source {
            input.check(subquery)?;
        }
        input.expect_keyword("ON")?;
        let on = input.expression()?;
        let mut clauses = Vec::new();
        while clauses.is_empty() || input.peek_keyword("WHEN") {
            clauses.push(MergeClause::parse(input)?);
        }
        Ok(Self {
            with,
            table,
            alias,
            source,
            on,
            clauses,
            returning: parse_returning(input)?,
        })
    }
}

impl MergeClause {
    fn parse(input: &mut Input) -> Result<Self, ParseError> {
        input.expect_keyword("WHEN")?;
        let kind = if input.keyword("MATCHED") {
            MergeKind::Matched
        } else {
            input.expect_keywords(&["NOT", "MATCHED"])?;
            if input.keywords(&["BY", "SOURCE"]) {
                MergeKind::NotMatchedBySource
            } else {
                input.keywords(&["BY", "TARGET"]);
                MergeKind::NotMatchedByTarget
            }
        };
        let condition = if input.keyword("AND") {
            Some(input.expression()?)
        } else {
            None
        };
        input.expect_keyword("THEN")?;
        Ok(Self {
            kind,
            condition,
            action: MergeAction::parse(input, kind)?,
        })
    }
}

impl MergeAction {
    fn parse(input: &mut Input, kind: MergeKind) -> Result<Self, ParseError> {
        if input.keywords(&["DO", "NOTHING"]) {
            return Ok(Self::DoNothing);
        }
        if kind == MergeKind::NotMatchedByTarget {
            input.expect_keyword("INSERT")?;
            let columns = input.optional_identifiers()?;
            if input.peek_keyword("OVERRIDING") {
                return Err(ParseError::unsupported("OVERRIDING").at(input.position()));
            }
            let values = if columns.is_empty() && input.keywords(&["DEFAULT", "VALUES"]) {
                None
            } else {
                input.expect_keyword("VALUES")?;
                Some(input.parenthesized(|input| input.list(Input::expression))?)
            };
            return Ok(Self::Insert { columns, values });
        }
        if input.keyword("DELETE") {
            return Ok(Self::Delete);
        }
        input.expect_keywords(&["UPDATE", "SET"])?;
        parse_assignments(input).map(Self::Update)
    }
}

impl fmt::Display for Merge {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let with = with_clause(self.with.as_ref());
        write!(formatter, "{with}MERGE INTO {}", self.table)?;
        if let Some(alias) = &self.alias {
            write!(formatter, " AS {}", quote_identifier(alias))?;
        }
        let (source, on) = (text(&self.source), text(&self.on));
        write!(formatter, " USING {source} ON {on}")?;
        for clause in &self.clauses {
            write!(formatter, " {clause}")?;
        }
        formatter.write_str(&returning(self.returning.as_ref()))
    }
}

impl fmt::Display for MergeClause {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            MergeKind::Matched => "MATCHED",
            MergeKind::NotMatchedByTarget => "NOT MATCHED",
            MergeKind::NotMatchedBySource => "NOT MATCHED BY SOURCE",
        };
        let condition = clause("AND", self.condition.as_ref());
        write!(formatter, "WHEN {kind}{condition} THEN {}", self.action)
    }
}

impl fmt::Display for MergeAction {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DoNothing => formatter.write_str("DO NOTHING"),
            Self::Delete => formatter.write_str("DELETE"),
            Self::Update(assignments) => {
                write!(formatter, "UPDATE SET {}", separated(assignments, text))
            }
            Self::Insert { columns, values } => {
                write!(formatter, "INSERT{}", optional_identifiers(columns))?;
                match values {
                    None => formatter.write_str(" DEFAULT VALUES"),
                    Some(values) => write!(formatter, " VALUES ({})", separated(values, text)),
                }
            }
        }
    }
}
