//! Writes messages to a topic, and tells when the brokers have them.
//!
//! ```text
//! send ─▶ the library's queue, bounded ─▶ brokers
//!   ▲ waits while it is full                 │ acknowledged by all replicas in sync
//!   └──────────── counted ◀──────────────────┘
//! ```
//!
//! Messages of one key go to one partition, the one that Java's producer would choose, and arrive there in the order they
//! were sent in, each once as long as this writer lives: the library's producer is idempotent. The first message that
//! cannot be delivered fails the writer; what was sent after it may or may not arrive. Dropping a writer forgets what is
//! still queued.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::client::{ClientContext, OAuthToken};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, PurgeConfig, ThreadedProducer};
use rdkafka::statistics::Statistics;
use tokio::sync::Notify;

use super::cluster::unusable;
use super::context::Context;
use super::{KafkaCluster, TopicPatterns};
use crate::error::{ConnectorError, sqlstate};

/// What waits to be acknowledged, at most.
const QUEUE_MESSAGES_MAX: usize = 100_000;
const QUEUE_KIBIBYTES_MAX: usize = 32 << 10;

/// A message may take half of the queue.
const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// How long messages gather that go together.
const LINGER: Duration = Duration::from_millis(5);

/// Whoever waits looks again after this, whatever happens.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// How a writer writes.
#[derive(Debug, Clone)]
pub struct WriterOptions {
    /// One of [`WriterOptions::COMPRESSIONS`].
    pub compression: &'static str,
    /// How long the brokers may take to acknowledge a message.
    pub timeout: Duration,
    /// Bytes of messages that go together at most, unless one alone has more. A topic refuses what is larger than it takes,
    /// message by message or together.
    pub batch_bytes: usize,
}

impl WriterOptions {
    pub const COMPRESSIONS: [&'static str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];
}

impl Default for WriterOptions {
    fn default() -> Self {
        Self {
            compression: "lz4",
            timeout: Duration::from_secs(60),
            batch_bytes: 256 << 10,
        }
    }
}

/// A message to be written.
#[derive(Debug, Clone, Copy, Default)]
pub struct OutgoingMessage<'m> {
    pub key: Option<&'m [u8]>,
    /// `None` for a tombstone.
    pub payload: Option<&'m [u8]>,
    pub headers: &'m [(&'m str, Option<&'m [u8]>)],
}

/// Writes to one topic.
pub struct MessageWriter {
    /// `None` once it is being dropped.
    producer: Option<ThreadedProducer<Deliveries>>,
    topic: String,
    brokers: String,
    told: Arc<Told>,
    sent: AtomicU64,
}

/// What became of messages.
#[derive(Default)]
struct Told {
    acknowledged: AtomicU64,
    failed: AtomicU64,
    first_failure: Mutex<Option<KafkaError>>,
    news: Notify,
}

/// Told by the library of what it delivers.
struct Deliveries {
    context: Context,
    told: Arc<Told>,
}

impl ClientContext for Deliveries {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.context.log(level, facility, message);
    }

    fn stats(&self, statistics: Statistics) {
        self.context.stats(statistics);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.context.error(error, reason);
    }

    fn generate_oauth_token(
        &self,
        configuration: Option<&str>,
    ) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        self.context.generate_oauth_token(configuration)
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): Self::DeliveryOpaque) {
        match result {
            Ok(_) => {
                self.told.acknowledged.fetch_add(1, Ordering::Release);
            }
            Err((error, _)) => {
                let mut first = self
                    .told
                    .first_failure
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner);
                first.get_or_insert_with(|| error.clone());
                drop(first);
                self.told.failed.fetch_add(1, Ordering::Release);
            }
        }
        self.told.news.notify_waiters();
    }
}

impl KafkaCluster {
    /// A writer to a topic that exists.
    ///
    /// # Errors
    ///
    /// The brokers cannot be reached, or there is no such topic: none is made.
    pub async fn write(
        &self,
        topic: &str,
        options: &WriterOptions,
    ) -> Result<MessageWriter, ConnectorError> {
        check_topic_name(topic)?;
        let named = TopicPatterns::parse(&[topic.to_owned()], &[])?;
        if self.session()?.topics(&named).await?.is_empty() {
            return Err(ConnectorError::new(
                sqlstate::UNDEFINED_OBJECT,
                format!("topic \"{topic}\" does not exist, or may not be seen"),
            )
            .hint("make it with the tools of the cluster: its partitions and its retention are for its owner to choose"));
        }
        let mut config = self.config();
        config
            .set("acks", "all")
            .set("enable.idempotence", "true")
            // As Java's producer does it.
            .set("partitioner", "murmur2_random")
            .set("compression.type", options.compression)
            .set("batch.size", options.batch_bytes.to_string())
            .set("linger.ms", LINGER.as_millis().to_string())
            .set(
                "message.timeout.ms",
                options.timeout.as_millis().to_string(),
            )
            .set("message.max.bytes", MESSAGE_BYTES_MAX.to_string())
            .set(
                "queue.buffering.max.messages",
                QUEUE_MESSAGES_MAX.to_string(),
            )
            .set(
                "queue.buffering.max.kbytes",
                QUEUE_KIBIBYTES_MAX.to_string(),
            )
            .set("statistics.interval.ms", "0");
        let told = Arc::new(Told::default());
        let deliveries = Deliveries {
            context: self.context(),
            told: Arc::clone(&told),
        };
        let producer = config
            .create_with_context(deliveries)
            .map_err(|error| unusable(&error))?;
        Ok(MessageWriter {
            producer: Some(producer),
            topic: topic.to_owned(),
            brokers: self.brokers.clone(),
            told,
            sent: AtomicU64::new(0),
        })
    }
}

/// Refuses a text that no topic is called.
pub fn check_topic_name(topic: &str) -> Result<(), ConnectorError> {
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if (1..=249).contains(&topic.len()) && topic.bytes().all(is_name) {
        return Ok(());
    }
    Err(
        ConnectorError::option(format!("a topic cannot be called \"{topic}\""))
            .hint("names of topics have 1 to 249 letters, digits, dots, underscores and hyphens"),
    )
}

impl MessageWriter {
    /// Queues a message; waits while the queue is full.
    ///
    /// # Errors
    ///
    /// It cannot be sent, or one that was sent before could not be delivered.
    pub async fn send(&self, message: OutgoingMessage<'_>) -> Result<(), ConnectorError> {
        loop {
            let news = self.told.news.notified();
            if self.try_send(&message)? {
                return Ok(());
            }
            let _ = tokio::time::timeout(LOOK_AGAIN, news).await;
        }
    }

    /// Queues a message unless the queue is full. Whether it is queued.
    ///
    /// # Errors
    ///
    /// It cannot be sent, or one that was sent before could not be delivered.
    pub fn try_send(&self, message: &OutgoingMessage<'_>) -> Result<bool, ConnectorError> {
        let Some(producer) = &self.producer else {
            return Ok(true);
        };
        let mut record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(&self.topic);
        record.key = message.key;
        record.payload = message.payload;
        if !message.headers.is_empty() {
            let headers = OwnedHeaders::new_with_capacity(message.headers.len());
            let add = |headers: OwnedHeaders, (key, value): &(&str, Option<&[u8]>)| {
                headers.insert(Header { key, value: *value })
            };
            record.headers = Some(message.headers.iter().fold(headers, add));
        }
        self.check()?;
        match producer.send(record) {
            Ok(()) => {
                self.sent.fetch_add(1, Ordering::Relaxed);
                Ok(true)
            }
            Err((error, _)) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull) => {
                Ok(false)
            }
            Err((error, _)) => Err(self.failed(&error)),
        }
    }

    /// Waits until there may be room in the queue.
    pub async fn room(&self) {
        let _ = tokio::time::timeout(LOOK_AGAIN, self.told.news.notified()).await;
    }

    /// Gives up what waits to be sent.
    pub fn give_up(&self) {
        if let Some(producer) = &self.producer {
            producer.purge(PurgeConfig::default().queue());
        }
    }

    /// Waits until the brokers have every message that was sent.
    ///
    /// # Errors
    ///
    /// One of them could not be delivered.
    pub async fn flush(&self) -> Result<(), ConnectorError> {
        loop {
            let news = self.told.news.notified();
            self.check()?;
            if self.acknowledged() == self.sent.load(Ordering::Relaxed) {
                return Ok(());
            }
            let _ = tokio::time::timeout(LOOK_AGAIN, news).await;
        }
    }

    /// Messages that the brokers have.
    pub fn acknowledged(&self) -> u64 {
        self.told.acknowledged.load(Ordering::Acquire)
    }

    fn check(&self) -> Result<(), ConnectorError> {
        if self.told.failed.load(Ordering::Acquire) == 0 {
            return Ok(());
        }
        let first = &self.told.first_failure;
        let first = first.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match first {
            Some(error) => Err(self.failed(&error)),
            None => Ok(()),
        }
    }

    /// What an error means to somebody who can do something about it.
    fn failed(&self, error: &KafkaError) -> ConnectorError {
        use RDKafkaErrorCode as Code;
        let topic = &self.topic;
        let Some(code) = error.rdkafka_error_code() else {
            return ConnectorError::new(
                sqlstate::INTERNAL_ERROR,
                format!("a message to topic \"{topic}\" could not be sent"),
            )
            .caused_by(error.clone());
        };
        match code {
            Code::MessageSizeTooLarge | Code::InvalidMessageSize => ConnectorError::new(
                sqlstate::LIMIT_EXCEEDED,
                format!("a message, or messages that went together, are larger than topic \"{topic}\" takes"),
            )
            .hint("raise max.message.bytes of the topic, up to 16 MiB, or lower the option \"batch_bytes\" below it"),
            Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed => {
                ConnectorError::new(
                    sqlstate::INSUFFICIENT_PRIVILEGE,
                    format!("the brokers do not allow writing to topic \"{topic}\""),
                )
                .hint("the user needs the operations Write and Describe on the topic, and before Kafka 2.8 IdempotentWrite on the cluster")
            }
            Code::UnknownTopicOrPartition | Code::UnknownTopic => ConnectorError::new(
                sqlstate::UNDEFINED_OBJECT,
                format!("topic \"{topic}\" no longer exists"),
            )
            .retryable(),
            Code::MessageTimedOut => {
                let producer = self.producer.as_ref();
                let reason = producer.and_then(|one| one.client().context().context.take_failure());
                let told = ConnectorError::new(
                    sqlstate::CONNECTION_FAILURE,
                    format!("the brokers at {} did not acknowledge a message to topic \"{topic}\" in time", self.brokers),
                )
                .retryable();
                match reason {
                    Some((code, _)) => told.hint(format!("what the client met last: {code}")),
                    None => told,
                }
            }
            code => ConnectorError::new(
                sqlstate::CONNECTION_FAILURE,
                format!("a message to topic \"{topic}\" could not be delivered: {code}"),
            )
            .retryable(),
        }
    }
}

impl Drop for MessageWriter {
    fn drop(&mut self) {
        let producer = self.producer.take();
        // Ending a client waits for its threads.
        let ends = std::thread::Builder::new().name("kafka-writer-end".to_owned());
        if let Err(error) = ends.spawn(move || drop(producer)) {
            tracing::debug!(%error, "a producer was ended in place");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_no_topic_has_are_refused() {
        assert!(check_topic_name("shop.orders_2-a").is_ok());
        for name in ["", "a b", "order-.*", &"x".repeat(250)] {
            let error = check_topic_name(name).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("a topic cannot be called \"{name}\"")
            );
        }
    }
}
