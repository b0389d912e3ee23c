//! `table_rows('table' [, version])`: the rows of a table with the file each is in, and the commit that brought it.

use std::sync::Arc;

use datafusion::catalog::TableProvider;

use super::QueryContext;
use super::changes::bound;
use super::resolve::{Argument, Found, Rights, readable_table};
use crate::error::{SqlError, SqlState};

pub const FUNCTION: &str = "table_rows";

/// The relation of a call.
pub async fn open(
    context: &QueryContext,
    rights: &Rights,
    arguments: &[(Option<String>, Argument)],
    found: &mut Found,
) -> Result<Arc<dyn TableProvider>, SqlError> {
    let (name, version) = match arguments {
        [(None, Argument::Text(name))] => (name, None),
        [(None, Argument::Text(name)), (None, version)] => (name, Some(version)),
        _ => {
            return Err(SqlError::new(
                SqlState::INVALID_PARAMETER_VALUE,
                "table_rows takes a table's name and perhaps a version or time",
            )
            .hint("SELECT * FROM table_rows('schema.table')"));
        }
    };
    let parts = crate::function::system::split_name(name);
    let definition = readable_table(context, rights, &parts)?;
    found.tables.push(definition.id);
    let table = context.engine.lake.table(&definition).await?;
    let at = match version {
        Some(version) => table.snapshot(Some(bound(context, version)?)).await?,
        None => {
            let mut newest = context.table_snapshot(definition.id, &table).await?;
            found.versions.push((definition.id, newest.version()));
            if let Some(defined) = newest.as_defined(&definition) {
                newest = Arc::new(defined);
            }
            match context.uncommitted.get(&definition.id) {
                Some(rows) => Arc::new(newest.with_uncommitted(rows)?),
                None => newest,
            }
        }
    };
    Ok(table.origins(&at).await?)
}
