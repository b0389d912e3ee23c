//! PostgreSQL's functions, one file per family.
//!
//! A function is a list of [`Overload`]s: a name, the types of its arguments, the type it gives, and
//! a body. [`registry`] resolves a call by PostgreSQL's rules (exact types first, then implicit
//! casts, a bare string literal fits anything), so the planner knows the result's type before
//! DataFusion sees the call, and an unknown call fails with 42883 and the types it was made with.
//!
//! A body is a row function over [`value::Value`]s, a function over whole columns, or a function of
//! DataFusion's that behaves as PostgreSQL's does; what is called most has a [`shortcut`] beside its
//! row function. A row function with a NULL argument gives NULL unless it says otherwise. Bodies
//! never panic; they fail with a [`SqlError`](crate::SqlError).

pub mod cast;
pub mod datetime;
pub mod format_text;
pub mod interval;
pub mod json;
pub mod not_empty;
pub mod number;
pub mod operator;
pub mod regexp;
pub mod registry;
pub mod scalar;
pub mod set_returning;
pub mod shortcut;
pub mod sleep;
pub mod system;
pub mod text;
pub mod text_io;
pub mod to_char;
pub mod value;

pub use registry::{Resolved, resolve};
pub use scalar::{Body, FunctionContext, Overload, Returns};
pub use value::Value;
