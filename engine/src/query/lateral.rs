//! Functions in FROM that read columns of the relations before them.
//!
//! `FROM t, unnest(t.tags) AS tag` reaches DataFusion as a join whose right side refers to the left.
//! When that right side is nothing but projections and unnests over a single row, the join is the
//! left side with those projections and unnests on top, each passing the left columns through.
//! Other lateral joins are left to DataFusion's own decorrelation.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, NullHandling, Result, UnnestOptions};
use datafusion::logical_expr::{
    EmptyRelation, Expr, Join, JoinType, LogicalPlan, LogicalPlanBuilder, Projection, Subquery,
    SubqueryAlias, Unnest,
};

/// Turns every lateral function join of a plan into unnests.
pub fn flatten(plan: LogicalPlan) -> Result<LogicalPlan> {
    let plan = plan.transform_up_with_subqueries(|node| match node {
        LogicalPlan::Join(join) if is_lateral_function(&join) => {
            Ok(Transformed::yes(flatten_join(join)?))
        }
        other => Ok(Transformed::no(other)),
    })?;
    Ok(plan.data)
}

fn lateral_side(plan: &LogicalPlan) -> Option<(&Subquery, Option<&SubqueryAlias>)> {
    match plan {
        LogicalPlan::Subquery(subquery) => Some((subquery, None)),
        LogicalPlan::SubqueryAlias(alias) => match alias.input.as_ref() {
            LogicalPlan::Subquery(subquery) => Some((subquery, Some(alias))),
            // A renaming of columns may stand between.
            LogicalPlan::Projection(_) => None,
            _ => None,
        },
        _ => None,
    }
}

fn is_lateral_function(join: &Join) -> bool {
    if !matches!(join.join_type, JoinType::Inner | JoinType::Left) || !join.on.is_empty() {
        return false;
    }
    let always = match &join.filter {
        None => true,
        Some(Expr::Literal(value, _)) => {
            *value == datafusion::common::ScalarValue::Boolean(Some(true))
        }
        _ => false,
    };
    always
        && match lateral_side(&join.right) {
            Some((subquery, _)) => is_chain(&subquery.subquery),
            None => false,
        }
}

/// Projections, unnests and aliases over one row.
fn is_chain(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::EmptyRelation(EmptyRelation {
            produce_one_row, ..
        }) => *produce_one_row,
        LogicalPlan::Projection(Projection { input, .. }) => is_chain(input),
        LogicalPlan::Unnest(Unnest { input, .. }) => is_chain(input),
        LogicalPlan::SubqueryAlias(SubqueryAlias { input, .. }) => is_chain(input),
        _ => false,
    }
}

fn flatten_join(join: Join) -> Result<LogicalPlan> {
    let outer = join.join_type == JoinType::Left;
    let left_columns = join.left.schema().columns();
    let right_fields = join
        .right
        .schema()
        .iter()
        .map(|(qualifier, field)| Column::new(qualifier.cloned(), field.name()))
        .collect::<Vec<_>>();
    let Some((subquery, _)) = lateral_side(&join.right) else {
        return Ok(LogicalPlan::Join(join));
    };
    let inner_columns = subquery.subquery.schema().columns();
    let stacked = stack(&subquery.subquery, &join.left, &left_columns, outer)?;
    let mut items = left_columns
        .iter()
        .cloned()
        .map(Expr::Column)
        .collect::<Vec<_>>();
    for (inner, shown) in inner_columns.into_iter().zip(right_fields) {
        let value = Expr::Column(Column::new_unqualified(inner.name));
        items.push(value.alias_qualified(shown.relation, shown.name));
    }
    LogicalPlanBuilder::from(stacked).project(items)?.build()
}

/// Rebuilds the right side over the left one.
fn stack(
    plan: &LogicalPlan,
    left: &Arc<LogicalPlan>,
    left_columns: &[Column],
    outer: bool,
) -> Result<LogicalPlan> {
    match plan {
        LogicalPlan::Projection(projection) => {
            let input = stack(&projection.input, left, left_columns, outer)?;
            let mut items = left_columns
                .iter()
                .cloned()
                .map(Expr::Column)
                .collect::<Vec<_>>();
            for expr in &projection.expr {
                let name = expr.qualified_name().1;
                items.push(
                    resolve_outer(expr.clone())?
                        .unalias_nested()
                        .data
                        .alias(name),
                );
            }
            LogicalPlanBuilder::from(input).project(items)?.build()
        }
        LogicalPlan::Unnest(unnest) => {
            let input = stack(&unnest.input, left, left_columns, outer)?;
            let columns = unnest
                .exec_columns
                .iter()
                .map(|column| Column::new_unqualified(column.name.clone()))
                .collect();
            let null_handling = if outer {
                NullHandling::PreserveAndExpandEmpty
            } else {
                NullHandling::Drop
            };
            let options = UnnestOptions {
                null_handling,
                recursions: unnest.options.recursions.clone(),
            };
            LogicalPlanBuilder::from(input)
                .unnest_columns_with_options(columns, options)?
                .build()
        }
        LogicalPlan::SubqueryAlias(alias) => stack(&alias.input, left, left_columns, outer),
        _ => Ok(left.as_ref().clone()),
    }
}

fn resolve_outer(expr: Expr) -> Result<Expr> {
    Ok(expr
        .transform_up(|node| {
            Ok(match node {
                Expr::OuterReferenceColumn(_, column) => Transformed::yes(Expr::Column(column)),
                Expr::Column(column) if column.relation.is_some() => {
                    Transformed::no(Expr::Column(column))
                }
                other => Transformed::no(other),
            })
        })?
        .data)
}
