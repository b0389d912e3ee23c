//! `CREATE`, `ALTER` and `DROP ROLE`, `SET ROLE`.

use boathouse_catalog::Transaction;
use boathouse_catalog::definitions::RoleDefinition;
use boathouse_catalog::password::verifier_of;
use boathouse_sql::statement::{
    AlterRole, AlterRoleAction, CreateRole, DropRole, RoleName, RoleOptions, RolePassword, SetRole,
    SetSessionAuthorization, SettingValue,
};

use super::done;
use super::grant::change_membership;
use super::resolve::undefined;
use super::settings::Settings;
use super::state::RoleIdentity;
use crate::error::{SqlError, SqlState};
use crate::outcome::Outcome;
use crate::session::Session;

pub(super) fn create(session: &mut Session, create: &CreateRole) -> Result<Outcome, SqlError> {
    require_create_role(session)?;
    let snapshot = session.snapshot();
    if create.name.starts_with("pg_") || create.name == "public" || create.name == "none" {
        return Err(SqlError::new(
            SqlState("42939"),
            format!("role name \"{}\" is reserved", create.name),
        ));
    }
    if snapshot.role(&create.name).is_some() {
        return Err(SqlError::new(
            SqlState::DUPLICATE_OBJECT,
            format!("role \"{}\" already exists", create.name),
        ));
    }
    let mut role = RoleDefinition::new(&create.name);
    apply_options(session, &mut role, &create.options)?;
    session.catalog("CREATE ROLE")?.create_role(role)?;
    // Through the checks of GRANT: whoever may not grant a role may not make a member of it either.
    let created = std::slice::from_ref(&create.name);
    let members: Vec<RoleName> = create
        .members
        .iter()
        .chain(&create.admins)
        .map(|name| RoleName::Name(name.clone()))
        .collect();
    let itself = [RoleName::Name(create.name.clone())];
    let snapshot = session.snapshot();
    change_membership(session, &snapshot, &create.in_roles, &itself, true)?;
    let snapshot = session.snapshot();
    change_membership(session, &snapshot, created, &members, true)?;
    done("CREATE ROLE")
}

fn require_create_role(session: &Session) -> Result<(), SqlError> {
    let may = session
        .snapshot()
        .role_by_id(session.state.role.id)
        .is_some_and(|role| role.superuser || role.create_role);
    if may {
        return Ok(());
    }
    Err(SqlError::new(
        SqlState::INSUFFICIENT_PRIVILEGE,
        "permission denied to create role",
    )
    .hint("the role needs CREATEROLE"))
}

fn apply_options(
    session: &Session,
    role: &mut RoleDefinition,
    options: &RoleOptions,
) -> Result<(), SqlError> {
    if options.superuser == Some(true) || (role.superuser && options.superuser.is_some()) {
        session
            .state
            .require_superuser(&session.snapshot(), "change the SUPERUSER attribute")?;
    }
    if options.replication == Some(true) {
        return Err(SqlError::unsupported("the REPLICATION attribute"));
    }
    if options.bypass_row_security == Some(true) {
        return Err(SqlError::unsupported("the BYPASSRLS attribute"));
    }
    role.superuser = options.superuser.unwrap_or(role.superuser);
    role.create_database = options.create_database.unwrap_or(role.create_database);
    role.create_role = options.create_role.unwrap_or(role.create_role);
    role.inherit = options.inherit.unwrap_or(role.inherit);
    role.login = options.login.unwrap_or(role.login);
    role.connection_limit = options.connection_limit.unwrap_or(role.connection_limit);
    match &options.password {
        Some(RolePassword::Text(password)) => {
            role.verifier = Some(verifier_of(password.expose()));
        }
        Some(RolePassword::Null) => role.verifier = None,
        None => {}
    }
    if let Some(until) = &options.valid_until {
        role.valid_until = parse_until(until)?;
    }
    Ok(())
}

/// A timestamp, or `infinity` for none.
fn parse_until(text: &str) -> Result<Option<chrono::DateTime<chrono::Utc>>, SqlError> {
    if text.eq_ignore_ascii_case("infinity") {
        return Ok(None);
    }
    let text = text.trim();
    chrono::DateTime::parse_from_rfc3339(text)
        .map(|moment| moment.to_utc())
        .or_else(|_| {
            chrono::DateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f%#z")
                .map(|moment| moment.to_utc())
        })
        .or_else(|_| {
            chrono::NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f")
                .map(|moment| moment.and_utc())
        })
        .or_else(|_| {
            chrono::NaiveDate::parse_from_str(text, "%Y-%m-%d")
                .map(|date| date.and_time(chrono::NaiveTime::MIN).and_utc())
        })
        .map(Some)
        .map_err(|_| {
            SqlError::new(
                SqlState::INVALID_DATETIME_FORMAT,
                format!("invalid input syntax for type timestamp with time zone: \"{text}\""),
            )
        })
}

pub(super) fn alter(session: &mut Session, alter: &AlterRole) -> Result<Outcome, SqlError> {
    let snapshot = session.snapshot();
    let Some(role) = &alter.role else {
        return Err(SqlError::unsupported("ALTER ROLE ALL"));
    };
    let identity = session.state.role_named(&snapshot, role)?;
    let mut role = snapshot
        .role_by_id(identity.id)
        .map(|role| (**role).clone())
        .ok_or_else(|| undefined("role", &identity.name))?;
    // A role may change its own password and settings.
    let own = identity.id == session.state.role.id;
    let only_password = matches!(&alter.action, AlterRoleAction::Options(options)
        if *options == RoleOptions { password: options.password.clone(), ..RoleOptions::default() });
    let settings_only = matches!(
        alter.action,
        AlterRoleAction::Set { .. }
            | AlterRoleAction::Reset { .. }
            | AlterRoleAction::ResetAll { .. }
    );
    if !(own && (only_password || settings_only)) {
        require_create_role(session)?;
        if role.superuser {
            session
                .state
                .require_superuser(&snapshot, "alter a superuser role")?;
        }
    }
    match &alter.action {
        AlterRoleAction::Options(options) => apply_options(session, &mut role, options)?,
        AlterRoleAction::RenameTo(name) => role.name.clone_from(name),
        AlterRoleAction::Set { name, value, .. } => {
            let mut settings = Settings::new();
            match value {
                SettingValue::Default => {
                    role.settings.remove(name);
                }
                SettingValue::Values(values) => {
                    settings.set(name, values)?;
                    role.settings
                        .insert(name.clone(), settings.get(name)?.to_owned());
                }
            }
        }
        AlterRoleAction::Reset { name, .. } => {
            role.settings.remove(name);
        }
        AlterRoleAction::ResetAll { .. } => role.settings.clear(),
    }
    session.catalog("ALTER ROLE")?.replace_role(role)?;
    done("ALTER ROLE")
}

pub(super) fn drop(session: &mut Session, drop: &DropRole) -> Result<Outcome, SqlError> {
    require_create_role(session)?;
    for name in &drop.names {
        let snapshot = session.snapshot();
        let Some(role) = snapshot.role(name) else {
            if drop.if_exists {
                session.state.notice(
                    "NOTICE",
                    SqlState::SUCCESSFUL_COMPLETION,
                    format!("role \"{name}\" does not exist, skipping"),
                );
                continue;
            }
            return Err(undefined("role", name));
        };
        if role.id == session.state.role.id || role.id == session.state.session_user.id {
            return Err(SqlError::new(
                SqlState("55006"),
                "current user cannot be dropped",
            ));
        }
        if role.superuser {
            session
                .state
                .require_superuser(&snapshot, "drop a superuser role")?;
        }
        let id = role.id;
        let transaction: &mut Transaction = session.catalog("DROP ROLE")?;
        transaction.drop_role(id)?;
    }
    done("DROP ROLE")
}

pub(super) fn set_role(session: &mut Session, set: &SetRole) -> Result<Outcome, SqlError> {
    if set.local {
        return Err(SqlError::unsupported("SET LOCAL ROLE").hint("use SET ROLE and RESET ROLE"));
    }
    let snapshot = session.snapshot();
    let identity = match &set.role {
        None => session.state.session_user.clone(),
        Some(name) => {
            let role = snapshot.role(name).ok_or_else(|| undefined("role", name))?;
            let user = session.state.session_user.id;
            if user != role.id && !snapshot.is_member(user, role.id) {
                return Err(SqlError::new(
                    SqlState::INSUFFICIENT_PRIVILEGE,
                    format!("permission denied to set role \"{name}\""),
                ));
            }
            RoleIdentity {
                id: role.id,
                name: role.name.clone(),
            }
        }
    };
    session.state.set_role(&snapshot, identity);
    done("SET")
}

pub(super) fn set_session_authorization(
    session: &mut Session,
    set: &SetSessionAuthorization,
) -> Result<Outcome, SqlError> {
    let user = session.state.session_user.clone();
    let snapshot = session.snapshot();
    match &set.role {
        None => session.state.set_role(&snapshot, user),
        Some(name) if *name == user.name => session.state.set_role(&snapshot, user),
        Some(_) => {
            return Err(SqlError::unsupported("SET SESSION AUTHORIZATION")
                .hint("SET ROLE changes whose rights apply"));
        }
    }
    done("SET")
}
