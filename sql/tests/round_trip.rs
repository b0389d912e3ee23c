//! What is parsed and written as text parses back to the same.

#![allow(clippy::unwrap_used)]

mod corpus;

use boathouse_sql::{Statement, parse};

/// What is wrong with a statement's round trip, if anything.
fn difference(sql: &str) -> Option<String> {
    let describe = |error| format!("{error:?}\n  {sql}");
    let statement = match parse(sql) {
        Ok(mut statements) if statements.len() == 1 => statements.remove(0).statement,
        Ok(statements) => return Some(format!("{} statements\n  {sql}", statements.len())),
        Err(error) => return Some(describe(error)),
    };
    let text = statement.to_string();
    let again = match parse(&text) {
        Ok(mut statements) => statements.remove(0).statement,
        Err(error) => return Some(format!("{}\n  {text}", describe(error))),
    };
    let equal = match (&statement, &again) {
        // The text kept inside differs in its spelling only.
        (Statement::Prepare(first), Statement::Prepare(second)) => {
            first.statement == second.statement
        }
        _ => statement == again,
    };
    if equal && text == again.to_string() {
        None
    } else {
        Some(format!("{sql}\n  {text}"))
    }
}

#[test]
fn the_text_of_every_statement_parses_back_to_an_equal_statement() {
    let differences: Vec<String> = corpus::statements()
        .into_iter()
        .filter_map(difference)
        .collect();
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn what_programs_ask_the_catalog_parses() {
    let differences: Vec<String> = corpus::program_queries()
        .into_iter()
        .filter_map(difference)
        .collect();
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn a_query_string_is_split_into_its_statements_with_their_own_text() {
    let sql = "/* ü */ select ';' ;; -- x;\n select $$;$$\n;/* ; */ commit";
    let found: Vec<(String, usize)> = parse(sql)
        .unwrap()
        .into_iter()
        .map(|parsed| (parsed.text, parsed.start))
        .collect();
    assert_eq!(
        found,
        [
            ("select ';'".to_owned(), 8),
            ("select $$;$$".to_owned(), 29),
            ("commit".to_owned(), 51)
        ]
    );
    for empty in ["", " ", ";", "-- nothing", ";;/* */;\n"] {
        assert_eq!(parse(empty).unwrap(), []);
    }
}
