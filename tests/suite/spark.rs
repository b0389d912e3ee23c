//! Spark with Delta Lake beside Boathouse: each reads what the other writes, and both change one table in
//! turns. Values are compared as text, row by row.
//!
//! Spark starts slowly, so one process serves the whole test, one part after the other.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use boathouse_tests::spark::Spark;
use boathouse_tests::{Failure, Server, lake_folder, repository, rows};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio_postgres::Client;

/// A table that one program makes and both read.
struct Case {
    name: String,
    /// What Boathouse says instead of reading it.
    refused: Option<String>,
    /// What makes the table and changes it.
    statements: Vec<String>,
    queries: Vec<String>,
}

/// The tables of a file of tests/interop; spark_tables.sql says how it is written.
fn cases(file: &str) -> Result<Vec<Case>, Failure> {
    let path = repository().join("tests/interop").join(file);
    let mut cases: Vec<Case> = Vec::new();
    for line in std::fs::read_to_string(path)?.lines() {
        if let Some(head) = line.strip_prefix("== ") {
            let (name, refused) = match head.split_once(": refused ") {
                Some((name, word)) => (name, Some(word.to_owned())),
                None => (head, None),
            };
            cases.push(Case {
                name: name.to_owned(),
                refused,
                statements: Vec::new(),
                queries: vec!["SELECT * FROM $t".to_owned()],
            });
        } else if let Some(case) = cases.last_mut() {
            match line {
                "" => {}
                _ if line.starts_with("SELECT ") => case.queries.push(line.to_owned()),
                _ if line.starts_with(' ') => {
                    let statement = case.statements.last_mut();
                    statement
                        .ok_or("the file begins in a statement")?
                        .push_str(line);
                }
                _ => case.statements.push(line.to_owned()),
            }
        }
    }
    Ok(cases)
}

fn sorted(mut rows: Vec<String>) -> Vec<String> {
    rows.sort();
    rows
}

/// What Spark calls the table in a folder, and others beside it.
fn in_spark(sql: &str, folder: &Path) -> String {
    let folder = folder.display().to_string();
    sql.replace("$t.of", &format!("delta.`{folder}.of`"))
        .replace("$t", &format!("delta.`{folder}`"))
        .replace("$path", &folder)
}

async fn boathouse_reads_what_spark_writes(
    spark: &mut Spark,
    client: &Client,
) -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    for (number, case) in cases("spark_tables.sql")?.into_iter().enumerate() {
        let name = &case.name;
        let table = folder.path().join(format!("table{number}"));
        for statement in &case.statements {
            spark.rows(&in_spark(statement, &table))?;
        }
        let ours = format!("read_delta('{}')", table.display());
        for query in &case.queries {
            let found = rows(client, &query.replace("$t", &ours)).await;
            if let Some(word) = &case.refused {
                let message = found.err().map(|error| error.to_string());
                let message = message.unwrap_or_default();
                assert!(message.starts_with("0A000"), "{name}: {message}");
                assert!(message.contains(word), "{name}: {message}");
                break;
            }
            let found = found.map_err(|error| format!("{name}: {query}: {error}"))?;
            let expected = spark.rows(&in_spark(query, &table))?;
            assert_eq!(sorted(found), sorted(expected), "{name}: {query}");
        }
    }
    Ok(())
}

async fn spark_reads_what_boathouse_writes(
    spark: &mut Spark,
    client: &Client,
    lake: &Path,
) -> Result<(), Failure> {
    for (number, case) in cases("tables_for_spark.sql")?.into_iter().enumerate() {
        let name = &case.name;
        let ours = format!("table{number}");
        for statement in &case.statements {
            rows(client, &statement.replace("$t", &ours)).await?;
        }
        let table = lake.join("public").join(&ours);
        for query in &case.queries {
            let expected = rows(client, &query.replace("$t", &ours)).await?;
            let found = spark.rows(&in_spark(query, &table))?;
            assert_eq!(sorted(found), sorted(expected), "{name}: {query}");
        }
    }
    Ok(())
}

const STEPS: usize = 16;
const GROUPS: i32 = 3;

/// What Spark does to the columns of a table of ours loses no value when we write it next.
async fn columns_that_spark_adds_and_renames_stay(
    spark: &mut Spark,
    client: &Client,
    lake: &Path,
) -> Result<(), Failure> {
    let folder = lake.join("public/widened");
    rows(client, "CREATE TABLE widened (id integer, a integer)").await?;
    rows(client, "INSERT INTO widened VALUES (1, 1)").await?;
    for statement in [
        "ALTER TABLE $t ADD COLUMN extra STRING",
        "INSERT INTO $t VALUES (2, 2, 'e')",
        "ALTER TABLE $t SET TBLPROPERTIES ('delta.columnMapping.mode' = 'name')",
        "ALTER TABLE $t RENAME COLUMN a TO c",
        "INSERT INTO $t VALUES (3, 3, 'f')",
    ] {
        spark.rows(&in_spark(statement, &folder))?;
    }
    rows(client, "INSERT INTO widened (id, a) VALUES (4, 4)").await?;
    let refused = rows(client, "UPDATE widened SET a = 20 WHERE id = 2").await;
    let message = refused.err().map(|error| error.to_string());
    let message = message.unwrap_or_default();
    assert!(message.starts_with("0A000"), "{message}");
    assert!(message.contains("extra"), "{message}");
    for statement in [
        "ALTER TABLE widened ADD COLUMN b integer",
        "DELETE FROM widened WHERE id = 1",
        "OPTIMIZE widened",
    ] {
        rows(client, statement).await?;
    }
    let query = "SELECT id, a, b, extra FROM $t ORDER BY id";
    let expected = ["2|2|∅|e", "3|3|∅|f", "4|4|∅|∅"];
    assert_eq!(
        rows(client, &query.replace("$t", "widened")).await?,
        expected
    );
    assert_eq!(spark.rows(&in_spark(query, &folder))?, expected);
    Ok(())
}

/// The tables that deltalake is tested with and that come with its crate.
async fn acceptance_tables_are_read_or_refused(
    spark: &mut Spark,
    client: &Client,
) -> Result<(), Failure> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args([
            "metadata",
            "--format-version",
            "1",
            "--offline",
            "--manifest-path",
        ])
        .arg(repository().join("Cargo.toml"))
        .output()?;
    let metadata = String::from_utf8(output.stdout)?;
    let mut paths = metadata.split('"').map(Path::new).filter_map(Path::parent);
    let package = paths.find(|folder| {
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("deltalake-core-")
    });
    let package = package.ok_or("there is no package deltalake-core")?;

    // Made by Spark, with checkpoints of version 2 in JSON and with sidecars.
    let table = package.join("checkpoint_v2_table");
    let ours = format!("read_delta('{}')", table.display());
    for query in [
        "SELECT count(*), count(col2), sum(col1), sum(col2), min(col1), max(col1) FROM $t",
        "SELECT * FROM $t WHERE col2 < 20",
    ] {
        let found = rows(client, &query.replace("$t", &ours)).await?;
        let expected = spark.rows(&in_spark(query, &table))?;
        assert_eq!(sorted(found), sorted(expected), "{query}");
    }

    // Logs with a gap or with features that are not understood. Only the logs are there.
    let logs = package.join("tests/data_err_logs");
    let mut answers = Vec::new();
    for table in "abcdefghi".chars() {
        let table = logs.join(format!("table_{table}"));
        let query = format!("SELECT count(*) FROM read_delta('{}')", table.display());
        answers.push(match rows(client, &query).await {
            Ok(rows) => rows.join(","),
            Err(error) => error.to_string().chars().take(5).collect(),
        });
    }
    let refused = "0A000";
    let expected = [
        "130", "130", "58030", refused, refused, refused, "100", refused, refused,
    ];
    assert_eq!(answers, expected);
    Ok(())
}

type Model = BTreeMap<i32, (i32, i64, Option<String>)>;

/// One statement that both programs understand, and what it does to the model. `$v` and `$name` are columns.
fn step(draw: &mut StdRng, model: &mut Model, next_id: &mut i32) -> String {
    let group = draw.random_range(0..GROUPS);
    let number = draw.random_range(1..100_i64);
    match draw.random_range(0..7) {
        0 | 1 => {
            let mut values = Vec::new();
            for _ in 0..draw.random_range(1..20) {
                let group = draw.random_range(0..GROUPS);
                let name = draw.random_bool(0.5).then(|| format!("n{next_id}"));
                let shown = name.as_ref();
                let shown = shown.map_or("NULL".to_owned(), |name| format!("'{name}'"));
                values.push(format!("({next_id}, {group}, {number}, {shown})"));
                model.insert(*next_id, (group, number, name));
                *next_id += 1;
            }
            let values = values.join(", ");
            format!("INSERT INTO $t (id, g, $v, $name) VALUES {values}")
        }
        2 => {
            for row in model.values_mut().filter(|row| row.0 == group) {
                row.1 += number;
                row.2 = None;
            }
            format!("UPDATE $t SET $v = $v + {number}, $name = NULL WHERE g = {group}")
        }
        3 => {
            let from = draw.random_range(0..=*next_id);
            for (_, row) in model.range_mut(from..from + 15) {
                row.0 = (row.0 + 1) % GROUPS;
                row.2 = Some(format!("moved {number}"));
            }
            let to = from + 15;
            format!(
                "UPDATE $t SET g = (g + 1) % {GROUPS}, $name = 'moved {number}' \
                 WHERE id >= {from} AND id < {to}"
            )
        }
        4 => {
            let (divisor, rest) = (draw.random_range(2..9), draw.random_range(0..9));
            model.retain(|id, _| id % divisor != rest);
            format!("DELETE FROM $t WHERE id % {divisor} = {rest}")
        }
        5 => {
            let mut ids = vec![*next_id];
            *next_id += 1;
            ids.extend((0..8).map(|_| draw.random_range(0..*next_id)));
            ids.sort_unstable();
            ids.dedup();
            for id in &ids {
                match model.get_mut(id) {
                    Some(row) if row.0 == group => {
                        model.remove(id);
                    }
                    Some(row) => row.1 += number,
                    None => {
                        model.insert(*id, (group, number, None));
                    }
                }
            }
            let ids: Vec<String> = ids.iter().map(|id| format!("({id})")).collect();
            format!(
                "MERGE INTO $t AS t USING (SELECT * FROM (VALUES {}) AS v (id)) AS s ON t.id = s.id \
                 WHEN MATCHED AND t.g = {group} THEN DELETE \
                 WHEN MATCHED THEN UPDATE SET $v = t.$v + {number} \
                 WHEN NOT MATCHED THEN INSERT (id, g, $v) VALUES (s.id, {group}, {number})",
                ids.join(", ")
            )
        }
        _ => "OPTIMIZE $t".to_owned(),
    }
}

fn shown(model: &Model) -> Vec<String> {
    let rows = model.iter().map(|(id, (group, number, name))| {
        let name = name.as_deref().unwrap_or("∅");
        format!("{id}|{group}|{number}|{name}")
    });
    rows.collect()
}

/// What rows came and went from one state to another, as [`net_changes`] shows it.
fn difference(before: &Model, after: &Model) -> Vec<String> {
    let (before, after) = (shown(before), shown(after));
    let came = after.iter().filter(|row| !before.contains(row));
    let came = came.map(|row| format!("{row}|1"));
    let went = before.iter().filter(|row| !after.contains(row));
    sorted(came.chain(went.map(|row| format!("{row}|-1"))).collect())
}

/// The table of a history as it was once.
struct Past {
    version: i64,
    model: Model,
    /// What `v` and `name` were called.
    columns: [&'static str; 2],
}

impl Past {
    fn named(&self, sql: &str) -> String {
        let [v, name] = self.columns;
        sql.replace("$v", v).replace("$name", name)
    }
}

const ALL: &str = "SELECT id, g, $v, $name FROM $t ORDER BY id";

async fn check_past(
    spark: &mut Spark,
    client: &Client,
    (table, folder): (&str, &Path),
    history: &[Past],
    of: &str,
) -> Result<(), Failure> {
    let newest = history.last().ok_or("nothing happened")?;
    for past in history.iter().step_by(3) {
        let version = past.version;
        let at = format!("{table} FOR VERSION AS OF {version}");
        let found = rows(client, &past.named(ALL).replace("$t", &at)).await?;
        assert_eq!(found, shown(&past.model), "{of} ours at {version}");
        let query = format!(
            "SELECT id, g, $v, $name, \
             sum(CASE WHEN _change_type IN ('insert', 'update_postimage') THEN 1 ELSE -1 END) \
             FROM table_changes('{table}', {}) GROUP BY id, g, $v, $name \
             HAVING sum(CASE WHEN _change_type IN ('insert', 'update_postimage') THEN 1 ELSE -1 END) <> 0",
            version + 1
        );
        if version < newest.version {
            let found = sorted(rows(client, &newest.named(&query)).await?);
            let expected = difference(&past.model, &newest.model);
            assert_eq!(found, expected, "{of} changes after {version}");
        }
    }
    if let Some(past) = history.get(history.len() / 2) {
        let version = past.version;
        let query = past.named(ALL).replace("$t", "$t VERSION AS OF $n");
        let query = in_spark(&query, folder).replace("$n", &version.to_string());
        assert_eq!(
            spark.rows(&query)?,
            shown(&past.model),
            "{of} Spark at {version}"
        );
    }
    Ok(())
}

/// Both change one table in turns, and each reads what the other has done.
async fn both_change_a_table(
    spark: &mut Spark,
    client: &Client,
    lake: &Path,
    seed: u64,
) -> Result<(), Failure> {
    let of = format!("BOATHOUSE_TEST_SEED={seed}");
    let table = format!("item{seed}");
    println!("{of}");
    let mut draw = StdRng::seed_from_u64(seed);
    let partitioned = ["", "PARTITION BY (g)"][usize::from(seed.is_multiple_of(2))];
    let vectors = match draw.random_range(0..4) {
        0 => "",
        1 => ", \"delta.enableDeletionVectors\" = false",
        _ => ", \"delta.enableDeletionVectors\" = true",
    };
    let create = format!(
        "CREATE TABLE {table} (id integer PRIMARY KEY, g integer, v integer, name text) {partitioned} WITH (\
         \"delta.checkpointInterval\" = 4, \"delta.autoOptimize.autoCompact\" = false{vectors})"
    );
    rows(client, &create).await?;
    let folder = lake.join("public").join(&table);
    let (mut model, mut next_id) = (Model::new(), 0);
    let mut columns = ["v", "name"];
    let mut history: Vec<Past> = Vec::new();
    for number in 0..STEPS {
        let is_spark = number % 2 == 1;
        let sql = match (is_spark, number) {
            (false, 6) => "ALTER TABLE $t ALTER COLUMN $v TYPE bigint".to_owned(),
            (false, 8) => {
                let [v, name] = columns;
                columns = ["worth", "label"];
                let sql = format!("ALTER TABLE $t RENAME COLUMN {v} TO worth");
                rows(client, &sql.replace("$t", &table)).await?;
                format!("ALTER TABLE $t RENAME COLUMN {name} TO label")
            }
            _ => step(&mut draw, &mut model, &mut next_id),
        };
        let mut now = Past {
            version: 0,
            model: model.clone(),
            columns,
        };
        let sql = now.named(&sql);
        let who = if is_spark { "Spark" } else { "Boathouse" };
        println!("{who}: {sql}");
        if is_spark {
            spark.rows(&in_spark(&sql, &folder))?;
        } else {
            rows(client, &sql.replace("$t", &table)).await?;
        }
        let query = now.named(ALL);
        let found = rows(client, &query.replace("$t", &table)).await?;
        assert_eq!(found, shown(&model), "{of} ours");
        if !is_spark {
            let found = spark.rows(&in_spark(&query, &folder))?;
            assert_eq!(found, shown(&model), "{of} Spark's");
        }
        let version =
            format!("SELECT max(version) FROM system.table_history WHERE table_name = '{table}'");
        now.version = rows(client, &version).await?[0].parse()?;
        history.push(now);
    }
    check_past(spark, client, (&table, &folder), &history, &of).await
}

#[tokio::test]
async fn spark_and_boathouse_read_and_change_the_same_tables() -> Result<(), Failure> {
    let mut spark = Spark::start()?;
    let (_folder, lake) = lake_folder()?;
    let server = Server::start(&lake).await?;
    let client = server.connect().await?;
    client.batch_execute("SET TIME ZONE 'UTC'").await?;
    let seed = match std::env::var("BOATHOUSE_TEST_SEED") {
        Ok(text) => text.parse()?,
        Err(_) => rand::rng().random(),
    };
    spark_reads_what_boathouse_writes(&mut spark, &client, &lake).await?;
    both_change_a_table(&mut spark, &client, &lake, seed).await?;
    columns_that_spark_adds_and_renames_stay(&mut spark, &client, &lake).await?;
    acceptance_tables_are_read_or_refused(&mut spark, &client).await?;
    boathouse_reads_what_spark_writes(&mut spark, &client).await
}
