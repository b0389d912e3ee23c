//! `JSON`: an object is a row, its keys are columns; or any document as it is, in one column. `UPSERT`, `DEBEZIUM`,
//! `MAXWELL` and `CANAL`: objects that say which rows come and go.
//!
//! Options `column_names`, `max_columns`, those of [`ValueFormat::take`], and of `JSON` `document` (`true`: the whole payload is
//! the column `payload`, of type `jsonb`) and `header` (what stands before the object), of `UPSERT` and `DEBEZIUM` `encoding`
//! (`json`, or a language of schemas whose records become such objects).

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{StringBuilder, new_null_array};
use arrow::datatypes::{DataType, Schema, SchemaRef};
use boathouse_catalog::types::ColumnType;
use serde::de::IgnoredAny;

use super::avro::AvroLanguage;
use super::envelope::{Envelope, Fault};
use super::header::{self, Header};
use super::plain::PAYLOAD;
use super::protobuf::ProtobufLanguage;
use super::schema::Schemas;
use super::typed::SchemaColumns;
use super::{
    DecodedMessages, Message, MessageBlock, MessageContext, MessageFormat, MessageKind, Metadata,
    RejectedMessage,
};
use crate::error::{ConnectorError, FormatError, sqlstate};
use crate::format::csv::{take_columns_max, take_name_style};
use crate::format::json::fields::RecordReader;
use crate::format::json::row::{Batch, Columns, RowRun};
use crate::format::{DecodeSchema, NameStyle};
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
        let header = Header::take(options, &["none", "confluent", "glue"])?;
        if options.take_bool("document")? == Some(true) {
            return Ok(Arc::new(DocumentFormat { header }));
        }
        JsonFormat::take(options, Envelope::Plain, Encoding::Json(header))
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
        JsonFormat::take(
            options,
            Envelope::Maxwell(context.key.to_vec()),
            Encoding::Json(Header::None),
        )
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
        JsonFormat::take(
            options,
            Envelope::Canal(context.key.to_vec()),
            Encoding::Json(Header::None),
        )
    }
}

struct JsonFormat {
    envelope: Envelope,
    encoding: Encoding,
    column_names: NameStyle,
    columns_max: usize,
    values: ValueFormat,
}

/// What messages are written in.
enum Encoding {
    Json(Header),
    /// Records that become JSON first.
    Schemas(Schemas),
}

impl JsonFormat {
    fn take(
        options: &mut Options,
        envelope: Envelope,
        encoding: Encoding,
    ) -> Result<Arc<dyn MessageFormat>, ConnectorError> {
        Ok(Arc::new(Self {
            envelope,
            encoding,
            column_names: take_name_style(options)?,
            columns_max: take_columns_max(options)?,
            values: ValueFormat::take(options)?,
        }))
    }

    /// With the option `encoding`: `json`, `avro` or `protobuf`.
    fn take_encoded(
        options: &mut Options,
        envelope: Envelope,
        context: &MessageContext<'_>,
    ) -> Result<Arc<dyn MessageFormat>, ConnectorError> {
        let encoding = match options.take_choice("encoding", &["json", "avro", "protobuf"])? {
            Some("avro") => Encoding::Schemas(Schemas::take(options, context, &AvroLanguage)?),
            Some("protobuf") => {
                Encoding::Schemas(Schemas::take(options, context, &ProtobufLanguage)?)
            }
            _ => Encoding::Json(Header::None),
        };
        Self::take(options, envelope, encoding)
    }

    /// Whether a payload as it is is an object that is a row.
    fn is_plain(&self) -> bool {
        self.envelope == Envelope::Plain && matches!(self.encoding, Encoding::Json(Header::None))
    }

    /// The JSON of keys and payloads that are not JSON as they are.
    fn transcoded<'m>(&self, message: &Message<'m>) -> Result<Transcoded<'m>, FormatError> {
        let mut transcoded = Transcoded::default();
        let schemas = match &self.encoding {
            Encoding::Json(Header::None) => return Ok(transcoded),
            Encoding::Json(header) => {
                match message.payload.map(|payload| header.strip(payload)) {
                    None => {}
                    Some(Ok(payload)) => transcoded.payload = Some(payload),
                    Some(Err(fault)) => transcoded.fault = Some(fault),
                }
                return Ok(transcoded);
            }
            Encoding::Schemas(schemas) => schemas,
        };
        if let Some(payload) = message.payload {
            match json_of(schemas, payload)? {
                Ok(json) => transcoded.payload = Some(Cow::Owned(json.into_bytes())),
                Err(fault) => transcoded.fault = Some(fault),
            }
        }
        // A key of a simple type has no schema of its own.
        if let Some(key @ [0, _, _, _, _, ..]) = message.key
            && self.envelope.is_keyed()
            && schemas.are_told()
            && let Ok(json) = json_of(schemas, key)?
        {
            transcoded.key = Some(json);
        }
        Ok(transcoded)
    }

    /// The columns of the schemas that messages are of, and of keys.
    fn infer_schemas(
        &self,
        schemas: &Schemas,
        block: &MessageBlock,
    ) -> Result<Option<SchemaRef>, FormatError> {
        let within = (self.envelope == Envelope::Debezium).then_some("after");
        let mut columns = SchemaColumns::new(self.column_names, self.columns_max);
        for message in block.iter() {
            if let Some(payload) = message.payload {
                columns.add(schemas, payload, within)?;
            }
            if let Some(key) = message.key
                && self.envelope.is_keyed()
                && schemas.are_told()
            {
                columns.add(schemas, key, None)?;
            }
        }
        Ok(columns.finish())
    }
}

fn json_of(schemas: &Schemas, message: &[u8]) -> Result<Result<String, Fault>, FormatError> {
    Ok(schemas.resolve(message)?.and_then(|resolved| {
        let json = resolved.plan.json(&resolved.body);
        json.map_err(|reason| resolved.fault(&reason))
    }))
}

/// Parts of a message that became JSON.
#[derive(Default)]
struct Transcoded<'m> {
    key: Option<String>,
    payload: Option<Cow<'m, [u8]>>,
    fault: Option<Fault>,
}

impl Transcoded<'_> {
    /// The message with these parts in the place of its own.
    fn of<'t>(&'t self, message: Message<'t>) -> Message<'t> {
        Message {
            key: self.key.as_deref().map(str::as_bytes).or(message.key),
            payload: self.payload.as_deref().or(message.payload),
            ..message
        }
    }
}

impl MessageFormat for JsonFormat {
    fn is_keyed(&self) -> bool {
        self.envelope.is_keyed()
    }

    fn infer(&self, block: &MessageBlock) -> Result<Option<SchemaRef>, FormatError> {
        if let Encoding::Schemas(schemas) = &self.encoding {
            return self.infer_schemas(schemas, block);
        }
        let mut columns = Columns::new(self.column_names, self.columns_max).with_values_only();
        let mut reader = RecordReader::default();
        for message in block.iter() {
            // What cannot be read is rejected when it is decoded.
            let transcoded = self.transcoded(&message)?;
            if transcoded.fault.is_some() {
                continue;
            }
            let message = transcoded.of(message);
            let rows = self.envelope.rows(&message, &mut reader);
            for (fields, goes) in rows.unwrap_or_default() {
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
        let mut batch =
            Batch::new(schema, "", self.column_names)?.expecting(block.len(), block.bytes());
        let mut messages = Vec::with_capacity(block.len());
        let mut rejected = Vec::new();
        let mut goes: Option<Vec<bool>> = None;
        let mut reader = RecordReader::default();
        let mut run = RowRun::default();
        let is_plain = self.is_plain();
        for (number, message) in (0_u32..).zip(block.iter()) {
            if is_plain && let Some(payload) = message.payload {
                let read = text_of(payload).and_then(|text| {
                    let record = (text, i64::from(number));
                    let appended = batch.append_record(&mut run, &mut reader, record, &self.values);
                    appended.map_err(|reason| (sqlstate::INVALID_TEXT, reason))
                });
                match read {
                    Ok(()) => messages.push(number),
                    Err(fault) => rejected.push(rejection(number, fault)),
                }
                continue;
            }
            batch.append_run(&mut run, &self.values);
            let mut transcoded = self.transcoded(&message)?;
            let told = match transcoded.fault.take() {
                Some(fault) => Err(fault),
                None => self.envelope.rows(&transcoded.of(message), &mut reader),
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
                Err(fault) => rejected.push(rejection(number, fault)),
            }
        }
        batch.append_run(&mut run, &self.values);
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

fn rejection(message: u32, (sqlstate, reason): Fault) -> RejectedMessage {
    RejectedMessage {
        message,
        sqlstate: sqlstate.into(),
        reason,
    }
}

/// What a few messages show to be whole numbers of one size may be of another in the next: they are taken as large.
pub(super) fn widened(schema: &Schema) -> Schema {
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

pub(super) fn text_of(payload: &[u8]) -> Result<&str, Fault> {
    if header::is_glue(payload) {
        return Err((
            sqlstate::FEATURE_NOT_SUPPORTED,
            "the message has the header of AWS Glue; give FORMAT JSON the option header = 'glue'"
                .to_owned(),
        ));
    }
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
struct DocumentFormat {
    header: Header,
}

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
                Some(payload) => self.header.strip(payload).and_then(|payload| {
                    let text = text_of(&payload)?;
                    serde_json::from_str::<IgnoredAny>(text)
                        .map(|_| Some(text.to_owned()))
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
