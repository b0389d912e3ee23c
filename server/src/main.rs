//! The binary `boathouse`.

mod config;
mod metrics;
mod wire;

fn main() {}
