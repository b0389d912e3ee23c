//! Intervals as PostgreSQL reads them: `1 year 2 mons -3 days 04:05:06.7`, `90 min`, `P1DT2H`, and
//! `ago` at the end to turn all around.

use arrow::datatypes::IntervalMonthDayNano;

use crate::error::{SqlError, SqlState};

const SECOND: f64 = 1e9;
const DAY_SECONDS: f64 = 86_400.0;
const MONTH_DAYS: f64 = 30.0;

pub fn interval(text: &str) -> Result<IntervalMonthDayNano, SqlError> {
    let trimmed = text.trim_ascii();
    let read = match trimmed.strip_prefix(['P', 'p']) {
        Some(rest) => read_iso(rest),
        None => read_words(trimmed),
    };
    read.and_then(Sum::finish).ok_or_else(|| {
        SqlError::new(
            SqlState::INVALID_DATETIME_FORMAT,
            format!("invalid input syntax for type interval: \"{text}\""),
        )
    })
}

/// Parts added up; what is left of a month are days, what is left of a day are seconds.
#[derive(Default)]
struct Sum {
    months: f64,
    days: f64,
    seconds: f64,
}

impl Sum {
    fn add(&mut self, value: f64, unit: &str) -> Option<()> {
        let unit = unit.to_ascii_lowercase();
        let months = match unit.as_str() {
            "millennium" | "millennia" | "mil" | "mils" => 12_000.0,
            "century" | "centuries" | "cent" | "c" => 1_200.0,
            "decade" | "decades" | "dec" | "decs" => 120.0,
            "year" | "years" | "yr" | "yrs" | "y" => 12.0,
            "month" | "months" | "mon" | "mons" => 1.0,
            _ => 0.0,
        };
        if months > 0.0 {
            let exact = value * months;
            self.months += exact.trunc();
            self.add_days(exact.fract() * MONTH_DAYS);
            return Some(());
        }
        match unit.as_str() {
            "week" | "weeks" | "w" => self.add_days(value * 7.0),
            "day" | "days" | "d" => self.add_days(value),
            "hour" | "hours" | "hr" | "hrs" | "h" => self.seconds += value * 3_600.0,
            "minute" | "minutes" | "min" | "mins" | "m" => self.seconds += value * 60.0,
            "second" | "seconds" | "sec" | "secs" | "s" => self.seconds += value,
            "millisecond" | "milliseconds" | "msec" | "msecs" | "ms" => {
                self.seconds += value / 1e3;
            }
            "microsecond" | "microseconds" | "usec" | "usecs" | "us" => {
                self.seconds += value / 1e6;
            }
            _ => return None,
        }
        Some(())
    }

    fn add_days(&mut self, days: f64) {
        self.days += days.trunc();
        self.seconds += days.fract() * DAY_SECONDS;
    }

    fn finish(self) -> Option<IntervalMonthDayNano> {
        let whole = |value: f64| (value.abs() <= f64::from(i32::MAX)).then_some(value as i32);
        // Microseconds, as PostgreSQL keeps them.
        let microseconds = (self.seconds * 1e6).round();
        if microseconds.abs() > i64::MAX as f64 / SECOND * 1e6 {
            return None;
        }
        Some(IntervalMonthDayNano {
            months: whole(self.months)?,
            days: whole(self.days)?,
            nanoseconds: microseconds as i64 * 1_000,
        })
    }
}

fn read_words(text: &str) -> Option<Sum> {
    let mut sum = Sum::default();
    let mut words = text
        .strip_prefix('@')
        .unwrap_or(text)
        .split_ascii_whitespace()
        .peekable();
    words.peek()?;
    while let Some(word) = words.next() {
        if word.eq_ignore_ascii_case("ago") {
            words.next().is_none().then_some(())?;
            return Some(Sum {
                months: -sum.months,
                days: -sum.days,
                seconds: -sum.seconds,
            });
        }
        if word.contains(':') {
            sum.seconds += clock(word)?;
            continue;
        }
        let end = word
            .find(|letter: char| !(letter.is_ascii_digit() || matches!(letter, '.' | '-' | '+')))
            .unwrap_or(word.len());
        let (number, unit) = word.split_at(end);
        let value: f64 = number.parse().ok()?;
        if !unit.is_empty() {
            sum.add(value, unit)?;
            continue;
        }
        match words.peek() {
            Some(unit) if unit.starts_with(|letter: char| letter.is_ascii_alphabetic()) => {
                sum.add(value, unit)?;
                words.next();
            }
            // A number before a time is days; one at the end is seconds.
            Some(_) => sum.add_days(value),
            None => sum.seconds += value,
        }
    }
    Some(sum)
}

/// Seconds of `[-]hh:mm[:ss[.fff]]`.
fn clock(text: &str) -> Option<f64> {
    let (sign, digits) = match text.split_at_checked(1)? {
        ("-", digits) => (-1.0, digits),
        ("+", digits) => (1.0, digits),
        _ => (1.0, text),
    };
    let mut parts = digits.split(':');
    let hours: u32 = parts.next()?.parse().ok()?;
    let minutes: u32 = parts.next()?.parse().ok().filter(|minutes| *minutes < 60)?;
    let seconds: f64 = match parts.next() {
        Some(part) => part
            .parse()
            .ok()
            .filter(|seconds| (0.0..61.0).contains(seconds))?,
        None => 0.0,
    };
    parts.next().is_none().then_some(())?;
    Some(sign * (f64::from(hours) * 3_600.0 + f64::from(minutes) * 60.0 + seconds))
}

/// What follows the P of `P1Y2M3W4DT5H6M7.8S`.
fn read_iso(text: &str) -> Option<Sum> {
    let mut sum = Sum::default();
    let mut rest = text;
    let mut time = false;
    let mut empty = true;
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix(['T', 't']) {
            time = true;
            rest = after;
            continue;
        }
        let end = rest.find(|letter: char| letter.is_ascii_alphabetic())?;
        let value: f64 = rest[..end].parse().ok()?;
        let unit = match (rest.as_bytes()[end].to_ascii_uppercase(), time) {
            (b'Y', false) => "year",
            (b'M', false) => "month",
            (b'W', false) => "week",
            (b'D', false) => "day",
            (b'H', true) => "hour",
            (b'M', true) => "minute",
            (b'S', true) => "second",
            _ => return None,
        };
        sum.add(value, unit)?;
        empty = false;
        rest = &rest[end + 1..];
    }
    (!empty).then_some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings() {
        for (text, months, days, microseconds) in [
            ("1 year 2 mons -3 days 04:05:06.7", 14, -3, 14_706_700_000),
            ("90 min", 0, 0, 5_400_000_000),
            ("1.5 months", 1, 15, 0),
            ("2 days ago", 0, -2, 0),
            ("-00:00:01", 0, 0, -1_000_000),
            ("P1Y2M3DT4H5M6.5S", 14, 3, 14_706_500_000),
            ("42", 0, 0, 42_000_000),
            ("@ 1 week", 0, 7, 0),
        ] {
            let read = interval(text).unwrap();
            assert_eq!(
                (read.months, read.days, read.nanoseconds),
                (months, days, microseconds * 1_000),
                "{text}"
            );
        }
        for text in [
            "",
            "x",
            "1h30m",
            "1 parsec",
            "P",
            "P1",
            "1:2:3:4",
            "999999999999 years",
        ] {
            assert!(interval(text).is_err(), "{text}");
        }
    }
}
