//! The PostgreSQL port of the real binary, as clients and as strangers meet it.

// A test that cannot go on fails.
#![allow(clippy::unwrap_used)]

mod harness;
mod malformed;
mod protocol;
mod stopping;
