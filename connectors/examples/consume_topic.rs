//! Reads a topic to where it ends now and drops what it reads: what a consumer of the library reaches that parses
//! nothing, beside which the benchmark puts a pipeline.
//!
//! `consume_topic BROKERS TOPIC`; prints messages, bytes and seconds.

use std::error::Error;
use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{Offset, TopicPartitionList};

const TIMEOUT: Duration = Duration::from_secs(30);

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [brokers, topic] = arguments.as_slice() else {
        return Err("usage: consume_topic BROKERS TOPIC".into());
    };
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "consume_topic")
        .set("enable.auto.commit", "false")
        .create()?;
    let metadata = consumer.fetch_metadata(Some(topic), TIMEOUT)?;
    let mut assigned = TopicPartitionList::new();
    let mut left = 0;
    for partition in metadata
        .topics()
        .iter()
        .flat_map(|topic| topic.partitions())
    {
        let (first, end) = consumer.fetch_watermarks(topic, partition.id(), TIMEOUT)?;
        assigned.add_partition_offset(topic, partition.id(), Offset::Offset(first))?;
        left += end - first;
    }
    let start = Instant::now();
    consumer.assign(&assigned)?;
    let (mut messages, mut bytes) = (0, 0);
    while messages < left {
        let message = consumer.poll(TIMEOUT).ok_or("no message came")??;
        messages += 1;
        bytes += message.payload_len();
    }
    println!("{messages} {bytes} {}", start.elapsed().as_secs_f64());
    Ok(())
}
