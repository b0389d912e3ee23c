//! The binlog: what a server sends to its replicas, event by event.
//!
//! ```text
//! stream: packets -> event: what it says -> (table_map, rows): row images
//! ```
//!
//! Events are told apart by their number. One that is not known, or that says less than its rows, is never
//! passed over: it is [`Event::Unreadable`] with its name, and whoever reads stops there.
//! Source: MySQL's "Replication Protocol" and "Binary Log Format", MariaDB's "Replication Protocol".

mod ahead;
pub(crate) mod bytes;
pub(crate) mod event;
mod stream;
pub(crate) mod table_map;

pub(crate) use event::{Event, RowsKind, TransactionId};
pub(crate) use stream::Binlog;
pub(crate) use table_map::TableMap;

/// An event that ends early or contradicts itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the event is malformed")]
pub(crate) struct Malformed;
