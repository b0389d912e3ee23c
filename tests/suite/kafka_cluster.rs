//! Pipelines from a cluster of three brokers, one of which is away now and then.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use boathouse_tests::kafka_cluster::{Acknowledged, Cluster, SteadyProducer};
use boathouse_tests::{Failure, Server, lake_folder, rows, value};
use tokio_postgres::Client;

const PARTITIONS: i32 = 6;

/// Waits until the table has more rows than now.
async fn wait_for_more(client: &Client) -> Result<(), Failure> {
    // The pipeline makes the table when the first message comes.
    let count = async || match value(client, "SELECT count(*) FROM t").await {
        Ok(count) => Ok(count.parse::<u64>()?),
        Err(error) if error.to_string().starts_with("42P01") => Ok(0),
        Err(error) => Err(error),
    };
    let before = count().await?;
    let begun = Instant::now();
    while count().await? <= before {
        if begun.elapsed() > Duration::from_secs(30) {
            let told = rows(
                client,
                "SELECT severity, message FROM system.pipeline_errors",
            )
            .await?;
            return Err(format!("the table stays at {before} rows: {told:?}").into());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// Leaders die, come back and lead again, and all brokers are restarted one by one, while messages are written and read.
#[tokio::test(flavor = "multi_thread")]
async fn brokers_that_die_and_are_restarted_lose_and_double_nothing() -> Result<(), Failure> {
    let mut cluster = Cluster::start().await?;
    cluster.create_topic("t", PARTITIONS).await?;
    let (_folder, lake) = lake_folder()?;
    let server = Server::start(&lake).await?;
    let client = server.connect().await?;
    let brokers = cluster.addresses();
    let connect = format!("CREATE CONNECTION events TO KAFKA WITH (brokers = '{brokers}')");
    rows(&client, &connect).await?;
    let create = "CREATE PIPELINE p FROM KAFKA events TOPICS ('t') FORMAT JSON COLUMNS (id bigint NOT NULL) \
                  INCLUDE (partition, offset) INTO t WITH (target_lag = '200 ms')";
    rows(&client, create).await?;
    let producer = SteadyProducer::start(&brokers, "t")?;
    wait_for_more(&client).await?;

    let killed = cluster.leaders("t")?[0].ok_or("partition 0 has no leader")?;
    cluster.node(killed)?.kill()?;
    cluster.wait_until_led_by_others("t", killed).await?;
    wait_for_more(&client).await?;
    cluster.node(killed)?.start().await?;
    cluster.wait_until_in_sync("t").await?;
    cluster.wait_until_leads("t", killed).await?;
    wait_for_more(&client).await?;

    for node in 0..cluster.nodes() {
        cluster.node(node)?.terminate().await?;
        wait_for_more(&client).await?;
        cluster.node(node)?.start().await?;
        cluster.wait_until_in_sync("t").await?;
    }
    wait_for_more(&client).await?;
    let acknowledged = producer.finish()?;

    let consumed: BTreeSet<Acknowledged> = cluster
        .node(0)?
        .receive("t", PARTITIONS)?
        .into_iter()
        .map(|message| {
            let payload = message.payload.unwrap_or_default();
            let number = payload.trim_matches(|one: char| !one.is_ascii_digit());
            Ok(Acknowledged {
                partition: message.partition,
                offset: message.offset,
                number: number.parse()?,
            })
        })
        .collect::<Result<_, Failure>>()?;
    let lost: Vec<&Acknowledged> = acknowledged
        .iter()
        .filter(|one| !consumed.contains(one))
        .collect();
    assert!(lost.is_empty(), "the brokers lost {lost:?}");
    assert!(acknowledged.len() > 1000, "{}", acknowledged.len());

    let expected: Vec<String> = consumed
        .iter()
        .map(|one| format!("{}|{}|{}", one.partition, one.offset, one.number))
        .collect();
    let begun = Instant::now();
    let count = expected.len().to_string();
    while value(&client, "SELECT count(*) FROM t").await? != count
        && begun.elapsed() < Duration::from_secs(30)
    {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let found = "SELECT _partition, _offset, id FROM t ORDER BY _partition, _offset";
    let found = rows(&client, found).await?;
    let first_difference = found
        .iter()
        .zip(&expected)
        .find(|(found, expected)| found != expected);
    assert_eq!(
        (first_difference, found.len()),
        (None, expected.len()),
        "rows of the table, and messages as a consumer of its own sees them"
    );
    // All by the one run, which none of it ended.
    let runs = "SELECT count(*), min(state) FROM system.pipeline_runs";
    assert_eq!(rows(&client, runs).await?, ["1|running"]);
    let set_aside = "SELECT count(*) FROM system.quarantine";
    assert_eq!(value(&client, set_aside).await?, "0");
    Ok(())
}
