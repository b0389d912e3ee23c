//! Files of a `SFTP` connection.

use std::sync::Arc;

use crate::error::{ConnectorError, sqlstate};
use crate::file::{Connector, FileStore};
use crate::options::Options;

/// The connector.
pub struct Sftp;

impl Connector for Sftp {
    fn name(&self) -> &'static str {
        "SFTP"
    }

    fn configure(&self, _: &mut Options) -> Result<Arc<dyn FileStore>, ConnectorError> {
        Err(ConnectorError::new(
            sqlstate::FEATURE_NOT_SUPPORTED,
            "not built yet",
        ))
    }
}
