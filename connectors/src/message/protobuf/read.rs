//! A message of Protobuf, by its plan.
//!
//! Scalars go into their places as they are met. What may be in the message in several parts (lists, maps, messages, whose parts
//! belong together) is put by, and becomes JSON at the end. In JSON the fields have the names of the file; 64-bit numbers are
//! numbers; fields that were not set are there when they have a default, and left out when they have none.

use std::borrow::Cow;
use std::collections::BTreeMap;

use arrow::datatypes::Field;

use super::super::schema::{FieldNames, FieldValue, RecordFields, RecordPlan, limit};
use super::plan::{FieldPlan, Kind, MessagePlan, ProtobufPlan, Shape, WellKnown};
use super::wire::{self, Wire};
use crate::value::column::{Typed, write_json_text};

/// Messages within messages, as Protobuf's own libraries have it.
const DEPTH_MAX: usize = 100;

type Read<T> = Result<T, String>;

impl RecordPlan for ProtobufPlan {
    fn columns(&self, within: Option<&str>) -> Vec<Field> {
        ProtobufPlan::columns(self, within)
    }

    fn read<'m>(&'m self, body: &'m [u8], fields: &mut RecordFields<'m>) -> Read<&'m FieldNames> {
        let Some(message) = self.messages.first() else {
            return Ok(&self.names);
        };
        let defaults = message.fields.iter().map(|field| default(field));
        fields.values.extend(defaults.map(FieldValue::Default));
        let mut parts: Vec<(u32, Wire<'m>)> = Vec::new();
        let mut rest = body;
        while !rest.is_empty() {
            let (number, wire) = wire::field(&mut rest)?;
            let Some(place) = message.place(number) else {
                continue;
            };
            let Some(field) = message.fields.get(place as usize) else {
                continue;
            };
            if !field.siblings.is_empty() {
                parts.retain(|(other, _)| !field.siblings.contains(other));
                for other in &field.siblings {
                    if let Some(value) = fields.values.get_mut(*other as usize) {
                        *value = FieldValue::Default(Typed::Null);
                    }
                }
            }
            if is_scalar(field) {
                if let Some(scalar) = scalar(field, &wire)?
                    && let Some(value) = fields.values.get_mut(place as usize)
                {
                    *value = FieldValue::Said(scalar);
                }
            } else {
                parts.push((place, wire));
            }
        }
        parts.sort_by_key(|(place, _)| *place);
        for part in parts.chunk_by(|(one, _), (other, _)| one == other) {
            let Some((place, _)) = part.first() else {
                continue;
            };
            if let Some(field) = message.fields.get(*place as usize)
                && let Some(value) = self.nested(field, part, &mut fields.written)?
                && let Some(kept) = fields.values.get_mut(*place as usize)
            {
                *kept = value;
            }
        }
        Ok(&self.names)
    }

    fn json(&self, body: &[u8]) -> Read<String> {
        let mut json = String::with_capacity(body.len() * 2);
        match self.messages.first() {
            Some(message) => self.write_fields(message, body, 0, &mut json)?,
            None => json.push_str("{}"),
        }
        Ok(json)
    }
}

fn is_scalar(field: &FieldPlan) -> bool {
    matches!(field.shape, Shape::Optional | Shape::Implicit)
        && !matches!(field.kind, Kind::Message(_))
}

/// What a field is that was not set.
fn default(field: &FieldPlan) -> Typed<'_> {
    match field.shape {
        Shape::Optional => Typed::Null,
        Shape::List => Typed::Json("[]"),
        Shape::Map => Typed::Json("{}"),
        Shape::Implicit => zero(&field.kind),
    }
}

fn zero(kind: &Kind) -> Typed<'_> {
    match kind {
        Kind::Double => Typed::Double(0.0),
        Kind::Float => Typed::Real(0.0),
        Kind::Uint32 | Kind::Uint64 | Kind::Fixed32 | Kind::Fixed64 => Typed::Unsigned(0),
        Kind::Int32
        | Kind::Int64
        | Kind::Sint32
        | Kind::Sint64
        | Kind::Sfixed32
        | Kind::Sfixed64 => Typed::Integer(0),
        Kind::Bool => Typed::Boolean(false),
        Kind::Text => Typed::Text(""),
        Kind::Bytes => Typed::Bytes(&[]),
        Kind::Enum(names) => names
            .get(&0)
            .map_or(Typed::Integer(0), |name| Typed::Text(name)),
        Kind::Message(_) => Typed::Null,
    }
}

fn zigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

/// The value of a field that is no message. `None` when it is written as one of another type, which is then passed over, as
/// Protobuf has it.
#[inline]
fn scalar<'m>(field: &'m FieldPlan, wire: &Wire<'m>) -> Read<Option<Typed<'m>>> {
    Ok(Some(match (&field.kind, wire) {
        (Kind::Int32, Wire::Varint(value)) => Typed::Integer(i64::from(*value as i32)),
        (Kind::Int64, Wire::Varint(value)) => Typed::Integer(*value as i64),
        (Kind::Uint32, Wire::Varint(value)) => Typed::Unsigned(u64::from(*value as u32)),
        (Kind::Uint64, Wire::Varint(value)) => Typed::Unsigned(*value),
        (Kind::Sint32, Wire::Varint(value)) => {
            Typed::Integer(i64::from(zigzag(u64::from(*value as u32)) as i32))
        }
        (Kind::Sint64, Wire::Varint(value)) => Typed::Integer(zigzag(*value)),
        (Kind::Bool, Wire::Varint(value)) => Typed::Boolean(*value != 0),
        (Kind::Enum(names), Wire::Varint(value)) => {
            let number = *value as i32;
            match names.get(&number) {
                Some(name) => Typed::Text(name),
                None => Typed::Integer(i64::from(number)),
            }
        }
        (Kind::Fixed32, Wire::Fixed32(value)) => Typed::Unsigned(u64::from(*value)),
        (Kind::Sfixed32, Wire::Fixed32(value)) => Typed::Integer(i64::from(*value as i32)),
        (Kind::Float, Wire::Fixed32(value)) => Typed::Real(f32::from_bits(*value)),
        (Kind::Fixed64, Wire::Fixed64(value)) => Typed::Unsigned(*value),
        (Kind::Sfixed64, Wire::Fixed64(value)) => Typed::Integer(*value as i64),
        (Kind::Double, Wire::Fixed64(value)) => Typed::Double(f64::from_bits(*value)),
        (Kind::Text, Wire::Bytes(bytes)) => Typed::Text(
            std::str::from_utf8(bytes)
                .map_err(|_| format!("field \"{}\" is not UTF-8", field.name))?,
        ),
        (Kind::Bytes, Wire::Bytes(bytes)) => Typed::Bytes(bytes),
        _ => return Ok(None),
    }))
}

/// The next value of several that are written without a tag before each.
fn packed<'m>(kind: &Kind, rest: &mut &'m [u8]) -> Read<Option<Wire<'m>>> {
    Ok(Some(match kind {
        Kind::Double | Kind::Fixed64 | Kind::Sfixed64 => Wire::Fixed64(wire::fixed64(rest)?),
        Kind::Float | Kind::Fixed32 | Kind::Sfixed32 => Wire::Fixed32(wire::fixed32(rest)?),
        Kind::Text | Kind::Bytes | Kind::Message(_) => return Ok(None),
        _ => Wire::Varint(wire::varint(rest)?),
    }))
}

/// The parts of a message, which belong together.
fn joined<'m>(parts: &[(u32, Wire<'m>)]) -> Option<Cow<'m, [u8]>> {
    let mut bodies = parts.iter().filter_map(|(_, wire)| match wire {
        Wire::Bytes(body) | Wire::Group(body) => Some(*body),
        _ => None,
    });
    let first = bodies.next()?;
    let mut whole = Cow::Borrowed(first);
    for body in bodies {
        whole.to_mut().extend_from_slice(body);
    }
    Some(whole)
}

impl ProtobufPlan {
    /// The value of a field that is a message, a list or a map. `None` when it is written as one of another type.
    fn nested<'m>(
        &'m self,
        field: &'m FieldPlan,
        parts: &[(u32, Wire<'m>)],
        written: &mut String,
    ) -> Read<Option<FieldValue<'m>>> {
        let start = written.len();
        if let (Shape::Optional | Shape::Implicit, Kind::Message(place)) =
            (field.shape, &field.kind)
            && let Some(message) = self.messages.get(*place)
        {
            let Some(body) = joined(parts) else {
                return Ok(None);
            };
            match message.known {
                WellKnown::Timestamp => {
                    if let Some(instant) = instant(message, &body)? {
                        return Ok(Some(FieldValue::Said(instant)));
                    }
                }
                WellKnown::Duration => {
                    if let Some(text) = duration(message, &body)? {
                        written.push_str(&text);
                        return Ok(Some(FieldValue::Text(start..written.len())));
                    }
                }
                // Its parts are as good as one whole, so what is in it is borrowed from the last that has it.
                WellKnown::Wrapper => return wrapped(message, parts).map(Some),
                _ => {}
            }
        }
        match self.write_parts(field, parts, 1, written)? {
            true => Ok(Some(FieldValue::Json(start..written.len()))),
            false => Ok(None),
        }
    }

    /// Writes all parts of a field as one value; false when there is none in them.
    fn write_parts(
        &self,
        field: &FieldPlan,
        parts: &[(u32, Wire<'_>)],
        depth: usize,
        json: &mut String,
    ) -> Read<bool> {
        match field.shape {
            Shape::Map => self.write_map(field, parts, depth, json)?,
            Shape::List => {
                json.push('[');
                let start = json.len();
                for (_, wire) in parts {
                    if let Wire::Bytes(mut rest) = *wire
                        && !matches!(field.kind, Kind::Text | Kind::Bytes | Kind::Message(_))
                    {
                        while !rest.is_empty() {
                            let Some(one) = packed(&field.kind, &mut rest)? else {
                                break;
                            };
                            separate(start, json);
                            self.write_one(field, &[(0, one)], depth, json)?;
                        }
                        continue;
                    }
                    let before = json.len();
                    separate(start, json);
                    if !self.write_one(field, &[(0, *wire)], depth, json)? {
                        json.truncate(before);
                    }
                }
                json.push(']');
            }
            Shape::Optional | Shape::Implicit => return self.write_one(field, parts, depth, json),
        }
        Ok(true)
    }

    /// Writes a value that is no list and no map.
    fn write_one(
        &self,
        field: &FieldPlan,
        parts: &[(u32, Wire<'_>)],
        depth: usize,
        json: &mut String,
    ) -> Read<bool> {
        if let Kind::Message(place) = field.kind {
            let (Some(body), Some(message)) = (joined(parts), self.messages.get(place)) else {
                return Ok(false);
            };
            self.write_message(message, &body, depth, json)?;
            return Ok(true);
        }
        // The last counts.
        for (_, wire) in parts.iter().rev() {
            if let Some(value) = scalar(field, wire)? {
                value.write_json(json);
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn write_map(
        &self,
        field: &FieldPlan,
        parts: &[(u32, Wire<'_>)],
        depth: usize,
        json: &mut String,
    ) -> Read<()> {
        let Kind::Message(place) = field.kind else {
            return Ok(());
        };
        let entry = self.messages.get(place).map(|entry| &entry.fields[..]);
        let Some([key_field, value_field]) = entry else {
            return Ok(());
        };
        // In an order of their own: that of writers' maps is none.
        let mut members = BTreeMap::new();
        for (_, wire) in parts {
            let Wire::Bytes(mut rest) = *wire else {
                continue;
            };
            let mut key = zero(&key_field.kind);
            let mut values = Vec::new();
            while !rest.is_empty() {
                match wire::field(&mut rest)? {
                    (1, wire) => key = scalar(key_field, &wire)?.unwrap_or(key),
                    (2, wire) => values.push((2, wire)),
                    _ => {}
                }
            }
            let mut value = String::new();
            if !self.write_one(value_field, &values, depth, &mut value)? {
                match value_field.kind {
                    Kind::Message(place) => {
                        if let Some(message) = self.messages.get(place) {
                            self.write_message(message, &[], depth, &mut value)?;
                        }
                    }
                    ref kind => zero(kind).write_json(&mut value),
                }
            }
            members.insert(key.text(), value);
        }
        json.push('{');
        let start = json.len();
        for (key, value) in &members {
            separate(start, json);
            write_json_text(json, key);
            json.push(':');
            json.push_str(value);
        }
        json.push('}');
        Ok(())
    }

    fn write_message(
        &self,
        message: &MessagePlan,
        body: &[u8],
        depth: usize,
        json: &mut String,
    ) -> Read<()> {
        if depth > DEPTH_MAX {
            return Err(format!("messages lie more than {DEPTH_MAX} deep"));
        }
        match message.known {
            WellKnown::Timestamp => {
                if let Some(instant) = instant(message, body)? {
                    instant.write_json(json);
                    return Ok(());
                }
            }
            WellKnown::Duration => {
                if let Some(text) = duration(message, body)? {
                    write_json_text(json, &text);
                    return Ok(());
                }
            }
            WellKnown::Wrapper => {
                if let Some(field) = message.fields.first() {
                    let parts = parts_of(message, body)?;
                    if !self.write_one(field, &parts, depth, json)? {
                        zero(&field.kind).write_json(json);
                    }
                    return Ok(());
                }
            }
            // Their only field is what they stand for, and of a value the one that is set.
            WellKnown::Struct | WellKnown::ListValue => {
                if let Some(field) = message.fields.first() {
                    let parts = parts_of(message, body)?;
                    self.write_parts(field, &parts, depth + 1, json)?;
                    return Ok(());
                }
            }
            WellKnown::Value => {
                let parts = parts_of(message, body)?;
                let set = parts.last().map(|(place, _)| *place);
                let field = set.and_then(|place| message.fields.get(place as usize));
                match field {
                    Some(field) if field.name.as_ref() != "null_value" => {
                        if !self.write_one(field, &parts, depth + 1, json)? {
                            json.push_str("null");
                        }
                    }
                    _ => json.push_str("null"),
                }
                return Ok(());
            }
            WellKnown::None => {}
        }
        self.write_fields(message, body, depth, json)
    }

    fn write_fields(
        &self,
        message: &MessagePlan,
        body: &[u8],
        depth: usize,
        json: &mut String,
    ) -> Read<()> {
        limit(json)?;
        let parts = parts_of(message, body)?;
        let mut parts = parts.as_slice();
        json.push('{');
        let start = json.len();
        for (place, field) in (0_u32..).zip(&message.fields) {
            let count = parts.iter().take_while(|(of, _)| *of == place).count();
            let (own, others) = parts.split_at(count);
            parts = others;
            let before = json.len();
            separate(start, json);
            write_json_text(json, &field.name);
            json.push(':');
            if !own.is_empty() && self.write_parts(field, own, depth + 1, json)? {
                continue;
            }
            match default(field) {
                Typed::Null => json.truncate(before),
                value => value.write_json(json),
            }
        }
        json.push('}');
        Ok(())
    }
}

fn separate(start: usize, json: &mut String) {
    if json.len() > start {
        json.push(',');
    }
}

/// The known fields of a message, in the order of the plan; of a `oneof` only the one that was set last.
fn parts_of<'m>(message: &MessagePlan, body: &'m [u8]) -> Read<Vec<(u32, Wire<'m>)>> {
    let mut parts: Vec<(u32, Wire<'m>)> = Vec::new();
    let mut rest = body;
    while !rest.is_empty() {
        let (number, wire) = wire::field(&mut rest)?;
        let Some(place) = message.place(number) else {
            continue;
        };
        if let Some(field) = message.fields.get(place as usize)
            && !field.siblings.is_empty()
        {
            parts.retain(|(other, _)| !field.siblings.contains(other));
        }
        parts.push((place, wire));
    }
    parts.sort_by_key(|(place, _)| *place);
    Ok(parts)
}

/// What a wrapper is around.
fn wrapped<'m>(message: &'m MessagePlan, parts: &[(u32, Wire<'m>)]) -> Read<FieldValue<'m>> {
    let Some(field) = message.fields.first() else {
        return Ok(FieldValue::Said(Typed::Null));
    };
    let mut value = zero(&field.kind);
    for (_, wire) in parts {
        let (Wire::Bytes(mut rest) | Wire::Group(mut rest)) = *wire else {
            continue;
        };
        while !rest.is_empty() {
            if let (1, wire) = wire::field(&mut rest)? {
                value = scalar(field, &wire)?.unwrap_or(value);
            }
        }
    }
    Ok(FieldValue::Said(value))
}

/// Seconds and nanoseconds, as both times and durations have them.
fn seconds(message: &MessagePlan, body: &[u8]) -> Read<(i64, i32)> {
    let (mut seconds, mut nanoseconds) = (0_i64, 0_i32);
    let parts = parts_of(message, body)?;
    for (place, wire) in parts {
        match (place, wire) {
            (0, Wire::Varint(value)) => seconds = value as i64,
            (1, Wire::Varint(value)) => nanoseconds = value as i32,
            _ => {}
        }
    }
    Ok((seconds, nanoseconds))
}

/// `None` when it is a time that Protobuf does not have.
fn instant(message: &MessagePlan, body: &[u8]) -> Read<Option<Typed<'static>>> {
    /// The years 1 to 9999.
    const SECONDS: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;
    let (seconds, nanoseconds) = seconds(message, body)?;
    if !SECONDS.contains(&seconds) || !(0..1_000_000_000).contains(&nanoseconds) {
        return Ok(None);
    }
    let micros = seconds * 1_000_000 + i64::from(nanoseconds / 1000);
    Ok(Some(Typed::Instant(micros)))
}

/// Seconds as decimal digits with an `s`. `None` when it is a duration that Protobuf does not have.
fn duration(message: &MessagePlan, body: &[u8]) -> Read<Option<String>> {
    let (seconds, nanoseconds) = seconds(message, body)?;
    let is_valid = nanoseconds.unsigned_abs() < 1_000_000_000
        && seconds.signum() * i64::from(nanoseconds.signum()) >= 0;
    if !is_valid {
        return Ok(None);
    }
    let sign = if seconds < 0 || nanoseconds < 0 {
        "-"
    } else {
        ""
    };
    let whole = seconds.unsigned_abs();
    let digits = format!("{:09}", nanoseconds.unsigned_abs());
    Ok(Some(match digits.trim_end_matches('0') {
        "" => format!("{sign}{whole}s"),
        digits => format!("{sign}{whole}.{digits}s"),
    }))
}

#[cfg(test)]
mod tests {
    use boathouse_catalog::types::ColumnType;
    use prost_reflect::prost::Message;
    use prost_reflect::{DynamicMessage, MessageDescriptor, Value};

    use super::super::super::schema::RecordName;
    use super::super::compile;
    use super::*;

    const EVENT: &str = r#"syntax = "proto3";
        package shop;
        import "google/protobuf/timestamp.proto";
        import "google/protobuf/duration.proto";
        import "google/protobuf/wrappers.proto";
        import "google/protobuf/struct.proto";
        enum State { NEW = 0; PAID = 1; }
        message Line { string sku = 1; int32 qty = 2; optional string note = 3; }
        message Event {
          int64 id = 1;
          uint64 huge = 2;
          fixed32 mask = 3;
          sint32 delta = 4;
          bool ok = 5;
          float ratio = 6;
          double price = 7;
          string name = 8;
          bytes raw = 9;
          State state = 10;
          optional int32 maybe = 11;
          google.protobuf.Int64Value wrapped = 12;
          google.protobuf.Timestamp at = 13;
          google.protobuf.Duration took = 14;
          Line line = 15;
          repeated Line lines = 16;
          repeated sint64 numbers = 17;
          map<string, Line> by_name = 18;
          map<int32, double> by_number = 19;
          oneof payment { string card = 20; Line voucher = 2021; }
          google.protobuf.Struct extra = 22;
          google.protobuf.Value anything = 23;
          Event parent = 24;
        }"#;

    fn event() -> (MessageDescriptor, ProtobufPlan) {
        let name = RecordName::Name("shop.Event");
        let message = compile::message(EVENT, &[], name).unwrap();
        let plan = ProtobufPlan::of(&message);
        (message, plan)
    }

    /// The bytes of a message that is told as Protobuf's own JSON, and written by another library.
    fn written(message: &MessageDescriptor, text: &str) -> Vec<u8> {
        let mut json = serde_json::Deserializer::from_str(text);
        let dynamic = DynamicMessage::deserialize(message.clone(), &mut json).unwrap();
        dynamic.encode_to_vec()
    }

    fn shown(plan: &ProtobufPlan, body: &[u8]) -> Vec<String> {
        let mut fields = RecordFields::default();
        let names = plan.read(body, &mut fields).unwrap();
        assert_eq!(names.len(), fields.values.len());
        let one = |(name, value): (&std::sync::Arc<str>, &FieldValue<'_>)| match value {
            FieldValue::Said(value) => format!("{name} {value:?}"),
            FieldValue::Default(value) => format!("{name} ({value:?})"),
            FieldValue::Json(range) => format!("{name} {}", &fields.written[range.clone()]),
            FieldValue::Text(range) => format!("{name} '{}'", &fields.written[range.clone()]),
        };
        names.iter().zip(&fields.values).map(one).collect()
    }

    #[test]
    fn columns_have_the_types_of_the_file() {
        let (_, plan) = event();
        let columns: Vec<String> = plan
            .columns(None)
            .iter()
            .map(|field| {
                let column_type = ColumnType::from_field(field).sql_name();
                format!("{} {column_type}", field.name())
            })
            .collect();
        assert_eq!(
            columns,
            [
                "id bigint",
                "huge numeric(20,0)",
                "mask bigint",
                "delta integer",
                "ok boolean",
                "ratio real",
                "price double precision",
                "name text",
                "raw bytea",
                "state text",
                "maybe integer",
                "wrapped bigint",
                "at timestamp with time zone",
                "took text",
                "line jsonb",
                "lines jsonb",
                "numbers jsonb",
                "by_name jsonb",
                "by_number jsonb",
                "card text",
                "voucher jsonb",
                "extra jsonb",
                "anything jsonb",
                "parent jsonb"
            ]
        );
    }

    #[test]
    fn what_is_not_set_is_its_default_or_null() {
        let (_, plan) = event();
        assert_eq!(
            shown(&plan, &[]),
            [
                "id (Integer(0))",
                "huge (Unsigned(0))",
                "mask (Unsigned(0))",
                "delta (Integer(0))",
                "ok (Boolean(false))",
                "ratio (Real(0.0))",
                "price (Double(0.0))",
                "name (Text(\"\"))",
                "raw (Bytes([]))",
                "state (Text(\"NEW\"))",
                "maybe (Null)",
                "wrapped (Null)",
                "at (Null)",
                "took (Null)",
                "line (Null)",
                "lines (Json(\"[]\"))",
                "numbers (Json(\"[]\"))",
                "by_name (Json(\"{}\"))",
                "by_number (Json(\"{}\"))",
                "card (Null)",
                "voucher (Null)",
                "extra (Null)",
                "anything (Null)",
                "parent (Null)"
            ]
        );
    }

    #[test]
    fn what_is_set_has_its_value() {
        let (message, plan) = event();
        let body = written(
            &message,
            r#"{"id": "-7", "huge": "18446744073709551615", "mask": 4294967295, "delta": -3, "ok": true,
                "ratio": 1.5, "price": 0.1, "name": "é\"", "raw": "AP8=", "state": "PAID", "maybe": 0,
                "wrapped": "0", "at": "2024-05-17T08:00:00.000001Z", "took": "-1.500s",
                "line": {"sku": "a", "note": ""}, "lines": [{}, {"qty": 2}], "numbers": ["-1", "300"],
                "byName": {"b": {}, "a": {"qty": 1}}, "byNumber": {"-5": 0.5}, "voucher": {"sku": "v"},
                "extra": {"x": [1, null, {"y": "z"}]}, "anything": null,
                "parent": {"id": "1", "card": "c", "took": "3s", "wrapped": "9", "at": "1970-01-01T00:00:00Z"}}"#,
        );
        let shown = shown(&plan, &body);
        assert_eq!(
            shown[..23],
            [
                "id Integer(-7)",
                "huge Unsigned(18446744073709551615)",
                "mask Unsigned(4294967295)",
                "delta Integer(-3)",
                "ok Boolean(true)",
                "ratio Real(1.5)",
                "price Double(0.1)",
                "name Text(\"é\\\"\")",
                "raw Bytes([0, 255])",
                "state Text(\"PAID\")",
                "maybe Integer(0)",
                "wrapped Integer(0)",
                "at Instant(1715932800000001)",
                "took '-1.5s'",
                r#"line {"sku":"a","qty":0,"note":""}"#,
                r#"lines [{"sku":"","qty":0},{"sku":"","qty":2}]"#,
                "numbers [-1,300]",
                r#"by_name {"a":{"sku":"","qty":1},"b":{"sku":"","qty":0}}"#,
                r#"by_number {"-5":0.5}"#,
                "card (Null)",
                r#"voucher {"sku":"v","qty":0}"#,
                r#"extra {"x":[1,null,{"y":"z"}]}"#,
                "anything null",
            ]
        );
        let parent: serde_json::Value =
            serde_json::from_str(shown[23].strip_prefix("parent ").unwrap()).unwrap();
        assert_eq!(parent["card"], "c");
        assert_eq!(parent["took"], "3s");
        assert_eq!(parent["wrapped"], 9);
        assert_eq!(parent["at"], "1970-01-01T00:00:00.000000Z");
        assert_eq!(parent.get("maybe"), None);
        let whole: serde_json::Value = serde_json::from_str(&plan.json(&body).unwrap()).unwrap();
        assert_eq!(whole["huge"], 18_446_744_073_709_551_615_u64);
        assert_eq!(whole["raw"], "\\x00ff");
        assert_eq!(whole["parent"], parent);
    }

    #[test]
    fn a_message_cut_anywhere_is_read_or_refused() {
        let (message, plan) = event();
        let body = written(
            &message,
            r#"{"lines": [{"sku": "abc", "note": "x"}], "numbers": ["1"], "byNumber": {"1": 2}, "at": "2024-05-17T08:00:00Z"}"#,
        );
        let mut refused = 0;
        for length in 0..body.len() {
            let read = plan.read(&body[..length], &mut RecordFields::default());
            let json = plan.json(&body[..length]);
            assert_eq!(read.is_err(), json.is_err(), "{length}");
            refused += usize::from(read.is_err());
        }
        assert!(refused > body.len() / 2);
    }

    #[test]
    fn parts_of_a_field_belong_together() {
        let (message, plan) = event();
        let mut body = written(
            &message,
            r#"{"id": "1", "line": {"sku": "a", "qty": 1}, "numbers": ["1"], "card": "c"}"#,
        );
        body.extend(written(
            &message,
            r#"{"id": "2", "line": {"qty": 5}, "numbers": ["2"], "voucher": {"sku": "v"}}"#,
        ));
        // A number of a list by itself, and a field nobody knows.
        body.extend([0x88, 0x01, 0x06, 0xf8, 0x7f, 0x01]);
        let shown = shown(&plan, &body);
        assert_eq!(shown[0], "id Integer(2)");
        assert_eq!(shown[14], r#"line {"sku":"a","qty":5}"#);
        assert_eq!(shown[16], "numbers [1,2,3]");
        assert_eq!(shown[19], "card (Null)");
        assert_eq!(shown[20], r#"voucher {"sku":"v","qty":0}"#);
    }

    #[test]
    fn values_that_protobuf_does_not_have_are_kept_as_they_are() {
        let (message, plan) = event();
        let mut dynamic = DynamicMessage::new(message.clone());
        dynamic.set_field_by_name("state", Value::EnumNumber(9));
        let kind = message.get_field_by_name("at").unwrap().kind();
        let mut at = DynamicMessage::new(kind.as_message().unwrap().clone());
        at.set_field_by_name("seconds", Value::I64(i64::MAX));
        dynamic.set_field_by_name("at", Value::Message(at));
        let shown = shown(&plan, &dynamic.encode_to_vec());
        assert_eq!(shown[9], "state Integer(9)");
        assert_eq!(shown[12], r#"at {"seconds":9223372036854775807,"nanos":0}"#);
        let reason = plan.read(&[0x42, 1, 0xff], &mut RecordFields::default());
        assert_eq!(reason.unwrap_err(), "field \"name\" is not UTF-8");
    }

    #[test]
    fn messages_without_an_end_are_not_followed_for_ever() {
        let (_, plan) = event();
        let mut body = Vec::new();
        for _ in 0..2000 {
            let mut outer = vec![0xc2, 0x01];
            let mut length = body.len();
            while length >= 0x80 {
                outer.push((length & 0x7f) as u8 | 0x80);
                length >>= 7;
            }
            outer.push(length as u8);
            outer.extend(&body);
            body = outer;
        }
        let reason = plan.read(&body, &mut RecordFields::default());
        assert_eq!(reason.unwrap_err(), "messages lie more than 100 deep");
    }
}
