//! `CREATE PIPELINE ... FROM MYSQL` against real servers: whatever is done to the source and whoever is
//! killed, a run that reports success leaves the lake's tables equal to the source's.
//!
//! Every test runs once per server, in a database of its own. Whole tables are compared, every value of
//! every row, so that a row lost, doubled or left behind fails the test. Seeds are printed; `CAPTURE_SEED`
//! replays one, `CAPTURE_KILLS` and `CAPTURE_ROWS` ask for more than the everyday measure.

#[path = "capture_changes.rs"]
mod changes;
#[path = "capture_failover.rs"]
mod failover;
#[path = "capture_history.rs"]
mod history;
#[path = "capture_kills.rs"]
mod kills;
#[path = "capture_logins.rs"]
mod logins;
#[path = "capture_network.rs"]
mod network;
#[path = "capture_schemas.rs"]
mod schemas;
#[path = "capture_shapes.rs"]
mod shapes;
#[path = "capture_start.rs"]
mod start;
#[path = "capture_types.rs"]
mod types;
#[path = "capture_verify.rs"]
mod verify;
#[path = "capture_workload.rs"]
mod workload;

use std::path::PathBuf;
use std::time::Duration;

use boathouse_tests::compare::compare;
use boathouse_tests::mysql::{Flavor, Source, SourceClient};
use boathouse_tests::{Failure, Server, ServerOptions, lake_folder, rows};
use rand::Rng;
use tempfile::TempDir;
use tokio_postgres::Client;

/// A test for each server: `mysql::name` and `mariadb::name`.
macro_rules! for_both {
    ($($name:ident: $body:path,)*) => {
        mod mysql {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() -> Result<(), boathouse_tests::Failure> {
                $body(boathouse_tests::mysql::Flavor::MySql).await
            })*
        }
        mod mariadb {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() -> Result<(), boathouse_tests::Failure> {
                $body(boathouse_tests::mysql::Flavor::MariaDb).await
            })*
        }
    };
}

for_both! {
    every_type_by_snapshot_and_by_binlog: crate::types::every_type_by_snapshot_and_by_binlog,
    options_decide_about_values: crate::types::options_decide_about_values,
    changes_follow: crate::changes::changes_follow,
    a_transaction_larger_than_memory: crate::changes::a_transaction_larger_than_memory,
    schemas_follow: crate::schemas::schemas_follow,
    a_random_workload_survives_kills: crate::kills::a_random_workload_survives_kills,
    a_random_workload_in_part_survives_kills: crate::kills::a_random_workload_in_part_survives_kills,
    a_chunk_that_was_not_committed_is_read_again: crate::kills::a_chunk_that_was_not_committed_is_read_again,
    a_snapshot_under_load_of_minimal_images: crate::kills::a_snapshot_under_load_of_minimal_images,
    rows_of_before_stay_known_when_defaults_change: crate::kills::rows_of_before_stay_known_when_defaults_change,
    ranges_of_a_table_are_read_at_once: crate::kills::ranges_of_a_table_are_read_at_once,
    tables_are_read_at_once: crate::kills::tables_are_read_at_once,
    a_snapshot_under_load: crate::kills::a_snapshot_under_load,
    changes_beyond_the_schema_are_followed_or_told: crate::schemas::changes_beyond_the_schema_are_followed_or_told,
    what_is_broken_is_found_and_healed: crate::verify::what_is_broken_is_found_and_healed,
    one_table_is_read_anew: crate::verify::one_table_is_read_anew,
    rows_that_change_are_read_anew: crate::verify::rows_that_change_are_read_anew,
    a_range_is_read_anew: crate::verify::a_range_is_read_anew,
    sources_that_lost_history: crate::history::sources_that_lost_history,
    sessions_that_log_less: crate::history::sessions_that_log_less,
    rows_in_part: crate::history::rows_in_part,
    columns_are_left_out_made_and_filtered: crate::shapes::columns_are_left_out_made_and_filtered,
    deleted_rows_are_kept: crate::shapes::deleted_rows_are_kept,
    columns_come_back_as_others: crate::shapes::columns_come_back_as_others,
    tables_made_before_a_kill_are_taken_up: crate::shapes::tables_made_before_a_kill_are_taken_up,
    changes_of_columns_are_followed_as_told: crate::shapes::changes_of_columns_are_followed_as_told,
    views_stop_no_pipeline: crate::shapes::views_stop_no_pipeline,
    a_key_that_cannot_be_cut: crate::shapes::a_key_that_cannot_be_cut,
    many_tables_land_in_one: crate::shapes::many_tables_land_in_one,
    tables_without_a_key_land_in_one: crate::shapes::tables_without_a_key_land_in_one,
    deleted_rows_in_part_are_kept: crate::shapes::deleted_rows_in_part_are_kept,
    a_random_workload_in_part_keeps_deleted_rows: crate::kills::a_random_workload_in_part_keeps_deleted_rows,
    queries_over_rows_in_part: crate::shapes::queries_over_rows_in_part,
    a_random_workload_in_part_through_queries: crate::kills::a_random_workload_in_part_through_queries,
    every_change_is_a_row: crate::shapes::every_change_is_a_row,
    a_random_workload_survives_the_network: crate::network::a_random_workload_survives_the_network,
    replicas_take_over: crate::failover::replicas_take_over,
    servers_become_others: crate::failover::servers_become_others,
    users_come_and_go: crate::logins::users_come_and_go,
    every_way_to_log_in: crate::logins::every_way_to_log_in,
    answers_that_never_end_are_given_up: crate::network::answers_that_never_end_are_given_up,
    silence_is_noticed: crate::network::silence_is_noticed,
    captures_begin_where_they_are_told: crate::start::captures_begin_where_they_are_told,
    a_beginning_survives_crashes: crate::start::a_beginning_survives_crashes,
    tables_that_changed_since_their_beginning: crate::start::tables_that_changed_since_their_beginning,
    a_random_workload_from_its_beginning: crate::start::a_random_workload_from_its_beginning,
    the_comparison_sees_what_differs: crate::the_comparison_sees_what_differs,
}

/// A run that takes longer hangs.
const RUN_TIMEOUT: Duration = Duration::from_secs(120);

/// What a run may take longer for each kill before it: the source has gone on meanwhile.
const RUN_TIMEOUT_PER_KILL: Duration = Duration::from_secs(3);

/// How much of a log a failure tells.
const LOG_LINES_MAX: usize = 60;

/// How a pipeline is started.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Schedule {
    OnDemand,
    Continuous,
}

/// A database at a source, and a lake that is to follow it.
struct Fixture {
    source: Source,
    database: String,
    _folder: TempDir,
    lake: PathBuf,
    server: Server,
}

impl Fixture {
    async fn start(flavor: Flavor) -> Result<Self, Failure> {
        Self::start_at(Source::shared(flavor)?).await
    }

    /// Makes an empty database at the source, and a lake that knows the source.
    async fn start_at(source: Source) -> Result<Self, Failure> {
        let database = format!("capture_{:08x}", rand::rng().random::<u32>());
        let mut client = source.client().await?;
        client
            .execute(&format!("CREATE DATABASE {database}"))
            .await?;
        let (folder, lake) = lake_folder()?;
        let server = Server::start(&lake).await?;
        let fixture = Self {
            source,
            database,
            _folder: folder,
            lake,
            server,
        };
        let lake = fixture.server.connect().await?;
        rows(&lake, "CREATE SCHEMA bronze").await?;
        rows(&lake, &fixture.source.create_connection("shop")).await?;
        Ok(fixture)
    }

    /// A session at the source, in the test's database.
    async fn session(&self) -> Result<SourceClient, Failure> {
        let mut client = self.source.client().await?;
        client.execute(&format!("USE {}", self.database)).await?;
        Ok(client)
    }

    async fn create_pipeline(&self, schedule: Schedule, options: &str) -> Result<(), Failure> {
        let schedule = match schedule {
            Schedule::OnDemand => "SCHEDULE ON DEMAND",
            Schedule::Continuous => "",
        };
        let sql = format!(
            "CREATE PIPELINE p FROM MYSQL shop TABLES ('{0}.%') EXCEPT ('{0}.tmp_%') \
             INTO SCHEMA bronze {schedule} WITH ({options})",
            self.database
        );
        rows(&self.server.connect().await?, &sql).await?;
        Ok(())
    }

    async fn run(&self) -> Result<(), Failure> {
        let client = self.server.connect().await?;
        let kills = u32::try_from(measure("CAPTURE_KILLS", 0)?)?;
        let limit = RUN_TIMEOUT + RUN_TIMEOUT_PER_KILL * kills;
        match tokio::time::timeout(limit, rows(&client, "RUN PIPELINE p")).await {
            Ok(answer) => answer.map(drop),
            Err(_) => Err(format!("RUN PIPELINE did not end within {limit:?}").into()),
        }
    }

    /// Runs the pipeline and compares.
    async fn follow(&self, what: &str) -> Result<Client, Failure> {
        let ran = self.run().await;
        ran.map_err(|error| Failure::from(format!("{what}: {error}\n{}", self.log_end())))?;
        self.compare(what).await
    }

    /// Runs the pipeline; it either says in one of the `reasons` why it failed, or the tables are equal.
    /// Whether they are.
    async fn follow_or_tell(&self, what: &str, reasons: &[&str]) -> Result<bool, Failure> {
        let Err(error) = self.run().await else {
            self.compare(what).await?;
            return Ok(true);
        };
        let told = error.to_string();
        let lower = told.to_lowercase();
        if reasons.iter().any(|reason| lower.contains(reason)) && !told.starts_with("XX000") {
            println!("{what}: {told}");
            return Ok(false);
        }
        Err(format!(
            "{what}: the error names no reason: {told}\n{}",
            self.log_end()
        )
        .into())
    }

    /// Every table of the source is in the lake as it is in the source.
    async fn compare(&self, what: &str) -> Result<Client, Failure> {
        let lake = self.server.connect().await?;
        let mut session = self.session().await?;
        let tables = self.tables(&mut session).await?;
        if tables.is_empty() {
            return Err(format!("{what}: the source has no tables").into());
        }
        let mut told = Vec::new();
        for table in &tables {
            let compared = compare(&mut session, &lake, &self.database, table, "bronze").await;
            match compared {
                Ok(differences) if differences.is_empty() => {}
                Ok(differences) => told.push(differences.to_string()),
                Err(error) => told.push(format!("table {table}: {error}")),
            }
        }
        if told.is_empty() {
            return Ok(lake);
        }
        Err(format!(
            "{} {}: {what}: {}\n{}",
            self.source.flavor.name(),
            self.database,
            told.join("\n"),
            self.log_end()
        )
        .into())
    }

    /// The tables that the pipeline reads.
    async fn tables(&self, session: &mut SourceClient) -> Result<Vec<String>, Failure> {
        let found = session
            .rows(&format!(
                "SELECT CONVERT(table_name USING utf8mb4) FROM information_schema.tables \
                 WHERE table_schema = '{}' AND table_type = 'BASE TABLE' \
                   AND table_name NOT LIKE 'tmp\\_%' ORDER BY 1",
                self.database
            ))
            .await?;
        Ok(found.into_iter().flatten().flatten().collect())
    }

    /// The end of what Boathouse has written, over all its lives.
    fn log_end(&self) -> String {
        let log = self.server.log();
        let skipped = log.lines().count().saturating_sub(LOG_LINES_MAX);
        log.lines().skip(skipped).collect::<Vec<_>>().join("\n")
    }

    /// `kill -9` of Boathouse.
    fn kill(&mut self) -> Result<(), Failure> {
        self.server.kill()
    }

    /// Starts Boathouse again on the same lake.
    async fn restart(&mut self) -> Result<(), Failure> {
        self.server = Server::start(&self.lake).await?;
        Ok(())
    }

    /// Kills Boathouse, and starts one that dies when it comes to a place.
    async fn die_at(&mut self, failpoint: &str) -> Result<(), Failure> {
        self.kill()?;
        let options = ServerOptions {
            environment: vec![("BOATHOUSE_FAILPOINT".into(), failpoint.into())],
            ..ServerOptions::default()
        };
        self.server = Server::start_with(&self.lake, options).await?;
        Ok(())
    }

    /// Leaves nothing at a source that others use.
    async fn finish(self) -> Result<(), Failure> {
        self.finish_keeping_source().await.map(drop)
    }

    async fn finish_keeping_source(self) -> Result<Source, Failure> {
        let mut client = self.source.client().await?;
        drop(self.server);
        let drop_database = format!("DROP DATABASE {}", self.database);
        client.execute(&drop_database).await?;
        Ok(self.source)
    }
}

/// The number in an environment variable, or the everyday measure.
fn measure(variable: &str, everyday: usize) -> Result<usize, Failure> {
    match std::env::var(variable) {
        Ok(text) => Ok(text.parse()?),
        Err(_) => Ok(everyday),
    }
}

/// The seed of this run, printed.
fn seed() -> Result<u64, Failure> {
    let seed = match std::env::var("CAPTURE_SEED") {
        Ok(text) => text.parse()?,
        Err(_) => rand::rng().random::<u64>(),
    };
    println!("CAPTURE_SEED={seed}");
    Ok(seed)
}

/// Without a pipeline: tables made equal by hand, then made to differ.
async fn the_comparison_sees_what_differs(flavor: Flavor) -> Result<(), Failure> {
    let fixture = Fixture::start(flavor).await?;
    let mut session = fixture.session().await?;
    session
        .execute(
            "CREATE TABLE kept (a INT, b VARCHAR(9), n DECIMAL(9,2), f FLOAT, t DATETIME(3),
                                y BINARY(2), o BIT(1), UNIQUE KEY (b, a), PRIMARY KEY (a));
             INSERT INTO kept VALUES (1, 'one', 1.50, 0.1, '2024-01-02 03:04:05.120', 'a', 1),
                                     (2, 'two', NULL, -1e20, '0000-00-00', 'ab', 0),
                                     (3, NULL, 0, 16777217, NULL, NULL, NULL);
             CREATE TABLE counted (a INT, b TEXT);
             INSERT INTO counted VALUES (1, 'x'), (1, 'x'), (2, NULL)",
        )
        .await?;
    let lake = fixture.server.connect().await?;
    rows(
        &lake,
        "CREATE TABLE bronze.kept (a integer, b text, n numeric(9,2), f real, t timestamp, y bytea,
                                   o boolean);
         INSERT INTO bronze.kept
           VALUES (1, 'one', 1.50, 0.1, '2024-01-02 03:04:05.12', '\\x6100', true),
                  (2, 'two', NULL, -1e20, NULL, '\\x6162', false),
                  (3, NULL, 0, 16777216, NULL, NULL, NULL);
         CREATE TABLE bronze.counted (a integer, b text);
         INSERT INTO bronze.counted VALUES (2, NULL), (1, 'x'), (1, 'x')",
    )
    .await?;
    fixture.compare("made by hand").await?;
    for (change, back, told) in [
        (
            "DELETE FROM bronze.kept WHERE a = 1",
            "INSERT INTO bronze.kept
               VALUES (1, 'one', 1.50, 0.1, '2024-01-02 03:04:05.12', '\\x6100', true)",
            "1 rows missing",
        ),
        (
            "INSERT INTO bronze.kept (a, n) VALUES (3, 0)",
            "DELETE FROM bronze.kept WHERE a = 3; INSERT INTO bronze.kept (a, n, f) VALUES (3, 0, 16777216)",
            "1 rows extra",
        ),
        (
            "UPDATE bronze.kept SET y = '\\x61' WHERE a = 1",
            "UPDATE bronze.kept SET y = '\\x6100' WHERE a = 1",
            "1 values differ",
        ),
        (
            "UPDATE bronze.kept SET t = '2024-01-02 03:04:05.121' WHERE a = 1",
            "UPDATE bronze.kept SET t = '2024-01-02 03:04:05.12' WHERE a = 1",
            "1 values differ",
        ),
        (
            "UPDATE bronze.kept SET b = '' WHERE a = 3",
            "UPDATE bronze.kept SET b = NULL WHERE a = 3",
            "1 values differ",
        ),
        (
            "INSERT INTO bronze.counted VALUES (1, 'x')",
            "DELETE FROM bronze.counted WHERE a = 1; INSERT INTO bronze.counted VALUES (1, 'x'), (1, 'x')",
            "1 rows extra",
        ),
        (
            "UPDATE bronze.counted SET b = 'NULL' WHERE a = 2",
            "UPDATE bronze.counted SET b = NULL WHERE a = 2",
            "1 rows missing",
        ),
        (
            "ALTER TABLE bronze.counted ADD COLUMN c integer",
            "ALTER TABLE bronze.counted DROP COLUMN c",
            "1 columns",
        ),
    ] {
        rows(&lake, change).await?;
        match fixture.compare(change).await {
            Ok(_) => return Err(format!("nothing differs after {change}").into()),
            Err(error) => assert!(error.to_string().contains(told), "{change}: {error}"),
        }
        rows(&lake, back).await?;
        fixture.compare(back).await?;
    }
    fixture.finish().await
}
