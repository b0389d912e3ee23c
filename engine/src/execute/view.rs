//! `CREATE`, `ALTER` and `DROP VIEW`. A view is kept as text and read with its owner's rights.
//!
//! The text names its relations with their schemas. What it depends on is found by reading the text
//! of every view: statements that drop or rename a relation are rare.

use std::sync::Arc;

use boathouse_catalog::Snapshot;
use boathouse_catalog::definitions::{ObjectId, ObjectKind, ObjectRef, Privilege, ViewDefinition};
use boathouse_catalog::types::ColumnType;
use boathouse_sql::QualifiedName;
use boathouse_sql::statement::{
    AlterTable, AlterTableAction, AlterView, AlterViewAction, CreateView, DropView,
};

use super::resolve::Found;
use super::{done, table};
use crate::error::{SqlError, SqlState};
use crate::lake;
use crate::outcome::Outcome;
use crate::query::{self, SessionInfo};
use crate::session::Session;

pub(super) async fn create(
    session: &mut Session,
    create: &CreateView,
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
    let settled = query::view::settle(&context, &create.query).await?;
    let mut definition = ViewDefinition {
        id: ObjectId::default(),
        schema: schema.id,
        name: create.name.name.clone(),
        owner: session.state.role.id,
        query: settled.to_string(),
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
            let schema = session.state.schema(&snapshot, name)?;
            session.state.require(
                &snapshot,
                ObjectRef::new(ObjectKind::Schema, schema.id),
                Privilege::Create,
                "schema",
                name,
            )?;
            changed.schema = schema.id;
        }
        AlterViewAction::OwnerTo(owner) => {
            changed.owner = session.state.new_owner(&snapshot, owner)?;
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
    let before = qualified(&snapshot, view.schema, &view.name);
    let after = qualified(&snapshot, changed.schema, &changed.name);
    session.catalog("ALTER VIEW")?.replace_view(changed)?;
    follow(session, "ALTER VIEW", &|schema, name| {
        (schema == before.0 && name == before.1).then(|| after.clone())
    })
}

pub(super) fn qualified(snapshot: &Snapshot, schema: ObjectId, name: &str) -> (String, String) {
    let schema = snapshot.schema_by_id(schema);
    let schema = schema.map(|schema| schema.name.clone()).unwrap_or_default();
    (schema, name.to_owned())
}

/// Points views at relations that have moved: `to` gives the new schema and name.
pub(super) fn follow(
    session: &mut Session,
    command: &str,
    to: &dyn Fn(&str, &str) -> Option<(String, String)>,
) -> Result<(), SqlError> {
    let snapshot = session.snapshot();
    for view in snapshot.views() {
        let (schema, _) = qualified(&snapshot, view.schema, &view.name);
        if let Some(query) = query::view::redirect(view, &schema, to) {
            let mut changed = ViewDefinition::clone(view);
            changed.query = query;
            session.catalog(command)?.replace_view(changed)?;
        }
    }
    Ok(())
}

/// The views that read a relation, directly or through others.
fn dependents(snapshot: &Snapshot, relation: (String, String)) -> Vec<Arc<ViewDefinition>> {
    let mut found: Vec<Arc<ViewDefinition>> = Vec::new();
    let mut open = vec![relation];
    while let Some(relation) = open.pop() {
        for view in snapshot.views() {
            let name = qualified(snapshot, view.schema, &view.name);
            if found.iter().all(|known| known.id != view.id)
                && query::view::relations(view, &name.0).contains(&relation)
            {
                found.push(Arc::clone(view));
                open.push(name);
            }
        }
    }
    found
}

/// Gives the views that read a relation the types that their columns have by now, which may be wider than before.
/// Refused where a view would not be what it was but for that.
pub(super) async fn rebind(
    session: &mut Session,
    relation: (String, String),
) -> Result<(), SqlError> {
    let snapshot = session.snapshot();
    for view in dependents(&snapshot, relation) {
        let (schema, name) = qualified(&snapshot, view.schema, &view.name);
        let mut context = session.state.query_context(&session.engine);
        let mut owner = SessionInfo::clone(&context.session);
        owner.role = view.owner;
        owner.superuser = snapshot.is_superuser(view.owner);
        // Names in it that have no schema are those of its own.
        owner.search_path = vec![schema];
        context.session = Arc::new(owner);
        let refused =
            |error: SqlError| in_the_way(&name, "cannot be read any more").caused_by(error);
        let query = boathouse_sql::parse_query(&view.query)
            .map_err(|error| refused(SqlError::from(error)))?;
        let planned = query::plan_query(&context, &query, &[]).await;
        let planned = planned.map_err(refused)?;
        let mut columns = Vec::with_capacity(view.columns.len());
        for ((label, was), field) in view.columns.iter().zip(planned.fields.fields()) {
            let is = ColumnType::from_field(field);
            if is != *was && !lake::widens(&was.arrow(), &is.arrow()) {
                let what = format!(
                    "would have {} for {} in its column \"{label}\"",
                    is.sql_name(),
                    was.sql_name()
                );
                return Err(in_the_way(&name, &what));
            }
            columns.push((label.clone(), is));
        }
        if columns != view.columns {
            let mut changed = ViewDefinition::clone(&view);
            changed.columns = columns;
            session.catalog("ALTER TABLE")?.replace_view(changed)?;
        }
    }
    Ok(())
}

/// A view keeps a column from getting another type.
pub(super) fn in_the_way(view: &str, what: &str) -> SqlError {
    SqlError::unsupported("changing the type of a column used by a view")
        .detail(format!("view {view} {what}"))
        .hint("drop the view, change the type, and make the view again")
}

/// Makes sure that no view is left without a relation it reads: drops those that read it with CASCADE,
/// and refuses without. `also` are views that the statement drops anyway.
pub(super) fn drop_dependents(
    session: &mut Session,
    command: &str,
    (kind, schema, name): (&str, ObjectId, &str),
    also: &[ObjectId],
    cascade: bool,
) -> Result<(), SqlError> {
    let snapshot = session.snapshot();
    let mut views = dependents(&snapshot, qualified(&snapshot, schema, name));
    views.retain(|view| !also.contains(&view.id));
    if !views.is_empty() && !cascade {
        let detail = views
            .iter()
            .map(|view| format!("view {} depends on {kind} {name}", view.name))
            .collect::<Vec<_>>();
        return Err(SqlError::new(
            SqlState::DEPENDENT_OBJECTS_STILL_EXIST,
            format!("cannot drop {kind} {name} because other objects depend on it"),
        )
        .detail(detail.join("\n"))
        .hint("Use DROP ... CASCADE to drop the dependent objects too."));
    }
    for view in views {
        drop_by_cascade(session, command, &view)?;
    }
    Ok(())
}

/// Drops a view and those that read it.
pub(super) fn drop_with_dependents(
    session: &mut Session,
    command: &str,
    view: &ViewDefinition,
) -> Result<(), SqlError> {
    let what = ("view", view.schema, view.name.as_str());
    drop_dependents(session, command, what, &[view.id], true)?;
    drop_by_cascade(session, command, view)
}

fn drop_by_cascade(
    session: &mut Session,
    command: &str,
    view: &ViewDefinition,
) -> Result<(), SqlError> {
    session.catalog(command)?.drop_view(view.id)?;
    session.state.notice(
        "NOTICE",
        SqlState::SUCCESSFUL_COMPLETION,
        format!("drop cascades to view {}", view.name),
    );
    Ok(())
}

pub(super) fn drop(session: &mut Session, drop: &DropView) -> Result<Outcome, SqlError> {
    let mut views = Vec::new();
    for name in &drop.names {
        let Some(view) = view_named(session, name)? else {
            table::skip_missing(session, "view", name, drop.if_exists)?;
            continue;
        };
        session
            .state
            .require_owner(&session.snapshot(), view.owner, "view", &view.name)?;
        views.push(view);
    }
    let ids: Vec<_> = views.iter().map(|view| view.id).collect();
    for view in views {
        let what = ("view", view.schema, view.name.as_str());
        drop_dependents(session, "DROP VIEW", what, &ids, drop.cascade)?;
        session.catalog("DROP VIEW")?.drop_view(view.id)?;
    }
    done("DROP VIEW")
}
