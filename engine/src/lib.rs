//! Carries out statements on a lake: plans queries, keeps tables, runs pipelines.
//!
//! ```text
//! server -> Session -> parse -> execute/<statement> -> query | lake | ingest
//!                                                    -> catalog transaction
//! ```
//!
//! An [`Engine`] is shared by everybody: the catalog, the lake, the memory pool and the caches. A
//! [`Session`] is one connection's state: role, settings, prepared statements, transaction. What a
//! socket is, the engine does not know.

mod audit;
pub mod engine;
pub mod error;
pub mod execute;
pub mod function;
pub mod ingest;
pub mod lake;
pub mod outcome;
pub mod query;
pub mod relation;
pub mod session;

pub use engine::{Engine, EngineConfig};
pub use error::{SqlError, SqlState};
pub use session::Session;
