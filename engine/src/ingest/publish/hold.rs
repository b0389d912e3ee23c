//! Whether the pipeline is still this run's, asked while messages are sent.
//!
//! A server that stood still for a while may wake when another one publishes, and what it goes on to send would be older
//! than what the other has sent. So a message is only sent when the lease was held a moment before, and the library gives a
//! message up before the lease could have ended since.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use boathouse_catalog::state::Lease;

use super::super::lease::LEASE_TTL;
use crate::engine::Engine;
use crate::error::{SqlError, SqlState};

/// How long what was heard of the lease is believed.
const BELIEVED: Duration = Duration::from_millis(1500);

/// How long it may take from asking to handing a message over.
const HANDED_WITHIN: Duration = Duration::from_millis(500);

/// How long the brokers may take at most: a message that was sent at the last moment is given up while the lease lasts.
pub(super) const DELIVERY_MAX: Duration = LEASE_TTL
    .saturating_sub(BELIEVED)
    .saturating_sub(HANDED_WITHIN);

/// The lease of a run.
pub(super) struct Hold {
    engine: Arc<Engine>,
    lease: Lease,
    begun: Instant,
    /// When it was last renewed, in milliseconds since it began.
    renewed: AtomicU64,
}

impl Hold {
    /// The lease was just taken or is renewed by [`Hold::check`] before anything is sent.
    pub fn new(engine: Arc<Engine>, lease: Lease) -> Self {
        // As if it had been heard of too long ago.
        let now = Instant::now();
        let begun = now.checked_sub(BELIEVED * 2).unwrap_or(now);
        Self {
            engine,
            lease,
            begun,
            renewed: AtomicU64::new(0),
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// How long ago the lease was heard of.
    fn since(&self) -> Duration {
        let renewed = self.renewed.load(Ordering::Relaxed);
        Duration::from_millis(self.now().saturating_sub(renewed))
    }

    /// Whether what was handed over since [`Hold::check`] will be given up while the lease lasts.
    pub fn was_in_time(&self) -> bool {
        self.since() < BELIEVED + HANDED_WITHIN
    }

    /// Asks for the lease, unless it was heard of a moment ago.
    ///
    /// # Errors
    ///
    /// It was lost.
    pub async fn check(&self) -> Result<(), SqlError> {
        let asked = self.now();
        if self.since() < BELIEVED {
            return Ok(());
        }
        if self
            .engine
            .catalog
            .leases()
            .renew(&self.lease, LEASE_TTL)
            .await?
        {
            // From before it was asked: the answer may have waited.
            self.renewed.store(asked, Ordering::Relaxed);
            return Ok(());
        }
        Err(SqlError::new(
            SqlState::LOCK_NOT_AVAILABLE,
            "the lease of the pipeline was lost while it published",
        )
        .hint("another server goes on with it"))
    }
}
