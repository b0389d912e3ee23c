//! Dates, times and timestamps out of text: ISO 8601 as PostgreSQL writes it, and given formats.

use chrono::format::{Item, Parsed, StrftimeItems};
use chrono::{DateTime, LocalResult, NaiveDate, NaiveDateTime, NaiveTime, TimeZone};

use super::ValueFormat;

const MICROS_PER_SECOND: i64 = 1_000_000;
const MICROS_PER_DAY: i64 = 86_400 * MICROS_PER_SECOND;

/// A date or timestamp format, in `strftime` words (`%d/%m/%Y`) or PostgreSQL's (`DD/MM/YYYY`).
#[derive(Debug, Clone)]
pub struct Pattern {
    items: Vec<Item<'static>>,
}

impl Pattern {
    pub fn new(text: &str) -> Option<Self> {
        let text = if text.contains('%') {
            text.to_owned()
        } else {
            from_postgres(text)?
        };
        StrftimeItems::new(&text)
            .parse_to_owned()
            .ok()
            .map(|items| Self { items })
    }

    fn parse(&self, text: &str) -> Option<Parsed> {
        let mut parsed = Parsed::new();
        chrono::format::parse(&mut parsed, text, self.items.iter()).ok()?;
        Some(parsed)
    }

    pub fn parse_date(&self, text: &str) -> Option<NaiveDate> {
        self.parse(text)?.to_naive_date().ok()
    }
}

fn from_postgres(text: &str) -> Option<String> {
    let mut pattern = String::new();
    let mut rest = text;
    const WORDS: [(&str, &str); 14] = [
        ("YYYY", "%Y"),
        ("YY", "%y"),
        ("MONTH", "%B"),
        ("MON", "%b"),
        ("MM", "%m"),
        ("DD", "%d"),
        ("HH24", "%H"),
        ("HH12", "%I"),
        ("HH", "%I"),
        ("MI", "%M"),
        ("SS", "%S"),
        (".US", "%.f"),
        (".MS", "%.f"),
        ("AM", "%p"),
    ];
    while let Some(character) = rest.chars().next() {
        let word = WORDS.iter().find(|(word, _)| {
            rest.get(..word.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(word))
        });
        match word {
            Some((word, replacement)) => {
                pattern.push_str(replacement);
                rest = &rest[word.len()..];
            }
            None if character.is_alphabetic() && character != 'T' => return None,
            None => {
                pattern.push(character);
                rest = &rest[character.len_utf8()..];
            }
        }
    }
    Some(pattern)
}

/// Days since 1970-01-01.
pub fn parse_date(text: &str, format: &ValueFormat) -> Option<i32> {
    if format.date_formats.is_empty() {
        return parse_iso_date(text.as_bytes());
    }
    let date = format
        .date_formats
        .iter()
        .find_map(|pattern| pattern.parse_date(text))?;
    Some(days(date))
}

/// `2024-01-31`, also with slashes.
pub fn parse_iso_date(text: &[u8]) -> Option<i32> {
    let &[y1, y2, y3, y4, s1, m1, m2, s2, d1, d2] = text else {
        return None;
    };
    if s1 != s2 || (s1 != b'-' && s1 != b'/') {
        return None;
    }
    let year = two(y1, y2)? * 100 + two(y3, y4)?;
    civil_days(year, two(m1, m2)?, two(d1, d2)?)
}

fn two(tens: u8, ones: u8) -> Option<i32> {
    let (tens, ones) = (tens.wrapping_sub(b'0'), ones.wrapping_sub(b'0'));
    (tens <= 9 && ones <= 9).then(|| i32::from(tens) * 10 + i32::from(ones))
}

/// See <https://howardhinnant.github.io/date_algorithms.html#days_from_civil>.
fn civil_days(year: i32, month: i32, day: i32) -> Option<i32> {
    const LENGTHS: [i32; 13] = [0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = *LENGTHS.get(usize::try_from(month).ok()?)? + i32::from(leap && month == 2);
    if day < 1 || day > length || month < 1 || year < 1 {
        return None;
    }
    let year = if month <= 2 { year - 1 } else { year };
    let era = year / 400;
    let year_of_era = year - era * 400;
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    Some(era * 146_097 + day_of_era - 719_468)
}

pub fn days(date: NaiveDate) -> i32 {
    date.to_epoch_days()
}

/// Microseconds since midnight: `13:45`, `13:45:10`, `13:45:10.123456`.
pub fn parse_time(text: &[u8]) -> Option<i64> {
    let (micros, rest) = take_time(text)?;
    rest.is_empty().then_some(micros)
}

fn take_time(text: &[u8]) -> Option<(i64, &[u8])> {
    let &[h1, h2, b':', m1, m2, ref rest @ ..] = text else {
        return None;
    };
    let (hour, minute) = (two(h1, h2)?, two(m1, m2)?);
    let (second, rest) = match rest {
        [b':', s1, s2, rest @ ..] => (two(*s1, *s2)?, rest),
        rest => (0, rest),
    };
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let mut micros = i64::from(hour * 3600 + minute * 60 + second) * MICROS_PER_SECOND;
    let mut rest = rest;
    if let [b'.', fraction @ ..] = rest {
        let length = fraction
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .count();
        if length == 0 || length > 9 {
            return None;
        }
        let mut unit = MICROS_PER_SECOND / 10;
        for &digit in &fraction[..length] {
            micros += i64::from(digit - b'0') * unit;
            unit /= 10;
        }
        rest = &fraction[length..];
    }
    Some((micros, rest))
}

/// What a timestamp text says: wall clock microseconds, and the offset where it names one.
pub struct WallClock {
    pub micros: i64,
    pub offset_seconds: Option<i32>,
}

/// `2024-01-31 13:45:10.5`, with `T` or a blank, and perhaps `Z` or `+07:00` behind it. A date
/// alone is midnight.
pub fn parse_iso_timestamp(text: &[u8]) -> Option<WallClock> {
    let date = parse_iso_date(text.get(..10)?)?;
    let midnight = i64::from(date) * MICROS_PER_DAY;
    let (time, zone) = match &text[10..] {
        [] => {
            return Some(WallClock {
                micros: midnight,
                offset_seconds: None,
            });
        }
        [b' ' | b'T' | b't', rest @ ..] => take_time(rest)?,
        _ => return None,
    };
    let zone = zone.strip_prefix(b" ").unwrap_or(zone);
    let offset_seconds = match zone {
        [] => None,
        b"Z" | b"z" | b"UTC" => Some(0),
        [sign @ (b'+' | b'-'), h1, h2, rest @ ..] => {
            let minutes = match rest {
                [] => 0,
                [b':', m1, m2] | [m1, m2] => two(*m1, *m2)?,
                _ => return None,
            };
            let seconds = two(*h1, *h2)? * 3600 + minutes * 60;
            Some(if *sign == b'-' { -seconds } else { seconds })
        }
        _ => return None,
    };
    Some(WallClock {
        micros: midnight + time,
        offset_seconds,
    })
}

fn parse_wall_clock(text: &str, format: &ValueFormat) -> Option<WallClock> {
    if format.timestamp_formats.is_empty() {
        if !format.date_formats.is_empty() && text.len() != 10 {
            return parse_iso_timestamp(text.as_bytes());
        }
        return match parse_date(text, format) {
            Some(date) => Some(WallClock {
                micros: i64::from(date) * MICROS_PER_DAY,
                offset_seconds: None,
            }),
            None => parse_iso_timestamp(text.as_bytes()),
        };
    }
    format.timestamp_formats.iter().find_map(|pattern| {
        let parsed = pattern.parse(text)?;
        let offset_seconds = parsed.offset();
        let date = parsed.to_naive_date().ok()?;
        let time = parsed.to_naive_time().unwrap_or(NaiveTime::MIN);
        let micros = NaiveDateTime::new(date, time).and_utc().timestamp_micros();
        Some(WallClock {
            micros,
            offset_seconds,
        })
    })
}

/// A timestamp without time zone. A text that names an offset says more than the column can
/// hold and is not taken.
pub fn parse_timestamp(text: &str, format: &ValueFormat) -> Option<i64> {
    let clock = parse_wall_clock(text, format)?;
    clock.offset_seconds.is_none().then_some(clock.micros)
}

/// An instant. A text without an offset is in the time zone of `format`; a local time the zone
/// skips or has twice is not taken.
pub fn parse_instant(text: &str, format: &ValueFormat) -> Option<i64> {
    let clock = parse_wall_clock(text, format)?;
    match clock.offset_seconds {
        Some(offset) => Some(clock.micros - i64::from(offset) * MICROS_PER_SECOND),
        None if format.time_zone == chrono_tz::UTC => Some(clock.micros),
        None => {
            let local = DateTime::from_timestamp_micros(clock.micros)?.naive_utc();
            match format.time_zone.from_local_datetime(&local) {
                LocalResult::Single(instant) => Some(instant.timestamp_micros()),
                LocalResult::Ambiguous(..) | LocalResult::None => None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(micros: Option<i64>) -> String {
        micros
            .and_then(DateTime::from_timestamp_micros)
            .map_or("-".to_owned(), |time| {
                time.format("%Y-%m-%d %H:%M:%S%.f").to_string()
            })
    }

    #[test]
    fn iso_dates_agree_with_the_calendar() {
        for year in [1, 1582, 1600, 1899, 1900, 1970, 2000, 2023, 2024, 9999] {
            for month in 1..=13 {
                for day in 0..=32 {
                    let expected = NaiveDate::from_ymd_opt(year, month, day).map(days);
                    let text = format!("{year:04}-{month:02}-{day:02}");
                    assert_eq!(parse_iso_date(text.as_bytes()), expected, "{text}");
                }
            }
        }
        assert_eq!(parse_iso_date(b"2024-01/31"), None);
    }

    #[test]
    fn timestamps_with_and_without_a_zone() {
        let plain = ValueFormat::default();
        assert_eq!(
            shown(parse_timestamp("2024-01-31T13:45:10.123", &plain)),
            "2024-01-31 13:45:10.123"
        );
        assert_eq!(
            shown(parse_timestamp("2024-01-31", &plain)),
            "2024-01-31 00:00:00"
        );
        assert_eq!(shown(parse_timestamp("2024-01-31 13:45+07", &plain)), "-");
        assert_eq!(
            shown(parse_instant("2024-01-31 13:45:00+07:00", &plain)),
            "2024-01-31 06:45:00"
        );
        let jakarta = ValueFormat {
            time_zone: chrono_tz::Asia::Jakarta,
            ..ValueFormat::default()
        };
        assert_eq!(
            shown(parse_instant("2024-01-31 13:45", &jakarta)),
            "2024-01-31 06:45:00"
        );
        let berlin = ValueFormat {
            time_zone: chrono_tz::Europe::Berlin,
            ..ValueFormat::default()
        };
        assert_eq!(shown(parse_instant("2024-03-31 02:30", &berlin)), "-");
    }

    #[test]
    fn given_formats() {
        let format = ValueFormat {
            date_formats: vec![
                Pattern::new("DD/MM/YYYY").unwrap(),
                Pattern::new("%d-%b-%y").unwrap(),
            ],
            timestamp_formats: vec![Pattern::new("%d.%m.%Y %H:%M").unwrap()],
            ..ValueFormat::default()
        };
        assert_eq!(
            parse_date("31/01/2024", &format),
            parse_iso_date(b"2024-01-31")
        );
        assert_eq!(
            parse_date("31-Jan-24", &format),
            parse_iso_date(b"2024-01-31")
        );
        assert_eq!(parse_date("2024-01-31", &format), None);
        assert_eq!(
            shown(parse_timestamp("31.01.2024 13:45", &format)),
            "2024-01-31 13:45:00"
        );
        assert!(Pattern::new("FOO").is_none());
    }
}
