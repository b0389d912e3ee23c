//! `a <> 0 AND x / a > 1` divides only where `a` is not 0.
//!
//! PostgreSQL promises no order, but its planner keeps this one, and queries rely on it. DataFusion
//! computes the right side of an AND for rows that the left side has already turned down. So a division
//! on the right whose divisor the left side speaks of is done only where the left side does not say no;
//! elsewhere it is NULL, which an AND with a false side does not show. The AND itself stays, so that
//! its sides can be pushed down as before.

use std::collections::HashSet;

use datafusion::common::Column;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::expr::BinaryExpr;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{Case, Expr, Operator};

/// Wraps the divisions of `right` that a part of `left` guards.
pub fn divisions(right: Expr, left: &Expr) -> Expr {
    let mut has_division = false;
    let _ = right.exists(|expr| {
        has_division |= divisor(expr).is_some();
        Ok(has_division)
    });
    if !has_division {
        return right;
    }
    let guards: Vec<(&Expr, HashSet<&Column>)> = split_conjunction(left)
        .into_iter()
        .filter(|part| is_plain(part))
        .map(|part| (part, part.column_refs()))
        .collect();
    let unchanged = right.clone();
    right
        .transform_down(|expr| {
            // What these compute is not of the row that the AND is about.
            if matches!(expr, Expr::AggregateFunction(_) | Expr::WindowFunction(_)) {
                return Ok(Transformed::new(expr, false, TreeNodeRecursion::Jump));
            }
            let Some(divisor) = divisor(&expr) else {
                return Ok(Transformed::no(expr));
            };
            let columns = divisor.column_refs();
            // Columns of other relations would keep the division from being pushed down to its own.
            let relations: HashSet<_> = expr
                .column_refs()
                .into_iter()
                .map(|column| column.relation.clone())
                .collect();
            let near = |named: &HashSet<&Column>| {
                named
                    .iter()
                    .all(|column| relations.contains(&column.relation))
            };
            let guard = guards
                .iter()
                .filter(|(_, named)| !named.is_disjoint(&columns) && near(named))
                .map(|(part, _)| (*part).clone())
                .reduce(Expr::and);
            Ok(match guard {
                Some(guard) => {
                    let case = Expr::Case(Case {
                        expr: None,
                        when_then_expr: vec![(
                            Box::new(Expr::IsNotFalse(Box::new(guard))),
                            Box::new(expr),
                        )],
                        else_expr: None,
                    });
                    Transformed::new(case, true, TreeNodeRecursion::Jump)
                }
                None => Transformed::no(expr),
            })
        })
        .data()
        .unwrap_or(unchanged)
}

/// What an expression divides by, where it divides.
fn divisor(expr: &Expr) -> Option<&Expr> {
    match expr {
        Expr::BinaryExpr(BinaryExpr {
            op: Operator::Divide | Operator::Modulo,
            right,
            ..
        }) => Some(right),
        Expr::ScalarFunction(function)
            if matches!(
                function.func.name(),
                "numeric/" | "numeric%" | "float/" | "float%"
            ) =>
        {
            function.args.get(1)
        }
        _ => None,
    }
}

/// Whether a condition may be asked twice: it reads columns and nothing else. One that divides itself is
/// left out, or a row of such conditions would double with each of them.
fn is_plain(part: &Expr) -> bool {
    !part.is_volatile()
        && !part
            .exists(|expr| {
                Ok(divisor(expr).is_some()
                    || matches!(
                        expr,
                        Expr::ScalarSubquery(_)
                            | Expr::InSubquery(_)
                            | Expr::Exists(_)
                            | Expr::AggregateFunction(_)
                            | Expr::WindowFunction(_)
                            | Expr::Unnest(_)
                    ))
            })
            .unwrap_or(true)
}
