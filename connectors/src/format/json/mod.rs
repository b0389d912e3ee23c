//! JSON files.

use std::sync::Arc;

use crate::error::{ConnectorError, sqlstate};
use crate::options::Options;

use super::{FileFormat, Format};

/// The format.
pub struct Json;

impl Format for Json {
    fn name(&self) -> &'static str {
        "JSON"
    }

    fn configure(&self, _: &mut Options) -> Result<Arc<dyn FileFormat>, ConnectorError> {
        Err(ConnectorError::new(
            sqlstate::FEATURE_NOT_SUPPORTED,
            "not built yet",
        ))
    }
}

/// The format.
pub struct Ndjson;

impl Format for Ndjson {
    fn name(&self) -> &'static str {
        "NDJSON"
    }

    fn configure(&self, _: &mut Options) -> Result<Arc<dyn FileFormat>, ConnectorError> {
        Err(ConnectorError::new(
            sqlstate::FEATURE_NOT_SUPPORTED,
            "not built yet",
        ))
    }
}
