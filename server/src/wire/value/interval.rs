//! Intervals in PostgreSQL's own style, `1 year 2 mons -3 days +04:05:06.7`, and as ISO 8601 has it,
//! `P1Y2M-3DT4H5M6.7S`.

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

pub fn append_iso(out: &mut Vec<u8>, interval: IntervalMonthDayNano) {
    let microseconds = interval.nanoseconds / 1_000;
    if interval.months == 0 && interval.days == 0 && microseconds == 0 {
        out.extend_from_slice(b"PT0S");
        return;
    }
    let part = |value: i64, unit: u8, out: &mut Vec<u8>| {
        if value != 0 {
            append_integer(out, value);
            out.push(unit);
        }
    };
    out.push(b'P');
    part(i64::from(interval.months / 12), b'Y', out);
    part(i64::from(interval.months % 12), b'M', out);
    part(i64::from(interval.days), b'D', out);
    if microseconds == 0 {
        return;
    }
    out.push(b'T');
    let seconds = microseconds / 1_000_000;
    part(seconds / 3_600, b'H', out);
    part(seconds / 60 % 60, b'M', out);
    let of_minute = microseconds % 60_000_000;
    if of_minute != 0 {
        if of_minute < 0 {
            out.push(b'-');
        }
        let magnitude = of_minute.unsigned_abs();
        append_integer(out, magnitude / 1_000_000);
        append_fraction(out, (magnitude % 1_000_000) as u32);
        out.push(b'S');
    }
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
    fn iso_8601_leaves_out_what_is_zero() {
        for ((months, days, nanoseconds), text) in [
            ((14, -3, 14_706_700_000_000), "P1Y2M-3DT4H5M6.7S"),
            ((0, 0, 0), "PT0S"),
            ((0, 1, 0), "P1D"),
            ((0, 0, -90_500_000_000), "PT-1M-30.5S"),
            ((0, 0, 3_600_000_000_000), "PT1H"),
        ] {
            let mut out = Vec::new();
            let interval = IntervalMonthDayNano::new(months, days, nanoseconds);
            append_iso(&mut out, interval);
            assert_eq!(String::from_utf8(out).unwrap(), text);
        }
    }

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
