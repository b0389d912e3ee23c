//! Runs every `.slt` file under `tests/slt` against a server of its own lake. With `SLT=name` in the
//! environment, those whose path has the name in it.

use std::path::{Path, PathBuf};

use boathouse_tests::{Failure, Server, explain, lake_folder, repository};
use sqllogictest::{AsyncDB, DBOutput, DefaultColumnType, Runner};
use tokio_postgres::{Client, SimpleQueryMessage};

/// A connection in the form the runner wants.
struct Connection(Client);

/// An error the runner can show.
#[derive(Debug)]
struct Refused(String);

impl std::fmt::Display for Refused {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for Refused {}

#[async_trait::async_trait]
impl AsyncDB for Connection {
    type Error = Refused;
    type ColumnType = DefaultColumnType;

    async fn run(&mut self, sql: &str) -> Result<DBOutput<DefaultColumnType>, Refused> {
        let messages = self
            .0
            .simple_query(sql)
            .await
            .map_err(|error| Refused(explain(error).to_string()))?;
        let mut types = Vec::new();
        let mut rows = Vec::new();
        let mut completed = 0;
        for message in messages {
            match message {
                SimpleQueryMessage::RowDescription(columns) => {
                    types = vec![DefaultColumnType::Text; columns.len()];
                }
                SimpleQueryMessage::Row(row) => rows.push(
                    (0..row.len())
                        .map(|index| match row.get(index) {
                            None => "NULL".to_owned(),
                            Some("") => "(empty)".to_owned(),
                            Some(text) => text.to_owned(),
                        })
                        .collect(),
                ),
                SimpleQueryMessage::CommandComplete(count) => completed = count,
                _ => {}
            }
        }
        if types.is_empty() {
            return Ok(DBOutput::StatementComplete(completed));
        }
        Ok(DBOutput::Rows { types, rows })
    }

    async fn shutdown(&mut self) {}

    fn engine_name(&self) -> &str {
        "boathouse"
    }
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) -> Result<(), Failure> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            files(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "slt") {
            found.push(path);
        }
    }
    found.sort();
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_file_says_what_the_server_answers() -> Result<(), Failure> {
    let mut found = Vec::new();
    files(&repository().join("tests/slt"), &mut found)?;
    if let Ok(name) = std::env::var("SLT") {
        found.retain(|path| path.to_string_lossy().contains(&name));
    }
    assert!(!found.is_empty(), "there is no .slt file");
    let mut failures = Vec::new();
    for path in &found {
        let (_folder, lake) = lake_folder()?;
        let server = Server::start(&lake).await?;
        let mut runner = Runner::new(|| async {
            server
                .connect()
                .await
                .map(Connection)
                .map_err(|error| Refused(error.to_string()))
        });
        if let Err(error) = runner.run_file_async(path).await {
            failures.push(format!("{}\n{}", path.display(), error.display(false)));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
    Ok(())
}
