//! What statements do to tables themselves, with rows changed before and after each in one run.

use boathouse_tests::mysql::Flavor;
use boathouse_tests::{Failure, value};

use crate::{Fixture, Schedule};

const TABLES: &str = "
    CREATE TABLE t (id INT PRIMARY KEY, a VARCHAR(20), b INT, c DECIMAL(8,2));
    INSERT INTO t VALUES (1, 'one', 1, 1.5), (2, 'two', 2, NULL), (3, NULL, NULL, 3);
    CREATE TABLE other (id INT PRIMARY KEY, a INT);
    INSERT INTO other VALUES (1, 1), (2, 2);
    CREATE TABLE no_key (a INT, b VARCHAR(20));
    INSERT INTO no_key VALUES (1, 'x'), (1, 'x'), (2, NULL);
    CREATE TABLE converted (id INT PRIMARY KEY, a VARCHAR(20), b TEXT, c CHAR(5)) CHARACTER SET utf8mb4;
    INSERT INTO converted VALUES (1, 'один', 'ö', 'ä'), (2, '', NULL, '');
    CREATE TABLE still (id INT PRIMARY KEY, a INT);
    INSERT INTO still VALUES (1, 1)";

/// `{other_database}` is another database at the source, which the pipeline does not read.
const STEPS: &[(&str, &str)] = &[
    (
        "ADD COLUMN",
        "INSERT INTO t VALUES (10, 'before', 10, 10); UPDATE t SET b = 100 WHERE id = 1; DELETE FROM t WHERE id = 2;
         ALTER TABLE t ADD COLUMN d INT;
         INSERT INTO t VALUES (11, 'after', 11, 11, 11); UPDATE t SET d = 5 WHERE id = 3; UPDATE t SET b = b + 1 WHERE id = 10",
    ),
    (
        "ADD COLUMN that nothing follows",
        "ALTER TABLE t ADD COLUMN alone VARCHAR(10) DEFAULT 'dflt'",
    ),
    (
        "ADD COLUMN with a constant, first and after another",
        "INSERT INTO t (id, a) VALUES (12, 'before');
         ALTER TABLE t ADD COLUMN e VARCHAR(10) NOT NULL DEFAULT 'it''s e' FIRST;
         INSERT INTO t (id, e) VALUES (13, 'between');
         ALTER TABLE t ADD COLUMN f DECIMAL(9,3) DEFAULT 1.5 AFTER a;
         INSERT INTO t (id, f) VALUES (14, NULL); UPDATE t SET f = 2 WHERE id = 1; DELETE FROM t WHERE id = 13",
    ),
    (
        "ADD COLUMN with the defaults of other types",
        "ALTER TABLE t ADD COLUMN g1 DATETIME(3) NOT NULL DEFAULT '2024-01-01 00:00:00.5',
                       ADD COLUMN g2 ENUM('x','y') NOT NULL DEFAULT 'y', ADD COLUMN g3 BIT(1) DEFAULT b'1',
                       ADD COLUMN g4 BINARY(3) DEFAULT 'a', ADD COLUMN g5 BIGINT UNSIGNED DEFAULT 18446744073709551615,
                       ADD COLUMN g6 TIME DEFAULT '-01:00:00', ADD COLUMN g7 DATE DEFAULT '2024-02-29',
                       ADD COLUMN g8 VARCHAR(10) CHARACTER SET latin1 DEFAULT 'ä', ADD COLUMN g9 DOUBLE DEFAULT 0.1,
                       ADD COLUMN g10 SET('p','q') DEFAULT 'p,q', ADD COLUMN g11 YEAR DEFAULT 2001;
         INSERT INTO t (id) VALUES (15)",
    ),
    (
        "ADD COLUMN with the present time",
        "ALTER TABLE t ADD COLUMN h TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3) ON UPDATE CURRENT_TIMESTAMP(3),
                       ADD COLUMN i DATETIME DEFAULT CURRENT_TIMESTAMP;
         INSERT INTO t (id) VALUES (16); UPDATE t SET b = 7 WHERE id = 1",
    ),
    (
        "ADD COLUMN NOT NULL without a default",
        "ALTER TABLE t ADD COLUMN j INT NOT NULL, ADD COLUMN k VARCHAR(10) NOT NULL AFTER id, ADD COLUMN l DECIMAL(6,2) NOT NULL,
                       ADD COLUMN m BINARY(2) NOT NULL, ADD COLUMN o ENUM('first','second') NOT NULL;
         INSERT INTO t (id, j, k, l, m, o) VALUES (17, 1, 'k', 1, 'm', 'second')",
    ),
    (
        "DROP COLUMN",
        "UPDATE t SET d = 99 WHERE id = 1; INSERT INTO t (id, d, j, k, l, m, o) VALUES (18, 5, 1, '', 0, '', 'first');
         ALTER TABLE t DROP COLUMN d;
         UPDATE t SET b = 55 WHERE id = 18; DELETE FROM t WHERE id = 11",
    ),
    (
        "RENAME COLUMN",
        "UPDATE t SET a = 'under its old name' WHERE id = 1;
         ALTER TABLE t RENAME COLUMN a TO renamed;
         UPDATE t SET renamed = 'under its new' WHERE id = 3",
    ),
    (
        "RENAME COLUMN by CHANGE",
        "ALTER TABLE t CHANGE b `B two` INT; UPDATE t SET `B two` = 8 WHERE id = 3;
         ALTER TABLE t CHANGE COLUMN `B two` b BIGINT NULL; UPDATE t SET b = 9223372036854775807 WHERE id = 3",
    ),
    (
        "columns that change names",
        "ALTER TABLE t RENAME COLUMN renamed TO e, RENAME COLUMN e TO renamed;
         UPDATE t SET e = 'E', renamed = 'R' WHERE id = 1",
    ),
    (
        "a column dropped and one of its name added",
        "ALTER TABLE t DROP COLUMN f, ADD COLUMN f VARCHAR(10) DEFAULT 'new f'; UPDATE t SET f = 'set' WHERE id = 3;
         ALTER TABLE t DROP COLUMN alone; INSERT INTO t (id, j, k, l, m, o) VALUES (19, 1, '', 0, '', 'first');
         ALTER TABLE t ADD COLUMN alone VARCHAR(10); UPDATE t SET alone = 'again' WHERE id = 19",
    ),
    (
        "MODIFY to wider types",
        "CREATE TABLE widening (id INT PRIMARY KEY, a TINYINT, b INT, c VARCHAR(5), d DECIMAL(5,2), e FLOAT,
                                f SMALLINT UNSIGNED, g ENUM('a','b'), h BLOB, i INT UNSIGNED);
         INSERT INTO widening VALUES (1, 127, 1, 'c', 1.25, 0.1, 65535, 'b', x'00', 4294967295), (2, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
         ALTER TABLE widening MODIFY a INT;
         INSERT INTO widening VALUES (3, 2147483647, 1, 'c', 1, 1, 1, 'a', NULL, 0);
         ALTER TABLE widening MODIFY b BIGINT, MODIFY c VARCHAR(500), MODIFY d DECIMAL(12,4), MODIFY e DOUBLE,
                              MODIFY f INT, MODIFY g ENUM('a','b','c'), MODIFY h LONGBLOB, MODIFY i BIGINT;
         INSERT INTO widening VALUES (4, 1, 9223372036854775807, REPEAT('c', 500), 12345678.1234, 0.1, -1, 'c', x'FF', -1)",
    ),
    (
        "MODIFY of a table that is in the lake",
        "INSERT INTO widening VALUES (5, 1, 1, 'c', 1.5, 0.1, 1, 'a', x'01', 1);
         ALTER TABLE widening MODIFY a BIGINT, MODIFY c TEXT, MODIFY d DECIMAL(20,8) FIRST, MODIFY i DECIMAL(25,0);
         INSERT INTO widening (id, a, c, d, i) VALUES (6, 9223372036854775807, REPEAT('ü', 5000), 0.00000001, 1e24);
         UPDATE widening SET b = 0",
    ),
    (
        "members of an ENUM in another order",
        "INSERT INTO widening (id, g) VALUES (7, 'b'); ALTER TABLE widening MODIFY g ENUM('z','c','b','a');
         INSERT INTO widening (id, g) VALUES (8, 'b'), (9, 'z')",
    ),
    (
        "a table in another character set",
        "INSERT INTO converted VALUES (4, 'before', 'Ω', 'c');
         ALTER TABLE converted CONVERT TO CHARACTER SET utf16; INSERT INTO converted VALUES (5, 'снова', 'é😀', 'ö');
         UPDATE converted SET b = '😀' WHERE id = 1;
         ALTER TABLE converted MODIFY a VARCHAR(20) CHARACTER SET cp1251; INSERT INTO converted VALUES (6, 'Привет', NULL, NULL)",
    ),
    (
        "several changes in one ALTER",
        "UPDATE t SET e = 'before several' WHERE id = 10;
         ALTER TABLE t DROP COLUMN c, ADD COLUMN p INT NOT NULL DEFAULT 3 FIRST, RENAME COLUMN b TO q,
                       MODIFY k VARCHAR(100) AFTER e, ADD COLUMN r VARCHAR(5) AFTER id, ADD INDEX (q), COMMENT 'x';
         INSERT INTO t (id, p, q, k, r, j, l, m, o) VALUES (20, 1, 2, 'k', 'r', 0, 0, '', 'first'); UPDATE t SET q = -1 WHERE id = 10",
    ),
    (
        "indexes and other things that change no row",
        "ALTER TABLE t ADD INDEX by_e (e); CREATE INDEX by_j ON t (j); DROP INDEX by_j ON t; ANALYZE TABLE t;
         ALTER TABLE t ENGINE = InnoDB; ALTER TABLE t COMMENT 'ADD COLUMN x INT'; UPDATE t SET j = 4 WHERE id = 10",
    ),
    (
        "TRUNCATE",
        "INSERT INTO other VALUES (3, 3); TRUNCATE TABLE other; INSERT INTO other VALUES (1, 10), (4, 4);
         ALTER TABLE other ADD COLUMN after_truncate INT DEFAULT 1",
    ),
    (
        "CREATE TABLE",
        "CREATE TABLE made (id INT PRIMARY KEY, v TEXT); INSERT INTO made VALUES (1, 'x'); ALTER TABLE made ADD COLUMN w INT;
         UPDATE made SET w = 1; INSERT INTO made VALUES (2, 'y', 2);
         CREATE TABLE made_empty (id INT PRIMARY KEY);
         CREATE TABLE made_like LIKE made; INSERT INTO made_like SELECT * FROM made;
         CREATE TABLE made_as (PRIMARY KEY (id)) AS SELECT * FROM made; UPDATE made_as SET v = 'changed' WHERE id = 1;
         CREATE TABLE IF NOT EXISTS made (z INT); CREATE TABLE made_and_dropped (id INT PRIMARY KEY);
         INSERT INTO made_and_dropped VALUES (1); DROP TABLE made_and_dropped;
         CREATE TABLE tmp_made (id INT PRIMARY KEY); INSERT INTO tmp_made VALUES (1)",
    ),
    (
        "RENAME TABLE",
        "INSERT INTO made VALUES (3, 'before', 3); RENAME TABLE made TO made_renamed; INSERT INTO made_renamed VALUES (4, 'after', 4);
         ALTER TABLE made_like RENAME TO made_liked; UPDATE made_liked SET v = 'renamed'",
    ),
    (
        "RENAME TABLE that swaps",
        "CREATE TABLE swap_a (id INT PRIMARY KEY, v VARCHAR(9)); CREATE TABLE swap_b (id INT PRIMARY KEY, n INT);
         INSERT INTO swap_a VALUES (1, 'a'), (2, 'a'); INSERT INTO swap_b VALUES (1, 1), (5, 5)",
    ),
    (
        "RENAME TABLE that swaps tables of the lake",
        "INSERT INTO swap_a VALUES (3, 'before');
         RENAME TABLE swap_a TO swap_c, swap_b TO swap_a, swap_c TO swap_b;
         INSERT INTO swap_a VALUES (9, 9); INSERT INTO swap_b VALUES (9, 'was a'); DELETE FROM swap_a WHERE id = 1",
    ),
    (
        "tables that come from elsewhere and go there",
        "CREATE TABLE {other_database}.arriving (id INT PRIMARY KEY, v INT); INSERT INTO {other_database}.arriving VALUES (1, 1), (2, 2);
         RENAME TABLE {other_database}.arriving TO arriving; INSERT INTO arriving VALUES (3, 3);
         CREATE TABLE leaving (id INT PRIMARY KEY); INSERT INTO leaving VALUES (1);
         RENAME TABLE leaving TO {other_database}.leaving; INSERT INTO {other_database}.leaving VALUES (2)",
    ),
    (
        "a table renamed from a name that is left out",
        "INSERT INTO tmp_made VALUES (2); RENAME TABLE tmp_made TO no_longer_left_out; INSERT INTO no_longer_left_out VALUES (3)",
    ),
    (
        "an online change as gh-ost makes it",
        "CREATE TABLE _t_gho LIKE t; ALTER TABLE _t_gho ADD COLUMN by_ghost INT NOT NULL DEFAULT 8, DROP COLUMN r;
         CREATE TABLE _t_ghc (id BIGINT AUTO_INCREMENT PRIMARY KEY, hint VARCHAR(64) NOT NULL, value VARCHAR(255) NOT NULL, UNIQUE KEY (hint));
         INSERT INTO _t_ghc (hint, value) VALUES ('state', 'migrating');
         INSERT IGNORE INTO _t_gho (id, e, q, j, k, l, m, o) SELECT id, e, q, j, k, l, m, o FROM t WHERE id < 10;
         UPDATE t SET e = 'during' WHERE id = 1; REPLACE INTO _t_gho (id, e, q, j, k, l, m, o) SELECT id, e, q, j, k, l, m, o FROM t WHERE id = 1;
         INSERT IGNORE INTO _t_gho (id, e, q, j, k, l, m, o) SELECT id, e, q, j, k, l, m, o FROM t WHERE id >= 10;
         RENAME TABLE t TO _t_del, _t_gho TO t;
         INSERT INTO t (id, j, k, l, m, o, by_ghost) VALUES (30, 0, '', 0, '', 'first', 9); UPDATE t SET by_ghost = 1 WHERE id = 1;
         DROP TABLE _t_ghc",
    ),
    ("what gh-ost leaves", "DROP TABLE _t_del; UPDATE t SET e = 'alone' WHERE id = 3"),
    (
        "an online change as pt-online-schema-change makes it",
        "CREATE TABLE _t_new LIKE t; ALTER TABLE _t_new MODIFY j BIGINT NOT NULL, ADD COLUMN by_pt VARCHAR(9);
         CREATE TRIGGER pt_ins AFTER INSERT ON t FOR EACH ROW REPLACE INTO _t_new (id, e, j, k, l, m, o) VALUES (NEW.id, NEW.e, NEW.j, NEW.k, NEW.l, NEW.m, NEW.o);
         CREATE TRIGGER pt_del AFTER DELETE ON t FOR EACH ROW DELETE IGNORE FROM _t_new WHERE id = OLD.id;
         INSERT LOW_PRIORITY IGNORE INTO _t_new (id, e, j, k, l, m, o) SELECT id, e, j, k, l, m, o FROM t;
         INSERT INTO t (id, e, j, k, l, m, o) VALUES (31, 'during', 5, 'k', 1, 'm', 'second'); DELETE FROM t WHERE id = 10;
         RENAME TABLE t TO _t_old, _t_new TO t; DROP TABLE IF EXISTS _t_old; DROP TRIGGER IF EXISTS pt_ins;
         INSERT INTO t (id, e, j, k, l, m, o, by_pt) VALUES (32, 'after', 9223372036854775807, 'k', 1, 'm', 'second', 'pt')",
    ),
    (
        "statements that only look like changes of the table",
        "CREATE TEMPORARY TABLE still (x INT, y INT); INSERT INTO still VALUES (1, 2); ALTER TABLE still ADD COLUMN z INT;
         DROP TEMPORARY TABLE still;
         CREATE TABLE {other_database}.still (id INT PRIMARY KEY, a INT, zz INT); INSERT INTO {other_database}.still VALUES (7, 7, 7);
         ALTER TABLE {other_database}.still DROP COLUMN a; TRUNCATE {other_database}.still; DROP TABLE {other_database}.still;
         DROP TABLE IF EXISTS never_there; CREATE OR REPLACE VIEW seen AS SELECT * FROM still; DROP VIEW seen;
         INSERT INTO still VALUES (2, 2)",
    ),
    (
        "statements written oddly",
        "/* first */ ALTER /* ALTER TABLE other */ TABLE `still` /* x */ ADD `odd``name` INT DEFAULT 4 -- DROP COLUMN a
         ; ALTER TABLE still ADD (n1 INT DEFAULT 1, n2 VARCHAR(9) DEFAULT 'a,b) c'), ADD UNIQUE (n2, id);
         /*!50000 ALTER TABLE still ADD COLUMN in_comment INT DEFAULT 6 */;
         aLtEr tAbLe still\n\taDd\n cOlUmN cased INT DEFAULT 5; INSERT INTO still (id, cased) VALUES (3, 3)",
    ),
    (
        "columns of a table without a key",
        "DELETE FROM no_key WHERE a = 1 LIMIT 1; ALTER TABLE no_key ADD COLUMN c INT DEFAULT 1; INSERT INTO no_key VALUES (1, 'x', 1), (1, 'x', 1);
         DELETE FROM no_key WHERE a = 1 LIMIT 1; ALTER TABLE no_key DROP COLUMN b; DELETE FROM no_key WHERE a = 1 LIMIT 1; INSERT INTO no_key VALUES (2, 1)",
    ),
    (
        "a table dropped and made again",
        "INSERT INTO other (id) VALUES (50); DROP TABLE other; CREATE TABLE other (id INT PRIMARY KEY, a VARCHAR(20), z DATE);
         INSERT INTO other VALUES (1, 'new', '2024-01-01'), (7, 'seven', NULL)",
    ),
];

/// Rows that go or come, or get other values, with nothing of it in the binlog but the statement.
/// Nobody promises that a pipeline follows these. It is not to say that it did when it did not.
const BEYOND: &[(&str, &str)] = &[
    (
        "a type that holds less",
        "CREATE TABLE b1 (id INT PRIMARY KEY, a DATETIME(6), b DECIMAL(9,4)); INSERT INTO b1 VALUES (1, '2024-01-01 00:00:00.700001', 1.5678);
         {run} ALTER TABLE b1 MODIFY a DATETIME, MODIFY b DECIMAL(9,1); INSERT INTO b1 VALUES (2, NULL, 1)",
    ),
    (
        "a type of another kind",
        "CREATE TABLE b2 (id INT PRIMARY KEY, a INT, b VARCHAR(20), c VARCHAR(20)); INSERT INTO b2 VALUES (1, 12, '2024-01-02', '007');
         {run} ALTER TABLE b2 MODIFY a VARCHAR(20), MODIFY b DATE, MODIFY c INT; INSERT INTO b2 VALUES (2, 'text', NULL, 7)",
    ),
    (
        "a member of an ENUM under another name",
        "CREATE TABLE b3 (id INT PRIMARY KEY, a ENUM('a','b') NOT NULL, s SET('p','q','r')); INSERT INTO b3 VALUES (1, 'b', 'p,r');
         {run} ALTER TABLE b3 MODIFY a ENUM('b','a','c'), MODIFY s SET('r','q','p'); INSERT INTO b3 VALUES (2, 'a', 'q')",
    ),
    (
        "a generated column that is added",
        "CREATE TABLE b4 (id INT PRIMARY KEY, a INT); INSERT INTO b4 VALUES (1, 10), (2, 20);
         {run} ALTER TABLE b4 ADD COLUMN g INT GENERATED ALWAYS AS (a + 1) STORED, ADD COLUMN v INT GENERATED ALWAYS AS (a * 2) VIRTUAL;
         INSERT INTO b4 (id, a) VALUES (3, 30)",
    ),
    (
        "a column that counts",
        "CREATE TABLE b5 (a INT NOT NULL); INSERT INTO b5 VALUES (1), (2), (1);
         {run} ALTER TABLE b5 ADD COLUMN n INT NOT NULL AUTO_INCREMENT UNIQUE FIRST; INSERT INTO b5 (a) VALUES (3); DELETE FROM b5 WHERE n = 2",
    ),
    (
        "another key",
        "CREATE TABLE b6 (id INT PRIMARY KEY, other INT NOT NULL); INSERT INTO b6 VALUES (1, 10), (2, 20);
         {run} ALTER TABLE b6 DROP PRIMARY KEY, ADD PRIMARY KEY (other); UPDATE b6 SET id = 1; INSERT INTO b6 VALUES (1, 30)",
    ),
    (
        "no key any more",
        "CREATE TABLE b7 (id INT PRIMARY KEY, a INT); INSERT INTO b7 VALUES (1, 10), (2, 20);
         {run} ALTER TABLE b7 DROP PRIMARY KEY; INSERT INTO b7 VALUES (1, 10), (1, 11); DELETE FROM b7 WHERE id = 2",
    ),
    (
        "a key at last",
        "CREATE TABLE b8 (id INT NOT NULL, a INT); INSERT INTO b8 VALUES (1, 10), (2, 20);
         {run} ALTER TABLE b8 ADD PRIMARY KEY (id); UPDATE b8 SET a = 11 WHERE id = 1; UPDATE b8 SET id = 3 WHERE id = 2",
    ),
    (
        "partitions that are emptied and dropped",
        "CREATE TABLE b9 (id INT PRIMARY KEY, a INT) PARTITION BY RANGE (id)
           (PARTITION p0 VALUES LESS THAN (10), PARTITION p1 VALUES LESS THAN (20), PARTITION p2 VALUES LESS THAN (30));
         INSERT INTO b9 VALUES (1, 1), (11, 11), (21, 21);
         {run} ALTER TABLE b9 TRUNCATE PARTITION p0; ALTER TABLE b9 DROP PARTITION p1; INSERT INTO b9 VALUES (2, 2)",
    ),
    (
        "a partition that is exchanged",
        "CREATE TABLE b10 (id INT PRIMARY KEY, a INT) PARTITION BY RANGE (id)
           (PARTITION p0 VALUES LESS THAN (10), PARTITION p1 VALUES LESS THAN (20));
         CREATE TABLE b10_in (id INT PRIMARY KEY, a INT); INSERT INTO b10 VALUES (1, 1), (11, 11); INSERT INTO b10_in VALUES (2, 2);
         {run} ALTER TABLE b10 EXCHANGE PARTITION p0 WITH TABLE b10_in; INSERT INTO b10 VALUES (3, 3)",
    ),
    (
        "a default that is computed for each row",
        "CREATE TABLE b11 (id INT PRIMARY KEY); INSERT INTO b11 VALUES (1), (2);
         {run} ALTER TABLE b11 ADD COLUMN a VARCHAR(60) DEFAULT (CONCAT('n', 1 + 1)); INSERT INTO b11 (id) VALUES (3)",
    ),
    (
        "zeros for what was NULL",
        "CREATE TABLE b12 (id INT PRIMARY KEY, a INT, b VARCHAR(9)); INSERT INTO b12 VALUES (1, NULL, NULL), (2, 2, 'b');
         {run} SET SESSION sql_mode = ''; UPDATE b12 SET a = 0, b = '' WHERE id = 1;
         ALTER TABLE b12 MODIFY a INT NOT NULL DEFAULT 0, MODIFY b VARCHAR(9) NOT NULL; INSERT INTO b12 (id) VALUES (3)",
    ),
    (
        "text in a character set that holds less",
        "CREATE TABLE b13 (id INT PRIMARY KEY, a VARCHAR(20) CHARACTER SET utf8mb4); INSERT INTO b13 VALUES (1, 'é Ω');
         {run} SET SESSION sql_mode = ''; ALTER TABLE b13 MODIFY a VARCHAR(20) CHARACTER SET ascii; INSERT INTO b13 VALUES (2, 'x')",
    ),
];

/// Words of which an error about such a change has one.
const TOLD: &[&str] = &[
    "table",
    "column",
    "type",
    "key",
    "partition",
    "schema",
    "statement",
];

pub async fn schemas_follow(flavor: Flavor) -> Result<(), Failure> {
    let fixture = Fixture::start(flavor).await?;
    let mut session = fixture.session().await?;
    let other_database = format!("{}_other", fixture.database);
    session
        .execute(&format!("CREATE DATABASE {other_database}"))
        .await?;
    session.execute(TABLES).await?;
    fixture
        .create_pipeline(Schedule::OnDemand, "chunk_rows = 2")
        .await?;
    fixture.follow("the snapshot").await?;
    for (what, sql) in STEPS {
        let sql = sql.replace("{other_database}", &other_database);
        session.execute(&sql).await?;
        fixture.follow(what).await?;
    }

    // What the source drops, the lake keeps.
    session
        .execute(
            "INSERT INTO still (id, a) VALUES (100, 100); DROP TABLE still; INSERT INTO other VALUES (8, 'eight', NULL)",
        )
        .await?;
    let lake = fixture.follow("DROP TABLE").await?;
    let kept = value(&lake, "SELECT count(*), sum(id) FROM bronze.still").await?;
    assert_eq!(kept, "4|106");
    session
        .execute(&format!("DROP DATABASE {other_database}"))
        .await?;
    fixture.finish().await
}

pub async fn changes_beyond_the_schema_are_followed_or_told(flavor: Flavor) -> Result<(), Failure> {
    let mut followed: Option<Fixture> = None;
    for (what, sql) in BEYOND {
        let Some((before, after)) = sql.split_once("{run}") else {
            return Err(format!("{what} has no run").into());
        };
        let (fixture, new) = match followed.take() {
            Some(fixture) => (fixture, false),
            None => (Fixture::start(flavor).await?, true),
        };
        let mut session = fixture.session().await?;
        session.execute(before).await?;
        if new {
            fixture
                .create_pipeline(Schedule::OnDemand, "chunk_rows = 2")
                .await?;
        }
        fixture.follow(&format!("before {what}")).await?;
        session.execute(after).await?;
        if fixture.follow_or_tell(what, TOLD).await? {
            followed = Some(fixture);
        } else {
            fixture.finish().await?;
        }
    }
    match followed {
        Some(fixture) => fixture.finish().await,
        None => Ok(()),
    }
}
