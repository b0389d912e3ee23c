//! Applies a stream of changes to a table by its primary key, in one commit.
//!
//! ```text
//! changes in source order -> fold by key -> the last state of each key touched
//!     rows of these keys in the table (by the index, or by reading the keys) -> deleted by position
//!     states that are rows, completed from the old row where the source gave some columns only -> new files
//! deletions + new files + mark of the source -> one commit
//! ```
//!
//! What the table holds is found in one version. A commit that finds rows added since, or rows gone, begins
//! anew; the files already written are used again unless they hold values of old rows.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, new_null_array};
use arrow::compute::{cast, interleave, max, min, take};
use arrow::datatypes::{DataType, Field, FieldRef, Int32Type, Int64Type, Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::execution::SessionState;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use futures::TryStreamExt;
use roaring::RoaringTreemap;
use serde_json::{Map, Value};

use super::key::{KeyCodec, KeyNumbers};
use super::provider::{FILE_COLUMN, ROW_COLUMN};
use super::snapshot::DataFile;
use super::{
    Asked, CommitRequest, Committed, DeltaProvider, LakeError, LakeTable, MetadataChange,
    RowsByFile, SpilledChanges, TableSnapshot, TransactionMark, Uncommitted, WriterOptions,
    WrittenFile,
};
use crate::query::failure::from_datafusion;

/// Turns taken while other writers are in the way.
const ATTEMPTS_MAX: usize = 8;

/// Rows handed to the writer at once.
const WRITE_ROWS: usize = 16_384;

/// What becomes of the row of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It has these values from now on, whether it was there or not.
    Upsert,
    /// It is there no longer, if it was.
    Delete,
}

/// Changes that name the same columns, in the order of the source.
#[derive(Debug, Clone)]
pub struct ChangeBatch {
    /// Columns of the table by their names and types, the primary key among them. Those that are missing keep
    /// their values; in a row that was not there they are NULL. A row to be deleted needs its key only.
    pub rows: RecordBatch,
    pub changes: Vec<Change>,
    /// The keys the rows had before, as columns of the key, for changes that change the key; `None` where
    /// none does. The row of the old key is then the one that changes.
    pub keys_before: Option<Vec<ArrayRef>>,
}

/// Changes to be committed together.
#[derive(Debug, Clone, Default)]
pub struct ApplyRequest {
    /// The columns of the primary key.
    pub key: Vec<String>,
    pub changes: Vec<ChangeBatch>,
    /// More changes, kept on disk: of no two parts have changes a key in common, nor with `changes`.
    pub spilled: Vec<SpilledChanges>,
    pub operation: String,
    pub transaction: Option<TransactionMark>,
    /// Marks of parts of the source, which move together with `transaction`.
    pub part_marks: Vec<TransactionMark>,
    /// New columns that the changes have values for, or other changes of the table.
    pub metadata: Option<MetadataChange>,
    /// The changes are all there is: every row of before goes. These columns have no values but those of changes; others keep
    /// what a row of the same key had.
    pub replaces: Option<Vec<String>>,
    pub info: Map<String, Value>,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Applied {
    pub committed: Committed,
    /// Rows that were written: the last state of each key.
    pub rows_written: u64,
    /// Rows of the table that went, because they were deleted or written anew.
    pub rows_deleted: u64,
    /// Rows written with some columns only of which the table had none: the source said less than it should
    /// have, and the other columns are NULL.
    pub rows_incomplete: u64,
}

/// A batch of changes and a row of it.
type Place = (usize, usize);

/// The last state of a key.
enum State {
    Gone,
    /// All values of a change.
    Whole(Place),
    /// The values of changes, in their order, over those of the table's row with a key.
    Parts {
        parts: Vec<Place>,
        base: Option<u128>,
    },
}

/// All changes folded.
struct Folded {
    states: HashMap<u128, State>,
    /// The keys in the order they were first met, as columns.
    order: Vec<u128>,
    keys: Vec<ArrayRef>,
}

/// The rows of a table that have one of some keys.
#[derive(Default)]
struct Found {
    by_file: BTreeMap<String, Arc<RoaringTreemap>>,
}

/// Old rows, by their keys.
#[derive(Default)]
struct Bases {
    batches: Vec<RecordBatch>,
    places: HashMap<u128, Place>,
}

impl ApplyRequest {
    pub(super) fn parts(&self) -> usize {
        self.spilled.len() + usize::from(!self.changes.is_empty() || self.spilled.is_empty())
    }

    /// Whether rows of before have values that stay.
    fn keeps_values(&self, table: &TableSnapshot) -> bool {
        self.replaces.as_ref().is_none_or(|told| {
            let mut columns = table.schema().fields().iter();
            columns.any(|column| !told.contains(column.name()))
        })
    }

    pub(super) fn part(&self, part: usize) -> Result<Cow<'_, [ChangeBatch]>, LakeError> {
        match self.spilled.get(part) {
            Some(spilled) => spilled.read().map(Cow::Owned),
            None => Ok(Cow::Borrowed(&self.changes)),
        }
    }
}

/// Adds rows of files to others.
pub(super) fn merge(rows: &mut RowsByFile, more: RowsByFile) {
    for (path, more) in more {
        match rows.get_mut(&path) {
            Some(rows) => *Arc::make_mut(rows) |= &*more,
            None => {
                rows.insert(path, more);
            }
        }
    }
}

impl LakeTable {
    /// Applies changes, exactly once if the request has a mark. `state` runs the reading.
    pub async fn apply(
        self: &Arc<Self>,
        request: ApplyRequest,
        state: &Arc<SessionState>,
    ) -> Result<Applied, LakeError> {
        let mut written: Option<Vec<WrittenFile>> = None;
        let mut attempt = 1;
        loop {
            let snapshot = self.snapshot(None).await?;
            let table = match &request.metadata {
                Some(change) => snapshot.as_defined(&change.definition).map(Arc::new),
                None => None,
            };
            let table = table.unwrap_or_else(|| Arc::clone(&snapshot));
            let codec = codec_of(&request.key, &table)?;
            let keeps_values = request.keeps_values(&table);
            let mut deletes = RowsByFile::new();
            let mut adds = Vec::new();
            let mut needs_old = false;
            let mut incomplete = 0;
            let known = written.take();
            for part in 0..request.parts() {
                let changes = request.part(part)?;
                let folded = fold(&request.key, &changes, &codec, table.schema())?;
                let found = match keeps_values {
                    true => {
                        let seen = (&snapshot, &table);
                        self.find(&request.key, &codec, &folded, seen, state)
                            .await?
                    }
                    false => Found::default(),
                };
                if known.is_none() {
                    let mut bases = match folded.needs_old() && keeps_values {
                        true => {
                            needs_old = true;
                            self.bases(&request.key, &codec, &found, &table, state)
                                .await?
                        }
                        false => Bases::default(),
                    };
                    match &request.replaces {
                        Some(told) => bases.forget(told)?,
                        None => incomplete += folded.incomplete(&bases),
                    }
                    adds.extend(self.write_states(&changes, &folded, &bases, &table).await?);
                }
                if request.replaces.is_none() {
                    merge(&mut deletes, found.by_file);
                }
            }
            let adds = known.unwrap_or(adds);
            let rows_written = adds.iter().map(|file| file.rows).sum();
            let rows_deleted = deletes.values().map(|rows| rows.len()).sum();
            let outcome = self
                .commit_changes(
                    &request,
                    deletes,
                    adds.clone(),
                    Some(Arc::clone(&snapshot)),
                    state,
                )
                .await;
            match outcome {
                Ok(committed) => {
                    return Ok(Applied {
                        committed,
                        rows_written,
                        rows_deleted,
                        rows_incomplete: incomplete,
                    });
                }
                Err(error @ LakeError::Conflict { .. }) => {
                    let marked = self.has_moved_on(&request).await?;
                    if marked || attempt == ATTEMPTS_MAX {
                        self.discard(adds).await;
                        return Err(error);
                    }
                    tracing::info!(table = %self.location(), %error, attempt, "changes are applied anew");
                    attempt += 1;
                    if needs_old {
                        self.discard(adds).await;
                    } else {
                        written = Some(adds);
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Whether somebody has committed under the mark of a request meanwhile.
    pub(super) async fn has_moved_on(&self, request: &ApplyRequest) -> Result<bool, LakeError> {
        let Some(mark) = &request.transaction else {
            return Ok(false);
        };
        let now = self.refresh().await?;
        Ok(now.transaction(&mark.application).await? != mark.expected)
    }

    /// Where the rows of the keys touched are.
    async fn find(
        self: &Arc<Self>,
        key: &[String],
        codec: &KeyCodec,
        folded: &Folded,
        (committed, seen): (&Arc<TableSnapshot>, &Arc<TableSnapshot>),
        state: &Arc<SessionState>,
    ) -> Result<Found, LakeError> {
        if folded.order.is_empty() || seen.files().is_empty() {
            let by_file = BTreeMap::new();
            return Ok(Found { by_file });
        }
        // New rows of a key that counts up need no search.
        if let ([name], Some((least, greatest))) = (key, folded.bounds())
            && !seen.may_hold(name, least, greatest)
        {
            let by_file = BTreeMap::new();
            return Ok(Found { by_file });
        }
        let asked = Asked {
            key,
            keys: &folded.keys,
            builds: true,
        };
        if let Some(located) = self.locate(asked, committed, seen, state).await? {
            return Ok(Found {
                by_file: located.by_file,
            });
        }
        let provider = self.addressed_provider(seen, &[]);
        let names = key.iter().map(String::as_str);
        let mut rows: BTreeMap<usize, RoaringTreemap> = BTreeMap::new();
        let width = key.len();
        let columns: Vec<&str> = names.chain([FILE_COLUMN, ROW_COLUMN]).collect();
        self.read(&provider, &columns, state, |batch| {
            let numbers = numbers_of(codec, &batch.columns()[..width])?;
            let files = batch.column(width).as_primitive::<Int32Type>();
            let positions = batch.column(width + 1).as_primitive::<Int64Type>();
            for (row, number) in numbers.iter().enumerate() {
                if folded.states.contains_key(number) {
                    let file = usize::try_from(files.value(row)).unwrap_or(usize::MAX);
                    let position = u64::try_from(positions.value(row)).unwrap_or(u64::MAX);
                    rows.entry(file).or_default().insert(position);
                }
            }
            Ok(())
        })
        .await?;
        let by_file = rows.into_iter().filter_map(|(file, rows)| {
            let file: &Arc<DataFile> = seen.files().get(file)?;
            Some((file.path.clone(), Arc::new(rows)))
        });
        Ok(Found {
            by_file: by_file.collect(),
        })
    }

    /// The rows found, with all their columns.
    async fn bases(
        self: &Arc<Self>,
        key: &[String],
        codec: &KeyCodec,
        found: &Found,
        table: &Arc<TableSnapshot>,
        state: &Arc<SessionState>,
    ) -> Result<Bases, LakeError> {
        let mut bases = Bases::default();
        if found.by_file.is_empty() {
            return Ok(bases);
        }
        let provider = self.provider_of_rows(table, &found.by_file);
        let schema = table.schema();
        let names: Vec<&str> = schema
            .fields()
            .iter()
            .map(|field| field.name().as_str())
            .collect();
        self.read(&provider, &names, state, |batch| {
            let columns = columns_of(&batch, key)?;
            for (row, number) in numbers_of(codec, &columns)?.into_iter().enumerate() {
                bases.places.insert(number, (bases.batches.len(), row));
            }
            bases.batches.push(batch);
            Ok(())
        })
        .await?;
        Ok(bases)
    }

    pub(super) async fn read(
        &self,
        provider: &Arc<DeltaProvider>,
        columns: &[&str],
        state: &SessionState,
        mut each: impl FnMut(RecordBatch) -> Result<(), LakeError>,
    ) -> Result<(), LakeError> {
        let failed = |error| LakeError::Plan(Box::new(from_datafusion(error)));
        let schema = provider.schema();
        let projection = columns
            .iter()
            .map(|name| schema.index_of(name).map_err(encoding))
            .collect::<Result<Vec<_>, _>>()?;
        let plan: Arc<dyn ExecutionPlan> = provider
            .scan(state, Some(&projection), &[], None)
            .await
            .map_err(failed)?;
        let mut stream = execute_stream(plan, state.task_ctx()).map_err(failed)?;
        while let Some(batch) = stream.try_next().await.map_err(failed)? {
            each(batch)?;
        }
        Ok(())
    }

    /// Writes the rows that the keys have now.
    async fn write_states(
        &self,
        changes: &[ChangeBatch],
        folded: &Folded,
        bases: &Bases,
        table: &TableSnapshot,
    ) -> Result<Vec<WrittenFile>, LakeError> {
        let schema = table.schema();
        let layout = (table.partition_by(), table.names());
        let mut writer = self.writer(Arc::clone(schema), layout, WriterOptions::default())?;
        let rows: Vec<(&[Place], Option<u128>)> = folded
            .order
            .iter()
            .filter_map(|number| match folded.states.get(number)? {
                State::Gone => None,
                State::Whole(place) => Some((std::slice::from_ref(place), None)),
                State::Parts { parts, base } => Some((parts.as_slice(), *base)),
            })
            .collect();
        let sources = Sources::new(changes, bases, schema)?;
        for rows in rows.chunks(WRITE_ROWS) {
            writer.write(&sources.rows(rows, bases)?).await?;
        }
        writer.finish().await
    }

    /// Commits rows that go and rows that come. `keys_read` is the version that was searched for the keys.
    pub(super) async fn commit_changes(
        self: &Arc<Self>,
        request: &ApplyRequest,
        mut deletes: BTreeMap<String, Arc<RoaringTreemap>>,
        mut adds: Vec<WrittenFile>,
        keys_read: Option<Arc<TableSnapshot>>,
        state: &SessionState,
    ) -> Result<Committed, LakeError> {
        let mut replaces = BTreeMap::new();
        let mut copied = Vec::new();
        let properties = request.metadata.as_ref();
        let properties = properties.map(|change| change.definition.properties.clone());
        if !deletes.is_empty() && !self.uses_deletion_vectors(&properties.unwrap_or_default()) {
            let rows = Uncommitted {
                deleted: std::mem::take(&mut deletes),
                ..Uncommitted::default()
            };
            let made = self.rewrite_without_deleted(&rows, state).await?;
            replaces = made.replaces;
            copied.clone_from(&made.adds);
            adds.extend(made.adds);
        }
        let outcome = self
            .commit(CommitRequest {
                operation: request.operation.clone(),
                adds,
                removes_all: request.replaces.is_some(),
                replaces,
                deletes,
                keys_read,
                metadata: request.metadata.clone(),
                transaction: request.transaction.clone(),
                part_marks: request.part_marks.clone(),
                info: request.info.clone(),
                ..CommitRequest::default()
            })
            .await;
        if matches!(outcome, Err(LakeError::Conflict { .. })) {
            self.discard(copied).await;
        }
        outcome
    }
}

impl Bases {
    /// Leaves columns without values.
    fn forget(&mut self, columns: &[String]) -> Result<(), LakeError> {
        for batch in &mut self.batches {
            let schema = batch.schema();
            let kept = schema.fields().iter().zip(batch.columns());
            let kept = kept.map(|(field, values)| match columns.contains(field.name()) {
                true => new_null_array(field.data_type(), values.len()),
                false => Arc::clone(values),
            });
            let fields: Vec<Field> = schema
                .fields()
                .iter()
                .map(|field| field.as_ref().clone().with_nullable(true))
                .collect();
            let kept: Vec<ArrayRef> = kept.collect();
            *batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), kept).map_err(encoding)?;
        }
        Ok(())
    }
}

impl Folded {
    /// Whether a row's values come from the table in part.
    fn needs_old(&self) -> bool {
        let mut states = self.states.values();
        states.any(|state| matches!(state, State::Parts { base: Some(_), .. }))
    }

    /// The least and the greatest of the keys touched, where the key is one integer.
    fn bounds(&self) -> Option<(i64, i64)> {
        let [keys] = self.keys.as_slice() else {
            return None;
        };
        if !keys.data_type().is_signed_integer() {
            return None;
        }
        let keys = cast(keys, &DataType::Int64).ok()?;
        let keys = keys.as_primitive::<Int64Type>();
        Some((min(keys)?, max(keys)?))
    }

    fn incomplete(&self, bases: &Bases) -> u64 {
        let missing = |state: &&State| match state {
            State::Parts {
                base: Some(base), ..
            } => !bases.places.contains_key(base),
            _ => false,
        };
        self.states.values().filter(missing).count() as u64
    }
}

/// The columns of a key as numbers.
fn codec_of(key: &[String], table: &TableSnapshot) -> Result<KeyCodec, LakeError> {
    let fields = key.iter().map(|name| {
        let field = table.schema().field_with_name(name).map_err(encoding)?;
        Ok(Arc::new(field.clone()))
    });
    let fields = fields.collect::<Result<Vec<FieldRef>, LakeError>>()?;
    KeyCodec::of(&fields).ok_or_else(|| LakeError::Encode {
        reason: format!("rows cannot be found by ({})", key.join(", ")),
    })
}

fn numbers_of(codec: &KeyCodec, columns: &[ArrayRef]) -> Result<Vec<u128>, LakeError> {
    let (numbers, nulls) = codec.numbers(columns).map_err(encoding)?;
    if nulls.is_some_and(|nulls| nulls.null_count() > 0) {
        return Err(LakeError::Encode {
            reason: "a change has NULL in the primary key".into(),
        });
    }
    Ok(match numbers {
        KeyNumbers::Exact(numbers) => numbers.into_iter().map(u128::from).collect(),
        KeyNumbers::Hashed(numbers) => numbers,
    })
}

fn columns_of(rows: &RecordBatch, names: &[String]) -> Result<Vec<ArrayRef>, LakeError> {
    let columns = names.iter().map(|name| {
        let column = rows.column_by_name(name).cloned();
        column.ok_or_else(|| LakeError::Encode {
            reason: format!("changes lack column \"{name}\" of the primary key"),
        })
    });
    columns.collect()
}

fn encoding(error: arrow::error::ArrowError) -> LakeError {
    LakeError::Encode {
        reason: error.to_string(),
    }
}

/// The last state of each key.
fn fold(
    key: &[String],
    changes: &[ChangeBatch],
    codec: &KeyCodec,
    schema: &SchemaRef,
) -> Result<Folded, LakeError> {
    let mut states: HashMap<u128, State> = HashMap::new();
    let mut order = Vec::new();
    // Where the columns of each key met first are: (array, row), arrays by key column.
    let mut key_arrays: Vec<Vec<ArrayRef>> = vec![Vec::new(); key.len()];
    let mut key_places = Vec::new();
    for (batch, part) in changes.iter().enumerate() {
        if part.changes.len() != part.rows.num_rows() {
            return Err(LakeError::Encode {
                reason: format!(
                    "{} changes for {} rows",
                    part.changes.len(),
                    part.rows.num_rows()
                ),
            });
        }
        let unknown = |field: &&FieldRef| schema.index_of(field.name()).is_err();
        if let Some(field) = part.rows.schema_ref().fields().iter().find(unknown) {
            return Err(LakeError::Encode {
                reason: format!("the table has no column \"{}\"", field.name()),
            });
        }
        let whole = part.rows.num_columns() == schema.fields().len();
        let keys = columns_of(&part.rows, key)?;
        let numbers = numbers_of(codec, &keys)?;
        let before = match &part.keys_before {
            Some(before) => {
                let numbers_before = numbers_of(codec, before)?;
                for (arrays, column) in key_arrays.iter_mut().zip(before) {
                    arrays.push(Arc::clone(column));
                }
                Some(numbers_before)
            }
            None => None,
        };
        for (arrays, column) in key_arrays.iter_mut().zip(&keys) {
            arrays.push(Arc::clone(column));
        }
        let arrays = key_arrays.first().map_or(0, Vec::len);
        let mut touch = |states: &HashMap<u128, State>, number, place| {
            if !states.contains_key(&number) {
                order.push(number);
                key_places.push(place);
            }
        };
        for (row, (number, change)) in numbers.into_iter().zip(&part.changes).enumerate() {
            let here = (arrays.saturating_sub(1), row);
            let old = before.as_ref().and_then(|before| before.get(row)).copied();
            let old = old.filter(|old| *old != number);
            let state = match change {
                Change::Delete => State::Gone,
                Change::Upsert if whole => State::Whole((batch, row)),
                Change::Upsert => {
                    let from = old.unwrap_or(number);
                    let before = states.get_mut(&from);
                    match before.map(|before| std::mem::replace(before, State::Gone)) {
                        Some(State::Gone) => State::Parts {
                            parts: vec![(batch, row)],
                            base: None,
                        },
                        Some(State::Whole(place)) => State::Parts {
                            parts: vec![place, (batch, row)],
                            base: None,
                        },
                        Some(State::Parts { mut parts, base }) => {
                            parts.push((batch, row));
                            State::Parts { parts, base }
                        }
                        None => State::Parts {
                            parts: vec![(batch, row)],
                            base: Some(from),
                        },
                    }
                }
            };
            if let Some(old) = old {
                touch(&states, old, (arrays.saturating_sub(2), row));
                states.insert(old, State::Gone);
            }
            touch(&states, number, here);
            states.insert(number, state);
        }
    }
    let keys = key_arrays.iter().map(|arrays| {
        let arrays: Vec<&dyn Array> = arrays.iter().map(AsRef::as_ref).collect();
        match arrays.is_empty() {
            true => Err(LakeError::Encode {
                reason: "there are no changes".into(),
            }),
            false => interleave(&arrays, &key_places).map_err(encoding),
        }
    });
    let keys = match changes.is_empty() {
        true => Vec::new(),
        false => keys.collect::<Result<_, _>>()?,
    };
    Ok(Folded {
        states,
        order,
        keys,
    })
}

/// Where the values of each column of the table come from.
struct Sources {
    schema: SchemaRef,
    /// Of each column: the arrays of the batches that have it, then of the old rows, then NULL.
    arrays: Vec<Vec<ArrayRef>>,
    /// Of each column: which of its arrays a batch of changes is.
    of_batch: Vec<Vec<Option<usize>>>,
    /// Of each column: which of its arrays the first batch of old rows is.
    first_base: Vec<usize>,
}

impl Sources {
    fn new(changes: &[ChangeBatch], bases: &Bases, schema: &SchemaRef) -> Result<Self, LakeError> {
        let mut sources = Self {
            schema: Arc::clone(schema),
            arrays: Vec::new(),
            of_batch: Vec::new(),
            first_base: Vec::new(),
        };
        for (column, field) in schema.fields().iter().enumerate() {
            let mut arrays: Vec<ArrayRef> = Vec::new();
            let mut of_batch = Vec::with_capacity(changes.len());
            for part in changes {
                of_batch.push(match part.rows.column_by_name(field.name()) {
                    Some(values) if values.data_type() == field.data_type() => {
                        arrays.push(Arc::clone(values));
                        Some(arrays.len() - 1)
                    }
                    Some(values) => {
                        return Err(LakeError::Encode {
                            reason: format!(
                                "column \"{}\" is {} and a change has {}",
                                field.name(),
                                field.data_type(),
                                values.data_type()
                            ),
                        });
                    }
                    None => None,
                });
            }
            sources.first_base.push(arrays.len());
            let old = bases.batches.iter();
            arrays.extend(old.map(|batch| Arc::clone(batch.column(column))));
            arrays.push(new_null_array(field.data_type(), 1));
            sources.arrays.push(arrays);
            sources.of_batch.push(of_batch);
        }
        Ok(sources)
    }

    /// Rows of the table, each from the changes to it and the row it was.
    fn rows(
        &self,
        rows: &[(&[Place], Option<u128>)],
        bases: &Bases,
    ) -> Result<RecordBatch, LakeError> {
        let columns = self.arrays.iter().zip(&self.of_batch).zip(&self.first_base);
        let columns = columns.map(|((arrays, of_batch), first_base)| {
            let null = (arrays.len() - 1, 0);
            let places: Vec<Place> = rows
                .iter()
                .map(|(parts, base)| {
                    let mut parts = parts.iter().rev();
                    let changed = parts.find_map(|(batch, row)| {
                        let array = of_batch.get(*batch).copied().flatten()?;
                        Some((array, *row))
                    });
                    let old = || {
                        let (batch, row) = bases.places.get(&(*base)?)?;
                        Some((first_base + batch, *row))
                    };
                    changed.or_else(old).unwrap_or(null)
                })
                .collect();
            gathered(arrays, &places).map_err(encoding)
        });
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        RecordBatch::try_new(Arc::clone(&self.schema), columns).map_err(encoding)
    }
}

/// Values from several arrays; from one alone when they all come from it.
fn gathered(arrays: &[ArrayRef], places: &[Place]) -> Result<ArrayRef, arrow::error::ArrowError> {
    let first = places.first().map_or(0, |(array, _)| *array);
    if let Some(array) = arrays.get(first)
        && places.iter().all(|(array, _)| *array == first)
    {
        let rows = places.iter().map(|(_, row)| *row as u64);
        let rows = arrow::array::UInt64Array::from_iter_values(rows);
        return take(array, &rows, None);
    }
    let arrays: Vec<&dyn Array> = arrays.iter().map(AsRef::as_ref).collect();
    interleave(&arrays, places)
}
