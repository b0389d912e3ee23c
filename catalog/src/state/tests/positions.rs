//! What counts after which crash.

use expect_test::expect;

use super::*;

#[test]
fn files_and_quarantine_become_true_with_their_sequence() {
    on_both(async |database: TestDatabase| {
        let (catalog, pipeline) = with_pipeline(&database).await;
        let positions = catalog.positions();
        let files = [file("a.csv", 3), file("b.csv", 4)];
        let quarantine = [QuarantineFile {
            path: "q/1.parquet".to_owned(),
            rows: 2,
        }];
        let first = NewPosition {
            files: &files,
            quarantine: &quarantine,
            ..position(pipeline, 0)
        };
        let first = positions.prepare(first).await.unwrap();
        check(
            &catalog,
            pipeline,
            expect![[r#"
            nothing committed
        "#]],
        )
        .await;
        let resolved = positions.resolve(pipeline, first).await.unwrap();
        assert_eq!(
            resolved,
            Resolved {
                known: true,
                abandoned: vec![]
            }
        );
        check(
            &catalog,
            pipeline,
            expect![[r#"
            committed 1: {"after":0}
            a.csv loaded rows=3
            b.csv loaded rows=4
            quarantine of 1: q/1.parquet rows=2
        "#]],
        )
        .await;
        let found = catalog.files().committed(pipeline).await.unwrap();
        assert_eq!(found["a.csv"], files[0]);

        // A changed file, and a row of the quarantine loaded after all.
        let changed = [file("a.csv", 5)];
        let replays = [ReplayMark {
            sequence: first,
            row_id: 1,
        }];
        let superseded = [ReplayMark {
            sequence: first,
            row_id: 0,
        }];
        let second = NewPosition {
            files: &changed,
            replays: &replays,
            superseded: &superseded,
            captures: &[],
            ..position(pipeline, first)
        };
        let second = positions.prepare(second).await.unwrap();
        positions.resolve(pipeline, second).await.unwrap();
        check(
            &catalog,
            pipeline,
            expect![[r#"
            committed 2: {"after":1}
            a.csv loaded rows=5
            b.csv loaded rows=4
            quarantine of 1: q/1.parquet rows=2
            superseded row 0 of 1
            replayed row 1 of 1
        "#]],
        )
        .await;
        let listed = catalog.files().list(FileFilter::default()).await.unwrap();
        let listed: Vec<_> = listed
            .iter()
            .map(|one| format!("{} {}", one.sequence, one.file.path))
            .collect();
        assert_eq!(listed, ["2 a.csv", "1 a.csv", "1 b.csv"]);
        let limited = FileFilter {
            limit: Some(1),
            pipeline: Some(pipeline),
        };
        assert_eq!(catalog.files().list(limited).await.unwrap().len(), 1);
    });
}

#[test]
fn after_a_crash_between_prepare_and_resolve_the_table_decides() {
    on_both(async |database: TestDatabase| {
        let (catalog, pipeline) = with_pipeline(&database).await;
        let files = [file("a.csv", 3)];
        let prepare = async |catalog: &Catalog, committed: i64| {
            let new = NewPosition {
                files: &files,
                ..position(pipeline, committed)
            };
            catalog.positions().prepare(new).await.unwrap()
        };
        // The process died before the table's commit: the table still has no txn.
        let lost = prepare(&catalog, 0).await;
        drop(catalog);
        let catalog = database.open().await;
        let resolved = catalog.positions().resolve(pipeline, 0).await.unwrap();
        assert_eq!(resolved, Resolved::default());
        check(
            &catalog,
            pipeline,
            expect![[r#"
            nothing committed
        "#]],
        )
        .await;

        // The second attempt reaches the table, but nobody resolves it.
        let kept = prepare(&catalog, 0).await;
        assert!(kept > lost);
        drop(catalog);
        let catalog = database.open().await;
        check(
            &catalog,
            pipeline,
            expect![[r#"
            nothing committed
        "#]],
        )
        .await;
        let resolved = catalog.positions().resolve(pipeline, kept).await.unwrap();
        assert_eq!(
            resolved,
            Resolved {
                known: true,
                abandoned: vec![lost]
            }
        );
        check(
            &catalog,
            pipeline,
            expect![[r#"
            committed 2: {"after":0}
            a.csv loaded rows=3
        "#]],
        )
        .await;
        // Resolving once more changes nothing.
        let again = catalog.positions().resolve(pipeline, kept).await.unwrap();
        assert_eq!(
            again,
            Resolved {
                known: true,
                abandoned: vec![]
            }
        );
    });
}

#[test]
fn preparing_settles_what_the_table_has_committed() {
    on_both(async |database: TestDatabase| {
        let (catalog, pipeline) = with_pipeline(&database).await;
        let positions = catalog.positions();
        let files = [file("a.csv", 3)];
        let first = NewPosition {
            files: &files,
            ..position(pipeline, 0)
        };
        let first = positions.prepare(first).await.unwrap();
        // The reply to resolve(first) was never asked for; the next commit is based on it all the same.
        let second = positions.prepare(position(pipeline, first)).await.unwrap();
        check(
            &catalog,
            pipeline,
            expect![[r#"
            committed 1: {"after":0}
            a.csv loaded rows=3
        "#]],
        )
        .await;
        positions.resolve(pipeline, second).await.unwrap();
        check(
            &catalog,
            pipeline,
            expect![[r#"
            committed 2: {"after":1}
            a.csv loaded rows=3
        "#]],
        )
        .await;
    });
}

#[test]
fn a_rebuilt_catalog_goes_on_above_the_sequence_of_the_table() {
    on_both(async |database: TestDatabase| {
        let (catalog, pipeline) = with_pipeline(&database).await;
        let positions = catalog.positions();
        assert_eq!(
            positions.resolve(pipeline, 57).await.unwrap(),
            Resolved::default()
        );
        assert_eq!(positions.prepare(position(pipeline, 57)).await.unwrap(), 58);
        assert_eq!(positions.prepare(position(pipeline, 57)).await.unwrap(), 59);
    });
}

#[test]
fn sequences_are_given_once_whoever_asks() {
    on_both(async |database: TestDatabase| {
        let (one, pipeline) = with_pipeline(&database).await;
        let two = database.open().await;
        let preparing: Vec<_> = (0..30)
            .map(|number| {
                let catalog = if number % 2 == 0 {
                    one.clone()
                } else {
                    two.clone()
                };
                tokio::spawn(async move {
                    catalog
                        .positions()
                        .prepare(position(pipeline, 0))
                        .await
                        .unwrap()
                })
            })
            .collect();
        let mut sequences = Vec::new();
        for prepared in preparing {
            sequences.push(prepared.await.unwrap());
        }
        sequences.sort_unstable();
        assert_eq!(sequences, (1..=30).collect::<Vec<_>>());
    });
}

#[test]
fn a_file_that_failed_counts_until_it_is_loaded() {
    on_both(async |database: TestDatabase| {
        let (catalog, pipeline) = with_pipeline(&database).await;
        let failed = LedgerFile {
            state: FileState::Failed,
            error: Some("sheet \"A\0\" is encrypted".to_owned()),
            ..file("a.xlsx", 0)
        };
        catalog
            .files()
            .record(pipeline, &[failed, file("b.csv", 1)])
            .await
            .unwrap();
        check(
            &catalog,
            pipeline,
            expect![[r#"
            nothing committed
            a.xlsx failed rows=0 sheet "A�" is encrypted
            b.csv loaded rows=1
        "#]],
        )
        .await;
        let files = [file("a.xlsx", 9)];
        let loaded = NewPosition {
            files: &files,
            ..position(pipeline, 0)
        };
        let sequence = catalog.positions().prepare(loaded).await.unwrap();
        catalog
            .positions()
            .resolve(pipeline, sequence)
            .await
            .unwrap();
        check(
            &catalog,
            pipeline,
            expect![[r#"
            committed 2: {"after":0}
            a.xlsx loaded rows=9
            b.csv loaded rows=1
        "#]],
        )
        .await;
        let gone = ["a.xlsx".to_owned()];
        catalog.files().forget(pipeline, Some(&gone)).await.unwrap();
        check(
            &catalog,
            pipeline,
            expect![[r#"
            committed 2: {"after":0}
            b.csv loaded rows=1
        "#]],
        )
        .await;
        catalog.files().forget(pipeline, None).await.unwrap();
        assert!(
            catalog
                .files()
                .committed(pipeline)
                .await
                .unwrap()
                .is_empty()
        );
    });
}

#[test]
fn a_dropped_pipeline_takes_its_records_along() {
    on_both(async |database: TestDatabase| {
        let (catalog, pipeline) = with_pipeline(&database).await;
        let run = catalog.runs().start(new_run(pipeline)).await.unwrap();
        let files = [file("a.csv", 1)];
        let quarantine = [QuarantineFile {
            path: "q".to_owned(),
            rows: 1,
        }];
        let replays = [ReplayMark {
            sequence: 1,
            row_id: 1,
        }];
        let new = NewPosition {
            files: &files,
            quarantine: &quarantine,
            replays: &replays,
            ..position(pipeline, 0)
        };
        let sequence = catalog.positions().prepare(new).await.unwrap();
        catalog
            .positions()
            .resolve(pipeline, sequence)
            .await
            .unwrap();
        let mut transaction = catalog.begin();
        transaction.drop_pipeline(pipeline).unwrap();
        catalog.commit(transaction).await.unwrap();
        check(
            &catalog,
            pipeline,
            expect![[r#"
            nothing committed
        "#]],
        )
        .await;
        assert!(
            catalog.runs().get(run).await.unwrap().is_some(),
            "its runs stay on record"
        );
        let error = catalog
            .positions()
            .prepare(position(pipeline, 1))
            .await
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("pipeline with OID {pipeline} was dropped")
        );
        assert_eq!(error.sqlstate(), "55000");
    });
}

#[test]
fn notes_stay_beside_what_is_committed() {
    on_both(async |database: TestDatabase| {
        let (catalog, pipeline) = with_pipeline(&database).await;
        let lease = catalog
            .leases()
            .acquire("stock", "one", std::time::Duration::from_secs(600))
            .await
            .unwrap()
            .unwrap();
        let positions = catalog.positions();
        let first = positions.prepare(position(pipeline, 0)).await.unwrap();
        for number in 1..3 {
            let what = serde_json::json!({ "start": number });
            positions.note(pipeline, &what, &lease).await.unwrap();
        }
        // One that was prepared before a note is committed after it.
        positions.resolve(pipeline, first).await.unwrap();
        let last = positions.last_committed(pipeline).await.unwrap().unwrap();
        assert_eq!(last.sequence, first);
        assert_eq!(positions.at(pipeline, first).await.unwrap(), Some(last));
        assert_eq!(positions.at(pipeline, first + 9).await.unwrap(), None);
        positions.forget_below(pipeline, 1000).await.unwrap();
        let notes = positions.notes(pipeline).await.unwrap();
        assert_eq!(
            notes,
            [
                serde_json::json!({ "start": 1 }),
                serde_json::json!({ "start": 2 })
            ]
        );
        catalog.leases().release(&lease).await.unwrap();
        let late = positions.note(pipeline, &notes[0], &lease).await;
        assert!(matches!(late, Err(CatalogError::LeaseLost(_))));
    });
}
