//! Runs the examples of the documentation.
//!
//! On every page under `docs/`, each block marked `sql` is run in order on an empty lake, with the
//! example files under `{examples}` and an empty folder `{scratch}`; a block marked `text` right after it is what psql would
//! print. A block marked `sql error` must fail, and the `text` after it holds the message.
//!
//! A block marked `kafka` and a topic is written to that topic of a broker of the page's own, a line a message, `key | message`.
//!
//! A block marked `mysql` is run at a MySQL server of the page's own, new and empty. The page reaches it at the port
//! that `tests/services/mysql.sh` has for whoever tries the page by hand, and is given that of its own server.

use std::path::{Path, PathBuf};

use boathouse_tests::kafka::{Broker, Sent};
use boathouse_tests::mysql::{Flavor, Source};
use boathouse_tests::{Failure, Server, explain, lake_folder, repository};
use tokio_postgres::SimpleQueryMessage;

/// The port of MySQL that pages name.
const MYSQL_PORT: &str = "12069";

/// The port of Kafka that pages name.
const KAFKA_PORT: &str = "12092";

struct Block {
    language: String,
    text: String,
    line: usize,
}

fn blocks(page: &str) -> Vec<Block> {
    let mut found = Vec::new();
    let mut open: Option<Block> = None;
    for (index, line) in page.lines().enumerate() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(language)) => {
                open = Some(Block {
                    language: language.trim().to_owned(),
                    text: String::new(),
                    line: index + 1,
                });
            }
            (Some(_), Some(_)) => found.extend(open.take()),
            (Some(block), None) => {
                block.text.push_str(line);
                block.text.push('\n');
            }
            (None, None) => {}
        }
    }
    found
}

/// The way `psql --no-align` would print it, with ` | ` between columns.
fn printed(messages: &[SimpleQueryMessage]) -> String {
    let mut text = String::new();
    for message in messages {
        match message {
            SimpleQueryMessage::RowDescription(columns) => {
                let names: Vec<_> = columns.iter().map(|column| column.name()).collect();
                text.push_str(&names.join(" | "));
                text.push('\n');
            }
            SimpleQueryMessage::Row(row) => {
                let cells: Vec<_> = (0..row.len())
                    .map(|index| row.get(index).unwrap_or(""))
                    .collect();
                text.push_str(cells.join(" | ").trim_end());
                text.push('\n');
            }
            _ => {}
        }
    }
    text
}

async fn run_page(path: &Path) -> Result<Vec<String>, Failure> {
    let examples = repository().join("examples").canonicalize()?;
    let page = std::fs::read_to_string(path)?;
    let blocks = blocks(&page);
    if !blocks.iter().any(|block| block.language.starts_with("sql")) {
        return Ok(Vec::new());
    }
    let (folder, lake) = lake_folder()?;
    let server = Server::start(&lake).await?;
    let client = server.connect().await?;
    let mysql = match blocks.iter().any(|block| block.language == "mysql") {
        true => Some(Source::own(Flavor::MySql, &[]).await?),
        false => None,
    };
    let mysql_port = mysql.as_ref().map(|source| source.address().port());
    let mysql_port = mysql_port.map_or_else(|| MYSQL_PORT.to_owned(), |port| port.to_string());
    let is_kafka = |block: &Block| block.language.starts_with("kafka ");
    let kafka = match blocks.iter().any(is_kafka) {
        true => Some(Broker::own(&[]).await?),
        false => None,
    };
    let kafka_port = kafka.as_ref().map(|broker| broker.port().to_string());
    let mut failures = Vec::new();
    for (index, block) in blocks.iter().enumerate() {
        let place = format!("{}:{}", path.display(), block.line);
        let expected = blocks
            .get(index + 1)
            .filter(|following| following.language == "text")
            .map(|following| following.text.as_str());
        let sql = block
            .text
            .replace("{examples}", &examples.to_string_lossy())
            .replace("{scratch}", &folder.path().to_string_lossy())
            .replace(MYSQL_PORT, &mysql_port)
            .replace(KAFKA_PORT, kafka_port.as_deref().unwrap_or(KAFKA_PORT));
        match block.language.as_str() {
            "sql" => match client.simple_query(&sql).await {
                Ok(messages) => {
                    let answer = printed(&messages);
                    let same = |expected: &str| {
                        expected
                            .lines()
                            .map(str::trim_end)
                            .eq(answer.lines().map(str::trim_end))
                    };
                    if let Some(expected) = expected
                        && !same(expected)
                    {
                        failures.push(format!("{place}: expected\n{expected}found\n{answer}"));
                    }
                }
                Err(error) => failures.push(format!("{place}: {}", explain(error))),
            },
            "sql error" => match client.simple_query(&sql).await {
                Ok(_) => failures.push(format!("{place}: should fail")),
                Err(error) => {
                    let message = explain(error).to_string();
                    if let Some(expected) = expected
                        && !message.contains(expected.trim())
                    {
                        failures.push(format!("{place}: expected {expected}found {message}"));
                    }
                }
            },
            "mysql" => {
                if let Some(source) = &mysql
                    && let Err(error) = source.client().await?.execute(&sql).await
                {
                    failures.push(format!("{place}: {error}"));
                }
            }
            language => {
                if let (Some(broker), Some(topic)) = (&kafka, language.strip_prefix("kafka ")) {
                    produce(broker, topic, &block.text).await?;
                }
            }
        }
    }
    Ok(failures)
}

/// Writes lines of `key | message` to a topic, which is made when it is not there.
async fn produce(broker: &Broker, topic: &str, lines: &str) -> Result<(), Failure> {
    if broker.ends(topic, 1).is_err() {
        broker.create_topic(topic, 1, &[]).await?;
    }
    let messages = lines.lines().filter_map(|line| {
        let (key, message) = line.split_once("| ")?;
        let sent = Sent::new(message.as_bytes());
        Some(match key.trim() {
            "" => sent,
            key => sent.keyed(key.as_bytes()),
        })
    });
    broker.produce(topic, messages)
}

fn pages(folder: &Path, found: &mut Vec<PathBuf>) -> Result<(), Failure> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            pages(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "md") {
            found.push(path);
        }
    }
    found.sort();
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_examples_of_the_documentation_work() -> Result<(), Failure> {
    let mut found = Vec::new();
    pages(&repository().join("docs"), &mut found)?;
    let mut failures = Vec::new();
    for page in found {
        failures.extend(run_page(&page).await?);
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    Ok(())
}
