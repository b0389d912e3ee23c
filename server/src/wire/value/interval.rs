//! Intervals in PostgreSQL's own style: `1 year 2 mons -3 days +04:05:06.7`.

use arrow::datatypes::IntervalMonthDayNano;

use super::moment::append_fraction;
use super::number::append_integer;

pub fn append_text(out: &mut Vec<u8>, interval: IntervalMonthDayNano) {
    let microseconds = interval.nanoseconds / 1_000;
    let mut empty = true;
    let mut negative_before = false;
    for (value, unit) in [
        (interval.months / 12, "year"),
        (interval.months % 12, "mon"),
        (interval.days, "day"),
    ] {
        if value == 0 {
            continue;
        }
        if !empty {
            out.push(b' ');
        }
        if negative_before && value > 0 {
            out.push(b'+');
        }
        append_integer(out, value);
        out.push(b' ');
        out.extend_from_slice(unit.as_bytes());
        if value != 1 {
            out.push(b's');
        }
        negative_before = value < 0;
        empty = false;
    }
    if microseconds == 0 && !empty {
        return;
    }
    if !empty {
        out.push(b' ');
    }
    if microseconds < 0 {
        out.push(b'-');
    } else if negative_before {
        out.push(b'+');
    }
    let magnitude = microseconds.unsigned_abs();
    let seconds = magnitude / 1_000_000;
    append_two(out, seconds / 3_600);
    out.push(b':');
    append_two(out, seconds / 60 % 60);
    out.push(b':');
    append_two(out, seconds % 60);
    append_fraction(out, (magnitude % 1_000_000) as u32);
}

fn append_two(out: &mut Vec<u8>, value: u64) {
    if value < 10 {
        out.push(b'0');
    }
    append_integer(out, value);
}

pub fn append_binary(out: &mut Vec<u8>, interval: IntervalMonthDayNano) {
    out.extend_from_slice(&(interval.nanoseconds / 1_000).to_be_bytes());
    out.extend_from_slice(&interval.days.to_be_bytes());
    out.extend_from_slice(&interval.months.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_sign_is_shown_where_it_changes() {
        for ((months, days, nanoseconds), text) in [
            (
                (14, 3, 14_706_789_000_000),
                "1 year 2 mons 3 days 04:05:06.789",
            ),
            ((0, 0, 0), "00:00:00"),
            ((0, 1, 0), "1 day"),
            ((-1, 2, 0), "-1 mons +2 days"),
            ((0, -1, 3_600_000_000_000), "-1 days +01:00:00"),
            ((0, 0, -90_000_000_000), "-00:01:30"),
            ((0, 0, 360_000_000_000_000), "100:00:00"),
        ] {
            let mut out = Vec::new();
            append_text(
                &mut out,
                IntervalMonthDayNano {
                    months,
                    days,
                    nanoseconds,
                },
            );
            assert_eq!(String::from_utf8(out).unwrap(), text);
        }
    }
}
