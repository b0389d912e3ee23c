//! The catalog, a PostgreSQL, is away for a while: pipelines that go on by themselves go on once it is back, lose and double
//! nothing, and say that it was away. Leases run out meanwhile, and whoever takes them then, one server runs each pipeline, or
//! each partition.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use boathouse_tests::kafka::{Broker, Sent};
use boathouse_tests::mysql::{Flavor, Source};
use boathouse_tests::network::{Network, Traffic};
use boathouse_tests::{Failure, Server, ServerOptions, lake_folder, rows, service, value};
use tokio_postgres::Client;

/// What nothing is measured by may take, on a machine that does other things.
const PATIENCE: Duration = Duration::from_secs(90);

const PARTITIONS: i32 = 4;

/// How long the catalog is away, time after time: less than leases last, and longer.
const OUTAGES: [Duration; 3] = [
    Duration::from_secs(1),
    Duration::from_secs(4),
    Duration::from_secs(9),
];

/// A database of its own on the shared PostgreSQL; gives its name and the server's port.
async fn database() -> Result<(String, u16), Failure> {
    let url = service::postgres()?;
    let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await?;
    tokio::spawn(connection);
    let name = format!("away_{}", uuid::Uuid::new_v4().simple());
    client
        .batch_execute(&format!("CREATE DATABASE {name}"))
        .await?;
    let (base, _) = url.rsplit_once('/').ok_or("the URL has no database")?;
    let (_, port) = base.rsplit_once(':').ok_or("the URL has no port")?;
    Ok((name, port.parse()?))
}

async fn start(folder: &Path, lake: &Path, catalog: &str, name: &str) -> Result<Server, Failure> {
    let key = folder.join("master.key");
    let environment = [
        ("BOATHOUSE_CATALOG", catalog.to_owned()),
        ("BOATHOUSE_SERVER_NAME", name.to_owned()),
        ("BOATHOUSE_MASTER_KEY_FILE", key.display().to_string()),
    ];
    let options = ServerOptions {
        log: Some(folder.join(format!("{name}.log"))),
        environment: environment
            .map(|(name, value)| (name.to_owned(), value))
            .to_vec(),
        ..ServerOptions::default()
    };
    Server::start_with(lake, options).await
}

/// The end of what a server has written, for a failure to tell.
fn log_end(folder: &Path, name: &str) -> String {
    let log = std::fs::read_to_string(folder.join(format!("{name}.log"))).unwrap_or_default();
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}

async fn wait_until(client: &Client, folder: &Path, sql: &str) -> Result<(), Failure> {
    let begun = Instant::now();
    loop {
        let found = rows(client, sql).await;
        if found.as_ref().is_ok_and(|found| found == &["t"]) {
            return Ok(());
        }
        if begun.elapsed() > PATIENCE {
            let runs =
                "SELECT pipeline, server, state, error FROM system.pipeline_runs ORDER BY run_id";
            let runs = rows(client, runs).await;
            return Err(format!(
                "{sql} gives {found:?}; {runs:#?}\n{}\n{}",
                log_end(folder, "one"),
                log_end(folder, "two")
            )
            .into());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Writes messages to a topic and rows to a table of a database, until it is told to stop.
struct Writing {
    stops: Arc<AtomicBool>,
    count: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<Result<(), Failure>>,
}

/// Messages and rows written at once.
const BURST: usize = 20;

impl Writing {
    fn begin(topic: &str, source: &Source, database: &str) -> Self {
        let (stops, count) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let (topic, database) = (topic.to_owned(), database.to_owned());
        let address = source.address();
        let task = tokio::spawn({
            let (stops, count) = (Arc::clone(&stops), Arc::clone(&count));
            async move {
                let mut source = address.client().await?;
                while !stops.load(Ordering::Relaxed) {
                    let from = count.load(Ordering::Relaxed);
                    let topic = topic.clone();
                    let sent = tokio::task::spawn_blocking(move || -> Result<(), Failure> {
                        let payloads: Vec<String> = (from..from + BURST)
                            .map(|id| format!("{{\"id\":{id}}}"))
                            .collect();
                        let messages = payloads.iter().zip(0..).map(|(payload, number)| {
                            Sent::new(payload.as_bytes()).to(number % PARTITIONS)
                        });
                        Broker::shared()?.produce(&topic, messages)
                    });
                    sent.await??;
                    let values: Vec<String> = (from..from + BURST)
                        .map(|id| format!("({id}, 0)"))
                        .collect();
                    source
                        .execute(&format!(
                            "INSERT INTO {database}.t VALUES {}; UPDATE {database}.t SET n = n + 1 WHERE id % 7 = 0",
                            values.join(", ")
                        ))
                        .await?;
                    count.store(from + BURST, Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                Ok(())
            }
        });
        Self { stops, count, task }
    }

    fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    async fn end(self) -> Result<usize, Failure> {
        self.stops.store(true, Ordering::Relaxed);
        self.task.await??;
        Ok(self.count.load(Ordering::Relaxed))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pipelines_go_on_after_their_catalog_was_away() -> Result<(), Failure> {
    let broker = Broker::shared()?;
    let id = uuid::Uuid::new_v4().simple();
    let (topic, published) = (format!("t{id}"), format!("o{id}"));
    broker.create_topic(&topic, PARTITIONS, &[]).await?;
    broker.create_topic(&published, 1, &[]).await?;
    let source = Source::shared(Flavor::MariaDb)?;
    let shop = format!("away_{id}");
    source
        .client()
        .await?
        .execute(&format!(
            "CREATE DATABASE {shop}; CREATE TABLE {shop}.t (id BIGINT PRIMARY KEY, n BIGINT)"
        ))
        .await?;

    let (name, port) = database().await?;
    let network = Network::start(port).await?;
    let catalog = format!("postgres://boathouse@127.0.0.1:{}/{name}", network.port);
    let (folder, lake): (_, PathBuf) = lake_folder()?;
    let folder = folder.path();
    let one = start(folder, &lake, &catalog, "one").await?;
    let _two = start(folder, &lake, &catalog, "two").await?;
    let client = one.connect().await?;
    for statement in [
        broker.create_connection("cluster"),
        source.create_connection("shop"),
        "CREATE SCHEMA shop".to_owned(),
        format!(
            "CREATE PIPELINE shared FROM KAFKA cluster TOPICS ('{topic}') FORMAT JSON COLUMNS (id bigint) \
             INCLUDE (partition, offset) INTO events WITH (target_lag = '200 ms')"
        ),
        format!(
            "CREATE PIPELINE keyed FROM KAFKA cluster TOPICS ('{topic}') FORMAT JSON COLUMNS (id bigint) \
             INTO keyed KEY (id) WITH (target_lag = '300 ms')"
        ),
        format!(
            "CREATE PIPELINE parted FROM KAFKA cluster TOPICS ('{topic}') FORMAT JSON COLUMNS (id bigint) \
             INTO SCHEMA shop BY part AS SELECT id, 'part' || (id % 3) AS part FROM source WITH (target_lag = '300 ms')"
        ),
        format!(
            "CREATE PIPELINE captured FROM MYSQL shop TABLES ('{shop}.t') INTO SCHEMA shop WITH (target_lag = '200 ms')"
        ),
    ] {
        rows(&client, &statement).await?;
    }
    let writing = Writing::begin(&topic, &source, &shop);
    wait_until(&client, folder, "SELECT count(*) > 0 FROM keyed").await?;
    let publish = format!(
        "CREATE PIPELINE published FROM TABLE keyed INTO KAFKA cluster TOPIC '{published}' KEY (id) WITH (target_lag = '200 ms')"
    );
    rows(&client, &publish).await?;

    let there = |count: usize| {
        format!(
            "SELECT (SELECT count(*) FROM events) >= {count} AND (SELECT count(*) FROM keyed) >= {count} \
             AND (SELECT count(*) FROM shop.t) >= {count} \
             AND (SELECT count(*) FROM (SELECT id FROM shop.part0 UNION ALL SELECT id FROM shop.part1 UNION ALL SELECT id FROM shop.part2) p) >= {count}"
        )
    };
    wait_until(&client, folder, &there(writing.count())).await?;
    let running = "SELECT run_id FROM system.pipeline_runs WHERE state = 'running' ORDER BY run_id";
    // Both servers have a share of one of the five.
    let all = "SELECT count(*) = 6 FROM system.pipeline_runs WHERE state = 'running'";
    wait_until(&client, folder, all).await?;
    let mut before = rows(&client, running).await?;
    for (number, outage) in OUTAGES.into_iter().enumerate() {
        network.set(Traffic::Cut);
        tokio::time::sleep(outage).await;
        network.set(Traffic::Flows);
        let begun = Instant::now();
        wait_until(&client, folder, &there(writing.count())).await?;
        println!("back {:?} after {outage:?}", begun.elapsed());
        if number == 0 {
            // What was away for less than a lease lasts ended no run.
            let now = rows(&client, running).await?;
            assert_eq!(now, before, "{}", log_end(folder, "one"));
            before = now;
        }
    }
    let count = writing.end().await?;
    wait_until(&client, folder, &there(count)).await?;

    // Everything is there once.
    let sql = "SELECT _partition || ':' || _offset || ' {\"id\":' || id || '}' FROM events";
    let mut found = rows(&client, sql).await?;
    let mut expected = broker.consume(&topic, PARTITIONS)?;
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
    let once = format!("{count}|{count}|0|{}", count - 1);
    for table in [
        "keyed",
        "(SELECT id FROM shop.part0 UNION ALL SELECT id FROM shop.part1 UNION ALL SELECT id FROM shop.part2)",
        "shop.t",
    ] {
        let sql = format!("SELECT count(*), count(DISTINCT id), min(id), max(id) FROM {table} t");
        assert_eq!(rows(&client, &sql).await?, [once.as_str()], "{table}");
    }
    let mut source = source.client().await?;
    let sum = source
        .value(&format!("SELECT SUM(n) FROM {shop}.t"))
        .await?;
    wait_until(
        &client,
        folder,
        &format!("SELECT sum(n) = {sum} FROM shop.t"),
    )
    .await?;
    // What was published may be there twice, and lacks nothing.
    let expected: BTreeSet<i64> = (0..i64::try_from(count)?).collect();
    let begun = Instant::now();
    loop {
        let ids: BTreeMap<i64, usize> = broker
            .receive(&published, 1)?
            .iter()
            .filter_map(|message| message.key.as_deref()?.parse().ok())
            .fold(BTreeMap::new(), |mut ids, id| {
                *ids.entry(id).or_default() += 1;
                ids
            });
        if ids.keys().copied().collect::<BTreeSet<_>>() == expected {
            break;
        }
        assert!(
            begun.elapsed() < PATIENCE,
            "{} of {} rows were published\n{}",
            ids.len(),
            expected.len(),
            log_end(folder, "one")
        );
        tokio::time::sleep(Duration::from_millis(500)).await;
    }

    // Each runs, and those that were in the middle of something say that the catalog was away.
    let sql =
        "SELECT count(DISTINCT pipeline) = 5 FROM system.pipeline_runs WHERE state = 'running'";
    wait_until(&client, folder, sql).await?;
    let sql = "SELECT DISTINCT pipeline FROM system.pipeline_errors WHERE sqlstate = '08006' \
               AND severity = 'warning' AND message = 'could not reach the catalog database' ORDER BY 1";
    assert_eq!(
        rows(&client, sql).await?,
        ["captured", "keyed", "parted", "published", "shared"]
    );
    // No run has ended by it; another server may have taken over what ran out.
    let sql = "SELECT DISTINCT error FROM system.pipeline_runs WHERE state = 'failed' ORDER BY 1";
    for error in rows(&client, sql).await? {
        let passed = error == "the server died during the run"
            || error.ends_with("was taken over by another server");
        assert!(passed, "a run ended with: {error}");
    }
    assert_eq!(
        value(&client, "SELECT count(*) FROM system.quarantine").await?,
        "0"
    );
    source.execute(&format!("DROP DATABASE {shop}")).await?;
    Ok(())
}
