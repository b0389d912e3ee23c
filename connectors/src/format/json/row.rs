//! JSON objects to the columns of a batch.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, RecordBatchOptions, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use serde_json::{Map, Value};

use crate::error::{FormatError, sqlstate};
use crate::format::{DecodeSchema, NameStyle, unique_names};
use crate::value::ValueFormat;
use crate::value::column::{ColumnBuilder, Native};
use crate::value::infer::TypeSample;
use crate::value::rescue::Rescued;

/// The fields of one record, or why it is none.
pub fn parse(text: &str) -> Result<Map<String, Value>, String> {
    match serde_json::from_str(text) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err("the record is not a JSON object".to_owned()),
        Err(error) => Err(format!("the record is not valid JSON: {error}")),
    }
}

/// The columns met in a sample.
pub struct Columns {
    style: NameStyle,
    keys: Vec<String>,
    types: Vec<(TypeSample, bool)>,
    places: HashMap<String, usize>,
}

impl Columns {
    pub fn new(style: NameStyle) -> Self {
        Self {
            style,
            keys: Vec::new(),
            types: Vec::new(),
            places: HashMap::new(),
        }
    }

    pub fn sample(&mut self, object: &Map<String, Value>, format: &ValueFormat) {
        for (key, value) in object {
            let place = match self.places.get(key) {
                Some(place) => *place,
                None => {
                    self.keys.push(key.clone());
                    self.types.push((TypeSample::default(), false));
                    self.places.insert(key.clone(), self.keys.len() - 1);
                    self.keys.len() - 1
                }
            };
            let (sample, nested) = &mut self.types[place];
            match value {
                Value::Null => {}
                Value::Bool(value) => sample.add_native(Native::Boolean(*value), format),
                Value::Number(number) => sample.add_text(&number.to_string(), format),
                Value::String(text) => sample.add_string(text, format),
                Value::Array(_) | Value::Object(_) => *nested = true,
            }
        }
    }

    /// `None` when there are no columns.
    pub fn schema(self) -> Option<SchemaRef> {
        if self.keys.is_empty() {
            return None;
        }
        let names = unique_names(&self.keys, self.style);
        let fields: Vec<Field> = names
            .iter()
            .zip(&self.types)
            .map(|(name, (sample, nested))| {
                if *nested {
                    Field::new(name, DataType::Utf8, true)
                } else {
                    Field::new(name, sample.data_type(), true)
                }
            })
            .collect();
        Some(Arc::new(Schema::new(fields)))
    }
}

/// A batch under construction.
pub struct Batch<'a> {
    schema: &'a DecodeSchema,
    file: &'a str,
    style: NameStyle,
    builders: Vec<ColumnBuilder>,
    /// Where a key of the file goes; keys are met as they come.
    targets: HashMap<String, Option<usize>>,
    rescued: Rescued,
    numbers: Vec<i64>,
}

impl<'a> Batch<'a> {
    pub fn new(
        schema: &'a DecodeSchema,
        file: &'a str,
        style: NameStyle,
    ) -> Result<Self, FormatError> {
        Ok(Self {
            schema,
            file,
            style,
            builders: builders(schema)?,
            targets: HashMap::new(),
            rescued: Rescued::default(),
            numbers: Vec::new(),
        })
    }

    pub fn rows(&self) -> usize {
        self.numbers.len()
    }

    pub fn append(&mut self, object: Map<String, Value>, number: i64, format: &ValueFormat) {
        let at = self.numbers.len();
        let mut filled = vec![false; self.builders.len()];
        for (key, value) in object {
            let target = match self.targets.get(&key) {
                Some(target) => *target,
                None => {
                    let target = self.target(&key);
                    self.targets.insert(key.clone(), target);
                    target
                }
            };
            let free = target.filter(|target| !filled[*target]);
            let Some(target) = free else {
                if self.schema.keep_unknown && value != Value::Null {
                    self.rescued.add(at, &key.into(), value);
                }
                continue;
            };
            filled[target] = true;
            if !append_value(&mut self.builders[target], &value, format) {
                self.rescued.add(at, &key.into(), value);
            }
        }
        for (builder, filled) in self.builders.iter_mut().zip(filled) {
            if !filled {
                builder.append_null();
            }
        }
        self.numbers.push(number);
    }

    fn target(&self, key: &str) -> Option<usize> {
        let position = |name: &str| {
            self.schema
                .columns
                .fields()
                .iter()
                .position(|field| field.name() == name)
        };
        let name = unique_names(&[key], self.style);
        position(key).or_else(|| position(name.first()?))
    }

    /// The rows so far, and how many of them have something rescued.
    pub fn finish(&mut self, member: Option<&str>) -> Result<(RecordBatch, u64), FormatError> {
        let internal = |error: arrow::error::ArrowError| {
            FormatError::new(sqlstate::INTERNAL_ERROR, "could not build a batch").caused_by(error)
        };
        let fresh = builders(self.schema)?;
        let finished = std::mem::replace(&mut self.builders, fresh);
        let numbers = std::mem::take(&mut self.numbers);
        let mut rescued = std::mem::take(&mut self.rescued);
        let rows = numbers.len();
        let rescued_rows = rescued.rows();
        let mut columns: Vec<ArrayRef> = finished
            .into_iter()
            .map(|b| b.finish().map_err(internal))
            .collect::<Result<_, _>>()?;
        columns.push(rescued.finish(rows));
        columns.push(Arc::new(StringArray::new_repeated(self.file, rows)));
        columns.push(match member {
            Some(member) => Arc::new(StringArray::new_repeated(member, rows)),
            None => arrow::array::new_null_array(&DataType::Utf8, rows),
        });
        columns.push(Arc::new(Int64Array::from(numbers)));
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(self.schema.output(), columns, &options)
            .map(|batch| (batch, rescued_rows))
            .map_err(internal)
    }
}

/// Whether the value went in; null is in its place when not.
fn append_value(builder: &mut ColumnBuilder, value: &Value, format: &ValueFormat) -> bool {
    match value {
        Value::Null => {
            builder.append_null();
            true
        }
        Value::Bool(value) => builder
            .append_native(Native::Boolean(*value), format)
            .is_ok(),
        Value::Number(number) => {
            let plain = ValueFormat::default();
            match number.as_i64() {
                Some(value) => builder
                    .append_native(Native::Integer(value), format)
                    .is_ok(),
                None => builder.append_text(&number.to_string(), &plain).is_ok(),
            }
        }
        Value::String(text) => builder.append_text(text, format).is_ok(),
        nested => {
            let text = nested.to_string();
            if builder.is_text() {
                builder.append_text(&text, format).is_ok()
            } else {
                builder.append_null();
                false
            }
        }
    }
}

fn builders(schema: &DecodeSchema) -> Result<Vec<ColumnBuilder>, FormatError> {
    schema
        .columns
        .fields()
        .iter()
        .map(|field| {
            ColumnBuilder::new(field, 1024, schema.inferred).map_err(|error| {
                FormatError::new(sqlstate::FEATURE_NOT_SUPPORTED, error.to_string())
            })
        })
        .collect()
}
