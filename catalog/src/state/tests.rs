//! The records of pipelines, on both databases.

use std::time::Duration;

use chrono::DateTime;
use expect_test::{Expect, expect};
use uuid::Uuid;

use super::*;
use crate::catalog::Catalog;
use crate::definitions::ObjectId;
use crate::error::CatalogError;
use crate::testing::{TestDatabase, on_both, with_pipeline};

fn file(path: &str, rows: i64) -> LedgerFile {
    LedgerFile {
        path: path.to_owned(),
        etag: Some(format!("etag of {path}")),
        modified: DateTime::from_timestamp_micros(1_750_000_000_000_001),
        size: rows * 10,
        sheet_count: None,
        rows,
        rows_quarantined: 1,
        run: Some(RunId(7)),
        state: FileState::Loaded,
        error: None,
    }
}

fn position(pipeline: ObjectId, committed_sequence: i64) -> NewPosition<'static> {
    NewPosition {
        pipeline,
        attempt: Uuid::nil(),
        position: serde_json::json!({ "after": committed_sequence }),
        committed_sequence,
        files: &[],
        quarantine: &[],
        replays: &[],
        lease: None,
    }
}

/// What counts as true of a pipeline right now.
async fn check(catalog: &Catalog, pipeline: ObjectId, expected: Expect) {
    let last = catalog.positions().last_committed(pipeline).await.unwrap();
    let mut lines = vec![match last {
        None => "nothing committed".to_owned(),
        Some(last) => format!("committed {}: {}", last.sequence, last.position),
    }];
    let mut files: Vec<_> = catalog
        .files()
        .committed(pipeline)
        .await
        .unwrap()
        .into_values()
        .collect();
    files.sort_by(|left, right| left.path.cmp(&right.path));
    lines.extend(files.iter().map(|one| {
        format!(
            "{} {} rows={} {}",
            one.path,
            one.state.name(),
            one.rows,
            one.error.as_deref().unwrap_or("")
        )
    }));
    lines.extend(
        catalog
            .quarantine()
            .files(Some(pipeline))
            .await
            .unwrap()
            .iter()
            .map(|one| {
                format!(
                    "quarantine of {}: {} rows={}",
                    one.sequence, one.file.path, one.file.rows
                )
            }),
    );
    lines.extend(
        catalog
            .quarantine()
            .replays(Some(pipeline))
            .await
            .unwrap()
            .iter()
            .map(|one| format!("replayed row {} of {}", one.mark.row_id, one.mark.sequence)),
    );
    let text: String = lines
        .iter()
        .map(|line| format!("{}\n", line.trim_end()))
        .collect();
    expected.assert_eq(&text);
}

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
        let second = NewPosition {
            files: &changed,
            replays: &replays,
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
fn a_lease_has_one_holder_and_each_a_larger_token() {
    on_both(async |database: TestDatabase| {
        let (one, pipeline) = with_pipeline(&database).await;
        let two = database.open().await;
        let (long, ended) = (Duration::from_secs(600), Duration::ZERO);
        let first = one
            .leases()
            .acquire("stock", "one", long)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(
            two.leases().acquire("stock", "two", long).await.unwrap(),
            None
        );
        assert!(
            two.leases()
                .acquire("other", "two", long)
                .await
                .unwrap()
                .is_some()
        );
        // Its time is over, but nobody has taken it: it is still held.
        assert!(one.leases().renew(&first, ended).await.unwrap());
        let held = NewPosition {
            lease: Some(&first),
            ..position(pipeline, 0)
        };
        one.positions().prepare(held.clone()).await.unwrap();

        let second = two
            .leases()
            .acquire("stock", "two", long)
            .await
            .unwrap()
            .unwrap();
        assert!(second.fencing > first.fencing);
        assert!(!one.leases().renew(&first, long).await.unwrap());
        let error = one.positions().prepare(held).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "lease \"stock\" was taken over by another server"
        );
        assert!(matches!(error, CatalogError::LeaseLost(_)));
        one.leases().release(&first).await.unwrap();
        assert!(
            two.leases().renew(&second, long).await.unwrap(),
            "only its holder gives it back"
        );
        two.leases().release(&second).await.unwrap();
        assert!(!two.leases().renew(&second, long).await.unwrap());
        let third = one
            .leases()
            .acquire("stock", "one", long)
            .await
            .unwrap()
            .unwrap();
        assert!(third.fencing > second.fencing);
    });
}

#[test]
fn of_many_who_want_a_lease_one_gets_it() {
    on_both(async |database: TestDatabase| {
        let catalogs = [database.open().await, database.open().await];
        let wanting: Vec<_> = (0..20)
            .map(|number| {
                let leases = catalogs[number % 2].leases();
                tokio::spawn(async move {
                    let owner = format!("server {number}");
                    leases
                        .acquire("stock", &owner, Duration::from_secs(600))
                        .await
                        .unwrap()
                })
            })
            .collect();
        let mut holders = 0;
        for one in wanting {
            holders += u32::from(one.await.unwrap().is_some());
        }
        assert_eq!(holders, 1);
    });
}

fn new_run(pipeline: ObjectId) -> NewRun {
    NewRun {
        pipeline,
        name: "stock".to_owned(),
        trigger: "manual".to_owned(),
        server: "here".to_owned(),
    }
}

fn message(text: &str) -> RunMessage {
    RunMessage {
        severity: Severity::Error,
        sqlstate: "22P02".to_owned(),
        message: text.to_owned(),
        file: Some("a.csv".to_owned()),
        sheet: None,
        row: Some(12),
        column: Some("price".to_owned()),
        hint: None,
    }
}

#[test]
fn a_run_is_recorded_from_start_to_end() {
    on_both(async |database: TestDatabase| {
        let (catalog, pipeline) = with_pipeline(&database).await;
        let runs = catalog.runs();
        let run = runs.start(new_run(pipeline)).await.unwrap();
        let counters = RunCounters {
            files_total: 2,
            rows_in: 10,
            ..RunCounters::default()
        };
        runs.progress(run, counters).await.unwrap();
        let record = runs.get(run).await.unwrap().unwrap();
        assert_eq!(
            (record.state, record.counters),
            (RunState::Running, counters)
        );
        assert_eq!(record.finished_at, None);
        let counters = RunCounters {
            files_total: 1,
            files_done: 2,
            rows_in: 3,
            rows_out: 4,
            rows_dropped: 5,
            rows_quarantined: 6,
            rows_warned: 7,
            bytes_in: i64::MAX,
        };
        let error = RunError {
            sqlstate: "58030".to_owned(),
            message: "could not read \"a.csv\"".to_owned(),
            detail: Some("the file was cut".to_owned()),
            hint: None,
        };
        runs.finish(run, RunState::Failed, counters, Some(error.clone()))
            .await
            .unwrap();
        runs.finish(run, RunState::Succeeded, RunCounters::default(), None)
            .await
            .unwrap();
        let record = runs.get(run).await.unwrap().unwrap();
        assert_eq!(
            (record.state, record.counters),
            (RunState::Failed, counters)
        );
        assert_eq!(record.error, Some(error));
        assert!(record.finished_at.unwrap() >= record.started_at);
        assert_eq!(runs.get(RunId(999)).await.unwrap(), None);
    });
}

#[test]
fn runs_are_listed_newest_first_and_filtered() {
    on_both(async |database: TestDatabase| {
        let (catalog, pipeline) = with_pipeline(&database).await;
        let runs = catalog.runs();
        let first = runs.start(new_run(pipeline)).await.unwrap();
        let second = runs.start(new_run(ObjectId(99))).await.unwrap();
        runs.finish(first, RunState::Succeeded, RunCounters::default(), None)
            .await
            .unwrap();
        let list = async |filter: RunFilter| {
            let found = runs.list(filter).await.unwrap();
            found.iter().map(|run| run.id).collect::<Vec<_>>()
        };
        assert_eq!(list(RunFilter::default()).await, [second, first]);
        let of_pipeline = RunFilter {
            pipeline: Some(pipeline),
            ..RunFilter::default()
        };
        assert_eq!(list(of_pipeline).await, [first]);
        let running = RunFilter {
            state: Some(RunState::Running),
            ..RunFilter::default()
        };
        assert_eq!(list(running).await, [second]);
        assert_eq!(
            list(RunFilter {
                limit: Some(1),
                ..RunFilter::default()
            })
            .await,
            [second]
        );
    });
}

#[test]
fn what_went_wrong_is_kept_up_to_a_limit() {
    on_both(async |database: TestDatabase| {
        let (catalog, pipeline) = with_pipeline(&database).await;
        let runs = catalog.runs();
        let run = runs.start(new_run(pipeline)).await.unwrap();
        runs.add_error(run, message("invalid price \"1\0\""))
            .await
            .unwrap();
        let adding: Vec<_> = (0..3)
            .map(|_| {
                let runs = catalog.runs();
                let many: Vec<_> = (0..450).map(|row| message(&format!("row {row}"))).collect();
                tokio::spawn(async move { runs.add_errors(run, &many).await.unwrap() })
            })
            .collect();
        for one in adding {
            one.await.unwrap();
        }
        let errors = runs.errors(RunFilter::default()).await.unwrap();
        assert_eq!(errors.len(), 1000);
        assert_eq!(errors[0].message, message("invalid price \"1\u{fffd}\""));
        assert_eq!((errors[0].run, errors[0].pipeline), (run, pipeline));
        assert_eq!(runs.get(run).await.unwrap().unwrap().error_count, 1351);
        let other = RunFilter {
            pipeline: Some(ObjectId(99)),
            ..RunFilter::default()
        };
        assert_eq!(runs.errors(other).await.unwrap(), []);
    });
}

#[test]
fn runs_a_dead_server_left_are_failed_when_it_returns() {
    on_both(async |database: TestDatabase| {
        let (catalog, pipeline) = with_pipeline(&database).await;
        let runs = catalog.runs();
        let here = runs.start(new_run(pipeline)).await.unwrap();
        let there = NewRun {
            server: "there".to_owned(),
            ..new_run(pipeline)
        };
        let there = runs.start(there).await.unwrap();
        assert_eq!(runs.abandon_stale("here").await.unwrap(), 1);
        assert_eq!(runs.abandon_stale("here").await.unwrap(), 0);
        let record = runs.get(here).await.unwrap().unwrap();
        let error = record.error.unwrap();
        assert_eq!(record.state, RunState::Failed);
        assert_eq!(
            format!(
                "{}: {} ({})",
                error.sqlstate,
                error.message,
                error.hint.unwrap()
            ),
            "57P01: the server stopped before the run ended \
             (nothing is lost: the next run goes on where the last commit ended)"
        );
        assert_eq!(
            runs.get(there).await.unwrap().unwrap().state,
            RunState::Running
        );
    });
}

#[test]
fn the_audit_log_tells_what_was_done_in_order() {
    on_both(async |database: TestDatabase| {
        let catalog = database.open().await;
        let entry = |statement: &str| AuditEntry {
            at: DateTime::from_timestamp_micros(1_750_000_000_000_001).unwrap(),
            role: "ada".to_owned(),
            statement_kind: "CREATE TABLE".to_owned(),
            statement: statement.to_owned(),
            outcome: "00000".to_owned(),
        };
        for number in 0..20 {
            catalog
                .audit_log()
                .append(entry(&format!("CREATE TABLE t{number} ()")))
                .await
                .unwrap();
        }
        let entries = catalog.audit_log().list(Some(2)).await.unwrap();
        assert_eq!(
            entries,
            [entry("CREATE TABLE t19 ()"), entry("CREATE TABLE t18 ()")]
        );
        assert_eq!(catalog.audit_log().list(None).await.unwrap().len(), 20);
    });
}
