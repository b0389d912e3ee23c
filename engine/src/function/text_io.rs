//! A type's text form, in both directions: what `x::text` prints and `'x'::type` reads.
//!
//! The one place that decides how PostgreSQL writes a value. Output follows the settings' defaults
//! (`DateStyle` ISO, `IntervalStyle` postgres); input takes what PostgreSQL's does as far as it is
//! unambiguous, and anything else is 22P02 or 22007 naming the type and the text.

use boathouse_catalog::types::ColumnType;
use chrono::{Datelike, NaiveDate, Offset, TimeZone};
use datafusion::arrow::datatypes::IntervalMonthDayNano;

use super::registry::type_name;
use super::value::{Reader, Value, rescale};
use crate::error::{SqlError, SqlState};

pub const MICROS_PER_DAY: i64 = 86_400_000_000;
/// Days from 0001-01-01 (chrono's day 1) to 1970-01-01.
const EPOCH_FROM_CE: i32 = 719_163;

/// `invalid input syntax for type integer: "x"`.
pub fn invalid_syntax(column_type: &ColumnType, text: &str) -> SqlError {
    let state = match column_type {
        ColumnType::Date
        | ColumnType::Time
        | ColumnType::Timestamp
        | ColumnType::TimestampTz
        | ColumnType::Interval => SqlState::INVALID_DATETIME_FORMAT,
        _ => SqlState::INVALID_TEXT_REPRESENTATION,
    };
    SqlError::new(
        state,
        format!(
            "invalid input syntax for type {}: \"{text}\"",
            type_name(column_type)
        ),
    )
}

fn value_out_of_range(column_type: &ColumnType, text: &str) -> SqlError {
    SqlError::new(
        SqlState::NUMERIC_VALUE_OUT_OF_RANGE,
        format!(
            "value \"{text}\" is out of range for type {}",
            type_name(column_type)
        ),
    )
}

/// Reads a value of a type from text.
pub fn parse(
    text: &str,
    column_type: &ColumnType,
    zone: chrono_tz::Tz,
) -> Result<Value<'static>, SqlError> {
    let invalid = || invalid_syntax(column_type, text);
    let trimmed = text.trim();
    if let Some(value) = parse_time_word(trimmed, column_type, zone) {
        return Ok(value);
    }
    Ok(match column_type {
        ColumnType::Boolean => Value::Bool(parse_boolean(trimmed).ok_or_else(invalid)?),
        ColumnType::SmallInt | ColumnType::Integer | ColumnType::BigInt => {
            let value: i128 = match trimmed.parse() {
                Ok(value) => value,
                Err(_) => return Err(invalid()),
            };
            let fits = match column_type {
                ColumnType::SmallInt => i16::try_from(value).is_ok(),
                ColumnType::Integer => i32::try_from(value).is_ok(),
                _ => i64::try_from(value).is_ok(),
            };
            if !fits {
                return Err(value_out_of_range(column_type, text));
            }
            Value::Int(value as i64)
        }
        ColumnType::Real | ColumnType::Double => {
            Value::Float(parse_float(trimmed).ok_or_else(invalid)?)
        }
        ColumnType::Numeric { .. } => {
            let (unscaled, scale) = parse_numeric(trimmed).ok_or_else(invalid)?;
            Value::Numeric { unscaled, scale }
        }
        ColumnType::Text => Value::text(text.to_owned()),
        ColumnType::Varchar(limit) => Value::text(match limit {
            Some(limit) => text.chars().take(*limit as usize).collect::<String>(),
            None => text.to_owned(),
        }),
        ColumnType::Char(limit) => Value::text(
            text.trim_end()
                .chars()
                .take(*limit as usize)
                .collect::<String>(),
        ),
        ColumnType::Bytea => Value::Bytes(parse_bytes(text).ok_or_else(invalid)?.into()),
        ColumnType::Date => Value::Date(parse_date(trimmed).ok_or_else(invalid)?),
        ColumnType::Time => Value::Time(parse_time(trimmed).ok_or_else(invalid)?),
        ColumnType::Timestamp => Value::Timestamp(parse_timestamp(trimmed).ok_or_else(invalid)?.0),
        ColumnType::TimestampTz => {
            let (local, offset) = parse_timestamp(trimmed).ok_or_else(invalid)?;
            Value::Timestamp(match offset {
                Some(Zone::Offset(seconds)) => local - i64::from(seconds) * 1_000_000,
                Some(Zone::Named(zone)) => local_to_utc(local, zone),
                None => local_to_utc(local, zone),
            })
        }
        ColumnType::Interval => Value::Interval(parse_interval(trimmed).ok_or_else(invalid)?),
        ColumnType::Uuid => {
            let uuid = uuid::Uuid::try_parse(trimmed).map_err(|_| invalid())?;
            Value::text(uuid.hyphenated().to_string())
        }
        ColumnType::Json => {
            serde_json::from_str::<serde::de::IgnoredAny>(text)
                .map_err(|error| invalid_json(error.to_string()))?;
            Value::text(text.to_owned())
        }
        ColumnType::Jsonb => {
            let value: serde_json::Value =
                serde_json::from_str(text).map_err(|error| invalid_json(error.to_string()))?;
            Value::text(super::json::jsonb_text(&value))
        }
        ColumnType::Array(element) => parse_array(text, element, zone)?,
        #[allow(unreachable_patterns)]
        _ => Value::text(text.to_owned()),
    })
}

/// Words for a moment that PostgreSQL reads when it plans a statement.
const TIME_WORDS: [&str; 4] = ["now", "today", "tomorrow", "yesterday"];

/// Whether a text means something else at another time, so that a plan must not keep its value.
pub fn holds_time(text: &str, column_type: &ColumnType) -> bool {
    match column_type {
        ColumnType::Date | ColumnType::Timestamp | ColumnType::TimestampTz => {
            let text = text.to_ascii_lowercase();
            TIME_WORDS.iter().any(|word| text.contains(word))
        }
        ColumnType::Array(element) => holds_time(text, element),
        _ => false,
    }
}

/// The value of such a word, in the session's time zone.
fn parse_time_word(
    text: &str,
    column_type: &ColumnType,
    zone: chrono_tz::Tz,
) -> Option<Value<'static>> {
    if !matches!(
        column_type,
        ColumnType::Date | ColumnType::Timestamp | ColumnType::TimestampTz
    ) {
        return None;
    }
    let word = TIME_WORDS
        .iter()
        .find(|word| word.eq_ignore_ascii_case(text))?;
    let now = chrono::Utc::now();
    let local = now.with_timezone(&zone).naive_local().and_utc();
    let today = i32::try_from(local.timestamp().div_euclid(86_400)).ok()?;
    let days = match *word {
        "tomorrow" => today + 1,
        "yesterday" => today - 1,
        _ => today,
    };
    let midnight = i64::from(days) * MICROS_PER_DAY;
    Some(match (column_type, *word) {
        (ColumnType::Date, _) => Value::Date(days),
        (ColumnType::Timestamp, "now") => Value::Timestamp(local.timestamp_micros()),
        (ColumnType::Timestamp, _) => Value::Timestamp(midnight),
        (_, "now") => Value::Timestamp(now.timestamp_micros()),
        (_, _) => Value::Timestamp(local_to_utc(midnight, zone)),
    })
}

fn invalid_json(detail: String) -> SqlError {
    SqlError::new(
        SqlState::INVALID_TEXT_REPRESENTATION,
        "invalid input syntax for type json",
    )
    .detail(detail)
}

/// Prints a value of a type.
pub fn display(value: &Value<'_>, column_type: &ColumnType, zone: chrono_tz::Tz) -> String {
    match (value, column_type) {
        (Value::Null, _) => String::new(),
        (Value::Bool(value), _) => if *value { "true" } else { "false" }.to_owned(),
        (Value::Int(value), _) => value.to_string(),
        (Value::Float(value), ColumnType::Real) => display_float(f64::from(*value as f32), true),
        (Value::Float(value), _) => display_float(*value, false),
        (
            Value::Numeric { unscaled, scale },
            ColumnType::Numeric {
                precision: None, ..
            },
        ) => trim_numeric(display_numeric(*unscaled, *scale)),
        (Value::Numeric { unscaled, scale }, _) => display_numeric(*unscaled, *scale),
        (Value::Text(text), _) => text.to_string(),
        (Value::Bytes(bytes), _) => {
            let mut text = String::with_capacity(2 + bytes.len() * 2);
            text.push_str("\\x");
            for byte in bytes.iter() {
                text.push_str(&format!("{byte:02x}"));
            }
            text
        }
        (Value::Date(days), _) => display_date(*days),
        (Value::Time(micros), _) => display_time(*micros),
        (Value::Timestamp(micros), ColumnType::TimestampTz) => display_timestamptz(*micros, zone),
        (Value::Timestamp(micros), _) => display_timestamp(*micros),
        (Value::Interval(interval), _) => display_interval(*interval),
        (Value::List(list), _) => {
            let element = match column_type {
                ColumnType::Array(element) => (**element).clone(),
                _ => ColumnType::Text,
            };
            let Ok(reader) = Reader::new(list) else {
                return "{}".to_owned();
            };
            let cells = (0..list.len())
                .map(|row| {
                    let cell = reader.value(row);
                    if cell.is_null() {
                        "NULL".to_owned()
                    } else {
                        let text = match cell {
                            Value::Bool(value) => if value { "t" } else { "f" }.to_owned(),
                            other => display(&other, &element, zone),
                        };
                        quote_element(text, &element)
                    }
                })
                .collect::<Vec<_>>();
            format!("{{{}}}", cells.join(","))
        }
    }
}

fn quote_element(text: String, element: &ColumnType) -> String {
    let bare = !text.is_empty()
        && !text.eq_ignore_ascii_case("null")
        && !text.contains(|c: char| matches!(c, '{' | '}' | ',' | '"' | '\\') || c.is_whitespace());
    if bare || matches!(element, ColumnType::Array(_)) {
        return text;
    }
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

fn parse_boolean(text: &str) -> Option<bool> {
    let text = text.to_ascii_lowercase();
    match text.as_str() {
        "1" | "on" => return Some(true),
        "0" | "off" | "of" => return Some(false),
        "" => return None,
        _ => {}
    }
    if "true".starts_with(&text) || "yes".starts_with(&text) {
        Some(true)
    } else if "false".starts_with(&text) || "no".starts_with(&text) {
        Some(false)
    } else {
        None
    }
}

fn parse_float(text: &str) -> Option<f64> {
    match text.to_ascii_lowercase().as_str() {
        "nan" => Some(f64::NAN),
        "infinity" | "inf" | "+infinity" => Some(f64::INFINITY),
        "-infinity" | "-inf" => Some(f64::NEG_INFINITY),
        other => other.parse().ok(),
    }
}

/// Reads a decimal with an optional exponent into (unscaled, scale).
pub fn parse_numeric(text: &str) -> Option<(i128, i8)> {
    let (mantissa, exponent) = match text.find(['e', 'E']) {
        Some(at) => (&text[..at], text[at + 1..].parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (negative, digits) = match mantissa.as_bytes().first()? {
        b'-' => (true, &mantissa[1..]),
        b'+' => (false, &mantissa[1..]),
        _ => (false, mantissa),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let mut unscaled: i128 = 0;
    let mut scale = 0i32;
    for (index, byte) in whole.bytes().chain(fraction.bytes()).enumerate() {
        if !byte.is_ascii_digit() {
            return None;
        }
        match unscaled
            .checked_mul(10)
            .and_then(|value| value.checked_add(i128::from(byte - b'0')))
        {
            Some(value) => {
                unscaled = value;
                if index >= whole.len() {
                    scale += 1;
                }
            }
            // Digits beyond what the type holds are dropped, but not those of the whole part.
            None if index >= whole.len() => break,
            None => return None,
        }
    }
    scale -= exponent;
    if scale < 0 {
        unscaled = unscaled.checked_mul(10i128.checked_pow(scale.unsigned_abs())?)?;
        scale = 0;
    }
    if scale > 37 {
        unscaled = rescale(unscaled, i8::try_from(scale).ok()?, 37)?;
        scale = 37;
    }
    Some((if negative { -unscaled } else { unscaled }, scale as i8))
}

pub fn display_numeric(unscaled: i128, scale: i8) -> String {
    if scale <= 0 {
        let zeros = "0".repeat(usize::from(scale.unsigned_abs()));
        return if unscaled == 0 {
            "0".to_owned()
        } else {
            format!("{unscaled}{zeros}")
        };
    }
    let scale = scale as usize;
    let digits = format!("{:0>width$}", unscaled.unsigned_abs(), width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    format!("{}{whole}.{fraction}", if unscaled < 0 { "-" } else { "" })
}

/// A numeric without precision prints no zeros that nobody wrote.
pub fn trim_numeric(text: String) -> String {
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

pub fn display_float(value: f64, single: bool) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "Infinity" } else { "-Infinity" }.to_owned();
    }
    if value == 0.0 {
        return if value.is_sign_negative() { "-0" } else { "0" }.to_owned();
    }
    let digits = if single {
        format!("{:e}", value as f32)
    } else {
        format!("{value:e}")
    };
    let (mantissa, exponent) = digits.split_once('e').unwrap_or((&digits, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let limit = if single { 6 } else { 15 };
    if (-4..limit).contains(&exponent) {
        return if single {
            format!("{}", value as f32)
        } else {
            format!("{value}")
        };
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.abs())
}

fn parse_bytes(text: &str) -> Option<Vec<u8>> {
    let Some(hex) = text.strip_prefix("\\x") else {
        return Some(text.as_bytes().to_vec());
    };
    let hex = hex.as_bytes();
    if hex.len() % 2 != 0 {
        return None;
    }
    hex.chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect()
}

pub fn days_from_date(date: NaiveDate) -> i32 {
    date.num_days_from_ce() - EPOCH_FROM_CE
}

pub fn date_from_days(days: i32) -> Option<NaiveDate> {
    NaiveDate::from_num_days_from_ce_opt(days.checked_add(EPOCH_FROM_CE)?)
}

fn today() -> i32 {
    (chrono::Utc::now().timestamp() / 86_400) as i32
}

pub fn parse_date(text: &str) -> Option<i32> {
    match text.to_ascii_lowercase().as_str() {
        "today" | "now" => return Some(today()),
        "yesterday" => return Some(today() - 1),
        "tomorrow" => return Some(today() + 1),
        "epoch" => return Some(0),
        _ => {}
    }
    let text = text
        .split(['T', ' '])
        .next()
        .filter(|part| part.len() >= 8)
        .unwrap_or(text);
    for format in [
        "%Y-%m-%d",
        "%Y%m%d",
        "%m/%d/%Y",
        "%Y/%m/%d",
        "%d %b %Y",
        "%b %d, %Y",
        "%d-%b-%Y",
    ] {
        if let Ok(date) = NaiveDate::parse_from_str(text, format) {
            return Some(days_from_date(date));
        }
    }
    None
}

pub fn display_date(days: i32) -> String {
    match date_from_days(days) {
        Some(date) if date.year() > 0 => date.format("%Y-%m-%d").to_string(),
        Some(date) => format!(
            "{:04}-{:02}-{:02} BC",
            1 - date.year(),
            date.month(),
            date.day()
        ),
        None => if days > 0 { "infinity" } else { "-infinity" }.to_owned(),
    }
}

pub fn parse_time(text: &str) -> Option<i64> {
    let (text, afternoon) = match text
        .len()
        .checked_sub(3)
        .map(|at| text.is_char_boundary(at).then(|| text.split_at(at)))
    {
        Some(Some((head, tail))) if tail.eq_ignore_ascii_case(" pm") => (head, Some(true)),
        Some(Some((head, tail))) if tail.eq_ignore_ascii_case(" am") => (head, Some(false)),
        _ => (text, None),
    };
    let mut parts = text.split(':');
    let mut hour: i64 = parts.next()?.trim().parse().ok()?;
    let minute: i64 = parts.next()?.parse().ok()?;
    let seconds = parts.next().unwrap_or("0");
    if parts.next().is_some() {
        return None;
    }
    match afternoon {
        Some(true) if hour < 12 => hour += 12,
        Some(false) if hour == 12 => hour = 0,
        _ => {}
    }
    let micros = seconds_to_micros(seconds)?;
    if !(0..=24).contains(&hour)
        || !(0..60).contains(&minute)
        || !(0..=60_000_000).contains(&micros)
    {
        return None;
    }
    Some((hour * 60 + minute) * 60_000_000 + micros)
}

fn seconds_to_micros(text: &str) -> Option<i64> {
    let (unscaled, scale) = parse_numeric(text)?;
    i64::try_from(rescale(unscaled, scale, 6)?).ok()
}

pub fn display_time(micros: i64) -> String {
    let seconds = micros / 1_000_000;
    let text = format!(
        "{:02}:{:02}:{:02}",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60
    );
    text + &fraction(micros % 1_000_000)
}

fn fraction(micros: i64) -> String {
    if micros == 0 {
        return String::new();
    }
    format!(".{micros:06}").trim_end_matches('0').to_owned()
}

/// A zone written after a timestamp.
pub enum Zone {
    Offset(i32),
    Named(chrono_tz::Tz),
}

/// Reads a timestamp: the local microseconds and the zone written after it.
pub fn parse_timestamp(text: &str) -> Option<(i64, Option<Zone>)> {
    match text.to_ascii_lowercase().as_str() {
        "now" => {
            return Some((chrono::Utc::now().timestamp_micros(), Some(Zone::Offset(0))));
        }
        "today" => return Some((i64::from(today()) * MICROS_PER_DAY, None)),
        "epoch" => return Some((0, Some(Zone::Offset(0)))),
        "infinity" => return Some((i64::MAX, None)),
        "-infinity" => return Some((i64::MIN, None)),
        _ => {}
    }
    let (date, time) = match text.find(['T', ' ']) {
        Some(at) if at >= 8 => (&text[..at], text[at + 1..].trim()),
        _ => (text, ""),
    };
    let days = parse_date(date)?;
    let start = i64::from(days) * MICROS_PER_DAY;
    if time.is_empty() {
        return Some((start, None));
    }
    let (clock, zone) = split_zone(time)?;
    Some((start + parse_time(clock)?, zone))
}

fn split_zone(time: &str) -> Option<(&str, Option<Zone>)> {
    if let Some(clock) = time.strip_suffix(['Z', 'z']) {
        return Some((clock.trim_end(), Some(Zone::Offset(0))));
    }
    if let Some(at) = time.rfind(['+', '-']) {
        return Some((
            time[..at].trim_end(),
            Some(Zone::Offset(parse_offset(&time[at..])?)),
        ));
    }
    if let Some((clock, name)) = time.split_once(' ')
        && !name.eq_ignore_ascii_case("am")
        && !name.eq_ignore_ascii_case("pm")
    {
        return Some((clock, Some(parse_zone(name)?)));
    }
    Some((time, None))
}

fn parse_offset(text: &str) -> Option<i32> {
    let sign = if text.starts_with('-') { -1 } else { 1 };
    let digits = text.get(1..)?;
    let mut parts = digits.split(':');
    let first = parts.next()?;
    let (hours, minutes) = if first.len() == 4 && !digits.contains(':') {
        (
            first[..2].parse::<i32>().ok()?,
            first[2..].parse::<i32>().ok()?,
        )
    } else {
        (
            first.parse::<i32>().ok()?,
            parts.next().unwrap_or("0").parse::<i32>().ok()?,
        )
    };
    (hours <= 15 && minutes < 60).then_some(sign * (hours * 3600 + minutes * 60))
}

/// Reads a zone: a name, an abbreviation of UTC, or an offset.
pub fn parse_zone(name: &str) -> Option<Zone> {
    if name.starts_with(['+', '-']) {
        return parse_offset(name).map(Zone::Offset);
    }
    match name.to_ascii_uppercase().as_str() {
        "UTC" | "GMT" | "Z" | "ZULU" => return Some(Zone::Offset(0)),
        "EST" => return Some(Zone::Offset(-5 * 3600)),
        "EDT" => return Some(Zone::Offset(-4 * 3600)),
        "CET" => return Some(Zone::Offset(3600)),
        "CEST" => return Some(Zone::Offset(7200)),
        "PST" => return Some(Zone::Offset(-8 * 3600)),
        "PDT" => return Some(Zone::Offset(-7 * 3600)),
        _ => {}
    }
    chrono_tz::TZ_VARIANTS
        .iter()
        .find(|zone| zone.name().eq_ignore_ascii_case(name))
        .map(|zone| Zone::Named(*zone))
}

/// The instant at which a zone's clocks show `local`; the later reading of PostgreSQL in a gap.
pub fn local_to_utc(local: i64, zone: chrono_tz::Tz) -> i64 {
    if zone == chrono_tz::UTC {
        return local;
    }
    let Some(naive) = chrono::DateTime::from_timestamp_micros(local).map(|time| time.naive_utc())
    else {
        return local;
    };
    match zone.from_local_datetime(&naive) {
        chrono::LocalResult::Single(time) => time.timestamp_micros(),
        chrono::LocalResult::Ambiguous(_, later) => later.timestamp_micros(),
        chrono::LocalResult::None => {
            let before = naive - chrono::Duration::hours(3);
            let offset = zone
                .offset_from_utc_datetime(&before)
                .fix()
                .local_minus_utc();
            local - i64::from(offset) * 1_000_000
        }
    }
}

/// What a zone's clocks show at an instant.
pub fn utc_to_local(utc: i64, zone: chrono_tz::Tz) -> i64 {
    utc + i64::from(offset_seconds(utc, zone)) * 1_000_000
}

pub fn offset_seconds(utc: i64, zone: chrono_tz::Tz) -> i32 {
    if zone == chrono_tz::UTC {
        return 0;
    }
    chrono::DateTime::from_timestamp_micros(utc).map_or(0, |time| {
        zone.offset_from_utc_datetime(&time.naive_utc())
            .fix()
            .local_minus_utc()
    })
}

pub fn display_timestamp(micros: i64) -> String {
    if micros == i64::MAX {
        return "infinity".to_owned();
    }
    if micros == i64::MIN {
        return "-infinity".to_owned();
    }
    let days = micros.div_euclid(MICROS_PER_DAY);
    let date = display_date(i32::try_from(days).unwrap_or(i32::MAX));
    let time = display_time(micros.rem_euclid(MICROS_PER_DAY));
    match date.strip_suffix(" BC") {
        Some(date) => format!("{date} {time} BC"),
        None => format!("{date} {time}"),
    }
}

pub fn display_timestamptz(micros: i64, zone: chrono_tz::Tz) -> String {
    if micros == i64::MAX || micros == i64::MIN {
        return display_timestamp(micros);
    }
    let offset = offset_seconds(micros, zone);
    let local = display_timestamp(micros + i64::from(offset) * 1_000_000);
    let sign = if offset < 0 { '-' } else { '+' };
    let (hours, minutes) = (offset.abs() / 3600, offset.abs() / 60 % 60);
    if minutes == 0 {
        format!("{local}{sign}{hours:02}")
    } else {
        format!("{local}{sign}{hours:02}:{minutes:02}")
    }
}

pub fn display_interval(interval: IntervalMonthDayNano) -> String {
    let mut parts = Vec::new();
    let plural =
        |count: i32, unit: &str| format!("{count} {unit}{}", if count == 1 { "" } else { "s" });
    let (years, months) = (interval.months / 12, interval.months % 12);
    let mut negative_before = false;
    let mut push = |count: i32, unit: &str| {
        if count != 0 {
            let sign = if negative_before && count > 0 {
                "+"
            } else {
                ""
            };
            parts.push(format!("{sign}{}", plural(count, unit)));
            negative_before = count < 0;
        }
    };
    push(years, "year");
    push(months, "mon");
    push(interval.days, "day");
    let micros = interval.nanoseconds / 1000;
    if micros != 0 || parts.is_empty() {
        let sign = if micros < 0 {
            "-"
        } else if negative_before {
            "+"
        } else {
            ""
        };
        let micros = micros.abs();
        let seconds = micros / 1_000_000;
        parts.push(format!(
            "{sign}{:02}:{:02}:{:02}{}",
            seconds / 3600,
            seconds / 60 % 60,
            seconds % 60,
            fraction(micros % 1_000_000)
        ));
    }
    parts.join(" ")
}

/// Reads an interval: `1 day 02:03:04`, `1 year 2 mons`, `P1DT2H`, `1:30`, `3 weeks ago`.
pub fn parse_interval(text: &str) -> Option<IntervalMonthDayNano> {
    if text.starts_with(['P', 'p']) {
        return parse_iso_interval(&text[1..]);
    }
    let mut months = 0f64;
    let mut days = 0f64;
    let mut nanos = 0f64;
    let lowered = text.to_ascii_lowercase();
    let mut words = lowered
        .split_whitespace()
        .filter(|word| *word != "@")
        .peekable();
    let mut ago = false;
    let mut any = false;
    while let Some(word) = words.next() {
        if word == "ago" {
            ago = true;
            continue;
        }
        any = true;
        if word.contains(':') {
            let (sign, clock) = match word.strip_prefix('-') {
                Some(rest) => (-1.0, rest),
                None => (1.0, word.strip_prefix('+').unwrap_or(word)),
            };
            let mut parts = clock.split(':');
            let hours: f64 = parts.next()?.parse().ok()?;
            let minutes: f64 = parts.next()?.parse().ok()?;
            let seconds: f64 = parts.next().unwrap_or("0").parse().ok()?;
            nanos += sign * ((hours * 60.0 + minutes) * 60.0 * 1e9 + (seconds * 1e9).round());
            continue;
        }
        let split = word
            .find(|c: char| c.is_ascii_alphabetic())
            .unwrap_or(word.len());
        let (number, mut unit) = word.split_at(split);
        let count: f64 = number.parse().ok()?;
        if unit.is_empty() {
            unit = match words.peek() {
                Some(next)
                    if next.starts_with(|c: char| c.is_ascii_alphabetic()) && *next != "ago" =>
                {
                    words.next().unwrap_or("s")
                }
                _ => "s",
            };
        }
        add_unit(count, unit, &mut months, &mut days, &mut nanos)?;
    }
    if !any {
        return None;
    }
    let sign = if ago { -1.0 } else { 1.0 };
    Some(compose(sign * months, sign * days, sign * nanos))
}

fn add_unit(
    count: f64,
    unit: &str,
    months: &mut f64,
    days: &mut f64,
    nanos: &mut f64,
) -> Option<()> {
    match unit.trim_end_matches(',') {
        "millennium" | "millennia" | "millenniums" | "mil" | "mils" => *months += count * 12_000.0,
        "century" | "centuries" | "cent" | "c" => *months += count * 1_200.0,
        "decade" | "decades" | "dec" | "decs" => *months += count * 120.0,
        "year" | "years" | "yr" | "yrs" | "y" => *months += (count * 12.0).round(),
        "quarter" | "quarters" | "qtr" => *months += count * 3.0,
        "month" | "months" | "mon" | "mons" => *months += count,
        "week" | "weeks" | "w" => *days += count * 7.0,
        "day" | "days" | "d" => *days += count,
        "hour" | "hours" | "hr" | "hrs" | "h" => *nanos += count * 3.6e12,
        "minute" | "minutes" | "min" | "mins" | "m" => *nanos += count * 6e10,
        "second" | "seconds" | "sec" | "secs" | "s" => *nanos += count * 1e9,
        "millisecond" | "milliseconds" | "ms" | "msec" | "msecs" => *nanos += count * 1e6,
        "microsecond" | "microseconds" | "us" | "usec" | "usecs" => *nanos += count * 1e3,
        _ => return None,
    }
    Some(())
}

/// Fractions of a month become days of 30, fractions of a day become time.
pub fn compose(months: f64, days: f64, nanos: f64) -> IntervalMonthDayNano {
    let whole_months = months.trunc();
    let days = days + (months - whole_months) * 30.0;
    let whole_days = days.trunc();
    let nanos = nanos + (days - whole_days) * 8.64e13;
    let micros = (nanos / 1000.0).round();
    IntervalMonthDayNano::new(whole_months as i32, whole_days as i32, micros as i64 * 1000)
}

fn parse_iso_interval(text: &str) -> Option<IntervalMonthDayNano> {
    let (mut months, mut days, mut nanos) = (0f64, 0f64, 0f64);
    let mut in_time = false;
    let mut number = String::new();
    for c in text.chars() {
        match c.to_ascii_uppercase() {
            'T' => in_time = true,
            '0'..='9' | '.' | '-' | '+' => number.push(c),
            unit => {
                let count: f64 = number.parse().ok()?;
                number.clear();
                match (unit, in_time) {
                    ('Y', _) => months += count * 12.0,
                    ('M', false) => months += count,
                    ('W', _) => days += count * 7.0,
                    ('D', _) => days += count,
                    ('H', _) => nanos += count * 3.6e12,
                    ('M', true) => nanos += count * 6e10,
                    ('S', _) => nanos += count * 1e9,
                    _ => return None,
                }
            }
        }
    }
    number.is_empty().then(|| compose(months, days, nanos))
}

fn parse_array(
    text: &str,
    element: &ColumnType,
    zone: chrono_tz::Tz,
) -> Result<Value<'static>, SqlError> {
    let malformed = || {
        SqlError::new(
            SqlState::INVALID_TEXT_REPRESENTATION,
            format!("malformed array literal: \"{text}\""),
        )
    };
    let inner = text
        .trim()
        .strip_prefix('{')
        .and_then(|rest| rest.strip_suffix('}'))
        .ok_or_else(malformed)?;
    let mut cells: Vec<Option<String>> = Vec::new();
    let mut cell = String::new();
    let (mut quoted, mut in_quotes, mut depth) = (false, false, 0u32);
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => cell.push(chars.next().ok_or_else(malformed)?),
            '"' if depth == 0 => {
                in_quotes = !in_quotes;
                quoted = true;
            }
            '{' if !in_quotes => {
                depth += 1;
                cell.push(c);
            }
            '}' if !in_quotes => {
                depth = depth.checked_sub(1).ok_or_else(malformed)?;
                cell.push(c);
            }
            ',' if !in_quotes && depth == 0 => {
                cells.push(finish_cell(&mut cell, &mut quoted));
            }
            other => cell.push(other),
        }
    }
    if in_quotes || depth > 0 {
        return Err(malformed());
    }
    if !cells.is_empty() || !cell.trim().is_empty() || quoted {
        cells.push(finish_cell(&mut cell, &mut quoted));
    }
    let values = cells
        .iter()
        .map(|cell| match cell {
            Some(text) => parse(text, element, zone),
            None => Ok(Value::Null),
        })
        .collect::<Result<Vec<_>, _>>()?;
    Ok(Value::List(super::value::column(
        &values,
        &element.arrow(),
    )?))
}

fn finish_cell(cell: &mut String, quoted: &mut bool) -> Option<String> {
    let text = std::mem::take(cell);
    if std::mem::take(quoted) {
        return Some(text);
    }
    let text = text.trim().to_owned();
    if text.eq_ignore_ascii_case("null") {
        None
    } else {
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn check(text: &str, column_type: ColumnType, expected: Expect) {
        let zone = chrono_tz::Europe::Berlin;
        let shown = match parse(text, &column_type, zone) {
            Ok(value) => display(&value, &column_type, zone),
            Err(error) => format!("{}: {}", error.state.0, error.message),
        };
        expected.assert_eq(&shown);
    }

    #[test]
    fn values_read_and_print_as_postgresql_does() {
        check(" 42 ", ColumnType::Integer, expect!["42"]);
        check(
            "x",
            ColumnType::Integer,
            expect![[r#"22P02: invalid input syntax for type integer: "x""#]],
        );
        check(
            "70000",
            ColumnType::SmallInt,
            expect![[r#"22003: value "70000" is out of range for type smallint"#]],
        );
        check("1e20", ColumnType::Double, expect!["1e+20"]);
        check("0.1", ColumnType::Double, expect!["0.1"]);
        check("yes", ColumnType::Boolean, expect!["true"]);
        check(
            "2024-02-30",
            ColumnType::Date,
            expect![[r#"22007: invalid input syntax for type date: "2024-02-30""#]],
        );
        check(
            "2024-03-31 02:30:00",
            ColumnType::TimestampTz,
            expect!["2024-03-31 03:30:00+02"],
        );
        check(
            "2024-01-01T12:00:00.5Z",
            ColumnType::TimestampTz,
            expect!["2024-01-01 13:00:00.5+01"],
        );
        check(
            "1 day 2:03",
            ColumnType::Interval,
            expect!["1 day 02:03:00"],
        );
        check(
            "1.5 months ago",
            ColumnType::Interval,
            expect!["-1 mons -15 days"],
        );
        check(
            "P1Y2M3DT4H",
            ColumnType::Interval,
            expect!["1 year 2 mons 3 days 04:00:00"],
        );
        check(
            r#"{a,"b c",NULL}"#,
            ColumnType::Array(Box::new(ColumnType::Text)),
            expect![[r#"{a,"b c",NULL}"#]],
        );
    }
}
