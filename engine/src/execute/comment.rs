//! `COMMENT ON`.

use boathouse_catalog::definitions::{ObjectId, ObjectKind, ObjectRef};
use boathouse_sql::QualifiedName;
use boathouse_sql::statement::{Comment, CommentObject};

use super::done;
use super::resolve::{Found, undefined, undefined_relation};
use crate::error::{SqlError, SqlState};
use crate::outcome::Outcome;
use crate::session::Session;

pub(super) fn execute(session: &mut Session, comment: &Comment) -> Result<Outcome, SqlError> {
    let (object, column) = target(session, &comment.object)?;
    let text = comment.comment.clone();
    session
        .catalog("COMMENT")?
        .set_comment(object, column.as_deref(), text)?;
    follow_in_lake(session, object)?;
    done("COMMENT")
}

/// A table's comments are kept in its Delta metadata too.
fn follow_in_lake(session: &mut Session, object: ObjectRef) -> Result<(), SqlError> {
    if object.kind != ObjectKind::Table {
        return Ok(());
    }
    let snapshot = session.snapshot();
    let Some(table) = snapshot.table_by_id(object.id) else {
        return Ok(());
    };
    let schema = snapshot
        .schema_by_id(table.schema)
        .map(|schema| schema.name.clone())
        .unwrap_or_default();
    session.work()?.table_changed(&schema, (**table).clone());
    Ok(())
}

fn target(
    session: &Session,
    object: &CommentObject,
) -> Result<(ObjectRef, Option<String>), SqlError> {
    let snapshot = session.snapshot();
    let state = &session.state;
    let owned = |kind: ObjectKind, id: ObjectId, owner: ObjectId, name: &str| {
        state.require_owner(&snapshot, owner, kind.name(), name)?;
        Ok((ObjectRef::new(kind, id), None))
    };
    match object {
        CommentObject::Database(name) => {
            if *name != state.database {
                return Err(SqlError::new(
                    SqlState("3D000"),
                    format!("database \"{name}\" does not exist"),
                ));
            }
            state.require_superuser(&snapshot, "comment on the database")?;
            Ok((ObjectRef::DATABASE, None))
        }
        CommentObject::Schema(name) => {
            let schema = state.schema(&snapshot, name)?;
            owned(ObjectKind::Schema, schema.id, schema.owner, name)
        }
        CommentObject::Table(name) | CommentObject::View(name) => relation(session, name),
        CommentObject::Column {
            relation: name,
            column,
        } => {
            let (object, _) = relation(session, name)?;
            let exists = match state.find(&snapshot, name) {
                Some(Found::Table(table)) => table.column(column).is_some(),
                Some(Found::View(view)) => view.columns.iter().any(|(known, _)| known == column),
                None => false,
            };
            if !exists {
                return Err(SqlError::new(
                    SqlState::UNDEFINED_COLUMN,
                    format!(
                        "column \"{column}\" of relation \"{}\" does not exist",
                        name.name
                    ),
                ));
            }
            Ok((object, Some(column.clone())))
        }
        CommentObject::Constraint { .. } => Err(SqlError::unsupported("COMMENT ON CONSTRAINT")),
        CommentObject::Role(name) => {
            state.require_superuser(&snapshot, "comment on a role")?;
            let role = snapshot.role(name).ok_or_else(|| undefined("role", name))?;
            Ok((ObjectRef::new(ObjectKind::Role, role.id), None))
        }
        CommentObject::Secret(name) => {
            let secret = snapshot
                .secret(name)
                .ok_or_else(|| undefined("secret", name))?;
            owned(ObjectKind::Secret, secret.id, secret.owner, name)
        }
        CommentObject::Connection(name) => {
            let connection = state.connection(&snapshot, name)?;
            owned(
                ObjectKind::Connection,
                connection.id,
                connection.owner,
                name,
            )
        }
        CommentObject::Pipeline(name) => {
            let pipeline = state.pipeline(&snapshot, name)?;
            owned(ObjectKind::Pipeline, pipeline.id, pipeline.owner, name)
        }
    }
}

fn relation(
    session: &Session,
    name: &QualifiedName,
) -> Result<(ObjectRef, Option<String>), SqlError> {
    let snapshot = session.snapshot();
    let (kind, id, owner) = match session.state.find(&snapshot, name) {
        Some(Found::Table(table)) => (ObjectKind::Table, table.id, table.owner),
        Some(Found::View(view)) => (ObjectKind::View, view.id, view.owner),
        None => return Err(undefined_relation(name)),
    };
    session
        .state
        .require_owner(&snapshot, owner, kind.name(), &name.name)?;
    Ok((ObjectRef::new(kind, id), None))
}
