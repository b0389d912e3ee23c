//! Reads files named in a query as relations: `read_parquet('s3://...')` and its kin.

use std::sync::Arc;

use datafusion::catalog::TableProvider;

use super::QueryContext;
use super::resolve::Argument;
use crate::error::SqlError;

/// The relation of a file function. Reads no rows, but as much of the files as their columns need.
pub async fn open(
    context: &QueryContext,
    function: &str,
    arguments: &[(Option<String>, Argument)],
) -> Result<Arc<dyn TableProvider>, SqlError> {
    let _ = (context, arguments);
    Err(SqlError::unsupported(function))
}
