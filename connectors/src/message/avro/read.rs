//! A datum of Avro, by its plan: one pass over its bytes, with nothing made but what is nested.

use std::collections::BTreeMap;

use arrow::datatypes::Field;

use super::super::schema::{FieldNames, FieldValue, RecordFields, RecordPlan, limit};
use super::plan::{AvroPlan, Node, SCALE_MAX, Unit};
use crate::value::column::{Typed, hexadecimal, write_json_text};

/// Records within records.
const DEPTH_MAX: usize = 100;

/// Items of a message that take no bytes, such as nulls.
const EMPTY_ITEMS_MAX: usize = 65_536;

type Read<T> = Result<T, String>;

impl RecordPlan for AvroPlan {
    fn columns(&self, within: Option<&str>) -> Vec<Field> {
        AvroPlan::columns(self, within)
    }

    fn read<'m>(&'m self, body: &'m [u8], fields: &mut RecordFields<'m>) -> Read<&'m FieldNames> {
        let mut datum = Datum::new(body);
        let mut place = self.top;
        if let Node::Union(variants) = self.node(place) {
            place = datum.variant(variants)?;
        }
        let (Node::Record(of), Some(names)) = (self.node(place), self.names.get(&place)) else {
            return Err("it is no record".to_owned());
        };
        fields.values.reserve_exact(of.len());
        for (_, place) in of {
            let value = self.value(*place, &mut datum, &mut fields.written)?;
            fields.values.push(value);
        }
        datum.finish()?;
        Ok(names)
    }

    fn json(&self, body: &[u8]) -> Read<String> {
        let mut datum = Datum::new(body);
        let mut json = String::with_capacity(body.len() * 2);
        self.write_json(self.top, &mut datum, 0, &mut json)?;
        datum.finish()?;
        Ok(json)
    }
}

/// A value that is not nested.
enum Simple<'m> {
    Typed(Typed<'m>),
    Text(String),
}

impl AvroPlan {
    fn node(&self, place: usize) -> &Node {
        self.nodes.get(place).unwrap_or(&Node::Null)
    }

    fn value<'m>(
        &'m self,
        place: usize,
        datum: &mut Datum<'m>,
        written: &mut String,
    ) -> Read<FieldValue<'m>> {
        let start = written.len();
        match self.node(place) {
            Node::Union(variants) => {
                let variant = datum.variant(variants)?;
                match self.node(variant) {
                    Node::Union(_) => Err("a union has a union in it".to_owned()),
                    _ => self.value(variant, datum, written),
                }
            }
            Node::Record(_) | Node::Array(_) | Node::Map(_) => {
                self.write_json(place, datum, 1, written)?;
                Ok(FieldValue::Json(start..written.len()))
            }
            node => Ok(match simple(node, datum)? {
                Simple::Typed(value) => FieldValue::Said(value),
                Simple::Text(text) => {
                    written.push_str(&text);
                    FieldValue::Text(start..written.len())
                }
            }),
        }
    }

    fn write_json<'m>(
        &'m self,
        place: usize,
        datum: &mut Datum<'m>,
        depth: usize,
        json: &mut String,
    ) -> Read<()> {
        if depth > DEPTH_MAX {
            return Err(format!("records lie more than {DEPTH_MAX} deep"));
        }
        limit(json)?;
        match self.node(place) {
            Node::Union(variants) => {
                let variant = datum.variant(variants)?;
                self.write_json(variant, datum, depth + 1, json)?;
            }
            Node::Record(fields) => {
                json.push('{');
                for (index, (name, place)) in fields.iter().enumerate() {
                    if index > 0 {
                        json.push(',');
                    }
                    write_json_text(json, name);
                    json.push(':');
                    self.write_json(*place, datum, depth + 1, json)?;
                }
                json.push('}');
            }
            Node::Array(items) => {
                json.push('[');
                let mut is_first = true;
                datum.items(|datum| {
                    if !std::mem::take(&mut is_first) {
                        json.push(',');
                    }
                    self.write_json(*items, datum, depth + 1, json)
                })?;
                json.push(']');
            }
            Node::Map(values) => {
                // In an order of their own: that of writers' maps is none.
                let mut members = BTreeMap::new();
                datum.items(|datum| {
                    let key = datum.text()?;
                    let mut value = String::new();
                    self.write_json(*values, datum, depth + 1, &mut value)?;
                    members.insert(key, value);
                    Ok(())
                })?;
                json.push('{');
                for (index, (key, value)) in members.iter().enumerate() {
                    if index > 0 {
                        json.push(',');
                    }
                    write_json_text(json, key);
                    json.push(':');
                    json.push_str(value);
                }
                json.push('}');
            }
            node => match simple(node, datum)? {
                Simple::Typed(value) => value.write_json(json),
                Simple::Text(text) => write_json_text(json, &text),
            },
        }
        Ok(())
    }
}

fn simple<'m>(node: &'m Node, datum: &mut Datum<'m>) -> Read<Simple<'m>> {
    let typed = match node {
        Node::Null => Typed::Null,
        Node::Boolean => match datum.array::<1>()? {
            [0] => Typed::Boolean(false),
            [1] => Typed::Boolean(true),
            [other] => return Err(format!("a boolean is {other}")),
        },
        Node::Int => Typed::Integer(i64::from(datum.int()?)),
        Node::Long => Typed::Integer(datum.long()?),
        Node::Float => Typed::Real(f32::from_le_bytes(datum.array()?)),
        Node::Double => Typed::Double(f64::from_le_bytes(datum.array()?)),
        Node::Bytes => Typed::Bytes(datum.sized()?),
        Node::Text => Typed::Text(datum.text()?),
        Node::Fixed(size) => Typed::Bytes(datum.take(*size)?),
        Node::Enum(symbols) => {
            let index = datum.long()?;
            let symbol = usize::try_from(index).ok().and_then(|at| symbols.get(at));
            match symbol {
                Some(symbol) => Typed::Text(symbol),
                None => return Err(format!("an enum has no symbol {index}")),
            }
        }
        Node::Decimal { scale, fixed, .. } => {
            let bytes = match fixed {
                Some(size) => datum.take(*size)?,
                None => datum.sized()?,
            };
            match unscaled(bytes) {
                Some(unscaled) => Typed::Decimal(unscaled, *scale),
                None => return Ok(Simple::Text(hexadecimal_text(bytes))),
            }
        }
        Node::BigDecimal => return big_decimal(datum.sized()?).map(Simple::Text),
        Node::UuidText => Typed::Text(datum.text()?),
        Node::UuidBytes => return uuid(datum.sized()?).map(Simple::Text),
        Node::UuidFixed => return uuid(datum.take(16)?).map(Simple::Text),
        Node::Date => Typed::Date(datum.int()?),
        Node::Time(Unit::Milliseconds) => Typed::Time(i64::from(datum.int()?) * 1000),
        Node::Time(unit) => microseconds(datum.long()?, *unit).map_or(Typed::Null, Typed::Time),
        Node::Instant(unit) => moment(datum.long()?, *unit).map_or(Typed::Null, Typed::Instant),
        Node::Timestamp(unit) => moment(datum.long()?, *unit).map_or(Typed::Null, Typed::Timestamp),
        Node::Duration => {
            let [a, b, c, d, e, f, g, h, i, j, k, l] = datum.array::<12>()?;
            return Ok(Simple::Text(format!(
                "{} mons {} days {} ms",
                u32::from_le_bytes([a, b, c, d]),
                u32::from_le_bytes([e, f, g, h]),
                u32::from_le_bytes([i, j, k, l])
            )));
        }
        Node::Array(_) | Node::Map(_) | Node::Union(_) | Node::Record(_) => {
            return Err("a value is nested where none can be".to_owned());
        }
    };
    Ok(Simple::Typed(typed))
}

fn microseconds(count: i64, unit: Unit) -> Option<i64> {
    match unit {
        Unit::Milliseconds => count.checked_mul(1000),
        Unit::Microseconds => Some(count),
        Unit::Nanoseconds => Some(count.div_euclid(1000)),
    }
}

/// A time that calendars have.
fn moment(count: i64, unit: Unit) -> Option<i64> {
    let micros = microseconds(count, unit)?;
    chrono::DateTime::from_timestamp_micros(micros).map(|_| micros)
}

/// A number of two's complement.
fn unscaled(bytes: &[u8]) -> Option<i128> {
    let negative = bytes.first().is_some_and(|first| first & 0x80 != 0);
    let mut whole = [if negative { 0xff } else { 0 }; 16];
    let start = 16_usize.checked_sub(bytes.len())?;
    whole[start..].copy_from_slice(bytes);
    Some(i128::from_be_bytes(whole))
}

fn hexadecimal_text(bytes: &[u8]) -> String {
    let mut text = String::new();
    hexadecimal(&mut text, bytes);
    text
}

fn uuid(bytes: &[u8]) -> Read<String> {
    let uuid = uuid::Uuid::from_slice(bytes);
    uuid.map(|uuid| uuid.to_string())
        .map_err(|_| format!("a UUID has {} bytes", bytes.len()))
}

/// A decimal that brings its scale along.
fn big_decimal(bytes: &[u8]) -> Read<String> {
    let mut datum = Datum::new(bytes);
    let digits = datum.sized()?;
    let scale = datum.long()?;
    match (unscaled(digits), u32::try_from(scale)) {
        (Some(unscaled), Ok(scale)) if scale <= SCALE_MAX => {
            Ok(Typed::Decimal(unscaled, scale).text())
        }
        _ => Ok(format!(
            "{}e{}",
            hexadecimal_text(digits),
            -i128::from(scale)
        )),
    }
}

/// What is left of a datum.
struct Datum<'m> {
    rest: &'m [u8],
    empty_items: usize,
}

impl<'m> Datum<'m> {
    fn new(rest: &'m [u8]) -> Self {
        let empty_items = EMPTY_ITEMS_MAX;
        Self { rest, empty_items }
    }

    fn finish(&self) -> Read<()> {
        match self.rest.len() {
            0 => Ok(()),
            left => Err(format!("{left} bytes are left over")),
        }
    }

    fn take(&mut self, count: usize) -> Read<&'m [u8]> {
        let (taken, rest) = self
            .rest
            .split_at_checked(count)
            .ok_or_else(|| "it ends within a value".to_owned())?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Read<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn long(&mut self) -> Read<i64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let [byte] = self.array::<1>()?;
            if shift == 63 && byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok((value >> 1) as i64 ^ -((value & 1) as i64));
            }
        }
        Err("a number has too many bytes".to_owned())
    }

    fn int(&mut self) -> Read<i32> {
        let long = self.long()?;
        i32::try_from(long).map_err(|_| format!("an int is {long}"))
    }

    fn sized(&mut self) -> Read<&'m [u8]> {
        let count = self.long()?;
        let count = usize::try_from(count).map_err(|_| format!("a length is {count}"))?;
        self.take(count)
    }

    fn text(&mut self) -> Read<&'m str> {
        std::str::from_utf8(self.sized()?).map_err(|_| "a text is not UTF-8".to_owned())
    }

    fn variant(&mut self, variants: &[usize]) -> Read<usize> {
        let index = self.long()?;
        let variant = usize::try_from(index).ok().and_then(|at| variants.get(at));
        variant
            .copied()
            .ok_or_else(|| format!("a union has no variant {index}"))
    }

    /// Calls `on_item` for each item of an array or a map.
    fn items(&mut self, mut on_item: impl FnMut(&mut Self) -> Read<()>) -> Read<()> {
        loop {
            let count = self.long()?;
            if count == 0 {
                return Ok(());
            }
            if count < 0 {
                // The size of the block, for whoever skips it.
                self.long()?;
            }
            for _ in 0..count.unsigned_abs() {
                let before = self.rest.len();
                on_item(self)?;
                if self.rest.len() == before {
                    self.empty_items = self
                        .empty_items
                        .checked_sub(1)
                        .ok_or_else(|| "it has too many empty items".to_owned())?;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use apache_avro::types::Value;
    use apache_avro::writer::datum::GenericDatumWriter;
    use apache_avro::{Schema, schema::SchemaKind};
    use boathouse_catalog::types::ColumnType;

    use super::*;

    fn written(schema: &str, value: Value) -> Vec<u8> {
        let schema = Schema::parse_str(schema).unwrap();
        assert_eq!(SchemaKind::from(&schema), SchemaKind::Record);
        let writer = GenericDatumWriter::builder(&schema).build().unwrap();
        writer.write_value_to_vec(value).unwrap()
    }

    const EVENT: &str = r#"{"type":"record","name":"r","fields":[
        {"name":"paid","type":{"type":"bytes","logicalType":"decimal","precision":10,"scale":2}},
        {"name":"day","type":{"type":"int","logicalType":"date"}},
        {"name":"at","type":["null",{"type":"long","logicalType":"timestamp-millis"}]},
        {"name":"nan","type":"double"},
        {"name":"tags","type":{"type":"map","values":"long"}},
        {"name":"id","type":{"type":"string","logicalType":"uuid"}},
        {"name":"raw","type":{"type":"fixed","name":"two","size":2}},
        {"name":"next","type":["null","r"]}
    ]}"#;

    fn event(next: Value) -> Value {
        let tags = [
            ("b".to_owned(), Value::Long(2)),
            ("a".to_owned(), Value::Long(1)),
        ];
        let uuid = "550e8400-e29b-41d4-a716-446655440000".parse().unwrap();
        Value::Record(vec![
            ("paid".into(), Value::Decimal(vec![0xff, 0x85].into())),
            ("day".into(), Value::Date(-1)),
            (
                "at".into(),
                Value::Union(1, Box::new(Value::TimestampMillis(1500))),
            ),
            ("nan".into(), Value::Double(f64::NAN)),
            ("tags".into(), Value::Map(tags.into_iter().collect())),
            ("id".into(), Value::Uuid(uuid)),
            ("raw".into(), Value::Fixed(2, vec![1, 255])),
            ("next".into(), next),
        ])
    }

    #[test]
    fn values_have_the_types_of_their_schema() {
        let plan = AvroPlan::compile(EVENT, &[]).unwrap();
        let none = || Value::Union(0, Box::new(Value::Null));
        let datum = written(EVENT, event(Value::Union(1, Box::new(event(none())))));
        let mut fields = RecordFields::default();
        plan.read(&datum, &mut fields).unwrap();
        assert_eq!(fields.values[0], FieldValue::Said(Typed::Decimal(-123, 2)));
        assert_eq!(fields.values[1], FieldValue::Said(Typed::Date(-1)));
        assert_eq!(
            fields.values[2],
            FieldValue::Said(Typed::Instant(1_500_000))
        );
        assert_eq!(fields.values[6], FieldValue::Said(Typed::Bytes(&[1, 255])));
        let inner = r#"{"paid":"-1.23","day":"1969-12-31","at":"1970-01-01T00:00:01.500000Z","nan":"NaN","tags":{"a":1,"b":2},"id":"550e8400-e29b-41d4-a716-446655440000","raw":"\\x01ff","next":null}"#;
        assert_eq!(fields.written, format!(r#"{{"a":1,"b":2}}{inner}"#));
        assert_eq!(plan.json(&written(EVENT, event(none()))).unwrap(), inner);
        let types: Vec<String> = plan
            .columns(None)
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
                "jsonb",
                "uuid",
                "bytea",
                "jsonb"
            ]
        );
    }

    #[test]
    fn a_datum_cut_anywhere_is_none() {
        let plan = AvroPlan::compile(EVENT, &[]).unwrap();
        let datum = written(EVENT, event(Value::Union(0, Box::new(Value::Null))));
        for length in 0..datum.len() {
            let mut fields = RecordFields::default();
            assert!(
                plan.read(&datum[..length], &mut fields).is_err(),
                "{length}"
            );
        }
        let mut longer = datum;
        longer.push(0);
        let reason = plan.read(&longer, &mut RecordFields::default());
        assert_eq!(reason.unwrap_err(), "1 bytes are left over");
    }

    #[test]
    fn a_few_bytes_do_not_become_a_large_value() {
        let schema = r#"{"type":"record","name":"r","fields":[{"name":"a","type":{"type":"array","items":"null"}}]}"#;
        let plan = AvroPlan::compile(schema, &[]).unwrap();
        let bomb = [0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 0];
        let reason = plan.read(&bomb, &mut RecordFields::default());
        assert_eq!(reason.unwrap_err(), "it has too many empty items");
        let few = written(
            schema,
            Value::Record(vec![("a".into(), Value::Array(vec![Value::Null; 2]))]),
        );
        assert_eq!(plan.json(&few).unwrap(), r#"{"a":[null,null]}"#);
    }

    #[test]
    fn a_list_without_an_end_is_not_followed_for_ever() {
        let schema =
            r#"{"type":"record","name":"r","fields":[{"name":"next","type":["null","r"]}]}"#;
        let plan = AvroPlan::compile(schema, &[]).unwrap();
        let mut deep = vec![2; 5000];
        deep.push(0);
        let reason = plan.read(&deep, &mut RecordFields::default());
        assert_eq!(reason.unwrap_err(), "records lie more than 100 deep");
        let mut shallow = vec![2; 10];
        shallow.push(0);
        plan.read(&shallow, &mut RecordFields::default()).unwrap();
    }

    #[test]
    fn a_chain_of_records_may_be_long() {
        let mut records = vec![r#"{"type":"record","name":"r0","fields":[]}"#.to_owned()];
        for index in 1..2_000 {
            records.push(format!(
                r#"{{"type":"record","name":"r{index}","fields":[{{"name":"a","type":"r{}"}}]}}"#,
                index - 1
            ));
        }
        let plan = AvroPlan::compile(&format!("[{}]", records.join(",")), &[]).unwrap();
        assert_eq!(plan.names.len(), 2_000);
    }

    #[test]
    fn only_a_record_is_a_row() {
        let plan = AvroPlan::compile("\"string\"", &[]).unwrap();
        let datum = [2, b'a'];
        assert_eq!(plan.json(&datum).unwrap(), "\"a\"");
        let reason = plan.read(&datum, &mut RecordFields::default());
        assert_eq!(reason.unwrap_err(), "it is no record");
        let union =
            r#"["null",{"type":"record","name":"r","fields":[{"name":"a","type":"string"}]}]"#;
        let plan = AvroPlan::compile(union, &[]).unwrap();
        let mut fields = RecordFields::default();
        plan.read(&[2, 2, b'a'], &mut fields).unwrap();
        assert_eq!(fields.values, [FieldValue::Said(Typed::Text("a"))]);
    }
}
