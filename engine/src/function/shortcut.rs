//! What queries call most, over whole columns.
//!
//! A shortcut gives exactly what the row function beside it gives, or nothing: where it meets a value
//! that the row function refuses, an argument that is no constant, a type it does not know, the row
//! function runs and says what is wrong. So a shortcut has no errors of its own, and the tests compare
//! the two.

use std::sync::Arc;

use chrono_tz::Tz;
use datafusion::arrow::array::{ArrayRef, ArrowPrimitiveType, AsArray, PrimitiveArray};
use datafusion::arrow::compute::kernels::arity::try_binary;
use datafusion::arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float64Type, Int16Type, Int32Type, Int64Type,
    IntervalMonthDayNano, TimeUnit, TimestampMicrosecondType,
};
use datafusion::arrow::error::ArrowError;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::ColumnarValue;

use super::cast::day_of;
use super::datetime::{add_in_zone, add_interval, field_of, is_of_time, negate, truncate};
use super::registry::Builder;
use super::text_io::{MICROS_PER_DAY, local_to_utc, utc_to_local};
use super::value::rescale;

pub fn register(functions: &mut Builder) {
    for signature in [
        "date_trunc(text, timestamp) timestamp",
        "date_trunc(text, timestamptz) timestamptz",
        "date_trunc(text, date) timestamptz",
    ] {
        functions.shortcut(signature, date_trunc);
    }
    for signature in [
        "extract(text, timestamp) numeric",
        "extract(text, timestamptz) numeric",
        "extract(text, date) numeric",
    ] {
        functions.shortcut(signature, extract);
    }
    for signature in [
        "date_part(text, timestamp) double precision",
        "date_part(text, timestamptz) double precision",
        "date_part(text, date) double precision",
    ] {
        functions.shortcut(signature, date_part);
    }
    for signature in [
        "+(date, interval) timestamp",
        "+(timestamp, interval) timestamp",
        "+(timestamptz, interval) timestamptz",
    ] {
        functions.shortcut(signature, |zone, arguments, data_type| {
            plus(zone, arguments, data_type, |interval| interval)
        });
    }
    for signature in [
        "-(date, interval) timestamp",
        "-(timestamp, interval) timestamp",
        "-(timestamptz, interval) timestamptz",
    ] {
        functions.shortcut(signature, |zone, arguments, data_type| {
            plus(zone, arguments, data_type, negate)
        });
    }
    functions.shortcut("+(date, integer) date", |_, arguments, _| {
        pairs::<Date32Type, Int32Type, Date32Type>(arguments, |day, days| {
            Some(day.wrapping_add(days))
        })
    });
    functions.shortcut("-(date, integer) date", |_, arguments, _| {
        pairs::<Date32Type, Int32Type, Date32Type>(arguments, |day, days| {
            Some(day.wrapping_sub(days))
        })
    });
    functions.shortcut("-(date, date) integer", |_, arguments, _| {
        pairs::<Date32Type, Date32Type, Int32Type>(arguments, i32::checked_sub)
    });
    functions.shortcut("round(numeric, [integer]) numeric", round);
    functions.shortcut(
        "round(double precision) double precision",
        |_, arguments, _| {
            let rounded = map::<Float64Type, Float64Type>(column(arguments, 0)?, |value| {
                Some(value.round_ties_even())
            })?;
            Some(Arc::new(rounded))
        },
    );
}

/// Casts of numbers to integers, and of moments to their day.
pub fn cast(zone: Tz, arguments: &[ColumnarValue], data_type: &DataType) -> Option<ArrayRef> {
    let values = column(arguments, 0)?;
    match data_type {
        DataType::Int16 => to_integers::<Int16Type>(values),
        DataType::Int32 => to_integers::<Int32Type>(values),
        DataType::Int64 => to_integers::<Int64Type>(values),
        DataType::Date32 if is_moment(values, true) => {
            let days = map::<TimestampMicrosecondType, Date32Type>(values, |micros| {
                Some(day_of(utc_to_local(micros, zone)))
            })?;
            Some(Arc::new(days))
        }
        _ => None,
    }
}

fn to_integers<T: ArrowPrimitiveType>(values: &ArrayRef) -> Option<ArrayRef>
where
    T::Native: TryFrom<i128> + TryFrom<i64>,
{
    let integers: PrimitiveArray<T> = match values.data_type() {
        DataType::Int32 => map::<Int32Type, T>(values, |value| i64::from(value).try_into().ok()),
        DataType::Int64 => map::<Int64Type, T>(values, |value| value.try_into().ok()),
        DataType::Decimal128(_, scale) => {
            map::<Decimal128Type, T>(values, |value| rescale(value, *scale, 0)?.try_into().ok())
        }
        _ => None,
    }?;
    Some(Arc::new(integers))
}

/// An argument that is a column.
fn column(arguments: &[ColumnarValue], index: usize) -> Option<&ArrayRef> {
    match arguments.get(index)? {
        ColumnarValue::Array(array) => Some(array),
        ColumnarValue::Scalar(_) => None,
    }
}

fn constant(arguments: &[ColumnarValue], index: usize) -> Option<&ScalarValue> {
    match arguments.get(index)? {
        ColumnarValue::Array(_) => None,
        ColumnarValue::Scalar(value) => Some(value),
    }
}

/// The first argument as the name of a unit or a field.
fn unit(arguments: &[ColumnarValue]) -> Option<String> {
    match constant(arguments, 0)? {
        ScalarValue::Utf8(Some(unit)) => Some(unit.to_ascii_lowercase()),
        _ => None,
    }
}

fn is_moment(array: &ArrayRef, with_zone: bool) -> bool {
    matches!(array.data_type(), DataType::Timestamp(TimeUnit::Microsecond, zone) if zone.is_some() == with_zone)
}

fn start_of(day: i32) -> Option<i64> {
    i64::from(day).checked_mul(MICROS_PER_DAY)
}

/// Maps what a column holds; nothing as soon as one value has no answer.
fn map<I: ArrowPrimitiveType, O: ArrowPrimitiveType>(
    array: &ArrayRef,
    answer: impl Fn(I::Native) -> Option<O::Native>,
) -> Option<PrimitiveArray<O>> {
    array
        .as_primitive_opt::<I>()?
        .try_unary(|value| answer(value).ok_or(()))
        .ok()
}

/// The same over two arguments, of which one may be a constant.
fn pairs<L: ArrowPrimitiveType, R: ArrowPrimitiveType, O: ArrowPrimitiveType>(
    arguments: &[ColumnarValue],
    answer: impl Fn(L::Native, R::Native) -> Option<O::Native>,
) -> Option<ArrayRef> {
    column(arguments, 0).or_else(|| column(arguments, 1))?;
    let arrays = ColumnarValue::values_to_arrays(arguments).ok()?;
    let [left, right] = arrays.as_slice() else {
        return None;
    };
    let none = || ArrowError::ComputeError(String::new());
    let answers: PrimitiveArray<O> = try_binary(
        left.as_primitive_opt::<L>()?,
        right.as_primitive_opt::<R>()?,
        |left, right| answer(left, right).ok_or_else(none),
    )
    .ok()?;
    Some(Arc::new(answers))
}

/// Gives moments the zone of the result.
fn moments(
    moments: PrimitiveArray<TimestampMicrosecondType>,
    data_type: &DataType,
) -> Option<ArrayRef> {
    let DataType::Timestamp(TimeUnit::Microsecond, zone) = data_type else {
        return None;
    };
    Some(Arc::new(moments.with_timezone_opt(zone.clone())))
}

fn date_trunc(zone: Tz, arguments: &[ColumnarValue], data_type: &DataType) -> Option<ArrayRef> {
    let (unit, values) = (unit(arguments)?, column(arguments, 1)?);
    let in_zone =
        |utc: i64| truncate(&unit, utc_to_local(utc, zone)).map(|local| local_to_utc(local, zone));
    let cut = if is_moment(values, true) {
        map::<TimestampMicrosecondType, _>(values, in_zone)
    } else if is_moment(values, false) {
        map::<TimestampMicrosecondType, _>(values, |micros| truncate(&unit, micros))
    } else {
        map::<Date32Type, _>(values, |day| in_zone(local_to_utc(start_of(day)?, zone)))
    };
    moments(cut?, data_type)
}

/// Fields of moments or dates, each times 10^6.
fn fields<O: ArrowPrimitiveType>(
    zone: Tz,
    values: &ArrayRef,
    unit: &str,
    answer: impl Fn(i128) -> Option<O::Native>,
) -> Option<PrimitiveArray<O>> {
    if *values.data_type() == DataType::Date32 {
        return map::<Date32Type, O>(values, |day| answer(field_of(unit, start_of(day)?, None)?));
    }
    let zone = is_moment(values, true).then_some(zone);
    map::<TimestampMicrosecondType, O>(values, |micros| answer(field_of(unit, micros, zone)?))
}

fn extract(zone: Tz, arguments: &[ColumnarValue], data_type: &DataType) -> Option<ArrayRef> {
    let (unit, values) = (unit(arguments)?, column(arguments, 1)?);
    let DataType::Decimal128(precision, scale @ 0..=6) = data_type else {
        return None;
    };
    if *values.data_type() == DataType::Date32 && is_of_time(&unit) {
        return None;
    }
    let step = 10i64.pow(6 - u32::from(scale.unsigned_abs()));
    let fields = fields::<Decimal128Type>(zone, values, &unit, |field| {
        let field = i64::try_from(field).ok()?;
        (field % step == 0).then_some(i128::from(field / step))
    })?;
    let fields = fields.with_precision_and_scale(*precision, *scale).ok()?;
    Some(Arc::new(fields))
}

fn date_part(zone: Tz, arguments: &[ColumnarValue], _: &DataType) -> Option<ArrayRef> {
    let (unit, values) = (unit(arguments)?, column(arguments, 1)?);
    let fields = fields::<Float64Type>(zone, values, &unit, |field| Some(field as f64 / 1e6))?;
    Some(Arc::new(fields))
}

/// A column of moments and a constant interval.
fn plus(
    zone: Tz,
    arguments: &[ColumnarValue],
    data_type: &DataType,
    sign: fn(IntervalMonthDayNano) -> IntervalMonthDayNano,
) -> Option<ArrayRef> {
    let values = column(arguments, 0)?;
    let ScalarValue::IntervalMonthDayNano(Some(interval)) = constant(arguments, 1)? else {
        return None;
    };
    let interval = sign(*interval);
    let moved = if is_moment(values, true) {
        map::<TimestampMicrosecondType, _>(values, |utc| add_in_zone(utc, interval, zone).ok())
    } else if is_moment(values, false) {
        map::<TimestampMicrosecondType, _>(values, |micros| add_interval(micros, interval).ok())
    } else {
        map::<Date32Type, _>(values, |day| add_interval(start_of(day)?, interval).ok())
    };
    moments(moved?, data_type)
}

fn round(_: Tz, arguments: &[ColumnarValue], data_type: &DataType) -> Option<ArrayRef> {
    let values = column(arguments, 0)?;
    let places = match arguments.get(1) {
        None => 0,
        Some(ColumnarValue::Scalar(ScalarValue::Int32(Some(places)))) => *places,
        Some(_) => return None,
    };
    let DataType::Decimal128(precision @ 0..=38, scale) = data_type else {
        return None;
    };
    let DataType::Decimal128(_, given) = values.data_type() else {
        return None;
    };
    // Before the point, zeros are put back; a scale of the plan's own rounds again.
    if places < 0 || places != i32::from(*scale) {
        return None;
    }
    let limit = 10u128.pow(u32::from(*precision));
    let rounded = map::<Decimal128Type, Decimal128Type>(values, |value| {
        rescale(value, *given, *scale).filter(|rounded| rounded.unsigned_abs() < limit)
    })?;
    let rounded = rounded.with_precision_and_scale(*precision, *scale).ok()?;
    Some(Arc::new(rounded))
}

#[cfg(test)]
mod tests {
    use super::*;
    use boathouse_catalog::types::ColumnType;
    use datafusion::arrow::array::{
        Array, Date32Array, Decimal128Array, Float64Array, Int32Array, Int64Array,
        TimestampMicrosecondArray,
    };

    use crate::function::registry::resolve;
    use crate::function::scalar::run_rows;
    use crate::function::text_io::parse_timestamp;
    use crate::function::{Body, FunctionContext, cast};

    const ZONES: [&str; 3] = ["UTC", "America/New_York", "Asia/Kathmandu"];
    const UNITS: [&str; 13] = [
        "year",
        "Quarter",
        "month",
        "week",
        "day",
        "hour",
        "minute",
        "second",
        "dow",
        "doy",
        "epoch",
        "century",
        "millisecond",
    ];

    fn array(array: impl Array + 'static) -> ColumnarValue {
        ColumnarValue::Array(Arc::new(array))
    }

    fn unit(name: &str) -> (ColumnType, ColumnarValue) {
        let name = ScalarValue::Utf8(Some(name.to_owned()));
        (ColumnType::Text, ColumnarValue::Scalar(name))
    }

    fn moments() -> Vec<Option<i64>> {
        let mut moments: Vec<_> = [
            "0001-01-01",
            "1582-10-15 12:00",
            "1899-12-31 23:59:59.999999",
            "1969-12-31 23:59:59.5",
            "1970-01-01",
            "2000-02-29 23:59",
            "2001-01-01",
            "2023-01-01",
            "2024-03-10 06:59:59",
            "2024-03-10 07:00",
            "2024-11-03 05:30",
            "2024-11-03 06:30",
            "2024-12-30",
            "9999-12-31 23:59:59",
        ]
        .into_iter()
        .map(|text| Some(parse_timestamp(text).unwrap().0))
        .collect();
        moments.push(None);
        moments
    }

    /// The column of moments as each of the types that functions over moments take.
    fn columns() -> [(ColumnType, ColumnarValue); 3] {
        let plain = TimestampMicrosecondArray::from(moments());
        let days = moments()
            .into_iter()
            .map(|moment| moment.map(day_of))
            .collect::<Date32Array>();
        [
            (
                ColumnType::TimestampTz,
                array(plain.clone().with_timezone("UTC")),
            ),
            (ColumnType::Timestamp, array(plain)),
            (ColumnType::Date, array(days)),
        ]
    }

    /// Compares with the row function; whether the shortcut was taken.
    fn check(name: &str, zone: &str, arguments: &[(ColumnType, ColumnarValue)]) -> bool {
        let context = FunctionContext::of_zone(zone);
        let (types, values): (Vec<_>, Vec<_>) = arguments
            .iter()
            .map(|(column_type, value)| (Some(column_type.clone()), value.clone()))
            .unzip();
        let constants = values
            .iter()
            .map(|value| match value {
                ColumnarValue::Scalar(value) => Some(value.clone()),
                ColumnarValue::Array(_) => None,
            })
            .collect::<Vec<_>>();
        let resolved = resolve(name, &types, &constants).unwrap().unwrap();
        let Body::Rows(body) = &resolved.overload.body else {
            panic!("{name} is no row function");
        };
        let shortcut = resolved.overload.shortcut.unwrap();
        let data_type = resolved.return_type.arrow();
        compare(
            shortcut(context.zone, &values, &data_type),
            |rows| {
                run_rows(
                    |cells| body(&context, cells),
                    true,
                    &values,
                    rows,
                    &data_type,
                )
            },
            &values,
        )
    }

    fn check_cast(from: ColumnType, to: ColumnType, zone: &str, values: ColumnarValue) -> bool {
        let context = FunctionContext::of_zone(zone);
        let values = [values];
        compare(
            super::cast(context.zone, &values, &to.arrow()),
            |rows| {
                run_rows(
                    |cells| cast::cast_value(&cells[0], &from, &to, context.zone),
                    true,
                    &values,
                    rows,
                    &to.arrow(),
                )
            },
            &values,
        )
    }

    fn compare(
        shortcut: Option<ArrayRef>,
        by_rows: impl Fn(usize) -> Result<ColumnarValue, crate::SqlError>,
        values: &[ColumnarValue],
    ) -> bool {
        let rows = values
            .iter()
            .find_map(|value| match value {
                ColumnarValue::Array(array) => Some(array.len()),
                ColumnarValue::Scalar(_) => None,
            })
            .unwrap();
        match (shortcut, by_rows(rows)) {
            (Some(shortcut), expected) => {
                assert_eq!(&shortcut, &expected.unwrap().into_array(rows).unwrap());
                true
            }
            (None, _) => false,
        }
    }

    #[test]
    fn fields_of_moments() {
        for zone in ZONES {
            for name in UNITS {
                for column in columns() {
                    let of_date = column.0 == ColumnType::Date;
                    let arguments = [unit(name), column];
                    let taken = check("date_part", zone, &arguments);
                    assert!(taken, "date_part {name}");
                    if !(of_date && is_of_time(name)) {
                        assert!(check("extract", zone, &arguments), "extract {name}");
                    }
                }
            }
            assert!(!check(
                "date_part",
                zone,
                &[unit("never"), columns()[0].clone()]
            ));
            check("extract", zone, &[unit("ms"), columns()[0].clone()]);
        }
    }

    #[test]
    fn moments_cut_down() {
        for zone in ZONES {
            for name in UNITS {
                for column in columns() {
                    let taken = check("date_trunc", zone, &[unit(name), column]);
                    assert_eq!(taken, !matches!(name, "dow" | "doy" | "epoch"), "{name}");
                }
            }
            let infinite = TimestampMicrosecondArray::from(vec![i64::MIN, i64::MAX]);
            let arguments = [unit("hour"), (ColumnType::Timestamp, array(infinite))];
            assert!(check("date_trunc", zone, &arguments));
        }
    }

    #[test]
    fn moments_and_intervals() {
        let intervals = [
            (0, 0, 0),
            (1, 0, 0),
            (-13, 1, 1),
            (0, -1, 0),
            (0, 0, 3_600_000),
        ];
        for (months, days, millis) in intervals {
            let interval = IntervalMonthDayNano::new(months, days, millis * 1_000_000);
            let interval = ScalarValue::IntervalMonthDayNano(Some(interval));
            for column in columns() {
                for zone in ZONES {
                    let interval = ColumnarValue::Scalar(interval.clone());
                    let arguments = [column.clone(), (ColumnType::Interval, interval)];
                    assert!(check("+", zone, &arguments));
                    assert!(check("-", zone, &arguments));
                }
            }
        }
        let [_, _, dates] = columns();
        let date = ColumnarValue::Scalar(ScalarValue::Date32(Some(19_000)));
        assert!(check("-", "UTC", &[dates.clone(), dates.clone()]));
        assert!(check(
            "-",
            "UTC",
            &[(ColumnType::Date, date), dates.clone()]
        ));
        let number = ColumnarValue::Scalar(ScalarValue::Int32(Some(-40)));
        assert!(check(
            "+",
            "UTC",
            &[dates.clone(), (ColumnType::Integer, number.clone())]
        ));
        assert!(check("-", "UTC", &[dates, (ColumnType::Integer, number)]));
    }

    fn decimals(scale: i8) -> (ColumnType, ColumnarValue) {
        let values = [
            0,
            5,
            -5,
            15,
            25,
            -25,
            149,
            150,
            999_995,
            -999_995,
            10i128.pow(30),
        ];
        let values = values.map(Some).into_iter().chain([None]);
        let values = values.collect::<Decimal128Array>();
        let numeric = ColumnType::Numeric {
            precision: Some(38),
            scale,
        };
        (
            numeric,
            array(values.with_precision_and_scale(38, scale).unwrap()),
        )
    }

    #[test]
    fn numbers_rounded() {
        for scale in [0, 1, 2, 16] {
            assert!(check("round", "UTC", &[decimals(scale)]));
            for places in [0, 1, 2, 3] {
                let constant = ColumnarValue::Scalar(ScalarValue::Int32(Some(places)));
                let arguments = [decimals(scale), (ColumnType::Integer, constant)];
                assert!(check("round", "UTC", &arguments));
            }
            for places in [-1, 20, 40] {
                let constant = ColumnarValue::Scalar(ScalarValue::Int32(Some(places)));
                check(
                    "round",
                    "UTC",
                    &[decimals(scale), (ColumnType::Integer, constant)],
                );
            }
        }
        let floats = vec![Some(0.5), Some(1.5), Some(-2.5), Some(f64::INFINITY), None];
        let floats = array(Float64Array::from(floats));
        assert!(check("round", "UTC", &[(ColumnType::Double, floats)]));
    }

    #[test]
    fn casts() {
        for scale in [2, 16] {
            let (numeric, values) = decimals(scale);
            let wide = check_cast(numeric.clone(), ColumnType::BigInt, "UTC", values.clone());
            let narrow = check_cast(numeric, ColumnType::SmallInt, "UTC", values);
            assert_eq!((wide, narrow), (scale == 16, false));
        }
        let numbers = vec![
            Some(i64::from(i32::MAX)),
            Some(i64::from(i32::MIN)),
            Some(7),
            None,
        ];
        let numbers = array(Int64Array::from(numbers));
        let to = |to, numbers: &ColumnarValue| {
            check_cast(ColumnType::BigInt, to, "UTC", numbers.clone())
        };
        assert!(to(ColumnType::Integer, &numbers));
        assert!(!to(ColumnType::SmallInt, &numbers));
        let small = array(Int32Array::from(vec![Some(-32768), Some(32767), None]));
        assert!(check_cast(
            ColumnType::Integer,
            ColumnType::SmallInt,
            "UTC",
            small
        ));
        for zone in ZONES {
            let [(from, moments), (local, readings), _] = columns();
            assert!(check_cast(from, ColumnType::Date, zone, moments));
            assert!(!check_cast(local, ColumnType::Date, zone, readings));
        }
    }
}
