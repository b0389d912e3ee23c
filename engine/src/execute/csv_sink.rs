//! The csv of `COPY ... TO 'file'`: PostgreSQL's, as `COPY ... TO STDOUT` sends it.
//!
//! DataFusion's own writer cannot tell NULL from an empty text, and prints Arrow's forms of values. So
//! its sinks, which know of folders, partitions and stores, are given lines made here instead.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use boathouse_catalog::types::ColumnType;
use boathouse_sql::statement::{CopyColumns, CopyHeader, CopyOptions};
use bytes::Bytes;
use datafusion::catalog::Session;
use datafusion::common::runtime::SpawnedTask;
use datafusion::common::{GetExt, Result, Statistics, not_impl_err};
use datafusion::datasource::file_format::csv::CsvFormat;
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use datafusion::datasource::file_format::write::BatchSerializer;
use datafusion::datasource::file_format::write::demux::DemuxedStreamReceiver;
use datafusion::datasource::file_format::write::orchestration::spawn_writer_tasks_and_join;
use datafusion::datasource::file_format::{FileFormat, FileFormatFactory};
use datafusion::datasource::physical_plan::{FileScanConfig, FileSink, FileSinkConfig, FileSource};
use datafusion::datasource::sink::{DataSink, DataSinkExec};
use datafusion::datasource::table_schema::TableSchema;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::LexRequirement;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan};
use object_store::{ObjectMeta, ObjectStore};

use crate::function::scalar::external;
use crate::function::text_io::display;
use crate::function::value::{Reader, Value};

/// The format as DataFusion's `COPY` plan wants it.
#[derive(Debug)]
pub struct PostgresCsv {
    lines: Arc<Lines>,
}

impl PostgresCsv {
    /// `fields` are the result's columns; those in `PARTITION_BY` are not in the files.
    pub fn new(options: &CopyOptions, fields: &SchemaRef, zone: chrono_tz::Tz) -> Self {
        let columns = fields
            .fields()
            .iter()
            .filter(|field| !options.partition_by.contains(field.name()))
            .map(|field| Column {
                name: field.name().clone(),
                column_type: ColumnType::from_field(field),
                force_quote: match &options.force_quote {
                    CopyColumns::None => false,
                    CopyColumns::All => true,
                    CopyColumns::Some(names) => names.contains(field.name()),
                },
            })
            .collect();
        Self {
            lines: Arc::new(Lines {
                delimiter: options.delimiter,
                null: options.null.clone().into_bytes(),
                header: options.header != CopyHeader::No,
                quote: options.quote,
                escape: options.escape,
                columns,
                zone,
            }),
        }
    }
}

impl GetExt for PostgresCsv {
    fn get_ext(&self) -> String {
        "csv".to_owned()
    }
}

impl FileFormatFactory for PostgresCsv {
    fn create(
        &self,
        _session: &dyn Session,
        _options: &HashMap<String, String>,
    ) -> Result<Arc<dyn FileFormat>> {
        Ok(FileFormatFactory::default(self))
    }

    fn default(&self) -> Arc<dyn FileFormat> {
        Arc::new(Self {
            lines: Arc::clone(&self.lines),
        })
    }
}

/// Written only.
#[async_trait]
impl FileFormat for PostgresCsv {
    fn get_ext(&self) -> String {
        GetExt::get_ext(self)
    }

    fn get_ext_with_compression(&self, _compression: &FileCompressionType) -> Result<String> {
        Ok(GetExt::get_ext(self))
    }

    fn compression_type(&self) -> Option<FileCompressionType> {
        None
    }

    async fn infer_schema(
        &self,
        _session: &dyn Session,
        _store: &Arc<dyn ObjectStore>,
        _objects: &[ObjectMeta],
    ) -> Result<SchemaRef> {
        not_impl_err!("reading files in this format")
    }

    async fn infer_stats(
        &self,
        _session: &dyn Session,
        _store: &Arc<dyn ObjectStore>,
        _schema: SchemaRef,
        _object: &ObjectMeta,
    ) -> Result<Statistics> {
        not_impl_err!("reading files in this format")
    }

    async fn create_physical_plan(
        &self,
        _session: &dyn Session,
        _config: FileScanConfig,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        not_impl_err!("reading files in this format")
    }

    async fn create_writer_physical_plan(
        &self,
        input: Arc<dyn ExecutionPlan>,
        _session: &dyn Session,
        config: FileSinkConfig,
        order: Option<LexRequirement>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let sink = Sink {
            config,
            lines: Arc::clone(&self.lines),
        };
        Ok(Arc::new(DataSinkExec::new(input, Arc::new(sink), order)))
    }

    fn file_source(&self, schema: TableSchema) -> Arc<dyn FileSource> {
        CsvFormat::default().file_source(schema)
    }
}

struct Sink {
    config: FileSinkConfig,
    lines: Arc<Lines>,
}

impl fmt::Debug for Sink {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("PostgresCsvSink")
    }
}

impl DisplayAs for Sink {
    fn fmt_as(&self, _kind: DisplayFormatType, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("PostgresCsvSink")
    }
}

#[async_trait]
impl DataSink for Sink {
    fn schema(&self) -> &SchemaRef {
        self.config.output_schema()
    }

    async fn write_all(
        &self,
        rows: SendableRecordBatchStream,
        context: &Arc<TaskContext>,
    ) -> Result<u64> {
        FileSink::write_all(self, rows, context).await
    }
}

#[async_trait]
impl FileSink for Sink {
    fn config(&self) -> &FileSinkConfig {
        &self.config
    }

    async fn spawn_writer_tasks_and_join(
        &self,
        context: &Arc<TaskContext>,
        divider: SpawnedTask<Result<()>>,
        files: DemuxedStreamReceiver,
        store: Arc<dyn ObjectStore>,
    ) -> Result<u64> {
        let lines = Arc::clone(&self.lines) as Arc<dyn BatchSerializer>;
        let compression = FileCompressionType::UNCOMPRESSED;
        spawn_writer_tasks_and_join(context, lines, compression, None, store, divider, files).await
    }
}

/// Makes lines of rows.
#[derive(Debug)]
struct Lines {
    delimiter: u8,
    null: Vec<u8>,
    header: bool,
    quote: u8,
    escape: u8,
    columns: Vec<Column>,
    /// Of timestamps with time zone.
    zone: chrono_tz::Tz,
}

#[derive(Debug)]
struct Column {
    name: String,
    column_type: ColumnType,
    force_quote: bool,
}

impl BatchSerializer for Lines {
    fn serialize(&self, batch: RecordBatch, first: bool) -> Result<Bytes> {
        let mut out = Vec::new();
        if self.header && first {
            for (index, column) in self.columns.iter().enumerate() {
                if index > 0 {
                    out.push(self.delimiter);
                }
                self.append(column.name.as_bytes(), false, &mut out);
            }
            out.push(b'\n');
        }
        let readers = batch
            .columns()
            .iter()
            .map(Reader::new)
            .collect::<Result<Vec<_>, _>>()
            .map_err(external)?;
        for row in 0..batch.num_rows() {
            for (index, (reader, column)) in readers.iter().zip(&self.columns).enumerate() {
                if index > 0 {
                    out.push(self.delimiter);
                }
                match reader.value(row) {
                    Value::Null => out.extend_from_slice(&self.null),
                    Value::Bool(value) => {
                        let text = if value { b"t" } else { b"f" };
                        self.append(text, column.force_quote, &mut out);
                    }
                    value => {
                        let text = display(&value, &column.column_type, self.zone);
                        self.append(text.as_bytes(), column.force_quote, &mut out);
                    }
                }
            }
            out.push(b'\n');
        }
        Ok(out.into())
    }
}

impl Lines {
    /// Appends a field that is not NULL, in quotes where its content asks for them.
    fn append(&self, field: &[u8], force_quote: bool, out: &mut Vec<u8>) {
        let quoted = force_quote
            || field == self.null
            || (self.columns.len() == 1 && field == b"\\.")
            || field.iter().any(|&byte| {
                byte == self.delimiter || byte == self.quote || matches!(byte, b'\r' | b'\n')
            });
        if !quoted {
            out.extend_from_slice(field);
            return;
        }
        out.push(self.quote);
        for &byte in field {
            if byte == self.quote || byte == self.escape {
                out.push(self.escape);
            }
            out.push(byte);
        }
        out.push(self.quote);
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, BinaryArray, BooleanArray, Int32Array, ListArray, StringArray};
    use arrow::array::{TimestampMicrosecondArray, types::Int32Type};
    use boathouse_sql::statement::CopyFormat;
    use expect_test::{Expect, expect};

    use super::*;

    fn check(options: &CopyOptions, expected: Expect) {
        let lists = vec![Some(vec![Some(1), None]), None];
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("n", Arc::new(Int32Array::from(vec![Some(1), None]))),
            (
                "a,text",
                Arc::new(StringArray::from(vec![Some("say \"hi\"\\"), Some("")])),
            ),
            ("ok", Arc::new(BooleanArray::from(vec![Some(true), None]))),
            (
                "raw",
                Arc::new(BinaryArray::from_opt_vec(vec![Some(b"\xde\xad"), None])),
            ),
            (
                "at",
                Arc::new(TimestampMicrosecondArray::from(vec![Some(0), None])),
            ),
            (
                "list",
                Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(lists)),
            ),
        ];
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let format = PostgresCsv::new(options, &batch.schema(), chrono_tz::UTC);
        let lines = format.lines.serialize(batch, true).unwrap();
        expected.assert_eq(std::str::from_utf8(&lines).unwrap());
    }

    #[test]
    fn values_have_the_text_of_postgresql_and_empty_is_not_null() {
        let mut options = CopyOptions::new(CopyFormat::Csv);
        options.header = CopyHeader::Yes;
        check(
            &options,
            expect![[r#"
                n,"a,text",ok,raw,at,list
                1,"say ""hi""\",t,\xdead,1970-01-01 00:00:00,"{1,NULL}"
                ,"",,,,
            "#]],
        );
    }

    #[test]
    fn quotes_and_escapes_are_as_told() {
        let mut options = CopyOptions::new(CopyFormat::Csv);
        options.force_quote = CopyColumns::Some(vec!["n".to_owned()]);
        options.escape = b'\\';
        options.null = "-".to_owned();
        options.delimiter = b';';
        check(
            &options,
            expect![[r#"
                "1";"say \"hi\"\\";t;\xdead;1970-01-01 00:00:00;{1,NULL}
                -;;-;-;-;-
            "#]],
        );
    }
}
