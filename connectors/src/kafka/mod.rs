//! Kafka: what topics a cluster has, and the messages of their partitions.
//!
//! ```text
//! cluster.rs   options -> client; topics, ends, offsets of a time
//! reader.rs    a thread of its own: partitions from given offsets -> blocks of messages, in a bounded queue
//! writer.rs    messages -> a topic, acknowledged by its brokers
//! ```
//!
//! Partitions are assigned by hand and offsets are whoever reads' own affair: nothing is ever asked of a consumer
//! group, and none is joined. Its offsets can be reported for tools that look at them. Only committed messages
//! are read.
//!
//! Options `brokers` (`host:port, ...`), `tls` (`disable`, `require`, `verify-ca`, `verify-full`), `tls_ca`, `tls_cert`
//! and `tls_key` (PEM texts), `sasl` (`plain`, `scram-sha-256`, `scram-sha-512`, `oauthbearer`, `aws-msk-iam`), `user`, `password`,
//! `token` (of `oauthbearer`) or those of [`oauth::Provider::take`], those of [`token::MskIam::take`], `timeout`, and those of [`SchemaRegistry::take`]. Brokers on other machines are verified to the full unless something else is
//! said.

mod check;
mod cluster;
mod context;
mod handshake;
mod oauth;
mod reader;
mod token;
mod topics;
mod writer;

use std::sync::Arc;
use std::time::Duration;

pub use cluster::{KafkaCluster, KafkaSession, PartitionEnds};
pub use reader::{MessageReader, ReaderOptions, ReaderStatus};
use token::TokenSource;
pub use topics::TopicPatterns;
pub use writer::{MessageWriter, OutgoingMessage, WriterOptions, check_topic_name};

use crate::connector::{Connector, Remote};
use crate::error::ConnectorError;
use crate::message::SchemaRegistry;
use crate::options::Options;

/// The connector.
pub struct Kafka;

/// A partition of a topic.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    pub topic: Arc<str>,
    pub partition: i32,
}

impl std::fmt::Display for TopicPartition {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}/{}", self.topic, self.partition)
    }
}

impl Connector for Kafka {
    fn name(&self) -> &'static str {
        "KAFKA"
    }

    fn configure(&self, options: &mut Options) -> Result<Remote, ConnectorError> {
        let brokers = options.require_text("brokers")?;
        if brokers.split(',').all(|broker| broker.trim().is_empty()) {
            return Err(ConnectorError::option("option \"brokers\" names no broker"));
        }
        let is_here = brokers.split(',').all(|broker| {
            let broker = broker.trim();
            broker.starts_with("localhost")
                || broker.starts_with("127.")
                || broker.starts_with("[::1]")
        });
        let tls = match options
            .take_choice("tls", &["disable", "require", "verify-ca", "verify-full"])?
        {
            Some(mode) => mode,
            None if is_here => "disable",
            None => "verify-full",
        };
        let sasl = options.take_choice(
            "sasl",
            &[
                "plain",
                "scram-sha-256",
                "scram-sha-512",
                "oauthbearer",
                "aws-msk-iam",
            ],
        )?;
        let identity = match (
            options.take_text("tls_cert")?,
            options.take_text("tls_key")?,
        ) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            _ => {
                return Err(ConnectorError::option(
                    "connector \"KAFKA\" takes \"tls_cert\" and \"tls_key\" together",
                ));
            }
        };
        let user = options.take_text("user")?;
        let password = options.take_text("password")?;
        let token = options.take_text("token")?;
        let provider = match sasl {
            Some("oauthbearer") => oauth::Provider::take(options)?,
            _ => None,
        };
        let sasl = match (sasl, user, password, token) {
            (None, None, None, None) => None,
            (Some("oauthbearer"), None, None, token) if token.is_some() != provider.is_some() => {
                let provided = provider.map(|provider| TokenSource::Provided(Arc::new(provider)));
                let source = provided.or(token.map(TokenSource::Given));
                source.map(cluster::Sasl::Token)
            }
            (Some("oauthbearer"), ..) => {
                return Err(ConnectorError::option(
                    "connector \"KAFKA\" with sasl = 'oauthbearer' takes the option \"token\" or the options \"oauth_url\", \"oauth_client_id\" and \"oauth_client_secret\", and no \"user\" or \"password\"",
                ));
            }
            (Some("aws-msk-iam"), None, None, None) => {
                let source = token::MskIam::take(options, &brokers)?;
                Some(cluster::Sasl::Token(TokenSource::Msk(source)))
            }
            (Some("aws-msk-iam"), ..) => {
                return Err(ConnectorError::option(
                    "connector \"KAFKA\" with sasl = 'aws-msk-iam' takes no \"user\", \"password\" or \"token\"",
                )
                .hint("it takes access_key_id and secret_access_key, or the server's own credentials"));
            }
            (Some(mechanism), Some(user), Some(password), None) => Some(cluster::Sasl::Password {
                mechanism: mechanism.to_ascii_uppercase(),
                user,
                password,
            }),
            (Some(_), ..) => {
                return Err(ConnectorError::option(
                    "connector \"KAFKA\" with \"sasl\" takes the options \"user\" and \"password\"",
                ));
            }
            (None, ..) => {
                return Err(ConnectorError::option(
                    "connector \"KAFKA\" takes \"user\", \"password\" and \"token\" together with \"sasl\"",
                )
                .hint("sasl is one of 'plain', 'scram-sha-256', 'scram-sha-512', 'oauthbearer', 'aws-msk-iam'"));
            }
        };
        let timeout = options
            .take_duration("timeout")?
            .unwrap_or(Duration::from_secs(15));
        Ok(Remote::Kafka(Arc::new(KafkaCluster {
            brokers,
            tls,
            ca: options.take_text("tls_ca")?,
            identity,
            sasl,
            timeout,
            registry: SchemaRegistry::take(options)?,
        })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::OptionValue;

    fn configure(options: &[(&str, &str)]) -> Result<Remote, ConnectorError> {
        let values = options
            .iter()
            .map(|(name, value)| (*name, OptionValue::from(*value)));
        let mut options = Options::new("connector \"KAFKA\"", values);
        let remote = Kafka.configure(&mut options)?;
        options.finish()?;
        Ok(remote)
    }

    fn refused(options: &[(&str, &str)]) -> String {
        match configure(options) {
            Ok(_) => "taken".to_owned(),
            Err(error) => error.message,
        }
    }

    #[test]
    fn options_that_belong_together_are_asked_for() {
        assert_eq!(
            refused(&[]),
            "connector \"KAFKA\" needs the option \"brokers\""
        );
        let at = ("brokers", "kafka:9092");
        assert_eq!(
            refused(&[at, ("sasl", "plain"), ("user", "a")]),
            "connector \"KAFKA\" with \"sasl\" takes the options \"user\" and \"password\""
        );
        assert_eq!(
            refused(&[at, ("user", "a"), ("password", "b")]),
            "connector \"KAFKA\" takes \"user\", \"password\" and \"token\" together with \"sasl\""
        );
        assert_eq!(
            refused(&[
                at,
                ("sasl", "scram-sha-256"),
                ("user", "a"),
                ("password", "b")
            ]),
            "taken"
        );
    }

    #[test]
    fn brokers_elsewhere_are_verified_unless_something_else_is_said() {
        let tls = |options: &[(&str, &str)]| match configure(options) {
            Ok(Remote::Kafka(cluster)) => cluster.tls,
            _ => "refused",
        };
        assert_eq!(
            tls(&[("brokers", "localhost:9092, 127.0.0.1:9093")]),
            "disable"
        );
        assert_eq!(tls(&[("brokers", "kafka:9092")]), "verify-full");
        assert_eq!(
            tls(&[("brokers", "kafka:9092"), ("tls", "disable")]),
            "disable"
        );
    }
}
