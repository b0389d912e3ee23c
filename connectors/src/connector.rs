//! What every kind of outside system has in common: a name, options, and steps that try it.

use std::sync::Arc;

use crate::error::{ConnectorError, sqlstate};
use crate::file::FileStore;
use crate::kafka::KafkaCluster;
use crate::mysql::MySqlServer;
use crate::options::Options;

/// A kind of outside system. Listed once, in [`crate::registry`].
pub trait Connector: Send + Sync {
    /// The name written in `CREATE CONNECTION ... TO <name>`.
    fn name(&self) -> &'static str;
    /// Takes its options out of `options`; the caller rejects whatever is left over. No I/O.
    fn configure(&self, options: &mut Options) -> Result<Remote, ConnectorError>;
}

/// The far end of a connection.
#[derive(Clone)]
pub enum Remote {
    Files(Arc<dyn FileStore>),
    MySql(Arc<MySqlServer>),
    Kafka(Arc<KafkaCluster>),
}

impl Remote {
    /// Tries the connection step by step. Never fails as a whole: what failed is in the list.
    pub async fn check(&self) -> Vec<Check> {
        match self {
            Self::Files(store) => store.check().await,
            Self::MySql(server) => server.check().await,
            Self::Kafka(cluster) => cluster.check().await,
        }
    }

    /// The files of the far end, when it holds files.
    pub fn files(self) -> Result<Arc<dyn FileStore>, ConnectorError> {
        match self {
            Self::Files(store) => Ok(store),
            other => Err(ConnectorError::new(
                sqlstate::WRONG_OBJECT_TYPE,
                format!("a connection to {} has no files", other.kind()),
            )),
        }
    }

    /// The MySQL or MariaDB server at the far end, when it is one.
    pub fn mysql(self) -> Result<Arc<MySqlServer>, ConnectorError> {
        match self {
            Self::MySql(server) => Ok(server),
            Self::Files(_) | Self::Kafka(_) => Err(ConnectorError::new(
                sqlstate::WRONG_OBJECT_TYPE,
                "the connection is not to MYSQL",
            )),
        }
    }

    /// The Kafka cluster at the far end, when it is one.
    pub fn kafka(self) -> Result<Arc<KafkaCluster>, ConnectorError> {
        match self {
            Self::Kafka(cluster) => Ok(cluster),
            Self::Files(_) | Self::MySql(_) => Err(ConnectorError::new(
                sqlstate::WRONG_OBJECT_TYPE,
                "the connection is not to KAFKA",
            )),
        }
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::Files(_) => "files",
            Self::MySql(_) => "MYSQL",
            Self::Kafka(_) => "KAFKA",
        }
    }
}

/// One step of `CHECK CONNECTION`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    pub name: &'static str,
    pub ok: bool,
    pub detail: String,
    /// What to do, ready to paste where that is possible.
    pub fix: Option<String>,
}

impl Check {
    pub fn passed(name: &'static str, detail: impl Into<String>) -> Self {
        Self {
            name,
            ok: true,
            detail: detail.into(),
            fix: None,
        }
    }

    pub fn failed(name: &'static str, error: &ConnectorError) -> Self {
        let mut detail = error.message.clone();
        let mut cause = std::error::Error::source(error);
        while let Some(inner) = cause {
            let words = inner.to_string();
            // Some libraries paste the cause into the message as well.
            if !detail.contains(&words) {
                detail = format!("{detail}: {words}");
            }
            cause = inner.source();
        }
        Self {
            name,
            ok: false,
            detail,
            fix: error.hint.clone(),
        }
    }
}
