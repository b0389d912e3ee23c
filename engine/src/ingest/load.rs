//! Loads files into data files: decode, transform, check, write. Commits nothing.
//!
//! A file that fails leaves nothing behind: its rows wait in memory, or in data files of their own when
//! they are many, until its last row was read. Only then do they join the batch. Faults of the lake or
//! the catalog are no fault of the file and end the batch.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{Array, BooleanArray, RecordBatch, UInt32Array};
use arrow::compute::filter_record_batch;
use arrow::datatypes::SchemaRef;
use boathouse_catalog::definitions::ObjectId;
use boathouse_catalog::state::{
    FileState, LedgerFile, QuarantineFile, RunCounters, RunId, RunMessage, Severity,
};
use boathouse_connectors::format::METADATA_COLUMNS;
use boathouse_connectors::{FileEntry, FormatError, LocalFile};
use boathouse_sql::statement::{OnChangedFile, OnSchemaChange};

use super::check::Checks;
use super::decode::Decoding;
use super::discover::ledger_file;
use super::failpoint;
use super::plan::{PipelinePlan, infer_file};
use super::quarantine::{QuarantineWriter, Rejected, RowIds};
use super::schema::SourceSchema;
use super::target::{Misfit, Target};
use super::transform::{Transform, adds_columns};
use crate::error::{SqlError, SqlState};
use crate::lake::{AppendWriter, FileNames, WriterOptions, WrittenFile};

/// The pipeline's id on a data file.
pub(super) const PIPELINE_TAG: &str = "boathouse.pipeline";
/// The source file whose rows, and only whose rows, a data file holds.
pub(super) const SOURCE_TAG: &str = "boathouse.source";

/// Output rows of a file held back in memory before they get data files of their own.
const HELD_BYTES_MAX: usize = 32 << 20;

const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// Why a file was not loaded.
pub(super) enum Failure {
    /// It is the file's fault; the others go on.
    File(Box<RunMessage>),
    /// It passes, as when the file is being written to: the next run takes it.
    Passing(Box<RunMessage>),
    /// It is not the file's; the batch ends.
    Fatal(SqlError),
}

impl From<SqlError> for Failure {
    fn from(error: SqlError) -> Self {
        Self::Fatal(error)
    }
}

impl From<crate::lake::LakeError> for Failure {
    fn from(error: crate::lake::LakeError) -> Self {
        Self::Fatal(error.into())
    }
}

impl From<FormatError> for Failure {
    fn from(error: FormatError) -> Self {
        let message = Box::new(RunMessage {
            severity: Severity::Error,
            sqlstate: error.sqlstate.to_owned(),
            message: error.message,
            file: error.file,
            sheet: error.sheet,
            row: error.row,
            column: error.column,
            hint: error.hint,
        });
        if error.retryable {
            Self::Passing(message)
        } else {
            Self::File(message)
        }
    }
}

/// A failure of one file in the words of any error.
pub(super) fn file_failure(file: &str, error: &SqlError) -> Failure {
    Failure::File(Box::new(message_of(Severity::Error, Some(file), error)))
}

pub(super) fn message_of(severity: Severity, file: Option<&str>, error: &SqlError) -> RunMessage {
    RunMessage {
        severity,
        sqlstate: error.state.0.to_owned(),
        message: error.message.clone(),
        file: file.map(str::to_owned),
        sheet: None,
        row: None,
        column: None,
        hint: error.hint.clone(),
    }
}

/// What goes into one commit.
#[derive(Default)]
pub(super) struct Batch {
    pub adds: Vec<WrittenFile>,
    pub ledger: Vec<LedgerFile>,
    pub quarantine: Vec<QuarantineFile>,
    /// The files loaded, to be moved after the commit.
    pub loaded: Vec<FileEntry>,
    pub shared: Option<AppendWriter>,
    pub row_ids: RowIds,
}

/// Loads the files of one run.
pub(super) struct Loader<'a> {
    pub plan: &'a PipelinePlan,
    pub pipeline: ObjectId,
    pub run: RunId,
    pub source: SourceSchema,
    pub counters: RunCounters,
    pub messages: Vec<RunMessage>,
    pub ready: Option<Ready>,
    reported: Instant,
}

/// Everything planned for the source's present columns.
pub(super) struct Ready {
    pub transform: Arc<Transform>,
    pub expectations: Checks,
    pub constraints: Checks,
    pub target: Target,
    pub schema: SchemaRef,
    pub policy: OnChangedFile,
}

impl<'a> Loader<'a> {
    pub fn new(
        plan: &'a PipelinePlan,
        pipeline: ObjectId,
        run: RunId,
        source: SourceSchema,
        counters: RunCounters,
    ) -> Self {
        Self {
            plan,
            pipeline,
            run,
            source,
            counters,
            messages: Vec::new(),
            ready: None,
            reported: Instant::now(),
        }
    }

    /// Plans for the source's present columns, making or widening the target as needed.
    pub async fn prepare(&mut self) -> Result<(), SqlError> {
        let known = match self.ready.take() {
            Some(ready) => Some(ready.target),
            None => Target::find(self.plan).await?,
        };
        // A table made by hand need not have the columns of ours.
        let left_out: Vec<&str> = match &known {
            Some(target) if !adds_columns(self.plan.on_schema_change) => METADATA_COLUMNS
                .into_iter()
                .filter(|name| target.definition.column(name).is_none())
                .collect(),
            _ => Vec::new(),
        };
        let transform = Arc::new(Transform::plan(self.plan, &self.source, &left_out).await?);
        let mut target = match known {
            Some(target) => target,
            None => Target::create(self.plan, transform.fields()).await?,
        };
        let added = target.widen(transform.fields())?;
        if !added.is_empty() && !adds_columns(self.plan.on_schema_change) {
            return Err(SqlError::new(
                SqlState::UNDEFINED_COLUMN,
                format!(
                    "table \"{}\" has no column \"{}\"",
                    self.plan.target_name,
                    added.join("\", \"")
                ),
            )
            .hint(
                "add it to the table, or let the pipeline do so with ON SCHEMA CHANGE ADD COLUMNS",
            ));
        }
        let schema = target.schema();
        let expectations = Checks::plan(self.plan, transform.fields(), None)?;
        let constraints = Checks::plan(self.plan, &schema, Some(&target.definition))?;
        let policy = self.plan.changed_file_policy(transform.is_row_wise())?;
        self.ready = Some(Ready {
            transform,
            expectations,
            constraints,
            target,
            schema,
            policy,
        });
        Ok(())
    }

    pub fn ready(&mut self) -> Result<&mut Ready, SqlError> {
        self.ready
            .as_mut()
            .ok_or_else(|| SqlError::internal("the pipeline was not prepared"))
    }

    /// Takes up the columns of a file before it is decoded.
    pub async fn meet(&mut self, batch: &mut Batch, file: &LocalFile) -> Result<(), Failure> {
        if self.plan.declared.is_none() {
            let found = infer_file(self.plan, file.clone()).await?;
            let mut wider = self.source.clone();
            let added = wider.add(&found);
            if !added.is_empty() {
                match self.plan.on_schema_change {
                    OnSchemaChange::Rescue if !self.source.is_empty() => {}
                    OnSchemaChange::Fail if !self.source.is_empty() => {
                        return Err(Failure::from(
                            FormatError::new(
                                "42703",
                                format!("the file has new columns: \"{}\"", added.join("\", \"")),
                            )
                            .file(&file.name)
                            .hint("ON SCHEMA CHANGE ADD COLUMNS takes them up"),
                        ));
                    }
                    _ => {
                        // What was written so far has the narrower schema.
                        self.close_shared(batch).await?;
                        let narrower = std::mem::replace(&mut self.source, wider);
                        if let Err(error) = self.prepare().await {
                            // Columns the target cannot have are the file's affair.
                            self.source = narrower;
                            if !self.source.is_empty() {
                                self.prepare().await?;
                            }
                            return Err(match error.state.0.get(..2) {
                                Some("42") if !self.source.is_empty() => {
                                    file_failure(&file.name, &error)
                                }
                                _ => error.into(),
                            });
                        }
                    }
                }
            }
        }
        if self.ready.is_none() {
            self.prepare().await?;
        }
        Ok(())
    }

    /// Whether the query needs all rows at once.
    pub fn is_whole(&self) -> bool {
        self.ready
            .as_ref()
            .is_some_and(|ready| !ready.transform.is_row_wise())
    }

    /// Loads one file, whose columns were [met](Self::meet), row by row.
    pub async fn load(
        &mut self,
        batch: &mut Batch,
        entry: &FileEntry,
        file: LocalFile,
    ) -> Result<(), Failure> {
        let lake = Arc::clone(&self.plan.engine().lake);
        let mut quarantine =
            QuarantineWriter::new(&lake, self.pipeline, self.run, batch.row_ids.clone());
        let before = self.counters;
        let own_files = self.ready()?.policy == OnChangedFile::Reload;
        let mut rows = HeldRows::new(own_files);
        match self.load_rows(file, &mut quarantine, &mut rows).await {
            Ok(sheets) => {
                let written = quarantine.rows();
                let out = self.counters.rows_out - before.rows_out;
                self.keep(batch, entry, rows).await?;
                if let Some(rejected) = quarantine.finish().await? {
                    batch.quarantine.push(rejected);
                }
                let mut ledger = ledger_file(entry, self.run, FileState::Loaded);
                ledger.rows = out;
                ledger.rows_quarantined = written;
                ledger.sheet_count = sheets;
                batch.ledger.push(ledger);
                batch.loaded.push(entry.clone());
                self.counters.files_done += 1;
                Ok(())
            }
            Err(failure) => {
                if let Some(writer) = rows.own {
                    writer.abandon().await;
                }
                // Its rows count for nothing.
                let files_done = self.counters.files_done;
                self.counters = RunCounters {
                    files_done,
                    ..before
                };
                Err(failure)
            }
        }
    }

    async fn load_rows(
        &mut self,
        file: LocalFile,
        quarantine: &mut QuarantineWriter,
        rows: &mut HeldRows,
    ) -> Result<Option<i32>, Failure> {
        let name = file.name.clone();
        let decode_schema = self.ready()?.transform.decode_schema().clone();
        let mut decoding = Decoding::start(Arc::clone(&self.plan.format), file, decode_schema);
        while let Some(decoded) = decoding.batches.recv().await {
            failpoint::hit("after_read");
            let rejected = i64::try_from(decoded.rejected.len()).unwrap_or(i64::MAX);
            self.counters.rows_in += count(decoded.batch.num_rows()) + rejected;
            self.counters.rows_quarantined += rejected;
            for row in decoded.rejected {
                quarantine.write(Rejected::of_record(&name, row)).await?;
            }
            let kept = self.transform_and_check(&decoded.batch, quarantine).await?;
            let ready = self.ready()?;
            for part in kept {
                rows.write(ready, part).await?;
            }
            self.report().await;
        }
        let statistics = decoding.finish().await?;
        self.counters.bytes_in += i64::try_from(statistics.bytes).unwrap_or(i64::MAX);
        Ok(i32::try_from(statistics.sheets.len())
            .ok()
            .filter(|sheets| *sheets > 0))
    }

    /// Rows of the table made of decoded rows; what cannot be one is quarantined.
    pub async fn transform_and_check(
        &mut self,
        decoded: &RecordBatch,
        quarantine: &mut QuarantineWriter,
    ) -> Result<Vec<RecordBatch>, Failure> {
        let mut counters = self.counters;
        let mut messages = Vec::new();
        let ready = self.ready()?;
        let source = RecordBatch::try_new(
            Arc::clone(ready.transform.source()),
            decoded.columns().to_vec(),
        )
        .map_err(|error| {
            SqlError::internal("decoded rows are not of the source's columns").caused_by(error)
        })?;
        let (source, unfit) = without_unfit(&ready.transform, source)?;
        for rejected in unfit {
            counters.rows_quarantined += 1;
            quarantine.write(rejected).await?;
        }
        let (parts, failed) = ready.transform.apply(&source);
        for failed in failed {
            let row = failed.row as usize;
            let reason = failed.error.message;
            let rejected = Rejected::of_row(&source, row, failed.error.state, reason);
            counters.rows_quarantined += 1;
            quarantine.write(rejected).await?;
        }
        let mut kept = Vec::with_capacity(parts.len());
        for part in parts {
            let judged = judge(&ready.expectations, part.output, part.rows, &source);
            let (output, origin) = judged
                .settle(&mut counters, &mut messages, quarantine)
                .await?;
            let mut conformed = Vec::new();
            let mut misfits = Vec::new();
            conform(ready, &output, &origin, &mut conformed, &mut misfits);
            for (row, misfit) in misfits {
                let state = SqlState::INVALID_TEXT_REPRESENTATION;
                let mut rejected = Rejected::of_row(&source, row as usize, state, misfit.reason);
                rejected.column = misfit.column;
                counters.rows_quarantined += 1;
                quarantine.write(rejected).await?;
            }
            for (rows, origin) in conformed {
                let judged = judge(&ready.constraints, rows, origin, &source);
                let (rows, _) = judged
                    .settle(&mut counters, &mut messages, quarantine)
                    .await?;
                counters.rows_out += count(rows.num_rows());
                kept.push(rows);
            }
        }
        self.counters = counters;
        self.add_warnings(messages);
        Ok(kept)
    }

    /// Keeps the first warning of each rule and file.
    pub fn add_warnings(&mut self, messages: Vec<RunMessage>) {
        for message in messages {
            let known = self
                .messages
                .iter()
                .any(|known| known.message == message.message && known.file == message.file);
            if !known {
                self.messages.push(message);
            }
        }
    }

    /// Hands the rows of a file that was read to its end to the batch.
    async fn keep(
        &mut self,
        batch: &mut Batch,
        entry: &FileEntry,
        rows: HeldRows,
    ) -> Result<(), SqlError> {
        let pipeline = self.pipeline.to_string();
        if let Some(writer) = rows.own {
            let mut files = writer.finish().await?;
            for file in &mut files {
                file.set_tag(PIPELINE_TAG, &pipeline);
                file.set_tag(SOURCE_TAG, &entry.path);
            }
            batch.adds.extend(files);
            return Ok(());
        }
        if rows.held.is_empty() {
            return Ok(());
        }
        let ready = self.ready()?;
        let mut shared = match batch.shared.take() {
            Some(writer) => writer,
            None => ready.writer()?,
        };
        for part in &rows.held {
            shared.write(part).await?;
        }
        batch.shared = Some(shared);
        Ok(())
    }

    /// Completes the data files that several source files share.
    pub async fn close_shared(&mut self, batch: &mut Batch) -> Result<(), SqlError> {
        if let Some(writer) = batch.shared.take() {
            let mut files = writer.finish().await?;
            for file in &mut files {
                file.set_tag(PIPELINE_TAG, &self.pipeline.to_string());
            }
            batch.adds.extend(files);
        }
        Ok(())
    }

    /// Tells the catalog how far the run has come, about once a second.
    pub async fn report(&mut self) {
        if self.reported.elapsed() < PROGRESS_INTERVAL {
            return;
        }
        self.reported = Instant::now();
        let runs = self.plan.engine().catalog.runs();
        if let Err(error) = runs.progress(self.run, self.counters).await {
            tracing::warn!(run = self.run.0, %error, "could not record the progress of a run");
        }
    }
}

impl Ready {
    pub fn writer(&self) -> Result<AppendWriter, SqlError> {
        let definition = &self.target.definition;
        Ok(self.target.table.writer(
            Arc::clone(&self.schema),
            (&definition.partition_by, &FileNames::of(definition)),
            WriterOptions::default(),
        )?)
    }
}

/// The output of a file whose last row has not been read.
struct HeldRows {
    held: Vec<RecordBatch>,
    held_bytes: usize,
    own_files: bool,
    own: Option<AppendWriter>,
}

impl HeldRows {
    fn new(own_files: bool) -> Self {
        Self {
            held: Vec::new(),
            held_bytes: 0,
            own_files,
            own: None,
        }
    }

    async fn write(&mut self, ready: &Ready, rows: RecordBatch) -> Result<(), SqlError> {
        if rows.num_rows() == 0 {
            return Ok(());
        }
        if let Some(writer) = &mut self.own {
            return Ok(writer.write(&rows).await?);
        }
        self.held_bytes += rows.get_array_memory_size();
        self.held.push(rows);
        if self.own_files || self.held_bytes > HELD_BYTES_MAX {
            let writer = self.own.insert(ready.writer()?);
            for part in self.held.drain(..) {
                writer.write(&part).await?;
            }
        }
        Ok(())
    }
}

/// Rows with the verdict on them.
pub(super) struct Judged<'s> {
    rows: RecordBatch,
    /// For each row the source row it came from.
    origin: UInt32Array,
    verdict: super::check::Verdict,
    source: &'s RecordBatch,
}

pub(super) fn judge<'s>(
    checks: &Checks,
    rows: RecordBatch,
    origin: UInt32Array,
    source: &'s RecordBatch,
) -> Judged<'s> {
    let verdict = checks.judge(&rows);
    Judged {
        rows,
        origin,
        verdict,
        source,
    }
}

/// The rows of the source that can be taken, and those that cannot.
pub(super) fn without_unfit(
    transform: &Transform,
    source: RecordBatch,
) -> Result<(RecordBatch, Vec<Rejected>), SqlError> {
    let unfit = transform.unfit(&source);
    if unfit.is_empty() {
        return Ok((source, Vec::new()));
    }
    let mut keep = vec![true; source.num_rows()];
    let mut rejected = Vec::with_capacity(unfit.len());
    for row in unfit {
        if let Some(keep) = keep.get_mut(row.row) {
            *keep = false;
        }
        let mut one = Rejected::of_row(&source, row.row, row.sqlstate, row.reason);
        one.column = Some(row.column);
        rejected.push(one);
    }
    let kept = filter_record_batch(&source, &BooleanArray::from(keep))
        .map_err(|error| SqlError::internal("could not filter rows").caused_by(error))?;
    Ok((kept, rejected))
}

impl Judged<'_> {
    fn at(&self, row: usize) -> usize {
        self.origin.value(row) as usize
    }

    /// Carries out the verdict and gives the rows that stay.
    pub async fn settle(
        self,
        counters: &mut RunCounters,
        messages: &mut Vec<RunMessage>,
        quarantine: &mut QuarantineWriter,
    ) -> Result<(RecordBatch, UInt32Array), Failure> {
        if let Some(failed) = &self.verdict.failed {
            let place = Rejected::of_row(
                self.source,
                self.at(failed.row),
                failed.sqlstate,
                failed.reason.clone(),
            );
            return Err(Failure::File(Box::new(RunMessage {
                severity: Severity::Error,
                sqlstate: place.sqlstate,
                message: place.reason,
                file: place.file,
                sheet: place.sheet,
                row: place.row,
                column: failed.column.clone(),
                hint: Some(format!("the row is {}", place.raw)),
            })));
        }
        counters.rows_dropped += self.verdict.dropped;
        counters.rows_warned += self.verdict.warned;
        for (rule, row) in &self.verdict.warnings {
            if messages
                .iter()
                .any(|message| message.message.contains(&format!("\"{rule}\"")))
            {
                continue;
            }
            let reason = format!("row violates expectation \"{rule}\"");
            let place = Rejected::of_row(
                self.source,
                self.at(*row),
                SqlState::CHECK_VIOLATION,
                reason,
            );
            messages.push(RunMessage {
                severity: Severity::Warning,
                sqlstate: place.sqlstate,
                message: place.reason,
                file: place.file,
                sheet: place.sheet,
                row: place.row,
                column: None,
                hint: None,
            });
        }
        for violation in &self.verdict.quarantined {
            let mut rejected = Rejected::of_row(
                self.source,
                self.at(violation.row),
                violation.sqlstate,
                violation.reason.clone(),
            );
            rejected.column.clone_from(&violation.column);
            rejected.rule.clone_from(&violation.rule);
            counters.rows_quarantined += 1;
            quarantine.write(rejected).await?;
        }
        match &self.verdict.keep {
            None => Ok((self.rows, self.origin)),
            Some(keep) => {
                let filtered = filter_record_batch(&self.rows, keep).and_then(|rows| {
                    let origin = arrow::compute::filter(&self.origin, keep)?;
                    Ok((rows, UInt32Array::from(origin.to_data())))
                });
                Ok(filtered.map_err(|error| {
                    SqlError::internal("could not filter rows").caused_by(error)
                })?)
            }
        }
    }
}

/// Turns output rows into rows of the table; rows that do not fit are found by halving.
pub(super) fn conform(
    ready: &Ready,
    output: &RecordBatch,
    origin: &UInt32Array,
    conformed: &mut Vec<(RecordBatch, UInt32Array)>,
    misfits: &mut Vec<(u32, Misfit)>,
) {
    let rows = output.num_rows();
    if rows == 0 {
        return;
    }
    match ready.target.conform(output, &ready.schema) {
        Ok(table_rows) => conformed.push((table_rows, origin.clone())),
        Err(misfit) if rows == 1 => misfits.push((origin.value(0), misfit)),
        Err(_) => {
            let half = rows / 2;
            let (first, second) = (origin.slice(0, half), origin.slice(half, rows - half));
            conform(ready, &output.slice(0, half), &first, conformed, misfits);
            conform(
                ready,
                &output.slice(half, rows - half),
                &second,
                conformed,
                misfits,
            );
        }
    }
}

pub(super) fn count(rows: usize) -> i64 {
    i64::try_from(rows).unwrap_or(i64::MAX)
}
