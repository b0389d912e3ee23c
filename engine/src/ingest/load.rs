//! Loads files into data files: decode, transform, check, write. Commits nothing.
//!
//! A file that fails leaves nothing behind: its rows wait in memory, or in data files of their own when
//! they are many, until its last row was read. Only then do they join the batch. Faults of the lake or
//! the catalog are no fault of the file and end the batch.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use arrow::array::RecordBatch;
use boathouse_catalog::definitions::ObjectId;
use boathouse_catalog::state::{
    FileState, LedgerFile, QuarantineFile, RunCounters, RunId, RunMessage, Severity,
};
use boathouse_connectors::{FileEntry, FormatError, LocalFile};
use boathouse_sql::statement::{OnChangedFile, OnSchemaChange};

use super::decode::Decoding;
use super::discover::ledger_file;
use super::failpoint;
use super::plan::{PipelinePlan, infer_file};
use super::quarantine::{QuarantineWriter, Rejected, RowIds};
use super::rows::{Ready, Rows, count};
use super::schema::SourceSchema;
use crate::error::SqlError;
use crate::lake::{AppendWriter, WrittenFile};

/// The pipeline's id on a data file.
pub(super) const PIPELINE_TAG: &str = "boathouse.pipeline";
/// The source file whose rows, and only whose rows, a data file holds.
pub(super) const SOURCE_TAG: &str = "boathouse.source";

/// Output rows of a file held back in memory before they get data files of their own.
const HELD_BYTES_MAX: usize = 32 << 20;

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
    pub rows: Rows<'a>,
}

/// What is done with files is done with their rows in the end.
impl<'a> Deref for Loader<'a> {
    type Target = Rows<'a>;

    fn deref(&self) -> &Rows<'a> {
        &self.rows
    }
}

impl DerefMut for Loader<'_> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.rows
    }
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
            rows: Rows::new(plan, pipeline, run, source, counters),
        }
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
