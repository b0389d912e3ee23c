//! `CREATE`, `ALTER` and `DROP SCHEMA`.

use boathouse_catalog::definitions::{ObjectRef, Privilege};
use boathouse_sql::statement::{AlterSchema, AlterSchemaAction, CreateSchema, DropSchema};

use super::{done, view};
use crate::error::{SqlError, SqlState};
use crate::outcome::Outcome;
use crate::session::Session;

pub(super) fn create(session: &mut Session, create: &CreateSchema) -> Result<Outcome, SqlError> {
    let snapshot = session.snapshot();
    session.state.require(
        &snapshot,
        ObjectRef::DATABASE,
        Privilege::Create,
        "database",
        &session.state.database,
    )?;
    if create.name.starts_with("pg_") {
        return Err(SqlError::new(
            SqlState("42939"),
            format!("unacceptable schema name \"{}\"", create.name),
        )
        .detail("The prefix \"pg_\" is reserved for system schemas."));
    }
    if snapshot.schema(&create.name).is_some() {
        let message = format!("schema \"{}\" already exists", create.name);
        if create.if_not_exists {
            session.state.notice(
                "NOTICE",
                SqlState::DUPLICATE_SCHEMA,
                format!("{message}, skipping"),
            );
            return done("CREATE SCHEMA");
        }
        return Err(SqlError::new(SqlState::DUPLICATE_SCHEMA, message));
    }
    let owner = match &create.owner {
        Some(owner) => {
            let owner = session.state.role_named(&snapshot, owner)?;
            session
                .state
                .require_owner(&snapshot, owner.id, "role", &owner.name)?;
            owner.id
        }
        None => session.state.role.id,
    };
    session
        .catalog("CREATE SCHEMA")?
        .create_schema(&create.name, owner)?;
    done("CREATE SCHEMA")
}

pub(super) fn alter(session: &mut Session, alter: &AlterSchema) -> Result<Outcome, SqlError> {
    let snapshot = session.snapshot();
    let schema = session.state.schema(&snapshot, &alter.name)?;
    session
        .state
        .require_owner(&snapshot, schema.owner, "schema", &schema.name)?;
    match &alter.action {
        AlterSchemaAction::RenameTo(name) => {
            session
                .catalog("ALTER SCHEMA")?
                .rename_schema(schema.id, name)?;
            view::follow(session, "ALTER SCHEMA", &|old, relation| {
                (old == schema.name).then(|| (name.clone(), relation.to_owned()))
            })?;
        }
        AlterSchemaAction::OwnerTo(owner) => {
            let owner = session.state.new_owner(&snapshot, owner)?;
            let mut changed = (*schema).clone();
            changed.owner = owner;
            session.catalog("ALTER SCHEMA")?.replace_schema(changed)?;
        }
    }
    done("ALTER SCHEMA")
}

pub(super) fn drop(session: &mut Session, drop: &DropSchema) -> Result<Outcome, SqlError> {
    for name in &drop.names {
        let snapshot = session.snapshot();
        let Some(schema) = snapshot.schema(name).cloned() else {
            let message = format!("schema \"{name}\" does not exist");
            if drop.if_exists {
                session.state.notice(
                    "NOTICE",
                    SqlState::SUCCESSFUL_COMPLETION,
                    format!("{message}, skipping"),
                );
                continue;
            }
            return Err(SqlError::new(SqlState::INVALID_SCHEMA_NAME, message));
        };
        session
            .state
            .require_owner(&snapshot, schema.owner, "schema", name)?;
        let tables: Vec<_> = snapshot
            .tables()
            .filter(|table| table.schema == schema.id)
            .cloned()
            .collect();
        let views: Vec<_> = snapshot
            .views()
            .filter(|view| view.schema == schema.id)
            .cloned()
            .collect();
        if !drop.cascade && (!tables.is_empty() || !views.is_empty()) {
            let dependents = tables
                .iter()
                .map(|table| format!("table {name}.{} depends on schema {name}", table.name))
                .chain(
                    views
                        .iter()
                        .map(|view| format!("view {name}.{} depends on schema {name}", view.name)),
                )
                .collect::<Vec<_>>();
            return Err(SqlError::new(
                SqlState::DEPENDENT_OBJECTS_STILL_EXIST,
                format!("cannot drop schema {name} because other objects depend on it"),
            )
            .detail(dependents.join("\n"))
            .hint("Use DROP ... CASCADE to drop the dependent objects too."));
        }
        let ids: Vec<_> = views.iter().map(|view| view.id).collect();
        for view in views {
            let what = ("view", view.schema, view.name.as_str());
            view::drop_dependents(session, "DROP SCHEMA", what, &ids, drop.cascade)?;
            session.catalog("DROP SCHEMA")?.drop_view(view.id)?;
        }
        for table in tables {
            let what = ("table", table.schema, table.name.as_str());
            view::drop_dependents(session, "DROP SCHEMA", what, &[], drop.cascade)?;
            session.catalog("DROP SCHEMA")?.drop_table(table.id)?;
            session.work()?.table_dropped(table);
        }
        session.catalog("DROP SCHEMA")?.drop_schema(schema.id)?;
    }
    done("DROP SCHEMA")
}
