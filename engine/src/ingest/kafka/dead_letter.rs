//! Messages that are set aside, sent to a topic as well.
//!
//! They are read back from the file of the quarantine that the coming commit names, and the commit waits until the brokers
//! have them. So each is there at least once: a commit that does not take place sends them again.
//!
//! Bytes, key and headers are the message's own. Behind its headers come those that tell where it was and why it is here.

use boathouse_catalog::state::QuarantineFile;
use boathouse_connectors::kafka::{MessageWriter, OutgoingMessage, WriterOptions};
use serde_json::{Map, Value};

use super::super::quarantine::{QuarantinedRow, rejected_in};
use super::plan::TopicPlan;
use crate::error::SqlError;
use crate::lake::Lake;

/// The topic of a pipeline's dead letters.
pub(super) struct DeadLetters {
    pipeline: String,
    writer: MessageWriter,
}

impl DeadLetters {
    /// `None` where the statement names no topic for them.
    pub async fn open(plan: &TopicPlan) -> Result<Option<Self>, SqlError> {
        let Some(topic) = &plan.options.dead_letter_topic else {
            return Ok(None);
        };
        let writer = plan.cluster.write(topic, &WriterOptions::default()).await?;
        Ok(Some(Self {
            pipeline: plan.rows.name.clone(),
            writer,
        }))
    }

    /// Sends what is in a file, and waits until the brokers have it.
    pub async fn send(&self, lake: &Lake, file: &QuarantineFile) -> Result<(), SqlError> {
        for rows in rejected_in(lake, file).await? {
            for row in rows? {
                self.send_one(&row).await?;
            }
        }
        Ok(self.writer.flush().await?)
    }

    async fn send_one(&self, row: &QuarantinedRow) -> Result<(), SqlError> {
        let Some(message) = &row.message else {
            return Ok(());
        };
        let own = message.headers.as_deref().unwrap_or("{}");
        let own: Map<String, Value> = serde_json::from_str(own).unwrap_or_default();
        let own: Vec<(&str, Option<Vec<u8>>)> = own
            .iter()
            .flat_map(|(name, value)| match value {
                Value::Array(values) => values
                    .iter()
                    .map(|one| (name.as_str(), bytes(one)))
                    .collect(),
                one => vec![(name.as_str(), bytes(one))],
            })
            .collect();
        let (partition, offset) = (message.partition.to_string(), message.offset.to_string());
        let mut headers: Vec<(&str, Option<&[u8]>)> = own
            .iter()
            .map(|(name, value)| (*name, value.as_deref()))
            .collect();
        let told = [
            ("boathouse-pipeline", self.pipeline.as_str()),
            ("boathouse-topic", &message.topic),
            ("boathouse-partition", &partition),
            ("boathouse-offset", &offset),
            ("boathouse-sqlstate", &row.sqlstate),
            ("boathouse-error", &row.reason),
        ];
        let rule = row.rule.as_deref().map(|rule| ("boathouse-rule", rule));
        let told = told.into_iter().chain(rule);
        headers.extend(told.map(|(name, value)| (name, Some(value.as_bytes()))));
        let letter = OutgoingMessage {
            key: message.key.as_deref(),
            payload: message.payload.as_deref(),
            headers: &headers,
        };
        Ok(self.writer.send(letter).await?)
    }
}

/// The bytes of a header's value. One that was no text was kept as `\x...`.
fn bytes(value: &Value) -> Option<Vec<u8>> {
    let text = value.as_str()?;
    let digits = text.strip_prefix("\\x").filter(|digits| digits.is_ascii());
    let decoded: Option<Vec<u8>> = digits.and_then(|digits| {
        let pairs = digits.as_bytes().chunks(2).map(std::str::from_utf8);
        pairs
            .map(|pair| {
                let pair = pair.ok().filter(|pair| pair.len() == 2)?;
                u8::from_str_radix(pair, 16).ok()
            })
            .collect()
    });
    let was_no_text = |bytes: &Vec<u8>| std::str::from_utf8(bytes).is_err();
    Some(
        decoded
            .filter(was_no_text)
            .unwrap_or_else(|| text.as_bytes().to_vec()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_headers_are_the_bytes_they_were() {
        let of = |text: &str| bytes(&Value::from(text));
        assert_eq!(of("plain"), Some(b"plain".to_vec()));
        assert_eq!(of("\\xff00"), Some(vec![0xff, 0]));
        // Text that looks like it.
        assert_eq!(of("\\x41"), Some(b"\\x41".to_vec()));
        assert_eq!(of("\\xf"), Some(b"\\xf".to_vec()));
        assert_eq!(bytes(&Value::Null), None);
    }
}
