//! The fields of one record, with values as they were written.
//!
//! A number is handed on as its digits: as a double it could change before anybody said which type
//! it is to have. Nested values keep their text too, without the blanks between its parts.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, Visitor,
};
use serde_json::value::RawValue;

/// One value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value<'a> {
    Null,
    Boolean(bool),
    /// Its digits.
    Number(&'a str),
    /// Without quotes and escapes.
    Text(Cow<'a, str>),
    /// An array or an object, as JSON.
    Nested(Cow<'a, str>),
}

/// A field: its key and its value. Keys without escapes are those of the record's own text.
pub type Field<'a> = (Cow<'a, str>, Value<'a>);

/// Reads records. It is faster with those that have the keys of one before.
#[derive(Debug, Default)]
pub struct RecordReader {
    /// Keys that a record had, in order and each once.
    keys: Vec<String>,
    /// Records that had others since.
    misses: u32,
}

impl RecordReader {
    /// The fields of one record in order, or why it is none. Of a key given twice the last value counts.
    pub fn parse<'a>(&mut self, text: &'a str) -> Result<Vec<Field<'a>>, String> {
        let invalid = |error| format!("the record is not valid JSON: {error}");
        if !text.trim_start().starts_with('{') {
            serde_json::from_str::<IgnoredAny>(text).map_err(invalid)?;
            return Err("the record is not a JSON object".to_owned());
        }
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let object = Object { keys: &self.keys };
        let read = object.deserialize(&mut deserializer).map_err(invalid)?;
        deserializer.end().map_err(invalid)?;
        match read.is_like_before {
            true => self.misses = 0,
            false => self.learn(&read.fields),
        }
        Ok(read.fields)
    }

    /// Remembers the keys of a record: of the next one, and where records take turns ever more seldom.
    fn learn(&mut self, fields: &[Field<'_>]) {
        self.misses = self.misses.saturating_add(1);
        if self.misses.is_power_of_two() {
            self.keys.clear();
            let keys = fields.iter().map(|(key, _)| key.clone().into_owned());
            self.keys.extend(keys);
        }
    }
}

/// The fields of a record that has nothing to do with others.
pub fn parse(text: &str) -> Result<Vec<Field<'_>>, String> {
    RecordReader::default().parse(text)
}

fn value(raw: &RawValue) -> Result<Value<'_>, serde_json::Error> {
    let text = raw.get();
    Ok(match text.as_bytes() {
        [b'n', ..] => Value::Null,
        [b't', ..] => Value::Boolean(true),
        [b'f', ..] => Value::Boolean(false),
        [b'"', inner @ ..] => match text.get(1..inner.len()) {
            Some(plain) if memchr::memchr(b'\\', inner).is_none() => Value::Text(plain.into()),
            _ => Value::Text(Cow::Owned(serde_json::from_str(text)?)),
        },
        [b'{' | b'[', ..] => {
            // Half of a surrogate pair is found only when a text is put together.
            if memchr::memmem::find(text.as_bytes(), b"\\u").is_some() {
                serde_json::from_str::<serde_json::Value>(text)?;
            }
            Value::Nested(compact(text))
        }
        _ => Value::Number(text),
    })
}

/// Valid JSON without the blanks between its parts.
fn compact(json: &str) -> Cow<'_, str> {
    if !json.contains([' ', '\t', '\r', '\n']) {
        return json.into();
    }
    let mut compacted = String::with_capacity(json.len());
    let mut in_text = false;
    let mut escaped = false;
    for character in json.chars() {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => in_text = !in_text,
            ' ' | '\t' | '\r' | '\n' if !in_text => continue,
            _ => {}
        }
        compacted.push(character);
    }
    compacted.into()
}

/// A key, borrowed where it has no escapes.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key<'a>(Cow<'a, str>);

/// Up to here looking through all keys is faster than a table of them.
const KEYS_SEARCHED: usize = 32;

impl<'de> Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl<'de> Visitor<'de> for Text {
            type Value = Key<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a key")
            }

            fn visit_borrowed_str<E>(self, key: &'de str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Borrowed(key)))
            }

            fn visit_str<E>(self, key: &str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Owned(key.to_owned())))
            }
        }

        deserializer.deserialize_str(Text)
    }
}

/// Reads an object.
struct Object<'k> {
    keys: &'k [String],
}

struct ReadObject<'a> {
    fields: Vec<Field<'a>>,
    /// Whether it has the keys that were expected, and no others.
    is_like_before: bool,
}

impl<'de> DeserializeSeed<'de> for Object<'_> {
    type Value = ReadObject<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Object<'_> {
    type Value = ReadObject<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields: Vec<Field<'de>> = Vec::with_capacity(self.keys.len().max(8));
        let mut places: HashMap<Cow<'de, str>, usize> = HashMap::new();
        let mut is_like_before = true;
        while let Some(Key(key)) = map.next_key()? {
            let value = value(map.next_value::<&'de RawValue>()?).map_err(A::Error::custom)?;
            // Keys that were expected are there once, so that none has to be looked for.
            is_like_before = is_like_before
                && self
                    .keys
                    .get(fields.len())
                    .is_some_and(|known| *known == key);
            let known = if is_like_before {
                None
            } else if fields.len() <= KEYS_SEARCHED {
                fields.iter().position(|(known, _)| *known == key)
            } else {
                if places.is_empty() {
                    let keys = fields.iter().map(|(key, _)| key.clone());
                    places = keys.zip(0..).collect();
                }
                places.get(&key).copied()
            };
            match known {
                Some(place) => fields[place].1 = value,
                None => {
                    if !places.is_empty() {
                        places.insert(key.clone(), fields.len());
                    }
                    fields.push((key, value));
                }
            }
        }
        is_like_before &= fields.len() == self.keys.len();
        Ok(ReadObject {
            fields,
            is_like_before,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stay_as_they_were_written() {
        assert_eq!(
            parse(
                r#" {"n": 1.50, "t": "a\u00e9\"", "x": [1.0e2, " \" [ "], "y": {}, "z": null, "n": -0} "#
            )
            .unwrap(),
            [
                ("n".into(), Value::Number("-0")),
                ("t".into(), Value::Text("aé\"".into())),
                (
                    "x".into(),
                    Value::Nested(r#"[1.0e2," \" [ "]"#.into())
                ),
                ("y".into(), Value::Nested("{}".into())),
                ("z".into(), Value::Null),
            ]
        );
    }

    #[test]
    fn of_many_keys_the_last_value_counts() {
        let mut text = String::from("{");
        for number in 0..40 {
            text += &format!("\"k{}\":{number},", number % 20);
        }
        text += "\"k3\":true}";
        let mut expected: Vec<Field<'_>> = Vec::new();
        let digits: Vec<String> = (20..40).map(|number| number.to_string()).collect();
        for (key, digits) in digits.iter().enumerate() {
            expected.push((format!("k{key}").into(), Value::Number(digits)));
        }
        expected[3].1 = Value::Boolean(true);
        assert_eq!(parse(&text).unwrap(), expected);
    }

    #[test]
    fn keys_of_the_record_before_are_no_others() {
        let mut reader = RecordReader::default();
        let records = [
            (r#"{"a":1,"b":2}"#, "a=1 b=2"),
            (r#"{"a":3,"b":4}"#, "a=3 b=4"),
            (r#"{"a":5,"b":6,"a":7}"#, "a=7 b=6"),
            (r#"{"a":5,"a":6,"b":7}"#, "a=6 b=7"),
            (r#"{"b":1,"a":2,"b":3,"c":4}"#, "b=3 a=2 c=4"),
            (r#"{"a":1}"#, "a=1"),
            (r#"{}"#, ""),
            (r#"{"a":1,"b":2,"c":3,"b":4}"#, "a=1 b=4 c=3"),
        ];
        // However the reader was used before.
        for (text, expected) in records.iter().chain(&records).chain(records.iter().rev()) {
            let fields = reader.parse(text).unwrap();
            let shown: Vec<String> = fields
                .iter()
                .map(|(key, value)| match value {
                    Value::Number(digits) => format!("{key}={digits}"),
                    other => panic!("{other:?}"),
                })
                .collect();
            assert_eq!(shown.join(" "), *expected, "{text}");
        }
    }

    #[test]
    fn half_a_character_is_no_text() {
        for text in [r#"{"a":"\ud800"}"#, r#"{"a":["\ud800"]}"#] {
            let reason = parse(text).unwrap_err();
            assert!(
                reason.starts_with("the record is not valid JSON: "),
                "{reason}"
            );
        }
    }
}
