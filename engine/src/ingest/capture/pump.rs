//! Reads changes and chunks, and commits them in turn.
//!
//! One loop reads the changes and decides; batches are committed by a task of their own while the next one is
//! read, at most one at a time. Whatever needs the tables to stand still (a schema change, a chunk, the end)
//! waits for it first.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::hash::Hasher;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::ArrayRef;
use boathouse_catalog::definitions::{ObjectId, PipelineDefinition, TableDefinition};
use boathouse_catalog::state::{RunMessage, Severity};
use boathouse_connectors::ConnectorError;
use boathouse_connectors::mysql::{
    ChangeStream, ChangedRows, Chunk, ChunkRequest, Continuity, Opened, Position, RowChange,
    SourceState, SourceTable, Start, Step, TableName, file_number, key_literals,
};
use boathouse_sql::name::quote_identifier;
use siphasher::sip::SipHasher13;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::super::failpoint;
use super::super::run::{OpenRun, application};
use super::apply::{Batched, Committer, TableChanges, change_batch};
use super::board::{CaptureStatus, Running, TableStatus};
use super::chunks::{ChunkCommit, Keys, TOUCHED_MAX, commit_chunk};
use super::plan::CapturePlan;
use super::reading::Readings;
use super::run::{Refresh, is_current};
use super::shape::{Deletes, Shape};
use super::state::{CaptureState, Captured, SnapshotState, in_files, record};
use super::verify::{self, AskedKeys};
use super::{schema, sql, target};
use crate::engine::Engine;
use crate::error::{SqlError, SqlState};
use crate::lake::{ChangeSpill, LakeError, LakeTable};

/// How often a position without changes of ours is put on record.
const PIN_EVERY: Duration = Duration::from_secs(10);

/// How often progress is put on record, and the pipeline looked at for changes.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How long a source may take to have what was read of it before.
const CATCHES_UP_WITHIN: Duration = Duration::from_secs(10);

/// How often the source is asked where it stands.
const ASK_EVERY: Duration = Duration::from_secs(5);

/// Rows of a table to be read anew one by one. With more the table is read anew.
const UNCERTAIN_MAX: usize = 50_000;

/// The same while the table is read for the first time, or anew.
const PARTIALS_MAX: usize = 200_000;

/// How often the end of a run reads rows anew that go on changing. What is left then is read with the whole table
/// by the next run.
const ASKED_AGAIN_MAX: usize = 20;

/// Records of positions kept of a pipeline.
const POSITIONS_KEPT: i64 = 1000;

/// A batch that was left half committed, to be read again up to its end.
struct Redo {
    sequence: i64,
    position: Position,
}

pub(super) struct Pump {
    pub plan: CapturePlan,
    pub committer: Committer,
    pub stream: Box<ChangeStream>,
    pub tables: BTreeMap<TableName, Captured>,
    pub keys: HashMap<TableName, Arc<Keys>>,
    /// The newest sequence that every table has, and the position it reached.
    pub sequence: i64,
    pub committed: Position,
    redo: Option<Redo>,
    committing: Option<JoinHandle<Result<Batched, SqlError>>>,
    /// Changes of a large transaction, on disk.
    spills: BTreeMap<TableName, ChangeSpill>,
    readings: Readings,
    /// When the oldest change that is held came.
    held_since: Option<Instant>,
    /// What the source's tables were when it stood at a place, to be compared once that is reached.
    pub proposal: Option<((u64, u64), Vec<SourceTable>)>,
    /// Where the source stood when it was asked last, to be counted in once that is reached.
    milestone: Option<SourceState>,
    /// Where the source stood when it was asked last.
    source: Option<SourceState>,
    asked: Instant,
    /// Everything is read anew, because somebody said so.
    pub refreshes: bool,
    /// Tables to be read anew, of which the source said too little.
    unproved: BTreeSet<TableName>,
    pins_next: bool,
    pinned: Instant,
    rows_in: i64,
    rows_out: i64,
    messages: Vec<RunMessage>,
}

impl Pump {
    /// Finds out how far the tables are, and asks the source for what comes next.
    pub async fn start(
        plan: CapturePlan,
        committer: Committer,
        open: &mut OpenRun,
        refresh: &mut Refresh,
    ) -> Result<Self, SqlError> {
        let positions = plan.engine().catalog.positions();
        let pipeline = committer.pipeline;
        let last = positions.last_committed(pipeline).await?;
        let pending = positions.pending(pipeline).await?;
        let mut now = plan.server.source_state().await?;
        let read = |value: &serde_json::Value| {
            serde_json::from_value::<Position>(value.clone()).map_err(|error| {
                SqlError::new(SqlState::DATA_CORRUPTED, "a position cannot be read")
                    .caused_by(error)
            })
        };
        let sequence = last.as_ref().map_or(0, |last| last.sequence);
        let from = match &last {
            Some(last) if !last.position.is_null() => Some(read(&last.position)?),
            _ => None,
        };
        let pending = pending.filter(|pending| pending.sequence > sequence);
        let redo = match pending {
            Some(pending) => Some(Redo {
                sequence: pending.sequence,
                position: read(&pending.position)?,
            }),
            None => None,
        };
        if let Some(from) = &from {
            now = caught_up(&plan, now, from).await?;
        }
        let server_id = server_id_of(plan.engine(), pipeline.0);
        // Nothing was read before, and a place was named.
        let is_told = from.is_none() && !refresh.is_all() && plan.options.start != Start::Now;
        let begin = match is_told {
            true => {
                let wanted = Arc::clone(&plan.wanted);
                let start = &plan.options.start;
                let server = &plan.server;
                let begin = server.position_of(start, &now, server_id, wanted).await?;
                tracing::info!(pipeline = plan.name, position = %begin, "capture begins as it was told to");
                begin
            }
            false => now.position.clone(),
        };
        let mut lost = None;
        let (mut from, mut by_gtid, mut redo) = match from {
            // A place that a replica cannot ask for has to be asked for by its transactions.
            None if is_told => match now.continues(&begin) {
                Continuity::ByPlace => (begin, false, None),
                Continuity::ByGtid => (begin, true, None),
                Continuity::Lost(reason) => return Err(cannot_start(reason)),
            },
            None => (begin, false, None),
            Some(from) => match now.continues(&from) {
                _ if refresh.is_all() => (now.position.clone(), false, None),
                Continuity::ByPlace => (from, false, redo),
                Continuity::ByGtid => (from, true, redo),
                Continuity::Lost(reason) => {
                    lost = Some(reason);
                    (now.position.clone(), false, None)
                }
            },
        };
        let open_stream = |from: Position, by_gtid: bool| {
            plan.server.read_changes(
                from,
                by_gtid.then(|| now.position.place()),
                server_id,
                Arc::clone(&plan.wanted),
                (plan.options.policies, plan.shapes.detail()),
            )
        };
        let stream = match open_stream(from.clone(), by_gtid).await? {
            Opened::Stream(stream) => stream,
            // Nothing is there yet that could be read anew.
            Opened::Lost(reason) if is_told => return Err(cannot_start(reason)),
            // Only the server itself could tell.
            Opened::Lost(reason) => {
                lost = Some(reason);
                (from, by_gtid, redo) = (now.position.clone(), false, None);
                match open_stream(from.clone(), by_gtid).await? {
                    Opened::Stream(stream) => stream,
                    Opened::Lost(reason) => {
                        return Err(SqlError::new(SqlState::CONNECTION_FAILURE, reason).retryable());
                    }
                }
            }
        };
        let begins_here = last.is_none() || lost.is_some() || refresh.is_all();
        // Transactions that were being committed when the source was asked are named by now.
        let plan_state = plan.server.source_state().await?;
        let mut pump = Self {
            plan,
            committer,
            stream,
            tables: BTreeMap::new(),
            keys: HashMap::new(),
            sequence,
            committed: from,
            redo,
            committing: None,
            spills: BTreeMap::new(),
            readings: Readings::default(),
            held_since: None,
            proposal: None,
            milestone: Some(plan_state.clone()),
            source: Some(plan_state),
            asked: Instant::now(),
            refreshes: !matches!(refresh, Refresh::No),
            unproved: BTreeSet::new(),
            pins_next: false,
            pinned: Instant::now(),
            rows_in: open.counters.rows_in,
            rows_out: open.counters.rows_out,
            messages: Vec::new(),
        };
        for child in pump.plan.server.unlogged_cascades().await? {
            if (pump.plan.wanted)(&child) {
                pump.warn(format!(
                    "foreign keys change rows of {child} without a word in the binlog: VERIFY PIPELINE ... HEAL finds them"
                ));
            }
        }
        if let Some(reason) = &lost {
            pump.messages.push(RunMessage {
                severity: Severity::Warning,
                sqlstate: SqlState::WARNING.0.to_owned(),
                message: format!("{reason}; every table is read anew"),
                file: None,
                sheet: None,
                row: None,
                column: None,
                hint: None,
            });
        }
        pump.load(lost.is_some(), refresh, by_gtid).await?;
        // Only now, when it is on record what has to be read anew, may the place that was lost be given up.
        if begins_here {
            let from = pump.committed.clone();
            pump.sequence = pump.committer.pin(&from, pump.sequence).await?;
        }
        *refresh = Refresh::No;
        match by_gtid {
            true => pump.give_up_redo().await?,
            false => pump.settle_redo().await?,
        }
        Ok(pump)
    }

    /// On another server the batch that was left may not end where it did. It is given up: changes of keyed tables
    /// may come twice, which leaves them as they are; a table without a key that has the batch is read anew.
    async fn give_up_redo(&mut self) -> Result<(), SqlError> {
        let Some(redo) = self.redo.take() else {
            return Ok(());
        };
        let ahead: Vec<TableName> = self
            .tables
            .values()
            .filter(|captured| captured.mark.is_some_and(|mark| mark >= redo.sequence))
            .filter(|captured| captured.source.key.is_empty())
            .map(|captured| captured.name().clone())
            .collect();
        for name in ahead {
            schema::reload(self, &name).await?;
        }
        let from = self.committed.clone();
        self.sequence = self.committer.pin(&from, redo.sequence).await?;
        Ok(())
    }

    /// The tables as they are on record, and those that are new.
    async fn load(&mut self, lost: bool, refresh: &Refresh, by_gtid: bool) -> Result<(), SqlError> {
        let mut refreshed = 0;
        let pipeline = self.committer.pipeline;
        let wanted = Arc::clone(&self.plan.wanted);
        let listed_at = self.plan.server.source_state().await?.position.place();
        let sources = self
            .plan
            .server
            .source_tables(move |name| wanted(name))
            .await?;
        let records = self.plan.engine().catalog.captures().list(pipeline).await?;
        let renamed: Vec<TableName> = records
            .iter()
            .filter_map(|found| {
                let state: CaptureState = serde_json::from_value(found.state.clone()).ok()?;
                state.renamed_from
            })
            .collect();
        for found in records {
            let read = |value: &serde_json::Value| {
                serde_json::from_value::<CaptureState>(value.clone()).map_err(|error| {
                    let what = format!("what is known of {} cannot be read", found.source);
                    SqlError::new(SqlState::DATA_CORRUPTED, what).caused_by(error)
                })
            };
            let mut state = read(&found.state)?;
            if !(self.plan.wanted)(&state.table.name) {
                // Should it be wanted again, changes are missing.
                let is_noted = matches!(
                    state.snapshot,
                    SnapshotState::Reading { replaces: true, .. }
                );
                if !is_noted || found.next.is_some() {
                    state.snapshot = SnapshotState::Reading {
                        after: None,
                        rows: 0,
                        replaces: true,
                    };
                    self.put(&state).await?;
                }
                continue;
            }
            if renamed.contains(&state.table.name) {
                continue;
            }
            if state.renamed_from.is_some() {
                self.finish_rename(&state).await?;
                state.renamed_from = None;
                self.put(&state).await?;
            }
            let Some((definition, lake)) = target::reopen(&self.plan, state.target).await? else {
                // Whoever dropped the table wants it anew, or does not want it: the pattern tells.
                let source = &found.source;
                let captures = self.plan.engine().catalog.captures();
                captures
                    .remove(pipeline, &self.committer.lease, source)
                    .await?;
                continue;
            };
            let snapshot = lake.snapshot(None).await?;
            let mark = snapshot.transaction(&application(pipeline)).await?;
            match &found.next {
                Some((sequence, next)) if mark.is_some_and(|mark| mark >= *sequence) => {
                    state = read(next)?;
                }
                // It did not come true, and must not with a later sequence.
                Some(_) => self.put(&state).await?,
                None => {}
            }
            let anew = lost || refresh.has(&state.table.name);
            refreshed += usize::from(anew);
            if (anew || state.has_partials) && !state.dropped {
                state.has_partials = false;
                state.snapshot = SnapshotState::Reading {
                    after: None,
                    rows: 0,
                    replaces: true,
                };
                self.put(&state).await?;
            }
            if by_gtid {
                // Places of another server.
                state.listed_at = (0, 0);
                state.foreseen_at = None;
            }
            let empty = snapshot.row_count() == Some(0);
            let listed = sources.iter().find(|one| one.name == state.table.name);
            let shape = match (self.plan.shape(&state.table, &state.ignored).await, listed) {
                (Ok(shape), _) => shape,
                (Err(error), None) => return Err(error),
                // The query may be written for what the table is by now.
                (Err(error), Some(listed)) => {
                    let shape = self
                        .plan
                        .shape(listed, &state.ignored)
                        .await
                        .map_err(|_| error)?;
                    state.table = listed.clone();
                    state.listed_at = listed_at;
                    shape
                }
            };
            // Somebody has renamed or dropped columns of ours.
            let mut differs = in_files(&shape.lands, &definition) != state.in_files;
            // The pipeline was replaced by one that makes other rows of the source's.
            if shape.text != state.shape {
                differs = true;
                if !state.dropped {
                    state.snapshot = SnapshotState::Reading {
                        after: None,
                        rows: 0,
                        replaces: true,
                    };
                }
                state.shape.clone_from(&shape.text);
                self.put(&state).await?;
            }
            let name = state.table.name.clone();
            let here = self.committed.place();
            differs |= state.foreseen_at.is_some_and(|place| here < place);
            // What it stays for may be gone by now.
            differs |= !state.kept.is_empty();
            self.adopt(state, shape, definition, (lake, mark, empty));
            if differs {
                self.hint(&name, Vec::new());
            }
        }
        if matches!(refresh, Refresh::Some(_)) && refreshed == 0 {
            return Err(SqlError::new(
                SqlState::UNDEFINED_TABLE,
                "no table of the pipeline matches the patterns of FULL REFRESH TABLES",
            )
            .hint("system.pipeline_lag names the tables, as database.table"));
        }
        if sources.is_empty() && self.tables.is_empty() {
            return Err(SqlError::new(
                SqlState::UNDEFINED_TABLE,
                "no table of the source matches the patterns",
            )
            .hint("patterns are those of LIKE, over database.table; CHECK CONNECTION tells which grants are missing"));
        }
        self.check_patterns(&sources)?;
        for source in sources {
            match self.tables.get(&source.name) {
                None => {
                    let reads = self.plan.options.snapshot;
                    let name = source.name.clone();
                    // Changes of before that are read as they come.
                    let is_foreseen = !reads && !by_gtid && self.committed.place() < listed_at;
                    self.capture_as(source, reads, listed_at, is_foreseen)
                        .await?;
                    if is_foreseen {
                        self.hint(&name, Vec::new());
                    }
                }
                Some(known)
                    if (&known.source.columns, &known.source.key)
                        != (&source.columns, &source.key) =>
                {
                    let name = source.name.clone();
                    self.hint(&name, Vec::new());
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// Refuses patterns of `FOR` and `EXCEPT COLUMNS` that match nothing, before anything lands that they may have
    /// been meant for. A column that was there may be gone by now.
    fn check_patterns(&mut self, sources: &[SourceTable]) -> Result<(), SqlError> {
        let known = self.tables.values().map(|captured| &captured.state.table);
        let tables: Vec<&SourceTable> = sources.iter().chain(known).collect();
        let unmatched = self.plan.shapes.unmatched(&tables);
        if let Some(pattern) = unmatched.tables.first() {
            return Err(SqlError::new(
                SqlState::UNDEFINED_TABLE,
                format!("FOR ('{pattern}') matches no table of the pipeline"),
            )
            .hint("patterns are those of LIKE, over database.table; system.pipeline_lag names the tables"));
        }
        for pattern in unmatched.columns {
            let message =
                format!("EXCEPT COLUMNS ('{pattern}') matches no column of the pipeline's tables");
            if self.tables.is_empty() {
                return Err(SqlError::new(SqlState::UNDEFINED_COLUMN, message)
                    .hint("patterns are those of LIKE, over database.table.column"));
            }
            self.warn(message);
        }
        Ok(())
    }

    /// Begins to capture a table: with the rows it has, or from an empty beginning.
    pub async fn capture(
        &mut self,
        source: SourceTable,
        reads: bool,
        listed_at: (u64, u64),
    ) -> Result<(), SqlError> {
        self.capture_as(source, reads, listed_at, false).await
    }

    /// The same of a table whose description `is_foreseen`: of later than the changes that come next.
    async fn capture_as(
        &mut self,
        source: SourceTable,
        reads: bool,
        listed_at: (u64, u64),
        is_foreseen: bool,
    ) -> Result<(), SqlError> {
        if self.plan.one_table.is_none()
            && let Some(other) = self.tables.values().find(|other| {
                other.name().table == source.name.table
                    && other.name().database != source.name.database
            })
        {
            return Err(SqlError::new(
                SqlState::DUPLICATE_TABLE,
                format!(
                    "{} and {} would land in one table \"{}\"",
                    other.name(),
                    source.name,
                    source.name.table
                ),
            )
            .hint("leave one out with EXCEPT, make a pipeline for each database, or have all land in one table by INTO table"));
        }
        let shape = self.plan.shape(&source, &BTreeSet::new()).await?;
        let mine: Vec<ObjectId> = self.tables.values().map(|one| one.state.target).collect();
        let found = target::find_or_create(&self.plan, &source, &shape, &mine).await?;
        failpoint::hit("capture_table_made");
        let (definition, lake) = found;
        self.defined(&definition, &lake);
        let state = CaptureState {
            ignored: BTreeSet::new(),
            kept: BTreeSet::new(),
            left: BTreeSet::new(),
            shape: shape.text.clone(),
            target: definition.id,
            snapshot: match reads {
                true => SnapshotState::begin(),
                false => SnapshotState::Done { rows: 0 },
            },
            dropped: false,
            in_files: in_files(&shape.lands, &definition),
            listed_at: match is_foreseen {
                true => self.committed.place(),
                false => listed_at,
            },
            foreseen_at: is_foreseen.then_some(listed_at),
            renamed_from: None,
            has_partials: false,
            table: source,
        };
        self.put(&state).await?;
        let pipeline = self.committer.pipeline;
        let snapshot = lake.snapshot(None).await?;
        let mark = snapshot.transaction(&application(pipeline)).await?;
        self.adopt(state, shape, definition, (lake, mark, true));
        Ok(())
    }

    fn adopt(
        &mut self,
        state: CaptureState,
        shape: Arc<Shape>,
        definition: TableDefinition,
        (lake, mark, empty): (Arc<LakeTable>, Option<i64>, bool),
    ) {
        let source = Arc::new(state.table.clone());
        let name = source.name.clone();
        if let Some(keys) = Keys::of(&source) {
            self.keys.insert(name.clone(), Arc::new(keys));
        }
        if !state.dropped {
            self.stream.capture(Arc::clone(&source));
        }
        if let Some(place) = state.foreseen_at {
            self.stream.foresee(name.clone(), place);
        }
        let fresh = matches!(state.snapshot, SnapshotState::Reading { after: None, .. });
        let replaces = matches!(
            state.snapshot,
            SnapshotState::Reading { replaces: true, .. }
        );
        if replaces && shape.deletes != Deletes::History {
            // What was before the table was described as it is has another form, and is read with the rest.
            self.stream.pass_over(name.clone(), state.listed_at);
        }
        self.tables.insert(
            name,
            Captured {
                state,
                source,
                shape,
                definition,
                lake,
                mark,
                touched: HashSet::new(),
                touched_is_whole: fresh && empty,
                hints: None,
                changes: 0,
                is_healing: false,
                reloads_again: false,
                lacks_defaults: false,
                partials: AskedKeys::new(),
                uncertain: AskedKeys::new(),
                staged: Vec::new(),
                staged_rows: 0,
                staged_after: None,
            },
        );
    }

    /// A table of the source as it is now, if it is there, and a place that the answer is not older than.
    pub async fn look_up(
        &self,
        name: &TableName,
    ) -> Result<(Option<SourceTable>, (u64, u64)), SqlError> {
        let server = &self.plan.server;
        let place = server.source_state().await?.position.place();
        let found = server.source_tables(|one| one == name).await?;
        Ok((found.into_iter().next(), place))
    }

    /// Puts a state on record that is true now.
    pub async fn put(&self, state: &CaptureState) -> Result<(), SqlError> {
        let captures = self.plan.engine().catalog.captures();
        let record = record(state, None)?;
        let lease = &self.committer.lease;
        Ok(captures
            .put(self.committer.pipeline, lease, &[record])
            .await?)
    }

    /// Gives our table the name that its source has by now, and forgets the record under the old one.
    pub async fn finish_rename(&mut self, state: &CaptureState) -> Result<(), SqlError> {
        let Some(from) = &state.renamed_from else {
            return Ok(());
        };
        if let Some((definition, _)) = target::reopen(&self.plan, state.target).await?
            && definition.name != state.table.name.table
        {
            let schema = target::schema_name(&self.plan, &definition);
            let statement = format!(
                "ALTER TABLE {} RENAME TO {}",
                sql::qualified(&schema, &definition.name),
                quote_identifier(&state.table.name.table)
            );
            sql::run(&self.plan, &[statement]).await?;
        }
        let captures = self.plan.engine().catalog.captures();
        let lease = &self.committer.lease;
        captures
            .remove(self.committer.pipeline, lease, &from.to_string())
            .await?;
        Ok(())
    }

    /// Changes what is known of a table, on record too.
    pub async fn change_state(
        &mut self,
        name: &TableName,
        change: impl FnOnce(&mut CaptureState),
    ) -> Result<(), SqlError> {
        let Some(captured) = self.tables.get_mut(name) else {
            return Ok(());
        };
        change(&mut captured.state);
        let has_same_key = is_same_key(&captured.state.table, &captured.source);
        if captured.state.table != *captured.source {
            captured.source = Arc::new(captured.state.table.clone());
            let ignored = &captured.state.ignored;
            captured.shape = self.plan.shape(&captured.source, ignored).await?;
            captured.state.shape.clone_from(&captured.shape.text);
        }
        // Keys that were noted are numbers of these alone.
        if !has_same_key || !self.keys.contains_key(name) {
            match Keys::of(&captured.source) {
                Some(keys) => self.keys.insert(name.clone(), Arc::new(keys)),
                None => self.keys.remove(name),
            };
        }
        let state = captured.state.clone();
        match state.dropped {
            true => self.stream.forget(name),
            false => self.stream.capture(Arc::clone(&captured.source)),
        }
        self.put(&state).await
    }

    /// Remembers what a statement said of a table's columns.
    pub fn hint(
        &mut self,
        name: &TableName,
        changes: Vec<boathouse_connectors::mysql::ColumnChange>,
    ) {
        if let Some(captured) = self.tables.get_mut(name) {
            captured.hints.get_or_insert_default().push(changes);
            self.stream.trust_defaults(name, false);
        }
        self.proposal = None;
        self.discard_chunk(name);
    }

    /// Throws away what is being read of a table: the table is another by now.
    pub fn discard_chunk(&mut self, name: &TableName) {
        self.readings.discard(name);
    }

    /// A batch that was left is read again under its own sequence, even if no table is seen to have it: whoever
    /// left it may still be at it.
    async fn settle_redo(&mut self) -> Result<(), SqlError> {
        let Some(redo) = &self.redo else {
            return Ok(());
        };
        if redo.position.place() == self.committed.place() {
            // It was a chunk: nothing lies between the two positions.
            self.committer.settle(redo.sequence).await?;
            self.sequence = redo.sequence;
            self.redo = None;
        }
        Ok(())
    }

    /// Whether a table has what is being read again.
    pub fn is_ahead(&self, name: &TableName) -> bool {
        let (Some(redo), Some(captured)) = (&self.redo, self.tables.get(name)) else {
            return false;
        };
        captured.mark.is_some_and(|mark| mark >= redo.sequence)
    }

    /// Reads and commits until the end.
    pub async fn work(
        &mut self,
        open: &mut OpenRun,
        pipeline: &PipelineDefinition,
        until: Option<SourceState>,
        status: &Running,
    ) -> Result<(), SqlError> {
        let engine = Arc::clone(self.plan.engine());
        let mut looked = Instant::now();
        let mut ending = false;
        let mut asked_again = 0;
        let mut rounds_max = ASKED_AGAIN_MAX;
        loop {
            if looked.elapsed() >= LOOK_EVERY {
                looked = Instant::now();
                open.require_lease()?;
                self.report(open).await?;
                status.tell(self.status());
                let is_as_told = is_current(&engine, pipeline) && self.plan.is_connected_as_told();
                ending |= until.is_none() && !is_as_told;
            }
            ending |= until.is_none() && status.is_to_stop();
            if self.stands_between() {
                self.between().await?;
                let reached = until.as_ref().is_some_and(|until| {
                    let here = self.stream.position();
                    let until = &until.position;
                    // Not all that is in a binlog has a GTID: where places can be compared, they tell.
                    match here.server == until.server && !here.file.is_empty() {
                        true => here.place() >= until.place(),
                        false => !until.gtids.is_none() && here.gtids.covers(&until.gtids),
                    }
                });
                if (ending || (reached && self.is_settled())) && self.redo.is_none() {
                    self.flush().await?;
                    self.wait_committed().await?;
                    // What was held may have told too little of some rows.
                    if asked_again == 0 {
                        // One round asks some rows of one table.
                        rounds_max = ASKED_AGAIN_MAX + self.uncertain_rounds();
                    }
                    if self.is_uncertain() && asked_again < rounds_max {
                        asked_again += 1;
                        self.ask_uncertain().await?;
                        continue;
                    }
                    self.pin().await?;
                    return self.report(open).await;
                }
            }
            let wake = self.next_wake(looked);
            tokio::select! {
                biased;
                done = joined(&mut self.committing) => {
                    self.committing = None;
                    self.committed(done?).await?;
                }
                read = self.readings.next() => {
                    if let Some((table, error)) = read? {
                        self.unread(&table, error).await?;
                    }
                }
                step = self.stream.next() => self.step(step?).await?,
                () = tokio::time::sleep_until(wake.into()) => {}
            }
        }
    }

    /// How far everything is, for people.
    fn status(&self) -> CaptureStatus {
        let here = self.stream.position();
        let behind = self.source.as_ref().map(|source| {
            let there = source.position.place();
            let sizes = source
                .files
                .iter()
                .map(|(file, size)| (file_number(file), *size));
            let between: u64 = sizes
                .filter(|(number, _)| (here.place().0..there.0).contains(number))
                .map(|(_, size)| size)
                .sum();
            (between + there.1).saturating_sub(here.place().1)
        });
        let caught_up = behind == Some(0) && !self.holds_changes();
        let seconds = match here.committed_at {
            _ if caught_up && self.committing.is_none() => Some(0.0),
            0 => None,
            // The source's clock may be ahead.
            at => Some(((chrono::Utc::now().timestamp_micros() - at) as f64 / 1e6).max(0.0)),
        };
        CaptureStatus {
            position: here.to_string(),
            committed_at: self.committed.committed_at,
            seconds_behind: seconds,
            bytes_behind: behind,
            tables: self.tables.values().map(table_status).collect(),
            partitions: Vec::new(),
        }
    }

    /// Whether no transaction is half read.
    fn stands_between(&self) -> bool {
        !self.stream.is_within_transaction()
    }

    /// Whether every table has the rows it began with, and the columns the source has.
    fn is_settled(&self) -> bool {
        self.readings.is_empty()
            && self.tables.values().all(|captured| {
                captured.state.dropped
                    || (captured.state.snapshot.is_done() && captured.hints.is_none())
            })
    }

    /// Whether the binlog has told too little of some rows, which are to be read anew.
    /// In how many rounds all rows can be asked that are uncertain now.
    fn uncertain_rounds(&self) -> usize {
        let tables = self.tables.values();
        tables
            .map(|captured| captured.uncertain.len().div_ceil(verify::ASKED_AGAIN))
            .sum()
    }

    fn is_uncertain(&self) -> bool {
        self.tables.values().any(|captured| {
            !captured.uncertain.is_empty()
                && captured.state.snapshot.is_done()
                && !captured.state.dropped
        })
    }

    fn next_wake(&self, looked: Instant) -> Instant {
        // Whoever wants the run to stop is not kept waiting.
        let look = looked.max(Instant::now() - LOOK_EVERY / 2) + LOOK_EVERY / 2;
        // Only when something can be done about it.
        let can_flush = self.committing.is_none() && self.redo.is_none() && self.stands_between();
        match self.held_since.filter(|_| can_flush) {
            Some(since) => look.min(since + self.plan.options.target_lag),
            None => look,
        }
    }

    /// What is to be done between two transactions.
    async fn between(&mut self) -> Result<(), SqlError> {
        if self.redo.is_some() {
            return self.finish_redo().await;
        }
        let unproved = std::mem::take(&mut self.unproved);
        if !unproved.is_empty() {
            schema::unproved(self, unproved).await?;
        }
        let options = &self.plan.options;
        let rows = self.stream.rows_held();
        let late = self
            .held_since
            .is_some_and(|since| since.elapsed() >= options.target_lag);
        let full = !self.spills.is_empty()
            || rows >= options.batch_rows
            || self.stream.bytes_held() >= options.batch_bytes;
        // A batch that is only due waits for the one before without keeping the reading from going on.
        if full || (late && self.holds_changes() && self.committing.is_none()) {
            self.flush().await?;
        }
        let here = self.stream.position().place();
        while let Some((table, chunk)) = self.readings.take_reached(here) {
            self.commit_chunk(table, chunk).await?;
        }
        while self.readings.len() < self.plan.options.snapshot_readers && self.begin_chunk().await?
        {
        }
        if let Some(milestone) = &self.milestone
            && self.stream.position().place() >= milestone.position.place()
        {
            let gtids = milestone.position.gtids.clone();
            self.stream.add_gtids(&gtids);
            self.milestone = None;
        }
        if self.asked.elapsed() >= ASK_EVERY {
            self.asked = Instant::now();
            let source = self.plan.server.source_state().await?;
            if source.position.server != self.stream.position().server {
                return Err(SqlError::new(
                    SqlState::CONNECTION_FAILURE,
                    "the source's address leads to another server than a moment before",
                )
                .retryable());
            }
            self.milestone.get_or_insert_with(|| source.clone());
            self.source = Some(source);
        }
        schema::align(self).await?;
        self.ask_uncertain().await?;
        if self.pinned.elapsed() >= PIN_EVERY && !self.holds_changes() {
            self.wait_committed().await?;
            self.pin().await?;
        }
        Ok(())
    }

    async fn step(&mut self, step: Step) -> Result<(), SqlError> {
        match step {
            Step::Rows { table, rows } => {
                self.rows_in += i64::try_from(rows).unwrap_or_default();
                self.held_since.get_or_insert_with(Instant::now);
                if let Some(captured) = self.tables.get_mut(&table) {
                    captured.changes += rows as u64;
                }
                // A batch would have ended before, had its transaction.
                let bytes_max = self.plan.options.batch_bytes;
                match self.stream.bytes_held() >= bytes_max + bytes_max / 2 {
                    true => self.spill().await,
                    false => Ok(()),
                }
            }
            Step::Differs {
                table,
                columns,
                key,
            } => schema::differs(self, table, columns, key).await,
            Step::Schema(changes) => {
                if self.redo.is_none() {
                    self.flush().await?;
                    self.wait_committed().await?;
                }
                schema::change(self, changes).await?;
                // What follows is counted from behind the statement, once it is counted in.
                self.pins_next = true;
                Ok(())
            }
            Step::Unproved(tables) => {
                self.unproved.extend(tables);
                Ok(())
            }
            Step::Committed => {
                if std::mem::take(&mut self.pins_next) {
                    self.pinned = Instant::now() - PIN_EVERY;
                }
                Ok(())
            }
            Step::Idle => Ok(()),
        }
    }

    /// Commits what is held, in the background; waits for the batch before.
    pub async fn flush(&mut self) -> Result<(), SqlError> {
        if !self.holds_changes() {
            return Ok(());
        }
        self.wait_committed().await?;
        let tables = self.take().await?;
        let position = self.stream.position().clone();
        let committer = self.committer.clone();
        let sequence = self.sequence;
        self.held_since = None;
        self.committing = Some(tokio::spawn(
            committer.commit(tables, position, sequence, None),
        ));
        Ok(())
    }

    /// Takes the changes that are held, on disk or not.
    async fn take(&mut self) -> Result<Vec<TableChanges>, SqlError> {
        let held = self.take_held()?;
        self.note_uncertain().await?;
        self.ask_defaults();
        let mut changed: BTreeMap<TableName, Vec<ChangedRows>> = held.into_iter().collect();
        let mut spilled = BTreeMap::new();
        for (name, spill) in std::mem::take(&mut self.spills) {
            let rest = changed.remove(&name).unwrap_or_default();
            let spill = add_to(spill, rest).await?;
            spilled.insert(name.clone(), spill.finish()?);
            changed.insert(name, Vec::new());
        }
        // Tables that land in one are one commit.
        let mut tables = BTreeMap::new();
        for (name, changes) in changed {
            if self.is_ahead(&name) {
                continue;
            }
            let Some(captured) = self.tables.get(&name) else {
                continue;
            };
            let spilled = spilled.remove(&name).unwrap_or_default();
            let target = captured.state.target;
            let table: &mut TableChanges = tables.entry(target).or_insert_with(|| TableChanges {
                names: Vec::new(),
                lake: Arc::clone(&captured.lake),
                key: captured.shape.lands.key.clone(),
                mark: captured.mark,
                changes: Vec::new(),
                spilled: Vec::new(),
            });
            table.changes.extend(changes);
            table.spilled.extend(spilled);
            table.names.push(name);
        }
        Ok(tables.into_values().collect())
    }

    /// Takes the changes that are in memory, and notes the keys of tables that are still being read.
    fn take_held(&mut self) -> Result<Vec<(TableName, Vec<ChangedRows>)>, SqlError> {
        let mut taken = self.stream.take()?;
        for (name, changes) in &mut taken {
            let Some(captured) = self.tables.get_mut(name) else {
                continue;
            };
            if captured.state.snapshot.is_done() {
                uncertain_keys(&captured.source, changes, &mut captured.uncertain);
                asked_keys(captured, changes);
            }
            if (captured.is_healing || !captured.state.snapshot.is_done())
                && let Some(keys) = self.keys.get(name)
            {
                keys.touch(&mut captured.touched, changes)?;
                partial_keys(&captured.source, changes, &mut captured.partials);
                uncertain_keys(&captured.source, changes, &mut captured.partials);
                if captured.partials.len() > PARTIALS_MAX {
                    captured.partials.clear();
                    captured.reloads_again = true;
                }
                if captured.touched.len() > TOUCHED_MAX && !captured.reloads() {
                    captured.touched_is_whole = false;
                }
            }
            for part in std::mem::take(changes) {
                changes.push(captured.changed(part)?);
            }
        }
        Ok(taken)
    }

    /// Puts on record of which tables rows are to be read anew, before anything of these rows is committed.
    async fn note_uncertain(&mut self) -> Result<(), SqlError> {
        let noted = |captured: &&mut Captured| {
            // Those met while rows are read may be of rows that were read already.
            let has_some = !captured.uncertain.is_empty() || !captured.partials.is_empty();
            (has_some || captured.reloads_again) && !captured.state.has_partials
        };
        let mut states = Vec::new();
        for captured in self.tables.values_mut().filter(noted) {
            captured.state.has_partials = true;
            states.push(captured.state.clone());
        }
        for state in states {
            self.put(&state).await?;
        }
        Ok(())
    }

    /// Has tables described anew of which rows have come that do not name all columns.
    fn ask_defaults(&mut self) {
        let lacking: Vec<TableName> = self
            .tables
            .iter()
            .filter(|(_, captured)| {
                captured.lacks_defaults
                    && captured.hints.is_none()
                    && !captured.uncertain.is_empty()
            })
            .map(|(name, _)| name.clone())
            .collect();
        for name in lacking {
            self.hint(&name, Vec::new());
        }
    }

    /// Reads rows anew, of which the binlog told too little.
    async fn ask_uncertain(&mut self) -> Result<(), SqlError> {
        let uncertain = self.tables.iter().find(|(_, captured)| {
            !captured.uncertain.is_empty()
                && captured.state.snapshot.is_done()
                && captured.hints.is_none()
                && !captured.state.dropped
        });
        let Some((name, captured)) = uncertain else {
            return Ok(());
        };
        let (name, source) = (name.clone(), Arc::clone(&captured.source));
        if captured.uncertain.len() > UNCERTAIN_MAX {
            let name = BTreeSet::from([name]);
            return schema::unproved(self, name).await;
        }
        verify::ask_again(self, &name, &source).await?;
        let is_certain = |captured: &Captured| captured.uncertain.is_empty();
        match self.tables.get(&name).is_some_and(is_certain) {
            true => {
                self.change_state(&name, |state| state.has_partials = false)
                    .await
            }
            false => Ok(()),
        }
    }

    /// Moves what is held to disk: a transaction may be larger than memory.
    async fn spill(&mut self) -> Result<(), SqlError> {
        let scratch = self.plan.engine().config.scratch.clone();
        for (name, changes) in self.take_held()? {
            let spill = match self.spills.remove(&name) {
                Some(spill) => spill,
                None => {
                    let Some(captured) = self.tables.get(&name) else {
                        continue;
                    };
                    let columns = &captured.shape.columns;
                    let key = &captured.shape.lands.key;
                    let key = match key.is_empty() {
                        true => columns.iter().map(|column| column.name.clone()).collect(),
                        false => key.clone(),
                    };
                    ChangeSpill::new(&scratch, key, columns.len())?
                }
            };
            self.spills.insert(name, add_to(spill, changes).await?);
        }
        Ok(())
    }

    /// Whether changes are held that are of no commit yet.
    fn holds_changes(&self) -> bool {
        self.stream.rows_held() > 0 || !self.spills.is_empty()
    }

    /// Waits until no commit is under way.
    pub async fn wait_committed(&mut self) -> Result<(), SqlError> {
        if self.committing.is_none() {
            return Ok(());
        }
        let done = joined(&mut self.committing).await;
        self.committing = None;
        self.committed(done?).await
    }

    async fn committed(&mut self, done: Result<Batched, SqlError>) -> Result<(), SqlError> {
        let batched = done?;
        self.sequence = batched.sequence;
        self.committed = batched.position;
        self.pinned = Instant::now();
        self.rows_out += i64::try_from(batched.rows_written).unwrap_or_default();
        for name in &batched.tables {
            self.marked(name, batched.sequence);
        }
        for (name, rows) in &batched.incomplete {
            self.warn(format!(
                "{rows} changed rows of {name} named some of their columns only, and were not there: the others are NULL"
            ));
        }
        self.forget_positions().await
    }

    /// Notes what a table is by now that others may land in, too.
    pub fn defined(&mut self, definition: &TableDefinition, lake: &Arc<LakeTable>) {
        for captured in self.tables.values_mut() {
            if captured.state.target == definition.id {
                captured.definition.clone_from(definition);
                captured.lake = Arc::clone(lake);
            }
        }
    }

    /// Notes that what a table lands in has a sequence.
    pub fn marked(&mut self, name: &TableName, sequence: i64) {
        let Some(target) = self.tables.get(name).map(|captured| captured.state.target) else {
            return;
        };
        for captured in self.tables.values_mut() {
            if captured.state.target == target {
                captured.mark = Some(sequence);
            }
        }
    }

    pub fn warn(&mut self, message: String) {
        self.messages.push(RunMessage {
            severity: Severity::Warning,
            sqlstate: SqlState::WARNING.0.to_owned(),
            message,
            file: None,
            sheet: None,
            row: None,
            column: None,
            hint: None,
        });
    }

    /// Puts the position on record where no table has changed on the way to it.
    async fn pin(&mut self) -> Result<(), SqlError> {
        self.pinned = Instant::now();
        let position = self.stream.position().clone();
        if position == self.committed || self.redo.is_some() {
            return Ok(());
        }
        self.sequence = self.committer.pin(&position, self.sequence).await?;
        self.committed = position;
        self.forget_positions().await
    }

    /// Keeps the records of positions from growing without end.
    async fn forget_positions(&self) -> Result<(), SqlError> {
        if self.sequence % 100 != 0 {
            return Ok(());
        }
        let positions = self.plan.engine().catalog.positions();
        let below = self.sequence - POSITIONS_KEPT;
        Ok(positions
            .forget_below(self.committer.pipeline, below)
            .await?)
    }

    /// Commits the batch that was left, for the tables that do not have it, once it has been read again.
    async fn finish_redo(&mut self) -> Result<(), SqlError> {
        let Some(redo) = &self.redo else {
            return Ok(());
        };
        let here = self.stream.position();
        let same = here.server == redo.position.server;
        let reached = match same {
            true => here.place() >= redo.position.place(),
            false => here.gtids == redo.position.gtids,
        };
        if !reached {
            return Ok(());
        }
        let tables = self.take().await?;
        let Some(redo) = self.redo.take() else {
            return Ok(());
        };
        self.held_since = None;
        let committer = self.committer.clone();
        let done = committer
            .commit(tables, redo.position, self.sequence, Some(redo.sequence))
            .await;
        self.committed(done).await
    }

    /// Begins to read the next rows of a table that has not all it began with. Whether there is such a table.
    async fn begin_chunk(&mut self) -> Result<bool, SqlError> {
        let unread = self.tables.iter().filter(|(_, captured)| {
            !captured.state.dropped
                && captured.hints.is_none()
                && !captured.state.snapshot.is_done()
        });
        let unread: Vec<&TableName> = unread.map(|(name, _)| name).collect();
        if unread.is_empty() {
            self.readings.rest();
            return Ok(false);
        }
        let next = unread.iter().find(|name| !self.readings.has(name));
        // Readers that no other table needs read on in one that is being read.
        let ahead = unread.iter().filter_map(|name| {
            let (chunks, until) = self.readings.goes_on(name)?;
            let captured = self.tables.get(*name)?;
            let is_bounded = captured.reloads() || captured.touched.len() < TOUCHED_MAX;
            is_bounded.then_some((chunks, until, *name))
        });
        let has_readers_left = unread.len() < self.plan.options.snapshot_readers;
        let (name, ahead) = match next {
            Some(name) => ((*name).clone(), None),
            None => match ahead.min() {
                Some((_, until, name)) => (name.clone(), Some(until.clone())),
                None => return Ok(false),
            },
        };
        let chunk_rows_max = self.plan.options.chunk_rows as u64;
        let is_whole = self.tables.get(&name).is_some_and(|captured| {
            let source = &captured.source;
            // What cannot be cut is held in memory only while it is small. What a whole table replaces would go
            // with its marks.
            let is_large = source.rows_estimate > chunk_rows_max
                && !source.has_chunks()
                && captured.shape.deletes != Deletes::Soft;
            source.key.is_empty() || is_large
        });
        if is_whole || !self.keys.contains_key(&name) {
            self.read_whole(&name).await?;
            return Ok(false);
        }
        // What is held was read before the chunk is begun, so that the chunk has it.
        self.flush().await?;
        let seen = self.stream.position().clone();
        let options = &self.plan.options;
        let Some(captured) = self.tables.get_mut(&name) else {
            return Ok(false);
        };
        let SnapshotState::Reading { after, .. } = &captured.state.snapshot else {
            return Ok(false);
        };
        let after = match ahead {
            Some(until) => Some(until),
            None if captured.reloads() => captured.staged_after.clone(),
            None => after.clone(),
        };
        if !captured.touched_is_whole && !captured.reloads() && !self.readings.has(&name) {
            captured.touched.clear();
        }
        let source = &captured.source;
        let bounds = has_readers_left && source.has_chunks();
        let request = ChunkRequest {
            table: Arc::clone(source),
            after,
            until: None,
            keys: None,
            between: None,
            rows: chunk_rows(source, options.chunk_rows),
            seen,
            policies: options.policies,
        };
        let server = Arc::clone(&self.plan.server);
        self.readings.begin(server, request, bounds);
        Ok(true)
    }

    /// A table could not be read. Where it has changed before its change was met in the binlog, it is read again
    /// once that is so.
    async fn unread(&mut self, name: &TableName, error: ConnectorError) -> Result<(), SqlError> {
        // A table that may not be read cannot be seen either, and is there all the same.
        if error.retryable || error.sqlstate == SqlState::INSUFFICIENT_PRIVILEGE.0 {
            return Err(error.into());
        }
        let (found, _) = self.look_up(name).await?;
        let is_same = |captured: &Captured| {
            found
                .as_ref()
                .is_some_and(|found| found.columns == captured.source.columns)
        };
        if self.tables.get(name).is_some_and(is_same) && !is_about_columns(&error) {
            return Err(error.into());
        }
        tracing::info!(table = %name, %error, "a table is another than it was");
        self.hint(name, Vec::new());
        Ok(())
    }

    /// Commits a chunk, now that the changes have been read up to it.
    async fn commit_chunk(&mut self, table: TableName, chunk: Chunk) -> Result<(), SqlError> {
        self.flush().await?;
        self.wait_committed().await?;
        let Some(captured) = self.tables.get_mut(&table) else {
            return Ok(());
        };
        let SnapshotState::Reading { rows, .. } = captured.state.snapshot else {
            return Ok(());
        };
        self.rows_in += i64::try_from(chunk.rows).unwrap_or_default();
        let total = rows + chunk.rows;
        let mut next = captured.state.clone();
        next.has_partials = !captured.partials.is_empty() || captured.reloads_again;
        next.snapshot = match &chunk.next {
            Some(after) => SnapshotState::Reading {
                after: Some(after.clone()),
                rows: total,
                replaces: false,
            },
            None => SnapshotState::Done { rows: total },
        };
        let keys = self.keys.get(&table).map(Arc::as_ref);
        let (sequence, written) = if captured.reloads() {
            let staged = super::chunks::stage(captured, chunk.batches).await?;
            captured.staged_rows += staged;
            captured.staged_after.clone_from(&chunk.next);
            if chunk.next.is_some() {
                return Ok(());
            }
            let Some(keys) = keys else {
                return Ok(());
            };
            next.snapshot = SnapshotState::Done {
                rows: captured.staged_rows,
            };
            let rows = captured.staged_rows;
            let place = (&self.committed, self.sequence);
            let state = next.clone();
            let replaced =
                super::chunks::replace(&self.committer, captured, keys, state, place).await?;
            (replaced, rows)
        } else {
            let commit = ChunkCommit {
                batches: chunk.batches,
                next: next.clone(),
            };
            let place = (&self.committed, self.sequence);
            commit_chunk(&self.committer, captured, keys, commit, place).await?
        };
        self.sequence = sequence;
        self.rows_out += i64::try_from(written).unwrap_or_default();
        captured.state = next;
        self.marked(&table, sequence);
        let Some(captured) = self.tables.get_mut(&table) else {
            return Ok(());
        };
        if captured.state.snapshot.is_done() {
            captured.forget_reading();
            if std::mem::take(&mut captured.reloads_again) {
                return schema::reload(self, &table).await;
            }
            let partials = std::mem::take(&mut captured.partials);
            if !partials.is_empty() {
                verify::mend_all(self, &table, partials).await?;
                return self
                    .change_state(&table, |state| state.has_partials = false)
                    .await;
            }
        }
        Ok(())
    }

    /// Reads a table without a key: whole, at one place, while nothing else goes on.
    async fn read_whole(&mut self, name: &TableName) -> Result<(), SqlError> {
        self.flush().await?;
        self.wait_committed().await?;
        let Some(captured) = self.tables.get(name) else {
            return Ok(());
        };
        let request = ChunkRequest {
            table: Arc::clone(&captured.source),
            after: None,
            until: None,
            keys: None,
            between: None,
            rows: 0,
            seen: self.stream.position().clone(),
            policies: self.plan.options.policies,
        };
        let (sender, mut receiver) = mpsc::channel(4);
        let exact = match self.plan.server.read_whole(request, sender).await {
            Ok(exact) => exact,
            Err(error) => return self.unread(name, error).await,
        };
        // Up to that place the table's changes are in the snapshot already.
        self.stream.ignore(Some(name.clone()));
        let read = self.read_up_to(exact.place).await;
        self.stream.ignore(None);
        let whole = read?;
        let differs = !exact.gtids.is_none() && self.stream.position().gtids != exact.gtids;
        if !whole || differs {
            tracing::info!(table = %name, ?exact, here = %self.stream.position(), "a table is read another time");
            // Another time: a schema change lies between, or the server had more than it showed.
            return Ok(());
        }
        let Some(captured) = self.tables.get(name) else {
            return Ok(());
        };
        let mut writer = super::chunks::whole_writer(captured).await?;
        while let Some(batch) = receiver.recv().await {
            match batch {
                Ok(batch) => writer.write(&captured.read(batch)?).await?,
                Err(error) => return self.unread(name, error).await,
            }
        }
        let mut next = captured.state.clone();
        next.snapshot = SnapshotState::Done {
            rows: writer.rows(),
        };
        let position = self.stream.position().clone();
        let place = (&position, self.sequence);
        let rows = writer.rows();
        let sequence = writer
            .replace(&self.committer, captured, next.clone(), place)
            .await?;
        self.sequence = sequence;
        self.committed = position;
        self.rows_in += i64::try_from(rows).unwrap_or_default();
        self.rows_out += i64::try_from(rows).unwrap_or_default();
        self.marked(name, sequence);
        if let Some(captured) = self.tables.get_mut(name) {
            captured.state = next;
            captured.forget_reading();
        }
        Ok(())
    }

    /// Reads on to a place and commits what was met. Tells whether that could be done: a schema change on the
    /// way stops it.
    pub async fn read_up_to(&mut self, place: (u64, u64)) -> Result<bool, SqlError> {
        while self.stream.position().place() < place || self.stream.is_within_transaction() {
            let step = self.stream.next().await?;
            let schema = matches!(step, Step::Schema(_));
            self.step(step).await?;
            if schema {
                return Ok(false);
            }
        }
        self.flush().await?;
        self.wait_committed().await?;
        Ok(true)
    }

    /// Puts the run's progress and its messages on record.
    async fn report(&mut self, open: &mut OpenRun) -> Result<(), SqlError> {
        tracing::debug!(
            position = %self.stream.position(),
            within = self.stream.is_within_transaction(),
            rows_held = self.stream.rows_held(),
            committing = self.committing.is_some(),
            reading = ?self.readings.tables().collect::<Vec<_>>(),
            "capture goes on"
        );
        let done = |captured: &&Captured| captured.state.snapshot.is_done();
        let count = |number: usize| i64::try_from(number).unwrap_or_default();
        open.counters.files_total = count(self.tables.len());
        open.counters.files_done = count(self.tables.values().filter(done).count());
        open.counters.rows_in = self.rows_in;
        open.counters.rows_out = self.rows_out;
        open.counters.bytes_in = i64::try_from(self.stream.bytes_read()).unwrap_or_default();
        open.add_messages(std::mem::take(&mut self.messages))
            .await?;
        let runs = self.plan.engine().catalog.runs();
        Ok(runs.progress(open.run, open.counters).await?)
    }

    /// Leaves nothing running. A commit that has begun is let end.
    pub async fn stop(&mut self) {
        self.readings.stop();
        if let Some(committing) = self.committing.take() {
            let _ = committing.await;
        }
    }
}

/// The outcome of a task, if there is one to wait for.
async fn joined<T>(task: &mut Option<JoinHandle<T>>) -> Result<T, SqlError> {
    match task {
        Some(task) => task
            .await
            .map_err(|error| SqlError::internal("a task of the capture stopped").caused_by(error)),
        None => std::future::pending().await,
    }
}

/// Adds changes to those on disk.
async fn add_to(
    mut spill: ChangeSpill,
    changes: Vec<ChangedRows>,
) -> Result<ChangeSpill, SqlError> {
    let added = tokio::task::spawn_blocking(move || {
        for part in changes {
            spill.add(&change_batch(part))?;
        }
        Ok::<_, LakeError>(spill)
    });
    let added = added.await.map_err(|error| {
        SqlError::internal("changes could not be kept on disk").caused_by(error)
    })?;
    Ok(added?)
}

/// Adds the keys of changed rows of which some columns only are told.
fn partial_keys(source: &SourceTable, changes: &[ChangedRows], keys: &mut AskedKeys) {
    for part in changes {
        if part.rows.num_columns() < source.columns.len() {
            keys.extend(keys_of(source, part, 0..part.rows.num_rows()));
        }
    }
}

/// Adds the keys of changed rows whose other columns may have changed as well.
fn uncertain_keys(source: &SourceTable, changes: &[ChangedRows], keys: &mut AskedKeys) {
    for part in changes {
        // With so many the whole table is read anew.
        if keys.len() > PARTIALS_MAX {
            return;
        }
        keys.extend(keys_of(source, part, part.uncertain.iter().copied()));
    }
}

/// Adds the keys of changed rows that do not tell all that a query reads.
fn asked_keys(captured: &mut Captured, changes: &[ChangedRows]) {
    for part in changes {
        // With more the whole table is read anew.
        if captured.uncertain.len() > UNCERTAIN_MAX {
            return;
        }
        if captured.shape.is_to_be_asked(&part.rows) {
            let rows = part.changes.iter().enumerate();
            let rows = rows.filter(|(_, change)| **change == RowChange::Upsert);
            let keys = keys_of(&captured.source, part, rows.map(|(row, _)| row));
            captured.uncertain.extend(keys);
        }
    }
}

fn keys_of(
    source: &SourceTable,
    part: &ChangedRows,
    rows: impl Iterator<Item = usize>,
) -> AskedKeys {
    let columns: Option<Vec<ArrayRef>> = source
        .key
        .iter()
        .map(|name| part.rows.column_by_name(name).cloned())
        .collect();
    let Some(columns) = columns else {
        return AskedKeys::new();
    };
    let keys = rows.filter_map(|row| {
        let literals = key_literals(source, &columns, row)?;
        let values = columns.iter().map(|column| column.slice(row, 1));
        Some((literals, values.collect()))
    });
    keys.collect()
}

/// Whether rows of two descriptions of a table are told apart by the same values.
fn is_same_key(one: &SourceTable, other: &SourceTable) -> bool {
    let types = |table: &SourceTable| -> Vec<_> {
        let columns = table.key.iter().map(|name| table.column(name));
        columns
            .map(|column| column.map(|column| column.source_type.clone()))
            .collect()
    };
    one.key == other.key && types(one) == types(other)
}

fn table_status(captured: &Captured) -> TableStatus {
    let (state, rows) = match &captured.state.snapshot {
        _ if captured.state.dropped => ("dropped", 0),
        SnapshotState::Reading { replaces: true, .. } => ("stale", captured.staged_rows),
        SnapshotState::Reading { rows, .. } => ("snapshot", *rows),
        SnapshotState::Done { rows } => ("streaming", *rows),
    };
    TableStatus {
        source: captured.name().to_string(),
        target: captured.definition.id,
        state,
        snapshot_rows: rows,
        snapshot_rows_estimate: captured.source.rows_estimate,
        changes: captured.changes,
    }
}

/// The source cannot give the changes that a pipeline was told to begin with.
fn cannot_start(reason: String) -> SqlError {
    SqlError::new(
        SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
        format!("the pipeline cannot start as it was told to: {reason}"),
    )
    .hint("name another start, or begin with the tables as they are now: snapshot = 'initial'")
}

/// A server that is only behind what was read of it a moment ago is given time: it sends changes before it
/// counts them as done, and a replica may lag.
async fn caught_up(
    plan: &CapturePlan,
    mut now: SourceState,
    from: &Position,
) -> Result<SourceState, SqlError> {
    let begun = Instant::now();
    while begun.elapsed() < CATCHES_UP_WITHIN
        && !from.gtids.is_none()
        && !now.position.gtids.is_none()
        && !now.position.gtids.covers(&from.gtids)
    {
        tokio::time::sleep(Duration::from_millis(500)).await;
        now = plan.server.source_state().await?;
    }
    Ok(now)
}

/// Rows of a chunk: fewer where rows are long, so that a chunk has some tens of megabytes.
pub(super) fn chunk_rows(source: &SourceTable, rows_max: usize) -> usize {
    const CHUNK_BYTES: u64 = 32 << 20;
    // Nothing is known of how long the rows of a new table are.
    if source.rows_estimate == 0 {
        return rows_max.min(10_000);
    }
    let row_bytes = source
        .bytes_estimate
        .checked_div(source.rows_estimate)
        .unwrap_or_default()
        .max(32);
    let rows = usize::try_from(CHUNK_BYTES / row_bytes).unwrap_or(usize::MAX);
    rows.clamp(1, rows_max)
}

/// Whether a table could not be read because it has other columns by now, or is gone.
fn is_about_columns(error: &ConnectorError) -> bool {
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        let words = inner.to_string();
        if words.contains("1054") || words.contains("1146") || words.contains("1412") {
            return true;
        }
        cause = inner.source();
    }
    false
}

/// What a pipeline is called among the replicas of its source.
fn server_id_of(engine: &Engine, pipeline: i64) -> u32 {
    // Above what people number their servers by; the same after a restart, so that the server gives up the
    // connection of the process that died.
    let mut hasher = SipHasher13::new();
    hasher.write(engine.lake.url().as_str().as_bytes());
    hasher.write_i64(pipeline);
    let number = hasher.finish() % (1 << 30);
    3_000_000_000 + u32::try_from(number).unwrap_or_default()
}
