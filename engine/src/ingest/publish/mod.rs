//! Out of the lake into Kafka: rows as messages.
//!
//! [`rows`] says what a row looks like in a message, [`topic`] which topic is meant and how it is written to. `COPY ... TO
//! KAFKA` needs no more. A pipeline FROM TABLE INTO KAFKA publishes the changes of a table, at least once and in the order
//! of its versions: [`plan`] resolves its statement, [`changes`] selects its rows, [`run`] sends them while [`hold`] says that they are its to send, [`position`] is how
//! far it is.

mod changes;
mod hold;
mod plan;
mod position;
mod rows;
mod run;
mod topic;

pub(super) use plan::{check, is_into_topic, parse_options, refuse_into_topic};
pub use position::recorded_publication;
pub use rows::RowFormat;
pub(super) use run::run_publication;
pub use topic::{open_cluster, options_of, writer_options};
