//! Numbers out of text: exact, without allocation, refusing whatever is not wholly a number.

use std::io::Write;

use super::ValueFormat;

/// Digits with an optional sign that fit 64 bits.
pub fn parse_i64(text: &[u8]) -> Option<i64> {
    let (negative, digits) = split_sign(text);
    if digits.is_empty() || digits.len() > 19 {
        return None;
    }
    let mut value: u64 = 0;
    for &byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        // 19 digits stay below 10^19, which 64 bits hold.
        value = value * 10 + u64::from(digit);
    }
    if negative {
        0i64.checked_sub_unsigned(value)
    } else {
        i64::try_from(value).ok()
    }
}

pub fn parse_f64(text: &[u8]) -> Option<f64> {
    let (_, digits) = split_sign(text);
    // The parser takes a sign of its own; "+-1" must not pass.
    if digits
        .first()
        .is_none_or(|first| *first == b'-' || *first == b'+')
    {
        return None;
    }
    let unsigned = text.strip_prefix(b"+").unwrap_or(text);
    fast_float2::parse(unsigned).ok()
}

/// The number times ten to the power of `scale`, rounded half away from zero as PostgreSQL does.
/// None when it is no number or has more than `precision` digits.
pub fn parse_decimal(text: &[u8], precision: u8, scale: i8) -> Option<i128> {
    let (negative, digits) = split_sign(text);
    let mut value: i128 = 0;
    let mut fraction_digits: Option<i32> = None;
    let mut seen = false;
    let mut dropped_half = None;
    let wanted = i32::from(scale);
    if wanted < 0 {
        return None;
    }
    for (index, &byte) in digits.iter().enumerate() {
        match byte {
            b'0'..=b'9' => {
                seen = true;
                if let Some(count) = &mut fraction_digits {
                    *count += 1;
                    if *count > wanted {
                        dropped_half.get_or_insert(byte >= b'5');
                        continue;
                    }
                }
                value = value
                    .checked_mul(10)?
                    .checked_add(i128::from(byte - b'0'))?;
            }
            b'.' if fraction_digits.is_none() => fraction_digits = Some(0),
            b'e' | b'E' if seen => {
                return parse_exponent(&digits[..index], &digits[index + 1..], wanted)
                    .and_then(|value| in_precision(value, precision))
                    .map(|value| if negative { -value } else { value });
            }
            _ => return None,
        }
    }
    if !seen {
        return None;
    }
    let missing = wanted - fraction_digits.unwrap_or(0).min(wanted);
    value = value.checked_mul(10i128.checked_pow(u32::try_from(missing).ok()?)?)?;
    if dropped_half == Some(true) {
        value += 1;
    }
    let value = in_precision(value, precision)?;
    Some(if negative { -value } else { value })
}

/// Digits behind a zero, or behind a plus as in telephone numbers: what identifies something is no
/// number, though it may look like one.
#[inline]
pub fn is_identifier(text: &[u8]) -> bool {
    match text {
        [b'+', ..] => true,
        [b'0', second, ..] | [b'-', b'0', second, ..] => second.is_ascii_digit(),
        _ => false,
    }
}

/// Whether the number fits as it stands: nothing is rounded away, and it has no exponent.
pub fn fits_decimal(text: &[u8], precision: u8, scale: i8) -> bool {
    let fraction = match memchr::memchr(b'.', text) {
        Some(point) => trim_zeros_end(&text[point + 1..]).len(),
        None => 0,
    };
    usize::try_from(scale).is_ok_and(|scale| fraction <= scale)
        && find_exponent(text).is_none()
        && parse_decimal(text, precision, scale).is_some()
}

/// Whether `value`, parsed from `text`, gives its digits again when it is written in one of the two
/// ways doubles are: as the shortest text that is read as the same value, or with 17 digits.
pub fn is_exact(text: &[u8], value: f64) -> bool {
    // So few digits come out of a double as they went in, unless an exponent takes it to the edge
    // of what there is.
    if text.len() <= DOUBLE_DIGITS && (value.is_normal() || find_exponent(text).is_none()) {
        return true;
    }
    value.is_finite()
        && (is_written_as(text, format_args!("{value:e}"))
            || is_written_as(text, format_args!("{value:.16e}")))
}

fn is_written_as(text: &[u8], written: std::fmt::Arguments<'_>) -> bool {
    let mut buffer = [0; 32];
    let mut rest = &mut buffer[..];
    if rest.write_fmt(written).is_err() {
        return false;
    }
    let free = rest.len();
    let written = &buffer[..buffer.len() - free];
    match (Significand::of(text), Significand::of(written)) {
        (Some(text), Some(written)) => {
            text.point == written.point && text.digits().eq(written.digits())
        }
        _ => false,
    }
}

/// Any number of so many digits comes out of a double as it went in.
const DOUBLE_DIGITS: usize = 15;

/// Whether a number has so many digits that a double may lose some, whatever its value.
pub fn is_precise(text: &[u8]) -> bool {
    Significand::of(text).is_some_and(|number| number.digits().count() > DOUBLE_DIGITS)
}

/// A number without the zeros that only say where its point is: two texts of one number have the
/// same.
struct Significand<'a> {
    /// Digits and perhaps a point, from the first digit that is not zero to the last.
    mantissa: &'a [u8],
    /// Where the point is, counted from the first digit; 0 when there are none.
    point: i64,
}

impl<'a> Significand<'a> {
    fn of(text: &'a [u8]) -> Option<Self> {
        let (_, text) = split_sign(text);
        let (mantissa, exponent) = match find_exponent(text) {
            Some(at) => (&text[..at], parse_i64(&text[at + 1..])?),
            None => (text, 0),
        };
        let is_digit = |byte: &u8| (b'1'..=b'9').contains(byte);
        let (Some(first), Some(last)) = (
            mantissa.iter().position(is_digit),
            mantissa.iter().rposition(is_digit),
        ) else {
            return Some(Self {
                mantissa: &[],
                point: 0,
            });
        };
        let point = memchr::memchr(b'.', mantissa).unwrap_or(mantissa.len());
        let places = i64::try_from(point).ok()? - i64::try_from(first).ok()?;
        // Behind the point, the point itself is one of the bytes between.
        let places = places + i64::from(places < 0);
        Some(Self {
            mantissa: &mantissa[first..=last],
            point: exponent.checked_add(places)?,
        })
    }

    fn digits(&self) -> impl Iterator<Item = u8> {
        self.mantissa.iter().copied().filter(|&byte| byte != b'.')
    }
}

fn find_exponent(text: &[u8]) -> Option<usize> {
    memchr::memchr2(b'e', b'E', text)
}

fn trim_zeros_end(mut digits: &[u8]) -> &[u8] {
    while let [rest @ .., b'0'] = digits {
        digits = rest;
    }
    digits
}

/// `1.25e3`: rare, so by shifting the point in a copy.
fn parse_exponent(mantissa: &[u8], exponent: &[u8], scale: i32) -> Option<i128> {
    let exponent = i32::try_from(parse_i64(exponent)?).ok()?;
    let point = mantissa
        .iter()
        .position(|&byte| byte == b'.')
        .unwrap_or(mantissa.len());
    let digits: Vec<u8> = mantissa
        .iter()
        .copied()
        .filter(|&byte| byte != b'.')
        .collect();
    if digits.len() > 60 || exponent.abs() > 60 {
        return None;
    }
    let point = i32::try_from(point).ok()? + exponent;
    let mut plain = Vec::with_capacity(128);
    for position in point.min(0)..i32::try_from(digits.len()).ok()?.max(point) {
        if position == point {
            plain.push(b'.');
        }
        let digit = usize::try_from(position)
            .ok()
            .and_then(|index| digits.get(index));
        plain.push(*digit.unwrap_or(&b'0'));
    }
    parse_decimal(&plain, 38, i8::try_from(scale).ok()?)
}

fn in_precision(value: i128, precision: u8) -> Option<i128> {
    (value < 10i128.pow(u32::from(precision.min(38)))).then_some(value)
}

fn split_sign(text: &[u8]) -> (bool, &[u8]) {
    match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    }
}

/// A number text with its thousands marks taken out and a point for its decimal mark; in `buffer`
/// where that differs from `text`. None when the marks are not where marks belong, so that
/// `1.234` is not read as 1234 unless it is grouped so.
pub fn normalize<'a>(
    text: &'a [u8],
    format: &ValueFormat,
    buffer: &'a mut [u8; 64],
) -> Option<&'a [u8]> {
    if format.plain_numbers() {
        return Some(text);
    }
    let mut length = 0;
    let mut group: Option<usize> = None;
    let mut whole = true;
    let mut digits = 0;
    for &byte in text {
        if whole && Some(byte) == format.thousands {
            // Groups of three, or of two as in India; the first may be shorter.
            match group {
                None if (1..=3).contains(&digits) => {}
                Some(2..=3) => {}
                _ => return None,
            }
            group = Some(0);
            continue;
        }
        let byte = match byte {
            mark if mark == format.decimal && whole => {
                if group.is_some_and(|size| size != 3) {
                    return None;
                }
                whole = false;
                b'.'
            }
            b'.' | b',' => return None,
            other => other,
        };
        if whole && byte.is_ascii_digit() {
            digits += 1;
            if let Some(size) = &mut group {
                *size += 1;
            }
        }
        *buffer.get_mut(length)? = byte;
        length += 1;
    }
    if whole && group.is_some_and(|size| size != 3) {
        return None;
    }
    Some(&buffer[..length])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_exact_at_their_limits() {
        assert_eq!(parse_i64(b"-9223372036854775808"), Some(i64::MIN));
        assert_eq!(parse_i64(b"9223372036854775807"), Some(i64::MAX));
        assert_eq!(parse_i64(b"+7"), Some(7));
        for text in [
            "9223372036854775808",
            "",
            "-",
            "1 ",
            "1.0",
            "0x1",
            "99999999999999999999",
        ] {
            assert_eq!(parse_i64(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn decimals_round_half_away_from_zero() {
        let parse = |text: &str| parse_decimal(text.as_bytes(), 6, 2);
        assert_eq!(parse("12.345"), Some(1235));
        assert_eq!(parse("-12.345"), Some(-1235));
        assert_eq!(parse("12.344999"), Some(1234));
        assert_eq!(parse("7"), Some(700));
        assert_eq!(parse(".5"), Some(50));
        assert_eq!(parse("1.25e3"), Some(125_000));
        assert_eq!(parse("125e-2"), Some(125));
        assert_eq!(parse("9999.99"), Some(999_999));
        for text in ["9999.995", "10000", "", ".", "1..2", "1e", "abc", "--1"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn marks_are_taken_out_only_where_they_belong() {
        let format = ValueFormat {
            decimal: b',',
            thousands: Some(b'.'),
            ..ValueFormat::default()
        };
        let normal = |text: &str| {
            let mut buffer = [0; 64];
            normalize(text.as_bytes(), &format, &mut buffer)
                .map(|bytes| String::from_utf8(bytes.to_vec()).unwrap())
        };
        assert_eq!(normal("1.234.567,89").as_deref(), Some("1234567.89"));
        assert_eq!(normal("-1.234").as_deref(), Some("-1234"));
        assert_eq!(normal("0,5").as_deref(), Some("0.5"));
        assert_eq!(normal("12.34.567").as_deref(), Some("1234567"));
        for text in ["1.23", "1234.567.8", "1.2345", "1,2,3", ".123"] {
            assert_eq!(normal(text), None, "{text}");
        }
    }

    #[test]
    fn floats() {
        assert_eq!(parse_f64(b"1.5e3"), Some(1500.0));
        assert_eq!(parse_f64(b"+2"), Some(2.0));
        for text in ["", "+-1", "1,5", "1.5x", "-+1"] {
            assert_eq!(parse_f64(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn a_double_is_exact_when_it_is_written_with_the_same_digits() {
        let exact = |text: &str| is_exact(text.as_bytes(), parse_f64(text.as_bytes()).unwrap());
        for text in [
            "0.30000000000000004",
            "1.2345678901234568e-05",
            "0.10000000000000001",
            "-12345678901234567000.0",
            "1e22",
            "0.00000000000000000000",
            "1.50000000000000000000",
        ] {
            assert!(exact(text), "{text}");
        }
        for text in [
            "9007199254740993",
            "12345678901234567.25",
            "0.1234567890123456789",
            "1e400",
            "1e-400",
        ] {
            assert!(!exact(text), "{text}");
        }
    }
}
