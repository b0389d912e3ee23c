//! Canonical text: how lists, options, queries and expressions are written.
//!
//! sqlparser prints a string literal without knowing whether its quotes are escaped already, and
//! prints some of them wrongly; such literals are printed as `E'...'`, which it gets right. It prints
//! a table's alias before its version, and reads them the other way round.

use std::fmt;
use std::ops::ControlFlow;

use sqlparser::ast::{
    Expr, Ident, ObjectName, ObjectNamePart, Query, SelectItem, TableFactor, TableWithJoins, Value,
    ValueWithSpan, VisitMut, Visitor, VisitorMut, With,
};

use crate::name::quote_identifier;
use crate::option::SqlOption;

/// A query as text that parses back to an equal one.
pub fn query_text(query: &Query) -> String {
    text(query)
}

/// An expression as text that parses back to an equal one.
pub fn expression_text(expression: &Expr) -> String {
    text(expression)
}

/// Any part of sqlparser's tree as text.
pub(crate) fn text<T>(tree: &T) -> String
where
    T: Clone + fmt::Display + sqlparser::ast::Visit + VisitMut,
{
    let misprinted = tree.visit(&mut Misprinted).is_break();
    if !misprinted {
        return tree.to_string();
    }
    let mut tree = tree.clone();
    let _ = VisitMut::visit(&mut tree, &mut Escape);
    tree.to_string()
}

/// Finds a literal that would not be printed as it is.
struct Misprinted;

impl Visitor for Misprinted {
    type Break = ();

    fn pre_visit_value(&mut self, value: &ValueWithSpan) -> ControlFlow<()> {
        match &value.value {
            Value::SingleQuotedString(text) if is_misprinted(text) => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_table_factor(&mut self, table: &TableFactor) -> ControlFlow<()> {
        match table {
            TableFactor::Table {
                version: Some(_), ..
            } => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        }
    }
}

/// Makes such literals escaped ones, and a version part of its table's name.
struct Escape;

impl VisitorMut for Escape {
    type Break = ();

    fn pre_visit_value(&mut self, value: &mut ValueWithSpan) -> ControlFlow<()> {
        if let Value::SingleQuotedString(text) = &mut value.value
            && is_misprinted(text)
        {
            value.value = Value::EscapedStringLiteral(std::mem::take(text));
        }
        ControlFlow::Continue(())
    }

    /// After the expression within the version has been seen to.
    fn post_visit_table_factor(&mut self, table: &mut TableFactor) -> ControlFlow<()> {
        if let TableFactor::Table { name, version, .. } = table
            && let Some(version) = version.take()
        {
            let text = Ident::new(format!("{name} FOR {version}"));
            *name = ObjectName(vec![ObjectNamePart::Identifier(text)]);
        }
        ControlFlow::Continue(())
    }
}

fn is_misprinted(text: &str) -> bool {
    text.contains("''") || text.contains("\\'")
}

/// `a, b`.
pub(crate) fn separated<T>(items: &[T], mut write: impl FnMut(&T) -> String) -> String {
    let mut text = String::new();
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            text.push_str(", ");
        }
        text.push_str(&write(item));
    }
    text
}

pub(crate) fn displayed<T: fmt::Display>(items: &[T]) -> String {
    separated(items, T::to_string)
}

pub(crate) fn identifiers(names: &[String]) -> String {
    separated(names, |name| quote_identifier(name))
}

/// ` (a, b)`, or nothing for no names.
pub(crate) fn optional_identifiers(names: &[String]) -> String {
    if names.is_empty() {
        String::new()
    } else {
        format!(" ({})", identifiers(names))
    }
}

/// ` WITH (a = 1)`, or nothing for no options.
pub(crate) fn with_options(options: &[SqlOption]) -> String {
    if options.is_empty() {
        String::new()
    } else {
        format!(" WITH ({})", displayed(options))
    }
}

/// `WITH a AS (...) `, or nothing.
pub(crate) fn with_clause(with: Option<&With>) -> String {
    with.map_or_else(String::new, |with| format!("{} ", text(with)))
}

/// ` RETURNING a, b`, or nothing.
pub(crate) fn returning(items: Option<&Vec<SelectItem>>) -> String {
    items.map_or_else(String::new, |items| {
        format!(" RETURNING {}", separated(items, text))
    })
}

/// ` WORD a, b`, or nothing.
pub(crate) fn tables(word: &str, tables: &[TableWithJoins]) -> String {
    if tables.is_empty() {
        String::new()
    } else {
        format!(" {word} {}", separated(tables, text))
    }
}

/// ` WORD expression`, or nothing.
pub(crate) fn clause(word: &str, expression: Option<&Expr>) -> String {
    expression.map_or_else(String::new, |expression| {
        format!(" {word} {}", text(expression))
    })
}

/// The words when the condition holds.
pub(crate) fn when(condition: bool, words: &'static str) -> &'static str {
    if condition { words } else { "" }
}
