//! Tables that land otherwise than they are at the source: columns left out, made of others, rows filtered, deleted
//! rows kept, every change a row.

use boathouse_tests::mysql::Flavor;
use boathouse_tests::{Failure, rows, value};

use crate::Fixture;

impl Fixture {
    /// Makes the pipeline `p`, or replaces it: `clauses` stand around `INTO SCHEMA bronze`.
    async fn shape(&self, source: &str, clauses: &str, options: &str) -> Result<(), Failure> {
        let database = &self.database;
        let sql = format!(
            "CREATE OR REPLACE PIPELINE p FROM MYSQL shop TABLES ('{database}.%') {source} INTO SCHEMA bronze \
             {clauses} SCHEDULE ON DEMAND WITH (target_lag = '0.1 s', {options})"
        );
        rows(
            &self.server.connect().await?,
            &sql.replace("{db}", database),
        )
        .await?;
        Ok(())
    }

    /// What a run says that fails.
    async fn refused(&self) -> Result<String, Failure> {
        match self.run().await {
            Ok(()) => Err("the run succeeded".into()),
            Err(error) => Ok(error.to_string()),
        }
    }

    async fn ran(&self, what: &str) -> Result<tokio_postgres::Client, Failure> {
        let ran = self.run().await;
        ran.map_err(|error| Failure::from(format!("{what}: {error}\n{}", self.log_end())))?;
        self.server.connect().await
    }
}

/// What `VERIFY PIPELINE p` says of each table that is not equal.
async fn differences(lake: &tokio_postgres::Client) -> Result<Vec<String>, Failure> {
    let all = rows(lake, "VERIFY PIPELINE p").await?;
    Ok(all
        .into_iter()
        .filter(|row| !row.contains("|equal|"))
        .collect())
}

pub async fn columns_are_left_out_made_and_filtered(flavor: Flavor) -> Result<(), Failure> {
    let fixture = Fixture::start(flavor).await?;
    let mut session = fixture.session().await?;
    session
        .execute(
            "CREATE TABLE people (id INT PRIMARY KEY, email VARCHAR(40), name VARCHAR(40), born DATE, secret TEXT);
             INSERT INTO people VALUES (1, 'a@x.id', 'Ayu', '1990-05-01', 's1'), (2, 'b@x.id', 'Budi', NULL, 's2');
             CREATE TABLE orders (id INT, line INT, total DECIMAL(9,2), state VARCHAR(9), PRIMARY KEY (id, line));
             INSERT INTO orders VALUES (1, 1, 10, 'open'), (1, 2, 20, 'draft'), (2, 1, 5, 'paid');
             CREATE TABLE items (what VARCHAR(9), n INT);
             INSERT INTO items VALUES ('x', 1), ('x', 1), ('y', -1)",
        )
        .await?;
    // A slip of the pen lets nothing through.
    for (columns, clause, told) in [
        (
            "",
            "FOR ('{db}.poeple') AS SELECT id FROM source",
            ["42P01", "poeple"],
        ),
        ("EXCEPT COLUMNS ('%.secrets')", "", ["42703", "secrets"]),
    ] {
        fixture.shape(columns, clause, "chunk_rows = 2").await?;
        let error = fixture.refused().await?;
        assert!(told.iter().all(|told| error.contains(told)), "{error}");
        let lake = fixture.server.connect().await?;
        let tables = "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'bronze'";
        assert_eq!(value(&lake, tables).await?, "0");
    }
    fixture
        .shape(
            "EXCEPT COLUMNS ('%.secret')",
            "FOR ('{db}.people') AS SELECT id, encode(sha256(email::bytea), 'hex') AS email, name, \
                extract(year from born)::int AS year FROM source \
             FOR ('{db}.orders') AS SELECT *, total * 2 AS twice FROM source WHERE state <> 'draft' \
             FOR ('{db}.items') AS SELECT upper(what) AS what, n FROM source WHERE n > 0",
            "chunk_rows = 2",
        )
        .await?;
    let lake = fixture.ran("the first rows").await?;
    let people = "SELECT id, left(email, 6), name, year FROM bronze.people ORDER BY id";
    let orders = "SELECT id, line, total, state, twice FROM bronze.orders ORDER BY id, line";
    let lines = "SELECT what, n FROM bronze.items ORDER BY n";
    assert_eq!(
        rows(&lake, people).await?,
        ["1|cd1fee|Ayu|1990", "2|b168e3|Budi|∅"].map(|row| row.to_owned()),
    );
    assert_eq!(
        rows(&lake, orders).await?,
        ["1|1|10.00|open|20.00", "2|1|5.00|paid|10.00"]
    );
    assert_eq!(rows(&lake, lines).await?, ["X|1", "X|1"]);
    session
        .execute(
            "UPDATE people SET email = 'a@x.id', name = 'Ayu B' WHERE id = 1; DELETE FROM people WHERE id = 2;
             INSERT INTO people VALUES (3, NULL, 'Cici', '2001-01-01', 's3');
             UPDATE orders SET state = 'open' WHERE line = 2; UPDATE orders SET state = 'draft' WHERE id = 2;
             UPDATE orders SET id = 9 WHERE id = 1 AND line = 1; INSERT INTO orders VALUES (3, 1, 1, NULL);
             DELETE FROM items WHERE what = 'x' LIMIT 1; UPDATE items SET n = 7; INSERT INTO items VALUES ('z', -5)",
        )
        .await?;
    let lake = fixture.ran("changes").await?;
    assert_eq!(
        rows(&lake, people).await?,
        ["1|cd1fee|Ayu B|1990", "3|∅|Cici|2001"].map(|row| row.to_owned())
    );
    assert_eq!(
        rows(&lake, orders).await?,
        ["1|2|20.00|open|40.00", "9|1|10.00|open|20.00"]
    );
    assert_eq!(rows(&lake, lines).await?, ["X|7", "Y|7"]);
    assert_eq!(differences(&lake).await?, [""; 0]);
    // What is broken here is found, and made whole by the same rules.
    for sql in [
        "UPDATE bronze.people SET email = 'plain' WHERE id = 1",
        "DELETE FROM bronze.orders WHERE id = 9",
        "INSERT INTO bronze.orders (id, line) VALUES (2, 1)",
    ] {
        rows(&lake, sql).await?;
    }
    assert_eq!(differences(&lake).await?.len(), 3);
    rows(&lake, "VERIFY PIPELINE p HEAL").await?;
    assert_eq!(differences(&lake).await?, [""; 0]);
    assert_eq!(
        rows(&lake, orders).await?,
        ["1|2|20.00|open|40.00", "9|1|10.00|open|20.00"]
    );
    // Columns that the source adds come along where the query names all; what is left out stays out.
    session
        .execute(
            "ALTER TABLE orders ADD COLUMN note VARCHAR(9) DEFAULT 'n', RENAME COLUMN state TO status;
             ALTER TABLE people ADD COLUMN phone VARCHAR(20); UPDATE people SET phone = '1'; ALTER TABLE people DROP COLUMN secret",
        )
        .await?;
    let error = fixture.refused().await?;
    assert!(
        error.contains("orders") && error.contains("state"),
        "{error}"
    );
    fixture
        .shape(
            "",
            "FOR ('{db}.orders') AS SELECT *, total * 3 AS twice FROM source WHERE status <> 'draft'",
            "chunk_rows = 2",
        )
        .await?;
    let lake = fixture.ran("another query").await?;
    assert_eq!(
        rows(
            &lake,
            "SELECT id, line, total, status, twice, note FROM bronze.orders ORDER BY id, line"
        )
        .await?,
        ["1|2|20.00|open|60.00|n", "9|1|10.00|open|30.00|n"]
    );
    assert_eq!(
        rows(
            &lake,
            "SELECT id, email, name, phone, born FROM bronze.people ORDER BY id"
        )
        .await?,
        ["1|a@x.id|Ayu B|1|1990-05-01", "3|∅|Cici|1|2001-01-01"].map(|row| row.to_owned())
    );
    assert_eq!(
        rows(
            &lake,
            "SELECT count(*), min(what), max(n) FROM bronze.items"
        )
        .await?,
        ["3|x|7"]
    );
    assert_eq!(differences(&lake).await?, [""; 0]);
    for (query, told) in [
        ("SELECT line, total FROM source", "\"id\" of its key"),
        ("SELECT id + 1 AS id, line FROM source", "\"id\" of its key"),
        (
            "SELECT id, line, sum(total) FROM source GROUP BY id, line",
            "row by row",
        ),
        ("SELECT *, now() AS at FROM source", "others each time"),
        ("SELECT *, random() AS r FROM source", "others each time"),
        ("SELECT id, line, missing FROM source", "missing"),
    ] {
        let clause = format!("FOR ('{{db}}.orders') AS {query}");
        fixture.shape("", &clause, "chunk_rows = 2").await?;
        let error = fixture.refused().await?;
        assert!(
            error.contains(told) && error.contains("orders"),
            "{query}: {error}"
        );
    }
    fixture.finish().await
}

pub async fn deleted_rows_are_kept(flavor: Flavor) -> Result<(), Failure> {
    let fixture = Fixture::start(flavor).await?;
    let mut session = fixture.session().await?;
    session
        .execute(
            "CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(9));
             INSERT INTO t VALUES (1, 'one'), (2, 'two'), (3, 'three'), (4, 'four')",
        )
        .await?;
    fixture
        .shape(
            "INCLUDE (op, commit_ts, gtid, position, ordinal)",
            "",
            "deletes = 'soft'",
        )
        .await?;
    let lake = fixture.ran("the first rows").await?;
    let all = "SELECT id, v, _op, _deleted FROM bronze.t ORDER BY id";
    assert_eq!(rows(&lake, all).await?[0], "1|one|r|f");
    session
        .execute(
            "DELETE FROM t WHERE id = 1; UPDATE t SET v = 'TWO' WHERE id = 2; UPDATE t SET id = 30 WHERE id = 3;
             DELETE FROM t WHERE id = 4; INSERT INTO t VALUES (4, 'again');
             START TRANSACTION; INSERT INTO t VALUES (5, 'a'); UPDATE t SET id = 6 WHERE id = 5; INSERT INTO t VALUES (5, 'b'); COMMIT",
        )
        .await?;
    let lake = fixture.ran("changes").await?;
    assert_eq!(
        rows(&lake, all).await?,
        [
            "1|one|d|t",
            "2|TWO|u|f",
            "3|three|d|t",
            "4|again|c|f",
            "5|b|c|f",
            "6|a|c|f",
            "30|three|c|f"
        ]
    );
    // Of one transaction, one after the other, a moment ago.
    let told = "SELECT count(DISTINCT _gtid) = 1, count(DISTINCT _position) = 1, count(DISTINCT _ordinal) = 2, \
                max(now() - _commit_ts) < interval '1 minute', min(_commit_ts) IS NOT NULL FROM bronze.t WHERE id IN (5, 6)";
    assert_eq!(rows(&lake, told).await?, ["t|t|t|t|t"]);
    assert_eq!(differences(&lake).await?, [""; 0]);
    rows(
        &lake,
        "UPDATE bronze.t SET _deleted = true WHERE id = 2; UPDATE bronze.t SET _deleted = false WHERE id = 1",
    )
    .await?;
    assert_eq!(differences(&lake).await?.len(), 2);
    rows(&lake, "VERIFY PIPELINE p HEAL").await?;
    assert_eq!(differences(&lake).await?, [""; 0]);
    // Read anew, what was deleted stays; and so does what is deleted meanwhile, or all at once.
    session.execute("DELETE FROM t WHERE id = 2").await?;
    rows(&lake, "RUN PIPELINE p FULL REFRESH").await?;
    let marks = "SELECT string_agg(id::text, ',' ORDER BY id) FILTER (WHERE _deleted), \
                 string_agg(id::text, ',' ORDER BY id) FILTER (WHERE NOT _deleted) FROM bronze.t";
    assert_eq!(rows(&lake, marks).await?, ["1,2,3|4,5,6,30"]);
    session
        .execute("TRUNCATE t; INSERT INTO t VALUES (7, 'new'), (1, 'back')")
        .await?;
    let lake = fixture.ran("TRUNCATE").await?;
    assert_eq!(rows(&lake, marks).await?, ["2,3,4,5,6,30|1,7"]);
    assert_eq!(
        value(&lake, "SELECT v FROM bronze.t WHERE id = 30").await?,
        "three"
    );
    assert_eq!(differences(&lake).await?, [""; 0]);
    fixture.finish().await
}

/// The same of a source that names some columns only: the others are those of the row that is here, or are asked for.
pub async fn deleted_rows_in_part_are_kept(flavor: Flavor) -> Result<(), Failure> {
    for image in ["MINIMAL", "NOBLOB"] {
        let mut fixture = Fixture::start(flavor).await?;
        let mut session = fixture.session().await?;
        session
            .execute(
                "CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(9), n INT DEFAULT 7, body TEXT);
                 INSERT INTO t VALUES (1, 'one', 1, 'a'), (2, 'two', 2, 'b'), (3, 'three', 3, 'c'), (4, 'four', 4, 'd'), (5, 'five', 5, 'e');
                 CREATE TABLE pairs (a INT, b INT, v VARCHAR(9), w INT, PRIMARY KEY (a, b)); INSERT INTO pairs VALUES (1, 1, 'x', 1), (2, 1, 'y', 2)",
            )
            .await?;
        fixture
            .shape("INCLUDE (op)", "", "deletes = 'soft'")
            .await?;
        fixture.ran("the first rows").await?;
        session
            .execute(&format!(
                "SET SESSION binlog_row_image = '{image}';
                 DELETE FROM t WHERE id = 1; UPDATE t SET v = 'TWO' WHERE id = 2; UPDATE t SET id = 30 WHERE id = 3;
                 DELETE FROM t WHERE id = 4; INSERT INTO t (id, v) VALUES (4, 'again'); REPLACE INTO t (id, v) VALUES (5, 'FIVE');
                 UPDATE pairs SET b = 2 WHERE a = 1; UPDATE pairs SET a = 3, w = 9 WHERE a = 2;
                 START TRANSACTION; INSERT INTO t VALUES (6, 'six', 6, 'f'); UPDATE t SET id = 7 WHERE id = 6; DELETE FROM t WHERE id = 7; COMMIT"
            ))
            .await?;
        let lake = fixture.ran(image).await?;
        let all = "SELECT id, v, n, body, _deleted FROM bronze.t ORDER BY id";
        let told = rows(&lake, all).await?;
        assert_eq!(
            told[..5],
            [
                "1|one|1|a|t",
                "2|TWO|2|b|f",
                "3|three|3|c|t",
                "4|again|7|∅|f",
                "5|FIVE|7|∅|f"
            ],
            "{image}"
        );
        assert_eq!(told[5], "6|six|6|f|t", "{image}");
        // Of a row that came and went at once under a key that changed, no more than its key may be told.
        assert!(
            told[6].starts_with("7|") && told[6].ends_with("|t"),
            "{told:?}"
        );
        assert_eq!(told[7], "30|three|3|c|f", "{image}");
        let pairs = "SELECT a, b, v, w, _deleted FROM bronze.pairs ORDER BY a, b";
        assert_eq!(
            rows(&lake, pairs).await?,
            ["1|1|x|1|t", "1|2|x|1|f", "2|1|y|2|t", "3|1|y|9|f"],
            "{image}"
        );
        assert_eq!(differences(&lake).await?, [""; 0], "{image}");
        // A row that is to be asked for, and a crash before it is.
        fixture.die_at("capture_table_committed").await?;
        session
            .execute("UPDATE t SET id = 31 WHERE id = 30; DELETE FROM t WHERE id = 2")
            .await?;
        assert!(fixture.run().await.is_err(), "{image}");
        fixture.restart().await?;
        let lake = fixture.ran("a crash").await?;
        let told = rows(&lake, all).await?;
        assert_eq!(told[1], "2|TWO|2|b|t", "{image}");
        assert_eq!(told[7..], ["30|three|3|c|t", "31|three|3|c|f"], "{image}");
        assert_eq!(differences(&lake).await?, [""; 0], "{image}");
        // A history needs rows that tell all.
        fixture.shape("", "", "deletes = 'history'").await?;
        session
            .execute("UPDATE t SET v = 'last' WHERE id = 31")
            .await?;
        let error = fixture.refused().await?;
        assert!(error.contains("binlog_row_image = FULL"), "{error}");
        fixture.finish().await?;
    }
    Ok(())
}

/// Rows that name some columns only are read whole where a query needs the others.
pub async fn queries_over_rows_in_part(flavor: Flavor) -> Result<(), Failure> {
    for image in ["MINIMAL", "NOBLOB"] {
        let mut fixture = Fixture::start(flavor).await?;
        let mut session = fixture.session().await?;
        session
            .execute(
                "CREATE TABLE people (id INT PRIMARY KEY, name VARCHAR(9), email VARCHAR(20) DEFAULT 'none', notes TEXT);
                 INSERT INTO people VALUES (1, 'ayu', 'a@x.id', 'aaa'), (2, 'budi', 'b@x.id', 'bb'), (3, 'hidden', 'c@x.id', NULL),
                                           (4, 'dewi', 'd@x.id', ''), (5, 'eka', 'e@x.id', 'e'), (6, 'fajar', 'f@x.id', 'f');
                 CREATE TABLE pairs (a INT, b INT, v INT, w INT, PRIMARY KEY (a, b)); INSERT INTO pairs VALUES (1, 1, 1, 1), (2, 1, 2, 0), (3, 1, 3, 1)",
            )
            .await?;
        let queries = "FOR ('{db}.people') AS SELECT id, upper(name) AS name, length(notes) AS n FROM source WHERE name <> 'hidden' \
                       FOR ('{db}.pairs') AS SELECT *, v * 2 AS twice FROM source WHERE w > 0";
        fixture.shape("", queries, "chunk_rows = 2").await?;
        fixture.ran("the first rows").await?;
        session
            .execute(&format!(
                "SET SESSION binlog_row_image = '{image}';
                 UPDATE people SET notes = 'aaaa' WHERE id = 1; UPDATE people SET name = 'hidden' WHERE id = 2;
                 UPDATE people SET name = 'cici' WHERE id = 3; DELETE FROM people WHERE id = 4; UPDATE people SET id = 50 WHERE id = 5;
                 REPLACE INTO people (id, name) VALUES (6, 'FAJAR'), (7, 'gita');
                 UPDATE pairs SET b = 2 WHERE a = 1; UPDATE pairs SET w = 5 WHERE a = 2; UPDATE pairs SET w = 0, a = 4 WHERE a = 3;
                 START TRANSACTION; INSERT INTO people VALUES (8, 'hani', 'h', 'hh'); UPDATE people SET id = 9 WHERE id = 8; UPDATE people SET email = 'i' WHERE id = 9; COMMIT"
            ))
            .await?;
        let lake = fixture.ran(image).await?;
        let people = "SELECT id, name, n FROM bronze.people ORDER BY id";
        let expected = [
            "1|AYU|4",
            "3|CICI|∅",
            "6|FAJAR|∅",
            "7|GITA|∅",
            "9|HANI|2",
            "50|EKA|1",
        ];
        assert_eq!(rows(&lake, people).await?, expected, "{image}");
        let pairs = "SELECT a, b, v, w, twice FROM bronze.pairs ORDER BY a";
        let expected = ["1|2|1|1|2", "2|1|2|5|4"];
        assert_eq!(rows(&lake, pairs).await?, expected, "{image}");
        assert_eq!(differences(&lake).await?, [""; 0], "{image}");
        // A crash before the rows are read.
        fixture.die_at("capture_table_committed").await?;
        session
            .execute("UPDATE people SET id = 51 WHERE id = 50; UPDATE people SET name = 'ani' WHERE id = 1; DELETE FROM pairs WHERE a = 2")
            .await?;
        assert!(fixture.run().await.is_err(), "{image}");
        fixture.restart().await?;
        let lake = fixture.ran("a crash").await?;
        let expected = [
            "1|ANI|4",
            "3|CICI|∅",
            "6|FAJAR|∅",
            "7|GITA|∅",
            "9|HANI|2",
            "51|EKA|1",
        ];
        assert_eq!(rows(&lake, people).await?, expected, "{image}");
        assert_eq!(differences(&lake).await?, [""; 0], "{image}");
        fixture.finish().await?;
    }
    Ok(())
}

pub async fn every_change_is_a_row(flavor: Flavor) -> Result<(), Failure> {
    let mut fixture = Fixture::start(flavor).await?;
    let mut session = fixture.session().await?;
    session
        .execute(
            "CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(9)); INSERT INTO t VALUES (1, 'one'), (2, 'two');
             CREATE TABLE k (v INT); INSERT INTO k VALUES (1), (1)",
        )
        .await?;
    fixture.shape("", "", "deletes = 'history'").await?;
    fixture.ran("the first rows").await?;
    session
        .execute(
            "UPDATE t SET v = 'ONE' WHERE id = 1; DELETE FROM t WHERE id = 2; INSERT INTO t VALUES (3, 'three');
             UPDATE t SET id = 4 WHERE id = 3; UPDATE k SET v = 2 LIMIT 1",
        )
        .await?;
    let lake = fixture.ran("changes").await?;
    let history = "SELECT id, v, _op FROM bronze.t ORDER BY _position NULLS FIRST, _ordinal, id";
    let expected = [
        "1|one|r",
        "2|two|r",
        "1|ONE|u",
        "2|two|d",
        "3|three|c",
        "3|three|d",
        "4|three|c",
    ];
    assert_eq!(rows(&lake, history).await?, expected);
    assert_eq!(
        rows(
            &lake,
            "SELECT v, _op, count(*) FROM bronze.k GROUP BY v, _op ORDER BY _op, v"
        )
        .await?,
        ["1|d|1", "1|r|2", "2|u|1"]
            .map(|row| row.to_owned())
            .map(|row| row),
    );
    // Exactly once over a kill.
    fixture.kill()?;
    session
        .execute("UPDATE t SET v = 'four' WHERE id = 4")
        .await?;
    fixture.restart().await?;
    let lake = fixture.ran("a kill").await?;
    assert_eq!(rows(&lake, history).await?[expected.len()..], ["4|four|u"]);
    session
        .execute("TRUNCATE t; INSERT INTO t VALUES (9, 'nine')")
        .await?;
    let lake = fixture.ran("TRUNCATE").await?;
    assert_eq!(
        rows(&lake, history).await?[expected.len() + 1..],
        ["9|nine|c"]
    );
    let Err(error) = rows(&lake, "VERIFY PIPELINE p").await else {
        return Err("a history was compared".into());
    };
    assert!(error.to_string().contains("history"), "{error}");
    fixture.finish().await
}

/// What each kind of change does under each of its policies.
pub async fn changes_of_columns_are_followed_as_told(flavor: Flavor) -> Result<(), Failure> {
    let fixture = Fixture::start(flavor).await?;
    let mut session = fixture.session().await?;
    session
        .execute("CREATE TABLE t (id INT PRIMARY KEY, a INT, b INT, c INT); INSERT INTO t VALUES (1, 1, 1, 1)")
        .await?;
    let ignoring = "add_column = 'ignore', drop_column = 'ignore', truncate = 'ignore', \
                    rename_column = 'exception', change_type = 'exception', drop_table = 'exception'";
    fixture.shape("", "", ignoring).await?;
    fixture.ran("the first rows").await?;
    session
        .execute(
            "ALTER TABLE t ADD COLUMN d INT DEFAULT 5; UPDATE t SET d = 6; ALTER TABLE t DROP COLUMN a;
             INSERT INTO t VALUES (2, 2, 2, 2); TRUNCATE t; INSERT INTO t VALUES (3, 3, 3, 3)",
        )
        .await?;
    let lake = fixture.ran("ignored").await?;
    let all = "SELECT id, a, b, c FROM bronze.t ORDER BY id";
    let columns = "SELECT string_agg(column_name, ',' ORDER BY ordinal_position) \
                   FROM information_schema.columns WHERE table_name = 't' AND table_schema = 'bronze'";
    let ignored = ["1|1|1|1", "2|∅|2|2", "3|∅|3|3"];
    assert_eq!(rows(&lake, columns).await?, ["id,a,b,c"]);
    assert_eq!(rows(&lake, all).await?, ignored);
    rows(&lake, "RUN PIPELINE p").await?;
    for (change, back, option) in [
        (
            "RENAME COLUMN b TO bb",
            "RENAME COLUMN bb TO b",
            "rename_column",
        ),
        ("MODIFY b BIGINT", "MODIFY b INT", "change_type"),
    ] {
        session.execute(&format!("ALTER TABLE t {change}")).await?;
        let error = fixture.refused().await?;
        assert!(
            error.starts_with("55000") && error.contains(option),
            "{error}"
        );
        assert_eq!(rows(&lake, all).await?, ignored);
        session.execute(&format!("ALTER TABLE t {back}")).await?;
    }
    session.execute("DROP TABLE t").await?;
    session
        .execute("CREATE TABLE t (id INT PRIMARY KEY, b INT, c INT, d INT); INSERT INTO t VALUES (4, 4, 4, 4)")
        .await?;
    let error = fixture.refused().await?;
    assert!(error.contains("drop_table"), "{error}");
    fixture
        .shape(
            "",
            "",
            "add_column = 'exception', drop_column = 'exception', truncate = 'exception'",
        )
        .await?;
    let lake = fixture.ran("made again").await?;
    let again = "SELECT id, b, c FROM bronze.t";
    assert_eq!(rows(&lake, again).await?, ["4|4|4"]);
    session.execute("ALTER TABLE t DROP COLUMN c").await?;
    let error = fixture.refused().await?;
    assert!(
        error.contains("drop_column") && error.contains("(c)"),
        "{error}"
    );
    assert_eq!(rows(&lake, again).await?, ["4|4|4"]);
    fixture.shape("", "", "add_column = 'exception'").await?;
    let lake = fixture.ran("evolved").await?;
    assert_eq!(rows(&lake, "SELECT id, b FROM bronze.t").await?, ["4|4"]);
    session.execute("ALTER TABLE t ADD COLUMN e INT").await?;
    let error = fixture.refused().await?;
    assert!(
        error.contains("add_column") && error.contains("(e)"),
        "{error}"
    );
    fixture.shape("", "", "truncate = 'exception'").await?;
    fixture.ran("evolved").await?;
    session.execute("TRUNCATE t").await?;
    let error = fixture.refused().await?;
    assert!(error.contains("truncate"), "{error}");
    fixture.finish().await
}

/// Tables of one kind, each with its own rows and its own pace of changes, in one table.
pub async fn many_tables_land_in_one(flavor: Flavor) -> Result<(), Failure> {
    let mut fixture = Fixture::start(flavor).await?;
    let mut session = fixture.session().await?;
    session
        .execute(
            "CREATE TABLE orders_1 (id INT PRIMARY KEY, v VARCHAR(9), n INT); INSERT INTO orders_1 VALUES (1, 'a', 1), (2, 'b', 2), (3, 'c', 3);
             CREATE TABLE orders_2 (id INT PRIMARY KEY, v VARCHAR(9), n BIGINT, extra INT);
             INSERT INTO orders_2 VALUES (1, 'x', 10000000000, 7), (2, 'y', 2, NULL)",
        )
        .await?;
    let database = fixture.database.clone();
    let create = |options: &str| {
        format!(
            "CREATE OR REPLACE PIPELINE p FROM MYSQL shop TABLES ('{database}.orders%') INTO bronze.orders \
             SCHEDULE ON DEMAND WITH (target_lag = '0.1 s', chunk_rows = 2{options})"
        )
    };
    rows(&fixture.server.connect().await?, &create("")).await?;
    let lake = fixture.ran("the first rows").await?;
    let all = "SELECT right(_table, 1), id, v, n, extra FROM bronze.orders ORDER BY _table, id";
    assert_eq!(
        rows(&lake, all).await?,
        [
            "1|1|a|1|∅",
            "1|2|b|2|∅",
            "1|3|c|3|∅",
            "2|1|x|10000000000|7",
            "2|2|y|2|∅"
        ]
    );
    session
        .execute(
            "START TRANSACTION; UPDATE orders_1 SET v = 'A' WHERE id = 1; UPDATE orders_2 SET v = 'X' WHERE id = 1; COMMIT;
             DELETE FROM orders_1 WHERE id = 2; UPDATE orders_2 SET id = 20 WHERE id = 2; UPDATE orders_1 SET id = 30 WHERE id = 3;
             CREATE TABLE orders_3 (id INT PRIMARY KEY, v VARCHAR(9), n INT, own TEXT); INSERT INTO orders_3 VALUES (1, 'new', 0, 'o')",
        )
        .await?;
    let lake = fixture.ran("changes").await?;
    let changed = [
        "1|1|A|1|∅",
        "1|30|c|3|∅",
        "2|1|X|10000000000|7",
        "2|20|y|2|∅",
        "3|1|new|0|∅",
    ];
    assert_eq!(rows(&lake, all).await?, changed);
    assert_eq!(differences(&lake).await?, [""; 0]);
    // One table is read anew, emptied, broken and healed; the others are not touched.
    rows(&lake, "UPDATE bronze.orders SET v = '?' WHERE id = 1").await?;
    assert_eq!(differences(&lake).await?.len(), 3);
    let refresh = format!("RUN PIPELINE p FULL REFRESH TABLES ('{database}.orders\\_2')");
    rows(&lake, &refresh).await?;
    assert_eq!(
        rows(
            &lake,
            "SELECT v FROM bronze.orders WHERE id = 1 ORDER BY _table"
        )
        .await?,
        ["?", "X", "?"]
    );
    rows(&lake, "VERIFY PIPELINE p HEAL").await?;
    assert_eq!(rows(&lake, all).await?, changed);
    session
        .execute(
            "TRUNCATE orders_1; INSERT INTO orders_1 VALUES (5, 'five', 5);
             ALTER TABLE orders_2 ADD COLUMN late INT DEFAULT 3, DROP COLUMN extra; INSERT INTO orders_2 VALUES (6, 'six', 6, 4);
             ALTER TABLE orders_3 MODIFY n BIGINT; UPDATE orders_3 SET n = 9000000000",
        )
        .await?;
    let lake = fixture.ran("other columns").await?;
    assert_eq!(
        rows(&lake, "SELECT right(_table, 1), id, v, n, extra, late, own FROM bronze.orders ORDER BY _table, id").await?,
        ["1|5|five|5|∅|∅|∅", "2|1|X|10000000000|∅|3|∅", "2|6|six|6|∅|4|∅", "2|20|y|2|∅|3|∅", "3|1|new|9000000000|∅|∅|o"]
    );
    assert_eq!(differences(&lake).await?, [""; 0]);
    session.execute("RENAME TABLE orders_3 TO orders_4; INSERT INTO orders_4 VALUES (2, 'w', 1, NULL); DROP TABLE orders_2").await?;
    let lake = fixture.ran("other tables").await?;
    let names = "SELECT right(_table, 1) || id FROM bronze.orders ORDER BY 1";
    assert_eq!(
        rows(&lake, names).await?,
        ["15", "21", "220", "26", "41", "42"]
    );
    // A key that differs is refused, and says so.
    session
        .execute("CREATE TABLE orders_5 (a INT PRIMARY KEY, id INT)")
        .await?;
    let error = fixture.refused().await?;
    assert!(
        error.contains("orders_5") && error.contains("key"),
        "{error}"
    );
    session
        .execute("DROP TABLE orders_5; CREATE TABLE orders_6 (id INT PRIMARY KEY, v INT)")
        .await?;
    let error = fixture.refused().await?;
    assert!(
        error.contains("orders_6") && error.contains("\"v\""),
        "{error}"
    );
    session.execute("DROP TABLE orders_6").await?;
    fixture.ran("without them").await?;
    // Kills at every commit of a batch over several tables.
    for failpoint in [
        "capture_prepared:2",
        "capture_table_committed",
        "capture_unsettled:2",
    ] {
        fixture.die_at(failpoint).await?;
        session
            .execute("UPDATE orders_1 SET n = n + 1; UPDATE orders_4 SET n = n + 1; INSERT INTO orders_1 SELECT max(id) + 1, 'k', 0 FROM orders_1")
            .await?;
        let _ = fixture.run().await;
    }
    fixture.restart().await?;
    let lake = fixture.ran("kills").await?;
    assert_eq!(differences(&lake).await?, [""; 0]);
    fixture.finish().await
}

/// The same for tables without a key.
pub async fn tables_without_a_key_land_in_one(flavor: Flavor) -> Result<(), Failure> {
    let fixture = Fixture::start(flavor).await?;
    let mut session = fixture.session().await?;
    session
        .execute(
            "CREATE TABLE log_1 (v INT); INSERT INTO log_1 VALUES (1), (1), (2);
             CREATE TABLE log_2 (v INT); INSERT INTO log_2 VALUES (1), (3)",
        )
        .await?;
    let sql = format!(
        "CREATE PIPELINE p FROM MYSQL shop TABLES ('{}.log%') INTO bronze.log SCHEDULE ON DEMAND",
        fixture.database
    );
    rows(&fixture.server.connect().await?, &sql).await?;
    fixture.ran("the first rows").await?;
    session
        .execute("DELETE FROM log_1 WHERE v = 1 LIMIT 1; UPDATE log_2 SET v = 5 WHERE v = 1; INSERT INTO log_2 VALUES (2)")
        .await?;
    let lake = fixture.ran("changes").await?;
    let all = "SELECT right(_table, 1), v FROM bronze.log ORDER BY 1, 2";
    let expected = ["1|1", "1|2", "2|2", "2|3", "2|5"];
    assert_eq!(rows(&lake, all).await?, expected);
    rows(&lake, "RUN PIPELINE p FULL REFRESH").await?;
    assert_eq!(rows(&lake, all).await?, expected);
    assert_eq!(differences(&lake).await?, [""; 0]);
    fixture.finish().await
}

/// A column goes at the source and stays here; later the source has another one of its name.
pub async fn columns_come_back_as_others(flavor: Flavor) -> Result<(), Failure> {
    let fixture = Fixture::start(flavor).await?;
    let mut session = fixture.session().await?;
    session
        .execute("CREATE TABLE t (id INT PRIMARY KEY, a INT, b INT); INSERT INTO t VALUES (1, 1, 1), (2, 2, 2)")
        .await?;
    fixture
        .shape("", "", "drop_column = 'ignore', chunk_rows = 20")
        .await?;
    fixture.ran("the first rows").await?;
    session
        .execute("ALTER TABLE t DROP COLUMN a, DROP COLUMN b; INSERT INTO t VALUES (3)")
        .await?;
    let lake = fixture.ran("ignored").await?;
    let all = "SELECT id, a, b FROM bronze.t ORDER BY id";
    assert_eq!(rows(&lake, all).await?, ["1|1|1", "2|2|2", "3|∅|∅"]);
    session
        .execute("ALTER TABLE t ADD COLUMN a INT, ADD COLUMN b BIGINT DEFAULT 5; INSERT INTO t VALUES (4, 4, 44)")
        .await?;
    let lake = fixture.ran("others").await?;
    let expected = ["1|∅|5", "2|∅|5", "3|∅|5", "4|4|44"];
    assert_eq!(rows(&lake, all).await?, expected);
    assert_eq!(differences(&lake).await?, [""; 0]);
    // Under its old name, with any type, and by another that is renamed.
    session
        .execute("ALTER TABLE t DROP COLUMN a, DROP COLUMN b; ALTER TABLE t ADD COLUMN c INT; UPDATE t SET c = id")
        .await?;
    fixture.ran("ignored again").await?;
    session
        .execute("ALTER TABLE t ADD COLUMN b VARCHAR(9) DEFAULT 'new', RENAME COLUMN c TO a; INSERT INTO t VALUES (5, 50, 'five')")
        .await?;
    let lake = fixture.ran("renamed").await?;
    let expected = ["1|1|new", "2|2|new", "3|3|new", "4|4|new", "5|50|five"];
    assert_eq!(rows(&lake, all).await?, expected);
    assert_eq!(differences(&lake).await?, [""; 0]);
    fixture.finish().await
}

/// A run is killed after it has made a table and before it has put on record that it did.
pub async fn tables_made_before_a_kill_are_taken_up(flavor: Flavor) -> Result<(), Failure> {
    let mut fixture = Fixture::start(flavor).await?;
    let mut session = fixture.session().await?;
    session
        .execute("CREATE TABLE t (id INT PRIMARY KEY, v INT); INSERT INTO t VALUES (1, 1)")
        .await?;
    fixture.shape("", "", "chunk_rows = 20").await?;
    fixture.die_at("capture_table_made").await?;
    assert!(fixture.run().await.is_err());
    session
        .execute("ALTER TABLE t ADD COLUMN more INT DEFAULT 7 FIRST, MODIFY v BIGINT; INSERT INTO t (id, v) VALUES (2, 5000000000)")
        .await?;
    fixture.restart().await?;
    let lake = fixture.server.connect().await?;
    assert_eq!(value(&lake, "SELECT count(*) FROM bronze.t").await?, "0");
    let lake = fixture.ran("a column more").await?;
    let all = "SELECT id, v, more FROM bronze.t ORDER BY id";
    assert_eq!(rows(&lake, all).await?, ["1|1|7", "2|5000000000|7"]);
    assert_eq!(differences(&lake).await?, [""; 0]);
    // An empty table with other columns is somebody else's.
    rows(
        &lake,
        "CREATE TABLE bronze.u (id int PRIMARY KEY, theirs int)",
    )
    .await?;
    session
        .execute("CREATE TABLE u (id INT PRIMARY KEY, v INT)")
        .await?;
    let error = fixture.refused().await?;
    assert!(error.starts_with("42P07"), "{error}");
    fixture.finish().await
}

/// Columns that views here use change at the source.
pub async fn views_stop_no_pipeline(flavor: Flavor) -> Result<(), Failure> {
    let mut fixture = Fixture::start(flavor).await?;
    let mut session = fixture.session().await?;
    session
        .execute("CREATE TABLE t (id INT PRIMARY KEY, a INT, b INT, c VARCHAR(9)); INSERT INTO t VALUES (1, 1, 1, 'x')")
        .await?;
    fixture.shape("", "", "chunk_rows = 20").await?;
    let lake = fixture.ran("the first rows").await?;
    rows(
        &lake,
        "CREATE VIEW bronze.near AS SELECT id, a, b FROM bronze.t; CREATE VIEW bronze.far AS SELECT max(b) AS b FROM bronze.near",
    )
    .await?;
    session
        .execute("ALTER TABLE t MODIFY b BIGINT; INSERT INTO t VALUES (2, 2, 5000000000, 'y')")
        .await?;
    let lake = fixture.ran("a wider type").await?;
    let near = "SELECT id, a, b FROM bronze.near ORDER BY id";
    assert_eq!(rows(&lake, near).await?, ["1|1|1", "2|2|5000000000"]);
    assert_eq!(
        value(&lake, "SELECT b FROM bronze.far").await?,
        "5000000000"
    );
    let types = "SELECT table_name, data_type FROM information_schema.columns \
                 WHERE table_schema = 'bronze' AND column_name = 'b' ORDER BY table_name";
    assert_eq!(
        rows(&lake, types).await?,
        ["far|bigint", "near|bigint", "t|bigint"]
    );
    session
        .execute("ALTER TABLE t DROP COLUMN a; INSERT INTO t VALUES (3, 3, 'z'); UPDATE t SET c = 'X' WHERE id = 1")
        .await?;
    let lake = fixture.ran("a column less").await?;
    assert_eq!(
        rows(&lake, near).await?,
        ["1|1|1", "2|2|5000000000", "3|∅|3"]
    );
    assert_eq!(differences(&lake).await?, [""; 0]);
    let told = "SELECT message FROM system.pipeline_errors WHERE message LIKE '%stays here%'";
    let warnings = rows(&lake, told).await?;
    assert!(
        warnings.len() == 1 && warnings[0].contains("view near depends on column a"),
        "{warnings:?}"
    );
    // One of its name comes back, and has other values.
    session
        .execute(
            "ALTER TABLE t ADD COLUMN a INT NOT NULL DEFAULT 7; UPDATE t SET a = 8 WHERE id = 3",
        )
        .await?;
    let lake = fixture.ran("it is back").await?;
    assert_eq!(
        rows(&lake, near).await?,
        ["1|7|1", "2|7|5000000000", "3|8|3"]
    );
    assert_eq!(differences(&lake).await?, [""; 0]);
    session.execute("ALTER TABLE t DROP COLUMN a").await?;
    fixture.ran("it goes again").await?;
    fixture.kill()?;
    fixture.restart().await?;
    let lake = fixture.ran("it stays").await?;
    let columns = "SELECT count(*) FROM information_schema.columns WHERE table_schema = 'bronze' AND table_name = 't'";
    assert_eq!(value(&lake, columns).await?, "4");
    rows(&lake, "DROP VIEW bronze.near CASCADE").await?;
    session
        .execute("INSERT INTO t (id, b) VALUES (4, 4)")
        .await?;
    let lake = fixture.ran("without views").await?;
    assert_eq!(value(&lake, columns).await?, "3");
    assert_eq!(differences(&lake).await?, [""; 0]);
    fixture.finish().await
}

/// A table whose key has no order that both sides agree on is read whole once it is large.
pub async fn a_key_that_cannot_be_cut(flavor: Flavor) -> Result<(), Failure> {
    let fixture = Fixture::start(flavor).await?;
    let mut session = fixture.session().await?;
    let values: Vec<String> = (0..200)
        .map(|id| format!("({id}, '{}', {id})", ["z", "a"][id % 2]))
        .collect();
    session
        .execute(&format!(
            "CREATE TABLE t (id INT, kind ENUM('z', 'a'), v INT, PRIMARY KEY (kind, id)); \
             INSERT INTO t VALUES {}; ANALYZE TABLE t",
            values.join(", ")
        ))
        .await?;
    fixture
        .create_pipeline(crate::Schedule::OnDemand, "chunk_rows = 20")
        .await?;
    fixture.follow("the first rows").await?;
    session
        .execute("UPDATE t SET kind = 'a' WHERE id = 4; UPDATE t SET v = -1 WHERE kind = 'z'; DELETE FROM t WHERE id > 150")
        .await?;
    fixture.follow("changes").await?;
    fixture.finish().await
}
