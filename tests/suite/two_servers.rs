//! Two servers on one PostgreSQL catalog and one lake load each file once, also when one of them is
//! stopped in the middle and wakes up after the other took over. Of several servers any may die while messages come: another
//! goes on within ten seconds.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use boathouse_tests::kafka::{Broker, Sent};
use boathouse_tests::{Failure, Server, ServerOptions, lake_folder, rows, service, value};
use tokio_postgres::Client;

const FILES: i64 = 30;

fn signal(server: &Server, name: &str) -> Result<(), Failure> {
    let sent = Command::new("kill")
        .arg(format!("-{name}"))
        .arg(server.process_id().to_string())
        .status()?;
    assert!(sent.success());
    Ok(())
}

/// A database of its own on the shared PostgreSQL; gives its URL.
async fn catalog() -> Result<String, Failure> {
    let url = service::postgres()?;
    let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await?;
    tokio::spawn(connection);
    let name = format!("servers_{}", uuid::Uuid::new_v4().simple());
    client
        .batch_execute(&format!("CREATE DATABASE {name}"))
        .await?;
    let (base, _) = url.rsplit_once('/').ok_or("the URL has no database")?;
    Ok(format!("{base}/{name}"))
}

async fn wait_for(client: &Client, count: i64) -> Result<(), Failure> {
    let begin = Instant::now();
    loop {
        let found = rows(client, "SELECT count(*) FROM loaded")
            .await
            .unwrap_or_default();
        if found == [count.to_string()] {
            return Ok(());
        }
        if begin.elapsed() > Duration::from_secs(120) {
            return Err(format!("{count} rows were awaited, {found:?} came").into());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_servers_load_each_file_once() -> Result<(), Failure> {
    let catalog = catalog().await?;
    let (folder, lake) = lake_folder()?;
    let inbox = folder.path().join("inbox");
    std::fs::create_dir(&inbox)?;
    let key = folder.path().join("master.key");
    let start = |name: &'static str| {
        let options = ServerOptions {
            log: Some(folder.path().join(name)),
            environment: vec![
                ("BOATHOUSE_CATALOG".to_owned(), catalog.clone()),
                (
                    "BOATHOUSE_MASTER_KEY_FILE".to_owned(),
                    key.display().to_string(),
                ),
            ],
            ..ServerOptions::default()
        };
        let lake: &Path = &lake;
        async move { Server::start_with(lake, options).await }
    };
    let first = start("first.log").await?;
    let second = start("second.log").await?;
    let on_first = first.connect().await?;
    let on_second = second.connect().await?;
    on_first
        .batch_execute(&format!(
            "CREATE CONNECTION inbox TO LOCAL WITH (path = '{}');
             CREATE PIPELINE load FROM FILES inbox '*.csv' FORMAT CSV INTO loaded
               WITH (settle = '0 s') SCHEDULE EVERY INTERVAL '1 second'",
            inbox.display()
        ))
        .await?;
    wait_for_rows(&on_second, "SELECT name FROM system.pipelines", &["load"]).await?;
    for file in 0..FILES {
        // Whole before it has its name.
        let part = inbox.join(format!("{file}.part"));
        std::fs::write(&part, format!("id\n{}\n{}\n", file * 2, file * 2 + 1))?;
        std::fs::rename(part, inbox.join(format!("{file}.csv")))?;
        // Both are asked as well, so that they meet in the middle of files.
        let (one, other) = tokio::join!(
            rows(&on_first, "RUN PIPELINE load"),
            rows(&on_second, "RUN PIPELINE load")
        );
        // Being told that the other one is at it is no failure.
        for refused in [one.err(), other.err()].into_iter().flatten() {
            assert!(refused.to_string().contains("running"), "{refused}");
        }
        // One falls asleep and wakes when the other has taken over.
        if file == FILES / 2 {
            signal(&first, "STOP")?;
            wait_for(&on_second, file * 2 + 2).await?;
            signal(&first, "CONT")?;
        }
    }
    wait_for(&on_second, FILES * 2).await?;
    let whole = "SELECT count(*), count(DISTINCT id), min(id), max(id) FROM loaded";
    let expected = [format!("{0}|{0}|0|{1}", FILES * 2, FILES * 2 - 1)];
    assert_eq!(rows(&on_first, whole).await?, expected);
    assert_eq!(rows(&on_second, whole).await?, expected);
    let ledger = rows(
        &on_second,
        "SELECT count(*), count(DISTINCT path) FROM system.files_loaded",
    )
    .await?;
    assert_eq!(ledger, [format!("{FILES}|{FILES}")]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_made_anew_is_the_same_on_both() -> Result<(), Failure> {
    let catalog = catalog().await?;
    let (folder, lake) = lake_folder()?;
    let key = folder.path().join("master.key");
    let options = |name: &str| ServerOptions {
        log: Some(folder.path().join(name)),
        environment: vec![
            ("BOATHOUSE_CATALOG".to_owned(), catalog.clone()),
            (
                "BOATHOUSE_MASTER_KEY_FILE".to_owned(),
                key.display().to_string(),
            ),
        ],
        ..ServerOptions::default()
    };
    let first = Server::start_with(&lake, options("first.log")).await?;
    let second = Server::start_with(&lake, options("second.log")).await?;
    let on_first = first.connect().await?;
    let on_second = second.connect().await?;
    on_first.batch_execute("CREATE TABLE t (a int)").await?;
    for number in 1..=5 {
        let insert = format!("INSERT INTO t VALUES ({number})");
        on_first.batch_execute(&insert).await?;
    }
    let whole = "SELECT a FROM t ORDER BY a";
    wait_for_rows(&on_second, whole, &["1", "2", "3", "4", "5"]).await?;
    on_first
        .batch_execute("DROP TABLE t; CREATE TABLE t (a int)")
        .await?;
    wait_for_rows(&on_second, whole, &[]).await?;
    on_second.batch_execute("INSERT INTO t VALUES (6)").await?;
    assert_eq!(rows(&on_first, whole).await?, ["6"]);
    assert_eq!(rows(&on_second, whole).await?, ["6"]);
    Ok(())
}

/// A server notices another one's commits within its poll interval.
async fn wait_for_rows(client: &Client, sql: &str, expected: &[&str]) -> Result<(), Failure> {
    let begin = Instant::now();
    loop {
        let found = rows(client, sql).await;
        if found.as_ref().is_ok_and(|found| found == expected) {
            return Ok(());
        }
        if begin.elapsed() > Duration::from_secs(20) {
            return Err(format!("{expected:?} was awaited, {found:?} came").into());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

const INCREMENTS: usize = 40;

/// Both change the same rows, put files together, and one is stopped in the middle and wakes up later:
/// no increment is lost and none is made twice.
#[tokio::test(flavor = "multi_thread")]
async fn two_servers_change_one_table() -> Result<(), Failure> {
    let catalog = catalog().await?;
    let (folder, lake) = lake_folder()?;
    let key = folder.path().join("master.key");
    let mut servers = Vec::new();
    for name in ["first.log", "second.log"] {
        let options = ServerOptions {
            log: Some(folder.path().join(name)),
            environment: vec![
                ("BOATHOUSE_CATALOG".to_owned(), catalog.clone()),
                (
                    "BOATHOUSE_MASTER_KEY_FILE".to_owned(),
                    key.display().to_string(),
                ),
            ],
            ..ServerOptions::default()
        };
        servers.push(Server::start_with(&lake, options).await?);
    }
    let first = servers[0].connect().await?;
    first
        .batch_execute(
            "CREATE TABLE counter (k int PRIMARY KEY, n bigint);
             INSERT INTO counter VALUES (0, 0), (1, 0)",
        )
        .await?;
    // The other server looks at the catalog four times a second.
    let second = servers[1].connect().await?;
    let seen = "SELECT count(*) FROM pg_class WHERE relname = 'counter'";
    while rows(&second, seen).await? != ["1"] {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let mut writers = Vec::new();
    for (number, server) in servers.iter().enumerate() {
        let client = server.connect().await?;
        writers.push(tokio::spawn(async move {
            let mut made = 0_i64;
            for round in 0..INCREMENTS {
                let counter = (round + number) % 2;
                let sql = match round % 5 {
                    4 => "OPTIMIZE counter".to_owned(),
                    0 | 2 => format!("UPDATE counter SET n = n + 1 WHERE k = {counter}"),
                    _ => format!(
                        "INSERT INTO counter VALUES ({counter}, 1) \
                         ON CONFLICT (k) DO UPDATE SET n = counter.n + excluded.n"
                    ),
                };
                match client.execute(&sql, &[]).await {
                    Ok(_) if sql.starts_with("OPTIMIZE") => {}
                    Ok(count) => {
                        assert_eq!(count, 1, "{sql}");
                        made += 1;
                    }
                    Err(error)
                        if error.code()
                            == Some(
                                &tokio_postgres::error::SqlState::T_R_SERIALIZATION_FAILURE,
                            ) => {}
                    Err(error) => panic!("{sql}: {error:?}"),
                }
            }
            made
        }));
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    signal(&servers[1], "STOP")?;
    tokio::time::sleep(Duration::from_millis(700)).await;
    signal(&servers[1], "CONT")?;
    let mut made = 0;
    for writer in writers {
        made += writer.await?;
    }
    for server in &servers {
        let client = server.connect().await?;
        let found = rows(&client, "SELECT count(*), sum(n) FROM counter").await?;
        assert_eq!(found, [format!("2|{made}")]);
    }
    Ok(())
}

/// How long a pipeline may stand still after its server died.
const TAKEOVER_MAX: Duration = Duration::from_secs(10);

/// Writes messages until told to stop, and gives how many there are.
fn produce_until(
    topic: String,
    stops: Arc<AtomicBool>,
    written: Arc<AtomicUsize>,
) -> std::thread::JoinHandle<Result<(), Failure>> {
    std::thread::spawn(move || {
        let broker = Broker::shared()?;
        while !stops.load(Ordering::Relaxed) {
            let from = written.load(Ordering::Relaxed);
            let payloads: Vec<String> = (from..from + 50)
                .map(|id| format!("{{\"id\":{id}}}"))
                .collect();
            let messages = payloads
                .iter()
                .zip(0..)
                .map(|(payload, number)| Sent::new(payload.as_bytes()).to(number % PARTITIONS));
            broker.produce(&topic, messages)?;
            written.store(from + payloads.len(), Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    })
}

const PARTITIONS: i32 = 3;

/// Waits until a message is in the table that was written after this was called; gives how long that took.
async fn takeover(client: &Client, written: &AtomicUsize) -> Result<Duration, Failure> {
    let begin = Instant::now();
    // What is being written now may be read before.
    let later = written.load(Ordering::Relaxed) + 100;
    loop {
        let newest = rows(client, "SELECT max(id) FROM events").await?;
        let newest: usize = newest.first().ok_or("no row")?.parse()?;
        if newest >= later {
            return Ok(begin.elapsed());
        }
        if begin.elapsed() > Duration::from_secs(60) {
            return Err("nobody took the pipeline over".into());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Of three servers the one that reads falls silent, as if its machine were gone; of the others the one that took over
/// is killed; the silent one wakes up. Each time another goes on within ten seconds, and every message is there once.
#[tokio::test(flavor = "multi_thread")]
async fn messages_are_read_on_by_another_server_within_ten_seconds() -> Result<(), Failure> {
    let broker = Broker::shared()?;
    let topic = format!("t{}", uuid::Uuid::new_v4().simple());
    broker.create_topic(&topic, PARTITIONS, &[]).await?;
    let catalog = catalog().await?;
    let (folder, lake) = lake_folder()?;
    let key = folder.path().join("master.key");
    let mut servers = BTreeMap::new();
    for name in ["one", "two", "three"] {
        let options = ServerOptions {
            log: Some(folder.path().join(name)),
            environment: vec![
                ("BOATHOUSE_CATALOG".to_owned(), catalog.clone()),
                ("BOATHOUSE_SERVER_NAME".to_owned(), name.to_owned()),
                (
                    "BOATHOUSE_MASTER_KEY_FILE".to_owned(),
                    key.display().to_string(),
                ),
            ],
            ..ServerOptions::default()
        };
        servers.insert(name.to_owned(), Server::start_with(&lake, options).await?);
    }
    let client = servers["one"].connect().await?;
    rows(&client, &broker.create_connection("cluster")).await?;
    rows(
        &client,
        &format!(
            "CREATE PIPELINE p FROM KAFKA cluster TOPICS ('{topic}') FORMAT JSON COLUMNS (id bigint) \
             INCLUDE (partition, offset) INTO events WITH (servers_max = 1)"
        ),
    )
    .await?;
    let (stops, written) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
    let producing = produce_until(topic.clone(), Arc::clone(&stops), Arc::clone(&written));
    let reading = "SELECT server FROM system.pipeline_runs WHERE state = 'running'";
    wait_until(&client, "SELECT count(*) > 0 FROM events").await?;

    let silent = value(&client, reading).await?;
    let watching = servers.iter().find(|(name, _)| **name != silent);
    let client = watching.ok_or("no other server")?.1.connect().await?;
    signal(&servers[&silent], "STOP")?;
    let took = takeover(&client, &written).await?;
    assert!(
        took <= TAKEOVER_MAX,
        "a silent server stood in the way for {took:?}"
    );

    let killed = value(&client, reading).await?;
    assert_ne!(killed, silent);
    let watching = servers
        .keys()
        .find(|name| **name != silent && **name != killed);
    let watching = watching.ok_or("no third server")?.clone();
    let client = servers[&watching].connect().await?;
    signal(&servers[&killed], "KILL")?;
    let took = takeover(&client, &written).await?;
    assert!(
        took <= TAKEOVER_MAX,
        "a killed server stood in the way for {took:?}"
    );
    assert_eq!(value(&client, reading).await?, watching);

    signal(&servers[&silent], "CONT")?;
    takeover(&client, &written).await?;
    // The one that woke up has noticed, and is not at it any more.
    let begin = Instant::now();
    while !servers[&silent]
        .log()
        .contains("was taken over by another server")
    {
        assert!(begin.elapsed() < TAKEOVER_MAX, "{}", servers[&silent].log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    stops.store(true, Ordering::Relaxed);
    producing.join().map_err(|_| "the producer died")??;
    let count = written.load(Ordering::Relaxed);
    wait_until(&client, &format!("SELECT count(*) >= {count} FROM events")).await?;
    let mut found = rows(
        &client,
        "SELECT _partition || ':' || _offset || ' {\"id\":' || id || '}' FROM events",
    )
    .await?;
    let mut expected = broker.consume(&topic, PARTITIONS)?;
    assert_eq!(expected.len(), count);
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
    Ok(())
}

async fn wait_until(client: &Client, sql: &str) -> Result<(), Failure> {
    let begin = Instant::now();
    loop {
        let found = rows(client, sql).await;
        if found.as_ref().is_ok_and(|found| found == &["t"]) {
            return Ok(());
        }
        if begin.elapsed() > Duration::from_secs(60) {
            return Err(format!("{sql} gives {found:?}").into());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
