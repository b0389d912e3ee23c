//! The type of a column, judged by a sample of its cells.
//!
//! The narrowest type that holds every cell without loss: boolean, bigint, double, numeric (where
//! digits would be lost in a double), date, timestamp, timestamptz, else text. A column of numbers
//! that no one of these holds exactly is text, too: which digits matter is not for us to say.
//! Numbers that start with a zero are identifiers and stay text. A column without any value is
//! text.

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
    Number(Number),
    Date,
    Timestamp,
    Instant,
    Time,
    Text,
}

/// Which types hold all the numbers so far exactly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Number {
    integer: bool,
    double: bool,
    numeric: bool,
    /// Some have more digits than are safe in a double, whatever this one looks like.
    precise: bool,
}

/// What digits lost in a double go into: ten of them behind the point are enough for money.
const NUMERIC_PRECISION: u8 = 38;
const NUMERIC_SCALE: i8 = 10;
/// Above, not every integer is a double.
const DOUBLE_INTEGER_MAX: u64 = 1 << 53;

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
                Guess::Boolean | Guess::Number(_) => Guess::Text,
                guess => guess,
            });
        }
    }

    pub fn add_native(&mut self, native: Native<'_>, format: &ValueFormat) {
        self.add(match native {
            Native::Text(text) => return self.add_text(text, format),
            Native::Boolean(_) => Guess::Boolean,
            Native::Integer(value) => Guess::Number(Number::integer(value)),
            Native::Float(value) if value.fract() == 0.0 && value.abs() < 1e15 => {
                Guess::Number(Number::integer(value as i64))
            }
            Native::Float(value) => Guess::Number(Number {
                integer: false,
                double: true,
                numeric: fits_numeric(value.to_string().as_bytes()),
                precise: false,
            }),
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
            Some(Guess::Number(number)) => number.data_type(),
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
        use Guess::{Date, Number, Timestamp};
        match (self, other) {
            (a, b) if a == b => a,
            (Number(a), Number(b)) => a.join(b).map_or(Guess::Text, Number),
            (Date, Timestamp) | (Timestamp, Date) => Timestamp,
            _ => Guess::Text,
        }
    }
}

impl Number {
    fn integer(value: i64) -> Self {
        Self {
            integer: true,
            double: value.unsigned_abs() <= DOUBLE_INTEGER_MAX,
            numeric: true,
            precise: false,
        }
    }

    /// `None` when no type is left.
    fn join(self, other: Self) -> Option<Self> {
        let joined = Self {
            integer: self.integer && other.integer,
            double: self.double && other.double,
            numeric: self.numeric && other.numeric,
            precise: self.precise || other.precise,
        };
        (joined.integer || joined.double || joined.numeric).then_some(joined)
    }

    fn data_type(self) -> DataType {
        if self.integer {
            DataType::Int64
        } else if self.double && !(self.precise && self.numeric) {
            DataType::Float64
        } else {
            DataType::Decimal128(NUMERIC_PRECISION, NUMERIC_SCALE)
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
            if !matches!(guess, Guess::Number(number) if number.integer)
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
    if number::is_identifier(text) {
        return None;
    }
    if let Some(value) = number::parse_i64(text) {
        return Some(Guess::Number(Number::integer(value)));
    }
    let value = number::parse_f64(text)?;
    let number = Number {
        integer: false,
        double: number::is_exact(text, value),
        numeric: fits_numeric(text),
        precise: number::is_precise(text),
    };
    Some(number.join(number).map_or(Guess::Text, Guess::Number))
}

fn fits_numeric(text: &[u8]) -> bool {
    number::fits_decimal(text, NUMERIC_PRECISION, NUMERIC_SCALE)
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
        check(&["1.5", "2.50000000000000000000"], DataType::Float64);
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

    #[test]
    fn no_digit_of_a_number_is_lost() {
        let numeric = DataType::Decimal128(38, 10);
        // As programs write doubles: as the shortest text of the value, or with 17 digits.
        check(
            &[
                "0.30000000000000004",
                "1.2345678901234568e-05",
                "0.10000000000000001",
                "0.000000000001234567",
                "1234567.1234567892",
            ],
            DataType::Float64,
        );
        check(&["9007199254740992", "1.5"], DataType::Float64);
        check(&["9007199254740993", "1.5"], numeric.clone());
        check(&["1.5", "9007199254740993"], numeric.clone());
        check(&["12345678901234567890", "1"], numeric.clone());
        // Neither type holds both.
        check(&["9007199254740993", "1e-5"], DataType::Utf8);
        check(&["12345678901234567.25", "1e-5"], DataType::Utf8);
        check(&["0.1234567890123456789"], DataType::Utf8);
        check(&["1e400"], DataType::Utf8);
    }
}
