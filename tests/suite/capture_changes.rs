//! What statements do to rows, step by step; after each the lake is what the source is.

use boathouse_tests::mysql::{Flavor, Source};
use boathouse_tests::{Failure, value};

use crate::{Fixture, Schedule};

const TABLES: &str = "
    CREATE TABLE keyed (id INT PRIMARY KEY, v INT, note VARCHAR(40), u INT UNIQUE);
    CREATE TABLE composite (a INT, b VARCHAR(20), v INT, PRIMARY KEY (b, a));
    CREATE TABLE text_key (k VARCHAR(30) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci PRIMARY KEY, v INT);
    CREATE TABLE odd_key (k BIGINT UNSIGNED, m DECIMAL(30,5), t DATETIME(6), b BINARY(4), v INT,
                          PRIMARY KEY (t, b, m, k));
    CREATE TABLE unique_key (v INT, code CHAR(6) NOT NULL UNIQUE, n INT UNIQUE);
    CREATE TABLE no_key (a INT, b VARCHAR(20));
    CREATE TABLE no_key_but_nullable (a INT UNIQUE, b VARCHAR(20));
    CREATE TABLE no_key_wide (a INT, f FLOAT, d DATETIME(3), b BLOB, t TEXT, o BIT(1));
    CREATE TABLE parent (id INT PRIMARY KEY, v INT);
    CREATE TABLE emptied (id INT PRIMARY KEY, v INT);
    CREATE TABLE never_filled (id INT PRIMARY KEY, v INT);
    CREATE TABLE never_filled_no_key (v INT);
    CREATE TABLE tmp_left_out (id INT PRIMARY KEY);
    INSERT INTO keyed VALUES (1, 10, 'one', 1), (2, 20, 'two', 2), (3, 30, NULL, NULL), (-5, 0, '', NULL);
    INSERT INTO composite VALUES (1, 'x', 1), (2, 'x', 2), (1, 'y', 3), (1, '', 4);
    INSERT INTO text_key VALUES ('a', 1), ('b', 2), ('Straße', 3), ('😀', 4), ('', 5);
    INSERT INTO odd_key VALUES (18446744073709551615, -1.5, '2024-01-01 00:00:00.000001', 'a', 1),
                               (0, 1.5, '2024-01-01 00:00:00.1', x'00000000', 2);
    INSERT INTO unique_key VALUES (1, 'aa', 1), (2, 'bb', NULL), (3, 'cc', NULL);
    INSERT INTO no_key VALUES (1, 'x'), (1, 'x'), (1, 'x'), (2, NULL), (2, NULL), (NULL, NULL);
    INSERT INTO no_key_but_nullable VALUES (1, 'x'), (NULL, 'x'), (NULL, 'x');
    INSERT INTO no_key_wide VALUES (1, 0.1, '2024-01-01 00:00:00.5', x'00FF', 'long', 1),
                                   (1, 0.1, '2024-01-01 00:00:00.5', x'00FF', 'long', 1);
    INSERT INTO parent VALUES (1, 1), (2, 2);
    INSERT INTO emptied VALUES (1, 1), (2, 2);
    INSERT INTO tmp_left_out VALUES (1)";

const STEPS: &[(&str, &str)] = &[
    ("nothing", "DO 0"),
    (
        "inserts, updates and deletes",
        "INSERT INTO keyed VALUES (4, 40, 'four', 4), (5, 50, 'five', 5);
         UPDATE keyed SET v = v + 1, note = NULL WHERE id IN (1, 4);
         UPDATE keyed SET note = 'four again' WHERE id = 4;
         DELETE FROM keyed WHERE id = 2;
         INSERT INTO composite VALUES (9, 'new', 9); UPDATE composite SET v = -v; DELETE FROM composite WHERE b = 'y';
         INSERT INTO unique_key VALUES (4, 'dd', 4); UPDATE unique_key SET n = 100 WHERE code = 'bb';
         UPDATE odd_key SET v = v + 1; INSERT INTO odd_key VALUES (7, 0, '1000-01-01', 'abcd', 3)",
    ),
    (
        "a row that comes, changes, goes and comes again",
        "BEGIN; INSERT INTO keyed VALUES (6, 1, 'first', NULL); UPDATE keyed SET v = 2 WHERE id = 6;
         DELETE FROM keyed WHERE id = 6; INSERT INTO keyed VALUES (6, 3, 'second', NULL); COMMIT;
         INSERT INTO keyed VALUES (7, 1, 'short', NULL); DELETE FROM keyed WHERE id = 7;
         DELETE FROM keyed WHERE id = 1; INSERT INTO keyed VALUES (1, 11, 'back', 1)",
    ),
    (
        "keys that change",
        "UPDATE keyed SET id = id + 1000 WHERE id = 3;
         UPDATE keyed SET id = id + 1 ORDER BY id DESC;
         UPDATE composite SET a = a + 1, b = 'z' WHERE b = 'new';
         UPDATE unique_key SET code = 'ee' WHERE code = 'aa';
         UPDATE odd_key SET k = k - 1, t = t + INTERVAL 1 MICROSECOND WHERE k > 0;
         UPDATE keyed SET id = 2000 WHERE id = 1004; INSERT INTO keyed VALUES (1004, 0, 'in its place', NULL)",
    ),
    (
        "keys that are swapped",
        "BEGIN; UPDATE parent SET id = 99 WHERE id = 1; UPDATE parent SET id = 1 WHERE id = 2;
         UPDATE parent SET id = 2 WHERE id = 99; COMMIT;
         BEGIN; UPDATE text_key SET k = 'tmp' WHERE k = 'a'; UPDATE text_key SET k = 'a' WHERE k = 'b';
         UPDATE text_key SET k = 'b' WHERE k = 'tmp'; COMMIT;
         BEGIN; UPDATE unique_key SET code = 'tt' WHERE code = 'bb'; UPDATE unique_key SET code = 'bb' WHERE code = 'cc';
         UPDATE unique_key SET code = 'cc' WHERE code = 'tt'; UPDATE unique_key SET v = v * 10; COMMIT",
    ),
    (
        "text keys that differ in case, accents and spaces only",
        "UPDATE text_key SET k = 'A' WHERE k = 'a';
         UPDATE text_key SET k = 'B ' WHERE k = 'b';
         UPDATE text_key SET k = 'strasse' WHERE k = 'Straße';
         DELETE FROM text_key WHERE k = 'B'; INSERT INTO text_key VALUES ('b', 22);
         REPLACE INTO text_key VALUES ('á', 33);
         INSERT INTO text_key VALUES ('À', 1) ON DUPLICATE KEY UPDATE v = v + 100",
    ),
    (
        "inserts that meet rows",
        "INSERT INTO keyed VALUES (2, 1, 'x', 50), (3000, 2, 'y', 51)
           ON DUPLICATE KEY UPDATE v = v + 1000, note = 'met';
         INSERT INTO keyed VALUES (3001, 1, 'by its other key', 51) ON DUPLICATE KEY UPDATE id = 3002;
         REPLACE INTO keyed VALUES (3002, 5, 'replaced', 52), (3003, 6, 'new', 53);
         REPLACE INTO keyed VALUES (3004, 7, 'takes two', 53), (3002, 8, 'once more', 53);
         INSERT IGNORE INTO keyed VALUES (3002, 0, 'ignored', NULL), (3005, 0, 'not ignored', NULL);
         REPLACE INTO composite VALUES (1, 'x', 100), (1, 'X', 101)",
    ),
    (
        "transactions over several tables",
        "BEGIN; INSERT INTO parent VALUES (10, 10); INSERT INTO keyed VALUES (10000, 1, 'a', NULL);
         UPDATE parent SET v = 11 WHERE id = 10; INSERT INTO no_key VALUES (10, 'ten');
         INSERT INTO tmp_left_out VALUES (10); DELETE FROM composite LIMIT 1; COMMIT;
         UPDATE parent p JOIN keyed k ON k.id = p.id SET p.v = 500, k.v = 600;
         DELETE p, k FROM parent p JOIN keyed k ON k.id = p.id WHERE p.id = 2",
    ),
    (
        "work that is rolled back",
        "BEGIN; INSERT INTO keyed VALUES (20000, 1, 'never', NULL); DELETE FROM parent; DELETE FROM no_key; ROLLBACK;
         BEGIN; INSERT INTO keyed VALUES (20001, 1, 'kept', NULL); SAVEPOINT s;
         INSERT INTO keyed VALUES (20002, 1, 'never', NULL); UPDATE keyed SET v = 0; DELETE FROM no_key;
         ROLLBACK TO s; INSERT INTO keyed VALUES (20003, 1, 'kept', NULL); SAVEPOINT s;
         UPDATE keyed SET v = -1 WHERE id = 20003; RELEASE SAVEPOINT s; COMMIT",
    ),
    (
        "rows without a key",
        "DELETE FROM no_key WHERE a = 1 LIMIT 1;
         UPDATE no_key SET b = 'one of two' WHERE a = 1 LIMIT 1;
         DELETE FROM no_key WHERE a = 2 LIMIT 1;
         INSERT INTO no_key VALUES (3, 'y'), (3, 'y'), (3, 'y'); DELETE FROM no_key WHERE a = 3 LIMIT 2;
         BEGIN; INSERT INTO no_key VALUES (4, 'z'); DELETE FROM no_key WHERE a = 4; INSERT INTO no_key VALUES (4, 'z'), (4, 'z'); COMMIT;
         UPDATE no_key SET a = 1, b = 'x' WHERE a = 3;
         DELETE FROM no_key_but_nullable WHERE a IS NULL LIMIT 1; UPDATE no_key_but_nullable SET a = 7 WHERE a IS NULL;
         INSERT INTO no_key_but_nullable VALUES (NULL, 'x'), (NULL, 'x');
         DELETE FROM no_key_wide LIMIT 1; INSERT INTO no_key_wide SELECT * FROM no_key_wide;
         UPDATE no_key_wide SET f = 16777216, t = NULL LIMIT 1",
    ),
    (
        "a truncated table",
        "INSERT INTO emptied VALUES (3, 3); TRUNCATE emptied; INSERT INTO emptied VALUES (1, 100), (4, 4);
         TRUNCATE TABLE no_key_wide;
         INSERT INTO no_key_but_nullable VALUES (50, 'before'); TRUNCATE no_key_but_nullable;
         INSERT INTO no_key_but_nullable VALUES (50, 'after')",
    ),
    ("a truncated table that stays empty", "TRUNCATE emptied; TRUNCATE never_filled"),
    (
        "a large transaction",
        "SET SESSION cte_max_recursion_depth = 100000;
         BEGIN;
         INSERT INTO emptied WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 4000)
           SELECT i, 0 FROM n;
         UPDATE emptied SET v = id % 7; DELETE FROM emptied WHERE v = 3;
         UPDATE emptied SET id = -id WHERE v = 4; INSERT INTO no_key SELECT v, 'many' FROM emptied; COMMIT;
         DELETE FROM no_key WHERE b = 'many' LIMIT 1500",
    ),
    (
        "tables emptied by deletes",
        "DELETE FROM emptied; DELETE FROM text_key; DELETE FROM no_key; INSERT INTO text_key VALUES ('a', 1)",
    ),
];

pub async fn changes_follow(flavor: Flavor) -> Result<(), Failure> {
    // A server of its own: the commit of what was prepared early has all pipelines of a server read their tables anew.
    let fixture = Fixture::start_at(Source::own(flavor, &[]).await?).await?;
    let mut session = fixture.session().await?;
    session.execute(TABLES).await?;
    // Of a transaction that was prepared before the pipeline begins, no row is met, neither in the tables nor in the binlog.
    let mut early = fixture.session().await?;
    let name = format!("{}0", fixture.database);
    early
        .execute(&format!(
            "XA START '{name}'; INSERT INTO keyed VALUES (900000, 1, 'early', NULL); INSERT INTO no_key VALUES (9, 'early');
             XA END '{name}'; XA PREPARE '{name}'"
        ))
        .await?;
    fixture
        .create_pipeline(Schedule::OnDemand, "chunk_rows = 2")
        .await?;
    let lake = fixture.follow("the snapshot").await?;
    early.execute(&format!("XA COMMIT '{name}'")).await?;
    fixture
        .follow("prepared before the beginning, then committed")
        .await?;
    for (what, sql) in STEPS {
        let sql = match flavor {
            Flavor::MySql => (*sql).to_owned(),
            Flavor::MariaDb => sql.replace("cte_max_recursion_depth", "max_recursive_iterations"),
        };
        session.execute(&sql).await?;
        fixture.follow(what).await?;
    }

    // Rows of a prepared transaction are in the binlog before anyone knows what becomes of them.
    let mut prepared = fixture.session().await?;
    for (number, end) in [(1, "XA COMMIT"), (2, "XA ROLLBACK")] {
        prepared
            .execute(&format!(
                "XA START '{database}{number}'; INSERT INTO keyed VALUES ({number}00000, 1, 'prepared', NULL);
                 UPDATE parent SET v = v + 1; INSERT INTO no_key VALUES ({number}, 'prepared');
                 XA END '{database}{number}'; XA PREPARE '{database}{number}'",
                database = fixture.database
            ))
            .await?;
        session
            .execute("INSERT INTO no_key VALUES (77, 'meanwhile')")
            .await?;
        fixture.follow(&format!("prepared before {end}")).await?;
        let sql = format!("{end} '{}{number}'", fixture.database);
        prepared.execute(&sql).await?;
        fixture.follow(&format!("prepared, then {end}")).await?;
    }

    if flavor == Flavor::MySql {
        session
            .execute(
                "SET SESSION binlog_transaction_compression = ON;
                 BEGIN; INSERT INTO keyed VALUES (300000, 1, REPEAT('c', 40), NULL);
                 UPDATE keyed SET v = v + 1; DELETE FROM parent LIMIT 1; COMMIT;
                 INSERT INTO emptied SELECT id, 1 FROM keyed;
                 SET SESSION binlog_transaction_compression = OFF",
            )
            .await?;
        fixture.follow("a compressed transaction").await?;
    }
    let left_out = value(
        &lake,
        "SELECT count(*) FROM information_schema.tables
         WHERE table_schema = 'bronze' AND table_name LIKE 'tmp%'",
    )
    .await?;
    assert_eq!(left_out, "0", "a table that EXCEPT names is in the lake");
    fixture.finish().await
}

/// What is held may not be more than some kilobytes, and one transaction is a hundred times that.
pub async fn a_transaction_larger_than_memory(flavor: Flavor) -> Result<(), Failure> {
    let fixture = Fixture::start(flavor).await?;
    let mut session = fixture.session().await?;
    session
        .execute(
            "CREATE TABLE tmp_digits (d INT); \
             INSERT INTO tmp_digits VALUES (0),(1),(2),(3),(4),(5),(6),(7),(8),(9); \
             CREATE TABLE large (id INT PRIMARY KEY, name VARCHAR(60), v DECIMAL(10,2)); \
             CREATE TABLE large_text (name VARCHAR(40), part INT, v TEXT, PRIMARY KEY (name, part)); \
             CREATE TABLE large_bag (a INT, b VARCHAR(60)); \
             CREATE TABLE little (id INT PRIMARY KEY)",
        )
        .await?;
    fixture
        .create_pipeline(Schedule::OnDemand, "batch_bytes = 50000")
        .await?;
    fixture.follow("the snapshot").await?;
    let commits = "SELECT count(*) FROM system.table_history WHERE table_name = 'large' AND operation = 'STREAMING UPDATE'";
    let lake = fixture.follow("nothing").await?;
    let before: i64 = value(&lake, commits).await?.parse()?;
    let numbers = "(SELECT a.d + 10 * b.d + 100 * c.d + 1000 * e.d AS n FROM tmp_digits a, tmp_digits b, \
                   tmp_digits c, tmp_digits e) seq";
    session
        .execute(&format!(
            "START TRANSACTION; \
             INSERT INTO large SELECT n, CONCAT('the name of number ', n), n / 4 FROM {numbers}; \
             INSERT INTO large_bag SELECT n % 100, CONCAT('row ', n % 50) FROM {numbers}; \
             INSERT INTO large_text SELECT CONCAT('name ', n % 500), n, REPEAT('x', n % 60) FROM {numbers}; \
             INSERT INTO little VALUES (1); \
             UPDATE large SET v = v + 1; \
             UPDATE large SET id = id + 100000 WHERE id % 7 = 0; \
             UPDATE large SET id = id - 50000 WHERE id >= 100000 AND id % 5 = 0; \
             UPDATE large_text SET name = UPPER(name) WHERE part % 3 = 0; \
             DELETE FROM large WHERE id % 11 = 0; \
             DELETE FROM large_bag WHERE a < 10 LIMIT 777; \
             UPDATE large_bag SET b = 'changed' WHERE a BETWEEN 20 AND 29; \
             INSERT INTO large SELECT n, 'again', 0 FROM {numbers} WHERE n % 7 = 0 AND n % 11 = 0; \
             COMMIT"
        ))
        .await?;
    let lake = fixture.follow("a large transaction").await?;
    // One commit of each table, whatever its size.
    let after: i64 = value(&lake, commits).await?.parse()?;
    assert_eq!(after, before + 1);
    session
        .execute("START TRANSACTION; DELETE FROM large WHERE id % 2 = 0; DELETE FROM large_bag WHERE a % 2 = 0; UPDATE large_text SET v = 'y'; COMMIT")
        .await?;
    fixture.follow("a second").await?;
    Ok(())
}
