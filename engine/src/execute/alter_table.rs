//! `ALTER TABLE`: the catalog's definition changes, and the lake's own metadata follows it.

use std::sync::Arc;

use boathouse_catalog::definitions::{ObjectKind, ObjectRef, Privilege, TableDefinition};
use boathouse_sql::statement::{AlterTable, AlterTableAction};

use super::resolve::Found;
use super::{done, keys, table};
use crate::error::{SqlError, SqlState};
use crate::outcome::Outcome;
use crate::session::Session;

pub(super) async fn execute(
    session: &mut Session,
    alter: &AlterTable,
) -> Result<Outcome, SqlError> {
    let snapshot = session.snapshot();
    if alter.if_exists && session.state.find(&snapshot, &alter.name).is_none() {
        table::skip_missing(session, "relation", &alter.name, true)?;
        return done("ALTER TABLE");
    }
    if let Some(Found::View(view)) = session.state.find(&snapshot, &alter.name) {
        return super::view::alter_as_table(session, &view, alter);
    }
    let original = session.state.table(&snapshot, &alter.name)?;
    session
        .state
        .require_owner(&snapshot, original.owner, "table", &original.name)?;
    let mut definition = (*original).clone();
    for action in &alter.actions {
        apply(session, &mut definition, action).await?;
    }
    if definition == *original {
        return done("ALTER TABLE");
    }
    table::check_definition(session, &definition)?;
    let newly = !keys::enforces(&original)
        || (&definition.primary_key, &definition.unique_keys)
            != (&original.primary_key, &original.unique_keys);
    if keys::enforces(&definition) && newly {
        keys::check_all(session, &Arc::new(definition.clone())).await?;
    }
    let schema = snapshot
        .schema_by_id(definition.schema)
        .map(|schema| schema.name.clone())
        .unwrap_or_default();
    let before = (
        schema_of(&snapshot, &original)?.name.clone(),
        original.name.clone(),
    );
    let after = (schema.clone(), definition.name.clone());
    session
        .catalog("ALTER TABLE")?
        .replace_table(definition.clone())?;
    session.work()?.table_changed(&schema, definition);
    if before != after {
        super::view::follow(session, "ALTER TABLE", &|schema, name| {
            (schema == before.0 && name == before.1).then(|| after.clone())
        })?;
    }
    done("ALTER TABLE")
}

async fn apply(
    session: &mut Session,
    definition: &mut TableDefinition,
    action: &AlterTableAction,
) -> Result<(), SqlError> {
    let snapshot = session.snapshot();
    match action {
        AlterTableAction::AddColumn {
            if_not_exists,
            column,
            constraints,
        } => {
            if definition.column(&column.name).is_some() {
                let message = format!(
                    "column \"{}\" of relation \"{}\" already exists",
                    column.name, definition.name
                );
                if *if_not_exists {
                    session.state.notice(
                        "NOTICE",
                        SqlState::DUPLICATE_COLUMN,
                        format!("{message}, skipping"),
                    );
                    return Ok(());
                }
                return Err(SqlError::new(SqlState::DUPLICATE_COLUMN, message));
            }
            if column.not_null || column.default.is_some() {
                require_empty(
                    session,
                    definition,
                    "adding a column with NOT NULL or DEFAULT to a table that has rows",
                    "add the column without them, then ALTER COLUMN ... SET DEFAULT for rows to come",
                )
                .await?;
            }
            table::add_column(definition, column)?;
            let schema = schema_of(&snapshot, definition)?;
            for constraint in constraints {
                table::add_constraint(session, &snapshot, &schema, definition, constraint)?;
            }
        }
        AlterTableAction::DropColumn { .. } | AlterTableAction::RenameColumn { .. } => {
            return Err(SqlError::unsupported("dropping or renaming a column")
                .hint("leave the column out in a view over the table"));
        }
        AlterTableAction::SetType {
            column,
            column_type,
            ..
        } => {
            let current = column_mut(definition, column)?;
            if current.column_type != *column_type {
                return Err(SqlError::unsupported(format!(
                    "changing the type of column \"{column}\" from {} to {}",
                    current.column_type.sql_name(),
                    column_type.sql_name()
                ))
                .hint("make a new table with CREATE TABLE ... AS SELECT and a cast"));
            }
        }
        AlterTableAction::RenameConstraint { from, to } => {
            let renamed = definition
                .primary_key
                .iter_mut()
                .chain(&mut definition.unique_keys)
                .map(|key| &mut key.name)
                .chain(definition.foreign_keys.iter_mut().map(|key| &mut key.name))
                .chain(definition.checks.iter_mut().map(|check| &mut check.name))
                .find(|name| *name == from);
            match renamed {
                Some(name) => name.clone_from(to),
                None => return Err(no_constraint(definition, from)),
            }
        }
        AlterTableAction::RenameTo(name) => {
            let schema = schema_of(&snapshot, definition)?;
            if snapshot.relation(&schema.name, name).is_some() {
                return Err(SqlError::new(
                    SqlState::DUPLICATE_TABLE,
                    format!("relation \"{name}\" already exists"),
                ));
            }
            definition.name.clone_from(name);
        }
        AlterTableAction::SetSchema(name) => {
            let schema = session.state.schema(&snapshot, name)?;
            session.state.require(
                &snapshot,
                ObjectRef::new(ObjectKind::Schema, schema.id),
                Privilege::Create,
                "schema",
                name,
            )?;
            if schema.id != definition.schema && snapshot.relation(name, &definition.name).is_some()
            {
                return Err(SqlError::new(
                    SqlState::DUPLICATE_TABLE,
                    format!(
                        "relation \"{}\" already exists in schema \"{name}\"",
                        definition.name
                    ),
                ));
            }
            definition.schema = schema.id;
        }
        AlterTableAction::OwnerTo(owner) => {
            definition.owner = session.state.new_owner(&snapshot, owner)?;
        }
        AlterTableAction::SetDefault { column, default } => {
            column_mut(definition, column)?.default = Some(default.to_string());
        }
        AlterTableAction::DropDefault { column } => {
            column_mut(definition, column)?.default = None;
        }
        AlterTableAction::SetNotNull { column } => {
            column_mut(definition, column)?;
            require_empty(
                session,
                definition,
                "SET NOT NULL on a table that has rows",
                "add a CHECK with EXPECT in the pipeline that fills it",
            )
            .await?;
            column_mut(definition, column)?.nullable = false;
        }
        AlterTableAction::DropNotNull { column } => {
            let in_key = definition
                .primary_key
                .as_ref()
                .is_some_and(|key| key.columns.contains(column));
            if in_key {
                return Err(SqlError::new(
                    SqlState("42P16"),
                    format!("column \"{column}\" is in a primary key"),
                ));
            }
            column_mut(definition, column)?.nullable = true;
        }
        AlterTableAction::AddConstraint(constraint) => {
            let schema = schema_of(&snapshot, definition)?;
            if matches!(
                constraint.kind,
                boathouse_sql::statement::TableConstraintKind::Check(_)
            ) {
                require_empty(
                    session,
                    definition,
                    "adding a CHECK to a table that has rows",
                    "declare it when the table is made",
                )
                .await?;
            }
            table::add_constraint(session, &snapshot, &schema, definition, constraint)?;
        }
        AlterTableAction::DropConstraint {
            if_exists, name, ..
        } => {
            let before = definition.clone();
            definition.primary_key.take_if(|key| key.name == *name);
            definition.unique_keys.retain(|key| key.name != *name);
            definition.foreign_keys.retain(|key| key.name != *name);
            definition.checks.retain(|check| check.name != *name);
            if *definition == before {
                let error = no_constraint(definition, name);
                if !*if_exists {
                    return Err(error);
                }
                session.state.notice(
                    "NOTICE",
                    SqlState::SUCCESSFUL_COMPLETION,
                    format!("{error}, skipping"),
                );
            }
        }
        AlterTableAction::SetOptions(options) => {
            for option in options {
                definition
                    .properties
                    .insert(option.name.clone(), table::option_text(option)?);
            }
        }
        AlterTableAction::ResetOptions(names) => {
            for name in names {
                definition.properties.remove(name);
            }
        }
    }
    Ok(())
}

fn schema_of(
    snapshot: &boathouse_catalog::Snapshot,
    definition: &TableDefinition,
) -> Result<Arc<boathouse_catalog::definitions::SchemaDefinition>, SqlError> {
    snapshot
        .schema_by_id(definition.schema)
        .cloned()
        .ok_or_else(|| SqlError::internal("a table's schema is not in the catalog"))
}

fn column_mut<'a>(
    definition: &'a mut TableDefinition,
    name: &str,
) -> Result<&'a mut boathouse_catalog::definitions::ColumnDefinition, SqlError> {
    let table = definition.name.clone();
    definition
        .columns
        .iter_mut()
        .find(|column| column.name == name)
        .ok_or_else(|| {
            SqlError::new(
                SqlState::UNDEFINED_COLUMN,
                format!("column \"{name}\" of relation \"{table}\" does not exist"),
            )
        })
}

fn no_constraint(definition: &TableDefinition, name: &str) -> SqlError {
    SqlError::new(
        SqlState::UNDEFINED_OBJECT,
        format!(
            "constraint \"{name}\" of relation \"{}\" does not exist",
            definition.name
        ),
    )
}

/// Fails unless the table has no rows, for changes that would have to look at or rewrite them.
async fn require_empty(
    session: &mut Session,
    definition: &TableDefinition,
    what: &str,
    instead: &str,
) -> Result<(), SqlError> {
    let waiting = session
        .state
        .work()
        .is_some_and(|work| work.has_rows(definition.id));
    let table = session.engine.lake.table(definition).await?;
    let rows = table.snapshot(None).await?.row_count();
    if rows == Some(0) && !waiting {
        return Ok(());
    }
    Err(SqlError::unsupported(what).hint(instead))
}
