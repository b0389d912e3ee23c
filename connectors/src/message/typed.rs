//! `AVRO` and `PROTOBUF`: records whose schemas tell the columns and their types.
//!
//! Values go from the message into the columns as they are, without becoming text in between. A field of another type than its
//! column, or without one, is in `_rescued`, as JSON.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::{Field, Schema, SchemaRef};

use super::schema::{FieldNames, FieldValue, RecordFields, RecordPlan, Schemas};
use super::{DecodedMessages, MessageBlock, MessageFormat, RejectedMessage};
use crate::error::{ConnectorError, FormatError, sqlstate};
use crate::format::csv::{take_columns_max, take_name_style};
use crate::format::json::row::builders;
use crate::format::{DecodeSchema, NameStyle, unique_names};
use crate::options::Options;
use crate::value::ValueFormat;
use crate::value::column::{ColumnBuilder, Typed};
use crate::value::rescue::Rescued;

/// Records with a schema.
pub(super) struct TypedFormat {
    schemas: Schemas,
    column_names: NameStyle,
    columns_max: usize,
    values: ValueFormat,
}

impl TypedFormat {
    /// Options `column_names`, `max_columns`, and those of [`ValueFormat::take`], for texts.
    pub fn take(
        options: &mut Options,
        schemas: Schemas,
    ) -> Result<Arc<dyn MessageFormat>, ConnectorError> {
        Ok(Arc::new(Self {
            schemas,
            column_names: take_name_style(options)?,
            columns_max: take_columns_max(options)?,
            values: ValueFormat::take(options)?,
        }))
    }
}

impl MessageFormat for TypedFormat {
    fn infer(&self, block: &MessageBlock) -> Result<Option<SchemaRef>, FormatError> {
        let mut columns = SchemaColumns::new(self.column_names, self.columns_max);
        for message in block.iter() {
            if let Some(payload) = message.payload {
                columns.add(&self.schemas, payload, None)?;
            }
        }
        Ok(columns.finish())
    }

    fn decode(
        &self,
        block: &MessageBlock,
        schema: &DecodeSchema,
    ) -> Result<DecodedMessages, FormatError> {
        let mut rows = Rows::new(schema, self.column_names, &self.values)?;
        let mut messages = Vec::with_capacity(block.len());
        let mut rejected = Vec::new();
        for (number, message) in (0_u32..).zip(block.iter()) {
            let Some(payload) = message.payload else {
                rows.append_nulls();
                messages.push(number);
                continue;
            };
            let outcome = self.schemas.resolve(payload)?.and_then(|resolved| {
                let mut fields = RecordFields::default();
                let names = resolved
                    .plan
                    .read(&resolved.body, &mut fields)
                    .map_err(|reason| resolved.fault(&reason))?;
                rows.append(names, &fields);
                Ok(())
            });
            match outcome {
                Ok(()) => messages.push(number),
                Err((sqlstate, reason)) => rejected.push(RejectedMessage {
                    message: number,
                    sqlstate: sqlstate.into(),
                    reason,
                }),
            }
        }
        let has_unknown = rows.has_unknown;
        Ok(DecodedMessages {
            columns: rows.finish()?,
            messages,
            goes: None,
            rejected,
            has_unknown,
        })
    }
}

/// The columns of the schemas that messages are of.
pub(super) struct SchemaColumns {
    style: NameStyle,
    columns_max: usize,
    seen: Vec<(Arc<dyn RecordPlan>, bool)>,
    found: Vec<Arc<Field>>,
}

impl SchemaColumns {
    pub fn new(style: NameStyle, columns_max: usize) -> Self {
        Self {
            style,
            columns_max,
            seen: Vec::new(),
            found: Vec::new(),
        }
    }

    /// Adds those of a message's schema, or of the record in its field `within`. A message without a schema has none: it is
    /// rejected when it is decoded.
    pub fn add(
        &mut self,
        schemas: &Schemas,
        message: &[u8],
        within: Option<&str>,
    ) -> Result<(), FormatError> {
        let Ok(resolved) = schemas.resolve(message)? else {
            return Ok(());
        };
        let is_seen = |(plan, is_within): &(Arc<dyn RecordPlan>, bool)| {
            Arc::ptr_eq(plan, &resolved.plan) && *is_within == within.is_some()
        };
        if self.seen.iter().any(is_seen) {
            return Ok(());
        }
        let plan = Arc::clone(&resolved.plan);
        self.seen.push((plan, within.is_some()));
        for field in resolved.plan.columns(within) {
            let name = unique_names(&[field.name().as_str()], self.style);
            let name = name.into_iter().next().unwrap_or_default();
            if self.found.iter().all(|known| *known.name() != name) {
                self.found.push(Arc::new(field.with_name(name)));
            }
        }
        if self.found.len() > self.columns_max {
            return Err(FormatError::new(
                sqlstate::LIMIT_EXCEEDED,
                format!("the schemas have more than {} fields", self.columns_max),
            )
            .hint("declare COLUMNS, or raise max_columns"));
        }
        Ok(())
    }

    pub fn finish(self) -> Option<SchemaRef> {
        (!self.found.is_empty()).then(|| Arc::new(Schema::new(self.found)))
    }
}

/// Where the fields of one record go.
struct Targets {
    /// Compared by its address.
    names: FieldNames,
    columns: Vec<Target>,
    /// Columns that no field is for.
    missing: Vec<usize>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Target {
    Column(usize),
    /// Another field of the record has the same column.
    Taken,
    Unknown,
}

/// Rows under construction.
struct Rows<'s> {
    schema: &'s DecodeSchema,
    style: NameStyle,
    format: &'s ValueFormat,
    builders: Vec<ColumnBuilder>,
    targets: Vec<Arc<Targets>>,
    rescued: Rescued,
    count: usize,
    has_unknown: bool,
}

impl<'s> Rows<'s> {
    fn new(
        schema: &'s DecodeSchema,
        style: NameStyle,
        format: &'s ValueFormat,
    ) -> Result<Self, FormatError> {
        Ok(Self {
            schema,
            style,
            format,
            builders: builders(schema)?,
            targets: Vec::new(),
            rescued: Rescued::default(),
            count: 0,
            has_unknown: false,
        })
    }

    fn append_nulls(&mut self) {
        for builder in &mut self.builders {
            builder.append_null();
        }
        self.count += 1;
    }

    fn append(&mut self, names: &FieldNames, fields: &RecordFields<'_>) {
        let targets = self.targets(names);
        let named = names.iter().zip(&targets.columns);
        for ((name, target), value) in named.zip(&fields.values) {
            let written = |range: &std::ops::Range<usize>| {
                fields.written.get(range.clone()).unwrap_or_default()
            };
            let (value, is_said) = match value {
                FieldValue::Said(value) => (*value, *value != Typed::Null),
                FieldValue::Default(value) => (*value, false),
                FieldValue::Json(range) => (Typed::Json(written(range)), true),
                FieldValue::Text(range) => (Typed::Text(written(range)), true),
            };
            let name = match target {
                Target::Column(column) => {
                    let taken = self.builders[*column].append_typed(value, self.format);
                    if taken.is_ok() {
                        continue;
                    }
                    // Under the column's name, by which it is looked for and corrected.
                    &Arc::from(self.schema.columns.field(*column).name().as_str())
                }
                _ if !is_said => continue,
                Target::Unknown => {
                    self.has_unknown = true;
                    name
                }
                Target::Taken => name,
            };
            if self.schema.keep_unknown || matches!(target, Target::Column(_)) {
                let mut json = String::new();
                value.write_json(&mut json);
                self.rescued.add_json(self.count, name, json);
            }
        }
        for column in &targets.missing {
            self.builders[*column].append_null();
        }
        self.count += 1;
    }

    fn targets(&mut self, names: &FieldNames) -> Arc<Targets> {
        let known = |targets: &&Arc<Targets>| Arc::ptr_eq(&targets.names, names);
        if let Some(targets) = self.targets.iter().find(known) {
            return Arc::clone(targets);
        }
        let fields = self.schema.columns.fields();
        let mut missing: Vec<usize> = (0..fields.len()).collect();
        let position = |name: &str| fields.iter().position(|field| field.name() == name);
        let columns = names.iter().map(|name| {
            let styled = unique_names(&[name], self.style);
            let found = position(name).or_else(|| position(styled.first()?));
            match found {
                None => Target::Unknown,
                Some(column) => match missing.iter().position(|free| *free == column) {
                    None => Target::Taken,
                    Some(free) => Target::Column(missing.remove(free)),
                },
            }
        });
        let columns = columns.collect();
        let targets = Arc::new(Targets {
            names: Arc::clone(names),
            columns,
            missing,
        });
        self.targets.push(Arc::clone(&targets));
        targets
    }

    /// The columns, then `_rescued`.
    fn finish(self) -> Result<Vec<ArrayRef>, FormatError> {
        let mut columns = self
            .builders
            .into_iter()
            .map(|builder| {
                builder.finish().map_err(|error| {
                    FormatError::new(sqlstate::INTERNAL_ERROR, "could not build a column")
                        .caused_by(error)
                })
            })
            .collect::<Result<Vec<_>, _>>()?;
        columns.push(self.rescued.finish(self.count));
        Ok(columns)
    }
}
