//! Where a pipeline with many tables goes on, and what becomes of a batch that was left half way.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use boathouse_catalog::definitions::ObjectId;
use boathouse_catalog::state::{CaptureRecord, NewPosition, Position, QuarantineFile};
use boathouse_connectors::kafka::{KafkaSession, ReaderOptions, TopicPartition};
use boathouse_connectors::message::{MessageBlock, fingerprint};
use serde_json::Value;
use uuid::Uuid;

use super::super::super::load::Batch;
use super::super::super::quarantine::{QuarantineWriter, rejected_in};
use super::super::super::rows::Rows;
use super::super::super::run::OpenRun;
use super::super::super::schema::SourceSchema;
use super::super::decode::Decoding;
use super::super::offsets::{self, Recorded, partitions_of};
use super::super::plan::{FanPlan, TopicPlan};
use super::FanOut;
use super::route::routing_stamp;
use super::table::FanTable;
use crate::error::{SqlError, SqlState};
use crate::ingest::failpoint;

/// How long messages may take to come that were there before.
const COMES_WITHIN: Duration = Duration::from_secs(60);

/// Where a run begins.
pub(in crate::ingest::kafka) struct Opened<'a> {
    pub fan: FanOut<'a>,
    /// The columns that routing needs.
    pub source: SourceSchema,
    /// The sequence settled last.
    pub mark: Option<i64>,
    /// The position settled last.
    pub position: Option<Value>,
    /// Up to which offsets every table has its rows.
    pub marks: BTreeMap<TopicPartition, i64>,
}

impl<'a> FanOut<'a> {
    /// Reads what is on record, and completes a batch that some table has and another lacks.
    pub async fn open(
        plan: &'a TopicPlan,
        fan: &'a FanPlan,
        open: &mut OpenRun,
        pipeline: ObjectId,
        (session, partitions): (&KafkaSession, &[TopicPartition]),
    ) -> Result<Opened<'a>, SqlError> {
        let catalog = &plan.rows.engine().catalog;
        let positions = catalog.positions();
        let records = catalog.captures().list(pipeline).await?;
        let mut begun = Self {
            plan,
            fan,
            router: None,
            tables: tables_of(plan, fan, records),
            held_bytes: 0,
        };
        let settled = positions.last_committed(pipeline).await?;
        let pending = positions.pending(pipeline).await?;
        let pending = pending.filter(|pending| {
            let newest = settled.as_ref().map_or(0, |settled| settled.sequence);
            pending.sequence > newest && pending.position["into"] == begun.target_schema()
        });
        let mut last = settled;
        if let Some(pending) = pending
            && begun.is_in_a_table(pipeline, &pending).await?
        {
            let work = Redo {
                open,
                pipeline,
                session,
                partitions,
            };
            let from = last.as_ref().map(|last| &last.position);
            begun.redo(work, &pending, from).await?;
            last = Some(pending);
        }
        begun.tables.values_mut().for_each(FanTable::close);
        let mark = last.as_ref().map(|last| last.sequence);
        let position = last.map(|last| last.position);
        let source = begun.known_source(position.as_ref());
        Ok(Opened {
            marks: marks_of(&begun, position.as_ref()),
            fan: begun,
            source,
            mark,
            position,
        })
    }

    /// The columns that routing needs, as far as they are known: by a position, or, where the query was another then, by what the
    /// messages of the tables have.
    fn known_source(&self, position: Option<&Value>) -> SourceSchema {
        let known = self.routing_source();
        let rows = &self.plan.rows;
        if rows.declared.is_some() || !known.is_empty() {
            return known;
        }
        let routing = routing_stamp(rows, &self.fan.by);
        let recorded = position.filter(|position| {
            position["into"] == self.target_schema()
                && position["routing"].as_str() == Some(routing.as_str())
                && position["stamp"].as_str() == Some(rows.format_stamp.as_str())
        });
        let found = match recorded {
            Some(position) => SourceSchema::from_json(&position["source"]),
            None => {
                let mut all = SourceSchema::default();
                for table in self.tables.values() {
                    all.add(&table.source);
                }
                all
            }
        };
        self.routing_columns(found)
    }

    /// Whether any table has a batch. One that none has never was.
    async fn is_in_a_table(
        &mut self,
        pipeline: ObjectId,
        pending: &Position,
    ) -> Result<bool, SqlError> {
        let decoding = Decoding::new(
            self.plan,
            &SourceSchema::default(),
            &partitions_in(&pending.position),
        );
        let mut any = false;
        for name in names_in(&pending.position) {
            if let Some(table) = self.tables.get_mut(&name) {
                table.open(pipeline, &decoding).await?;
                any |= table.mark >= Some(pending.sequence);
            }
        }
        Ok(any)
    }

    /// Reads a batch once more for the tables that lack it, and settles it.
    async fn redo(
        &mut self,
        work: Redo<'_>,
        pending: &Position,
        from: Option<&Value>,
    ) -> Result<(), SqlError> {
        let (plan, pipeline) = (self.plan, work.pipeline);
        let until: BTreeMap<TopicPartition, i64> = offsets_in(&pending.position);
        let lacking: BTreeSet<String> = names_in(&pending.position)
            .into_iter()
            .filter(|name| {
                let table = self.tables.get(name);
                table.is_none_or(|table| table.mark < Some(pending.sequence))
            })
            .collect();
        let positions = plan.rows.engine().catalog.positions();
        let mut batch = Batch::default();
        if !lacking.is_empty() {
            let source = self.known_source(Some(&pending.position));
            self.plan(&source).await?;
            let counters = work.open.counters;
            let mut tally = Rows::new(&plan.rows, pipeline, work.open.run, source, counters);
            let row_ids = batch.row_ids.clone();
            let lake = &plan.rows.engine().lake;
            let mut quarantine = QuarantineWriter::new(lake, pipeline, tally.run, row_ids);
            let known = self.set_aside_in(pipeline, pending.sequence).await?;
            let read = Reread {
                from,
                until: &until,
                lacking: &lacking,
                known: &known,
            };
            let outcome = self
                .read_again(&work, read, &mut tally, &mut quarantine)
                .await;
            let messages = std::mem::take(&mut tally.messages);
            work.open.add_messages(messages).await?;
            if let Err(error) = outcome {
                self.abandon().await;
                return Err(error);
            }
            if let Some(file) = quarantine.finish().await? {
                batch.quarantine.push(file);
            }
            work.open.counters = tally.counters;
            self.commit_tables(pipeline, tally.run, pending.sequence, &until)
                .await?;
        }
        positions.resolve(pipeline, pending.sequence).await?;
        failpoint::hit("kafka_redone");
        self.keep_set_aside(&work, pending, &batch.quarantine).await
    }

    /// The messages that a batch set aside.
    async fn set_aside_in(
        &self,
        pipeline: ObjectId,
        sequence: i64,
    ) -> Result<BTreeSet<(TopicPartition, i64)>, SqlError> {
        let engine = self.plan.rows.engine();
        let mut known = BTreeSet::new();
        for file in engine
            .catalog
            .quarantine()
            .files_of(pipeline, sequence)
            .await?
        {
            for rows in rejected_in(&engine.lake, &file).await? {
                let messages = rows?.into_iter().filter_map(|row| row.message);
                known.extend(messages.map(|message| {
                    let topic = message.topic.into();
                    let partition = message.partition;
                    (TopicPartition { topic, partition }, message.offset)
                }));
            }
        }
        Ok(known)
    }

    async fn read_again(
        &mut self,
        work: &Redo<'_>,
        read: Reread<'_>,
        tally: &mut Rows<'_>,
        quarantine: &mut QuarantineWriter,
    ) -> Result<(), SqlError> {
        let plan = self.plan;
        let wanted = work.partitions.iter();
        let wanted = wanted.filter(|one| read.until.contains_key(one)).cloned();
        let recorded = Recorded::from_json(read.from);
        let marks = marks_of(self, read.from);
        let gone = read.until.iter().find(|(partition, until)| {
            marks.get(partition) < Some(until) && !work.partitions.contains(partition)
        });
        if let Some((partition, _)) = gone
            && !plan.options.skips_lost
        {
            return Err(left(&plan.rows.name, partition));
        }
        let begun =
            offsets::begin_at(plan, work.session, marks, wanted.collect(), &recorded).await?;
        let mut progress = begun.progress;
        progress.retain(|partition, progress| {
            read.until
                .get(partition)
                .is_some_and(|until| progress.next < *until)
        });
        let partitions: Vec<TopicPartition> = progress.keys().cloned().collect();
        let mut decoding = Decoding::new(plan, &tally.source, &partitions);
        decoding.schema.keep_unknown = false;
        let from = progress
            .iter()
            .map(|(partition, progress)| (partition.clone(), progress.read_from()))
            .collect();
        let options = ReaderOptions {
            group: plan.options.group.clone(),
            block_messages_max: plan.options.batch_rows,
        };
        let mut open: BTreeSet<u32> = (0_u32..).take(partitions.len()).collect();
        let mut starts: Vec<_> = progress.values().cloned().collect();
        let ends: Vec<i64> = partitions.iter().map(|one| read.until[one]).collect();
        let mut reader = plan.cluster.read(&from, &options)?;
        while !open.is_empty() {
            let block = tokio::time::timeout(COMES_WITHIN, reader.next()).await;
            let block = block.map_err(|_| away("messages of a batch that was left do not come"))?;
            let block = block?.ok_or_else(|| away("the reader of messages ended"))?;
            let mut another = None;
            let block = block.filtered(|message| {
                let index = message.partition as usize;
                let (Some(start), Some(end)) = (starts.get_mut(index), ends.get(index)) else {
                    return false;
                };
                if let Some(last) = start.last.take()
                    && message.offset == last.offset
                    && fingerprint(message) != last.fingerprint
                {
                    another.get_or_insert((index, message.offset));
                }
                if message.offset + 1 >= *end {
                    open.remove(&message.partition);
                }
                let partition = &partitions[index];
                message.offset >= start.next
                    && message.offset < *end
                    && !read.known.contains(&(partition.clone(), message.offset))
            });
            if let Some((index, offset)) = another {
                return Err(offsets::made_again(
                    &plan.rows.name,
                    &partitions[index],
                    offset,
                ));
            }
            for end in block.ends() {
                let reached = end.offset.is_none_or(|offset| {
                    let wanted = ends.get(end.partition as usize);
                    wanted.is_none_or(|wanted| offset >= *wanted)
                });
                if reached {
                    open.remove(&end.partition);
                }
            }
            self.take_again(block, &decoding, read.lacking, tally, quarantine)
                .await?;
        }
        self.flush(tally, &decoding, quarantine).await
    }

    /// Holds the messages of tables that lack the batch.
    async fn take_again(
        &mut self,
        block: MessageBlock,
        decoding: &Decoding,
        lacking: &BTreeSet<String>,
        tally: &mut Rows<'_>,
        quarantine: &mut QuarantineWriter,
    ) -> Result<(), SqlError> {
        if block.is_empty() {
            return Ok(());
        }
        let decoded = decoding.clone().decode(Arc::new(block)).await?;
        let router = self.router.as_ref();
        let router = router.ok_or_else(|| SqlError::internal("the routing was not planned"))?;
        // What cannot be routed is set aside already.
        for (number, value) in router.route(&decoded.rows)?.0 {
            let message = decoded.block.get(number as usize);
            let Ok((value, name)) = super::table_name(value.as_deref(), &self.fan.by) else {
                continue;
            };
            let (Some(message), true) = (message, lacking.contains(&name)) else {
                continue;
            };
            let (rows, fan) = (&self.plan.rows, self.fan);
            let table = self.tables.entry(name.clone());
            let table = table.or_insert_with(|| FanTable::new(rows, fan, &name, value));
            if table.is_of(value) {
                self.held_bytes += table.hold(&message);
            }
        }
        if self.held_bytes >= super::HELD_BYTES_MAX {
            self.flush(tally, decoding, quarantine).await?;
        }
        Ok(())
    }

    /// Puts on record what was set aside by now and was not when the batch was first written: the pipeline is another.
    async fn keep_set_aside(
        &self,
        work: &Redo<'_>,
        pending: &Position,
        quarantine: &[QuarantineFile],
    ) -> Result<(), SqlError> {
        if quarantine.is_empty() {
            return Ok(());
        }
        let mut position = pending.position.clone();
        position["tables"] = Value::Array(Vec::new());
        let positions = self.plan.rows.engine().catalog.positions();
        let sequence = positions
            .prepare(NewPosition {
                pipeline: work.pipeline,
                attempt: Uuid::new_v4(),
                position,
                committed_sequence: pending.sequence,
                files: &[],
                quarantine,
                replays: &[],
                superseded: &[],
                captures: &[],
                lease: Some(&work.open.lease),
            })
            .await?;
        positions.resolve(work.pipeline, sequence).await?;
        Ok(())
    }
}

/// On whose behalf a batch is read again.
struct Redo<'r> {
    open: &'r mut OpenRun,
    pipeline: ObjectId,
    session: &'r KafkaSession,
    partitions: &'r [TopicPartition],
}

/// What of a batch is read again.
struct Reread<'r> {
    /// The position before it.
    from: Option<&'r Value>,
    until: &'r BTreeMap<TopicPartition, i64>,
    lacking: &'r BTreeSet<String>,
    /// Messages that it has set aside.
    known: &'r BTreeSet<(TopicPartition, i64)>,
}

fn tables_of(
    plan: &TopicPlan,
    fan: &FanPlan,
    records: Vec<CaptureRecord>,
) -> BTreeMap<String, FanTable> {
    let records = records.into_iter().filter_map(|record| {
        let table = FanTable::recorded(&plan.rows, fan, &record.source, &record.state)?;
        Some((record.source, table))
    });
    records.collect()
}

/// The tables that a batch has rows for.
fn names_in(position: &Value) -> Vec<String> {
    let names = position["tables"].as_array().into_iter().flatten();
    let names = names.filter_map(Value::as_str).map(str::to_owned);
    names.collect()
}

fn offsets_in(position: &Value) -> BTreeMap<TopicPartition, i64> {
    let partitions = partitions_of(Some(position)).into_iter();
    let offsets =
        partitions.filter_map(|(partition, one)| Some((partition, one["next"].as_i64()?)));
    offsets.collect()
}

fn partitions_in(position: &Value) -> Vec<TopicPartition> {
    offsets_in(position).into_keys().collect()
}

/// Where every table is, by a settled position; nothing if it is of other tables.
fn marks_of(fan: &FanOut<'_>, position: Option<&Value>) -> BTreeMap<TopicPartition, i64> {
    match position.filter(|position| position["into"] == fan.target_schema()) {
        Some(position) => offsets_in(position),
        None => BTreeMap::new(),
    }
}

/// Messages of a batch that only some tables have are not to be had any more.
fn left(pipeline: &str, partition: &TopicPartition) -> SqlError {
    SqlError::new(
        SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
        format!("partition {partition} is not read any more, and some tables lack messages of it"),
    )
    .detail("the server was stopped between the commits of two tables")
    .hint(offsets::skip_hint(pipeline))
}

fn away(message: &str) -> SqlError {
    SqlError::new(SqlState::CONNECTION_FAILURE, message).retryable()
}
