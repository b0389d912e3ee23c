//! Kills the server two hundred times while it loads files, at named points and at random moments,
//! and counts: every row of every file is in the table once.
//!
//! The seed is printed; `BOATHOUSE_TEST_SEED` replays a run.

use std::path::Path;
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
