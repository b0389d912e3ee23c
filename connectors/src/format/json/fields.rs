//! The fields of one record, with values as they were written.
//!
//! A number is handed on as its digits: as a double it could change before anybody said which type
//! it is to have. Nested values keep their text too, without the blanks between its parts.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::shape::Shape;

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

/// Shapes of records that are kept.
const SHAPES_MAX: usize = 8;

/// Reads records. It is faster with those that are written as one before was.
#[derive(Debug, Default)]
pub struct RecordReader {
    /// The one used last comes first.
    shapes: Vec<Shape>,
    /// Records that were of none of them.
    misses: u32,
}

/// The keys of records that are written alike, in their order.
pub type SharedKeys = Arc<[Box<str>]>;

impl RecordReader {
    /// The fields of one record in order, or why it is none. Of a key given twice the last value counts.
    pub fn parse<'a>(&mut self, text: &'a str) -> Result<Vec<Field<'a>>, String> {
        for (place, shape) in self.shapes.iter().enumerate() {
            if let Some(fields) = shape.read(text) {
                self.shapes[..=place].rotate_right(1);
                return Ok(fields);
            }
        }
        let invalid = |error| format!("the record is not valid JSON: {error}");
        if !text.trim_start().starts_with('{') {
            serde_json::from_str::<IgnoredAny>(text).map_err(invalid)?;
            return Err("the record is not a JSON object".to_owned());
        }
        let Fields(fields) = serde_json::from_str(text).map_err(invalid)?;
        self.learn(text);
        Ok(fields)
    }

    /// Adds the values of a record that is written as one before was, one for each key, `None` for those that it lacks; adds
    /// nothing if it is not.
    pub fn read_values<'a>(
        &mut self,
        text: &'a str,
        values: &mut Vec<Option<Value<'a>>>,
    ) -> Option<&SharedKeys> {
        let mut shapes = self.shapes.iter();
        let place = shapes.position(|shape| shape.read_values(text, values))?;
        self.shapes[..=place].rotate_right(1);
        self.shapes.first().map(Shape::names)
    }

    /// Remembers the shape of a record: of the first, and where all are different ever more seldom.
    fn learn(&mut self, text: &str) {
        self.misses = self.misses.saturating_add(1);
        if self.misses.is_power_of_two()
            && let Some(shape) = Shape::of(text)
        {
            self.shapes.truncate(SHAPES_MAX - 1);
            self.shapes.insert(0, shape);
        }
    }
}

/// The fields of a record that has nothing to do with others.
pub fn parse(text: &str) -> Result<Vec<Field<'_>>, String> {
    RecordReader::default().parse(text)
}

pub(super) fn value(raw: &RawValue) -> Result<Value<'_>, serde_json::Error> {
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

/// The fields of an object.
struct Fields<'a>(Vec<Field<'a>>);

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Object)
    }
}

struct Object;

impl<'de> Visitor<'de> for Object {
    type Value = Fields<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields: Vec<Field<'de>> = Vec::new();
        let mut places: HashMap<Cow<'de, str>, usize> = HashMap::new();
        while let Some(Key(key)) = map.next_key()? {
            let value = value(map.next_value::<&'de RawValue>()?).map_err(A::Error::custom)?;
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

    /// What a reader says that has seen others, beside one that has not.
    #[test]
    fn records_like_the_one_before_are_read_alike() {
        let shapes = [
            r#"{"id":1,"name":"Ayu","paid":true,"at":null,"tags":["a",{"b":1}],"sum":-1.5e3}"#,
            r#" { "id" : 18446744073709551615 , "name" : "é\n\u00e9\"" , "at" : "2026-05-01T00:00:00.000000Z" } "#,
            r#"{"one":"a text of more than sixteen bytes, \\ and a slash"}"#,
            r#"{}"#,
            r#"{"a\u0062":1,"a":2}"#,
            r#"{"a":1, "b":2,"c":3}"#,
        ];
        let values = [
            "0",
            "-0",
            "01",
            "-",
            "1.",
            "1.25",
            ".5",
            "1e5",
            "1E+05",
            "1e",
            "2e-",
            "NaN",
            "true",
            "truex",
            "false",
            "null",
            "nul",
            r#""""#,
            r#""x""#,
            r#""\"#,
            r#""\""#,
            r#""\\""#,
            r#""\\\""#,
            r#""\u12""#,
            r#""\ud800""#,
            "\"a\tb\"",
            "\"12345678\t\"",
            "\"é\u{7f}\u{80}12345678\"",
            r#""never ends"#,
            "[]",
            "[1, 2 ]",
            "{\"a\" : [ ] }",
            "[1,]",
            "{",
            "]",
            "",
            r#"["\ud800"]"#,
            " 1",
            "1 ",
        ];
        let texts = shapes.iter().flat_map(|shape| {
            let cuts = shape.char_indices().map(|(place, _)| place);
            cuts.flat_map(move |place| {
                let (before, rest) = shape.split_at(place);
                let less = format!("{before}{}", rest.get(1..).unwrap_or_default());
                let ends = rest.find([',', '}', ']']).unwrap_or(0);
                let others = values.map(|value| format!("{before}{value}{}", &rest[ends..]));
                [before.to_owned(), less, format!("{before} {rest}")]
                    .into_iter()
                    .chain(others)
            })
        });
        let mut readers: Vec<RecordReader> = shapes
            .iter()
            .map(|shape| {
                let mut reader = RecordReader::default();
                reader.parse(shape).unwrap();
                reader
            })
            .collect();
        let (mut all, mut valid) = (0, 0);
        for text in texts {
            let expected = parse(&text);
            for reader in &mut readers {
                // It is to go on with what it has learnt first.
                reader.misses = 2;
                let mut values = vec![None];
                if let Some(keys) = reader.read_values(&text, &mut values) {
                    let fields = keys.iter().zip(values.split_off(1));
                    let fields = fields.filter_map(|(key, value)| Some((&**key, value?)));
                    let fields = fields.map(|(key, value)| (Cow::Borrowed(key), value));
                    assert_eq!(Ok(fields.collect()), expected, "{text}");
                }
                assert_eq!(values, [None]);
                assert_eq!(reader.parse(&text), expected, "{text}");
            }
            all += 1;
            valid += usize::from(expected.is_ok());
        }
        assert!(valid * 20 > all, "{valid} of {all}");
    }

    /// Keys that are left out, or come in another order.
    #[test]
    fn a_shape_is_that_of_records_without_some_keys_too() {
        let shape = Shape::of(r#"{"a": 1, "b": 2, "c": 3}"#).unwrap();
        for (text, expected) in [
            (r#"{"a": 4, "b": 5, "c": 6}"#, Some("a b c")),
            (r#"{"a": 4, "c": 6}"#, Some("a c")),
            (r#"{"b": {"a": [1, 2]}}"#, Some("b")),
            (r#"{"c": "x", "b": 5}"#, None),
            (r#"{"a": 4, "a": 5}"#, None),
            (r#"{"a": 4, "d": 5}"#, None),
            (r#"{"a":4}"#, None),
            (r#"{"a": 4}}"#, None),
            (r#"{, "a": 4}"#, None),
            ("{}", None),
        ] {
            let fields = shape.read(text);
            let keys = fields.map(|fields| {
                let keys: Vec<_> = fields.iter().map(|(key, _)| key.as_ref()).collect();
                keys.join(" ")
            });
            assert_eq!(keys.as_deref(), expected, "{text}");
        }
        for none in [
            "{}",
            r#"{"a":1,"a":2}"#,
            r#"{"\u0061":1}"#,
            "[1]",
            r#"{"a":1, "b":2,"c":3}"#,
        ] {
            assert!(Shape::of(none).is_none(), "{none}");
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
