//! Sorts and groups intervals by their length, as PostgreSQL does.
//!
//! The binder sees to comparisons. Here every place of a plan where DataFusion would compare whole
//! values itself is given the length instead: ORDER BY, GROUP BY, DISTINCT, windows. A group shows
//! one of its intervals as it was written; `1 day` and `24:00:00` are one group.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, IntervalUnit};
use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, DFSchema, DFSchemaRef, Result};
use datafusion::functions_aggregate::first_last::first_value_udaf;
use datafusion::logical_expr::expr::{AggregateFunction, WindowFunction};
use datafusion::logical_expr::{
    Aggregate, Distinct, DistinctOn, Expr, ExprSchemable, LogicalPlan, Projection, SortExpr,
    Window, WindowFrameBound, WindowFrameUnits,
};

use super::binder::Binder;
use crate::function::scalar::external;

/// Puts lengths in the place of intervals wherever a plan compares them.
pub fn compare_by_length(plan: LogicalPlan, binder: &Binder) -> Result<LogicalPlan> {
    plan.transform_up_with_subqueries(|node| {
        Ok(match node {
            LogicalPlan::Sort(mut sort) if has_interval_key(&sort.expr, sort.input.schema()) => {
                let schema = Arc::clone(sort.input.schema());
                sort.expr = sort_keys(sort.expr, &schema, binder)?;
                Transformed::yes(LogicalPlan::Sort(sort))
            }
            LogicalPlan::Aggregate(aggregate) if groups_intervals(&aggregate) => {
                Transformed::yes(group(aggregate, binder)?)
            }
            LogicalPlan::Distinct(Distinct::All(input)) if has_interval_column(input.schema()) => {
                let columns = input.schema().columns().into_iter().map(Expr::Column);
                let all = Aggregate::try_new(input, columns.collect(), Vec::new())?;
                Transformed::yes(group(all, binder)?)
            }
            LogicalPlan::Distinct(Distinct::On(on))
                if on
                    .on_expr
                    .iter()
                    .any(|expr| is_interval(expr, on.input.schema())) =>
            {
                Transformed::yes(LogicalPlan::Distinct(Distinct::On(distinct_on(
                    on, binder,
                )?)))
            }
            LogicalPlan::Window(window) if orders_intervals(&window) => {
                Transformed::yes(windows(window, binder)?)
            }
            other => Transformed::no(other),
        })
    })
    .map(|done| done.data)
}

fn is_interval(expr: &Expr, schema: &DFSchema) -> bool {
    let interval = DataType::Interval(IntervalUnit::MonthDayNano);
    expr.get_type(schema).is_ok_and(|found| found == interval)
}

fn has_interval_column(schema: &DFSchema) -> bool {
    let interval = DataType::Interval(IntervalUnit::MonthDayNano);
    schema
        .fields()
        .iter()
        .any(|field| *field.data_type() == interval)
}

fn has_interval_key(keys: &[SortExpr], schema: &DFSchema) -> bool {
    keys.iter().any(|key| is_interval(&key.expr, schema))
}

/// The length of an interval; anything else as it is.
fn length(expr: Expr, schema: &DFSchema, binder: &Binder) -> Result<Expr> {
    if !is_interval(&expr, schema) {
        return Ok(expr);
    }
    binder.interval_order(expr, schema).map_err(external)
}

fn sort_keys(keys: Vec<SortExpr>, schema: &DFSchema, binder: &Binder) -> Result<Vec<SortExpr>> {
    keys.into_iter()
        .map(|key| {
            let expr = length(key.expr, schema, binder)?;
            Ok(SortExpr::new(expr, key.asc, key.nulls_first))
        })
        .collect()
}

fn distinct_on(on: DistinctOn, binder: &Binder) -> Result<DistinctOn> {
    let schema = Arc::clone(on.input.schema());
    let on_expr = on
        .on_expr
        .into_iter()
        .map(|expr| length(expr, &schema, binder))
        .collect::<Result<_>>()?;
    let sort_expr = match on.sort_expr {
        Some(keys) => Some(sort_keys(keys, &schema, binder)?),
        None => None,
    };
    DistinctOn::try_new(on_expr, on.select_expr, sort_expr, on.input)
}

/// `count(DISTINCT interval)`.
fn counts_distinct(expr: &Expr, schema: &DFSchema) -> bool {
    let Expr::AggregateFunction(AggregateFunction { func, params }) = expr else {
        return false;
    };
    params.distinct
        && func.name() == "count"
        && params
            .args
            .iter()
            .any(|argument| is_interval(argument, schema))
}

fn groups_intervals(aggregate: &Aggregate) -> bool {
    let schema = aggregate.input.schema();
    let sets = aggregate
        .group_expr
        .iter()
        .any(|expr| matches!(expr, Expr::GroupingSet(_)));
    !sets
        && (aggregate
            .group_expr
            .iter()
            .any(|expr| is_interval(expr, schema))
            || aggregate
                .aggr_expr
                .iter()
                .any(|expr| counts_distinct(expr, schema)))
}

fn group(aggregate: Aggregate, binder: &Binder) -> Result<LogicalPlan> {
    let schema = Arc::clone(aggregate.input.schema());
    let groups = aggregate.group_expr.len();
    let mut calls = Vec::with_capacity(aggregate.aggr_expr.len());
    for call in aggregate.aggr_expr {
        let counts = counts_distinct(&call, &schema);
        calls.push(match call {
            Expr::AggregateFunction(mut function) if counts => {
                function.params.args = function
                    .params
                    .args
                    .into_iter()
                    .map(|argument| length(argument, &schema, binder))
                    .collect::<Result<_>>()?;
                Expr::AggregateFunction(function)
            }
            other => other,
        });
    }
    // Where each column of the result is found: a group that was an interval is the first of it.
    let mut found: Vec<usize> = (0..groups + calls.len()).collect();
    let mut keys = Vec::with_capacity(groups);
    for (index, expr) in aggregate.group_expr.into_iter().enumerate() {
        if is_interval(&expr, &schema) {
            found[index] = groups + calls.len();
            let first = AggregateFunction::new_udf(
                first_value_udaf(),
                vec![expr.clone()],
                false,
                None,
                Vec::new(),
                None,
            );
            calls.push(Expr::AggregateFunction(first).alias(format!("\u{1}first {index}")));
            let key = binder.interval_order(expr, &schema).map_err(external)?;
            keys.push(key.alias(format!("\u{1}length {index}")));
        } else {
            keys.push(expr);
        }
    }
    let plan = LogicalPlan::Aggregate(Aggregate::try_new(aggregate.input, keys, calls)?);
    renamed(plan, &found, &aggregate.schema)
}

/// A projection that gives columns of a plan the names they had.
fn renamed(plan: LogicalPlan, found: &[usize], names: &DFSchemaRef) -> Result<LogicalPlan> {
    let columns = plan.schema().columns();
    let items = names
        .iter()
        .zip(found)
        .map(|((qualifier, field), index)| {
            let column: Column = columns[*index].clone();
            if column.relation.as_ref() == qualifier && column.name == *field.name() {
                Expr::Column(column)
            } else {
                Expr::Column(column).alias_qualified(qualifier.cloned(), field.name())
            }
        })
        .collect();
    Ok(LogicalPlan::Projection(Projection::try_new(
        items,
        Arc::new(plan),
    )?))
}

fn window_function(expr: &Expr) -> Option<&WindowFunction> {
    match expr {
        Expr::WindowFunction(function) => Some(function),
        _ => None,
    }
}

/// Whether the frame is given by a distance in the sorting key's own terms.
fn has_distance(function: &WindowFunction) -> bool {
    let frame = &function.params.window_frame;
    let distance = |bound: &WindowFrameBound| match bound {
        WindowFrameBound::CurrentRow => false,
        WindowFrameBound::Preceding(value) | WindowFrameBound::Following(value) => !value.is_null(),
    };
    frame.units == WindowFrameUnits::Range
        && (distance(&frame.start_bound) || distance(&frame.end_bound))
}

fn orders_intervals(window: &Window) -> bool {
    let schema = window.input.schema();
    window
        .window_expr
        .iter()
        .filter_map(window_function)
        .any(|function| {
            !has_distance(function)
                && (has_interval_key(&function.params.order_by, schema)
                    || function
                        .params
                        .partition_by
                        .iter()
                        .any(|expr| is_interval(expr, schema)))
        })
}

fn windows(window: Window, binder: &Binder) -> Result<LogicalPlan> {
    let schema = Arc::clone(window.input.schema());
    let mut functions = Vec::with_capacity(window.window_expr.len());
    for expr in window.window_expr {
        functions.push(match expr {
            Expr::WindowFunction(mut function) if !has_distance(&function) => {
                let params = &mut function.params;
                params.order_by = sort_keys(std::mem::take(&mut params.order_by), &schema, binder)?;
                params.partition_by = std::mem::take(&mut params.partition_by)
                    .into_iter()
                    .map(|expr| length(expr, &schema, binder))
                    .collect::<Result<_>>()?;
                Expr::WindowFunction(function)
            }
            other => other,
        });
    }
    let plan = LogicalPlan::Window(Window::try_new(functions, window.input)?);
    let found: Vec<usize> = (0..window.schema.fields().len()).collect();
    renamed(plan, &found, &window.schema)
}
