//! `ALTER TABLE`: the catalog's definition changes, and the lake's own metadata follows it.

use std::sync::Arc;

use boathouse_catalog::definitions::{
    ColumnDefinition, ObjectKind, ObjectRef, Privilege, TableDefinition,
};
use boathouse_sql::statement::{AlterTable, AlterTableAction};

use super::fill::Fill;
use super::resolve::Found;
use super::{alter_column, done, keys, table};
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
    let mut filled = Vec::new();
    for action in &alter.actions {
        apply(session, &mut definition, action, &mut filled).await?;
    }
    if definition == *original {
        return done("ALTER TABLE");
    }
    table::check_definition(session, &definition)?;
    fill(session, &definition, filled).await?;
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
    let is_retyped = definition.columns.iter().any(|column| {
        let was = original.column(&column.name);
        was.is_some_and(|was| was.column_type != column.column_type)
    });
    session
        .catalog("ALTER TABLE")?
        .replace_table(definition.clone())?;
    session.work()?.table_changed(&schema, definition);
    if before != after {
        super::view::follow(session, "ALTER TABLE", &|schema, name| {
            (schema == before.0 && name == before.1).then(|| after.clone())
        })?;
    }
    if is_retyped {
        super::view::rebind(session, after).await?;
    }
    done("ALTER TABLE")
}

async fn apply(
    session: &mut Session,
    definition: &mut TableDefinition,
    action: &AlterTableAction,
    filled: &mut Vec<ColumnDefinition>,
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
            let holds_rows = !is_empty(session, definition).await?;
            if holds_rows && column.not_null && column.default.is_none() {
                return Err(SqlError::new(
                    SqlState::NOT_NULL_VIOLATION,
                    format!(
                        "column \"{}\" of relation \"{}\" contains null values",
                        column.name, definition.name
                    ),
                ));
            }
            table::add_column(definition, column)?;
            if let Some(added) = definition.columns.last_mut()
                && added.default.is_some()
                && holds_rows
            {
                added.name_apart();
                filled.push(added.clone());
            }
            let schema = schema_of(&snapshot, definition)?;
            for constraint in constraints {
                table::add_constraint(session, &snapshot, &schema, definition, constraint)?;
            }
        }
        AlterTableAction::DropColumn {
            if_exists,
            name,
            cascade,
        } => {
            if definition.column(name).is_none() {
                let message = format!(
                    "column \"{name}\" of relation \"{}\" does not exist",
                    definition.name
                );
                if !*if_exists {
                    return Err(SqlError::new(SqlState::UNDEFINED_COLUMN, message));
                }
                let message = format!("{message}, skipping");
                let state = SqlState::SUCCESSFUL_COMPLETION;
                session.state.notice("NOTICE", state, message);
                return Ok(());
            }
            alter_column::drop(session, definition, name, *cascade)?;
        }
        AlterTableAction::RenameColumn { from, to } => {
            alter_column::rename(session, definition, (from, to))?;
        }
        AlterTableAction::SetType {
            column,
            column_type,
            using,
        } => {
            let to = (column.as_str(), column_type, using.as_ref());
            alter_column::set_type(session, definition, to).await?;
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
            alter_column::require_not_null(session, definition, column).await?;
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
            let before = definition.checks.len();
            table::add_constraint(session, &snapshot, &schema, definition, constraint)?;
            for check in &definition.checks[before..] {
                let (name, expression) = (&check.name, &check.expression);
                alter_column::require_check(session, definition, name, expression).await?;
            }
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

/// Gives the rows that are there the defaults of new columns, unseen until the columns are.
async fn fill(
    session: &mut Session,
    definition: &TableDefinition,
    mut columns: Vec<ColumnDefinition>,
) -> Result<(), SqlError> {
    columns.retain(|added| {
        let mut columns = definition.columns.iter();
        columns.any(|column| column.name_in_files() == added.name_in_files())
    });
    if columns.is_empty() {
        return Ok(());
    }
    let mut fill = Fill::plan(session, definition, &columns)?;
    let engine = Arc::clone(&session.engine);
    if let Some(rows) = session.work()?.rows_of_created(definition.id) {
        let files = fill.of_uncommitted(&engine, &rows).await?;
        session.work()?.rows_rewritten(definition.id, files);
        return Ok(());
    }
    // What it would be refused for at COMMIT, it is refused for before files are written.
    session.catalog("ALTER TABLE")?;
    let table = engine.lake.table(definition).await?;
    let alone = table.rewriting().await;
    fill.run(&engine, None).await?;
    drop(alone);
    session.work()?.filled(fill);
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

pub(super) fn column_mut<'a>(
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

/// Whether the table has no rows, as the transaction sees it.
pub(super) async fn is_empty(
    session: &mut Session,
    definition: &TableDefinition,
) -> Result<bool, SqlError> {
    let work = session.state.work();
    if work.is_some_and(|work| work.has_rows(definition.id)) {
        return Ok(false);
    }
    let table = session.engine.lake.table(definition).await?;
    Ok(table.snapshot(None).await?.row_count() == Some(0))
}
