//! Out of the lake into Kafka, against a real broker and read by a consumer of its own: `COPY ... TO KAFKA`, pipelines
//! INTO KAFKA, and dead letters.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use boathouse_tests::kafka::{Broker, Received, Sent};
use boathouse_tests::{
    Failure, Server, ServerOptions, explain, lake_folder, rows, service, value, wait_for,
};
use tempfile::TempDir;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

struct Fixture {
    broker: Broker,
    /// A name for topics that no other test has.
    topic: String,
    _folder: TempDir,
    lake: PathBuf,
    server: Server,
}

impl Fixture {
    async fn new() -> Result<Self, Failure> {
        Self::with(Broker::shared()?).await
    }

    async fn with(broker: Broker) -> Result<Self, Failure> {
        let topic = format!("t{}", uuid::Uuid::new_v4().simple());
        let (folder, lake) = lake_folder()?;
        let server = Server::start(&lake).await?;
        let fixture = Self {
            broker,
            topic,
            _folder: folder,
            lake,
            server,
        };
        let client = fixture.server.connect().await?;
        rows(&client, &fixture.broker.create_connection("events")).await?;
        Ok(fixture)
    }

    async fn client(&self) -> Result<Client, Failure> {
        self.server.connect().await
    }

    /// `kill -9`, and a new server on the same lake.
    async fn restart(&mut self, failpoint: Option<&str>) -> Result<Client, Failure> {
        self.server.kill()?;
        self.start(failpoint).await
    }

    async fn start(&mut self, failpoint: Option<&str>) -> Result<Client, Failure> {
        let failpoint = failpoint.map(|name| ("BOATHOUSE_FAILPOINT".to_owned(), name.to_owned()));
        let options = ServerOptions {
            environment: failpoint.into_iter().collect(),
            ..ServerOptions::default()
        };
        self.server = Server::start_with(&self.lake, options).await?;
        self.client().await
    }

    fn received(&self, partitions: i32) -> Result<Vec<Received>, Failure> {
        self.broker.receive(&self.topic, partitions)
    }
}

async fn failure(client: &Client, sql: &str) -> String {
    match client.simple_query(sql).await {
        Ok(_) => "it went well".to_owned(),
        Err(error) => explain(error).to_string(),
    }
}

/// Rows that a statement says it has written.
async fn written(client: &Client, sql: &str) -> Result<u64, Failure> {
    let messages = client.simple_query(sql).await.map_err(explain)?;
    let complete = messages.iter().find_map(|message| match message {
        SimpleQueryMessage::CommandComplete(rows) => Some(*rows),
        _ => None,
    });
    complete.ok_or_else(|| "the statement did not say that it is complete".into())
}

/// `op key payload`, in the order of the partition.
fn told(messages: &[Received]) -> Vec<String> {
    let one = |message: &Received| {
        format!(
            "{} {} {}",
            message.header("boathouse-op"),
            message.key.as_deref().unwrap_or("-"),
            message.payload.as_deref().unwrap_or("-")
        )
    };
    messages.iter().map(one).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_type_has_its_form_in_json() -> Result<(), Failure> {
    let fixture = Fixture::new().await?;
    let (topic, client) = (&fixture.topic, fixture.client().await?);
    fixture.broker.create_topic(topic, 1, &[]).await?;
    let count = written(
        &client,
        &format!(
            "COPY (SELECT 1::smallint AS a, 9007199254740993::bigint AS b, 12345678901234567890.123400::numeric(38,6) AS c, \
             0.1::double precision AS d, 1.5::real AS e, 'NaN'::double precision AS f, true AS g, E'a\"\\n\u{e9}' AS h, \
             '\\x00ff'::bytea AS i, DATE '2024-02-29' AS j, TIMESTAMP '2024-02-29 08:00:00.5' AS k, \
             TIMESTAMPTZ '2024-02-29 08:00:00+07' AS l, '{{\"b\": [1, 2.50], \"a\": null}}'::jsonb AS m, \
             '6f0d2ae6-5f0c-4d5f-9d52-0c6b3b7a3f11'::uuid AS n, INTERVAL '1 day 2 hours' AS o, \
             ARRAY[1, NULL, 3] AS p, ARRAY['x', '\"'] AS q, NULL::text AS r) TO KAFKA events TOPIC '{topic}'"
        ),
    )
    .await?;
    assert_eq!(count, 1);
    let found = fixture.received(1)?;
    assert_eq!(
        told(&found),
        [
            " - {\"a\":1,\"b\":9007199254740993,\"c\":12345678901234567890.123400,\"d\":0.1,\"e\":1.5,\"f\":\"NaN\",\
             \"g\":true,\"h\":\"a\\\"\\n\u{e9}\",\"i\":\"\\\\x00ff\",\"j\":\"2024-02-29\",\"k\":\"2024-02-29T08:00:00.5\",\
             \"l\":\"2024-02-29T01:00:00+00:00\",\"m\":{\"a\": null, \"b\": [1, 2.5]},\
             \"n\":\"6f0d2ae6-5f0c-4d5f-9d52-0c6b3b7a3f11\",\"o\":\"1 day 02:00:00\",\"p\":[1,null,3],\"q\":[\"x\",\"\\\"\"],\
             \"r\":null}"
        ]
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_a_key_stay_in_order_in_one_partition() -> Result<(), Failure> {
    let fixture = Fixture::new().await?;
    let (topic, client) = (&fixture.topic, fixture.client().await?);
    fixture.broker.create_topic(topic, 4, &[]).await?;
    let count = written(
        &client,
        &format!(
            "COPY (SELECT 'k' || n % 50 AS k, n FROM generate_series(1, 20000) AS n ORDER BY n) \
             TO KAFKA events TOPIC '{topic}' KEY (k) FORMAT JSON WITH (compression = 'zstd')"
        ),
    )
    .await?;
    assert_eq!(count, 20_000);
    let mut places: BTreeMap<String, BTreeSet<i32>> = BTreeMap::new();
    let mut numbers: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for message in fixture.received(4)? {
        let key = message.key.ok_or("a message has no key")?;
        places
            .entry(key.clone())
            .or_default()
            .insert(message.partition);
        let payload = message.payload.unwrap_or_default();
        numbers.entry(key).or_default().push(payload);
    }
    assert_eq!(numbers.len(), 50);
    assert!(places.values().all(|partitions| partitions.len() == 1));
    for (key, payloads) in numbers {
        let first: u64 = key.trim_start_matches('k').parse()?;
        let first = if first == 0 { 50 } else { first };
        let expected: Vec<String> = (first..=20_000)
            .step_by(50)
            .map(|n| format!("{{\"k\":\"{key}\",\"n\":{n}}}"))
            .collect();
        assert_eq!(payloads, expected);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_the_text_of_a_column_or_an_object_of_several() -> Result<(), Failure> {
    let fixture = Fixture::new().await?;
    let (topic, client) = (&fixture.topic, fixture.client().await?);
    fixture.broker.create_topic(topic, 1, &[]).await?;
    rows(
        &client,
        "CREATE TABLE t (a integer, b text); INSERT INTO t VALUES (7, 'x y'), (8, NULL)",
    )
    .await?;
    for key in ["", "KEY (a)", "KEY (b)", "KEY (b, a)"] {
        let sql =
            format!("COPY (SELECT * FROM t ORDER BY a) TO KAFKA events TOPIC '{topic}' {key}");
        assert_eq!(written(&client, &sql).await?, 2);
    }
    assert_eq!(
        written(
            &client,
            &format!("COPY t (b) TO KAFKA events TOPIC '{topic}'")
        )
        .await?,
        2
    );
    let found = fixture.received(1)?;
    let keys: Vec<_> = found
        .iter()
        .map(|message| message.key.as_deref().unwrap_or("-"))
        .collect();
    assert_eq!(
        keys,
        [
            "-",
            "-",
            "7",
            "8",
            "x y",
            "-",
            "{\"b\":\"x y\",\"a\":7}",
            "{\"b\":null,\"a\":8}",
            "-",
            "-"
        ]
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_copied_is_refused_and_says_why() -> Result<(), Failure> {
    let fixture = Fixture::new().await?;
    let (topic, client) = (&fixture.topic, fixture.client().await?);
    fixture.broker.create_topic(topic, 1, &[]).await?;
    let to = |rest: &str| format!("COPY (SELECT 1 AS a) TO KAFKA {rest}");
    for (rest, expected) in [
        (
            "nowhere TOPIC 'x'".to_owned(),
            "42704: connection \"nowhere\" does not exist",
        ),
        (
            format!("events TOPIC '{topic}-not'"),
            "42704: topic \"TOPIC-not\" does not exist, or may not be seen / make it with the tools of the cluster: its \
             partitions and its retention are for its owner to choose",
        ),
        (
            "events TOPIC 'a b'".to_owned(),
            "22023: a topic cannot be called \"a b\" / names of topics have 1 to 249 letters, digits, dots, underscores and \
             hyphens",
        ),
        (
            format!("events TOPIC '{topic}' KEY (b)"),
            "42703: column \"b\" of KEY is not among those of the messages",
        ),
        (
            format!("events TOPIC '{topic}' FORMAT AVRO"),
            "0A000: writing messages in FORMAT AVRO is not supported / messages are written in FORMAT JSON",
        ),
    ] {
        let found = failure(&client, &to(&rest)).await;
        assert_eq!(found.replace(topic, "TOPIC"), expected);
    }
    let unknown = failure(
        &client,
        &to(&format!("events TOPIC '{topic}' WITH (speed = 1)")),
    )
    .await;
    assert!(
        unknown.starts_with("22023: COPY TO KAFKA has no option \"speed\""),
        "{unknown}"
    );
    let twice = format!("COPY (SELECT 1 AS a, 2 AS a) TO KAFKA events TOPIC '{topic}'");
    let twice = failure(&client, &twice).await;
    assert!(
        twice.starts_with("42701: column \"a\" is there more than once"),
        "{twice}"
    );
    assert!(fixture.received(1)?.is_empty());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn both_rights_are_asked_for() -> Result<(), Failure> {
    let fixture = Fixture::new().await?;
    let (topic, client) = (&fixture.topic, fixture.client().await?);
    fixture.broker.create_topic(topic, 1, &[]).await?;
    rows(
        &client,
        "CREATE TABLE t (a integer); INSERT INTO t VALUES (1); \
         CREATE ROLE ann LOGIN PASSWORD 'ann has a password'; GRANT SELECT ON t TO ann",
    )
    .await?;
    let ann = fixture
        .server
        .connect_as("ann", "ann has a password")
        .await?;
    let copy = format!("COPY t TO KAFKA events TOPIC '{topic}'");
    assert_eq!(
        failure(&ann, &copy).await,
        "42501: permission denied for connection \"events\""
    );
    let pipeline = format!("CREATE PIPELINE p FROM TABLE t INTO KAFKA events TOPIC '{topic}'");
    assert_eq!(
        failure(&ann, &pipeline).await,
        "42501: permission denied for connection \"events\""
    );
    rows(
        &client,
        "GRANT USAGE ON CONNECTION events TO ann; REVOKE SELECT ON t FROM ann",
    )
    .await?;
    for sql in [&copy, &pipeline] {
        assert_eq!(
            failure(&ann, sql).await,
            "42501: permission denied for table t"
        );
    }
    rows(&client, "GRANT SELECT ON t TO ann").await?;
    assert_eq!(written(&ann, &copy).await?, 1);
    assert_eq!(told(&fixture.received(1)?), [" - {\"a\":1}"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_half_way_says_how_many_messages_were_taken() -> Result<(), Failure> {
    let fixture = Fixture::new().await?;
    let (topic, client) = (&fixture.topic, fixture.client().await?);
    fixture
        .broker
        .create_topic(topic, 1, &[("max.message.bytes", "20000")])
        .await?;
    // Hardly compressible, so that the broker sees it as large as it is.
    let large = "(SELECT string_agg(md5(i::text), '') FROM generate_series(1, 3000) AS i)";
    let found = failure(
        &client,
        &format!(
            "COPY (SELECT {large} AS a) TO KAFKA events TOPIC '{topic}' WITH (compression = 'none')"
        ),
    )
    .await;
    assert_eq!(
        found.replace(topic, "TOPIC"),
        "54000: a message, or messages that went together, are larger than topic \"TOPIC\" takes / 0 messages were acknowledged by the brokers, and stay in \
         the topic / raise max.message.bytes of the topic, up to 16 MiB, or lower the option \"batch_bytes\" below it"
    );
    // An error of the query itself, after rows that were sent.
    rows(
        &client,
        "CREATE TABLE t (a bigint); INSERT INTO t SELECT n FROM generate_series(1, 100000) AS n",
    )
    .await?;
    let found = failure(
        &client,
        &format!("COPY (SELECT 1 / (90000 - a) AS a FROM t) TO KAFKA events TOPIC '{topic}' WITH (batch_bytes = 10000)"),
    )
    .await;
    let count = fixture.received(1)?.len();
    assert_eq!(
        found,
        format!(
            "22012: division by zero / {count} messages were acknowledged by the brokers, and stay in the topic"
        )
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_copy_stops() -> Result<(), Failure> {
    let fixture = Fixture::new().await?;
    let (topic, client) = (&fixture.topic, fixture.client().await?);
    fixture.broker.create_topic(topic, 1, &[]).await?;
    let cancel = client.cancel_token();
    let copy = format!(
        "COPY (SELECT n FROM generate_series(1, 2000000000) AS n) TO KAFKA events TOPIC '{topic}'"
    );
    let copying = tokio::spawn(async move { failure(&client, &copy).await });
    let begun = Instant::now();
    while fixture.broker.ends(topic, 1)? == [(0, 0)] {
        assert!(begun.elapsed() < Duration::from_secs(30), "nothing is sent");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    cancel.cancel_query(NoTls).await?;
    let ended = tokio::time::timeout(Duration::from_secs(20), copying).await??;
    assert!(ended.starts_with("57014:"), "{ended}");
    // What was queued is forgotten.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let before = fixture.broker.ends(topic, 1)?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(fixture.broker.ends(topic, 1)?, before);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn brokers_that_are_away_end_a_copy_in_time() -> Result<(), Failure> {
    let mut fixture = Fixture::with(Broker::own(&[]).await?).await?;
    let (topic, client) = (fixture.topic.clone(), fixture.client().await?);
    fixture.broker.create_topic(&topic, 1, &[]).await?;
    let copy = format!(
        "COPY (SELECT n FROM generate_series(1, 2000000000) AS n) TO KAFKA events TOPIC '{topic}' \
         WITH (delivery_timeout = '2 s')"
    );
    let copying = tokio::spawn(async move { failure(&client, &copy).await });
    let begun = Instant::now();
    while fixture.broker.ends(&topic, 1)? == [(0, 0)] {
        assert!(begun.elapsed() < Duration::from_secs(30), "nothing is sent");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    fixture.broker.kill()?;
    let ended = tokio::time::timeout(Duration::from_secs(60), copying).await??;
    assert!(ended.starts_with("08006: the brokers at"), "{ended}");
    assert!(ended.contains("messages were acknowledged"), "{ended}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_of_a_table_are_published_by_key() -> Result<(), Failure> {
    let fixture = Fixture::new().await?;
    let (topic, client) = (&fixture.topic, fixture.client().await?);
    fixture.broker.create_topic(topic, 1, &[]).await?;
    rows(
        &client,
        "CREATE TABLE t (id bigint PRIMARY KEY, name text); INSERT INTO t VALUES (1, 'a'), (2, 'b')",
    )
    .await?;
    rows(
        &client,
        &format!(
            "CREATE PIPELINE p FROM TABLE t INTO KAFKA events TOPIC '{topic}' SCHEDULE ON DEMAND"
        ),
    )
    .await?;
    rows(&client, "RUN PIPELINE p").await?;
    for sql in [
        "INSERT INTO t VALUES (3, 'c')",
        "UPDATE t SET name = 'bb' WHERE id = 2",
        "OPTIMIZE t",
        "DELETE FROM t WHERE id = 1",
        "MERGE INTO t USING (VALUES (3, 'cc'), (4, 'd')) AS s (id, name) ON t.id = s.id \
         WHEN MATCHED THEN UPDATE SET name = s.name WHEN NOT MATCHED THEN INSERT VALUES (s.id, s.name)",
    ] {
        rows(&client, sql).await?;
    }
    rows(&client, "RUN PIPELINE p").await?;
    let found = fixture.received(1)?;
    let mut told = told(&found);
    told[..2].sort();
    assert_eq!(
        told,
        [
            "snapshot 1 {\"id\":1,\"name\":\"a\"}",
            "snapshot 2 {\"id\":2,\"name\":\"b\"}",
            "insert 3 {\"id\":3,\"name\":\"c\"}",
            "update 2 {\"id\":2,\"name\":\"bb\"}",
            "delete 1 -",
            "update 3 {\"id\":3,\"name\":\"cc\"}",
            "insert 4 {\"id\":4,\"name\":\"d\"}",
        ]
    );
    assert!(
        found
            .iter()
            .all(|message| message.header("boathouse-pipeline") == "p")
    );
    let versions: Vec<i64> = found
        .iter()
        .map(|message| message.header("boathouse-version").parse())
        .collect::<Result<_, _>>()?;
    assert!(versions.is_sorted(), "{versions:?}");
    let newest = value(&client, "SELECT max(version) FROM system.table_history").await?;
    assert_eq!(versions.last().map(i64::to_string), Some(newest.clone()));
    let lag = value(
        &client,
        "SELECT source, schema_name, table_name, state, position FROM system.pipeline_lag",
    )
    .await?;
    assert_eq!(lag, format!("public.t|public|t|streaming|{newest}"));
    // Nothing is new.
    rows(&client, "RUN PIPELINE p").await?;
    assert_eq!(fixture.received(1)?.len(), 7);
    let counted = rows(
        &client,
        "SELECT state, trigger, rows_out FROM system.pipeline_runs ORDER BY run_id",
    )
    .await?;
    assert_eq!(
        counted,
        [
            "succeeded|manual|2",
            "succeeded|manual|5",
            "succeeded|manual|0"
        ]
    );
    // Everything once more.
    rows(&client, "RUN PIPELINE p FULL REFRESH").await?;
    assert_eq!(fixture.received(1)?.len(), 10);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_the_query_leaves_out_is_gone() -> Result<(), Failure> {
    let fixture = Fixture::new().await?;
    let (topic, client) = (&fixture.topic, fixture.client().await?);
    fixture.broker.create_topic(topic, 1, &[]).await?;
    rows(
        &client,
        "CREATE TABLE t (id bigint PRIMARY KEY, email text, age integer)",
    )
    .await?;
    rows(
        &client,
        &format!(
            "CREATE PIPELINE p FROM TABLE t CHANGES INTO KAFKA events TOPIC '{topic}' KEY (mail) \
             AS SELECT lower(email) AS mail, age FROM source WHERE age >= 18 SCHEDULE ON DEMAND WITH (start = 'latest')"
        ),
    )
    .await?;
    rows(&client, "RUN PIPELINE p").await?;
    for sql in [
        "INSERT INTO t VALUES (1, 'A', 17), (2, 'B', 40)",
        "UPDATE t SET age = 18 WHERE id = 1",
        "UPDATE t SET email = 'C' WHERE id = 2",
        "UPDATE t SET age = 3 WHERE id = 1",
        "DELETE FROM t",
    ] {
        rows(&client, sql).await?;
    }
    rows(&client, "RUN PIPELINE p").await?;
    let mut found = told(&fixture.received(1)?);
    // Two keys of one version have no order.
    found[2..4].sort();
    assert_eq!(
        found,
        [
            "insert b {\"mail\":\"b\",\"age\":40}",
            "insert a {\"mail\":\"a\",\"age\":18}",
            "delete b -",
            "insert c {\"mail\":\"c\",\"age\":40}",
            "delete a -",
            "delete c -",
        ]
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_tombstones_messages_say_what_they_are() -> Result<(), Failure> {
    let fixture = Fixture::new().await?;
    let (topic, client) = (&fixture.topic, fixture.client().await?);
    fixture.broker.create_topic(topic, 1, &[]).await?;
    rows(
        &client,
        "CREATE TABLE t (a bigint); INSERT INTO t VALUES (1)",
    )
    .await?;
    let create = |name: &str, rest: &str| {
        format!("CREATE PIPELINE {name} FROM TABLE t INTO KAFKA events TOPIC '{topic}' {rest}")
    };
    rows(&client, &create("p", "SCHEDULE ON DEMAND")).await?;
    for statement in ["TEST PIPELINE", "REPLAY QUARANTINE"] {
        assert_eq!(
            failure(&client, &format!("{statement} p")).await,
            format!("0A000: {statement} of a pipeline INTO KAFKA is not supported")
        );
    }
    rows(&client, "RUN PIPELINE p").await?;
    rows(&client, "UPDATE t SET a = 2").await?;
    rows(&client, "RUN PIPELINE p; DROP PIPELINE p").await?;
    rows(
        &client,
        &create(
            "q",
            "KEY (a) SCHEDULE ON DEMAND WITH (deletes = 'message', start = 'latest')",
        ),
    )
    .await?;
    rows(&client, "RUN PIPELINE q").await?;
    rows(&client, "UPDATE t SET a = 3").await?;
    rows(&client, "RUN PIPELINE q").await?;
    assert_eq!(
        told(&fixture.received(1)?),
        [
            "snapshot - {\"_op\":\"snapshot\",\"a\":1}",
            "delete - {\"_op\":\"delete\",\"a\":1}",
            "insert - {\"_op\":\"insert\",\"a\":2}",
            "delete 2 {\"_op\":\"delete\",\"a\":2}",
            "insert 3 {\"_op\":\"insert\",\"a\":3}",
        ]
    );
    let refused = failure(&client, &create("r", "WITH (deletes = 'tombstone')")).await;
    assert!(
        refused.starts_with("22023: deletes = 'tombstone' needs messages with a key"),
        "{refused}"
    );
    for query in [
        "SELECT sum(a) AS a FROM source",
        "SELECT DISTINCT a FROM source",
        "SELECT a FROM source LIMIT 1",
        "SELECT s.a FROM source AS s, t",
    ] {
        let refused = failure(&client, &create("r", &format!("AS {query}"))).await;
        assert!(
            refused.starts_with("0A000: a query that is not row by row"),
            "{refused}"
        );
    }
    // What asks for the time zone only is the same each time.
    let zoned = "KEY (a) AS SELECT a, date_trunc('day', '2024-05-17 08:00+00'::timestamptz)::text AS day FROM source";
    rows(
        &client,
        &create("zoned", &format!("{zoned} SCHEDULE ON DEMAND")),
    )
    .await?;
    for query in [
        "SELECT a FROM source WHERE now() > '2024-01-01'",
        "SELECT a, random() AS b FROM source",
        "SELECT a, current_user AS b FROM source",
    ] {
        let refused = failure(&client, &create("r", &format!("AS {query}"))).await;
        assert!(
            refused.starts_with("0A000: a query that depends on more than the row"),
            "{refused}"
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_without_a_schedule_notices_changes_by_itself() -> Result<(), Failure> {
    let mut fixture = Fixture::new().await?;
    let topic = fixture.topic.clone();
    fixture.broker.create_topic(&topic, 1, &[]).await?;
    let client = fixture.client().await?;
    rows(&client, "CREATE TABLE t (id bigint PRIMARY KEY, n bigint)").await?;
    rows(
        &client,
        &format!("CREATE PIPELINE p FROM TABLE t INTO KAFKA events TOPIC '{topic}'"),
    )
    .await?;
    let current = "SELECT state, seconds_behind FROM system.pipeline_lag";
    wait_for(&client, current, "streaming|0").await?;
    rows(&client, "INSERT INTO t VALUES (1, 1)").await?;
    let begun = Instant::now();
    while fixture.received(1)?.is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(20), "nothing came");
    }
    // Paused it publishes nothing, resumed all there is.
    rows(&client, "ALTER PIPELINE p PAUSE").await?;
    wait_for(
        &client,
        "SELECT count(*) FROM system.pipeline_runs WHERE state = 'running'",
        "0",
    )
    .await?;
    rows(&client, "INSERT INTO t VALUES (2, 2)").await?;
    rows(&client, "DELETE FROM t WHERE id = 1").await?;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(fixture.received(1)?.len(), 1);
    rows(&client, "ALTER PIPELINE p RESUME").await?;
    let begun = Instant::now();
    while fixture.received(1)?.len() < 3 {
        assert!(begun.elapsed() < Duration::from_secs(20), "nothing came");
    }
    // It goes on after a restart where it was; columns that come later are there.
    let client = fixture.restart(None).await?;
    rows(&client, "ALTER TABLE t ADD COLUMN more text").await?;
    rows(&client, "INSERT INTO t VALUES (3, 3, 'x')").await?;
    rows(&client, "RUN PIPELINE p").await?;
    assert_eq!(
        told(&fixture.received(1)?),
        [
            "insert 1 {\"id\":1,\"n\":1}",
            "insert 2 {\"id\":2,\"n\":2}",
            "delete 1 -",
            "insert 3 {\"id\":3,\"n\":3,\"more\":\"x\"}",
        ]
    );
    Ok(())
}

/// Holds what a topic tells against what a table is and was: every change is there, and the last message of a key is the
/// row.
async fn hold_against(
    fixture: &Fixture,
    client: &Client,
    partitions: i32,
    first: &str,
) -> Result<(), Failure> {
    hold_messages_against(&fixture.received(partitions)?, client, first).await
}

async fn hold_messages_against(
    found: &[Received],
    client: &Client,
    first: &str,
) -> Result<(), Failure> {
    let mut last: BTreeMap<String, Option<String>> = BTreeMap::new();
    let mut told: BTreeSet<String> = BTreeSet::new();
    for message in found {
        let key = message.key.clone().ok_or("a message has no key")?;
        let version = message.header("boathouse-version");
        let payload = message.payload.as_deref().unwrap_or("-");
        told.insert(format!("{version} {key} {payload}"));
        last.insert(key, message.payload.clone());
    }
    let state: BTreeMap<String, String> = last
        .into_iter()
        .filter_map(|(key, payload)| Some((key, payload?)))
        .collect();
    let expected: BTreeMap<String, String> = rows(client, "SELECT id, n FROM t")
        .await?
        .iter()
        .filter_map(|row| row.split_once('|'))
        .map(|(id, n)| (id.to_owned(), format!("{{\"id\":{id},\"n\":{n}}}")))
        .collect();
    let wrong: Vec<_> = expected
        .keys()
        .chain(state.keys())
        .filter(|key| state.get(*key) != expected.get(*key))
        .take(10)
        .map(|key| (key, state.get(key), expected.get(key)))
        .collect();
    assert!(wrong.is_empty(), "told last, and what is: {wrong:?}");
    let changes = rows(
        client,
        &format!(
            "SELECT _commit_version || ' ' || id || ' ' || CASE _change_type WHEN 'delete' THEN '-' \
             ELSE '{{\"id\":' || id || ',\"n\":' || n || '}}' END \
             FROM table_changes('t', {first}) WHERE _change_type <> 'update_preimage'"
        ),
    )
    .await?;
    assert!(!changes.is_empty());
    let missing: Vec<_> = changes
        .iter()
        .filter(|change| !told.contains(*change))
        .take(10)
        .collect();
    assert!(missing.is_empty(), "not published: {missing:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_at_any_moment_lose_no_change() -> Result<(), Failure> {
    let mut fixture = Fixture::new().await?;
    let topic = fixture.topic.clone();
    fixture.broker.create_topic(&topic, 3, &[]).await?;
    let mut client = fixture.client().await?;
    rows(&client, "CREATE TABLE t (id bigint PRIMARY KEY, n bigint)").await?;
    rows(
        &client,
        "INSERT INTO t SELECT n, -n FROM generate_series(1, 5000) AS n",
    )
    .await?;
    let first = value(&client, "SELECT max(version) + 1 FROM system.table_history").await?;
    rows(
        &client,
        &format!(
            "CREATE PIPELINE p FROM TABLE t INTO KAFKA events TOPIC '{topic}' WITH (target_lag = '50 ms')"
        ),
    )
    .await?;
    // It tells of changes from where it began.
    wait_for(&client, "SELECT count(*) FROM system.pipeline_lag", "1").await?;
    let kills: usize =
        std::env::var("BOATHOUSE_TEST_KILLS").map_or(Ok(5), |kills| kills.parse())?;
    let mut number = 0;
    for _ in 0..kills {
        let until = Instant::now() + Duration::from_millis(rand::random_range(200..3000));
        while Instant::now() < until {
            number += 1;
            let id = rand::random_range(1..200);
            let sql = match number % 4 {
                0 => format!("DELETE FROM t WHERE id BETWEEN {id} AND {id} + 3"),
                1 => format!("UPDATE t SET n = {number} WHERE id BETWEEN {id} AND {id} + 20"),
                2 => format!(
                    "INSERT INTO t VALUES ({id}, {number}) ON CONFLICT (id) DO UPDATE SET n = excluded.n"
                ),
                _ => format!("INSERT INTO t VALUES ({}, {number})", 10_000 + number),
            };
            rows(&client, &sql).await?;
        }
        client = fixture.restart(None).await?;
    }
    rows(&client, "RUN PIPELINE p").await?;
    hold_against(&fixture, &client, 3, &first).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_between_brokers_and_catalog_repeats_messages() -> Result<(), Failure> {
    let mut fixture = Fixture::new().await?;
    let topic = fixture.topic.clone();
    fixture.broker.create_topic(&topic, 1, &[]).await?;
    let client = fixture.client().await?;
    rows(
        &client,
        "CREATE TABLE t (id bigint PRIMARY KEY, n bigint); INSERT INTO t VALUES (1, 1), (2, 2)",
    )
    .await?;
    let first = value(&client, "SELECT max(version) + 1 FROM system.table_history").await?;
    rows(
        &client,
        &format!(
            "CREATE PIPELINE p FROM TABLE t INTO KAFKA events TOPIC '{topic}' SCHEDULE ON DEMAND"
        ),
    )
    .await?;
    // While the rows of the beginning are sent, and a row goes before they are sent again.
    let client = fixture.restart(Some("publish_acknowledged")).await?;
    assert!(client.simple_query("RUN PIPELINE p").await.is_err());
    fixture.server.wait()?;
    assert_eq!(fixture.received(1)?.len(), 2);
    let client = fixture.start(Some("publish_prepared:3")).await?;
    rows(&client, "DELETE FROM t WHERE id = 1").await?;
    rows(&client, "RUN PIPELINE p").await?;
    assert_eq!(fixture.received(1)?.len(), 5);
    rows(&client, "UPDATE t SET n = 3").await?;
    assert!(client.simple_query("RUN PIPELINE p").await.is_err());
    fixture.server.wait()?;
    let client = fixture.start(None).await?;
    rows(&client, "RUN PIPELINE p").await?;
    assert_eq!(
        told(&fixture.received(1)?)[4..],
        [
            "delete 1 -",
            "update 2 {\"id\":2,\"n\":3}",
            "update 2 {\"id\":2,\"n\":3}"
        ]
    );
    hold_against(&fixture, &client, 1, &first).await
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_that_are_gone_stop_the_pipeline_and_are_named() -> Result<(), Failure> {
    let fixture = Fixture::new().await?;
    let (topic, client) = (&fixture.topic, fixture.client().await?);
    fixture.broker.create_topic(topic, 1, &[]).await?;
    rows(
        &client,
        "CREATE TABLE t (id bigint PRIMARY KEY, n bigint) WITH (\"delta.checkpointInterval\" = 2); \
         INSERT INTO t VALUES (1, 1)",
    )
    .await?;
    rows(
        &client,
        &format!(
            "CREATE PIPELINE p FROM TABLE t INTO KAFKA events TOPIC '{topic}' SCHEDULE ON DEMAND"
        ),
    )
    .await?;
    rows(&client, "RUN PIPELINE p").await?;
    let published: i64 = value(&client, "SELECT position FROM system.pipeline_lag")
        .await?
        .parse()?;
    rows(&client, "INSERT INTO t VALUES (2, 2)").await?;
    let file = value(&client, "SELECT _file FROM table_rows('t') WHERE id = 2").await?;
    rows(&client, "DELETE FROM t").await?;
    rows(&client, "INSERT INTO t VALUES (3, 3)").await?;
    rows(&client, "OPTIMIZE t").await?;
    let newest = value(&client, "SELECT max(version) FROM system.table_history").await?;
    // VACUUM deletes such a file when its time has come.
    let files = walk(&fixture.lake)?;
    let deleted = files.iter().find(|path| path.ends_with(&file));
    std::fs::remove_file(deleted.ok_or("there is no such file")?)?;
    let found = failure(&client, "RUN PIPELINE p").await;
    assert!(
        found.starts_with(&format!(
            "55000: versions {} to {newest} of table \"public.t\" were not published and can no longer be read: \
             data files of them were deleted / RUN PIPELINE p FULL REFRESH",
            published + 1
        )),
        "{found}"
    );
    // What is before a checkpoint is cleaned out of the log.
    for version in 0..=published + 1 {
        let entry = format!("t/_delta_log/{version:020}.json");
        let entry = files.iter().find(|path| path.ends_with(&entry));
        std::fs::remove_file(entry.ok_or("the log has no such entry")?)?;
    }
    let found = failure(&client, "RUN PIPELINE p").await;
    assert!(
        found.contains(&format!("the log no longer has version {}", published + 1)),
        "{found}"
    );
    assert_eq!(fixture.received(1)?.len(), 1);
    rows(&client, "RUN PIPELINE p FULL REFRESH").await?;
    rows(&client, "INSERT INTO t VALUES (4, 4)").await?;
    rows(&client, "RUN PIPELINE p").await?;
    assert_eq!(
        told(&fixture.received(1)?)[1..],
        [
            "snapshot 3 {\"id\":3,\"n\":3}",
            "insert 4 {\"id\":4,\"n\":4}"
        ]
    );
    Ok(())
}

/// All files below a folder.
fn walk(folder: &std::path::Path) -> Result<Vec<PathBuf>, Failure> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        match path.is_dir() {
            true => found.extend(walk(&path)?),
            false => found.push(path),
        }
    }
    Ok(found)
}

#[tokio::test(flavor = "multi_thread")]
async fn another_table_of_the_name_is_not_taken_for_the_one_there_was() -> Result<(), Failure> {
    let fixture = Fixture::new().await?;
    let (topic, client) = (&fixture.topic, fixture.client().await?);
    fixture.broker.create_topic(topic, 1, &[]).await?;
    rows(&client, "CREATE TABLE t (a bigint NOT NULL)").await?;
    rows(
        &client,
        &format!(
            "CREATE PIPELINE p FROM TABLE t INTO KAFKA events TOPIC '{topic}' KEY (a) SCHEDULE ON DEMAND"
        ),
    )
    .await?;
    rows(&client, "RUN PIPELINE p").await?;
    rows(
        &client,
        "DROP TABLE t; CREATE TABLE t (a bigint); INSERT INTO t VALUES (1), (NULL)",
    )
    .await?;
    let found = failure(&client, "RUN PIPELINE p").await;
    assert!(
        found.starts_with(
            "55000: table \"public.t\" is another one than the one that was published"
        ),
        "{found}"
    );
    let found = failure(&client, "RUN PIPELINE p FULL REFRESH").await;
    assert!(
        found.starts_with("23502: column \"a\" of KEY is NULL in a row of version"),
        "{found}"
    );
    rows(&client, "DELETE FROM t WHERE a IS NULL").await?;
    rows(&client, "RUN PIPELINE p FULL REFRESH").await?;
    assert!(told(&fixture.received(1)?).contains(&"snapshot 1 {\"a\":1}".to_owned()));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn brokers_that_are_away_are_waited_for() -> Result<(), Failure> {
    let mut fixture = Fixture::with(Broker::own(&[]).await?).await?;
    let topic = fixture.topic.clone();
    fixture.broker.create_topic(&topic, 1, &[]).await?;
    let client = fixture.client().await?;
    rows(
        &client,
        "CREATE TABLE t (id bigint PRIMARY KEY, n bigint); INSERT INTO t VALUES (1, 1)",
    )
    .await?;
    let first = value(&client, "SELECT max(version) FROM system.table_history").await?;
    rows(
        &client,
        &format!(
            "CREATE PIPELINE p FROM TABLE t INTO KAFKA events TOPIC '{topic}' WITH (delivery_timeout = '3 s')"
        ),
    )
    .await?;
    let begun = Instant::now();
    while fixture.received(1)?.is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(20), "nothing came");
    }
    fixture.broker.kill()?;
    rows(&client, "UPDATE t SET n = 2").await?;
    wait_for(
        &client,
        "SELECT count(*) > 0 FROM system.pipeline_errors WHERE severity = 'warning'",
        "t",
    )
    .await?;
    fixture.broker.start().await?;
    let begun = Instant::now();
    while fixture.received(1)?.len() < 2 {
        assert!(begun.elapsed() < Duration::from_secs(60), "nothing came");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    rows(&client, "RUN PIPELINE p").await?;
    hold_against(&fixture, &client, 1, &first).await
}

/// A message as it was, and what is told of it.
fn letter(message: &Received) -> String {
    let headers: Vec<String> = message
        .headers
        .iter()
        .map(|(name, value)| format!("{}={value}", name.trim_start_matches("boathouse-")))
        .collect();
    format!(
        "{} | {} | {}",
        message.key.as_deref().unwrap_or("-"),
        message.payload.as_deref().unwrap_or("-"),
        headers.join(" ")
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_are_set_aside_go_to_a_topic_too() -> Result<(), Failure> {
    let mut fixture = Fixture::new().await?;
    let topic = fixture.topic.clone();
    let letters = format!("{topic}-letters");
    fixture.broker.create_topic(&topic, 1, &[]).await?;
    fixture.broker.create_topic(&letters, 1, &[]).await?;
    let client = fixture.client().await?;
    rows(
        &client,
        &format!(
            "CREATE PIPELINE p FROM KAFKA events TOPICS ('{topic}') FORMAT JSON COLUMNS (id bigint, qty integer) INTO t \
             EXPECT positive CHECK (qty > 0) ON VIOLATION QUARANTINE ON ERROR DEAD LETTER SCHEDULE ON DEMAND \
             WITH (dead_letter_topic = '{letters}')"
        ),
    )
    .await?;
    let headers: &[(&str, &[u8])] = &[
        ("trace", b"x y"),
        ("raw", b"\xff\x00"),
        ("raw", b"\\x41"),
        ("empty", b""),
    ];
    let bad = Sent {
        headers,
        ..Sent::new(b"\xfe{").keyed(b"\xff")
    };
    fixture.broker.produce(
        &topic,
        [
            Sent::new(br#"{"id":1,"qty":1}"#),
            bad,
            Sent::new(br#"{"id":2,"qty":-1}"#).keyed(b"k"),
            Sent::new(br#"{"id":3,"qty":3}"#),
        ],
    )?;
    let client = {
        drop(client);
        // What was sent is sent again when the commit did not take place.
        let client = fixture.restart(Some("kafka_letters_sent")).await?;
        assert!(client.simple_query("RUN PIPELINE p").await.is_err());
        fixture.server.wait()?;
        assert_eq!(fixture.broker.receive(&letters, 1)?.len(), 2);
        fixture.start(None).await?
    };
    rows(&client, "RUN PIPELINE p").await?;
    let found = rows(&client, "SELECT id, qty FROM t ORDER BY id").await?;
    assert_eq!(found, ["1|1", "3|3"]);
    let aside =
        "SELECT message_offset, sqlstate, reason FROM system.quarantine ORDER BY message_offset";
    let aside = rows(&client, aside).await?;
    let reasons: Vec<&str> = aside
        .iter()
        .filter_map(|row| row.splitn(3, '|').nth(2))
        .collect();
    let found = fixture.broker.receive(&letters, 1)?;
    let found: Vec<String> = found.iter().map(letter).collect();
    assert_eq!(found[..2], found[2..]);
    assert_eq!(
        found[..2],
        [
            format!(
                "\\xff | \\xfe7b | trace=x y raw=\\xff00 raw=\\x41 empty= pipeline=p topic={topic} partition=0 offset=1 \
                 sqlstate=22021 error={}",
                reasons[0]
            ),
            format!(
                "k | {{\"id\":2,\"qty\":-1}} | pipeline=p topic={topic} partition=0 offset=2 sqlstate=23514 error={} \
                 rule=positive",
                reasons[1]
            ),
        ]
    );
    // Without anything bad nothing is sent.
    fixture
        .broker
        .produce(&topic, [Sent::new(br#"{"id":4,"qty":4}"#)])?;
    rows(&client, "RUN PIPELINE p").await?;
    assert_eq!(fixture.broker.receive(&letters, 1)?.len(), 4);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_for_dead_letters_must_make_sense() -> Result<(), Failure> {
    let fixture = Fixture::new().await?;
    let (topic, client) = (&fixture.topic, fixture.client().await?);
    fixture.broker.create_topic(topic, 1, &[]).await?;
    let create = |on_error: &str, letters: &str| {
        format!(
            "CREATE PIPELINE p FROM KAFKA events TOPICS ('{topic}.*') FORMAT JSON INTO t {on_error} SCHEDULE ON DEMAND \
             WITH (dead_letter_topic = '{letters}')"
        )
    };
    let found = failure(&client, &create("", &format!("{topic}-letters"))).await;
    assert_eq!(
        found.replace(topic, "TOPIC"),
        "22023: the pipeline would read its own dead letters from topic \"TOPIC-letters\" / leave the topic out with \
         EXCEPT, or name another one"
    );
    let found = failure(&client, &create("ON ERROR STOP", "other")).await;
    assert!(
        found.starts_with("22023: option \"dead_letter_topic\" needs"),
        "{found}"
    );
    // One that is missing is told before anything is read.
    rows(&client, &create("", &format!("not-{topic}"))).await?;
    fixture.broker.produce(topic, [Sent::new(b"{")])?;
    let found = failure(&client, "RUN PIPELINE p").await;
    assert!(
        found.starts_with(&format!("42704: topic \"not-{topic}\" does not exist")),
        "{found}"
    );
    assert_eq!(
        value(&client, "SELECT count(*) FROM system.quarantine").await?,
        "0"
    );
    Ok(())
}

fn signal(server: &Server, name: &str) -> Result<(), Failure> {
    let sent = std::process::Command::new("kill")
        .arg(format!("-{name}"))
        .arg(server.process_id().to_string())
        .status()?;
    assert!(sent.success());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_wakes_up_late_sends_nothing_old() -> Result<(), Failure> {
    let broker = Broker::shared()?;
    let topic = format!("t{}", uuid::Uuid::new_v4().simple());
    broker.create_topic(&topic, 1, &[]).await?;
    let url = service::postgres()?;
    let (postgres, connection) = tokio_postgres::connect(&url, NoTls).await?;
    tokio::spawn(connection);
    let name = format!("publishers_{}", uuid::Uuid::new_v4().simple());
    postgres
        .batch_execute(&format!("CREATE DATABASE {name}"))
        .await?;
    let (base, _) = url.rsplit_once('/').ok_or("the URL has no database")?;
    let (folder, lake) = lake_folder()?;
    let key = folder.path().join("master.key");
    let options = |log: &str| ServerOptions {
        log: Some(folder.path().join(log)),
        environment: vec![
            ("BOATHOUSE_CATALOG".to_owned(), format!("{base}/{name}")),
            (
                "BOATHOUSE_MASTER_KEY_FILE".to_owned(),
                key.display().to_string(),
            ),
        ],
        ..ServerOptions::default()
    };
    let first = Server::start_with(&lake, options("first.log")).await?;
    let client = first.connect().await?;
    rows(&client, &broker.create_connection("events")).await?;
    rows(
        &client,
        "CREATE TABLE t (id bigint PRIMARY KEY, n bigint); \
         INSERT INTO t SELECT n, 0 FROM generate_series(1, 150000) AS n",
    )
    .await?;
    rows(
        &client,
        &format!("CREATE PIPELINE p FROM TABLE t INTO KAFKA events TOPIC '{topic}' WITH (start = 'latest')"),
    )
    .await?;
    wait_for(
        &client,
        "SELECT count(*) FROM system.pipeline_lag WHERE seconds_behind = 0",
        "1",
    )
    .await?;
    let begins = value(
        &client,
        "SELECT position::bigint + 1 FROM system.pipeline_lag",
    )
    .await?;
    let second = Server::start_with(&lake, options("second.log")).await?;
    let other = second.connect().await?;
    rows(&other, "UPDATE t SET n = 1").await?;
    let begun = Instant::now();
    while broker.ends(&topic, 1)? == [(0, 0)] {
        assert!(begun.elapsed() < Duration::from_secs(60), "nothing is sent");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    signal(&first, "STOP")?;
    let stopped_at = broker.ends(&topic, 1)?[0].1;
    assert!(stopped_at < 150_000, "everything was sent already");
    rows(&other, "UPDATE t SET n = 2 WHERE id % 2 = 0").await?;
    rows(&other, "DELETE FROM t WHERE id % 3 = 0").await?;
    // The other takes over when the lease has ended, and publishes it all.
    let begun = Instant::now();
    while broker.ends(&topic, 1)?[0].1 < stopped_at + 275_000 {
        assert!(
            begun.elapsed() < Duration::from_secs(150),
            "{:?} of it came",
            broker.ends(&topic, 1)?
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    signal(&first, "CONT")?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let found = broker.receive(&topic, 1)?;
    hold_messages_against(&found, &other, &begins).await
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_are_written_anew_tell_only_what_changed() -> Result<(), Failure> {
    let fixture = Fixture::new().await?;
    let (topic, client) = (&fixture.topic, fixture.client().await?);
    fixture.broker.create_topic(topic, 1, &[]).await?;
    // No primary key, and no deletion vectors: an update writes the file anew.
    rows(
        &client,
        "CREATE TABLE t (id bigint, doc jsonb) WITH (\"delta.enableDeletionVectors\" = false); \
         INSERT INTO t VALUES (1, '{\"a\": 1}'), (2, '{\"a\": 2}'), (3, NULL)",
    )
    .await?;
    rows(
        &client,
        &format!(
            "CREATE PIPELINE p FROM TABLE t INTO KAFKA events TOPIC '{topic}' KEY (id) SCHEDULE ON DEMAND \
             WITH (start = 'latest')"
        ),
    )
    .await?;
    rows(&client, "RUN PIPELINE p").await?;
    rows(&client, "UPDATE t SET doc = '{\"a\": 3}' WHERE id = 2").await?;
    rows(&client, "DELETE FROM t WHERE id = 3").await?;
    rows(&client, "INSERT INTO t VALUES (4, '[]')").await?;
    rows(&client, "OPTIMIZE t").await?;
    rows(&client, "RUN PIPELINE p").await?;
    assert_eq!(
        told(&fixture.received(1)?),
        [
            "update 2 {\"id\":2,\"doc\":{\"a\": 3}}",
            "delete 3 -",
            "insert 4 {\"id\":4,\"doc\":[]}",
        ]
    );
    // TRUNCATE is a delete of every row.
    rows(&client, "TRUNCATE t").await?;
    rows(&client, "RUN PIPELINE p").await?;
    let mut found = told(&fixture.received(1)?).split_off(3);
    found.sort();
    assert_eq!(found, ["delete 1 -", "delete 2 -", "delete 4 -"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn another_topic_begins_anew_and_another_query_does_not() -> Result<(), Failure> {
    let fixture = Fixture::new().await?;
    let (topic, client) = (&fixture.topic, fixture.client().await?);
    let other = format!("{topic}-other");
    fixture.broker.create_topic(topic, 1, &[]).await?;
    fixture.broker.create_topic(&other, 1, &[]).await?;
    rows(
        &client,
        "CREATE TABLE t (id bigint PRIMARY KEY); INSERT INTO t VALUES (1)",
    )
    .await?;
    let create = |topic: &str, query: &str| {
        format!(
            "CREATE OR REPLACE PIPELINE p FROM TABLE t INTO KAFKA events TOPIC '{topic}' {query} SCHEDULE ON DEMAND"
        )
    };
    rows(&client, &create(topic, "")).await?;
    rows(&client, "RUN PIPELINE p").await?;
    rows(
        &client,
        &create(topic, "AS SELECT id, 'x' AS x FROM source"),
    )
    .await?;
    rows(&client, "INSERT INTO t VALUES (2)").await?;
    rows(&client, "RUN PIPELINE p").await?;
    assert_eq!(
        told(&fixture.received(1)?),
        ["snapshot 1 {\"id\":1}", "insert 2 {\"id\":2,\"x\":\"x\"}"]
    );
    rows(&client, &create(&other, "")).await?;
    rows(&client, "RUN PIPELINE p").await?;
    let mut found = told(&fixture.broker.receive(&other, 1)?);
    found.sort();
    assert_eq!(found, ["snapshot 1 {\"id\":1}", "snapshot 2 {\"id\":2}"]);
    Ok(())
}
