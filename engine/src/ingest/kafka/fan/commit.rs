//! One batch: a position on record, and a commit of each table that has rows in it.

use std::collections::BTreeMap;

use boathouse_catalog::definitions::ObjectId;
use boathouse_catalog::state::{Lease, NewPosition, QuarantineFile, RunId};
use boathouse_connectors::kafka::TopicPartition;
use futures::FutureExt;
use futures::future::BoxFuture;
use futures::stream::{StreamExt, iter};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::super::super::load::PIPELINE_TAG;
use super::super::super::run::application;
use super::super::offsets::application_of;
use super::FanOut;
use super::table::FanTable;
use crate::error::SqlError;
use crate::ingest::failpoint;
use crate::lake::{CommitRequest, LakeError, TransactionMark};

/// Tables committed at a time: each commit mostly waits for the storage.
const COMMITS_AT_ONCE: usize = 8;

/// What a batch is besides the rows of its tables.
pub(in crate::ingest::kafka) struct FanCommit<'c> {
    pub pipeline: ObjectId,
    pub run: RunId,
    pub lease: &'c Lease,
    /// The sequence settled last.
    pub mark: Option<i64>,
    pub position: Value,
    /// Where each partition is read next.
    pub next: BTreeMap<TopicPartition, i64>,
    pub quarantine: &'c [QuarantineFile],
}

impl FanOut<'_> {
    /// Commits what was written: prepare, a commit of each table, resolve. Gives the sequence.
    pub async fn commit(&mut self, work: FanCommit<'_>) -> Result<i64, SqlError> {
        let tables = self.tables.iter();
        let written = tables.filter(|(_, table)| !table.adds.is_empty());
        let names: Vec<String> = written.map(|(name, _)| name.clone()).collect();
        let mut position = work.position.clone();
        position["tables"] = json!(names);
        let tables = self.tables.values_mut();
        let captures: Vec<_> = tables.filter_map(FanTable::record).collect();
        let positions = self.plan.rows.engine().catalog.positions();
        let sequence = positions
            .prepare(NewPosition {
                pipeline: work.pipeline,
                attempt: Uuid::new_v4(),
                position,
                committed_sequence: work.mark.unwrap_or(0),
                files: &[],
                quarantine: work.quarantine,
                replays: &[],
                superseded: &[],
                captures: &captures,
                lease: Some(work.lease),
            })
            .await?;
        failpoint::hit("after_prepare");
        self.commit_tables(work.pipeline, work.run, sequence, &work.next)
            .await?;
        positions.resolve(work.pipeline, sequence).await?;
        failpoint::hit("after_resolve");
        self.forget_unlanded();
        Ok(sequence)
    }

    /// Commits each table that has rows to be written, under a sequence that is on record.
    pub async fn commit_tables(
        &mut self,
        pipeline: ObjectId,
        run: RunId,
        sequence: i64,
        next: &BTreeMap<TopicPartition, i64>,
    ) -> Result<(), SqlError> {
        let info = Map::from_iter([
            (PIPELINE_TAG.to_owned(), json!(self.plan.rows.name)),
            ("boathouseRun".to_owned(), json!(run.0)),
        ]);
        let mut commits = Vec::new();
        for table in self.tables.values_mut() {
            let adds = std::mem::take(&mut table.adds);
            let Some(ready) = table.ready.as_ref().filter(|_| !adds.is_empty()) else {
                continue;
            };
            // A table that a writer which has lost the pipeline committed to may be ahead of it.
            let moved = next
                .iter()
                .filter(|(partition, next)| table.marks.get(partition) < Some(next));
            let part_marks = moved
                .map(|(partition, next)| TransactionMark {
                    application: application_of(pipeline, partition),
                    expected: table.marks.get(partition).copied(),
                    version: *next,
                })
                .collect();
            let request = CommitRequest {
                operation: "WRITE".into(),
                adds,
                metadata: ready.target.metadata_change(),
                transaction: Some(TransactionMark {
                    application: application(pipeline),
                    expected: table.mark,
                    version: sequence,
                }),
                part_marks,
                info: info.clone(),
                ..CommitRequest::default()
            };
            commits.push((table, request));
        }
        let commits: Vec<BoxFuture<'_, Result<(), SqlError>>> = commits
            .into_iter()
            .map(|(table, request)| commit_table(table, request, sequence, next).boxed())
            .collect();
        let mut commits = iter(commits).buffer_unordered(COMMITS_AT_ONCE);
        while let Some(done) = commits.next().await {
            done?;
            failpoint::hit("kafka_table_committed");
        }
        Ok(())
    }
}

async fn commit_table(
    table: &mut FanTable,
    request: CommitRequest,
    sequence: i64,
    next: &BTreeMap<TopicPartition, i64>,
) -> Result<(), SqlError> {
    let Some(ready) = &mut table.ready else {
        return Ok(());
    };
    let adds = request.adds.clone();
    if let Err(error) = ready.target.table.commit(request).await {
        // Only a refusal tells for certain that the files are in no commit.
        if matches!(error, LakeError::Conflict { .. }) {
            ready.target.table.discard(adds).await;
        }
        return Err(error.into());
    }
    ready.target.committed(&table.plan).await?;
    table.mark = Some(sequence);
    for (partition, next) in next {
        let mark = table.marks.entry(partition.clone()).or_insert(*next);
        *mark = (*mark).max(*next);
    }
    Ok(())
}
