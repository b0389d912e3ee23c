//! The fields of one record, with values as they were written.
//!
//! A number is handed on as its digits: as a double it could change before anybody said which type
//! it is to have. Nested values keep their text too, without the blanks between its parts.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
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

/// The fields of one record in order, or why it is none. Of a key given twice the last value counts.
pub fn parse(text: &str) -> Result<Vec<Field<'_>>, String> {
    let invalid = |error| format!("the record is not valid JSON: {error}");
    if !text.trim_start().starts_with('{') {
        serde_json::from_str::<IgnoredAny>(text).map_err(invalid)?;
        return Err("the record is not a JSON object".to_owned());
    }
    let Fields(fields) = serde_json::from_str(text).map_err(invalid)?;
    fields
        .into_iter()
        .map(|(key, raw)| Ok((key.0, value(raw).map_err(invalid)?)))
        .collect()
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

struct Fields<'a>(Vec<(Key<'a>, &'a RawValue)>);

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

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Fields<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
                let mut fields: Vec<(Key<'de>, &'de RawValue)> = Vec::with_capacity(KEYS_SEARCHED);
                let mut places: HashMap<Key<'de>, usize> = HashMap::new();
                while let Some((key, value)) = map.next_entry::<Key<'de>, &'de RawValue>()? {
                    let known = if fields.len() <= KEYS_SEARCHED {
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
                Ok(Fields(fields))
            }
        }

        deserializer.deserialize_map(Object)
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
