//! `GRANT` and `REVOKE`: rights on objects, and membership in roles.

use boathouse_catalog::Snapshot;
use boathouse_catalog::definitions::{
    Grant as GrantEntry, ObjectId, ObjectKind, ObjectRef, Privilege,
};
use boathouse_sql::statement::{
    Grant, GrantObjects, Granted, PrivilegeKind, Privileges, Revoke, RoleName,
};

use super::done;
use super::resolve::{Found, denied, undefined, undefined_relation};
use crate::error::{SqlError, SqlState};
use crate::outcome::Outcome;
use crate::session::Session;

pub(super) fn grant(session: &mut Session, grant: &Grant) -> Result<Outcome, SqlError> {
    let snapshot = session.snapshot();
    match &grant.granted {
        Granted::Roles(roles) => {
            if grant.grant_option {
                return Err(SqlError::unsupported("WITH ADMIN OPTION"));
            }
            change_membership(session, &snapshot, roles, &grant.grantees, true)?;
            done("GRANT ROLE")
        }
        Granted::Privileges {
            privileges,
            objects,
        } => {
            let grantees = grantees(session, &snapshot, &grant.grantees)?;
            for (object, name) in resolve_objects(session, &snapshot, objects)? {
                for privilege in privileges_of(privileges, object.kind)? {
                    require_grantable(session, &snapshot, object, privilege, &name)?;
                    for grantee in &grantees {
                        session.catalog("GRANT")?.grant(GrantEntry {
                            object,
                            grantee: *grantee,
                            privilege,
                            grantable: grant.grant_option,
                        })?;
                    }
                }
            }
            done("GRANT")
        }
    }
}

pub(super) fn revoke(session: &mut Session, revoke: &Revoke) -> Result<Outcome, SqlError> {
    let snapshot = session.snapshot();
    match &revoke.granted {
        Granted::Roles(roles) => {
            change_membership(session, &snapshot, roles, &revoke.grantees, false)?;
            done("REVOKE ROLE")
        }
        Granted::Privileges {
            privileges,
            objects,
        } => {
            let grantees = grantees(session, &snapshot, &revoke.grantees)?;
            for (object, name) in resolve_objects(session, &snapshot, objects)? {
                for privilege in privileges_of(privileges, object.kind)? {
                    require_grantable(session, &snapshot, object, privilege, &name)?;
                    for grantee in &grantees {
                        session.catalog("REVOKE")?.revoke(
                            object,
                            *grantee,
                            privilege,
                            revoke.grant_option_only,
                        )?;
                    }
                }
            }
            done("REVOKE")
        }
    }
}

/// Makes `members` members of `roles`, or ends it, where the current role may.
pub(super) fn change_membership(
    session: &mut Session,
    snapshot: &Snapshot,
    roles: &[String],
    members: &[RoleName],
    add: bool,
) -> Result<(), SqlError> {
    let current = snapshot.role_by_id(session.state.role.id);
    let may_any = current.is_some_and(|role| role.superuser || role.create_role);
    for member in members {
        let member = session.state.role_named(snapshot, member)?;
        for name in roles {
            let role = snapshot
                .role(name)
                .ok_or_else(|| undefined("role", name))?
                .clone();
            if !may_any || (role.superuser && !snapshot.is_superuser(session.state.role.id)) {
                return Err(SqlError::new(
                    SqlState::INSUFFICIENT_PRIVILEGE,
                    format!("permission denied to grant role \"{name}\""),
                ));
            }
            // A role that reads the server's files is the superuser's to give.
            if role.id.is_built_in() {
                session
                    .state
                    .require_superuser(snapshot, &format!("grant role \"{name}\""))?;
            }
            if add && snapshot.is_member(role.id, member.id) {
                return Err(SqlError::new(
                    SqlState("0LP01"),
                    format!("role \"{name}\" is a member of role \"{}\"", member.name),
                ));
            }
            let transaction = session.catalog(if add { "GRANT" } else { "REVOKE" })?;
            let mut changed = transaction
                .snapshot()
                .role_by_id(member.id)
                .map(|role| (**role).clone())
                .ok_or_else(|| undefined("role", &member.name))?;
            changed.member_of.retain(|group| *group != role.id);
            if add {
                changed.member_of.push(role.id);
            }
            transaction.replace_role(changed)?;
        }
    }
    Ok(())
}

fn grantees(
    session: &Session,
    snapshot: &Snapshot,
    names: &[RoleName],
) -> Result<Vec<ObjectId>, SqlError> {
    names
        .iter()
        .map(|name| match name {
            RoleName::Public => Ok(ObjectId::PUBLIC),
            other => session
                .state
                .role_named(snapshot, other)
                .map(|role| role.id),
        })
        .collect()
}

fn resolve_objects(
    session: &Session,
    snapshot: &Snapshot,
    objects: &GrantObjects,
) -> Result<Vec<(ObjectRef, String)>, SqlError> {
    let mut found = Vec::new();
    match objects {
        GrantObjects::Tables(names) => {
            for name in names {
                found.push(match session.state.find(snapshot, name) {
                    Some(Found::Table(table)) => (
                        ObjectRef::new(ObjectKind::Table, table.id),
                        name.name.clone(),
                    ),
                    Some(Found::View(view)) => {
                        (ObjectRef::new(ObjectKind::View, view.id), name.name.clone())
                    }
                    None => return Err(undefined_relation(name)),
                });
            }
        }
        GrantObjects::AllTablesInSchemas(schemas) => {
            for name in schemas {
                let schema = session.state.schema(snapshot, name)?;
                for relation in snapshot.relations_in(schema.id) {
                    found.push((relation.object(), relation.name().to_owned()));
                }
            }
        }
        GrantObjects::Schemas(names) => {
            for name in names {
                let schema = session.state.schema(snapshot, name)?;
                found.push((ObjectRef::new(ObjectKind::Schema, schema.id), name.clone()));
            }
        }
        GrantObjects::Databases(names) => {
            for name in names {
                if *name != session.state.database {
                    return Err(SqlError::new(
                        SqlState("3D000"),
                        format!("database \"{name}\" does not exist"),
                    ));
                }
                found.push((ObjectRef::DATABASE, name.clone()));
            }
        }
        GrantObjects::Connections(names) => {
            for name in names {
                let connection = session.state.connection(snapshot, name)?;
                found.push((
                    ObjectRef::new(ObjectKind::Connection, connection.id),
                    name.clone(),
                ));
            }
        }
        GrantObjects::Pipelines(names) => {
            for name in names {
                let pipeline = session.state.pipeline(snapshot, name)?;
                found.push((
                    ObjectRef::new(ObjectKind::Pipeline, pipeline.id),
                    name.clone(),
                ));
            }
        }
        GrantObjects::Secrets(names) => {
            for name in names {
                let secret = snapshot
                    .secret(name)
                    .ok_or_else(|| undefined("secret", name))?;
                found.push((ObjectRef::new(ObjectKind::Secret, secret.id), name.clone()));
            }
        }
    }
    Ok(found)
}

fn privileges_of(privileges: &Privileges, kind: ObjectKind) -> Result<Vec<Privilege>, SqlError> {
    let Privileges::Some(list) = privileges else {
        return Ok(kind.privileges().to_vec());
    };
    list.iter()
        .map(|item| {
            if !item.columns.is_empty() {
                return Err(SqlError::unsupported("a privilege on columns")
                    .hint("grant SELECT on a view that has only these columns"));
            }
            let privilege = privilege(item.privilege)?;
            if kind.privileges().contains(&privilege) {
                Ok(privilege)
            } else {
                Err(SqlError::new(
                    SqlState("0LP01"),
                    format!("invalid privilege type {privilege} for {kind}"),
                ))
            }
        })
        .collect()
}

fn privilege(kind: PrivilegeKind) -> Result<Privilege, SqlError> {
    Ok(match kind {
        PrivilegeKind::Select => Privilege::Select,
        PrivilegeKind::Insert => Privilege::Insert,
        PrivilegeKind::Update => Privilege::Update,
        PrivilegeKind::Delete => Privilege::Delete,
        PrivilegeKind::Truncate => Privilege::Truncate,
        PrivilegeKind::References => Privilege::References,
        PrivilegeKind::Trigger => Privilege::Trigger,
        PrivilegeKind::Usage => Privilege::Usage,
        PrivilegeKind::Create => Privilege::Create,
        PrivilegeKind::Connect => Privilege::Connect,
        PrivilegeKind::Temporary => Privilege::Temporary,
        PrivilegeKind::Execute => Privilege::Execute,
        PrivilegeKind::Set | PrivilegeKind::Maintain => {
            return Err(SqlError::unsupported("the privilege SET or MAINTAIN"));
        }
    })
}

fn require_grantable(
    session: &Session,
    snapshot: &Snapshot,
    object: ObjectRef,
    privilege: Privilege,
    name: &str,
) -> Result<(), SqlError> {
    if snapshot.can_grant(session.state.role.id, object, privilege) {
        return Ok(());
    }
    Err(denied(object.kind.name(), name))
}
