//! Compares a table of a MySQL source with its copy in the lake, value by value.
//!
//! Both sides are read as text that has one form per value: the source turns its values into it in SQL, and
//! what the lake's wire gives is brought into it here. Rows are matched by the source's key and, where it
//! has none, counted. The source has to be still meanwhile.

use std::collections::BTreeMap;
use std::fmt;

use tokio_postgres::{Client, SimpleQueryMessage};

use crate::mysql::SourceClient;
use crate::{Failure, explain};

/// How many differences of a kind are told in full.
const SHOWN_MAX: usize = 5;

type Values = Vec<Option<String>>;

/// What sets the lake's table apart from the source's.
#[derive(Debug, Default)]
pub struct Differences {
    table: String,
    /// Columns that one side has and the other has not.
    pub columns: Vec<String>,
    /// Rows that the lake has not, or not often enough.
    pub missing: Vec<String>,
    /// Rows that only the lake has, or that it has too often.
    pub extra: Vec<String>,
    /// Values that differ in rows that both have.
    pub differing: Vec<String>,
}

impl Differences {
    pub fn is_empty(&self) -> bool {
        [&self.columns, &self.missing, &self.extra, &self.differing]
            .iter()
            .all(|kind| kind.is_empty())
    }
}

impl fmt::Display for Differences {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "table {}:", self.table)?;
        for (name, kind) in [
            ("columns", &self.columns),
            ("rows missing", &self.missing),
            ("rows extra", &self.extra),
            ("values differ", &self.differing),
        ] {
            if !kind.is_empty() {
                write!(out, "\n  {} {name}:", kind.len())?;
                for one in kind.iter().take(SHOWN_MAX) {
                    write!(out, "\n    {one}")?;
                }
            }
        }
        Ok(())
    }
}

/// How the text of a column's values is brought into its one form.
#[derive(Clone, Copy)]
enum Form {
    /// It has one already.
    Exact,
    /// `1` and `0`; the lake says `t` and `f`.
    Boolean,
    /// Hexadecimal digits; the lake puts `\x` before them.
    Bytes,
    /// A date and a time; zeros end its fraction or do not, and the lake may tell that it is in UTC.
    Moment,
    /// A number of 32 bits, which the source tells in the digits of its 64-bit neighbour.
    Real,
    Double,
}

impl Form {
    fn of_source(self, text: String) -> Result<String, Failure> {
        Ok(match self {
            Self::Exact | Self::Boolean | Self::Bytes => text,
            Self::Moment => moment(&text),
            // Adding zero takes the sign off a zero.
            Self::Real => format!("{:?}", text.parse::<f64>()? as f32 + 0.0),
            Self::Double => format!("{:?}", text.parse::<f64>()? + 0.0),
        })
    }

    fn of_lake(self, text: String) -> Result<String, Failure> {
        Ok(match self {
            Self::Exact => text,
            Self::Boolean => match text.as_str() {
                "t" => "1".to_owned(),
                "f" => "0".to_owned(),
                _ => text,
            },
            Self::Bytes => match text.strip_prefix("\\x") {
                Some(digits) => digits.to_uppercase(),
                None => format!("not hexadecimal: {text}"),
            },
            Self::Moment => moment(text.strip_suffix("+00").unwrap_or(&text)),
            Self::Real => format!("{:?}", text.parse::<f32>()? + 0.0),
            Self::Double => format!("{:?}", text.parse::<f64>()? + 0.0),
        })
    }
}

/// Without the zeros that end its fraction.
fn moment(text: &str) -> String {
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text.to_owned(),
    }
}

/// A column of the source.
struct Column {
    name: String,
    /// What reads its values as text.
    expression: String,
    form: Form,
}

impl Column {
    fn new(name: &str, data_type: &str, column_type: &str) -> Result<Self, Failure> {
        let quoted = quoted(name);
        let as_text = format!("CAST({quoted} AS CHAR)");
        // A date of which a part is zero is none.
        let dated = |format: &str| {
            format!(
                "CASE WHEN MONTH({quoted}) = 0 OR DAYOFMONTH({quoted}) = 0 THEN NULL \
                 ELSE DATE_FORMAT({quoted}, '{format}') END"
            )
        };
        let (expression, form) = match data_type {
            // The addition takes off the zeros that fill a number up.
            "tinyint" | "smallint" | "mediumint" | "int" | "bigint" | "year" => {
                (format!("CAST({quoted} + 0 AS CHAR)"), Form::Exact)
            }
            "decimal" | "time" | "json" | "uuid" | "inet4" | "inet6" => (as_text, Form::Exact),
            "float" => (format!("CAST({quoted} AS DOUBLE)"), Form::Real),
            "double" => (format!("CAST({quoted} AS DOUBLE)"), Form::Double),
            "bit" => {
                let form = match column_type {
                    "bit(1)" => Form::Boolean,
                    _ => Form::Exact,
                };
                let number = format!("CAST(CAST({quoted} AS UNSIGNED) AS CHAR)");
                (number, form)
            }
            "date" => (dated("%Y-%m-%d"), Form::Exact),
            "datetime" | "timestamp" => (dated("%Y-%m-%d %H:%i:%s.%f"), Form::Moment),
            "char" | "varchar" | "tinytext" | "text" | "mediumtext" | "longtext" | "enum"
            | "set" => (format!("CONVERT({quoted} USING utf8mb4)"), Form::Exact),
            "binary" | "varbinary" | "tinyblob" | "blob" | "mediumblob" | "longblob" => {
                (format!("HEX({quoted})"), Form::Bytes)
            }
            "geometry" | "point" | "linestring" | "polygon" | "multipoint" | "multilinestring"
            | "multipolygon" | "geomcollection" | "geometrycollection" => {
                // As it is stored: four bytes of SRID, then WKB with the longitude first.
                (format!("SUBSTR(HEX({quoted}), 9)"), Form::Bytes)
            }
            other => return Err(format!("no way to compare a column of type {other}").into()),
        };
        Ok(Self {
            name: name.to_owned(),
            expression,
            form,
        })
    }
}

/// A name as the source reads it.
fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// A name as the lake reads it.
fn quoted_in_lake(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

/// Compares `database`.`table` of the source with the table of the same name in `schema` of the lake.
pub async fn compare(
    source: &mut SourceClient,
    lake: &Client,
    database: &str,
    table: &str,
    schema: &str,
) -> Result<Differences, Failure> {
    let columns = columns(source, database, table).await?;
    let mut differences = Differences {
        table: table.to_owned(),
        ..Differences::default()
    };
    let copy = format!("{}.{}", quoted_in_lake(schema), quoted_in_lake(table));
    let prepared = lake
        .prepare(&format!("SELECT * FROM {copy}"))
        .await
        .map_err(explain)?;
    let copied: Vec<&str> = prepared.columns().iter().map(|one| one.name()).collect();
    for name in &copied {
        if !columns.iter().any(|column| column.name == *name) {
            differences
                .columns
                .push(format!("{name} is only in the lake"));
        }
    }
    let (shared, lost): (Vec<Column>, Vec<Column>) = columns
        .into_iter()
        .partition(|column| copied.contains(&column.name.as_str()));
    for column in lost {
        differences
            .columns
            .push(format!("{} is not in the lake", column.name));
    }
    let of_source = source_rows(source, database, table, &shared).await?;
    let of_lake = lake_rows(lake, &copy, &shared).await?;
    let key = key(source, database, table).await?;
    let places: Option<Vec<usize>> = key
        .iter()
        .map(|name| shared.iter().position(|column| column.name == *name))
        .collect();
    match places {
        Some(places) if !places.is_empty() => {
            by_key(&mut differences, &shared, &places, of_source, of_lake);
        }
        _ => by_count(&mut differences, of_source, of_lake),
    }
    Ok(differences)
}

fn by_key(
    differences: &mut Differences,
    columns: &[Column],
    places: &[usize],
    of_source: Vec<Values>,
    of_lake: Vec<Values>,
) {
    let key = |row: &Values| -> Values { places.iter().map(|place| row[*place].clone()).collect() };
    let mut expected: BTreeMap<Values, (Values, usize)> = of_source
        .into_iter()
        .map(|row| (key(&row), (row, 0)))
        .collect();
    for row in of_lake {
        let key = key(&row);
        let Some((source_row, times)) = expected.get_mut(&key) else {
            differences.extra.push(shown(&key));
            continue;
        };
        *times += 1;
        if *times > 1 {
            differences
                .extra
                .push(format!("{}, for time {times}", shown(&key)));
        }
        for (index, column) in columns.iter().enumerate() {
            if source_row[index] != row[index] {
                differences.differing.push(format!(
                    "{} of {}: {} in the source, {} in the lake",
                    column.name,
                    shown(&key),
                    shown(&source_row[index..=index]),
                    shown(&row[index..=index]),
                ));
            }
        }
    }
    for (key, (_, times)) in &expected {
        if *times == 0 {
            differences.missing.push(shown(key));
        }
    }
}

fn by_count(differences: &mut Differences, of_source: Vec<Values>, of_lake: Vec<Values>) {
    let mut counts: BTreeMap<Values, (usize, usize)> = BTreeMap::new();
    for row in of_source {
        counts.entry(row).or_default().0 += 1;
    }
    for row in of_lake {
        counts.entry(row).or_default().1 += 1;
    }
    for (row, (in_source, in_lake)) in &counts {
        let told = format!("{}: {in_source} times, not {in_lake}", shown(row));
        if in_lake < in_source {
            differences.missing.push(told);
        } else if in_lake > in_source {
            differences.extra.push(told);
        }
    }
}

/// Values for a message, long ones cut.
fn shown(values: &[Option<String>]) -> String {
    let shown: Vec<String> = values
        .iter()
        .map(|value| match value {
            None => "NULL".to_owned(),
            Some(text) if text.chars().count() > 80 => {
                let start: String = text.chars().take(80).collect();
                format!("{start:?}... of {} bytes", text.len())
            }
            Some(text) => format!("{text:?}"),
        })
        .collect();
    shown.join(" | ")
}

async fn columns(
    source: &mut SourceClient,
    database: &str,
    table: &str,
) -> Result<Vec<Column>, Failure> {
    let found = source
        .rows(&format!(
            "SELECT CONVERT(column_name USING utf8mb4), CONVERT(data_type USING utf8mb4), \
                    CONVERT(column_type USING utf8mb4) \
             FROM information_schema.columns WHERE table_schema = {} AND table_name = {} \
             ORDER BY ordinal_position",
            literal(database),
            literal(table)
        ))
        .await?;
    let found: Result<Vec<Column>, Failure> = found
        .iter()
        .map(|row| match row.as_slice() {
            [Some(name), Some(data_type), Some(column_type)] => {
                Column::new(name, data_type, column_type)
            }
            other => Err(format!("no column is like {other:?}").into()),
        })
        .collect();
    let found = found?;
    if found.is_empty() {
        return Err(format!("the source has no table {database}.{table}").into());
    }
    Ok(found)
}

/// The columns of the primary key, or of a unique key that takes no NULL; none when there is neither.
async fn key(
    source: &mut SourceClient,
    database: &str,
    table: &str,
) -> Result<Vec<String>, Failure> {
    let found = source
        .rows(&format!(
            "SELECT index_name, column_name, \
                    CASE WHEN column_name IS NULL OR sub_part IS NOT NULL OR nullable = 'YES' \
                         THEN 1 ELSE 0 END \
             FROM information_schema.statistics \
             WHERE table_schema = {} AND table_name = {} AND non_unique = 0 \
             ORDER BY index_name <> 'PRIMARY', index_name, seq_in_index",
            literal(database),
            literal(table)
        ))
        .await?;
    let mut keys: Vec<(String, Option<Vec<String>>)> = Vec::new();
    for row in found {
        let [Some(name), column, Some(unfit)] = row.as_slice() else {
            return Err(format!("no key is like {row:?}").into());
        };
        if keys.last().is_none_or(|(last, _)| last != name) {
            keys.push((name.clone(), Some(Vec::new())));
        }
        let Some((_, columns)) = keys.last_mut() else {
            continue;
        };
        match column {
            Some(column) if unfit == "0" => {
                if let Some(columns) = columns {
                    columns.push(column.clone());
                }
            }
            _ => *columns = None,
        }
    }
    let fit = keys.into_iter().find_map(|(_, columns)| columns);
    Ok(fit.unwrap_or_default())
}

async fn source_rows(
    source: &mut SourceClient,
    database: &str,
    table: &str,
    columns: &[Column],
) -> Result<Vec<Values>, Failure> {
    let expressions: Vec<&str> = columns.iter().map(|one| one.expression.as_str()).collect();
    let found = source
        .rows(&format!(
            "SELECT {} FROM {}.{}",
            expressions.join(", "),
            quoted(database),
            quoted(table)
        ))
        .await?;
    let in_form = |row: Values| -> Result<Values, Failure> {
        row.into_iter()
            .zip(columns)
            .map(|(value, column)| value.map(|text| column.form.of_source(text)).transpose())
            .collect()
    };
    found.into_iter().map(in_form).collect()
}

async fn lake_rows(lake: &Client, copy: &str, columns: &[Column]) -> Result<Vec<Values>, Failure> {
    let names: Vec<String> = columns
        .iter()
        .map(|column| quoted_in_lake(&column.name))
        .collect();
    let messages = lake
        .simple_query(&format!("SELECT {} FROM {copy}", names.join(", ")))
        .await
        .map_err(explain)?;
    let mut found = Vec::new();
    for message in &messages {
        if let SimpleQueryMessage::Row(row) = message {
            let values: Result<Values, Failure> = columns
                .iter()
                .enumerate()
                .map(|(index, column)| {
                    let text = row.get(index).map(str::to_owned);
                    text.map(|text| column.form.of_lake(text)).transpose()
                })
                .collect();
            found.push(values?);
        }
    }
    Ok(found)
}
