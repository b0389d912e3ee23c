//! `CREATE PIPELINE ... FROM KAFKA ... INTO SCHEMA ... BY`: each message is once in the table that its column names, or once
//! in quarantine, whoever is killed between the commits of two tables.

use std::collections::BTreeMap;
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
    /// A topic of so many partitions, a connection `events` and a schema `bronze`.
    async fn new(partitions: i32) -> Result<Self, Failure> {
        let topic = format!("t{}", uuid::Uuid::new_v4().simple());
        let (folder, lake) = lake_folder()?;
        let server = Server::start(&lake).await?;
        let fixture = Self {
            broker: Broker::shared()?,
            topic,
            _folder: folder,
            lake,
            server,
        };
        fixture
            .broker
            .create_topic(&fixture.topic, partitions, &[])
            .await?;
        let client = fixture.client().await?;
        rows(&client, &fixture.broker.create_connection("events")).await?;
        rows(&client, "CREATE SCHEMA bronze").await?;
        Ok(fixture)
    }

    async fn client(&self) -> Result<Client, Failure> {
        self.server.connect().await
    }

    fn produce(&self, payloads: &[&str]) -> Result<(), Failure> {
        let sent = payloads.iter().map(|one| Sent::new(one.as_bytes()));
        self.broker.produce(&self.topic, sent)
    }

    fn produce_all(&self, payloads: &[String]) -> Result<(), Failure> {
        let sent = payloads.iter().map(|one| Sent::new(one.as_bytes()));
        self.broker.produce(&self.topic, sent)
    }

    /// Starts the server anew, to die at a failpoint.
    async fn arm(&mut self, failpoint: &str) -> Result<Client, Failure> {
        self.server.kill()?;
        let options = ServerOptions {
            environment: vec![("BOATHOUSE_FAILPOINT".to_owned(), failpoint.to_owned())],
            ..ServerOptions::default()
        };
        self.server = Server::start_with(&self.lake, options).await?;
        self.client().await
    }

    /// Starts the server anew after it died.
    async fn restart(&mut self) -> Result<Client, Failure> {
        self.server.wait()?;
        self.server = Server::start(&self.lake).await?;
        self.client().await
    }
}

async fn failure(client: &Client, sql: &str) -> String {
    match client.simple_query(sql).await {
        Ok(_) => "it went well".to_owned(),
        Err(error) => explain(error).to_string(),
    }
}

/// The columns of the tables of `bronze`.
async fn columns(client: &Client) -> Result<Vec<String>, Failure> {
    rows(
        client,
        "SELECT table_name, string_agg(column_name || ' ' || data_type, ', ' ORDER BY ordinal_position) \
         FROM information_schema.columns WHERE table_schema = 'bronze' GROUP BY 1 ORDER BY 1",
    )
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn each_type_of_event_has_a_table_with_its_own_columns() -> Result<(), Failure> {
    let fixture = Fixture::new(1).await?;
    let client = fixture.client().await?;
    fixture.produce(&[
        r#"{"event_type":"order-created","id":1,"value":10}"#,
        r#"{"event_type":"Login","user":"ann","value":"web"}"#,
        r#"{"event_type":"order-created","id":2,"value":"many"}"#,
        r#"{"id":3}"#,
        r#"{"event_type":"","id":4}"#,
        r#"{"event_type":"?!","id":5}"#,
        r#"{"event_type":"order created","id":6}"#,
        "{broken",
        "null",
    ])?;
    let topic = &fixture.topic;
    let sql = format!(
        "CREATE PIPELINE p FROM KAFKA events TOPICS ('{topic}') FORMAT JSON INCLUDE (offset) INTO SCHEMA bronze BY event_type \
         SCHEDULE ON DEMAND"
    );
    rows(&client, &sql).await?;
    rows(&client, "RUN PIPELINE p").await?;
    assert_eq!(
        columns(&client).await?,
        [
            "login|event_type text, user text, value text, _rescued json, _offset bigint",
            "order_created|event_type text, id bigint, value text, _rescued json, _offset bigint",
        ]
    );
    let found = rows(
        &client,
        "SELECT event_type, id, value, _offset FROM bronze.order_created ORDER BY id",
    )
    .await?;
    assert_eq!(found, ["order-created|1|10|0", "order-created|2|many|2"]);
    let aside = rows(
        &client,
        "SELECT message_offset, sqlstate, reason FROM system.quarantine WHERE reason LIKE '%event_type%' ORDER BY 1",
    )
    .await?;
    assert_eq!(
        aside,
        [
            "3|23502|column \"event_type\", which names the table, has no value",
            "4|23502|column \"event_type\", which names the table, has no value",
            "5|22P02|\"?!\" in column \"event_type\" names no table: it has neither a letter nor a digit",
            "6|42P07|\"order created\" in column \"event_type\" names the table order_created, as \"order-created\" does that came first",
        ]
    );
    assert_eq!(
        value(
            &client,
            "SELECT rows_in, rows_out, rows_quarantined FROM system.pipeline_runs"
        )
        .await?,
        "9|3|6"
    );
    // A table grows by its own messages only, and keeps its types.
    fixture.produce(&[
        r#"{"event_type":"Login","user":"bo","ip":"10.0.0.1"}"#,
        r#"{"event_type":"order-created","id":"seven","value":3}"#,
    ])?;
    rows(&client, "RUN PIPELINE p").await?;
    assert_eq!(
        rows(&client, "SELECT \"user\", ip FROM bronze.login ORDER BY 1").await?,
        ["ann|∅", "bo|10.0.0.1"]
    );
    assert_eq!(
        rows(
            &client,
            "SELECT value, _rescued FROM bronze.order_created WHERE id IS NULL"
        )
        .await?,
        ["3|{\"id\":\"seven\"}"]
    );
    let lag = rows(
        &client,
        "SELECT source, schema_name, table_name, state FROM system.pipeline_lag ORDER BY table_name",
    )
    .await?;
    assert_eq!(
        lag,
        [
            "Login|bronze|login|streaming".to_owned(),
            "order-created|bronze|order_created|streaming".to_owned(),
            format!("{topic}/0|∅|∅|streaming"),
        ]
    );
    // What named no table does once it is corrected.
    rows(
        &client,
        "REPLAY QUARANTINE p SET event_type = 'order-created' WHERE id IN (3, 6)",
    )
    .await?;
    rows(
        &client,
        "REPLAY QUARANTINE p SET event_type = 'refund' WHERE id = 5",
    )
    .await?;
    assert_eq!(
        rows(
            &client,
            "SELECT id FROM bronze.order_created WHERE id > 2 ORDER BY 1"
        )
        .await?,
        ["3", "6"]
    );
    assert_eq!(
        rows(&client, "SELECT event_type, id, _offset FROM bronze.refund").await?,
        ["refund|5|5"]
    );
    assert_eq!(
        value(
            &client,
            "SELECT count(*) FROM system.quarantine WHERE replayed_at IS NULL"
        )
        .await?,
        "3"
    );
    // Nothing is left to read.
    fixture.produce(&[r#"{"event_type":"refund","id":9}"#])?;
    rows(&client, "RUN PIPELINE p").await?;
    assert_eq!(
        value(&client, "SELECT count(*) FROM bronze.refund").await?,
        "2"
    );
    assert_eq!(
        value(&client, "SELECT count(*) FROM bronze.order_created").await?,
        "5"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_that_is_replaced_goes_on_in_its_tables() -> Result<(), Failure> {
    let fixture = Fixture::new(1).await?;
    let client = fixture.client().await?;
    let topic = &fixture.topic;
    let create = |rest: &str| {
        format!(
            "CREATE OR REPLACE PIPELINE p FROM KAFKA events TOPICS ('{topic}') FORMAT JSON {rest} SCHEDULE ON DEMAND"
        )
    };
    fixture.produce(&[
        r#"{"kind":"Big Sale","id":1}"#,
        r#"{"kind":"big-sale","id":2}"#,
    ])?;
    rows(&client, &create("INTO SCHEMA bronze BY kind")).await?;
    rows(&client, "RUN PIPELINE p").await?;
    // The query makes the values one; it takes the name over, and what waited goes there.
    let mended = create(
        "INTO SCHEMA bronze BY kind AS SELECT replace(lower(kind), ' ', '-') AS kind, id FROM source",
    );
    rows(&client, &mended).await?;
    fixture.produce(&[r#"{"kind":"BIG SALE","id":3}"#])?;
    rows(&client, "RUN PIPELINE p").await?;
    rows(&client, "REPLAY QUARANTINE p").await?;
    assert_eq!(
        rows(&client, "SELECT kind, id FROM bronze.big_sale ORDER BY id").await?,
        ["Big Sale|1", "big-sale|2", "big-sale|3"]
    );
    // Tables of another schema are others, and are filled from where the first run began.
    rows(&client, "CREATE SCHEMA silver").await?;
    rows(&client, &create("INTO SCHEMA silver BY kind")).await?;
    rows(&client, "RUN PIPELINE p").await?;
    assert_eq!(
        rows(&client, "SELECT kind, id FROM silver.big_sale").await?,
        ["Big Sale|1"]
    );
    let lag = "SELECT source, schema_name FROM system.pipeline_lag WHERE table_name IS NOT NULL";
    assert_eq!(rows(&client, lag).await?, ["Big Sale|silver"]);
    // So is one table.
    rows(&client, &create("INTO one")).await?;
    rows(&client, "RUN PIPELINE p").await?;
    assert_eq!(value(&client, "SELECT count(*) FROM one").await?, "3");
    assert_eq!(rows(&client, lag).await?, [format!("{topic}/0|public")]);
    rows(&client, "DROP PIPELINE p").await?;
    assert_eq!(
        value(&client, "SELECT count(*) FROM system.pipeline_lag").await?,
        "0"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_query_names_the_tables_and_rules_keep_values_out() -> Result<(), Failure> {
    let fixture = Fixture::new(2).await?;
    let client = fixture.client().await?;
    fixture.produce(&[
        r#"{"kind":"ORDER","id":1,"amount":5,"who":"a"}"#,
        r#"{"kind":"login","id":2,"who":"b"}"#,
        r#"{"kind":"ORDER","id":3,"amount":-1,"who":"c"}"#,
        r#"{"kind":"junk1","id":4,"who":"d"}"#,
        r#"{"kind":"order","id":0,"amount":7,"who":"e"}"#,
    ])?;
    let topic = &fixture.topic;
    rows(
        &client,
        &format!(
            "CREATE PIPELINE p FROM KAFKA events TOPICS ('{topic}') FORMAT JSON INTO SCHEMA bronze BY event \
             AS SELECT lower(kind) AS event, id, amount, upper(who) AS name FROM source WHERE id > 0 \
             EXPECT known CHECK (event NOT LIKE 'junk%') ON VIOLATION QUARANTINE \
             EXPECT positive CHECK (amount > 0) ON VIOLATION QUARANTINE \
             SCHEDULE ON DEMAND WITH (tables_max = 3)"
        ),
    )
    .await?;
    rows(&client, "RUN PIPELINE p").await?;
    assert_eq!(
        columns(&client).await?,
        [
            "login|event text, id bigint, name text, _rescued json",
            "order|event text, id bigint, amount bigint, name text, _rescued json",
        ]
    );
    assert_eq!(
        rows(
            &client,
            "SELECT event, id, amount, name FROM bronze.\"order\""
        )
        .await?,
        ["order|1|5|A"]
    );
    assert_eq!(
        rows(
            &client,
            "SELECT rule, reason FROM system.quarantine ORDER BY 1"
        )
        .await?,
        [
            "known|row violates expectation \"known\"",
            "positive|row violates expectation \"positive\"",
        ]
    );
    // Values that a rule keeps out are no tables; a fourth is one too many.
    let mut more: Vec<String> = (0..20)
        .map(|number| format!("{{\"kind\":\"junk{number}\",\"id\":1{number},\"who\":\"x\"}}"))
        .collect();
    more.push(r#"{"kind":"third","id":50,"who":"y"}"#.to_owned());
    fixture.produce_all(&more)?;
    rows(&client, "RUN PIPELINE p").await?;
    assert_eq!(
        value(&client, "SELECT id, name FROM bronze.third").await?,
        "50|Y"
    );
    fixture.produce(&[
        r#"{"kind":"fourth","id":60,"who":"z"}"#,
        r#"{"kind":"login","id":61,"who":"z"}"#,
    ])?;
    rows(&client, "RUN PIPELINE p").await?;
    assert_eq!(
        rows(
            &client,
            "SELECT sqlstate, reason FROM system.quarantine WHERE reason LIKE '%\"fourth\"%'"
        )
        .await?,
        [
            "54000|the pipeline fills 3 tables, and \"fourth\" in column \"event\" would make one more: raise tables_max"
        ]
    );
    assert_eq!(
        value(&client, "SELECT count(*) FROM bronze.login").await?,
        "2"
    );
    rows(&client, "ALTER PIPELINE p SET (tables_max = 10)").await?;
    rows(&client, "REPLAY QUARANTINE p WHERE id = 60").await?;
    assert_eq!(
        value(&client, "SELECT id, name FROM bronze.fourth").await?,
        "60|Z"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_that_come_later_are_rescued_or_stop_the_pipeline_where_it_says_so()
-> Result<(), Failure> {
    let fixture = Fixture::new(1).await?;
    let client = fixture.client().await?;
    let topic = &fixture.topic;
    let create = |policy: &str| {
        format!(
            "CREATE OR REPLACE PIPELINE p FROM KAFKA events TOPICS ('{topic}') FORMAT JSON INTO SCHEMA bronze BY kind \
             EXPECT small CHECK (size < 10) ON VIOLATION QUARANTINE ON SCHEMA CHANGE {policy} SCHEDULE ON DEMAND"
        )
    };
    fixture.produce(&[
        r#"{"kind":"box","size":1}"#,
        r#"{"kind":"box","size":11}"#,
        r#"{"kind":"note","text":"x"}"#,
    ])?;
    rows(&client, &create("RESCUE")).await?;
    let shown = rows(&client, "TEST PIPELINE p LIMIT 1").await?;
    assert_eq!(shown, ["box|1|∅|∅"]);
    rows(&client, "RUN PIPELINE p").await?;
    assert_eq!(
        columns(&client).await?,
        [
            "box|kind text, size bigint, _rescued json",
            "note|kind text, text text, _rescued json",
        ]
    );
    assert_eq!(
        rows(&client, "SELECT message FROM system.pipeline_errors").await?,
        [
            "expectation \"small\" is not asked of rows of table note: column \"size\" does not exist"
        ]
    );
    fixture.produce(&[r#"{"kind":"box","size":2,"lid":true}"#])?;
    rows(&client, "RUN PIPELINE p").await?;
    assert_eq!(
        rows(&client, "SELECT size, _rescued FROM bronze.box ORDER BY 1").await?,
        ["1|∅", "2|{\"lid\":true}"]
    );
    rows(&client, &create("FAIL")).await?;
    fixture.produce(&[
        r#"{"kind":"note","text":"y"}"#,
        r#"{"kind":"box","size":3,"lid":true}"#,
    ])?;
    let found = failure(&client, "RUN PIPELINE p").await;
    assert!(
        found.starts_with("42703: messages of \"box\" have new columns: \"lid\""),
        "{found}"
    );
    assert_eq!(
        value(&client, "SELECT count(*) FROM bronze.note").await?,
        "1",
        "nothing of the batch was taken"
    );
    rows(&client, &create("ADD COLUMNS")).await?;
    rows(&client, "RUN PIPELINE p").await?;
    assert_eq!(
        rows(&client, "SELECT size, lid FROM bronze.box ORDER BY 1").await?,
        ["1|∅", "2|∅", "3|t"]
    );
    assert_eq!(
        value(&client, "SELECT count(*) FROM bronze.note").await?,
        "2"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_there_is_written_to_as_one_target_would_be() -> Result<(), Failure> {
    let fixture = Fixture::new(1).await?;
    let client = fixture.client().await?;
    rows(
        &client,
        "CREATE TABLE bronze.paid (id bigint, sum numeric(12,2), note text, CHECK (sum < 100))",
    )
    .await?;
    rows(
        &client,
        "INSERT INTO bronze.paid VALUES (0, 1.50, 'by hand')",
    )
    .await?;
    fixture.produce(&[
        r#"{"kind":"paid","id":1,"sum":2.25}"#,
        r#"{"kind":"paid","id":2,"sum":200}"#,
    ])?;
    let topic = &fixture.topic;
    rows(
        &client,
        &format!(
            "CREATE PIPELINE p FROM KAFKA events TOPICS ('{topic}') FORMAT JSON COLUMNS (kind text, id bigint, sum numeric(12,2), spare text) \
             INTO SCHEMA bronze BY kind SCHEDULE ON DEMAND"
        ),
    )
    .await?;
    rows(&client, "RUN PIPELINE p").await?;
    assert_eq!(
        columns(&client).await?,
        ["paid|id bigint, sum numeric, note text, kind text, _rescued json"]
    );
    assert_eq!(
        rows(
            &client,
            "SELECT id, sum, note, kind FROM bronze.paid ORDER BY id"
        )
        .await?,
        ["0|1.50|by hand|∅", "1|2.25|∅|paid"]
    );
    assert_eq!(
        value(&client, "SELECT sqlstate FROM system.quarantine").await?,
        "23514"
    );
    // One that was dropped is made anew with what comes then.
    rows(&client, "DROP TABLE bronze.paid").await?;
    fixture.produce(&[r#"{"kind":"paid","id":3,"sum":1}"#])?;
    rows(&client, "RUN PIPELINE p").await?;
    assert_eq!(
        rows(&client, "SELECT id, sum FROM bronze.paid").await?,
        ["3|1.00"]
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_makes_no_sense_is_refused() -> Result<(), Failure> {
    let fixture = Fixture::new(1).await?;
    let client = fixture.client().await?;
    let topic = &fixture.topic;
    let create =
        |rest: &str| format!("CREATE PIPELINE p FROM KAFKA events TOPICS ('{topic}') {rest}");
    for (rest, expected) in [
        (
            "FORMAT JSON INTO SCHEMA bronze",
            "42601: INTO SCHEMA of a pipeline FROM KAFKA needs BY",
        ),
        (
            "FORMAT JSON INTO SCHEMA silver BY kind",
            "3F000: schema \"silver\" does not exist",
        ),
        (
            "FORMAT DEBEZIUM INTO SCHEMA bronze BY kind",
            "0A000: INTO SCHEMA ... BY of messages that say which rows come and go",
        ),
        (
            "FORMAT UPSERT INTO SCHEMA bronze BY kind",
            "0A000: INTO SCHEMA ... BY of messages that say which rows come and go",
        ),
        (
            "FORMAT JSON COLUMNS (id int) INTO SCHEMA bronze BY kind",
            "42703: column \"kind\" named in BY does not exist",
        ),
        (
            "FORMAT JSON COLUMNS (id int, kind text) INTO SCHEMA bronze BY kind AS SELECT kind, count(*) AS n FROM source GROUP BY 1",
            "0A000: a query that aggregates",
        ),
        (
            "FORMAT JSON INTO t WITH (tables_max = 3)",
            "22023: option \"tables_max\" is for INTO SCHEMA ... BY",
        ),
    ] {
        let found = failure(&client, &create(rest)).await;
        assert!(found.starts_with(expected), "{rest}: {found}");
    }
    rows(&client, "CREATE ROLE ann LOGIN PASSWORD 'a-long-password'").await?;
    rows(&client, "GRANT USAGE ON CONNECTION events TO ann").await?;
    let ann = fixture.server.connect_as("ann", "a-long-password").await?;
    let found = failure(
        &ann,
        &create("FORMAT JSON INTO SCHEMA bronze BY kind SCHEDULE ON DEMAND"),
    )
    .await;
    assert!(
        found.contains("42501: permission denied for schema bronze"),
        "{found}"
    );
    let text = create("FORMAT JSON INTO SCHEMA bronze BY \"Kind\" SCHEDULE ON DEMAND");
    rows(&client, &text).await?;
    let shown = value(&client, "SHOW CREATE PIPELINE p").await?;
    assert!(shown.contains("INTO SCHEMA bronze BY \"Kind\""), "{shown}");
    let found = failure(&client, "RUN PIPELINE p FULL REFRESH").await;
    assert!(found.starts_with("0A000"), "{found}");
    rows(&client, "DROP PIPELINE p").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_set_aside_is_sent_to_its_topic_or_stops_the_pipeline() -> Result<(), Failure> {
    let fixture = Fixture::new(1).await?;
    let client = fixture.client().await?;
    let topic = &fixture.topic;
    let letters = format!("{topic}-letters");
    fixture.broker.create_topic(&letters, 1, &[]).await?;
    fixture.produce(&[
        r#"{"kind":"a","id":1}"#,
        r#"{"id":2}"#,
        r#"{"kind":"a","id":-3}"#,
    ])?;
    let create = |rest: &str| {
        format!(
            "CREATE OR REPLACE PIPELINE p FROM KAFKA events TOPICS ('{topic}') FORMAT JSON INTO SCHEMA bronze BY kind \
             EXPECT positive CHECK (id > 0) ON VIOLATION QUARANTINE {rest}"
        )
    };
    rows(&client, &create("ON ERROR STOP SCHEDULE ON DEMAND")).await?;
    let found = failure(&client, "RUN PIPELINE p").await;
    assert!(
        found.starts_with("22000: the pipeline stopped at a message that could not be taken"),
        "{found}"
    );
    assert_eq!(
        columns(&client).await?,
        Vec::<String>::new(),
        "nothing of the batch was taken"
    );
    rows(
        &client,
        &create("SCHEDULE ON DEMAND WITH (rejected_max = 1)"),
    )
    .await?;
    let found = failure(&client, "RUN PIPELINE p").await;
    assert!(
        found.starts_with("22000: more than 1 messages of one commit could not be taken"),
        "{found}"
    );
    let with = format!("SCHEDULE ON DEMAND WITH (dead_letter_topic = '{letters}')");
    rows(&client, &create(&with)).await?;
    rows(&client, "RUN PIPELINE p").await?;
    assert_eq!(rows(&client, "SELECT id FROM bronze.a").await?, ["1"]);
    let letters = fixture.broker.receive(&letters, 1)?;
    let mut told: Vec<String> = letters
        .iter()
        .map(|letter| {
            let (at, state) = (
                letter.header("boathouse-offset"),
                letter.header("boathouse-sqlstate"),
            );
            format!("{at} {state}")
        })
        .collect();
    told.sort();
    assert_eq!(told, ["1 23502", "2 23514"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_included_names_tables_too_and_topics_may_be_many() -> Result<(), Failure> {
    let fixture = Fixture::new(1).await?;
    let client = fixture.client().await?;
    let topic = &fixture.topic;
    for place in ["North", "south-2"] {
        let name = format!("{topic}.{place}");
        fixture.broker.create_topic(&name, 1, &[]).await?;
        let payload = format!("{{\"at\":\"{place}\"}}");
        fixture
            .broker
            .produce(&name, [Sent::new(payload.as_bytes())])?;
    }
    rows(
        &client,
        &format!(
            "CREATE PIPELINE p FROM KAFKA events TOPICS ('{topic}[.].*') FORMAT TEXT INCLUDE (topic) INTO SCHEMA bronze BY place \
             AS SELECT split_part(_topic, '.', 2) AS place, payload FROM source WITH (target_lag = '100 ms', discover = '500 ms')"
        ),
    )
    .await?;
    wait_for(
        &client,
        "SELECT place, payload FROM bronze.north UNION ALL SELECT place, payload FROM bronze.south_2 ORDER BY 1",
        "North|{\"at\":\"North\"};south-2|{\"at\":\"south-2\"}",
    )
    .await?;
    // A topic that comes later is a table that comes later.
    let name = format!("{topic}.west");
    fixture.broker.create_topic(&name, 1, &[]).await?;
    fixture.broker.produce(&name, [Sent::new(b"w")])?;
    wait_for(&client, "SELECT payload FROM bronze.west", "w").await?;
    wait_for(
        &client,
        "SELECT count(*), max(seconds_behind) FROM system.pipeline_lag",
        "6|0",
    )
    .await?;
    // One that is dropped while it runs is made again.
    rows(&client, "DROP TABLE bronze.west").await?;
    fixture.broker.produce(&name, [Sent::new(b"again")])?;
    wait_for(&client, "SELECT payload FROM bronze.west", "again").await?;
    Ok(())
}

/// The types of events, and how many of each.
const KINDS: usize = 7;

/// A message of one of the types, in an order that mixes them.
fn event(number: usize) -> String {
    match number % 50 {
        17 => format!("{{\"id\":{number}}}"),
        33 => format!("{{\"kind\":\"k0\",\"id\":{number},\"bad\":true}}"),
        _ => {
            let kind = kind_of(number);
            format!("{{\"kind\":\"k{kind}\",\"id\":{number},\"only_k{kind}\":\"v{number}\"}}")
        }
    }
}

fn kind_of(number: usize) -> usize {
    (number * 31 + number / 7) % KINDS
}

/// Rows and sum of numbers by type, counted without any of what is tested; and how many are set aside.
fn expected(numbers: std::ops::Range<usize>) -> (BTreeMap<String, (usize, usize)>, usize) {
    let mut all = BTreeMap::new();
    let mut aside = 0;
    for number in numbers {
        if matches!(number % 50, 17 | 33) {
            aside += 1;
            continue;
        }
        let one: &mut (usize, usize) = all.entry(format!("k{}", kind_of(number))).or_default();
        one.0 += 1;
        one.1 += number;
    }
    (all, aside)
}

const EVENTS: &str = "FORMAT JSON INTO SCHEMA bronze BY kind EXPECT good CHECK (bad IS NOT true) ON VIOLATION QUARANTINE";

async fn verify(client: &Client, written: usize, context: &str) -> Result<(), Failure> {
    let (tables, aside) = expected(0..written);
    for (table, (count, sum)) in &tables {
        let found = value(
            client,
            &format!("SELECT count(*), count(DISTINCT id), sum(id), count(only_{table}), min(kind), max(kind) FROM bronze.{table}"),
        )
        .await?;
        assert_eq!(
            found,
            format!("{count}|{count}|{sum}|{count}|{table}|{table}"),
            "{context}: {table}"
        );
    }
    let found = value(
        client,
        "SELECT count(*), count(DISTINCT 1000000::bigint * partition_number + message_offset) FROM system.quarantine",
    )
    .await?;
    assert_eq!(found, format!("{aside}|{aside}"), "{context}");
    Ok(())
}

/// Kills the server where a failpoint says, starts another, and lets it finish.
async fn survives(failpoint: &str) -> Result<(), Failure> {
    let mut fixture = Fixture::new(3).await?;
    let topic = fixture.topic.clone();
    {
        let client = fixture.client().await?;
        rows(
            &client,
            &format!(
                "CREATE PIPELINE p FROM KAFKA events TOPICS ('{topic}') {EVENTS} SCHEDULE ON DEMAND WITH (batch_rows = 400)"
            ),
        )
        .await?;
    }
    fixture.produce_all(&(0..2000).map(event).collect::<Vec<_>>())?;
    let client = fixture.arm(failpoint).await?;
    let died = client.simple_query("RUN PIPELINE p").await.is_err();
    assert!(died, "{failpoint} was not passed");
    let client = fixture.restart().await?;
    fixture.produce_all(&(2000..2100).map(event).collect::<Vec<_>>())?;
    rows(&client, "RUN PIPELINE p").await?;
    verify(&client, 2100, failpoint).await?;
    rows(&client, "RUN PIPELINE p").await?;
    verify(&client, 2100, failpoint).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_between_the_commits_of_two_tables_loses_and_doubles_nothing() -> Result<(), Failure>
{
    for failpoints in [
        ["kafka_written:2", "after_prepare:1", "after_prepare:3"],
        // Of the first batch, and of one that finds tables of before.
        [
            "kafka_table_committed:1",
            "kafka_table_committed:3",
            "kafka_table_committed:17",
        ],
        ["before_commit:12", "after_commit:12", "after_resolve:2"],
    ] {
        futures::future::try_join_all(failpoints.map(survives)).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_while_a_batch_is_completed_loses_and_doubles_nothing() -> Result<(), Failure> {
    let mut fixture = Fixture::new(2).await?;
    let topic = fixture.topic.clone();
    {
        let client = fixture.client().await?;
        rows(
            &client,
            &format!(
                "CREATE PIPELINE p FROM KAFKA events TOPICS ('{topic}') {EVENTS} SCHEDULE ON DEMAND WITH (batch_rows = 500)"
            ),
        )
        .await?;
    }
    fixture.produce_all(&(0..1500).map(event).collect::<Vec<_>>())?;
    for failpoint in [
        "kafka_table_committed:9",
        "kafka_table_committed:2",
        "kafka_redone",
    ] {
        let client = fixture.arm(failpoint).await?;
        let died = client.simple_query("RUN PIPELINE p").await.is_err();
        assert!(died, "{failpoint} was not passed");
        fixture.server.wait()?;
    }
    let client = fixture.restart().await?;
    rows(&client, "RUN PIPELINE p").await?;
    verify(&client, 1500, "at last").await
}

/// Kills at any moment a server that goes on by itself while messages come.
#[tokio::test(flavor = "multi_thread")]
async fn kills_at_any_moment_lose_and_double_nothing() -> Result<(), Failure> {
    let mut fixture = Fixture::new(4).await?;
    let topic = fixture.topic.clone();
    {
        let client = fixture.client().await?;
        rows(
            &client,
            &format!(
                "CREATE PIPELINE p FROM KAFKA events TOPICS ('{topic}') {EVENTS} WITH (target_lag = '50 ms')"
            ),
        )
        .await?;
    }
    let kills: usize =
        std::env::var("BOATHOUSE_TEST_KILLS").map_or(Ok(6), |kills| kills.parse())?;
    let mut written = 0;
    for _ in 0..kills {
        let until = Instant::now() + Duration::from_millis(rand::random_range(500..2500));
        while Instant::now() < until {
            fixture.produce_all(&(written..written + 100).map(event).collect::<Vec<_>>())?;
            written += 100;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        fixture.server.kill()?;
        fixture.server = Server::start(&fixture.lake).await?;
    }
    let client = fixture.client().await?;
    wait_for(
        &client,
        "SELECT sum(messages_behind), count(*) FROM system.pipeline_lag WHERE messages_behind IS NOT NULL",
        "0|4",
    )
    .await?;
    verify(&client, written, "after the last kill").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_without_new_rows_holds_nothing_back() -> Result<(), Failure> {
    let fixture = Fixture::new(1).await?;
    let client = fixture.client().await?;
    let topic = &fixture.topic;
    rows(
        &client,
        &format!(
            "CREATE PIPELINE p FROM KAFKA events TOPICS ('{topic}') FORMAT JSON INTO SCHEMA bronze BY kind SCHEDULE ON DEMAND"
        ),
    )
    .await?;
    fixture.produce(&[r#"{"kind":"rare","id":0}"#])?;
    rows(&client, "RUN PIPELINE p").await?;
    let often: Vec<String> = (1..100)
        .map(|number| format!("{{\"kind\":\"often\",\"id\":{number}}}"))
        .collect();
    fixture.produce_all(&often)?;
    rows(&client, "RUN PIPELINE p").await?;
    // What the quiet table's own marks would ask for is gone.
    fixture.broker.delete_below(topic, 0, 100).await?;
    fixture.produce(&[r#"{"kind":"rare","id":100}"#])?;
    rows(&client, "RUN PIPELINE p").await?;
    assert_eq!(
        value(&client, "SELECT count(*), max(id) FROM bronze.rare").await?,
        "2|100"
    );
    assert_eq!(
        value(&client, "SELECT count(*) FROM bronze.often").await?,
        "99"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn many_types_make_one_file_each_a_commit() -> Result<(), Failure> {
    let fixture = Fixture::new(2).await?;
    let client = fixture.client().await?;
    let topic = &fixture.topic;
    let types = 60;
    let events: Vec<String> = (0..types * 50)
        .map(|number| {
            let kind = number % types;
            format!("{{\"kind\":\"type {kind}\",\"id\":{number},\"of_{kind}\":{number}}}")
        })
        .collect();
    fixture.produce_all(&events)?;
    rows(
        &client,
        &format!(
            "CREATE PIPELINE p FROM KAFKA events TOPICS ('{topic}') FORMAT JSON INTO SCHEMA bronze BY kind \
             SCHEDULE ON DEMAND WITH (target_lag = '1 minute')"
        ),
    )
    .await?;
    rows(&client, "RUN PIPELINE p").await?;
    let counted = value(
        &client,
        "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'bronze'",
    )
    .await?;
    assert_eq!(counted, types.to_string());
    for kind in [0, 31, 59] {
        let found = value(
            &client,
            &format!("SELECT count(*), count(of_{kind}), min(id) FROM bronze.type_{kind}"),
        )
        .await?;
        assert_eq!(found, format!("50|50|{kind}"));
    }
    let writes = value(
        &client,
        "SELECT count(*), max(version) FROM system.table_history WHERE table_name = 'type_31' AND operation = 'WRITE'",
    )
    .await?;
    assert_eq!(writes, "1|1");
    Ok(())
}
