//! MySQL's binary JSON, printed as the server prints it.
//!
//! A document is a byte of type and a value. An object or array has a header of entries with offsets
//! from its own beginning, in two bytes each when it is small and four when it is large; literals and
//! the smallest numbers stand in the entry itself. What JSON has no type for (decimals, dates, bytes)
//! is an opaque value with the type of a column. The documents of MariaDB are text and no affair of
//! this module.

use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::ValueError;
use super::decimal::DecimalLayout;
use super::temporal::{JsonTemporal, print_json};

const MALFORMED: ValueError = ValueError::Malformed("binary JSON");

/// No document the server accepts is as deep.
const DEPTH_MAX: usize = 128;

/// The server's base64 has lines of this length.
const BASE64_LINE: usize = 76;

/// Appends a document. An empty one is what the server makes of a NULL that a column may not have.
pub(super) fn print(document: &[u8], text: &mut String) -> Result<(), ValueError> {
    match document {
        [] => text.push_str("null"),
        [kind, value @ ..] => {
            let mut printer = Printer {
                // Parts that overlap could print without end; parts that do not stay far below this.
                length_max: text.len() + document.len() * 16 + 64,
                text,
            };
            printer.value(*kind, value, DEPTH_MAX)?;
        }
    }
    Ok(())
}

struct Printer<'a> {
    text: &'a mut String,
    length_max: usize,
}

/// How wide the offsets of an object or array are.
#[derive(Clone, Copy)]
enum Width {
    Small,
    Large,
}

impl Width {
    fn bytes(self) -> usize {
        match self {
            Self::Small => 2,
            Self::Large => 4,
        }
    }

    fn read(self, data: &[u8], at: usize) -> Result<usize, ValueError> {
        Ok(match self {
            Self::Small => usize::from(u16::from_le_bytes(chunk(data, at)?)),
            Self::Large => u32::from_le_bytes(chunk(data, at)?) as usize,
        })
    }
}

impl Printer<'_> {
    fn value(&mut self, kind: u8, value: &[u8], depth: usize) -> Result<(), ValueError> {
        if depth == 0 || self.text.len() > self.length_max {
            return Err(MALFORMED);
        }
        match kind {
            0x00 => self.container(value, Width::Small, true, depth)?,
            0x01 => self.container(value, Width::Large, true, depth)?,
            0x02 => self.container(value, Width::Small, false, depth)?,
            0x03 => self.container(value, Width::Large, false, depth)?,
            0x04 => self.text.push_str(match value.first() {
                Some(0) => "null",
                Some(1) => "true",
                Some(2) => "false",
                _ => return Err(MALFORMED),
            }),
            0x05 => self.integer(i16::from_le_bytes(chunk(value, 0)?)),
            0x06 => self.integer(u16::from_le_bytes(chunk(value, 0)?)),
            0x07 => self.integer(i32::from_le_bytes(chunk(value, 0)?)),
            0x08 => self.integer(u32::from_le_bytes(chunk(value, 0)?)),
            0x09 => self.integer(i64::from_le_bytes(chunk(value, 0)?)),
            0x0A => self.integer(u64::from_le_bytes(chunk(value, 0)?)),
            0x0B => print_double(f64::from_le_bytes(chunk(value, 0)?), self.text),
            0x0C => self.string(prefixed(value)?)?,
            0x0F => match value {
                [column_type, value @ ..] => self.opaque(*column_type, prefixed(value)?)?,
                [] => return Err(MALFORMED),
            },
            _ => return Err(MALFORMED),
        }
        Ok(())
    }

    fn integer(&mut self, number: impl itoa::Integer) {
        self.text.push_str(itoa::Buffer::new().format(number));
    }

    fn container(
        &mut self,
        data: &[u8],
        width: Width,
        is_object: bool,
        depth: usize,
    ) -> Result<(), ValueError> {
        let count = width.read(data, 0)?;
        let size = width.read(data, width.bytes())?;
        let data = data.get(..size).ok_or(MALFORMED)?;
        let keys = 2 * width.bytes();
        let key_size = width.bytes() + 2;
        let values = match is_object {
            true => keys + count * key_size,
            false => keys,
        };
        let value_size = width.bytes() + 1;
        let end = values + count * value_size;
        if end > size {
            return Err(MALFORMED);
        }
        self.text.push(if is_object { '{' } else { '[' });
        for index in 0..count {
            if index > 0 {
                self.text.push_str(", ");
            }
            if is_object {
                let entry = keys + index * key_size;
                let start = width.read(data, entry)?;
                let length = u16::from_le_bytes(chunk(data, entry + width.bytes())?);
                let key = data.get(start..start + usize::from(length));
                self.string(key.ok_or(MALFORMED)?)?;
                self.text.push_str(": ");
            }
            let entry = values + index * value_size;
            let kind = *data.get(entry).ok_or(MALFORMED)?;
            let inline = matches!(
                (kind, width),
                (0x04..=0x06, _) | (0x07 | 0x08, Width::Large)
            );
            let value = match inline {
                true => data.get(entry + 1..entry + value_size),
                false => {
                    let start = width.read(data, entry + 1)?;
                    // A value inside the header could contain itself.
                    data.get(start..).filter(|_| start >= end)
                }
            };
            self.value(kind, value.ok_or(MALFORMED)?, depth - 1)?;
        }
        self.text.push(if is_object { '}' } else { ']' });
        Ok(())
    }

    fn string(&mut self, bytes: &[u8]) -> Result<(), ValueError> {
        let string = std::str::from_utf8(bytes).map_err(|_| MALFORMED)?;
        self.text.push('"');
        let mut plain = 0;
        for (at, byte) in bytes.iter().enumerate() {
            let short = match byte {
                b'"' | b'\\' => *byte,
                0x08 => b'b',
                b'\t' => b't',
                b'\n' => b'n',
                0x0C => b'f',
                b'\r' => b'r',
                0..0x20 => b'u',
                _ => continue,
            };
            self.text.push_str(&string[plain..at]);
            plain = at + 1;
            self.text.push('\\');
            self.text.push(char::from(short));
            if short == b'u' {
                // Writing to a string cannot fail.
                let _ = write!(self.text, "{byte:04x}");
            }
        }
        self.text.push_str(&string[plain..]);
        self.text.push('"');
        Ok(())
    }

    fn opaque(&mut self, column_type: u8, data: &[u8]) -> Result<(), ValueError> {
        let temporal = match column_type {
            7 | 12 | 17 | 18 => JsonTemporal::DateTime,
            10 | 14 => JsonTemporal::Date,
            11 | 19 => JsonTemporal::Time,
            246 => {
                let (shape, digits) = data.split_first_chunk::<2>().ok_or(MALFORMED)?;
                let layout = DecimalLayout::new(shape[0], shape[1]).ok_or(MALFORMED)?;
                let digits = digits.get(..layout.length()).ok_or(MALFORMED)?;
                return layout.print(digits, self.text);
            }
            _ => {
                // Writing to a string cannot fail.
                let _ = write!(self.text, "\"base64:type{column_type}:");
                for (index, line) in data.chunks(BASE64_LINE / 4 * 3).enumerate() {
                    if index > 0 {
                        self.text.push_str("\\n");
                    }
                    STANDARD.encode_string(line, self.text);
                }
                self.text.push('"');
                return Ok(());
            }
        };
        self.text.push('"');
        print_json(temporal, data, self.text)?;
        self.text.push('"');
        Ok(())
    }
}

/// The shortest digits that are this number, with a point or an exponent so that it is seen to be no
/// integer. The exponent is written where the point would be far from the digits.
fn print_double(number: f64, text: &mut String) {
    /// The places before and behind the point from which on there is an exponent.
    const POINT: std::ops::RangeInclusive<i32> = -14..=15;
    let start = text.len();
    // Writing to a string cannot fail.
    let _ = write!(text, "{number:e}");
    settle_tie(number, start, text);
    let Some((mantissa, exponent)) = text[start..].split_once('e') else {
        return;
    };
    let point = match exponent.parse::<i32>() {
        Ok(exponent) => exponent + 1,
        Err(_) => return,
    };
    let negative = mantissa.starts_with('-');
    let mut digits = [0u8; DOUBLE_DIGITS_MAX];
    let mut count = 0;
    for (place, digit) in digits
        .iter_mut()
        .zip(mantissa.bytes().filter(u8::is_ascii_digit))
    {
        *place = digit;
        count += 1;
    }
    // A number with digits behind its point is also written with it.
    if !POINT.contains(&point) && !(1..count).contains(&point) {
        return;
    }
    text.truncate(start);
    if negative {
        text.push('-');
    }
    if point <= 0 {
        text.push_str("0.");
        text.extend((point..0).map(|_| '0'));
    }
    for (at, digit) in (0..count).zip(&digits) {
        if at == point && at > 0 {
            text.push('.');
        }
        text.push(char::from(*digit));
    }
    if point >= count {
        text.extend((count..point).map(|_| '0'));
        text.push_str(".0");
    }
}

/// The most digits any double needs.
const DOUBLE_DIGITS_MAX: usize = 17;

/// Where two numbers of the fewest digits are equally near, the server takes the even one.
fn settle_tie(number: f64, start: usize, text: &mut String) {
    /// With fewer digits than this the decimal number is the double itself, and nothing is rounded.
    const DIGITS_MIN: usize = 15;
    let mantissa = text[start..].bytes().take_while(|byte| *byte != b'e');
    let digits = mantissa.filter(u8::is_ascii_digit).count();
    if digits < DIGITS_MIN {
        return;
    }
    let end = text.len();
    // Writing to a string cannot fail.
    let _ = write!(text, "{number:.*e}", digits - 1);
    let (shortest, rounded) = text[start..].split_at(end - start);
    let is_other = shortest != rounded && rounded.parse() == Ok(number);
    match is_other {
        true => text.replace_range(start..end, ""),
        false => text.truncate(end),
    }
}

/// The bytes after their length, which stands in groups of seven bits, the lowest first.
fn prefixed(data: &[u8]) -> Result<&[u8], ValueError> {
    let mut length = 0;
    for (index, byte) in data.iter().take(5).enumerate() {
        length |= usize::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            let rest = &data[index + 1..];
            return rest.get(..length).ok_or(MALFORMED);
        }
    }
    Err(MALFORMED)
}

fn chunk<const N: usize>(data: &[u8], at: usize) -> Result<[u8; N], ValueError> {
    data.get(at..)
        .and_then(|rest| rest.first_chunk())
        .copied()
        .ok_or(MALFORMED)
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(document: &[u8], expected: Expect) {
        let mut text = String::new();
        match print(document, &mut text) {
            Ok(()) => expected.assert_eq(&text),
            Err(error) => expected.assert_eq(&error.to_string()),
        }
    }

    #[test]
    fn an_object_is_printed_with_its_parts() {
        // {"a": 1, "b": [true, "x"]}
        let document = [
            0x00, 2, 0, 32, 0, 18, 0, 1, 0, 19, 0, 1, 0, 0x05, 1, 0, 0x02, 20, 0, b'a', b'b', 2, 0,
            12, 0, 0x04, 1, 0, 0x0C, 10, 0, 1, b'x',
        ];
        check(&document, expect![[r#"{"a": 1, "b": [true, "x"]}"#]]);
        check(&[], expect!["null"]);
    }

    #[test]
    fn a_string_is_escaped_as_the_server_does() {
        check(
            b"\x0C\x08a\"\\\x08\n\x01/\x1F",
            expect![[r#""a\"\\\b\n\u0001/\u001f""#]],
        );
    }

    #[test]
    fn an_opaque_value_is_printed_by_its_type() {
        check(&[0x0F, 246, 4, 3, 2, 0x81, 50], expect!["1.50"]);
        check(
            &[0x0F, 15, 2, 0, 0xFF],
            expect![[r#""base64:type15:AP8=""#]],
        );
        let mut long = vec![0x0F, 252, 58];
        long.extend([0; 58]);
        let lines = format!("\"base64:type252:{}\\nAA==\"", "A".repeat(76));
        let mut text = String::new();
        print(&long, &mut text).unwrap();
        assert_eq!(text, lines);
    }

    #[test]
    fn a_double_has_a_point_or_an_exponent() {
        let numbers = [
            1e15,
            1e14,
            999999999999999.9,
            1234567890123456.0,
            -2084143300976145.8,
            // Exactly between two numbers of as many digits.
            890369584441125.3,
            0.1,
            1e-15,
            1e-16,
            1.25e-14,
            1e100,
            1.7976931348623157e308,
            5e-324,
            1.0,
            -0.0,
            0.0,
            -123456.789,
            100.0,
        ];
        let mut text = String::new();
        for number in numbers {
            print_double(number, &mut text);
            text.push(' ');
        }
        // As MySQL 9.7 prints the same numbers in an array.
        expect![[
            "1e15 100000000000000.0 999999999999999.9 1.234567890123456e15 -2084143300976145.8 890369584441125.2 0.1 0.000000000000001 1e-16 0.0000000000000125 1e100 1.7976931348623157e308 5e-324 1.0 -0.0 0.0 -123456.789 100.0 "
        ]]
        .assert_eq(&text);
    }

    #[test]
    fn a_malformed_document_is_an_error() {
        for document in [
            &[0x00][..],
            &[0x02, 1, 0, 7, 0, 0x02, 0, 0],
            &[0x02, 255, 255, 4, 0],
            &[0x0C, 5, b'a'],
            &[0x0C, 1, 0xFF],
            &[0x0F],
            &[0x0F, 246, 1, 200, 0],
            &[0x0F, 12, 1, 0],
            &[0x42],
            &[0x04, 9],
        ] {
            check(document, expect!["the binary JSON is malformed"]);
        }
    }
}
