//! The type of a column, judged by a sample of its cells.
//!
//! The narrowest type that holds every cell without loss: boolean, bigint, double, numeric (where
//! digits would be lost in a double), date, timestamp, timestamptz, else text. Numbers that start
//! with a zero are identifiers and stay text. A column without any value is text.

use arrow::datatypes::{DataType, TimeUnit};

use super::column::Native;
use super::{ValueFormat, datetime, number};

/// What the cells of one column have in common so far.
#[derive(Debug, Clone, Default)]
pub struct TypeSample {
    guess: Option<Guess>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Guess {
    Boolean,
    Integer,
    Double,
    Numeric,
    Date,
    Timestamp,
    Instant,
    Time,
    Text,
}

impl TypeSample {
    pub fn add_text(&mut self, text: &str, format: &ValueFormat) {
        if self.guess != Some(Guess::Text) && !text.is_empty() {
            self.add(guess_text(text, format));
        }
    }

    /// A text from a format that has numbers of its own: only dates and times are seen in it.
    pub fn add_string(&mut self, text: &str, format: &ValueFormat) {
        if self.guess != Some(Guess::Text) && !text.is_empty() {
            self.add(match guess_text(text, format) {
                Guess::Boolean | Guess::Integer | Guess::Double | Guess::Numeric => Guess::Text,
                guess => guess,
            });
        }
    }

    pub fn add_native(&mut self, native: Native<'_>, format: &ValueFormat) {
        self.add(match native {
            Native::Text(text) => return self.add_text(text, format),
            Native::Boolean(_) => Guess::Boolean,
            Native::Integer(_) => Guess::Integer,
            Native::Float(value) if value.fract() == 0.0 && value.abs() < 1e15 => Guess::Integer,
            Native::Float(_) => Guess::Double,
            Native::DateTime(micros) if micros % 86_400_000_000 == 0 => Guess::Date,
            Native::DateTime(_) => Guess::Timestamp,
            Native::Duration(_) => Guess::Time,
        });
    }

    fn add(&mut self, other: Guess) {
        self.guess = Some(match self.guess {
            None => other,
            Some(guess) => guess.join(other),
        });
    }

    /// What both samples have in common.
    pub fn merge(&mut self, other: &Self) {
        if let Some(guess) = other.guess {
            self.add(guess);
        }
    }

    /// Whether there is more to learn from further cells.
    pub fn is_text(&self) -> bool {
        self.guess == Some(Guess::Text)
    }

    pub fn data_type(&self) -> DataType {
        match self.guess {
            Some(Guess::Boolean) => DataType::Boolean,
            Some(Guess::Integer) => DataType::Int64,
            Some(Guess::Double) => DataType::Float64,
            Some(Guess::Numeric) => DataType::Decimal128(38, 10),
            Some(Guess::Date) => DataType::Date32,
            Some(Guess::Timestamp) => DataType::Timestamp(TimeUnit::Microsecond, None),
            Some(Guess::Instant) => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            Some(Guess::Time) => DataType::Time64(TimeUnit::Microsecond),
            Some(Guess::Text) | None => DataType::Utf8,
        }
    }
}

impl Guess {
    fn join(self, other: Self) -> Self {
        use Guess::{Date, Double, Integer, Numeric, Timestamp};
        match (self, other) {
            (a, b) if a == b => a,
            (Integer, Double) | (Double, Integer) => Double,
            (Integer | Double, Numeric) | (Numeric, Integer | Double) => Numeric,
            (Date, Timestamp) | (Timestamp, Date) => Timestamp,
            _ => Guess::Text,
        }
    }
}

fn guess_text(text: &str, format: &ValueFormat) -> Guess {
    let bytes = text.as_bytes();
    if text.eq_ignore_ascii_case("true") || text.eq_ignore_ascii_case("false") {
        return Guess::Boolean;
    }
    if bytes.iter().any(u8::is_ascii_digit) {
        let mut buffer = [0; 64];
        if let Some(plain) = number::normalize(bytes, format, &mut buffer)
            && let Some(guess) = guess_number(plain)
        {
            // Eight digits in a given date format are a date: %Y%m%d.
            if guess != Guess::Integer
                || format.date_formats.is_empty()
                || datetime::parse_date(text, format).is_none()
            {
                return guess;
            }
        }
        if datetime::parse_date(text, format).is_some() {
            return Guess::Date;
        }
        if datetime::parse_timestamp(text, format).is_some() {
            return Guess::Timestamp;
        }
        if datetime::parse_iso_timestamp(bytes).is_some() {
            return Guess::Instant;
        }
        if datetime::parse_time(bytes).is_some() {
            return Guess::Time;
        }
    }
    Guess::Text
}

fn guess_number(text: &[u8]) -> Option<Guess> {
    let unsigned = text.strip_prefix(b"-").unwrap_or(text);
    if let [b'0', second, ..] = unsigned
        && second.is_ascii_digit()
    {
        return None;
    }
    // A plus sign is how telephone numbers start.
    if text.starts_with(b"+") {
        return None;
    }
    if number::parse_i64(text).is_some() {
        return Some(Guess::Integer);
    }
    number::parse_f64(text)?;
    let digits = unsigned.iter().filter(|byte| byte.is_ascii_digit()).count();
    if digits > 15 && number::parse_decimal(text, 38, 10).is_some() {
        return Some(if unsigned.contains(&b'e') || unsigned.contains(&b'E') {
            Guess::Double
        } else {
            Guess::Numeric
        });
    }
    Some(Guess::Double)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(cells: &[&str], expected: DataType) {
        let mut sample = TypeSample::default();
        for cell in cells {
            sample.add_text(cell, &ValueFormat::default());
        }
        assert_eq!(sample.data_type(), expected, "{cells:?}");
    }

    #[test]
    fn the_narrowest_type_that_loses_nothing() {
        let micros = TimeUnit::Microsecond;
        check(&["true", "FALSE", ""], DataType::Boolean);
        check(&["1", "-2", "0"], DataType::Int64);
        check(&["1", "2.5"], DataType::Float64);
        check(
            &["1.5", "12345678901234567.25"],
            DataType::Decimal128(38, 10),
        );
        check(&["007", "8"], DataType::Utf8);
        check(&["0.5", "-0.25"], DataType::Float64);
        check(&["+6281234", "+6281235"], DataType::Utf8);
        check(&["2024-01-31"], DataType::Date32);
        check(
            &["2024-01-31", "2024-01-31 10:00"],
            DataType::Timestamp(micros, None),
        );
        check(
            &["2024-01-31T10:00:00Z"],
            DataType::Timestamp(micros, Some("UTC".into())),
        );
        check(&["12:30", "12:30:05"], DataType::Time64(micros));
        check(&["1", "2024-01-31"], DataType::Utf8);
        check(&["nan", "inf"], DataType::Utf8);
        check(&["", ""], DataType::Utf8);
        check(&["true", "1"], DataType::Utf8);
    }
}
