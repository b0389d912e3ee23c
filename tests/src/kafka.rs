//! Kafka as a source: the broker that tests share, brokers of a test's own, and clients to both.
//!
//! A broker of a test's own is a child process that becomes the broker, so that `kill -9` hits it and nothing else. It
//! keeps its port and its data when it is started again, and loses both when it is dropped.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Header, Headers, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Message, Offset, TopicPartitionList};

use crate::{Failure, free_ports, repository, service};

/// A broker formats its storage before it answers, on a machine that does other things.
const START_TIMEOUT: Duration = Duration::from_secs(120);

const TIMEOUT: Duration = Duration::from_secs(30);

/// A broker to read from.
pub struct Broker {
    port: u16,
    own: Option<OwnBroker>,
}

struct OwnBroker {
    name: String,
    settings: Vec<String>,
    /// Where its output goes.
    log: tempfile::NamedTempFile,
    /// `None` while it is not running.
    child: Option<Child>,
}

impl Broker {
    /// The broker that all tests share.
    pub fn shared() -> Result<Self, Failure> {
        let at = service::kafka()?;
        let brokers = at.get("BROKERS").ok_or("the script tells no brokers")?;
        let port = brokers.rsplit_once(':').ok_or("the broker has no port")?.1;
        Ok(Self {
            port: port.parse()?,
            own: None,
        })
    }

    /// A broker of this test's own, new and empty, with further settings.
    pub async fn own(settings: &[&str]) -> Result<Self, Failure> {
        // The broker's, its controller's, and the one with SASL.
        let port = free_ports(3)?;
        let settings = settings.iter().map(|one| (*one).to_owned()).collect();
        let mut broker = Self::of(port, settings)?;
        broker.start().await?;
        Ok(broker)
    }

    /// A broker of this test's own at a port, not started yet. Its controller listens one port above.
    pub(crate) fn of(port: u16, settings: Vec<String>) -> Result<Self, Failure> {
        // Starting the shared one installs what both need.
        Self::shared()?;
        Ok(Self {
            port,
            own: Some(OwnBroker {
                name: format!("own-{}", uuid::Uuid::new_v4().simple()),
                settings,
                log: tempfile::NamedTempFile::new()?,
                child: None,
            }),
        })
    }

    /// Starts the test's own broker, with the data it had, and waits until it answers.
    pub async fn start(&mut self) -> Result<(), Failure> {
        self.spawn()?;
        self.wait_until_ready().await
    }

    /// Starts the test's own broker without waiting.
    pub(crate) fn spawn(&mut self) -> Result<(), Failure> {
        let script = repository().join("tests/services/kafka.sh");
        let port = self.port;
        let own = self.own.as_mut().ok_or("the shared broker is not ours")?;
        let output = own.log.reopen()?;
        let child = Command::new("bash")
            .arg(script)
            .args(["run", &own.name, &port.to_string()])
            .args(&own.settings)
            .env("BOATHOUSE_TEST_KAFKA_HEAP", "256m")
            .env("BOATHOUSE_TEST_KAFKA_COMPILER", "1")
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()?;
        own.child = Some(child);
        Ok(())
    }

    /// Waits until the test's own broker answers.
    pub(crate) async fn wait_until_ready(&mut self) -> Result<(), Failure> {
        let brokers = self.address();
        let own = self.own.as_mut().ok_or("the shared broker is not ours")?;
        let child = own.child.as_mut().ok_or("the broker does not run")?;
        let begun = Instant::now();
        loop {
            let answers = tokio::task::spawn_blocking({
                let brokers = brokers.clone();
                move || {
                    let consumer: BaseConsumer = client(&brokers).create()?;
                    consumer
                        .fetch_metadata(None, Duration::from_secs(2))
                        .map(drop)
                }
            });
            let error: KafkaError = match answers.await? {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            let ended = child.try_wait()?;
            if ended.is_some() || begun.elapsed() > START_TIMEOUT {
                let log = std::fs::read_to_string(own.log.path())?;
                return Err(format!("the broker did not start: {error}\n{log}").into());
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// `kill -9` of the test's own broker.
    pub fn kill(&mut self) -> Result<(), Failure> {
        let own = self.own.as_mut().ok_or("the shared broker is not ours")?;
        let mut child = own.child.take().ok_or("the broker does not run")?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// Has the test's own broker hand over what it leads and end, as an operator would.
    pub async fn terminate(&mut self) -> Result<(), Failure> {
        let own = self.own.as_mut().ok_or("the shared broker is not ours")?;
        let mut child = own.child.take().ok_or("the broker does not run")?;
        let asked = Command::new("kill").arg(child.id().to_string()).status()?;
        if !asked.success() {
            return Err("the broker could not be asked to end".into());
        }
        tokio::task::spawn_blocking(move || child.wait()).await??;
        Ok(())
    }

    /// What the test's own broker has written so far.
    pub fn log(&self) -> Result<String, Failure> {
        let own = self.own.as_ref().ok_or("the shared broker is not ours")?;
        Ok(std::fs::read_to_string(own.log.path())?)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// `host:port`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The statement that makes a connection to it.
    pub fn create_connection(&self, name: &str) -> String {
        format!(
            "CREATE CONNECTION {name} TO KAFKA WITH (brokers = '{}')",
            self.address()
        )
    }

    fn admin(&self) -> Result<AdminClient<DefaultClientContext>, Failure> {
        Ok(client(&self.address()).create()?)
    }

    /// Makes a topic, with settings of its own.
    pub async fn create_topic(
        &self,
        name: &str,
        partitions: i32,
        settings: &[(&str, &str)],
    ) -> Result<(), Failure> {
        let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
        // Messages of tests may say that they are old.
        for (key, value) in [("retention.ms", "-1")].iter().chain(settings) {
            topic = topic.set(key, value);
        }
        let outcome = self.admin()?.create_topics([&topic], &options()).await?;
        told(outcome)?;
        // A broker says so before it can be written to.
        let begun = Instant::now();
        while self.ends(name, partitions).is_err() {
            if begun.elapsed() > TIMEOUT {
                return Err(format!("topic {name} did not come").into());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    pub async fn delete_topic(&self, name: &str) -> Result<(), Failure> {
        told(self.admin()?.delete_topics(&[name], &options()).await?)
    }

    pub async fn add_partitions(&self, name: &str, count: usize) -> Result<(), Failure> {
        let more = NewPartitions::new(name, count);
        told(self.admin()?.create_partitions([&more], &options()).await?)
    }

    /// Deletes the messages of a partition below an offset, as retention would.
    pub async fn delete_below(
        &self,
        name: &str,
        partition: i32,
        offset: i64,
    ) -> Result<(), Failure> {
        let mut below = TopicPartitionList::new();
        below.add_partition_offset(name, partition, Offset::Offset(offset))?;
        self.admin()?.delete_records(&below, &options()).await?;
        Ok(())
    }

    /// First and next offset of each partition.
    pub fn ends(&self, topic: &str, partitions: i32) -> Result<Vec<(i64, i64)>, Failure> {
        let consumer: BaseConsumer = client(&self.address()).create()?;
        (0..partitions)
            .map(|partition| {
                Ok(consumer.fetch_watermarks(topic, partition, Duration::from_secs(5))?)
            })
            .collect()
    }

    /// The offsets that a consumer group has committed, by partition; a partition of which there is none has -1.
    pub fn committed(
        &self,
        group: &str,
        topic: &str,
        partitions: i32,
    ) -> Result<Vec<i64>, Failure> {
        let consumer: BaseConsumer = client(&self.address()).set("group.id", group).create()?;
        let mut asked = TopicPartitionList::new();
        for partition in 0..partitions {
            asked.add_partition(topic, partition);
        }
        let found = consumer.committed_offsets(asked, TIMEOUT)?;
        let mut found: Vec<(i32, i64)> = found
            .elements()
            .iter()
            .map(|one| (one.partition(), one.offset().to_raw().unwrap_or(-1)))
            .collect();
        found.sort();
        Ok(found
            .into_iter()
            .map(|(_, offset)| offset.max(-1))
            .collect())
    }

    /// Writes messages and waits until the broker has them.
    pub fn produce<'m>(
        &self,
        topic: &str,
        messages: impl IntoIterator<Item = Sent<'m>>,
    ) -> Result<(), Failure> {
        let producer: BaseProducer = client(&self.address())
            .set("linger.ms", "5")
            .set("message.max.bytes", "20000000")
            .create()?;
        send(&producer, topic, messages)?;
        Ok(producer.flush(TIMEOUT)?)
    }

    /// Writes messages in one transaction, and commits it or does not.
    pub fn produce_transaction<'m>(
        &self,
        topic: &str,
        messages: impl IntoIterator<Item = Sent<'m>>,
        commits: bool,
    ) -> Result<(), Failure> {
        let producer: BaseProducer = client(&self.address())
            .set("transactional.id", uuid::Uuid::new_v4().to_string())
            .create()?;
        producer.init_transactions(TIMEOUT)?;
        producer.begin_transaction()?;
        send(&producer, topic, messages)?;
        producer.flush(TIMEOUT)?;
        match commits {
            true => Ok(producer.commit_transaction(TIMEOUT)?),
            false => Ok(producer.abort_transaction(TIMEOUT)?),
        }
    }

    /// All messages that a consumer of its own reads, `partition:offset payload`, in order.
    pub fn consume(&self, topic: &str, partitions: i32) -> Result<Vec<String>, Failure> {
        let messages = self.receive(topic, partitions)?;
        Ok(messages
            .into_iter()
            .map(|message| {
                let payload = message.payload.unwrap_or_default();
                format!("{}:{} {payload}", message.partition, message.offset)
            })
            .collect())
    }

    /// All messages that a consumer of its own reads, by partition and offset.
    pub fn receive(&self, topic: &str, partitions: i32) -> Result<Vec<Received>, Failure> {
        let consumer: BaseConsumer = client(&self.address())
            .set("group.id", uuid::Uuid::new_v4().to_string())
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true")
            .set("auto.offset.reset", "earliest")
            .set("isolation.level", "read_committed")
            .create()?;
        let mut assigned = TopicPartitionList::new();
        for partition in 0..partitions {
            assigned.add_partition_offset(topic, partition, Offset::Beginning)?;
        }
        consumer.assign(&assigned)?;
        let mut ended = 0;
        let mut messages = Vec::new();
        while ended < partitions {
            match consumer.poll(TIMEOUT) {
                Some(Ok(message)) => messages.push(Received::new(&message)),
                Some(Err(KafkaError::PartitionEOF(_))) => ended += 1,
                Some(Err(error)) => return Err(error.into()),
                None => return Err("the consumer heard nothing".into()),
            }
        }
        messages.sort_by_key(|message| (message.partition, message.offset));
        Ok(messages)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let Some(own) = &mut self.own else {
            return;
        };
        if let Some(child) = &mut own.child {
            let _ = child.kill();
            let _ = child.wait();
        }
        if let Ok(folder) = data_folder(&own.name) {
            let _ = std::fs::remove_dir_all(folder);
        }
    }
}

/// A message that was read. What is no UTF-8 is written `\x...`.
#[derive(Debug, Clone)]
pub struct Received {
    pub partition: i32,
    pub offset: i64,
    pub key: Option<String>,
    pub payload: Option<String>,
    /// In their order; a header without a value has an empty one.
    pub headers: Vec<(String, String)>,
}

impl Received {
    fn new(message: &BorrowedMessage<'_>) -> Self {
        let text = |bytes: &[u8]| match std::str::from_utf8(bytes) {
            Ok(text) => text.to_owned(),
            Err(_) => {
                let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
                format!("\\x{digits}")
            }
        };
        let headers = message.headers().into_iter().flat_map(|all| all.iter());
        Self {
            partition: message.partition(),
            offset: message.offset(),
            key: message.key().map(text),
            payload: message.payload().map(text),
            headers: headers
                .map(|header| {
                    let value = header.value.map(text);
                    (header.key.to_owned(), value.unwrap_or_default())
                })
                .collect(),
        }
    }

    /// The value of a header; empty where there is none.
    pub fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(key, _)| key == name);
        found.map_or("", |(_, value)| value)
    }
}

/// A message to be written.
#[derive(Debug, Clone, Default)]
pub struct Sent<'m> {
    pub partition: Option<i32>,
    pub key: Option<&'m [u8]>,
    pub payload: Option<&'m [u8]>,
    pub headers: &'m [(&'m str, &'m [u8])],
    /// Milliseconds since 1970.
    pub timestamp: Option<i64>,
}

impl<'m> Sent<'m> {
    pub fn new(payload: &'m [u8]) -> Self {
        Self {
            payload: Some(payload),
            ..Self::default()
        }
    }

    pub fn to(self, partition: i32) -> Self {
        Self {
            partition: Some(partition),
            ..self
        }
    }

    pub fn keyed(self, key: &'m [u8]) -> Self {
        Self {
            key: Some(key),
            ..self
        }
    }
}

fn send<'m>(
    producer: &BaseProducer,
    topic: &str,
    messages: impl IntoIterator<Item = Sent<'m>>,
) -> Result<(), Failure> {
    for message in messages {
        let mut record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(topic);
        record.partition = message.partition;
        record.key = message.key;
        record.payload = message.payload;
        record.timestamp = message.timestamp;
        if !message.headers.is_empty() {
            let mut headers = OwnedHeaders::new();
            for (key, value) in message.headers {
                headers = headers.insert(Header {
                    key,
                    value: Some(*value),
                });
            }
            record.headers = Some(headers);
        }
        loop {
            match producer.send(record) {
                Ok(()) => break,
                // Its queue is full.
                Err((_, again)) => {
                    producer.poll(Duration::from_millis(20));
                    record = again;
                }
            }
        }
    }
    Ok(())
}

pub(crate) fn client(brokers: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers);
    config
}

pub(crate) fn options() -> AdminOptions {
    AdminOptions::new().operation_timeout(Some(TIMEOUT))
}

/// What became of each topic.
pub(crate) fn told(outcomes: Vec<rdkafka::admin::TopicResult>) -> Result<(), Failure> {
    for outcome in outcomes {
        outcome.map_err(|(topic, code)| format!("topic {topic}: {code}"))?;
    }
    Ok(())
}

/// Where the script keeps the data of the broker called `name`.
fn data_folder(name: &str) -> Result<PathBuf, Failure> {
    let home = match std::env::var_os("BOATHOUSE_TEST_HOME") {
        Some(home) => PathBuf::from(home),
        None => PathBuf::from(std::env::var_os("HOME").ok_or("HOME is not set")?)
            .join(".cache/boathouse/services"),
    };
    Ok(home.join("kafka/data").join(name))
}
