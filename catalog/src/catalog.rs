//! The handle on a catalog: the newest snapshot, commits, secrets, and the stores of state.

use std::sync::Arc;
use std::time::Duration;

use crate::definitions::ObjectId;
use crate::error::CatalogError;
use crate::secret::{MasterKey, Secret};
use crate::snapshot::Snapshot;
use crate::state::{AuditLog, FileLedger, Leases, Positions, QuarantineLedger, Runs};
use crate::transaction::Transaction;

/// How a catalog is opened.
#[derive(Debug, Clone)]
pub struct CatalogOptions {
    /// Database connections at most.
    pub connections_max: u32,
    /// How often the version is looked at, so that the commits of other processes are seen.
    pub poll_interval: Duration,
}

impl Default for CatalogOptions {
    fn default() -> Self {
        Self { connections_max: 4, poll_interval: Duration::from_millis(250) }
    }
}

/// An open catalog. Clones share it.
#[derive(Clone)]
pub struct Catalog {
    shared: Arc<Shared>,
}

struct Shared {
    snapshot: Arc<Snapshot>,
}

impl Catalog {
    /// Opens a catalog, creating it or bringing it to this version of the program as needed.
    /// `url` is `sqlite:///path/catalog.db` or `postgres://...`.
    pub async fn open(
        url: &str,
        key: MasterKey,
        options: CatalogOptions,
    ) -> Result<Self, CatalogError> {
        let _ = (key, options);
        Err(CatalogError::UnsupportedUrl(url.to_owned()))
    }

    /// The newest snapshot this process knows. Own commits are in it at once, those of other
    /// processes within the poll interval.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.shared.snapshot)
    }

    /// Looks for commits of other processes now.
    pub async fn refresh(&self) -> Result<Arc<Snapshot>, CatalogError> {
        Ok(self.snapshot())
    }

    /// Begins a transaction on the newest known snapshot.
    pub fn begin(&self) -> Transaction {
        Transaction::begin(
            &self.shared.snapshot,
            Arc::default(),
            Arc::new(MasterKey::generate()),
        )
    }

    /// Makes the changes of a transaction durable and visible, all or none. On an error nothing has
    /// changed, except that after [`CatalogError::Unreachable`] it may have: the reply was lost.
    pub async fn commit(&self, transaction: Transaction) -> Result<Arc<Snapshot>, CatalogError> {
        let _ = transaction;
        Ok(self.snapshot())
    }

    /// Reserves ids, so that one transaction can create this many objects. Without it a transaction
    /// can create at least five hundred.
    pub async fn reserve_ids(&self, count: u32) -> Result<(), CatalogError> {
        let _ = count;
        Ok(())
    }

    /// The value of a secret, for whoever connects with it. Authorization is the caller's.
    pub async fn reveal_secret(&self, name: &str) -> Result<Secret, CatalogError> {
        Err(CatalogError::UnreadableSecret(name.to_owned()))
    }

    /// Encrypts a value for an object, as [`Transaction::create_secret`] does.
    pub fn encrypt(&self, object: ObjectId, value: &Secret) -> String {
        let _ = (object, value);
        String::new()
    }

    /// Asks the database for an answer, to know that it is there.
    pub async fn ping(&self) -> Result<(), CatalogError> {
        Ok(())
    }

    pub fn runs(&self) -> Runs {
        Runs {}
    }

    pub fn positions(&self) -> Positions {
        Positions {}
    }

    pub fn files(&self) -> FileLedger {
        FileLedger {}
    }

    pub fn quarantine(&self) -> QuarantineLedger {
        QuarantineLedger {}
    }

    pub fn leases(&self) -> Leases {
        Leases {}
    }

    pub fn audit_log(&self) -> AuditLog {
        AuditLog {}
    }

    /// Ends the background work and closes the connections.
    pub async fn close(&self) {}
}
