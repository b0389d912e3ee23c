//! The parts of sqlparser's syntax tree that statements carry: queries and expressions.
//!
//! Identifiers in it are already folded as PostgreSQL folds them (unquoted ones are lower case, none
//! is longer than 63 bytes), so they are compared as they stand. The span of an identifier holds
//! its character position in the query string: line 1, column = position from 1.

pub use sqlparser::ast::*;
