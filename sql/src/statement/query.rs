//! `SELECT`, `VALUES`, `WITH` and `TABLE`: sqlparser's tree as it is, without what is not a query.

use std::ops::ControlFlow;

use sqlparser::ast::{
    Expr, Ident, ObjectName, ObjectNamePart, Query, Select, SelectItem, SetExpr, TableFactor,
    Visit, Visitor, With,
};
use sqlparser::parser::Parser;

use crate::error::ParseError;
use crate::input::Input;
use crate::name::is_reserved;

/// Refuses what sqlparser takes for a query, and we do not carry out.
pub(crate) fn check(query: &Query) -> Result<(), Refused> {
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
        input.check(&cte.query)?;
    }
    Ok(With {
        with_token: with_token.into(),
        recursive,
        cte_tables,
    })
}

/// Why a query is not taken.
pub(crate) enum Refused {
    Error(ParseError),
    /// At this character, from 1.
    ReservedWord(u64),
}

struct Check;

impl Visitor for Check {
    type Break = Refused;

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<Refused> {
        let unsupported =
            |what: &str| ControlFlow::Break(Refused::Error(ParseError::unsupported(what)));
        match query.body.as_ref() {
            SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) | SetExpr::Merge(_) => {
                return unsupported("INSERT, UPDATE, DELETE or MERGE within a query");
            }
            SetExpr::Select(select) if select.into.is_some() => {
                let error = ParseError::unsupported("SELECT INTO");
                let error = error.hint("write CREATE TABLE name AS SELECT ...");
                return ControlFlow::Break(Refused::Error(error));
            }
            SetExpr::Select(select) if !select.lateral_views.is_empty() => {
                return unsupported("LATERAL VIEW");
            }
            _ => {}
        }
        if !query.pipe_operators.is_empty() {
            return unsupported("the pipe operator");
        }
        if !query.locks.is_empty() {
            return unsupported("FOR UPDATE or FOR SHARE");
        }
        if query.for_clause.is_some() || query.settings.is_some() || query.format_clause.is_some() {
            return unsupported("this clause of a query");
        }
        ControlFlow::Continue(())
    }

    /// sqlparser lets a text in single quotes be the name of a column.
    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<Refused> {
        let quoted = select.projection.iter().find_map(|item| match item {
            SelectItem::ExprWithAlias { alias, .. } => is_text(alias),
            _ => None,
        });
        match quoted {
            Some(refused) => ControlFlow::Break(refused),
            None => ControlFlow::Continue(()),
        }
    }

    /// And of a table.
    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<Refused> {
        let alias = match factor {
            TableFactor::Table { alias, .. }
            | TableFactor::Derived { alias, .. }
            | TableFactor::Function { alias, .. }
            | TableFactor::NestedJoin { alias, .. } => alias.as_ref(),
            _ => None,
        };
        match alias.and_then(|alias| is_text(&alias.name)) {
            Some(refused) => ControlFlow::Break(refused),
            None => ControlFlow::Continue(()),
        }
    }

    /// sqlparser lets a reserved word be the name of a table.
    fn pre_visit_relation(&mut self, relation: &ObjectName) -> ControlFlow<Refused> {
        match relation.0.first().and_then(ObjectNamePart::as_ident) {
            Some(name) => refuse_reserved(name),
            None => ControlFlow::Continue(()),
        }
    }

    /// And the name of a column, where no operator begins with it.
    fn pre_visit_expr(&mut self, expression: &Expr) -> ControlFlow<Refused> {
        match expression {
            Expr::Identifier(name) if !STANDS_ALONE.contains(&name.value.as_str()) => {
                refuse_reserved(name)
            }
            Expr::CompoundIdentifier(names) => match names.first() {
                Some(name) => refuse_reserved(name),
                None => ControlFlow::Continue(()),
            },
            _ => ControlFlow::Continue(()),
        }
    }
}

/// Reserved words that are values.
const STANDS_ALONE: &[&str] = &[
    "default",
    "user",
    "current_catalog",
    "current_date",
    "current_role",
    "current_schema",
    "current_time",
    "current_timestamp",
    "current_user",
    "localtime",
    "localtimestamp",
    "session_user",
    "system_user",
];

fn is_text(name: &Ident) -> Option<Refused> {
    (name.quote_style == Some('\'')).then(|| {
        // sqlparser does not keep where it was.
        let message = format!("syntax error at or near \"'{}'\"", name.value);
        let error = ParseError::new("42601", message);
        Refused::Error(error.hint("a name stands in double quotes, or in none"))
    })
}

fn refuse_reserved(name: &Ident) -> ControlFlow<Refused> {
    let upper = name.value.to_ascii_uppercase();
    if name.quote_style.is_some() || !is_reserved(&upper) {
        return ControlFlow::Continue(());
    }
    ControlFlow::Break(Refused::ReservedWord(name.span.start.column))
}
