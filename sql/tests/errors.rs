//! What does not parse is said in PostgreSQL's words, with its code and place.

#![allow(clippy::unwrap_used)]

use std::fmt::Write as _;

use boathouse_sql::parse;
use expect_test::{Expect, expect};

fn check(statements: &[&str], expected: Expect) {
    let mut found = String::new();
    for sql in statements {
        match parse(sql) {
            Ok(_) => writeln!(found, "{sql}\n  parsed").unwrap(),
            Err(error) => {
                let position = error
                    .position
                    .map_or("-".to_owned(), |place| place.to_string());
                let hint = error
                    .hint
                    .map_or(String::new(), |hint| format!(" ({hint})"));
                writeln!(
                    found,
                    "{sql}\n  {} at {position}: {}{hint}",
                    error.sqlstate, error.message
                )
                .unwrap();
            }
        }
    }
    expected.assert_eq(&found);
}

#[test]
fn a_text_is_no_name() {
    check(
        &[
            "SELECT 1 AS 'one'",
            "SELECT 1 FROM t AS 'two'",
            "SELECT (SELECT 2 'x')",
        ],
        expect![[r#"
            SELECT 1 AS 'one'
              42601 at -: syntax error at or near "'one'" (a name stands in double quotes, or in none)
            SELECT 1 FROM t AS 'two'
              42601 at -: syntax error at or near "'two'" (a name stands in double quotes, or in none)
            SELECT (SELECT 2 'x')
              42601 at -: syntax error at or near "'x'" (a name stands in double quotes, or in none)
        "#]],
    );
}

#[test]
fn syntax_errors_name_the_word_and_its_place() {
    check(
        &[
            "SELECT * frm t",
            "selct 1",
            "SELECT 1 +",
            "SELECT (1",
            "SELECT 1)",
            "SELECT 'ü', 1 FROM WHERE",
            "SELECT\n  1 FROM\n  t WHER x",
            "SELECT 'abc",
            "SELECT \"abc",
            "SELECT $$abc",
            "SELECT 1 /* x",
            "SELECT \"\"",
            "SELECT 1a",
            "SELECT 1; SELECT 2 FROM; SELECT 3",
            "INSERT INTO t VALUES (1",
            "INSERT t VALUES (1)",
            "CREATE TABLE t (a int,)",
            "CREATE TABLE t (a nothing)",
            "CREATE TABLE t",
            "CREATE TABLE select (a int)",
            "CREATE TABLE t (a int, a text)",
            "CREATE TABLE t (a int PRIMARY KEY, PRIMARY KEY (a))",
            "CREATE TABLE a.b.c.d (a int)",
            "GRANT SELECT, FLY ON t TO bob",
            "GRANT USAGE ON t TO bob",
            "CREATE ROLE r FLYING",
            "CREATE ROLE r LOGIN NOLOGIN",
            "EXPLAIN (WHAT) SELECT 1",
            "BEGIN ISOLATION LEVEL CHAOS",
            "SET x",
            "FETCH",
            "\"select\" 1",
            "'x'",
        ],
        expect![[r#"
            SELECT * frm t
              42601 at 10: syntax error at or near "frm"
            selct 1
              42601 at 1: syntax error at or near "selct"
            SELECT 1 +
              42601 at 11: syntax error at end of input
            SELECT (1
              42601 at 10: syntax error at end of input
            SELECT 1)
              42601 at 9: syntax error at or near ")"
            SELECT 'ü', 1 FROM WHERE
              42601 at 20: syntax error at or near "WHERE"
            SELECT
              1 FROM
              t WHER x
              42601 at 26: syntax error at or near "x"
            SELECT 'abc
              42601 at 8: unterminated quoted string at or near "'abc"
            SELECT "abc
              42601 at 8: unterminated quoted identifier at or near ""abc"
            SELECT $$abc
              42601 at 8: unterminated dollar-quoted string at or near "$$abc"
            SELECT 1 /* x
              42601 at 10: unterminated /* comment at or near "/* x"
            SELECT ""
              42601 at 8: zero-length delimited identifier at or near """"
            SELECT 1a
              42601 at 8: trailing junk after numeric literal at or near "1a"
            SELECT 1; SELECT 2 FROM; SELECT 3
              42601 at 24: syntax error at end of input
            INSERT INTO t VALUES (1
              42601 at 24: syntax error at end of input
            INSERT t VALUES (1)
              42601 at 8: syntax error at or near "t"
            CREATE TABLE t (a int,)
              42601 at 23: syntax error at or near ")"
            CREATE TABLE t (a nothing)
              42704 at 19: type "nothing" does not exist
            CREATE TABLE t
              42601 at 15: syntax error at end of input
            CREATE TABLE select (a int)
              42601 at 14: syntax error at or near "select"
            CREATE TABLE t (a int, a text)
              42701 at -: column "a" specified more than once
            CREATE TABLE t (a int PRIMARY KEY, PRIMARY KEY (a))
              42P16 at -: multiple primary keys for table "t" are not allowed
            CREATE TABLE a.b.c.d (a int)
              42601 at 19: improper qualified name (too many dotted names)
            GRANT SELECT, FLY ON t TO bob
              42601 at 15: unrecognized privilege type "fly"
            GRANT USAGE ON t TO bob
              0LP01 at 7: invalid privilege type USAGE for table
            CREATE ROLE r FLYING
              42601 at 15: unrecognized role option "flying"
            CREATE ROLE r LOGIN NOLOGIN
              42601 at 21: conflicting or redundant options
            EXPLAIN (WHAT) SELECT 1
              42601 at 9: unrecognized EXPLAIN option "what"
            BEGIN ISOLATION LEVEL CHAOS
              42601 at 23: syntax error at or near "CHAOS"
            SET x
              42601 at 6: syntax error at end of input
            FETCH
              42601 at 6: syntax error at end of input
            "select" 1
              42601 at 1: syntax error at or near ""select""
            'x'
              42601 at 1: syntax error at or near "'x'"
        "#]],
    );
}

#[test]
fn what_is_understood_and_not_done_is_refused_by_name() {
    check(
        &[
            "CREATE INDEX i ON t (a)",
            "CREATE UNIQUE INDEX i ON t (a)",
            "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'select 1'",
            "CREATE MATERIALIZED VIEW v AS SELECT 1",
            "CREATE TABLE t (a serial)",
            "CREATE TABLE t (a int GENERATED ALWAYS AS IDENTITY)",
            "CREATE TABLE t (a int) PARTITION BY RANGE (a)",
            "CREATE TABLE t (a int) INHERITS (u)",
            "CREATE TABLE t (a int UNIQUE DEFERRABLE)",
            "ALTER TABLE t ENABLE ROW LEVEL SECURITY",
            "CREATE POLICY p ON t",
            "DO $$ begin end $$",
            "CALL f()",
            "SELECT 1 INTO t",
            "SELECT a FROM t FOR UPDATE",
            "WITH x AS (DELETE FROM t RETURNING *) SELECT * FROM x",
            "COPY t FROM PROGRAM 'ls'",
            "PREPARE TRANSACTION 'x'",
            "CREATE VIEW v AS SELECT 1 WITH CHECK OPTION",
            "SET CONSTRAINTS ALL DEFERRED",
            "EXPLAIN CREATE SCHEMA s",
        ],
        expect![[r#"
            CREATE INDEX i ON t (a)
              0A000 at 1: CREATE INDEX is not supported
            CREATE UNIQUE INDEX i ON t (a)
              0A000 at 1: CREATE INDEX is not supported
            CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'select 1'
              0A000 at 1: CREATE FUNCTION is not supported
            CREATE MATERIALIZED VIEW v AS SELECT 1
              0A000 at 1: CREATE MATERIALIZED VIEW is not supported
            CREATE TABLE t (a serial)
              0A000 at 19: type "serial" is not supported (use integer or bigint, and give the values: a lake table has no sequence)
            CREATE TABLE t (a int GENERATED ALWAYS AS IDENTITY)
              0A000 at 23: a generated or identity column is not supported (compute the value in the query or pipeline that fills the table)
            CREATE TABLE t (a int) PARTITION BY RANGE (a)
              0A000 at 37: PARTITION BY RANGE is not supported (write PARTITION BY (column, ...): each value gets its own folder)
            CREATE TABLE t (a int) INHERITS (u)
              0A000 at 33: CREATE TABLE ... INHERITS is not supported
            CREATE TABLE t (a int UNIQUE DEFERRABLE)
              0A000 at 30: DEFERRABLE for a constraint is not supported
            ALTER TABLE t ENABLE ROW LEVEL SECURITY
              0A000 at 15: ALTER TABLE ... ENABLE is not supported
            CREATE POLICY p ON t
              0A000 at 1: CREATE POLICY is not supported
            DO $$ begin end $$
              0A000 at 1: DO is not supported
            CALL f()
              0A000 at 1: CALL is not supported
            SELECT 1 INTO t
              0A000 at -: SELECT INTO is not supported (write CREATE TABLE name AS SELECT ...)
            SELECT a FROM t FOR UPDATE
              0A000 at -: FOR UPDATE or FOR SHARE is not supported
            WITH x AS (DELETE FROM t RETURNING *) SELECT * FROM x
              0A000 at -: INSERT, UPDATE, DELETE or MERGE within a query is not supported
            COPY t FROM PROGRAM 'ls'
              0A000 at 13: COPY PROGRAM is not supported
            PREPARE TRANSACTION 'x'
              0A000 at 9: PREPARE TRANSACTION is not supported
            CREATE VIEW v AS SELECT 1 WITH CHECK OPTION
              0A000 at 27: WITH CHECK OPTION is not supported
            SET CONSTRAINTS ALL DEFERRED
              0A000 at 5: SET CONSTRAINTS is not supported
            EXPLAIN CREATE SCHEMA s
              0A000 at 9: EXPLAIN CREATE SCHEMA is not supported
        "#]],
    );
}

#[test]
fn pipelines_are_held_to_their_clauses() {
    check(
        &[
            "CREATE PIPELINE p",
            "CREATE PIPELINE p INTO t",
            "CREATE PIPELINE p FROM FILES inbox '*.csv'",
            "CREATE PIPELINE p FROM FILES inbox INTO t",
            "CREATE PIPELINE p FROM FTP inbox '*.csv' INTO t",
            "CREATE PIPELINE p FROM FILES inbox '*' INTO t INTO u",
            "CREATE PIPELINE p FROM FILES inbox '*' INTO t AS SELECT a FROM source WHERE EXPECT x CHECK (a) ON VIOLATION DROP",
            "CREATE PIPELINE p FROM FILES inbox '*' INTO t EXPECT x CHECK (a) ON VIOLATION EXPLODE",
            "CREATE PIPELINE p FROM FILES inbox '*' INTO t EXPECT x CHECK (a) ON VIOLATION DROP EXPECT x CHECK (b) ON VIOLATION DROP",
            "CREATE PIPELINE p FROM FILES inbox '*' INTO t SCHEDULE EVERY INTERVAL '1 month'",
            "CREATE PIPELINE p FROM FILES inbox '*' INTO t SCHEDULE EVERY INTERVAL '0 seconds'",
            "CREATE PIPELINE p FROM FILES inbox '*' INTO t SCHEDULE CRON '61 * * * *'",
            "CREATE PIPELINE p FROM FILES inbox '*' INTO t SCHEDULE CRON '0 2 * * *' TIME ZONE 'Mars/Olympus'",
            "CREATE PIPELINE p FROM FILES inbox '*' INTO t WITH (a = )",
        ],
        expect![[r#"
            CREATE PIPELINE p
              42601 at 18: syntax error at end of input (say where the rows go: INTO schema.table)
            CREATE PIPELINE p INTO t
              42601 at 25: syntax error at end of input (say where the rows come from: FROM FILES ..., or AS SELECT ...)
            CREATE PIPELINE p FROM FILES inbox '*.csv'
              42601 at 43: syntax error at end of input (say where the rows go: INTO schema.table)
            CREATE PIPELINE p FROM FILES inbox INTO t
              42601 at 36: syntax error at or near "INTO"
            CREATE PIPELINE p FROM FTP inbox '*.csv' INTO t
              42601 at 24: syntax error at or near "FTP"
            CREATE PIPELINE p FROM FILES inbox '*' INTO t INTO u
              42601 at 47: syntax error at or near "INTO" (this clause is given twice)
            CREATE PIPELINE p FROM FILES inbox '*' INTO t AS SELECT a FROM source WHERE EXPECT x CHECK (a) ON VIOLATION DROP
              42601 at 77: syntax error at or near "EXPECT"
            CREATE PIPELINE p FROM FILES inbox '*' INTO t EXPECT x CHECK (a) ON VIOLATION EXPLODE
              42601 at 79: syntax error at or near "EXPLODE"
            CREATE PIPELINE p FROM FILES inbox '*' INTO t EXPECT x CHECK (a) ON VIOLATION DROP EXPECT x CHECK (b) ON VIOLATION DROP
              42710 at 84: expectation "x" is given more than once
            CREATE PIPELINE p FROM FILES inbox '*' INTO t SCHEDULE EVERY INTERVAL '1 month'
              22023 at 62: "1 month" is not an interval a schedule can have (such as '30 seconds', '10 minutes', '1 hour 30 minutes', '1 day', '1 week')
            CREATE PIPELINE p FROM FILES inbox '*' INTO t SCHEDULE EVERY INTERVAL '0 seconds'
              22023 at 62: "0 seconds" is not an interval a schedule can have (such as '30 seconds', '10 minutes', '1 hour 30 minutes', '1 day', '1 week')
            CREATE PIPELINE p FROM FILES inbox '*' INTO t SCHEDULE CRON '61 * * * *'
              22023 at 61: "61 * * * *" is not a cron expression: Component error: Number out of bounds. (five fields: minute, hour, day of month, month, day of week)
            CREATE PIPELINE p FROM FILES inbox '*' INTO t SCHEDULE CRON '0 2 * * *' TIME ZONE 'Mars/Olympus'
              22023 at 83: time zone "Mars/Olympus" not recognized
            CREATE PIPELINE p FROM FILES inbox '*' INTO t WITH (a = )
              42601 at 57: syntax error at or near ")"
        "#]],
    );
}

#[test]
fn copy_options_are_held_to_postgresqls_rules() {
    check(
        &[
            "COPY t FROM STDIN (FORMAT xml)",
            "COPY t FROM STDIN (DELIMITER ',,')",
            "COPY t FROM STDIN (QUOTE 'x')",
            "COPY t FROM STDIN (FORMAT csv, FORMAT text)",
            "COPY t FROM STDIN (FORMAT parquet)",
            "COPY t FROM STDIN (SPEED 3)",
            "COPY t FROM STDIN (FORMAT binary, HEADER)",
            "COPY t TO STDOUT (FORMAT csv, FORCE_NULL (a))",
            "COPY (SELECT 1) FROM STDIN",
            "COPY t FROM STDIN (FORMAT csv, QUOTE ',')",
        ],
        expect![[r#"
            COPY t FROM STDIN (FORMAT xml)
              22023 at 19: COPY format "xml" not recognized
            COPY t FROM STDIN (DELIMITER ',,')
              22023 at 19: COPY delimiter must be a single one-byte character
            COPY t FROM STDIN (QUOTE 'x')
              0A000 at 19: COPY QUOTE requires CSV mode
            COPY t FROM STDIN (FORMAT csv, FORMAT text)
              42601 at 19: conflicting or redundant option "format"
            COPY t FROM STDIN (FORMAT parquet)
              0A000 at 19: COPY format "parquet" is for files only (name a file or URL, or use text, csv or binary)
            COPY t FROM STDIN (SPEED 3)
              42601 at 19: option "speed" not recognized
            COPY t FROM STDIN (FORMAT binary, HEADER)
              42601 at 19: cannot specify HEADER in BINARY mode
            COPY t TO STDOUT (FORMAT csv, FORCE_NULL (a))
              0A000 at 18: COPY FORCE_NULL cannot be used with COPY TO
            COPY (SELECT 1) FROM STDIN
              42601 at 22: COPY FROM needs a table, not a query
            COPY t FROM STDIN (FORMAT csv, QUOTE ',')
              22023 at 19: COPY delimiter and quote must be different
        "#]],
    );
}
