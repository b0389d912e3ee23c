//! `to_char`, `to_date`, `to_timestamp` and `to_number`: values by template patterns.

use boathouse_catalog::types::ColumnType;
use chrono::{Datelike, NaiveDate};
use datafusion::arrow::datatypes::IntervalMonthDayNano;

use super::registry::Builder;
use super::text_io::{
    MICROS_PER_DAY, date_from_days, days_from_date, local_to_utc, offset_seconds, utc_to_local,
};
use super::value::{Value, rescale};
use crate::error::{SqlError, SqlState};

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = [
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
];
const ROMAN: [&str; 12] = [
    "I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII",
];

/// Patterns, longest first where one begins another.
const PATTERNS: &[&str] = &[
    "SSSSS", "SSSS", "MONTH", "Month", "month", "Y,YYY", "YYYY", "yyyy", "IYYY", "iyyy", "HH24",
    "hh24", "HH12", "hh12", "A.M.", "a.m.", "P.M.", "p.m.", "B.C.", "b.c.", "A.D.", "a.d.", "YYY",
    "yyy", "IYY", "DAY", "Day", "day", "DDD", "ddd", "IDDD", "MON", "Mon", "mon", "TZH", "TZM",
    "FF1", "FF2", "FF3", "FF4", "FF5", "FF6", "YY", "yy", "IY", "MM", "mm", "DD", "dd", "DY", "Dy",
    "dy", "HH", "hh", "MI", "mi", "SS", "ss", "MS", "ms", "US", "us", "AM", "am", "PM", "pm", "BC",
    "bc", "AD", "ad", "WW", "ww", "IW", "iw", "CC", "cc", "RM", "rm", "TZ", "tz", "OF", "ID", "TH",
    "th", "FM", "FX", "Y", "y", "I", "D", "d", "W", "w", "Q", "q", "J", "j",
];

fn next_pattern(rest: &str) -> Option<&'static str> {
    let first = rest.as_bytes().first();
    PATTERNS
        .iter()
        .copied()
        .filter(|pattern| pattern.as_bytes().first() == first)
        .find(|pattern| rest.starts_with(pattern))
}

/// What a template reads from.
struct Moment {
    date: NaiveDate,
    time: i64,
    zone: Option<(String, i32)>,
}

fn cased(name: &str, pattern: &str, width: usize, fill: bool) -> String {
    let text = if pattern.chars().all(|c| c.is_ascii_uppercase()) {
        name.to_ascii_uppercase()
    } else if pattern.chars().all(|c| c.is_ascii_lowercase()) {
        name.to_ascii_lowercase()
    } else {
        name.to_owned()
    };
    if fill {
        format!("{text:<width$}")
    } else {
        text
    }
}

fn ordinal(number: i64) -> &'static str {
    match (number % 100, number % 10) {
        (11..=13, _) => "th",
        (_, 1) => "st",
        (_, 2) => "nd",
        (_, 3) => "rd",
        _ => "th",
    }
}

fn format_moment(moment: &Moment, template: &str) -> String {
    let mut out = String::new();
    let mut rest = template;
    let mut fill = true;
    let mut last_number: i64 = 0;
    let date = moment.date;
    let year = date.year();
    let shown_year = if year <= 0 { 1 - year } else { year };
    let (hour, minute, second, micro) = (
        moment.time / 3_600_000_000,
        moment.time / 60_000_000 % 60,
        moment.time / 1_000_000 % 60,
        moment.time % 1_000_000,
    );
    let week = date.iso_week();
    let hour12 = if hour % 12 == 0 { 12 } else { hour % 12 };
    while !rest.is_empty() {
        if let Some(quoted) = rest.strip_prefix('"') {
            let end = quoted.find('"').unwrap_or(quoted.len());
            out.push_str(&quoted[..end]);
            rest = quoted.get(end + 1..).unwrap_or_default();
            continue;
        }
        let Some(pattern) = next_pattern(rest) else {
            let mut chars = rest.chars();
            out.extend(chars.next());
            rest = chars.as_str();
            continue;
        };
        rest = &rest[pattern.len()..];
        let mut number = |value: i64, width: usize| {
            last_number = value;
            if fill {
                format!("{value:0width$}")
            } else {
                value.to_string()
            }
        };
        let text = match pattern.to_ascii_uppercase().as_str() {
            "FM" => {
                fill = false;
                continue;
            }
            "FX" => continue,
            "TH" => {
                let suffix = ordinal(last_number);
                if pattern == "TH" {
                    suffix.to_uppercase()
                } else {
                    suffix.to_owned()
                }
            }
            "YYYY" => number(i64::from(shown_year), 4),
            "Y,YYY" => format!("{},{:03}", shown_year / 1000, shown_year % 1000),
            "YYY" => number(i64::from(shown_year % 1000), 3),
            "YY" => number(i64::from(shown_year % 100), 2),
            "Y" => number(i64::from(shown_year % 10), 1),
            "IYYY" => number(i64::from(week.year()), 4),
            "IYY" => number(i64::from(week.year() % 1000), 3),
            "IY" => number(i64::from(week.year() % 100), 2),
            "I" => number(i64::from(week.year() % 10), 1),
            "CC" => number(i64::from((year + 99).div_euclid(100)), 2),
            "MM" => number(i64::from(date.month()), 2),
            "MONTH" => cased(MONTHS[date.month0() as usize % 12], pattern, 9, fill),
            "MON" => cased(&MONTHS[date.month0() as usize % 12][..3], pattern, 3, false),
            "RM" => cased(ROMAN[date.month0() as usize % 12], pattern, 4, fill),
            "DD" => number(i64::from(date.day()), 2),
            "DDD" => number(i64::from(date.ordinal()), 3),
            "IDDD" => number(
                i64::from((week.week0()) * 7 + date.weekday().number_from_monday()),
                3,
            ),
            "D" => number(i64::from(date.weekday().num_days_from_sunday() + 1), 1),
            "ID" => number(i64::from(date.weekday().number_from_monday()), 1),
            "DAY" => cased(
                DAYS[date.weekday().num_days_from_sunday() as usize % 7],
                pattern,
                9,
                fill,
            ),
            "DY" => cased(
                &DAYS[date.weekday().num_days_from_sunday() as usize % 7][..3],
                pattern,
                3,
                false,
            ),
            "WW" => number(i64::from((date.ordinal0()) / 7 + 1), 2),
            "W" => number(i64::from((date.day0()) / 7 + 1), 1),
            "IW" => number(i64::from(week.week()), 2),
            "Q" => number(i64::from(date.month0() / 3 + 1), 1),
            "J" => number(i64::from(days_from_date(date)) + 2_440_588, 1),
            "HH24" => number(hour, 2),
            "HH12" | "HH" => number(hour12, 2),
            "MI" => number(minute, 2),
            "SS" => number(second, 2),
            "SSSS" | "SSSSS" => number(moment.time / 1_000_000, 1),
            "MS" | "FF3" => format!("{:03}", micro / 1000),
            "US" | "FF6" => format!("{micro:06}"),
            "FF1" => format!("{:01}", micro / 100_000),
            "FF2" => format!("{:02}", micro / 10_000),
            "FF4" => format!("{:04}", micro / 100),
            "FF5" => format!("{:05}", micro / 10),
            "AM" | "PM" => cased(if hour < 12 { "AM" } else { "PM" }, pattern, 2, false),
            "A.M." | "P.M." => {
                let text = if hour < 12 { "A.M." } else { "P.M." };
                if pattern.starts_with(|c: char| c.is_ascii_lowercase()) {
                    text.to_ascii_lowercase()
                } else {
                    text.to_owned()
                }
            }
            "BC" | "AD" => cased(if year > 0 { "AD" } else { "BC" }, pattern, 2, false),
            "B.C." | "A.D." => if year > 0 { "A.D." } else { "B.C." }.to_owned(),
            "TZ" => {
                let name = moment.zone.as_ref().map_or("", |(name, _)| name);
                if pattern == "tz" {
                    name.to_ascii_lowercase()
                } else {
                    name.to_owned()
                }
            }
            "TZH" => {
                let seconds = moment.zone.as_ref().map_or(0, |(_, seconds)| *seconds);
                format!(
                    "{}{:02}",
                    if seconds < 0 { '-' } else { '+' },
                    seconds.abs() / 3600
                )
            }
            "TZM" => {
                let seconds = moment.zone.as_ref().map_or(0, |(_, seconds)| *seconds);
                format!("{:02}", seconds.abs() / 60 % 60)
            }
            "OF" => {
                let seconds = moment.zone.as_ref().map_or(0, |(_, seconds)| *seconds);
                let sign = if seconds < 0 { '-' } else { '+' };
                let minutes = seconds.abs() / 60 % 60;
                if minutes == 0 {
                    format!("{sign}{:02}", seconds.abs() / 3600)
                } else {
                    format!("{sign}{:02}:{minutes:02}", seconds.abs() / 3600)
                }
            }
            other => other.to_owned(),
        };
        if !matches!(pattern, "TH" | "th") {
            // FM holds for the next pattern only.
            fill = true;
        }
        out.push_str(&text);
    }
    out
}

fn moment(local: i64, zone: Option<(String, i32)>) -> Moment {
    let days = i32::try_from(local.div_euclid(MICROS_PER_DAY)).unwrap_or(0);
    Moment {
        date: date_from_days(days).unwrap_or_default(),
        time: local.rem_euclid(MICROS_PER_DAY),
        zone,
    }
}

fn format_interval(interval: IntervalMonthDayNano, template: &str) -> String {
    let micros = interval.nanoseconds / 1000;
    let number = |value: i64, width: usize| {
        if value < 0 {
            format!("-{:0width$}", -value)
        } else {
            format!("{value:0width$}")
        }
    };
    let mut out = String::new();
    let mut rest = template;
    while !rest.is_empty() {
        let Some(pattern) = next_pattern(rest) else {
            let mut chars = rest.chars();
            out.extend(chars.next().filter(|c| *c != '"'));
            rest = chars.as_str();
            continue;
        };
        rest = &rest[pattern.len()..];
        let hours = micros / 3_600_000_000;
        let text = match pattern.to_ascii_uppercase().as_str() {
            "YYYY" => number(i64::from(interval.months / 12), 4),
            "YY" => number(i64::from(interval.months / 12 % 100), 2),
            "MM" => number(i64::from(interval.months % 12), 2),
            "DD" => number(i64::from(interval.days), 2),
            "DDD" => number(
                i64::from(interval.months) * 30 + i64::from(interval.days),
                3,
            ),
            "HH24" => number(hours, 2),
            "HH12" | "HH" => number(if hours % 12 == 0 { 12 } else { hours % 12 }, 2),
            "MI" => number(micros / 60_000_000 % 60, 2),
            "SS" => number(micros / 1_000_000 % 60, 2),
            "SSSS" | "SSSSS" => number(micros / 1_000_000, 1),
            "MS" => number(micros % 1_000_000 / 1000, 3),
            "US" => number(micros % 1_000_000, 6),
            "FM" | "FX" => String::new(),
            _ => pattern.to_owned(),
        };
        out.push_str(&text);
    }
    out
}

/// Formats a number by `9`, `0`, `.`, `,`, `S`, `MI`, `PL`, `SG`, `PR`, `$`, `L`, `D`, `G`, `FM`,
/// `EEEE`, `V` and `th`.
fn format_number(unscaled: i128, scale: i8, template: &str) -> Result<String, SqlError> {
    let upper = template.to_ascii_uppercase();
    let fill = !upper.contains("FM");
    if upper.contains("EEEE") {
        let value = unscaled as f64 / 10f64.powi(i32::from(scale));
        let digits = upper.split(['.', 'D']).nth(1).map_or(0, |part| {
            part.chars().filter(|c| matches!(c, '9' | '0')).count()
        });
        let text = format!("{value:.digits$e}");
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let exponent: i32 = exponent.parse().unwrap_or(0);
        let sign = if exponent < 0 { '-' } else { '+' };
        let lead = if fill && unscaled >= 0 { " " } else { "" };
        return Ok(format!("{lead}{mantissa}e{sign}{:02}", exponent.abs()));
    }
    let body = upper.replace("FM", "");
    let (whole_part, fraction_part) = match body.find(['.', 'D']) {
        Some(at) => (&body[..at], &body[at + 1..]),
        None => (body.as_str(), ""),
    };
    let count = |part: &str| part.chars().filter(|c| matches!(c, '9' | '0')).count();
    let whole_digits = count(whole_part);
    let fraction_digits = count(fraction_part);
    let places = i8::try_from(fraction_digits).unwrap_or(37);
    let rounded = rescale(unscaled, scale, places).unwrap_or(unscaled);
    let negative = rounded < 0;
    let digits = format!(
        "{:0>width$}",
        rounded.unsigned_abs(),
        width = fraction_digits + 1
    );
    let (whole, fraction) = digits.split_at(digits.len() - fraction_digits);
    let whole = whole.trim_start_matches('0');
    let overflow = whole.len() > whole_digits;
    let mut padded: Vec<char> = format!("{whole:>whole_digits$}").chars().collect();
    if overflow {
        padded = vec!['#'; whole_digits];
    }
    let mut out = String::new();
    let mut started = false;
    let mut sign_written = false;
    let mut chars = whole_part.chars().peekable();
    let mut place = 0;
    let explicit_sign = ["S", "MI", "PL", "SG", "PR"]
        .iter()
        .any(|mark| body.contains(mark));
    let zeros_from = whole_part.find('0').map(|at| count(&whole_part[..at]));
    while let Some(c) = chars.next() {
        match c {
            '9' | '0' => {
                let digit = padded.get(place).copied().unwrap_or(' ');
                let forced = zeros_from.is_some_and(|from| place >= from);
                if digit != ' ' {
                    started = true;
                    out.push(digit);
                } else if forced {
                    started = true;
                    out.push('0');
                } else {
                    out.push(' ');
                }
                place += 1;
            }
            ',' | 'G' => out.push(if started { ',' } else { ' ' }),
            '$' | 'L' => out.push('$'),
            'S' if chars.peek() == Some(&'G') => {
                chars.next();
                out.push(if negative { '-' } else { '+' });
                sign_written = true;
            }
            'S' => {
                out.push('\u{1}');
                sign_written = true;
            }
            'M' if chars.peek() == Some(&'I') => {
                chars.next();
                out.push(if negative { '-' } else { ' ' });
                sign_written = true;
            }
            'P' if matches!(chars.peek(), Some('L' | 'R')) => {
                let kind = chars.next();
                if kind == Some('L') {
                    out.push(if negative { ' ' } else { '+' });
                }
            }
            'T' if chars.peek() == Some(&'H') => {
                chars.next();
                let suffix = ordinal(i64::try_from(rounded.unsigned_abs() % 100).unwrap_or(0));
                out.push_str(&if template.contains("TH") {
                    suffix.to_uppercase()
                } else {
                    suffix.to_owned()
                });
            }
            'V' => {}
            other => out.push(other),
        }
    }
    if whole_digits > 0 && !started && fraction_digits == 0 && !out.contains('0') {
        // A lone zero still prints.
        if let Some(at) = out.rfind(' ') {
            out.replace_range(at..=at, "0");
        }
    }
    if fraction_digits > 0 || body.contains('.') || body.contains('D') {
        out.push('.');
        let mut digits = fraction.chars();
        let mut written = String::new();
        let mut rest = fraction_part.chars().peekable();
        let mut required = 0;
        let mut tail = String::new();
        while let Some(c) = rest.next() {
            match c {
                '9' | '0' => {
                    written.push(if overflow {
                        '#'
                    } else {
                        digits.next().unwrap_or('0')
                    });
                    if c == '0' {
                        required = written.len();
                    }
                }
                'M' if rest.peek() == Some(&'I') => {
                    rest.next();
                    tail.push(if negative { '-' } else { ' ' });
                    sign_written = true;
                }
                'S' => {
                    tail.push(if negative { '-' } else { '+' });
                    sign_written = true;
                }
                'P' if rest.peek() == Some(&'R') => {
                    rest.next();
                }
                '%' => tail.push('%'),
                other => tail.push(other),
            }
        }
        if !fill {
            while written.len() > required && written.ends_with('0') {
                written.pop();
            }
        }
        out.push_str(&written);
        out.push_str(&tail);
    }
    if body.contains("PR") {
        let trimmed = out.trim_start().to_owned();
        let pad = out.len() - trimmed.len();
        out = if negative {
            format!("{}<{trimmed}>", " ".repeat(pad))
        } else {
            format!("{} {trimmed} ", " ".repeat(pad))
        };
        sign_written = true;
    }
    if out.contains('\u{1}') {
        let sign = if negative { '-' } else { '+' };
        if out.starts_with('\u{1}') {
            let rest = out[1..].to_owned();
            let trimmed = rest.trim_start();
            let pad = rest.len() - trimmed.len();
            out = format!("{}{sign}{trimmed}", " ".repeat(pad));
        } else {
            out = out.replace('\u{1}', &sign.to_string());
        }
    }
    if !sign_written && !explicit_sign {
        let trimmed = out.trim_start().to_owned();
        let pad = out.len() - trimmed.len();
        out = if negative {
            format!("{}-{trimmed}", " ".repeat(pad))
        } else {
            format!("{} {trimmed}", " ".repeat(pad))
        };
    }
    Ok(if fill { out } else { out.trim().to_owned() })
}

fn bad_value(text: &str, pattern: &str) -> SqlError {
    SqlError::new(
        SqlState::INVALID_DATETIME_FORMAT,
        format!("invalid value \"{text}\" for \"{pattern}\""),
    )
}

/// Reads a clock reading (and an offset) by a template.
fn parse_moment(text: &str, template: &str) -> Result<(i64, Option<i32>), SqlError> {
    let (mut year, mut month, mut day) = (None, None, None);
    let (mut hour, mut minute, mut second, mut micro) = (0i64, 0i64, 0i64, 0i64);
    let (mut afternoon, mut twelve, mut ordinal_day, mut offset) = (None, false, None, None);
    let mut rest = template;
    let mut input = text;
    while !rest.is_empty() {
        let Some(pattern) = next_pattern(rest) else {
            let mut chars = rest.chars();
            let expected = chars.next();
            rest = chars.as_str();
            if expected == Some('"') {
                continue;
            }
            let mut given = input.chars();
            if let Some(c) = given.next()
                && !c.is_alphanumeric()
            {
                input = given.as_str();
            } else if expected.is_some_and(char::is_alphanumeric) {
                input = given.as_str();
            }
            continue;
        };
        rest = &rest[pattern.len()..];
        let kind = pattern.to_ascii_uppercase();
        if matches!(kind.as_str(), "FM" | "FX" | "TH") {
            continue;
        }
        input = input.trim_start();
        if matches!(
            kind.as_str(),
            "MONTH" | "MON" | "DAY" | "DY" | "AM" | "PM" | "A.M." | "P.M." | "TZ"
        ) {
            let end = input
                .find(|c: char| !c.is_alphabetic() && c != '.')
                .unwrap_or(input.len());
            let word = input[..end].to_ascii_lowercase();
            match kind.as_str() {
                "MONTH" | "MON" => {
                    let found = MONTHS.iter().position(|name| {
                        let name = name.to_ascii_lowercase();
                        name == word || (word.len() >= 3 && word.get(..3) == name.get(..3))
                    });
                    month = Some(found.ok_or_else(|| bad_value(&word, pattern))? as i64 + 1);
                }
                "AM" | "PM" | "A.M." | "P.M." => afternoon = Some(word.starts_with('p')),
                _ => {}
            }
            input = &input[end..];
            continue;
        }
        let width = match kind.as_str() {
            "YYYY" | "IYYY" => 4,
            "YYY" | "DDD" | "MS" | "FF3" => 3,
            "US" | "FF6" => 6,
            "Y" | "D" | "Q" | "W" => 1,
            "J" | "SSSS" | "SSSSS" => 7,
            "TZH" => 3,
            _ => 2,
        };
        let sign = usize::from(kind == "TZH" && input.starts_with(['+', '-']));
        let adjacent = next_pattern(rest).is_some();
        let limit = if adjacent || kind != "YYYY" { width } else { 6 };
        let end = input
            .char_indices()
            .skip(sign)
            .take_while(|(at, c)| c.is_ascii_digit() && *at < limit)
            .map(|(at, _)| at + 1)
            .last()
            .unwrap_or(sign);
        let digits = &input[..end];
        if digits.is_empty() {
            if input.is_empty() {
                break;
            }
            let shown = input.chars().take(width).collect::<String>();
            return Err(bad_value(&shown, pattern).detail("Value must be an integer."));
        }
        let number: i64 = digits.parse().map_err(|_| bad_value(digits, pattern))?;
        input = &input[end..];
        match kind.as_str() {
            "YYYY" | "IYYY" => year = Some(number),
            "YYY" | "YY" | "Y" => {
                year = Some(if number < 70 {
                    2000 + number
                } else if number < 100 {
                    1900 + number
                } else {
                    number
                });
            }
            "MM" => month = Some(number),
            "DD" => day = Some(number),
            "DDD" => ordinal_day = Some(number),
            "HH24" => hour = number,
            "HH12" | "HH" => {
                hour = number;
                twelve = true;
            }
            "MI" => minute = number,
            "SS" => second = number,
            "SSSS" | "SSSSS" => {
                hour = number / 3600;
                minute = number / 60 % 60;
                second = number % 60;
            }
            "MS" | "FF3" => micro = number * 10i64.pow(6 - digits.len().min(3) as u32),
            "US" | "FF6" => micro = number * 10i64.pow(6 - digits.len().min(6) as u32),
            "TZH" => offset = Some(number as i32 * 3600),
            _ => {}
        }
    }
    if let Some(afternoon) = afternoon {
        hour = hour % 12 + if afternoon { 12 } else { 0 };
    } else if twelve && hour == 12 {
        hour = 0;
    }
    let out_of_range = || {
        SqlError::new(
            SqlState("22008"),
            format!("date/time field value out of range: \"{text}\""),
        )
    };
    let year = i32::try_from(year.unwrap_or(1)).map_err(|_| out_of_range())?;
    let date = match ordinal_day {
        Some(ordinal) => u32::try_from(ordinal)
            .ok()
            .and_then(|day| NaiveDate::from_yo_opt(year, day)),
        None => {
            let month = u32::try_from(month.unwrap_or(1)).map_err(|_| out_of_range())?;
            let day = u32::try_from(day.unwrap_or(1)).map_err(|_| out_of_range())?;
            NaiveDate::from_ymd_opt(year, month, day)
        }
    }
    .ok_or_else(out_of_range)?;
    if hour > 23 || minute > 59 || second > 59 {
        return Err(out_of_range());
    }
    let time = (hour * 3600 + minute * 60 + second) * 1_000_000 + micro;
    Ok((
        i64::from(days_from_date(date)) * MICROS_PER_DAY + time,
        offset,
    ))
}

pub fn register(functions: &mut Builder) {
    functions.rows("to_char(timestamp, text) text", |_, cells| {
        Ok(Value::text(format_moment(
            &moment(cells[0].as_int(), None),
            cells[1].as_text(),
        )))
    });
    functions.rows("to_char(timestamptz, text) text", |context, cells| {
        let zone = context.zone;
        let utc = cells[0].as_int();
        let offset = offset_seconds(utc, zone);
        let name = if zone == chrono_tz::UTC {
            "UTC".to_owned()
        } else {
            use chrono::TimeZone;
            use chrono_tz::OffsetName;
            chrono::DateTime::from_timestamp_micros(utc)
                .and_then(|time| {
                    zone.offset_from_utc_datetime(&time.naive_utc())
                        .abbreviation()
                        .map(str::to_owned)
                })
                .unwrap_or_default()
        };
        let moment = moment(utc_to_local(utc, zone), Some((name, offset)));
        Ok(Value::text(format_moment(&moment, cells[1].as_text())))
    });
    functions.rows("to_char(date, text) text", |_, cells| {
        let local = cells[0].as_int() * MICROS_PER_DAY;
        Ok(Value::text(format_moment(
            &moment(local, None),
            cells[1].as_text(),
        )))
    });
    functions.rows("to_char(interval, text) text", |_, cells| {
        Ok(Value::text(format_interval(
            cells[0].as_interval(),
            cells[1].as_text(),
        )))
    });
    functions.rows("to_char(numeric, text) text", |_, cells| {
        let (unscaled, scale) = cells[0].as_numeric();
        format_number(unscaled, scale, cells[1].as_text()).map(Value::text)
    });
    for signature in ["to_char(integer, text) text", "to_char(bigint, text) text"] {
        functions.rows(signature, |_, cells| {
            format_number(i128::from(cells[0].as_int()), 0, cells[1].as_text()).map(Value::text)
        });
    }
    functions.rows("to_char(double precision, text) text", |_, cells| {
        let digits = format!("{:.15}", cells[0].as_float());
        let (unscaled, scale) = super::text_io::parse_numeric(&digits).unwrap_or((0, 0));
        format_number(unscaled, scale, cells[1].as_text()).map(Value::text)
    });
    functions.rows("to_date(text, text) date", |_, cells| {
        let (micros, _) = parse_moment(cells[0].as_text(), cells[1].as_text())?;
        Ok(Value::Date(micros.div_euclid(MICROS_PER_DAY) as i32))
    });
    functions.rows("to_timestamp(text, text) timestamptz", |context, cells| {
        let (micros, offset) = parse_moment(cells[0].as_text(), cells[1].as_text())?;
        Ok(Value::Timestamp(match offset {
            Some(seconds) => micros - i64::from(seconds) * 1_000_000,
            None => local_to_utc(micros, context.zone),
        }))
    });
    functions.computed(
        "to_number(text, text) numeric",
        |_, constants| {
            let scale = match constants.get(1) {
                Some(Some(datafusion::common::ScalarValue::Utf8(Some(template)))) => template
                    .to_ascii_uppercase()
                    .split(['.', 'D'])
                    .nth(1)
                    .map_or(0, |part| {
                        part.chars().filter(|c| matches!(c, '9' | '0')).count()
                    }),
                _ => 10,
            };
            ColumnType::Numeric {
                precision: Some(38),
                scale: i8::try_from(scale).unwrap_or(10),
            }
        },
        |_, cells| {
            let text = cells[0].as_text();
            let negative = text.contains('-') || text.trim().starts_with('<');
            let digits: String = text
                .chars()
                .filter(|c| c.is_ascii_digit() || *c == '.')
                .collect();
            let (unscaled, scale) = super::text_io::parse_numeric(&digits)
                .ok_or_else(|| super::text_io::invalid_syntax(&ColumnType::NUMERIC, text))?;
            Ok(Value::Numeric {
                unscaled: if negative { -unscaled } else { unscaled },
                scale,
            })
        },
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::function::text_io::parse_timestamp;
    use expect_test::{Expect, expect};

    fn check_time(text: &str, template: &str, expected: Expect) {
        let local = parse_timestamp(text).unwrap().0;
        expected.assert_eq(&format_moment(&moment(local, None), template));
    }

    fn check_number(text: &str, template: &str, expected: Expect) {
        let (unscaled, scale) = crate::function::text_io::parse_numeric(text).unwrap();
        expected.assert_eq(&format_number(unscaled, scale, template).unwrap());
    }

    #[test]
    fn moments_by_template() {
        check_time(
            "2024-03-05 14:07:09.5",
            "YYYY-MM-DD HH24:MI:SS.MS",
            expect!["2024-03-05 14:07:09.500"],
        );
        check_time(
            "2024-03-05",
            "FMMonth FMDDth, YYYY",
            expect!["March 5th, 2024"],
        );
        check_time(
            "2024-03-05",
            "Dy, Mon DD \"at\" HH12 AM",
            expect!["Tue, Mar 05 at 12 AM"],
        );
        check_time("2024-12-30", "IYYY-IW Q", expect!["2025-01 4"]);
    }

    #[test]
    fn numbers_by_template() {
        check_number("1234.5", "999,999.99", expect!["   1,234.50"]);
        check_number("-1234.5", "FM999,999.00", expect!["-1,234.50"]);
        check_number("12", "00000", expect![" 00012"]);
        check_number("0.1", "FM990.99", expect!["0.1"]);
        check_number("12345", "999", expect![" ###"]);
        check_number("1234567", "FM9,999,999", expect!["1,234,567"]);
    }

    #[test]
    fn moments_are_read_by_template() {
        let (micros, _) = parse_moment("05 Dec 2000 3:04 PM", "DD Mon YYYY HH12:MI AM").unwrap();
        assert_eq!(
            crate::function::text_io::display_timestamp(micros),
            "2000-12-05 15:04:00"
        );
    }
}
