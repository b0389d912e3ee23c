//! Correlated subqueries in a select list or condition that are not aggregates.
//!
//! DataFusion runs a correlated scalar subquery only when it is an aggregate. `(SELECT p.x FROM p WHERE
//! p.id = t.id)` in a select list becomes a left join here, in a condition too, with the rows of `t` numbered before it and
//! the matches of each counted after it: more than one is 21000, as in PostgreSQL.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, Result};
use datafusion::functions_aggregate::count::count_udaf;
use datafusion::functions_window::expr_fn::row_number;
use datafusion::logical_expr::expr::WindowFunction;
use datafusion::logical_expr::{
    Expr, ExprFunctionExt, Filter, JoinType, LogicalPlan, LogicalPlanBuilder, Projection, Subquery,
    WindowFunctionDefinition, lit,
};

use super::binder::Binder;
use crate::function::scalar::external;

/// Turns every such subquery of a plan's select lists into a join.
pub fn join(plan: LogicalPlan, binder: &Binder) -> Result<LogicalPlan> {
    let mut number = 0;
    plan.transform_up(|node| match node {
        LogicalPlan::Projection(projection) if projection.expr.iter().any(has_candidate) => Ok(
            Transformed::yes(join_projection(projection, binder, &mut number)?),
        ),
        LogicalPlan::Filter(filter) if has_candidate(&filter.predicate) => {
            Ok(Transformed::yes(join_filter(filter, binder, &mut number)?))
        }
        other => Ok(Transformed::no(other)),
    })
    .map(|done| done.data)
}

/// A subquery's one value, its condition, and the relations it reads.
struct Candidate {
    value: Expr,
    condition: Expr,
    source: Arc<LogicalPlan>,
}

fn candidate(subquery: &Subquery) -> Option<Candidate> {
    if subquery.outer_ref_columns.is_empty() {
        return None;
    }
    let LogicalPlan::Projection(Projection { expr, input, .. }) = subquery.subquery.as_ref() else {
        return None;
    };
    let [value] = expr.as_slice() else {
        return None;
    };
    let LogicalPlan::Filter(Filter {
        predicate,
        input: source,
        ..
    }) = input.as_ref()
    else {
        return None;
    };
    if value.contains_outer() || !source.all_out_ref_exprs().is_empty() {
        return None;
    }
    Some(Candidate {
        value: value.clone().unalias(),
        condition: predicate.clone(),
        source: Arc::clone(source),
    })
}

fn has_candidate(expr: &Expr) -> bool {
    expr.exists(|expr| {
        Ok(matches!(expr, Expr::ScalarSubquery(subquery) if candidate(subquery).is_some()))
    })
    .unwrap_or(false)
}

/// A condition with such subqueries; the columns are those of before.
fn join_filter(filter: Filter, binder: &Binder, number: &mut usize) -> Result<LogicalPlan> {
    let columns = filter.input.schema().columns();
    let mut input = filter.input.as_ref().clone();
    let predicate = join_expression(filter.predicate, &mut input, binder, number)?.data;
    LogicalPlanBuilder::from(input)
        .filter(predicate)?
        .project(columns.into_iter().map(Expr::Column))?
        .build()
}

fn join_expression(
    expr: Expr,
    input: &mut LogicalPlan,
    binder: &Binder,
    number: &mut usize,
) -> Result<Transformed<Expr>> {
    expr.transform_up(|expr| {
        let Expr::ScalarSubquery(subquery) = &expr else {
            return Ok(Transformed::no(expr));
        };
        let Some(found) = candidate(subquery) else {
            return Ok(Transformed::no(expr));
        };
        *number += 1;
        let (plan, value, count) = join_one(input.clone(), found, *number)?;
        *input = plan;
        let value = binder
            .only_row(value, count, input.schema())
            .map_err(external)?;
        Ok(Transformed::yes(value))
    })
}

fn join_projection(
    projection: Projection,
    binder: &Binder,
    number: &mut usize,
) -> Result<LogicalPlan> {
    let mut input = projection.input.as_ref().clone();
    let mut items = Vec::with_capacity(projection.expr.len());
    for item in projection.expr {
        let name = item.qualified_name();
        let joined = join_expression(item, &mut input, binder, number)?;
        items.push(if joined.transformed {
            joined.data.unalias().alias_qualified(name.0, name.1)
        } else {
            joined.data
        });
    }
    LogicalPlanBuilder::from(input).project(items)?.build()
}

/// Joins one subquery; gives the plan, the value and the number of matches.
fn join_one(
    input: LogicalPlan,
    found: Candidate,
    number: usize,
) -> Result<(LogicalPlan, Expr, Expr)> {
    let label = |what: &str| format!("\u{1}{what}{number}");
    let schema = Arc::clone(found.source.schema());
    let mut items = schema
        .iter()
        .enumerate()
        .map(|(index, (qualifier, field))| {
            Expr::from((qualifier, field)).alias(label(&format!("column{index}_")))
        })
        .collect::<Vec<_>>();
    items.push(found.value.alias(label("value")));
    let right = LogicalPlanBuilder::from(found.source.as_ref().clone())
        .project(items)?
        .build()?;
    let condition = found
        .condition
        .transform_up(|expr| {
            Ok(match expr {
                Expr::OuterReferenceColumn(_, column) => Transformed::yes(Expr::Column(column)),
                Expr::Column(column) => {
                    let index = schema.index_of_column(&column)?;
                    let name = label(&format!("column{index}_"));
                    Transformed::yes(Expr::Column(Column::new_unqualified(name)))
                }
                other => Transformed::no(other),
            })
        })?
        .data;
    let row = Expr::Column(Column::new_unqualified(label("row")));
    let count = Expr::from(WindowFunction::new(
        WindowFunctionDefinition::AggregateUDF(count_udaf()),
        vec![lit(1i64)],
    ))
    .partition_by(vec![row])
    .build()?;
    let plan = LogicalPlanBuilder::from(input)
        .window(vec![row_number().alias(label("row"))])?
        .join_on(right, JoinType::Left, vec![condition])?
        .window(vec![count.alias(label("count"))])?
        .build()?;
    Ok((
        plan,
        Expr::Column(Column::new_unqualified(label("value"))),
        Expr::Column(Column::new_unqualified(label("count"))),
    ))
}
