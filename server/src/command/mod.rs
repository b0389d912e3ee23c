//! The subcommands, one file each.

mod catalog;
mod check;
mod client;
mod client_tls;
mod demo;
pub mod output;
mod serve;
mod sql;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use boathouse_engine::Engine;
use clap::{Parser, Subcommand};

use crate::config::{Config, Flags, engine_config};

/// A SQL-first lakehouse: Delta tables, pipelines, and a PostgreSQL port.
#[derive(Debug, Parser)]
#[command(name = "boathouse", version)]
struct Line {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    flags: Flags,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve a lake: the PostgreSQL port, health and metrics, scheduled pipelines
    Serve,
    /// Load the example files, show what comes of them, and serve
    Demo,
    /// Run SQL once and print the results
    Sql(sql::Arguments),
    /// Tell whether configuration, catalog and lake are in order
    Check,
    /// Repair the catalog
    #[command(subcommand)]
    Catalog(catalog::Action),
    #[command(name = "__read-excel", hide = true, disable_help_flag = true)]
    ReadExcel {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
}

/// Reads the command line and does what it says.
pub fn run() -> ExitCode {
    let Line { command, flags } = Line::parse();
    if let Command::ReadExcel { arguments } = command {
        return boathouse_connectors::excel_reader_main(arguments.into_iter());
    }
    let config = match Config::load(&flags) {
        Ok(config) => config,
        Err(error) => {
            if matches!(command, Command::Check) {
                println!("failed  {error}");
            } else {
                eprintln!("boathouse: {error}");
            }
            return ExitCode::FAILURE;
        }
    };
    crate::log::start(&config);
    let done = match command {
        Command::Serve => serve::run(config),
        Command::Demo => demo::run(config),
        Command::Sql(arguments) => sql::run(config, arguments),
        Command::Check => check::run(config),
        Command::Catalog(action) => catalog::run(config, action),
        Command::ReadExcel { .. } => Ok(ExitCode::SUCCESS),
    };
    done.unwrap_or_else(|error| {
        eprintln!("boathouse: {error}");
        ExitCode::FAILURE
    })
}

/// What a command ends with when it cannot do its work; told to a person.
pub type CommandError = Box<dyn std::error::Error + Send + Sync>;

/// Steps of tasks a thread of the runtime takes before it looks for tasks that woke elsewhere.
const STEPS_BETWEEN_LOOKS: u32 = 4;

/// How long a thread for blocking work waits for more. It keeps memory that it was done with: threads that encoded a file
/// together held a third of the process's until they ended.
const IDLE_THREAD_MAX: Duration = Duration::from_secs(1);

/// The runtime that sessions and queries run on.
///
/// A few threads more than cores: a connection that has to answer finds a free one although queries
/// keep every core busy. They look for news of sockets and finished reads after every few steps, because a
/// step of a query takes up to milliseconds, and a look a microsecond: whoever waits for it would wait
/// for a whole round of the others otherwise.
pub fn session_runtime() -> std::io::Result<tokio::runtime::Runtime> {
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(cores + 2)
        .thread_stack_size(boathouse_sql::STACK_BYTES_MIN)
        .thread_name("session")
        .thread_keep_alive(IDLE_THREAD_MAX)
        .event_interval(STEPS_BETWEEN_LOOKS)
        .global_queue_interval(STEPS_BETWEEN_LOOKS)
        .enable_all()
        .build()
}

/// Opens the engine that the settings describe.
pub async fn open_engine(
    config: &Config,
    runs_schedules: bool,
) -> Result<Arc<Engine>, CommandError> {
    let engine = Engine::open(engine_config(config, runs_schedules)?).await;
    engine.map_err(|error| described(&error).into())
}

/// A SQL error in one text: message, detail and what to do.
pub fn described(error: &boathouse_engine::SqlError) -> String {
    let mut text = error.message.clone();
    for (name, part) in [("detail", &error.detail), ("hint", &error.hint)] {
        if let Some(part) = part {
            text.push_str(&format!("\n{name}: {part}"));
        }
    }
    let mut cause = std::error::Error::source(error);
    while let Some(one) = cause {
        text.push_str(&format!("\ncause: {one}"));
        cause = one.source();
    }
    text
}
