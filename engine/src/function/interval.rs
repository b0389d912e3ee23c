//! What comparing, sorting and adding up intervals takes.
//!
//! PostgreSQL compares intervals by their length with months of 30 days and days of 24 hours, so that
//! `1 day` equals `24 hours`; Arrow compares them field by field. The planner therefore compares,
//! sorts and groups by [`interval_micros`], and takes the least of their keys: bytes that sort by the
//! length and from which the interval as it was can be read back. A sum is made of the sums of the
//! fields, so that it is exact.

use std::borrow::Cow;

use boathouse_catalog::types::ColumnType;
use datafusion::arrow::datatypes::IntervalMonthDayNano;
use datafusion::common::ScalarValue;

use super::datetime::interval_micros;
use super::registry::Builder;
use super::text_io::compose;
use super::value::Value;
use crate::error::{SqlError, SqlState};

/// The functions that give the fields of an interval to be summed, months first.
pub const FIELDS: [&str; 3] = ["interval_months", "interval_days", "interval_time"];

/// Bytes that sort as the intervals do.
fn key(interval: IntervalMonthDayNano) -> Vec<u8> {
    // With the sign turned over, big-endian bytes sort as the number does.
    let length = (interval_micros(interval) as u64) ^ (1 << 63);
    let mut key = length.to_be_bytes().to_vec();
    key.extend(interval.months.to_be_bytes());
    key.extend(interval.days.to_be_bytes());
    key.extend(interval.nanoseconds.to_be_bytes());
    key
}

fn of_key(key: &[u8]) -> Option<IntervalMonthDayNano> {
    let (_, rest) = key.split_first_chunk::<8>()?;
    let (months, rest) = rest.split_first_chunk::<4>()?;
    let (days, rest) = rest.split_first_chunk::<4>()?;
    let (nanoseconds, _) = rest.split_first_chunk::<8>()?;
    Some(IntervalMonthDayNano::new(
        i32::from_be_bytes(*months),
        i32::from_be_bytes(*days),
        i64::from_be_bytes(*nanoseconds),
    ))
}

/// A whole number as `sum` adds it up without overflowing.
fn whole(_: &[ColumnType], _: &[Option<ScalarValue>]) -> ColumnType {
    ColumnType::Numeric {
        precision: Some(20),
        scale: 0,
    }
}

fn number<'a>(value: i64) -> Value<'a> {
    Value::Numeric {
        unscaled: i128::from(value),
        scale: 0,
    }
}

fn of_sums<'a>(cells: &[Value<'a>]) -> Result<Value<'a>, SqlError> {
    let out_of_range = || SqlError::new(SqlState("22008"), "interval out of range");
    let field = |index: usize| cells[index].as_numeric().0;
    Ok(Value::Interval(IntervalMonthDayNano::new(
        i32::try_from(field(0)).map_err(|_| out_of_range())?,
        i32::try_from(field(1)).map_err(|_| out_of_range())?,
        i64::try_from(field(2)).map_err(|_| out_of_range())?,
    )))
}

pub fn register(functions: &mut Builder) {
    functions.rows("interval_order(interval) bigint", |_, cells| {
        Ok(Value::Int(interval_micros(cells[0].as_interval())))
    });
    functions.rows("interval_key(interval) bytea", |_, cells| {
        Ok(Value::Bytes(Cow::Owned(key(cells[0].as_interval()))))
    });
    functions.rows("interval_of_key(bytea) interval", |_, cells| {
        let Value::Bytes(bytes) = &cells[0] else {
            return Ok(Value::Null);
        };
        Ok(of_key(bytes).map_or(Value::Null, Value::Interval))
    });
    functions.computed("interval_months(interval) numeric", whole, |_, cells| {
        Ok(number(i64::from(cells[0].as_interval().months)))
    });
    functions.computed("interval_days(interval) numeric", whole, |_, cells| {
        Ok(number(i64::from(cells[0].as_interval().days)))
    });
    functions.computed("interval_time(interval) numeric", whole, |_, cells| {
        Ok(number(cells[0].as_interval().nanoseconds))
    });
    functions.rows(
        "interval_of_sums(numeric, numeric, numeric) interval",
        |_, cells| of_sums(cells),
    );
    functions.rows(
        "interval_average(numeric, numeric, numeric, bigint) interval",
        |_, cells| {
            let count = cells[3].as_int() as f64;
            if count == 0.0 {
                return Ok(Value::Null);
            }
            let field = |index: usize| cells[index].as_numeric().0 as f64 / count;
            Ok(Value::Interval(compose(field(0), field(1), field(2))))
        },
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_sort_by_length_and_keep_the_interval() {
        let hour = 3_600_000_000_000;
        let ordered = [
            IntervalMonthDayNano::new(0, -2, 0),
            IntervalMonthDayNano::new(0, 0, -hour),
            IntervalMonthDayNano::ZERO,
            IntervalMonthDayNano::new(0, 0, 36 * hour),
            IntervalMonthDayNano::new(0, 2, 0),
            IntervalMonthDayNano::new(1, 0, 0),
            IntervalMonthDayNano::new(0, 31, 0),
        ];
        assert!(ordered.is_sorted_by_key(|interval| key(*interval)));
        for interval in ordered {
            assert_eq!(of_key(&key(interval)), Some(interval));
        }
    }
}
