//! The only place that speaks SQL about definitions, and the door to the database for [`crate::state`].
//!
//! One SQL text serves SQLite and PostgreSQL: placeholders are `$1`, booleans are 0 and 1, and
//! [`database`] knows the few expressions the two spell differently.
//!
//! - `database`: opening, migrating, reading and writing.
//! - `load`: rows to a snapshot.
//! - `write`: one change to rows.
//! - `ids`: object ids handed out in memory.
//! - `failure`: the driver's errors in the catalog's words.

pub(crate) mod database;
mod failure;
pub(crate) mod ids;
pub(crate) mod load;
pub(crate) mod write;

pub(crate) use failure::is_missing_reference;
