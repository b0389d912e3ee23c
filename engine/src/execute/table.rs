//! `CREATE TABLE` (from columns, `LIKE` or a query) and `DROP TABLE`.
//!
//! The Delta table is made at once, in a folder nobody knows; the catalog names it at COMMIT.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use boathouse_catalog::definitions::{
    CheckConstraint, ColumnDefinition, ForeignKey, KeyConstraint, SchemaDefinition, TableDefinition,
};
use boathouse_catalog::types::ColumnType;
use boathouse_catalog::{Snapshot, Transaction};
use boathouse_sql::statement::{
    ColumnDeclaration, CreateTable, DropTable, TableConstraint, TableConstraintKind,
};
use boathouse_sql::{QualifiedName, ast};

use super::resolve::Found;
use super::write::TableWrite;
use super::{done, view, write};
use crate::error::{SqlError, SqlState};
use crate::outcome::Outcome;
use crate::query;
use crate::session::Session;

pub(super) async fn create(
    session: &mut Session,
    create: &CreateTable,
) -> Result<Outcome, SqlError> {
    let tag = if create.source.is_some() {
        "SELECT 0"
    } else {
        "CREATE TABLE"
    };
    if create.temporary {
        return Err(SqlError::unsupported("CREATE TEMPORARY TABLE")
            .hint("make a table in a schema of your own and drop it when done"));
    }
    let snapshot = session.snapshot();
    let schema = session.state.schema_for_new(&snapshot, &create.name)?;
    if snapshot.relation(&schema.name, &create.name.name).is_some() {
        let message = format!("relation \"{}\" already exists", create.name.name);
        if create.if_not_exists {
            session.state.notice(
                "NOTICE",
                SqlState::DUPLICATE_TABLE,
                format!("{message}, skipping"),
            );
            return done(if create.source.is_some() {
                "CREATE TABLE AS"
            } else {
                tag
            });
        }
        return Err(SqlError::new(SqlState::DUPLICATE_TABLE, message));
    }
    session.check_writable("CREATE TABLE")?;

    let mut definition =
        TableDefinition::new(schema.id, &create.name.name, session.state.role.id, "");
    copy_from_others(session, create, &snapshot, &mut definition)?;
    for column in &create.columns {
        add_column(&mut definition, column)?;
    }
    definition.partition_by.clone_from(&create.partition_by);
    for option in &create.options {
        definition
            .properties
            .insert(option.name.clone(), option_text(option)?);
    }

    let planned = match &create.source {
        Some(source) => {
            let context = session.state.query_context(&session.engine);
            let planned = query::plan_query(&context, &source.query, &[]).await?;
            let names = &source.column_names;
            if names.len() > planned.fields.fields().len() {
                return Err(SqlError::new(
                    SqlState::SYNTAX_ERROR,
                    "too many column names were specified",
                ));
            }
            for (index, field) in planned.fields.fields().iter().enumerate() {
                let name = names.get(index).unwrap_or(field.name());
                push_column(
                    &mut definition,
                    ColumnDefinition::new(name, ColumnType::from_field(field), true),
                )?;
            }
            Some((context, planned, source.with_data))
        }
        None => None,
    };
    for constraint in &create.constraints {
        add_constraint(session, &snapshot, &schema, &mut definition, constraint)?;
    }
    check_definition(session, &definition)?;

    session.catalog("CREATE TABLE")?;
    definition.check_columns()?;
    definition.location = session
        .engine
        .lake
        .create_table(&definition, &schema.name)
        .await?;
    match session
        .catalog("CREATE TABLE")?
        .create_table(definition.clone())
    {
        Ok(id) => definition.id = id,
        Err(error) => {
            session
                .engine
                .lake
                .discard_table(&definition.location)
                .await?;
            return Err(error.into());
        }
    }
    session
        .work()?
        .table_created(&schema.name, definition.clone());

    let Some((context, planned, with_data)) = planned else {
        return done(tag);
    };
    if !with_data {
        return done("CREATE TABLE AS");
    }
    let definition = Arc::new(definition);
    let stream = query::execute_query(&context, &planned, &[]).await?;
    let table_write = TableWrite::begin(
        session,
        &schema.name,
        Arc::clone(&definition),
        &definition.columns,
    )
    .await?;
    let rows = write::write_stream(session, table_write, stream, "CREATE TABLE AS").await?;
    done(format!("SELECT {rows}"))
}

/// `LIKE other`.
fn copy_from_others(
    session: &Session,
    create: &CreateTable,
    snapshot: &Snapshot,
    definition: &mut TableDefinition,
) -> Result<(), SqlError> {
    for like in &create.like {
        let other = session.state.table(snapshot, &like.table)?;
        for column in &other.columns {
            let mut column = column.clone();
            if !like.including_defaults {
                column.default = None;
            }
            if !like.including_comments {
                column.comment = None;
            }
            push_column(definition, column)?;
        }
        if like.including_constraints {
            definition.checks.extend(other.checks.iter().cloned());
        }
        if like.including_indexes {
            definition.primary_key = other.primary_key.as_ref().map(|key| KeyConstraint {
                name: format!("{}_pkey", definition.name),
                columns: key.columns.clone(),
            });
            definition
                .unique_keys
                .extend(other.unique_keys.iter().cloned());
        }
    }
    Ok(())
}

/// Appends a declared column.
pub(super) fn add_column(
    definition: &mut TableDefinition,
    column: &ColumnDeclaration,
) -> Result<(), SqlError> {
    let mut made =
        ColumnDefinition::new(&column.name, column.column_type.clone(), !column.not_null);
    made.default = column.default.as_ref().map(ToString::to_string);
    push_column(definition, made)
}

pub(super) fn push_column(
    definition: &mut TableDefinition,
    column: ColumnDefinition,
) -> Result<(), SqlError> {
    if definition.column(&column.name).is_some() {
        return Err(SqlError::new(
            SqlState::DUPLICATE_COLUMN,
            format!("column \"{}\" specified more than once", column.name),
        ));
    }
    if column.column_type.stored_arrow().is_none() {
        return Err(SqlError::unsupported(format!(
            "storing column \"{}\" of type {}",
            column.name,
            column.column_type.sql_name()
        ))
        .hint("Delta has no such type; keep it as text or as a number of seconds"));
    }
    definition.add_column(column);
    Ok(())
}

/// Adds a constraint under its own name or the one PostgreSQL would choose.
pub(super) fn add_constraint(
    session: &Session,
    snapshot: &Snapshot,
    schema: &SchemaDefinition,
    definition: &mut TableDefinition,
    constraint: &TableConstraint,
) -> Result<(), SqlError> {
    match &constraint.kind {
        TableConstraintKind::PrimaryKey(columns) => {
            if definition.primary_key.is_some() {
                return Err(SqlError::new(
                    SqlState("42P16"),
                    format!(
                        "multiple primary keys for table \"{}\" are not allowed",
                        definition.name
                    ),
                ));
            }
            require_columns(definition, columns)?;
            for column in &mut definition.columns {
                if columns.contains(&column.name) {
                    column.nullable = false;
                }
            }
            let name = named(constraint, || format!("{}_pkey", definition.name));
            check_name(definition, &name)?;
            definition.primary_key = Some(KeyConstraint {
                name,
                columns: columns.clone(),
            });
        }
        TableConstraintKind::Unique(columns) => {
            require_columns(definition, columns)?;
            let name = named(constraint, || {
                format!("{}_{}_key", definition.name, columns.join("_"))
            });
            check_name(definition, &name)?;
            definition.unique_keys.push(KeyConstraint {
                name,
                columns: columns.clone(),
            });
        }
        TableConstraintKind::ForeignKey {
            columns,
            references,
            referenced_columns,
            ..
        } => {
            require_columns(definition, columns)?;
            let itself = references.name == definition.name
                && references
                    .schema
                    .as_ref()
                    .is_none_or(|name| *name == schema.name);
            let (references_schema, target) = if itself {
                (schema.name.clone(), definition.clone())
            } else {
                let target = session.state.table(snapshot, references)?;
                let schema = snapshot
                    .schema_by_id(target.schema)
                    .map(|schema| schema.name.clone())
                    .unwrap_or_default();
                (schema, (*target).clone())
            };
            let references_columns = if referenced_columns.is_empty() {
                target
                    .primary_key
                    .as_ref()
                    .map(|key| key.columns.clone())
                    .ok_or_else(|| {
                        SqlError::new(
                            SqlState::UNDEFINED_OBJECT,
                            format!(
                                "there is no primary key for referenced table \"{}\"",
                                target.name
                            ),
                        )
                    })?
            } else {
                require_columns(&target, referenced_columns)?;
                referenced_columns.clone()
            };
            if references_columns.len() != columns.len() {
                return Err(SqlError::new(
                    SqlState("42830"),
                    "number of referencing and referenced columns for foreign key disagree",
                ));
            }
            let name = named(constraint, || {
                format!("{}_{}_fkey", definition.name, columns.join("_"))
            });
            check_name(definition, &name)?;
            definition.foreign_keys.push(ForeignKey {
                name,
                columns: columns.clone(),
                references_schema,
                references_table: target.name,
                references_columns,
            });
        }
        TableConstraintKind::Check(expression) => {
            let name = named(constraint, || free_check_name(definition, expression));
            check_name(definition, &name)?;
            definition.checks.push(CheckConstraint {
                name,
                expression: expression.to_string(),
            });
        }
    }
    Ok(())
}

fn named(constraint: &TableConstraint, otherwise: impl FnOnce() -> String) -> String {
    constraint.name.clone().unwrap_or_else(otherwise)
}

/// PostgreSQL's name for a CHECK: with the column's name in it when it is about one column.
fn free_check_name(definition: &TableDefinition, expression: &ast::Expr) -> String {
    let taken = |name: &str| definition.checks.iter().any(|check| check.name == name);
    let mut columns: BTreeSet<String> = BTreeSet::new();
    // The visitor never breaks, so there is nothing to look at.
    let _ = ast::visit_expressions(expression, |part| {
        if let ast::Expr::Identifier(column) = part {
            columns.insert(column.value.clone());
        }
        ControlFlow::<()>::Continue(())
    });
    let plain = match columns.first() {
        Some(column) if columns.len() == 1 => format!("{}_{column}_check", definition.name),
        _ => format!("{}_check", definition.name),
    };
    if !taken(&plain) {
        return plain;
    }
    let mut number = 1;
    loop {
        let name = format!("{plain}{number}");
        if !taken(&name) {
            return name;
        }
        number += 1;
    }
}

fn check_name(definition: &TableDefinition, name: &str) -> Result<(), SqlError> {
    let taken = definition.primary_key.iter().any(|key| key.name == name)
        || definition.unique_keys.iter().any(|key| key.name == name)
        || definition.foreign_keys.iter().any(|key| key.name == name)
        || definition.checks.iter().any(|check| check.name == name);
    if taken {
        return Err(SqlError::new(
            SqlState::DUPLICATE_OBJECT,
            format!(
                "constraint \"{name}\" for relation \"{}\" already exists",
                definition.name
            ),
        ));
    }
    Ok(())
}

fn require_columns(definition: &TableDefinition, columns: &[String]) -> Result<(), SqlError> {
    match columns
        .iter()
        .find(|column| definition.column(column).is_none())
    {
        Some(missing) => Err(SqlError::new(
            SqlState::UNDEFINED_COLUMN,
            format!("column \"{missing}\" named in key does not exist"),
        )),
        None => Ok(()),
    }
}

/// Checks what only the whole definition shows: partition columns, defaults and checks that plan.
pub(super) fn check_definition(
    session: &Session,
    definition: &TableDefinition,
) -> Result<(), SqlError> {
    if definition.columns.is_empty() {
        return Err(SqlError::unsupported("a table without columns"));
    }
    for column in &definition.partition_by {
        if definition.column(column).is_none() {
            return Err(SqlError::new(
                SqlState::UNDEFINED_COLUMN,
                format!("column \"{column}\" named in partition key does not exist"),
            ));
        }
    }
    if definition.partition_by.len() == definition.columns.len() {
        return Err(SqlError::new(
            SqlState("42P16"),
            "a table needs a column that it is not partitioned by",
        ));
    }
    super::properties::check(definition)?;
    write::plan_constraints(session, definition)?;
    write::plan_defaults(session, definition)?;
    Ok(())
}

pub(super) fn drop(session: &mut Session, drop: &DropTable) -> Result<Outcome, SqlError> {
    for name in &drop.names {
        let snapshot = session.snapshot();
        let table = match session.state.find(&snapshot, name) {
            Some(Found::Table(table)) => table,
            Some(Found::View(view)) => {
                return Err(SqlError::new(
                    SqlState::WRONG_OBJECT_TYPE,
                    format!("\"{}\" is not a table", view.name),
                )
                .hint("Use DROP VIEW to remove a view."));
            }
            None => {
                skip_missing(session, "table", name, drop.if_exists)?;
                continue;
            }
        };
        session
            .state
            .require_owner(&snapshot, table.owner, "table", &table.name)?;
        let schema = snapshot
            .schema_by_id(table.schema)
            .map(|schema| schema.name.clone())
            .unwrap_or_default();
        let referencing: Vec<_> = snapshot
            .tables()
            .filter(|other| other.id != table.id)
            .filter(|other| {
                other.foreign_keys.iter().any(|key| {
                    key.references_table == table.name && key.references_schema == schema
                })
            })
            .cloned()
            .collect();
        if !referencing.is_empty() && !drop.cascade {
            let detail = referencing
                .iter()
                .map(|other| {
                    format!(
                        "a foreign key of table {} depends on table {}",
                        other.name, table.name
                    )
                })
                .collect::<Vec<_>>();
            return Err(SqlError::new(
                SqlState::DEPENDENT_OBJECTS_STILL_EXIST,
                format!(
                    "cannot drop table {} because other objects depend on it",
                    table.name
                ),
            )
            .detail(detail.join("\n"))
            .hint("Use DROP ... CASCADE to drop the dependent objects too."));
        }
        for other in referencing {
            let mut changed = (*other).clone();
            changed.foreign_keys.retain(|key| {
                key.references_table != table.name || key.references_schema != schema
            });
            session.catalog("DROP TABLE")?.replace_table(changed)?;
        }
        let what = ("table", table.schema, table.name.as_str());
        view::drop_dependents(session, "DROP TABLE", what, &[], drop.cascade)?;
        let transaction: &mut Transaction = session.catalog("DROP TABLE")?;
        transaction.drop_table(table.id)?;
        session.work()?.table_dropped(table);
    }
    done("DROP TABLE")
}

/// `IF EXISTS` turns the error into a notice.
pub(super) fn skip_missing(
    session: &mut Session,
    kind: &str,
    name: &QualifiedName,
    if_exists: bool,
) -> Result<(), SqlError> {
    let message = format!("{kind} \"{}\" does not exist", name.name);
    if if_exists {
        session.state.notice(
            "NOTICE",
            SqlState::SUCCESSFUL_COMPLETION,
            format!("{message}, skipping"),
        );
        return Ok(());
    }
    Err(SqlError::new(SqlState::UNDEFINED_TABLE, message))
}

/// A table property is text, however it was written.
pub(super) fn option_text(option: &boathouse_sql::SqlOption) -> Result<String, SqlError> {
    option.value.text().ok_or_else(|| {
        SqlError::new(
            SqlState::INVALID_PARAMETER_VALUE,
            format!("property \"{}\" of a table cannot be a secret", option.name),
        )
    })
}
