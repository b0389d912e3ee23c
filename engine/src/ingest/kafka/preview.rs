//! `TEST PIPELINE`: the rows that the oldest messages become, writing nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::compute::{filter_record_batch, not};
use arrow::datatypes::SchemaRef;
use boathouse_catalog::definitions::PipelineDefinition;
use boathouse_connectors::kafka::ReaderOptions;
use boathouse_connectors::message::MessageBlock;

use super::super::check::Checks;
use super::super::preview::keep;
use super::super::schema::SourceSchema;
use super::super::transform::Transform;
use super::decode::{Decoding, goes_of};
use super::fan::require_column;
use super::plan::{TopicPlan, require_row_wise};
use super::pump::partitions_of;
use crate::engine::Engine;
use crate::error::{SqlError, SqlState};

/// Messages of each partition that are looked at.
const SAMPLE_MESSAGES: i64 = 200;

/// How long messages may take to come.
const COMES_WITHIN: Duration = Duration::from_secs(30);

/// The rows that do not go.
fn coming(decoded: &RecordBatch) -> Result<RecordBatch, SqlError> {
    let Some(goes) = goes_of(decoded) else {
        return Ok(decoded.clone());
    };
    let comes = not(goes).and_then(|comes| filter_record_batch(decoded, &comes));
    comes.map_err(|error| SqlError::internal("could not filter rows").caused_by(error))
}

/// The columns a pipeline would write, and its first rows. Looks at as many of the oldest messages of each partition as are
/// wanted, but at some at least, so that the columns do not depend on it.
pub(in crate::ingest) async fn preview_topics(
    engine: &Arc<Engine>,
    pipeline: &PipelineDefinition,
    limit: u64,
) -> Result<(SchemaRef, Vec<RecordBatch>), SqlError> {
    let plan = TopicPlan::open(engine, pipeline).await?;
    let session = plan.cluster.session()?;
    let partitions = partitions_of(&plan, &session).await?;
    let ends = session.ends(partitions).await?;
    let wanted = i64::try_from(limit)
        .unwrap_or(i64::MAX)
        .max(SAMPLE_MESSAGES);
    // Partition by partition: up to which offset.
    let until: BTreeMap<_, _> = ends
        .iter()
        .filter(|(_, ends)| ends.high > ends.low)
        .map(|(partition, ends)| {
            (
                partition.clone(),
                ends.high.min(ends.low.saturating_add(wanted)),
            )
        })
        .collect();
    let from = until
        .keys()
        .map(|partition| (partition.clone(), ends[partition].low))
        .collect();
    let until: Vec<_> = until.into_iter().collect();
    let mut blocks: Vec<Arc<MessageBlock>> = Vec::new();
    if !until.is_empty() {
        let options = ReaderOptions {
            group: plan.options.group.clone(),
            block_messages_max: plan.options.batch_rows,
        };
        let mut reader = plan.cluster.read(&from, &options)?;
        let mut open: Vec<bool> = vec![true; until.len()];
        while open.iter().any(|open| *open) {
            let block = tokio::time::timeout(COMES_WITHIN, reader.next()).await;
            let block = block.map_err(|_| {
                SqlError::new(SqlState::CONNECTION_FAILURE, "no message came in time")
            })??;
            let Some(block) = block else { break };
            for message in block.iter() {
                let index = message.partition as usize;
                if message.offset + 1 >= until[index].1 {
                    open[index] = false;
                }
            }
            for end in block.ends() {
                open[end.partition as usize] = false;
            }
            let block =
                block.filtered(|message| message.offset < until[message.partition as usize].1);
            blocks.push(Arc::new(block));
        }
    }
    let partitions: Vec<_> = until.into_iter().map(|(partition, _)| partition).collect();
    let mut source = plan.rows.declared.clone().unwrap_or_default();
    let decoding = Decoding::new(&plan, &source, &partitions);
    if plan.rows.declared.is_none() {
        for block in &blocks {
            if let Some(found) = decoding.clone().infer(Arc::clone(block)).await? {
                source.join(&SourceSchema::of(&found));
            }
        }
        if source.is_empty() {
            return Err(SqlError::new(
                SqlState::UNDEFINED_OBJECT,
                format!(
                    "no message of pipeline \"{}\" tells a column",
                    plan.rows.name
                ),
            )
            .hint("CHECK CONNECTION tells what topics there are"));
        }
    }
    let transform = Transform::plan(&plan.rows, &source, &[]).await?;
    require_row_wise(&plan.rows, &transform)?;
    if let Some(fan) = &plan.fan {
        require_column(transform.fields(), &fan.by)?;
    }
    let checks = Checks::plan(&plan.rows, transform.fields(), None)?;
    let decoding = Decoding::new(&plan, &source, &partitions);
    let mut left = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut rows = Vec::new();
    for block in blocks {
        if left == 0 {
            break;
        }
        let decoded = decoding.clone().decode(block).await?;
        let coming = coming(&decoded.rows)?;
        keep(&transform, &checks, &coming, &mut left, &mut rows).await?;
    }
    Ok((Arc::clone(transform.fields()), rows))
}
