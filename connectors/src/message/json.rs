//! `JSON`: an object is a row, its keys are columns; or any document as it is, in one column. `UPSERT`, `DEBEZIUM`,
//! `MAXWELL` and `CANAL`: objects that say which rows come and go. `AVRO`: records that become such objects.
//!
//! Options `column_names`, `max_columns`, those of [`ValueFormat::take`], and of `JSON` `document` (`true`: the whole payload is
//! the column `payload`, of type `jsonb`), of `UPSERT` and `DEBEZIUM` `encoding` (`json` or `avro`).

use std::sync::Arc;

use arrow::array::{StringBuilder, new_null_array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use boathouse_catalog::types::ColumnType;
use serde::de::IgnoredAny;

use super::avro::AvroDecoder;
use super::envelope::{Envelope, Fault};
use super::plain::PAYLOAD;
use super::{
    DecodedMessages, Message, MessageBlock, MessageContext, MessageFormat, MessageKind, Metadata,
    RejectedMessage,
};
use crate::error::{ConnectorError, FormatError, sqlstate};
use crate::format::csv::{take_columns_max, take_name_style};
use crate::format::json::row::{Batch, Columns};
use crate::format::{DecodeSchema, NameStyle, unique_names};
use crate::options::Options;
use crate::value::ValueFormat;

/// The format.
pub struct Json;

impl MessageKind for Json {
    fn name(&self) -> &'static str {
        "JSON"
    }

    fn configure(
        &self,
        options: &mut Options,
        _: &MessageContext<'_>,
    ) -> Result<Arc<dyn MessageFormat>, ConnectorError> {
        if options.take_bool("document")? == Some(true) {
            return Ok(Arc::new(DocumentFormat));
        }
        JsonFormat::take(options, Envelope::Plain, None)
    }
}

/// Rows by the message's key.
pub struct Upsert;

impl MessageKind for Upsert {
    fn name(&self) -> &'static str {
        "UPSERT"
    }

    fn configure(
        &self,
        options: &mut Options,
        context: &MessageContext<'_>,
    ) -> Result<Arc<dyn MessageFormat>, ConnectorError> {
        let key = match context.key {
            [one] if one != Metadata::Key.column() => Some(one.clone()),
            _ => None,
        };
        JsonFormat::take_encoded(options, Envelope::Upsert { key }, context)
    }
}

/// Changes as Debezium writes them.
pub struct Debezium;

impl MessageKind for Debezium {
    fn name(&self) -> &'static str {
        "DEBEZIUM"
    }

    fn configure(
        &self,
        options: &mut Options,
        context: &MessageContext<'_>,
    ) -> Result<Arc<dyn MessageFormat>, ConnectorError> {
        JsonFormat::take_encoded(options, Envelope::Debezium, context)
    }
}

/// Changes as Maxwell writes them.
pub struct Maxwell;

impl MessageKind for Maxwell {
    fn name(&self) -> &'static str {
        "MAXWELL"
    }

    fn configure(
        &self,
        options: &mut Options,
        context: &MessageContext<'_>,
    ) -> Result<Arc<dyn MessageFormat>, ConnectorError> {
        JsonFormat::take(options, Envelope::Maxwell(context.key.to_vec()), None)
    }
}

/// Changes as Canal writes them.
pub struct Canal;

impl MessageKind for Canal {
    fn name(&self) -> &'static str {
        "CANAL"
    }

    fn configure(
        &self,
        options: &mut Options,
        context: &MessageContext<'_>,
    ) -> Result<Arc<dyn MessageFormat>, ConnectorError> {
        JsonFormat::take(options, Envelope::Canal(context.key.to_vec()), None)
    }
}

/// Records of Avro.
pub struct Avro;

impl MessageKind for Avro {
    fn name(&self) -> &'static str {
        "AVRO"
    }

    fn configure(
        &self,
        options: &mut Options,
        context: &MessageContext<'_>,
    ) -> Result<Arc<dyn MessageFormat>, ConnectorError> {
        JsonFormat::take(options, Envelope::Plain, Some(avro(context)?))
    }
}

/// A decoder of Avro, if there is a registry to have schemas from.
fn avro(context: &MessageContext<'_>) -> Result<AvroDecoder, ConnectorError> {
    let registry = context.registry.clone().ok_or_else(|| {
        ConnectorError::option("messages of Avro need a schema registry")
            .hint("ALTER CONNECTION name SET (schema_registry = 'https://...')")
    })?;
    Ok(AvroDecoder::new(registry))
}

struct JsonFormat {
    envelope: Envelope,
    /// Messages are of Avro, and become JSON first.
    avro: Option<AvroDecoder>,
    column_names: NameStyle,
    columns_max: usize,
    values: ValueFormat,
}

impl JsonFormat {
    fn take(
        options: &mut Options,
        envelope: Envelope,
        avro: Option<AvroDecoder>,
    ) -> Result<Arc<dyn MessageFormat>, ConnectorError> {
        Ok(Arc::new(Self {
            envelope,
            avro,
            column_names: take_name_style(options)?,
            columns_max: take_columns_max(options)?,
            values: ValueFormat::take(options)?,
        }))
    }
}

impl JsonFormat {
    /// With the option `encoding`: `json` or `avro`.
    fn take_encoded(
        options: &mut Options,
        envelope: Envelope,
        context: &MessageContext<'_>,
    ) -> Result<Arc<dyn MessageFormat>, ConnectorError> {
        let decoder = match options.take_choice("encoding", &["json", "avro"])? {
            Some("avro") => Some(avro(context)?),
            _ => None,
        };
        Self::take(options, envelope, decoder)
    }

    /// The JSON of keys and payloads that are of Avro.
    fn transcoded(&self, message: &Message<'_>) -> Result<Transcoded, FormatError> {
        let mut transcoded = Transcoded::default();
        let Some(decoder) = &self.avro else {
            return Ok(transcoded);
        };
        if let Some(payload) = message.payload {
            match decoder.json(payload)? {
                Ok(json) => transcoded.payload = Some(json),
                Err(fault) => transcoded.fault = Some(fault),
            }
        }
        // A key of a simple type has no schema of its own.
        if let Some(key @ [0, _, _, _, _, ..]) = message.key
            && self.envelope.is_keyed()
            && let Ok(json) = decoder.json(key)?
        {
            transcoded.key = Some(json);
        }
        Ok(transcoded)
    }
}

impl JsonFormat {
    /// The columns of the schemas that messages name, and of keys.
    fn infer_schemas(
        &self,
        decoder: &AvroDecoder,
        block: &MessageBlock,
    ) -> Result<Option<SchemaRef>, FormatError> {
        let within = (self.envelope == Envelope::Debezium).then_some("after");
        let mut found: Vec<Arc<Field>> = Vec::new();
        let mut heads: Vec<&[u8]> = Vec::new();
        for message in block.iter() {
            let key = message.key.filter(|_| self.envelope.is_keyed());
            let parts = [(message.payload, within), (key, None)];
            for (part, within) in parts {
                let Some(datum) = part else { continue };
                // One of each schema will do.
                let Some(head) = datum.get(..5).filter(|head| !heads.contains(head)) else {
                    continue;
                };
                heads.push(head);
                for field in decoder
                    .columns(datum, within)?
                    .iter()
                    .flat_map(|schema| schema.fields())
                {
                    let name = unique_names(&[field.name().as_str()], self.column_names);
                    let name = name
                        .into_iter()
                        .next()
                        .unwrap_or_else(|| field.name().clone());
                    if !found.iter().any(|known| *known.name() == name) {
                        found.push(Arc::new(field.as_ref().clone().with_name(name)));
                    }
                }
            }
        }
        Ok((!found.is_empty()).then(|| Arc::new(Schema::new(found))))
    }
}

/// Parts of a message that became JSON.
#[derive(Default)]
struct Transcoded {
    key: Option<String>,
    payload: Option<String>,
    fault: Option<Fault>,
}

impl Transcoded {
    /// The message with these parts in the place of its own.
    fn of<'t>(&'t self, message: Message<'t>) -> Message<'t> {
        let bytes = |text: &'t Option<String>| text.as_ref().map(|text| text.as_bytes());
        Message {
            key: bytes(&self.key).or(message.key),
            payload: bytes(&self.payload).or(message.payload),
            ..message
        }
    }
}

impl MessageFormat for JsonFormat {
    fn is_keyed(&self) -> bool {
        self.envelope.is_keyed()
    }

    fn infer(&self, block: &MessageBlock) -> Result<Option<SchemaRef>, FormatError> {
        if let Some(decoder) = &self.avro {
            return self.infer_schemas(decoder, block);
        }
        let mut columns = Columns::new(self.column_names, self.columns_max).with_values_only();
        for message in block.iter() {
            // What cannot be read is rejected when it is decoded.
            for (fields, goes) in self.envelope.rows(&message).unwrap_or_default() {
                if !goes {
                    columns.sample(&fields, &self.values)?;
                }
            }
        }
        Ok(columns.schema().map(|schema| Arc::new(widened(&schema))))
    }

    fn decode(
        &self,
        block: &MessageBlock,
        schema: &DecodeSchema,
    ) -> Result<DecodedMessages, FormatError> {
        let mut batch = Batch::new(schema, "", self.column_names)?;
        let mut messages = Vec::with_capacity(block.len());
        let mut rejected = Vec::new();
        let mut goes: Option<Vec<bool>> = None;
        for (number, message) in (0_u32..).zip(block.iter()) {
            let mut transcoded = self.transcoded(&message)?;
            let told = match transcoded.fault.take() {
                Some(fault) => Err(fault),
                None => self.envelope.rows(&transcoded.of(message)),
            };
            match told {
                Ok(rows) => {
                    for (fields, one_goes) in rows {
                        if one_goes && goes.is_none() {
                            goes = Some(vec![false; messages.len()]);
                        }
                        if let Some(goes) = &mut goes {
                            goes.push(one_goes);
                        }
                        batch.append(fields, i64::from(number), &self.values);
                        messages.push(number);
                    }
                }
                Err((sqlstate, reason)) => rejected.push(RejectedMessage {
                    message: number,
                    sqlstate: sqlstate.into(),
                    reason,
                }),
            }
        }
        let has_unknown = batch.has_unknown();
        let (columns, ..) = batch.finish_columns()?;
        Ok(DecodedMessages {
            columns,
            messages,
            goes,
            rejected,
            has_unknown,
        })
    }
}

/// What a few messages show to be whole numbers of one size may be of another in the next: they are taken as large.
fn widened(schema: &Schema) -> Schema {
    let fields: Vec<_> = schema
        .fields()
        .iter()
        .map(|field| match field.data_type() {
            DataType::Int16 | DataType::Int32 => {
                Arc::new(field.as_ref().clone().with_data_type(DataType::Int64))
            }
            DataType::Float32 => Arc::new(field.as_ref().clone().with_data_type(DataType::Float64)),
            _ => Arc::clone(field),
        })
        .collect();
    Schema::new(fields)
}

pub(super) fn text_of(payload: &[u8]) -> Result<&str, (&'static str, String)> {
    std::str::from_utf8(payload).map_err(|error| {
        (
            sqlstate::CHARACTER_NOT_IN_REPERTOIRE,
            format!(
                "the payload is not UTF-8: byte {} begins no character",
                error.valid_up_to()
            ),
        )
    })
}

/// Any JSON value, as it is.
struct DocumentFormat;

impl MessageFormat for DocumentFormat {
    fn fixed_columns(&self) -> Option<SchemaRef> {
        let field = ColumnType::Jsonb.to_field(PAYLOAD, true);
        Some(Arc::new(Schema::new(vec![field])))
    }

    fn infer(&self, _: &MessageBlock) -> Result<Option<SchemaRef>, FormatError> {
        Ok(self.fixed_columns())
    }

    fn decode(
        &self,
        block: &MessageBlock,
        _: &DecodeSchema,
    ) -> Result<DecodedMessages, FormatError> {
        let mut builder = StringBuilder::with_capacity(block.len(), block.bytes());
        let mut messages = Vec::with_capacity(block.len());
        let mut rejected = Vec::new();
        for (number, message) in (0..).zip(block.iter()) {
            let document = match message.payload {
                None => Ok(None),
                Some(payload) => text_of(payload).and_then(|text| {
                    serde_json::from_str::<IgnoredAny>(text)
                        .map(|_| Some(text))
                        .map_err(|error| {
                            let reason = format!("the payload is not valid JSON: {error}");
                            (sqlstate::INVALID_TEXT, reason)
                        })
                }),
            };
            match document {
                Ok(document) => {
                    builder.append_option(document);
                    messages.push(number);
                }
                Err((sqlstate, reason)) => rejected.push(RejectedMessage {
                    message: number,
                    sqlstate: sqlstate.into(),
                    reason,
                }),
            }
        }
        Ok(DecodedMessages {
            columns: vec![
                Arc::new(builder.finish()),
                new_null_array(&DataType::Utf8, messages.len()),
            ],
            messages,
            goes: None,
            rejected,
            has_unknown: false,
        })
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;
    use arrow::datatypes::Int64Type;

    use super::super::block::tests::block_of;
    use super::*;

    fn json() -> Arc<dyn MessageFormat> {
        Json.configure(&mut Options::none("test"), &MessageContext::default())
            .unwrap()
    }

    #[test]
    fn columns_are_found_by_values_and_are_wide() {
        let block = block_of(&[
            Some(br#"{"a":1,"b":null}"#),
            Some(br#"{"c":[1]}"#),
            Some(b"x"),
        ]);
        let schema = json().infer(&block).unwrap().unwrap();
        let found: Vec<_> = schema
            .fields()
            .iter()
            .map(|field| (field.name().as_str(), field.data_type().clone()))
            .collect();
        assert_eq!(found, [("a", DataType::Int64), ("c", DataType::Utf8)]);
    }

    #[test]
    fn each_message_is_a_row_or_rejected() {
        let block = block_of(&[
            Some(br#"{"a":1}"#),
            Some(br#"{"a":"#),
            None,
            Some(br#"[1]"#),
            Some(br#"{"a":"x","b":2}"#),
            Some(b"\xff"),
        ]);
        let schema = json().infer(&block_of(&[Some(br#"{"a":1}"#)])).unwrap();
        let decoded = json()
            .decode(&block, &DecodeSchema::new(schema.unwrap()))
            .unwrap();
        assert_eq!(decoded.messages, [0, 2, 4]);
        let values: Vec<_> = decoded.columns[0]
            .as_primitive::<Int64Type>()
            .iter()
            .collect();
        assert_eq!(values, [Some(1), None, None]);
        let rescued: Vec<_> = decoded.columns[1].as_string::<i32>().iter().collect();
        assert_eq!(rescued, [None, None, Some(r#"{"a":"x","b":2}"#)]);
        let rejected: Vec<_> = decoded
            .rejected
            .iter()
            .map(|rejected| (rejected.message, rejected.reason.as_str()))
            .collect();
        assert_eq!(
            rejected,
            [
                (
                    1,
                    "the record is not valid JSON: EOF while parsing a value at line 1 column 5"
                ),
                (3, "the record is not a JSON object"),
                (5, "the payload is not UTF-8: byte 0 begins no character"),
            ]
        );
        assert!(decoded.has_unknown);
    }

    #[test]
    fn a_document_may_be_anything() {
        let mut options = Options::new("test", [("document", true)]);
        let format = Json
            .configure(&mut options, &MessageContext::default())
            .unwrap();
        let block = block_of(&[Some(b"[1]"), Some(b"{"), Some(b"null"), None]);
        let schema = DecodeSchema::new(format.fixed_columns().unwrap());
        let decoded = format.decode(&block, &schema).unwrap();
        let documents: Vec<_> = decoded.columns[0].as_string::<i32>().iter().collect();
        assert_eq!(documents, [Some("[1]"), Some("null"), None]);
        assert_eq!(decoded.rejected[0].message, 1);
    }
}
