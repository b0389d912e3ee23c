//! Dates, times and moments as PostgreSQL reads them: ISO 8601 and its near relations.
//!
//! `2024-01-02`, `20240102`, `01/02/2024` (month first), then `T` or a blank, `03:04[:05[.678]]`
//! with AM or PM, then `Z`, an offset or the name of a time zone. Words such as `today`, whose
//! meaning depends on when they are read, are refused: a parameter or a row says what it means.

use chrono::{NaiveDate, NaiveDateTime, TimeZone};

use crate::error::{SqlError, SqlState};

pub const DAY: i64 = 86_400_000_000;
/// 2000-01-01, where PostgreSQL's binary dates begin.
pub const EPOCH_DAYS: i32 = 10_957;

fn invalid(type_name: &str, text: &str) -> SqlError {
    SqlError::new(
        SqlState::INVALID_DATETIME_FORMAT,
        format!("invalid input syntax for type {type_name}: \"{text}\""),
    )
}

fn out_of_range(text: &str) -> SqlError {
    SqlError::new(
        SqlState("22008"),
        format!("date/time field value out of range: \"{text}\""),
    )
}

/// What a text says, part by part.
struct Parts<'a> {
    days: i32,
    /// Microseconds since midnight.
    time: i64,
    /// What follows the time: an offset or a zone.
    zone: Option<&'a str>,
}

pub fn date(text: &str) -> Result<i32, SqlError> {
    parts(text, "date").map(|parts| parts.days)
}

pub fn timestamp(text: &str) -> Result<i64, SqlError> {
    let parts = parts(text, "timestamp")?;
    // PostgreSQL, too, reads a zone here and forgets it.
    if let Some(zone) = parts.zone {
        offset_microseconds(zone, parts.days, parts.time)
            .ok_or_else(|| invalid("timestamp", text))?;
    }
    Ok(i64::from(parts.days) * DAY + parts.time)
}

pub fn timestamptz(text: &str, time_zone: &str) -> Result<i64, SqlError> {
    const NAME: &str = "timestamp with time zone";
    let parts = parts(text, NAME)?;
    let offset = match parts.zone {
        Some(zone) => offset_microseconds(zone, parts.days, parts.time).ok_or_else(|| {
            if zone.starts_with(|first: char| first.is_ascii_alphabetic()) {
                SqlError::new(
                    SqlState::INVALID_PARAMETER_VALUE,
                    format!("time zone \"{zone}\" not recognized"),
                )
            } else {
                invalid(NAME, text)
            }
        })?,
        None => offset_microseconds(time_zone, parts.days, parts.time).unwrap_or(0),
    };
    Ok(i64::from(parts.days) * DAY + parts.time - offset)
}

pub fn time(text: &str) -> Result<i64, SqlError> {
    let (time, rest) = split_time(text.trim_ascii(), text, "time")?;
    if !rest.is_empty() {
        return Err(invalid("time", text));
    }
    Ok(time)
}

fn parts<'a>(text: &'a str, type_name: &str) -> Result<Parts<'a>, SqlError> {
    let mut trimmed = text.trim_ascii();
    if trimmed.eq_ignore_ascii_case("epoch") {
        return Ok(Parts {
            days: 0,
            time: 0,
            zone: None,
        });
    }
    if trimmed
        .trim_start_matches('-')
        .eq_ignore_ascii_case("infinity")
    {
        return Err(
            SqlError::unsupported(format!("{type_name} value \"{trimmed}\""))
                .hint("use a far date, or null"),
        );
    }
    let mut before_christ = false;
    if let Some(rest) = trimmed
        .strip_suffix("BC")
        .or_else(|| trimmed.strip_suffix("bc"))
    {
        before_christ = true;
        trimmed = rest.trim_ascii_end();
    }
    let date_end = trimmed.find([' ', 'T', 't']).unwrap_or(trimmed.len());
    let (date, rest) = trimmed.split_at(date_end);
    let (year, month, day) = split_date(date).ok_or_else(|| invalid(type_name, text))?;
    let year = if before_christ { 1 - year } else { year };
    let days = NaiveDate::from_ymd_opt(year, month, day)
        .and_then(|date| {
            i32::try_from(date.signed_duration_since(NaiveDate::default()).num_days()).ok()
        })
        .ok_or_else(|| out_of_range(text))?;
    let rest = rest.trim_start_matches([' ', 'T', 't']);
    if rest.is_empty() {
        return Ok(Parts {
            days,
            time: 0,
            zone: None,
        });
    }
    if !rest.starts_with(|first: char| first.is_ascii_digit()) {
        return Ok(Parts {
            days,
            time: 0,
            zone: Some(rest),
        });
    }
    let (time, rest) = split_time(rest, text, type_name)?;
    let rest = rest.trim_ascii();
    Ok(Parts {
        days,
        time,
        zone: (!rest.is_empty()).then_some(rest),
    })
}

fn split_date(date: &str) -> Option<(i32, u32, u32)> {
    let numbers = |separator| -> Option<[&str; 3]> {
        let mut parts = date.split(separator);
        let three = [parts.next()?, parts.next()?, parts.next()?];
        let digits = three.iter().all(|part| {
            (1..=6).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit())
        });
        (parts.next().is_none() && digits).then_some(three)
    };
    let read = |year: &str, month: &str, day: &str| {
        Some((year.parse().ok()?, month.parse().ok()?, day.parse().ok()?))
    };
    if let Some([first, second, third]) = numbers('-').or_else(|| numbers('/')) {
        if first.len() > 2 {
            return read(first, second, third);
        }
        return if third.len() > 2 {
            read(third, first, second)
        } else {
            None
        };
    }
    if date.len() == 8 && date.bytes().all(|byte| byte.is_ascii_digit()) {
        return read(&date[..4], &date[4..6], &date[6..]);
    }
    None
}

/// Microseconds since midnight, and what follows.
fn split_time<'a>(rest: &'a str, whole: &str, type_name: &str) -> Result<(i64, &'a str), SqlError> {
    let end = rest
        .find(|character: char| !(character.is_ascii_digit() || matches!(character, ':' | '.')))
        .unwrap_or(rest.len());
    let (clock, mut rest) = rest.split_at(end);
    // `030405` is `03:04:05`.
    let colons;
    let clock = match clock.as_bytes() {
        [a, b, c, d] if !clock.contains([':', '.']) => {
            colons = [*a, *b, b':', *c, *d]
                .map(char::from)
                .iter()
                .collect::<String>();
            colons.as_str()
        }
        [_, _, _, _, _, _, ..] if !clock[..6].contains([':', '.']) => {
            colons = format!("{}:{}:{}", &clock[..2], &clock[2..4], &clock[4..]);
            colons.as_str()
        }
        _ => clock,
    };
    let mut parts = clock.split(':');
    let mut number = |digits_max: usize| -> Option<i64> {
        let part = parts.next()?;
        (!part.is_empty() && part.len() <= digits_max)
            .then(|| part.parse().ok())
            .flatten()
    };
    let (Some(mut hours), Some(minutes)) = (number(2), number(2)) else {
        return Err(invalid(type_name, whole));
    };
    let mut seconds = 0;
    let mut fraction = 0;
    if let Some(part) = parts.next() {
        let (whole_seconds, decimals) = part.split_once('.').unwrap_or((part, ""));
        seconds = whole_seconds
            .parse()
            .map_err(|_| invalid(type_name, whole))?;
        if !decimals.is_empty() {
            fraction = microseconds(decimals).ok_or_else(|| invalid(type_name, whole))?;
        }
    }
    if parts.next().is_some() {
        return Err(invalid(type_name, whole));
    }
    let word = rest.trim_ascii_start();
    for (name, afternoon) in [("am", false), ("pm", true)] {
        if word
            .get(..2)
            .is_some_and(|start| start.eq_ignore_ascii_case(name))
        {
            if !(1..=12).contains(&hours) {
                return Err(out_of_range(whole));
            }
            hours = hours % 12 + if afternoon { 12 } else { 0 };
            rest = &word[2..];
        }
    }
    let time = ((hours * 60 + minutes) * 60 + seconds) * 1_000_000 + fraction;
    // A leap second is the next minute's first.
    if minutes > 59 || seconds > 60 || time > DAY {
        return Err(out_of_range(whole));
    }
    Ok((time, rest))
}

/// Decimals of a second, rounded to six.
fn microseconds(decimals: &str) -> Option<i64> {
    let mut value = 0;
    for place in 0..7 {
        let digit = match decimals.as_bytes().get(place) {
            Some(byte) if byte.is_ascii_digit() => i64::from(byte - b'0'),
            Some(_) => return None,
            None => 0,
        };
        if place < 6 {
            value = value * 10 + digit;
        } else if digit >= 5 {
            value += 1;
        }
    }
    Some(value)
}

/// How far a zone is east of UTC at a local time.
fn offset_microseconds(zone: &str, days: i32, time: i64) -> Option<i64> {
    if ["z", "utc", "gmt", "zulu"]
        .iter()
        .any(|name| zone.eq_ignore_ascii_case(name))
    {
        return Some(0);
    }
    if let Some(offset) = numeric_offset(zone) {
        return Some(offset);
    }
    // PostgreSQL's spelling of a fixed offset, `<+07>-07`.
    if let Some((name, _)) = zone.strip_prefix('<').and_then(|rest| rest.split_once('>')) {
        return numeric_offset(name);
    }
    let mut zones = chrono_tz::TZ_VARIANTS.iter();
    let zone = zones.find(|one| one.name().eq_ignore_ascii_case(zone))?;
    let local = i64::from(days) * DAY + time;
    let local: NaiveDateTime = chrono::DateTime::from_timestamp_micros(local)?.naive_utc();
    // A time that the clocks skip is read with the offset before; one they show twice with the second.
    let offset = match zone.offset_from_local_datetime(&local) {
        chrono::LocalResult::Single(offset) => offset,
        chrono::LocalResult::Ambiguous(_, later) => later,
        chrono::LocalResult::None => {
            let before = local.checked_sub_signed(chrono::TimeDelta::hours(3))?;
            zone.offset_from_local_datetime(&before).latest()?
        }
    };
    Some(i64::from(chrono::Offset::fix(&offset).local_minus_utc()) * 1_000_000)
}

/// `+7`, `-03:30`, `+0530`, `+05:30:10`.
fn numeric_offset(zone: &str) -> Option<i64> {
    let (sign, digits) = match zone.split_at_checked(1)? {
        ("+", digits) => (1, digits),
        ("-", digits) => (-1, digits),
        _ => return None,
    };
    let mut parts = digits.split(':');
    let first = parts.next()?;
    if first.is_empty() || !first.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (hours, mut minutes): (i64, i64) = match first.len() {
        1 | 2 => (first.parse().ok()?, 0),
        3 | 4 => (
            first[..first.len() - 2].parse().ok()?,
            first[first.len() - 2..].parse().ok()?,
        ),
        _ => return None,
    };
    if let Some(part) = parts.next() {
        minutes = part.parse().ok()?;
    }
    let seconds: i64 = match parts.next() {
        Some(part) => part.parse().ok()?,
        None => 0,
    };
    let valid = hours < 16 && (0..60).contains(&minutes) && (0..60).contains(&seconds);
    valid.then_some(sign * ((hours * 60 + minutes) * 60 + seconds) * 1_000_000)
}
