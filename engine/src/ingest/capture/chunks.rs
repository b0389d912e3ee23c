//! Rows that were there before the changes, chunk by chunk.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::FieldRef;
use boathouse_connectors::mysql::{ChangedRows, Position, SourceTable};
use datafusion::execution::SessionState;
use futures::TryStreamExt;

use super::apply::{Committer, OPERATION};
use super::shape::{DELETED, Deletes, SHARD, Shape};
use super::state::{CaptureState, Captured, record};
use crate::error::{SqlError, SqlState};
use crate::ingest::failpoint;
use crate::lake::{
    AppendWriter, ApplyRequest, Change, ChangeBatch, CommitRequest, KeyCodec, KeyNumbers,
    RowsByFile, TableSnapshot, WriterOptions, WrittenFile,
};
use crate::query;
use crate::query::failure::from_datafusion;

/// Keys remembered of one table. Beyond it rows are looked for in the table instead.
pub(super) const TOUCHED_MAX: usize = 4_000_000;

/// Tells the rows of a table apart by numbers.
pub(super) struct Keys {
    codec: KeyCodec,
    names: Vec<String>,
}

impl Keys {
    /// `None` when the table has no key that can be told apart so.
    pub fn of(table: &SourceTable) -> Option<Self> {
        let fields: Option<Vec<FieldRef>> = table
            .key
            .iter()
            .map(|name| {
                let column = table.column(name)?;
                let column_type = column.source_type.column_type();
                Some(Arc::new(column_type.to_field(name, true)))
            })
            .collect();
        Some(Self {
            codec: KeyCodec::of(&fields?)?,
            names: table.key.clone(),
        })
    }

    pub fn numbers(&self, columns: &[ArrayRef]) -> Result<Vec<u128>, SqlError> {
        let (numbers, _) = self
            .codec
            .numbers(columns)
            .map_err(|error| SqlError::internal("keys cannot be compared").caused_by(error))?;
        Ok(match numbers {
            KeyNumbers::Exact(numbers) => numbers.into_iter().map(u128::from).collect(),
            KeyNumbers::Hashed(numbers) => numbers,
        })
    }

    pub fn of_rows(&self, rows: &RecordBatch) -> Result<Vec<u128>, SqlError> {
        let columns: Option<Vec<ArrayRef>> = self
            .names
            .iter()
            .map(|name| rows.column_by_name(name).cloned())
            .collect();
        let columns = columns.ok_or_else(|| SqlError::internal("changes lack their key"))?;
        self.numbers(&columns)
    }

    /// Adds the keys that changes touch, before and after.
    pub fn touch(
        &self,
        touched: &mut HashSet<u128>,
        changes: &[ChangedRows],
    ) -> Result<(), SqlError> {
        for part in changes {
            touched.extend(self.of_rows(&part.rows)?);
            if let Some(before) = &part.keys_before {
                touched.extend(self.numbers(before)?);
            }
        }
        Ok(())
    }

    /// Leaves out the rows whose keys were touched.
    pub fn untouched(
        &self,
        touched: &HashSet<u128>,
        batch: RecordBatch,
    ) -> Result<RecordBatch, SqlError> {
        if touched.is_empty() {
            return Ok(batch);
        }
        let keys = self.of_rows(&batch)?;
        if !keys.iter().any(|key| touched.contains(key)) {
            return Ok(batch);
        }
        let keep: BooleanArray = keys
            .iter()
            .map(|key| Some(!touched.contains(key)))
            .collect();
        filter_record_batch(&batch, &keep)
            .map_err(|error| SqlError::internal("rows cannot be left out").caused_by(error))
    }
}

/// A chunk on its way into a table.
pub(super) struct ChunkCommit {
    pub batches: Vec<RecordBatch>,
    /// What the table's capture is once the chunk is committed.
    pub next: CaptureState,
}

/// Commits a chunk. Gives the sequence the table has then, and the rows written.
pub(super) async fn commit_chunk(
    committer: &Committer,
    captured: &Captured,
    keys: Option<&Keys>,
    chunk: ChunkCommit,
    (position, committed): (&Position, i64),
) -> Result<(i64, u64), SqlError> {
    let mut batches = Vec::with_capacity(chunk.batches.len());
    for batch in chunk.batches {
        let batch = match keys {
            Some(keys) => keys.untouched(&captured.touched, batch)?,
            None => batch,
        };
        let batch = captured.read(batch)?;
        if batch.num_rows() > 0 {
            batches.push(batch);
        }
    }
    let lake = &captured.lake;
    let snapshot = lake.snapshot(None).await?;
    let rows: u64 = batches.iter().map(|batch| batch.num_rows() as u64).sum();
    let change = record(&captured.state, Some(&chunk.next))?;
    let appends = captured.touched_is_whole
        || snapshot.files().is_empty()
        || captured.shape.deletes == Deletes::History;
    if !appends && rows > 0 {
        // Some of the rows may be in the table already.
        let sequence = committer.prepare(position, committed, &[change]).await?;
        let changes = batches
            .into_iter()
            .map(|rows| ChangeBatch {
                changes: vec![Change::Upsert; rows.num_rows()],
                rows,
                keys_before: None,
            })
            .collect();
        let state = query::state_of(&committer.engine.runtime);
        let request = ApplyRequest {
            key: captured.shape.lands.key.clone(),
            changes,
            spilled: Vec::new(),
            operation: OPERATION.into(),
            transaction: Some(committer.mark(captured.mark, sequence)),
            part_marks: Vec::new(),
            metadata: None,
            replaces: None,
            info: committer.info(),
        };
        lake.apply(request, &state).await?;
        failpoint::hit("capture_table_committed");
        committer.settle(sequence).await?;
        return Ok((sequence, rows));
    }
    // Written before the sequence is taken, since this is what takes the time.
    let schema = snapshot.schema();
    let layout = (snapshot.partition_by(), snapshot.names());
    let mut writer = lake.writer(Arc::clone(schema), layout, WriterOptions::default())?;
    for batch in &batches {
        writer.write(&conform(batch, schema)?).await?;
    }
    let adds = writer.finish().await?;
    let sequence = committer.prepare(position, committed, &[change]).await?;
    lake.commit(CommitRequest {
        operation: OPERATION.into(),
        adds,
        transaction: Some(committer.mark(captured.mark, sequence)),
        info: committer.info(),
        ..CommitRequest::default()
    })
    .await?;
    failpoint::hit("capture_table_committed");
    committer.settle(sequence).await?;
    Ok((sequence, rows))
}

/// Rows with the columns of the table; those the source does not have are NULL. A column that the table does not
/// have is an error: its values would be lost.
pub(super) fn conform(
    batch: &RecordBatch,
    schema: &arrow::datatypes::SchemaRef,
) -> Result<RecordBatch, SqlError> {
    let known = batch.schema();
    let mut names = known.fields().iter().map(|field| field.name());
    if let Some(name) = names.find(|name| schema.field_with_name(name).is_err()) {
        return Err(SqlError::new(
            SqlState::UNDEFINED_COLUMN,
            format!("the table has no column \"{name}\", which its source has"),
        )
        .retryable());
    }
    let columns = schema
        .fields()
        .iter()
        .map(|field| match batch.column_by_name(field.name()) {
            None => Ok(arrow::array::new_null_array(
                field.data_type(),
                batch.num_rows(),
            )),
            Some(column) if column.data_type() == field.data_type() => Ok(Arc::clone(column)),
            Some(column) => Err(SqlError::new(
                SqlState::DATATYPE_MISMATCH,
                format!(
                    "column \"{}\" is {} and the source has {}",
                    field.name(),
                    field.data_type(),
                    column.data_type()
                ),
            )),
        });
    let columns = columns.collect::<Result<Vec<_>, _>>()?;
    RecordBatch::try_new(Arc::clone(schema), columns)
        .map_err(|error| SqlError::internal("rows do not fit their table").caused_by(error))
}

/// Writes rows of a table that is read anew; they are of no commit yet. Gives their number.
pub(super) async fn stage(
    captured: &mut Captured,
    batches: Vec<RecordBatch>,
) -> Result<u64, SqlError> {
    let mut writer = whole_writer(captured).await?;
    for batch in batches {
        writer.write(&captured.read(batch)?).await?;
    }
    let rows = writer.rows;
    captured.staged.extend(writer.writer.finish().await?);
    Ok(rows)
}

/// Puts what was staged in the place of the table's rows, in one commit: but for rows whose keys were met among
/// the changes meanwhile, which stay as they are in the table.
pub(super) async fn replace(
    committer: &Committer,
    captured: &mut Captured,
    keys: &Keys,
    next: CaptureState,
    (position, committed): (&Position, i64),
) -> Result<i64, SqlError> {
    let lake = Arc::clone(&captured.lake);
    let state = query::state_of(&committer.engine.runtime);
    let snapshot = lake.snapshot(None).await?;
    let mut adds = std::mem::take(&mut captured.staged);
    let touched = &captured.touched;
    let mut deletes = RowsByFile::new();
    let is_touched = |columns: &[ArrayRef]| -> Option<Vec<bool>> {
        let numbers = keys.numbers(columns).ok()?;
        Some(numbers.iter().map(|key| touched.contains(key)).collect())
    };
    if !touched.is_empty() {
        let staged = lake.staged(&snapshot, &adds)?;
        deletes = lake
            .rows_where(&staged, &keys.names, &state, is_touched)
            .await?;
    }
    let mode = captured.shape.deletes;
    // Of a history nothing goes, and of a table that others land in, too, only what is of this one.
    let removes_all = mode != Deletes::History && captured.shape.shard.is_none();
    if mode == Deletes::Soft {
        adds.extend(vanished(captured, keys, &adds, &snapshot, &state).await?);
    }
    if removes_all && !touched.is_empty() {
        let kept = lake
            .rows_where(&snapshot, &keys.names, &state, is_touched)
            .await?;
        adds.extend(lake.copy_found(&snapshot, &kept, &state).await?);
    } else if mode != Deletes::History {
        let columns: Vec<String> = SHARD
            .iter()
            .map(|name| (*name).to_owned())
            .chain(keys.names.iter().cloned())
            .collect();
        let shape = &captured.shape;
        let goes = |columns: &[ArrayRef]| -> Option<Vec<bool>> {
            let mine = shape.is_of_shard(columns)?;
            let touched = is_touched(columns.get(SHARD.len()..)?)?;
            Some(
                mine.iter()
                    .zip(touched)
                    .map(|(mine, touched)| *mine && !touched)
                    .collect(),
            )
        };
        if !removes_all {
            deletes.extend(lake.rows_where(&snapshot, &columns, &state, goes).await?);
        }
    }
    let change = record(&captured.state, Some(&next))?;
    let sequence = committer.prepare(position, committed, &[change]).await?;
    lake.commit(CommitRequest {
        operation: OPERATION.into(),
        adds,
        removes_all,
        deletes,
        transaction: Some(committer.mark(captured.mark, sequence)),
        info: committer.info(),
        ..CommitRequest::default()
    })
    .await?;
    failpoint::hit("capture_table_committed");
    committer.settle(sequence).await?;
    Ok(sequence)
}

/// The rows of a table that are not among those read anew, nor among those whose keys were met meanwhile: they
/// were deleted at the source, and stay as such.
async fn vanished(
    captured: &Captured,
    keys: &Keys,
    adds: &[WrittenFile],
    snapshot: &TableSnapshot,
    state: &SessionState,
) -> Result<Vec<WrittenFile>, SqlError> {
    let lake = &captured.lake;
    let staged = lake.staged(snapshot, adds)?;
    let mut there = captured.touched.clone();
    let mut rows = lake
        .rows_of(&staged, staged.files().to_vec(), state)
        .await?;
    while let Some(batch) = rows.try_next().await.map_err(from_datafusion)? {
        there.extend(keys.of_rows(&batch)?);
    }
    let mut writer = whole_writer(captured).await?;
    let mut rows = lake
        .rows_of(snapshot, snapshot.files().to_vec(), state)
        .await?;
    while let Some(batch) = rows.try_next().await.map_err(from_datafusion)? {
        let gone = keys.untouched(&there, of_shard(&captured.shape, batch)?)?;
        if gone.num_rows() > 0 {
            writer.write(&marked_deleted(&gone)?).await?;
        }
    }
    Ok(writer.writer.finish().await?)
}

/// The rows of a table that several land in which are of one.
pub(super) fn of_shard(shape: &Shape, rows: RecordBatch) -> Result<RecordBatch, SqlError> {
    let columns: Option<Vec<ArrayRef>> = SHARD
        .iter()
        .map(|name| rows.column_by_name(name).cloned())
        .collect();
    let mine = columns.and_then(|columns| shape.is_of_shard(&columns));
    match mine {
        None => Ok(rows),
        Some(mine) => filter_record_batch(&rows, &BooleanArray::from(mine))
            .map_err(|error| SqlError::internal("rows cannot be left out").caused_by(error)),
    }
}

/// Rows as they are, but deleted.
fn marked_deleted(rows: &RecordBatch) -> Result<RecordBatch, SqlError> {
    let columns = rows.schema_ref().fields().iter().zip(rows.columns());
    let columns = columns.map(|(field, column)| match field.name() == DELETED {
        true => Arc::new(BooleanArray::from(vec![true; rows.num_rows()])) as ArrayRef,
        false => Arc::clone(column),
    });
    RecordBatch::try_new(rows.schema(), columns.collect())
        .map_err(|error| SqlError::internal("rows do not fit their table").caused_by(error))
}

/// Rows that will take the place of a table's.
pub(super) struct WholeWriter {
    writer: AppendWriter,
    schema: arrow::datatypes::SchemaRef,
    rows: u64,
}

pub(super) async fn whole_writer(captured: &Captured) -> Result<WholeWriter, SqlError> {
    let snapshot = captured.lake.snapshot(None).await?;
    let schema = Arc::clone(snapshot.schema());
    let layout = (snapshot.partition_by(), snapshot.names());
    let options = WriterOptions::default();
    Ok(WholeWriter {
        writer: captured.lake.writer(Arc::clone(&schema), layout, options)?,
        schema,
        rows: 0,
    })
}

impl WholeWriter {
    pub fn rows(&self) -> u64 {
        self.rows
    }

    pub async fn write(&mut self, batch: &RecordBatch) -> Result<(), SqlError> {
        self.rows += batch.num_rows() as u64;
        Ok(self.writer.write(&conform(batch, &self.schema)?).await?)
    }

    /// Commits the rows in the place of those the table has.
    pub async fn replace(
        self,
        committer: &Committer,
        captured: &Captured,
        next: CaptureState,
        (position, committed): (&Position, i64),
    ) -> Result<i64, SqlError> {
        let adds = self.writer.finish().await?;
        let mut deletes = RowsByFile::new();
        if captured.shape.shard.is_some() && captured.shape.deletes != Deletes::History {
            let state = query::state_of(&committer.engine.runtime);
            let lake = &captured.lake;
            let columns = SHARD.map(str::to_owned);
            let snapshot = lake.snapshot(None).await?;
            deletes = lake
                .rows_where(&snapshot, &columns, &state, |columns| {
                    captured.shape.is_of_shard(columns)
                })
                .await?;
        }
        let change = record(&captured.state, Some(&next))?;
        let sequence = committer.prepare(position, committed, &[change]).await?;
        captured
            .lake
            .commit(CommitRequest {
                operation: OPERATION.into(),
                adds,
                removes_all: captured.shape.deletes != Deletes::History
                    && captured.shape.shard.is_none(),
                deletes,
                transaction: Some(committer.mark(captured.mark, sequence)),
                part_marks: Vec::new(),
                info: committer.info(),
                ..CommitRequest::default()
            })
            .await?;
        failpoint::hit("capture_table_committed");
        committer.settle(sequence).await?;
        Ok(sequence)
    }
}
