//! How a connection is told, from outside, to stop what it does.
//!
//! Anybody may raise an interrupt: a cancel request, a timer, the shutdown. The connection looks at
//! it while it waits and between batches. A cancellation is for one statement only: it is raised
//! with the number of the statement meant, and has no effect on the next.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

/// Why to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// A cancel request of the client: stops the statement.
    Cancelled,
    /// `statement_timeout`: stops the statement.
    StatementTimeout,
    /// The server is going down: ends the connection once it is idle.
    Drain,
    /// Ends the connection now.
    Terminate,
}

const CANCELLED: u64 = 1;
const TIMEOUT: u64 = 2;
const DRAIN: u64 = 4;
const TERMINATE: u64 = 8;
const STATEMENT_SHIFT: u32 = 8;

/// One connection's interrupts. One task waits on it at a time.
#[derive(Debug, Default)]
pub struct Interrupt {
    /// The flags above, and above them the number of the running statement, 0 while idle.
    state: AtomicU64,
    statements: AtomicU64,
    raised: Notify,
}

impl Interrupt {
    /// Marks the beginning of a statement and gives its number.
    pub fn begin_statement(&self) -> u64 {
        let number = self.statements.fetch_add(1, Ordering::Relaxed) + 1;
        let keep = DRAIN | TERMINATE;
        self.update(|state| (state & keep) | (number << STATEMENT_SHIFT));
        number
    }

    /// Marks the end of a statement; what was raised to cancel it is forgotten.
    pub fn end_statement(&self) {
        self.update(|state| state & (DRAIN | TERMINATE));
    }

    /// Asks to cancel whatever statement runs now; does nothing to an idle connection.
    pub fn cancel(&self) {
        self.update(|state| {
            if state >> STATEMENT_SHIFT == 0 {
                state
            } else {
                state | CANCELLED
            }
        });
        self.raised.notify_one();
    }

    /// Tells that the time of this statement is over.
    pub fn time_out(&self, statement: u64) {
        self.update(|state| {
            if state >> STATEMENT_SHIFT == statement {
                state | TIMEOUT
            } else {
                state
            }
        });
        self.raised.notify_one();
    }

    pub fn drain(&self) {
        self.update(|state| state | DRAIN);
        self.raised.notify_one();
    }

    pub fn terminate(&self) {
        self.update(|state| state | TERMINATE);
        self.raised.notify_one();
    }

    /// Why the running statement has to stop, if it has to.
    pub fn running(&self) -> Option<Reason> {
        let state = self.state.load(Ordering::Acquire);
        if state & TERMINATE != 0 {
            Some(Reason::Terminate)
        } else if state & CANCELLED != 0 {
            Some(Reason::Cancelled)
        } else if state & TIMEOUT != 0 {
            Some(Reason::StatementTimeout)
        } else {
            None
        }
    }

    /// Why an idle connection has to end, if it has to.
    pub fn idle(&self) -> Option<Reason> {
        let state = self.state.load(Ordering::Acquire);
        if state & TERMINATE != 0 {
            Some(Reason::Terminate)
        } else if state & DRAIN != 0 {
            Some(Reason::Drain)
        } else {
            None
        }
    }

    /// Waits until the running statement has to stop.
    pub async fn until_running(&self) -> Reason {
        self.until(Self::running).await
    }

    /// Waits until the idle connection has to end.
    pub async fn until_idle(&self) -> Reason {
        self.until(Self::idle).await
    }

    /// Waits until the connection has to end whatever it is doing.
    pub async fn until_terminated(&self) {
        self.until(|interrupt| {
            interrupt
                .running()
                .filter(|reason| *reason == Reason::Terminate)
        })
        .await;
    }

    async fn until(&self, look: impl Fn(&Self) -> Option<Reason>) -> Reason {
        loop {
            let raised = self.raised.notified();
            if let Some(reason) = look(self) {
                return reason;
            }
            raised.await;
        }
    }

    fn update(&self, change: impl Fn(u64) -> u64) {
        // The closure always gives a new state, so the update cannot fail.
        let _ = self
            .state
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |state| {
                Some(change(state))
            });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_connection_is_not_cancelled() {
        let interrupt = Interrupt::default();
        interrupt.cancel();
        interrupt.begin_statement();
        assert_eq!(interrupt.running(), None);
        interrupt.cancel();
        assert_eq!(interrupt.running(), Some(Reason::Cancelled));
        interrupt.end_statement();
        assert_eq!(interrupt.running(), None);
    }

    #[test]
    fn a_late_timer_does_not_hit_the_next_statement() {
        let interrupt = Interrupt::default();
        let first = interrupt.begin_statement();
        interrupt.end_statement();
        interrupt.begin_statement();
        interrupt.time_out(first);
        assert_eq!(interrupt.running(), None);
    }

    #[test]
    fn draining_waits_for_the_statement_and_terminating_does_not() {
        let interrupt = Interrupt::default();
        interrupt.begin_statement();
        interrupt.drain();
        assert_eq!(interrupt.running(), None);
        assert_eq!(interrupt.idle(), Some(Reason::Drain));
        interrupt.terminate();
        assert_eq!(interrupt.running(), Some(Reason::Terminate));
    }

    #[tokio::test]
    async fn a_waiter_wakes() {
        let interrupt = std::sync::Arc::new(Interrupt::default());
        interrupt.begin_statement();
        let other = interrupt.clone();
        let raiser = tokio::spawn(async move { other.cancel() });
        assert_eq!(interrupt.until_running().await, Reason::Cancelled);
        raiser.await.unwrap();
    }
}
