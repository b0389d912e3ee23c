//! Several servers on one PostgreSQL catalog share the partitions of a pipeline from Kafka. Whoever comes, goes, falls asleep or is
//! killed, each partition is read by one of those that are left within ten seconds, and every message is in the table once.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use boathouse_tests::kafka::{Broker, Sent};
use boathouse_tests::{Failure, Server, ServerOptions, lake_folder, rows, service, value};
use rand::Rng;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_postgres::Client;

/// How long a partition may stand still after its server went.
const TAKEOVER_MAX: Duration = Duration::from_secs(10);

/// Less than the time after which a silent server is given up.
const HANDOVER_MAX: Duration = Duration::from_millis(5500);

/// What nothing is measured by may take, on a machine that does other things.
const PATIENCE: Duration = Duration::from_secs(90);

/// Servers on one catalog and one lake, and a topic.
struct Fleet {
    broker: Broker,
    topic: String,
    partitions: i32,
    catalog: String,
    folder: tempfile::TempDir,
    lake: PathBuf,
    servers: BTreeMap<&'static str, Server>,
}

impl Fleet {
    async fn start(partitions: i32, names: &[&'static str]) -> Result<Self, Failure> {
        Self::start_at(Broker::shared()?, partitions, names).await
    }

    async fn start_at(
        broker: Broker,
        partitions: i32,
        names: &[&'static str],
    ) -> Result<Self, Failure> {
        let topic = format!("t{}", uuid::Uuid::new_v4().simple());
        broker.create_topic(&topic, partitions, &[]).await?;
        let (folder, lake) = lake_folder()?;
        let mut fleet = Self {
            broker,
            topic,
            partitions,
            catalog: catalog().await?,
            folder,
            lake,
            servers: BTreeMap::new(),
        };
        for name in names {
            fleet.add(name).await?;
        }
        let client = fleet.servers[names[0]].connect().await?;
        let create = fleet.broker.create_connection("cluster");
        rows(&client, &create).await?;
        Ok(fleet)
    }

    async fn add(&mut self, name: &'static str) -> Result<(), Failure> {
        self.add_with(name, &[]).await
    }

    async fn add_with(&mut self, name: &'static str, more: &[(&str, &str)]) -> Result<(), Failure> {
        let key = self.folder.path().join("master.key");
        let environment = [
            ("BOATHOUSE_CATALOG", self.catalog.clone()),
            ("BOATHOUSE_SERVER_NAME", name.to_owned()),
            ("BOATHOUSE_MASTER_KEY_FILE", key.display().to_string()),
        ];
        let more = more
            .iter()
            .map(|(name, value)| (*name, (*value).to_owned()));
        let environment = environment.into_iter().chain(more);
        let options = ServerOptions {
            log: Some(self.folder.path().join(format!("{name}.log"))),
            environment: environment
                .map(|(name, value)| (name.to_owned(), value))
                .collect(),
            ..ServerOptions::default()
        };
        let server = Server::start_with(&self.lake, options).await?;
        self.servers.insert(name, server);
        Ok(())
    }

    fn signal(&self, name: &str, signal: &str) -> Result<(), Failure> {
        let process = self.servers[name].process_id().to_string();
        let sent = Command::new("kill")
            .arg(format!("-{signal}"))
            .arg(process)
            .status()?;
        assert!(sent.success());
        Ok(())
    }

    async fn client(&self, name: &str) -> Result<Client, Failure> {
        self.servers[name].connect().await
    }

    /// The partitions that a server reads, by its own word.
    async fn read_by(&self, name: &str) -> Result<BTreeSet<String>, Failure> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.servers[name].http_port)).await?;
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").await?;
        let mut page = String::new();
        stream.read_to_string(&mut page).await?;
        if !page
            .lines()
            .next()
            .is_some_and(|line| line.contains(" 200 "))
        {
            return Err(page.into());
        }
        let labels = page
            .lines()
            .filter_map(|line| line.strip_prefix("boathouse_kafka_messages_behind{"))
            .filter_map(|line| line.split_once('}'));
        let read = labels.filter_map(|(labels, _)| {
            let label = |name: &str| {
                let (_, rest) = labels.split_once(&format!("{name}=\""))?;
                rest.split_once('"').map(|(value, _)| value)
            };
            let of_p = label("pipeline")? == "p";
            of_p.then_some(format!("{}/{}", label("topic")?, label("partition")?))
        });
        Ok(read.collect())
    }

    /// Waits until these servers, and no others, read all partitions, each as many as the others or one more. Gives how long that took.
    async fn shared_by(&self, names: &[&str]) -> Result<Duration, Failure> {
        let begin = Instant::now();
        loop {
            let mut shares = BTreeMap::new();
            for name in names {
                shares.insert(*name, self.read_by(name).await?);
            }
            let sizes: Vec<usize> = shares.values().map(BTreeSet::len).collect();
            let all: BTreeSet<&String> = shares.values().flatten().collect();
            let total = usize::try_from(self.partitions)?;
            let is_whole = all.len() == total && sizes.iter().sum::<usize>() == total;
            let spread = sizes.iter().max().unwrap_or(&0) - sizes.iter().min().unwrap_or(&0);
            if is_whole && spread <= 1 {
                return Ok(begin.elapsed());
            }
            if begin.elapsed() > PATIENCE {
                return Err(format!("the partitions are not shared: {shares:?}").into());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Waits until of every partition a message is in the table that was written after this was called. Gives how long that took.
    async fn all_are_read(&self, client: &Client, written: &Written) -> Result<Duration, Failure> {
        let begin = Instant::now();
        // What is being written now may be read before.
        let later = written.count.load(Ordering::Relaxed) + BURST;
        let sql = format!(
            "SELECT count(*) FROM (SELECT _partition FROM events GROUP BY _partition HAVING max(id) >= {later}) p"
        );
        loop {
            if value(client, &sql).await? == self.partitions.to_string() {
                return Ok(begin.elapsed());
            }
            if begin.elapsed() > PATIENCE {
                let sql = "SELECT _partition, max(id) FROM events GROUP BY _partition ORDER BY 1";
                let found = rows(client, sql).await?;
                return Err(format!("not all partitions reach {later}: {found:?}").into());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Creates the pipeline `p` into `events`.
    async fn create_pipeline(&self, client: &Client, rest: &str) -> Result<(), Failure> {
        let sql = format!(
            "CREATE PIPELINE p FROM KAFKA cluster TOPICS ('{}') FORMAT JSON COLUMNS (id bigint) \
             INCLUDE (partition, offset) INTO events {rest}",
            self.topic
        );
        rows(client, &sql).await?;
        Ok(())
    }

    /// Holds the table and the quarantine against what a consumer of its own reads.
    async fn every_message_is_there_once(&self, client: &Client) -> Result<usize, Failure> {
        let mut expected = self.broker.consume(&self.topic, self.partitions)?;
        let sql = format!(
            "SELECT (SELECT count(*) FROM events) + (SELECT count(*) FROM system.quarantine) >= {}",
            expected.len()
        );
        wait_until(client, &sql).await?;
        let sql = format!(
            "SELECT _partition || ':' || _offset || ' {{\"id\":' || id || '}}' FROM events \
             UNION ALL SELECT partition_number || ':' || message_offset || ' {BAD}' FROM system.quarantine"
        );
        let mut found = rows(client, &sql).await?;
        found.sort();
        expected.sort();
        assert_eq!(found, expected);
        Ok(found.len())
    }
}

/// A database of its own on the shared PostgreSQL; gives its URL.
async fn catalog() -> Result<String, Failure> {
    let url = service::postgres()?;
    let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await?;
    tokio::spawn(connection);
    let name = format!("shared_{}", uuid::Uuid::new_v4().simple());
    client
        .batch_execute(&format!("CREATE DATABASE {name}"))
        .await?;
    let (base, _) = url.rsplit_once('/').ok_or("the URL has no database")?;
    Ok(format!("{base}/{name}"))
}

async fn wait_until(client: &Client, sql: &str) -> Result<(), Failure> {
    wait_for(client, sql, &["t"]).await
}

async fn wait_for(client: &Client, sql: &str, expected: &[&str]) -> Result<(), Failure> {
    let begin = Instant::now();
    loop {
        let found = rows(client, sql).await;
        if found.as_ref().is_ok_and(|found| found == expected) {
            return Ok(());
        }
        if begin.elapsed() > PATIENCE {
            return Err(format!("{sql} gives {found:?}").into());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Messages written at once, of which one cannot be read.
const BURST: usize = 64;
const BAD: &str = "{";

/// A producer that goes on until it is told to stop.
struct Written {
    stops: Arc<AtomicBool>,
    count: Arc<AtomicUsize>,
    thread: std::thread::JoinHandle<Result<(), String>>,
}

impl Written {
    fn begin(fleet: &Fleet) -> Self {
        let (stops, count) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let (topic, partitions) = (fleet.topic.clone(), fleet.partitions);
        let thread = std::thread::spawn({
            let (stops, count) = (Arc::clone(&stops), Arc::clone(&count));
            move || {
                let broker = Broker::shared().map_err(|error| error.to_string())?;
                while !stops.load(Ordering::Relaxed) {
                    let from = count.load(Ordering::Relaxed);
                    let mut payloads: Vec<String> = (from..from + BURST)
                        .map(|id| format!("{{\"id\":{id}}}"))
                        .collect();
                    payloads[BURST / 2] = BAD.to_owned();
                    let messages = payloads.iter().zip(0..).map(|(payload, number)| {
                        Sent::new(payload.as_bytes()).to(number % partitions)
                    });
                    broker
                        .produce(&topic, messages)
                        .map_err(|error| error.to_string())?;
                    count.store(from + BURST, Ordering::Relaxed);
                    std::thread::sleep(Duration::from_millis(50));
                }
                Ok(())
            }
        });
        Self {
            stops,
            count,
            thread,
        }
    }

    fn end(self) -> Result<usize, Failure> {
        self.stops.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| "the producer died")??;
        Ok(self.count.load(Ordering::Relaxed))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_are_shared_and_move_with_the_servers() -> Result<(), Failure> {
    let mut fleet = Fleet::start(7, &["one"]).await?;
    let client = fleet.client("one").await?;
    fleet.create_pipeline(&client, "").await?;
    let written = Written::begin(&fleet);
    fleet.shared_by(&["one"]).await?;

    // Others join.
    fleet.add("two").await?;
    fleet.shared_by(&["one", "two"]).await?;
    fleet.add("three").await?;
    fleet.shared_by(&["one", "two", "three"]).await?;
    fleet.all_are_read(&client, &written).await?;
    let running = "SELECT server FROM system.pipeline_runs WHERE state = 'running' ORDER BY server";
    assert_eq!(rows(&client, running).await?, ["one", "three", "two"]);
    // Whoever is asked tells of every partition once.
    for name in ["one", "two", "three"] {
        let client = fleet.client(name).await?;
        let sql = "SELECT count(*), count(DISTINCT source), count(messages_behind) FROM system.pipeline_lag";
        wait_for(&client, sql, &["7|7|7"]).await?;
    }

    // One is killed.
    fleet.signal("three", "KILL")?;
    let took = fleet.all_are_read(&client, &written).await?;
    assert!(
        took <= TAKEOVER_MAX,
        "a killed server stood in the way for {took:?}"
    );
    fleet.shared_by(&["one", "two"]).await?;
    fleet.servers.remove("three");

    // One falls silent, as if its machine were gone, and wakes up again.
    fleet.signal("two", "STOP")?;
    let took = fleet.all_are_read(&client, &written).await?;
    assert!(
        took <= TAKEOVER_MAX,
        "a silent server stood in the way for {took:?}"
    );
    fleet.shared_by(&["one"]).await?;
    fleet.signal("two", "CONT")?;
    fleet.shared_by(&["one", "two"]).await?;
    assert!(
        fleet.servers["two"]
            .log()
            .contains("was taken over by another server")
    );

    // One comes back, and is stopped as it should be.
    fleet.add("three").await?;
    fleet.shared_by(&["one", "two", "three"]).await?;
    fleet.signal("three", "TERM")?;
    let took = fleet.all_are_read(&client, &written).await?;
    assert!(
        took <= HANDOVER_MAX,
        "a server that was stopped stood in the way for {took:?}"
    );
    fleet.shared_by(&["one", "two"]).await?;

    let count = written.end()?;
    assert_eq!(fleet.every_message_is_there_once(&client).await?, count);
    // Nothing went wrong but what was done to them.
    let sql =
        "SELECT DISTINCT server, error FROM system.pipeline_runs WHERE state = 'failed' ORDER BY 1";
    let died = "the server died during the run";
    assert_eq!(
        rows(&client, sql).await?,
        [format!("three|{died}"), format!("two|{died}")]
    );
    assert_eq!(
        rows(&client, "SELECT message FROM system.pipeline_errors")
            .await?
            .len(),
        0
    );
    Ok(())
}

const KILLS: usize = 8;

#[tokio::test(flavor = "multi_thread")]
async fn messages_come_once_through_kills_at_random() -> Result<(), Failure> {
    let names = ["one", "two", "three"];
    let mut fleet = Fleet::start(6, &names).await?;
    let client = fleet.client("one").await?;
    fleet
        .create_pipeline(&client, "WITH (target_lag = '200 ms')")
        .await?;
    let written = Written::begin(&fleet);
    wait_until(&client, "SELECT count(*) > 0 FROM events").await?;
    for kill in 0..KILLS {
        let name = names[rand::rng().random_range(0..names.len())];
        let pause = rand::rng().random_range(0..3000);
        tokio::time::sleep(Duration::from_millis(pause)).await;
        match kill % 4 {
            3 => {
                fleet.signal(name, "STOP")?;
                tokio::time::sleep(Duration::from_secs(7)).await;
                fleet.signal(name, "CONT")?;
            }
            _ => {
                fleet.signal(name, "KILL")?;
                fleet.servers.remove(name);
                fleet.add(name).await?;
            }
        }
    }
    let client = fleet.client("one").await?;
    fleet.shared_by(&names).await?;
    let count = written.end()?;
    assert_eq!(fleet.every_message_is_there_once(&client).await?, count);
    Ok(())
}

/// A server dies at each step of a commit while another one commits as well.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_dies_anywhere_loses_and_doubles_nothing() -> Result<(), Failure> {
    let mut fleet = Fleet::start(4, &["one"]).await?;
    let client = fleet.client("one").await?;
    let rest = "WITH (target_lag = '200 ms')";
    fleet.create_pipeline(&client, rest).await?;
    let written = Written::begin(&fleet);
    wait_until(&client, "SELECT count(*) > 0 FROM events").await?;
    for place in [
        "kafka_read:3",
        "kafka_written:2",
        "after_prepare:2",
        "before_commit:2",
        "after_commit:2",
        "after_resolve:2",
    ] {
        fleet
            .add_with("two", &[("BOATHOUSE_FAILPOINT", place)])
            .await?;
        let begin = Instant::now();
        let two = fleet.servers.get_mut("two").ok_or("no second server")?;
        while two.is_running() {
            assert!(begin.elapsed() < PATIENCE, "{place} was not passed");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let took = fleet.all_are_read(&client, &written).await?;
        assert!(took <= TAKEOVER_MAX, "{place}: {took:?}");
    }
    let count = written.end()?;
    assert_eq!(fleet.every_message_is_there_once(&client).await?, count);
    Ok(())
}

const ROUNDS: i32 = 8;

/// Messages of two servers have new columns at the same time, and columns whose types they would tell differently.
#[tokio::test(flavor = "multi_thread")]
async fn columns_are_added_by_two_servers_at_once() -> Result<(), Failure> {
    let fleet = Fleet::start(4, &["one", "two"]).await?;
    let client = fleet.client("one").await?;
    let sql = format!(
        "CREATE PIPELINE p FROM KAFKA cluster TOPICS ('{}') FORMAT JSON INCLUDE (partition) INTO events",
        fleet.topic
    );
    rows(&client, &sql).await?;
    fleet.shared_by(&["one", "two"]).await?;
    for round in 0..ROUNDS {
        let payloads: Vec<String> = (0..4)
            .map(|partition| {
                let own = format!("\"c{round}_{partition}\":{partition}");
                let common = match partition % 2 {
                    0 => format!("\"d{round}\":{round}"),
                    _ => format!("\"d{round}\":\"{round}\""),
                };
                format!("{{\"round\":{round},{own},{common}}}")
            })
            .collect();
        let messages = payloads
            .iter()
            .zip(0..)
            .map(|(payload, partition)| Sent::new(payload.as_bytes()).to(partition));
        fleet.broker.produce(&fleet.topic, messages)?;
        let there = format!("SELECT count(*) = {} FROM events", (round + 1) * 4);
        wait_until(&client, &there).await?;
    }
    for round in 0..ROUNDS {
        // A value that its column's type does not take is kept beside it.
        let sql = format!(
            "SELECT _partition, coalesce(c{round}_0, c{round}_1, c{round}_2, c{round}_3), \
             coalesce(d{round}::text, _rescued::jsonb ->> 'd{round}') FROM events WHERE round = {round} ORDER BY 1"
        );
        let expected: Vec<String> = (0..4)
            .map(|partition| format!("{partition}|{partition}|{round}"))
            .collect();
        assert_eq!(rows(&client, &sql).await?, expected);
    }
    assert_eq!(
        rows(&client, "SELECT 1 FROM system.quarantine")
            .await?
            .len(),
        0
    );
    let failed = "SELECT error FROM system.pipeline_runs WHERE state = 'failed'";
    assert_eq!(rows(&client, failed).await?.len(), 0);
    fleet.shared_by(&["one", "two"]).await?;
    Ok(())
}

/// Writes messages to all partitions, of which each has a number.
fn produce(fleet: &Fleet, from: i32, count: i32) -> Result<(), Failure> {
    let payloads: Vec<String> = (from..from + count)
        .map(|id| format!("{{\"id\":{id}}}"))
        .collect();
    let messages = payloads
        .iter()
        .zip(from..)
        .map(|(payload, id)| Sent::new(payload.as_bytes()).to(id % fleet.partitions));
    fleet.broker.produce(&fleet.topic, messages)
}

/// Changes the pipeline, and waits until so many new runs are at it.
async fn change(client: &Client, sql: &str, servers: usize) -> Result<(), Failure> {
    let last = value(client, "SELECT max(run_id) FROM system.pipeline_runs").await?;
    rows(client, sql).await?;
    let begun = format!(
        "SELECT count(*) FILTER (WHERE run_id > {last}) = {servers} AND count(*) = {servers} \
         FROM system.pipeline_runs WHERE state = 'running'"
    );
    wait_until(client, &begun).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_to_one_server_reaches_all() -> Result<(), Failure> {
    let mut fleet = Fleet::start(4, &["one", "two"]).await?;
    let one = fleet.client("one").await?;
    let two = fleet.client("two").await?;
    fleet
        .create_pipeline(&one, "WITH (discover = '1 s')")
        .await?;
    fleet.shared_by(&["one", "two"]).await?;
    let running = "SELECT count(*) FROM system.pipeline_runs WHERE state = 'running'";

    rows(&two, "ALTER PIPELINE p PAUSE").await?;
    wait_for(&one, running, &["0"]).await?;
    produce(&fleet, 0, 8)?;
    rows(&one, "ALTER PIPELINE p RESUME").await?;
    wait_until(&one, "SELECT count(*) = 8 FROM events").await?;
    fleet.shared_by(&["one", "two"]).await?;

    // One that somebody waits for has the pipeline for itself, whichever server is asked.
    produce(&fleet, 8, 8)?;
    for client in [&one, &two] {
        rows(client, "RUN PIPELINE p").await?;
        assert_eq!(value(client, "SELECT count(*) FROM events").await?, "16");
    }
    fleet.shared_by(&["one", "two"]).await?;

    // Partitions that come later belong to somebody at once.
    fleet.broker.add_partitions(&fleet.topic, 7).await?;
    fleet.partitions = 7;
    fleet.shared_by(&["one", "two"]).await?;
    produce(&fleet, 16, 14)?;
    wait_until(&two, "SELECT count(*) = 30 FROM events").await?;

    // What one sets aside, the other can replay.
    fleet.broker.produce(
        &fleet.topic,
        (0..7).map(|partition| Sent::new(b"{").to(partition)),
    )?;
    wait_until(&one, "SELECT count(*) = 7 FROM system.quarantine").await?;
    rows(&two, "REPLAY QUARANTINE p SET id = 30").await?;
    wait_until(&one, "SELECT count(*) = 37 FROM events").await?;
    fleet.shared_by(&["one", "two"]).await?;

    // What stops one stops all.
    change(&one, "ALTER PIPELINE p SET (rejected_max = 0)", 2).await?;
    fleet.shared_by(&["one", "two"]).await?;
    fleet
        .broker
        .produce(&fleet.topic, [Sent::new(b"{").to(3)])?;
    let failed = "SELECT server FROM system.pipeline_runs WHERE state = 'failed' \
                  AND error = 'more than 0 messages of one commit could not be taken' \
                  GROUP BY server ORDER BY server";
    wait_for(&two, failed, &["one", "two"]).await?;
    change(&two, "ALTER PIPELINE p SET (rejected_max = 10)", 2).await?;
    fleet.shared_by(&["one", "two"]).await?;
    wait_until(&one, "SELECT count(*) = 8 FROM system.quarantine").await?;

    change(&one, "ALTER PIPELINE p SET (servers_max = 1)", 1).await?;
    let only = value(
        &one,
        "SELECT server FROM system.pipeline_runs WHERE state = 'running'",
    )
    .await?;
    fleet.shared_by(&[only.as_str()]).await?;
    change(&one, "ALTER PIPELINE p RESET (servers_max)", 2).await?;
    fleet.shared_by(&["one", "two"]).await?;

    // The table is made anew, from where the first run began.
    let count = value(&one, "SELECT count(*) FROM events").await?;
    rows(&two, "DROP TABLE events").await?;
    let again = "SELECT count(*) = 30 AND count(DISTINCT id) = 30 FROM events";
    wait_until(&one, again).await?;
    assert_eq!(count, "37", "what was replayed is not there any more");
    fleet.shared_by(&["one", "two"]).await?;

    let ends = fleet.broker.ends(&fleet.topic, fleet.partitions)?;
    let ends: Vec<i64> = ends.into_iter().map(|(_, end)| end).collect();
    let begin = Instant::now();
    loop {
        produce(&fleet, 30, 7)?;
        let reported = fleet.broker.committed("boathouse-p", &fleet.topic, 7)?;
        if reported
            .iter()
            .zip(&ends)
            .all(|(reported, end)| reported >= end)
        {
            break;
        }
        assert!(
            begin.elapsed() < PATIENCE,
            "{reported:?} is reported of {ends:?}"
        );
        tokio::time::sleep(Duration::from_millis(500)).await;
    }

    rows(&two, "DROP PIPELINE p").await?;
    wait_for(&one, running, &["0"]).await?;
    let failed = "SELECT DISTINCT error FROM system.pipeline_runs WHERE state = 'failed'";
    let stopped = "more than 0 messages of one commit could not be taken";
    assert_eq!(rows(&one, failed).await?, [stopped]);
    Ok(())
}

/// How far partitions are is the same from whichever server it is asked, as long as somebody reads them.
#[tokio::test(flavor = "multi_thread")]
async fn lag_is_told_of_partitions_that_others_read() -> Result<(), Failure> {
    let mut fleet = Fleet::start(4, &["one", "two"]).await?;
    let one = fleet.client("one").await?;
    let two = fleet.client("two").await?;
    fleet
        .create_pipeline(&one, "WITH (target_lag = '1 hour')")
        .await?;
    let sql = format!(
        "CREATE PIPELINE keyed FROM KAFKA cluster TOPICS ('{}') FORMAT JSON COLUMNS (id bigint) INTO keyed KEY (id) \
         WITH (target_lag = '1 hour')",
        fleet.topic
    );
    rows(&one, &sql).await?;
    fleet.shared_by(&["one", "two"]).await?;
    produce(&fleet, 0, 40)?;
    let behind = "SELECT pipeline, messages_behind, seconds_behind IS NULL, committed_at IS NULL, count(*) \
                  FROM system.pipeline_lag GROUP BY 1, 2, 3, 4 ORDER BY 1";
    let waiting = ["keyed|10|t|t|4", "p|10|t|t|4"];
    wait_for(&one, behind, &waiting).await?;
    wait_for(&two, behind, &waiting).await?;

    // What is committed is not behind any more.
    rows(&one, "ALTER PIPELINE p SET (target_lag = '100 ms')").await?;
    rows(&one, "ALTER PIPELINE keyed SET (target_lag = '100 ms')").await?;
    let read = ["keyed|0|f|t|4", "p|0|f|t|4"];
    wait_for(&one, behind, &read).await?;
    wait_for(&two, behind, &read).await?;
    produce(&fleet, 40, 4)?;
    let position = "SELECT DISTINCT position FROM system.pipeline_lag";
    wait_for(&one, position, &["11"]).await?;
    wait_for(&two, position, &["11"]).await?;
    let read = ["keyed|0|f|f|4", "p|0|f|f|4"];
    wait_for(&one, behind, &read).await?;
    wait_for(&two, behind, &read).await?;

    // Nobody knows what nobody reads.
    rows(&one, "ALTER PIPELINE p PAUSE").await?;
    rows(&one, "ALTER PIPELINE keyed PAUSE").await?;
    let unknown =
        "SELECT count(*), count(messages_behind), count(seconds_behind) FROM system.pipeline_lag";
    wait_for(&one, unknown, &["8|0|0"]).await?;
    wait_for(&two, unknown, &["8|0|0"]).await?;
    rows(&one, "ALTER PIPELINE p RESUME").await?;
    fleet.shared_by(&["one", "two"]).await?;
    fleet.signal("one", "KILL")?;
    fleet.servers.remove("one");
    fleet.shared_by(&["two"]).await?;
    wait_for(&two, unknown, &["8|4|4"]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn those_beyond_servers_max_wait_for_a_place() -> Result<(), Failure> {
    let fleet = Fleet::start(5, &["one", "two", "three"]).await?;
    let one = fleet.client("one").await?;
    fleet
        .create_pipeline(&one, "WITH (servers_max = 2)")
        .await?;
    wait_until(
        &one,
        "SELECT count(*) = 3 FROM system.pipeline_runs WHERE state = 'running'",
    )
    .await?;
    let first = "SELECT server FROM system.pipeline_runs WHERE state = 'running' ORDER BY run_id";
    let names = rows(&one, first).await?;
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    fleet.shared_by(&names[..2]).await?;
    assert_eq!(fleet.read_by(names[2]).await?.len(), 0);
    fleet.signal(names[1], "TERM")?;
    fleet.shared_by(&[names[0], names[2]]).await?;
    Ok(())
}

/// Nobody can read while the brokers are away; afterwards all do.
#[tokio::test(flavor = "multi_thread")]
async fn brokers_that_come_back_are_read_by_all() -> Result<(), Failure> {
    let mut fleet = Fleet::start_at(Broker::own(&[]).await?, 4, &["one", "two"]).await?;
    let one = fleet.client("one").await?;
    fleet.create_pipeline(&one, "").await?;
    fleet.shared_by(&["one", "two"]).await?;
    fleet.broker.kill()?;
    let sql = "SELECT count(DISTINCT run_id) = 2 FROM system.pipeline_errors";
    wait_until(&one, sql).await?;
    fleet.broker.start().await?;
    fleet.shared_by(&["one", "two"]).await?;
    produce(&fleet, 0, 100)?;
    wait_until(&one, "SELECT count(*) = 100 FROM events").await?;
    let sql = "SELECT count(*) FROM system.pipeline_runs WHERE state = 'running'";
    assert_eq!(value(&one, sql).await?, "2", "the runs have gone on");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_is_that_of_all_servers_together() -> Result<(), Failure> {
    let fleet = Fleet::start(4, &["one", "two"]).await?;
    let one = fleet.client("one").await?;
    fleet
        .create_pipeline(&one, "WITH (rate_rows = 100)")
        .await?;
    fleet.shared_by(&["one", "two"]).await?;
    let begin = Instant::now();
    produce(&fleet, 0, 1000)?;
    wait_until(&one, "SELECT count(*) = 1000 FROM events").await?;
    let took = begin.elapsed();
    // The last block of each is waited for no more.
    assert!(
        took >= Duration::from_secs(7),
        "1000 messages came in {took:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_shared_stays_with_one_server() -> Result<(), Failure> {
    let fleet = Fleet::start(4, &["one", "two"]).await?;
    let one = fleet.client("one").await?;
    let sql = format!(
        "CREATE PIPELINE keyed FROM KAFKA cluster TOPICS ('{}') FORMAT JSON COLUMNS (id bigint) INTO keyed KEY (id)",
        fleet.topic
    );
    rows(&one, &sql).await?;
    fleet
        .create_pipeline(&one, "WITH (servers_max = 1)")
        .await?;
    produce(&fleet, 0, 100)?;
    wait_until(&one, "SELECT count(*) = 100 FROM events").await?;
    wait_until(&one, "SELECT count(*) = 100 FROM keyed").await?;
    let running = "SELECT pipeline, count(*) FROM system.pipeline_runs WHERE state = 'running' GROUP BY pipeline ORDER BY pipeline";
    assert_eq!(rows(&one, running).await?, ["keyed|1", "p|1"]);
    Ok(())
}

/// Another definition, and another way to the brokers, while messages come.
#[tokio::test(flavor = "multi_thread")]
async fn a_shared_pipeline_is_replaced_and_its_connection_altered() -> Result<(), Failure> {
    let fleet = Fleet::start(6, &["one", "two"]).await?;
    let one = fleet.client("one").await?;
    let two = fleet.client("two").await?;
    let rest = "WITH (target_lag = '200 ms')";
    fleet.create_pipeline(&one, rest).await?;
    fleet.shared_by(&["one", "two"]).await?;
    let written = Written::begin(&fleet);
    wait_until(&one, "SELECT count(*) > 0 FROM events").await?;
    for (number, client) in [(1, &two), (2, &one), (3, &two)] {
        let sql = format!(
            "CREATE OR REPLACE PIPELINE p FROM KAFKA cluster TOPICS ('{}') FORMAT JSON COLUMNS (id bigint) \
             INCLUDE (partition, offset) INTO events AS SELECT id, _partition, _offset, {number} AS made_by FROM source {rest}",
            fleet.topic
        );
        change(client, &sql, 2).await?;
        fleet.shared_by(&["one", "two"]).await?;
        fleet.all_are_read(client, &written).await?;
    }
    let brokers = fleet.broker.address();
    let nowhere = boathouse_tests::free_port()?;
    for brokers in [
        // By another name.
        brokers.replace("127.0.0.1", "localhost"),
        // To where nobody listens, as well.
        format!("127.0.0.1:{nowhere},{brokers}"),
        brokers,
    ] {
        rows(
            &one,
            &format!("ALTER CONNECTION cluster SET (brokers = '{brokers}')"),
        )
        .await?;
        fleet.all_are_read(&two, &written).await?;
        fleet.shared_by(&["one", "two"]).await?;
    }
    let count = written.end()?;
    assert_eq!(fleet.every_message_is_there_once(&one).await?, count);
    // Each partition was read by one definition after the other.
    let sql = "SELECT count(*) FROM (SELECT coalesce(made_by, 0) AS now, \
               lag(coalesce(made_by, 0)) OVER (PARTITION BY _partition ORDER BY _offset) AS before FROM events) e WHERE now < before";
    assert_eq!(value(&one, sql).await?, "0");
    assert_eq!(
        value(&one, "SELECT count(DISTINCT made_by) FROM events").await?,
        "3"
    );
    let failed = "SELECT error FROM system.pipeline_runs WHERE state = 'failed'";
    assert_eq!(rows(&one, failed).await?.len(), 0);
    Ok(())
}

/// What two servers set aside goes to the topic for it, whoever of them is killed.
#[tokio::test(flavor = "multi_thread")]
async fn letters_of_all_servers_go_to_their_topic() -> Result<(), Failure> {
    let mut fleet = Fleet::start(4, &["one", "two"]).await?;
    let one = fleet.client("one").await?;
    let letters = format!("{}-aside", fleet.topic);
    fleet.broker.create_topic(&letters, 1, &[]).await?;
    fleet
        .create_pipeline(
            &one,
            &format!("WITH (target_lag = '200 ms', dead_letter_topic = '{letters}')"),
        )
        .await?;
    fleet.shared_by(&["one", "two"]).await?;
    let written = Written::begin(&fleet);
    fleet.all_are_read(&one, &written).await?;
    fleet.signal("two", "KILL")?;
    fleet.servers.remove("two");
    fleet.all_are_read(&one, &written).await?;
    fleet.add("two").await?;
    fleet.shared_by(&["one", "two"]).await?;
    let count = written.end()?;
    assert_eq!(fleet.every_message_is_there_once(&one).await?, count);
    let aside =
        "SELECT partition_number || ':' || message_offset FROM system.quarantine ORDER BY 1";
    let aside: BTreeSet<String> = rows(&one, aside).await?.into_iter().collect();
    assert_eq!(aside.len(), count / BURST);
    let sent: BTreeSet<String> = fleet
        .broker
        .receive(&letters, 1)?
        .iter()
        .map(|letter| {
            assert_eq!(letter.payload.as_deref(), Some(BAD));
            assert_eq!(letter.header("boathouse-topic"), fleet.topic);
            let (partition, offset) = ("boathouse-partition", "boathouse-offset");
            format!("{}:{}", letter.header(partition), letter.header(offset))
        })
        .collect();
    assert_eq!(sent, aside);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_comes_later_is_shared_from_its_beginning() -> Result<(), Failure> {
    let fleet = Fleet::start(3, &["one", "two"]).await?;
    let one = fleet.client("one").await?;
    let topic = &fleet.topic;
    produce(&fleet, 0, 30)?;
    let sql = format!(
        "CREATE PIPELINE p FROM KAFKA cluster TOPICS ('{topic}.*') FORMAT JSON COLUMNS (id bigint) \
         INCLUDE (topic, partition, offset) INTO events WITH (target_lag = '200 ms', discover = '500 ms', start = 'latest')"
    );
    rows(&one, &sql).await?;
    fleet.shared_by(&["one", "two"]).await?;
    let later = format!("{topic}-later");
    fleet.broker.create_topic(&later, 4, &[]).await?;
    let payloads: Vec<String> = (100..140).map(|id| format!("{{\"id\":{id}}}")).collect();
    let messages = payloads
        .iter()
        .zip(0..)
        .map(|(payload, number)| Sent::new(payload.as_bytes()).to(number % 4));
    fleet.broker.produce(&later, messages)?;
    wait_until(&one, "SELECT count(*) = 40 FROM events").await?;
    let begun = Instant::now();
    loop {
        let (by_one, by_two) = (fleet.read_by("one").await?, fleet.read_by("two").await?);
        if by_one.len() + by_two.len() == 7 && by_one.len().abs_diff(by_two.len()) == 1 {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "{by_one:?} {by_two:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    produce(&fleet, 30, 3)?;
    wait_until(&one, "SELECT count(*) = 43 FROM events").await?;
    let sql = "SELECT _topic LIKE '%-later', count(*), count(DISTINCT id), min(_offset), max(_offset) FROM events GROUP BY 1 ORDER BY 1";
    assert_eq!(rows(&one, sql).await?, ["f|3|3|10|10", "t|40|40|0|9"]);
    Ok(())
}

/// The server that fills the tables is killed, time after time; another goes on.
#[tokio::test(flavor = "multi_thread")]
async fn tables_by_a_column_are_taken_over_from_a_server_that_is_killed() -> Result<(), Failure> {
    let mut fleet = Fleet::start(4, &["one", "two", "three"]).await?;
    let three = fleet.client("three").await?;
    rows(&three, "CREATE SCHEMA bronze").await?;
    let sql = format!(
        "CREATE PIPELINE p FROM KAFKA cluster TOPICS ('{}') FORMAT JSON COLUMNS (id bigint) INCLUDE (partition, offset) \
         INTO SCHEMA bronze BY kind AS SELECT id, _partition, _offset, 'k' || (id % 5) AS kind FROM source \
         WITH (target_lag = '200 ms')",
        fleet.topic
    );
    rows(&three, &sql).await?;
    let written = Written::begin(&fleet);
    let all: Vec<String> = (0..5)
        .map(|kind| format!("SELECT id, _partition, _offset, kind FROM bronze.k{kind}"))
        .collect();
    let all = all.join(" UNION ALL ");
    let view = format!("CREATE VIEW events AS {all}");
    let begun = Instant::now();
    // The tables are made when their first rows come.
    while let Err(error) = rows(&three, &view).await {
        assert!(begun.elapsed() < PATIENCE, "{error}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let reader = "SELECT server FROM system.pipeline_runs WHERE state = 'running'";
    for _ in 0..3 {
        let name = value(&three, reader).await?;
        let name = ["one", "two", "three"]
            .into_iter()
            .find(|one| *one == name)
            .ok_or("an unknown server")?;
        fleet.signal(name, "KILL")?;
        fleet.servers.remove(name);
        fleet.add(name).await?;
        let client = fleet.client(name).await?;
        let took = fleet.all_are_read(&client, &written).await?;
        println!("{name} was taken over from within {took:?}");
        // The client of a server that was killed is of no use.
        if name == "three" {
            break;
        }
    }
    let client = fleet.client("one").await?;
    let count = written.end()?;
    assert_eq!(fleet.every_message_is_there_once(&client).await?, count);
    let wrong = "SELECT count(*) FROM events WHERE kind <> 'k' || (id % 5)";
    assert_eq!(value(&client, wrong).await?, "0");
    Ok(())
}

/// One server makes everything anew while the others give way, and all go on from there.
#[tokio::test(flavor = "multi_thread")]
async fn rows_are_made_anew_while_servers_share_them() -> Result<(), Failure> {
    let fleet = Fleet::start(4, &["one", "two"]).await?;
    let one = fleet.client("one").await?;
    let two = fleet.client("two").await?;
    let rest = "WITH (target_lag = '200 ms')";
    fleet.create_pipeline(&one, rest).await?;
    fleet.shared_by(&["one", "two"]).await?;
    produce(&fleet, 0, 200)?;
    wait_until(&one, "SELECT count(*) = 200 FROM events").await?;
    let sql = format!(
        "CREATE OR REPLACE PIPELINE p FROM KAFKA cluster TOPICS ('{}') FORMAT JSON COLUMNS (id bigint) \
         INCLUDE (partition, offset) INTO events AS SELECT id, _partition, _offset, 1 AS made_anew FROM source {rest}",
        fleet.topic
    );
    rows(&two, &sql).await?;
    rows(&two, "RUN PIPELINE p FULL REFRESH").await?;
    let made = "SELECT count(*), count(made_anew) FROM events";
    assert_eq!(rows(&two, made).await?, ["200|200"]);
    produce(&fleet, 200, 100)?;
    wait_for(&one, made, &["300|300"]).await?;
    fleet.shared_by(&["one", "two"]).await?;
    assert_eq!(fleet.every_message_is_there_once(&one).await?, 300);
    let failed = "SELECT error FROM system.pipeline_runs WHERE state = 'failed'";
    assert_eq!(rows(&one, failed).await?.len(), 0);
    Ok(())
}
