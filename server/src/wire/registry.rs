//! Who is connected: to find the statement a cancel request means, to count, and to say goodbye.
//!
//! A connection is in the registry from the moment it is accepted, and leaves it by dropping its
//! [`Place`].

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::interrupt::Interrupt;

#[derive(Default)]
pub struct Registry {
    state: Mutex<State>,
    left: Notify,
}

#[derive(Default)]
struct State {
    next: u64,
    connections: HashMap<u64, Entry>,
    /// Set once the server goes down: whoever comes later is told at once.
    draining: bool,
}

struct Entry {
    interrupt: Arc<Interrupt>,
    /// Known once the client has proved who it is.
    session: Option<SessionKey>,
}

struct SessionKey {
    process_id: i32,
    secret: i32,
    role: String,
}

/// A connection's entry in the registry.
pub struct Place {
    registry: Arc<Registry>,
    number: u64,
    pub interrupt: Arc<Interrupt>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.registry.state().connections.remove(&self.number);
        self.registry.left.notify_waiters();
    }
}

impl Place {
    /// Makes the session reachable by cancel requests. `Err` when the role has `limit` sessions
    /// already; a negative limit is none.
    pub fn sign_in(
        &self,
        role: &str,
        process_id: i32,
        secret: i32,
        limit: i32,
    ) -> Result<(), TooManyConnections> {
        let mut state = self.registry.state();
        if let Ok(limit) = usize::try_from(limit) {
            let taken = state
                .connections
                .values()
                .filter(|entry| entry.role() == Some(role));
            if taken.count() >= limit {
                return Err(TooManyConnections);
            }
        }
        if let Some(entry) = state.connections.get_mut(&self.number) {
            entry.session = Some(SessionKey {
                process_id,
                secret,
                role: role.to_owned(),
            });
        }
        Ok(())
    }
}

pub struct TooManyConnections;

impl Entry {
    fn role(&self) -> Option<&str> {
        self.session.as_ref().map(|session| session.role.as_str())
    }
}

impl Registry {
    /// Takes a place unless `connections_max` are taken.
    pub fn enter(self: &Arc<Self>, connections_max: usize) -> Result<Place, TooManyConnections> {
        let mut state = self.state();
        if state.connections.len() >= connections_max {
            return Err(TooManyConnections);
        }
        state.next += 1;
        let number = state.next;
        let interrupt = Arc::new(Interrupt::default());
        if state.draining {
            interrupt.drain();
        }
        state.connections.insert(
            number,
            Entry {
                interrupt: interrupt.clone(),
                session: None,
            },
        );
        Ok(Place {
            registry: self.clone(),
            number,
            interrupt,
        })
    }

    /// Cancels what the session runs, if the secret is right. A wrong one is answered with silence.
    pub fn cancel(&self, process_id: i32, secret: i32) {
        let state = self.state();
        let found = state.connections.values().find(|entry| {
            entry
                .session
                .as_ref()
                .is_some_and(|session| session.process_id == process_id && session.secret == secret)
        });
        if let Some(entry) = found {
            entry.interrupt.cancel();
        }
    }

    pub fn count(&self) -> usize {
        self.state().connections.len()
    }

    /// Asks every connection to end once it is idle.
    pub fn drain(&self) {
        let mut state = self.state();
        state.draining = true;
        for entry in state.connections.values() {
            entry.interrupt.drain();
        }
    }

    /// Ends every connection now.
    pub fn terminate(&self) {
        for entry in self.state().connections.values() {
            entry.interrupt.terminate();
        }
    }

    /// Waits until nobody is connected.
    pub async fn until_empty(&self) {
        loop {
            let left = self.left.notified();
            if self.count() == 0 {
                return;
            }
            left.await;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing under the lock can leave the map half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::super::interrupt::Reason;
    use super::*;

    #[tokio::test]
    async fn only_the_right_secret_cancels() {
        let registry = Arc::new(Registry::default());
        let place = registry.enter(1).ok().unwrap();
        assert!(registry.enter(1).is_err());
        assert!(place.sign_in("ann", 7, 1234, -1).is_ok());
        place.interrupt.begin_statement();
        registry.cancel(7, 4321);
        assert_eq!(place.interrupt.running(), None);
        registry.cancel(7, 1234);
        assert_eq!(place.interrupt.running(), Some(Reason::Cancelled));
        drop(place);
        registry.until_empty().await;
    }

    #[test]
    fn a_role_has_its_own_limit() {
        let registry = Arc::new(Registry::default());
        let first = registry.enter(5).ok().unwrap();
        let second = registry.enter(5).ok().unwrap();
        assert!(first.sign_in("ann", 1, 1, 1).is_ok());
        assert!(second.sign_in("ann", 2, 2, 1).is_err());
        assert!(second.sign_in("bob", 2, 2, 1).is_ok());
    }
}
