//! Functions that give sets. Each is an array function here; the planner unnests it.

use std::sync::Arc;

use boathouse_catalog::types::ColumnType;
use datafusion::arrow::datatypes::{DataType, IntervalMonthDayNano};

use super::datetime::add_interval;
use super::registry::Builder;
use super::text_io::{MICROS_PER_DAY, utc_to_local};
use super::value::{Value, column, rescale};
use crate::error::{SqlError, SqlState};

/// Appended to the name of a set-returning function: the whole array, not unnested.
pub const WHOLE: &str = "\u{1}whole";

/// The most rows one call may give.
const ROWS_MAX: usize = 20_000_000;

const SET_RETURNING: &[&str] = &[
    "generate_series",
    "generate_subscripts",
    "unnest",
    "regexp_split_to_table",
    "string_to_table",
    "json_array_elements",
    "jsonb_array_elements",
    "json_array_elements_text",
    "jsonb_array_elements_text",
    "json_object_keys",
    "jsonb_object_keys",
    "json_each_key",
    "json_each_value",
    "json_each_text_value",
    "array_ordinals",
    "jsonb_path_query",
    "pg_options_to_table_name",
    "pg_options_to_table_value",
    "aclexplode_grantor",
    "aclexplode_grantee",
    "aclexplode_privilege",
    "aclexplode_grantable",
];

pub fn is_set_returning(name: &str) -> bool {
    SET_RETURNING.contains(&name)
}

/// The columns of a function that gives rows of several: the function and the name of each.
pub fn columns(name: &str) -> &'static [(&'static str, &'static str)] {
    match name {
        "json_each" | "jsonb_each" => &[("json_each_key", "key"), ("json_each_value", "value")],
        "json_each_text" | "jsonb_each_text" => {
            &[("json_each_key", "key"), ("json_each_text_value", "value")]
        }
        "json_array_elements" | "jsonb_array_elements" => &[],
        "pg_options_to_table" => &[
            ("pg_options_to_table_name", "option_name"),
            ("pg_options_to_table_value", "option_value"),
        ],
        "aclexplode" => &[
            ("aclexplode_grantor", "grantor"),
            ("aclexplode_grantee", "grantee"),
            ("aclexplode_privilege", "privilege_type"),
            ("aclexplode_grantable", "is_grantable"),
        ],
        _ => &[],
    }
}

/// An array of text.
pub fn texts<'a, S: Into<String>>(parts: Vec<S>) -> Result<Value<'a>, SqlError> {
    let cells = parts
        .into_iter()
        .map(|part| Value::text(part.into()))
        .collect::<Vec<_>>();
    Ok(Value::List(column(&cells, &DataType::Utf8)?))
}

fn too_many() -> SqlError {
    SqlError::new(
        SqlState("54000"),
        format!("a set of more than {ROWS_MAX} rows"),
    )
}

fn zero_step() -> SqlError {
    SqlError::new(
        SqlState::INVALID_PARAMETER_VALUE,
        "step size cannot equal zero",
    )
}

fn integers<'a>(cells: &[Value<'a>], data_type: DataType) -> Result<Value<'a>, SqlError> {
    let (start, stop) = (cells[0].as_int(), cells[1].as_int());
    let step = cells.get(2).map_or(1, Value::as_int);
    if step == 0 {
        return Err(zero_step());
    }
    let mut numbers = Vec::new();
    let mut next = Some(start);
    while let Some(number) = next {
        if (step > 0 && number > stop) || (step < 0 && number < stop) {
            break;
        }
        if numbers.len() >= ROWS_MAX {
            return Err(too_many());
        }
        numbers.push(number);
        next = number.checked_add(step);
    }
    use datafusion::arrow::array::{ArrayRef, Int32Array, Int64Array};
    let array: ArrayRef = if data_type == DataType::Int32 {
        Arc::new(
            numbers
                .into_iter()
                .map(|n| n as i32)
                .collect::<Int32Array>(),
        )
    } else {
        Arc::new(Int64Array::from(numbers))
    };
    Ok(Value::List(array))
}

fn moments<'a>(
    cells: &[Value<'a>],
    column_type: &ColumnType,
    zone: Option<chrono_tz::Tz>,
) -> Result<Value<'a>, SqlError> {
    let (start, stop) = (cells[0].as_int(), cells[1].as_int());
    let step = cells[2].as_interval();
    let forward = super::datetime::interval_micros(step);
    if step == IntervalMonthDayNano::ZERO {
        return Err(zero_step());
    }
    let mut values = Vec::new();
    let mut next = start;
    loop {
        if (forward > 0 && next > stop) || (forward <= 0 && next < stop) {
            break;
        }
        if values.len() >= ROWS_MAX {
            return Err(too_many());
        }
        values.push(Value::Timestamp(next));
        let after = match zone {
            Some(zone) => {
                super::text_io::local_to_utc(add_interval(utc_to_local(next, zone), step)?, zone)
            }
            None => add_interval(next, step)?,
        };
        if after == next {
            break;
        }
        next = after;
    }
    Ok(Value::List(column(&values, &column_type.arrow())?))
}

pub fn register(functions: &mut Builder) {
    functions.rows(
        "generate_series(integer, integer, [integer]) integer[]",
        |_, cells| integers(cells, DataType::Int32),
    );
    functions.rows(
        "generate_series(bigint, bigint, [bigint]) bigint[]",
        |_, cells| integers(cells, DataType::Int64),
    );
    functions.computed(
        "generate_series(numeric, numeric, [numeric]) numeric[]",
        |types, _| {
            let scale = types
                .iter()
                .map(|given| match given {
                    ColumnType::Numeric { scale, .. } => *scale,
                    _ => 0,
                })
                .max()
                .unwrap_or(0);
            ColumnType::Array(Box::new(ColumnType::Numeric {
                precision: Some(38),
                scale,
            }))
        },
        |_, cells| {
            let scale = cells
                .iter()
                .map(|cell| cell.as_numeric().1)
                .max()
                .unwrap_or(0);
            let at = |index: usize| {
                cells
                    .get(index)
                    .map_or(Some(10i128.pow(u32::from(scale.unsigned_abs()))), |cell| {
                        let (unscaled, from) = cell.as_numeric();
                        rescale(unscaled, from, scale)
                    })
            };
            let (Some(start), Some(stop), Some(step)) = (at(0), at(1), at(2)) else {
                return Err(too_many());
            };
            if step == 0 {
                return Err(zero_step());
            }
            let mut values = Vec::new();
            let mut next = start;
            while (step > 0 && next <= stop) || (step < 0 && next >= stop) {
                if values.len() >= ROWS_MAX {
                    return Err(too_many());
                }
                values.push(Value::Numeric {
                    unscaled: next,
                    scale,
                });
                next = next.checked_add(step).ok_or_else(too_many)?;
            }
            Ok(Value::List(column(
                &values,
                &DataType::Decimal128(38, scale),
            )?))
        },
    );
    functions.rows(
        "generate_series(timestamp, timestamp, interval) timestamp[]",
        |_, cells| moments(cells, &ColumnType::Timestamp, None),
    );
    functions.rows(
        "generate_series(timestamptz, timestamptz, interval) timestamptz[]",
        |context, cells| {
            moments(
                cells,
                &ColumnType::TimestampTz,
                Some(context.session.time_zone()),
            )
        },
    );
    // Dates take the timestamptz overload in PostgreSQL too; their days are those of the session.
    functions.rows(
        "generate_series(date, date, interval) timestamptz[]",
        |context, cells| {
            let zone = context.session.time_zone();
            let at = |cell: &Value<'_>| {
                Value::Timestamp(super::text_io::local_to_utc(
                    cell.as_int() * MICROS_PER_DAY,
                    zone,
                ))
            };
            let cells = [
                at(&cells[0]),
                at(&cells[1]),
                Value::Interval(cells[2].as_interval()),
            ];
            moments(&cells, &ColumnType::TimestampTz, Some(zone))
        },
    );
    functions.rows(
        "generate_subscripts(anyarray, integer) integer[]",
        |_, cells| ordinals(&cells[0], DataType::Int32),
    );
    functions.rows("array_ordinals(anyarray) bigint[]", |_, cells| {
        ordinals(&cells[0], DataType::Int64)
    });
    functions.rows("string_to_table(text, text) text[]", |_, cells| {
        let (text, separator) = (cells[0].as_text(), cells[1].as_text());
        texts(if separator.is_empty() {
            vec![text]
        } else {
            text.split(separator).collect()
        })
    });
}

fn ordinals<'a>(array: &Value<'a>, data_type: DataType) -> Result<Value<'a>, SqlError> {
    let count = array.as_list().map_or(0, |list| list.len());
    let values = (1..=count)
        .map(|number| Value::Int(i64::try_from(number).unwrap_or(i64::MAX)))
        .collect::<Vec<_>>();
    Ok(Value::List(column(&values, &data_type)?))
}
