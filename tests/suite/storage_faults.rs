//! What the storage does wrong costs time, or is told; it never loses, doubles or half shows a row.
//!
//! The lake is on a real S3 server behind a proxy that breaks chosen requests; the disk that fills up is
//! a small tmpfs.

use std::path::{Path, PathBuf};
use std::process::Command;

use boathouse_tests::fault_proxy::{Fault, FaultProxy};
use boathouse_tests::kafka::{Broker, Sent};
use boathouse_tests::{Failure, Server, ServerOptions, lake_folder, rows, service};
use tempfile::TempDir;
use tokio_postgres::Client;

struct Fixture {
    folder: TempDir,
    proxy: FaultProxy,
    _server: Server,
    client: Client,
    /// Rows given to the table.
    given: i64,
}

impl Fixture {
    async fn start() -> Result<Self, Failure> {
        let s3 = service::s3()?;
        let endpoint = s3.get("ENDPOINT").ok_or("no endpoint")?;
        let upstream = endpoint.trim_start_matches("http://").to_owned();
        let proxy = FaultProxy::start(upstream).await?;
        let folder = tempfile::tempdir()?;
        let lake = format!("s3://{}/{}", s3["BUCKET"], uuid::Uuid::new_v4());
        let catalog = format!("sqlite://{}/catalog.db", folder.path().display());
        let environment = [
            ("CATALOG", catalog),
            ("S3_ENDPOINT", format!("http://127.0.0.1:{}", proxy.port)),
            ("S3_ACCESS_KEY_ID", s3["ACCESS_KEY_ID"].clone()),
            ("S3_SECRET_ACCESS_KEY", s3["SECRET_ACCESS_KEY"].clone()),
            ("S3_ALLOW_HTTP", "true".to_owned()),
        ];
        let server = Server::start_with(
            Path::new(&lake),
            ServerOptions {
                log: Some(folder.path().join("server.log")),
                environment: environment
                    .map(|(name, value)| (format!("BOATHOUSE_{name}"), value))
                    .to_vec(),
                ..ServerOptions::default()
            },
        )
        .await?;
        let client = server.connect().await?;
        let inbox = folder.path().join("inbox");
        std::fs::create_dir(&inbox)?;
        client
            .batch_execute(&format!(
                "CREATE TABLE direct (id bigint);
                 CREATE CONNECTION inbox TO LOCAL WITH (path = '{}');
                 CREATE PIPELINE load FROM FILES inbox '*.csv' FORMAT CSV INTO loaded WITH (settle = '0 s')",
                inbox.display()
            ))
            .await?;
        let mut fixture = Self {
            folder,
            proxy,
            _server: server,
            client,
            given: 0,
        };
        fixture.deliver()?;
        rows(&fixture.client, "RUN PIPELINE load").await?;
        Ok(fixture)
    }

    /// Puts the next file of three rows into the inbox.
    fn deliver(&mut self) -> Result<(), Failure> {
        let text = format!(
            "id\n{}\n{}\n{}\n",
            self.given,
            self.given + 1,
            self.given + 2
        );
        let path: PathBuf = self.folder.path().join(format!("inbox/{}.csv", self.given));
        std::fs::write(path, text)?;
        self.given += 3;
        Ok(())
    }

    /// Every row is in the table once, and in its log once.
    async fn check(&self, table: &str, rows_expected: i64, what: &str) -> Result<(), Failure> {
        let found = rows(
            &self.client,
            &format!("SELECT count(*), count(DISTINCT id) FROM {table}"),
        )
        .await?;
        assert_eq!(
            found,
            [format!("{rows_expected}|{rows_expected}")],
            "{what}: {table}"
        );
        let logged = rows(
            &self.client,
            &format!(
                "SELECT sum(rows_added) FROM system.table_history WHERE table_name = '{table}'"
            ),
        )
        .await?;
        assert_eq!(
            logged,
            [rows_expected.to_string()],
            "{what}: log of {table}"
        );
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_s3_that_fails_loses_and_doubles_nothing() -> Result<(), Failure> {
    let mut fixture = Fixture::start().await?;
    let mut direct = 0;
    for (method, path, fault, times) in [
        ("PUT", "_delta_log/", Fault::StoredThenError, 1),
        ("PUT", "_delta_log/", Fault::StoredThenCut, 1),
        ("PUT", "_delta_log/", Fault::Cut, 2),
        ("PUT", "_delta_log/", Fault::SlowDown, 3),
        ("PUT", ".parquet", Fault::SlowDown, 3),
        ("PUT", ".parquet", Fault::StoredThenError, 1),
        ("PUT", ".parquet", Fault::Cut, 1),
        ("GET", "_delta_log/", Fault::SlowDown, 3),
        ("HEAD", "_delta_log/", Fault::Cut, 2),
    ] {
        let what = format!("{fault:?} on {method} {path}");
        fixture.deliver()?;
        fixture.proxy.inject(method, path, fault, times);
        let ran = rows(&fixture.client, "RUN PIPELINE load").await;
        let broken = fixture.proxy.met();
        fixture.proxy.inject("NONE", "", Fault::Cut, 0);
        // A run that gave up is made good by the next.
        if ran.is_err() {
            rows(&fixture.client, "RUN PIPELINE load").await?;
        }
        fixture.check("loaded", fixture.given, &what).await?;
        assert!(broken > 0 || method == "GET", "{what}: nothing was broken");

        fixture.proxy.inject(method, path, fault, times);
        let inserted = rows(
            &fixture.client,
            &format!("INSERT INTO direct VALUES ({direct}), ({})", direct + 1),
        )
        .await;
        fixture.proxy.inject("NONE", "", Fault::Cut, 0);
        // An INSERT that says it failed has not taken place.
        if inserted.is_ok() {
            direct += 2;
        }
        fixture.check("direct", direct, &what).await?;
    }
    assert!(direct >= 12, "only {direct} rows got through");
    Ok(())
}

/// A table of counters, each statement of which raises some by one.
struct Counters {
    counts: Vec<i64>,
}

impl Counters {
    fn rows(&self) -> Vec<String> {
        let counts = (0..).zip(&self.counts);
        counts.map(|(id, count)| format!("{id}|{count}")).collect()
    }

    /// The table has what the statements that succeeded made of it.
    async fn check(&self, client: &Client, what: &str) -> Result<(), Failure> {
        let found = rows(client, "SELECT id, n FROM counters ORDER BY id").await?;
        assert_eq!(found, self.rows(), "{what}");
        Ok(())
    }

    /// The log tells of each change once.
    async fn check_log(&self, client: &Client) -> Result<(), Failure> {
        let logged = rows(
            client,
            "SELECT id, sum(CASE WHEN _change_type IN ('insert', 'update_postimage') THEN n ELSE -n END)
             FROM table_changes('counters', 0) GROUP BY id ORDER BY id",
        )
        .await?;
        assert_eq!(logged, self.rows());
        let inserted = rows(
            client,
            "SELECT count(*) FROM table_changes('counters', 0)
             WHERE _change_type IN ('insert', 'update_postimage')",
        )
        .await?;
        let changes: i64 = self.counts.iter().map(|count| count + 1).sum();
        assert_eq!(inserted, [changes.to_string()]);
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_changed_once_on_an_s3_that_fails() -> Result<(), Failure> {
    let fixture = Fixture::start().await?;
    let client = &fixture.client;
    client
        .batch_execute(
            "CREATE TABLE counters (id int PRIMARY KEY, n int)
               WITH (\"delta.autoOptimize.autoCompact\" = false);
             INSERT INTO counters SELECT g, 0 FROM generate_series(0, 19) t(g)",
        )
        .await?;
    let mut counters = Counters {
        counts: vec![0; 20],
    };
    let mut succeeded = 0;
    for (method, path, fault, times) in [
        ("PUT", "_delta_log/", Fault::StoredThenError, 1),
        ("PUT", "_delta_log/", Fault::StoredThenCut, 1),
        ("PUT", "_delta_log/", Fault::StoredThenSilence, 1),
        ("PUT", "_delta_log/", Fault::Cut, 2),
        ("PUT", "_delta_log/", Fault::SlowDown, 3),
        ("PUT", "deletion_vector", Fault::StoredThenError, 1),
        ("PUT", "deletion_vector", Fault::SlowDown, 3),
        ("PUT", "deletion_vector", Fault::Cut, 1),
        ("PUT", ".parquet", Fault::StoredThenCut, 1),
        ("GET", "deletion_vector", Fault::SlowDown, 2),
        ("GET", ".parquet", Fault::Cut, 1),
        ("GET", "_delta_log/", Fault::Cut, 2),
        ("HEAD", "_delta_log/", Fault::SlowDown, 3),
    ] {
        let statements = [
            ("UPDATE counters SET n = n + 1 WHERE id % 3 = 0", 3),
            (
                "INSERT INTO counters SELECT g, 1 FROM generate_series(0, 19, 4) t(g)
                 ON CONFLICT (id) DO UPDATE SET n = counters.n + excluded.n",
                4,
            ),
            (
                "MERGE INTO counters c USING generate_series(0, 19, 5) s(id) ON c.id = s.id
                 WHEN MATCHED THEN UPDATE SET n = n + 1",
                5,
            ),
        ];
        // Each silence lasts until the server's patience ends.
        let silent = fault == Fault::StoredThenSilence;
        for (statement, nth) in statements.into_iter().take(if silent { 1 } else { 3 }) {
            let what = format!("{fault:?} on {method} {path}: {statement}");
            fixture.proxy.inject(method, path, fault, times);
            let outcome = client.batch_execute(statement).await;
            fixture.proxy.inject("NONE", "", Fault::Cut, 0);
            // What says it failed has not taken place.
            if outcome.is_ok() {
                succeeded += 1;
                for count in counters.counts.iter_mut().step_by(nth) {
                    *count += 1;
                }
            }
            counters.check(client, &what).await?;
        }
        if silent {
            continue;
        }
        fixture.proxy.inject(method, path, fault, times);
        let outcome = client.batch_execute("OPTIMIZE counters").await;
        fixture.proxy.inject("NONE", "", Fault::Cut, 0);
        let what = format!("{fault:?} on {method} {path}: OPTIMIZE, {outcome:?}");
        counters.check(client, &what).await?;
    }
    assert!(succeeded >= 30, "only {succeeded} of 37 got through");
    counters.check_log(client).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_s3_that_stores_and_never_answers_loses_and_doubles_nothing() -> Result<(), Failure> {
    let mut fixture = Fixture::start().await?;
    fixture.deliver()?;
    fixture
        .proxy
        .inject("PUT", "_delta_log/", Fault::StoredThenSilence, 1);
    rows(&fixture.client, "RUN PIPELINE load").await?;
    assert_eq!(fixture.proxy.met(), 1);
    fixture.check("loaded", fixture.given, "silence").await
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_are_stored_once_on_an_s3_that_fails() -> Result<(), Failure> {
    let fixture = Fixture::start().await?;
    let client = &fixture.client;
    let broker = Broker::shared()?;
    let topic = format!("t{}", uuid::Uuid::new_v4().simple());
    broker.create_topic(&topic, 2, &[]).await?;
    rows(client, &broker.create_connection("cluster")).await?;
    let pipeline = format!(
        "CREATE PIPELINE p FROM KAFKA cluster TOPICS ('{topic}') FORMAT JSON COLUMNS (id bigint)
         INTO events SCHEDULE ON DEMAND"
    );
    rows(client, &pipeline).await?;
    let mut given = 0;
    for (method, path, fault, times) in [
        // The first makes the table.
        ("NONE", "", Fault::Cut, 0),
        ("PUT", "_delta_log/", Fault::StoredThenError, 1),
        ("PUT", "_delta_log/", Fault::StoredThenCut, 1),
        ("PUT", "_delta_log/", Fault::StoredThenSilence, 1),
        ("PUT", "_delta_log/", Fault::Cut, 2),
        ("PUT", "_delta_log/", Fault::SlowDown, 3),
        ("PUT", ".parquet", Fault::StoredThenError, 1),
        ("PUT", ".parquet", Fault::Cut, 1),
        ("HEAD", "_delta_log/", Fault::Cut, 2),
    ] {
        let what = format!("{fault:?} on {method} {path}");
        let payloads: Vec<String> = (given..given + 5)
            .map(|id| format!("{{\"id\":{id}}}"))
            .collect();
        given += 5;
        let messages = payloads.iter().zip(0..);
        broker.produce(
            &topic,
            messages.map(|(payload, number)| Sent::new(payload.as_bytes()).to(number % 2)),
        )?;
        fixture.proxy.inject(method, path, fault, times);
        let ran = rows(client, "RUN PIPELINE p").await;
        let broken = fixture.proxy.met();
        fixture.proxy.inject("NONE", "", Fault::Cut, 0);
        // A run that gave up is made good by the next.
        if ran.is_err() {
            rows(client, "RUN PIPELINE p").await?;
        }
        fixture.check("events", given, &what).await?;
        assert!(broken > 0 || times == 0, "{what}: nothing was broken");
    }
    Ok(())
}

/// A file system of a few megabytes, unmounted when dropped.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn mount() -> Result<Self, Failure> {
        let folder = tempfile::tempdir()?;
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=6m", "tmpfs"])
            .arg(folder.path())
            .output()?;
        assert!(mounted.status.success(), "{mounted:?}");
        Ok(Self(folder))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // A busy mount is left to the end of the machine.
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_fails_loudly_and_shows_nothing_by_halves() -> Result<(), Failure> {
    let disk = SmallDisk::mount()?;
    let (folder, _) = lake_folder()?;
    let lake = disk.0.path().join("lake");
    let catalog = format!("sqlite://{}/catalog.db", folder.path().display());
    let server = Server::start_with(
        &lake,
        ServerOptions {
            log: Some(folder.path().join("server.log")),
            environment: vec![("BOATHOUSE_CATALOG".to_owned(), catalog)],
            ..ServerOptions::default()
        },
    )
    .await?;
    let client = server.connect().await?;
    client
        .batch_execute("CREATE TABLE t (id bigint, note text); INSERT INTO t VALUES (1, 'kept')")
        .await?;
    let ballast = disk.0.path().join("ballast");
    std::fs::write(&ballast, vec![0; 3 << 20])?;
    // Text that does not compress fills what is left.
    let error = client
        .batch_execute(
            "INSERT INTO t SELECT g, md5(g::text) || md5((g + 1)::text) || md5((g * 7)::text)
             FROM generate_series(1, 200000) AS g",
        )
        .await
        .err()
        .ok_or("a full disk was not noticed")?;
    let code = error.code().map(|code| code.code().to_owned());
    assert_eq!(code.as_deref(), Some("53100"), "{error:?}");
    assert_eq!(rows(&client, "SELECT id, note FROM t").await?, ["1|kept"]);
    std::fs::remove_file(ballast)?;
    client
        .batch_execute("INSERT INTO t VALUES (2, 'again')")
        .await?;
    assert_eq!(rows(&client, "SELECT count(*) FROM t").await?, ["2"]);
    Ok(())
}
