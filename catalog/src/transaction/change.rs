//! One change, and the rules it must keep. Applied to the overlay of a transaction when it is made
//! and to the newest snapshot when it is committed; the database enforces names and references again.

use std::sync::Arc;

use crate::definitions::{
    ConnectionDefinition, Grant, ObjectId, ObjectKind, ObjectRef, OptionValue, PipelineDefinition,
    Privilege, RoleDefinition, SchemaDefinition, SecretDefinition, TableDefinition, ViewDefinition,
};
use crate::error::CatalogError;
use crate::snapshot::{Named, Objects, Snapshot};

/// Names that begin with this belong to the system, as in PostgreSQL.
const RESERVED_PREFIX: &str = "pg_";
const RESERVED_ROLE_NAMES: [&str; 2] = ["public", "none"];
/// The one built-in schema users create relations in.
const PUBLIC_SCHEMA: &str = "public";

/// A definition of any kind.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Object {
    Schema(Arc<SchemaDefinition>),
    Table(Arc<TableDefinition>),
    View(Arc<ViewDefinition>),
    Connection(Arc<ConnectionDefinition>),
    Secret(Arc<SecretDefinition>),
    Pipeline(Arc<PipelineDefinition>),
    Role(Arc<RoleDefinition>),
}

impl Object {
    pub(crate) fn reference(&self) -> ObjectRef {
        fn of<T: Named>(definition: &T) -> ObjectRef {
            ObjectRef::new(T::KIND, definition.id())
        }
        match self {
            Self::Schema(one) => of(one.as_ref()),
            Self::Table(one) => of(one.as_ref()),
            Self::View(one) => of(one.as_ref()),
            Self::Connection(one) => of(one.as_ref()),
            Self::Secret(one) => of(one.as_ref()),
            Self::Pipeline(one) => of(one.as_ref()),
            Self::Role(one) => of(one.as_ref()),
        }
    }

    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Schema(one) => &one.name,
            Self::Table(one) => &one.name,
            Self::View(one) => &one.name,
            Self::Connection(one) => &one.name,
            Self::Secret(one) => &one.name,
            Self::Pipeline(one) => &one.name,
            Self::Role(one) => &one.name,
        }
    }

    /// Who owns it; a role owns itself in nothing.
    fn owner(&self) -> Option<ObjectId> {
        match self {
            Self::Schema(one) => Some(one.owner),
            Self::Table(one) => Some(one.owner),
            Self::View(one) => Some(one.owner),
            Self::Connection(one) => Some(one.owner),
            Self::Secret(one) => Some(one.owner),
            Self::Pipeline(one) => Some(one.owner),
            Self::Role(_) => None,
        }
    }

    /// The definition of the same object in a snapshot.
    fn current(&self, snapshot: &Snapshot) -> Option<Self> {
        let id = self.reference().id;
        match self {
            Self::Schema(_) => snapshot.schema_by_id(id).cloned().map(Self::Schema),
            Self::Table(_) => snapshot.table_by_id(id).cloned().map(Self::Table),
            Self::View(_) => snapshot.view_by_id(id).cloned().map(Self::View),
            Self::Connection(_) => snapshot.connection_by_id(id).cloned().map(Self::Connection),
            Self::Secret(_) => snapshot.secret_by_id(id).cloned().map(Self::Secret),
            Self::Pipeline(_) => snapshot.pipeline_by_id(id).cloned().map(Self::Pipeline),
            Self::Role(_) => snapshot.role_by_id(id).cloned().map(Self::Role),
        }
    }

    /// Another object that has this one's name.
    fn namesake(&self, snapshot: &Snapshot) -> Option<ObjectId> {
        let name = self.name();
        let found = match self {
            Self::Schema(_) => snapshot.schema(name).map(|one| one.id),
            Self::Table(table) => snapshot.relation_in(table.schema, name).map(|one| one.id()),
            Self::View(view) => snapshot.relation_in(view.schema, name).map(|one| one.id()),
            Self::Connection(_) => snapshot.connection(name).map(|one| one.id),
            Self::Secret(_) => snapshot.secret(name).map(|one| one.id),
            Self::Pipeline(_) => snapshot.pipeline(name).map(|one| one.id),
            Self::Role(_) => snapshot.role(name).map(|one| one.id),
        };
        found.filter(|id| *id != self.reference().id)
    }

    pub(crate) fn put(&self, snapshot: &mut Snapshot) {
        fn into<T: Named + Clone>(objects: &mut Arc<Objects<T>>, one: &Arc<T>) {
            Arc::make_mut(objects).put(Arc::clone(one));
        }
        match self {
            Self::Schema(one) => into(&mut snapshot.schemas, one),
            Self::Table(one) => snapshot.put_table(Arc::clone(one)),
            Self::View(one) => snapshot.put_view(Arc::clone(one)),
            Self::Connection(one) => into(&mut snapshot.connections, one),
            Self::Secret(one) => into(&mut snapshot.secrets, one),
            Self::Pipeline(one) => into(&mut snapshot.pipelines, one),
            Self::Role(one) => into(&mut snapshot.roles, one),
        }
    }

    fn take(&self, snapshot: &mut Snapshot) {
        let id = self.reference().id;
        match self {
            Self::Schema(_) => Arc::make_mut(&mut snapshot.schemas).take(id),
            Self::Table(_) | Self::View(_) => snapshot.take_relation(id),
            Self::Connection(_) => Arc::make_mut(&mut snapshot.connections).take(id),
            Self::Secret(_) => Arc::make_mut(&mut snapshot.secrets).take(id),
            Self::Pipeline(_) => Arc::make_mut(&mut snapshot.pipelines).take(id),
            Self::Role(_) => Arc::make_mut(&mut snapshot.roles).take(id),
        }
    }

    /// What must hold of a definition whether it is new or changed.
    fn check(&self, snapshot: &Snapshot) -> Result<(), CatalogError> {
        let ObjectRef { kind, id } = self.reference();
        if self.namesake(snapshot).is_some() {
            return Err(CatalogError::AlreadyExists {
                kind,
                name: self.name().to_owned(),
            });
        }
        if let Some(owner) = self.owner()
            && snapshot.role_by_id(owner).is_none()
        {
            return Err(CatalogError::UnknownId {
                kind: ObjectKind::Role,
                id: owner,
            });
        }
        match self {
            Self::Schema(schema) => reserved(kind, &schema.name, id, &[]),
            Self::Table(table) => {
                check_schema(snapshot, table.schema)?;
                let schema = snapshot
                    .schema_by_id(table.schema)
                    .map(|one| one.name.as_str());
                for key in &table.foreign_keys {
                    let itself = schema == Some(key.references_schema.as_str())
                        && key.references_table == table.name;
                    if !itself
                        && snapshot
                            .table(&key.references_schema, &key.references_table)
                            .is_none()
                    {
                        let name = format!("{}.{}", key.references_schema, key.references_table);
                        return Err(CatalogError::NotFound {
                            kind: ObjectKind::Table,
                            name,
                        });
                    }
                }
                Ok(())
            }
            Self::View(view) => check_schema(snapshot, view.schema),
            Self::Connection(connection) => {
                for option in connection.options.values() {
                    if let OptionValue::Secret(name) = option
                        && snapshot.secret(name).is_none()
                    {
                        let name = name.clone();
                        return Err(CatalogError::NotFound {
                            kind: ObjectKind::Secret,
                            name,
                        });
                    }
                }
                Ok(())
            }
            Self::Role(role) => {
                reserved(kind, &role.name, id, &RESERVED_ROLE_NAMES)?;
                check_membership(snapshot, role)
            }
            Self::Secret(_) | Self::Pipeline(_) => Ok(()),
        }
    }

    /// Why the object cannot be dropped, or lose its name: what else refers to it.
    fn dependents(&self, snapshot: &Snapshot) -> Vec<String> {
        match self {
            Self::Schema(schema) => snapshot
                .relations_in(schema.id)
                .map(|one| {
                    format!(
                        "{} {} depends on schema {}",
                        one.object().kind,
                        one.name(),
                        schema.name
                    )
                })
                .collect(),
            Self::Table(table) => {
                let Some(schema) = snapshot.schema_by_id(table.schema) else {
                    return Vec::new();
                };
                let keys = snapshot
                    .tables()
                    .filter(|other| other.id != table.id)
                    .flat_map(|other| {
                        other
                            .foreign_keys
                            .iter()
                            .filter(|key| {
                                key.references_schema == schema.name
                                    && key.references_table == table.name
                            })
                            .map(|key| {
                                format!(
                                    "constraint {} on table {} depends on table {}",
                                    key.name, other.name, table.name
                                )
                            })
                    });
                keys.collect()
            }
            Self::Secret(secret) => {
                let uses = |value: &OptionValue| matches!(value, OptionValue::Secret(name) if *name == secret.name);
                snapshot
                    .connections()
                    .filter(|one| one.options.values().any(uses))
                    .map(|one| format!("connection {} depends on secret {}", one.name, secret.name))
                    .collect()
            }
            Self::Role(role) => role_dependents(snapshot, role.id),
            Self::View(_) | Self::Connection(_) | Self::Pipeline(_) => Vec::new(),
        }
    }
}

/// One change of the catalog.
#[derive(Debug, Clone)]
pub(crate) enum Change {
    Create(Object),
    /// `before` is what the transaction saw; anything else found at commit is a concurrent update.
    Replace {
        before: Object,
        after: Object,
    },
    Drop(Object),
    Grant(Grant),
    Revoke {
        object: ObjectRef,
        grantee: ObjectId,
        privilege: Privilege,
        option_only: bool,
    },
    CommentOnDatabase(Option<String>),
}

impl Change {
    /// Checks the change against a snapshot and makes it there. On an error nothing is changed.
    pub(crate) fn apply(&self, snapshot: &mut Snapshot) -> Result<(), CatalogError> {
        match self {
            Self::Create(object) => {
                object.check(snapshot)?;
                object.put(snapshot);
            }
            Self::Replace { before, after } => {
                if before.current(snapshot).as_ref() != Some(before) {
                    return Err(concurrent(before));
                }
                let renamed = before.name() != after.name();
                if renamed && before.reference().id.is_built_in() {
                    return Err(built_in(before));
                }
                after.check(snapshot)?;
                if renamed && matches!(before, Object::Secret(_)) {
                    unused(before, snapshot)?;
                }
                after.put(snapshot);
            }
            Self::Drop(object) => {
                let reference = object.reference();
                let Some(current) = object.current(snapshot) else {
                    return Err(concurrent(object));
                };
                if reference.id.is_built_in() {
                    return Err(built_in(object));
                }
                unused(&current, snapshot)?;
                current.take(snapshot);
                Arc::make_mut(&mut snapshot.grants).remove(&reference);
            }
            Self::Grant(grant) => {
                check_object(snapshot, grant.object)?;
                if grant.grantee != ObjectId::PUBLIC && snapshot.role_by_id(grant.grantee).is_none()
                {
                    return Err(CatalogError::UnknownId {
                        kind: ObjectKind::Role,
                        id: grant.grantee,
                    });
                }
                let held = Arc::make_mut(&mut snapshot.grants)
                    .entry(grant.object)
                    .or_default();
                *held.entry((grant.grantee, grant.privilege)).or_default() |= grant.grantable;
            }
            Self::Revoke {
                object,
                grantee,
                privilege,
                option_only,
            } => {
                check_object(snapshot, *object)?;
                let grants = Arc::make_mut(&mut snapshot.grants);
                if let Some(held) = grants.get_mut(object) {
                    if !option_only {
                        held.remove(&(*grantee, *privilege));
                    } else if let Some(grantable) = held.get_mut(&(*grantee, *privilege)) {
                        *grantable = false;
                    }
                    if held.is_empty() {
                        grants.remove(object);
                    }
                }
            }
            Self::CommentOnDatabase(text) => snapshot.database_comment.clone_from(text),
        }
        Ok(())
    }
}

fn concurrent(object: &Object) -> CatalogError {
    let kind = object.reference().kind;
    CatalogError::ConcurrentUpdate {
        kind,
        name: object.name().to_owned(),
    }
}

fn built_in(object: &Object) -> CatalogError {
    CatalogError::BuiltIn {
        kind: object.reference().kind,
        name: object.name().to_owned(),
    }
}

fn unused(object: &Object, snapshot: &Snapshot) -> Result<(), CatalogError> {
    let dependents = object.dependents(snapshot);
    if dependents.is_empty() {
        return Ok(());
    }
    Err(CatalogError::InUse {
        kind: object.reference().kind,
        name: object.name().to_owned(),
        detail: dependents.join("\n"),
    })
}

fn reserved(kind: ObjectKind, name: &str, id: ObjectId, also: &[&str]) -> Result<(), CatalogError> {
    if !id.is_built_in() && (name.starts_with(RESERVED_PREFIX) || also.contains(&name)) {
        return Err(CatalogError::ReservedName {
            kind,
            name: name.to_owned(),
        });
    }
    Ok(())
}

fn check_schema(snapshot: &Snapshot, id: ObjectId) -> Result<(), CatalogError> {
    match snapshot.schema_by_id(id) {
        None => Err(CatalogError::UnknownId {
            kind: ObjectKind::Schema,
            id,
        }),
        Some(schema) if id.is_built_in() && schema.name != PUBLIC_SCHEMA => {
            Err(CatalogError::BuiltIn {
                kind: ObjectKind::Schema,
                name: schema.name.clone(),
            })
        }
        Some(_) => Ok(()),
    }
}

fn check_object(snapshot: &Snapshot, object: ObjectRef) -> Result<(), CatalogError> {
    match snapshot.name(object) {
        Some(_) => Ok(()),
        None => Err(CatalogError::UnknownId {
            kind: object.kind,
            id: object.id,
        }),
    }
}

fn check_membership(snapshot: &Snapshot, role: &RoleDefinition) -> Result<(), CatalogError> {
    for of in &role.member_of {
        let Some(group) = snapshot.role_by_id(*of) else {
            return Err(CatalogError::UnknownId {
                kind: ObjectKind::Role,
                id: *of,
            });
        };
        // A superuser counts as a member of everything, which must not look like a loop here.
        if *of == role.id || snapshot.reaches_member(*of, role.id) {
            return Err(CatalogError::MembershipLoop {
                role: role.name.clone(),
                member: group.name.clone(),
            });
        }
    }
    Ok(())
}

fn role_dependents(snapshot: &Snapshot, role: ObjectId) -> Vec<String> {
    let owned = (snapshot.schemas().filter(|one| one.owner == role))
        .map(|one| format!("owner of schema {}", one.name))
        .chain(
            (snapshot.tables().filter(|one| one.owner == role))
                .map(|one| format!("owner of table {}", one.name)),
        )
        .chain(
            (snapshot.views().filter(|one| one.owner == role))
                .map(|one| format!("owner of view {}", one.name)),
        )
        .chain(
            (snapshot.connections().filter(|one| one.owner == role))
                .map(|one| format!("owner of connection {}", one.name)),
        )
        .chain(
            (snapshot.secrets().filter(|one| one.owner == role))
                .map(|one| format!("owner of secret {}", one.name)),
        )
        .chain(
            (snapshot.pipelines().filter(|one| one.owner == role))
                .map(|one| format!("owner of pipeline {}", one.name)),
        );
    let mut granted: Vec<String> = snapshot
        .grants()
        .filter(|grant| grant.grantee == role)
        .map(|grant| {
            let name = snapshot.name(grant.object).unwrap_or_default();
            format!("privileges for {} {name}", grant.object.kind)
        })
        .collect();
    granted.dedup();
    owned.chain(granted).collect()
}
