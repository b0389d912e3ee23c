//! Functions that give sets. Each is an array function here; the planner unnests it.
//!
//! A series over constants is not made as an array: [`crate::query`] takes it from [`Series`], batch by
//! batch, so that its length costs no memory.

use std::sync::Arc;

use boathouse_catalog::types::ColumnType;
use datafusion::arrow::array::{Array, ArrayRef, Int32Array, Int64Array};
use datafusion::arrow::datatypes::{DataType, IntervalMonthDayNano};

use super::datetime::add_interval;
use super::registry::Builder;
use super::scalar::FunctionContext;
use super::text_io::{MICROS_PER_DAY, utc_to_local};
use super::value::{Value, column, rescale};
use crate::error::{SqlError, SqlState};

/// Appended to the name of a set-returning function: the whole array, not unnested.
pub const WHOLE: &str = "\u{1}whole";

/// The most rows one call may give where they are made as an array.
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
    .hint("a series of constants in FROM may be of any length")
}

fn zero_step() -> SqlError {
    SqlError::new(
        SqlState::INVALID_PARAMETER_VALUE,
        "step size cannot equal zero",
    )
}

/// A series that is being counted, as far as it is asked for.
pub struct Series {
    kind: Kind,
    element: DataType,
}

enum Kind {
    Integers {
        next: Option<i64>,
        stop: i64,
        step: i64,
    },
    Numerics {
        next: Option<i128>,
        stop: i128,
        step: i128,
        scale: i8,
    },
    Moments {
        next: Option<i64>,
        stop: i64,
        step: IntervalMonthDayNano,
        /// On whose clocks days and months are counted.
        zone: Option<chrono_tz::Tz>,
    },
}

impl Series {
    /// The series of a call's arguments, none of them NULL.
    pub fn new(
        cells: &[Value<'_>],
        element: &ColumnType,
        zone: chrono_tz::Tz,
    ) -> Result<Self, SqlError> {
        let kind = match cells.first() {
            Some(Value::Numeric { .. }) => numerics(cells)?,
            Some(Value::Timestamp(_)) => {
                let zone = (*element == ColumnType::TimestampTz).then_some(zone);
                moments(cells[0].as_int(), cells[1].as_int(), &cells[2], zone)?
            }
            // Dates take the timestamptz overload in PostgreSQL too; their days are those of the
            // session.
            Some(Value::Date(_)) => {
                let at = |cell: &Value<'_>| {
                    super::text_io::local_to_utc(cell.as_int() * MICROS_PER_DAY, zone)
                };
                moments(at(&cells[0]), at(&cells[1]), &cells[2], Some(zone))?
            }
            _ => integers(cells)?,
        };
        let element = match &kind {
            Kind::Numerics { scale, .. } => DataType::Decimal128(38, *scale),
            _ => element.arrow(),
        };
        Ok(Self { kind, element })
    }

    /// At most `most` of the values that are left; none when the series has ended.
    pub fn take(&mut self, most: usize) -> Result<ArrayRef, SqlError> {
        match &mut self.kind {
            Kind::Integers { next, stop, step } => {
                let mut numbers = Vec::new();
                while let Some(number) = next.filter(|number| {
                    numbers.len() < most
                        && if *step > 0 {
                            number <= stop
                        } else {
                            number >= stop
                        }
                }) {
                    numbers.push(number);
                    *next = number.checked_add(*step);
                }
                Ok(if self.element == DataType::Int32 {
                    Arc::new(Int32Array::from_iter_values(
                        numbers.into_iter().map(|number| number as i32),
                    ))
                } else {
                    Arc::new(Int64Array::from(numbers))
                })
            }
            Kind::Numerics {
                next,
                stop,
                step,
                scale,
            } => {
                let mut values = Vec::new();
                while let Some(unscaled) = next.filter(|number| {
                    values.len() < most
                        && if *step > 0 {
                            number <= stop
                        } else {
                            number >= stop
                        }
                }) {
                    values.push(Value::Numeric {
                        unscaled,
                        scale: *scale,
                    });
                    *next = unscaled.checked_add(*step);
                }
                column(&values, &self.element)
            }
            Kind::Moments {
                next,
                stop,
                step,
                zone,
            } => {
                let forward = super::datetime::interval_micros(*step) > 0;
                let mut values = Vec::new();
                while let Some(moment) = next.filter(|moment| {
                    values.len() < most
                        && if forward {
                            moment <= stop
                        } else {
                            moment >= stop
                        }
                }) {
                    values.push(Value::Timestamp(moment));
                    let after = match zone {
                        Some(zone) => super::text_io::local_to_utc(
                            add_interval(utc_to_local(moment, *zone), *step)?,
                            *zone,
                        ),
                        None => add_interval(moment, *step)?,
                    };
                    *next = (after != moment).then_some(after);
                }
                column(&values, &self.element)
            }
        }
    }

    /// Everything as one array, where it may not be too large for that.
    fn whole<'a>(mut self) -> Result<Value<'a>, SqlError> {
        let array = self.take(ROWS_MAX + 1)?;
        if array.len() > ROWS_MAX {
            return Err(too_many());
        }
        Ok(Value::List(array))
    }
}

fn integers(cells: &[Value<'_>]) -> Result<Kind, SqlError> {
    let step = cells.get(2).map_or(1, Value::as_int);
    if step == 0 {
        return Err(zero_step());
    }
    Ok(Kind::Integers {
        next: Some(cells[0].as_int()),
        stop: cells[1].as_int(),
        step,
    })
}

fn numerics(cells: &[Value<'_>]) -> Result<Kind, SqlError> {
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
        return Err(SqlError::new(
            SqlState::NUMERIC_VALUE_OUT_OF_RANGE,
            "numeric field overflow",
        ));
    };
    if step == 0 {
        return Err(zero_step());
    }
    Ok(Kind::Numerics {
        next: Some(start),
        stop,
        step,
        scale,
    })
}

fn moments(
    start: i64,
    stop: i64,
    step: &Value<'_>,
    zone: Option<chrono_tz::Tz>,
) -> Result<Kind, SqlError> {
    let step = step.as_interval();
    if step == IntervalMonthDayNano::ZERO {
        return Err(zero_step());
    }
    Ok(Kind::Moments {
        next: Some(start),
        stop,
        step,
        zone,
    })
}

/// A series as an array, for calls whose arguments are columns.
fn series<'a>(
    context: &FunctionContext,
    cells: &[Value<'a>],
    element: ColumnType,
) -> Result<Value<'a>, SqlError> {
    Series::new(cells, &element, context.zone)?.whole()
}

pub fn register(functions: &mut Builder) {
    functions.rows(
        "generate_series(integer, integer, [integer]) integer[]",
        |context, cells| series(context, cells, ColumnType::Integer),
    );
    functions.rows(
        "generate_series(bigint, bigint, [bigint]) bigint[]",
        |context, cells| series(context, cells, ColumnType::BigInt),
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
        |context, cells| {
            let any = ColumnType::Numeric {
                precision: Some(38),
                scale: 0,
            };
            series(context, cells, any)
        },
    );
    functions.rows(
        "generate_series(timestamp, timestamp, interval) timestamp[]",
        |context, cells| series(context, cells, ColumnType::Timestamp),
    );
    functions.rows(
        "generate_series(timestamptz, timestamptz, interval) timestamptz[]",
        |context, cells| series(context, cells, ColumnType::TimestampTz),
    );
    functions.rows(
        "generate_series(date, date, interval) timestamptz[]",
        |context, cells| series(context, cells, ColumnType::TimestampTz),
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
