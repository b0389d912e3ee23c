//! Whether a text names a column, and the text with the column's new name.
//!
//! It is judged by the words of the text, whatever they mean there, so it may say yes too often. Never too
//! seldom: what a renamed or dropped column would change is found.

use std::ops::ControlFlow;

use boathouse_sql::ast::{Expr, Ident, Select, VisitMut, Visitor, VisitorMut};
use boathouse_sql::ast::{SelectItem, Visit};
use boathouse_sql::{parse_expression, parse_query, words};

use super::view::identifier;

/// Whether a query may read a column of that name.
pub fn query_names(query: &str, column: &str) -> bool {
    if words(query).iter().any(|word| word == column) {
        return true;
    }
    // What does not parse is read by nobody.
    parse_query(query).is_ok_and(|query| Visit::visit(&query, &mut Wildcards).is_break())
}

/// Whether an expression may name a column.
pub fn expression_names(expression: &str, column: &str) -> bool {
    words(expression).iter().any(|word| word == column)
}

/// An expression over one table with another name for a column.
pub fn renamed_in_expression(expression: &str, from: &str, to: &str) -> Option<String> {
    let mut parsed = parse_expression(expression).ok()?;
    renamed(expression, &mut parsed, from, to).then(|| parsed.to_string())
}

/// A query with another name for a column. `None` when it is not certain what each word stands for: when
/// it has a name of its own that is `from` or `to`, or a `*`.
pub fn renamed_in_query(query: &str, from: &str, to: &str) -> Option<String> {
    let mut parsed = parse_query(query).ok()?;
    let certain = !words(query).iter().any(|word| word == to)
        && Visit::visit(&parsed, &mut Wildcards).is_continue();
    (certain && renamed(query, &mut parsed, from, to)).then(|| parsed.to_string())
}

/// Renames in a parsed text; false when it has the word elsewhere too than as a column.
fn renamed(text: &str, parsed: &mut impl VisitMut, from: &str, to: &str) -> bool {
    let mut rename = Rename { from, to, count: 0 };
    let _ = parsed.visit(&mut rename);
    let all = words(text).iter().filter(|word| *word == from).count();
    rename.count == all
}

struct Rename<'a> {
    from: &'a str,
    to: &'a str,
    count: usize,
}

impl Rename<'_> {
    fn rename(&mut self, name: &mut Ident) {
        if name.value == self.from {
            *name = identifier(self.to);
            self.count += 1;
        }
    }
}

impl VisitorMut for Rename<'_> {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        match expr {
            Expr::Identifier(name) => self.rename(name),
            Expr::CompoundIdentifier(parts) => {
                if let Some(name) = parts.last_mut() {
                    self.rename(name);
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

/// Stops at a `*` that stands for columns.
struct Wildcards;

impl Visitor for Wildcards {
    type Break = ();

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<()> {
        let mut items = select.projection.iter();
        let wild = items.any(|item| {
            matches!(
                item,
                SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(_, _)
            )
        });
        match wild {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_is_renamed_where_it_is_certain_what_is_meant() {
        let renamed = |query| renamed_in_query(query, "a", "n");
        assert_eq!(
            renamed("SELECT t.a, sum(a + 1) FROM s.t WHERE a > 'a' GROUP BY t.a").as_deref(),
            Some("SELECT t.n, sum(n + 1) FROM s.t WHERE n > 'a' GROUP BY t.n")
        );
        for uncertain in [
            "SELECT b AS a FROM t ORDER BY a",
            "SELECT n, a FROM t",
            "SELECT * FROM t",
            "SELECT a.b FROM t AS a",
            "SELECT b FROM t JOIN u USING (a)",
        ] {
            assert_eq!(renamed(uncertain), None, "{uncertain}");
            assert!(query_names(uncertain, "a"), "{uncertain}");
        }
        assert!(!query_names("SELECT count(*), 'a' FROM t", "a"));
        assert_eq!(
            renamed_in_expression("a > 0 AND length(\"a\") < 3", "a", "Two words").as_deref(),
            Some("\"Two words\" > 0 AND length(\"Two words\") < 3")
        );
    }
}
