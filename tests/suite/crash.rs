//! Kills the server two hundred times while it loads files, at named points and at random moments,
//! and counts: every row of every file is in the table once.
//!
//! The seed is printed; `BOATHOUSE_TEST_SEED` replays a run.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use boathouse_tests::{Failure, Server, ServerOptions, lake_folder, rows, value};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

const KILLS: usize = 200;
const ROWS_PER_FILE: usize = 400;
const FAILPOINTS: &[&str] = &[
    "after_read",
    "after_data_files",
    "after_prepare",
    "before_commit",
    "after_commit",
    "after_resolve",
];

/// Writes a whole file under its name at once, as a careful sender would.
fn deliver(inbox: &Path, number: usize) -> Result<(), Failure> {
    let mut text = String::from("id,name,qty\n");
    for row in 0..ROWS_PER_FILE {
        let id = number * ROWS_PER_FILE + row;
        text.push_str(&format!("{id},item {id},{}\n", id % 17));
    }
    let hidden = inbox.join(format!(".file{number:05}.part"));
    std::fs::write(&hidden, text)?;
    std::fs::rename(hidden, inbox.join(format!("file{number:05}.csv")))?;
    Ok(())
}

/// Runs the pipeline on a server that will be killed; whatever the client sees is as it may be.
async fn run_and_kill(
    lake: &Path,
    failpoint: Option<String>,
    delay: Duration,
) -> Result<(), Failure> {
    let mut options = ServerOptions::default();
    if let Some(failpoint) = failpoint {
        options
            .environment
            .push(("BOATHOUSE_FAILPOINT".to_owned(), failpoint));
    }
    let mut server = Server::start_with(lake, options).await?;
    let client = server.connect().await?;
    let run = tokio::spawn(async move { rows(&client, "RUN PIPELINE p").await });
    let _ = tokio::time::timeout(delay, run).await;
    server.kill()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_kills_lose_and_double_nothing() -> Result<(), Failure> {
    let seed = match std::env::var("BOATHOUSE_TEST_SEED") {
        Ok(text) => text.parse()?,
        Err(_) => rand::rng().random::<u64>(),
    };
    println!("BOATHOUSE_TEST_SEED={seed}");
    let mut draw = StdRng::seed_from_u64(seed);
    let (folder, lake) = lake_folder()?;
    let inbox = folder.path().join("inbox");
    std::fs::create_dir(&inbox)?;
    deliver(&inbox, 0)?;
    {
        let server = Server::start(&lake).await?;
        let client = server.connect().await?;
        rows(
            &client,
            &format!(
                "CREATE CONNECTION inbox TO LOCAL WITH (path = '{}');
                 CREATE SCHEMA bronze;
                 CREATE PIPELINE p FROM FILES inbox '*.csv' FORMAT CSV
                   INTO bronze.stock
                   AS SELECT id, name, qty, _file, _row FROM source
                   EXPECT few CHECK (qty < 16) ON VIOLATION QUARANTINE
                   WITH (settle = '0 s');",
                inbox.display()
            ),
        )
        .await?;
        rows(&client, "RUN PIPELINE p").await?;
    }
    let mut delivered = 1;
    for kill in 0..KILLS {
        if draw.random_bool(0.6) {
            deliver(&inbox, delivered)?;
            delivered += 1;
        }
        let failpoint =
            (kill % 2 == 0).then(|| FAILPOINTS[(kill / 2) % FAILPOINTS.len()].to_owned());
        // A failpoint ends the process by itself; a random kill comes early or late in the run.
        let delay = if failpoint.is_some() {
            Duration::from_secs(10)
        } else {
            Duration::from_millis(draw.random_range(0..400))
        };
        run_and_kill(&lake, failpoint, delay).await?;
    }

    let server = Server::start(&lake).await?;
    let client = server.connect().await?;
    rows(&client, "RUN PIPELINE p").await?;
    let found = value(
        &client,
        "SELECT count(*), count(DISTINCT id), coalesce(sum(id), 0) FROM bronze.stock",
    )
    .await?;
    let quarantined = value(
        &client,
        "SELECT count(*) FROM system.quarantine WHERE pipeline = 'p'",
    )
    .await?;
    let all = 0..delivered * ROWS_PER_FILE;
    let good: Vec<usize> = all.clone().filter(|id| id % 17 < 16).collect();
    let bad = all.len() - good.len();
    let sum: usize = good.iter().sum();
    assert_eq!(
        found,
        format!("{}|{}|{sum}", good.len(), good.len()),
        "seed {seed}"
    );
    assert_eq!(quarantined, bad.to_string(), "seed {seed}");
    let files = value(
        &client,
        "SELECT count(*), count(DISTINCT path) FROM system.files_loaded WHERE pipeline = 'p'",
    )
    .await?;
    assert_eq!(files, format!("{delivered}|{delivered}"), "seed {seed}");
    Ok(())
}

const CHANGE_KILLS: usize = 60;
const TABLES: [&str; 2] = ["vectors", "copies"];
const CHANGE_FAILPOINTS: &[&str] = &[
    "after_vectors",
    "before_commit",
    "after_commit",
    "after_rewrite",
    "after_rewrite:2",
    "before_commit:2",
    "after_commit:2",
];

/// A statement raises every counter by one or none, and no rewrite of files changes one, whenever the server
/// is killed.
#[tokio::test(flavor = "multi_thread")]
async fn kills_between_the_steps_of_a_change_leave_all_of_it_or_nothing() -> Result<(), Failure> {
    let seed = match std::env::var("BOATHOUSE_TEST_SEED") {
        Ok(text) => text.parse()?,
        Err(_) => rand::rng().random::<u64>(),
    };
    println!("BOATHOUSE_TEST_SEED={seed}");
    let mut draw = StdRng::seed_from_u64(seed);
    let (_folder, lake) = lake_folder()?;
    {
        let server = Server::start(&lake).await?;
        let client = server.connect().await?;
        client
            .batch_execute(
                "CREATE TABLE vectors (id int PRIMARY KEY, n int);
                 CREATE TABLE copies (id int PRIMARY KEY, n int)
                   WITH (\"delta.enableDeletionVectors\" = false);
                 INSERT INTO vectors SELECT g, 0 FROM generate_series(1, 300) t(g);
                 INSERT INTO copies SELECT g, 0 FROM generate_series(1, 300) t(g)",
            )
            .await?;
    }
    let mut raised = [0; 2];
    for kill in 0..=CHANGE_KILLS {
        let mut options = ServerOptions::default();
        let at_random = Duration::from_millis(draw.random_range(0..250));
        let mut delay = at_random;
        if kill % 3 > 0 && kill < CHANGE_KILLS {
            let name = CHANGE_FAILPOINTS[kill % CHANGE_FAILPOINTS.len()];
            let failpoint = ("BOATHOUSE_FAILPOINT".to_owned(), name.to_owned());
            options.environment.push(failpoint);
            delay = Duration::from_secs(10);
        }
        let mut server = Server::start_with(&lake, options).await?;
        let client = server.connect().await?;
        for (table, raised) in TABLES.iter().zip(&mut raised) {
            let found = value(
                &client,
                &format!("SELECT count(*), min(n), max(n) FROM {table}"),
            )
            .await?;
            // The statement under way when the server was killed may have taken place.
            let whole = |times: i64| format!("300|{times}|{times}");
            let what = format!("seed {seed} kill {kill}: {table} is {found} after {raised}");
            if found == whole(*raised + 1) {
                *raised += 1;
            }
            assert_eq!(found, whole(*raised), "{what}");
        }
        let answered: Arc<[AtomicI64; 2]> = Arc::default();
        let work = tokio::spawn(raise(client, Arc::clone(&answered)));
        let _ = tokio::time::timeout(delay, work).await;
        server.kill()?;
        for (raised, answered) in raised.iter_mut().zip(answered.iter()) {
            *raised += answered.load(Ordering::SeqCst);
        }
    }
    assert!(raised.iter().all(|times| *times >= 20), "{raised:?}");
    Ok(())
}

/// Raises the counters of both tables and rewrites their files, three times or until the server is gone.
async fn raise(client: tokio_postgres::Client, answered: Arc<[AtomicI64; 2]>) {
    for _ in 0..3 {
        for (table, answered) in TABLES.iter().zip(answered.iter()) {
            let update = format!(
                "BEGIN;
                 UPDATE {table} SET n = n + 1 WHERE id <= 150;
                 UPDATE {table} SET n = n + 1 WHERE id > 150;
                 COMMIT"
            );
            if client.batch_execute(&update).await.is_err() {
                return;
            }
            answered.fetch_add(1, Ordering::SeqCst);
            let optimize = format!("OPTIMIZE {table}");
            if client.batch_execute(&optimize).await.is_err() {
                return;
            }
        }
    }
}
