//! Numbers as PostgreSQL reads them.

use crate::error::{SqlError, SqlState};

pub fn invalid(type_name: &str, text: &str) -> SqlError {
    SqlError::new(
        SqlState::INVALID_TEXT_REPRESENTATION,
        format!("invalid input syntax for type {type_name}: \"{text}\""),
    )
}

fn out_of_range(type_name: &str, text: &str) -> SqlError {
    SqlError::new(
        SqlState::NUMERIC_VALUE_OUT_OF_RANGE,
        format!("value \"{text}\" is out of range for type {type_name}"),
    )
}

pub fn integer<T: TryFrom<i64>>(text: &str, type_name: &str) -> Result<T, SqlError> {
    let trimmed = text.trim_ascii();
    match trimmed.parse::<i64>() {
        Ok(value) => T::try_from(value).map_err(|_| out_of_range(type_name, trimmed)),
        Err(error) => {
            use std::num::IntErrorKind::{NegOverflow, PosOverflow};
            Err(match error.kind() {
                NegOverflow | PosOverflow => out_of_range(type_name, trimmed),
                _ => invalid(type_name, text),
            })
        }
    }
}

pub fn boolean(text: &str) -> Result<bool, SqlError> {
    let word = text.trim_ascii().to_ascii_lowercase();
    match word.as_str() {
        "1" | "on" => return Ok(true),
        "0" | "of" | "off" => return Ok(false),
        "" => {}
        _ if "true".starts_with(&word) || "yes".starts_with(&word) => return Ok(true),
        _ if "false".starts_with(&word) || "no".starts_with(&word) => return Ok(false),
        _ => {}
    }
    Err(invalid("boolean", text))
}

pub fn double(text: &str) -> Result<f64, SqlError> {
    let name = "double precision";
    let value = float(text, name)?
        .parse::<f64>()
        .map_err(|_| invalid(name, text))?;
    if value.is_infinite() && !names_infinity(text) {
        return Err(float_out_of_range(name, text));
    }
    Ok(value)
}

pub fn real(text: &str) -> Result<f32, SqlError> {
    let name = "real";
    let value = float(text, name)?
        .parse::<f32>()
        .map_err(|_| invalid(name, text))?;
    if value.is_infinite() && !names_infinity(text) {
        return Err(float_out_of_range(name, text));
    }
    Ok(value)
}

/// Rust reads all that PostgreSQL does, and a sign before `nan`.
fn float<'a>(text: &'a str, type_name: &str) -> Result<&'a str, SqlError> {
    let trimmed = text.trim_ascii();
    if trimmed.len() == 4 && trimmed[1..].eq_ignore_ascii_case("nan") {
        return Err(invalid(type_name, text));
    }
    Ok(trimmed)
}

fn names_infinity(text: &str) -> bool {
    text.bytes().any(|byte| byte.eq_ignore_ascii_case(&b'i'))
}

fn float_out_of_range(type_name: &str, text: &str) -> SqlError {
    SqlError::new(
        SqlState::NUMERIC_VALUE_OUT_OF_RANGE,
        format!(
            "\"{}\" is out of range for type {type_name}",
            text.trim_ascii()
        ),
    )
}

/// The value times 10^`scale`, rounded half away from zero, if it has at most `precision` digits.
pub fn decimal(text: &str, precision: u8, scale: i8) -> Result<i128, SqlError> {
    let trimmed = text.trim_ascii();
    let (mantissa, exponent) = match trimmed.find(['e', 'E']) {
        Some(place) => {
            let exponent = trimmed[place + 1..].parse::<i32>();
            (
                &trimmed[..place],
                exponent.map_err(|_| invalid("numeric", text))?,
            )
        }
        None => (trimmed, 0),
    };
    let (negative, digits) = match mantissa.as_bytes() {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    let point = digits
        .iter()
        .position(|&byte| byte == b'.')
        .unwrap_or(digits.len());
    let digit_count = digits.len() - usize::from(point < digits.len());
    let valid = digits
        .iter()
        .enumerate()
        .all(|(place, byte)| byte.is_ascii_digit() || (place == point && *byte == b'.'));
    if !valid || digit_count == 0 {
        if ["nan", "infinity", "inf"].iter().any(|name| {
            trimmed
                .trim_start_matches(['-', '+'])
                .eq_ignore_ascii_case(name)
        }) {
            return Err(
                SqlError::unsupported(format!("numeric value \"{trimmed}\""))
                    .hint("use double precision for values that are not finite"),
            );
        }
        return Err(invalid("numeric", text));
    }
    // Digits before the place that is rounded at; the rest only rounds.
    let kept = (point as i64)
        .saturating_add(i64::from(exponent))
        .saturating_add(i64::from(scale));
    let mut value: i128 = 0;
    let mut round_up = false;
    let mut seen: i64 = 0;
    for &byte in digits.iter().filter(|&&byte| byte != b'.') {
        if seen < kept {
            value = value
                .checked_mul(10)
                .and_then(|value| value.checked_add(i128::from(byte - b'0')))
                .ok_or_else(|| overflow(precision, scale))?;
        } else {
            round_up = seen == kept && byte >= b'5';
            break;
        }
        seen += 1;
    }
    while seen < kept && value != 0 {
        value = value
            .checked_mul(10)
            .ok_or_else(|| overflow(precision, scale))?;
        seen += 1;
    }
    if round_up {
        value += 1;
    }
    fit(if negative { -value } else { value }, precision, scale)
}

pub fn fit(value: i128, precision: u8, scale: i8) -> Result<i128, SqlError> {
    let limit = 10i128
        .checked_pow(u32::from(precision))
        .unwrap_or(i128::MAX);
    if value >= limit || value <= -limit {
        Err(overflow(precision, scale))
    } else {
        Ok(value)
    }
}

fn overflow(precision: u8, scale: i8) -> SqlError {
    SqlError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "numeric field overflow").detail(format!(
        "A field with precision {precision}, scale {scale} must round to an absolute value less than 10^{}.",
        i32::from(precision) - i32::from(scale)
    ))
}

/// Reads PostgreSQL's binary numeric.
pub fn decimal_from_binary(bytes: &[u8], precision: u8, scale: i8) -> Result<i128, SqlError> {
    let bad = || SqlError::new(SqlState("22P03"), "invalid binary data for type numeric");
    let words: Vec<i16> = bytes
        .chunks_exact(2)
        .map(|pair| i16::from_be_bytes([pair[0], pair[1]]))
        .collect();
    let [count, weight, sign, _, groups @ ..] = words.as_slice() else {
        return Err(bad());
    };
    if usize::try_from(*count) != Ok(groups.len()) || !bytes.len().is_multiple_of(2) {
        return Err(bad());
    }
    let negative = match *sign as u16 {
        0 => false,
        0x4000 => true,
        _ => {
            return Err(SqlError::unsupported("numeric value that is not finite")
                .hint("use double precision for values that are not finite"));
        }
    };
    if groups.iter().any(|group| !(0..10_000).contains(group)) {
        return Err(bad());
    }
    let mut text = String::with_capacity(groups.len() * 4 + 8);
    if negative {
        text.push('-');
    }
    for group in groups {
        text.push_str(&format!("{group:04}"));
    }
    if groups.is_empty() {
        text.push('0');
    }
    // The last group stands for 10000^(weight - count + 1).
    let exponent = (i32::from(*weight) - groups.len() as i32 + 1) * 4;
    text.push_str(&format!(
        "e{}",
        if groups.is_empty() { 0 } else { exponent }
    ));
    decimal(&text, precision, scale)
}
