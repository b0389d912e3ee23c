//! Decoded rows on their way into a table: transform, check, conform. Writes nothing, commits nothing.
//!
//! Where rows come from is the affair of whoever decodes them. Behind the source's columns a batch may have one more that says
//! which message a row is of; no query sees it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{Array, BooleanArray, RecordBatch, UInt32Array};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{Field, Schema, SchemaRef};
use boathouse_catalog::definitions::ObjectId;
use boathouse_catalog::state::{RunCounters, RunId, RunMessage, Severity};
use boathouse_sql::statement::OnChangedFile;

use super::check::Checks;
use super::load::Failure;
use super::quarantine::{QuarantineWriter, Rejected};
use super::row_plan::RowPlan;
use super::schema::SourceSchema;
use super::target::{Misfit, Target};
use super::transform::{Transform, adds_columns};
use crate::error::{SqlError, SqlState};
use crate::lake::{AppendWriter, FileNames, WriterOptions};

const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// The rows of one run.
pub(super) struct Rows<'a> {
    pub plan: &'a RowPlan,
    pub pipeline: ObjectId,
    pub run: RunId,
    pub source: SourceSchema,
    pub counters: RunCounters,
    pub messages: Vec<RunMessage>,
    pub ready: Option<Ready>,
    /// The output columns that the target gets if it lacks them; `None` for all.
    pub lands: Option<BTreeSet<String>>,
    reported: Instant,
}

/// Everything planned for the source's present columns.
pub(super) struct Ready {
    pub transform: Arc<Transform>,
    pub expectations: Arc<Checks>,
    pub constraints: Checks,
    pub target: Target,
    pub schema: SchemaRef,
    pub policy: OnChangedFile,
}

impl<'a> Rows<'a> {
    pub fn new(
        plan: &'a RowPlan,
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
            lands: None,
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
            Some(target) if !adds_columns(self.plan.on_schema_change) => self
                .plan
                .metadata_names()
                .into_iter()
                .filter(|name| target.definition.column(name).is_none())
                .collect(),
            _ => Vec::new(),
        };
        let transform = Arc::new(Transform::plan(self.plan, &self.source, &left_out).await?);
        let landing = self.landing(transform.fields());
        let mut target = match known {
            Some(target) => target,
            None => Target::create(self.plan, &landing).await?,
        };
        let added = target.widen(&landing)?;
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
        let expectations = Arc::new(Checks::plan(self.plan, transform.fields(), None)?);
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

    /// Of the output columns those that the target is to have.
    fn landing(&self, fields: &SchemaRef) -> SchemaRef {
        let Some(lands) = &self.lands else {
            return Arc::clone(fields);
        };
        let landing = fields.fields().iter();
        let landing = landing.filter(|field| lands.contains(field.name()));
        Arc::new(Schema::new(landing.cloned().collect::<Vec<_>>()))
    }

    /// Gives the target the columns in which some of these rows have a value, where it does not get all of them.
    /// Tells whether rows have other columns now than those before.
    pub fn land(&mut self, parts: &[(RecordBatch, UInt32Array)]) -> Result<bool, SqlError> {
        let Some(lands) = &mut self.lands else {
            return Ok(false);
        };
        let before = lands.len();
        for (rows, _) in parts {
            for (field, column) in rows.schema().fields().iter().zip(rows.columns()) {
                if column.null_count() < column.len() && !lands.contains(field.name()) {
                    lands.insert(field.name().clone());
                }
            }
        }
        if lands.len() == before || self.ready.is_none() {
            return Ok(false);
        }
        let plan = self.plan;
        let fields = Arc::clone(self.ready()?.transform.fields());
        let landing = self.landing(&fields);
        let ready = self.ready()?;
        if ready.target.widen(&landing)?.is_empty() {
            return Ok(false);
        }
        ready.schema = ready.target.schema();
        ready.constraints = Checks::plan(plan, &ready.schema, Some(&ready.target.definition))?;
        Ok(true)
    }

    pub fn ready(&mut self) -> Result<&mut Ready, SqlError> {
        self.ready
            .as_mut()
            .ok_or_else(|| SqlError::internal("the pipeline was not prepared"))
    }

    /// Whether the query needs all rows at once.
    pub fn is_whole(&self) -> bool {
        self.ready
            .as_ref()
            .is_some_and(|ready| !ready.transform.is_row_wise())
    }

    /// Rows of the table made of decoded rows; what cannot be one is quarantined.
    pub async fn transform_and_check(
        &mut self,
        decoded: &RecordBatch,
        quarantine: &mut QuarantineWriter,
    ) -> Result<Vec<RecordBatch>, Failure> {
        let source = as_source(&self.ready()?.transform, decoded)?;
        let (source, unfit) = without_unfit(&self.ready()?.transform, source)?;
        self.set_aside(unfit, quarantine).await?;
        let kept = self.transform_fit(&source, quarantine).await?;
        Ok(kept.into_iter().map(|(rows, _)| rows).collect())
    }

    /// Quarantines rows.
    pub async fn set_aside(
        &mut self,
        rejected: Vec<Rejected>,
        quarantine: &mut QuarantineWriter,
    ) -> Result<(), SqlError> {
        for rejected in rejected {
            self.counters.rows_quarantined += 1;
            quarantine.write(rejected).await?;
        }
        Ok(())
    }

    /// Rows of the table made of rows that the query may be asked of, each with the one it came from.
    pub async fn transform_fit(
        &mut self,
        source: &RecordBatch,
        quarantine: &mut QuarantineWriter,
    ) -> Result<Vec<(RecordBatch, UInt32Array)>, Failure> {
        let ready = self.ready()?;
        let transform = Arc::clone(&ready.transform);
        let expectations = Arc::clone(&ready.expectations);
        let parts = self
            .expected(&transform, &expectations, source, quarantine)
            .await?;
        self.land(&parts)?;
        self.fitting(parts, source, quarantine).await
    }

    /// What the query makes of rows of the source and no rule keeps out, each with the row it came from. Needs no target.
    pub async fn expected(
        &mut self,
        transform: &Transform,
        expectations: &Checks,
        source: &RecordBatch,
        quarantine: &mut QuarantineWriter,
    ) -> Result<Vec<(RecordBatch, UInt32Array)>, Failure> {
        let (parts, failed) = transform.apply(source).await?;
        for failed in failed {
            let row = failed.row as usize;
            let reason = failed.error.message;
            let rejected = Rejected::of_row(source, row, failed.error.state, reason);
            self.counters.rows_quarantined += 1;
            quarantine.write(rejected).await?;
        }
        let mut messages = Vec::new();
        let mut kept = Vec::with_capacity(parts.len());
        for part in parts {
            let judged = judge(expectations, part.output, part.rows, source);
            let settled = judged.settle(&mut self.counters, &mut messages, quarantine);
            kept.push(settled.await?);
        }
        self.add_warnings(messages);
        Ok(kept)
    }

    /// Output rows as rows of the table; those that are none are quarantined.
    pub async fn fitting(
        &mut self,
        parts: Vec<(RecordBatch, UInt32Array)>,
        source: &RecordBatch,
        quarantine: &mut QuarantineWriter,
    ) -> Result<Vec<(RecordBatch, UInt32Array)>, Failure> {
        let mut counters = self.counters;
        let mut messages = Vec::new();
        let ready = self.ready()?;
        let mut kept = Vec::with_capacity(parts.len());
        for (output, origin) in parts {
            let mut conformed = Vec::new();
            let mut misfits = Vec::new();
            conform(ready, &output, &origin, &mut conformed, &mut misfits);
            for (row, misfit) in misfits {
                let state = SqlState::INVALID_TEXT_REPRESENTATION;
                let mut rejected = Rejected::of_row(source, row as usize, state, misfit.reason);
                rejected.column = misfit.column;
                counters.rows_quarantined += 1;
                quarantine.write(rejected).await?;
            }
            for (rows, origin) in conformed {
                let judged = judge(&ready.constraints, rows, origin, source);
                let (rows, origin) = judged
                    .settle(&mut counters, &mut messages, quarantine)
                    .await?;
                counters.rows_out += count(rows.num_rows());
                kept.push((rows, origin));
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

/// Decoded rows with the types of the source's columns; what says where they are from stays behind them.
pub(super) fn as_source(
    transform: &Transform,
    decoded: &RecordBatch,
) -> Result<RecordBatch, SqlError> {
    let columns = transform.source();
    let schema = match decoded.schema().fields().get(columns.fields().len()..) {
        None | Some([]) => Arc::clone(columns),
        Some(behind) => {
            let all = columns.fields().iter().chain(behind).cloned();
            Arc::new(Schema::new(all.collect::<Vec<Arc<Field>>>()))
        }
    };
    RecordBatch::try_new(schema, decoded.columns().to_vec()).map_err(|error| {
        SqlError::internal("decoded rows are not of the source's columns").caused_by(error)
    })
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
    let (keep, rejected) = fit(transform, &source);
    let Some(keep) = keep else {
        return Ok((source, rejected));
    };
    let kept = filter_record_batch(&source, &keep)
        .map_err(|error| SqlError::internal("could not filter rows").caused_by(error))?;
    Ok((kept, rejected))
}

/// Which rows of the source can be taken, `None` for all, and those that cannot.
pub(super) fn fit(
    transform: &Transform,
    source: &RecordBatch,
) -> (Option<BooleanArray>, Vec<Rejected>) {
    let unfit = transform.unfit(source);
    if unfit.is_empty() {
        return (None, Vec::new());
    }
    let mut keep = vec![true; source.num_rows()];
    let mut rejected = Vec::with_capacity(unfit.len());
    for row in unfit {
        if let Some(keep) = keep.get_mut(row.row) {
            *keep = false;
        }
        let mut one = Rejected::of_row(source, row.row, row.sqlstate, row.reason);
        one.column = Some(row.column);
        rejected.push(one);
    }
    (Some(BooleanArray::from(keep)), rejected)
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
            let mut place = Rejected::of_row(
                self.source,
                self.at(failed.row),
                failed.sqlstate,
                failed.reason.clone(),
            );
            quarantine.locate(&mut place);
            return Err(Failure::File(Box::new(RunMessage {
                severity: Severity::Error,
                file: place.place(),
                row: place.number(),
                sqlstate: place.sqlstate,
                message: place.reason,
                sheet: place.sheet,
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
            let mut place = Rejected::of_row(
                self.source,
                self.at(*row),
                SqlState::CHECK_VIOLATION,
                reason,
            );
            quarantine.locate(&mut place);
            messages.push(RunMessage {
                severity: Severity::Warning,
                file: place.place(),
                row: place.number(),
                sqlstate: place.sqlstate,
                message: place.reason,
                sheet: place.sheet,
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
