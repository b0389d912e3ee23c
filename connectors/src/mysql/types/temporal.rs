//! Dates and times: from the parts MySQL stores to the days and microseconds of Arrow.

use std::fmt::Write;

use super::ValueError;

const MICROS_PER_SECOND: i64 = 1_000_000;
const SECONDS_PER_DAY: i64 = 86_400;

/// How many digits of a second's fraction there may be.
pub(super) const FRACTION_MAX: u8 = 6;

const DECIMAL_POWERS: [i64; 7] = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000];

/// Seconds from the lowest TIME to 0 where MariaDB stores them with an offset.
const TIME_OFFSET_SECONDS: i64 = 839 * 3_600;

/// The moment of a day.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Moment {
    pub year: u32,
    pub month: u32,
    pub day: u32,
    pub hour: u32,
    pub minute: u32,
    pub second: u32,
    pub micros: u32,
}

impl Moment {
    /// Days since 1970-01-01, if there is such a day.
    #[inline]
    pub fn days(&self) -> Option<i32> {
        /// Days of a year before each of its months.
        const BEFORE: [u32; 13] = [0, 0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
        const LENGTH: [u32; 13] = [0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
        /// Days from the beginning of the year -400 to 1970.
        const EPOCH: i32 = 719_528 + 146_097;
        let month = self.month as usize;
        let length = *LENGTH.get(month)?;
        let leap = self.year.is_multiple_of(4)
            && (!self.year.is_multiple_of(100) || self.year.is_multiple_of(400));
        let longest = length + u32::from(leap && month == 2);
        if self.day == 0 || self.day > longest || self.year > 9999 {
            return None;
        }
        let years = self.year + 400;
        let before = years - 1;
        let leap_days = before / 4 - before / 100 + before / 400 + 1;
        let days = years * 365 + leap_days + BEFORE[month] + u32::from(leap && month > 2);
        Some((days + self.day - 1) as i32 - EPOCH)
    }

    /// Microseconds since 1970-01-01, if there is such a moment.
    #[inline]
    pub fn micros(&self) -> Option<i64> {
        let days = i64::from(self.days()?);
        if self.hour > 23 || self.minute > 59 || self.second > 59 || self.micros > 999_999 {
            return None;
        }
        let seconds = i64::from(self.hour * 3_600 + self.minute * 60 + self.second);
        let seconds = days * SECONDS_PER_DAY + seconds;
        Some(seconds * MICROS_PER_SECOND + i64::from(self.micros))
    }

    /// The parts of the packed number that both DATETIME and JSON store: 17 bits of year and month
    /// counted by 13, 5 of the day, 5 of the hour, 6 of minute and second each.
    #[inline]
    pub fn of_packed(packed: u64, micros: u32) -> Self {
        let months = (packed >> 22) as u32;
        Self {
            year: months / 13,
            month: months % 13,
            day: (packed >> 17) as u32 & 31,
            hour: (packed >> 12) as u32 & 31,
            minute: (packed >> 6) as u32 & 63,
            second: packed as u32 & 63,
            micros,
        }
    }

    /// DATE in three bytes: 5 bits of the day, 4 of the month, the year.
    #[inline]
    pub fn of_date(packed: u32) -> Self {
        Self {
            year: packed >> 9,
            month: (packed >> 5) & 15,
            day: packed & 31,
            ..Self::default()
        }
    }

    /// The digits `YYYYMMDDHHMMSS` as a number.
    pub fn of_digits(digits: u64) -> Self {
        let date = (digits / 1_000_000) as u32;
        let time = (digits % 1_000_000) as u32;
        Self {
            year: date / 10_000,
            month: date / 100 % 100,
            day: date % 100,
            hour: time / 10_000,
            minute: time / 100 % 100,
            second: time % 100,
            micros: 0,
        }
    }

    /// As MySQL prints it.
    pub fn print_date(&self, text: &mut String) {
        let Self {
            year, month, day, ..
        } = self;
        // Writing to a string cannot fail.
        let _ = write!(text, "{year:04}-{month:02}-{day:02}");
    }
}

/// A TIME, which may be negative and longer than a day.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Span {
    pub negative: bool,
    pub hours: u32,
    pub minutes: u32,
    pub seconds: u32,
    pub micros: u32,
}

impl Span {
    /// 10 bits of hours, 6 of minutes and seconds each.
    pub fn of_packed(negative: bool, packed: u64, micros: u32) -> Self {
        Self {
            negative,
            hours: (packed >> 12) as u32 & 1023,
            minutes: (packed >> 6) as u32 & 63,
            seconds: packed as u32 & 63,
            micros,
        }
    }

    /// As MySQL prints it, with so many digits of the fraction.
    pub fn print(&self, fraction: u8, text: &mut String) {
        if self.negative {
            text.push('-');
        }
        let two = |text: &mut String, number: u32| {
            text.push(char::from(b'0' + (number / 10 % 10) as u8));
            text.push(char::from(b'0' + (number % 10) as u8));
        };
        if self.hours > 99 {
            text.push(char::from(b'0' + (self.hours / 100 % 10) as u8));
        }
        two(text, self.hours);
        text.push(':');
        two(text, self.minutes);
        text.push(':');
        two(text, self.seconds);
        if fraction > 0 {
            text.push('.');
            let mut power = 100_000;
            for _ in 0..fraction.min(FRACTION_MAX) {
                text.push(char::from(b'0' + (self.micros / power % 10) as u8));
                power /= 10;
            }
        }
    }
}

/// How a column of date and time, or of time alone, is stored. The newer formats are MySQL's from 5.6 on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TemporalFormat {
    /// Big-endian, with so many bytes of hundreds of microseconds' fraction after it.
    Packed { fraction_bytes: u8 },
    /// Digits as a number, or seconds, without a fraction: MySQL before 5.6, MariaDB with
    /// `mysql56_temporal_format = OFF`.
    Plain,
    /// MariaDB's own with a fraction, in units of the last of so many digits.
    Scaled { fraction: u8 },
}

/// Which of the three types with a time is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TemporalKind {
    DateTime,
    Timestamp,
    Time,
}

impl TemporalFormat {
    /// Of types 17 to 19.
    pub fn packed(fraction: u8) -> Option<Self> {
        (fraction <= FRACTION_MAX).then_some(Self::Packed {
            fraction_bytes: fraction.div_ceil(2),
        })
    }

    /// Of types 7, 11 and 12, of which the event does not say the fraction.
    pub fn older(fraction: u8) -> Option<Self> {
        match fraction {
            0 => Some(Self::Plain),
            1..=FRACTION_MAX => Some(Self::Scaled { fraction }),
            _ => None,
        }
    }

    /// Bytes of a value.
    #[inline]
    pub fn length(self, kind: TemporalKind) -> usize {
        /// MariaDB's, by the digits of the fraction.
        const DATETIME: [usize; 7] = [8, 6, 6, 7, 7, 7, 8];
        const TIMESTAMP: [usize; 7] = [4, 5, 5, 6, 6, 7, 7];
        const TIME: [usize; 7] = [3, 4, 4, 5, 5, 5, 6];
        let older = |fraction: u8| match kind {
            TemporalKind::DateTime => DATETIME[usize::from(fraction.min(FRACTION_MAX))],
            TemporalKind::Timestamp => TIMESTAMP[usize::from(fraction.min(FRACTION_MAX))],
            TemporalKind::Time => TIME[usize::from(fraction.min(FRACTION_MAX))],
        };
        match self {
            Self::Packed { fraction_bytes } => {
                usize::from(fraction_bytes)
                    + match kind {
                        TemporalKind::DateTime => 5,
                        TemporalKind::Timestamp => 4,
                        TemporalKind::Time => 3,
                    }
            }
            Self::Plain => older(0),
            Self::Scaled { fraction } => older(fraction),
        }
    }
}

/// Reads a DATETIME from its bytes.
#[inline]
pub(super) fn read_datetime(format: TemporalFormat, bytes: &[u8]) -> Moment {
    match format {
        TemporalFormat::Packed { fraction_bytes } => {
            let number = big_endian(bytes);
            let (packed, fraction) = split_fraction(number, fraction_bytes);
            // The highest bit is set unless the year is negative, which it never is.
            Moment::of_packed(packed & 0x7F_FFFF_FFFF, fraction)
        }
        TemporalFormat::Plain => Moment::of_digits(little_endian(bytes)),
        TemporalFormat::Scaled { fraction } => {
            let number = big_endian(bytes);
            let unit = units_per_second(fraction);
            let seconds = number / unit;
            let days = seconds / 86_400;
            Moment {
                year: (days / 32 / 13) as u32,
                month: (days / 32 % 13) as u32,
                day: (days % 32) as u32,
                hour: (seconds / 3_600 % 24) as u32,
                minute: (seconds / 60 % 60) as u32,
                second: (seconds % 60) as u32,
                micros: scale_up(number % unit, fraction),
            }
        }
    }
}

/// Reads a TIMESTAMP from its bytes: microseconds since 1970, and nothing for the zero date.
#[inline]
pub(super) fn read_timestamp(format: TemporalFormat, bytes: &[u8]) -> Option<i64> {
    let micros = match format {
        TemporalFormat::Packed { fraction_bytes } => {
            let (seconds, fraction) = split_fraction(big_endian(bytes), fraction_bytes);
            seconds as i64 * MICROS_PER_SECOND + i64::from(fraction)
        }
        TemporalFormat::Plain => little_endian(bytes) as i64 * MICROS_PER_SECOND,
        TemporalFormat::Scaled { fraction } => {
            let (seconds, rest) = bytes.split_at(bytes.len().min(4));
            let fraction = scale_up(big_endian(rest), fraction);
            big_endian(seconds) as i64 * MICROS_PER_SECOND + i64::from(fraction)
        }
    };
    (micros != 0).then_some(micros)
}

/// Reads a TIME from its bytes.
#[inline]
pub(super) fn read_time(format: TemporalFormat, bytes: &[u8]) -> Span {
    match format {
        TemporalFormat::Packed { fraction_bytes } => {
            // The number is moved up so that the lowest time is 0: bytes sort as times do.
            let offset = 0x80_0000 << (8 * i64::from(fraction_bytes));
            let number = big_endian(bytes) as i64 - offset;
            let (packed, fraction) = split_fraction(number.unsigned_abs(), fraction_bytes);
            Span::of_packed(number < 0, packed, fraction)
        }
        TemporalFormat::Plain => {
            let number = little_endian(bytes) as u32;
            // Three bytes with a sign.
            let number = ((number << 8) as i32) >> 8;
            let digits = number.unsigned_abs();
            Span {
                negative: number < 0,
                hours: digits / 10_000,
                minutes: digits / 100 % 100,
                seconds: digits % 100,
                micros: 0,
            }
        }
        TemporalFormat::Scaled { fraction } => {
            let unit = units_per_second(fraction);
            let number = big_endian(bytes) as i64 - TIME_OFFSET_SECONDS * unit as i64;
            let size = number.unsigned_abs();
            let seconds = size / unit;
            Span {
                negative: number < 0,
                hours: (seconds / 3_600) as u32,
                minutes: (seconds / 60 % 60) as u32,
                seconds: (seconds % 60) as u32,
                micros: scale_up(size % unit, fraction),
            }
        }
    }
}

/// Prints what a JSON document holds as a date, a time or both: eight bytes of the packed number and
/// 24 bits of microseconds.
pub(super) fn print_json(
    kind: JsonTemporal,
    bytes: &[u8],
    text: &mut String,
) -> Result<(), ValueError> {
    let bytes = bytes
        .first_chunk::<8>()
        .ok_or(ValueError::Malformed("binary JSON"))?;
    let number = i64::from_le_bytes(*bytes);
    let size = number.unsigned_abs();
    let micros = (size & 0xFF_FFFF) as u32;
    let packed = size >> 24;
    match kind {
        JsonTemporal::Date => Moment::of_packed(packed, 0).print_date(text),
        JsonTemporal::Time => {
            Span::of_packed(number < 0, packed, micros).print(FRACTION_MAX, text);
        }
        JsonTemporal::DateTime => {
            let moment = Moment::of_packed(packed, micros);
            moment.print_date(text);
            text.push(' ');
            let time = Span {
                negative: false,
                hours: moment.hour,
                minutes: moment.minute,
                seconds: moment.second,
                micros,
            };
            time.print(FRACTION_MAX, text);
        }
    }
    Ok(())
}

#[derive(Debug, Clone, Copy)]
pub(super) enum JsonTemporal {
    Date,
    Time,
    DateTime,
}

/// Takes the fraction off the low end of a number: each byte of it is two digits.
#[inline]
fn split_fraction(number: u64, fraction_bytes: u8) -> (u64, u32) {
    match fraction_bytes {
        0 => (number, 0),
        1 => (number >> 8, (number & 0xFF) as u32 * 10_000),
        2 => (number >> 16, (number & 0xFFFF) as u32 * 100),
        _ => (number >> 24, (number & 0xFF_FFFF) as u32),
    }
}

fn units_per_second(fraction: u8) -> u64 {
    DECIMAL_POWERS[usize::from(fraction.min(FRACTION_MAX))] as u64
}

/// Units of the last of so many digits as microseconds.
fn scale_up(units: u64, fraction: u8) -> u32 {
    let digits = FRACTION_MAX - fraction.min(FRACTION_MAX);
    (units as i64 * DECIMAL_POWERS[usize::from(digits)]) as u32
}

#[inline]
fn big_endian(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0, |number, byte| (number << 8) | u64::from(*byte))
}

#[inline]
fn little_endian(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .rev()
        .fold(0, |number, byte| (number << 8) | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn date(year: u32, month: u32, day: u32) -> Moment {
        Moment {
            year,
            month,
            day,
            ..Moment::default()
        }
    }

    #[test]
    fn days_are_counted_from_1970() {
        for (moment, days) in [
            (date(1970, 1, 1), Some(0)),
            (date(1969, 12, 31), Some(-1)),
            (date(2000, 2, 29), Some(11_016)),
            (date(2000, 3, 1), Some(11_017)),
            (date(2024, 12, 31), Some(20_088)),
            (date(9999, 12, 31), Some(2_932_896)),
            (date(1000, 1, 1), Some(-354_285)),
            (date(0, 3, 1), Some(-719_468)),
            (date(0, 1, 1), Some(-719_528)),
            (date(0, 0, 0), None),
            (date(2024, 0, 15), None),
            (date(2024, 1, 0), None),
            (date(2023, 2, 29), None),
            (date(2023, 13, 1), None),
        ] {
            assert_eq!(moment.days(), days, "{moment:?}");
        }
    }

    fn check_time(format: TemporalFormat, fraction: u8, bytes: &[u8], expected: Expect) {
        assert_eq!(format.length(TemporalKind::Time), bytes.len());
        let mut text = String::new();
        read_time(format, bytes).print(fraction, &mut text);
        expected.assert_eq(&text);
    }

    #[test]
    fn a_time_is_printed_as_mysql_prints_it() {
        let packed = |fraction: u8| TemporalFormat::packed(fraction).unwrap();
        check_time(packed(0), 0, &[0x80, 0x10, 0x83], expect!["01:02:03"]);
        check_time(packed(0), 0, &[0x7F, 0xEF, 0x7D], expect!["-01:02:03"]);
        check_time(
            packed(1),
            1,
            &[0x7F, 0xFF, 0xFF, 0xCE],
            expect!["-00:00:00.5"],
        );
        check_time(
            packed(6),
            6,
            &[0xB4, 0x6E, 0xFB, 0, 0, 0],
            expect!["838:59:59.000000"],
        );
        let older = |fraction: u8| TemporalFormat::older(fraction).unwrap();
        check_time(older(0), 0, &[0x1E, 0x26, 0xFE], expect!["-12:13:14"]);
        check_time(
            older(3),
            3,
            &[0x00, 0xB1, 0x68, 0x57, 0xB9],
            expect!["-12:13:14.567"],
        );
        check_time(
            older(1),
            1,
            &[0x01, 0xCD, 0x71, 0xD2],
            expect!["01:02:03.4"],
        );
    }

    #[test]
    fn moments_of_every_format_are_microseconds() {
        let moment = Some(1_577_934_245_000_000);
        let older = |fraction: u8| TemporalFormat::older(fraction).unwrap();
        let digits = [0x45, 0xEC, 0xE7, 0x33, 0x5F, 0x12, 0, 0];
        assert_eq!(read_datetime(older(0), &digits).micros(), moment);
        let scaled = [0x02, 0x94, 0x5A, 0x68, 0x03, 0x9F, 0xD5];
        assert_eq!(
            read_datetime(older(4), &scaled).micros(),
            Some(1_577_934_245_678_900)
        );
        let seconds = [0xA5, 0x5D, 0x0D, 0x5E];
        assert_eq!(read_timestamp(older(0), &seconds), moment);
        let scaled = [0x5E, 0x0D, 0x5D, 0xA5, 0x0A, 0x5C, 0x00];
        assert_eq!(
            read_timestamp(older(6), &scaled),
            Some(1_577_934_245_678_912)
        );
        let packed = |fraction: u8| TemporalFormat::packed(fraction).unwrap();
        assert_eq!(
            read_timestamp(packed(2), &[0x5E, 0x0D, 0x5D, 0xA5, 50]),
            Some(1_577_934_245_500_000)
        );
        assert_eq!(read_timestamp(packed(0), &[0; 4]), None);
    }
}
