//! One of the tables: what is held for it, and how that becomes rows of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use boathouse_catalog::definitions::ObjectId;
use boathouse_catalog::state::Capture;
use boathouse_connectors::kafka::TopicPartition;
use boathouse_connectors::message::{Message, MessageBlock, MessageBlockBuilder};
use boathouse_sql::name::quote_identifier;
use boathouse_sql::statement::OnSchemaChange;
use serde_json::{Value, json};

use super::super::super::capture::TableStatus;
use super::super::super::check::Checks;
use super::super::super::load::PIPELINE_TAG;
use super::super::super::quarantine::{Messages, QuarantineWriter, Rejected};
use super::super::super::row_plan::RowPlan;
use super::super::super::rows::{Ready, Rows, as_source, count, without_unfit};
use super::super::super::run::application;
use super::super::super::schema::SourceSchema;
use super::super::super::target::Target;
use super::super::super::transform::{Transform, adds_columns};
use super::super::decode::{Decoded, Decoding};
use super::super::offsets::{self, application_of};
use super::super::plan::{FanPlan, TopicPlan};
use super::super::pump::failure;
use super::route::{routing_stamp, with_mentioned};
use crate::error::{SqlError, SqlState};
use crate::lake::{AppendWriter, WrittenFile};

/// Messages, and bytes of them, that are decoded together.
const BLOCK_MESSAGES_MAX: usize = 16 << 10;
const BLOCK_BYTES_MAX: usize = 4 << 20;

/// What the bookkeeping of a message takes besides its bytes.
const MESSAGE_OVERHEAD: usize = 128;

/// What the rows of a table are made by, for the columns its messages have now.
struct Shape {
    transform: Arc<Transform>,
    expectations: Arc<Checks>,
}

/// A table, and what the next commit holds for it.
pub(super) struct FanTable {
    /// What stands in the column of its rows.
    pub value: String,
    /// The value is one of the statement as it is now; else the next one that makes the name takes it.
    is_claimed: bool,
    name: String,
    /// Tells whether values are still made in the same way.
    routing: String,
    /// What is asked of its rows: of the expectations those that name columns it has.
    pub plan: Arc<RowPlan>,
    /// The columns of its messages.
    pub source: SourceSchema,
    /// The table by what is on record.
    recorded: Option<Value>,
    target: Option<ObjectId>,
    shape: Option<Shape>,
    /// Planned for the columns of `shape`.
    is_prepared: bool,
    pub ready: Option<Ready>,
    pub lands: Option<BTreeSet<String>>,
    is_open: bool,
    /// The newest sequence of the pipeline that it has.
    pub mark: Option<i64>,
    /// Up to which offset it has each partition.
    pub marks: BTreeMap<TopicPartition, i64>,
    held: MessageBlockBuilder,
    blocks: Vec<MessageBlock>,
    writer: Option<(SchemaRef, AppendWriter)>,
    pub adds: Vec<WrittenFile>,
    rows: u64,
}

impl FanTable {
    pub fn new(rows: &RowPlan, fan: &FanPlan, name: &str, value: &str) -> Self {
        let mut plan = rows.clone();
        plan.target_name = name.to_owned();
        // What the pipeline adds to every row is in every table; of other columns a table gets those in which its rows have values.
        let lands = adds_columns(plan.on_schema_change).then(|| {
            let always = plan.metadata_names().into_iter().map(str::to_owned);
            always.chain([fan.by.clone()]).collect()
        });
        Self {
            value: value.to_owned(),
            is_claimed: true,
            routing: routing_stamp(rows, &fan.by),
            name: name.to_owned(),
            plan: Arc::new(plan),
            source: SourceSchema::default(),
            recorded: None,
            target: None,
            shape: None,
            is_prepared: false,
            ready: None,
            lands,
            is_open: false,
            mark: None,
            marks: BTreeMap::new(),
            held: MessageBlockBuilder::default(),
            blocks: Vec::new(),
            writer: None,
            adds: Vec::new(),
            rows: 0,
        }
    }

    /// One that is on record; `None` when the record is of another schema's table.
    pub fn recorded(rows: &RowPlan, fan: &FanPlan, name: &str, state: &Value) -> Option<Self> {
        if state["schema"].as_str() != Some(rows.target_schema.as_str()) {
            return None;
        }
        let mut table = Self::new(rows, fan, name, state["value"].as_str()?);
        table.target = state["fan_target"].as_i64().map(ObjectId);
        table.is_claimed = state["routing"].as_str() == Some(table.routing.as_str());
        if state["stamp"].as_str() == Some(rows.format_stamp.as_str()) {
            table.source = SourceSchema::from_json(&state["source"]);
        }
        table.recorded = Some(state.clone());
        Some(table)
    }

    /// What to put on record, if it is not there.
    pub fn record(&mut self) -> Option<Capture> {
        let target = self.ready.as_ref()?.target.definition.id;
        self.target = Some(target);
        let state = json!({
            "fan_target": target.0,
            "schema": self.plan.target_schema,
            "value": self.value,
            "routing": self.routing,
            "source": self.source.to_json(),
            "stamp": self.plan.format_stamp,
        });
        if self.recorded.as_ref() == Some(&state) {
            return None;
        }
        self.recorded = Some(state.clone());
        Some(Capture {
            source: self.name.clone(),
            state,
            next: None,
        })
    }

    /// Whether the value is the one whose rows it has. Another makes the same name.
    pub fn is_of(&mut self, value: &str) -> bool {
        if !std::mem::replace(&mut self.is_claimed, true) {
            self.value = value.to_owned();
        }
        self.value == value
    }

    /// Forgets the marks, so that those of all partitions are read.
    pub fn close(&mut self) {
        self.is_open = false;
        self.mark = None;
        self.marks.clear();
    }

    /// Whether it is, or is to be, a table.
    pub fn is_landed(&self) -> bool {
        self.recorded.is_some() || self.ready.is_some()
    }

    /// The table it is writing to.
    pub fn written_to(&self) -> Option<ObjectId> {
        Some(self.ready.as_ref()?.target.definition.id)
    }

    pub fn status(&self) -> Option<TableStatus> {
        Some(TableStatus {
            source: self.value.clone(),
            target: self.written_to().or(self.target)?,
            state: "streaming",
            snapshot_rows: 0,
            snapshot_rows_estimate: 0,
            changes: self.rows,
        })
    }

    /// Holds a message. Gives the bytes that takes.
    pub fn hold(&mut self, message: &Message<'_>) -> usize {
        let before = self.held.bytes();
        self.held
            .begin(message.partition, message.offset, message.timestamp);
        if let Some(key) = message.key {
            self.held.key(key);
        }
        if let Some(payload) = message.payload {
            self.held.payload(payload);
        }
        self.held.finish_message_with(message.headers);
        let bytes = self.held.bytes() - before;
        if self.held.messages() >= BLOCK_MESSAGES_MAX || self.held.bytes() >= BLOCK_BYTES_MAX {
            self.close_block();
        }
        bytes + MESSAGE_OVERHEAD
    }

    fn close_block(&mut self) {
        let held = std::mem::take(&mut self.held);
        if !held.is_empty() {
            self.blocks.push(held.finish());
        }
    }

    /// Writes what is held into data files.
    pub async fn flush(
        &mut self,
        plan: &TopicPlan,
        tally: &mut Rows<'_>,
        decoding: &Decoding,
        quarantine: &mut QuarantineWriter,
    ) -> Result<(), SqlError> {
        self.close_block();
        if self.blocks.is_empty() {
            return Ok(());
        }
        self.open(tally.pipeline, decoding).await?;
        for block in std::mem::take(&mut self.blocks) {
            let (known, new) = self.split(block, decoding);
            // What it has is only judged: it may have been set aside by a batch that came to nothing.
            if let Some(known) = known {
                self.take(plan, tally, decoding, (known, false), quarantine)
                    .await?;
            }
            if let Some(new) = new {
                self.take(plan, tally, decoding, (new, true), quarantine)
                    .await?;
            }
        }
        self.close_writer(tally.pipeline).await
    }

    /// Reads the marks of the table, if it is there.
    pub async fn open(&mut self, pipeline: ObjectId, decoding: &Decoding) -> Result<(), SqlError> {
        if std::mem::replace(&mut self.is_open, true) {
            return Ok(());
        }
        let Some(target) = Target::find(&self.plan).await? else {
            return Ok(());
        };
        let snapshot = target.table.snapshot(None).await?;
        self.mark = snapshot.transaction(&application(pipeline)).await?;
        if self.mark.is_none() {
            return Ok(());
        }
        for (topic, partition) in decoding.partitions.iter() {
            let partition = TopicPartition {
                topic: topic.clone(),
                partition: *partition,
            };
            let name = application_of(pipeline, &partition);
            if let Some(mark) = snapshot.transaction(&name).await? {
                self.marks.insert(partition, mark);
            }
        }
        Ok(())
    }

    /// The messages that the table has by its marks, and the others.
    fn split(
        &self,
        block: MessageBlock,
        decoding: &Decoding,
    ) -> (Option<Arc<MessageBlock>>, Option<Arc<MessageBlock>>) {
        let marks: Vec<i64> = decoding
            .partitions
            .iter()
            .map(|(topic, partition)| {
                let partition = TopicPartition {
                    topic: topic.clone(),
                    partition: *partition,
                };
                self.marks.get(&partition).copied().unwrap_or(i64::MIN)
            })
            .collect();
        let has = |message: &Message<'_>| {
            let mark = marks.get(message.partition as usize);
            mark.is_some_and(|mark| message.offset < *mark)
        };
        if !block.iter().any(|message| has(&message)) {
            return (None, Some(Arc::new(block)));
        }
        let mut known = MessageBlockBuilder::default();
        for message in block.iter().filter(|message| has(message)) {
            known.begin(message.partition, message.offset, message.timestamp);
            message.key.into_iter().for_each(|key| known.key(key));
            let payload = message.payload.into_iter();
            payload.for_each(|payload| known.payload(payload));
            known.finish_message_with(message.headers);
        }
        let new = block.filtered(|message| !has(message));
        let new = (!new.is_empty()).then(|| Arc::new(new));
        (Some(Arc::new(known.finish())), new)
    }

    /// Makes rows of messages; those that are new are written.
    async fn take(
        &mut self,
        plan: &TopicPlan,
        tally: &mut Rows<'_>,
        decoding: &Decoding,
        (block, is_new): (Arc<MessageBlock>, bool),
        quarantine: &mut QuarantineWriter,
    ) -> Result<(), SqlError> {
        let decoded = self.decode(plan, &tally.source, decoding, block).await?;
        quarantine.take_from(Messages {
            block: Arc::clone(&decoded.block),
            partitions: Arc::clone(&decoding.partitions),
        });
        let rejected = decoded.rejected.iter();
        let rejected = rejected
            .map(|one| Rejected::of_message(one.message, &one.sqlstate, one.reason.clone()))
            .collect();
        tally.set_aside(rejected, quarantine).await?;
        let columns = self.columns(&tally.source);
        let (transform, expectations) = self.shape(plan, tally, &columns).await?;
        let source = as_source(&transform, &decoded.rows)?;
        let row_plan = Arc::clone(&self.plan);
        let mut rows = Rows::new(
            &row_plan,
            tally.pipeline,
            tally.run,
            columns,
            tally.counters,
        );
        rows.ready = self.ready.take();
        rows.lands = self.lands.take();
        let kept = self
            .judge(
                &mut rows,
                (&transform, &expectations),
                source,
                is_new,
                quarantine,
            )
            .await;
        self.ready = rows.ready.take();
        self.lands = rows.lands.take();
        tally.counters = rows.counters;
        tally.add_warnings(std::mem::take(&mut rows.messages));
        for rows in kept? {
            self.write(tally.pipeline, &rows).await?;
        }
        Ok(())
    }

    /// The rows of the table that are to be written.
    async fn judge(
        &mut self,
        rows: &mut Rows<'_>,
        (transform, expectations): (&Transform, &Checks),
        source: RecordBatch,
        is_new: bool,
        quarantine: &mut QuarantineWriter,
    ) -> Result<Vec<RecordBatch>, SqlError> {
        let (source, unfit) = without_unfit(transform, source)?;
        rows.set_aside(unfit, quarantine).await?;
        let parts = rows
            .expected(transform, expectations, &source, quarantine)
            .await
            .map_err(failure)?;
        let any = parts.iter().any(|(rows, _)| rows.num_rows() > 0);
        if !any || (!is_new && rows.ready.is_none()) {
            return Ok(Vec::new());
        }
        rows.land(&parts)?;
        if rows.ready.is_none() || !self.is_prepared {
            rows.prepare().await?;
            self.is_prepared = true;
        }
        let before = rows.counters.rows_out;
        let kept = rows.fitting(parts, &source, quarantine).await;
        let kept = kept.map_err(failure)?;
        if !is_new {
            rows.counters.rows_out = before;
            return Ok(Vec::new());
        }
        Ok(kept.into_iter().map(|(rows, _)| rows).collect())
    }

    /// Decodes a block by the columns of the table's messages, which grow by it.
    async fn decode(
        &mut self,
        plan: &TopicPlan,
        routing: &SourceSchema,
        decoding: &Decoding,
        block: Arc<MessageBlock>,
    ) -> Result<Decoded, SqlError> {
        let mut decoding = decoding.clone();
        decoding.schema.keep_unknown = true;
        let infers = plan.rows.declared.is_none();
        if let Some(declared) = &plan.rows.declared {
            self.source.clone_from(declared);
        }
        if infers && self.source.is_empty() {
            self.infer(&decoding, &block).await?;
        }
        decoding.schema.columns = self.columns(routing).arrow();
        let decoded = decoding.clone().decode(Arc::clone(&block)).await?;
        let policy = plan.rows.on_schema_change;
        if !infers || !decoded.has_unknown || policy == OnSchemaChange::Rescue {
            return Ok(decoded);
        }
        let added = self.infer(&decoding, &block).await?;
        if added.is_empty() {
            return Ok(decoded);
        }
        if policy == OnSchemaChange::Fail {
            return Err(SqlError::new(
                SqlState::UNDEFINED_COLUMN,
                format!(
                    "messages of \"{}\" have new columns: \"{}\"",
                    self.value,
                    added.join("\", \"")
                ),
            )
            .hint("ON SCHEMA CHANGE ADD COLUMNS takes them up"));
        }
        decoding.schema.columns = self.columns(routing).arrow();
        decoding.decode(block).await
    }

    /// Takes up the columns of messages that are replayed, if it takes up any.
    pub async fn learn(
        &mut self,
        plan: &TopicPlan,
        decoding: &Decoding,
        block: &Arc<MessageBlock>,
    ) -> Result<(), SqlError> {
        match &plan.rows.declared {
            Some(declared) => self.source.clone_from(declared),
            None if self.source.is_empty() || adds_columns(plan.rows.on_schema_change) => {
                self.infer(decoding, block).await?;
            }
            None => {}
        }
        Ok(())
    }

    /// Takes up the columns of a block. Gives the names of those that are new.
    async fn infer(
        &mut self,
        decoding: &Decoding,
        block: &Arc<MessageBlock>,
    ) -> Result<Vec<String>, SqlError> {
        let Some(found) = decoding.clone().infer(Arc::clone(block)).await? else {
            return Ok(Vec::new());
        };
        let added = self.source.add(&SourceSchema::of(&found));
        if !added.is_empty() {
            self.shape = None;
        }
        Ok(added)
    }

    /// The columns its messages are decoded by. A query finds those it names, though other tables' messages have them.
    pub fn columns(&self, routing: &SourceSchema) -> SourceSchema {
        match self.plan.query {
            Some(_) => with_mentioned(&self.source, routing),
            None => self.source.clone(),
        }
    }

    /// What its rows are made by.
    pub async fn shape(
        &mut self,
        plan: &TopicPlan,
        tally: &mut Rows<'_>,
        columns: &SourceSchema,
    ) -> Result<(Arc<Transform>, Arc<Checks>), SqlError> {
        if let Some(shape) = &self.shape {
            let expectations = Arc::clone(&shape.expectations);
            return Ok((Arc::clone(&shape.transform), expectations));
        }
        self.is_prepared = false;
        let mut own = RowPlan::clone(&self.plan);
        let transform = Transform::plan(&own, columns, &[]).await?;
        // A rule about columns that these messages never had is about others.
        own.expectations.clear();
        for expectation in &plan.rows.expectations {
            let mut one = own.clone();
            one.expectations = vec![expectation.clone()];
            match Checks::plan(&one, transform.fields(), None) {
                Ok(_) => own.expectations.push(expectation.clone()),
                Err(error) if error.state == SqlState::UNDEFINED_COLUMN => {
                    let text = format!(
                        "expectation \"{}\" is not asked of rows of table {}: {}",
                        expectation.name,
                        quote_identifier(&self.name),
                        error.message
                    );
                    tally.add_warnings(vec![offsets::warning(text)]);
                }
                Err(error) => return Err(error),
            }
        }
        let expectations = Arc::new(Checks::plan(&own, transform.fields(), None)?);
        let transform = Arc::new(transform);
        self.plan = Arc::new(own);
        self.shape = Some(Shape {
            transform: Arc::clone(&transform),
            expectations: Arc::clone(&expectations),
        });
        Ok((transform, expectations))
    }

    async fn write(&mut self, pipeline: ObjectId, rows: &RecordBatch) -> Result<(), SqlError> {
        if rows.num_rows() == 0 {
            return Ok(());
        }
        let schema = rows.schema();
        if self.writer.as_ref().is_some_and(|(has, _)| *has != schema) {
            self.close_writer(pipeline).await?;
        }
        let ready = self.ready.as_ref();
        let ready = ready.ok_or_else(|| SqlError::internal("a table was not prepared"))?;
        let (_, writer) = match &mut self.writer {
            Some(writer) => writer,
            none => none.insert((schema, ready.writer()?)),
        };
        writer.write(rows).await?;
        self.rows += u64::try_from(count(rows.num_rows())).unwrap_or(0);
        Ok(())
    }

    async fn close_writer(&mut self, pipeline: ObjectId) -> Result<(), SqlError> {
        if let Some((_, writer)) = self.writer.take() {
            let id = pipeline.to_string();
            for mut file in writer.finish().await? {
                file.set_tag(PIPELINE_TAG, &id);
                self.adds.push(file);
            }
        }
        Ok(())
    }

    /// Throws away what is held and written.
    pub async fn abandon(&mut self) {
        self.held = MessageBlockBuilder::default();
        self.blocks.clear();
        if let Some((_, writer)) = self.writer.take() {
            writer.abandon().await;
        }
        let adds = std::mem::take(&mut self.adds);
        if let Some(ready) = &self.ready {
            ready.target.table.discard(adds).await;
        }
    }
}
