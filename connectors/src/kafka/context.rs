//! What a client of the library tells and asks while it works.

use std::collections::HashMap;
use std::error::Error;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use rdkafka::client::{ClientContext, OAuthToken};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::statistics::Statistics;
use rdkafka::util::Timeout;
use tokio::runtime::Handle;

use super::TopicPartition;
use super::token::TokenSource;

/// Where a partition ends, as the client last heard.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Figures {
    /// Everything below it has been handed over or is nothing to be handed over; -1 while the end was not met.
    pub end_met: i64,
    /// What can be read ends here; negative while it is not known.
    pub end: i64,
}

/// The context of a client.
#[derive(Default)]
pub(super) struct Context {
    tokens: Option<TokenSource>,
    /// What works for tokens.
    runtime: Option<Handle>,
    failure: Mutex<Option<(RDKafkaErrorCode, String)>>,
    figures: Mutex<Option<HashMap<TopicPartition, Figures>>>,
}

impl Context {
    pub fn new(tokens: Option<TokenSource>) -> Self {
        Self {
            tokens,
            runtime: Handle::try_current().ok(),
            ..Self::default()
        }
    }

    /// What went wrong last, if anything did since it was asked last.
    pub fn take_failure(&self) -> Option<(RDKafkaErrorCode, String)> {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.take()
    }

    /// The newest figures, if there are any since they were asked for last.
    pub fn take_figures(&self) -> Option<HashMap<TopicPartition, Figures>> {
        let mut figures = self.figures.lock().unwrap_or_else(PoisonError::into_inner);
        figures.take()
    }
}

impl ClientContext for Context {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        // Why a connection was closed is said nowhere else.
        if facility == "FAIL" {
            let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
            let tells =
                |(code, _): &(RDKafkaErrorCode, String)| *code != RDKafkaErrorCode::AllBrokersDown;
            if !failure.as_ref().is_some_and(tells) {
                *failure = Some((RDKafkaErrorCode::BrokerTransportFailure, message.to_owned()));
            }
        }
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
                tracing::error!(facility, "{message}");
            }
            RDKafkaLogLevel::Error | RDKafkaLogLevel::Warning => {
                tracing::debug!(facility, "{message}");
            }
            _ => tracing::trace!(facility, "{message}"),
        }
    }

    fn stats(&self, statistics: Statistics) {
        let mut all = HashMap::new();
        for (topic, of_topic) in statistics.topics {
            let topic = std::sync::Arc::<str>::from(topic);
            for (partition, of_partition) in of_topic.partitions {
                let partition = TopicPartition {
                    topic: topic.clone(),
                    partition,
                };
                all.insert(
                    partition,
                    Figures {
                        end_met: of_partition.eof_offset,
                        end: of_partition.ls_offset,
                    },
                );
            }
        }
        *self.figures.lock().unwrap_or_else(PoisonError::into_inner) = Some(all);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "kafka client");
        if let Some(code) = error.rdkafka_error_code() {
            let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
            // That all brokers are down says less than why one is.
            if code != RDKafkaErrorCode::AllBrokersDown || failure.is_none() {
                *failure = Some((code, reason.to_owned()));
            }
        }
    }

    fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        let tokens = self.tokens.as_ref().ok_or("no token was given")?;
        let token = tokens.token(self.runtime.as_ref())?;
        Ok(OAuthToken {
            token: token.value,
            principal_name: String::new(),
            lifetime_ms: i64::try_from(token.until.duration_since(UNIX_EPOCH)?.as_millis())?,
        })
    }
}

impl ConsumerContext for Context {
    fn main_queue_min_poll_interval(&self) -> Timeout {
        Timeout::After(Duration::from_millis(100))
    }
}
