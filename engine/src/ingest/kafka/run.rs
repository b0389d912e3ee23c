//! Runs of a pipeline from Kafka: how they begin, and how they go on after the brokers were away.

use std::sync::Arc;
use std::time::{Duration, Instant};

use boathouse_catalog::CatalogError;
use boathouse_catalog::definitions::PipelineDefinition;
use boathouse_sql::statement::Into as Target;

use super::super::capture::{Running, begin_run, is_current, join_run};
use super::super::plan::statement_of;
use super::super::run::{OpenRun, is_of_catalog};
use super::super::{RunSummary, Trigger};
use super::plan::TopicPlan;
use super::pump::{Ended, Pump};
use super::share::{Share, members_max};
use crate::engine::Engine;
use crate::error::{SqlError, SqlState};

/// Pauses between attempts while brokers cannot be reached.
const PAUSE_MIN: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(15);

/// Attempts of a run that somebody waits for.
const ATTEMPTS_MAX: u32 = 6;

/// Runs a pipeline: up to where its partitions end now, or on and on until it is paused, changed or dropped.
pub(in crate::ingest) async fn run_topics(
    engine: &Arc<Engine>,
    pipeline: &PipelineDefinition,
    trigger: Trigger,
) -> Result<RunSummary, SqlError> {
    if trigger == Trigger::FullRefresh && is_of_many(pipeline)? {
        return Err(SqlError::unsupported(
            "FULL REFRESH of a pipeline FROM KAFKA into several tables",
        )
        .hint("DROP PIPELINE and DROP TABLE what it fills, and make the pipeline again: it reads from where it is told to begin"));
    }
    let continuous = trigger == Trigger::Continuous;
    let servers_max = match continuous {
        true => members_max(engine, pipeline)?,
        false => 1,
    };
    let (mut open, status) = match servers_max {
        1 => begin_run(engine, pipeline, trigger).await?,
        _ => join_run(engine, pipeline).await?,
    };
    let mut share = (servers_max > 1).then(|| Share::of(engine, pipeline, &open, servers_max));
    let mut pause = PAUSE_MIN;
    let mut attempts = 0;
    loop {
        let begun = Instant::now();
        let shared = share.as_mut();
        let error = match attempt(&mut open, engine, pipeline, trigger, &status, shared).await {
            Ok(Ended::Done) => return end(open, share.as_ref()).await,
            Ok(Ended::Anew) => continue,
            Ok(Ended::Stopped(recorded)) => {
                let error = SqlError::new(
                    SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
                    format!("another server stopped the pipeline: {}", recorded.message),
                );
                return Err(open.fail_as(recorded, error).await);
            }
            Err(error) if continuous && was_dropped(&error) => {
                engine.catalog.refresh().await?;
                return end(open, share.as_ref()).await;
            }
            Err(error) => error,
        };
        // What went well for a while begins anew.
        if begun.elapsed() > Duration::from_secs(60) {
            (pause, attempts) = (PAUSE_MIN, 0);
        }
        attempts += 1;
        if !error.retryable || (!continuous && attempts >= ATTEMPTS_MAX) {
            return Err(stop(open, share.as_ref(), error).await);
        }
        tracing::warn!(
            pipeline = pipeline.name, %error,
            cause = ?std::error::Error::source(&error), "reading was interrupted, going on"
        );
        open.interrupted(&error).await?;
        status.lose();
        open.tell(None);
        match &mut share {
            Some(share) if is_of_catalog(&error) => share.be_patient(),
            // What does not pass by itself may be this server's own trouble.
            Some(share) if attempts > 1 => match share.step_back().await {
                Err(error) if !error.retryable => {
                    return Err(stop(open, Some(&*share), error).await);
                }
                _ => {}
            },
            _ => {}
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
        if continuous && (status.is_to_stop() || !is_current(engine, pipeline)) {
            return open.succeed().await;
        }
    }
}

/// Ends a run that has done its work, or has none any more.
async fn end(open: OpenRun, share: Option<&Share>) -> Result<RunSummary, SqlError> {
    let summary = open.succeed().await?;
    if let Some(share) = share {
        share.forget_dropped().await?;
    }
    Ok(summary)
}

/// Whether somebody has dropped the pipeline while it was about to commit.
fn was_dropped(error: &SqlError) -> bool {
    let cause = std::error::Error::source(error);
    let cause = cause.and_then(|cause| cause.downcast_ref::<CatalogError>());
    matches!(cause, Some(CatalogError::PipelineDropped(_)))
}

/// Ends a run by an error, and those of the other servers with it.
async fn stop(open: OpenRun, share: Option<&Share>, error: SqlError) -> SqlError {
    // Neither a member that others have given up for dead nor one that has lost the catalog stops anybody.
    let stops_all = match share {
        Some(share) => !share.is_lost().await.unwrap_or(true),
        None => false,
    };
    let stops_all = stops_all && !error.state.0.starts_with("08");
    let error = open.fail(error).await;
    if let Some(share) = share.filter(|_| stops_all)
        && let Err(second) = share.stop_all().await
    {
        tracing::error!(error = %second, "could not stop the runs of other servers");
    }
    error
}

fn is_of_many(pipeline: &PipelineDefinition) -> Result<bool, SqlError> {
    Ok(matches!(
        statement_of(pipeline)?.into,
        Target::Schema { .. }
    ))
}

/// One attempt at a run: from what the table has to its end, or to the first error.
async fn attempt(
    open: &mut OpenRun,
    engine: &Arc<Engine>,
    pipeline: &PipelineDefinition,
    trigger: Trigger,
    status: &Arc<Running>,
    share: Option<&mut Share>,
) -> Result<Ended, SqlError> {
    open.go_on().await?;
    let plan = TopicPlan::open(engine, pipeline).await?;
    let mut pump = Pump::start(&plan, open, pipeline, trigger, share).await?;
    let outcome = pump.work(open, pipeline, status).await;
    // What an attempt read that it did not commit is read and counted again.
    open.counters = match &outcome {
        Ok(_) if !pump.is_overtaken() => pump.counters(),
        _ => pump.committed_counters(),
    };
    outcome
}
