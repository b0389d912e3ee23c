//! `boathouse sql "..."`: runs statements once and prints what they give.
//!
//! With a lake (flag, environment or file) the engine runs in this process; with `--host`, or without
//! a lake, a server is asked. A catalog in SQLite or PostgreSQL takes both at once, so a running
//! server is no hindrance.

use std::path::PathBuf;
use std::process::ExitCode;

use boathouse_engine::Session;
use boathouse_engine::outcome::Outcome;
use boathouse_engine::session::SessionOptions;
use clap::Args;
use futures::StreamExt;

use super::output::{Form, Table};
use super::{CommandError, client, described, open_engine, session_runtime};
use crate::config::Config;

#[derive(Debug, Args)]
pub struct Arguments {
    /// Statements, separated by semicolons
    #[arg(value_name = "SQL")]
    pub statements: String,
    /// Ask the server at this host instead of opening the lake
    #[arg(long, env = "BOATHOUSE_HOST")]
    pub host: Option<String>,
    /// Port of the server [default: that of the setting listen]
    #[arg(long, env = "BOATHOUSE_PORT")]
    pub port: Option<u16>,
    /// Certificates to trust, PEM: the server must prove itself by one of them. Without it the
    /// connection is encrypted when the server can, and the certificate not verified
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// Role to run as
    #[arg(long, default_value = "boathouse")]
    pub user: String,
    /// Print comma-separated values
    #[arg(long, conflicts_with = "json")]
    pub csv: bool,
    /// Print one JSON object a row
    #[arg(long)]
    pub json: bool,
}

impl Arguments {
    fn form(&self) -> Form {
        match (self.csv, self.json) {
            (true, _) => Form::Csv,
            (_, true) => Form::Json,
            _ => Form::Aligned,
        }
    }
}

pub fn run(config: Config, arguments: Arguments) -> Result<ExitCode, CommandError> {
    let embedded = arguments.host.is_none() && config.lake.is_some();
    session_runtime()?.block_on(async {
        if embedded {
            run_embedded(config, arguments).await
        } else {
            client::run(&config, &arguments, arguments.form()).await
        }
    })
}

async fn run_embedded(config: Config, arguments: Arguments) -> Result<ExitCode, CommandError> {
    let engine = open_engine(&config, false).await?;
    let options = SessionOptions {
        role: arguments.user.clone(),
        database: "boathouse".to_owned(),
        settings: vec![("application_name".to_owned(), "boathouse sql".to_owned())],
        client_address: None,
    };
    let mut session = Session::open(&engine, options).map_err(|error| described(&error))?;
    let done = run_statements(&mut session, &arguments.statements, arguments.form()).await;
    engine.close().await;
    match done {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error) => {
            eprintln!("ERROR {}: {}", error.state.0, described(&error));
            Ok(ExitCode::FAILURE)
        }
    }
}

async fn run_statements(
    session: &mut Session,
    text: &str,
    form: Form,
) -> Result<(), boathouse_engine::SqlError> {
    for statement in session.parse(text)? {
        let prepared = session.prepare(statement, &[]).await?;
        let outcome = session.execute(&prepared, &[]).await;
        for notice in session.take_notices() {
            eprintln!("{}: {}", notice.severity, notice.message);
        }
        show(session, outcome?, form).await?;
    }
    Ok(())
}

/// Prints what one statement gave.
pub async fn show(
    session: &mut Session,
    outcome: Outcome,
    form: Form,
) -> Result<(), boathouse_engine::SqlError> {
    match outcome {
        Outcome::Rows {
            fields, mut stream, ..
        } => {
            let mut table = Table::new(&fields, form);
            while let Some(batch) = stream.next().await {
                let batch = batch.map_err(boathouse_engine::query::failure::from_datafusion)?;
                table.add(&batch).map_err(|error| {
                    boathouse_engine::SqlError::internal("a result could not be shown")
                        .caused_by(error)
                })?;
            }
            table.print();
        }
        Outcome::Command(tag) => {
            if form == Form::Aligned {
                println!("{tag}");
            }
        }
        Outcome::Empty => {}
        Outcome::CopyIn(copy) => {
            session.abort_copy(copy).await;
            return Err(
                boathouse_engine::SqlError::unsupported("COPY FROM STDIN here")
                    .hint("use psql, or COPY ... FROM 'file'"),
            );
        }
        Outcome::CopyOut(_) => {
            return Err(
                boathouse_engine::SqlError::unsupported("COPY TO STDOUT here")
                    .hint("use --csv, psql, or COPY ... TO 'file'"),
            );
        }
    }
    Ok(())
}
