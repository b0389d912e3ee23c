//! The latest queries of one connection's simple protocol with their plans.
//!
//! Dashboards and connection pools send the same text again and again; parsing and planning it costs
//! more than a small query itself. Whether a plan still holds is the session's to say
//! ([`Session::is_reusable`](boathouse_engine::session::Session::is_reusable)).

use std::collections::VecDeque;

use boathouse_engine::session::Prepared;

/// Queries kept for one connection, and the longest text kept: bounds of what an idle client holds.
const QUERIES_MAX: usize = 16;
const TEXT_BYTES_MAX: usize = 4 << 10;

/// The latest queries, newest first.
#[derive(Default)]
pub(super) struct RecentQueries {
    queries: VecDeque<(String, Prepared)>,
}

impl RecentQueries {
    /// Takes the plan of a text out; [`RecentQueries::keep`] puts it back when it still holds.
    pub fn take(&mut self, sql: &str) -> Option<Prepared> {
        let index = self.queries.iter().position(|(text, _)| text == sql)?;
        self.queries.remove(index).map(|(_, prepared)| prepared)
    }

    /// Keeps the plan of a text as the newest.
    pub fn keep(&mut self, sql: &str, prepared: Prepared) {
        if sql.len() > TEXT_BYTES_MAX {
            return;
        }
        self.queries.truncate(QUERIES_MAX - 1);
        self.queries.push_front((sql.to_owned(), prepared));
    }
}
