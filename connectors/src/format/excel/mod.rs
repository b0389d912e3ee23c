//! EXCEL files.

pub mod reader;

use std::sync::Arc;

use crate::error::{ConnectorError, sqlstate};
use crate::options::Options;

use super::{FileFormat, Format};

/// The format.
pub struct Excel;

impl Format for Excel {
    fn name(&self) -> &'static str {
        "EXCEL"
    }

    fn configure(&self, _: &mut Options) -> Result<Arc<dyn FileFormat>, ConnectorError> {
        Err(ConnectorError::new(
            sqlstate::FEATURE_NOT_SUPPORTED,
            "not built yet",
        ))
    }
}
