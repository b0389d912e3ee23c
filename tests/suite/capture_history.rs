//! Sources that no longer have, or never logged, what happened meanwhile: the tables are read anew, or the run
//! says why they are not right. Success with wrong tables is the one thing that may not be.

use std::time::{Duration, Instant};

use boathouse_tests::mysql::{Flavor, Source, SourceClient};
use boathouse_tests::{Failure, rows};

use crate::{Fixture, Schedule};

/// Words of which an error about what was logged too sparsely has one.
const SPARSE: &[&str] = &[
    "binlog",
    "binary log",
    "row image",
    "row_image",
    "metadata",
    "statement",
    "partial",
    "foreign key",
    "cascade",
];

/// How long a source may take to forget.
const PURGE_TIMEOUT: Duration = Duration::from_secs(30);

const TABLES: &str = "
    CREATE TABLE keyed (id INT UNSIGNED PRIMARY KEY, v INT, choice ENUM('a','b'), t VARCHAR(20) CHARACTER SET latin1, body TEXT);
    CREATE TABLE no_key (a INT, b VARCHAR(10));
    INSERT INTO keyed VALUES (1, 10, 'a', 'ä', 'one'), (2, 20, 'b', NULL, 'two'), (3, 30, NULL, '', NULL), (4, 40, 'a', 'x', 'four');
    INSERT INTO no_key VALUES (1, 'x'), (1, 'x'), (2, 'y')";

/// Changes of every kind, of rows that are there from the beginning.
const MISSED: &str = "
    INSERT INTO keyed VALUES (5, 50, 'b', 'ö', 'missed'); UPDATE keyed SET v = 11, body = 'missed' WHERE id = 1;
    DELETE FROM keyed WHERE id = 2; UPDATE keyed SET id = 33 WHERE id = 3;
    INSERT INTO no_key VALUES (1, 'x'); DELETE FROM no_key WHERE a = 2";

const LATER: &str = "
    INSERT INTO keyed VALUES (4294967295, 60, 'a', 'ü', 'later'); UPDATE keyed SET v = v + 1; INSERT INTO no_key VALUES (1, 'x')";

/// How a source loses its history.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Loss {
    Purged,
    /// Of all its tables' changes only these are in the binlog that follows.
    Reset,
    /// The new binlog is longer than the old, so that every position of the old is one of the new.
    ResetAndOvertaken,
}

pub async fn sources_that_lost_history(flavor: Flavor) -> Result<(), Failure> {
    let mut source = Source::own(flavor, &[]).await?;
    let reset = match flavor {
        Flavor::MySql => "RESET BINARY LOGS AND GTIDS",
        Flavor::MariaDb => "RESET MASTER",
    };
    for loss in [Loss::Purged, Loss::Reset, Loss::ResetAndOvertaken] {
        let mut fixture = Fixture::start_at(source).await?;
        let mut session = fixture.session().await?;
        session.execute(TABLES).await?;
        if loss != Loss::Purged {
            // Both histories begin alike.
            session.execute(reset).await?;
        }
        fixture
            .create_pipeline(Schedule::OnDemand, "chunk_rows = 2")
            .await?;
        fixture.follow(&format!("{loss:?}: the snapshot")).await?;
        session
            .execute("UPDATE keyed SET v = v + 1; INSERT INTO no_key VALUES (2, 'y'); DELETE FROM no_key WHERE b = 'y' LIMIT 1")
            .await?;
        fixture.follow(&format!("{loss:?}: before it")).await?;
        fixture.kill()?;
        session.execute(MISSED).await?;
        match loss {
            Loss::Purged => {
                purge(&mut session).await?;
                session.execute(LATER).await?;
            }
            Loss::Reset => {
                session.execute(reset).await?;
                session
                    .execute("UPDATE keyed SET v = 0 WHERE id = 4")
                    .await?;
            }
            Loss::ResetAndOvertaken => {
                session.execute(reset).await?;
                session.execute(LATER).await?;
                for number in 0..40 {
                    session
                        .execute(&format!(
                            "INSERT INTO keyed VALUES ({}, 0, 'b', 'n', REPEAT('x', 500)); UPDATE keyed SET v = v + 1 WHERE id = 4",
                            1000 + number
                        ))
                        .await?;
                }
            }
        }
        fixture.restart().await?;
        // By itself, and saying so.
        fixture.follow(&format!("{loss:?}")).await?;
        let told = fixture.read_anew().await?;
        assert_eq!(told.len(), 1, "{loss:?}: {told:?}");
        session.execute("INSERT INTO keyed VALUES (70, 70, NULL, NULL, NULL); DELETE FROM keyed WHERE id = 1").await?;
        fixture.follow(&format!("{loss:?}, later")).await?;
        source = fixture.finish_keeping_source().await?;
    }

    // Without changes that the server could not write down, and without names, signs and character sets in the
    // binlog.
    let fixture = Fixture::start_at(source).await?;
    let mut session = fixture.session().await?;
    an_incident(&fixture, &mut session).await?;
    session.execute(TABLES).await?;
    fixture
        .create_pipeline(Schedule::OnDemand, "chunk_rows = 2")
        .await?;
    fixture.follow("with row metadata").await?;
    session
        .execute("SET GLOBAL binlog_row_metadata = 'MINIMAL'")
        .await?;
    session.execute(MISSED).await?;
    session
        .execute("ALTER TABLE keyed ADD COLUMN w INT UNSIGNED DEFAULT 1 AFTER v; UPDATE keyed SET w = 4294967295")
        .await?;
    session
        .execute("INSERT INTO keyed (id) VALUES (4294967294)")
        .await?;
    fixture
        .follow_or_tell("without row metadata", SPARSE)
        .await?;
    Ok(())
}

/// Rows of a table without transactions that are in the table and, too many at once, not in the binlog.
async fn an_incident(fixture: &Fixture, session: &mut SourceClient) -> Result<(), Failure> {
    session
        .execute(
            "CREATE TABLE loose (id INT PRIMARY KEY, body VARCHAR(500)) ENGINE = MyISAM;
             INSERT INTO loose VALUES (1, 'a'); SET GLOBAL max_binlog_stmt_cache_size = 4096",
        )
        .await?;
    fixture.create_pipeline(Schedule::OnDemand, "").await?;
    fixture.follow("before an incident").await?;
    let many: Vec<String> = (2..400)
        .map(|id| format!("({id}, REPEAT('x', 500))"))
        .collect();
    let insert = format!("INSERT INTO loose VALUES {}", many.join(", "));
    let unlogged = fixture.session().await?.execute(&insert).await;
    assert!(unlogged.is_err(), "the rows are in the binlog");
    session
        .execute("SET GLOBAL max_binlog_stmt_cache_size = DEFAULT")
        .await?;
    let told = fixture.run().await.err().map(|error| error.to_string());
    let told = told.unwrap_or_default();
    assert!(
        told.contains("INCIDENT") && told.contains("FULL REFRESH"),
        "{told}"
    );
    let lake = fixture.server.connect().await?;
    rows(&lake, "RUN PIPELINE p FULL REFRESH").await?;
    fixture.follow("after an incident").await?;
    rows(&lake, "DROP PIPELINE p; DROP TABLE bronze.loose").await?;
    session.execute("DROP TABLE loose").await
}

/// Leaves nothing in the binlog of what has happened so far.
pub async fn purge(session: &mut SourceClient) -> Result<(), Failure> {
    session
        .execute("FLUSH BINARY LOGS; FLUSH BINARY LOGS")
        .await?;
    let begun = Instant::now();
    loop {
        let logs = session.rows("SHOW BINARY LOGS").await?;
        let newest = logs.last().and_then(|row| row.first().cloned().flatten());
        let newest = newest.ok_or("the source has no binlog")?;
        if logs.len() == 1 {
            return Ok(());
        }
        if begun.elapsed() > PURGE_TIMEOUT {
            return Err(format!("the source keeps {} binlogs", logs.len()).into());
        }
        // MariaDB keeps what it would recover from until its tables are on disk.
        session.execute("FLUSH ENGINE LOGS").await?;
        session
            .execute(&format!("PURGE BINARY LOGS TO '{newest}'"))
            .await?;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// What a session may have set for itself, and its changes.
const SPARSE_SESSIONS: &[(&str, &str)] = &[
    (
        "a minimal row image",
        "SET SESSION binlog_row_image = 'MINIMAL'; UPDATE keyed SET v = 5 WHERE id = 1; UPDATE keyed SET id = 44 WHERE id = 4;
         INSERT INTO keyed (id, v) VALUES (6, 6); DELETE FROM keyed WHERE id = 2; DELETE FROM no_key WHERE a = 1 LIMIT 1",
    ),
    (
        "a row image without long values",
        "SET SESSION binlog_row_image = 'NOBLOB'; UPDATE keyed SET v = 5 WHERE id = 1; UPDATE keyed SET body = NULL WHERE id = 4;
         INSERT INTO keyed (id, v) VALUES (6, 6); DELETE FROM keyed WHERE id = 2",
    ),
    (
        "statements instead of rows",
        "SET SESSION binlog_format = 'STATEMENT'; UPDATE keyed SET v = v + 1; INSERT INTO keyed (id, v) VALUES (6, 6);
         DELETE FROM no_key WHERE a = 1",
    ),
    (
        "a file as a statement",
        "SET SESSION binlog_format = 'STATEMENT'; LOAD DATA INFILE '{file}' IGNORE INTO TABLE keyed (@line) SET id = 500 + LENGTH(@line), t = 'file'",
    ),
    (
        "a file of no concern, as a statement",
        "CREATE TABLE tmp_loaded (n INT); SET SESSION binlog_format = 'STATEMENT'; LOAD DATA INFILE '{file}' INTO TABLE tmp_loaded (@line) SET n = LENGTH(@line)",
    ),
    (
        "a file",
        "LOAD DATA INFILE '{file}' INTO TABLE no_key (@line) SET a = LENGTH(@line), b = 'file'",
    ),
    (
        // MariaDB names the other table before the rows of the first, and leaves its rows out.
        "rows that a foreign key changes",
        "CREATE TABLE parent (id INT PRIMARY KEY);
         CREATE TABLE child (id INT PRIMARY KEY, parent INT, FOREIGN KEY (parent) REFERENCES parent (id) ON DELETE CASCADE ON UPDATE CASCADE);
         CREATE TABLE grandchild (id INT PRIMARY KEY, child INT, FOREIGN KEY (child) REFERENCES child (id) ON DELETE SET NULL);
         INSERT INTO parent VALUES (1), (2), (3); INSERT INTO child VALUES (1, 1), (2, 2), (3, 3); INSERT INTO grandchild VALUES (1, 1), (2, 2);
         {run} DELETE FROM parent WHERE id = 1; UPDATE parent SET id = 20 WHERE id = 2; REPLACE INTO parent VALUES (3)",
    ),
];

/// Rows that are replaced and merged in all the ways that name a part of them. MariaDB logs a REPLACE as an update of
/// the columns it names, though it changes the others too.
const REPLACED_IN_PART: &str = "
    CREATE TABLE numbered (id INT AUTO_INCREMENT PRIMARY KEY, u INT UNIQUE, v INT DEFAULT 7, w VARCHAR(20), body TEXT);
    CREATE TABLE pairs (a INT, b VARCHAR(10) DEFAULT 'b', v INT, w INT DEFAULT 3, PRIMARY KEY (a, b));
    CREATE TABLE with_defaults (id INT PRIMARY KEY, v INT, choice ENUM('a','b') DEFAULT 'b', price DECIMAL(8,2) DEFAULT 1.5, day DATE DEFAULT '2020-01-02',
      quoted VARCHAR(20) DEFAULT 'it''s \\ ''NULL''', blank VARCHAR(5) NOT NULL DEFAULT '', bits BIT(5) DEFAULT b'101', made DATETIME(3) DEFAULT CURRENT_TIMESTAMP(3),
      moved TIMESTAMP(3) NULL DEFAULT CURRENT_TIMESTAMP(3) ON UPDATE CURRENT_TIMESTAMP(3), computed VARCHAR(40) DEFAULT (CONCAT('a', 'b')), text_null VARCHAR(5) DEFAULT 'NULL',
      doubled INT AS (v * 2) STORED, tripled INT AS (v * 3) VIRTUAL);
    INSERT INTO numbered VALUES (1, 10, 1, 'one', 'a'), (2, 20, 2, 'two', 'b'), (3, 30, 3, 'three', 'c'), (4, 40, 4, 'four', NULL);
    INSERT INTO pairs VALUES (1, 'b', 1, 1), (1, 'c', 2, 2), (2, 'b', 3, 3), (0, 'b', 4, 4);
    {run} SET SESSION binlog_row_image = '{image}';
    REPLACE INTO keyed (id, v) VALUES (1, 5), (7, 7); REPLACE INTO keyed (id, t) VALUES (3, 'ü');
    INSERT INTO keyed (id, v) VALUES (2, 1), (8, 8) ON DUPLICATE KEY UPDATE v = v + 1, body = 'merged';
    UPDATE keyed SET v = v + 100 WHERE id IN (1, 4); UPDATE keyed SET id = 9, choice = 'b' WHERE id = 8;
    REPLACE INTO numbered (u, w) VALUES (20, 'again'); REPLACE INTO numbered (id, w) VALUES (3, 'third');
    INSERT INTO numbered (u) VALUES (50); UPDATE numbered SET w = NULL WHERE id = 1; DELETE FROM numbered WHERE id = 4;
    REPLACE INTO pairs (a, v) VALUES (1, 9), (2, 9); REPLACE INTO pairs (a, b) VALUES (1, 'c');
    INSERT INTO with_defaults (id, v) VALUES (1, 1), (2, 2), (3, 3); UPDATE with_defaults SET v = 20 WHERE id = 2; REPLACE INTO with_defaults (id) VALUES (3);
    INSERT INTO with_defaults (id, quoted) VALUES (1, 'merged'), (4, 'new') ON DUPLICATE KEY UPDATE quoted = VALUES(quoted);
    UPDATE pairs SET v = NULL WHERE a = 0; UPDATE pairs SET b = 'd' WHERE a = 2; UPDATE pairs SET w = 8 WHERE b = 'b'";

/// MariaDB logs such rows whole, MySQL what they were and what changed.
const WITHOUT_KEY_IN_PART: &str = "
    {run} SET SESSION binlog_row_image = '{image}';
    UPDATE no_key SET b = 'z' WHERE a = 1 LIMIT 1; UPDATE no_key SET a = NULL WHERE b = 'y';
    INSERT INTO no_key (b) VALUES ('only'); UPDATE no_key SET a = 8 WHERE b = 'only'; DELETE FROM no_key WHERE a = 1;
    ALTER TABLE no_key ADD COLUMN c INT DEFAULT 5; INSERT INTO no_key (b) VALUES ('new'); ALTER TABLE no_key ALTER COLUMN c SET DEFAULT 6;
    INSERT INTO no_key (b) VALUES ('more')";

/// Rows that are logged in part arrive whole, once more after a restart.
pub async fn rows_in_part(flavor: Flavor) -> Result<(), Failure> {
    for image in ["MINIMAL", "NOBLOB"] {
        let mut fixture = Fixture::start(flavor).await?;
        let mut session = fixture.session().await?;
        session.execute(TABLES).await?;
        for sql in [REPLACED_IN_PART, WITHOUT_KEY_IN_PART] {
            let sql = sql.replace("{image}", image);
            let (before, after) = sql.split_once("{run}").ok_or("no {run}")?;
            if !before.trim().is_empty() {
                session.execute(before).await?;
                fixture
                    .create_pipeline(Schedule::OnDemand, "chunk_rows = 2")
                    .await?;
            }
            fixture
                .follow(&format!("before {image} of {flavor:?}"))
                .await?;
            session.execute(after).await?;
            fixture.follow(image).await?;
            fixture.kill()?;
            fixture.restart().await?;
            session
                .execute("UPDATE keyed SET v = v + 1 WHERE id = 3")
                .await?;
            fixture.follow(&format!("{image} after a kill")).await?;
        }
        fixture.finish().await?;
    }
    Ok(())
}

/// Only MySQL can log a document in part.
const PARTIAL_JSON: (&str, &str) = (
    "documents in part",
    "CREATE TABLE documents (id INT PRIMARY KEY, j JSON, v INT);
     INSERT INTO documents VALUES (1, JSON_OBJECT('a', 1, 'pad', REPEAT('x', 300), 'list', JSON_ARRAY(1, 2, 3)), 1);
     {run} SET SESSION binlog_row_value_options = 'PARTIAL_JSON';
     UPDATE documents SET j = JSON_SET(j, '$.a', 2);
     UPDATE documents SET j = JSON_REMOVE(JSON_REPLACE(j, '$.list[1]', 7), '$.list[0]'), v = 2",
);

pub async fn sessions_that_log_less(flavor: Flavor) -> Result<(), Failure> {
    let only = (flavor == Flavor::MySql).then_some(PARTIAL_JSON);
    for (what, sql) in SPARSE_SESSIONS.iter().copied().chain(only) {
        let fixture = Fixture::start(flavor).await?;
        let mut session = fixture.session().await?;
        session.execute(TABLES).await?;
        fixture
            .create_pipeline(Schedule::OnDemand, "chunk_rows = 2")
            .await?;
        // One that is there beside any server's data.
        let folder = session.value("SELECT @@datadir").await?;
        let sql = sql.replace("{file}", &format!("{folder}../first.sql"));
        let (before, after) = sql.split_once("{run}").unwrap_or(("DO 0", &sql));
        session.execute(before).await?;
        fixture.follow(&format!("before {what}")).await?;
        session.execute(after).await?;
        let follows = fixture.follow_or_tell(what, SPARSE).await?;
        assert!(follows || !what.contains("of no concern"), "{what}");
        fixture.finish().await?;
    }
    Ok(())
}
