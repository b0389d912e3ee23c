//! `REPLAY QUARANTINE`: sends rows that were set aside through their pipeline again, corrected.
//!
//! The raw cells of a row are decoded once more into the source's columns, `SET` corrects them, and the
//! query, the expectations and the target's constraints judge anew. Rows that pass are committed
//! together with a mark each, prepared and resolved like files are, so a row is replayed once however
//! often the process dies. Rows that do not pass stay where they are.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, StringArray, StringBuilder,
    UInt32Array,
};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{Field, Int64Type, Schema, SchemaRef};
use boathouse_catalog::definitions::{ObjectId, PipelineDefinition};
use boathouse_catalog::state::ReplayMark;
use boathouse_catalog::types::ColumnType;
use boathouse_connectors::format::{self, FILE, RESCUED, ROW, SHEET};
use boathouse_connectors::{LocalFile, Options};
use boathouse_sql::statement::{OnChangedFile, ReplayQuarantine};
use datafusion::common::DFSchema;
use serde_json::Value;

use super::decode::Decoding;
use super::discover;
use super::kafka::{is_from_topics, replay_messages};
use super::load::{Batch, PIPELINE_TAG, SOURCE_TAG};
use super::plan::PipelinePlan;
use super::publish::refuse_into_topic;
use super::quarantine::{QuarantinedRow, RawCells, quarantined_rows};
use super::row_plan::RowPlan;
use super::rows::{Ready, Rows, conform, count};
use super::run::{CommitBatch, OpenRun, commit_batch, position_of, settle};
use super::transform::Transform;
use super::{RunSummary, Trigger};
use crate::engine::Engine;
use crate::error::{SqlError, SqlState};
use crate::lake::{AppendWriter, ChangeBatch, WrittenFile};
use crate::query;

/// Columns a filter may name beside those of the source.
const REASON: &str = "_reason";
const RULE: &str = "_rule";

/// Replays what the statement selects.
pub async fn replay_quarantine(
    engine: &Arc<Engine>,
    pipeline: &PipelineDefinition,
    statement: &ReplayQuarantine,
) -> Result<RunSummary, SqlError> {
    if is_from_topics(pipeline)? {
        return replay_messages(engine, pipeline, statement).await;
    }
    refuse_into_topic(pipeline, "REPLAY QUARANTINE")?;
    let mut open = OpenRun::begin(engine, pipeline, Trigger::Replay).await?;
    match replay(&mut open, engine, pipeline, statement).await {
        Ok(()) => open.succeed().await,
        Err(error) => Err(open.fail(error).await),
    }
}

async fn replay(
    open: &mut OpenRun,
    engine: &Arc<Engine>,
    pipeline: &PipelineDefinition,
    statement: &ReplayQuarantine,
) -> Result<(), SqlError> {
    let plan = PipelinePlan::open(engine, pipeline).await?;
    let settled = settle(&plan, pipeline.id).await?;
    let waiting = waiting_rows(engine, pipeline.id).await?;
    if waiting.is_empty() {
        return Ok(());
    }
    let source = plan.declared.clone().unwrap_or(settled.source);
    if source.is_empty() {
        return Err(unknown_columns());
    }
    let mut rows = Rows::new(&plan, pipeline.id, open.run, source, open.counters);
    let mut replaying = Replaying::begin(&mut rows, statement).await?;
    let mut decoding = decode(engine, rows.ready()?, &waiting)?;
    while let Some(decoded) = decoding.batches.recv().await {
        let placed = placed_by_line(&decoded.batch, &waiting, rows.ready()?)?;
        replaying.take(open, &mut rows, placed, &waiting).await?;
    }
    decoding.finish().await.map_err(|error| {
        SqlError::new(SqlState(error.sqlstate), error.message.clone()).caused_by(error)
    })?;
    let position = position_of(&plan, &rows.source);
    replaying
        .commit(open, &mut rows, settled.mark, position)
        .await
}

/// The rows that can still be replayed.
pub(super) async fn waiting_rows(
    engine: &Engine,
    pipeline: ObjectId,
) -> Result<Vec<QuarantinedRow>, SqlError> {
    Ok(quarantined_rows(engine, Some(pipeline))
        .await?
        .into_iter()
        .filter(QuarantinedRow::is_waiting)
        .collect())
}

pub(super) fn unknown_columns() -> SqlError {
    SqlError::new(
        SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
        "the columns of the pipeline's source are not known",
    )
    .hint("name them with COLUMNS, or load something first")
}

/// Rows decoded once more, by the numbers of the quarantined rows they are of.
pub(super) struct Placed {
    /// The columns of the source.
    pub columns: Vec<ArrayRef>,
    pub numbers: Vec<usize>,
    /// Whether the quarantined row could be decoded at all. One that could not is a row only when every column is given.
    pub has_cells: Vec<bool>,
    /// Whether each row goes, where rows say so.
    pub goes: Option<Vec<bool>>,
}

/// What is replayed so far.
pub(super) struct Replaying {
    corrections: Corrections,
    files: ReplayedFiles,
    changes: Vec<ChangeBatch>,
    marks: Vec<ReplayMark>,
    selected: usize,
}

impl Replaying {
    /// Plans the statement for the columns of the source.
    pub async fn begin(
        rows: &mut Rows<'_>,
        statement: &ReplayQuarantine,
    ) -> Result<Self, SqlError> {
        if rows.ready.is_none() {
            rows.prepare().await?;
        }
        let (plan, pipeline) = (rows.plan, rows.pipeline);
        let ready = rows.ready()?;
        if !ready.transform.is_row_wise() {
            return Err(SqlError::unsupported(
                "REPLAY QUARANTINE of a query that aggregates, sorts or joins",
            ));
        }
        Ok(Self {
            corrections: Corrections::plan(plan, &ready.transform, statement)?,
            files: ReplayedFiles::new(pipeline, ready.policy == OnChangedFile::Reload),
            changes: Vec::new(),
            marks: Vec::new(),
            selected: 0,
        })
    }

    /// Corrects the rows that are selected.
    pub fn correct(
        &mut self,
        rows: &mut Rows<'_>,
        placed: Placed,
        waiting: &[QuarantinedRow],
    ) -> Result<Option<Corrected>, SqlError> {
        let transform = Arc::clone(&rows.ready()?.transform);
        let corrected = self.corrections.apply(placed, waiting, &transform)?;
        self.selected += corrected.as_ref().map_or(0, |one| one.rows.num_rows());
        Ok(corrected)
    }

    /// Takes changes for a table with a key.
    pub fn add(&mut self, changes: ChangeBatch) {
        self.changes.push(changes);
    }

    /// The row has been replayed with what was written.
    pub fn mark(&mut self, row: &QuarantinedRow) {
        self.marks.push(ReplayMark {
            sequence: row.sequence,
            row_id: row.row_id,
        });
    }

    /// Corrects rows, judges them anew and writes those that pass.
    pub async fn take(
        &mut self,
        open: &mut OpenRun,
        rows: &mut Rows<'_>,
        placed: Placed,
        waiting: &[QuarantinedRow],
    ) -> Result<(), SqlError> {
        let Some(batch) = self.correct(rows, placed, waiting)? else {
            return Ok(());
        };
        for (passed, origin) in judge_again(rows, &batch.rows).await? {
            open.counters.rows_out += count(passed.num_rows());
            for (index, row) in origin.values().iter().enumerate() {
                let quarantined = &waiting[batch.numbers[*row as usize]];
                // A join may make several rows of one.
                if index == 0 || origin.value(index - 1) != *row {
                    self.mark(quarantined);
                }
                self.files
                    .write(
                        rows.ready()?,
                        quarantined.file.as_deref(),
                        &passed.slice(index, 1),
                    )
                    .await?;
            }
        }
        Ok(())
    }

    /// Commits what was written, with the marks.
    pub async fn commit(
        mut self,
        open: &mut OpenRun,
        rows: &mut Rows<'_>,
        mark: Option<i64>,
        position: Value,
    ) -> Result<(), SqlError> {
        open.counters.rows_in = count(self.selected);
        open.counters.rows_quarantined = open.counters.rows_in - count(self.marks.len());
        let adds = self.files.finish().await?;
        if self.marks.is_empty() && self.changes.is_empty() {
            return Ok(());
        }
        // A row that became several output rows is one row of the quarantine.
        self.marks.sort_unstable();
        self.marks.dedup();
        let (plan, pipeline) = (rows.plan, rows.pipeline);
        let ready = rows.ready()?;
        let mut batch = Batch {
            adds,
            ..Batch::default()
        };
        commit_batch(
            plan,
            CommitBatch {
                pipeline,
                run: open.run,
                lease: &open.lease,
                keeps_refused: false,
                mark,
                position,
                batch: &mut batch,
                removes: Vec::new(),
                changes: self.changes,
                anew: None,
                part_marks: Vec::new(),
                replays: &self.marks,
                superseded: &[],
            },
            &mut ready.target,
        )
        .await?;
        Ok(())
    }
}

/// Gives rows decoded from lines, one a quarantined row, back their places.
fn placed_by_line(
    decoded: &RecordBatch,
    waiting: &[QuarantinedRow],
    ready: &Ready,
) -> Result<Placed, SqlError> {
    let lines = decoded
        .column_by_name(ROW)
        .and_then(|column| column.as_primitive_opt::<Int64Type>())
        .ok_or_else(|| SqlError::internal("decoded rows have no numbers"))?;
    let numbers: Vec<usize> = lines
        .values()
        .iter()
        .map(|line| usize::try_from(*line - 1).unwrap_or(usize::MAX))
        .collect();
    let row = |number: &usize| waiting.get(*number);
    let mut columns = decoded.columns().to_vec();
    for (index, field) in ready.transform.source().fields().iter().enumerate() {
        let place: ArrayRef = match field.name().as_str() {
            FILE => texts(&numbers, |number| row(number)?.file.as_deref()),
            SHEET => texts(&numbers, |number| row(number)?.sheet.as_deref()),
            ROW => Arc::new(
                numbers
                    .iter()
                    .map(|number| row(number)?.row)
                    .collect::<Int64Array>(),
            ),
            _ => continue,
        };
        columns[index] = place;
    }
    let has_cells = numbers
        .iter()
        .map(|number| row(number).is_some_and(has_cells))
        .collect();
    Ok(Placed {
        columns,
        numbers,
        has_cells,
        goes: None,
    })
}

/// The data files of replayed rows. Where a changed file replaces its rows, no data file holds rows of
/// two source files; rows of one file come together.
struct ReplayedFiles {
    pipeline: String,
    by_source: bool,
    open: Option<(Option<String>, SchemaRef, AppendWriter)>,
    finished: Vec<WrittenFile>,
}

impl ReplayedFiles {
    fn new(pipeline: ObjectId, by_source: bool) -> Self {
        Self {
            pipeline: pipeline.to_string(),
            by_source,
            open: None,
            finished: Vec::new(),
        }
    }

    async fn write(
        &mut self,
        ready: &Ready,
        file: Option<&str>,
        rows: &RecordBatch,
    ) -> Result<(), SqlError> {
        let source = file.filter(|_| self.by_source);
        if self
            .open
            .as_ref()
            .is_some_and(|(open, schema, _)| open.as_deref() != source || *schema != ready.schema)
        {
            self.close().await?;
        }
        let (_, _, writer) = match &mut self.open {
            Some(open) => open,
            none => {
                let schema = Arc::clone(&ready.schema);
                none.insert((source.map(str::to_owned), schema, ready.writer()?))
            }
        };
        Ok(writer.write(rows).await?)
    }

    async fn close(&mut self) -> Result<(), SqlError> {
        let Some((source, _, writer)) = self.open.take() else {
            return Ok(());
        };
        for mut file in writer.finish().await? {
            file.set_tag(PIPELINE_TAG, &self.pipeline);
            if let Some(source) = &source {
                file.set_tag(SOURCE_TAG, source);
            }
            self.finished.push(file);
        }
        Ok(())
    }

    async fn finish(mut self) -> Result<Vec<WrittenFile>, SqlError> {
        self.close().await?;
        Ok(self.finished)
    }
}

/// Whether the row has cells. The raw content of a record that could not be split has none.
fn has_cells(row: &QuarantinedRow) -> bool {
    matches!(serde_json::from_str(&row.raw), Ok(Value::Object(_)))
}

/// The raw cells, one object a line, through the decoder of such files.
fn decode(
    engine: &Engine,
    ready: &Ready,
    waiting: &[QuarantinedRow],
) -> Result<Decoding, SqlError> {
    let failed = |error: std::io::Error| {
        SqlError::new(SqlState::IO_ERROR, "could not spool quarantined rows").caused_by(error)
    };
    let path = discover::spool(engine)?.join(format!("replay-{}.ndjson", uuid::Uuid::new_v4()));
    let mut file = std::io::BufWriter::new(std::fs::File::create(&path).map_err(failed)?);
    for row in waiting {
        // A record that could not be split has no cells; SET can still give it some.
        let cells = if has_cells(row) {
            row.raw.as_str()
        } else {
            "{}"
        };
        writeln!(file, "{cells}").map_err(failed)?;
    }
    file.flush().map_err(failed)?;
    drop(file);
    let size = std::fs::metadata(&path).map_err(failed)?.len();
    let mut options = Options::none("format \"NDJSON\"");
    let ndjson = format::format("NDJSON")?.configure(&mut options)?;
    let local = LocalFile::in_place(&path, "quarantine", size);
    let schema = ready.transform.decode_schema().clone();
    Ok(Decoding::start_and_remove(ndjson, local, schema, path))
}

/// The WHERE and the SET of the statement, ready to be evaluated.
pub(super) struct Corrections {
    filter: Option<Arc<dyn datafusion::physical_expr::PhysicalExpr>>,
    assignments: BTreeMap<usize, Arc<dyn datafusion::physical_expr::PhysicalExpr>>,
    schema: Arc<Schema>,
    /// Every column of the source is given, so that a record without cells becomes a row.
    complete: bool,
}

/// Corrected source rows and which quarantined row each one is.
pub(super) struct Corrected {
    pub rows: RecordBatch,
    pub numbers: Vec<usize>,
    pub goes: Option<Vec<bool>>,
}

impl Corrections {
    pub fn plan(
        plan: &RowPlan,
        transform: &Transform,
        statement: &ReplayQuarantine,
    ) -> Result<Self, SqlError> {
        let source = transform.source();
        let mut fields: Vec<Field> = source
            .fields()
            .iter()
            .map(|field| field.as_ref().clone())
            .collect();
        fields.push(ColumnType::Text.to_field(REASON, true));
        fields.push(ColumnType::Text.to_field(RULE, true));
        let schema = Arc::new(Schema::new(fields));
        let known = DFSchema::try_from(schema.as_ref().clone()).map_err(query::failure)?;
        let state = query::session_state(&plan.context);
        let compile = |expression: &boathouse_sql::ast::Expr, wanted: &ColumnType| {
            let planned = query::plan_expression(&plan.context, expression, &known, Some(wanted))?;
            state
                .create_physical_expr(planned, &known)
                .map_err(query::failure)
        };
        let filter = statement
            .filter
            .as_ref()
            .map(|filter| compile(filter, &ColumnType::Boolean))
            .transpose()?;
        let mut assignments = BTreeMap::new();
        for (name, expression) in &statement.assignments {
            let index = source.index_of(name).map_err(|_| {
                SqlError::new(
                    SqlState::UNDEFINED_COLUMN,
                    format!("column \"{name}\" of the pipeline's source does not exist"),
                )
            })?;
            let wanted = ColumnType::from_field(source.field(index));
            assignments.insert(index, compile(expression, &wanted)?);
        }
        let metadata = plan.metadata_names();
        let complete = source.fields().iter().enumerate().all(|(index, field)| {
            assignments.contains_key(&index) || metadata.contains(&field.name().as_str())
        });
        Ok(Self {
            filter,
            assignments,
            schema,
            complete,
        })
    }

    /// Corrects the rows that the filter selects.
    pub fn apply(
        &self,
        placed: Placed,
        waiting: &[QuarantinedRow],
        transform: &Transform,
    ) -> Result<Option<Corrected>, SqlError> {
        let failed = |error: arrow::error::ArrowError| {
            SqlError::internal("could not form the rows to replay").caused_by(error)
        };
        let Placed {
            mut columns,
            numbers,
            has_cells,
            goes,
        } = placed;
        let row = |number: &usize| waiting.get(*number);
        let source = transform.source();
        columns.push(texts(&numbers, |number| Some(row(number)?.reason.as_str())));
        columns.push(texts(&numbers, |number| row(number)?.rule.as_deref()));
        let mut batch = RecordBatch::try_new(Arc::clone(&self.schema), columns).map_err(failed)?;
        let mut places: Vec<usize> = (0..numbers.len()).collect();
        if !self.complete {
            // It would become a row of NULLs, and be gone from the quarantine.
            places.retain(|place| has_cells[*place]);
            batch = filter_record_batch(&batch, &BooleanArray::from(has_cells)).map_err(failed)?;
        }
        if let Some(filter) = &self.filter {
            let selected = filter
                .evaluate(&batch)
                .and_then(|value| value.into_array(batch.num_rows()))
                .map_err(query::failure)?;
            let selected = selected.as_boolean();
            places = places
                .into_iter()
                .zip(selected.iter())
                .filter_map(|(place, selected)| (selected == Some(true)).then_some(place))
                .collect();
            batch = filter_record_batch(&batch, selected).map_err(failed)?;
        }
        if batch.num_rows() == 0 {
            return Ok(None);
        }
        let mut columns = batch.columns()[..source.fields().len()].to_vec();
        for (index, expression) in &self.assignments {
            columns[*index] = expression
                .evaluate(&batch)
                .and_then(|value| value.into_array(batch.num_rows()))
                .map_err(query::failure)?;
        }
        if let Ok(index) = source.index_of(RESCUED) {
            let corrected: Vec<&str> = self
                .assignments
                .keys()
                .map(|index| source.field(*index).name().as_str())
                .collect();
            columns[index] = without(&columns[index], &corrected);
        }
        let rows = RecordBatch::try_new(Arc::clone(source), columns).map_err(failed)?;
        Ok(Some(Corrected {
            rows,
            numbers: places.iter().map(|place| numbers[*place]).collect(),
            goes: goes.map(|goes| places.iter().map(|place| goes[*place]).collect()),
        }))
    }
}

fn texts<'r>(numbers: &'r [usize], text: impl Fn(&'r usize) -> Option<&'r str>) -> ArrayRef {
    Arc::new(numbers.iter().map(text).collect::<StringArray>())
}

/// `_rescued` without the cells that were corrected.
fn without(rescued: &ArrayRef, corrected: &[&str]) -> ArrayRef {
    let Some(texts) = rescued.as_string_opt::<i32>() else {
        return Arc::clone(rescued);
    };
    let mut left = StringBuilder::new();
    for text in texts {
        // As they were written: a number may have more digits than a number of JSON is read with.
        let cells = text.and_then(|text| serde_json::from_str::<RawCells>(text).ok());
        match cells {
            None => left.append_option(text),
            Some(mut cells) => {
                cells.retain(|name, _| !corrected.contains(&name.as_str()));
                let kept = serde_json::to_string(&cells).ok();
                left.append_option(kept.filter(|_| !cells.is_empty()));
            }
        }
    }
    Arc::new(left.finish())
}

/// Rows of the table made of corrected rows, each with the corrected row it came from. What breaks a
/// rule again is left out.
async fn judge_again(
    rows: &mut Rows<'_>,
    corrected: &RecordBatch,
) -> Result<Vec<(RecordBatch, UInt32Array)>, SqlError> {
    let failed = |error: arrow::error::ArrowError| {
        SqlError::internal("could not filter the rows to replay").caused_by(error)
    };
    let keep = |rows: RecordBatch, origin: UInt32Array, keep: Option<BooleanArray>| match keep {
        None => Ok((rows, origin)),
        Some(keep) => {
            let origin = arrow::compute::filter(&origin, &keep).map_err(failed)?;
            let rows = filter_record_batch(&rows, &keep).map_err(failed)?;
            Ok::<_, SqlError>((rows, UInt32Array::from(origin.to_data())))
        }
    };
    let mut passed = Vec::new();
    // What is still not of its column's type was told apart by its place; rows keep theirs here.
    let ready = rows.ready()?;
    let transform = Arc::clone(&ready.transform);
    let expectations = Arc::clone(&ready.expectations);
    let unfit: Vec<usize> = transform
        .unfit(corrected)
        .iter()
        .map(|row| row.row)
        .collect();
    let fits: BooleanArray = (0..corrected.num_rows())
        .map(|row| Some(!unfit.contains(&row)))
        .collect();
    let every =
        UInt32Array::from_iter_values(0..u32::try_from(corrected.num_rows()).unwrap_or(u32::MAX));
    let (corrected, places) = keep(corrected.clone(), every, Some(fits))?;
    for part in transform.apply(&corrected).await?.0 {
        let verdict = expectations.judge(&part.output);
        if let Some(violation) = verdict.failed {
            return Err(SqlError::new(violation.sqlstate, violation.reason));
        }
        let (output, origin) = keep(part.output, part.rows, verdict.keep)?;
        let part = [(output, origin)];
        rows.land(&part)?;
        let [(output, origin)] = part;
        let ready = rows.ready()?;
        // A row that does not fit its column stays; the others may fit.
        let mut fitting = Vec::new();
        conform(ready, &output, &origin, &mut fitting, &mut Vec::new());
        for (rows, origin) in fitting {
            let verdict = ready.constraints.judge(&rows);
            let (rows, origin) = keep(rows, origin, verdict.keep)?;
            if rows.num_rows() > 0 {
                let origin = origin
                    .values()
                    .iter()
                    .map(|row| places.value(*row as usize));
                passed.push((rows, UInt32Array::from_iter_values(origin)));
            }
        }
    }
    Ok(passed)
}
