//! `CREATE PIPELINE ... FROM KAFKA` against a real broker: whatever comes in messages and whoever is killed, every
//! committed message is exactly once in its table or in quarantine.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use boathouse_tests::kafka::{Broker, Sent};
use boathouse_tests::{
    Failure, Server, ServerOptions, explain, lake_folder, rows, value, wait_for,
};
use tempfile::TempDir;
use tokio_postgres::Client;

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
}

async fn failure(client: &Client, sql: &str) -> String {
    match client.simple_query(sql).await {
        Ok(_) => "it went well".to_owned(),
        Err(error) => explain(error).to_string(),
    }
}

fn json(numbers: std::ops::Range<usize>) -> Vec<String> {
    numbers
        .map(|number| format!("{{\"id\":{number},\"name\":\"n{number}\",\"price\":{number}.5}}"))
        .collect()
}

fn sent(payloads: &[String]) -> impl Iterator<Item = Sent<'_>> {
    payloads.iter().map(|payload| Sent::new(payload.as_bytes()))
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_become_rows_and_what_is_included_stands_beside_them() -> Result<(), Failure> {
    let fixture = Fixture::new().await?;
    let (topic, client) = (&fixture.topic, fixture.client().await?);
    fixture.broker.create_topic(topic, 2, &[]).await?;
    let headers: &[(&str, &[u8])] = &[("trace", b"x1"), ("raw", b"\xff")];
    let first = Sent {
        headers,
        timestamp: Some(1_700_000_000_000),
        ..Sent::new(br#"{"id":1,"tags":["a"],"nested":{"b":1}}"#)
    };
    fixture.broker.produce(
        topic,
        [
            first.to(0).keyed(b"k1"),
            Sent::new(br#"{"id":2}"#).to(1),
            Sent::default().to(1).keyed(b"gone"),
        ],
    )?;
    rows(
        &client,
        &format!(
            "CREATE PIPELINE p FROM KAFKA events TOPICS ('{topic}') FORMAT JSON \
             INCLUDE (key, topic, partition, offset, timestamp, headers) INTO t SCHEDULE ON DEMAND"
        ),
    )
    .await?;
    rows(&client, "RUN PIPELINE p").await?;
    let found = rows(
        &client,
        "SELECT id, tags, nested, _rescued, _key, _partition, _offset, _headers->>'trace', _headers->>'raw' \
         FROM t ORDER BY _partition, _offset",
    )
    .await?;
    assert_eq!(
        found,
        [
            "1|[\"a\"]|{\"b\":1}|∅|k1|0|0|x1|\\xff",
            "2|∅|∅|∅|∅|1|0|∅|∅",
            "∅|∅|∅|∅|gone|1|1|∅|∅",
        ]
    );
    let timed = value(
        &client,
        &format!(
            "SELECT _timestamp = '2023-11-14 22:13:20+00', _topic = '{topic}' FROM t WHERE id = 1"
        ),
    )
    .await?;
    assert_eq!(timed, "t|t");
    // A second run finds nothing new.
    rows(&client, "RUN PIPELINE p").await?;
    assert_eq!(value(&client, "SELECT count(*) FROM t").await?, "3");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_header_of_a_message_is_a_column() -> Result<(), Failure> {
    let fixture = Fixture::new().await?;
    let (topic, client) = (&fixture.topic, fixture.client().await?);
    fixture.broker.create_topic(topic, 1, &[]).await?;
    let headers: [&[(&str, &[u8])]; 4] = [
        &[("trace-id", b"x1"), ("other", b"y")],
        &[("trace-id", b"x1"), ("trace-id", b"x2")],
        &[("trace-id", b"\xff\x01"), ("Trace-Id", b"another")],
        &[],
    ];
    let payloads = [
        r#"{"id":0}"#,
        r#"{"id":1,"trace":"its own"}"#,
        r#"{"id":2}"#,
        r#"{"id":3}"#,
    ];
    let messages = payloads.iter().zip(headers).map(|(payload, headers)| Sent {
        headers,
        ..Sent::new(payload.as_bytes())
    });
    fixture.broker.produce(topic, messages)?;
    let statement = format!(
        "CREATE PIPELINE p FROM KAFKA events TOPICS ('{topic}') FORMAT JSON \
         INCLUDE (header 'trace-id' AS trace, offset, header 'Trace-Id' AS \"By Case\") INTO t SCHEDULE ON DEMAND"
    );
    rows(&client, &statement).await?;
    rows(&client, "RUN PIPELINE p").await?;
    let expected = [
        "0|x1|∅|0|∅",
        r#"1|x2|∅|1|{"trace":"its own"}"#,
        r"2|\xff01|another|2|∅",
        "3|∅|∅|3|∅",
    ];
    let sql = "SELECT id, trace, \"By Case\", _offset, _rescued FROM t ORDER BY id";
    assert_eq!(rows(&client, sql).await?, expected);
    // What is shown makes the same again.
    let shown = value(&client, "SHOW CREATE PIPELINE p").await?;
    assert!(
        shown.contains(
            r#"INCLUDE (header 'trace-id' AS trace, "offset", header 'Trace-Id' AS "By Case")"#
        ) || shown.contains(
            r#"INCLUDE (header 'trace-id' AS trace, offset, header 'Trace-Id' AS "By Case")"#
        ),
        "{shown}"
    );
    rows(&client, "DROP PIPELINE p; DROP TABLE t").await?;
    rows(&client, &shown).await?;
    rows(&client, "RUN PIPELINE p").await?;
    assert_eq!(rows(&client, sql).await?, expected);

    // It may name tables, and be asked by the query.
    rows(&client, "CREATE SCHEMA traces").await?;
    let by = format!(
        "CREATE PIPELINE by_trace FROM KAFKA events TOPICS ('{topic}') FORMAT JSON COLUMNS (id bigint) \
         INCLUDE (header 'trace-id' AS kind) INTO SCHEMA traces BY kind \
         AS SELECT id, kind FROM source WHERE kind LIKE 'x_' SCHEDULE ON DEMAND"
    );
    rows(&client, &by).await?;
    rows(&client, "RUN PIPELINE by_trace").await?;
    let sql = "SELECT id, kind FROM traces.x1 UNION ALL SELECT id, kind FROM traces.x2 ORDER BY id";
    assert_eq!(rows(&client, sql).await?, ["0|x1", "1|x2"]);

    let with = |columns: &str, include: &str| {
        format!(
            "CREATE PIPELINE q FROM KAFKA events TOPICS ('{topic}') FORMAT JSON {columns} INCLUDE ({include}) INTO q"
        )
    };
    for (sql, expected) in [
        (
            with("COLUMNS (id bigint, t text)", "header 'x' AS t"),
            "42701: column \"t\" of INCLUDE is there already / give it another name: header 'name' AS column",
        ),
        (
            with("", "header 'x' AS t, header 'y' AS t"),
            "42701: column \"t\" of INCLUDE is there already / give it another name: header 'name' AS column",
        ),
        (
            with("", "header 'x' AS _rescued"),
            "42701: column \"_rescued\" of INCLUDE is there already / give it another name: header 'name' AS column",
        ),
    ] {
        assert_eq!(failure(&client, &sql).await, expected, "{sql}");
    }
    let lacks_as = failure(&client, &with("", "header 'x'")).await;
    assert!(lacks_as.starts_with("42601: syntax error"), "{lacks_as}");
    Ok(())
}

/// A column of messages may be called as what we call columns of our own among themselves.
/// As Debezium's event router writes them. What it sends again is there once.
#[tokio::test(flavor = "multi_thread")]
async fn events_of_an_outbox_are_told_apart_by_a_header() -> Result<(), Failure> {
    let fixture = Fixture::new().await?;
    let (topic, client) = (&fixture.topic, fixture.client().await?);
    fixture.broker.create_topic(topic, 1, &[]).await?;
    let headers: [&[(&str, &[u8])]; 3] = [&[("id", b"e1")], &[("id", b"e2")], &[("id", b"e1")]];
    let messages = ["{\"total\":1}", "{\"total\":2}", "{\"total\":1}"];
    let messages = messages.iter().zip(headers).map(|(payload, headers)| Sent {
        headers,
        ..Sent::new(payload.as_bytes()).keyed(b"7")
    });
    fixture.broker.produce(topic, messages)?;
    let statement = format!(
        "CREATE PIPELINE p FROM KAFKA events TOPICS ('{topic}') FORMAT JSON COLUMNS (total bigint) \
         INCLUDE (key, offset, header 'id' AS event_id) INTO t KEY (event_id) SCHEDULE ON DEMAND"
    );
    rows(&client, &statement).await?;
    rows(&client, "RUN PIPELINE p").await?;
    let all = "SELECT event_id, _key, total, _offset FROM t ORDER BY event_id";
    assert_eq!(rows(&client, all).await?, ["e1|7|1|2", "e2|7|2|1"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_messages_may_be_called_goes() -> Result<(), Failure> {
    let fixture = Fixture::new().await?;
    let (topic, client) = (&fixture.topic, fixture.client().await?);
    fixture.broker.create_topic(topic, 1, &[]).await?;
    let payloads = [
        r#"{"id":1,"goes":true}"#.to_owned(),
        r#"{"id":2,"goes":false}"#.to_owned(),
    ];
    fixture.broker.produce(topic, sent(&payloads))?;
    let sql = format!(
        "CREATE PIPELINE p FROM KAFKA events TOPICS ('{topic}') FORMAT JSON INTO t KEY (id) SCHEDULE ON DEMAND"
    );
    rows(&client, &sql).await?;
    rows(&client, "RUN PIPELINE p").await?;
    let found = rows(&client, "SELECT id, goes FROM t ORDER BY id").await?;
    assert_eq!(found, ["1|t", "2|f"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_is_set_aside_and_nothing_else_is() -> Result<(), Failure> {
    let fixture = Fixture::new().await?;
    let (topic, client) = (&fixture.topic, fixture.client().await?);
    fixture.broker.create_topic(topic, 1, &[]).await?;
    fixture
        .broker
        .produce(topic, [Sent::new(b"{oops").keyed(b"k")])?;
    fixture
        .broker
        .produce(topic, [Sent::new(br#"{"id":1,"qty":2}"#)])?;
    let bad = |topic: &str| {
        fixture.broker.produce(
            topic,
            [
                Sent::new(b"\xff\xfe"),
                Sent::new(br#"{"id":2,"qty":"many"}"#),
                Sent::new(br#"{"id":3,"qty":-1}"#),
                Sent::new(br#"[1]"#),
                Sent::new(br#"{"id":4,"qty":9,"note":"new"}"#),
            ],
        )
    };
    rows(
        &client,
        &format!(
            "CREATE PIPELINE p FROM KAFKA events TOPICS ('{topic}') FORMAT JSON INTO t \
             EXPECT positive CHECK (qty > 0) ON VIOLATION QUARANTINE SCHEDULE ON DEMAND"
        ),
    )
    .await?;
    // What comes first tells the types of columns.
    rows(&client, "RUN PIPELINE p").await?;
    bad(topic)?;
    rows(&client, "RUN PIPELINE p").await?;
    let found = rows(&client, "SELECT id, qty, note, _rescued FROM t ORDER BY id").await?;
    assert_eq!(found, ["1|2|∅|∅", "2|∅|∅|{\"qty\":\"many\"}", "4|9|new|∅"]);
    let aside = rows(
        &client,
        "SELECT partition_number, message_offset, message_key, sqlstate, rule, payload FROM system.quarantine \
         ORDER BY message_offset",
    )
    .await?;
    assert_eq!(
        aside,
        [
            "0|0|\\x6b|22P02|∅|\\x7b6f6f7073",
            "0|2|∅|22021|∅|\\xfffe",
            "0|4|∅|23514|positive|\\x7b226964223a332c22717479223a2d317d",
            "0|5|∅|22P02|∅|\\x5b315d",
        ]
    );
    let counted = value(
        &client,
        "SELECT sum(rows_in), sum(rows_out), sum(rows_quarantined) FROM system.pipeline_runs",
    )
    .await?;
    assert_eq!(counted, "7|3|4");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_without_a_schedule_goes_on_by_itself() -> Result<(), Failure> {
    let fixture = Fixture::new().await?;
    let (topic, client) = (&fixture.topic, fixture.client().await?);
    fixture.broker.create_topic(topic, 2, &[]).await?;
    fixture.broker.produce(topic, sent(&json(0..10)))?;
    rows(
        &client,
        &format!(
            "CREATE PIPELINE p FROM KAFKA events TOPICS ('{topic}', '{topic}-.*') FORMAT JSON INTO t \
             AS SELECT id, price * 2 AS double FROM source WHERE id <> 3 \
             WITH (target_lag = '200 ms', discover = '500 ms')"
        ),
    )
    .await?;
    wait_for(&client, "SELECT count(*), sum(double) FROM t", "9|93").await?;
    fixture.broker.produce(topic, sent(&json(10..12)))?;
    wait_for(&client, "SELECT count(*) FROM t", "11").await?;
    // Partitions and topics that come later are read from their beginning.
    fixture.broker.add_partitions(topic, 3).await?;
    let more = json(12..14);
    fixture
        .broker
        .produce(topic, sent(&more).map(|one| one.to(2)))?;
    fixture
        .broker
        .create_topic(&format!("{topic}-b"), 1, &[])
        .await?;
    fixture
        .broker
        .produce(&format!("{topic}-b"), sent(&json(14..15)))?;
    wait_for(&client, "SELECT count(*), max(id) FROM t", "14|14").await?;
    wait_for(
        &client,
        "SELECT sum(messages_behind), max(seconds_behind), count(*) FROM system.pipeline_lag",
        "0|0|4",
    )
    .await?;
    rows(&client, "ALTER PIPELINE p PAUSE").await?;
    wait_for(
        &client,
        "SELECT DISTINCT state FROM system.pipeline_runs",
        "succeeded",
    )
    .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_aborted_transactions_never_appear() -> Result<(), Failure> {
    let fixture = Fixture::new().await?;
    let (topic, client) = (&fixture.topic, fixture.client().await?);
    fixture.broker.create_topic(topic, 1, &[]).await?;
    let all = json(0..30);
    fixture
        .broker
        .produce_transaction(topic, sent(&all[0..10]), true)?;
    fixture
        .broker
        .produce_transaction(topic, sent(&all[10..20]), false)?;
    fixture
        .broker
        .produce_transaction(topic, sent(&all[20..30]), true)?;
    fixture
        .broker
        .produce_transaction(topic, sent(&all[0..5]), false)?;
    rows(
        &client,
        &format!(
            "CREATE PIPELINE p FROM KAFKA events TOPICS ('{topic}') FORMAT JSON INTO t SCHEDULE ON DEMAND"
        ),
    )
    .await?;
    // The last of the partition is an aborted transaction: a run ends all the same.
    rows(&client, "RUN PIPELINE p").await?;
    let found = value(&client, "SELECT count(*), min(id), max(id), sum(id) FROM t").await?;
    let sum: usize = (0..10).chain(20..30).sum();
    assert_eq!(found, format!("20|0|29|{sum}"));
    assert_eq!(fixture.broker.consume(topic, 1)?.len(), 20);
    rows(&client, "RUN PIPELINE p").await?;
    assert_eq!(value(&client, "SELECT count(*) FROM t").await?, "20");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_messages_stop_a_pipeline_and_are_named() -> Result<(), Failure> {
    let fixture = Fixture::new().await?;
    let (topic, client) = (&fixture.topic, fixture.client().await?);
    fixture.broker.create_topic(topic, 1, &[]).await?;
    fixture.broker.produce(topic, sent(&json(0..10)))?;
    rows(
        &client,
        &format!(
            "CREATE PIPELINE p FROM KAFKA events TOPICS ('{topic}') FORMAT JSON INTO t SCHEDULE ON DEMAND"
        ),
    )
    .await?;
    rows(&client, "RUN PIPELINE p").await?;
    fixture.broker.produce(topic, sent(&json(10..20)))?;
    fixture.broker.delete_below(topic, 0, 15).await?;
    let error = failure(&client, "RUN PIPELINE p").await;
    assert!(
        error.contains(&format!(
            "55000: partition {topic}/0 no longer has offsets 10 to 14, which were not read"
        )),
        "{error}"
    );
    assert!(
        error.contains("ALTER PIPELINE p SET (lost_offsets = 'skip')"),
        "{error}"
    );
    assert_eq!(value(&client, "SELECT count(*) FROM t").await?, "10");
    rows(&client, "ALTER PIPELINE p SET (lost_offsets = 'skip')").await?;
    rows(&client, "RUN PIPELINE p").await?;
    assert_eq!(
        value(&client, "SELECT count(*), max(id) FROM t").await?,
        "15|19"
    );
    let told = value(
        &client,
        "SELECT count(*) FROM system.pipeline_errors WHERE message LIKE '%offsets 10 to 14%'",
    )
    .await?;
    assert_eq!(told, "1");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_was_made_again_is_noticed() -> Result<(), Failure> {
    let fixture = Fixture::new().await?;
    let (topic, client) = (&fixture.topic, fixture.client().await?);
    fixture.broker.create_topic(topic, 1, &[]).await?;
    fixture.broker.produce(topic, sent(&json(0..10)))?;
    rows(
        &client,
        &format!(
            "CREATE PIPELINE p FROM KAFKA events TOPICS ('{topic}') FORMAT JSON INTO t SCHEDULE ON DEMAND"
        ),
    )
    .await?;
    rows(&client, "RUN PIPELINE p").await?;
    // It has grown beyond what was read of the one before.
    fixture.broker.delete_topic(topic).await?;
    fixture.broker.create_topic(topic, 1, &[]).await?;
    fixture.broker.produce(topic, sent(&json(100..120)))?;
    let error = failure(&client, "RUN PIPELINE p").await;
    assert!(
        error.contains(&format!(
            "the message at offset 9 of partition {topic}/0 is another than the one that was read"
        )),
        "{error}"
    );
    rows(&client, "ALTER PIPELINE p SET (lost_offsets = 'skip')").await?;
    rows(&client, "RUN PIPELINE p").await?;
    assert_eq!(
        value(&client, "SELECT count(*), count(DISTINCT id) FROM t").await?,
        "30|30"
    );
    // It is shorter than what was read.
    rows(&client, "ALTER PIPELINE p SET (lost_offsets = 'stop')").await?;
    fixture.broker.delete_topic(topic).await?;
    fixture.broker.create_topic(topic, 1, &[]).await?;
    fixture.broker.produce(topic, sent(&json(200..203)))?;
    let error = failure(&client, "RUN PIPELINE p").await;
    assert!(
        error.contains("ends at offset 3, before offset 20 that is to be read next"),
        "{error}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn reading_begins_where_the_statement_says() -> Result<(), Failure> {
    let fixture = Fixture::new().await?;
    let (topic, client) = (&fixture.topic, fixture.client().await?);
    fixture.broker.create_topic(topic, 2, &[]).await?;
    let all = json(0..20);
    fixture.broker.produce(
        topic,
        all.iter().enumerate().map(|(number, payload)| Sent {
            timestamp: Some(1_700_000_000_000 + 1000 * number as i64),
            partition: Some(if number < 10 { 0 } else { 1 }),
            ..Sent::new(payload.as_bytes())
        }),
    )?;
    for (name, options, expected) in [
        ("latest", "start = 'latest'", "0|∅"),
        ("time", "start = '2023-11-14 22:13:27+00'", "13|7"),
        (
            "offsets",
            "start = 'latest', start_offsets = '{topic}:0=8'",
            "2|8",
        ),
    ] {
        let options = options.replace("{topic}", topic);
        rows(
            &client,
            &format!(
                "CREATE PIPELINE {name} FROM KAFKA events TOPICS ('{topic}') FORMAT JSON COLUMNS (id bigint) \
                 INTO {name} SCHEDULE ON DEMAND WITH ({options})"
            ),
        )
        .await?;
        rows(&client, &format!("RUN PIPELINE {name}")).await?;
        let found = match rows(&client, &format!("SELECT count(*), min(id) FROM {name}")).await {
            Ok(found) => found.join(";"),
            Err(error) => error.to_string(),
        };
        assert_eq!(found, expected, "{name}");
    }
    // What came after the first run began is not left out, although that run had nothing to commit.
    let more = json(20..21);
    fixture
        .broker
        .produce(topic, sent(&more).map(|one| one.to(0)))?;
    rows(&client, "RUN PIPELINE latest").await?;
    assert_eq!(
        value(&client, "SELECT count(*), min(id) FROM latest").await?,
        "1|20"
    );
    Ok(())
}

/// Kills the server where a failpoint says, starts another, and lets it finish.
async fn survives(failpoint: &str) -> Result<(), Failure> {
    let mut fixture = Fixture::new().await?;
    let topic = fixture.topic.clone();
    fixture.broker.create_topic(&topic, 3, &[]).await?;
    let mut all = json(0..2000);
    for number in (0..2000).step_by(100) {
        all[number] = format!("{{broken {number}");
    }
    {
        let client = fixture.client().await?;
        rows(
            &client,
            &format!(
                "CREATE PIPELINE p FROM KAFKA events TOPICS ('{topic}') FORMAT JSON COLUMNS (id bigint, name text) \
                 INTO t SCHEDULE ON DEMAND WITH (batch_rows = 300)"
            ),
        )
        .await?;
    }
    fixture.broker.produce(&topic, sent(&all))?;
    fixture.server.kill()?;
    let options = ServerOptions {
        environment: vec![("BOATHOUSE_FAILPOINT".to_owned(), failpoint.to_owned())],
        ..ServerOptions::default()
    };
    fixture.server = Server::start_with(&fixture.lake, options).await?;
    let client = fixture.client().await?;
    let died = client.simple_query("RUN PIPELINE p").await.is_err();
    assert!(died, "{failpoint} was not passed");
    fixture.server.wait()?;
    fixture.server = Server::start(&fixture.lake).await?;
    let client = fixture.client().await?;
    rows(&client, "RUN PIPELINE p").await?;
    let found = value(
        &client,
        "SELECT count(*), count(DISTINCT id), sum(id) FROM t",
    )
    .await?;
    let sum: usize = (0..2000).filter(|number| number % 100 != 0).sum();
    assert_eq!(found, format!("1980|1980|{sum}"), "{failpoint}");
    let aside = value(
        &client,
        "SELECT count(*), count(DISTINCT 1000000 * partition_number + message_offset) FROM system.quarantine",
    )
    .await?;
    assert_eq!(aside, "20|20", "{failpoint}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_anywhere_loses_and_doubles_nothing() -> Result<(), Failure> {
    futures::future::try_join_all([
        survives("kafka_written:2"),
        survives("after_prepare:2"),
        survives("before_commit:3"),
        survives("after_commit:3"),
        survives("after_resolve:2"),
    ])
    .await?;
    Ok(())
}

/// Kills at any moment a server that goes on by itself while messages come.
#[tokio::test(flavor = "multi_thread")]
async fn kills_at_any_moment_lose_and_double_nothing() -> Result<(), Failure> {
    let mut fixture = Fixture::new().await?;
    let topic = fixture.topic.clone();
    fixture.broker.create_topic(&topic, 4, &[]).await?;
    {
        let client = fixture.client().await?;
        rows(
            &client,
            &format!(
                "CREATE PIPELINE p FROM KAFKA events TOPICS ('{topic}') FORMAT JSON \
                 INCLUDE (partition, offset) INTO t WITH (target_lag = '50 ms')"
            ),
        )
        .await?;
    }
    let kills: usize =
        std::env::var("BOATHOUSE_TEST_KILLS").map_or(Ok(6), |kills| kills.parse())?;
    let mut written = 0;
    for _ in 0..kills {
        let until = Instant::now() + Duration::from_millis(rand::random_range(300..1500));
        while Instant::now() < until {
            let batch = json(written..written + 200);
            fixture.broker.produce(&topic, sent(&batch))?;
            written += 200;
        }
        fixture.server.kill()?;
        fixture.server = Server::start(&fixture.lake).await?;
    }
    let client = fixture.client().await?;
    let sum = (0..written).sum::<usize>();
    wait_for(
        &client,
        "SELECT count(*), count(DISTINCT id), sum(id), count(DISTINCT 1000000::bigint * _partition + _offset) FROM t",
        &format!("{written}|{written}|{sum}|{written}"),
    )
    .await?;
    assert_eq!(fixture.broker.consume(&topic, 4)?.len(), written);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_set_aside_are_replayed() -> Result<(), Failure> {
    let fixture = Fixture::new().await?;
    let (topic, client) = (&fixture.topic, fixture.client().await?);
    fixture.broker.create_topic(topic, 2, &[]).await?;
    fixture.broker.produce(
        topic,
        [
            Sent::new(br#"{"id":1,"qty":-3}"#).to(0).keyed(b"a"),
            Sent::new(b"{").to(1).keyed(b"b"),
            Sent::new(br#"{"id":3,"qty":3}"#).to(1),
        ],
    )?;
    rows(
        &client,
        &format!(
            "CREATE PIPELINE p FROM KAFKA events TOPICS ('{topic}') FORMAT JSON COLUMNS (id bigint, qty integer) \
             INCLUDE (key, partition) INTO t AS SELECT id, qty, _key, _partition FROM source \
             EXPECT positive CHECK (qty > 0) ON VIOLATION QUARANTINE WITH (target_lag = '100 ms')"
        ),
    )
    .await?;
    wait_for(
        &client,
        "SELECT id, qty, _key, _partition FROM t",
        "3|3|∅|1",
    )
    .await?;
    let error = failure(&client, "REPLAY QUARANTINE p SET size = 1").await;
    assert!(
        error.contains("column \"size\" of the pipeline's source does not exist"),
        "{error}"
    );
    rows(
        &client,
        "REPLAY QUARANTINE p SET qty = 7 WHERE _rule = 'positive'",
    )
    .await?;
    let found = rows(
        &client,
        "SELECT id, qty, _key, _partition FROM t ORDER BY id",
    )
    .await?;
    assert_eq!(found, ["1|7|a|0", "3|3|∅|1"]);
    // What could not be read at all is given every column.
    rows(&client, "REPLAY QUARANTINE p SET id = 2, qty = 8").await?;
    let found = rows(
        &client,
        "SELECT id, qty, _key, _partition FROM t ORDER BY id",
    )
    .await?;
    assert_eq!(found, ["1|7|a|0", "2|8|b|1", "3|3|∅|1"]);
    let left = value(
        &client,
        "SELECT count(*) FROM system.quarantine WHERE replayed_at IS NULL",
    )
    .await?;
    assert_eq!(left, "0");
    // Reading goes on where it was.
    fixture
        .broker
        .produce(topic, [Sent::new(br#"{"id":10,"qty":1}"#)])?;
    wait_for(&client, "SELECT count(*) FROM t", "4").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_are_joined_to_tables_as_they_are_when_they_come() -> Result<(), Failure> {
    let fixture = Fixture::new().await?;
    let (topic, client) = (&fixture.topic, fixture.client().await?);
    fixture.broker.create_topic(topic, 2, &[]).await?;
    // It has a column of the source's own name, as tables that pipelines fill do.
    rows(
        &client,
        "CREATE TABLE shop (id bigint PRIMARY KEY, name text, rate integer, _rescued jsonb); \
         CREATE TABLE visit (shop bigint, day date); \
         INSERT INTO shop VALUES (1, 'north', 2, NULL), (2, 'south', 0, NULL); \
         INSERT INTO visit VALUES (1, '2026-05-01'), (1, '2026-05-03'), (2, '2026-05-02')",
    )
    .await?;
    let create = |name: &str, query: &str| {
        format!(
            "CREATE PIPELINE {name} FROM KAFKA events TOPICS ('{topic}') FORMAT JSON COLUMNS (id bigint, shop bigint, paid integer) \
             INCLUDE (offset) INTO {name}_t AS {query} SCHEDULE ON DEMAND"
        )
    };
    let queries = [
        (
            "named",
            "SELECT s.id, shop.name, s.paid / shop.rate AS each FROM source s LEFT JOIN shop ON shop.id = s.shop",
        ),
        (
            "visits",
            "SELECT s.*, v.day FROM source s JOIN visit v ON v.shop = s.shop AND v.day > '2026-05-01'",
        ),
        (
            "newest",
            "SELECT id, (SELECT max(day) FROM visit v WHERE v.shop = source.shop) AS day FROM source \
             WHERE EXISTS (SELECT 1 FROM shop WHERE shop.id = source.shop)",
        ),
    ];
    for (name, query) in queries {
        rows(&client, &create(name, query)).await?;
    }
    let send = |messages: &[&str]| {
        let messages = messages.iter().enumerate();
        let messages = messages.map(|(number, message)| {
            Sent::new(message.as_bytes()).to((number % 2).try_into().unwrap_or(0))
        });
        fixture.broker.produce(topic, messages.collect::<Vec<_>>())
    };
    send(&[
        r#"{"id":1,"shop":1,"paid":8}"#,
        r#"{"id":2,"shop":2,"paid":8}"#,
        r#"{"id":3,"shop":9,"paid":8}"#,
        r#"{"id":4,"shop":1,"paid":"none"}"#,
    ])?;
    for (name, _) in queries {
        rows(&client, &format!("RUN PIPELINE {name}")).await?;
    }
    let named = "SELECT id, name, each, _rescued FROM named_t ORDER BY id";
    let found = rows(&client, named).await?;
    // Only the row that fails is set aside.
    assert_eq!(
        found,
        ["1|north|4|∅", "3|∅|∅|∅", r#"4|north|∅|{"paid":"none"}"#]
    );
    let aside = rows(
        &client,
        "SELECT pipeline, sqlstate, message_offset FROM system.quarantine",
    )
    .await?;
    assert_eq!(aside, ["named|22012|0"]);
    let found = rows(
        &client,
        "SELECT id, shop, day, _offset FROM visits_t ORDER BY id",
    )
    .await?;
    assert_eq!(
        found,
        ["1|1|2026-05-03|0", "2|2|2026-05-02|0", "4|1|2026-05-03|1"]
    );
    let found = rows(&client, "SELECT id, day FROM newest_t ORDER BY id").await?;
    assert_eq!(found, ["1|2026-05-03", "2|2026-05-02", "4|2026-05-03"]);

    // Rows stay as they were joined; new ones see the table as it is now.
    rows(
        &client,
        "UPDATE shop SET name = 'far north', rate = 4 WHERE id = 1; INSERT INTO shop VALUES (9, 'new', 1, NULL)",
    )
    .await?;
    send(&[
        r#"{"id":5,"shop":1,"paid":8}"#,
        r#"{"id":6,"shop":9,"paid":8}"#,
    ])?;
    rows(&client, "RUN PIPELINE named").await?;
    let found = rows(
        &client,
        "SELECT id, name, each FROM named_t WHERE id NOT IN (3, 4) ORDER BY id",
    )
    .await?;
    assert_eq!(found, ["1|north|4", "5|far north|2", "6|new|8"]);
    // The row that failed is joined to the mended table.
    rows(
        &client,
        "UPDATE shop SET rate = 8 WHERE id = 2; REPLAY QUARANTINE named",
    )
    .await?;
    let found = rows(&client, "SELECT name, each FROM named_t WHERE id = 2").await?;
    assert_eq!(found, ["south|1"]);

    for (name, query) in [
        (
            "sorted",
            "SELECT s.id FROM source s JOIN shop ON shop.id = s.shop ORDER BY s.id",
        ),
        (
            "itself",
            "SELECT s.id FROM source s JOIN source o ON o.id = s.shop",
        ),
        (
            "all_shops",
            "SELECT s.id FROM shop LEFT JOIN source s ON shop.id = s.shop",
        ),
        (
            "counted",
            "SELECT shop.name, count(*) AS n FROM source s JOIN shop ON shop.id = s.shop GROUP BY 1",
        ),
    ] {
        let error = failure(&client, &create(name, query)).await;
        assert!(
            error.starts_with("0A000: a query that aggregates, sorts or joins messages"),
            "{name}: {error}"
        );
    }
    let error = failure(
        &client,
        &format!(
            "CREATE PIPELINE keyed FROM KAFKA events TOPICS ('{topic}') FORMAT JSON COLUMNS (id bigint, shop bigint) INTO k KEY (id) \
             AS SELECT s.id, shop.name FROM source s LEFT JOIN shop ON shop.id = s.shop"
        ),
    )
    .await;
    assert!(error.starts_with("0A000: a query that joins"), "{error}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_is_tried_before_it_runs() -> Result<(), Failure> {
    let fixture = Fixture::new().await?;
    let (topic, client) = (&fixture.topic, fixture.client().await?);
    fixture.broker.create_topic(topic, 2, &[]).await?;
    fixture.broker.produce(topic, sent(&json(0..20)))?;
    rows(
        &client,
        &format!(
            "CREATE PIPELINE p FROM KAFKA events TOPICS ('{topic}') FORMAT JSON INTO t \
             AS SELECT id * 10 AS tens FROM source WHERE id = 3 SCHEDULE ON DEMAND"
        ),
    )
    .await?;
    assert_eq!(rows(&client, "TEST PIPELINE p LIMIT 5").await?, ["30|∅"]);
    let error = failure(&client, "SELECT * FROM t").await;
    assert!(error.starts_with("42P01"), "{error}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_asked_for_is_refused_with_what_can() -> Result<(), Failure> {
    let fixture = Fixture::new().await?;
    let client = fixture.client().await?;
    let begin = "CREATE PIPELINE p FROM KAFKA events TOPICS ('a')";
    for (rest, expected) in [
        (" INTO t", "42601: a pipeline FROM KAFKA needs FORMAT"),
        (
            " FORMAT PICKLE INTO t",
            "42704: format \"PICKLE\" of messages does not exist / known formats are",
        ),
        (
            " FORMAT JSON INCLUDE (sender) INTO t",
            "22023: messages have no \"sender\" to be included",
        ),
        (
            " FORMAT JSON INTO t WITH (lag = '1 s')",
            "22023: a pipeline FROM KAFKA has no option \"lag\"",
        ),
        (
            " FORMAT JSON COLUMNS (a int) INTO t AS SELECT sum(a) FROM source",
            "0A000: a query that aggregates, sorts or joins messages, of a pipeline FROM KAFKA",
        ),
        (
            " FORMAT JSON COLUMNS (a int) INTO t AS SELECT b FROM source",
            "42703: column \"b\" does not exist",
        ),
        (
            " FORMAT TEXT COLUMNS (a int) INTO t",
            "0A000: COLUMNS with a format whose column is always \"payload\"",
        ),
    ] {
        let error = failure(&client, &format!("{begin}{rest}")).await;
        assert!(error.starts_with(expected), "{rest}: {error}");
    }
    rows(
        &client,
        &format!("CREATE PIPELINE p FROM KAFKA events TOPICS ('{}') FORMAT JSON INTO t SCHEDULE ON DEMAND", fixture.topic),
    )
    .await?;
    let error = failure(&client, "RUN PIPELINE p").await;
    assert!(
        error.starts_with(&format!(
            "42704: topic \"{}\" does not exist",
            fixture.topic
        )),
        "{error}"
    );
    let error = failure(&client, "RUN PIPELINE p FULL REFRESH").await;
    assert!(error.starts_with("42704: topic"), "{error}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_is_checked_step_by_step() -> Result<(), Failure> {
    let fixture = Fixture::new().await?;
    let client = fixture.client().await?;
    fixture.broker.create_topic(&fixture.topic, 1, &[]).await?;
    let checks = rows(&client, "CHECK CONNECTION events").await?;
    let steps: Vec<&str> = checks
        .iter()
        .map(|check| check.split('|').next().unwrap_or_default())
        .collect();
    assert_eq!(steps, ["connect", "tls", "topics", "read"], "{checks:?}");
    let at = boathouse_tests::service::kafka()?;
    for mechanism in ["plain", "scram-sha-256", "scram-sha-512"] {
        for (password, lets_in) in [(at["PASSWORD"].as_str(), true), ("wrong", false)] {
            rows(&client, "DROP CONNECTION IF EXISTS guarded").await?;
            rows(
                &client,
                &format!(
                    "CREATE CONNECTION guarded TO KAFKA WITH (brokers = '{}', sasl = '{mechanism}', user = 'boathouse', \
                     password = '{password}', timeout = '6 s')",
                    at["SASL_BROKERS"]
                ),
            )
            .await?;
            let checks = rows(&client, "CHECK CONNECTION guarded").await?;
            let login = format!("login|{}", if lets_in { "ok" } else { "failed" });
            assert!(
                checks[2].starts_with(&login),
                "{mechanism} {password}: {checks:?}"
            );
            assert_eq!(
                checks.len(),
                if lets_in { 5 } else { 3 },
                "{mechanism} {password}: {checks:?}"
            );
            if !lets_in {
                assert!(checks[2].contains("refused to let in"), "{checks:?}");
                assert!(!checks.join(";").contains("wrong"), "{checks:?}");
            }
        }
    }
    rows(
        &client,
        "CREATE CONNECTION nowhere TO KAFKA WITH (brokers = '127.0.0.1:1', timeout = '2 s')",
    )
    .await?;
    let checks = rows(&client, "CHECK CONNECTION nowhere").await?;
    assert!(
        checks[0].contains("no broker of 127.0.0.1:1 can be reached"),
        "{checks:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_message_of_each_key_stands_and_tombstones_delete() -> Result<(), Failure> {
    let fixture = Fixture::new().await?;
    let (topic, client) = (&fixture.topic, fixture.client().await?);
    fixture.broker.create_topic(topic, 2, &[]).await?;
    let key = |key: &'static str| Sent::default().to(0).keyed(key.as_bytes());
    let row = |key: &'static str, payload: &'static str| {
        Sent::new(payload.as_bytes()).to(0).keyed(key.as_bytes())
    };
    rows(
        &client,
        &format!(
            "CREATE PIPELINE p FROM KAFKA events TOPICS ('{topic}') FORMAT UPSERT INTO t KEY (id) \
             AS SELECT id::bigint AS id, name, qty FROM source WHERE qty > 0 SCHEDULE ON DEMAND"
        ),
    )
    .await?;
    fixture.broker.produce(
        topic,
        [
            row("1", r#"{"name":"a","qty":1}"#),
            row("2", r#"{"name":"b","qty":2}"#),
            row("1", r#"{"name":"a2","qty":3}"#),
            row("3", r#"{"name":"c","qty":4}"#),
            key("3"),
            row("4", r#"{"name":"d","qty":0}"#),
            row("x", r#"{"name":"e","qty":1}"#),
        ],
    )?;
    rows(&client, "RUN PIPELINE p").await?;
    let all = "SELECT id, name, qty FROM t ORDER BY id";
    assert_eq!(rows(&client, all).await?, ["1|a2|3", "2|b|2"]);
    assert_eq!(
        value(
            &client,
            "SELECT message_key, sqlstate FROM system.quarantine"
        )
        .await?,
        "\\x78|22P02"
    );
    fixture.broker.produce(
        topic,
        [
            // It no longer passes.
            row("1", r#"{"name":"a3","qty":-1}"#),
            key("2"),
            row("2", r#"{"name":"b2","qty":7}"#),
            key("9"),
            row("5", r#"{"name":"f","qty":5}"#),
        ],
    )?;
    rows(&client, "RUN PIPELINE p").await?;
    assert_eq!(rows(&client, all).await?, ["2|b2|7", "5|f|5"]);
    // Without KEY rows are known by the message's key.
    rows(
        &client,
        &format!(
            "CREATE PIPELINE q FROM KAFKA events TOPICS ('{topic}') FORMAT UPSERT INTO u SCHEDULE ON DEMAND"
        ),
    )
    .await?;
    rows(&client, "RUN PIPELINE q").await?;
    assert_eq!(
        rows(&client, "SELECT _key, name, qty FROM u ORDER BY _key").await?,
        ["1|a3|-1", "2|b2|7", "4|d|0", "5|f|5", "x|e|1"]
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn replayed_messages_change_no_key_that_later_ones_have_changed() -> Result<(), Failure> {
    let fixture = Fixture::new().await?;
    let (topic, client) = (&fixture.topic, fixture.client().await?);
    fixture.broker.create_topic(topic, 2, &[]).await?;
    let row = |key: &'static str, payload: &'static str| {
        Sent::new(payload.as_bytes()).to(0).keyed(key.as_bytes())
    };
    let key = |key: &'static str| Sent::default().to(0).keyed(key.as_bytes());
    rows(
        &client,
        &format!(
            "CREATE PIPELINE p FROM KAFKA events TOPICS ('{topic}') FORMAT UPSERT COLUMNS (id text, name text, qty integer) INTO t KEY (id) \
             AS SELECT id::bigint AS id, name, qty FROM source WHERE coalesce(qty, 1) > 0 \
             EXPECT known CHECK (qty IS NOT NULL) ON VIOLATION QUARANTINE SCHEDULE ON DEMAND"
        ),
    )
    .await?;
    let first = [
        row("1", r#"{"name":"a","qty":"many"}"#),
        row("2", r#"{"name":"b","qty":"few"}"#),
        row("3", r#"{"name":"c","qty":3}"#),
        row("1", r#"{"name":"a2","qty":1}"#),
        row("2", r#"{"name":"b2","qty":"some"}"#),
        row("4", r#"{"name":"d","qty":"no"}"#),
        key("4"),
        key("x"),
        row("5", r#"{"name":"#),
        row("6", r#"{"name":"p","qty":"?"}"#).to(1),
        row("7", r#"{"name":"q","qty":"?"}"#),
        // What WHERE leaves out goes.
        row("7", r#"{"name":"q","qty":0}"#),
    ];
    fixture.broker.produce(topic, first)?;
    rows(&client, "RUN PIPELINE p").await?;
    let all = "SELECT id, name, qty FROM t ORDER BY id";
    assert_eq!(rows(&client, all).await?, ["1|a2|1", "3|c|3"]);
    let left = "SELECT string_agg(message_offset::text, ',' ORDER BY partition_number, message_offset) FROM system.quarantine WHERE replayed_at IS NULL";
    assert_eq!(value(&client, left).await?, "0,1,4,5,7,8,9,0");
    rows(&client, "REPLAY QUARANTINE p SET qty = 7 WHERE name <> ''").await?;
    let replayed = ["1|a2|1", "2|b2|7", "3|c|3", "6|p|7"];
    assert_eq!(rows(&client, all).await?, replayed);
    assert_eq!(value(&client, left).await?, "7,8");
    let told = "SELECT message FROM system.pipeline_errors WHERE message LIKE '%replayed%'";
    assert_eq!(
        value(&client, told).await?,
        "3 of the replayed rows were left as they are, because later messages of their keys have been taken"
    );
    // Once more finds nothing to be done.
    rows(&client, "REPLAY QUARANTINE p SET qty = 8 WHERE name <> ''").await?;
    assert_eq!(rows(&client, all).await?, replayed);
    rows(
        &client,
        "REPLAY QUARANTINE p SET id = '5', name = 'e', qty = 5",
    )
    .await?;
    assert_eq!(value(&client, left).await?, "∅");
    assert_eq!(
        value(&client, "SELECT name, qty FROM t WHERE id = 5").await?,
        "e|5"
    );

    // What became of a key is not known where messages are gone.
    let second = [
        row("8", r#"{"name":"r","qty":"?"}"#),
        row("9", r#"{"name":"s","qty":1}"#),
        row("8", r#"{"name":"r2","qty":1}"#),
    ];
    fixture.broker.produce(topic, second)?;
    rows(&client, "RUN PIPELINE p").await?;
    fixture.broker.delete_below(topic, 0, 13).await?;
    let error = failure(&client, "REPLAY QUARANTINE p SET qty = 7").await;
    let gone = format!(
        "55000: cannot replay into a table with a key: the messages of partition {topic}/0 from offset 11 on are not all there any more"
    );
    assert!(error.contains(&gone), "{error}");
    assert_eq!(
        value(&client, "SELECT name FROM t WHERE id = 8").await?,
        "r2"
    );
    assert_eq!(value(&client, left).await?, "11");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn replays_know_messages_of_before_by_more_than_their_offset() -> Result<(), Failure> {
    let fixture = Fixture::new().await?;
    let (topic, client) = (&fixture.topic, fixture.client().await?);
    fixture.broker.create_topic(topic, 1, &[]).await?;
    let pipeline = |rule: &str| {
        format!(
            "CREATE OR REPLACE PIPELINE p FROM KAFKA events TOPICS ('{topic}') FORMAT CANAL COLUMNS (id bigint, qty integer) INTO t KEY (id) \
             EXPECT known CHECK ({rule}) ON VIOLATION QUARANTINE SCHEDULE ON DEMAND"
        )
    };
    let insert = |rows: &str| format!(r#"{{"type":"INSERT","isDdl":false,"data":[{rows}]}}"#);
    rows(&client, &pipeline("qty IS NOT NULL")).await?;
    let messages = [
        insert(r#"{"id":4,"qty":"w"}"#),
        insert(r#"{"id":1,"qty":1},{"id":2,"qty":"x"},{"id":3,"qty":"y"}"#),
        insert(r#"{"id":4,"qty":4}"#),
        insert(r#"{"id":1,"qty":"z"}"#),
    ];
    fixture.broker.produce(topic, sent(&messages))?;
    rows(&client, "RUN PIPELINE p").await?;
    let all = "SELECT id, qty FROM t ORDER BY id";
    let left = "SELECT count(*) FROM system.quarantine WHERE replayed_at IS NULL";
    assert_eq!(rows(&client, all).await?, ["1|1", "4|4"]);
    assert_eq!(value(&client, left).await?, "4");
    // The other rows of the message wait still.
    rows(&client, "REPLAY QUARANTINE p SET qty = 5 WHERE id = 2").await?;
    assert_eq!(rows(&client, all).await?, ["1|1", "2|5", "4|4"]);
    assert_eq!(value(&client, left).await?, "4");
    let every = "REPLAY QUARANTINE p SET qty = coalesce(qty, 8) WHERE id < 4";
    rows(&client, every).await?;
    assert_eq!(rows(&client, all).await?, ["1|8", "2|8", "3|8", "4|4"]);
    assert_eq!(value(&client, left).await?, "1");
    // What was taken by the rule of before is there, though it would not pass now.
    rows(&client, &pipeline("coalesce(qty, 0) > 5")).await?;
    rows(&client, "REPLAY QUARANTINE p SET qty = 9").await?;
    assert_eq!(rows(&client, all).await?, ["1|8", "2|8", "3|8", "4|4"]);
    assert_eq!(value(&client, left).await?, "0");
    // Another topic tells nothing.
    fixture
        .broker
        .produce(topic, sent(&[insert(r#"{"id":7,"qty":"v"}"#)]))?;
    rows(&client, "RUN PIPELINE p").await?;
    fixture.broker.delete_topic(topic).await?;
    fixture.broker.create_topic(topic, 1, &[]).await?;
    let others = vec![insert(r#"{"id":9,"qty":9}"#); 9];
    fixture.broker.produce(topic, sent(&others))?;
    let error = failure(&client, "REPLAY QUARANTINE p SET qty = 7").await;
    let gone = format!(
        "55000: cannot replay into a table with a key: the messages of partition {topic}/0 from offset 4 on"
    );
    assert!(error.contains(&gone), "{error}");
    assert_eq!(value(&client, left).await?, "1");
    Ok(())
}

/// Messages of few keys, some of them bad; now and then a run, and now and then a replay of some of the bad ones. Each key has
/// what the last of its messages says that are not set aside.
#[tokio::test(flavor = "multi_thread")]
async fn replays_at_any_time_leave_what_the_last_message_says() -> Result<(), Failure> {
    #[derive(Clone, Copy, PartialEq, Debug)]
    enum State {
        Sent,
        Taken,
        Aside,
    }
    let fixture = Fixture::new().await?;
    let (topic, client) = (&fixture.topic, fixture.client().await?);
    fixture.broker.create_topic(topic, 3, &[]).await?;
    rows(
        &client,
        &format!(
            "CREATE PIPELINE p FROM KAFKA events TOPICS ('{topic}') FORMAT UPSERT COLUMNS (number integer, qty integer) INTO t EXPECT known CHECK (qty IS NOT NULL) ON VIOLATION QUARANTINE SCHEDULE ON DEMAND"
        ),
    )
    .await?;
    // Of each message: its key, whether it is bad, and whether it deletes.
    let mut sent: Vec<(usize, bool, bool, State)> = Vec::new();
    let mut done = Vec::new();
    for _ in 0..60 {
        for _ in 0..rand::random_range(1..8) {
            let number = sent.len();
            let key = rand::random_range(0..12);
            let is_bad = rand::random_range(0..3) == 0;
            let deletes = !is_bad && rand::random_range(0..5) == 0;
            let qty = if is_bad { "\"bad\"" } else { "1" };
            let payload = format!(r#"{{"number":{number},"qty":{qty}}}"#);
            let name = key.to_string();
            let message = match deletes {
                true => Sent::default(),
                false => Sent::new(payload.as_bytes()),
            };
            let message = message.to(key % 3).keyed(name.as_bytes());
            fixture.broker.produce(topic, [message])?;
            sent.push((usize::try_from(key)?, is_bad, deletes, State::Sent));
        }
        if rand::random_range(0..3) > 0 {
            rows(&client, "RUN PIPELINE p").await?;
            done.push(format!("run up to {}", sent.len()));
            for (_, is_bad, _, state) in &mut sent {
                match (*state, *is_bad) {
                    (State::Sent, true) => *state = State::Aside,
                    (State::Sent, false) => *state = State::Taken,
                    _ => {}
                }
            }
        }
        if rand::random_range(0..4) == 0 {
            let (by, rest) = (rand::random_range(1..4), rand::random_range(0..3));
            let replay = format!("REPLAY QUARANTINE p SET qty = 1 WHERE number % {by} = {rest}");
            rows(&client, &replay).await?;
            done.push(replay);
            for (number, (.., state)) in sent.iter_mut().enumerate() {
                if *state == State::Aside && number % by == rest {
                    *state = State::Taken;
                }
            }
        }
        let mut last = std::collections::BTreeMap::new();
        for (number, (key, _, deletes, state)) in sent.iter().enumerate() {
            if *state == State::Taken {
                last.insert(key.to_string(), (!deletes).then_some(number));
            }
        }
        let expected: Vec<String> = last
            .into_iter()
            .filter_map(|(key, number)| Some(format!("{key}|{}", number?)))
            .collect();
        if expected.is_empty() && sent.iter().all(|(.., state)| *state == State::Sent) {
            continue;
        }
        let found = rows(
            &client,
            "SELECT _key, number FROM t ORDER BY _key COLLATE \"C\"",
        )
        .await?;
        assert_eq!(found, expected, "{done:?} {sent:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_of_debezium_maxwell_and_canal_are_applied() -> Result<(), Failure> {
    let fixture = Fixture::new().await?;
    let client = fixture.client().await?;
    let debezium: &[&str] = &[
        r#"{"schema":{},"payload":{"before":null,"after":{"id":1,"name":"a"},"op":"c"}}"#,
        r#"{"before":null,"after":{"id":2,"name":"b"},"op":"r"}"#,
        r#"{"before":{"id":1,"name":"a"},"after":{"id":1,"name":"a2"},"op":"u"}"#,
        r#"{"before":{"id":2,"name":"b"},"after":null,"op":"d"}"#,
        r#"{"before":null,"after":{"id":3,"name":"c"},"op":"c"}"#,
    ];
    let maxwell: &[&str] = &[
        r#"{"database":"d","table":"t","type":"insert","data":{"id":1,"name":"a"}}"#,
        r#"{"database":"d","table":"t","type":"insert","data":{"id":2,"name":"c"}}"#,
        r#"{"database":"d","table":"t","type":"update","data":{"id":1,"name":"a2"},"old":{"name":"a"}}"#,
        r#"{"database":"d","table":"t","type":"update","data":{"id":3,"name":"c"},"old":{"id":2}}"#,
    ];
    let canal: &[&str] = &[
        r#"{"type":"INSERT","isDdl":false,"data":[{"id":1,"name":"a"},{"id":2,"name":"b"},{"id":3,"name":"c"}],"old":null}"#,
        r#"{"type":"UPDATE","isDdl":false,"data":[{"id":1,"name":"a2"}],"old":[{"name":"a"}]}"#,
        r#"{"type":"DELETE","isDdl":false,"data":[{"id":2,"name":"b"}],"old":null}"#,
        r#"{"type":"ALTER","isDdl":true,"sql":"ALTER TABLE t ADD COLUMN x INT"}"#,
    ];
    for (format, messages) in [
        ("DEBEZIUM", debezium),
        ("MAXWELL", maxwell),
        ("CANAL", canal),
    ] {
        let name = format.to_lowercase();
        let topic = format!("{}-{name}", fixture.topic);
        fixture.broker.create_topic(&topic, 1, &[]).await?;
        fixture.broker.produce(
            &topic,
            messages.iter().map(|message| Sent::new(message.as_bytes())),
        )?;
        let refused = failure(
            &client,
            &format!("CREATE PIPELINE {name} FROM KAFKA events TOPICS ('{topic}') FORMAT {format} INTO {name}"),
        )
        .await;
        assert!(refused.contains("need a target with a KEY"), "{refused}");
        rows(
            &client,
            &format!(
                "CREATE PIPELINE {name} FROM KAFKA events TOPICS ('{topic}') FORMAT {format} INTO {name} KEY (id) \
                 SCHEDULE ON DEMAND"
            ),
        )
        .await?;
        rows(&client, &format!("RUN PIPELINE {name}")).await?;
        assert_eq!(
            rows(&client, &format!("SELECT id, name FROM {name} ORDER BY id")).await?,
            ["1|a2", "3|c"],
            "{format}"
        );
    }
    Ok(())
}

/// Kills at any moment a server that keeps a table with a key.
#[tokio::test(flavor = "multi_thread")]
async fn kills_leave_a_table_with_a_key_as_its_messages_say() -> Result<(), Failure> {
    let mut fixture = Fixture::new().await?;
    let topic = fixture.topic.clone();
    fixture.broker.create_topic(&topic, 3, &[]).await?;
    {
        let client = fixture.client().await?;
        rows(
            &client,
            &format!(
                "CREATE PIPELINE p FROM KAFKA events TOPICS ('{topic}') FORMAT UPSERT COLUMNS (n bigint) INTO t \
                 WITH (target_lag = '50 ms')"
            ),
        )
        .await?;
    }
    let mut expected: std::collections::BTreeMap<String, Option<u64>> = Default::default();
    let mut number = 0_u64;
    for _ in 0..4 {
        let until = Instant::now() + Duration::from_millis(rand::random_range(300..1200));
        while Instant::now() < until {
            let mut messages: Vec<(String, Option<String>, i32)> = Vec::new();
            for _ in 0..50 {
                number += 1;
                let key = rand::random_range(0..200);
                let goes = number.is_multiple_of(7);
                expected.insert(format!("k{key}"), (!goes).then_some(number));
                messages.push((
                    format!("k{key}"),
                    (!goes).then(|| format!("{{\"n\":{number}}}")),
                    key % 3,
                ));
            }
            let sent = messages.iter().map(|(key, payload, partition)| Sent {
                key: Some(key.as_bytes()),
                payload: payload.as_ref().map(|payload| payload.as_bytes()),
                partition: Some(*partition),
                ..Sent::default()
            });
            fixture.broker.produce(&topic, sent)?;
        }
        fixture.server.kill()?;
        fixture.server = Server::start(&fixture.lake).await?;
    }
    let client = fixture.client().await?;
    let left: Vec<(String, u64)> = expected
        .into_iter()
        .filter_map(|(key, number)| Some((key, number?)))
        .collect();
    let sum: u64 = left.iter().map(|(_, number)| number).sum();
    let counted = format!("{}|{}|{sum}", left.len(), left.len());
    wait_for(
        &client,
        "SELECT count(*), count(DISTINCT _key), sum(n) FROM t",
        &counted,
    )
    .await?;
    let found = rows(&client, "SELECT _key, n FROM t ORDER BY _key").await?;
    let left: Vec<String> = left
        .iter()
        .map(|(key, number)| format!("{key}|{number}"))
        .collect();
    assert_eq!(found, left);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_dies_and_comes_back_is_waited_for() -> Result<(), Failure> {
    let mut fixture = Fixture::with(Broker::own(&[]).await?).await?;
    let topic = fixture.topic.clone();
    fixture.broker.create_topic(&topic, 2, &[]).await?;
    fixture.broker.produce(&topic, sent(&json(0..100)))?;
    let client = fixture.client().await?;
    rows(
        &client,
        &format!(
            "CREATE PIPELINE p FROM KAFKA events TOPICS ('{topic}') FORMAT JSON INTO t WITH (target_lag = '100 ms')"
        ),
    )
    .await?;
    wait_for(&client, "SELECT count(*) FROM t", "100").await?;
    fixture.broker.kill()?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    fixture.broker.start().await?;
    fixture.broker.produce(&topic, sent(&json(100..200)))?;
    wait_for(
        &client,
        "SELECT count(*), count(DISTINCT id) FROM t",
        "200|200",
    )
    .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn large_messages_and_many_bad_ones_pass() -> Result<(), Failure> {
    let fixture = Fixture::new().await?;
    let (topic, client) = (&fixture.topic, fixture.client().await?);
    fixture
        .broker
        .create_topic(topic, 2, &[("max.message.bytes", "20000000")])
        .await?;
    let large = "x".repeat(10 << 20);
    let mut messages = vec![format!("{{\"id\":0,\"name\":\"{large}\"}}")];
    messages.extend((1..4000).map(|number| match number % 2 {
        0 => format!("{{\"id\":{number}"),
        _ => format!("{{\"id\":{number},\"name\":\"n\"}}"),
    }));
    fixture.broker.produce(topic, sent(&messages))?;
    rows(
        &client,
        &format!(
            "CREATE PIPELINE p FROM KAFKA events TOPICS ('{topic}') FORMAT JSON INTO t SCHEDULE ON DEMAND"
        ),
    )
    .await?;
    rows(&client, "RUN PIPELINE p").await?;
    let found = value(
        &client,
        "SELECT count(*), sum(id), max(length(name)) FROM t",
    )
    .await?;
    let sum: usize = (1..4000).step_by(2).sum();
    assert_eq!(found, format!("2001|{sum}|{}", 10 << 20));
    assert_eq!(
        value(&client, "SELECT count(*) FROM system.quarantine").await?,
        "1999"
    );
    let error = failure(&client, "ALTER PIPELINE p SET (rejected_max = 'few')").await;
    assert!(error.starts_with("22023"), "{error}");
    // More than may be set aside: nothing of the commit is taken.
    rows(
        &client,
        &format!(
            "CREATE PIPELINE q FROM KAFKA events TOPICS ('{topic}') FORMAT JSON COLUMNS (id bigint) INTO u \
             SCHEDULE ON DEMAND WITH (rejected_max = 5)"
        ),
    )
    .await?;
    let error = failure(&client, "RUN PIPELINE q").await;
    assert!(
        error.starts_with("22000: more than 5 messages of one commit could not be taken"),
        "{error}"
    );
    assert_eq!(value(&client, "SELECT count(*) FROM u").await?, "0");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_and_offsets_outlast_a_restart_and_a_pause() -> Result<(), Failure> {
    let mut fixture = Fixture::new().await?;
    let topic = fixture.topic.clone();
    fixture.broker.create_topic(&topic, 1, &[]).await?;
    fixture.broker.produce(&topic, sent(&json(0..5)))?;
    let client = fixture.client().await?;
    rows(
        &client,
        &format!(
            "CREATE PIPELINE p FROM KAFKA events TOPICS ('{topic}') FORMAT JSON INTO t WITH (target_lag = '100 ms')"
        ),
    )
    .await?;
    wait_for(&client, "SELECT count(*) FROM t", "5").await?;
    rows(&client, "ALTER PIPELINE p PAUSE").await?;
    fixture.broker.produce(
        &topic,
        [Sent::new(
            br#"{"id":"007","name":3,"price":1e3,"extra":{"a":[1]}}"#,
        )],
    )?;
    fixture.server.kill()?;
    fixture.server = Server::start(&fixture.lake).await?;
    let client = fixture.client().await?;
    rows(&client, "ALTER PIPELINE p RESUME").await?;
    wait_for(&client, "SELECT count(*) FROM t", "6").await?;
    assert_eq!(
        rows(
            &client,
            "SELECT id, name, price, extra, _rescued FROM t WHERE extra IS NOT NULL"
        )
        .await?,
        ["∅|3|1000|{\"a\":[1]}|{\"id\":\"007\"}"]
    );
    rows(&client, "DROP TABLE t").await?;
    wait_for(&client, "SELECT count(*) FROM t", "6").await?;
    Ok(())
}

/// The next start of a run would use the new brokers anyway: the one that is running must.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_altered_reaches_the_running_pipeline() -> Result<(), Failure> {
    let fixture = Fixture::new().await?;
    let (topic, client) = (&fixture.topic, fixture.client().await?);
    fixture.broker.create_topic(topic, 1, &[]).await?;
    fixture.broker.produce(topic, sent(&json(0..10)))?;
    let sql = format!("CREATE PIPELINE p FROM KAFKA events TOPICS ('{topic}') FORMAT JSON INTO t");
    rows(&client, &sql).await?;
    wait_for(&client, "SELECT count(*) FROM t", "10").await?;
    // Nobody listens there.
    let nowhere = boathouse_tests::free_port()?;
    let altered = format!("ALTER CONNECTION events SET (brokers = '127.0.0.1:{nowhere}')");
    rows(&client, &altered).await?;
    let warned = "SELECT count(*) > 0 FROM system.pipeline_errors WHERE severity = 'warning'";
    wait_for(&client, warned, "t").await?;
    fixture.broker.produce(topic, sent(&json(10..20)))?;
    let brokers = fixture.broker.address();
    let altered = format!("ALTER CONNECTION events SET (brokers = '{brokers}')");
    rows(&client, &altered).await?;
    wait_for(
        &client,
        "SELECT count(*), count(DISTINCT id) FROM t",
        "20|20",
    )
    .await?;
    // All by the one run.
    let runs = "SELECT count(*), min(state) FROM system.pipeline_runs";
    assert_eq!(rows(&client, runs).await?, ["1|running"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_are_read_no_faster_than_the_rate_allows() -> Result<(), Failure> {
    let fixture = Fixture::new().await?;
    let (topic, client) = (&fixture.topic, fixture.client().await?);
    fixture.broker.create_topic(topic, 2, &[]).await?;
    fixture.broker.produce(topic, sent(&json(0..2_000)))?;
    let payloads: usize = json(0..2_000).iter().map(String::len).sum();
    // The last block has no pause behind it, so less than four seconds may pass, and more than two must.
    for (table, limit) in [
        ("by_rows", "rate_rows = 500".to_owned()),
        (
            "by_bytes",
            format!("batch_rows = 500, rate_bytes = {}", payloads / 4),
        ),
    ] {
        let sql = format!(
            "CREATE PIPELINE {table} FROM KAFKA events TOPICS ('{topic}') FORMAT JSON INTO {table} \
             SCHEDULE ON DEMAND WITH ({limit})"
        );
        rows(&client, &sql).await?;
        let begun = Instant::now();
        rows(&client, &format!("RUN PIPELINE {table}")).await?;
        let took = begun.elapsed();
        let found = format!("SELECT count(*), count(DISTINCT id) FROM {table}");
        assert_eq!(rows(&client, &found).await?, ["2000|2000"]);
        assert!(took > Duration::from_secs(2), "{limit}: {took:?}");
    }
    let refused = format!(
        "CREATE PIPELINE none FROM KAFKA events TOPICS ('{topic}') FORMAT JSON INTO none WITH (rate_rows = 0)"
    );
    let refused = failure(&client, &refused).await;
    assert!(refused.contains("\"rate_rows\""), "{refused}");
    Ok(())
}

/// What a producer's clock says is a value as any other: nothing is ordered, kept or awaited by it.
#[tokio::test(flavor = "multi_thread")]
async fn clocks_of_producers_that_are_wrong_harm_nothing() -> Result<(), Failure> {
    let fixture = Fixture::new().await?;
    let (topic, client) = (&fixture.topic, fixture.client().await?);
    // A broker refuses what is an hour ahead of it, unless told otherwise.
    let any_time = [
        ("message.timestamp.after.max.ms", "9223372036854775807"),
        ("message.timestamp.before.max.ms", "9223372036854775807"),
    ];
    fixture.broker.create_topic(topic, 1, &any_time).await?;
    let payloads = json(0..4);
    // The beginning of 1970, the year 2200, the year 9999, and 2024.
    let times = [1, 7_258_118_400_000, 253_402_300_799_000, 1_704_067_200_000];
    let messages = payloads.iter().zip(times).map(|(payload, time)| Sent {
        timestamp: Some(time),
        ..Sent::new(payload.as_bytes())
    });
    fixture.broker.produce(topic, messages)?;
    let sql = format!(
        "CREATE PIPELINE p FROM KAFKA events TOPICS ('{topic}') FORMAT JSON INCLUDE (offset, timestamp) INTO t"
    );
    rows(&client, &sql).await?;
    wait_for(&client, "SELECT count(*) FROM t", "4").await?;
    let found = rows(
        &client,
        "SELECT id, _offset, _timestamp FROM t ORDER BY _offset",
    )
    .await?;
    assert_eq!(
        found,
        [
            "0|0|1970-01-01 00:00:00.001+00",
            "1|1|2200-01-01 00:00:00+00",
            "2|2|9999-12-31 23:59:59+00",
            "3|3|2024-01-01 00:00:00+00",
        ]
    );
    // Nor does it move what comes next.
    fixture.broker.produce(topic, sent(&json(4..6)))?;
    wait_for(&client, "SELECT count(*), count(DISTINCT id) FROM t", "6|6").await
}

/// The figure of a partition in `/metrics`, once it is there and so.
async fn figure(
    server: &Server,
    name: &str,
    labels: &str,
    is_so: impl Fn(f64) -> bool,
) -> Result<(), Failure> {
    let begun = Instant::now();
    let line = format!("boathouse_kafka_{name}{{{labels}}} ");
    loop {
        let mut stream = TcpStream::connect(("127.0.0.1", server.http_port))?;
        write!(stream, "GET /metrics HTTP/1.0\r\n\r\n")?;
        let mut page = String::new();
        stream.read_to_string(&mut page)?;
        let found = page.lines().find_map(|text| text.strip_prefix(&line));
        if let Some(found) = found
            && is_so(found.parse()?)
        {
            return Ok(());
        }
        if begun.elapsed() > Duration::from_secs(30) {
            return Err(format!("{line}is {found:?} in\n{page}").into());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn figures_tell_how_far_each_partition_is() -> Result<(), Failure> {
    let fixture = Fixture::new().await?;
    let (topic, client) = (&fixture.topic, fixture.client().await?);
    fixture.broker.create_topic(topic, 2, &[]).await?;
    let payloads = json(0..40);
    // Written in 2023.
    let messages = payloads.iter().map(|payload| Sent {
        timestamp: Some(1_700_000_000_000),
        ..Sent::new(payload.as_bytes()).to(1)
    });
    fixture.broker.produce(topic, messages)?;
    let sql = format!(
        "CREATE PIPELINE p FROM KAFKA events TOPICS ('{topic}') FORMAT JSON INTO t \
         WITH (rate_rows = 1, target_lag = '100 ms')"
    );
    rows(&client, &sql).await?;
    let of = |partition: i32| format!("pipeline=\"p\",topic=\"{topic}\",partition=\"{partition}\"");
    let server = &fixture.server;
    let is_between = |found| 0.0 < found && found < 40.0;
    figure(server, "messages_behind", &of(1), is_between).await?;
    figure(server, "committed_offset", &of(1), is_between).await?;
    let is_old = |found| found > 80_000_000.0;
    figure(server, "seconds_behind", &of(1), is_old).await?;
    rows(&client, "ALTER PIPELINE p SET (rate_rows = 100000)").await?;
    figure(server, "committed_offset", &of(1), |found| found == 40.0).await?;
    figure(server, "committed_offset", &of(0), |found| found == 0.0).await?;
    for partition in [0, 1] {
        figure(server, "messages_behind", &of(partition), |found| {
            found == 0.0
        })
        .await?;
        figure(server, "seconds_behind", &of(partition), |found| {
            found == 0.0
        })
        .await?;
    }
    Ok(())
}
