//! The PostgreSQL port: sockets, messages, and rows on their way to clients.
//!
//! ```text
//! listener (its own thread) -> startup (TLS, SCRAM) -> connection -> simple | extended
//!                                                         |             -> reply (rows, COPY)
//!     registry <- cancel requests, shutdown               v
//!         `-> interrupt -> what runs now stops         Session (the engine's)
//! ```
//!
//! A connection is one task that owns its socket and its session and does one thing at a time.
//! While a statement runs the task also watches the socket and its interrupt, so a client that
//! vanishes, a cancel request, `statement_timeout` and the shutdown drop the engine's future, and
//! with it the work. Accepting, cancelling and timing happen on a thread of their own: queries that
//! use every core do not delay them.
//!
//! What must stay true: no message of a client ends the process or another connection; a client that
//! does not read holds one batch and one buffer; nobody gets in without a password.

pub mod channel;
pub mod connection;
pub mod copy_out;
pub mod extended;
pub mod interrupt;
pub mod listener;
pub mod message;
mod options;
pub mod parameter;
mod recent;
pub mod registry;
pub mod reply;
pub mod rows;
pub mod scram;
pub mod startup;
pub mod tls;
pub mod value;

use std::sync::Arc;

use boathouse_engine::outcome::Notice;
use boathouse_engine::{Engine, SqlError};

use crate::metrics::Metrics;
use message::Report;

/// What every connection shares.
pub struct Shared {
    pub engine: Arc<Engine>,
    pub registry: Arc<registry::Registry>,
    pub tls: Option<tls::Tls>,
    pub options: Options,
    pub metrics: Arc<Metrics>,
    /// Makes up the answers to users that do not exist.
    pub process_secret: [u8; 32],
    /// The thread that accepts, cancels and times.
    pub timers: tokio::runtime::Handle,
}

#[derive(Debug, Clone, Copy)]
pub struct Options {
    pub require_tls: bool,
    pub connections_max: usize,
}

/// A statement's error as the client gets it.
pub fn report(error: SqlError) -> Report {
    Report {
        severity: "ERROR",
        state: error.state.0,
        message: error.message,
        detail: error.detail,
        hint: error.hint,
        position: error.position,
    }
}

fn notice(notice: Notice) -> Report {
    Report {
        severity: notice.severity,
        state: notice.state.0,
        message: notice.message,
        detail: notice.detail,
        hint: notice.hint,
        position: None,
    }
}
