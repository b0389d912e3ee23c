//! Nothing is lost, doubled or silently changed: what is set aside, refreshed, replayed or cast.

use super::*;

impl Fixture {
    async fn replay(&self, pipeline: &PipelineDefinition, statement: &str, expected: Expect) {
        let parsed = boathouse_sql::parse(statement).unwrap().remove(0).statement;
        let Statement::ReplayQuarantine(statement) = parsed else {
            panic!("not a replay")
        };
        let summary = replay_quarantine(&self.engine, pipeline, &statement)
            .await
            .unwrap();
        let counters = summary.counters;
        expected.assert_eq(&format!(
            "in {}, out {}",
            counters.rows_in, counters.rows_out
        ));
    }

    async fn waiting(&self) -> usize {
        let rows = quarantined_rows(&self.engine, None).await.unwrap();
        rows.iter().filter(|row| row.is_waiting()).count()
    }

    fn remove(&self, name: &str) {
        std::fs::remove_file(self.folder.path().join("inbox").join(name)).unwrap();
    }
}

#[tokio::test]
async fn every_row_a_query_over_all_files_gives_up_is_kept() {
    let fixture = fixture().await;
    let rows: String = (0..20_000).map(|row| format!("A{row},-1\n")).collect();
    fixture.put("a.csv", &format!("sku,qty\n{rows}"), 60);
    let stock = fixture
        .create(
            "CREATE PIPELINE stock FROM FILES inbox '*.csv' FORMAT CSV INTO bronze.stock \
             AS SELECT DISTINCT sku, qty FROM source \
             EXPECT positive CHECK (qty > 0) ON VIOLATION QUARANTINE",
        )
        .await;
    fixture
        .run(
            &stock,
            Trigger::Manual,
            expect!["succeeded: files 1/1, in 20000, out 0, dropped 0, quarantined 20000, warned 0, errors 0"],
        )
        .await;
    assert_eq!(fixture.waiting().await, 20_000);
}

#[tokio::test]
async fn a_query_that_does_not_read_its_source_ends() {
    let fixture = fixture().await;
    for file in 0..8 {
        fixture.put(&format!("{file}.csv"), "sku,qty\nA1,5\n", 60);
    }
    let stock = fixture
        .create(
            "CREATE PIPELINE stock FROM FILES inbox '*.csv' FORMAT CSV INTO bronze.stock \
             AS SELECT DISTINCT sku FROM source LIMIT 0",
        )
        .await;
    let run = fixture.run(
        &stock,
        Trigger::Manual,
        expect!["succeeded: files 8/8, in 8, out 0, dropped 0, quarantined 0, warned 0, errors 0"],
    );
    tokio::time::timeout(Duration::from_secs(30), run)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_cell_that_no_column_can_keep_sets_its_row_aside() {
    let fixture = fixture().await;
    fixture.put("a.csv", "region,amount\nwest,5\nwest,many\n,7\n", 60);
    let stock = fixture
        .create(
            "CREATE PIPELINE stock FROM FILES inbox '*.csv' FORMAT CSV \
             COLUMNS (region text NOT NULL, amount int) INTO bronze.stock \
             AS SELECT region, sum(amount) AS amount FROM source GROUP BY region",
        )
        .await;
    fixture
        .run(
            &stock,
            Trigger::Manual,
            expect![
                "succeeded: files 1/1, in 3, out 1, dropped 0, quarantined 2, warned 0, errors 0"
            ],
        )
        .await;
    fixture
        .quarantine(expect![[r#"
            a.csv:3 22P02 "many" is not of the type of column "amount" {"region":"west","amount":"many"}
            a.csv:4 23502 column "region" is declared NOT NULL and has no value {"amount":7}"#]])
        .await;
}

#[tokio::test]
async fn a_rule_that_cannot_be_evaluated_sets_one_row_aside() {
    let fixture = fixture().await;
    fixture.put("a.csv", "sku,qty\nA1,5\nA2,0\nA3,20\n", 60);
    let stock = fixture
        .create(
            "CREATE PIPELINE stock FROM FILES inbox '*.csv' FORMAT CSV INTO bronze.stock \
             AS SELECT sku, qty FROM source EXPECT share CHECK (100 / qty > 1) ON VIOLATION WARN",
        )
        .await;
    fixture
        .run(
            &stock,
            Trigger::Manual,
            expect![
                "succeeded: files 1/1, in 3, out 2, dropped 0, quarantined 1, warned 0, errors 0"
            ],
        )
        .await;
    fixture
        .quarantine(expect![[
            r#"a.csv:3 22012 "share" cannot be evaluated: division by zero {"sku":"A2","qty":0}"#
        ]])
        .await;
}

#[tokio::test]
async fn a_full_refresh_that_would_lose_rows_leaves_the_table() {
    let fixture = fixture().await;
    let good = |sku: &str| format!("{{\"sku\": \"{sku}\", \"qty\": 1}}\n");
    fixture.put("a.ndjson", &good("A1"), 60);
    fixture.put("b.ndjson", &good("B1"), 60);
    let stock = fixture
        .create(
            "CREATE PIPELINE stock FROM FILES inbox '*.ndjson' FORMAT NDJSON INTO bronze.stock \
             AS SELECT sku, qty FROM source EXPECT few CHECK (qty < 100) ON VIOLATION FAIL",
        )
        .await;
    fixture
        .run(
            &stock,
            Trigger::Manual,
            expect![
                "succeeded: files 2/2, in 2, out 2, dropped 0, quarantined 0, warned 0, errors 0"
            ],
        )
        .await;
    fixture.put("b.ndjson", "{\"sku\": \"B1\", \"qty\": 500}\n", 50);
    // However often it is tried.
    for _ in 0..2 {
        let error = run_pipeline(&fixture.engine, &stock, Trigger::FullRefresh)
            .await
            .unwrap_err();
        expect![[r#"the table was left as it is: "b.ndjson" could not be loaded"#]]
            .assert_eq(&error.to_string());
    }
    let both = expect![[r#"
        +-----+
        | sku |
        +-----+
        | A1  |
        | B1  |
        +-----+"#]];
    fixture
        .rows("SELECT sku FROM stock ORDER BY sku", both)
        .await;

    // A file that is gone takes its rows along, and is new when it returns.
    fixture.put("b.ndjson", &good("B2"), 40);
    fixture.remove("a.ndjson");
    fixture
        .run(
            &stock,
            Trigger::FullRefresh,
            expect![
                "succeeded: files 1/1, in 1, out 1, dropped 0, quarantined 0, warned 0, errors 0"
            ],
        )
        .await;
    fixture.put("a.ndjson", &good("A1"), 60);
    fixture
        .run(
            &stock,
            Trigger::Schedule,
            expect![
                "succeeded: files 1/1, in 1, out 1, dropped 0, quarantined 0, warned 0, errors 0"
            ],
        )
        .await;
    let both = expect![[r#"
        +-----+
        | sku |
        +-----+
        | A1  |
        | B2  |
        +-----+"#]];
    fixture
        .rows("SELECT sku FROM stock ORDER BY sku", both)
        .await;

    fixture.remove("a.ndjson");
    fixture.remove("b.ndjson");
    let error = run_pipeline(&fixture.engine, &stock, Trigger::FullRefresh)
        .await
        .unwrap_err();
    expect!["the table was left as it is: no file matches the patterns"]
        .assert_eq(&error.to_string());
}

#[tokio::test]
async fn rows_of_a_file_that_is_loaded_anew_are_neither_replayed_nor_doubled() {
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
    fixture
        .replay(
            &stock,
            "REPLAY QUARANTINE stock SET qty = 7 WHERE sku = 'A2'",
            expect!["in 1, out 1"],
        )
        .await;
    assert_eq!(fixture.waiting().await, 1);

    // The sender has mended the file.
    fixture.put("a.csv", "sku,qty\nA1,5\nA2,1\nA3,2\n", 50);
    fixture
        .run(
            &stock,
            Trigger::Manual,
            expect![
                "succeeded: files 1/1, in 3, out 3, dropped 0, quarantined 0, warned 0, errors 0"
            ],
        )
        .await;
    assert_eq!(fixture.waiting().await, 0);
    fixture
        .replay(
            &stock,
            "REPLAY QUARANTINE stock SET qty = 7",
            expect!["in 0, out 0"],
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
        | A2  | 1   |
        | A3  | 2   |
        +-----+-----+"#]],
        )
        .await;
}

#[tokio::test]
async fn a_record_without_cells_is_not_replayed_as_a_row_of_nulls() {
    let fixture = fixture().await;
    fixture.put("a.csv", "sku,qty\nA1,5\nbroken\nA2,-1\n", 60);
    let stock = fixture
        .create(
            "CREATE PIPELINE stock FROM FILES inbox '*.csv' FORMAT CSV (header = true, ragged = 'reject') \
             INTO bronze.stock AS SELECT sku, qty FROM source \
             EXPECT qty_ok CHECK (qty >= 0) ON VIOLATION QUARANTINE",
        )
        .await;
    fixture
        .run(
            &stock,
            Trigger::Manual,
            expect![
                "succeeded: files 1/1, in 3, out 1, dropped 0, quarantined 2, warned 0, errors 0"
            ],
        )
        .await;
    fixture
        .replay(
            &stock,
            "REPLAY QUARANTINE stock SET qty = 1",
            expect!["in 1, out 1"],
        )
        .await;
    assert_eq!(fixture.waiting().await, 1);
    fixture
        .replay(
            &stock,
            "REPLAY QUARANTINE stock SET sku = 'A9', qty = 9",
            expect!["in 1, out 1"],
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
        | A2  | 1   |
        | A9  | 9   |
        +-----+-----+"#]],
        )
        .await;
}

#[tokio::test]
async fn a_fraction_is_not_cut_to_fit_a_whole_column() {
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
    fixture.put("b.psv", "sku|qty\nB1|2.7\nB2|3.0\n", 60);
    let other = fixture
        .create(
            "CREATE PIPELINE other FROM FILES inbox '*.psv' FORMAT CSV INTO bronze.stock \
             AS SELECT sku, qty FROM source",
        )
        .await;
    fixture
        .run(
            &other,
            Trigger::Manual,
            expect![
                "succeeded: files 1/1, in 2, out 1, dropped 0, quarantined 1, warned 0, errors 0"
            ],
        )
        .await;
    fixture
        .quarantine(expect![[
            r#"b.psv:2 22P02 2.7 is not a whole number {"sku":"B1","qty":2.7}"#
        ]])
        .await;
}

#[tokio::test]
async fn a_moved_file_is_not_found_again() {
    let fixture = fixture().await;
    fixture.put("a.csv", "sku,qty\nA1,5\n", 60);
    let stock = fixture
        .create(
            "CREATE PIPELINE stock FROM FILES inbox '**/*.csv' FORMAT CSV INTO bronze.stock \
             AS SELECT sku, qty FROM source WITH (move_to = 'done')",
        )
        .await;
    for expected in [
        expect!["succeeded: files 1/1, in 1, out 1, dropped 0, quarantined 0, warned 0, errors 0"],
        expect!["succeeded: files 0/0, in 0, out 0, dropped 0, quarantined 0, warned 0, errors 0"],
    ] {
        fixture.run(&stock, Trigger::Manual, expected).await;
    }
    let error = run_pipeline(&fixture.engine, &stock, Trigger::FullRefresh)
        .await
        .unwrap_err();
    expect!["the table was left as it is: files that were loaded have been moved away and would be missing"]
        .assert_eq(&error.to_string());
}

#[tokio::test]
async fn a_query_over_all_files_can_be_tested() {
    let fixture = fixture().await;
    fixture.put("a.csv", "region,amount\nwest,5\neast,1\n", 60);
    fixture.put("b.csv", "region,amount\nwest,7\nwest,x\n", 60);
    let stock = fixture
        .create(
            "CREATE PIPELINE stock FROM FILES inbox '*.csv' FORMAT CSV \
             COLUMNS (region text, amount int) INTO bronze.stock \
             AS SELECT region, sum(amount) AS amount FROM source GROUP BY region ORDER BY region",
        )
        .await;
    let (_, rows) = test_pipeline(&fixture.engine, &stock, 10).await.unwrap();
    expect![[r#"
        +--------+--------+
        | region | amount |
        +--------+--------+
        | east   | 1      |
        | west   | 12     |
        +--------+--------+"#]]
    .assert_eq(&pretty_format_batches(&rows).unwrap().to_string());
    let (_, rows) = test_pipeline(&fixture.engine, &stock, 1).await.unwrap();
    assert_eq!(rows.iter().map(|rows| rows.num_rows()).sum::<usize>(), 1);
}

#[tokio::test]
async fn a_file_that_failed_in_between_still_replaces_its_rows() {
    let fixture = fixture().await;
    fixture.put(
        "a.ndjson",
        "{\"sku\": \"A1\", \"qty\": 1}\n{\"sku\": \"A2\", \"qty\": -1}\n",
        60,
    );
    let stock = fixture
        .create(
            "CREATE PIPELINE stock FROM FILES inbox '*.ndjson' FORMAT NDJSON INTO bronze.stock \
             AS SELECT sku, qty FROM source EXPECT few CHECK (qty < 100) ON VIOLATION FAIL \
             EXPECT qty_ok CHECK (qty >= 0) ON VIOLATION QUARANTINE",
        )
        .await;
    fixture
        .run(
            &stock,
            Trigger::Manual,
            expect![
                "succeeded: files 1/1, in 2, out 1, dropped 0, quarantined 1, warned 0, errors 0"
            ],
        )
        .await;
    fixture.put("a.ndjson", "{\"sku\": \"A1\", \"qty\": 500}\n", 50);
    fixture
        .run(
            &stock,
            Trigger::Schedule,
            expect!["failed: files 0/1, in 0, out 0, dropped 0, quarantined 0, warned 0, errors 1"],
        )
        .await;
    assert_eq!(fixture.waiting().await, 1);
    fixture.put(
        "a.ndjson",
        "{\"sku\": \"A1\", \"qty\": 1}\n{\"sku\": \"A2\", \"qty\": 2}\n",
        40,
    );
    fixture
        .run(
            &stock,
            Trigger::Schedule,
            expect![
                "succeeded: files 1/1, in 2, out 2, dropped 0, quarantined 0, warned 0, errors 0"
            ],
        )
        .await;
    assert_eq!(fixture.waiting().await, 0);
    fixture
        .rows(
            "SELECT sku, qty FROM stock ORDER BY sku",
            expect![[r#"
        +-----+-----+
        | sku | qty |
        +-----+-----+
        | A1  | 1   |
        | A2  | 2   |
        +-----+-----+"#]],
        )
        .await;
}

#[tokio::test]
async fn a_misfit_is_found_under_whatever_name_the_file_gives_its_column() {
    let fixture = fixture().await;
    fixture.put(
        "a.ndjson",
        "{\"Qty\": 1}\n{\"Qty\": 12345678901234567890123}\n",
        60,
    );
    let stock = fixture
        .create(
            "CREATE PIPELINE stock FROM FILES inbox '*.ndjson' FORMAT NDJSON COLUMNS (qty bigint) \
             INTO bronze.stock AS SELECT sum(qty) AS qty FROM source",
        )
        .await;
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
        .quarantine(expect![[r#"
            a.ndjson:2 22P02 12345678901234567890123 is not of the type of column "qty" {"qty":12345678901234567890123}"#]])
        .await;
}
