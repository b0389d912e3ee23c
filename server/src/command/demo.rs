//! `boathouse demo`: the main job on the example files, then a server to look around in.
//!
//! The example inbox and its statements are part of the binary, so the demo needs nothing beside it.
//! Run again on the same lake it makes nothing twice: the statements are there, the files are loaded.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use boathouse_engine::outcome::Outcome;
use boathouse_engine::session::SessionOptions;
use boathouse_engine::{Engine, Session, SqlError};

use super::output::Form;
use super::serve::{Server, ensure_password, until_signal};
use super::sql::show;
use super::{CommandError, described, open_engine, session_runtime};
use crate::config::Config;

/// Where the demo's lake is unless `--lake` says otherwise.
const LAKE: &str = "boathouse-demo";

const STATEMENTS: &str = include_str!("../../../examples/demo.sql");

const FILES: &[(&str, &[u8])] = &[
    (
        "merchants/sentosa/stock_2026-11-02.csv",
        include_bytes!("../../../examples/inbox/merchants/sentosa/stock_2026-11-02.csv"),
    ),
    (
        "merchants/kimia-tama/stock_nov.xls",
        include_bytes!("../../../examples/inbox/merchants/kimia-tama/stock_nov.xls"),
    ),
    (
        "merchants/apotek-jaya/stock_november.xlsx",
        include_bytes!("../../../examples/inbox/merchants/apotek-jaya/stock_november.xlsx"),
    ),
    (
        "claims/claims_2026-10.xlsx",
        include_bytes!("../../../examples/inbox/claims/claims_2026-10.xlsx"),
    ),
];

pub fn run(mut config: Config) -> Result<ExitCode, CommandError> {
    config.lake.get_or_insert_with(|| LAKE.to_owned());
    let sessions = session_runtime()?;
    let served = sessions.block_on(demonstrate(config));
    sessions.shutdown_timeout(Duration::from_secs(2));
    served.map(|()| ExitCode::SUCCESS)
}

async fn demonstrate(config: Config) -> Result<(), CommandError> {
    let lake = config.lake.clone().unwrap_or_else(|| LAKE.to_owned());
    if lake.contains("://") {
        return Err("the demo wants a local folder as its lake".into());
    }
    let inbox = write_inbox(Path::new(&lake))?;
    say(&format!(
        "The lake is {lake}, the inbox {}.",
        inbox.display()
    ));
    let engine = open_engine(&config, config.schedules).await?;
    ensure_password(&engine).await?;
    let server = Server::start(&config, Arc::clone(&engine)).await?;
    show_statements(&engine, &inbox).await?;
    say(&format!(
        "\nServing. Connect with\n\n  psql -h {} -p {} -U boathouse boathouse\n\n\
         and stop with Ctrl-C.",
        server.address.ip(),
        server.address.port()
    ));
    until_signal().await?;
    server
        .stop(Duration::from_secs(config.shutdown_grace))
        .await;
    Ok(())
}

/// Puts the example files where a merchant would put them. A file that is there stays as it is, so
/// that a visitor's changes survive.
fn write_inbox(lake: &Path) -> std::io::Result<PathBuf> {
    let inbox = std::path::absolute(lake)?.join("_boathouse/demo/inbox");
    for (name, content) in FILES {
        let path = inbox.join(name);
        if path.exists() {
            continue;
        }
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::write(path, content)?;
    }
    Ok(inbox)
}

async fn show_statements(engine: &Arc<Engine>, inbox: &Path) -> Result<(), CommandError> {
    let options = SessionOptions {
        role: "boathouse".to_owned(),
        database: "boathouse".to_owned(),
        settings: vec![("application_name".to_owned(), "boathouse demo".to_owned())],
        client_address: None,
    };
    let mut session = Session::open(engine, options).map_err(|error| described(&error))?;
    let text = STATEMENTS.replace("{inbox}", &inbox.to_string_lossy().replace('\'', "''"));
    for statement in session.parse(&text).map_err(|error| described(&error))? {
        say(&format!("\nboathouse=> {};", statement.text));
        let begun = Instant::now();
        let answered = one(&mut session, statement).await;
        match answered {
            Ok(()) => say(&format!("({} ms)", begun.elapsed().as_millis())),
            // Made by an earlier run of the demo.
            Err(error) if ["42P06", "42710", "42P07"].contains(&error.state.0) => {
                say(&format!("{} (from an earlier run)", error.message));
            }
            Err(error) => return Err(described(&error).into()),
        }
    }
    Ok(())
}

async fn one(
    session: &mut Session,
    statement: boathouse_sql::ParsedStatement,
) -> Result<(), SqlError> {
    let prepared = session.prepare(statement, &[]).await?;
    let outcome: Outcome = session.execute(&prepared, &[]).await?;
    show(session, outcome, Form::Aligned).await
}

/// Prints a line. A reader that has gone away is no reason to stop serving.
fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}
