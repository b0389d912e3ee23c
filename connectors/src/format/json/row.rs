//! JSON objects to the columns of a batch.

use std::collections::HashMap;
use std::sync::Arc;

use crate::error::{FormatError, sqlstate};
use crate::format::{DecodeSchema, NameStyle, rows_max, unique_names};
use crate::value::ValueFormat;
use crate::value::column::{ColumnBuilder, Native, append_column};
use crate::value::infer::TypeSample;
use crate::value::rescue::Rescued;
use arrow::array::{ArrayRef, Int64Array, RecordBatch, RecordBatchOptions, StringArray};
use arrow::datatypes::{DataType, Field as Column, Schema, SchemaRef};

use super::fields::{Field, RecordReader, SharedKeys, Value};

/// Keys whose column is remembered. A file with more has data where keys belong.
const KEYS_MAX: usize = 20_000;

const BATCH_ROWS: usize = 8192;

/// Ways of writing records whose columns are remembered.
const SHARED_MAX: usize = 16;

/// Values of records that are written alike, until they are appended: few enough to stay in near memory.
const RUN_VALUES_MAX: usize = 4_096;

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
    /// Where the values of keys go that records share.
    shared: Vec<SharedColumns>,
    /// Which columns the present record has filled.
    filled: Vec<bool>,
    rescued: Rescued,
    numbers: Vec<i64>,
    rows_max: usize,
    /// Rows, and the bytes of all their values.
    expected: (usize, usize),
    has_unknown: bool,
}

/// Keys that records share, and where the value of each goes; `None` when two go to one column.
type SharedColumns = (SharedKeys, Option<Arc<[Option<usize>]>>);

/// Records that are written alike, on their way into a batch.
#[derive(Default)]
pub struct RowRun<'t> {
    keys: SharedKeys,
    /// Where the value of each key goes.
    columns: Arc<[Option<usize>]>,
    /// Of one record after the other, one for each key.
    values: Vec<Option<Value<'t>>>,
    numbers: Vec<i64>,
}

impl RowRun<'_> {
    fn is_of(&self, keys: &SharedKeys) -> bool {
        Arc::ptr_eq(&self.keys, keys)
    }
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
            shared: Vec::new(),
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
            self.reserve();
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

    /// Appends a record of which one before was perhaps written alike: then it waits in `run` for others, to be appended
    /// with them, column by column.
    ///
    /// # Errors
    ///
    /// Why the text is no record.
    pub fn append_record<'t>(
        &mut self,
        run: &mut RowRun<'t>,
        reader: &mut RecordReader,
        (text, number): (&'t str, i64),
        format: &ValueFormat,
    ) -> Result<(), String> {
        let begin = run.values.len();
        let mut is_taken = false;
        if let Some(keys) = reader.read_values(text, &mut run.values) {
            is_taken = run.is_of(keys);
            if !is_taken && let Some(columns) = self.columns_of(keys) {
                let first = run.values.split_off(begin);
                self.append_run(run, format);
                *run = RowRun {
                    keys: Arc::clone(keys),
                    columns,
                    values: first,
                    numbers: Vec::new(),
                };
                is_taken = true;
            }
        }
        if is_taken {
            run.numbers.push(number);
            if run.values.len() >= RUN_VALUES_MAX {
                self.append_run(run, format);
            }
            return Ok(());
        }
        run.values.truncate(begin);
        let fields = reader.parse(text)?;
        self.append_run(run, format);
        self.append(fields, number, format);
        Ok(())
    }

    /// Where the values of these keys go; `None` when two go to one column.
    fn columns_of(&mut self, keys: &SharedKeys) -> Option<Arc<[Option<usize>]>> {
        let mut known = self.shared.iter();
        if let Some((_, columns)) = known.find(|(known, _)| Arc::ptr_eq(known, keys)) {
            return columns.clone();
        }
        let columns = self.distinct_columns(keys);
        self.shared.truncate(SHARED_MAX - 1);
        self.shared.insert(0, (Arc::clone(keys), columns.clone()));
        columns
    }

    fn distinct_columns(&self, keys: &[Box<str>]) -> Option<Arc<[Option<usize>]>> {
        let mut met = vec![false; self.builders.len()];
        let columns = keys.iter().map(|key| {
            let target = self.target(key);
            let is_met = target.and_then(|target| met.get_mut(target));
            let is_met = is_met.is_some_and(|met| std::mem::replace(met, true));
            (!is_met).then_some(target)
        });
        columns.collect()
    }

    /// Appends the records that wait.
    pub fn append_run(&mut self, run: &mut RowRun<'_>, format: &ValueFormat) {
        let (at, rows) = (self.numbers.len(), run.numbers.len());
        let width = run.keys.len();
        if rows == 0 {
            return;
        }
        let mut places = vec![None; self.builders.len()];
        // Rows and keys of what goes into `_rescued`.
        let mut rescued = Vec::new();
        for (place, column) in run.columns.iter().enumerate() {
            if let Some(column) = column {
                places[*column] = Some(place);
                continue;
            }
            let values = run.values.iter().skip(place).step_by(width);
            let is_there = |value: &Option<Value<'_>>| !matches!(value, None | Some(Value::Null));
            let there = values.enumerate().filter(|(_, value)| is_there(value));
            let met = rescued.len();
            rescued.extend(there.map(|(row, _)| (row, place)));
            self.has_unknown |= rescued.len() > met;
            if !self.schema.keep_unknown {
                rescued.truncate(met);
            }
        }
        for (builder, place) in self.builders.iter_mut().zip(places) {
            match place {
                None => (0..rows).for_each(|_| builder.append_null()),
                Some(place) => {
                    let values = run.values.iter().skip(place).step_by(width);
                    append_values(builder, values, format, |row| rescued.push((row, place)));
                }
            }
        }
        rescued.sort_unstable();
        for (row, place) in rescued {
            let value = run.values.get_mut(row * width + place);
            let (Some(value), Some(key)) = (value.and_then(Option::take), run.keys.get(place))
            else {
                continue;
            };
            let column = run.columns.get(place).copied().flatten();
            let name = column.map(|column| self.schema.columns.field(column).name().clone());
            self.rescue(at + row, name.as_deref().unwrap_or(key), value);
        }
        run.values.clear();
        self.numbers.append(&mut run.numbers);
        if at < ROWS_MEASURED && self.numbers.len() >= ROWS_MEASURED {
            self.reserve();
        }
    }

    /// Makes room for the rows that are expected.
    fn reserve(&mut self) {
        let (rows, bytes) = self.expected;
        for builder in &mut self.builders {
            builder.reserve(rows, bytes);
        }
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

/// Appends values of one key. Calls `misfit` with the row of each that did not go in, in whose place is null.
fn append_values<'v>(
    builder: &mut ColumnBuilder,
    values: impl Iterator<Item = &'v Option<Value<'v>>> + Clone,
    format: &ValueFormat,
    mut misfit: impl FnMut(usize),
) {
    let (mut texts, mut numbers, mut others) = (false, false, false);
    for value in values.clone() {
        match value {
            None | Some(Value::Null) => {}
            Some(Value::Text(_)) => texts = true,
            Some(Value::Number(_)) => numbers = true,
            Some(Value::Boolean(_) | Value::Nested(_)) => others = true,
        }
    }
    match (texts, numbers, others) {
        (_, false, false) => {
            let texts = values.map(|value| match value {
                Some(Value::Text(text)) => Some(&**text),
                _ => None,
            });
            append_column(builder, format, texts, misfit);
        }
        (false, true, false) => {
            let numbers = values.map(|value| match value {
                Some(Value::Number(digits)) => Some(*digits),
                _ => None,
            });
            append_column(builder, &ValueFormat::default(), numbers, misfit);
        }
        _ => {
            for (row, value) in values.enumerate() {
                let value = value.as_ref().unwrap_or(&Value::Null);
                if !append_value(builder, value, format) {
                    misfit(row);
                }
            }
        }
    }
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

#[cfg(test)]
mod tests {
    use arrow::datatypes::TimeUnit;

    use super::*;

    const VALUES: [&str; 14] = [
        "null",
        "true",
        "7",
        "-12.50",
        "1e400",
        "99999999999999999999",
        r#""""#,
        r#""7""#,
        r#""1.5""#,
        r#""2026-05-01""#,
        r#""2026-05-01T10:00:00Z""#,
        r#""a\n\"b""#,
        r#"{"a": [1]}"#,
        "[]",
    ];

    const KEYS: [&str; 8] = ["id", "Name", "name", "paid", "at", "sum", "day", "other"];

    /// Two keys of one column, one key of it, and another order.
    const ORDERS: [&[usize]; 5] = [
        &[0, 1, 2, 3],
        &[0, 2, 3, 4, 5, 6, 7],
        &[0, 2, 4],
        &[7, 6, 5, 0],
        &[3, 1],
    ];

    fn records() -> Vec<String> {
        let mut seed = 1_u64;
        let mut random = |below: usize| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005);
            seed = seed.wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(seed >> 33).unwrap() % below
        };
        let mut records = Vec::new();
        for _ in 0..300 {
            let order = ORDERS[random(ORDERS.len())];
            // Of one key the values are often of one type.
            let kinds: Vec<usize> = order.iter().map(|_| random(VALUES.len())).collect();
            for _ in 0..random(60) {
                let is_whole = random(3) > 0;
                let mut fields = Vec::new();
                for (key, kind) in order.iter().zip(&kinds) {
                    if is_whole || random(4) > 0 {
                        let kind = if random(20) > 0 {
                            *kind
                        } else {
                            random(VALUES.len())
                        };
                        fields.push(format!("\"{}\": {}", KEYS[*key], VALUES[kind]));
                    }
                }
                records.push(match random(50) {
                    0 => "{".to_owned(),
                    _ => format!("{{{}}}", fields.join(", ")),
                });
            }
        }
        records
    }

    /// Records that wait for others like them, beside the same ones appended one by one.
    #[test]
    fn records_appended_together_are_as_if_alone() {
        let column = |name: &str, data_type| Column::new(name, data_type, true);
        let columns = vec![
            column("id", DataType::Int64),
            column("name", DataType::Utf8),
            column("paid", DataType::Boolean),
            column("at", DataType::Timestamp(TimeUnit::Microsecond, None)),
            column("sum", DataType::Decimal128(12, 2)),
            column("day", DataType::Date32),
            column("missing", DataType::Float64),
        ];
        let columns = Arc::new(Schema::new(columns));
        let records = records();
        let format = ValueFormat::default();
        for keep_unknown in [true, false] {
            let schema = DecodeSchema {
                columns: Arc::clone(&columns),
                keep_unknown,
                inferred: false,
            };
            let new = || Batch::new(&schema, "", NameStyle::Snake).unwrap();
            let (mut alone, mut together) = (new(), new());
            let mut reader = RecordReader::default();
            let mut run = RowRun::default();
            for (number, record) in (0..).zip(&records) {
                let fields = super::super::fields::parse(record);
                let appended =
                    together.append_record(&mut run, &mut reader, (record, number), &format);
                assert_eq!(appended.as_ref().err(), fields.as_ref().err());
                if let Ok(fields) = fields {
                    alone.append(fields, number, &format);
                }
            }
            together.append_run(&mut run, &format);
            assert!(alone.rows() > 5_000, "{}", alone.rows());
            assert_eq!(together.has_unknown(), alone.has_unknown());
            let expected = alone.finish_columns().unwrap();
            assert!(expected.2 > 500, "{}", expected.2);
            assert_eq!(together.finish_columns().unwrap(), expected);
        }
    }
}
