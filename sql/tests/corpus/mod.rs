//! Valid statements, shared by the tests.

const POSTGRESQL: &str = include_str!("postgresql.sql");
const BOATHOUSE: &str = include_str!("boathouse.sql");

/// Every statement of the corpus: a `;` ends one where a line ends.
pub fn statements() -> Vec<&'static str> {
    [POSTGRESQL, BOATHOUSE]
        .into_iter()
        .flat_map(|file| file.split(";\n"))
        .filter(|statement| !statement.trim().is_empty())
        .collect()
}
