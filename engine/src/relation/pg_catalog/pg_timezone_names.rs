//! `pg_timezone_names`: time zones.

use crate::error::SqlError;
use crate::function::value::Value;
use crate::query::QueryContext;
use crate::relation::{Relation, Row, Rows};
use crate::row;

pub const RELATION: Relation = Relation {
    schema: "pg_catalog",
    name: "pg_timezone_names",
    oid: 12112,
    columns: "name text, abbrev text, utc_offset interval, is_dst bool",
    rows: Rows::Now(rows),
};

fn rows(context: &QueryContext) -> Result<Vec<Row>, SqlError> {
    use chrono::{Offset, TimeZone};
    use chrono_tz::OffsetName;
    use datafusion::arrow::datatypes::IntervalMonthDayNano;
    let now = chrono::DateTime::from_timestamp_micros(context.session.statement_timestamp)
        .unwrap_or_default()
        .naive_utc();
    Ok(chrono_tz::TZ_VARIANTS
        .iter()
        .map(|zone| {
            let offset = zone.offset_from_utc_datetime(&now);
            let nanos = i64::from(offset.fix().local_minus_utc()) * 1_000_000_000;
            row![
                zone.name(),
                offset.abbreviation().map(str::to_owned),
                Value::Interval(IntervalMonthDayNano::new(0, 0, nanos)),
                false,
            ]
        })
        .collect())
}
