//! How far a pipeline is, for whoever asks.

use std::collections::{BTreeMap, HashMap};

use boathouse_catalog::definitions::ObjectId;
use boathouse_catalog::state::pipeline_lease;
use boathouse_connectors::kafka::{PartitionEnds, TopicPartition};
use boathouse_sql::statement::Into as Target;
use serde_json::{Map, Value, json};

use super::super::capture::{CaptureStatus, PartitionStatus};
use super::super::plan::statement_of;
use super::offsets::{Progress, partitions_of};
use crate::engine::Engine;
use crate::error::SqlError;

/// What there is to tell besides offsets.
pub(super) struct Report {
    /// Where partitions ended when the run began; the reader knows better once it has read.
    ends: BTreeMap<TopicPartition, i64>,
    /// When the newest message was written that was read, and that is in the table, in milliseconds since 1970.
    seen: BTreeMap<TopicPartition, i64>,
    committed: BTreeMap<TopicPartition, i64>,
    messages: u64,
}

impl Report {
    pub fn new(ends: &BTreeMap<TopicPartition, PartitionEnds>) -> Self {
        Self {
            ends: ends
                .iter()
                .map(|(partition, ends)| (partition.clone(), ends.high))
                .collect(),
            seen: BTreeMap::new(),
            committed: BTreeMap::new(),
            messages: 0,
        }
    }

    /// A message was read that was written then.
    pub fn see(&mut self, partition: &TopicPartition, timestamp: i64) {
        self.seen.insert(partition.clone(), timestamp);
        self.messages += 1;
    }

    /// What was read is in the table.
    pub fn commit(&mut self) {
        self.committed.extend(std::mem::take(&mut self.seen));
    }

    pub fn status(
        &self,
        target: Option<ObjectId>,
        progress: &BTreeMap<TopicPartition, Progress>,
        ends: &HashMap<TopicPartition, i64>,
    ) -> CaptureStatus {
        let now = chrono::Utc::now().timestamp_millis();
        let partitions = progress
            .iter()
            .map(|(partition, progress)| {
                let committed = progress.mark.or(progress.start).unwrap_or(progress.next);
                let end = ends.get(partition).or_else(|| self.ends.get(partition));
                let behind = end.map(|end| u64::try_from(end - committed).unwrap_or(0));
                let at = self.committed.get(partition).copied().filter(|at| *at >= 0);
                let seconds = match (behind, at) {
                    (Some(0), _) => Some(0.0),
                    (Some(_), Some(at)) => Some((now - at).max(0) as f64 / 1000.0),
                    _ => None,
                };
                PartitionStatus {
                    topic: partition.topic.to_string(),
                    partition: partition.partition,
                    target,
                    offset: committed,
                    messages_behind: behind,
                    seconds_behind: seconds,
                    committed_at: at.map_or(0, |at| at.saturating_mul(1000)),
                }
            })
            .collect();
        CaptureStatus {
            partitions,
            ..CaptureStatus::default()
        }
    }
}

/// What a run tells of its partitions with its lease. Nothing in it changes by time alone.
pub(super) fn told_of(partitions: &[PartitionStatus]) -> Value {
    let mut topics: Map<String, Value> = Map::new();
    for one in partitions {
        let end = one
            .messages_behind
            .and_then(|behind| i64::try_from(behind).ok());
        let end = end.map(|behind| one.offset.saturating_add(behind));
        let at = (one.committed_at > 0).then_some(one.committed_at);
        let of_topic = topics.entry(one.topic.clone()).or_insert_with(|| json!({}));
        of_topic[one.partition.to_string()] = json!({ "next": one.offset, "end": end, "at": at });
    }
    json!({ "topics": topics })
}

/// How far the partitions of a pipeline are by what is on record and by what the servers tell that read them, for those that are
/// not read in this process.
pub async fn recorded_partitions(
    engine: &Engine,
    pipeline: ObjectId,
) -> Result<Vec<PartitionStatus>, SqlError> {
    let last = engine.catalog.positions().last_committed(pipeline).await?;
    let position = last.map(|last| last.position);
    let notes = engine.catalog.positions().notes(pipeline).await?;
    let target = target_of(engine, pipeline);
    // What was noted of a partition holds until a commit tells of it.
    let told = notes.iter().chain(&position);
    let mut known: BTreeMap<TopicPartition, Known> = told
        .flat_map(|told| partitions_of(Some(told)))
        .map(|(partition, one)| {
            let next = one["next"].as_i64().unwrap_or_default();
            let known = Known {
                next,
                ..Known::default()
            };
            (partition, known)
        })
        .collect();
    let leases = engine.catalog.leases();
    for told in leases.told(&pipeline_lease(pipeline)).await? {
        for (partition, one) in partitions_of(Some(&told)) {
            let known = known.entry(partition).or_default();
            // Of two that tell of a partition one has just given it back.
            known.next = known.next.max(one["next"].as_i64().unwrap_or_default());
            known.end = known.end.max(one["end"].as_i64());
            known.at = known.at.max(one["at"].as_i64());
        }
    }
    let now = chrono::Utc::now().timestamp_micros();
    Ok(known
        .into_iter()
        .map(|(partition, known)| known.status(partition, target, now))
        .collect())
}

/// What is known of a partition that another server reads.
#[derive(Debug, Clone, Copy, Default)]
struct Known {
    next: i64,
    /// Where the partition ends, while somebody reads it who tells.
    end: Option<i64>,
    /// When the newest message was written that is in the table, in microseconds since 1970.
    at: Option<i64>,
}

impl Known {
    fn status(
        self,
        partition: TopicPartition,
        target: Option<ObjectId>,
        now: i64,
    ) -> PartitionStatus {
        let behind = self.end.map(|end| (end - self.next).max(0).unsigned_abs());
        let seconds = match (behind, self.at) {
            (Some(0), _) => Some(0.0),
            (Some(_), Some(at)) => Some((now - at).max(0) as f64 / 1e6),
            _ => None,
        };
        PartitionStatus {
            topic: partition.topic.to_string(),
            partition: partition.partition,
            target,
            offset: self.next,
            messages_behind: behind,
            seconds_behind: seconds,
            committed_at: self.at.unwrap_or(0),
        }
    }
}

/// The table that a pipeline's statement names, if it is there.
fn target_of(engine: &Engine, pipeline: ObjectId) -> Option<ObjectId> {
    let snapshot = engine.catalog.snapshot();
    let definition = snapshot.pipelines().find(|one| one.id == pipeline)?;
    let Target::Table { name, .. } = statement_of(definition).ok()?.into else {
        return None;
    };
    let schema = name.schema.as_deref().unwrap_or("public");
    Some(snapshot.table(schema, &name.name)?.id)
}
