//! The PostgreSQL port of the real binary, as clients and as strangers meet it.

mod harness;
mod malformed;
mod protocol;
mod stopping;
