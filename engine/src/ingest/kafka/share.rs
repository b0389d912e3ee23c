//! The partitions of one pipeline, shared by the servers that run it.
//!
//! Each server's run is a member of the pipeline (see [`lease`]), and reads the partitions whose leases it holds, no others. How
//! many those are to be follows from who is there: of `n` partitions and `k` members each has `n / k`, and some have one more. Nobody
//! hands out partitions. Once a second every member looks at the leases; whoever has too many commits what it has read and gives
//! the surplus back, whoever has too few takes what is free. What is held stays where it is as far as that goes, and all that is held
//! is given back at once when a member leaves, or is buried when its lease has ended.
//!
//! Two who differ for a moment on who is there may leave a partition unread until the next look. No partition is ever read by
//! two that hold its lease, and a run that lost its lease and does not know yet is refused by the marks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use boathouse_catalog::definitions::PipelineDefinition;
use boathouse_catalog::state::{Lease, RunError, RunId, pipeline_lease};
use boathouse_connectors::kafka::TopicPartition;
use boathouse_sql::statement::{Into as Target, PipelineSource};
use siphasher::sip::SipHasher13;

use super::super::lease::{self, STOPPED_FOR, Seen};
use super::super::plan::statement_of;
use super::super::run::{OpenRun, is_of_catalog};
use super::plan::parse_options;
use crate::engine::Engine;
use crate::error::SqlError;

/// This server's share of a pipeline.
pub(super) struct Share {
    engine: Arc<Engine>,
    pipeline: PipelineDefinition,
    run: RunId,
    own: Lease,
    /// Tells definitions of the pipeline apart.
    stamp: String,
    members_max: usize,
    /// Held once the brokers have answered here.
    ready: Option<Lease>,
    parts: BTreeMap<TopicPartition, Lease>,
    /// All partitions that are known here.
    all: BTreeSet<TopicPartition>,
    /// Parts that others have of partitions which are not known here.
    unknown: BTreeSet<String>,
    has_company: bool,
    /// Until then nobody is taken for dead whose lease has run out.
    patient_until: Option<Instant>,
}

/// What a look at the leases comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Moves {
    Stay,
    /// Partitions are to be given back, or can be had.
    Settle,
    /// Somebody has partitions that are not known here.
    Discover,
    /// Somebody wants the pipeline for itself.
    GiveWay,
    /// Another run stopped the pipeline, with this error.
    Stop(RunError),
}

/// How many servers may read the partitions of a pipeline; one where they cannot be shared.
pub(super) fn members_max(
    engine: &Engine,
    pipeline: &PipelineDefinition,
) -> Result<usize, SqlError> {
    let statement = statement_of(pipeline)?;
    let PipelineSource::Kafka { format, .. } = &statement.source else {
        return Ok(1);
    };
    // Messages of UPSERT have a key by themselves.
    let appends = format
        .as_ref()
        .is_some_and(|format| !format.name.eq_ignore_ascii_case("UPSERT"));
    let appends = appends && matches!(&statement.into, Target::Table { key, .. } if key.is_empty());
    if !engine.catalog.is_shared() || !appends {
        return Ok(1);
    }
    Ok(parse_options(&statement)?.servers_max)
}

impl Share {
    pub fn of(
        engine: &Arc<Engine>,
        pipeline: &PipelineDefinition,
        open: &OpenRun,
        members_max: usize,
    ) -> Self {
        let mut stamp = SipHasher13::new();
        std::hash::Hasher::write(&mut stamp, pipeline.statement.as_bytes());
        std::hash::Hasher::write_i64(&mut stamp, pipeline.owner.0);
        Self {
            engine: Arc::clone(engine),
            pipeline: pipeline.clone(),
            run: open.run,
            own: open.lease.clone(),
            stamp: format!("{:x}", std::hash::Hasher::finish(&stamp)),
            members_max,
            ready: None,
            parts: BTreeMap::new(),
            all: BTreeSet::new(),
            unknown: BTreeSet::new(),
            has_company: false,
            patient_until: None,
        }
    }

    /// The catalog was away: the others could not renew their leases either, and are given the time to.
    pub fn be_patient(&mut self) {
        self.patient_until = Some(Instant::now() + lease::LEASE_TTL);
    }

    async fn look_at_leases(&mut self) -> Result<Seen, SqlError> {
        let is_patient = self
            .patient_until
            .is_some_and(|until| Instant::now() < until);
        let who = lease::Looking {
            own: &self.own,
            is_patient,
        };
        let seen = lease::look_as(&self.engine, &self.pipeline, Some(who)).await;
        if seen
            .as_ref()
            .map_or_else(is_of_catalog, |seen| seen.was_away)
        {
            self.be_patient();
        }
        seen
    }

    /// Gives back what is too much and takes what is free, of these partitions. Gives those that are held then.
    pub async fn settle(
        &mut self,
        all: &[TopicPartition],
    ) -> Result<Vec<TopicPartition>, SqlError> {
        let leases = self.engine.catalog.leases();
        self.all = all.iter().cloned().collect();
        if self.ready.is_none() {
            let name = format!("{}:ready:{}", self.own.name, self.stamp);
            leases.acquire_parts(&self.own, &[name]).await?;
        }
        let seen = self.look_at_leases().await?;
        let quota = self.quota(&seen);
        // What is on record counts: the answer to an earlier change of it may have been lost.
        let ready = seen.members.get(&self.run);
        self.ready = ready.and_then(|own| Some(own.ready.as_ref()?.1.clone()));
        let known: BTreeMap<String, TopicPartition> = self
            .all
            .iter()
            .map(|partition| (self.name_of(partition), partition.clone()))
            .collect();
        let mut surplus = Vec::new();
        self.parts.clear();
        for (name, lease) in &seen.parts {
            if lease.owner != self.own.owner {
                continue;
            }
            match known.get(name).filter(|_| self.parts.len() < quota) {
                Some(partition) => {
                    self.parts.insert(partition.clone(), lease.clone());
                }
                None => surplus.push(lease.clone()),
            }
        }
        if !surplus.is_empty() {
            leases
                .release_parts(&surplus.iter().collect::<Vec<_>>())
                .await?;
        }
        let wanted = quota.saturating_sub(self.parts.len());
        let free = self.free(&seen);
        if wanted > 0 && !free.is_empty() {
            // Those who look at the same moment begin at different places.
            let rank = seen.members.range(..self.run).count();
            let first = (rank * wanted) % free.len();
            let names: BTreeMap<String, TopicPartition> = free
                .iter()
                .cycle()
                .skip(first)
                .take(wanted.min(free.len()))
                .map(|partition| (self.name_of(partition), partition.clone()))
                .collect();
            let asked: Vec<String> = names.keys().cloned().collect();
            for lease in leases.acquire_parts(&self.own, &asked).await? {
                if let Some(partition) = names.get(&lease.name) {
                    self.parts.insert(partition.clone(), lease);
                }
            }
        }
        let held: Vec<TopicPartition> = self.parts.keys().cloned().collect();
        tracing::info!(
            pipeline = self.pipeline.name,
            partitions = held.len(),
            of = self.all.len(),
            members = seen.members.len(),
            "reading this server's share of the partitions"
        );
        Ok(held)
    }

    /// Looks whether what is held is still what should be.
    pub async fn look(&mut self) -> Result<Moves, SqlError> {
        let seen = self.look_at_leases().await?;
        self.has_company = seen.members.len() > 1;
        if seen.is_wanted {
            return Ok(Moves::GiveWay);
        }
        if let Some(run) = seen.stopped_by.filter(|run| *run != self.run) {
            return Ok(Moves::Stop(self.error_of(run).await?));
        }
        let quota = self.quota(&seen);
        let held = self.parts.len();
        if held > quota || held < quota && !self.free(&seen).is_empty() {
            return Ok(Moves::Settle);
        }
        let known: BTreeSet<String> = self.all.iter().map(|one| self.name_of(one)).collect();
        let parts: BTreeSet<String> = seen.parts.into_keys().collect();
        let unknown: BTreeSet<String> = parts.difference(&known).cloned().collect();
        let is_news = !unknown.is_subset(&self.unknown);
        self.unknown = unknown;
        match is_news {
            true => Ok(Moves::Discover),
            false => Ok(Moves::Stay),
        }
    }

    /// Whether others may commit as well.
    pub fn has_company(&self) -> bool {
        self.has_company
    }

    /// Gives back everything until the next [`Share::settle`]: others may be able to read.
    pub async fn step_back(&mut self) -> Result<(), SqlError> {
        let parts = std::mem::take(&mut self.parts);
        let ready = self.ready.take();
        let all: Vec<&Lease> = parts.values().chain(&ready).collect();
        Ok(self.engine.catalog.leases().release_parts(&all).await?)
    }

    /// Stops the runs of all servers: this one has failed.
    pub async fn stop_all(&self) -> Result<(), SqlError> {
        let name = format!("{}:stopped", pipeline_lease(self.pipeline.id));
        let leases = self.engine.catalog.leases();
        let run = self.run.0.to_string();
        leases.acquire(&name, &run, STOPPED_FOR).await?;
        Ok(())
    }

    /// Forgets the leases of a pipeline that was dropped. The run must have ended.
    pub async fn forget_dropped(&self) -> Result<(), SqlError> {
        let snapshot = self.engine.catalog.snapshot();
        if snapshot.pipelines().all(|one| one.id != self.pipeline.id) {
            let leases = self.engine.catalog.leases();
            leases.forget(self.pipeline.id).await?;
        }
        Ok(())
    }

    /// Whether another server has ended this member.
    pub async fn is_lost(&self) -> Result<bool, SqlError> {
        let leases = self.engine.catalog.leases();
        Ok(!leases.renew(&self.own, lease::LEASE_TTL).await?)
    }

    fn name_of(&self, partition: &TopicPartition) -> String {
        format!("{}:part:{partition}", pipeline_lease(self.pipeline.id))
    }

    /// The partitions that nobody has.
    fn free(&self, seen: &Seen) -> Vec<TopicPartition> {
        let is_free = |partition: &&TopicPartition| {
            let name = self.name_of(partition);
            !seen.parts.contains_key(&name)
        };
        self.all.iter().filter(is_free).cloned().collect()
    }

    /// How many partitions this server is to have.
    fn quota(&self, seen: &Seen) -> usize {
        let mut held: BTreeMap<&str, usize> = BTreeMap::new();
        for lease in seen.parts.values() {
            *held.entry(&lease.owner).or_default() += 1;
        }
        let ready = seen.members.iter().filter(|(_, one)| one.ready.is_some());
        // The new definition waits until the old one is not read by any more.
        let agrees = |ready: &Option<(String, Lease)>| {
            ready
                .as_ref()
                .is_some_and(|(stamp, _)| *stamp == self.stamp)
        };
        if ready.clone().any(|(_, one)| !agrees(&one.ready)) {
            return 0;
        }
        let members: Vec<(RunId, usize)> = ready
            .take(self.members_max)
            .map(|(run, one)| (*run, held.get(one.owner.as_str()).copied().unwrap_or(0)))
            .collect();
        quota_of(self.run, self.all.len(), members)
    }

    /// What another run ended with.
    async fn error_of(&self, run: RunId) -> Result<RunError, SqlError> {
        let record = self.engine.catalog.runs().get(run).await?;
        let server = record.as_ref().map(|record| record.server.clone());
        let error = record.and_then(|record| record.error).unwrap_or_default();
        let place = server.map(|server| format!("on server \"{server}\""));
        let detail = [place, error.detail.clone()];
        let detail: Vec<String> = detail.into_iter().flatten().collect();
        Ok(RunError {
            detail: Some(detail.join(": ")),
            ..error
        })
    }
}

/// How many of `total` partitions a member is to have. Those that have most have one more where they cannot all have as many.
fn quota_of(run: RunId, total: usize, mut members: Vec<(RunId, usize)>) -> usize {
    let count = members.len();
    members.sort_by_key(|(run, held)| (std::cmp::Reverse(*held), *run));
    match members.iter().position(|(member, _)| *member == run) {
        Some(place) => total / count + usize::from(place < total % count),
        None => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lets members give back and take, in turns, until nothing changes; gives what each has.
    fn settled(total: usize, mut held: BTreeMap<RunId, usize>) -> Vec<usize> {
        for _ in 0..10 {
            let seen: Vec<(RunId, usize)> = held.iter().map(|(run, held)| (*run, *held)).collect();
            for run in held.keys().copied().collect::<Vec<_>>() {
                let quota = quota_of(run, total, seen.clone());
                let free = total - held.values().sum::<usize>();
                if let Some(held) = held.get_mut(&run) {
                    *held = quota.min(*held + free);
                }
            }
        }
        held.into_values().collect()
    }

    #[test]
    fn partitions_are_spread_evenly_whoever_comes_and_goes() {
        let members = |held: &[usize]| (1..).map(RunId).zip(held.iter().copied()).collect();
        assert_eq!(settled(7, members(&[0])), [7]);
        assert_eq!(settled(7, members(&[7, 0])), [4, 3]);
        assert_eq!(settled(7, members(&[0, 7])), [3, 4], "what is held stays");
        assert_eq!(settled(7, members(&[4, 3, 0])), [3, 2, 2]);
        assert_eq!(settled(7, members(&[0, 2, 2])), [2, 3, 2]);
        assert_eq!(settled(2, members(&[1, 1, 0])), [1, 1, 0]);
        assert_eq!(
            settled(64, members(&[64, 0, 0, 0, 0])),
            [13, 13, 13, 13, 12]
        );
        assert_eq!(settled(0, members(&[0, 0])), [0, 0]);
    }

    #[test]
    fn who_is_no_member_has_nothing() {
        assert_eq!(quota_of(RunId(3), 4, vec![(RunId(1), 4)]), 0);
        assert_eq!(quota_of(RunId(3), 4, Vec::new()), 0);
    }
}
