//! Gives every operator, literal, cast and call its meaning and its PostgreSQL type.
//!
//! DataFusion's SQL planner hands each binary operator here with the schema it stands over;
//! [`super::rewrite`] has turned everything else into operators too. So this is the one place where
//! PostgreSQL's typing rules live: unknown literals take the other side's type, integers divide as
//! integers, `date - date` is an integer, a call resolves among overloads.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use boathouse_catalog::types::ColumnType;
use boathouse_sql::ast::BinaryOperator;
use datafusion::common::tree_node::TreeNode;
use datafusion::common::{DFSchema, Result as DataFusionResult, ScalarValue};
use datafusion::logical_expr::expr::{
    BinaryExpr, InList, Like, Placeholder, ScalarFunction, Unnest,
};
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::{
    Between, Case, ColumnarValue, Expr, ExprSchemable, Operator, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature, Volatility, lit,
};

use super::naming::MARK;
use super::rewrite::{LIST, PREFIX};
use super::typing::{
    Strictness, Typist, Written, common_type, integer_digits, oid_type, retype, typed_literal,
    written_type_name,
};
use crate::error::{SqlError, SqlState};
use crate::function::interval;
use crate::function::registry::{self, is_integer, is_number, is_text, type_name};
use crate::function::scalar::{FunctionContext, external};
use crate::function::set_returning;
use crate::function::text_io::parse_numeric;

/// Plans expressions of one query.
pub struct Binder {
    pub context: Arc<FunctionContext>,
    pub parameters: Mutex<BTreeMap<usize, ColumnType>>,
    /// Whether a constant was read with the time of planning: see [`text_io::holds_time`].
    ///
    /// [`text_io::holds_time`]: crate::function::text_io::holds_time
    pub holds_time: AtomicBool,
    /// DataFusion's own functions, for those that PostgreSQL has under the same name and that
    /// nothing here replaces.
    pub native: Arc<std::collections::HashMap<String, Arc<ScalarUDF>>>,
}

impl fmt::Debug for Binder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Binder")
    }
}

impl ExprPlanner for Binder {
    fn plan_binary_op(
        &self,
        raw: RawBinaryExpr,
        schema: &DFSchema,
    ) -> DataFusionResult<PlannerResult<RawBinaryExpr>> {
        let RawBinaryExpr { op, left, right } = raw;
        let planned = match &op {
            BinaryOperator::Custom(name) if name == LIST => Ok(list(left, right)),
            BinaryOperator::Custom(name) if name.starts_with(PREFIX) => {
                let name = name.trim_start_matches(PREFIX);
                let (count, name) = name.split_once(' ').unwrap_or(("0", name));
                let arguments = match count {
                    "0" => Vec::new(),
                    "1" => vec![left],
                    _ => unlist(left),
                };
                self.construct(name, arguments, schema)
            }
            _ => self.binary(&op, left, right, schema),
        };
        planned.map(PlannerResult::Planned).map_err(external)
    }
}

/// Holds the arguments of an operator of ours until it is met.
#[derive(Debug, PartialEq, Eq, Hash)]
struct ArgumentList(Signature);

impl ScalarUDFImpl for ArgumentList {
    fn name(&self) -> &str {
        "\u{1}list"
    }

    fn signature(&self) -> &Signature {
        &self.0
    }

    fn return_type(
        &self,
        _types: &[datafusion::arrow::datatypes::DataType],
    ) -> DataFusionResult<datafusion::arrow::datatypes::DataType> {
        Ok(datafusion::arrow::datatypes::DataType::Null)
    }

    fn invoke_with_args(&self, _arguments: ScalarFunctionArgs) -> DataFusionResult<ColumnarValue> {
        Ok(ColumnarValue::Scalar(ScalarValue::Null))
    }
}

fn list(left: Expr, right: Expr) -> Expr {
    let mut arguments = unlist(left);
    arguments.extend(unlist(right));
    let holder = ArgumentList(Signature::variadic_any(Volatility::Immutable));
    Expr::ScalarFunction(ScalarFunction::new_udf(
        Arc::new(ScalarUDF::new_from_impl(holder)),
        arguments,
    ))
}

fn unlist(expr: Expr) -> Vec<Expr> {
    match expr {
        Expr::ScalarFunction(function) if function.func.name() == LIST => function.args,
        other => vec![other],
    }
}

fn is_unknown(column_type: &Option<ColumnType>) -> bool {
    column_type.is_none()
}

/// The operator as error messages print it.
fn symbol(op: &BinaryOperator) -> String {
    match op {
        BinaryOperator::PGExp => "^".to_owned(),
        BinaryOperator::NotEq => "<>".to_owned(),
        other => other.to_string(),
    }
}

impl Binder {
    fn typist(&self) -> Typist<'_> {
        Typist {
            context: &self.context,
            parameters: &self.parameters,
            holds_time: &self.holds_time,
        }
    }

    /// An operator that the rewriter made.
    fn construct(
        &self,
        name: &str,
        mut arguments: Vec<Expr>,
        schema: &DFSchema,
    ) -> Result<Expr, SqlError> {
        let typist = self.typist();
        let (verb, rest) = name.split_once(' ').unwrap_or((name, ""));
        match verb {
            "number" => number(rest),
            "cast" | "try_cast" => {
                let strictness = if verb == "cast" {
                    Strictness::Explicit
                } else {
                    Strictness::Try
                };
                self.written_cast(arguments.swap_remove(0), rest, strictness, schema)
            }
            // A literal or parameter of no type becomes text where a type has to be settled.
            "typed" => {
                let value = arguments.swap_remove(0);
                match typist.type_of(&value, schema)? {
                    Some(_) => Ok(value),
                    None => typist.coerce(value, &ColumnType::Text, schema),
                }
            }
            "retype" => {
                let shape = arguments.swap_remove(1);
                let value = arguments.swap_remove(0);
                match typist.type_of(&shape, schema)? {
                    Some(column_type) => {
                        let known = typist.type_of(&value, schema)?;
                        if known.is_some_and(|known| known.arrow() == column_type.arrow()) {
                            Ok(retype(value, &column_type, schema))
                        } else {
                            Ok(value)
                        }
                    }
                    None => Ok(value),
                }
            }
            "negate" => self.negate(arguments.swap_remove(0), schema),
            "in" | "not_in" => {
                let (mut values, _) = self.comparable(arguments, "=", schema)?;
                let needle = values.remove(0);
                Ok(Expr::InList(InList::new(
                    Box::new(needle),
                    values,
                    verb == "not_in",
                )))
            }
            "between" | "not_between" => {
                let (mut values, _) = self.comparable(arguments, ">=", schema)?;
                let high = values.swap_remove(2);
                let low = values.swap_remove(1);
                let value = values.swap_remove(0);
                Ok(Expr::Between(Between::new(
                    Box::new(value),
                    verb == "not_between",
                    Box::new(low),
                    Box::new(high),
                )))
            }
            "distinct" | "not_distinct" => {
                let (mut values, _) = self.comparable(arguments, "=", schema)?;
                let right = values.swap_remove(1);
                let left = values.swap_remove(0);
                let operator = if verb == "distinct" {
                    Operator::IsDistinctFrom
                } else {
                    Operator::IsNotDistinctFrom
                };
                Ok(binary_expr(left, operator, right))
            }
            "like" | "not_like" | "ilike" | "not_ilike" | "similar" | "not_similar" => {
                let escape = (arguments.len() > 2).then(|| arguments.swap_remove(2));
                let mut values = arguments
                    .into_iter()
                    .map(|argument| self.textual(argument, schema))
                    .collect::<Result<Vec<_>, _>>()?;
                let mut pattern = values.swap_remove(1);
                let value = values.swap_remove(0);
                // DataFusion knows the backslash only.
                if let Some(escape) = escape {
                    pattern = self.call("like_escape", vec![pattern, escape], 0, schema)?;
                }
                let negated = verb.starts_with("not_");
                if verb.ends_with("similar") {
                    let pattern = self.call("similar_to_escape", vec![pattern], 0, schema)?;
                    let operator = if negated {
                        Operator::RegexNotMatch
                    } else {
                        Operator::RegexMatch
                    };
                    return Ok(binary_expr(value, operator, pattern));
                }
                Ok(Expr::Like(Like::new(
                    negated,
                    Box::new(value),
                    Box::new(pattern),
                    None,
                    verb.ends_with("ilike"),
                )))
            }
            "case" => self.case(rest, arguments, schema),
            "array" => self.array(arguments, schema),
            "subscript" => {
                let index = typist.coerce(arguments.swap_remove(1), &ColumnType::BigInt, schema)?;
                let value = arguments.swap_remove(0);
                let element = match typist.type_of(&value, schema)? {
                    Some(ColumnType::Array(element)) => *element,
                    Some(ColumnType::Jsonb) => {
                        return self.call("->", vec![value, index], 0, schema);
                    }
                    Some(other) => {
                        return Err(SqlError::new(
                            SqlState::DATATYPE_MISMATCH,
                            format!(
                                "cannot subscript type {} because it does not support subscripting",
                                type_name(&other)
                            ),
                        ));
                    }
                    None => ColumnType::Text,
                };
                let value = self.native_call("array_element", vec![value, index])?;
                Ok(retype(value, &element, schema))
            }
            "slice" => self.native_call("array_slice", arguments),
            "any" | "all" => self.any(rest, verb == "all", arguments, schema),
            "sum_argument" => {
                let value = arguments.swap_remove(0);
                match typist.type_of(&value, schema)? {
                    Some(ColumnType::BigInt) => typist.coerce(
                        value,
                        &ColumnType::Numeric {
                            precision: Some(19),
                            scale: 0,
                        },
                        schema,
                    ),
                    Some(ColumnType::Interval) => self.interval_argument(value, schema),
                    Some(ColumnType::Integer) => self.widened(value, schema),
                    Some(number) if is_number(&number) => Ok(value),
                    other => Err(registry::undefined("sum", &[other])),
                }
            }
            "sum_result" => {
                let sum = arguments.swap_remove(0);
                match self.interval_sums(&sum, schema)? {
                    Some(sums) => self.call("interval_of_sums", sums, 0, schema),
                    None => Ok(sum),
                }
            }
            // The least of intervals is the one of the least key.
            "extreme_argument" => {
                let value = arguments.swap_remove(0);
                match typist.type_of(&value, schema)? {
                    Some(ColumnType::Interval) => self.call("interval_key", vec![value], 0, schema),
                    Some(_) => Ok(value),
                    None => typist.coerce(value, &ColumnType::Text, schema),
                }
            }
            "extreme_result" => {
                let extreme = arguments.swap_remove(0);
                if aggregated(&extreme).is_some_and(|of| is_call(of, "interval_key")) {
                    return self.call("interval_of_key", vec![extreme], 0, schema);
                }
                Ok(extreme)
            }
            "avg_argument" => {
                let value = arguments.swap_remove(0);
                match typist.type_of(&value, schema)? {
                    Some(ColumnType::Real) => typist.coerce(value, &ColumnType::Double, schema),
                    Some(ColumnType::BigInt) => typist.coerce(
                        value,
                        &ColumnType::Numeric {
                            precision: Some(19),
                            scale: 0,
                        },
                        schema,
                    ),
                    Some(ColumnType::Interval) => self.interval_argument(value, schema),
                    Some(number) if is_number(&number) => Ok(value),
                    other => Err(registry::undefined("avg", &[other])),
                }
            }
            "average" => {
                let count = arguments.swap_remove(1);
                let sum = arguments.swap_remove(0);
                if let Some(mut sums) = self.interval_sums(&sum, schema)? {
                    sums.push(count);
                    return self.call("interval_average", sums, 0, schema);
                }
                match typist.type_of(&sum, schema)? {
                    Some(ColumnType::Double | ColumnType::Real) => {
                        let count = typist.coerce(count, &ColumnType::Double, schema)?;
                        Ok(binary_expr(sum, Operator::Divide, count))
                    }
                    _ => self.call("average_of", vec![sum, count], 0, schema),
                }
            }
            "assign" => {
                let (written, column) = match rest.split_once(MARK) {
                    Some((written, column)) => (written, Some(column)),
                    None => (rest, None),
                };
                let value = arguments.swap_remove(0);
                match written_type_name(written) {
                    Some(Written::Type(wanted)) => self.assign(value, &wanted, column, schema),
                    _ => Ok(value),
                }
            }
            "condition" => self.condition(rest, arguments.swap_remove(0), schema),
            _ => {
                if let Some(position) = verb.strip_prefix("call@") {
                    return self.call(rest, arguments, position.parse().unwrap_or(0), schema);
                }
                if verb == "call" {
                    return self.call(rest, arguments, 0, schema);
                }
                Err(SqlError::internal(format!(
                    "no construct is called \"{verb}\""
                )))
            }
        }
    }

    fn written_cast(
        &self,
        value: Expr,
        written: &str,
        strictness: Strictness,
        schema: &DFSchema,
    ) -> Result<Expr, SqlError> {
        let typist = self.typist();
        match written_type_name(written) {
            Some(Written::Type(column_type)) => {
                typist.cast(value, &column_type, schema, strictness)
            }
            Some(Written::Catalog(name)) => match typist.type_of(&value, schema)? {
                Some(ref given) if is_integer(given) || *given == oid_type() => {
                    self.call(&format!("{name}_name"), vec![value], 0, schema)
                }
                _ => self.call(&format!("{name}_oid"), vec![value], 0, schema),
            },
            None => Err(SqlError::new(
                SqlState::UNDEFINED_OBJECT,
                format!("type \"{}\" does not exist", written.to_ascii_lowercase()),
            )),
        }
    }

    /// Casts a value on its way into a column.
    pub fn assign(
        &self,
        value: Expr,
        wanted: &ColumnType,
        column: Option<&str>,
        schema: &DFSchema,
    ) -> Result<Expr, SqlError> {
        let typist = self.typist();
        if let Some(given) = typist.type_of(&value, schema)?
            && !crate::function::cast::is_assignable(&given, wanted)
        {
            let column = column.map_or("column".to_owned(), |name| format!("column \"{name}\""));
            return Err(SqlError::new(
                SqlState::DATATYPE_MISMATCH,
                format!(
                    "{column} is of type {} but expression is of type {}",
                    type_name(wanted),
                    type_name(&given)
                ),
            )
            .hint("You will need to rewrite or cast the expression."));
        }
        typist.coerce(value, wanted, schema)
    }

    /// What a clause asks of a row, which nothing but a Boolean answers.
    fn condition(&self, clause: &str, value: Expr, schema: &DFSchema) -> Result<Expr, SqlError> {
        let typist = self.typist();
        match typist.type_of(&value, schema)? {
            Some(given) if given != ColumnType::Boolean => Err(SqlError::new(
                SqlState::DATATYPE_MISMATCH,
                format!(
                    "argument of {clause} must be type boolean, not type {}",
                    type_name(&given)
                ),
            )),
            _ => typist.coerce(value, &ColumnType::Boolean, schema),
        }
    }

    /// An operand of a text operator.
    fn textual(&self, value: Expr, schema: &DFSchema) -> Result<Expr, SqlError> {
        let typist = self.typist();
        match typist.type_of(&value, schema)? {
            Some(ref given) if is_text(given) => Ok(value),
            Some(given) => Err(SqlError::new(
                SqlState::UNDEFINED_FUNCTION,
                format!("operator does not exist: {} ~~ unknown", type_name(&given)),
            )
            .hint(NO_OPERATOR)),
            None => typist.coerce(value, &ColumnType::Text, schema),
        }
    }

    fn case(
        &self,
        shape: &str,
        mut arguments: Vec<Expr>,
        schema: &DFSchema,
    ) -> Result<Expr, SqlError> {
        let typist = self.typist();
        let (operand, otherwise) = shape.split_once(' ').unwrap_or(("false", "false"));
        let operand = if operand == "true" {
            Some(arguments.remove(0))
        } else {
            None
        };
        let otherwise = if otherwise == "true" {
            arguments.pop()
        } else {
            None
        };
        let mut conditions = Vec::new();
        let mut results = Vec::new();
        let mut arguments = arguments.into_iter();
        while let (Some(condition), Some(result)) = (arguments.next(), arguments.next()) {
            conditions.push(match &operand {
                Some(operand) => {
                    self.binary(&BinaryOperator::Eq, operand.clone(), condition, schema)?
                }
                None => typist.coerce(condition, &ColumnType::Boolean, schema)?,
            });
            results.push(result);
        }
        let has_otherwise = otherwise.is_some();
        results.extend(otherwise);
        let (mut results, common) = typist.unify(results, schema, "CASE")?;
        let otherwise = if has_otherwise {
            results.pop().map(Box::new)
        } else {
            None
        };
        // DataFusion makes ANDs and ORs of a Boolean CASE, which compute a branch for the rows of others; one
        // with an operand it leaves as it is.
        let mut computed = conditions
            .iter()
            .skip(1)
            .chain(&results)
            .chain(otherwise.as_deref());
        let as_it_is = common == ColumnType::Boolean && computed.any(may_fail);
        let branches = conditions
            .into_iter()
            .zip(results)
            .map(|(condition, result)| (Box::new(condition), Box::new(result)))
            .collect();
        let case = Expr::Case(Case {
            expr: as_it_is.then(|| Box::new(lit(true))),
            when_then_expr: branches,
            else_expr: otherwise,
        });
        Ok(retype(case, &common, schema))
    }

    fn array(&self, arguments: Vec<Expr>, schema: &DFSchema) -> Result<Expr, SqlError> {
        let (arguments, element) = self.typist().unify(arguments, schema, "ARRAY")?;
        let array = self.native_call("make_array", arguments)?;
        Ok(retype(array, &ColumnType::Array(Box::new(element)), schema))
    }

    /// `x op ANY (array)` and `x op ALL (array)`.
    fn any(
        &self,
        operator: &str,
        all: bool,
        mut arguments: Vec<Expr>,
        schema: &DFSchema,
    ) -> Result<Expr, SqlError> {
        let typist = self.typist();
        let array = arguments.swap_remove(1);
        let value = arguments.swap_remove(0);
        let element = match (
            typist.type_of(&value, schema)?,
            typist.type_of(&array, schema)?,
        ) {
            (_, Some(ColumnType::Array(element))) => *element,
            (Some(element), None) => element,
            (None, None) => ColumnType::Text,
            (_, Some(other)) => {
                return Err(SqlError::new(
                    SqlState::WRONG_OBJECT_TYPE,
                    format!(
                        "op ANY/ALL (array) requires array on right side, not {}",
                        type_name(&other)
                    ),
                ));
            }
        };
        let array = typist.coerce(array, &ColumnType::Array(Box::new(element.clone())), schema)?;
        // A constant array is a list of alternatives: it can prune.
        if let Expr::Literal(ScalarValue::List(list), _) = &array
            && ((operator == "=" && !all) || (operator == "<>" && all))
            && datafusion::arrow::array::Array::len(list.as_ref()) == 1
        {
            let elements = list.value(0);
            let values = (0..elements.len())
                .map(|row| {
                    ScalarValue::try_from_array(&elements, row)
                        .map(|scalar| typed_literal(scalar, &element))
                        .map_err(super::failure::from_datafusion)
                })
                .collect::<Result<Vec<_>, _>>()?;
            let mut whole = vec![value];
            whole.extend(values);
            let (mut values, _) = self.comparable(whole, "=", schema)?;
            let needle = values.remove(0);
            if values.is_empty() {
                return Ok(Expr::Literal(ScalarValue::Boolean(Some(all)), None));
            }
            return Ok(Expr::InList(InList::new(Box::new(needle), values, all)));
        }
        let value = match typist.type_of(&value, schema)? {
            Some(given) if common_type(&given, &element).is_some() => {
                typist.coerce(value, &element, schema)?
            }
            _ => typist.coerce(value, &element, schema)?,
        };
        match (operator, all) {
            ("=", false) => self.native_call("array_has", vec![array, value]),
            ("<>", true) => Ok(Expr::Not(Box::new(
                self.native_call("array_has", vec![array, value])?,
            ))),
            _ => {
                let name = if all { "all_of_array" } else { "any_of_array" };
                let operator = typed_literal(
                    ScalarValue::Utf8(Some(operator.to_owned())),
                    &ColumnType::Text,
                );
                self.call(name, vec![value, operator, array], 0, schema)
            }
        }
    }

    fn negate(&self, value: Expr, schema: &DFSchema) -> Result<Expr, SqlError> {
        match self.typist().type_of(&value, schema)? {
            Some(ColumnType::Interval) => {
                let minus_one =
                    typed_literal(ScalarValue::Float64(Some(-1.0)), &ColumnType::Double);
                self.call("*", vec![value, minus_one], 0, schema)
            }
            Some(ref given) if is_number(given) => Ok(Expr::Negative(Box::new(value))),
            None => {
                let value = self.typist().coerce(value, &ColumnType::Double, schema)?;
                Ok(Expr::Negative(Box::new(value)))
            }
            Some(other) => Err(SqlError::new(
                SqlState::UNDEFINED_FUNCTION,
                format!("operator does not exist: - {}", type_name(&other)),
            )
            .hint(NO_OPERATOR)),
        }
    }

    /// Brings operands of a comparison together.
    fn comparable(
        &self,
        mut values: Vec<Expr>,
        operator: &str,
        schema: &DFSchema,
    ) -> Result<(Vec<Expr>, ColumnType), SqlError> {
        let typist = self.typist();
        let types = values
            .iter()
            .map(|value| typist.type_of(value, schema))
            .collect::<Result<Vec<_>, _>>()?;
        let mut common: Option<ColumnType> = None;
        for given in types.iter().flatten() {
            common = Some(match common {
                None => given.clone(),
                Some(before) => common_type(&before, given).ok_or_else(|| {
                    no_operator(operator, &Some(before.clone()), &Some(given.clone()))
                })?,
            });
        }
        let common = common.unwrap_or(ColumnType::Text);
        let numeric = matches!(common, ColumnType::Numeric { .. });
        for (value, given) in values.iter_mut().zip(&types) {
            let constant = matches!(value, Expr::Literal(_, _));
            // DataFusion compares decimals of different scale, and integers with them, itself; a
            // cast around the column would only be in the way of pruning.
            if numeric && !constant && given.as_ref().is_some_and(is_number) {
                let keep = matches!(given, Some(ColumnType::Numeric { .. }))
                    || given.as_ref().is_some_and(is_integer);
                if keep {
                    continue;
                }
            }
            let taken = std::mem::replace(value, Expr::Literal(ScalarValue::Null, None));
            *value = typist.coerce(taken, &common, schema)?;
            if common == ColumnType::Interval {
                let taken = std::mem::replace(value, Expr::Literal(ScalarValue::Null, None));
                *value = self.interval_order(taken, schema)?;
            }
        }
        Ok((values, common))
    }

    /// `smallint + constant`, to be summed, as an addition of DataFusion's over 8 bytes, of which the
    /// optimizer makes one sum and one count for any number of constants. Such an addition overflows
    /// in no row, so that no error is lost; the sum of 4 bytes has 8 anyway.
    fn widened(&self, value: Expr, schema: &DFSchema) -> Result<Expr, SqlError> {
        let Expr::ScalarFunction(call) = &value else {
            return Ok(value);
        };
        let (operand, constant) = match (call.func.name(), call.args.as_slice()) {
            (
                "integer+",
                [
                    operand,
                    Expr::Literal(ScalarValue::Int32(Some(constant)), _),
                ]
                | [
                    Expr::Literal(ScalarValue::Int32(Some(constant)), _),
                    operand,
                ],
            ) => (operand, i64::from(*constant)),
            (
                "integer-",
                [
                    operand,
                    Expr::Literal(ScalarValue::Int32(Some(constant)), _),
                ],
            ) => (operand, -i64::from(*constant)),
            _ => return Ok(value),
        };
        let Expr::Cast(cast) = operand else {
            return Ok(value);
        };
        let typist = self.typist();
        let fits = [i16::MIN, i16::MAX]
            .into_iter()
            .all(|operand| i32::try_from(i64::from(operand) + constant).is_ok());
        if !fits || typist.type_of(&cast.expr, schema)? != Some(ColumnType::SmallInt) {
            return Ok(value);
        }
        // A cast would leave its operand's name, which another sum or count of it has already.
        let operand = self.call("int8", vec![(*cast.expr).clone()], 0, schema)?;
        let constant = Expr::Literal(ScalarValue::Int64(Some(constant)), None);
        Ok(binary_expr(operand, Operator::Plus, constant))
    }

    /// What intervals are compared by.
    pub fn interval_order(&self, value: Expr, schema: &DFSchema) -> Result<Expr, SqlError> {
        self.call("interval_order", vec![value], 0, schema)
    }

    /// One field of an interval to be summed; [`Self::interval_sums`] makes the others of it.
    fn interval_argument(&self, value: Expr, schema: &DFSchema) -> Result<Expr, SqlError> {
        self.call(interval::FIELDS[2], vec![value], 0, schema)
    }

    /// The sums of an interval's fields, where `sum` adds up intervals.
    fn interval_sums(&self, sum: &Expr, schema: &DFSchema) -> Result<Option<Vec<Expr>>, SqlError> {
        let Some(Expr::ScalarFunction(argument)) = aggregated(sum) else {
            return Ok(None);
        };
        if argument.func.name() != interval::FIELDS[2] {
            return Ok(None);
        }
        let distinct = match sum {
            Expr::AggregateFunction(function) => function.params.distinct,
            Expr::WindowFunction(function) => function.params.distinct,
            _ => false,
        };
        if distinct {
            return Err(SqlError::unsupported("DISTINCT in a sum of intervals")
                .hint("sum them over a SELECT DISTINCT"));
        }
        interval::FIELDS
            .iter()
            .map(|field| {
                let field = self.call(field, argument.args.clone(), 0, schema)?;
                let mut sum = sum.clone();
                match &mut sum {
                    Expr::AggregateFunction(function) => function.params.args = vec![field],
                    Expr::WindowFunction(function) => function.params.args = vec![field],
                    _ => {}
                }
                Ok(sum)
            })
            .collect::<Result<Vec<_>, SqlError>>()
            .map(Some)
    }

    /// A column of function names compares with an oid as `regproc` does, by the function's name.
    fn function_names(
        &self,
        left: Expr,
        right: Expr,
        schema: &DFSchema,
    ) -> Result<(Expr, Expr), SqlError> {
        let holds_names = |value: &Expr| {
            matches!(value, Expr::Column(_))
                && value.to_field(schema).is_ok_and(|(_, field)| {
                    field
                        .metadata()
                        .contains_key(crate::relation::FUNCTION_NAME)
                })
        };
        let named = |value: Expr| -> Result<Expr, SqlError> {
            let given = self.typist().type_of(&value, schema)?;
            if given.as_ref().is_some_and(is_integer) {
                return self.call("regproc_name", vec![value], 0, schema);
            }
            Ok(value)
        };
        Ok(match (holds_names(&left), holds_names(&right)) {
            (true, false) => (left, named(right)?),
            (false, true) => (named(left)?, right),
            _ => (left, right),
        })
    }

    /// A binary operator as it was written.
    fn binary(
        &self,
        op: &BinaryOperator,
        left: Expr,
        right: Expr,
        schema: &DFSchema,
    ) -> Result<Expr, SqlError> {
        let typist = self.typist();
        let comparison = match op {
            BinaryOperator::Eq => Some(Operator::Eq),
            BinaryOperator::NotEq => Some(Operator::NotEq),
            BinaryOperator::Lt => Some(Operator::Lt),
            BinaryOperator::LtEq => Some(Operator::LtEq),
            BinaryOperator::Gt => Some(Operator::Gt),
            BinaryOperator::GtEq => Some(Operator::GtEq),
            _ => None,
        };
        if let Some(operator) = comparison {
            let (left, right) = self.function_names(left, right, schema)?;
            let (mut values, _) = self.comparable(vec![left, right], &symbol(op), schema)?;
            let right = values.swap_remove(1);
            let left = values.swap_remove(0);
            return Ok(binary_expr(left, operator, right));
        }
        match op {
            BinaryOperator::And | BinaryOperator::Or => {
                let left = typist.coerce(left, &ColumnType::Boolean, schema)?;
                let right = typist.coerce(right, &ColumnType::Boolean, schema)?;
                if *op == BinaryOperator::Or {
                    return Ok(binary_expr(left, Operator::Or, right));
                }
                let right = super::guard::divisions(right, &left);
                Ok(binary_expr(left, Operator::And, right))
            }
            BinaryOperator::PGRegexMatch
            | BinaryOperator::PGRegexIMatch
            | BinaryOperator::PGRegexNotMatch
            | BinaryOperator::PGRegexNotIMatch => {
                let operator = match op {
                    BinaryOperator::PGRegexMatch => Operator::RegexMatch,
                    BinaryOperator::PGRegexIMatch => Operator::RegexIMatch,
                    BinaryOperator::PGRegexNotMatch => Operator::RegexNotMatch,
                    _ => Operator::RegexNotIMatch,
                };
                let left = self.textual(left, schema)?;
                let right = self.textual(right, schema)?;
                Ok(binary_expr(left, operator, right))
            }
            BinaryOperator::PGLikeMatch
            | BinaryOperator::PGILikeMatch
            | BinaryOperator::PGNotLikeMatch
            | BinaryOperator::PGNotILikeMatch => {
                let left = self.textual(left, schema)?;
                let right = self.textual(right, schema)?;
                let negated = matches!(
                    op,
                    BinaryOperator::PGNotLikeMatch | BinaryOperator::PGNotILikeMatch
                );
                let insensitive = matches!(
                    op,
                    BinaryOperator::PGILikeMatch | BinaryOperator::PGNotILikeMatch
                );
                Ok(Expr::Like(Like::new(
                    negated,
                    Box::new(left),
                    Box::new(right),
                    None,
                    insensitive,
                )))
            }
            BinaryOperator::StringConcat => self.concat(left, right, schema),
            BinaryOperator::PGExp | BinaryOperator::BitwiseXor => {
                self.call("power", vec![left, right], 0, schema)
            }
            BinaryOperator::Plus
            | BinaryOperator::Minus
            | BinaryOperator::Multiply
            | BinaryOperator::Divide
            | BinaryOperator::Modulo => self.arithmetic(op, left, right, schema),
            other => {
                let name = symbol(other);
                let types = [
                    typist.type_of(&left, schema)?,
                    typist.type_of(&right, schema)?,
                ];
                match self.call(&name, vec![left, right], 0, schema) {
                    Err(error) if error.state == SqlState::UNDEFINED_FUNCTION => {
                        Err(no_operator(&name, &types[0], &types[1]))
                    }
                    done => done,
                }
            }
        }
    }

    fn concat(&self, left: Expr, right: Expr, schema: &DFSchema) -> Result<Expr, SqlError> {
        let typist = self.typist();
        let types = (
            typist.type_of(&left, schema)?,
            typist.type_of(&right, schema)?,
        );
        match &types {
            (Some(ColumnType::Array(_)), _) | (_, Some(ColumnType::Array(_))) => {
                let (function, arguments, array) = match (&types.0, &types.1) {
                    (Some(array @ ColumnType::Array(_)), Some(ColumnType::Array(_))) => {
                        ("array_concat", vec![left, right], array.clone())
                    }
                    (Some(array @ ColumnType::Array(element)), Some(_)) => {
                        let right = typist.coerce(right, element, schema)?;
                        ("array_append", vec![left, right], array.clone())
                    }
                    (Some(array @ ColumnType::Array(_)), None) => {
                        let right = typist.coerce(right, array, schema)?;
                        ("array_concat", vec![left, right], array.clone())
                    }
                    (Some(_), Some(array @ ColumnType::Array(element))) => {
                        let left = typist.coerce(left, element, schema)?;
                        ("array_prepend", vec![left, right], array.clone())
                    }
                    (_, Some(array)) => {
                        let left = typist.coerce(left, array, schema)?;
                        ("array_concat", vec![left, right], array.clone())
                    }
                    _ => return Err(no_operator("||", &types.0, &types.1)),
                };
                let joined = self.native_call(function, arguments)?;
                Ok(retype(joined, &array, schema))
            }
            (Some(ColumnType::Jsonb), _) | (_, Some(ColumnType::Jsonb)) => {
                self.call("||", vec![left, right], 0, schema)
            }
            (Some(first), Some(second)) if !is_text(first) && !is_text(second) => {
                Err(no_operator("||", &types.0, &types.1))
            }
            _ => {
                let left = typist.coerce(left, &ColumnType::Text, schema)?;
                let right = typist.coerce(right, &ColumnType::Text, schema)?;
                Ok(binary_expr(left, Operator::StringConcat, right))
            }
        }
    }

    fn arithmetic(
        &self,
        op: &BinaryOperator,
        left: Expr,
        right: Expr,
        schema: &DFSchema,
    ) -> Result<Expr, SqlError> {
        let typist = self.typist();
        let mut types = (
            typist.type_of(&left, schema)?,
            typist.type_of(&right, schema)?,
        );
        let (mut left, mut right) = (left, right);
        // An unknown operand takes the other's type; beside a moment it is an interval or a moment.
        let other_for = |known: &ColumnType| match (known, op) {
            (
                ColumnType::Date | ColumnType::Timestamp | ColumnType::TimestampTz,
                BinaryOperator::Plus,
            ) => ColumnType::Interval,
            (ColumnType::Interval, BinaryOperator::Multiply | BinaryOperator::Divide) => {
                ColumnType::Double
            }
            (other, _) => other.clone(),
        };
        match (&types.0, &types.1) {
            (None, None) => {
                types = (Some(ColumnType::Integer), Some(ColumnType::Integer));
                left = typist.coerce(left, &ColumnType::Integer, schema)?;
                right = typist.coerce(right, &ColumnType::Integer, schema)?;
            }
            (Some(known), None) => {
                let wanted = other_for(known);
                right = typist.coerce(right, &wanted, schema)?;
                types.1 = Some(wanted);
            }
            (None, Some(known)) => {
                let wanted = other_for(known);
                left = typist.coerce(left, &wanted, schema)?;
                types.0 = Some(wanted);
            }
            _ => {}
        }
        let (Some(first), Some(second)) = (&types.0, &types.1) else {
            return Err(no_operator(&symbol(op), &types.0, &types.1));
        };
        if !is_number(first) || !is_number(second) {
            return match self.call(&symbol(op), vec![left, right], 0, schema) {
                Err(error) if error.state == SqlState::UNDEFINED_FUNCTION => {
                    Err(no_operator(&symbol(op), &types.0, &types.1))
                }
                done => done,
            };
        }
        if matches!(first, ColumnType::Double | ColumnType::Real)
            || matches!(second, ColumnType::Double | ColumnType::Real)
        {
            let single = matches!((first, second), (ColumnType::Real, ColumnType::Real));
            let wanted = if single {
                ColumnType::Real
            } else {
                ColumnType::Double
            };
            let left = typist.coerce(left, &wanted, schema)?;
            let right = typist.coerce(right, &wanted, schema)?;
            return self.call(
                &format!("float{}", symbol(op)),
                vec![left, right],
                0,
                schema,
            );
        }
        if is_integer(first) && is_integer(second) {
            let wanted = common_type(first, second).unwrap_or(ColumnType::BigInt);
            let left = typist.coerce(left, &wanted, schema)?;
            let right = typist.coerce(right, &wanted, schema)?;
            return match op {
                BinaryOperator::Divide => Ok(binary_expr(left, Operator::Divide, right)),
                BinaryOperator::Modulo => Ok(binary_expr(left, Operator::Modulo, right)),
                _ => self.call(
                    &format!("integer{}", symbol(op)),
                    vec![left, right],
                    0,
                    schema,
                ),
            };
        }
        let left = self.decimal(left, first, schema)?;
        let right = self.decimal(right, second, schema)?;
        self.call(
            &format!("numeric{}", symbol(op)),
            vec![left, right],
            0,
            schema,
        )
    }

    /// An operand of decimal arithmetic, no wider than it has to be.
    fn decimal(
        &self,
        value: Expr,
        given: &ColumnType,
        schema: &DFSchema,
    ) -> Result<Expr, SqlError> {
        if !is_integer(given) {
            return Ok(value);
        }
        let digits = match &value {
            Expr::Literal(ScalarValue::Int32(Some(number)), _) => digits_of(i64::from(*number)),
            Expr::Literal(ScalarValue::Int64(Some(number)), _) => digits_of(*number),
            _ => integer_digits(given),
        };
        let wanted = ColumnType::Numeric {
            precision: Some(digits),
            scale: 0,
        };
        self.typist().coerce(value, &wanted, schema)
    }

    /// Calls a function of DataFusion's with arguments as they are.
    fn native_call(&self, name: &str, arguments: Vec<Expr>) -> Result<Expr, SqlError> {
        let function = self
            .native
            .get(name)
            .ok_or_else(|| SqlError::internal(format!("function \"{name}\" is not built in")))?;
        Ok(Expr::ScalarFunction(ScalarFunction::new_udf(
            Arc::clone(function),
            arguments,
        )))
    }

    /// The value of a subquery that may give one row only, told how many it gave.
    pub fn only_row(&self, value: Expr, count: Expr, schema: &DFSchema) -> Result<Expr, SqlError> {
        self.call("only_row", vec![value, count], 0, schema)
    }

    /// A call: PostgreSQL's function first, then one of DataFusion's of that name.
    fn call(
        &self,
        name: &str,
        arguments: Vec<Expr>,
        position: u64,
        schema: &DFSchema,
    ) -> Result<Expr, SqlError> {
        let typist = self.typist();
        let located = |error: SqlError| match (error.position, usize::try_from(position)) {
            (None, Ok(position)) if position > 0 => error.at(position),
            _ => error,
        };
        match name {
            "coalesce" => {
                let (values, common) = typist.unify(arguments, schema, "COALESCE")?;
                return Ok(retype(
                    self.native_call("coalesce", values)?,
                    &common,
                    schema,
                ));
            }
            "greatest" | "least" => {
                let construct = name.to_ascii_uppercase();
                let (values, common) = typist.unify(arguments, schema, &construct)?;
                if common == ColumnType::Interval {
                    let keys = values
                        .into_iter()
                        .map(|value| self.call("interval_key", vec![value], 0, schema))
                        .collect::<Result<Vec<_>, _>>()?;
                    let key = self.native_call(name, keys)?;
                    return self.call("interval_of_key", vec![key], 0, schema);
                }
                return Ok(retype(self.native_call(name, values)?, &common, schema));
            }
            "nullif" => {
                let given = match arguments.first() {
                    Some(first) => typist.type_of(first, schema)?,
                    None => None,
                };
                let whole = arguments.first().cloned();
                let (mut values, common) = self.comparable(arguments, "=", schema)?;
                if common == ColumnType::Interval
                    && let (Some(whole), Some(right), Some(left)) =
                        (whole, values.pop(), values.pop())
                {
                    let value = typist.coerce(whole, &common, schema)?;
                    let nothing =
                        typist.coerce(Expr::Literal(ScalarValue::Null, None), &common, schema)?;
                    return Ok(Expr::Case(Case {
                        expr: None,
                        when_then_expr: vec![(
                            Box::new(binary_expr(left, Operator::Eq, right)),
                            Box::new(nothing),
                        )],
                        else_expr: Some(Box::new(value)),
                    }));
                }
                let given = given.unwrap_or_else(|| common.clone());
                let null = self.native_call("nullif", values)?;
                return Ok(if given.arrow() == common.arrow() {
                    retype(null, &given, schema)
                } else {
                    typist.coerce(null, &given, schema)?
                });
            }
            "pg_typeof" => {
                let known = match arguments.first() {
                    Some(argument) => typist.type_of(argument, schema)?,
                    None => None,
                };
                let text = known.as_ref().map_or("unknown".to_owned(), type_name);
                return Ok(typed_literal(
                    ScalarValue::Utf8(Some(text)),
                    &ColumnType::Text,
                ));
            }
            "json_build_object" | "jsonb_build_object" | "json_build_array"
            | "jsonb_build_array" => {
                let object = name.ends_with("object");
                let json = if name.starts_with("jsonb") {
                    "to_jsonb"
                } else {
                    "to_json"
                };
                let arguments = arguments
                    .into_iter()
                    .enumerate()
                    .map(|(index, argument)| {
                        if object && index % 2 == 0 {
                            typist.coerce(argument, &ColumnType::Text, schema)
                        } else {
                            self.call(json, vec![argument], 0, schema)
                        }
                    })
                    .collect::<Result<Vec<_>, _>>()?;
                return self.call(&format!("{name}_of"), arguments, position, schema);
            }
            "unnest" => {
                let mut arguments = arguments;
                let Some(array) = arguments.pop() else {
                    return Err(located(registry::undefined("unnest", &[])));
                };
                let array = match typist.type_of(&array, schema)? {
                    Some(ColumnType::Array(_)) => array,
                    other => return Err(located(registry::undefined("unnest", &[other]))),
                };
                return Ok(Expr::Unnest(Unnest::new(array)));
            }
            _ => {}
        }
        let (base, whole) = match name.strip_suffix(set_returning::WHOLE) {
            Some(base) => (base, true),
            None => (name, false),
        };
        if base == "unnest" && whole {
            return arguments
                .into_iter()
                .next()
                .ok_or_else(|| SqlError::internal("unnest without an array"));
        }
        let types = arguments
            .iter()
            .map(|argument| typist.type_of(argument, schema))
            .collect::<Result<Vec<_>, _>>()?;
        let constants = arguments
            .iter()
            .map(|argument| match argument {
                Expr::Literal(value, _) => Some(value.clone()),
                _ => None,
            })
            .collect::<Vec<_>>();
        let resolved = match registry::resolve(base, &types, &constants) {
            Some(resolved) => resolved.map_err(located)?,
            None => {
                // A function of DataFusion's that PostgreSQL does not have is still useful.
                let Some(function) = self.native.get(base) else {
                    return Err(located(registry::undefined(base, &types)));
                };
                let arguments = arguments
                    .into_iter()
                    .map(|argument| match typist.type_of(&argument, schema)? {
                        Some(_) => Ok(argument),
                        None => typist.coerce(argument, &ColumnType::Text, schema),
                    })
                    .collect::<Result<Vec<_>, SqlError>>()?;
                let call = ScalarFunction::new_udf(Arc::clone(function), arguments);
                return Ok(Expr::ScalarFunction(call));
            }
        };
        let arguments = arguments
            .into_iter()
            .zip(&resolved.argument_types)
            .map(|(argument, wanted)| match wanted {
                Some(wanted) => typist.coerce(argument, wanted, schema),
                None => Ok(argument),
            })
            .collect::<Result<Vec<_>, _>>()?;
        let call = match &resolved.overload.body {
            crate::function::Body::Native(function) => {
                let native =
                    Expr::ScalarFunction(ScalarFunction::new_udf(Arc::clone(function), arguments));
                let known = typist.type_of(&native, schema)?;
                match known {
                    Some(known) if known == resolved.return_type => native,
                    _ => {
                        let field = Arc::new(resolved.return_type.to_field("call", true));
                        Expr::Cast(datafusion::logical_expr::Cast::new_from_field(
                            Box::new(native),
                            field,
                        ))
                    }
                }
            }
            _ => typist.call(
                Arc::clone(&resolved.overload),
                resolved.return_type,
                arguments,
            ),
        };
        if set_returning::is_set_returning(base) && !whole {
            let element = match typist.type_of(&call, schema)? {
                Some(ColumnType::Array(element)) => *element,
                _ => ColumnType::Text,
            };
            // The element's own name does not come through an unnest.
            return Ok(retype(Expr::Unnest(Unnest::new(call)), &element, schema));
        }
        Ok(call)
    }
}

pub const NO_OPERATOR: &str = "No operator matches the given name and argument types. You might \
                               need to add explicit type casts.";

fn no_operator(name: &str, left: &Option<ColumnType>, right: &Option<ColumnType>) -> SqlError {
    let shown = |given: &Option<ColumnType>| {
        if is_unknown(given) {
            "unknown".to_owned()
        } else {
            given.as_ref().map_or_else(String::new, type_name)
        }
    };
    SqlError::new(
        SqlState::UNDEFINED_FUNCTION,
        format!(
            "operator does not exist: {} {name} {}",
            shown(left),
            shown(right)
        ),
    )
    .hint(NO_OPERATOR)
}

/// What an aggregate is over.
fn aggregated(expr: &Expr) -> Option<&Expr> {
    match expr {
        Expr::AggregateFunction(function) => function.params.args.first(),
        Expr::WindowFunction(function) => function.params.args.first(),
        _ => None,
    }
}

/// Whether computing an expression can be an error: it calls, casts or calculates.
fn may_fail(expr: &Expr) -> bool {
    expr.exists(|expr| {
        Ok(match expr {
            Expr::ScalarFunction(_) | Expr::Cast(_) => true,
            Expr::BinaryExpr(binary) => binary.op.is_numerical_operators(),
            _ => false,
        })
    })
    .unwrap_or(true)
}

fn is_call(expr: &Expr, name: &str) -> bool {
    matches!(expr, Expr::ScalarFunction(function) if function.func.name() == name)
}

fn digits_of(number: i64) -> u8 {
    u8::try_from(number.unsigned_abs().to_string().len()).unwrap_or(19)
}

fn binary_expr(left: Expr, operator: Operator, right: Expr) -> Expr {
    Expr::BinaryExpr(BinaryExpr::new(Box::new(left), operator, Box::new(right)))
}

/// A number as PostgreSQL's lexer types it: integer, bigint, or numeric with its scale.
fn number(digits: &str) -> Result<Expr, SqlError> {
    let digits = digits.replace('_', "");
    if let Ok(value) = digits.parse::<i32>() {
        return Ok(Expr::Literal(ScalarValue::Int32(Some(value)), None));
    }
    if let Ok(value) = digits.parse::<i64>() {
        return Ok(Expr::Literal(ScalarValue::Int64(Some(value)), None));
    }
    let Some((unscaled, scale)) = parse_numeric(&digits) else {
        return match digits.parse::<f64>() {
            Ok(value) => Ok(Expr::Literal(ScalarValue::Float64(Some(value)), None)),
            Err(_) => Err(SqlError::new(
                SqlState::SYNTAX_ERROR,
                format!("trailing junk after numeric literal at or near \"{digits}\""),
            )),
        };
    };
    let needed = u8::try_from(unscaled.unsigned_abs().to_string().len()).unwrap_or(38);
    let precision = needed.max(u8::try_from(scale).unwrap_or(0)).clamp(1, 38);
    Ok(Expr::Literal(
        ScalarValue::Decimal128(Some(unscaled), precision, scale),
        None,
    ))
}

/// A parameter's number, for those that are left without a type.
pub fn untyped_parameter(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Placeholder(Placeholder { id, field: None }) => Some(id),
        _ => None,
    }
}
