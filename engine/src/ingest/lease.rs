//! Who may run a pipeline: one holder at a time, dead ones not waited for.
//!
//! A lease ends by itself, but a server that was killed and started again must not stand before its own
//! lease until then. So a holder's name tells its machine and process; when that process is known to be
//! dead on this very machine, its lease is given back in its stead. Whoever was wrong about it loses
//! nothing: the next holder's fencing token is larger, and preparing a commit checks it.

use std::time::Duration;

use boathouse_catalog::definitions::PipelineDefinition;
use boathouse_catalog::state::{Lease, Leases, RunError, RunFilter, RunState};
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

/// Takes the lease of a pipeline, and closes the runs that an earlier holder left open.
pub(super) async fn acquire(
    engine: &Engine,
    pipeline: &PipelineDefinition,
) -> Result<Lease, SqlError> {
    let leases = engine.catalog.leases();
    let name = format!("pipeline:{}", pipeline.id);
    let owner = format!("{}/{}/{}", machine(), std::process::id(), Uuid::new_v4());
    let mut lease = leases.acquire(&name, &owner, LEASE_TTL).await?;
    if lease.is_none()
        && let Some(holder) = leases.holder(&name).await?
        && is_dead(&holder.owner)
    {
        leases.release(&holder).await?;
        lease = leases.acquire(&name, &owner, LEASE_TTL).await?;
    }
    let lease = lease.ok_or_else(|| {
        SqlError::new(
            SqlState::LOCK_NOT_AVAILABLE,
            format!("pipeline \"{}\" is running already", pipeline.name),
        )
        .hint("system.pipeline_runs shows the run")
    })?;
    close_dead_runs(engine, pipeline).await?;
    Ok(lease)
}

/// Keeps a lease alive for as long as the task lives. The task ends by itself only when somebody else took the lease.
pub(super) fn keep(leases: Leases, lease: Lease) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        let mut clock = tokio::time::interval(RENEW_EVERY);
        clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            clock.tick().await;
            match tokio::time::timeout(RENEWAL_MAX, leases.renew(&lease, LEASE_TTL)).await {
                Ok(Ok(true)) => {}
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
    })
}

/// Runs on record as running although nobody holds the lease any more.
async fn close_dead_runs(engine: &Engine, pipeline: &PipelineDefinition) -> Result<(), SqlError> {
    let runs = engine.catalog.runs();
    let filter = RunFilter {
        pipeline: Some(pipeline.id),
        state: Some(RunState::Running),
        limit: None,
    };
    for run in runs.list(filter).await? {
        let error = RunError {
            sqlstate: SqlState::ADMIN_SHUTDOWN.0.to_owned(),
            message: "the server died during the run".into(),
            detail: None,
            hint: None,
        };
        runs.finish(run.id, RunState::Failed, run.counters, Some(error))
            .await?;
    }
    Ok(())
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
