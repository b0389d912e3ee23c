//! Avro: datums with the id of their schema before them, as Confluent's serializers write them.
//!
//! A datum becomes the JSON of its record, with dates, times and decimals written out, and goes the way of JSON from there
//! on: the same envelopes, columns and `_rescued`. The types of columns come from the schema, not from values.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::schema::{Name, Schema};
use apache_avro::types::Value;
use arrow::datatypes::{Field, Schema as ArrowSchema, SchemaRef};
use boathouse_catalog::types::ColumnType;
use chrono::{DateTime, Days, NaiveDate};
use serde_json::{Map, Value as Json};

use super::envelope::Fault;
use super::schema_registry::SchemaRegistry;
use crate::error::{FormatError, sqlstate};

/// The first byte of a message whose next four are the id of its schema.
const MAGIC: u8 = 0;

/// The first byte of messages of AWS Glue's serializers.
const GLUE: u8 = 3;

/// Decodes datums by their schemas.
pub(super) struct AvroDecoder {
    registry: Arc<SchemaRegistry>,
    known: Mutex<HashMap<u32, Arc<Known>>>,
}

/// A schema that was understood.
struct Known {
    schema: Schema,
    schemata: Vec<Schema>,
    named: HashMap<Name, Schema>,
}

impl AvroDecoder {
    pub fn new(registry: Arc<SchemaRegistry>) -> Self {
        Self {
            registry,
            known: Mutex::default(),
        }
    }

    fn known(&self, id: u32) -> Result<Result<Arc<Known>, Fault>, FormatError> {
        let known = {
            let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            known.get(&id).cloned()
        };
        if let Some(known) = known {
            return Ok(Ok(known));
        }
        let Some(registered) = self.registry.schema(id)? else {
            let reason = format!("schema {id} is not in the registry");
            return Ok(Err((sqlstate::UNDEFINED_OBJECT, reason)));
        };
        if registered.kind != "AVRO" {
            let reason = format!("schema {id} is of {}, not of Avro", registered.kind);
            return Ok(Err((sqlstate::BAD_FILE_FORMAT, reason)));
        }
        let parsed = Schema::parse_str_with_list(&registered.text, &registered.references);
        let (schema, schemata) = match parsed {
            Ok(parsed) => parsed,
            Err(error) => {
                let reason = format!("schema {id} cannot be understood: {error}");
                return Ok(Err((sqlstate::BAD_FILE_FORMAT, reason)));
            }
        };
        let mut named = HashMap::new();
        for one in schemata.iter().chain([&schema]) {
            collect(one, &mut named);
        }
        let found = Arc::new(Known {
            schema,
            schemata,
            named,
        });
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(id, Arc::clone(&found));
        Ok(Ok(found))
    }

    /// The JSON of a datum. The outer error is not the datum's fault.
    pub fn json(&self, datum: &[u8]) -> Result<Result<String, Fault>, FormatError> {
        let (id, rest) = match split(datum) {
            Ok(found) => found,
            Err(fault) => return Ok(Err(fault)),
        };
        let known = match self.known(id)? {
            Ok(known) => known,
            Err(fault) => return Ok(Err(fault)),
        };
        // A datum that makes its decoder fail is one that cannot be read, no more.
        let read = catch_unwind(AssertUnwindSafe(|| {
            let mut rest = rest;
            let builder = GenericDatumReader::builder(&known.schema);
            // Without others the schema itself is where its names are looked up.
            let reader = match known.schemata.is_empty() {
                true => builder.build()?,
                false => {
                    let all = known.schemata.iter().chain([&known.schema]);
                    builder.writer_schemata(all.collect())?.build()?
                }
            };
            let value = reader.read_value(&mut rest)?;
            Ok::<_, apache_avro::Error>((value, rest.len()))
        }));
        let malformed = |reason: String| Ok(Err((sqlstate::BAD_FILE_FORMAT, reason)));
        match read {
            Ok(Ok((value, 0))) => Ok(Ok(known.render(&value, &known.schema).to_string())),
            Ok(Ok((_, left))) => malformed(format!(
                "the message is not of schema {id}: {left} bytes are left over"
            )),
            Ok(Err(error)) => malformed(format!("the message is not of schema {id}: {error}")),
            Err(_) => malformed(format!("the message is not of schema {id}")),
        }
    }

    /// The columns of a datum's record, or of the record in its field of that name.
    pub fn columns(
        &self,
        datum: &[u8],
        within: Option<&str>,
    ) -> Result<Option<SchemaRef>, FormatError> {
        let Ok((id, _)) = split(datum) else {
            return Ok(None);
        };
        let Ok(known) = self.known(id)? else {
            return Ok(None);
        };
        Ok(known.columns(within))
    }
}

/// The id of a datum's schema, and the datum.
fn split(datum: &[u8]) -> Result<(u32, &[u8]), Fault> {
    match datum {
        [MAGIC, a, b, c, d, rest @ ..] => Ok((u32::from_be_bytes([*a, *b, *c, *d]), rest)),
        [GLUE, ..] => Err((
            sqlstate::FEATURE_NOT_SUPPORTED,
            "the message has its schema in AWS Glue's registry, which is not supported".to_owned(),
        )),
        _ => Err((
            sqlstate::BAD_FILE_FORMAT,
            "the message does not begin with the id of its schema".to_owned(),
        )),
    }
}

/// All schemas that have names.
fn collect(schema: &Schema, named: &mut HashMap<Name, Schema>) {
    match schema {
        Schema::Record(record) => {
            named.insert(record.name.clone(), schema.clone());
            for field in &record.fields {
                collect(&field.schema, named);
            }
        }
        Schema::Enum(one) => {
            named.insert(one.name.clone(), schema.clone());
        }
        Schema::Fixed(one) => {
            named.insert(one.name.clone(), schema.clone());
        }
        Schema::Array(array) => collect(&array.items, named),
        Schema::Map(map) => collect(&map.types, named),
        Schema::Union(union) => {
            for variant in union.variants() {
                collect(variant, named);
            }
        }
        _ => {}
    }
}

impl Known {
    fn resolve<'s>(&'s self, schema: &'s Schema) -> &'s Schema {
        match schema {
            Schema::Ref { name } => self.named.get(name).unwrap_or(schema),
            other => other,
        }
    }

    /// The record that a schema is, or may be.
    fn record<'s>(&'s self, schema: &'s Schema) -> Option<&'s apache_avro::schema::RecordSchema> {
        match self.resolve(schema) {
            Schema::Record(record) => Some(record),
            Schema::Union(union) => {
                union
                    .variants()
                    .iter()
                    .find_map(|variant| match self.resolve(variant) {
                        Schema::Record(record) => Some(record),
                        _ => None,
                    })
            }
            _ => None,
        }
    }

    fn columns(&self, within: Option<&str>) -> Option<SchemaRef> {
        let mut record = self.record(&self.schema)?;
        if let Some(name) = within {
            let field = record.fields.iter().find(|field| field.name == name)?;
            record = self.record(&field.schema)?;
        }
        let fields: Vec<Field> = record
            .fields
            .iter()
            .map(|field| self.column_type(&field.schema).to_field(&field.name, true))
            .collect();
        Some(Arc::new(ArrowSchema::new(fields)))
    }

    fn column_type(&self, schema: &Schema) -> ColumnType {
        match self.resolve(schema) {
            Schema::Boolean => ColumnType::Boolean,
            Schema::Int => ColumnType::Integer,
            Schema::Long => ColumnType::BigInt,
            Schema::Float => ColumnType::Real,
            Schema::Double => ColumnType::Double,
            Schema::Bytes | Schema::Fixed(_) => ColumnType::Bytea,
            Schema::Decimal(decimal) => {
                let precision = u8::try_from(decimal.precision).ok().filter(|p| *p <= 38);
                match (precision, i8::try_from(decimal.scale)) {
                    (Some(precision), Ok(scale)) => ColumnType::Numeric {
                        precision: Some(precision),
                        scale,
                    },
                    _ => ColumnType::Text,
                }
            }
            Schema::Uuid(_) => ColumnType::Uuid,
            Schema::Date => ColumnType::Date,
            Schema::TimeMillis | Schema::TimeMicros => ColumnType::Time,
            Schema::TimestampMillis | Schema::TimestampMicros | Schema::TimestampNanos => {
                ColumnType::TimestampTz
            }
            Schema::LocalTimestampMillis
            | Schema::LocalTimestampMicros
            | Schema::LocalTimestampNanos => ColumnType::Timestamp,
            Schema::Array(_) | Schema::Map(_) | Schema::Record(_) => ColumnType::Jsonb,
            Schema::Union(union) => {
                let mut variants = union
                    .variants()
                    .iter()
                    .filter(|variant| **variant != Schema::Null);
                match (variants.next(), variants.next()) {
                    (Some(only), None) => self.column_type(only),
                    _ => ColumnType::Text,
                }
            }
            _ => ColumnType::Text,
        }
    }

    fn render(&self, value: &Value, schema: &Schema) -> Json {
        let schema = self.resolve(schema);
        match value {
            Value::Null => Json::Null,
            Value::Boolean(value) => Json::Bool(*value),
            Value::Int(value) => Json::from(*value),
            Value::Long(value) => Json::from(*value),
            Value::Float(value) => float(value.to_string(), f64::from(*value)),
            Value::Double(value) => float(value.to_string(), *value),
            Value::Bytes(bytes) | Value::Fixed(_, bytes) => {
                Json::from(super::block::hexadecimal(bytes))
            }
            Value::String(text) | Value::Enum(_, text) => Json::from(text.as_str()),
            Value::Union(index, value) => {
                let variant = match schema {
                    Schema::Union(union) => union.variants().get(*index as usize),
                    _ => None,
                };
                self.render(value, variant.unwrap_or(schema))
            }
            Value::Array(values) => {
                let items = match schema {
                    Schema::Array(array) => &array.items,
                    other => other,
                };
                values
                    .iter()
                    .map(|value| self.render(value, items))
                    .collect()
            }
            Value::Map(values) => {
                let types = match schema {
                    Schema::Map(map) => &map.types,
                    other => other,
                };
                // In an order of their own: that of the map is none.
                let mut names: Vec<&String> = values.keys().collect();
                names.sort();
                let members = names
                    .into_iter()
                    .filter_map(|name| Some((name.clone(), self.render(values.get(name)?, types))));
                Json::Object(members.collect())
            }
            Value::Record(values) => {
                let mut members = Map::new();
                for (index, (name, value)) in values.iter().enumerate() {
                    let of = match schema {
                        Schema::Record(record) => {
                            record.fields.get(index).map(|field| &field.schema)
                        }
                        _ => None,
                    };
                    members.insert(name.clone(), self.render(value, of.unwrap_or(schema)));
                }
                Json::Object(members)
            }
            Value::Date(days) => text(date(*days)),
            Value::Decimal(decimal) => {
                let scale = match schema {
                    Schema::Decimal(decimal) => decimal.scale,
                    _ => 0,
                };
                match Vec::<u8>::try_from(decimal) {
                    Ok(bytes) => decimal_text(&bytes, scale),
                    Err(_) => Json::Null,
                }
            }
            Value::BigDecimal(decimal) => Json::from(decimal.to_string()),
            Value::TimeMillis(time) => text(clock(i64::from(*time) * 1000)),
            Value::TimeMicros(time) => text(clock(*time)),
            Value::TimestampMillis(at) => text(moment(at.checked_mul(1000), "Z")),
            Value::TimestampMicros(at) => text(moment(Some(*at), "Z")),
            Value::TimestampNanos(at) => text(moment(Some(at.div_euclid(1000)), "Z")),
            Value::LocalTimestampMillis(at) => text(moment(at.checked_mul(1000), "")),
            Value::LocalTimestampMicros(at) => text(moment(Some(*at), "")),
            Value::LocalTimestampNanos(at) => text(moment(Some(at.div_euclid(1000)), "")),
            Value::Duration(duration) => Json::from(format!("{duration:?}")),
            Value::Uuid(uuid) => Json::from(uuid.to_string()),
        }
    }
}

fn text(text: Option<String>) -> Json {
    text.map_or(Json::Null, Json::from)
}

/// JSON has no numbers that are none.
fn float(digits: String, value: f64) -> Json {
    match value
        .is_finite()
        .then(|| serde_json::from_str(&digits).ok())
    {
        Some(Some(number)) => Json::Number(number),
        _ => Json::from(digits),
    }
}

fn date(days: i32) -> Option<String> {
    let epoch = NaiveDate::from_ymd_opt(1970, 1, 1)?;
    let distance = Days::new(u64::from(days.unsigned_abs()));
    let date = match days < 0 {
        true => epoch.checked_sub_days(distance),
        false => epoch.checked_add_days(distance),
    };
    Some(date?.format("%Y-%m-%d").to_string())
}

fn clock(microseconds: i64) -> Option<String> {
    let at = DateTime::from_timestamp_micros(microseconds)?;
    Some(at.format("%H:%M:%S%.6f").to_string())
}

fn moment(microseconds: Option<i64>, zone: &str) -> Option<String> {
    let at = DateTime::from_timestamp_micros(microseconds?)?;
    Some(format!("{}{zone}", at.format("%Y-%m-%dT%H:%M:%S%.6f")))
}

/// A number of two's complement, the point before its last digits.
fn decimal_text(bytes: &[u8], scale: usize) -> Json {
    if bytes.len() > 16 {
        return Json::from(super::block::hexadecimal(bytes));
    }
    let negative = bytes.first().is_some_and(|first| first & 0x80 != 0);
    let mut whole = [if negative { 0xff } else { 0 }; 16];
    whole[16 - bytes.len()..].copy_from_slice(bytes);
    let unscaled = i128::from_be_bytes(whole);
    let digits = format!("{:0>width$}", unscaled.unsigned_abs(), width = scale + 1);
    let (before, after) = digits.split_at(digits.len() - scale);
    let sign = if unscaled < 0 { "-" } else { "" };
    let point = if scale > 0 { "." } else { "" };
    Json::from(format!("{sign}{before}{point}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(schema: &str) -> Known {
        let schema = Schema::parse_str(schema).unwrap();
        let mut named = HashMap::new();
        collect(&schema, &mut named);
        Known {
            schema,
            schemata: Vec::new(),
            named,
        }
    }

    #[test]
    fn values_are_written_out_by_their_types() {
        let known = known(
            r#"{"type":"record","name":"r","fields":[
                {"name":"paid","type":{"type":"bytes","logicalType":"decimal","precision":10,"scale":2}},
                {"name":"day","type":{"type":"int","logicalType":"date"}},
                {"name":"at","type":["null",{"type":"long","logicalType":"timestamp-millis"}]},
                {"name":"nan","type":"double"},
                {"name":"tags","type":{"type":"map","values":"long"}}
            ]}"#,
        );
        let value = Value::Record(vec![
            ("paid".into(), Value::Decimal(vec![0xff, 0x85].into())),
            ("day".into(), Value::Date(-1)),
            (
                "at".into(),
                Value::Union(1, Box::new(Value::TimestampMillis(1500))),
            ),
            ("nan".into(), Value::Double(f64::NAN)),
            (
                "tags".into(),
                Value::Map(HashMap::from([
                    ("b".into(), Value::Long(2)),
                    ("a".into(), Value::Long(1)),
                ])),
            ),
        ]);
        assert_eq!(
            known.render(&value, &known.schema).to_string(),
            r#"{"paid":"-1.23","day":"1969-12-31","at":"1970-01-01T00:00:01.500000Z","nan":"NaN","tags":{"a":1,"b":2}}"#
        );
        let columns = known.columns(None).unwrap();
        let types: Vec<String> = columns
            .fields()
            .iter()
            .map(|field| ColumnType::from_field(field).sql_name())
            .collect();
        assert_eq!(
            types,
            [
                "numeric(10,2)",
                "date",
                "timestamp with time zone",
                "double precision",
                "jsonb"
            ]
        );
    }

    #[test]
    fn a_message_begins_with_the_id_of_its_schema() {
        assert_eq!(split(&[0, 0, 0, 1, 2, 9]).unwrap(), (258, &[9][..]));
        assert_eq!(
            split(b"{}").unwrap_err().1,
            "the message does not begin with the id of its schema"
        );
        assert!(split(&[3, 0]).unwrap_err().1.contains("Glue"));
    }
}
