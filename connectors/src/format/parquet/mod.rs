//! Parquet files.
//!
//! Types come from the file, widened to those PostgreSQL has. Structures become JSON text. How a
//! column is read as another type is the affair of [`fit`].

mod fit;

use std::fs::File;
use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, RecordBatchOptions, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::Type;
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData};

use crate::error::{ConnectorError, FormatError, sqlstate};
use crate::file::LocalFile;
use crate::options::Options;
use crate::value::rescue::Rescued;

use super::csv::take_name_style;
use super::{
    DecodeSchema, DecodedBatch, FileFormat, FileStatistics, Format, InferenceLimits, NameStyle,
    rows_max, unique_names,
};
use fit::{fit, rescue};

const BATCH_ROWS: usize = 8192;
/// Bytes of values that a batch aims at.
const BATCH_BYTES: u64 = 8 << 20;

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

    fn decode(
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
        let batch_rows = batch_rows(builder.metadata(), &mask)
            .min(rows_max(schema.columns.fields().len()))
            .min(BATCH_ROWS);
        let reader = builder
            .with_projection(mask)
            .with_batch_size(batch_rows)
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
            Some(place) => {
                let (column, name) = (batch.column(place), &names[place]);
                fit(column, field, name, schema.inferred, &mut rescued)?
            }
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

/// Rows that are about [`BATCH_BYTES`] in the row group with the longest rows.
fn batch_rows(metadata: &ParquetMetaData, mask: &ProjectionMask) -> usize {
    let filled = metadata
        .row_groups()
        .iter()
        .filter(|group| group.num_rows() > 0);
    let rows = filled.map(|group| {
        let rows = u64::try_from(group.num_rows()).unwrap_or(0);
        let bytes: u64 = group
            .columns()
            .iter()
            .enumerate()
            .filter(|(leaf, _)| mask.leaf_included(*leaf))
            .map(|(_, column)| unpacked_bytes(column))
            .fold(0, u64::saturating_add);
        BATCH_BYTES.saturating_mul(rows) / bytes.max(1)
    });
    usize::try_from(rows.min().unwrap_or(0))
        .unwrap_or(usize::MAX)
        .max(1)
}

/// Bytes of a column in memory, as far as the file says it: encoded they may be far fewer, where
/// long texts repeat.
fn unpacked_bytes(column: &ColumnChunkMetaData) -> u64 {
    let values = u64::try_from(column.num_values()).unwrap_or(0);
    let (value_bytes, text_bytes) = match column.column_type() {
        Type::BOOLEAN => (1, 0),
        Type::INT32 | Type::FLOAT => (4, 0),
        Type::INT64 | Type::DOUBLE | Type::INT96 => (8, 0),
        Type::FIXED_LEN_BYTE_ARRAY => {
            let length = column.column_descr().type_length();
            (u64::try_from(length).unwrap_or(0), 0)
        }
        Type::BYTE_ARRAY => (4, column.unencoded_byte_array_data_bytes().unwrap_or(0)),
    };
    let encoded = u64::try_from(column.uncompressed_size()).unwrap_or(0);
    values
        .saturating_mul(value_bytes)
        .saturating_add(u64::try_from(text_bytes).unwrap_or(0))
        .max(encoded)
}

fn internal(error: arrow::error::ArrowError) -> FormatError {
    FormatError::new(sqlstate::INTERNAL_ERROR, "could not convert a column").caused_by(error)
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
    fn long_values_come_in_small_batches() {
        let text = "x".repeat(200_000);
        let texts = Arc::new(StringArray::from(vec![text.as_str(); 100])) as ArrayRef;
        let batch = RecordBatch::try_from_iter([("t", texts)]).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.parquet");
        let mut writer =
            ArrowWriter::try_new(File::create(&path).unwrap(), batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        let file = LocalFile::in_place(&path, "a.parquet", 1);
        let format = Parquet.configure(&mut Options::none("format")).unwrap();
        let mut rows = Vec::new();
        format
            .read(&file, &DecodeSchema::new(batch.schema()), &mut |decoded| {
                rows.push(decoded.batch.num_rows());
                ControlFlow::Continue(())
            })
            .unwrap();
        assert_eq!(rows, [41, 41, 18]);
    }

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
