//! Parquet files.
//!
//! Types come from the file, widened to those PostgreSQL has. A column read as another type is
//! cast value by value; what the cast loses is rescued. Structures become JSON text.

use std::fs::File;
use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Int64Array, RecordBatch, RecordBatchOptions, StringArray};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::error::{ConnectorError, FormatError, sqlstate};
use crate::file::LocalFile;
use crate::options::Options;
use crate::value::rescue::Rescued;

use super::csv::take_name_style;
use super::{
    DecodeSchema, DecodedBatch, FileFormat, FileStatistics, Format, InferenceLimits, NameStyle,
    unique_names,
};

/// The format.
pub struct Parquet;

impl Format for Parquet {
    fn name(&self) -> &'static str {
        "PARQUET"
    }

    /// Option `column_names`.
    fn configure(&self, options: &mut Options) -> Result<Arc<dyn FileFormat>, ConnectorError> {
        Ok(Arc::new(ParquetFormat {
            column_names: take_name_style(options)?,
        }))
    }
}

#[derive(Debug, Clone)]
struct ParquetFormat {
    column_names: NameStyle,
}

fn open(file: &LocalFile) -> Result<ParquetRecordBatchReaderBuilder<File>, FormatError> {
    let opened = File::open(&file.path).map_err(FormatError::io)?;
    ParquetRecordBatchReaderBuilder::try_new(opened).map_err(damaged)
}

fn damaged(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> FormatError {
    FormatError::malformed("the Parquet file is truncated or damaged").caused_by(cause)
}

impl ParquetFormat {
    fn names(&self, schema: &Schema) -> Vec<String> {
        let names: Vec<&str> = schema
            .fields()
            .iter()
            .map(|field| field.name().as_str())
            .collect();
        unique_names(&names, self.column_names)
    }
}

impl FileFormat for ParquetFormat {
    fn infer(&self, file: &LocalFile, _: &InferenceLimits) -> Result<SchemaRef, FormatError> {
        let builder = open(file).map_err(|error| error.file(&file.name))?;
        let fields: Vec<Field> = self
            .names(builder.schema())
            .into_iter()
            .zip(builder.schema().fields())
            .map(|(name, field)| Field::new(name, column_type(field.data_type()), true))
            .collect();
        Ok(Arc::new(Schema::new(fields)))
    }

    fn read(
        &self,
        file: &LocalFile,
        schema: &DecodeSchema,
        sink: &mut dyn FnMut(DecodedBatch) -> ControlFlow<()>,
    ) -> Result<FileStatistics, FormatError> {
        let named = |error: FormatError| error.file(&file.name);
        let builder = open(file).map_err(named)?;
        let names = self.names(builder.schema());
        let wanted = |name: &str| {
            schema
                .columns
                .fields()
                .iter()
                .any(|field| field.name() == name)
        };
        let read: Vec<usize> = (0..names.len())
            .filter(|index| schema.keep_unknown || wanted(&names[*index]))
            .collect();
        let mask = ProjectionMask::roots(builder.parquet_schema(), read.iter().copied());
        let names: Vec<Arc<str>> = read
            .iter()
            .map(|index| names[*index].as_str().into())
            .collect();
        let reader = builder
            .with_projection(mask)
            .with_batch_size(8192)
            .build()
            .map_err(damaged)
            .map_err(named)?;
        let mut statistics = FileStatistics {
            bytes: file.size,
            ..FileStatistics::default()
        };
        for batch in reader {
            let batch = batch.map_err(damaged).map_err(named)?;
            let first = i64::try_from(statistics.rows).unwrap_or(0) + 1;
            let (batch, rescued) = convert(&batch, &names, schema, file, first).map_err(named)?;
            statistics.rows += batch.num_rows() as u64;
            statistics.rows_rescued += rescued;
            if sink(DecodedBatch {
                batch,
                rejected: Vec::new(),
            })
            .is_break()
            {
                break;
            }
        }
        Ok(statistics)
    }
}

fn convert(
    batch: &RecordBatch,
    names: &[Arc<str>],
    schema: &DecodeSchema,
    file: &LocalFile,
    first_row: i64,
) -> Result<(RecordBatch, u64), FormatError> {
    let rows = batch.num_rows();
    let mut rescued = Rescued::default();
    let mut columns: Vec<ArrayRef> = Vec::new();
    for field in schema.columns.fields() {
        let place = names.iter().position(|name| name.as_ref() == field.name());
        columns.push(match place {
            Some(place) => fit(batch.column(place), field, &names[place], &mut rescued)?,
            None => arrow::array::new_null_array(field.data_type(), rows),
        });
    }
    for (name, column) in names.iter().zip(batch.columns()) {
        if schema.columns.field_with_name(name).is_err() {
            rescue(column, name, &mut rescued, |_| true)?;
        }
    }
    let rescued_rows = rescued.rows();
    columns.push(rescued.finish(rows));
    columns.push(Arc::new(StringArray::new_repeated(&file.name, rows)));
    columns.push(arrow::array::new_null_array(&DataType::Utf8, rows));
    let last_row = first_row + i64::try_from(rows).unwrap_or(0);
    columns.push(Arc::new(Int64Array::from_iter_values(first_row..last_row)));
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(schema.output(), columns, &options)
        .map(|batch| (batch, rescued_rows))
        .map_err(internal)
}

/// The column as the type of `field`.
fn fit(
    column: &ArrayRef,
    field: &Field,
    name: &Arc<str>,
    rescued: &mut Rescued,
) -> Result<ArrayRef, FormatError> {
    if column.data_type() == field.data_type() {
        return Ok(column.clone());
    }
    if is_nested(column.data_type()) {
        if field.data_type() == &DataType::Utf8 {
            return as_json(column);
        }
        if !matches!(field.data_type(), DataType::List(_)) {
            rescue(column, name, rescued, |_| true)?;
            return Ok(arrow::array::new_null_array(
                field.data_type(),
                column.len(),
            ));
        }
    }
    let options = CastOptions {
        safe: true,
        ..CastOptions::default()
    };
    match cast_with_options(column, field.data_type(), &options) {
        Ok(cast) => {
            rescue(column, name, rescued, |row| cast.is_null(row))?;
            Ok(cast)
        }
        // No cast between the two types at all.
        Err(_) => {
            rescue(column, name, rescued, |_| true)?;
            Ok(arrow::array::new_null_array(
                field.data_type(),
                column.len(),
            ))
        }
    }
}

fn rescue(
    column: &ArrayRef,
    name: &Arc<str>,
    rescued: &mut Rescued,
    lost: impl Fn(usize) -> bool,
) -> Result<(), FormatError> {
    let options = FormatOptions::default();
    let shown = ArrayFormatter::try_new(column, &options).map_err(internal)?;
    for row in (0..column.len()).filter(|&row| column.is_valid(row) && lost(row)) {
        rescued.add(row, name, shown.value(row).to_string());
    }
    Ok(())
}

/// Nested values as JSON text.
fn as_json(column: &ArrayRef) -> Result<ArrayRef, FormatError> {
    let field = Field::new("value", column.data_type().clone(), true);
    let batch = RecordBatch::try_new(Arc::new(Schema::new(vec![field])), vec![column.clone()])
        .map_err(internal)?;
    let mut writer = arrow_json::LineDelimitedWriter::new(Vec::new());
    writer.write(&batch).map_err(internal)?;
    writer.finish().map_err(internal)?;
    let lines = writer.into_inner();
    let texts: StringArray = lines
        .split(|byte| *byte == b'\n')
        .take(column.len())
        .map(|line| {
            let mut object: serde_json::Map<String, serde_json::Value> =
                serde_json::from_slice(line).ok()?;
            object
                .remove("value")
                .filter(|value| !value.is_null())
                .map(|value| value.to_string())
        })
        .collect();
    Ok(Arc::new(texts))
}

fn internal(error: arrow::error::ArrowError) -> FormatError {
    FormatError::new(sqlstate::INTERNAL_ERROR, "could not convert a column").caused_by(error)
}

fn is_nested(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Struct(_)
            | DataType::Map(..)
            | DataType::List(_)
            | DataType::LargeList(_)
            | DataType::FixedSizeList(..)
            | DataType::Union(..)
    )
}

/// The type PostgreSQL has for it, wide enough for every value.
fn column_type(data_type: &DataType) -> DataType {
    use DataType::*;
    match data_type {
        Boolean | Int16 | Int32 | Int64 | Float32 | Float64 | Date32 | Utf8 | Binary => {
            data_type.clone()
        }
        Int8 | UInt8 => Int16,
        UInt16 => Int32,
        UInt32 => Int64,
        UInt64 => Decimal128(20, 0),
        Float16 => Float32,
        Decimal32(precision, scale)
        | Decimal64(precision, scale)
        | Decimal128(precision, scale) => Decimal128(*precision, *scale),
        Decimal256(_, scale) => Decimal128(38, *scale),
        Date64 => Date32,
        Time32(_) | Time64(_) => Time64(TimeUnit::Microsecond),
        Timestamp(_, None) => Timestamp(TimeUnit::Microsecond, None),
        Timestamp(_, Some(_)) => Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        FixedSizeBinary(_) | LargeBinary | BinaryView => Binary,
        Dictionary(_, values) => column_type(values),
        // Lists, structures, maps, unions and what else may come: as JSON text.
        _ => Utf8,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Int32Array, StructArray, UInt64Array};
    use arrow::util::pretty::pretty_format_batches;
    use expect_test::expect;
    use parquet::arrow::ArrowWriter;

    #[test]
    fn types_widen_and_what_a_cast_loses_is_rescued() {
        let inner = Arc::new(Field::new("k", DataType::Int32, true));
        let structure: ArrayRef = Arc::new(StructArray::from(vec![(
            inner,
            Arc::new(Int32Array::from(vec![1, 2])) as _,
        )]));
        let batch = RecordBatch::try_from_iter([
            (
                "Big Number",
                Arc::new(UInt64Array::from(vec![1, u64::MAX])) as ArrayRef,
            ),
            (
                "text",
                Arc::new(StringArray::from(vec!["7", "x"])) as ArrayRef,
            ),
            ("s", structure),
        ])
        .unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.parquet");
        let mut writer =
            ArrowWriter::try_new(File::create(&path).unwrap(), batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        let file = LocalFile::in_place(&path, "a.parquet", 1);
        let format = Parquet.configure(&mut Options::none("format")).unwrap();
        let inferred = format.infer(&file, &InferenceLimits::default()).unwrap();
        let types: Vec<_> = inferred
            .fields()
            .iter()
            .map(|f| format!("{} {}", f.name(), f.data_type()))
            .collect();
        assert_eq!(
            types,
            ["big_number Decimal128(20, 0)", "text Utf8", "s Utf8"]
        );
        let declared = Schema::new(vec![
            inferred.field(0).clone(),
            Field::new("text", DataType::Int32, true),
            inferred.field(2).clone(),
        ]);
        let mut batches = Vec::new();
        format
            .read(
                &file,
                &DecodeSchema::new(Arc::new(declared)),
                &mut |decoded| {
                    batches.push(decoded.batch);
                    ControlFlow::Continue(())
                },
            )
            .unwrap();
        let shown = pretty_format_batches(&batches).unwrap().to_string();
        expect![[r#"
            +----------------------+------+---------+--------------+-----------+--------+------+
            | big_number           | text | s       | _rescued     | _file     | _sheet | _row |
            +----------------------+------+---------+--------------+-----------+--------+------+
            | 1                    | 7    | {"k":1} |              | a.parquet |        | 1    |
            | 18446744073709551615 |      | {"k":2} | {"text":"x"} | a.parquet |        | 2    |
            +----------------------+------+---------+--------------+-----------+--------+------+"#]]
        .assert_eq(&shown);
    }
}
