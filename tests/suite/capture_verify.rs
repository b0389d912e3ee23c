//! `VERIFY PIPELINE` finds what somebody has done to the lake, and mends it.

use std::time::Duration;

use boathouse_tests::mysql::Flavor;
use boathouse_tests::{Failure, rows};
use rand::rngs::StdRng;
use rand::seq::index::sample;
use rand::{Rng, SeedableRng};
use tokio_postgres::Client;

use crate::workload::Workload;
use crate::{Fixture, Schedule, seed};

/// Rows of each table.
const ROWS: usize = 3000;

const TABLES: &str = "\
CREATE TABLE numbered (id INT PRIMARY KEY, amount DECIMAL(12,2), name VARCHAR(40), at DATETIME(3), raw VARBINARY(20));
CREATE TABLE named (area VARCHAR(8) CHARACTER SET latin1, name VARCHAR(40), v BIGINT UNSIGNED, PRIMARY KEY (area, name));
CREATE TABLE keyless (a INT, b TEXT);";

const FILL: &str = "\
INSERT INTO numbered SELECT n, n * 1.25, CONCAT('name ', n), '2024-05-06 07:08:09.123', UNHEX(LPAD(HEX(n), 8, '0')) FROM seq;
INSERT INTO named SELECT IF(n % 2, 'süd', 'nord'), CONCAT('o''name ', n), 18446744073709551615 - n FROM seq;
INSERT INTO keyless SELECT n, CONCAT('text ', n) FROM seq;";

/// One hundred corruptions, each of a row of its own.
pub async fn what_is_broken_is_found_and_healed(flavor: Flavor) -> Result<(), Failure> {
    let seed = seed()?;
    let mut draw = StdRng::seed_from_u64(seed);
    let fixture = Fixture::start(flavor).await?;
    let mut session = fixture.session().await?;
    session
        .execute("CREATE TABLE tmp_digits (d INT); INSERT INTO tmp_digits VALUES (0),(1),(2),(3),(4),(5),(6),(7),(8),(9)")
        .await?;
    let seq = format!(
        "(SELECT 1 + a.d + 10 * b.d + 100 * c.d + 1000 * e.d AS n FROM tmp_digits a, tmp_digits b, \
         tmp_digits c, tmp_digits e WHERE a.d + 10 * b.d + 100 * c.d + 1000 * e.d < {ROWS}) seq"
    );
    session.execute(TABLES).await?;
    session
        .execute(&FILL.replace("seq;", &format!("{seq};")))
        .await?;
    fixture
        .create_pipeline(Schedule::Continuous, "chunk_rows = 700")
        .await?;
    let lake = fixture.follow("the snapshot").await?;
    assert_eq!(broken(&lake, "VERIFY PIPELINE p").await?, 0, "seed {seed}");

    let chosen: Vec<usize> = sample(&mut draw, ROWS, 80)
        .into_iter()
        .map(|at| at + 1)
        .collect();
    for (number, id) in chosen.iter().enumerate() {
        let named = format!(
            "name = 'o''name {id}' AND area = '{}'",
            if id % 2 == 1 { "süd" } else { "nord" }
        );
        let statement = match number % 8 {
            0 => format!("DELETE FROM bronze.numbered WHERE id = {id}"),
            1 => format!("UPDATE bronze.numbered SET amount = amount + 0.01 WHERE id = {id}"),
            2 => format!("UPDATE bronze.numbered SET name = NULL, raw = '\\x00' WHERE id = {id}"),
            3 => format!(
                "UPDATE bronze.numbered SET at = at + interval '1 millisecond' WHERE id = {id}"
            ),
            4 => format!("DELETE FROM bronze.named WHERE {named}"),
            5 => format!("UPDATE bronze.named SET v = v - 1 WHERE {named}"),
            6 => format!("DELETE FROM bronze.keyless WHERE a = {id}"),
            _ => format!("UPDATE bronze.numbered SET name = name || ' ' WHERE id = {id}"),
        };
        rows(&lake, &statement).await?;
    }
    for number in 0..20 {
        let statement = match number % 2 {
            0 => format!(
                "INSERT INTO bronze.numbered (id, name) VALUES ({}, 'extra')",
                100_000 + number
            ),
            _ => format!("INSERT INTO bronze.named VALUES ('west', 'extra {number}', {number})"),
        };
        rows(&lake, &statement).await?;
    }
    // The source goes on meanwhile.
    for _ in 0..20 {
        let id = draw.random_range(1..=ROWS);
        session
            .execute(&format!(
                "UPDATE numbered SET amount = amount + 1 WHERE id = {id}"
            ))
            .await?;
    }
    // What the source has changed itself is whole again by now.
    let found = broken(&lake, "VERIFY PIPELINE p").await?;
    assert!(
        (80..=100).contains(&found),
        "seed {seed}: {found} of 100 were found"
    );
    let healed = broken(&lake, "VERIFY PIPELINE p HEAL").await?;
    assert_eq!(healed, found, "seed {seed}");
    assert_eq!(broken(&lake, "VERIFY PIPELINE p").await?, 0, "seed {seed}");
    fixture.follow(&format!("seed {seed}: healed")).await?;
    Ok(())
}

/// One table is read anew, while the changes of the others go on from where they were.
pub async fn one_table_is_read_anew(flavor: Flavor) -> Result<(), Failure> {
    let fixture = Fixture::start(flavor).await?;
    let mut session = fixture.session().await?;
    session
        .execute(
            "CREATE TABLE one (id INT PRIMARY KEY, v INT); CREATE TABLE two (id INT PRIMARY KEY, v INT); \
             INSERT INTO one VALUES (1, 1), (2, 2), (3, 3); INSERT INTO two VALUES (1, 1), (2, 2)",
        )
        .await?;
    fixture
        .create_pipeline(Schedule::Continuous, "chunk_rows = 2")
        .await?;
    let lake = fixture.follow("the snapshot").await?;
    rows(&lake, "DELETE FROM bronze.one").await?;
    rows(&lake, "UPDATE bronze.two SET v = 7").await?;
    session
        .execute("INSERT INTO one VALUES (4, 4); INSERT INTO two VALUES (4, 4)")
        .await?;
    let refresh = format!(
        "RUN PIPELINE p FULL REFRESH TABLES ('{}.one')",
        fixture.database
    );
    rows(&lake, &refresh).await?;
    let one = rows(&lake, "SELECT * FROM bronze.one ORDER BY id").await?;
    assert_eq!(one, ["1|1", "2|2", "3|3", "4|4"]);
    // What was not asked for is as somebody left it, but for what the source has changed since.
    let two = rows(&lake, "SELECT * FROM bronze.two ORDER BY id").await?;
    assert_eq!(two, ["1|7", "2|7", "4|4"]);
    let unknown = rows(&lake, "RUN PIPELINE p FULL REFRESH TABLES ('nothing.%')").await;
    assert!(
        unknown.is_err_and(|error| error.to_string().contains("42P01")),
        "a pattern that matches nothing"
    );
    rows(&lake, "RUN PIPELINE p FULL REFRESH").await?;
    fixture.follow("everything is read anew").await?;
    Ok(())
}

/// A range of keys is read anew: rows that somebody changed, took out or put in here, in it and not beside it, while the
/// source goes on.
pub async fn a_range_is_read_anew(flavor: Flavor) -> Result<(), Failure> {
    let fixture = Fixture::start(flavor).await?;
    let mut session = fixture.session().await?;
    session
        .execute(
            "CREATE TABLE one (id INT, part VARCHAR(10), v INT, PRIMARY KEY (id, part)); \
             CREATE TABLE days (day DATE PRIMARY KEY, v INT); CREATE TABLE texts (t VARCHAR(10) PRIMARY KEY, v INT); \
             CREATE TABLE no_key (v INT); INSERT INTO no_key VALUES (1); INSERT INTO texts VALUES ('a', 1); \
             INSERT INTO days VALUES ('2026-01-01', 1), ('2026-01-02', 2), ('2026-02-01', 3)",
        )
        .await?;
    let values: Vec<String> = (-20..80)
        .map(|id| {
            format!(
                "({}, '{}', {id})",
                id / 2,
                if id % 2 == 0 { "a" } else { "B" }
            )
        })
        .collect();
    session
        .execute(&format!(
            "INSERT IGNORE INTO one VALUES {}; ANALYZE TABLE one",
            values.join(", ")
        ))
        .await?;
    fixture
        .create_pipeline(
            Schedule::Continuous,
            "chunk_rows = 3, target_lag = '100 ms'",
        )
        .await?;
    let lake = fixture.follow("the snapshot").await?;
    let break_all = "UPDATE bronze.one SET v = -1 WHERE id IN (4, 5, 10, 11, 30); DELETE FROM bronze.one WHERE id IN (6, 31);
         INSERT INTO bronze.one VALUES (7, 'none', 0), (-5, 'none', 0), (32, 'none', 0);
         UPDATE bronze.days SET v = 0; INSERT INTO bronze.days VALUES ('2026-01-15', 1), ('2026-03-01', 1)";
    for sql in break_all.split(';') {
        rows(&lake, sql).await?;
    }
    let address = fixture.source.address();
    let moving = Workload::start(&address, &fixture.database, 1, 1, |draw| {
        vec![format!(
            "UPDATE one SET v = v + 1 WHERE id = {}",
            draw.random_range(0..11)
        )]
    });
    let one = format!("('{}.one')", fixture.database);
    let refresh = format!("RUN PIPELINE p FULL REFRESH TABLES {one} BETWEEN -7 AND '10'");
    rows(&lake, &refresh).await?;
    let refresh = format!(
        "RUN PIPELINE p FULL REFRESH TABLES ('{}.days') BETWEEN '2026-01-02' AND '2026-01-31'",
        fixture.database
    );
    rows(&lake, &refresh).await?;
    moving.stop().await?;
    rows(&lake, "RUN PIPELINE p").await?;
    let verdicts = rows(&lake, "VERIFY PIPELINE p").await?;
    let told: Vec<&str> = verdicts
        .iter()
        .filter(|verdict| !verdict.contains("|equal|"))
        .filter_map(|verdict| verdict.split_once("bronze.").map(|(_, told)| told))
        .collect();
    assert_eq!(
        told,
        [
            "days|different|2026-01-01|v",
            "days|different|2026-02-01|v",
            "days|extra|2026-03-01|∅",
            "one|different|11, B|v",
            "one|different|11, a|v",
            "one|different|30, B|v",
            "one|different|30, a|v",
            "one|missing|31, B|∅",
            "one|missing|31, a|∅",
            "one|extra|32, none|∅",
        ]
    );
    for (table, between, state) in [
        ("one", "'x' AND 5", "22P02"),
        ("days", "1 AND 2", "22P02"),
        ("texts", "'a' AND 'b'", "0A000"),
        ("no_key", "1 AND 2", "0A000"),
        ("nothing", "1 AND 2", "42P01"),
    ] {
        let refresh = format!(
            "RUN PIPELINE p FULL REFRESH TABLES ('{}.{table}') BETWEEN {between}",
            fixture.database
        );
        let refused = rows(&lake, &refresh)
            .await
            .err()
            .map(|error| error.to_string());
        let refused = refused.unwrap_or_default();
        assert!(refused.contains(state), "{table}: {refused}");
    }
    rows(
        &lake,
        &format!("RUN PIPELINE p FULL REFRESH TABLES {one} BETWEEN 11 AND 100"),
    )
    .await?;
    rows(
        &lake,
        &format!(
            "RUN PIPELINE p FULL REFRESH TABLES ('{}.days')",
            fixture.database
        ),
    )
    .await?;
    fixture.follow("the rest").await?;
    fixture.finish().await
}

/// Rows that change while they are read anew keep what they changed to.
pub async fn rows_that_change_are_read_anew(flavor: Flavor) -> Result<(), Failure> {
    let fixture = Fixture::start(flavor).await?;
    let mut session = fixture.session().await?;
    let values: Vec<String> = (0..2000).map(|id| format!("({id}, 'part', 0)")).collect();
    session
        .execute(&format!(
            "CREATE TABLE hot (id INT, part VARCHAR(10), v INT, PRIMARY KEY (id, part)); INSERT INTO hot VALUES {}; ANALYZE TABLE hot",
            values.join(", ")
        ))
        .await?;
    fixture
        .create_pipeline(
            Schedule::Continuous,
            "chunk_rows = 500, target_lag = '50 ms'",
        )
        .await?;
    let lake = fixture.follow("the snapshot").await?;
    let address = fixture.source.address();
    let moving = Workload::start(&address, &fixture.database, seed()?, 3, |draw| {
        vec![format!(
            "UPDATE hot SET v = v + 1 WHERE id = {}",
            draw.random_range(0..2000)
        )]
    });
    let refresh = format!(
        "RUN PIPELINE p FULL REFRESH TABLES ('{}.hot') BETWEEN 0 AND 5000",
        fixture.database
    );
    // The table may get a column meanwhile.
    let altered = async {
        tokio::time::sleep(Duration::from_millis(150)).await;
        session
            .execute("ALTER TABLE hot ADD COLUMN late INT DEFAULT 5")
            .await
    };
    let (refreshed, altered) = tokio::join!(rows(&lake, &refresh), altered);
    altered?;
    refreshed?;
    moving.stop().await?;
    fixture.follow("after the range").await?;
    fixture.finish().await
}

/// How many rows a statement says are not as at the source.
async fn broken(lake: &Client, statement: &str) -> Result<usize, Failure> {
    let verdicts = rows(lake, statement).await?;
    Ok(verdicts
        .iter()
        .filter(|verdict| !verdict.contains("|equal|"))
        .count())
}
