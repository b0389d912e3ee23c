//! A schema of Avro, laid out for reading: every type once, and those it is made of by their places.

use std::collections::HashMap;
use std::sync::Arc;

use apache_avro::schema::{InnerDecimalSchema, Name, Schema, UuidSchema};
use arrow::datatypes::Field;
use boathouse_catalog::types::ColumnType;

use super::super::schema::FieldNames;
use super::super::schema_registry::ReferencedSchema;

/// Digits behind the point, at most: more than any number has that means something.
pub(super) const SCALE_MAX: u32 = 1000;

/// A schema, ready to read datums.
pub(super) struct AvroPlan {
    pub nodes: Vec<Node>,
    /// The place of the whole.
    pub top: usize,
    /// The names of the fields of each record that the whole may be, by its place.
    pub names: HashMap<usize, FieldNames>,
}

/// A type.
#[derive(Debug)]
pub(super) enum Node {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    Text,
    Fixed(usize),
    Enum(Vec<String>),
    Decimal {
        scale: u32,
        precision: Option<u8>,
        /// Of how many bytes; `None` when each value says so.
        fixed: Option<usize>,
    },
    BigDecimal,
    UuidText,
    UuidBytes,
    UuidFixed,
    Date,
    Time(Unit),
    Instant(Unit),
    Timestamp(Unit),
    Duration,
    Array(usize),
    Map(usize),
    Union(Vec<usize>),
    Record(Vec<(Arc<str>, usize)>),
}

/// What times are counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    Milliseconds,
    Microseconds,
    Nanoseconds,
}

impl AvroPlan {
    pub fn compile(text: &str, references: &[ReferencedSchema]) -> Result<Self, String> {
        let mut texts: Vec<&str> = Vec::new();
        for reference in references {
            if !texts.contains(&reference.text.as_str()) {
                texts.push(&reference.text);
            }
        }
        let (schema, schemata) =
            Schema::parse_str_with_list(text, texts).map_err(|error| error.to_string())?;
        let mut named = HashMap::new();
        for one in schemata.iter().chain([&schema]) {
            collect(one, &mut named);
        }
        let mut layout = Layout {
            named: &named,
            placed: HashMap::new(),
            waiting: Vec::new(),
            nodes: Vec::new(),
        };
        let top = layout.place(&schema)?;
        layout.finish()?;
        let nodes = layout.nodes;
        let names = records(&nodes, top)
            .map(|(place, fields)| {
                let names = fields.iter().map(|(name, _)| Arc::clone(name)).collect();
                (place, names)
            })
            .collect();
        Ok(Self { nodes, top, names })
    }

    /// The columns of the records that the whole may be, or of those that their field `within` may be.
    pub fn columns(&self, within: Option<&str>) -> Vec<Field> {
        let mut places = vec![self.top];
        if let Some(within) = within {
            places = records(&self.nodes, self.top)
                .flat_map(|(_, fields)| fields)
                .filter(|(name, _)| name.as_ref() == within)
                .map(|(_, place)| *place)
                .collect();
        }
        places
            .into_iter()
            .flat_map(|place| records(&self.nodes, place))
            .flat_map(|(_, fields)| fields)
            .map(|(name, place)| self.column_type(*place).to_field(name.as_ref(), true))
            .collect()
    }

    fn column_type(&self, place: usize) -> ColumnType {
        match self.nodes.get(place).unwrap_or(&Node::Null) {
            Node::Boolean => ColumnType::Boolean,
            Node::Int => ColumnType::Integer,
            Node::Long => ColumnType::BigInt,
            Node::Float => ColumnType::Real,
            Node::Double => ColumnType::Double,
            Node::Bytes | Node::Fixed(_) => ColumnType::Bytea,
            Node::Decimal {
                scale,
                precision: Some(precision),
                ..
            } => match i8::try_from(*scale) {
                Ok(scale) => ColumnType::Numeric {
                    precision: Some(*precision),
                    scale,
                },
                Err(_) => ColumnType::Text,
            },
            Node::UuidText | Node::UuidBytes | Node::UuidFixed => ColumnType::Uuid,
            Node::Date => ColumnType::Date,
            Node::Time(_) => ColumnType::Time,
            Node::Instant(_) => ColumnType::TimestampTz,
            Node::Timestamp(_) => ColumnType::Timestamp,
            Node::Array(_) | Node::Map(_) | Node::Record(_) => ColumnType::Jsonb,
            Node::Union(variants) => {
                let mut variants = variants
                    .iter()
                    .filter(|variant| !matches!(self.nodes.get(**variant), Some(Node::Null)));
                match (variants.next(), variants.next()) {
                    (Some(only), None) => self.column_type(*only),
                    _ => ColumnType::Text,
                }
            }
            Node::Null
            | Node::Text
            | Node::Enum(_)
            | Node::BigDecimal
            | Node::Duration
            | Node::Decimal {
                precision: None, ..
            } => ColumnType::Text,
        }
    }
}

/// The records that a type is or may be: their places and their fields.
fn records(nodes: &[Node], place: usize) -> impl Iterator<Item = (usize, &[(Arc<str>, usize)])> {
    let places = match nodes.get(place) {
        Some(Node::Union(variants)) => variants.clone(),
        _ => vec![place],
    };
    places
        .into_iter()
        .filter_map(|place| match nodes.get(place) {
            Some(Node::Record(fields)) => Some((place, fields.as_slice())),
            _ => None,
        })
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
        Schema::Decimal(decimal) => {
            if let InnerDecimalSchema::Fixed(one) = &decimal.inner {
                named.insert(one.name.clone(), schema.clone());
            }
        }
        Schema::Uuid(UuidSchema::Fixed(one)) | Schema::Duration(one) => {
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

struct Layout<'s> {
    named: &'s HashMap<Name, Schema>,
    placed: HashMap<&'s Name, usize>,
    /// Types with names that have a place, and are not in it yet: however long a chain of them is, none is laid out within another.
    waiting: Vec<(usize, &'s Schema)>,
    nodes: Vec<Node>,
}

impl Layout<'_> {
    fn place(&mut self, schema: &Schema) -> Result<usize, String> {
        let name = match schema {
            Schema::Ref { name } => name,
            Schema::Record(record) => &record.name,
            other => {
                let node = self.node(other)?;
                return Ok(self.push(node));
            }
        };
        let (name, schema) = self
            .named
            .get_key_value(name)
            .ok_or_else(|| format!("type \"{name}\" is not known"))?;
        if let Some(place) = self.placed.get(name) {
            return Ok(*place);
        }
        let place = self.push(Node::Null);
        self.placed.insert(name, place);
        self.waiting.push((place, schema));
        Ok(place)
    }

    fn finish(&mut self) -> Result<(), String> {
        while let Some((place, schema)) = self.waiting.pop() {
            let node = self.node(schema)?;
            if let Some(kept) = self.nodes.get_mut(place) {
                *kept = node;
            }
        }
        Ok(())
    }

    fn push(&mut self, node: Node) -> usize {
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    fn node(&mut self, schema: &Schema) -> Result<Node, String> {
        Ok(match schema {
            Schema::Null => Node::Null,
            Schema::Boolean => Node::Boolean,
            Schema::Int => Node::Int,
            Schema::Long => Node::Long,
            Schema::Float => Node::Float,
            Schema::Double => Node::Double,
            Schema::Bytes => Node::Bytes,
            Schema::String => Node::Text,
            Schema::Fixed(fixed) => Node::Fixed(fixed.size),
            Schema::Enum(one) => Node::Enum(one.symbols.clone()),
            Schema::Decimal(decimal) => Node::Decimal {
                scale: u32::try_from(decimal.scale)
                    .ok()
                    .filter(|scale| *scale <= SCALE_MAX)
                    .ok_or_else(|| format!("a decimal has the scale {}", decimal.scale))?,
                precision: u8::try_from(decimal.precision).ok().filter(|p| *p <= 38),
                fixed: match &decimal.inner {
                    InnerDecimalSchema::Bytes => None,
                    InnerDecimalSchema::Fixed(fixed) => Some(fixed.size),
                },
            },
            Schema::BigDecimal => Node::BigDecimal,
            Schema::Uuid(UuidSchema::String) => Node::UuidText,
            Schema::Uuid(UuidSchema::Bytes) => Node::UuidBytes,
            Schema::Uuid(UuidSchema::Fixed(_)) => Node::UuidFixed,
            Schema::Date => Node::Date,
            Schema::TimeMillis => Node::Time(Unit::Milliseconds),
            Schema::TimeMicros => Node::Time(Unit::Microseconds),
            Schema::TimestampMillis => Node::Instant(Unit::Milliseconds),
            Schema::TimestampMicros => Node::Instant(Unit::Microseconds),
            Schema::TimestampNanos => Node::Instant(Unit::Nanoseconds),
            Schema::LocalTimestampMillis => Node::Timestamp(Unit::Milliseconds),
            Schema::LocalTimestampMicros => Node::Timestamp(Unit::Microseconds),
            Schema::LocalTimestampNanos => Node::Timestamp(Unit::Nanoseconds),
            Schema::Duration(_) => Node::Duration,
            Schema::Array(array) => Node::Array(self.place(&array.items)?),
            Schema::Map(map) => Node::Map(self.place(&map.types)?),
            Schema::Union(union) => {
                let variants = union.variants().iter();
                Node::Union(
                    variants
                        .map(|one| self.place(one))
                        .collect::<Result<_, _>>()?,
                )
            }
            Schema::Record(record) => {
                let fields = record.fields.iter();
                let field = fields.map(|field| {
                    let place = self.place(&field.schema)?;
                    Ok((Arc::from(field.name.as_str()), place))
                });
                Node::Record(field.collect::<Result<_, String>>()?)
            }
            Schema::Ref { name } => return Err(format!("type \"{name}\" is not known")),
        })
    }
}
