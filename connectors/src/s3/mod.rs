//! Files of a `S3` connection.

use std::sync::Arc;

use crate::error::{ConnectorError, sqlstate};
use crate::file::{Connector, FileStore};
use crate::options::Options;

/// The connector.
pub struct S3;

impl Connector for S3 {
    fn name(&self) -> &'static str {
        "S3"
    }

    fn configure(&self, _: &mut Options) -> Result<Arc<dyn FileStore>, ConnectorError> {
        Err(ConnectorError::new(
            sqlstate::FEATURE_NOT_SUPPORTED,
            "not built yet",
        ))
    }
}
