//! When a pipeline runs by itself: `SCHEDULE ...`.
//!
//! A schedule that could never run (a cron expression that does not parse, an unknown time zone, an
//! interval of nothing) is refused here, when it is written, and not when it is due.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use croner::Cron;

use crate::display::identifiers;
use crate::error::ParseError;
use crate::input::Input;
use crate::name::quote_literal;

/// When a pipeline runs by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Schedule {
    /// `SCHEDULE ON DEMAND`: only by `RUN PIPELINE`. The same as no schedule.
    OnDemand,
    /// `SCHEDULE EVERY INTERVAL '10 minutes'`.
    Every(Duration),
    /// `SCHEDULE CRON '0 2 * * *' [TIME ZONE 'Asia/Jakarta'] [AFTER p, ...]`, checked when parsed.
    /// With `after`, a run due waits for these pipelines' own runs of that time.
    Cron {
        expression: String,
        time_zone: String,
        after: Vec<String>,
    },
    /// `SCHEDULE AFTER p, ...`: whenever all of these have succeeded.
    After(Vec<String>),
}

impl Schedule {
    /// Stands after `SCHEDULE`.
    pub(crate) fn parse(input: &mut Input) -> Result<Self, ParseError> {
        match input.expect_one_of(&["EVERY", "CRON", "AFTER", "ON", "NONE"])? {
            "EVERY" => {
                let position = input.position();
                if !input.keyword("INTERVAL") && !input.peek_string() {
                    return Err(input.unexpected());
                }
                let text = input.string()?;
                let interval = parse_interval(&text)
                    .filter(|interval| *interval >= INTERVAL_MIN)
                    .ok_or_else(|| not_an_interval(&text).at(position))?;
                Ok(Self::Every(interval))
            }
            "CRON" => {
                let position = input.position();
                let expression = input.string()?;
                Cron::from_str(&expression).map_err(|error| {
                    invalid(format!(
                        "\"{expression}\" is not a cron expression: {error}"
                    ))
                    .at(position)
                    .hint("five fields: minute, hour, day of month, month, day of week")
                })?;
                let mut time_zone = "UTC".to_owned();
                if input.keywords(&["TIME", "ZONE"]) {
                    let position = input.position();
                    let name = input.string()?;
                    let zone = chrono_tz::TZ_VARIANTS
                        .iter()
                        .find(|zone| zone.name().eq_ignore_ascii_case(&name))
                        .ok_or_else(|| {
                            invalid(format!("time zone \"{name}\" not recognized")).at(position)
                        })?;
                    time_zone = zone.name().to_owned();
                }
                let after = if input.keyword("AFTER") {
                    input.identifiers()?
                } else {
                    Vec::new()
                };
                Ok(Self::Cron {
                    expression,
                    time_zone,
                    after,
                })
            }
            "AFTER" => Ok(Self::After(input.identifiers()?)),
            "ON" => {
                input.expect_keyword("DEMAND")?;
                Ok(Self::OnDemand)
            }
            _ => Ok(Self::OnDemand),
        }
    }
}

/// Shorter than this a schedule is a mistake.
const INTERVAL_MIN: Duration = Duration::from_secs(1);

fn invalid(message: String) -> ParseError {
    ParseError::new(ParseError::INVALID_PARAMETER_VALUE, message)
}

fn not_an_interval(text: &str) -> ParseError {
    invalid(format!("\"{text}\" is not an interval a schedule can have"))
        .hint("such as '30 seconds', '10 minutes', '1 hour 30 minutes', '1 day', '1 week'")
}

/// An interval of fixed length in PostgreSQL's spelling. Months and years have none.
pub fn parse_interval(text: &str) -> Option<Duration> {
    let mut total = Duration::ZERO;
    let mut words = text.split_whitespace().peekable();
    words.peek()?;
    while let Some(word) = words.next() {
        if word.contains(':') {
            total = total.checked_add(parse_clock(word)?)?;
            continue;
        }
        let digits = word
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(word.len());
        let (number, mut unit) = word.split_at(digits);
        if unit.is_empty() {
            unit = words.next()?;
        }
        let seconds = seconds_of(&unit.to_ascii_lowercase())?;
        let number: f64 = number.parse().ok()?;
        total = total.checked_add(Duration::try_from_secs_f64(number * seconds).ok()?)?;
    }
    Some(total)
}

/// `hours:minutes[:seconds]`.
fn parse_clock(text: &str) -> Option<Duration> {
    let mut seconds = 0_u64;
    let mut parts = text.split(':');
    for weight in [3600, 60, 1] {
        let Some(part) = parts.next() else {
            break;
        };
        let part: u64 = part.parse().ok()?;
        seconds = seconds.checked_add(part.checked_mul(weight)?)?;
    }
    if parts.next().is_some() {
        None
    } else {
        Some(Duration::from_secs(seconds))
    }
}

fn seconds_of(unit: &str) -> Option<f64> {
    Some(match unit {
        "ms" | "msec" | "msecs" | "millisecond" | "milliseconds" => 0.001,
        "s" | "sec" | "secs" | "second" | "seconds" => 1.0,
        "m" | "min" | "mins" | "minute" | "minutes" => 60.0,
        "h" | "hr" | "hrs" | "hour" | "hours" => 3_600.0,
        "d" | "day" | "days" => 86_400.0,
        "w" | "week" | "weeks" => 604_800.0,
        _ => return None,
    })
}

/// The interval in the largest units that hold it exactly.
pub fn interval_text(interval: Duration) -> String {
    let mut parts = Vec::new();
    let mut seconds = interval.as_secs();
    for (unit, length) in [
        ("day", 86_400),
        ("hour", 3_600),
        ("minute", 60),
        ("second", 1),
    ] {
        let count = seconds / length;
        seconds %= length;
        if count > 0 {
            parts.push(format!(
                "{count} {unit}{}",
                if count == 1 { "" } else { "s" }
            ));
        }
    }
    if interval.subsec_millis() > 0 {
        parts.push(format!("{} milliseconds", interval.subsec_millis()));
    }
    if parts.is_empty() {
        "0 seconds".to_owned()
    } else {
        parts.join(" ")
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OnDemand => formatter.write_str("ON DEMAND"),
            Self::Every(interval) => {
                write!(
                    formatter,
                    "EVERY INTERVAL {}",
                    quote_literal(&interval_text(*interval))
                )
            }
            Self::Cron {
                expression,
                time_zone,
                after,
            } => {
                write!(
                    formatter,
                    "CRON {} TIME ZONE {}",
                    quote_literal(expression),
                    quote_literal(time_zone)
                )?;
                if after.is_empty() {
                    Ok(())
                } else {
                    write!(formatter, " AFTER {}", identifiers(after))
                }
            }
            Self::After(names) => write!(formatter, "AFTER {}", identifiers(names)),
        }
    }
}
