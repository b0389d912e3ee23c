//! Identifiers fold and are cut as in PostgreSQL, in our structures and in queries alike.

#![allow(clippy::unwrap_used)]

use boathouse_sql::name::{quote_identifier, quote_literal};
use boathouse_sql::{Statement, parse, redact_unparsed};

fn text(sql: &str) -> String {
    parse(sql).unwrap().remove(0).statement.to_string()
}

#[test]
fn unquoted_names_are_lower_case_and_quoted_ones_are_kept() {
    assert_eq!(
        text(r#"DROP TABLE Public.Orders, "Public"."Orders", "order", ÄrGER"#),
        r#"DROP TABLE public.orders, "Public"."Orders", "order", "Ärger""#,
    );
    assert_eq!(
        text(r#"SELECT A, "A", T.B FROM T"#),
        r#"SELECT a, "A", t.b FROM t"#
    );
}

#[test]
fn names_are_cut_at_63_bytes_without_cutting_a_character() {
    let long = "a".repeat(70);
    assert_eq!(
        text(&format!("DROP TABLE {long}")),
        format!("DROP TABLE {}", "a".repeat(63))
    );
    let wide = format!("{}é", "a".repeat(62));
    assert_eq!(
        text(&format!("DROP TABLE \"{wide}\"")),
        format!("DROP TABLE {}", "a".repeat(62))
    );
    assert_eq!(
        text(&format!("SELECT {long}")),
        format!("SELECT {}", "a".repeat(63))
    );
}

#[test]
fn quoting_gives_text_that_reads_as_the_same_name() {
    for (name, quoted) in [
        ("a", "a"),
        ("a b", "\"a b\""),
        ("A", "\"A\""),
        ("select", "\"select\""),
        ("a\"b", "\"a\"\"b\""),
        ("1a", "\"1a\""),
        ("é", "\"é\""),
    ] {
        assert_eq!(quote_identifier(name), quoted);
        let Statement::DropTable(drop) = parse(&format!("DROP TABLE {quoted}"))
            .unwrap()
            .remove(0)
            .statement
        else {
            panic!("not a DROP TABLE");
        };
        assert_eq!(drop.names[0].name, name);
    }
    assert_eq!(quote_literal(r"it's a \ "), r"E'it''s a \\ '");
}

#[test]
fn secrets_do_not_reach_the_log() {
    for (sql, logged) in [
        ("CREATE SECRET s AS 'hidden'", "CREATE SECRET s AS '***'"),
        ("ALTER SECRET s AS $$hidden$$", "ALTER SECRET s AS '***'"),
        (
            "create user a password 'hidden' login",
            "create user a password '***' login",
        ),
        (
            "ALTER ROLE a ENCRYPTED PASSWORD E'hid\\'den'",
            "ALTER ROLE a ENCRYPTED PASSWORD '***'",
        ),
        (
            "CREATE CONNECTION c TO S3 WITH (bucket = 'b', secret_access_key = 'hidden', password = SECRET s)",
            "CREATE CONNECTION c TO S3 WITH (bucket = 'b', secret_access_key = '***', password = SECRET s)",
        ),
        ("SELECT 'shown'", "SELECT 'shown'"),
        ("EXPLAIN SELECT 'shown'", "EXPLAIN SELECT 'shown'"),
    ] {
        let parsed = parse(sql).unwrap().remove(0);
        assert_eq!(parsed.redacted(), logged);
        assert!(!format!("{:?}", parsed.statement).contains("hidden") || sql.contains("key"));
    }
}

#[test]
fn secrets_of_what_does_not_parse_do_not_reach_the_log_either() {
    for (sql, logged) in [
        ("CRATE SECRET s AS 'hidden'", "CRATE SECRET s AS '***'"),
        (
            "ALTER USER a PASWORD 'x' PASSWORD 'hidden'",
            "ALTER USER a PASWORD 'x' PASSWORD '***'",
        ),
        ("CREATE SECRET s AS 'hidden", "'***'"),
        ("SELECT 'shown' FRM t", "SELECT 'shown' FRM t"),
    ] {
        assert_eq!(redact_unparsed(sql), logged);
    }
}
