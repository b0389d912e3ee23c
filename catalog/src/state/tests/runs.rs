//! Runs and what went wrong in them.

use super::*;

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
