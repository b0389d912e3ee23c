//! A cluster: how it is reached, which topics it has and where their partitions begin and end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::config::{ClientConfig, FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::Metadata;
use rdkafka::{Offset, TopicPartitionList};

use super::context::Context;
use super::oauth::REFUSES;
use super::token::TokenSource;
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
    Token(TokenSource),
}

impl Sasl {
    /// What it is called in the options.
    pub fn mechanism(&self) -> String {
        match self {
            Self::Password { mechanism, .. } => mechanism.to_ascii_lowercase(),
            Self::Token(TokenSource::Given(_) | TokenSource::Provided(_)) => {
                "oauthbearer".to_owned()
            }
            Self::Token(TokenSource::Msk(_)) => "aws-msk-iam".to_owned(),
        }
    }
}

/// The offsets that a partition has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionEnds {
    /// The oldest that is kept.
    pub low: i64,
    /// The one after the last that can be read: what a transaction that is open has written comes later.
    pub high: i64,
}

/// How long it may take to find out what a certificate lacks.
const PROBE_TIMEOUT: Duration = Duration::from_secs(3);

/// How long the events of a client are served at a time.
const EVENTS_TURN: Duration = Duration::from_millis(1);

/// How long the first attempt to be told of the brokers may take.
const TURN_MIN: Duration = Duration::from_millis(500);

/// What the library says when no token could be made, when a certificate could not be verified, and when the other side
/// did not like what it saw.
pub(super) const NO_TOKEN: &str = "Failed to acquire SASL OAUTHBEARER token";
const UNVERIFIED: &str = "certificate verify failed";
const ALERT: &str = "SSL alert number";

/// The alerts that are about a certificate of ours.
pub(super) const CERTIFICATE_ALERTS: [&str; 3] = ["certificate", "unknown ca", "handshake failure"];

/// What keeps a client out, and at which step of being let in: `connect`, `tls` or `login`.
pub(super) struct KeptOut {
    pub step: &'static str,
    pub reason: Reason,
    pub error: ConnectorError,
}

/// What is to be found out about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    /// The brokers' certificate could not be verified.
    Unverified,
    /// The brokers close the connection and do not say why.
    Closed,
    /// All is told.
    Told,
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
            Some(Sasl::Token(tokens)) => Some(tokens.clone()),
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

    /// Whether a verified certificate would do, were it for the host that the brokers are reached by. Nobody logs in.
    pub(super) async fn is_certified_for_another_host(&self) -> bool {
        let mut config = self.config();
        config.set("security.protocol", "ssl");
        config.set("ssl.endpoint.identification.algorithm", "none");
        let Ok(session) = self.session_of(config, self.timeout.min(PROBE_TIMEOUT)) else {
            return false;
        };
        let asked = tokio::task::spawn_blocking(move || session.metadata().map(drop));
        match asked.await {
            Ok(Err(kept_out)) => kept_out.step != "tls",
            Ok(Ok(())) => true,
            Err(_) => false,
        }
    }

    /// Where the schemas of its messages are.
    pub fn registry(&self) -> Option<Arc<SchemaRegistry>> {
        self.registry.clone()
    }

    /// Opens connections for questions.
    pub fn session(&self) -> Result<KafkaSession, ConnectorError> {
        self.session_of(self.config(), self.timeout)
    }

    fn session_of(
        &self,
        mut config: ClientConfig,
        timeout: Duration,
    ) -> Result<KafkaSession, ConnectorError> {
        // Nothing is read over them.
        config.set("statistics.interval.ms", "0");
        // Why connections are closed is told at this level.
        config.set_log_level(RDKafkaLogLevel::Info);
        Ok(KafkaSession {
            client: Arc::new(self.client(&config)?),
            timeout,
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
        tokio::task::spawn_blocking(move || {
            session.attend();
            question(&session)
        })
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
            let metadata = session.metadata().map_err(|kept_out| kept_out.error)?;
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

    /// Serves what the client waits to be asked for: tokens it needs, errors, its log.
    fn attend(&self) {
        while self.client.poll(EVENTS_TURN).is_some() {}
    }

    /// Brokers and topics, as one of the brokers knows them.
    pub(super) fn metadata(&self) -> Result<Metadata, KeptOut> {
        let begun = Instant::now();
        // What went wrong earlier is another matter, but that there is no token is said once only.
        self.attend();
        let earlier = self.client.context().take_failure();
        let mut reason = earlier.filter(|(_, reason)| reason.contains(NO_TOKEN));
        // Short turns at first, so that a failure which time does not mend is told soon.
        let mut turn = TURN_MIN;
        loop {
            let left = self.timeout.saturating_sub(begun.elapsed());
            let error = match self.client.fetch_metadata(None, turn.min(left)) {
                Ok(metadata) => return Ok(metadata),
                Err(error) => error,
            };
            self.attend();
            // That all brokers are down says less than why one is.
            reason = match (self.client.context().take_failure(), reason) {
                (Some((RDKafkaErrorCode::AllBrokersDown, _)), Some(earlier)) => Some(earlier),
                (found, earlier) => found.or(earlier),
            };
            let kept_out = match &reason {
                Some((code, reason)) => kept_out(&self.brokers, *code, reason),
                None => KeptOut {
                    step: "connect",
                    reason: Reason::Told,
                    error: unreachable_cluster(&self.brokers, &error.to_string()),
                },
            };
            if !kept_out.error.retryable || begun.elapsed() >= self.timeout {
                return Err(kept_out);
            }
            turn *= 2;
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
        self.attend();
        let told = self.client.context().take_failure();
        match error.rdkafka_error_code() {
            Some(code) => {
                // Why a login did not come about is not in the code.
                let told = told.filter(|(found, _)| *found == code);
                let reason = told.map_or_else(|| code.to_string(), |(_, reason)| reason);
                failed(
                    &self.brokers,
                    code,
                    &format!("partition {partition}: {reason}"),
                )
            }
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

/// Whether brokers ended a login before it was one. The library calls this a refusal too, but their connection
/// broke, or they would not hear the client, whose token is nearly over, twice within a second (KIP-368).
pub(super) fn broke_off(reason: &str) -> bool {
    reason.contains("mechanism handshake failed") && !reason.contains("Unsupported SASL mechanism")
}

/// What a failure to be let in means to somebody who can do something about it.
pub(super) fn kept_out(brokers: &str, code: RDKafkaErrorCode, reason: &str) -> KeptOut {
    let says = |words: &str| reason.contains(words);
    let at = |step, error| KeptOut {
        step,
        reason: Reason::Told,
        error,
    };
    let no_tls = |message| ConnectorError::new(sqlstate::CONNECTION_FAILURE, message);
    match code {
        RDKafkaErrorCode::Authentication if says(NO_TOKEN) => {
            let error = ConnectorError::new(
                sqlstate::INVALID_AUTHORIZATION,
                format!("there is no token for the brokers at {brokers}: {}", plain(reason)),
            )
            .hint("look at the options of the connection that begin with \"oauth_\"; for AWS give access_key_id and secret_access_key, or give the machine a role");
            // A provider that refuses will do so again.
            at("login", match says(REFUSES) {
                true => error,
                false => error.retryable(),
            })
        }
        RDKafkaErrorCode::Authentication if broke_off(reason) => at(
            "login",
            ConnectorError::new(
                sqlstate::CONNECTION_FAILURE,
                format!("the brokers at {brokers} broke off a login: {}", plain(reason)),
            )
            .hint("if it stays like this, their listener may be one without logins: look at the option \"sasl\"")
            .retryable(),
        ),
        RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SaslAuthenticationFailed => at(
            "login",
            ConnectorError::new(
                sqlstate::INVALID_AUTHORIZATION,
                format!("the brokers at {brokers} refused to let in: {}", plain(reason)),
            )
            .hint(if says("mechanism handshake failed") {
                "the option \"sasl\" is to name one of the ways in that the brokers support"
            } else if says("invalid_token") || says("OAUTHBEARER") {
                "the token is expired, or not for these brokers: look at the options \"token\", \"oauth_scope\", or \"region\", \"access_key_id\" and \"secret_access_key\", and at the clock"
            } else {
                "look at the options \"sasl\", \"user\" and \"password\" of the connection"
            }),
        ),
        RDKafkaErrorCode::SSL if says(UNVERIFIED) => KeptOut {
            step: "tls",
            reason: Reason::Unverified,
            error: no_tls(format!("the certificate of the brokers at {brokers} could not be verified"))
                .hint("tls_ca takes the certificate of the authority that signed theirs, as PEM; with tls = 'verify-full' theirs has to name the host they are reached by"),
        },
        _ if says(ALERT) && CERTIFICATE_ALERTS.into_iter().any(says) => {
            at("tls", certificate_refused(brokers, plain(reason)))
        }
        RDKafkaErrorCode::SSL => at(
            "tls",
            no_tls(format!("no TLS with the brokers at {brokers}: {}", plain(reason)))
                .hint("tls = 'disable' is for brokers without TLS"),
        ),
        _ => {
            let error = unreachable_cluster(brokers, reason);
            if says("PLAINTEXT broker listener") {
                at("tls", error.hint("the brokers may be without TLS: tls = 'disable'"))
            } else if says("connection closed by peer") {
                KeptOut {
                    step: "connect",
                    reason: Reason::Closed,
                    error: error.hint("the brokers may want TLS, a certificate, or a login: look at the options \"tls\", \"tls_cert\" and \"tls_key\", and \"sasl\", \"user\" and \"password\""),
                }
            } else {
                at("connect", error)
            }
        }
    }
}

/// A broker does not like the certificate of this client, or that it has none.
pub(super) fn certificate_refused(brokers: &str, reason: &str) -> ConnectorError {
    ConnectorError::new(
        sqlstate::CONNECTION_FAILURE,
        format!(
            "the brokers at {brokers} refused the certificate of this client, or that it has none: {reason}"
        ),
    )
    .hint("tls_cert and tls_key take a certificate that the brokers trust and its key, as PEM")
}

/// What a code of the library means to somebody who can do something about it.
pub(super) fn failed(brokers: &str, code: RDKafkaErrorCode, reason: &str) -> ConnectorError {
    use RDKafkaErrorCode as Code;
    match code {
        Code::TopicAuthorizationFailed
        | Code::ClusterAuthorizationFailed
        | Code::GroupAuthorizationFailed => ConnectorError::new(
            sqlstate::INSUFFICIENT_PRIVILEGE,
            format!(
                "the brokers at {brokers} do not allow it: {}",
                plain(reason)
            ),
        )
        .hint("the user needs the operations Read and Describe on the topics"),
        Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition => {
            ConnectorError::new(
                sqlstate::UNDEFINED_OBJECT,
                format!(
                    "the topic or the partition does not exist: {}",
                    plain(reason)
                ),
            )
            .retryable()
        }
        _ => kept_out(brokers, code, reason).error,
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
