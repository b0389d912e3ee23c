//! How far the capture of each table has come.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use arrow::array::RecordBatch;
use boathouse_catalog::definitions::{ObjectId, TableDefinition};
use boathouse_catalog::state::Capture;
use boathouse_connectors::mysql::{ChangedRows, ColumnChange, SourceTable, TableName};
use serde::{Deserialize, Serialize};

use super::shape::Shape;
use super::verify::AskedKeys;
use crate::error::SqlError;
use crate::lake::{LakeTable, WrittenFile};

/// What is on record of a captured table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct CaptureState {
    pub table: SourceTable,
    /// The table it lands in.
    pub target: ObjectId,
    pub snapshot: SnapshotState,
    /// It was dropped at the source; what it had stays.
    #[serde(default)]
    pub dropped: bool,
    /// What our data files call the columns of `table`: our own names for them do not tell, half way through a
    /// change, which column is which.
    pub in_files: BTreeMap<String, String>,
    /// Where the source stood when it was asked what `table` is: what statements before did is in it.
    #[serde(default)]
    pub listed_at: (u64, u64),
    /// Where the source stood when it was asked what `table` is, if changes are read of before that: they may be of
    /// other columns, until the first rows tell, and statements up to there are still to be followed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub foreseen_at: Option<(u64, u64)>,
    /// Rows in it are to be read again by their keys, which are not on record.
    #[serde(default)]
    pub has_partials: bool,
    /// Columns that were added at the source, and are not followed.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub ignored: BTreeSet<String>,
    /// Columns that are gone at the source and stay here for a view, by what our data files call them.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub kept: BTreeSet<String>,
    /// Columns whose going was not followed, by what our data files call them: one of the same name that the source adds
    /// later is another one.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub left: BTreeSet<String>,
    /// Tells its shape from others: [`Shape::text`].
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub shape: String,
    /// What it was called before, while its table and its record are given the new name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renamed_from: Option<TableName>,
}

/// How far the rows have been read that were there before the changes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum SnapshotState {
    /// Rows are still to be read: those behind a key, or all.
    Reading {
        after: Option<Vec<String>>,
        rows: u64,
        /// Rows of before are to be taken out with the first chunk: the table is read anew.
        #[serde(default)]
        replaces: bool,
    },
    Done {
        rows: u64,
    },
}

impl SnapshotState {
    /// Nothing has been read yet.
    pub fn begin() -> Self {
        Self::Reading {
            after: None,
            rows: 0,
            replaces: false,
        }
    }

    pub fn is_done(&self) -> bool {
        matches!(self, Self::Done { .. })
    }
}

/// What data files call the columns of a table.
pub(super) fn in_files(
    source: &SourceTable,
    definition: &TableDefinition,
) -> BTreeMap<String, String> {
    let columns = source.columns.iter().filter_map(|column| {
        let ours = definition.column(&column.name)?;
        Some((column.name.clone(), ours.name_in_files().to_owned()))
    });
    columns.collect()
}

/// A captured table while the pipeline runs.
pub(super) struct Captured {
    pub state: CaptureState,
    pub source: Arc<SourceTable>,
    pub shape: Arc<Shape>,
    pub definition: TableDefinition,
    pub lake: Arc<LakeTable>,
    /// The newest sequence of the pipeline that the table has.
    pub mark: Option<i64>,
    /// Keys met among the changes since the reading of rows began, as numbers of [`super::chunks::Keys`].
    pub touched: HashSet<u128>,
    /// Whether all keys met since the beginning are in `touched`, so that rows that were read and are not in
    /// it cannot be in the table.
    pub touched_is_whole: bool,
    /// What statements said of its columns since they were last brought into line, statement by statement.
    pub hints: Option<Vec<Vec<ColumnChange>>>,
    pub changes: u64,
    /// Some of its rows are being read anew: keys that change are noted.
    pub is_healing: bool,
    /// It has to be read anew once more, after it is read now.
    pub reloads_again: bool,
    /// What rows have that do not name all columns has to be asked of the source, should such rows come.
    pub lacks_defaults: bool,
    /// Keys of rows that changed while they were still to be read, and of which the source told some columns
    /// only: the rest is in no chunk.
    pub partials: AskedKeys,
    /// Rows whose other columns may have changed without a word, to be read anew.
    pub uncertain: AskedKeys,
    /// While the table is read anew: what has been written and is of no commit yet, and how far that goes.
    pub staged: Vec<WrittenFile>,
    pub staged_rows: u64,
    pub staged_after: Option<Vec<String>>,
}

impl Captured {
    pub fn name(&self) -> &TableName {
        &self.state.table.name
    }

    /// Changes of the source as changes of the table.
    pub fn changed(&self, changed: ChangedRows) -> Result<ChangedRows, SqlError> {
        let mut changed = match self.shape.is_to_be_asked(&changed.rows) {
            true => self.shape.gone(changed)?,
            false => self.shape.changed(changed)?,
        };
        changed.rows = self.shape.fit(changed.rows, &self.definition)?;
        Ok(changed)
    }

    /// Rows read from the source as rows of the table.
    pub fn read(&self, rows: RecordBatch) -> Result<RecordBatch, SqlError> {
        self.shape.fit(self.shape.read(rows)?, &self.definition)
    }

    /// Whether its rows are being replaced by what the source has.
    pub fn reloads(&self) -> bool {
        matches!(
            self.state.snapshot,
            SnapshotState::Reading { replaces: true, .. }
        )
    }

    /// Lets go of what is only needed while rows are being read.
    pub fn forget_reading(&mut self) {
        self.touched = HashSet::new();
        self.touched_is_whole = false;
        self.staged = Vec::new();
        self.staged_rows = 0;
        self.staged_after = None;
    }
}

/// A state as the catalog keeps it.
pub(super) fn record(
    state: &CaptureState,
    next: Option<&CaptureState>,
) -> Result<Capture, SqlError> {
    let json = |state: &CaptureState| {
        serde_json::to_value(state)
            .map_err(|error| SqlError::internal("a state cannot be recorded").caused_by(error))
    };
    Ok(Capture {
        source: state.table.name.to_string(),
        state: json(state)?,
        next: next.map(json).transpose()?,
    })
}
