//! Names, types, definitions, and the transactional store that holds them.
//!
//! ```text
//! statement -> Transaction (overlay over a Snapshot) -> Catalog::commit -> new Snapshot
//!                                                          |  one database transaction
//!                                                          v
//!                                              SQLite file or PostgreSQL
//! ```
//!
//! Everything a plan needs is in an immutable [`snapshot::Snapshot`] in memory, so planning does no
//! I/O. The snapshot changes only by [`catalog::Catalog::commit`]. What pipelines record while they
//! run (runs, positions, the file ledger, leases) is not in the snapshot; it is reached through the
//! asynchronous stores of [`state`].
//!
//! This crate knows no plans, no files of the lake and no sources. It authorizes nothing: it answers
//! who holds which privilege, and the engine asks.

pub mod catalog;
pub mod definitions;
pub mod error;
pub mod password;
pub mod secret;
pub mod snapshot;
pub mod state;
mod store;
#[cfg(test)]
mod testing;
pub mod transaction;
pub mod types;

pub use catalog::{Catalog, CatalogOptions};
pub use definitions::*;
pub use error::CatalogError;
pub use secret::{MasterKey, Secret};
pub use snapshot::{Relation, Snapshot};
pub use transaction::Transaction;
pub use types::ColumnType;
