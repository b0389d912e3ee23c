//! MySQL and MariaDB as sources, both real.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use boathouse_tests::mysql::{Flavor, Source, SourceClient};
use boathouse_tests::{Failure, Server, lake_folder, rows, service};

/// The servers that every test runs against.
fn servers() -> Result<Vec<(&'static str, BTreeMap<String, String>)>, Failure> {
    Ok(vec![
        ("mysql", service::mysql()?),
        ("mariadb", service::mariadb()?),
    ])
}

fn connection(name: &str, at: &BTreeMap<String, String>, more: &str) -> String {
    format!(
        "CREATE CONNECTION {name} TO MYSQL WITH (host = '{}', port = {}, user = '{}', password = '{}'{more})",
        at["HOST"], at["PORT"], at["USER"], at["PASSWORD"]
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_is_checked_step_by_step() -> Result<(), Failure> {
    let (_folder, lake) = lake_folder()?;
    let server = Server::start(&lake).await?;
    let client = server.connect().await?;
    for (name, at) in servers()? {
        client.batch_execute(&connection(name, &at, "")).await?;
        let checks = rows(&client, &format!("CHECK CONNECTION {name}")).await?;
        let failed: Vec<&String> = checks.iter().filter(|row| !row.contains("|ok|")).collect();
        assert!(failed.is_empty(), "{name}: {failed:?}");
        for step in [
            "connect",
            "format",
            "row image",
            "row metadata",
            "grants",
            "read binlog",
        ] {
            let found = checks
                .iter()
                .any(|row| row.starts_with(&format!("{step}|")));
            assert!(found, "{name} has no step {step}: {checks:?}");
        }
        // Over TLS, whoever signed the certificate.
        let secure = format!("{name}_tls");
        if name == "mysql" {
            client
                .batch_execute(&connection(&secure, &at, ", tls = 'require'"))
                .await?;
            let checks = rows(&client, &format!("CHECK CONNECTION {secure}")).await?;
            assert!(
                checks.iter().any(|row| row.starts_with("tls|ok|TLS")),
                "{checks:?}"
            );
        }
        // What nobody signed whom we trust is not trusted.
        let verified = format!("{name}_verified");
        client
            .batch_execute(&connection(&verified, &at, ", tls = 'verify-full'"))
            .await?;
        let checks = rows(&client, &format!("CHECK CONNECTION {verified}")).await?;
        assert!(checks[0].starts_with("connect|failed|"), "{checks:?}");
    }
    let wrong =
        connection("wrong", &service::mysql()?, "").replace("password = '", "password = 'x");
    client.batch_execute(&wrong).await?;
    let checks = rows(&client, "CHECK CONNECTION wrong").await?;
    assert!(
        checks[0].starts_with("connect|failed|") && checks[0].contains("Access denied"),
        "{checks:?}"
    );
    let error = client
        .batch_execute("CREATE CONNECTION c TO MYSQL WITH (host = 'h', user = 'u', tls = 'maybe')")
        .await
        .unwrap_err();
    assert_eq!(error.code().map(|code| code.code()), Some("22023"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn how_far_a_pipeline_is_can_be_asked() -> Result<(), Failure> {
    for flavor in [Flavor::MySql, Flavor::MariaDb] {
        let source = Source::shared(flavor)?;
        let database = format!("lag_{}", uuid::Uuid::new_v4().simple());
        let mut session = source.client().await?;
        session
            .execute(&format!(
                "CREATE DATABASE {database}; \
                 CREATE TABLE {database}.orders (id INT PRIMARY KEY, note TEXT); \
                 INSERT INTO {database}.orders VALUES (1, 'a'), (2, 'b')"
            ))
            .await?;
        let checked = lag_of(&source, &mut session, &database).await;
        session
            .execute(&format!("DROP DATABASE {database}"))
            .await?;
        checked.map_err(|error| format!("{}: {error}", flavor.name()))?;
    }
    Ok(())
}

async fn lag_of(
    source: &Source,
    session: &mut SourceClient,
    database: &str,
) -> Result<(), Failure> {
    let (_folder, lake) = lake_folder()?;
    let server = Server::start(&lake).await?;
    let client = server.connect().await?;
    client
        .batch_execute(&format!(
            "CREATE SCHEMA bronze; {}; \
             CREATE PIPELINE p FROM MYSQL source TABLES ('{database}.%') INTO SCHEMA bronze; \
             CREATE ROLE stranger LOGIN PASSWORD 'stranger'; \
             CREATE ROLE watcher LOGIN PASSWORD 'watcher' IN ROLE pg_monitor",
            source.create_connection("source")
        ))
        .await?;
    let name = format!("{database}.orders");
    let streams = "state = 'streaming' AND seconds_behind = 0 AND bytes_behind = 0";
    wait_for(&client, &format!("{streams} AND snapshot_rows = 2")).await?;
    session
        .execute(&format!(
            "INSERT INTO {name} VALUES (3, 'c'); UPDATE {name} SET note = 'd'"
        ))
        .await?;
    wait_for(&client, &format!("{streams} AND changes = 4")).await?;
    let shown = "SELECT pipeline, source, schema_name, table_name, state, snapshot_rows, changes, \
                 position LIKE '%.%:%' AS placed, committed_at > now() - INTERVAL '1 hour' AS recent \
                 FROM system.pipeline_lag";
    assert_eq!(
        rows(&client, shown).await?,
        [format!("p|{name}|bronze|orders|streaming|2|4|t|t")]
    );

    // Whoever may not see the pipeline sees nothing of it.
    let count = "SELECT count(*) FROM system.pipeline_lag";
    let stranger = server.connect_as("stranger", "stranger").await?;
    assert_eq!(rows(&stranger, count).await?, ["0"]);
    let watcher = server.connect_as("watcher", "watcher").await?;
    assert_eq!(rows(&watcher, count).await?, ["1"]);

    let metrics = metrics_of(&server)?;
    for line in [
        "boathouse_capture_seconds_behind{pipeline=\"p\"} 0\n",
        "boathouse_capture_bytes_behind{pipeline=\"p\"} 0\n",
        &format!("boathouse_capture_changes_total{{pipeline=\"p\",table=\"{name}\"}} 4\n"),
    ] {
        assert!(metrics.contains(line), "{metrics}");
    }

    // Of a pipeline that stands, what is on record.
    client.batch_execute("ALTER PIPELINE p PAUSE").await?;
    wait_for(&client, "seconds_behind IS NULL AND changes IS NULL").await?;
    assert_eq!(
        rows(&client, shown).await?,
        [format!("p|{name}|bronze|orders|streaming|2|∅|t|t")]
    );
    assert!(!metrics_of(&server)?.contains("{pipeline=\"p\""));
    session.execute(&format!("DROP TABLE {name}")).await?;
    client
        .batch_execute("ALTER PIPELINE p RESUME; RUN PIPELINE p")
        .await?;
    wait_for(&client, "state = 'dropped'").await
}

/// Waits until the relation's one row is so.
async fn wait_for(client: &tokio_postgres::Client, condition: &str) -> Result<(), Failure> {
    let question = format!("SELECT count(*) FROM system.pipeline_lag WHERE {condition}");
    let begun = Instant::now();
    while rows(client, &question).await? != ["1"] {
        if begun.elapsed() > Duration::from_secs(60) {
            let found = rows(client, "SELECT * FROM system.pipeline_lag").await?;
            return Err(format!("not {condition}: {found:?}").into());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

fn metrics_of(server: &Server) -> Result<String, Failure> {
    let mut stream = TcpStream::connect(("127.0.0.1", server.http_port))?;
    write!(stream, "GET /metrics HTTP/1.0\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}
