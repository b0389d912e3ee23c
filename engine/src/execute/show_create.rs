//! `SHOW CREATE`: the statement that makes an object, ready for version control.
//!
//! Whoever may read an object may see how it is made: it takes SELECT on a table, view or pipeline,
//! and USAGE on a schema or connection, which the owner has.

use std::fmt::Write;

use arrow::datatypes::SchemaRef;
use boathouse_catalog::definitions::{
    ConnectionDefinition, ObjectKind, ObjectRef, OptionValue as StoredOption, Privilege,
    TableDefinition,
};
use boathouse_sql::name::{quote_identifier, quote_literal};
use boathouse_sql::statement::{ShowCreate, ShowCreateKind};

use super::resolve::{Found, undefined_relation};
use super::rows::{self, Column};
use crate::error::SqlError;
use crate::outcome::{Outcome, RowsTag};
use crate::session::Session;

pub(super) fn fields(_show: &ShowCreate) -> SchemaRef {
    rows::text_fields(&["statement"])
}

pub(super) fn execute(session: &mut Session, show: &ShowCreate) -> Result<Outcome, SqlError> {
    let snapshot = session.snapshot();
    let name = &show.name;
    let schema_name = |id| {
        snapshot
            .schema_by_id(id)
            .map(|schema| schema.name.clone())
            .unwrap_or_default()
    };
    let may_see = |kind: ObjectKind, id, name: &str| {
        let privilege = match kind {
            ObjectKind::Schema | ObjectKind::Connection => Privilege::Usage,
            _ => Privilege::Select,
        };
        let object = ObjectRef::new(kind, id);
        session
            .state
            .require(&snapshot, object, privilege, kind.name(), name)
    };
    let statement = match show.kind {
        ShowCreateKind::Table => {
            let table = session.state.table(&snapshot, name)?;
            may_see(ObjectKind::Schema, table.schema, &schema_name(table.schema))?;
            may_see(ObjectKind::Table, table.id, &table.name)?;
            create_table(&schema_name(table.schema), &table)
        }
        ShowCreateKind::View => match session.state.find(&snapshot, name) {
            Some(Found::View(view)) => {
                may_see(ObjectKind::Schema, view.schema, &schema_name(view.schema))?;
                may_see(ObjectKind::View, view.id, &view.name)?;
                format!(
                    "CREATE VIEW {}.{} ({}) AS {}",
                    quote_identifier(&schema_name(view.schema)),
                    quote_identifier(&view.name),
                    view.columns
                        .iter()
                        .map(|(column, _)| quote_identifier(column))
                        .collect::<Vec<_>>()
                        .join(", "),
                    view.query
                )
            }
            _ => return Err(undefined_relation(name)),
        },
        ShowCreateKind::Schema => {
            let schema = session.state.schema(&snapshot, &name.name)?;
            may_see(ObjectKind::Schema, schema.id, &schema.name)?;
            format!("CREATE SCHEMA {}", quote_identifier(&schema.name))
        }
        ShowCreateKind::Connection => {
            let connection = session.state.connection(&snapshot, &name.name)?;
            may_see(ObjectKind::Connection, connection.id, &connection.name)?;
            create_connection(&connection)
        }
        ShowCreateKind::Pipeline => {
            let pipeline = session.state.pipeline(&snapshot, &name.name)?;
            may_see(ObjectKind::Pipeline, pipeline.id, &pipeline.name)?;
            pipeline.statement.clone()
        }
    };
    let columns = vec![Column::Text(vec![Some(statement)])];
    rows::outcome(fields(show), columns, RowsTag::Show)
}

fn columns_of(names: &[String]) -> String {
    names
        .iter()
        .map(|name| quote_identifier(name))
        .collect::<Vec<_>>()
        .join(", ")
}

fn create_table(schema: &str, table: &TableDefinition) -> String {
    let mut lines: Vec<String> = Vec::new();
    for column in &table.columns {
        let mut line = format!(
            "{} {}",
            quote_identifier(&column.name),
            column.column_type.sql_name()
        );
        if let Some(default) = &column.default {
            // Writing to a String cannot fail.
            let _ = write!(line, " DEFAULT {default}");
        }
        if !column.nullable {
            line.push_str(" NOT NULL");
        }
        lines.push(line);
    }
    let constraint =
        |name: &str, rest: String| format!("CONSTRAINT {} {rest}", quote_identifier(name));
    if let Some(key) = &table.primary_key {
        lines.push(constraint(
            &key.name,
            format!("PRIMARY KEY ({})", columns_of(&key.columns)),
        ));
    }
    for key in &table.unique_keys {
        lines.push(constraint(
            &key.name,
            format!("UNIQUE ({})", columns_of(&key.columns)),
        ));
    }
    for key in &table.foreign_keys {
        lines.push(constraint(
            &key.name,
            format!(
                "FOREIGN KEY ({}) REFERENCES {}.{} ({})",
                columns_of(&key.columns),
                quote_identifier(&key.references_schema),
                quote_identifier(&key.references_table),
                columns_of(&key.references_columns)
            ),
        ));
    }
    for check in &table.checks {
        lines.push(constraint(
            &check.name,
            format!("CHECK ({})", check.expression),
        ));
    }
    let mut text = format!(
        "CREATE TABLE {}.{} (\n  {}\n)",
        quote_identifier(schema),
        quote_identifier(&table.name),
        lines.join(",\n  ")
    );
    if !table.partition_by.is_empty() {
        let _ = write!(text, " PARTITION BY ({})", columns_of(&table.partition_by));
    }
    if !table.properties.is_empty() {
        let properties: Vec<String> = table
            .properties
            .iter()
            .map(|(name, value)| format!("{} = {}", quote_identifier(name), quote_literal(value)))
            .collect();
        let _ = write!(text, " WITH ({})", properties.join(", "));
    }
    text
}

fn create_connection(connection: &ConnectionDefinition) -> String {
    let options: Vec<String> = connection
        .options
        .iter()
        .map(|(name, value)| match value {
            StoredOption::Secret(secret) => {
                format!(
                    "{} = SECRET {}",
                    quote_identifier(name),
                    quote_identifier(secret)
                )
            }
            StoredOption::Text(text) if is_secret_option(name) => {
                let hidden = if text.is_empty() { "" } else { "***" };
                format!("{} = {}", quote_identifier(name), quote_literal(hidden))
            }
            StoredOption::Text(text) => {
                format!("{} = {}", quote_identifier(name), quote_literal(text))
            }
        })
        .collect();
    let mut text = format!(
        "CREATE CONNECTION {} TO {}",
        quote_identifier(&connection.name),
        connection.kind
    );
    if !options.is_empty() {
        let _ = write!(text, " WITH ({})", options.join(", "));
    }
    text
}

/// An option that holds a secret even where it was written in clear.
fn is_secret_option(name: &str) -> bool {
    ["password", "secret", "key", "token", "passphrase"]
        .iter()
        .any(|word| name.contains(word))
        && !name.ends_with("key_id")
        && name != "host_key"
}

#[cfg(test)]
mod tests {
    use super::is_secret_option;

    #[test]
    fn options_that_hold_secrets_are_known_by_name() {
        for name in [
            "password",
            "secret_access_key",
            "private_key",
            "session_token",
        ] {
            assert!(is_secret_option(name), "{name}");
        }
        for name in ["host", "access_key_id", "host_key", "path"] {
            assert!(!is_secret_option(name), "{name}");
        }
    }
}
