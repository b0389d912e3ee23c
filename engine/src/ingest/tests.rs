//! Pipelines as their owners see them: files in, rows out, each once, whatever happens.

mod lossless;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arrow::util::pretty::pretty_format_batches;
use boathouse_catalog::MasterKey;
use boathouse_catalog::definitions::{
    ConnectionDefinition, ObjectId, OptionValue, PipelineDefinition,
};
use boathouse_catalog::state::{FileFilter, RunFilter};
use boathouse_sql::Statement;
use datafusion::prelude::SessionContext;
use expect_test::{Expect, expect};
use tempfile::TempDir;

use super::*;
use crate::engine::{Engine, EngineConfig};

/// An engine over a lake and an inbox in a folder of their own.
struct Fixture {
    folder: TempDir,
    engine: Arc<Engine>,
}

async fn fixture() -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("inbox")).unwrap();
    std::fs::create_dir(folder.path().join("scratch")).unwrap();
    let key = MasterKey::generate();
    let engine = open(folder.path(), key, "one").await;
    let mut transaction = engine.catalog.begin();
    transaction
        .create_schema("bronze", ObjectId::SUPERUSER)
        .unwrap();
    let inbox = folder.path().join("inbox").to_str().unwrap().to_owned();
    transaction
        .create_connection(ConnectionDefinition {
            id: ObjectId::default(),
            name: "inbox".into(),
            owner: ObjectId::SUPERUSER,
            kind: "LOCAL".into(),
            options: BTreeMap::from([("path".into(), OptionValue::Text(inbox))]),
            comment: None,
        })
        .unwrap();
    engine.catalog.commit(transaction).await.unwrap();
    Fixture { folder, engine }
}

/// Opens the engine of a folder; a second time as another server would.
async fn open(folder: &Path, master_key: MasterKey, server: &str) -> Arc<Engine> {
    let config = EngineConfig {
        lake: folder.join("lake").to_str().unwrap().to_owned(),
        catalog: Some(format!("sqlite://{}/catalog.db", folder.display())),
        master_key,
        store_options: BTreeMap::new(),
        memory_bytes_max: 1 << 30,
        index_bytes_max: 64 << 20,
        tables_bytes_max: 64 << 20,
        scratch: folder.join("scratch"),
        server_name: server.into(),
        runs_schedules: false,
    };
    Engine::open(config).await.unwrap()
}

impl Fixture {
    /// Puts a file into the inbox, old enough to be stable.
    fn put(&self, name: &str, content: &str, age_seconds: u64) {
        let path = self.folder.path().join("inbox").join(name);
        std::fs::write(&path, content).unwrap();
        let time = std::time::SystemTime::now() - Duration::from_secs(age_seconds);
        std::fs::File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_modified(time)
            .unwrap();
    }

    async fn create(&self, statement: &str) -> Arc<PipelineDefinition> {
        let parsed = boathouse_sql::parse(statement).unwrap().remove(0).statement;
        let Statement::CreatePipeline(create) = parsed else {
            panic!("not a pipeline")
        };
        let context = super::context::query_context(
            &self.engine,
            self.engine.catalog.snapshot(),
            ObjectId::SUPERUSER,
        )
        .unwrap();
        plan_pipeline(&context, &create).await.unwrap();
        let mut transaction = self.engine.catalog.begin();
        transaction
            .create_pipeline(PipelineDefinition {
                id: ObjectId::default(),
                name: create.name.clone(),
                owner: ObjectId::SUPERUSER,
                statement: create.to_string(),
                paused: false,
                options: BTreeMap::new(),
                comment: None,
                created_at: chrono::Utc::now(),
            })
            .unwrap();
        let snapshot = self.engine.catalog.commit(transaction).await.unwrap();
        Arc::clone(snapshot.pipeline(&create.name).unwrap())
    }

    async fn run(&self, pipeline: &PipelineDefinition, trigger: Trigger, expected: Expect) {
        let summary = run_pipeline(&self.engine, pipeline, trigger).await.unwrap();
        let counters = summary.counters;
        expected.assert_eq(&format!(
            "{}: files {}/{}, in {}, out {}, dropped {}, quarantined {}, warned {}, errors {}",
            summary.state.name(),
            counters.files_done,
            counters.files_total,
            counters.rows_in,
            counters.rows_out,
            counters.rows_dropped,
            counters.rows_quarantined,
            counters.rows_warned,
            summary.error_count
        ));
    }

    async fn rows(&self, sql: &str, expected: Expect) {
        let snapshot = self.engine.catalog.refresh().await.unwrap();
        let definition = snapshot.table("bronze", "stock").unwrap();
        let table = self.engine.lake.table(definition).await.unwrap();
        let newest = table.snapshot(None).await.unwrap();
        let context = SessionContext::new();
        context
            .register_table("stock", table.provider(&newest))
            .unwrap();
        let batches = context.sql(sql).await.unwrap().collect().await.unwrap();
        expected.assert_eq(&pretty_format_batches(&batches).unwrap().to_string());
    }

    async fn errors(&self, expected: Expect) {
        let records = self
            .engine
            .catalog
            .runs()
            .errors(RunFilter::default())
            .await
            .unwrap();
        let lines: Vec<String> = records
            .iter()
            .map(|record| {
                let message = &record.message;
                format!(
                    "{} {}: {}",
                    message.sqlstate,
                    message.file.as_deref().unwrap_or("-"),
                    message.message
                )
            })
            .collect();
        expected.assert_eq(&lines.join("\n"));
    }

    async fn quarantine(&self, expected: Expect) {
        let rows = quarantined_rows(&self.engine, None).await.unwrap();
        let lines: Vec<String> = rows
            .iter()
            .map(|row| {
                format!(
                    "{}:{} {} {} {}{}",
                    row.file.as_deref().unwrap_or("-"),
                    row.row.unwrap_or_default(),
                    row.sqlstate,
                    row.reason,
                    row.raw,
                    if row.replayed_at.is_some() {
                        " (replayed)"
                    } else {
                        ""
                    }
                )
            })
            .collect();
        expected.assert_eq(&lines.join("\n"));
    }
}

const STOCK: &str = "CREATE PIPELINE stock FROM FILES inbox '*.csv' FORMAT CSV INTO bronze.stock \
    AS SELECT sku, cast(qty AS int) AS qty, _file FROM source WHERE sku IS NOT NULL \
    EXPECT qty_ok CHECK (qty >= 0) ON VIOLATION QUARANTINE";

#[tokio::test]
async fn each_file_is_loaded_once() {
    let fixture = fixture().await;
    fixture.put("a.csv", "sku,qty\nA1,5\nA2,-1\n", 60);
    let stock = fixture.create(STOCK).await;
    fixture
        .run(
            &stock,
            Trigger::Manual,
            expect![
                "succeeded: files 1/1, in 2, out 1, dropped 0, quarantined 1, warned 0, errors 0"
            ],
        )
        .await;
    fixture
        .run(
            &stock,
            Trigger::Manual,
            expect![
                "succeeded: files 0/0, in 0, out 0, dropped 0, quarantined 0, warned 0, errors 0"
            ],
        )
        .await;
    fixture.put("b.csv", "sku,qty\nB1,7\n", 60);
    fixture
        .run(
            &stock,
            Trigger::Manual,
            expect![
                "succeeded: files 1/1, in 1, out 1, dropped 0, quarantined 0, warned 0, errors 0"
            ],
        )
        .await;
    fixture
        .rows(
            "SELECT * FROM stock ORDER BY sku",
            expect![[r#"
        +-----+-----+-------+----------+
        | sku | qty | _file | _rescued |
        +-----+-----+-------+----------+
        | A1  | 5   | a.csv |          |
        | B1  | 7   | b.csv |          |
        +-----+-----+-------+----------+"#]],
        )
        .await;
    fixture
        .quarantine(expect![[
            r#"a.csv:3 23514 row violates expectation "qty_ok" {"sku":"A2","qty":-1}"#
        ]])
        .await;
}

#[tokio::test]
async fn a_table_whose_keys_are_enforced_is_not_loaded_into() {
    let fixture = fixture().await;
    fixture.put("a.csv", "sku,qty\nA1,5\n", 60);
    let stock = fixture.create(STOCK).await;
    run_pipeline(&fixture.engine, &stock, Trigger::Manual)
        .await
        .unwrap();
    let mut transaction = fixture.engine.catalog.begin();
    let table = transaction.snapshot().table("bronze", "stock").unwrap();
    let mut definition = table.as_ref().clone();
    let property = ("enforce_keys".to_owned(), "true".to_owned());
    definition.properties.extend([property]);
    transaction.replace_table(definition).unwrap();
    fixture.engine.catalog.commit(transaction).await.unwrap();
    fixture.put("b.csv", "sku,qty\nB1,7\n", 60);
    let refused = run_pipeline(&fixture.engine, &stock, Trigger::Manual).await;
    let message = refused.map_or_else(|error| error.message, |_| "it was loaded".into());
    assert_eq!(
        message,
        "loading into table \"stock\", whose keys are enforced, is not supported"
    );
}

#[tokio::test]
async fn a_changed_file_replaces_its_own_rows() {
    let fixture = fixture().await;
    fixture.put("a.csv", "sku,qty\nA1,5\n", 60);
    fixture.put("b.csv", "sku,qty\nB1,1\n", 60);
    let stock = fixture.create(STOCK).await;
    fixture
        .run(
            &stock,
            Trigger::Manual,
            expect![
                "succeeded: files 2/2, in 2, out 2, dropped 0, quarantined 0, warned 0, errors 0"
            ],
        )
        .await;
    fixture.put("a.csv", "sku,qty\nA1,6\nA2,2\n", 50);
    fixture
        .run(
            &stock,
            Trigger::Schedule,
            expect![
                "succeeded: files 1/1, in 2, out 2, dropped 0, quarantined 0, warned 0, errors 0"
            ],
        )
        .await;
    fixture
        .rows(
            "SELECT sku, qty FROM stock ORDER BY sku",
            expect![[r#"
        +-----+-----+
        | sku | qty |
        +-----+-----+
        | A1  | 6   |
        | A2  | 2   |
        | B1  | 1   |
        +-----+-----+"#]],
        )
        .await;
}

#[tokio::test]
async fn a_bad_file_fails_alone_and_is_tried_again_when_it_changes() {
    let fixture = fixture().await;
    fixture.put("a.ndjson", "{\"sku\": \"A1\", \"qty\": 5}\n", 60);
    fixture.put("b.ndjson", "{\"sku\": \"B1\", \"qty\": 1}\n", 60);
    let stock = fixture
        .create(
            "CREATE PIPELINE stock FROM FILES inbox '*.ndjson' FORMAT NDJSON \
            COLUMNS (sku text, qty int) INTO bronze.stock \
            AS SELECT sku, qty FROM source EXPECT few CHECK (qty < 100) ON VIOLATION FAIL",
        )
        .await;
    fixture.put(
        "bad.ndjson",
        "{\"sku\": \"C1\", \"qty\": 2}\n{\"sku\": \"C2\", \"qty\": 500}\n",
        60,
    );
    fixture
        .run(
            &stock,
            Trigger::Schedule,
            expect![
                "succeeded: files 2/3, in 2, out 2, dropped 0, quarantined 0, warned 0, errors 1"
            ],
        )
        .await;
    fixture
        .run(
            &stock,
            Trigger::Schedule,
            expect![
                "succeeded: files 0/0, in 0, out 0, dropped 0, quarantined 0, warned 0, errors 0"
            ],
        )
        .await;
    fixture
        .errors(expect![[
            r#"23514 bad.ndjson: row violates expectation "few""#
        ]])
        .await;
    fixture.put("bad.ndjson", "{\"sku\": \"C2\", \"qty\": 50}\n", 50);
    fixture
        .run(
            &stock,
            Trigger::Schedule,
            expect![
                "succeeded: files 1/1, in 1, out 1, dropped 0, quarantined 0, warned 0, errors 0"
            ],
        )
        .await;
    fixture
        .rows(
            "SELECT sku, qty FROM stock ORDER BY sku",
            expect![[r#"
        +-----+-----+
        | sku | qty |
        +-----+-----+
        | A1  | 5   |
        | B1  | 1   |
        | C2  | 50  |
        +-----+-----+"#]],
        )
        .await;
    let ledger = fixture
        .engine
        .catalog
        .files()
        .list(FileFilter::default())
        .await
        .unwrap();
    assert_eq!(
        ledger
            .iter()
            .filter(|record| record.file.path == "bad.ndjson")
            .count(),
        2
    );
}

#[tokio::test]
async fn new_columns_and_misfits_are_kept() {
    let fixture = fixture().await;
    fixture.put("a.csv", "sku,qty\nA1,5\nA2,7\n", 60);
    let stock = fixture
        .create("CREATE PIPELINE stock FROM FILES inbox '*.csv' FORMAT CSV INTO bronze.stock")
        .await;
    fixture
        .run(
            &stock,
            Trigger::Manual,
            expect![
                "succeeded: files 1/1, in 2, out 2, dropped 0, quarantined 0, warned 0, errors 0"
            ],
        )
        .await;
    fixture.put("b.csv", "sku,qty,color\nB1,many,red\n", 60);
    fixture
        .run(
            &stock,
            Trigger::Manual,
            expect![
                "succeeded: files 1/1, in 1, out 1, dropped 0, quarantined 0, warned 0, errors 0"
            ],
        )
        .await;
    fixture
        .rows(
            "SELECT * FROM stock ORDER BY sku",
            expect![[r#"
        +-----+-----+----------------+-------+------+-------+
        | sku | qty | _rescued       | _file | _row | color |
        +-----+-----+----------------+-------+------+-------+
        | A1  | 5   |                | a.csv | 2    |       |
        | A2  | 7   |                | a.csv | 3    |       |
        | B1  |     | {"qty":"many"} | b.csv | 2    | red   |
        +-----+-----+----------------+-------+------+-------+"#]],
        )
        .await;
}

#[tokio::test]
async fn a_query_that_aggregates_sees_all_files_of_a_run() {
    let fixture = fixture().await;
    fixture.put("a.csv", "sku,qty\nA,5\nB,1\n", 60);
    fixture.put("b.csv", "sku,qty\nA,7\n", 60);
    let stock = fixture
        .create(
            "CREATE PIPELINE stock FROM FILES inbox '*.csv' FORMAT CSV INTO bronze.stock \
            AS SELECT sku, sum(qty) AS total FROM source GROUP BY sku",
        )
        .await;
    fixture
        .run(
            &stock,
            Trigger::Manual,
            expect![
                "succeeded: files 2/2, in 3, out 2, dropped 0, quarantined 0, warned 0, errors 0"
            ],
        )
        .await;
    fixture
        .rows(
            "SELECT * FROM stock ORDER BY sku",
            expect![[r#"
        +-----+-------+
        | sku | total |
        +-----+-------+
        | A   | 12    |
        | B   | 1     |
        +-----+-------+"#]],
        )
        .await;
}

#[tokio::test]
async fn full_refresh_replaces_everything_the_pipeline_loaded() {
    let fixture = fixture().await;
    fixture.put("a.csv", "sku,qty\nA1,5\n", 60);
    let stock = fixture.create(STOCK).await;
    fixture
        .run(
            &stock,
            Trigger::Manual,
            expect![
                "succeeded: files 1/1, in 1, out 1, dropped 0, quarantined 0, warned 0, errors 0"
            ],
        )
        .await;
    fixture
        .run(
            &stock,
            Trigger::FullRefresh,
            expect![
                "succeeded: files 1/1, in 1, out 1, dropped 0, quarantined 0, warned 0, errors 0"
            ],
        )
        .await;
    fixture
        .rows(
            "SELECT sku, qty FROM stock",
            expect![[r#"
        +-----+-----+
        | sku | qty |
        +-----+-----+
        | A1  | 5   |
        +-----+-----+"#]],
        )
        .await;
}

#[tokio::test]
async fn quarantined_rows_are_corrected_and_replayed_once() {
    let fixture = fixture().await;
    fixture.put("a.csv", "sku,qty\nA1,5\nA2,-1\nA3,-2\n", 60);
    let stock = fixture.create(STOCK).await;
    fixture
        .run(
            &stock,
            Trigger::Manual,
            expect![
                "succeeded: files 1/1, in 3, out 1, dropped 0, quarantined 2, warned 0, errors 0"
            ],
        )
        .await;
    let statement = "REPLAY QUARANTINE stock SET qty = 9 WHERE sku = 'A2'";
    let parsed = boathouse_sql::parse(statement).unwrap().remove(0).statement;
    let Statement::ReplayQuarantine(replay) = parsed else {
        panic!("not a replay")
    };
    for expected in [1, 0] {
        let summary = replay_quarantine(&fixture.engine, &stock, &replay)
            .await
            .unwrap();
        assert_eq!(summary.counters.rows_out, expected);
    }
    fixture
        .rows(
            "SELECT sku, qty, _file FROM stock ORDER BY sku",
            expect![[r#"
        +-----+-----+-------+
        | sku | qty | _file |
        +-----+-----+-------+
        | A1  | 5   | a.csv |
        | A2  | 9   | a.csv |
        +-----+-----+-------+"#]],
        )
        .await;
    fixture
        .quarantine(expect![[r#"
        a.csv:3 23514 row violates expectation "qty_ok" {"sku":"A2","qty":-1} (replayed)
        a.csv:4 23514 row violates expectation "qty_ok" {"sku":"A3","qty":-2}"#]])
        .await;
}

#[tokio::test]
async fn testing_a_pipeline_writes_nothing() {
    let fixture = fixture().await;
    fixture.put("a.csv", "sku,qty\nA1,5\nA2,-1\nA3,4\n", 60);
    let stock = fixture.create(STOCK).await;
    let (_, rows) = test_pipeline(&fixture.engine, &stock, 10).await.unwrap();
    expect![[r#"
        +-----+-----+-------+----------+
        | sku | qty | _file | _rescued |
        +-----+-----+-------+----------+
        | A1  | 5   | a.csv |          |
        | A3  | 4   | a.csv |          |
        +-----+-----+-------+----------+"#]]
    .assert_eq(&pretty_format_batches(&rows).unwrap().to_string());
    assert!(
        fixture
            .engine
            .catalog
            .snapshot()
            .table("bronze", "stock")
            .is_none()
    );
}

#[tokio::test]
async fn two_servers_do_not_run_a_pipeline_at_once() {
    let fixture = fixture().await;
    for number in 0..20 {
        fixture.put(
            &format!("{number}.csv"),
            &format!("sku,qty\nS{number},1\n"),
            60,
        );
    }
    let stock = fixture.create(STOCK).await;
    let second = open(
        fixture.folder.path(),
        fixture.engine.config.master_key.clone(),
        "two",
    )
    .await;
    let (one, two) = tokio::join!(
        run_pipeline(&fixture.engine, &stock, Trigger::Manual),
        run_pipeline(&second, &stock, Trigger::Manual)
    );
    assert!(one.is_ok() || two.is_ok());
    fixture
        .run(
            &stock,
            Trigger::Manual,
            expect![
                "succeeded: files 0/0, in 0, out 0, dropped 0, quarantined 0, warned 0, errors 0"
            ],
        )
        .await;
    fixture
        .rows(
            "SELECT count(*), count(DISTINCT sku) FROM stock",
            expect![[r#"
        +----------+---------------------------+
        | count(*) | count(DISTINCT stock.sku) |
        +----------+---------------------------+
        | 20       | 20                        |
        +----------+---------------------------+"#]],
        )
        .await;
}

#[tokio::test]
async fn a_killed_server_does_not_stand_before_its_own_lease() {
    let fixture = fixture().await;
    fixture.put("a.csv", "sku,qty\nA1,5\n", 60);
    let stock = fixture.create(STOCK).await;
    let leases = fixture.engine.catalog.leases();
    let name = format!("pipeline:{}", stock.id);
    // No process has an id above the kernel's largest.
    let dead = format!("{}/{}/x", super::lease::machine(), u32::MAX);
    leases
        .acquire(&name, &dead, Duration::from_secs(60))
        .await
        .unwrap()
        .unwrap();
    fixture
        .run(
            &stock,
            Trigger::Schedule,
            expect![
                "succeeded: files 1/1, in 1, out 1, dropped 0, quarantined 0, warned 0, errors 0"
            ],
        )
        .await;
    let other = format!("elsewhere/{}/x", u32::MAX);
    leases
        .acquire(&name, &other, Duration::from_secs(60))
        .await
        .unwrap()
        .unwrap();
    let refused = run_pipeline(&fixture.engine, &stock, Trigger::Manual)
        .await
        .unwrap_err();
    assert_eq!(refused.to_string(), "pipeline \"stock\" is running already");
}

/// How long ago it was asked to end says nothing of whether it has.
#[tokio::test]
async fn who_waits_for_a_run_to_give_way_sees_it_end() {
    let fixture = fixture().await;
    let stock = fixture.create(STOCK).await;
    let board = &fixture.engine.captures;
    let leases = fixture.engine.catalog.leases();
    let name = format!("pipeline:{}", stock.id);
    let lease = leases
        .acquire(&name, "elsewhere/1/x", Duration::from_secs(60))
        .await
        .unwrap()
        .unwrap();
    let running = board.run(&stock);
    let gives_way = async {
        while !running.is_to_stop() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        // Longer than is waited for one that nobody sees.
        tokio::time::sleep(Duration::from_secs(4)).await;
        drop(running);
        tokio::time::sleep(Duration::from_millis(300)).await;
        leases.release(&lease).await.unwrap();
    };
    let begun = super::capture::begin_run(&fixture.engine, &stock, Trigger::Manual);
    let (begun, ()) = tokio::join!(begun, gives_way);
    begun.unwrap().0.succeed().await.unwrap();
}
