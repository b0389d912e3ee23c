//! What a message says of rows: one row, a row to come or go, or several, as each kind of envelope puts it.
//!
//! | format | message | rows |
//! |---|---|---|
//! | `JSON` | an object | the object |
//! | `UPSERT` | an object, or nothing; a key | the object, with the key's fields; without an object the row of the key goes |
//! | `DEBEZIUM` | `before`, `after`, `op`, also below `payload` | `after`; with `op` `d` the row of `before` goes |
//! | `MAXWELL` | `type`, `data`, `old` | `data`; of a delete it goes, and so does a row whose key was another in `old` |
//! | `CANAL` | `type`, `data`, `old`, lists | the same, for each row of the list |

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::Message;
use super::json::text_of;
use crate::error::sqlstate;
use crate::format::json::fields::{Field, RecordReader, Value};

/// The kind of envelope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Envelope {
    Plain,
    /// The column that a key which is no object is for, when there is one.
    Upsert {
        key: Option<String>,
    },
    Debezium,
    /// The key's columns.
    Maxwell(Vec<String>),
    Canal(Vec<String>),
}

/// The fields of a row, and whether it goes.
pub(super) type Row<'a> = (Vec<Field<'a>>, bool);

/// Why a message tells no rows.
pub(super) type Fault = (&'static str, String);

#[derive(Deserialize)]
struct DebeziumEnvelope<'a> {
    #[serde(borrow)]
    payload: Option<&'a RawValue>,
    #[serde(borrow)]
    before: Option<&'a RawValue>,
    #[serde(borrow)]
    after: Option<&'a RawValue>,
    #[serde(borrow)]
    op: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct MaxwellEnvelope<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    #[serde(borrow)]
    old: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct CanalEnvelope<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(default, rename = "isDdl")]
    is_ddl: bool,
    #[serde(borrow)]
    data: Option<Vec<&'a RawValue>>,
    #[serde(borrow)]
    old: Option<Vec<&'a RawValue>>,
}

impl Envelope {
    /// Whether rows come and go by their keys.
    pub fn is_keyed(&self) -> bool {
        *self != Self::Plain
    }

    /// What a message says.
    pub fn rows<'a>(
        &self,
        message: &Message<'a>,
        reader: &mut RecordReader,
    ) -> Result<Vec<Row<'a>>, Fault> {
        let text = message.payload.map(text_of).transpose()?;
        match (self, text) {
            (Self::Plain, None) => Ok(vec![(Vec::new(), false)]),
            (Self::Plain, Some(text)) => Ok(vec![(object(reader, text)?, false)]),
            (Self::Upsert { key }, text) => upsert(reader, key.as_deref(), message.key, text),
            // It follows a delete, for the broker's sake.
            (Self::Debezium | Self::Maxwell(_) | Self::Canal(_), None) => Ok(Vec::new()),
            (Self::Debezium, Some(text)) => debezium(reader, text),
            (Self::Maxwell(key), Some(text)) => maxwell(reader, key, text),
            (Self::Canal(key), Some(text)) => canal(reader, key, text),
        }
    }
}

fn object<'a>(reader: &mut RecordReader, text: &'a str) -> Result<Vec<Field<'a>>, Fault> {
    reader
        .parse(text)
        .map_err(|reason| (sqlstate::INVALID_TEXT, reason))
}

fn malformed(what: &str) -> Fault {
    (sqlstate::INVALID_TEXT, what.to_owned())
}

fn invalid(format: &str, error: serde_json::Error) -> Fault {
    (
        sqlstate::INVALID_TEXT,
        format!("the message is no change of {format}: {error}"),
    )
}

fn is_null(raw: &RawValue) -> bool {
    raw.get() == "null"
}

fn upsert<'a>(
    reader: &mut RecordReader,
    column: Option<&str>,
    key: Option<&'a [u8]>,
    text: Option<&'a str>,
) -> Result<Vec<Row<'a>>, Fault> {
    // The word alone is what some writers have for nothing.
    let text = text.filter(|text| text.trim() != "null");
    let mut row = match text {
        Some(text) => object(reader, text)?,
        None => Vec::new(),
    };
    let key = key.map(text_of).transpose()?;
    let missing = |row: &Vec<Field<'_>>, name: &str| !row.iter().any(|(known, _)| known == name);
    match (key, column) {
        (Some(key), _) if key.trim_start().starts_with('{') => {
            for (name, value) in object(&mut RecordReader::default(), key)? {
                if missing(&row, &name) {
                    row.push((name, value));
                }
            }
        }
        (Some(key), Some(column)) if missing(&row, column) => {
            // A quoted text is one, as JSON has it.
            let value = match serde_json::from_str::<&RawValue>(key) {
                Ok(raw) if raw.get().starts_with('"') => {
                    let text = serde_json::from_str::<String>(raw.get());
                    text.map_or(Value::Text(key.into()), |text| Value::Text(text.into()))
                }
                _ => Value::Text(key.into()),
            };
            row.push((column.to_owned().into(), value));
        }
        _ => {}
    }
    Ok(vec![(row, text.is_none())])
}

fn debezium<'a>(reader: &mut RecordReader, text: &'a str) -> Result<Vec<Row<'a>>, Fault> {
    let read = |text| {
        serde_json::from_str::<DebeziumEnvelope<'_>>(text)
            .map_err(|error| invalid("Debezium", error))
    };
    let mut envelope = read(text)?;
    if envelope.op.is_none()
        && let Some(payload) = envelope.payload
    {
        if is_null(payload) {
            return Ok(Vec::new());
        }
        envelope = read(payload.get())?;
    }
    match envelope.op.as_deref() {
        Some("c" | "r" | "u") => match envelope.after.filter(|raw| !is_null(raw)) {
            Some(after) => Ok(vec![(object(reader, after.get())?, false)]),
            None => Err(malformed("the change has no row \"after\"")),
        },
        Some("d") => match envelope.before.filter(|raw| !is_null(raw)) {
            Some(before) => Ok(vec![(object(reader, before.get())?, true)]),
            None => Err(malformed("the change has no row \"before\"")),
        },
        // A message for whoever listens, not a change of a row.
        Some("m") => Ok(Vec::new()),
        Some(other) => Err(malformed(&format!(
            "the change has the operation \"{other}\""
        ))),
        None => Err(malformed(
            "the message is no change of Debezium: it has no \"op\"",
        )),
    }
}

fn maxwell<'a>(
    reader: &mut RecordReader,
    key: &[String],
    text: &'a str,
) -> Result<Vec<Row<'a>>, Fault> {
    let envelope: MaxwellEnvelope<'a> =
        serde_json::from_str(text).map_err(|error| invalid("Maxwell", error))?;
    let goes = match envelope.kind.as_ref() {
        "insert" | "update" | "bootstrap-insert" => false,
        "delete" => true,
        "bootstrap-start" | "bootstrap-complete" => return Ok(Vec::new()),
        // Changes of tables, which are told by another setting.
        kind if kind.contains('-') => return Ok(Vec::new()),
        kind => return Err(malformed(&format!("the change has the type \"{kind}\""))),
    };
    let Some(data) = envelope.data else {
        return Err(malformed("the change has no \"data\""));
    };
    rows_of(reader, (key, goes), data, envelope.old)
}

fn canal<'a>(
    reader: &mut RecordReader,
    key: &[String],
    text: &'a str,
) -> Result<Vec<Row<'a>>, Fault> {
    let envelope: CanalEnvelope<'a> =
        serde_json::from_str(text).map_err(|error| invalid("Canal", error))?;
    let goes = match envelope.kind.as_ref() {
        _ if envelope.is_ddl => return Ok(Vec::new()),
        "INSERT" | "UPDATE" => false,
        "DELETE" => true,
        kind => return Err(malformed(&format!("the change has the type \"{kind}\""))),
    };
    let mut rows = Vec::new();
    let old = envelope.old.unwrap_or_default();
    for (index, data) in envelope.data.unwrap_or_default().into_iter().enumerate() {
        rows.extend(rows_of(reader, (key, goes), data, old.get(index).copied())?);
    }
    Ok(rows)
}

/// A row, after the one it was when its key was another.
fn rows_of<'a>(
    reader: &mut RecordReader,
    (key, goes): (&[String], bool),
    data: &'a RawValue,
    old: Option<&'a RawValue>,
) -> Result<Vec<Row<'a>>, Fault> {
    let row = object(reader, data.get())?;
    let mut rows = Vec::with_capacity(1);
    if let Some(old) = old.filter(|old| !goes && !is_null(old)) {
        let before = object(&mut RecordReader::default(), old.get())?;
        if before
            .iter()
            .any(|(name, _)| key.iter().any(|column| column == name))
        {
            let mut gone = row.clone();
            for (name, value) in before {
                if let Some((_, known)) = gone.iter_mut().find(|(known, _)| *known == name) {
                    *known = value;
                }
            }
            rows.push((gone, true));
        }
    }
    rows.push((row, goes));
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(envelope: &Envelope, key: Option<&str>, payload: Option<&str>, expected: &str) {
        let message = Message {
            partition: 0,
            offset: 0,
            timestamp: 0,
            key: key.map(str::as_bytes),
            payload: payload.map(str::as_bytes),
            headers: None,
        };
        let shown = match envelope.rows(&message, &mut RecordReader::default()) {
            Err((_, reason)) => reason,
            Ok(rows) => {
                let rows: Vec<String> = rows
                    .iter()
                    .map(|(fields, goes)| {
                        let fields: Vec<String> = fields
                            .iter()
                            .map(|(name, value)| match value {
                                Value::Text(text) => format!("{name}='{text}'"),
                                Value::Number(digits) => format!("{name}={digits}"),
                                other => format!("{name}={other:?}"),
                            })
                            .collect();
                        format!("{} {}", if *goes { "-" } else { "+" }, fields.join(" "))
                    })
                    .collect();
                rows.join(", ")
            }
        };
        assert_eq!(shown, expected);
    }

    #[test]
    fn an_upsert_has_its_key_from_the_message_key() {
        let by = |key: &str| Envelope::Upsert {
            key: Some(key.to_owned()),
        };
        check(&by("id"), Some("7"), Some(r#"{"a":1}"#), "+ a=1 id='7'");
        check(&by("id"), Some("7"), Some(r#"{"id":8}"#), "+ id=8");
        check(&by("id"), Some(r#""x y""#), None, "- id='x y'");
        check(&by("id"), Some("7"), Some("null"), "- id='7'");
        let composite = Envelope::Upsert { key: None };
        check(
            &composite,
            Some(r#"{"a":1,"b":2}"#),
            Some(r#"{"b":2,"c":3}"#),
            "+ b=2 c=3 a=1",
        );
        check(
            &by("id"),
            None,
            Some("[]"),
            "the record is not a JSON object",
        );
    }

    #[test]
    fn debezium_with_and_without_its_schema() {
        let envelope = Envelope::Debezium;
        let of = |payload: &str, expected: &str| check(&envelope, None, Some(payload), expected);
        of(
            r#"{"before":null,"after":{"id":1},"op":"c","source":{}}"#,
            "+ id=1",
        );
        of(
            r#"{"schema":{},"payload":{"before":{"id":1},"after":{"id":1,"a":2},"op":"u"}}"#,
            "+ id=1 a=2",
        );
        of(r#"{"before":{"id":1},"after":null,"op":"d"}"#, "- id=1");
        of(r#"{"op":"t"}"#, "the change has the operation \"t\"");
        of(
            r#"{"id":1}"#,
            "the message is no change of Debezium: it has no \"op\"",
        );
        check(&envelope, Some("{}"), None, "");
    }

    #[test]
    fn a_changed_key_is_a_row_that_goes_and_one_that_comes() {
        let maxwell = Envelope::Maxwell(vec!["id".to_owned()]);
        check(
            &maxwell,
            None,
            Some(r#"{"type":"update","data":{"id":2,"a":1},"old":{"id":1}}"#),
            "- id=1 a=1, + id=2 a=1",
        );
        check(
            &maxwell,
            None,
            Some(r#"{"type":"delete","data":{"id":2}}"#),
            "- id=2",
        );
        let canal = Envelope::Canal(vec!["id".to_owned()]);
        check(
            &canal,
            None,
            Some(
                r#"{"type":"UPDATE","isDdl":false,"data":[{"id":"1","a":"x"},{"id":"2","a":"y"}],"old":[{"a":"w"},{"id":"9"}]}"#,
            ),
            "+ id='1' a='x', - id='9' a='y', + id='2' a='y'",
        );
        check(&canal, None, Some(r#"{"type":"ALTER","isDdl":true}"#), "");
    }
}
