//! Runs of a pipeline from Kafka: how they begin, and how they go on after the brokers were away.

use std::sync::Arc;
use std::time::{Duration, Instant};

use boathouse_catalog::definitions::PipelineDefinition;
use boathouse_catalog::state::Severity;
use boathouse_sql::statement::Into as Target;

use super::super::capture::{Running, begin_run, is_current};
use super::super::load::message_of;
use super::super::plan::statement_of;
use super::super::run::OpenRun;
use super::super::{RunSummary, Trigger};
use super::plan::TopicPlan;
use super::pump::{Ended, Pump};
use crate::engine::Engine;
use crate::error::SqlError;

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
    if trigger == Trigger::FullRefresh {
        return Err(
            SqlError::unsupported("FULL REFRESH of a pipeline FROM KAFKA")
                .hint(refresh_hint(pipeline)?),
        );
    }
    let continuous = trigger == Trigger::Continuous;
    let (mut open, status) = begin_run(engine, pipeline, trigger).await?;
    let mut pause = PAUSE_MIN;
    let mut attempts = 0;
    loop {
        let begun = Instant::now();
        let error = match attempt(&mut open, engine, pipeline, continuous, &status).await {
            Ok(Ended::Done) => return open.succeed().await,
            Ok(Ended::Anew) => continue,
            Err(error) => error,
        };
        // What went well for a while begins anew.
        if begun.elapsed() > Duration::from_secs(60) {
            (pause, attempts) = (PAUSE_MIN, 0);
        }
        attempts += 1;
        if !error.retryable || (!continuous && attempts >= ATTEMPTS_MAX) {
            return Err(open.fail(error).await);
        }
        tracing::warn!(
            pipeline = pipeline.name, %error,
            cause = ?std::error::Error::source(&error), "reading was interrupted, going on"
        );
        open.add_messages(vec![message_of(Severity::Warning, None, &error)])
            .await?;
        status.lose();
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
        if continuous && (status.is_to_stop() || !is_current(engine, pipeline)) {
            return open.succeed().await;
        }
    }
}

/// How to read everything once more.
fn refresh_hint(pipeline: &PipelineDefinition) -> Result<&'static str, SqlError> {
    Ok(match statement_of(pipeline)?.into {
        Target::Schema { .. } => {
            "DROP PIPELINE and DROP TABLE what it fills, and make the pipeline again: it reads from where it is told to begin"
        }
        _ => {
            "DROP TABLE its target: the next run makes it anew and reads from where the first began"
        }
    })
}

/// One attempt at a run: from what the table has to its end, or to the first error.
async fn attempt(
    open: &mut OpenRun,
    engine: &Arc<Engine>,
    pipeline: &PipelineDefinition,
    continuous: bool,
    status: &Arc<Running>,
) -> Result<Ended, SqlError> {
    let plan = TopicPlan::open(engine, pipeline).await?;
    // What an attempt read that it did not commit is read and counted again.
    let before = open.counters;
    let mut pump = Pump::start(&plan, open, pipeline, continuous).await?;
    let outcome = pump.work(open, pipeline, status).await;
    open.counters = match &outcome {
        Ok(_) => pump.counters(),
        Err(_) => before,
    };
    outcome
}
