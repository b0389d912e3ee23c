//! `CREATE`, `ALTER` and `DROP SECRET`. A value goes in and is never shown again.

use boathouse_catalog::Secret;
use boathouse_sql::statement::{AlterSecret, AlterSecretAction, CreateSecret, DropSecret};

use super::done;
use super::resolve::undefined;
use crate::error::{SqlError, SqlState};
use crate::outcome::Outcome;
use crate::session::Session;

pub(super) fn create(session: &mut Session, create: &CreateSecret) -> Result<Outcome, SqlError> {
    let snapshot = session.snapshot();
    let value = Secret::new(create.value.expose());
    if let Some(existing) = snapshot.secret(&create.name) {
        let message = format!("secret \"{}\" already exists", create.name);
        if create.if_not_exists {
            session.state.notice(
                "NOTICE",
                SqlState::DUPLICATE_OBJECT,
                format!("{message}, skipping"),
            );
            return done("CREATE SECRET");
        }
        if !create.or_replace {
            return Err(SqlError::new(SqlState::DUPLICATE_OBJECT, message)
                .hint("CREATE OR REPLACE SECRET gives it a new value"));
        }
        session
            .state
            .require_owner(&snapshot, existing.owner, "secret", &create.name)?;
        let id = existing.id;
        session
            .catalog("CREATE SECRET")?
            .replace_secret(id, &value)?;
        return done("CREATE SECRET");
    }
    let owner = session.state.role.id;
    session
        .catalog("CREATE SECRET")?
        .create_secret(&create.name, owner, &value)?;
    done("CREATE SECRET")
}

pub(super) fn alter(session: &mut Session, alter: &AlterSecret) -> Result<Outcome, SqlError> {
    let snapshot = session.snapshot();
    let secret = snapshot
        .secret(&alter.name)
        .ok_or_else(|| undefined("secret", &alter.name))?
        .clone();
    session
        .state
        .require_owner(&snapshot, secret.owner, "secret", &alter.name)?;
    match &alter.action {
        AlterSecretAction::Value(value) => {
            let value = Secret::new(value.expose());
            session
                .catalog("ALTER SECRET")?
                .replace_secret(secret.id, &value)?;
        }
        AlterSecretAction::RenameTo(name) => {
            let mut changed = (*secret).clone();
            changed.name.clone_from(name);
            session
                .catalog("ALTER SECRET")?
                .replace_secret_definition(changed)?;
        }
        AlterSecretAction::OwnerTo(owner) => {
            let owner = session.state.new_owner(&snapshot, owner)?;
            let mut changed = (*secret).clone();
            changed.owner = owner;
            session
                .catalog("ALTER SECRET")?
                .replace_secret_definition(changed)?;
        }
    }
    done("ALTER SECRET")
}

pub(super) fn drop(session: &mut Session, drop: &DropSecret) -> Result<Outcome, SqlError> {
    for name in &drop.names {
        let snapshot = session.snapshot();
        let Some(secret) = snapshot.secret(name).cloned() else {
            if drop.if_exists {
                session.state.notice(
                    "NOTICE",
                    SqlState::SUCCESSFUL_COMPLETION,
                    format!("secret \"{name}\" does not exist, skipping"),
                );
                continue;
            }
            return Err(undefined("secret", name));
        };
        session
            .state
            .require_owner(&snapshot, secret.owner, "secret", name)?;
        session.catalog("DROP SECRET")?.drop_secret(secret.id)?;
    }
    done("DROP SECRET")
}
