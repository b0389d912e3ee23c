//! The tables of a server and what they are made of.

use std::collections::BTreeMap;

use mysql_async::Row;
use mysql_async::prelude::Queryable;
use serde::{Deserialize, Serialize};

use super::binlog::TableMap;
use super::types::SourceType;
use crate::error::{ConnectorError, sqlstate};
use crate::mysql::server::{Flavor, MySqlServer, Session};

/// Names of databases that belong to the server itself.
const SYSTEM_DATABASES: [&str; 4] = ["mysql", "information_schema", "performance_schema", "sys"];

/// A table by its names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TableName {
    pub database: String,
    pub table: String,
}

impl TableName {
    pub fn new(database: impl Into<String>, table: impl Into<String>) -> Self {
        Self {
            database: database.into(),
            table: table.into(),
        }
    }

    /// As a server has it that keeps names in small letters.
    pub(crate) fn lower(&mut self) {
        self.database = self.database.to_lowercase();
        self.table = self.table.to_lowercase();
    }

    /// As it is written in a statement to the server.
    pub(crate) fn quoted(&self) -> String {
        format!("{}.{}", quoted(&self.database), quoted(&self.table))
    }
}

impl std::fmt::Display for TableName {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}.{}", self.database, self.table)
    }
}

/// A name as statements to the server have it.
pub(crate) fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// A table of the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceTable {
    pub name: TableName,
    pub columns: Vec<SourceColumn>,
    /// The columns that identify a row: the primary key, or else the first unique key without NULL. Empty
    /// when there is none.
    pub key: Vec<String>,
    pub comment: Option<String>,
    /// About how many rows and bytes the server thinks it has.
    #[serde(default)]
    pub rows_estimate: u64,
    #[serde(default)]
    pub bytes_estimate: u64,
}

/// A column of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceColumn {
    pub name: String,
    pub source_type: SourceType,
    pub comment: Option<String>,
    /// Computed whenever it is read, so that nothing of it is stored.
    #[serde(default)]
    pub is_virtual: bool,
    /// What it has in a row whose image does not name it.
    #[serde(default)]
    pub default: DefaultValue,
}

/// What a column has in a new row that does not name it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum DefaultValue {
    Null,
    Literal(String),
    /// Computed by the server, or not known.
    #[default]
    Computed,
    /// There is none: rows have to name it.
    Missing,
}

impl DefaultValue {
    /// As MariaDB lists it: in its own language. A literal is quoted or a number, all else is computed.
    fn of_sql(text: &str) -> Self {
        if text.eq_ignore_ascii_case("NULL") {
            return Self::Null;
        }
        let quoted = text
            .strip_prefix('\'')
            .and_then(|rest| rest.strip_suffix('\''));
        let Some(quoted) = quoted else {
            return match text.parse::<f64>() {
                Ok(_) => Self::Literal(text.to_owned()),
                Err(_) => Self::Computed,
            };
        };
        let mut literal = String::with_capacity(quoted.len());
        let mut characters = quoted.chars();
        while let Some(character) = characters.next() {
            literal.push(match character {
                '\'' => characters.next().unwrap_or('\''),
                '\\' => match characters.next() {
                    Some('0') => '\0',
                    Some('n') => '\n',
                    Some('r') => '\r',
                    Some('t') => '\t',
                    other => other.unwrap_or('\\'),
                },
                other => other,
            });
        }
        Self::Literal(literal)
    }
}

impl SourceTable {
    pub fn column(&self, name: &str) -> Option<&SourceColumn> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// The places of the key's columns.
    pub fn key_places(&self) -> Vec<usize> {
        let place = |name: &String| self.columns.iter().position(|column| column.name == *name);
        self.key.iter().filter_map(place).collect()
    }

    /// Whether rows written under a map are rows of this table as it is known.
    pub(crate) fn agrees(&self, map: &TableMap) -> Result<bool, ConnectorError> {
        Ok(self.columns == self.columns_by(map)?)
    }

    /// Whether rows written under a map have another primary key. A map names no other key.
    pub(crate) fn has_other_key(&self, map: &TableMap) -> bool {
        let mapped = map.key.iter().map(|place| {
            let column = map.columns.get(*place)?;
            column.name.as_ref()
        });
        !map.key.is_empty() && !self.key.is_empty() && !mapped.eq(self.key.iter().map(Some))
    }

    /// The columns as the map has them, with what only the server's own description tells.
    pub(crate) fn columns_by(&self, map: &TableMap) -> Result<Vec<SourceColumn>, ConnectorError> {
        let columns = map.columns.iter().map(|mapped| {
            let name = mapped.name.as_ref().ok_or_else(|| self.nameless())?;
            let known = self.column(name);
            let known_type = known.map(|column| &column.source_type);
            let source_type = match known_type {
                Some(known) => mapped
                    .wire
                    .clone()
                    .with_known(known)
                    .source_type(Some(known)),
                None => mapped.wire.source_type(None),
            };
            let source_type = source_type.map_err(|mut error| {
                error.message = format!("column {}.{name}: {}", self.name, error.message);
                error
            })?;
            Ok(SourceColumn {
                name: name.clone(),
                source_type,
                comment: known.and_then(|column| column.comment.clone()),
                is_virtual: known.is_some_and(|column| column.is_virtual),
                default: known.map_or_else(Default::default, |column| column.default.clone()),
            })
        });
        columns.collect()
    }

    fn nameless(&self) -> ConnectorError {
        ConnectorError::new(
            sqlstate::FEATURE_NOT_SUPPORTED,
            format!(
                "the binlog does not say what the columns of {} are called",
                self.name
            ),
        )
        .hint("SET GLOBAL binlog_row_metadata = FULL; then RUN PIPELINE ... FULL REFRESH")
    }
}

impl MySqlServer {
    /// The tables that are wanted, with their columns and keys.
    pub(crate) async fn tables(
        &self,
        session: &mut Session,
        wanted: impl Fn(&TableName) -> bool,
    ) -> Result<Vec<SourceTable>, ConnectorError> {
        let ask = |error| self.failed("ask the tables of", error);
        if session.flavor == Flavor::MySql {
            // It would say for a day how many rows a table had when somebody asked first.
            let setting = "SET SESSION information_schema_stats_expiry = 0";
            session.connection.query_drop(setting).await.map_err(ask)?;
        }
        let rows: Vec<Row> = session
            .connection
            .query(
                "SELECT TABLE_SCHEMA, TABLE_NAME, TABLE_COMMENT, TABLE_ROWS, DATA_LENGTH \
                 FROM information_schema.TABLES WHERE TABLE_TYPE = 'BASE TABLE'",
            )
            .await
            .map_err(ask)?;
        let mut tables = BTreeMap::new();
        for row in rows {
            let (database, table, comment, rows_estimate, bytes_estimate): (
                String,
                String,
                Option<String>,
                Option<u64>,
                Option<u64>,
            ) = mysql_async::from_row_opt(row).map_err(|_| self.surprising())?;
            let name = TableName::new(database, table);
            if SYSTEM_DATABASES.contains(&name.database.as_str()) || !wanted(&name) {
                continue;
            }
            let table = SourceTable {
                name: name.clone(),
                columns: Vec::new(),
                key: Vec::new(),
                comment: comment.filter(|comment| !comment.is_empty()),
                rows_estimate: rows_estimate.unwrap_or_default(),
                bytes_estimate: bytes_estimate.unwrap_or_default(),
            };
            tables.insert(name, table);
        }
        let databases: std::collections::BTreeSet<String> =
            tables.keys().map(|name| name.database.clone()).collect();
        for database in databases {
            self.describe(session, &database, &mut tables).await?;
        }
        Ok(tables
            .into_values()
            .filter(|table| !table.columns.is_empty())
            .collect())
    }

    async fn describe(
        &self,
        session: &mut Session,
        database: &str,
        tables: &mut BTreeMap<TableName, SourceTable>,
    ) -> Result<(), ConnectorError> {
        let ask = |error| self.failed("ask the tables of", error);
        let rows: Vec<Row> = session
            .connection
            .exec(
                "SELECT TABLE_NAME, COLUMN_NAME, DATA_TYPE, COLUMN_TYPE, CHARACTER_SET_NAME, \
                 COLUMN_COMMENT, EXTRA, COLUMN_DEFAULT, IS_NULLABLE FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = ? \
                 ORDER BY TABLE_NAME, ORDINAL_POSITION",
                (database,),
            )
            .await
            .map_err(ask)?;
        for row in rows {
            let (table, name, data_type, column_type, charset, comment, extra, default, nullable): (
                String,
                String,
                String,
                String,
                Option<String>,
                Option<String>,
                Option<String>,
                Option<String>,
                String,
            ) = mysql_async::from_row_opt(row).map_err(|_| self.surprising())?;
            let Some(table) = tables.get_mut(&TableName::new(database, table)) else {
                continue;
            };
            let source_type =
                SourceType::of_definition(&data_type, &column_type, charset.as_deref()).map_err(
                    |mut error| {
                        error.message = format!("column {}.{name}: {}", table.name, error.message);
                        error
                    },
                )?;
            let extra = extra.unwrap_or_default().to_ascii_uppercase();
            let is_generated = ["VIRTUAL", "STORED", "PERSISTENT"]
                .iter()
                .any(|word| extra.contains(word));
            let default = match default {
                _ if is_generated => DefaultValue::Computed,
                None if nullable == "YES" => DefaultValue::Null,
                None => DefaultValue::Missing,
                Some(_) if extra.contains("DEFAULT_GENERATED") => DefaultValue::Computed,
                Some(text) => match session.flavor {
                    Flavor::MySql => DefaultValue::Literal(text),
                    Flavor::MariaDb => DefaultValue::of_sql(&text),
                },
            };
            table.columns.push(SourceColumn {
                name,
                default,
                source_type,
                comment: comment.filter(|comment| !comment.is_empty()),
                is_virtual: extra.contains("VIRTUAL"),
            });
        }
        let rows: Vec<Row> = session
            .connection
            .exec(
                "SELECT TABLE_NAME, INDEX_NAME, COLUMN_NAME, NULLABLE FROM \
                 information_schema.STATISTICS WHERE TABLE_SCHEMA = ? AND NON_UNIQUE = 0 \
                 ORDER BY TABLE_NAME, INDEX_NAME <> 'PRIMARY', INDEX_NAME, SEQ_IN_INDEX",
                (database,),
            )
            .await
            .map_err(ask)?;
        let mut keys: BTreeMap<String, Vec<UniqueKey>> = BTreeMap::new();
        for row in rows {
            let (table, index, column, nullable): (String, String, Option<String>, Option<String>) =
                mysql_async::from_row_opt(row).map_err(|_| self.surprising())?;
            let keys = keys.entry(table).or_default();
            if keys.last().is_none_or(|key| key.index != index) {
                keys.push(UniqueKey {
                    index,
                    columns: Vec::new(),
                    usable: true,
                });
            }
            let Some(key) = keys.last_mut() else { continue };
            // An expression identifies rows by what is in no column; NULLs are not unique.
            let not_null = nullable.is_none_or(|word| word != "YES");
            key.usable &= column.is_some() && not_null;
            key.columns.extend(column);
        }
        for (table, keys) in keys {
            if let Some(table) = tables.get_mut(&TableName::new(database, table))
                && let Some(key) = keys.into_iter().find(|key| key.usable)
            {
                table.key = key.columns;
            }
        }
        Ok(())
    }

    fn surprising(&self) -> ConnectorError {
        let what = format!("{} describes its tables in an unknown way", self.place());
        ConnectorError::new(sqlstate::CONNECTION_FAILURE, what)
    }
}

struct UniqueKey {
    index: String,
    columns: Vec<String>,
    usable: bool,
}

#[cfg(test)]
mod tests {
    use super::DefaultValue;

    #[test]
    fn defaults_are_told_from_what_computes_them() {
        let literal = |text: &str| DefaultValue::Literal(text.to_owned());
        let cases = [
            ("NULL", DefaultValue::Null),
            ("'NULL'", literal("NULL")),
            ("''", literal("")),
            ("'it''s'", literal("it's")),
            (r"'it\'s'", literal("it's")),
            (r"'a\\b\n'", literal("a\\b\n")),
            ("-7", literal("-7")),
            ("1.50", literal("1.50")),
            ("current_timestamp()", DefaultValue::Computed),
            ("uuid()", DefaultValue::Computed),
            ("b'101'", DefaultValue::Computed),
            ("'", DefaultValue::Computed),
        ];
        for (text, expected) in cases {
            assert_eq!(DefaultValue::of_sql(text), expected, "{text}");
        }
    }
}
