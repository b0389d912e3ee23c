//! Integers and strings as events have them.

use super::Malformed;

/// What is left of an event.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bytes<'a>(pub &'a [u8]);

impl<'a> Bytes<'a> {
    /// The next `count` bytes.
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    /// A little-endian integer of `count` bytes, at most eight.
    pub fn integer(&mut self, count: usize) -> Result<u64, Malformed> {
        let bytes = self.take(count)?;
        let mut number = 0u64;
        for byte in bytes.iter().rev() {
            number = number << 8 | u64::from(*byte);
        }
        Ok(number)
    }

    pub fn byte(&mut self) -> Result<u8, Malformed> {
        let (first, rest) = self.0.split_first().ok_or(Malformed)?;
        self.0 = rest;
        Ok(*first)
    }

    /// A length-encoded integer.
    pub fn packed(&mut self) -> Result<u64, Malformed> {
        match self.byte()? {
            small @ 0..=250 => Ok(u64::from(small)),
            252 => self.integer(2),
            253 => self.integer(3),
            254 => self.integer(8),
            _ => Err(Malformed),
        }
    }

    pub fn packed_size(&mut self) -> Result<usize, Malformed> {
        usize::try_from(self.packed()?).map_err(|_| Malformed)
    }

    /// Bytes preceded by their length-encoded number.
    pub fn packed_bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let count = self.packed_size()?;
        self.take(count)
    }
}

/// A bit of a bitmap whose first bit is the lowest of the first byte.
pub(crate) fn bit(bitmap: &[u8], index: usize) -> bool {
    bitmap
        .get(index / 8)
        .is_some_and(|byte| byte & (1 << (index % 8)) != 0)
}
