//! Loads all files of a run through one query that is not row by row.
//!
//! ```text
//! files, one after the other -> decode -> queue -> `source` of one streaming plan -> check -> write
//! ```
//!
//! The query sees the rows of all good files at once. A file that turns out bad in the middle has already
//! given rows to the query, so the attempt is thrown away and repeated without it.

use std::sync::{Arc, Mutex};

use arrow::array::{RecordBatch, UInt32Array};
use arrow::datatypes::SchemaRef;
use boathouse_catalog::state::{FileState, RunCounters};
use boathouse_connectors::{FileEntry, LocalFile};
use datafusion::catalog::streaming::StreamingTable;
use datafusion::common::DataFusionError;
use datafusion::execution::TaskContext;
use datafusion::physical_plan::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use futures::StreamExt;
use tokio::sync::mpsc;

use super::decode::Decoding;
use super::discover::ledger_file;
use super::load::{Batch, Failure, Loader, PIPELINE_TAG, count, judge};
use super::quarantine::{QuarantineWriter, Rejected};
use super::transform::with_source;
use crate::error::SqlError;
use crate::query;

const QUEUE_BATCHES_MAX: usize = 4;

/// A file that could not be read, and why.
pub(super) struct BadFile {
    pub entry: FileEntry,
    pub failure: Failure,
}

/// What reading one file came to.
struct ReadFile {
    rows: i64,
    rows_rejected: i64,
    bytes: i64,
    sheets: usize,
}

/// What feeding the query came to: the files read, and the rows of them that were rejected.
struct Fed {
    files: Vec<ReadFile>,
    quarantine: QuarantineWriter,
    bad: Option<(usize, boathouse_connectors::FormatError)>,
}

/// Loads the files into the batch. Gives those that had to be left out.
pub(super) async fn load_whole(
    loader: &mut Loader<'_>,
    batch: &mut Batch,
    mut files: Vec<(FileEntry, LocalFile)>,
) -> Result<Vec<BadFile>, SqlError> {
    let mut bad = Vec::new();
    let before = loader.counters;
    while !files.is_empty() {
        match attempt(loader, batch, &files).await {
            Ok(None) => break,
            Ok(Some((index, failure))) => {
                loader.counters = before;
                let (entry, _) = files.remove(index);
                bad.push(BadFile { entry, failure });
            }
            Err(Failure::Fatal(error)) => return Err(error),
            // No file can be blamed for an output row, so all of them wait for a mended query.
            Err(Failure::File(message)) => {
                loader.counters = before;
                for (entry, _) in files.drain(..) {
                    bad.push(BadFile {
                        entry,
                        failure: Failure::File(message.clone()),
                    });
                }
            }
        }
    }
    Ok(bad)
}

/// One attempt with these files: done, or the file to leave out.
async fn attempt(
    loader: &mut Loader<'_>,
    batch: &mut Batch,
    files: &[(FileEntry, LocalFile)],
) -> Result<Option<(usize, Failure)>, Failure> {
    let quarantine = QuarantineWriter::new(
        &loader.plan.engine().lake,
        loader.pipeline,
        loader.run,
        batch.next_row_id,
    );
    let ready = loader.ready()?;
    let Some(whole) = ready.transform.whole_query().cloned() else {
        return Err(SqlError::internal("the query is row by row").into());
    };
    let source = Arc::clone(ready.transform.source());
    let decode_schema = ready.transform.decode_schema().clone();
    let (sender, receiver) = mpsc::channel(QUEUE_BATCHES_MAX);
    let format = Arc::clone(&loader.plan.format);
    let local: Vec<LocalFile> = files.iter().map(|(_, file)| file.clone()).collect();
    let feeding = tokio::spawn(feed(
        format,
        local,
        decode_schema,
        Arc::clone(&source),
        sender,
        quarantine,
    ));

    let provider = source_table(&source, receiver)?;
    let context = with_source(&loader.plan.context, provider);
    let outcome = run_query(loader, &context, &whole).await;
    let fed = feeding
        .await
        .map_err(|error| SqlError::internal("reading the files ended early").caused_by(error))??;
    if let Some((index, error)) = fed.bad {
        if let Ok((writer, ..)) = outcome {
            writer.abandon().await;
        }
        return Ok(Some((index, error.into())));
    }
    let (writer, rejected, counters) = outcome?;
    let mut quarantine = fed.quarantine;
    for row in rejected {
        quarantine.write(row).await?;
    }
    let written = quarantine.rows();
    let mut adds = writer.finish().await?;
    for file in &mut adds {
        file.set_tag(PIPELINE_TAG, &loader.pipeline.to_string());
    }
    batch.adds.extend(adds);
    if let Some(file) = quarantine.finish().await? {
        batch.quarantine.push(file);
    }
    batch.next_row_id += written;
    loader.counters = counters;
    for ((entry, _), read) in files.iter().zip(fed.files) {
        loader.counters.rows_in += read.rows + read.rows_rejected;
        loader.counters.rows_quarantined += read.rows_rejected;
        loader.counters.bytes_in += read.bytes;
        loader.counters.files_done += 1;
        let mut ledger = ledger_file(entry, loader.run, FileState::Loaded);
        ledger.rows = read.rows;
        ledger.rows_quarantined = read.rows_rejected;
        ledger.sheet_count = i32::try_from(read.sheets).ok().filter(|sheets| *sheets > 0);
        batch.ledger.push(ledger);
        batch.loaded.push(entry.clone());
    }
    Ok(None)
}

type Written = (crate::lake::AppendWriter, Vec<Rejected>, RunCounters);

/// Runs the query to its end into a writer.
async fn run_query(
    loader: &mut Loader<'_>,
    context: &query::QueryContext,
    whole: &boathouse_sql::ast::Query,
) -> Result<Written, Failure> {
    let planned = query::plan_query(context, whole, &[]).await?;
    let mut stream = query::execute_query(context, &planned, &[]).await?;
    let mut counters = loader.counters;
    let mut messages = Vec::new();
    let mut waiting =
        QuarantineWriter::new(&loader.plan.engine().lake, loader.pipeline, loader.run, 0);
    let mut rejected = Vec::new();
    let ready = loader.ready()?;
    let mut writer = ready.writer()?;
    while let Some(output) = stream.next().await {
        let output = match output {
            Ok(output) => output,
            Err(error) => {
                let error = query::failure(error);
                writer.abandon().await;
                return Err(super::load::file_failure("", &error));
            }
        };
        let output = RecordBatch::try_new(
            Arc::clone(ready.transform.fields()),
            output.columns().to_vec(),
        )
        .map_err(|error| SqlError::internal("the query gave other columns").caused_by(error))?;
        let rows = u32::try_from(output.num_rows()).unwrap_or(u32::MAX);
        let origin = UInt32Array::from_iter_values(0..rows);
        let whole_output = output.clone();
        let judged = judge(&ready.expectations, output, origin, &whole_output)?;
        let (kept, _) = judged
            .settle(&mut counters, &mut messages, &mut waiting)
            .await?;
        let table_rows = ready
            .target
            .conform(&kept, &ready.schema)
            .map_err(|error| {
                let error = SqlError::new(
                    crate::error::SqlState::INVALID_TEXT_REPRESENTATION,
                    error.to_string(),
                );
                super::load::file_failure("", &error)
            })?;
        let origin =
            UInt32Array::from_iter_values(0..u32::try_from(kept.num_rows()).unwrap_or(u32::MAX));
        let judged = judge(&ready.constraints, table_rows, origin, &kept)?;
        let (table_rows, _) = judged
            .settle(&mut counters, &mut messages, &mut waiting)
            .await?;
        counters.rows_out += count(table_rows.num_rows());
        writer.write(&table_rows).await?;
        rejected.extend(waiting.take_waiting());
    }
    loader.messages.extend(messages);
    Ok((writer, rejected, counters))
}

/// Decodes the files one after the other into the query's source.
async fn feed(
    format: Arc<dyn boathouse_connectors::FileFormat>,
    files: Vec<LocalFile>,
    decode_schema: boathouse_connectors::DecodeSchema,
    source: SchemaRef,
    sender: mpsc::Sender<Result<RecordBatch, DataFusionError>>,
    mut quarantine: QuarantineWriter,
) -> Result<Fed, SqlError> {
    let mut read = Vec::with_capacity(files.len());
    for (index, file) in files.into_iter().enumerate() {
        let name = file.name.clone();
        let mut decoding = Decoding::start(Arc::clone(&format), file, decode_schema.clone());
        let mut rows = 0;
        let mut rows_rejected = 0;
        while let Some(decoded) = decoding.batches.recv().await {
            super::failpoint::hit("after_read");
            rows += count(decoded.batch.num_rows());
            rows_rejected += count(decoded.rejected.len());
            for row in decoded.rejected {
                quarantine.write(Rejected::of_record(&name, row)).await?;
            }
            let typed = RecordBatch::try_new(Arc::clone(&source), decoded.batch.columns().to_vec())
                .map_err(DataFusionError::from);
            if sender.send(typed).await.is_err() {
                // The query ended before its source did, as with LIMIT; the rest is read unseen.
                continue;
            }
        }
        match decoding.finish().await {
            Ok(statistics) => read.push(ReadFile {
                rows,
                rows_rejected,
                bytes: i64::try_from(statistics.bytes).unwrap_or(i64::MAX),
                sheets: statistics.sheets.len(),
            }),
            Err(error) => {
                let stop = DataFusionError::Execution(format!("could not read \"{name}\""));
                let _ = sender.send(Err(stop)).await;
                return Ok(Fed {
                    files: read,
                    quarantine,
                    bad: Some((index, error)),
                });
            }
        }
    }
    Ok(Fed {
        files: read,
        quarantine,
        bad: None,
    })
}

/// A relation that can be read once, from a queue.
#[derive(Debug)]
struct Queue {
    schema: SchemaRef,
    receiver: Mutex<Option<mpsc::Receiver<Result<RecordBatch, DataFusionError>>>>,
}

fn source_table(
    schema: &SchemaRef,
    receiver: mpsc::Receiver<Result<RecordBatch, DataFusionError>>,
) -> Result<Arc<StreamingTable>, SqlError> {
    let queue = Queue {
        schema: Arc::clone(schema),
        receiver: Mutex::new(Some(receiver)),
    };
    let partitions: Vec<Arc<dyn PartitionStream>> = vec![Arc::new(queue)];
    let table = StreamingTable::try_new(Arc::clone(schema), partitions).map_err(query::failure)?;
    Ok(Arc::new(table))
}

impl PartitionStream for Queue {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let receiver = self
            .receiver
            .lock()
            .ok()
            .and_then(|mut receiver| receiver.take());
        let schema = Arc::clone(&self.schema);
        match receiver {
            Some(receiver) => {
                let rows = futures::stream::unfold(receiver, |mut receiver| async {
                    receiver.recv().await.map(|batch| (batch, receiver))
                });
                Box::pin(RecordBatchStreamAdapter::new(schema, rows))
            }
            None => {
                let error = DataFusionError::NotImplemented(
                    "a pipeline's query can read \"source\" once".into(),
                );
                let rows = futures::stream::once(async { Err(error) });
                Box::pin(RecordBatchStreamAdapter::new(schema, rows))
            }
        }
    }
}
