//! What arithmetic and the operators of arrays do. An operator is a function named for its symbol.
//!
//! Number arithmetic is over whole columns and fails on overflow, where DataFusion's own wraps.

use std::sync::Arc;

use boathouse_catalog::types::ColumnType;
use datafusion::arrow::array::{Array, ArrayRef, AsArray, Datum, Decimal128Array, Scalar};
use datafusion::arrow::compute::cast;
use datafusion::arrow::compute::kernels::numeric;
use datafusion::arrow::datatypes::{DataType, Decimal128Type, Float32Type, Float64Type};
use datafusion::arrow::error::ArrowError;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::ColumnarValue;

use super::datetime::interval_micros;
use super::number::{QUOTIENT_SCALE, divide, out_of_range};
use super::registry::Builder;
use super::value::{Reader, Value};
use crate::error::SqlError;
use crate::query::failure::{division_by_zero, from_datafusion};

/// The most digits after the point that a product keeps.
const PRODUCT_SCALE_MAX: i8 = 24;

fn precision_scale(types: &[ColumnType], index: usize) -> (u8, i8) {
    match types.get(index) {
        Some(ColumnType::Numeric { precision, scale }) => (precision.unwrap_or(38), *scale),
        _ => (38, 0),
    }
}

fn sum_type(types: &[ColumnType], _: &[Option<ScalarValue>]) -> ColumnType {
    let ((p1, s1), (p2, s2)) = (precision_scale(types, 0), precision_scale(types, 1));
    let scale = s1.max(s2);
    let whole = (i16::from(p1) - i16::from(s1)).max(i16::from(p2) - i16::from(s2));
    numeric_type(whole + i16::from(scale) + 1, scale)
}

fn product_type(types: &[ColumnType], _: &[Option<ScalarValue>]) -> ColumnType {
    let ((p1, s1), (p2, s2)) = (precision_scale(types, 0), precision_scale(types, 1));
    let scale = (s1 + s2).min(PRODUCT_SCALE_MAX);
    numeric_type(i16::from(p1) + i16::from(p2) + 1, scale)
}

fn quotient_type(types: &[ColumnType], _: &[Option<ScalarValue>]) -> ColumnType {
    let ((_, s1), (_, s2)) = (precision_scale(types, 0), precision_scale(types, 1));
    ColumnType::Numeric {
        precision: Some(38),
        scale: s1.max(s2).max(QUOTIENT_SCALE),
    }
}

fn remainder_type(types: &[ColumnType], _: &[Option<ScalarValue>]) -> ColumnType {
    let ((_, s1), (_, s2)) = (precision_scale(types, 0), precision_scale(types, 1));
    ColumnType::Numeric {
        precision: Some(38),
        scale: s1.max(s2),
    }
}

fn numeric_type(precision: i16, scale: i8) -> ColumnType {
    let precision = u8::try_from(precision.clamp(1, 38)).unwrap_or(38);
    ColumnType::Numeric {
        precision: Some(precision.max(scale.unsigned_abs())),
        scale,
    }
}

type Kernel = fn(&dyn Datum, &dyn Datum) -> Result<ArrayRef, ArrowError>;

/// Applies an arrow kernel to columns or constants.
fn apply(
    arguments: &[ColumnarValue],
    data_type: &DataType,
    kernel: Kernel,
) -> Result<ColumnarValue, SqlError> {
    let [left, right] = arguments else {
        return Err(SqlError::internal("an operator takes two operands"));
    };
    let failed = |error: ArrowError| match error {
        ArrowError::ArithmeticOverflow(_) if data_type.is_integer() => {
            super::value::out_of_range(data_type)
        }
        other => from_datafusion(other.into()),
    };
    let scalar = |value: &ScalarValue| value.to_scalar().map_err(from_datafusion);
    let array = match (left, right) {
        (ColumnarValue::Array(left), ColumnarValue::Array(right)) => kernel(left, right),
        (ColumnarValue::Array(left), ColumnarValue::Scalar(right)) => kernel(left, &scalar(right)?),
        (ColumnarValue::Scalar(left), ColumnarValue::Array(right)) => kernel(&scalar(left)?, right),
        (ColumnarValue::Scalar(left), ColumnarValue::Scalar(right)) => {
            let left: Scalar<ArrayRef> = scalar(left)?;
            let right: Scalar<ArrayRef> = scalar(right)?;
            let one = kernel(&left, &right).map_err(failed)?;
            let one = fit(one, data_type)?;
            let value = ScalarValue::try_from_array(&one, 0).map_err(from_datafusion)?;
            return Ok(ColumnarValue::Scalar(value));
        }
    };
    Ok(ColumnarValue::Array(fit(
        array.map_err(failed)?,
        data_type,
    )?))
}

/// A decimal kernel chooses its own precision; the plan promised another.
fn fit(array: ArrayRef, data_type: &DataType) -> Result<ArrayRef, SqlError> {
    if array.data_type() == data_type {
        return Ok(array);
    }
    cast(&array, data_type).map_err(|error| from_datafusion(error.into()))
}

fn float_divide(
    arguments: &[ColumnarValue],
    data_type: &DataType,
    _: usize,
) -> Result<ColumnarValue, SqlError> {
    if let Some(divisor) = arguments.get(1) {
        let zero = match divisor {
            ColumnarValue::Scalar(value) => match value {
                ScalarValue::Float64(Some(value)) => *value == 0.0,
                ScalarValue::Float32(Some(value)) => *value == 0.0,
                _ => false,
            },
            ColumnarValue::Array(array) => match array.data_type() {
                DataType::Float64 => array
                    .as_primitive::<Float64Type>()
                    .iter()
                    .flatten()
                    .any(|value| value == 0.0),
                DataType::Float32 => array
                    .as_primitive::<Float32Type>()
                    .iter()
                    .flatten()
                    .any(|value| value == 0.0),
                _ => false,
            },
        };
        if zero {
            return Err(division_by_zero());
        }
    }
    apply(arguments, data_type, numeric::div)
}

/// Divides decimal columns, rounding half away from zero; the common case needs no 256-bit step.
/// A divisor of zero gives what `by_zero` says.
fn decimal_divide(
    arguments: &[ColumnarValue],
    data_type: &DataType,
    row_count: usize,
    by_zero: fn() -> Result<Option<i128>, SqlError>,
) -> Result<ColumnarValue, SqlError> {
    let DataType::Decimal128(precision, scale) = data_type else {
        return Err(SqlError::internal("a quotient is not numeric"));
    };
    let constant = arguments
        .iter()
        .all(|argument| matches!(argument, ColumnarValue::Scalar(_)));
    let rows = if constant { 1 } else { row_count };
    let mut arrays = Vec::with_capacity(2);
    for argument in arguments {
        let array = argument.to_array(rows).map_err(from_datafusion)?;
        let DataType::Decimal128(_, scale) = array.data_type() else {
            return Err(SqlError::internal(
                "an operand of a quotient is not numeric",
            ));
        };
        arrays.push((array.as_primitive::<Decimal128Type>().clone(), *scale));
    }
    let [(top, top_scale), (bottom, bottom_scale)] = arrays.as_slice() else {
        return Err(SqlError::internal("a quotient has two operands"));
    };
    let shift = i32::from(*scale) + i32::from(*bottom_scale) - i32::from(*top_scale);
    let factor = u32::try_from(shift)
        .ok()
        .and_then(|shift| 10i128.checked_pow(shift));
    let limit = 10u128.pow(u32::from(*precision).min(38));
    let quotient = |dividend: i128, divisor: i128| {
        if divisor == 0 {
            return by_zero();
        }
        let quotient = match factor.and_then(|factor| dividend.checked_mul(factor)) {
            Some(scaled) => rounded_quotient(scaled, divisor),
            None => {
                divide(dividend, *top_scale, divisor, *bottom_scale, *scale)?
                    .as_numeric()
                    .0
            }
        };
        if quotient.unsigned_abs() >= limit {
            return Err(out_of_range());
        }
        Ok(Some(quotient))
    };
    let quotients = top
        .iter()
        .zip(bottom)
        .map(|(dividend, divisor)| match (dividend, divisor) {
            (Some(dividend), Some(divisor)) => quotient(dividend, divisor),
            _ => Ok(None),
        })
        .collect::<Result<Decimal128Array, SqlError>>()?;
    let array = quotients
        .with_precision_and_scale(*precision, *scale)
        .map_err(|error| from_datafusion(error.into()))?;
    let array: ArrayRef = Arc::new(array);
    if constant {
        let value = ScalarValue::try_from_array(&array, 0).map_err(from_datafusion)?;
        return Ok(ColumnarValue::Scalar(value));
    }
    Ok(ColumnarValue::Array(array))
}

/// Neither is zero divided by, nor is the dividend the least of all: it is a decimal.
fn rounded_quotient(dividend: i128, divisor: i128) -> i128 {
    let quotient = dividend.wrapping_div(divisor);
    let remainder = dividend.wrapping_rem(divisor);
    if remainder.unsigned_abs().saturating_mul(2) < divisor.unsigned_abs() {
        quotient
    } else if (dividend < 0) == (divisor < 0) {
        quotient + 1
    } else {
        quotient - 1
    }
}

fn numeric_divide(
    arguments: &[ColumnarValue],
    data_type: &DataType,
    row_count: usize,
) -> Result<ColumnarValue, SqlError> {
    decimal_divide(arguments, data_type, row_count, || Err(division_by_zero()))
}

/// The average of a sum over a count; that of nothing is NULL.
fn average_of(
    arguments: &[ColumnarValue],
    data_type: &DataType,
    row_count: usize,
) -> Result<ColumnarValue, SqlError> {
    decimal_divide(arguments, data_type, row_count, || Ok(None))
}

fn numeric_multiply(
    arguments: &[ColumnarValue],
    data_type: &DataType,
    _: usize,
) -> Result<ColumnarValue, SqlError> {
    apply(arguments, data_type, numeric::mul)
}

fn numeric_remainder(
    arguments: &[ColumnarValue],
    data_type: &DataType,
    _: usize,
) -> Result<ColumnarValue, SqlError> {
    apply(arguments, data_type, numeric::rem)
}

pub fn register(functions: &mut Builder) {
    functions.columns("integer+(any, any) $0", None, |arguments, data_type, _| {
        apply(arguments, data_type, numeric::add)
    });
    functions.columns("integer-(any, any) $0", None, |arguments, data_type, _| {
        apply(arguments, data_type, numeric::sub)
    });
    functions.columns("integer*(any, any) $0", None, |arguments, data_type, _| {
        apply(arguments, data_type, numeric::mul)
    });
    functions.columns(
        "int8(smallint) bigint",
        None,
        |arguments, data_type, _| match arguments {
            [value] => value.cast_to(data_type, None).map_err(from_datafusion),
            _ => Err(SqlError::internal("int8 takes one argument")),
        },
    );
    functions.columns("float+(any, any) $0", None, |arguments, data_type, _| {
        apply(arguments, data_type, numeric::add)
    });
    functions.columns("float-(any, any) $0", None, |arguments, data_type, _| {
        apply(arguments, data_type, numeric::sub)
    });
    functions.columns("float*(any, any) $0", None, |arguments, data_type, _| {
        apply(arguments, data_type, numeric::mul)
    });
    functions.columns("float/(any, any) $0", None, float_divide);
    functions.columns("float%(any, any) $0", None, |arguments, data_type, _| {
        apply(arguments, data_type, numeric::rem)
    });
    functions.columns(
        "numeric+(numeric, numeric) numeric",
        Some(sum_type),
        |arguments, data_type, _| apply(arguments, data_type, numeric::add),
    );
    functions.columns(
        "numeric-(numeric, numeric) numeric",
        Some(sum_type),
        |arguments, data_type, _| apply(arguments, data_type, numeric::sub),
    );
    functions.columns(
        "numeric*(numeric, numeric) numeric",
        Some(product_type),
        numeric_multiply,
    );
    functions.columns(
        "numeric/(numeric, numeric) numeric",
        Some(quotient_type),
        numeric_divide,
    );
    functions.columns(
        "average_of(numeric, numeric) numeric",
        Some(quotient_type),
        average_of,
    );
    functions.columns(
        "numeric%(numeric, numeric) numeric",
        Some(remainder_type),
        numeric_remainder,
    );

    functions.rows("&(bigint, bigint) bigint", |_, cells| {
        Ok(Value::Int(cells[0].as_int() & cells[1].as_int()))
    });
    functions.rows("&(integer, integer) integer", |_, cells| {
        Ok(Value::Int(cells[0].as_int() & cells[1].as_int()))
    });
    functions.rows("|(bigint, bigint) bigint", |_, cells| {
        Ok(Value::Int(cells[0].as_int() | cells[1].as_int()))
    });
    functions.rows("|(integer, integer) integer", |_, cells| {
        Ok(Value::Int(cells[0].as_int() | cells[1].as_int()))
    });
    functions.rows("#(bigint, bigint) bigint", |_, cells| {
        Ok(Value::Int(cells[0].as_int() ^ cells[1].as_int()))
    });
    functions.rows("<<(bigint, integer) bigint", |_, cells| {
        Ok(Value::Int(
            cells[0].as_int().wrapping_shl(cells[1].as_int() as u32),
        ))
    });
    functions.rows("<<(integer, integer) integer", |_, cells| {
        Ok(Value::Int(i64::from(
            (cells[0].as_int() as i32).wrapping_shl(cells[1].as_int() as u32),
        )))
    });
    functions.rows(">>(bigint, integer) bigint", |_, cells| {
        Ok(Value::Int(
            cells[0].as_int().wrapping_shr(cells[1].as_int() as u32),
        ))
    });
    functions.rows(">>(integer, integer) integer", |_, cells| {
        Ok(Value::Int(i64::from(
            (cells[0].as_int() as i32).wrapping_shr(cells[1].as_int() as u32),
        )))
    });
    functions.rows("~(bigint) bigint", |_, cells| {
        Ok(Value::Int(!cells[0].as_int()))
    });
    functions.rows("~(integer) integer", |_, cells| {
        Ok(Value::Int(!cells[0].as_int()))
    });

    functions.rows("&&(anyarray, anyarray) boolean", |context, cells| {
        let (left, right) = (elements(&cells[0], context)?, elements(&cells[1], context)?);
        Ok(Value::Bool(left.iter().any(|element| {
            element.is_some() && right.contains(element)
        })))
    });
    functions.rows("@>(anyarray, anyarray) boolean", |context, cells| {
        let (left, right) = (elements(&cells[0], context)?, elements(&cells[1], context)?);
        Ok(Value::Bool(right.iter().all(|element| {
            element.is_some() && left.contains(element)
        })))
    });
    functions.rows("<@(anyarray, anyarray) boolean", |context, cells| {
        let (left, right) = (elements(&cells[0], context)?, elements(&cells[1], context)?);
        Ok(Value::Bool(left.iter().all(|element| {
            element.is_some() && right.contains(element)
        })))
    });
    functions.rows("any_of_array(any, text, anyarray) boolean", |_, cells| {
        of_array(cells, false)
    });
    functions.rows("all_of_array(any, text, anyarray) boolean", |_, cells| {
        of_array(cells, true)
    });
    functions.rows("array_over(anyarray) text[]", |_, cells| {
        match cells[0].as_list() {
            Some(list) if !list.is_empty() => Err(SqlError::unsupported(
                "ARRAY(SELECT ... FROM unnest(...)) over an array with elements",
            )),
            _ => super::set_returning::texts(Vec::<String>::new()),
        }
    });
    functions.rows_with_null("only_row(any, bigint) $0", |_, cells| {
        if cells[1].as_int() > 1 {
            return Err(SqlError::new(
                crate::error::SqlState("21000"),
                "more than one row returned by a subquery used as an expression",
            ));
        }
        Ok(own(&cells[0]))
    });
    functions.rows("mode_of_sorted(anyarray) $0.element", |context, cells| {
        let Some(list) = cells[0].as_list() else {
            return Ok(Value::Null);
        };
        let reader = Reader::new(list)?;
        let texts = elements(&cells[0], context)?;
        let (mut best, mut best_count, mut start) = (None, 0, 0);
        while start < texts.len() {
            let mut end = start;
            while end < texts.len() && texts[end] == texts[start] {
                end += 1;
            }
            if texts[start].is_some() && end - start > best_count {
                best = Some(start);
                best_count = end - start;
            }
            start = end;
        }
        Ok(best.map_or(Value::Null, |row| own(&reader.value(row))))
    });
    functions.rows(
        "percentile_disc_of_sorted(anyarray, double precision) $0.element",
        |_, cells| {
            let Some(list) = cells[0].as_list() else {
                return Ok(Value::Null);
            };
            let reader = Reader::new(list)?;
            let rows = (0..list.len())
                .filter(|row| !list.is_null(*row))
                .collect::<Vec<_>>();
            if rows.is_empty() {
                return Ok(Value::Null);
            }
            let place = (cells[1].as_float() * rows.len() as f64).ceil() as usize;
            Ok(own(&reader.value(rows[place.clamp(1, rows.len()) - 1])))
        },
    );
}

/// A cell that no longer borrows from its column.
pub fn own(value: &Value<'_>) -> Value<'static> {
    match value {
        Value::Null => Value::Null,
        Value::Bool(value) => Value::Bool(*value),
        Value::Int(value) => Value::Int(*value),
        Value::Float(value) => Value::Float(*value),
        Value::Numeric { unscaled, scale } => Value::Numeric {
            unscaled: *unscaled,
            scale: *scale,
        },
        Value::Text(text) => Value::text(text.to_string()),
        Value::Bytes(bytes) => Value::Bytes(bytes.to_vec().into()),
        Value::Date(value) => Value::Date(*value),
        Value::Time(value) => Value::Time(*value),
        Value::Timestamp(value) => Value::Timestamp(*value),
        Value::Interval(value) => Value::Interval(*value),
        Value::List(list) => Value::List(Arc::clone(list)),
    }
}

/// The elements of an array as text, to be compared.
fn elements(
    array: &Value<'_>,
    context: &super::FunctionContext,
) -> Result<Vec<Option<String>>, SqlError> {
    let Some(list) = array.as_list() else {
        return Ok(Vec::new());
    };
    let reader = Reader::new(list)?;
    let zone = context.zone;
    Ok((0..list.len())
        .map(|row| match reader.value(row) {
            Value::Null => None,
            other => Some(super::text::plain(&other, zone)),
        })
        .collect())
}

/// Compares two cells of one type.
pub fn compare(left: &Value<'_>, right: &Value<'_>) -> std::cmp::Ordering {
    match (left, right) {
        (Value::Text(left), Value::Text(right)) => left.cmp(right),
        (Value::Interval(left), Value::Interval(right)) => {
            interval_micros(*left).cmp(&interval_micros(*right))
        }
        (Value::Float(_), _) | (_, Value::Float(_)) => left.as_float().total_cmp(&right.as_float()),
        (Value::Numeric { .. }, _) | (_, Value::Numeric { .. }) => {
            let ((first, a), (second, b)) = (left.as_numeric(), right.as_numeric());
            let scale = a.max(b);
            super::value::rescale(first, a, scale).cmp(&super::value::rescale(second, b, scale))
        }
        _ => left.as_int().cmp(&right.as_int()),
    }
}

fn of_array<'a>(cells: &[Value<'a>], all: bool) -> Result<Value<'a>, SqlError> {
    let Some(list) = cells[2].as_list() else {
        return Ok(Value::Null);
    };
    let reader = Reader::new(list)?;
    let operator = cells[1].as_text();
    let mut unknown = false;
    for row in 0..list.len() {
        let element = reader.value(row);
        if element.is_null() {
            unknown = true;
            continue;
        }
        let order = compare(&cells[0], &element);
        let matches = match operator {
            "=" => order.is_eq(),
            "<>" | "!=" => order.is_ne(),
            "<" => order.is_lt(),
            "<=" => order.is_le(),
            ">" => order.is_gt(),
            ">=" => order.is_ge(),
            "~~" | "LIKE" => super::regexp::like(cells[0].as_text(), element.as_text())?,
            other => {
                return Err(SqlError::unsupported(format!(
                    "operator {other} with ANY or ALL"
                )));
            }
        };
        if matches != all {
            return Ok(Value::Bool(!all));
        }
    }
    Ok(if unknown {
        Value::Null
    } else {
        Value::Bool(all)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decimals(values: &[Option<i128>], precision: u8, scale: i8) -> ColumnarValue {
        let array = Decimal128Array::from(values.to_vec())
            .with_precision_and_scale(precision, scale)
            .unwrap();
        ColumnarValue::Array(Arc::new(array))
    }

    /// The quick way, and the slow way row by row.
    fn check(sums: &[Option<i128>], sum_scale: i8, counts: &[Option<i128>]) {
        let scale = sum_scale.max(QUOTIENT_SCALE);
        let arguments = [decimals(sums, 38, sum_scale), decimals(counts, 20, 0)];
        let averages = average_of(&arguments, &DataType::Decimal128(38, scale), sums.len())
            .unwrap()
            .into_array(sums.len())
            .unwrap();
        let averages = averages.as_primitive::<Decimal128Type>();
        let expected = sums
            .iter()
            .zip(counts)
            .map(|(sum, count)| match (sum, count) {
                (Some(sum), Some(count)) if *count != 0 => Some(
                    divide(*sum, sum_scale, *count, 0, scale)
                        .unwrap()
                        .as_numeric()
                        .0,
                ),
                _ => None,
            })
            .collect::<Vec<_>>();
        assert_eq!(averages.iter().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn an_average_is_rounded_as_a_quotient_is() {
        let sums = [
            1,
            2,
            -2,
            0,
            5,
            i128::from(i64::MAX),
            i128::from(i64::MIN),
            7,
        ]
        .map(Some)
        .to_vec();
        let counts = [3, 3, 3, 3, 0, 7, 6, i128::from(i64::MAX)].map(Some);
        check(&sums, 0, &counts);
        check(&sums, 4, &counts);
        check(&sums, 20, &counts);
        check(&[None, Some(1), None], 2, &[Some(1), None, None]);
        // A sum that 10^16 takes out of 128 bits.
        check(&[Some(10i128.pow(37) + 7)], 0, &[Some(10i128.pow(18))]);
        check(&[], 0, &[]);
    }

    #[test]
    fn a_quotient_rounds_half_away_from_zero() {
        for (dividend, divisor, quotient) in [
            (5, 2, 3),
            (-5, 2, -3),
            (5, -2, -3),
            (-5, -2, 3),
            (1, 3, 0),
            (-2, 3, -1),
            (i128::MAX, 1, i128::MAX),
            (1, i128::MIN, 0),
        ] {
            assert_eq!(rounded_quotient(dividend, divisor), quotient);
        }
    }
}
