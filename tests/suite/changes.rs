//! Random histories of changed rows against a plain model in memory: our own reading of the newest and
//! of older versions, and other programs' reading of the same folder. Then writers that meet.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use boathouse_tests::{Failure, Server, ServerOptions, lake_folder, repository, rows, service};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

const HISTORIES: u64 = 6;
const STEPS: usize = 40;
const GROUPS: i32 = 4;

type Row = (i32, i64, Option<String>);
type Model = BTreeMap<i32, Row>;

/// One statement of a history, and what it does to the model. Gives the number of rows it changes.
fn step(draw: &mut StdRng, model: &mut Model, next_id: &mut i32) -> (String, u64) {
    let group = draw.random_range(0..GROUPS);
    let number = draw.random_range(1..100_i64);
    match draw.random_range(0..12) {
        0..=2 => {
            let values: Vec<String> = (0..draw.random_range(1..30))
                .map(|_| {
                    let id = *next_id;
                    *next_id += 1;
                    let group = draw.random_range(0..GROUPS);
                    let name = draw.random_bool(0.8).then(|| format!("n{}", id % 7));
                    let shown = name
                        .as_ref()
                        .map_or("NULL".into(), |name| format!("'{name}'"));
                    model.insert(id, (group, number, name));
                    format!("({id}, {group}, {number}, {shown})")
                })
                .collect();
            let count = values.len() as u64;
            (
                format!("INSERT INTO item VALUES {}", values.join(", ")),
                count,
            )
        }
        3 | 4 => {
            let ids = some_ids(draw, next_id);
            let values: Vec<String> = ids
                .iter()
                .map(|id| format!("({id}, {group}, {number})"))
                .collect();
            let mut count = ids.len() as u64;
            let action = if draw.random_bool(0.7) {
                for id in ids {
                    let row = model.entry(id).or_insert((group, 0, None));
                    row.1 += number;
                }
                "UPDATE SET v = item.v + excluded.v"
            } else {
                for id in ids {
                    match model.entry(id) {
                        Entry::Occupied(_) => count -= 1,
                        Entry::Vacant(row) => {
                            row.insert((group, number, None));
                        }
                    }
                }
                "NOTHING"
            };
            let values = values.join(", ");
            (
                format!("INSERT INTO item (id, g, v) VALUES {values} ON CONFLICT (id) DO {action}"),
                count,
            )
        }
        5 | 6 => {
            let mut count = 0;
            for row in model.values_mut().filter(|row| row.0 == group) {
                row.1 += number;
                row.2 = None;
                count += 1;
            }
            (
                format!("UPDATE item SET v = v + {number}, name = NULL WHERE g = {group}"),
                count,
            )
        }
        7 => {
            let from = draw.random_range(0..=*next_id);
            let mut count = 0;
            for row in model.range_mut(from..from + 20).map(|(_, row)| row) {
                row.0 = (row.0 + 1) % GROUPS;
                row.2 = Some(format!("moved {number}"));
                count += 1;
            }
            let to = from + 20;
            (
                format!(
                    "UPDATE item SET g = (g + 1) % {GROUPS}, name = 'moved {number}' \
                     WHERE id >= {from} AND id < {to}"
                ),
                count,
            )
        }
        8 => {
            let (divisor, rest) = (draw.random_range(2..9), draw.random_range(0..9));
            let before = model.len();
            model.retain(|id, _| id % divisor != rest);
            let count = (before - model.len()) as u64;
            (
                format!("DELETE FROM item WHERE id % {divisor} = {rest}"),
                count,
            )
        }
        9 | 10 => merge(draw, model, next_id),
        _ if draw.random_bool(0.2) => {
            model.clear();
            ("TRUNCATE item".to_owned(), 0)
        }
        _ => {
            let id = draw.random_range(0..=*next_id);
            let count = u64::from(model.remove(&id).is_some());
            (format!("DELETE FROM item WHERE id = {id}"), count)
        }
    }
}

/// Ids of rows, and perhaps one of a row to come.
fn some_ids(draw: &mut StdRng, next_id: &mut i32) -> BTreeSet<i32> {
    let ids = (0..draw.random_range(1..12))
        .map(|_| draw.random_range(0..=*next_id))
        .collect();
    *next_id += 1;
    ids
}

fn merge(draw: &mut StdRng, model: &mut Model, next_id: &mut i32) -> (String, u64) {
    let group = draw.random_range(0..GROUPS);
    let number = draw.random_range(1..100_i64);
    let ids = some_ids(draw, next_id);
    let mut sql = format!(
        "MERGE INTO item AS t USING (VALUES {}) AS s (id) ON t.id = s.id \
         WHEN MATCHED AND t.g = {group} THEN DELETE \
         WHEN MATCHED THEN UPDATE SET v = t.v + {number} \
         WHEN NOT MATCHED THEN INSERT (id, g, v) VALUES (s.id, {group}, {number})",
        ids.iter()
            .map(|id| format!("({id})"))
            .collect::<Vec<_>>()
            .join(", ")
    );
    let mut count = ids.len() as u64;
    if draw.random_bool(0.3) {
        let rest = draw.random_range(0..5);
        sql += &format!(
            " WHEN NOT MATCHED BY SOURCE AND t.id % 5 = {rest} \
             THEN UPDATE SET g = (t.g + 1) % {GROUPS}, name = 'left'"
        );
        for (id, row) in model.iter_mut() {
            if id % 5 == rest && !ids.contains(id) {
                row.0 = (row.0 + 1) % GROUPS;
                row.2 = Some("left".into());
                count += 1;
            }
        }
    }
    for id in ids {
        match model.get_mut(&id) {
            Some(row) if row.0 == group => {
                model.remove(&id);
            }
            Some(row) => row.1 += number,
            None => {
                model.insert(id, (group, number, None));
            }
        }
    }
    (sql, count)
}

fn shown(model: &Model) -> Vec<String> {
    model
        .iter()
        .map(|(id, (group, number, name))| {
            let name = name.as_deref().unwrap_or("NULL");
            format!("g={group} | id={id} | name={name} | v={number}")
        })
        .collect()
}

/// What the columns `name` and `v` are called, and what was done to the table's columns.
#[derive(Clone)]
struct Columns {
    name: &'static str,
    v: &'static str,
    mapped: bool,
    widened: bool,
    /// How often a column was dropped.
    drops: usize,
    /// Whether one was added that rows had a value in at once, of which the change feed tells nothing.
    filled: bool,
}

impl Columns {
    /// A statement with the names that the columns have.
    fn named(&self, sql: &str) -> String {
        let mut text = String::with_capacity(sql.len());
        let mut word = String::new();
        let mut quoted = false;
        for character in sql.chars().chain([' ']) {
            if character.is_alphanumeric() || character == '_' {
                word.push(character);
                continue;
            }
            text += match word.as_str() {
                "name" if !quoted => self.name,
                "v" if !quoted => self.v,
                other => other,
            };
            quoted ^= character == '\'';
            word.clear();
            text.push(character);
        }
        text.pop();
        text
    }

    /// Changes a column, and what the model has in it.
    async fn alter(
        &mut self,
        draw: &mut StdRng,
        client: &Client,
        model: &mut Model,
    ) -> Result<(), Failure> {
        let sql = match draw.random_range(0..5) {
            0 => {
                let to = if self.name == "name" { "label" } else { "name" };
                let sql = format!("ALTER TABLE item RENAME COLUMN {} TO {to}", self.name);
                self.name = to;
                sql
            }
            1 => {
                let to = if self.v == "v" { "worth" } else { "v" };
                let sql = format!("ALTER TABLE item RENAME COLUMN {} TO {to}", self.v);
                self.v = to;
                sql
            }
            2 => {
                for row in model.values_mut() {
                    row.2 = None;
                }
                self.drops += 1;
                let name = self.name;
                format!("ALTER TABLE item DROP COLUMN {name}, ADD COLUMN {name} text")
            }
            3 => {
                for row in model.values_mut() {
                    row.2 = Some("new".to_owned());
                }
                self.drops += 1;
                self.filled = true;
                let name = self.name;
                format!(
                    "ALTER TABLE item DROP COLUMN {name}, ADD COLUMN {name} text NOT NULL DEFAULT lower('NEW'), \
                     ALTER COLUMN {name} DROP DEFAULT, ALTER COLUMN {name} DROP NOT NULL"
                )
            }
            _ => {
                self.widened = true;
                let sql = format!("ALTER TABLE item ALTER COLUMN {} TYPE bigint", self.v);
                client.batch_execute(&sql).await?;
                return Ok(());
            }
        };
        self.mapped = true;
        client.batch_execute(&sql).await?;
        Ok(())
    }
}

/// The change feed of all versions after one is what lies between the two models.
async fn check_feed(
    client: &Client,
    (from, before): (i64, &Model),
    model: &Model,
    columns: &Columns,
    seed: &str,
) -> Result<(), Failure> {
    let query = format!(
        "SELECT 'g=' || g || ' | id=' || id || ' | name=' || coalesce(name, 'NULL') || ' | v=' || v \
         || ' | ' || sum(CASE WHEN _change_type IN ('insert', 'update_postimage') THEN 1 ELSE -1 END) \
         FROM table_changes('item', {from}) GROUP BY id, g, v, name \
         HAVING sum(CASE WHEN _change_type IN ('insert', 'update_postimage') THEN 1 ELSE -1 END) <> 0"
    );
    let mut found = rows(client, &columns.named(&query)).await?;
    found.sort();
    let (before, after) = (shown(before), shown(model));
    let came = after.iter().filter(|row| !before.contains(row));
    let went = before.iter().filter(|row| !after.contains(row));
    let came = came.map(|row| format!("{row} | 1"));
    let mut expected: Vec<String> = came.chain(went.map(|row| format!("{row} | -1"))).collect();
    expected.sort();
    assert_eq!(found, expected, "{seed} feed from {from}");
    Ok(())
}

async fn check(
    client: &Client,
    model: &Model,
    columns: &Columns,
    of: &str,
    seed: &str,
) -> Result<(), Failure> {
    let query = format!(
        "SELECT 'g=' || g || ' | id=' || id || ' | name=' || coalesce(name, 'NULL') || ' | v=' || v \
         FROM item {of} ORDER BY id"
    );
    let query = columns.named(&query);
    assert_eq!(rows(client, &query).await?, shown(model), "{seed} {of}");
    let query = format!("SELECT count(*), count(name), min(id), max(id) FROM item {of}");
    let query = columns.named(&query);
    let end = |id: Option<&i32>| id.map_or("∅".to_owned(), ToString::to_string);
    let expected = format!(
        "{} {} {} {}",
        model.len(),
        model.values().filter(|row| row.2.is_some()).count(),
        end(model.keys().next()),
        end(model.keys().next_back()),
    );
    let found = rows(client, &query).await?.join(" ");
    let found = found.split(['|', ' ']).filter(|part| !part.is_empty());
    assert_eq!(found.collect::<Vec<_>>().join(" "), expected, "{seed} {of}");
    Ok(())
}

/// Whether a table's folder has deletion vectors.
fn has_vectors(table: &Path) -> Result<bool, Failure> {
    for entry in std::fs::read_dir(table)? {
        let name = entry?.file_name();
        if name.to_string_lossy().starts_with("deletion_vector_") {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What Python deltalake, Polars and DuckDB read.
fn check_others(table: &Path, model: &Model, columns: &Columns, seed: &str) -> Result<(), Failure> {
    // Polars knows no mapped columns, and neither it nor deltalake widened types.
    let readers: &[&str] = match (columns.widened, columns.mapped) {
        (true, _) => &["duckdb"],
        (false, true) => &["deltalake", "duckdb"],
        (false, false) => &["deltalake", "polars", "duckdb"],
    };
    let output = Command::new(service::python()?)
        .arg(repository().join("tests/interop/read_table.py"))
        .arg(table)
        .args(["{}", &readers.join(",")])
        .output()?;
    assert!(
        output.status.success(),
        "{seed}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let printed = String::from_utf8(output.stdout)?;
    for reader in readers {
        let read: Vec<&str> = printed
            .lines()
            .filter_map(|line| line.strip_prefix(reader)?.strip_prefix(' '))
            .collect();
        assert_eq!(read, shown(model), "{seed} {reader}");
    }
    Ok(())
}

async fn history(seed: u64) -> Result<(), Failure> {
    let mut draw = StdRng::seed_from_u64(seed);
    let (_folder, lake) = lake_folder()?;
    let mut server = Server::start(&lake).await?;
    let mut client = server.connect().await?;
    let partitioned = if seed.is_multiple_of(2) {
        "PARTITION BY (g)"
    } else {
        ""
    };
    let vectors = if seed % 3 == 1 {
        "WITH (\"delta.enableDeletionVectors\" = false)"
    } else {
        ""
    };
    client
        .batch_execute(&format!(
            "CREATE TABLE item (id int PRIMARY KEY, g int, v int, name text) {partitioned} {vectors}"
        ))
        .await?;
    let alters = seed % 5 > 1;
    let mut model = Model::new();
    let mut next_id = 0;
    let mut columns = Columns {
        name: "name",
        v: "v",
        mapped: false,
        widened: false,
        drops: 0,
        filled: false,
    };
    let mut versions: Vec<(i64, Model, Columns)> = Vec::new();
    let seed = format!("BOATHOUSE_TEST_SEED={seed}");
    for _ in 0..STEPS {
        match draw.random_range(0..9) {
            // Several statements as one.
            0 | 1 => {
                client.batch_execute("BEGIN").await?;
                let before = model.clone();
                let mut saved = None;
                for _ in 0..draw.random_range(1..5) {
                    if draw.random_bool(0.3) {
                        client.batch_execute("SAVEPOINT s").await?;
                        saved = Some(model.clone());
                    }
                    let (sql, count) = step(&mut draw, &mut model, &mut next_id);
                    let sql = columns.named(&sql);
                    assert_eq!(client.execute(&sql, &[]).await?, count, "{seed} {sql}");
                    check(&client, &model, &columns, "", &seed).await?;
                    if let Some(saved) = saved.take_if(|_| draw.random_bool(0.5)) {
                        client.batch_execute("ROLLBACK TO s").await?;
                        model = saved;
                        check(&client, &model, &columns, "", &seed).await?;
                    }
                }
                if draw.random_bool(0.3) {
                    client.batch_execute("ROLLBACK").await?;
                    model = before;
                } else {
                    client.batch_execute("COMMIT").await?;
                }
            }
            2 => {
                server.kill()?;
                server = Server::start(&lake).await?;
                client = server.connect().await?;
            }
            3 => {
                client.batch_execute("OPTIMIZE item").await?;
                let unneeded = rows(&client, "VACUUM (DRY_RUN, RETAIN_HOURS 1) item").await?;
                assert!(unneeded.is_empty(), "{seed} {unneeded:?}");
            }
            4 if alters => {
                columns.alter(&mut draw, &client, &mut model).await?;
            }
            _ => {
                let (sql, count) = step(&mut draw, &mut model, &mut next_id);
                let sql = columns.named(&sql);
                assert_eq!(client.execute(&sql, &[]).await?, count, "{seed} {sql}");
            }
        }
        check(&client, &model, &columns, "", &seed).await?;
        let version = rows(
            &client,
            "SELECT max(version) FROM system.table_history WHERE table_name = 'item'",
        )
        .await?;
        versions.push((version[0].parse()?, model.clone(), columns.clone()));
    }
    if !columns.filled {
        check_feed(&client, (0, &Model::new()), &model, &columns, &seed).await?;
    }
    for (version, then, were) in versions.iter().step_by(5) {
        let of = format!("FOR VERSION AS OF {version}");
        check(&client, then, were, &of, &seed).await?;
        if were.drops == columns.drops && *version < versions[versions.len() - 1].0 {
            check_feed(&client, (version + 1, then), &model, &columns, &seed).await?;
        }
    }
    for (is, was) in [(&mut columns.name, "name"), (&mut columns.v, "v")] {
        if *is != was {
            let sql = format!("ALTER TABLE item RENAME COLUMN {is} TO {was}");
            client.batch_execute(&sql).await?;
            *is = was;
        }
    }
    let table = lake.join("public/item");
    assert!(
        vectors.is_empty() || !has_vectors(&table)?,
        "{seed} has deletion vectors"
    );
    check_others(&table, &model, &columns, &seed)
}

#[tokio::test(flavor = "multi_thread")]
async fn random_histories_equal_a_model() -> Result<(), Failure> {
    let first = match std::env::var("BOATHOUSE_TEST_SEED") {
        Ok(text) => return history(text.parse()?).await,
        Err(_) => rand::rng().random_range(0..u64::MAX / 2),
    };
    for seed in first..first + HISTORIES {
        println!("BOATHOUSE_TEST_SEED={seed}");
        history(seed).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn racing_upserts_of_new_keys_make_one_row_of_each() -> Result<(), Failure> {
    let (_folder, lake) = lake_folder()?;
    let server = Server::start(&lake).await?;
    let client = server.connect().await?;
    client
        .batch_execute("CREATE TABLE seen (k int PRIMARY KEY, n bigint)")
        .await?;
    let mut writers = Vec::new();
    for writer in 0..WRITERS {
        let client = server.connect().await?;
        writers.push(tokio::spawn(async move {
            let mut made = 0_i64;
            for key in 0..10 {
                let values = format!("VALUES ({key}, 1), ({}, 1)", key + 100);
                let sql = if writer % 2 == 0 {
                    format!(
                        "INSERT INTO seen {values} ON CONFLICT (k) DO UPDATE SET n = seen.n + 1"
                    )
                } else {
                    format!(
                        "MERGE INTO seen USING ({values}) AS s (k, n) ON seen.k = s.k \
                         WHEN MATCHED THEN UPDATE SET n = seen.n + s.n \
                         WHEN NOT MATCHED THEN INSERT VALUES (s.k, s.n)"
                    )
                };
                match client.execute(&sql, &[]).await {
                    Ok(count) => {
                        assert_eq!(count, 2);
                        made += 2;
                    }
                    Err(error) if error.code() == Some(&SqlState::T_R_SERIALIZATION_FAILURE) => {}
                    Err(error) => panic!("{sql}: {error:?}"),
                }
            }
            made
        }));
    }
    let mut made = 0;
    for writer in writers {
        made += writer.await?;
    }
    let found = rows(
        &client,
        "SELECT count(*) = count(DISTINCT k), sum(n) FROM seen",
    )
    .await?;
    assert_eq!(found, [format!("t|{made}")]);
    Ok(())
}

const WRITERS: usize = 4;
const INCREMENTS: usize = 15;
const COUNTERS: i32 = 3;

const FOREIGN_ROWS: i32 = 25;

/// delta-rs appends while rows are changed and files are put together: whatever either side was told is
/// done is there once.
#[tokio::test(flavor = "multi_thread")]
async fn another_program_appends_meanwhile() -> Result<(), Failure> {
    let (_folder, lake) = lake_folder()?;
    let server = Server::start(&lake).await?;
    let client = server.connect().await?;
    client
        .batch_execute(
            "CREATE TABLE counter (k int PRIMARY KEY, n bigint);
             INSERT INTO counter VALUES (0, 0), (1, 0), (2, 0)",
        )
        .await?;
    let mut other = Command::new(service::python()?)
        .arg(repository().join("tests/interop/append_rows.py"))
        .arg(lake.join("public/counter"))
        .args(["1000", &FOREIGN_ROWS.to_string()])
        .spawn()?;
    let mut made = 0_i64;
    let mut round = 0;
    let status = loop {
        let counter = round % 3;
        let sql = match round % 4 {
            0 => format!("UPDATE counter SET n = n + 1 WHERE k = {counter}"),
            1 => format!(
                "INSERT INTO counter VALUES ({counter}, 1) \
                 ON CONFLICT (k) DO UPDATE SET n = counter.n + excluded.n"
            ),
            2 => format!(
                "MERGE INTO counter c USING (VALUES ({counter})) AS s (k) ON c.k = s.k \
                 WHEN MATCHED THEN UPDATE SET n = c.n + 1"
            ),
            _ => "OPTIMIZE counter".to_owned(),
        };
        round += 1;
        match client.execute(&sql, &[]).await {
            Ok(_) if sql.starts_with("OPTIMIZE") => {}
            Ok(count) => {
                assert_eq!(count, 1, "{sql}");
                made += 1;
            }
            Err(error) if error.code() == Some(&SqlState::T_R_SERIALIZATION_FAILURE) => {}
            Err(error) => panic!("{sql}: {error:?}"),
        }
        if let Some(status) = other.try_wait()? {
            break status;
        }
    };
    assert!(status.success(), "the other program failed");
    assert!(made > 0);
    let found = rows(
        &client,
        "SELECT sum(n) FILTER (WHERE k < 3), count(*) FILTER (WHERE k >= 1000), \
         count(DISTINCT k), count(*) FROM counter",
    )
    .await?;
    let all = FOREIGN_ROWS + 3;
    assert_eq!(found, [format!("{made}|{FOREIGN_ROWS}|{all}|{all}")]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn no_increment_of_racing_writers_is_lost() -> Result<(), Failure> {
    let (_folder, lake) = lake_folder()?;
    let server = Server::start(&lake).await?;
    let client = server.connect().await?;
    client
        .batch_execute(
            "CREATE TABLE counter (k int PRIMARY KEY, n bigint);
             INSERT INTO counter VALUES (0, 0), (1, 0), (2, 0)",
        )
        .await?;
    let mut writers = Vec::new();
    for writer in 0..WRITERS {
        let client = server.connect().await?;
        writers.push(tokio::spawn(async move {
            let mut made = 0_i64;
            for round in 0..INCREMENTS {
                let counter = i32::try_from((writer + round) % 3).unwrap_or(0) % COUNTERS;
                let sql = if round % 2 == 0 {
                    format!("UPDATE counter SET n = n + 1 WHERE k = {counter}")
                } else {
                    format!(
                        "INSERT INTO counter VALUES ({counter}, 1) \
                         ON CONFLICT (k) DO UPDATE SET n = counter.n + excluded.n"
                    )
                };
                match client.execute(&sql, &[]).await {
                    Ok(count) => {
                        assert_eq!(count, 1, "{sql}");
                        made += 1;
                    }
                    // Refused, and so not made: the client may try again.
                    Err(error) if error.code() == Some(&SqlState::T_R_SERIALIZATION_FAILURE) => {}
                    Err(error) => panic!("{sql}: {error:?}"),
                }
            }
            made
        }));
    }
    let mut made = 0;
    // Rewriting the files makes no writer fail and loses nothing.
    let keeper = server.connect().await?;
    for _ in 0..5 {
        match keeper.batch_execute("OPTIMIZE counter").await {
            Ok(()) => {}
            Err(error) if error.code() == Some(&SqlState::T_R_SERIALIZATION_FAILURE) => {}
            Err(error) => return Err(error.into()),
        }
    }
    for writer in writers {
        made += writer.await?;
    }
    keeper.batch_execute("OPTIMIZE counter").await?;
    assert!(made > 0);
    let found = rows(&client, "SELECT sum(n), count(*) FROM counter").await?;
    assert!(
        found[0].starts_with(&made.to_string()),
        "{found:?}, {made} increments"
    );
    assert_eq!(rows(&client, "SELECT count(*) FROM counter").await?, ["3"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_whose_rows_another_changed_is_refused() -> Result<(), Failure> {
    let (_folder, lake) = lake_folder()?;
    let server = Server::start(&lake).await?;
    let (first, second) = (server.connect().await?, server.connect().await?);
    first
        .batch_execute("CREATE TABLE t (k int, n int); INSERT INTO t VALUES (1, 1), (2, 2), (3, 3)")
        .await?;
    // Other rows of the same file are no conflict.
    first
        .batch_execute("BEGIN; UPDATE t SET n = 10 WHERE k = 1")
        .await?;
    second
        .batch_execute("UPDATE t SET n = 20 WHERE k = 2")
        .await?;
    first.batch_execute("COMMIT").await?;
    let sum = "SELECT string_agg(k || '=' || n, ',' ORDER BY k) FROM t";
    assert_eq!(rows(&second, sum).await?, ["1=10,2=20,3=3"]);
    // The same row is.
    first
        .batch_execute("BEGIN; DELETE FROM t WHERE k = 3; INSERT INTO t VALUES (4, 4)")
        .await?;
    second
        .batch_execute("UPDATE t SET n = 30 WHERE k = 3")
        .await?;
    let refused = first.batch_execute("COMMIT").await.unwrap_err();
    assert_eq!(refused.code(), Some(&SqlState::T_R_SERIALIZATION_FAILURE));
    assert_eq!(rows(&second, sum).await?, ["1=10,2=20,3=30"]);
    first.batch_execute("BEGIN; UPDATE t SET n = 0").await?;
    second.batch_execute("TRUNCATE t").await?;
    let refused = first.batch_execute("COMMIT").await.unwrap_err();
    assert_eq!(refused.code(), Some(&SqlState::T_R_SERIALIZATION_FAILURE));
    assert_eq!(rows(&second, "SELECT count(*) FROM t").await?, ["0"]);
    // So is a row added since a transaction looked for its keys: it may have one of them.
    second
        .batch_execute("CREATE TABLE keyed (k int PRIMARY KEY, n int)")
        .await?;
    first
        .batch_execute("BEGIN; INSERT INTO keyed VALUES (1, 1) ON CONFLICT (k) DO NOTHING")
        .await?;
    second
        .batch_execute("INSERT INTO keyed VALUES (1, 2)")
        .await?;
    let refused = first.batch_execute("COMMIT").await.unwrap_err();
    assert_eq!(refused.code(), Some(&SqlState::T_R_SERIALIZATION_FAILURE));
    assert_eq!(rows(&second, "SELECT k, n FROM keyed").await?, ["1|2"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_cut_off_is_made_or_not_made() -> Result<(), Failure> {
    let (_folder, lake) = lake_folder()?;
    let server = Server::start(&lake).await?;
    server
        .connect()
        .await?
        .batch_execute(
            "CREATE TABLE t (k int, n int); INSERT INTO t SELECT k, 0 FROM generate_series(1, 100) g(k)",
        )
        .await?;
    drop(server);
    let mut n = 0;
    for (failpoint, made) in [
        ("before_commit", 0),
        ("after_commit", 1),
        ("before_commit", 0),
    ] {
        let options = ServerOptions {
            environment: vec![("BOATHOUSE_FAILPOINT".into(), failpoint.into())],
            ..ServerOptions::default()
        };
        let server = Server::start_with(&lake, options).await?;
        let cut = server
            .connect()
            .await?
            .execute("UPDATE t SET n = n + 1", &[])
            .await;
        assert!(cut.is_err(), "{failpoint}");
        drop(server);
        n += made;
        let server = Server::start(&lake).await?;
        let found = rows(
            &server.connect().await?,
            "SELECT count(*), min(n), max(n) FROM t",
        )
        .await?;
        let found: Vec<&str> = found[0]
            .split(['|', ' '])
            .filter(|part| !part.is_empty())
            .collect();
        assert_eq!(
            found,
            ["100", &n.to_string(), &n.to_string()],
            "{failpoint}"
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn prepared_changes_take_parameters_and_give_rows() -> Result<(), Failure> {
    let (_folder, lake) = lake_folder()?;
    let server = Server::start(&lake).await?;
    let client = server.connect().await?;
    client
        .batch_execute("CREATE TABLE t (k int PRIMARY KEY, n bigint, name text)")
        .await?;
    let upsert = client
        .prepare(
            "INSERT INTO t VALUES ($1, $2, $3) ON CONFLICT (k) DO UPDATE SET n = t.n + $2 + $4 \
             RETURNING k, n, name",
        )
        .await?;
    let update = client
        .prepare("UPDATE t SET n = n * $1, name = $2 WHERE k = $3 RETURNING n + $4 AS more")
        .await?;
    let delete = client
        .prepare("DELETE FROM t WHERE k = ANY($1) RETURNING k")
        .await?;
    for (round, expected) in [5_i64, 11, 17].into_iter().enumerate() {
        let row = client
            .query_one(&upsert, &[&1_i32, &5_i64, &"a", &1_i64])
            .await?;
        assert_eq!(row.get::<_, i64>(1), expected, "{round}");
    }
    client
        .query_one(&upsert, &[&2_i32, &1_i64, &"b", &0_i64])
        .await?;
    let row = client
        .query_one(&update, &[&2_i64, &"c", &2_i32, &100_i64])
        .await?;
    assert_eq!(row.get::<_, i64>("more"), 102);
    let none = client
        .query(&update, &[&2_i64, &"c", &99_i32, &0_i64])
        .await?;
    assert!(none.is_empty());
    let merge = client
        .prepare(
            "MERGE INTO t USING (SELECT $1::int AS k) AS s ON t.k = s.k \
             WHEN MATCHED AND t.n > $2 THEN DELETE \
             WHEN MATCHED THEN UPDATE SET n = $3, name = $4 \
             WHEN NOT MATCHED THEN INSERT VALUES (s.k, $3, $4) \
             RETURNING merge_action(), n + $5 AS more",
        )
        .await?;
    for (limit, action) in [(0_i64, "INSERT"), (10, "UPDATE"), (0, "DELETE")] {
        let row = client
            .query_one(&merge, &[&7_i32, &limit, &5_i64, &"m", &1_i64])
            .await?;
        assert_eq!(row.get::<_, String>("merge_action"), action);
        assert_eq!(row.get::<_, i64>("more"), 6, "{action}");
    }
    let gone = client.query(&delete, &[&vec![2_i32, 3]]).await?;
    assert_eq!(gone.len(), 1);
    assert_eq!(rows(&client, "SELECT k, n, name FROM t").await?, ["1|17|a"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_with_a_default_is_there_in_rows_that_were_there() -> Result<(), Failure> {
    let (_folder, lake) = lake_folder()?;
    let server = Server::start(&lake).await?;
    let client = server.connect().await?;
    client
        .batch_execute(
            "CREATE TABLE t (id int PRIMARY KEY, v int);
             INSERT INTO t SELECT g, g FROM generate_series(1, 1000) AS s(g);
             INSERT INTO t SELECT g, g FROM generate_series(1001, 1500) AS s(g);
             DELETE FROM t WHERE id % 10 = 0",
        )
        .await?;
    let all = "SELECT count(*), count(w), min(w), max(w) FROM t";
    // Seen by its transaction alone, and gone without a trace.
    client
        .batch_execute(
            "BEGIN; SELECT count(*) FROM t; ALTER TABLE t ADD COLUMN w int NOT NULL DEFAULT 7",
        )
        .await?;
    assert_eq!(rows(&client, all).await?, ["1350|1350|7|7"]);
    let other = server.connect().await?;
    let columns = "SELECT count(*) FROM information_schema.columns WHERE table_name = 't'";
    assert_eq!(rows(&other, columns).await?, ["2"]);
    client
        .batch_execute(
            "ROLLBACK; BEGIN; ALTER TABLE t DROP COLUMN v, ADD COLUMN v int DEFAULT 1; ROLLBACK",
        )
        .await?;
    assert_eq!(rows(&client, "SELECT sum(v) FROM t").await?, ["1012500"]);
    client
        .batch_execute("ALTER TABLE t ADD COLUMN w int")
        .await?;
    assert_eq!(rows(&client, all).await?, ["1350|0|∅|∅"]);
    client.batch_execute("ALTER TABLE t DROP COLUMN w").await?;
    // What a row of before may not have is an error, and nothing has changed.
    for (column, state) in [
        ("w int DEFAULT NULL NOT NULL", "23502"),
        ("w int DEFAULT 7, ADD CHECK (w > v)", "23514"),
        ("w int DEFAULT 7, ADD UNIQUE (w)", "23505"),
        ("w int DEFAULT 'x'", "22P02"),
        ("w int", "23502"),
    ] {
        let enforced = "ALTER TABLE t SET (enforce_keys = true); ";
        let sql = format!("ALTER TABLE t ADD COLUMN {column}");
        let sql = match column {
            "w int" => format!("{sql} NOT NULL"),
            _ if column.contains("UNIQUE") => format!("{enforced}{sql}"),
            _ => sql,
        };
        let Err(error) = client.batch_execute(&sql).await else {
            return Err(format!("{sql} succeeded").into());
        };
        let code = error
            .as_db_error()
            .map(|error| error.code().code().to_owned());
        assert_eq!(code.as_deref(), Some(state), "{sql}");
        assert_eq!(rows(&other, columns).await?, ["2"], "{sql}");
    }
    // Each row its own, the statement's time the same in all.
    client
        .batch_execute(
            "ALTER TABLE t ADD COLUMN w int DEFAULT 1 + 1, ADD COLUMN u uuid DEFAULT gen_random_uuid(), \
             ADD COLUMN at timestamptz DEFAULT now()",
        )
        .await?;
    assert_eq!(rows(&client, all).await?, ["1350|1350|2|2"]);
    let kinds = "SELECT count(DISTINCT u), count(DISTINCT at), sum(v) FROM t";
    assert_eq!(rows(&client, kinds).await?, ["1350|1|1012500"]);
    client
        .batch_execute("INSERT INTO t (id, v) VALUES (0, 0)")
        .await?;
    assert_eq!(rows(&client, "SELECT w FROM t WHERE id = 0").await?, ["2"]);
    client
        .batch_execute("UPDATE t SET v = v + 1 WHERE id = 15; OPTIMIZE t")
        .await?;
    assert_eq!(
        rows(
            &client,
            "SELECT id, v, w FROM t WHERE w = 2 AND id IN (15, 1499) ORDER BY id"
        )
        .await?,
        ["15|16|2", "1499|1499|2"]
    );
    // A table made in the same transaction.
    client
        .batch_execute(
            "BEGIN; CREATE TABLE n (a int); INSERT INTO n VALUES (1), (2); DELETE FROM n WHERE a = 1; \
             ALTER TABLE n ADD COLUMN b text DEFAULT 'x'; INSERT INTO n (a) VALUES (3); COMMIT",
        )
        .await?;
    assert_eq!(
        rows(&client, "SELECT a, b FROM n ORDER BY a").await?,
        ["2|x", "3|x"]
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_written_while_a_column_is_added_have_its_default() -> Result<(), Failure> {
    let (_folder, lake) = lake_folder()?;
    let server = Server::start(&lake).await?;
    let client = server.connect().await?;
    client
        .batch_execute(
            "CREATE TABLE t (id int PRIMARY KEY, v int); \
             INSERT INTO t SELECT g, 0 FROM generate_series(1, 50000) AS s(g)",
        )
        .await?;
    let writer = server.connect().await?;
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let writing = tokio::spawn(async move {
        let mut next = 50_001;
        while !*stopped.borrow() {
            for sql in [
                format!("INSERT INTO t (id, v) VALUES ({next}, 0)"),
                format!("UPDATE t SET v = v + 1 WHERE id = {}", next - 50_000),
                "OPTIMIZE t".to_owned(),
            ] {
                // A statement that met the change of columns is tried again, as a program would.
                while let Err(error) = writer.batch_execute(&sql).await {
                    let code = error.as_db_error().map(|error| error.code().clone());
                    assert_eq!(code, Some(SqlState::T_R_SERIALIZATION_FAILURE), "{error:?}");
                }
            }
            next += 1;
        }
        next - 50_001
    });
    for column in 0..5 {
        let sql = format!("ALTER TABLE t ADD COLUMN c{column} int NOT NULL DEFAULT {column}");
        client.batch_execute(&sql).await?;
    }
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    stop.send(true)?;
    let written = writing.await?;
    assert!(written > 5, "{written}");
    let wrong = "SELECT count(*) FROM t WHERE concat(c0, c1, c2, c3, c4) <> '01234'";
    assert_eq!(rows(&client, wrong).await?, ["0"]);
    let total = format!("{}|{written}", 50_000 + written);
    assert_eq!(
        rows(&client, "SELECT count(*), sum(v) FROM t").await?,
        [total]
    );
    Ok(())
}
