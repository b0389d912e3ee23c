//! `VERIFY PIPELINE`: whether the tables have what the source has, row by row, at one place.
//!
//! ```text
//! changes read up to a snapshot of the source -> the versions of the tables then
//!   both sides -> a checksum of the rows of each of many buckets of keys -> the buckets that differ
//!   both sides again, these buckets alone -> the rows that differ
//! HEAL: these keys are read from the source anew, as a chunk is
//! ```
//!
//! Memory follows what differs, not what there is. The pipeline goes on as soon as the place is found; one
//! connection reads the source, table by table.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::Hasher;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::compute::{concat, filter_record_batch};
use arrow::row::{RowConverter, SortField};
use arrow::util::display::array_value_to_string;
use boathouse_catalog::definitions::{PipelineDefinition, TableDefinition};
use boathouse_connectors::mysql::types::ValuePolicies;
use boathouse_connectors::mysql::{
    ChunkRequest, SourceTable, TableName, WholeSnapshot, key_literals,
};
use siphasher::sip128::{Hasher128, SipHasher13};
use uuid::Uuid;

use super::super::Trigger;
use super::super::run::is_capture;
use super::apply::{Committer, OPERATION};
use super::board::Running;
use super::chunks::{Keys, of_shard};
use super::plan::CapturePlan;
use super::pump::Pump;
use super::run::{Refresh, begin};
use super::schema;
use super::shape::{DELETED, Deletes, SHARD, Shape};
use crate::engine::Engine;
use crate::error::{SqlError, SqlState};
use crate::lake::{ApplyRequest, Change, ChangeBatch, LakeError, LakeTable, TableSnapshot};
use crate::query;

/// Buckets of keys.
const BUCKETS: usize = 1 << 16;

/// Rows that are looked at one by one. Of a table with more in buckets that differ only this is said.
const ROWS_MAX: usize = 1_000_000;

/// Differences listed of one table.
const LISTED_MAX: usize = 1000;

/// Keys read anew at once.
const HEAL_KEYS: usize = 500;

/// Keys read anew at once, of rows of which the binlog told too little.
pub(super) const ASKED_AGAIN: usize = 2_000;

/// Attempts at finding a place that both sides agree on.
const ATTEMPTS_MAX: usize = 20;

/// What was found of a table or a row of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The table at the source, as `database.table`.
    pub source: String,
    /// The table it lands in, as `schema.table`.
    pub target: String,
    /// `equal`, of a table; of a row `missing` (from the lake), `extra` (in the lake), `different`; `differs`, of
    /// a table of which too much differs to be listed.
    pub status: &'static str,
    /// The key of the row.
    pub key: Option<String>,
    /// The columns that differ; how many rows were compared; what was done.
    pub detail: Option<String>,
}

/// A table as both sides had it at one place.
struct Compared {
    source: Arc<SourceTable>,
    shape: Arc<Shape>,
    definition: TableDefinition,
    target: String,
    lake: Arc<LakeTable>,
    version: Arc<TableSnapshot>,
}

/// Compares source and tables of a capture; with `heal` what differs is read anew.
pub async fn verify_pipeline(
    engine: &Arc<Engine>,
    pipeline: &PipelineDefinition,
    heal: bool,
) -> Result<Vec<Verdict>, SqlError> {
    if !is_capture(pipeline)? {
        return Err(SqlError::unsupported(
            "VERIFY of a pipeline that is not FROM MYSQL",
        ));
    }
    let plan = CapturePlan::open(engine, pipeline).await?;
    if plan.options.deletes == Deletes::History {
        return Err(SqlError::unsupported(
            "VERIFY of a pipeline that keeps the history of its rows",
        )
        .hint("a second pipeline without deletes = 'history' can be compared"));
    }
    let (policies, mut snapshot, tables) = freeze(engine, pipeline).await?;
    let mut verdicts = Vec::new();
    let mut sick = Vec::new();
    for table in &tables {
        let found = compare(engine, &mut snapshot, table, policies).await?;
        verdicts.extend(found.verdicts(table));
        if !found.is_equal() {
            sick.push((table.source.name.clone(), found));
        }
    }
    snapshot.close().await;
    if heal && !sick.is_empty() {
        mend(engine, pipeline, sick).await?;
        for verdict in &mut verdicts {
            if verdict.status != "equal" {
                let detail = verdict.detail.take();
                let detail = detail
                    .map(|detail| format!("{detail}; "))
                    .unwrap_or_default();
                verdict.detail = Some(format!("{detail}read anew"));
            }
        }
    }
    Ok(verdicts)
}

/// Opens a pump of its own run.
pub(super) async fn open_pump(
    engine: &Arc<Engine>,
    pipeline: &PipelineDefinition,
    open: &mut super::super::run::OpenRun,
    status: &Running,
) -> Result<Pump, SqlError> {
    let plan = CapturePlan::open(engine, pipeline).await?;
    let committer = Committer::of(&plan, pipeline, open);
    let mut pump = Pump::start(plan, committer, open, &mut Refresh::No).await?;
    let until = pump.plan.server.source_state().await?;
    match pump.work(open, pipeline, Some(until), status).await {
        Ok(()) => Ok(pump),
        Err(error) => {
            pump.stop().await;
            Err(error)
        }
    }
}

/// Finds a place of the source, and the versions that the tables have there.
async fn freeze(
    engine: &Arc<Engine>,
    pipeline: &PipelineDefinition,
) -> Result<(ValuePolicies, WholeSnapshot, Vec<Compared>), SqlError> {
    let (mut open, status) = begin(engine, pipeline, Trigger::Verify).await?;
    let frozen = async {
        let mut pump = open_pump(engine, pipeline, &mut open, &status).await?;
        let frozen = freeze_at(&mut pump).await;
        pump.stop().await;
        frozen
    };
    match frozen.await {
        Ok(frozen) => {
            open.succeed().await?;
            Ok(frozen)
        }
        Err(error) => Err(open.fail(error).await),
    }
}

async fn freeze_at(
    pump: &mut Pump,
) -> Result<(ValuePolicies, WholeSnapshot, Vec<Compared>), SqlError> {
    for _ in 0..ATTEMPTS_MAX {
        let seen = pump.stream.position().clone();
        let snapshot = pump.plan.server.open_snapshot(&seen).await?;
        let whole = pump.read_up_to(snapshot.at.place).await?;
        let here = pump.stream.position();
        let same = snapshot.at.gtids.is_none() || here.gtids == snapshot.at.gtids;
        if !whole || !same {
            snapshot.close().await;
            continue;
        }
        let mut tables = Vec::new();
        for captured in pump.tables.values() {
            if captured.state.dropped || !captured.state.snapshot.is_done() {
                continue;
            }
            let schema = super::target::schema_name(&pump.plan, &captured.definition);
            tables.push(Compared {
                source: Arc::clone(&captured.source),
                shape: Arc::clone(&captured.shape),
                definition: captured.definition.clone(),
                target: format!("{schema}.{}", captured.definition.name),
                lake: Arc::clone(&captured.lake),
                version: captured.lake.snapshot(None).await?,
            });
        }
        return Ok((pump.plan.options.policies, snapshot, tables));
    }
    Err(SqlError::new(
        SqlState::LOCK_NOT_AVAILABLE,
        "the source is too busy to be compared at one place",
    )
    .hint("try again"))
}

/// Tells rows and their keys apart by numbers.
struct Numbers {
    keys: Option<Keys>,
    converter: RowConverter,
    secret: [u8; 16],
    /// Names of the columns that are compared.
    columns: Vec<String>,
}

impl Numbers {
    fn of(table: &Compared) -> Result<Self, SqlError> {
        let (shape, source) = (&table.shape, &table.source);
        let fields = shape.compared().map(|column| {
            // Where several tables land in one, another may have a wider type.
            let wider = table.definition.column(&column.name);
            let wider = wider.filter(|_| shape.shard.is_some());
            let column_type = wider.map_or(&column.column_type, |wider| &wider.column_type);
            SortField::new(column_type.arrow())
        });
        let converter = RowConverter::new(fields.collect())
            .map_err(|error| SqlError::internal("rows cannot be compared").caused_by(error))?;
        Ok(Self {
            keys: match source.key.is_empty() {
                true => None,
                false => Keys::of(source),
            },
            converter,
            secret: Uuid::new_v4().into_bytes(),
            columns: shape.compared().map(|column| column.name.clone()).collect(),
        })
    }

    /// Of each row a number for its key, and one for its values. Rows without a key are their own.
    fn rows(&self, batch: &RecordBatch) -> Result<Vec<(u128, u128)>, SqlError> {
        let columns: Option<Vec<ArrayRef>> = self
            .columns
            .iter()
            .map(|name| batch.column_by_name(name).cloned())
            .collect();
        let columns = columns.ok_or_else(|| {
            SqlError::new(
                SqlState::DATATYPE_MISMATCH,
                "the table lacks a column of its source",
            )
        })?;
        let rows = self
            .converter
            .convert_columns(&columns)
            .map_err(|error| SqlError::internal("rows cannot be compared").caused_by(error))?;
        let values = rows.iter().map(|row| {
            let mut hasher = SipHasher13::new_with_key(&self.secret);
            hasher.write(row.as_ref());
            hasher.finish128().as_u128()
        });
        Ok(match &self.keys {
            Some(keys) => keys.of_rows(batch)?.into_iter().zip(values).collect(),
            None => values.map(|value| (value, value)).collect(),
        })
    }
}

fn bucket(key: u128) -> usize {
    usize::try_from(key % BUCKETS as u128).unwrap_or_default()
}

/// Rows of one side, bucket by bucket.
struct Checksums {
    counts: Vec<u32>,
    sums: Vec<u128>,
    rows: u64,
}

impl Checksums {
    fn new() -> Self {
        Self {
            counts: vec![0; BUCKETS],
            sums: vec![0; BUCKETS],
            rows: 0,
        }
    }

    fn add(&mut self, rows: &[(u128, u128)]) {
        self.rows += rows.len() as u64;
        for (key, value) in rows {
            let at = bucket(*key);
            if let (Some(count), Some(sum)) = (self.counts.get_mut(at), self.sums.get_mut(at)) {
                *count = count.wrapping_add(1);
                *sum = sum.wrapping_add(*value);
            }
        }
    }

    fn differing(&self, other: &Self) -> HashSet<usize> {
        (0..BUCKETS)
            .filter(|at| {
                self.counts.get(*at) != other.counts.get(*at)
                    || self.sums.get(*at) != other.sums.get(*at)
            })
            .collect()
    }
}

/// Rows of one side that are looked at one by one.
#[derive(Default)]
struct Rows {
    batches: Vec<RecordBatch>,
    /// By key: the row's values, how many rows are equal to it, and where one is.
    by_key: HashMap<u128, (u128, u64, (usize, usize))>,
    count: usize,
}

impl Rows {
    fn add(&mut self, batch: RecordBatch, rows: &[(u128, u128)], wanted: &HashSet<usize>) {
        let mut used = false;
        let at = self.batches.len();
        for (row, (key, value)) in rows.iter().enumerate() {
            if !wanted.contains(&bucket(*key)) {
                continue;
            }
            used = true;
            self.count += 1;
            let known = self.by_key.entry(*key).or_insert((*value, 0, (at, row)));
            known.1 += 1;
            // A key that is there twice differs from one that is there once.
            if known.1 > 1 && known.0 != *value {
                known.0 = known.0.wrapping_add(*value);
            }
        }
        if used {
            self.batches.push(batch);
        }
    }
}

/// What was found of a table.
struct Found {
    rows: u64,
    differences: Vec<Difference>,
    /// More differs than was looked at.
    too_many: bool,
}

struct Difference {
    status: &'static str,
    key: String,
    columns: Option<String>,
    /// The key's columns, of one row.
    values: Vec<ArrayRef>,
}

impl Found {
    fn is_equal(&self) -> bool {
        self.differences.is_empty() && !self.too_many
    }

    fn verdicts(&self, table: &Compared) -> Vec<Verdict> {
        let verdict = |status, key, detail| Verdict {
            source: table.source.name.to_string(),
            target: table.target.clone(),
            status,
            key,
            detail,
        };
        if self.is_equal() {
            let plural = if self.rows == 1 { "" } else { "s" };
            let detail = format!("{} row{plural}", self.rows);
            return vec![verdict("equal", None, Some(detail))];
        }
        let mut verdicts: Vec<Verdict> = self
            .differences
            .iter()
            .take(LISTED_MAX)
            .map(|one| verdict(one.status, Some(one.key.clone()), one.columns.clone()))
            .collect();
        if self.too_many || self.differences.len() > LISTED_MAX {
            let detail = match self.too_many {
                true => format!("more than {ROWS_MAX} of {} rows may differ", self.rows),
                false => format!("{} rows in all", self.differences.len()),
            };
            verdicts.push(verdict("differs", None, Some(detail)));
        }
        verdicts
    }
}

async fn compare(
    engine: &Arc<Engine>,
    snapshot: &mut WholeSnapshot,
    table: &Compared,
    policies: ValuePolicies,
) -> Result<Found, SqlError> {
    let numbers = Numbers::of(table)?;
    let mut theirs = Checksums::new();
    read_source(snapshot, table, policies, |batch| {
        theirs.add(&numbers.rows(&batch)?);
        Ok(())
    })
    .await?;
    let mut ours = Checksums::new();
    read_lake(engine, table, &numbers, |batch| {
        ours.add(&numbers.rows(&batch)?);
        Ok(())
    })
    .await?;
    let wanted = theirs.differing(&ours);
    let mut found = Found {
        rows: theirs.rows,
        differences: Vec::new(),
        too_many: false,
    };
    if wanted.is_empty() {
        return Ok(found);
    }
    let in_wanted = |side: &Checksums| -> u64 {
        let counts = wanted.iter().filter_map(|at| side.counts.get(*at));
        counts.map(|count| u64::from(*count)).sum()
    };
    if in_wanted(&theirs) + in_wanted(&ours) > ROWS_MAX as u64 {
        found.too_many = true;
        return Ok(found);
    }
    let mut there = Rows::default();
    read_source(snapshot, table, policies, |batch| {
        let rows = numbers.rows(&batch)?;
        there.add(batch, &rows, &wanted);
        Ok(())
    })
    .await?;
    let mut here = Rows::default();
    read_lake(engine, table, &numbers, |batch| {
        let rows = numbers.rows(&batch)?;
        here.add(batch, &rows, &wanted);
        Ok(())
    })
    .await?;
    found.differences = differences(&table.shape, &there, &here);
    Ok(found)
}

async fn read_source(
    snapshot: &mut WholeSnapshot,
    table: &Compared,
    policies: ValuePolicies,
    mut each: impl FnMut(RecordBatch) -> Result<(), SqlError>,
) -> Result<(), SqlError> {
    let mut failed = None;
    let shape = &table.shape;
    let mut shaped = |batch| each(shape.fit(shape.read(batch)?, &table.definition)?);
    let read = snapshot.read(&table.source, policies, |batch| match shaped(batch) {
        Ok(()) => true,
        Err(error) => {
            failed = Some(error);
            false
        }
    });
    read.await?;
    failed.map_or(Ok(()), Err)
}

async fn read_lake(
    engine: &Arc<Engine>,
    table: &Compared,
    numbers: &Numbers,
    mut each: impl FnMut(RecordBatch) -> Result<(), SqlError>,
) -> Result<(), SqlError> {
    let state = query::state_of(&engine.runtime);
    let mut failed = None;
    let mut columns = numbers.columns.clone();
    let keeps_deleted = table.shape.deletes == Deletes::Soft;
    columns.extend(keeps_deleted.then(|| DELETED.to_owned()));
    let read = table
        .lake
        .each_batch(&table.version, &columns, &state, |batch| {
            let mine = living(batch).and_then(|batch| of_shard(&table.shape, batch));
            mine.and_then(&mut each).map_err(|error| {
                let reason = error.message.clone();
                failed = Some(error);
                LakeError::Encode { reason }
            })
        })
        .await;
    match (read, failed) {
        (_, Some(error)) => Err(error),
        (read, None) => Ok(read?),
    }
}

/// The rows that are not kept although they were deleted at the source.
pub(super) fn living(batch: RecordBatch) -> Result<RecordBatch, SqlError> {
    let Some(deleted) = batch.column_by_name(DELETED) else {
        return Ok(batch);
    };
    let deleted = deleted.as_boolean_opt();
    let deleted = deleted.ok_or_else(|| SqlError::internal("marks of deleted rows are none"))?;
    let living: BooleanArray = deleted.iter().map(|one| Some(one != Some(true))).collect();
    filter_record_batch(&batch, &living)
        .map_err(|error| SqlError::internal("rows cannot be left out").caused_by(error))
}

/// The rows that one side has and the other has not, or otherwise.
fn differences(shape: &Shape, there: &Rows, here: &Rows) -> Vec<Difference> {
    let key = &shape.lands.key;
    let shown = match key.is_empty() {
        true => shape.compared().map(|column| column.name.clone()).collect(),
        false => key.clone(),
    };
    let made = |status, rows: &Rows, place: (usize, usize), columns| {
        let values: Vec<ArrayRef> = rows
            .batches
            .get(place.0)
            .map(|batch| {
                let columns = shown.iter().filter_map(|name| batch.column_by_name(name));
                columns.map(|column| column.slice(place.1, 1)).collect()
            })
            .unwrap_or_default();
        let texts: Vec<String> = values
            .iter()
            .map(|value| match value.is_null(0) {
                true => "NULL".to_owned(),
                false => array_value_to_string(value, 0).unwrap_or_default(),
            })
            .collect();
        Difference {
            status,
            key: texts.join(", "),
            columns,
            values,
        }
    };
    let mut all = Vec::new();
    for (number, (value, count, place)) in &there.by_key {
        match here.by_key.get(number) {
            None => all.push(made("missing", there, *place, None)),
            Some((same, times, _)) if same == value && times == count => {}
            Some((same, times, _)) if same == value => {
                let detail = Some(format!("{times} times, not {count}"));
                all.push(made("different", there, *place, detail));
            }
            Some((_, _, other)) => {
                let detail = columns_between(shape, (there, *place), (here, *other));
                all.push(made("different", there, *place, detail));
            }
        }
    }
    for (number, (_, _, place)) in &here.by_key {
        if !there.by_key.contains_key(number) {
            all.push(made("extra", here, *place, None));
        }
    }
    all.sort_by(|one, other| one.key.cmp(&other.key));
    all
}

/// The names of the columns in which two rows differ.
fn columns_between(
    shape: &Shape,
    (there, place): (&Rows, (usize, usize)),
    (here, other): (&Rows, (usize, usize)),
) -> Option<String> {
    let value = |rows: &Rows, (batch, row): (usize, usize), name: &str| {
        let column = rows.batches.get(batch)?.column_by_name(name)?;
        Some(column.slice(row, 1))
    };
    let names = shape.compared().filter(|column| {
        match (
            value(there, place, &column.name),
            value(here, other, &column.name),
        ) {
            (Some(one), Some(other)) => one.as_ref() != other.as_ref(),
            _ => true,
        }
    });
    let names: Vec<&str> = names.map(|column| column.name.as_str()).collect();
    Some(names.join(", "))
}

/// Reads what differs from the source anew: rows by their keys, or the whole table where it has none or too much
/// differs.
async fn mend(
    engine: &Arc<Engine>,
    pipeline: &PipelineDefinition,
    sick: Vec<(TableName, Found)>,
) -> Result<(), SqlError> {
    let (mut open, status) = begin(engine, pipeline, Trigger::Verify).await?;
    let mended = async {
        let mut pump = open_pump(engine, pipeline, &mut open, &status).await?;
        let mut mended = Ok(());
        for (name, found) in sick {
            mended = mend_table(&mut pump, &name, found).await;
            if mended.is_err() {
                break;
            }
        }
        if mended.is_ok() {
            let until = pump.plan.server.source_state().await?;
            mended = pump.work(&mut open, pipeline, Some(until), &status).await;
        }
        pump.stop().await;
        mended
    };
    match mended.await {
        Ok(()) => {
            open.succeed().await?;
            Ok(())
        }
        Err(error) => Err(open.fail(error).await),
    }
}

async fn mend_table(pump: &mut Pump, name: &TableName, found: Found) -> Result<(), SqlError> {
    let Some(captured) = pump.tables.get(name) else {
        return Ok(());
    };
    let source = Arc::clone(&captured.source);
    let mut found = found;
    if captured.shape.shard.is_some() && !source.key.is_empty() {
        // The source's key has not the names of the table.
        for one in &mut found.differences {
            one.values.drain(..SHARD.len().min(one.values.len()));
        }
    }
    let asked: Option<Vec<Vec<String>>> = found
        .differences
        .iter()
        .map(|one| key_literals(&source, &one.values, 0))
        .collect();
    let Some(asked) = asked.filter(|_| !source.key.is_empty() && !found.too_many) else {
        return schema::reload(pump, name).await;
    };
    let values = found.differences.into_iter().map(|one| one.values);
    mend_all(pump, name, asked.into_iter().zip(values).collect()).await
}

/// Keys of rows to be read anew: the literals of the source's language for them, and their columns, of one row.
pub(super) type AskedKeys = BTreeMap<Vec<String>, Vec<ArrayRef>>;

/// Reads rows anew by their keys. Rows that meanwhile changed in part only are read again.
pub(super) async fn mend_all(
    pump: &mut Pump,
    name: &TableName,
    mut asked: AskedKeys,
) -> Result<(), SqlError> {
    for _ in 0..ATTEMPTS_MAX {
        let Some(captured) = pump.tables.get(name) else {
            return Ok(());
        };
        let source = Arc::clone(&captured.source);
        while !asked.is_empty() {
            let part = first_keys(&mut asked, HEAL_KEYS);
            if !mend_keys(pump, name, &source, &part).await? {
                return schema::reload(pump, name).await;
            }
        }
        asked = match pump.tables.get_mut(name) {
            Some(captured) => std::mem::take(&mut captured.partials),
            None => AskedKeys::new(),
        };
        if asked.is_empty() {
            return Ok(());
        }
    }
    schema::reload(pump, name).await
}

/// Reads some of the rows anew that are uncertain. Those of them that changed meanwhile remain to be read.
pub(super) async fn ask_again(
    pump: &mut Pump,
    name: &TableName,
    source: &Arc<SourceTable>,
) -> Result<(), SqlError> {
    let Some(captured) = pump.tables.get_mut(name) else {
        return Ok(());
    };
    let asked = first_keys(&mut captured.uncertain, ASKED_AGAIN);
    let is_done = mend_keys(pump, name, source, &asked).await?;
    let Some(captured) = pump.tables.get_mut(name) else {
        return Ok(());
    };
    let mut left = std::mem::take(&mut captured.partials);
    if !is_done {
        // A change of the schema lies between: once it is carried out they are read.
        left.extend(asked);
        if captured.source.key != source.key {
            return schema::reload(pump, name).await;
        }
    }
    captured.uncertain.extend(left);
    Ok(())
}

/// Takes some keys, so many at most.
fn first_keys(keys: &mut AskedKeys, keys_max: usize) -> AskedKeys {
    let rest = match keys.keys().nth(keys_max).cloned() {
        Some(next) => keys.split_off(&next),
        None => AskedKeys::new(),
    };
    std::mem::replace(keys, rest)
}

/// Reads rows anew by their keys, as a chunk: what changes on the way to its watermark is newer. Whether that could
/// be done: a schema change on the way stops it.
async fn mend_keys(
    pump: &mut Pump,
    name: &TableName,
    source: &Arc<SourceTable>,
    asked: &AskedKeys,
) -> Result<bool, SqlError> {
    pump.flush().await?;
    pump.wait_committed().await?;
    if let Some(captured) = pump.tables.get_mut(name) {
        captured.touched.clear();
        captured.is_healing = true;
    }
    let request = ChunkRequest {
        table: Arc::clone(source),
        after: None,
        until: None,
        keys: Some(asked.keys().cloned().collect()),
        between: None,
        rows: 0,
        seen: pump.stream.position().clone(),
        policies: pump.plan.options.policies,
    };
    let chunk = pump.plan.server.read_chunk(request).await?;
    let whole = pump.read_up_to(chunk.high).await?;
    let Some(captured) = pump.tables.get_mut(name) else {
        return Ok(true);
    };
    captured.is_healing = false;
    let touched = std::mem::take(&mut captured.touched);
    let shape = Arc::clone(&captured.shape);
    let definition = captured.definition.clone();
    // The numbers of those touched are of these.
    let keys = pump.keys.get(name).cloned();
    let (true, Some(keys)) = (whole, keys) else {
        return Ok(false);
    };
    let mut changes = Vec::new();
    let mut there = HashSet::new();
    for rows in chunk.batches {
        let rows = shape.fit(shape.read(rows)?, &definition)?;
        there.extend(keys.of_rows(&rows)?);
        let rows = keys.untouched(&touched, rows)?;
        changes.push(ChangeBatch {
            changes: vec![Change::Upsert; rows.num_rows()],
            rows,
            keys_before: None,
        });
    }
    // What the source has not is taken out.
    let mut gone: Vec<&[ArrayRef]> = Vec::new();
    for one in asked.values() {
        let number = keys.numbers(one)?;
        if !number
            .iter()
            .any(|number| there.contains(number) || touched.contains(number))
        {
            gone.push(one);
        }
    }
    if !gone.is_empty() {
        changes.push(deletes(source, &shape, &gone)?);
    }
    commit_mended(pump, name, &shape, changes).await?;
    Ok(true)
}

/// Commits rows that were read anew.
pub(super) async fn commit_mended(
    pump: &mut Pump,
    name: &TableName,
    shape: &Shape,
    changes: Vec<ChangeBatch>,
) -> Result<(), SqlError> {
    let (lake, mark) = match pump.tables.get(name) {
        Some(captured) => (Arc::clone(&captured.lake), captured.mark),
        None => return Ok(()),
    };
    let committer = pump.committer.clone();
    let sequence = committer
        .prepare(&pump.committed, pump.sequence, &[])
        .await?;
    let state = query::state_of(&committer.engine.runtime);
    let request = ApplyRequest {
        key: shape.lands.key.clone(),
        changes,
        spilled: Vec::new(),
        operation: OPERATION.into(),
        transaction: Some(committer.mark(mark, sequence)),
        part_marks: Vec::new(),
        metadata: None,
        replaces: None,
        info: committer.info(),
    };
    lake.apply(request, &state).await?;
    committer.settle(sequence).await?;
    pump.sequence = sequence;
    pump.marked(name, sequence);
    Ok(())
}

fn deletes(
    source: &SourceTable,
    shape: &Shape,
    gone: &[&[ArrayRef]],
) -> Result<ChangeBatch, SqlError> {
    let wrong = |error| SqlError::internal("keys cannot be put together").caused_by(error);
    let mut fields = Vec::new();
    let mut columns = Vec::new();
    for (place, name) in source.key.iter().enumerate() {
        let Some(column) = source.column(name) else {
            continue;
        };
        let values: Vec<&dyn Array> = gone
            .iter()
            .filter_map(|one| one.get(place).map(AsRef::as_ref))
            .collect();
        columns.push(concat(&values).map_err(wrong)?);
        fields.push(column.source_type.column_type().to_field(name, true));
    }
    let schema = Arc::new(arrow::datatypes::Schema::new(fields));
    let keys = shape.with_shard(RecordBatch::try_new(schema, columns).map_err(wrong)?)?;
    let (rows, change) = match shape.deletes {
        Deletes::Soft => (shape.deleted(keys)?, Change::Upsert),
        Deletes::Hard | Deletes::History => (keys, Change::Delete),
    };
    Ok(ChangeBatch {
        rows,
        changes: vec![change; gone.len()],
        keys_before: None,
    })
}
