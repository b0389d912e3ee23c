//! The type table as `docs/reference/types.md`, so that the page cannot disagree with the code.

use std::fmt::Write as _;

use super::{ColumnType, NUMERIC_BARE_SCALE, NUMERIC_PRECISION_MAX};

/// The text of `docs/reference/types.md`.
pub fn reference_page() -> String {
    let mut page = String::from(HEAD);
    let mut types = ColumnType::scalars();
    types.retain(|one| !matches!(one, ColumnType::Char(_)));
    let examples = [
        ColumnType::Numeric {
            precision: Some(12),
            scale: 2,
        },
        ColumnType::Char(3),
        ColumnType::Array(Box::new(ColumnType::Integer)),
    ];
    for column_type in types.iter().chain(&examples) {
        let stored = column_type
            .delta_name()
            .unwrap_or_else(|| "cannot be stored".to_owned());
        // Writing to a String cannot fail.
        let _ = writeln!(
            page,
            "| `{}` | {} | {} | {} | `{}` | {} | {} |",
            column_type.sql_name(),
            other_names(column_type),
            column_type.oid(),
            column_type.array_oid(),
            column_type.arrow(),
            if column_type.delta_name().is_some() {
                format!("`{stored}`")
            } else {
                stored
            },
            note(column_type)
        );
    }
    page.push_str(&tail());
    page
}

const HEAD: &str = "\
# Types

The types a column can have: what PostgreSQL calls them, what they are in memory (Arrow), and what a
table's Delta log and Parquet files call them. This page is written by the program's own table of
types; a test fails when the two differ.

| PostgreSQL type | other names | OID | array OID | in memory (Arrow) | stored (Delta) | notes |
|---|---|---|---|---|---|---|
";

fn tail() -> String {
    format!(
        "
What Arrow and Delta cannot tell apart (`uuid`, `json`, `character varying(20)` are all text) is
written as field metadata named `boathouse.type`. Readers that do not know it see plain text.

A text longer than `character varying(n)` and a number with more digits before the point than its
precision leaves room for are errors. Digits after the point beyond the scale are rounded, as in
PostgreSQL. `numeric` without precision keeps {NUMERIC_PRECISION_MAX} digits, {NUMERIC_BARE_SCALE} of them after the point.
The precision of a time or timestamp is always six digits; `timestamp(3)` is refused rather than
quietly kept at six.

Not supported: `serial` and its sizes, `time with time zone`, `money`, bit strings, ranges, network
addresses, geometric types, `xml`, full-text types.
"
    )
}

fn other_names(column_type: &ColumnType) -> &'static str {
    match column_type {
        ColumnType::Boolean => "`bool`",
        ColumnType::SmallInt => "`int2`",
        ColumnType::Integer => "`int`, `int4`",
        ColumnType::BigInt => "`int8`",
        ColumnType::Numeric { .. } => "`decimal`",
        ColumnType::Real => "`float4`",
        ColumnType::Double => "`float8`, `float`",
        ColumnType::Varchar(_) => "`varchar`",
        ColumnType::Char(_) => "`char`, `bpchar`",
        ColumnType::Time => "`time`",
        ColumnType::Timestamp => "`timestamp`",
        ColumnType::TimestampTz => "`timestamptz`",
        ColumnType::Array(_) => "`int4[]`",
        ColumnType::Text
        | ColumnType::Bytea
        | ColumnType::Date
        | ColumnType::Interval
        | ColumnType::Uuid
        | ColumnType::Json
        | ColumnType::Jsonb => "",
    }
}

fn note(column_type: &ColumnType) -> &'static str {
    match column_type {
        ColumnType::Numeric {
            precision: None, ..
        } => "38 digits, 10 after the point; give precision and scale to choose",
        ColumnType::Numeric { .. } => "precision 1 to 38",
        ColumnType::Varchar(_) => "with or without a length",
        ColumnType::Char(_) => "padded with spaces when shown",
        ColumnType::Time => "stored as `HH:MM:SS.ffffff`",
        ColumnType::Timestamp => "microseconds; the table feature `timestampNtz`",
        ColumnType::TimestampTz => {
            "microseconds since 1970 in UTC; shown in the session's time zone"
        }
        ColumnType::Interval => "in queries only",
        ColumnType::Uuid => "stored in its 36-character form",
        ColumnType::Json => "stored as it was written",
        ColumnType::Jsonb => "stored as text",
        ColumnType::Array(_) => "of any of the types above; any number of dimensions",
        ColumnType::Boolean
        | ColumnType::SmallInt
        | ColumnType::Integer
        | ColumnType::BigInt
        | ColumnType::Real
        | ColumnType::Double
        | ColumnType::Text
        | ColumnType::Bytea
        | ColumnType::Date => "",
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_page_says_what_the_code_does() {
        expect_test::expect_file!["../../../docs/reference/types.md"]
            .assert_eq(&super::reference_page());
    }
}
