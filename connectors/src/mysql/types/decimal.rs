//! MySQL's packed decimals.
//!
//! Digits stand in groups of nine, four big-endian bytes each, counted from the decimal point; what is
//! left over at either end takes as few bytes as its digits need. The first bit is 1 for a positive
//! number, and all bits of a negative one are inverted.

use super::ValueError;

const GROUP_DIGITS: u8 = 9;

/// Bytes of a group with so many digits.
const GROUP_BYTES: [usize; 10] = [0, 1, 1, 2, 2, 3, 3, 4, 4, 4];

const POWERS: [u32; 10] = [
    1,
    10,
    100,
    1_000,
    10_000,
    100_000,
    1_000_000,
    10_000_000,
    100_000_000,
    1_000_000_000,
];

/// The most digits a column has.
const PRECISION_MAX: u8 = 65;

/// The most groups these are in: seven full ones, and what is left over at either end.
const GROUPS_MAX: usize = 9;

/// Where the digits of a `DECIMAL(precision, scale)` are.
#[derive(Debug, Clone, Copy)]
pub(super) struct DecimalLayout {
    scale: u8,
    /// How many digits each group has; 0 after the last.
    groups: [u8; GROUPS_MAX],
    length: usize,
}

impl DecimalLayout {
    pub fn new(precision: u8, scale: u8) -> Option<Self> {
        if precision > PRECISION_MAX {
            return None;
        }
        let whole = precision.checked_sub(scale)?;
        let mut groups = [0; GROUPS_MAX];
        let mut length = 0;
        let full =
            |digits: u8| std::iter::repeat_n(GROUP_DIGITS, usize::from(digits / GROUP_DIGITS));
        let digits = std::iter::once(whole % GROUP_DIGITS)
            .chain(full(whole))
            .chain(full(scale))
            .chain([scale % GROUP_DIGITS]);
        for (group, digits) in groups.iter_mut().zip(digits.filter(|digits| *digits > 0)) {
            *group = digits;
            length += GROUP_BYTES[usize::from(digits)];
        }
        Some(Self {
            scale,
            groups,
            length,
        })
    }

    /// Bytes of a value.
    pub fn length(&self) -> usize {
        self.length
    }

    /// All digits as one number, for up to 38 of them. `bytes` has [`Self::length`].
    #[inline]
    pub fn number(&self, bytes: &[u8]) -> Result<i128, ValueError> {
        let mut number: u128 = 0;
        // Two groups fit into a machine word, and few columns have more.
        let mut word: u64 = 0;
        let mut word_power: u64 = 1;
        let negative = self.each_group(bytes, |group, digits| {
            let power = u64::from(POWERS[usize::from(digits)]);
            if word_power > u64::from(POWERS[9]) {
                number = number * u128::from(word_power) + u128::from(word);
                word = 0;
                word_power = 1;
            }
            word = word * power + u64::from(group);
            word_power *= power;
        })?;
        number = number * u128::from(word_power) + u128::from(word);
        let number = i128::try_from(number).map_err(|_| MALFORMED)?;
        Ok(if negative { -number } else { number })
    }

    /// Appends it as MySQL prints it. `bytes` has [`Self::length`].
    pub fn print(&self, bytes: &[u8], text: &mut String) -> Result<(), ValueError> {
        let mut digits = [b'0'; PRECISION_MAX as usize];
        let mut count = 0;
        let negative = self.each_group(bytes, |mut group, width| {
            let end = count + usize::from(width);
            for digit in digits[count..end].iter_mut().rev() {
                *digit = b'0' + (group % 10) as u8;
                group /= 10;
            }
            count = end;
        })?;
        let (whole, fraction) = digits[..count].split_at(count - usize::from(self.scale));
        let zeros = whole.iter().take_while(|digit| **digit == b'0').count();
        if negative {
            text.push('-');
        }
        match &whole[zeros..] {
            [] => text.push('0'),
            whole => text.extend(whole.iter().map(|digit| char::from(*digit))),
        }
        if !fraction.is_empty() {
            text.push('.');
            text.extend(fraction.iter().map(|digit| char::from(*digit)));
        }
        Ok(())
    }

    /// Hands over each group and how many digits it has, the highest first. Tells whether the number
    /// is negative.
    #[inline]
    fn each_group(&self, bytes: &[u8], mut each: impl FnMut(u32, u8)) -> Result<bool, ValueError> {
        let [first, ..] = bytes else {
            return Err(MALFORMED);
        };
        if bytes.len() != self.length {
            return Err(MALFORMED);
        }
        let negative = first & 0x80 == 0;
        let inversion = if negative { u32::MAX } else { 0 };
        let mut sign = 0x80;
        let mut rest = bytes;
        for digits in self.groups {
            if digits == 0 {
                break;
            }
            let (bytes, after) = rest.split_at(GROUP_BYTES[usize::from(digits)]);
            rest = after;
            let group = match *bytes {
                [a, b, c, d] => u32::from_be_bytes([a ^ sign, b, c, d]) ^ inversion,
                [a, b, c] => (u32::from_be_bytes([0, a ^ sign, b, c]) ^ inversion) & 0xFF_FFFF,
                [a, b] => (u32::from_be_bytes([0, 0, a ^ sign, b]) ^ inversion) & 0xFFFF,
                [a] => (u32::from(a ^ sign) ^ inversion) & 0xFF,
                _ => return Err(MALFORMED),
            };
            sign = 0;
            if group >= POWERS[usize::from(digits)] {
                return Err(MALFORMED);
            }
            each(group, digits);
        }
        Ok(negative)
    }
}

const MALFORMED: ValueError = ValueError::Malformed("packed decimal");

/// All digits of a decimal as the server prints it, for a column with this scale.
pub(super) fn parse_decimal(text: &[u8], scale: u8) -> Option<i128> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    let mut number: i128 = 0;
    let mut fraction = None;
    for byte in digits {
        match byte {
            b'0'..=b'9' => {
                number = number
                    .checked_mul(10)?
                    .checked_add(i128::from(byte - b'0'))?;
                fraction = fraction.map(|digits: u8| digits.saturating_add(1));
            }
            b'.' if fraction.is_none() => fraction = Some(0),
            _ => return None,
        }
    }
    for _ in 0..scale.checked_sub(fraction.unwrap_or(0))? {
        number = number.checked_mul(10)?;
    }
    Some(if negative { -number } else { number })
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(precision: u8, scale: u8, bytes: &[u8], expected: Expect) {
        let layout = DecimalLayout::new(precision, scale).unwrap();
        let mut text = String::new();
        layout.print(bytes, &mut text).unwrap();
        let number = layout.number(bytes).unwrap();
        expected.assert_eq(&format!("{text} {number}"));
        assert_eq!(parse_decimal(text.as_bytes(), scale), Some(number));
    }

    #[test]
    fn groups_of_digits_are_one_number() {
        check(
            14,
            4,
            &[0x81, 0x0D, 0xFB, 0x38, 0xD2, 0x04, 0xD2],
            expect!["1234567890.1234 12345678901234"],
        );
        check(
            14,
            4,
            &[0x7E, 0xF2, 0x04, 0xC7, 0x2D, 0xFB, 0x2D],
            expect!["-1234567890.1234 -12345678901234"],
        );
        check(5, 5, &[0x80, 0x00, 0x69], expect!["0.00105 105"]);
        check(4, 0, &[0x80, 0x00], expect!["0 0"]);
    }

    #[test]
    fn the_longest_number_keeps_every_digit() {
        let layout = DecimalLayout::new(38, 0).unwrap();
        let mut bytes = vec![0x80 | 99];
        for _ in 0..4 {
            bytes.extend(999_999_999u32.to_be_bytes());
        }
        assert_eq!(layout.length(), bytes.len());
        assert_eq!(layout.number(&bytes).unwrap(), 10i128.pow(38) - 1);
    }

    #[test]
    fn digits_that_are_none_are_an_error() {
        let layout = DecimalLayout::new(2, 0).unwrap();
        assert_eq!(layout.number(&[0x80 | 100]), Err(MALFORMED));
        assert_eq!(layout.number(&[]), Err(MALFORMED));
        assert!(DecimalLayout::new(2, 3).is_none());
        assert!(DecimalLayout::new(66, 0).is_none());
    }
}
