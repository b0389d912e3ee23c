//! Functions and operators over dates, times, timestamps and intervals.
//!
//! A timestamptz is an instant; what depends on days or months is reckoned on the clocks of the
//! session's time zone, as PostgreSQL does, and brought back.

use boathouse_catalog::types::ColumnType;
use chrono::{Datelike, Months, NaiveDate};
use datafusion::arrow::datatypes::IntervalMonthDayNano;
use datafusion::common::ScalarValue;

use super::registry::Builder;
use super::scalar::FunctionContext;
use super::text_io::{
    MICROS_PER_DAY, Zone, compose, date_from_days, days_from_date, local_to_utc, offset_seconds,
    parse_zone, utc_to_local,
};
use super::value::Value;
use crate::error::{SqlError, SqlState};

type Cell<'a> = Result<Value<'a>, SqlError>;

fn out_of_range() -> SqlError {
    SqlError::new(SqlState("22008"), "timestamp out of range")
}

fn unit_not_known(unit: &str, of: &str) -> SqlError {
    SqlError::new(
        SqlState::INVALID_PARAMETER_VALUE,
        format!("unit \"{unit}\" not recognized for type {of}"),
    )
}

/// Adds an interval to a clock reading: months first, then days, then time.
pub fn add_interval(micros: i64, interval: IntervalMonthDayNano) -> Result<i64, SqlError> {
    let mut days = micros.div_euclid(MICROS_PER_DAY);
    let time = micros.rem_euclid(MICROS_PER_DAY);
    if interval.months != 0 {
        let date = i32::try_from(days)
            .ok()
            .and_then(date_from_days)
            .ok_or_else(out_of_range)?;
        let moved = if interval.months > 0 {
            date.checked_add_months(Months::new(interval.months.unsigned_abs()))
        } else {
            date.checked_sub_months(Months::new(interval.months.unsigned_abs()))
        };
        days = i64::from(days_from_date(moved.ok_or_else(out_of_range)?));
    }
    days.checked_add(i64::from(interval.days))
        .and_then(|days| days.checked_mul(MICROS_PER_DAY))
        .and_then(|start| start.checked_add(time))
        .and_then(|moved| moved.checked_add(interval.nanoseconds / 1000))
        .ok_or_else(out_of_range)
}

pub fn add_in_zone(
    micros: i64,
    interval: IntervalMonthDayNano,
    zone: chrono_tz::Tz,
) -> Result<i64, SqlError> {
    if interval.months == 0 && interval.days == 0 {
        return add_interval(micros, interval);
    }
    let calendar = IntervalMonthDayNano::new(interval.months, interval.days, 0);
    let moved = local_to_utc(add_interval(utc_to_local(micros, zone), calendar)?, zone);
    moved
        .checked_add(interval.nanoseconds / 1000)
        .ok_or_else(out_of_range)
}

pub fn negate(interval: IntervalMonthDayNano) -> IntervalMonthDayNano {
    IntervalMonthDayNano::new(
        interval.months.wrapping_neg(),
        interval.days.wrapping_neg(),
        interval.nanoseconds.wrapping_neg(),
    )
}

/// An interval's length with months of 30 days, to compare and to sort by.
pub fn interval_micros(interval: IntervalMonthDayNano) -> i64 {
    (i64::from(interval.months) * 30 + i64::from(interval.days))
        .saturating_mul(MICROS_PER_DAY)
        .saturating_add(interval.nanoseconds / 1000)
}

fn scale(interval: IntervalMonthDayNano, factor: f64) -> IntervalMonthDayNano {
    compose(
        f64::from(interval.months) * factor,
        f64::from(interval.days) * factor,
        interval.nanoseconds as f64 * factor,
    )
}

/// The difference of two instants: days and time.
fn difference(left: i64, right: i64) -> IntervalMonthDayNano {
    let micros = left.wrapping_sub(right);
    let days = micros / MICROS_PER_DAY;
    IntervalMonthDayNano::new(0, days as i32, (micros % MICROS_PER_DAY) * 1000)
}

fn register_operators(functions: &mut Builder) {
    functions.rows("+(date, integer) date", |_, cells| {
        Ok(Value::Date((cells[0].as_int() + cells[1].as_int()) as i32))
    });
    functions.rows("+(integer, date) date", |_, cells| {
        Ok(Value::Date((cells[0].as_int() + cells[1].as_int()) as i32))
    });
    functions.rows("-(date, integer) date", |_, cells| {
        Ok(Value::Date((cells[0].as_int() - cells[1].as_int()) as i32))
    });
    functions.rows("-(date, date) integer", |_, cells| {
        Ok(Value::Int(cells[0].as_int() - cells[1].as_int()))
    });
    functions.rows("+(date, time) timestamp", |_, cells| {
        Ok(Value::Timestamp(
            cells[0].as_int() * MICROS_PER_DAY + cells[1].as_int(),
        ))
    });
    fn date_plus<'a>(_: &FunctionContext, cells: &[Value<'a>]) -> Cell<'a> {
        let start = cells[0].as_int() * MICROS_PER_DAY;
        add_interval(start, cells[1].as_interval()).map(Value::Timestamp)
    }
    functions.rows("+(date, interval) timestamp", date_plus);
    functions.rows("+(interval, date) timestamp", |context, cells| {
        date_plus(context, &[cells[1].clone(), cells[0].clone()])
    });
    functions.rows("-(date, interval) timestamp", |_, cells| {
        let start = cells[0].as_int() * MICROS_PER_DAY;
        add_interval(start, negate(cells[1].as_interval())).map(Value::Timestamp)
    });
    functions.rows("+(timestamp, interval) timestamp", |_, cells| {
        add_interval(cells[0].as_int(), cells[1].as_interval()).map(Value::Timestamp)
    });
    functions.rows("+(interval, timestamp) timestamp", |_, cells| {
        add_interval(cells[1].as_int(), cells[0].as_interval()).map(Value::Timestamp)
    });
    functions.rows("-(timestamp, interval) timestamp", |_, cells| {
        add_interval(cells[0].as_int(), negate(cells[1].as_interval())).map(Value::Timestamp)
    });
    functions.rows("+(timestamptz, interval) timestamptz", |context, cells| {
        let zone = context.zone;
        add_in_zone(cells[0].as_int(), cells[1].as_interval(), zone).map(Value::Timestamp)
    });
    functions.rows("+(interval, timestamptz) timestamptz", |context, cells| {
        let zone = context.zone;
        add_in_zone(cells[1].as_int(), cells[0].as_interval(), zone).map(Value::Timestamp)
    });
    functions.rows("-(timestamptz, interval) timestamptz", |context, cells| {
        let zone = context.zone;
        add_in_zone(cells[0].as_int(), negate(cells[1].as_interval()), zone).map(Value::Timestamp)
    });
    for signature in [
        "-(timestamp, timestamp) interval",
        "-(timestamptz, timestamptz) interval",
    ] {
        functions.rows(signature, |_, cells| {
            Ok(Value::Interval(difference(
                cells[0].as_int(),
                cells[1].as_int(),
            )))
        });
    }
    functions.rows("-(time, time) interval", |_, cells| {
        let micros = cells[0].as_int() - cells[1].as_int();
        Ok(Value::Interval(IntervalMonthDayNano::new(
            0,
            0,
            micros * 1000,
        )))
    });
    functions.rows("+(time, interval) time", |_, cells| {
        let micros = cells[0].as_int() + cells[1].as_interval().nanoseconds / 1000;
        Ok(Value::Time(micros.rem_euclid(MICROS_PER_DAY)))
    });
    functions.rows("-(time, interval) time", |_, cells| {
        let micros = cells[0].as_int() - cells[1].as_interval().nanoseconds / 1000;
        Ok(Value::Time(micros.rem_euclid(MICROS_PER_DAY)))
    });
    functions.rows("+(interval, interval) interval", |_, cells| {
        let (left, right) = (cells[0].as_interval(), cells[1].as_interval());
        Ok(Value::Interval(IntervalMonthDayNano::new(
            left.months.wrapping_add(right.months),
            left.days.wrapping_add(right.days),
            left.nanoseconds.wrapping_add(right.nanoseconds),
        )))
    });
    functions.rows("-(interval, interval) interval", |_, cells| {
        let (left, right) = (cells[0].as_interval(), negate(cells[1].as_interval()));
        Ok(Value::Interval(IntervalMonthDayNano::new(
            left.months.wrapping_add(right.months),
            left.days.wrapping_add(right.days),
            left.nanoseconds.wrapping_add(right.nanoseconds),
        )))
    });
    functions.rows("*(interval, double precision) interval", |_, cells| {
        Ok(Value::Interval(scale(
            cells[0].as_interval(),
            cells[1].as_float(),
        )))
    });
    functions.rows("*(double precision, interval) interval", |_, cells| {
        Ok(Value::Interval(scale(
            cells[1].as_interval(),
            cells[0].as_float(),
        )))
    });
    functions.rows("/(interval, double precision) interval", |_, cells| {
        let divisor = cells[1].as_float();
        if divisor == 0.0 {
            return Err(crate::query::failure::division_by_zero());
        }
        Ok(Value::Interval(scale(
            cells[0].as_interval(),
            1.0 / divisor,
        )))
    });
}

/// The type of `extract`: whole for a field of the calendar, with microseconds for seconds.
fn extract_type(_: &[ColumnType], constants: &[Option<ScalarValue>]) -> ColumnType {
    let unit = match constants.first() {
        Some(Some(ScalarValue::Utf8(Some(unit)))) => unit.to_ascii_lowercase(),
        _ => String::new(),
    };
    let scale = match unit.trim_end_matches('s') {
        "" | "epoch" | "second" | "sec" => 6,
        "millisecond" | "msec" => 3,
        "julian" => 16,
        _ => 0,
    };
    ColumnType::Numeric {
        precision: Some(38),
        scale,
    }
}

/// A field as (value times 10^6).
pub fn field_of(unit: &str, micros: i64, zone: Option<chrono_tz::Tz>) -> Option<i128> {
    let local = zone.map_or(micros, |zone| utc_to_local(micros, zone));
    let days = i32::try_from(local.div_euclid(MICROS_PER_DAY)).ok()?;
    let time = local.rem_euclid(MICROS_PER_DAY);
    let date = date_from_days(days)?;
    let year = i64::from(date.year());
    let shown_year = if year <= 0 { year - 1 } else { year };
    let whole = |number: i64| Some(i128::from(number) * 1_000_000);
    match unit {
        "year" | "years" | "y" | "yr" | "yrs" => whole(shown_year),
        "quarter" | "qtr" => whole(i64::from(date.month0() / 3 + 1)),
        "month" | "months" | "mon" | "mons" => whole(i64::from(date.month())),
        "week" | "weeks" | "w" => whole(i64::from(date.iso_week().week())),
        "day" | "days" | "d" => whole(i64::from(date.day())),
        "hour" | "hours" | "h" | "hr" => whole(time / 3_600_000_000),
        "minute" | "minutes" | "m" | "min" => whole(time / 60_000_000 % 60),
        "second" | "seconds" | "s" | "sec" => Some(i128::from(time % 60_000_000)),
        "millisecond" | "milliseconds" | "ms" | "msec" => {
            Some(i128::from(time % 60_000_000) * 1000)
        }
        "microsecond" | "microseconds" | "us" | "usec" => {
            Some(i128::from(time % 60_000_000) * 1_000_000)
        }
        "dow" => whole(i64::from(date.weekday().num_days_from_sunday())),
        "isodow" => whole(i64::from(date.weekday().number_from_monday())),
        "doy" => whole(i64::from(date.ordinal())),
        "isoyear" => whole(i64::from(date.iso_week().year())),
        "decade" => whole(year.div_euclid(10)),
        "century" => whole(if year > 0 {
            (year + 99) / 100
        } else {
            (year - 100) / 100
        }),
        "millennium" => whole(if year > 0 {
            (year + 999) / 1000
        } else {
            (year - 1000) / 1000
        }),
        "epoch" => Some(i128::from(micros)),
        "julian" => Some(
            (i128::from(days) + 2_440_588) * 1_000_000
                + i128::from(time) * 1_000_000 / i128::from(MICROS_PER_DAY),
        ),
        "timezone" => whole(i64::from(
            zone.map_or(0, |zone| offset_seconds(micros, zone)),
        )),
        "timezone_hour" => whole(i64::from(
            zone.map_or(0, |zone| offset_seconds(micros, zone)) / 3600,
        )),
        "timezone_minute" => whole(i64::from(
            zone.map_or(0, |zone| offset_seconds(micros, zone)) / 60 % 60,
        )),
        _ => None,
    }
}

/// Whether a date lacks the field.
pub fn is_of_time(unit: &str) -> bool {
    unit.starts_with("hour")
        || unit.starts_with("minute")
        || unit.starts_with("second")
        || unit.starts_with("milli") && unit != "millennium"
        || unit.starts_with("micro")
}

fn interval_field(unit: &str, interval: IntervalMonthDayNano) -> Option<i128> {
    let micros = interval.nanoseconds / 1000;
    let months = i64::from(interval.months);
    let whole = |number: i64| Some(i128::from(number) * 1_000_000);
    match unit {
        "millennium" => whole(months / 12_000),
        "century" => whole(months / 1_200),
        "decade" => whole(months / 120),
        "year" | "years" => whole(months / 12),
        "quarter" => whole(months % 12 / 3 + 1),
        "month" | "months" => whole(months % 12),
        "day" | "days" => whole(i64::from(interval.days)),
        "hour" | "hours" => whole(micros / 3_600_000_000),
        "minute" | "minutes" => whole(micros / 60_000_000 % 60),
        "second" | "seconds" => Some(i128::from(micros % 60_000_000)),
        "millisecond" | "milliseconds" => Some(i128::from(micros % 60_000_000) * 1000),
        "microsecond" | "microseconds" => Some(i128::from(micros % 60_000_000) * 1_000_000),
        "epoch" => {
            // A year is 365.25 days here, a month of the rest 30.
            let days = i128::from(months / 12) * 36_525 / 100 * 86_400_000_000
                + (i128::from(months / 12) * 36_525 % 100) * 864_000_000
                + i128::from(months % 12) * 30 * 86_400_000_000
                + i128::from(interval.days) * 86_400_000_000;
            Some(days + i128::from(micros))
        }
        _ => None,
    }
}

fn time_field(unit: &str, micros: i64) -> Option<i128> {
    match unit {
        "hour" | "hours" | "minute" | "minutes" | "second" | "seconds" | "millisecond"
        | "milliseconds" | "microsecond" | "microseconds" | "epoch" => field_of(unit, micros, None),
        _ => None,
    }
}

fn numeric_field<'a>(found: Option<i128>, unit: &str, of: &str) -> Cell<'a> {
    match found {
        Some(unscaled) => Ok(Value::Numeric { unscaled, scale: 6 }),
        None => Err(unit_not_known(unit, of)),
    }
}

fn register_fields(functions: &mut Builder) {
    functions.computed(
        "extract(text, timestamp) numeric",
        extract_type,
        |_, cells| {
            let unit = cells[0].as_text().to_ascii_lowercase();
            numeric_field(
                field_of(&unit, cells[1].as_int(), None),
                &unit,
                "timestamp without time zone",
            )
        },
    );
    functions.computed(
        "extract(text, timestamptz) numeric",
        extract_type,
        |context, cells| {
            let unit = cells[0].as_text().to_ascii_lowercase();
            let zone = Some(context.zone);
            numeric_field(
                field_of(&unit, cells[1].as_int(), zone),
                &unit,
                "timestamp with time zone",
            )
        },
    );
    functions.computed("extract(text, date) numeric", extract_type, |_, cells| {
        let unit = cells[0].as_text().to_ascii_lowercase();
        let found = if is_of_time(&unit) {
            None
        } else {
            field_of(&unit, cells[1].as_int() * MICROS_PER_DAY, None)
        };
        numeric_field(found, &unit, "date")
    });
    functions.computed(
        "extract(text, interval) numeric",
        extract_type,
        |_, cells| {
            let unit = cells[0].as_text().to_ascii_lowercase();
            numeric_field(
                interval_field(&unit, cells[1].as_interval()),
                &unit,
                "interval",
            )
        },
    );
    functions.computed("extract(text, time) numeric", extract_type, |_, cells| {
        let unit = cells[0].as_text().to_ascii_lowercase();
        numeric_field(
            time_field(&unit, cells[1].as_int()),
            &unit,
            "time without time zone",
        )
    });
    fn float<'a>(found: Cell<'a>) -> Cell<'a> {
        found.map(|value| Value::Float(value.as_float()))
    }
    functions.rows("date_part(text, timestamp) double precision", |_, cells| {
        let unit = cells[0].as_text().to_ascii_lowercase();
        let found = field_of(&unit, cells[1].as_int(), None);
        float(numeric_field(found, &unit, "timestamp without time zone"))
    });
    functions.rows(
        "date_part(text, timestamptz) double precision",
        |context, cells| {
            let unit = cells[0].as_text().to_ascii_lowercase();
            let found = field_of(&unit, cells[1].as_int(), Some(context.zone));
            float(numeric_field(found, &unit, "timestamp with time zone"))
        },
    );
    functions.rows("date_part(text, date) double precision", |_, cells| {
        let unit = cells[0].as_text().to_ascii_lowercase();
        let found = field_of(&unit, cells[1].as_int() * MICROS_PER_DAY, None);
        float(numeric_field(found, &unit, "date"))
    });
    functions.rows("date_part(text, interval) double precision", |_, cells| {
        let unit = cells[0].as_text().to_ascii_lowercase();
        float(numeric_field(
            interval_field(&unit, cells[1].as_interval()),
            &unit,
            "interval",
        ))
    });
    functions.rows("date_part(text, time) double precision", |_, cells| {
        let unit = cells[0].as_text().to_ascii_lowercase();
        float(numeric_field(
            time_field(&unit, cells[1].as_int()),
            &unit,
            "time without time zone",
        ))
    });
}

/// Cuts a clock reading down to a unit.
pub fn truncate(unit: &str, micros: i64) -> Option<i64> {
    if matches!(micros, i64::MIN | i64::MAX) {
        // Infinity stays, by any unit there is.
        return truncate(unit, 0).map(|_| micros);
    }
    let step = match unit {
        "microsecond" | "microseconds" => 1,
        "millisecond" | "milliseconds" => 1_000,
        "second" | "seconds" => 1_000_000,
        "minute" | "minutes" => 60_000_000,
        "hour" | "hours" => 3_600_000_000,
        "day" | "days" => MICROS_PER_DAY,
        _ => 0,
    };
    if step > 0 {
        return Some(micros.div_euclid(step) * step);
    }
    let days = i32::try_from(micros.div_euclid(MICROS_PER_DAY)).ok()?;
    let date = date_from_days(days)?;
    let start = |year: i32, month: u32| NaiveDate::from_ymd_opt(year, month, 1);
    let year = date.year();
    let cut = match unit {
        "week" | "weeks" => date.checked_sub_days(chrono::Days::new(u64::from(
            date.weekday().num_days_from_monday(),
        ))),
        "month" | "months" => start(year, date.month()),
        "quarter" => start(year, date.month0() / 3 * 3 + 1),
        "year" | "years" => start(year, 1),
        "decade" => start(year.div_euclid(10) * 10, 1),
        "century" => start((year - 1).div_euclid(100) * 100 + 1, 1),
        "millennium" => start((year - 1).div_euclid(1000) * 1000 + 1, 1),
        _ => None,
    }?;
    Some(i64::from(days_from_date(cut)) * MICROS_PER_DAY)
}

fn named_zone(name: &str) -> Result<Zone, SqlError> {
    parse_zone(name).ok_or_else(|| {
        SqlError::new(
            SqlState::INVALID_PARAMETER_VALUE,
            format!("time zone \"{name}\" not recognized"),
        )
    })
}

fn to_local(micros: i64, zone: &Zone) -> i64 {
    match zone {
        Zone::Offset(seconds) => micros + i64::from(*seconds) * 1_000_000,
        Zone::Named(zone) => utc_to_local(micros, *zone),
    }
}

fn to_utc(micros: i64, zone: &Zone) -> i64 {
    match zone {
        Zone::Offset(seconds) => micros - i64::from(*seconds) * 1_000_000,
        Zone::Named(zone) => local_to_utc(micros, *zone),
    }
}

fn truncate_in(unit: &str, micros: i64, zone: &Zone) -> Result<i64, SqlError> {
    let unit = unit.to_ascii_lowercase();
    let cut = truncate(&unit, to_local(micros, zone))
        .ok_or_else(|| unit_not_known(&unit, "timestamp with time zone"))?;
    Ok(to_utc(cut, zone))
}

/// Years, months, days and time between two clock readings.
pub fn age(later: i64, earlier: i64) -> IntervalMonthDayNano {
    if later < earlier {
        return negate(age(earlier, later));
    }
    let split = |micros: i64| {
        let days = i32::try_from(micros.div_euclid(MICROS_PER_DAY)).unwrap_or(0);
        (
            date_from_days(days).unwrap_or_default(),
            micros.rem_euclid(MICROS_PER_DAY),
        )
    };
    let ((to, to_time), (from, from_time)) = (split(later), split(earlier));
    let mut months = (to.year() - from.year()) * 12 + to.month() as i32 - from.month() as i32;
    let mut days = to.day() as i32 - from.day() as i32;
    let mut time = to_time - from_time;
    if time < 0 {
        time += MICROS_PER_DAY;
        days -= 1;
    }
    if days < 0 {
        // The days of the month in which the earlier date lies, as PostgreSQL borrows them.
        days += days_in_month(from);
        months -= 1;
    }
    IntervalMonthDayNano::new(months, days, time * 1000)
}

fn days_in_month(date: NaiveDate) -> i32 {
    let next = if date.month() == 12 {
        NaiveDate::from_ymd_opt(date.year() + 1, 1, 1)
    } else {
        NaiveDate::from_ymd_opt(date.year(), date.month() + 1, 1)
    };
    next.and_then(|next| next.pred_opt())
        .map_or(30, |last| last.day() as i32)
}

fn bin<'a>(step: IntervalMonthDayNano, micros: i64, origin: i64) -> Cell<'a> {
    let invalid =
        |message: &str| SqlError::new(SqlState::FEATURE_NOT_SUPPORTED, message.to_owned());
    if step.months != 0 {
        return Err(invalid(
            "timestamps cannot be binned into intervals containing months or years",
        ));
    }
    let stride = interval_micros(step);
    if stride <= 0 {
        return Err(SqlError::new(
            SqlState("22008"),
            "stride must be greater than zero",
        ));
    }
    Ok(Value::Timestamp(
        origin + (micros - origin).div_euclid(stride) * stride,
    ))
}

fn today(context: &FunctionContext) -> i64 {
    let zone = context.zone;
    let local = utc_to_local(context.session.transaction_timestamp, zone);
    local.div_euclid(MICROS_PER_DAY) * MICROS_PER_DAY
}

pub fn register(functions: &mut Builder) {
    register_operators(functions);
    register_fields(functions);
    register_clock(functions);
    functions.rows("date_trunc(text, timestamp) timestamp", |_, cells| {
        let unit = cells[0].as_text().to_ascii_lowercase();
        truncate(&unit, cells[1].as_int())
            .map(Value::Timestamp)
            .ok_or_else(|| unit_not_known(&unit, "timestamp without time zone"))
    });
    functions.rows(
        "date_trunc(text, timestamptz) timestamptz",
        |context, cells| {
            let zone = Zone::Named(context.zone);
            truncate_in(cells[0].as_text(), cells[1].as_int(), &zone).map(Value::Timestamp)
        },
    );
    functions.rows("date_trunc(text, date) timestamptz", |context, cells| {
        let zone = context.zone;
        let start = local_to_utc(cells[1].as_int() * MICROS_PER_DAY, zone);
        truncate_in(cells[0].as_text(), start, &Zone::Named(zone)).map(Value::Timestamp)
    });
    functions.rows(
        "date_trunc(text, timestamptz, text) timestamptz",
        |_, cells| {
            let zone = named_zone(cells[2].as_text())?;
            truncate_in(cells[0].as_text(), cells[1].as_int(), &zone).map(Value::Timestamp)
        },
    );
    functions.rows("date_trunc(text, interval) interval", |_, cells| {
        let interval = cells[1].as_interval();
        let unit = cells[0].as_text().to_ascii_lowercase();
        let time = interval.nanoseconds / 1000;
        let cut = |months: i32, days: i32, micros: i64| {
            Ok(Value::Interval(IntervalMonthDayNano::new(
                months,
                days,
                micros * 1000,
            )))
        };
        match unit.trim_end_matches('s') {
            "year" => cut(interval.months / 12 * 12, 0, 0),
            "quarter" => cut(interval.months / 3 * 3, 0, 0),
            "month" => cut(interval.months, 0, 0),
            "day" => cut(interval.months, interval.days, 0),
            "hour" => cut(
                interval.months,
                interval.days,
                time / 3_600_000_000 * 3_600_000_000,
            ),
            "minute" => cut(
                interval.months,
                interval.days,
                time / 60_000_000 * 60_000_000,
            ),
            "second" => cut(interval.months, interval.days, time / 1_000_000 * 1_000_000),
            _ => Err(unit_not_known(&unit, "interval")),
        }
    });
    functions.rows(
        "date_bin(interval, timestamp, timestamp) timestamp",
        |_, cells| bin(cells[0].as_interval(), cells[1].as_int(), cells[2].as_int()),
    );
    functions.rows(
        "date_bin(interval, timestamptz, timestamptz) timestamptz",
        |_, cells| bin(cells[0].as_interval(), cells[1].as_int(), cells[2].as_int()),
    );
    functions.rows("age(timestamp, timestamp) interval", |_, cells| {
        Ok(Value::Interval(age(cells[0].as_int(), cells[1].as_int())))
    });
    functions.rows(
        "age(timestamptz, timestamptz) interval",
        |context, cells| {
            let zone = context.zone;
            let local = |cell: &Value<'_>| utc_to_local(cell.as_int(), zone);
            Ok(Value::Interval(age(local(&cells[0]), local(&cells[1]))))
        },
    );
    functions.stable("age(timestamp) interval", |context, cells| {
        Ok(Value::Interval(age(today(context), cells[0].as_int())))
    });
    functions.stable("age(timestamptz) interval", |context, cells| {
        let local = utc_to_local(cells[0].as_int(), context.zone);
        Ok(Value::Interval(age(today(context), local)))
    });
    functions.rows("timezone(text, timestamp) timestamptz", |_, cells| {
        let zone = named_zone(cells[0].as_text())?;
        Ok(Value::Timestamp(to_utc(cells[1].as_int(), &zone)))
    });
    functions.rows("timezone(text, timestamptz) timestamp", |_, cells| {
        let zone = named_zone(cells[0].as_text())?;
        Ok(Value::Timestamp(to_local(cells[1].as_int(), &zone)))
    });
    functions.rows("timezone(interval, timestamptz) timestamp", |_, cells| {
        Ok(Value::Timestamp(
            cells[1].as_int() + interval_micros(cells[0].as_interval()),
        ))
    });
    functions.rows("justify_hours(interval) interval", |_, cells| {
        let interval = cells[0].as_interval();
        let micros = interval.nanoseconds / 1000;
        Ok(Value::Interval(IntervalMonthDayNano::new(
            interval.months,
            interval.days + (micros / MICROS_PER_DAY) as i32,
            micros % MICROS_PER_DAY * 1000,
        )))
    });
    functions.rows("justify_days(interval) interval", |_, cells| {
        let interval = cells[0].as_interval();
        Ok(Value::Interval(IntervalMonthDayNano::new(
            interval.months + interval.days / 30,
            interval.days % 30,
            interval.nanoseconds,
        )))
    });
    functions.rows("justify_interval(interval) interval", |_, cells| {
        let micros = interval_micros(cells[0].as_interval());
        let days = micros / MICROS_PER_DAY;
        Ok(Value::Interval(IntervalMonthDayNano::new(
            (days / 30) as i32,
            (days % 30) as i32,
            micros % MICROS_PER_DAY * 1000,
        )))
    });
    functions.rows("make_date(integer, integer, integer) date", |_, cells| {
        make_date(cells).map(|date| Value::Date(days_from_date(date)))
    });
    functions.rows(
        "make_time(integer, integer, double precision) time",
        |_, cells| Ok(Value::Time(clock(cells, 0))),
    );
    functions.rows(
        "make_timestamp(integer, integer, integer, integer, integer, double precision) timestamp",
        |_, cells| {
            let days = i64::from(days_from_date(make_date(cells)?));
            Ok(Value::Timestamp(days * MICROS_PER_DAY + clock(cells, 3)))
        },
    );
    functions.rows(
        "make_timestamptz(integer, integer, integer, integer, integer, double precision, [text]) timestamptz",
        |context, cells| {
            let days = i64::from(days_from_date(make_date(cells)?));
            let zone = match cells.get(6) {
                Some(name) => named_zone(name.as_text())?,
                None => Zone::Named(context.zone),
            };
            Ok(Value::Timestamp(to_utc(days * MICROS_PER_DAY + clock(cells, 3), &zone)))
        },
    );
    functions.rows(
        "make_interval([integer], [integer], [integer], [integer], [integer], [integer], [double precision]) interval",
        |_, cells| {
            let part = |index: usize| cells.get(index).map_or(0, Value::as_int);
            let seconds = cells.get(6).map_or(0.0, Value::as_float);
            let nanos = (part(4) * 3600 + part(5) * 60) as f64 * 1e9 + seconds * 1e9;
            Ok(Value::Interval(IntervalMonthDayNano::new(
                (part(0) * 12 + part(1)) as i32,
                (part(2) * 7 + part(3)) as i32,
                (nanos / 1000.0).round() as i64 * 1000,
            )))
        },
    );
    functions.rows("to_timestamp(double precision) timestamptz", |_, cells| {
        Ok(Value::Timestamp((cells[0].as_float() * 1e6).round() as i64))
    });
    functions.rows("isfinite(timestamp) boolean", |_, cells| {
        Ok(Value::Bool(!matches!(
            cells[0].as_int(),
            i64::MAX | i64::MIN
        )))
    });
    functions.rows(
        "overlaps(timestamptz, timestamptz, timestamptz, timestamptz) boolean",
        |_, cells| {
            let at = |index: usize| cells[index].as_int();
            Ok(Value::Bool(at(0) < at(3) && at(2) < at(1)))
        },
    );
}

fn make_date(cells: &[Value<'_>]) -> Result<NaiveDate, SqlError> {
    let (year, month, day) = (cells[0].as_int(), cells[1].as_int(), cells[2].as_int());
    i32::try_from(year)
        .ok()
        .zip(u32::try_from(month).ok().zip(u32::try_from(day).ok()))
        .and_then(|(year, (month, day))| NaiveDate::from_ymd_opt(year, month, day))
        .ok_or_else(|| {
            SqlError::new(
                SqlState("22008"),
                format!("date field value out of range: {year}-{month:02}-{day:02}"),
            )
        })
}

fn clock(cells: &[Value<'_>], first: usize) -> i64 {
    let part = |index: usize| cells.get(first + index).map_or(0, Value::as_int);
    let seconds = cells.get(first + 2).map_or(0.0, Value::as_float);
    part(0) * 3_600_000_000 + part(1) * 60_000_000 + (seconds * 1e6).round() as i64
}

fn register_clock(functions: &mut Builder) {
    for signature in [
        "now() timestamptz",
        "current_timestamp([integer]) timestamptz",
        "transaction_timestamp() timestamptz",
    ] {
        functions.stable(signature, |context, _| {
            Ok(Value::Timestamp(context.session.transaction_timestamp))
        });
    }
    functions.stable("statement_timestamp() timestamptz", |context, _| {
        Ok(Value::Timestamp(context.session.statement_timestamp))
    });
    functions.volatile("clock_timestamp() timestamptz", |_, _| {
        Ok(Value::Timestamp(chrono::Utc::now().timestamp_micros()))
    });
    functions.volatile("timeofday() text", |_, _| {
        Ok(Value::text(
            chrono::Utc::now()
                .format("%a %b %d %H:%M:%S%.6f %Y UTC")
                .to_string(),
        ))
    });
    functions.stable("localtimestamp([integer]) timestamp", |context, _| {
        let now = context.session.transaction_timestamp;
        Ok(Value::Timestamp(utc_to_local(now, context.zone)))
    });
    functions.stable("current_date() date", |context, _| {
        Ok(Value::Date((today(context) / MICROS_PER_DAY) as i32))
    });
    for signature in ["current_time([integer]) time", "localtime([integer]) time"] {
        functions.stable(signature, |context, _| {
            let now = context.session.transaction_timestamp;
            let local = utc_to_local(now, context.zone);
            Ok(Value::Time(local.rem_euclid(MICROS_PER_DAY)))
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::function::text_io::{display_interval, parse_timestamp};

    fn between(later: &str, earlier: &str) -> String {
        let at = |text: &str| parse_timestamp(text).unwrap().0;
        display_interval(age(at(later), at(earlier)))
    }

    #[test]
    fn age_counts_whole_months_first() {
        assert_eq!(between("2024-03-01", "2024-01-31"), "1 mon 1 day");
        assert_eq!(
            between("2001-04-10", "1957-06-13"),
            "43 years 9 mons 27 days"
        );
        assert_eq!(between("2024-01-01", "2024-01-01 12:00"), "-12:00:00");
    }

    #[test]
    fn months_stop_at_the_end_of_the_month() {
        let start = parse_timestamp("2024-01-31").unwrap().0;
        let moved = add_interval(start, IntervalMonthDayNano::new(1, 0, 0)).unwrap();
        assert_eq!(
            crate::function::text_io::display_timestamp(moved),
            "2024-02-29 00:00:00"
        );
    }
}
