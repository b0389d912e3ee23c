//! From a syntax tree to a logical plan with settled names and types.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex};

use boathouse_catalog::definitions::ObjectId;
use boathouse_catalog::types::ColumnType;
use boathouse_sql::ast::{Expr as SqlExpr, Query, SelectItem, SetExpr};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use datafusion::common::DFSchema;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::logical_expr::expr::{Cast, Placeholder};
use datafusion::logical_expr::planner::ExprPlanner;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, Volatility};
use datafusion::sql::planner::{ParserOptions, PlannerContext, SqlToRel};

use super::binder::{Binder, untyped_parameter};
use super::context::{BUILT_IN, Provider};
use super::failure::from_datafusion;
use super::resolve::{self, Rights};
use super::typing::parameter_number;
use super::{QueryContext, Target, naming, rewrite};
use crate::error::SqlError;
use crate::function::scalar::{Body, FunctionContext, PgScalar};

/// Options of planning; those of execution belong to the session state.
static OPTIONS: LazyLock<Arc<ConfigOptions>> = LazyLock::new(|| {
    let mut options = ConfigOptions::default();
    options.sql_parser.parse_float_as_decimal = true;
    options.sql_parser.enable_ident_normalization = false;
    options.sql_parser.map_string_types_to_utf8view = false;
    Arc::new(options)
});

fn parser_options() -> ParserOptions {
    ParserOptions::from(&OPTIONS.sql_parser)
}

/// A query bound to its relations and types.
pub struct Bound {
    pub plan: LogicalPlan,
    pub parameters: Vec<ColumnType>,
    pub tables: Vec<ObjectId>,
    pub versions: Vec<(ObjectId, i64)>,
    pub holds_time: bool,
}

fn binder(context: &QueryContext, parameters: BTreeMap<usize, ColumnType>) -> Arc<Binder> {
    Arc::new(Binder {
        context: Arc::new(FunctionContext::new(
            Arc::clone(&context.session),
            Arc::clone(&context.snapshot),
            Some(Arc::clone(&context.engine)),
        )),
        parameters: Mutex::new(parameters),
        holds_time: AtomicBool::new(false),
        native: Arc::clone(&BUILT_IN.scalars),
    })
}

fn parameter_fields(types: &[Option<ColumnType>]) -> Vec<Option<FieldRef>> {
    types
        .iter()
        .map(|given| {
            given
                .as_ref()
                .map(|given| Arc::new(given.to_field("", true)))
        })
        .collect()
}

/// Resolves, rewrites and binds. The tree is consumed: its relations and operators become ours.
pub async fn bind(
    context: &QueryContext,
    rights: &Rights,
    query: &mut Query,
    parameter_types: &[Option<ColumnType>],
) -> Result<Bound, SqlError> {
    let requests = resolve::collect(query)?;
    let found = resolve::find(context, rights, requests).await?;
    rewrite::rewrite_query(query)?;
    let given = parameter_types
        .iter()
        .enumerate()
        .filter_map(|(index, given)| Some((index + 1, given.clone()?)))
        .collect();
    let binder = binder(context, given);
    let provider = Provider {
        sources: found.sources,
        planners: vec![
            Arc::clone(&binder) as Arc<dyn ExprPlanner>,
            // They turn `count(*)` into a count of rows.
            Arc::new(datafusion::functions_aggregate::planner::AggregateFunctionPlanner),
            Arc::new(datafusion::functions_window::planner::WindowFunctionPlanner),
        ],
        options: Arc::clone(&OPTIONS),
    };
    let planner = SqlToRel::new_with_options(&provider, parser_options());
    let mut planner_context =
        PlannerContext::new().with_prepare_param_data_types(parameter_fields(parameter_types));
    let plan = planner
        .sql_statement_to_plan_with_context(
            boathouse_sql::ast::Statement::Query(Box::new(query.clone())),
            &mut planner_context,
        )
        .map_err(from_datafusion)?;
    let plan = super::lateral::flatten(plan).map_err(from_datafusion)?;
    let plan = super::series::stream(plan).map_err(from_datafusion)?;
    let plan = super::scalar_subquery::join(plan, &binder).map_err(from_datafusion)?;
    let plan = super::interval::compare_by_length(plan, &binder).map_err(from_datafusion)?;
    let plan = settle(plan, &binder).map_err(from_datafusion)?;
    let parameters = parameters(&plan, &binder, parameter_types)?;
    let holds_time = found.holds_time || binder.holds_time.load(Ordering::Relaxed);
    let mut tables = found.tables;
    tables.sort_unstable();
    tables.dedup();
    Ok(Bound {
        plan,
        parameters,
        tables,
        versions: found.versions,
        holds_time,
    })
}

/// Gives parameters that no operator has typed the type of their other uses, or text, and columns
/// that are only ever NULL the type text.
fn settle(plan: LogicalPlan, binder: &Binder) -> datafusion::common::Result<LogicalPlan> {
    let known = binder
        .parameters
        .lock()
        .map(|known| known.clone())
        .unwrap_or_default();
    let plan = plan
        .transform_up_with_subqueries(|node| {
            let node = node.map_expressions(|expr| {
                expr.transform_up(|expr| {
                    let Some(id) = untyped_parameter(&expr) else {
                        return Ok(Transformed::no(expr));
                    };
                    let settled = parameter_number(id)
                        .and_then(|number| known.get(&number).cloned())
                        .unwrap_or(ColumnType::Text);
                    let field = Arc::new(settled.to_field("", true));
                    Ok(Transformed::yes(Expr::Placeholder(
                        Placeholder::new_with_field(id.to_owned(), Some(field)),
                    )))
                })
            })?;
            if node.transformed {
                return Ok(Transformed::yes(node.data.recompute_schema()?));
            }
            Ok(node)
        })?
        .data;
    let schema = Arc::clone(plan.schema());
    if !schema
        .fields()
        .iter()
        .any(|field| field.data_type().is_null())
    {
        return Ok(plan);
    }
    let items = schema
        .iter()
        .map(|(qualifier, field)| {
            let column = Expr::from((qualifier, field));
            if field.data_type().is_null() {
                let text = Arc::new(Field::new("", DataType::Utf8, true));
                Expr::Cast(Cast::new_from_field(Box::new(column), text)).alias(field.name())
            } else {
                column
            }
        })
        .collect::<Vec<_>>();
    LogicalPlanBuilder::from(plan).project(items)?.build()
}

fn parameters(
    plan: &LogicalPlan,
    binder: &Binder,
    given: &[Option<ColumnType>],
) -> Result<Vec<ColumnType>, SqlError> {
    let used = plan.get_parameter_fields().map_err(from_datafusion)?;
    let known = binder
        .parameters
        .lock()
        .map(|known| known.clone())
        .unwrap_or_default();
    let count = used
        .keys()
        .filter_map(|id| parameter_number(id))
        .chain(known.keys().copied())
        .chain([given.len()])
        .max()
        .unwrap_or(0);
    Ok((1..=count)
        .map(|number| {
            if let Some(Some(given)) = given.get(number - 1) {
                return given.clone();
            }
            let from_plan = used
                .get(&format!("${number}"))
                .and_then(|field| field.as_ref())
                .map(|field| ColumnType::from_field(field));
            known
                .get(&number)
                .cloned()
                .or(from_plan)
                .unwrap_or(ColumnType::Text)
        })
        .collect())
}

/// The result's columns as the client sees them.
pub fn result_fields(plan: &LogicalPlan) -> SchemaRef {
    let fields = plan
        .schema()
        .fields()
        .iter()
        .map(|field| {
            ColumnType::from_field(field)
                .to_field(naming::shown_name(field.name()), field.is_nullable())
        })
        .collect::<Vec<_>>();
    Arc::new(Schema::new(fields))
}

/// Plans one expression over columns.
pub fn bind_expression(
    context: &QueryContext,
    expression: &SqlExpr,
    schema: &DFSchema,
    wanted: Option<&ColumnType>,
) -> Result<Expr, SqlError> {
    let mut expression = expression.clone();
    rewrite::rewrite_expression(&mut expression)?;
    if let Some(wanted) = wanted {
        expression = rewrite::operator(&format!("assign {}", wanted.sql_name()), vec![expression]);
    }
    let binder = binder(context, BTreeMap::new());
    let provider = Provider {
        sources: Default::default(),
        planners: vec![binder as Arc<dyn ExprPlanner>],
        options: Arc::clone(&OPTIONS),
    };
    SqlToRel::new_with_options(&provider, parser_options())
        .sql_to_expr(expression, schema, &mut PlannerContext::new())
        .map_err(from_datafusion)
}

/// Has the constants and parameters of the outermost select list, and every cell of a VALUES list,
/// take the types of the columns they go to.
pub fn assign_to(query: &mut Query, targets: &[Target]) {
    if !targets.is_empty() {
        assign_body(&mut query.body, targets);
    }
}

fn assign_body(body: &mut SetExpr, targets: &[Target]) {
    match body {
        SetExpr::Values(values) => {
            for row in &mut values.rows {
                for (cell, target) in row.iter_mut().zip(targets) {
                    wrap(cell, target);
                }
            }
        }
        SetExpr::Select(select) => {
            naming::name_select_items(select);
            for (item, target) in select.projection.iter_mut().zip(targets) {
                match item {
                    SelectItem::ExprWithAlias { expr, .. } | SelectItem::UnnamedExpr(expr) => {
                        if matches!(expr, SqlExpr::Value(_)) {
                            wrap(expr, target);
                        }
                    }
                    // Which columns the items after it go to is not known here.
                    _ => return,
                }
            }
        }
        SetExpr::Query(query) => assign_body(&mut query.body, targets),
        _ => {}
    }
}

fn wrap(expr: &mut SqlExpr, target: &Target) {
    let taken = std::mem::replace(expr, rewrite::text(""));
    *expr = assigned(taken, target);
}

/// The condition of a clause; an error names the clause when it is no Boolean.
pub fn condition(value: SqlExpr, clause: &str) -> SqlExpr {
    rewrite::operator(&format!("condition {clause}"), vec![value])
}

/// An expression with the type of the column it goes to.
pub fn assigned(value: SqlExpr, target: &Target) -> SqlExpr {
    let Target {
        column,
        column_type,
    } = target;
    let name = format!("assign {}{}{column}", column_type.sql_name(), naming::MARK);
    rewrite::operator(&name, vec![value])
}

/// Casts a plan's columns to the types of the columns they go to.
pub fn assign_columns(
    context: &QueryContext,
    plan: LogicalPlan,
    targets: &[Target],
) -> Result<LogicalPlan, SqlError> {
    let binder = binder(context, BTreeMap::new());
    let schema = Arc::clone(plan.schema());
    let items = schema
        .iter()
        .zip(targets)
        .map(|(column, target)| {
            let value = Expr::from(column);
            let wanted = &target.column_type;
            let stored = binder.assign(value, wanted, Some(&target.column), &schema)?;
            Ok(stored.alias(&target.column))
        })
        .collect::<Result<Vec<_>, SqlError>>()?;
    LogicalPlanBuilder::from(plan)
        .project(items)
        .and_then(LogicalPlanBuilder::build)
        .map_err(from_datafusion)
}

/// Whether a plan's constants depend on the session or the time, so that they must not be kept.
pub fn is_session_bound(plan: &LogicalPlan) -> bool {
    let mut bound = false;
    let _ = plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|expr| {
                if let Expr::ScalarFunction(function) = expr
                    && is_bound_function(function)
                {
                    bound = true;
                }
                Ok(datafusion::common::tree_node::TreeNodeRecursion::Continue)
            })
        })
    });
    bound
}

/// Whether a plan asks for the time, for who runs it, or for chance: whether another run in a session with the same settings
/// may give something else of the same rows.
pub fn is_of_the_moment(plan: &LogicalPlan) -> bool {
    let mut found = false;
    let _ = plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|expr| {
                if let Expr::ScalarFunction(function) = expr {
                    let volatility = match as_pg(function) {
                        Some(ours) => ours.overload.volatility,
                        None => function.func.signature().volatility,
                    };
                    // What is stable and takes arguments asks for settings, such as the time zone.
                    let asks = function.args.is_empty()
                        || (function.name() == "age" && function.args.len() == 1);
                    found |= match volatility {
                        Volatility::Immutable => false,
                        Volatility::Stable => asks,
                        Volatility::Volatile => true,
                    };
                }
                Ok(datafusion::common::tree_node::TreeNodeRecursion::Continue)
            })
        })
    });
    found
}

fn is_bound_function(function: &datafusion::logical_expr::expr::ScalarFunction) -> bool {
    let Some(function) = as_pg(function) else {
        return function.func.signature().volatility != Volatility::Immutable;
    };
    if function.overload.volatility != Volatility::Immutable {
        return true;
    }
    match &function.overload.body {
        Body::Cast { from, to, .. } => {
            *from == ColumnType::TimestampTz || *to == ColumnType::TimestampTz
        }
        _ => false,
    }
}

/// The function of ours that a call calls.
pub fn as_pg(function: &datafusion::logical_expr::expr::ScalarFunction) -> Option<&PgScalar> {
    let inner: &dyn std::any::Any = function.func.inner().as_ref();
    inner.downcast_ref::<PgScalar>()
}

/// Puts another session into a plan's functions.
pub fn rebind(plan: LogicalPlan, context: &QueryContext) -> Result<LogicalPlan, SqlError> {
    let function_context = Arc::new(FunctionContext::new(
        Arc::clone(&context.session),
        Arc::clone(&context.snapshot),
        Some(Arc::clone(&context.engine)),
    ));
    plan.transform_up_with_subqueries(|node| {
        node.map_expressions(|expr| {
            expr.transform_up(|expr| match expr {
                Expr::ScalarFunction(mut function) => {
                    let rebound = as_pg(&function).map(|old| {
                        PgScalar::new(
                            Arc::clone(&old.overload),
                            old.return_type.clone(),
                            Arc::clone(&function_context),
                        )
                    });
                    match rebound {
                        Some(rebound) => {
                            function.func = Arc::new(
                                datafusion::logical_expr::ScalarUDF::new_from_impl(rebound),
                            );
                            Ok(Transformed::yes(Expr::ScalarFunction(function)))
                        }
                        None => Ok(Transformed::no(Expr::ScalarFunction(function))),
                    }
                }
                other => Ok(Transformed::no(other)),
            })
        })
    })
    .map(|done| done.data)
    .map_err(from_datafusion)
}
