//! Rows found by what is in them, wherever they are: in a table, or in files of no commit yet.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::compute::interleave;
use arrow::datatypes::{DataType, Field, FieldRef, Int32Type, Int64Type, SchemaRef};
use datafusion::execution::SessionState;
use roaring::RoaringTreemap;

use super::apply::merge;
use super::key::{KeyCodec, KeyNumbers};
use super::provider::{FILE_COLUMN, ROW_COLUMN};
use super::{
    Applied, ApplyRequest, Change, ChangeBatch, LakeError, LakeTable, TableSnapshot, Uncommitted,
    WriterOptions, WrittenFile,
};

/// Turns taken while other writers are in the way.
const ATTEMPTS_MAX: usize = 8;

/// Rows handed to the writer at once.
const WRITE_ROWS: usize = 16_384;

/// Rows of files, by the files' paths.
pub type RowsByFile = BTreeMap<String, Arc<RoaringTreemap>>;

impl LakeTable {
    /// The files alone, as if they were all the table had.
    pub fn staged(
        &self,
        snapshot: &TableSnapshot,
        files: &[WrittenFile],
    ) -> Result<Arc<TableSnapshot>, LakeError> {
        let uncommitted = Uncommitted {
            files: files.to_vec().into(),
            removes_all: true,
            ..Uncommitted::default()
        };
        Ok(Arc::new(snapshot.with_uncommitted(&uncommitted)?))
    }

    /// Reads some columns of a version, batch by batch.
    pub async fn each_batch(
        self: &Arc<Self>,
        snapshot: &Arc<TableSnapshot>,
        columns: &[String],
        state: &SessionState,
        each: impl FnMut(RecordBatch) -> Result<(), LakeError>,
    ) -> Result<(), LakeError> {
        if snapshot.files().is_empty() {
            return Ok(());
        }
        let provider = self.provider(snapshot);
        let names: Vec<&str> = columns.iter().map(String::as_str).collect();
        self.read(&provider, &names, state, each).await
    }

    /// Where the rows are whose values of some columns are `wanted`, which is asked batch by batch and gives
    /// `None` when it cannot tell.
    pub async fn rows_where(
        self: &Arc<Self>,
        snapshot: &Arc<TableSnapshot>,
        columns: &[String],
        state: &SessionState,
        wanted: impl FnMut(&[ArrayRef]) -> Option<Vec<bool>>,
    ) -> Result<RowsByFile, LakeError> {
        let mut wanted = wanted;
        let mut found: BTreeMap<usize, RoaringTreemap> = BTreeMap::new();
        if snapshot.files().is_empty() {
            return Ok(RowsByFile::new());
        }
        let provider = self.addressed_provider(snapshot, &[]);
        let width = columns.len();
        let names = columns.iter().map(String::as_str);
        let names: Vec<&str> = names.chain([FILE_COLUMN, ROW_COLUMN]).collect();
        self.read(&provider, &names, state, |batch| {
            let asked = wanted(&batch.columns()[..width]).ok_or_else(|| LakeError::Encode {
                reason: "rows cannot be told apart".into(),
            })?;
            let files = batch.column(width).as_primitive::<Int32Type>();
            let positions = batch.column(width + 1).as_primitive::<Int64Type>();
            for (row, _) in asked.iter().enumerate().filter(|(_, asked)| **asked) {
                let file = usize::try_from(files.value(row)).unwrap_or(usize::MAX);
                let position = u64::try_from(positions.value(row)).unwrap_or(u64::MAX);
                found.entry(file).or_default().insert(position);
            }
            Ok(())
        })
        .await?;
        let by_file = found.into_iter().filter_map(|(file, rows)| {
            let file = snapshot.files().get(file)?;
            Some((file.path.clone(), Arc::new(rows)))
        });
        Ok(by_file.collect())
    }

    /// Writes some rows of a table into new files.
    pub async fn copy_found(
        self: &Arc<Self>,
        snapshot: &Arc<TableSnapshot>,
        rows: &RowsByFile,
        state: &SessionState,
    ) -> Result<Vec<WrittenFile>, LakeError> {
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let provider = self.provider_of_rows(snapshot, rows);
        let schema = snapshot.schema();
        let names: Vec<&str> = schema
            .fields()
            .iter()
            .map(|field| field.name().as_str())
            .collect();
        let mut batches = Vec::new();
        self.read(&provider, &names, state, |batch| {
            batches.push(batch);
            Ok(())
        })
        .await?;
        let layout = (snapshot.partition_by(), snapshot.names());
        let mut writer = self.writer(Arc::clone(schema), layout, WriterOptions::default())?;
        for batch in batches {
            let batch =
                batch
                    .with_schema(Arc::clone(schema))
                    .map_err(|error| LakeError::Encode {
                        reason: error.to_string(),
                    })?;
            writer.write(&batch).await?;
        }
        writer.finish().await
    }

    /// Applies changes to a table without a key, by all values of the rows: as many equal rows go as are
    /// deleted. Exactly once if the request has a mark. Rows to be deleted that the table does not have are
    /// counted as `rows_incomplete`.
    pub async fn apply_by_values(
        self: &Arc<Self>,
        request: ApplyRequest,
        state: &Arc<SessionState>,
    ) -> Result<Applied, LakeError> {
        let mut attempt = 1;
        loop {
            let snapshot = self.snapshot(None).await?;
            let mut deletes = RowsByFile::new();
            let mut adds = Vec::new();
            let mut missing = 0;
            for part in 0..request.parts() {
                let changes = request.part(part)?;
                let net = Net::of(&changes, snapshot.schema())?;
                let (found, lacking) = self.find_equal(&net, &snapshot, state).await?;
                adds.extend(self.write_net(&changes, &net, &snapshot).await?);
                missing += lacking;
                merge(&mut deletes, found);
            }
            let rows_written = adds.iter().map(|file| file.rows).sum();
            let rows_deleted = deletes.values().map(|rows| rows.len()).sum();
            let outcome = self
                .commit_changes(&request, deletes, adds.clone(), None, state)
                .await;
            match outcome {
                Ok(committed) => {
                    return Ok(Applied {
                        committed,
                        rows_written,
                        rows_deleted,
                        rows_incomplete: missing,
                    });
                }
                Err(error @ LakeError::Conflict { .. }) => {
                    self.discard(adds).await;
                    let marked = self.has_moved_on(&request).await?;
                    if marked || attempt == ATTEMPTS_MAX {
                        return Err(error);
                    }
                    attempt += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Rows of the table that are equal to those to be deleted, and how many of these it does not have.
    async fn find_equal(
        self: &Arc<Self>,
        net: &Net,
        snapshot: &Arc<TableSnapshot>,
        state: &SessionState,
    ) -> Result<(RowsByFile, u64), LakeError> {
        let mut left: HashMap<u128, u64> = net
            .rows
            .iter()
            .filter(|(_, row)| row.count < 0)
            .map(|(number, row)| (*number, row.count.unsigned_abs()))
            .collect();
        if left.is_empty() {
            return Ok((RowsByFile::new(), 0));
        }
        let found = self
            .rows_where(snapshot, &net.columns, state, |columns| {
                let numbers = net.numbers(columns)?;
                let take = numbers.iter().map(|number| match left.get_mut(number) {
                    Some(count) if *count > 0 => {
                        *count -= 1;
                        true
                    }
                    _ => false,
                });
                Some(take.collect())
            })
            .await?;
        Ok((found, left.values().sum()))
    }

    async fn write_net(
        &self,
        changes: &[ChangeBatch],
        net: &Net,
        snapshot: &TableSnapshot,
    ) -> Result<Vec<WrittenFile>, LakeError> {
        let schema = snapshot.schema();
        let mut places: Vec<(usize, usize)> = Vec::new();
        for number in &net.order {
            if let Some(row) = net.rows.get(number)
                && let (Ok(count), Some(place)) = (usize::try_from(row.count), row.place)
            {
                places.extend(std::iter::repeat_n(place, count));
            }
        }
        let layout = (snapshot.partition_by(), snapshot.names());
        let mut writer = self.writer(Arc::clone(schema), layout, WriterOptions::default())?;
        for places in places.chunks(WRITE_ROWS) {
            let columns = schema.fields().iter().map(|field| {
                let arrays: Vec<ArrayRef> = changes
                    .iter()
                    .map(|part| match part.rows.column_by_name(field.name()) {
                        Some(column) => Arc::clone(column),
                        None => {
                            arrow::array::new_null_array(field.data_type(), part.rows.num_rows())
                        }
                    })
                    .collect();
                let arrays: Vec<&dyn Array> = arrays.iter().map(AsRef::as_ref).collect();
                interleave(&arrays, places)
            });
            let columns = columns.collect::<Result<Vec<_>, _>>().map_err(encoding)?;
            let rows = RecordBatch::try_new(Arc::clone(schema), columns).map_err(encoding)?;
            writer.write(&rows).await?;
        }
        writer.finish().await
    }
}

/// How many rows of each set of values come, or go.
struct Net {
    columns: Vec<String>,
    codec: KeyCodec,
    rows: HashMap<u128, NetRow>,
    order: Vec<u128>,
}

#[derive(Default)]
struct NetRow {
    count: i64,
    /// A batch of the changes and a row of it that has the values.
    place: Option<(usize, usize)>,
}

impl Net {
    fn of(changes: &[ChangeBatch], schema: &SchemaRef) -> Result<Self, LakeError> {
        let mut names: Vec<String> = Vec::new();
        if let Some(first) = changes.first() {
            let fields = first.rows.schema();
            names.extend(fields.fields().iter().map(|field| field.name().clone()));
        }
        let fields = names.iter().map(|name| {
            let field = schema.field_with_name(name).map_err(encoding)?;
            // Texts of whatever kind are compared as they are written.
            let plain = Field::new(name, field.data_type().clone(), true);
            Ok(Arc::new(plain))
        });
        let mut fields = fields.collect::<Result<Vec<FieldRef>, LakeError>>()?;
        // With a second column, one of NULLs is no key of its own.
        fields.push(Arc::new(Field::new("", DataType::Boolean, true)));
        let codec = KeyCodec::of(&fields).ok_or_else(|| LakeError::Encode {
            reason: "rows cannot be told apart by their values".into(),
        })?;
        let mut net = Self {
            columns: names,
            codec,
            rows: HashMap::new(),
            order: Vec::new(),
        };
        for (batch, part) in changes.iter().enumerate() {
            let columns = net.columns.iter().map(|name| {
                let column = part.rows.column_by_name(name).cloned();
                column.ok_or_else(|| LakeError::Encode {
                    reason: format!("changes lack column \"{name}\""),
                })
            });
            let columns = columns.collect::<Result<Vec<_>, _>>()?;
            let numbers = net.numbers(&columns).ok_or_else(|| LakeError::Encode {
                reason: "rows cannot be told apart by their values".into(),
            })?;
            for (row, (number, change)) in numbers.into_iter().zip(&part.changes).enumerate() {
                let known = net.rows.entry(number).or_insert_with(|| {
                    net.order.push(number);
                    NetRow::default()
                });
                match change {
                    Change::Upsert => {
                        known.count += 1;
                        known.place = Some((batch, row));
                    }
                    Change::Delete => known.count -= 1,
                }
            }
        }
        Ok(net)
    }

    fn numbers(&self, columns: &[ArrayRef]) -> Option<Vec<u128>> {
        let rows = columns.first().map_or(0, |column| column.len());
        let mut columns = columns.to_vec();
        columns.push(Arc::new(BooleanArray::from(vec![true; rows])));
        let (numbers, _) = self.codec.numbers(&columns).ok()?;
        Some(match numbers {
            KeyNumbers::Exact(numbers) => numbers.into_iter().map(u128::from).collect(),
            KeyNumbers::Hashed(numbers) => numbers,
        })
    }
}

fn encoding(error: arrow::error::ArrowError) -> LakeError {
    LakeError::Encode {
        reason: error.to_string(),
    }
}
