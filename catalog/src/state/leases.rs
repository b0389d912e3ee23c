//! Who may do a thing that only one server may do at a time, such as run a pipeline.
//!
//! A lease ends by itself when it is not renewed. Its holder may not notice in time (a paused
//! process), so each holder gets a larger fencing token, and whatever the lease protects checks it.
//! Expiry is judged by the database's clock alone.
//!
//! Several holders may share a thing in parts. Each has a lease that says it lives, which it renews, and with the same
//! owner one for each part, which last as long as that one does: [`Leases::bury`] ends the first and with it all others.
//! So the first one's token stands for them all, and however many parts there are, one lease is renewed.
//!
//! With a renewal a holder may tell what it is at, which is heard as long as its lease lasts.

use std::time::Duration;

use sqlx::{AnyConnection, AssertSqlSafe};

use crate::definitions::ObjectId;
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

/// A lease on record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holding {
    pub lease: Lease,
    /// Whether its time is not over.
    pub is_live: bool,
}

/// How long the lease of a part lasts if its holder's own lease does.
const OF_A_PART: Duration = Duration::MAX;

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
        let mut writing = self.database.write().await?;
        let taken = self.take(&mut writing, name, owner, ttl).await?;
        writing.commit().await?;
        Ok(taken)
    }

    async fn take(
        &self,
        connection: &mut AnyConnection,
        name: &str,
        owner: &str,
        ttl: Duration,
    ) -> Result<Option<Lease>, CatalogError> {
        let now = self.database.now();
        let query = sqlx::query_scalar(AssertSqlSafe(format!(
            "INSERT INTO leases (name, owner, fencing, expires_at) VALUES ($1, $2, 1, {now} + $3) \
             ON CONFLICT (name) DO UPDATE SET owner = excluded.owner, \
             fencing = leases.fencing + 1, expires_at = excluded.expires_at, told = NULL \
             WHERE leases.expires_at <= {now} RETURNING fencing"
        )));
        let query = query
            .bind(name.to_owned())
            .bind(owner.to_owned())
            .bind(milliseconds(ttl));
        let fencing: Option<i64> = query.fetch_optional(connection).await?;
        let (name, owner) = (name.to_owned(), owner.to_owned());
        Ok(fencing.map(|fencing| Lease {
            name,
            owner,
            fencing,
        }))
    }

    /// Takes those leases of parts that are free, and gives them. They last as long as the owner's own lease, which
    /// must still be held.
    pub async fn acquire_parts(
        &self,
        own: &Lease,
        names: &[String],
    ) -> Result<Vec<Lease>, CatalogError> {
        let mut names: Vec<&String> = names.iter().collect();
        // In one order, so that two who take the same do not wait for each other.
        names.sort();
        let mut taken = Vec::with_capacity(names.len());
        let mut writing = self.database.write().await?;
        hold(&mut writing, own).await?;
        for name in names {
            let lease = self.take(&mut writing, name, &own.owner, OF_A_PART);
            taken.extend(lease.await?);
        }
        writing.commit().await?;
        Ok(taken)
    }

    /// Gives leases back, all of them at once.
    pub async fn release_parts(&self, leases: &[&Lease]) -> Result<(), CatalogError> {
        let mut leases = leases.to_vec();
        leases.sort_by(|one, other| one.name.cmp(&other.name));
        let mut writing = self.database.write().await?;
        for lease in leases {
            give_back(&mut writing, lease).await?;
        }
        writing.commit().await
    }

    /// The lease of a name and those whose names go on with a colon after it, in the order of their names.
    pub async fn under(&self, name: &str) -> Result<Vec<Holding>, CatalogError> {
        let now = self.database.now();
        let query = sqlx::query_as(AssertSqlSafe(format!(
            "SELECT name, owner, fencing, CASE WHEN expires_at > {now} THEN 1 ELSE 0 END FROM leases \
             WHERE (name = $1 OR SUBSTR(name, 1, $2) = $3) AND owner <> ''"
        )));
        let below = format!("{name}:");
        let query = query
            .bind(name.to_owned())
            .bind(i32::try_from(below.chars().count()).unwrap_or(i32::MAX))
            .bind(below);
        let found: Vec<(String, String, i64, i32)> = query.fetch_all(self.database.pool()).await?;
        let mut found: Vec<Holding> = found
            .into_iter()
            .map(|(name, owner, fencing, is_live)| Holding {
                lease: Lease {
                    name,
                    owner,
                    fencing,
                },
                is_live: is_live != 0,
            })
            .collect();
        found.sort_by(|one, other| one.lease.name.cmp(&other.lease.name));
        Ok(found)
    }

    /// Ends a holder's own lease, whose name nobody takes again, and gives back all that the holder has besides.
    /// One that is not known to be dead is left alone while its lease is live. Tells whether it was ended.
    pub async fn bury(&self, own: &Lease, is_dead: bool) -> Result<bool, CatalogError> {
        let now = self.database.now();
        let query = sqlx::query(AssertSqlSafe(format!(
            "DELETE FROM leases WHERE name = $1 AND owner = $2 AND fencing = $3 \
             AND (expires_at <= {now} OR $4 = 1)"
        )));
        let query = query
            .bind(own.name.clone())
            .bind(own.owner.clone())
            .bind(own.fencing)
            .bind(i32::from(is_dead));
        let mut writing = self.database.write().await?;
        if query.execute(&mut *writing).await?.rows_affected() == 0 {
            return Ok(false);
        }
        // What is named under it is never taken again either.
        let query = sqlx::query("DELETE FROM leases WHERE SUBSTR(name, 1, $1) = $2");
        let below = format!("{}:", own.name);
        query
            .bind(i32::try_from(below.chars().count()).unwrap_or(i32::MAX))
            .bind(below)
            .execute(&mut *writing)
            .await?;
        let query = sqlx::query(
            "UPDATE leases SET owner = '', expires_at = 0, told = NULL WHERE owner = $1",
        );
        query.bind(own.owner.clone()).execute(&mut *writing).await?;
        writing.commit().await?;
        Ok(true)
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

    /// Keeps a lease as [`Leases::renew`] does, and tells those who ask what its holder is at; `None` when that is not known.
    pub async fn renew_telling(
        &self,
        lease: &Lease,
        ttl: Duration,
        told: Option<&serde_json::Value>,
    ) -> Result<bool, CatalogError> {
        let now = self.database.now();
        let query = sqlx::query(AssertSqlSafe(format!(
            "UPDATE leases SET expires_at = {now} + $4, told = $5 \
             WHERE name = $1 AND owner = $2 AND fencing = $3"
        )));
        let query = query
            .bind(lease.name.clone())
            .bind(lease.owner.clone())
            .bind(lease.fencing)
            .bind(milliseconds(ttl))
            .bind(told.map(ToString::to_string));
        let mut writing = self.database.write().await?;
        let held = query.execute(&mut *writing).await?.rows_affected() > 0;
        writing.commit().await?;
        Ok(held)
    }

    /// What those tell who hold the lease of a name, or one whose name goes on with a colon after it.
    pub async fn told(&self, name: &str) -> Result<Vec<serde_json::Value>, CatalogError> {
        let now = self.database.now();
        let query = sqlx::query_as(AssertSqlSafe(format!(
            "SELECT name, told FROM leases WHERE (name = $1 OR SUBSTR(name, 1, $2) = $3) \
             AND owner <> '' AND expires_at > {now} AND told IS NOT NULL ORDER BY name"
        )));
        let below = format!("{name}:");
        let query = query
            .bind(name.to_owned())
            .bind(i32::try_from(below.chars().count()).unwrap_or(i32::MAX))
            .bind(below);
        let found: Vec<(String, String)> = query.fetch_all(self.database.pool()).await?;
        let found = found.into_iter().map(|(name, told)| {
            serde_json::from_str(&told).map_err(|error| CatalogError::Corrupt {
                what: format!("what the holder of lease \"{name}\" tells"),
                source: Some(error.into()),
            })
        });
        found.collect()
    }

    /// Forgets the leases of a pipeline that nobody holds, once it is dropped: its names are not used again.
    pub async fn forget(&self, pipeline: ObjectId) -> Result<(), CatalogError> {
        let mut writing = self.database.write().await?;
        forget(&mut writing, pipeline).await?;
        writing.commit().await
    }

    /// Gives a lease back. Nothing happens when it was lost.
    pub async fn release(&self, lease: &Lease) -> Result<(), CatalogError> {
        let mut writing = self.database.write().await?;
        give_back(&mut writing, lease).await?;
        writing.commit().await
    }
}

/// The name of a pipeline's lease. Those of its parts and of its members begin with it and a colon.
pub fn pipeline_lease(pipeline: ObjectId) -> String {
    format!("pipeline:{pipeline}")
}

pub(crate) async fn forget(
    connection: &mut AnyConnection,
    pipeline: ObjectId,
) -> Result<(), CatalogError> {
    let name = pipeline_lease(pipeline);
    let below = format!("{name}:");
    let query = sqlx::query(
        "DELETE FROM leases WHERE owner = '' AND (name = $1 OR SUBSTR(name, 1, $2) = $3)",
    );
    let query = query
        .bind(name)
        .bind(i32::try_from(below.chars().count()).unwrap_or(i32::MAX))
        .bind(below);
    query.execute(connection).await?;
    Ok(())
}

async fn give_back(connection: &mut AnyConnection, lease: &Lease) -> Result<(), CatalogError> {
    // The row stays, so that the next holder's token is larger.
    let query = sqlx::query(
        "UPDATE leases SET owner = '', expires_at = 0, told = NULL \
         WHERE name = $1 AND owner = $2 AND fencing = $3",
    );
    let query = query
        .bind(lease.name.clone())
        .bind(lease.owner.clone())
        .bind(lease.fencing);
    query.execute(connection).await?;
    Ok(())
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
