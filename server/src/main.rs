//! The binary `boathouse`: reads what it is told and starts what is wanted.

mod command;
mod config;
mod http;
mod log;
mod metrics;
mod wire;

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    command::run()
}
