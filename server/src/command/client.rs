//! `boathouse sql --host`: asks a server.

use std::process::ExitCode;
use std::time::Duration;

use tokio_postgres::SimpleQueryMessage;
use tokio_postgres::config::SslMode;

use super::CommandError;
use super::client_tls::ClientTls;
use super::output::{Form, Table};
use super::sql::Arguments;
use crate::config::Config;

pub async fn run(
    config: &Config,
    arguments: &Arguments,
    form: Form,
) -> Result<ExitCode, CommandError> {
    let host = arguments
        .host
        .clone()
        .unwrap_or_else(|| config.listen.ip().to_string());
    let port = arguments.port.unwrap_or(config.listen.port());
    let password = ["BOATHOUSE_PASSWORD", "PGPASSWORD"]
        .iter()
        .find_map(|name| std::env::var(name).ok())
        .unwrap_or_default();
    let mut options = tokio_postgres::Config::new();
    options
        .host(&host)
        .port(port)
        .user(&arguments.user)
        .password(password)
        .dbname("boathouse")
        .application_name("boathouse sql")
        .ssl_mode(match arguments.ca_file {
            Some(_) => SslMode::Require,
            None => SslMode::Prefer,
        })
        .connect_timeout(Duration::from_secs(10));
    let tls = ClientTls::new(arguments.ca_file.as_deref())?;
    let (client, connection) = options.connect(tls).await.map_err(|error| {
        format!(
            "cannot connect to {host}:{port}: {}; is `boathouse serve` running, and is the password in BOATHOUSE_PASSWORD?",
            told(&error)
        )
    })?;
    let talking = tokio::spawn(connection);
    let answered = client.simple_query(&arguments.statements).await;
    drop(client);
    let _ = talking.await;
    let messages = match answered {
        Ok(messages) => messages,
        Err(error) => {
            eprintln!("ERROR {}", told(&error));
            return Ok(ExitCode::FAILURE);
        }
    };
    let mut table: Option<Table> = None;
    for message in messages {
        match message {
            SimpleQueryMessage::RowDescription(columns) => {
                let names = columns
                    .iter()
                    .map(|column| column.name().to_owned())
                    .collect();
                table = Some(Table::named(names, form));
            }
            SimpleQueryMessage::Row(row) => {
                let values = (0..row.len()).map(|index| row.get(index).map(str::to_owned));
                if let Some(table) = &mut table {
                    table.add_row(values.collect());
                }
            }
            SimpleQueryMessage::CommandComplete(count) => match table.take() {
                Some(table) => table.print(),
                None if form == Form::Aligned => println!("done, {count} rows"),
                None => {}
            },
            _ => {}
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The server's own words where there are any.
fn told(error: &tokio_postgres::Error) -> String {
    let Some(report) = error.as_db_error() else {
        let cause = std::error::Error::source(error).map(|cause| format!(": {cause}"));
        return format!("{error}{}", cause.unwrap_or_default());
    };
    let mut text = format!("{}: {}", report.code().code(), report.message());
    for (name, part) in [("detail", report.detail()), ("hint", report.hint())] {
        if let Some(part) = part {
            text.push_str(&format!("\n{name}: {part}"));
        }
    }
    text
}
