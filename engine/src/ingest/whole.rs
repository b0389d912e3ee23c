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
use arrow::compute::filter_record_batch;
use arrow::datatypes::SchemaRef;
use boathouse_catalog::state::{FileState, RunCounters};
use boathouse_connectors::{FileEntry, FormatError, LocalFile};
use datafusion::catalog::streaming::StreamingTable;
use datafusion::common::DataFusionError;
use datafusion::execution::TaskContext;
use datafusion::physical_plan::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use futures::StreamExt;
use tokio::sync::mpsc;

use super::check::Checks;
use super::decode::Decoding;
use super::discover::ledger_file;
use super::load::{Batch, Failure, Loader, PIPELINE_TAG};
use super::plan::PipelinePlan;
use super::quarantine::{QuarantineWriter, Rejected};
use super::rows::{conform, count, judge, without_unfit};
use super::transform::{Transform, with_source};
use crate::error::{SqlError, SqlState};
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
    quarantine: Option<QuarantineWriter>,
    bad: Option<(usize, FormatError)>,
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
            Err(Failure::File(message) | Failure::Passing(message)) => {
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
        batch.row_ids.clone(),
    );
    let of_output = QuarantineWriter::new(
        &loader.plan.engine().lake,
        loader.pipeline,
        loader.run,
        batch.row_ids.clone(),
    );
    let ready = loader.ready()?;
    let Some(whole) = ready.transform.whole_query().cloned() else {
        return Err(SqlError::internal("the query is row by row").into());
    };
    let source = Arc::clone(ready.transform.source());
    let transform = Arc::clone(&ready.transform);
    let (sender, receiver) = mpsc::channel(QUEUE_BATCHES_MAX);
    let format = Arc::clone(&loader.plan.format);
    let local: Vec<LocalFile> = files.iter().map(|(_, file)| file.clone()).collect();
    let feeding = tokio::spawn(feed(format, local, transform, sender, Some(quarantine)));

    let provider = source_table(&source, receiver)?;
    let context = with_source(&loader.plan.context, provider);
    let outcome = run_query(loader, &context, &whole, of_output).await;
    // A query that does not read its source to the end, or at all, must not hold up the reading.
    drop(context);
    let fed = feeding
        .await
        .map_err(|error| SqlError::internal("reading the files ended early").caused_by(error))??;
    if let Some((index, error)) = fed.bad {
        if let Ok((writer, ..)) = outcome {
            writer.abandon().await;
        }
        return Ok(Some((index, error.into())));
    }
    let (writer, of_output, counters) = outcome?;
    let mut adds = writer.finish().await?;
    for file in &mut adds {
        file.set_tag(PIPELINE_TAG, &loader.pipeline.to_string());
    }
    batch.adds.extend(adds);
    for quarantine in fed.quarantine.into_iter().chain([of_output]) {
        if let Some(file) = quarantine.finish().await? {
            batch.quarantine.push(file);
        }
    }
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

type Written = (crate::lake::AppendWriter, QuarantineWriter, RunCounters);

/// Runs the query to its end into a writer.
async fn run_query(
    loader: &mut Loader<'_>,
    context: &query::QueryContext,
    whole: &boathouse_sql::ast::Query,
    mut quarantine: QuarantineWriter,
) -> Result<Written, Failure> {
    let planned = query::plan_query(context, whole, &[]).await?;
    let mut stream = query::execute_query(context, &planned, &[]).await?;
    let mut counters = loader.counters;
    let mut messages = Vec::new();
    let ready = loader.ready()?;
    let mut writer = ready.writer()?;
    while let Some(output) = stream.next().await {
        let output = match output {
            Ok(output) => output,
            Err(error) => {
                let error = query::failure(error);
                writer.abandon().await;
                return Err(if is_of_the_data(&error) {
                    super::load::file_failure("", &error)
                } else {
                    error.into()
                });
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
        let judged = judge(&ready.expectations, output, origin, &whole_output);
        let (kept, origin) = judged
            .settle(&mut counters, &mut messages, &mut quarantine)
            .await?;
        let (mut conformed, mut misfits) = (Vec::new(), Vec::new());
        conform(ready, &kept, &origin, &mut conformed, &mut misfits);
        for (row, misfit) in misfits {
            let state = SqlState::INVALID_TEXT_REPRESENTATION;
            let mut rejected = Rejected::of_row(&whole_output, row as usize, state, misfit.reason);
            rejected.column = misfit.column;
            counters.rows_quarantined += 1;
            quarantine.write(rejected).await?;
        }
        for (table_rows, origin) in conformed {
            let judged = judge(&ready.constraints, table_rows, origin, &whole_output);
            let (table_rows, _) = judged
                .settle(&mut counters, &mut messages, &mut quarantine)
                .await?;
            counters.rows_out += count(table_rows.num_rows());
            writer.write(&table_rows).await?;
        }
    }
    loader.add_warnings(messages);
    Ok((writer, quarantine, counters))
}

/// Whether a query failed at what is in the files, and not for want of memory, disk or storage.
fn is_of_the_data(error: &SqlError) -> bool {
    !error.retryable
        && matches!(
            error.state.0.get(..2),
            Some("22" | "23" | "42" | "0A" | "21")
        )
}

/// The first rows that a query over all of `files` gives and `checks` keep. Writes nothing.
pub(super) async fn preview(
    plan: &PipelinePlan,
    transform: &Arc<Transform>,
    checks: &Checks,
    files: Vec<LocalFile>,
    mut left: usize,
) -> Result<Vec<RecordBatch>, SqlError> {
    let Some(whole) = transform.whole_query() else {
        return Err(SqlError::internal("the query is row by row"));
    };
    let (sender, receiver) = mpsc::channel(QUEUE_BATCHES_MAX);
    let feeding = tokio::spawn(feed(
        Arc::clone(&plan.format),
        files,
        Arc::clone(transform),
        sender,
        None,
    ));
    let provider = source_table(transform.source(), receiver)?;
    let context = with_source(&plan.context, provider);
    let planned = query::plan_query(&context, whole, &[]).await?;
    let mut stream = query::execute_query(&context, &planned, &[]).await?;
    let mut rows = Vec::new();
    while left > 0
        && let Some(output) = stream.next().await
    {
        let output = match output {
            Ok(output) => output,
            Err(error) => {
                drop((stream, planned, context));
                // What a file is reproached with says more than that the query stopped.
                return Err(match feeding.await {
                    Ok(Ok(Fed {
                        bad: Some((_, cause)),
                        ..
                    })) => format_failure(cause),
                    _ => query::failure(error),
                });
            }
        };
        let columns = output.columns().to_vec();
        let output = RecordBatch::try_new(Arc::clone(transform.fields()), columns)
            .map_err(|error| SqlError::internal("the query gave other columns").caused_by(error))?;
        let kept = match checks.judge(&output).keep {
            Some(keep) => filter_record_batch(&output, &keep)
                .map_err(|error| SqlError::internal("could not filter rows").caused_by(error))?,
            None => output,
        };
        let kept = kept.slice(0, kept.num_rows().min(left));
        left -= kept.num_rows();
        rows.push(kept);
    }
    // Enough was seen; what is still being read is of no use.
    feeding.abort();
    Ok(rows)
}

/// Why a file could not be read, as the answer to a statement.
pub(super) fn format_failure(error: FormatError) -> SqlError {
    let mut failed = SqlError::new(SqlState(error.sqlstate), error.to_string());
    failed.hint.clone_from(&error.hint);
    failed.caused_by(error)
}

/// Decodes the files one after the other into the query's source.
async fn feed(
    format: Arc<dyn boathouse_connectors::FileFormat>,
    files: Vec<LocalFile>,
    transform: Arc<Transform>,
    sender: mpsc::Sender<Result<RecordBatch, DataFusionError>>,
    mut quarantine: Option<QuarantineWriter>,
) -> Result<Fed, SqlError> {
    let mut read = Vec::with_capacity(files.len());
    for (index, file) in files.into_iter().enumerate() {
        let name = file.name.clone();
        let mut decoding =
            Decoding::start(Arc::clone(&format), file, transform.decode_schema().clone());
        let mut rows = 0;
        let mut rows_rejected = 0;
        while let Some(decoded) = decoding.batches.recv().await {
            super::failpoint::hit("after_read");
            rows_rejected += count(decoded.rejected.len());
            for row in decoded.rejected {
                if let Some(quarantine) = &mut quarantine {
                    quarantine.write(Rejected::of_record(&name, row)).await?;
                }
            }
            let typed = RecordBatch::try_new(
                Arc::clone(transform.source()),
                decoded.batch.columns().to_vec(),
            )
            .map_err(|error| {
                SqlError::internal("decoded rows are not of the source's columns").caused_by(error)
            })?;
            let (typed, unfit) = without_unfit(&transform, typed)?;
            rows += count(typed.num_rows());
            rows_rejected += count(unfit.len());
            for row in unfit {
                if let Some(quarantine) = &mut quarantine {
                    quarantine.write(row).await?;
                }
            }
            if sender.send(Ok(typed)).await.is_err() {
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
