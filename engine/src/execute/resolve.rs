//! Finds what a statement names, and whether its role may.
//!
//! Unqualified names are searched along the search path; new objects go to its first schema that
//! exists. The words and codes are PostgreSQL's.

use std::sync::Arc;

use boathouse_catalog::definitions::{
    ConnectionDefinition, ObjectId, ObjectKind, ObjectRef, PipelineDefinition, Privilege,
    SchemaDefinition, TableDefinition, ViewDefinition,
};
use boathouse_catalog::{Relation, Snapshot};
use boathouse_sql::QualifiedName;
use boathouse_sql::statement::RoleName;

use super::state::{RoleIdentity, SessionState};
use crate::error::{SqlError, SqlState};

/// Schemas that are computed, not stored: nothing can be made in them.
const SYSTEM_SCHEMAS: &[&str] = &["pg_catalog", "information_schema", "system"];

/// A table or view found by name.
pub(super) enum Found {
    Table(Arc<TableDefinition>),
    View(Arc<ViewDefinition>),
}

impl SessionState {
    /// The schema a new object goes to.
    pub(super) fn schema_for_new(
        &self,
        snapshot: &Snapshot,
        name: &QualifiedName,
    ) -> Result<Arc<SchemaDefinition>, SqlError> {
        self.check_database(name)?;
        let schema = match &name.schema {
            Some(schema) => self.schema(snapshot, schema)?,
            None => self
                .search_path()
                .iter()
                .find_map(|schema| snapshot.schema(schema).cloned())
                .ok_or_else(|| {
                    SqlError::new(
                        SqlState::INVALID_SCHEMA_NAME,
                        "no schema has been selected to create in",
                    )
                    .hint("name a schema, or SET search_path to one that exists")
                })?,
        };
        if SYSTEM_SCHEMAS.contains(&schema.name.as_str()) {
            return Err(denied("schema", &schema.name));
        }
        self.require(
            snapshot,
            ObjectRef::new(ObjectKind::Schema, schema.id),
            Privilege::Create,
            "schema",
            &schema.name,
        )?;
        Ok(schema)
    }

    pub(super) fn schema(
        &self,
        snapshot: &Snapshot,
        name: &str,
    ) -> Result<Arc<SchemaDefinition>, SqlError> {
        snapshot.schema(name).cloned().ok_or_else(|| {
            SqlError::new(
                SqlState::INVALID_SCHEMA_NAME,
                format!("schema \"{name}\" does not exist"),
            )
        })
    }

    /// A table or view, if there is one.
    pub(super) fn find(&self, snapshot: &Snapshot, name: &QualifiedName) -> Option<Found> {
        let found = |schema: &str| {
            snapshot
                .relation(schema, &name.name)
                .map(|relation| match relation {
                    Relation::Table(table) => Found::Table(Arc::clone(table)),
                    Relation::View(view) => Found::View(Arc::clone(view)),
                })
        };
        match &name.schema {
            Some(schema) => found(schema),
            None => self.search_path().iter().find_map(|schema| found(schema)),
        }
    }

    /// A table to be changed.
    pub(super) fn table(
        &self,
        snapshot: &Snapshot,
        name: &QualifiedName,
    ) -> Result<Arc<TableDefinition>, SqlError> {
        self.check_database(name)?;
        match self.find(snapshot, name) {
            Some(Found::Table(table)) => Ok(table),
            Some(Found::View(view)) => Err(SqlError::new(
                SqlState::WRONG_OBJECT_TYPE,
                format!("\"{}\" is not a table", view.name),
            )),
            None if name
                .schema
                .as_deref()
                .is_some_and(|schema| snapshot.schema(schema).is_none()) =>
            {
                Err(SqlError::new(
                    SqlState::INVALID_SCHEMA_NAME,
                    format!(
                        "schema \"{}\" does not exist",
                        name.schema.as_deref().unwrap_or("")
                    ),
                ))
            }
            None => Err(undefined_relation(name)),
        }
    }

    pub(super) fn pipeline(
        &self,
        snapshot: &Snapshot,
        name: &str,
    ) -> Result<Arc<PipelineDefinition>, SqlError> {
        snapshot
            .pipeline(name)
            .cloned()
            .ok_or_else(|| undefined("pipeline", name))
    }

    pub(super) fn connection(
        &self,
        snapshot: &Snapshot,
        name: &str,
    ) -> Result<Arc<ConnectionDefinition>, SqlError> {
        snapshot
            .connection(name)
            .cloned()
            .ok_or_else(|| undefined("connection", name))
    }

    /// A role by what a statement calls it.
    pub(super) fn role_named(
        &self,
        snapshot: &Snapshot,
        name: &RoleName,
    ) -> Result<RoleIdentity, SqlError> {
        let name = match name {
            RoleName::Name(name) => name,
            RoleName::CurrentRole | RoleName::CurrentUser => return Ok(self.role.clone()),
            RoleName::SessionUser => return Ok(self.session_user.clone()),
            RoleName::Public => {
                return Err(SqlError::new(
                    SqlState::UNDEFINED_OBJECT,
                    "role \"public\" does not exist",
                ));
            }
        };
        let role = snapshot.role(name).ok_or_else(|| undefined("role", name))?;
        Ok(RoleIdentity {
            id: role.id,
            name: role.name.clone(),
        })
    }

    /// The role an object is given to. What it owns acts with its rights, so only its members may.
    pub(super) fn new_owner(
        &self,
        snapshot: &Snapshot,
        name: &RoleName,
    ) -> Result<ObjectId, SqlError> {
        let owner = self.role_named(snapshot, name)?;
        if snapshot.is_member(self.role.id, owner.id) {
            return Ok(owner.id);
        }
        Err(SqlError::new(
            SqlState::INSUFFICIENT_PRIVILEGE,
            format!("must be member of role \"{}\"", owner.name),
        )
        .hint(format!(
            "GRANT {} TO {} first, or have a superuser do it",
            owner.name, self.role.name
        )))
    }

    /// Fails with 42501 unless the current role holds the privilege.
    pub(super) fn require(
        &self,
        snapshot: &Snapshot,
        object: ObjectRef,
        privilege: Privilege,
        kind: &str,
        name: &str,
    ) -> Result<(), SqlError> {
        if snapshot.has_privilege(self.role.id, object, privilege) {
            return Ok(());
        }
        Err(denied(kind, name))
    }

    /// Fails with 42501 unless the current role owns the object or is a member of its owner.
    pub(super) fn require_owner(
        &self,
        snapshot: &Snapshot,
        owner: ObjectId,
        kind: &str,
        name: &str,
    ) -> Result<(), SqlError> {
        if self.role.id == owner || snapshot.is_member(self.role.id, owner) {
            return Ok(());
        }
        Err(SqlError::new(
            SqlState::INSUFFICIENT_PRIVILEGE,
            format!("must be owner of {kind} {name}"),
        ))
    }

    pub(super) fn require_superuser(
        &self,
        snapshot: &Snapshot,
        action: &str,
    ) -> Result<(), SqlError> {
        if snapshot.is_superuser(self.role.id) {
            return Ok(());
        }
        Err(SqlError::new(
            SqlState::INSUFFICIENT_PRIVILEGE,
            format!("permission denied to {action}"),
        )
        .hint("only a superuser may"))
    }

    /// Fails unless the role is a member of one of the built-in roles.
    pub(super) fn require_member(
        &self,
        snapshot: &Snapshot,
        built_in: &str,
        action: &str,
    ) -> Result<(), SqlError> {
        let member = snapshot
            .role(built_in)
            .is_some_and(|role| snapshot.is_member(self.role.id, role.id));
        if member {
            return Ok(());
        }
        Err(SqlError::new(
            SqlState::INSUFFICIENT_PRIVILEGE,
            format!("permission denied to {action}"),
        )
        .detail(format!(
            "Only roles with privileges of the \"{built_in}\" role may {action}."
        ))
        .hint(format!(
            "an administrator can GRANT {built_in} TO {}",
            self.role.name
        )))
    }

    fn check_database(&self, name: &QualifiedName) -> Result<(), SqlError> {
        match &name.catalog {
            Some(catalog) if *catalog != self.database => Err(SqlError::new(
                SqlState::FEATURE_NOT_SUPPORTED,
                format!("cross-database references are not implemented: \"{name}\""),
            )),
            _ => Ok(()),
        }
    }
}

pub(super) fn undefined(kind: &str, name: &str) -> SqlError {
    SqlError::new(
        SqlState::UNDEFINED_OBJECT,
        format!("{kind} \"{name}\" does not exist"),
    )
}

pub(super) fn undefined_relation(name: &QualifiedName) -> SqlError {
    let shown = match &name.schema {
        Some(schema) => format!("{schema}.{}", name.name),
        None => name.name.clone(),
    };
    SqlError::new(
        SqlState::UNDEFINED_TABLE,
        format!("relation \"{shown}\" does not exist"),
    )
}

pub(super) fn denied(kind: &str, name: &str) -> SqlError {
    SqlError::new(
        SqlState::INSUFFICIENT_PRIVILEGE,
        format!("permission denied for {kind} {name}"),
    )
}
