//! The topic that a statement names: its connection, its format, how it is written to.
//!
//! Options of `WITH (...)`:
//!
//! | option | default | meaning |
//! |---|---|---|
//! | `compression` | `'lz4'` | of what goes over the network and is kept: `'none'`, `'gzip'`, `'snappy'`, `'lz4'`, `'zstd'` |
//! | `batch_bytes` | 262144 | bytes of messages that go together at most |
//! | `delivery_timeout` | `'60 s'` | how long the brokers may take to acknowledge a message |

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use boathouse_connectors::kafka::{KafkaCluster, WriterOptions};
use boathouse_connectors::{OptionValue as ConnectorOption, Options};
use boathouse_sql::SqlOption;
use boathouse_sql::statement::TopicTarget;

use super::super::context::open_connection;
use super::super::plan::connector_option;
use crate::error::SqlError;
use crate::query::QueryContext;

/// The cluster of a topic.
///
/// # Errors
///
/// The format is none that messages are written in; the connection does not exist, is not to Kafka, or the role may not
/// use it.
pub async fn open_cluster(
    context: &QueryContext,
    target: &TopicTarget,
) -> Result<Arc<KafkaCluster>, SqlError> {
    if let Some(format) = &target.format {
        if format.name != "JSON" {
            return Err(SqlError::unsupported(format!(
                "writing messages in FORMAT {}",
                format.name
            ))
            .hint("messages are written in FORMAT JSON"));
        }
        if let Some(option) = format.options.first() {
            return Err(SqlError::unsupported(format!(
                "option \"{}\" of FORMAT JSON for messages that are written",
                option.name
            )));
        }
    }
    Ok(open_connection(context, &target.connection)
        .await?
        .kafka()?)
}

/// The options of a statement; `owner` is whose they are, in errors.
pub fn options_of(owner: &str, written: &[SqlOption]) -> Result<Options, SqlError> {
    let values: BTreeMap<String, ConnectorOption> = written
        .iter()
        .map(|option| Ok((option.name.clone(), connector_option(option)?)))
        .collect::<Result<_, SqlError>>()?;
    Ok(Options::new(owner, values))
}

/// Takes out of the options how a topic is written to.
pub fn writer_options(options: &mut Options) -> Result<WriterOptions, SqlError> {
    let defaults = WriterOptions::default();
    let compression = options.take_choice("compression", &WriterOptions::COMPRESSIONS)?;
    let batch_bytes = options.take_number("batch_bytes")?;
    let timeout = options.take_duration("delivery_timeout")?;
    Ok(WriterOptions {
        compression: compression.unwrap_or(defaults.compression),
        batch_bytes: batch_bytes
            .unwrap_or(defaults.batch_bytes)
            .clamp(1, 16 << 20),
        timeout: timeout
            .unwrap_or(defaults.timeout)
            .clamp(Duration::from_secs(1), Duration::from_secs(3600)),
    })
}
