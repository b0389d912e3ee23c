//! Kills of Boathouse, and of the source, while the source is at work.

use std::time::{Duration, Instant};

use boathouse_tests::mysql::{DURABLE, Flavor, Source};
use boathouse_tests::{Failure, rows, value};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::workload::{ID_STEP, LARGE_TABLES, MIXED_TABLES, Workload, mixed, moving};
use crate::{Fixture, Schedule, measure, seed};

const KILLS: usize = 12;
const LARGE_ROWS: usize = 25_000;

/// When a kill comes at the latest though nothing of the snapshot is to be seen.
const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(20);

pub async fn a_random_workload_survives_kills(flavor: Flavor) -> Result<(), Failure> {
    let kills = measure("CAPTURE_KILLS", KILLS)?;
    survive_kills(Source::own(flavor, DURABLE).await?, kills).await
}

/// The same of a source that logs the columns alone that changed.
pub async fn a_random_workload_in_part_survives_kills(flavor: Flavor) -> Result<(), Failure> {
    let options = [DURABLE, &["--binlog-row-image=MINIMAL"]].concat();
    survive_kills(Source::own(flavor, &options).await?, KILLS / 3).await
}

/// And where deleted rows stay, marked.
pub async fn a_random_workload_in_part_keeps_deleted_rows(flavor: Flavor) -> Result<(), Failure> {
    let options = "WITH (deletes = 'soft', target_lag = '200 ms', chunk_rows = 50)";
    let (fixture, lake, seed) = in_part(flavor, options).await?;
    // What the binlog never says of a row that goes: it is here from before.
    let kept = "SELECT count(*) FROM bronze.orders WHERE _deleted AND state IS NOT NULL AND placed IS NOT NULL";
    let kept = value(&lake, kept).await?;
    assert!(kept.parse::<usize>()? > 0, "seed {seed}: {kept} rows kept");
    fixture.finish().await
}

/// And where queries need columns that are not told.
pub async fn a_random_workload_in_part_through_queries(flavor: Flavor) -> Result<(), Failure> {
    let queries = "FOR ('{0}.orders') AS SELECT *, total * 2 AS twice FROM source WHERE total > -5000 \
                   FOR ('{0}.codes') AS SELECT code, length(body) AS length FROM source \
                   FOR ('{0}.pairs') AS SELECT *, coalesce(v, 0) > 0.5 AS large FROM source \
                   WITH (target_lag = '200 ms', chunk_rows = 50)";
    let (fixture, ..) = in_part(flavor, queries).await?;
    fixture.finish().await
}

/// A source that logs the columns alone that changed, read through kills by a pipeline of this; `{0}` is its database. Gives
/// the seed too.
async fn in_part(
    flavor: Flavor,
    pipeline: &str,
) -> Result<(Fixture, tokio_postgres::Client, u64), Failure> {
    let seed = seed()?;
    let mut draw = StdRng::seed_from_u64(seed);
    let options = [DURABLE, &["--binlog-row-image=MINIMAL"]].concat();
    let mut fixture = Fixture::start_at(Source::own(flavor, &options).await?).await?;
    let mut session = fixture.session().await?;
    session.execute(MIXED_TABLES).await?;
    let address = fixture.source.address();
    let workload = Workload::start(&address, &fixture.database, seed, 3, mixed);
    let sql = format!(
        "CREATE PIPELINE p FROM MYSQL shop TABLES ('{{0}}.%') EXCEPT ('{{0}}.logged') INTO SCHEMA bronze {pipeline}"
    );
    let sql = sql.replace("{0}", &fixture.database);
    rows(&fixture.server.connect().await?, &sql).await?;
    let lake = fixture
        .survives_in_part(workload, (seed, &mut draw))
        .await?;
    Ok((fixture, lake, seed))
}

async fn survive_kills(source: Source, kills: usize) -> Result<(), Failure> {
    let seed = seed()?;
    let mut draw = StdRng::seed_from_u64(seed);
    let mut fixture = Fixture::start_at(source).await?;
    let mut session = fixture.session().await?;
    session.execute(MIXED_TABLES).await?;
    let address = fixture.source.address();
    let workload = Workload::start(&address, &fixture.database, seed, 3, mixed);
    fixture
        .create_pipeline(
            Schedule::Continuous,
            "target_lag = '200 ms', chunk_rows = 50, snapshot_readers = 3",
        )
        .await?;
    for kill in 0..kills {
        let moment = Duration::from_millis(draw.random_range(0..1200));
        tokio::time::sleep(moment).await;
        if kill == kills / 2 {
            // Boathouse sees its source go and come back, and both are gone once.
            fixture.source.kill()?;
            tokio::time::sleep(moment).await;
            fixture.source.start().await?;
            tokio::time::sleep(moment).await;
            fixture.source.kill()?;
            fixture.kill()?;
            fixture.source.start().await?;
        } else {
            fixture.kill()?;
        }
        fixture.restart().await?;
    }
    let taken = workload.stop().await?;
    assert!(
        taken > 10 * kills,
        "seed {seed}: the source took {taken} transactions only"
    );
    let lake = fixture
        .follow(&format!("seed {seed}, {kills} kills, {taken} transactions"))
        .await?;
    let verdicts = rows(&lake, "VERIFY PIPELINE p").await?;
    assert!(
        verdicts.iter().all(|verdict| verdict.contains("|equal|")),
        "seed {seed}: {verdicts:?}"
    );
    // More than the last run has written: the kills did not come to an idle pipeline.
    let commits = value(
        &lake,
        "SELECT count(DISTINCT version) FROM system.table_history
         WHERE schema_name = 'bronze' AND table_name = 'orders'",
    )
    .await?;
    assert!(
        commits.parse::<usize>()? > 3,
        "seed {seed}: {commits} commits"
    );
    // And it goes on from there.
    fixture.work(seed.wrapping_add(1000)).await?;
    fixture
        .follow(&format!("seed {seed}, after all kills"))
        .await?;
    fixture.finish().await
}

impl Fixture {
    /// Kills Boathouse a few times during a workload; then everything is as it is at the source.
    async fn survives_in_part(
        &mut self,
        workload: Workload,
        (seed, draw): (u64, &mut StdRng),
    ) -> Result<tokio_postgres::Client, Failure> {
        // A kill while a table is made that gets another column meanwhile is another matter.
        let begun = Instant::now();
        let tables =
            "SELECT count(*) = 5 FROM information_schema.tables WHERE table_schema = 'bronze'";
        while value(&self.server.connect().await?, tables).await? != "t" {
            assert!(begun.elapsed() < SNAPSHOT_TIMEOUT, "seed {seed}: no tables");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        for _ in 0..KILLS / 3 {
            tokio::time::sleep(Duration::from_millis(draw.random_range(300..1500))).await;
            self.kill()?;
            self.restart().await?;
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
        let taken = workload.stop().await?;
        let ran = self.run().await;
        ran.map_err(|error| format!("seed {seed}: {error}\n{}", self.log_end()))?;
        let lake = self.server.connect().await?;
        let verdicts = rows(&lake, "VERIFY PIPELINE p").await?;
        assert!(
            verdicts.iter().all(|verdict| verdict.contains("|equal|")),
            "seed {seed}, {taken} transactions: {verdicts:?}"
        );
        Ok(lake)
    }

    /// Some more transactions.
    pub async fn work(&self, seed: u64) -> Result<(), Failure> {
        let workload = Workload::start(&self.source.address(), &self.database, seed, 1, mixed);
        tokio::time::sleep(Duration::from_millis(500)).await;
        workload.stop().await?;
        Ok(())
    }
}

pub async fn a_snapshot_under_load(flavor: Flavor) -> Result<(), Failure> {
    snapshot_under_load(flavor, Fixture::start(flavor).await?).await
}

/// The same of a source that logs the columns alone that changed, which do not tell a row that is still to be
/// read.
pub async fn a_snapshot_under_load_of_minimal_images(flavor: Flavor) -> Result<(), Failure> {
    let source = Source::own(flavor, &["--binlog-row-image=MINIMAL"]).await?;
    snapshot_under_load(flavor, Fixture::start_at(source).await?).await
}

async fn snapshot_under_load(flavor: Flavor, mut fixture: Fixture) -> Result<(), Failure> {
    let seed = seed()?;
    let row_count = measure("CAPTURE_ROWS", LARGE_ROWS)?;
    let mut draw = StdRng::seed_from_u64(seed);
    let mut session = fixture.session().await?;
    let depth = match flavor {
        Flavor::MySql => "cte_max_recursion_depth",
        Flavor::MariaDb => "max_recursive_iterations",
    };
    session
        .execute(&format!(
            "{LARGE_TABLES};
             SET SESSION {depth} = {row_count} + 1;
             INSERT INTO large WITH RECURSIVE n AS (SELECT 0 AS i UNION ALL SELECT i + 1 FROM n WHERE i + 1 < {row_count})
               SELECT i * {ID_STEP}, i, 'from the beginning' FROM n;
             INSERT INTO large_text WITH RECURSIVE n AS (SELECT 0 AS i UNION ALL SELECT i + 1 FROM n WHERE i + 1 < {row_count})
               SELECT CONCAT(IF(i % 3 = 0, 'key-', 'Key-'), LPAD(i, 8, '0')), i FROM n"
        ))
        .await?;
    let address = fixture.source.address();
    let workload = Workload::start(&address, &fixture.database, seed, 2, moving);
    fixture
        .create_pipeline(
            Schedule::Continuous,
            "target_lag = '200 ms', chunk_rows = 2000, snapshot_readers = 5",
        )
        .await?;

    // The kill comes when a part of the snapshot is there.
    let part = draw.random_range(1..row_count / 2);
    let begun = Instant::now();
    let lake = fixture.server.connect().await?;
    let mut there = 0;
    while there < part && begun.elapsed() < SNAPSHOT_TIMEOUT {
        // The table is not there at first.
        there = match value(&lake, "SELECT count(*) FROM bronze.large").await {
            Ok(count) => count.parse()?,
            Err(_) => 0,
        };
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    fixture.kill()?;
    println!(
        "killed with {there} of {row_count} rows after {:?}",
        begun.elapsed()
    );
    fixture.restart().await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let taken = workload.stop().await?;
    assert!(
        taken > 20,
        "seed {seed}: the source took {taken} transactions only"
    );
    fixture
        .follow(&format!(
            "seed {seed}, killed at {there} rows, {taken} transactions"
        ))
        .await?;
    fixture.finish().await
}

/// A table that cannot be read for a while does not keep the others waiting.
pub async fn tables_are_read_at_once(flavor: Flavor) -> Result<(), Failure> {
    let fixture = Fixture::start(flavor).await?;
    let mut session = fixture.session().await?;
    session
        .execute(
            "CREATE TABLE a (id INT PRIMARY KEY); CREATE TABLE b (id INT PRIMARY KEY); CREATE TABLE c (id INT PRIMARY KEY);
             INSERT INTO a VALUES (1), (2), (3); INSERT INTO b VALUES (1), (2), (3); INSERT INTO c VALUES (1)",
        )
        .await?;
    let mut locking = fixture.session().await?;
    locking.execute("LOCK TABLES a WRITE").await?;
    fixture
        .create_pipeline(
            Schedule::Continuous,
            "chunk_rows = 1, target_lag = '100 ms'",
        )
        .await?;
    let lake = fixture.server.connect().await?;
    let begun = Instant::now();
    let count = "SELECT (SELECT count(*) FROM bronze.b) + (SELECT count(*) FROM bronze.c)";
    // The tables are not there at first.
    while !value(&lake, count).await.is_ok_and(|count| count == "4") {
        assert!(begun.elapsed() < SNAPSHOT_TIMEOUT, "{}", fixture.log_end());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(value(&lake, "SELECT count(*) FROM bronze.a").await?, "0");
    locking.execute("UNLOCK TABLES").await?;
    fixture.follow("all tables").await?;
    fixture.finish().await
}

/// Rows that changed while their table was still to be read are told from those that are read, whatever a statement changes
/// of the table that leaves its columns alone.
pub async fn rows_of_before_stay_known_when_defaults_change(flavor: Flavor) -> Result<(), Failure> {
    let fixture = Fixture::start(flavor).await?;
    let mut session = fixture.session().await?;
    session
        .execute("CREATE TABLE a (k VARCHAR(20) PRIMARY KEY, v INT DEFAULT 1, w INT); INSERT INTO a VALUES ('before', 1, 1)")
        .await?;
    // It cannot be read until it is unlocked, while it changes.
    session.execute("LOCK TABLES a WRITE").await?;
    fixture
        .create_pipeline(Schedule::Continuous, "target_lag = '100 ms'")
        .await?;
    // From here on it is followed.
    fixture
        .wait_for("SELECT count(*) FROM bronze.a", "0")
        .await?;
    for (key, statement) in [
        ("x", "ALTER TABLE a ALTER COLUMN v SET DEFAULT 7"),
        ("y", "DO 0"),
    ] {
        let count = format!("SELECT count(*) FROM bronze.a WHERE k = '{key}'");
        session
            .execute(&format!("INSERT INTO a VALUES ('{key}', 2, 2)"))
            .await?;
        fixture.wait_for(&count, "1").await?;
        session.execute(statement).await?;
    }
    // Time to bring the table into line.
    tokio::time::sleep(Duration::from_secs(1)).await;
    session.execute("UNLOCK TABLES").await?;
    fixture.follow("a table that was locked").await?;
    fixture.finish().await
}

/// A chunk that a crash kept from being committed is read again, whatever is committed to its table before.
pub async fn a_chunk_that_was_not_committed_is_read_again(flavor: Flavor) -> Result<(), Failure> {
    let mut fixture = Fixture::start(flavor).await?;
    let mut session = fixture.session().await?;
    let values: Vec<String> = (0..30).map(|id| format!("({id}, {id})")).collect();
    session
        .execute(&format!(
            "CREATE TABLE t (id INT PRIMARY KEY, v INT); INSERT INTO t VALUES {}; ANALYZE TABLE t",
            values.join(", ")
        ))
        .await?;
    fixture
        .create_pipeline(Schedule::OnDemand, "chunk_rows = 10")
        .await?;
    for (failpoint, change) in [
        // The first position, the first chunk; the second is not committed.
        ("capture_prepared:3", "UPDATE t SET v = -1 WHERE id = 3"),
        // The change is.
        (
            "capture_table_committed",
            "UPDATE t SET v = -2 WHERE id = 4",
        ),
    ] {
        fixture.die_at(failpoint).await?;
        assert!(fixture.run().await.is_err(), "{failpoint}");
        session.execute(change).await?;
    }
    fixture.restart().await?;
    fixture.follow("two crashes").await?;
    fixture.finish().await
}

/// Readers that no other table needs read on in the same one, whatever its key is made of.
pub async fn ranges_of_a_table_are_read_at_once(flavor: Flavor) -> Result<(), Failure> {
    const READERS: &str = "snapshot_readers = 6, target_lag = '100 ms'";
    let fixture = Fixture::start(flavor).await?;
    let mut session = fixture.session().await?;
    let depth = match flavor {
        Flavor::MySql => "cte_max_recursion_depth",
        Flavor::MariaDb => "max_recursive_iterations",
    };
    let numbers = |count: usize| {
        format!(
            "WITH RECURSIVE n AS (SELECT 0 AS i UNION ALL SELECT i + 1 FROM n WHERE i + 1 < {count})"
        )
    };
    // Rows that the source takes its time to tell, but not their keys.
    session
        .execute(&format!(
            "SET SESSION {depth} = 100000;
             CREATE TABLE slow (id BIGINT UNSIGNED PRIMARY KEY, digest CHAR(128) AS (SHA2(REPEAT(id, 150000), 512)) VIRTUAL);
             INSERT INTO slow (id) {} SELECT 18446744073709551615 - i * 7 FROM n",
            numbers(48)
        ))
        .await?;
    fixture
        .create_pipeline(Schedule::Continuous, &format!("chunk_rows = 6, {READERS}"))
        .await?;
    let reads = format!(
        "SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE 'SELECT `id`, `digest` FROM `{}`%'",
        fixture.database
    );
    let begun = Instant::now();
    let mut most = 0;
    while most < 2 {
        assert!(begun.elapsed() < SNAPSHOT_TIMEOUT, "{}", fixture.log_end());
        most = session.value(&reads).await?.parse()?;
    }
    fixture.follow("a table that is slow to read").await?;
    // Keys of several columns, in orders of the source's own.
    session
        .execute(&format!(
            "CREATE TABLE mixed (a VARCHAR(20) COLLATE utf8mb4_general_ci, b DECIMAL(20,3), c DATETIME(3), d BINARY(3), v INT,
                 PRIMARY KEY (a, b, c, d));
             INSERT INTO mixed {} SELECT CONCAT(IF(i % 2, 'É', 'e'), i % 7), i % 11 - 5.125, FROM_UNIXTIME(86400 + i % 13), CHAR(i % 256, i DIV 256, 32), i FROM n",
            numbers(1_500)
        ))
        .await?;
    fixture.follow("a table that appears").await?;
    let lake = fixture.server.connect().await?;
    rows(&lake, "DROP PIPELINE p").await?;
    for table in ["slow", "mixed"] {
        rows(&lake, &format!("DROP TABLE bronze.{table}")).await?;
    }
    session.execute("DROP TABLE slow").await?;
    fixture
        .create_pipeline(Schedule::OnDemand, &format!("chunk_rows = 90, {READERS}"))
        .await?;
    fixture.follow("a key of several columns").await?;
    // And once more, in place of what is there.
    session
        .execute("UPDATE mixed SET v = -1 WHERE v % 3 = 0")
        .await?;
    rows(&lake, "RUN PIPELINE p FULL REFRESH").await?;
    fixture.compare("a key of several columns, anew").await?;
    fixture.finish().await
}

/// Of MariaDB it can be asked what a place of its binlog stands for, and it then reads all of the file up to there: that is left alone.
#[tokio::test(flavor = "multi_thread")]
async fn mariadb_does_not_read_its_binlog_for_every_chunk() -> Result<(), Failure> {
    let fixture = Fixture::start_at(Source::own(Flavor::MariaDb, DURABLE).await?).await?;
    let mut session = fixture.session().await?;
    let values: Vec<String> = (0..60).map(|id| format!("({id}, {id})")).collect();
    session
        .execute(&format!(
            "CREATE TABLE t (id INT PRIMARY KEY, v INT); INSERT INTO t VALUES {};
             SET GLOBAL log_output = 'TABLE'; SET GLOBAL general_log = 1",
            values.join(", ")
        ))
        .await?;
    fixture
        .create_pipeline(Schedule::OnDemand, "chunk_rows = 5")
        .await?;
    fixture.follow("twelve chunks").await?;
    session.execute("SET GLOBAL general_log = 0").await?;
    let asked = |what: &str| {
        format!(
            "SELECT COUNT(*) FROM mysql.general_log WHERE command_type IN ('Query', 'Execute') AND argument LIKE '{what}'"
        )
    };
    let chunks: usize = session
        .value(&asked("START TRANSACTION WITH CONSISTENT SNAPSHOT%"))
        .await?
        .parse()?;
    assert!(chunks >= 12, "{chunks} chunks");
    assert_eq!(session.value(&asked("SELECT BINLOG_GTID_POS%")).await?, "0");
    fixture.finish().await
}
