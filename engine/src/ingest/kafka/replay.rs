//! `REPLAY QUARANTINE`: messages that were set aside are decoded once more, from the bytes that were kept.

use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::UInt32Type;
use boathouse_catalog::definitions::PipelineDefinition;
use boathouse_connectors::kafka::TopicPartition;
use boathouse_connectors::message::{MessageBlock, MessageBlockBuilder};
use boathouse_sql::statement::ReplayQuarantine;

use super::super::capture::begin_run;
use super::super::quarantine::QuarantinedRow;
use super::super::replay::{Placed, Replaying, unknown_columns, waiting_rows};
use super::super::rows::Rows;
use super::super::run::{OpenRun, position_of, settle};
use super::super::{RunSummary, Trigger};
use super::decode::{Decoding, goes_of};
use super::fan::replay_by_table;
use super::offsets::FORMER;
use super::plan::TopicPlan;
use super::replay_keyed::replay_by_key;
use crate::engine::Engine;
use crate::error::SqlError;

/// Messages decoded at once.
pub(super) const BLOCK_MESSAGES: usize = 4096;

/// Replays what the statement selects. A run that goes on by itself gives way meanwhile.
pub(in crate::ingest) async fn replay_messages(
    engine: &Arc<Engine>,
    pipeline: &PipelineDefinition,
    statement: &ReplayQuarantine,
) -> Result<RunSummary, SqlError> {
    let (mut open, _status) = begin_run(engine, pipeline, Trigger::Replay).await?;
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
    let plan = TopicPlan::open(engine, pipeline).await?;
    if let Some(fan) = &plan.fan {
        return replay_by_table(open, (&plan, fan), pipeline, statement).await;
    }
    let settled = settle(&plan.rows, pipeline.id).await?;
    let mut waiting = waiting_rows(engine, pipeline.id).await?;
    waiting.retain(|row| row.message.is_some());
    if waiting.is_empty() {
        return Ok(());
    }
    let source = plan.rows.declared.clone().unwrap_or(settled.source);
    if source.is_empty() {
        return Err(unknown_columns());
    }
    let mut rows = Rows::new(&plan.rows, pipeline.id, open.run, source, open.counters);
    let mut replaying = Replaying::begin(&mut rows, statement).await?;
    let positions = engine.catalog.positions();
    let last = positions.last_committed(pipeline.id).await?;
    // How far the partitions were read is not changed by it.
    let last = last.map(|last| last.position);
    if plan.rows.key.is_empty() {
        let partitions = partitions_of(&waiting);
        let decoding = Decoding::new(&plan, &rows.source, &partitions);
        let mut first = 0;
        while first < waiting.len() {
            let count = BLOCK_MESSAGES.min(waiting.len() - first);
            let some = &waiting[first..first + count];
            let placed = decode(&decoding, some, &partitions, first).await?;
            replaying.take(open, &mut rows, placed, &waiting).await?;
            first += count;
        }
    } else {
        let work = (&mut *open, &mut rows, &mut replaying);
        replay_by_key(work, &plan, waiting).await?;
    }
    let mut position = position_of(&plan.rows, &rows.source);
    for part in ["topics", FORMER] {
        if let Some(known) = last.as_ref().and_then(|last| last.get(part)) {
            position[part] = known.clone();
        }
    }
    replaying
        .commit(open, &mut rows, settled.mark, position)
        .await
}

pub(super) fn partitions_of<'r>(
    rows: impl IntoIterator<Item = &'r QuarantinedRow>,
) -> Vec<TopicPartition> {
    let messages = rows.into_iter().filter_map(|row| row.message.as_ref());
    let mut partitions: Vec<TopicPartition> = messages
        .map(|message| TopicPartition {
            topic: message.topic.as_str().into(),
            partition: message.partition,
        })
        .collect();
    partitions.sort();
    partitions.dedup();
    partitions
}

/// The rows of messages. One that still cannot be decoded is a row of nulls, for SET to fill.
pub(super) async fn decode(
    decoding: &Decoding,
    waiting: &[QuarantinedRow],
    partitions: &[TopicPartition],
    first: usize,
) -> Result<Placed, SqlError> {
    let block = Arc::new(block_of(waiting, partitions, &[]));
    let decoded = decoding.clone().decode(block).await?;
    let unreadable: Vec<u32> = decoded.rejected.iter().map(|one| one.message).collect();
    let decoded = match unreadable.is_empty() {
        true => decoded,
        false => {
            let block = Arc::new(block_of(waiting, partitions, &unreadable));
            decoding.clone().decode(block).await?
        }
    };
    let mut columns = decoded.rows.columns().to_vec();
    let goes: Option<Vec<bool>> = goes_of(&decoded.rows).map(|goes| goes.values().iter().collect());
    let numbers = columns
        .pop()
        .ok_or_else(|| SqlError::internal("decoded messages have no numbers"))?;
    if goes.is_some() {
        columns.pop();
    }
    let numbers = numbers.as_primitive::<UInt32Type>().values().to_vec();
    Ok(Placed {
        columns,
        has_cells: numbers
            .iter()
            .map(|number| !unreadable.contains(number))
            .collect(),
        numbers: numbers
            .iter()
            .map(|number| first + *number as usize)
            .collect(),
        // One that cannot be read is no tombstone, though it has no payload here.
        goes: goes.map(|goes| {
            let rows = goes.into_iter().zip(&numbers);
            rows.map(|(goes, number)| goes && !unreadable.contains(number))
                .collect()
        }),
    })
}

pub(super) fn block_of(
    waiting: &[QuarantinedRow],
    partitions: &[TopicPartition],
    unreadable: &[u32],
) -> MessageBlock {
    let mut builder = MessageBlockBuilder::default();
    for (number, row) in (0_u32..).zip(waiting) {
        let Some(message) = &row.message else {
            continue;
        };
        let wanted = (message.topic.as_str(), message.partition);
        let partition =
            partitions.partition_point(|one| (one.topic.as_ref(), one.partition) < wanted);
        let timestamp = message.timestamp.map_or(-1, |at| at.div_euclid(1000));
        builder.begin(
            u32::try_from(partition).unwrap_or(u32::MAX),
            message.offset,
            timestamp,
        );
        if let Some(key) = &message.key {
            builder.key(key);
        }
        if let Some(payload) = &message.payload
            && !unreadable.contains(&number)
        {
            builder.payload(payload);
        }
        builder.finish_message_with(message.headers.as_deref());
    }
    builder.finish()
}
