//! JSON objects to the columns of a batch.

use std::collections::HashMap;
use std::sync::Arc;

use crate::error::{FormatError, sqlstate};
use crate::format::{DecodeSchema, NameStyle, rows_max, unique_names};
use crate::value::ValueFormat;
use crate::value::column::{ColumnBuilder, Native};
use crate::value::infer::TypeSample;
use crate::value::rescue::Rescued;
use arrow::array::{ArrayRef, Int64Array, RecordBatch, RecordBatchOptions, StringArray};
use arrow::datatypes::{DataType, Field as Column, Schema, SchemaRef};

use super::fields::{Field, Value};

/// Keys whose column is remembered. A file with more has data where keys belong.
const KEYS_MAX: usize = 20_000;

const BATCH_ROWS: usize = 8192;

/// Rows that show how long values are.
const ROWS_MEASURED: usize = 64;

/// The columns met in a sample.
pub struct Columns {
    style: NameStyle,
    columns_max: usize,
    /// A key makes a column once it has a value.
    skips_nulls: bool,
    keys: Vec<String>,
    types: Vec<(TypeSample, bool)>,
    places: HashMap<String, usize>,
}

impl Columns {
    pub fn new(style: NameStyle, columns_max: usize) -> Self {
        Self {
            style,
            columns_max,
            skips_nulls: false,
            keys: Vec::new(),
            types: Vec::new(),
            places: HashMap::new(),
        }
    }

    /// Keys that never have a value make no columns.
    pub fn with_values_only(mut self) -> Self {
        self.skips_nulls = true;
        self
    }

    /// Refuses more columns than there may be.
    pub fn sample(
        &mut self,
        fields: &[Field<'_>],
        format: &ValueFormat,
    ) -> Result<(), FormatError> {
        for (key, value) in fields {
            if self.skips_nulls && *value == Value::Null {
                continue;
            }
            let place = match self.places.get(key.as_ref()) {
                Some(place) => *place,
                None if self.keys.len() >= self.columns_max => {
                    return Err(FormatError::new(
                        sqlstate::LIMIT_EXCEEDED,
                        format!(
                            "the records have more than {} different keys",
                            self.columns_max
                        ),
                    )
                    .hint("keys that are data do not make columns; declare COLUMNS, or raise max_columns"));
                }
                None => {
                    self.keys.push(key.clone().into_owned());
                    self.types.push((TypeSample::default(), false));
                    self.places
                        .insert(key.clone().into_owned(), self.keys.len() - 1);
                    self.keys.len() - 1
                }
            };
            let (sample, nested) = &mut self.types[place];
            match value {
                Value::Null => {}
                Value::Boolean(value) => sample.add_native(Native::Boolean(*value), format),
                Value::Number(digits) => sample.add_text(digits, &ValueFormat::default()),
                Value::Text(text) => sample.add_string(text, format),
                Value::Nested(_) => *nested = true,
            }
        }
        Ok(())
    }

    /// `None` when there are no columns.
    pub fn schema(self) -> Option<SchemaRef> {
        if self.keys.is_empty() {
            return None;
        }
        let names = unique_names(&self.keys, self.style);
        let fields: Vec<Column> = names
            .iter()
            .zip(&self.types)
            .map(|(name, (sample, nested))| {
                if *nested {
                    Column::new(name, DataType::Utf8, true)
                } else {
                    Column::new(name, sample.data_type(), true)
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
    /// The keys of the last record in order, and where they went: most records are like the one before.
    order: Vec<(String, Option<usize>)>,
    /// Which columns the present record has filled.
    filled: Vec<bool>,
    rescued: Rescued,
    numbers: Vec<i64>,
    rows_max: usize,
    /// Rows, and the bytes of all their values.
    expected: (usize, usize),
    has_unknown: bool,
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
            order: Vec::new(),
            filled: Vec::new(),
            rescued: Rescued::default(),
            numbers: Vec::new(),
            rows_max: rows_max(schema.columns.fields().len()).min(BATCH_ROWS),
            expected: (0, 0),
            has_unknown: false,
        })
    }

    /// Makes room for about that many rows, whose values have no more than `bytes` together, once the first of them show
    /// how long they are.
    pub fn expecting(mut self, rows: usize, bytes: usize) -> Self {
        self.expected = (rows, bytes);
        self
    }

    pub fn rows(&self) -> usize {
        self.numbers.len()
    }

    /// Whether it has all the rows it may have.
    pub fn is_full(&self) -> bool {
        self.numbers.len() >= self.rows_max
    }

    pub fn append(&mut self, fields: Vec<Field<'_>>, number: i64, format: &ValueFormat) {
        let at = self.numbers.len();
        if at == ROWS_MEASURED {
            let (rows, bytes) = self.expected;
            for builder in &mut self.builders {
                builder.reserve(rows, bytes);
            }
        }
        self.filled.clear();
        self.filled.resize(self.builders.len(), false);
        for (place, (key, value)) in fields.into_iter().enumerate() {
            let target = match self.order.get(place) {
                Some((known, target)) if *known == key => *target,
                _ => self.meet(place, &key),
            };
            self.has_unknown |= target.is_none() && value != Value::Null;
            let free = target.filter(|target| !self.filled[*target]);
            let Some(target) = free else {
                if self.schema.keep_unknown {
                    self.rescue(at, &key, value);
                }
                continue;
            };
            self.filled[target] = true;
            if !append_value(&mut self.builders[target], &value, format) {
                // Under the column's name, by which it is looked for and corrected.
                let name = self.schema.columns.field(target).name().clone();
                self.rescue(at, &name, value);
            }
        }
        for (builder, filled) in self.builders.iter_mut().zip(&self.filled) {
            if !filled {
                builder.append_null();
            }
        }
        self.numbers.push(number);
    }

    /// Where a key goes that the record before did not have in this place.
    fn meet(&mut self, place: usize, key: &str) -> Option<usize> {
        let target = match self.targets.get(key) {
            Some(target) => *target,
            None => {
                let target = self.target(key);
                if self.targets.len() < KEYS_MAX {
                    self.targets.insert(key.to_owned(), target);
                }
                target
            }
        };
        let met = (key.to_owned(), target);
        if place < self.order.len() {
            self.order[place] = met;
        } else if place < KEYS_MAX {
            self.order.push(met);
        }
        target
    }

    fn rescue(&mut self, row: usize, key: &str, value: Value<'_>) {
        let key = key.into();
        match value {
            Value::Null => {}
            Value::Boolean(value) => self.rescued.add_json(row, &key, value.to_string()),
            Value::Number(json) => self.rescued.add_json(row, &key, json),
            Value::Text(text) => self.rescued.add(row, &key, text),
            Value::Nested(json) => self.rescued.add_json(row, &key, json),
        }
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
        let alike = || {
            let mut fields = self.schema.columns.fields().iter();
            fields.position(|field| field.name().to_lowercase() == key.to_lowercase())
        };
        let named = || position(name.first()?);
        position(key).or_else(named).or_else(alike)
    }

    /// Whether a value came that no column was asked for.
    pub fn has_unknown(&self) -> bool {
        self.has_unknown
    }

    /// The columns of the rows so far with `_rescued`, their numbers, and how many have something rescued.
    pub fn finish_columns(&mut self) -> Result<(Vec<ArrayRef>, Vec<i64>, u64), FormatError> {
        let fresh = builders(self.schema)?;
        let finished = std::mem::replace(&mut self.builders, fresh);
        let numbers = std::mem::take(&mut self.numbers);
        let mut rescued = std::mem::take(&mut self.rescued);
        let rescued_rows = rescued.rows();
        let mut columns: Vec<ArrayRef> = finished
            .into_iter()
            .map(|b| b.finish().map_err(internal))
            .collect::<Result<_, _>>()?;
        columns.push(rescued.finish(numbers.len()));
        Ok((columns, numbers, rescued_rows))
    }

    /// The rows so far, and how many of them have something rescued.
    pub fn finish(&mut self, member: Option<&str>) -> Result<(RecordBatch, u64), FormatError> {
        let (mut columns, numbers, rescued_rows) = self.finish_columns()?;
        let rows = numbers.len();
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

fn internal(error: arrow::error::ArrowError) -> FormatError {
    FormatError::new(sqlstate::INTERNAL_ERROR, "could not build a batch").caused_by(error)
}

/// Whether the value went in; null is in its place when not.
fn append_value(builder: &mut ColumnBuilder, value: &Value<'_>, format: &ValueFormat) -> bool {
    match value {
        Value::Null => {
            builder.append_null();
            true
        }
        Value::Boolean(value) => builder
            .append_native(Native::Boolean(*value), format)
            .is_ok(),
        // JSON writes numbers in one way, whatever the options say about texts.
        Value::Number(digits) => builder.append_text(digits, &ValueFormat::default()).is_ok(),
        Value::Text(text) => builder.append_text(text, format).is_ok(),
        Value::Nested(json) if builder.is_text() => builder.append_text(json, format).is_ok(),
        Value::Nested(_) => {
            builder.append_null();
            false
        }
    }
}

pub(crate) fn builders(schema: &DecodeSchema) -> Result<Vec<ColumnBuilder>, FormatError> {
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
