//! `SELECT`, `VALUES`, `WITH` and `TABLE`: sqlparser's tree as it is, without what is not a query.

use std::ops::ControlFlow;

use sqlparser::ast::{Query, Select, SetExpr, Visit, Visitor, With};
use sqlparser::parser::Parser;

use crate::error::ParseError;
use crate::input::Input;

/// Refuses what sqlparser takes for a query, and we do not carry out.
pub(crate) fn check(query: &Query) -> Result<(), ParseError> {
    match query.visit(&mut Check) {
        ControlFlow::Break(error) => Err(error),
        ControlFlow::Continue(()) => Ok(()),
    }
}

/// `WITH a AS (...), ...` before `INSERT`, `UPDATE`, `DELETE` or `MERGE`.
pub(crate) fn parse_with(input: &mut Input) -> Result<With, ParseError> {
    let with_token = input.peek().clone();
    input.expect_keyword("WITH")?;
    let recursive = input.keyword("RECURSIVE");
    let cte_tables = input.list(|input| input.with_parser(Parser::parse_cte))?;
    for cte in &cte_tables {
        check(&cte.query)?;
    }
    Ok(With {
        with_token: with_token.into(),
        recursive,
        cte_tables,
    })
}

struct Check;

impl Visitor for Check {
    type Break = ParseError;

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<ParseError> {
        let unsupported = |what: &str| ControlFlow::Break(ParseError::unsupported(what));
        match query.body.as_ref() {
            SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) | SetExpr::Merge(_) => {
                return unsupported("INSERT, UPDATE, DELETE or MERGE within a query");
            }
            SetExpr::Select(select) => {
                if let Some(what) = unknown_clause(select) {
                    return unsupported(what);
                }
            }
            _ => {}
        }
        if !query.pipe_operators.is_empty() {
            return unsupported("the pipe operator");
        }
        if query.for_clause.is_some() || query.settings.is_some() || query.format_clause.is_some() {
            return unsupported("this clause of a query");
        }
        ControlFlow::Continue(())
    }
}

fn unknown_clause(select: &Select) -> Option<&'static str> {
    if select.into.is_some() {
        return Some("SELECT INTO; CREATE TABLE ... AS");
    }
    if !select.lateral_views.is_empty() {
        return Some("LATERAL VIEW");
    }
    None
}
