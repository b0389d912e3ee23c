//! `RUN PIPELINE ... FULL REFRESH` of pipelines from Kafka: the rows are those of the messages there are, by the present definition.
//! Until all are there the table is as it was, whoever is killed.

use std::path::PathBuf;
use std::time::Duration;

use boathouse_tests::kafka::{Broker, Sent};
use boathouse_tests::{
    Failure, Server, ServerOptions, explain, lake_folder, rows, value, wait_for,
};
use tempfile::TempDir;
use tokio_postgres::Client;

struct Fixture {
    broker: Broker,
    /// A topic of two partitions.
    topic: String,
    _folder: TempDir,
    lake: PathBuf,
    server: Option<Server>,
}

impl Fixture {
    async fn new() -> Result<Self, Failure> {
        let broker = Broker::shared()?;
        let topic = format!("t{}", uuid::Uuid::new_v4().simple());
        broker.create_topic(&topic, 2, &[]).await?;
        let (folder, lake) = lake_folder()?;
        let server = Server::start(&lake).await?;
        let client = server.connect().await?;
        rows(&client, &broker.create_connection("events")).await?;
        Ok(Self {
            broker,
            topic,
            _folder: folder,
            lake,
            server: Some(server),
        })
    }

    async fn client(&self) -> Result<Client, Failure> {
        self.server.as_ref().ok_or("no server")?.connect().await
    }

    /// Ends the server, and starts one that dies where a failpoint says, if one is given.
    async fn restart(&mut self, failpoint: Option<&str>) -> Result<Client, Failure> {
        self.server.take();
        let environment = failpoint.map(|name| ("BOATHOUSE_FAILPOINT".to_owned(), name.to_owned()));
        let options = ServerOptions {
            environment: environment.into_iter().collect(),
            ..ServerOptions::default()
        };
        self.server = Some(Server::start_with(&self.lake, options).await?);
        self.client().await
    }

    fn produce(&self, messages: &[(String, Option<String>)]) -> Result<(), Failure> {
        let sent = messages
            .iter()
            .zip(0..)
            .map(|((key, payload), number)| Sent {
                payload: payload.as_deref().map(str::as_bytes),
                ..Sent::new(&[]).keyed(key.as_bytes()).to(number % 2)
            });
        self.broker.produce(&self.topic, sent)
    }

    /// Messages with these numbers, in turns to the partitions.
    fn number(&self, numbers: std::ops::Range<usize>) -> Result<(), Failure> {
        let messages: Vec<(String, Option<String>)> = numbers
            .map(|id| {
                (
                    format!("k{id}"),
                    Some(format!("{{\"id\":{id},\"name\":\"n{id}\"}}")),
                )
            })
            .collect();
        self.produce(&messages)
    }

    fn create(&self, or_replace: bool, rest: &str) -> String {
        let replaces = if or_replace { "OR REPLACE " } else { "" };
        format!(
            "CREATE {replaces}PIPELINE p FROM KAFKA events TOPICS ('{}') FORMAT {rest}",
            self.topic
        )
    }
}

async fn failure(client: &Client, sql: &str) -> String {
    match client.simple_query(sql).await {
        Ok(_) => "it went well".to_owned(),
        Err(error) => explain(error).to_string(),
    }
}

const ALL: &str =
    "SELECT count(*), count(DISTINCT id), sum(id), min(name), max(name) FROM t WHERE id >= 0";

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_made_anew_by_the_present_definition() -> Result<(), Failure> {
    let fixture = Fixture::new().await?;
    let client = fixture.client().await?;
    fixture.number(0..200)?;
    fixture.produce(&[("bad".to_owned(), Some("{".to_owned()))])?;
    let first = fixture.create(
        false,
        "JSON COLUMNS (id bigint, name text) INTO t AS SELECT id, name FROM source \
         EXPECT most CHECK (id % 10 <> 0) ON VIOLATION QUARANTINE WITH (target_lag = '100 ms')",
    );
    rows(&client, &first).await?;
    wait_for(&client, ALL, "180|180|18000|n1|n99").await?;
    wait_for(&client, "SELECT count(*) FROM system.quarantine", "21").await?;
    rows(&client, "INSERT INTO t (id, name) VALUES (-1, 'of others')").await?;
    rows(&client, "UPDATE t SET name = 'changed' WHERE id = 7").await?;
    // Some of those set aside were replayed.
    rows(&client, "REPLAY QUARANTINE p SET id = id + 1 WHERE id = 10").await?;
    wait_for(&client, "SELECT count(*) FROM t WHERE id = 11", "2").await?;

    let second = fixture.create(
        true,
        "JSON COLUMNS (id bigint, name text) INTO t AS SELECT id, upper(name) AS name, id * 2 AS twice FROM source \
         WITH (target_lag = '100 ms')",
    );
    rows(&client, &second).await?;
    rows(&client, "RUN PIPELINE p FULL REFRESH").await?;
    let anew = "200|200|19900|N0|N99";
    assert_eq!(rows(&client, ALL).await?, [anew]);
    assert_eq!(
        value(&client, "SELECT sum(twice) FROM t").await?,
        "39800",
        "columns of the new definition"
    );
    // Rows of others stay, and what waited is judged again.
    let others = "SELECT name FROM t WHERE id = -1";
    assert_eq!(rows(&client, others).await?, ["of others"]);
    let waiting = "SELECT count(*), min(sqlstate) FROM system.quarantine WHERE replayed_at IS NULL AND superseded_at IS NULL";
    assert_eq!(rows(&client, waiting).await?, ["1|22P02"]);
    // Reading goes on from there.
    fixture.number(200..210)?;
    wait_for(&client, ALL, "210|210|21945|N0|N99").await?;
    rows(&client, "RUN PIPELINE p FULL REFRESH").await?;
    assert_eq!(rows(&client, ALL).await?, ["210|210|21945|N0|N99"]);
    assert_eq!(rows(&client, waiting).await?, ["1|22P02"]);
    let runs = "SELECT DISTINCT error FROM system.pipeline_runs WHERE state = 'failed'";
    assert_eq!(rows(&client, runs).await?.len(), 0);
    Ok(())
}

/// Readers see the rows of before until the new ones are complete; what comes meanwhile comes afterwards.
#[tokio::test(flavor = "multi_thread")]
async fn the_table_is_as_it_was_until_all_is_there() -> Result<(), Failure> {
    let fixture = Fixture::new().await?;
    let client = fixture.client().await?;
    fixture.number(0..300)?;
    let create = fixture.create(
        false,
        "JSON COLUMNS (id bigint, name text) INTO t WITH (target_lag = '50 ms', batch_rows = 50)",
    );
    rows(&client, &create).await?;
    wait_for(&client, ALL, "300|300|44850|n0|n99").await?;
    let slow = fixture.create(
        true,
        "JSON COLUMNS (id bigint, name text) INTO t AS SELECT id, 'anew' AS name FROM source \
         WITH (target_lag = '50 ms', batch_rows = 50, rate_rows = 60)",
    );
    rows(&client, &slow).await?;
    let other = fixture.client().await?;
    let refresh = tokio::spawn(async move { rows(&other, "RUN PIPELINE p FULL REFRESH").await });
    let sql = "SELECT count(*), count(DISTINCT id), count(*) FILTER (WHERE name = 'anew') FROM t";
    let mut seen = Vec::new();
    let mut produced = false;
    while !refresh.is_finished() {
        let found = value(&client, sql).await?;
        if seen.last() != Some(&found) {
            seen.push(found);
        }
        if !produced && seen.len() == 1 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            fixture.number(300..320)?;
            produced = true;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    refresh.await??;
    assert!(produced);
    assert_eq!(seen.first().map(String::as_str), Some("300|300|0"));
    for found in &seen[1..] {
        let numbers: Vec<usize> = found
            .split('|')
            .filter_map(|one| one.parse().ok())
            .collect();
        // All new, or all new and some of what came meanwhile.
        let is_whole = numbers[0] >= 300 && numbers[0] == numbers[1] && numbers[2] == numbers[0];
        assert!(is_whole, "{seen:?}");
    }
    wait_for(&client, sql, "320|320|320").await
}

/// Kills the server where a failpoint says.
async fn survives(failpoint: &str, has_key: bool) -> Result<(), Failure> {
    let mut fixture = Fixture::new().await?;
    let client = fixture.client().await?;
    let into = if has_key { "t KEY (id)" } else { "t" };
    fixture.number(0..100)?;
    let of = |query: &str| {
        format!(
            "JSON COLUMNS (id bigint, name text) INTO {into} AS {query} SCHEDULE ON DEMAND WITH (batch_rows = 20, rate_rows = 500)"
        )
    };
    let create = fixture.create(false, &of("SELECT id, name FROM source"));
    rows(&client, &create).await?;
    rows(&client, "RUN PIPELINE p").await?;
    let anew = fixture.create(
        true,
        &of("SELECT id, 'anew' AS name FROM source WHERE id % 2 = 0"),
    );
    rows(&client, &anew).await?;
    let before = "100|100|4950|n0|n99";
    assert_eq!(rows(&client, ALL).await?, [before]);
    drop(client);
    let client = fixture.restart(Some(failpoint)).await?;
    let died = client
        .simple_query("RUN PIPELINE p FULL REFRESH")
        .await
        .is_err();
    assert!(died, "{failpoint} was not passed");
    let client = fixture.restart(None).await?;
    let found = value(&client, ALL).await?;
    let after = "50|50|2450|anew|anew";
    let is_done = failpoint.starts_with("after_commit") || failpoint.starts_with("after_resolve");
    assert_eq!(found, if is_done { after } else { before }, "{failpoint}");
    // What comes next is read from where the table is.
    fixture.number(100..110)?;
    rows(&client, "RUN PIPELINE p").await?;
    let both = match is_done {
        true => "55|55|2970|anew|anew",
        false => "105|105|5470|anew|n99",
    };
    assert_eq!(value(&client, ALL).await?, both, "{failpoint}");
    rows(&client, "RUN PIPELINE p FULL REFRESH").await?;
    assert_eq!(
        value(&client, ALL).await?,
        "55|55|2970|anew|anew",
        "{failpoint}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_leaves_the_rows_of_before_or_all_new_ones() -> Result<(), Failure> {
    for failpoints in [
        ["kafka_staged:2", "after_prepare", "before_commit"],
        ["kafka_read:2", "after_commit", "after_resolve"],
    ] {
        futures::future::try_join_all(failpoints.map(|name| survives(name, false))).await?;
        futures::future::try_join_all(failpoints.map(|name| survives(name, true))).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_are_gone_keep_the_rows_they_were() -> Result<(), Failure> {
    let fixture = Fixture::new().await?;
    let (client, topic) = (fixture.client().await?, &fixture.topic);
    fixture.number(0..40)?;
    let create = fixture.create(
        false,
        "JSON COLUMNS (id bigint, name text) INTO t SCHEDULE ON DEMAND",
    );
    rows(&client, &create).await?;
    rows(&client, "RUN PIPELINE p").await?;
    fixture.broker.delete_below(topic, 0, 5).await?;
    let refused = format!(
        "55000: the table was left as it is: partition {topic}/0 no longer has offsets 0 to 4 / \
         ALTER PIPELINE p SET (lost_offsets = 'skip') lets it be made of the messages there are; rows of others go"
    );
    assert_eq!(
        failure(&client, "RUN PIPELINE p FULL REFRESH").await,
        refused
    );
    assert_eq!(rows(&client, ALL).await?, ["40|40|780|n0|n9"]);
    rows(&client, "ALTER PIPELINE p SET (lost_offsets = 'skip')").await?;
    rows(&client, "RUN PIPELINE p FULL REFRESH").await?;
    // 0, 2, 4, 6 and 8 were in partition 0.
    assert_eq!(rows(&client, ALL).await?, ["35|35|760|n1|n9"]);
    let warned = "SELECT message FROM system.pipeline_errors WHERE severity = 'warning'";
    let warning = format!(
        "partition {topic}/0 no longer has offsets 0 to 4; the table is made anew without them"
    );
    assert_eq!(rows(&client, warned).await?, [warning]);
    // They are not missed again.
    rows(&client, "ALTER PIPELINE p RESET (lost_offsets)").await?;
    rows(&client, "RUN PIPELINE p FULL REFRESH").await?;
    assert_eq!(rows(&client, ALL).await?, ["35|35|760|n1|n9"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_with_a_key_is_made_anew() -> Result<(), Failure> {
    let fixture = Fixture::new().await?;
    let client = fixture.client().await?;
    let of = |key: &str, payload: Option<&str>| (key.to_owned(), payload.map(str::to_owned));
    fixture.produce(&[
        of("a", Some(r#"{"qty":1,"place":"north"}"#)),
        of("b", Some(r#"{"qty":2,"place":"south"}"#)),
        of("a", Some(r#"{"qty":3}"#)),
        of("d", Some(r#"{"qty":4,"place":"west"}"#)),
        of("c", Some(r#"{"qty":5}"#)),
        of("d", None),
    ])?;
    let create = fixture.create(
        false,
        "UPSERT INTO t KEY (sku) AS SELECT sku, qty FROM source SCHEDULE ON DEMAND",
    );
    rows(&client, &create).await?;
    rows(&client, "RUN PIPELINE p").await?;
    rows(&client, "ALTER TABLE t ADD COLUMN note text").await?;
    rows(
        &client,
        "UPDATE t SET note = 'mine' WHERE sku IN ('a', 'c')",
    )
    .await?;
    rows(&client, "UPDATE t SET qty = 100 WHERE sku = 'c'").await?;
    rows(&client, "INSERT INTO t (sku, qty) VALUES ('x', 9)").await?;
    let anew = fixture.create(
        true,
        "UPSERT INTO t KEY (sku) AS SELECT sku, qty * 10 AS qty, place FROM source WHERE qty > 2 \
         SCHEDULE ON DEMAND WITH (batch_rows = 1)",
    );
    rows(&client, &anew).await?;
    rows(&client, "RUN PIPELINE p FULL REFRESH").await?;
    let sql = "SELECT sku, qty, place, note FROM t ORDER BY sku";
    // The first message of "a" takes it away, by the WHERE there is now.
    assert_eq!(rows(&client, sql).await?, ["a|30|∅|∅", "c|50|∅|mine"]);
    fixture.produce(&[of("a", None), of("b", Some(r#"{"qty":7,"place":"east"}"#))])?;
    rows(&client, "RUN PIPELINE p").await?;
    assert_eq!(rows(&client, sql).await?, ["b|70|east|∅", "c|50|∅|mine"]);
    rows(&client, "RUN PIPELINE p FULL REFRESH").await?;
    assert_eq!(rows(&client, sql).await?, ["b|70|east|∅", "c|50|∅|mine"]);

    // A table that was dropped is made by it, too, and one of several refuses.
    rows(&client, "DROP TABLE t").await?;
    rows(&client, "RUN PIPELINE p FULL REFRESH").await?;
    let sql = "SELECT sku, qty, place FROM t ORDER BY sku";
    assert_eq!(rows(&client, sql).await?, ["b|70|east", "c|50|∅"]);
    Ok(())
}

/// Topics that are not read any more leave no rows, and are read from their beginning should they be read again.
#[tokio::test(flavor = "multi_thread")]
async fn other_topics_take_the_place_of_those_before() -> Result<(), Failure> {
    let fixture = Fixture::new().await?;
    let client = fixture.client().await?;
    let other = format!("{}-other", fixture.topic);
    fixture.broker.create_topic(&other, 1, &[]).await?;
    fixture.number(0..10)?;
    let sent = [Sent::new(br#"{"id":1000,"name":"other"}"#)];
    fixture.broker.produce(&other, sent)?;
    let of = |topic: &str| {
        format!(
            "CREATE OR REPLACE PIPELINE p FROM KAFKA events TOPICS ('{topic}') FORMAT JSON INTO t SCHEDULE ON DEMAND"
        )
    };
    rows(&client, &of(&fixture.topic)).await?;
    rows(&client, "RUN PIPELINE p").await?;
    assert_eq!(rows(&client, ALL).await?, ["10|10|45|n0|n9"]);
    rows(&client, &of(&other)).await?;
    rows(&client, "RUN PIPELINE p FULL REFRESH").await?;
    assert_eq!(rows(&client, ALL).await?, ["1|1|1000|other|other"]);
    rows(&client, &of(&fixture.topic)).await?;
    rows(&client, "RUN PIPELINE p").await?;
    assert_eq!(rows(&client, ALL).await?, ["11|11|1045|n0|other"]);
    // Runs between do not make them forgotten.
    rows(&client, &of(&other)).await?;
    fixture
        .broker
        .produce(&other, [Sent::new(br#"{"id":1001,"name":"other"}"#)])?;
    rows(&client, "RUN PIPELINE p").await?;
    fixture
        .broker
        .produce(&other, [Sent::new(br#"{"id":1002,"name":"other"}"#)])?;
    rows(&client, "RUN PIPELINE p").await?;
    rows(&client, "RUN PIPELINE p FULL REFRESH").await?;
    assert_eq!(rows(&client, ALL).await?, ["3|3|3003|other|other"]);
    rows(&client, &of(&fixture.topic)).await?;
    rows(&client, "RUN PIPELINE p").await?;
    assert_eq!(rows(&client, ALL).await?, ["13|13|3048|n0|other"]);
    Ok(())
}
