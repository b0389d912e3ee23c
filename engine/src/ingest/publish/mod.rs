//! Out of the lake into Kafka: rows as messages.
//!
//! [`rows`] says what a row looks like in a message, [`topic`] which topic is meant and how it is written to.

mod rows;
mod topic;

pub use rows::RowFormat;
pub use topic::{open_cluster, options_of, writer_options};
