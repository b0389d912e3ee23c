//! Changes of one commit that are too many for memory: on disk, in parts by their keys.
//!
//! All changes to a key are in one part, in their order, so that a commit is made part by part. A change of a
//! key becomes a row that goes in one part and one that comes in another; that takes all columns of the row.
//! A part is a file of Arrow IPC streams, one after the other.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, UInt64Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::{DataType, Field, FieldRef, Schema};
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use tempfile::NamedTempFile;

use super::key::{KeyCodec, KeyNumbers};
use super::{Change, ChangeBatch, LakeError};

/// Parts that changes are divided into.
const PARTS: usize = 32;

/// What says of a row that it goes.
const DELETED: &str = "_boathouse_deleted";

/// Changes being written to disk.
pub struct ChangeSpill {
    key: Vec<String>,
    /// How many columns a row has that has all of them.
    width: usize,
    codec: Option<KeyCodec>,
    parts: Vec<BufWriter<NamedTempFile>>,
    pub rows: u64,
}

/// Changes on disk. The file goes with the last who knows of it.
#[derive(Debug, Clone)]
pub struct SpilledChanges {
    file: Arc<NamedTempFile>,
}

impl ChangeSpill {
    /// Into files of a folder. `width` columns make a whole row.
    pub fn new(folder: &Path, key: Vec<String>, width: usize) -> Result<Self, LakeError> {
        let parts = (0..PARTS).map(|_| NamedTempFile::new_in(folder).map(BufWriter::new));
        Ok(Self {
            key,
            width,
            codec: None,
            parts: parts.collect::<Result<_, _>>().map_err(disk)?,
            rows: 0,
        })
    }

    /// Takes changes, after all that were taken before. Blocks.
    pub fn add(&mut self, batch: &ChangeBatch) -> Result<(), LakeError> {
        self.rows += batch.rows.num_rows() as u64;
        let keys = self.keys_of(&batch.rows)?;
        let numbers = self.numbers(&keys)?;
        let before = match &batch.keys_before {
            Some(before) => Some((before, self.numbers(before)?)),
            None => None,
        };
        let Some((before, numbers_before)) = before else {
            return self.write(batch, &numbers, 0..numbers.len());
        };
        let mut begun = 0;
        for row in 0..numbers.len() {
            if numbers.get(row) == numbers_before.get(row) {
                continue;
            }
            if batch.rows.num_columns() < self.width {
                return Err(LakeError::Encode {
                    reason: "a key changes in a transaction larger than memory, of which the source logs some columns only (binlog_row_image = FULL logs all)".into(),
                });
            }
            self.write(batch, &numbers, begun..row)?;
            begun = row;
            self.write_delete(before, &numbers_before, row)?;
        }
        self.write(batch, &numbers, begun..numbers.len())
    }

    /// What was written.
    pub fn finish(self) -> Result<Vec<SpilledChanges>, LakeError> {
        let parts = self.parts.into_iter().map(|part| {
            let file = part
                .into_inner()
                .map_err(|error| disk(error.into_error()))?;
            Ok(SpilledChanges {
                file: Arc::new(file),
            })
        });
        parts.collect()
    }

    fn keys_of(&self, rows: &RecordBatch) -> Result<Vec<ArrayRef>, LakeError> {
        let columns = self.key.iter().map(|name| {
            let column = rows.column_by_name(name).cloned();
            column.ok_or_else(|| LakeError::Encode {
                reason: format!("changes lack column \"{name}\" of the primary key"),
            })
        });
        columns.collect()
    }

    fn numbers(&mut self, keys: &[ArrayRef]) -> Result<Vec<u128>, LakeError> {
        if self.codec.is_none() {
            let fields = self.key.iter().zip(keys).map(|(name, values)| {
                Arc::new(Field::new(name, values.data_type().clone(), true)) as FieldRef
            });
            self.codec = KeyCodec::of(&fields.collect::<Vec<_>>());
        }
        let codec = self.codec.as_ref().ok_or_else(|| LakeError::Encode {
            reason: "rows cannot be told apart by their key".into(),
        })?;
        let (numbers, _) = codec.numbers(keys).map_err(encoding)?;
        Ok(match numbers {
            KeyNumbers::Exact(numbers) => numbers.into_iter().map(u128::from).collect(),
            KeyNumbers::Hashed(numbers) => numbers,
        })
    }

    fn write(
        &mut self,
        batch: &ChangeBatch,
        numbers: &[u128],
        range: std::ops::Range<usize>,
    ) -> Result<(), LakeError> {
        let mut rows: Vec<Vec<u64>> = vec![Vec::new(); PARTS];
        for row in range {
            if let Some(rows) = numbers
                .get(row)
                .and_then(|number| rows.get_mut(part_of(*number)))
            {
                rows.push(row as u64);
            }
        }
        for (part, rows) in self.parts.iter_mut().zip(rows) {
            if rows.is_empty() {
                continue;
            }
            let deleted: BooleanArray = rows
                .iter()
                .map(|row| {
                    let change = usize::try_from(*row)
                        .ok()
                        .and_then(|row| batch.changes.get(row));
                    Some(change == Some(&Change::Delete))
                })
                .collect();
            let rows =
                take_record_batch(&batch.rows, &UInt64Array::from(rows)).map_err(encoding)?;
            append(part, &rows, deleted)?;
        }
        Ok(())
    }

    /// A row that goes, by the key it had.
    fn write_delete(
        &mut self,
        before: &[ArrayRef],
        numbers: &[u128],
        row: usize,
    ) -> Result<(), LakeError> {
        let fields = self.key.iter().zip(before);
        let fields: Vec<Field> = fields
            .map(|(name, values)| Field::new(name, values.data_type().clone(), true))
            .collect();
        let columns = before.iter().map(|values| values.slice(row, 1)).collect();
        let rows =
            RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(encoding)?;
        let part = numbers.get(row).map(|number| part_of(*number));
        match part.and_then(|part| self.parts.get_mut(part)) {
            Some(part) => append(part, &rows, BooleanArray::from(vec![true])),
            None => Ok(()),
        }
    }
}

impl SpilledChanges {
    /// All changes of the part. Blocks.
    pub fn read(&self) -> Result<Vec<ChangeBatch>, LakeError> {
        let file = File::open(self.file.path()).map_err(disk)?;
        let mut reader = BufReader::new(file);
        let mut batches = Vec::new();
        while !reader.fill_buf().map_err(disk)?.is_empty() {
            for batch in StreamReader::try_new(&mut reader, None).map_err(encoding)? {
                batches.push(changes_of(batch.map_err(encoding)?)?);
            }
        }
        Ok(batches)
    }
}

fn part_of(number: u128) -> usize {
    usize::try_from(number % PARTS as u128).unwrap_or_default()
}

fn append(
    part: &mut BufWriter<NamedTempFile>,
    rows: &RecordBatch,
    deleted: BooleanArray,
) -> Result<(), LakeError> {
    let mut fields = rows.schema().fields().to_vec();
    fields.push(Arc::new(Field::new(DELETED, DataType::Boolean, false)));
    let mut columns = rows.columns().to_vec();
    columns.push(Arc::new(deleted));
    let schema = Arc::new(Schema::new(fields));
    let rows = RecordBatch::try_new(Arc::clone(&schema), columns).map_err(encoding)?;
    let mut writer = StreamWriter::try_new(&mut *part, &schema).map_err(encoding)?;
    writer.write(&rows).map_err(encoding)?;
    writer.finish().map_err(encoding)?;
    drop(writer);
    part.flush().map_err(disk)
}

fn changes_of(mut batch: RecordBatch) -> Result<ChangeBatch, LakeError> {
    let deleted = batch
        .schema()
        .index_of(DELETED)
        .map(|index| batch.remove_column(index))
        .map_err(encoding)?;
    let changes = deleted
        .as_boolean()
        .values()
        .iter()
        .map(|deleted| match deleted {
            true => Change::Delete,
            false => Change::Upsert,
        });
    Ok(ChangeBatch {
        changes: changes.collect(),
        rows: batch,
        keys_before: None,
    })
}

fn encoding(error: ArrowError) -> LakeError {
    LakeError::Encode {
        reason: error.to_string(),
    }
}

fn disk(error: std::io::Error) -> LakeError {
    LakeError::storage("keep changes on disk", "the scratch folder", error)
}
