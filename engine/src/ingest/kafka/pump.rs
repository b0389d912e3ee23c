//! Reads, decodes ahead, writes and commits, in one loop.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::datatypes::SchemaRef;
use boathouse_catalog::definitions::{ObjectId, PipelineDefinition};
use boathouse_catalog::state::{Lease, ReplayMark, RunCounters, RunError};
use boathouse_connectors::ConnectorError;
use boathouse_connectors::kafka::{KafkaSession, MessageReader, ReaderOptions, TopicPartition};
use boathouse_connectors::message::{MessageBlock, PartitionEnd, fingerprint};
use boathouse_sql::statement::OnSchemaChange;
use futures::stream::{FuturesOrdered, StreamExt};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::super::Trigger;
use super::super::capture::{Running, is_current};
use super::super::failpoint;
use super::super::load::{Batch, Failure, PIPELINE_TAG, message_of};
use super::super::quarantine::{Messages, QuarantineWriter, Rejected, quarantined_rows};
use super::super::rows::Rows;
use super::super::run::{
    Anew, CommitBatch, OpenRun, Settled, application, commit_batch, not_refreshed, position_of,
    settle,
};
use super::super::schema::SourceSchema;
use super::super::target::Target;
use super::dead_letter::DeadLetters;
use super::decode::{Decoded, Decoding};
use super::fan::{FanCommit, FanOut};
use super::keyed::changes_of;
use super::offsets::{self, Begun, LastMessage, Progress, Recorded};
use super::plan::{TopicPlan, require_row_wise};
use super::rate::Rate;
use super::share::{Moves, Share};
use super::status::{Report, told_of};
use crate::engine::Engine;
use crate::error::{SqlError, SqlState};
use crate::lake::{AppendWriter, ChangeBatch, ChangeSpill, LakeError, TransactionMark};

/// Blocks that are decoded ahead.
const DECODED_AHEAD_MAX: usize = 3;

/// Messages held until the first of them tells the columns.
const UNTOLD_BLOCKS_MAX: usize = 8;

/// How often progress is put on record, and the pipeline looked at for changes.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How often an offset without messages of ours is committed.
const ADVANCE_EVERY: Duration = Duration::from_secs(60);

/// How often offsets are reported to the group.
const REPORT_EVERY: Duration = Duration::from_secs(5);

/// How long brokers may be away before the run begins anew, which finds out what became of them.
const AWAY_MAX: Duration = Duration::from_secs(20);

/// How long nothing may come before the brokers are asked whether there is something.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// Records of positions kept of a pipeline.
const POSITIONS_KEPT: i64 = 1000;

/// How often a batch is tried to be committed again because other servers were faster.
const TURNS_MAX: usize = 20;

/// Why the loop ended without an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ended {
    /// Everything up to where the partitions ended is in the table, or somebody asked it to stop.
    Done,
    /// Other partitions are to be read, or the connection or the table is another now.
    Anew,
    /// The run of another server has stopped the pipeline, with this error.
    Stopped(RunError),
}

type Decodes = FuturesOrdered<
    Pin<Box<dyn Future<Output = Result<(Decoded, Vec<PartitionEnd>), SqlError>> + Send>>,
>;

/// The topics' partitions, as the brokers name them now.
type Discovery = JoinHandle<Result<Vec<TopicPartition>, ConnectorError>>;

pub(super) struct Pump<'a> {
    plan: &'a TopicPlan,
    engine: Arc<Engine>,
    session: KafkaSession,
    /// Of a pipeline that other servers may read as well.
    share: Option<&'a mut Share>,
    rate: Rate,
    reader: MessageReader,
    rows: Rows<'a>,
    letters: Option<DeadLetters>,
    /// The tables, where rows go to several.
    fan: Option<FanOut<'a>>,
    decoding: Decoding,
    decodes: Decodes,
    /// Blocks that did not tell the columns.
    untold: VecDeque<Arc<MessageBlock>>,
    /// All there are, and those that are read here.
    all: BTreeSet<TopicPartition>,
    partitions: Vec<TopicPartition>,
    progress: BTreeMap<TopicPartition, Progress>,
    /// Partitions that are not read any more.
    former: BTreeMap<TopicPartition, Progress>,
    /// What the newest commit of another server remembers.
    foreign: Option<Value>,
    /// The table's columns as they were when rows were planned for them.
    columns: Option<SchemaRef>,
    /// What others have done to the table does not go together with what is held.
    is_overtaken: bool,
    /// What had been counted when the last commit was made.
    committed: RunCounters,
    /// What was read of each partition, by its number: what comes below was read before.
    read: Vec<i64>,
    /// The message each partition must begin with, if there is one at its offset.
    expected: Vec<Option<LastMessage>>,
    /// Partitions whose marks move with the next commit.
    moved: BTreeSet<TopicPartition>,
    mark: Option<i64>,
    starts: bool,
    batch: Held,
    /// All rows are made anew: what is read is kept for one commit at the end.
    anew: Option<Staged>,
    /// Where partitions have to be read up to, for a run that ends.
    until: Option<BTreeMap<TopicPartition, i64>>,
    newest: Report,
    discovery: Option<Discovery>,
    discovered: Instant,
    reported: Instant,
    advanced: Instant,
    came: Instant,
    /// When the next block may be taken.
    takes_at: Instant,
    away_since: Option<Instant>,
}

/// What the next commit holds.
#[derive(Default)]
struct Held {
    batch: Batch,
    writer: Option<AppendWriter>,
    changes: Vec<ChangeBatch>,
    quarantine: Option<QuarantineWriter>,
    messages: usize,
    bytes: usize,
    since: Option<Instant>,
    rejected: i64,
}

/// What is kept besides the files of a [`Batch`] for the commit that replaces all rows.
struct Staged {
    /// Changes of a table with a key.
    spill: Option<ChangeSpill>,
    /// Marks of partitions that are not read any more.
    forgotten: Vec<TransactionMark>,
}

impl<'a> Pump<'a> {
    /// Finds out where each partition goes on, and begins to read.
    pub async fn start(
        plan: &'a TopicPlan,
        open: &mut OpenRun,
        pipeline: &PipelineDefinition,
        trigger: Trigger,
        mut share: Option<&'a mut Share>,
    ) -> Result<Self, SqlError> {
        let continuous = trigger == Trigger::Continuous;
        let engine = Arc::clone(plan.rows.engine());
        let session = plan.cluster.session()?;
        let partitions = partitions_of(plan, &session).await?;
        let missing: Vec<&str> = plan
            .topics
            .names()
            .filter(|name| !partitions.iter().any(|one| one.topic.as_ref() == *name))
            .collect();
        if let Some(name) = missing.first() {
            let error = SqlError::new(
                SqlState::UNDEFINED_OBJECT,
                format!("topic \"{name}\" does not exist, or may not be seen"),
            )
            .hint("it is read from its beginning once it is there");
            if !continuous {
                return Err(error);
            }
            let message = message_of(boathouse_catalog::state::Severity::Warning, None, &error);
            open.add_messages(vec![message]).await?;
        }
        if partitions.is_empty() && !continuous {
            return Err(
                SqlError::new(SqlState::UNDEFINED_OBJECT, "no topic matches the patterns")
                    .hint("CHECK CONNECTION tells what topics there are"),
            );
        }
        let mut all: BTreeSet<TopicPartition> = partitions.iter().cloned().collect();
        // What another server has committed of a partition is seen once its lease is held.
        let own = match &mut share {
            Some(share) => share.settle(&partitions).await?,
            None => partitions.clone(),
        };
        let Beginning {
            begun,
            source,
            mark,
            fan,
            former,
            foreign,
            forgotten,
        } = match &plan.fan {
            None if trigger == Trigger::FullRefresh => {
                begin_anew(plan, pipeline.id, &session, partitions.clone()).await?
            }
            None => {
                let under = share.is_some().then_some(&open.lease);
                begin(
                    plan,
                    pipeline.id,
                    &session,
                    (&partitions, own.clone()),
                    under,
                )
                .await?
            }
            Some(fan) => {
                let at = (&session, partitions.as_slice());
                let opened = FanOut::open(plan, fan, open, pipeline.id, at).await?;
                let recorded = Recorded::from_json(opened.position.as_ref());
                let marks = opened.marks;
                let begun = offsets::begin_at(plan, &session, marks, partitions, &recorded).await?;
                Beginning {
                    begun,
                    source: opened.source,
                    mark: opened.mark,
                    fan: Some(opened.fan),
                    former: BTreeMap::new(),
                    foreign: None,
                    forgotten: None,
                }
            }
        };
        let Begun {
            progress,
            ends,
            is_new,
            warnings,
        } = begun;
        open.add_messages(warnings).await?;
        // One whose ends nobody could tell is found anew.
        all.retain(|one| progress.contains_key(one) || !own.contains(one));
        let partitions: Vec<TopicPartition> = progress.keys().cloned().collect();
        let from = progress
            .iter()
            .map(|(partition, progress)| (partition.clone(), progress.read_from()))
            .collect();
        let rate = plan.options.rate.share(partitions.len(), all.len());
        let options = ReaderOptions {
            group: plan.options.group.clone(),
            block_messages_max: rate.rows.map_or(plan.options.batch_rows, |rate| {
                let a_second = usize::try_from(rate.get()).unwrap_or(usize::MAX);
                a_second.min(plan.options.batch_rows)
            }),
        };
        let reader = plan.cluster.read(&from, &options)?;
        let rows = Rows::new(&plan.rows, pipeline.id, open.run, source, open.counters);
        let until = (!continuous).then(|| {
            let ends = ends.iter();
            ends.map(|(partition, ends)| (partition.clone(), ends.high))
                .collect()
        });
        let decoding = Decoding::new(plan, &rows.source, &partitions);
        let now = Instant::now();
        let mut pump = Self {
            plan,
            engine,
            session,
            share,
            rate,
            reader,
            committed: rows.counters,
            rows,
            letters: DeadLetters::open(plan).await?,
            fan,
            decoding,
            decodes: FuturesOrdered::new(),
            untold: VecDeque::new(),
            read: progress.values().map(|progress| progress.next).collect(),
            expected: progress.values().map(|progress| progress.last).collect(),
            all,
            partitions,
            progress,
            former,
            foreign,
            columns: None,
            is_overtaken: false,
            moved: BTreeSet::new(),
            mark,
            starts: is_new,
            batch: Held::default(),
            anew: forgotten.map(|forgotten| Staged {
                spill: None,
                forgotten,
            }),
            until,
            newest: Report::new(&ends),
            discovery: None,
            discovered: now,
            reported: now,
            advanced: now,
            came: now,
            takes_at: now,
            away_since: None,
        };
        pump.pin(open).await?;
        let needs_none = match &pump.fan {
            Some(fan) => fan.needs_no_message(),
            None => pump.rows.plan.declared.is_some(),
        };
        if needs_none || !pump.rows.source.is_empty() {
            match pump.prepare().await {
                // Messages that come may have the columns.
                Err(error)
                    if !needs_none
                        && pump.fan.is_some()
                        && error.state == SqlState::UNDEFINED_COLUMN => {}
                prepared => prepared?,
            }
        }
        Ok(pump)
    }

    /// Puts on record where reading begins that no commit tells of, so that it begins there again after a crash.
    async fn pin(&mut self, open: &OpenRun) -> Result<(), SqlError> {
        // Where shared partitions begin has been noted.
        if !std::mem::take(&mut self.starts) || self.share.is_some() {
            return Ok(());
        }
        let positions = self.engine.catalog.positions();
        let sequence = positions
            .prepare(boathouse_catalog::state::NewPosition {
                pipeline: self.rows.pipeline,
                attempt: uuid::Uuid::new_v4(),
                position: self.position(),
                committed_sequence: self.mark.unwrap_or(0),
                files: &[],
                quarantine: &[],
                replays: &[],
                superseded: &[],
                captures: &[],
                lease: Some(&open.lease),
            })
            .await?;
        positions.resolve(self.rows.pipeline, sequence).await?;
        Ok(())
    }

    /// What a commit remembers of the source.
    fn position(&self) -> Value {
        let mut position = position_of(&self.plan.rows, &self.rows.source);
        position["topics"] = offsets::to_json(&self.progress);
        if !self.former.is_empty() {
            position[offsets::FORMER] = json!({ "topics": offsets::to_json(&self.former) });
        }
        // What other servers have told of their partitions is told on.
        for (partition, one) in offsets::partitions_of(self.foreign.as_ref()) {
            if self.all.contains(&partition) && !self.progress.contains_key(&partition) {
                let number = partition.partition.to_string();
                position["topics"][partition.topic.as_ref()][number] = one.clone();
            }
        }
        if let Some(fan) = &self.fan {
            fan.describe(&mut position);
        }
        position
    }

    /// Plans for the columns there are now.
    async fn prepare(&mut self) -> Result<(), SqlError> {
        match &mut self.fan {
            Some(fan) => {
                fan.plan(&self.rows.source).await?;
                self.decoding.schema.keep_unknown = false;
            }
            None => {
                self.rows.prepare().await?;
                let plan = self.rows.plan;
                require_row_wise(plan, &self.rows.ready()?.transform)?;
            }
        }
        self.decoding.schema.columns = self.rows.source.arrow();
        self.decoding.version += 1;
        if self.share.is_some() {
            let snapshot = self.rows.ready()?.target.table.snapshot(None).await?;
            self.columns = Some(Arc::clone(snapshot.schema()));
        }
        Ok(())
    }

    /// Whether it is known what becomes of messages.
    fn is_planned(&self) -> bool {
        match &self.fan {
            Some(fan) => fan.is_planned(),
            None => self.rows.ready.is_some(),
        }
    }

    /// Works until the run has its end.
    pub async fn work(
        &mut self,
        open: &mut OpenRun,
        pipeline: &PipelineDefinition,
        status: &Running,
    ) -> Result<Ended, SqlError> {
        let outcome = self.turn(open, pipeline, status).await;
        if let Err(error) = &outcome {
            self.abandon().await;
            // Another server may have dropped the table a moment ago.
            if error.state == SqlState::UNDEFINED_TABLE && self.rows.ready.is_some() {
                self.engine.catalog.refresh().await?;
                self.is_overtaken |= self.is_dropped();
            }
        }
        match self.is_overtaken {
            true => Ok(Ended::Anew),
            false => outcome,
        }
    }

    async fn turn(
        &mut self,
        open: &mut OpenRun,
        pipeline: &PipelineDefinition,
        status: &Running,
    ) -> Result<Ended, SqlError> {
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            if self.is_done() {
                match self.anew.is_some() {
                    true => self.replace(open).await?,
                    false => self.commit(open).await?,
                }
                self.look(open, status).await?;
                return Ok(Ended::Done);
            }
            let due = self
                .batch
                .since
                .map(|since| since + self.plan.options.target_lag);
            // What is made anew is seen when it is whole.
            let due = due.filter(|_| self.anew.is_none());
            let due = due.map(tokio::time::Instant::from_std);
            tokio::select! {
                biased;
                () = sleep_until(due), if due.is_some() => self.commit(open).await?,
                Some(decoded) = self.decodes.next(), if !self.decodes.is_empty() => {
                    let (decoded, ends) = decoded?;
                    let (messages, bytes) = (decoded.block.len(), decoded.block.bytes());
                    if self.batch.since.is_some()
                        && (self.batch.messages + messages > self.plan.options.batch_rows
                            || self.batch.bytes + bytes > self.plan.options.batch_bytes)
                    {
                        self.commit(open).await?;
                    }
                    self.write(open, decoded).await?;
                    self.reach(&ends);
                }
                block = take_at(&mut self.reader, self.takes_at), if self.decodes.len() < DECODED_AHEAD_MAX => {
                    let block = block?.ok_or_else(|| {
                        SqlError::new(SqlState::CONNECTION_FAILURE, "the reader of messages ended")
                            .retryable()
                    })?;
                    self.take(open, block).await?;
                }
                _ = look.tick() => {
                    let ended = self.look(open, status).await?;
                    let stops = status.is_to_stop() || !is_current(&self.engine, pipeline);
                    if self.until.is_none() && stops {
                        self.commit(open).await?;
                        return Ok(Ended::Done);
                    }
                    match ended {
                        Some(Ended::Stopped(error)) => {
                            self.abandon().await;
                            return Ok(Ended::Stopped(error));
                        }
                        Some(ended) => {
                            self.commit(open).await?;
                            return Ok(ended);
                        }
                        None => {}
                    }
                    if !self.plan.is_connected_as_told() {
                        match self.anew.is_some() {
                            true => self.abandon().await,
                            false => self.commit(open).await?,
                        }
                        return Ok(Ended::Anew);
                    }
                    if self.is_dropped() {
                        // What is held is read again for the table that is made in its place.
                        self.abandon().await;
                        return Ok(Ended::Anew);
                    }
                }
            }
        }
    }

    /// Whether somebody has dropped the table.
    fn is_dropped(&self) -> bool {
        if let Some(fan) = &self.fan {
            return fan.is_dropped();
        }
        let Some(ready) = &self.rows.ready else {
            return false;
        };
        let snapshot = self.engine.catalog.snapshot();
        snapshot.table_by_id(ready.target.definition.id).is_none()
    }

    /// Whether a run that ends has everything.
    fn is_done(&self) -> bool {
        let Some(until) = &self.until else {
            return false;
        };
        until.iter().all(|(partition, end)| {
            let progress = self.progress.get(partition);
            progress.is_none_or(|progress| progress.next >= *end)
        })
    }

    /// Takes a block from the reader, and begins to decode it.
    async fn take(&mut self, open: &mut OpenRun, block: MessageBlock) -> Result<(), SqlError> {
        if !block.is_empty() {
            let now = Instant::now();
            self.takes_at = self.rate.resume_at(now, block.len(), block.bytes());
            // A pause of our own making is no silence.
            self.came = self.takes_at;
            failpoint::hit("kafka_read");
        }
        let mut made_again = None;
        let (read, expected) = (&mut self.read, &mut self.expected);
        let block = block.filtered(|message| {
            let index = message.partition as usize;
            let (Some(read), Some(expected)) = (read.get_mut(index), expected.get_mut(index))
            else {
                return false;
            };
            if let Some(last) = expected.take()
                && message.offset == last.offset
                && fingerprint(message) != last.fingerprint
            {
                made_again.get_or_insert((index, message.offset));
            }
            if message.offset < *read {
                return false;
            }
            *read = message.offset + 1;
            true
        });
        if let Some((index, offset)) = made_again {
            let partition = self.partitions[index].clone();
            return self.made_again(open, partition, offset).await;
        }
        let ends = block.ends().to_vec();
        let block = Arc::new(block);
        if block.is_empty() && self.decodes.is_empty() && self.untold.is_empty() {
            self.reach(&ends);
            return Ok(());
        }
        if !self.is_planned() {
            return self.meet(open, block, ends).await;
        }
        self.decode(block, ends);
        Ok(())
    }

    fn decode(&mut self, block: Arc<MessageBlock>, ends: Vec<PartitionEnd>) {
        let decoding = self.decoding.clone();
        // A task, so that it goes on while a commit is waited for.
        let task = tokio::spawn(async move { decoding.decode(block).await });
        self.decodes.push_back(Box::pin(async move {
            let decoded = task.await.map_err(|ended| {
                SqlError::internal("decoding messages ended abnormally").caused_by(ended)
            })??;
            Ok((decoded, ends))
        }));
    }

    /// Finds the columns by the first messages that have any.
    async fn meet(
        &mut self,
        open: &mut OpenRun,
        block: Arc<MessageBlock>,
        ends: Vec<PartitionEnd>,
    ) -> Result<(), SqlError> {
        let found = self.decoding.clone().infer(Arc::clone(&block)).await?;
        let told = found.is_some();
        if let Some(found) = found {
            let found = SourceSchema::of(&found);
            self.rows.source.add(&match &self.fan {
                Some(fan) => fan.routing_columns(found),
                None => found,
            });
        }
        self.untold.push_back(block);
        // At the end of what there is, those that tell nothing are set aside like any other that cannot be read.
        let waits = self.until.is_none() && self.untold.len() < UNTOLD_BLOCKS_MAX
            || self.until.is_some() && ends.is_empty();
        if !told && waits {
            return Ok(());
        }
        match self.prepare().await {
            Ok(()) => {}
            // Messages of other tables may have the columns.
            Err(error)
                if waits && self.fan.is_some() && error.state == SqlState::UNDEFINED_COLUMN =>
            {
                return Ok(());
            }
            // The query may ask for columns that later messages have.
            Err(error) if !told && error.state.0.starts_with("42") => {
                return Err(
                    error.hint("the messages so far tell no column: name them with COLUMNS (...)")
                );
            }
            Err(error) => return Err(error),
        }
        let mut blocks = std::mem::take(&mut self.untold);
        let last = blocks.pop_back();
        for block in blocks {
            let decoded = self.decoding.clone().decode(block).await?;
            self.write(open, decoded).await?;
        }
        if let Some(last) = last {
            self.decode(last, ends);
        }
        Ok(())
    }

    /// Writes the rows of a block.
    async fn write(&mut self, open: &mut OpenRun, mut decoded: Decoded) -> Result<(), SqlError> {
        if decoded.version != self.decoding.version {
            decoded = self.decoding.clone().decode(decoded.block).await?;
        }
        if decoded.has_unknown && self.plan.rows.declared.is_none() && self.fan.is_none() {
            decoded = self.widen(decoded).await?;
        }
        if decoded.block.is_empty() {
            return Ok(());
        }
        let bytes = decoded.block.bytes();
        self.rows.counters.rows_in += count(decoded.block.len());
        self.rows.counters.bytes_in += count(bytes);
        let before = self.rows.counters.rows_quarantined;
        let messages = Messages {
            block: Arc::clone(&decoded.block),
            partitions: Arc::clone(&self.decoding.partitions),
        };
        let mut quarantine = match self.batch.quarantine.take() {
            Some(quarantine) => quarantine,
            None => QuarantineWriter::new(
                &self.engine.lake,
                self.rows.pipeline,
                self.rows.run,
                self.batch.batch.row_ids.clone(),
            ),
        };
        quarantine.take_from(messages);
        for rejected in &decoded.rejected {
            self.rows.counters.rows_quarantined += 1;
            let reason = rejected.reason.clone();
            let rejected = Rejected::of_message(rejected.message, &rejected.sqlstate, reason);
            quarantine.write(rejected).await?;
        }
        let first_bad = quarantine.newest().cloned();
        let kept = match self.decoding.is_keyed {
            false if let Some(fan) = &mut self.fan => {
                let (rows, decoding) = (&mut self.rows, &self.decoding);
                fan.take(rows, &decoded, decoding, &mut quarantine).await?;
                Vec::new()
            }
            false => self
                .rows
                .transform_and_check(&decoded.rows, &mut quarantine)
                .await
                .map_err(failure)?,
            true => {
                let changes = changes_of(&mut self.rows, &decoded.rows, &mut quarantine).await;
                let changes = changes.map_err(failure)?.map(|changes| changes.batch);
                self.batch.changes.extend(changes);
                Vec::new()
            }
        };
        let first_bad = first_bad.or_else(|| quarantine.newest().cloned());
        self.batch.quarantine = Some(quarantine);
        for rows in kept.iter().filter(|rows| rows.num_rows() > 0) {
            let writer = match &mut self.batch.writer {
                Some(writer) => writer,
                none => none.insert(self.rows.ready()?.writer()?),
            };
            writer.write(rows).await?;
        }
        self.note(&decoded.block);
        self.batch.messages += decoded.block.len();
        self.batch.bytes += bytes;
        self.batch.since.get_or_insert_with(Instant::now);
        self.batch.rejected += self.rows.counters.rows_quarantined - before;
        open.counters = self.rows.counters;
        self.refuse(first_bad)
    }

    /// Stops where the statement says so.
    fn refuse(&self, bad: Option<Rejected>) -> Result<(), SqlError> {
        if self.batch.rejected == 0 {
            return Ok(());
        }
        let example = |error: SqlError| match &bad {
            Some(bad) => error.detail(format!(
                "{} {}: {}",
                bad.place().unwrap_or_default(),
                bad.number().unwrap_or_default(),
                bad.reason
            )),
            None => error,
        };
        if self.plan.stops_at_errors {
            return Err(example(SqlError::new(
                SqlState::DATA_EXCEPTION,
                "the pipeline stopped at a message that could not be taken",
            ))
            .hint("ON ERROR DEAD LETTER sets such messages aside and goes on"));
        }
        if let Some(most) = self.plan.options.rejected_max
            && self.batch.rejected > most
        {
            return Err(example(SqlError::new(
                SqlState::DATA_EXCEPTION,
                format!("more than {most} messages of one commit could not be taken"),
            ))
            .hint("mend the pipeline, or raise rejected_max; nothing of the commit was taken"));
        }
        Ok(())
    }

    /// Takes up the columns that a block has and the source had not.
    async fn widen(&mut self, decoded: Decoded) -> Result<Decoded, SqlError> {
        match self.plan.rows.on_schema_change {
            OnSchemaChange::Rescue => return Ok(decoded),
            OnSchemaChange::Fail | OnSchemaChange::AddColumns => {}
        }
        let block = Arc::clone(&decoded.block);
        let Some(found) = self.decoding.clone().infer(block).await? else {
            return Ok(decoded);
        };
        let mut wider = self.rows.source.clone();
        let added = wider.add(&SourceSchema::of(&found));
        if added.is_empty() {
            return Ok(decoded);
        }
        if self.plan.rows.on_schema_change == OnSchemaChange::Fail {
            return Err(SqlError::new(
                SqlState::UNDEFINED_COLUMN,
                format!("messages have new columns: \"{}\"", added.join("\", \"")),
            )
            .hint("ON SCHEMA CHANGE ADD COLUMNS takes them up"));
        }
        // What was written so far has the narrower schema.
        self.close_writer().await?;
        self.rows.source = wider;
        self.prepare().await?;
        self.decoding.clone().decode(decoded.block).await
    }

    async fn close_writer(&mut self) -> Result<(), SqlError> {
        if let Some(writer) = self.batch.writer.take() {
            let id = self.rows.pipeline.to_string();
            for mut file in writer.finish().await? {
                file.set_tag(PIPELINE_TAG, &id);
                self.batch.batch.adds.push(file);
            }
        }
        Ok(())
    }

    /// Writes what is held for several tables.
    async fn flush_tables(&mut self) -> Result<(), SqlError> {
        let Some(fan) = &mut self.fan else {
            return Ok(());
        };
        let before = self.rows.counters.rows_quarantined;
        let mut quarantine = match self.batch.quarantine.take() {
            Some(quarantine) => quarantine,
            // Only what was written has something to write.
            None => return Ok(()),
        };
        fan.flush(&mut self.rows, &self.decoding, &mut quarantine)
            .await?;
        let bad = quarantine.newest().cloned();
        self.batch.quarantine = Some(quarantine);
        self.batch.rejected += self.rows.counters.rows_quarantined - before;
        self.refuse(bad)
    }

    /// Notes how far a block reaches that was written.
    fn note(&mut self, block: &MessageBlock) {
        let mut lasts: BTreeMap<u32, usize> = BTreeMap::new();
        for (index, message) in block.iter().enumerate() {
            lasts.insert(message.partition, index);
        }
        for (number, index) in lasts {
            let Some(message) = block.get(index) else {
                continue;
            };
            let Some(partition) = self.partitions.get(number as usize) else {
                continue;
            };
            if let Some(progress) = self.progress.get_mut(partition) {
                progress.next = message.offset + 1;
                progress.last = Some(LastMessage {
                    offset: message.offset,
                    fingerprint: fingerprint(&message),
                });
                self.moved.insert(partition.clone());
                self.newest.see(partition, message.timestamp);
            }
        }
    }

    /// Notes the ends of partitions that were met after what was written.
    fn reach(&mut self, ends: &[PartitionEnd]) {
        for end in ends {
            let Some(partition) = self.partitions.get(end.partition as usize) else {
                continue;
            };
            let Some(progress) = self.progress.get_mut(partition) else {
                continue;
            };
            match end.offset {
                // No message can be read at the offsets passed over.
                Some(offset) if offset > progress.next => {
                    progress.next = offset;
                    self.moved.insert(partition.clone());
                }
                Some(_) => {}
                // All that was there when reading began has been read.
                None => {
                    if let Some(until) = &mut self.until {
                        until.remove(partition);
                    }
                }
            }
        }
    }

    /// Keeps what is held for the commit that replaces all rows.
    async fn stage(&mut self, open: &mut OpenRun) -> Result<(), SqlError> {
        open.add_messages(std::mem::take(&mut self.rows.messages))
            .await?;
        self.close_writer().await?;
        if let Some(quarantine) = self.batch.quarantine.take()
            && let Some(file) = quarantine.finish().await?
        {
            self.batch.batch.quarantine.push(file);
        }
        let changes = std::mem::take(&mut self.batch.changes);
        if let Some(staged) = &mut self.anew
            && !changes.is_empty()
        {
            let spill = match staged.spill.take() {
                Some(spill) => spill,
                None => {
                    let scratch = &self.engine.config.scratch;
                    let width = self.rows.ready()?.schema.fields().len();
                    ChangeSpill::new(scratch, self.plan.rows.key.clone(), width)?
                }
            };
            staged.spill = Some(add_to(spill, changes).await?);
        }
        self.batch.messages = 0;
        self.batch.bytes = 0;
        self.batch.since = None;
        self.batch.rejected = 0;
        failpoint::hit("kafka_staged");
        Ok(())
    }

    /// Puts everything that was read in the place of the rows that the table has of this pipeline, together with the marks. What
    /// waits in quarantine has been judged again.
    async fn replace(&mut self, open: &mut OpenRun) -> Result<(), SqlError> {
        self.stage(open).await?;
        if !self.is_planned() {
            return Err(not_refreshed(
                "the topics hold no message that tells a column",
            ));
        }
        if let Some(letters) = &self.letters {
            for file in &self.batch.batch.quarantine {
                letters.send(&self.engine.lake, file).await?;
            }
        }
        let pipeline = self.rows.pipeline;
        let waiting = quarantined_rows(&self.engine, Some(pipeline)).await?;
        let superseded: Vec<ReplayMark> = waiting
            .iter()
            .filter(|row| row.is_waiting())
            .map(|row| ReplayMark {
                sequence: row.sequence,
                row_id: row.row_id,
            })
            .collect();
        let marks = self
            .progress
            .iter()
            .map(|(partition, progress)| offsets::mark_of(pipeline, partition, progress));
        let mut part_marks: Vec<TransactionMark> = marks.collect();
        let mut anew = None;
        if let Some(staged) = &mut self.anew {
            part_marks.append(&mut staged.forgotten);
            let changes = match staged.spill.take() {
                Some(spill) => spill.finish()?,
                None => Vec::new(),
            };
            let fields = self.rows.ready()?.transform.fields();
            anew = Some(Anew {
                changes,
                told: fields
                    .fields()
                    .iter()
                    .map(|field| field.name().clone())
                    .collect(),
            });
        }
        let position = self.position();
        let id = pipeline.to_string();
        // A table with a key takes turns by itself.
        let appends = self.plan.rows.key.is_empty();
        let mut turn = 0;
        let sequence = loop {
            let held = &mut self.batch;
            let target = &mut self.rows.ready()?.target;
            let snapshot = target.table.snapshot(None).await?;
            let ours = snapshot.files().iter();
            let ours = ours.filter(|file| file.tag(PIPELINE_TAG) == Some(&id));
            let batch = CommitBatch {
                pipeline,
                run: open.run,
                lease: &open.lease,
                mark: self.mark,
                position: position.clone(),
                batch: &mut held.batch,
                removes: ours.map(|file| file.path.clone()).collect(),
                changes: Vec::new(),
                anew: anew.clone(),
                part_marks: part_marks.clone(),
                replays: &[],
                superseded: &superseded,
                keeps_refused: true,
            };
            match commit_batch(&self.plan.rows, batch, target).await {
                Ok(sequence) => break sequence,
                // Files of ours may have been put together meanwhile.
                Err(error) if appends && turn < TURNS_MAX && is_refused(&error) => {
                    tracing::debug!(%error, turn, "the table has moved on, replacing its rows again");
                    turn += 1;
                }
                Err(error) => return Err(error),
            }
        };
        self.batch = Held::default();
        self.committed = self.rows.counters;
        self.mark = Some(sequence);
        self.moved.clear();
        for progress in self.progress.values_mut() {
            progress.mark = Some(progress.next);
        }
        self.newest.commit();
        let offsets = self.progress.iter();
        let offsets = offsets.map(|(partition, progress)| (partition.clone(), progress.next));
        self.reader.report(offsets.collect());
        Ok(())
    }

    /// Commits what is held. A failure leaves the marks to tell what became of it.
    async fn commit(&mut self, open: &mut OpenRun) -> Result<(), SqlError> {
        if self.anew.is_some() {
            return self.stage(open).await;
        }
        open.add_messages(std::mem::take(&mut self.rows.messages))
            .await?;
        let advances = !self.moved.is_empty()
            && (self.batch.since.is_some() || self.advanced.elapsed() >= ADVANCE_EVERY);
        if !advances {
            return Ok(());
        }
        if !self.is_planned() {
            // Nothing has told what the table would be.
            return Ok(());
        }
        self.close_writer().await?;
        self.flush_tables().await?;
        open.add_messages(std::mem::take(&mut self.rows.messages))
            .await?;
        failpoint::hit("kafka_written");
        if let Some(quarantine) = self.batch.quarantine.take()
            && let Some(file) = quarantine.finish().await?
        {
            if let Some(letters) = &self.letters {
                letters.send(&self.engine.lake, &file).await?;
                failpoint::hit("kafka_letters_sent");
            }
            self.batch.batch.quarantine.push(file);
        }
        let pipeline = self.rows.pipeline;
        let sequence = match self.fan.is_some() {
            true => self.put_tables(open).await?,
            false => self.put(open).await?,
        };
        self.batch = Held::default();
        self.committed = self.rows.counters;
        self.mark = Some(sequence);
        for partition in std::mem::take(&mut self.moved) {
            if let Some(progress) = self.progress.get_mut(&partition) {
                progress.mark = Some(progress.next);
            }
        }
        self.advanced = Instant::now();
        self.newest.commit();
        if sequence % 100 == 0 {
            let positions = self.engine.catalog.positions();
            positions
                .forget_below(pipeline, sequence - POSITIONS_KEPT)
                .await?;
        }
        if self.reported.elapsed() >= REPORT_EVERY || self.until.is_some() {
            self.reported = Instant::now();
            let offsets = self.progress.iter();
            let offsets = offsets.map(|(partition, progress)| (partition.clone(), progress.next));
            self.reader.report(offsets.collect());
        }
        Ok(())
    }

    /// Commits the batch in its turn: other servers commit to the same table, one after the other.
    async fn put(&mut self, open: &OpenRun) -> Result<i64, SqlError> {
        let pipeline = self.rows.pipeline;
        let is_shared = self.share.is_some();
        let has_company = self.share.as_ref().is_some_and(|share| share.has_company());
        let mut refusal: Option<SqlError> = None;
        let mut turn = 0;
        loop {
            if refusal.is_some() || has_company {
                let has_moved = self.catch_up(refusal.is_some()).await?;
                if let Some(error) = refusal.take().filter(|_| !has_moved) {
                    return Err(error);
                }
            }
            let marks = self.moved.iter().filter_map(|partition| {
                let progress = self.progress.get(partition)?;
                Some(offsets::mark_of(pipeline, partition, progress))
            });
            let part_marks = marks.collect();
            let position = self.position();
            let held = &mut self.batch;
            let target = &mut self.rows.ready()?.target;
            let is_wider = target.metadata_change().is_some();
            let batch = CommitBatch {
                pipeline,
                run: open.run,
                lease: &open.lease,
                mark: self.mark,
                position,
                batch: &mut held.batch,
                removes: Vec::new(),
                changes: std::mem::take(&mut held.changes),
                anew: None,
                part_marks,
                replays: &[],
                superseded: &[],
                keeps_refused: is_shared,
            };
            match commit_batch(&self.plan.rows, batch, target).await {
                Ok(sequence) => {
                    if is_wider {
                        self.columns = None;
                    }
                    return Ok(sequence);
                }
                Err(error) if is_shared && turn < TURNS_MAX && is_refused(&error) => {
                    open.require_lease()?;
                    tracing::debug!(%error, turn, "the table has moved on, committing again");
                    refusal = Some(error);
                    turn += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Commits what is held to each of the tables that it is of.
    async fn put_tables(&mut self, open: &OpenRun) -> Result<i64, SqlError> {
        let position = self.position();
        let next = self.progress.iter();
        let next = next.map(|(partition, progress)| (partition.clone(), progress.next));
        let next = next.collect();
        let Some(fan) = &mut self.fan else {
            return Err(SqlError::internal("rows go to one table"));
        };
        fan.commit(FanCommit {
            pipeline: self.rows.pipeline,
            run: open.run,
            lease: &open.lease,
            mark: self.mark,
            position,
            next,
            quarantine: &self.batch.batch.quarantine,
        })
        .await
    }

    /// Takes up what other servers have committed since; tells whether they have. What is held is given up when it does not go
    /// together with that, or when it was refused because somebody else has read the same partitions.
    async fn catch_up(&mut self, was_refused: bool) -> Result<bool, SqlError> {
        let pipeline = self.rows.pipeline;
        let snapshot = self.rows.ready()?.target.table.snapshot(None).await?;
        let mark = snapshot.transaction(&application(pipeline)).await?;
        if mark == self.mark {
            let columns = || Arc::clone(snapshot.schema());
            self.columns.get_or_insert_with(columns);
            return Ok(false);
        }
        // Columns that others have added are to be planned for.
        let mut fits = self.columns.as_ref() == Some(snapshot.schema());
        let moved = self.moved.iter().filter(|_| was_refused);
        for partition in moved {
            let found = offsets::marked(&snapshot, pipeline, partition).await?;
            fits &= found == self.progress.get(partition).and_then(|one| one.mark);
        }
        let positions = self.engine.catalog.positions();
        let position = match mark {
            Some(mark) => positions.at(pipeline, mark).await?,
            None => None,
        };
        let position = position.map(|position| position.position);
        fits &= position.as_ref().is_some_and(|position| {
            let source = SourceSchema::from_json(&position["source"]);
            let stamp = position["stamp"].as_str();
            stamp == Some(&self.plan.rows.format_stamp) && self.rows.source.covers(&source)
        });
        if !fits {
            self.is_overtaken = true;
            return Err(SqlError::new(
                SqlState::SERIALIZATION_FAILURE,
                "another server has committed what does not go together with what is held",
            )
            .retryable());
        }
        self.mark = mark;
        self.foreign = position;
        Ok(true)
    }

    /// Tells how far it is, and looks for partitions that are new.
    async fn look(
        &mut self,
        open: &mut OpenRun,
        status: &Running,
    ) -> Result<Option<Ended>, SqlError> {
        open.require_lease()?;
        let at = self.reader.status();
        let target = self.rows.ready.as_ref();
        let target = target.map(|ready| ready.target.definition.id);
        let mut told = self.newest.status(target, &self.progress, &at.ends);
        open.tell(Some(told_of(&told.partitions)));
        if let Some(fan) = &self.fan {
            fan.tell(&mut told);
        }
        status.tell(told);
        open.counters = self.rows.counters;
        let runs = self.engine.catalog.runs();
        if let Err(error) = runs.progress(open.run, open.counters).await {
            tracing::warn!(run = open.run.0, %error, "could not record the progress of a run");
        }
        match at.trouble {
            None => self.away_since = None,
            Some(trouble) => {
                let since = *self.away_since.get_or_insert_with(Instant::now);
                if since.elapsed() >= AWAY_MAX {
                    return Err(SqlError::new(SqlState::CONNECTION_FAILURE, trouble).retryable());
                }
            }
        }
        if self.came.elapsed() >= SILENCE_MAX {
            self.came = Instant::now();
            self.listen().await?;
        }
        if self.until.is_some() {
            return Ok(None);
        }
        if let Some(ended) = self.look_around().await {
            return Ok(Some(ended));
        }
        self.discover().await
    }

    /// Looks at what other servers do with the pipeline.
    async fn look_around(&mut self) -> Option<Ended> {
        let share = self.share.as_mut()?;
        match share.look().await {
            Ok(Moves::Stay) => None,
            Ok(Moves::Settle) => Some(Ended::Anew),
            Ok(Moves::Discover) => {
                let waits = self.plan.options.discover;
                self.discovered = Instant::now().checked_sub(waits)?;
                None
            }
            Ok(Moves::GiveWay) => Some(Ended::Done),
            Ok(Moves::Stop(error)) => Some(Ended::Stopped(error)),
            // Whether the catalog is away too long is noticed by the lease.
            Err(error) => {
                tracing::warn!(%error, "could not look at the leases of a pipeline");
                None
            }
        }
    }

    /// Nothing came for a while: there must be nothing.
    async fn listen(&mut self) -> Result<(), SqlError> {
        if self.partitions.is_empty() {
            return Ok(());
        }
        let ends = self.session.ends(self.partitions.clone()).await?;
        let unread = self.progress.iter().find(|(partition, progress)| {
            ends.get(*partition).is_some_and(|ends| ends.high > progress.next)
                // Its end was met there, whatever the offsets between hold.
                && self.reader.status().ends.get(*partition).is_none_or(|end| *end < ends[*partition].high)
        });
        match unread {
            None => Ok(()),
            Some((partition, _)) => Err(SqlError::new(
                SqlState::CONNECTION_FAILURE,
                format!("no message of partition {partition} came although there are some"),
            )
            .retryable()),
        }
    }

    /// Looks for partitions that are new, now and then.
    async fn discover(&mut self) -> Result<Option<Ended>, SqlError> {
        match &mut self.discovery {
            Some(asked) if asked.is_finished() => {
                let found = asked.await;
                self.discovery = None;
                self.discovered = Instant::now();
                let found = match found {
                    Ok(Ok(found)) => found,
                    // Whether the brokers are away is noticed elsewhere.
                    Ok(Err(error)) => {
                        tracing::debug!(%error, "could not look for new partitions");
                        return Ok(None);
                    }
                    Err(ended) => {
                        return Err(
                            SqlError::internal("looking for partitions ended abnormally")
                                .caused_by(ended),
                        );
                    }
                };
                let new = found.iter().any(|one| !self.all.contains(one));
                Ok(new.then_some(Ended::Anew))
            }
            Some(_) => Ok(None),
            None if self.discovered.elapsed() >= self.plan.options.discover => {
                let session = self.session.clone();
                let topics = self.plan.topics.clone();
                self.discovery = Some(tokio::spawn(async move {
                    Ok(named(session.topics(&topics).await?))
                }));
                Ok(None)
            }
            None => Ok(None),
        }
    }

    /// The topic is another one than the one that was read.
    async fn made_again(
        &mut self,
        open: &mut OpenRun,
        partition: TopicPartition,
        offset: i64,
    ) -> Result<(), SqlError> {
        let error = offsets::made_again(&self.plan.rows.name, &partition, offset);
        if !self.plan.options.skips_lost {
            return Err(error);
        }
        let ends = self.session.ends(vec![partition.clone()]).await?;
        let low = ends.get(&partition).map_or(0, |ends| ends.low);
        let text = format!("{}; it is read from its beginning", error.message);
        open.add_messages(vec![offsets::warning(text)]).await?;
        if !self.is_planned() {
            return Err(error);
        }
        if let Some(progress) = self.progress.get_mut(&partition) {
            progress.next = low;
            progress.last = None;
        }
        // Committed before it is read, so that a start finds it.
        self.moved.insert(partition);
        self.batch.since.get_or_insert_with(Instant::now);
        self.commit(open).await?;
        Err(SqlError::new(SqlState::CONNECTION_FAILURE, error.message).retryable())
    }

    /// Throws away what is held.
    async fn abandon(&mut self) {
        let held = std::mem::take(&mut self.batch);
        if let Some(writer) = held.writer {
            writer.abandon().await;
        }
        if let Some(ready) = &self.rows.ready {
            ready.target.table.discard(held.batch.adds).await;
        }
        if let Some(fan) = &mut self.fan {
            fan.abandon().await;
        }
    }

    /// What was read, and what of it is in the table.
    pub fn counters(&self) -> RunCounters {
        self.rows.counters
    }

    pub fn committed_counters(&self) -> RunCounters {
        self.committed
    }

    pub fn is_overtaken(&self) -> bool {
        self.is_overtaken
    }
}

/// Where reading goes on, and what is known of the source.
struct Beginning<'a> {
    begun: Begun,
    source: SourceSchema,
    mark: Option<i64>,
    fan: Option<FanOut<'a>>,
    /// Partitions that are not read any more.
    former: BTreeMap<TopicPartition, Progress>,
    /// What the newest commit of another server remembers.
    foreign: Option<Value>,
    /// All rows are made anew. The marks of partitions that are not read any more.
    forgotten: Option<Vec<TransactionMark>>,
}

/// Where reading begins that makes the rows of the one table anew. One that is not there yet is made by reading as ever.
async fn begin_anew<'a>(
    plan: &'a TopicPlan,
    pipeline: ObjectId,
    session: &KafkaSession,
    partitions: Vec<TopicPartition>,
) -> Result<Beginning<'a>, SqlError> {
    let Some(target) = Target::find(&plan.rows).await? else {
        let all = partitions.clone();
        return begin(plan, pipeline, session, (&all, partitions), None).await;
    };
    let mark = settle(&plan.rows, pipeline).await?.mark;
    let recorded = Recorded::load(plan.rows.engine(), pipeline).await?;
    let table = target.table.as_ref();
    let former = recorded.former(&partitions);
    let anew = offsets::begin_anew(plan, pipeline, session, table, partitions, &recorded);
    let (begun, forgotten) = anew.await?;
    Ok(Beginning {
        begun,
        // What was found of messages once was found for another statement, perhaps.
        source: plan.rows.declared.clone().unwrap_or_default(),
        mark,
        fan: None,
        former,
        foreign: None,
        forgotten: Some(forgotten),
    })
}

/// Where reading of our `own` partitions goes on by the marks of the one table. With a lease `under` which the partitions are
/// shared it is noted where any of them begins.
async fn begin<'a>(
    plan: &'a TopicPlan,
    pipeline: ObjectId,
    session: &KafkaSession,
    (all, own): (&[TopicPartition], Vec<TopicPartition>),
    under: Option<&Lease>,
) -> Result<Beginning<'a>, SqlError> {
    let Settled {
        source,
        stale,
        mark,
        ..
    } = settle(&plan.rows, pipeline).await?;
    let engine = plan.rows.engine();
    let mut recorded = Recorded::load(engine, pipeline).await?;
    let target = Target::find(&plan.rows).await?;
    let table = target.as_ref().map(|target| target.table.as_ref());
    let mut foreign = None;
    if let Some(lease) = under {
        recorded =
            offsets::note_starts(plan, (pipeline, lease), session, table, all, recorded).await?;
        let last = engine.catalog.positions().last_committed(pipeline).await?;
        foreign = last.map(|last| last.position);
    }
    let begun = offsets::begin(plan, pipeline, session, table, own, &recorded).await?;
    let source = match &plan.rows.declared {
        Some(declared) => declared.clone(),
        None if stale => SourceSchema::default(),
        None => source,
    };
    Ok(Beginning {
        begun,
        source,
        mark,
        fan: None,
        former: recorded.former(all),
        foreign,
        forgotten: None,
    })
}

/// The partitions that are wanted and exist.
pub(super) async fn partitions_of(
    plan: &TopicPlan,
    session: &KafkaSession,
) -> Result<Vec<TopicPartition>, SqlError> {
    Ok(named(session.topics(&plan.topics).await?))
}

fn named(topics: BTreeMap<String, i32>) -> Vec<TopicPartition> {
    let mut partitions = Vec::new();
    for (topic, count) in topics {
        let topic: Arc<str> = topic.into();
        for partition in 0..count {
            let topic = topic.clone();
            partitions.push(TopicPartition { topic, partition });
        }
    }
    partitions
}

/// The next block, not before its time. Dropping the future loses none.
async fn take_at(
    reader: &mut MessageReader,
    time: Instant,
) -> Result<Option<MessageBlock>, ConnectorError> {
    tokio::time::sleep_until(tokio::time::Instant::from_std(time)).await;
    reader.next().await
}

async fn sleep_until(time: Option<tokio::time::Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// Whether the table has refused a commit, which then has certainly not taken place.
fn is_refused(error: &SqlError) -> bool {
    let cause = std::error::Error::source(error);
    let cause = cause.and_then(|cause| cause.downcast_ref::<LakeError>());
    matches!(cause, Some(LakeError::Conflict { .. }))
}

/// A message that the statement says must fail stops the pipeline.
pub(super) fn failure(failure: Failure) -> SqlError {
    match failure {
        Failure::Fatal(error) => error,
        Failure::File(message) | Failure::Passing(message) => {
            let error = SqlError::new(
                boathouse_connectors_state(&message.sqlstate),
                message.message.clone(),
            );
            let place = message.file.clone().unwrap_or_default();
            let error = error.detail(format!(
                "partition {place}, offset {}",
                message.row.unwrap_or_default()
            ));
            match message.hint {
                Some(hint) => error.hint(hint),
                None => error,
            }
        }
    }
}

/// The state of an expectation that must not be broken; others do not come here.
fn boathouse_connectors_state(code: &str) -> SqlState {
    if code == SqlState::CHECK_VIOLATION.0 {
        SqlState::CHECK_VIOLATION
    } else {
        SqlState::DATA_EXCEPTION
    }
}

/// Adds changes to those on disk.
async fn add_to(
    mut spill: ChangeSpill,
    changes: Vec<ChangeBatch>,
) -> Result<ChangeSpill, SqlError> {
    let added = tokio::task::spawn_blocking(move || {
        for batch in &changes {
            spill.add(batch)?;
        }
        Ok::<_, LakeError>(spill)
    });
    let added = added.await.map_err(|ended| {
        SqlError::internal("changes could not be kept on disk").caused_by(ended)
    })?;
    Ok(added?)
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
