//! How fast a pipeline may read: what was taken decides when the next may be.
//!
//! A block is taken whole, and the pause behind it is as long as the rate gives its rows or its bytes, whichever takes longer. So
//! the rate is kept on average, and a pipeline that stood still has saved nothing up.

use std::num::NonZeroU64;
use std::time::{Duration, Instant};

/// A limit of the messages of one pipeline, or of one server's share of it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Rate {
    /// Messages a second.
    pub rows: Option<NonZeroU64>,
    /// Bytes a second.
    pub bytes: Option<NonZeroU64>,
}

impl Rate {
    /// The rate of so many of all partitions.
    pub fn share(&self, own: usize, all: usize) -> Self {
        let share = |rate: NonZeroU64| {
            let (own, all) = (own as u128, (all as u128).max(1));
            let rate = u128::from(rate.get()) * own / all;
            NonZeroU64::new(u64::try_from(rate).unwrap_or(u64::MAX)).unwrap_or(NonZeroU64::MIN)
        };
        Self {
            rows: self.rows.map(share),
            bytes: self.bytes.map(share),
        }
    }

    /// When the next may be taken, after so many were taken now.
    pub fn resume_at(&self, now: Instant, rows: usize, bytes: usize) -> Instant {
        let of_rows = self.rows.map(|rate| pause(rows, rate));
        let of_bytes = self.bytes.map(|rate| pause(bytes, rate));
        now + of_rows.max(of_bytes).unwrap_or_default()
    }
}

fn pause(taken: usize, a_second: NonZeroU64) -> Duration {
    let taken = u64::try_from(taken).unwrap_or(u64::MAX);
    Duration::from_micros(taken.saturating_mul(1_000_000) / a_second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up_to_the_rate() {
        let rate = Rate {
            rows: NonZeroU64::new(1_000),
            bytes: None,
        };
        let rows = |own, all| rate.share(own, all).rows.map(NonZeroU64::get);
        assert_eq!(rows(3, 3), Some(1_000));
        assert_eq!(rows(3, 4), Some(750));
        assert_eq!(rows(1, 4), Some(250));
        assert_eq!(rows(0, 0), Some(1), "never none at all");
        assert_eq!(rate.share(1, 2).bytes, None);
    }

    #[test]
    fn the_slower_of_rows_and_bytes_decides() {
        let now = Instant::now();
        let rate = |rows, bytes| Rate {
            rows: NonZeroU64::new(rows),
            bytes: NonZeroU64::new(bytes),
        };
        let pause = |rate: Rate| rate.resume_at(now, 500, 3_000) - now;
        assert_eq!(pause(rate(0, 0)), Duration::ZERO);
        assert_eq!(pause(rate(1_000, 0)), Duration::from_millis(500));
        assert_eq!(pause(rate(1_000, 1_000)), Duration::from_secs(3));
        assert_eq!(pause(rate(100, 1_000)), Duration::from_secs(5));
    }
}
