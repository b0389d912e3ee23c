//! The properties of a table: what `WITH (...)` and `SET (...)` take.

use std::time::Duration;

use boathouse_catalog::definitions::TableDefinition;

use super::maintain::RETENTION_HOURS_MIN;
use super::{keys, upkeep};
use crate::error::{SqlError, SqlState};
use crate::lake;

/// Whether files that no version within the retention needs are deleted in the background.
pub(super) const AUTO_VACUUM: &str = "auto_vacuum";

/// Delta's property for how long a file is kept that the newest version does not need.
const RETENTION: &str = "delta.deletedFileRetentionDuration";

/// The same, where nothing is said.
const RETENTION_DEFAULT: Duration = Duration::from_secs(7 * 24 * 3600);

/// What a value must be.
enum Kind {
    Boolean,
    /// A whole number, this or more.
    Number(i64),
    /// As Delta writes it, `interval 30 days`, or without the first word.
    Interval,
    /// Names of columns.
    Columns,
    OneOf(&'static [&'static str]),
    Columned(fn(&TableDefinition) -> Result<(), SqlError>),
}

const KNOWN: [(&str, Kind); 15] = [
    (AUTO_VACUUM, Kind::Boolean),
    (
        "cluster_by",
        Kind::Columned(|table| upkeep::cluster_by(table).map(drop)),
    ),
    ("enforce_keys", Kind::Columned(keys::check_property)),
    ("delta.appendOnly", Kind::Boolean),
    ("delta.autoOptimize.autoCompact", Kind::Boolean),
    ("delta.checkpointInterval", Kind::Number(1)),
    ("delta.dataSkippingNumIndexedCols", Kind::Number(-1)),
    ("delta.dataSkippingStatsColumns", Kind::Columns),
    (RETENTION, Kind::Interval),
    ("delta.enableDeletionVectors", Kind::Boolean),
    ("delta.enableExpiredLogCleanup", Kind::Boolean),
    ("delta.logRetentionDuration", Kind::Interval),
    (lake::BLOOM_FILTERS, Kind::Columns),
    (lake::COMPRESSION, Kind::OneOf(&lake::CODECS)),
    (lake::ROW_GROUP_ROWS, Kind::Number(1_024)),
];

/// Storage parameters of PostgreSQL that mean nothing here and harm nothing.
fn is_ignored(name: &str) -> bool {
    name == "fillfactor" || name.starts_with("autovacuum_") || name.starts_with("toast.")
}

/// Fails on a property that is not known or whose value is not one.
pub(super) fn check(definition: &TableDefinition) -> Result<(), SqlError> {
    for (name, value) in &definition.properties {
        let Some((_, kind)) = KNOWN.iter().find(|(known, _)| known == name) else {
            if is_ignored(name) {
                continue;
            }
            return Err(unknown(name));
        };
        let holds = match kind {
            Kind::Boolean => matches!(value.as_str(), "true" | "false"),
            Kind::Number(least) => value.parse::<i64>().is_ok_and(|number| number >= *least),
            Kind::OneOf(values) => values.contains(&value.as_str()),
            Kind::Interval => interval(value).is_some(),
            Kind::Columns => {
                let mut columns = value.split(',').map(str::trim);
                columns.all(|column| definition.column(column.trim_matches('`')).is_some())
            }
            Kind::Columned(check) => {
                check(definition)?;
                true
            }
        };
        if !holds {
            return Err(SqlError::new(
                SqlState::INVALID_PARAMETER_VALUE,
                format!("invalid value for property \"{name}\": \"{value}\""),
            )
            .hint(match kind {
                Kind::Boolean => "true or false".to_owned(),
                Kind::Number(least) => format!("a whole number, {least} or more"),
                Kind::OneOf(values) => format!("one of {}", values.join(", ")),
                Kind::Interval => "such as 'interval 7 days'".to_owned(),
                Kind::Columns | Kind::Columned(_) => {
                    "columns of the table, separated by commas".to_owned()
                }
            }));
        }
    }
    Ok(())
}

/// The properties that are lists of columns, with the columns each names.
fn lists(definition: &TableDefinition) -> impl Iterator<Item = (&'static str, Vec<&str>)> {
    KNOWN.iter().filter_map(|(name, kind)| {
        let is_list = *name == upkeep::CLUSTER_BY || matches!(kind, Kind::Columns);
        let value = definition.properties.get(*name).filter(|_| is_list)?;
        let columns = value
            .split(',')
            .map(|column| column.trim().trim_matches('`'));
        Some((*name, columns.collect()))
    })
}

/// The property that names a column, if one does.
pub(super) fn naming(definition: &TableDefinition, column: &str) -> Option<&'static str> {
    let mut lists = lists(definition);
    lists.find_map(|(property, columns)| columns.contains(&column).then_some(property))
}

/// Gives a column its new name wherever a property names it.
pub(super) fn rename_column(definition: &mut TableDefinition, from: &str, to: &str) {
    let renamed: Vec<(&str, String)> = lists(definition)
        .filter(|(_, columns)| columns.contains(&from))
        .map(|(property, mut columns)| {
            for column in columns.iter_mut().filter(|column| **column == from) {
                *column = to;
            }
            (property, columns.join(", "))
        })
        .collect();
    for (property, columns) in renamed {
        definition.properties.insert(property.to_owned(), columns);
    }
}

fn unknown(name: &str) -> SqlError {
    let error = SqlError::new(
        SqlState::INVALID_PARAMETER_VALUE,
        format!("unrecognized parameter \"{name}\""),
    );
    let closest = KNOWN
        .iter()
        .find(|(known, _)| known.eq_ignore_ascii_case(name));
    if let Some((known, _)) = closest {
        return error.hint(format!("the name is \"{known}\", with its quotes"));
    }
    let hint = if name.starts_with("delta.columnMapping.") || name == "delta.enableTypeWidening" {
        "it is set by ALTER TABLE ... RENAME COLUMN, DROP COLUMN and ALTER COLUMN ... TYPE"
            .to_owned()
    } else {
        let names: Vec<&str> = KNOWN.iter().map(|(name, _)| *name).collect();
        format!("the properties are {}", names.join(", "))
    };
    error.hint(hint)
}

/// How long a file of the table is kept that its newest version does not need.
pub(super) fn retention(definition: &TableDefinition) -> Duration {
    let said = definition.properties.get(RETENTION);
    let said = said.and_then(|value| interval(value));
    let least = Duration::from_secs(RETENTION_HOURS_MIN * 3600);
    said.map_or(RETENTION_DEFAULT, |said| said.max(least))
}

/// What Delta's `interval 7 days` says.
fn interval(value: &str) -> Option<Duration> {
    const UNITS: [(&str, u64); 7] = [
        ("microsecond", 1),
        ("millisecond", 1_000),
        ("second", 1_000_000),
        ("minute", 60_000_000),
        ("hour", 3_600_000_000),
        ("day", 86_400_000_000),
        ("week", 604_800_000_000),
    ];
    let mut words = value.split_whitespace().peekable();
    words.next_if(|word| word.eq_ignore_ascii_case("interval"));
    let number: u64 = words.next()?.parse().ok()?;
    let unit = words.next()?.to_ascii_lowercase();
    let (_, micros) = UNITS
        .iter()
        .find(|(name, _)| *name == unit.trim_end_matches('s'))?;
    let micros = number
        .checked_mul(*micros)
        .filter(|_| words.next().is_none())?;
    Some(Duration::from_micros(micros))
}
