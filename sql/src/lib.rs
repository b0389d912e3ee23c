//! Turns SQL text into statements: splits, parses, folds names, and knows how each is written.
//!
//! ```text
//! text -> tokens -> one token list per statement -> Statement
//!                   (identifiers folded)            (Display gives canonical text back)
//! ```
//!
//! It knows nothing of a catalog, of connectors or of running anything: which options exist is
//! decided where they are used, and whether a name exists by whoever plans. What must stay true:
//! nothing a statement says is dropped silently (what cannot be carried out is refused with 0A000,
//! naming it), parsing never panics whatever the text, and `parse(display(x)) == x`.

pub mod ast;
mod column_type;
mod dialect;
mod display;
pub mod error;
mod input;
pub mod name;
pub mod option;
mod parse;
mod redact;
pub mod schedule;
pub mod secret;
mod source;
pub mod statement;
pub mod topic;

pub use display::{expression_text, query_text};
pub use error::ParseError;
pub use name::QualifiedName;
pub use option::{OptionValue, SqlOption};
pub use parse::{ParsedStatement, parse, parse_expression, parse_query, words};
pub use redact::redact_unparsed;
pub use source::STACK_BYTES_MIN;
pub use statement::Statement;
