//! PARQUET files.

use std::sync::Arc;

use crate::error::{ConnectorError, sqlstate};
use crate::options::Options;

use super::{FileFormat, Format};

/// The format.
pub struct Parquet;

impl Format for Parquet {
    fn name(&self) -> &'static str {
        "PARQUET"
    }

    fn configure(&self, _: &mut Options) -> Result<Arc<dyn FileFormat>, ConnectorError> {
        Err(ConnectorError::new(
            sqlstate::FEATURE_NOT_SUPPORTED,
            "not built yet",
        ))
    }
}
