//! Ten thousand malformed statements never end the process, and each gets an answer with a SQLSTATE.

use boathouse_tests::{Failure, Server, lake_folder, value};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

const STATEMENTS: usize = 10_000;

const SEEDS: &[&str] = &[
    "SELECT a, count(*) FROM t WHERE a > 1 GROUP BY a ORDER BY 2 DESC LIMIT 10",
    "CREATE TABLE x (a int PRIMARY KEY, b text NOT NULL DEFAULT 'q', CHECK (a > 0))",
    "INSERT INTO t (a, b) VALUES (1, 'x'), (2, NULL)",
    "CREATE PIPELINE p FROM FILES c '*.csv' FORMAT CSV (delimiter = ';') INTO t EXPECT e CHECK (a > 1) ON VIOLATION DROP SCHEDULE EVERY INTERVAL '1 minute'",
    "WITH r AS (SELECT 1 AS a UNION ALL SELECT 2) SELECT * FROM r JOIN t USING (a)",
    "COPY t (a, b) FROM '/nowhere' WITH (FORMAT csv, HEADER)",
    "SELECT to_char(now(), 'YYYY-MM-DD'), '{\"a\":1}'::jsonb -> 'a', ARRAY[1,2,3]",
    "GRANT SELECT ON t TO PUBLIC; REVOKE ALL ON t FROM nobody",
    "SELECT x::numeric(10,2), interval '1 day 02:03' FROM generate_series(1, 10) AS g(x)",
];

fn mutated(draw: &mut StdRng) -> String {
    let mut text: Vec<char> = SEEDS[draw.random_range(0..SEEDS.len())].chars().collect();
    for _ in 0..draw.random_range(1..8) {
        if text.is_empty() {
            break;
        }
        let at = draw.random_range(0..text.len());
        match draw.random_range(0..4) {
            0 => {
                text.remove(at);
            }
            1 => text.insert(at, draw.random_range(' '..'\u{2fff}')),
            2 => text.truncate(at),
            _ => {
                let other = draw.random_range(0..text.len());
                text.swap(at, other);
            }
        }
    }
    text.into_iter()
        .filter(|character| *character != '\0')
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_statements_are_refused_one_by_one() -> Result<(), Failure> {
    let seed = match std::env::var("BOATHOUSE_TEST_SEED") {
        Ok(text) => text.parse()?,
        Err(_) => rand::rng().random::<u64>(),
    };
    println!("BOATHOUSE_TEST_SEED={seed}");
    let mut draw = StdRng::seed_from_u64(seed);
    let (_folder, lake) = lake_folder()?;
    let mut server = Server::start(&lake).await?;
    let client = server.connect().await?;
    client
        .batch_execute("CREATE TABLE t (a int, b text)")
        .await?;
    for _ in 0..STATEMENTS {
        let statement = mutated(&mut draw);
        if let Err(error) = client.simple_query(&statement).await {
            let Some(answer) = error.as_db_error() else {
                return Err(format!("seed {seed}: {error} after {statement:?}").into());
            };
            assert_ne!(
                answer.code().code(),
                "XX000",
                "seed {seed}: {} after {statement:?}",
                answer.message()
            );
        }
        // A mutant may have begun a transaction.
        client.simple_query("ROLLBACK").await?;
    }
    assert!(server.is_running());
    assert_eq!(value(&server.connect().await?, "SELECT 1").await?, "1");
    Ok(())
}
