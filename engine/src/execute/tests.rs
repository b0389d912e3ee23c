//! What a session knows of the plans it keeps, and what COMMIT knows of itself.

use std::collections::BTreeMap;
use std::sync::Arc;

use boathouse_catalog::MasterKey;
use datafusion::arrow::util::pretty::pretty_format_batches;
use futures::TryStreamExt;
use tempfile::TempDir;

use super::*;
use crate::engine::{Engine, EngineConfig};
use crate::session::SessionOptions;

/// An engine over a lake of its own, and a superuser's session.
struct Fixture {
    _folder: TempDir,
    engine: Arc<Engine>,
    session: Session,
}

async fn fixture() -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("scratch")).unwrap();
    let config = EngineConfig {
        lake: folder.path().join("lake").to_str().unwrap().to_owned(),
        catalog: None,
        master_key: MasterKey::generate(),
        store_options: BTreeMap::new(),
        memory_bytes_max: 256 << 20,
        index_bytes_max: 64 << 20,
        tables_bytes_max: 64 << 20,
        scratch: folder.path().join("scratch"),
        server_name: "test".into(),
        runs_schedules: false,
    };
    let engine = Engine::open(config).await.unwrap();
    let session = open_session(&engine);
    Fixture {
        _folder: folder,
        engine,
        session,
    }
}

fn open_session(engine: &Arc<Engine>) -> Session {
    let options = SessionOptions {
        role: "boathouse".into(),
        database: "boathouse".into(),
        settings: Vec::new(),
        client_address: None,
    };
    Session::open(engine, options).unwrap()
}

/// Runs each statement by itself and gives the rows of the last.
async fn run(session: &mut Session, sql: &str) -> String {
    let mut rows = String::new();
    for statement in session.parse(sql).unwrap() {
        let prepared = session.prepare(statement, &[]).await.unwrap();
        rows = match session.execute(&prepared, &[]).await.unwrap() {
            Outcome::Rows { stream, .. } => {
                let batches: Vec<_> = stream.try_collect().await.unwrap();
                pretty_format_batches(&batches).unwrap().to_string()
            }
            _ => String::new(),
        };
    }
    rows
}

async fn prepared(session: &mut Session, sql: &str) -> Prepared {
    let statement = session.parse(sql).unwrap().remove(0);
    session.prepare(statement, &[]).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_overtaken_while_it_was_made_is_not_current() {
    let Fixture {
        _folder,
        engine,
        mut session,
    } = fixture().await;
    run(&mut session, "CREATE TABLE t (a int)").await;
    let context = session.state.query_context(&engine);
    let query = boathouse_sql::parse_query("SELECT a FROM t").unwrap();
    let planned = query::plan_query(&context, &query, &[]).await.unwrap();
    // Somebody commits between the planning and the keeping of the plan.
    run(&mut open_session(&engine), "INSERT INTO t VALUES (1)").await;
    let kept = KeptPlan::new(&context, planned).unwrap();
    let later = session.state.query_context(&engine);
    assert!(!kept.is_current(&later).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_of_today_is_planned_anew() {
    let Fixture {
        _folder,
        mut session,
        ..
    } = fixture().await;
    run(
        &mut session,
        "CREATE TABLE t (d date); CREATE VIEW v AS SELECT d FROM t WHERE d = 'today'",
    )
    .await;
    for (sql, reusable) in [
        ("SELECT d FROM t WHERE d > '2024-01-01'", true),
        ("SELECT d FROM t WHERE d > 'today'", false),
        ("SELECT d FROM v", false),
        ("SELECT timestamptz 'now'", false),
        ("SELECT 'today'", true),
    ] {
        let prepared = prepared(&mut session, sql).await;
        let found = session.is_reusable(&prepared).await.unwrap();
        assert_eq!(found, reusable, "{sql}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_statement_ends_with_its_transaction() {
    let Fixture {
        _folder,
        engine,
        mut session,
    } = fixture().await;
    run(&mut session, "CREATE TABLE t (a bigint)").await;
    let endless = prepared(
        &mut session,
        "INSERT INTO t SELECT x.a FROM generate_series(1, 1000000) AS x(a), \
         generate_series(1, 1000000) AS y(b)",
    )
    .await;
    let limit = std::time::Duration::from_millis(50);
    let stopped = tokio::time::timeout(limit, session.execute(&endless, &[])).await;
    assert!(stopped.is_err());
    session.end_implicit(false).await.unwrap();
    run(&mut session, "INSERT INTO t VALUES (1)").await;
    let seen = run(&mut open_session(&engine), "SELECT count(*) AS n FROM t").await;
    assert!(seen.contains("| 1 |"), "{seen}");
}

#[tokio::test(flavor = "multi_thread")]
async fn folders_of_tables_that_vanish_go_with_their_transaction() {
    let Fixture {
        _folder,
        engine,
        mut session,
    } = fixture().await;
    let found = async || engine.lake.list_tables().await.unwrap().len();
    run(
        &mut session,
        "BEGIN; CREATE TABLE a (x int); DROP TABLE a; CREATE TABLE b (x int)",
    )
    .await;
    run(&mut session, "ROLLBACK").await;
    assert_eq!(found().await, 0);
    run(
        &mut session,
        "BEGIN; SAVEPOINT s; CREATE TABLE a AS SELECT 1 AS x; ROLLBACK TO s; CREATE TABLE b (x int)",
    )
    .await;
    run(&mut session, "COMMIT").await;
    assert_eq!(found().await, 1);
    run(&mut session, "BEGIN; CREATE TABLE c AS SELECT 1 AS x").await;
    session.close().await;
    assert_eq!(found().await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_follows_a_changed_definition() {
    let Fixture {
        _folder,
        engine,
        mut session,
    } = fixture().await;
    run(
        &mut session,
        "CREATE TABLE t (a int); ALTER TABLE t ADD COLUMN b text; ALTER TABLE t RENAME TO u",
    )
    .await;
    let found = engine.lake.list_tables().await.unwrap();
    let (schema, stored) = found[0].definition.clone().unwrap();
    let known = engine.catalog.snapshot();
    assert_eq!(schema, "public");
    assert_eq!(Some(&Arc::new(stored)), known.table("public", "u"));
}
