//! Who may run a pipeline: one holder at a time, or several that share it; dead ones are not waited for.
//!
//! A run that wants the pipeline for itself holds the lease `pipeline:<id>`. Runs that share it are members, each with the
//! lease `pipeline:<id>:member:<run>` and further ones of the same owner for what it has of the pipeline. No member goes on while
//! somebody holds the first lease, and whoever holds it waits until there are no members.
//!
//! A lease ends by itself, but a server that was killed and started again must not stand before its own
//! lease until then. So a holder's name tells its machine and process; when that process is known to be
//! dead on this very machine, its lease is given back in its stead. Whoever was wrong about it loses
//! nothing: the next holder's fencing token is larger, and preparing a commit checks it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use boathouse_catalog::definitions::PipelineDefinition;
use boathouse_catalog::state::{
    Holding, Lease, Leases, RunError, RunFilter, RunId, RunState, pipeline_lease,
};
use serde_json::Value;
use uuid::Uuid;

use crate::engine::Engine;
use crate::error::{SqlError, SqlState};

/// How long a silent holder is believed to live. Another server asks once a second and needs a moment to begin, and both
/// together are to be less than ten seconds.
pub(super) const LEASE_TTL: Duration = Duration::from_secs(6);

/// Three renewals may fail in a row before the lease is anybody's.
const RENEW_EVERY: Duration = Duration::from_millis(1500);

/// How long a renewal may wait for the catalog before the next is tried.
const RENEWAL_MAX: Duration = Duration::from_secs(2);

/// How long members may take to give way to a run that wants the pipeline for itself.
const GIVE_WAY_WITHIN: Duration = Duration::from_secs(60);

/// How long no server begins to share a pipeline that an error has stopped.
pub(super) const STOPPED_FOR: Duration = Duration::from_secs(10);

/// A name that no other holder has.
fn new_owner() -> String {
    format!("{}/{}/{}", machine(), std::process::id(), Uuid::new_v4())
}

/// Takes the lease of a pipeline.
pub(super) async fn acquire(
    engine: &Engine,
    pipeline: &PipelineDefinition,
) -> Result<Lease, SqlError> {
    let leases = engine.catalog.leases();
    let name = pipeline_lease(pipeline.id);
    let owner = new_owner();
    let mut lease = leases.acquire(&name, &owner, LEASE_TTL).await?;
    if lease.is_none()
        && let Some(holder) = leases.holder(&name).await?
        && is_dead(&holder.owner)
    {
        leases.release(&holder).await?;
        lease = leases.acquire(&name, &owner, LEASE_TTL).await?;
    }
    lease.ok_or_else(|| running_already(pipeline))
}

fn running_already(pipeline: &PipelineDefinition) -> SqlError {
    SqlError::new(
        SqlState::LOCK_NOT_AVAILABLE,
        format!("pipeline \"{}\" is running already", pipeline.name),
    )
    .hint("system.pipeline_runs shows the run")
}

/// Waits until nobody shares the pipeline, and closes the runs that earlier holders left open. The pipeline's lease must be held.
pub(super) async fn until_alone(
    engine: &Engine,
    pipeline: &PipelineDefinition,
) -> Result<(), SqlError> {
    let begun = Instant::now();
    while !look(engine, pipeline).await?.members.is_empty() {
        if begun.elapsed() >= GIVE_WAY_WITHIN {
            return Err(running_already(pipeline));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    close_dead_runs(engine, pipeline).await
}

/// What the leases of a pipeline tell.
pub(super) struct Seen {
    /// A run wants the pipeline for itself.
    pub is_wanted: bool,
    /// The lease of one that did, and was not renewed.
    asleep: Option<Lease>,
    /// The lease of the one who looks has run out, though nobody has taken it.
    pub was_away: bool,
    /// The run whose error stopped the pipeline just now.
    pub stopped_by: Option<RunId>,
    /// Those that share it.
    pub members: BTreeMap<RunId, Member>,
    /// The parts that somebody has, by the leases' names.
    pub parts: BTreeMap<String, Lease>,
}

/// A run that shares a pipeline.
pub(super) struct Member {
    pub owner: String,
    /// That it is ready to take parts, and under which definition of the pipeline, if it is.
    pub ready: Option<(String, Lease)>,
}

/// A member that looks at the others.
pub(super) struct Looking<'a> {
    pub own: &'a Lease,
    /// Nobody could renew anything for a while, so a lease that has run out tells nothing yet.
    pub is_patient: bool,
}

/// Looks at the leases of a pipeline, and ends those of members that died.
pub(super) async fn look(engine: &Engine, pipeline: &PipelineDefinition) -> Result<Seen, SqlError> {
    look_as(engine, pipeline, None).await
}

/// The same, by a member. One whose own lease has run out was away itself, perhaps with the catalog, and takes nobody for dead.
pub(super) async fn look_as(
    engine: &Engine,
    pipeline: &PipelineDefinition,
    who: Option<Looking<'_>>,
) -> Result<Seen, SqlError> {
    let leases = engine.catalog.leases();
    let name = pipeline_lease(pipeline.id);
    let below = format!("{name}:member:");
    let mut found = leases.under(&name).await?;
    let was_away = who.as_ref().is_some_and(|who| {
        let mut found = found.iter();
        found.any(|one| one.lease == *who.own && !one.is_live)
    });
    let is_patient = was_away || who.is_some_and(|who| who.is_patient);
    let mut any_dead = false;
    for one in &found {
        let run = one.lease.name.strip_prefix(&below);
        let Some(run) = run.and_then(|run| run.parse().ok()).map(RunId) else {
            continue;
        };
        let is_dead = is_dead(&one.lease.owner);
        if (is_dead || !one.is_live && !is_patient) && leases.bury(&one.lease, is_dead).await? {
            any_dead = true;
            close_run(engine, run).await?;
        }
    }
    if any_dead {
        found = leases.under(&name).await?;
    }
    let mut seen = Seen {
        is_wanted: false,
        asleep: None,
        was_away,
        stopped_by: None,
        members: BTreeMap::new(),
        parts: BTreeMap::new(),
    };
    for Holding { lease, is_live } in found {
        let Some(rest) = lease.name.strip_prefix(&name) else {
            continue;
        };
        let mut words = rest.trim_start_matches(':').splitn(4, ':');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some(""), ..) if is_live && !is_dead(&lease.owner) => seen.is_wanted = true,
            (Some(""), ..) => seen.asleep = Some(lease),
            (Some("stopped"), ..) if is_live => {
                seen.stopped_by = lease.owner.parse().ok().map(RunId);
            }
            (Some("member"), Some(run), None, _) => {
                if let Ok(run) = run.parse() {
                    let (owner, ready) = (lease.owner, None);
                    seen.members.insert(RunId(run), Member { owner, ready });
                }
            }
            (Some("member"), Some(run), Some("ready"), Some(stamp)) => {
                let member = run.parse().ok().map(RunId);
                let member = member.and_then(|run| seen.members.get_mut(&run));
                if let Some(member) = member {
                    member.ready = Some((stamp.to_owned(), lease.clone()));
                }
            }
            (Some("part"), ..) => {
                seen.parts.insert(lease.name.clone(), lease);
            }
            _ => {}
        }
    }
    Ok(seen)
}

/// Refuses a member while somebody wants the pipeline for itself, or an error has just stopped it.
pub(super) async fn may_join(
    engine: &Engine,
    pipeline: &PipelineDefinition,
) -> Result<Seen, SqlError> {
    let seen = look(engine, pipeline).await?;
    match seen.is_wanted || seen.stopped_by.is_some() {
        true => Err(running_already(pipeline)),
        false => Ok(seen),
    }
}

/// Makes a run a member of those that share a pipeline.
pub(super) async fn join(
    engine: &Engine,
    pipeline: &PipelineDefinition,
    run: RunId,
) -> Result<Lease, SqlError> {
    let leases = engine.catalog.leases();
    let (name, owner) = (pipeline_lease(pipeline.id), new_owner());
    let own = format!("{name}:member:{}", run.0);
    let own = leases.acquire(&own, &owner, LEASE_TTL).await?;
    let own = own.ok_or_else(|| running_already(pipeline))?;
    // Whoever wants the pipeline looks for members after taking its lease; so one of the two sees the other.
    let seen = match may_join(engine, pipeline).await {
        Ok(seen) => seen,
        Err(error) => {
            leases.bury(&own, true).await?;
            return Err(error);
        }
    };
    // Who fell asleep with the pipeline's lease is not to wake up with it.
    if let Some(asleep) = seen.asleep {
        leases.release(&asleep).await?;
    }
    close_dead_runs(engine, pipeline).await?;
    Ok(own)
}

/// Keeps a lease alive until it is dropped. It ends by itself only when somebody else took the lease.
pub(super) struct Keeping {
    task: tokio::task::JoinHandle<()>,
    told: tokio::sync::watch::Sender<Option<Value>>,
}

impl Keeping {
    /// Whether the lease was lost.
    pub fn has_ended(&self) -> bool {
        self.task.is_finished()
    }

    /// What the next renewal tells.
    pub fn tell(&self, what: Option<Value>) {
        self.told.send_replace(what);
    }

    pub fn stop(&self) {
        self.task.abort();
    }
}

impl Drop for Keeping {
    fn drop(&mut self) {
        self.stop();
    }
}

pub(super) fn keep(leases: Leases, lease: Lease) -> Keeping {
    let (told, heard) = tokio::sync::watch::channel(None);
    let task = tokio::spawn(async move {
        let mut on_record = None;
        let mut clock = tokio::time::interval(RENEW_EVERY);
        clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            clock.tick().await;
            let told = heard.borrow().clone();
            let renewal = async {
                match told == on_record {
                    true => leases.renew(&lease, LEASE_TTL).await,
                    false => leases.renew_telling(&lease, LEASE_TTL, told.as_ref()).await,
                }
            };
            match tokio::time::timeout(RENEWAL_MAX, renewal).await {
                Ok(Ok(true)) => on_record = told,
                Ok(Ok(false)) => {
                    tracing::warn!(lease = lease.name, "lost the lease of a running pipeline");
                    return;
                }
                Ok(Err(error)) => {
                    tracing::warn!(lease = lease.name, %error, "could not renew a lease, trying again");
                }
                Err(_) => {
                    tracing::warn!(
                        lease = lease.name,
                        "could not renew a lease in time, trying again"
                    );
                }
            }
        }
    });
    Keeping { task, told }
}

/// Closes the runs on record as running although nobody holds a lease for them any more.
async fn close_dead_runs(engine: &Engine, pipeline: &PipelineDefinition) -> Result<(), SqlError> {
    let runs = engine.catalog.runs();
    let filter = RunFilter {
        pipeline: Some(pipeline.id),
        state: Some(RunState::Running),
        limit: None,
    };
    let running = runs.list(filter).await?;
    if running.is_empty() {
        return Ok(());
    }
    // A member has its lease before its run is on record, and gives it back after the run's end is.
    let members = look(engine, pipeline).await?.members;
    for run in running {
        if !members.contains_key(&run.id) {
            close_run(engine, run.id).await?;
        }
    }
    Ok(())
}

async fn close_run(engine: &Engine, run: RunId) -> Result<(), SqlError> {
    let runs = engine.catalog.runs();
    let counters = runs.get(run).await?.map(|run| run.counters);
    let error = RunError {
        sqlstate: SqlState::ADMIN_SHUTDOWN.0.to_owned(),
        message: "the server died during the run".into(),
        detail: None,
        hint: None,
    };
    let counters = counters.unwrap_or_default();
    Ok(runs
        .finish(run, RunState::Failed, counters, Some(error))
        .await?)
}

/// This machine since its last start, as far as process ids mean the same to all who see the name.
/// Empty where that cannot be told.
pub(super) fn machine() -> String {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let namespace = std::fs::read_link("/proc/self/ns/pid")
        .map(|link| link.display().to_string())
        .unwrap_or_default();
    if boot.is_empty() || namespace.is_empty() {
        return String::new();
    }
    format!("{}-{namespace}", boot.trim())
}

/// Whether a holder was a process of this machine that is gone.
fn is_dead(owner: &str) -> bool {
    let mut parts = owner.split('/');
    let (Some(of_machine), Some(process)) = (parts.next(), parts.next()) else {
        return false;
    };
    let Ok(process) = process.parse::<u32>() else {
        return false;
    };
    !of_machine.is_empty() && of_machine == machine() && !is_alive(process)
}

/// A process that was killed and not yet collected by its parent has a place in `/proc` too.
fn is_alive(process: u32) -> bool {
    match std::fs::read_to_string(format!("/proc/{process}/stat")) {
        // The name, in parentheses, may hold anything; the state follows it.
        Ok(stat) => {
            let state = stat.rsplit_once(')').map(|(_, rest)| rest.trim_start());
            !state.is_some_and(|state| state.starts_with(['Z', 'X']))
        }
        Err(error) => error.kind() != std::io::ErrorKind::NotFound,
    }
}
