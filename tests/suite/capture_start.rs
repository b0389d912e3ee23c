//! Pipelines that begin where they are told to: with changes that were made before they were.

use std::time::Duration;

use boathouse_tests::mysql::{Flavor, Source, SourceClient};
use boathouse_tests::{Failure, rows, value};

use crate::history::purge;
use crate::workload::{MIXED_TABLES, Workload, mixed};
use crate::{Fixture, Schedule, seed};

/// Longer than a second, which is what MariaDB's times are told in.
const OVER_A_SECOND: Duration = Duration::from_millis(1100);

/// Where a source stands.
struct Stand {
    file: String,
    offset: u64,
    gtids: String,
}

impl Stand {
    async fn of(session: &mut SourceClient, flavor: Flavor) -> Result<Self, Failure> {
        let (status, gtids) = match flavor {
            Flavor::MySql => ("SHOW BINARY LOG STATUS", "SELECT @@GLOBAL.gtid_executed"),
            Flavor::MariaDb => ("SHOW BINLOG STATUS", "SELECT @@GLOBAL.gtid_binlog_pos"),
        };
        let found = session.rows(status).await?;
        let mut columns = found.into_iter().flatten().flatten();
        Ok(Self {
            file: columns.next().ok_or("no file")?,
            offset: columns.next().ok_or("no place")?.parse()?,
            gtids: session.value(gtids).await?.replace('\n', ""),
        })
    }

    fn place(&self) -> String {
        format!("{}:{}", self.file, self.offset)
    }
}

/// The source's time, in UTC.
async fn clock(session: &mut SourceClient) -> Result<String, Failure> {
    let clock = "SELECT DATE_FORMAT(UTC_TIMESTAMP(6), '%Y-%m-%d %H:%i:%s.%f')";
    session.value(clock).await
}

impl Fixture {
    async fn start_with(&self, start: &str) -> Result<(), Failure> {
        let options = format!("snapshot = 'never', deletes = 'history', start = '{start}'");
        self.create_pipeline(Schedule::OnDemand, &options).await
    }

    /// Runs a new pipeline that begins so; gives the ids it has met, in their order.
    async fn met_from(&self, start: &str) -> Result<String, Failure> {
        self.start_with(start).await?;
        let ran = self.run().await;
        ran.map_err(|error| format!("{start}: {error}\n{}", self.log_end()))?;
        let lake = self.server.connect().await?;
        let met = value(&lake, MET).await?;
        // Another run has nothing more, wherever it is told to begin.
        rows(&lake, "ALTER PIPELINE p SET (start = 'earliest')").await?;
        self.run().await?;
        assert_eq!(value(&lake, MET).await?, met, "{start}");
        rows(&lake, "DROP PIPELINE p").await?;
        rows(&lake, "DROP TABLE bronze.t").await?;
        Ok(met)
    }

    /// What a new pipeline says that is to begin so, and cannot.
    async fn refused_from(&self, start: &str) -> Result<String, Failure> {
        self.start_with(start).await?;
        let told = self.run().await.err().map(|error| error.to_string());
        let lake = self.server.connect().await?;
        let tables = "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'bronze'";
        assert_eq!(value(&lake, tables).await?, "0", "{start}");
        rows(&lake, "DROP PIPELINE p").await?;
        told.ok_or_else(|| format!("{start} was not refused").into())
    }
}

const MET: &str =
    "SELECT coalesce(string_agg(id::text, ',' ORDER BY _position, _ordinal), '') FROM bronze.t";

pub async fn captures_begin_where_they_are_told(flavor: Flavor) -> Result<(), Failure> {
    let fixture = Fixture::start_at(Source::own(flavor, &[]).await?).await?;
    let mut session = fixture.session().await?;
    session
        .execute("CREATE TABLE t (id INT PRIMARY KEY, v INT); INSERT INTO t VALUES (1, 1)")
        .await?;
    let first = Stand::of(&mut session, flavor).await?;
    session
        .execute("INSERT INTO t VALUES (2, 2); FLUSH BINARY LOGS; INSERT INTO t VALUES (3, 3)")
        .await?;
    let second = Stand::of(&mut session, flavor).await?;
    assert_ne!(first.file, second.file);
    tokio::time::sleep(OVER_A_SECOND).await;
    let time = clock(&mut session).await?;
    session
        .execute("INSERT INTO t VALUES (4, 4), (5, 5); FLUSH BINARY LOGS")
        .await?;
    let third = Stand::of(&mut session, flavor).await?;
    let far =
        "DATE_FORMAT(CAST('{time}' AS DATETIME(6)) + INTERVAL 7 HOUR, '%Y-%m-%d %H:%i:%s.%f')";
    let far = format!("SELECT {}", far.replace("{time}", &time));
    let there = format!("{}+07", session.value(&far).await?);
    for (start, expected) in [
        ("now", ""),
        ("earliest", "1,2,3,4,5"),
        (&first.place(), "2,3,4,5"),
        (&first.gtids, "2,3,4,5"),
        (&format!("{}:4", second.file), "3,4,5"),
        (&second.place(), "4,5"),
        (&second.gtids, "4,5"),
        (&time, "4,5"),
        (&there, "4,5"),
        (&third.place(), ""),
        (&third.gtids, ""),
    ] as [(&str, &str); 11]
    {
        assert_eq!(fixture.met_from(start).await?, expected, "{start}");
    }
    // Rows that are there are another matter.
    let lake = fixture.server.connect().await?;
    for (options, told) in [
        ("start = 'earliest'", "snapshot = 'never'"),
        ("snapshot = 'never', start = 'yesterday'", "\"yesterday\""),
    ] {
        let refused = fixture.create_pipeline(Schedule::OnDemand, options).await;
        let error = refused.err().map(|error| error.to_string());
        assert!(
            error.as_ref().is_some_and(|error| error.contains(told)),
            "{options}: {error:?}"
        );
    }
    drop(lake);

    // What never was, and what is no more.
    let absent = match flavor {
        Flavor::MySql => "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-7",
        Flavor::MariaDb => "0-1-4000000",
    };
    let foreign = match flavor {
        Flavor::MySql => "0-1-1",
        Flavor::MariaDb => "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-7",
    };
    let hour = "SELECT DATE_FORMAT(UTC_TIMESTAMP() + INTERVAL 1 HOUR, '%Y-%m-%d %H:%i:%s')";
    let hour = session.value(hour).await?;
    for (start, told) in [
        ("binlog.004711:4", "has no binlog file \"binlog.004711\""),
        (&format!("{}:900000", third.file), "has no place 900000"),
        (
            &format!("{}:{}", first.file, first.offset + 1),
            &format!("begins at {}", first.place()),
        ),
        (absent, "has not done all of"),
        (foreign, "which is written"),
        (&hour, "still to come"),
    ] as [(&str, &str); 6]
    {
        let error = fixture.refused_from(start).await?;
        assert!(error.contains(told), "{start}: {error}");
    }
    if flavor == Flavor::MySql {
        // Not all of what came before its last.
        let (source, _) = third.gtids.rsplit_once(':').ok_or("no numbers")?;
        let (_, last) = third.gtids.rsplit_once('-').ok_or("no numbers")?;
        let error = fixture
            .refused_from(&format!("{source}:1-2:{last}"))
            .await?;
        assert!(error.contains("is not what had been done"), "{error}");
    }
    purge(&mut session).await?;
    for start in [&first.place(), &second.gtids, &time] {
        let error = fixture.refused_from(start).await?;
        let told = ["has been purged", "has no binlog file"];
        assert!(
            told.iter().any(|told| error.contains(told)),
            "{start}: {error}"
        );
        // It says what there is.
        let newest = Stand::of(&mut session, flavor).await?;
        let named = [newest.file.as_str(), "the oldest set there is"];
        assert!(
            named.iter().any(|named| error.contains(named)),
            "{start}: {error}"
        );
    }
    session.execute("INSERT INTO t VALUES (6, 6)").await?;
    assert_eq!(fixture.met_from("earliest").await?, "6");
    assert_eq!(fixture.met_from(&third.gtids).await?, "6");
    Ok(())
}

/// Where it begins is settled before anything is committed, and each change comes once.
pub async fn a_beginning_survives_crashes(flavor: Flavor) -> Result<(), Failure> {
    let mut fixture = Fixture::start_at(Source::own(flavor, &[]).await?).await?;
    let mut session = fixture.session().await?;
    session
        .execute("CREATE TABLE t (id INT PRIMARY KEY, v INT); INSERT INTO t VALUES (1, 1), (2, 2); UPDATE t SET id = 3 WHERE id = 1")
        .await?;
    fixture.start_with("earliest").await?;
    for failpoint in [
        // The beginning itself, before and after it is on record; then the first changes.
        "capture_prepared",
        "capture_unsettled",
        "capture_prepared:2",
        "capture_table_committed",
    ] {
        fixture.die_at(failpoint).await?;
        assert!(fixture.run().await.is_err(), "{failpoint}");
        if failpoint == "capture_prepared:2" {
            // From here on nobody asks where to begin.
            fixture.restart().await?;
            let lake = fixture.server.connect().await?;
            rows(&lake, "ALTER PIPELINE p SET (start = 'now')").await?;
        }
    }
    fixture.restart().await?;
    let ran = fixture.run().await;
    ran.map_err(|error| format!("{error}\n{}", fixture.log_end()))?;
    let lake = fixture.server.connect().await?;
    assert_eq!(value(&lake, MET).await?, "1,2,1,3");
    Ok(())
}

/// Tables of all kinds of a past, which changed before they became what they are now.
const PASTS: &str = "
    CREATE TABLE many (id INT PRIMARY KEY, a INT, gone VARCHAR(9));
    INSERT INTO many VALUES (1, 10, 'x'), (2, 20, 'y');
    ALTER TABLE many ADD COLUMN n INT NOT NULL DEFAULT 5; INSERT INTO many VALUES (3, 30, 'z', 6);
    ALTER TABLE many RENAME COLUMN a TO b; UPDATE many SET b = 11 WHERE id = 1;
    ALTER TABLE many DROP COLUMN gone; ALTER TABLE many MODIFY n BIGINT NOT NULL DEFAULT 7;
    INSERT INTO many (id, b) VALUES (4, 40); DELETE FROM many WHERE id = 2;
    CREATE TABLE crossed (id INT PRIMARY KEY, a INT, b INT); INSERT INTO crossed VALUES (1, 1, 2);
    ALTER TABLE crossed RENAME COLUMN a TO b, RENAME COLUMN b TO a; INSERT INTO crossed (id, a, b) VALUES (2, 3, 4);
    CREATE TABLE before_rows (id INT PRIMARY KEY, b INT); ALTER TABLE before_rows RENAME COLUMN b TO c;
    INSERT INTO before_rows VALUES (1, 1); ALTER TABLE before_rows ADD COLUMN b INT; UPDATE before_rows SET b = 3;
    CREATE TABLE smaller_key (a INT, b INT, v INT, PRIMARY KEY (a, b));
    INSERT INTO smaller_key VALUES (1, 1, 1), (1, 2, 2), (2, 1, 3); DELETE FROM smaller_key WHERE b = 2;
    UPDATE smaller_key SET v = v + 1; ALTER TABLE smaller_key DROP PRIMARY KEY, ADD PRIMARY KEY (a);
    UPDATE smaller_key SET b = 9 WHERE a = 2;
    CREATE TABLE later_key (id INT, v INT); INSERT INTO later_key VALUES (1, 1), (1, 2), (2, 2);
    DELETE FROM later_key WHERE id = 1 AND v = 1; ALTER TABLE later_key ADD PRIMARY KEY (id); INSERT INTO later_key VALUES (3, 3);
    CREATE TABLE made_key (v INT); INSERT INTO made_key VALUES (7), (7), (8);
    ALTER TABLE made_key ADD COLUMN id INT AUTO_INCREMENT PRIMARY KEY FIRST; UPDATE made_key SET v = 9 WHERE id = 2;
    CREATE TABLE no_key_now (id INT PRIMARY KEY, v INT); INSERT INTO no_key_now VALUES (1, 1), (2, 2); UPDATE no_key_now SET v = 3 WHERE id = 2;
    ALTER TABLE no_key_now DROP PRIMARY KEY; INSERT INTO no_key_now VALUES (1, 1);
    CREATE TABLE again (id INT PRIMARY KEY, x INT); INSERT INTO again VALUES (1, 1); DROP TABLE again;
    CREATE TABLE again (id INT PRIMARY KEY, y VARCHAR(5)); INSERT INTO again VALUES (2, 'two');
    CREATE TABLE old_name (id INT PRIMARY KEY, v INT); INSERT INTO old_name VALUES (1, 1);
    RENAME TABLE old_name TO new_name; INSERT INTO new_name VALUES (2, 2);
    CREATE TABLE emptied (id INT PRIMARY KEY, v INT); INSERT INTO emptied VALUES (1, 1); TRUNCATE emptied; INSERT INTO emptied VALUES (2, 2);
    CREATE TABLE lost (id INT PRIMARY KEY, v INT); INSERT INTO lost VALUES (1, 1);
    ALTER TABLE lost ADD COLUMN w INT NOT NULL DEFAULT 4; INSERT INTO lost VALUES (2, 2, 2); DROP TABLE lost";

pub async fn tables_that_changed_since_their_beginning(flavor: Flavor) -> Result<(), Failure> {
    let fixture = Fixture::start_at(Source::own(flavor, &[]).await?).await?;
    let mut session = fixture.session().await?;
    session.execute(PASTS).await?;
    let options = "snapshot = 'never', start = 'earliest'";
    fixture.create_pipeline(Schedule::OnDemand, options).await?;
    let lake = fixture.follow("from the earliest").await?;
    // One that is gone by now has what it had.
    let lost = "SELECT id, v, w FROM bronze.lost ORDER BY id";
    assert_eq!(rows(&lake, lost).await?, ["1|1|4", "2|2|2"]);
    let verdicts = rows(&lake, "VERIFY PIPELINE p").await?;
    assert!(
        verdicts.iter().all(|verdict| verdict.contains("|equal|")),
        "{verdicts:?}"
    );
    session
        .execute("UPDATE many SET b = b + 1; INSERT INTO later_key VALUES (4, 4); ALTER TABLE crossed ADD COLUMN c INT DEFAULT 8")
        .await?;
    fixture.follow("later").await?;
    Ok(())
}

pub async fn a_random_workload_from_its_beginning(flavor: Flavor) -> Result<(), Failure> {
    let seed = seed()?;
    let mut fixture = Fixture::start_at(Source::own(flavor, &[]).await?).await?;
    let mut session = fixture.session().await?;
    session.execute(MIXED_TABLES).await?;
    let address = fixture.source.address();
    let workload = Workload::start(&address, &fixture.database, seed, 3, mixed);
    tokio::time::sleep(Duration::from_secs(3)).await;
    let options = "snapshot = 'never', start = 'earliest', target_lag = '200 ms', batch_rows = 400";
    fixture
        .create_pipeline(Schedule::Continuous, options)
        .await?;
    for pause in [300, 700, 1500] {
        tokio::time::sleep(Duration::from_millis(pause)).await;
        fixture.kill()?;
        fixture.restart().await?;
    }
    let taken = workload.stop().await?;
    let lake = fixture
        .follow(&format!("seed {seed}, {taken} transactions"))
        .await?;
    let verdicts = rows(&lake, "VERIFY PIPELINE p").await?;
    assert!(
        verdicts.iter().all(|verdict| verdict.contains("|equal|")),
        "seed {seed}: {verdicts:?}"
    );
    Ok(())
}
