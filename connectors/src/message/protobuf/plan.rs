//! Descriptors, laid out for reading: every message once, and its fields by their numbers.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::Field;
use boathouse_catalog::types::ColumnType;
use prost_reflect::{Kind as Described, MessageDescriptor};

use super::super::schema::FieldNames;

/// A message, ready to read bytes.
pub(super) struct ProtobufPlan {
    /// The first is the one that is read.
    pub messages: Vec<MessagePlan>,
    pub names: FieldNames,
}

/// The fields of a message.
#[derive(Default)]
pub(super) struct MessagePlan {
    pub fields: Vec<FieldPlan>,
    numbers: Numbers,
    pub known: WellKnown,
}

/// The places of fields by their numbers.
#[derive(Default)]
struct Numbers {
    small: Vec<Option<u32>>,
    large: HashMap<u32, u32>,
}

/// Numbers up to here are looked up without a table of hashes.
const SMALL_MAX: u32 = 1024;

/// Messages of `google.protobuf` that stand for values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum WellKnown {
    #[default]
    None,
    Timestamp,
    Duration,
    /// Around a scalar that may be missing.
    Wrapper,
    /// JSON.
    Struct,
    Value,
    ListValue,
}

pub(super) struct FieldPlan {
    pub name: Arc<str>,
    pub kind: Kind,
    pub shape: Shape,
    /// The other members of its `oneof`.
    pub siblings: Vec<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// Missing, it is null.
    Optional,
    /// Missing, it has the default of its type.
    Implicit,
    List,
    Map,
}

pub(super) enum Kind {
    Double,
    Float,
    Int32,
    Int64,
    Uint32,
    Uint64,
    Sint32,
    Sint64,
    Fixed32,
    Fixed64,
    Sfixed32,
    Sfixed64,
    Bool,
    Text,
    Bytes,
    /// Names by their numbers.
    Enum(HashMap<i32, String>),
    /// The place of its plan.
    Message(usize),
}

impl ProtobufPlan {
    pub fn of(message: &MessageDescriptor) -> Self {
        let mut layout = Layout::default();
        layout.place(message);
        layout.finish();
        let names = layout.messages.first().map(|top| {
            let fields = top.fields.iter();
            fields.map(|field| Arc::clone(&field.name)).collect()
        });
        Self {
            messages: layout.messages,
            names: names.unwrap_or_else(|| Arc::from([])),
        }
    }

    /// The columns of a message's fields, or of those of the message in its field `within`.
    pub fn columns(&self, within: Option<&str>) -> Vec<Field> {
        let Some(mut message) = self.messages.first() else {
            return Vec::new();
        };
        if let Some(within) = within {
            let mut fields = message.fields.iter();
            let field = fields.find(|field| field.name.as_ref() == within);
            let inner = match field.map(|field| &field.kind) {
                Some(Kind::Message(place)) => self.messages.get(*place),
                _ => None,
            };
            match inner {
                Some(inner) => message = inner,
                None => return Vec::new(),
            }
        }
        let field = |field: &FieldPlan| self.column_type(field).to_field(field.name.as_ref(), true);
        message.fields.iter().map(field).collect()
    }

    fn column_type(&self, field: &FieldPlan) -> ColumnType {
        if matches!(field.shape, Shape::List | Shape::Map) {
            return ColumnType::Jsonb;
        }
        match &field.kind {
            Kind::Double => ColumnType::Double,
            Kind::Float => ColumnType::Real,
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => ColumnType::Integer,
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 | Kind::Uint32 | Kind::Fixed32 => {
                ColumnType::BigInt
            }
            Kind::Uint64 | Kind::Fixed64 => ColumnType::Numeric {
                precision: Some(20),
                scale: 0,
            },
            Kind::Bool => ColumnType::Boolean,
            Kind::Text | Kind::Enum(_) => ColumnType::Text,
            Kind::Bytes => ColumnType::Bytea,
            Kind::Message(place) => {
                let Some(message) = self.messages.get(*place) else {
                    return ColumnType::Jsonb;
                };
                match (message.known, message.fields.first()) {
                    (WellKnown::Timestamp, _) => ColumnType::TimestampTz,
                    (WellKnown::Duration, _) => ColumnType::Text,
                    (WellKnown::Wrapper, Some(inner)) => self.column_type(inner),
                    _ => ColumnType::Jsonb,
                }
            }
        }
    }
}

impl MessagePlan {
    /// The place of the field of that number.
    #[inline]
    pub fn place(&self, number: u32) -> Option<u32> {
        match self.numbers.small.get(number as usize) {
            Some(place) => *place,
            None => self.numbers.large.get(&number).copied(),
        }
    }
}

#[derive(Default)]
struct Layout {
    messages: Vec<MessagePlan>,
    placed: HashMap<String, usize>,
    /// Those that have a place, and are not in it yet: however long a chain of them is, none is laid out within another.
    waiting: Vec<(usize, MessageDescriptor)>,
}

impl Layout {
    fn place(&mut self, message: &MessageDescriptor) -> usize {
        if let Some(place) = self.placed.get(message.full_name()) {
            return *place;
        }
        let place = self.messages.len();
        self.messages.push(MessagePlan::default());
        self.placed.insert(message.full_name().to_owned(), place);
        self.waiting.push((place, message.clone()));
        place
    }

    fn finish(&mut self) {
        while let Some((place, message)) = self.waiting.pop() {
            let plan = self.plan(&message);
            if let Some(kept) = self.messages.get_mut(place) {
                *kept = plan;
            }
        }
    }

    fn plan(&mut self, message: &MessageDescriptor) -> MessagePlan {
        let mut described: Vec<_> = message.fields().collect();
        // In the order of the file.
        described.sort_by_key(|field| field.path().last().copied());
        let mut plan = MessagePlan {
            known: well_known(message.full_name()),
            ..MessagePlan::default()
        };
        for (index, field) in (0..).zip(&described) {
            let number = field.number();
            if number <= SMALL_MAX {
                let small = &mut plan.numbers.small;
                let length = small.len().max(number as usize + 1);
                small.resize(length, None);
                small[number as usize] = Some(index);
            } else {
                plan.numbers.large.insert(number, index);
            }
            let oneof = field.containing_oneof();
            let siblings = (0..).zip(&described).filter(|(other, field)| {
                *other != index && oneof.is_some() && field.containing_oneof() == oneof
            });
            plan.fields.push(FieldPlan {
                name: Arc::from(field.name()),
                kind: self.kind(field.kind()),
                shape: match field {
                    field if field.is_map() => Shape::Map,
                    field if field.is_list() => Shape::List,
                    field if field.supports_presence() => Shape::Optional,
                    _ => Shape::Implicit,
                },
                siblings: siblings.map(|(other, _)| other).collect(),
            });
        }
        plan
    }

    fn kind(&mut self, kind: Described) -> Kind {
        match kind {
            Described::Double => Kind::Double,
            Described::Float => Kind::Float,
            Described::Int32 => Kind::Int32,
            Described::Int64 => Kind::Int64,
            Described::Uint32 => Kind::Uint32,
            Described::Uint64 => Kind::Uint64,
            Described::Sint32 => Kind::Sint32,
            Described::Sint64 => Kind::Sint64,
            Described::Fixed32 => Kind::Fixed32,
            Described::Fixed64 => Kind::Fixed64,
            Described::Sfixed32 => Kind::Sfixed32,
            Described::Sfixed64 => Kind::Sfixed64,
            Described::Bool => Kind::Bool,
            Described::String => Kind::Text,
            Described::Bytes => Kind::Bytes,
            Described::Enum(one) => {
                let mut names = HashMap::new();
                for value in one.values() {
                    // Of several names the first counts.
                    let name = value.name().to_owned();
                    names.entry(value.number()).or_insert(name);
                }
                Kind::Enum(names)
            }
            Described::Message(message) => Kind::Message(self.place(&message)),
        }
    }
}

fn well_known(name: &str) -> WellKnown {
    let Some(name) = name.strip_prefix("google.protobuf.") else {
        return WellKnown::None;
    };
    match name {
        "Timestamp" => WellKnown::Timestamp,
        "Duration" => WellKnown::Duration,
        "Struct" => WellKnown::Struct,
        "Value" => WellKnown::Value,
        "ListValue" => WellKnown::ListValue,
        "BoolValue" | "BytesValue" | "DoubleValue" | "FloatValue" | "Int32Value" | "Int64Value"
        | "StringValue" | "UInt32Value" | "UInt64Value" => WellKnown::Wrapper,
        _ => WellKnown::None,
    }
}
