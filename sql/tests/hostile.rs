//! No text ends the process: not a deep one, not a broken one.

#![allow(clippy::unwrap_used)]

mod corpus;

use boathouse_sql::{STACK_BYTES_MIN, parse};

/// Runs on a thread like the server's.
fn on_a_thread(test: fn()) {
    std::thread::Builder::new()
        .stack_size(STACK_BYTES_MIN)
        .spawn(test)
        .unwrap()
        .join()
        .unwrap();
}

/// The same numbers for the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 11).unwrap() % limit.max(1)
    }
}

/// One to four things done to a valid statement that no person would do.
fn mutate(random: &mut Random, statements: &[&str]) -> String {
    const PIECES: &[&str] = &[
        "(",
        ")",
        "'",
        "\"",
        "$$",
        "/*",
        "--",
        ";",
        ",",
        ".",
        "::",
        "[",
        "]",
        "\u{0}",
        "ü",
        "\n",
        "SELECT",
        "FROM",
        "NOT",
        "AS",
        "WITH",
        "CASE",
        "INTERVAL",
        "E'\\",
        "U&'\\",
        "$1",
        "1e",
        "?",
        "FOR VERSION AS OF",
        "-",
        "\\",
        "{",
        "}",
        "@",
        "#",
        "\u{feff}",
        "𝕊",
        "X'",
        "B'1",
    ];
    let statement = statements[random.below(statements.len())];
    let mut characters: Vec<char> = statement.chars().collect();
    for _ in 0..=random.below(4) {
        let start = random.below(characters.len() + 1);
        let end = (start + random.below(12)).min(characters.len());
        match random.below(5) {
            0 => drop(characters.drain(start..end)),
            1 => characters.truncate(start),
            2 => {
                let again = characters[start..end].to_vec();
                characters.splice(start..start, again);
            }
            3 => {
                let other: Vec<char> = statements[random.below(statements.len())].chars().collect();
                let from = random.below(other.len());
                characters.splice(start..end, other[from..].iter().copied());
            }
            _ => {
                let piece = PIECES[random.below(PIECES.len())];
                characters.splice(start..start, piece.chars());
            }
        }
    }
    characters.into_iter().collect()
}

#[test]
fn ten_thousand_broken_statements_are_answered() {
    let statements = corpus::statements();
    let mut random = Random(0x0b0a_7400_5e11);
    let mut refused = 0;
    for _ in 0..10_000 {
        let sql = mutate(&mut random, &statements);
        match parse(&sql) {
            Ok(parsed) => {
                for statement in parsed {
                    let text = statement.statement.to_string();
                    let again = parse(&text).unwrap_or_else(|error| {
                        panic!("{error:?}\n  {}\n  {text}", statement.text)
                    });
                    assert_eq!(again.len(), 1, "{sql}\n  {text}");
                    assert_eq!(again[0].statement.to_string(), text, "{sql}");
                    let _ = statement.redacted();
                }
            }
            Err(error) => {
                refused += 1;
                let length = sql.chars().count();
                assert!(!error.message.is_empty());
                assert!(
                    error
                        .position
                        .is_none_or(|place| (1..=length + 1).contains(&place))
                );
            }
        }
    }
    assert!(refused > 5_000, "only {refused} were refused");
}

#[test]
fn what_nests_too_deeply_is_refused_and_what_is_long_is_not() {
    on_a_thread(deep_and_long);
}

fn deep_and_long() {
    let repeat = |count: usize, before: &str, middle: &str, after: &str| {
        format!("{}{middle}{}", before.repeat(count), after.repeat(count))
    };
    for sql in [
        format!("SELECT {}", repeat(10_000, "(", "1", ")")),
        format!("SELECT * FROM {}", repeat(10_000, "(", "t", ")")),
        format!("SELECT {}", repeat(10_000, "f(", "1", ")")),
        format!("SELECT {}", repeat(10_000, "ARRAY[", "1", "]")),
        format!(
            "SELECT {}",
            repeat(10_000, "CASE WHEN ", "true", " THEN 1 END")
        ),
        format!("SELECT {}", repeat(10_000, "NOT ", "true", "")),
        format!("SELECT {}", repeat(10_000, "- ", "1", "")),
        format!("SELECT 1{}", " + 1".repeat(10_000)),
        format!("SELECT a{}", " IS DISTINCT FROM b".repeat(10_000)),
        format!("SELECT 1{}", "::int".repeat(10_000)),
        format!("SELECT a{}", "[1]".repeat(10_000)),
        format!("SELECT 1{}", " UNION SELECT 1".repeat(10_000)),
        format!(
            "{}SELECT 1{}",
            "SELECT * FROM (".repeat(10_000),
            ") t".repeat(10_000)
        ),
        format!(
            "{}SELECT 1{}",
            "WITH a AS (".repeat(10_000),
            ") SELECT 1".repeat(10_000)
        ),
        "EXPLAIN SELECT 1".to_owned() + &" UNION SELECT 1".repeat(10_000),
        format!(
            "CREATE TABLE t (a int DEFAULT {})",
            repeat(10_000, "(", "1", ")")
        ),
        format!(
            "CREATE CONNECTION c TO S3 WITH (a = {})",
            repeat(10_000, "(", "1", ")")
        ),
        "(".repeat(10_000),
    ] {
        let error = parse(&sql).unwrap_err();
        assert_eq!(error.sqlstate, "54001", "{}: {error:?}", &sql[..40]);
    }
    for sql in [
        format!("SELECT {}", repeat(150, "(", "1", ")")),
        format!(
            "SELECT * FROM {}a{}",
            "(".repeat(190),
            " CROSS JOIN b)".repeat(190)
        ),
        format!("SELECT 1{}", " + 1".repeat(1_900)),
        format!("SELECT a{}", " IS NOT NULL".repeat(900)),
        format!("SELECT 1{}", " UNION SELECT 1".repeat(490)),
        format!(
            "SELECT * FROM {}a{}",
            "(SELECT * FROM ".repeat(190),
            ") t".repeat(190)
        ),
        format!("SELECT {}true", "NOT ".repeat(900)),
        format!("SELECT a FROM t WHERE a = 1{}", " OR a = 1".repeat(900)),
        format!("SELECT a FROM t WHERE a IN (1{})", ", -1".repeat(100_000)),
        format!(
            "INSERT INTO t VALUES (1, 'a'){}",
            ", (-1, 'b')".repeat(50_000)
        ),
        format!(
            "SELECT CASE WHEN a = 0 THEN 0{} END",
            " WHEN a = 1 THEN 1".repeat(3_000)
        ),
        format!("SELECT a{}", ", a + 1".repeat(10_000)),
    ] {
        let parsed = parse(&sql).unwrap_or_else(|error| panic!("{}: {error:?}", &sql[..40]));
        let text = parsed[0].statement.to_string();
        assert_eq!(parse(&text).unwrap()[0].statement, parsed[0].statement);
        assert_eq!(parsed[0].clone(), parsed[0]);
        assert!(!format!("{parsed:?}").is_empty());
    }
}

#[test]
fn what_is_wrong_deep_down_is_found_without_trying_every_way() {
    on_a_thread(wrong_deep_down);
}

fn wrong_deep_down() {
    let started = std::time::Instant::now();
    for sql in [
        format!("SELECT * FROM {}t{}", "(".repeat(190), ")".repeat(190)),
        format!("SELECT * FROM {}a JOIN", "(".repeat(190)),
        format!("SELECT {}1", "(".repeat(190)),
        format!("SELECT {}", "f(a => (".repeat(90)),
        format!("SELECT {}", "INTERVAL (".repeat(190)),
        format!("SELECT {}", "a IN (".repeat(190)),
        format!("SELECT {}", "x[".repeat(190)),
        format!("SELECT {}", "CASE WHEN (".repeat(90)),
        format!("SELECT * FROM {}", "(SELECT * FROM ".repeat(190)),
        format!("SELECT * FROM {}", "f((SELECT ".repeat(90)),
        "WITH a AS (".repeat(190),
        format!("SELECT {}", "EXISTS (".repeat(190)),
        format!("SELECT {}", "CAST(".repeat(190)),
        format!("SELECT {}", "date (".repeat(190)),
    ] {
        assert!(parse(&sql).is_err());
        assert!(started.elapsed().as_secs() < 20, "{}", &sql[..40]);
    }
}

#[test]
fn explain_in_explain_is_refused() {
    for sql in ["EXPLAIN ".repeat(10_000), "PREPARE a AS ".repeat(10_000)] {
        assert!(parse(&(sql + "SELECT 1")).is_err());
    }
}
