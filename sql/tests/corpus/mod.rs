//! Valid statements, shared by the tests.

const POSTGRESQL: &str = include_str!("postgresql.sql");
const BOATHOUSE: &str = include_str!("boathouse.sql");

/// What psql 15 asks for its `\d` family.
const PSQL: &str = include_str!("psql.sql");

/// What programs send.
#[allow(dead_code)]
pub fn program_queries() -> Vec<&'static str> {
    PSQL.split(";\n")
        .filter(|statement| !statement.trim().is_empty())
        .collect()
}

/// Every statement of the corpus: a `;` ends one where a line ends.
pub fn statements() -> Vec<&'static str> {
    [POSTGRESQL, BOATHOUSE]
        .into_iter()
        .flat_map(|file| file.split(";\n"))
        .filter(|statement| !statement.trim().is_empty())
        .collect()
}
