//! Numbers as PostgreSQL writes them.

use std::io::Write;

#[inline]
pub fn append_integer(out: &mut Vec<u8>, value: impl itoa::Integer) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

pub fn append_float8(out: &mut Vec<u8>, value: f64, extra_digits: i32) {
    if append_special(out, value) {
        return;
    }
    if extra_digits > 0 {
        append_shortest(out, ryu::Buffer::new().format_finite(value), 15);
    } else {
        append_rounded(out, value, 15 + extra_digits);
    }
}

pub fn append_float4(out: &mut Vec<u8>, value: f32, extra_digits: i32) {
    if append_special(out, f64::from(value)) {
        return;
    }
    if extra_digits > 0 {
        append_shortest(out, ryu::Buffer::new().format_finite(value), 6);
    } else {
        append_rounded(out, f64::from(value), 6 + extra_digits);
    }
}

fn append_special(out: &mut Vec<u8>, value: f64) -> bool {
    let text: &[u8] = if value.is_nan() {
        b"NaN"
    } else if value == f64::INFINITY {
        b"Infinity"
    } else if value == f64::NEG_INFINITY {
        b"-Infinity"
    } else if value == 0.0 {
        if value.is_sign_negative() {
            b"-0"
        } else {
            b"0"
        }
    } else {
        return false;
    };
    out.extend_from_slice(text);
    true
}

/// The digits and the decimal exponent of the first, out of a text such as `-12.5e-7`.
struct Scientific {
    negative: bool,
    digits: [u8; 24],
    count: usize,
    exponent: i32,
}

impl Scientific {
    fn read(text: &str) -> Self {
        let mut read = Self {
            negative: false,
            digits: [b'0'; 24],
            count: 0,
            exponent: 0,
        };
        let (mantissa, exponent) = text.split_once('e').unwrap_or((text, "0"));
        let mut point_seen = false;
        let mut before_point = 0;
        let mut leading_zeros = 0;
        for byte in mantissa.bytes() {
            match byte {
                b'-' => read.negative = true,
                b'.' => point_seen = true,
                b'0' if read.count == 0 => leading_zeros += i32::from(point_seen),
                _ => {
                    if let Some(place) = read.digits.get_mut(read.count) {
                        *place = byte;
                        read.count += 1;
                    }
                    before_point += i32::from(!point_seen);
                }
            }
        }
        while read.count > 1 && read.digits[read.count - 1] == b'0' {
            read.count -= 1;
        }
        let exponent: i32 = exponent.parse().unwrap_or(0);
        read.exponent = exponent + before_point - 1 - leading_zeros;
        read
    }

    /// Plain while the exponent lies in -4 .. `plain_below`, else with an exponent.
    fn append(&self, out: &mut Vec<u8>, plain_below: i32) {
        let digits = &self.digits[..self.count];
        if self.negative {
            out.push(b'-');
        }
        if !(-4..plain_below).contains(&self.exponent) {
            out.push(digits[0]);
            if digits.len() > 1 {
                out.push(b'.');
                out.extend_from_slice(&digits[1..]);
            }
            let sign = if self.exponent < 0 { '-' } else { '+' };
            // Writing to a Vec does not fail.
            let _ = write!(out, "e{sign}{:02}", self.exponent.unsigned_abs());
        } else if self.exponent < 0 {
            out.extend_from_slice(b"0.");
            out.resize(out.len() + (-1 - self.exponent) as usize, b'0');
            out.extend_from_slice(digits);
        } else {
            let whole = self.exponent as usize + 1;
            if digits.len() > whole {
                out.extend_from_slice(&digits[..whole]);
                out.push(b'.');
                out.extend_from_slice(&digits[whole..]);
            } else {
                out.extend_from_slice(digits);
                out.resize(out.len() + whole - digits.len(), b'0');
            }
        }
    }
}

fn append_shortest(out: &mut Vec<u8>, text: &str, plain_below: i32) {
    Scientific::read(text).append(out, plain_below);
}

/// As `%.*g` with this many digits.
fn append_rounded(out: &mut Vec<u8>, value: f64, digits: i32) {
    let digits = digits.max(1);
    let text = format!("{value:.*e}", digits as usize - 1);
    Scientific::read(&text).append(out, digits);
}

/// Appends `value` / 10^`scale` with all its decimals, or without the closing zeros if `trimmed`.
pub fn append_decimal(out: &mut Vec<u8>, value: i128, scale: i8, trimmed: bool) {
    let mut buffer = itoa::Buffer::new();
    let mut short = itoa::Buffer::new();
    let magnitude = value.unsigned_abs();
    // 64-bit digits are several times faster to print, and nearly always enough.
    let digits = match u64::try_from(magnitude) {
        Ok(magnitude) => short.format(magnitude),
        Err(_) => buffer.format(magnitude),
    }
    .as_bytes();
    if value < 0 {
        out.push(b'-');
    }
    let Ok(scale_digits) = usize::try_from(scale) else {
        out.extend_from_slice(digits);
        if value != 0 {
            out.resize(out.len() + usize::from(scale.unsigned_abs()), b'0');
        }
        return;
    };
    if scale_digits == 0 {
        out.extend_from_slice(digits);
        return;
    }
    if digits.len() > scale_digits {
        let (whole, fraction) = digits.split_at(digits.len() - scale_digits);
        out.extend_from_slice(whole);
        out.push(b'.');
        out.extend_from_slice(fraction);
    } else {
        out.extend_from_slice(b"0.");
        out.resize(out.len() + scale_digits - digits.len(), b'0');
        out.extend_from_slice(digits);
    }
    if trimmed {
        while out.last() == Some(&b'0') {
            out.pop();
        }
        if out.last() == Some(&b'.') {
            out.pop();
        }
    }
}

/// The text of a decimal without its closing zeros, if so wished.
pub fn trim(text: &str, trimmed: bool) -> &[u8] {
    if trimmed && text.contains('.') {
        return text.trim_end_matches('0').trim_end_matches('.').as_bytes();
    }
    text.as_bytes()
}

/// PostgreSQL's numeric: groups of four decimal digits, the weight of the first, the scale shown.
pub fn append_decimal_binary(out: &mut Vec<u8>, mut value: i128, mut scale: i8, trimmed: bool) {
    while trimmed && scale > 0 && value % 10 == 0 {
        value /= 10;
        scale -= 1;
    }
    let magnitude = value.unsigned_abs();
    let scale_digits = u32::try_from(scale).unwrap_or(0);
    let (whole, fraction) = match u32::try_from(scale) {
        Ok(0) => (magnitude, 0),
        Ok(digits) => match 10u128.checked_pow(digits) {
            Some(unit) => (magnitude / unit, magnitude % unit),
            None => (0, magnitude),
        },
        Err(_) => {
            let unit = 10u128
                .checked_pow(u32::from(scale.unsigned_abs()))
                .unwrap_or(u128::MAX);
            (magnitude.saturating_mul(unit), 0)
        }
    };
    // 10 groups hold the 39 digits of a u128; the fraction can have as many.
    let mut groups = [0i16; 24];
    let middle = 12;
    let mut first = middle;
    let mut rest = whole;
    while rest > 0 {
        first -= 1;
        groups[first] = take_group(&mut rest);
    }
    let fraction_groups = scale_digits.div_ceil(4) as usize;
    let mut last = middle + fraction_groups;
    if fraction_groups > 0 && fraction > 0 {
        let mut rest = fraction;
        let mut place = last;
        let partial = scale_digits % 4;
        if partial > 0 {
            let unit = 10u128.pow(partial);
            place -= 1;
            groups[place] = (rest % unit) as i16 * 10i16.pow(4 - partial);
            rest /= unit;
        }
        while rest > 0 {
            place -= 1;
            groups[place] = take_group(&mut rest);
        }
    }
    while first < last && groups[first] == 0 {
        first += 1;
    }
    while last > first && groups[last - 1] == 0 {
        last -= 1;
    }
    let weight = if first == last {
        0
    } else {
        middle as i16 - 1 - first as i16
    };
    append_numeric(
        out,
        weight,
        value < 0,
        scale_digits as i16,
        &groups[first..last],
    );
}

fn take_group(rest: &mut u128) -> i16 {
    // Dividing 128 bits is a function call; most values fit 64.
    if let Ok(short) = u64::try_from(*rest) {
        *rest = u128::from(short / 10_000);
        return (short % 10_000) as i16;
    }
    let group = (*rest % 10_000) as i16;
    *rest /= 10_000;
    group
}

fn append_numeric(out: &mut Vec<u8>, weight: i16, negative: bool, scale: i16, groups: &[i16]) {
    let sign: i16 = if negative && !groups.is_empty() {
        0x4000
    } else {
        0
    };
    for part in [groups.len() as i16, weight, sign, scale] {
        out.extend_from_slice(&part.to_be_bytes());
    }
    for group in groups {
        out.extend_from_slice(&group.to_be_bytes());
    }
}

/// The same from a decimal's text, for numbers beyond 128 bits.
pub fn append_decimal_text_as_binary(out: &mut Vec<u8>, text: &str) {
    let (negative, text) = match text.strip_prefix('-') {
        Some(text) => (true, text),
        None => (false, text),
    };
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let padded_whole = format!("{}{whole}", "0".repeat((4 - whole.len() % 4) % 4));
    let padded_fraction = format!("{fraction}{}", "0".repeat((4 - fraction.len() % 4) % 4));
    let digits = format!("{padded_whole}{padded_fraction}");
    let groups: Vec<i16> = digits
        .as_bytes()
        .chunks(4)
        .map(|group| {
            group
                .iter()
                .fold(0, |sum, digit| sum * 10 + i16::from(digit - b'0'))
        })
        .collect();
    let first = groups
        .iter()
        .position(|group| *group != 0)
        .unwrap_or(groups.len());
    let last = groups
        .iter()
        .rposition(|group| *group != 0)
        .map_or(first, |last| last + 1);
    let weight = if first == last {
        0
    } else {
        (padded_whole.len() / 4) as i16 - 1 - first as i16
    };
    append_numeric(
        out,
        weight,
        negative,
        fraction.len() as i16,
        &groups[first..last],
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn float8(value: f64, extra_digits: i32) -> String {
        let mut out = Vec::new();
        append_float8(&mut out, value, extra_digits);
        String::from_utf8(out).unwrap()
    }

    fn decimal(value: i128, scale: i8) -> String {
        let mut out = Vec::new();
        append_decimal(&mut out, value, scale, false);
        String::from_utf8(out).unwrap()
    }

    /// (weight, sign, scale, groups)
    fn binary(value: i128, scale: i8) -> (i16, i16, i16, Vec<i16>) {
        let mut out = Vec::new();
        append_decimal_binary(&mut out, value, scale, false);
        let mut again = Vec::new();
        append_decimal_text_as_binary(&mut again, &decimal(value, scale));
        assert_eq!(out, again, "{value} scale {scale}");
        let parts: Vec<i16> = out
            .chunks(2)
            .map(|pair| i16::from_be_bytes([pair[0], pair[1]]))
            .collect();
        assert_eq!(parts[0] as usize, parts.len() - 4);
        (parts[1], parts[2], parts[3], parts[4..].to_vec())
    }

    #[test]
    fn float8_text_is_the_shortest_that_reads_back() {
        for (value, text) in [
            (1.0, "1"),
            (-0.0, "-0"),
            (0.1, "0.1"),
            (1.5, "1.5"),
            (100.0, "100"),
            (1e14, "100000000000000"),
            (123456789012345.0, "123456789012345"),
            (1e15, "1e+15"),
            (1.2345678901234568e17, "1.2345678901234568e+17"),
            (0.0001, "0.0001"),
            (0.00012345, "0.00012345"),
            (0.00001, "1e-05"),
            (-1.5e-300, "-1.5e-300"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-Infinity"),
            (std::f64::consts::PI, "3.141592653589793"),
        ] {
            assert_eq!(float8(value, 1), text);
        }
    }

    #[test]
    fn fewer_float_digits_round() {
        assert_eq!(float8(0.1 + 0.2, 0), "0.3");
        assert_eq!(float8(1e15, 0), "1e+15");
        assert_eq!(float8(std::f64::consts::PI, -10), "3.1416");
    }

    #[test]
    fn float4_text() {
        for (value, text) in [
            (0.1f32, "0.1"),
            (100000.0, "100000"),
            (1e6, "1e+06"),
            (16777216.0, "1.6777216e+07"),
        ] {
            let mut out = Vec::new();
            append_float4(&mut out, value, 1);
            assert_eq!(String::from_utf8(out).unwrap(), text);
        }
    }

    #[test]
    fn decimals_keep_their_scale() {
        assert_eq!(decimal(12345, 2), "123.45");
        assert_eq!(decimal(-5, 3), "-0.005");
        assert_eq!(decimal(0, 2), "0.00");
        assert_eq!(decimal(12, -3), "12000");
        assert_eq!(
            decimal(i128::MAX, 10),
            "17014118346046923173168730371.5884105727"
        );
        let mut out = Vec::new();
        append_decimal(&mut out, 15_000, 4, true);
        append_decimal(&mut out, 20_000, 4, true);
        assert_eq!(out, b"1.52");
    }

    #[test]
    fn binary_decimals_are_groups_of_four_digits() {
        assert_eq!(binary(0, 2), (0, 0, 2, vec![]));
        assert_eq!(binary(12345, 2), (0, 0, 2, vec![123, 4500]));
        assert_eq!(binary(-5, 3), (-1, 0x4000, 3, vec![50]));
        assert_eq!(binary(1, 8), (-2, 0, 8, vec![1]));
        assert_eq!(binary(100_000_000, 0), (2, 0, 0, vec![1]));
        assert_eq!(binary(123_456_789, 4), (1, 0, 4, vec![1, 2345, 6789]));
        for scale in 0..=38 {
            binary(i128::MAX / 2, scale);
            binary(-99_999_999_999_999_999_999_999_999_999_999_999_999, scale);
            binary(7, scale);
        }
    }
}
