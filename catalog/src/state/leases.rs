//! Who may do a thing that only one server may do at a time, such as run a pipeline.
//!
//! A lease ends by itself when it is not renewed. Its holder may not notice in time (a paused
//! process), so each holder gets a larger fencing token, and whatever the lease protects checks it.
//! Expiry is judged by the database's clock alone.

use std::time::Duration;

use crate::error::CatalogError;

/// A lease that was held when it was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    pub name: String,
    pub owner: String,
    /// Larger than that of every earlier holder.
    pub fencing: i64,
}

/// All leases.
#[derive(Clone)]
pub struct Leases {}

impl Leases {
    /// Takes a lease that is free or has ended, or gives `None`. `owner` must be unique to the holder.
    pub async fn acquire(
        &self,
        name: &str,
        owner: &str,
        ttl: Duration,
    ) -> Result<Option<Lease>, CatalogError> {
        let _ = (name, owner, ttl);
        Ok(None)
    }

    /// Keeps a lease for another `ttl` from now. `false` when it was lost: its holder must stop.
    pub async fn renew(&self, lease: &Lease, ttl: Duration) -> Result<bool, CatalogError> {
        let _ = (lease, ttl);
        Ok(false)
    }

    /// Gives a lease back. Nothing happens when it was lost.
    pub async fn release(&self, lease: &Lease) -> Result<(), CatalogError> {
        let _ = lease;
        Ok(())
    }
}
