//! `CREATE`, `ALTER` and `DROP VIEW`. A view is kept as text and read with its owner's rights.

use std::sync::Arc;

use boathouse_catalog::definitions::{ObjectId, ViewDefinition};
use boathouse_catalog::types::ColumnType;
use boathouse_sql::QualifiedName;
use boathouse_sql::statement::{
    AlterTable, AlterTableAction, AlterView, AlterViewAction, CreateView, DropView,
};

use super::resolve::Found;
use super::{done, table};
use crate::error::{SqlError, SqlState};
use crate::outcome::Outcome;
use crate::query;
use crate::session::Session;

pub(super) async fn create(
    session: &mut Session,
    create: &CreateView,
    text: &str,
) -> Result<Outcome, SqlError> {
    let snapshot = session.snapshot();
    let schema = session.state.schema_for_new(&snapshot, &create.name)?;
    let qualified = QualifiedName::in_schema(&schema.name, &create.name.name);
    let existing = match session.state.find(&snapshot, &qualified) {
        Some(Found::View(view)) if create.or_replace => Some(view),
        Some(Found::Table(_)) if create.or_replace => {
            return Err(SqlError::new(
                SqlState::WRONG_OBJECT_TYPE,
                format!("\"{}\" is not a view", create.name.name),
            ));
        }
        Some(_) => {
            let message = format!("relation \"{}\" already exists", create.name.name);
            if create.if_not_exists {
                session.state.notice(
                    "NOTICE",
                    SqlState::DUPLICATE_TABLE,
                    format!("{message}, skipping"),
                );
                return done("CREATE VIEW");
            }
            return Err(SqlError::new(SqlState::DUPLICATE_TABLE, message));
        }
        None => None,
    };
    let context = session.state.query_context(&session.engine);
    let planned = query::plan_query(&context, &create.query, &[]).await?;
    if !planned.parameters.is_empty() {
        return Err(SqlError::new(
            SqlState::UNDEFINED_PARAMETER,
            "a view cannot have parameters",
        ));
    }
    if create.columns.len() > planned.fields.fields().len() {
        return Err(SqlError::new(
            SqlState::SYNTAX_ERROR,
            "CREATE VIEW specifies more column names than columns",
        ));
    }
    let mut columns: Vec<(String, ColumnType)> = Vec::new();
    for (index, field) in planned.fields.fields().iter().enumerate() {
        let name = create.columns.get(index).unwrap_or(field.name());
        if columns.iter().any(|(earlier, _)| earlier == name) {
            return Err(SqlError::new(
                SqlState::DUPLICATE_COLUMN,
                format!("column \"{name}\" specified more than once"),
            ));
        }
        columns.push((name.clone(), ColumnType::from_field(field)));
    }
    let mut definition = ViewDefinition {
        id: ObjectId::default(),
        schema: schema.id,
        name: create.name.name.clone(),
        owner: session.state.role.id,
        query: create.query.to_string(),
        columns,
        comment: None,
        column_comments: Default::default(),
    };
    match existing {
        Some(view) => {
            session
                .state
                .require_owner(&snapshot, view.owner, "view", &view.name)?;
            definition.id = view.id;
            definition.owner = view.owner;
            definition.comment.clone_from(&view.comment);
            session.catalog("CREATE VIEW")?.replace_view(definition)?;
        }
        None => {
            session.catalog("CREATE VIEW")?.create_view(definition)?;
        }
    }
    done("CREATE VIEW")
}

fn view_named(
    session: &Session,
    name: &QualifiedName,
) -> Result<Option<Arc<ViewDefinition>>, SqlError> {
    match session.state.find(&session.snapshot(), name) {
        Some(Found::View(view)) => Ok(Some(view)),
        Some(Found::Table(table)) => Err(SqlError::new(
            SqlState::WRONG_OBJECT_TYPE,
            format!("\"{}\" is not a view", table.name),
        )),
        None => Ok(None),
    }
}

pub(super) fn alter(session: &mut Session, alter: &AlterView) -> Result<Outcome, SqlError> {
    let Some(view) = view_named(session, &alter.name)? else {
        table::skip_missing(session, "view", &alter.name, alter.if_exists)?;
        return done("ALTER VIEW");
    };
    change(session, &view, &alter.action)?;
    done("ALTER VIEW")
}

/// `ALTER TABLE` on a view, for what the two have in common.
pub(super) fn alter_as_table(
    session: &mut Session,
    view: &ViewDefinition,
    alter: &AlterTable,
) -> Result<Outcome, SqlError> {
    for action in &alter.actions {
        let action = match action {
            AlterTableAction::RenameTo(name) => AlterViewAction::RenameTo(name.clone()),
            AlterTableAction::SetSchema(name) => AlterViewAction::SetSchema(name.clone()),
            AlterTableAction::OwnerTo(owner) => AlterViewAction::OwnerTo(owner.clone()),
            _ => {
                return Err(SqlError::new(
                    SqlState::WRONG_OBJECT_TYPE,
                    format!("\"{}\" is not a table", view.name),
                ));
            }
        };
        change(session, view, &action)?;
    }
    done("ALTER TABLE")
}

fn change(
    session: &mut Session,
    view: &ViewDefinition,
    action: &AlterViewAction,
) -> Result<(), SqlError> {
    let snapshot = session.snapshot();
    session
        .state
        .require_owner(&snapshot, view.owner, "view", &view.name)?;
    let mut changed = view.clone();
    match action {
        AlterViewAction::RenameTo(name) => changed.name.clone_from(name),
        AlterViewAction::SetSchema(name) => {
            changed.schema = session.state.schema(&snapshot, name)?.id;
        }
        AlterViewAction::OwnerTo(owner) => {
            changed.owner = session.state.role_named(&snapshot, owner)?.id;
        }
        AlterViewAction::RenameColumn { from, to } => {
            let column = changed
                .columns
                .iter_mut()
                .find(|(name, _)| name == from)
                .ok_or_else(|| {
                    SqlError::new(
                        SqlState::UNDEFINED_COLUMN,
                        format!("column \"{from}\" does not exist"),
                    )
                })?;
            column.0.clone_from(to);
        }
        AlterViewAction::SetOptions(_) | AlterViewAction::ResetOptions(_) => {
            return Err(SqlError::unsupported("an option of a view"));
        }
    }
    session.catalog("ALTER VIEW")?.replace_view(changed)?;
    Ok(())
}

pub(super) fn drop(session: &mut Session, drop: &DropView) -> Result<Outcome, SqlError> {
    for name in &drop.names {
        let Some(view) = view_named(session, name)? else {
            table::skip_missing(session, "view", name, drop.if_exists)?;
            continue;
        };
        session
            .state
            .require_owner(&session.snapshot(), view.owner, "view", &view.name)?;
        session.catalog("DROP VIEW")?.drop_view(view.id)?;
    }
    done("DROP VIEW")
}
