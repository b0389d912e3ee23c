//! Who may do a thing that only one server may do at a time, such as run a pipeline.
//!
//! A lease ends by itself when it is not renewed. Its holder may not notice in time (a paused
//! process), so each holder gets a larger fencing token, and whatever the lease protects checks it.
//! Expiry is judged by the database's clock alone.

use std::time::Duration;

use sqlx::{AnyConnection, AssertSqlSafe};

use crate::error::CatalogError;
use crate::store::database::Database;

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
pub struct Leases {
    database: Database,
}

impl Leases {
    pub(crate) fn new(database: Database) -> Self {
        Self { database }
    }

    /// Takes a lease that is free or has ended, or gives `None`. `owner` must be unique to the holder.
    pub async fn acquire(
        &self,
        name: &str,
        owner: &str,
        ttl: Duration,
    ) -> Result<Option<Lease>, CatalogError> {
        let now = self.database.now();
        let query = sqlx::query_scalar(AssertSqlSafe(format!(
            "INSERT INTO leases (name, owner, fencing, expires_at) VALUES ($1, $2, 1, {now} + $3) \
             ON CONFLICT (name) DO UPDATE SET owner = excluded.owner, \
             fencing = leases.fencing + 1, expires_at = excluded.expires_at \
             WHERE leases.expires_at <= {now} RETURNING fencing"
        )));
        let query = query
            .bind(name.to_owned())
            .bind(owner.to_owned())
            .bind(milliseconds(ttl));
        let mut writing = self.database.write().await?;
        let fencing: Option<i64> = query.fetch_optional(&mut *writing).await?;
        writing.commit().await?;
        let (name, owner) = (name.to_owned(), owner.to_owned());
        Ok(fencing.map(|fencing| Lease {
            name,
            owner,
            fencing,
        }))
    }

    /// Who holds a lease that has not ended.
    pub async fn holder(&self, name: &str) -> Result<Option<Lease>, CatalogError> {
        let now = self.database.now();
        let query = sqlx::query_as(AssertSqlSafe(format!(
            "SELECT owner, fencing FROM leases WHERE name = $1 AND expires_at > {now}"
        )));
        let query = query.bind(name.to_owned());
        let mut writing = self.database.write().await?;
        let held: Option<(String, i64)> = query.fetch_optional(&mut *writing).await?;
        writing.commit().await?;
        let name = name.to_owned();
        Ok(held.map(|(owner, fencing)| Lease {
            name,
            owner,
            fencing,
        }))
    }

    /// Keeps a lease for another `ttl` from now, also after it ended if nobody took it meanwhile.
    /// `false` when it was lost: its holder must stop.
    pub async fn renew(&self, lease: &Lease, ttl: Duration) -> Result<bool, CatalogError> {
        let now = self.database.now();
        let query = sqlx::query(AssertSqlSafe(format!(
            "UPDATE leases SET expires_at = {now} + $4 \
             WHERE name = $1 AND owner = $2 AND fencing = $3"
        )));
        let query = query
            .bind(lease.name.clone())
            .bind(lease.owner.clone())
            .bind(lease.fencing)
            .bind(milliseconds(ttl));
        let mut writing = self.database.write().await?;
        let held = query.execute(&mut *writing).await?.rows_affected() > 0;
        writing.commit().await?;
        Ok(held)
    }

    /// Gives a lease back. Nothing happens when it was lost.
    pub async fn release(&self, lease: &Lease) -> Result<(), CatalogError> {
        // The row stays, so that the next holder's token is larger.
        let query = sqlx::query(
            "UPDATE leases SET owner = '', expires_at = 0 \
             WHERE name = $1 AND owner = $2 AND fencing = $3",
        );
        let query = query
            .bind(lease.name.clone())
            .bind(lease.owner.clone())
            .bind(lease.fencing);
        let mut writing = self.database.write().await?;
        query.execute(&mut *writing).await?;
        writing.commit().await
    }
}

/// Fails when a lease was taken over or given back, and keeps it from being taken over until the
/// transaction of the connection ends.
pub(super) async fn hold(
    connection: &mut AnyConnection,
    lease: &Lease,
) -> Result<(), CatalogError> {
    let query = sqlx::query(
        "UPDATE leases SET fencing = fencing WHERE name = $1 AND owner = $2 AND fencing = $3",
    );
    let query = query
        .bind(lease.name.clone())
        .bind(lease.owner.clone())
        .bind(lease.fencing);
    match query.execute(connection).await?.rows_affected() {
        0 => Err(CatalogError::LeaseLost(lease.name.clone())),
        _ => Ok(()),
    }
}

fn milliseconds(duration: Duration) -> i64 {
    /// A year: beyond it the clock's own range would matter.
    const LONGEST: i64 = 366 * 24 * 60 * 60 * 1000;
    i64::try_from(duration.as_millis()).map_or(LONGEST, |millis| millis.min(LONGEST))
}
