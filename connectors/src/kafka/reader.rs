//! Reads partitions from given offsets on, in a thread of its own, into blocks in a bounded queue.
//!
//! ```text
//! broker threads of the library -> a queue per partition -> this thread -> blocks -> whoever reads
//! ```
//!
//! Each partition has a queue of its own, so that its end is told from that of another topic's partition of the same
//! number, and each gets its turns. Offsets of one partition come in their order, and none is left out but those that
//! no message can be read at: of aborted transactions, of transactions' marks, of what was compacted.
//!
//! A block is handed over when it is full or when nothing more waits. A reader that is not read from stops reading
//! once the blocks in the queue and the messages fetched ahead have the bytes they may have. Dropping it ends the thread.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc as sync_mpsc};
use std::time::{Duration, Instant};

use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers, Message as _};
use rdkafka::{Offset, TopicPartitionList};
use tokio::sync::mpsc;

use super::cluster::{NO_TOKEN, broke_off, failed};
use super::context::{Context, Figures};
use super::{KafkaCluster, TopicPartition};
use crate::error::{ConnectorError, sqlstate};
use crate::message::{MessageBlock, MessageBlockBuilder};

/// Blocks that wait to be taken.
const QUEUE_BLOCKS_MAX: usize = 2;

/// A block is full with that many messages, or that many bytes.
const BLOCK_MESSAGES_MAX: usize = 16_384;
const BLOCK_BYTES_MAX: usize = 4 << 20;

/// Messages of one partition before the next has its turn.
const TURN_MESSAGES_MAX: usize = 1024;

/// Messages fetched ahead, of all partitions.
const AHEAD_BYTES_MAX: usize = 40 << 20;
const AHEAD_BYTES_PER_PARTITION_MAX: usize = 8 << 20;
const AHEAD_BYTES_PER_PARTITION_MIN: usize = 256 << 10;

/// How long the thread sleeps when nothing comes, and how long it lets messages gather when one came.
const IDLE: Duration = Duration::from_millis(100);
const GATHER: Duration = Duration::from_millis(4);

/// The client waits no longer than 10 seconds between two logins. What goes on for two minutes does not pass.
const LOGINS_APART: Duration = Duration::from_secs(15);
const LOGINS_BROKEN_MAX: Duration = Duration::from_secs(120);

/// How a reader reads.
#[derive(Debug, Clone)]
pub struct ReaderOptions {
    /// The group whose offsets are reported.
    pub group: String,
    /// Messages of one block at most.
    pub block_messages_max: usize,
}

/// Where the partitions stand at the cluster, as far as the reader knows.
#[derive(Debug, Clone, Default)]
pub struct ReaderStatus {
    /// What can be read of each partition ends here.
    pub ends: HashMap<TopicPartition, i64>,
    /// What keeps the reader from reading, and may pass.
    pub trouble: Option<String>,
}

/// Messages of partitions, in blocks.
pub struct MessageReader {
    blocks: mpsc::Receiver<Result<MessageBlock, ConnectorError>>,
    shared: Arc<Shared>,
    reports: sync_mpsc::SyncSender<BTreeMap<TopicPartition, i64>>,
    thread: std::thread::Thread,
}

struct Shared {
    stop: AtomicBool,
    status: Mutex<ReaderStatus>,
}

impl Drop for MessageReader {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.thread.unpark();
    }
}

impl MessageReader {
    /// The next block; `None` when the reader has ended. Dropping the future loses none.
    pub async fn next(&mut self) -> Result<Option<MessageBlock>, ConnectorError> {
        self.blocks.recv().await.transpose()
    }

    /// Where the partitions stand.
    pub fn status(&self) -> ReaderStatus {
        let status = &self.shared.status;
        status
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Reports offsets to the group, for tools that look at it. What becomes of it is of no consequence.
    pub fn report(&self, offsets: BTreeMap<TopicPartition, i64>) {
        // One that still waits will do.
        let _ = self.reports.try_send(offsets);
        self.thread.unpark();
    }
}

impl KafkaCluster {
    /// Reads partitions from these offsets on. The partitions of blocks are numbered in their order.
    pub fn read(
        &self,
        from: &BTreeMap<TopicPartition, i64>,
        options: &ReaderOptions,
    ) -> Result<MessageReader, ConnectorError> {
        let ahead = (AHEAD_BYTES_MAX / from.len().max(1))
            .clamp(AHEAD_BYTES_PER_PARTITION_MIN, AHEAD_BYTES_PER_PARTITION_MAX);
        let mut config = self.config();
        config
            .set("group.id", &options.group)
            .set("enable.partition.eof", "true")
            .set("statistics.interval.ms", "1000")
            // Partitions are assigned by hand: nobody waits for this client to come back.
            .set("max.poll.interval.ms", "86400000")
            .set("fetch.wait.max.ms", "100")
            .set("fetch.error.backoff.ms", "100")
            // As long the brokers are not asked for more of a partition whose queue was full a moment ago.
            .set("fetch.queue.backoff.ms", "2")
            .set("fetch.max.bytes", (8 << 20).to_string())
            .set("fetch.message.max.bytes", ahead.min(4 << 20).to_string())
            .set("queued.min.messages", "100000")
            .set("queued.max.messages.kbytes", (ahead >> 10).to_string());
        let consumer: Arc<BaseConsumer<Context>> = Arc::new(self.client(&config)?);
        let (sender, blocks) = mpsc::channel(QUEUE_BLOCKS_MAX);
        let (reports, asked) = sync_mpsc::sync_channel(1);
        let shared = Arc::new(Shared {
            stop: AtomicBool::new(false),
            status: Mutex::default(),
        });
        let mut work = Work {
            brokers: self.brokers.clone(),
            consumer,
            queues: Vec::new(),
            partitions: from.keys().cloned().collect(),
            sender,
            shared: Arc::clone(&shared),
            asked,
            builder: MessageBlockBuilder::default(),
            messages_max: options.block_messages_max.clamp(1, BLOCK_MESSAGES_MAX),
            trouble_since: None,
            broken: None,
        };
        let from = from.clone();
        let thread = std::thread::Builder::new()
            .name("kafka-reader".to_owned())
            .spawn(move || {
                if let Err(error) = work.run(&from) {
                    // Nobody may be left to hear it.
                    let _ = work.sender.blocking_send(Err(error));
                }
            })
            .map_err(|error| {
                ConnectorError::new(sqlstate::INTERNAL_ERROR, "could not start a thread")
                    .caused_by(error)
            })?;
        Ok(MessageReader {
            blocks,
            shared,
            reports,
            thread: thread.thread().clone(),
        })
    }
}

/// What the thread works with.
struct Work {
    brokers: String,
    consumer: Arc<BaseConsumer<Context>>,
    queues: Vec<PartitionQueue<Context>>,
    partitions: Vec<TopicPartition>,
    sender: mpsc::Sender<Result<MessageBlock, ConnectorError>>,
    shared: Arc<Shared>,
    asked: sync_mpsc::Receiver<BTreeMap<TopicPartition, i64>>,
    builder: MessageBlockBuilder,
    messages_max: usize,
    trouble_since: Option<Instant>,
    /// When the first and the last login broke off, of those that did one after the other.
    broken: Option<(Instant, Instant)>,
}

/// Whoever reads is gone, or asked to stop.
struct Stopped;

impl Work {
    fn run(&mut self, from: &BTreeMap<TopicPartition, i64>) -> Result<(), ConnectorError> {
        let unusable = |error: KafkaError| {
            ConnectorError::new(sqlstate::INTERNAL_ERROR, "partitions could not be assigned")
                .caused_by(error)
        };
        let mut assigned = TopicPartitionList::new();
        let reader = std::thread::current();
        for (partition, offset) in from {
            // Taken apart before it is assigned: no message comes by way of the common queue.
            let queue = self
                .consumer
                .split_partition_queue(&partition.topic, partition.partition);
            let mut queue = queue.ok_or_else(|| {
                ConnectorError::new(
                    sqlstate::INTERNAL_ERROR,
                    format!("partition {partition} has no queue"),
                )
            })?;
            let reader = reader.clone();
            queue.set_nonempty_callback(move || reader.unpark());
            self.queues.push(queue);
            let offset = Offset::Offset(*offset);
            assigned
                .add_partition_offset(&partition.topic, partition.partition, offset)
                .map_err(unusable)?;
        }
        self.consumer.assign(&assigned).map_err(unusable)?;
        while !self.shared.stop.load(Ordering::Relaxed) {
            self.serve()?;
            let figures = self.consumer.context().take_figures();
            let Ok(any) = self.round(figures.as_ref())? else {
                break;
            };
            if self.flush().is_err() {
                break;
            }
            if any {
                std::thread::sleep(GATHER);
            } else {
                std::thread::park_timeout(IDLE);
            }
        }
        Ok(())
    }

    /// What the client has to say besides messages, and what it is to report.
    fn serve(&mut self) -> Result<(), ConnectorError> {
        while let Some(event) = self.consumer.poll(Duration::ZERO) {
            match event {
                Ok(message) => {
                    // None comes here: every partition has its queue.
                    tracing::warn!(topic = message.topic(), "a message came by another way");
                    return Err(ConnectorError::new(
                        sqlstate::INTERNAL_ERROR,
                        "a message came by another way than its partition's queue",
                    )
                    .retryable());
                }
                Err(error) => self.trouble(&error)?,
            }
        }
        while let Ok(offsets) = self.asked.try_recv() {
            let mut reported = TopicPartitionList::new();
            for (partition, offset) in offsets {
                let offset = Offset::Offset(offset);
                let _ =
                    reported.add_partition_offset(&partition.topic, partition.partition, offset);
            }
            if let Err(error) = self.consumer.commit(&reported, CommitMode::Async) {
                tracing::debug!(%error, "offsets were not reported to the group");
            }
        }
        Ok(())
    }

    /// One turn of every partition. Tells whether there was anything.
    fn round(
        &mut self,
        figures: Option<&HashMap<TopicPartition, Figures>>,
    ) -> Result<Result<bool, Stopped>, ConnectorError> {
        let mut any = false;
        if let Some(figures) = figures {
            self.note(figures);
        }
        let mut more = true;
        while more {
            more = false;
            for index in 0..self.queues.len() {
                let number = u32::try_from(index).unwrap_or(u32::MAX);
                let mut taken = 0;
                let drained = loop {
                    if taken == TURN_MESSAGES_MAX || self.builder.messages() >= self.messages_max {
                        break false;
                    }
                    // What was taken is copied, so that the queue can be let go of.
                    match self.queues[index].poll(Duration::ZERO) {
                        None => break true,
                        Some(Ok(message)) => {
                            taken += 1;
                            append(&mut self.builder, number, &message);
                        }
                        Some(Err(KafkaError::PartitionEOF(_))) => {
                            any = true;
                            self.builder.end(number, None);
                        }
                        Some(Err(error)) => {
                            let partition = self.partitions[index].clone();
                            self.partition_trouble(&partition, &error)?;
                        }
                    }
                };
                any |= taken > 0;
                more |= !drained;
                // All that was there when the figures were made has been taken.
                if drained
                    && let Some(figures) = figures
                    && let Some(found) = figures.get(&self.partitions[index])
                    && found.end_met >= 0
                {
                    self.builder.end(number, Some(found.end_met));
                }
                let is_full = self.builder.messages() >= self.messages_max
                    || self.builder.bytes() >= BLOCK_BYTES_MAX;
                if is_full && self.flush().is_err() {
                    return Ok(Err(Stopped));
                }
            }
            if self.shared.stop.load(Ordering::Relaxed) {
                return Ok(Err(Stopped));
            }
            // Errors and figures are not to wait for an end of the messages.
            self.serve()?;
        }
        Ok(Ok(any))
    }

    fn flush(&mut self) -> Result<(), Stopped> {
        if self.builder.is_empty() {
            return Ok(());
        }
        if self.builder.messages() > 0 {
            self.clear_trouble();
        }
        let block = self.builder.take();
        self.sender.blocking_send(Ok(block)).map_err(|_| Stopped)
    }

    fn note(&self, figures: &HashMap<TopicPartition, Figures>) {
        let mut status = self
            .shared
            .status
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for partition in &self.partitions {
            if let Some(found) = figures.get(partition).filter(|found| found.end >= 0) {
                status.ends.insert(partition.clone(), found.end);
            }
        }
    }

    fn clear_trouble(&mut self) {
        if self.trouble_since.take().is_some() {
            let mut status = self
                .shared
                .status
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            status.trouble = None;
        }
    }

    /// An error of the client as a whole. The client mends connections by itself.
    fn trouble(&mut self, error: &KafkaError) -> Result<(), ConnectorError> {
        let Some(code) = error.rdkafka_error_code() else {
            return Ok(());
        };
        let reason = self.consumer.context().take_failure();
        let reason = reason.map_or_else(|| code.to_string(), |(_, reason)| reason);
        match code {
            RDKafkaErrorCode::Authentication if broke_off(&reason) => self.login_broken(&reason),
            RDKafkaErrorCode::Authentication if reason.contains(NO_TOKEN) => {
                Err(failed(&self.brokers, code, &reason))
            }
            // It was let in when it began: who is to stay out is told so when it begins anew.
            RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SaslAuthenticationFailed => {
                Err(failed(&self.brokers, code, &reason).retryable())
            }
            RDKafkaErrorCode::SSL | RDKafkaErrorCode::Fatal => {
                Err(failed(&self.brokers, code, &reason))
            }
            // Only reports to the group need it.
            RDKafkaErrorCode::GroupAuthorizationFailed => Ok(()),
            _ => {
                tracing::debug!(%error, reason, "kafka reader");
                if code == RDKafkaErrorCode::AllBrokersDown {
                    self.trouble_since.get_or_insert_with(Instant::now);
                    let told = failed(&self.brokers, code, &reason);
                    let mut status = self
                        .shared
                        .status
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner);
                    status.trouble = Some(told.message);
                }
                Ok(())
            }
        }
    }

    /// The client logs in again by itself. Where that goes on and on, some partitions may not be read for it.
    fn login_broken(&mut self, reason: &str) -> Result<(), ConnectorError> {
        tracing::debug!(reason, "kafka reader");
        let now = Instant::now();
        let (first, _) = self
            .broken
            .filter(|(_, last)| now.duration_since(*last) < LOGINS_APART)
            .unwrap_or((now, now));
        self.broken = Some((first, now));
        match now.duration_since(first) < LOGINS_BROKEN_MAX {
            true => Ok(()),
            false => Err(failed(
                &self.brokers,
                RDKafkaErrorCode::Authentication,
                reason,
            )),
        }
    }

    /// An error of one partition.
    fn partition_trouble(
        &mut self,
        partition: &TopicPartition,
        error: &KafkaError,
    ) -> Result<(), ConnectorError> {
        let Some(code) = error.rdkafka_error_code() else {
            return Err(ConnectorError::new(
                sqlstate::CONNECTION_FAILURE,
                format!("partition {partition} could not be read: {error}"),
            )
            .retryable());
        };
        match code {
            RDKafkaErrorCode::BrokerTransportFailure
            | RDKafkaErrorCode::AllBrokersDown
            | RDKafkaErrorCode::RequestTimedOut
            | RDKafkaErrorCode::OperationTimedOut => self.trouble(error),
            // What is missing is found out and told when reading begins anew.
            RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange => {
                Err(ConnectorError::new(
                    sqlstate::UNDEFINED_OBJECT,
                    format!(
                        "partition {partition} no longer has the offset that is to be read next"
                    ),
                )
                .retryable())
            }
            _ => Err(failed(
                &self.brokers,
                code,
                &format!("partition {partition}: {code}"),
            )),
        }
    }
}

fn append(builder: &mut MessageBlockBuilder, partition: u32, message: &BorrowedMessage<'_>) {
    let timestamp = message.timestamp().to_millis().unwrap_or(-1);
    builder.begin(partition, message.offset(), timestamp);
    if let Some(key) = message.key() {
        builder.key(key);
    }
    if let Some(payload) = message.payload() {
        builder.payload(payload);
    }
    if let Some(headers) = message.headers() {
        for header in headers.iter() {
            builder.header(header.key, header.value);
        }
    }
    builder.finish_message();
}
