//! Every connector, by the name written in SQL.

use crate::connector::Connector;
use crate::error::{ConnectorError, sqlstate};

static CONNECTORS: [&dyn Connector; 5] = [
    &crate::kafka::Kafka,
    &crate::local::Local,
    &crate::mysql::MySql,
    &crate::s3::S3,
    &crate::sftp::Sftp,
];

/// The connector called `name`, without regard to case.
pub fn connector(name: &str) -> Result<&'static dyn Connector, ConnectorError> {
    CONNECTORS
        .iter()
        .find(|connector| connector.name().eq_ignore_ascii_case(name))
        .copied()
        .ok_or_else(|| {
            let known: Vec<_> = CONNECTORS
                .iter()
                .map(|connector| connector.name())
                .collect();
            ConnectorError::new(
                sqlstate::UNDEFINED_OBJECT,
                format!("connector \"{name}\" does not exist"),
            )
            .hint(format!("known connectors are {}", known.join(", ")))
        })
}
