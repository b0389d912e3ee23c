//! Secrets that get another value while pipelines run whose connections name them.

use std::time::{Duration, Instant};

use boathouse_tests::kafka::{Broker, Sent};
use boathouse_tests::mysql::{Flavor, Source};
use boathouse_tests::{Failure, Server, lake_folder, rows, service, wait_for};

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_is_replaced_reaches_the_running_pipeline_from_kafka() -> Result<(), Failure>
{
    let broker = Broker::shared()?;
    let at = service::kafka()?;
    let topic = format!("t{}", uuid::Uuid::new_v4().simple());
    broker.create_topic(&topic, 1, &[]).await?;
    let (_folder, lake) = lake_folder()?;
    let server = Server::start(&lake).await?;
    let client = server.connect().await?;
    let right = format!("SECRET word AS '{}'", at["PASSWORD"]);
    rows(&client, &format!("CREATE {right}")).await?;
    let connect = format!(
        "CREATE CONNECTION events TO KAFKA WITH (brokers = '{}', sasl = 'scram-sha-256', user = '{}', password = SECRET word)",
        at["SASL_BROKERS"], at["USER"]
    );
    rows(&client, &connect).await?;
    let create = format!(
        "CREATE PIPELINE p FROM KAFKA events TOPICS ('{topic}') FORMAT JSON COLUMNS (id bigint) INTO t WITH (target_lag = '100 ms')"
    );
    rows(&client, &create).await?;
    broker.produce(&topic, [Sent::new(b"{\"id\":1}")])?;
    wait_for(&client, "SELECT count(*) FROM t", "1").await?;

    // The brokers keep connections that were let in: only a run that logs in anew hears of it.
    rows(&client, "CREATE OR REPLACE SECRET word AS 'another'").await?;
    let refused =
        "SELECT count(*) > 0 FROM system.pipeline_runs WHERE error LIKE '%refused to let in%'";
    wait_for(&client, refused, "t").await?;
    rows(&client, &format!("ALTER {right}")).await?;
    broker.produce(&topic, [Sent::new(b"{\"id\":2}")])?;
    wait_for(&client, "SELECT count(*) FROM t", "2").await?;

    let shown = rows(&client, "SELECT error FROM system.pipeline_runs").await?;
    assert!(!shown.join(";").contains("another"), "{shown:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_is_replaced_reaches_the_running_pipeline_into_kafka() -> Result<(), Failure>
{
    let broker = Broker::shared()?;
    let at = service::kafka()?;
    let topic = format!("t{}", uuid::Uuid::new_v4().simple());
    broker.create_topic(&topic, 1, &[]).await?;
    let (_folder, lake) = lake_folder()?;
    let server = Server::start(&lake).await?;
    let client = server.connect().await?;
    let right = format!("SECRET word AS '{}'", at["PASSWORD"]);
    rows(&client, &format!("CREATE {right}")).await?;
    let connect = format!(
        "CREATE CONNECTION events TO KAFKA WITH (brokers = '{}', sasl = 'plain', user = '{}', password = SECRET word)",
        at["SASL_BROKERS"], at["USER"]
    );
    rows(&client, &connect).await?;
    rows(&client, "CREATE TABLE sold (id bigint PRIMARY KEY)").await?;
    rows(&client, "INSERT INTO sold VALUES (1)").await?;
    let create =
        format!("CREATE PIPELINE p FROM TABLE sold CHANGES INTO KAFKA events TOPIC '{topic}'");
    rows(&client, &create).await?;
    let streaming = "SELECT state FROM system.pipeline_lag";
    wait_for(&client, streaming, "streaming").await?;
    rows(&client, "ALTER SECRET word AS 'another'").await?;
    let refused =
        "SELECT count(*) > 0 FROM system.pipeline_runs WHERE error LIKE '%refused to let in%'";
    wait_for(&client, refused, "t").await?;
    rows(&client, &format!("ALTER {right}")).await?;
    rows(&client, "INSERT INTO sold VALUES (2)").await?;
    let begun = Instant::now();
    while broker.consume(&topic, 1)?.len() < 2 {
        if begun.elapsed() > Duration::from_secs(40) {
            let runs = rows(&client, "SELECT state, error FROM system.pipeline_runs").await?;
            return Err(format!("the second row did not come: {runs:?}").into());
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Ok(())
}

async fn reaches_a_capture(flavor: Flavor) -> Result<(), Failure> {
    let source = Source::shared(flavor)?;
    let name = format!("s{}", &uuid::Uuid::new_v4().simple().to_string()[..12]);
    let mut session = source.client().await?;
    let replication = match flavor {
        Flavor::MySql => "REPLICATION SLAVE, REPLICATION CLIENT",
        Flavor::MariaDb => "REPLICATION SLAVE, BINLOG MONITOR",
    };
    session
        .execute(&format!(
            "CREATE DATABASE {name};
             CREATE TABLE {name}.a (id INT PRIMARY KEY);
             INSERT INTO {name}.a VALUES (1);
             CREATE USER '{name}'@'%' IDENTIFIED BY 'first';
             GRANT {replication} ON *.* TO '{name}'@'%';
             GRANT SELECT ON {name}.* TO '{name}'@'%'"
        ))
        .await?;
    let (_folder, lake) = lake_folder()?;
    let server = Server::start(&lake).await?;
    let client = server.connect().await?;
    rows(&client, "CREATE SECRET word AS 'first'").await?;
    rows(&client, &source.create_connection("shop")).await?;
    let altered = format!("ALTER CONNECTION shop SET (user = '{name}', password = SECRET word)");
    rows(&client, &altered).await?;
    let create =
        format!("CREATE PIPELINE p FROM MYSQL shop TABLES ('{name}.a') INTO SCHEMA public");
    rows(&client, &create).await?;
    wait_for(&client, "SELECT count(*) FROM a", "1").await?;
    wait_for(&client, "SELECT state FROM system.pipeline_runs", "running").await?;

    // The source lets in who is in; the pipeline comes again with the other password.
    let (id, user, command, sessions) = match flavor {
        // MySQL cannot show there what other tests ask with characters beyond three bytes.
        Flavor::MySql => (
            "processlist_id",
            "processlist_user",
            "processlist_command",
            "performance_schema.threads",
        ),
        Flavor::MariaDb => ("id", "user", "command", "information_schema.processlist"),
    };
    let reader = format!(
        "SELECT COALESCE(MAX({id}), 0) FROM {sessions} WHERE {user} = '{name}' AND {command} LIKE 'Binlog Dump%'"
    );
    let mut before = "0".to_owned();
    let begun = Instant::now();
    while before == "0" && begun.elapsed() < Duration::from_secs(30) {
        before = session.value(&reader).await?;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_ne!(before, "0", "nobody reads the binlog");
    session
        .execute(&format!("ALTER USER '{name}'@'%' IDENTIFIED BY 'second'"))
        .await?;
    rows(&client, "CREATE OR REPLACE SECRET word AS 'second'").await?;
    let begun = Instant::now();
    while [before.as_str(), "0"].contains(&session.value(&reader).await?.as_str()) {
        if begun.elapsed() > Duration::from_secs(30) {
            let told = rows(
                &client,
                "SELECT severity, message FROM system.pipeline_errors",
            )
            .await?;
            return Err(format!("the pipeline did not come again: {told:?}").into());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let insert = format!("INSERT INTO {name}.a VALUES (2)");
    session.execute(&insert).await?;
    wait_for(&client, "SELECT count(*) FROM a", "2").await?;
    let failed = "SELECT error FROM system.pipeline_runs WHERE state = 'failed'";
    assert_eq!(rows(&client, failed).await?, Vec::<String>::new());
    rows(&client, "DROP PIPELINE p").await?;
    drop(server);
    session
        .execute(&format!("DROP DATABASE {name}; DROP USER '{name}'@'%'"))
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_is_replaced_reaches_the_running_capture_of_mysql() -> Result<(), Failure> {
    reaches_a_capture(Flavor::MySql).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_is_replaced_reaches_the_running_capture_of_mariadb() -> Result<(), Failure> {
    reaches_a_capture(Flavor::MariaDb).await
}
