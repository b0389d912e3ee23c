//! Numbers out of text: exact, without allocation, refusing whatever is not wholly a number.

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
}
