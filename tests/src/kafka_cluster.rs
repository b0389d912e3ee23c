//! A cluster of three brokers of a test's own, and a producer that goes on whatever becomes of them.
//!
//! Each node is broker and controller. Every message has three copies, and is acknowledged when two brokers have it, so
//! that one of the three may be away.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{ClientContext, Message};

use crate::kafka::{Broker, client, options, told};
use crate::{Failure, free_ports};

const NODES: u16 = 3;

/// The nodes of a cluster are slow to agree on a machine that does other things.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Three brokers, numbered from 0.
pub struct Cluster {
    nodes: Vec<Broker>,
}

impl Cluster {
    /// A cluster of this test's own, new and empty.
    pub async fn start() -> Result<Self, Failure> {
        // Nodes take seconds to listen; another process may have taken one of their ports by then.
        match Self::attempt().await {
            Ok(cluster) => Ok(cluster),
            Err(_) => Self::attempt().await,
        }
    }

    async fn attempt() -> Result<Self, Failure> {
        // A node's own, its controller's, and the one with SASL.
        let first = free_ports(3 * NODES)?;
        let port = |node: u16| first + 3 * node;
        let voters: Vec<String> = (0..NODES)
            .map(|node| format!("{node}@127.0.0.1:{}", port(node) + 1))
            .collect();
        let mut nodes = Vec::new();
        for node in 0..NODES {
            let settings = [
                // Any 16 bytes, in base64.
                "cluster.id=Ym9hdGhvdXNlLXRlc3QtMQ".to_owned(),
                format!("node.id={node}"),
                format!("controller.quorum.voters={}", voters.join(",")),
                "offsets.topic.replication.factor=3".to_owned(),
                // One that dies is noticed sooner, and one that comes back leads again soon.
                "broker.session.timeout.ms=3000".to_owned(),
                "broker.heartbeat.interval.ms=500".to_owned(),
                "replica.lag.time.max.ms=3000".to_owned(),
                "leader.imbalance.check.interval.seconds=1".to_owned(),
                "leader.imbalance.per.broker.percentage=0".to_owned(),
            ];
            nodes.push(Broker::of(port(node), settings.into())?);
        }
        let mut cluster = Self { nodes };
        for node in &mut cluster.nodes {
            node.spawn()?;
        }
        for node in &mut cluster.nodes {
            node.wait_until_ready().await?;
        }
        Ok(cluster)
    }

    pub fn node(&mut self, number: usize) -> Result<&mut Broker, Failure> {
        let node = self.nodes.get_mut(number);
        node.ok_or_else(|| format!("there is no node {number}").into())
    }

    pub fn nodes(&self) -> usize {
        self.nodes.len()
    }

    /// `host:port` of all of them.
    pub fn addresses(&self) -> String {
        let addresses: Vec<String> = self.nodes.iter().map(Broker::address).collect();
        addresses.join(",")
    }

    /// Makes a topic of which each broker has a copy, and writes need two.
    pub async fn create_topic(&self, name: &str, partitions: i32) -> Result<(), Failure> {
        let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(3))
            .set("min.insync.replicas", "2");
        let admin: AdminClient<DefaultClientContext> = client(&self.addresses()).create()?;
        told(admin.create_topics([&topic], &options()).await?)?;
        self.wait_until_in_sync(name).await
    }

    /// The node that leads each partition; `None` while none does.
    pub fn leaders(&self, topic: &str) -> Result<Vec<Option<usize>>, Failure> {
        let partitions = self.partitions(topic)?;
        let leaders = partitions.into_iter().map(|(leader, _)| leader);
        Ok(leaders.collect())
    }

    /// Waits until each broker has all of a topic.
    pub async fn wait_until_in_sync(&self, topic: &str) -> Result<(), Failure> {
        self.wait_until(topic, |partitions| {
            let in_sync = |(leader, copies): &(Option<usize>, usize)| {
                leader.is_some() && *copies == usize::from(NODES)
            };
            !partitions.is_empty() && partitions.iter().all(in_sync)
        })
        .await
    }

    /// Waits until each partition is led by another than this node.
    pub async fn wait_until_led_by_others(&self, topic: &str, node: usize) -> Result<(), Failure> {
        self.wait_until(topic, |partitions| {
            let by_another =
                |(leader, _): &(Option<usize>, usize)| leader.is_some_and(|one| one != node);
            !partitions.is_empty() && partitions.iter().all(by_another)
        })
        .await
    }

    /// Waits until this node leads a partition.
    pub async fn wait_until_leads(&self, topic: &str, node: usize) -> Result<(), Failure> {
        self.wait_until(topic, |partitions| {
            partitions.iter().any(|(leader, _)| *leader == Some(node))
        })
        .await
    }

    async fn wait_until(
        &self,
        topic: &str,
        is_so: impl Fn(&[(Option<usize>, usize)]) -> bool,
    ) -> Result<(), Failure> {
        let begun = Instant::now();
        loop {
            let found = self.partitions(topic);
            if found.as_ref().is_ok_and(|found| is_so(found)) {
                return Ok(());
            }
            if begun.elapsed() > TIMEOUT {
                return Err(format!("leader and copies of {topic} are {found:?}").into());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Leader and number of complete copies of each partition.
    fn partitions(&self, topic: &str) -> Result<Vec<(Option<usize>, usize)>, Failure> {
        let consumer: BaseConsumer = client(&self.addresses()).create()?;
        let metadata = consumer.fetch_metadata(Some(topic), Duration::from_secs(5))?;
        let found = metadata.topics().first().ok_or("the topic is not told")?;
        let partitions = found.partitions().iter();
        Ok(partitions
            .map(|one| (usize::try_from(one.leader()).ok(), one.isr().len()))
            .collect())
    }
}

/// A message that the brokers acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Acknowledged {
    pub partition: i32,
    pub offset: i64,
    pub number: usize,
}

/// Writes `{"id":0}`, `{"id":1}`, ... until it is told to stop.
pub struct SteadyProducer {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<Result<Vec<Acknowledged>, Failure>>>,
}

impl SteadyProducer {
    /// Some hundred messages in a second, each acknowledged by all copies that are complete, and none twice.
    pub fn start(brokers: &str, topic: &str) -> Result<Self, Failure> {
        let producer: ThreadedProducer<Receipts> = client(brokers)
            .set("acks", "all")
            .set("enable.idempotence", "true")
            .set("linger.ms", "20")
            .create_with_context(Receipts::default())?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let topic = topic.to_owned();
        let thread = std::thread::spawn(move || {
            let mut number = 0;
            while !stopped.load(Ordering::Relaxed) {
                for _ in 0..10 {
                    let payload = format!("{{\"id\":{number}}}");
                    let key = number.to_string();
                    let record = BaseRecord::with_opaque_to(&topic, Box::new(number));
                    let sent = producer.send(record.payload(&payload).key(&key));
                    match sent {
                        Ok(()) => number += 1,
                        Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                            break;
                        }
                        Err((error, _)) => return Err(error.into()),
                    }
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            producer.flush(TIMEOUT)?;
            let receipts = &producer.context().receipts;
            let receipts = receipts.lock().unwrap_or_else(PoisonError::into_inner);
            Ok(receipts.clone())
        });
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }

    /// Stops writing, and gives what was acknowledged.
    pub fn finish(mut self) -> Result<Vec<Acknowledged>, Failure> {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().ok_or("the producer has ended")?;
        thread.join().map_err(|_| "the producer died")?
    }
}

impl Drop for SteadyProducer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

#[derive(Default)]
struct Receipts {
    receipts: Mutex<Vec<Acknowledged>>,
}

impl ClientContext for Receipts {}

impl ProducerContext for Receipts {
    type DeliveryOpaque = Box<usize>;

    fn delivery(&self, result: &DeliveryResult<'_>, number: Box<usize>) {
        if let Ok(message) = result {
            let mut receipts = self.receipts.lock().unwrap_or_else(PoisonError::into_inner);
            receipts.push(Acknowledged {
                partition: message.partition(),
                offset: message.offset(),
                number: *number,
            });
        }
    }
}
