//! The catalog as a whole, on both databases.

mod commits;
mod opening;

use super::*;
use crate::testing::{TestDatabase, on_both, on_postgres, on_sqlite, table};
use crate::types::ColumnType;

/// An error as a client gets it.
fn words(error: &CatalogError) -> String {
    format!("{}: {error}", error.sqlstate())
}

async fn create_table(catalog: &Catalog, name: &str) -> ObjectId {
    let mut transaction = catalog.begin();
    let id = transaction
        .create_table(table(transaction.snapshot(), name))
        .unwrap();
    catalog.commit(transaction).await.unwrap();
    id
}
