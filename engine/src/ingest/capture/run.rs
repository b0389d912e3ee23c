//! Runs of a capture: who may run it, what is read anew, and how it goes on after the source was away.

use std::sync::Arc;
use std::time::{Duration, Instant};

use boathouse_catalog::definitions::PipelineDefinition;
use boathouse_connectors::mysql::TableName;
use regex::Regex;

use super::super::run::OpenRun;
use super::super::{RunSummary, Trigger};
use super::apply::Committer;
use super::board::Running;
use super::plan::{CapturePlan, patterns};
use super::pump::Pump;
use crate::engine::Engine;
use crate::error::{SqlError, SqlState};

/// How long a run that goes on by itself may take to give way.
const TAKE_OVER_WITHIN: Duration = Duration::from_secs(60);

/// How long it takes at most until such a run can be asked to, and until it has ended after it was last seen.
const NOTICED_WITHIN: Duration = Duration::from_secs(3);

/// Pauses between attempts while a source cannot be reached.
const PAUSE_MIN: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(15);

/// Attempts of a run that somebody waits for.
const ATTEMPTS_MAX: u32 = 6;

/// What is read anew.
#[derive(Debug, Clone)]
pub(super) enum Refresh {
    No,
    /// Everything, and the changes from now on.
    All,
    /// The tables that match, while the changes go on as they are.
    Some(Vec<Regex>),
}

impl Refresh {
    pub fn is_all(&self) -> bool {
        matches!(self, Self::All)
    }

    pub fn has(&self, name: &TableName) -> bool {
        match self {
            Self::No => false,
            Self::All => true,
            Self::Some(patterns) => {
                let name = name.to_string();
                patterns.iter().any(|pattern| pattern.is_match(&name))
            }
        }
    }
}

/// Runs a capture: up to where the source stands now, or on and on until the pipeline is paused, changed or
/// dropped.
pub(in crate::ingest) async fn run_capture(
    engine: &Arc<Engine>,
    pipeline: &PipelineDefinition,
    trigger: Trigger,
    tables: &[String],
) -> Result<RunSummary, SqlError> {
    let mut refresh = match trigger {
        Trigger::FullRefresh if tables.is_empty() => Refresh::All,
        Trigger::FullRefresh => Refresh::Some(patterns(tables)?),
        _ => Refresh::No,
    };
    let (mut open, status) = begin(engine, pipeline, trigger).await?;
    let continuous = trigger == Trigger::Continuous;
    let mut pause = PAUSE_MIN;
    let mut attempts = 0;
    loop {
        let begun = Instant::now();
        let how = (continuous, &mut refresh);
        let error = match attempt(&mut open, engine, pipeline, how, &status).await {
            Ok(()) => return open.succeed().await,
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
            cause = ?std::error::Error::source(&error), "capture was interrupted, going on"
        );
        open.interrupted(&error).await?;
        status.lose();
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
        if continuous && (status.is_to_stop() || !is_current(engine, pipeline)) {
            return open.succeed().await;
        }
    }
}

/// Begins a run. One that somebody waits for takes the place of one that goes on by itself in this process.
pub(in crate::ingest) async fn begin(
    engine: &Arc<Engine>,
    pipeline: &PipelineDefinition,
    trigger: Trigger,
) -> Result<(OpenRun, Arc<Running>), SqlError> {
    let _counted = match trigger {
        Trigger::Continuous => engine.captures.begin(pipeline.id),
        _ => engine.captures.want(pipeline.id),
    };
    let begun = Instant::now();
    let mut last_seen = begun;
    loop {
        let error = match OpenRun::begin(engine, pipeline, trigger).await {
            Ok(open) => return Ok((open, engine.captures.run(pipeline))),
            Err(error) => error,
        };
        // One that was in the way may have ended since.
        if engine.captures.stop(pipeline.id) {
            last_seen = Instant::now();
        }
        let waits = trigger != Trigger::Continuous
            && begun.elapsed() < TAKE_OVER_WITHIN
            && last_seen.elapsed() < NOTICED_WITHIN;
        if error.state != SqlState::LOCK_NOT_AVAILABLE || !waits {
            return Err(error);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Begins a run that goes on by itself and shares the pipeline with those of other servers.
pub(in crate::ingest) async fn join(
    engine: &Arc<Engine>,
    pipeline: &PipelineDefinition,
) -> Result<(OpenRun, Arc<Running>), SqlError> {
    let open = OpenRun::join(engine, pipeline, Trigger::Continuous).await?;
    Ok((open, engine.captures.run(pipeline)))
}

/// Whether a pipeline is still what it was when its run began.
pub(in crate::ingest) fn is_current(engine: &Engine, pipeline: &PipelineDefinition) -> bool {
    let snapshot = engine.catalog.snapshot();
    snapshot.pipelines().any(|now| {
        now.id == pipeline.id
            && !now.paused
            && now.statement == pipeline.statement
            && now.owner == pipeline.owner
    })
}

/// One attempt at a run: from what the tables have to its end, or to the first error.
async fn attempt(
    open: &mut OpenRun,
    engine: &Arc<Engine>,
    pipeline: &PipelineDefinition,
    (continuous, refresh): (bool, &mut Refresh),
    status: &Arc<Running>,
) -> Result<(), SqlError> {
    open.go_on().await?;
    let plan = CapturePlan::open(engine, pipeline).await?;
    let committer = Committer::of(&plan, pipeline, open);
    let mut pump = Pump::start(plan, committer, open, refresh).await?;
    let until = match continuous {
        true => None,
        false => Some(pump.plan.server.source_state().await?),
    };
    let ended = pump.work(open, pipeline, until, status).await;
    pump.stop().await;
    ended
}
