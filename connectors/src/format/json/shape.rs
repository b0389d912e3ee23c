//! Records that are written as one before was: the same keys in the same order with the same blanks between the parts,
//! perhaps without some of them.
//!
//! ```text
//! {"id": 1, "name": "a", "at": null}      {"id":   , "name":   , "at":   }
//! open key value  key    value             known, and compared as it is
//! ```
//!
//! What is written between values was found to be valid by the parser once, and is compared byte by byte; so only
//! values are looked at. Whatever is not as expected, whether it is valid or not, is left to the parser.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::fields::{Field, Value, value};

/// How a record was written.
#[derive(Debug)]
pub(super) struct Shape {
    /// Up to the first key.
    open: String,
    keys: Vec<Key>,
    /// The keys alone.
    names: Arc<[Box<str>]>,
    /// After the last value.
    close: String,
}

/// What stands before a value.
#[derive(Debug)]
struct Key {
    /// With the separator before the key.
    text: String,
    separator: usize,
    /// Where in it the key is.
    name: Range<usize>,
}

impl Shape {
    /// That of a record, when it has keys, each once, without escapes, and the same separator before each.
    pub fn of(record: &str) -> Option<Self> {
        let pairs: Pairs<'_> = serde_json::from_str(record).ok()?;
        let mut met = HashSet::new();
        let mut keys: Vec<Key> = Vec::with_capacity(pairs.0.len());
        let mut open = None;
        let mut separator = ",";
        let mut at = 0;
        for (name, value) in &pairs.0 {
            let name_at = range_in(record, name)?;
            let value_at = range_in(record, value.get())?;
            let key_at = name_at.start.checked_sub(1)?;
            let before = record.get(at..key_at)?;
            match keys.len() {
                0 => open = Some(before.to_owned()),
                1 => separator = before,
                _ if before != separator => return None,
                _ => {}
            }
            if !met.insert(*name) {
                return None;
            }
            keys.push(Key {
                text: record.get(key_at..value_at.start)?.to_owned(),
                separator: 0,
                name: 1..name.len() + 1,
            });
            at = value_at.end;
        }
        let names = keys.iter().map(|key| key.text.get(key.name.clone()));
        let names = names.map(|name| name.map(Box::from));
        let names = names.collect::<Option<_>>()?;
        for key in &mut keys {
            key.text.insert_str(0, separator);
            key.separator = separator.len();
            key.name = key.name.start + separator.len()..key.name.end + separator.len();
        }
        Some(Self {
            open: open?,
            keys,
            names,
            close: record.get(at..)?.to_owned(),
        })
    }

    /// The keys of its records, in their order.
    pub fn names(&self) -> &Arc<[Box<str>]> {
        &self.names
    }

    /// The fields of a record of this shape; `None` when it may be of another, or may not be valid.
    pub fn read<'a>(&self, record: &'a str) -> Option<Vec<Field<'a>>> {
        let mut fields = Vec::with_capacity(self.keys.len());
        self.walk(record, |_, name, value| {
            fields.push((Cow::Borrowed(record.get(name)?), value));
            Some(())
        })?;
        Some(fields)
    }

    /// Adds a value for each of the keys, `None` for those that a record of this shape does without. Tells whether it may be of
    /// this shape; if not, nothing is added.
    pub fn read_values<'a>(&self, record: &'a str, values: &mut Vec<Option<Value<'a>>>) -> bool {
        let base = values.len();
        let walked = self.walk(record, |place, _, value| {
            values.resize(base + place, None);
            values.push(Some(value));
            Some(())
        });
        let length = walked.map_or(0, |()| self.keys.len());
        values.resize(base + length, None);
        walked.is_some()
    }

    /// Has a look at each value of a record of this shape: the number of its key, where the key is, and the value.
    #[inline]
    fn walk<'a>(
        &self,
        record: &'a str,
        mut found: impl FnMut(usize, Range<usize>, Value<'a>) -> Option<()>,
    ) -> Option<()> {
        let bytes = record.as_bytes();
        if !bytes.starts_with(self.open.as_bytes()) {
            return None;
        }
        let mut at = self.open.len();
        let mut skipped = self.keys.first()?.separator;
        // Keys come in their order, so that none comes twice.
        let mut keys = self.keys.iter().enumerate();
        loop {
            let rest = bytes.get(at..)?;
            let Some((place, key)) =
                keys.find(|(_, key)| rest.starts_with(&key.text.as_bytes()[skipped..]))
            else {
                let is_whole = rest == self.close.as_bytes() && skipped == 0;
                return is_whole.then_some(());
            };
            let name = at + key.name.start - skipped..at + key.name.end - skipped;
            let (value, end) = value_at(record, at + key.text.len() - skipped)?;
            found(place, name, value)?;
            (at, skipped) = (end, 0);
        }
    }
}

/// The value that begins here, and where it ends.
fn value_at(record: &str, start: usize) -> Option<(Value<'_>, usize)> {
    let rest = record.as_bytes().get(start..)?;
    let word = |word: &str, value| {
        rest.starts_with(word.as_bytes())
            .then_some((value, start + word.len()))
    };
    match rest.first()? {
        b'"' => {
            let inner = start + 1;
            let mut end = inner + special(rest.get(1..)?)?;
            let bytes = record.as_bytes();
            if bytes[end] == b'"' {
                return Some((Value::Text(record.get(inner..end)?.into()), end + 1));
            }
            while bytes[end] == b'\\' {
                end += 2;
                end += special(bytes.get(end..)?)?;
            }
            let text: String = serde_json::from_str(record.get(start..=end)?).ok()?;
            Some((Value::Text(text.into()), end + 1))
        }
        b'-' | b'0'..=b'9' => {
            let end = start + number_length(rest)?;
            Some((Value::Number(record.get(start..end)?), end))
        }
        b't' => word("true", Value::Boolean(true)),
        b'f' => word("false", Value::Boolean(false)),
        b'n' => word("null", Value::Null),
        b'{' | b'[' => {
            let text = record.get(start..)?;
            let mut values = serde_json::Deserializer::from_str(text).into_iter::<&RawValue>();
            let nested = values.next()?.ok()?;
            Some((value(nested).ok()?, start + nested.get().len()))
        }
        _ => None,
    }
}

/// Where a byte is that plain text does not have: a quote, a backslash, a control character.
fn special(bytes: &[u8]) -> Option<usize> {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGHS: u64 = ONES << 7;
    // The lowest bit set is that of the first zero byte, or of the first below a number.
    let zero = |word: u64| word.wrapping_sub(ONES) & !word;
    let (words, rest) = bytes.as_chunks::<8>();
    for (number, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let quote = zero(word ^ (ONES * u64::from(b'"')));
        let backslash = zero(word ^ (ONES * u64::from(b'\\')));
        let control = word.wrapping_sub(ONES * 0x20) & !word;
        let found = (quote | backslash | control) & HIGHS;
        if found != 0 {
            return Some(number * 8 + (found.trailing_zeros() / 8) as usize);
        }
    }
    let is_special = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..0x20);
    let place = rest.iter().position(is_special)?;
    Some(words.len() * 8 + place)
}

/// The length of the number that these bytes begin with (RFC 8259, section 6).
fn number_length(bytes: &[u8]) -> Option<usize> {
    let digits = |at: usize| {
        let digits = bytes.get(at..)?.iter();
        let count = digits.take_while(|byte| byte.is_ascii_digit()).count();
        (count > 0).then_some(at + count)
    };
    let start = usize::from(bytes.first() == Some(&b'-'));
    let mut end = digits(start)?;
    if bytes[start] == b'0' && end > start + 1 {
        return None;
    }
    if bytes.get(end) == Some(&b'.') {
        end = digits(end + 1)?;
    }
    if let Some(b'e' | b'E') = bytes.get(end) {
        let sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
        end = digits(end + 1 + sign)?;
    }
    Some(end)
}

/// Where a part of a text is in it.
fn range_in(text: &str, part: &str) -> Option<Range<usize>> {
    let start = part.as_ptr().addr().checked_sub(text.as_ptr().addr())?;
    let end = start.checked_add(part.len())?;
    (end <= text.len()).then_some(start..end)
}

/// An object's keys without escapes, and its values.
struct Pairs<'a>(Vec<(&'a str, &'a RawValue)>);

impl<'de> Deserialize<'de> for Pairs<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Pairs<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }

        deserializer.deserialize_map(Object)
    }
}
