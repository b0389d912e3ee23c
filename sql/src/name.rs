//! Names: how PostgreSQL folds, cuts and quotes them.

use std::fmt;

/// PostgreSQL keeps this many bytes of an identifier.
pub const IDENTIFIER_BYTES_MAX: usize = 63;

/// The name of a relation or another object that lives in a schema, as far as it was given.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QualifiedName {
    pub catalog: Option<String>,
    pub schema: Option<String>,
    pub name: String,
}

impl QualifiedName {
    /// A name without a schema.
    pub fn bare(name: impl Into<String>) -> Self {
        Self {
            catalog: None,
            schema: None,
            name: name.into(),
        }
    }

    /// A name in a schema.
    pub fn in_schema(schema: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            catalog: None,
            schema: Some(schema.into()),
            name: name.into(),
        }
    }
}

impl fmt::Display for QualifiedName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in [&self.catalog, &self.schema].into_iter().flatten() {
            write!(formatter, "{}.", quote_identifier(part))?;
        }
        formatter.write_str(&quote_identifier(&self.name))
    }
}

/// Folds an unquoted identifier: ASCII letters to lower case, cut to [`IDENTIFIER_BYTES_MAX`].
pub fn fold_identifier(written: &str) -> String {
    truncate_identifier(&written.to_ascii_lowercase()).to_owned()
}

/// The first [`IDENTIFIER_BYTES_MAX`] bytes, never cutting a character.
pub fn truncate_identifier(name: &str) -> &str {
    if name.len() <= IDENTIFIER_BYTES_MAX {
        return name;
    }
    let mut end = IDENTIFIER_BYTES_MAX;
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    &name[..end]
}

/// The identifier as SQL text that folds back to itself: PostgreSQL's `quote_ident`.
pub fn quote_identifier(name: &str) -> String {
    if is_plain(name) && !is_keyword(name) {
        name.to_owned()
    } else {
        quoted(name)
    }
}

/// The text as a string literal: PostgreSQL's `quote_literal`.
pub fn quote_literal(text: &str) -> String {
    let escaped = text.replace('\'', "''");
    if escaped.contains('\\') {
        format!("E'{}'", escaped.replace('\\', "\\\\"))
    } else {
        format!("'{escaped}'")
    }
}

/// The name of an option as SQL text: any word may stand there bare.
pub(crate) fn quote_label(name: &str) -> String {
    if is_plain(name) {
        name.to_owned()
    } else {
        quoted(name)
    }
}

fn is_plain(name: &str) -> bool {
    let mut characters = name.chars();
    characters
        .next()
        .is_some_and(|first| first.is_ascii_lowercase() || first == '_')
        && characters.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '$')
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Whether a parser could give this word a meaning where a name stands.
fn is_keyword(word: &str) -> bool {
    let upper = word.to_ascii_uppercase();
    is_reserved(&upper) || QUOTED.binary_search(&upper.as_str()).is_ok()
}

/// Words that are names where they stand bare in most places, and not in all. Sorted.
const QUOTED: &[&str] = &[
    "BETWEEN",
    "BIGINT",
    "BIT",
    "BOOLEAN",
    "CHAR",
    "CHARACTER",
    "COALESCE",
    "COLUMNS",
    "CONNECTION",
    "CURRENT",
    "DEC",
    "DECIMAL",
    "EXISTS",
    "EXPECT",
    "EXTRACT",
    "FLOAT",
    "FORMAT",
    "GREATEST",
    "GROUPING",
    "IF",
    "INOUT",
    "INT",
    "INTEGER",
    "INTERVAL",
    "KEY",
    "LEAST",
    "NATIONAL",
    "NCHAR",
    "NORMALIZE",
    "NULLIF",
    "NUMERIC",
    "OUT",
    "OVERLAY",
    "PIPELINE",
    "POSITION",
    "PRECISION",
    "REAL",
    "REDSHIFT",
    "ROW",
    "SCHEDULE",
    "SCHEMA",
    "SECRET",
    "SEQUENCE",
    "SET",
    "SETOF",
    "SMALLINT",
    "STORED",
    "SUBSTRING",
    "TIME",
    "TIMESTAMP",
    "TREAT",
    "TRIM",
    "VALUES",
    "VARCHAR",
];

/// Whether PostgreSQL refuses the word as the name of a column or relation. `upper` is upper case.
pub fn is_reserved(upper: &str) -> bool {
    RESERVED.binary_search(&upper).is_ok()
}

/// PostgreSQL's reserved words, and those it allows as function or type names only. Sorted.
/// See <https://www.postgresql.org/docs/current/sql-keywords-appendix.html>.
const RESERVED: &[&str] = &[
    "ALL",
    "ANALYSE",
    "ANALYZE",
    "AND",
    "ANY",
    "ARRAY",
    "AS",
    "ASC",
    "ASYMMETRIC",
    "AUTHORIZATION",
    "BINARY",
    "BOTH",
    "CASE",
    "CAST",
    "CHECK",
    "COLLATE",
    "COLLATION",
    "COLUMN",
    "CONCURRENTLY",
    "CONSTRAINT",
    "CREATE",
    "CROSS",
    "CURRENT_CATALOG",
    "CURRENT_DATE",
    "CURRENT_ROLE",
    "CURRENT_SCHEMA",
    "CURRENT_TIME",
    "CURRENT_TIMESTAMP",
    "CURRENT_USER",
    "DEFAULT",
    "DEFERRABLE",
    "DESC",
    "DISTINCT",
    "DO",
    "ELSE",
    "END",
    "EXCEPT",
    "FALSE",
    "FETCH",
    "FOR",
    "FOREIGN",
    "FREEZE",
    "FROM",
    "FULL",
    "GRANT",
    "GROUP",
    "HAVING",
    "ILIKE",
    "IN",
    "INITIALLY",
    "INNER",
    "INTERSECT",
    "INTO",
    "IS",
    "ISNULL",
    "JOIN",
    "LATERAL",
    "LEADING",
    "LEFT",
    "LIKE",
    "LIMIT",
    "LOCALTIME",
    "LOCALTIMESTAMP",
    "NATURAL",
    "NOT",
    "NOTNULL",
    "NULL",
    "OFFSET",
    "ON",
    "ONLY",
    "OR",
    "ORDER",
    "OUTER",
    "OVERLAPS",
    "PLACING",
    "PRIMARY",
    "REFERENCES",
    "RETURNING",
    "RIGHT",
    "SELECT",
    "SESSION_USER",
    "SIMILAR",
    "SOME",
    "SYMMETRIC",
    "SYSTEM_USER",
    "TABLE",
    "TABLESAMPLE",
    "THEN",
    "TO",
    "TRAILING",
    "TRUE",
    "UNION",
    "UNIQUE",
    "USER",
    "USING",
    "VARIADIC",
    "VERBOSE",
    "WHEN",
    "WHERE",
    "WINDOW",
    "WITH",
];
