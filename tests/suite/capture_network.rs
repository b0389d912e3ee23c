//! A network between Boathouse and the source that is cut, falls silent and is slow.

use std::time::{Duration, Instant};

use boathouse_tests::mysql::Flavor;
use boathouse_tests::network::{Network, Traffic};
use boathouse_tests::{Failure, rows, value};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::workload::{MIXED_TABLES, Workload, mixed};
use crate::{Fixture, Schedule, measure, seed};

const FAULTS: usize = 6;

/// What a connection's `timeout` is, so that silence is noticed within a test.
const TIMEOUT: Duration = Duration::from_secs(1);

/// How much longer than that it may take to be back, on a machine that does other things.
const BACK_WITHIN: Duration = Duration::from_secs(30);

impl Fixture {
    /// Has the connection go by a network.
    pub async fn through_network(&self) -> Result<Network, Failure> {
        let network = Network::start(self.source.address().port()).await?;
        let alter = format!(
            "ALTER CONNECTION shop SET (port = {}, timeout = '{} s')",
            network.port,
            TIMEOUT.as_secs()
        );
        rows(&self.server.connect().await?, &alter).await?;
        Ok(network)
    }

    /// Waits until a query gives a value.
    pub async fn wait_for(&self, sql: &str, expected: &str) -> Result<(), Failure> {
        let lake = self.server.connect().await?;
        let begun = Instant::now();
        loop {
            let found = value(&lake, sql).await;
            if matches!(&found, Ok(found) if found == expected) {
                return Ok(());
            }
            if begun.elapsed() > BACK_WITHIN {
                let log = self.log_end();
                let lag = rows(
                    &lake,
                    "SELECT source, state, snapshot_rows FROM system.pipeline_lag",
                )
                .await?;
                return Err(
                    format!("{found:?} instead of {expected} of {sql}: {lag:?}\n{log}").into(),
                );
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

pub async fn a_random_workload_survives_the_network(flavor: Flavor) -> Result<(), Failure> {
    let seed = seed()?;
    let faults = measure("CAPTURE_FAULTS", FAULTS)?;
    let mut draw = StdRng::seed_from_u64(seed);
    let fixture = Fixture::start(flavor).await?;
    let network = fixture.through_network().await?;
    let mut session = fixture.session().await?;
    session.execute(MIXED_TABLES).await?;
    let address = fixture.source.address();
    let workload = Workload::start(&address, &fixture.database, seed, 2, mixed);
    // There is something to be read when the snapshot begins.
    tokio::time::sleep(Duration::from_millis(500)).await;
    fixture
        .create_pipeline(
            Schedule::Continuous,
            "target_lag = '200 ms', chunk_rows = 20",
        )
        .await?;
    for _ in 0..faults {
        tokio::time::sleep(Duration::from_millis(draw.random_range(0..1500))).await;
        let fault = match draw.random_range(0..3) {
            0 => Traffic::Cut,
            1 => Traffic::Stalled,
            _ => Traffic::Slow(Duration::from_millis(draw.random_range(5..50))),
        };
        let lasts = Duration::from_millis(draw.random_range(0..1200));
        println!("{fault:?} for {lasts:?}");
        network.set(fault);
        tokio::time::sleep(lasts).await;
        network.set(Traffic::Flows);
    }
    let taken = workload.stop().await?;
    assert!(taken > 10 * faults, "seed {seed}: {taken} transactions");
    fixture
        .follow(&format!(
            "seed {seed}, {faults} faults, {taken} transactions"
        ))
        .await?;
    fixture.finish().await
}

/// Each kind of question to a source may be the one that is never answered.
pub async fn silence_is_noticed(flavor: Flavor) -> Result<(), Failure> {
    let fixture = Fixture::start(flavor).await?;
    let network = fixture.through_network().await?;
    let mut session = fixture.session().await?;
    session
        .execute("CREATE TABLE t (id INT PRIMARY KEY, v INT); INSERT INTO t VALUES (1, 1)")
        .await?;
    fixture.create_pipeline(Schedule::Continuous, "").await?;
    fixture.wait_for("SELECT max(v) FROM bronze.t", "1").await?;
    // A change that is on its way when the stream falls silent.
    let before = network.connections();
    network.set(Traffic::Stalled);
    session.execute("UPDATE t SET v = 2").await?;
    tokio::time::sleep(Duration::from_millis(300)).await;
    network.set(Traffic::Flows);
    fixture.wait_for("SELECT max(v) FROM bronze.t", "2").await?;
    assert!(network.connections() > before, "the stall was not met");
    // Whatever is asked meanwhile, the first attempts to come back among it.
    network.set(Traffic::Stalled);
    tokio::time::sleep(TIMEOUT * 3).await;
    network.set(Traffic::Flows);
    session.execute("UPDATE t SET v = 3").await?;
    fixture.wait_for("SELECT max(v) FROM bronze.t", "3").await?;
    // By another way, though this one still leads there.
    let detour = Network::start(fixture.source.address().port()).await?;
    let lake = fixture.server.connect().await?;
    let alter = format!("ALTER CONNECTION shop SET (port = {})", detour.port);
    rows(&lake, &alter).await?;
    let begun = Instant::now();
    while detour.connections() == 0 {
        assert!(begun.elapsed() < BACK_WITHIN, "{}", fixture.log_end());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // And the silence is told.
    let told = rows(
        &lake,
        "SELECT DISTINCT message FROM system.pipeline_errors WHERE pipeline = 'p' AND severity = 'warning'",
    )
    .await?;
    assert!(
        told.iter()
            .any(|message| message.contains("said nothing for too long")),
        "{told:?}"
    );
    fixture.finish().await
}

/// A connection falls silent in the midst of a long answer, whichever question it is of.
pub async fn answers_that_never_end_are_given_up(flavor: Flavor) -> Result<(), Failure> {
    const TABLES: usize = 60;
    const ROUNDS: u64 = 16;
    let fixture = Fixture::start(flavor).await?;
    let network = fixture.through_network().await?;
    let mut session = fixture.session().await?;
    let columns: Vec<String> = (0..40)
        .map(|number| format!("a_column_with_a_rather_long_name_{number} VARCHAR(9)"))
        .collect();
    let columns = columns.join(", ");
    for number in 0..TABLES {
        let create = format!("CREATE TABLE t{number} (id INT PRIMARY KEY, {columns})");
        session.execute(&create).await?;
    }
    fixture.create_pipeline(Schedule::OnDemand, "").await?;
    fixture.run().await?;
    for round in 0..ROUNDS {
        network.set(Traffic::Slow(Duration::from_millis(5)));
        let fault = async {
            tokio::time::sleep(Duration::from_millis(40 + 60 * round)).await;
            network.set(Traffic::Stalled);
            tokio::time::sleep(TIMEOUT / 2).await;
            network.set(Traffic::Flows);
        };
        let ran = async { tokio::time::timeout(BACK_WITHIN, fixture.run()).await };
        let (ran, ()) = tokio::join!(ran, fault);
        match ran {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(format!("round {round}: {error}").into()),
            Err(_) => {
                let log = fixture.log_end();
                return Err(format!("round {round} did not come back\n{log}").into());
            }
        }
    }
    fixture.finish().await
}
