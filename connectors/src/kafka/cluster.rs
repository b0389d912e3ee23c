//! A cluster: how it is reached, which topics it has and where their partitions begin and end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::config::{ClientConfig, FromClientConfigAndContext};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::Metadata;
use rdkafka::{Offset, TopicPartitionList};

use super::context::Context;
use super::{TopicPartition, TopicPatterns};
use crate::error::{ConnectorError, sqlstate};
use crate::message::SchemaRegistry;

/// How to reach a cluster.
pub struct KafkaCluster {
    pub(super) brokers: String,
    pub(super) tls: &'static str,
    pub(super) ca: Option<String>,
    pub(super) identity: Option<(String, String)>,
    pub(super) sasl: Option<Sasl>,
    pub(super) timeout: Duration,
    pub(super) registry: Option<Arc<SchemaRegistry>>,
}

/// Who one is, for brokers that ask.
pub(super) enum Sasl {
    Password {
        mechanism: String,
        user: String,
        password: String,
    },
    Token(String),
}

/// The offsets that a partition has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionEnds {
    /// The oldest that is kept.
    pub low: i64,
    /// The one after the last that can be read: what a transaction that is open has written comes later.
    pub high: i64,
}

/// Questions to a cluster, over connections that stay open.
#[derive(Clone)]
pub struct KafkaSession {
    client: Arc<BaseConsumer<Context>>,
    timeout: Duration,
    brokers: Arc<str>,
}

impl KafkaCluster {
    /// The configuration every client has.
    pub(super) fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.brokers)
            .set("client.id", "boathouse")
            .set("isolation.level", "read_committed")
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "error")
            .set("allow.auto.create.topics", "false")
            .set("socket.keepalive.enable", "true")
            .set("reconnect.backoff.max.ms", "2000")
            .set("broker.address.family", "any");
        let protocol = match (self.tls, &self.sasl) {
            ("disable", None) => "plaintext",
            ("disable", Some(_)) => "sasl_plaintext",
            (_, None) => "ssl",
            (_, Some(_)) => "sasl_ssl",
        };
        config.set("security.protocol", protocol);
        if self.tls != "disable" {
            match &self.ca {
                Some(ca) => config.set("ssl.ca.pem", ca),
                // A library that is linked in knows of no place of its own.
                None => config.set("ssl.ca.location", "probe"),
            };
            config.set(
                "enable.ssl.certificate.verification",
                if self.tls == "require" {
                    "false"
                } else {
                    "true"
                },
            );
            config.set(
                "ssl.endpoint.identification.algorithm",
                if self.tls == "verify-full" {
                    "https"
                } else {
                    "none"
                },
            );
            if let Some((certificate, key)) = &self.identity {
                config.set("ssl.certificate.pem", certificate);
                config.set("ssl.key.pem", key);
            }
        }
        match &self.sasl {
            Some(Sasl::Password {
                mechanism,
                user,
                password,
            }) => {
                config.set("sasl.mechanisms", mechanism);
                config.set("sasl.username", user);
                config.set("sasl.password", password);
            }
            Some(Sasl::Token(_)) => {
                config.set("sasl.mechanisms", "OAUTHBEARER");
            }
            None => {}
        }
        config
    }

    pub(super) fn context(&self) -> Context {
        Context::new(match &self.sasl {
            Some(Sasl::Token(token)) => Some(token.clone()),
            _ => None,
        })
    }

    /// A client of this configuration.
    pub(super) fn client<T>(&self, config: &ClientConfig) -> Result<T, ConnectorError>
    where
        T: FromClientConfigAndContext<Context>,
    {
        T::from_config_and_context(config, self.context()).map_err(|error| unusable(&error))
    }

    /// Where the schemas of its messages are.
    pub fn registry(&self) -> Option<Arc<SchemaRegistry>> {
        self.registry.clone()
    }

    /// Opens connections for questions.
    pub fn session(&self) -> Result<KafkaSession, ConnectorError> {
        let mut config = self.config();
        // Nothing is read over them.
        config.set("statistics.interval.ms", "0");
        Ok(KafkaSession {
            client: Arc::new(self.client(&config)?),
            timeout: self.timeout,
            brokers: self.brokers.as_str().into(),
        })
    }
}

impl KafkaSession {
    /// Asks on a thread where waiting is allowed.
    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Self) -> Result<T, ConnectorError> + Send + 'static,
    ) -> Result<T, ConnectorError> {
        let session = self.clone();
        tokio::task::spawn_blocking(move || question(&session))
            .await
            .unwrap_or_else(|ended| {
                Err(ConnectorError::new(
                    sqlstate::INTERNAL_ERROR,
                    "asking the cluster ended abnormally",
                )
                .caused_by(ended))
            })
    }

    /// The wanted topics that exist, each with the number of its partitions.
    pub async fn topics(
        &self,
        wanted: &TopicPatterns,
    ) -> Result<BTreeMap<String, i32>, ConnectorError> {
        let wanted = wanted.clone();
        self.ask(move |session| {
            let metadata = session.metadata()?;
            let mut topics = BTreeMap::new();
            for topic in metadata.topics() {
                if !wanted.matches(topic.name()) || topic.partitions().is_empty() {
                    continue;
                }
                let partitions = i32::try_from(topic.partitions().len()).unwrap_or(i32::MAX);
                topics.insert(topic.name().to_owned(), partitions);
            }
            Ok(topics)
        })
        .await
    }

    /// Brokers and topics, as one of the brokers knows them.
    pub(super) fn metadata(&self) -> Result<Metadata, ConnectorError> {
        let begun = Instant::now();
        loop {
            // Short turns, so that a failure which time does not mend is told at once.
            let turn = self.timeout.min(Duration::from_millis(1500));
            let error = match self.client.fetch_metadata(None, turn) {
                Ok(metadata) => return Ok(metadata),
                Err(error) => error,
            };
            // What the client has to say waits to be asked for.
            let _ = self.client.poll(Duration::ZERO);
            let _ = self.client.poll(Duration::ZERO);
            let failure = self.client.context().take_failure();
            let lasting = failure.as_ref().is_some_and(|(code, _)| {
                matches!(
                    code,
                    RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SSL
                )
            });
            if lasting || begun.elapsed() >= self.timeout {
                return Err(match failure {
                    Some((code, reason)) => failed(&self.brokers, code, &reason),
                    None => unreachable_cluster(&self.brokers, &error.to_string()),
                });
            }
        }
    }

    /// Where partitions begin and end.
    pub async fn ends(
        &self,
        partitions: Vec<TopicPartition>,
    ) -> Result<BTreeMap<TopicPartition, PartitionEnds>, ConnectorError> {
        self.ask(move |session| {
            let mut ends = BTreeMap::new();
            for partition in partitions {
                let asked = session.client.fetch_watermarks(
                    &partition.topic,
                    partition.partition,
                    session.timeout,
                );
                let (low, high) = asked.map_err(|error| session.failed(&error, &partition))?;
                ends.insert(partition, PartitionEnds { low, high });
            }
            Ok(ends)
        })
        .await
    }

    /// For each partition the offset of its first message that is not older than a time, in milliseconds since
    /// 1970; its end where all are.
    pub async fn offsets_at(
        &self,
        partitions: Vec<TopicPartition>,
        time: i64,
    ) -> Result<BTreeMap<TopicPartition, i64>, ConnectorError> {
        let ends = self.ends(partitions.clone()).await?;
        self.ask(move |session| {
            let mut asked = TopicPartitionList::new();
            for partition in &partitions {
                let added = asked.add_partition_offset(
                    &partition.topic,
                    partition.partition,
                    Offset::Offset(time),
                );
                added.map_err(|error| session.failed(&error, partition))?;
            }
            let Some(first) = partitions.first() else {
                return Ok(BTreeMap::new());
            };
            let found = session
                .client
                .offsets_for_times(asked, session.timeout)
                .map_err(|error| session.failed(&error, first))?;
            let mut offsets = BTreeMap::new();
            for partition in partitions {
                let element = found.find_partition(&partition.topic, partition.partition);
                let offset = match element.map(|element| element.offset()) {
                    Some(Offset::Offset(offset)) => Some(offset),
                    _ => ends.get(&partition).map(|ends| ends.high),
                };
                if let Some(offset) = offset {
                    offsets.insert(partition, offset);
                }
            }
            Ok(offsets)
        })
        .await
    }

    fn failed(&self, error: &KafkaError, partition: &TopicPartition) -> ConnectorError {
        match error.rdkafka_error_code() {
            Some(code) => failed(
                &self.brokers,
                code,
                &format!("partition {partition}: {code}"),
            ),
            None => unreachable_cluster(&self.brokers, &error.to_string()),
        }
    }
}

/// Why no client can be made of a configuration.
pub(super) fn unusable(error: &KafkaError) -> ConnectorError {
    // What it says may quote a value, though never a password's.
    let reason = match error {
        KafkaError::ClientConfig(_, reason, name, _) => format!("{name}: {reason}"),
        KafkaError::ClientCreation(reason) => reason.clone(),
        other => other.to_string(),
    };
    ConnectorError::option(format!("the connection cannot be used: {reason}"))
}

/// What a code of the library means to somebody who can do something about it.
pub(super) fn failed(brokers: &str, code: RDKafkaErrorCode, reason: &str) -> ConnectorError {
    use RDKafkaErrorCode as Code;
    match code {
        Code::Authentication | Code::SaslAuthenticationFailed => ConnectorError::new(
            sqlstate::INVALID_AUTHORIZATION,
            format!("the brokers at {brokers} refused to let in: {}", plain(reason)),
        )
        .hint("look at the options \"sasl\", \"user\" and \"password\" of the connection"),
        Code::SSL => ConnectorError::new(
            sqlstate::CONNECTION_FAILURE,
            format!("no TLS with the brokers at {brokers}: {}", plain(reason)),
        )
        .hint("tls_ca takes the certificate of the authority that signed theirs, as PEM; tls = 'disable' is for brokers without TLS"),
        Code::TopicAuthorizationFailed
        | Code::ClusterAuthorizationFailed
        | Code::GroupAuthorizationFailed => ConnectorError::new(
            sqlstate::INSUFFICIENT_PRIVILEGE,
            format!("the brokers at {brokers} do not allow it: {}", plain(reason)),
        )
        .hint("the user needs the operations Read and Describe on the topics"),
        Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition => {
            ConnectorError::new(
                sqlstate::UNDEFINED_OBJECT,
                format!("the topic or the partition does not exist: {}", plain(reason)),
            )
            .retryable()
        }
        _ => unreachable_cluster(brokers, reason),
    }
}

fn unreachable_cluster(brokers: &str, reason: &str) -> ConnectorError {
    ConnectorError::new(
        sqlstate::CONNECTION_REFUSED,
        format!("no broker of {brokers} can be reached: {}", plain(reason)),
    )
    .hint("brokers tell clients where to connect to next (advertised.listeners): these addresses must be reachable from here too")
    .retryable()
}

/// Without what the library puts around its reasons.
fn plain(reason: &str) -> &str {
    let reason = reason.trim();
    let reason = match reason.split_once("]: ") {
        Some((before, rest)) if before.starts_with('[') => rest,
        _ => reason,
    };
    // What follows is a figure of how long the client has been at it.
    match reason.rsplit_once(" (after ") {
        Some((before, _)) if !before.is_empty() => before,
        _ => reason,
    }
}
