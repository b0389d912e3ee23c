//! `CHECK CONNECTION`: whether a cluster can be reached and read, and what to do where it cannot.

use super::cluster::{KeptOut, Reason, Sasl, certificate_refused};
use super::token::TokenSource;
use super::{KafkaCluster, TopicPartition};
use crate::connector::Check;

/// Partitions that are tried at most.
const TRIED_MAX: usize = 8;

impl KafkaCluster {
    pub(crate) async fn check(&self) -> Vec<Check> {
        let session = match self.session() {
            Ok(session) => session,
            Err(error) => return vec![Check::failed("options", &error)],
        };
        let asked = session.clone();
        let metadata = tokio::task::spawn_blocking(move || {
            let metadata = asked.metadata()?;
            let brokers: Vec<String> = metadata
                .brokers()
                .iter()
                .map(|broker| format!("{}:{}", broker.host(), broker.port()))
                .collect();
            let topics: Vec<(String, usize)> = metadata
                .topics()
                .iter()
                .filter(|topic| !topic.name().starts_with("__"))
                .map(|topic| (topic.name().to_owned(), topic.partitions().len()))
                .collect();
            Ok((brokers, topics))
        })
        .await;
        let (brokers, topics) = match metadata {
            Ok(Ok(found)) => found,
            Ok(Err(kept_out)) => return self.kept_out(kept_out).await,
            Err(ended) => {
                let error = crate::error::ConnectorError::new(
                    crate::error::sqlstate::INTERNAL_ERROR,
                    "asking the cluster ended abnormally",
                )
                .caused_by(ended);
                return vec![Check::failed("connect", &error)];
            }
        };
        let mut checks = vec![Check::passed(
            "connect",
            format!("{} as {}", brokers.join(", "), self.identity_name()),
        )];
        checks.push(self.tls_passed());
        if let Some(sasl) = &self.sasl {
            checks.push(Check::passed("login", sasl.mechanism()));
        }
        if topics.is_empty() {
            checks.push(Check {
                name: "topics",
                ok: false,
                detail: "no topic can be seen".to_owned(),
                fix: Some(format!(
                    "kafka-acls --bootstrap-server {} --add --allow-principal User:{} --operation Describe --operation Read --topic '*'",
                    self.brokers,
                    self.identity_name()
                )),
            });
            return checks;
        }
        let partitions: usize = topics.iter().map(|(_, partitions)| partitions).sum();
        checks.push(Check::passed(
            "topics",
            format!("{} topics, {partitions} partitions", topics.len()),
        ));
        // Seeing a topic and reading it are two permissions.
        let tried: Vec<TopicPartition> = topics
            .iter()
            .filter(|(_, partitions)| *partitions > 0)
            .take(TRIED_MAX)
            .map(|(topic, _)| TopicPartition {
                topic: topic.as_str().into(),
                partition: 0,
            })
            .collect();
        checks.push(match session.ends(tried).await {
            Ok(_) => Check::passed("read", "offsets can be read"),
            Err(error) => Check::failed("read", &error),
        });
        checks
    }

    /// The steps that were passed, and the one that was not.
    async fn kept_out(&self, kept_out: KeptOut) -> Vec<Check> {
        let KeptOut {
            mut step,
            reason,
            mut error,
        } = kept_out;
        let refusal = match reason {
            Reason::Closed if self.tls != "disable" => self.certificate_refusal().await,
            _ => None,
        };
        match reason {
            Reason::Closed if let Some(refusal) = &refusal => {
                step = "tls";
                error = certificate_refused(&self.brokers, refusal);
            }
            Reason::Unverified
                if self.tls == "verify-full" && self.is_certified_for_another_host().await =>
            {
                error.message = format!(
                    "the certificate of the brokers at {} is for another host than they are reached by",
                    self.brokers
                );
                error = error.hint("name the brokers as their certificate does, or have one made that names this host; tls = 'verify-ca' does without");
            }
            // What they wanted is what they were not given.
            Reason::Closed if self.tls == "disable" => {
                step = "tls";
                error = error.hint("the brokers may want TLS: tls = 'verify-full'");
            }
            Reason::Closed if self.sasl.is_none() => {
                step = "login";
                error = error.hint("the brokers may want a login: look at the options \"sasl\", \"user\" and \"password\"");
            }
            Reason::Unverified | Reason::Closed | Reason::Told => {}
        }
        let mut checks = Vec::new();
        if step != "connect" {
            checks.push(Check::passed("connect", self.brokers.as_str()));
        }
        if step == "login" {
            checks.push(self.tls_passed());
        }
        checks.push(Check::failed(step, &error));
        checks
    }

    fn tls_passed(&self) -> Check {
        match self.tls {
            "disable" => Check::passed("tls", "not encrypted"),
            mode => Check::passed("tls", mode),
        }
    }

    fn identity_name(&self) -> &str {
        match &self.sasl {
            Some(Sasl::Password { user, .. }) => user,
            Some(Sasl::Token(TokenSource::Given(_))) => "the bearer of a token",
            Some(Sasl::Token(TokenSource::Provided(provider))) => provider.client_id(),
            Some(Sasl::Token(TokenSource::Msk(source))) => source.name(),
            None if self.identity.is_some() => "the owner of the certificate",
            None => "anonymous",
        }
    }
}
