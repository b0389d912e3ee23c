//! Sessions that change a source at random until they are told to stop, whatever becomes of the source.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use boathouse_tests::Failure;
use boathouse_tests::mysql::SourceAddress;
use mysql_async::Error;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::task::JoinHandle;

/// What makes the statements of one transaction.
pub type Transaction = fn(&mut StdRng) -> Vec<String>;

/// What a server answers when others are in the way, or a row is: nothing has happened then.
const REFUSALS: &[u16] = &[
    1020, // the row has changed since it was read
    1053, // the server shuts down
    1062, // duplicate key
    1205, // lock wait timeout
    1213, // deadlock
    1317, // interrupted
    1412, // the table has changed since the transaction began
];

/// Sessions at work.
pub struct Workload {
    stop: Arc<AtomicBool>,
    writers: Vec<JoinHandle<Result<usize, Failure>>>,
}

impl Workload {
    /// Starts `writers` sessions, each with transactions of its own.
    pub fn start(
        address: &SourceAddress,
        database: &str,
        seed: u64,
        writers: u64,
        transaction: Transaction,
    ) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let writers = (0..writers)
            .map(|writer| {
                let draw = StdRng::seed_from_u64(seed.wrapping_add(writer));
                let work = write(
                    address.clone(),
                    database.to_owned(),
                    draw,
                    transaction,
                    Arc::clone(&stop),
                );
                tokio::spawn(work)
            })
            .collect();
        Self { stop, writers }
    }

    /// Lets the sessions end what they do; gives the number of transactions that the source took.
    pub async fn stop(self) -> Result<usize, Failure> {
        self.stop.store(true, Ordering::SeqCst);
        let mut taken = 0;
        for writer in self.writers {
            taken += writer.await??;
        }
        Ok(taken)
    }
}

async fn write(
    address: SourceAddress,
    database: String,
    mut draw: StdRng,
    transaction: Transaction,
    stop: Arc<AtomicBool>,
) -> Result<usize, Failure> {
    let mut taken = 0;
    while !stop.load(Ordering::SeqCst) {
        let Ok(mut session) = address.client().await else {
            // The source is away and will be back.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        if session.attempt(&format!("USE {database}")).await.is_err() {
            continue;
        }
        while !stop.load(Ordering::SeqCst) {
            let mut answer = Ok(());
            for statement in transaction(&mut draw) {
                answer = session.attempt(&statement).await;
                match &answer {
                    Ok(()) => {}
                    Err(Error::Server(error)) if REFUSALS.contains(&error.code) => break,
                    Err(Error::Server(error)) => {
                        return Err(format!("{error} in {statement}").into());
                    }
                    Err(_) => break,
                }
            }
            match answer {
                Ok(()) => taken += 1,
                Err(Error::Server(_)) => {
                    if session.attempt("ROLLBACK").await.is_err() {
                        break;
                    }
                }
                Err(_) => break,
            }
            // A source that takes thousands a second is another test's affair.
            let pause = draw.random_range(1..20);
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
    }
    Ok(taken)
}

/// The tables of [`mixed`]: keys of several types, a unique key, none.
pub const MIXED_TABLES: &str = "
    CREATE TABLE orders (id INT PRIMARY KEY, customer INT, state ENUM('open','paid','sent') NOT NULL,
                         total DECIMAL(10,2), note VARCHAR(60), placed DATETIME(3), document JSON);
    CREATE TABLE codes (code VARCHAR(12) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci PRIMARY KEY,
                        n BIGINT UNSIGNED, body TEXT);
    CREATE TABLE pairs (a INT, b INT, v DOUBLE, PRIMARY KEY (a, b));
    CREATE TABLE uniques (v INT, k BINARY(4) NOT NULL UNIQUE, t TIME(3));
    CREATE TABLE logged (a INT, b VARCHAR(10));
    CREATE TABLE flags (id BIGINT UNSIGNED PRIMARY KEY, f BIT(1), s SET('x','y','z'), y YEAR, bytes BLOB)";

/// A transaction over the tables of [`MIXED_TABLES`]; seldom a change of a table.
pub fn mixed(draw: &mut StdRng) -> Vec<String> {
    if draw.random_bool(0.004) {
        let table = ["logged", "flags"][draw.random_range(0..2)];
        return vec![format!("TRUNCATE {table}")];
    }
    if draw.random_bool(0.004) {
        let table =
            ["orders", "codes", "pairs", "uniques", "logged", "flags"][draw.random_range(0..6)];
        // A name that is taken already is a duplicate that says nothing, so that it has a random one.
        let name = draw.random::<u32>();
        let default = draw.random_range(0..1000);
        return vec![format!(
            "ALTER TABLE {table} ADD COLUMN added_{name:08x} INT NOT NULL DEFAULT {default}"
        )];
    }
    let mut statements = vec!["BEGIN".to_owned()];
    for _ in 0..draw.random_range(1..6) {
        statements.extend(mixed_change(draw));
        if draw.random_bool(0.05) {
            statements.push("SAVEPOINT s".to_owned());
            statements.extend(mixed_change(draw));
            statements.push("ROLLBACK TO SAVEPOINT s".to_owned());
        }
    }
    let end = if draw.random_bool(0.1) {
        "ROLLBACK"
    } else {
        "COMMIT"
    };
    statements.push(end.to_owned());
    statements
}

fn mixed_change(draw: &mut StdRng) -> Vec<String> {
    match draw.random_range(0..6) {
        0 => orders_change(draw),
        1 => codes_change(draw),
        2 => pairs_change(draw),
        3 => uniques_change(draw),
        4 => vec![logged_change(draw)],
        _ => vec![flags_change(draw)],
    }
}

fn orders_change(draw: &mut StdRng) -> Vec<String> {
    let id = draw.random_range(0..300);
    let state = ["open", "paid", "sent"][draw.random_range(0..3)];
    let number = draw.random_range(-9999..9999);
    let row = format!(
        "({id}, {}, '{state}', {number}.25, 'note {number}', '2024-01-01' + INTERVAL {id} HOUR, \
         '{{\"n\": {number}, \"tags\": [\"a\", {id}]}}')",
        number % 10
    );
    let columns = "(id, customer, state, total, note, placed, document)";
    vec![match draw.random_range(0..8) {
        0 | 1 => format!("INSERT IGNORE INTO orders {columns} VALUES {row}"),
        2 => format!(
            "INSERT INTO orders {columns} VALUES {row} ON DUPLICATE KEY UPDATE total = total + 1, note = NULL"
        ),
        3 => format!("REPLACE INTO orders {columns} VALUES {row}"),
        4 => format!(
            "UPDATE orders SET state = '{state}', total = {number} WHERE id BETWEEN {id} AND {id} + 10"
        ),
        5 => format!(
            "UPDATE IGNORE orders SET id = {} WHERE id = {id}",
            draw.random_range(0..300)
        ),
        6 => {
            let other = draw.random_range(0..300);
            return vec![
                format!("UPDATE orders SET id = -1 - {id} WHERE id = {id}"),
                format!("UPDATE orders SET id = {id} WHERE id = {other}"),
                format!("UPDATE orders SET id = {other} WHERE id = -1 - {id}"),
            ];
        }
        _ => format!(
            "DELETE FROM orders WHERE id BETWEEN {id} AND {id} + {}",
            draw.random_range(0..5)
        ),
    }]
}

fn codes_change(draw: &mut StdRng) -> Vec<String> {
    let code = format!("Code{}", draw.random_range(0..60));
    let number = draw.random::<u64>();
    vec![match draw.random_range(0..6) {
        0 => format!("INSERT IGNORE INTO codes (code, n, body) VALUES ('{code}', {number}, 'ü😀')"),
        1 => format!(
            "REPLACE INTO codes (code, n, body) VALUES (UPPER('{code}'), {number}, REPEAT('x', 500))"
        ),
        2 => format!("UPDATE codes SET code = LOWER(code), n = {number} WHERE code = '{code}'"),
        3 => format!("UPDATE codes SET code = CONCAT(UPPER(code), '') WHERE code LIKE '{code}%'"),
        4 => format!(
            "UPDATE IGNORE codes SET code = 'Code{}' WHERE code = '{code}'",
            draw.random_range(0..60)
        ),
        _ => format!("DELETE FROM codes WHERE code = '{code}'"),
    }]
}

fn pairs_change(draw: &mut StdRng) -> Vec<String> {
    let (a, b) = (draw.random_range(0..15), draw.random_range(0..15));
    let number: f64 = draw.random();
    match draw.random_range(0..5) {
        0 => vec![format!(
            "REPLACE INTO pairs (a, b, v) VALUES ({a}, {b}, {number}), ({b}, {a}, NULL)"
        )],
        1 => vec![format!("UPDATE pairs SET v = {number} WHERE a = {a}")],
        2 => vec![format!(
            "UPDATE IGNORE pairs SET b = b + 1 WHERE a = {a} ORDER BY b DESC"
        )],
        3 => vec![
            format!("DELETE FROM pairs WHERE a = {a} AND b = {b}"),
            format!("INSERT INTO pairs (a, b, v) VALUES ({a}, {b}, {number})"),
        ],
        _ => vec![format!("DELETE FROM pairs WHERE b = {b}")],
    }
}

fn uniques_change(draw: &mut StdRng) -> Vec<String> {
    let key = draw.random_range(0..80);
    let value = draw.random_range(-3_000_000..3_000_000);
    vec![match draw.random_range(0..5) {
        0 | 1 => format!(
            "INSERT IGNORE INTO uniques (v, k, t) VALUES ({value}, UNHEX(LPAD('{key}', 4, '0')), SEC_TO_TIME({value}))"
        ),
        2 => format!(
            "UPDATE uniques SET v = v + 1, t = NULL WHERE k = CAST(UNHEX(LPAD('{key}', 4, '0')) AS BINARY(4))"
        ),
        3 => format!(
            "UPDATE IGNORE uniques SET k = UNHEX(LPAD('{}', 4, '0')) WHERE v > {value} LIMIT 1",
            draw.random_range(0..80)
        ),
        _ => format!("DELETE FROM uniques WHERE v > {value} LIMIT 2"),
    }]
}

fn logged_change(draw: &mut StdRng) -> String {
    let number = draw.random_range(0..8);
    match draw.random_range(0..5) {
        0 | 1 => format!(
            "INSERT INTO logged (a, b) VALUES ({number}, 'x'), ({number}, 'x'), (NULL, 'y')"
        ),
        2 => format!("DELETE FROM logged WHERE a = {number} LIMIT 1"),
        3 => format!("UPDATE logged SET b = 'z{number}' WHERE a = {number} LIMIT 2"),
        _ => "DELETE FROM logged WHERE a IS NULL LIMIT 1".to_owned(),
    }
}

fn flags_change(draw: &mut StdRng) -> String {
    let id = draw.random_range(0..40);
    let id = format!("(18446744073709551615 - {id})");
    let set = draw.random_range(0..8);
    match draw.random_range(0..4) {
        0 | 1 => format!(
            "INSERT INTO flags (id, f, s, y, bytes) VALUES ({id}, {}, {set}, {}, REPEAT(x'00FF', {set}))
             ON DUPLICATE KEY UPDATE s = {set}, f = NOT f",
            set % 2,
            2000 + set
        ),
        2 => format!("UPDATE flags SET bytes = NULL, y = 0 WHERE id >= {id} LIMIT {}", set + 1),
        _ => format!("DELETE FROM flags WHERE id = {id}"),
    }
}

/// The tables of [`moving`].
pub const LARGE_TABLES: &str = "
    CREATE TABLE large (id INT PRIMARY KEY, v INT, pad VARCHAR(60));
    CREATE TABLE large_text (k VARCHAR(24) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci PRIMARY KEY, v INT)";

/// How far apart the ids of `large` begin: there is room between them.
pub const ID_STEP: usize = 10;

/// The ids that [`moving`] draws from.
const MOVING_IDS: usize = 25_000 * ID_STEP;

/// Changes of rows and of keys all over the tables of [`LARGE_TABLES`], so that rows pass from the part that
/// was read to the part that was not, and back.
pub fn moving(draw: &mut StdRng) -> Vec<String> {
    let from = draw.random_range(0..MOVING_IDS);
    let to = draw.random_range(0..MOVING_IDS);
    let number = draw.random_range(0..1_000_000);
    let key = format!("Key-{:08}", from / ID_STEP);
    let change = match draw.random_range(0..9) {
        0 => format!("UPDATE large SET v = {number} WHERE id BETWEEN {from} AND {from} + 200"),
        1 => {
            format!("UPDATE large SET pad = CONCAT('p', v) WHERE id BETWEEN {from} AND {from} + 40")
        }
        2 => format!("DELETE FROM large WHERE id BETWEEN {from} AND {from} + 100"),
        3 => {
            format!("REPLACE INTO large VALUES ({from}, {number}, 'new'), ({to}, {number}, 'new')")
        }
        4 => format!(
            "UPDATE IGNORE large SET id = {to} + id - {from} WHERE id BETWEEN {from} AND {from} + 30"
        ),
        5 => format!("UPDATE large_text SET v = {number} WHERE k >= '{key}' ORDER BY k LIMIT 20"),
        6 => format!(
            "UPDATE large_text SET k = UPPER(k), v = v + 1 WHERE k >= '{key}' ORDER BY k LIMIT 5"
        ),
        7 => format!(
            "UPDATE IGNORE large_text SET k = 'kEY-{:08}x' WHERE k = '{key}'",
            to / ID_STEP
        ),
        _ => format!("DELETE FROM large_text WHERE k >= '{key}' ORDER BY k LIMIT 5"),
    };
    let back = format!("INSERT IGNORE INTO large_text VALUES ('{key}', {number})");
    vec!["BEGIN".to_owned(), change, back, "COMMIT".to_owned()]
}
