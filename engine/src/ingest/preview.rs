//! `TEST PIPELINE`: the rows a pipeline would write, writing nothing.
//!
//! Reads as many files as it takes to fill the limit; all of them for a query that aggregates, sorts or
//! joins. Rows that would be dropped or quarantined, or fail a file, are left out.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::filter_record_batch;
use arrow::datatypes::SchemaRef;
use boathouse_catalog::definitions::PipelineDefinition;

use super::check::Checks;
use super::decode::Decoding;
use super::discover;
use super::kafka::{is_from_topics, preview_topics};
use super::plan::{PipelinePlan, infer_source};
use super::publish::refuse_into_topic;
use super::rows::{as_source, without_unfit};
use super::transform::Transform;
use super::whole::{format_failure, preview};
use crate::engine::Engine;
use crate::error::{SqlError, SqlState};

async fn plan(
    engine: &Arc<Engine>,
    pipeline: &PipelineDefinition,
) -> Result<(PipelinePlan, Transform), SqlError> {
    refuse_into_topic(pipeline, "TEST PIPELINE")?;
    let plan = PipelinePlan::open(engine, pipeline).await?;
    let source = match &plan.declared {
        Some(declared) => declared.clone(),
        None => infer_source(&plan, &[]).await?,
    };
    if source.is_empty() {
        return Err(SqlError::new(
            SqlState::UNDEFINED_FILE,
            format!(
                "no readable file matches the patterns of pipeline \"{}\"",
                plan.name
            ),
        )
        .hint("CHECK CONNECTION tells whether the source is reachable"));
    }
    let transform = Transform::plan(&plan, &source, &[]).await?;
    Ok((plan, transform))
}

/// The columns `TEST PIPELINE` answers with.
pub async fn test_fields(
    engine: &Arc<Engine>,
    pipeline: &PipelineDefinition,
) -> Result<SchemaRef, SqlError> {
    if is_from_topics(pipeline)? {
        return preview_topics(engine, pipeline, 0)
            .await
            .map(|(fields, _)| fields);
    }
    plan(engine, pipeline)
        .await
        .map(|(_, transform)| Arc::clone(transform.fields()))
}

/// The first rows the pipeline would write.
pub async fn test_pipeline(
    engine: &Arc<Engine>,
    pipeline: &PipelineDefinition,
    limit: u64,
) -> Result<(SchemaRef, Vec<RecordBatch>), SqlError> {
    if is_from_topics(pipeline)? {
        return preview_topics(engine, pipeline, limit).await;
    }
    let (plan, transform) = plan(engine, pipeline).await?;
    let checks = Checks::plan(&plan, transform.fields(), None)?;
    let mut left = usize::try_from(limit).unwrap_or(usize::MAX);
    let spool = discover::spool(engine)?;
    let entries = plan.store.list(&plan.patterns).await?;
    if !transform.is_row_wise() {
        let mut files = Vec::with_capacity(entries.len());
        for entry in entries {
            files.push(plan.store.fetch(&entry, &spool).await?);
        }
        let transform = Arc::new(transform);
        let rows = preview(&plan, &transform, &checks, files, left).await?;
        return Ok((Arc::clone(transform.fields()), rows));
    }
    let mut rows = Vec::new();
    for entry in entries {
        if left == 0 {
            break;
        }
        let file = plan.store.fetch(&entry, &spool).await?;
        let mut decoding = Decoding::start(
            Arc::clone(&plan.format),
            file,
            transform.decode_schema().clone(),
        );
        while left > 0
            && let Some(decoded) = decoding.batches.recv().await
        {
            keep(&transform, &checks, &decoded.batch, &mut left, &mut rows).await?;
        }
        if left > 0 {
            decoding.finish().await.map_err(format_failure)?;
        }
    }
    Ok((Arc::clone(transform.fields()), rows))
}

/// The rows that decoded ones become, up to as many as are left.
pub(super) async fn keep(
    transform: &Transform,
    checks: &Checks,
    decoded: &RecordBatch,
    left: &mut usize,
    rows: &mut Vec<RecordBatch>,
) -> Result<(), SqlError> {
    let source = as_source(transform, decoded)?;
    let (source, _) = without_unfit(transform, source)?;
    for part in transform.apply(&source).await?.0 {
        let kept = match checks.judge(&part.output).keep {
            Some(keep) => filter_record_batch(&part.output, &keep).map_err(unexpected)?,
            None => part.output,
        };
        let kept = kept.slice(0, kept.num_rows().min(*left));
        *left -= kept.num_rows();
        rows.push(kept);
    }
    Ok(())
}

fn unexpected(error: arrow::error::ArrowError) -> SqlError {
    SqlError::internal("decoded rows are not of the source's columns").caused_by(error)
}
