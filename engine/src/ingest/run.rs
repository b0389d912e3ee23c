//! One run of a pipeline, from lease to lease.
//!
//! A run holds the pipeline's lease, settles what an earlier run left, and then repeats for batches of
//! files: load, prepare, commit, resolve, move. A passing fault (of the storage, of the catalog) throws
//! the batch away and begins again from the settled state, a few times with growing pauses. Dropping the
//! future stops the run and records it as cancelled; a commit under way is found by the next run.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use boathouse_catalog::CatalogError;
use boathouse_catalog::definitions::{ObjectId, PipelineDefinition};
use boathouse_catalog::state::{
    FileState, Lease, LedgerFile, NewPosition, NewRun, ReplayMark, RunCounters, RunError, RunId,
    RunMessage, RunState, Severity,
};
use boathouse_connectors::{FileEntry, LocalFile};
use boathouse_sql::statement::{OnChangedFile, OnError, PipelineSource};
use futures::StreamExt;
use serde_json::{Map, json};
use uuid::Uuid;

use super::capture::{refresh_range, run_capture};
use super::discover::{self, Reason, ledger_file};
use super::kafka::run_topics;
use super::lease;
use super::load::{Batch, Failure, Loader, PIPELINE_TAG, SOURCE_TAG, message_of};
use super::plan::{PipelinePlan, infer_source, statement_of};
use super::publish::{is_into_topic, run_publication};
use super::quarantine::quarantined_rows;
use super::row_plan::RowPlan;
use super::schema::SourceSchema;
use super::target::Target;
use super::whole::load_whole;
use super::{RunSummary, Trigger, failpoint};
use crate::engine::Engine;
use crate::error::{SqlError, SqlState};
use crate::lake::{
    ApplyRequest, ChangeBatch, CommitRequest, LakeError, SpilledChanges, TransactionMark,
};
use crate::query;

const ATTEMPTS_MAX: usize = 4;

/// Interruptions that wait to be put on record. Further ones are in the log alone.
const WAITING_MAX: usize = 16;

/// The name under which a pipeline commits.
pub(super) fn application(pipeline: ObjectId) -> String {
    format!("boathouse:{pipeline}")
}

/// Runs a pipeline once and waits for it. A run that could not do its work is an error; files that
/// failed alone are in the summary.
pub async fn run_pipeline(
    engine: &Arc<Engine>,
    pipeline: &PipelineDefinition,
    trigger: Trigger,
) -> Result<RunSummary, SqlError> {
    let statement = statement_of(pipeline)?;
    match statement.source {
        PipelineSource::MySql { .. } => return run_capture(engine, pipeline, trigger, &[]).await,
        PipelineSource::Kafka { .. } => return run_topics(engine, pipeline, trigger).await,
        PipelineSource::Table { .. } if is_into_topic(&statement) => {
            return run_publication(engine, pipeline, trigger).await;
        }
        _ => {}
    }
    let mut open = OpenRun::begin(engine, pipeline, trigger).await?;
    let mut pauses = ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(200))
        .with_max_delay(Duration::from_secs(10))
        .with_max_times(ATTEMPTS_MAX)
        .with_jitter()
        .build();
    loop {
        let outcome = match open.go_on().await {
            Ok(()) => attempt(&mut open, engine, pipeline, trigger).await,
            Err(error) => Err(error),
        };
        let error = match outcome {
            Ok(()) => return open.succeed().await,
            Err(error) => error,
        };
        match pauses.next() {
            Some(pause) if error.retryable => {
                tracing::warn!(
                    pipeline = pipeline.name, %error,
                    cause = ?std::error::Error::source(&error), "run failed, trying again"
                );
                open.interrupted(&error).await?;
                tokio::time::sleep(pause).await;
            }
            _ => return Err(open.fail(error).await),
        }
    }
}

/// Runs a pipeline from a database once; the tables of the source that match the patterns are read anew, or the
/// rows of them whose key begins with a value `between` two.
pub async fn refresh_tables(
    engine: &Arc<Engine>,
    pipeline: &PipelineDefinition,
    tables: &[String],
    between: Option<&(String, String)>,
) -> Result<RunSummary, SqlError> {
    if !is_capture(pipeline)? {
        return Err(SqlError::unsupported(
            "FULL REFRESH TABLES of a pipeline that is not FROM MYSQL",
        ));
    }
    match between {
        Some(between) => refresh_range(engine, pipeline, tables, between).await,
        None => run_capture(engine, pipeline, Trigger::FullRefresh, tables).await,
    }
}

/// Whether a pipeline's source is a database.
pub(super) fn is_capture(pipeline: &PipelineDefinition) -> Result<bool, SqlError> {
    let source = statement_of(pipeline)?.source;
    Ok(matches!(source, PipelineSource::MySql { .. }))
}

/// A run on record, with its lease. Dropped unfinished, it is recorded as cancelled.
pub(super) struct OpenRun {
    engine: Arc<Engine>,
    pub run: RunId,
    pub lease: Lease,
    pub counters: RunCounters,
    error_count: i64,
    /// What interrupted the run and is not on record yet.
    waiting: Vec<RunMessage>,
    keeping: lease::Keeping,
    /// Others may run the pipeline as well.
    is_member: bool,
    finished: bool,
}

impl OpenRun {
    pub async fn begin(
        engine: &Arc<Engine>,
        pipeline: &PipelineDefinition,
        trigger: Trigger,
    ) -> Result<Self, SqlError> {
        let leases = engine.catalog.leases();
        let lease = lease::acquire(engine, pipeline).await?;
        let keeping = lease::keep(leases.clone(), lease.clone());
        let started = match lease::until_alone(engine, pipeline).await {
            Ok(()) => {
                let new = new_run(engine, pipeline, trigger);
                let started = engine.catalog.runs().start(new).await;
                started.map_err(SqlError::from)
            }
            Err(error) => Err(error),
        };
        let run = match started {
            Ok(run) => run,
            Err(error) => {
                leases.release(&lease).await?;
                return Err(error);
            }
        };
        Ok(Self::of(engine, run, lease, keeping, false))
    }

    /// Begins a run that shares the pipeline with those of other servers.
    pub async fn join(
        engine: &Arc<Engine>,
        pipeline: &PipelineDefinition,
        trigger: Trigger,
    ) -> Result<Self, SqlError> {
        lease::may_join(engine, pipeline).await?;
        let runs = engine.catalog.runs();
        // A run is on record only while it has a lease: whoever finds none takes it for dead.
        let run = runs.reserve().await?;
        let lease = lease::join(engine, pipeline, run).await?;
        let keeping = lease::keep(engine.catalog.leases(), lease.clone());
        let new = new_run(engine, pipeline, trigger);
        if let Err(error) = runs.start_as(run, new).await {
            give_up(engine, &lease, true).await?;
            return Err(error.into());
        }
        Ok(Self::of(engine, run, lease, keeping, true))
    }

    fn of(
        engine: &Arc<Engine>,
        run: RunId,
        lease: Lease,
        keeping: lease::Keeping,
        is_member: bool,
    ) -> Self {
        Self {
            engine: Arc::clone(engine),
            run,
            lease,
            counters: RunCounters::default(),
            error_count: 0,
            waiting: Vec::new(),
            keeping,
            is_member,
            finished: false,
        }
    }

    pub fn engine(&self) -> Arc<Engine> {
        Arc::clone(&self.engine)
    }

    /// Fails when another server has taken the pipeline over. A commit finds that out for itself; this is for runs that
    /// have nothing to commit.
    pub fn require_lease(&self) -> Result<(), SqlError> {
        match self.keeping.has_ended() {
            true => Err(CatalogError::LeaseLost(self.lease.name.clone()).into()),
            false => Ok(()),
        }
    }

    /// What the run is at, for those who ask another server.
    pub fn tell(&self, what: Option<serde_json::Value>) {
        self.keeping.tell(what);
    }

    pub async fn add_messages(&mut self, messages: Vec<RunMessage>) -> Result<(), SqlError> {
        if messages.is_empty() {
            return Ok(());
        }
        let runs = self.engine.catalog.runs();
        runs.add_errors(self.run, &messages).await?;
        self.error_count += i64::try_from(messages.len()).unwrap_or(i64::MAX);
        Ok(())
    }

    /// Takes note of a passing fault, after which the run goes on. It is put on record, which waits until the next attempt
    /// ([`OpenRun::go_on`]) when the catalog itself is away.
    pub async fn interrupted(&mut self, error: &SqlError) -> Result<(), SqlError> {
        let message = message_of(Severity::Warning, None, error);
        if self.waiting.len() < WAITING_MAX && self.waiting.last() != Some(&message) {
            self.waiting.push(message);
        }
        if is_of_catalog(error) {
            return Ok(());
        }
        match self.record_waiting().await {
            Err(error) if error.retryable => Ok(()),
            recorded => recorded,
        }
    }

    /// Stands before each attempt. After an interruption the lease may be over that nobody could renew meanwhile.
    ///
    /// # Errors
    ///
    /// Another server has taken the pipeline over, or the catalog is still away.
    pub async fn go_on(&mut self) -> Result<(), SqlError> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let leases = self.engine.catalog.leases();
        if !leases.renew(&self.lease, lease::LEASE_TTL).await? {
            return Err(CatalogError::LeaseLost(self.lease.name.clone()).into());
        }
        self.record_waiting().await
    }

    async fn record_waiting(&mut self) -> Result<(), SqlError> {
        let waiting = self.waiting.clone();
        self.add_messages(waiting).await?;
        self.waiting.clear();
        Ok(())
    }

    /// Ends a run that did its work. When every file it had failed, the run failed.
    pub async fn succeed(mut self) -> Result<RunSummary, SqlError> {
        let nothing_loaded = self.counters.files_total > 0 && self.counters.files_done == 0;
        let state = if nothing_loaded && self.error_count > 0 {
            RunState::Failed
        } else {
            RunState::Succeeded
        };
        let error = (state == RunState::Failed).then(|| RunError {
            sqlstate: SqlState::DATA_EXCEPTION.0.to_owned(),
            message: "no file could be loaded".into(),
            detail: None,
            hint: Some("see system.pipeline_errors".into()),
        });
        self.end(state, error).await?;
        Ok(RunSummary {
            run: self.run,
            state,
            counters: self.counters,
            error_count: self.error_count,
        })
    }

    /// Ends a run that could not do its work and gives its error back.
    pub async fn fail(self, error: SqlError) -> SqlError {
        let recorded = RunError {
            sqlstate: error.state.0.to_owned(),
            message: error.message.clone(),
            detail: error.detail.clone(),
            hint: error.hint.clone(),
        };
        self.fail_as(recorded, error).await
    }

    /// The same, with another error on record.
    pub async fn fail_as(mut self, recorded: RunError, error: SqlError) -> SqlError {
        if let Err(second) = self.end(RunState::Failed, Some(recorded)).await {
            tracing::error!(run = self.run.0, error = %second, "could not record a failed run");
        }
        error
    }

    async fn end(&mut self, state: RunState, error: Option<RunError>) -> Result<(), SqlError> {
        self.finished = true;
        self.keeping.stop();
        let ended = self
            .engine
            .catalog
            .runs()
            .finish(self.run, state, self.counters, error)
            .await;
        give_up(&self.engine, &self.lease, self.is_member).await?;
        Ok(ended?)
    }
}

impl Drop for OpenRun {
    fn drop(&mut self) {
        self.keeping.stop();
        if self.finished {
            return;
        }
        let (engine, run, lease, counters) = (
            Arc::clone(&self.engine),
            self.run,
            self.lease.clone(),
            self.counters,
        );
        let is_member = self.is_member;
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let endings = self.engine.endings.clone();
            let ending = async move {
                let runs = engine.catalog.runs();
                if let Err(error) = runs.finish(run, RunState::Cancelled, counters, None).await {
                    tracing::warn!(run = run.0, %error, "could not record a cancelled run");
                }
                if let Err(error) = give_up(&engine, &lease, is_member).await {
                    tracing::warn!(run = run.0, %error, "could not release a lease");
                }
            };
            endings.spawn_on(ending, &runtime);
        }
    }
}

/// Whether an error is that the catalog cannot be reached.
pub(super) fn is_of_catalog(error: &SqlError) -> bool {
    let cause = std::error::Error::source(error);
    let cause = cause.and_then(|cause| cause.downcast_ref::<CatalogError>());
    matches!(cause, Some(CatalogError::Unreachable(_)))
}

fn new_run(engine: &Engine, pipeline: &PipelineDefinition, trigger: Trigger) -> NewRun {
    NewRun {
        pipeline: pipeline.id,
        name: pipeline.name.clone(),
        trigger: trigger.name().to_owned(),
        server: engine.config.server_name.clone(),
    }
}

/// Gives back the lease of a run, and what a member has besides.
async fn give_up(engine: &Engine, lease: &Lease, is_member: bool) -> Result<(), CatalogError> {
    let leases = engine.catalog.leases();
    match is_member {
        true => leases.bury(lease, true).await.map(drop),
        false => leases.release(lease).await,
    }
}

/// What earlier runs have made true.
pub(super) struct Settled {
    /// The source's columns as they were found last.
    pub source: SourceSchema,
    /// They were found under another FORMAT, and say nothing about what is found under this one.
    pub stale: bool,
    /// Where the table's mark stands.
    pub mark: Option<i64>,
    /// The catalog does not know the commit the mark names.
    pub unknown: bool,
}

/// Reads the table's mark and settles what an earlier run left.
pub(super) async fn settle(plan: &RowPlan, pipeline: ObjectId) -> Result<Settled, SqlError> {
    let positions = plan.engine().catalog.positions();
    let target = Target::find(plan).await?;
    let mark = match &target {
        Some(target) => {
            target
                .table
                .snapshot(None)
                .await?
                .transaction(&application(pipeline))
                .await?
        }
        None => None,
    };
    let resolved = positions.resolve(pipeline, mark.unwrap_or(0)).await?;
    let (source, stale) = match positions.last_committed(pipeline).await? {
        Some(position) => {
            let stamp = position.position["stamp"].as_str();
            let stale = stamp.is_some_and(|stamp| stamp != plan.format_stamp);
            (SourceSchema::from_json(&position.position["source"]), stale)
        }
        None => (SourceSchema::default(), false),
    };
    Ok(Settled {
        source,
        stale,
        mark,
        unknown: mark.is_some() && !resolved.known,
    })
}

/// One attempt at the whole run.
async fn attempt(
    open: &mut OpenRun,
    engine: &Arc<Engine>,
    pipeline: &PipelineDefinition,
    trigger: Trigger,
) -> Result<(), SqlError> {
    let plan = PipelinePlan::open(engine, pipeline).await?;
    let settled = settle(&plan, pipeline.id).await?;
    if settled.unknown && trigger != Trigger::FullRefresh {
        open.add_messages(vec![unknown_past(&plan)]).await?;
    }
    let ledger = engine.catalog.files().committed(pipeline.id).await?;
    if let Some(folder) = plan.options.move_to.as_ref()
        && trigger == Trigger::FullRefresh
    {
        return Err(not_refreshed(
            "files that were loaded have been moved away and would be missing",
        )
        .hint(format!(
            "load them anew through a pipeline that reads from \"{folder}\""
        )));
    }
    let in_table = engine.catalog.files().in_table(pipeline.id).await?;
    let found = discover::discover(&plan, &ledger, &in_table, trigger).await?;
    if trigger == Trigger::FullRefresh
        && let Some(path) = found
            .unsettled
            .iter()
            .find(|path| in_table.contains_key(*path))
    {
        return Err(not_refreshed(&format!("\"{path}\" is being written to"))
            .hint("try again when it is complete"));
    }
    move_files(open, &plan, &found.to_move).await?;
    if found.to_load.is_empty() {
        if trigger == Trigger::FullRefresh {
            return Err(not_refreshed("no file matches the patterns")
                .hint("CHECK CONNECTION tells whether the source is reachable"));
        }
        return Ok(());
    }

    let mut source = match &plan.declared {
        Some(declared) => declared.clone(),
        None if settled.stale || trigger == Trigger::FullRefresh => SourceSchema::default(),
        None => settled.source,
    };
    if source.is_empty() {
        let entries: Vec<FileEntry> = found
            .to_load
            .iter()
            .map(|(entry, _)| entry.clone())
            .collect();
        source = infer_source(&plan, &entries).await?;
    }
    let mut loader = Loader::new(&plan, pipeline.id, open.run, source, open.counters);
    if !loader.source.is_empty() {
        loader.prepare().await?;
    }
    let whole = loader.is_whole();
    let policy = match &loader.ready {
        Some(ready) => ready.policy,
        None => plan.changed_file_policy(true)?,
    };
    let (to_load, refused) = by_policy(policy, found.to_load);
    open.add_messages(refused).await?;
    loader.counters.files_total =
        loader.counters.files_done + i64::try_from(to_load.len()).unwrap_or(i64::MAX);
    open.counters = loader.counters;
    let mut mark = settled.mark;
    for files in discover::batches(&plan, to_load, whole || trigger == Trigger::FullRefresh) {
        let mut work = RunBatch {
            batch: Batch::default(),
            failed: Vec::new(),
            unfetched: Vec::new(),
            reasons: HashMap::new(),
        };
        work.load(&mut loader, files).await?;
        open.add_messages(std::mem::take(&mut loader.messages))
            .await?;
        let missing = (trigger == Trigger::FullRefresh)
            .then(|| work.missing(&in_table))
            .flatten();
        // Of a refresh that does not take place nothing is put on record but what was wrong.
        let failed = work
            .record_failures(open, &plan, pipeline.id, missing.is_none())
            .await?;
        let refusal = match missing {
            Some(path) => Some(
                not_refreshed(&format!("\"{path}\" could not be loaded"))
                    .hint("see system.pipeline_errors"),
            ),
            None => (failed && plan.on_error == OnError::Stop).then(stopped),
        };
        if let Some(error) = refusal {
            if let Some(ready) = &loader.ready {
                ready.target.table.discard(work.batch.adds).await;
            }
            return Err(error);
        }
        mark = work
            .commit(&mut loader, open, mark, trigger, &in_table)
            .await?;
        open.counters = loader.counters;
        engine
            .catalog
            .runs()
            .progress(open.run, open.counters)
            .await?;
        move_files(open, &plan, &work.batch.loaded).await?;
    }
    Ok(())
}

/// The files of one commit.
struct RunBatch {
    batch: Batch,
    failed: Vec<(FileEntry, RunMessage)>,
    /// Paths of files that could not be brought here or were still written to: the next run takes them.
    unfetched: Vec<String>,
    reasons: HashMap<String, Reason>,
}

impl RunBatch {
    async fn load(
        &mut self,
        loader: &mut Loader<'_>,
        files: Vec<(FileEntry, Reason)>,
    ) -> Result<(), SqlError> {
        for (entry, reason) in &files {
            self.reasons.insert(entry.path.clone(), *reason);
        }
        let spool = discover::spool(loader.plan.engine())?;
        let store = Arc::clone(&loader.plan.store);
        // The next file is fetched while one is decoded.
        let mut fetched = futures::stream::iter(files)
            .map(|(entry, _)| {
                let (store, spool) = (Arc::clone(&store), spool.clone());
                async move {
                    let file = store.fetch(&entry, &spool).await;
                    (entry, file)
                }
            })
            .buffered(2);
        let mut together: Vec<(FileEntry, LocalFile)> = Vec::new();
        while let Some((entry, file)) = fetched.next().await {
            let file = match file {
                Ok(file) => file,
                Err(error) => {
                    // Not the file's fault: it stays unknown and the next run takes it.
                    let error = SqlError::from(error);
                    let message = message_of(Severity::Error, Some(&entry.path), &error);
                    loader.messages.push(message);
                    self.unfetched.push(entry.path);
                    continue;
                }
            };
            let outcome = match loader.meet(&mut self.batch, &file).await {
                Ok(()) if loader.is_whole() => {
                    together.push((entry.clone(), file));
                    Ok(())
                }
                Ok(()) => loader.load(&mut self.batch, &entry, file).await,
                Err(failure) => Err(failure),
            };
            self.note(entry, outcome, loader)?;
            if !self.failed.is_empty() && loader.plan.on_error == OnError::Stop {
                break;
            }
        }
        drop(fetched);
        if !together.is_empty() {
            for bad in load_whole(loader, &mut self.batch, together).await? {
                self.note(bad.entry, Err(bad.failure), loader)?;
            }
        }
        loader.close_shared(&mut self.batch).await?;
        failpoint::hit("after_data_files");
        Ok(())
    }

    /// A file that has rows in the table and could not be loaded anew, or could not be fetched.
    fn missing(&self, in_table: &HashMap<String, LedgerFile>) -> Option<String> {
        let loaded_before = |path: &&String| in_table.contains_key(*path);
        let failed = self.failed.iter().map(|(entry, _)| &entry.path);
        self.unfetched
            .iter()
            .chain(failed.filter(loaded_before))
            .next()
            .cloned()
    }

    fn note(
        &mut self,
        entry: FileEntry,
        outcome: Result<(), Failure>,
        loader: &mut Loader<'_>,
    ) -> Result<(), SqlError> {
        match outcome {
            Ok(()) => Ok(()),
            Err(Failure::Fatal(error)) => Err(error),
            Err(Failure::Passing(mut message)) => {
                message.file = Some(entry.path.clone());
                loader.messages.push(*message);
                self.unfetched.push(entry.path);
                Ok(())
            }
            Err(Failure::File(mut message)) => {
                message.file = Some(entry.path.clone());
                self.failed.push((entry, *message));
                Ok(())
            }
        }
    }

    /// Puts the failed files on record. Says whether there were any.
    async fn record_failures(
        &mut self,
        open: &mut OpenRun,
        plan: &PipelinePlan,
        pipeline: ObjectId,
        in_ledger: bool,
    ) -> Result<bool, SqlError> {
        if self.failed.is_empty() {
            return Ok(!self.unfetched.is_empty());
        }
        let mut ledger = Vec::with_capacity(self.failed.len());
        let mut messages = Vec::with_capacity(self.failed.len());
        for (entry, message) in self.failed.drain(..) {
            let mut file = ledger_file(&entry, open.run, FileState::Failed);
            file.error = Some(message.message.clone());
            ledger.push(file);
            messages.push(message);
        }
        if in_ledger {
            plan.engine()
                .catalog
                .files()
                .record(pipeline, &ledger)
                .await?;
        }
        open.add_messages(messages).await?;
        Ok(true)
    }

    /// Makes the batch true. Gives where the mark stands then.
    async fn commit(
        &mut self,
        loader: &mut Loader<'_>,
        open: &OpenRun,
        mark: Option<i64>,
        trigger: Trigger,
        in_table: &HashMap<String, LedgerFile>,
    ) -> Result<Option<i64>, SqlError> {
        if self.batch.ledger.is_empty() {
            return Ok(mark);
        }
        let plan = loader.plan;
        let pipeline = loader.pipeline;
        let position = position_of(plan, &loader.source);
        if trigger == Trigger::FullRefresh {
            self.remove_missing(in_table, open.run);
        }
        let superseded = self.superseded(plan, pipeline, trigger).await?;
        let ready = loader.ready()?;
        let removes = self
            .removes(
                ready,
                pipeline,
                trigger,
                in_table,
                plan.options.move_to.is_some(),
            )
            .await?;
        let committed = commit_batch(
            plan,
            CommitBatch {
                pipeline,
                run: open.run,
                lease: &open.lease,
                mark,
                position,
                batch: &mut self.batch,
                removes,
                changes: Vec::new(),
                anew: None,
                part_marks: Vec::new(),
                replays: &[],
                superseded: &superseded,
                keeps_refused: false,
            },
            &mut ready.target,
        )
        .await?;
        Ok(Some(committed))
    }

    /// Puts on record that files which are gone have no rows any more; should they return they are new.
    fn remove_missing(&mut self, in_table: &HashMap<String, LedgerFile>, run: RunId) {
        let gone: Vec<LedgerFile> = in_table
            .values()
            .filter(|known| !self.reasons.contains_key(&known.path))
            .map(|known| LedgerFile {
                state: FileState::Removed,
                rows: 0,
                rows_quarantined: 0,
                run: Some(run),
                ..known.clone()
            })
            .collect();
        self.batch.ledger.extend(gone);
    }

    /// Waiting rows of the quarantine that came from files this batch loads anew: they were judged
    /// again with their file, and replaying them as well would double them.
    async fn superseded(
        &self,
        plan: &PipelinePlan,
        pipeline: ObjectId,
        trigger: Trigger,
    ) -> Result<Vec<ReplayMark>, SqlError> {
        let changed: HashSet<&str> = self
            .batch
            .loaded
            .iter()
            .map(|entry| entry.path.as_str())
            .filter(|path| self.reasons.get(*path) == Some(&Reason::Changed))
            .collect();
        let all = trigger == Trigger::FullRefresh;
        if !all && changed.is_empty() {
            return Ok(Vec::new());
        }
        let rows = quarantined_rows(plan.engine(), Some(pipeline)).await?;
        Ok(rows
            .iter()
            .filter(|row| {
                let anew = row
                    .file
                    .as_deref()
                    .is_some_and(|file| changed.contains(file));
                row.is_waiting() && (all || anew)
            })
            .map(|row| ReplayMark {
                sequence: row.sequence,
                row_id: row.row_id,
            })
            .collect())
    }

    /// The data files that the batch replaces.
    async fn removes(
        &self,
        ready: &super::rows::Ready,
        pipeline: ObjectId,
        trigger: Trigger,
        in_table: &HashMap<String, LedgerFile>,
        paths_are_reused: bool,
    ) -> Result<Vec<String>, SqlError> {
        let snapshot = ready.target.table.snapshot(None).await?;
        let id = pipeline.to_string();
        let ours = snapshot
            .files()
            .iter()
            .filter(|file| file.tag(PIPELINE_TAG) == Some(&id));
        if trigger == Trigger::FullRefresh {
            return Ok(ours.map(|file| file.path.clone()).collect());
        }
        // Where files are moved away after loading a path is used again for another file.
        if ready.policy != OnChangedFile::Reload || paths_are_reused {
            return Ok(Vec::new());
        }
        let mut removes = Vec::new();
        let mut found: Vec<&str> = Vec::new();
        for file in ours {
            let Some(source) = file.tag(SOURCE_TAG) else {
                continue;
            };
            if self.reasons.contains_key(source)
                && self.batch.loaded.iter().any(|entry| entry.path == source)
            {
                removes.push(file.path.clone());
                found.push(source);
            }
        }
        for entry in &self.batch.loaded {
            let changed = self.reasons.get(&entry.path) == Some(&Reason::Changed);
            let had_rows = in_table.get(&entry.path).is_some_and(|file| file.rows > 0);
            if changed && had_rows && !found.contains(&entry.path.as_str()) {
                return Err(SqlError::new(
                    SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
                    format!(
                        "the rows loaded from \"{}\" before it changed cannot be told apart in the table",
                        entry.path
                    ),
                )
                .detail("the table's data files were rewritten by another program")
                .hint("load everything again with RUN PIPELINE ... FULL REFRESH"));
            }
        }
        Ok(removes)
    }
}

/// What [`commit_batch`] commits.
pub(super) struct CommitBatch<'a> {
    pub pipeline: ObjectId,
    pub run: RunId,
    pub lease: &'a Lease,
    pub mark: Option<i64>,
    pub position: serde_json::Value,
    pub batch: &'a mut Batch,
    pub removes: Vec<String>,
    /// Changes of a table with a key, instead of files.
    pub changes: Vec<ChangeBatch>,
    /// All rows that a table with a key is to have, instead of `changes`.
    pub anew: Option<Anew>,
    /// How far the source's parts are then, where they have marks of their own.
    pub part_marks: Vec<TransactionMark>,
    pub replays: &'a [ReplayMark],
    pub superseded: &'a [ReplayMark],
    /// Whether the files of a batch that the table refuses are kept in it, to be committed once more.
    pub keeps_refused: bool,
}

/// All rows of a table with a key.
#[derive(Clone)]
pub(super) struct Anew {
    pub changes: Vec<SpilledChanges>,
    /// The columns that the source has something to say of.
    pub told: Vec<String>,
}

/// What a commit remembers of the source.
pub(super) fn position_of(plan: &RowPlan, source: &SourceSchema) -> serde_json::Value {
    json!({ "format": 1, "source": source.to_json(), "stamp": plan.format_stamp })
}

/// Prepare, commit, resolve. Gives the sequence, which is where the mark stands then.
pub(super) async fn commit_batch(
    plan: &RowPlan,
    work: CommitBatch<'_>,
    target: &mut Target,
) -> Result<i64, SqlError> {
    let positions = plan.engine().catalog.positions();
    let attempt = Uuid::new_v4();
    let prepared = positions
        .prepare(NewPosition {
            pipeline: work.pipeline,
            attempt,
            position: work.position,
            committed_sequence: work.mark.unwrap_or(0),
            files: &work.batch.ledger,
            quarantine: &work.batch.quarantine,
            replays: work.replays,
            superseded: work.superseded,
            captures: &[],
            lease: Some(work.lease),
        })
        .await;
    let adds = std::mem::take(&mut work.batch.adds);
    let sequence = match prepared {
        Ok(sequence) => sequence,
        Err(error) => {
            target.table.discard(adds).await;
            return Err(error.into());
        }
    };
    failpoint::hit("after_prepare");
    let mut info = Map::new();
    info.insert("boathousePipeline".into(), json!(plan.name));
    info.insert("boathouseRun".into(), json!(work.run.0));
    info.insert("boathouseAttempt".into(), json!(attempt.to_string()));
    let transaction = Some(TransactionMark {
        application: application(work.pipeline),
        expected: work.mark,
        version: sequence,
    });
    if !plan.key.is_empty() {
        let (spilled, replaces) = match work.anew {
            Some(anew) => (anew.changes, Some(anew.told)),
            None => (Vec::new(), None),
        };
        let request = ApplyRequest {
            key: plan.key.clone(),
            changes: work.changes,
            spilled,
            replaces,
            operation: "STREAMING UPDATE".into(),
            transaction,
            part_marks: work.part_marks,
            metadata: target.metadata_change(),
            info,
        };
        let state = query::state_of(&plan.engine().runtime);
        target.table.apply(request, &state).await?;
        positions.resolve(work.pipeline, sequence).await?;
        failpoint::hit("after_resolve");
        target.committed(plan).await?;
        return Ok(sequence);
    }
    let request = CommitRequest {
        operation: "WRITE".into(),
        adds: adds.clone(),
        removes: work.removes,
        metadata: target.metadata_change(),
        transaction,
        part_marks: work.part_marks,
        info,
        ..CommitRequest::default()
    };
    if let Err(error) = target.table.commit(request).await {
        // Only a refusal tells for certain that the files are in no commit.
        match error {
            LakeError::Conflict { .. } if work.keeps_refused => work.batch.adds = adds,
            LakeError::Conflict { .. } => target.table.discard(adds).await,
            _ => {}
        }
        return Err(error.into());
    }
    positions.resolve(work.pipeline, sequence).await?;
    failpoint::hit("after_resolve");
    target.committed(plan).await?;
    Ok(sequence)
}

type Chosen = (Vec<(FileEntry, Reason)>, Vec<RunMessage>);

/// Applies ON CHANGED FILE to what was found.
fn by_policy(policy: OnChangedFile, files: Vec<(FileEntry, Reason)>) -> Chosen {
    let mut chosen = Vec::with_capacity(files.len());
    let mut messages = Vec::new();
    for (entry, reason) in files {
        match (reason, policy) {
            (Reason::New, _) | (Reason::Changed, OnChangedFile::Reload) => {
                chosen.push((entry, reason));
            }
            (Reason::Changed, OnChangedFile::Ignore) => {}
            (Reason::Changed, OnChangedFile::Fail) => messages.push(RunMessage {
                severity: Severity::Error,
                sqlstate: SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE.0.to_owned(),
                message: "the file has changed since it was loaded".into(),
                file: Some(entry.path),
                sheet: None,
                row: None,
                column: None,
                hint: Some(
                    "ON CHANGED FILE RELOAD replaces its rows, IGNORE leaves them as they are"
                        .into(),
                ),
            }),
        }
    }
    (chosen, messages)
}

async fn move_files(
    open: &mut OpenRun,
    plan: &PipelinePlan,
    files: &[FileEntry],
) -> Result<(), SqlError> {
    let Some(folder) = &plan.options.move_to else {
        return Ok(());
    };
    for entry in files {
        let message = match plan.store.rename(entry, folder).await {
            Ok(Some(_)) => continue,
            // Another file has taken the path since; the next run loads it.
            Ok(None) => RunMessage {
                severity: Severity::Warning,
                sqlstate: SqlState::WARNING.0.to_owned(),
                message: "the file was not moved, because it has changed since it was loaded"
                    .into(),
                file: Some(entry.path.clone()),
                sheet: None,
                row: None,
                column: None,
                hint: None,
            },
            // The rows are committed; the next run moves the file.
            Err(error) => message_of(Severity::Warning, Some(&entry.path), &SqlError::from(error)),
        };
        open.add_messages(vec![message]).await?;
    }
    Ok(())
}

pub(super) fn not_refreshed(reason: &str) -> SqlError {
    SqlError::new(
        SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
        format!("the table was left as it is: {reason}"),
    )
}

fn stopped() -> SqlError {
    SqlError::new(
        SqlState::DATA_EXCEPTION,
        "the run stopped at a file that could not be loaded",
    )
    .hint("see system.pipeline_errors; ON ERROR CONTINUE loads the other files")
}

fn unknown_past(plan: &PipelinePlan) -> RunMessage {
    RunMessage {
        severity: Severity::Warning,
        sqlstate: SqlState::WARNING.0.to_owned(),
        message: format!(
            "table \"{}\" has rows of this pipeline that the catalog does not know of",
            plan.target_name
        ),
        file: None,
        sheet: None,
        row: None,
        column: None,
        hint: Some("after a catalog rebuild, start from RUN PIPELINE ... FULL REFRESH".into()),
    }
}
