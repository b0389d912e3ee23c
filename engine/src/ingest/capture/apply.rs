//! One batch: a position on record, and one commit of each table that changed.

use std::sync::Arc;

use boathouse_catalog::definitions::{ObjectId, PipelineDefinition};
use boathouse_catalog::state::{Capture, Lease, NewPosition, RunId};
use boathouse_connectors::mysql::{ChangedRows, Position, RowChange, TableName};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::super::load::PIPELINE_TAG;
use super::super::run::{OpenRun, application};
use super::plan::CapturePlan;
use crate::engine::Engine;
use crate::error::SqlError;
use crate::ingest::failpoint;
use crate::lake::{ApplyRequest, Change, ChangeBatch, LakeTable, SpilledChanges, TransactionMark};
use crate::query;

/// What `system.table_history` calls such a commit.
pub(super) const OPERATION: &str = "STREAMING UPDATE";

/// On whose behalf commits are made.
#[derive(Clone)]
pub(super) struct Committer {
    pub engine: Arc<Engine>,
    pub pipeline: ObjectId,
    pub name: String,
    pub run: RunId,
    pub lease: Lease,
}

/// The changes of one table.
pub(super) struct TableChanges {
    /// The tables of the source that they are of.
    pub names: Vec<TableName>,
    pub lake: Arc<LakeTable>,
    pub key: Vec<String>,
    pub mark: Option<i64>,
    pub changes: Vec<ChangedRows>,
    /// Changes that are on disk. There are no others then.
    pub spilled: Vec<SpilledChanges>,
}

/// What became of a batch.
pub(super) struct Batched {
    pub sequence: i64,
    pub position: Position,
    /// The tables that have the sequence now.
    pub tables: Vec<TableName>,
    pub rows_written: u64,
    /// Rows of which the source told some columns only, and the table had none.
    pub incomplete: Vec<(TableName, u64)>,
}

impl Committer {
    /// For a run of a pipeline.
    pub fn of(plan: &CapturePlan, pipeline: &PipelineDefinition, open: &OpenRun) -> Self {
        Self {
            engine: Arc::clone(plan.engine()),
            pipeline: pipeline.id,
            name: plan.name.clone(),
            run: open.run,
            lease: open.lease.clone(),
        }
    }

    /// Records a position under a new sequence.
    pub async fn prepare(
        &self,
        position: &Position,
        committed: i64,
        captures: &[Capture],
    ) -> Result<i64, SqlError> {
        let position = serde_json::to_value(position).map_err(|error| {
            SqlError::internal("a position cannot be recorded").caused_by(error)
        })?;
        let sequence = self
            .engine
            .catalog
            .positions()
            .prepare(NewPosition {
                pipeline: self.pipeline,
                attempt: Uuid::new_v4(),
                position,
                committed_sequence: committed,
                files: &[],
                quarantine: &[],
                replays: &[],
                superseded: &[],
                captures,
                lease: Some(&self.lease),
            })
            .await?;
        failpoint::hit("capture_prepared");
        Ok(sequence)
    }

    /// Settles a sequence that every table has.
    pub async fn settle(&self, sequence: i64) -> Result<(), SqlError> {
        failpoint::hit("capture_unsettled");
        let positions = self.engine.catalog.positions();
        positions.resolve(self.pipeline, sequence).await?;
        Ok(())
    }

    /// Records a position that no table changes with.
    pub async fn pin(&self, position: &Position, committed: i64) -> Result<i64, SqlError> {
        let sequence = self.prepare(position, committed, &[]).await?;
        self.settle(sequence).await?;
        Ok(sequence)
    }

    pub fn mark(&self, expected: Option<i64>, sequence: i64) -> TransactionMark {
        TransactionMark {
            application: application(self.pipeline),
            expected,
            version: sequence,
        }
    }

    /// What commits say of where they come from.
    pub fn info(&self) -> Map<String, Value> {
        Map::from_iter([
            (PIPELINE_TAG.to_owned(), json!(self.name)),
            ("boathouseRun".to_owned(), json!(self.run.0)),
        ])
    }

    /// Commits changes: under a new sequence, or under one that was prepared before.
    pub async fn commit(
        self,
        tables: Vec<TableChanges>,
        position: Position,
        committed: i64,
        prepared: Option<i64>,
    ) -> Result<Batched, SqlError> {
        let sequence = match prepared {
            Some(sequence) => sequence,
            None => self.prepare(&position, committed, &[]).await?,
        };
        let mut batched = Batched {
            sequence,
            position,
            tables: Vec::new(),
            rows_written: 0,
            incomplete: Vec::new(),
        };
        for table in tables {
            let TableChanges {
                names,
                lake,
                key,
                mark,
                changes,
                spilled,
            } = table;
            let state = query::state_of(&self.engine.runtime);
            let request = ApplyRequest {
                key,
                changes: changes.into_iter().map(change_batch).collect(),
                spilled,
                operation: OPERATION.into(),
                transaction: Some(self.mark(mark, sequence)),
                part_marks: Vec::new(),
                metadata: None,
                replaces: None,
                info: self.info(),
            };
            let applied = match request.key.is_empty() {
                true => lake.apply_by_values(request, &state).await?,
                false => lake.apply(request, &state).await?,
            };
            failpoint::hit("capture_table_committed");
            batched.rows_written += applied.rows_written;
            if applied.rows_incomplete > 0 {
                let name = names.first().cloned();
                let incomplete = name.map(|name| (name, applied.rows_incomplete));
                batched.incomplete.extend(incomplete);
            }
            batched.tables.extend(names);
        }
        self.settle(sequence).await?;
        Ok(batched)
    }
}

pub(super) fn change_batch(rows: ChangedRows) -> ChangeBatch {
    ChangeBatch {
        rows: rows.rows,
        changes: rows
            .changes
            .into_iter()
            .map(|change| match change {
                RowChange::Upsert => Change::Upsert,
                RowChange::Delete => Change::Delete,
            })
            .collect(),
        keys_before: rows.keys_before,
    }
}
