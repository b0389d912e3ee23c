//! Brings a query's syntax tree into the form the binder wants.
//!
//! DataFusion asks an `ExprPlanner` what a *binary operator* means and shows it the operands' types.
//! It asks nobody about literals, casts, calls, CASE, IN or BETWEEN. So all of those become binary
//! operators of our own here: `f(a, b)` is `(a , b) <call f> NULL`, with the arguments held
//! together by `<list>` operators. [`super::binder`] meets them with types at hand and gives the
//! final expression. What DataFusion must see as it is written stays: ordinals in GROUP BY and
//! ORDER BY, LIMIT, window frames, aggregate calls.

use std::ops::ControlFlow;

use boathouse_sql::ast::{
    self, AccessExpr, BinaryOperator, CastKind, CeilFloorKind, Expr, Function, FunctionArg,
    FunctionArgExpr, FunctionArguments, GroupByExpr, Ident, LimitClause, ObjectName,
    ObjectNamePart, OrderByKind, Query, Select, SelectItem, SetExpr, Spanned, Subscript,
    TableFactor, TrimWhereField, UnaryOperator, Value, ValueWithSpan, VisitMut, VisitorMut,
    WindowFrame, WindowType,
};

use super::naming;
use super::typing;
use crate::error::{SqlError, SqlState};
use crate::function::set_returning;

/// Begins the name of an operator of ours.
pub const PREFIX: &str = "\u{1}";
/// Joins two argument lists.
pub const LIST: &str = "\u{1}list";

/// Calls that DataFusion plans as aggregates.
pub const AGGREGATES: &[&str] = &[
    "count",
    "sum",
    "avg",
    "min",
    "max",
    "bool_and",
    "bool_or",
    "every",
    "string_agg",
    "array_agg",
    "stddev",
    "stddev_pop",
    "stddev_samp",
    "variance",
    "var_pop",
    "var_samp",
    "corr",
    "covar_pop",
    "covar_samp",
    "regr_avgx",
    "regr_avgy",
    "regr_count",
    "regr_intercept",
    "regr_r2",
    "regr_slope",
    "regr_sxx",
    "regr_sxy",
    "regr_syy",
    "bit_and",
    "bit_or",
    "bit_xor",
    "percentile_cont",
    "percentile_disc",
    "mode",
    "grouping",
    "json_agg",
    "jsonb_agg",
    "json_object_agg",
    "jsonb_object_agg",
    "first_value",
    "last_value",
    "nth_value",
    "any_value",
    "approx_distinct",
    "median",
];

/// Calls that are window functions only.
const WINDOWS: &[&str] = &[
    "row_number",
    "rank",
    "dense_rank",
    "percent_rank",
    "cume_dist",
    "ntile",
    "lag",
    "lead",
];

/// Rewrites a query in place. Relations must have been resolved before.
pub fn rewrite_query(query: &mut Query) -> Result<(), SqlError> {
    let mut rewriter = Rewriter::default();
    match VisitMut::visit(query, &mut rewriter) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(*error),
    }
}

/// Rewrites one expression in place.
pub fn rewrite_expression(expression: &mut Expr) -> Result<(), SqlError> {
    let mut rewriter = Rewriter::default();
    match VisitMut::visit(expression, &mut rewriter) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(*error),
    }
}

#[derive(Default)]
struct Rewriter {
    /// Window frames set aside while their call's arguments are rewritten.
    frames: Vec<Option<WindowFrame>>,
}

fn null() -> Expr {
    Expr::Value(Value::Null.into())
}

/// A string that reaches the binder as an untyped literal.
pub fn text(value: impl Into<String>) -> Expr {
    Expr::Value(Value::SingleQuotedString(value.into()).into())
}

/// An operator of ours over arguments.
pub fn operator(name: &str, arguments: Vec<Expr>) -> Expr {
    let count = arguments.len();
    let left = join(arguments);
    Expr::BinaryOp {
        left: Box::new(left),
        op: BinaryOperator::Custom(format!("{PREFIX}{count} {name}")),
        right: Box::new(null()),
    }
}

/// Holds arguments together as a balanced tree, so that a long list is not a deep one.
fn join(mut arguments: Vec<Expr>) -> Expr {
    match arguments.len() {
        0 => null(),
        1 => arguments.remove(0),
        count => {
            let right = arguments.split_off(count / 2);
            Expr::BinaryOp {
                left: Box::new(join(arguments)),
                op: BinaryOperator::Custom(LIST.to_owned()),
                right: Box::new(join(right)),
            }
        }
    }
}

/// A call of a scalar function.
pub fn call(name: &str, arguments: Vec<Expr>) -> Expr {
    operator(&format!("call {name}"), arguments)
}

fn take(expr: &mut Expr) -> Expr {
    std::mem::replace(expr, null())
}

fn take_box(expr: &mut Box<Expr>) -> Expr {
    take(expr.as_mut())
}

/// Marks a number that DataFusion has to see as it is (`long` is of no use otherwise).
fn protect(expr: &mut Expr) {
    if let Expr::Value(ValueWithSpan {
        value: Value::Number(_, long),
        ..
    }) = expr
    {
        *long = true;
    }
}

fn unsupported(what: impl std::fmt::Display) -> ControlFlow<Box<SqlError>> {
    ControlFlow::Break(Box::new(SqlError::unsupported(what)))
}

impl VisitorMut for Rewriter {
    type Break = Box<SqlError>;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<Self::Break> {
        query.locks.clear();
        if let Some(order_by) = &mut query.order_by
            && let OrderByKind::Expressions(items) = &mut order_by.kind
        {
            for item in items {
                protect(&mut item.expr);
            }
        }
        if let Some(fetch) = query.fetch.take() {
            if fetch.with_ties || fetch.percent {
                return unsupported("FETCH ... WITH TIES");
            }
            let limit = fetch
                .quantity
                .unwrap_or_else(|| Expr::Value(Value::Number("1".to_owned(), true).into()));
            match &mut query.limit_clause {
                Some(LimitClause::LimitOffset { limit: slot, .. }) => *slot = Some(limit),
                clause => {
                    *clause = Some(LimitClause::LimitOffset {
                        limit: Some(limit),
                        offset: None,
                        limit_by: Vec::new(),
                    });
                }
            }
        }
        if let Some(LimitClause::LimitOffset { limit, offset, .. }) = &mut query.limit_clause {
            if let Some(expr) = limit {
                if is_limit_all(expr) {
                    *limit = None;
                } else {
                    limit_operand(expr);
                }
            }
            if let Some(offset) = offset {
                limit_operand(&mut offset.value);
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<Self::Break> {
        if let GroupByExpr::Expressions(items, _) = &mut select.group_by {
            for item in items {
                protect(item);
            }
        }
        naming::name_select_items(select);
        for item in &mut select.projection {
            if let SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } = item {
                count_exists(expr);
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<Self::Break> {
        match function_relation(factor) {
            Ok(Some(replacement)) => {
                *factor = replacement;
                ControlFlow::Continue(())
            }
            Ok(None) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(Box::new(error)),
        }
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Self::Break> {
        match expr {
            Expr::Value(ValueWithSpan {
                value: Value::Placeholder(name),
                ..
            }) if typing::parameter_number(name).is_none_or(|number| number == 0) => {
                return ControlFlow::Break(Box::new(no_parameter(name)));
            }
            Expr::Function(function)
                if matches!(function.args, FunctionArguments::Subquery(_))
                    && function_name(&function.name) == "array" =>
            {
                let FunctionArguments::Subquery(query) = &mut function.args else {
                    return ControlFlow::Continue(());
                };
                *expr = array_of_query(std::mem::replace(query.as_mut(), EMPTY_QUERY.clone()));
                // What stands here now is visited as if it had been written.
                if let Expr::Function(function) = expr {
                    self.frames.push(take_frame(function));
                }
            }
            Expr::Function(function) => {
                self.frames.push(take_frame(function));
                let name = function_name(&function.name);
                order_named_arguments(function, &name);
                if matches!(name.as_str(), "lag" | "lead" | "ntile" | "nth_value")
                    && let FunctionArguments::List(list) = &mut function.args
                {
                    let first = usize::from(name != "ntile");
                    for argument in list.args.iter_mut().skip(first).take(1) {
                        if let FunctionArg::Unnamed(FunctionArgExpr::Expr(argument)) = argument {
                            protect(argument);
                        }
                    }
                }
            }
            // A negative number is one literal, so that the smallest integer fits.
            Expr::UnaryOp {
                op: UnaryOperator::Minus,
                expr: inner,
            } => {
                if let Expr::Value(ValueWithSpan {
                    value: Value::Number(digits, _),
                    ..
                }) = inner.as_ref()
                {
                    *expr = operator(&format!("number -{digits}"), Vec::new());
                }
            }
            Expr::InList {
                expr: needle,
                list,
                negated,
            } => {
                if let Expr::Tuple(left) = strip(needle).clone() {
                    let mut alternatives = None;
                    for item in list.iter() {
                        let Expr::Tuple(right) = strip(item) else {
                            continue;
                        };
                        let equal = equal_tuples(&left, right);
                        alternatives = Some(match alternatives {
                            None => equal,
                            Some(before) => binary(before, BinaryOperator::Or, equal),
                        });
                    }
                    if let Some(alternatives) = alternatives {
                        let nested = Expr::Nested(Box::new(alternatives));
                        *expr = if *negated {
                            Expr::UnaryOp {
                                op: UnaryOperator::Not,
                                expr: Box::new(nested),
                            }
                        } else {
                            nested
                        };
                    }
                }
            }
            Expr::BinaryOp {
                left,
                op: op @ (BinaryOperator::Eq | BinaryOperator::NotEq),
                right,
            } => {
                if let (Expr::Tuple(first), Expr::Tuple(second)) = (strip(left), strip(right)) {
                    let equal = Expr::Nested(Box::new(equal_tuples(first, second)));
                    *expr = if *op == BinaryOperator::NotEq {
                        Expr::UnaryOp {
                            op: UnaryOperator::Not,
                            expr: Box::new(equal),
                        }
                    } else {
                        equal
                    };
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Self::Break> {
        let frame = match expr {
            Expr::Function(_) => self.frames.pop().flatten(),
            _ => None,
        };
        match rewrite_one(expr, frame) {
            Ok(Some(replacement)) => {
                *expr = replacement;
                ControlFlow::Continue(())
            }
            Ok(None) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(Box::new(error)),
        }
    }
}

/// EXISTS as a value: DataFusion knows it as a condition only, so its rows are counted.
fn count_exists(expr: &mut Expr) {
    match expr {
        Expr::Exists { subquery, negated } => {
            let mut select = Select::clone(&EMPTY_SELECT);
            let mut count = plain_call("count", Vec::new());
            if let Expr::Function(Function {
                args: FunctionArguments::List(list),
                ..
            }) = &mut count
            {
                list.args
                    .push(FunctionArg::Unnamed(FunctionArgExpr::Wildcard));
            }
            select.projection = vec![SelectItem::UnnamedExpr(count)];
            select.from = vec![ast::TableWithJoins {
                relation: TableFactor::Derived {
                    lateral: false,
                    subquery: subquery.clone(),
                    alias: Some(ast::TableAlias {
                        explicit: true,
                        name: Ident::with_quote('"', "existing"),
                        columns: Vec::new(),
                        at: None,
                    }),
                    sample: None,
                },
                joins: Vec::new(),
            }];
            let mut query = EMPTY_QUERY.clone();
            query.body = Box::new(SetExpr::Select(Box::new(select)));
            let op = if *negated {
                BinaryOperator::Eq
            } else {
                BinaryOperator::Gt
            };
            let zero = Expr::Value(Value::Number("0".to_owned(), false).into());
            *expr = binary(Expr::Subquery(Box::new(query)), op, zero);
        }
        Expr::Nested(inner) | Expr::UnaryOp { expr: inner, .. } => count_exists(inner),
        Expr::Cast { expr: inner, .. } => count_exists(inner),
        Expr::BinaryOp { left, right, .. } => {
            count_exists(left);
            count_exists(right);
        }
        Expr::Case {
            conditions,
            else_result,
            ..
        } => {
            for branch in conditions {
                count_exists(&mut branch.condition);
                count_exists(&mut branch.result);
            }
            if let Some(otherwise) = else_result {
                count_exists(otherwise);
            }
        }
        _ => {}
    }
}

/// `ARRAY(SELECT x ...)` is `coalesce((SELECT array_agg(x) ...), '{}')`.
fn array_of_query(mut query: Query) -> Expr {
    if let SetExpr::Select(select) = query.body.as_mut() {
        if let [from] = select.from.as_slice()
            && from.joins.is_empty()
            && let Some(array) = unnested_array(&from.relation)
        {
            return plain_call("array_over", vec![array]);
        }
        let order = match &query.order_by {
            None => Some(Vec::new()),
            Some(order_by) => match &order_by.kind {
                OrderByKind::Expressions(items) => Some(items.clone()),
                OrderByKind::All(_) => None,
            },
        };
        let simple = order.is_some()
            && query.limit_clause.is_none()
            && select.distinct.is_none()
            && select.having.is_none()
            && matches!(&select.group_by, GroupByExpr::Expressions(items, _) if items.is_empty());
        if simple
            && let [SelectItem::UnnamedExpr(item) | SelectItem::ExprWithAlias { expr: item, .. }] =
                select.projection.as_mut_slice()
        {
            let inner = take(item);
            let mut order = order.unwrap_or_default();
            for by in &mut order {
                // An ordinal means the one item there is.
                if matches!(&by.expr, Expr::Value(value) if matches!(value.value, Value::Number(..)))
                {
                    by.expr = inner.clone();
                }
            }
            let mut call = plain_call("array_agg", vec![inner]);
            if !order.is_empty()
                && let Expr::Function(Function {
                    args: FunctionArguments::List(list),
                    ..
                }) = &mut call
            {
                list.clauses
                    .push(ast::FunctionArgumentClause::OrderBy(order));
            }
            *item = call;
            query.order_by = None;
            return or_empty_array(query);
        }
    }
    let mut select = Select::clone(&EMPTY_SELECT);
    select.projection = vec![SelectItem::UnnamedExpr(plain_call(
        "array_agg",
        vec![Expr::Identifier(Ident::with_quote('"', "element"))],
    ))];
    select.from = vec![ast::TableWithJoins {
        relation: TableFactor::Derived {
            lateral: false,
            subquery: Box::new(query),
            alias: Some(ast::TableAlias {
                explicit: true,
                name: Ident::with_quote('"', "elements"),
                columns: vec![ast::TableAliasColumnDef {
                    name: Ident::with_quote('"', "element"),
                    data_type: None,
                }],
                at: None,
            }),
            sample: None,
        },
        joins: Vec::new(),
    }];
    let mut outer = EMPTY_QUERY.clone();
    outer.body = Box::new(SetExpr::Select(Box::new(select)));
    or_empty_array(outer)
}

fn or_empty_array(query: Query) -> Expr {
    plain_call(
        "coalesce",
        vec![Expr::Subquery(Box::new(query)), text("{}")],
    )
}

/// The array of `FROM unnest(array)`.
fn unnested_array(relation: &TableFactor) -> Option<Expr> {
    let arguments = match relation {
        TableFactor::UNNEST { array_exprs, .. } => {
            return match array_exprs.as_slice() {
                [array] => Some(array.clone()),
                _ => None,
            };
        }
        TableFactor::Table {
            name,
            args: Some(arguments),
            ..
        } if function_name(name) == "unnest" => arguments.args.clone(),
        TableFactor::Function { name, args, .. } if function_name(name) == "unnest" => args.clone(),
        TableFactor::Derived { .. } => return None,
        _ => return None,
    };
    take_arguments(arguments)
        .ok()
        .filter(|arguments| arguments.len() == 1)?
        .pop()
}

/// Functions that are called with named arguments, and their parameters in order.
const NAMED: &[(&str, &[&str])] = &[(
    "make_interval",
    &["years", "months", "weeks", "days", "hours", "mins", "secs"],
)];

/// Puts named arguments in the order of the function's parameters; what is left out is zero.
fn order_named_arguments(function: &mut Function, name: &str) {
    let Some((_, parameters)) = NAMED.iter().find(|(known, _)| *known == name) else {
        return;
    };
    let FunctionArguments::List(list) = &mut function.args else {
        return;
    };
    if list
        .args
        .iter()
        .all(|argument| matches!(argument, FunctionArg::Unnamed(_)))
    {
        return;
    }
    let zero = || Expr::Value(Value::Number("0".to_owned(), false).into());
    let mut ordered = parameters.iter().map(|_| zero()).collect::<Vec<_>>();
    for (index, argument) in std::mem::take(&mut list.args).into_iter().enumerate() {
        let (place, value) = match argument {
            FunctionArg::Named {
                name,
                arg: FunctionArgExpr::Expr(value),
                ..
            } => (
                parameters.iter().position(|known| *known == name.value),
                value,
            ),
            FunctionArg::ExprNamed {
                name: Expr::Identifier(name),
                arg: FunctionArgExpr::Expr(value),
                ..
            } => (
                parameters.iter().position(|known| *known == name.value),
                value,
            ),
            FunctionArg::Unnamed(FunctionArgExpr::Expr(value)) => (Some(index), value),
            _ => continue,
        };
        if let Some(slot) = place.and_then(|place| ordered.get_mut(place)) {
            *slot = value;
        }
    }
    list.args = ordered
        .into_iter()
        .map(|value| FunctionArg::Unnamed(FunctionArgExpr::Expr(value)))
        .collect();
}

fn strip(expr: &Expr) -> &Expr {
    match expr {
        Expr::Nested(inner) => strip(inner),
        other => other,
    }
}

fn binary(left: Expr, op: BinaryOperator, right: Expr) -> Expr {
    Expr::BinaryOp {
        left: Box::new(left),
        op,
        right: Box::new(right),
    }
}

fn equal_tuples(left: &[Expr], right: &[Expr]) -> Expr {
    let mut all = None;
    for (left, right) in left.iter().zip(right) {
        let equal = binary(left.clone(), BinaryOperator::Eq, right.clone());
        all = Some(match all {
            None => equal,
            Some(before) => binary(before, BinaryOperator::And, equal),
        });
    }
    all.unwrap_or_else(|| Expr::Value(Value::Boolean(true).into()))
}

fn is_limit_all(expr: &Expr) -> bool {
    matches!(
        expr,
        Expr::Value(ValueWithSpan {
            value: Value::Null,
            ..
        })
    ) || matches!(expr, Expr::Identifier(ident) if ident.value.eq_ignore_ascii_case("all"))
}

/// What PostgreSQL says of `$0`, and of the `:name` that sqlparser takes for a parameter.
fn no_parameter(name: &str) -> SqlError {
    if name.starts_with('$') {
        SqlError::new(SqlState("42P02"), format!("there is no parameter {name}"))
    } else {
        let near = name.chars().next().unwrap_or(':');
        SqlError::new(
            SqlState::SYNTAX_ERROR,
            format!("syntax error at or near \"{near}\""),
        )
    }
}

fn limit_operand(expr: &mut Expr) {
    protect(expr);
    if matches!(
        expr,
        Expr::Value(ValueWithSpan {
            value: Value::Placeholder(_),
            ..
        })
    ) {
        *expr = operator("cast bigint", vec![take(expr)]);
    }
}

fn take_frame(function: &mut Function) -> Option<WindowFrame> {
    match &mut function.over {
        Some(WindowType::WindowSpec(spec)) => {
            for item in &mut spec.order_by {
                protect(&mut item.expr);
            }
            spec.window_frame.take()
        }
        _ => None,
    }
}

/// The name of a called function: of `pg_catalog` it loses its schema.
pub fn function_name(name: &ObjectName) -> String {
    let parts = name
        .0
        .iter()
        .map(|part| match part {
            ObjectNamePart::Identifier(ident) => ident.value.clone(),
            other => other.to_string(),
        })
        .collect::<Vec<_>>();
    match parts.as_slice() {
        [schema, name] if schema == "pg_catalog" || schema == "information_schema" => name.clone(),
        [name] => name.to_ascii_lowercase(),
        _ => parts.join("."),
    }
}

fn argument_expressions(arguments: &mut FunctionArguments) -> Result<Vec<Expr>, SqlError> {
    let list = match arguments {
        FunctionArguments::None => return Ok(Vec::new()),
        FunctionArguments::Subquery(query) => {
            return Ok(vec![Expr::Subquery(query.clone())]);
        }
        FunctionArguments::List(list) => list,
    };
    take_arguments(std::mem::take(&mut list.args))
}

fn take_arguments(arguments: Vec<FunctionArg>) -> Result<Vec<Expr>, SqlError> {
    arguments
        .into_iter()
        .map(|argument| match argument {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(expr))
            | FunctionArg::Named {
                arg: FunctionArgExpr::Expr(expr),
                ..
            }
            | FunctionArg::ExprNamed {
                arg: FunctionArgExpr::Expr(expr),
                ..
            } => Ok(expr),
            other => Err(SqlError::unsupported(format!("the argument \"{other}\""))),
        })
        .collect()
}

fn rewrite_one(expr: &mut Expr, frame: Option<WindowFrame>) -> Result<Option<Expr>, SqlError> {
    let replacement = match expr {
        Expr::Value(ValueWithSpan {
            value: Value::Number(digits, long),
            ..
        }) => {
            if *long {
                return Ok(None);
            }
            operator(&format!("number {digits}"), Vec::new())
        }
        Expr::Value(_) | Expr::Identifier(_) => return Ok(None),
        // `schema.table.column`: resolved relations stand under their table name alone.
        Expr::CompoundIdentifier(parts) if parts.len() > 2 => {
            Expr::CompoundIdentifier(parts.split_off(parts.len() - 2))
        }
        Expr::CompoundIdentifier(_) => return Ok(None),
        Expr::Nested(inner) => take_box(inner),
        Expr::Collate { expr: inner, .. } => take_box(inner),
        Expr::Cast {
            kind,
            expr: inner,
            data_type,
            ..
        } => {
            let name = if matches!(kind, CastKind::TryCast | CastKind::SafeCast) {
                format!("try_cast {data_type}")
            } else {
                format!("cast {data_type}")
            };
            operator(&name, vec![take_box(inner)])
        }
        Expr::TypedString(typed) => {
            let value = typed.value.clone().into_string().unwrap_or_default();
            operator(&format!("cast {}", typed.data_type), vec![text(value)])
        }
        Expr::Interval(interval) => {
            let mut written = String::new();
            if let Some(field) = &interval.leading_field {
                written = format!(" {field}");
            }
            match interval.value.as_ref() {
                Expr::Value(value) => {
                    let value = value.clone().into_string().unwrap_or_default();
                    // `INTERVAL '1-2' YEAR TO MONTH` is read by the interval parser's own units.
                    operator("cast interval", vec![text(format!("{value}{written}"))])
                }
                _ => return Err(SqlError::unsupported("an interval of an expression")),
            }
        }
        Expr::UnaryOp { op, expr: inner } => match op {
            UnaryOperator::Minus => operator("negate", vec![take_box(inner)]),
            UnaryOperator::Plus => take_box(inner),
            UnaryOperator::PGAbs => call("abs", vec![take_box(inner)]),
            UnaryOperator::PGSquareRoot => call("sqrt", vec![take_box(inner)]),
            UnaryOperator::PGCubeRoot => call("cbrt", vec![take_box(inner)]),
            UnaryOperator::BitwiseNot => call("~", vec![take_box(inner)]),
            _ => return Ok(None),
        },
        Expr::InList {
            expr: needle,
            list,
            negated,
        } => {
            let mut arguments = vec![take_box(needle)];
            arguments.append(list);
            operator(if *negated { "not_in" } else { "in" }, arguments)
        }
        Expr::Between {
            expr: value,
            negated,
            low,
            high,
        } => {
            let name = if *negated { "not_between" } else { "between" };
            operator(name, vec![take_box(value), take_box(low), take_box(high)])
        }
        Expr::IsDistinctFrom(left, right) => {
            operator("distinct", vec![take_box(left), take_box(right)])
        }
        Expr::IsNotDistinctFrom(left, right) => {
            operator("not_distinct", vec![take_box(left), take_box(right)])
        }
        Expr::Like {
            negated,
            expr: value,
            pattern,
            escape_char,
            any: false,
        } => like(
            if *negated { "not_like" } else { "like" },
            take_box(value),
            take_box(pattern),
            escape_char,
        ),
        Expr::ILike {
            negated,
            expr: value,
            pattern,
            escape_char,
            any: false,
        } => like(
            if *negated { "not_ilike" } else { "ilike" },
            take_box(value),
            take_box(pattern),
            escape_char,
        ),
        Expr::SimilarTo {
            negated,
            expr: value,
            pattern,
            ..
        } => operator(
            if *negated { "not_similar" } else { "similar" },
            vec![take_box(value), take_box(pattern)],
        ),
        Expr::Case {
            operand,
            conditions,
            else_result,
            ..
        } => {
            let mut arguments = Vec::new();
            let name = format!("case {} {}", operand.is_some(), else_result.is_some());
            if let Some(operand) = operand {
                arguments.push(take_box(operand));
            }
            for branch in conditions {
                arguments.push(take(&mut branch.condition));
                arguments.push(take(&mut branch.result));
            }
            if let Some(otherwise) = else_result {
                arguments.push(take_box(otherwise));
            }
            operator(&name, arguments)
        }
        Expr::AtTimeZone {
            timestamp,
            time_zone,
        } => call("timezone", vec![take_box(time_zone), take_box(timestamp)]),
        Expr::Extract {
            field, expr: value, ..
        } => {
            let field = field.to_string().trim_matches('\'').to_ascii_lowercase();
            call("extract", vec![text(field), take_box(value)])
        }
        Expr::Ceil {
            expr: value,
            field: CeilFloorKind::DateTimeField(_),
        } => call("ceil", vec![take_box(value)]),
        Expr::Floor {
            expr: value,
            field: CeilFloorKind::DateTimeField(_),
        } => call("floor", vec![take_box(value)]),
        Expr::Position { expr: needle, r#in } => {
            call("position", vec![take_box(r#in), take_box(needle)])
        }
        Expr::Substring {
            expr: value,
            substring_from,
            substring_for,
            ..
        } => {
            let mut arguments = vec![take_box(value)];
            match (substring_from, substring_for) {
                (Some(from), length) => {
                    arguments.push(take_box(from));
                    if let Some(length) = length {
                        arguments.push(take_box(length));
                    }
                }
                (None, Some(length)) => {
                    arguments.push(operator("number 1", Vec::new()));
                    arguments.push(take_box(length));
                }
                (None, None) => {}
            }
            call("substring", arguments)
        }
        Expr::Trim {
            trim_where,
            trim_what,
            expr: value,
            trim_characters,
        } => {
            let mut arguments = vec![take_box(value)];
            if let Some(what) = trim_what {
                arguments.push(take_box(what));
            } else if let Some(characters) = trim_characters {
                arguments.extend(characters.drain(..).take(1));
            }
            let name = match trim_where {
                Some(TrimWhereField::Leading) => "ltrim",
                Some(TrimWhereField::Trailing) => "rtrim",
                _ => "btrim",
            };
            call(name, arguments)
        }
        Expr::Overlay {
            expr: value,
            overlay_what,
            overlay_from,
            overlay_for,
        } => {
            let mut arguments = vec![
                take_box(value),
                take_box(overlay_what),
                take_box(overlay_from),
            ];
            if let Some(length) = overlay_for {
                arguments.push(take_box(length));
            }
            call("overlay", arguments)
        }
        Expr::Array(array) => operator("array", std::mem::take(&mut array.elem)),
        Expr::CompoundFieldAccess { root, access_chain } => {
            let mut value = take_box(root);
            for access in access_chain.drain(..) {
                value = match access {
                    AccessExpr::Subscript(Subscript::Index { index }) => {
                        operator("subscript", vec![value, index])
                    }
                    AccessExpr::Subscript(Subscript::Slice {
                        lower_bound,
                        upper_bound,
                        ..
                    }) => {
                        let bound = |bound: Option<Expr>| bound.unwrap_or_else(null);
                        operator("slice", vec![value, bound(lower_bound), bound(upper_bound)])
                    }
                    AccessExpr::Dot(field) => {
                        return Err(SqlError::unsupported(format!("field \"{field}\" of a row")));
                    }
                };
            }
            value
        }
        Expr::AnyOp {
            left,
            compare_op,
            right,
            ..
        } if !matches!(right.as_ref(), Expr::Subquery(_)) => operator(
            &format!("any {compare_op}"),
            vec![take_box(left), take_box(right)],
        ),
        Expr::AllOp {
            left,
            compare_op,
            right,
        } if !matches!(right.as_ref(), Expr::Subquery(_)) => operator(
            &format!("all {compare_op}"),
            vec![take_box(left), take_box(right)],
        ),
        Expr::BinaryOp {
            op: BinaryOperator::PGCustomBinaryOperator(parts),
            left,
            right,
        } => {
            let name = parts.last().cloned().unwrap_or_default();
            let Some(op) = typing::binary_operator(&name) else {
                return Err(SqlError::new(
                    SqlState::UNDEFINED_FUNCTION,
                    format!("operator does not exist: {name}"),
                ));
            };
            binary(take_box(left), op, take_box(right))
        }
        Expr::Function(function) => return rewrite_call(function, frame),
        Expr::Prefixed { value, .. } => take_box(value),
        _ => return Ok(None),
    };
    Ok(Some(replacement))
}

fn like(name: &str, value: Expr, pattern: Expr, escape: &Option<ValueWithSpan>) -> Expr {
    let mut arguments = vec![value, pattern];
    if let Some(escape) = escape {
        arguments.push(text(escape.clone().into_string().unwrap_or_default()));
    }
    operator(name, arguments)
}

fn rewrite_call(
    function: &mut Function,
    frame: Option<WindowFrame>,
) -> Result<Option<Expr>, SqlError> {
    let name = function_name(&function.name);
    let position = function.name.span().start.column;
    let windowed = function.over.is_some();
    if let Some(WindowType::WindowSpec(spec)) = &mut function.over {
        spec.window_frame = frame;
    }
    let aggregate = AGGREGATES.contains(&name.as_str());
    if aggregate || (windowed && WINDOWS.contains(&name.as_str())) {
        return rewrite_aggregate(function, &name);
    }
    if WINDOWS.contains(&name.as_str()) {
        return Err(SqlError::new(
            SqlState("42P20"),
            format!("window function {name} requires an OVER clause"),
        ));
    }
    let arguments = argument_expressions(&mut function.args)?;
    Ok(Some(operator(
        &format!("call@{position} {name}"),
        arguments,
    )))
}

fn set_name(function: &mut Function, name: &str) {
    function.name = ObjectName(vec![ObjectNamePart::Identifier(Ident::new(name))]);
}

/// Wraps the aggregate's arguments so that the binder can bring them to the types with which
/// DataFusion's aggregate gives PostgreSQL's result.
fn wrap_arguments(function: &mut Function, wrap: impl Fn(usize, Expr) -> Expr) {
    if let FunctionArguments::List(list) = &mut function.args {
        for (index, argument) in list.args.iter_mut().enumerate() {
            if let FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) = argument {
                let inner = take(expr);
                *expr = wrap(index, inner);
            }
        }
    }
}

fn rewrite_aggregate(function: &mut Function, name: &str) -> Result<Option<Expr>, SqlError> {
    set_name(function, name);
    let rebuilt = |function: &mut Function| Expr::Function(function.clone());
    Ok(Some(match name {
        "sum" => {
            wrap_arguments(function, |_, expr| operator("sum_argument", vec![expr]));
            operator("sum_result", vec![rebuilt(function)])
        }
        "avg" => {
            let mut count = function.clone();
            set_name(&mut count, "count");
            set_name(function, "sum");
            wrap_arguments(function, |_, expr| operator("avg_argument", vec![expr]));
            wrap_arguments(&mut count, |_, expr| operator("avg_argument", vec![expr]));
            operator("average", vec![rebuilt(function), Expr::Function(count)])
        }
        "min" | "max" => {
            wrap_arguments(function, |_, expr| operator("extreme_argument", vec![expr]));
            let shape = first_argument(function);
            let extreme = operator("extreme_result", vec![rebuilt(function)]);
            match shape {
                Some(shape) if function.over.is_some() => operator("retype", vec![extreme, shape]),
                _ => extreme,
            }
        }
        "first_value" | "last_value" | "any_value" | "nth_value" | "lag" | "lead" => {
            wrap_arguments(function, |index, expr| {
                if index == 0 {
                    operator("typed", vec![expr])
                } else {
                    expr
                }
            });
            // The type's own name is lost on the way through DataFusion's aggregate.
            let shape = first_argument(function);
            match shape {
                Some(shape) if function.over.is_some() => {
                    operator("retype", vec![rebuilt(function), shape])
                }
                _ => rebuilt(function),
            }
        }
        "row_number" | "rank" | "dense_rank" => operator("cast bigint", vec![rebuilt(function)]),
        "ntile" => operator("cast integer", vec![rebuilt(function)]),
        "grouping" => operator("cast integer", vec![rebuilt(function)]),
        "every" => {
            set_name(function, "bool_and");
            rebuilt(function)
        }
        "string_agg" => {
            wrap_arguments(function, |_, expr| operator("cast text", vec![expr]));
            rebuilt(function)
        }
        "array_agg" => {
            wrap_arguments(function, |_, expr| operator("typed", vec![expr]));
            rebuilt(function)
        }
        "json_agg" | "jsonb_agg" => {
            let json = if name == "json_agg" {
                "to_json"
            } else {
                "to_jsonb"
            };
            set_name(function, "array_agg");
            wrap_arguments(function, |_, expr| call(json, vec![expr]));
            call(&format!("{name}_result"), vec![rebuilt(function)])
        }
        "json_object_agg" | "jsonb_object_agg" => {
            let json = if name == "json_object_agg" {
                "to_json"
            } else {
                "to_jsonb"
            };
            let mut keys = function.clone();
            set_name(&mut keys, "array_agg");
            keep_argument(&mut keys, 0);
            wrap_arguments(&mut keys, |_, expr| operator("cast text", vec![expr]));
            set_name(function, "array_agg");
            keep_argument(function, 1);
            wrap_arguments(function, |_, expr| call(json, vec![expr]));
            call(
                &format!("{name}_result"),
                vec![Expr::Function(keys), rebuilt(function)],
            )
        }
        "percentile_cont" | "stddev" | "stddev_pop" | "stddev_samp" | "variance" | "var_pop"
        | "var_samp" | "corr" | "covar_pop" | "covar_samp" | "regr_avgx" | "regr_avgy"
        | "regr_intercept" | "regr_r2" | "regr_slope" | "regr_sxx" | "regr_sxy" | "regr_syy"
        | "regr_count" => {
            if name == "variance" {
                set_name(function, "var_samp");
            }
            wrap_arguments(function, |_, expr| {
                operator("cast double precision", vec![expr])
            });
            for item in &mut function.within_group {
                let inner = take(&mut item.expr);
                item.expr = operator("cast double precision", vec![inner]);
            }
            match name {
                "regr_count" => operator("cast bigint", vec![rebuilt(function)]),
                _ => rebuilt(function),
            }
        }
        "mode" | "percentile_disc" => {
            // The chosen value is one of the values: picked out of the sorted array of them.
            let Some(item) = function.within_group.pop() else {
                return Err(SqlError::unsupported(format!(
                    "{name} without WITHIN GROUP"
                )));
            };
            let fraction = argument_expressions(&mut function.args)?;
            let mut order = item.clone();
            order.expr = operator("typed", vec![take(&mut order.expr)]);
            let value = order.expr.clone();
            set_name(function, "array_agg");
            function.args = FunctionArguments::List(ast::FunctionArgumentList {
                duplicate_treatment: None,
                args: vec![FunctionArg::Unnamed(FunctionArgExpr::Expr(value))],
                clauses: vec![ast::FunctionArgumentClause::OrderBy(vec![order])],
            });
            let mut arguments = vec![rebuilt(function)];
            arguments.extend(fraction);
            call(&format!("{name}_of_sorted"), arguments)
        }
        _ => rebuilt(function),
    }))
}

fn first_argument(function: &Function) -> Option<Expr> {
    match &function.args {
        FunctionArguments::List(list) => match list.args.first()? {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr.clone()),
            _ => None,
        },
        _ => None,
    }
}

fn keep_argument(function: &mut Function, index: usize) {
    if let FunctionArguments::List(list) = &mut function.args
        && index < list.args.len()
    {
        let kept = list.args.swap_remove(index);
        list.args = vec![kept];
    }
}

/// `FROM f(...)` becomes `FROM LATERAL (SELECT f(...) AS column) AS f`.
fn function_relation(factor: &mut TableFactor) -> Result<Option<TableFactor>, SqlError> {
    let (calls, alias, ordinality) = match factor {
        TableFactor::Table {
            name,
            args: Some(arguments),
            alias,
            with_ordinality,
            ..
        } => {
            let arguments = take_arguments(std::mem::take(&mut arguments.args))?;
            (
                vec![(function_name(name), arguments)],
                alias.take(),
                *with_ordinality,
            )
        }
        TableFactor::Function {
            name,
            args,
            alias,
            with_ordinality,
            ..
        } => {
            let arguments = take_arguments(std::mem::take(args))?;
            (
                vec![(function_name(name), arguments)],
                alias.take(),
                *with_ordinality,
            )
        }
        TableFactor::UNNEST {
            array_exprs,
            alias,
            with_ordinality,
            ..
        } => {
            let calls = array_exprs
                .drain(..)
                .map(|array| ("unnest".to_owned(), vec![array]))
                .collect::<Vec<_>>();
            (calls, alias.take(), *with_ordinality)
        }
        TableFactor::TableFunction {
            expr: Expr::Function(function),
            alias,
        } => {
            let arguments = argument_expressions(&mut function.args)?;
            (
                vec![(function_name(&function.name), arguments)],
                alias.take(),
                false,
            )
        }
        _ => return Ok(None),
    };
    let mut calls = calls;
    if let [(name, arguments)] = calls.as_slice()
        && name == "unnest"
        && arguments.len() > 1
    {
        calls = arguments
            .iter()
            .map(|array| ("unnest".to_owned(), vec![array.clone()]))
            .collect();
    }
    let relation_name = calls
        .first()
        .map(|(name, _)| name.clone())
        .unwrap_or_default();
    let single = calls.len() == 1;
    let mut items: Vec<(Expr, String)> = Vec::new();
    for (name, arguments) in &calls {
        let columns = set_returning::columns(name);
        if columns.is_empty() {
            // The one column of a function takes the relation's alias as its name.
            let label = match &alias {
                Some(alias) if single && !name.contains("_array_elements") => {
                    alias.name.value.clone()
                }
                _ if name.contains("_array_elements") => "value".to_owned(),
                _ => name.clone(),
            };
            items.push((plain_call(name, arguments.clone()), label));
        } else {
            for (function, label) in columns {
                items.push((plain_call(function, arguments.clone()), (*label).to_owned()));
            }
        }
    }
    if ordinality {
        let (name, arguments) = calls.first().cloned().unwrap_or_default();
        let function = set_returning::columns(&name)
            .first()
            .map_or(name.as_str(), |c| c.0);
        let whole = plain_call(&format!("{function}{}", set_returning::WHOLE), arguments);
        items.push((
            plain_call("array_ordinals", vec![whole]),
            "ordinality".to_owned(),
        ));
    }
    let mut template = Select::clone(&EMPTY_SELECT);
    template.projection = items
        .into_iter()
        .map(|(expr, label)| SelectItem::ExprWithAlias {
            expr,
            alias: Ident::with_quote('"', label),
        })
        .collect();
    let subquery = Query {
        with: None,
        body: Box::new(SetExpr::Select(Box::new(template))),
        order_by: None,
        limit_clause: None,
        fetch: None,
        locks: Vec::new(),
        for_clause: None,
        settings: None,
        format_clause: None,
        pipe_operators: Vec::new(),
    };
    let alias = alias.unwrap_or_else(|| ast::TableAlias {
        explicit: true,
        name: Ident::with_quote('"', relation_name),
        columns: Vec::new(),
        at: None,
    });
    Ok(Some(TableFactor::Derived {
        lateral: true,
        subquery: Box::new(subquery),
        alias: Some(alias),
        sample: None,
    }))
}

/// A call as it would have been written; the visitor rewrites it when it comes by.
fn plain_call(name: &str, arguments: Vec<Expr>) -> Expr {
    Expr::Function(Function {
        name: ObjectName(vec![ObjectNamePart::Identifier(Ident::new(name))]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(ast::FunctionArgumentList {
            duplicate_treatment: None,
            args: arguments
                .into_iter()
                .map(|expr| FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)))
                .collect(),
            clauses: Vec::new(),
        }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    })
}

/// A query around nothing, to be filled.
pub static EMPTY_QUERY: std::sync::LazyLock<Query> = std::sync::LazyLock::new(|| Query {
    with: None,
    body: Box::new(SetExpr::Select(Box::new(Select::clone(&EMPTY_SELECT)))),
    order_by: None,
    limit_clause: None,
    fetch: None,
    locks: Vec::new(),
    for_clause: None,
    settings: None,
    format_clause: None,
    pipe_operators: Vec::new(),
});

/// A select list without a FROM, to be filled.
pub static EMPTY_SELECT: std::sync::LazyLock<Select> = std::sync::LazyLock::new(|| Select {
    select_token: ast::helpers::attached_token::AttachedToken::empty(),
    optimizer_hints: Vec::new(),
    distinct: None,
    select_modifiers: None,
    top: None,
    top_before_distinct: false,
    projection: Vec::new(),
    exclude: None,
    into: None,
    from: Vec::new(),
    lateral_views: Vec::new(),
    prewhere: None,
    selection: None,
    connect_by: Vec::new(),
    group_by: GroupByExpr::Expressions(Vec::new(), Vec::new()),
    cluster_by: Vec::new(),
    distribute_by: Vec::new(),
    sort_by: Vec::new(),
    having: None,
    named_window: Vec::new(),
    qualify: None,
    window_before_qualify: false,
    value_table_mode: None,
    flavor: ast::SelectFlavor::Standard,
});
