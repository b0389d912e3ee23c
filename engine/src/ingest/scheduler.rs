//! Runs pipelines by themselves: `EVERY`, `CRON`, `AFTER`, and those that go on and on.
//!
//! What is due is read from the catalog: the schedule in the pipeline's statement, the last run on
//! record. So a schedule survives restarts, a time missed while no server ran is made up for once, and
//! several servers on one catalog need no agreement: whoever gets the pipeline's lease runs it, and the
//! others find a fresh run on record. A failed run is not repeated before its next time.

use std::collections::HashSet;
use std::str::FromStr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use boathouse_catalog::definitions::{ObjectId, PipelineDefinition};
use boathouse_catalog::state::{RunFilter, RunRecord, RunState};
use boathouse_sql::statement::{PipelineSource, Schedule};
use chrono::{DateTime, Utc};
use croner::Cron;
use tokio_util::sync::CancellationToken;

use super::plan::statement_of;
use super::publish::is_into_topic;
use super::{Trigger, run_pipeline};
use crate::engine::Engine;
use crate::error::{SqlError, SqlState};

const TICK: Duration = Duration::from_secs(1);

/// Scheduled runs of one process at once; further ones wait for the next tick.
const RUNS_MAX: usize = 4;

/// How long a pipeline rests that goes on by itself and failed.
const CONTINUOUS_PAUSE: chrono::Duration = chrono::Duration::seconds(10);

/// How long runs may take to stop.
const STOP_WITHIN: Duration = Duration::from_secs(5);

/// The running scheduler. Dropping it starts no more runs and stops those it started.
pub struct Scheduler {
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Scheduler {
    /// Stops the runs it started, and waits until they have.
    pub async fn stop(mut self) {
        self.stop.cancel();
        if tokio::time::timeout(STOP_WITHIN, &mut self.task)
            .await
            .is_err()
        {
            tracing::warn!("scheduled runs did not stop in time");
        }
    }
}

impl Drop for Scheduler {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Starts the scheduler of an engine. It ends with the engine.
pub fn start(engine: &Arc<Engine>) -> Scheduler {
    let engine = Arc::downgrade(engine);
    let stop = CancellationToken::new();
    Scheduler {
        task: tokio::spawn(run(engine, stop.clone())),
        stop,
    }
}

async fn run(engine: Weak<Engine>, stop: CancellationToken) {
    let mut clock = tokio::time::interval(TICK);
    clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let running: Arc<Mutex<HashSet<ObjectId>>> = Arc::default();
    let continuous = Arc::new(AtomicUsize::new(0));
    let mut tasks = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return tasks.shutdown().await,
            _ = clock.tick() => {}
        }
        while tasks.try_join_next().is_some() {}
        let Some(engine) = engine.upgrade() else {
            return;
        };
        let snapshot = engine.catalog.snapshot();
        for pipeline in snapshot.pipelines() {
            if pipeline.paused || is_running(&running, pipeline.id) {
                continue;
            }
            let trigger = match due(&engine, pipeline, Utc::now()).await {
                // Those that go on and on leave the others their turns.
                Ok(Some(trigger))
                    if trigger != Trigger::Continuous
                        && tasks
                            .len()
                            .saturating_sub(continuous.load(Ordering::Relaxed))
                            >= RUNS_MAX =>
                {
                    continue;
                }
                Ok(Some(trigger)) => trigger,
                Ok(None) => continue,
                Err(error) => {
                    tracing::warn!(pipeline = pipeline.name, %error, "could not read a schedule");
                    continue;
                }
            };
            let (engine, pipeline) = (Arc::clone(&engine), Arc::clone(pipeline));
            let running = Arc::clone(&running);
            set_running(&running, pipeline.id, true);
            let goes_on = trigger == Trigger::Continuous;
            let count = goes_on.then(|| Counted::new(&continuous));
            let turn = Turn {
                running,
                id: pipeline.id,
            };
            tasks.spawn(async move {
                let _count = count;
                let _turn = turn;
                match run_pipeline(&engine, &pipeline, trigger).await {
                    Ok(_) => {}
                    // Another server has it.
                    Err(error) if error.state == SqlState::LOCK_NOT_AVAILABLE => {}
                    Err(error) => {
                        tracing::error!(pipeline = pipeline.name, %error, "scheduled run failed");
                    }
                }
            });
        }
    }
}

/// A pipeline's run. Dropped, also by a panic, the pipeline may be run again.
struct Turn {
    running: Arc<Mutex<HashSet<ObjectId>>>,
    id: ObjectId,
}

impl Drop for Turn {
    fn drop(&mut self) {
        set_running(&self.running, self.id, false);
    }
}

/// One of the runs that go on and on, as long as it lives.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(count))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn is_running(running: &Mutex<HashSet<ObjectId>>, id: ObjectId) -> bool {
    running.lock().is_ok_and(|running| running.contains(&id))
}

fn set_running(running: &Mutex<HashSet<ObjectId>>, id: ObjectId, runs: bool) {
    if let Ok(mut running) = running.lock() {
        if runs {
            running.insert(id);
        } else {
            running.remove(&id);
        }
    }
}

/// Whether a pipeline is to run now, and by what.
async fn due(
    engine: &Engine,
    pipeline: &PipelineDefinition,
    now: DateTime<Utc>,
) -> Result<Option<Trigger>, SqlError> {
    let statement = statement_of(pipeline)?;
    let Some(schedule) = statement.schedule.clone() else {
        let goes_on = matches!(
            statement.source,
            PipelineSource::MySql { .. } | PipelineSource::Kafka { .. }
        ) || is_into_topic(&statement);
        if !goes_on || engine.captures.is_wanted(pipeline.id) {
            return Ok(None);
        }
        // After an error that trying again does not mend, it is tried again now and then all the same:
        // somebody may have mended it.
        let last = newest_run(engine, pipeline.id, None).await?;
        // The death of a server is no reason to wait.
        let failed = last.filter(|run| run.state == RunState::Failed && !died(run));
        let pause = failed.and_then(|run| run.finished_at);
        let waits = pause.is_some_and(|at| now - at < CONTINUOUS_PAUSE);
        return Ok((!waits).then_some(Trigger::Continuous));
    };
    if schedule == Schedule::OnDemand {
        return Ok(None);
    }
    let last = newest_run(engine, pipeline.id, None).await?;
    let last_start = last.map(|run| run.started_at);
    match schedule {
        Schedule::OnDemand => Ok(None),
        Schedule::Every(interval) => {
            let is_due = last_start.is_none_or(|start| {
                chrono::Duration::from_std(interval)
                    .ok()
                    .and_then(|interval| start.checked_add_signed(interval))
                    .is_some_and(|next| next <= now)
            });
            Ok(is_due.then_some(Trigger::Schedule))
        }
        Schedule::Cron {
            expression,
            time_zone,
            after,
        } => {
            let since = last_start.unwrap_or(pipeline.created_at);
            let Some(time) = next_time(&expression, &time_zone, since)? else {
                return Ok(None);
            };
            if time > now || !succeeded_since(engine, &after, Some(time)).await? {
                return Ok(None);
            }
            Ok(Some(Trigger::Schedule))
        }
        Schedule::After(names) => {
            let ready = succeeded_since(engine, &names, last_start).await?;
            Ok(ready.then_some(Trigger::After))
        }
    }
}

/// Whether a run failed because its server went.
fn died(run: &RunRecord) -> bool {
    let error = run.error.as_ref();
    error.is_some_and(|error| error.sqlstate == SqlState::ADMIN_SHUTDOWN.0)
}

/// Whether each of these pipelines has succeeded since that time, or ever.
async fn succeeded_since(
    engine: &Engine,
    names: &[String],
    since: Option<DateTime<Utc>>,
) -> Result<bool, SqlError> {
    let snapshot = engine.catalog.snapshot();
    for name in names {
        let Some(pipeline) = snapshot.pipeline(name) else {
            return Ok(false);
        };
        let run = newest_run(engine, pipeline.id, Some(RunState::Succeeded)).await?;
        let finished = run.and_then(|run| run.finished_at);
        let fresh = finished.is_some_and(|finished| since.is_none_or(|since| finished > since));
        if !fresh {
            return Ok(false);
        }
    }
    Ok(true)
}

async fn newest_run(
    engine: &Engine,
    pipeline: ObjectId,
    state: Option<RunState>,
) -> Result<Option<RunRecord>, SqlError> {
    let filter = RunFilter {
        pipeline: Some(pipeline),
        state,
        limit: Some(1),
    };
    Ok(engine.catalog.runs().list(filter).await?.into_iter().next())
}

/// The first time of a cron expression after `since`. Local times a clock change skips or repeats are
/// resolved by croner: skipped ones run just after the gap, repeated ones once.
fn next_time(
    expression: &str,
    time_zone: &str,
    since: DateTime<Utc>,
) -> Result<Option<DateTime<Utc>>, SqlError> {
    let invalid = |what: &str| {
        SqlError::new(
            SqlState::INVALID_PARAMETER_VALUE,
            format!("\"{what}\" is not a schedule"),
        )
    };
    let zone: chrono_tz::Tz = time_zone.parse().map_err(|_| invalid(time_zone))?;
    let cron = Cron::from_str(expression).map_err(|_| invalid(expression))?;
    let next = cron.find_next_occurrence(&since.with_timezone(&zone), false);
    Ok(next.ok().map(|time| time.with_timezone(&Utc)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cron_times_are_of_the_named_time_zone() {
        let since = "2024-03-01T00:00:00Z".parse().unwrap();
        let next = next_time("0 2 * * *", "Asia/Jakarta", since)
            .unwrap()
            .unwrap();
        assert_eq!(next.to_rfc3339(), "2024-03-01T19:00:00+00:00");
    }

    #[test]
    fn an_unknown_time_zone_is_an_error() {
        let error = next_time("0 2 * * *", "Mars/Olympus", Utc::now()).unwrap_err();
        assert_eq!(error.to_string(), "\"Mars/Olympus\" is not a schedule");
    }
}
