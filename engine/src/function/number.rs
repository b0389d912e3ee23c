//! Functions over numbers.

use boathouse_catalog::types::ColumnType;
use datafusion::common::ScalarValue;

use super::registry::Builder;
use super::value::{Value, rescale};
use crate::error::{SqlError, SqlState};

/// Digits after the point that a quotient is given.
pub const QUOTIENT_SCALE: i8 = 16;

fn whole(types: &[ColumnType], _: &[Option<ScalarValue>]) -> ColumnType {
    let _ = types;
    ColumnType::Numeric {
        precision: Some(38),
        scale: 0,
    }
}

fn to_places(types: &[ColumnType], constants: &[Option<ScalarValue>]) -> ColumnType {
    let given = match types.first() {
        Some(ColumnType::Numeric { scale, .. }) => *scale,
        _ => 0,
    };
    let places = match constants.get(1) {
        None => 0,
        Some(Some(ScalarValue::Int32(Some(places)))) => i8::try_from(*places).unwrap_or(30),
        Some(Some(ScalarValue::Int64(Some(places)))) => i8::try_from(*places).unwrap_or(30),
        // Not known at planning: the argument's own scale holds whatever comes.
        Some(_) => given,
    };
    ColumnType::Numeric {
        precision: Some(38),
        scale: places.clamp(0, 30),
    }
}

pub fn out_of_range() -> SqlError {
    SqlError::new(
        SqlState::NUMERIC_VALUE_OUT_OF_RANGE,
        "numeric field overflow",
    )
}

fn places(cells: &[Value<'_>]) -> i8 {
    i8::try_from(cells.get(1).map_or(0, Value::as_int))
        .unwrap_or(30)
        .clamp(-37, 37)
}

pub fn register(functions: &mut Builder) {
    for (signature, native) in [
        ("abs(smallint) smallint", "abs"),
        ("abs(integer) integer", "abs"),
        ("abs(bigint) bigint", "abs"),
        ("abs(double precision) double precision", "abs"),
        ("abs(numeric) $0", "abs"),
        ("ceil(double precision) double precision", "ceil"),
        ("ceiling(double precision) double precision", "ceil"),
        ("floor(double precision) double precision", "floor"),
        ("trunc(double precision) double precision", "trunc"),
        ("exp(double precision) double precision", "exp"),
        (
            "power(double precision, double precision) double precision",
            "power",
        ),
        (
            "pow(double precision, double precision) double precision",
            "power",
        ),
        ("cbrt(double precision) double precision", "cbrt"),
        ("sin(double precision) double precision", "sin"),
        ("cos(double precision) double precision", "cos"),
        ("tan(double precision) double precision", "tan"),
        ("asin(double precision) double precision", "asin"),
        ("acos(double precision) double precision", "acos"),
        ("atan(double precision) double precision", "atan"),
        (
            "atan2(double precision, double precision) double precision",
            "atan2",
        ),
        ("degrees(double precision) double precision", "degrees"),
        ("radians(double precision) double precision", "radians"),
        ("pi() double precision", "pi"),
        ("random() double precision", "random"),
        ("gcd(bigint, bigint) bigint", "gcd"),
        ("lcm(bigint, bigint) bigint", "lcm"),
    ] {
        functions.native(signature, native);
    }
    functions.rows("round(double precision) double precision", |_, cells| {
        Ok(Value::Float(cells[0].as_float().round_ties_even()))
    });
    functions.computed(
        "round(numeric, [integer]) numeric",
        to_places,
        |_, cells| {
            let (unscaled, scale) = cells[0].as_numeric();
            let places = places(cells);
            let rounded = rescale(unscaled, scale, places).ok_or_else(out_of_range)?;
            let back = if places < 0 {
                rescale(rounded, places, 0)
            } else {
                Some(rounded)
            };
            Ok(Value::Numeric {
                unscaled: back.ok_or_else(out_of_range)?,
                scale: places.max(0),
            })
        },
    );
    functions.computed(
        "trunc(numeric, [integer]) numeric",
        to_places,
        |_, cells| {
            let (unscaled, scale) = cells[0].as_numeric();
            let places = places(cells);
            if places >= scale {
                return Ok(Value::Numeric { unscaled, scale });
            }
            let cut = unscaled / 10i128.pow(u32::from((scale - places).unsigned_abs()));
            let back = if places < 0 {
                rescale(cut, places, 0)
            } else {
                Some(cut)
            };
            Ok(Value::Numeric {
                unscaled: back.ok_or_else(out_of_range)?,
                scale: places.max(0),
            })
        },
    );
    for name in ["ceil(numeric) numeric", "ceiling(numeric) numeric"] {
        functions.computed(name, whole, |_, cells| {
            let (unscaled, scale) = cells[0].as_numeric();
            let unit = 10i128.pow(u32::from(scale.unsigned_abs()));
            let up = i128::from(unscaled.rem_euclid(unit) != 0);
            Ok(Value::Numeric {
                unscaled: unscaled.div_euclid(unit) + up,
                scale: 0,
            })
        });
    }
    functions.computed("floor(numeric) numeric", whole, |_, cells| {
        let (unscaled, scale) = cells[0].as_numeric();
        let unit = 10i128.pow(u32::from(scale.unsigned_abs()));
        Ok(Value::Numeric {
            unscaled: unscaled.div_euclid(unit),
            scale: 0,
        })
    });
    functions.rows("sqrt(double precision) double precision", |_, cells| {
        let value = cells[0].as_float();
        if value < 0.0 {
            return Err(SqlError::new(
                SqlState("2201F"),
                "cannot take square root of a negative number",
            ));
        }
        Ok(Value::Float(value.sqrt()))
    });
    functions.rows("ln(double precision) double precision", |_, cells| {
        logarithm(cells[0].as_float(), f64::ln)
    });
    functions.rows("log(double precision) double precision", |_, cells| {
        logarithm(cells[0].as_float(), f64::log10)
    });
    functions.rows("log10(double precision) double precision", |_, cells| {
        logarithm(cells[0].as_float(), f64::log10)
    });
    functions.rows(
        "log(double precision, double precision) double precision",
        |_, cells| logarithm(cells[1].as_float(), |value| value.log(cells[0].as_float())),
    );
    functions.rows("sign(double precision) double precision", |_, cells| {
        let value = cells[0].as_float();
        Ok(Value::Float(if value > 0.0 {
            1.0
        } else if value < 0.0 {
            -1.0
        } else {
            0.0
        }))
    });
    functions.computed("sign(numeric) numeric", whole, |_, cells| {
        Ok(Value::Numeric {
            unscaled: cells[0].as_numeric().0.signum(),
            scale: 0,
        })
    });
    functions.rows("mod(integer, integer) integer", modulo);
    functions.rows("mod(bigint, bigint) bigint", modulo);
    functions.computed(
        "mod(numeric, numeric) numeric",
        |types, _| match (types.first(), types.get(1)) {
            (
                Some(ColumnType::Numeric { scale: first, .. }),
                Some(ColumnType::Numeric { scale: second, .. }),
            ) => ColumnType::Numeric {
                precision: Some(38),
                scale: (*first).max(*second),
            },
            _ => ColumnType::Numeric {
                precision: Some(38),
                scale: 0,
            },
        },
        |_, cells| {
            let ((first, a), (second, b)) = (cells[0].as_numeric(), cells[1].as_numeric());
            let scale = a.max(b);
            match (rescale(first, a, scale), rescale(second, b, scale)) {
                (Some(_), Some(0)) => Err(crate::query::failure::division_by_zero()),
                (Some(first), Some(second)) => Ok(Value::Numeric {
                    unscaled: first % second,
                    scale,
                }),
                _ => Err(out_of_range()),
            }
        },
    );
    functions.computed("div(numeric, numeric) numeric", whole, |_, cells| {
        let ((first, a), (second, b)) = (cells[0].as_numeric(), cells[1].as_numeric());
        let scale = a.max(b);
        match (rescale(first, a, scale), rescale(second, b, scale)) {
            (Some(_), Some(0)) => Err(crate::query::failure::division_by_zero()),
            (Some(first), Some(second)) => Ok(Value::Numeric {
                unscaled: first / second,
                scale: 0,
            }),
            _ => Err(out_of_range()),
        }
    });
    functions.rows(
        "width_bucket(double precision, double precision, double precision, integer) integer",
        |_, cells| {
            let (value, low, high) = (
                cells[0].as_float(),
                cells[1].as_float(),
                cells[2].as_float(),
            );
            let count = cells[3].as_int();
            if count <= 0 || low == high {
                return Err(SqlError::new(
                    SqlState("2201G"),
                    if count <= 0 {
                        "count must be greater than zero"
                    } else {
                        "lower bound cannot equal upper bound"
                    },
                ));
            }
            let place = (value - low) / (high - low);
            Ok(Value::Int(if place < 0.0 {
                0
            } else if place >= 1.0 {
                count + 1
            } else {
                (place * count as f64) as i64 + 1
            }))
        },
    );
    functions.rows("factorial(bigint) numeric", |_, cells| {
        let mut product: i128 = 1;
        for factor in 2..=cells[0].as_int() {
            product = product
                .checked_mul(i128::from(factor))
                .ok_or_else(out_of_range)?;
        }
        Ok(Value::Numeric {
            unscaled: product,
            scale: 0,
        })
    });
}

fn modulo<'a>(
    _context: &super::FunctionContext,
    cells: &[Value<'a>],
) -> Result<Value<'a>, SqlError> {
    match cells[1].as_int() {
        0 => Err(crate::query::failure::division_by_zero()),
        divisor => Ok(Value::Int(cells[0].as_int().wrapping_rem(divisor))),
    }
}

fn logarithm<'a>(value: f64, log: impl Fn(f64) -> f64) -> Result<Value<'a>, SqlError> {
    if value == 0.0 {
        return Err(SqlError::new(
            SqlState("2201E"),
            "cannot take logarithm of zero",
        ));
    }
    if value < 0.0 {
        return Err(SqlError::new(
            SqlState("2201E"),
            "cannot take logarithm of a negative number",
        ));
    }
    Ok(Value::Float(log(value)))
}

/// Divides decimals, rounding half away from zero.
pub fn divide<'a>(
    dividend: i128,
    dividend_scale: i8,
    divisor: i128,
    divisor_scale: i8,
    scale: i8,
) -> Result<Value<'a>, SqlError> {
    use datafusion::arrow::datatypes::i256;
    if divisor == 0 {
        return Err(crate::query::failure::division_by_zero());
    }
    let shift = i32::from(scale) + i32::from(divisor_scale) - i32::from(dividend_scale);
    let ten = |power: u32| {
        (0..power).try_fold(i256::ONE, |product, _| {
            product.checked_mul(i256::from_i128(10))
        })
    };
    let (top, bottom) = if shift >= 0 {
        let factor = ten(shift.unsigned_abs()).ok_or_else(out_of_range)?;
        (
            i256::from_i128(dividend)
                .checked_mul(factor)
                .ok_or_else(out_of_range)?,
            i256::from_i128(divisor),
        )
    } else {
        let factor = ten(shift.unsigned_abs()).ok_or_else(out_of_range)?;
        (
            i256::from_i128(dividend),
            i256::from_i128(divisor)
                .checked_mul(factor)
                .ok_or_else(out_of_range)?,
        )
    };
    let quotient = top.checked_div(bottom).ok_or_else(out_of_range)?;
    let remainder = top.checked_rem(bottom).ok_or_else(out_of_range)?;
    let twice = remainder
        .wrapping_abs()
        .checked_mul(i256::from_i128(2))
        .ok_or_else(out_of_range)?;
    let mut unscaled = quotient.to_i128().ok_or_else(out_of_range)?;
    if twice >= bottom.wrapping_abs() {
        unscaled += if (dividend < 0) == (divisor < 0) {
            1
        } else {
            -1
        };
    }
    Ok(Value::Numeric { unscaled, scale })
}
